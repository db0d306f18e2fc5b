/* list and show. */
#include <inttypes.h>
#include <string.h>

#include "common/clock.h"
#include "common/units.h"
#include "ctl/connect.h"
#include "ctl/model.h"
#include "ctl/paths.h"

#define PAGE 1000

/* ---- list ------------------------------------------------------------------------------------ */

struct listing {
	struct output o;
	bool is_json, has_rows, has_failed;
	int64_t now_unix_s;
};

static void put_why(struct output *o, const json_t *job, int64_t now_unix_s)
{
	int64_t due = model_get_int(job, "not_before");
	char text[UNITS_TEXT_SIZE];

	if (due > now_unix_s)
		output_put(o, STYLE_DIM, "  in %s", units_format_seconds(due - now_unix_s, text));
	if (model_has(job, "text"))
		output_put(o, STYLE_DIM, "  %s", model_get_text(job, "text"));
}

static enum style state_style(const char *state)
{
	if (strcmp(state, "failed") == 0 || strcmp(state, "blocked") == 0)
		return STYLE_BAD;
	return strcmp(state, "delayed") == 0 ? STYLE_WARN : STYLE_PLAIN;
}

static void put_head(struct output *o)
{
	output_put(o, STYLE_DIM, "%-10s%-12s%8s%10s  %s", "STATE", "CACHE", "AGE", "NAR", "PATH");
	output_end_line(o);
}

static void put_job(struct output *o, const json_t *job, int64_t now_unix_s)
{
	const char *state = model_get_text(job, "state");
	int64_t enqueued = model_get_int(job, "enqueued");
	char age[UNITS_TEXT_SIZE] = "-", size[UNITS_TEXT_SIZE] = "-";

	if (enqueued > 0)
		units_format_seconds(now_unix_s - enqueued, age);
	if (model_get_uint(job, "nar_size") > 0)
		units_format_bytes(model_get_uint(job, "nar_size"), size);
	output_left(o, state_style(state), 10, state);
	output_left(o, STYLE_PLAIN, 12, model_has(job, "cache") ? model_get_text(job, "cache") : "-");
	output_right(o, STYLE_PLAIN, 8, age);
	output_right(o, STYLE_PLAIN, 10, size);
	output_put(o, STYLE_PLAIN, "  %s", model_get_text(job, "path"));
	put_why(o, job, now_unix_s);
	output_end_line(o);
}

static void on_job(void *ctx, struct record *record)
{
	struct listing *l = ctx;
	json_t *job;

	if (strcmp(record->word, "job") != 0)
		return;
	job = model_job(record);
	if (job == NULL) {
		l->has_failed = true;
	} else if (l->is_json) {
		model_dates(job);
		fputs(l->has_rows ? ",\n" : "\n", stdout);
		if (json_dumpf(job, stdout, JSON_COMPACT) < 0)
			l->has_failed = true;
	} else {
		if (!l->has_rows)
			put_head(&l->o);
		put_job(&l->o, job, l->now_unix_s);
		output_flush(&l->o, stdout);
	}
	l->has_rows = true;
	json_decref(job);
}

/* All pages. The JSON is closed only when they were whole: a cut listing does not parse. */
static int list_pages(struct ctl *ctl, struct request *req, struct listing *l)
{
	int status = CTL_DONE;
	bool more = true;

	while (status == CTL_DONE && more && ferror(stdout) == 0) {
		struct call call = { 0 };
		enum call_result result = call_run(&call, ctl->socket, req, on_job, l);

		status = call_explain(ctl, &call, result);
		if (result == CALL_OK) {
			int64_t last = record_get_int(&call.answer.fields, "last");

			more = record_get_bool(&call.answer.fields, "more") && last > req->after;
			req->after = last;
		}
		call_close(&call);
	}
	if (l->has_failed || fflush(stdout) == EOF)
		return CTL_FAILED;
	return status;
}

int ctl_list(struct ctl *ctl)
{
	struct request req = { .verb = VERB_LIST, .state = args_get(&ctl->args, "state"), .limit = PAGE };
	struct listing l = { .is_json = ctl->json, .now_unix_s = clock_unix_s() };
	int status;

	if (ctl->args.n_operands > 0)
		return ctl_usage(ctl, "list takes no \"%s\"", ctl->args.operands[0]);
	if (ctl_get_caches(ctl, "cache", &req) != CTL_DONE)
		return CTL_USAGE;
	if (req.n_caches > 1)
		return ctl_usage(ctl, "list takes one cache");
	output_init_for(&l.o, stdout);
	if (ctl->json)
		fputs("{\"jobs\":[", stdout);
	status = list_pages(ctl, &req, &l);
	if (ctl->json && status == CTL_DONE)
		puts("\n]}");
	output_fini(&l.o);
	return status;
}

/* ---- show ------------------------------------------------------------------------------------ */

static void on_shown(void *ctx, struct record *record)
{
	if (strcmp(record->word, "job") == 0)
		json_array_append_new(ctx, model_job(record));
}

static void put_time(struct output *o, const char *name, int64_t unix_s, int64_t now_unix_s)
{
	char utc[CLOCK_TEXT_SIZE], age[UNITS_TEXT_SIZE];
	int64_t away = unix_s > now_unix_s ? unix_s - now_unix_s : now_unix_s - unix_s;

	if (unix_s == 0)
		return;
	output_put(o, STYLE_PLAIN, "    %-10s %s, %s%s%s", name, clock_format_utc(unix_s, utc),
	           unix_s > now_unix_s ? "in " : "", units_format_seconds(away, age),
	           unix_s > now_unix_s ? "" : " ago");
	output_end_line(o);
}

static void put_field(struct output *o, const char *name, const char *text)
{
	if (*text == '\0')
		return;
	output_put(o, STYLE_PLAIN, "    %-10s %s", name, text);
	output_end_line(o);
}

static void put_details(struct output *o, const json_t *job, int64_t now_unix_s)
{
	const char *state = model_get_text(job, "state");
	char text[UNITS_TEXT_SIZE];

	output_put(o, STYLE_BOLD, "  %s",
	           model_has(job, "cache") ? model_get_text(job, "cache") : "no cache yet");
	output_put(o, state_style(state), "  %s", state);
	if (model_has(job, "result"))
		output_put(o, STYLE_PLAIN, " (%s)", model_get_text(job, "result"));
	output_end_line(o);
	put_field(o, "why", model_get_text(job, "text"));
	if (model_get_uint(job, "nar_size") > 0)
		put_field(o, "NAR", units_format_bytes(model_get_uint(job, "nar_size"), text));
	if (model_get_uint(job, "file_size") > 0)
		put_field(o, "file", units_format_bytes(model_get_uint(job, "file_size"), text));
	if (model_get_uint(job, "attempts") > 0) {
		output_put(o, STYLE_PLAIN, "    %-10s %" PRIu64, "attempts", model_get_uint(job, "attempts"));
		output_end_line(o);
	}
	put_time(o, "accepted", model_get_int(job, "enqueued"), now_unix_s);
	put_time(o, "next try", model_get_int(job, "not_before"), now_unix_s);
	put_time(o, "finished", model_get_int(job, "finished"), now_unix_s);
	put_field(o, "tag", model_get_text(job, "tag"));
	if (json_is_true(json_object_get(job, "unprotected")))
		put_field(o, "root", "no longer protected from garbage collection");
}

static int show_jobs(struct ctl *ctl, const char *path, json_t *jobs)
{
	int64_t now = clock_unix_s();
	struct output o;
	json_t *job;
	size_t i;

	if (ctl->json) {
		json_t *model = json_pack("{s:o, s:o}", "path", model_text(path), "jobs", jobs);

		model_dates(model);
		return output_json(model, JSON_INDENT(2)) < 0 ? CTL_FAILED : CTL_DONE;
	}
	output_init_for(&o, stdout);
	output_put(&o, STYLE_BOLD, "%s", path);
	output_end_line(&o);
	json_array_foreach(jobs, i, job) put_details(&o, job, now);
	output_flush(&o, stdout);
	output_fini(&o);
	json_decref(jobs);
	return CTL_DONE;
}

int ctl_show(struct ctl *ctl)
{
	char path[STORE_PATH_SIZE];
	const char *paths[1] = { path };
	struct request req = { .verb = VERB_SHOW, .paths = paths, .n_paths = 1 };
	struct call call = { 0 };
	struct error err;
	enum call_result result;
	json_t *jobs;
	int status;

	if (ctl->args.n_operands != 1)
		return ctl_usage(ctl, "show takes one path");
	if (paths_resolve(ctl->args.operands[0], paths_store_dir(), path, &err) < 0) {
		ctl_say("%s", err.text);
		return CTL_USAGE;
	}
	jobs = json_array();
	result = call_run(&call, ctl->socket, &req, on_shown, jobs);
	status = call_explain(ctl, &call, result);
	call_close(&call);
	if (result == CALL_OK)
		return show_jobs(ctl, path, jobs);
	json_decref(jobs);
	return status;
}
