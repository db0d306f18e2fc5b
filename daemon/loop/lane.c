#include "daemon/loop/lane.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct lane_thread {
	struct lane *lane;
	pthread_t id;
	unsigned index;
};

struct lane {
	const struct lane_ops *ops;
	void *ctx;
	size_t max_batch;

	pthread_mutex_t lock; /* guards the two lists and closing */
	pthread_cond_t more;
	struct lane_job *first, **last;
	struct lane_job *first_done, **last_done;
	bool closing;

	uv_async_t wake;
	size_t n_pending; /* loop only: posted and not yet done */
	lane_closed_fn closed;
	void *closed_ctx;

	unsigned n_threads;
	char name[16];
	struct lane_thread threads[];
};

static struct lane_job *take_batch(struct lane *lane)
{
	struct lane_job *batch = lane->first, *end = batch;

	for (size_t n = 1; n < lane->max_batch && end->next != NULL; n++)
		end = end->next;
	lane->first = end->next;
	if (lane->first == NULL)
		lane->last = &lane->first;
	end->next = NULL;
	return batch;
}

static void *thread_main(void *arg)
{
	struct lane_thread *thread = arg;
	struct lane *lane = thread->lane;
	struct lane_job *batch;

	pthread_setname_np(pthread_self(), lane->name);
	pthread_mutex_lock(&lane->lock);
	for (;;) {
		while (lane->first == NULL && !lane->closing)
			pthread_cond_wait(&lane->more, &lane->lock);
		if (lane->first == NULL)
			break;
		batch = take_batch(lane);
		pthread_mutex_unlock(&lane->lock);
		lane->ops->run_batch(lane->ctx, thread->index, batch);
		pthread_mutex_lock(&lane->lock);
		*lane->last_done = batch;
		while (*lane->last_done != NULL)
			lane->last_done = &(*lane->last_done)->next;
		/* Outside the lock, which who is woken takes at once. */
		pthread_mutex_unlock(&lane->lock);
		uv_async_send(&lane->wake);
		pthread_mutex_lock(&lane->lock);
	}
	pthread_mutex_unlock(&lane->lock);
	return NULL;
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct lane *lane = CONTAINER_OF(handle, struct lane, wake);
	lane_closed_fn closed = lane->closed;
	void *ctx = lane->closed_ctx;

	pthread_mutex_destroy(&lane->lock);
	pthread_cond_destroy(&lane->more);
	free(lane);
	if (closed != NULL)
		closed(ctx);
}

static void maybe_close(struct lane *lane)
{
	if (!lane->closing || lane->n_pending > 0 || uv_is_closing((uv_handle_t *)&lane->wake))
		return;
	for (unsigned i = 0; i < lane->n_threads; i++)
		pthread_join(lane->threads[i].id, NULL);
	uv_close((uv_handle_t *)&lane->wake, on_handle_closed);
}

static void on_wake(uv_async_t *wake)
{
	struct lane *lane = CONTAINER_OF(wake, struct lane, wake);
	struct lane_job *job;

	pthread_mutex_lock(&lane->lock);
	job = lane->first_done;
	lane->first_done = NULL;
	lane->last_done = &lane->first_done;
	pthread_mutex_unlock(&lane->lock);
	while (job != NULL) {
		struct lane_job *next = job->next;

		job->next = NULL;
		lane->n_pending--;
		job->done(job);
		job = next;
	}
	if (lane->n_pending == 0)
		uv_unref((uv_handle_t *)&lane->wake);
	maybe_close(lane);
}

int lane_open(struct lane **ret, struct loop *loop, const char *name, unsigned n_threads, size_t max_batch,
              const struct lane_ops *ops, void *ctx, struct error *err)
{
	struct lane *lane = calloc(1, sizeof(*lane) + n_threads * sizeof(lane->threads[0]));
	int rc;

	if (lane == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	lane->ops = ops;
	lane->ctx = ctx;
	lane->max_batch = max_batch;
	lane->last = &lane->first;
	lane->last_done = &lane->first_done;
	strncpy(lane->name, name, sizeof(lane->name) - 1);
	pthread_mutex_init(&lane->lock, NULL);
	pthread_cond_init(&lane->more, NULL);
	rc = uv_async_init(&loop->uv, &lane->wake, on_wake);
	assert(rc == 0);
	/* An idle lane alone does not keep the loop running. */
	uv_unref((uv_handle_t *)&lane->wake);
	for (; lane->n_threads < n_threads; lane->n_threads++) {
		struct lane_thread *thread = &lane->threads[lane->n_threads];

		*thread = (struct lane_thread){ .lane = lane, .index = lane->n_threads };
		rc = pthread_create(&thread->id, NULL, thread_main, thread);
		if (rc != 0) {
			lane_close(lane, NULL, NULL);
			return error_set(err, ERROR_TRANSIENT, "cannot start thread %s: %s", name,
			                 strerror(rc));
		}
	}
	*ret = lane;
	return 0;
}

void lane_post(struct lane *lane, struct lane_job *job, lane_job_fn done)
{
	assert(!lane->closing);
	job->next = NULL;
	job->done = done;
	if (lane->n_pending++ == 0)
		uv_ref((uv_handle_t *)&lane->wake);
	pthread_mutex_lock(&lane->lock);
	*lane->last = job;
	lane->last = &job->next;
	pthread_mutex_unlock(&lane->lock);
	pthread_cond_signal(&lane->more);
}

void lane_close(struct lane *lane, lane_closed_fn closed, void *closed_ctx)
{
	if (lane == NULL)
		return;
	lane->closed = closed;
	lane->closed_ctx = closed_ctx;
	pthread_mutex_lock(&lane->lock);
	lane->closing = true;
	pthread_cond_broadcast(&lane->more);
	pthread_mutex_unlock(&lane->lock);
	uv_ref((uv_handle_t *)&lane->wake);
	maybe_close(lane);
}
