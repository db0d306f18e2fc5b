/* The whole daemon, its own main(), with a store of its own or of nix-daemon, a cache of files or on a web
 * server, files in the spool and a root that a hook left. While it runs, another thread, in which nothing
 * fails, hands paths over, asks for the status, and in the end stops it. Then a daemon in which nothing
 * fails, two days later, must bring everything that was acknowledged to the cache, and leave no root behind.
 * How it starts is the same for all kinds of caches: with the others nothing fails until it serves, and it
 * has nothing to do before. */
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
#define TOKEN     "open-sesame\n"
#define KEY       "signing-key-file = %s/key.secret\n"
#define AWS_KEYS                                       \
	"[default]\naws_access_key_id = AKIDEXAMPLE\n" \
	"aws_secret_access_key = wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\n"

/* What the queue does is much alike for all of them. */
#define OURS                                                                                          \
	(1u << FAIL_MEMORY | 1u << FAIL_OPEN | 1u << FAIL_READ | 1u << FAIL_WRITE | 1u << FAIL_SYNC | \
	 1u << FAIL_NAME | 1u << FAIL_THREAD)

int nncached_main(int argc, char **argv);

/* What is acknowledged: by the daemon; or before it ran, by a file in the spool and by a root. */
static const char *const paths[] = { NIX_A, NIX_LATE, NIX_SPARE, NIX_OUT, NIX_B, NIX_BIG };
enum { MARK_FIRST, MARK_SECOND, MARK_IN_SPOOL, MARK_OUTPUT_OF_SPOOL, MARK_ROOT, MARK_BIG };

/* ---- a client ---------------------------------------------------------------------------------------- */

struct driver {
	const char *dir;
	struct torture_ledger *ledger;
	bool is_patient; /* the daemon is whole: it must do everything */
	bool reloads;    /* between the two hand-overs */
	bool arms;       /* nothing fails before the first one */
	size_t second;   /* the mark of what is handed over then; 0: MARK_SECOND */
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
		poll(NULL, 0, driver->arms ? 100 : 20); /* to answer is most of what an idle daemon does */
	}
	return false;
}

static void *drive(void *arg)
{
	struct driver *driver = arg;
	struct torture_ledger *ledger = driver->ledger;
	size_t second = driver->second != 0 ? driver->second : MARK_SECOND;

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
		if (driver->arms)
			fail_arm(&ledger->plan);
		if (is_acknowledged(driver, "enqueue", NIX_A))
			ledger->marks[MARK_FIRST] = 1;
		if (driver->reloads)
			kill(getpid(), SIGHUP);
		if (is_acknowledged(driver, "push", paths[second]))
			ledger->marks[second] = 1;
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

/* CACHE: the lines of its section. */
static void configure_with(const char *dir, const char *store, const char *cache)
{
	char text[PATH_MAX * 2], path[PATH_MAX];

	world_make_dir(dir, "state/spool");
	snprintf(
		text, sizeof(text),
		"[daemon]\nstore = %s\nsocket = %s/socket\nstate-dir = %s/state\nspool-dir = %s/state/spool\n"
		"gcroots-dir = %s/nix/var/nix/gcroots/nncache\npack-jobs = 1\n"
		"[cache \"main\"]\nupstreams =\n%s",
		store, dir, dir, dir, dir, cache);
	snprintf(path, sizeof(path), "%s/nncache.conf", dir);
	world_write(path, text, strlen(text));
}

static void configure(const char *dir, const char *cache)
{
	char store[PATH_MAX];

	snprintf(store, sizeof(store), "local?root=%s", dir);
	configure_with(dir, store, cache);
}

/* What earlier lives of daemon and hooks left. */
static void leave_work(const char *dir, bool with_big)
{
	char path[PATH_MAX];

	spool(dir, "nncache 1 enqueue\npath " NIX_SPARE "\nend\n");
	spool(dir, "nncache 1 enqueue\nderivation " NIX_DRV "\nend\n");
	if (with_big)
		spool(dir, "nncache 1 enqueue\npath " NIX_BIG "\nend\n");
	snprintf(path, sizeof(path), "%s/nix/var/nix/gcroots/nncache/%s.1.1", dir, store_path_base(NIX_B));
	if (symlink(NIX_B, path) < 0)
		torture_fail("%s: %s", path, strerror(errno));
}

static void prepare(const char *dir)
{
	char cache[PATH_MAX];

	nix_make(dir, 0);
	world_make_dir(dir, "cache");
	snprintf(cache, sizeof(cache), "url = file://%s/cache\n" KEY, dir, dir);
	configure(dir, cache);
	leave_work(dir, false);
}

static struct test_server web, s3, attic, cachix, nix_daemon;

/* A store that all worlds share, of a nix-daemon; roots are not its business. */
static void prepare_nix_daemon(const char *dir)
{
	char store[PATH_MAX], cache[PATH_MAX];

	nix_make_key(dir);
	world_make_dir(dir, "nix/var/nix/gcroots/nncache");
	world_make_dir(dir, "cache");
	snprintf(store, sizeof(store), "unix://%s/nix-daemon?root=%s", nix_daemon.dir, nix_daemon.dir);
	snprintf(cache, sizeof(cache), "url = file://%s/cache\n" KEY, dir, dir);
	configure_with(dir, store, cache);
	leave_work(dir, false);
}

/* One server for all: each world has a directory of its own there, DIR/cache, called NAME. */
static void make_place(const struct test_server *server, const char *dir, char name[64])
{
	char path[PATH_MAX], files[PATH_MAX];
	struct timespec now;

	__real_clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(name, 64, "w%d-%ld-%ld", (int)getpid(), (long)now.tv_sec, now.tv_nsec);
	world_make_dir(server->root, name);
	snprintf(files, sizeof(files), "%s/%s", server->root, name);
	snprintf(path, sizeof(path), "%s/cache", dir);
	if (symlink(files, path) < 0)
		torture_fail("%s: %s", path, strerror(errno));
}

/* A world without work yet, whose cache is called NAME at SERVER, with DIR/secret. */
static void make_idle(const struct test_server *server, const char *dir, size_t big_bytes, const char *secret,
                      char name[64])
{
	char path[PATH_MAX];

	nix_make(dir, big_bytes);
	make_place(server, dir, name);
	snprintf(path, sizeof(path), "%s/secret", dir);
	world_write(path, secret, strlen(secret));
	chmod(path, 0600); /* or the daemon does not take it */
}

static void prepare_on_web(const char *dir, size_t big_bytes)
{
	char name[64], cache[PATH_MAX];

	nix_make(dir, big_bytes);
	make_place(&web, dir, name);
	snprintf(cache, sizeof(cache), "url = http://127.0.0.1:%u/ok/%s\n" KEY, web.port, name, dir);
	configure(dir, cache);
	leave_work(dir, big_bytes > 0);
}

static void prepare_http(const char *dir)
{
	prepare_on_web(dir, 0);
}

static void prepare_big(const char *dir)
{
	prepare_on_web(dir, NIX_BIG_BYTES);
}

static void prepare_s3(const char *dir)
{
	char name[64], cache[PATH_MAX];

	make_idle(&s3, dir, NIX_PARTS_BYTES, AWS_KEYS, name);
	snprintf(cache, sizeof(cache),
	         "url = s3://%s\nendpoint = http://127.0.0.1:%u\ntoken-file = %s/secret\n" KEY, name, s3.port,
	         dir, dir);
	configure(dir, cache);
}

static void prepare_attic(const char *dir)
{
	char name[64], cache[PATH_MAX];

	make_idle(&attic, dir, 0, TOKEN, name);
	snprintf(cache, sizeof(cache), "url = attic+http://127.0.0.1:%u/%s\ntoken-file = %s/secret\n" KEY,
	         attic.port, name, dir, dir);
	configure(dir, cache);
}

static void prepare_cachix(const char *dir)
{
	char name[64], cache[PATH_MAX];

	make_idle(&cachix, dir, 0, TOKEN, name);
	snprintf(cache, sizeof(cache),
	         "url = cachix://%s\nendpoint = http://127.0.0.1:%u\ntoken-file = %s/secret\n", name,
	         cachix.port, dir);
	configure(dir, cache);
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
	if (!driver->arms)
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
	ledger->marks[MARK_BIG] = 1;
	return run(dir, ledger);
}

static int run_reloading(const char *dir, struct torture_ledger *ledger)
{
	return run_with(&(struct driver){ .dir = dir, .ledger = ledger, .reloads = true });
}

static int run_serving(const char *dir, struct torture_ledger *ledger)
{
	return run_with(&(struct driver){ .dir = dir, .ledger = ledger, .arms = true });
}

static int run_parts(const char *dir, struct torture_ledger *ledger)
{
	return run_with(&(struct driver){ .dir = dir, .ledger = ledger, .arms = true, .second = MARK_BIG });
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
		{ "daemon-nix", prepare_nix_daemon, run, judge, .may_fail = true, .n_sample = 1,
		  .kinds = OURS },
		/* Its uploads are noted in the queue. */
		{ "daemon-s3", prepare_s3, run_parts, judge, .may_fail = true, .arms_itself = true,
		  .n_sample = 1, .kinds = OURS | 1u << FAIL_SQL_STEP },
		{ "daemon-attic", prepare_attic, run_serving, judge, .may_fail = true, .arms_itself = true,
		  .n_sample = 1, .kinds = OURS },
		{ "daemon-cachix", prepare_cachix, run_serving, judge, .may_fail = true, .arms_itself = true,
		  .n_sample = 1, .kinds = OURS },
	};
	struct test_server *servers[] = { &web, &s3, &attic, &cachix, &nix_daemon };
	char dir[64];
	int status;

	cache_server_start(&web, NULL);
	s3_server_start(&s3);
	attic_server_start(&attic);
	cachix_server_start(&cachix);
	scratch_make(dir);
	nix_make(dir, 0);
	nix_daemon_start(&nix_daemon, dir);
	status = torture_main(argc, argv, scenarios, N_ELEMENTS(scenarios));
	for (size_t i = 0; i < N_ELEMENTS(servers); i++)
		test_server_stop(servers[i]);
	return status;
}
