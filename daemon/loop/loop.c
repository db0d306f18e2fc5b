#include "daemon/loop/loop.h"

#include <assert.h>
#include <string.h>

static void run_posts(struct loop *loop)
{
	struct loop_post end = { .is_posted = true };

	/* Only what was posted before this turn: a post may post again. One at a time, since
	 * one may take another back. */
	*loop->last = &end;
	loop->last = &end.next;
	while (loop->first != &end) {
		struct loop_post *post = loop->first;

		loop->first = post->next;
		*post = (struct loop_post){ .fn = post->fn };
		post->fn(post);
	}
	loop->first = end.next;
	if (loop->last == &end.next)
		loop->last = &loop->first;
}

static void on_idle(uv_idle_t *idle)
{
	struct loop *loop = CONTAINER_OF(idle, struct loop, idle);

	uv_idle_stop(idle);
	run_posts(loop);
}

int loop_init(struct loop *loop, struct error *err)
{
	int rc;

	memset(loop, 0, sizeof(*loop));
	loop->last = &loop->first;
	rc = uv_loop_init(&loop->uv);
	if (rc != 0)
		return error_set(err, ERROR_TRANSIENT, "event loop: %s", uv_strerror(rc));
	uv_idle_init(&loop->uv, &loop->idle);
	return 0;
}

void loop_fini(struct loop *loop)
{
	int rc;

	uv_close((uv_handle_t *)&loop->idle, NULL);
	uv_run(&loop->uv, UV_RUN_DEFAULT);
	rc = uv_loop_close(&loop->uv);
	assert(rc == 0);
	(void)rc;
}

void loop_run(struct loop *loop)
{
	uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *loop)
{
	uv_stop(&loop->uv);
}

void loop_post(struct loop *loop, struct loop_post *post, loop_post_fn fn)
{
	if (post->is_posted)
		return;
	*post = (struct loop_post){ .fn = fn, .is_posted = true };
	*loop->last = post;
	loop->last = &post->next;
	uv_idle_start(&loop->idle, on_idle);
}

void loop_unpost(struct loop *loop, struct loop_post *post)
{
	struct loop_post **at = &loop->first;

	if (!post->is_posted)
		return;
	while (*at != NULL && *at != post)
		at = &(*at)->next;
	assert(*at == post);
	*at = post->next;
	if (loop->last == &post->next)
		loop->last = at;
	*post = (struct loop_post){ 0 };
}

uint64_t loop_now_mono_ms(const struct loop *loop)
{
	return uv_now(&loop->uv);
}
