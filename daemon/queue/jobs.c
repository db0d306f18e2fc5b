/* One path on one cache, from ready to done.
 *
 *	READY --claim (memory only)--> in flight --finish--> DONE
 *	  ^                               |
 *	  |<--release, defer(0)-----------+--defer--> DELAYED --due--> READY
 *	  |<--a reference arrived-- SENT <--publish: a reference is missing
 *	  |<--it goes on again-- BLOCKED <--publish, or what it needs failed
 *	  |<--retry-- FAILED <--fail
 *
 * A claimed job is READY in the file: after a crash it is simply claimed again. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash.h"
#include "daemon/queue/internal.h"

const char *job_state_name(enum job_state state)
{
	static const char *const names[] = { "ready", "delayed", "sent", "blocked", "failed", "done" };

	return names[state];
}

void queue_job_fini(struct queue_job *job)
{
	path_info_fini(&job->info);
	free(job->upload_id);
	*job = (struct queue_job){ 0 };
}

void job_read(struct stmt *st, int first, struct job *ret)
{
	*ret = (struct job){
		.id = stmt_int(st, first),
		.path = stmt_int(st, first + 1),
		.cache = stmt_int(st, first + 2),
		.root = stmt_int(st, first + 3),
		.rank = stmt_int(st, first + 4),
		.state = (enum job_state)stmt_int(st, first + 5),
		.result = (enum job_result)stmt_int(st, first + 6),
		.nar_sent = stmt_int(st, first + 7) != 0,
		.is_root = stmt_int(st, first + 8) != 0,
	};
}

int job_load(struct queue_db *q, int64_t id, struct job *ret, struct error *err)
{
	STMT(st, q->db, "SELECT " JOB_COLUMNS " FROM job j WHERE j.id = :id");
	enum stmt_result result;

	stmt_bind_int(st, ":id", id);
	result = stmt_step(st, err);
	if (result == STMT_ROW)
		job_read(st, 0, ret);
	return result == STMT_FAILED ? -1 : result == STMT_ROW;
}

int job_find(struct queue_db *q, int64_t path, int64_t cache_id, struct job *ret, struct error *err)
{
	STMT(st, q->db, "SELECT " JOB_COLUMNS " FROM job j WHERE j.path = :path AND j.cache = :cache");
	enum stmt_result result;

	stmt_bind_int(st, ":path", path);
	stmt_bind_int(st, ":cache", cache_id);
	result = stmt_step(st, err);
	if (result == STMT_ROW)
		job_read(st, 0, ret);
	return result == STMT_FAILED ? -1 : result == STMT_ROW;
}

/* The unfinished job that an operation is about. */
static int load_unfinished(struct queue_db *q, const struct queue_job *which, struct job *ret,
                           struct error *err)
{
	int rc = job_load(q, which->id, ret, err);

	if (rc == 0 || (rc == 1 && ret->state == JOB_DONE))
		return error_set(err, ERROR_PERMANENT, "job %" PRId64 " is not in the queue any more",
		                 which->id);
	return rc < 0 ? -1 : 0;
}

static bool is_blocking(struct queue_db *q, const struct job *job)
{
	STMT(st, q->db,
	     "SELECT 1 FROM job WHERE cache = :cache AND state = 3 AND blocked_by = :path LIMIT 1");
	struct error ignored;

	stmt_bind_int(st, ":cache", job->cache);
	stmt_bind_int(st, ":path", job->path);
	return stmt_step(st, &ignored) != STMT_DONE; /* in doubt the chore looks again */
}

int job_make_ready(struct queue_db *q, struct job *job, int64_t root, int64_t now, struct error *err)
{
	STMT(st, q->db,
	     "UPDATE job SET state = 0, root = :root, not_before = 0, attempts = 0, mismatches = 0,"
	     " error = NULL, error_kind = 0, blocked_by = 0, changed = :now WHERE id = :id");

	stmt_bind_int(st, ":id", job->id);
	stmt_bind_int(st, ":root", root);
	stmt_bind_int(st, ":now", now);
	if (stmt_run(st, err) < 0)
		return -1;
	count_job(q, job->cache, job->state, JOB_READY);
	job->state = JOB_READY;
	job->root = root;
	return is_blocking(q, job) ? chore_add(q, CHORE_UNBLOCK, job->path, job->cache, now, err) : 0;
}

int job_make_sent(struct queue_db *q, struct job *job, int64_t now, struct error *err)
{
	STMT(st, q->db,
	     "UPDATE job SET state = 2, error = NULL, error_kind = 0, blocked_by = 0, changed = :now"
	     " WHERE id = :id");

	stmt_bind_int(st, ":id", job->id);
	stmt_bind_int(st, ":now", now);
	if (stmt_run(st, err) < 0)
		return -1;
	count_job(q, job->cache, job->state, JOB_SENT);
	job->state = JOB_SENT;
	return is_blocking(q, job) ? chore_add(q, CHORE_UNBLOCK, job->path, job->cache, now, err) : 0;
}

/* ---- the NAR */

static int put_file(struct queue_db *q, const struct queue_job *job, int64_t now, struct error *err)
{
	STMT(st, q->db,
	     "UPDATE job SET nar_sent = iif(:sent, iif(nar_sent > 0, nar_sent, :now), 0), file_hash = :hash,"
	     " file_size = :size, upload_id = iif(:sent, NULL, upload_id) WHERE id = :id");

	stmt_bind_int(st, ":id", job->id);
	stmt_bind_int(st, ":sent", job->nar_sent);
	stmt_bind_int(st, ":now", now);
	if (job->has_file_hash)
		stmt_bind_blob(st, ":hash", job->file_hash, SHA256_BYTES);
	stmt_bind_int(st, ":size", (int64_t)job->file_size);
	return stmt_run(st, err);
}

/* A put that noted something and then found the NAR there may have failed to take its own away again. */
static int keep_unfinished(struct queue_db *q, const struct queue_job *from, const struct job *job,
                           struct error *err)
{
	if (from->upload_id == NULL || from->has_file_hash)
		return 0;
	return leftover_keep(q, job, err);
}

static int forget_file(struct queue_db *q, int64_t id, struct error *err)
{
	STMT(st, q->db, "UPDATE job SET nar_sent = 0, file_hash = NULL, file_size = 0 WHERE id = :id");

	stmt_bind_int(st, ":id", id);
	return stmt_run(st, err);
}

/* I2: a job can wait for days for what it refers to, and the cache delete its NAR meanwhile. */
static int distrust_old_nar(struct queue_db *q, struct queue_job *job, int64_t now, struct error *err)
{
	int rc = job->nar_sent ? presence_of_nar_is_fresh(q, job->id, now, err) : 1;

	if (rc != 0)
		return rc < 0 ? -1 : 0;
	job->nar_sent = job->has_file_hash = false;
	job->file_size = 0;
	return forget_file(q, job->id, err);
}

/* ---- claim */

/* Makes up to a page of delayed jobs ready: those that are due, and those put off so far that a clock
 * must have been set back. */
static int wake_due(struct queue_db *q, const struct queue_claim *claim, int64_t cache_id, struct error *err)
{
	STMT(due, q->db,
	     "UPDATE job SET state = 0, not_before = 0 WHERE id IN (SELECT id FROM job"
	     " WHERE cache = :cache AND state = 1 AND not_before <= :now LIMIT 256)");
	STMT(far, q->db,
	     "UPDATE job SET state = 0, not_before = 0 WHERE id IN (SELECT id FROM job"
	     " WHERE cache = :cache AND state = 1 AND not_before > :now LIMIT 256)");
	uint64_t n;

	stmt_bind_int(due, ":cache", cache_id);
	stmt_bind_int(due, ":now", claim->now_unix_s);
	if (stmt_run(due, err) < 0)
		return -1;
	n = db_n_changed(q->db);
	stmt_bind_int(far, ":cache", cache_id);
	stmt_bind_int(far, ":now", claim->now_unix_s + DELAY_MAX_S);
	if (stmt_run(far, err) < 0)
		return -1;
	n += db_n_changed(q->db);
	for (; n > 0; n--)
		count_job(q, cache_id, JOB_DELAYED, JOB_READY);
	return 0;
}

/* What a person had to mend may be mended. */
static int wake_refused(struct queue_db *q, struct queue_claim *claim, int64_t cache_id, struct error *err)
{
	STMT(st, q->db,
	     "UPDATE job SET state = 0, not_before = 0 WHERE id IN (SELECT id FROM job"
	     " WHERE cache = :cache AND state = 1 AND error_kind = 3 LIMIT 256)");
	uint64_t n;

	if (!claim->wakes_refused)
		return 0;
	stmt_bind_int(st, ":cache", cache_id);
	if (stmt_run(st, err) < 0)
		return -1;
	n = db_n_changed(q->db);
	claim->wakes_refused = n == PAGE_ROWS;
	for (; n > 0; n--)
		count_job(q, cache_id, JOB_DELAYED, JOB_READY);
	return 0;
}

static int find_next_due(struct queue_db *q, int64_t cache_id, int64_t *ret, struct error *err)
{
	STMT(st, q->db,
	     "SELECT not_before FROM job WHERE cache = :cache AND state = 1 ORDER BY not_before LIMIT 1");
	enum stmt_result result;

	stmt_bind_int(st, ":cache", cache_id);
	result = stmt_step(st, err);
	if (result == STMT_FAILED)
		return -1;
	*ret = result == STMT_ROW ? stmt_int(st, 0) : INT64_MAX;
	return 0;
}

static int read_row(struct queue_db *q, int64_t id, struct queue_job *ret, int64_t *ret_path,
                    struct error *err)
{
	STMT(st, q->db,
	     "SELECT j.path, j.rank, j.attempts, j.mismatches, j.may_only_be_found, j.force, j.is_root,"
	     " j.nar_sent, j.file_hash, j.file_size, j.upload_id, " PATH_COLUMNS
	     " FROM job j JOIN path p ON p.id = j.path WHERE j.id = :id");
	enum stmt_result result;
	const void *hash;
	size_t len;

	stmt_bind_int(st, ":id", id);
	result = stmt_step(st, err);
	if (result == STMT_FAILED)
		return -1;
	if (result == STMT_DONE)
		return error_set(err, ERROR_PERMANENT, "job %" PRId64 " has no path", id);
	*ret_path = stmt_int(st, 0);
	ret->id = id;
	ret->rank = stmt_int(st, 1);
	ret->attempts = (unsigned)stmt_int(st, 2);
	ret->mismatches = (unsigned)stmt_int(st, 3);
	ret->may_only_be_found = stmt_int(st, 4) != 0;
	ret->force = stmt_int(st, 5) != 0;
	ret->is_root = stmt_int(st, 6) != 0;
	ret->nar_sent = stmt_int(st, 7) != 0;
	hash = stmt_blob(st, 8, &len);
	ret->has_file_hash = len == SHA256_BYTES;
	if (ret->has_file_hash)
		memcpy(ret->file_hash, hash, SHA256_BYTES);
	ret->file_size = (uint64_t)stmt_int(st, 9);
	if (stmt_text_copy(st, 10, &ret->upload_id, err) < 0)
		return -1;
	return path_read(st, 11, &ret->info, err);
}

static int claim_one(struct queue_db *q, struct queue_claim *claim, int64_t id, struct error *err)
{
	struct queue_job *job = &claim->jobs[claim->n_jobs++];
	int64_t path;

	job->cache = claim->cache;
	if (read_row(q, id, job, &path, err) < 0 || path_read_references(q, path, &job->info, err) < 0 ||
	    distrust_old_nar(q, job, claim->now_unix_s, err) < 0)
		return -1;
	return claim_add(q, &q->claimed_jobs, id, err);
}

static bool is_excepted(const struct queue_claim *claim, int64_t id)
{
	for (size_t i = 0; i < claim->n_except; i++)
		if (claim->except[i] == id)
			return true;
	return false;
}

/* What is claimed stands at the head of the index; it is passed over there, without a look at its row. */
static int claim_ready(struct queue_db *q, struct queue_claim *claim, int64_t cache_id, struct error *err)
{
	STMT(st, q->db,
	     "SELECT id FROM job INDEXED BY job_next WHERE cache = :cache AND state = 0"
	     " ORDER BY rank, layer, nar_size DESC, id");
	enum stmt_result result = STMT_DONE;

	stmt_bind_int(st, ":cache", cache_id);
	while (claim->n_jobs < claim->n_max && (result = stmt_step(st, err)) == STMT_ROW) {
		int64_t id = stmt_int(st, 0);

		if (!id_set_has(&q->claimed_jobs, id) && !is_excepted(claim, id) &&
		    claim_one(q, claim, id, err) < 0)
			return -1;
	}
	return result == STMT_FAILED ? -1 : 0;
}

int jobs_claim(struct queue_db *q, struct queue_op *op)
{
	struct queue_claim *claim = CONTAINER_OF(op, struct queue_claim, op);
	int64_t cache_id = q->endpoint_ids[claim->cache];

	assert(claim->cache < q->n_caches);
	claim->jobs = calloc(claim->n_max + 1, sizeof(*claim->jobs));
	if (claim->jobs == NULL)
		return error_set(&op->err, ERROR_TRANSIENT, "out of memory");
	if (wake_due(q, claim, cache_id, &op->err) < 0 || wake_refused(q, claim, cache_id, &op->err) < 0 ||
	    claim_ready(q, claim, cache_id, &op->err) < 0)
		return -1;
	if (claim->n_jobs == 0) { /* the caller owes nothing then */
		free(claim->jobs);
		claim->jobs = NULL;
	}
	return find_next_due(q, cache_id, &claim->next_due_unix_s, &op->err);
}

int jobs_release(struct queue_db *q, struct queue_op *op)
{
	struct queue_release *release = CONTAINER_OF(op, struct queue_release, op);

	id_set_remove(&q->claimed_jobs, release->job_id);
	return 0;
}

/* ---- note */

int jobs_note(struct queue_db *q, struct queue_op *op)
{
	struct queue_note *note = CONTAINER_OF(op, struct queue_note, op);
	STMT(st, q->db, "UPDATE job SET upload_id = :text WHERE id = :id AND state < 5");

	stmt_bind_int(st, ":id", note->job_id);
	stmt_bind_text(st, ":text", note->upload_id);
	if (stmt_run(st, &op->err) < 0)
		return -1;
	if (db_n_changed(q->db) == 0)
		return error_set(&op->err, ERROR_PERMANENT, "job %" PRId64 " is not in the queue any more",
		                 note->job_id);
	return 0;
}

/* ---- publish */

/* Sees to it that somebody works on a reference that the job waits for. Returns 0 if nobody can. */
static int attend(struct queue_db *q, const struct job *job, const struct missing *missing, int64_t now,
                  struct error *err)
{
	struct job needed;
	int64_t heir;
	int rc;

	/* Its closure was left out when the root was resolved: it was known to be there then. */
	if (missing->job == 0) {
		rc = root_resolve_again(q, job->root, now, err);
		if (rc != 0)
			return rc;
		/* That root is forgotten. */
		if (job_heir(q, job, &heir, err) < 0)
			return -1;
		return heir != 0 ? root_resolve_again(q, heir, now, err) : 0;
	}
	if (missing->state != JOB_DONE)
		return 1;
	rc = job_load(q, missing->job, &needed, err);
	if (rc <= 0)
		return rc;
	if (forget_file(q, needed.id, err) < 0 || job_make_ready(q, &needed, job->root, now, err) < 0)
		return -1;
	return 1;
}

static int publish_later(struct queue_db *q, struct job *job, const struct missing_list *list, int64_t now,
                         struct error *err)
{
	const struct missing *stuck = NULL;

	for (size_t i = 0; i < list->n; i++) {
		const struct missing *m = &list->items[i];

		if (m->job != 0 && m->state == JOB_DONE && m->result == JOB_WITHHELD)
			return job_withhold(q, job, m->path, now, err);
		if (m->job != 0 && (m->state == JOB_FAILED || m->state == JOB_BLOCKED))
			stuck = m;
	}
	if (stuck != NULL)
		return job_block(q, job, stuck->path, now, err);
	for (size_t i = 0; i < list->n; i++) {
		int rc = attend(q, job, &list->items[i], now, err);

		if (rc <= 0)
			return rc < 0 ? -1 : job_block(q, job, list->items[i].path, now, err);
	}
	return job_make_sent(q, job, now, err);
}

int jobs_publish(struct queue_db *q, struct queue_op *op)
{
	struct queue_publish *publish = CONTAINER_OF(op, struct queue_publish, op);
	CLEANUP(missing_list_fini) struct missing_list list = { 0 };
	int64_t now = publish->now_unix_s;
	struct job job;

	publish->verdict = PUBLISH_LATER;
	if (load_unfinished(q, publish->job, &job, &op->err) < 0)
		return -1;
	if (!path_has_hash(q, job.path, publish->job->info.nar_hash)) {
		/* Built again in the meantime, and different: what was sent is another NAR. */
		if (forget_file(q, job.id, &op->err) < 0 ||
		    job_make_ready(q, &job, job.root, now, &op->err) < 0)
			return -1;
		return claim_remove(q, &q->claimed_jobs, job.id, &op->err);
	}
	if ((publish->job->nar_sent && keep_unfinished(q, publish->job, &job, &op->err) < 0) ||
	    put_file(q, publish->job, now, &op->err) < 0 ||
	    presence_drop(q, job.path, job.cache, &op->err) < 0 ||
	    refs_missing(q, job.path, job.cache, now, &list, &op->err) < 0)
		return -1;
	crash_point(PUBLISH_UNCOMMITTED);
	if (list.n == 0) {
		publish->verdict = PUBLISH_YES;
		return 0;
	}
	if (publish_later(q, &job, &list, now, &op->err) < 0)
		return -1;
	return claim_remove(q, &q->claimed_jobs, job.id, &op->err);
}

/* ---- finish */

static int put_done(struct queue_db *q, const struct queue_finish *finish, struct error *err)
{
	STMT(st, q->db,
	     "UPDATE job SET state = 5, result = :result, not_before = 0, error = NULL, error_kind = 0,"
	     " blocked_by = 0, force = 0, nar_sent = 0, upload_id = NULL, file_hash = :hash,"
	     " file_size = :size, changed = :now"
	     " WHERE id = :id");

	stmt_bind_int(st, ":id", finish->job->id);
	stmt_bind_int(st, ":result", (int64_t)finish->result);
	if (finish->job->has_file_hash)
		stmt_bind_blob(st, ":hash", finish->job->file_hash, SHA256_BYTES);
	stmt_bind_int(st, ":size", (int64_t)finish->job->file_size);
	stmt_bind_int(st, ":now", finish->now_unix_s);
	return stmt_run(st, err);
}

static int put_presence(struct queue_db *q, const struct queue_finish *finish, const struct job *job,
                        struct error *err)
{
	if (presence_put(q, job->path, q->endpoint_ids[finish->endpoint], finish->now_unix_s, err) < 0)
		return -1;
	if (finish->result == JOB_IN_UPSTREAM)
		return 0;
	return presence_put(q, job->path, job->cache, finish->now_unix_s, err);
}

static int put_usage(struct queue_db *q, const struct queue_finish *finish, const struct job *job,
                     struct error *err)
{
	const struct usage_change change = {
		.uploaded = finish->result == JOB_UPLOADED,
		.uploaded_bytes = finish->sent_bytes,
		.present = finish->result == JOB_PRESENT,
		.in_upstream = finish->result == JOB_IN_UPSTREAM,
		.withheld = finish->result == JOB_WITHHELD,
	};

	return usage_add(q, job->cache, finish->now_unix_s, &change, err);
}

static int finish_there(struct queue_db *q, const struct queue_finish *finish, struct job *job,
                        struct error *err)
{
	int64_t now = finish->now_unix_s;

	assert(finish->endpoint < q->n_endpoints);
	if (keep_unfinished(q, finish->job, job, err) < 0 || put_done(q, finish, err) < 0 ||
	    put_presence(q, finish, job, err) < 0)
		return -1;
	count_job(q, job->cache, job->state, JOB_DONE);
	if (chore_start(q, CHORE_WAKE, job->path, job->cache, now, err) < 0 ||
	    root_check(q, job->root, now, err) < 0)
		return -1;
	return job->is_root ? chore_start(q, CHORE_ROOTS, job->path, 0, now, err) : 0;
}

int jobs_finish(struct queue_db *q, struct queue_op *op)
{
	struct queue_finish *finish = CONTAINER_OF(op, struct queue_finish, op);
	struct job job;
	int rc;

	if (load_unfinished(q, finish->job, &job, &op->err) < 0 || put_usage(q, finish, &job, &op->err) < 0)
		return -1;
	if (finish->result == JOB_WITHHELD)
		rc = job_withhold(q, &job, job.path, finish->now_unix_s, &op->err);
	else
		rc = finish_there(q, finish, &job, &op->err);
	crash_point(FINISH_UNCOMMITTED);
	return rc < 0 ? -1 : claim_remove(q, &q->claimed_jobs, job.id, &op->err);
}

/* ---- defer and fail */

static int64_t clamp_delay(int64_t not_before, int64_t now)
{
	return not_before > now + DELAY_MAX_S ? now + DELAY_MAX_S : not_before;
}

int jobs_defer(struct queue_db *q, struct queue_op *op)
{
	struct queue_defer *defer = CONTAINER_OF(op, struct queue_defer, op);
	STMT(st, q->db,
	     "UPDATE job SET state = :state, not_before = :not_before, attempts = attempts + :counts,"
	     " mismatches = mismatches + :mismatch, error = :error, error_kind = :kind, changed = :now"
	     " WHERE id = :id");
	bool at_once = defer->not_before_unix_s <= defer->now_unix_s;
	enum job_state state = at_once ? JOB_READY : JOB_DELAYED;
	struct job job;

	if (load_unfinished(q, defer->job, &job, &op->err) < 0)
		return -1;
	stmt_bind_int(st, ":id", job.id);
	stmt_bind_int(st, ":state", state);
	stmt_bind_int(st, ":not_before",
	              at_once ? 0 : clamp_delay(defer->not_before_unix_s, defer->now_unix_s));
	stmt_bind_int(st, ":counts", defer->counts);
	stmt_bind_int(st, ":mismatch", defer->mismatch);
	stmt_bind_text(st, ":error", defer->fault != NULL ? defer->fault->text : NULL);
	stmt_bind_int(st, ":kind", defer->fault != NULL ? (int64_t)defer->fault->kind : 0);
	stmt_bind_int(st, ":now", defer->now_unix_s);
	if (stmt_run(st, &op->err) < 0)
		return -1;
	crash_point(DEFER_UNCOMMITTED);
	count_job(q, job.cache, job.state, state);
	return claim_remove(q, &q->claimed_jobs, job.id, &op->err);
}

int jobs_fail(struct queue_db *q, struct queue_op *op)
{
	struct queue_fail *fail = CONTAINER_OF(op, struct queue_fail, op);
	STMT(st, q->db,
	     "UPDATE job SET state = 4, not_before = 0, attempts = attempts + 1, error = :error,"
	     " error_kind = :kind, changed = :now WHERE id = :id");
	const struct usage_change change = { .failed = 1 };
	struct job job;

	if (load_unfinished(q, fail->job, &job, &op->err) < 0)
		return -1;
	stmt_bind_int(st, ":id", job.id);
	stmt_bind_text(st, ":error", fail->fault->text);
	stmt_bind_int(st, ":kind", (int64_t)fail->fault->kind);
	stmt_bind_int(st, ":now", fail->now_unix_s);
	if (stmt_run(st, &op->err) < 0)
		return -1;
	count_job(q, job.cache, job.state, JOB_FAILED);
	if (usage_add(q, job.cache, fail->now_unix_s, &change, &op->err) < 0 ||
	    chore_start(q, CHORE_BLOCK, job.path, job.cache, fail->now_unix_s, &op->err) < 0)
		return -1;
	return claim_remove(q, &q->claimed_jobs, job.id, &op->err);
}
