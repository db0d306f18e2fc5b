/* One piece of work on the shared worker threads (libuv's pool): packing, file writing.
 * Nothing ever waits inside run(): a piece takes milliseconds and returns. The pool's size is
 * set once with work_set_threads before first use.
 * Thread: start on the loop; run() on a worker, with the caller's private data; done() on the
 * loop, exactly once, also after work_cancel (then was_canceled is true and run() never ran). */
#ifndef DAEMON_LOOP_WORK_H
#define DAEMON_LOOP_WORK_H

#include "daemon/loop/loop.h"

struct work;
typedef void (*work_fn)(struct work *work);

struct work {
	uv_work_t uv;
	work_fn run;
	work_fn done;
	bool was_canceled;
};

void work_set_threads(unsigned n_threads); /* 1 to 1024; before any work is started */
void work_start(struct loop *loop, struct work *work, work_fn run, work_fn done);
/* Takes back work that has not begun; work that runs is not disturbed. */
void work_cancel(struct work *work);

#endif
