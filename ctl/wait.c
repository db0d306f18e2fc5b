/* wait: the daemon says how far it is, the terminal shows a bar, and what failed is said once. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "ctl/connect.h"
#include "ctl/model.h"
#include "ctl/paths.h"

#define BAR_COLUMNS 32

struct waiting {
	struct wait_result before; /* of earlier waits */
	struct wait_result *result;
	bool has_bar;
};

static void draw_bar(const struct wait_result *r)
{
	uint64_t n_done = r->n_unfinished < r->n_total ? r->n_total - r->n_unfinished : 0;
	char bar[BAR_COLUMNS + 1];

	output_bar(bar, BAR_COLUMNS, n_done, r->n_total);
	fprintf(stderr, "\r\033[K%s %" PRIu64 " of %" PRIu64 " paths", bar, n_done, r->n_total);
	if (r->n_failed + r->n_blocked > 0)
		fprintf(stderr, ", %" PRIu64 " failed or blocked", r->n_failed + r->n_blocked);
	fflush(stderr);
}

static void take_progress(struct waiting *w, const struct record *record)
{
	struct wait_result *r = w->result;

	r->n_total = w->before.n_total + record_get_uint(record, "total");
	r->n_unfinished = w->before.n_unfinished + record_get_uint(record, "unfinished");
	r->n_failed = w->before.n_failed + record_get_uint(record, "failed");
	r->n_blocked = w->before.n_blocked + record_get_uint(record, "blocked");
	if (w->has_bar)
		draw_bar(r);
}

static void take_cause(struct wait_result *result, const struct record *record)
{
	json_t *cause = model_cause(record), *known;
	size_t i;

	json_array_foreach(result->causes, i, known) if (json_equal(known, cause))
	{
		json_decref(cause);
		return;
	}
	json_array_append_new(result->causes, cause);
}

static void on_record(void *ctx, struct record *record)
{
	struct waiting *w = ctx;

	if (strcmp(record->word, "progress") == 0)
		take_progress(w, record);
	else if (strcmp(record->word, "cause") == 0)
		take_cause(w->result, record);
}

int wait_run(struct ctl *ctl, const struct request *req, uint64_t deadline_mono_ms,
             struct wait_result *result)
{
	struct waiting w = { .before = *result,
		             .result = result,
		             .has_bar = !ctl->json && isatty(STDERR_FILENO) != 0 };
	struct call call = { .deadline_mono_ms = deadline_mono_ms };
	enum call_result rc;
	int status;

	if (result->causes == NULL)
		result->causes = json_array();
	rc = call_run(&call, ctl->socket, req, on_record, &w);
	if (w.has_bar)
		fputs("\r\033[K", stderr);
	status = call_explain(ctl, &call, rc);
	if (rc == CALL_OK) {
		bool is_stuck = record_get_bool(&call.answer.fields, "stuck");

		result->is_stuck |= is_stuck;
		if (is_stuck || record_get_uint(&call.answer.fields, "failed") > 0 ||
		    record_get_uint(&call.answer.fields, "blocked") > 0)
			status = CTL_PATHS;
	}
	call_close(&call);
	return status;
}

static void report_failure(int status, const struct wait_result *r)
{
	struct output o;

	if (status == CTL_TIMEOUT) {
		ctl_say("time-out: %" PRIu64 " of %" PRIu64 " paths are not finished", r->n_unfinished,
		        r->n_total);
		return;
	}
	ctl_say("%" PRIu64 " of %" PRIu64 " paths cannot go on by themselves: %" PRIu64 " failed, %" PRIu64
	        " blocked",
	        r->n_unfinished, r->n_total, r->n_failed, r->n_blocked);
	output_init_for(&o, stderr);
	screen_causes(&o, r->causes, "failed blocked paused", clock_unix_s());
	output_flush(&o, stderr);
	output_fini(&o);
}

static void report_success(const struct wait_result *r)
{
	if (r->n_total == 0)
		puts("Nothing was left to upload.");
	else
		printf("%" PRIu64 " %s finished.\n", r->n_total, r->n_total == 1 ? "path is" : "paths are");
}

int wait_report(struct ctl *ctl, int status, struct wait_result *r, json_t *model)
{
	bool is_result = status == CTL_DONE || status == CTL_PATHS || status == CTL_TIMEOUT;

	if (is_result && ctl->json) {
		if (model == NULL)
			model = json_object();
		json_object_set_new(model, "finished", json_boolean(status == CTL_DONE));
		json_object_set_new(model, "timed_out", json_boolean(status == CTL_TIMEOUT));
		json_object_set_new(model, "stuck", json_boolean(r->is_stuck));
		json_object_set_new(model, "total", json_integer((json_int_t)r->n_total));
		json_object_set_new(model, "unfinished", json_integer((json_int_t)r->n_unfinished));
		json_object_set_new(model, "failed", json_integer((json_int_t)r->n_failed));
		json_object_set_new(model, "blocked", json_integer((json_int_t)r->n_blocked));
		json_object_set(model, "causes", r->causes);
		model_dates(model);
		if (output_json(model, JSON_INDENT(2)) < 0)
			status = CTL_FAILED;
		model = NULL;
	} else if (is_result && status == CTL_DONE) {
		report_success(r);
	} else if (is_result) {
		report_failure(status, r);
	}
	json_decref(model);
	json_decref(r->causes);
	r->causes = NULL;
	return status;
}

/* ---- the verb -------------------------------------------------------------------------------- */

int wait_is_known(struct ctl *ctl, const char *path, bool *ret)
{
	const char *paths[1] = { path };
	struct request req = { .verb = VERB_SHOW, .paths = paths, .n_paths = 1 };
	struct call call = { 0 };
	enum call_result result = call_run(&call, ctl->socket, &req, NULL, NULL);
	int status = CTL_DONE;

	*ret = result == CALL_OK;
	if (result != CALL_REFUSED || call.answer.kind != ANSWER_UNKNOWN)
		status = call_explain(ctl, &call, result);
	call_close(&call);
	return status;
}

static int push_unknown(struct ctl *ctl, const struct path_list *list)
{
	struct path_list unknown = { 0 };
	struct request base = { 0 };
	struct push_result pushed = { 0 };
	int status = CTL_DONE;
	struct error err;
	bool is_known;

	for (size_t i = 0; i < list->n && status == CTL_DONE; i++) {
		status = wait_is_known(ctl, list->items[i], &is_known);
		if (!is_known && path_list_add(&unknown, list->items[i], &err) < 0) {
			ctl_say("%s", err.text);
			status = CTL_FAILED;
		}
	}
	if (status == CTL_DONE && unknown.n > 0)
		status = push_run(ctl, &unknown, &base, &pushed);
	json_decref(pushed.request_ids);
	path_list_fini(&unknown);
	return status;
}

int wait_for_list(struct ctl *ctl, const struct path_list *list, uint64_t deadline_mono_ms,
                  struct wait_result *result)
{
	int worst = CTL_DONE;

	for (size_t i = 0; i < list->n;) {
		const char *chunk[REQUEST_MAX_PATHS];
		struct request req = { .verb = VERB_WAIT, .paths = chunk };
		int status;

		req.n_paths = paths_chunk(list, i, chunk);
		i += req.n_paths;
		status = wait_run(ctl, &req, deadline_mono_ms, result);
		if (status == CTL_PATHS)
			worst = status;
		else if (status != CTL_DONE)
			return status;
	}
	return worst;
}

static int wait_for_paths(struct ctl *ctl, uint64_t deadline_mono_ms, struct wait_result *result)
{
	struct path_list list;
	int status = paths_of_operands(ctl, false, &list), worst = CTL_DONE;

	if (status == CTL_DONE)
		status = push_unknown(ctl, &list);
	if (status == CTL_DONE)
		worst = wait_for_list(ctl, &list, deadline_mono_ms, result);
	path_list_fini(&list);
	return status != CTL_DONE ? status : worst;
}

int ctl_wait(struct ctl *ctl)
{
	struct request req = { .verb = VERB_WAIT, .tag = args_get(&ctl->args, "tag") };
	struct wait_result result = { 0 };
	uint64_t timeout_s, deadline_mono_ms;
	int status;

	if (ctl_get_seconds(ctl, "timeout", &timeout_s) != CTL_DONE)
		return CTL_USAGE;
	if (ctl->args.n_operands > 0 && req.tag != NULL)
		return ctl_usage(ctl, "wait takes paths or --tag, not both");
	deadline_mono_ms = timeout_s > 0 ? clock_mono_ms() + timeout_s * 1000 : 0;
	if (ctl->args.n_operands > 0)
		status = wait_for_paths(ctl, deadline_mono_ms, &result);
	else
		status = wait_run(ctl, &req, deadline_mono_ms, &result);
	return wait_report(ctl, status, &result, NULL);
}
