#include "common/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *error_kind_name(enum error_kind kind)
{
	switch (kind) {
	case ERROR_NONE:
		return "none";
	case ERROR_TRANSIENT:
		return "transient";
	case ERROR_PERMANENT:
		return "permanent";
	case ERROR_OPERATOR:
		return "operator";
	case ERROR_CANCELED:
		return "canceled";
	}
	return "unknown";
}

int error_set(struct error *err, enum error_kind kind, const char *format, ...)
{
	va_list args;

	err->kind = kind;
	err->is_overload = false;
	err->retry_after_s = 0;
	va_start(args, format);
	vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	return -1;
}

int error_reword(struct error *err, enum error_kind kind, const char *format, ...)
{
	char text[sizeof(err->text)];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	err->kind = kind;
	memcpy(err->text, text, sizeof(text));
	return -1;
}

int error_prefix(struct error *err, const char *format, ...)
{
	char old[sizeof(err->text)];
	va_list args;
	size_t n;

	memcpy(old, err->text, sizeof(old));
	va_start(args, format);
	vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	n = strlen(err->text);
	snprintf(err->text + n, sizeof(err->text) - n, ": %s", old);
	return -1;
}

int error_copy(struct error *dst, const struct error *src)
{
	*dst = *src;
	return -1;
}
