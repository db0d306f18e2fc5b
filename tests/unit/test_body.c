/* body: room is given in order and given back, bytes are read as they were written, and the last of
 * them stay hidden until the end. */
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/body/body.h"
#include "daemon/loop/work.h"
#include "tests/unit/test.h"

#define IN_BLOCKS (BODY_BLOCKS_MAX * BODY_BLOCK_BYTES)

static struct loop loop;
static struct body_pool *pool;
static char tmp_dir[64];

static int open_pool(uint64_t memory_bytes, uint64_t tmp_bytes)
{
	struct error err;

	strcpy(tmp_dir, "/tmp/nncache-body-XXXXXX");
	if (mkdtemp(tmp_dir) == NULL || loop_init(&loop, &err) < 0)
		return -1;
	return body_pool_open(&pool, &loop, memory_bytes, tmp_dir, tmp_bytes, &err);
}

static int open_large_pool(void **state)
{
	(void)state;
	return open_pool(MIB(64), MIB(32));
}

static int open_small_pool(void **state)
{
	(void)state;
	return open_pool(0, MIB(4));
}

static int close_pool(void **state)
{
	(void)state;
	body_pool_close(pool);
	loop_fini(&loop);
	/* fails if a temporary file was left in it */
	return rmdir(tmp_dir);
}

static struct body_reserve *order[8];
static size_t n_order;

static void on_reserved(struct body_reserve *req)
{
	order[n_order++ % N_ELEMENTS(order)] = req;
}

static struct body *reserve(uint64_t bound_bytes)
{
	struct body_reserve req;
	size_t n = n_order;

	body_reserve_start(pool, &req, bound_bytes, on_reserved);
	assert_int_equal(n_order, n);
	loop_run(&loop);
	assert_int_equal(n_order, n + 1);
	assert_int_equal(req.err.kind, ERROR_NONE);
	assert_non_null(req.body);
	return req.body;
}

/* What byte I of every body here is. */
static unsigned char byte_at(uint64_t i)
{
	return (unsigned char)((i * 2654435761U) >> 13 ^ i >> 20);
}

/* Appends the next N_BYTES behind AT, in pieces of an odd size. */
static void append(struct body *body, uint64_t at, uint64_t n_bytes)
{
	unsigned char piece[99991];
	struct error err;

	for (uint64_t end = at + n_bytes; at < end;) {
		size_t n = end - at < sizeof(piece) ? (size_t)(end - at) : sizeof(piece);

		for (size_t i = 0; i < n; i++)
			piece[i] = byte_at(at + i);
		assert_int_equal(body_append(body, piece, n, &err), 0);
		at += n;
	}
}

/* Reads all there is behind *AT and compares it. */
static void follow(struct body *body, uint64_t *at, size_t n_piece)
{
	unsigned char *piece = malloc(n_piece);
	struct error err;
	ssize_t n;

	assert_non_null(piece);
	while ((n = body_read(body, *at, piece, n_piece, &err)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			if (piece[i] != byte_at(*at + (uint64_t)i))
				fail_msg("byte %ju differs", (uintmax_t)(*at + (uint64_t)i));
		*at += (uint64_t)n;
	}
	assert_int_equal(n, 0);
	free(piece);
}

static void two_readers_of_different_speed_read_the_same_body(void **state)
{
	struct body *body = reserve(MIB(20));
	uint64_t fast = 0, slow = 0;
	(void)state;

	for (uint64_t at = 0; at < MIB(12); at += MIB(1)) {
		append(body, at, MIB(1));
		body_publish(body);
		follow(body, &fast, 65536);
		assert_true(fast < at + MIB(1));
		assert_int_equal(fast, body_readable_bytes(body));
		if (at == MIB(4))
			follow(body, &slow, 1000);
	}
	append(body, MIB(12), 5);
	body_end(body);
	assert_int_equal(body_state(body), BODY_ENDED);
	follow(body, &fast, 65536);
	follow(body, &slow, MIB(3));
	assert_int_equal(fast, MIB(12) + 5);
	assert_int_equal(slow, MIB(12) + 5);
	body_unref(body);
}

static void the_last_bytes_stay_hidden_until_the_end(void **state)
{
	struct body *body = reserve(MIB(2));
	struct error err;
	char data[100];
	(void)state;

	append(body, 0, 100);
	assert_int_equal(body_read(body, 0, data, sizeof(data), &err), 0);
	body_publish(body);
	assert_int_equal(body_readable_bytes(body), 0);
	assert_int_equal(body_read(body, 0, data, sizeof(data), &err), 0);
	assert_null(body_get_whole(body));
	append(body, 100, MIB(1));
	body_publish(body);
	assert_in_range(body_readable_bytes(body), 1, MIB(1) + 99);
	body_end(body);
	assert_int_equal(body_readable_bytes(body), MIB(1) + 100);
	body_unref(body);
}

static void a_small_body_can_be_had_as_one_piece(void **state)
{
	struct body *body = reserve(MIB(8));
	const unsigned char *whole;
	(void)state;

	append(body, 0, MIB(1));
	body_end(body);
	whole = body_get_whole(body);
	assert_non_null(whole);
	assert_int_equal(whole[MIB(1) - 1], byte_at(MIB(1) - 1));
	body_unref(body);

	body = reserve(MIB(8));
	append(body, 0, MIB(1) + 1);
	body_end(body);
	assert_null(body_get_whole(body));
	body_unref(body);

	body = reserve(0);
	body_end(body);
	assert_non_null(body_get_whole(body));
	assert_int_equal(body_readable_bytes(body), 0);
	body_unref(body);
}

static void more_than_the_bound_is_refused(void **state)
{
	struct body *body = reserve(1000);
	struct error err;
	char data[1001] = { 0 };
	(void)state;

	assert_int_equal(body_append(body, data, 1000, &err), 0);
	assert_int_equal(body_append(body, data, 1, &err), -1);
	assert_int_equal(err.kind, ERROR_PERMANENT);
	body_fail(body, &err);
	body_unref(body);
}

static size_t count_files(const char *dir)
{
	DIR *stream = opendir(dir);
	size_t n = 0;

	assert_non_null(stream);
	while (readdir(stream) != NULL)
		n++;
	closedir(stream);
	return n - 2;
}

static void what_blocks_do_not_hold_lies_in_a_file_without_a_name(void **state)
{
	struct body *body = reserve(MIB(20));
	uint64_t at = 0;
	size_t n_fds = count_files("/proc/self/fd");
	(void)state;

	append(body, 0, IN_BLOCKS);
	assert_int_equal(count_files("/proc/self/fd"), n_fds);
	append(body, IN_BLOCKS, MIB(12));
	assert_int_equal(count_files("/proc/self/fd"), n_fds + 1);
	assert_int_equal(count_files(tmp_dir), 0);
	body_end(body);
	/* across the border in one piece */
	at = IN_BLOCKS - 10;
	follow(body, &at, MIB(4));
	assert_int_equal(at, MIB(20));
	body_unref(body);
	assert_int_equal(count_files("/proc/self/fd"), n_fds);
}

static void a_temporary_directory_that_is_gone_is_said_and_nothing_breaks(void **state)
{
	struct body *body = reserve(MIB(20));
	struct error err;
	char byte = 'x';
	(void)state;

	append(body, 0, IN_BLOCKS);
	assert_int_equal(rmdir(tmp_dir), 0);
	assert_int_equal(body_append(body, &byte, 1, &err), -1);
	assert_int_equal(err.kind, ERROR_TRANSIENT);
	assert_non_null(strstr(err.text, tmp_dir));
	body_fail(body, &err);
	body_unref(body);
	assert_int_equal(mkdir(tmp_dir, 0700), 0);
}

static void an_empty_file_of_an_earlier_life_goes_and_no_other(void **state)
{
	struct body_pool *second = NULL;
	struct error err;
	char command[512];
	(void)state;

	snprintf(command, sizeof(command),
	         "cd %s && touch nncache-aB3dE6 nncache-1 queue.db && echo >nncache-aB3dE7", tmp_dir);
	assert_int_equal(system(command), 0);
	assert_int_equal(body_pool_open(&second, &loop, MIB(8), tmp_dir, MIB(8), &err), 0);
	body_pool_close(second);
	snprintf(command, sizeof(command),
	         "cd %s && test ! -e nncache-aB3dE6 && rm nncache-1 queue.db nncache-aB3dE7", tmp_dir);
	assert_int_equal(system(command), 0);
}

static void room_is_given_in_the_order_of_asking(void **state)
{
	struct body_reserve a, b, c, d;
	(void)state;

	n_order = 0;
	body_reserve_start(pool, &a, MIB(5), on_reserved);
	body_reserve_start(pool, &b, MIB(4), on_reserved); /* does not fit beside a */
	body_reserve_start(pool, &c, MIB(1), on_reserved); /* would fit, but b was first */
	body_reserve_start(pool, &d, MIB(5), on_reserved);
	assert_int_equal(n_order, 0);
	loop_run(&loop);
	assert_int_equal(n_order, 1);
	assert_ptr_equal(order[0], &a);
	assert_int_equal(body_pool_memory_in_use_bytes(pool), MIB(5));
	body_unref(a.body);
	loop_run(&loop);
	assert_int_equal(n_order, 3);
	assert_ptr_equal(order[1], &b);
	assert_ptr_equal(order[2], &c);
	body_unref(c.body);
	loop_run(&loop);
	assert_int_equal(n_order, 3);
	body_unref(b.body);
	loop_run(&loop);
	assert_ptr_equal(order[3], &d);
	body_unref(d.body);
	assert_int_equal(body_pool_memory_in_use_bytes(pool), 0);
}

static void what_was_not_needed_is_given_back_at_the_end(void **state)
{
	struct body_reserve a, b;
	(void)state;

	n_order = 0;
	body_reserve_start(pool, &a, IN_BLOCKS + MIB(4), on_reserved);
	body_reserve_start(pool, &b, MIB(6), on_reserved);
	loop_run(&loop);
	assert_int_equal(n_order, 1);
	append(a.body, 0, MIB(1) + 1);
	body_end(a.body);
	assert_int_equal(body_pool_memory_in_use_bytes(pool), MIB(8));
	loop_run(&loop);
	assert_int_equal(n_order, 2);
	body_unref(b.body);
	body_unref(a.body);
}

static void who_waits_for_temporary_space_is_passed_by_those_that_need_none(void **state)
{
	struct body_reserve a, b, c, d;
	(void)state;

	/* 64 MiB of memory, 32 MiB of space */
	n_order = 0;
	body_reserve_start(pool, &a, IN_BLOCKS + MIB(30), on_reserved);
	body_reserve_start(pool, &b, IN_BLOCKS + MIB(10), on_reserved);
	body_reserve_start(pool, &c, IN_BLOCKS + MIB(1), on_reserved); /* would fit, but b was first */
	body_reserve_start(pool, &d, MIB(1), on_reserved);
	loop_run(&loop);
	assert_int_equal(n_order, 2);
	assert_ptr_equal(order[0], &a);
	assert_ptr_equal(order[1], &d);
	body_unref(a.body);
	loop_run(&loop);
	assert_int_equal(n_order, 4);
	assert_ptr_equal(order[2], &b);
	assert_ptr_equal(order[3], &c);
	body_unref(b.body);
	body_unref(c.body);
	body_unref(d.body);
}

static void who_needs_more_than_the_temporary_space_goes_beside_it_and_holds_up_nobody(void **state)
{
	struct body_reserve a, huge, c, large;
	(void)state;

	/* 64 MiB of memory, 32 MiB of space, of which one body may have 20 */
	n_order = 0;
	body_pool_set_largest(pool, MIB(20));
	body_reserve_start(pool, &a, IN_BLOCKS + MIB(20), on_reserved);
	body_reserve_start(pool, &huge, IN_BLOCKS + MIB(200), on_reserved);
	body_reserve_start(pool, &c, IN_BLOCKS + MIB(12), on_reserved);
	body_reserve_start(pool, &large, IN_BLOCKS + MIB(20) + 1, on_reserved);
	loop_run(&loop);
	assert_int_equal(n_order, 4);
	assert_int_equal(huge.err.kind, ERROR_NONE);
	assert_int_equal(large.err.kind, ERROR_NONE);
	append(huge.body, 0, IN_BLOCKS + MIB(1));
	body_end(huge.body);
	body_unref(huge.body);
	body_unref(large.body);
	body_unref(a.body);
	body_reserve_start(pool, &a, IN_BLOCKS + MIB(20), on_reserved);
	loop_run(&loop);
	assert_int_equal(n_order, 5);
	body_unref(a.body);
	body_unref(c.body);
}

static uint64_t free_bytes(void)
{
	struct statvfs st;

	assert_int_equal(statvfs(tmp_dir, &st), 0);
	return (uint64_t)st.f_bavail * st.f_frsize;
}

static void who_finds_the_disk_promised_to_another_waits_for_that_alone(void **state)
{
	struct body_reserve huge, second, small;
	(void)state;

	n_order = 0;
	body_reserve_start(pool, &huge, free_bytes() / 8 * 5, on_reserved);
	body_reserve_start(pool, &second, free_bytes() / 8 * 5, on_reserved);
	body_reserve_start(pool, &small, IN_BLOCKS + MIB(32), on_reserved);
	loop_run(&loop);
	assert_int_equal(n_order, 2);
	assert_ptr_equal(order[0], &huge);
	assert_ptr_equal(order[1], &small);
	body_unref(huge.body);
	loop_run(&loop);
	assert_int_equal(n_order, 3);
	assert_int_equal(second.err.kind, ERROR_NONE);
	body_unref(second.body);
	body_unref(small.body);
}

static void more_than_the_disk_has_is_refused_at_once(void **state)
{
	struct body_reserve req;
	(void)state;

	n_order = 0;
	body_reserve_start(pool, &req, UINT64_C(1) << 60, on_reserved);
	assert_int_equal(n_order, 0);
	loop_run(&loop);
	assert_int_equal(n_order, 1);
	assert_null(req.body);
	assert_int_equal(req.err.kind, ERROR_TRANSIENT);
	assert_non_null(strstr(req.err.text, tmp_dir));
}

static void a_canceled_reservation_is_answered_and_holds_up_nobody(void **state)
{
	struct body_reserve a, b, c;
	(void)state;

	n_order = 0;
	body_reserve_start(pool, &a, MIB(8), on_reserved);
	body_reserve_start(pool, &b, MIB(8), on_reserved);
	body_reserve_start(pool, &c, MIB(1), on_reserved);
	body_reserve_cancel(&b);
	body_reserve_cancel(&a); /* granted, but not told */
	assert_int_equal(n_order, 0);
	loop_run(&loop);
	assert_int_equal(n_order, 3);
	assert_int_equal(a.err.kind, ERROR_CANCELED);
	assert_null(a.body);
	assert_int_equal(b.err.kind, ERROR_CANCELED);
	assert_null(b.body);
	assert_int_equal(c.err.kind, ERROR_NONE);
	body_unref(c.body);
}

struct watcher {
	struct body_watch watch;
	struct watcher *other;
	struct body *body;
	int n_called;
};

static void on_changed(struct body_watch *watch)
{
	struct watcher *w = CONTAINER_OF(watch, struct watcher, watch);

	w->n_called++;
}

static void take_both_away(struct body_watch *watch)
{
	struct watcher *w = CONTAINER_OF(watch, struct watcher, watch);

	w->n_called++;
	body_unwatch(&w->watch);
	body_unwatch(&w->other->watch);
}

static void a_watch_is_called_when_there_is_more_and_at_the_end(void **state)
{
	struct body *body = reserve(MIB(2));
	struct watcher a = { 0 }, b = { 0 };
	(void)state;

	body_watch(body, &a.watch, on_changed);
	body_watch(body, &b.watch, on_changed);
	append(body, 0, 10);
	body_publish(body); /* all held back: nothing new to see */
	assert_int_equal(a.n_called, 0);
	append(body, 10, MIB(1));
	body_publish(body);
	assert_int_equal(a.n_called, 1);
	body_publish(body);
	assert_int_equal(a.n_called, 1);
	body_unwatch(&b.watch);
	body_unwatch(&b.watch);
	body_end(body);
	assert_int_equal(a.n_called, 2);
	assert_int_equal(b.n_called, 1);
	body_unwatch(&a.watch);
	body_unref(body);
}

static void a_watch_may_take_itself_and_others_away_when_called(void **state)
{
	struct body *body = reserve(1);
	struct watcher a = { 0 }, b = { .other = &a };
	(void)state;

	a.other = &b;
	body_watch(body, &a.watch, take_both_away);
	body_watch(body, &b.watch, take_both_away);
	body_end(body);
	assert_int_equal(a.n_called + b.n_called, 1);
	body_unref(body);
}

static void unref_in_watch(struct body_watch *watch)
{
	struct watcher *w = CONTAINER_OF(watch, struct watcher, watch);

	body_unwatch(&w->watch);
	body_unref(w->body);
	w->n_called++;
}

static void the_last_reference_may_go_while_watches_are_called(void **state)
{
	struct body *body = reserve(MIB(1));
	struct watcher a = { .body = body };
	struct error err;
	(void)state;

	body_watch(body, &a.watch, unref_in_watch);
	error_set(&err, ERROR_CANCELED, "canceled");
	body_fail(body, &err);
	assert_int_equal(a.n_called, 1);
	assert_int_equal(body_pool_memory_in_use_bytes(pool), 0);
}

static void readers_of_a_failed_body_learn_why_and_never_see_its_last_bytes(void **state)
{
	struct body *body = reserve(MIB(2));
	struct watcher a = { 0 };
	struct error err;
	uint64_t at = 0;
	(void)state;

	body_watch(body, &a.watch, on_changed);
	append(body, 0, MIB(1));
	body_publish(body);
	error_set(&err, ERROR_PERMANENT, "it differs");
	body_fail(body, &err);
	assert_int_equal(a.n_called, 2);
	assert_int_equal(body_state(body), BODY_FAILED);
	assert_string_equal(body_error(body)->text, "it differs");
	follow(body, &at, 65536);
	assert_true(at > 0 && at < MIB(1));
	body_unwatch(&a.watch);
	body_unref(body);
}

/* A producer on workers and a reader on a thread of its own, at the same time. */
static struct {
	struct work work;
	struct body *body;
	uint64_t at;
} producer;

#define PRODUCED_BYTES (MIB(16) + 12345)

static void produce(struct work *work)
{
	(void)work;
	append(producer.body, producer.at, producer.at + MIB(1) < PRODUCED_BYTES ? MIB(1) : 12345);
}

static void on_produced(struct work *work)
{
	producer.at += MIB(1);
	if (producer.at > PRODUCED_BYTES) {
		body_end(producer.body);
		return;
	}
	body_publish(producer.body);
	work_start(&loop, work, produce, on_produced);
}

static void *read_all(void *ctx)
{
	uint64_t *at = ctx;

	while (*at < PRODUCED_BYTES)
		follow(producer.body, at, 300000);
	return NULL;
}

static void a_thread_may_read_while_a_worker_writes(void **state)
{
	pthread_t thread;
	uint64_t at = 0;
	(void)state;

	producer.body = reserve(PRODUCED_BYTES);
	producer.at = 0;
	assert_int_equal(pthread_create(&thread, NULL, read_all, &at), 0);
	work_start(&loop, &producer.work, produce, on_produced);
	loop_run(&loop);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(at, PRODUCED_BYTES);
	body_unref(producer.body);
}

#define LARGE(test) cmocka_unit_test_setup_teardown(test, open_large_pool, close_pool)
#define SMALL(test) cmocka_unit_test_setup_teardown(test, open_small_pool, close_pool)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LARGE(two_readers_of_different_speed_read_the_same_body),
		LARGE(the_last_bytes_stay_hidden_until_the_end),
		LARGE(a_small_body_can_be_had_as_one_piece),
		LARGE(more_than_the_bound_is_refused),
		LARGE(what_blocks_do_not_hold_lies_in_a_file_without_a_name),
		LARGE(a_temporary_directory_that_is_gone_is_said_and_nothing_breaks),
		LARGE(an_empty_file_of_an_earlier_life_goes_and_no_other),
		SMALL(room_is_given_in_the_order_of_asking),
		SMALL(what_was_not_needed_is_given_back_at_the_end),
		LARGE(who_waits_for_temporary_space_is_passed_by_those_that_need_none),
		LARGE(who_needs_more_than_the_temporary_space_goes_beside_it_and_holds_up_nobody),
		LARGE(who_finds_the_disk_promised_to_another_waits_for_that_alone),
		LARGE(more_than_the_disk_has_is_refused_at_once),
		SMALL(a_canceled_reservation_is_answered_and_holds_up_nobody),
		LARGE(a_watch_is_called_when_there_is_more_and_at_the_end),
		LARGE(a_watch_may_take_itself_and_others_away_when_called),
		LARGE(the_last_reference_may_go_while_watches_are_called),
		LARGE(readers_of_a_failed_body_learn_why_and_never_see_its_last_bytes),
		LARGE(a_thread_may_read_while_a_worker_writes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
