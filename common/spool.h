/* The spool: a directory in which hooks leave requests for a daemon that did not answer. A file is one
 * request, named UNIX-NANOSECONDS.PID.req (19 digits, so that names sort by age). It appears under that
 * name only whole and durable. Files of other names are not requests: ".NAME.tmp" is one being written
 * or cut off, ".slow" the mark of a daemon that did not answer in time.
 * Thread: any (they block). */
#ifndef COMMON_SPOOL_H
#define COMMON_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/error.h"

#define SPOOL_SYSTEM_DIR "/var/lib/nncache/spool"
#define SPOOL_DIR_SIZE   4096
#define SPOOL_SUFFIX     ".req"
#define SPOOL_NAME_SIZE  40 /* of the longest name, with its end */

/* Writes to DIR the spool of the user who runs this: $XDG_STATE_HOME/nncache/spool, or below
 * $HOME/.local/state. Returns false if neither variable holds an absolute path. */
bool spool_user_dir(char dir[SPOOL_DIR_SIZE]);

/* Leaves the request of N_BYTES in DIR: written, synced, renamed, the directory synced. Readable by all,
 * since the daemon is another user; whose it is says its owner.
 * Errors: TRANSIENT; then nothing is left in DIR but what could not be removed. */
int spool_write(const char *dir, const void *data, size_t n_bytes, struct error *err) MUST_CHECK;

/* Is NAME the name of a request? Then it fits SPOOL_NAME_SIZE, and its time is in *RET_UNIX_NS, unless that
 * is NULL. */
bool spool_name_parse(const char *name, uint64_t *ret_unix_ns);

/* The mark of a slow daemon. Its age in milliseconds, or UINT64_MAX: none, or from the future. */
uint64_t spool_slow_age_ms(const char *dir);
/* Both do nothing when they cannot: a missing mark costs time, no path. */
void spool_slow_set(const char *dir);
void spool_slow_clear(const char *dir);

#endif
