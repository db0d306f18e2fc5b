/* What must hold. Each function ends the process with a sentence where it does not.
 * Thread: the one there is. */
#ifndef TESTS_SIM_VERIFY_H
#define TESTS_SIM_VERIFY_H

#include <stdbool.h>

#include "tests/sim/fake_store.h"

/* The machine slept, or the clock was set by so much that it must be noticed: a cache whose jobs wait for a
 * probe gets one soon. */
void verify_moved(void);
/* What was to be noticed can have been undone. */
void verify_unmoved(void);
/* After each turn: counts are sound, and what is ready does not lie (I10). */
void verify_turn(void);
/* No path was collected that is promised and not yet everywhere (I1, I3). */
void verify_deleted(const bool deleted[STORE_PATHS_MAX]);
/* A link of the daemon's directory that named PATH is gone. */
void verify_unrooted(unsigned path);
/* The daemon is dead: what was acknowledged is in the file that is left, what is promised can be found (I1),
 * and what is done there is so (I3). */
void verify_queue_file(void);
/* Is nothing left to do, and no root of ours? */
bool verify_is_done(void);
_Noreturn void verify_stuck(void);
/* All is over: every promise is kept, and no cache is broken. */
void verify_end(void);

#endif
