/* A person with nncachectl: retry, pause, resume, forget; and the daemon's own housekeeping.
 * Thread: the one there is. */
#ifndef TESTS_SIM_OPERATOR_H
#define TESTS_SIM_OPERATOR_H

#include "daemon/queue/queue.h"

/* One thing or the other. QUEUE NULL: the daemon does not run. */
void operator_does(struct queue *queue);
/* From now on: no cache is paused, and what failed is tried again. */
void operator_heals(void);
/* The daemon died: what was asked of it may be done, or not. */
void operator_hang_up(void);

#endif
