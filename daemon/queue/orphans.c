/* The jobs that a forgotten root leaves behind. Nobody protects their paths any more, and nothing would look
 * at them again: those that no unfinished root needs go with it. What another root needs, because it names
 * the path or its closure leads there, stays; so does what is in flight, until its upload ends.
 *
 * What stays becomes that root's, which is resolved again if something is missing below. What was waiting for
 * the one that is gone is looked at anew.
 *
 * A page at a time, with the highest ids first: what refers goes before what it refers to. Where the ids
 * stand in another order, since closures share paths, the walk begins anew; each time something has gone. */
#include "daemon/queue/internal.h"

static int read_page(struct queue_db *q, int64_t root, int64_t after, struct job jobs[PAGE_ROWS],
                     size_t *ret_n, struct error *err)
{
	STMT(st, q->db,
	     "SELECT " JOB_COLUMNS " FROM job j WHERE j.root = :root AND j.state < 5 AND j.id < :before"
	     " ORDER BY j.id DESC LIMIT 256");
	enum stmt_result result;
	size_t n = 0;

	stmt_bind_int(st, ":root", root);
	stmt_bind_int(st, ":before", INT64_MAX - after);
	while ((result = stmt_step(st, err)) == STMT_ROW)
		job_read(st, 0, &jobs[n++]);
	*ret_n = n;
	return result == STMT_DONE ? 0 : -1;
}

/* Does an unfinished root name its path, or an unfinished job on this cache refer to it? */
static int is_needed(struct queue_db *q, const struct job *job, struct error *err)
{
	STMT(st, q->db,
	     "SELECT EXISTS (SELECT 1 FROM path p JOIN root t ON t.path = p.path AND t.state IN (0, 1, 2)"
	     " WHERE p.id = :path) OR EXISTS (SELECT 1 FROM reference r"
	     " JOIN job k ON k.path = r.path AND k.cache = :cache AND k.state < 5 WHERE r.refers_to = "
	     ":path)");

	stmt_bind_int(st, ":path", job->path);
	stmt_bind_int(st, ":cache", job->cache);
	return stmt_step(st, err) == STMT_ROW ? stmt_int(st, 0) != 0 : -1;
}

int job_heir(struct queue_db *q, const struct job *job, int64_t *ret_root, struct error *err)
{
	STMT(st, q->db,
	     "SELECT coalesce((SELECT t.id FROM path p CROSS JOIN root t ON t.path = p.path AND t.state IN "
	     "(0, 1)"
	     " JOIN request r ON r.id = t.request WHERE p.id = :path"
	     " AND (r.caches IS NULL OR instr(r.caches, ',' || :cache || ',') > 0) LIMIT 1),"
	     " (SELECT t.id FROM reference r"
	     " CROSS JOIN job k ON k.path = r.path AND k.cache = :cache AND k.state < 5"
	     " CROSS JOIN root t ON t.id = k.root AND t.state IN (0, 1) WHERE r.refers_to = :path LIMIT 1), "
	     "0)");

	stmt_bind_int(st, ":path", job->path);
	stmt_bind_int(st, ":cache", job->cache);
	if (stmt_step(st, err) != STMT_ROW)
		return -1;
	*ret_root = stmt_int(st, 0);
	return 0;
}

/* Does it refer to one that was passed over because of it? Its references are few, the jobs of the root may
 * be many. */
static int was_passed_over(struct queue_db *q, const struct job *job, struct error *err)
{
	STMT(st, q->db,
	     "SELECT 1 FROM reference r CROSS JOIN job k ON k.path = r.refers_to AND k.cache = :cache"
	     " WHERE r.path = :path AND k.root = :root AND k.state < 5 AND k.id > :id LIMIT 1");
	enum stmt_result result;

	stmt_bind_int(st, ":path", job->path);
	stmt_bind_int(st, ":cache", job->cache);
	stmt_bind_int(st, ":root", job->root);
	stmt_bind_int(st, ":id", job->id);
	result = stmt_step(st, err);
	return result == STMT_FAILED ? -1 : result == STMT_ROW;
}

/* Returns 1 if the walk has to begin anew. */
static int drop(struct queue_db *q, const struct job *job, struct error *err)
{
	return job_drop(q, job, err) < 0 ? -1 : was_passed_over(q, job, err);
}

static int keep(struct queue_db *q, struct job *job, int64_t now, struct error *err)
{
	STMT(st, q->db, "UPDATE job SET root = :root WHERE id = :id");
	int64_t heir;

	if (job_heir(q, job, &heir, err) < 0)
		return -1;
	stmt_bind_int(st, ":root", heir);
	stmt_bind_int(st, ":id", job->id);
	if (heir != 0 && stmt_run(st, err) < 0)
		return -1;
	job->root = heir != 0 ? heir : job->root;
	return job->state == JOB_SENT ? job_wake(q, job, now, err) : 0;
}

int orphans_page(struct queue_db *q, int64_t root, int64_t now, int64_t *after, bool *ret_more,
                 struct error *err)
{
	struct job jobs[PAGE_ROWS];
	bool anew = false;
	size_t n;

	if (read_page(q, root, *after, jobs, &n, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		int rc = id_set_has(&q->claimed_jobs, jobs[i].id) ? 1 : is_needed(q, &jobs[i], err);

		if (rc == 0) {
			rc = drop(q, &jobs[i], err);
			anew = anew || rc == 1;
		} else if (rc == 1) {
			rc = keep(q, &jobs[i], now, err);
		}
		if (rc < 0)
			return -1;
		*after = INT64_MAX - jobs[i].id;
	}
	if (anew)
		*after = 0;
	*ret_more = anew || n == PAGE_ROWS;
	return 0;
}
