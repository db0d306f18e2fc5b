#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

static _Atomic enum log_level max_level = LOG_LEVEL_INFO;
static bool with_prefix = true;

void log_init(enum log_level level, bool prefix)
{
	max_level = level;
	with_prefix = prefix;
}

void log_set_level(enum log_level level)
{
	max_level = level;
}

static size_t escape(char *dst, size_t size, const char *src)
{
	static const char digits[] = "0123456789abcdef";
	size_t n = 0;

	for (; *src != '\0' && n + 5 < size; src++) {
		unsigned char c = (unsigned char)*src;

		if (c < 0x20 || c == 0x7f) {
			dst[n++] = '\\';
			dst[n++] = 'x';
			dst[n++] = digits[c >> 4];
			dst[n++] = digits[c & 15];
		} else {
			dst[n++] = (char)c;
		}
	}
	return n;
}

void log_write(enum log_level level, const char *format, ...)
{
	int saved_errno = errno;
	char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES + 8];
	va_list args;
	size_t n = 0;

	if (level > max_level)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (with_prefix)
		n = (size_t)snprintf(line, sizeof(line), "<%d>", (int)level);
	n += escape(line + n, sizeof(line) - n - 1, text);
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0) {
		/* Nobody reads our log: there is no better place to say so. */
	}
	errno = saved_errno;
}
