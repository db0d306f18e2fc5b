/* loop: posts, timers, lanes and workers keep the async contract. */
#include <string.h>

#include "daemon/loop/lane.h"
#include "daemon/loop/timer.h"
#include "daemon/loop/work.h"
#include "tests/unit/test.h"

static struct loop loop;
static int n_called;

static void count_post(struct loop_post *post)
{
	(void)post;
	n_called++;
}

static struct loop_post first, second;

static void take_second_back(struct loop_post *post)
{
	count_post(post);
	loop_unpost(&loop, &second);
	loop_post(&loop, post, count_post);
}

static void a_post_runs_later_once_and_can_be_taken_back(void **state)
{
	struct error err;
	(void)state;

	n_called = 0;
	assert_int_equal(loop_init(&loop, &err), 0);
	loop_post(&loop, &first, take_second_back);
	loop_post(&loop, &first, take_second_back);
	loop_post(&loop, &second, count_post);
	assert_int_equal(n_called, 0);
	loop_run(&loop);
	assert_int_equal(n_called, 2);
	loop_fini(&loop);
}

struct number {
	struct lane_job job;
	int value;
	bool ran;
};

static size_t n_batches, n_done;

static void run_numbers(void *ctx, unsigned thread, struct lane_job *batch)
{
	int *last = ctx;
	(void)thread;

	n_batches++;
	for (; batch != NULL; batch = batch->next) {
		struct number *n = CONTAINER_OF(batch, struct number, job);

		assert_int_equal(n->value, *last + 1);
		*last = n->value;
		n->ran = true;
	}
}

static void on_number(struct lane_job *job)
{
	struct number *n = CONTAINER_OF(job, struct number, job);

	assert_true(n->ran);
	n_done++;
}

static void on_lane_closed(void *ctx)
{
	*(bool *)ctx = true;
}

static void a_lane_runs_jobs_in_order_and_gathers_what_waits(void **state)
{
	static const struct lane_ops ops = { .run_batch = run_numbers };
	static struct number numbers[1000];
	struct lane *lane = NULL;
	struct error err;
	bool closed = false;
	int last = -1;
	(void)state;

	assert_int_equal(loop_init(&loop, &err), 0);
	assert_int_equal(lane_open(&lane, &loop, "test", 1, 100, &ops, &last, &err), 0);
	for (int i = 0; i < 1000; i++) {
		numbers[i].value = i;
		lane_post(lane, &numbers[i].job, on_number);
	}
	assert_int_equal(n_done, 0);
	lane_close(lane, on_lane_closed, &closed);
	loop_run(&loop);
	assert_int_equal(n_done, 1000);
	assert_true(n_batches >= 10);
	assert_true(closed);
	loop_fini(&loop);
}

static void on_fire(struct timer *timer)
{
	n_called++;
	timer_close(timer, NULL);
}

static void a_timer_set_twice_fires_once(void **state)
{
	struct timer timer;
	struct error err;
	(void)state;

	n_called = 0;
	assert_int_equal(loop_init(&loop, &err), 0);
	timer_init(&timer, &loop, on_fire);
	timer_set(&timer, 100000);
	timer_set(&timer, 1);
	assert_true(timer_is_set(&timer));
	loop_run(&loop);
	assert_int_equal(n_called, 1);
	loop_fini(&loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_post_runs_later_once_and_can_be_taken_back),
		cmocka_unit_test(a_lane_runs_jobs_in_order_and_gathers_what_waits),
		cmocka_unit_test(a_timer_set_twice_fires_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
