/* backend: caches in a directory and behind HTTP take a path as the seam promises, and tell their
 * faults apart. The same checks run against a directory, the test cache and nginx. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "daemon/backend/backend.h"
#include "daemon/format/narinfo.h"
#include "daemon/loop/timer.h"
#include "tests/support/servers.h"
#include "tests/unit/test.h"

#define STORE_DIR "/nix/store"
#define PATH_A    STORE_DIR "/00000000000000000000000000000000-a"
#define PATH_B    STORE_DIR "/11111111111111111111111111111111-b"
#define KEY_A     "00000000000000000000000000000000.narinfo"
#define NAR_A     "nar/aaaa.nar.zst"
#define LONG      (20 << 20)

static struct loop loop;
static struct http *http;
static struct body_pool *pool;
static struct backend *backend;
static struct test_server server;
static char tmp_dir[64];
static unsigned n_pending;

static void open_base(void)
{
	struct error err;

	n_pending = 0;
	scratch_make(tmp_dir);
	assert_int_equal(loop_init(&loop, &err), 0);
	assert_int_equal(http_open(&http, &loop, &err), 0);
	assert_int_equal(body_pool_open(&pool, &loop, MIB(64), tmp_dir, MIB(256), &err), 0);
}

static void close_base(void)
{
	backend_close(backend);
	backend = NULL;
	body_pool_close(pool);
	http_close(http, NULL, NULL);
	loop_run(&loop);
	loop_fini(&loop);
	scratch_remove(tmp_dir);
}

static struct cache_config config_of(enum cache_kind kind, char *url)
{
	static char name[] = "main";
	struct cache_config config = {
		.url = url, .kind = kind, .upload_jobs = 8, .stall_timeout_ms = 20000
	};

	config.name = name;
	return config;
}

static void open_config(const struct cache_config *config)
{
	struct error err;

	open_base();
	if (backend_open(&backend, &loop, http, config, STORE_DIR, &err) < 0)
		fail_msg("%s", err.text);
}

static void open_dir(const char *dir)
{
	char url[256];
	struct cache_config config = config_of(CACHE_FILE, url);

	snprintf(url, sizeof(url), "file://%s", dir);
	open_config(&config);
}

static void open_mode(const char *mode)
{
	char url[256];
	struct cache_config config = config_of(CACHE_HTTP, url);

	snprintf(url, sizeof(url), "http://127.0.0.1:%u/%s", server.port, mode);
	open_config(&config);
}

/* Ops */

struct trial {
	struct backend_op op;
	unsigned n_done;
};

static void on_trial(struct backend_op *op)
{
	CONTAINER_OF(op, struct trial, op)->n_done++;
	if (--n_pending == 0)
		loop_stop(&loop);
}

static struct backend_op *begin(struct trial *trial)
{
	*trial = (struct trial){ .op.done = on_trial };
	n_pending++;
	return &trial->op;
}

static void run(void)
{
	if (n_pending > 0)
		loop_run(&loop);
	assert_int_equal(n_pending, 0);
}

static void finish(struct trial *trial)
{
	assert_int_equal(trial->n_done, 0);
	run();
	assert_int_equal(trial->n_done, 1);
}

static void assert_good(const struct trial *trial)
{
	if (trial->op.err.kind != ERROR_NONE)
		fail_msg("%s", trial->op.err.text);
}

static void assert_fault(const struct trial *trial, enum error_kind kind, const char *words)
{
	if (trial->op.err.kind != kind || strstr(trial->op.err.text, words) == NULL)
		fail_msg("%s: %s; wanted %s with \"%s\"", error_kind_name(trial->op.err.kind),
		         trial->op.err.text, error_kind_name(kind), words);
}

static void prepare(struct trial *trial)
{
	backend->ops->prepare_start(backend, begin(trial));
	finish(trial);
}

static void find_info(struct trial *trial, const char *path)
{
	backend->ops->find_info_start(backend, begin(trial), path);
	finish(trial);
}

static struct path_info info_a = { .nar_size = 1000 };
static const struct backend_object object_a = { .info = &info_a, .nar_key = NAR_A, .compression = "zstd" };

static void find_nar(struct trial *trial)
{
	backend->ops->find_nar_start(backend, begin(trial), &object_a);
	finish(trial);
}

static void format_info(struct buf *text, const char *path)
{
	const struct narinfo_file file = { .url = NAR_A, .compression = "zstd", .file_size = 500 };
	struct path_info info = { .nar_size = 1000 };
	struct error err;

	info.path = strdup(path);
	buf_init(text, 10000);
	if (narinfo_format(text, &info, &file, &err) < 0)
		fail_msg("%s", err.text);
	free(info.path);
}

static void put_info(struct trial *trial)
{
	struct buf text;

	format_info(&text, PATH_A);
	backend->ops->put_info_start(backend, begin(trial), &object_a, buf_text(&text), text.len);
	finish(trial);
	buf_fini(&text);
}

/* Bodies: byte I is a function of I. */

static unsigned char byte_at(uint64_t i)
{
	return (unsigned char)(i * 7 + i / 251 + (i >> 20));
}

static void on_reserved(struct body_reserve *req)
{
	(void)req;
	loop_stop(&loop);
}

static struct body *body_of(uint64_t bound_bytes)
{
	struct body_reserve req = { 0 };

	body_reserve_start(pool, &req, bound_bytes, on_reserved);
	loop_run(&loop);
	assert_non_null(req.body);
	return req.body;
}

static void append(struct body *body, uint64_t from, uint64_t n_bytes)
{
	unsigned char *data = malloc(n_bytes + 1);
	struct error err;

	for (uint64_t i = 0; i < n_bytes; i++)
		data[i] = byte_at(from + i);
	assert_int_equal(body_append(body, data, n_bytes, &err), 0);
	free(data);
}

static struct body *body_full(uint64_t n_bytes)
{
	struct body *body = body_of(n_bytes);

	append(body, 0, n_bytes);
	body_end(body);
	return body;
}

/* A body that grows by itself, and then ends or fails. */
struct growth {
	struct timer timer;
	struct body *body;
	uint64_t at, size, fail_at;
};

static void on_grow(struct timer *timer)
{
	struct growth *g = CONTAINER_OF(timer, struct growth, timer);
	uint64_t n = g->size - g->at < MIB(3) ? g->size - g->at : MIB(3);

	if (g->fail_at > 0 && g->at >= g->fail_at) {
		struct error err;

		error_set(&err, ERROR_PERMANENT, "differs from what Nix registered");
		body_fail(g->body, &err);
		return;
	}
	append(g->body, g->at, n);
	g->at += n;
	body_publish(g->body);
	if (g->at == g->size)
		body_end(g->body);
	else
		timer_set(timer, 20);
}

static struct growth *grow(uint64_t size, uint64_t fail_at)
{
	struct growth *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	*g = (struct growth){ .body = body_of(size), .size = size, .fail_at = fail_at };
	timer_init(&g->timer, &loop, on_grow);
	timer_set(&g->timer, 1);
	return g;
}

static void on_grown(struct timer *timer)
{
	free(CONTAINER_OF(timer, struct growth, timer));
}

static void put_body(struct trial *trial, struct body *body)
{
	backend->ops->put_nar_start(backend, begin(trial), &object_a, body);
	body_unref(body);
	finish(trial);
}

static void assert_stored(const char *root, const char *key, uint64_t size)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", root, key);
	f = fopen(path, "r");
	if (f == NULL)
		fail_msg("%s is not there", path);
	for (uint64_t i = 0; i < size; i++) {
		int c = fgetc(f);

		if (c != byte_at(i))
			fail_msg("%s: byte %llu is %d", path, (unsigned long long)i, c);
	}
	assert_int_equal(fgetc(f), EOF);
	fclose(f);
}

static void assert_file_says(const char *root, const char *key, const char *expected)
{
	char path[256], text[1000] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", root, key);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_true(fread(text, 1, sizeof(text) - 1, f) < sizeof(text) - 1);
	fclose(f);
	assert_string_equal(text, expected);
}

/* What every kind does */

static void check_whole_way(const char *root)
{
	struct trial trial;

	prepare(&trial);
	assert_good(&trial);
	assert_file_says(root, "nix-cache-info", "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 41\n");
	prepare(&trial);
	assert_good(&trial);
	find_info(&trial, PATH_A);
	assert_good(&trial);
	assert_false(trial.op.found);
	find_nar(&trial);
	assert_good(&trial);
	assert_false(trial.op.found);
	put_body(&trial, body_full(300000));
	assert_good(&trial);
	assert_int_equal(trial.op.sent_bytes, 300000);
	assert_false(trial.op.found);
	put_info(&trial);
	assert_good(&trial);
	assert_false(trial.op.found);
	assert_stored(root, NAR_A, 300000);
	find_nar(&trial);
	assert_good(&trial);
	assert_true(trial.op.found);
	assert_int_equal(trial.op.file_size, 300000);
	find_info(&trial, PATH_A);
	assert_good(&trial);
	assert_true(trial.op.found);
}

/* An empty body, one of a block, one that needs several, one beyond what is kept in memory. */
static void check_sizes(const char *root)
{
	static const uint64_t sizes[] = { 0, 1, 1 << 20, (1 << 20) + 1, 8 << 20, LONG };
	struct backend_object object = object_a;
	struct trial trial;
	struct body *body;
	char key[64];

	for (size_t i = 0; i < N_ELEMENTS(sizes); i++) {
		snprintf(key, sizeof(key), "nar/size%zu.nar.zst", i);
		object.nar_key = key;
		body = body_full(sizes[i]);
		backend->ops->put_nar_start(backend, begin(&trial), &object, body);
		body_unref(body);
		finish(&trial);
		assert_good(&trial);
		assert_int_equal(trial.op.sent_bytes, sizes[i]);
		assert_stored(root, key, sizes[i]);
	}
}

static void check_growing(const char *root)
{
	struct trial trial;
	struct growth *g = grow(LONG, 0);

	put_body(&trial, g->body);
	assert_good(&trial);
	assert_stored(root, NAR_A, LONG);
	timer_close(&g->timer, on_grown);
}

static void check_failing_leaves_nothing(const char *root)
{
	struct trial trial;
	struct growth *g = grow(LONG, 15 << 20);
	char path[256];

	put_body(&trial, g->body);
	assert_fault(&trial, ERROR_PERMANENT, "differs from what Nix registered");
	timer_close(&g->timer, on_grown);
	snprintf(path, sizeof(path), "%s/%s", root, NAR_A);
	find_nar(&trial);
	assert_good(&trial);
	assert_false(trial.op.found);
	assert_int_equal(access(path, F_OK), -1);
}

/* Runs the loop for a while. */
static void on_pause(struct timer *timer)
{
	timer_close(timer, NULL);
	loop_stop(&loop);
}

static void run_for(uint64_t ms)
{
	static struct timer timer;

	timer_init(&timer, &loop, on_pause);
	timer_set(&timer, ms);
	loop_run(&loop);
}

static void check_canceling(const char *root)
{
	static const uint64_t ready[] = { 0, 1 << 20, 12 << 20 };
	struct trial trial;
	struct body *body;
	char path[256];

	for (size_t i = 0; i < N_ELEMENTS(ready); i++) {
		body = body_of(LONG);
		append(body, 0, ready[i]);
		body_publish(body);
		backend->ops->put_nar_start(backend, begin(&trial), &object_a, body);
		body_unref(body);
		run_for(200);
		backend->ops->cancel(&trial.op);
		backend->ops->cancel(&trial.op); /* twice is once */
		finish(&trial);
		assert_fault(&trial, ERROR_CANCELED, "");
	}
	body = body_full(100);
	backend->ops->put_nar_start(backend, begin(&trial), &object_a, body);
	backend->ops->cancel(&trial.op);
	body_unref(body);
	finish(&trial);
	backend->ops->find_info_start(backend, begin(&trial), PATH_A);
	backend->ops->cancel(&trial.op);
	finish(&trial);
	assert_fault(&trial, ERROR_CANCELED, "");
	snprintf(path, sizeof(path), "%s/%s", root, KEY_A);
	assert_int_equal(access(path, F_OK), -1);
}

/* Directories */

static char dir[64], cache_dir[80];

static int make_dir_cache(void **state)
{
	(void)state;
	scratch_make(dir);
	snprintf(cache_dir, sizeof(cache_dir), "%s/cache", dir);
	open_dir(cache_dir);
	return 0;
}

static int drop_dir_cache(void **state)
{
	(void)state;
	close_base();
	scratch_remove(dir);
	return 0;
}

static void assert_no_temps(void)
{
	run_command("test -z \"$(find '%s/.tmp' '%s/nar/.tmp' -type f)\"", cache_dir, cache_dir);
}

static void a_directory_takes_a_path_and_shows_it(void **state)
{
	struct stat st;
	char path[128];
	(void)state;

	umask(077);
	check_whole_way(cache_dir);
	umask(022);
	snprintf(path, sizeof(path), "%s/" NAR_A, cache_dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	snprintf(path, sizeof(path), "%s/nar", cache_dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0755);
	assert_no_temps();
}

static void a_directory_takes_bodies_of_any_size(void **state)
{
	struct trial trial;
	(void)state;

	prepare(&trial);
	check_sizes(cache_dir);
	assert_no_temps();
}

static void a_directory_takes_a_growing_body(void **state)
{
	struct trial trial;
	(void)state;

	prepare(&trial);
	check_growing(cache_dir);
	assert_no_temps();
}

static void a_directory_shows_nothing_of_a_failed_body(void **state)
{
	struct trial trial;
	(void)state;

	prepare(&trial);
	check_failing_leaves_nothing(cache_dir);
	check_canceling(cache_dir);
	assert_no_temps();
}

static void a_directory_never_overwrites(void **state)
{
	struct trial trial;
	(void)state;

	prepare(&trial);
	run_command("printf old > '%s/" NAR_A "' && printf old > '%s/" KEY_A "'", cache_dir, cache_dir);
	put_body(&trial, body_full(300000));
	assert_good(&trial);
	assert_true(trial.op.found);
	assert_int_equal(trial.op.file_size, strlen("old"));
	put_info(&trial);
	assert_good(&trial);
	assert_true(trial.op.found);
	assert_file_says(cache_dir, NAR_A, "old");
	assert_file_says(cache_dir, KEY_A, "old");
	assert_no_temps();
}

static void an_empty_nar_in_a_directory_needs_an_operator(void **state)
{
	struct trial trial;
	(void)state;

	prepare(&trial);
	run_command(": > '%s/" NAR_A "'", cache_dir);
	find_nar(&trial);
	assert_fault(&trial, ERROR_OPERATOR, NAR_A ": it is empty; delete it");
	put_body(&trial, body_full(1000));
	assert_fault(&trial, ERROR_OPERATOR, NAR_A ": it is empty; delete it");
	run_command("rm '%s/" NAR_A "'", cache_dir);
	put_body(&trial, body_full(1000));
	assert_good(&trial);
	assert_no_temps();
}

static bool folders_cannot_be_synced;
int __real_fsync(int fd);
int __wrap_fsync(int fd);

/* As on a file system that knows no such thing, or is read-only. */
int __wrap_fsync(int fd)
{
	struct stat st;

	if (!folders_cannot_be_synced || fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode))
		return __real_fsync(fd);
	errno = EINVAL;
	return -1;
}

static void what_was_written_in_a_folder_that_cannot_be_synced_is_no_success(void **state)
{
	struct trial trial;
	(void)state;

	prepare(&trial);
	folders_cannot_be_synced = true;
	put_body(&trial, body_full(1000));
	folders_cannot_be_synced = false;
	assert_fault(&trial, ERROR_TRANSIENT, "/nar: Invalid argument");
	folders_cannot_be_synced = true;
	find_nar(&trial);
	folders_cannot_be_synced = false;
	assert_good(&trial);
	assert_true(trial.op.found);
}

static void a_name_taken_while_writing_is_not_overwritten(void **state)
{
	struct trial trial;
	struct body *body;
	(void)state;

	prepare(&trial);
	body = body_of(LONG);
	append(body, 0, 1 << 20);
	body_publish(body);
	backend->ops->put_nar_start(backend, begin(&trial), &object_a, body);
	while (trial.op.sent_bytes == 0)
		uv_run(&loop.uv, UV_RUN_ONCE);
	run_command("printf other > '%s/" NAR_A "'", cache_dir);
	body_end(body);
	body_unref(body);
	finish(&trial);
	assert_good(&trial);
	assert_true(trial.op.found);
	assert_int_equal(trial.op.file_size, strlen("other"));
	assert_file_says(cache_dir, NAR_A, "other");
	assert_no_temps();
}

/* So whoever dies in the middle leaves nothing over. */
static void what_is_half_written_has_no_name(void **state)
{
	struct trial trial;
	struct body *body;
	int fd;
	(void)state;

	prepare(&trial);
	fd = open(cache_dir, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0)
		skip(); /* not on this file system */
	close(fd);
	body = body_of(LONG);
	append(body, 0, 1 << 20);
	body_publish(body);
	backend->ops->put_nar_start(backend, begin(&trial), &object_a, body);
	body_unref(body);
	while (trial.op.sent_bytes == 0)
		uv_run(&loop.uv, UV_RUN_ONCE);
	assert_no_temps();
	backend->ops->cancel(&trial.op);
	finish(&trial);
	assert_fault(&trial, ERROR_CANCELED, "");
}

static void a_foreign_or_broken_directory_needs_an_operator(void **state)
{
	struct trial trial;
	struct buf text;
	char path[128];
	FILE *f;
	(void)state;

	run_command("mkdir '%s' && echo 'StoreDir: /gnu/store' > '%s/nix-cache-info'", cache_dir, cache_dir);
	prepare(&trial);
	assert_fault(&trial, ERROR_OPERATOR, "the cache is for the store /gnu/store, not /nix/store");
	run_command("echo hello > '%s/nix-cache-info'", cache_dir);
	prepare(&trial);
	assert_fault(&trial, ERROR_OPERATOR, "not a nix-cache-info");
	run_command("printf 'StoreDir: /gnu/\\033[2Jstore\\n' > '%s/nix-cache-info'", cache_dir);
	prepare(&trial);
	assert_fault(&trial, ERROR_OPERATOR, "not a nix-cache-info");
	format_info(&text, PATH_B);
	snprintf(path, sizeof(path), "%s/" KEY_A, cache_dir);
	f = fopen(path, "w");
	fputs(buf_text(&text), f);
	fclose(f);
	buf_fini(&text);
	find_info(&trial, PATH_A);
	assert_fault(&trial, ERROR_OPERATOR, "the narinfo is of " PATH_B);
	run_command("rm -r '%s'", cache_dir);
	put_body(&trial, body_full(10));
	assert_fault(&trial, ERROR_OPERATOR, "No such file or directory");
}

static void left_overs_go_after_a_day(void **state)
{
	struct trial trial;
	(void)state;

	prepare(&trial);
	run_command("cd '%s/nar/.tmp' && touch young && touch -d '2 days ago' old", cache_dir);
	prepare(&trial);
	assert_good(&trial);
	run_command("cd '%s/nar/.tmp' && test -e young && ! test -e old && rm young", cache_dir);
}

static void many_files_at_once_all_arrive(void **state)
{
	enum { N = 300 };
	static struct trial trials[N];
	static struct backend_object objects[N];
	static char keys[N][32];
	struct trial trial;
	uint64_t begin_ms;
	(void)state;

	prepare(&trial);
	begin_ms = clock_mono_ms();
	for (int i = 0; i < N; i++) {
		struct body *body = body_full(20000);

		snprintf(keys[i], sizeof(keys[i]), "nar/%d.nar", i);
		objects[i] = object_a;
		objects[i].nar_key = keys[i];
		backend->ops->put_nar_start(backend, begin(&trials[i]), &objects[i], body);
		body_unref(body);
		if (n_pending >= 32) /* as many as are in flight at most */
			run();
	}
	run();
	print_message("%d files took %llu ms\n", N, (unsigned long long)(clock_mono_ms() - begin_ms));
	for (int i = 0; i < N; i++) {
		assert_good(&trials[i]);
		assert_stored(cache_dir, keys[i], 20000);
	}
	assert_no_temps();
}

static void a_directory_without_rights_needs_an_operator(void **state)
{
	struct trial trial;
	(void)state;

	if (geteuid() != 0) {
		print_message("skipped: needs root\n");
		skip();
	}
	prepare(&trial);
	assert_good(&trial);
	run_command("chmod 755 '%s'", dir);
	assert_int_equal(seteuid(65534), 0);
	put_body(&trial, body_full(10));
	assert_int_equal(seteuid(0), 0);
	assert_fault(&trial, ERROR_OPERATOR, "Permission denied");
}

static void a_full_disk_is_transient_and_leaves_nothing(void **state)
{
	struct trial trial;
	(void)state;

	if (geteuid() != 0 || system("command -v mount > /dev/null") != 0) {
		print_message("skipped: needs root to mount a small file system\n");
		skip();
	}
	run_command("mkdir '%s' && mount -t tmpfs -o size=2M none '%s'", cache_dir, cache_dir);
	prepare(&trial);
	assert_good(&trial);
	put_body(&trial, body_full(5 << 20));
	assert_fault(&trial, ERROR_TRANSIENT, "No space left on device");
	assert_no_temps();
	put_body(&trial, body_full(1 << 20));
	assert_good(&trial);
	run_command("mount -o remount,ro '%s'", cache_dir);
	put_info(&trial);
	assert_fault(&trial, ERROR_OPERATOR, "Read-only file system");
	run_command("umount '%s'", cache_dir);
}

/* HTTP */

static void drop_object(const char *key)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", server.root, key);
	unlink(path);
}

static void http_takes_a_path_and_shows_it(void **state)
{
	char *log, *at;
	(void)state;

	open_mode("ok");
	check_whole_way(server.root);
	close_base();
	log = read_log(&server);
	at = strstr(log, "\"PUT\", \"path\": \"/ok/" NAR_A);
	assert_non_null(at);
	assert_non_null(strstr(at, "\"content-type\": \"application/x-nix-nar\""));
	at = strstr(at, "\"PUT\", \"path\": \"/ok/" KEY_A); /* after the NAR */
	assert_non_null(at);
	assert_non_null(strstr(at, "\"content-type\": \"text/x-nix-narinfo\""));
	assert_int_equal(count_lines_with(log, "\"PUT\", \"path\": \"/ok/nix-cache-info\""), 1);
	assert_int_equal(count_lines_with(log, "\"if-none-match\": \"*\""), 3);
	assert_int_equal(count_lines_with(log, "\"expect\""), 0);
	free(log);
}

static void http_takes_bodies_of_any_size(void **state)
{
	(void)state;

	open_mode("ok");
	check_sizes(server.root);
	close_base();
}

static void a_long_body_is_streamed_while_it_grows(void **state)
{
	char *log;
	(void)state;

	drop_object(NAR_A);
	open_mode("ok");
	check_growing(server.root);
	assert_true(backend->streams);
	close_base();
	log = read_log(&server);
	assert_int_equal(count_lines_with(log, "\"transfer-encoding\": \"chunked\""), 1);
	free(log);
}

static void http_shows_nothing_of_a_failed_body(void **state)
{
	(void)state;

	drop_object(NAR_A);
	drop_object(KEY_A);
	open_mode("ok");
	check_failing_leaves_nothing(server.root);
	check_canceling(server.root);
	close_base();
}

static void a_server_that_needs_a_length_gets_the_finished_body(void **state)
{
	static const char *const modes[] = { "no-chunks", "old" };
	struct trial trial;
	char *log;
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(modes); i++) {
		drop_object(NAR_A);
		open_mode(modes[i]);
		check_growing(server.root);
		assert_false(backend->streams);
		drop_object(NAR_A);
		check_growing(server.root); /* asks for no more */
		put_info(&trial);
		assert_good(&trial);
		close_base();
	}
	log = read_log(&server);
	assert_int_equal(count_lines_with(log, "\"/no-chunks/" NAR_A "\", \"status\": 411"), 1);
	assert_int_equal(count_lines_with(log, "\"/no-chunks/" NAR_A "\", \"status\": 201"), 2);
	assert_int_equal(count_lines_with(log, "\"/old/" NAR_A "\", \"status\": 400"), 2);
	assert_int_equal(count_lines_with(log, "\"/old/" NAR_A "\", \"status\": 201"), 2);
	free(log);
}

static void a_server_that_knows_no_condition_is_asked_without(void **state)
{
	struct trial trial;
	char *log;
	(void)state;

	drop_object(NAR_A);
	drop_object(KEY_A);
	open_mode("no-condition");
	put_body(&trial, body_full(1000));
	assert_good(&trial);
	put_info(&trial);
	assert_good(&trial);
	close_base();
	log = read_log(&server);
	assert_int_equal(count_lines_with(log, "/no-condition/nar"), 2);
	assert_int_equal(count_lines_with(log, "/no-condition/0000"), 1);
	free(log);
}

static void what_is_there_already_is_success(void **state)
{
	static const char *const modes[] = { "ok", "403", "409", "html-put" };
	struct trial trial;
	(void)state;

	drop_object(NAR_A);
	drop_object(KEY_A);
	open_mode("ok");
	put_body(&trial, body_full(1000));
	put_info(&trial);
	assert_good(&trial);
	close_base();
	for (size_t i = 0; i < N_ELEMENTS(modes); i++) {
		open_mode(modes[i]);
		put_body(&trial, body_full(999));
		assert_good(&trial);
		assert_true(trial.op.found);
		assert_int_equal(trial.op.file_size, 1000);
		put_info(&trial);
		assert_good(&trial);
		assert_true(trial.op.found);
		assert_stored(server.root, NAR_A, 1000);
		close_base();
	}
	drop_object(NAR_A);
	drop_object(KEY_A);
	for (size_t i = 1; i < 3; i++) {
		open_mode(modes[i]);
		put_body(&trial, body_full(999));
		assert_fault(&trial, ERROR_OPERATOR, modes[i]);
		put_info(&trial);
		assert_fault(&trial, ERROR_OPERATOR, modes[i]);
		close_base();
	}
}

static void a_web_page_is_no_object_and_takes_none(void **state)
{
	static const char *const modes[] = { "html", "html-put" };
	struct trial trial;
	(void)state;

	drop_object(NAR_A);
	drop_object(KEY_A);
	drop_object("nix-cache-info");
	for (size_t i = 0; i < N_ELEMENTS(modes); i++) {
		open_mode(modes[i]);
		prepare(&trial);
		assert_fault(&trial, ERROR_TRANSIENT, "answered with a web page");
		put_body(&trial, body_full(1000));
		assert_fault(&trial, ERROR_TRANSIENT, "PUT http://127.0.0.1");
		put_info(&trial);
		assert_fault(&trial, ERROR_TRANSIENT, "answered with a web page");
		close_base();
	}
	open_mode("html");
	find_info(&trial, PATH_A);
	assert_fault(&trial, ERROR_TRANSIENT, "answered with a web page");
	assert_false(trial.op.found);
	find_nar(&trial);
	assert_fault(&trial, ERROR_TRANSIENT, "answered with a web page");
	assert_false(trial.op.found);
	close_base();
}

static void a_refusal_says_who_must_do_what(void **state)
{
	struct trial trial;
	(void)state;

	drop_object("nix-cache-info");
	open_mode("401");
	prepare(&trial);
	assert_fault(&trial, ERROR_OPERATOR, "HTTP 401");
	assert_true(trial.op.is_server_fault);
	put_body(&trial, body_full(999));
	assert_fault(&trial, ERROR_OPERATOR, "HTTP 401");
	close_base();
	open_mode("403");
	prepare(&trial);
	assert_fault(&trial, ERROR_OPERATOR, "PUT http://127.0.0.1");
	close_base();
	open_mode("503");
	put_body(&trial, body_full(999));
	assert_fault(&trial, ERROR_TRANSIENT, "HTTP 503 Service Unavailable: not today");
	assert_int_equal(trial.op.err.retry_after_s, 7);
	assert_false(trial.op.is_server_fault);
	close_base();
	open_mode("404put");
	prepare(&trial);
	assert_fault(&trial, ERROR_OPERATOR, "HTTP 404");
	close_base();
	open_mode("redirect");
	put_body(&trial, body_full(999));
	assert_fault(&trial, ERROR_OPERATOR, "HTTP 301 Moved Permanently to /ok/nar");
	close_base();
	open_mode("reset");
	put_body(&trial, body_full(3 << 20));
	assert_fault(&trial, ERROR_TRANSIENT, "PUT http://127.0.0.1");
	close_base();
	open_mode("ok");
	run_command("echo nonsense | tee '%s/" KEY_A "' > '%s/nix-cache-info'", server.root, server.root);
	find_info(&trial, PATH_A);
	assert_fault(&trial, ERROR_OPERATOR, "answered with something that is not a narinfo");
	assert_false(trial.op.found);
	prepare(&trial);
	assert_fault(&trial, ERROR_OPERATOR, "not a nix-cache-info");
	drop_object(KEY_A);
	drop_object("nix-cache-info");
	close_base();
	open_mode("long");
	find_info(&trial, PATH_A);
	assert_fault(&trial, ERROR_OPERATOR, "longer than");
	close_base();
}

/* As when two paths that are looked at have a reference in common. */
static void paths_that_are_asked_for_twice_at_once_are_found_or_missing_twice(void **state)
{
	char url[] = "cachix://team", endpoint[256];
	struct cache_config config = config_of(CACHE_CACHIX, url);
	struct trial there[2], missing[2];
	(void)state;

	run_command(": > '%s/" KEY_A "'", server.root);
	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u/bulk", server.port);
	config.endpoint = endpoint;
	open_config(&config);
	for (size_t i = 0; i < 2; i++) {
		backend->ops->find_info_start(backend, begin(&there[i]), PATH_A);
		backend->ops->find_info_start(backend, begin(&missing[i]), PATH_B);
	}
	run();
	for (size_t i = 0; i < 2; i++) {
		assert_good(&there[i]);
		assert_true(there[i].op.found);
		assert_good(&missing[i]);
		assert_false(missing[i].op.found);
	}
	close_base();
	drop_object(KEY_A);
}

/* What is not named counts as being there: a name that is none of ours must not be passed over. */
static void an_answer_to_another_question_is_no_answer(void **state)
{
	char url[] = "cachix://team", endpoint[256];
	struct cache_config config = config_of(CACHE_CACHIX, url);
	struct trial trial;
	(void)state;

	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u/bulk-half", server.port);
	config.endpoint = endpoint;
	open_config(&config);
	find_info(&trial, PATH_A);
	assert_fault(&trial, ERROR_OPERATOR, "it names what was not asked for");
	assert_false(trial.op.found);
	close_base();
}

/* Asking only spares the sending. */
static void a_server_without_head_is_sent_to(void **state)
{
	static const char *const modes[] = { "405head", "501head" };
	struct trial trial;
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(modes); i++) {
		open_mode(modes[i]);
		find_nar(&trial);
		assert_good(&trial);
		assert_false(trial.op.found);
		put_body(&trial, body_full(1000));
		assert_good(&trial);
		close_base();
		drop_object(NAR_A);
	}
}

/* In their own words, and still when to come back. */
static void caches_that_explain_themselves_are_waited_for_as_they_ask(void **state)
{
	static const enum cache_kind kinds[] = { CACHE_ATTIC, CACHE_CACHIX };
	struct trial trial;
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(kinds); i++) {
		char url[256] = "cachix://team", endpoint[256];
		struct cache_config config = config_of(kinds[i], url);

		if (kinds[i] == CACHE_ATTIC)
			snprintf(url, sizeof(url), "attic+http://127.0.0.1:%u/503/team", server.port);
		snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u/503", server.port);
		config.endpoint = endpoint;
		open_config(&config);
		find_info(&trial, PATH_A);
		assert_fault(&trial, ERROR_TRANSIENT, "HTTP 503");
		assert_int_equal(trial.op.err.retry_after_s, 7);
		assert_true(trial.op.err.is_overload);
		close_base();
	}
}

static void a_foreign_cache_is_not_written_to(void **state)
{
	struct trial trial;
	(void)state;

	run_command("echo 'StoreDir:   /gnu/store  ' > '%s/nix-cache-info'", server.root);
	open_mode("ok");
	prepare(&trial);
	assert_fault(&trial, ERROR_OPERATOR, "the cache is for the store /gnu/store, not /nix/store");
	close_base();
	drop_object("nix-cache-info");
}

static void a_narinfo_of_another_path_needs_an_operator(void **state)
{
	struct trial trial;
	(void)state;

	drop_object(KEY_A);
	open_mode("ok");
	put_info(&trial);
	run_command("cd '%s' && cp " KEY_A " 11111111111111111111111111111111.narinfo", server.root);
	find_info(&trial, PATH_B);
	assert_fault(&trial, ERROR_OPERATOR, "the narinfo is of " PATH_A ", not of " PATH_B);
	close_base();
	drop_object("11111111111111111111111111111111.narinfo");
}

static void a_token_file_is_read_and_its_lack_is_told(void **state)
{
	char url[128], token_file[96];
	struct cache_config config = config_of(CACHE_HTTP, url);
	struct trial trial;
	struct error err;
	char expected[256];
	(void)state;

	snprintf(url, sizeof(url), "http://127.0.0.1:%u/token", server.port);
	snprintf(token_file, sizeof(token_file), "%s/token", server.dir);
	config.token_file = token_file;
	open_base();
	assert_int_equal(backend_open(&backend, &loop, http, &config, STORE_DIR, &err), -1);
	snprintf(expected, sizeof(expected), "[cache \"main\"] token-file %s: No such file or directory",
	         token_file);
	assert_string_equal(err.text, expected);
	assert_int_equal(err.kind, ERROR_OPERATOR);
	run_command("printf 'two\\nlines\\n' > %s", token_file);
	assert_int_equal(backend_open(&backend, &loop, http, &config, STORE_DIR, &err), -1);
	assert_int_equal(err.kind, ERROR_OPERATOR);
	assert_null(strstr(err.text, "lines"));
	run_command("printf 'half\\000token\\n' > %s", token_file);
	assert_int_equal(backend_open(&backend, &loop, http, &config, STORE_DIR, &err), -1);
	assert_null(strstr(err.text, "half"));
	close_base();
	run_command("printf 'sesame\\n' > %s", token_file);
	open_config(&config);
	put_body(&trial, body_full(999));
	assert_fault(&trial, ERROR_OPERATOR, "HTTP 401");
	close_base();
	run_command("printf '%%s\\n' open-sesame > %s", token_file);
	open_config(&config);
	drop_object(NAR_A);
	put_body(&trial, body_full(999));
	assert_good(&trial);
	close_base();
}

static enum visibility look_at(const char *mode)
{
	struct trial trial;
	enum visibility visibility;

	open_mode(mode);
	backend->ops->look_start(backend, begin(&trial));
	finish(&trial);
	assert_good(&trial);
	visibility = backend->announced.visibility;
	close_base();
	return visibility;
}

static void who_can_read_a_cache_is_asked_without_the_token(void **state)
{
	char url[128], token_file[96];
	struct cache_config config = config_of(CACHE_HTTP, url);
	struct trial trial;
	(void)state;

	drop_object("nix-cache-info");
	open_mode("ok");
	prepare(&trial);
	assert_good(&trial);
	close_base();
	assert_int_equal(look_at("ok"), VISIBILITY_PUBLIC);
	assert_int_equal(look_at("401"), VISIBILITY_PRIVATE);
	assert_int_equal(look_at("html"), VISIBILITY_UNKNOWN);
	assert_int_equal(look_at("cut"), VISIBILITY_UNKNOWN);
	snprintf(url, sizeof(url), "http://127.0.0.1:%u/token", server.port);
	snprintf(token_file, sizeof(token_file), "%s/token", server.dir);
	config.token_file = token_file;
	run_command("printf '%%s\\n' open-sesame > %s", token_file);
	open_config(&config);
	prepare(&trial);
	assert_good(&trial);
	assert_true(trial.op.found);
	backend->ops->look_start(backend, begin(&trial));
	finish(&trial);
	assert_good(&trial);
	assert_int_equal(backend->announced.visibility, VISIBILITY_PRIVATE);
	close_base();
}

static void probe(struct trial *trial, const char *mode, enum may_write expected)
{
	open_mode(mode);
	backend->ops->probe_start(backend, begin(trial));
	finish(trial);
	assert_int_equal(backend->announced.may_write, expected);
}

static void a_probe_says_whether_we_may_write_and_changes_nothing(void **state)
{
	/* A body that a second put of it would have to repeat to the byte, after another's hand. */
	const char text[] = "StoreDir: " STORE_DIR "\nPriority: 7\n";
	struct trial trial;
	(void)state;

	drop_object("nix-cache-info");
	probe(&trial, "ok", MAY_WRITE_UNKNOWN);
	assert_good(&trial);
	assert_false(trial.op.found);
	assert_false(server_has(&server, "nix-cache-info"));
	close_base();
	run_command("printf '%s' > '%s/nix-cache-info'", "StoreDir: " STORE_DIR "\\nPriority: 7\\n",
	            server.root);
	probe(&trial, "ok", MAY_WRITE_YES);
	assert_good(&trial);
	assert_true(trial.op.found);
	close_base();
	probe(&trial, "403", MAY_WRITE_NO);
	assert_good(&trial);
	assert_non_null(strstr(backend->announced.write_err.text, "HTTP 403"));
	close_base();
	probe(&trial, "503", MAY_WRITE_UNKNOWN);
	assert_good(&trial);
	close_base();
	probe(&trial, "no-condition", MAY_WRITE_UNKNOWN);
	assert_good(&trial);
	close_base();
	probe(&trial, "401", MAY_WRITE_UNKNOWN);
	assert_fault(&trial, ERROR_OPERATOR, "HTTP 401");
	close_base();
	probe(&trial, "html-put", MAY_WRITE_UNKNOWN);
	assert_good(&trial);
	close_base();
	assert_file_says(server.root, "nix-cache-info", text);
	run_command("printf 'StoreDir: /other\n' > '%s/nix-cache-info'", server.root);
	probe(&trial, "ok", MAY_WRITE_UNKNOWN);
	assert_fault(&trial, ERROR_OPERATOR, "the cache is for the store /other");
	close_base();
	drop_object("nix-cache-info");
}

static void a_probe_can_be_canceled(void **state)
{
	struct trial trial;
	(void)state;

	open_mode("stall");
	backend->ops->probe_start(backend, begin(&trial));
	backend->ops->cancel(&trial.op);
	finish(&trial);
	assert_int_equal(trial.op.err.kind, ERROR_CANCELED);
	close_base();
}

static void a_look_can_be_canceled(void **state)
{
	struct trial trial;
	(void)state;

	open_mode("stall");
	backend->ops->look_start(backend, begin(&trial));
	backend->ops->cancel(&trial.op);
	finish(&trial);
	assert_int_equal(trial.op.err.kind, ERROR_CANCELED);
	assert_int_equal(backend->announced.visibility, VISIBILITY_UNKNOWN);
	close_base();
}

static void an_upstream_is_only_asked(void **state)
{
	char url[128], name[] = "nixos";
	struct upstream_config upstream = { .url = url };
	struct net_config net = { 0 };
	struct trial trial;
	struct error err;
	(void)state;

	upstream.name = name;
	drop_object(KEY_A);
	open_mode("ok");
	put_info(&trial);
	assert_good(&trial);
	close_base();
	snprintf(url, sizeof(url), "http://127.0.0.1:%u/ok", server.port);
	for (int is_file = 0; is_file < 2; is_file++) {
		if (is_file)
			snprintf(url, sizeof(url), "file://%s", server.root);
		open_base();
		assert_int_equal(backend_open_upstream(&backend, &loop, http, &upstream, &net, &err), 0);
		assert_null(backend->ops->put_nar_start);
		find_info(&trial, PATH_A);
		assert_good(&trial);
		assert_true(trial.op.found);
		find_info(&trial, PATH_B);
		assert_good(&trial);
		assert_false(trial.op.found);
		close_base();
	}
}

static void nginx_takes_all_of_it(void **state)
{
	struct test_server before = server;
	char *log;
	(void)state;

	if (!nginx_start(&server, NULL)) {
		server = before;
		print_message("skipped: no nginx\n");
		skip();
	}
	open_mode("");
	check_whole_way(server.root);
	check_sizes(server.root);
	drop_object(NAR_A);
	check_growing(server.root);
	assert_true(backend->streams);
	drop_object(NAR_A);
	drop_object(KEY_A);
	check_failing_leaves_nothing(server.root);
	check_canceling(server.root);
	close_base();
	log = read_log(&server);
	assert_int_equal(count_lines_with(log, " 201 HTTP/1.1"), 10);
	free(log);
	test_server_stop(&server);
	server = before;
}

static int start_server(void **state)
{
	struct error err = { 0 };
	(void)state;

	info_a.path = strdup(PATH_A);
	cache_server_start(&server, NULL);
	return (int)err.kind;
}

static int stop_server(void **state)
{
	(void)state;
	free(info_a.path);
	test_server_stop(&server);
	return 0;
}

/* Reading */

struct reading {
	struct backend_read read;
	struct buf text;
	struct timer timer;
	unsigned n_done, n_waits; /* so many times the next piece has to wait */
};

static void on_reading(struct backend_read *read)
{
	CONTAINER_OF(read, struct reading, read)->n_done++;
	loop_stop(&loop);
}

static void on_reading_due(struct timer *timer)
{
	backend_read_resume(&CONTAINER_OF(timer, struct reading, timer)->read);
}

static void on_reading_closed(struct timer *timer)
{
	(void)timer;
	loop_stop(&loop);
}

static int take_reading(struct backend_read *read, const void *data, size_t n_bytes, struct error *err)
{
	struct reading *r = CONTAINER_OF(read, struct reading, read);
	(void)err;

	if (r->n_waits > 0) {
		r->n_waits--;
		timer_set(&r->timer, 1);
		return HTTP_SINK_WAIT;
	}
	buf_append(&r->text, data, n_bytes);
	r->n_waits = r->text.len < MIB(1) ? 1 : 0;
	return 0;
}

static int refuse_reading(struct backend_read *read, const void *data, size_t n_bytes, struct error *err)
{
	(void)read, (void)data, (void)n_bytes;
	error_set(err, ERROR_PERMANENT, "it is not to my taste");
	return HTTP_SINK_FAILED;
}

static void read_key(struct reading *r, const char *key, bool looks_only)
{
	*r = (struct reading){ .read.done = on_reading, .read.write = looks_only ? NULL : take_reading };
	buf_init(&r->text, LONG);
	timer_init(&r->timer, &loop, on_reading_due);
	backend_read_start(backend, &r->read, key);
	assert_int_equal(r->n_done, 0);
	loop_run(&loop);
	assert_int_equal(r->n_done, 1);
	timer_close(&r->timer, on_reading_closed);
	loop_run(&loop);
}

/* Of a cache that holds LONG_BYTES of x as nar/long. */
static void check_reading(size_t long_bytes)
{
	static const char *const bad[] = { "../etc/passwd",      "nar/../../x", "/etc/passwd",
		                           "http://elsewhere/x", "a b",         "" };
	struct reading r;

	read_key(&r, "nar/long", false);
	if (r.read.err.kind != ERROR_NONE)
		fail_msg("%s", r.read.err.text);
	assert_true(r.read.found);
	assert_int_equal(r.read.size_bytes, long_bytes);
	assert_int_equal(r.text.len, long_bytes);
	for (size_t i = 0; i < long_bytes; i++)
		if (r.text.data[i] != 'x')
			fail_msg("byte %zu is another", i);
	buf_fini(&r.text);
	read_key(&r, "nar/long", true);
	assert_true(r.read.found);
	assert_int_equal(r.read.size_bytes, long_bytes);
	assert_int_equal(r.text.len, 0);
	read_key(&r, "nar/none", false);
	assert_int_equal(r.read.err.kind, ERROR_NONE);
	assert_false(r.read.found);
	for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
		read_key(&r, bad[i], false);
		assert_int_equal(r.read.err.kind, ERROR_PERMANENT);
	}

	r = (struct reading){ .read.done = on_reading, .read.write = refuse_reading };
	backend_read_start(backend, &r.read, "nar/long");
	loop_run(&loop);
	assert_int_equal(r.read.err.kind, ERROR_PERMANENT);
	assert_non_null(strstr(r.read.err.text, "taste"));
	r = (struct reading){ .read.done = on_reading, .read.write = take_reading };
	buf_init(&r.text, LONG);
	backend_read_start(backend, &r.read, "nar/long");
	backend_read_cancel(&r.read);
	assert_int_equal(r.n_done, 0);
	loop_run(&loop);
	assert_int_equal(r.n_done, 1);
	assert_int_equal(r.read.err.kind, ERROR_CANCELED);
	buf_fini(&r.text);
}

static void make_long(const char *top, size_t n_bytes)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/nar", top);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/nar/long", top);
	file = fopen(path, "w");
	assert_non_null(file);
	for (size_t i = 0; i < n_bytes; i++)
		putc('x', file);
	assert_int_equal(fclose(file), 0);
}

static void an_object_of_a_directory_is_read_as_fast_as_it_is_taken(void **state)
{
	(void)state;
	mkdir(cache_dir, 0755);
	make_long(cache_dir, 3000001);
	check_reading(3000001);
}

static void an_object_behind_http_is_read_as_fast_as_it_is_taken(void **state)
{
	(void)state;
	make_long(server.root, 3000001);
	open_mode("ok");
	check_reading(3000001);
	close_base();
}

static void a_login_page_is_no_object_that_was_read(void **state)
{
	struct reading r;
	(void)state;

	open_mode("html");
	read_key(&r, KEY_A, false);
	assert_int_equal(r.read.err.kind, ERROR_TRANSIENT);
	assert_non_null(strstr(r.read.err.text, "a web page"));
	assert_false(r.read.found);
	buf_fini(&r.text);
	close_base();
}

#define DIR_TEST(test) cmocka_unit_test_setup_teardown(test, make_dir_cache, drop_dir_cache)

int main(void)
{
	const struct CMUnitTest tests[] = {
		DIR_TEST(a_directory_takes_a_path_and_shows_it),
		DIR_TEST(a_directory_takes_bodies_of_any_size),
		DIR_TEST(a_directory_takes_a_growing_body),
		DIR_TEST(what_is_half_written_has_no_name),
		DIR_TEST(a_directory_shows_nothing_of_a_failed_body),
		DIR_TEST(a_directory_never_overwrites),
		DIR_TEST(an_empty_nar_in_a_directory_needs_an_operator),
		DIR_TEST(what_was_written_in_a_folder_that_cannot_be_synced_is_no_success),
		DIR_TEST(a_name_taken_while_writing_is_not_overwritten),
		DIR_TEST(a_foreign_or_broken_directory_needs_an_operator),
		DIR_TEST(left_overs_go_after_a_day),
		DIR_TEST(many_files_at_once_all_arrive),
		DIR_TEST(a_directory_without_rights_needs_an_operator),
		DIR_TEST(a_full_disk_is_transient_and_leaves_nothing),
		cmocka_unit_test(http_takes_a_path_and_shows_it),
		cmocka_unit_test(http_takes_bodies_of_any_size),
		cmocka_unit_test(a_long_body_is_streamed_while_it_grows),
		cmocka_unit_test(http_shows_nothing_of_a_failed_body),
		cmocka_unit_test(a_server_that_needs_a_length_gets_the_finished_body),
		cmocka_unit_test(a_server_that_knows_no_condition_is_asked_without),
		cmocka_unit_test(what_is_there_already_is_success),
		cmocka_unit_test(a_web_page_is_no_object_and_takes_none),
		cmocka_unit_test(a_refusal_says_who_must_do_what),
		cmocka_unit_test(caches_that_explain_themselves_are_waited_for_as_they_ask),
		cmocka_unit_test(paths_that_are_asked_for_twice_at_once_are_found_or_missing_twice),
		cmocka_unit_test(an_answer_to_another_question_is_no_answer),
		cmocka_unit_test(a_server_without_head_is_sent_to),
		cmocka_unit_test(a_foreign_cache_is_not_written_to),
		cmocka_unit_test(a_narinfo_of_another_path_needs_an_operator),
		cmocka_unit_test(a_token_file_is_read_and_its_lack_is_told),
		cmocka_unit_test(who_can_read_a_cache_is_asked_without_the_token),
		cmocka_unit_test(a_probe_says_whether_we_may_write_and_changes_nothing),
		cmocka_unit_test(a_probe_can_be_canceled),
		cmocka_unit_test(a_look_can_be_canceled),
		cmocka_unit_test(an_upstream_is_only_asked),
		DIR_TEST(an_object_of_a_directory_is_read_as_fast_as_it_is_taken),
		cmocka_unit_test(an_object_behind_http_is_read_as_fast_as_it_is_taken),
		cmocka_unit_test(a_login_page_is_no_object_that_was_read),
		cmocka_unit_test(nginx_takes_all_of_it),
	};

	unsetenv("http_proxy");
	unsetenv("all_proxy");
	return cmocka_run_group_tests(tests, start_server, stop_server);
}
