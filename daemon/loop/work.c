#include "daemon/loop/work.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

static void on_run(uv_work_t *uv)
{
	struct work *work = CONTAINER_OF(uv, struct work, uv);

	work->run(work);
}

static void on_done(uv_work_t *uv, int status)
{
	struct work *work = CONTAINER_OF(uv, struct work, uv);

	work->was_canceled = status == UV_ECANCELED;
	work->done(work);
}

void work_set_threads(unsigned n_threads)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", n_threads);
	setenv("UV_THREADPOOL_SIZE", text, 1);
}

void work_start(struct loop *loop, struct work *work, work_fn run, work_fn done)
{
	int rc;

	work->run = run;
	work->done = done;
	work->was_canceled = false;
	rc = uv_queue_work(&loop->uv, &work->uv, on_run, on_done);
	assert(rc == 0);
	(void)rc;
}

void work_cancel(struct work *work)
{
	uv_cancel((uv_req_t *)&work->uv);
}
