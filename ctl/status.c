/* status: the daemon's records become one JSON object; people see it as a screen. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/units.h"
#include "ctl/connect.h"
#include "ctl/model.h"

#define WATCH_DEFAULT_S 2

static void add_queue(json_t *model, const struct record *record)
{
	int64_t oldest = record_get_int(record, "oldest"), now = clock_unix_s();

	json_object_set_new(model, "queue", model_queue(record));
	json_object_set_new(model, "oldest_age_s",
	                    json_integer(oldest > 0 && oldest < now ? now - oldest : 0));
	json_object_set_new(model, "pinned_paths", json_integer(record_get_int(record, "pinned-paths")));
	json_object_set_new(model, "pinned_nar_bytes",
	                    json_integer(record_get_int(record, "pinned-nar-bytes")));
	json_object_set_new(model, "unprotected", json_integer(record_get_int(record, "unprotected")));
	json_object_set_new(model, "requests", json_integer(record_get_int(record, "requests")));
}

static void add_daemon(json_t *model, const struct record *record)
{
	json_t *fields = model_daemon(record);
	int64_t uptime = clock_unix_s() - model_get_int(fields, "started");

	json_object_update(model, fields);
	json_decref(fields);
	json_object_set_new(model, "uptime_s", json_integer(uptime > 0 ? uptime : 0));
}

static void on_record(void *ctx, struct record *record)
{
	json_t *model = ctx;

	if (strcmp(record->word, "daemon") == 0)
		add_daemon(model, record);
	else if (strcmp(record->word, "queue") == 0)
		add_queue(model, record);
	else if (strcmp(record->word, "cache") == 0)
		json_array_append_new(json_object_get(model, "caches"), model_cache(record));
	else if (strcmp(record->word, "upload") == 0)
		json_array_append_new(json_object_get(model, "uploads"), model_upload(record));
	else if (strcmp(record->word, "cause") == 0)
		json_array_append_new(json_object_get(model, "causes"), model_cause(record));
}

int status_fetch(struct ctl *ctl, json_t **ret)
{
	struct request req = { .verb = VERB_STATUS };
	struct call call = { 0 };
	json_t *model = json_pack("{s:b, s:[], s:[], s:[]}", "running", 1, "caches", "uploads", "causes");
	enum call_result result = call_run(&call, ctl->socket, &req, on_record, model);
	int status = CTL_UNREACHABLE;

	if (result == CALL_UNREACHABLE) {
		json_decref(model);
		model = offline_model(ctl);
		json_object_set_new(model, "error", model_text(call.err.text));
	} else if (result != CALL_OK) {
		status = call_explain(ctl, &call, result);
		json_decref(model);
		model = NULL;
	} else {
		status = CTL_DONE;
	}
	call_close(&call);
	*ret = model;
	return status;
}

static void show(struct output *o, const json_t *model)
{
	if (json_is_true(json_object_get(model, "running")))
		screen_show(o, model, clock_unix_s());
	else
		offline_show(o, model);
}

static int show_once(struct ctl *ctl)
{
	struct output o;
	json_t *model;
	int status = status_fetch(ctl, &model);

	if (model == NULL)
		return status;
	if (ctl->json) {
		model_dates(model);
		return output_json(model, JSON_INDENT(2)) < 0 ? CTL_FAILED : status;
	}
	output_init_for(&o, stdout);
	show(&o, model);
	output_flush(&o, stdout);
	output_fini(&o);
	json_decref(model);
	return status;
}

/* ---- watching -------------------------------------------------------------------------------- */

static volatile sig_atomic_t is_interrupted;

static void on_interrupt(int signal_number)
{
	(void)signal_number;
	is_interrupted = 1;
}

/* Draws over what is there, line by line, so that nothing flickers; what does not fit is left out. */
static void draw(const struct output *o)
{
	struct winsize size = { 0 };
	unsigned n_lines = 0;
	const char *p = buf_text(&o->buf);

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row < 4)
		size.ws_row = 24;
	fputs("\033[H", stdout);
	for (; *p != '\0' && n_lines + 1 < size.ws_row; n_lines++) {
		size_t n = strcspn(p, "\n");

		fwrite(p, 1, n, stdout);
		fputs("\033[K\n", stdout);
		p += n + (p[n] == '\n');
	}
	fputs("\033[J", stdout);
	fflush(stdout);
}

static int watch_turn(struct ctl *ctl, bool is_terminal)
{
	struct output o;
	json_t *model;
	int status = status_fetch(ctl, &model);

	if (model == NULL)
		return status;
	if (ctl->json) {
		model_dates(model);
		return output_json(model, JSON_COMPACT) < 0 ? CTL_FAILED : CTL_DONE;
	}
	output_init_for(&o, stdout);
	show(&o, model);
	if (is_terminal) {
		draw(&o);
	} else {
		output_end_line(&o);
		output_flush(&o, stdout);
	}
	output_fini(&o);
	json_decref(model);
	return CTL_DONE;
}

/* A daemon that goes away is waited for; Ctrl-C is how this ends. */
static int watch(struct ctl *ctl, uint64_t seconds)
{
	struct sigaction action = { .sa_handler = on_interrupt };
	struct timespec pause = { .tv_sec = (time_t)seconds };
	bool is_terminal = isatty(STDOUT_FILENO) != 0 && !ctl->json;
	int status = CTL_DONE;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	if (is_terminal)
		fputs("\033[2J", stdout);
	while (!is_interrupted) {
		status = watch_turn(ctl, is_terminal);
		if (ferror(stdout) != 0 || status == CTL_FAILED)
			break;
		nanosleep(&pause, NULL);
	}
	return is_interrupted ? CTL_DONE : status;
}

int ctl_status(struct ctl *ctl)
{
	uint64_t seconds = WATCH_DEFAULT_S;
	const char *text = args_get(&ctl->args, "watch");

	if (ctl->args.n_operands > 0)
		return ctl_usage(ctl, "status takes no \"%s\"", ctl->args.operands[0]);
	if (!args_has(&ctl->args, "watch"))
		return show_once(ctl);
	if (text != NULL && (!units_parse_seconds(text, &seconds) || seconds == 0 || seconds > 86400))
		return ctl_usage(ctl, "--watch: \"%s\" is no number of seconds", text);
	return watch(ctl, seconds);
}
