/* The engine: for every cache it claims jobs while there are places, and keeps their uploads. Nothing
 * here waits or retries by itself but a cache's next due time, which the queue names with each claim. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"
#include "daemon/format/signature.h"
#include "daemon/upload/transfer.h"

#define KEY_FILE_MAX_BYTES 4096
#define QUEUE_RETRY_MS     5000
#define SAMPLE_MS          1000
/* What packing itself holds beside the bodies: contexts and read buffers of one pack. */
#define PACK_OWN_BYTES MIB(8)
#define CLAIM_MAX      64

static void cache_claim(struct upload_cache *cache);
static void maybe_closed(struct uploader *uploader);

uint64_t uploader_random(struct uploader *uploader)
{
	/* splitmix64: jitter needs spread, not secrecy */
	uint64_t z = (uploader->random_state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* ---- a cache: its backend and keys ------------------------------------------------------------------ */

static void keys_free(struct upload_cache *cache)
{
	for (size_t i = 0; i < cache->n_keys; i++)
		signing_key_free(cache->keys[i]);
	free(cache->keys);
	cache->keys = NULL;
	cache->n_keys = 0;
}

static int key_read(struct signing_key **ret, const struct cache_config *config, const char *file,
                    struct error *err)
{
	char *text;
	size_t len;
	int rc;

	if (read_file(file, KEY_FILE_MAX_BYTES, &text, &len, err) < 0) {
		err->kind = ERROR_OPERATOR;
		return error_prefix(err, "[cache \"%s\"] signing-key-file", config->name);
	}
	/* Cachix hands out keys without a name, and wants none. */
	if (config->kind == CACHE_CACHIX && strchr(text, ':') == NULL)
		rc = signing_key_parse_bare(ret, config->name, text, file, err);
	else
		rc = signing_key_parse(ret, text, file, err);
	explicit_bzero(text, len);
	free(text);
	if (rc < 0)
		return error_prefix(err, "[cache \"%s\"] signing-key-file", config->name);
	return 0;
}

static int keys_read(struct upload_cache *cache, struct error *err)
{
	const struct text_list *files = &cache->config->signing_key_files;

	keys_free(cache);
	if (cache->config->sign == SIGN_NO || files->n == 0)
		return 0;
	cache->keys = calloc(files->n, sizeof(cache->keys[0]));
	if (cache->keys == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	for (; cache->n_keys < files->n; cache->n_keys++)
		if (key_read(&cache->keys[cache->n_keys], cache->config, files->items[cache->n_keys], err) <
		    0)
			return -1;
	return 0;
}

static int cache_open(struct upload_cache *cache, struct error *err)
{
	struct uploader *uploader = cache->uploader;

	if (cache->backend != NULL)
		return 0;
	if (keys_read(cache, err) < 0)
		return -1;
	return backend_open(&cache->backend, uploader->loop, uploader->http, cache->config,
	                    store_dir(uploader->store), err);
}

static void tell_prepared(struct upload_cache *cache, const struct error *err)
{
	struct upload *u = cache->uploads, *next;

	for (; u != NULL; u = next) {
		next = u->next;
		upload_prepared(u, err);
	}
}

static void on_prepared(struct backend_op *op)
{
	struct upload_cache *cache = CONTAINER_OF(op, struct upload_cache, prepare_op);

	cache->prepared = op->err.kind == ERROR_NONE ? CACHE_PREPARED : CACHE_UNPREPARED;
	if (op->err.kind != ERROR_NONE) {
		/* A mended token or key is read again with the next try. */
		backend_close(cache->backend);
		cache->backend = NULL;
	}
	tell_prepared(cache, &op->err);
	if (cache->uploader->closing)
		maybe_closed(cache->uploader);
}

void cache_prepare(struct upload_cache *cache)
{
	struct error err = { 0 };

	if (cache->prepared == CACHE_PREPARING)
		return;
	if (cache_open(cache, &err) < 0) {
		tell_prepared(cache, &err);
		return;
	}
	cache->prepared = CACHE_PREPARING;
	cache->prepare_op = (struct backend_op){ .done = on_prepared, .backend = cache->backend };
	cache->backend->ops->prepare_start(cache->backend, &cache->prepare_op);
}

struct backend *uploader_upstream(struct uploader *uploader, size_t endpoint)
{
	size_t i = endpoint - uploader->n_caches;
	struct error err;

	if (uploader->upstreams[i] == NULL &&
	    backend_open_upstream(&uploader->upstreams[i], uploader->loop, uploader->http,
	                          &uploader->config->upstreams[i], &uploader->config->net, &err) < 0) {
		log_warning("upstream cannot be asked upstream=%s: %s, going on without it",
		            uploader->config->upstreams[i].name, err.text);
		return NULL;
	}
	return uploader->upstreams[i];
}

/* ---- claiming --------------------------------------------------------------------------------------- */

static bool is_full(const struct upload_cache *cache)
{
	return cache->n_uploads >= cache->config->upload_jobs;
}

static void set_due(struct upload_cache *cache, int64_t due_unix_s)
{
	int64_t now = clock_unix_s();

	if (due_unix_s == INT64_MAX)
		return;
	/* Looked at again within the hour whatever the clock does. */
	if (due_unix_s > now + 3600)
		due_unix_s = now + 3600;
	timer_set(&cache->due, due_unix_s <= now ? 100 : (uint64_t)(due_unix_s - now) * 1000);
}

/* Memory for what a claim brings is there before it: a claim that nobody could work on, or give back, would
 * last until the next start. Returns for how many there is. */
static size_t spares_make(struct upload_cache *cache, size_t n_wanted)
{
	size_t n = 0;

	for (; n < n_wanted; n++) {
		struct upload *u = calloc(1, sizeof(*u));

		if (u == NULL)
			break;
		u->next = cache->spares;
		cache->spares = u;
	}
	return n;
}

static struct upload *spares_take(struct upload_cache *cache)
{
	struct upload *u = cache->spares;

	assert(u != NULL);
	cache->spares = u->next;
	return u;
}

static void spares_free(struct upload_cache *cache)
{
	while (cache->spares != NULL)
		free(spares_take(cache));
}

static void on_claimed(struct queue_op *op)
{
	struct upload_cache *cache = CONTAINER_OF(op, struct upload_cache, claim.op);
	struct queue_claim *claim = &cache->claim;
	bool again = cache->claim_again || claim->n_jobs == claim->n_max;

	cache->is_claiming = false;
	cache->claim_again = false;
	if (op->err.kind != ERROR_NONE) {
		set_due(cache, clock_unix_s() + QUEUE_RETRY_MS / 1000);
		again = false;
	} else {
		set_due(cache, claim->next_due_unix_s);
	}
	for (size_t i = 0; i < claim->n_jobs; i++) {
		struct upload *u = spares_take(cache);

		upload_begin(u, cache, &claim->jobs[i]);
		if (cache->uploader->closing)
			upload_cancel(u);
	}
	spares_free(cache);
	queue_op_fini(op);
	if (cache->n_uploads > 0 && !timer_is_set(&cache->uploader->sample) && !cache->uploader->closing)
		timer_set(&cache->uploader->sample, SAMPLE_MS);
	if (again)
		cache_claim(cache);
	if (cache->uploader->closing)
		maybe_closed(cache->uploader);
}

static void cache_claim(struct upload_cache *cache)
{
	int64_t paused_until = queue_paused_until_unix_s(cache->uploader->queue, cache->number);
	int64_t now = clock_unix_s();
	size_t n_free, n_spares;

	if (cache->uploader->closing || cache->reads_only || is_full(cache))
		return;
	if (cache->is_claiming) {
		cache->claim_again = true;
		return;
	}
	if (paused_until > now) {
		set_due(cache, paused_until);
		return;
	}
	n_free = cache->config->upload_jobs - cache->n_uploads;
	n_spares = spares_make(cache, n_free < CLAIM_MAX ? n_free : CLAIM_MAX);
	if (n_spares == 0) {
		set_due(cache, now + 1);
		return;
	}
	cache->is_claiming = true;
	cache->claim = (struct queue_claim){
		.op.verb = QUEUE_CLAIM,
		.now_unix_s = now,
		.cache = cache->number,
		.n_max = n_spares,
	};
	queue_start(cache->uploader->queue, &cache->claim.op, on_claimed);
}

static void on_due(struct timer *timer)
{
	cache_claim(CONTAINER_OF(timer, struct upload_cache, due));
}

void uploader_poke(struct uploader *uploader, uint64_t caches)
{
	/* The queue still changes while we close; there may be no caches left by then. */
	for (size_t i = 0; !uploader->closing && i < uploader->n_caches; i++)
		if (caches >> i & 1)
			cache_claim(&uploader->caches[i]);
}

void cache_upload_ended(struct upload *u)
{
	struct upload_cache *cache = u->cache;
	struct upload **at = &cache->uploads;

	while (*at != u)
		at = &(*at)->next;
	*at = u->next;
	cache->n_uploads--;
	free(u);
	if (cache->uploader->closing)
		maybe_closed(cache->uploader);
	else
		cache_claim(cache);
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

static void cache_init(struct upload_cache *cache, struct uploader *uploader, size_t number)
{
	struct error err;

	cache->uploader = uploader;
	cache->number = number;
	cache->config = &uploader->config->caches[number];
	cache->upstreams = upstream_bits(uploader->config, cache->config);
	timer_init(&cache->due, uploader->loop, on_due);
	uploader->n_handles++;
	cache->reads_only = cache->config->push == PUSH_NO;
	if (cache->config->push == PUSH_AUTO && cache_open(cache, &err) < 0) {
		log_info("cache is only read cache=%s: push = auto, and %s", cache->config->name, err.text);
		cache->reads_only = true;
	}
}

static void on_nars_emptied(struct nar_table *table)
{
	struct uploader *uploader = CONTAINER_OF(table, struct uploader, nars);

	if (uploader->closing)
		maybe_closed(uploader);
}

static int open_parts(struct uploader *uploader, struct error *err)
{
	const struct config *config = uploader->config;
	unsigned pack_jobs = pack_jobs_of(config);
	uint64_t own = pack_jobs * PACK_OWN_BYTES;
	uint64_t for_bodies = config->memory_bytes > own + BODY_BLOCKS_MAX * BODY_BLOCK_BYTES
	                              ? config->memory_bytes - own
	                              : BODY_BLOCKS_MAX * BODY_BLOCK_BYTES;

	if (http_open(&uploader->http, uploader->loop, err) < 0 ||
	    body_pool_open(&uploader->pool, uploader->loop, for_bodies, config->state_dir,
	                   config->tmp_space_bytes, err) < 0 ||
	    packer_open(&uploader->packer, uploader->loop, pack_jobs, err) < 0)
		return -1;
	uploader->nars = (struct nar_table){
		.loop = uploader->loop,
		.store = uploader->store,
		.pool = uploader->pool,
		.packer = uploader->packer,
		.emptied = on_nars_emptied,
	};
	uploader->caches = calloc(config->n_caches + 1, sizeof(uploader->caches[0]));
	uploader->upstreams = calloc(config->n_upstreams + 1, sizeof(struct backend *));
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
	uploader->n_handles = 2;
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
	for (size_t i = 0; i < uploader->n_caches; i++) {
		backend_close(uploader->caches[i].backend);
		keys_free(&uploader->caches[i]);
	}
	for (size_t i = 0; uploader->upstreams != NULL && i < uploader->config->n_upstreams; i++)
		backend_close(uploader->upstreams[i]);
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
	maybe_closed(uploader);
}

static void on_due_closed(struct timer *timer)
{
	on_timer_closed_common(CONTAINER_OF(timer, struct upload_cache, due)->uploader);
}

static void on_retry_closed(struct timer *timer)
{
	on_timer_closed_common(CONTAINER_OF(timer, struct uploader, retry));
}

static void on_sample_closed(struct timer *timer)
{
	on_timer_closed_common(CONTAINER_OF(timer, struct uploader, sample));
}

static void on_close_turn(struct loop_post *post)
{
	finish_close(CONTAINER_OF(post, struct uploader, close_post));
}

/* The parts go once nothing runs any more, not from within one of their own callbacks. */
static void maybe_closed(struct uploader *uploader)
{
	size_t n_busy = uploader->n_handles + uploader->nars.n_shares;

	for (size_t i = 0; i < uploader->n_caches; i++) {
		const struct upload_cache *cache = &uploader->caches[i];

		n_busy += cache->n_uploads + cache->is_claiming + (cache->prepared == CACHE_PREPARING);
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
			cache->backend->ops->cancel(&cache->prepare_op);
		timer_close(&cache->due, on_due_closed);
	}
	timer_close(&uploader->retry, on_retry_closed);
	timer_close(&uploader->sample, on_sample_closed);
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

	if (c->message.kind != ERROR_NONE)
		return c->message.text;
	return c->reads_only ? "only read: push = no, or auto without credentials" : NULL;
}

uint64_t uploader_rate_bytes(const struct uploader *uploader, size_t cache)
{
	return uploader->caches[cache].rate_bytes;
}
