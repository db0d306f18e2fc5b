/* Stands in the place of daemon/loop: one thread, a clock that jumps, and a scheduler that chooses by
 * chance among all that could happen next. It keeps the order that libuv keeps: a turn fires due timers,
 * then posts, then some of what is ready (lanes, work, events), then closes. What lane threads and
 * workers do happens at any time between two callbacks, a batch or a work item at once.
 * There is one loop. The clocks of the whole program are the simulated one (--wrap=clock_gettime).
 * Thread: the one there is. */
#ifndef TESTS_SIM_FAKE_LOOP_H
#define TESTS_SIM_FAKE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

/* Since the simulation began. */
uint64_t fake_now_ms(void);
/* Never back. */
void fake_clock_go(uint64_t to_ms);
/* The wall clock jumps. */
void fake_clock_step_s(int64_t by_s);
/* The machine sleeps: the monotonic clock, and all that is set by it, stands still meanwhile. */
void fake_clock_sleep_s(uint64_t for_s);

/* Something from outside the daemon that happens later: an answer of a cache, a step of a hook. */
struct fake_event;
typedef void (*fake_event_fn)(struct fake_event *event);
struct fake_event { /* the caller's until it fired; zeroed is unset */
	struct fake_event *next;
	fake_event_fn fn;
	uint64_t due_ms;
	bool is_set;
	bool is_awaited;
};
void fake_event_in(struct fake_event *event, uint64_t delay_ms, fake_event_fn fn);
/* The same; and the daemon waits for it. */
void fake_answer_in(struct fake_event *event, uint64_t delay_ms, fake_event_fn fn);
bool fake_loop_awaits_answers(void);
void fake_event_take_back(struct fake_event *event);

/* One turn. Where nothing is ready the clock jumps to the next timer or event first. */
void fake_loop_turn(void);
/* Is nothing on its way that needs no clock: no post, no lane or work to run or to tell of? */
bool fake_loop_is_idle(void);
/* The process died: all of it is forgotten but the events and the clock. */
void fake_loop_forget(void);
/* Called between any two steps, on the loop and on lane threads; may leave by longjmp. */
void fake_loop_between(void (*fn)(void));

/* Tells those who watch a directory; an event may be lost, as with inotify. */
void fake_watch_changed(void);

#endif
