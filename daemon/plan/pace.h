/* How many uploads a cache gets at a time: as many as it bears, between 1 and upload-jobs. It begins with all
 * of them; a cache that has too much to do halves it, what goes well raises it by one each time that so many
 * have.
 *
 * Answers to what was under way at the last cut belong to the old pace: a burst of them halves once. Nor is
 * it cut twice within a second, however soon a cache refuses.
 * Pure: time (monotonic) is an argument. Thread: any. */
#ifndef DAEMON_PLAN_PACE_H
#define DAEMON_PLAN_PACE_H

#include <stdint.h>

#define PACE_CUT_MS 1000

struct pace {
	unsigned limit; /* uploads at a time, now */
	unsigned max;
	unsigned n_good; /* since the last raise or cut */
	uint64_t cut_mono_ms;
};

void pace_init(struct pace *pace, unsigned max);
/* A request went well. */
void pace_good(struct pace *pace);
/* A request that began then was answered 429 or 503, or not in time. */
void pace_overload(struct pace *pace, uint64_t began_mono_ms, uint64_t now_mono_ms);

#endif
