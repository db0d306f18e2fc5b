#include "daemon/upload/cache.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "daemon/upload/transfer.h"

#define QUEUE_RETRY_S 5
#define LOOK_AGAIN_S  3600 /* at what is due, whatever the clock does */
#define CLAIM_MAX     64

/* ---- the link, and what is asked of a cache before all else ------------------------------------------- */

int cache_open(struct upload_cache *cache, struct error *err)
{
	struct uploader *uploader = cache->uploader;

	if (cache->link != NULL)
		return 0;
	/* Taken before they are read: what changes in between is then read once more. */
	cache->secrets_stamp = link_secrets_stamp(cache->config);
	cache->is_stale = false;
	return link_open(&cache->link, uploader->loop, uploader->http, cache->config,
	                 store_dir(uploader->store), err);
}

static void drop_link(struct upload_cache *cache)
{
	link_unref(cache->link);
	cache->link = NULL;
	cache->prepared = CACHE_UNPREPARED;
}

/* The secrets are read anew with what begins from now on. */
static void reopen(struct upload_cache *cache)
{
	if (cache->prepared == CACHE_PREPARING)
		cache->is_stale = true; /* its end sees to it */
	else
		drop_link(cache);
}

static void tell_prepared(struct upload_cache *cache, const struct error *err)
{
	struct upload *u = cache->uploads, *next;

	for (; u != NULL; u = next) {
		next = u->next;
		upload_prepared(u, err);
	}
}

static bool has_waiting_probe(const struct upload_cache *cache)
{
	for (const struct upload *u = cache->uploads; u != NULL; u = u->next)
		if (u->state == UPLOAD_PREPARING && u->is_probe)
			return true;
	return false;
}

static void on_looked(struct backend_op *op)
{
	struct upload_cache *cache = CONTAINER_OF(op, struct upload_cache, look_op);

	cache->visibility = op->backend->announced.visibility;
	link_unref(cache->look_link);
	cache->look_link = NULL;
	if (cache->uploader->closing)
		uploader_maybe_closed(cache->uploader);
}

/* Who can read it is for status alone: no upload waits for that. */
static void look(struct upload_cache *cache)
{
	struct backend *backend = cache->link->backend;

	if (backend->ops->look_start == NULL) {
		cache->visibility = backend->announced.visibility;
	} else if (cache->look_link == NULL && !cache->uploader->closing) {
		cache->look_link = link_ref(cache->link);
		cache->look_op = (struct backend_op){ .done = on_looked };
		backend->ops->look_start(backend, &cache->look_op);
	}
}

void cache_cancel_look(struct upload_cache *cache)
{
	if (cache->look_link != NULL)
		cache->look_link->backend->ops->cancel(&cache->look_op);
}

static void on_prepared(struct backend_op *op)
{
	struct upload_cache *cache = CONTAINER_OF(op, struct upload_cache, prepare_op);

	cache->prepared = CACHE_PREPARED;
	if (cache->is_stale && !cache->uploader->closing) {
		drop_link(cache);
		cache_prepare(cache);
		return;
	}
	if (op->err.kind == ERROR_NONE) {
		look(cache);
		trust_tell_unknown(cache);
		cache_answered(cache, BREAKER_PREPARE, has_waiting_probe(cache));
	} else {
		drop_link(cache); /* a mended token or key is read again with the next try */
	}
	tell_prepared(cache, &op->err);
	if (cache->uploader->closing)
		uploader_maybe_closed(cache->uploader);
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
	cache->prepare_op = (struct backend_op){ .done = on_prepared, .backend = cache->link->backend };
	cache->link->backend->ops->prepare_start(cache->link->backend, &cache->prepare_op);
}

/* ---- waiting ------------------------------------------------------------------------------------------ */

static void wait_ms(struct upload_cache *cache, uint64_t delay_ms)
{
	timer_set(&cache->due, delay_ms);
	uploader_watch(cache->uploader);
}

/* INT64_MAX: there is nothing to wait for. */
static void wait_until(struct upload_cache *cache, int64_t due_unix_s)
{
	int64_t now = clock_unix_s();

	if (cache->uploader->closing)
		return; /* so are the timers */
	if (due_unix_s == INT64_MAX) {
		timer_stop(&cache->due);
		uploader_watch(cache->uploader);
		return;
	}
	if (due_unix_s > now + LOOK_AGAIN_S)
		due_unix_s = now + LOOK_AGAIN_S;
	wait_ms(cache, due_unix_s <= now ? 100 : (uint64_t)(due_unix_s - now) * 1000);
}

static void wait_for_probe(struct upload_cache *cache)
{
	uint64_t now = clock_mono_ms(), due = cache->breaker.due_mono_ms;

	wait_ms(cache, due > now ? due - now : 0);
}

/* ---- claiming ----------------------------------------------------------------------------------------- */

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

/* A probe of what a person had to mend reads the secrets anew. */
static void begin_probe(struct upload_cache *cache, int64_t job)
{
	if (cache->breaker.fault.kind == ERROR_OPERATOR)
		reopen(cache);
	breaker_probe_began(&cache->breaker, job, clock_mono_ms());
	wait_for_probe(cache);
}

/* What was claimed before the breaker opened, or we closed, goes back. */
static void begin_claimed(struct upload_cache *cache, struct queue_claim *claim)
{
	bool is_probe = cache->claims_probe && cache->breaker.is_open;
	bool may_begin = !cache->uploader->closing && is_probe == cache->breaker.is_open;

	for (size_t i = 0; i < claim->n_jobs; i++) {
		struct upload *u = spares_take(cache);

		upload_begin(u, cache, &claim->jobs[i], is_probe && may_begin);
		if (!may_begin)
			upload_cancel(u);
		else if (is_probe)
			begin_probe(cache, u->job.id);
	}
	spares_free(cache);
}

static void on_claimed(struct queue_op *op)
{
	struct upload_cache *cache = CONTAINER_OF(op, struct upload_cache, claim.op);
	struct queue_claim *claim = &cache->claim;
	bool again = cache->claim_again || claim->n_jobs == claim->n_max;

	cache->is_claiming = false;
	cache->claim_again = false;
	if (op->err.kind != ERROR_NONE) {
		cache->wakes_refused = true; /* in doubt */
		wait_until(cache, clock_unix_s() + QUEUE_RETRY_S);
		again = false;
	} else {
		cache->wakes_refused |= claim->wakes_refused;
		again |= claim->wakes_refused;
		wait_until(cache, claim->next_due_unix_s);
		if (cache->claims_probe && claim->n_jobs == 0) {
			again |= breaker_forget_tried(&cache->breaker);
			/* No job is left to probe with, and none may come for days. */
			if (!again)
				leftovers_clear(cache);
		}
	}
	begin_claimed(cache, claim);
	queue_op_fini(op);
	if (cache->n_uploads > 0)
		uploader_sample(cache->uploader);
	if (again)
		cache_claim(cache);
	if (cache->uploader->closing)
		uploader_maybe_closed(cache->uploader);
}

static void start_claim(struct upload_cache *cache, size_t n_max, bool is_probe)
{
	size_t n_spares = spares_make(cache, n_max < CLAIM_MAX ? n_max : CLAIM_MAX);

	if (n_spares == 0) {
		wait_until(cache, clock_unix_s() + 1);
		return;
	}
	cache->is_claiming = true;
	cache->claims_probe = is_probe;
	cache->claim = (struct queue_claim){
		.op.verb = QUEUE_CLAIM,
		.now_unix_s = clock_unix_s(),
		.cache = cache->number,
		.n_max = n_spares,
		.wakes_refused = cache->wakes_refused,
	};
	cache->wakes_refused = false;
	if (is_probe) {
		memcpy(cache->except, cache->breaker.tried, sizeof(cache->except));
		cache->claim.except = cache->except;
		cache->claim.n_except = cache->breaker.n_tried;
	}
	queue_start(cache->uploader->queue, &cache->claim.op, on_claimed);
}

void cache_claim(struct upload_cache *cache)
{
	int64_t paused_until = queue_paused_until_unix_s(cache->uploader->queue, cache->number);
	size_t n_free = cache->n_uploads < cache->pace.limit ? cache->pace.limit - cache->n_uploads : 0;

	if (cache->uploader->closing || cache->reads_only)
		return;
	if (cache->is_claiming) {
		cache->claim_again = true;
		return;
	}
	if (paused_until > clock_unix_s()) {
		wait_until(cache, paused_until);
		return;
	}
	switch (breaker_may_claim(&cache->breaker, clock_mono_ms())) {
	case BREAKER_ALL:
		leftovers_clear(cache);
		if (n_free > 0)
			start_claim(cache, n_free, false);
		return;
	case BREAKER_ONE: /* whatever the pace */
		if (cache->n_uploads < cache->config->upload_jobs)
			start_claim(cache, 1, true);
		return;
	case BREAKER_NONE:
		wait_for_probe(cache);
		return;
	}
}

void cache_upload_ended(struct upload *u)
{
	struct upload_cache *cache = u->cache;
	struct upload **at = &cache->uploads;

	while (*at != u)
		at = &(*at)->next;
	*at = u->next;
	cache->n_uploads--;
	if (u->is_probe)
		breaker_probe_showed_nothing(&cache->breaker, clock_mono_ms());
	free(u);
	if (cache->uploader->closing)
		uploader_maybe_closed(cache->uploader);
	else
		cache_claim(cache);
}

/* ---- does it work? ------------------------------------------------------------------------------------ */

void cache_try_now(struct upload_cache *cache)
{
	reopen(cache);
	cache->wakes_refused = true;
	breaker_probe_now(&cache->breaker, clock_mono_ms());
	cache_claim(cache);
}

/* Fewer than the breaker needs are refused without a word of it. */
static bool has_new_secrets(struct upload_cache *cache)
{
	uint64_t stamp = link_secrets_stamp(cache->config);

	if (stamp == cache->secrets_stamp)
		return false;
	cache->secrets_stamp = stamp;
	log_info("a secret file changed, trying again cache=%s", cache->config->name);
	return true;
}

void cache_look(struct upload_cache *cache, bool moved)
{
	if (timer_is_set(&cache->due) && (has_new_secrets(cache) || moved))
		cache_try_now(cache);
}

bool cache_lets(const struct upload_cache *cache, const struct upload *u)
{
	return !cache->breaker.is_open || u->is_probe;
}

void cache_answered(struct upload_cache *cache, enum breaker_stage stage, bool is_probe)
{
	pace_good(&cache->pace);
	if (!breaker_success(&cache->breaker, stage, is_probe))
		return;
	log_info("cache works again cache=%s", cache->config->name);
	cache_claim(cache);
}

static void log_outage(const struct upload_cache *cache)
{
	const struct breaker *b = &cache->breaker;
	uint64_t now = clock_mono_ms();
	uint64_t delay_s = b->due_mono_ms > now ? (b->due_mono_ms - now + 999) / 1000 : 0;

	if (b->fault.kind == ERROR_OPERATOR)
		log_error("cache needs a hand cache=%s: %s; trying again in %" PRIu64
		          "s, or once a secret file changes",
		          cache->config->name, b->fault.text, delay_s);
	else
		log_warning("cache does not work cache=%s: %s, trying again in %" PRIu64 "s",
		            cache->config->name, b->fault.text, delay_s);
}

bool cache_is_reopened(const struct upload *u)
{
	return u->link != NULL && u->link != u->cache->link;
}

bool cache_is_to_blame(struct upload *u)
{
	struct upload_cache *cache = u->cache;
	struct breaker *b = &cache->breaker;
	const struct breaker_fault fault = { .err = &u->fault,
		                             .is_server_fault = u->is_server_fault,
		                             .is_probe = u->is_probe,
		                             .stage = upload_stage(u),
		                             .job = u->job.id };
	const struct breaker_now now = { .mono_ms = clock_mono_ms(),
		                         .unix_s = clock_unix_s(),
		                         .random = uploader_random(cache->uploader) };
	enum error_kind kind_before = b->is_open ? b->fault.kind : ERROR_NONE;
	bool is_to_blame;

	if (u->fault.is_overload)
		pace_overload(&cache->pace, u->op_began_mono_ms, now.mono_ms);
	is_to_blame = breaker_fault(b, &fault, &now);
	u->is_probe = false;
	/* An outage is told once, and what it turns into. */
	if (b->is_open && b->fault.kind != kind_before)
		log_outage(cache);
	else if (!b->is_open && kind_before != ERROR_NONE)
		log_info("cache answers again cache=%s", cache->config->name);
	return is_to_blame;
}
