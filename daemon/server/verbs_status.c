/* status: counts in memory, then two reads of the queue. config: the settings in effect. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "daemon/server/internal.h"

#define MAX_UPLOADS_SHOWN 64

struct cache_view {
	const struct queue_counts *counts;
	const char *message; /* or NULL */
	bool has_outage;
	struct upload_outage outage;
	size_t n_in_flight, pace;
	uint64_t n_ready, n_unfinished;
	uint64_t rate_bytes;
	int64_t paused_until_unix_s; /* 0: is not paused */
	bool is_target;
	enum visibility visibility;
};

/* A claimed job is still ready to the queue; what is in flight is shown as that alone. */
static struct cache_view view_cache(const struct server *server, size_t i)
{
	const struct uploader *uploader = server->parts.uploader;
	struct cache_view v = { .counts = queue_cache_counts(server->parts.queue, i) };

	for (int state = 0; state < JOB_N_STATES; state++)
		if (state != JOB_DONE)
			v.n_unfinished += v.counts->jobs[state];
	v.paused_until_unix_s = queue_paused_until_unix_s(server->parts.queue, i);
	if (v.paused_until_unix_s <= clock_unix_s())
		v.paused_until_unix_s = 0;
	if (uploader != NULL) {
		v.message = uploader_message(uploader, i);
		v.has_outage = uploader_get_outage(uploader, i, &v.outage);
		v.pace = uploader_pace(uploader, i);
		v.n_in_flight = uploader_n_in_flight(uploader, i);
		v.visibility = uploader_visibility(uploader, i);
		v.rate_bytes = uploader_rate_bytes(uploader, i);
		v.is_target = (uploader_targets(uploader) >> i & 1) != 0;
	}
	v.n_ready = v.counts->jobs[JOB_READY];
	v.n_ready -= v.n_in_flight < v.n_ready ? v.n_in_flight : v.n_ready;
	return v;
}

static const char *cache_state(const struct cache_view *v)
{
	if (v->paused_until_unix_s != 0)
		return "paused";
	if (!v->is_target)
		return "off";
	if (v->message != NULL)
		return "error";
	if (v->counts->jobs[JOB_DELAYED] > 0 && v->n_ready == 0 && v->n_in_flight == 0)
		return "waiting";
	return "ok";
}

/* A line for each thing that is allowed and may not have been meant. */
static void put_note(struct buf *out, const struct cache_config *cache, enum visibility visibility)
{
	const char *is_unsigned = config_warn_unsigned(cache),
		   *is_public = config_warn_public(cache, visibility);
	char text[1024];

	snprintf(text, sizeof(text), "%s%s%s", is_unsigned != NULL ? is_unsigned : "",
	         is_unsigned != NULL && is_public != NULL ? "\n" : "", is_public != NULL ? is_public : "");
	record_text(out, "note", *text != '\0' ? text : NULL);
}

static void put_cache(struct buf *out, const struct cache_config *cache, const struct cache_view *v)
{
	const struct queue_counts *c = v->counts;

	record_begin(out, "cache");
	record_text(out, "name", cache->name);
	record_text(out, "url", cache->url);
	record_text(out, "state", cache_state(v));
	record_uint(out, "unfinished", v->n_unfinished);
	record_uint(out, "ready", v->n_ready);
	record_uint(out, "delayed", c->jobs[JOB_DELAYED]);
	record_uint(out, "in-flight", v->n_in_flight);
	record_uint(out, "sent", c->jobs[JOB_SENT]);
	record_uint(out, "blocked", c->jobs[JOB_BLOCKED]);
	record_uint(out, "failed", c->jobs[JOB_FAILED]);
	record_uint(out, "done", c->jobs[JOB_DONE]);
	record_uint(out, "uploaded-paths", c->uploaded_paths);
	record_uint(out, "uploaded-bytes", c->uploaded_bytes);
	record_uint(out, "skipped-paths", c->skipped_paths);
	record_uint(out, "present-paths", c->present_paths);
	record_uint(out, "in-upstream-paths", c->in_upstream_paths);
	record_uint(out, "withheld-paths", c->withheld_paths);
	record_uint(out, "failed-paths", c->failed_paths);
	record_uint(out, "rate-bytes", v->rate_bytes);
	if (v->paused_until_unix_s != 0)
		record_int(out, "paused-until",
		           v->paused_until_unix_s == INT64_MAX ? 0 : v->paused_until_unix_s);
	record_uint(out, "pace", v->pace);
	if (v->has_outage) {
		record_text(out, "message-kind", error_kind_name(v->outage.kind));
		record_int(out, "since", v->outage.since_unix_s);
		record_int(out, "next-try", v->outage.next_try_unix_s);
	}
	record_text(out, "message", v->message);
	put_note(out, cache, v->visibility);
	record_end(out);
}

static void put_uploads(struct buf *out, const struct server *server)
{
	const struct config *config = server->config.config;
	struct upload_status uploads[MAX_UPLOADS_SHOWN];
	size_t n = 0;

	if (server->parts.uploader != NULL)
		n = uploader_list(server->parts.uploader, uploads, MAX_UPLOADS_SHOWN);
	for (size_t i = 0; i < n; i++) {
		const struct upload_status *u = &uploads[i];

		record_begin(out, "upload");
		if (u->cache < config->n_caches)
			record_text(out, "cache", config->caches[u->cache].name);
		record_text(out, "path", u->path);
		record_text(out, "step", u->step);
		record_uint(out, "nar-bytes", u->nar_bytes);
		record_uint(out, "done-bytes", u->done_bytes);
		record_int(out, "started", u->started_unix_s);
		record_end(out);
	}
}

static void put_stopping(struct buf *out, const struct server *server)
{
	uint64_t n = queue_root_count(server->parts.queue, ROOT_RESOLVING);
	char text[64];

	if (!server->parts.is_draining)
		return;
	for (size_t i = 0; i < server->config.config->n_caches; i++) {
		struct cache_view v = view_cache(server, i);

		n += v.n_ready + v.n_in_flight;
	}
	snprintf(text, sizeof(text), "draining, %llu left", (unsigned long long)n);
	record_text(out, "stopping", text);
}

static void put_daemon(struct buf *out, const struct server *server)
{
	record_begin(out, "daemon");
	record_text(out, "version", NNCACHE_VERSION);
	record_int(out, "pid", getpid());
	record_int(out, "started", server->started_unix_s);
	record_text(out, "store-dir", server->parts.store_dir);
	record_text(out, "config-error", server->parts.config_error);
	record_text(out, "roots-message", server->parts.roots_message);
	record_text(out, "queue-message", server->parts.queue_message);
	record_text(out, "spool-message", server->parts.spool_message);
	record_uint(out, "spool-files", server->parts.n_spool_files);
	record_uint(out, "bad-spool-files", server->parts.n_bad_spool_files);
	record_bool(out, "user-mode", server->config.config->user_mode);
	put_stopping(out, server);
	record_end(out);
}

/* The sum over the configured caches, and the roots that have no jobs yet or never will. */
static void put_queue(struct buf *out, const struct server *server, const struct queue_read *summary)
{
	uint64_t n_resolving = queue_root_count(server->parts.queue, ROOT_RESOLVING);
	uint64_t n_failed_roots = queue_root_count(server->parts.queue, ROOT_FAILED);
	uint64_t jobs[JOB_N_STATES] = { 0 }, n_in_flight = 0, n_ready = 0;
	uint64_t n_unfinished = n_resolving + n_failed_roots;

	for (size_t i = 0; i < server->config.config->n_caches; i++) {
		struct cache_view v = view_cache(server, i);

		for (int state = 0; state < JOB_N_STATES; state++)
			jobs[state] += v.counts->jobs[state];
		n_in_flight += v.n_in_flight;
		n_ready += v.n_ready;
		n_unfinished += v.n_unfinished;
	}
	record_begin(out, "queue");
	record_uint(out, "resolving", n_resolving);
	record_uint(out, "ready", n_ready);
	record_uint(out, "delayed", jobs[JOB_DELAYED]);
	record_uint(out, "in-flight", n_in_flight);
	record_uint(out, "sent", jobs[JOB_SENT]);
	record_uint(out, "blocked", jobs[JOB_BLOCKED]);
	record_uint(out, "failed", jobs[JOB_FAILED] + n_failed_roots);
	record_uint(out, "done", jobs[JOB_DONE]);
	record_uint(out, "unfinished", n_unfinished);
	record_int(out, "oldest", summary->oldest_unfinished_unix_s);
	record_uint(out, "pinned-paths", summary->pinned_paths);
	record_uint(out, "pinned-nar-bytes", summary->pinned_nar_bytes);
	record_uint(out, "unprotected", summary->unprotected);
	record_int(out, "requests", summary->last_request_id);
	record_end(out);
}

void verbs_put_causes(struct buf *out, const struct queue_cause *causes, size_t n_causes)
{
	for (size_t i = 0; i < n_causes; i++) {
		const struct queue_cause *c = &causes[i];

		record_begin(out, "cause");
		record_text(out, "cache", c->cache);
		record_text(out, "state", job_state_name(c->state));
		record_text(out, "kind", c->error_kind);
		record_uint(out, "jobs", c->n_jobs);
		record_text(out, "path", c->example_path);
		record_int(out, "due", c->next_due_unix_s);
		record_text(out, "text", c->error);
		record_end(out);
	}
}

static void on_causes(struct queue_read *read)
{
	struct session *s = CONTAINER_OF(read, struct session, work.read);

	if (session_is_back(s)) {
		if (read->err.kind != ERROR_NONE) {
			buf_clear(&s->out);
			session_fail(s, &read->err);
		} else {
			verbs_put_causes(&s->out, read->causes, read->n_causes);
			record_end_list(&s->out);
			session_ok(s);
		}
	}
	queue_read_fini(read);
}

static void start_causes(struct session *s)
{
	s->work.read = (struct queue_read){ .verb = QUEUE_CAUSES, .n_max = SESSION_PAGE };
	session_wait_for(s);
	queue_read_start(s->server->parts.queue, &s->work.read, on_causes);
}

static void on_summary(struct queue_read *read)
{
	struct session *s = CONTAINER_OF(read, struct session, work.read);
	struct server *server = s->server;
	const struct config *config = server->config.config;
	struct queue_read summary = *read;

	queue_read_fini(read);
	if (!session_is_back(s))
		return;
	if (summary.err.kind != ERROR_NONE) {
		session_fail(s, &summary.err);
		return;
	}
	if (server->parts.queue == NULL) {
		session_error(s, ANSWER_BUSY, "the daemon is starting");
		return;
	}
	put_daemon(&s->out, server);
	put_queue(&s->out, server, &summary);
	for (size_t i = 0; i < config->n_caches; i++) {
		struct cache_view v = view_cache(server, i);

		put_cache(&s->out, &config->caches[i], &v);
	}
	put_uploads(&s->out, server);
	start_causes(s);
}

void verb_status(struct session *s)
{
	s->work.read = (struct queue_read){ .verb = QUEUE_SUMMARY };
	session_wait_for(s);
	queue_read_start(s->server->parts.queue, &s->work.read, on_summary);
}

/* ---- config ---------------------------------------------------------------------------------- */

/* One line of the settings as INI: a section, "key = value", a comment or nothing. */
static void put_setting(struct buf *out, char *line, char section[256])
{
	char *end = strrchr(line, ']'), *equals = strstr(line, " = ");

	if (*line == '[' && end != NULL) {
		*end = '\0';
		strncpy(section, line + 1, 255);
	} else if (*line != '#' && *line != ';' && equals != NULL) {
		*equals = '\0';
		record_begin(out, "setting");
		record_text(out, "section", section);
		record_text(out, "key", line);
		record_text(out, "value", equals + 3);
		record_end(out);
	}
}

void verb_config(struct session *s)
{
	char section[256] = "", *save = NULL;
	struct buf text;
	char *line;

	buf_init(&text, SESSION_OUT_BYTES);
	config_format(s->server->config.config, &text);
	if (!buf_ok(&text)) {
		session_error(s, ANSWER_TRANSIENT, "out of memory");
	} else {
		for (line = strtok_r(text.data, "\n", &save); line != NULL;
		     line = strtok_r(NULL, "\n", &save))
			put_setting(&s->out, line, section);
		record_end_list(&s->out);
		session_ok(s);
	}
	buf_fini(&text);
}
