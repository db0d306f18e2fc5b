/* catch-up: what was built here and no hook reported. Listed first, then pushed if somebody says so: it is
 * found anew for that, so that no list has to be kept, however long. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "ctl/connect.h"
#include "ctl/model.h"
#include "ctl/paths.h"

#define SINCE_DEFAULT_S (UINT64_C(7) * 86400)
#define PUSHED_AT_ONCE  1000

struct catching {
	struct ctl *ctl;
	const struct request *base; /* of the push */
	bool is_pushing, is_json;
	uint64_t n_found, n_pushed;
	struct path_list list; /* to be pushed next */
	int status;
};

/* ---- listing --------------------------------------------------------------------------------- */

static void show_path(struct catching *c, const char *path)
{
	CLEANUP(buf_fini) struct buf plain = { .max = KIB(64) };
	json_t *text;

	if (c->is_json) {
		text = model_text(path);
		fputs(c->n_found > 0 ? ",\n" : "\n", stdout);
		if (json_dumpf(text, stdout, JSON_ENCODE_ANY) < 0)
			c->status = CTL_FAILED;
		json_decref(text);
		return;
	}
	output_escape(&plain, path);
	puts(buf_text(&plain));
}

/* ---- pushing --------------------------------------------------------------------------------- */

static void push_list(struct catching *c)
{
	struct push_result pushed = { 0 };

	if (c->list.n == 0 || c->status != CTL_DONE)
		return;
	c->status = push_run(c->ctl, &c->list, c->base, &pushed);
	json_decref(pushed.request_ids);
	if (c->status == CTL_DONE)
		c->n_pushed += c->list.n;
	path_list_fini(&c->list);
	c->list = (struct path_list){ 0 };
}

static void keep_path(struct catching *c, const char *path)
{
	struct error err;

	if (path_list_add(&c->list, path, &err) < 0) {
		ctl_say("%s", err.text);
		c->status = CTL_FAILED;
	} else if (c->list.n >= PUSHED_AT_ONCE) {
		push_list(c);
	}
}

static void on_record(void *ctx, struct record *record)
{
	struct catching *c = ctx;
	const char *path = record_get(record, "path");

	if (strcmp(record->word, "built") != 0 || path == NULL || c->status != CTL_DONE)
		return;
	if (c->is_pushing)
		keep_path(c, path);
	else
		show_path(c, path);
	c->n_found++;
}

/* Goes through all that was built. Returns the exit status. */
static int find(struct catching *c, const struct request *req)
{
	struct call call = { 0 };
	enum call_result result;
	int status;

	c->n_found = 0;
	c->status = CTL_DONE;
	result = call_run(&call, c->ctl->socket, req, on_record, c);
	status = call_explain(c->ctl, &call, result);
	call_close(&call);
	if (status == CTL_DONE && c->is_pushing)
		push_list(c);
	path_list_fini(&c->list);
	c->list = (struct path_list){ 0 };
	return status != CTL_DONE ? status : c->status;
}

/* ---- the verb -------------------------------------------------------------------------------- */

/* Without a terminal nobody can say yes. */
static bool may_push(const struct ctl *ctl, uint64_t n_found)
{
	char answer[16];

	if (args_has(&ctl->args, "dry-run") || n_found == 0)
		return false;
	if (args_has(&ctl->args, "yes"))
		return true;
	if (ctl->json || isatty(STDIN_FILENO) == 0 || isatty(STDERR_FILENO) == 0)
		return false;
	fflush(stdout);
	fprintf(stderr, "Upload %s %" PRIu64 " %s? [y/N] ", n_found == 1 ? "this" : "these", n_found,
	        n_found == 1 ? "path" : "paths");
	return fgets(answer, sizeof(answer), stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y');
}

static int report(const struct catching *c, uint64_t n_found)
{
	if (c->is_json)
		printf("\n],\"found\":%" PRIu64 ",\"accepted\":%" PRIu64 "}\n", n_found, c->n_pushed);
	else if (n_found == 0)
		puts("Nothing was built that nobody reported.");
	else if (c->is_pushing)
		printf("%" PRIu64 " %s accepted.\n", c->n_pushed, c->n_pushed == 1 ? "path is" : "paths are");
	else
		ctl_say("%" PRIu64 " %s found, nothing was handed over; --yes does it", n_found,
		        n_found == 1 ? "path" : "paths");
	return fflush(stdout) == EOF || ferror(stdout) != 0 ? CTL_FAILED : CTL_DONE;
}

int ctl_catch_up(struct ctl *ctl)
{
	struct request req = { .verb = VERB_CATCH_UP }, base = { 0 };
	struct catching c = { .ctl = ctl, .base = &base, .is_json = ctl->json };
	uint64_t since_s = 0, n_found;
	int status;

	if (ctl->args.n_operands > 0)
		return ctl_usage(ctl, "catch-up takes no \"%s\"", ctl->args.operands[0]);
	if (ctl_get_seconds(ctl, "since", &since_s) != CTL_DONE ||
	    ctl_get_caches(ctl, "to", &req) != CTL_DONE || ctl_get_caches(ctl, "to", &base) != CTL_DONE)
		return CTL_USAGE;
	if (args_has(&ctl->args, "dry-run") && args_has(&ctl->args, "yes"))
		return ctl_usage(ctl, "--dry-run and --yes contradict each other");
	req.since = clock_unix_s() - (int64_t)(since_s > 0 ? since_s : SINCE_DEFAULT_S);
	if (req.since < 0)
		req.since = 0;
	if (c.is_json)
		fputs("{\"paths\":[", stdout);
	status = find(&c, &req);
	n_found = c.n_found;
	if (status == CTL_DONE && may_push(ctl, n_found)) {
		c.is_pushing = true;
		status = find(&c, &req);
	}
	return status != CTL_DONE ? status : report(&c, n_found);
}
