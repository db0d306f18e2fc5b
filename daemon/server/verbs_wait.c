/* wait: asks the queue whenever there may be news, and shows what changed.
 *
 *     (bound) -> ask -> show -> idle -> ask ... -> settle -> causes -> ok
 *
 * It ends when everything is finished, or nothing of it can go on by itself. A read sees what is committed
 * before the loop hears of it, which is after an fsync: before the answer it settles, so that who asks for
 * the status next is not told of what is over.
 *
 * While nothing changes the last progress is repeated now and then: a client that left is found out by that,
 * and a client sees that the daemon lives. While the daemon changes its parts the wait goes on. */
#include <string.h>

#include "common/clock.h"
#include "daemon/server/internal.h"

static void ask(struct session *s);
static void idle(struct session *s);
static void on_news(struct session *s);

static void finish(struct session *s)
{
	const struct wait_work *w = &s->work.wait;

	record_begin(&s->out, "ok");
	record_uint(&s->out, "failed", w->shown.n_failed);
	record_uint(&s->out, "blocked", w->shown.n_blocked);
	record_bool(&s->out, "stuck", w->is_stuck);
	record_end(&s->out);
	session_end(s);
}

/* What a paused cache holds back has no error of its own; the pause is the cause. */
static void put_pauses(struct session *s)
{
	const struct server *server = s->server;

	for (size_t i = 0; i < server->config.config->n_caches; i++) {
		const struct queue_counts *counts = queue_cache_counts(server->parts.queue, i);
		int64_t until = queue_paused_until_unix_s(server->parts.queue, i);
		uint64_t n = counts->jobs[JOB_READY] + counts->jobs[JOB_DELAYED] + counts->jobs[JOB_SENT];

		if (n == 0 || until <= clock_unix_s())
			continue;
		record_begin(&s->out, "cause");
		record_text(&s->out, "cache", server->config.config->caches[i].name);
		record_text(&s->out, "state", "paused");
		record_uint(&s->out, "jobs", n);
		record_int(&s->out, "due", until == INT64_MAX ? 0 : until);
		record_text(&s->out, "text", "paused by an operator");
		record_end(&s->out);
	}
}

static void on_causes(struct queue_read *read)
{
	struct session *s = CONTAINER_OF(read, struct session, work.wait.read);

	if (session_is_back(s)) {
		/* The wait is over either way; a read that failed only leaves the reasons out. */
		if (read->err.kind == ERROR_NONE)
			verbs_put_causes(&s->out, read->causes, read->n_causes);
		if (s->server->parts.queue != NULL)
			put_pauses(s);
		finish(s);
	}
	queue_read_fini(read);
}

/* The read, for the paths, tag or requests that were asked for. */
static struct queue_read read_of(struct session *s, enum queue_read_verb verb)
{
	return (struct queue_read){
		.verb = verb,
		.paths = s->request.paths,
		.n_paths = s->request.n_paths,
		.tag = s->request.tag,
		.request_id = s->work.wait.request_id,
		.n_max = SESSION_PAGE,
	};
}

/* An operation of the queue comes back behind those before it. */
static void on_settled(struct queue_op *op)
{
	struct session *s = CONTAINER_OF(op, struct session, work.wait.settle.op);
	struct wait_work *w = &s->work.wait;
	const struct queue_wait_state *state = &w->shown;

	queue_op_fini(op);
	if (!session_is_back(s))
		return;
	if (state->n_unfinished == 0 && state->n_failed == 0 && state->n_blocked == 0) {
		finish(s);
		return;
	}
	if (s->server->parts.queue == NULL) {
		s->on_news = on_news;
		idle(s);
		return;
	}
	w->read = read_of(s, QUEUE_CAUSES);
	session_wait_for(s);
	queue_read_start(s->server->parts.queue, &w->read, on_causes);
}

static void settle(struct session *s)
{
	struct wait_work *w = &s->work.wait;

	w->settle = (struct queue_explain){ .op.verb = QUEUE_EXPLAIN };
	session_wait_for(s);
	queue_start(s->server->parts.queue, &w->settle.op, on_settled);
}

static void put_progress(struct session *s)
{
	const struct queue_wait_state *state = &s->work.wait.shown;

	record_begin(&s->out, "progress");
	record_uint(&s->out, "total", state->n_total);
	record_uint(&s->out, "unfinished", state->n_unfinished);
	record_uint(&s->out, "failed", state->n_failed);
	record_uint(&s->out, "blocked", state->n_blocked);
	record_uint(&s->out, "moving", state->n_moving);
	record_end(&s->out);
}

static void on_news(struct session *s)
{
	struct wait_work *w = &s->work.wait;

	if (w->is_idle)
		ask(s);
	else
		w->has_news = true;
}

static void on_heartbeat(struct session *s)
{
	s->work.wait.was_shown = false;
	ask(s);
}

static void idle(struct session *s)
{
	struct wait_work *w = &s->work.wait;

	if (w->has_news && s->server->parts.queue != NULL) {
		ask(s);
		return;
	}
	w->is_idle = true;
	s->on_timer = on_heartbeat;
	timer_set(&s->timer, SESSION_HEARTBEAT_MS);
}

static void show(struct session *s, const struct queue_wait_state *state)
{
	struct wait_work *w = &s->work.wait;
	bool is_new = !w->was_shown || memcmp(&w->shown, state, sizeof(*state)) != 0;

	w->shown = *state;
	w->was_shown = true;
	if (is_new)
		put_progress(s);
	if (state->n_unfinished == 0 || state->n_moving == 0) {
		s->on_news = NULL;
		w->is_stuck = state->n_unfinished > 0;
		settle(s);
	} else if (is_new) {
		session_flush(s, idle);
	} else {
		idle(s);
	}
}

static void on_waited(struct queue_read *read)
{
	struct session *s = CONTAINER_OF(read, struct session, work.wait.read);
	struct queue_read got = *read;

	queue_read_fini(read);
	if (!session_is_back(s))
		return;
	if (s->server->parts.queue == NULL)
		idle(s);
	else if (got.err.kind != ERROR_NONE)
		session_fail(s, &got.err);
	else if (s->request.tag != NULL && !got.tag_known)
		session_error(s, ANSWER_UNKNOWN, "no request has the tag \"%s\"", s->request.tag);
	else
		show(s, &got.wait);
}

static void ask(struct session *s)
{
	struct wait_work *w = &s->work.wait;

	timer_stop(&s->timer);
	if (s->server->parts.queue == NULL) {
		idle(s);
		return;
	}
	w->is_idle = w->has_news = false;
	w->read = read_of(s, QUEUE_WAIT);
	session_wait_for(s);
	queue_read_start(s->server->parts.queue, &w->read, on_waited);
}

static void on_bound(struct queue_read *read)
{
	struct session *s = CONTAINER_OF(read, struct session, work.wait.read);
	struct queue_read got = *read;

	queue_read_fini(read);
	if (!session_is_back(s))
		return;
	if (got.err.kind != ERROR_NONE) {
		session_fail(s, &got.err);
		return;
	}
	s->work.wait.request_id = got.last_request_id;
	s->on_news = on_news;
	ask(s);
}

/* Without anything named it is about all that was accepted until now. */
void verb_wait(struct session *s)
{
	struct wait_work *w = &s->work.wait;

	*w = (struct wait_work){ .request_id = s->request.request_id };
	if (s->request.n_paths > 0 || s->request.tag != NULL || w->request_id != 0) {
		s->on_news = on_news;
		ask(s);
		return;
	}
	w->read = (struct queue_read){ .verb = QUEUE_SUMMARY };
	session_wait_for(s);
	queue_read_start(s->server->parts.queue, &w->read, on_bound);
}
