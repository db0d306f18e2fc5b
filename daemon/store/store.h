/* What Nix knows: path info, outputs of derivations, where the files lie. Asked of the nix-daemon's
 * socket (PROTOCOLS 6), or where that fails in any way, of the store's database, read-only
 * (PROTOCOLS 7.3). Two threads of its own. A connection that a job leaves sound is kept for the next
 * one; two seconds after the last job all are closed, since each holds a process of the nix-daemon.
 * Errors: TRANSIENT (neither can be reached), with both reasons in the text; CANCELED (closing).
 * Thread: loop. */
#ifndef DAEMON_STORE_STORE_H
#define DAEMON_STORE_STORE_H

#include "daemon/format/path_info.h"
#include "daemon/loop/lane.h"

struct store;

/* URI is Nix's own: auto, daemon, unix:///PATH, local, local?root=/DIR, /DIR. Nothing is contacted yet.
 * Honours NIX_STORE_DIR, NIX_STATE_DIR, NIX_DAEMON_SOCKET_PATH, and for auto NIX_REMOTE, as Nix does.
 * A local store is one that no nix-daemon is asked about. Errors: OPERATOR (no such URI). */
int store_open(struct store **ret, struct loop *loop, const char *uri, struct error *err) MUST_CHECK;
/* What was asked and not begun ends CANCELED. Takes NULL (CLOSED is then not called). */
void store_close(struct store *store, lane_closed_fn closed, void *ctx);

const char *store_dir(const struct store *store);       /* "/nix/store": what store paths begin with */
const char *store_real_dir(const struct store *store);  /* where its files lie; differs for root=/DIR */
const char *store_state_dir(const struct store *store); /* "/nix/var/nix" below the root */

/* The room's own part of a request. */
struct store_job {
	struct lane_job lane;
	struct store *store;
	void (*run)(struct store_job *job);    /* on a store thread */
	void (*finish)(struct store_job *job); /* on the loop */
};

struct store_info_query;
typedef void (*store_info_fn)(struct store_info_query *query);
struct store_info_query { /* the caller's until done */
	store_info_fn done;
	struct error err;
	const char *const *paths; /* borrowed until done; valid store path texts */
	size_t n_paths;
	struct path_info *infos; /* the caller's array of n_paths zeroed ones, so again after an error;
	                          * path NULL there: not valid */
	struct store_job job;
};
void store_info_start(struct store *store, struct store_info_query *query, store_info_fn done);

struct store_outputs_query;
typedef void (*store_outputs_fn)(struct store_outputs_query *query);
struct store_outputs_query { /* the caller's until done */
	store_outputs_fn done;
	struct error err;
	const char *derivation; /* ends in .drv; borrowed until done */
	char **outputs;         /* those known and valid; the caller's to free, with each text */
	size_t n_outputs;
	struct store_job job;
};
void store_outputs_start(struct store *store, struct store_outputs_query *query, store_outputs_fn done);

/* What was built here, by key in pages, as the store's own database says: nix-daemon is not asked, since it
 * would have to be for each path that there is. */
#define STORE_BUILT_PAGE 256
struct store_built_query;
typedef void (*store_built_fn)(struct store_built_query *query);
struct store_built_query { /* the caller's until done */
	store_built_fn done;
	struct error err;
	int64_t since_unix_s; /* registered then or later */
	int64_t after_id;     /* 0: from the beginning; else the last page's last_id */
	char **paths;         /* up to STORE_BUILT_PAGE; the caller's to free, with each text */
	size_t n_paths;       /* fewer: it was the last page */
	int64_t last_id;
	struct store_job job;
};
void store_built_start(struct store *store, struct store_built_query *query, store_built_fn done);

#endif
