/* Writes a file tree as a NAR, piece by piece: each nar_read() fills a buffer with the next bytes
 * and may stop anywhere, so that a caller works in slices of its own size.
 * Symbolic links are never followed. File contents go from read(2) straight into the buffer.
 * Limits: 256 directories deep, each level holding one descriptor and the names of one directory
 * (at most 64 MiB of them).
 * Thread: any, one at a time; blocks on the disk. */
#ifndef DAEMON_FORMAT_NAR_H
#define DAEMON_FORMAT_NAR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/attr.h"
#include "common/error.h"

#define NAR_DEPTH_MAX           256
#define NAR_DIRECTORY_MAX_BYTES MIB(64)

struct nar;

/* Touches no file yet. Errors: TRANSIENT (no memory). */
int nar_open(struct nar **ret, const char *path, struct error *err) MUST_CHECK;
void nar_close(struct nar *nar); /* takes NULL */

/* Writes the next bytes to DST. Returns how many: N_MAX, or fewer at the end, then 0. On -1 there
 * is nothing to do but close; the text begins with the file's path.
 * Errors: PERMANENT (gone; too deep, too large, or of a type that a NAR cannot hold),
 * TRANSIENT (I/O, no memory, changed while it was read). */
ssize_t nar_read(struct nar *nar, void *dst, size_t n_max, struct error *err) MUST_CHECK;

/* After an error: is there nothing left at the root of the tree? */
bool nar_is_gone(const struct nar *nar);
/* And was it for want of memory or descriptors? Then the tree is not to blame. */
bool nar_lacks_means(const struct nar *nar);

#endif
