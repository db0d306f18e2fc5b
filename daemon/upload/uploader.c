/* The engine: the caches, what their uploads share, and the timers that are not of one cache. While a cache
 * waits, it is looked every few seconds whether the wait can be cut short: the machine slept, the clock was
 * set, a secret was mended. While none does, nothing here wakes up. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "daemon/upload/transfer.h"

#define QUEUE_RETRY_MS 5000
#define SAMPLE_MS      1000
#define WATCH_MS       3000
/* What packing itself holds beside the bodies: contexts and read buffers of one pack. */
#define PACK_OWN_BYTES MIB(8)

uint64_t uploader_random(struct uploader *uploader)
{
	/* splitmix64: jitter needs spread, not secrecy */
	uint64_t z = (uploader->random_state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

struct backend *uploader_upstream(struct uploader *uploader, size_t endpoint)
{
	size_t i = endpoint - uploader->n_caches;
	struct upload_upstream *upstream = &uploader->upstreams[i];
	struct error err;

	if (loop_now_mono_ms(uploader->loop) < upstream->rests_until_mono_ms)
		return NULL;
	if (upstream->backend == NULL &&
	    backend_open_upstream(&upstream->backend, uploader->loop, uploader->http,
	                          &uploader->config->upstreams[i], &uploader->config->net, &err) < 0)
		uploader_rest_upstream(uploader, endpoint, &err);
	return upstream->backend;
}

void uploader_rest_upstream(struct uploader *uploader, size_t endpoint, const struct error *err)
{
	size_t i = endpoint - uploader->n_caches;
	struct upload_upstream *upstream = &uploader->upstreams[i];
	uint64_t now = loop_now_mono_ms(uploader->loop);

	/* Others were on their way to it, too. */
	if (now < upstream->rests_until_mono_ms)
		return;
	upstream->rests_until_mono_ms = now + UPSTREAM_REST_S * 1000;
	log_warning("upstream cannot be reached upstream=%s: %s, going on without it for %ds",
	            uploader->config->upstreams[i].name, err->text, UPSTREAM_REST_S);
}

void uploader_poke(struct uploader *uploader, uint64_t caches)
{
	/* The queue still changes while we close; there may be no caches left by then. */
	for (size_t i = 0; !uploader->closing && i < uploader->n_caches; i++)
		if (caches >> i & 1)
			cache_claim(&uploader->caches[i]);
}

void uploader_try_now(struct uploader *uploader, uint64_t caches)
{
	for (size_t i = 0; !uploader->closing && i < uploader->n_caches; i++)
		if (caches >> i & 1)
			cache_try_now(&uploader->caches[i]);
}

/* ---- timers ----------------------------------------------------------------------------------------- */

void uploader_retry_soon(struct uploader *uploader)
{
	if (!timer_is_set(&uploader->retry))
		timer_set(&uploader->retry, QUEUE_RETRY_MS);
}

static void on_retry(struct timer *timer)
{
	struct uploader *uploader = CONTAINER_OF(timer, struct uploader, retry);

	for (size_t i = 0; i < uploader->n_caches; i++)
		for (struct upload *u = uploader->caches[i].uploads; u != NULL; u = u->next)
			upload_retry(u);
}

void uploader_sample(struct uploader *uploader)
{
	if (!uploader->closing && !timer_is_set(&uploader->sample))
		timer_set(&uploader->sample, SAMPLE_MS);
}

static uint64_t sent_bytes_now(const struct upload_cache *cache)
{
	uint64_t sum = cache->sent_total_bytes;

	for (const struct upload *u = cache->uploads; u != NULL; u = u->next)
		if (u->op_is_running)
			sum += u->op.sent_bytes;
	return sum;
}

static void on_sample(struct timer *timer)
{
	struct uploader *uploader = CONTAINER_OF(timer, struct uploader, sample);
	bool busy = false;

	for (size_t i = 0; i < uploader->n_caches; i++) {
		struct upload_cache *cache = &uploader->caches[i];
		uint64_t now = sent_bytes_now(cache);
		uint64_t sent = now > cache->sampled_bytes ? now - cache->sampled_bytes : 0;

		/* A moving mean over some seconds. */
		cache->rate_bytes = (3 * cache->rate_bytes + sent * 1000 / SAMPLE_MS) / 4;
		cache->sampled_bytes = now;
		busy = busy || cache->n_uploads > 0;
		if (cache->n_uploads == 0)
			cache->rate_bytes = 0;
	}
	if (busy)
		timer_set(timer, SAMPLE_MS);
}

static struct clocks read_clocks(void)
{
	return (struct clocks){ .mono_ms = clock_mono_ms(),
		                .boot_ms = clock_boot_ms(),
		                .unix_ms = clock_unix_ms() };
}

void uploader_watch(struct uploader *uploader)
{
	bool waits = false;

	if (uploader->closing)
		return;
	for (size_t i = 0; i < uploader->n_caches; i++)
		waits = waits || timer_is_set(&uploader->caches[i].due);
	if (!waits) {
		timer_stop(&uploader->watch);
	} else if (!timer_is_set(&uploader->watch)) {
		uploader->clocks = read_clocks();
		timer_set(&uploader->watch, WATCH_MS);
	}
}

static void on_watch(struct timer *timer)
{
	struct uploader *uploader = CONTAINER_OF(timer, struct uploader, watch);
	struct clocks now = read_clocks();
	enum clocks_event event = clocks_compare(&uploader->clocks, &now);

	if (event != CLOCKS_WENT_ON)
		log_info("%s, looking at what waits",
		         event == CLOCKS_SLEPT ? "the machine slept" : "the clock was set");
	for (size_t i = 0; i < uploader->n_caches; i++)
		cache_look(&uploader->caches[i], event != CLOCKS_WENT_ON);
	uploader_watch(uploader);
}

/* ---- open and close --------------------------------------------------------------------------------- */

static unsigned pack_jobs_of(const struct config *config)
{
	long n_cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (config->pack_jobs > 0)
		return config->pack_jobs;
	return n_cores > 0 ? (unsigned)n_cores : 1;
}

static uint64_t upstream_bits(const struct config *config, const struct cache_config *cache)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < config->n_upstreams; i++)
		for (size_t k = 0; k < cache->upstreams.n; k++)
			if (strcmp(cache->upstreams.items[k], config->upstreams[i].name) == 0)
				bits |= UINT64_C(1) << (config->n_caches + i);
	return bits;
}

static void on_due(struct timer *timer)
{
	cache_claim(CONTAINER_OF(timer, struct upload_cache, due));
}

static void on_later(struct timer *timer)
{
	cache_claim(CONTAINER_OF(timer, struct upload_cache, leftovers.later));
}

static void cache_init(struct upload_cache *cache, struct uploader *uploader, size_t number)
{
	struct error err;

	cache->uploader = uploader;
	cache->number = number;
	cache->config = &uploader->config->caches[number];
	cache->upstreams = upstream_bits(uploader->config, cache->config);
	cache->secrets_stamp = link_secrets_stamp(cache->config);
	cache->wakes_refused = true; /* somebody may have mended it while nobody looked */
	pace_init(&cache->pace, cache->config->upload_jobs);
	timer_init(&cache->due, uploader->loop, on_due);
	timer_init(&cache->leftovers.later, uploader->loop, on_later);
	timer_unref(&cache->leftovers.later);
	uploader->n_handles += 2;
	cache->reads_only = cache->config->push == PUSH_NO;
	snprintf(cache->why_reads_only, sizeof(cache->why_reads_only), "only read: push = no");
	if (cache->config->push == PUSH_AUTO && cache_open(cache, &err) < 0) {
		snprintf(cache->why_reads_only, sizeof(cache->why_reads_only),
		         "only read: push = auto, and %.200s", err.text);
		log_info("cache is only read cache=%s: push = auto, and %s", cache->config->name, err.text);
		cache->reads_only = true;
	}
}

static void on_nars_emptied(struct nar_table *table)
{
	struct uploader *uploader = CONTAINER_OF(table, struct uploader, nars);

	if (uploader->closing)
		uploader_maybe_closed(uploader);
}

static uint64_t pushing_bits(const struct config *config)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < config->n_caches; i++)
		if (config->caches[i].push != PUSH_NO)
			bits |= UINT64_C(1) << i;
	return bits;
}

/* What packing leaves of `memory`, but enough for one body of each cache. */
static struct room room_of_bodies(const struct config *config)
{
	uint64_t n_least = BODY_BLOCKS_MAX * (uint64_t)__builtin_popcountll(pushing_bits(config));
	uint64_t own = pack_jobs_of(config) * PACK_OWN_BYTES;
	uint64_t n = config->memory_bytes > own ? (config->memory_bytes - own) / BODY_BLOCK_BYTES : 0;

	return (struct room){ .n_blocks = n > n_least ? n : n_least, .tmp_bytes = config->tmp_space_bytes };
}

static int open_parts(struct uploader *uploader, struct error *err)
{
	const struct config *config = uploader->config;
	unsigned pack_jobs = pack_jobs_of(config);
	struct room room = room_of_bodies(config);

	budget_init(&uploader->budget, room, pushing_bits(config));
	if (http_open(&uploader->http, uploader->loop, err) < 0 ||
	    body_pool_open(&uploader->pool, uploader->loop, room.n_blocks * BODY_BLOCK_BYTES,
	                   config->state_dir, room.tmp_bytes, err) < 0 ||
	    packer_open(&uploader->packer, uploader->loop, pack_jobs, err) < 0)
		return -1;
	body_pool_set_largest(uploader->pool, budget_largest_tmp_bytes(&uploader->budget));
	uploader->nars = (struct nar_table){
		.loop = uploader->loop,
		.store = uploader->store,
		.pool = uploader->pool,
		.packer = uploader->packer,
		.emptied = on_nars_emptied,
	};
	uploader->caches = calloc(config->n_caches + 1, sizeof(uploader->caches[0]));
	uploader->upstreams = calloc(config->n_upstreams + 1, sizeof(uploader->upstreams[0]));
	if (uploader->caches == NULL || uploader->upstreams == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	return 0;
}

int uploader_open(struct uploader **ret, const struct uploader_config *config, struct error *err)
{
	struct uploader *uploader = calloc(1, sizeof(*uploader));

	if (uploader == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	uploader->loop = config->loop;
	uploader->queue = config->queue;
	uploader->store = config->store;
	uploader->config = config->config;
	uploader->on_released = config->on_released;
	uploader->ctx = config->ctx;
	timer_init(&uploader->retry, uploader->loop, on_retry);
	timer_init(&uploader->sample, uploader->loop, on_sample);
	timer_unref(&uploader->sample);
	timer_init(&uploader->watch, uploader->loop, on_watch);
	uploader->n_handles = 3;
	if (getrandom(&uploader->random_state, sizeof(uploader->random_state), 0) < 0)
		uploader->random_state = (uint64_t)clock_unix_ms();
	*ret = uploader;
	if (open_parts(uploader, err) < 0)
		return -1;
	for (; uploader->n_caches < config->config->n_caches; uploader->n_caches++)
		cache_init(&uploader->caches[uploader->n_caches], uploader, uploader->n_caches);
	return 0;
}

static void on_http_closed(void *ctx)
{
	struct uploader *uploader = ctx;
	lane_closed_fn closed = uploader->closed;
	void *closed_ctx = uploader->closed_ctx;

	free(uploader);
	if (closed != NULL)
		closed(closed_ctx);
}

static void finish_close(struct uploader *uploader)
{
	loop_unpost(uploader->loop, &uploader->room_post);
	for (size_t i = 0; i < uploader->n_caches; i++)
		link_unref(uploader->caches[i].link);
	for (size_t i = 0; uploader->upstreams != NULL && i < uploader->config->n_upstreams; i++)
		backend_close(uploader->upstreams[i].backend);
	free(uploader->caches);
	free(uploader->upstreams);
	packer_close(uploader->packer);
	body_pool_close(uploader->pool);
	if (uploader->http != NULL)
		http_close(uploader->http, on_http_closed, uploader);
	else
		on_http_closed(uploader);
}

static void on_timer_closed_common(struct uploader *uploader)
{
	uploader->n_handles--;
	uploader_maybe_closed(uploader);
}

static void on_due_closed(struct timer *timer)
{
	on_timer_closed_common(CONTAINER_OF(timer, struct upload_cache, due)->uploader);
}

static void on_later_closed(struct timer *timer)
{
	on_timer_closed_common(CONTAINER_OF(timer, struct upload_cache, leftovers.later)->uploader);
}

static void on_retry_closed(struct timer *timer)
{
	on_timer_closed_common(CONTAINER_OF(timer, struct uploader, retry));
}

static void on_sample_closed(struct timer *timer)
{
	on_timer_closed_common(CONTAINER_OF(timer, struct uploader, sample));
}

static void on_watch_closed(struct timer *timer)
{
	on_timer_closed_common(CONTAINER_OF(timer, struct uploader, watch));
}

static void on_close_turn(struct loop_post *post)
{
	finish_close(CONTAINER_OF(post, struct uploader, close_post));
}

/* The parts go once nothing runs any more, not from within one of their own callbacks. */
void uploader_maybe_closed(struct uploader *uploader)
{
	size_t n_busy = uploader->n_handles + uploader->nars.n_shares;

	for (size_t i = 0; i < uploader->n_caches; i++) {
		const struct upload_cache *cache = &uploader->caches[i];

		n_busy += cache->n_uploads + cache->is_claiming + (cache->prepared == CACHE_PREPARING) +
		          (cache->look_link != NULL) + cache->leftovers.is_running;
	}
	if (n_busy == 0)
		loop_post(uploader->loop, &uploader->close_post, on_close_turn);
}

void uploader_close(struct uploader *uploader, lane_closed_fn closed, void *ctx)
{
	if (uploader == NULL)
		return;
	uploader->closing = true;
	uploader->closed = closed;
	uploader->closed_ctx = ctx;
	for (size_t i = 0; i < uploader->n_caches; i++) {
		struct upload_cache *cache = &uploader->caches[i];
		struct upload *next;

		for (struct upload *u = cache->uploads; u != NULL; u = next) {
			next = u->next;
			upload_cancel(u);
		}
		if (cache->prepared == CACHE_PREPARING)
			cache->link->backend->ops->cancel(&cache->prepare_op);
		cache_cancel_look(cache);
		leftovers_cancel(cache);
		timer_close(&cache->due, on_due_closed);
		timer_close(&cache->leftovers.later, on_later_closed);
	}
	timer_close(&uploader->retry, on_retry_closed);
	timer_close(&uploader->sample, on_sample_closed);
	timer_close(&uploader->watch, on_watch_closed);
}

/* ---- status ----------------------------------------------------------------------------------------- */

uint64_t uploader_targets(const struct uploader *uploader)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < uploader->n_caches; i++)
		if (!uploader->caches[i].reads_only)
			bits |= UINT64_C(1) << i;
	return bits;
}

size_t uploader_n_in_flight(const struct uploader *uploader, size_t cache)
{
	return uploader->caches[cache].n_uploads;
}

size_t uploader_list(const struct uploader *uploader, struct upload_status *ret, size_t n_max)
{
	size_t n = 0;

	for (size_t i = 0; i < uploader->n_caches; i++)
		for (const struct upload *u = uploader->caches[i].uploads; u != NULL && n < n_max;
		     u = u->next)
			ret[n++] = (struct upload_status){
				.path = u->job.info.path,
				.step = upload_step_name(u),
				.cache = i,
				.nar_bytes = u->job.info.nar_size,
				.done_bytes = upload_done_bytes(u),
				.started_unix_s = u->started_unix_s,
			};
	return n;
}

const char *uploader_message(const struct uploader *uploader, size_t cache)
{
	const struct upload_cache *c = &uploader->caches[cache];

	if (c->breaker.is_open)
		return c->breaker.fault.text;
	return c->reads_only ? c->why_reads_only : NULL;
}

enum visibility uploader_visibility(const struct uploader *uploader, size_t cache)
{
	return uploader->caches[cache].visibility;
}

bool uploader_get_outage(const struct uploader *uploader, size_t cache, struct upload_outage *ret)
{
	const struct breaker *b = &uploader->caches[cache].breaker;
	uint64_t now = clock_mono_ms();

	if (!b->is_open)
		return false;
	*ret = (struct upload_outage){
		.kind = b->fault.kind,
		.since_unix_s = b->since_unix_s,
		.next_try_unix_s = clock_unix_s() +
		                   (b->due_mono_ms > now ? (int64_t)((b->due_mono_ms - now) / 1000) : 0),
	};
	return true;
}

size_t uploader_pace(const struct uploader *uploader, size_t cache)
{
	return uploader->caches[cache].pace.limit;
}

uint64_t uploader_rate_bytes(const struct uploader *uploader, size_t cache)
{
	return uploader->caches[cache].rate_bytes;
}
