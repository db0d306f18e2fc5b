/* How an upload ended, told to the queue, and to people: one line in the log for each path that is done or
 * given up, and one for each cause that puts paths off. What the queue cannot write (disk full) is kept and
 * written later; what it does not know any more ends the claim. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/log.h"
#include "common/store_path.h"
#include "daemon/format/nixbase32.h"
#include "daemon/plan/backoff.h"
#include "daemon/upload/transfer.h"

static void on_recorded(struct queue_op *op)
{
	struct upload *u = CONTAINER_OF(op, struct upload, q.op);
	struct uploader *uploader = u->cache->uploader;

	crash_point(UPLOAD_RECORDED);
	assert(u->state == UPLOAD_RECORDING);
	if (op->err.kind == ERROR_TRANSIENT && !u->closing) {
		/* The queue cannot write (disk full): what we know is kept until it can. */
		u->awaits_retry = true;
		uploader_retry_soon(uploader);
		return;
	}
	if (op->err.kind == ERROR_PERMANENT && op->verb != QUEUE_RELEASE) {
		/* Nothing is left to write down but that the claim ends. */
		log_warning("the queue does not know the job any more job=%" PRId64 ": %s", u->job.id,
		            op->err.text);
		record_release(u);
		return;
	}
	if (op->verb == QUEUE_FINISH && u->q.finish.n_released > 0)
		uploader->on_released(uploader->ctx, u->q.finish.released, u->q.finish.n_released);
	queue_op_fini(op);
	upload_end(u);
}

static void record(struct upload *u, enum queue_verb verb)
{
	upload_move(u, UPLOAD_RECORDING);
	u->q.op.verb = verb;
	queue_start(u->cache->uploader->queue, &u->q.op, on_recorded);
}

void upload_retry(struct upload *u)
{
	if (!u->awaits_retry)
		return;
	u->awaits_retry = false;
	queue_start(u->cache->uploader->queue, &u->q.op, on_recorded);
}

static void cache_cause_ended(struct upload_cache *cache)
{
	if (cache->n_repeats > 0)
		log_warning("the same fault came %u times more cache=%s: %s", cache->n_repeats,
		            cache->config->name, cache->cause);
	cache->n_repeats = 0;
	cache->cause[0] = '\0';
}

void record_finish(struct upload *u, enum job_result result, size_t endpoint)
{
	u->q.finish = (struct queue_finish){
		.now_unix_s = clock_unix_s(),
		.job = &u->job,
		.result = result,
		.endpoint = endpoint,
		.sent_bytes = u->sent_bytes,
	};
	if (result == JOB_UPLOADED)
		log_info("upload done job=%" PRId64 " cache=%s path=%s nar_bytes=%" PRIu64
		         " sent_bytes=%" PRIu64 " took_s=%" PRId64 " tries=%u",
		         u->job.id, u->cache->config->name, store_path_base(u->job.info.path),
		         u->job.info.nar_size, u->sent_bytes, clock_unix_s() - u->started_unix_s,
		         u->job.attempts + 1);
	if (result == JOB_UPLOADED || result == JOB_PRESENT)
		cache_cause_ended(u->cache);
	record(u, QUEUE_FINISH);
}

void record_release(struct upload *u)
{
	u->q.release = (struct queue_release){ .job_id = u->job.id, .cache = u->job.cache };
	record(u, QUEUE_RELEASE);
}

static void record_fail(struct upload *u)
{
	log_error("upload failed job=%" PRId64 " cache=%s path=%s tries=%u: %s", u->job.id,
	          u->cache->config->name, store_path_base(u->job.info.path), u->job.attempts + 1,
	          u->fault.text);
	u->q.fail = (struct queue_fail){ .now_unix_s = clock_unix_s(), .job = &u->job, .fault = &u->fault };
	record(u, QUEUE_FAIL);
}

/* One cause is told once for the cache, then counted; what comes next says how often it came. */
static void log_deferred(struct upload *u, uint64_t delay_s)
{
	struct upload_cache *cache = u->cache;

	if (strncmp(cache->cause, u->fault.text, sizeof(cache->cause) - 1) == 0) {
		cache->n_repeats++;
		log_debug("upload failed job=%" PRId64 " cache=%s path=%s tries=%u: %s, retrying in %" PRIu64
		          "s",
		          u->job.id, cache->config->name, store_path_base(u->job.info.path),
		          u->job.attempts + 1, u->fault.text, delay_s);
		return;
	}
	cache_cause_ended(cache);
	snprintf(cache->cause, sizeof(cache->cause), "%.255s", u->fault.text);
	log_warning("upload failed job=%" PRId64 " cache=%s path=%s tries=%u: %s, retrying in %" PRIu64 "s",
	            u->job.id, cache->config->name, store_path_base(u->job.info.path), u->job.attempts + 1,
	            u->fault.text, delay_s);
}

static void record_defer(struct upload *u, const struct backoff_verdict *verdict, bool mismatch)
{
	int64_t now = clock_unix_s();

	u->q.defer = (struct queue_defer){
		.now_unix_s = now,
		.job = &u->job,
		.fault = &u->fault,
		.not_before_unix_s = verdict->delay_s > 0 ? now + (int64_t)verdict->delay_s : 0,
		.counts = verdict->counts,
		.mismatch = mismatch,
	};
	record(u, QUEUE_DEFER);
}

/* The job is as it was, but that it says why it waits; it goes on once the cache does. */
static void record_outage(struct upload *u)
{
	const struct backoff_verdict at_once = { .delay_s = 0 };

	log_debug("upload put back job=%" PRId64 " cache=%s path=%s: %s", u->job.id, u->cache->config->name,
	          store_path_base(u->job.info.path), u->fault.text);
	record_defer(u, &at_once, false);
}

static void record_later(struct upload *u, const struct backoff_verdict *verdict, bool mismatch)
{
	log_deferred(u, verdict->delay_s);
	record_defer(u, verdict, mismatch);
}

/* The cache's, or one that the secrets had which were mended meanwhile. */
static bool goes_back(struct upload *u)
{
	return u->is_cache_fault &&
	       ((u->fault.kind == ERROR_OPERATOR && cache_is_reopened(u)) || cache_is_to_blame(u));
}

void record_fault(struct upload *u, bool mismatch)
{
	struct uploader *uploader = u->cache->uploader;
	struct backoff_case c = {
		.fault = &u->fault,
		.attempts = u->job.attempts,
		.give_up_after = uploader->config->give_up_after,
		.is_machines = !u->is_cache_fault && !u->is_path_fault && !mismatch,
		.random = uploader_random(uploader),
	};
	const struct backoff_verdict with_upstream = { .delay_s = UPSTREAM_REST_S };
	struct backoff_verdict verdict = backoff_decide(&c);

	if (u->closing || u->fault.kind == ERROR_CANCELED)
		record_release(u);
	else if (goes_back(u))
		record_outage(u);
	else if (u->awaits_upstream)
		record_later(u, &with_upstream, false);
	else if (verdict.give_up)
		record_fail(u);
	else
		record_later(u, &verdict, mismatch);
}

/* A fault of a server names the object; which one it was, the job says already. Without that, one cause is
 * one text however many paths met it. */
static void mask(char *text, const char *object, size_t len, const char *name)
{
	size_t n_name = strlen(name);
	char *at;

	while ((at = memmem(text, strlen(text), object, len)) != NULL) {
		memcpy(at, name, n_name);
		memmove(at + n_name, at + len, strlen(at + len) + 1);
	}
}

void record_mask(const struct upload *u, struct error *fault)
{
	char nar_hash[NIXBASE32_LEN(SHA256_BYTES) + 1];

	if (strstr(fault->text, u->job.info.path) != NULL)
		return; /* it speaks of the path, and may name commands with it */
	nixbase32_encode(nar_hash, u->job.info.nar_hash, SHA256_BYTES);
	mask(fault->text, nar_hash, strlen(nar_hash), "NARHASH");
	mask(fault->text, store_path_base(u->job.info.path), STORE_HASH_LEN, "HASH");
}
