/* One SQLite file that one process owns: opened safely, brought up to date, written in transactions
 * that are atomic when they are committed, in their order, and durable after db_sync.
 * Limits: page cache as asked; the WAL is written back from 4 MiB on, and cut at 64 MiB. While a reader
 * holds an old state it cannot be cut: then each commit beyond that waits up to 5 s for it.
 * Errors: TRANSIENT (busy, disk full, I/O), OPERATOR (another process has it, a newer schema, another
 * program's, a network file system). After a failed fsync, or once damage was seen, db_is_broken says
 * true for good: what was written last may not be on disk, so the process must not go on.
 * Thread: any, one at a time; a reader is a connection of its own. */
#ifndef DAEMON_DB_DB_H
#define DAEMON_DB_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/error.h"

struct db;

struct db_config {
	const char *path; /* its directory exists */
	uint32_t application_id;
	const char *const *migrations; /* SQL; number i leads from schema version i to i + 1 */
	size_t n_migrations;
	size_t cache_bytes;
	/* Or NULL. As each migration begins, and every few milliseconds while it runs. */
	void (*on_migrating)(void *ctx);
	void *ctx;
};

/* Opens the file, made with mode 0600 if it is not there, for this process alone: PATH.lock is held
 * until db_close or the end of the process. Runs the migrations that are missing, each in a
 * transaction. Checks the header, the schema and that no page is missing at the end; a damaged file, and
 * one that a connection found so before, is set aside (aside.h) and a new one made. */
int db_open(struct db **ret, const struct db_config *config, struct error *err) MUST_CHECK;

/* A second connection that only reads, to a file that is open in this process. */
int db_open_reader(struct db **ret, const char *path, size_t cache_bytes, struct error *err) MUST_CHECK;
/* What a reader reads from now on fails (TRANSIENT) once MS have passed, for the WAL grows as long as
 * somebody looks at an old state. */
void db_limit_time(struct db *reader, uint64_t ms);

void db_close(struct db *db); /* takes NULL; every statement goes with it */

/* Runs SQL of one or more statements, rows ignored. */
int db_exec(struct db *db, const char *sql, struct error *err) MUST_CHECK;

/* A transaction that writes from its start, and a savepoint in it. Nothing nests. */
int db_begin(struct db *db, struct error *err) MUST_CHECK;
int db_commit(struct db *db, struct error *err) MUST_CHECK; /* on failure it was rolled back */
/* All that was committed survives a power cut from here on. On failure db_is_broken. */
int db_sync(struct db *db, struct error *err) MUST_CHECK;
void db_rollback(struct db *db);
int db_savepoint(struct db *db, struct error *err) MUST_CHECK;
int db_savepoint_release(struct db *db, struct error *err) MUST_CHECK;
int db_savepoint_rollback(struct db *db, struct error *err) MUST_CHECK;
/* Is a transaction open? A full disk can end one at any statement. */
bool db_in_transaction(const struct db *db);

bool db_is_broken(const struct db *db);
/* Broken by damage in the file: it is marked, and the next db_open sets it aside. */
bool db_is_damaged(const struct db *db);
/* For damage that is found by looking rather than by an error. */
void db_mark_damaged(struct db *db);
/* Where the damaged file lies that this db_open set aside, or NULL; lives until db_close. */
const char *db_set_aside(const struct db *db);

int64_t db_last_id(const struct db *db);        /* of the last INSERT */
uint64_t db_n_changed(const struct db *db);     /* rows of the last INSERT, UPDATE or DELETE */
uint64_t db_wal_bytes_max(const struct db *db); /* the largest the WAL was after a commit */

#endif
