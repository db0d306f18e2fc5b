#include <stdarg.h>
#include <stdio.h>

#include "daemon/config/section.h"

/* Values come from files that anybody may have written; a terminal and a journal get plain text. */
static void put_escaped(struct buf *out, const char *text)
{
	for (const char *p = text; *p != '\0'; p++) {
		unsigned char c = (unsigned char)*p;

		if ((c < 0x20 && c != '\n') || c >= 0x7f)
			buf_printf(out, "\\x%02x", c);
		else
			buf_putc(out, *p);
	}
}

void mistake(struct mistakes *mistakes, const struct setting_place *place, const struct section *section,
             const char *key, const char *format, ...)
{
	CLEANUP(buf_fini) struct buf where = { .max = 8192 };
	char what[1024];
	va_list args;

	if (mistakes->n++ >= MISTAKES_SHOWN)
		return;
	if (place->file != NULL)
		buf_puts(&where, place->file);
	if (place->line > 0)
		buf_printf(&where, ":%u", place->line);
	if (place->file != NULL)
		buf_puts(&where, ": ");
	if (section != NULL) {
		section_format_title(section, &where);
		buf_puts(&where, key != NULL ? " " : ": ");
	}
	if (key != NULL)
		buf_printf(&where, "%.64s: ", key);
	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	put_escaped(mistakes->out, buf_text(&where));
	put_escaped(mistakes->out, what);
	buf_putc(mistakes->out, '\n');
}

void mistakes_end(struct mistakes *mistakes)
{
	if (mistakes->n > MISTAKES_SHOWN)
		buf_printf(mistakes->out, "and %u more\n", mistakes->n - MISTAKES_SHOWN);
}
