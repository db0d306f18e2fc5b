/* The narinfo of a path: the small text by which a cache says that it has the path.
 * Limits: text to read at most 1 MiB, 16,384 references, 256 signatures. Thread: any. */
#ifndef DAEMON_FORMAT_NARINFO_H
#define DAEMON_FORMAT_NARINFO_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "daemon/format/path_info.h"

#define NARINFO_MAX_BYTES MIB(1)

struct narinfo_file { /* the file that holds the NAR; all borrowed */
	const char *url;
	const char *compression;
	const uint8_t *file_hash; /* SHA-256, or NULL: unknown, and the line is left out */
	uint64_t file_size;
	const char *const *sigs; /* further signatures, "name:base64", beside those of the path info */
	size_t n_sigs;
};

/* Appends the narinfo of INFO, which must be normalized. Signatures are sorted, each once; what is
 * no signature is left out, since newer readers refuse a narinfo that holds one.
 * Errors: PERMANENT (no NAR size; a text that would break the lines), TRANSIENT (no memory). */
int narinfo_format(struct buf *buf, const struct path_info *info, const struct narinfo_file *file,
                   struct error *err) MUST_CHECK;

struct narinfo {               /* what a cache answered; zeroed is empty */
	struct path_info info; /* path, nar_hash, nar_size, references and sigs; normalized */
	char *url;
	char *compression;
	uint64_t file_size; /* 0: unknown */
};

/* Reads a server's answer, as strictly as Nix does; unknown fields are passed over. The path must
 * lie in STORE_DIR.
 * Errors: PERMANENT "narinfo line N: ..."; RET is untouched then. */
int narinfo_parse(struct narinfo *ret, const char *text, size_t len, const char *store_dir, struct error *err)
	MUST_CHECK;
void narinfo_fini(struct narinfo *narinfo); /* takes a zeroed one too, and zeroes it */

#endif
