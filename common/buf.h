/* A growing byte buffer born with the largest size it may reach. Always NUL-ended behind its
 * length, so `data` reads as text. A failure (no memory, over the limit) is sticky: later
 * appends do nothing and buf_ok() says false, so callers check once.
 * Owns: `data`, until buf_fini or buf_take. Thread: any, one at a time. */
#ifndef COMMON_BUF_H
#define COMMON_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"

struct buf {
	char *data; /* NULL while nothing was appended; use buf_text for text */
	size_t len;
	size_t cap;
	size_t max;
	bool failed;
	bool is_borrowed; /* data is not ours to free */
};

void buf_init(struct buf *buf, size_t max_bytes);
/* In the N_BYTES at MEMORY, the caller's: takes N_BYTES - 1, allocates nothing, and is not for buf_take. */
void buf_init_in(struct buf *buf, char *memory, size_t n_bytes);
void buf_fini(struct buf *buf);  /* takes a zeroed one too; leaves it as buf_init would */
void buf_clear(struct buf *buf); /* empty again, memory kept, failure forgotten */

void buf_append(struct buf *buf, const void *data, size_t n_bytes);
void buf_puts(struct buf *buf, const char *text);
void buf_putc(struct buf *buf, char c);
void buf_printf(struct buf *buf, const char *format, ...) PRINTF(2, 3);
/* Drops the first N_BYTES. */
void buf_consume(struct buf *buf, size_t n_bytes);
/* Makes room for N_BYTES more behind len; returns where, or NULL. Caller then adds to len. */
char *buf_reserve(struct buf *buf, size_t n_bytes);

bool buf_ok(const struct buf *buf);
const char *buf_text(const struct buf *buf); /* "" when empty */
/* The bytes, for the caller to free; the buffer is empty then. NULL if it failed. */
char *buf_take(struct buf *buf);

#endif
