/* A page of a root's closure becomes path, reference and job rows. */
#include <assert.h>
#include <inttypes.h>

#include "common/crash.h"
#include "daemon/queue/internal.h"

/* Roots that lost jobs to the root of this page: nothing else would look at them again. */
static int note_root(struct id_set *set, int64_t root, struct error *err)
{
	if (id_set_add(set, root) < 0)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	return 0;
}

static void bind_node(struct stmt *st, const struct queue_page *page, const struct queue_node *node,
                      size_t cache)
{
	bool only_found = (node->ask_first >> cache & 1) != 0;

	stmt_bind_int(st, ":root", page->root_id);
	stmt_bind_int(st, ":rank", node->rank);
	/* What may only be found waits for nothing, and others wait for it: it is asked first. */
	stmt_bind_int(st, ":layer", only_found ? -1 : (int64_t)node->layer);
	stmt_bind_int(st, ":size", (int64_t)node->info->nar_size);
	stmt_bind_int(st, ":only_found", only_found);
	stmt_bind_int(st, ":force", page->force);
	stmt_bind_int(st, ":is_root", node->is_root);
}

/* Its row can have been pruned while a root of the same path still waited for another cache: that root has to
 * be looked at when this job ends. */
static int insert_job(struct queue_db *q, const struct queue_page *page, const struct queue_node *node,
                      size_t cache, int64_t path, struct error *err)
{
	STMT(st, q->db,
	     "INSERT INTO job (path, cache, root, rank, layer, nar_size, may_only_be_found, force, is_root,"
	     " enqueued, changed)"
	     " VALUES (:path, :cache, :root, :rank, :layer, :size, :only_found, :force,"
	     " max(:is_root, EXISTS (SELECT 1 FROM root WHERE path = :text AND state = 1)), :now, :now)");

	bind_node(st, page, node, cache);
	stmt_bind_int(st, ":path", path);
	stmt_bind_text(st, ":text", node->info->path);
	stmt_bind_int(st, ":cache", q->endpoint_ids[cache]);
	stmt_bind_int(st, ":now", page->now_unix_s);
	if (stmt_run(st, err) < 0)
		return -1;
	count_job(q, q->endpoint_ids[cache], JOB_N_STATES, JOB_READY);
	return 0;
}

/* The job begins anew, with what this page says of it. */
static int restart_job(struct queue_db *q, const struct queue_page *page, const struct queue_node *node,
                       size_t cache, struct job *job, struct error *err)
{
	STMT(st, q->db,
	     "UPDATE job SET rank = :rank, layer = :layer, nar_size = :size, may_only_be_found = :only_found,"
	     " force = max(force, :force), is_root = max(is_root, :is_root), enqueued = :now,"
	     " result = 0, root = :root, file_hash = iif(nar_sent, file_hash, NULL),"
	     " file_size = iif(nar_sent, file_size, 0) WHERE id = :id");

	bind_node(st, page, node, cache);
	stmt_bind_int(st, ":id", job->id);
	stmt_bind_int(st, ":now", page->now_unix_s);
	if (stmt_run(st, err) < 0)
		return -1;
	return job_make_ready(q, job, page->root_id, page->now_unix_s, err);
}

/* An unfinished job goes on as it is; its rank may only fall. What it waits for stands before it in the
 * closure: if that is known to be there by now, without a job of this cache that ended, nobody else says so.
 */
static int join_job(struct queue_db *q, const struct queue_page *page, const struct queue_node *node,
                    size_t cache, struct job *job, struct error *err)
{
	STMT(st, q->db,
	     "UPDATE job SET rank = min(rank, :rank), layer = :layer, nar_size = :size,"
	     " may_only_be_found = :only_found, force = max(force, :force), is_root = max(is_root, :is_root),"
	     " root = :root WHERE id = :id");

	bind_node(st, page, node, cache);
	stmt_bind_int(st, ":id", job->id);
	if (stmt_run(st, err) < 0)
		return -1;
	job->root = page->root_id;
	return job_wake(q, job, page->now_unix_s, err);
}

static int put_job(struct queue_db *q, const struct queue_page *page, const struct queue_node *node,
                   size_t cache, int64_t path, struct id_set *old_roots, struct error *err)
{
	struct job job;
	int64_t old_root;
	int rc = job_find(q, path, q->endpoint_ids[cache], &job, err);

	if (rc < 0)
		return -1;
	if (rc == 0)
		return insert_job(q, page, node, cache, path, err);
	old_root = job.root;
	switch (job.state) {
	case JOB_DONE:
		rc = page->force || node->is_root
		             ? 0
		             : presence_is_fresh(q, path, job.cache, page->now_unix_s, err);
		if (rc != 0)
			return rc < 0 ? -1 : 0;
		return restart_job(q, page, node, cache, &job, err);
	case JOB_FAILED:
	case JOB_BLOCKED:
		rc = restart_job(q, page, node, cache, &job, err);
		break;
	case JOB_READY:
	case JOB_DELAYED:
	case JOB_SENT:
	case JOB_N_STATES:
		rc = join_job(q, page, node, cache, &job, err);
		break;
	}
	if (rc == 0 && old_root != page->root_id)
		rc = note_root(old_roots, old_root, err);
	return rc;
}

/* A page can hold the paths of other roots than its own. */
static int put_root_size(struct queue_db *q, const struct queue_node *node, struct error *err)
{
	STMT(st, q->db, "UPDATE root SET nar_size = :size WHERE path = :path AND state IN (0, 1, 2)");

	stmt_bind_int(st, ":size", (int64_t)node->info->nar_size);
	stmt_bind_text(st, ":path", node->info->path);
	return stmt_run(st, err);
}

static int put_node(struct queue_db *q, const struct queue_page *page, const struct queue_node *node,
                    struct id_set *old_roots, struct error *err)
{
	int64_t path;
	bool replaced;

	if (path_put(q, node->info, &path, &replaced, err) < 0 ||
	    (replaced && path_reset_jobs(q, path, page->now_unix_s, err) < 0) ||
	    (node->is_root && put_root_size(q, node, err) < 0))
		return -1;
	for (size_t i = 0; i < q->n_caches; i++) {
		if ((node->caches >> i & 1) != 0 && put_job(q, page, node, i, path, old_roots, err) < 0)
			return -1;
	}
	return 0;
}

static int root_exists(struct queue_db *q, int64_t id, struct error *err)
{
	STMT(st, q->db, "SELECT 1 FROM root WHERE id = :id");
	enum stmt_result result;

	stmt_bind_int(st, ":id", id);
	result = stmt_step(st, err);
	if (result == STMT_DONE)
		error_set(err, ERROR_PERMANENT, "the root was forgotten");
	return result == STMT_ROW ? 0 : -1;
}

int page_put(struct queue_db *q, struct queue_op *op)
{
	struct queue_page *page = CONTAINER_OF(op, struct queue_page, op);
	CLEANUP(id_set_fini) struct id_set old_roots = { 0 };

	assert(page->n_nodes <= QUEUE_PAGE_MAX);
	if (root_exists(q, page->root_id, &op->err) < 0)
		return -1;
	for (size_t i = 0; i < page->n_nodes; i++) {
		if (put_node(q, page, &page->nodes[i], &old_roots, &op->err) < 0)
			return error_prefix(&op->err, "%s", page->nodes[i].info->path);
	}
	for (size_t i = 0; i < old_roots.n; i++) {
		if (root_check(q, old_roots.ids[i], page->now_unix_s, &op->err) < 0)
			return -1;
	}
	crash_point(PAGE_UNCOMMITTED);
	return 0;
}

int page_refresh(struct queue_db *q, struct queue_op *op)
{
	struct queue_refresh *refresh = CONTAINER_OF(op, struct queue_refresh, op);
	int64_t path;
	bool replaced;

	if (path_put(q, refresh->info, &path, &replaced, &op->err) < 0)
		return -1;
	return replaced ? path_reset_jobs(q, path, refresh->now_unix_s, &op->err) : 0;
}
