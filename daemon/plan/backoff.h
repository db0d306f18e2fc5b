/* What becomes of a job after a fault of its own: try again, when, or give up. Whether it is its own, the
 * breaker says first. Pure: time and randomness are arguments.
 * Thread: any. */
#ifndef DAEMON_PLAN_BACKOFF_H
#define DAEMON_PLAN_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

#define BACKOFF_FIRST_S       2
#define BACKOFF_MAX_S         900
#define BACKOFF_RETRY_AFTER_S 3600 /* the most of a Retry-After that we honour */
#define BACKOFF_MACHINES_S    60   /* the most until what this machine lacked is looked for again */
#define BACKOFF_MISMATCHES    3    /* how often a path may differ from what Nix registered */

struct backoff_case {
	const struct error *fault;
	unsigned attempts; /* of its own, before this one */
	unsigned give_up_after;
	bool is_machines; /* this machine lacks memory, disk space, or an answer of its store */
	uint64_t random;  /* any 64 bits, evenly spread */
};

struct backoff_verdict {
	bool give_up;
	bool counts;      /* an attempt of the job's own */
	uint64_t delay_s; /* when not given up */
};

/* TRANSIENT: full jitter below 2, 4, 8 .. 900 s, never below Retry-After, until give_up_after.
 * OPERATOR, where the cache refuses this path alone: after 1, 5, 15, then every 30 minutes, for ever: a
 * person mends it. The attempt counts, so that the delays grow, but nothing is given up. PERMANENT: gives up.
 * CANCELED: at once, not counted. TRANSIENT and this machine's own: within a minute, not counted, since the
 * path can do nothing about it. */
struct backoff_verdict backoff_decide(const struct backoff_case *c);

/* The delay alone, for what is not a job: ATTEMPTS before this one. */
uint64_t backoff_delay_s(unsigned attempts, uint64_t random, uint32_t retry_after_s);
uint64_t backoff_operator_delay_s(unsigned attempts);
uint64_t backoff_retry_after_s(uint32_t retry_after_s); /* capped */

#endif
