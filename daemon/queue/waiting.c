/* Who waits for whom on a cache. When a job ends, fails, goes on or is kept back, the paths that refer to
 * it are told over the reverse index of references. There can be 100,000 of them: they are told a page at
 * a time. The first page is part of the operation that caused it; what is left is a row of `chore`, done in
 * transactions of its own, and found again after a crash.
 *
 * A page may come late: each looks at the state as it is then, and is dropped when its cause is gone. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/store_path.h"
#include "daemon/queue/internal.h"

struct chore {
	int64_t id; /* 0: not in the table */
	enum chore_kind kind;
	int64_t path, cache, after, made;
};

/* ---- texts */

struct cause {
	char text[sizeof(((struct error *)NULL)->text) + STORE_PATH_SIZE];
	int64_t kind;
};

/* Why what needs BY_PATH cannot go on. A blocked job hands on the cause of its own. */
static int find_cause(struct queue_db *q, int64_t by_path, int64_t cache_id, struct cause *ret,
                      struct error *err)
{
	STMT(st, q->db,
	     "SELECT p.path, j.state, j.error, j.error_kind FROM path p"
	     " LEFT JOIN job j ON j.path = p.id AND j.cache = :cache WHERE p.id = :path");
	enum stmt_result result;
	const char *path, *text;

	stmt_bind_int(st, ":path", by_path);
	stmt_bind_int(st, ":cache", cache_id);
	result = stmt_step(st, err);
	if (result == STMT_FAILED)
		return -1;
	path = result == STMT_ROW ? stmt_text(st, 0) : "a path";
	text = result == STMT_ROW ? stmt_text(st, 2) : NULL;
	ret->kind = result == STMT_ROW ? stmt_int(st, 3) : 0;
	if (text != NULL && stmt_int(st, 1) == JOB_BLOCKED)
		snprintf(ret->text, sizeof(ret->text), "%s", text);
	else if (text != NULL)
		snprintf(ret->text, sizeof(ret->text), "needs %s, which failed: %s", path, text);
	else
		snprintf(ret->text, sizeof(ret->text), "needs %s, which is not queued any more", path);
	return 0;
}

static int has_referrers(struct queue_db *q, int64_t path, struct error *err)
{
	STMT(st, q->db, "SELECT 1 FROM reference WHERE refers_to = :path LIMIT 1");
	enum stmt_result result;

	stmt_bind_int(st, ":path", path);
	result = stmt_step(st, err);
	return result == STMT_FAILED ? -1 : result == STMT_ROW;
}

static int tell_referrers(struct queue_db *q, enum chore_kind kind, const struct job *job, int64_t now,
                          struct error *err)
{
	int rc = has_referrers(q, job->path, err);

	return rc <= 0 ? rc : chore_add(q, kind, job->path, job->cache, now, err);
}

int job_block(struct queue_db *q, struct job *job, int64_t by_path, int64_t now, struct error *err)
{
	STMT(st, q->db,
	     "UPDATE job SET state = 3, not_before = 0, blocked_by = :by, error = :error,"
	     " error_kind = :kind, changed = :now WHERE id = :id");
	struct cause cause;

	if (find_cause(q, by_path, job->cache, &cause, err) < 0)
		return -1;
	stmt_bind_int(st, ":id", job->id);
	stmt_bind_int(st, ":by", by_path);
	stmt_bind_text(st, ":error", cause.text);
	stmt_bind_int(st, ":kind", cause.kind);
	stmt_bind_int(st, ":now", now);
	if (stmt_run(st, err) < 0)
		return -1;
	count_job(q, job->cache, job->state, JOB_BLOCKED);
	job->state = JOB_BLOCKED;
	return tell_referrers(q, CHORE_BLOCK, job, now, err);
}

/* The text of a job withheld because of BY_PATH: "withheld, PATH", of the path that started it. */
static int withheld_text(struct queue_db *q, int64_t by_path, int64_t cache_id, struct cause *ret,
                         struct error *err)
{
	STMT(st, q->db,
	     "SELECT p.path, j.error FROM path p LEFT JOIN job j ON j.path = p.id AND j.cache = :cache"
	     " AND j.state = 5 AND j.result = 3 WHERE p.id = :path");
	enum stmt_result result;
	const char *path, *text;

	stmt_bind_int(st, ":path", by_path);
	stmt_bind_int(st, ":cache", cache_id);
	result = stmt_step(st, err);
	if (result == STMT_FAILED)
		return -1;
	path = result == STMT_ROW ? stmt_text(st, 0) : NULL;
	text = result == STMT_ROW ? stmt_text(st, 1) : NULL;
	if (text != NULL)
		snprintf(ret->text, sizeof(ret->text), "%s", text);
	else
		snprintf(ret->text, sizeof(ret->text), "withheld, %s", path != NULL ? path : "a path");
	return 0;
}

int job_withhold(struct queue_db *q, struct job *job, int64_t by_path, int64_t now, struct error *err)
{
	STMT(st, q->db,
	     "UPDATE job SET state = 5, result = 3, not_before = 0, blocked_by = 0, force = 0, error = "
	     ":error,"
	     " error_kind = 0, changed = :now WHERE id = :id");
	struct cause cause;

	if (withheld_text(q, by_path, job->cache, &cause, err) < 0)
		return -1;
	stmt_bind_int(st, ":id", job->id);
	stmt_bind_text(st, ":error", cause.text);
	stmt_bind_int(st, ":now", now);
	if (stmt_run(st, err) < 0)
		return -1;
	count_job(q, job->cache, job->state, JOB_DONE);
	job->state = JOB_DONE;
	job->result = JOB_WITHHELD;
	if (tell_referrers(q, CHORE_WITHHOLD, job, now, err) < 0 || root_check(q, job->root, now, err) < 0)
		return -1;
	return job->is_root ? chore_start(q, CHORE_ROOTS, job->path, 0, now, err) : 0;
}

/* ---- pages */

/* The unfinished jobs of CACHE among a page of the paths that refer to PATH. *RET_MORE: there may be
 * referrers behind the page; *AFTER moves on. */
static int read_referrers(struct queue_db *q, struct chore *chore, struct job jobs[PAGE_ROWS], size_t *ret_n,
                          bool *ret_more, struct error *err)
{
	STMT(st, q->db,
	     "SELECT r.path, " JOB_COLUMNS " FROM reference r"
	     " LEFT JOIN job j ON j.path = r.path AND j.cache = :cache"
	     " WHERE r.refers_to = :path AND r.path > :after ORDER BY r.path LIMIT 256");
	enum stmt_result result;
	size_t n = 0, n_rows = 0;

	stmt_bind_int(st, ":path", chore->path);
	stmt_bind_int(st, ":cache", chore->cache);
	stmt_bind_int(st, ":after", chore->after);
	while ((result = stmt_step(st, err)) == STMT_ROW) {
		n_rows++;
		chore->after = stmt_int(st, 0);
		if (stmt_is_null(st, 1))
			continue;
		job_read(st, 1, &jobs[n]);
		n += jobs[n].state != JOB_DONE;
	}
	*ret_n = n;
	*ret_more = n_rows == PAGE_ROWS;
	return result == STMT_DONE ? 0 : -1;
}

int job_wake(struct queue_db *q, struct job *job, int64_t now, struct error *err)
{
	CLEANUP(missing_list_fini) struct missing_list list = { 0 };
	bool is_moving = false;

	if (job->state != JOB_SENT && job->state != JOB_BLOCKED)
		return 0;
	if (refs_missing(q, job->path, job->cache, now, &list, err) < 0)
		return -1;
	for (size_t i = 0; i < list.n; i++) {
		const struct missing *m = &list.items[i];

		if (m->job == 0)
			continue;
		if (m->state == JOB_DONE && m->result == JOB_WITHHELD)
			return job_withhold(q, job, m->path, now, err);
		if (m->state == JOB_FAILED || m->state == JOB_BLOCKED)
			return job_block(q, job, m->path, now, err);
		is_moving |= m->state != JOB_DONE;
	}
	if (is_moving && job->nar_sent)
		return job->state == JOB_SENT ? 0 : job_make_sent(q, job, now, err);
	if (is_moving && job->state == JOB_SENT)
		return 0;
	/* Nothing is missing, or nobody works on what is: publishing it decides. */
	return job_make_ready(q, job, job->root, now, err);
}

static bool is_claimed(const struct queue_db *q, const struct job *job)
{
	return id_set_has(&q->claimed_jobs, job->id);
}

static int tell_one(struct queue_db *q, const struct chore *chore, struct job *job, struct error *err)
{
	bool waits = job->state == JOB_SENT;

	if (chore->kind == CHORE_WAKE)
		return job_wake(q, job, chore->made, err);
	/* One in flight asks before it publishes, and is judged then. */
	if (is_claimed(q, job))
		return 0;
	if (chore->kind == CHORE_WITHHOLD)
		return job_withhold(q, job, chore->path, chore->made, err);
	if (chore->kind == CHORE_FORGOTTEN)
		waits |= job->state == JOB_READY || job->state == JOB_DELAYED;
	return waits ? job_block(q, job, chore->path, chore->made, err) : 0;
}

/* Does what caused the chore still hold? */
static int is_current(struct queue_db *q, const struct chore *chore, struct error *err)
{
	struct job job;
	int rc = job_find(q, chore->path, chore->cache, &job, err);

	if (rc < 0)
		return -1;
	switch (chore->kind) {
	case CHORE_BLOCK:
		return rc == 1 && (job.state == JOB_FAILED || job.state == JOB_BLOCKED);
	case CHORE_UNBLOCK:
		return rc == 0 || (job.state != JOB_FAILED && job.state != JOB_BLOCKED);
	case CHORE_WITHHOLD:
		return rc == 1 && job.state == JOB_DONE && job.result == JOB_WITHHELD;
	case CHORE_FORGOTTEN:
		if (rc == 1)
			return 0;
		rc = presence_is_fresh(q, chore->path, chore->cache, chore->made, err);
		return rc < 0 ? -1 : rc == 0;
	case CHORE_WAKE:
	case CHORE_ROOTS:
	case CHORE_DISCONNECT:
	case CHORE_RECONNECT:
	case CHORE_ORPHANS:
		break;
	}
	return 1;
}

/* A page can come when the cache has been taken out of the configuration: what it made ready is blocked
 * again. */
static int disconnect_again(struct queue_db *q, const struct chore *chore, struct error *err)
{
	if (cache_is_configured(q, chore->cache))
		return 0;
	return chore_add(q, CHORE_DISCONNECT, 0, chore->cache, chore->made, err);
}

static int tell_page(struct queue_db *q, struct chore *chore, bool *ret_more, struct error *err)
{
	struct job jobs[PAGE_ROWS];
	size_t n;
	int rc = is_current(q, chore, err);

	if (rc <= 0)
		return rc;
	if (read_referrers(q, chore, jobs, &n, ret_more, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (tell_one(q, chore, &jobs[i], err) < 0)
			return -1;
	}
	return chore->kind == CHORE_WAKE && n > 0 ? disconnect_again(q, chore, err) : 0;
}

/* Those blocked by a path leave that index as they go on: every page is the first one. */
static int read_blocked(struct queue_db *q, int64_t cache_id, int64_t by, struct job jobs[PAGE_ROWS],
                        size_t *ret_n, struct error *err)
{
	STMT(st, q->db,
	     "SELECT " JOB_COLUMNS " FROM job j"
	     " WHERE j.cache = :cache AND j.state = 3 AND j.blocked_by = :by LIMIT 256");
	enum stmt_result result;
	size_t n = 0;

	stmt_bind_int(st, ":cache", cache_id);
	stmt_bind_int(st, ":by", by);
	while ((result = stmt_step(st, err)) == STMT_ROW)
		job_read(st, 0, &jobs[n++]);
	*ret_n = n;
	return result == STMT_DONE ? 0 : -1;
}

static int unblock_page(struct queue_db *q, struct chore *chore, bool *ret_more, struct error *err)
{
	int64_t by = chore->kind == CHORE_RECONNECT ? BLOCKED_NOT_CONFIGURED : chore->path;
	struct job jobs[PAGE_ROWS];
	size_t n;
	int rc = is_current(q, chore, err);

	if (rc <= 0)
		return rc;
	if (read_blocked(q, chore->cache, by, jobs, &n, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (job_make_ready(q, &jobs[i], jobs[i].root, chore->made, err) < 0)
			return -1;
	}
	*ret_more = n == PAGE_ROWS;
	return n > 0 ? disconnect_again(q, chore, err) : 0;
}

static int disconnect_page(struct queue_db *q, struct chore *chore, bool *ret_more, struct error *err)
{
	STMT(st, q->db,
	     "UPDATE job SET state = 3, not_before = 0, blocked_by = -1, error = 'the cache is not "
	     "configured',"
	     " error_kind = 3, changed = :now WHERE id IN (SELECT id FROM job"
	     " WHERE state IN (0, 1, 2) AND cache = :cache LIMIT 256)");

	if (cache_is_configured(q, chore->cache))
		return 0;
	stmt_bind_int(st, ":cache", chore->cache);
	stmt_bind_int(st, ":now", chore->made);
	if (stmt_run(st, err) < 0)
		return -1;
	*ret_more = db_n_changed(q->db) == PAGE_ROWS;
	return 0;
}

static int roots_page(struct queue_db *q, struct chore *chore, bool *ret_more, struct error *err)
{
	int rc = roots_check_page(q, chore->path, &chore->after, chore->made, err);

	*ret_more = rc == 1;
	return rc < 0 ? -1 : 0;
}

static int run_page(struct queue_db *q, struct chore *chore, bool *ret_more, struct error *err)
{
	*ret_more = false;
	switch (chore->kind) {
	case CHORE_WAKE:
	case CHORE_BLOCK:
	case CHORE_WITHHOLD:
	case CHORE_FORGOTTEN:
		return tell_page(q, chore, ret_more, err);
	case CHORE_UNBLOCK:
		return unblock_page(q, chore, ret_more, err);
	case CHORE_ROOTS:
		return roots_page(q, chore, ret_more, err);
	case CHORE_DISCONNECT:
		return disconnect_page(q, chore, ret_more, err);
	case CHORE_RECONNECT:
		if (!cache_is_configured(q, chore->cache))
			return 0;
		return unblock_page(q, chore, ret_more, err);
	case CHORE_ORPHANS:
		return orphans_page(q, chore->path, chore->made, &chore->after, ret_more, err);
	}
	return 0; /* of a kind that is known no more: dropped */
}

/* ---- the table */

/* One that is there already begins anew: its cause came up again. */
static int put_chore(struct queue_db *q, const struct chore *chore, struct error *err)
{
	STMT(st, q->db,
	     "INSERT INTO chore (kind, path, cache, after, made) VALUES (:kind, :path, :cache, :after, :made)"
	     " ON CONFLICT DO UPDATE SET after = min(after, :after), made = :made");

	stmt_bind_int(st, ":kind", (int64_t)chore->kind);
	stmt_bind_int(st, ":path", chore->path);
	stmt_bind_int(st, ":cache", chore->cache);
	stmt_bind_int(st, ":after", chore->after);
	stmt_bind_int(st, ":made", chore->made);
	if (stmt_run(st, err) < 0)
		return -1;
	q->has_chores = true;
	return 0;
}

int chore_add(struct queue_db *q, enum chore_kind kind, int64_t path, int64_t cache_id, int64_t now,
              struct error *err)
{
	const struct chore chore = { .kind = kind, .path = path, .cache = cache_id, .made = now };

	return put_chore(q, &chore, err);
}

int chore_start(struct queue_db *q, enum chore_kind kind, int64_t path, int64_t cache_id, int64_t now,
                struct error *err)
{
	struct chore chore = { .kind = kind, .path = path, .cache = cache_id, .made = now };
	bool more;

	if (run_page(q, &chore, &more, err) < 0)
		return -1;
	return more ? put_chore(q, &chore, err) : 0;
}

static int take_chore(struct queue_db *q, struct chore *ret, struct error *err)
{
	STMT(st, q->db, "SELECT id, kind, path, cache, after, made FROM chore ORDER BY id LIMIT 1");
	enum stmt_result result = stmt_step(st, err);

	if (result == STMT_ROW)
		*ret = (struct chore){ .id = stmt_int(st, 0),
			               .kind = (enum chore_kind)stmt_int(st, 1),
			               .path = stmt_int(st, 2),
			               .cache = stmt_int(st, 3),
			               .after = stmt_int(st, 4),
			               .made = stmt_int(st, 5) };
	return result == STMT_FAILED ? -1 : result == STMT_ROW;
}

static int drop_chore(struct queue_db *q, int64_t id, struct error *err)
{
	STMT(st, q->db, "DELETE FROM chore WHERE id = :id");

	stmt_bind_int(st, ":id", id);
	return stmt_run(st, err);
}

/* The row goes before the page runs: a page can make the same chore anew, and that one must stay. */
static int run_next(struct queue_db *q, struct error *err)
{
	struct chore chore;
	bool more;
	int rc = take_chore(q, &chore, err);

	if (rc <= 0)
		return rc;
	if (drop_chore(q, chore.id, err) < 0 || run_page(q, &chore, &more, err) < 0)
		return -1;
	if (more && put_chore(q, &chore, err) < 0)
		return -1;
	return 1;
}

int chores_run(struct queue_db *q, struct queue_op *op)
{
	enum { CHORES_A_TURN = 16, TURN_MS = 50 };
	uint64_t end_mono_ms = clock_mono_ms() + TURN_MS;

	for (int i = 0; i < CHORES_A_TURN && clock_mono_ms() < end_mono_ms; i++) {
		int rc = run_next(q, &op->err);

		if (rc < 0)
			return -1;
		if (rc == 0) {
			q->has_chores = false;
			return 0;
		}
	}
	return 0;
}
