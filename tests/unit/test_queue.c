/* queue: what is acknowledged is there after a restart, nothing is published before what it refers to,
 * and everything that can end does. */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "daemon/db/aside.h"
#include "daemon/db/stmt.h"
#include "daemon/queue/queue.h"
#include "daemon/queue/schema.h"
#include "tests/support/faulty_vfs.h"
#include "tests/unit/test.h"

/* ---- a driver that runs operations one by one */

enum { MAIN, OTHER, NIXOS };
#define DAY             86400
#define LONGEST_DELAY_S (2 * 3600)

static const struct queue_endpoint standard[] = {
	{ .name = "main",
	  .kind = "file",
	  .identity = "file:///main",
	  .presence_ttl_s = DAY,
	  .upstreams = 1 << NIXOS },
	{ .name = "other", .kind = "http", .identity = "http://other/", .presence_ttl_s = DAY },
	{ .name = "nixos", .kind = "upstream", .identity = "https://nixos/", .is_upstream = true },
};

static struct loop loop;
static struct queue *queue;
static char dir[64], db_path[96];
static int64_t now;
static struct error last_err;
static size_t n_fatal, n_released_later;
static char released_later[64][160];
static uint64_t changed_caches;
static bool changed_roots;
static int64_t other_paused_until; /* when OTHER was told of as changed */

static void on_fatal(void *ctx, const struct error *err)
{
	(void)ctx;
	(void)err;
	n_fatal++;
}

static void on_change(void *ctx, uint64_t caches, bool roots)
{
	(void)ctx;
	changed_caches |= caches;
	changed_roots |= roots;
	if (queue != NULL && (caches >> OTHER & 1) != 0)
		other_paused_until = queue_paused_until_unix_s(queue, OTHER);
}

static void on_released(void *ctx, char *const *paths, size_t n_paths)
{
	(void)ctx;
	for (size_t i = 0; i < n_paths; i++)
		snprintf(released_later[n_released_later++ % 64], 160, "%s", paths[i]);
}

static int try_open(const struct queue_endpoint *endpoints, size_t n)
{
	const struct queue_config config = { .path = db_path,
		                             .endpoints = endpoints,
		                             .n_endpoints = n,
		                             .on_fatal = on_fatal,
		                             .on_change = on_change,
		                             .on_released = on_released };
	struct queue *other = NULL;
	int rc = queue_open(&other, &loop, &config, &last_err);

	if (rc == 0)
		queue = other;
	loop_run(&loop);
	return rc;
}

static void open_with(const struct queue_endpoint *endpoints, size_t n)
{
	if (try_open(endpoints, n) < 0)
		fail_msg("%s", last_err.text);
}

static void close_queue(void)
{
	queue_close(queue, NULL, NULL);
	queue = NULL;
	loop_run(&loop);
}

static void reopen(void)
{
	close_queue();
	open_with(standard, N_ELEMENTS(standard));
}

static const struct queue_op *op_done;

static void on_op_done(struct queue_op *op)
{
	op_done = op;
}

static int run(struct queue_op *op, enum queue_verb verb)
{
	op->verb = verb;
	op_done = NULL;
	queue_start(queue, op, on_op_done);
	assert_null(op_done);
	loop_run(&loop);
	assert_ptr_equal(op_done, op);
	last_err = op->err;
	return op->err.kind == ERROR_NONE ? 0 : -1;
}

static void must_run(struct queue_op *op, enum queue_verb verb)
{
	if (run(op, verb) < 0)
		fail_msg("operation %d: %s", verb, last_err.text);
}

/* What the readers allow themselves, for each listing and each table of a check; cut, it is nothing. */
static struct {
	_Atomic uint64_t n, least_ms, most_ms;
	atomic_bool is_cut;
} limits;

void __real_db_limit_time(struct db *reader, uint64_t ms);
void __wrap_db_limit_time(struct db *reader, uint64_t ms);

void __wrap_db_limit_time(struct db *reader, uint64_t ms)
{
	limits.n++;
	if (limits.n == 1 || ms < limits.least_ms)
		limits.least_ms = ms;
	if (ms > limits.most_ms)
		limits.most_ms = ms;
	__real_db_limit_time(reader, limits.is_cut ? 0 : ms);
}

static void forget_limits(void)
{
	limits.n = limits.least_ms = limits.most_ms = 0;
}

static void on_read_done(struct queue_read *read)
{
	op_done = (const struct queue_op *)(const void *)read;
}

static void must_read(struct queue_read *read, enum queue_read_verb verb)
{
	read->verb = verb;
	op_done = NULL;
	queue_read_start(queue, read, on_read_done);
	assert_null(op_done);
	loop_run(&loop);
	assert_ptr_equal(op_done, read);
	if (read->err.kind != ERROR_NONE)
		fail_msg("listing %d: %s", verb, read->err.text);
}

static int setup(void **state)
{
	(void)state;
	/* In memory if possible: these are many commits, and no test of the disk. */
	snprintf(dir, sizeof(dir), "%s/nncache-test-queue-XXXXXX",
	         access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(dir));
	snprintf(db_path, sizeof(db_path), "%s/queue.db", dir);
	assert_int_equal(loop_init(&loop, &last_err), 0);
	now = clock_unix_s();
	n_fatal = n_released_later = 0;
	faulty_vfs = (struct faulty_vfs){ 0 };
	limits.is_cut = false;
	open_with(standard, N_ELEMENTS(standard));
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = { "", "-wal", "-shm", ".lock" };
	char file[160];
	(void)state;

	close_queue();
	loop_fini(&loop);
	for (size_t i = 0; i < N_ELEMENTS(names); i++) {
		snprintf(file, sizeof(file), "%s%s", db_path, names[i]);
		unlink(file);
	}
	assert_int_equal(n_fatal, 0);
	return rmdir(dir);
}

/* ---- paths by number: P(7) */

static const char *P(int i)
{
	static char texts[16][96];
	static unsigned next;
	char *text = texts[next++ % 16];

	snprintf(text, 96, "/nix/store/%032d-p%d", i, i);
	return text;
}

static int number_of(const char *path)
{
	return (int)strtol(strstr(path, "-p") + 2, NULL, 10);
}

struct node {
	int path;
	int refs[6]; /* 0 ends them */
	uint64_t nar_size;
	uint8_t hash; /* of the NAR: another one for the same path was built again */
	int64_t rank;
};

static int64_t add(const char *path)
{
	const struct queue_add_path paths[] = { { .path = path, .rank = now } };
	struct queue_add op = { .now_unix_s = now, .paths = paths, .n_paths = 1, .uid = 7, .tag = "ci" };

	must_run(&op.op, QUEUE_ADD);
	return op.request_id;
}

static bool was_deep; /* the root claimed last */

static int64_t claim_root(int *ret_path)
{
	struct queue_claim_roots op = { .now_unix_s = now, .n_max = 1 };
	int64_t id = 0;

	must_run(&op.op, QUEUE_CLAIM_ROOTS);
	if (op.n_roots == 1) {
		id = op.roots[0].id;
		was_deep = op.roots[0].is_deep;
		if (ret_path != NULL)
			*ret_path = number_of(op.roots[0].path);
	}
	queue_op_fini(&op.op);
	return id;
}

struct page_options {
	uint64_t caches, ask_first;
	uint64_t roots; /* bits of nodes that are roots, too */
	bool force;
};

static void info_of(const struct node *n, struct path_info *info, char *refs[7])
{
	size_t k = 0;

	memset(info, 0, sizeof(*info));
	info->path = strdup(P(n->path));
	memset(info->nar_hash, n->hash + 1, SHA256_BYTES);
	info->nar_hash[0] = (uint8_t)n->path;
	info->nar_size = n->nar_size > 0 ? n->nar_size : 1000;
	for (; k < 6 && n->refs[k] != 0; k++)
		refs[k] = strdup(P(n->refs[k]));
	info->references = refs;
	info->n_references = k;
}

static void info_free(struct path_info *info)
{
	for (size_t i = 0; i < info->n_references; i++)
		free(info->references[i]);
	free(info->path);
}

static uint32_t layer_of(const struct node *nodes, size_t n, const uint32_t *layers, const struct node *node)
{
	uint32_t layer = 0;

	for (size_t k = 0; k < 6 && node->refs[k] != 0; k++) {
		for (size_t i = 0; i < n; i++) {
			if (nodes[i].path == node->refs[k] && node->refs[k] != node->path &&
			    layers[i] + 1 > layer)
				layer = layers[i] + 1;
		}
	}
	return layer;
}

/* Hands a page of NODES to root ROOT_ID; the last node is the root. */
static int page(int64_t root_id, const struct node *nodes, size_t n, struct page_options options)
{
	struct path_info infos[32];
	struct queue_node out[32];
	char *refs[32][7];
	uint32_t layers[32];
	struct queue_page op = {
		.now_unix_s = now, .root_id = root_id, .force = options.force, .nodes = out, .n_nodes = n
	};
	int rc;

	for (size_t i = 0; i < n; i++) {
		info_of(&nodes[i], &infos[i], refs[i]);
		layers[i] = layer_of(nodes, i, layers, &nodes[i]);
		out[i] = (struct queue_node){ .info = &infos[i],
			                      .rank = nodes[i].rank != 0 ? nodes[i].rank : now,
			                      .layer = layers[i],
			                      .caches = options.caches != 0 ? options.caches : 1 << MAIN,
			                      .ask_first = options.ask_first >> i & 1 ? 3 : 0,
			                      .is_root = i == n - 1 || (options.roots >> i & 1) };
	}
	rc = run(&op.op, QUEUE_PAGE);
	for (size_t i = 0; i < n; i++)
		info_free(&infos[i]);
	return rc;
}

static char released[256];

static void note_released(char *const *texts, size_t n)
{
	released[0] = '\0';
	for (size_t i = 0; i < n; i++)
		snprintf(released + strlen(released), sizeof(released) - strlen(released), "%sp%d",
		         i > 0 ? " " : "", number_of(texts[i]));
}

static void end_root(int64_t id, enum root_state state, const char *text)
{
	struct queue_end_root op = { .now_unix_s = now, .root_id = id, .state = state, .text = text };

	must_run(&op.op, QUEUE_END_ROOT);
	note_released(op.released, op.n_released);
	queue_op_fini(&op.op);
}

/* The whole way in, as intake goes it. */
static int64_t push_with(const struct node *nodes, size_t n, struct page_options options)
{
	int64_t id;

	add(P(nodes[n - 1].path));
	id = claim_root(NULL);
	assert_true(id > 0);
	assert_int_equal(page(id, nodes, n, options), 0);
	end_root(id, ROOT_QUEUED, NULL);
	return id;
}
#define PUSH(...)                                                                     \
	push_with((const struct node[]){ __VA_ARGS__ },                               \
	          sizeof((const struct node[]){ __VA_ARGS__ }) / sizeof(struct node), \
	          (struct page_options){ 0 })

/* ---- jobs */

static size_t claim_from(size_t cache, struct queue_job *jobs, size_t n_max)
{
	struct queue_claim op = { .now_unix_s = now, .cache = cache, .n_max = n_max };
	size_t n;

	must_run(&op.op, QUEUE_CLAIM);
	n = op.n_jobs;
	for (size_t i = 0; i < n; i++) {
		jobs[i] = op.jobs[i];
		memset(&op.jobs[i], 0, sizeof(op.jobs[i]));
	}
	queue_op_fini(&op.op);
	return n;
}

/* The next job of main; its path must be WANTED. */
static struct queue_job take(int wanted)
{
	struct queue_job job = { 0 };

	assert_int_equal(claim_from(MAIN, &job, 1), 1);
	assert_int_equal(number_of(job.info.path), wanted);
	return job;
}

static void assert_nothing_to_take(void)
{
	struct queue_job job;

	assert_int_equal(claim_from(MAIN, &job, 1), 0);
}

static enum publish_verdict publish(struct queue_job *job)
{
	struct queue_publish op = { .now_unix_s = now, .job = job };

	job->nar_sent = true;
	job->has_file_hash = true;
	memset(job->file_hash, 0xab, SHA256_BYTES);
	job->file_size = job->info.nar_size / 2;
	must_run(&op.op, QUEUE_PUBLISH);
	return op.verdict;
}

static void finish_at(struct queue_job *job, enum job_result result, size_t endpoint)
{
	struct queue_finish op = {
		.now_unix_s = now, .job = job, .result = result, .endpoint = endpoint, .sent_bytes = 10
	};

	must_run(&op.op, QUEUE_FINISH);
	note_released(op.released, op.n_released);
	queue_op_fini(&op.op);
	queue_job_fini(job);
}

static void finish(struct queue_job *job)
{
	finish_at(job, JOB_UPLOADED, job->cache);
}

static void fail_job(struct queue_job *job, const char *text)
{
	struct error fault;
	struct queue_fail op = { .now_unix_s = now, .job = job, .fault = &fault };

	error_set(&fault, ERROR_PERMANENT, "%s", text);
	must_run(&op.op, QUEUE_FAIL);
	queue_job_fini(job);
}

static void defer_for(struct queue_job *job, int64_t not_before, enum error_kind kind)
{
	struct error fault;
	struct queue_defer op = { .now_unix_s = now,
		                  .job = job,
		                  .fault = &fault,
		                  .not_before_unix_s = not_before,
		                  .counts = true };

	error_set(&fault, kind, "HTTP 503");
	must_run(&op.op, QUEUE_DEFER);
	queue_job_fini(job);
}

static void defer_until(struct queue_job *job, int64_t not_before)
{
	defer_for(job, not_before, ERROR_TRANSIENT);
}

/* Takes WANTED, publishes and finishes it. */
static void upload(int wanted)
{
	struct queue_job job = take(wanted);

	assert_int_equal(publish(&job), PUBLISH_YES);
	finish(&job);
}

static uint64_t count(enum job_state state)
{
	return queue_cache_counts(queue, MAIN)->jobs[state];
}

static void assert_counts(uint64_t ready, uint64_t delayed, uint64_t sent, uint64_t blocked, uint64_t failed,
                          uint64_t done)
{
	const uint64_t wanted[] = { ready, delayed, sent, blocked, failed, done };

	for (int s = 0; s < JOB_N_STATES; s++) {
		if (count((enum job_state)s) != wanted[s])
			fail_msg("%s: %d instead of %d", job_state_name((enum job_state)s),
			         (int)count((enum job_state)s), (int)wanted[s]);
	}
}

/* Counts in memory are those of the file. */
static void assert_counts_survive(void)
{
	struct queue_counts before[2] = { *queue_cache_counts(queue, MAIN),
		                          *queue_cache_counts(queue, OTHER) };
	uint64_t roots[ROOT_N_STATES];

	for (int s = 0; s < ROOT_N_STATES; s++)
		roots[s] = queue_root_count(queue, (enum root_state)s);
	reopen();
	assert_memory_equal(&before[0], queue_cache_counts(queue, MAIN), sizeof(before[0]));
	assert_memory_equal(&before[1], queue_cache_counts(queue, OTHER), sizeof(before[1]));
	for (int s = 0; s < ROOT_N_STATES; s++)
		assert_int_equal(roots[s], queue_root_count(queue, (enum root_state)s));
}

/* ---- requests */

static void a_hand_over_is_there_after_a_restart(void **state)
{
	int path = 0;
	int64_t first, id;
	(void)state;

	first = add(P(1));
	assert_true(add(P(2)) > first);
	assert_true(changed_roots);
	assert_int_equal(queue_root_count(queue, ROOT_RESOLVING), 2);
	id = claim_root(&path);
	assert_int_equal(path, 1);
	claim_root(&path);
	assert_int_equal(path, 2);
	assert_int_equal(claim_root(NULL), 0);
	assert_counts_survive();
	assert_int_equal(claim_root(&path), id); /* claims are memory only */
	assert_int_equal(path, 1);
}

struct counted_add {
	struct queue_add add;
	struct queue_add_path path;
};
static size_t n_added;

static void on_added(struct queue_op *op)
{
	assert_int_equal(op->err.kind, ERROR_NONE);
	n_added++;
}

static void adds_of_one_turn_share_few_commits(void **state)
{
	static struct counted_add adds[100];
	static struct queue_add_path many[2000];
	struct queue_add first = { .now_unix_s = now, .paths = many, .n_paths = 2000, .op.verb = QUEUE_ADD };
	uint64_t before = queue_commit_count(queue);
	(void)state;

	/* The thread is busy with this one while the others gather. */
	for (int i = 0; i < 2000; i++)
		many[i].path = "/nix/store/00000000000000000000000000000000-many";
	n_added = 0;
	queue_start(queue, &first.op, on_added);
	for (int i = 0; i < 100; i++) {
		adds[i].path = (struct queue_add_path){ .path = strdup(P(i + 1)), .rank = now };
		adds[i].add = (struct queue_add){ .now_unix_s = now, .paths = &adds[i].path, .n_paths = 1 };
		adds[i].add.op.verb = QUEUE_ADD;
		queue_start(queue, &adds[i].add.op, on_added);
	}
	assert_int_equal(n_added, 0);
	loop_run(&loop);
	assert_int_equal(n_added, 101);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(adds[i].add.n_new, 1);
		free((char *)(uintptr_t)adds[i].path.path);
	}
	assert_true(queue_commit_count(queue) - before <= 4);
	assert_int_equal(queue_root_count(queue, ROOT_RESOLVING), 2100);
}

static void a_path_that_is_queued_already_is_not_new(void **state)
{
	const struct queue_add_path paths[] = { { .path = P(1), .rank = now },
		                                { .path = P(2), .rank = now } };
	struct queue_add op = { .now_unix_s = now, .paths = paths, .n_paths = 2 };
	(void)state;

	add(P(1));
	must_run(&op.op, QUEUE_ADD);
	assert_int_equal(op.n_new, 1);
}

static void roots_are_claimed_by_rank_and_wait_for_their_time(void **state)
{
	const struct queue_add_path paths[] = { { .path = P(1), .rank = 300 },
		                                { .path = P(2), .rank = 100 },
		                                { .path = P(3), .rank = 200 } };
	struct queue_add op = {
		.now_unix_s = now, .paths = paths, .n_paths = 3, .caches = 1 << OTHER, .force = true
	};
	struct queue_claim_roots claim = { .now_unix_s = now, .n_max = 10 };
	struct queue_end_root later = { .now_unix_s = now, .state = ROOT_RESOLVING, .text = "store is away" };
	(void)state;

	must_run(&op.op, QUEUE_ADD);
	must_run(&claim.op, QUEUE_CLAIM_ROOTS);
	assert_int_equal(claim.n_roots, 3);
	assert_int_equal(number_of(claim.roots[0].path), 2);
	assert_int_equal(number_of(claim.roots[2].path), 1);
	assert_int_equal(claim.roots[0].caches, 1 << OTHER);
	assert_true(claim.roots[0].force);
	assert_true(claim.next_due_unix_s == INT64_MAX);
	later.root_id = claim.roots[1].id;
	later.not_before_unix_s = now + 60;
	queue_op_fini(&claim.op);
	must_run(&later.op, QUEUE_END_ROOT);
	must_run(&claim.op, QUEUE_CLAIM_ROOTS);
	assert_int_equal(claim.n_roots, 0);
	assert_int_equal(claim.next_due_unix_s, now + 60);
	claim.now_unix_s = now + 60;
	must_run(&claim.op, QUEUE_CLAIM_ROOTS);
	assert_int_equal(claim.n_roots, 1);
	assert_int_equal(number_of(claim.roots[0].path), 3);
	assert_int_equal(claim.roots[0].attempts, 1);
	queue_op_fini(&claim.op);
}

static void put_root_off(int64_t id, int64_t not_before)
{
	struct queue_end_root op = {
		.now_unix_s = now, .root_id = id, .state = ROOT_RESOLVING, .not_before_unix_s = not_before
	};

	must_run(&op.op, QUEUE_END_ROOT);
}

static int64_t next_due_root(void)
{
	struct queue_claim_roots claim = { .now_unix_s = now, .n_max = 1 };

	must_run(&claim.op, QUEUE_CLAIM_ROOTS);
	assert_int_equal(claim.n_roots, 0);
	return claim.next_due_unix_s;
}

static void a_root_is_put_off_by_no_clock_for_longer_than_two_hours(void **state)
{
	int64_t id;
	(void)state;

	add(P(1));
	id = claim_root(NULL);
	put_root_off(id, now + 10 * DAY);
	assert_int_equal(next_due_root(), now + LONGEST_DELAY_S);
	now -= 10 * DAY; /* the clock was set back */
	assert_int_equal(claim_root(NULL), id);
	put_root_off(id, now - DAY);
	assert_int_equal(claim_root(NULL), id);
}

static void a_root_handed_over_again_leaves_the_one_alone_that_is_put_off(void **state)
{
	int64_t first, second;
	(void)state;

	add(P(1));
	first = claim_root(NULL);
	put_root_off(first, now + 60);
	add(P(1));
	second = claim_root(NULL);
	assert_true(second > 0 && second != first);
	assert_int_equal(next_due_root(), now + 60);
}

static void a_derivation_gives_place_to_its_outputs(void **state)
{
	const struct queue_add_path drv[] = { { .path = P(9), .rank = now, .is_derivation = true } };
	const struct queue_add_path outputs[] = { { .path = P(1), .rank = now },
		                                  { .path = P(2), .rank = now } };
	struct queue_add op = { .now_unix_s = now, .paths = drv, .n_paths = 1 };
	struct queue_expand_root expand = { .paths = outputs, .n_paths = 2 };
	int path;
	(void)state;

	must_run(&op.op, QUEUE_ADD);
	expand.root_id = claim_root(NULL);
	must_run(&expand.op, QUEUE_EXPAND_ROOT);
	assert_int_equal(n_released_later, 1);
	assert_string_equal(released_later[0], P(9));
	assert_true(claim_root(&path) > 0);
	assert_int_equal(path, 1);
	assert_true(claim_root(&path) > 0);
	assert_int_equal(path, 2);
	assert_int_equal(claim_root(NULL), 0);
	assert_counts_survive();
}

/* ---- order, I2, ends */

static void jobs_come_by_rank_then_layer_then_size(void **state)
{
	struct queue_job jobs[8];
	const int order[] = { 5, 3, 1, 2, 4 };
	(void)state;

	PUSH({ .path = 1, .nar_size = 50 }, { .path = 2, .nar_size = 20 }, { .path = 3, .nar_size = 90 },
	     { .path = 4, .refs = { 1, 2 }, .nar_size = 99999 });
	PUSH({ .path = 5, .nar_size = 1, .rank = 10 });
	assert_int_equal(claim_from(MAIN, jobs, 2), 2);
	assert_int_equal(claim_from(MAIN, jobs + 2, 6), 3);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(number_of(jobs[i].info.path), order[i]);
		queue_job_fini(&jobs[i]);
	}
	assert_nothing_to_take();
}

static void a_claimed_job_carries_what_is_known_of_its_path(void **state)
{
	struct path_info info;
	struct queue_job job;
	char *refs[] = { strdup(P(1)), strdup(P(2)) };
	char *sigs[] = { strdup("a:AAAA"), strdup("b:BBBB") };
	struct queue_node node = { .info = &info, .rank = 5, .caches = 1, .is_root = true };
	struct queue_page op = { .now_unix_s = now, .nodes = &node, .n_nodes = 1, .force = true };
	(void)state;

	info = (struct path_info){ .path = strdup(P(2)),
		                   .nar_size = 77,
		                   .deriver = strdup(P(3)),
		                   .references = refs,
		                   .n_references = 2,
		                   .sigs = sigs,
		                   .n_sigs = 2,
		                   .ca = strdup("fixed:sha256:x"),
		                   .registered_unix_s = 99,
		                   .ultimate = true };
	memset(info.nar_hash, 0x5a, SHA256_BYTES);
	add(P(2));
	op.root_id = claim_root(NULL);
	must_run(&op.op, QUEUE_PAGE);
	job = take(2);
	assert_int_equal(job.info.nar_size, 77);
	assert_memory_equal(job.info.nar_hash, info.nar_hash, SHA256_BYTES);
	assert_string_equal(job.info.deriver, P(3));
	assert_string_equal(job.info.ca, "fixed:sha256:x");
	assert_int_equal(job.info.n_references, 2);
	assert_string_equal(job.info.references[0], P(1));
	assert_string_equal(job.info.references[1], P(2));
	assert_int_equal(job.info.n_sigs, 2);
	assert_string_equal(job.info.sigs[1], "b:BBBB");
	assert_int_equal(job.info.registered_unix_s, 99);
	assert_true(job.info.ultimate && job.force && job.is_root);
	assert_false(job.may_only_be_found || job.nar_sent);
	queue_job_fini(&job);
	for (int i = 0; i < 2; i++) {
		free(refs[i]);
		free(sigs[i]);
	}
	free(info.path);
	free(info.deriver);
	free(info.ca);
}

static void a_diamond_is_published_bottom_up_whatever_is_sent_first(void **state)
{
	struct queue_job jobs[4];
	(void)state;

	PUSH({ .path = 1, .refs = { 1 } }, { .path = 2, .refs = { 1, 2 } }, { .path = 3, .refs = { 1 } },
	     { .path = 4, .refs = { 2, 3, 4 } });
	assert_int_equal(claim_from(MAIN, jobs, 4), 4);
	for (int i = 3; i > 0; i--)
		assert_int_equal(publish(&jobs[i]), PUBLISH_LATER);
	assert_counts(1, 0, 3, 0, 0, 0);
	assert_counts_survive();
	for (int i = 0; i < 4; i++)
		queue_job_fini(&jobs[i]);
	upload(1);
	assert_string_equal(released, "");
	assert_counts(2, 0, 1, 0, 0, 1);
	assert_int_equal(claim_from(MAIN, jobs, 2), 2);
	assert_true(jobs[0].nar_sent && jobs[0].has_file_hash);
	assert_int_equal(jobs[0].file_size, 500);
	assert_int_equal(jobs[0].file_hash[31], 0xab);
	assert_int_equal(publish(&jobs[0]), PUBLISH_YES);
	finish(&jobs[0]);
	assert_nothing_to_take();
	assert_int_equal(publish(&jobs[1]), PUBLISH_YES);
	finish(&jobs[1]);
	upload(4);
	assert_string_equal(released, "p4");
	assert_counts(0, 0, 0, 0, 0, 4);
	assert_int_equal(queue_root_count(queue, ROOT_DONE), 1);
	assert_int_equal(queue_cache_counts(queue, MAIN)->uploaded_paths, 4);
	assert_int_equal(queue_cache_counts(queue, MAIN)->uploaded_bytes, 40);
	assert_counts_survive();
}

static void what_an_upstream_has_counts_for_its_cache_alone(void **state)
{
	struct queue_job job;
	const struct node nodes[] = { { .path = 1 }, { .path = 2, .refs = { 1 } } };
	uint64_t endpoints[2];
	const char *const paths[] = { P(1), P(2) };
	struct queue_presence look = {
		.now_unix_s = now + 100 * DAY, .paths = paths, .n_paths = 2, .endpoints = endpoints
	};
	(void)state;

	push_with(nodes, 2, (struct page_options){ .caches = 3 });
	job = take(1);
	finish_at(&job, JOB_IN_UPSTREAM, NIXOS);
	assert_int_equal(queue_cache_counts(queue, MAIN)->skipped_paths, 1);
	must_run(&look.op, QUEUE_PRESENCE);
	assert_int_equal(endpoints[0], 1 << NIXOS); /* trusted for ever */
	assert_int_equal(endpoints[1], 0);
	upload(2);
	assert_int_equal(claim_from(OTHER, &job, 1), 1);
	assert_int_equal(number_of(job.info.path), 1);
	queue_job_fini(&job);
	assert_int_equal(claim_from(OTHER, &job, 1), 1);
	assert_int_equal(number_of(job.info.path), 2);
	assert_int_equal(publish(&job), PUBLISH_LATER);
	queue_job_fini(&job);
}

/* Whether its narinfo waited for a reference, or was put off. */
static void a_nar_that_lies_longer_than_it_is_trusted_is_sent_again(void **state)
{
	struct queue_job jobs[2], job;
	(void)state;

	PUSH({ .path = 1 }, { .path = 2, .refs = { 1 } });
	assert_int_equal(claim_from(MAIN, jobs, 2), 2);
	assert_int_equal(publish(&jobs[1]), PUBLISH_LATER);
	queue_job_fini(&jobs[1]);
	now += DAY / 2;
	assert_int_equal(publish(&jobs[0]), PUBLISH_YES);
	finish(&jobs[0]);
	job = take(2);
	assert_true(job.nar_sent);
	assert_int_equal(publish(&job), PUBLISH_YES);
	defer_until(&job, 0);
	queue_job_fini(&job);
	now += DAY / 2;
	job = take(2);
	assert_false(job.nar_sent || job.has_file_hash);
	assert_int_equal(publish(&job), PUBLISH_YES);
	defer_until(&job, 0);
	queue_job_fini(&job);
	now += DAY - 1;
	job = take(2);
	assert_true(job.nar_sent);
	finish(&job);
}

static void presence_that_ran_out_is_asked_for_again(void **state)
{
	struct queue_job job;
	(void)state;

	PUSH({ .path = 1 }, { .path = 2, .refs = { 1 } });
	upload(1);
	now += 2 * DAY;
	job = take(2);
	assert_int_equal(publish(&job), PUBLISH_LATER);
	queue_job_fini(&job);
	assert_counts(1, 0, 1, 0, 0, 0);
	job = take(1);
	assert_false(job.nar_sent);
	finish_at(&job, JOB_PRESENT, MAIN);
	upload(2);
	assert_string_equal(released, "p2");
	assert_counts_survive();
}

static void a_reference_without_a_job_sends_the_root_back_to_be_resolved(void **state)
{
	struct queue_retry retry = { .now_unix_s = now };
	struct queue_job job;
	int64_t root;
	int path;
	(void)state;

	root = PUSH({ .path = 2, .refs = { 1 } }); /* 1 was known to be there when this was resolved */
	job = take(2);
	assert_int_equal(publish(&job), PUBLISH_LATER);
	queue_job_fini(&job);
	assert_int_equal(queue_root_count(queue, ROOT_RESOLVING), 1);
	assert_int_equal(claim_root(&path), root);
	assert_int_equal(path, 2);
	assert_true(was_deep);
	end_root(root, ROOT_FAILED, "gone");
	must_run(&retry.op, QUEUE_RETRY);
	assert_int_equal(claim_root(NULL), root);
	assert_true(was_deep);
	assert_int_equal(page(root, (const struct node[]){ { .path = 1 }, { .path = 2, .refs = { 1 } } }, 2,
	                      (struct page_options){ 0 }),
	                 0);
	end_root(root, ROOT_QUEUED, NULL);
	upload(1);
	upload(2);
	assert_string_equal(released, "p2");
}

/* 1 was there, and comes to be there again with nobody to tell 2: through the upstream of another cache. */
static void what_waits_goes_on_when_its_root_is_resolved_and_all_is_there(void **state)
{
	const struct queue_endpoint shared[] = {
		{ .name = "main",
		  .kind = "file",
		  .identity = "file:///main",
		  .presence_ttl_s = DAY,
		  .upstreams = 4 },
		{ .name = "other",
		  .kind = "http",
		  .identity = "http://other/",
		  .presence_ttl_s = DAY,
		  .upstreams = 4 },
		{ .name = "u",
		  .kind = "upstream",
		  .identity = "https://u/",
		  .is_upstream = true,
		  .presence_ttl_s = DAY },
	};
	const struct node one = { .path = 1 }, two = { .path = 2, .refs = { 1 } };
	struct queue_job job;
	int64_t root;
	(void)state;

	close_queue();
	open_with(shared, 3);
	root = PUSH({ .path = 2, .refs = { 1 } });
	job = take(2);
	assert_int_equal(publish(&job), PUBLISH_LATER);
	queue_job_fini(&job);
	assert_int_equal(claim_root(NULL), root);
	push_with(&one, 1, (struct page_options){ .caches = 1 << OTHER });
	assert_int_equal(claim_from(OTHER, &job, 1), 1);
	finish_at(&job, JOB_IN_UPSTREAM, 2);
	assert_nothing_to_take();
	assert_int_equal(page(root, &two, 1, (struct page_options){ 0 }), 0);
	end_root(root, ROOT_QUEUED, NULL);
	upload(2);
	assert_string_equal(released, "p2");
	assert_counts_survive();
}

static void a_root_sent_back_while_it_is_resolved_is_resolved_once_more(void **state)
{
	struct queue_job job;
	int64_t root;
	(void)state;

	add(P(2));
	root = claim_root(NULL);
	assert_false(was_deep);
	assert_int_equal(page(root, (const struct node[]){ { .path = 2, .refs = { 1 } } }, 1,
	                      (struct page_options){ 0 }),
	                 0);
	job = take(2);
	assert_int_equal(publish(&job), PUBLISH_LATER);
	queue_job_fini(&job);
	end_root(root, ROOT_QUEUED, NULL);
	assert_int_equal(claim_root(NULL), root);
	assert_true(was_deep);
}

static void what_fails_blocks_what_needs_it_and_retry_frees_all(void **state)
{
	struct queue_job jobs[4];
	struct queue_retry retry = { .now_unix_s = now };
	(void)state;

	PUSH({ .path = 1 }, { .path = 2, .refs = { 1 } }, { .path = 3, .refs = { 2 } },
	     { .path = 4, .refs = { 3 } });
	assert_int_equal(claim_from(MAIN, jobs, 4), 4);
	assert_int_equal(publish(&jobs[3]), PUBLISH_LATER);
	assert_int_equal(publish(&jobs[1]), PUBLISH_LATER);
	fail_job(&jobs[0], "HTTP 413");
	/* 2 at once, and 4 waits for 3, which is in flight */
	assert_counts(1, 0, 1, 1, 1, 0);
	assert_int_equal(publish(&jobs[2]), PUBLISH_LATER);
	assert_counts(0, 0, 0, 3, 1, 0);
	for (int i = 1; i < 4; i++)
		queue_job_fini(&jobs[i]);
	assert_nothing_to_take();
	assert_counts_survive();
	retry.which.path = P(1);
	must_run(&retry.op, QUEUE_RETRY);
	assert_int_equal(retry.n_changed, 1);
	assert_counts(4, 0, 0, 0, 0, 0);
	upload(1);
	upload(2);
	upload(3);
	upload(4);
	assert_string_equal(released, "p4");
}

static void a_failed_path_handed_over_again_is_tried_again(void **state)
{
	struct queue_job job;
	(void)state;

	PUSH({ .path = 1 });
	job = take(1);
	fail_job(&job, "gone");
	assert_int_equal(queue_root_count(queue, ROOT_QUEUED), 1);
	PUSH({ .path = 1 });
	job = take(1);
	assert_int_equal(job.attempts, 0);
	finish(&job);
	assert_string_equal(released, "p1"); /* once, though two roots named it */
	assert_int_equal(queue_root_count(queue, ROOT_DONE), 2);
}

static void a_deferred_job_waits_for_its_time_and_counts_its_attempts(void **state)
{
	struct queue_claim claim = { .now_unix_s = now, .n_max = 1 };
	struct queue_job job;
	(void)state;

	PUSH({ .path = 1 });
	job = take(1);
	defer_until(&job, now + 30);
	assert_counts(0, 1, 0, 0, 0, 0);
	must_run(&claim.op, QUEUE_CLAIM);
	assert_int_equal(claim.n_jobs, 0);
	assert_int_equal(claim.next_due_unix_s, now + 30);
	now += 30;
	job = take(1);
	assert_int_equal(job.attempts, 1);
	defer_until(&job, 0);
	assert_counts(1, 0, 0, 0, 0, 0);
	job = take(1);
	assert_int_equal(job.attempts, 2);
	defer_until(&job, now + 3600);
	now -= 10 * DAY; /* the clock was set back */
	job = take(1);
	queue_job_fini(&job);
	assert_counts_survive();
}

/* Of the delayed job of main that is next; there is no other. */
static int64_t next_due_job(void)
{
	struct queue_claim claim = { .now_unix_s = now, .n_max = 1 };

	must_run(&claim.op, QUEUE_CLAIM);
	assert_int_equal(claim.n_jobs, 0);
	return claim.next_due_unix_s;
}

static void no_job_is_put_off_for_longer_than_two_hours(void **state)
{
	struct queue_job job;
	(void)state;

	PUSH({ .path = 1 });
	job = take(1);
	defer_until(&job, now + 10 * DAY);
	assert_int_equal(next_due_job(), now + LONGEST_DELAY_S);
}

static void assert_rank(int path, int64_t wanted)
{
	struct queue_read read = { .path = P(path), .n_max = 9 };

	must_read(&read, QUEUE_SHOW);
	assert_true(read.n_rows > 0);
	assert_int_equal(read.rows[0].rank, wanted);
	queue_read_fini(&read);
}

/* As itself, in another closure, and by force: new work never shortens a wait. */
static void a_path_that_waits_for_its_time_is_not_sooner_for_being_handed_over_again(void **state)
{
	const struct node later = { .path = 1, .rank = 700 }, sooner = { .path = 1, .rank = 300 };
	struct queue_job job;
	(void)state;

	PUSH({ .path = 1, .rank = 500 });
	job = take(1);
	defer_until(&job, now + 3600);
	push_with(&later, 1, (struct page_options){ 0 });
	assert_rank(1, 500);
	push_with(&sooner, 1, (struct page_options){ .force = true });
	assert_rank(1, 300);
	assert_counts(0, 1, 0, 0, 0, 0);
	assert_int_equal(next_due_job(), now + 3600);
	PUSH({ .path = 1 }, { .path = 2, .refs = { 1 } });
	assert_counts(1, 1, 0, 0, 0, 0);
	job = take(2);
	queue_job_fini(&job);
	assert_int_equal(next_due_job(), now + 3600);
	assert_counts_survive();
	now += 3600;
	job = take(1);
	assert_int_equal(job.attempts, 1);
	queue_job_fini(&job);
}

static void note(int64_t job_id, const char *upload_id)
{
	struct queue_note op = { .job_id = job_id, .upload_id = upload_id };

	must_run(&op.op, QUEUE_NOTE);
}

static void what_a_put_left_comes_with_its_job_until_the_nar_is_sent(void **state)
{
	struct queue_note gone = { .upload_id = "nar/x up" };
	struct queue_job jobs[2];
	(void)state;

	PUSH({ .path = 1 }, { .path = 2, .refs = { 1 } });
	assert_int_equal(claim_from(MAIN, jobs, 2), 2);
	assert_null(jobs[0].upload_id);
	for (int i = 0; i < 2; i++) {
		note(jobs[i].id, "nar/x up/1");
		note(jobs[i].id, "nar/x up/2");
		queue_job_fini(&jobs[i]);
	}
	reopen();
	assert_int_equal(claim_from(MAIN, jobs, 2), 2);
	assert_string_equal(jobs[0].upload_id, "nar/x up/2");
	assert_string_equal(jobs[1].upload_id, "nar/x up/2");
	assert_int_equal(publish(&jobs[1]), PUBLISH_LATER);
	queue_job_fini(&jobs[1]);
	gone.job_id = jobs[0].id;
	finish(&jobs[0]);
	assert_int_equal(run(&gone.op, QUEUE_NOTE), -1);
	assert_int_equal(last_err.kind, ERROR_PERMANENT);
	jobs[1] = take(2);
	assert_true(jobs[1].nar_sent);
	assert_null(jobs[1].upload_id);
	queue_job_fini(&jobs[1]);
}

static uint64_t forget(const char *path, uint64_t caches, bool failed_only)
{
	struct queue_forget op = { .now_unix_s = now,
		                   .which = { .path = path, .caches = caches, .failed_only = failed_only } };

	must_run(&op.op, QUEUE_FORGET);
	note_released(op.released, op.n_released);
	queue_op_fini(&op.op);
	return op.n_changed;
}

static bool prune(int64_t before)
{
	struct queue_prune op = { .before_unix_s = before };

	must_run(&op.op, QUEUE_PRUNE);
	return op.more;
}

/* Claims all jobs of main, has their puts leave something there, and loses the claims. */
static void leave_notes(size_t n)
{
	struct queue_job jobs[4];

	assert_int_equal(claim_from(MAIN, jobs, n), n);
	for (size_t i = 0; i < n; i++) {
		char text[32];

		snprintf(text, sizeof(text), "nar/%d up", number_of(jobs[i].info.path));
		note(jobs[i].id, text);
		queue_job_fini(&jobs[i]);
	}
	reopen();
}

/* The first leftover behind AFTER; TEXT says what it must be, NULL: there is none. */
static int64_t next_leftover(size_t cache, int64_t after, const char *text)
{
	struct queue_next_leftover op = { .cache = cache, .after_id = after };
	int64_t id;

	must_run(&op.op, QUEUE_NEXT_LEFTOVER);
	id = op.id;
	if (text == NULL)
		assert_null(op.note);
	else
		assert_string_equal(op.note, text);
	assert_int_equal(id != 0, text != NULL);
	queue_op_fini(&op.op);
	return id;
}

static void drop_leftover(size_t cache, int64_t id)
{
	struct queue_drop_leftover op = { .cache = cache, .id = id };

	must_run(&op.op, QUEUE_DROP_LEFTOVER);
}

static uint64_t n_leftovers(void)
{
	return queue_cache_counts(queue, MAIN)->leftovers;
}

static void what_a_put_left_that_found_its_nar_there_is_a_leftover(void **state)
{
	struct queue_publish op = { .now_unix_s = now };
	struct queue_job job;
	(void)state;

	PUSH({ .path = 1 });
	job = take(1);
	note(job.id, "nar/1 up");
	job.upload_id = strdup("nar/1 up");
	job.nar_sent = true;
	op.job = &job;
	must_run(&op.op, QUEUE_PUBLISH);
	assert_int_equal(op.verdict, PUBLISH_YES);
	assert_int_equal(n_leftovers(), 1);
	finish(&job);
	assert_int_equal(n_leftovers(), 1);
	reopen();
	next_leftover(MAIN, 0, "nar/1 up");
}

/* Its narinfo was there already, and only the NAR in doubt. */
static void so_it_is_if_the_job_is_done_by_that(void **state)
{
	struct queue_job job;
	(void)state;

	PUSH({ .path = 1 });
	job = take(1);
	note(job.id, "nar/1 up");
	job.upload_id = strdup("nar/1 up");
	finish_at(&job, JOB_PRESENT, MAIN);
	assert_int_equal(n_leftovers(), 1);
	next_leftover(MAIN, 0, "nar/1 up");
}

/* Of three, the last goes because it is forgotten, the second with it, and the first is needed still. */
static void what_a_forgotten_put_left_stays_until_somebody_took_it_away(void **state)
{
	int64_t first, second;
	(void)state;

	PUSH({ .path = 1 });
	PUSH({ .path = 1 }, { .path = 2, .refs = { 1 } }, { .path = 3, .refs = { 2 } });
	leave_notes(3);
	assert_int_equal(n_leftovers(), 0);
	changed_caches = 0;
	forget(P(3), 0, false);
	assert_int_equal(n_leftovers(), 2);
	assert_int_equal(changed_caches & 1 << MAIN, 1 << MAIN);
	reopen();
	assert_int_equal(n_leftovers(), 2);
	first = next_leftover(MAIN, 0, "nar/3 up");
	second = next_leftover(MAIN, first, "nar/2 up");
	next_leftover(MAIN, second, NULL);
	next_leftover(OTHER, 0, NULL);
	drop_leftover(OTHER, first); /* it is not there */
	assert_int_equal(n_leftovers(), 2);
	drop_leftover(MAIN, first);
	drop_leftover(MAIN, first);
	assert_int_equal(n_leftovers(), 1);
	next_leftover(MAIN, 0, "nar/2 up");
	drop_leftover(MAIN, second);
	next_leftover(MAIN, 0, NULL);
	forget(P(1), 0, false);
	next_leftover(MAIN, second, "nar/1 up");
	assert_int_equal(n_leftovers(), 1);
	assert_counts_survive();
}

static void a_put_that_left_nothing_leaves_nothing_when_it_is_forgotten(void **state)
{
	(void)state;
	PUSH({ .path = 1 });
	forget(NULL, 0, false);
	assert_int_equal(n_leftovers(), 0);
	next_leftover(MAIN, 0, NULL);
}

static void change_file(const char *sql)
{
	const struct db_config config = { .path = db_path,
		                          .application_id = SCHEMA_APPLICATION_ID,
		                          .migrations = schema_migrations,
		                          .n_migrations = 1,
		                          .cache_bytes = 65536 };
	struct db_config whole = config;
	struct error err;
	struct db *db;

	whole.n_migrations = schema_n_migrations;
	assert_int_equal(db_open(&db, access(db_path, F_OK) == 0 ? &whole : &config, &err), 0);
	if (db_exec(db, sql, &err) < 0)
		fail_msg("%s", err.text);
	db_close(db);
}

static void what_was_left_on_a_removed_cache_waits_a_month_for_it_to_come_back(void **state)
{
	(void)state;
	PUSH({ .path = 1 });
	leave_notes(1);
	close_queue();
	open_with(standard + 1, 1);
	forget(NULL, 0, false);
	close_queue();
	change_file("UPDATE leftover SET made = made - 29 * 86400");
	open_with(standard + 1, 1);
	prune(0);
	reopen();
	assert_int_equal(n_leftovers(), 1);
	close_queue();
	change_file("UPDATE leftover SET made = made - 2 * 86400");
	open_with(standard, N_ELEMENTS(standard));
	prune(0); /* it is configured: somebody still tries */
	next_leftover(MAIN, 0, "nar/1 up");
	close_queue();
	open_with(standard + 1, 1);
	prune(0);
	reopen();
	assert_int_equal(n_leftovers(), 0);
	next_leftover(MAIN, 0, NULL);
}

static void a_queue_of_the_first_schema_is_migrated_with_all_that_is_in_it(void **state)
{
	(void)state;
	close_queue();
	assert_int_equal(unlink(db_path), 0);
	change_file("INSERT INTO cache (id, identity, name, kind, is_configured)"
	            " VALUES (7, 'file:///main', 'main', 'file', 1);"
	            "INSERT INTO path (id, path) VALUES"
	            " (1, '/nix/store/00000000000000000000000000000001-p1');"
	            "INSERT INTO job (path, cache, root, rank, layer, nar_size, may_only_be_found, force, "
	            "is_root,"
	            " upload_id, enqueued, changed) VALUES (1, 7, 1, 1, 0, 1000, 0, 0, 1, 'nar/1 up', 1, 1)");
	open_with(standard, N_ELEMENTS(standard));
	assert_counts(1, 0, 0, 0, 0, 0);
	assert_int_equal(n_leftovers(), 0);
	assert_int_equal(forget(NULL, 0, false), 1);
	assert_int_equal(n_leftovers(), 1);
	next_leftover(MAIN, 0, "nar/1 up");
	assert_counts_survive();
}

static void a_released_claim_can_be_claimed_again(void **state)
{
	struct queue_release release = { 0 };
	struct queue_job job;
	(void)state;

	PUSH({ .path = 1 });
	job = take(1);
	assert_nothing_to_take();
	release.job_id = job.id;
	must_run(&release.op, QUEUE_RELEASE);
	queue_job_fini(&job);
	job = take(1);
	queue_job_fini(&job);
}

static void a_claim_wakes_what_a_person_had_to_mend_something_for(void **state)
{
	struct queue_claim claim = { .now_unix_s = now, .cache = MAIN, .n_max = 9, .wakes_refused = true };
	struct queue_job jobs[3];
	(void)state;

	PUSH({ .path = 1 }, { .path = 2 }, { .path = 3 });
	assert_int_equal(claim_from(MAIN, jobs, 3), 3);
	for (size_t i = 0; i < 3; i++)
		defer_for(&jobs[i], now + 1000, i == 1 ? ERROR_OPERATOR : ERROR_TRANSIENT);
	assert_nothing_to_take();
	must_run(&claim.op, QUEUE_CLAIM);
	assert_int_equal(claim.n_jobs, 1);
	assert_int_equal(claim.jobs[0].attempts, 1);
	assert_false(claim.wakes_refused);
	assert_int_equal(queue_cache_counts(queue, MAIN)->jobs[JOB_DELAYED], 2);
	assert_counts_survive();
	queue_op_fini(&claim.op);
}

static void a_claim_passes_over_what_it_is_told_to(void **state)
{
	struct queue_release release = { 0 };
	struct queue_claim claim = { .cache = MAIN, .n_max = 9 };
	struct queue_job jobs[3];
	int64_t except[2];
	(void)state;

	PUSH({ .path = 1 }, { .path = 2 }, { .path = 3 });
	assert_int_equal(claim_from(MAIN, jobs, 3), 3);
	for (size_t i = 0; i < 3; i++) {
		release = (struct queue_release){ .job_id = jobs[i].id };
		must_run(&release.op, QUEUE_RELEASE);
	}
	except[0] = jobs[2].id;
	except[1] = jobs[0].id;
	claim.now_unix_s = now;
	claim.except = except;
	claim.n_except = 2;
	must_run(&claim.op, QUEUE_CLAIM);
	assert_int_equal(claim.n_jobs, 1);
	assert_int_equal(claim.jobs[0].id, jobs[1].id);
	queue_op_fini(&claim.op);
	for (size_t i = 0; i < 3; i++)
		queue_job_fini(&jobs[i]);
}

static void what_is_done_is_not_done_again_while_it_is_fresh_unless_forced_or_a_root(void **state)
{
	const struct node both[] = { { .path = 1 }, { .path = 2, .refs = { 1 } } };
	struct queue_job job;
	(void)state;

	push_with(both, 2, (struct page_options){ 0 });
	upload(1);
	upload(2);
	push_with(both, 2, (struct page_options){ 0 });
	job = take(2);
	assert_nothing_to_take();
	finish_at(&job, JOB_PRESENT, MAIN);
	assert_string_equal(released, "p2");
	push_with(both, 2, (struct page_options){ .force = true });
	upload(1);
	upload(2);
	now += 2 * DAY;
	push_with(both, 2, (struct page_options){ 0 });
	upload(1);
	upload(2);
	assert_counts(0, 0, 0, 0, 0, 2);
}

static void what_was_asked_for_and_is_gone_counts_as_gone(void **state)
{
	const struct node both[] = { { .path = 1 }, { .path = 2, .refs = { 1 } } };
	struct queue_job job;
	uint64_t endpoints;
	struct queue_presence look = { .paths = (const char *const[]){ P(1) },
		                       .n_paths = 1,
		                       .endpoints = &endpoints };
	(void)state;

	push_with(both, 1, (struct page_options){ 0 });
	upload(1);
	push_with(both, 1, (struct page_options){ 0 });
	job = take(1);
	assert_int_equal(publish(&job), PUBLISH_YES);
	look.now_unix_s = now;
	must_run(&look.op, QUEUE_PRESENCE);
	assert_int_equal(endpoints, 0);
	finish_at(&job, JOB_UPLOADED, MAIN);
}

static void a_path_built_again_starts_anew(void **state)
{
	struct queue_job job, old;
	(void)state;

	PUSH({ .path = 1 }, { .path = 2, .hash = 1 });
	upload(1);
	old = take(2);
	PUSH({ .path = 1, .hash = 9, .nar_size = 4444 });
	job = take(1);
	assert_int_equal(job.info.nar_size, 4444);
	assert_int_equal(job.info.nar_hash[1], 10);
	assert_int_equal(publish(&job), PUBLISH_YES);
	finish(&job);
	/* one in flight has sent a NAR that is not the path's any more */
	PUSH({ .path = 2, .refs = { 1 }, .hash = 2 });
	assert_int_equal(publish(&old), PUBLISH_LATER);
	queue_job_fini(&old);
	job = take(2);
	assert_int_equal(job.info.nar_hash[1], 3);
	assert_int_equal(job.info.n_references, 1);
	assert_false(job.nar_sent || job.has_file_hash);
	queue_job_fini(&job);
	assert_counts(1, 0, 0, 0, 0, 1);
}

static void a_withheld_path_keeps_back_what_needs_it_and_releases_the_root(void **state)
{
	const struct node nodes[] = { { .path = 1 },
		                      { .path = 2, .nar_size = 5000 },
		                      { .path = 3, .refs = { 1, 2 } },
		                      { .path = 4, .refs = { 3 } } };
	struct queue_job job, other;
	(void)state;

	push_with(nodes, 4, (struct page_options){ .ask_first = 1 });
	job = take(1); /* asked first, though 2 is larger */
	assert_true(job.may_only_be_found);
	other = take(2);
	finish_at(&job, JOB_WITHHELD, MAIN);
	assert_int_equal(queue_root_count(queue, ROOT_WITHHELD), 0); /* 2 is in flight for it */
	assert_counts(1, 0, 0, 0, 0, 3);
	finish(&other);
	assert_string_equal(released, "p4");
	assert_int_equal(queue_root_count(queue, ROOT_WITHHELD), 1);
	assert_counts_survive();
	/* judged anew when it comes again */
	push_with(nodes, 4, (struct page_options){ .ask_first = 1 });
	job = take(1);
	finish_at(&job, JOB_PRESENT, MAIN);
	upload(3);
	upload(4);
	assert_string_equal(released, "p4");
}

static void one_in_flight_that_needs_a_withheld_path_is_withheld_when_it_publishes(void **state)
{
	const struct node nodes[] = { { .path = 1 }, { .path = 2, .refs = { 1 } } };
	struct queue_job jobs[2];
	(void)state;

	push_with(nodes, 2, (struct page_options){ .ask_first = 1 });
	assert_int_equal(claim_from(MAIN, jobs, 2), 2);
	finish_at(&jobs[0], JOB_WITHHELD, MAIN);
	assert_int_equal(publish(&jobs[1]), PUBLISH_LATER);
	queue_job_fini(&jobs[1]);
	assert_int_equal(queue_root_count(queue, ROOT_WITHHELD), 1);
	assert_int_equal(n_released_later, 1);
	assert_string_equal(released_later[0], P(2));
}

static void a_root_is_done_only_when_all_its_caches_are(void **state)
{
	const struct node one = { .path = 1 };
	struct queue_job job;
	(void)state;

	push_with(&one, 1, (struct page_options){ .caches = 3 });
	upload(1);
	assert_string_equal(released, "");
	assert_int_equal(claim_from(OTHER, &job, 1), 1);
	finish(&job);
	assert_string_equal(released, "p1");
}

static void a_root_whose_jobs_another_root_took_over_still_ends(void **state)
{
	struct queue_release release = { .cache = MAIN };
	struct queue_job jobs[2];
	(void)state;

	/* 2 is there, but 1 was asked for too; then 3 takes 1 over. */
	PUSH({ .path = 1 }, { .path = 2 });
	assert_int_equal(claim_from(MAIN, jobs, 2), 2);
	finish_at(&jobs[1], JOB_PRESENT, MAIN);
	release.job_id = jobs[0].id;
	must_run(&release.op, QUEUE_RELEASE);
	queue_job_fini(&jobs[0]);
	assert_int_equal(queue_root_count(queue, ROOT_QUEUED), 1);
	PUSH({ .path = 1 }, { .path = 3, .refs = { 1 } });
	assert_int_equal(queue_root_count(queue, ROOT_QUEUED), 1);
	assert_int_equal(n_released_later, 1);
	assert_string_equal(released_later[0], P(2));
	upload(1);
	upload(3);
	assert_string_equal(released, "p3");
}

/* The job of 1 was made for 2, and is done when 1 comes itself; 3 starts it again. */
static void a_root_whose_done_job_another_root_starts_again_still_ends(void **state)
{
	const struct node one = { .path = 1 };
	struct queue_job job;
	(void)state;

	PUSH({ .path = 1 }, { .path = 2, .refs = { 1 } });
	upload(1);
	upload(2);
	push_with(&one, 1, (struct page_options){ .caches = 3 });
	now += 2 * DAY;
	PUSH({ .path = 1 }, { .path = 3, .refs = { 1 } });
	assert_int_equal(claim_from(OTHER, &job, 1), 1);
	finish(&job);
	assert_string_equal(released, "");
	upload(1);
	assert_string_equal(released, "p1");
}

/* The row of 1 on main is pruned while 1 still waits for the other cache; 2 makes it again. */
static void a_root_whose_pruned_job_another_root_makes_again_still_ends(void **state)
{
	const struct node one = { .path = 1 };
	struct queue_prune prune = { .op.verb = QUEUE_PRUNE };
	struct queue_job job;
	(void)state;

	push_with(&one, 1, (struct page_options){ .caches = 3 });
	upload(1);
	now += 2 * DAY;
	prune.before_unix_s = now - 1;
	must_run(&prune.op, QUEUE_PRUNE);
	PUSH({ .path = 1 }, { .path = 2, .refs = { 1 } });
	assert_int_equal(claim_from(OTHER, &job, 1), 1);
	finish(&job);
	assert_string_equal(released, "");
	upload(1);
	assert_string_equal(released, "p1");
}

static void an_operation_that_fails_changes_nothing(void **state)
{
	const struct node nodes[] = { { .path = 1 }, { .path = 2, .refs = { 1 } } };
	struct queue_job job;
	struct queue_finish op = { .now_unix_s = now, .job = &job, .result = JOB_UPLOADED };
	(void)state;

	add(P(2));
	assert_int_equal(page(4711, nodes, 2, (struct page_options){ 0 }), -1);
	assert_int_equal(last_err.kind, ERROR_PERMANENT);
	PUSH({ .path = 1 });
	assert_counts(1, 0, 0, 0, 0, 0);
	job = take(1);
	job.id += 100;
	assert_int_equal(run(&op.op, QUEUE_FINISH), -1);
	queue_job_fini(&job);
	assert_counts_survive();
}

/* ---- listings */

static void a_listing_goes_through_all_pages_and_ends_with_the_roots(void **state)
{
	struct queue_read list = { .state = -1, .n_max = 3 };
	char seen[128] = "";
	int n_pages = 0;
	(void)state;

	for (int i = 1; i <= 7; i++)
		PUSH({ .path = i });
	upload(1);
	add(P(8));
	end_root(claim_root(NULL), ROOT_FAILED, "not valid in the store");
	for (;;) {
		must_read(&list, QUEUE_LIST);
		if (list.n_rows == 0)
			break;
		for (size_t i = 0; i < list.n_rows; i++) {
			const struct queue_row *row = &list.rows[i];

			snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%d ",
			         number_of(row->path));
			assert_string_equal(row->tag, "ci");
			assert_true(row->is_root);
			assert_int_equal(row->is_root_only, number_of(row->path) == 8);
			if (!row->is_root_only)
				assert_string_equal(row->cache, "main");
		}
		list.after_id = list.last_id;
		queue_read_fini(&list);
		n_pages++;
	}
	assert_string_equal(seen, "2 3 4 5 6 7 8 ");
	assert_int_equal(n_pages, 3);
	queue_read_fini(&list);
}

static size_t list_count(int job_state, const char *cache)
{
	struct queue_read list = { .state = job_state, .cache = cache };
	size_t n;

	must_read(&list, QUEUE_LIST);
	n = list.n_rows;
	queue_read_fini(&list);
	return n;
}

static void a_listing_shows_one_state_and_one_cache(void **state)
{
	const struct node nodes[] = { { .path = 1 }, { .path = 2 } };
	struct queue_job job;
	(void)state;

	push_with(nodes, 2, (struct page_options){ .caches = 3 });
	job = take(1);
	fail_job(&job, "HTTP 413");
	upload(2);
	add(P(3));
	assert_int_equal(list_count(-2, NULL), 5);
	assert_int_equal(list_count(-1, NULL), 4);
	assert_int_equal(list_count(JOB_FAILED, NULL), 1);
	assert_int_equal(list_count(JOB_READY, NULL), 3);
	assert_int_equal(list_count(JOB_READY, "other"), 2);
	assert_int_equal(list_count(JOB_DONE, "main"), 1);
	assert_int_equal(list_count(JOB_DONE, "other"), 0);
	assert_int_equal(list_count(JOB_READY, "nobody"), 0);
}

static void show_says_why_a_path_is_held_up(void **state)
{
	struct queue_read show = { .path = "/nix/store/00000000000000000000000000000002-p2" };
	struct queue_job jobs[2];
	(void)state;

	PUSH({ .path = 1 }, { .path = 2, .refs = { 1 } });
	assert_int_equal(claim_from(MAIN, jobs, 2), 2);
	fail_job(&jobs[0], "HTTP 413");
	assert_int_equal(publish(&jobs[1]), PUBLISH_LATER);
	queue_job_fini(&jobs[1]);
	must_read(&show, QUEUE_SHOW);
	assert_int_equal(show.n_rows, 1);
	assert_int_equal(show.rows[0].state, JOB_BLOCKED);
	assert_string_equal(show.rows[0].error,
	                    "needs /nix/store/00000000000000000000000000000001-p1, which failed: HTTP 413");
	assert_string_equal(show.rows[0].error_kind, "permanent");
	assert_int_equal(show.rows[0].nar_size, 1000);
	assert_int_equal(show.rows[0].file_size, 500);
	queue_read_fini(&show);
}

static void causes_come_with_the_most_frequent_first(void **state)
{
	struct queue_read causes = { .n_max = 10 };
	struct queue_job job;
	(void)state;

	for (int i = 1; i <= 5; i++) {
		PUSH({ .path = i });
		job = take(i);
		if (i < 4)
			defer_until(&job, now + 10 * i);
		else
			fail_job(&job, "HTTP 413");
	}
	add(P(9));
	end_root(claim_root(NULL), ROOT_FAILED, "not valid");
	must_read(&causes, QUEUE_CAUSES);
	assert_int_equal(causes.n_causes, 3);
	assert_int_equal(causes.causes[0].n_jobs, 3);
	assert_int_equal(causes.causes[0].state, JOB_DELAYED);
	assert_string_equal(causes.causes[0].error, "HTTP 503");
	assert_string_equal(causes.causes[0].error_kind, "transient");
	assert_string_equal(causes.causes[0].cache, "main");
	assert_string_equal(causes.causes[0].example_path, P(1));
	assert_int_equal(causes.causes[0].next_due_unix_s, now + 10);
	assert_int_equal(causes.causes[1].n_jobs, 2);
	assert_int_equal(causes.causes[2].state, JOB_FAILED);
	assert_null(causes.causes[2].cache);
	queue_read_fini(&causes);
}

static void assert_wait(struct queue_read *read, uint64_t total, uint64_t unfinished, uint64_t failed,
                        uint64_t blocked, uint64_t moving)
{
	must_read(read, QUEUE_WAIT);
	assert_int_equal(read->wait.n_total, total);
	assert_int_equal(read->wait.n_unfinished, unfinished);
	assert_int_equal(read->wait.n_failed, failed);
	assert_int_equal(read->wait.n_blocked, blocked);
	assert_int_equal(read->wait.n_moving, moving);
	queue_read_fini(read);
}

static void a_wait_counts_the_closures_of_what_it_waits_for(void **state)
{
	const char *const paths[] = { "/nix/store/00000000000000000000000000000003-p3" };
	struct queue_read of_path = { .paths = paths, .n_paths = 1 };
	struct queue_read of_tag = { .tag = "ci" }, of_nobody = { .tag = "nobody" };
	struct queue_read of_all = { .request_id = 1 };
	struct queue_pause pause = { .caches = 1 << MAIN, .until_unix_s = INT64_MAX };
	struct queue_job jobs[3];
	(void)state;

	PUSH({ .path = 1 }, { .path = 2, .refs = { 1 } }, { .path = 3, .refs = { 2 } });
	PUSH({ .path = 4 });
	assert_wait(&of_path, 3, 3, 0, 0, 3);
	assert_wait(&of_tag, 4, 4, 0, 0, 4);
	assert_wait(&of_all, 3, 3, 0, 0, 3);
	assert_wait(&of_nobody, 0, 0, 0, 0, 0);
	must_read(&of_nobody, QUEUE_WAIT);
	assert_false(of_nobody.tag_known);
	must_read(&of_tag, QUEUE_WAIT);
	assert_true(of_tag.tag_known);
	must_run(&pause.op, QUEUE_PAUSE);
	assert_wait(&of_path, 3, 3, 0, 0, 0);
	pause.until_unix_s = 0;
	must_run(&pause.op, QUEUE_PAUSE);
	upload(1);
	assert_int_equal(claim_from(MAIN, jobs, 2), 2);
	queue_job_fini(&jobs[1]);
	assert_int_equal(number_of(jobs[0].info.path), 4);
	fail_job(&jobs[0], "no");
	reopen();
	jobs[0] = take(2);
	fail_job(&jobs[0], "no");
	jobs[0] = take(3);
	assert_int_equal(publish(&jobs[0]), PUBLISH_LATER);
	queue_job_fini(&jobs[0]);
	assert_wait(&of_path, 3, 2, 1, 1, 0);
	assert_wait(&of_tag, 4, 3, 2, 1, 0);
	add(P(5));
	of_tag.request_id = 0;
	assert_wait(&of_tag, 5, 4, 2, 1, 1); /* to be resolved */
	end_root(claim_root(NULL), ROOT_FAILED, "gone");
	assert_wait(&of_tag, 5, 4, 3, 1, 0);
}

static uint64_t count_moving(int path)
{
	const char *paths[] = { P(path) };
	struct queue_read read = { .paths = paths, .n_paths = 1 };

	must_read(&read, QUEUE_WAIT);
	assert_int_equal(read.wait.n_unfinished, 1);
	queue_read_fini(&read);
	return read.wait.n_moving;
}

static void pause_until(uint64_t caches, int64_t until_unix_s)
{
	struct queue_pause op = { .caches = caches, .until_unix_s = until_unix_s };

	must_run(&op.op, QUEUE_PAUSE);
}

static void a_path_moves_while_one_of_its_caches_can_go_on_by_itself(void **state)
{
	const struct node node = { .path = 1 };
	struct queue_job job;
	(void)state;

	push_with(&node, 1, (struct page_options){ .caches = 1 << MAIN | 1 << OTHER });
	job = take(1);
	fail_job(&job, "too large");
	assert_int_equal(count_moving(1), 1);
	pause_until(1 << OTHER, now + DAY);
	assert_int_equal(count_moving(1), 1);
	pause_until(1 << OTHER, INT64_MAX);
	assert_int_equal(count_moving(1), 0);
	pause_until(1 << OTHER, 0);
	assert_int_equal(count_moving(1), 1);
}

static void the_summary_counts_what_is_pinned(void **state)
{
	struct queue_read summary = { 0 };
	struct queue_unprotect unprotect = { .now_unix_s = now, .n_max = 1 };
	(void)state;

	must_read(&summary, QUEUE_SUMMARY);
	assert_int_equal(summary.oldest_unfinished_unix_s, 0);
	assert_int_equal(summary.last_request_id, 0);
	PUSH({ .path = 1, .nar_size = 5000 });
	now += 10;
	PUSH({ .path = 2, .nar_size = 700 });
	must_read(&summary, QUEUE_SUMMARY);
	assert_int_equal(summary.oldest_unfinished_unix_s, now - 10);
	assert_int_equal(summary.pinned_paths, 2);
	assert_int_equal(summary.pinned_nar_bytes, 5700);
	assert_int_equal(summary.unprotected, 0);
	assert_int_equal(summary.last_request_id, 2);
	must_run(&unprotect.op, QUEUE_UNPROTECT);
	queue_op_fini(&unprotect.op);
	must_read(&summary, QUEUE_SUMMARY);
	assert_int_equal(summary.pinned_paths, 1);
	assert_int_equal(summary.unprotected, 1);
}

/* ---- the operator and the calendar */

static void a_removed_cache_blocks_its_jobs_until_it_is_back(void **state)
{
	const struct node nodes[] = { { .path = 1 }, { .path = 2, .refs = { 1 } } };
	struct queue_job jobs[2];
	(void)state;

	push_with(nodes, 2, (struct page_options){ .caches = 3 });
	assert_int_equal(claim_from(MAIN, jobs, 2), 2);
	assert_int_equal(publish(&jobs[1]), PUBLISH_LATER);
	queue_job_fini(&jobs[0]);
	queue_job_fini(&jobs[1]);
	close_queue();
	open_with(standard + 1, 1); /* main is gone, and its upstream */
	assert_int_equal(queue_cache_counts(queue, 0)->jobs[JOB_READY], 2);
	assert_int_equal(list_count(JOB_BLOCKED, "main"), 2);
	assert_int_equal(claim_from(0, jobs, 2), 2);
	finish(&jobs[0]);
	finish(&jobs[1]);
	assert_string_equal(released, ""); /* main has not got it */
	close_queue();
	open_with(standard, N_ELEMENTS(standard));
	assert_counts(2, 0, 0, 0, 0, 0);
	assert_counts_survive();
	upload(1);
	jobs[0] = take(2);
	assert_true(jobs[0].nar_sent);
	finish(&jobs[0]);
	assert_string_equal(released, "p2");
}

/* Its jobs' row of `cache` is the upstream's then. */
static void a_cache_that_became_an_upstream_blocks_its_jobs_until_it_is_one_again(void **state)
{
	const struct queue_endpoint turned[] = {
		standard[OTHER],
		{ .name = "old", .kind = "upstream", .identity = "file:///main", .is_upstream = true },
	};
	const struct node built_again = { .path = 2, .hash = 5 };
	struct queue_job jobs[3];
	(void)state;

	push_with((const struct node[]){ { .path = 1 }, { .path = 2 }, { .path = 3, .refs = { 1 } } }, 3,
	          (struct page_options){ .caches = 3 });
	assert_int_equal(claim_from(MAIN, jobs, 3), 3);
	defer_until(&jobs[1], now + 60);
	assert_int_equal(publish(&jobs[2]), PUBLISH_LATER);
	queue_job_fini(&jobs[0]);
	queue_job_fini(&jobs[2]);
	assert_counts(1, 1, 1, 0, 0, 0);
	close_queue();
	open_with(turned, 2);
	assert_int_equal(list_count(JOB_BLOCKED, "old"), 3);
	push_with(&built_again, 1, (struct page_options){ 0 });
	assert_int_equal(list_count(JOB_BLOCKED, "old"), 3);
	reopen();
	assert_counts(3, 0, 0, 0, 0, 0);
	assert_counts_survive();
}

/* The second cache has the first one as its upstream. */
static void a_cache_that_is_an_upstream_as_well_keeps_its_name(void **state)
{
	const struct queue_endpoint both[] = {
		standard[MAIN],
		standard[OTHER],
		{ .name = "above", .kind = "upstream", .identity = "file:///main", .is_upstream = true },
	};
	(void)state;

	close_queue();
	for (int i = 0; i < 2; i++) {
		open_with(both, 3);
		PUSH({ .path = 1 + i });
		assert_int_equal(list_count(JOB_READY, "main"), 1 + i);
		assert_int_equal(list_count(JOB_READY, "above"), 0);
		close_queue();
	}
	open_with(standard, N_ELEMENTS(standard));
}

static void a_cache_that_came_and_went_before_its_jobs_went_on_keeps_them_blocked(void **state)
{
	const struct queue_endpoint turned[] = {
		standard[OTHER],
		{ .name = "old", .kind = "upstream", .identity = "file:///main", .is_upstream = true },
	};
	(void)state;

	PUSH({ .path = 1 });
	close_queue();
	open_with(turned, 2);
	close_queue();
	/* Two starts that ended before their chores: it went, and came back. */
	change_file("UPDATE cache SET is_configured = 1 WHERE identity = 'file:///main';"
	            "INSERT INTO chore (kind, path, cache, after, made)"
	            " SELECT column1, 0, id, 0, 1 FROM (VALUES (6), (7)), cache"
	            " WHERE identity = 'file:///main' ORDER BY column1");
	open_with(turned, 2);
	assert_int_equal(list_count(JOB_BLOCKED, "old"), 1);
	reopen();
	assert_counts(1, 0, 0, 0, 0, 0);
}

static void a_page_that_comes_after_its_cache_went_leaves_nothing_ready(void **state)
{
	static const char *const causes[] = {
		"UPDATE job SET state = 5 WHERE path = 1;"
		"INSERT INTO chore (kind, path, cache, after, made) SELECT 0, 1, cache, 0, 1 FROM job WHERE "
		"path = 1",
		"UPDATE job SET blocked_by = 1 WHERE path = 2;"
		"INSERT INTO chore (kind, path, cache, after, made) SELECT 2, 1, cache, 0, 1 FROM job WHERE "
		"path = 1",
	};
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(causes); i++) {
		PUSH({ .path = 1 }, { .path = 2, .refs = { 1 } });
		close_queue();
		open_with(standard + 1, 1);
		assert_int_equal(list_count(JOB_BLOCKED, "main"), 2);
		close_queue();
		change_file(causes[i]);
		open_with(standard + 1, 1);
		assert_int_equal(list_count(JOB_READY, "main"), 0);
		assert_int_equal(list_count(JOB_BLOCKED, "main"), 2 - (i == 0));
		reopen();
		assert_int_equal(list_count(JOB_BLOCKED, "main"), 0);
		forget(NULL, 0, false);
	}
}

static void a_root_meant_for_a_removed_cache_alone_waits_for_it(void **state)
{
	const struct queue_add_path paths[] = { { .path = P(1), .rank = now } };
	struct queue_add op = { .now_unix_s = now, .paths = paths, .n_paths = 1, .caches = 1 << MAIN };
	(void)state;

	must_run(&op.op, QUEUE_ADD);
	close_queue();
	open_with(standard + 1, 1);
	assert_int_equal(claim_root(NULL), 0);
	assert_int_equal(list_count(JOB_BLOCKED, NULL), 1);
	close_queue();
	open_with(standard + 1, 0); /* a broken configuration takes in, and resolves nothing */
	add(P(2));
	assert_int_equal(claim_root(NULL), 0);
	close_queue();
	open_with(standard, N_ELEMENTS(standard));
	assert_true(claim_root(NULL) > 0);
	assert_true(claim_root(NULL) > 0);
}

static void a_forgotten_path_goes_and_blocks_what_needs_it(void **state)
{
	struct queue_read show = { .path = "/nix/store/00000000000000000000000000000002-p2" };
	(void)state;

	PUSH({ .path = 1 });
	PUSH({ .path = 1 }, { .path = 2, .refs = { 1 } }, { .path = 3, .refs = { 2 } });
	forget(P(1), 0, false);
	assert_string_equal(released, "p1");
	assert_counts(1, 0, 0, 1, 0, 0);
	must_read(&show, QUEUE_SHOW);
	assert_string_equal(
		show.rows[0].error,
		"needs /nix/store/00000000000000000000000000000001-p1, which is not queued any more");
	queue_read_fini(&show);
	assert_int_equal(queue_root_count(queue, ROOT_QUEUED), 1);
	assert_counts_survive();
}

static void forgetting_all_counts_each_once_whatever_the_order(void **state)
{
	(void)state;

	PUSH({ .path = 3, .refs = { 1 } }); /* 1 was there */
	PUSH({ .path = 1 }, { .path = 3, .refs = { 1 } });
	assert_int_equal(forget(NULL, 0, false), 2);
	assert_counts(0, 0, 0, 0, 0, 0);
	assert_counts_survive();
}

static void a_root_ends_when_another_takes_over_what_failed_of_it(void **state)
{
	struct queue_job job;
	(void)state;

	PUSH({ .path = 1 }, { .path = 2, .refs = { 1 } });
	job = take(1);
	fail_job(&job, "HTTP 413");
	job = take(2);
	finish(&job); /* it is there, whoever sent it */
	assert_int_equal(queue_root_count(queue, ROOT_QUEUED), 1);
	PUSH({ .path = 1 }, { .path = 3, .refs = { 1 } });
	assert_int_equal(queue_root_count(queue, ROOT_DONE), 1);
	assert_int_equal(queue_root_count(queue, ROOT_QUEUED), 1);
}

static void what_only_a_forgotten_root_needed_goes_with_it(void **state)
{
	struct queue_job jobs[2];
	(void)state;

	PUSH({ .path = 4, .refs = { 1 } });
	PUSH({ .path = 5 }, { .path = 1 }, { .path = 2, .refs = { 1, 5 } }, { .path = 3, .refs = { 2 } });
	jobs[0] = take(4);
	jobs[1] = take(5);
	forget(P(3), 0, false);
	assert_string_equal(released, "p3");
	assert_counts(3, 0, 0, 0, 0, 0); /* 4, 1 which it refers to, and 5, which is in flight */
	finish(&jobs[1]);
	upload(1);
	finish(&jobs[0]);
	assert_string_equal(released, "p4");
	assert_counts(0, 0, 0, 0, 0, 3);
	assert_counts_survive();
}

static void what_a_forgotten_root_left_goes_though_it_was_queued_in_another_order(void **state)
{
	(void)state;

	PUSH({ .path = 3, .refs = { 1, 2 } }); /* 1 and 2 were there */
	PUSH({ .path = 2 }, { .path = 1, .refs = { 2 } }, { .path = 3, .refs = { 1, 2 } });
	forget(P(3), 0, false);
	assert_counts(0, 0, 0, 0, 0, 0);
	assert_counts_survive();
}

static void a_new_root_has_not_the_number_of_one_whose_jobs_are_there(void **state)
{
	struct queue_job job;
	(void)state;

	PUSH({ .path = 1 }, { .path = 3, .refs = { 1 } });
	job = take(1);
	forget(P(3), 0, false);
	PUSH({ .path = 4 });
	upload(4);
	assert_string_equal(released, "p4"); /* whatever becomes of the forgotten root's job */
	finish(&job);
}

/* The store is being asked about its closure all the while. */
static void a_new_root_has_not_the_number_of_a_forgotten_one_that_is_resolved(void **state)
{
	const struct node one = { .path = 1 };
	int64_t first, second;
	int path = 0;
	(void)state;

	add(P(1));
	first = claim_root(NULL);
	forget(P(1), 0, false);
	add(P(2));
	second = claim_root(&path);
	assert_int_equal(path, 2);
	assert_int_equal(page(first, &one, 1, (struct page_options){ 0 }), -1);
	end_root(first, ROOT_QUEUED, NULL);
	assert_string_equal(released, "");
	assert_int_equal(queue_root_count(queue, ROOT_RESOLVING), 1);
	end_root(second, ROOT_QUEUED, NULL);
	assert_counts_survive();
}

static void what_a_forgotten_root_left_is_blocked_when_nobody_can_mend_it(void **state)
{
	struct queue_retry retry = { .now_unix_s = now };
	struct queue_job job;
	(void)state;

	PUSH({ .path = 2, .refs = { 1 } }, { .path = 3, .refs = { 2 } }); /* 1 was there */
	job = take(2);
	forget(P(3), 0, false);
	assert_string_equal(released, "p3");
	assert_int_equal(publish(&job), PUBLISH_LATER);
	queue_job_fini(&job);
	assert_counts(0, 0, 0, 1, 0, 0);
	/* handed over again, it goes on */
	PUSH({ .path = 1 }, { .path = 2, .refs = { 1 } });
	must_run(&retry.op, QUEUE_RETRY);
	upload(1);
	upload(2);
}

static void what_a_forgotten_root_left_is_mended_by_another_root_of_its_path(void **state)
{
	struct queue_job job;
	int64_t root;
	(void)state;

	PUSH({ .path = 2, .refs = { 1 } }); /* 1 was there */
	PUSH({ .path = 2, .refs = { 1 } }, { .path = 3, .refs = { 2 } });
	forget(P(3), 0, false);
	job = take(2);
	assert_int_equal(publish(&job), PUBLISH_LATER);
	queue_job_fini(&job);
	assert_counts(0, 0, 1, 0, 0, 0);
	root = claim_root(NULL);
	assert_int_equal(page(root, (const struct node[]){ { .path = 1 }, { .path = 2, .refs = { 1 } } }, 2,
	                      (struct page_options){ 0 }),
	                 0);
	end_root(root, ROOT_QUEUED, NULL);
	upload(1);
	upload(2);
	assert_string_equal(released, "p2");
}

static void what_a_forgotten_root_left_waiting_is_mended_by_another_root_of_its_path(void **state)
{
	struct queue_job job;
	(void)state;

	PUSH({ .path = 2, .refs = { 1 } }, { .path = 3, .refs = { 2 } }); /* 1 was there */
	PUSH({ .path = 2, .refs = { 1 } }, { .path = 3, .refs = { 2 } });
	job = take(2);
	assert_int_equal(publish(&job), PUBLISH_LATER);
	queue_job_fini(&job);
	job = take(3);
	assert_int_equal(publish(&job), PUBLISH_LATER);
	queue_job_fini(&job);
	end_root(claim_root(NULL), ROOT_FAILED, "gone");
	assert_counts(0, 0, 2, 0, 0, 0);
	forget(NULL, 0, true);
	job = take(2);
	assert_nothing_to_take(); /* 3 waits for it */
	assert_int_equal(publish(&job), PUBLISH_LATER);
	queue_job_fini(&job);
	assert_int_equal(queue_root_count(queue, ROOT_RESOLVING), 1);
	assert_counts(0, 0, 2, 0, 0, 0);
	assert_counts_survive();
}

/* Of 2, which is in flight, 3 has need still, whose root is there. */
static struct queue_job take_2_and_forget_its_root(void)
{
	struct queue_job job;

	PUSH({ .path = 2, .refs = { 1 } }, { .path = 3, .refs = { 2 } }); /* 1 was there */
	PUSH({ .path = 2, .refs = { 1 } }, { .path = 4, .refs = { 2 } });
	job = take(2);
	forget(P(4), 0, false);
	assert_string_equal(released, "p4");
	assert_counts(2, 0, 0, 0, 0, 0);
	return job;
}

static void what_was_in_flight_is_mended_by_the_root_of_what_needs_it(void **state)
{
	struct queue_job job = take_2_and_forget_its_root();
	(void)state;

	assert_int_equal(publish(&job), PUBLISH_LATER);
	queue_job_fini(&job);
	assert_counts(1, 0, 1, 0, 0, 0);
	assert_int_equal(queue_root_count(queue, ROOT_RESOLVING), 1);
}

static void what_was_in_flight_goes_with_the_root_of_what_needs_it(void **state)
{
	struct queue_job job = take_2_and_forget_its_root();
	struct queue_release release = { .job_id = job.id };
	(void)state;

	must_run(&release.op, QUEUE_RELEASE);
	queue_job_fini(&job);
	forget(P(3), 0, false);
	assert_counts(0, 0, 0, 0, 0, 0);
}

/* When the jobs of 4 are looked at, 3 has an heir no more than 2. */
static void what_was_forgotten_with_the_root_of_what_needs_it_is_mended_by_its_heir(void **state)
{
	struct queue_job jobs[4], *two = NULL;
	(void)state;

	PUSH({ .path = 3, .refs = { 2 } });
	PUSH({ .path = 3, .refs = { 2 } }, { .path = 5, .refs = { 3 } });
	PUSH({ .path = 2, .refs = { 1 } }, { .path = 4, .refs = { 2 } }); /* 1 was there */
	assert_int_equal(claim_from(MAIN, jobs, 4), 4);
	for (int i = 0; i < 4; i++) {
		int n = number_of(jobs[i].info.path);

		if (n >= 4)
			fail_job(&jobs[i], "HTTP 413");
		else if (n == 2)
			two = &jobs[i];
		else
			queue_job_fini(&jobs[i]);
	}
	assert_int_equal(forget(NULL, 0, true), 2);
	assert_counts(2, 0, 0, 0, 0, 0);
	assert_non_null(two);
	assert_int_equal(publish(two), PUBLISH_LATER);
	queue_job_fini(two);
	assert_counts(1, 0, 1, 0, 0, 0);
	assert_int_equal(queue_root_count(queue, ROOT_RESOLVING), 1);
}

static void forgetting_what_failed_leaves_the_rest_and_what_is_in_flight(void **state)
{
	struct queue_job job, flying;
	(void)state;

	for (int i = 1; i <= 3; i++)
		PUSH({ .path = i });
	job = take(1);
	fail_job(&job, "HTTP 413");
	add(P(4));
	end_root(claim_root(NULL), ROOT_FAILED, "gone");
	assert_int_equal(forget(NULL, 0, true), 2);
	/* A page's at once, so that who hands it over again meanwhile does not lose the new root. */
	assert_int_equal(n_released_later, 1);
	assert_string_equal(released_later[0], P(1));
	assert_string_equal(released, "p4");
	assert_counts(2, 0, 0, 0, 0, 0);
	flying = take(2);
	forget(NULL, 0, false);
	assert_counts(1, 0, 0, 0, 0, 0);
	finish(&flying);
	assert_counts(0, 0, 0, 0, 0, 1);
	for (int s = 0; s < ROOT_N_STATES; s++)
		assert_int_equal(queue_root_count(queue, (enum root_state)s), 0);
	assert_counts_survive();
}

/* The first of them is meant for the other cache alone. */
static void what_a_forgotten_root_left_is_mended_by_a_root_that_is_meant_for_its_cache(void **state)
{
	const struct queue_add_path two = { .path = P(2), .rank = now };
	const struct node nodes[] = { { .path = 2, .refs = { 1 } } };
	struct queue_add for_other = { .now_unix_s = now, .paths = &two, .n_paths = 1, .caches = 1 << OTHER };
	struct queue_job job;
	int64_t root, ours;
	(void)state;

	must_run(&for_other.op, QUEUE_ADD);
	root = claim_root(NULL);
	assert_int_equal(page(root, nodes, 1, (struct page_options){ .caches = 1 << OTHER }), 0);
	end_root(root, ROOT_QUEUED, NULL);
	ours = PUSH({ .path = 2, .refs = { 1 } }); /* 1 was there */
	PUSH({ .path = 2, .refs = { 1 } }, { .path = 3, .refs = { 2 } });
	forget(P(3), 0, false);
	job = take(2);
	assert_int_equal(publish(&job), PUBLISH_LATER);
	queue_job_fini(&job);
	assert_counts(0, 0, 1, 0, 0, 0);
	assert_int_equal(claim_root(NULL), ours);
	assert_int_equal(claim_root(NULL), 0);
}

/* 2 is blocked by that very forgetting; 5 was blocked before. */
static void forgetting_what_failed_leaves_what_only_needs_it(void **state)
{
	struct queue_job jobs[4];
	(void)state;

	PUSH({ .path = 1 }, { .path = 2, .refs = { 1 } }, { .path = 3, .refs = { 2 } });
	PUSH({ .path = 4 }, { .path = 5, .refs = { 4 } });
	PUSH({ .path = 1 }, { .path = 2, .refs = { 1 } });
	assert_int_equal(claim_from(MAIN, jobs, 4), 4);
	assert_int_equal(number_of(jobs[0].info.path), 1);
	assert_int_equal(number_of(jobs[1].info.path), 4);
	for (int i = 2; i < 4; i++) {
		if (number_of(jobs[i].info.path) == 2)
			defer_until(&jobs[i], now + 60);
		else
			assert_int_equal(publish(&jobs[i]), PUBLISH_LATER);
		queue_job_fini(&jobs[i]);
	}
	fail_job(&jobs[0], "HTTP 413");
	fail_job(&jobs[1], "HTTP 413");
	assert_counts(1, 1, 0, 1, 2, 0);
	now++;
	assert_int_equal(forget(NULL, 0, true), 2); /* 4 goes with the root of 5 */
	assert_counts(1, 0, 0, 1, 0, 0);
	assert_int_equal(queue_root_count(queue, ROOT_QUEUED), 2);
	assert_counts_survive();
}

static void forgetting_on_one_cache_leaves_the_other(void **state)
{
	const struct node one = { .path = 1 };
	struct queue_job job;
	(void)state;

	push_with(&one, 1, (struct page_options){ .caches = 3 });
	assert_int_equal(forget(P(1), 1 << MAIN, false), 1);
	assert_string_equal(released, "");
	assert_int_equal(claim_from(OTHER, &job, 1), 1);
	finish(&job);
	assert_string_equal(released, "p1");
}

static void forgetting_a_path_handed_over_often_ends_all_its_roots(void **state)
{
	const struct node one = { .path = 1 };
	const int n = 600;
	(void)state;

	push_with(&one, 1, (struct page_options){ .caches = 1 << MAIN });
	for (int i = 1; i < n; i++) {
		add(P(1));
		end_root(claim_root(NULL), ROOT_QUEUED, NULL);
	}
	assert_int_equal(queue_root_count(queue, ROOT_QUEUED), n);
	assert_int_equal(forget(P(1), 1 << MAIN, false), 1);
	assert_int_equal(queue_root_count(queue, ROOT_QUEUED), 0);
	assert_string_equal(released, "p1");
	assert_counts_survive();
}

static void forgetting_thousands_goes_in_pages(void **state)
{
	uint64_t commits;
	(void)state;

	for (int i = 0; i < 50; i++) {
		struct node nodes[20];

		for (int k = 0; k < 20; k++)
			nodes[k] = (struct node){ .path = 1 + i * 20 + k, .refs = { i * 20 + k } };
		push_with(nodes, 20, (struct page_options){ 0 });
	}
	commits = queue_commit_count(queue);
	assert_int_equal(forget(NULL, 0, false), 1000);
	assert_true(queue_commit_count(queue) - commits >= 4);
	assert_counts(0, 0, 0, 0, 0, 0);
	assert_int_equal(queue_root_count(queue, ROOT_QUEUED), 0);
	assert_counts_survive();
}

static void a_pause_is_durable(void **state)
{
	struct queue_pause pause = { .caches = 1 << OTHER, .until_unix_s = INT64_MAX };
	(void)state;

	must_run(&pause.op, QUEUE_PAUSE);
	assert_true(changed_caches & 1 << OTHER);
	assert_int_equal(queue_paused_until_unix_s(queue, MAIN), 0);
	assert_true(queue_paused_until_unix_s(queue, OTHER) == INT64_MAX);
	reopen();
	assert_true(queue_paused_until_unix_s(queue, OTHER) == INT64_MAX);
	pause.until_unix_s = 0;
	must_run(&pause.op, QUEUE_PAUSE);
	assert_int_equal(queue_paused_until_unix_s(queue, OTHER), 0);
}

/* Both in one transaction, which tells of its changes once. */
static void the_end_of_a_pause_is_told_when_it_is_over(void **state)
{
	const struct queue_add_path paths[] = { { .path = P(1), .rank = now } };
	struct queue_add first = { .op.verb = QUEUE_ADD, .now_unix_s = now, .paths = paths, .n_paths = 1 },
			 add = first;
	struct queue_pause pause = { .caches = 1 << OTHER, .until_unix_s = INT64_MAX };
	(void)state;

	must_run(&pause.op, QUEUE_PAUSE);
	pause.until_unix_s = 0;
	for (int i = 0; i < 20; i++) { /* until they do share one */
		uint64_t commits = queue_commit_count(queue);

		other_paused_until = -1;
		queue_start(queue, &first.op, on_op_done);
		queue_start(queue, &add.op, on_op_done);
		pause.op.verb = QUEUE_PAUSE;
		queue_start(queue, &pause.op, on_op_done);
		loop_run(&loop);
		assert_int_equal(other_paused_until, 0);
		if (queue_commit_count(queue) - commits < 3)
			break;
		pause.until_unix_s = INT64_MAX;
		must_run(&pause.op, QUEUE_PAUSE);
		pause.until_unix_s = 0;
	}
}

/* `dev` and `out` of one build: `dev` comes first, and its closure makes the job of `out`. */
static void a_root_that_another_closure_holds_ends_with_its_job(void **state)
{
	const struct node nodes[] = { { .path = 1 }, { .path = 2, .refs = { 1 } } };
	int64_t dev, out;
	(void)state;

	add(P(2));
	add(P(1));
	dev = claim_root(NULL);
	out = claim_root(NULL);
	assert_int_equal(page(dev, nodes, 2, (struct page_options){ 0 }), 0);
	end_root(dev, ROOT_QUEUED, NULL);
	end_root(out, ROOT_QUEUED, NULL);
	assert_int_equal(queue_root_count(queue, ROOT_QUEUED), 2);
	upload(1);
	assert_int_equal(queue_root_count(queue, ROOT_DONE), 1);
	assert_string_equal(released, "p1");
	upload(2);
	assert_int_equal(queue_root_count(queue, ROOT_DONE), 2);
	assert_string_equal(released, "p2");
}

static void a_page_that_holds_another_root_says_its_size_to_that_one(void **state)
{
	const struct node nodes[] = { { .path = 1, .nar_size = 300 },
		                      { .path = 2, .refs = { 1 }, .nar_size = 5000 } };
	struct queue_read summary = { .verb = QUEUE_SUMMARY };
	int64_t dev, out;
	(void)state;

	add(P(2));
	add(P(1));
	dev = claim_root(NULL);
	out = claim_root(NULL);
	assert_int_equal(page(dev, nodes, 2, (struct page_options){ .roots = 1 }), 0);
	end_root(dev, ROOT_QUEUED, NULL);
	end_root(out, ROOT_QUEUED, NULL);
	must_read(&summary, QUEUE_SUMMARY);
	assert_int_equal(summary.pinned_nar_bytes, 5300);
	queue_read_fini(&summary);
}

static void retry_makes_roots_and_delayed_jobs_go_on(void **state)
{
	struct queue_end_root later = { .now_unix_s = now,
		                        .state = ROOT_RESOLVING,
		                        .not_before_unix_s = now + 60 };
	struct queue_retry retry = { .now_unix_s = now, .which.failed_only = true };
	struct queue_job job;
	(void)state;

	PUSH({ .path = 1 });
	job = take(1);
	defer_until(&job, now + 60);
	add(P(2));
	later.root_id = claim_root(NULL);
	must_run(&later.op, QUEUE_END_ROOT);
	must_run(&retry.op, QUEUE_RETRY);
	assert_int_equal(retry.n_changed, 0);
	retry.which.failed_only = false;
	must_run(&retry.op, QUEUE_RETRY);
	assert_int_equal(retry.n_changed, 2);
	assert_true(claim_root(NULL) > 0);
	job = take(1);
	assert_int_equal(job.attempts, 0);
	queue_job_fini(&job);
}

static void what_is_unfinished_explains_a_gc_root(void **state)
{
	const char *const paths[] = { P(1), P(2), P(3), P(4) };
	const struct queue_add_path four = { .path = P(4), .rank = now };
	struct queue_add add_four = { .now_unix_s = now, .paths = &four, .n_paths = 1, .caches = 1 << MAIN };
	const int64_t since[] = { now, now + 1, now, now };
	struct queue_explained found[4];
	struct queue_explain explain = { .paths = paths, .n_paths = 4, .found = found };
	struct queue_unfinished_roots list = { .n_max = 1 };
	(void)state;

	PUSH({ .path = 1 });
	PUSH({ .path = 2 });
	upload(1);
	add(P(3));
	must_run(&add_four.op, QUEUE_ADD);
	must_run(&explain.op, QUEUE_EXPLAIN);
	assert_true(!found[0].is_wanted && found[1].is_wanted && found[2].is_wanted && found[3].is_wanted);
	assert_true(!found[0].is_wanted_by_all && found[1].is_wanted_by_all && found[2].is_wanted_by_all &&
	            !found[3].is_wanted_by_all);
	explain.since_unix_s = since;
	must_run(&explain.op, QUEUE_EXPLAIN);
	assert_true(found[1].is_wanted && found[2].is_wanted);
	assert_true(!found[1].is_wanted_by_all && found[2].is_wanted_by_all);
	for (int i = 2; i <= 4; i++) {
		must_run(&list.op, QUEUE_UNFINISHED_ROOTS);
		assert_int_equal(list.n_paths, 1);
		assert_int_equal(number_of(list.paths[0]), i);
		list.after_id = list.last_id;
		queue_op_fini(&list.op);
	}
	must_run(&list.op, QUEUE_UNFINISHED_ROOTS);
	assert_int_equal(list.n_paths, 0);
}

/* A hand-over that is done at once. */
static void hand_over_for(uint64_t caches, int path)
{
	const struct queue_add_path paths[] = { { .path = P(path), .rank = now } };
	struct queue_add op = { .now_unix_s = now, .paths = paths, .n_paths = 1, .caches = caches };

	must_run(&op.op, QUEUE_ADD);
	end_root(claim_root(NULL), ROOT_DONE, NULL);
}

/* A root of ours that its end did not take away: it is to go where the path was meant to go. */
static void what_is_known_of_a_gc_root_says_for_which_caches_it_was(void **state)
{
	const char *const paths[] = { P(1), P(2), P(3), P(4), P(5) };
	struct queue_explained found[5];
	struct queue_explain explain = { .paths = paths, .n_paths = 5, .found = found };
	(void)state;

	hand_over_for(1 << OTHER, 1);
	hand_over_for(1 << OTHER, 2);
	hand_over_for(0, 2);
	hand_over_for(0, 3);
	hand_over_for(1 << MAIN, 3);
	hand_over_for(1 << MAIN | 1 << OTHER, 4);
	must_run(&explain.op, QUEUE_EXPLAIN);
	assert_int_equal(found[0].caches, 1 << OTHER);
	assert_int_equal(found[1].caches, 0);
	assert_int_equal(found[2].caches, 1 << MAIN);
	assert_int_equal(found[3].caches, 1 << MAIN | 1 << OTHER);
	assert_int_equal(found[4].caches, 0);
	close_queue();
	open_with(standard + 1, 1); /* OTHER alone, as number 0 */
	must_run(&explain.op, QUEUE_EXPLAIN);
	assert_int_equal(found[0].caches, 1);
	assert_int_equal(found[1].caches, 0);
	assert_true(found[2].caches == QUEUE_CACHES_GONE);
	assert_int_equal(found[3].caches, 1);
	for (int i = 0; i < 5; i++)
		assert_false(found[i].is_wanted || found[i].is_wanted_by_all);
	reopen();
}

static size_t unprotect(int64_t older_than, size_t n_max)
{
	struct queue_unprotect op = { .now_unix_s = now, .older_than_unix_s = older_than, .n_max = n_max };
	size_t n;

	must_run(&op.op, QUEUE_UNPROTECT);
	n = op.n_released;
	note_released(op.released, op.n_released);
	queue_op_fini(&op.op);
	return n;
}

static void roots_are_given_up_when_stuck_too_long_or_when_the_disk_is_full(void **state)
{
	struct queue_pause pause = { .caches = 1 << OTHER, .until_unix_s = INT64_MAX };
	const struct node five = { .path = 5 };
	struct queue_job job;
	(void)state;

	PUSH({ .path = 1 });
	job = take(1);
	fail_job(&job, "HTTP 413");
	now++;
	add(P(2));
	end_root(claim_root(NULL), ROOT_FAILED, "gone");
	PUSH({ .path = 3 });
	push_with(&five, 1, (struct page_options){ .caches = 1 << OTHER });
	assert_int_equal(unprotect(now - DAY, 10), 0);
	now += 14 * DAY;
	assert_int_equal(unprotect(now - DAY, 10), 2);
	assert_string_equal(released, "p1 p2");
	assert_int_equal(unprotect(now - DAY, 10), 0);
	must_run(&pause.op, QUEUE_PAUSE);
	assert_int_equal(unprotect(now - DAY, 10), 1);
	assert_string_equal(released, "p5");
	assert_int_equal(unprotect(0, 10), 1);
	assert_string_equal(released, "p3");
	upload(3); /* still uploaded; there is nothing left to release */
	assert_string_equal(released, "");
	assert_counts_survive();
}

/* Handed over a while ago, and ranked as policy does it. */
static void add_with(int path, int64_t age_s, int priority)
{
	const struct queue_add_path paths[] = {
		{ .path = P(path), .rank = now - age_s - 60 * priority },
	};
	struct queue_add op = { .now_unix_s = now - age_s, .paths = paths, .n_paths = 1 };

	must_run(&op.op, QUEUE_ADD);
}

/* The order is not that of handing over, nor that of age or of rank alone. */
static void roots_are_given_up_by_priority_then_age_and_as_many_as_asked_for(void **state)
{
	int64_t id;
	(void)state;

	for (int is_stuck = 1; is_stuck >= 0; is_stuck--) {
		add_with(1, 10, 90);
		add_with(3, 20, 50);
		add_with(4, 1000, 1000);
		add_with(2, 500, 50);
		add_with(5, 300, 10);
		while (is_stuck && (id = claim_root(NULL)) != 0)
			end_root(id, ROOT_FAILED, "gone");
		now += DAY;
		assert_int_equal(unprotect(is_stuck ? now - 100 : 0, 2), 2);
		assert_string_equal(released, "p5 p2");
		assert_int_equal(unprotect(is_stuck ? now - 100 : 0, 1), 1);
		assert_string_equal(released, "p3");
		assert_int_equal(unprotect(is_stuck ? now - 100 : 0, 64), 2);
		assert_string_equal(released, "p1 p4");
	}
}

static int64_t count_rows(const char *table)
{
	struct db *db;
	struct error err;
	int64_t n = -1;

	assert_int_equal(db_open_reader(&db, db_path, 65536, &err), 0);
	{
		STMT(st, db,
		     "SELECT (SELECT count(*) FROM path), (SELECT count(*) FROM request),"
		     " (SELECT count(*) FROM presence), (SELECT count(*) FROM reference), (SELECT count(*) "
		     "FROM usage)");

		assert_int_equal(stmt_step(st, &err), STMT_ROW);
		n = stmt_int(st, strcmp(table, "path") == 0        ? 0
		                 : strcmp(table, "request") == 0   ? 1
		                 : strcmp(table, "presence") == 0  ? 2
		                 : strcmp(table, "reference") == 0 ? 3
		                                                   : 4);
	}
	db_close(db);
	return n;
}

static void history_goes_in_pages_and_leaves_what_is_unfinished(void **state)
{
	struct queue_job job;
	int n_turns = 0;
	(void)state;

	for (int i = 0; i < 30; i++) {
		struct node nodes[20];

		for (int k = 0; k < 20; k++)
			nodes[k] =
				(struct node){ .path = 1 + i * 20 + k, .refs = { k > 0 ? i * 20 + k : 0 } };
		push_with(nodes, 20, (struct page_options){ 0 });
	}
	while (claim_from(MAIN, &job, 1) == 1)
		finish(&job);
	PUSH({ .path = 700, .refs = { 600 } });
	assert_counts(1, 0, 0, 0, 0, 600);
	assert_false(prune(now - DAY) && prune(now - DAY) && prune(now - DAY) && prune(now - DAY));
	assert_counts(1, 0, 0, 0, 0, 600);
	while (prune(now + DAY))
		n_turns++;
	assert_true(n_turns >= 3);
	assert_counts(1, 0, 0, 0, 0, 0);
	assert_int_equal(queue_root_count(queue, ROOT_DONE), 0);
	assert_int_equal(count_rows("request"), 1);
	assert_int_equal(count_rows("presence"), 0);
	for (int i = 0; i < 25; i++) {
		while (prune(now + DAY))
			;
	}
	/* 700 needs 600, which needs 599 and so on down to 581. */
	assert_int_equal(count_rows("path"), 21);
	assert_int_equal(count_rows("reference"), 20);
	assert_int_equal(count_rows("usage"), 1);
	prune(now + 500 * DAY);
	assert_int_equal(count_rows("usage"), 0);
}

static void the_store_can_correct_what_it_said(void **state)
{
	const struct node again = { .path = 1, .hash = 7, .nar_size = 55 };
	struct queue_refresh op = { .now_unix_s = now };
	struct path_info info;
	struct queue_job job;
	char *refs[7];
	(void)state;

	PUSH({ .path = 1 });
	job = take(1);
	info_of(&again, &info, refs);
	op.info = &info;
	must_run(&op.op, QUEUE_REFRESH);
	info_free(&info);
	defer_until(&job, 0);
	job = take(1);
	assert_int_equal(job.info.nar_size, 55);
	assert_int_equal(job.info.nar_hash[1], 8);
	queue_job_fini(&job);
}

/* ---- the file */

static void a_second_owner_and_a_newer_schema_are_refused(void **state)
{
	struct queue *first = queue;
	struct db *db;
	struct error err;
	(void)state;

	assert_int_equal(try_open(standard, 3), -1);
	assert_int_equal(last_err.kind, ERROR_OPERATOR);
	assert_non_null(strstr(last_err.text, "another nncached"));
	assert_ptr_equal(queue, first);
	close_queue();
	{
		static const char *const none[] = { "", "", "", "", "", "", "", "", "" };
		const struct db_config config = { .path = db_path,
			                          .application_id = 0x6e6e6371,
			                          .migrations = none,
			                          .n_migrations = 9,
			                          .cache_bytes = 65536 };

		assert_int_equal(db_open(&db, &config, &err), 0);
		db_close(db);
	}
	assert_int_equal(try_open(standard, 3), -1);
	assert_int_equal(last_err.kind, ERROR_OPERATOR);
	assert_non_null(strstr(last_err.text, "newer"));
}

/* Overwrites every second page behind the first ones. */
static void damage_file(void)
{
	char junk[4096];
	struct stat st;
	int fd = open(db_path, O_RDWR | O_CLOEXEC);

	memset(junk, 0x5a, sizeof(junk));
	assert_int_equal(fstat(fd, &st), 0);
	for (off_t at = 64 * 4096; at < st.st_size; at += 2 * 4096)
		assert_int_equal(pwrite(fd, junk, sizeof(junk), at), sizeof(junk));
	close(fd);
}

static void damage_is_final_when_it_is_met_looked_for_at_the_start_and_set_aside(void **state)
{
	struct queue_claim op = { .now_unix_s = now, .n_max = 4000 };
	char mark[112];
	(void)state;

	snprintf(mark, sizeof(mark), "%s.damaged", db_path);
	for (int i = 0; i < 200; i++) {
		struct node nodes[20];

		for (int k = 0; k < 20; k++)
			nodes[k] = (struct node){ .path = 1 + i * 20 + k };
		push_with(nodes, 20, (struct page_options){ 0 });
	}
	reopen();
	damage_file();
	assert_int_equal(run(&op.op, QUEUE_CLAIM), -1);
	assert_int_equal(n_fatal, 1);
	assert_int_equal(run(&op.op, QUEUE_CLAIM), -1);
	assert_int_equal(n_fatal, 1);
	close_queue();
	assert_true(aside_is_marked(db_path));
	assert_int_equal(unlink(mark), 0);
	n_fatal = 0;
	open_with(standard, 3); /* its own first look finds it, or the check behind that */
	if (queue_set_aside(queue) == NULL) {
		assert_int_equal(n_fatal, 1);
		assert_true(aside_is_marked(db_path));
		reopen();
	}
	assert_non_null(queue_set_aside(queue));
	assert_int_equal(queue_cache_counts(queue, MAIN)->jobs[JOB_READY], 0);
	assert_int_equal(unlink(queue_set_aside(queue)), 0);
	must_run(&op.op, QUEUE_CLAIM);
	queue_op_fini(&op.op);
	n_fatal = 0;
}

/* The last page that holds TEXT. */
static off_t find_page(const char *text)
{
	char page_at[4096];
	int fd = open(db_path, O_RDONLY | O_CLOEXEC);
	off_t found = 0;

	for (off_t at = 0; pread(fd, page_at, sizeof(page_at), at) == sizeof(page_at); at += 4096)
		if (memmem(page_at, sizeof(page_at), text, strlen(text)) != NULL)
			found = at;
	close(fd);
	assert_true(found > 0);
	return found;
}

static void damage_page(off_t at)
{
	char junk[4096];
	int fd = open(db_path, O_RDWR | O_CLOEXEC);

	memset(junk, 0x5a, sizeof(junk));
	assert_int_equal(pwrite(fd, junk, sizeof(junk), at), sizeof(junk));
	close(fd);
}

/* Nothing at the start reads that far. */
static void the_check_behind_the_start_looks_at_every_table(void **state)
{
	char damaged[ASIDE_PATH_SIZE];
	(void)state;

	PUSH({ .path = 1 });
	close_queue();
	change_file("WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 300)"
	            " INSERT INTO leftover (cache, note, made)"
	            " SELECT 1, 'left behind ' || hex(randomblob(100)), 1 FROM c");
	faulty_vfs.bad_page = find_page("-p1"); /* of the index of paths */
	open_with(standard, N_ELEMENTS(standard));
	assert_int_equal(n_fatal, 0); /* it may be whole tomorrow */
	assert_false(aside_is_marked(db_path));
	close_queue();
	damage_page(find_page("left behind "));
	open_with(standard, N_ELEMENTS(standard));
	faulty_vfs.bad_page = 0;
	assert_int_equal(n_fatal, 1);
	assert_true(aside_is_marked(db_path));
	reopen();
	assert_true(aside_find(db_path, damaged));
	assert_int_equal(unlink(damaged), 0);
	n_fatal = 0;
}

/* For as long as one of them reads, the log is not cut. */
static void every_listing_is_limited_and_so_is_the_check_of_a_table(void **state)
{
	static const enum queue_read_verb verbs[] = { QUEUE_LIST, QUEUE_SHOW,    QUEUE_CAUSES,
		                                      QUEUE_WAIT, QUEUE_SUMMARY, QUEUE_BELIEVED };
	struct queue_read list = { .verb = QUEUE_LIST, .state = -2, .n_max = 4096 };
	(void)state;

	for (int i = 0; i < 50; i++) {
		struct node nodes[20];

		for (int k = 0; k < 20; k++)
			nodes[k] = (struct node){ .path = 1 + i * 20 + k };
		push_with(nodes, 20, (struct page_options){ 0 });
	}
	forget_limits();
	reopen();
	assert_int_equal(limits.n, 10); /* tables */
	assert_int_equal(limits.least_ms, 120000);
	assert_int_equal(limits.most_ms, 120000);
	forget_limits();
	for (size_t i = 0; i < N_ELEMENTS(verbs); i++) {
		struct queue_read read = { .path = P(1), .cache = "main", .state = -2, .n_max = 9 };

		must_read(&read, verbs[i]);
		queue_read_fini(&read);
		assert_int_equal(limits.n, i + 1);
	}
	assert_int_equal(limits.least_ms, 30000);
	assert_int_equal(limits.most_ms, 30000);

	limits.is_cut = true;
	queue_read_start(queue, &list, on_read_done);
	loop_run(&loop);
	assert_int_equal(list.err.kind, ERROR_TRANSIENT);
	assert_non_null(strstr(list.err.text, "too long"));
	assert_int_equal(list.n_rows, 0);
	limits.is_cut = false;
	must_read(&list, QUEUE_LIST);
	assert_int_equal(list.n_rows, 1000);
	queue_read_fini(&list);
}

static void a_listing_that_meets_damage_is_as_final(void **state)
{
	struct queue_read read = { .verb = QUEUE_LIST, .state = -2, .n_max = 4096 };
	char damaged[ASIDE_PATH_SIZE];
	(void)state;

	for (int i = 0; i < 200; i++) {
		struct node nodes[20];

		for (int k = 0; k < 20; k++)
			nodes[k] = (struct node){ .path = 1 + i * 20 + k };
		push_with(nodes, 20, (struct page_options){ 0 });
	}
	reopen();
	damage_file();
	queue_read_start(queue, &read, on_read_done);
	loop_run(&loop);
	assert_int_equal(read.err.kind, ERROR_TRANSIENT);
	queue_read_fini(&read);
	assert_int_equal(n_fatal, 1);
	assert_true(aside_is_marked(db_path));
	reopen();
	assert_true(aside_find(db_path, damaged));
	assert_int_equal(unlink(damaged), 0);
	n_fatal = 0;
}

static void a_failed_fsync_is_final_and_answers_nobody_with_yes(void **state)
{
	struct queue_add_path path = { .path = P(1), .rank = now };
	struct queue_add add = { .now_unix_s = now, .paths = &path, .n_paths = 1 };
	(void)state;

	faulty_vfs.fsync_fails = true;
	assert_int_equal(run(&add.op, QUEUE_ADD), -1);
	faulty_vfs.fsync_fails = false;
	assert_int_equal(n_fatal, 1);
	assert_int_equal(run(&add.op, QUEUE_ADD), -1); /* nor once the disk is well again */
	assert_int_equal(n_fatal, 1);
	n_fatal = 0;
	assert_false(aside_is_marked(db_path));
	reopen();
	must_run(&add.op, QUEUE_ADD);
}

static void fill_disk(const char *file)
{
	static const char block[65536];
	int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	while (write(fd, block, sizeof(block)) > 0)
		;
	while (write(fd, block, 512) > 0)
		;
	close(fd);
}

static void a_full_disk_changes_nothing_and_passes(void **state)
{
	static struct queue_add_path many[3000];
	struct queue_add op = { .now_unix_s = now, .paths = many, .n_paths = 3000 };
	struct queue_counts before;
	struct queue_job job, other;
	struct queue_release release = { 0 };
	char file[160];
	(void)state;

	for (size_t i = 0; i < 3000; i++)
		many[i].path = P(1);
	close_queue();
	if (mount("none", dir, "tmpfs", 0, "size=2m") < 0) {
		print_message("cannot mount a tmpfs here: a full disk is NOT tested\n");
		open_with(standard, N_ELEMENTS(standard));
		skip();
	}
	open_with(standard, N_ELEMENTS(standard));
	PUSH({ .path = 1 });
	PUSH({ .path = 2 });
	job = take(1);
	before = *queue_cache_counts(queue, MAIN);
	snprintf(file, sizeof(file), "%s/filler", dir);
	fill_disk(file);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(run(&op.op, QUEUE_ADD), -1);
		assert_int_equal(last_err.kind, ERROR_TRANSIENT);
	}
	assert_memory_equal(&before, queue_cache_counts(queue, MAIN), sizeof(before));
	assert_int_equal(queue_root_count(queue, ROOT_RESOLVING), 0);
	release.job_id = job.id;
	must_run(&release.op, QUEUE_RELEASE);
	queue_job_fini(&job);
	unlink(file);
	job = take(1);
	other = take(2);
	finish(&job);
	finish(&other);
	must_run(&op.op, QUEUE_ADD);
	assert_int_equal(queue_root_count(queue, ROOT_RESOLVING), 3000);
	close_queue();
	assert_int_equal(umount(dir), 0);
	open_with(standard, N_ELEMENTS(standard));
}

/* ---- a store at random */

enum { N_RANDOM = 20000, N_CLAIMS = 32 };

static uint32_t random_state = 12345;
static uint32_t random_below(uint32_t n)
{
	random_state = random_state * 1664525u + 1013904223u;
	return (random_state >> 8) % n;
}

static void push_random_closure(int n_paths)
{
	static struct node nodes[32];
	int first = 1;

	while (first <= n_paths) {
		size_t n = 0;

		for (; n < 32 && first <= n_paths; n++, first++) {
			struct node *node = &nodes[n];

			*node = (struct node){ .path = first, .nar_size = 1 + random_below(100000) };
			for (size_t k = 0; k < 5 && first > 1; k++)
				node->refs[k] =
					first - (int)random_below(first < 400 ? (uint32_t)first : 400);
		}
		push_with(nodes, n, (struct page_options){ 0 });
	}
}

static void everything_of_a_large_store_ends_whatever_the_order(void **state)
{
	struct queue_job jobs[N_CLAIMS];
	size_t n = 0, n_steps = 0;
	unsigned n_paths = (unsigned)test_many(N_RANDOM);
	(void)state;

	push_random_closure((int)n_paths);
	assert_int_equal(count(JOB_READY), n_paths);
	for (;;) {
		size_t i;

		n += claim_from(MAIN, jobs + n, N_CLAIMS - n);
		if (n == 0)
			break;
		i = random_below((uint32_t)n);
		if (publish(&jobs[i]) == PUBLISH_YES)
			finish(&jobs[i]);
		else
			queue_job_fini(&jobs[i]);
		jobs[i] = jobs[--n];
		n_steps++;
	}
	assert_counts(0, 0, 0, 0, 0, n_paths);
	assert_int_equal(queue_root_count(queue, ROOT_QUEUED), 0);
	assert_true(n_steps < 2 * n_paths + 1);
	assert_counts_survive();
}

static void a_path_with_many_referrers_wakes_and_blocks_them_in_pages(void **state)
{
	struct queue_job job, glibc;
	struct queue_retry retry = { .now_unix_s = now };
	(void)state;

	PUSH({ .path = 1 });
	glibc = take(1);
	for (int i = 0; i < 50; i++) {
		struct node nodes[20];

		for (int k = 0; k < 20; k++)
			nodes[k] = (struct node){ .path = 2 + i * 20 + k, .refs = { 1 } };
		push_with(nodes, 20, (struct page_options){ 0 });
	}
	while (claim_from(MAIN, &job, 1) == 1) {
		assert_int_equal(publish(&job), PUBLISH_LATER);
		queue_job_fini(&job);
	}
	assert_counts(1, 0, 1000, 0, 0, 0);
	fail_job(&glibc, "too large");
	assert_counts(0, 0, 0, 1000, 1, 0);
	must_run(&retry.op, QUEUE_RETRY);
	assert_int_equal(retry.n_changed, 1001);
	assert_counts(1001, 0, 0, 0, 0, 0);
	glibc = take(1);
	while (claim_from(MAIN, &job, 1) == 1) {
		assert_int_equal(publish(&job), PUBLISH_LATER);
		queue_job_fini(&job);
	}
	finish(&glibc);
	assert_counts(1000, 0, 0, 0, 0, 1);
	assert_counts_survive();
}

static void close_at_once(struct queue_op *op)
{
	assert_int_equal(op->err.kind, ERROR_NONE);
	queue_close(queue, NULL, NULL);
}

static void pages_that_a_restart_cut_off_are_done_after_it(void **state)
{
	enum { N = 6000 };
	struct queue_finish op = { .now_unix_s = now, .result = JOB_UPLOADED };
	struct queue_job job, glibc;
	(void)state;

	PUSH({ .path = 1 });
	glibc = take(1);
	for (int i = 0; i < N / 20; i++) {
		struct node nodes[20];

		for (int k = 0; k < 20; k++)
			nodes[k] = (struct node){ .path = 2 + i * 20 + k, .refs = { 1 } };
		push_with(nodes, 20, (struct page_options){ 0 });
	}
	while (claim_from(MAIN, &job, 1) == 1) {
		assert_int_equal(publish(&job), PUBLISH_LATER);
		queue_job_fini(&job);
	}
	op.op.verb = QUEUE_FINISH;
	op.job = &glibc;
	queue_start(queue, &op.op, close_at_once);
	loop_run(&loop);
	queue_op_fini(&op.op);
	queue_job_fini(&glibc);
	open_with(standard, N_ELEMENTS(standard));
	assert_counts(N, 0, 0, 0, 0, 1);
	assert_counts_survive();
}

/* ---- what is believed ----------------------------------------------------------------------------- */

static struct queue_read believed;

static void on_believed(struct queue_read *read)
{
	(void)read;
}

static void read_believed_after(int64_t after_id, size_t n_max)
{
	believed = (struct queue_read){
		.verb = QUEUE_BELIEVED, .cache = "main", .after_id = after_id, .n_max = n_max
	};
	queue_read_start(queue, &believed, on_believed);
	loop_run(&loop);
	if (believed.err.kind != ERROR_NONE)
		fail_msg("%s", believed.err.text);
}

static bool is_known(int path, uint64_t caches)
{
	const char *const paths[] = { P(path) };
	bool known = false;
	struct queue_known op = {
		.now_unix_s = now, .caches = caches, .paths = paths, .n_paths = 1, .is_known = &known
	};

	must_run(&op.op, QUEUE_KNOWN);
	return known;
}

static void what_is_believed_to_be_there_is_read_in_pages_until_it_is_doubted(void **state)
{
	const struct node nodes[] = { { .path = 1 },
		                      { .path = 2, .refs = { 1 } },
		                      { .path = 3, .refs = { 1, 3 } } };
	const char *const doubted[] = { P(2), P(1) };
	struct queue_doubt doubt = { .cache = MAIN, .paths = doubted, .n_paths = 2 };
	struct queue_job job;
	(void)state;

	push_with(nodes, 3, (struct page_options){ .caches = 1 });
	job = take(1);
	finish_at(&job, JOB_IN_UPSTREAM, NIXOS);
	upload(2);
	upload(3);
	read_believed_after(0, 1);
	assert_int_equal(believed.n_total, 2); /* what an upstream has is not there */
	assert_int_equal(believed.n_beliefs, 1);
	assert_string_equal(believed.beliefs[0].info.path, P(2));
	assert_true(believed.beliefs[0].was_uploaded);
	assert_int_equal(believed.beliefs[0].info.n_references, 1);
	assert_string_equal(believed.beliefs[0].info.references[0], P(1));
	{
		int64_t last = believed.last_id;

		queue_read_fini(&believed);
		read_believed_after(last, 10);
	}
	assert_int_equal(believed.n_beliefs, 1);
	assert_string_equal(believed.beliefs[0].info.path, P(3));
	assert_int_equal(believed.beliefs[0].info.n_references, 2); /* itself, too */
	queue_read_fini(&believed);

	must_run(&doubt.op, QUEUE_DOUBT);
	read_believed_after(0, 10);
	assert_int_equal(believed.n_beliefs, 1);
	queue_read_fini(&believed);
	/* What the upstream was said to have is doubted, too: nothing may be published on the word of it. */
	push_with(&(const struct node){ .path = 4, .refs = { 1 } }, 1, (struct page_options){ .caches = 1 });
	assert_int_equal(claim_from(MAIN, &job, 1), 1);
	assert_int_equal(publish(&job), PUBLISH_LATER);
	queue_job_fini(&job);
}

static void a_path_is_known_that_was_handed_over_or_has_a_job_or_is_there(void **state)
{
	const struct node nodes[] = { { .path = 1 }, { .path = 2, .refs = { 1 } } };
	(void)state;

	assert_false(is_known(2, 1));
	push_with(nodes, 2, (struct page_options){ .caches = 1 });
	assert_true(is_known(2, 3)); /* handed over: for whatever cache */
	assert_true(is_known(1, 1));
	assert_false(is_known(1, 3));
	upload(1);
	assert_true(is_known(1, 1));
	assert_false(is_known(1, 1 << OTHER));
	assert_false(is_known(7, 1));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_hand_over_is_there_after_a_restart),
		TEST(adds_of_one_turn_share_few_commits),
		TEST(a_path_that_is_queued_already_is_not_new),
		TEST(roots_are_claimed_by_rank_and_wait_for_their_time),
		TEST(a_root_is_put_off_by_no_clock_for_longer_than_two_hours),
		TEST(a_root_handed_over_again_leaves_the_one_alone_that_is_put_off),
		TEST(a_derivation_gives_place_to_its_outputs),
		TEST(jobs_come_by_rank_then_layer_then_size),
		TEST(a_claimed_job_carries_what_is_known_of_its_path),
		TEST(a_diamond_is_published_bottom_up_whatever_is_sent_first),
		TEST(what_an_upstream_has_counts_for_its_cache_alone),
		TEST(a_nar_that_lies_longer_than_it_is_trusted_is_sent_again),
		TEST(presence_that_ran_out_is_asked_for_again),
		TEST(a_reference_without_a_job_sends_the_root_back_to_be_resolved),
		TEST(what_waits_goes_on_when_its_root_is_resolved_and_all_is_there),
		TEST(a_root_sent_back_while_it_is_resolved_is_resolved_once_more),
		TEST(what_fails_blocks_what_needs_it_and_retry_frees_all),
		TEST(a_failed_path_handed_over_again_is_tried_again),
		TEST(a_deferred_job_waits_for_its_time_and_counts_its_attempts),
		TEST(no_job_is_put_off_for_longer_than_two_hours),
		TEST(a_path_that_waits_for_its_time_is_not_sooner_for_being_handed_over_again),
		TEST(what_a_put_left_comes_with_its_job_until_the_nar_is_sent),
		TEST(what_a_put_left_that_found_its_nar_there_is_a_leftover),
		TEST(so_it_is_if_the_job_is_done_by_that),
		TEST(what_a_forgotten_put_left_stays_until_somebody_took_it_away),
		TEST(a_put_that_left_nothing_leaves_nothing_when_it_is_forgotten),
		TEST(what_was_left_on_a_removed_cache_waits_a_month_for_it_to_come_back),
		TEST(a_queue_of_the_first_schema_is_migrated_with_all_that_is_in_it),
		TEST(a_released_claim_can_be_claimed_again),
		TEST(a_claim_wakes_what_a_person_had_to_mend_something_for),
		TEST(a_claim_passes_over_what_it_is_told_to),
		TEST(what_is_done_is_not_done_again_while_it_is_fresh_unless_forced_or_a_root),
		TEST(what_was_asked_for_and_is_gone_counts_as_gone),
		TEST(a_path_built_again_starts_anew),
		TEST(a_withheld_path_keeps_back_what_needs_it_and_releases_the_root),
		TEST(one_in_flight_that_needs_a_withheld_path_is_withheld_when_it_publishes),
		TEST(a_path_moves_while_one_of_its_caches_can_go_on_by_itself),
		TEST(a_root_is_done_only_when_all_its_caches_are),
		TEST(a_root_whose_jobs_another_root_took_over_still_ends),
		TEST(a_root_whose_done_job_another_root_starts_again_still_ends),
		TEST(a_root_whose_pruned_job_another_root_makes_again_still_ends),
		TEST(an_operation_that_fails_changes_nothing),
		TEST(a_listing_goes_through_all_pages_and_ends_with_the_roots),
		TEST(a_listing_shows_one_state_and_one_cache),
		TEST(show_says_why_a_path_is_held_up),
		TEST(causes_come_with_the_most_frequent_first),
		TEST(a_wait_counts_the_closures_of_what_it_waits_for),
		TEST(the_summary_counts_what_is_pinned),
		TEST(a_removed_cache_blocks_its_jobs_until_it_is_back),
		TEST(a_cache_that_became_an_upstream_blocks_its_jobs_until_it_is_one_again),
		TEST(a_cache_that_is_an_upstream_as_well_keeps_its_name),
		TEST(a_cache_that_came_and_went_before_its_jobs_went_on_keeps_them_blocked),
		TEST(a_page_that_comes_after_its_cache_went_leaves_nothing_ready),
		TEST(a_root_meant_for_a_removed_cache_alone_waits_for_it),
		TEST(a_forgotten_path_goes_and_blocks_what_needs_it),
		TEST(forgetting_all_counts_each_once_whatever_the_order),
		TEST(a_root_ends_when_another_takes_over_what_failed_of_it),
		TEST(what_only_a_forgotten_root_needed_goes_with_it),
		TEST(what_a_forgotten_root_left_goes_though_it_was_queued_in_another_order),
		TEST(a_new_root_has_not_the_number_of_one_whose_jobs_are_there),
		TEST(a_new_root_has_not_the_number_of_a_forgotten_one_that_is_resolved),
		TEST(what_a_forgotten_root_left_is_blocked_when_nobody_can_mend_it),
		TEST(what_a_forgotten_root_left_is_mended_by_another_root_of_its_path),
		TEST(what_a_forgotten_root_left_waiting_is_mended_by_another_root_of_its_path),
		TEST(what_was_in_flight_is_mended_by_the_root_of_what_needs_it),
		TEST(what_was_in_flight_goes_with_the_root_of_what_needs_it),
		TEST(what_was_forgotten_with_the_root_of_what_needs_it_is_mended_by_its_heir),
		TEST(forgetting_what_failed_leaves_the_rest_and_what_is_in_flight),
		TEST(what_a_forgotten_root_left_is_mended_by_a_root_that_is_meant_for_its_cache),
		TEST(forgetting_what_failed_leaves_what_only_needs_it),
		TEST(forgetting_on_one_cache_leaves_the_other),
		TEST(forgetting_a_path_handed_over_often_ends_all_its_roots),
		TEST(forgetting_thousands_goes_in_pages),
		TEST(a_pause_is_durable),
		TEST(the_end_of_a_pause_is_told_when_it_is_over),
		TEST(a_root_that_another_closure_holds_ends_with_its_job),
		TEST(a_page_that_holds_another_root_says_its_size_to_that_one),
		TEST(retry_makes_roots_and_delayed_jobs_go_on),
		TEST(what_is_unfinished_explains_a_gc_root),
		TEST(what_is_known_of_a_gc_root_says_for_which_caches_it_was),
		TEST(roots_are_given_up_when_stuck_too_long_or_when_the_disk_is_full),
		TEST(roots_are_given_up_by_priority_then_age_and_as_many_as_asked_for),
		TEST(history_goes_in_pages_and_leaves_what_is_unfinished),
		TEST(the_store_can_correct_what_it_said),
		TEST(a_second_owner_and_a_newer_schema_are_refused),
		TEST(damage_is_final_when_it_is_met_looked_for_at_the_start_and_set_aside),
		TEST(the_check_behind_the_start_looks_at_every_table),
		TEST(every_listing_is_limited_and_so_is_the_check_of_a_table),
		TEST(a_listing_that_meets_damage_is_as_final),
		TEST(a_failed_fsync_is_final_and_answers_nobody_with_yes),
		TEST(a_full_disk_changes_nothing_and_passes),
		TEST(everything_of_a_large_store_ends_whatever_the_order),
		TEST(a_path_with_many_referrers_wakes_and_blocks_them_in_pages),
		TEST(pages_that_a_restart_cut_off_are_done_after_it),
		TEST(what_is_believed_to_be_there_is_read_in_pages_until_it_is_doubted),
		TEST(a_path_is_known_that_was_handed_over_or_has_a_job_or_is_there),
	};

	faulty_vfs_install();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
