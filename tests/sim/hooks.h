/* Builds and their hooks: what makes paths, protects and hands them over, and what they were promised.
 * A promise is made when a hook hears "ok", when its spool file is durable, and when its own root is made
 * (that one ends with the power).
 * Thread: the one there is. */
#ifndef TESTS_SIM_HOOKS_H
#define TESTS_SIM_HOOKS_H

#include <stdbool.h>
#include <stdint.h>

#define PROMISES_MAX 256

enum promise_kind { PROMISE_ACK, PROMISE_SPOOL, PROMISE_ROOT };
struct promise {
	enum promise_kind kind;
	unsigned path;
	uint64_t caches;     /* bits; never 0 */
	uint64_t kept;       /* those that had it once: what one loses later is no fault of ours */
	unsigned derivation; /* that was handed over in its place; 0: none */
	int64_t request_id;  /* of an ACK */
	bool is_excused;     /* forgotten, given up, or lost with the power */
	bool lacks_row;      /* so was the queue that had it: its root or spool file leads to it */
	bool lacks_root;     /* the root could not be made: it is collected as long as that lasts */
	uint64_t lacks_root_since_ms;
};
extern struct promise promises[PROMISES_MAX];
extern unsigned n_promises;

/* N builds begin within the next WITHIN_MS. */
void hooks_init(unsigned n, uint64_t within_ms);
/* Are all of them over? */
bool hooks_are_done(void);
/* The daemon died: who waits for it sees the connection end. */
void hooks_hang_up(void);
/* The last cache is not configured any more: what was promised of it waits for it to come back. */
void hooks_lose_cache(unsigned cache);
/* The daemon could not make its root of PATH. */
void hooks_root_failed(unsigned path);
/* The queue is gone, or what was written last: what has a root or a spool file is found by that. */
void hooks_lose_queue(void);
/* And then roots that were not durable. */
void hooks_lose_roots(void);
/* No more: their processes died with the machine. */
void hooks_power_cut(void);
/* Spool files whose removal is not durable may be there again. */
void spool_power_cut(void);
bool spool_is_empty(void);
/* Does a file of the spool name PATH? */
bool spool_names(unsigned path);

const char *promise_name(const struct promise *promise);
/* Is, or was, all of its closure where it was promised to be, or is there a filter that keeps it back? */
bool promise_is_kept(const struct promise *promise);
void promise_note_kept(struct promise *promise);

#endif
