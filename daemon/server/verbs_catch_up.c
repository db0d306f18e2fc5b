/* catch-up: what was built here and nobody handed over, a page of the store's paths at a time:
 *
 *   read -> known? -> flush -> read ... -> ok
 */
#include <stdlib.h>

#include "common/clock.h"
#include "daemon/server/internal.h"

static void read_page(struct session *s);

static void free_paths(struct catch_up_work *w)
{
	for (size_t i = 0; i < w->n_paths; i++)
		free(w->paths[i]);
	free(w->paths);
	w->paths = NULL;
	w->n_paths = 0;
}

static void end(struct session *s)
{
	record_end_list(&s->out);
	record_begin(&s->out, "ok");
	record_uint(&s->out, "paths", s->work.catch_up.n_found);
	record_end(&s->out);
	session_end(s);
}

static void put_page(struct session *s)
{
	struct catch_up_work *w = &s->work.catch_up;

	for (size_t i = 0; i < w->n_paths; i++) {
		if (w->is_known[i])
			continue;
		record_begin(&s->out, "built");
		record_text(&s->out, "path", w->paths[i]);
		record_end(&s->out);
		w->n_found++;
	}
}

static void on_known(struct queue_op *op)
{
	struct session *s = CONTAINER_OF(op, struct session, work.catch_up.known.op);
	struct catch_up_work *w = &s->work.catch_up;
	bool is_last = w->n_paths < STORE_BUILT_PAGE;
	struct error err = op->err;

	if (!session_is_back(s)) {
		free_paths(w);
		return;
	}
	if (err.kind == ERROR_NONE)
		put_page(s);
	free_paths(w);
	if (err.kind != ERROR_NONE)
		session_fail(s, &err);
	else if (is_last)
		end(s);
	else if (s->out.len > 0)
		session_flush(s, read_page);
	else
		read_page(s);
}

static void ask_known(struct session *s)
{
	struct catch_up_work *w = &s->work.catch_up;
	size_t n_caches = s->server->config.config->n_caches;
	uint64_t all = n_caches >= 64 ? UINT64_MAX : (UINT64_C(1) << n_caches) - 1;
	const struct uploader *uploader = s->server->parts.uploader;

	if (uploader != NULL)
		all &= uploader_targets(uploader);
	w->known = (struct queue_known){
		.op.verb = QUEUE_KNOWN,
		.now_unix_s = clock_unix_s(),
		.caches = s->caches != 0 ? s->caches : all,
		.paths = (const char *const *)w->paths,
		.n_paths = w->n_paths,
		.is_known = w->is_known,
	};
	session_wait_for(s);
	queue_start(s->server->parts.queue, &w->known.op, on_known);
}

static void on_page(struct store_built_query *query)
{
	struct session *s = CONTAINER_OF(query, struct session, work.catch_up.built);
	struct catch_up_work *w = &s->work.catch_up;
	struct error err = query->err;

	w->paths = query->paths;
	w->n_paths = query->n_paths;
	w->after_id = query->last_id;
	if (!session_is_back(s)) {
		free_paths(w);
		return;
	}
	if (err.kind == ERROR_NONE && s->server->parts.queue != NULL) {
		ask_known(s);
		return;
	}
	free_paths(w);
	if (err.kind != ERROR_NONE)
		session_fail(s, &err);
	else
		session_error(s, ANSWER_BUSY, "the daemon is starting");
}

static void read_page(struct session *s)
{
	struct catch_up_work *w = &s->work.catch_up;

	if (s->server->parts.queue == NULL) {
		session_error(s, ANSWER_BUSY, "the daemon is starting");
		return;
	}
	w->built = (struct store_built_query){ .since_unix_s = s->request.since, .after_id = w->after_id };
	session_wait_for(s);
	store_built_start(s->server->parts.store, &w->built, on_page);
}

void verb_catch_up(struct session *s)
{
	s->work.catch_up = (struct catch_up_work){ 0 };
	read_page(s);
}
