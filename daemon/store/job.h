/* Work on the store's threads: for the files of this room alone. */
#ifndef DAEMON_STORE_JOB_H
#define DAEMON_STORE_JOB_H

#include "daemon/store/database.h"
#include "daemon/store/store.h"
#include "daemon/store/worker.h"

/* RUN on a store thread, then FINISH on the loop. */
void store_post(struct store *store, struct store_job *job, void (*run)(struct store_job *job),
                void (*finish)(struct store_job *job));

/* The rest is for RUN. */
typedef int (*store_daemon_fn)(struct worker *worker, void *ctx, struct error *err);

/* Calls FN on a connection. It is called once more, on a fresh one, if that was an old one and has
 * died; so FN begins anew, or goes on where it was.
 * Errors: TRANSIENT; CANCELED (closing). */
int store_ask_daemon(struct store *store, store_daemon_fn fn, void *ctx, struct error *err) MUST_CHECK;
int store_ask_database(struct store *store, database_fn fn, void *ctx, struct error *err) MUST_CHECK;
/* The one, and if that fails the other. */
int store_ask(struct store *store, store_daemon_fn from_daemon, database_fn from_database, void *ctx,
              struct error *err) MUST_CHECK;

#endif
