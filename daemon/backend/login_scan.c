#include "daemon/backend/login_scan.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/backend/kind.h"

int scan_expected(const struct scan *scan, const char *what)
{
	return error_set(scan->err, ERROR_OPERATOR, "line %u: expected %s", scan->line, what);
}

bool scan_is_at(const struct scan *scan, char c)
{
	return scan->at < scan->end && *scan->at == c;
}

bool scan_take(struct scan *scan, char c)
{
	if (!scan_is_at(scan, c))
		return false;
	scan->line += c == '\n';
	scan->at++;
	return true;
}

static bool is_at_one_of(const struct scan *scan, const char *chars)
{
	return scan->at < scan->end && *scan->at != '\0' && strchr(chars, *scan->at) != NULL;
}

size_t scan_skip(struct scan *scan, const char *chars)
{
	const char *start = scan->at;

	while (is_at_one_of(scan, chars))
		scan_take(scan, *scan->at);
	return (size_t)(scan->at - start);
}

static size_t line_len(const struct scan *scan)
{
	size_t n = (size_t)(scan->end - scan->at);
	const char *newline = memchr(scan->at, '\n', n);

	return newline != NULL ? (size_t)(newline - scan->at) : n;
}

void scan_skip_line(struct scan *scan)
{
	scan->at += line_len(scan);
}

size_t scan_word(struct scan *scan, const char *chars, char *to, size_t n_max)
{
	const char *start = scan->at;
	size_t n = scan_skip(scan, chars);

	if (n > n_max)
		n = 0;
	memcpy(to, start, n);
	to[n] = '\0';
	return n;
}

/* Up to the closing quote, which is taken. TO has room for the rest of the line. */
static int unquote(struct scan *scan, char quote, const char *escaped, const char *stop, char *to)
{
	size_t n_stop = strlen(stop);

	while (!scan_take(scan, quote)) {
		bool is_escape = escaped[0] != '\0' && scan_take(scan, '\\');

		if (scan->at == scan->end || (unsigned char)*scan->at < 0x20 || *scan->at == 0x7f)
			return scan_expected(scan, "a text that ends on its line");
		if (is_escape && !is_at_one_of(scan, escaped))
			return scan_expected(scan, "no such escape in a text");
		if (!is_escape && n_stop > 0 && (size_t)(scan->end - scan->at) >= n_stop &&
		    memcmp(scan->at, stop, n_stop) == 0)
			return scan_expected(scan, "a text with nothing to insert");
		*to++ = *scan->at++;
	}
	*to = '\0';
	return 0;
}

int scan_quoted(struct scan *scan, char quote, const char *escaped, const char *stop, char **ret)
{
	CLEANUP(wipe_text) char *text = NULL;

	if (!scan_take(scan, quote))
		return scan_expected(scan, "a text in quotes");
	text = calloc(1, line_len(scan) + 1);
	if (text == NULL)
		return error_set(scan->err, ERROR_TRANSIENT, "out of memory");
	if (unquote(scan, quote, escaped, stop, text) < 0)
		return -1;
	*ret = strdup(text);
	return *ret != NULL ? 0 : error_set(scan->err, ERROR_TRANSIENT, "out of memory");
}
