/* What is believed to be on a cache: read in pages, doubted where it turned out wrong, and asked of paths
 * that the store has. Rows that say that it was seen there count, however long ago. */
#include <stdlib.h>

#include "daemon/queue/internal.h"

static int read_cache_id(struct db *db, struct queue_read *read, int64_t *ret)
{
	STMT(st, db, "SELECT id FROM cache WHERE name = :name AND is_configured");
	enum stmt_result result;

	stmt_bind_text(st, ":name", read->cache);
	result = stmt_step(st, &read->err);
	if (result == STMT_DONE)
		error_set(&read->err, ERROR_PERMANENT, "no cache is named \"%s\"", read->cache);
	if (result != STMT_ROW)
		return -1;
	*ret = stmt_int(st, 0);
	return 0;
}

static int count(struct db *db, struct queue_read *read, int64_t cache)
{
	STMT(st, db, "SELECT count(*) FROM presence WHERE cache = :cache");

	stmt_bind_int(st, ":cache", cache);
	if (stmt_step(st, &read->err) != STMT_ROW)
		return -1;
	read->n_total = (uint64_t)stmt_int(st, 0);
	return 0;
}

static int read_row(struct db *db, struct queue_read *read, struct stmt *st)
{
	struct queue_belief *belief = &read->beliefs[read->n_beliefs++];
	struct queue_db q = { .db = db };

	read->last_id = stmt_int(st, 0);
	belief->was_uploaded = stmt_int(st, 1) != 0;
	if (path_read(st, 2, &belief->info, &read->err) < 0)
		return -1;
	return path_read_references(&q, read->last_id, &belief->info, &read->err);
}

int read_believed(struct db *db, struct queue_read *read)
{
	STMT(st, db,
	     "SELECT p.id, EXISTS (SELECT 1 FROM job j WHERE j.path = p.id AND j.cache = :cache AND j.state "
	     "= 5"
	     " AND j.result = 0), " PATH_COLUMNS " FROM presence s CROSS JOIN path p ON p.id = s.path"
	     " WHERE s.cache = :cache AND s.path > :after AND p.nar_hash IS NOT NULL ORDER BY s.path LIMIT "
	     ":n");
	enum stmt_result result = STMT_DONE;
	int64_t cache;

	if (read_cache_id(db, read, &cache) < 0 || (read->after_id == 0 && count(db, read, cache) < 0))
		return -1;
	if (read->n_max > QUEUE_PAGE_MAX)
		read->n_max = QUEUE_PAGE_MAX;
	read->beliefs = calloc(read->n_max, sizeof(*read->beliefs));
	if (read->beliefs == NULL)
		return error_set(&read->err, ERROR_TRANSIENT, "out of memory");
	stmt_bind_int(st, ":cache", cache);
	stmt_bind_int(st, ":after", read->after_id);
	stmt_bind_int(st, ":n", (int64_t)read->n_max);
	while (read->n_beliefs < read->n_max && (result = stmt_step(st, &read->err)) == STMT_ROW)
		if (read_row(db, read, st) < 0)
			return -1;
	return result == STMT_FAILED ? -1 : 0;
}

void beliefs_free(struct queue_read *read)
{
	for (size_t i = 0; i < read->n_beliefs; i++)
		path_info_fini(&read->beliefs[i].info);
	free(read->beliefs);
}

/* ---- doubts ---------------------------------------------------------------------------------- */

static int doubt_one(struct queue_db *q, int64_t cache_id, const char *path, struct error *err)
{
	STMT(st, q->db,
	     "DELETE FROM presence WHERE path = (SELECT id FROM path WHERE path = :path) AND cache IN"
	     " (SELECT endpoint FROM temp.source WHERE cache = :cache)");

	stmt_bind_text(st, ":path", path);
	stmt_bind_int(st, ":cache", cache_id);
	return stmt_run(st, err);
}

int believed_doubt(struct queue_db *q, struct queue_op *op)
{
	struct queue_doubt *doubt = CONTAINER_OF(op, struct queue_doubt, op);

	for (size_t i = 0; i < doubt->n_paths; i++)
		if (doubt_one(q, q->endpoint_ids[doubt->cache], doubt->paths[i], &op->err) < 0)
			return -1;
	return 0;
}

/* ---- what is known --------------------------------------------------------------------------- */

/* 1: it was; 0; -1. */
static int was_handed_over(struct queue_db *q, const char *path, struct error *err)
{
	STMT(st, q->db, "SELECT 1 FROM root WHERE path = :path LIMIT 1");
	enum stmt_result result;

	stmt_bind_text(st, ":path", path);
	result = stmt_step(st, err);
	return result == STMT_FAILED ? -1 : result == STMT_ROW;
}

static int has_job(struct queue_db *q, int64_t path, int64_t cache_id, struct error *err)
{
	STMT(st, q->db, "SELECT 1 FROM job WHERE path = :path AND cache = :cache");
	enum stmt_result result;

	stmt_bind_int(st, ":path", path);
	stmt_bind_int(st, ":cache", cache_id);
	result = stmt_step(st, err);
	return result == STMT_FAILED ? -1 : result == STMT_ROW;
}

static int is_known(struct queue_db *q, const struct queue_known *known, const char *path, struct error *err)
{
	int64_t id;
	int rc = was_handed_over(q, path, err);

	if (rc != 0)
		return rc;
	rc = path_find(q, path, &id, err);
	for (size_t i = 0; i < q->n_caches && rc == 1; i++) {
		if ((known->caches >> i & 1) == 0)
			continue;
		rc = has_job(q, id, q->endpoint_ids[i], err);
		if (rc == 0)
			rc = presence_is_fresh(q, id, q->endpoint_ids[i], known->now_unix_s, err);
	}
	return rc;
}

int believed_known(struct queue_db *q, struct queue_op *op)
{
	struct queue_known *known = CONTAINER_OF(op, struct queue_known, op);

	for (size_t i = 0; i < known->n_paths; i++) {
		int rc = is_known(q, known, known->paths[i], &op->err);

		if (rc < 0)
			return -1;
		known->is_known[i] = rc == 1;
	}
	return 0;
}
