/* verify: what the daemon finds on a cache, a line each as it comes; then, with --repair, the wait for what
 * it enqueued. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/units.h"
#include "ctl/connect.h"
#include "ctl/model.h"
#include "ctl/paths.h"

struct verifying {
	struct output o;
	bool is_json, has_bar, has_rows, has_failed;
	struct path_list enqueued;
};

/* ---- records --------------------------------------------------------------------------------- */

/* What a person is to do, or what was done. */
static const char *repair_text(const char *repair)
{
	static const char *const texts[][2] = {
		{ "upload", "--repair uploads it again" },
		{ "enqueued", "enqueued" },
		{ "impossible", "cannot be repaired from here: it is no longer in the store" },
		{ "failed", "could not be enqueued" },
	};

	for (size_t i = 0; i < N_ELEMENTS(texts); i++)
		if (strcmp(texts[i][0], repair) == 0)
			return texts[i][1];
	return NULL;
}

static void put_finding(struct verifying *v, const json_t *finding)
{
	const char *what = model_get_text(finding, "what");
	const char *repair = repair_text(model_get_text(finding, "repair"));
	bool is_fault = strcmp(what, "other-build") != 0 && strcmp(what, "unchecked") != 0;

	output_left(&v->o, is_fault ? STYLE_BAD : STYLE_WARN, 13, what);
	output_put(&v->o, STYLE_PLAIN, "%s: %s", model_get_text(finding, "path"),
	           model_get_text(finding, "text"));
	if (repair != NULL)
		output_put(&v->o, STYLE_DIM, " (%s%s%s)", repair, model_has(finding, "fault") ? ": " : "",
		           model_get_text(finding, "fault"));
	output_end_line(&v->o);
	output_flush(&v->o, stdout);
}

static void take_finding(struct verifying *v, const struct record *record)
{
	const char *upload = record_get(record, "upload"), *repair = record_get(record, "repair");
	json_t *finding = model_finding(record);
	struct error err;

	if (finding == NULL) {
		v->has_failed = true;
	} else if (v->is_json) {
		fputs(v->has_rows ? ",\n" : "\n", stdout);
		v->has_failed |= json_dumpf(finding, stdout, JSON_COMPACT) < 0;
	} else {
		if (v->has_bar)
			fputs("\r\033[K", stderr);
		put_finding(v, finding);
	}
	v->has_rows = true;
	json_decref(finding);
	if (repair != NULL && upload != NULL && strcmp(repair, "enqueued") == 0 &&
	    path_list_add(&v->enqueued, upload, &err) < 0)
		v->has_failed = true;
}

static void show_progress(const struct record *record)
{
	uint64_t n = record_get_uint(record, "paths"), n_total = record_get_uint(record, "total");
	char bar[32], bytes[UNITS_TEXT_SIZE];

	output_bar(bar, sizeof(bar) - 1, n, n_total);
	fprintf(stderr, "\r\033[K%s %" PRIu64 " of %" PRIu64 " paths", bar, n, n_total);
	if (record_get_uint(record, "bytes") > 0)
		fprintf(stderr, ", %s read", units_format_bytes(record_get_uint(record, "bytes"), bytes));
	fflush(stderr);
}

static void on_record(void *ctx, struct record *record)
{
	struct verifying *v = ctx;

	if (strcmp(record->word, "finding") == 0)
		take_finding(v, record);
	else if (strcmp(record->word, "verified") == 0 && v->has_bar)
		show_progress(record);
}

/* ---- the end --------------------------------------------------------------------------------- */

static void put_count(struct output *o, enum style style, uint64_t n, const char *one, const char *many)
{
	if (n > 0)
		output_put(o, style, ", %" PRIu64 " %s", n, n == 1 ? one : many);
}

static void show_summary(struct verifying *v, const char *cache, const struct record *end)
{
	struct output *o = &v->o;
	uint64_t n_paths = record_get_uint(end, "paths"), n_findings = record_get_uint(end, "findings");

	output_put(o, STYLE_PLAIN, "%s: %" PRIu64 " %s verified", cache, n_paths,
	           n_paths == 1 ? "path" : "paths");
	if (n_findings == 0)
		output_put(o, STYLE_GOOD, ", nothing wrong");
	put_count(o, STYLE_BAD, n_findings, "finding", "findings");
	put_count(o, STYLE_PLAIN, record_get_uint(end, "enqueued"), "enqueued", "enqueued");
	put_count(o, STYLE_WARN, record_get_uint(end, "unchecked"), "could not be checked",
	          "could not be checked");
	put_count(o, STYLE_PLAIN, record_get_uint(end, "notes"), "built elsewhere", "built elsewhere");
	output_end_line(o);
	output_flush(o, stdout);
}

static void end_json(const char *cache, const struct record *end)
{
	static const char *const keys[] = { "paths", "bytes", "findings", "notes", "unchecked", "enqueued" };
	json_t *summary = json_object();

	for (size_t i = 0; i < N_ELEMENTS(keys); i++)
		json_object_set_new(summary, keys[i], json_integer(record_get_int(end, keys[i])));
	fputs("\n],\"cache\":", stdout);
	output_json(model_text(cache), JSON_ENCODE_ANY);
	fputs(",\"summary\":", stdout);
	output_json(summary, JSON_COMPACT);
	puts("}");
}

static int wait_for_repairs(struct ctl *ctl, struct verifying *v)
{
	struct wait_result waited = { 0 };
	int status;

	path_list_sort(&v->enqueued);
	status = wait_for_list(ctl, &v->enqueued, 0, &waited);
	if (status == CTL_PATHS && !ctl->json)
		return wait_report(ctl, status, &waited, NULL);
	json_decref(waited.causes);
	return status;
}

/* What was enqueued and is done by now remains no more. */
static int judge(struct ctl *ctl, struct verifying *v, const struct record *end)
{
	int status = v->enqueued.n > 0 ? wait_for_repairs(ctl, v) : CTL_DONE;

	if (status != CTL_DONE)
		return status;
	if (record_get_uint(end, "findings") > record_get_uint(end, "enqueued"))
		return CTL_PATHS;
	return record_get_uint(end, "unchecked") > 0 || v->has_failed ? CTL_FAILED : CTL_DONE;
}

static int run(struct ctl *ctl, const struct request *req)
{
	struct verifying v = { .is_json = ctl->json, .has_bar = !ctl->json && isatty(STDERR_FILENO) != 0 };
	const char *cache = req->caches[0];
	struct call call = { 0 };
	enum call_result result;
	int status;

	output_init_for(&v.o, stdout);
	v.o.width = 0; /* a finding is read to its end */
	if (v.is_json)
		fputs("{\"found\":[", stdout);
	result = call_run(&call, ctl->socket, req, on_record, &v);
	if (v.has_bar)
		fputs("\r\033[K", stderr);
	status = call_explain(ctl, &call, result);
	if (result == CALL_OK) {
		if (v.is_json)
			end_json(cache, &call.answer.fields);
		else
			show_summary(&v, cache, &call.answer.fields);
		status = judge(ctl, &v, &call.answer.fields);
	}
	call_close(&call);
	path_list_fini(&v.enqueued);
	output_fini(&v.o);
	return ferror(stdout) != 0 || fflush(stdout) == EOF ? CTL_FAILED : status;
}

int ctl_verify(struct ctl *ctl)
{
	struct request req = {
		.verb = VERB_VERIFY,
		.deep = args_has(&ctl->args, "deep"),
		.repair = args_has(&ctl->args, "repair"),
		.n_caches = 1,
	};

	if (ctl->args.n_operands != 1)
		return ctl_usage(ctl, "verify takes one cache");
	req.caches[0] = ctl->args.operands[0];
	return run(ctl, &req);
}
