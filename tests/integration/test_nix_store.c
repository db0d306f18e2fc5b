/* store and roots against a Nix that is installed: a store and a nix-daemon of the test's own, below
 * a scratch directory. Skipped where there is no Nix, or it cannot build without a sandbox. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/store_path.h"
#include "daemon/format/hash.h"
#include "daemon/loop/timer.h"
#include "daemon/store/roots.h"
#include "daemon/store/texts.h"
#include "tests/unit/test.h"

#define SKIPPED 77

static char top[64], gcroots[128], our_dir[160], other_dir[160];
static char out[512], dev[512], drv[512], unbuilt_drv[512], source[512], gone[512];
static pid_t daemon_pid;
static struct loop loop;

/* --- Nix. --- */

/* Runs a command; its last line goes to LINE (512 bytes), which may be NULL. */
static int PRINTF(2, 3) command(char *line, const char *format, ...)
{
	char text[2048], got[512] = "";
	va_list args;
	FILE *pipe;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	pipe = popen(text, "r");
	assert_non_null(pipe);
	while (fgets(got, sizeof(got), pipe) != NULL)
		if (line != NULL)
			snprintf(line, 512, "%.*s", (int)strcspn(got, "\n"), got);
	return pclose(pipe);
}

#define RUN(...)     assert_int_equal(command(NULL, __VA_ARGS__), 0)
#define GET(to, ...) assert_int_equal(command(to, __VA_ARGS__), 0)

static void write_file(const char *name, const char *text)
{
	char path[160];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", top, name);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

/* nix-daemon would also take a socket from systemd, and its clients a store from NIX_REMOTE. */
static void set_environment(void)
{
	static const char *const dirs[][2] = {
		{ "NIX_STORE_DIR", "store" },
		{ "NIX_STATE_DIR", "var" },
		{ "NIX_LOG_DIR", "log" },
		{ "NIX_CONF_DIR", "etc" },
		{ "NIX_DAEMON_SOCKET_PATH", "socket" },
		{ "HOME", "home" },
		{ "XDG_CACHE_HOME", "home/cache" },
	};
	char path[160];

	for (size_t i = 0; i < N_ELEMENTS(dirs); i++) {
		snprintf(path, sizeof(path), "%s/%s", top, dirs[i][1]);
		setenv(dirs[i][0], path, 1);
	}
	unsetenv("NIX_REMOTE");
	unsetenv("LISTEN_FDS");
}

static void start_daemon(void)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/socket", top);
	unlink(path);
	daemon_pid = fork();
	assert_true(daemon_pid >= 0);
	if (daemon_pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		execlp("nix-daemon", "nix-daemon", "--daemon", NULL);
		_exit(127);
	}
	/* The file is there before anybody listens. */
	for (int i = 0; i < 500 && command(NULL, "grep -q ' 00010000 .*%s$' /proc/net/unix", path) != 0; i++)
		usleep(10000);
}

static void stop_daemon(void)
{
	if (daemon_pid > 0) {
		kill(daemon_pid, SIGTERM);
		waitpid(daemon_pid, NULL, 0);
	}
	daemon_pid = 0;
}

/* Counts the daemon's own processes, one for each connection, and sends SIGNO to them (0: nothing). */
static size_t signal_connections(int signo)
{
	DIR *dir = opendir("/proc");
	const struct dirent *entry;
	size_t n = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL) {
		char path[300], state;
		FILE *file;
		int pid, parent;

		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		file = fopen(path, "r");
		if (file == NULL)
			continue;
		if (fscanf(file, "%d (%*[^)]) %c %d", &pid, &state, &parent) == 3 && parent == daemon_pid &&
		    state != 'Z' && kill(pid, signo) == 0)
			n++;
		fclose(file);
	}
	closedir(dir);
	return n;
}

static size_t n_connections(void)
{
	return signal_connections(0);
}

static const char derivations[] =
	"let make = name: extra: derivation ({ inherit name; system = builtins.currentSystem; builder = "
	"\"/bin/sh\";"
	" args = [ \"-c\" \"echo $out $src > $out; echo $out > $dev\" ]; outputs = [ \"out\" \"dev\" ];"
	" src = builtins.toFile \"a-source\" \"hello\"; } // extra); in"
	" { built = make \"built-1.0\" {}; unbuilt = make \"unbuilt\" {}; }";

/* OUT refers to itself and to SOURCE, DEV to OUT. */
static void build(void)
{
	GET(drv, "nix-instantiate %s/test.nix -A built 2>/dev/null", top);
	GET(unbuilt_drv, "nix-instantiate %s/test.nix -A unbuilt 2>/dev/null", top);
	RUN("nix-store --realise %s >/dev/null 2>%s/build.log", drv, top);
	GET(out, "nix-store -q --outputs %s | grep -v dev$", drv);
	GET(dev, "nix-store -q --outputs %s | grep dev$", drv);
	GET(source, "nix-store -q --references %s | grep a-source", out);
	snprintf(gone, sizeof(gone), "%s/00000000000000000000000000000000-gone", getenv("NIX_STORE_DIR"));
}

static int make_nix(void)
{
	snprintf(top, sizeof(top), "/tmp/test_nix_store.XXXXXX");
	assert_non_null(mkdtemp(top));
	chmod(top, 0755);
	set_environment();
	RUN("mkdir %s/etc %s/home", top, top);
	write_file("etc/nix.conf", "sandbox = false\nbuild-users-group =\nsubstituters =\n"
	                           "keep-derivations = false\nkeep-outputs = false\n");
	write_file("test.nix", derivations);
	snprintf(gcroots, sizeof(gcroots), "%s/var/gcroots", top);
	snprintf(our_dir, sizeof(our_dir), "%s/nncache", gcroots);
	snprintf(other_dir, sizeof(other_dir), "%s/elsewhere", top);
	if (command(NULL, "nix-store --init") != 0 ||
	    command(NULL, "nix-build --no-out-link %s/test.nix -A built >/dev/null 2>&1", top) != 0)
		return -1;
	build();
	return 0;
}

static int remove_nix(void **state)
{
	(void)state;
	stop_daemon();
	command(NULL, "chmod -R u+w %s; rm -rf %s", top, top);
	return 0;
}

/* Builds again what a test's collection took. */
static int before_each(void **state)
{
	(void)state;

	build();
	start_daemon();
	return 0;
}

static int after_each(void **state)
{
	(void)state;
	stop_daemon();
	command(NULL, "rm -rf %s %s", our_dir, other_dir);
	return 0;
}

static void collect_garbage(void)
{
	RUN("nix-store --gc >/dev/null 2>&1");
}

static bool is_there(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/* --- The store, waited for. One at a time: each has the loop for itself. --- */

static struct store *open_store(const char *uri)
{
	struct store *store = NULL;
	struct error err;

	if (loop_init(&loop, &err) < 0 || store_open(&store, &loop, uri, &err) < 0)
		fail_msg("%s", err.text);
	return store;
}

static void on_closed(void *ctx)
{
	*(bool *)ctx = true;
}

static void close_store(struct store *store)
{
	bool closed = false;

	store_close(store, on_closed, &closed);
	while (!closed)
		loop_run(&loop);
	loop_fini(&loop);
}

static void on_infos(struct store_info_query *query)
{
	(void)query;
	loop_stop(&loop);
}

static void get_infos(struct store *store, const char *const *paths, size_t n, struct path_info *infos)
{
	struct store_info_query query = { .paths = paths, .n_paths = n, .infos = infos };

	memset(infos, 0, n * sizeof(*infos));
	store_info_start(store, &query, on_infos);
	loop_run(&loop);
	if (query.err.kind != ERROR_NONE)
		fail_msg("%s", query.err.text);
}

static void on_outputs(struct store_outputs_query *query)
{
	(void)query;
	loop_stop(&loop);
}

static struct store_outputs_query get_outputs(struct store *store, const char *derivation)
{
	struct store_outputs_query query = { .derivation = derivation };

	store_outputs_start(store, &query, on_outputs);
	loop_run(&loop);
	if (query.err.kind != ERROR_NONE)
		fail_msg("%s", query.err.text);
	return query;
}

static void on_added(struct roots_add *add)
{
	(void)add;
	loop_stop(&loop);
}

static void add_root(struct roots *roots, const char *path, bool *is_valid)
{
	const char *const paths[] = { path };
	struct roots_add add = { .paths = paths, .n_paths = 1, .is_valid = is_valid };

	roots_add_start(roots, &add, on_added);
	loop_run(&loop);
	if (add.err.kind != ERROR_NONE)
		fail_msg("%s", add.err.text);
}

static struct roots *open_roots(struct store *store, const char *dir)
{
	struct roots *roots = NULL;
	struct error err;

	if (roots_open(&roots, store, dir, other_dir, &err) < 0)
		fail_msg("%s", err.text);
	assert_null(roots_message(roots));
	return roots;
}

/* --- What Nix knows. --- */

static void check_against_nix(const struct path_info *info, const char *path)
{
	char got[512], hash[SHA256_TEXT_SIZE];

	assert_string_equal(info->path, path);
	GET(got, "nix-store -q --hash %s", path);
	assert_string_equal(hash_format_sha256(info->nar_hash, hash), got);
	GET(got, "nix-store -q --size %s", path);
	assert_int_equal(info->nar_size, strtoull(got, NULL, 10));
	GET(got, "nix-store -q --references %s | wc -l", path);
	assert_int_equal(info->n_references, strtoull(got, NULL, 10));
	for (size_t i = 0; i < info->n_references; i++)
		RUN("nix-store -q --references %s | grep -qxF %s", path, info->references[i]);
	assert_in_range(info->registered_unix_s, clock_unix_s() - 3600, clock_unix_s());
}

static void check_store(const char *uri)
{
	const char *const paths[] = { out, gone, dev, source, drv };
	struct path_info infos[N_ELEMENTS(paths)];
	struct store *store = open_store(uri);

	get_infos(store, paths, N_ELEMENTS(paths), infos);
	check_against_nix(&infos[0], out);
	check_against_nix(&infos[2], dev);
	check_against_nix(&infos[3], source);
	check_against_nix(&infos[4], drv);
	assert_null(infos[1].path);
	assert_string_equal(infos[0].deriver, drv);
	assert_true(infos[0].ultimate);
	assert_null(infos[0].ca);
	assert_false(infos[3].ultimate);
	assert_null(infos[3].deriver);
	assert_memory_equal(infos[3].ca, "text:sha256:", 12);
	for (size_t i = 0; i < N_ELEMENTS(paths); i++)
		path_info_fini(&infos[i]);
	close_store(store);
}

static void the_daemon_and_the_database_say_what_nix_says(void **state)
{
	(void)state;
	check_store("daemon");
	check_store("auto");
	check_store("local");
	stop_daemon();
	check_store("daemon");
}

static void check_outputs(const char *uri)
{
	struct store *store = open_store(uri);
	struct store_outputs_query query = get_outputs(store, drv);

	assert_int_equal(query.n_outputs, 2);
	assert_true(strcmp(query.outputs[0], out) == 0 || strcmp(query.outputs[1], out) == 0);
	assert_true(strcmp(query.outputs[0], dev) == 0 || strcmp(query.outputs[1], dev) == 0);
	texts_free(query.outputs, query.n_outputs);
	assert_int_equal(get_outputs(store, unbuilt_drv).n_outputs, 0);
	strcat(gone, ".drv");
	assert_int_equal(get_outputs(store, gone).n_outputs, 0);
	gone[strlen(gone) - 4] = '\0';
	close_store(store);
}

static void outputs_are_those_that_are_valid(void **state)
{
	(void)state;
	check_outputs("daemon");
	check_outputs("local");
}

static void a_daemon_that_was_restarted_is_asked_again(void **state)
{
	const char *const paths[] = { out };
	struct path_info info;
	struct store *store = open_store("daemon");
	(void)state;

	get_infos(store, paths, 1, &info);
	path_info_fini(&info);
	assert_int_equal(n_connections(), 1);
	assert_int_equal(signal_connections(SIGKILL), 1);
	stop_daemon();
	start_daemon();
	get_infos(store, paths, 1, &info);
	check_against_nix(&info, out);
	path_info_fini(&info);
	assert_int_equal(n_connections(), 1);
	close_store(store);
}

static void on_late(struct timer *timer)
{
	(void)timer;
	loop_stop(&loop);
}

static void an_idle_store_holds_no_connection(void **state)
{
	const char *const paths[] = { out };
	struct path_info info;
	struct store *store = open_store("daemon");
	struct timer timer;
	(void)state;

	get_infos(store, paths, 1, &info);
	path_info_fini(&info);
	assert_int_equal(n_connections(), 1);
	timer_init(&timer, &loop, on_late);
	timer_set(&timer, 2500);
	loop_run(&loop);
	for (int i = 0; i < 100 && n_connections() > 0; i++)
		usleep(10000);
	assert_int_equal(n_connections(), 0);
	timer_close(&timer, NULL);
	close_store(store);
}

/* --- What the collector keeps. --- */

static void check_roots(const char *uri, const char *dir)
{
	struct store *store = open_store(uri);
	struct roots *roots = open_roots(store, dir);
	bool is_valid = false, gone_is_valid = true;

	add_root(roots, out, &is_valid);
	add_root(roots, gone, &gone_is_valid);
	add_root(roots, out, NULL);
	assert_true(is_valid);
	assert_false(gone_is_valid);
	/* No connection, and with it no temporary root, is what keeps it. */
	roots_close(roots);
	close_store(store);
	collect_garbage();
	assert_true(is_there(out));
	assert_true(is_there(source));
	assert_false(is_there(dev));

	store = open_store(uri);
	roots = open_roots(store, dir);
	roots_remove(roots, out);
	collect_garbage();
	assert_false(is_there(out));
	assert_false(is_there(source));
	roots_close(roots);
	close_store(store);
}

static void links_below_gcroots_protect_until_they_are_removed(void **state)
{
	(void)state;
	check_roots("daemon", our_dir);
	RUN("test -d %s && test ! -e %s", our_dir, other_dir);
}

static void links_below_gcroots_protect_without_a_daemon(void **state)
{
	(void)state;
	stop_daemon();
	check_roots("auto", our_dir);
}

static void registered_links_protect_until_they_are_removed(void **state)
{
	(void)state;
	check_roots("daemon", "/nonexistent/roots");
	RUN("test -z \"$(ls -A %s/auto)\"", gcroots);
}

static void links_that_we_register_ourselves_protect_too(void **state)
{
	(void)state;
	RUN("rm -r %s/auto", gcroots); /* as in a store without a result link so far */
	check_roots("local", "/nonexistent/roots");
	RUN("test $(stat -c %%a %s/auto) = 755", gcroots);
	RUN("test -z \"$(ls -A %s/auto)\"", gcroots);
}

static void a_configured_directory_elsewhere_has_its_links_registered(void **state)
{
	char dir[200];
	(void)state;

	snprintf(dir, sizeof(dir), "%s/home/roots", top);
	check_roots("daemon", dir);
	RUN("test -d %s && test ! -e %s", dir, other_dir);
}

static void our_registration_has_the_name_that_nix_daemon_gives(void **state)
{
	static const char *const uris[] = { "daemon", "local" };
	char names[2][512];
	(void)state;

	for (size_t i = 0; i < 2; i++) {
		struct store *store = open_store(uris[i]);
		struct roots *roots = open_roots(store, "/nonexistent/roots");

		add_root(roots, out, NULL);
		GET(names[i], "ls %s/auto", gcroots);
		RUN("test $(ls %s/auto | wc -l) = 1", gcroots);
		RUN("test \"$(readlink %s/auto/*)\" = %s/%s", gcroots, other_dir, store_path_base(out));
		roots_remove(roots, out);
		roots_close(roots);
		close_store(store);
	}
	assert_string_equal(names[0], names[1]);
	assert_int_equal(strlen(names[0]), 32);
}

/* A store below a root: its paths are still called /nix/store/..., its state is below the root. */
static void roots_protect_in_a_store_below_a_root(void **state)
{
	char root[96], dir[200], path[512], file[700];
	const char *const paths[] = { path };
	struct path_info info;
	struct roots *roots;
	struct store *store;
	bool is_valid = false;
	(void)state;

	unsetenv("NIX_STORE_DIR");
	unsetenv("NIX_STATE_DIR");
	snprintf(root, sizeof(root), "%s/a root", top);
	snprintf(dir, sizeof(dir), "%s/nix/var/nix/gcroots/nncache", root);
	GET(path, "nix-store --store '%s' --add %s/test.nix", root, top);
	store = open_store(root);
	assert_string_equal(store_dir(store), "/nix/store");
	snprintf(file, sizeof(file), "%s/%s", store_real_dir(store), store_path_base(path));
	assert_true(is_there(file));
	get_infos(store, paths, 1, &info);
	assert_string_equal(info.path, path);
	assert_non_null(info.ca);
	path_info_fini(&info);

	roots = open_roots(store, dir);
	add_root(roots, path, &is_valid);
	assert_true(is_valid);
	RUN("nix-store --store '%s' --gc >/dev/null 2>&1", root);
	assert_true(is_there(file));
	roots_remove(roots, path);
	RUN("nix-store --store '%s' --gc >/dev/null 2>&1", root);
	assert_false(is_there(file));
	roots_close(roots);
	close_store(store);
	set_environment();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, before_each, after_each)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_daemon_and_the_database_say_what_nix_says),
		TEST(outputs_are_those_that_are_valid),
		TEST(a_daemon_that_was_restarted_is_asked_again),
		TEST(an_idle_store_holds_no_connection),
		TEST(links_below_gcroots_protect_until_they_are_removed),
		TEST(links_below_gcroots_protect_without_a_daemon),
		TEST(registered_links_protect_until_they_are_removed),
		TEST(links_that_we_register_ourselves_protect_too),
		TEST(a_configured_directory_elsewhere_has_its_links_registered),
		TEST(our_registration_has_the_name_that_nix_daemon_gives),
		TEST(roots_protect_in_a_store_below_a_root),
	};

	if (command(NULL, "command -v nix-daemon nix-store nix-build >/dev/null") != 0) {
		puts("skipped: there is no Nix here (nix-daemon, nix-store, nix-build)");
		return SKIPPED;
	}
	if (make_nix() < 0) {
		puts("skipped: this Nix cannot build below a scratch directory");
		remove_nix(NULL);
		return SKIPPED;
	}
	return cmocka_run_group_tests(tests, NULL, remove_nix);
}
