/* The queue thread: all operations that wait, in one transaction.
 *
 *	BEGIN IMMEDIATE
 *	each operation: SAVEPOINT, its SQL, RELEASE; or ROLLBACK TO, and its error is its own
 *	COMMIT; and fsync, if somebody acts on it: what is answered, and GC roots that go
 *	back on the loop: counts, then each done()
 *
 * What an operation changes in memory follows its SQL: claims are undone from a list, counts are gathered
 * per operation and added to the batch only when it succeeded. If the transaction is lost (COMMIT failed, or
 * a full disk ended it under way), every operation of the batch gets the error. RELEASE is the exception:
 * it is memory alone and cannot fail, so that a claim can always be given back. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/queue/internal.h"

void path_list_fini(struct path_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->items[i]);
	free(list->items);
	*list = (struct path_list){ 0 };
}

static int path_list_reserve(struct path_list *list, size_t n, struct error *err)
{
	size_t cap = list->cap;
	char **items;

	while (cap < list->n + n)
		cap = cap == 0 ? 8 : cap * 2;
	if (cap == list->cap)
		return 0;
	items = realloc(list->items, cap * sizeof(*items));
	if (items == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	list->items = items;
	list->cap = cap;
	return 0;
}

int path_list_add(struct path_list *list, const char *text, struct error *err)
{
	char *copy;

	if (path_list_reserve(list, 1, err) < 0)
		return -1;
	copy = strdup(text);
	if (copy == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	list->items[list->n++] = copy;
	return 0;
}

/* Moves what FROM holds behind TO. */
static int path_list_move(struct path_list *to, struct path_list *from, struct error *err)
{
	if (path_list_reserve(to, from->n, err) < 0)
		return -1;
	if (from->n > 0)
		memcpy(&to->items[to->n], from->items, from->n * sizeof(*from->items));
	to->n += from->n;
	from->n = 0;
	return 0;
}

int endpoint_number(const struct queue_db *q, int64_t id)
{
	for (size_t i = 0; i < q->n_endpoints; i++) {
		if (q->endpoint_ids[i] == id)
			return (int)i;
	}
	return NO_NUMBER;
}

bool cache_is_configured(const struct queue_db *q, int64_t id)
{
	int number = endpoint_number(q, id);

	return number != NO_NUMBER && (size_t)number < q->n_caches;
}

void caches_format(const struct queue_db *q, uint64_t caches, char *text, size_t size)
{
	size_t len = (size_t)snprintf(text, size, ",");

	for (size_t i = 0; i < q->n_caches && len < size; i++) {
		if (caches >> i & 1)
			len += (size_t)snprintf(text + len, size - len, "%lld,",
			                        (long long)q->endpoint_ids[i]);
	}
}

uint64_t caches_parse(const struct queue_db *q, const char *text)
{
	uint64_t caches = 0;
	char id[32];

	for (size_t i = 0; i < q->n_caches; i++) {
		snprintf(id, sizeof(id), ",%lld,", (long long)q->endpoint_ids[i]);
		if (text == NULL || strstr(text, id) != NULL)
			caches |= (uint64_t)1 << i;
	}
	return caches;
}

static int note_claim(struct queue_db *q, struct id_set *set, int64_t id, bool was_added, struct error *err)
{
	if (q->n_changes == q->cap_changes) {
		size_t cap = q->cap_changes == 0 ? 64 : q->cap_changes * 2;
		struct claim_change *changes = realloc(q->changes, cap * sizeof(*changes));

		if (changes == NULL)
			return error_set(err, ERROR_TRANSIENT, "out of memory");
		q->changes = changes;
		q->cap_changes = cap;
	}
	q->changes[q->n_changes++] = (struct claim_change){ .set = set, .id = id, .was_added = was_added };
	return 0;
}

int claim_add(struct queue_db *q, struct id_set *set, int64_t id, struct error *err)
{
	if (note_claim(q, set, id, true, err) < 0)
		return -1;
	if (id_set_add(set, id) == 0)
		return 0;
	q->n_changes--;
	return error_set(err, ERROR_TRANSIENT, "out of memory");
}

int claim_remove(struct queue_db *q, struct id_set *set, int64_t id, struct error *err)
{
	if (!id_set_has(set, id))
		return 0;
	if (note_claim(q, set, id, false, err) < 0)
		return -1;
	id_set_remove(set, id);
	return 0;
}

static void undo_claims(struct queue_db *q, size_t n_kept)
{
	while (q->n_changes > n_kept) {
		const struct claim_change *change = &q->changes[--q->n_changes];
		int rc = 0;

		if (change->was_added)
			id_set_remove(change->set, change->id);
		else
			rc = id_set_add(change->set, change->id);
		assert(rc == 0); /* its place is still allocated */
	}
}

void count_job(struct queue_db *q, int64_t cache_id, enum job_state from, enum job_state to)
{
	int number = endpoint_number(q, cache_id);

	if (number == NO_NUMBER)
		return;
	if (from != JOB_N_STATES)
		q->op.jobs[number][from]--;
	if (to == JOB_N_STATES)
		return;
	q->op.jobs[number][to]++;
	if (to == JOB_READY || to == JOB_DELAYED || to == JOB_FAILED || to == JOB_DONE)
		q->op.changed_caches |= (uint64_t)1 << number;
}

void count_root(struct queue_db *q, enum root_state from, enum root_state to)
{
	if (from != ROOT_N_STATES)
		q->op.roots[from]--;
	if (to == ROOT_N_STATES)
		return;
	q->op.roots[to]++;
	if (to == ROOT_RESOLVING)
		q->op.changed_roots = true;
}

typedef int (*verb_fn)(struct queue_db *q, struct queue_op *op);
static const verb_fn verbs[QUEUE_N_VERBS] = {
	[QUEUE_ADD] = requests_add,
	[QUEUE_CLAIM_ROOTS] = requests_claim,
	[QUEUE_EXPAND_ROOT] = requests_expand,
	[QUEUE_PRESENCE] = presence_look_up,
	[QUEUE_PAGE] = page_put,
	[QUEUE_END_ROOT] = requests_end_root,
	[QUEUE_CLAIM] = jobs_claim,
	[QUEUE_NOTE] = jobs_note,
	[QUEUE_PUBLISH] = jobs_publish,
	[QUEUE_FINISH] = jobs_finish,
	[QUEUE_DEFER] = jobs_defer,
	[QUEUE_FAIL] = jobs_fail,
	[QUEUE_RELEASE] = jobs_release,
	[QUEUE_REFRESH] = page_refresh,
	[QUEUE_RETRY] = admin_retry,
	[QUEUE_FORGET] = admin_forget,
	[QUEUE_PAUSE] = admin_pause,
	[QUEUE_EXPLAIN] = requests_explain,
	[QUEUE_UNFINISHED_ROOTS] = requests_unfinished,
	[QUEUE_UNPROTECT] = admin_unprotect,
	[QUEUE_PRUNE] = admin_prune,
	[QUEUE_DOUBT] = believed_doubt,
	[QUEUE_KNOWN] = believed_known,
	[QUEUE_NEXT_LEFTOVER] = leftover_next,
	[QUEUE_DROP_LEFTOVER] = leftover_drop,
	[QUEUE_CHORES] = chores_run,
};

char ***op_released(struct queue_op *op, size_t **ret_n)
{
	struct queue_end_root *end = CONTAINER_OF(op, struct queue_end_root, op);
	struct queue_finish *finish = CONTAINER_OF(op, struct queue_finish, op);
	struct queue_forget *forget = CONTAINER_OF(op, struct queue_forget, op);
	struct queue_unprotect *unprotect = CONTAINER_OF(op, struct queue_unprotect, op);

	if (op->verb == QUEUE_END_ROOT) {
		*ret_n = &end->n_released;
		return &end->released;
	}
	if (op->verb == QUEUE_FINISH) {
		*ret_n = &finish->n_released;
		return &finish->released;
	}
	if (op->verb == QUEUE_FORGET) {
		*ret_n = &forget->n_released;
		return &forget->released;
	}
	if (op->verb == QUEUE_UNPROTECT) {
		*ret_n = &unprotect->n_released;
		return &unprotect->released;
	}
	return NULL;
}

static int hand_over_released(struct queue_db *q, struct queue_effects *effects, struct queue_op *op)
{
	size_t *n;
	char ***items = op_released(op, &n);
	struct path_list list;

	if (q->released.n == 0)
		return 0;
	if (items == NULL)
		return path_list_move(&effects->released, &q->released, &op->err);
	/* An operation of many pages has some already. */
	list = (struct path_list){ .items = *items, .n = *n, .cap = *n };
	if (path_list_move(&list, &q->released, &op->err) < 0)
		return -1;
	*items = list.items;
	*n = list.n;
	return 0;
}

static void merge(struct queue_effects *to, const struct queue_effects *from, size_t n_endpoints)
{
	for (size_t i = 0; i < n_endpoints; i++) {
		for (size_t s = 0; s < JOB_N_STATES; s++)
			to->jobs[i][s] += from->jobs[i][s];
		usage_sum(&to->usage[i], &from->usage[i]);
		to->leftovers[i] += from->leftovers[i];
	}
	for (size_t s = 0; s < ROOT_N_STATES; s++)
		to->roots[s] += from->roots[s];
	to->changed_caches |= from->changed_caches;
	to->changed_roots |= from->changed_roots;
}

/* What the cache, the store or the hook's request would tell us again. Of all else somebody was told that it
 * is done, and it must not be undone by a power cut. */
static const bool may_be_lost[QUEUE_N_VERBS] = {
	[QUEUE_CLAIM_ROOTS] = true,   [QUEUE_EXPAND_ROOT] = true,
	[QUEUE_PRESENCE] = true,      [QUEUE_PAGE] = true,
	[QUEUE_END_ROOT] = true,      [QUEUE_CLAIM] = true,
	[QUEUE_PUBLISH] = true,       [QUEUE_FINISH] = true,
	[QUEUE_DEFER] = true,         [QUEUE_FAIL] = true,
	[QUEUE_RELEASE] = true,       [QUEUE_REFRESH] = true,
	[QUEUE_EXPLAIN] = true,       [QUEUE_UNFINISHED_ROOTS] = true,
	[QUEUE_PRUNE] = true,         [QUEUE_CHORES] = true,
	[QUEUE_DOUBT] = true,         [QUEUE_KNOWN] = true,
	[QUEUE_NEXT_LEFTOVER] = true, [QUEUE_DROP_LEFTOVER] = true,
};

/* Returns -1 when the transaction itself is lost; ERR says why. */
static int run_op(struct queue_db *q, struct queue_effects *effects, struct queue_op *op, struct error *err)
{
	size_t n_claims = q->n_changes;
	bool must_last = !may_be_lost[op->verb];

	memset(&q->op, 0, sizeof(q->op));
	op->has_more = false;
	if (db_savepoint(q->db, err) < 0)
		return -1;
	if (verbs[op->verb](q, op) == 0) {
		must_last = must_last || q->released.n > 0;
		if (hand_over_released(q, effects, op) == 0) {
			if (db_savepoint_release(q->db, err) < 0)
				return -1;
			merge(effects, &q->op, q->n_endpoints);
			effects->must_last = effects->must_last || must_last;
			return 0;
		}
	}
	assert(op->err.kind != ERROR_NONE);
	queue_op_fini(op);
	path_list_fini(&q->released);
	undo_claims(q, n_claims);
	q->has_chores = true; /* those done in this operation are there again */
	if (!db_in_transaction(q->db))
		return error_copy(err, &op->err);
	return db_savepoint_rollback(q->db, err);
}

static int run_transaction(struct queue_db *q, struct queue_effects *effects, struct lane_job *batch,
                           struct error *err)
{
	if (db_is_broken(q->db))
		return error_set(err, ERROR_TRANSIENT, "the queue's database is broken");
	if (db_begin(q->db, err) < 0)
		return -1;
	for (; batch != NULL; batch = batch->next) {
		if (run_op(q, effects, CONTAINER_OF(batch, struct queue_op, job), err) < 0) {
			db_rollback(q->db);
			return -1;
		}
	}
	if (db_commit(q->db, err) < 0)
		return -1;
	return effects->must_last ? db_sync(q->db, err) : 0;
}

static void fail_batch(struct queue_db *q, struct lane_job *batch, const struct error *err)
{
	undo_claims(q, 0);
	path_list_fini(&q->released);
	q->has_chores = true; /* those done in this batch are there again */
	for (; batch != NULL; batch = batch->next) {
		struct queue_op *op = CONTAINER_OF(batch, struct queue_op, job);

		if (op->verb == QUEUE_RELEASE) {
			(void)!jobs_release(q, op);
			op->err.kind = ERROR_NONE;
			continue;
		}
		queue_op_fini(op);
		op->has_more = false;
		error_copy(&op->err, err);
	}
}

void queue_db_run(struct queue_db *q, struct lane_job *batch)
{
	struct queue_op *first = CONTAINER_OF(batch, struct queue_op, job);
	struct queue_effects *effects = calloc(1, sizeof(*effects));
	struct error err = { .kind = ERROR_NONE };

	if (effects == NULL) {
		error_set(&err, ERROR_TRANSIENT, "out of memory");
		fail_batch(q, batch, &err);
		return;
	}
	if (run_transaction(q, effects, batch, &err) < 0) {
		path_list_fini(&effects->released);
		memset(effects, 0, sizeof(*effects));
		fail_batch(q, batch, &err);
	} else {
		effects->is_committed = true;
		effects->has_chores = q->has_chores;
	}
	q->n_changes = 0;
	/* Also after a commit: writing back the WAL can have found the damage. */
	if (db_is_broken(q->db)) {
		effects->is_broken = true;
		if (err.kind == ERROR_NONE)
			error_set(&err, ERROR_TRANSIENT, "writing back the queue's log failed");
		error_copy(&effects->broken, &err);
	}
	first->effects = effects;
}

void queue_db_fini(struct queue_db *q)
{
	db_close(q->db);
	id_set_fini(&q->claimed_jobs);
	id_set_fini(&q->claimed_roots);
	free(q->changes);
	path_list_fini(&q->released);
}
