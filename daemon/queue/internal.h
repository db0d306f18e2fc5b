/* What the files of this room share: the queue thread's side of the queue.
 *
 *	queue.c     the loop's side: open, close, start, counts
 *	batch.c     the transaction, claims, effects
 *	requests.c  requests and roots
 *	paths.c     path info, references
 *	page.c      jobs come in
 *	jobs.c      claim, publish, finish, defer, fail
 *	waiting.c   who waits for whom, and chores
 *	presence.c  what is where (I2)
 *	admin.c     retry, forget, pause, unprotect, prune
 *	orphans.c   what a forgotten root leaves behind
 *	leftover.c  jobs go; what their unfinished puts left on a cache
 *	read.c      listings
 *
 * Functions return 0, or -1 with ERR; those that look for something return 1 when it is there. What they
 * do is taken back as a whole when the operation that they are part of fails.
 * Thread: the queue thread, but for what queue.c says. */
#ifndef DAEMON_QUEUE_INTERNAL_H
#define DAEMON_QUEUE_INTERNAL_H

#include "daemon/db/stmt.h"
#include "daemon/queue/id_set.h"
#include "daemon/queue/queue.h"

enum {
	ENDPOINTS_MAX = 64,
	PAGE_ROWS = 256,        /* rows that one step of unbounded work handles */
	BATCH_OPS_MAX = 256,    /* operations that share a transaction */
	CLOCK_SLACK_S = 3600,   /* seen this far in the future is believed; beyond, a clock was set back */
	DELAY_MAX_S = 2 * 3600, /* nothing is put off longer: a not-before beyond it comes of such a clock */
	NO_NUMBER = -1,
	BLOCKED_NOT_CONFIGURED = -1, /* in job.blocked_by */
};

struct path_list {
	char **items;
	size_t n, cap;
};
void path_list_fini(struct path_list *list);
int path_list_add(struct path_list *list, const char *text, struct error *err) MUST_CHECK;

struct usage_change {
	uint64_t uploaded, uploaded_bytes, present, in_upstream, withheld, failed;
};

/* What an operation, or a whole batch, changes of what the loop knows. */
struct queue_effects {
	int64_t jobs[ENDPOINTS_MAX][JOB_N_STATES];
	int64_t roots[ROOT_N_STATES];
	struct usage_change usage[ENDPOINTS_MAX];
	int64_t leftovers[ENDPOINTS_MAX];
	uint64_t changed_caches;
	bool changed_roots, has_chores, is_broken, is_committed;
	bool must_last;            /* durable before anybody hears of it */
	struct path_list released; /* of operations that have no list of their own */
	struct error broken;
};

struct claim_change {
	struct id_set *set;
	int64_t id;
	bool was_added;
};

/* All that the queue thread owns. */
struct queue_db {
	struct db *db;
	int64_t endpoint_ids[ENDPOINTS_MAX]; /* by number */
	size_t n_endpoints, n_caches;

	struct id_set claimed_jobs, claimed_roots;
	struct claim_change *changes; /* of the batch, to be undone if it fails */
	size_t n_changes, cap_changes;

	struct queue_effects op; /* of the operation that runs */
	struct path_list released;
	int64_t pruned_path_id; /* how far the sweep of paths has come */
	int64_t last_root_id;   /* given since the queue was opened */
	bool has_chores;
};

/* ---- queue.c, batch.c */

/* The place in the configuration, or NO_NUMBER. */
int endpoint_number(const struct queue_db *q, int64_t id);
/* As a cache: one that is an upstream now takes no jobs. */
bool cache_is_configured(const struct queue_db *q, int64_t id);
/* Row numbers as a text, ",1,4,", of the bits of CACHES that are caches. */
void caches_format(const struct queue_db *q, uint64_t caches, char *text, size_t size);
enum { CACHES_TEXT_SIZE = ENDPOINTS_MAX * 21 + 2 };
uint64_t caches_parse(const struct queue_db *q, const char *text); /* NULL: all caches */

int claim_add(struct queue_db *q, struct id_set *set, int64_t id, struct error *err) MUST_CHECK;
int claim_remove(struct queue_db *q, struct id_set *set, int64_t id, struct error *err) MUST_CHECK;

/* Where an operation lists what it released; NULL if it has no list. Any thread. */
char ***op_released(struct queue_op *op, size_t **ret_n);
void queue_db_run(struct queue_db *q, struct lane_job *batch);
void queue_db_fini(struct queue_db *q);

/* Counts a job that leaves state FROM and enters TO; JOB_N_STATES stands for not being there. */
void count_job(struct queue_db *q, int64_t cache_id, enum job_state from, enum job_state to);
void count_root(struct queue_db *q, enum root_state from, enum root_state to);

/* ---- paths.c */

int path_find(struct queue_db *q, const char *path, int64_t *ret_id, struct error *err) MUST_CHECK;
/* The row of a path, made if it is not there. */
int path_intern(struct queue_db *q, const char *path, int64_t *ret_id, struct error *err) MUST_CHECK;
/* Writes down INFO. *RET_REPLACED: another NAR had this name before; its jobs and presence are to go. */
int path_put(struct queue_db *q, const struct path_info *info, int64_t *ret_id, bool *ret_replaced,
             struct error *err) MUST_CHECK;
/* Reads the row of ST whose columns from FIRST on are PATH_COLUMNS, without references. */
#define PATH_COLUMNS                                                                          \
	"p.path, p.nar_hash, p.nar_size, p.deriver, p.sigs, p.ca, p.registered, p.ultimate, " \
	"p.refers_to_itself"
int path_read(struct stmt *st, int first, struct path_info *ret, struct error *err) MUST_CHECK;
int path_read_references(struct queue_db *q, int64_t id, struct path_info *info, struct error *err)
	MUST_CHECK;
bool path_has_hash(struct queue_db *q, int64_t id, const uint8_t hash[SHA256_BYTES]);
/* Every job of a path whose NAR was replaced starts anew; done ones stay done, but nothing is known to be
 * there any more. */
int path_reset_jobs(struct queue_db *q, int64_t id, int64_t now, struct error *err) MUST_CHECK;

/* ---- presence.c */

int presence_load(struct queue_db *q, const struct queue_endpoint *endpoints, struct error *err) MUST_CHECK;
int presence_put(struct queue_db *q, int64_t path, int64_t endpoint_id, int64_t now, struct error *err)
	MUST_CHECK;
/* It was asked for, and is neither on the cache nor on its upstreams; what keeps for ever was not asked. */
int presence_drop(struct queue_db *q, int64_t path, int64_t cache_id, struct error *err) MUST_CHECK;
/* Is the path known to be on the cache, or on an upstream of it? */
int presence_is_fresh(struct queue_db *q, int64_t path, int64_t cache_id, int64_t now, struct error *err)
	MUST_CHECK;

/* Was the NAR of the job, which was sent, seen on the cache within that time? */
int presence_of_nar_is_fresh(struct queue_db *q, int64_t job_id, int64_t now, struct error *err) MUST_CHECK;

/* A reference that is not known to be there. */
struct missing {
	int64_t path;
	int64_t job; /* 0: none on this cache */
	enum job_state state;
	enum job_result result;
};
struct missing_list {
	struct missing *items;
	size_t n, cap;
};
void missing_list_fini(struct missing_list *list);
/* I2, and the only place it is decided: which references of PATH, itself apart, are neither on the cache
 * nor on an upstream of it, as far as was seen within the time that each is trusted for. */
int refs_missing(struct queue_db *q, int64_t path, int64_t cache_id, int64_t now, struct missing_list *ret,
                 struct error *err) MUST_CHECK;

/* ---- jobs.c */

struct job {
	int64_t id, path, cache, root, rank;
	enum job_state state;
	enum job_result result;
	bool nar_sent, is_root;
};
#define JOB_COLUMNS "j.id, j.path, j.cache, j.root, j.rank, j.state, j.result, j.nar_sent, j.is_root"
enum { JOB_N_COLUMNS = 9 };
void job_read(struct stmt *st, int first, struct job *ret);
int job_load(struct queue_db *q, int64_t id, struct job *ret, struct error *err) MUST_CHECK;
int job_find(struct queue_db *q, int64_t path, int64_t cache_id, struct job *ret, struct error *err)
	MUST_CHECK;
/* Ready, with no attempts and no error; what it blocked is told. */
int job_make_ready(struct queue_db *q, struct job *job, int64_t root, int64_t now, struct error *err)
	MUST_CHECK;
int job_make_sent(struct queue_db *q, struct job *job, int64_t now, struct error *err) MUST_CHECK;

/* ---- waiting.c */

enum chore_kind {
	CHORE_WAKE,       /* the path is there: referrers may go on */
	CHORE_BLOCK,      /* its job cannot go on: `sent` referrers cannot either */
	CHORE_UNBLOCK,    /* its job goes on again: so do those blocked by it */
	CHORE_WITHHOLD,   /* it is kept back: so is what needs it */
	CHORE_FORGOTTEN,  /* its job was forgotten: what waits, or would wait, is blocked */
	CHORE_ROOTS,      /* its jobs ended: roots that name it may be done (any cache) */
	CHORE_DISCONNECT, /* the cache is configured no more (any path) */
	CHORE_RECONNECT,
	CHORE_ORPHANS, /* the root with this id was forgotten (any cache) */
};
/* Does the first page at once, and leaves the rest to the chores. */
int chore_start(struct queue_db *q, enum chore_kind kind, int64_t path, int64_t cache_id, int64_t now,
                struct error *err) MUST_CHECK;
/* Leaves all of it to the chores. */
int chore_add(struct queue_db *q, enum chore_kind kind, int64_t path, int64_t cache_id, int64_t now,
              struct error *err) MUST_CHECK;
int chores_run(struct queue_db *q, struct queue_op *op);

/* What becomes of a job that waited, when something that it needs may be there. */
int job_wake(struct queue_db *q, struct job *job, int64_t now, struct error *err) MUST_CHECK;
int job_block(struct queue_db *q, struct job *job, int64_t by_path, int64_t now, struct error *err)
	MUST_CHECK;
int job_withhold(struct queue_db *q, struct job *job, int64_t by_path, int64_t now, struct error *err)
	MUST_CHECK;

/* ---- orphans.c */

/* A root that needs the job, for its path or for what refers to it, and can be resolved again; 0: there is
 * none. Of what refers to that in turn no root is looked for. */
int job_heir(struct queue_db *q, const struct job *job, int64_t *ret_root, struct error *err) MUST_CHECK;
/* One page of the jobs of a forgotten root; *AFTER moves on from 0. */
int orphans_page(struct queue_db *q, int64_t root, int64_t now, int64_t *after, bool *ret_more,
                 struct error *err) MUST_CHECK;

/* ---- leftover.c */

/* What the job's put left on the cache, if it left anything, is kept in mind whatever becomes of the job. */
int leftover_keep(struct queue_db *q, const struct job *job, struct error *err) MUST_CHECK;
/* Removes the job, and counts that. What its put left on the cache is kept in mind. */
int job_drop(struct queue_db *q, const struct job *job, struct error *err) MUST_CHECK;
/* Those of caches that are not configured any more, after a time. */
int leftovers_prune(struct queue_db *q, struct error *err) MUST_CHECK;

/* ---- requests.c */

/* Ends the root if nothing of it is left to do. */
int root_check(struct queue_db *q, int64_t id, int64_t now, struct error *err) MUST_CHECK;
/* One page of the roots that name PATH. Returns 1 if there may be more behind *AFTER. */
int roots_check_page(struct queue_db *q, int64_t path, int64_t *after, int64_t now, struct error *err)
	MUST_CHECK;
/* Returns 0 if the root has ended, failed or is gone: it will not be. */
int root_resolve_again(struct queue_db *q, int64_t id, int64_t now, struct error *err) MUST_CHECK;
/* Puts PATH on the list of what is released if no protected unfinished root names it any more. */
int root_release(struct queue_db *q, const char *path, struct error *err) MUST_CHECK;

/* Removes the root, and its request with the last of them. */
int root_drop(struct queue_db *q, int64_t id, int64_t request, struct error *err) MUST_CHECK;

/* ---- usage.c */

void usage_sum(struct usage_change *to, const struct usage_change *change);
int usage_add(struct queue_db *q, int64_t cache_id, int64_t now, const struct usage_change *change,
              struct error *err) MUST_CHECK;

/* ---- believed.c */

int read_believed(struct db *db, struct queue_read *read) MUST_CHECK;
void beliefs_free(struct queue_read *read);
int believed_doubt(struct queue_db *q, struct queue_op *op);
int believed_known(struct queue_db *q, struct queue_op *op);

/* ---- the operations, by verb */

int requests_add(struct queue_db *q, struct queue_op *op);
int requests_claim(struct queue_db *q, struct queue_op *op);
int requests_expand(struct queue_db *q, struct queue_op *op);
int requests_end_root(struct queue_db *q, struct queue_op *op);
int requests_explain(struct queue_db *q, struct queue_op *op);
int requests_unfinished(struct queue_db *q, struct queue_op *op);
int presence_look_up(struct queue_db *q, struct queue_op *op);
int page_put(struct queue_db *q, struct queue_op *op);
int page_refresh(struct queue_db *q, struct queue_op *op);
int jobs_claim(struct queue_db *q, struct queue_op *op);
int jobs_note(struct queue_db *q, struct queue_op *op);
int jobs_publish(struct queue_db *q, struct queue_op *op);
int jobs_finish(struct queue_db *q, struct queue_op *op);
int jobs_defer(struct queue_db *q, struct queue_op *op);
int jobs_fail(struct queue_db *q, struct queue_op *op);
int jobs_release(struct queue_db *q, struct queue_op *op);
int leftover_next(struct queue_db *q, struct queue_op *op);
int leftover_drop(struct queue_db *q, struct queue_op *op);
int admin_retry(struct queue_db *q, struct queue_op *op);
int admin_forget(struct queue_db *q, struct queue_op *op);
int admin_pause(struct queue_db *q, struct queue_op *op);
int admin_unprotect(struct queue_db *q, struct queue_op *op);
int admin_prune(struct queue_db *q, struct queue_op *op);

#endif
