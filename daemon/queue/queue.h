/* The durable list of what is still to upload: requests, their roots, one job per (path, cache), and
 * what is known to be on each cache. One SQLite file, written by the queue thread alone.
 *
 * A request is one hand-over. Each of its paths is a root: first RESOLVING (its closure is not known),
 * then QUEUED (one job per path of the closure and cache), then DONE, FAILED or WITHHELD. A root is done
 * when its own job has ended on every cache and no unfinished job is left that was made or last wanted
 * for it.
 *
 * Every operation is a struct queue_op at the head of its request, started by queue_start; all that
 * wait share one transaction, each in a savepoint of its own: done() fires after the fsync, or with an
 * error and nothing of that operation changed. Operations run in the order in which they were started.
 * Counts live in memory and are changed before done().
 *
 * Errors: TRANSIENT (disk full, busy). A failed fsync or a damaged file is final: on_fatal. A claim stays
 * when the operation that was to end it fails: start it again, or RELEASE, which cannot fail. RETRY and
 * FORGET go in transactions of a page each: after an error the pages before it are done.
 * Ownership: requests are the caller's until done(). Texts going in are borrowed until done(); what
 * comes out belongs to the request, freed by its _fini, or by queue_op_fini for all.
 * Thread: loop. */
#ifndef DAEMON_QUEUE_QUEUE_H
#define DAEMON_QUEUE_QUEUE_H

#include "daemon/format/path_info.h"
#include "daemon/loop/lane.h"

struct queue;

enum job_state { JOB_READY, JOB_DELAYED, JOB_SENT, JOB_BLOCKED, JOB_FAILED, JOB_DONE, JOB_N_STATES };
enum root_state { ROOT_RESOLVING, ROOT_QUEUED, ROOT_FAILED, ROOT_WITHHELD, ROOT_DONE, ROOT_N_STATES };
const char *job_state_name(enum job_state state);
const char *root_state_name(enum root_state state);

/* How a job got done. */
enum job_result {
	JOB_UPLOADED,    /* we published it */
	JOB_PRESENT,     /* the cache had it */
	JOB_IN_UPSTREAM, /* an upstream of the cache has it */
	JOB_WITHHELD,    /* a filter keeps it back, and nothing needs it there */
};

/* A cache or an upstream: something presence is known of. Numbers are places in the array given at
 * queue_open: caches first. */
struct queue_endpoint {
	const char *name;
	const char *kind;     /* "file", "http", ...; "upstream" */
	const char *identity; /* presence and jobs hang on it */
	bool is_upstream;
	uint64_t presence_ttl_s; /* 0: forever */
	uint64_t upstreams;      /* bit i: endpoint number i is an upstream of this cache */
};

struct queue_config {
	const char *path;                                     /* of queue.db; its directory exists */
	const struct queue_endpoint *endpoints;               /* copied */
	size_t n_endpoints;                                   /* at most 64 */
	void (*on_fatal)(void *ctx, const struct error *err); /* on the loop: stop, exit, let hooks spool */
	/* On the loop, after commits that made jobs of these caches ready, delayed or finished: bit i is
	 * cache number i. Bit 63 with ROOTS: roots to resolve. */
	void (*on_change)(void *ctx, uint64_t caches, bool roots);
	/* Or NULL. On the loop: these store paths were released (see QUEUE_END_ROOT) by work that has no
	 * list of its own: pages that went on by themselves, PUBLISH, PAGE, EXPAND_ROOT; and by all pages
	 * of a FORGET but the last. Borrowed. */
	void (*on_released)(void *ctx, char *const *paths, size_t n_paths);
	void (*on_migrating)(void *ctx); /* or NULL; within queue_open, see struct db_config */
	void *ctx;
};

/* Opens or makes the database (0600), brings its schema up to date, counts. Blocks; at start only.
 * A damaged one is set aside and a new one made. Damage met later marks the file and is on_fatal: the
 * next queue_open sets it aside.
 * Jobs of identities that are configured no more are made `blocked: not configured` here, and ready
 * again once they are. A newer schema is refused (OPERATOR), as is a second process (OPERATOR). */
int queue_open(struct queue **ret, struct loop *loop, const struct queue_config *config, struct error *err)
	MUST_CHECK;
void queue_close(struct queue *queue, lane_closed_fn closed, void *ctx);
/* Where the damaged database lies in whose place this one was made when it was opened, or NULL. */
const char *queue_set_aside(const struct queue *queue);

struct queue_counts {
	uint64_t jobs[JOB_N_STATES];
	/* Since the database was made (usage). Skipped are those present and those in an upstream. */
	uint64_t uploaded_paths, uploaded_bytes, skipped_paths;
	uint64_t present_paths, in_upstream_paths, withheld_paths, failed_paths;
	uint64_t leftovers; /* of jobs that are gone: see QUEUE_NEXT_LEFTOVER */
};
const struct queue_counts *queue_cache_counts(const struct queue *queue, size_t cache);
uint64_t queue_root_count(const struct queue *queue, enum root_state state);
/* Why operations failed within the last minute (disk full, damage), or NULL; borrowed until the next one is
 * done. */
const char *queue_fault(const struct queue *queue);
/* Transactions committed by operations since the queue was opened. */
uint64_t queue_commit_count(const struct queue *queue);
/* The cache's pause: 0 none, INT64_MAX until resumed, else until then. */
int64_t queue_paused_until_unix_s(const struct queue *queue, size_t cache);

/* ---- operations -------------------------------------------------------------------------------- */

struct queue_op;
typedef void (*queue_op_fn)(struct queue_op *op);
enum queue_verb {
	QUEUE_ADD,
	QUEUE_CLAIM_ROOTS,
	QUEUE_EXPAND_ROOT,
	QUEUE_PRESENCE,
	QUEUE_PAGE,
	QUEUE_END_ROOT,
	QUEUE_CLAIM,
	QUEUE_NOTE,
	QUEUE_PUBLISH,
	QUEUE_FINISH,
	QUEUE_DEFER,
	QUEUE_FAIL,
	QUEUE_RELEASE,
	QUEUE_REFRESH,
	QUEUE_RETRY,
	QUEUE_FORGET,
	QUEUE_PAUSE,
	QUEUE_EXPLAIN,
	QUEUE_UNFINISHED_ROOTS,
	QUEUE_UNPROTECT,
	QUEUE_PRUNE,
	QUEUE_DOUBT,
	QUEUE_KNOWN,
	QUEUE_NEXT_LEFTOVER,
	QUEUE_DROP_LEFTOVER,
	QUEUE_CHORES, /* the queue's own */
	QUEUE_N_VERBS,
};
struct queue_effects;
struct queue_op {
	struct lane_job job;
	queue_op_fn done;
	struct error err;
	enum queue_verb verb; /* set by the caller: which struct this is the head of */
	struct queue *queue;
	/* the queue's own, between the turns of an operation of many pages */
	struct queue_effects *effects;
	bool has_more;
	unsigned stage;
	int64_t after_id;
};
void queue_start(struct queue *queue, struct queue_op *op, queue_op_fn done);
void queue_op_fini(struct queue_op *op); /* frees what came out, by verb; zeroes those members */

/* QUEUE_ADD: a hand-over. Every path is added, or none. */
struct queue_add_path {
	const char *path;
	int64_t rank;
	bool is_derivation; /* its outputs are meant, to be asked of the store; else the path itself */
};
struct queue_add {
	struct queue_op op;
	int64_t now_unix_s;
	uint32_t uid;
	const char *tag;        /* or NULL */
	const char *derivation; /* or NULL */
	const struct queue_add_path *paths;
	size_t n_paths;
	uint64_t caches;    /* bits of the caches meant; 0: all */
	bool force;         /* ask the caches again, whatever presence says */
	int64_t request_id; /* out */
	size_t n_new;       /* out: paths that had no unfinished root yet */
};

/* QUEUE_CLAIM_ROOTS: the next roots to resolve, lowest rank first, not claimed yet. The claim lasts
 * until QUEUE_END_ROOT or the end of the process. */
struct queue_root {
	int64_t id, request_id, rank, enqueued_unix_s;
	char *path;
	bool is_derivation, force;
	bool is_deep; /* something below it is neither there nor worked on, whatever is known of what is above
	               */
	uint64_t caches; /* never 0: resolved to the present caches; those removed are left out */
	unsigned attempts;
};
struct queue_claim_roots {
	struct queue_op op;
	int64_t now_unix_s;
	size_t n_max;
	struct queue_root *roots; /* out */
	size_t n_roots;           /* out */
	int64_t next_due_unix_s;  /* out: when the next delayed root is due; INT64_MAX: none */
};

/* QUEUE_EXPAND_ROOT: puts the outputs in the place of a claimed root that was a derivation. */
struct queue_expand_root {
	struct queue_op op;
	int64_t root_id;
	const struct queue_add_path *paths;
	size_t n_paths; /* 0: the root is done */
};

/* QUEUE_PRESENCE: on which endpoints is each path, seen within their presence-ttl. */
struct queue_presence {
	struct queue_op op;
	int64_t now_unix_s;
	const char *const *paths;
	size_t n_paths;
	uint64_t *endpoints; /* the caller's array of n_paths: bit i is endpoint number i */
};

/* QUEUE_PAGE: up to 256 paths of a root's closure, references before what refers to them (within and
 * across pages). Makes path, reference and job rows, or freshens them:
 * job done -> ready if the cache's presence is not fresh, or the path is a root, or FORCE; failed, blocked ->
 * ready, attempts 0; unfinished -> its rank may fall, and what is sent goes on if all that it waits for is
 * there. A changed NAR hash replaces the path's info, and its
 * jobs start anew. */
#define QUEUE_PAGE_MAX 256
struct queue_node {
	const struct path_info *info;
	int64_t rank;
	uint32_t layer;     /* 0: refers to nothing but itself; else 1 + the highest of its references */
	uint64_t caches;    /* bits: make a job there */
	uint64_t ask_first; /* bits: matches exclude-closures there: may only be found, never sent */
	bool is_root;
};
struct queue_page {
	struct queue_op op;
	int64_t now_unix_s;
	int64_t root_id;
	bool force;
	const struct queue_node *nodes;
	size_t n_nodes;
};

/* QUEUE_END_ROOT: how resolving ended. QUEUED: all pages are in (done at once if nothing is left to
 * do); FAILED with TEXT; WITHHELD with TEXT; RESOLVING with not-before: try again. */
struct queue_end_root {
	struct queue_op op;
	int64_t now_unix_s;
	int64_t root_id;
	enum root_state state;
	const char *text; /* or NULL */
	int64_t not_before_unix_s;
	char **released; /* out: store paths that no unfinished root names any more; their GC roots may go */
	size_t n_released;
};

/* QUEUE_CLAIM: the next ready jobs of a cache, by (rank, layer, larger NAR first), not claimed yet;
 * delayed ones that are due become ready first. A claim is memory only: it lasts until PUBLISH says
 * anything but YES, FINISH, DEFER, FAIL, RELEASE, or the end of the process. */
struct queue_job {
	int64_t id;
	size_t cache;
	struct path_info info;
	int64_t rank;
	unsigned attempts;      /* so far, of its own */
	unsigned mismatches;    /* how often it differed from what Nix registered */
	bool may_only_be_found; /* exclude-closures */
	bool force;
	bool is_root;
	char *upload_id; /* what an earlier put of its NAR left unfinished on the cache, or NULL */
	bool nar_sent;   /* the NAR was on the cache within its presence-ttl: only the narinfo is missing */
	bool has_file_hash; /* we sent those very bytes */
	uint8_t file_hash[SHA256_BYTES];
	uint64_t file_size;
};
void queue_job_fini(struct queue_job *job);
struct queue_claim {
	struct queue_op op;
	int64_t now_unix_s;
	size_t cache;
	size_t n_max;
	bool wakes_refused; /* so become up to 256 delayed ones that an OPERATOR fault put off; out: more may
	                       be left */
	const int64_t *except; /* these jobs are passed over; borrowed until done */
	size_t n_except;
	struct queue_job *jobs; /* out; a caller that keeps one moves it out and zeroes it */
	size_t n_jobs;
	int64_t next_due_unix_s; /* out: when the next delayed job of this cache is due; INT64_MAX: none */
};

/* QUEUE_NOTE: what the put of a claimed job's NAR leaves on the cache if it does not end. It comes with the
 * job whenever that is claimed, until its NAR is sent or it is done. If the job goes before that, or its NAR
 * was there without it, it is a leftover. */
struct queue_note {
	struct queue_op op;
	int64_t job_id;
	const char *upload_id;
};

/* QUEUE_PUBLISH: the NAR of a claimed job is on the cache; may its narinfo go (I2)? Writes down
 * FileHash and FileSize, and that the path itself is not there (presence of what keeps for ever stays). YES:
 * all references are known to be on the cache or its upstreams; the claim stays. LATER: the job is `sent`
 * now, or `blocked` by a reference that cannot go on; the claim is gone, the queue makes it ready when the
 * last reference arrives. A reference nobody is working on any more (its presence ran out) is enqueued again
 * here. */
enum publish_verdict { PUBLISH_YES, PUBLISH_LATER };
struct queue_publish {
	struct queue_op op;
	int64_t now_unix_s;
	const struct queue_job *job;  /* with nar_sent, file_hash, file_size as they are now */
	enum publish_verdict verdict; /* out */
};

/* QUEUE_FINISH: a claimed job ended well. Records presence and usage; wakes `sent` and `blocked`
 * referrers on this cache whose references are all there now (in pages, going on by itself).
 * JOB_WITHHELD: referrers are withheld too: their roots end `withheld: PATH`. */
struct queue_finish {
	struct queue_op op;
	int64_t now_unix_s;
	const struct queue_job *job;
	enum job_result result;
	size_t endpoint; /* where it is: the cache itself, or the upstream */
	uint64_t sent_bytes;
	char **released; /* out, as above */
	size_t n_released;
};

/* QUEUE_DEFER: a claimed job tries again at NOT_BEFORE (0: at once, READY; two hours from now at most,
 * since what lies further away is taken for a clock that was set back). COUNTS: an attempt of its own.
 * QUEUE_FAIL: it does not; referrers `sent` become `blocked: needs PATH, which ...`. */
struct queue_defer {
	struct queue_op op;
	int64_t now_unix_s;
	const struct queue_job *job;
	const struct error *fault;
	int64_t not_before_unix_s;
	bool counts;
	bool mismatch; /* counts one in mismatches */
};
struct queue_fail {
	struct queue_op op;
	int64_t now_unix_s;
	const struct queue_job *job;
	const struct error *fault;
};
/* QUEUE_RELEASE: gives a claim back, nothing changed. */
struct queue_release {
	struct queue_op op;
	int64_t job_id;
	size_t cache;
};

/* QUEUE_REFRESH: the store was asked again about the path of a job: its info as it is now. */
struct queue_refresh {
	struct queue_op op;
	int64_t now_unix_s;
	const struct path_info *info;
};

/* What the operator means. All set fields must match. */
struct queue_selector {
	const char *path; /* or NULL */
	uint64_t caches;  /* 0: all */
	bool failed_only; /* failed and blocked; FORGET leaves what became blocked in that very second */
};
/* QUEUE_RETRY: failed, blocked and delayed jobs and roots become ready, attempts 0. */
struct queue_retry {
	struct queue_op op;
	int64_t now_unix_s;
	struct queue_selector which;
	uint64_t n_changed; /* out */
};
/* QUEUE_FORGET: unfinished jobs (not claimed ones) and roots go, without being done; what needs them
 * is blocked. What only a forgotten root needed goes too, in pages that go on by themselves, and is not in
 * N_CHANGED. */
struct queue_forget {
	struct queue_op op;
	int64_t now_unix_s;
	struct queue_selector which;
	uint64_t n_changed; /* out */
	char **released;    /* out, as above */
	size_t n_released;
};
/* QUEUE_PAUSE: until UNTIL (INT64_MAX: until resumed; 0: resume). Durable. */
struct queue_pause {
	struct queue_op op;
	uint64_t caches;
	int64_t until_unix_s;
};

/* QUEUE_EXPLAIN: what does the queue know of the GC root of each path? */
struct queue_explained {
	bool is_wanted; /* an unfinished root names it: what none names is a stray */
	/* One of them is to have a GC root (I3a); or that of each was given up before this one was made: then
	 * the queue has forgotten why, as after damage of its log. */
	bool is_protected;
	/* One of them is meant for all caches, as a hook's is, and was made since: of an older one somebody
	 * may have forgotten the job for a cache. */
	bool is_wanted_by_all;
	/* If no unfinished root names it: was it handed over, as far as is remembered, and for which caches
	 * the last time, as in QUEUE_ADD? */
	bool is_remembered;
	uint64_t caches;
};
struct queue_explain {
	struct queue_op op;
	const char *const *paths;
	size_t n_paths;
	const int64_t *since_unix_s;   /* or NULL: when what is to be explained was made */
	struct queue_explained *found; /* the caller's array */
};
/* None of those that were meant is configured now; 0 would mean all. */
#define QUEUE_CACHES_GONE UINT64_MAX
/* QUEUE_UNFINISHED_ROOTS: store paths of protected unfinished roots, by key in pages. */
struct queue_unfinished_roots {
	struct queue_op op;
	int64_t after_id;
	size_t n_max;
	char **paths; /* out */
	size_t n_paths;
	int64_t last_id; /* out: for the next page */
};
/* QUEUE_UNPROTECT (I3a): up to N_MAX store paths whose GC roots are to go although they are not done;
 * their roots say `unprotected since`. OLDER_THAN: failed, blocked or paused since before then; 0: any,
 * lowest priority and oldest first (the file system is full). */
struct queue_unprotect {
	struct queue_op op;
	int64_t now_unix_s;
	int64_t older_than_unix_s;
	size_t n_max;
	char **released; /* out */
	size_t n_released;
};
/* QUEUE_PRUNE: done roots, jobs and requests older than BEFORE go, a page at a time; usage after 400 days. */
struct queue_prune {
	struct queue_op op;
	int64_t before_unix_s;
	bool more; /* out: call again */
};

/* QUEUE_DOUBT: a person had it looked at: these paths are not, or not rightly, on CACHE. Nothing is known of
 * them there and on its upstreams any more, not what keeps for ever either. */
struct queue_doubt {
	struct queue_op op;
	size_t cache;
	const char *const *paths;
	size_t n_paths;
};

/* QUEUE_KNOWN: was each path handed over, as far as is remembered; or is it, for every one of CACHES, there
 * (or in an upstream of it), or has it a job there, ended or not? */
struct queue_known {
	struct queue_op op;
	int64_t now_unix_s;
	uint64_t caches;
	const char *const *paths;
	size_t n_paths;
	bool *is_known; /* the caller's array */
};

/* QUEUE_NEXT_LEFTOVER: the first leftover of CACHE behind AFTER_ID: what an unfinished put left on the cache,
 * whose job was forgotten. on_change tells of the cache when there is a new one. QUEUE_DROP_LEFTOVER: it is
 * there no more; no error if nobody knows of it. Those of caches that are not configured are kept for 30
 * days. */
struct queue_next_leftover {
	struct queue_op op;
	size_t cache;
	int64_t after_id; /* 0: the first of all */
	int64_t id;       /* out; 0: there is none */
	char *note;       /* out, as in QUEUE_NOTE */
};
struct queue_drop_leftover {
	struct queue_op op;
	size_t cache;
	int64_t id;
};

/* ---- listings: a second connection, a thread of its own; they never wait for writers --------------- */

struct queue_read;
struct reader;
typedef void (*queue_read_fn)(struct queue_read *read);
enum queue_read_verb {
	QUEUE_LIST,
	QUEUE_SHOW,
	QUEUE_CAUSES,
	QUEUE_WAIT,
	QUEUE_SUMMARY,
	QUEUE_BELIEVED,
};

/* A path that is believed to be on a cache. */
struct queue_belief {
	struct path_info info;
	bool was_uploaded; /* by us, as far as is remembered */
};

/* One row of `list` and `show`. */
struct queue_row {
	int64_t job_id;
	char *path, *cache, *error, *error_kind, *tag;
	enum job_state state; /* of a job; roots without jobs: is_root_only, root_state */
	enum root_state root_state;
	enum job_result result;
	bool is_root_only, is_root, unprotected;
	unsigned attempts;
	int64_t rank, enqueued_unix_s, not_before_unix_s, finished_unix_s;
	uint64_t nar_size, file_size;
};
struct queue_cause { /* failed, blocked and delayed jobs by (cache, state, error), most first */
	char *cache, *error, *error_kind, *example_path;
	enum job_state state;
	uint64_t n_jobs;
	int64_t next_due_unix_s;
};
/* Of a closure the 20,000 paths nearest to its roots are counted. Of all requests: what is unfinished. */
struct queue_wait_state {
	uint64_t n_total, n_unfinished, n_failed, n_blocked; /* paths of the request(s) with their closures */
	uint64_t n_moving; /* of the unfinished: those that can go on by themselves */
};
struct queue_read {
	struct lane_job job;
	queue_read_fn done;
	struct error err;
	enum queue_read_verb verb;
	struct queue *queue;
	struct reader *reader; /* the queue's own */
	/* in */
	const char *path;  /* SHOW: of one path; LIST: NULL */
	const char *cache; /* LIST: or NULL; BELIEVED: the one */
	int state;         /* LIST: enum job_state, or -1 all unfinished, -2 all */
	int64_t after_id;  /* LIST: pages by key */
	size_t n_max;
	const char *const *paths; /* WAIT: these paths; n_paths 0: by tag, or all requests up to request_id */
	size_t n_paths;
	const char *tag;
	int64_t request_id;
	/* out; queue_read_fini frees them */
	struct queue_row *rows;
	size_t n_rows;
	int64_t last_id;
	struct queue_cause *causes;
	size_t n_causes;
	struct queue_wait_state wait;
	bool tag_known;
	/* BELIEVED: by key in pages, N_MAX at most QUEUE_PAGE_MAX; n_total only on the first page */
	struct queue_belief *beliefs;
	size_t n_beliefs;
	uint64_t n_total;
	/* SUMMARY */
	int64_t oldest_unfinished_unix_s; /* 0: none */
	uint64_t pinned_paths, pinned_nar_bytes, unprotected;
	int64_t last_request_id;
};
void queue_read_start(struct queue *queue, struct queue_read *read, queue_read_fn done);
void queue_read_fini(struct queue_read *read);

#endif
