#include "common/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BYTES 256

void buf_init(struct buf *buf, size_t max_bytes)
{
	*buf = (struct buf){ .max = max_bytes };
}

void buf_init_in(struct buf *buf, char *memory, size_t n_bytes)
{
	*buf = (struct buf){ .data = memory, .cap = n_bytes, .max = n_bytes - 1, .is_borrowed = true };
	memory[0] = '\0';
}

void buf_fini(struct buf *buf)
{
	if (!buf->is_borrowed)
		free(buf->data);
	buf_init(buf, buf->max);
}

void buf_clear(struct buf *buf)
{
	buf->len = 0;
	buf->failed = false;
	if (buf->data != NULL)
		buf->data[0] = '\0';
}

char *buf_reserve(struct buf *buf, size_t n_bytes)
{
	size_t cap = buf->cap > 0 ? buf->cap : FIRST_BYTES;
	char *data;

	if (buf->failed || n_bytes > buf->max - buf->len) {
		buf->failed = true;
		return NULL;
	}
	while (cap < buf->len + n_bytes + 1)
		cap *= 2;
	if (cap != buf->cap) {
		data = realloc(buf->data, cap);
		if (data == NULL) {
			buf->failed = true;
			return NULL;
		}
		buf->data = data;
		buf->cap = cap;
	}
	return buf->data + buf->len;
}

void buf_append(struct buf *buf, const void *data, size_t n_bytes)
{
	char *dst = buf_reserve(buf, n_bytes);

	if (dst == NULL)
		return;
	if (n_bytes > 0)
		memcpy(dst, data, n_bytes);
	buf->len += n_bytes;
	buf->data[buf->len] = '\0';
}

void buf_puts(struct buf *buf, const char *text)
{
	buf_append(buf, text, strlen(text));
}

void buf_putc(struct buf *buf, char c)
{
	buf_append(buf, &c, 1);
}

void buf_printf(struct buf *buf, const char *format, ...)
{
	va_list args, again;
	char *dst;
	int n;

	va_start(args, format);
	va_copy(again, args);
	n = vsnprintf(NULL, 0, format, args);
	va_end(args);
	dst = n < 0 ? NULL : buf_reserve(buf, (size_t)n);
	if (dst != NULL) {
		vsnprintf(dst, (size_t)n + 1, format, again);
		buf->len += (size_t)n;
	} else {
		buf->failed = true;
	}
	va_end(again);
}

void buf_consume(struct buf *buf, size_t n_bytes)
{
	if (n_bytes == 0)
		return;
	memmove(buf->data, buf->data + n_bytes, buf->len - n_bytes);
	buf->len -= n_bytes;
	buf->data[buf->len] = '\0';
}

bool buf_ok(const struct buf *buf)
{
	return !buf->failed;
}

const char *buf_text(const struct buf *buf)
{
	return buf->data != NULL ? buf->data : "";
}

char *buf_take(struct buf *buf)
{
	char *data;

	assert(!buf->is_borrowed);
	if (buf->failed)
		return NULL;
	data = buf->data != NULL ? buf->data : calloc(1, 1);
	buf_init(buf, buf->max);
	return data;
}
