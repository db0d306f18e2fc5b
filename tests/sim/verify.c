#include "tests/sim/verify.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "daemon/intake/parts.h"
#include "daemon/upload/transfer.h"
#include "tests/sim/chance.h"
#include "tests/sim/fake_cache.h"
#include "tests/sim/fake_loop.h"
#include "tests/sim/fake_parts.h"
#include "tests/sim/hooks.h"
#include "tests/sim/life.h"
#include "tests/support/crash_vfs.h"

#define REMADE_MAX_MS 400000               /* five minutes until the next sweep, and some */
#define LIES_MAX_MS   (2 * 3600 * 1000ull) /* every timer looks again within the hour */

#define NOTICED_MAX_MS 6000 /* twice the time between two looks at the clocks */

static uint64_t lies_since_ms[CACHES_MAX];
static struct {
	uint64_t at_ms; /* 0: nothing is to be noticed */
	uint64_t n_calls;
} moved[CACHES_MAX];

static void verify_counts(size_t cache)
{
	const struct queue_counts *counts = queue_cache_counts(life.queue, cache);

	for (int s = 0; s < JOB_N_STATES; s++)
		if (counts->jobs[s] > INT64_MAX)
			violated("I4", "fewer than no jobs of cache %zu are %s", cache,
			         job_state_name((enum job_state)s));
}

static uint64_t n_unfinished(size_t cache)
{
	const struct queue_counts *counts = queue_cache_counts(life.queue, cache);

	return counts->jobs[JOB_READY] + counts->jobs[JOB_DELAYED] + counts->jobs[JOB_SENT] +
	       counts->jobs[JOB_BLOCKED] + counts->jobs[JOB_FAILED];
}

/* I10: whatever waits, waits for something. Looked at when there is nothing left to do at once. */
static void verify_waits(size_t cache)
{
	const struct queue_counts *counts = queue_cache_counts(life.queue, cache);
	const struct upload_cache *c = &life.uploader->caches[cache];
	uint64_t n_due = counts->jobs[JOB_READY] + counts->jobs[JOB_DELAYED];

	if (c->n_uploads > 0 || c->is_claiming || queue_paused_until_unix_s(life.queue, cache) == INT64_MAX)
		return;
	if (n_due > 0 && !timer_is_set(&c->due))
		violated("I10", "%llu jobs of cache %zu are ready or delayed, and no timer is set",
		         (unsigned long long)n_due, cache);
	if (n_due == 0 && counts->jobs[JOB_SENT] > 0 && counts->jobs[JOB_BLOCKED] == 0 &&
	    counts->jobs[JOB_FAILED] == 0 && queue_root_count(life.queue, ROOT_RESOLVING) == 0 &&
	    queue_root_count(life.queue, ROOT_FAILED) == 0) /* a failed one was to see to what is missing */
		violated("I10", "%llu NARs of cache %zu are sent, and nothing is left that they wait for",
		         (unsigned long long)counts->jobs[JOB_SENT], cache);
}

static void verify_roots_wait(void)
{
	const struct resolve *resolve = &life.intake->resolve;
	uint64_t n_jobs = 0;

	for (size_t i = 0; i < life.config.n_caches; i++)
		n_jobs += n_unfinished(i);
	if (n_jobs == 0 && queue_root_count(life.queue, ROOT_QUEUED) > 0)
		violated("I10", "%llu roots are queued, and there is no job",
		         (unsigned long long)queue_root_count(life.queue, ROOT_QUEUED));
	if (queue_root_count(life.queue, ROOT_RESOLVING) > 0 && !resolve->is_claiming &&
	    resolve->batch == NULL && !timer_is_set(&resolve->due))
		violated("I10", "%llu roots are to be resolved, and no timer is set",
		         (unsigned long long)queue_root_count(life.queue, ROOT_RESOLVING));
}

/* Uploads wait for each other, and one of them for something else. */
static void verify_uploads_wait(void)
{
	size_t n = 0;

	for (size_t i = 0; i < life.config.n_caches; i++)
		n += uploader_n_in_flight(life.uploader, i);
	if (n > 0 && !fake_loop_awaits_answers() && !timer_is_set(&life.uploader->retry))
		violated("I10", "%zu uploads are in flight, and nothing of them is on its way", n);
}

/* Where the queue could not write, it says so for a minute, and the rest comes with what is written next. */
static void verify_rest(void)
{
	if (!life.is_ready || life.is_closing || !fake_loop_is_idle() || queue_fault(life.queue) != NULL)
		return;
	for (size_t i = 0; i < life.config.n_caches; i++)
		verify_waits(i);
	verify_uploads_wait();
	/* What is meant for a cache that is not configured waits for that. */
	if (life.config.n_caches == life.n_caches)
		verify_roots_wait();
}

/* I10: what is ready is taken up, or the cache is paused. */
static void verify_moves(size_t cache)
{
	const struct queue_counts *counts = queue_cache_counts(life.queue, cache);

	if (counts->jobs[JOB_READY] == 0 || uploader_n_in_flight(life.uploader, cache) > 0 ||
	    queue_paused_until_unix_s(life.queue, cache) > clock_unix_s() || life.is_closing)
		lies_since_ms[cache] = fake_now_ms();
	else if (fake_now_ms() - lies_since_ms[cache] > LIES_MAX_MS)
		violated("I10", "%llu jobs of cache %zu are ready, and nobody takes them up",
		         (unsigned long long)counts->jobs[JOB_READY], cache);
}

/* Do jobs of the cache wait for its next probe, and could one of them go? */
static bool waits_for_probe(size_t cache)
{
	const struct queue_counts *counts;
	struct upload_outage outage;
	size_t n;

	if (!life.is_ready || life.is_closing || cache >= life.config.n_caches ||
	    !uploader_get_outage(life.uploader, cache, &outage))
		return false;
	counts = queue_cache_counts(life.queue, cache);
	n = uploader_n_in_flight(life.uploader, cache);
	return counts->jobs[JOB_READY] > n && n < life.config.caches[cache].upload_jobs &&
	       queue_fault(life.queue) == NULL &&
	       queue_paused_until_unix_s(life.queue, cache) <= clock_unix_s();
}

void verify_moved(void)
{
	for (unsigned i = 0; i < CACHES_MAX; i++) {
		/* A probe that is out already may take its time; where nothing waits yet, nobody looks. */
		if (moved[i].at_ms > 0 || !waits_for_probe(i) || uploader_n_in_flight(life.uploader, i) > 0 ||
		    !timer_is_set(&life.uploader->caches[i].due))
			continue;
		moved[i].at_ms = fake_now_ms();
		moved[i].n_calls = fake_cache_n_calls(i);
	}
}

void verify_unmoved(void)
{
	memset(moved, 0, sizeof(moved));
}

static void verify_noticed(unsigned cache)
{
	if (moved[cache].at_ms == 0)
		return;
	if (!waits_for_probe(cache) || fake_cache_n_calls(cache) > moved[cache].n_calls)
		moved[cache].at_ms = 0;
	else if (fake_now_ms() - moved[cache].at_ms > NOTICED_MAX_MS)
		violated("the clocks", "cache %u was not tried %d s after the clocks moved", cache,
		         NOTICED_MAX_MS / 1000);
}

/* What was kept once is: the cache may lose it again. */
static void note_kept(void)
{
	static uint64_t n_seen;
	static unsigned n_promised;

	if (fake_cache_n_stored() == n_seen && n_promises == n_promised)
		return;
	n_seen = fake_cache_n_stored();
	n_promised = n_promises;
	for (unsigned i = 0; i < n_promises; i++)
		promise_note_kept(&promises[i]);
}

/* I3: a root that could not be made is made later, once roots can be. */
static void verify_roots(void)
{
	for (unsigned i = 0; i < n_promises; i++) {
		struct promise *p = &promises[i];

		if (!p->lacks_root)
			continue;
		if (store_model.unroot_one_in > 0 || !life.is_ready)
			p->lacks_root_since_ms = fake_now_ms();
		p->lacks_root = !fake_root_is_made(p->derivation > 0 ? p->derivation : p->path);
		if (p->lacks_root && p->derivation == 0 && !p->is_excused && !promise_is_kept(p) &&
		    fake_now_ms() - p->lacks_root_since_ms > REMADE_MAX_MS)
			violated("I3", "%u has no root, and could have had one since %.3f s", p->path,
			         (double)p->lacks_root_since_ms / 1000);
	}
}

/* I6: but one body of each cache always has room. */
static void verify_room(void)
{
	uint64_t least_bytes = life.config.n_caches * (uint64_t)(BODY_BLOCKS_MAX * BODY_BLOCK_BYTES);
	uint64_t limit_bytes = life.config.memory_bytes, tmp_bytes = 0;

	if (limit_bytes < least_bytes)
		limit_bytes = least_bytes;
	if (body_pool_memory_in_use_bytes(life.uploader->pool) > limit_bytes)
		violated("I6", "the NARs on their way hold more memory than was said");
	for (size_t i = 0; i < life.config.n_caches; i++)
		tmp_bytes += life.uploader->budget.taken[i].tmp_bytes;
	if (tmp_bytes > life.config.tmp_space_bytes)
		violated("I6", "the NARs on their way may take more temporary space than was said");
}

void verify_turn(void)
{
	note_kept();
	verify_roots();
	if (life.uploader != NULL && !life.is_closing)
		verify_room();
	for (unsigned i = 0; i < CACHES_MAX; i++) {
		verify_noticed(i);
		if (life.uploader == NULL || life.is_closing || i >= life.config.n_caches) {
			lies_since_ms[i] = fake_now_ms();
			continue;
		}
		verify_counts(i);
		verify_moves(i);
	}
	verify_rest();
}

void verify_deleted(const bool deleted[STORE_PATHS_MAX])
{
	for (unsigned i = 0; i < n_promises; i++) {
		bool in[STORE_PATHS_MAX] = { false };

		if (promises[i].is_excused || promise_is_kept(&promises[i]))
			continue;
		fake_store_closure(promises[i].path, in);
		/* Of a derivation, whose outputs nothing protects until they are known, that is told: failed.
		 */
		for (unsigned k = 0; k < store_model.n_paths; k++)
			if (in[k] && deleted[k] && (promises[i].lacks_root || promises[i].derivation > 0))
				promises[i].is_excused = true;
			else if (in[k] && deleted[k] && !promises[i].is_excused)
				violated("I3",
				         "%u was collected, which belongs to %u, which was %s and is not "
				         "uploaded",
				         k, promises[i].path, promise_name(&promises[i]));
	}
}

void verify_unrooted(unsigned path)
{
	if (fake_root_leads_to(path))
		return;
	for (unsigned i = 0; i < n_promises; i++)
		if (promises[i].path == path && promises[i].derivation == 0 && !promises[i].lacks_root &&
		    !promises[i].is_excused && !promise_is_kept(&promises[i]))
			violated("I3", "the last root of %u went, which was %s and is not uploaded", path,
			         promise_name(&promises[i]));
}

/* ---- the file ---------------------------------------------------------------------------------------- */

static void fail_sql(sqlite3 *db, const char *what)
{
	violated("I1", "%s of the queue that is left: %s", what, sqlite3_errmsg(db));
}

static void verify_row(sqlite3 *db, sqlite3_stmt *st, const struct promise *promise)
{
	int rc;

	sqlite3_reset(st);
	sqlite3_bind_int64(st, 1, promise->request_id);
	sqlite3_bind_text(st, 2, store_model.paths[promise->path].text, -1, SQLITE_STATIC);
	if (promise->derivation > 0)
		sqlite3_bind_text(st, 3, store_model.paths[promise->derivation].text, -1, SQLITE_STATIC);
	rc = sqlite3_step(st);
	if (rc == SQLITE_DONE)
		violated("I1", "request %lld of %u was acknowledged, and is not in the queue",
		         (long long)promise->request_id, promise->path);
	if (rc != SQLITE_ROW)
		fail_sql(db, "reading");
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
		fail_sql(db, sql);
	return st;
}

static void verify_rows(sqlite3 *db)
{
	sqlite3_stmt *st = prepare(db, "SELECT 1 FROM root WHERE request = ? AND path IN (?, ?)");

	for (unsigned i = 0; i < n_promises; i++)
		if (promises[i].request_id > 0 && !promises[i].is_excused && !promise_is_kept(&promises[i]))
			verify_row(db, st, &promises[i]);
	sqlite3_finalize(st);
}

/* What lies on a cache in parts can be found again. */
static void verify_notes(sqlite3 *db)
{
	sqlite3_stmt *st = prepare(db, "SELECT 1 FROM job WHERE upload_id = ?1"
	                               " UNION SELECT 1 FROM leftover WHERE note = ?1");
	const struct fake_parts *parts = NULL;
	int rc;

	while ((parts = fake_parts_left(parts)) != NULL) {
		sqlite3_reset(st);
		sqlite3_bind_text(st, 1, parts->note, -1, SQLITE_STATIC);
		rc = sqlite3_step(st);
		if (rc == SQLITE_DONE)
			violated("the leftovers", "%s lies on cache %u, and is not in the queue", parts->note,
			         parts->cache);
		if (rc != SQLITE_ROW)
			fail_sql(db, "reading");
	}
	sqlite3_finalize(st);
}

/* Is there a filter that keeps back PATH, or what it needs? */
static bool is_withheld(unsigned cache, unsigned path)
{
	bool in[STORE_PATHS_MAX] = { false };

	fake_store_closure(path, in);
	for (unsigned i = 0; i < store_model.n_paths; i++)
		if (in[i] && policy_withholds(life.filters, cache, store_model.paths[i].text,
		                              fake_store_nar_size(store_model.paths[i].content)))
			return true;
	return false;
}

static void verify_done_job(unsigned path, unsigned cache, enum job_result result)
{
	bool is_right = false;

	switch (result) {
	case JOB_UPLOADED:
	case JOB_PRESENT:
		is_right = fake_cache_had(cache, path);
		break;
	case JOB_IN_UPSTREAM:
		is_right = fake_cache_had(UPSTREAM, path);
		break;
	case JOB_WITHHELD:
		is_right = is_withheld(cache, path);
		break;
	}
	if (!is_right)
		violated("I3", "the job of %u on cache %u is done (%d), and it is not so", path, cache,
		         result);
}

/* I3: what is done was seen by the cache, too. */
static void verify_done_jobs(sqlite3 *db)
{
	sqlite3_stmt *st =
		prepare(db, "SELECT p.path, c.identity, j.result FROM job j JOIN path p ON p.id = j.path"
	                    " JOIN cache c ON c.id = j.cache WHERE j.state = 5");
	int rc;

	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		const char *identity = (const char *)sqlite3_column_text(st, 1);

		for (unsigned i = 0; i < life.n_caches; i++)
			if (strcmp(life.whole.caches[i].identity, identity) == 0)
				verify_done_job(fake_store_number((const char *)sqlite3_column_text(st, 0)),
				                i, (enum job_result)sqlite3_column_int(st, 2));
	}
	if (rc != SQLITE_DONE)
		fail_sql(db, "reading");
	sqlite3_finalize(st);
}

static bool is_unfinished_root(sqlite3 *db, sqlite3_stmt *st, unsigned path)
{
	int rc;

	sqlite3_reset(st);
	sqlite3_bind_text(st, 1, store_model.paths[path].text, -1, SQLITE_STATIC);
	rc = sqlite3_step(st);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		fail_sql(db, "reading");
	return rc == SQLITE_ROW;
}

/* I1: what is promised and not done yet, the next life can find. */
static void verify_traces(sqlite3 *db)
{
	sqlite3_stmt *st = prepare(db, "SELECT 1 FROM root WHERE path = ? AND state < 3");

	for (unsigned i = 0; i < n_promises; i++) {
		const struct promise *p = &promises[i];
		unsigned names[] = { p->path, p->derivation > 0 ? p->derivation : p->path };
		bool is_found = p->is_excused || promise_is_kept(p);

		for (size_t k = 0; k < N_ELEMENTS(names) && !is_found; k++)
			is_found = is_unfinished_root(db, st, names[k]) || fake_root_leads_to(names[k]) ||
			           spool_names(names[k]);
		if (!is_found)
			violated("I1", "%u was %s, and neither a row nor a root nor a spool file is left",
			         p->path, promise_name(p));
	}
	sqlite3_finalize(st);
}

void verify_queue_file(void)
{
	sqlite3 *db = NULL;
	bool any = false;

	for (unsigned i = 0; i < n_promises; i++)
		any = any || promises[i].request_id > 0;
	if (!any)
		return;
	if (sqlite3_open_v2(life_queue_path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
		fail_sql(db, "opening");
	verify_rows(db);
	verify_notes(db);
	verify_done_jobs(db);
	verify_traces(db);
	sqlite3_close(db);
	crash_vfs_kill(); /* the daemon recovers the log by itself */
}

/* ---- the end ----------------------------------------------------------------------------------------- */

static uint64_t n_unfinished_roots(void)
{
	return queue_root_count(life.queue, ROOT_RESOLVING) + queue_root_count(life.queue, ROOT_QUEUED) +
	       queue_root_count(life.queue, ROOT_FAILED);
}

bool verify_is_done(void)
{
	const char *root;

	for (size_t i = 0; i < life.config.n_caches; i++)
		if (n_unfinished(i) > 0 || queue_cache_counts(life.queue, i)->leftovers > 0)
			return false;
	return n_unfinished_roots() == 0 && fake_root_count(&root) == 0 && spool_is_empty();
}

static int on_row(void *ctx, int n, char **values, char **names)
{
	char text[1024] = "";
	size_t len = 0;
	(void)ctx;

	for (int i = 0; i < n && len < sizeof(text); i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, " %s=%s", names[i],
		                        values[i] != NULL ? values[i] : "");
	trace("%s", text);
	return 0;
}

/* What did not end, for who reads the trace. */
static void trace_rows(void)
{
	sqlite3 *db = NULL;

	if (sqlite3_open_v2(life_queue_path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK) {
		sqlite3_exec(db, "SELECT 'root' AS what, * FROM root WHERE state < 3", on_row, NULL, NULL);
		sqlite3_exec(db,
		             "SELECT 'job' AS what, p.path, j.* FROM job j JOIN path p ON p.id = j.path"
		             " WHERE state < 5 OR p.path IN (SELECT path FROM root WHERE state < 3)",
		             on_row, NULL, NULL);
	}
	sqlite3_close(db);
}

void verify_stuck(void)
{
	const char *root;
	unsigned n_roots = fake_root_count(&root);

	trace_rows();
	for (size_t i = 0; i < life.config.n_caches; i++) {
		const struct queue_counts *counts = queue_cache_counts(life.queue, i);

		if (n_unfinished(i) > 0)
			violated("I10",
			         "cache %zu is stuck with %llu ready, %llu delayed, %llu sent, %llu blocked, "
			         "%llu failed",
			         i, (unsigned long long)counts->jobs[JOB_READY],
			         (unsigned long long)counts->jobs[JOB_DELAYED],
			         (unsigned long long)counts->jobs[JOB_SENT],
			         (unsigned long long)counts->jobs[JOB_BLOCKED],
			         (unsigned long long)counts->jobs[JOB_FAILED]);
	}
	for (size_t i = 0; i < life.config.n_caches; i++)
		if (queue_cache_counts(life.queue, i)->leftovers > 0)
			violated("the leftovers", "those of cache %zu are not taken away", i);
	if (n_unfinished_roots() > 0)
		violated("I10", "%llu roots are stuck, none of them with a job",
		         (unsigned long long)n_unfinished_roots());
	if (n_roots > 0)
		violated("I3", "all is done, and %u links are left, one of them %s", n_roots, root);
	violated("I10", "a spool file is not taken in");
}

void verify_end(void)
{
	const struct fake_parts *parts = fake_parts_left(NULL);

	fake_cache_check();
	if (parts != NULL)
		violated("the leftovers", "all is done, and %s lies on cache %u", parts->note, parts->cache);
	for (unsigned i = 0; i < n_promises; i++)
		if (!promises[i].is_excused && !promise_is_kept(&promises[i]))
			violated("I4", "%u was %s, all is done, and it is not everywhere", promises[i].path,
			         promise_name(&promises[i]));
}
