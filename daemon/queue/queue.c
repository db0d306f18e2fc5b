/* The loop's side of the queue: it opens the database, keeps the counts, hands operations to the queue
 * thread and takes them back. What the thread does is in batch.c. */
#include "daemon/queue/queue.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "daemon/loop/timer.h"
#include "daemon/queue/internal.h"
#include "daemon/queue/read.h"
#include "daemon/queue/schema.h"

enum {
	CACHE_BYTES = 8 << 20,
	CHORES_RETRY_MS = 10000,
	FAULT_TOLD_MS = 60000, /* one line for a cause each minute */
	DAMAGED = 1,           /* of open_once */
};

struct queue {
	struct queue_db db; /* the queue thread's, while the lane is open */
	struct lane *lane;
	struct reader *reader;
	struct reader *checker; /* NULL when its work is over: listings are not to stand behind it */

	void (*on_fatal)(void *ctx, const struct error *err);
	void (*on_change)(void *ctx, uint64_t caches, bool roots);
	void (*on_released)(void *ctx, char *const *paths, size_t n_paths);
	void *ctx;

	size_t n_caches;
	struct queue_counts counts[ENDPOINTS_MAX];
	int64_t paused_until_unix_s[ENDPOINTS_MAX];
	uint64_t roots[ROOT_N_STATES];
	uint64_t n_commits;
	bool is_broken;
	char fault[256]; /* why operations failed */
	uint64_t fault_seen_mono_ms, fault_told_mono_ms;

	struct queue_op chores;
	struct timer chores_timer;
	bool has_chores, chores_posted;

	bool closing;
	unsigned n_open; /* lane, readers and timer */
	lane_closed_fn closed;
	void *closed_ctx;
};

/* ---- open */

static int put_endpoint(struct queue_db *q, const struct queue_endpoint *endpoint, int64_t *ret_id,
                        struct error *err)
{
	STMT(st, q->db,
	     "INSERT INTO cache (identity, name, kind, is_configured) VALUES (:identity, :name, :kind, 0)"
	     " ON CONFLICT DO UPDATE SET name = :name, kind = :kind RETURNING id");
	enum stmt_result result;

	stmt_bind_text(st, ":identity", endpoint->identity);
	stmt_bind_text(st, ":name", endpoint->name);
	stmt_bind_text(st, ":kind", endpoint->kind);
	result = stmt_step(st, err);
	if (result != STMT_ROW)
		return result == STMT_FAILED ? -1 : error_set(err, ERROR_TRANSIENT, "no id for a cache");
	*ret_id = stmt_int(st, 0);
	return stmt_step(st, err) == STMT_DONE ? 0 : -1;
}

static int set_configured(struct queue_db *q, int64_t id, bool value, struct error *err)
{
	STMT(st, q->db, "UPDATE cache SET is_configured = :value WHERE id = :id");

	stmt_bind_int(st, ":id", id);
	stmt_bind_int(st, ":value", value);
	if (stmt_run(st, err) < 0)
		return -1;
	return chore_add(q, value ? CHORE_RECONNECT : CHORE_DISCONNECT, 0, id, clock_unix_s(), err);
}

/* Jobs of caches that left the configuration are blocked, those of caches that came back go on. A million
 * of them would hold up the start: the chores do it. */
static int note_configured(struct queue_db *q, struct error *err)
{
	STMT(st, q->db, "SELECT id, is_configured FROM cache ORDER BY id");
	enum stmt_result result;

	while ((result = stmt_step(st, err)) == STMT_ROW) {
		bool now = cache_is_configured(q, stmt_int(st, 0));

		if (now != (stmt_int(st, 1) != 0) && set_configured(q, stmt_int(st, 0), now, err) < 0)
			return -1;
	}
	return result == STMT_DONE ? 0 : -1;
}

static int put_endpoints(struct queue_db *q, const struct queue_config *config, struct error *err)
{
	/* The last first: what is a cache and an upstream, too, has the name of the cache. */
	for (size_t i = config->n_endpoints; i > 0; i--) {
		if (put_endpoint(q, &config->endpoints[i - 1], &q->endpoint_ids[i - 1], err) < 0)
			return -1;
		q->n_endpoints++;
		q->n_caches += !config->endpoints[i - 1].is_upstream;
	}
	if (note_configured(q, err) < 0)
		return -1;
	/* Whether one of their caches is back is seen when they are claimed. */
	return db_exec(q->db, "UPDATE root SET not_before = 0 WHERE state = 0 AND not_before = -1", err);
}

static int put_endpoints_committed(struct queue_db *q, const struct queue_config *config, struct error *err)
{
	if (db_begin(q->db, err) < 0)
		return -1;
	if (put_endpoints(q, config, err) < 0) {
		db_rollback(q->db);
		return -1;
	}
	return db_commit(q->db, err);
}

static int count_jobs(struct queue *queue, struct error *err)
{
	STMT(st, queue->db.db, "SELECT state, cache, count(*) FROM job GROUP BY state, cache");
	enum stmt_result result;

	while ((result = stmt_step(st, err)) == STMT_ROW) {
		int number = endpoint_number(&queue->db, stmt_int(st, 1));

		if (number != NO_NUMBER && stmt_int(st, 0) < JOB_N_STATES)
			queue->counts[number].jobs[stmt_int(st, 0)] = (uint64_t)stmt_int(st, 2);
	}
	return result == STMT_DONE ? 0 : -1;
}

static int count_roots(struct queue *queue, struct error *err)
{
	STMT(st, queue->db.db, "SELECT state, count(*) FROM root GROUP BY state");
	enum stmt_result result;

	while ((result = stmt_step(st, err)) == STMT_ROW) {
		if (stmt_int(st, 0) < ROOT_N_STATES)
			queue->roots[stmt_int(st, 0)] = (uint64_t)stmt_int(st, 1);
	}
	return result == STMT_DONE ? 0 : -1;
}

static void add_usage(struct queue_counts *counts, const struct usage_change *change)
{
	counts->uploaded_paths += change->uploaded;
	counts->uploaded_bytes += change->uploaded_bytes;
	counts->skipped_paths += change->present + change->in_upstream;
	counts->present_paths += change->present;
	counts->in_upstream_paths += change->in_upstream;
	counts->withheld_paths += change->withheld;
	counts->failed_paths += change->failed;
}

static int read_caches(struct queue *queue, struct error *err)
{
	STMT(st, queue->db.db,
	     "SELECT c.id, c.paused_until, EXISTS (SELECT 1 FROM chore), sum(u.uploaded),"
	     " sum(u.uploaded_bytes), sum(u.present), sum(u.in_upstream), sum(u.withheld), sum(u.failed),"
	     " (SELECT count(*) FROM leftover l WHERE l.cache = c.id)"
	     " FROM cache c LEFT JOIN usage u ON u.cache = c.id GROUP BY c.id");
	enum stmt_result result;

	while ((result = stmt_step(st, err)) == STMT_ROW) {
		int number = endpoint_number(&queue->db, stmt_int(st, 0));
		const struct usage_change sum = {
			.uploaded = (uint64_t)stmt_int(st, 3),
			.uploaded_bytes = (uint64_t)stmt_int(st, 4),
			.present = (uint64_t)stmt_int(st, 5),
			.in_upstream = (uint64_t)stmt_int(st, 6),
			.withheld = (uint64_t)stmt_int(st, 7),
			.failed = (uint64_t)stmt_int(st, 8),
		};

		queue->has_chores |= stmt_int(st, 2) != 0;
		if (number == NO_NUMBER)
			continue;
		queue->paused_until_unix_s[number] = stmt_int(st, 1);
		add_usage(&queue->counts[number], &sum);
		queue->counts[number].leftovers = (uint64_t)stmt_int(st, 9);
	}
	return result == STMT_DONE ? 0 : -1;
}

static int open_db(struct queue *queue, const struct queue_config *config, struct error *err)
{
	const struct db_config db_config = {
		.path = config->path,
		.application_id = SCHEMA_APPLICATION_ID,
		.migrations = schema_migrations,
		.n_migrations = schema_n_migrations,
		.cache_bytes = CACHE_BYTES,
		.on_migrating = config->on_migrating,
		.ctx = config->ctx,
	};

	if (db_open(&queue->db.db, &db_config, err) < 0 ||
	    put_endpoints_committed(&queue->db, config, err) < 0 ||
	    presence_load(&queue->db, config->endpoints, err) < 0 || count_jobs(queue, err) < 0 ||
	    count_roots(queue, err) < 0 || read_caches(queue, err) < 0)
		return -1;
	queue->n_caches = queue->db.n_caches;
	queue->db.has_chores = queue->has_chores;
	return 0;
}

static void run_batch(void *ctx, unsigned thread, struct lane_job *batch)
{
	struct queue *queue = ctx;
	(void)thread;

	queue_db_run(&queue->db, batch);
}

static void maybe_post_chores(struct queue *queue);

static void on_chores_timer(struct timer *timer)
{
	maybe_post_chores(CONTAINER_OF(timer, struct queue, chores_timer));
}

static void on_damage(void *ctx, const struct error *err)
{
	struct queue *queue = ctx;

	if (queue->is_broken)
		return;
	queue->is_broken = true;
	queue->on_fatal(queue->ctx, err);
}

static void on_checked(void *ctx)
{
	struct queue *queue = ctx;

	if (queue->closing) /* on_fatal did */
		return;
	reader_close(queue->checker, NULL, NULL);
	queue->checker = NULL;
}

/* Behind the start. If it cannot be done, statements still meet what damage there is. */
static void start_check(struct queue *queue, struct loop *loop, const char *path)
{
	struct error err;

	if (reader_open(&queue->checker, loop, path, on_damage, queue, &err) < 0)
		log_debug("queue check skipped error=\"%s\"", err.text);
	else
		reader_check(queue->checker, on_checked, queue);
}

static void queue_free(struct queue *queue)
{
	queue_db_fini(&queue->db);
	free(queue);
}

static int open_once(struct queue **ret, struct loop *loop, const struct queue_config *config,
                     struct error *err)
{
	static const struct lane_ops ops = { .run_batch = run_batch };
	struct queue *queue = calloc(1, sizeof(*queue));
	bool is_damaged;

	if (queue == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	queue->on_fatal = config->on_fatal;
	queue->on_change = config->on_change;
	queue->on_released = config->on_released;
	queue->ctx = config->ctx;
	if (open_db(queue, config, err) < 0 ||
	    reader_open(&queue->reader, loop, config->path, on_damage, queue, err) < 0)
		goto fail;
	if (lane_open(&queue->lane, loop, "queue", 1, BATCH_OPS_MAX, &ops, queue, err) < 0) {
		reader_close(queue->reader, NULL, NULL);
		goto fail;
	}
	timer_init(&queue->chores_timer, loop, on_chores_timer);
	queue->n_open = 3;
	maybe_post_chores(queue);
	start_check(queue, loop, config->path);
	*ret = queue;
	return 0;
fail:
	if (queue->db.db != NULL && db_is_broken(queue->db.db))
		err->kind = ERROR_OPERATOR;
	is_damaged = queue->db.db != NULL && db_is_damaged(queue->db.db);
	queue_free(queue);
	return is_damaged ? DAMAGED : -1;
}

/* What the first look at it found damaged is marked, and set aside by the second. */
int queue_open(struct queue **ret, struct loop *loop, const struct queue_config *config, struct error *err)
{
	int rc;

	assert(config->n_endpoints <= ENDPOINTS_MAX);
	rc = open_once(ret, loop, config, err);
	if (rc == DAMAGED)
		rc = open_once(ret, loop, config, err);
	return rc == 0 ? 0 : -1;
}

const char *queue_set_aside(const struct queue *queue)
{
	return db_set_aside(queue->db.db);
}

/* ---- operations */

static void add_effects(struct queue *queue, const struct queue_effects *effects)
{
	for (size_t i = 0; i < queue->db.n_endpoints; i++) {
		struct queue_counts *counts = &queue->counts[i];

		for (size_t s = 0; s < JOB_N_STATES; s++)
			counts->jobs[s] += (uint64_t)effects->jobs[i][s];
		add_usage(counts, &effects->usage[i]);
		counts->leftovers += (uint64_t)effects->leftovers[i];
	}
	for (size_t s = 0; s < ROOT_N_STATES; s++)
		queue->roots[s] += (uint64_t)effects->roots[s];
	queue->n_commits += effects->is_committed;
	queue->has_chores = effects->is_committed ? effects->has_chores : queue->has_chores;
}

/* The counts stand before anybody is called: a callback may start operations, and look at them. */
static void apply_effects(struct queue *queue, struct queue_effects *effects)
{
	add_effects(queue, effects);
	maybe_post_chores(queue);
	if (effects->is_broken)
		on_damage(queue, &effects->broken);
	if (effects->released.n > 0 && queue->on_released != NULL)
		queue->on_released(queue->ctx, effects->released.items, effects->released.n);
	if ((effects->changed_caches != 0 || effects->changed_roots) && queue->on_change != NULL)
		queue->on_change(queue->ctx, effects->changed_caches, effects->changed_roots);
	path_list_fini(&effects->released);
	free(effects);
}

static void note_pause(struct queue *queue, const struct queue_op *op)
{
	const struct queue_pause *pause = (const struct queue_pause *)(const void *)op;

	for (size_t i = 0; i < queue->n_caches; i++) {
		if ((pause->caches >> i & 1) != 0)
			queue->paused_until_unix_s[i] = pause->until_unix_s;
	}
	/* The batch told of its changes when its first operation was done: the pause was still the old one.
	 */
	if (queue->on_change != NULL)
		queue->on_change(queue->ctx, pause->caches, false);
}

static void free_texts(char **texts, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(texts[i]);
	free(texts);
}

/* What a page released must not wait for the last one: until then it may be handed over again, and
 * would lose its new root. */
static void release_page(struct queue *queue, struct queue_op *op)
{
	size_t *n;
	char ***released = op_released(op, &n);

	if (released == NULL || *n == 0 || queue->on_released == NULL)
		return;
	queue->on_released(queue->ctx, *released, *n);
	free_texts(*released, *n);
	*released = NULL;
	*n = 0;
}

/* Whoever asked tries again by itself; a person should know why that takes so long. */
static void note_fault(struct queue *queue, const struct queue_op *op)
{
	uint64_t now = clock_mono_ms();
	bool is_new = strncmp(queue->fault, op->err.text, sizeof(queue->fault) - 1) != 0;

	if (op->err.kind != ERROR_TRANSIENT)
		return;
	queue->fault_seen_mono_ms = now;
	if (!is_new && now - queue->fault_told_mono_ms < FAULT_TOLD_MS)
		return;
	queue->fault_told_mono_ms = now;
	snprintf(queue->fault, sizeof(queue->fault), "%.255s", op->err.text);
	log_warning("the queue cannot be used: %s, retrying", queue->fault);
}

static void on_op(struct lane_job *job)
{
	struct queue_op *op = CONTAINER_OF(job, struct queue_op, job);
	struct queue *queue = op->queue;
	struct queue_effects *effects = op->effects;

	op->effects = NULL;
	note_fault(queue, op);
	if (op->verb == QUEUE_PAUSE && op->err.kind == ERROR_NONE)
		note_pause(queue, op);
	if (effects != NULL)
		apply_effects(queue, effects);
	if (op->has_more && op->err.kind == ERROR_NONE) {
		release_page(queue, op);
		if (!queue->closing) {
			lane_post(queue->lane, &op->job, on_op);
			return;
		}
		error_set(&op->err, ERROR_CANCELED, "the queue is closing");
	}
	op->done(op);
}

/* What came out is zero from the start: an operation can fail without having run. */
static void zero_out(struct queue_op *op)
{
	struct queue_claim *claim = CONTAINER_OF(op, struct queue_claim, op);
	struct queue_claim_roots *roots = CONTAINER_OF(op, struct queue_claim_roots, op);
	struct queue_unfinished_roots *unfinished = CONTAINER_OF(op, struct queue_unfinished_roots, op);
	struct queue_next_leftover *leftover = CONTAINER_OF(op, struct queue_next_leftover, op);
	size_t *n;
	char ***released = op_released(op, &n);

	if (released != NULL) {
		*released = NULL;
		*n = 0;
	} else if (op->verb == QUEUE_CLAIM) {
		claim->jobs = NULL;
		claim->n_jobs = 0;
	} else if (op->verb == QUEUE_CLAIM_ROOTS) {
		roots->roots = NULL;
		roots->n_roots = 0;
	} else if (op->verb == QUEUE_UNFINISHED_ROOTS) {
		unfinished->paths = NULL;
		unfinished->n_paths = 0;
	} else if (op->verb == QUEUE_NEXT_LEFTOVER) {
		leftover->note = NULL;
		leftover->id = 0;
	}
}

void queue_op_fini(struct queue_op *op)
{
	struct queue_claim *claim = CONTAINER_OF(op, struct queue_claim, op);
	struct queue_claim_roots *roots = CONTAINER_OF(op, struct queue_claim_roots, op);
	struct queue_unfinished_roots *unfinished = CONTAINER_OF(op, struct queue_unfinished_roots, op);
	struct queue_next_leftover *leftover = CONTAINER_OF(op, struct queue_next_leftover, op);
	size_t *n;
	char ***released = op_released(op, &n);

	if (released != NULL) {
		free_texts(*released, *n);
	} else if (op->verb == QUEUE_CLAIM) {
		for (size_t i = 0; i < claim->n_jobs; i++)
			queue_job_fini(&claim->jobs[i]);
		free(claim->jobs);
	} else if (op->verb == QUEUE_CLAIM_ROOTS) {
		for (size_t i = 0; i < roots->n_roots; i++)
			free(roots->roots[i].path);
		free(roots->roots);
	} else if (op->verb == QUEUE_UNFINISHED_ROOTS) {
		free_texts(unfinished->paths, unfinished->n_paths);
	} else if (op->verb == QUEUE_NEXT_LEFTOVER) {
		free(leftover->note);
	}
	zero_out(op);
}

void queue_start(struct queue *queue, struct queue_op *op, queue_op_fn done)
{
	assert(op->verb < QUEUE_N_VERBS && !queue->closing);
	op->queue = queue;
	op->done = done;
	op->effects = NULL;
	op->has_more = false;
	op->stage = 0;
	op->after_id = 0;
	zero_out(op);
	op->err = (struct error){ .kind = ERROR_NONE };
	lane_post(queue->lane, &op->job, on_op);
}

static void on_chores(struct queue_op *op)
{
	struct queue *queue = CONTAINER_OF(op, struct queue, chores);

	queue->chores_posted = false;
	if (op->err.kind == ERROR_NONE) {
		maybe_post_chores(queue);
	} else if (!queue->closing && !queue->is_broken) {
		log_debug("queue chores wait error=\"%s\"", op->err.text);
		timer_set(&queue->chores_timer, CHORES_RETRY_MS);
	}
}

static void maybe_post_chores(struct queue *queue)
{
	if (!queue->has_chores || queue->chores_posted || queue->closing || queue->is_broken ||
	    timer_is_set(&queue->chores_timer))
		return;
	queue->chores_posted = true;
	queue->chores.verb = QUEUE_CHORES;
	queue_start(queue, &queue->chores, on_chores);
}

/* ---- what is known on the loop */

const struct queue_counts *queue_cache_counts(const struct queue *queue, size_t cache)
{
	assert(cache < queue->n_caches);
	return &queue->counts[cache];
}

uint64_t queue_root_count(const struct queue *queue, enum root_state state)
{
	return queue->roots[state];
}

const char *queue_fault(const struct queue *queue)
{
	bool is_recent = clock_mono_ms() - queue->fault_seen_mono_ms < FAULT_TOLD_MS;

	return queue->fault[0] != '\0' && is_recent ? queue->fault : NULL;
}

uint64_t queue_commit_count(const struct queue *queue)
{
	return queue->n_commits;
}

int64_t queue_paused_until_unix_s(const struct queue *queue, size_t cache)
{
	assert(cache < queue->n_caches);
	return queue->paused_until_unix_s[cache];
}

void queue_read_start(struct queue *queue, struct queue_read *read, queue_read_fn done)
{
	assert(!queue->closing);
	read->queue = queue;
	reader_start(queue->reader, read, done);
}

/* ---- close */

static void on_part_closed(void *ctx)
{
	struct queue *queue = ctx;
	lane_closed_fn closed = queue->closed;
	void *closed_ctx = queue->closed_ctx;

	if (--queue->n_open > 0)
		return;
	queue_free(queue);
	if (closed != NULL)
		closed(closed_ctx);
}

static void on_timer_closed(struct timer *timer)
{
	on_part_closed(CONTAINER_OF(timer, struct queue, chores_timer));
}

void queue_close(struct queue *queue, lane_closed_fn closed, void *ctx)
{
	if (queue == NULL)
		return;
	queue->closing = true;
	queue->closed = closed;
	queue->closed_ctx = ctx;
	timer_stop(&queue->chores_timer);
	timer_close(&queue->chores_timer, on_timer_closed);
	if (queue->checker != NULL)
		queue->n_open++;
	reader_close(queue->checker, on_part_closed, queue);
	lane_close(queue->lane, on_part_closed, queue);
	reader_close(queue->reader, on_part_closed, queue);
}
