/* The store's own SQLite database, for when no nix-daemon answers (PROTOCOLS 7). Only ever read, in
 * one short transaction, and not kept open: a Nix that stopped cleanly has left no WAL index, and
 * where we cannot make one the file is read as immutable, which is right only for an instant.
 * Errors: TRANSIENT (busy, not readable, a schema other than 10, a row that makes no sense).
 * Thread: any; it blocks. */
#ifndef DAEMON_STORE_DATABASE_H
#define DAEMON_STORE_DATABASE_H

#include "daemon/format/path_info.h"

struct database;

/* Asks DATABASE with the functions below. */
typedef int (*database_fn)(struct database *database, void *ctx, struct error *err);

/* Calls FN(CTX) in a read transaction on the database below STATE_DIR. It can happen that what was
 * read cannot be trusted; then FN is called again, and begins anew. */
int database_read(const char *state_dir, const char *store_dir, database_fn fn, void *ctx, struct error *err)
	MUST_CHECK;

/* As worker_query_path_info, worker_query_outputs; but only outputs that are valid. */
int database_query_path_info(struct database *database, const char *path, struct path_info *ret,
                             struct error *err) MUST_CHECK;
int database_query_outputs(struct database *database, const char *derivation, char ***ret, size_t *ret_n,
                           struct error *err) MUST_CHECK;
/* Up to N_MAX paths that were built here and registered at SINCE or later, whose rows come after AFTER_ID,
 * and the id of the last one's row. The caller's to texts_free. */
int database_query_built(struct database *database, int64_t since_unix_s, int64_t after_id, size_t n_max,
                         char ***ret, size_t *ret_n, int64_t *ret_last_id, struct error *err) MUST_CHECK;

#endif
