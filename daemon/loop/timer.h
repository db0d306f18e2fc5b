/* One-shot timers on the monotonic clock. A timer belongs to one owner and is set again at will.
 * Close before the memory goes: closed() fires in a later turn, exactly once. */
#ifndef DAEMON_LOOP_TIMER_H
#define DAEMON_LOOP_TIMER_H

#include "daemon/loop/loop.h"

struct timer;
typedef void (*timer_fn)(struct timer *timer);

struct timer {
	uv_timer_t uv;
	timer_fn fn;
	timer_fn closed;
};

void timer_init(struct timer *timer, struct loop *loop, timer_fn fn);
/* Set or not, it does not keep loop_run from returning: nobody waits for it. */
void timer_unref(struct timer *timer);
/* Fires once, DELAY_MS from now; a set timer is set anew. */
void timer_set(struct timer *timer, uint64_t delay_ms);
void timer_stop(struct timer *timer);
bool timer_is_set(const struct timer *timer);
void timer_close(struct timer *timer, timer_fn closed); /* CLOSED may be NULL */

#endif
