/* The whole daemon, its own main(), with a store, a cache of files or on a web server, files in the spool
 * and a root that a hook left. While it runs, another thread, in which nothing fails, hands paths over, asks
 * for the status, and in the end stops it. Then a daemon in which nothing fails, two days later, must bring
 * everything that was acknowledged to the cache, and leave no root behind. */
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/client.h"
#include "common/clock.h"
#include "common/protocol.h"
#include "common/spool.h"
#include "common/store_path.h"
#include "tests/support/servers.h"
#include "tests/torture/nix.h"
#include "tests/torture/torture.h"
#include "tests/torture/world.h"
#include "tests/torture/wraps.h"

#define LATER_S   (2 * 86400)
#define PATIENT_S 40

int nncached_main(int argc, char **argv);

/* What is acknowledged: by the daemon; or before it ran, by a file in the spool and by a root. */
static const char *const paths[] = { NIX_A, NIX_LATE, NIX_SPARE, NIX_OUT, NIX_B, NIX_BIG };
enum { MARK_FIRST, MARK_SECOND, MARK_IN_SPOOL, MARK_OUTPUT_OF_SPOOL, MARK_ROOT, MARK_BIG_IN_SPOOL };

/* ---- a client ---------------------------------------------------------------------------------------- */

struct driver {
	const char *dir;
	struct torture_ledger *ledger;
	bool is_patient; /* the daemon is whole: it must do everything */
	bool reloads;    /* between the two hand-overs */
	atomic_bool is_over;
	pthread_t thread;
};

/* How the daemon answers TEXT: its lines up to the last one in LINES. False: not at all. */
static bool ask(const struct driver *driver, const char *text, struct buf *lines, struct answer *answer)
{
	uint64_t deadline = clock_mono_ms() + (driver->is_patient ? 20000 : 2000);
	char path[CLIENT_PATH_SIZE], *line;
	struct client client;
	struct error err;
	bool is_fine = false;

	snprintf(path, sizeof(path), "%s/socket", driver->dir);
	buf_clear(lines);
	if (client_open(&client, path, deadline, &err) == 0 &&
	    client_send(&client, text, strlen(text), &err) == 0)
		while (!is_fine && client_read_line(&client, &line, &err) == 1) {
			is_fine = answer_is_last(line);
			buf_printf(lines, "%s\n", line);
		}
	is_fine = is_fine && answer_parse(answer, line, &err) == 0;
	client_close(&client);
	return is_fine;
}

static bool is_acknowledged(const struct driver *driver, const char *verb, const char *path)
{
	struct answer answer;
	struct buf lines;
	char text[1024];
	bool is_fine;

	snprintf(text, sizeof(text), "nncache 1 %s\npath %s\nend\n", verb, path);
	buf_init(&lines, CLIENT_MAX_LINE * 4);
	is_fine = ask(driver, text, &lines, &answer) && answer.kind == ANSWER_OK;
	buf_fini(&lines);
	return is_fine;
}

/* Does the status have FIRST and SECOND in it? */
static bool status_has(const struct driver *driver, const char *first, const char *second)
{
	struct answer answer;
	struct buf lines;
	bool is_fine;

	buf_init(&lines, CLIENT_MAX_LINE * 4);
	is_fine = ask(driver, "nncache 1 status\nend\n", &lines, &answer) && answer.kind == ANSWER_OK &&
	          strstr(buf_text(&lines), first) != NULL && strstr(buf_text(&lines), second) != NULL;
	buf_fini(&lines);
	return is_fine;
}

/* Has the daemon nothing left to do? */
static bool is_drained(const struct driver *driver)
{
	return status_has(driver, "queue resolving=0 ", " unfinished=0 oldest=");
}

/* Has it nothing to do just now? */
static bool is_idle(const struct driver *driver)
{
	return status_has(driver, " ready=0 delayed=", " in-flight=0 sent=");
}

static bool is_done(const struct driver *driver)
{
	char cache[PATH_MAX], roots[PATH_MAX], name[256];

	snprintf(cache, sizeof(cache), "%s/cache", driver->dir);
	snprintf(roots, sizeof(roots), "%s/nix/var/nix/gcroots/nncache", driver->dir);
	for (size_t i = 0; i < N_ELEMENTS(paths); i++)
		if (driver->ledger->marks[i] && !nix_cache_has(cache, paths[i]))
			return false;
	return is_drained(driver) && !world_first_file(roots, "", name);
}

static bool socket_is_there(const struct driver *driver)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/socket", driver->dir);
	return access(path, F_OK) == 0;
}

/* Waits at most MAX_MS for what IS_SO; sooner if the daemon ended. */
static bool wait_until(struct driver *driver, bool (*is_so)(const struct driver *), uint64_t max_ms)
{
	uint64_t end = clock_mono_ms() + max_ms;

	while (!driver->is_over && clock_mono_ms() < end) {
		if (is_so(driver))
			return true;
		poll(NULL, 0, 20); /* to answer is most of what an idle daemon does */
	}
	return false;
}

static void *drive(void *arg)
{
	struct driver *driver = arg;
	struct torture_ledger *ledger = driver->ledger;

	fail_spare(true);
	/* Whatever fails, it serves or ends. */
	if (!wait_until(driver, socket_is_there, PATIENT_S * 1000)) {
		if (!driver->is_over)
			torture_fail("the daemon neither serves nor ends");
		return NULL;
	}
	if (driver->is_patient) {
		if (!wait_until(driver, is_done, PATIENT_S * 1000))
			torture_fail("what was acknowledged is not on the cache, or a root was left");
	} else {
		if (is_acknowledged(driver, "enqueue", NIX_A))
			ledger->marks[MARK_FIRST] = 1;
		if (driver->reloads)
			kill(getpid(), SIGHUP);
		if (is_acknowledged(driver, "push", NIX_LATE))
			ledger->marks[MARK_SECOND] = 1;
		/* What was put off for longer is the next daemon's. */
		wait_until(driver, is_drained, 300);
		wait_until(driver, is_idle, 3000);
	}
	kill(getpid(), SIGTERM);
	return NULL;
}

/* ---- the runs ---------------------------------------------------------------------------------------- */

static void spool(const char *dir, const char *request)
{
	char path[PATH_MAX];
	struct error err;

	snprintf(path, sizeof(path), "%s/state/spool", dir);
	if (spool_write(path, request, strlen(request), &err) < 0)
		torture_fail("%s", err.text);
}

static void prepare_for(const char *dir, const char *url, bool with_big)
{
	char text[PATH_MAX], path[PATH_MAX];

	nix_make(dir, with_big);
	world_make_dir(dir, "state/spool");
	spool(dir, "nncache 1 enqueue\npath " NIX_SPARE "\nend\n");
	spool(dir, "nncache 1 enqueue\nderivation " NIX_DRV "\nend\n");
	if (with_big)
		spool(dir, "nncache 1 enqueue\npath " NIX_BIG "\nend\n");
	snprintf(path, sizeof(path), "%s/nix/var/nix/gcroots/nncache/%s.1.1", dir, store_path_base(NIX_B));
	if (symlink(NIX_B, path) < 0)
		torture_fail("%s: %s", path, strerror(errno));
	snprintf(text, sizeof(text),
	         "[daemon]\nstore = local?root=%s\nsocket = %s/socket\nstate-dir = %s/state\n"
	         "spool-dir = %s/state/spool\ngcroots-dir = %s/nix/var/nix/gcroots/nncache\npack-jobs = 1\n"
	         "[cache \"main\"]\nurl = %s\nupstreams =\nsigning-key-file = %s/key.secret\n",
	         dir, dir, dir, dir, dir, url, dir);
	snprintf(path, sizeof(path), "%s/nncache.conf", dir);
	world_write(path, text, strlen(text));
}

static void prepare(const char *dir)
{
	char url[PATH_MAX];

	world_make_dir(dir, "cache");
	snprintf(url, sizeof(url), "file://%s/cache", dir);
	prepare_for(dir, url, false);
}

static struct test_server web;

/* One server for all: each world has a directory of its own there. */
static void prepare_on_web(const char *dir, bool with_big)
{
	char path[PATH_MAX], files[PATH_MAX], url[PATH_MAX], name[64];
	struct timespec now;

	__real_clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(name, sizeof(name), "%d.%ld.%ld", (int)getpid(), (long)now.tv_sec, now.tv_nsec);
	world_make_dir(web.root, name);
	snprintf(files, sizeof(files), "%s/%s", web.root, name);
	snprintf(path, sizeof(path), "%s/cache", dir);
	if (symlink(files, path) < 0)
		torture_fail("%s: %s", path, strerror(errno));
	snprintf(url, sizeof(url), "http://127.0.0.1:%u/ok/%s", web.port, name);
	prepare_for(dir, url, with_big);
}

static void prepare_http(const char *dir)
{
	prepare_on_web(dir, false);
}

static void prepare_big(const char *dir)
{
	prepare_on_web(dir, true);
}

static int run_daemon(struct driver *driver)
{
	char config[PATH_MAX], name[] = "nncached", option[] = "--config",
			       *argv[] = { name, option, config, NULL };
	int status;

	snprintf(config, sizeof(config), "%s/nncache.conf", driver->dir);
	fail_spare(true);
	if (__real_pthread_create(&driver->thread, NULL, drive, driver) != 0)
		torture_fail("no thread");
	fail_spare(false);
	status = nncached_main(3, argv);
	fail_spare(true);
	driver->is_over = true;
	pthread_join(driver->thread, NULL);
	return status;
}

static int run_with(struct driver *driver)
{
	fail_take_sqlite();
	for (size_t i = MARK_IN_SPOOL; i <= MARK_ROOT; i++)
		driver->ledger->marks[i] = 1;
	return run_daemon(driver);
}

static int run(const char *dir, struct torture_ledger *ledger)
{
	return run_with(&(struct driver){ .dir = dir, .ledger = ledger });
}

static int run_big(const char *dir, struct torture_ledger *ledger)
{
	ledger->marks[MARK_BIG_IN_SPOOL] = 1;
	return run(dir, ledger);
}

static int run_reloading(const char *dir, struct torture_ledger *ledger)
{
	return run_with(&(struct driver){ .dir = dir, .ledger = ledger, .reloads = true });
}

static void judge(const char *dir, struct torture_ledger *ledger)
{
	struct driver driver = { .dir = dir, .ledger = ledger, .is_patient = true };
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/cache", dir);
	nix_check_cache(path);
	snprintf(path, sizeof(path), "%s/socket", dir);
	unlink(path); /* is there anew when the next one serves */
	fail_set_clock(LATER_S);
	if (run_daemon(&driver) != 0)
		torture_fail("a daemon in which nothing fails has failed");
	snprintf(path, sizeof(path), "%s/cache", dir);
	nix_check_cache(path);
}

int main(int argc, char **argv)
{
	static const struct torture_scenario scenarios[] = {
		{ "daemon", prepare, run, judge, .may_fail = true, .n_sample = 4 },
		{ "daemon-http", prepare_http, run, judge, .may_fail = true, .n_sample = 3 },
		{ "daemon-reload", prepare, run_reloading, judge, .may_fail = true, .n_sample = 2 },
		/* What a large path does otherwise than the small ones is done with files. */
		{ "daemon-big", prepare_big, run_big, judge, .may_fail = true, .n_sample = 2,
		  .kinds = 1u << FAIL_OPEN | 1u << FAIL_READ | 1u << FAIL_WRITE | 1u << FAIL_SYNC |
		           1u << FAIL_NAME },
	};
	int status;

	cache_server_start(&web, NULL);
	status = torture_main(argc, argv, scenarios, N_ELEMENTS(scenarios));
	test_server_stop(&web);
	return status;
}
