/* One run: builds, hooks, an operator, the garbage collector, faults, and the daemon's lives and deaths, all
 * from one seed; at its end everything is healed, and every promise must be kept.
 * Thread: the one there is. */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Below DIR, which is there and empty. Returns when all holds; else the process ends (violated). Once in a
 * process. */
void world_run(const char *dir);

/* The same without trouble, but that at the AT-th boundary of a sync (one before it, one after it, and one
 * before a journal is deleted) the power is cut; 0: never. N_POINTS counts the boundaries. */
struct world_cut {
	uint64_t at;
	bool loses_all; /* that was not synced; else some of it */
	atomic_uint_fast64_t *n_points;
};
void world_run_cut(const char *dir, const struct world_cut *cut);

#endif
