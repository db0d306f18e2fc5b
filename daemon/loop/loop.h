/* The event loop, and the one way to be called back soon. Everything that the daemon knows is
 * owned by the loop's thread; a header that says nothing else means "loop thread only".
 * Async contract of the house: x_start() never calls back before it has returned; done() fires
 * exactly once, also after x_cancel (ERROR_CANCELED); after done() the request is the caller's. */
#ifndef DAEMON_LOOP_LOOP_H
#define DAEMON_LOOP_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "common/error.h"

struct loop_post;
typedef void (*loop_post_fn)(struct loop_post *post);

/* A callback for the next turn; embedded in what it is for. Zeroed is unposted. */
struct loop_post {
	struct loop_post *next;
	loop_post_fn fn;
	bool is_posted;
};

struct loop {
	uv_loop_t uv;
	uv_idle_t idle;
	struct loop_post *first, **last;
};

int loop_init(struct loop *loop, struct error *err) MUST_CHECK;
/* Asserts that every handle was closed. */
void loop_fini(struct loop *loop);
/* Runs until loop_stop, or until nothing is left to wait for. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* Calls FN(POST) in the loop's next turn. A post that is posted already stays where it is. */
void loop_post(struct loop *loop, struct loop_post *post, loop_post_fn fn);
/* Takes POST back; nothing happens if it is not posted. */
void loop_unpost(struct loop *loop, struct loop_post *post);

/* Milliseconds of the monotonic clock, as of the start of this turn. */
uint64_t loop_now_mono_ms(const struct loop *loop);

#endif
