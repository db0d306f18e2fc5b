/* config: reading files is nncached's business, so it is asked: the one that runs for what is in effect, else
 * the program for what would be. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/connect.h"
#include "ctl/model.h"
#include "ctl/program.h"

#define OUTPUT_MAX MIB(4)
#define WARNING    "warning: "

/* Becomes nncached OPTION [--config FILE]. Returns only if that fails. */
static int become_nncached(const char *option, const char *file)
{
	const char *const args[] = { option, file != NULL ? "--config" : NULL, file, NULL };

	program_become_nncached(args);
	ctl_say("nncached: %s", strerror(errno));
	return CTL_FAILED;
}

/* The same, its words (both streams) read into OUT. Returns its exit status. */
static int ask_nncached(const char *option, const char *file, struct buf *out)
{
	const char *const args[] = { option, file != NULL ? "--config" : NULL, file, NULL };
	int status = program_ask_nncached(args, false, out);

	if (status < 0)
		ctl_say("nncached: %s", strerror(errno));
	return status < 0 ? CTL_FAILED : status;
}

/* ---- check ----------------------------------------------------------------------------------- */

static int check(const struct ctl *ctl, const char *file)
{
	CLEANUP(buf_fini) struct buf out = { .max = OUTPUT_MAX };
	json_t *messages, *warnings;
	int status;

	if (!ctl->json)
		return become_nncached("--check-config", file);
	status = ask_nncached("--check-config", file, &out);
	messages = json_array();
	warnings = json_array();
	for (char *line = out.data != NULL ? strtok(out.data, "\n") : NULL; line != NULL;
	     line = strtok(NULL, "\n")) {
		if (strncmp(line, WARNING, strlen(WARNING)) == 0)
			json_array_append_new(warnings, model_text(line + strlen(WARNING)));
		else if (status != CTL_DONE)
			json_array_append_new(messages, model_text(line));
	}
	if (output_json(json_pack("{s:b, s:o, s:o}", "ok", status == CTL_DONE, "messages", messages,
	                          "warnings", warnings),
	                JSON_INDENT(2)) < 0)
		return CTL_FAILED;
	return status;
}

/* ---- show ------------------------------------------------------------------------------------ */

/* SECTION is `daemon` or `cache "main"`. */
static void add_setting(json_t *settings, const char *section, const char *key, const char *value)
{
	char kind[300], *name;
	size_t n;

	snprintf(kind, sizeof(kind), "%s", section);
	name = strstr(kind, " \"");
	if (name != NULL) {
		*name = '\0';
		name += 2;
		n = strlen(name);
		if (n > 0 && name[n - 1] == '"')
			name[n - 1] = '\0';
	}
	json_array_append_new(settings, json_pack("{s:o, s:o, s:o, s:o}", "section", model_text(kind), "name",
	                                          model_text(name), "key", model_text(key), "value",
	                                          model_text(value)));
}

static void on_setting(void *ctx, struct record *record)
{
	const char *section = record_get(record, "section"), *key = record_get(record, "key");
	const char *value = record_get(record, "value");

	if (strcmp(record->word, "setting") == 0 && section != NULL && key != NULL)
		add_setting(ctx, section, key, value != NULL ? value : "");
}

/* What --dump-config prints: [SECTION] and KEY = VALUE lines. */
static void parse_dump(json_t *settings, char *text)
{
	char section[300] = "";

	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		char *equals = strstr(line, " = ");
		size_t n = strlen(line);

		if (line[0] == '[' && line[n - 1] == ']') {
			snprintf(section, sizeof(section), "%.*s", (int)(n - 2), line + 1);
		} else if (equals != NULL) {
			*equals = '\0';
			add_setting(settings, section, line, equals + 3);
		}
	}
}

static void put_settings(const json_t *settings)
{
	const char *section = "", *name = "";
	struct output o;
	json_t *s;
	size_t i;

	output_init_for(&o, stdout);
	o.width = 0; /* it may be copied */
	json_array_foreach(settings, i, s)
	{
		const char *s_section = model_get_text(s, "section"), *s_name = model_get_text(s, "name");

		if (i == 0 || strcmp(section, s_section) != 0 || strcmp(name, s_name) != 0) {
			if (i > 0)
				output_end_line(&o);
			output_put(&o, STYLE_BOLD, *s_name != '\0' ? "[%s \"%s\"]" : "[%s%s]", s_section,
			           s_name);
			output_end_line(&o);
		}
		section = s_section;
		name = s_name;
		output_put(&o, STYLE_PLAIN, "%s = %s", model_get_text(s, "key"), model_get_text(s, "value"));
		output_end_line(&o);
	}
	output_flush(&o, stdout);
	output_fini(&o);
}

static int show_dump(const struct ctl *ctl, const char *file, json_t *settings)
{
	CLEANUP(buf_fini) struct buf out = { .max = OUTPUT_MAX };
	int status;

	if (!ctl->json)
		return become_nncached("--dump-config", file);
	status = ask_nncached("--dump-config", file, &out);
	if (status == CTL_DONE)
		parse_dump(settings, out.data);
	else
		ctl_say("%s", buf_text(&out));
	return status;
}

static int show(const struct ctl *ctl, const char *file)
{
	struct request req = { .verb = VERB_CONFIG };
	struct call call = { .client.fd = -1 };
	json_t *settings = json_array();
	enum call_result result = CALL_UNREACHABLE;
	int status;

	if (file == NULL)
		result = call_run(&call, ctl->socket, &req, on_setting, settings);
	if (result == CALL_UNREACHABLE)
		status = show_dump(ctl, file, settings);
	else
		status = call_explain(ctl, &call, result);
	call_close(&call);
	if (status == CTL_DONE && !ctl->json)
		put_settings(settings);
	else if (status == CTL_DONE &&
	         output_json(json_pack("{s:O}", "settings", settings), JSON_INDENT(2)) < 0)
		status = CTL_FAILED;
	json_decref(settings);
	return status;
}

int ctl_config(struct ctl *ctl)
{
	const struct args *args = &ctl->args;
	const char *file = args->n_operands > 1 ? args->operands[1] : NULL;

	if (args->n_operands == 0 || args->n_operands > 2)
		return ctl_usage(ctl, "config check or config show, and at most one file");
	if (strcmp(args->operands[0], "check") == 0)
		return check(ctl, file);
	if (strcmp(args->operands[0], "show") == 0)
		return show(ctl, file);
	return ctl_usage(ctl, "config: \"%s\" is neither check nor show", args->operands[0]);
}
