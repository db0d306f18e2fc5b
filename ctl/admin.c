/* retry, forget, pause, resume. */
#include <inttypes.h>
#include <string.h>

#include "common/clock.h"
#include "ctl/connect.h"
#include "ctl/model.h"
#include "ctl/paths.h"

/* ---- retry, forget --------------------------------------------------------------------------- */

static int select_chunk(struct ctl *ctl, const struct request *req, uint64_t *n_changed)
{
	struct call call = { 0 };
	enum call_result result = call_run(&call, ctl->socket, req, NULL, NULL);
	int status = call_explain(ctl, &call, result);

	if (result == CALL_OK)
		*n_changed += record_get_uint(&call.answer.fields, "changed");
	call_close(&call);
	return status;
}

static int select_list(struct ctl *ctl, enum verb verb, const struct path_list *list, uint64_t *n_changed)
{
	struct request req = { .verb = verb, .failed = args_has(&ctl->args, "failed") };
	const char *chunk[REQUEST_MAX_PATHS];
	int status = ctl_get_caches(ctl, "cache", &req);
	size_t i = 0;

	req.paths = chunk;
	/* Once, too, when no path is named. */
	while (status == CTL_DONE) {
		req.n_paths = paths_chunk(list, i, chunk);
		status = select_chunk(ctl, &req, n_changed);
		i += req.n_paths;
		if (i >= list->n)
			break;
	}
	return status;
}

static int run_select(struct ctl *ctl, enum verb verb, const char *done)
{
	const char *name = ctl->args.verb;
	struct path_list list;
	uint64_t n_changed = 0;
	int status;

	if (ctl->args.n_operands == 0 && !args_has(&ctl->args, "failed"))
		return ctl_usage(ctl, "%s what? paths, or --failed", name);
	status = paths_of_operands(ctl, false, &list);
	if (status == CTL_DONE)
		status = select_list(ctl, verb, &list, &n_changed);
	path_list_fini(&list);
	if (status != CTL_DONE)
		return status;
	if (ctl->json)
		return output_json(json_pack("{s:I}", "changed", (json_int_t)n_changed), JSON_INDENT(2)) < 0
		               ? CTL_FAILED
		               : CTL_DONE;
	if (n_changed == 0)
		printf("There was nothing to %s.\n", name);
	else
		printf("%" PRIu64 " %s %s.\n", n_changed, n_changed == 1 ? "upload" : "uploads", done);
	return CTL_DONE;
}

int ctl_retry(struct ctl *ctl)
{
	return run_select(ctl, VERB_RETRY, "will be tried again");
}

int ctl_forget(struct ctl *ctl)
{
	return run_select(ctl, VERB_FORGET, "forgotten");
}

/* ---- pause, resume --------------------------------------------------------------------------- */

static int take_caches(struct ctl *ctl, struct request *req)
{
	const struct args *args = &ctl->args;

	req->all = args_has(args, "all");
	if (req->all == (args->n_operands > 0))
		return ctl_usage(ctl, "%s which caches? name them, or say --all", args->verb);
	if (args->n_operands > REQUEST_MAX_CACHES)
		return ctl_usage(ctl, "more than %d caches", REQUEST_MAX_CACHES);
	for (size_t i = 0; i < args->n_operands; i++)
		req->caches[req->n_caches++] = args->operands[i];
	return CTL_DONE;
}

static void report(const struct request *req, const char *what)
{
	char utc[CLOCK_TEXT_SIZE];
	struct output o;

	output_init_for(&o, stdout);
	output_put(&o, STYLE_PLAIN, "%s:", what);
	if (req->all)
		output_put(&o, STYLE_PLAIN, " all caches");
	for (size_t i = 0; i < req->n_caches; i++)
		output_put(&o, STYLE_PLAIN, "%s %s", i > 0 ? "," : "", req->caches[i]);
	if (req->until != 0)
		output_put(&o, STYLE_PLAIN, " until %s", clock_format_utc(req->until, utc));
	output_end_line(&o);
	output_flush(&o, stdout);
	output_fini(&o);
}

static int report_json(const struct request *req)
{
	json_t *caches = json_array(), *model;

	for (size_t i = 0; i < req->n_caches; i++)
		json_array_append_new(caches, model_text(req->caches[i]));
	model = json_pack("{s:b, s:b, s:o, s:I}", "paused", req->verb == VERB_PAUSE, "all", (int)req->all,
	                  "caches", caches, "paused_until", (json_int_t)req->until);
	model_dates(model);
	return output_json(model, JSON_INDENT(2)) < 0 ? CTL_FAILED : CTL_DONE;
}

static int run_pause(struct ctl *ctl, struct request *req)
{
	struct call call = { 0 };
	int status = take_caches(ctl, req);

	if (status != CTL_DONE)
		return status;
	status = call_explain(ctl, &call, call_run(&call, ctl->socket, req, NULL, NULL));
	call_close(&call);
	if (status != CTL_DONE)
		return status;
	if (ctl->json)
		return report_json(req);
	report(req, req->verb == VERB_PAUSE ? "Paused" : "Resumed");
	return CTL_DONE;
}

int ctl_pause(struct ctl *ctl)
{
	struct request req = { .verb = VERB_PAUSE };
	uint64_t seconds;

	if (ctl_get_seconds(ctl, "for", &seconds) != CTL_DONE)
		return CTL_USAGE;
	if (seconds > 0)
		req.until = clock_unix_s() + (int64_t)seconds;
	return run_pause(ctl, &req);
}

int ctl_resume(struct ctl *ctl)
{
	struct request req = { .verb = VERB_RESUME };

	return run_pause(ctl, &req);
}
