/* Whether a cache has a path is what was seen there, as long as that is trusted. The table `source`, in
 * memory, says whose sight counts for whom:
 *
 *	(cache, endpoint, ttl, number): what was seen on ENDPOINT within TTL counts for CACHE.
 *
 * A row is trusted for its endpoint's presence-ttl; one from the future, which a clock that was set back
 * leaves behind, is not trusted beyond an hour. */
#include <stdlib.h>

#include "daemon/queue/internal.h"

/* The rows of `presence p` joined with `source s` that are trusted at :now. */
#define FRESH "(s.ttl = 0 OR (p.seen > :now - s.ttl AND p.seen <= :now + 3600))"
_Static_assert(CLOCK_SLACK_S == 3600, "FRESH");

static int put_source(struct queue_db *q, int64_t cache, size_t number, const struct queue_endpoint *endpoint,
                      struct error *err)
{
	STMT(st, q->db,
	     "INSERT OR IGNORE INTO temp.source (cache, endpoint, ttl, number)"
	     " VALUES (:cache, :endpoint, :ttl, :number)");

	stmt_bind_int(st, ":cache", cache);
	stmt_bind_int(st, ":endpoint", q->endpoint_ids[number]);
	stmt_bind_int(st, ":ttl", (int64_t)endpoint->presence_ttl_s);
	stmt_bind_int(st, ":number", (int64_t)number);
	return stmt_run(st, err);
}

int presence_load(struct queue_db *q, const struct queue_endpoint *endpoints, struct error *err)
{
	if (db_exec(q->db,
	            "CREATE TEMP TABLE source (cache INTEGER, endpoint INTEGER, ttl INTEGER, number INTEGER,"
	            " PRIMARY KEY (cache, endpoint, number)) WITHOUT ROWID",
	            err) < 0)
		return -1;
	for (size_t i = 0; i < q->n_endpoints; i++) {
		if (put_source(q, q->endpoint_ids[i], i, &endpoints[i], err) < 0)
			return -1;
		for (size_t u = 0; u < q->n_endpoints; u++) {
			if ((endpoints[i].upstreams >> u & 1) != 0 &&
			    put_source(q, q->endpoint_ids[i], u, &endpoints[u], err) < 0)
				return -1;
		}
	}
	return 0;
}

int presence_put(struct queue_db *q, int64_t path, int64_t endpoint_id, int64_t now, struct error *err)
{
	STMT(st, q->db,
	     "INSERT INTO presence (path, cache, seen) VALUES (:path, :cache, :now)"
	     " ON CONFLICT DO UPDATE SET seen = :now");

	stmt_bind_int(st, ":path", path);
	stmt_bind_int(st, ":cache", endpoint_id);
	stmt_bind_int(st, ":now", now);
	return stmt_run(st, err);
}

int presence_drop(struct queue_db *q, int64_t path, int64_t cache_id, struct error *err)
{
	STMT(st, q->db,
	     "DELETE FROM presence WHERE path = :path AND cache IN"
	     " (SELECT endpoint FROM temp.source WHERE cache = :cache AND ttl > 0)");

	stmt_bind_int(st, ":path", path);
	stmt_bind_int(st, ":cache", cache_id);
	return stmt_run(st, err);
}

int presence_is_fresh(struct queue_db *q, int64_t path, int64_t cache_id, int64_t now, struct error *err)
{
	STMT(st, q->db,
	     "SELECT 1 FROM presence p CROSS JOIN temp.source s ON s.cache = :cache AND s.endpoint = p.cache"
	     " WHERE p.path = :path AND " FRESH " LIMIT 1");
	enum stmt_result result;

	stmt_bind_int(st, ":path", path);
	stmt_bind_int(st, ":cache", cache_id);
	stmt_bind_int(st, ":now", now);
	result = stmt_step(st, err);
	return result == STMT_FAILED ? -1 : result == STMT_ROW;
}

int presence_of_nar_is_fresh(struct queue_db *q, int64_t job_id, int64_t now, struct error *err)
{
	STMT(st, q->db,
	     "SELECT 1 FROM (SELECT cache, nar_sent AS seen FROM job WHERE id = :id) p"
	     " CROSS JOIN temp.source s ON s.cache = p.cache AND s.endpoint = p.cache WHERE " FRESH);
	enum stmt_result result;

	stmt_bind_int(st, ":id", job_id);
	stmt_bind_int(st, ":now", now);
	result = stmt_step(st, err);
	return result == STMT_FAILED ? -1 : result == STMT_ROW;
}

void missing_list_fini(struct missing_list *list)
{
	free(list->items);
	*list = (struct missing_list){ 0 };
}

static int missing_list_add(struct missing_list *list, const struct missing *missing, struct error *err)
{
	if (list->n == list->cap) {
		size_t cap = list->cap == 0 ? 16 : list->cap * 2;
		struct missing *items = realloc(list->items, cap * sizeof(*items));

		if (items == NULL)
			return error_set(err, ERROR_TRANSIENT, "out of memory");
		list->items = items;
		list->cap = cap;
	}
	list->items[list->n++] = *missing;
	return 0;
}

int refs_missing(struct queue_db *q, int64_t path, int64_t cache_id, int64_t now, struct missing_list *ret,
                 struct error *err)
{
	STMT(st, q->db,
	     "SELECT r.refers_to, j.id, j.state, j.result FROM reference r"
	     " LEFT JOIN job j ON j.path = r.refers_to AND j.cache = :cache"
	     " WHERE r.path = :path AND NOT EXISTS (SELECT 1 FROM presence p CROSS JOIN temp.source s"
	     " ON s.cache = :cache AND s.endpoint = p.cache WHERE p.path = r.refers_to AND " FRESH ")");
	enum stmt_result result;

	stmt_bind_int(st, ":path", path);
	stmt_bind_int(st, ":cache", cache_id);
	stmt_bind_int(st, ":now", now);
	while ((result = stmt_step(st, err)) == STMT_ROW) {
		const struct missing missing = { .path = stmt_int(st, 0),
			                         .job = stmt_int(st, 1),
			                         .state = (enum job_state)stmt_int(st, 2),
			                         .result = (enum job_result)stmt_int(st, 3) };

		if (missing_list_add(ret, &missing, err) < 0)
			return -1;
	}
	return result == STMT_DONE ? 0 : -1;
}

static int look_up_one(struct queue_db *q, const char *path, int64_t now, uint64_t *ret, struct error *err)
{
	STMT(st, q->db,
	     "SELECT s.number FROM path t CROSS JOIN presence p ON p.path = t.id"
	     " CROSS JOIN temp.source s ON s.cache = p.cache AND s.endpoint = p.cache"
	     " WHERE t.path = :path AND " FRESH);
	enum stmt_result result;

	*ret = 0;
	stmt_bind_text(st, ":path", path);
	stmt_bind_int(st, ":now", now);
	while ((result = stmt_step(st, err)) == STMT_ROW)
		*ret |= (uint64_t)1 << stmt_int(st, 0);
	return result == STMT_DONE ? 0 : -1;
}

int presence_look_up(struct queue_db *q, struct queue_op *op)
{
	struct queue_presence *look = CONTAINER_OF(op, struct queue_presence, op);

	for (size_t i = 0; i < look->n_paths; i++) {
		if (look_up_one(q, look->paths[i], look->now_unix_s, &look->endpoints[i], &op->err) < 0)
			return -1;
	}
	return 0;
}
