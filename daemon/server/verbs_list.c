/* list and show: rows by key, a page at a time, the next one read when the last is written. */
#include <string.h>

#include "daemon/server/internal.h"

#define LIST_DEFAULT    200
#define LIST_UNFINISHED (-1)
#define LIST_ALL        (-2)

static const char *result_name(enum job_result result)
{
	switch (result) {
	case JOB_UPLOADED:
		return "uploaded";
	case JOB_PRESENT:
		return "present";
	case JOB_IN_UPSTREAM:
		return "in-upstream";
	case JOB_WITHHELD:
		return "withheld";
	}
	return "unknown";
}

static void put_time(struct buf *out, const char *key, int64_t unix_s)
{
	if (unix_s != 0)
		record_int(out, key, unix_s);
}

static void put_row(struct buf *out, const struct queue_row *row)
{
	record_begin(out, "job");
	record_int(out, "id", row->job_id);
	record_text(out, "path", row->path);
	if (row->is_root_only) {
		record_text(out, "state", root_state_name(row->root_state));
	} else {
		record_text(out, "cache", row->cache);
		record_text(out, "state", job_state_name(row->state));
		if (row->state == JOB_DONE)
			record_text(out, "result", result_name(row->result));
	}
	record_bool(out, "root", row->is_root);
	record_uint(out, "attempts", row->attempts);
	record_int(out, "rank", row->rank);
	put_time(out, "enqueued", row->enqueued_unix_s);
	put_time(out, "not-before", row->not_before_unix_s);
	put_time(out, "finished", row->finished_unix_s);
	record_uint(out, "nar-size", row->nar_size);
	record_uint(out, "file-size", row->file_size);
	record_text(out, "kind", row->error_kind);
	record_text(out, "text", row->error);
	record_text(out, "tag", row->tag);
	record_bool(out, "unprotected", row->unprotected);
	record_end(out);
}

/* ---- list ------------------------------------------------------------------------------------ */

static bool find_state(const char *name, int *ret)
{
	if (name == NULL || strcmp(name, "unfinished") == 0) {
		*ret = LIST_UNFINISHED;
		return true;
	}
	if (strcmp(name, "all") == 0) {
		*ret = LIST_ALL;
		return true;
	}
	for (int state = 0; state < JOB_N_STATES; state++)
		if (strcmp(name, job_state_name((enum job_state)state)) == 0) {
			*ret = state;
			return true;
		}
	return false;
}

static void read_page(struct session *s);

static void end_list(struct session *s, int64_t last_id, bool more)
{
	record_end_list(&s->out);
	record_begin(&s->out, "ok");
	record_int(&s->out, "last", last_id);
	record_bool(&s->out, "more", more);
	record_end(&s->out);
	session_end(s);
}

static void on_page(struct queue_read *read)
{
	struct session *s = CONTAINER_OF(read, struct session, work.list.read);
	struct list_work *list = &s->work.list;
	bool is_last;

	if (!session_is_back(s)) {
		queue_read_fini(read);
		return;
	}
	if (read->err.kind != ERROR_NONE) {
		session_fail(s, &read->err);
		queue_read_fini(read);
		return;
	}
	for (size_t i = 0; i < read->n_rows; i++)
		put_row(&s->out, &read->rows[i]);
	is_last = read->n_rows < read->n_max;
	list->n_left -= read->n_rows;
	if (read->n_rows > 0)
		s->request.after = read->last_id;
	queue_read_fini(read);
	if (is_last || list->n_left == 0)
		end_list(s, s->request.after, !is_last);
	else
		session_flush(s, read_page);
}

static void read_page(struct session *s)
{
	struct list_work *list = &s->work.list;
	int state = LIST_UNFINISHED;

	if (s->server->parts.queue == NULL) {
		session_error(s, ANSWER_BUSY, "the daemon is starting");
		return;
	}
	if (!find_state(s->request.state, &state)) {
		session_error(s, ANSWER_USAGE,
		              "unknown state \"%s\"; expected unfinished, all, ready, delayed, "
		              "sent, blocked, failed or done",
		              s->request.state);
		return;
	}
	list->read = (struct queue_read){
		.verb = QUEUE_LIST,
		.cache = s->request.n_caches > 0 ? s->request.caches[0] : NULL,
		.state = state,
		.after_id = s->request.after,
		.n_max = list->n_left < SESSION_PAGE ? list->n_left : SESSION_PAGE,
	};
	session_wait_for(s);
	queue_read_start(s->server->parts.queue, &list->read, on_page);
}

void verb_list(struct session *s)
{
	s->work.list = (struct list_work){ .n_left = LIST_DEFAULT };
	if (s->request.limit != 0)
		s->work.list.n_left = (size_t)s->request.limit;
	if (s->request.n_caches > 1)
		session_error(s, ANSWER_USAGE, "list takes one cache");
	else
		read_page(s);
}

/* ---- show ------------------------------------------------------------------------------------ */

static void on_shown(struct queue_read *read)
{
	struct session *s = CONTAINER_OF(read, struct session, work.read);

	if (session_is_back(s)) {
		if (read->err.kind != ERROR_NONE) {
			session_fail(s, &read->err);
		} else if (read->n_rows == 0) {
			session_error(s, ANSWER_UNKNOWN, "%s was never handed over", s->request.paths[0]);
		} else {
			for (size_t i = 0; i < read->n_rows; i++)
				put_row(&s->out, &read->rows[i]);
			record_end_list(&s->out);
			session_ok(s);
		}
	}
	queue_read_fini(read);
}

void verb_show(struct session *s)
{
	s->work.read = (struct queue_read){
		.verb = QUEUE_SHOW,
		.path = s->request.paths[0],
		.n_max = 1000,
	};
	session_wait_for(s);
	queue_read_start(s->server->parts.queue, &s->work.read, on_shown);
}
