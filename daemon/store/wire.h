/* The primitives of Nix's worker protocol (PROTOCOLS 6.2, 6.4, 6.5), read from whatever gives bytes.
 * A fault is sticky: what is read after it is 0 or NULL, and nothing more is asked for; so a reply is
 * decoded in one go and wire_end() tells at its end.
 * Limits: WIRE_REPLY_MAX bytes a reply; every text has its own. Memory grows with what arrived, not
 * with what was announced.
 * Errors: TRANSIENT. After one the place in the stream is lost. Thread: any, one at a time. */
#ifndef DAEMON_STORE_WIRE_H
#define DAEMON_STORE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/error.h"

#define WIRE_REPLY_MAX MIB(64)

/* Returns the bytes put into DATA (at most SIZE), 0 at the end of the stream, or -1 with ERR set. */
typedef ssize_t (*wire_read_fn)(void *ctx, void *data, size_t size, struct error *err);

struct wire {
	wire_read_fn read;
	void *ctx;
	struct error err; /* kind NONE while all is well */
	size_t n_left;    /* bytes that this reply may still have */
	size_t pos, len;
	uint8_t data[8192];
};

void wire_init(struct wire *wire, wire_read_fn read, void *ctx);
/* A new reply begins. */
void wire_begin(struct wire *wire);
/* 0 if the reply was sound, else -1 and the fault. */
int wire_end(const struct wire *wire, struct error *err) MUST_CHECK;
bool wire_is_ok(const struct wire *wire);
void wire_fail(struct wire *wire, const char *format, ...) PRINTF(2, 3);

uint64_t wire_u64(struct wire *wire);
/* Fails on more than MAX. */
uint64_t wire_u64_upto(struct wire *wire, uint64_t max);
bool wire_bool(struct wire *wire);

/* The caller's to free; NULL after a fault. No NUL can be in it. */
char *wire_text(struct wire *wire, size_t max_bytes);
/* Keeps what fits TEXT (SIZE is at least 1), drops the rest. */
void wire_text_cut(struct wire *wire, char *text, size_t size);
void wire_skip_text(struct wire *wire);
/* A full store path; NULL for an empty text if OPTIONAL, else that is a fault. */
char *wire_store_path(struct wire *wire, const char *store_dir, bool optional);

/* Lists grow by what arrives; the caller frees them, after a fault too. */
void wire_store_paths(struct wire *wire, const char *store_dir, char ***ret, size_t *ret_n);
void wire_texts(struct wire *wire, size_t max_bytes, char ***ret, size_t *ret_n);
/* Appends TEXT, which it takes; NULL appends nothing. */
void wire_append(struct wire *wire, char ***list, size_t *n, char *text);

/* Reads messages up to STDERR_LAST, drops what they say; STDERR_ERROR becomes the fault. MINOR is
 * that of the protocol version agreed on: it decides how an error is laid out. */
void wire_stderr(struct wire *wire, unsigned minor);

/* What is written. */
void wire_put_u64(struct buf *buf, uint64_t value);
void wire_put_text(struct buf *buf, const char *text);

#endif
