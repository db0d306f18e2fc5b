/* One cache as its uploads see it: how to reach it, how many of them it gets, and whether it works at all.
 *
 * It claims jobs while there are places, as many as its pace allows; while its breaker is open, one at a
 * time, to probe. Nothing here waits by itself but `due`, which is set whenever something is left that
 * nobody is working on: the queue's next delayed job, the next probe, the end of a pause (I10).
 * Thread: loop. */
#ifndef DAEMON_UPLOAD_CACHE_H
#define DAEMON_UPLOAD_CACHE_H

#include "daemon/loop/timer.h"
#include "daemon/plan/breaker.h"
#include "daemon/plan/pace.h"
#include "daemon/queue/queue.h"
#include "daemon/upload/link.h"

struct upload;
struct uploader;

/* What puts of forgotten jobs left on the cache is taken away one by one, beside the uploads. */
struct upload_leftovers {
	struct cache_link *link; /* of its own: the cache need not be prepared */
	struct queue_next_leftover next;
	struct queue_drop_leftover drop;
	struct backend_op op;
	bool is_running, op_is_running;
	bool again;         /* another one came while it runs */
	bool some_stay;     /* tried again later */
	struct timer later; /* nothing is tried while it is set */
};

enum prepare_state { CACHE_UNPREPARED, CACHE_PREPARING, CACHE_PREPARED };
struct upload_cache {
	struct uploader *uploader;
	size_t number;
	const struct cache_config *config;
	uint64_t upstreams;      /* bits of endpoint numbers */
	struct cache_link *link; /* NULL until it could be opened */
	uint64_t secrets_stamp;  /* of the files, before it was */
	bool is_stale;           /* what it was opened with may have been mended since */
	enum prepare_state prepared;
	struct backend_op prepare_op;
	enum visibility visibility;   /* as last announced */
	struct cache_link *look_link; /* NULL while nobody looks */
	struct backend_op look_op;
	bool reads_only;
	char why_reads_only[256];

	struct breaker breaker;
	struct pace pace;
	char cause[256];    /* of the last fault of a job that was logged */
	unsigned n_repeats; /* how often it came again since, unlogged */

	struct upload *uploads;
	size_t n_uploads;

	struct queue_claim claim;
	struct upload *spares; /* memory for what the claim brings; NULL without a claim */
	int64_t except[BREAKER_TRIED_MAX];
	bool is_claiming, claims_probe, claim_again;
	bool wakes_refused; /* a person may have mended it: the next claim brings what it put off */
	struct timer due;
	struct upload_leftovers leftovers;

	uint64_t sent_total_bytes, sampled_bytes, rate_bytes;
};

/* Opens the link, unless it is open. */
int cache_open(struct upload_cache *cache, struct error *err) MUST_CHECK;
/* Makes sure that the cache is prepared; upload_prepared follows for every upload that waits. */
void cache_prepare(struct upload_cache *cache);
void cache_cancel_look(struct upload_cache *cache); /* whether or not one goes on */
/* Takes what may be taken now, and sees to it that there is a timer for the rest. */
void cache_claim(struct upload_cache *cache);
/* Takes away what forgotten jobs left, if there is any and nobody is about it. */
void leftovers_clear(struct upload_cache *cache);
void leftovers_cancel(struct upload_cache *cache); /* whether or not it runs */
/* Something changed: reads the secrets anew, probes at once if the breaker is open, and claims, also what a
 * person had to mend something for. */
void cache_try_now(struct upload_cache *cache);
/* Looks whether a wait can be cut short: MOVED says that the clock was set, or the machine slept; and a
 * secret that a person was to mend may have changed. */
void cache_look(struct upload_cache *cache, bool moved);

/* May another step be begun, that needs the cache? */
bool cache_lets(const struct upload_cache *cache, const struct upload *u);
/* A request of stage STAGE went well. */
void cache_answered(struct upload_cache *cache, enum breaker_stage stage, bool is_probe);
/* Was the link made anew since U began? Then a fault that a person must mend may be mended. */
bool cache_is_reopened(const struct upload *u);
/* Is U's fault, an answer of the cache's or the lack of one, the cache's own? */
bool cache_is_to_blame(struct upload *u);
/* U is over: takes it off its cache, frees it, and fills its place. */
void cache_upload_ended(struct upload *u);

#endif
