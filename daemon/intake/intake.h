/* How paths come in: hand-overs by socket, spool files, GC roots that nobody explains; and how each
 * root becomes jobs (resolve). Durable before acknowledged: the row is committed and the daemon's GC
 * roots exist when done() fires (I1); where they could not be made, is_rooted says so.
 * Thread: loop. */
#ifndef DAEMON_INTAKE_INTAKE_H
#define DAEMON_INTAKE_INTAKE_H

#include "daemon/config/config.h"
#include "daemon/policy/policy.h"
#include "daemon/queue/queue.h"
#include "daemon/store/roots.h"
#include "daemon/store/store.h"

struct intake;

struct intake_config {
	struct loop *loop;
	struct queue *queue;
	struct store *store;
	struct roots *roots;
	const struct config *config; /* borrowed while open */
	const struct policy *policy;
	uint64_t targets; /* caches that take jobs */
	bool resolves;    /* false: with broken settings paths are taken in and left as they are */
	const uint64_t
		*upstreams; /* of CONFIG_MAX_ENDPOINTS: bits of the endpoints that are upstreams of a cache */
	/* It goes on, and is not ready yet. With many roots that takes long. */
	void (*on_starting)(void *ctx);
	/* The roots of all unfinished requests are there again, and what roots of the daemon's own are there
	 * is in the queue: from now on the daemon may serve. */
	void (*on_ready)(void *ctx);
	/* intake_n_bad_spool_files, intake_n_spool_files, intake_spool_message or roots_message says
	 * something else than before. */
	void (*on_news)(void *ctx);
	void *ctx;
};

int intake_open(struct intake **ret, const struct intake_config *config, struct error *err) MUST_CHECK;
/* Waits for what was begun; spool files not taken in stay. Takes NULL. */
void intake_close(struct intake *intake, lane_closed_fn closed, void *ctx);

struct intake_handover;
typedef void (*intake_done_fn)(struct intake_handover *handover);
struct intake_handover { /* the caller's until done; texts borrowed until then */
	intake_done_fn done;
	struct error err; /* PERMANENT: refused, nothing was taken in; TRANSIENT: not now */
	uint32_t uid;
	const char *tag, *derivation; /* or NULL */
	const char *const *paths;     /* valid store path texts */
	size_t n_paths;               /* 0: the outputs of the derivation */
	uint64_t caches;              /* bits; 0: all */
	bool push;                    /* nobody protects the paths: each must be valid */
	bool is_spooled;              /* if it fails, it is tried again: its roots stay */
	bool force;
	int64_t request_id; /* out */
	size_t n_new;       /* out */
	bool is_rooted;     /* out: the daemon's GC roots exist; without them the caller's own must stay */

	struct intake *intake;
	struct queue_add add;
	struct queue_add_path *add_paths;
	struct roots_add roots_add;
	bool *is_valid;
	bool *had_root;    /* of a push that leaves nothing if it fails; else NULL */
	bool was_released; /* while it was on its way: is its root wanted? */
	struct queue_explain explain;
	unsigned n_waits;
	struct intake_handover *next, **at; /* AT: where it hangs */
	struct loop_post post;
};
void intake_start(struct intake *intake, struct intake_handover *handover, intake_done_fn done);

/* From now on the spool and stray roots are left for the next start; what is in goes on being resolved. */
void intake_take_no_more(struct intake *intake);
/* The queue has roots to resolve. */
void intake_poke(struct intake *intake);
/* These store paths are not named by any unfinished root: their GC roots go. */
void intake_released(struct intake *intake, char *const *paths, size_t n_paths);
uint64_t intake_n_bad_spool_files(const struct intake *intake);
/* Of the daemon's own roots that were taken in until now, and of which the queue remembered nothing. */
uint64_t intake_n_unknown_roots(const struct intake *intake);
uint64_t intake_n_spool_files(const struct intake *intake); /* that wait, or are being taken in */
/* NULL, or why the spool cannot be used as it should, and what would be right. */
const char *intake_spool_message(const struct intake *intake);

#endif
