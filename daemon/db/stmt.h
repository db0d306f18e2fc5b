/* Prepared statements. The text stands where it is used and is prepared at first use:
 *
 *	STMT(st, db, "UPDATE job SET state = 5 WHERE id = :id");
 *
 *	stmt_bind_int(st, ":id", id);
 *	if (stmt_run(st, err) < 0)
 *		return error_prefix(err, "finish job %" PRId64, id);
 *
 * Binds are sticky: the first failure, that of preparing included, is kept and returned by stmt_step,
 * so callers check one result, not five. The statement is reset when the block is left; a text must not
 * be used again within its own block.
 * Ownership: bound text and blobs are borrowed until the block is left; what a column returns lives until
 * the next step. Thread: that of the db. */
#ifndef DAEMON_DB_STMT_H
#define DAEMON_DB_STMT_H

#include "daemon/db/db.h"

struct stmt;
enum stmt_result { STMT_ROW, STMT_DONE, STMT_FAILED };

#define STMT(st, db, sql) CLEANUP(stmt_reset_ptr) struct stmt *st = stmt_get(db, "" sql)

/* Never NULL. TEXT is a literal: its address is the key it is found by. */
struct stmt *stmt_get(struct db *db, const char *text);
void stmt_reset_ptr(struct stmt **st);

void stmt_bind_int(struct stmt *st, const char *name, int64_t value);
void stmt_bind_text(struct stmt *st, const char *name, const char *value); /* NULL binds NULL */
void stmt_bind_blob(struct stmt *st, const char *name, const void *value, size_t n_bytes);
/* Lets the same binds, or changed ones, run again. */
void stmt_rewind(struct stmt *st);

enum stmt_result stmt_step(struct stmt *st, struct error *err) MUST_CHECK;
/* For what returns no rows. */
int stmt_run(struct stmt *st, struct error *err) MUST_CHECK;

bool stmt_is_null(struct stmt *st, int column);
int64_t stmt_int(struct stmt *st, int column);
const char *stmt_text(struct stmt *st, int column);                  /* NULL for NULL */
const void *stmt_blob(struct stmt *st, int column, size_t *ret_len); /* NULL for NULL */
/* The caller's to free; *RET is NULL for NULL. */
int stmt_text_copy(struct stmt *st, int column, char **ret, struct error *err) MUST_CHECK;

#endif
