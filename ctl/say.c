/* What a person is told on stderr, and option values that several verbs read. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/units.h"
#include "ctl/ctl.h"

static PRINTF(1, 0) void say(const char *format, va_list args)
{
	CLEANUP(buf_fini) struct buf text = { .max = KIB(64) };
	char *raw = NULL;

	if (vasprintf(&raw, format, args) < 0)
		return;
	/* The lines of a text stay lines. */
	for (char *line = strtok(raw, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		buf_puts(&text, text.len == 0 ? "nncachectl: " : "  ");
		output_escape(&text, line);
		buf_putc(&text, '\n');
	}
	free(raw);
	fputs(buf_text(&text), stderr);
}

void ctl_say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(format, args);
	va_end(args);
}

int ctl_usage(const struct ctl *ctl, const char *format, ...)
{
	const char *verb = ctl->args.verb;
	va_list args;

	va_start(args, format);
	say(format, args);
	va_end(args);
	fprintf(stderr, "Try 'nncachectl %s%s--help'.\n", verb != NULL ? verb : "", verb != NULL ? " " : "");
	return CTL_USAGE;
}

int ctl_get_caches(const struct ctl *ctl, const char *option, struct request *req)
{
	req->n_caches = args_get_all(&ctl->args, option, req->caches, REQUEST_MAX_CACHES);
	if (req->n_caches > REQUEST_MAX_CACHES)
		return ctl_usage(ctl, "more than %d caches", REQUEST_MAX_CACHES);
	return CTL_DONE;
}

int ctl_get_seconds(const struct ctl *ctl, const char *option, uint64_t *ret)
{
	const char *text = args_get(&ctl->args, option);

	*ret = 0;
	if (text == NULL || (units_parse_seconds(text, ret) && *ret > 0))
		return CTL_DONE;
	return ctl_usage(ctl, "--%s: \"%s\" is no duration; expected 90s, 5m, 2h, 1d or 1w", option, text);
}
