/* A lane: threads of its own for work that blocks (SQLite, the store), in the order posted.
 * The shared pool of work.h is for what never waits.
 * A thread takes a batch: up to max_batch waiting jobs, all there are (this is how the queue
 * gathers a transaction), and hands it to run_batch(); then each job's done() fires on the loop.
 * Thread: post and close on the loop; run_batch() on a lane thread. */
#ifndef DAEMON_LOOP_LANE_H
#define DAEMON_LOOP_LANE_H

#include <stddef.h>

#include "daemon/loop/loop.h"

struct lane;
struct lane_job;
typedef void (*lane_job_fn)(struct lane_job *job);

struct lane_job {
	struct lane_job *next; /* within a batch: the next one, NULL at its end */
	lane_job_fn done;
};

struct lane_ops {
	/* Runs all jobs of BATCH, linked by next, in order. THREAD is 0 .. n_threads-1. */
	void (*run_batch)(void *ctx, unsigned thread, struct lane_job *batch);
};

/* Starts N_THREADS named NAME (at most 15 bytes). CTX is OPS's own, and outlives the lane. */
int lane_open(struct lane **ret, struct loop *loop, const char *name, unsigned n_threads, size_t max_batch,
              const struct lane_ops *ops, void *ctx, struct error *err) MUST_CHECK;

void lane_post(struct lane *lane, struct lane_job *job, lane_job_fn done);

typedef void (*lane_closed_fn)(void *ctx);
/* Runs what was posted to its end, lets every done() fire, joins the threads, then calls
 * CLOSED(CLOSED_CTX) and is gone. No post after this. Takes NULL (CLOSED is then not called). */
void lane_close(struct lane *lane, lane_closed_fn closed, void *closed_ctx);

#endif
