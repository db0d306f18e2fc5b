#include "daemon/loop/watch.h"

#include <stddef.h>

static void on_event(uv_fs_event_t *uv, const char *name, int events, int status)
{
	struct watch *watch = CONTAINER_OF(uv, struct watch, uv);
	(void)name;
	(void)events;
	(void)status;

	watch->changed(watch);
}

static void on_closed(uv_handle_t *handle)
{
	struct watch *watch = CONTAINER_OF(handle, struct watch, uv);

	if (watch->closed != NULL)
		watch->closed(watch);
}

int watch_open(struct watch *watch, struct loop *loop, const char *dir, watch_fn changed, struct error *err)
{
	int rc;

	watch->changed = changed;
	watch->closed = NULL;
	uv_fs_event_init(&loop->uv, &watch->uv);
	rc = uv_fs_event_start(&watch->uv, on_event, dir, 0);
	if (rc != 0)
		return error_set(err, ERROR_TRANSIENT, "cannot watch %s: %s", dir, uv_strerror(rc));
	return 0;
}

void watch_close(struct watch *watch, watch_fn closed)
{
	watch->closed = closed;
	uv_close((uv_handle_t *)&watch->uv, on_closed);
}
