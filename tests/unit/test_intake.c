/* intake: hand-overs, spool files, stray roots and resolving, with the real queue, GC roots, and a store
 * that is a database below a scratch directory. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/spool.h"
#include "daemon/intake/parts.h"
#include "daemon/loop/timer.h"
#include "tests/unit/test.h"

#define STORE "/nix/store"
#define OUT   STORE "/a0000000000000000000000000000000-out"
#define DEV   STORE "/b0000000000000000000000000000000-dev"
#define GONE  STORE "/c0000000000000000000000000000000-gone"
#define DRV   STORE "/d0000000000000000000000000000000-x.drv"
#define LOST  STORE "/f0000000000000000000000000000000-y.drv"
#define HASH  "f0dddfc0d7ab95f11f38544d90441a6516555ff5f8581edfb8da5c159961d957"

static const char store_sql[] =
	"CREATE TABLE ValidPaths(id integer primary key autoincrement not null, path text unique not null,"
	" hash text not null, registrationTime integer not null, deriver text, narSize integer,"
	" ultimate integer, sigs text, ca text);"
	"CREATE TABLE Refs(referrer integer not null, reference integer not null,"
	" primary key (referrer, reference));"
	"CREATE TABLE DerivationOutputs(drv integer not null, id text not null, path text not null,"
	" primary key (drv, id));"
	"INSERT INTO ValidPaths VALUES (1, '" OUT "', 'sha256:" HASH "', 1, '', 232, 1, '', ''),"
	" (2, '" DEV "', 'sha256:" HASH "', 1, '', 240, 1, '', ''),"
	" (3, '" DRV "', 'sha256:" HASH "', 1, '', 7, 0, '', ''),"
	" (4, '" LOST "', 'sha256:" HASH "', 1, '', 7, 0, '', '');"
	"INSERT INTO Refs VALUES (2, 1);"
	"INSERT INTO DerivationOutputs VALUES (3, 'out', '" OUT "'), (3, 'dev', '" DEV "'), (4, 'out', '" GONE
	"');";

static struct {
	char dir[64], spool_dir[96], state_dir[96], roots_dir[128], fallback_dir[96];
	struct loop loop;
	struct queue *queue;
	struct store *store;
	struct roots *roots;
	struct policy *policy;
	struct intake *intake;
	struct config config;
	struct cache_config cache;
	bool is_ready, is_closed, has_no_cache;
	uint64_t targets;
	unsigned n_handed_over, n_starting;
	uint64_t n_bad_told, n_waiting_told;
} t;

/* What stands still, or fails, until a test says otherwise. */
static atomic_bool links_wait;
static bool questions_wait, additions_fail, claims_wait;

static void on_fatal(void *ctx, const struct error *err)
{
	(void)ctx;
	fail_msg("%s", err->text);
}

static void on_change(void *ctx, uint64_t caches, bool roots)
{
	(void)ctx;
	(void)caches;
	if (roots && t.intake != NULL)
		intake_poke(t.intake);
}

static void on_released(void *ctx, char *const *paths, size_t n_paths)
{
	(void)ctx;
	if (t.intake != NULL)
		intake_released(t.intake, paths, n_paths);
}

static void on_news(void *ctx)
{
	(void)ctx;
	t.n_bad_told = intake_n_bad_spool_files(t.intake);
	if (intake_n_spool_files(t.intake) > t.n_waiting_told)
		t.n_waiting_told = intake_n_spool_files(t.intake);
}

static void on_starting(void *ctx)
{
	(void)ctx;
	assert_false(t.is_ready);
	t.n_starting++;
}

static void on_ready(void *ctx)
{
	(void)ctx;
	t.is_ready = true;
}

static void make(const char *dir)
{
	struct error err;

	assert_int_equal(make_dir(dir, 0755, true, &err), 0);
}

static void make_store(void)
{
	char path[160];
	sqlite3 *db;
	FILE *schema;

	snprintf(path, sizeof(path), "%s/nix/store", t.dir);
	make(path);
	snprintf(path, sizeof(path), "%s/nix/var/nix/gcroots", t.dir);
	make(path);
	snprintf(path, sizeof(path), "%s/nix/var/nix/db", t.dir);
	make(path);
	snprintf(path, sizeof(path), "%s/nix/var/nix/db/schema", t.dir);
	schema = fopen(path, "w");
	assert_non_null(schema);
	fputs("10", schema);
	fclose(schema);
	snprintf(path, sizeof(path), "%s/nix/var/nix/db/db.sqlite", t.dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, store_sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void open_intake(void)
{
	static const uint64_t upstreams[CONFIG_MAX_ENDPOINTS];
	static const struct queue_endpoint endpoint = {
		.name = "main", .kind = "file", .identity = "test", .presence_ttl_s = 86400
	};
	char queue_path[160], uri[128];
	struct queue_config queue_config = { .path = queue_path,
		                             .endpoints = &endpoint,
		                             .n_endpoints = t.has_no_cache ? 0 : 1,
		                             .on_fatal = on_fatal,
		                             .on_change = on_change,
		                             .on_released = on_released };
	struct intake_config config;
	struct error err;

	snprintf(queue_path, sizeof(queue_path), "%s/queue.db", t.state_dir);
	snprintf(uri, sizeof(uri), "local?root=%s", t.dir);
	t.config.n_caches = t.has_no_cache ? 0 : 1;
	t.is_closed = t.is_ready = false;
	assert_int_equal(queue_open(&t.queue, &t.loop, &queue_config, &err), 0);
	assert_int_equal(store_open(&t.store, &t.loop, uri, &err), 0);
	assert_int_equal(roots_open(&t.roots, t.store, t.roots_dir, t.fallback_dir, &err), 0);
	assert_int_equal(policy_new(&t.policy, &t.config, &err), 0);
	config = (struct intake_config){ .loop = &t.loop,
		                         .queue = t.queue,
		                         .store = t.store,
		                         .roots = t.roots,
		                         .config = &t.config,
		                         .policy = t.policy,
		                         .targets = t.targets,
		                         .resolves = !t.has_no_cache,
		                         .upstreams = upstreams,
		                         .on_starting = on_starting,
		                         .on_ready = on_ready,
		                         .on_news = on_news };
	assert_int_equal(intake_open(&t.intake, &config, &err), 0);
}

static void on_closed(void *ctx)
{
	(void)ctx;
	t.is_closed = true;
	t.intake = NULL;
	loop_stop(&t.loop);
}

/* As the daemon closes them. */
static void close_intake(void)
{
	intake_close(t.intake, on_closed, NULL);
	loop_run(&t.loop);
	assert_true(t.is_closed);
	policy_free(t.policy);
	roots_close(t.roots);
	store_close(t.store, NULL, NULL);
	queue_close(t.queue, NULL, NULL);
	loop_run(&t.loop);
}

static int setup(void **state)
{
	struct error err;
	(void)state;

	memset(&t, 0, sizeof(t));
	snprintf(t.dir, sizeof(t.dir), "/tmp/nncache-test-XXXXXX");
	assert_non_null(mkdtemp(t.dir));
	snprintf(t.state_dir, sizeof(t.state_dir), "%s/state", t.dir);
	snprintf(t.spool_dir, sizeof(t.spool_dir), "%s/spool", t.dir);
	snprintf(t.fallback_dir, sizeof(t.fallback_dir), "%s/fallback", t.dir);
	snprintf(t.roots_dir, sizeof(t.roots_dir), "%s/nix/var/nix/gcroots/nncache", t.dir);
	make(t.state_dir);
	make(t.spool_dir);
	make_store();
	make(t.roots_dir);
	assert_int_equal(loop_init(&t.loop, &err), 0);
	t.targets = 1;
	t.cache = (struct cache_config){ .name = (char *)(uintptr_t) "main", .push = PUSH_YES };
	t.config = (struct config){ .spool_dir = t.spool_dir, .caches = &t.cache, .n_caches = 1 };
	return 0;
}

static int teardown(void **state)
{
	char command[128];
	(void)state;

	links_wait = questions_wait = additions_fail = claims_wait = false; /* where a test ended */
	if (t.intake != NULL)
		close_intake();
	umount2(t.state_dir, MNT_DETACH); /* where a test has made it a disk of its own */
	loop_fini(&t.loop);
	snprintf(command, sizeof(command), "rm -rf %s", t.dir);
	return system(command);
}

/* ---- words ------------------------------------------------------------------------------------------- */

static void on_deadline(struct timer *timer)
{
	(void)timer;
	fail_msg("nothing came of it within a minute");
}

/* Runs the loop until CONDITION; intake's timers would keep it running for ever. */
static void run_until(bool (*condition)(void))
{
	struct timer deadline;

	timer_init(&deadline, &t.loop, on_deadline);
	timer_set(&deadline, 60000); /* of a busy machine */
	while (!condition())
		uv_run(&t.loop.uv, UV_RUN_ONCE);
	timer_close(&deadline, NULL);
	uv_run(&t.loop.uv, UV_RUN_NOWAIT);
}

static uint64_t n_roots(enum root_state state)
{
	return queue_root_count(t.queue, state);
}

static bool is_ready(void)
{
	return t.is_ready;
}

static bool all_is_resolved(void)
{
	return t.n_handed_over == 0 && n_roots(ROOT_RESOLVING) == 0 &&
	       n_roots(ROOT_QUEUED) + n_roots(ROOT_FAILED) + n_roots(ROOT_WITHHELD) + n_roots(ROOT_DONE) > 0;
}

static void on_handed_over(struct intake_handover *handover)
{
	(void)handover;
	t.n_handed_over--;
}

static void begin_hand_over(struct intake_handover *h, const char *const *paths, size_t n, const char *drv)
{
	*h = (struct intake_handover){ .paths = paths, .n_paths = n, .derivation = drv };
	t.n_handed_over++;
	intake_start(t.intake, h, on_handed_over);
}

static bool is_handed_over(void)
{
	return t.n_handed_over == 0;
}

static bool is_rooted(const char *path)
{
	char link[256];
	struct stat st;

	snprintf(link, sizeof(link), "%s/%s", t.roots_dir, strrchr(path, '/') + 1);
	return lstat(link, &st) == 0;
}

static void make_stray(const char *name, const char *path)
{
	const struct timespec times[2] = { { .tv_sec = clock_unix_s() - 60 },
		                           { .tv_sec = clock_unix_s() - 60 } };
	char link[256];

	snprintf(link, sizeof(link), "%s/%s", t.roots_dir, name);
	assert_int_equal(symlink(path, link), 0);
	assert_int_equal(utimensat(AT_FDCWD, link, times, AT_SYMLINK_NOFOLLOW), 0);
}

static void unroot(const char *path)
{
	char link[256];

	snprintf(link, sizeof(link), "%s%s", t.roots_dir, strrchr(path, '/'));
	assert_int_equal(unlink(link), 0);
}

static void spool(const char *text)
{
	struct error err;

	assert_int_equal(spool_write(t.spool_dir, text, strlen(text), &err), 0);
}

static unsigned n_spool_files(void)
{
	char command[128];
	unsigned n = 99;
	FILE *pipe;

	snprintf(command, sizeof(command), "ls %s | wc -l", t.spool_dir);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	assert_int_equal(fscanf(pipe, "%u", &n), 1);
	pclose(pipe);
	return n;
}

static void on_op(struct queue_op *op)
{
	assert_int_equal(op->err.kind, ERROR_NONE);
	if (op->verb == QUEUE_FINISH) {
		struct queue_finish *finish = CONTAINER_OF(op, struct queue_finish, op);

		on_released(NULL, finish->released, finish->n_released);
	}
	t.n_handed_over--;
}

static void run_op(struct queue_op *op, enum queue_verb verb)
{
	op->verb = verb;
	t.n_handed_over++;
	queue_start(t.queue, op, on_op);
	run_until(is_handed_over);
}

/* Every job there is, as if it were uploaded. */
static void finish_all(void)
{
	struct queue_claim claim = { .now_unix_s = clock_unix_s(), .n_max = 64 };

	run_op(&claim.op, QUEUE_CLAIM);
	for (size_t i = 0; i < claim.n_jobs; i++) {
		struct queue_finish finish = { .now_unix_s = clock_unix_s(), .job = &claim.jobs[i] };

		run_op(&finish.op, QUEUE_FINISH);
		queue_op_fini(&finish.op);
	}
	queue_op_fini(&claim.op);
}

/* ---- tests ------------------------------------------------------------------------------------------- */

static void outputs_of_one_build_are_all_done_in_any_order(void **state)
{
	static const char *const orders[][2] = { { OUT, DEV }, { DEV, OUT } };
	struct intake_handover h;
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(orders); i++) {
		open_intake();
		run_until(is_ready);
		begin_hand_over(&h, orders[i], 2, NULL);
		run_until(is_handed_over);
		assert_int_equal(h.err.kind, ERROR_NONE);
		assert_true(is_rooted(OUT) && is_rooted(DEV));
		run_until(all_is_resolved);
		finish_all();
		assert_int_equal(n_roots(ROOT_DONE), 2);
		assert_false(is_rooted(OUT) || is_rooted(DEV));
		close_intake();
		teardown(NULL);
		setup(NULL);
	}
}

static void a_derivation_is_protected_until_its_outputs_are(void **state)
{
	struct intake_handover h;
	(void)state;

	open_intake();
	run_until(is_ready);
	begin_hand_over(&h, NULL, 0, DRV);
	run_until(is_handed_over);
	assert_int_equal(h.err.kind, ERROR_NONE);
	assert_true(is_rooted(DRV) || is_rooted(OUT));
	run_until(all_is_resolved);
	assert_true(is_rooted(OUT) && is_rooted(DEV));
	assert_false(is_rooted(DRV));
	assert_int_equal(n_roots(ROOT_QUEUED), 2);
}

static void a_root_of_an_output_that_could_not_be_made_is_tried_again(void **state)
{
	char in_the_way[256];
	struct intake_handover h;
	(void)state;

	snprintf(in_the_way, sizeof(in_the_way), "%s%s", t.roots_dir, strrchr(OUT, '/'));
	make(in_the_way);
	open_intake();
	run_until(is_ready);
	begin_hand_over(&h, NULL, 0, DRV);
	run_until(all_is_resolved);
	assert_true(is_rooted(DEV));
	assert_true(t.intake->sweep.lacks_roots);
}

static void a_derivation_without_outputs_is_not_dropped_in_silence(void **state)
{
	struct intake_handover h;
	(void)state;

	open_intake();
	run_until(is_ready);
	begin_hand_over(&h, NULL, 0, LOST);
	run_until(all_is_resolved);
	assert_int_equal(n_roots(ROOT_FAILED), 1);
}

static void a_path_that_is_not_valid_fails_and_takes_none_with_it(void **state)
{
	const char *const paths[] = { GONE, OUT };
	struct intake_handover h;
	(void)state;

	open_intake();
	run_until(is_ready);
	begin_hand_over(&h, paths, 2, NULL);
	run_until(all_is_resolved);
	assert_int_equal(n_roots(ROOT_FAILED), 1);
	assert_int_equal(n_roots(ROOT_QUEUED), 1);
}

static void collect(const char *path)
{
	char db_path[160], sql[256];
	sqlite3 *db;

	snprintf(db_path, sizeof(db_path), "%s/nix/var/nix/db/db.sqlite", t.dir);
	snprintf(sql, sizeof(sql), "DELETE FROM ValidPaths WHERE path = '%s'", path);
	assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static const char *const only_out[] = { OUT };

/* From then on it is done as soon as it is handed over. */
static void upload_and_collect_out(void)
{
	struct intake_handover h;

	open_intake();
	run_until(is_ready);
	begin_hand_over(&h, only_out, 1, NULL);
	run_until(all_is_resolved);
	finish_all();
	assert_int_equal(n_roots(ROOT_DONE), 1);
	collect(OUT);
}

/* As a spool file that was read late. */
static void what_is_on_the_caches_and_collected_is_done(void **state)
{
	struct intake_handover h;
	(void)state;

	upload_and_collect_out();
	begin_hand_over(&h, only_out, 1, NULL);
	run_until(all_is_resolved);
	assert_int_equal(n_roots(ROOT_FAILED), 0);
	assert_int_equal(n_roots(ROOT_DONE), 2);
	assert_false(is_rooted(OUT));
}

static atomic_bool a_link_waits;
int __real_symlink(const char *target, const char *path);
int __wrap_symlink(const char *target, const char *path);

int __wrap_symlink(const char *target, const char *path)
{
	while (links_wait) {
		a_link_waits = true;
		usleep(1000);
	}
	return __real_symlink(target, path);
}

static bool two_are_done(void)
{
	return n_roots(ROOT_DONE) == 2;
}

static void a_root_made_after_all_was_done_does_not_stay(void **state)
{
	struct intake_handover h;
	(void)state;

	upload_and_collect_out();
	links_wait = true;
	begin_hand_over(&h, only_out, 1, NULL);
	run_until(two_are_done);
	assert_false(is_handed_over());
	links_wait = false;
	run_until(is_handed_over);
	assert_true(h.is_rooted);
	assert_false(is_rooted(OUT));
}

static struct {
	struct queue *queue;
	struct queue_op *op;
	queue_op_fn done;
	struct loop_post post;
	bool was_refused;
} question; /* the first that waits, or what is refused */
static struct {
	queue_op_fn done;
	struct queue_op *op; /* of a claim that has ended, which nobody was told yet */
} claim;
static void on_refused(struct loop_post *post);
static void on_claim_ended(struct queue_op *op);
void __real_queue_start(struct queue *queue, struct queue_op *op, queue_op_fn done);
void __wrap_queue_start(struct queue *queue, struct queue_op *op, queue_op_fn done);

void __wrap_queue_start(struct queue *queue, struct queue_op *op, queue_op_fn done)
{
	bool waits = questions_wait && op->verb == QUEUE_EXPLAIN && question.op == NULL,
	     fails = additions_fail && op->verb == QUEUE_ADD;

	if (claims_wait && op->verb == QUEUE_CLAIM_ROOTS) {
		claim.done = done;
		__real_queue_start(queue, op, on_claim_ended);
		return;
	}
	if (!waits && !fails) {
		__real_queue_start(queue, op, done);
		return;
	}
	question.queue = queue;
	question.op = op;
	question.done = done;
	question.was_refused = false;
	if (fails)
		loop_post(&t.loop, &question.post, on_refused);
}

/* As if the disk were full. */
static void on_refused(struct loop_post *post)
{
	(void)post;
	error_set(&question.op->err, ERROR_TRANSIENT, "no room");
	question.was_refused = true;
	question.done(question.op);
}

static void on_claim_ended(struct queue_op *op)
{
	claim.op = op;
}

static bool a_hand_over_was_refused(void)
{
	return question.was_refused;
}

static bool somebody_asks(void)
{
	return question.op != NULL;
}

/* Whichever of them ends last must know; and what is released while the queue is asked is asked again. */
static void all_hand_overs_of_a_path_hear_of_its_release(void **state)
{
	static struct intake_handover pair[2];
	char *const released[] = { (char *)(uintptr_t)OUT };
	(void)state;

	open_intake();
	run_until(is_ready);
	questions_wait = true;
	begin_hand_over(&pair[0], only_out, 1, NULL);
	begin_hand_over(&pair[1], only_out, 1, NULL);
	intake_released(t.intake, released, 1);
	assert_true(pair[0].was_released && pair[1].was_released);
	run_until(somebody_asks);
	assert_false(is_handed_over());
	assert_true(!pair[0].was_released || !pair[1].was_released);
	intake_released(t.intake, released, 1);
	questions_wait = false;
	__real_queue_start(question.queue, question.op, question.done);
	run_until(is_handed_over);
	assert_false(pair[0].was_released || pair[1].was_released);
	assert_true(is_rooted(OUT)); /* both are unfinished */
}

static void begin_push(struct intake_handover *h)
{
	*h = (struct intake_handover){ .paths = only_out, .n_paths = 1, .push = true, .caches = 1 };
	t.n_handed_over++;
	intake_start(t.intake, h, on_handed_over);
}

/* Nobody would know for which caches it was, and a sweep would send it to all. */
static void what_the_queue_did_not_take_in_leaves_no_root(void **state)
{
	struct intake_handover push;
	(void)state;

	open_intake();
	run_until(is_ready);
	additions_fail = true;
	begin_push(&push);
	run_until(is_handed_over);
	additions_fail = false;
	assert_int_equal(push.err.kind, ERROR_TRANSIENT);
	assert_true(push.is_rooted);
	close_intake();
	assert_false(is_rooted(OUT));
	open_intake();
	run_until(is_ready);
	assert_int_equal(n_roots(ROOT_RESOLVING) + n_roots(ROOT_QUEUED), 0);
}

/* It is all that protects what a hook spooled, before the push or while it is at work. */
static void what_the_queue_did_not_take_in_leaves_the_root_of_another(void **state)
{
	struct intake_handover push, hooks;
	(void)state;

	for (int at_once = 0; at_once <= 1; at_once++) {
		open_intake();
		run_until(is_ready);
		additions_fail = true;
		links_wait = at_once;
		begin_hand_over(&hooks, only_out, 1, NULL);
		if (!at_once)
			run_until(is_handed_over);
		begin_push(&push);
		if (at_once)
			run_until(a_hand_over_was_refused);
		links_wait = false;
		run_until(is_handed_over);
		additions_fail = false;
		assert_int_equal(hooks.err.kind, ERROR_TRANSIENT);
		assert_int_equal(push.err.kind, ERROR_TRANSIENT);
		close_intake();
		assert_true(is_rooted(OUT));
		unroot(OUT);
	}
}

static void a_push_of_what_is_not_valid_is_refused_as_a_whole(void **state)
{
	const char *const paths[] = { OUT, GONE };
	struct intake_handover h;
	(void)state;

	open_intake();
	run_until(is_ready);
	h = (struct intake_handover){ .paths = paths, .n_paths = 2, .push = true };
	t.n_handed_over++;
	intake_start(t.intake, &h, on_handed_over);
	run_until(is_handed_over);
	assert_int_equal(h.err.kind, ERROR_PERMANENT);
	assert_non_null(strstr(h.err.text, GONE));
	assert_int_equal(n_roots(ROOT_RESOLVING) + n_roots(ROOT_QUEUED), 0);
	assert_false(is_rooted(OUT)); /* or the next sweep would take it in */
}

static void a_root_stays_while_its_path_is_handed_over_again(void **state)
{
	const char *const paths[] = { OUT };
	char *const released[] = { (char *)(uintptr_t)OUT };
	struct intake_handover h;
	(void)state;

	open_intake();
	run_until(is_ready);
	begin_hand_over(&h, paths, 1, NULL);
	run_until(is_handed_over);
	begin_hand_over(&h, paths, 1, NULL);
	intake_released(t.intake, released, 1);
	assert_true(is_rooted(OUT));
	run_until(all_is_resolved);
	intake_released(t.intake, released, 1);
	assert_false(is_rooted(OUT));
}

/* The second hand-over has made its root already, its row is not written yet, and the first one ends. */
static void a_root_made_by_a_second_hand_over_is_not_released_by_the_first(void **state)
{
	const char *const paths[] = { OUT };
	char *const released[] = { (char *)(uintptr_t)OUT };
	struct intake_handover h;
	(void)state;

	open_intake();
	run_until(is_ready);
	begin_hand_over(&h, paths, 1, NULL);
	/* A store thread makes it; the loop, which would hear of the row, stands still. */
	for (uint64_t until_ms = clock_mono_ms() + 10000; !is_rooted(OUT) && clock_mono_ms() < until_ms;)
		sched_yield();
	intake_released(t.intake, released, 1);
	run_until(is_handed_over);
	assert_int_equal(h.err.kind, ERROR_NONE);
	assert_true(is_rooted(OUT));
}

static bool no_claim_is_under_way(void)
{
	return t.is_ready && !resolve_is_busy(&t.intake->resolve);
}

static bool a_claim_ended(void)
{
	return claim.op != NULL;
}

/* As where both go into one transaction: the claim finds nothing, and hears of the path before it ends. */
static void what_comes_in_behind_an_empty_claim_is_resolved_at_once(void **state)
{
	const char *const paths[] = { OUT };
	struct intake_handover h;
	(void)state;

	open_intake();
	run_until(no_claim_is_under_way);
	claims_wait = true;
	intake_poke(t.intake);
	run_until(a_claim_ended);
	claims_wait = false;
	begin_hand_over(&h, paths, 1, NULL);
	run_until(is_handed_over);
	claim.done(claim.op);
	run_until(all_is_resolved);
	assert_int_equal(n_roots(ROOT_QUEUED), 1);
}

static void caches_that_are_only_read_withhold_and_say_so(void **state)
{
	const char *const paths[] = { OUT };
	struct intake_handover h;
	(void)state;

	t.targets = 0;
	open_intake();
	run_until(is_ready);
	begin_hand_over(&h, paths, 1, NULL);
	run_until(all_is_resolved);
	assert_int_equal(n_roots(ROOT_WITHHELD), 1);
	assert_false(is_rooted(OUT));
}

static bool the_spool_is_empty(void)
{
	return n_spool_files() == 0 && all_is_resolved();
}

static bool one_is_bad(void)
{
	return intake_n_bad_spool_files(t.intake) == 1;
}

static bool nothing_waits(void)
{
	return intake_n_spool_files(t.intake) == 0;
}

static bool none_is_bad(void)
{
	return intake_n_bad_spool_files(t.intake) == 0;
}

/* Somebody did. */
static void unlink_bad(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm %s/*.bad", t.spool_dir);
	assert_int_equal(system(command), 0);
	timer_set(&t.intake->spool.rescan, 1);
	run_until(none_is_bad);
}

static bool unlink_fails;
int __real_unlink(const char *path);
int __wrap_unlink(const char *path);

int __wrap_unlink(const char *path)
{
	if (!unlink_fails)
		return __real_unlink(path);
	errno = EACCES;
	return -1;
}

static bool spool_is_stuck(void)
{
	return intake_spool_message(t.intake) != NULL;
}

static bool spool_is_well(void)
{
	return intake_spool_message(t.intake) == NULL;
}

static void a_spool_file_that_cannot_be_removed_is_taken_in_once(void **state)
{
	(void)state;

	spool("nncache 1 enqueue\npath " OUT "\nend\n");
	unlink_fails = true;
	open_intake();
	run_until(is_ready);
	run_until(spool_is_stuck);
	assert_non_null(strstr(intake_spool_message(t.intake), "cannot be removed (1 so far)"));
	spool("nncache 1 enqueue\npath " DEV "\nend\n");
	for (int i = 0; i < 20; i++) {
		timer_set(&t.intake->spool.rescan, 1);
		run_until(all_is_resolved);
		uv_run(&t.loop.uv, UV_RUN_ONCE);
	}
	assert_int_equal(n_roots(ROOT_QUEUED), 2);
	unlink_fails = false;
	timer_set(&t.intake->spool.rescan, 1);
	run_until(spool_is_well);
	assert_int_equal(n_spool_files(), 0);
	assert_int_equal(n_roots(ROOT_QUEUED), 2);
}

static void a_spool_that_cannot_be_read_is_told(void **state)
{
	char away[128];
	(void)state;

	snprintf(away, sizeof(away), "%s.away", t.spool_dir);
	open_intake();
	run_until(is_ready);
	assert_int_equal(rename(t.spool_dir, away), 0);
	timer_set(&t.intake->spool.rescan, 1);
	run_until(spool_is_stuck);
	assert_non_null(strstr(intake_spool_message(t.intake), "No such file"));
	assert_int_equal(rename(away, t.spool_dir), 0);
	timer_set(&t.intake->spool.rescan, 1);
	run_until(spool_is_well);
}

static void spool_files_are_taken_in_and_bad_ones_set_aside(void **state)
{
	(void)state;

	spool("nncache 1 enqueue\npath " OUT "\nend\n");
	open_intake();
	run_until(is_ready);
	run_until(the_spool_is_empty);
	assert_int_equal(n_roots(ROOT_QUEUED), 1);
	spool("nncache 1 enqueue\npath /etc/passwd\nend\n");
	run_until(one_is_bad);
	unlink_bad();
	spool("nncache 1 enqueue\nderivation " OUT "\nend\n");
	run_until(nothing_waits);
	run_until(one_is_bad);
	assert_int_equal(t.n_bad_told, 1);
	assert_int_equal(t.n_waiting_told, 1);
	run_until(nothing_waits);
	assert_int_equal(n_spool_files(), 1);
}

static bool left_over_is_gone(void)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/.1.3.req.tmp", t.spool_dir);
	return access(path, F_OK) < 0;
}

static void what_a_killed_hook_half_wrote_goes_after_a_day(void **state)
{
	char command[256];
	(void)state;

	snprintf(command, sizeof(command),
	         "cd %s && touch .1.2.req.tmp && touch -d '2 days ago' .1.3.req.tmp .slow", t.spool_dir);
	assert_int_equal(system(command), 0);
	open_intake();
	run_until(left_over_is_gone);
	snprintf(command, sizeof(command), "cd %s && test -e .1.2.req.tmp && rm .1.2.req.tmp .slow",
	         t.spool_dir);
	assert_int_equal(system(command), 0);
}

static void a_spool_file_of_another_user_is_set_aside(void **state)
{
	char command[256], bad[160];
	(void)state;

	if (getuid() != 0)
		skip();
	spool("nncache 1 enqueue\npath " OUT "\nend\n");
	snprintf(command, sizeof(command), "cd %s && mv *.req 1700000000000000000.1.req && chown 65534 *.req",
	         t.spool_dir);
	assert_int_equal(system(command), 0);
	open_intake();
	run_until(one_is_bad);
	snprintf(bad, sizeof(bad), "%s/1700000000000000000.1.req.bad", t.spool_dir);
	assert_int_equal(unlink(bad), 0);
	assert_int_equal(n_roots(ROOT_QUEUED) + n_roots(ROOT_RESOLVING), 0);
}

static size_t n_at_once_max;

/* Looked at in each turn of the loop, a few of which a hand-over takes. */
static bool all_were_in_work(void)
{
	size_t n = 0;

	for (const struct intake_handover *h = t.intake->handovers; h != NULL; h = h->next)
		n++;
	if (n > n_at_once_max)
		n_at_once_max = n;
	return n == 0 && n_at_once_max > 0 && n_roots(ROOT_QUEUED) == 130;
}

static void more_spool_files_than_are_read_at_a_time_are_all_taken_in(void **state)
{
	(void)state;

	for (int i = 0; i < 130; i++)
		spool("nncache 1 enqueue\npath " OUT "\nend\n");
	n_at_once_max = 0;
	open_intake();
	run_until(all_were_in_work);
	assert_int_equal(n_at_once_max, 64);
	run_until(the_spool_is_empty);
	assert_int_equal(n_roots(ROOT_QUEUED), 130);
}

/* What has the tag "counted" or "no-room" comes to its end without the queue. */
static struct {
	unsigned n_counted, n_refused, n_read; /* n_read: names */
	size_t n_running_max;
} many;

struct dirent *__real_readdir64(DIR *dir);
struct dirent *__wrap_readdir64(DIR *dir);

struct dirent *__wrap_readdir64(DIR *dir)
{
	many.n_read++;
	return __real_readdir64(dir);
}

static void on_counted(struct loop_post *post)
{
	struct intake_handover *h = CONTAINER_OF(post, struct intake_handover, post);

	h->done(h);
}

void __real_intake_start(struct intake *intake, struct intake_handover *h, intake_done_fn done);
void __wrap_intake_start(struct intake *intake, struct intake_handover *h, intake_done_fn done);

void __wrap_intake_start(struct intake *intake, struct intake_handover *h, intake_done_fn done)
{
	bool has_no_room = h->tag != NULL && strcmp(h->tag, "no-room") == 0;

	if (!has_no_room && (h->tag == NULL || strcmp(h->tag, "counted") != 0)) {
		__real_intake_start(intake, h, done);
		return;
	}
	h->done = done;
	h->err = (struct error){ 0 };
	if (has_no_room)
		error_set(&h->err, ERROR_TRANSIENT, "no room");
	*(has_no_room ? &many.n_refused : &many.n_counted) += 1;
	if (intake->spool.n_running > many.n_running_max)
		many.n_running_max = intake->spool.n_running;
	loop_post(&t.loop, &h->post, on_counted);
}

/* As spool_write does, without its fsyncs; of the time FIRST and later. */
static void spool_many(unsigned first, unsigned n, const char *text)
{
	char path[160];
	FILE *file;

	for (unsigned i = first; i < first + n; i++) {
		snprintf(path, sizeof(path), "%s/17%017u.1.req", t.spool_dir, i);
		file = fopen(path, "w");
		assert_non_null(file);
		fputs(text, file);
		fclose(file);
	}
}

#define N_MANY (SPOOL_LISTED + 100)

static bool many_are_taken_in(void)
{
	return many.n_counted == N_MANY && nothing_waits() && t.intake->spool.n_running == 0;
}

static void a_pass_reads_each_name_of_a_large_spool_once(void **state)
{
	(void)state;

	memset(&many, 0, sizeof(many));
	spool_many(0, N_MANY, "nncache 1 enqueue\ntag counted\npath " OUT "\nend\n");
	open_intake();
	run_until(many_are_taken_in);
	assert_int_equal(n_spool_files(), 0);
	assert_int_equal(many.n_running_max, SPOOL_AT_ONCE);
	assert_int_equal(t.n_waiting_told, N_MANY);
	/* Twice, since they are counted before; the rest is of what else reads directories here. */
	assert_in_range(many.n_read, 2 * N_MANY, 3 * N_MANY);
}

static unsigned n_ended_before;

static bool a_batch_ended(void)
{
	return many.n_counted + many.n_refused > n_ended_before && t.intake->spool.n_running == 0;
}

/* The old ones stay, whatever is tried: each look goes on behind those that were tried in the last one. */
static void what_cannot_be_taken_in_now_is_in_nobodys_way(void **state)
{
	unsigned n_looks = 0;
	(void)state;

	memset(&many, 0, sizeof(many));
	t.has_no_cache = true;
	spool_many(0, SPOOL_LISTED, "nncache 1 enqueue\ntag counted\npath " OUT "\ncache main\nend\n");
	spool_many(SPOOL_LISTED, 3 * SPOOL_AT_ONCE, "nncache 1 enqueue\ntag no-room\npath " OUT "\nend\n");
	spool_many(2 * SPOOL_LISTED, 10, "nncache 1 enqueue\ntag counted\npath " OUT "\nend\n");
	open_intake();
	for (n_ended_before = 0; many.n_counted < 10; n_looks++) {
		assert_true(n_looks < 6);
		timer_set(&t.intake->spool.rescan, 1);
		run_until(a_batch_ended);
		n_ended_before = many.n_counted + many.n_refused;
	}
	assert_int_equal(intake_n_spool_files(t.intake), SPOOL_LISTED + 3 * SPOOL_AT_ONCE);
	assert_int_equal(n_spool_files(), SPOOL_LISTED + 3 * SPOOL_AT_ONCE);
}

/* With broken settings the spool is taken in, too, but for what names a cache; with mended ones all is
 * resolved. */
static void what_came_with_broken_settings_is_uploaded_with_mended_ones(void **state)
{
	const char *const paths[] = { DEV };
	struct intake_handover h;
	(void)state;

	t.has_no_cache = true;
	spool("nncache 1 enqueue\npath " OUT "\ncache main\nend\n");
	open_intake();
	run_until(is_ready);
	begin_hand_over(&h, paths, 1, NULL);
	run_until(is_handed_over);
	assert_int_equal(h.err.kind, ERROR_NONE);
	assert_true(is_rooted(DEV));
	assert_int_equal(n_roots(ROOT_RESOLVING), 1);
	close_intake();
	assert_int_equal(n_spool_files(), 1);

	t.has_no_cache = false;
	open_intake();
	run_until(is_ready);
	run_until(the_spool_is_empty);
	assert_int_equal(n_roots(ROOT_QUEUED), 2);
}

static void roots_that_a_power_cut_lost_are_there_before_it_serves(void **state)
{
	const char *const paths[] = { OUT };
	struct intake_handover h;
	char link[256];
	(void)state;

	open_intake();
	run_until(is_ready);
	begin_hand_over(&h, paths, 1, NULL);
	run_until(all_is_resolved);
	close_intake();
	snprintf(link, sizeof(link), "%s/%s", t.roots_dir, strrchr(OUT, '/') + 1);
	assert_int_equal(unlink(link), 0);
	open_intake();
	run_until(is_ready);
	assert_true(is_rooted(OUT));
}

static bool one_waits(void)
{
	return a_link_waits;
}

static void a_root_released_while_it_is_made_again_does_not_stay(void **state)
{
	struct intake_handover h;
	char link[256];
	(void)state;

	open_intake();
	run_until(is_ready);
	begin_hand_over(&h, only_out, 1, NULL);
	run_until(all_is_resolved);
	close_intake();
	snprintf(link, sizeof(link), "%s%s", t.roots_dir, strrchr(OUT, '/'));
	assert_int_equal(unlink(link), 0);
	a_link_waits = false;
	links_wait = true;
	open_intake();
	run_until(one_waits);
	finish_all();
	assert_int_equal(n_roots(ROOT_DONE), 1);
	links_wait = false;
	run_until(is_ready);
	assert_false(is_rooted(OUT));
}

/* However young they are; those of hooks have time. */
static void what_a_lost_queue_had_acknowledged_is_taken_in_before_it_serves(void **state)
{
	char link[256];
	(void)state;

	snprintf(link, sizeof(link), "%s%s", t.roots_dir, strrchr(OUT, '/'));
	assert_int_equal(symlink(OUT, link), 0);
	make_stray("b0000000000000000000000000000000-dev.18.4", DEV);
	open_intake();
	run_until(is_ready);
	assert_int_equal(n_roots(ROOT_RESOLVING) + n_roots(ROOT_QUEUED), 1);
	assert_int_equal(intake_n_unknown_roots(t.intake), 1);
	assert_true(is_rooted(OUT));
}

static bool unlinks_what_is_listed(void)
{
	const struct roots_list *list = &t.intake->sweep.list;
	char link[256];

	if (list->n_entries == 0)
		return false;
	snprintf(link, sizeof(link), "%s/%s", t.roots_dir, list->entries[0].name);
	return unlink(link) == 0;
}

static void a_root_that_goes_while_the_queue_is_asked_is_no_stray(void **state)
{
	char link[256];
	(void)state;

	snprintf(link, sizeof(link), "%s%s", t.roots_dir, strrchr(OUT, '/'));
	assert_int_equal(symlink(OUT, link), 0);
	open_intake();
	run_until(unlinks_what_is_listed);
	run_until(is_ready);
	assert_int_equal(n_roots(ROOT_RESOLVING) + n_roots(ROOT_QUEUED), 0);
	assert_false(is_rooted(OUT));
}

/* And nothing else is about to be. */
static bool dev_is_swept(void)
{
	const struct sweep *sweep = &t.intake->sweep;

	return !is_rooted(DEV ".18.4") && sweep->n_running == 0 && sweep->taken == NULL;
}

/* Something lies in the way of the daemon's own root. */
static void a_hooks_root_stays_until_the_daemon_has_its_own(void **state)
{
	static const char *const paths[] = { OUT };
	char in_the_way[256];
	struct intake_handover h;
	(void)state;

	snprintf(in_the_way, sizeof(in_the_way), "%s%s", t.roots_dir, strrchr(OUT, '/'));
	make(in_the_way);
	open_intake();
	run_until(is_ready);
	begin_hand_over(&h, paths, 1, NULL);
	run_until(is_handed_over);
	assert_false(h.is_rooted);
	close_intake();
	make_stray("a0000000000000000000000000000000-out.17.4", OUT);
	make_stray("b0000000000000000000000000000000-dev.18.4", DEV);
	open_intake();
	run_until(dev_is_swept);
	assert_true(is_rooted(OUT ".17.4"));
}

/* The same where nothing was handed over yet: it is taken in by the sweep. */
static void a_stray_root_stays_until_the_daemon_has_its_own(void **state)
{
	char in_the_way[256];
	(void)state;

	snprintf(in_the_way, sizeof(in_the_way), "%s%s", t.roots_dir, strrchr(OUT, '/'));
	make(in_the_way);
	make_stray("a0000000000000000000000000000000-out.17.4", OUT);
	make_stray("b0000000000000000000000000000000-dev.18.4", DEV);
	open_intake();
	run_until(dev_is_swept);
	assert_int_equal(n_roots(ROOT_QUEUED), 2);
	assert_true(is_rooted(OUT ".17.4"));
}

static sqlite3 *open_queue_file(void)
{
	char path[160];
	sqlite3 *db;

	snprintf(path, sizeof(path), "%s/queue.db", t.state_dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	return db;
}

static int n_requests_for_all(void)
{
	sqlite3 *db = open_queue_file();
	sqlite3_stmt *stmt;
	int n;

	assert_int_equal(
		sqlite3_prepare_v2(db, "SELECT count(*) FROM request WHERE caches IS NULL", -1, &stmt, NULL),
		SQLITE_OK);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	n = sqlite3_column_int(stmt, 0);
	sqlite3_finalize(stmt);
	sqlite3_close(db);
	return n;
}

static bool there_are_two_requests(void)
{
	return n_requests_for_all() == 2;
}

/* Of the older one somebody may have forgotten a cache's part. */
static void a_hooks_root_is_not_explained_by_an_older_hand_over(void **state)
{
	struct intake_handover h;
	sqlite3 *db;
	(void)state;

	open_intake();
	run_until(is_ready);
	begin_hand_over(&h, only_out, 1, NULL);
	run_until(all_is_resolved);
	close_intake();
	db = open_queue_file();
	assert_int_equal(sqlite3_exec(db, "UPDATE root SET enqueued = enqueued - 1000", NULL, NULL, NULL),
	                 SQLITE_OK);
	sqlite3_close(db);
	make_stray("a0000000000000000000000000000000-out.17.4", OUT);
	open_intake();
	run_until(there_are_two_requests);
}

static bool out_is_queued_again(void)
{
	return n_roots(ROOT_DONE) == 1 && n_roots(ROOT_QUEUED) == 1;
}

/* A push for one cache was done, and its root is still there, as after a crash. */
static void a_root_that_was_left_goes_to_the_caches_it_was_for(void **state)
{
	static const char *const paths[] = { OUT };
	struct intake_handover h = { .paths = paths, .n_paths = 1, .caches = 1 };
	(void)state;

	open_intake();
	run_until(is_ready);
	t.n_handed_over++;
	intake_start(t.intake, &h, on_handed_over);
	run_until(all_is_resolved);
	finish_all();
	close_intake();
	make_stray(strrchr(OUT, '/') + 1, OUT);
	open_intake();
	run_until(out_is_queued_again);
	finish_all();
	assert_int_equal(intake_n_unknown_roots(t.intake), 0); /* it is remembered */
	assert_false(is_rooted(OUT));                          /* the cache has it */
	assert_int_equal(n_roots(ROOT_DONE), 2);
	assert_int_equal(n_requests_for_all(), 0);
}

/* The root is on the caches, and below it something is missing that is gone with it. */
static void what_is_collected_mends_nothing_below_it(void **state)
{
	sqlite3 *db;
	(void)state;

	upload_and_collect_out();
	close_intake();
	db = open_queue_file();
	assert_int_equal(sqlite3_exec(db, "UPDATE root SET state = 0, again = 2", NULL, NULL, NULL),
	                 SQLITE_OK);
	sqlite3_close(db);
	open_intake();
	run_until(all_is_resolved);
	assert_int_equal(n_roots(ROOT_FAILED), 1);
}

/* The daemon was killed before it took away the root of what had to make room. */
static void a_root_that_was_to_make_room_goes_at_the_next_start(void **state)
{
	struct queue_unprotect unprotect = { .n_max = 10 };
	struct intake_handover h;
	(void)state;

	open_intake();
	run_until(is_ready);
	begin_hand_over(&h, only_out, 1, NULL);
	run_until(all_is_resolved);
	unprotect.now_unix_s = clock_unix_s(); /* no sooner than the root was made */
	run_op(&unprotect.op, QUEUE_UNPROTECT);
	assert_int_equal(unprotect.n_released, 1);
	queue_op_fini(&unprotect.op);
	assert_true(is_rooted(OUT));
	close_intake();
	open_intake();
	run_until(is_ready);
	close_intake();
	assert_false(is_rooted(OUT));
	open_intake();
	assert_int_equal(n_roots(ROOT_QUEUED), 1);
	run_until(is_ready);
	begin_hand_over(&h, only_out, 1, NULL);
	run_until(all_is_resolved);
	close_intake();
	open_intake();
	run_until(is_ready);
	assert_true(is_rooted(OUT)); /* it was handed over again */
}

/* It was handed over again since, and the queue's log lost that. */
static void a_root_that_is_younger_than_what_it_made_room_for_stays(void **state)
{
	struct queue_unprotect unprotect = { .now_unix_s = clock_unix_s(), .n_max = 10 };
	struct intake_handover h;
	sqlite3 *db;
	(void)state;

	open_intake();
	run_until(is_ready);
	begin_hand_over(&h, only_out, 1, NULL);
	run_until(all_is_resolved);
	run_op(&unprotect.op, QUEUE_UNPROTECT);
	queue_op_fini(&unprotect.op);
	close_intake();
	db = open_queue_file();
	assert_int_equal(
		sqlite3_exec(db, "UPDATE root SET unprotected = unprotected - 100", NULL, NULL, NULL),
		SQLITE_OK);
	sqlite3_close(db);
	open_intake();
	run_until(is_ready);
	close_intake();
	assert_true(is_rooted(OUT));
}

static bool many_have_failed(void)
{
	assert_in_range(t.intake->sweep.n_running, 0, 256);
	return n_roots(ROOT_FAILED) == 1500;
}

/* As after a queue was lost. None of them is in the store. */
static void many_stray_roots_are_taken_in_a_few_at_a_time(void **state)
{
	char name[128], path[128];
	(void)state;

	for (int i = 0; i < 1500; i++) {
		snprintf(path, sizeof(path), STORE "/%032d-stray", i);
		snprintf(name, sizeof(name), "%032d-stray.17.4", i);
		make_stray(name, path);
	}
	open_intake();
	run_until(is_ready);
	assert_in_range(t.n_starting, 2, 4); /* the pages of the list; they are no roots of ours */
	run_until(many_have_failed);
}

static bool out_is_rooted(void)
{
	char link[256], target[8];

	snprintf(link, sizeof(link), "%s%s", t.roots_dir, strrchr(OUT, '/'));
	return readlink(link, target, sizeof(target)) > 0;
}

/* The five minutes until the next sweep are not waited for. */
static void fill(const char *file)
{
	static const char block[4096];
	int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	while (write(fd, block, sizeof(block)) > 0)
		;
	close(fd);
}

/* Until the next sweep, which is some time off. */
static bool the_sweep_rests(void)
{
	return is_ready() && !sweep_is_busy(&t.intake->sweep) && timer_is_set(&t.intake->sweep.again) &&
	       uv_timer_get_due_in(&t.intake->sweep.again.uv) > 1000;
}

/* Neither queue nor spool had room for it: all there is of a hand-over is a root, of which nobody tells. */
static void a_hooks_root_is_taken_in_by_itself_once_the_disk_has_room(void **state)
{
	char filler[128];
	(void)state;

	if (mount("none", t.state_dir, "tmpfs", 0, "size=4m") < 0) {
		print_message("cannot mount a tmpfs here: a full disk is NOT tested\n");
		skip();
	}
	snprintf(filler, sizeof(filler), "%s/filler", t.state_dir);
	open_intake();
	run_until(the_sweep_rests);
	fill(filler);
	make_stray("a0000000000000000000000000000000-out.17.4", OUT);
	for (unsigned has_room = 0; has_room <= 1; has_room++) {
		assert_in_range(uv_timer_get_due_in(&t.intake->sweep.again.uv), 1, 5 * 60 * 1000);
		timer_set(&t.intake->sweep.again, 1);
		run_until(the_sweep_rests);
		assert_int_equal(n_roots(ROOT_RESOLVING) + n_roots(ROOT_QUEUED), has_room);
		unlink(filler);
	}
	assert_true(is_rooted(OUT));
}

static void a_root_that_could_not_be_made_is_made_later(void **state)
{
	static const char *const paths[] = { OUT };
	char in_the_way[256];
	struct intake_handover h;
	(void)state;

	snprintf(in_the_way, sizeof(in_the_way), "%s%s", t.roots_dir, strrchr(OUT, '/'));
	make(in_the_way);
	open_intake();
	run_until(is_ready);
	begin_hand_over(&h, paths, 1, NULL);
	run_until(all_is_resolved);
	assert_int_equal(h.err.kind, ERROR_NONE);
	assert_false(out_is_rooted());
	assert_int_equal(rmdir(in_the_way), 0);
	timer_set(&t.intake->sweep.again, 1);
	run_until(out_is_rooted);
}

static bool strays_are_in(void)
{
	return all_is_resolved() && n_roots(ROOT_QUEUED) == 2;
}

static bool hooks_is_gone(void)
{
	return !is_rooted(DRV ".17.4");
}

/* What a killed hook left, of a path and of a derivation; and a root of the daemon's own. */
static void stray_roots_are_taken_in_and_hooks_ones_go(void **state)
{
	(void)state;

	make_stray("d0000000000000000000000000000000-x.drv.17.4", DRV);
	open_intake();
	run_until(is_ready);
	run_until(strays_are_in);
	assert_true(is_rooted(OUT) && is_rooted(DEV));
	assert_false(is_rooted(DRV));
	assert_true(is_rooted(DRV ".17.4")); /* a collector may have seen it, and not ours */
	run_until(hooks_is_gone);
}

/* However early or late it is told to close. */
static void it_closes_at_any_moment_and_nothing_is_lost(void **state)
{
	const char *const paths[] = { DEV, OUT };
	struct intake_handover h, of_derivation;
	(void)state;

	for (int turns = 0; turns < 40; turns++) {
		open_intake();
		begin_hand_over(&h, paths, 2, NULL);
		begin_hand_over(&of_derivation, NULL, 0, DRV);
		for (int i = 0; i < turns; i++)
			uv_run(&t.loop.uv, UV_RUN_NOWAIT);
		close_intake();
		assert_int_equal(t.n_handed_over, 0);
		assert_int_equal(h.err.kind, ERROR_NONE);
		open_intake();
		run_until(is_ready);
		run_until(all_is_resolved);
		assert_true(is_rooted(OUT) && is_rooted(DEV));
		close_intake();
		teardown(NULL);
		setup(NULL);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(outputs_of_one_build_are_all_done_in_any_order),
		TEST(a_derivation_is_protected_until_its_outputs_are),
		TEST(a_root_of_an_output_that_could_not_be_made_is_tried_again),
		TEST(a_derivation_without_outputs_is_not_dropped_in_silence),
		TEST(a_path_that_is_not_valid_fails_and_takes_none_with_it),
		TEST(what_is_on_the_caches_and_collected_is_done),
		TEST(a_root_made_after_all_was_done_does_not_stay),
		TEST(all_hand_overs_of_a_path_hear_of_its_release),
		TEST(what_the_queue_did_not_take_in_leaves_no_root),
		TEST(what_the_queue_did_not_take_in_leaves_the_root_of_another),
		TEST(a_push_of_what_is_not_valid_is_refused_as_a_whole),
		TEST(a_root_stays_while_its_path_is_handed_over_again),
		TEST(a_root_made_by_a_second_hand_over_is_not_released_by_the_first),
		TEST(what_comes_in_behind_an_empty_claim_is_resolved_at_once),
		TEST(caches_that_are_only_read_withhold_and_say_so),
		TEST(spool_files_are_taken_in_and_bad_ones_set_aside),
		TEST(a_spool_file_of_another_user_is_set_aside),
		TEST(a_spool_file_that_cannot_be_removed_is_taken_in_once),
		TEST(a_spool_that_cannot_be_read_is_told),
		TEST(more_spool_files_than_are_read_at_a_time_are_all_taken_in),
		TEST(a_pass_reads_each_name_of_a_large_spool_once),
		TEST(what_cannot_be_taken_in_now_is_in_nobodys_way),
		TEST(what_a_killed_hook_half_wrote_goes_after_a_day),
		TEST(what_came_with_broken_settings_is_uploaded_with_mended_ones),
		TEST(roots_that_a_power_cut_lost_are_there_before_it_serves),
		TEST(a_root_released_while_it_is_made_again_does_not_stay),
		TEST(what_a_lost_queue_had_acknowledged_is_taken_in_before_it_serves),
		TEST(a_root_that_goes_while_the_queue_is_asked_is_no_stray),
		TEST(stray_roots_are_taken_in_and_hooks_ones_go),
		TEST(a_hooks_root_stays_until_the_daemon_has_its_own),
		TEST(a_stray_root_stays_until_the_daemon_has_its_own),
		TEST(a_hooks_root_is_not_explained_by_an_older_hand_over),
		TEST(a_root_that_was_left_goes_to_the_caches_it_was_for),
		TEST(what_is_collected_mends_nothing_below_it),
		TEST(a_root_that_was_to_make_room_goes_at_the_next_start),
		TEST(a_root_that_is_younger_than_what_it_made_room_for_stays),
		TEST(many_stray_roots_are_taken_in_a_few_at_a_time),
		TEST(a_hooks_root_is_taken_in_by_itself_once_the_disk_has_room),
		TEST(a_root_that_could_not_be_made_is_made_later),
		TEST(it_closes_at_any_moment_and_nothing_is_lost),
	};
	log_init(LOG_LEVEL_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
