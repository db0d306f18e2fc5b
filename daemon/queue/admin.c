/* What the operator and the calendar ask for. All of it can mean a million rows, so RETRY and FORGET take
 * a page per transaction and come back for the next (op.has_more); an error in between leaves the pages
 * before it done. */
#include <inttypes.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/crash.h"
#include "daemon/queue/internal.h"

enum { USAGE_DAYS = 400 };

static bool is_meant(const struct queue_selector *which, size_t cache)
{
	return which->caches == 0 || (which->caches >> cache & 1) != 0;
}

/* A page of the jobs in STATE on a cache behind AFTER, by id. */
static int read_jobs(struct queue_db *q, int64_t cache_id, enum job_state state, int64_t after,
                     struct job jobs[PAGE_ROWS], size_t *ret_n, struct error *err)
{
	STMT(st, q->db,
	     "SELECT " JOB_COLUMNS " FROM job j WHERE j.state = :state AND j.cache = :cache AND j.id > :after"
	     " ORDER BY j.id LIMIT 256");
	enum stmt_result result;
	size_t n = 0;

	stmt_bind_int(st, ":state", state);
	stmt_bind_int(st, ":cache", cache_id);
	stmt_bind_int(st, ":after", after);
	while ((result = stmt_step(st, err)) == STMT_ROW)
		job_read(st, 0, &jobs[n++]);
	*ret_n = n;
	return result == STMT_DONE ? 0 : -1;
}

/* ---- retry */

static int retry_job(struct queue_db *q, struct queue_retry *retry, struct job *job, struct error *err)
{
	if (job_make_ready(q, job, job->root, retry->now_unix_s, err) < 0)
		return -1;
	retry->n_changed++;
	return 0;
}

static bool is_retried(const struct queue_selector *which, enum job_state state)
{
	return state == JOB_FAILED || state == JOB_BLOCKED || (state == JOB_DELAYED && !which->failed_only);
}

static int retry_path(struct queue_db *q, struct queue_retry *retry, struct error *err)
{
	int64_t path;
	int rc = path_find(q, retry->which.path, &path, err);

	for (size_t i = 0; rc == 1 && i < q->n_caches; i++) {
		struct job job;

		if (!is_meant(&retry->which, i))
			continue;
		rc = job_find(q, path, q->endpoint_ids[i], &job, err);
		if (rc == 1 && is_retried(&retry->which, job.state) && retry_job(q, retry, &job, err) < 0)
			rc = -1;
		rc = rc < 0 ? -1 : 1;
	}
	return rc < 0 ? -1 : 0;
}

static int retry_roots(struct queue_db *q, struct queue_retry *retry, struct error *err)
{
	STMT(failed, q->db,
	     "UPDATE root SET state = 0, attempts = 0, not_before = 0, error = NULL, error_kind = 0,"
	     " changed = :now WHERE id IN (SELECT id FROM root WHERE state = 2"
	     " AND (:path IS NULL OR path = :path) LIMIT 256)");
	STMT(delayed, q->db,
	     "UPDATE root SET not_before = 0, attempts = 0 WHERE id IN (SELECT id FROM root"
	     " INDEXED BY root_due WHERE state = 0 AND not_before > 0 AND (:path IS NULL OR path = :path) "
	     "LIMIT 256)");
	uint64_t n;

	stmt_bind_text(failed, ":path", retry->which.path);
	stmt_bind_int(failed, ":now", retry->now_unix_s);
	if (stmt_run(failed, err) < 0)
		return -1;
	n = db_n_changed(q->db);
	retry->n_changed += n;
	retry->op.has_more = n == PAGE_ROWS;
	for (uint64_t i = 0; i < n; i++)
		count_root(q, ROOT_FAILED, ROOT_RESOLVING);
	if (retry->which.failed_only)
		return 0;
	stmt_bind_text(delayed, ":path", retry->which.path);
	if (stmt_run(delayed, err) < 0)
		return -1;
	n = db_n_changed(q->db);
	retry->n_changed += n;
	retry->op.has_more |= n == PAGE_ROWS;
	q->op.changed_roots |= n > 0;
	return 0;
}

/* Stages: three states for each cache, then the roots. Blocked ones come first: a failed one that goes on
 * frees them too, and they would not be counted. A job that fails again at once is behind the key. */
static int retry_page(struct queue_db *q, struct queue_retry *retry, struct error *err)
{
	static const enum job_state states[] = { JOB_BLOCKED, JOB_FAILED, JOB_DELAYED };
	struct queue_op *op = &retry->op;
	struct job jobs[PAGE_ROWS];
	size_t n = 0;

	for (; op->stage < 3 * q->n_caches; op->stage++, op->after_id = 0) {
		size_t cache = op->stage / 3;
		enum job_state state = states[op->stage % 3];

		if (!is_meant(&retry->which, cache) || !is_retried(&retry->which, state))
			continue;
		if (read_jobs(q, q->endpoint_ids[cache], state, op->after_id, jobs, &n, err) < 0)
			return -1;
		if (n > 0)
			break;
	}
	for (size_t i = 0; i < n; i++) {
		if (retry_job(q, retry, &jobs[i], err) < 0)
			return -1;
		op->after_id = jobs[i].id;
	}
	op->has_more = n > 0;
	return 0;
}

int admin_retry(struct queue_db *q, struct queue_op *op)
{
	struct queue_retry *retry = CONTAINER_OF(op, struct queue_retry, op);
	int rc;

	if (op->stage == 0 && op->after_id == 0)
		retry->n_changed = 0;
	rc = retry->which.path != NULL ? retry_path(q, retry, &op->err) : retry_page(q, retry, &op->err);
	if (rc < 0 || op->has_more || retry->which.caches != 0)
		return rc;
	return retry_roots(q, retry, &op->err);
}

/* ---- forget */

struct named_root {
	int64_t id, request;
	enum root_state state;
	bool is_protected;
	char *path;
};

/* Where everything goes, nothing is left behind, and all of it is counted. */
static bool leaves_orphans(const struct queue_selector *which)
{
	return which->path != NULL || which->caches != 0 || which->failed_only;
}

static int forget_root(struct queue_db *q, const struct queue_forget *forget, const struct named_root *root,
                       struct error *err)
{
	if (root_drop(q, root->id, root->request, err) < 0)
		return -1;
	count_root(q, root->state, ROOT_N_STATES);
	if (leaves_orphans(&forget->which) &&
	    chore_add(q, CHORE_ORPHANS, root->id, 0, forget->now_unix_s, err) < 0)
		return -1;
	return root->is_protected ? root_release(q, root->path, err) : 0;
}

static int read_named_root(struct stmt *st, struct named_root *ret, struct error *err)
{
	ret->id = stmt_int(st, 0);
	ret->request = stmt_int(st, 1);
	ret->state = (enum root_state)stmt_int(st, 2);
	ret->is_protected = stmt_int(st, 3) == 0;
	return stmt_text_copy(st, 4, &ret->path, err);
}

static void named_roots_free(struct named_root *roots, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(roots[i].path);
	free(roots);
}

/* Runs ST, whose rows are (id, request, state, unprotected, path), and forgets what it finds. Returns the
 * number of them, or -1. */
static int forget_found_roots(struct queue_db *q, const struct queue_forget *forget, struct stmt *st,
                              struct error *err)
{
	struct named_root *roots = calloc(PAGE_ROWS, sizeof(*roots));
	enum stmt_result result = STMT_DONE;
	size_t n = 0;
	int rc = 0;

	if (roots == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	while (rc == 0 && n < PAGE_ROWS && (result = stmt_step(st, err)) == STMT_ROW)
		rc = read_named_root(st, &roots[n++], err);
	if (result == STMT_FAILED)
		rc = -1;
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = forget_root(q, forget, &roots[i], err);
	named_roots_free(roots, n);
	return rc < 0 ? -1 : (int)n;
}

/* The queued roots of a path whose own jobs are all gone or done now. */
static int forget_roots_of_job(struct queue_db *q, const struct queue_forget *forget, const struct job *job,
                               struct error *err)
{
	STMT(st, q->db,
	     "SELECT t.id, t.request, t.state, t.unprotected, t.path FROM path p"
	     " CROSS JOIN root t ON t.path = p.path AND t.state = 1 LEFT JOIN request r ON r.id = t.request"
	     " WHERE p.id = :path AND NOT EXISTS (SELECT 1 FROM job j WHERE j.path = p.id AND j.state < 5"
	     " AND (r.caches IS NULL OR instr(r.caches, ',' || j.cache || ',') > 0)) LIMIT 256");
	int n;

	/* All at once: there is no job left by which a next page would find the rest. */
	stmt_bind_int(st, ":path", job->path);
	do {
		stmt_rewind(st);
		n = forget_found_roots(q, forget, st, err);
	} while (n == PAGE_ROWS);
	return n < 0 ? -1 : 0;
}

static int forget_job(struct queue_db *q, struct queue_forget *forget, const struct job *job,
                      struct error *err)
{
	if (job_drop(q, job, err) < 0)
		return -1;
	forget->n_changed++;
	if (chore_start(q, CHORE_FORGOTTEN, job->path, job->cache, forget->now_unix_s, err) < 0 ||
	    (job->is_root && forget_roots_of_job(q, forget, job, err) < 0))
		return -1;
	return root_check(q, job->root, forget->now_unix_s, err);
}

/* A page of jobs to forget, those with the highest ids first: what refers goes before what it refers to,
 * and is not blocked in between. Claimed ones are passed over; so are those that did not fail, but are
 * blocked because of what was forgotten. */
static int find_forgotten(struct queue_db *q, const struct queue_forget *forget, int64_t cache_id,
                          enum job_state state, struct job jobs[PAGE_ROWS], size_t *ret_n, struct error *err)
{
	STMT(st, q->db,
	     "SELECT " JOB_COLUMNS " FROM job j WHERE j.state = :state AND j.cache = :cache"
	     " AND (:any OR j.changed <> :now) ORDER BY j.id DESC");
	enum stmt_result result = STMT_DONE;
	size_t n = 0;

	stmt_bind_int(st, ":any", !forget->which.failed_only || state != JOB_BLOCKED);
	stmt_bind_int(st, ":now", forget->now_unix_s);
	stmt_bind_int(st, ":state", state);
	stmt_bind_int(st, ":cache", cache_id);
	while (n < PAGE_ROWS && (result = stmt_step(st, err)) == STMT_ROW) {
		job_read(st, 0, &jobs[n]);
		n += !id_set_has(&q->claimed_jobs, jobs[n].id);
	}
	*ret_n = n;
	return result == STMT_FAILED ? -1 : 0;
}

/* Every cache there ever was, if all are meant: also what removed ones left behind. */
static int list_caches(struct queue_db *q, const struct queue_selector *which, int64_t *ids, size_t n_max,
                       size_t *ret_n, struct error *err)
{
	STMT(st, q->db, "SELECT id FROM cache ORDER BY id");
	enum stmt_result result = STMT_DONE;
	size_t n = 0;

	while (n < n_max && (result = stmt_step(st, err)) == STMT_ROW) {
		int number;

		ids[n] = stmt_int(st, 0);
		number = endpoint_number(q, ids[n]);
		n += which->caches == 0 || (number != NO_NUMBER && is_meant(which, (size_t)number));
	}
	*ret_n = n;
	return result == STMT_FAILED ? -1 : 0;
}

static bool is_forgotten(const struct queue_selector *which, enum job_state state)
{
	return state != JOB_DONE && (!which->failed_only || state == JOB_FAILED || state == JOB_BLOCKED);
}

static int forget_path_jobs(struct queue_db *q, struct queue_forget *forget, const int64_t *caches, size_t n,
                            struct error *err)
{
	int64_t path;
	int rc = path_find(q, forget->which.path, &path, err);

	for (size_t i = 0; rc == 1 && i < n; i++) {
		struct job job;

		rc = job_find(q, path, caches[i], &job, err);
		if (rc == 1 && is_forgotten(&forget->which, job.state) &&
		    !id_set_has(&q->claimed_jobs, job.id) && forget_job(q, forget, &job, err) < 0)
			rc = -1;
		rc = rc < 0 ? -1 : 1;
	}
	return rc < 0 ? -1 : 0;
}

static int forget_any_jobs(struct queue_db *q, struct queue_forget *forget, const int64_t *caches, size_t n,
                           struct error *err)
{
	struct job jobs[PAGE_ROWS];
	size_t n_jobs = 0;

	for (size_t i = 0; i < n * JOB_DONE && n_jobs == 0; i++) {
		enum job_state state = (enum job_state)(i % JOB_DONE);

		if (is_forgotten(&forget->which, state) &&
		    find_forgotten(q, forget, caches[i / JOB_DONE], state, jobs, &n_jobs, err) < 0)
			return -1;
	}
	for (size_t i = 0; i < n_jobs; i++) {
		/* One before it can have blocked it. */
		int rc = job_load(q, jobs[i].id, &jobs[i], err);

		if (rc < 0 || (rc == 1 && forget_job(q, forget, &jobs[i], err) < 0))
			return -1;
	}
	forget->op.has_more = n_jobs > 0;
	return 0;
}

static int forget_roots(struct queue_db *q, struct queue_forget *forget, struct error *err)
{
	STMT(named, q->db,
	     "SELECT id, request, state, unprotected, path FROM root WHERE path = :path"
	     " AND state BETWEEN iif(:failed, 2, 0) AND 2 LIMIT 256");
	STMT(any, q->db,
	     "SELECT id, request, state, unprotected, path FROM root"
	     " WHERE state BETWEEN iif(:failed, 2, 0) AND 2 LIMIT 256");
	struct stmt *st = forget->which.path != NULL ? named : any;
	int n;

	if (forget->which.path != NULL)
		stmt_bind_text(st, ":path", forget->which.path);
	stmt_bind_int(st, ":failed", forget->which.failed_only);
	n = forget_found_roots(q, forget, st, err);
	if (n < 0)
		return -1;
	forget->n_changed += (uint64_t)n;
	forget->op.has_more = n == PAGE_ROWS;
	return 0;
}

int admin_forget(struct queue_db *q, struct queue_op *op)
{
	struct queue_forget *forget = CONTAINER_OF(op, struct queue_forget, op);
	int64_t caches[4 * ENDPOINTS_MAX];
	size_t n;
	int rc;

	if (op->stage++ == 0)
		forget->n_changed = 0;
	if (list_caches(q, &forget->which, caches, N_ELEMENTS(caches), &n, &op->err) < 0)
		return -1;
	if (forget->which.path != NULL)
		rc = forget_path_jobs(q, forget, caches, n, &op->err);
	else
		rc = forget_any_jobs(q, forget, caches, n, &op->err);
	/* Roots belong to all caches; those of the jobs that went are gone with them. */
	if (rc < 0 || op->has_more || forget->which.caches != 0)
		return rc;
	return forget_roots(q, forget, &op->err);
}

/* ---- pause */

int admin_pause(struct queue_db *q, struct queue_op *op)
{
	struct queue_pause *pause = CONTAINER_OF(op, struct queue_pause, op);
	STMT(st, q->db,
	     "UPDATE cache SET paused_until = :until,"
	     " paused_since = iif(:until = 0, 0, iif(paused_until > :now, paused_since, :now)) WHERE id = "
	     ":id");

	for (size_t i = 0; i < q->n_caches; i++) {
		if ((pause->caches >> i & 1) == 0)
			continue;
		stmt_rewind(st);
		stmt_bind_int(st, ":id", q->endpoint_ids[i]);
		stmt_bind_int(st, ":until", pause->until_unix_s);
		stmt_bind_int(st, ":now", clock_unix_s());
		if (stmt_run(st, &op->err) < 0)
			return -1;
		q->op.changed_caches |= (uint64_t)1 << i;
	}
	return 0;
}

/* ---- unprotect */

static int unprotect_path(struct queue_db *q, const char *path, int64_t now, struct error *err)
{
	STMT(st, q->db,
	     "UPDATE root SET unprotected = :now WHERE path = :path AND state IN (0, 1, 2) AND unprotected = "
	     "0");

	stmt_bind_text(st, ":path", path);
	stmt_bind_int(st, ":now", now);
	if (stmt_run(st, err) < 0)
		return -1;
	return db_n_changed(q->db) > 0 ? path_list_add(&q->released, path, err) : 0;
}

/* Every protected root stands in root_pinned, by priority (the lowest first), then age. A root is stuck
 * when it failed, or its own job cannot go on, or stands before a paused cache. */
static int find_unprotected(struct queue_db *q, const struct queue_unprotect *unprotect,
                            struct path_list *ret, struct error *err)
{
	STMT(any, q->db,
	     "SELECT DISTINCT path FROM root INDEXED BY root_pinned WHERE state < 3 AND unprotected = 0"
	     " ORDER BY enqueued - rank, enqueued LIMIT :n");
	STMT(stuck, q->db,
	     "SELECT DISTINCT t.path FROM root t INDEXED BY root_pinned"
	     " WHERE t.state < 3 AND t.unprotected = 0 AND t.enqueued < :older"
	     " AND ((t.state = 2 AND t.changed < :older) OR EXISTS (SELECT 1 FROM path p"
	     " JOIN job j ON j.path = p.id JOIN cache c ON c.id = j.cache WHERE p.path = t.path AND j.state "
	     "< 5"
	     " AND ((j.state IN (3, 4) AND j.changed < :older)"
	     " OR (c.paused_until > :now AND c.paused_since < :older))))"
	     " ORDER BY t.enqueued - t.rank, t.enqueued LIMIT :n");
	bool all = unprotect->older_than_unix_s == 0;
	struct stmt *st = all ? any : stuck;
	enum stmt_result result;

	stmt_bind_int(st, ":n", (int64_t)unprotect->n_max);
	if (!all) {
		stmt_bind_int(st, ":older", unprotect->older_than_unix_s);
		stmt_bind_int(st, ":now", unprotect->now_unix_s);
	}
	while ((result = stmt_step(st, err)) == STMT_ROW) {
		if (path_list_add(ret, stmt_text(st, 0), err) < 0)
			return -1;
	}
	return result == STMT_DONE ? 0 : -1;
}

int admin_unprotect(struct queue_db *q, struct queue_op *op)
{
	struct queue_unprotect *unprotect = CONTAINER_OF(op, struct queue_unprotect, op);
	CLEANUP(path_list_fini) struct path_list paths = { 0 };

	if (find_unprotected(q, unprotect, &paths, &op->err) < 0)
		return -1;
	for (size_t i = 0; i < paths.n; i++) {
		if (unprotect_path(q, paths.items[i], unprotect->now_unix_s, &op->err) < 0)
			return -1;
	}
	return 0;
}

/* ---- prune */

static int prune_jobs(struct queue_db *q, int64_t before, bool *ret_more, struct error *err)
{
	STMT(st, q->db,
	     "SELECT " JOB_COLUMNS
	     " FROM job j INDEXED BY job_ended WHERE j.state = 5 AND j.changed < :before"
	     " ORDER BY j.changed LIMIT 256");
	struct job jobs[PAGE_ROWS];
	enum stmt_result result;
	size_t n = 0;

	stmt_bind_int(st, ":before", before);
	while ((result = stmt_step(st, err)) == STMT_ROW)
		job_read(st, 0, &jobs[n++]);
	if (result == STMT_FAILED)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (job_drop(q, &jobs[i], err) < 0)
			return -1;
	}
	*ret_more |= n == PAGE_ROWS;
	return 0;
}

static int prune_roots(struct queue_db *q, int64_t before, bool *ret_more, struct error *err)
{
	STMT(st, q->db,
	     "SELECT id, request, state FROM root WHERE state >= 3 AND changed < :before"
	     " ORDER BY changed LIMIT 256");
	struct named_root roots[PAGE_ROWS];
	enum stmt_result result;
	size_t n = 0;

	stmt_bind_int(st, ":before", before);
	while ((result = stmt_step(st, err)) == STMT_ROW)
		roots[n++] = (struct named_root){ .id = stmt_int(st, 0),
			                          .request = stmt_int(st, 1),
			                          .state = (enum root_state)stmt_int(st, 2) };
	if (result == STMT_FAILED)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (root_drop(q, roots[i].id, roots[i].request, err) < 0)
			return -1;
		count_root(q, roots[i].state, ROOT_N_STATES);
	}
	*ret_more |= n == PAGE_ROWS;
	return 0;
}

/* Old presence goes; so does a path that nothing names any more, with its references. What it referred to
 * goes the next time the sweep comes by. */
static int prune_path(struct queue_db *q, int64_t id, int64_t before, struct error *err)
{
	STMT(presence, q->db, "DELETE FROM presence WHERE path = :id AND seen < :before");
	STMT(path, q->db,
	     "DELETE FROM path WHERE id = :id AND NOT EXISTS (SELECT 1 FROM job WHERE path = :id)"
	     " AND NOT EXISTS (SELECT 1 FROM reference WHERE refers_to = :id)"
	     " AND NOT EXISTS (SELECT 1 FROM presence WHERE path = :id)");
	STMT(references, q->db, "DELETE FROM reference WHERE path = :id");

	stmt_bind_int(presence, ":id", id);
	stmt_bind_int(presence, ":before", before);
	stmt_bind_int(path, ":id", id);
	if (stmt_run(presence, err) < 0 || stmt_run(path, err) < 0)
		return -1;
	if (db_n_changed(q->db) == 0)
		return 0;
	stmt_bind_int(references, ":id", id);
	return stmt_run(references, err);
}

static int prune_paths(struct queue_db *q, int64_t before, bool *ret_more, struct error *err)
{
	STMT(st, q->db, "SELECT id FROM path WHERE id > :after ORDER BY id LIMIT 256");
	int64_t ids[PAGE_ROWS];
	enum stmt_result result;
	size_t n = 0;

	stmt_bind_int(st, ":after", q->pruned_path_id);
	while ((result = stmt_step(st, err)) == STMT_ROW)
		ids[n++] = stmt_int(st, 0);
	if (result == STMT_FAILED)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (prune_path(q, ids[i], before, err) < 0)
			return -1;
	}
	q->pruned_path_id = n == PAGE_ROWS ? ids[n - 1] : 0;
	*ret_more |= n == PAGE_ROWS;
	return 0;
}

static int prune_usage(struct queue_db *q, int64_t before, struct error *err)
{
	STMT(st, q->db, "DELETE FROM usage WHERE day < :day");

	stmt_bind_int(st, ":day", before / 86400 - USAGE_DAYS);
	return stmt_run(st, err);
}

int admin_prune(struct queue_db *q, struct queue_op *op)
{
	struct queue_prune *prune = CONTAINER_OF(op, struct queue_prune, op);
	int64_t before = prune->before_unix_s;
	bool more = false;

	if (prune_jobs(q, before, &more, &op->err) < 0 || prune_roots(q, before, &more, &op->err) < 0 ||
	    prune_usage(q, before, &op->err) < 0 || leftovers_prune(q, &op->err) < 0)
		return -1;
	/* Paths come last: what named them is gone then. */
	if (!more && prune_paths(q, before, &more, &op->err) < 0)
		return -1;
	prune->more = more;
	crash_point(PRUNE_UNCOMMITTED);
	return 0;
}
