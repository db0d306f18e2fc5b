/* Small helpers around file descriptors and files. All open with O_CLOEXEC.
 * Errors: errno is in the text, kind TRANSIENT unless said. Thread: any (they block). */
#ifndef COMMON_FD_H
#define COMMON_FD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/attr.h"
#include "common/error.h"

void close_fd(int *fd); /* for CLEANUP; takes -1 */
int take_fd(int *fd);   /* returns it and leaves -1 behind */

/* Writes or reads all N_BYTES, over short counts and EINTR. Return -1 with errno; read_full
 * returns the bytes read, fewer than asked only at the end of the file. */
int write_full(int fd, const void *data, size_t n_bytes) MUST_CHECK;
ssize_t read_full(int fd, void *data, size_t n_bytes) MUST_CHECK;

/* Reads the regular file PATH whole, refusing more than MAX_BYTES (OPERATOR). *RET is
 * NUL-ended and the caller's to free; RET_LEN may be NULL. */
int read_file(const char *path, size_t max_bytes, char **ret, size_t *ret_len, struct error *err) MUST_CHECK;

/* Makes DIR with MODE if it does not exist; parents must exist unless PARENTS. */
int make_dir(const char *dir, mode_t mode, int parents, struct error *err) MUST_CHECK;

int fsync_dir(const char *dir, struct error *err) MUST_CHECK;
/* What is in DIR is not durable before DIR's own name is. Where its parent may not be read, that is left to
 * the system. */
void fsync_parent(const char *dir);

#endif
