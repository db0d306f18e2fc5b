/* What an unfinished put left on a cache outlives its job: a job that goes leaves its note here, in the same
 * transaction, until somebody took away what the note names. A cache that is not configured may come back;
 * its notes wait for that, for some time. */
#include "common/clock.h"
#include "daemon/queue/internal.h"

#define KEPT_DAYS 30 /* of a cache that is not configured */

static void count_leftover(struct queue_db *q, int64_t cache_id, int64_t change)
{
	int number = endpoint_number(q, cache_id);

	if (number == NO_NUMBER)
		return;
	q->op.leftovers[number] += change;
	if (change > 0)
		q->op.changed_caches |= (uint64_t)1 << number;
}

int leftover_keep(struct queue_db *q, const struct job *job, struct error *err)
{
	STMT(st, q->db,
	     "INSERT INTO leftover (cache, note, made) SELECT cache, upload_id, :now FROM job"
	     " WHERE id = :id AND upload_id IS NOT NULL");

	stmt_bind_int(st, ":id", job->id);
	stmt_bind_int(st, ":now", clock_unix_s());
	if (stmt_run(st, err) < 0)
		return -1;
	if (db_n_changed(q->db) > 0)
		count_leftover(q, job->cache, 1);
	return 0;
}

int job_drop(struct queue_db *q, const struct job *job, struct error *err)
{
	STMT(st, q->db, "DELETE FROM job WHERE id = :id");

	if (leftover_keep(q, job, err) < 0)
		return -1;
	stmt_bind_int(st, ":id", job->id);
	if (stmt_run(st, err) < 0)
		return -1;
	count_job(q, job->cache, job->state, JOB_N_STATES);
	return 0;
}

int leftover_next(struct queue_db *q, struct queue_op *op)
{
	struct queue_next_leftover *next = CONTAINER_OF(op, struct queue_next_leftover, op);
	STMT(st, q->db,
	     "SELECT id, note FROM leftover WHERE cache = :cache AND id > :after ORDER BY id LIMIT 1");
	enum stmt_result result;

	stmt_bind_int(st, ":cache", q->endpoint_ids[next->cache]);
	stmt_bind_int(st, ":after", next->after_id);
	result = stmt_step(st, &op->err);
	if (result != STMT_ROW)
		return result == STMT_FAILED ? -1 : 0;
	next->id = stmt_int(st, 0);
	return stmt_text_copy(st, 1, &next->note, &op->err);
}

int leftover_drop(struct queue_db *q, struct queue_op *op)
{
	struct queue_drop_leftover *drop = CONTAINER_OF(op, struct queue_drop_leftover, op);
	int64_t cache_id = q->endpoint_ids[drop->cache];
	STMT(st, q->db, "DELETE FROM leftover WHERE id = :id AND cache = :cache");

	stmt_bind_int(st, ":id", drop->id);
	stmt_bind_int(st, ":cache", cache_id);
	if (stmt_run(st, &op->err) < 0)
		return -1;
	if (db_n_changed(q->db) > 0)
		count_leftover(q, cache_id, -1);
	return 0;
}

int leftovers_prune(struct queue_db *q, struct error *err)
{
	STMT(st, q->db,
	     "DELETE FROM leftover WHERE made < :before"
	     " AND cache IN (SELECT id FROM cache WHERE is_configured = 0)");

	stmt_bind_int(st, ":before", clock_unix_s() - KEPT_DAYS * (int64_t)86400);
	return stmt_run(st, err);
}
