/* retry, forget, pause, resume. Paths are taken one after the other: each is an operation of the queue. */
#include <inttypes.h>

#include "common/clock.h"
#include "common/log.h"
#include "daemon/server/internal.h"

/* The uploader is told even if nothing changed: it costs nothing, a poke too few would stall, and a person
 * who says retry or resume wants a cache that does not work to be tried now. */
static void poke(struct session *s)
{
	struct uploader *uploader = s->server->parts.uploader;
	uint64_t caches = s->caches != 0 ? s->caches : UINT64_MAX;

	if (uploader != NULL && (s->request.verb == VERB_RETRY || s->request.verb == VERB_RESUME))
		uploader_try_now(uploader, caches);
	else if (uploader != NULL)
		uploader_poke(uploader, caches);
	server_notify(s->server);
}

/* ---- retry, forget --------------------------------------------------------------------------- */

static void select_next(struct session *s);

static void select_end(struct session *s)
{
	struct select_work *w = &s->work.select;

	log_info("%s uid=%u changed=%" PRIu64, verb_name(s->request.verb), s->peer.uid, w->n_changed);
	poke(s);
	record_begin(&s->out, "ok");
	record_uint(&s->out, "changed", w->n_changed);
	record_end(&s->out);
	session_end(s);
}

static void on_selected(struct queue_op *op)
{
	struct session *s = CONTAINER_OF(op, struct session, work.select.op);
	const struct server_config *config = &s->server->config;
	struct select_work *w = &s->work.select;
	struct error err = op->err;

	if (op->verb == QUEUE_RETRY && err.kind == ERROR_NONE)
		w->n_changed += w->retry.n_changed;
	if (op->verb == QUEUE_FORGET && err.kind == ERROR_NONE) {
		w->n_changed += w->forget.n_changed;
		if (w->forget.n_released > 0 && config->on_released != NULL)
			config->on_released(config->ctx, w->forget.released, w->forget.n_released);
	}
	queue_op_fini(op);
	if (!session_is_back(s))
		return;
	if (err.kind != ERROR_NONE)
		session_fail(s, &err);
	else if (w->next_path < s->request.n_paths)
		select_next(s);
	else
		select_end(s);
}

static void select_next(struct session *s)
{
	struct select_work *w = &s->work.select;
	struct queue_selector which = { .caches = s->caches, .failed_only = s->request.failed };

	if (s->server->parts.queue == NULL) {
		session_error(s, ANSWER_BUSY, "the daemon is starting");
		return;
	}
	if (w->next_path < s->request.n_paths)
		which.path = s->request.paths[w->next_path++];
	if (s->request.verb == VERB_RETRY)
		w->retry = (struct queue_retry){
			.op.verb = QUEUE_RETRY,
			.now_unix_s = clock_unix_s(),
			.which = which,
		};
	else
		w->forget = (struct queue_forget){
			.op.verb = QUEUE_FORGET,
			.now_unix_s = clock_unix_s(),
			.which = which,
		};
	session_wait_for(s);
	queue_start(s->server->parts.queue, &w->op, on_selected);
}

void verb_retry(struct session *s)
{
	s->work.select.next_path = 0;
	s->work.select.n_changed = 0;
	select_next(s);
}

void verb_forget(struct session *s)
{
	verb_retry(s);
}

/* ---- pause, resume --------------------------------------------------------------------------- */

static void on_paused(struct queue_op *op)
{
	struct session *s = CONTAINER_OF(op, struct session, work.pause.op);
	struct error err = op->err;

	queue_op_fini(op);
	if (!session_is_back(s))
		return;
	if (err.kind != ERROR_NONE) {
		session_fail(s, &err);
		return;
	}
	log_info("%s uid=%u caches=%#" PRIx64 " until=%" PRId64, verb_name(s->request.verb), s->peer.uid,
	         s->work.pause.caches, s->work.pause.until_unix_s);
	poke(s);
	session_ok(s);
}

static void start_pause(struct session *s, int64_t until_unix_s)
{
	size_t n_caches = s->server->config.config->n_caches;
	uint64_t all = n_caches >= 64 ? UINT64_MAX : (UINT64_C(1) << n_caches) - 1;

	if (s->request.all && s->request.n_caches > 0) {
		session_error(s, ANSWER_USAGE, "%s takes caches or 'all yes', not both",
		              verb_name(s->request.verb));
		return;
	}
	s->work.pause = (struct queue_pause){
		.op.verb = QUEUE_PAUSE,
		.caches = s->request.all ? all : s->caches,
		.until_unix_s = until_unix_s,
	};
	session_wait_for(s);
	queue_start(s->server->parts.queue, &s->work.pause.op, on_paused);
}

void verb_pause(struct session *s)
{
	int64_t until = s->request.until;

	if (until != 0 && until <= clock_unix_s())
		session_error(s, ANSWER_USAGE, "until is in the past");
	else
		start_pause(s, until != 0 ? until : INT64_MAX);
}

void verb_resume(struct session *s)
{
	start_pause(s, 0);
}
