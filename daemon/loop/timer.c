#include "daemon/loop/timer.h"

#include <stddef.h>

static void on_timer(uv_timer_t *uv)
{
	struct timer *timer = CONTAINER_OF(uv, struct timer, uv);

	timer->fn(timer);
}

static void on_closed(uv_handle_t *handle)
{
	struct timer *timer = CONTAINER_OF(handle, struct timer, uv);

	if (timer->closed != NULL)
		timer->closed(timer);
}

void timer_init(struct timer *timer, struct loop *loop, timer_fn fn)
{
	timer->fn = fn;
	timer->closed = NULL;
	uv_timer_init(&loop->uv, &timer->uv);
}

void timer_unref(struct timer *timer)
{
	uv_unref((uv_handle_t *)&timer->uv);
}

void timer_set(struct timer *timer, uint64_t delay_ms)
{
	/* uv's idea of now is that of the turn's start: a long turn must not shorten the wait. */
	uv_update_time(timer->uv.loop);
	uv_timer_start(&timer->uv, on_timer, delay_ms, 0);
}

void timer_stop(struct timer *timer)
{
	uv_timer_stop(&timer->uv);
}

bool timer_is_set(const struct timer *timer)
{
	return uv_is_active((const uv_handle_t *)&timer->uv) != 0;
}

void timer_close(struct timer *timer, timer_fn closed)
{
	timer->closed = closed;
	uv_close((uv_handle_t *)&timer->uv, on_closed);
}
