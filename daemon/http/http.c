/* curl's multi interface, driven by libuv. curl says which sockets to watch and when to wake it;
 * we wake it, and after each time return what has finished to its owner.
 *
 * A request waits in its client's line (client.c), runs as an easy handle (request.c), and ends on one of
 * three ways: curl's message, http_cancel, or a failure to launch; the latter two through a post, so that
 * done never fires inside start or cancel. */
#include "daemon/http/http.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>

#include "common/log.h"
#include "daemon/http/internal.h"

struct socket_watch {
	uv_poll_t poll;
	struct http *http;
	curl_socket_t fd;
};

/* Returns every finished transfer to its owner; one wake-up may finish many. A done() may close us. */
static void http_reap(struct http *http)
{
	CURLMsg *msg;
	int n_left;

	while (!http->closing && (msg = curl_multi_info_read(http->multi, &n_left)) != NULL) {
		CURLcode code = msg->data.result; /* MSG dies with the removal of its handle */
		char *req = NULL;

		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &req);
		request_finish((struct http_request *)(void *)req, code);
	}
}

static void http_pump(struct http *http, curl_socket_t fd, int what)
{
	int n_running;

	curl_multi_socket_action(http->multi, fd, what, &n_running);
	http_reap(http);
}

static void on_handle_closed(struct http *http)
{
	http_closed_fn closed = http->closed;
	void *ctx = http->closed_ctx;

	if (--http->n_handles > 0 || !http->closing)
		return;
	free(http);
	curl_global_cleanup();
	if (closed != NULL)
		closed(ctx);
}

static void on_watch_closed(uv_handle_t *handle)
{
	struct socket_watch *watch = CONTAINER_OF(handle, struct socket_watch, poll);
	struct http *http = watch->http;

	free(watch);
	on_handle_closed(http);
}

static void on_socket_ready(uv_poll_t *poll, int status, int events)
{
	struct socket_watch *watch = CONTAINER_OF(poll, struct socket_watch, poll);
	int what = 0;

	/* A broken socket is ready for both: curl then finds out why, as with CURL_CSELECT_ERR it
	 * would not. */
	if (status < 0 || events & UV_READABLE)
		what |= CURL_CSELECT_IN;
	if (status < 0 || events & UV_WRITABLE)
		what |= CURL_CSELECT_OUT;
	http_pump(watch->http, watch->fd, what);
}

static struct socket_watch *watch_new(struct http *http, curl_socket_t fd)
{
	struct socket_watch *watch = calloc(1, sizeof(*watch));

	if (watch == NULL)
		return NULL;
	watch->http = http;
	watch->fd = fd;
	if (uv_poll_init(&http->loop->uv, &watch->poll, fd) != 0) {
		free(watch);
		return NULL;
	}
	http->n_handles++;
	curl_multi_assign(http->multi, fd, watch);
	return watch;
}

/* Told once, until it goes again: what becomes of the transfer says only that it took too long. */
static void note_watch(struct http *http, bool is_there)
{
	if (!is_there && !http->lacks_watch)
		log_warning("a connection cannot be watched, for want of memory or of /proc/sys/fs/epoll/"
		            "max_user_watches: it goes on slowly");
	http->lacks_watch = !is_there;
}

/* curl also calls this from curl_multi_cleanup, to take leave of pooled connections; by then no
 * new watch may start.
 *
 * What cannot be watched, for want of memory, is left to curl's own timers and time limits, and tried again
 * with the next change. -1 would end every other transfer as well, and curl 7.88 crashes if one of them is
 * still without a connection. */
static int on_socket_change(CURL *easy, curl_socket_t fd, int what, void *ctx, void *watch_ptr)
{
	struct http *http = ctx;
	struct socket_watch *watch = watch_ptr;
	int events = 0;
	(void)easy;

	if (what == CURL_POLL_REMOVE) {
		if (watch != NULL)
			uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
		return 0;
	}
	if (http->closing)
		return 0;
	if (watch == NULL)
		watch = watch_new(http, fd);
	if (what & CURL_POLL_IN)
		events |= UV_READABLE;
	if (what & CURL_POLL_OUT)
		events |= UV_WRITABLE;
	if (watch != NULL && uv_poll_start(&watch->poll, events, on_socket_ready) != 0) {
		uv_poll_stop(&watch->poll);
		watch = NULL;
	}
	note_watch(http, watch != NULL);
	return 0;
}

static void on_timer(struct timer *timer)
{
	http_pump(CONTAINER_OF(timer, struct http, timer), CURL_SOCKET_TIMEOUT, 0);
}

static int on_timer_change(CURLM *multi, long timeout_ms, void *ctx)
{
	struct http *http = ctx;
	(void)multi;

	if (http->closing)
		return 0;
	if (timeout_ms < 0)
		timer_stop(&http->timer);
	else
		timer_set(&http->timer, (uint64_t)timeout_ms); /* 0 is the next turn */
	return 0;
}

int http_open(struct http **ret, struct loop *loop, struct error *err)
{
	struct http *http = calloc(1, sizeof(*http));

	if (http == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		free(http);
		return error_set(err, ERROR_TRANSIENT, "libcurl cannot be set up");
	}
	http->multi = curl_multi_init();
	if (http->multi == NULL) {
		curl_global_cleanup();
		free(http);
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	}
	signal(SIGPIPE, SIG_IGN);
	http->loop = loop;
	timer_init(&http->timer, loop, on_timer);
	http->n_handles = 1;
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, on_socket_change);
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_timer_change);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
	curl_multi_setopt(http->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
	*ret = http;
	return 0;
}

static void on_timer_closed(struct timer *timer)
{
	on_handle_closed(CONTAINER_OF(timer, struct http, timer));
}

void http_close(struct http *http, http_closed_fn closed, void *ctx)
{
	if (http == NULL)
		return;
	assert(http->n_clients == 0 && !http->closing);
	http->closing = true;
	http->closed = closed;
	http->closed_ctx = ctx;
	curl_multi_cleanup(http->multi);
	timer_close(&http->timer, on_timer_closed);
}
