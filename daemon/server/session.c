/* A session's memory goes when nothing refers to it any more: both handles are closed and no operation
 * is out. Since the last of these may be an operation whose callback still looks at the session, it is
 * freed in the loop's next turn. */
#include "daemon/server/session.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/crash.h"
#include "common/log.h"
#include "common/store_path.h"
#include "daemon/server/internal.h"

enum who { ANYONE, PUSHERS, CONTROLLERS };

static const struct {
	session_fn fn;
	enum who who;
	bool can_wait_for_parts;
} verbs[] = {
	[VERB_ENQUEUE] = { verb_enqueue, PUSHERS, true },
	[VERB_PUSH] = { verb_enqueue, PUSHERS, true },
	[VERB_STATUS] = { verb_status, ANYONE, false },
	[VERB_LIST] = { verb_list, ANYONE, false },
	[VERB_SHOW] = { verb_show, ANYONE, false },
	[VERB_WAIT] = { verb_wait, ANYONE, false },
	[VERB_RETRY] = { verb_retry, PUSHERS, false },
	[VERB_FORGET] = { verb_forget, CONTROLLERS, false },
	[VERB_PAUSE] = { verb_pause, CONTROLLERS, false },
	[VERB_RESUME] = { verb_resume, CONTROLLERS, false },
	[VERB_CONFIG] = { verb_config, ANYONE, false },
	[VERB_VERIFY] = { verb_verify, PUSHERS, false },
	[VERB_CATCH_UP] = { verb_catch_up, PUSHERS, false },
};

/* ---- life and death -------------------------------------------------------------------------- */

static void on_free(struct loop_post *post)
{
	struct session *s = CONTAINER_OF(post, struct session, free_post);

	request_fini(&s->request);
	buf_fini(&s->in);
	buf_fini(&s->out);
	server_forget_session(s->server, s);
	free(s);
}

static void free_if_done(struct session *s)
{
	if (s->n_handles == 0 && !s->is_waiting)
		loop_post(s->server->config.loop, &s->free_post, on_free);
}

static void on_pipe_closed(uv_handle_t *handle)
{
	struct session *s = handle->data;

	s->n_handles--;
	free_if_done(s);
}

static void on_timer_closed(struct timer *timer)
{
	struct session *s = CONTAINER_OF(timer, struct session, timer);

	s->n_handles--;
	free_if_done(s);
}

void session_close(struct session *s)
{
	if (s->state == SESSION_CLOSING)
		return;
	s->state = SESSION_CLOSING;
	s->on_news = s->on_parts = s->on_timer = NULL;
	if (s->on_close != NULL)
		s->on_close(s);
	s->on_close = NULL;
	uv_close((uv_handle_t *)&s->pipe, on_pipe_closed);
	timer_close(&s->timer, on_timer_closed);
}

void session_wait_for(struct session *s)
{
	assert(!s->is_waiting);
	s->is_waiting = true;
}

bool session_is_back(struct session *s)
{
	assert(s->is_waiting);
	s->is_waiting = false;
	if (s->state != SESSION_CLOSING)
		return true;
	free_if_done(s);
	return false;
}

static void on_timer(struct timer *timer)
{
	struct session *s = CONTAINER_OF(timer, struct session, timer);

	if (s->is_writing || s->on_timer == NULL)
		session_close(s);
	else
		s->on_timer(s);
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void on_written(uv_write_t *write, int status)
{
	struct session *s = write->data;
	session_fn then = s->then;

	crash_point(SERVER_ANSWERED);
	s->is_writing = false;
	if (s->state == SESSION_CLOSING)
		return;
	timer_stop(&s->timer);
	buf_clear(&s->out);
	if (status < 0 || s->state == SESSION_ENDING)
		session_close(s);
	else
		then(s);
}

void session_flush(struct session *s, session_fn then)
{
	uv_buf_t data = uv_buf_init(s->out.data, (unsigned)s->out.len);
	int rc;

	assert(!s->is_writing);
	if (!buf_ok(&s->out)) {
		log_warning("answer dropped uid=%u: it does not fit the memory for it", s->peer.uid);
		session_close(s);
		return;
	}
	s->then = then;
	s->is_writing = true;
	s->write.data = s;
	timer_set(&s->timer, s->server->is_closing ? SESSION_LAST_WRITE_MS : SESSION_WRITE_MS);
	rc = uv_write(&s->write, (uv_stream_t *)&s->pipe, &data, 1, on_written);
	if (rc < 0) {
		s->is_writing = false;
		session_close(s);
	}
}

void session_end(struct session *s)
{
	s->state = SESSION_ENDING;
	session_flush(s, NULL);
}

void session_ok(struct session *s)
{
	record_begin(&s->out, "ok");
	record_end(&s->out);
	session_end(s);
}

void session_error(struct session *s, enum answer_kind kind, const char *format, ...)
{
	char text[sizeof(((struct error *)0)->text)];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log_debug("request turned down uid=%u kind=%s: %s", s->peer.uid, answer_kind_name(kind), text);
	answer_format_error(&s->out, kind, text);
	session_end(s);
}

void session_fail(struct session *s, const struct error *err)
{
	session_error(s, err->kind == ERROR_PERMANENT ? ANSWER_REFUSED : ANSWER_TRANSIENT, "%s", err->text);
}

/* ---- a whole request ------------------------------------------------------------------------- */

static bool is_allowed(const struct peer *peer, enum who who)
{
	switch (who) {
	case ANYONE:
		return true;
	case PUSHERS:
		return peer->may_push;
	case CONTROLLERS:
		return peer->may_control;
	}
	return false;
}

static void deny(struct session *s, const char *what, enum who who)
{
	const struct config *config = s->server->config.config;
	const char *group = who == PUSHERS ? config->push_group : config->control_group;

	if (group == NULL || *group == '\0')
		session_error(s, ANSWER_DENIED, "%s is for root", what);
	else
		session_error(s, ANSWER_DENIED, "%s is for root and members of the group %s", what, group);
}

static void unknown_cache(struct session *s, const char *name)
{
	const struct config *config = s->server->config.config;
	struct buf names;

	buf_init(&names, 300);
	for (size_t i = 0; i < config->n_caches; i++)
		buf_printf(&names, "%s%s", i == 0 ? "" : ", ", config->caches[i].name);
	session_error(s, ANSWER_UNKNOWN, "unknown cache \"%s\"; configured: %s", name,
	              config->n_caches == 0 ? "none" : buf_text(&names));
	buf_fini(&names);
}

/* False: the session was answered. */
static bool find_caches(struct session *s)
{
	const struct config *config = s->server->config.config;

	for (size_t i = 0; i < s->request.n_caches; i++) {
		const struct cache_config *cache = config_find_cache(config, s->request.caches[i]);

		if (cache == NULL) {
			unknown_cache(s, s->request.caches[i]);
			return false;
		}
		s->caches |= UINT64_C(1) << (cache - config->caches);
	}
	return true;
}

static bool paths_are_good(struct session *s)
{
	struct error err;

	if (request_check_paths(&s->request, s->server->parts.store_dir, &err) == 0)
		return true;
	session_fail(s, &err);
	return false;
}

static void too_long_without_parts(struct session *s)
{
	s->on_parts = s->on_timer = NULL;
	session_error(s, ANSWER_BUSY, "the daemon is starting");
}

static void dispatch(struct session *s)
{
	enum verb verb = s->request.verb;

	s->on_parts = s->on_timer = NULL;
	timer_stop(&s->timer);
	if (s->server->parts.queue == NULL && verbs[verb].can_wait_for_parts) {
		s->on_parts = dispatch;
		s->on_timer = too_long_without_parts;
		timer_set(&s->timer, SESSION_HOLD_MS);
	} else if (s->server->parts.queue == NULL) {
		session_error(s, ANSWER_BUSY, "the daemon is starting");
	} else if (find_caches(s) && paths_are_good(s)) {
		verbs[verb].fn(s);
	}
}

static void on_request(struct session *s)
{
	struct error err;

	crash_point(SERVER_REQUEST);
	uv_read_stop((uv_stream_t *)&s->pipe);
	timer_stop(&s->timer);
	s->on_timer = NULL;
	s->state = SESSION_WORKING;
	if (request_parse(&s->request, s->in.data, s->in.len, &err) < 0) {
		session_error(s, err.kind == ERROR_TRANSIENT ? ANSWER_TRANSIENT : ANSWER_USAGE, "%s",
		              err.text);
		return;
	}
	buf_fini(&s->in);
	if (!is_allowed(&s->peer, verbs[s->request.verb].who))
		deny(s, verb_name(s->request.verb), verbs[s->request.verb].who);
	else if (s->request.repair && !is_allowed(&s->peer, CONTROLLERS))
		deny(s, "repair", CONTROLLERS);
	else
		dispatch(s);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
	struct session *s = handle->data;
	char *room = buf_reserve(&s->in, 16384);
	(void)suggested;

	*ret = uv_buf_init(room, room == NULL ? 0 : 16384);
}

/* A client that does not speak the protocol gets to know it at its first line, not after 5 s. */
static bool begins_wrong(const struct session *s)
{
	static const char start[] = "nncache ";
	size_t n = s->in.len < sizeof(start) - 1 ? s->in.len : sizeof(start) - 1;

	return memcmp(s->in.data, start, n) != 0;
}

static void refuse(struct session *s, enum answer_kind kind, const char *text)
{
	uv_read_stop((uv_stream_t *)&s->pipe);
	session_error(s, kind, "%s", text);
}

static void on_silence(struct session *s)
{
	refuse(s, ANSWER_TIMEOUT, "the request did not arrive within 5 s");
}

static void on_read(uv_stream_t *stream, ssize_t n_read, const uv_buf_t *data)
{
	struct session *s = stream->data;
	(void)data;

	if (n_read == 0)
		return;
	if (n_read == UV_EOF && s->in.len > 0) {
		on_request(s); /* whose parser says what is missing */
		return;
	}
	if (n_read < 0) {
		session_close(s);
		return;
	}
	s->in.len += (size_t)n_read;
	if (begins_wrong(s))
		refuse(s, ANSWER_USAGE, "line 1: expected 'nncache 1 VERB'");
	else if (s->in.len > REQUEST_MAX_BYTES)
		refuse(s, ANSWER_TOO_LARGE, "the request is larger than 262144 bytes");
	else if (request_is_complete(s->in.data, s->in.len, s->n_checked))
		on_request(s);
	else
		s->n_checked = s->in.len;
}

struct session *session_new(struct server *server, int fd, const struct peer *peer)
{
	struct session *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		close(fd);
		return NULL;
	}
	s->server = server;
	s->peer = *peer;
	/* A client may send more than is allowed before we see it. */
	buf_init(&s->in, REQUEST_MAX_BYTES + 32768);
	buf_init(&s->out, SESSION_OUT_BYTES);
	uv_pipe_init(&server->config.loop->uv, &s->pipe, 0);
	s->pipe.data = s;
	timer_init(&s->timer, server->config.loop, on_timer);
	s->n_handles = 2;
	s->on_timer = on_silence;
	timer_set(&s->timer, SESSION_REQUEST_MS);
	if (uv_pipe_open(&s->pipe, fd) < 0) {
		close(fd);
		session_close(s);
	} else if (uv_read_start((uv_stream_t *)&s->pipe, on_alloc, on_read) < 0) {
		session_close(s);
	}
	return s;
}
