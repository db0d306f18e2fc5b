/* What db.c and stmt.c know of each other. */
#ifndef DAEMON_DB_INTERNAL_H
#define DAEMON_DB_INTERNAL_H

#include <sqlite3.h>

#include "daemon/db/stmt.h"

struct stmt {
	struct db *db;
	const char *text; /* NULL: a free place of the table */
	sqlite3_stmt *handle;
	int rc; /* SQLITE_OK, or the first failure since the last reset */
	bool in_use;
};

/* A table that is never full: open addressing, grown by db_grow_stmts before it is. */
struct db {
	sqlite3 *handle;
	char *path;
	char *set_aside; /* or NULL */
	int lock_fd;
	bool is_broken, is_damaged; /* damaged implies broken */
	uint64_t wal_bytes_max;
	uint64_t deadline_mono_ms; /* of a reader */
	struct stmt **stmts;       /* by address of the text; n_places is a power of two */
	size_t n_stmts, n_places;
};

/* Keeps whether RC is final, fills ERR with what SQLite says. Returns -1. */
int db_fail(struct db *db, int rc, struct error *err);

/* Is it ours, whole as far as its header and the names in its schema say, and not of a newer daemon?
 * *RET_VERSION is its schema's, 0 of a new file. Errors: OPERATOR; damage has been marked. */
int db_check(struct db *db, const struct db_config *config, int64_t *ret_version, struct error *err)
	MUST_CHECK;

#endif
