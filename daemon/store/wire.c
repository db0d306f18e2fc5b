/* Decoding for hostile bytes: every length is judged before memory is asked for, every list grows
 * by what has arrived, and the sum of a reply is bounded. */
#include "daemon/store/wire.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/store_path.h"
#include "daemon/store/texts.h"

#define MESSAGE_SIZE 400

enum {
	STDERR_NEXT = 0x6f6c6d67,
	STDERR_WRITE = 0x64617416,
	STDERR_LAST = 0x616c7473,
	STDERR_ERROR = 0x63787470,
	STDERR_START_ACTIVITY = 0x53545254,
	STDERR_STOP_ACTIVITY = 0x53544f50,
	STDERR_RESULT = 0x52534c54,
};

void wire_init(struct wire *wire, wire_read_fn read, void *ctx)
{
	wire->read = read;
	wire->ctx = ctx;
	wire->err = (struct error){ 0 };
	wire->pos = wire->len = 0;
	wire_begin(wire);
}

void wire_begin(struct wire *wire)
{
	wire->n_left = WIRE_REPLY_MAX;
}

bool wire_is_ok(const struct wire *wire)
{
	return wire->err.kind == ERROR_NONE;
}

int wire_end(const struct wire *wire, struct error *err)
{
	return wire_is_ok(wire) ? 0 : error_copy(err, &wire->err);
}

/* Takes colours (ESC [ ... letter) out of a message, which can quote what came, and puts it on one line. */
static void clean(char *text)
{
	char *dst = text;

	for (const char *src = text; *src != '\0'; src++) {
		if (src[0] == '\033' && src[1] == '[') {
			src += 2 + strspn(src + 2, "0123456789;?");
			if (*src == '\0')
				break;
			continue;
		}
		*dst++ = (unsigned char)*src < 0x20 || *src == 0x7f ? ' ' : *src;
	}
	while (dst > text && dst[-1] == ' ')
		dst--;
	*dst = '\0';
}

void wire_fail(struct wire *wire, const char *format, ...)
{
	char text[sizeof(wire->err.text)];
	va_list args;

	if (!wire_is_ok(wire))
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	clean(text);
	error_set(&wire->err, ERROR_TRANSIENT, "%s", text);
}

static bool refill(struct wire *wire)
{
	struct error err;
	ssize_t n = wire->read(wire->ctx, wire->data, sizeof(wire->data), &err);

	if (n < 0)
		wire->err = err;
	if (n == 0)
		wire_fail(wire, "the connection ended in the middle of a reply");
	wire->pos = 0;
	wire->len = n > 0 ? (size_t)n : 0;
	return n > 0;
}

/* Takes N_BYTES into DATA, or drops them if DATA is NULL. */
static bool take(struct wire *wire, void *data, size_t n_bytes)
{
	uint8_t *dst = data;

	if (n_bytes > wire->n_left)
		wire_fail(wire, "a reply of more than %zu bytes", (size_t)WIRE_REPLY_MAX);
	if (!wire_is_ok(wire))
		return false;
	wire->n_left -= n_bytes;
	while (n_bytes > 0) {
		size_t n;

		if (wire->pos == wire->len && !refill(wire))
			return false;
		n = wire->len - wire->pos < n_bytes ? wire->len - wire->pos : n_bytes;
		if (dst != NULL) {
			memcpy(dst, wire->data + wire->pos, n);
			dst += n;
		}
		wire->pos += n;
		n_bytes -= n;
	}
	return true;
}

uint64_t wire_u64(struct wire *wire)
{
	uint8_t b[8];
	uint64_t value = 0;

	if (!take(wire, b, sizeof(b)))
		return 0;
	for (size_t i = sizeof(b); i-- > 0;)
		value = value << 8 | b[i];
	return value;
}

uint64_t wire_u64_upto(struct wire *wire, uint64_t max)
{
	uint64_t value = wire_u64(wire);

	if (value <= max)
		return value;
	wire_fail(wire, "the number %llu where at most %llu can be", (unsigned long long)value,
	          (unsigned long long)max);
	return 0;
}

bool wire_bool(struct wire *wire)
{
	return wire_u64(wire) != 0;
}

static void take_padding(struct wire *wire, size_t len)
{
	static const uint8_t zeros[8];
	uint8_t padding[8] = { 0 };

	if (take(wire, padding, (8 - len % 8) % 8) && memcmp(padding, zeros, sizeof(zeros)) != 0)
		wire_fail(wire, "padding that is not zero");
}

char *wire_text(struct wire *wire, size_t max_bytes)
{
	uint64_t len = wire_u64(wire);
	char *text;

	if (len > max_bytes)
		wire_fail(wire, "a text of %llu bytes where at most %zu can be", (unsigned long long)len,
		          max_bytes);
	if (!wire_is_ok(wire))
		return NULL;
	text = malloc((size_t)len + 1);
	if (text == NULL) {
		wire_fail(wire, "out of memory");
		return NULL;
	}
	text[len] = '\0';
	if (take(wire, text, (size_t)len)) {
		take_padding(wire, (size_t)len);
		if (strlen(text) != len)
			wire_fail(wire, "a text with a NUL in it");
	}
	if (!wire_is_ok(wire)) {
		free(text);
		return NULL;
	}
	return text;
}

void wire_text_cut(struct wire *wire, char *text, size_t size)
{
	uint64_t len = wire_u64(wire);
	size_t n;

	text[0] = '\0';
	if (len > WIRE_REPLY_MAX)
		wire_fail(wire, "a text of %llu bytes", (unsigned long long)len);
	n = len < size - 1 ? (size_t)len : size - 1;
	if (!wire_is_ok(wire) || !take(wire, text, n)) {
		text[0] = '\0';
		return;
	}
	text[n] = '\0';
	if (take(wire, NULL, (size_t)len - n))
		take_padding(wire, (size_t)len);
}

void wire_skip_text(struct wire *wire)
{
	char nothing[1];

	wire_text_cut(wire, nothing, sizeof(nothing));
}

char *wire_store_path(struct wire *wire, const char *store_dir, bool optional)
{
	char *path = wire_text(wire, STORE_PATH_SIZE - 1);
	struct error err;

	if (path == NULL)
		return NULL;
	if (optional && path[0] == '\0') {
		free(path);
		return NULL;
	}
	if (store_path_check(path, store_dir, &err) < 0) {
		wire_fail(wire, "%s", err.text);
		free(path);
		return NULL;
	}
	return path;
}

void wire_append(struct wire *wire, char ***list, size_t *n, char *text)
{
	if (text != NULL && texts_append(list, n, text) < 0)
		wire_fail(wire, "out of memory");
}

void wire_store_paths(struct wire *wire, const char *store_dir, char ***ret, size_t *ret_n)
{
	uint64_t n = wire_u64(wire);

	for (; n > 0 && wire_is_ok(wire); n--)
		wire_append(wire, ret, ret_n, wire_store_path(wire, store_dir, false));
}

void wire_texts(struct wire *wire, size_t max_bytes, char ***ret, size_t *ret_n)
{
	uint64_t n = wire_u64(wire);

	for (; n > 0 && wire_is_ok(wire); n--)
		wire_append(wire, ret, ret_n, wire_text(wire, max_bytes));
}

static void read_error(struct wire *wire, unsigned minor)
{
	char message[MESSAGE_SIZE];

	if (minor >= 26) {
		wire_skip_text(wire); /* "Error" */
		wire_u64(wire);       /* level */
		wire_skip_text(wire); /* name */
	}
	wire_text_cut(wire, message, sizeof(message));
	if (minor >= 26) {
		wire_u64_upto(wire, 0); /* no position */
		for (uint64_t n = wire_u64(wire); n > 0 && wire_is_ok(wire); n--) {
			wire_u64_upto(wire, 0);
			wire_skip_text(wire);
		}
	} else {
		wire_u64(wire); /* exit status */
	}
	wire_fail(wire, "it says: %s", message);
}

static void skip_fields(struct wire *wire)
{
	for (uint64_t n = wire_u64(wire); n > 0 && wire_is_ok(wire); n--) {
		if (wire_u64_upto(wire, 1) == 0)
			wire_u64(wire);
		else
			wire_skip_text(wire);
	}
}

static void skip_activity(struct wire *wire)
{
	wire_u64(wire); /* id */
	wire_u64(wire); /* level */
	wire_u64(wire); /* type */
	wire_skip_text(wire);
	skip_fields(wire);
	wire_u64(wire); /* parent */
}

static void skip_result(struct wire *wire)
{
	wire_u64(wire); /* id */
	wire_u64(wire); /* type */
	skip_fields(wire);
}

void wire_stderr(struct wire *wire, unsigned minor)
{
	while (wire_is_ok(wire)) {
		uint64_t tag = wire_u64(wire);

		if (!wire_is_ok(wire) || tag == STDERR_LAST)
			return;
		switch (tag) {
		case STDERR_NEXT:
		case STDERR_WRITE:
			wire_skip_text(wire);
			break;
		case STDERR_START_ACTIVITY:
			skip_activity(wire);
			break;
		case STDERR_STOP_ACTIVITY:
			wire_u64(wire);
			break;
		case STDERR_RESULT:
			skip_result(wire);
			break;
		case STDERR_ERROR:
			read_error(wire, minor);
			break;
		default: /* STDERR_READ too: we never send data that it could ask for */
			wire_fail(wire, "an unknown message 0x%llx", (unsigned long long)tag);
		}
	}
}

void wire_put_u64(struct buf *buf, uint64_t value)
{
	uint8_t b[8];

	for (size_t i = 0; i < sizeof(b); i++)
		b[i] = (uint8_t)(value >> (8 * i));
	buf_append(buf, b, sizeof(b));
}

void wire_put_text(struct buf *buf, const char *text)
{
	static const char zeros[8];
	size_t len = strlen(text);

	wire_put_u64(buf, len);
	buf_append(buf, text, len);
	buf_append(buf, zeros, (8 - len % 8) % 8);
}
