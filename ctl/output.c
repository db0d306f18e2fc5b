#include "ctl/output.h"

#include <langinfo.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define OUTPUT_MAX_BYTES MIB(16)
#define PIECE_MAX_BYTES  KIB(64)

static const char *const codes[] = {
	[STYLE_PLAIN] = "",        [STYLE_BOLD] = "\033[1m",  [STYLE_DIM] = "\033[2m",
	[STYLE_GOOD] = "\033[32m", [STYLE_WARN] = "\033[33m", [STYLE_BAD] = "\033[31m",
};

void output_init(struct output *o, bool has_colour, unsigned width)
{
	*o = (struct output){ .has_colour = has_colour, .width = width };
	buf_init(&o->buf, OUTPUT_MAX_BYTES);
}

void output_init_for(struct output *o, FILE *file)
{
	const char *no_colour = getenv("NO_COLOR"), *term = getenv("TERM");
	bool is_terminal = isatty(fileno(file)) != 0;
	struct winsize size = { 0 };

	if (is_terminal && (ioctl(fileno(file), TIOCGWINSZ, &size) < 0 || size.ws_col < 20))
		size.ws_col = 80;
	output_init(o,
	            is_terminal && (no_colour == NULL || *no_colour == '\0') &&
	                    (term == NULL || strcmp(term, "dumb") != 0),
	            size.ws_col);
}

void output_fini(struct output *o)
{
	buf_fini(&o->buf);
}

/* The length of the printable UTF-8 character at P, or 0: a control character, or not UTF-8. */
static size_t printable_len(const unsigned char *p)
{
	size_t n = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : 4;

	if (p[0] < 0x20 || p[0] == 0x7f || (p[0] >= 0x80 && p[0] < 0xc2) || p[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xc2 && p[1] < 0xa0) || (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	/* U+2028..202E and U+2066..2069 break lines or turn them round. */
	if (p[0] == 0xe2 && ((p[1] == 0x80 && p[2] >= 0xa8 && p[2] <= 0xae) ||
	                     (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9)))
		return 0;
	return n;
}

void output_escape(struct buf *out, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;

	while (*p != '\0') {
		size_t n = printable_len(p);

		if (n == 0)
			buf_printf(out, "\\x%02X", *p++);
		else
			buf_append(out, p, n);
		p += n;
	}
}

static bool begins_character(char c)
{
	return (c & 0xc0) != 0x80;
}

static unsigned count_columns(const char *text)
{
	unsigned n = 0;

	for (; *text != '\0'; text++)
		n += begins_character(*text);
	return n;
}

/* The bytes of TEXT's first N_COLUMNS. */
static size_t bytes_of(const char *text, unsigned n_columns)
{
	const char *p = text;

	while (*p != '\0' && (n_columns > 0 || !begins_character(*p)))
		n_columns -= begins_character(*p++);
	return (size_t)(p - text);
}

/* TEXT is escaped already. */
static void put_piece(struct output *o, enum style style, const char *text)
{
	unsigned n = count_columns(text), room = o->width - o->column;
	bool is_styled = o->has_colour && style != STYLE_PLAIN;

	if (o->was_cut || n == 0)
		return;
	if (is_styled)
		buf_puts(&o->buf, codes[style]);
	if (o->width == 0 || n <= room) {
		buf_puts(&o->buf, text);
		o->column += n;
	} else {
		unsigned n_dots = room < 3 ? room : 3;

		buf_append(&o->buf, text, bytes_of(text, room - n_dots));
		buf_append(&o->buf, "...", n_dots);
		o->was_cut = true;
	}
	if (is_styled)
		buf_puts(&o->buf, "\033[0m");
}

void output_put(struct output *o, enum style style, const char *format, ...)
{
	CLEANUP(buf_fini) struct buf escaped = { .max = PIECE_MAX_BYTES };
	va_list args;
	char *raw = NULL;

	va_start(args, format);
	if (vasprintf(&raw, format, args) >= 0) {
		output_escape(&escaped, raw);
		free(raw);
		put_piece(o, style, buf_text(&escaped));
	}
	va_end(args);
}

static void put_blanks(struct output *o, unsigned n)
{
	for (; n > 0 && !o->was_cut; n--)
		put_piece(o, STYLE_PLAIN, " ");
}

static void put_cell(struct output *o, enum style style, unsigned n, const char *text, bool to_the_right)
{
	CLEANUP(buf_fini) struct buf escaped = { .max = PIECE_MAX_BYTES };
	unsigned n_text, n_blanks;

	output_escape(&escaped, text);
	n_text = count_columns(buf_text(&escaped));
	n_blanks = n_text < n ? n - n_text : 0;
	if (to_the_right)
		put_blanks(o, n_blanks);
	put_piece(o, style, buf_text(&escaped));
	if (!to_the_right)
		put_blanks(o, n_blanks);
}

void output_left(struct output *o, enum style style, unsigned n, const char *text)
{
	put_cell(o, style, n, text, false);
}

void output_right(struct output *o, enum style style, unsigned n, const char *text)
{
	put_cell(o, style, n, text, true);
}

void output_end_line(struct output *o)
{
	/* Blanks that only fill the last column are nobody's. */
	while (o->buf.len > 0 && o->buf.data[o->buf.len - 1] == ' ')
		o->buf.data[--o->buf.len] = '\0';
	buf_putc(&o->buf, '\n');
	o->column = 0;
	o->was_cut = false;
}

void output_flush(struct output *o, FILE *file)
{
	fwrite(buf_text(&o->buf), 1, o->buf.len, file);
	fflush(file);
	buf_clear(&o->buf);
	o->column = 0;
	o->was_cut = false;
}

void output_bar(char *text, size_t n_columns, uint64_t n_done, uint64_t n_total)
{
	size_t n_inner = n_columns - 2;
	double part = n_total == 0 || n_done >= n_total ? 1 : (double)n_done / (double)n_total;
	size_t n_full = (size_t)(part * (double)n_inner);

	text[0] = '[';
	memset(text + 1, '=', n_full);
	memset(text + 1 + n_full, ' ', n_inner - n_full);
	if (n_full < n_inner)
		text[1 + n_full] = '>';
	text[n_columns - 1] = ']';
	text[n_columns] = '\0';
}

int output_json(json_t *model, size_t flags)
{
	int rc = model == NULL ? -1 : json_dumpf(model, stdout, flags);

	json_decref(model);
	if (rc == 0 && (putchar('\n') == EOF || fflush(stdout) == EOF))
		rc = -1;
	return rc;
}
