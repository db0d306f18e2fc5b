/* Every listing is one read transaction of its own, short enough not to hold back the WAL: pages by key,
 * and bounded samples where whole states would have to be read. */
#include "daemon/queue/read.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/queue/internal.h"

enum {
	READ_CACHE_BYTES = 2 << 20,
	ROWS_MAX = 4096,        /* of one page, whatever is asked for */
	WAIT_PATHS_MAX = 20000, /* that a wait looks at, beside those asked for */
	READ_MAX_MS = 30000,
	CHECK_MAX_MS = 120000, /* for one table; a larger one is not checked */
};
/* Roots without a job stand behind all jobs in the order of listings. */
#define ROOT_KEY ((int64_t)1 << 62)

struct reader {
	struct db *db;
	struct lane *lane;
	reader_damage_fn on_damage;
	void *ctx;
	bool closing;
	lane_closed_fn closed;
	void *closed_ctx;

	struct queue_read check; /* no verb of its own: known by its place */
	size_t check_table;
	reader_checked_fn checked;
	void *checked_ctx;
};

/* ---- rows */

static int add_row(struct queue_read *read, struct queue_row **ret, struct error *err)
{
	if (read->rows == NULL) {
		read->rows = calloc(read->n_max + 1, sizeof(*read->rows));
		if (read->rows == NULL)
			return error_set(err, ERROR_TRANSIENT, "out of memory");
	}
	assert(read->n_rows < read->n_max);
	*ret = &read->rows[read->n_rows++];
	return 0;
}

static int copy_kind(struct stmt *st, int column, char **ret, struct error *err)
{
	int64_t kind = stmt_int(st, column);

	if (kind <= ERROR_NONE || kind > ERROR_CANCELED)
		return 0;
	*ret = strdup(error_kind_name((enum error_kind)kind));
	return *ret != NULL ? 0 : error_set(err, ERROR_TRANSIENT, "out of memory");
}

#define ROW_COLUMNS                                                                                         \
	"j.id, p.path, c.name, j.error, j.error_kind, (SELECT q.tag FROM root t JOIN request q"             \
	" ON q.id = t.request WHERE t.id = j.root), j.state, j.result, j.is_root,"                          \
	" EXISTS (SELECT 1 FROM root t WHERE t.path = p.path AND t.state IN (0, 1, 2) AND t.unprotected > " \
	"0),"                                                                                               \
	" j.attempts, j.rank, j.enqueued, j.not_before, iif(j.state = 5, j.changed, 0), j.nar_size,"        \
	" j.file_size"
#define ROW_TABLES " job j JOIN path p ON p.id = j.path JOIN cache c ON c.id = j.cache "

static int read_job_row(struct queue_read *read, struct stmt *st, struct error *err)
{
	struct queue_row *row;

	if (add_row(read, &row, err) < 0)
		return -1;
	row->job_id = stmt_int(st, 0);
	read->last_id = row->job_id;
	row->state = (enum job_state)stmt_int(st, 6);
	row->result = (enum job_result)stmt_int(st, 7);
	row->is_root = stmt_int(st, 8) != 0;
	row->unprotected = stmt_int(st, 9) != 0;
	row->attempts = (unsigned)stmt_int(st, 10);
	row->rank = stmt_int(st, 11);
	row->enqueued_unix_s = stmt_int(st, 12);
	row->not_before_unix_s = stmt_int(st, 13);
	row->finished_unix_s = stmt_int(st, 14);
	row->nar_size = (uint64_t)stmt_int(st, 15);
	row->file_size = (uint64_t)stmt_int(st, 16);
	if (stmt_text_copy(st, 1, &row->path, err) < 0 || stmt_text_copy(st, 2, &row->cache, err) < 0 ||
	    stmt_text_copy(st, 3, &row->error, err) < 0 || copy_kind(st, 4, &row->error_kind, err) < 0)
		return -1;
	return stmt_text_copy(st, 5, &row->tag, err);
}

#define ROOT_COLUMNS                                                                                  \
	"t.id, t.path, t.error, t.error_kind, (SELECT q.tag FROM request q WHERE q.id = t.request), " \
	"t.state,"                                                                                    \
	" t.unprotected > 0, t.attempts, t.rank, t.enqueued, max(t.not_before, 0),"                   \
	" iif(t.state >= 3, t.changed, 0), t.nar_size"
/* Is there nothing else that shows the root? One that ended is shown by its path's jobs. */
#define ROOT_IS_ALONE                                                              \
	"(t.state IN (0, 2) OR (t.state >= 3 AND NOT EXISTS (SELECT 1 FROM path p" \
	" JOIN job j ON j.path = p.id WHERE p.path = t.path)))"

static int read_root_row(struct queue_read *read, struct stmt *st, struct error *err)
{
	struct queue_row *row;

	if (add_row(read, &row, err) < 0)
		return -1;
	row->is_root_only = true;
	row->is_root = true;
	read->last_id = ROOT_KEY + stmt_int(st, 0);
	row->root_state = (enum root_state)stmt_int(st, 5);
	row->unprotected = stmt_int(st, 6) != 0;
	row->attempts = (unsigned)stmt_int(st, 7);
	row->rank = stmt_int(st, 8);
	row->enqueued_unix_s = stmt_int(st, 9);
	row->not_before_unix_s = stmt_int(st, 10);
	row->finished_unix_s = stmt_int(st, 11);
	row->nar_size = (uint64_t)stmt_int(st, 12);
	if (stmt_text_copy(st, 1, &row->path, err) < 0 || stmt_text_copy(st, 2, &row->error, err) < 0 ||
	    copy_kind(st, 3, &row->error_kind, err) < 0)
		return -1;
	return stmt_text_copy(st, 4, &row->tag, err);
}

typedef int (*row_fn)(struct queue_read *read, struct stmt *st, struct error *err);

static int read_rows(struct queue_read *read, struct stmt *st, row_fn read_row)
{
	enum stmt_result result = STMT_DONE;

	while (read->n_rows < read->n_max && (result = stmt_step(st, &read->err)) == STMT_ROW) {
		if (read_row(read, st, &read->err) < 0)
			return -1;
	}
	return result == STMT_FAILED ? -1 : 0;
}

/* ---- list and show */

/* A page for each state and cache, each by key off its index; then the first of them all. */
static int list_jobs(struct db *db, struct queue_read *read)
{
	STMT(st, db,
	     "WITH s (v) AS (VALUES (0), (1), (2), (3), (4), (5)), page (id) AS ("
	     "SELECT j.id FROM s CROSS JOIN cache c CROSS JOIN job j ON j.id IN (SELECT id FROM job"
	     " WHERE state = s.v AND cache = c.id AND id > :after ORDER BY id LIMIT :n)"
	     " WHERE (s.v = :state OR :state = -2 OR (:state = -1 AND s.v < 5))"
	     " AND (:cache IS NULL OR c.name = :cache) ORDER BY j.id LIMIT :n)"
	     " SELECT " ROW_COLUMNS " FROM page CROSS JOIN" ROW_TABLES "WHERE j.id = page.id ORDER BY j.id");

	stmt_bind_int(st, ":after", read->after_id);
	stmt_bind_int(st, ":n", (int64_t)read->n_max);
	stmt_bind_int(st, ":state", read->state);
	stmt_bind_text(st, ":cache", read->cache);
	return read_rows(read, st, read_job_row);
}

/* The states of a root that a listing of a job state shows: one that is to be resolved is ready, delayed,
 * or blocked when its caches are not configured. */
static int list_roots(struct db *db, struct queue_read *read)
{
	STMT(st, db,
	     "WITH s (v) AS (VALUES (0), (2), (3), (4)), page (id) AS ("
	     "SELECT r.id FROM s CROSS JOIN root r ON r.id IN (SELECT id FROM root t"
	     " WHERE t.state = s.v AND t.id > :after AND " ROOT_IS_ALONE
	     " AND (:state < 0 OR s.v <> 0 OR :state = iif(t.not_before = 0, 0, iif(t.not_before > 0, 1, 3)))"
	     " ORDER BY t.id LIMIT :n)"
	     " WHERE :state = -2 OR (:state = -1 AND s.v < 3) OR (:state IN (0, 1, 3) AND s.v = 0)"
	     " OR (:state = 4 AND s.v = 2) OR (:state = 5 AND s.v >= 3) ORDER BY r.id LIMIT :n)"
	     " SELECT " ROOT_COLUMNS " FROM page CROSS JOIN root t WHERE t.id = page.id ORDER BY t.id");

	stmt_bind_int(st, ":after", read->after_id > ROOT_KEY ? read->after_id - ROOT_KEY : 0);
	stmt_bind_int(st, ":n", (int64_t)(read->n_max - read->n_rows));
	stmt_bind_int(st, ":state", read->state);
	return read_rows(read, st, read_root_row);
}

static int read_list(struct db *db, struct queue_read *read)
{
	read->last_id = read->after_id;
	if (read->after_id < ROOT_KEY && list_jobs(db, read) < 0)
		return -1;
	if (read->n_rows == read->n_max || read->cache != NULL)
		return 0;
	return list_roots(db, read);
}

static int read_show(struct db *db, struct queue_read *read)
{
	STMT(jobs, db,
	     "SELECT " ROW_COLUMNS " FROM" ROW_TABLES
	     "WHERE p.path = :path AND (:cache IS NULL OR c.name = :cache) ORDER BY j.id");
	STMT(roots, db,
	     "SELECT " ROOT_COLUMNS " FROM root t WHERE t.path = :path AND " ROOT_IS_ALONE
	     " ORDER BY t.id DESC");

	stmt_bind_text(jobs, ":path", read->path);
	stmt_bind_text(jobs, ":cache", read->cache);
	stmt_bind_text(roots, ":path", read->path);
	if (read_rows(read, jobs, read_job_row) < 0)
		return -1;
	return read_rows(read, roots, read_root_row);
}

/* ---- causes */

static int read_cause(struct queue_read *read, struct stmt *st)
{
	struct queue_cause *cause = &read->causes[read->n_causes++];

	cause->state = (enum job_state)stmt_int(st, 1);
	cause->n_jobs = (uint64_t)stmt_int(st, 4);
	cause->next_due_unix_s = stmt_int(st, 5);
	if (stmt_text_copy(st, 0, &cause->cache, &read->err) < 0 ||
	    stmt_text_copy(st, 2, &cause->error, &read->err) < 0 ||
	    copy_kind(st, 3, &cause->error_kind, &read->err) < 0)
		return -1;
	return stmt_text_copy(st, 6, &cause->example_path, &read->err);
}

/* Of each cache and state the first 10,000 are looked at: texts are not indexed, and status is to stay
 * quick with a million of them. Roots come with no cache. */
static int read_causes(struct db *db, struct queue_read *read)
{
	STMT(st, db,
	     "WITH s (v) AS (VALUES (1), (3), (4)), job_ids (id) AS ("
	     "SELECT j.id FROM s CROSS JOIN cache c CROSS JOIN job j ON j.id IN (SELECT id FROM job"
	     " WHERE state = s.v AND cache = c.id ORDER BY id LIMIT 10000)),"
	     " root_ids (id) AS (SELECT r.id FROM (VALUES (0), (2)) CROSS JOIN root r ON r.id IN"
	     " (SELECT id FROM root WHERE state = column1 ORDER BY id LIMIT 10000)),"
	     " row (cache, state, error, kind, due, path) AS ("
	     "SELECT c.name, j.state, j.error, j.error_kind, j.not_before, p.path"
	     " FROM job_ids i CROSS JOIN job j ON j.id = i.id JOIN cache c ON c.id = j.cache"
	     " JOIN path p ON p.id = j.path"
	     " UNION ALL SELECT NULL, iif(t.state = 2, 4, iif(t.not_before < 0, 3, 1)), t.error,"
	     " t.error_kind, max(t.not_before, 0), t.path FROM root_ids i CROSS JOIN root t ON t.id = i.id"
	     " WHERE t.state = 2 OR t.not_before <> 0)"
	     " SELECT cache, state, error, max(kind), count(*), min(due), min(path) FROM row"
	     " GROUP BY cache, state, error ORDER BY count(*) DESC, error LIMIT :n");
	enum stmt_result result;

	read->causes = calloc(read->n_max + 1, sizeof(*read->causes));
	if (read->causes == NULL)
		return error_set(&read->err, ERROR_TRANSIENT, "out of memory");
	stmt_bind_int(st, ":n", (int64_t)read->n_max);
	while ((result = stmt_step(st, &read->err)) == STMT_ROW) {
		if (read_cause(read, st) < 0)
			return -1;
	}
	return result == STMT_DONE ? 0 : -1;
}

/* ---- wait: the closures of some roots */

/* A seed is a path asked about: OPEN says how its roots stand, 0: none is to be resolved or failed,
 * 1: to be resolved, 2: none of its caches is configured, 3: failed. */
static int clear_seeds(struct db *db, struct error *err)
{
	return db_exec(db,
	               "CREATE TEMP TABLE IF NOT EXISTS seed (path TEXT PRIMARY KEY, open INTEGER,"
	               " id INTEGER) WITHOUT ROWID; DELETE FROM temp.seed;",
	               err);
}

static int seed_path(struct db *db, const char *path, struct error *err)
{
	STMT(st, db, "INSERT OR IGNORE INTO temp.seed (path) VALUES (:path)");

	stmt_bind_text(st, ":path", path);
	return stmt_run(st, err);
}

static int seed_tag(struct db *db, const char *tag, struct error *err)
{
	STMT(st, db,
	     "INSERT OR IGNORE INTO temp.seed (path) SELECT t.path FROM request r"
	     " CROSS JOIN root t ON t.request = r.id WHERE r.tag = :tag");

	stmt_bind_text(st, ":tag", tag);
	return stmt_run(st, err);
}

/* Of all requests only what is unfinished is looked at: the rest of history is done. */
static int seed_requests(struct db *db, int64_t request_id, struct error *err)
{
	STMT(st, db,
	     "INSERT OR IGNORE INTO temp.seed (path) SELECT path FROM root"
	     " WHERE state IN (0, 1, 2) AND request <= :request LIMIT :max");

	stmt_bind_int(st, ":request", request_id);
	stmt_bind_int(st, ":max", WAIT_PATHS_MAX);
	return stmt_run(st, err);
}

static int seed(struct db *db, struct queue_read *read)
{
	if (clear_seeds(db, &read->err) < 0)
		return -1;
	for (size_t i = 0; i < read->n_paths; i++) {
		if (seed_path(db, read->paths[i], &read->err) < 0)
			return -1;
	}
	if (read->n_paths > 0)
		return 0;
	if (read->tag != NULL)
		return seed_tag(db, read->tag, &read->err);
	return seed_requests(db, read->request_id > 0 ? read->request_id : INT64_MAX, &read->err);
}

/* Looks up the rows and roots of the seeds. */
static int judge_seeds(struct db *db, struct error *err)
{
	STMT(st, db,
	     "UPDATE temp.seed SET id = (SELECT p.id FROM path p WHERE p.path = seed.path),"
	     " open = coalesce((SELECT max(iif(t.state = 2, 3, iif(t.not_before < 0, 2, 1))) FROM root t"
	     " WHERE t.path = seed.path AND t.state IN (0, 2)), 0)");

	return stmt_run(st, err);
}

static int count_seeds(struct db *db, struct queue_wait_state *wait, struct error *err)
{
	STMT(st, db,
	     "SELECT count(*) FILTER (WHERE id IS NULL), count(*) FILTER (WHERE open = 1),"
	     " count(*) FILTER (WHERE open = 2), count(*) FILTER (WHERE open = 3) FROM temp.seed"
	     " WHERE id IS NULL OR open > 0");
	uint64_t resolving, aside, failed;

	if (stmt_step(st, err) != STMT_ROW)
		return -1;
	wait->n_total += (uint64_t)stmt_int(st, 0);
	resolving = (uint64_t)stmt_int(st, 1);
	aside = (uint64_t)stmt_int(st, 2);
	failed = (uint64_t)stmt_int(st, 3);
	wait->n_unfinished += resolving + aside + failed;
	wait->n_moving += resolving;
	wait->n_blocked += aside;
	wait->n_failed += failed;
	return 0;
}

/* What goes on without a hand: not what is delayed until a person mends something (3: ERROR_OPERATOR);
 * and what is sent waits for its references, which are counted themselves. */
#define IS_MOVING "(j.state = 0 OR (j.state = 1 AND j.error_kind != 3))"
static_assert(ERROR_OPERATOR == 3 && JOB_READY == 0 && JOB_DELAYED == 1, "IS_MOVING");

/* One line per path of the closures; a path counts once, whatever its number of caches: as failed if it
 * failed on one, else as blocked; and as moving if it moves on one, which a pause with an end does not stop.
 */
static int count_closure(struct db *db, struct queue_wait_state *wait, struct error *err)
{
	STMT(st, db,
	     "WITH RECURSIVE closure (id) AS (SELECT id FROM temp.seed WHERE id IS NOT NULL"
	     " UNION SELECT r.refers_to FROM closure c CROSS JOIN reference r ON r.path = c.id"
	     " LIMIT :max + (SELECT count(*) FROM temp.seed)),"
	     " line (unfinished, failed, blocked, moving) AS (SELECT max(coalesce(j.state, 5) < 5),"
	     " max(j.state IS 4), max(j.state IS 3), max(" IS_MOVING " AND k.paused_until < :for_ever)"
	     " FROM closure c LEFT JOIN job j ON j.path = c.id LEFT JOIN cache k ON k.id = j.cache"
	     " WHERE c.id NOT IN (SELECT id FROM temp.seed WHERE open > 0 AND id IS NOT NULL) GROUP BY c.id)"
	     " SELECT count(*), total(unfinished), total(failed), total(blocked AND NOT failed),"
	     " total(coalesce(moving, 0)) FROM line");

	stmt_bind_int(st, ":max", WAIT_PATHS_MAX);
	stmt_bind_int(st, ":for_ever", INT64_MAX);
	if (stmt_step(st, err) != STMT_ROW)
		return -1;
	wait->n_total += (uint64_t)stmt_int(st, 0);
	wait->n_unfinished += (uint64_t)stmt_int(st, 1);
	wait->n_failed += (uint64_t)stmt_int(st, 2);
	wait->n_blocked += (uint64_t)stmt_int(st, 3);
	wait->n_moving += (uint64_t)stmt_int(st, 4);
	return 0;
}

/* Seeds that are open and have a row are left out of the closure's lines; they are paths all the same. */
static int count_open_rows(struct db *db, struct queue_wait_state *wait, struct error *err)
{
	STMT(st, db, "SELECT count(*) FROM temp.seed WHERE open > 0 AND id IS NOT NULL");

	if (stmt_step(st, err) != STMT_ROW)
		return -1;
	wait->n_total += (uint64_t)stmt_int(st, 0);
	return 0;
}

/* A closure of which not all was looked at moves as long as anything does. */
static int count_rest(struct db *db, struct queue_wait_state *wait, struct error *err)
{
	STMT(st, db,
	     "SELECT EXISTS (SELECT 1 FROM cache k WHERE k.paused_until < :for_ever AND EXISTS"
	     " (SELECT 1 FROM job j WHERE " IS_MOVING " AND j.cache = k.id))");

	if (wait->n_moving > 0 || wait->n_total < WAIT_PATHS_MAX)
		return 0;
	stmt_bind_int(st, ":for_ever", INT64_MAX);
	if (stmt_step(st, err) != STMT_ROW)
		return -1;
	wait->n_moving += (uint64_t)stmt_int(st, 0);
	return 0;
}

static int find_tag(struct db *db, struct queue_read *read)
{
	STMT(st, db, "SELECT 1 FROM request WHERE tag = :tag LIMIT 1");
	enum stmt_result result;

	stmt_bind_text(st, ":tag", read->tag);
	result = stmt_step(st, &read->err);
	read->tag_known = result == STMT_ROW;
	return result == STMT_FAILED ? -1 : 0;
}

static int read_wait(struct db *db, struct queue_read *read)
{
	struct queue_wait_state *wait = &read->wait;

	*wait = (struct queue_wait_state){ 0 };
	if (read->tag != NULL && find_tag(db, read) < 0)
		return -1;
	if (seed(db, read) < 0 || judge_seeds(db, &read->err) < 0 || count_seeds(db, wait, &read->err) < 0 ||
	    count_open_rows(db, wait, &read->err) < 0)
		return -1;
	if (count_closure(db, wait, &read->err) < 0)
		return -1;
	return count_rest(db, wait, &read->err);
}

/* ---- summary */

static int read_summary(struct db *db, struct queue_read *read)
{
	STMT(st, db,
	     "SELECT count(*), coalesce(sum(nar_size), 0),"
	     " coalesce((SELECT min(enqueued) FROM root WHERE state < 3), 0),"
	     " (SELECT count(*) FROM root WHERE state < 3 AND unprotected > 0),"
	     " coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'request'), 0)"
	     " FROM root INDEXED BY root_pinned WHERE state < 3 AND unprotected = 0");

	if (stmt_step(st, &read->err) != STMT_ROW)
		return -1;
	read->pinned_paths = (uint64_t)stmt_int(st, 0);
	read->pinned_nar_bytes = (uint64_t)stmt_int(st, 1);
	read->oldest_unfinished_unix_s = stmt_int(st, 2);
	read->unprotected = (uint64_t)stmt_int(st, 3);
	read->last_request_id = stmt_int(st, 4);
	return 0;
}

/* ---- the thread */

static int run_verb(struct db *db, struct queue_read *read)
{
	switch (read->verb) {
	case QUEUE_LIST:
		return read_list(db, read);
	case QUEUE_SHOW:
		return read_show(db, read);
	case QUEUE_CAUSES:
		return read_causes(db, read);
	case QUEUE_WAIT:
		return read_wait(db, read);
	case QUEUE_SUMMARY:
		return read_summary(db, read);
	case QUEUE_BELIEVED:
		return read_believed(db, read);
	}
	return error_set(&read->err, ERROR_PERMANENT, "no such listing");
}

/* SQLite's words for what the disk does not give: that is no damage. Its code 11, SQLITE_CORRUPT, is. */
static bool is_of_the_disk(const char *text)
{
	static const char words[] = "unable to get the page. error code=";
	const char *code = strstr(text, words);

	return strstr(text, "failed to get page") != NULL ||
	       (code != NULL && (strtol(code + strlen(words), NULL, 10) & 0xff) != 11);
}

static int check_table(struct db *db, const char *table, struct error *err)
{
	STMT(st, db, "SELECT quick_check FROM pragma_quick_check(:table) LIMIT 1");
	const char *text;

	stmt_bind_text(st, ":table", table);
	if (stmt_step(st, err) != STMT_ROW) {
		if (db_is_broken(db))
			err->kind = ERROR_OPERATOR;
		return -1;
	}
	text = stmt_text(st, 0);
	if (text == NULL || strcmp(text, "ok") == 0)
		return 0;
	if (is_of_the_disk(text))
		return error_set(err, ERROR_TRANSIENT, "table %s cannot be read: %s", table, text);
	db_mark_damaged(db);
	return error_set(err, ERROR_OPERATOR, "the queue's database is damaged, table %s: %s", table, text);
}

/* All of schema.c. */
static const char *const tables[] = { "cache", "request",  "root",  "path",  "reference",
	                              "job",   "presence", "usage", "chore", "leftover" };

/* The parts of a listing are of one moment. */
static int run_read(struct reader *reader, struct queue_read *read)
{
	struct db *db = reader->db;
	struct error ignored;

	db_limit_time(db, read == &reader->check ? CHECK_MAX_MS : READ_MAX_MS);
	if (read == &reader->check)
		return check_table(db, tables[reader->check_table], &read->err);

	if (db_exec(db, "BEGIN", &read->err) < 0)
		return -1;
	if (run_verb(db, read) < 0) {
		db_rollback(db);
		return -1;
	}
	return db_exec(db, "COMMIT", &ignored);
}

static void run_batch(void *ctx, unsigned thread, struct lane_job *batch)
{
	struct reader *reader = ctx;
	(void)thread;

	for (; batch != NULL; batch = batch->next) {
		struct queue_read *read = CONTAINER_OF(batch, struct queue_read, job);

		if (run_read(reader, read) < 0)
			queue_read_fini(read);
	}
}

static void on_read(struct lane_job *job)
{
	struct queue_read *read = CONTAINER_OF(job, struct queue_read, job);
	struct reader *reader = read->reader;

	if (db_is_damaged(reader->db) && !reader->closing)
		reader->on_damage(reader->ctx, &read->err);
	read->done(read);
}

static void clear(struct queue_read *read)
{
	read->rows = NULL;
	read->n_rows = 0;
	read->causes = NULL;
	read->n_causes = 0;
	read->last_id = 0;
	read->tag_known = false;
	read->beliefs = NULL;
	read->n_beliefs = 0;
	read->n_total = 0;
}

void queue_read_fini(struct queue_read *read)
{
	for (size_t i = 0; i < read->n_rows; i++) {
		struct queue_row *row = &read->rows[i];

		free(row->path);
		free(row->cache);
		free(row->error);
		free(row->error_kind);
		free(row->tag);
	}
	for (size_t i = 0; i < read->n_causes; i++) {
		struct queue_cause *cause = &read->causes[i];

		free(cause->cache);
		free(cause->error);
		free(cause->error_kind);
		free(cause->example_path);
	}
	beliefs_free(read);
	free(read->rows);
	free(read->causes);
	clear(read);
}

int reader_open(struct reader **ret, struct loop *loop, const char *path, reader_damage_fn on_damage,
                void *ctx, struct error *err)
{
	static const struct lane_ops ops = { .run_batch = run_batch };
	struct reader *reader = calloc(1, sizeof(*reader));

	if (reader == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	reader->on_damage = on_damage;
	reader->ctx = ctx;
	if (db_open_reader(&reader->db, path, READ_CACHE_BYTES, err) < 0 ||
	    lane_open(&reader->lane, loop, "queue-read", 1, 1, &ops, reader, err) < 0) {
		db_close(reader->db);
		free(reader);
		return -1;
	}
	*ret = reader;
	return 0;
}

void reader_start(struct reader *reader, struct queue_read *read, queue_read_fn done)
{
	read->done = done;
	read->reader = reader;
	read->err = (struct error){ .kind = ERROR_NONE };
	if (read->n_max == 0 || read->n_max > ROWS_MAX)
		read->n_max = ROWS_MAX;
	clear(read);
	lane_post(reader->lane, &read->job, on_read);
}

/* A table that takes too long, or cannot be read today, is left out. */
static void on_checked(struct queue_read *read)
{
	struct reader *reader = CONTAINER_OF(read, struct reader, check);
	bool may_go_on = read->err.kind == ERROR_NONE || read->err.kind == ERROR_TRANSIENT;

	if (reader->closing)
		return;
	reader->check_table++;
	if (may_go_on && !db_is_broken(reader->db) && reader->check_table < N_ELEMENTS(tables))
		reader_start(reader, read, on_checked);
	else
		reader->checked(reader->checked_ctx);
}

void reader_check(struct reader *reader, reader_checked_fn over, void *ctx)
{
	reader->checked = over;
	reader->checked_ctx = ctx;
	reader_start(reader, &reader->check, on_checked);
}

static void on_lane_closed(void *ctx)
{
	struct reader *reader = ctx;

	db_close(reader->db);
	if (reader->closed != NULL)
		reader->closed(reader->closed_ctx);
	free(reader);
}

void reader_close(struct reader *reader, lane_closed_fn closed, void *ctx)
{
	if (reader == NULL)
		return;
	reader->closing = true;
	reader->closed = closed;
	reader->closed_ctx = ctx;
	lane_close(reader->lane, on_lane_closed, reader);
}
