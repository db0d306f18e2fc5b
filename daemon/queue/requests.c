/* Hand-overs and their roots.
 *
 *	RESOLVING --claim (memory only)--> end_root: QUEUED --its jobs end--> DONE or WITHHELD
 *	  ^  ^---- not before ----------------'  |  '----> FAILED, WITHHELD, DONE
 *	  '------- a closure must be looked at again
 *
 * A root that ended releases its path, if no other unfinished root protects it. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash.h"
#include "daemon/queue/internal.h"

const char *root_state_name(enum root_state state)
{
	static const char *const names[] = { "resolving", "queued", "failed", "withheld", "done" };

	return names[state];
}

/* ---- add */

static int put_request(struct queue_db *q, const struct queue_add *add, int64_t *ret_id, struct error *err)
{
	STMT(st, q->db,
	     "INSERT INTO request (made, uid, tag, derivation, caches, force)"
	     " VALUES (:made, :uid, :tag, :derivation, :caches, :force)");
	char caches[CACHES_TEXT_SIZE];

	stmt_bind_int(st, ":made", add->now_unix_s);
	stmt_bind_int(st, ":uid", add->uid);
	stmt_bind_text(st, ":tag", add->tag);
	stmt_bind_text(st, ":derivation", add->derivation);
	stmt_bind_int(st, ":force", add->force);
	if (add->caches != 0) {
		caches_format(q, add->caches, caches, sizeof(caches));
		stmt_bind_text(st, ":caches", caches);
	}
	if (stmt_run(st, err) < 0)
		return -1;
	*ret_id = db_last_id(q->db);
	return 0;
}

static int has_unfinished_root(struct queue_db *q, const char *path, struct error *err)
{
	STMT(st, q->db, "SELECT 1 FROM root WHERE path = :path AND state IN (0, 1, 2) LIMIT 1");
	enum stmt_result result;

	stmt_bind_text(st, ":path", path);
	result = stmt_step(st, err);
	return result == STMT_FAILED ? -1 : result == STMT_ROW;
}

/* Bits of root.again: to be resolved once more when this is over; and then down to the last path. */
enum { AGAIN_AFTER = 1, AGAIN_DEEP = 2 };

/* What failed is tried again when it is handed over again. */
static int retry_failed_roots(struct queue_db *q, const char *path, int64_t now, struct error *err)
{
	STMT(st, q->db,
	     "UPDATE root SET state = 0, attempts = 0, not_before = 0, error = NULL, error_kind = 0,"
	     " changed = :now WHERE path = :path AND state = 2");

	stmt_bind_text(st, ":path", path);
	stmt_bind_int(st, ":now", now);
	if (stmt_run(st, err) < 0)
		return -1;
	for (uint64_t n = db_n_changed(q->db); n > 0; n--)
		count_root(q, ROOT_FAILED, ROOT_RESOLVING);
	return 0;
}

/* Its number is not that of a forgotten root that jobs still carry; nor any that was given since the start:
 * that one may still be being resolved, or its orphans be taken away. */
static int put_root(struct queue_db *q, int64_t request_id, const struct queue_add_path *path,
                    int64_t enqueued, struct error *err)
{
	STMT(st, q->db,
	     "INSERT INTO root (id, request, path, rank, is_derivation, enqueued, changed)"
	     " VALUES (1 + max(ifnull((SELECT max(id) FROM root), 0),"
	     " ifnull((SELECT max(root) FROM job WHERE state < 5), 0), :last), :request, :path, :rank, "
	     ":is_derivation, :enqueued, :enqueued)");

	stmt_bind_int(st, ":last", q->last_root_id);
	stmt_bind_int(st, ":request", request_id);
	stmt_bind_text(st, ":path", path->path);
	stmt_bind_int(st, ":rank", path->rank);
	stmt_bind_int(st, ":is_derivation", path->is_derivation);
	stmt_bind_int(st, ":enqueued", enqueued);
	if (stmt_run(st, err) < 0)
		return -1;
	q->last_root_id = db_last_id(q->db);
	count_root(q, ROOT_N_STATES, ROOT_RESOLVING);
	return 0;
}

int requests_add(struct queue_db *q, struct queue_op *op)
{
	struct queue_add *add = CONTAINER_OF(op, struct queue_add, op);
	size_t n_new = 0;

	if (put_request(q, add, &add->request_id, &op->err) < 0)
		return -1;
	for (size_t i = 0; i < add->n_paths; i++) {
		int known = has_unfinished_root(q, add->paths[i].path, &op->err);

		if (known < 0 ||
		    (known == 1 &&
		     retry_failed_roots(q, add->paths[i].path, add->now_unix_s, &op->err) < 0) ||
		    put_root(q, add->request_id, &add->paths[i], add->now_unix_s, &op->err) < 0)
			return -1;
		n_new += known == 0;
	}
	add->n_new = n_new;
	crash_point(ADD_UNCOMMITTED);
	return 0;
}

/* ---- claim */

static int wake_due_roots(struct queue_db *q, int64_t now, struct error *err)
{
	STMT(due, q->db,
	     "UPDATE root SET not_before = 0 WHERE id IN (SELECT id FROM root INDEXED BY root_due"
	     " WHERE state = 0 AND not_before > 0 AND not_before <= :now LIMIT 256)");
	STMT(far, q->db,
	     "UPDATE root SET not_before = 0 WHERE id IN (SELECT id FROM root INDEXED BY root_due"
	     " WHERE state = 0 AND not_before > 0 AND not_before > :now LIMIT 256)");

	stmt_bind_int(due, ":now", now);
	stmt_bind_int(far, ":now", now + DELAY_MAX_S);
	return stmt_run(due, err) < 0 ? -1 : stmt_run(far, err);
}

static int find_next_due_root(struct queue_db *q, int64_t *ret, struct error *err)
{
	STMT(st, q->db,
	     "SELECT not_before FROM root INDEXED BY root_due WHERE state = 0 AND not_before > 0 ORDER BY "
	     "not_before LIMIT 1");
	enum stmt_result result = stmt_step(st, err);

	if (result == STMT_FAILED)
		return -1;
	*ret = result == STMT_ROW ? stmt_int(st, 0) : INT64_MAX;
	return 0;
}

/* A root whose caches are all gone from the configuration waits for one of them to come back. */
static int set_aside(struct queue_db *q, int64_t id, struct error *err)
{
	STMT(st, q->db,
	     "UPDATE root SET not_before = -1, error = 'none of its caches is configured', error_kind = 3"
	     " WHERE id = :id");

	stmt_bind_int(st, ":id", id);
	return stmt_run(st, err);
}

static int read_root(struct queue_db *q, int64_t id, struct queue_root *ret, struct error *err)
{
	STMT(st, q->db,
	     "SELECT t.request, t.rank, t.enqueued, t.path, t.is_derivation, t.attempts, r.caches, r.force,"
	     " t.again"
	     " FROM root t JOIN request r ON r.id = t.request WHERE t.id = :id");
	enum stmt_result result;

	stmt_bind_int(st, ":id", id);
	result = stmt_step(st, err);
	if (result == STMT_FAILED)
		return -1;
	if (result == STMT_DONE)
		return error_set(err, ERROR_PERMANENT, "root %" PRId64 " has no request", id);
	*ret = (struct queue_root){
		.id = id,
		.request_id = stmt_int(st, 0),
		.rank = stmt_int(st, 1),
		.enqueued_unix_s = stmt_int(st, 2),
		.is_derivation = stmt_int(st, 4) != 0,
		.attempts = (unsigned)stmt_int(st, 5),
		.caches = caches_parse(q, stmt_text(st, 6)),
		.force = stmt_int(st, 7) != 0,
		.is_deep = (stmt_int(st, 8) & AGAIN_DEEP) != 0,
	};
	return ret->caches == 0 ? 0 : stmt_text_copy(st, 3, &ret->path, err);
}

static int claim_root(struct queue_db *q, struct queue_claim_roots *claim, int64_t id, struct error *err)
{
	struct queue_root *root = &claim->roots[claim->n_roots];

	if (read_root(q, id, root, err) < 0)
		return -1;
	if (root->caches == 0)
		return set_aside(q, id, err);
	claim->n_roots++;
	return claim_add(q, &q->claimed_roots, id, err);
}

/* The next page of ids by rank that are not claimed. */
static int find_roots(struct queue_db *q, size_t n_max, int64_t *ids, size_t *ret_n, struct error *err)
{
	STMT(st, q->db,
	     "SELECT id FROM root INDEXED BY root_next WHERE state = 0 AND not_before = 0 ORDER BY rank, id");
	enum stmt_result result = STMT_DONE;
	size_t n = 0;

	while (n < n_max && (result = stmt_step(st, err)) == STMT_ROW) {
		ids[n] = stmt_int(st, 0);
		n += !id_set_has(&q->claimed_roots, ids[n]);
	}
	*ret_n = n;
	return result == STMT_FAILED ? -1 : 0;
}

int requests_claim(struct queue_db *q, struct queue_op *op)
{
	struct queue_claim_roots *claim = CONTAINER_OF(op, struct queue_claim_roots, op);
	int64_t ids[PAGE_ROWS];
	size_t n_ids, n_max = claim->n_max < PAGE_ROWS ? claim->n_max : PAGE_ROWS;
	int rc;

	claim->next_due_unix_s = INT64_MAX;
	if (q->n_caches == 0)
		return 0; /* a broken configuration: what is taken in waits as it is */
	claim->roots = calloc(n_max + 1, sizeof(*claim->roots));
	if (claim->roots == NULL)
		return error_set(&op->err, ERROR_TRANSIENT, "out of memory");
	rc = wake_due_roots(q, claim->now_unix_s, &op->err);
	do { /* once more if all of them had to be set aside */
		n_ids = 0;
		if (rc == 0)
			rc = find_roots(q, n_max, ids, &n_ids, &op->err);
		for (size_t i = 0; rc == 0 && i < n_ids; i++)
			rc = claim_root(q, claim, ids[i], &op->err);
	} while (n_ids > 0 && claim->n_roots == 0 && rc == 0);
	if (rc == 0 && claim->n_roots == 0) { /* the caller owes nothing then */
		free(claim->roots);
		claim->roots = NULL;
	}
	return rc < 0 ? -1 : find_next_due_root(q, &claim->next_due_unix_s, &op->err);
}

/* ---- the end of a root */

struct root {
	int64_t request;
	char *path;
	enum root_state state;
	bool again, is_protected;
	int64_t enqueued;
};

static void root_fini(struct root *root)
{
	free(root->path);
}

static int root_load(struct queue_db *q, int64_t id, struct root *ret, struct error *err)
{
	STMT(st, q->db, "SELECT request, path, state, again, unprotected, enqueued FROM root WHERE id = :id");
	enum stmt_result result;

	stmt_bind_int(st, ":id", id);
	result = stmt_step(st, err);
	if (result != STMT_ROW)
		return result == STMT_FAILED ? -1 : 0;
	ret->request = stmt_int(st, 0);
	ret->state = (enum root_state)stmt_int(st, 2);
	ret->again = (stmt_int(st, 3) & AGAIN_AFTER) != 0;
	ret->is_protected = stmt_int(st, 4) == 0;
	ret->enqueued = stmt_int(st, 5);
	return stmt_text_copy(st, 1, &ret->path, err) < 0 ? -1 : 1;
}

int root_release(struct queue_db *q, const char *path, struct error *err)
{
	STMT(st, q->db,
	     "SELECT 1 FROM root WHERE path = :path AND state IN (0, 1, 2) AND unprotected = 0 LIMIT 1");
	enum stmt_result result;

	stmt_bind_text(st, ":path", path);
	result = stmt_step(st, err);
	if (result == STMT_FAILED)
		return -1;
	return result == STMT_ROW ? 0 : path_list_add(&q->released, path, err);
}

/* One that failed while it was looked at down to the last path is looked at so again, when somebody says
 * retry. */
static int root_move(struct queue_db *q, int64_t id, const struct root *root, enum root_state to,
                     const char *text, int64_t now, struct error *err)
{
	STMT(st, q->db,
	     "UPDATE root SET state = :state, not_before = 0, error = :text, error_kind = :kind,"
	     " again = again & :kept, changed = :now WHERE id = :id");

	stmt_bind_int(st, ":id", id);
	stmt_bind_int(st, ":state", to);
	stmt_bind_text(st, ":text", text);
	stmt_bind_int(st, ":kind", to == ROOT_FAILED ? ERROR_PERMANENT : ERROR_NONE);
	stmt_bind_int(st, ":kept", to == ROOT_FAILED ? AGAIN_DEEP : 0);
	stmt_bind_int(st, ":now", now);
	if (stmt_run(st, err) < 0)
		return -1;
	count_root(q, root->state, to);
	if ((to == ROOT_DONE || to == ROOT_WITHHELD) && root->is_protected)
		return root_release(q, root->path, err);
	return 0;
}

static int has_unfinished_jobs(struct queue_db *q, int64_t root_id, struct error *err)
{
	STMT(st, q->db, "SELECT 1 FROM job WHERE root = :root AND state < 5 LIMIT 1");
	enum stmt_result result;

	stmt_bind_int(st, ":root", root_id);
	result = stmt_step(st, err);
	return result == STMT_FAILED ? -1 : result == STMT_ROW;
}

/* How the root's own jobs ended, on the caches it is meant for. Returns 1 with DONE or WITHHELD, 0 if one
 * has not. */
static int judge_own_jobs(struct queue_db *q, const struct root *root, enum root_state *ret, char **ret_text,
                          struct error *err)
{
	STMT(st, q->db,
	     "SELECT j.state, j.result, j.error FROM path p JOIN job j ON j.path = p.id WHERE p.path = :path"
	     " AND j.cache IN (SELECT c.id FROM cache c LEFT JOIN request r ON r.id = :request"
	     " WHERE r.caches IS NULL OR instr(r.caches, ',' || c.id || ',') > 0)");
	enum stmt_result result;

	*ret = ROOT_DONE;
	stmt_bind_text(st, ":path", root->path);
	stmt_bind_int(st, ":request", root->request);
	while ((result = stmt_step(st, err)) == STMT_ROW) {
		if (stmt_int(st, 0) != JOB_DONE)
			return 0;
		if (stmt_int(st, 1) != JOB_WITHHELD || *ret == ROOT_WITHHELD)
			continue;
		*ret = ROOT_WITHHELD;
		if (stmt_text_copy(st, 2, ret_text, err) < 0)
			return -1;
	}
	return result == STMT_FAILED ? -1 : 1;
}

static void free_text(char **text)
{
	free(*text);
}

int root_check(struct queue_db *q, int64_t id, int64_t now, struct error *err)
{
	CLEANUP(root_fini) struct root root = { 0 };
	CLEANUP(free_text) char *text = NULL;
	enum root_state state;
	int rc = root_load(q, id, &root, err);

	if (rc <= 0 || root.state != ROOT_QUEUED)
		return rc < 0 ? -1 : 0;
	rc = has_unfinished_jobs(q, id, err);
	if (rc != 0)
		return rc < 0 ? -1 : 0;
	rc = judge_own_jobs(q, &root, &state, &text, err);
	return rc <= 0 ? rc : root_move(q, id, &root, state, text, now, err);
}

static int find_roots_of_path(struct queue_db *q, int64_t path, int64_t after, int64_t ids[PAGE_ROWS],
                              size_t *ret_n, struct error *err)
{
	STMT(st, q->db,
	     "SELECT t.id FROM path p CROSS JOIN root t ON t.path = p.path AND t.state = 1 AND t.id > :after"
	     " WHERE p.id = :path ORDER BY t.id LIMIT 256");
	enum stmt_result result;
	size_t n = 0;

	stmt_bind_int(st, ":path", path);
	stmt_bind_int(st, ":after", after);
	while ((result = stmt_step(st, err)) == STMT_ROW)
		ids[n++] = stmt_int(st, 0);
	*ret_n = n;
	return result == STMT_DONE ? 0 : -1;
}

int roots_check_page(struct queue_db *q, int64_t path, int64_t *after, int64_t now, struct error *err)
{
	int64_t ids[PAGE_ROWS];
	size_t n;

	if (find_roots_of_path(q, path, *after, ids, &n, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (root_check(q, ids[i], now, err) < 0)
			return -1;
		*after = ids[i];
	}
	return n == PAGE_ROWS;
}

static int mark_again(struct queue_db *q, int64_t id, int64_t bit, struct error *err)
{
	STMT(st, q->db, "UPDATE root SET again = again | :bit WHERE id = :id");

	stmt_bind_int(st, ":id", id);
	stmt_bind_int(st, ":bit", bit);
	return stmt_run(st, err);
}

static int send_back(struct queue_db *q, int64_t id, struct root *root, int64_t now, struct error *err)
{
	if (root_move(q, id, root, ROOT_RESOLVING, NULL, now, err) < 0)
		return -1;
	return mark_again(q, id, AGAIN_DEEP, err);
}

int root_resolve_again(struct queue_db *q, int64_t id, int64_t now, struct error *err)
{
	CLEANUP(root_fini) struct root root = { 0 };
	int rc = root_load(q, id, &root, err);

	if (rc <= 0)
		return rc;
	if (root.state == ROOT_QUEUED)
		return send_back(q, id, &root, now, err) < 0 ? -1 : 1;
	if (root.state != ROOT_RESOLVING)
		return 0;
	return mark_again(q, id, AGAIN_AFTER, err) < 0 ? -1 : 1;
}

static int put_off(struct queue_db *q, const struct queue_end_root *end, struct error *err)
{
	STMT(st, q->db,
	     "UPDATE root SET not_before = :not_before, attempts = attempts + 1, error = :text,"
	     " error_kind = 1, changed = :now WHERE id = :id");
	int64_t last = end->now_unix_s + DELAY_MAX_S;
	int64_t not_before = end->not_before_unix_s < last ? end->not_before_unix_s : last;

	stmt_bind_int(st, ":id", end->root_id);
	stmt_bind_int(st, ":not_before", not_before > end->now_unix_s ? not_before : 0);
	stmt_bind_text(st, ":text", end->text);
	stmt_bind_int(st, ":now", end->now_unix_s);
	return stmt_run(st, err);
}

/* Another root's closure may have made the jobs of this path, or made them before this root came, and may
 * start again those that are done: whichever of them ends last has to look at its roots. */
static int mark_own_jobs(struct queue_db *q, const char *path, struct error *err)
{
	STMT(st, q->db,
	     "UPDATE job SET is_root = 1 WHERE path = (SELECT id FROM path WHERE path = :path)"
	     " AND is_root = 0");

	stmt_bind_text(st, ":path", path);
	return stmt_run(st, err);
}

int requests_end_root(struct queue_db *q, struct queue_op *op)
{
	struct queue_end_root *end = CONTAINER_OF(op, struct queue_end_root, op);
	CLEANUP(root_fini) struct root root = { 0 };
	enum root_state to = end->state;
	int rc;

	if (claim_remove(q, &q->claimed_roots, end->root_id, &op->err) < 0)
		return -1;
	rc = root_load(q, end->root_id, &root, &op->err);
	if (rc <= 0) /* forgotten in the meantime */
		return rc;
	if (to == ROOT_RESOLVING) {
		count_root(q, root.state, ROOT_RESOLVING);
		return put_off(q, end, &op->err);
	}
	if (to == ROOT_QUEUED && root.again)
		return send_back(q, end->root_id, &root, end->now_unix_s, &op->err);
	if (root_move(q, end->root_id, &root, to, end->text, end->now_unix_s, &op->err) < 0)
		return -1;
	if (to != ROOT_QUEUED)
		return 0;
	if (mark_own_jobs(q, root.path, &op->err) < 0)
		return -1;
	return root_check(q, end->root_id, end->now_unix_s, &op->err);
}

/* ---- expand */

int root_drop(struct queue_db *q, int64_t id, int64_t request, struct error *err)
{
	STMT(st, q->db, "DELETE FROM root WHERE id = :id");
	STMT(empty, q->db,
	     "DELETE FROM request WHERE id = :request AND NOT EXISTS (SELECT 1 FROM root WHERE request = "
	     ":request)");

	stmt_bind_int(st, ":id", id);
	stmt_bind_int(empty, ":request", request);
	return stmt_run(st, err) < 0 ? -1 : stmt_run(empty, err);
}

int requests_expand(struct queue_db *q, struct queue_op *op)
{
	struct queue_expand_root *expand = CONTAINER_OF(op, struct queue_expand_root, op);
	CLEANUP(root_fini) struct root root = { 0 };
	int rc;

	if (claim_remove(q, &q->claimed_roots, expand->root_id, &op->err) < 0)
		return -1;
	rc = root_load(q, expand->root_id, &root, &op->err);
	if (rc <= 0)
		return rc;
	if (expand->n_paths == 0)
		return root_move(q, expand->root_id, &root, ROOT_DONE, NULL, root.enqueued, &op->err);
	for (size_t i = 0; i < expand->n_paths; i++) {
		if (put_root(q, root.request, &expand->paths[i], root.enqueued, &op->err) < 0)
			return -1;
	}
	if (root_drop(q, expand->root_id, root.request, &op->err) < 0)
		return -1;
	count_root(q, root.state, ROOT_N_STATES);
	crash_point(EXPAND_UNCOMMITTED);
	return root.is_protected ? root_release(q, root.path, &op->err) : 0;
}

/* ---- questions */

static int explain_one(struct queue_db *q, struct queue_explain *explain, size_t i, struct error *err)
{
	STMT(st, q->db,
	     "SELECT count(*), count(*) FILTER (WHERE t.unprotected = 0),"
	     " count(*) FILTER (WHERE t.unprotected >= :since),"
	     " count(*) FILTER (WHERE r.caches IS NULL AND t.enqueued >= :since) FROM root t"
	     " LEFT JOIN request r ON r.id = t.request WHERE t.path = :path AND t.state IN (0, 1, 2)");

	stmt_bind_text(st, ":path", explain->paths[i]);
	stmt_bind_int(st, ":since", explain->since_unix_s != NULL ? explain->since_unix_s[i] : 0);
	if (stmt_step(st, err) != STMT_ROW)
		return -1;
	explain->found[i] = (struct queue_explained){
		.is_wanted = stmt_int(st, 0) > 0,
		.is_protected = stmt_int(st, 1) > 0 || (stmt_int(st, 0) > 0 && stmt_int(st, 2) == 0),
		.is_wanted_by_all = stmt_int(st, 3) > 0,
	};
	return 0;
}

static int find_last(struct queue_db *q, const char *path, struct queue_explained *found, struct error *err)
{
	STMT(st, q->db,
	     "SELECT r.caches FROM root t JOIN request r ON r.id = t.request WHERE t.path = :path"
	     " ORDER BY r.id DESC LIMIT 1");
	enum stmt_result result;

	stmt_bind_text(st, ":path", path);
	result = stmt_step(st, err);
	if (result == STMT_FAILED)
		return -1;
	found->is_remembered = result == STMT_ROW;
	if (result == STMT_DONE || stmt_is_null(st, 0))
		return 0;
	found->caches = caches_parse(q, stmt_text(st, 0));
	if (found->caches == 0)
		found->caches = QUEUE_CACHES_GONE;
	return 0;
}

int requests_explain(struct queue_db *q, struct queue_op *op)
{
	struct queue_explain *explain = CONTAINER_OF(op, struct queue_explain, op);

	for (size_t i = 0; i < explain->n_paths; i++)
		if (explain_one(q, explain, i, &op->err) < 0 ||
		    (!explain->found[i].is_wanted &&
		     find_last(q, explain->paths[i], &explain->found[i], &op->err) < 0))
			return -1;
	return 0;
}

int requests_unfinished(struct queue_db *q, struct queue_op *op)
{
	struct queue_unfinished_roots *list = CONTAINER_OF(op, struct queue_unfinished_roots, op);
	STMT(st, q->db,
	     "SELECT id, path FROM root WHERE id > :after AND state < 3 AND unprotected = 0"
	     " ORDER BY id LIMIT :n");
	struct path_list paths = { 0 };
	enum stmt_result result;

	list->last_id = list->after_id;
	stmt_bind_int(st, ":after", list->after_id);
	stmt_bind_int(st, ":n", (int64_t)list->n_max);
	while ((result = stmt_step(st, &op->err)) == STMT_ROW) {
		if (path_list_add(&paths, stmt_text(st, 1), &op->err) < 0) {
			result = STMT_FAILED;
			break;
		}
		list->last_id = stmt_int(st, 0);
	}
	if (result == STMT_FAILED) {
		path_list_fini(&paths);
		return -1;
	}
	list->paths = paths.items;
	list->n_paths = paths.n;
	return 0;
}
