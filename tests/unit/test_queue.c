/* queue: what is acknowledged is there after a restart, nothing is published before what it refers to,
 * and everything that can end does. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "daemon/db/stmt.h"
#include "daemon/queue/queue.h"
#include "tests/unit/test.h"

/* ---- a driver that runs operations one by one */

enum { MAIN, OTHER, NIXOS };
#define DAY 86400

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
	assert_int_equal(try_open(endpoints, n), 0);
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

static int64_t claim_root(int *ret_path)
{
	struct queue_claim_roots op = { .now_unix_s = now, .n_max = 1 };
	int64_t id = 0;

	must_run(&op.op, QUEUE_CLAIM_ROOTS);
	if (op.n_roots == 1) {
		id = op.roots[0].id;
		if (ret_path != NULL)
			*ret_path = number_of(op.roots[0].path);
	}
	queue_op_fini(&op.op);
	return id;
}

struct page_options {
	uint64_t caches, ask_first;
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
			                      .is_root = i == n - 1 };
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

static void defer_until(struct queue_job *job, int64_t not_before)
{
	struct error fault;
	struct queue_defer op = { .now_unix_s = now,
		                  .job = job,
		                  .fault = &fault,
		                  .not_before_unix_s = not_before,
		                  .counts = true };

	error_set(&fault, ERROR_TRANSIENT, "HTTP 503");
	must_run(&op.op, QUEUE_DEFER);
	queue_job_fini(job);
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
	assert_int_equal(page(root, (const struct node[]){ { .path = 1 }, { .path = 2, .refs = { 1 } } }, 2,
	                      (struct page_options){ 0 }),
	                 0);
	end_root(root, ROOT_QUEUED, NULL);
	upload(1);
	upload(2);
	assert_string_equal(released, "p2");
}

static void a_root_sent_back_while_it_is_resolved_is_resolved_once_more(void **state)
{
	struct queue_job job;
	int64_t root;
	(void)state;

	add(P(2));
	root = claim_root(NULL);
	assert_int_equal(page(root, (const struct node[]){ { .path = 2, .refs = { 1 } } }, 1,
	                      (struct page_options){ 0 }),
	                 0);
	job = take(2);
	assert_int_equal(publish(&job), PUBLISH_LATER);
	queue_job_fini(&job);
	end_root(root, ROOT_QUEUED, NULL);
	assert_int_equal(claim_root(NULL), root);
}

static void what_fails_blocks_what_needs_it_and_retry_frees_all(void **state)
{
	struct queue_job jobs[4];
	struct queue_retry retry = { .now_unix_s = now, .which = { .path = P(1) } };
	struct queue_read show = { .verb = QUEUE_SHOW, .path = P(4) };
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
	(void)show;
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

static void what_is_done_is_not_done_again_while_it_is_fresh_unless_forced(void **state)
{
	const struct node one = { .path = 1 };
	(void)state;

	PUSH({ .path = 1 });
	upload(1);
	PUSH({ .path = 1 });
	assert_string_equal(released, "p1"); /* done at once */
	assert_nothing_to_take();
	push_with(&one, 1, (struct page_options){ .force = true });
	upload(1);
	now += 2 * DAY;
	PUSH({ .path = 1 });
	upload(1);
	assert_counts(0, 0, 0, 0, 0, 1);
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

static void on_read_done(struct queue_read *read)
{
	(void)read;
}

static uint64_t count_moving(int path)
{
	const char *paths[] = { P(path) };
	struct queue_read read = { .verb = QUEUE_WAIT, .paths = paths, .n_paths = 1 };

	queue_read_start(queue, &read, on_read_done);
	loop_run(&loop);
	assert_int_equal(read.err.kind, ERROR_NONE);
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
	(void)state;

	/* 2 is there already, but 1 was asked for too; then 3 takes 1 over. */
	PUSH({ .path = 2 });
	upload(2);
	PUSH({ .path = 1 }, { .path = 2 });
	assert_int_equal(queue_root_count(queue, ROOT_QUEUED), 1);
	PUSH({ .path = 1 }, { .path = 3, .refs = { 1 } });
	assert_int_equal(queue_root_count(queue, ROOT_QUEUED), 1);
	assert_int_equal(n_released_later, 1);
	assert_string_equal(released_later[0], P(2));
	upload(1);
	upload(3);
	assert_string_equal(released, "p3");
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

/* ---- a store at random */

enum { N_RANDOM = 20000, N_CLAIMS = 32 };

static uint32_t random_state = 12345;
static uint32_t random_below(uint32_t n)
{
	random_state = random_state * 1664525u + 1013904223u;
	return (random_state >> 8) % n;
}

static void push_random_closure(void)
{
	static struct node nodes[32];
	int first = 1;

	while (first <= N_RANDOM) {
		size_t n = 0;

		for (; n < 32 && first <= N_RANDOM; n++, first++) {
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
	(void)state;

	push_random_closure();
	assert_int_equal(count(JOB_READY), N_RANDOM);
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
	assert_counts(0, 0, 0, 0, 0, N_RANDOM);
	assert_int_equal(queue_root_count(queue, ROOT_QUEUED), 0);
	assert_true(n_steps < 2 * N_RANDOM + 1);
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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_hand_over_is_there_after_a_restart),
		TEST(adds_of_one_turn_share_few_commits),
		TEST(a_path_that_is_queued_already_is_not_new),
		TEST(roots_are_claimed_by_rank_and_wait_for_their_time),
		TEST(a_derivation_gives_place_to_its_outputs),
		TEST(jobs_come_by_rank_then_layer_then_size),
		TEST(a_claimed_job_carries_what_is_known_of_its_path),
		TEST(a_diamond_is_published_bottom_up_whatever_is_sent_first),
		TEST(what_an_upstream_has_counts_for_its_cache_alone),
		TEST(presence_that_ran_out_is_asked_for_again),
		TEST(a_reference_without_a_job_sends_the_root_back_to_be_resolved),
		TEST(a_root_sent_back_while_it_is_resolved_is_resolved_once_more),
		TEST(what_fails_blocks_what_needs_it_and_retry_frees_all),
		TEST(a_failed_path_handed_over_again_is_tried_again),
		TEST(a_deferred_job_waits_for_its_time_and_counts_its_attempts),
		TEST(a_released_claim_can_be_claimed_again),
		TEST(what_is_done_is_not_done_again_while_it_is_fresh_unless_forced),
		TEST(a_path_built_again_starts_anew),
		TEST(a_withheld_path_keeps_back_what_needs_it_and_releases_the_root),
		TEST(one_in_flight_that_needs_a_withheld_path_is_withheld_when_it_publishes),
		TEST(a_path_moves_while_one_of_its_caches_can_go_on_by_itself),
		TEST(a_root_is_done_only_when_all_its_caches_are),
		TEST(a_root_whose_jobs_another_root_took_over_still_ends),
		TEST(an_operation_that_fails_changes_nothing),
		TEST(everything_of_a_large_store_ends_whatever_the_order),
		TEST(a_path_with_many_referrers_wakes_and_blocks_them_in_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
