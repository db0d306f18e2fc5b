/* What integration tests would wait too long for: killed while the history is pruned. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "daemon/queue/queue.h"
#include "tests/unit/test.h"

#define N_DONE 3
#define DAY    86400

static char dir[64], db_path[96];
static struct loop loop;
static struct queue *queue;

static void on_fatal(void *ctx, const struct error *err)
{
	(void)ctx;
	fail_msg("%s", err->text);
}

static void on_change(void *ctx, uint64_t caches, bool roots)
{
	(void)ctx;
	(void)caches;
	(void)roots;
}

static void open_queue(void)
{
	static const struct queue_endpoint cache = {
		.name = "main", .kind = "file", .identity = "file:///main", .presence_ttl_s = DAY
	};
	const struct queue_config config = { .path = db_path,
		                             .endpoints = &cache,
		                             .n_endpoints = 1,
		                             .on_fatal = on_fatal,
		                             .on_change = on_change };
	struct error err;

	assert_int_equal(loop_init(&loop, &err), 0);
	if (queue_open(&queue, &loop, &config, &err) < 0)
		fail_msg("%s", err.text);
}

static void close_queue(void)
{
	queue_close(queue, NULL, NULL);
	loop_run(&loop);
	loop_fini(&loop);
}

static void on_done(struct queue_op *op)
{
	(void)op;
}

static void run(struct queue_op *op, enum queue_verb verb)
{
	op->verb = verb;
	queue_start(queue, op, on_done);
	loop_run(&loop);
	if (op->err.kind != ERROR_NONE)
		fail_msg("operation %d: %s", verb, op->err.text);
}

static void add(int number)
{
	char path[96];
	const struct queue_add_path paths[] = { { .path = path, .rank = 1 } };
	struct queue_add op = { .now_unix_s = clock_unix_s(), .paths = paths, .n_paths = 1 };

	snprintf(path, sizeof(path), "/nix/store/%032d-p%d", number, number);
	run(&op.op, QUEUE_ADD);
}

static void end_all(void)
{
	struct queue_claim_roots claim = { .now_unix_s = clock_unix_s(), .n_max = N_DONE };

	run(&claim.op, QUEUE_CLAIM_ROOTS);
	assert_int_equal(claim.n_roots, N_DONE);
	for (size_t i = 0; i < claim.n_roots; i++) {
		struct queue_end_root end = { .now_unix_s = clock_unix_s(),
			                      .root_id = claim.roots[i].id,
			                      .state = ROOT_DONE };

		run(&end.op, QUEUE_END_ROOT);
		queue_op_fini(&end.op);
	}
	queue_op_fini(&claim.op);
}

static bool prune(void)
{
	struct queue_prune op = { .before_unix_s = clock_unix_s() + DAY };

	run(&op.op, QUEUE_PRUNE);
	return op.more;
}

/* Never comes back from the last line. */
static void prune_and_die(void)
{
	setenv("NNCACHE_CRASH_AT", "PRUNE_UNCOMMITTED", 1);
	open_queue();
	for (int i = 0; i < N_DONE; i++)
		add(1 + i);
	end_all();
	add(100);
	prune();
	_exit(EXIT_SUCCESS);
}

static void killed_while_pruning_the_history_is_as_it_was(void **state)
{
	int status;
	pid_t pid = fork();
	(void)state;

	assert_true(pid >= 0);
	if (pid == 0)
		prune_and_die();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);

	open_queue();
	assert_int_equal(queue_root_count(queue, ROOT_DONE), N_DONE);
	assert_int_equal(queue_root_count(queue, ROOT_RESOLVING), 1);
	while (prune())
		;
	close_queue();
	open_queue();
	assert_int_equal(queue_root_count(queue, ROOT_DONE), 0);
	assert_int_equal(queue_root_count(queue, ROOT_RESOLVING), 1);
	close_queue();
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/nncache-test-kill-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(db_path, sizeof(db_path), "%s/queue.db", dir);
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = { "", "-wal", "-shm", ".lock" };
	char file[160];
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(names); i++) {
		snprintf(file, sizeof(file), "%s%s", db_path, names[i]);
		unlink(file);
	}
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(killed_while_pruning_the_history_is_as_it_was, setup,
		                                teardown),
	};

	return cmocka_run_group_tests_name("kill", tests, NULL, NULL);
}
