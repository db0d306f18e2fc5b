/* A file that appears whole or not at all, and never in place of another: written without a name, or where
 * the file system has no such files under one of its own in FOLDER/.tmp; made durable, then given its name.
 * Errors: OPERATOR where a person must act (permissions, read-only, a folder that is not there),
 * else TRANSIENT (no space, I/O). Thread: any, one at a time; it blocks. */
#ifndef DAEMON_BACKEND_FRESH_FILE_H
#define DAEMON_BACKEND_FRESH_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "common/attr.h"
#include "common/error.h"

#define FRESH_PATH_SIZE 2048

struct fresh_file {
	int fd; /* -1: not open */
	bool is_nameless;
	char temp[FRESH_PATH_SIZE]; /* its name until then; that of FOLDER/.tmp while it has none */
	char path[FRESH_PATH_SIZE];
};

/* Fills ERR from errno, for what PATH names; errno stays. Returns -1. */
int errno_fault(struct error *err, const char *path);
int make_folder(const char *folder, struct error *err) MUST_CHECK; /* and FOLDER/.tmp; 0755 */
/* Removes what was left in FOLDER/.tmp by those who died, once it is a day old. */
void sweep_folder(const char *folder);

/* Returns 1, and nothing is open, if FOLDER/NAME is there already. */
int fresh_open(struct fresh_file *file, const char *folder, const char *name, struct error *err) MUST_CHECK;
int fresh_write(struct fresh_file *file, const void *data, size_t n_bytes, struct error *err) MUST_CHECK;
/* Makes the bytes durable and gives the file its name; closes it. Returns 1 if the name is taken: that
 * file stays, ours goes. The name itself is durable only after sync_folder. */
int fresh_commit(struct fresh_file *file, struct error *err) MUST_CHECK;
/* Makes durable what lies at PATH, whoever wrote it, but for its name; where nothing can be written, it is so
 * already. Returns 1 and fills RET, or 0 if nothing lies there. */
int sync_found(const char *path, struct stat *ret, struct error *err) MUST_CHECK;
int sync_folder(const char *folder, struct error *err) MUST_CHECK;
void fresh_discard(struct fresh_file *file); /* takes one that is not open */

#endif
