/* What a NAR's file unpacks to: fed piece by piece, hashed, counted and thrown away.
 * Limits: a window of 128 MiB, as every reader of caches grants; a NAR larger than it should be is given up
 * there. Thread: any, one at a time. */
#ifndef DAEMON_PACK_UNPACK_H
#define DAEMON_PACK_UNPACK_H

#include "daemon/format/path_info.h"

struct unpack;

/* COMPRESSION as a narinfo names it. Returns 1: one that we cannot undo; 0; or -1: no memory (TRANSIENT). */
int unpack_new(struct unpack **ret, const char *compression, struct error *err) MUST_CHECK;
void unpack_free(struct unpack *unpack); /* takes NULL */

/* NAR_SIZE: what it may have at most. Errors: PERMANENT, it is no such file; nothing but unpack_free then. */
int unpack_feed(struct unpack *unpack, const void *data, size_t n_bytes, uint64_t nar_size, struct error *err)
	MUST_CHECK;
/* After the last piece: does it have this hash and size? Errors: PERMANENT (no, or it was cut off),
 * TRANSIENT. */
int unpack_end(struct unpack *unpack, const uint8_t nar_hash[SHA256_BYTES], uint64_t nar_size,
               struct error *err) MUST_CHECK;

#endif
