/* What the files of intake/ share. */
#ifndef DAEMON_INTAKE_PARTS_H
#define DAEMON_INTAKE_PARTS_H

#include <dirent.h>

#include "common/spool.h"
#include "daemon/intake/info_cache.h"
#include "daemon/intake/intake.h"
#include "daemon/loop/timer.h"
#include "daemon/loop/watch.h"

struct walk_batch;

#define SPOOL_AT_ONCE 64
#define SPOOL_LISTED  1024

struct spool {
	struct watch watch;
	struct timer rescan;
	size_t n_running; /* files being taken in */
	/* The pass under way: names that were read of DIR, oldest first, and the next of them. DIR is NULL
	 * once all are read. */
	DIR *dir;
	char names[SPOOL_LISTED][SPOOL_NAME_SIZE];
	size_t n_names, next;
	bool has_begun; /* to take in a file of it */
	/* when they were counted last, less what was taken in or set aside since */
	uint64_t n_bad, n_waiting;
	char message[512]; /* why it cannot be used as it should; "": it can */
	/* Taken in, and could not be removed: they are not taken in again. */
	char kept[SPOOL_AT_ONCE][SPOOL_NAME_SIZE];
	size_t n_kept;
};

struct stray;

struct sweep {
	struct timer again;
	bool is_running;
	bool was_ready;     /* on_ready was called */
	uint64_t n_unknown; /* the daemon's own roots, taken in, of which the queue remembered nothing */
	bool lacks_roots;   /* some could not be made: the next sweep tries again */
	/* the page that is looked at */
	struct roots_list list;
	struct queue_explain explain;
	const char *paths[ROOTS_PAGE];
	int64_t since_unix_s[ROOTS_PAGE];
	struct queue_explained found[ROOTS_PAGE];
	size_t next;         /* entry to look at */
	bool is_explained;   /* the page */
	uint64_t again_ms;   /* until the next sweep */
	size_t n_running;    /* stray roots being enqueued */
	struct stray *taken; /* hooks' roots that go once they have been beside the daemon's for a while */
	struct timer settle;
	/* remaking the roots of unfinished requests at start */
	struct queue_unfinished_roots page;
	struct roots_add add;
	bool was_released; /* something, since the page was asked for */
};

struct resolve {
	struct queue_claim_roots claim;
	bool is_claiming, claim_again;
	struct walk_batch *spare; /* for what the claim brings; NULL without a claim */
	struct walk_batch *batch; /* what is being resolved; NULL: nothing */
	struct timer due;
	struct info_cache infos;
};

struct intake {
	struct loop *loop;
	struct queue *queue;
	struct store *store;
	struct roots *roots;
	const struct config *config;
	const struct policy *policy;
	uint64_t targets;
	bool resolves;
	uint64_t upstreams[CONFIG_MAX_ENDPOINTS]; /* of each cache: bits of endpoint numbers */
	void (*on_starting)(void *ctx);
	void (*on_ready)(void *ctx);
	void (*on_news)(void *ctx);
	void *ctx;

	struct intake_handover *handovers; /* on their way: their roots must stay */
	struct spool spool;
	struct sweep sweep;
	struct resolve resolve;

	bool has_roots_message; /* as last told */
	bool takes_no_more;
	bool closing;
	size_t n_handles;
	lane_closed_fn closed;
	void *closed_ctx;
	struct loop_post close_post;
};

/* Something of intake ended while it is closing: closes it once nothing is left. */
void intake_maybe_closed(struct intake *intake);
/* Roots were made, or could not be: tells if status is to say something else of them. */
void intake_tell_roots(struct intake *intake);
/* Is PATH being handed over, or an output on its way into the queue? Its root must stay, and may not be made
 * yet. */
bool intake_is_on_its_way(const struct intake *intake, const char *path);
/* Is it to have no root, so that there is room for others? While files wait in the spool that is not sure:
 * one may have it handed over once more. */
bool intake_was_given_up(const struct intake *intake, const struct queue_explained *found);
/* Removes the roots of what EXPLAIN found to have none, unless another hand-over than EXCEPT makes one just
 * now. To be called from its done. */
void intake_remove_unprotected(struct intake *intake, const struct queue_explain *explain,
                               const struct intake_handover *except);

void spool_open(struct intake *intake);
void spool_close(struct intake *intake);

void sweep_open(struct intake *intake);
void sweep_close(struct intake *intake);
void sweep_fini(struct sweep *sweep);
bool sweep_is_busy(const struct sweep *sweep);

void resolve_open(struct intake *intake);
void resolve_poke(struct intake *intake);
void resolve_close(struct intake *intake);
bool resolve_is_busy(const struct resolve *resolve);
/* Is PATH an output on its way into the queue? Its root must stay. */
bool resolve_protects(const struct resolve *resolve, const char *path);

#endif
