#include "common/record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char hex[] = "0123456789ABCDEF";

void record_begin(struct buf *out, const char *word)
{
	buf_puts(out, word);
}

void record_text(struct buf *out, const char *key, const char *value)
{
	if (value == NULL)
		return;
	buf_putc(out, ' ');
	buf_puts(out, key);
	buf_putc(out, '=');
	for (const char *p = value; *p != '\0'; p++) {
		unsigned char c = (unsigned char)*p;

		if (c > 0x20 && c < 0x7f && c != '%') {
			buf_putc(out, *p);
		} else {
			const char code[] = { '%', hex[c >> 4], hex[c & 15] };

			buf_append(out, code, sizeof(code));
		}
	}
}

void record_int(struct buf *out, const char *key, int64_t value)
{
	buf_printf(out, " %s=%" PRId64, key, value);
}

void record_uint(struct buf *out, const char *key, uint64_t value)
{
	buf_printf(out, " %s=%" PRIu64, key, value);
}

void record_bool(struct buf *out, const char *key, bool value)
{
	record_text(out, key, value ? "yes" : "no");
}

void record_end(struct buf *out)
{
	buf_putc(out, '\n');
}

void record_end_list(struct buf *out)
{
	buf_puts(out, ".\n");
}

static size_t name_len(const char *text)
{
	return strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-");
}

static int hex_digit(char c)
{
	const char *p = c != '\0' ? strchr(hex, c) : NULL;

	return p != NULL ? (int)(p - hex) : -1;
}

/* Decodes the value at P up to its blank or the line's end, in place. Returns where it ended, or NULL. */
static char *decode(char *p)
{
	char *dst = p;

	for (; *p != ' ' && *p != '\0'; p++) {
		if (*p == '%') {
			int high = hex_digit(p[1]);
			int low = high < 0 ? -1 : hex_digit(p[2]);

			if (low < 0 || (high == 0 && low == 0))
				return NULL;
			*dst++ = (char)(high << 4 | low);
			p += 2;
		} else if ((unsigned char)*p > 0x20 && (unsigned char)*p < 0x7f) {
			*dst++ = *p;
		} else {
			return NULL;
		}
	}
	if (dst != p)
		*dst = '\0';
	return p;
}

/* Reads "KEY=VALUE" at P. Returns what follows it, or NULL. */
static char *parse_field(struct record_field *field, char *p)
{
	size_t n = name_len(p);

	if (n == 0 || p[n] != '=')
		return NULL;
	p[n] = '\0';
	field->key = p;
	field->value = p + n + 1;
	return decode(p + n + 1);
}

int record_parse(struct record *ret, char *line, struct error *err)
{
	size_t n = name_len(line);
	char *p = line + n, *end;

	if (n == 0 || (*p != ' ' && *p != '\0'))
		return error_set(err, ERROR_PERMANENT, "a record does not begin with a word");
	ret->word = line;
	ret->n_fields = 0;
	while (*p != '\0') {
		*p++ = '\0';
		if (ret->n_fields == RECORD_MAX_FIELDS)
			return error_set(err, ERROR_PERMANENT, "record %.40s: more than %d fields", line,
			                 RECORD_MAX_FIELDS);
		end = parse_field(&ret->fields[ret->n_fields], p);
		if (end == NULL)
			return error_set(err, ERROR_PERMANENT, "record %.40s: field %zu is not KEY=VALUE",
			                 line, ret->n_fields + 1);
		ret->n_fields++;
		p = end;
	}
	return 0;
}

const char *record_get(const struct record *record, const char *key)
{
	for (size_t i = 0; i < record->n_fields; i++)
		if (strcmp(record->fields[i].key, key) == 0)
			return record->fields[i].value;
	return NULL;
}

int64_t record_get_int(const struct record *record, const char *key)
{
	const char *text = record_get(record, key);
	long long value;
	char *end;

	if (text == NULL)
		return 0;
	errno = 0;
	value = strtoll(text, &end, 10);
	return errno == 0 && *end == '\0' ? value : 0;
}

uint64_t record_get_uint(const struct record *record, const char *key)
{
	const char *text = record_get(record, key);
	unsigned long long value;
	char *end;

	if (text == NULL || *text == '-')
		return 0;
	errno = 0;
	value = strtoull(text, &end, 10);
	return errno == 0 && *end == '\0' ? value : 0;
}

bool record_get_bool(const struct record *record, const char *key)
{
	const char *text = record_get(record, key);

	return text != NULL && strcmp(text, "yes") == 0;
}
