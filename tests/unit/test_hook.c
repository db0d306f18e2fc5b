/* hook: its settings, what it hands over, its own roots. The program itself: tests/integration/hook.bats */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hook/handover.h"
#include "hook/own_roots.h"
#include "hook/settings.h"
#include "tests/unit/test.h"

#define STORE  "/nix/store"
#define HASH   "znfl9jqnlc8ialnfmiwhg8rs6pllsccf"
#define PATH_A STORE "/" HASH "-demo-1.0"
#define PATH_B STORE "/" HASH "-demo-1.0-dev"
#define DRV    STORE "/" HASH "-demo-1.0.drv"

static char dir[] = "/tmp/nncache-hook-XXXXXX";
static struct settings settings;
static struct handover handover;
static struct buf mistakes;

static int set_up(void **state)
{
	(void)state;
	settings_init(&settings);
	buf_init(&mistakes, 4096);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	settings_fini(&settings);
	handover_fini(&handover);
	buf_fini(&mistakes);
	return 0;
}

static void assert_no_mistakes(void)
{
	assert_string_equal(buf_text(&mistakes), "");
}

static void assert_mistake(const char *text)
{
	if (strstr(buf_text(&mistakes), text) == NULL)
		fail_msg("expected '%s' among: %s", text, buf_text(&mistakes));
}

/* Writes the file NAME of the scratch directory; returns its path without the ending ".env". */
static const char *write_env_file(const char *text, mode_t mode)
{
	static char path[256];
	char file[300];
	int fd;

	snprintf(path, sizeof(path), "%s/hook", dir);
	snprintf(file, sizeof(file), "%s.env", path);
	unlink(file);
	fd = open(file, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
	return path;
}

static void nothing_set_means_the_defaults(void **state)
{
	(void)state;
	settings_read_environment(&settings, &mistakes);
	settings_read_file(&settings, "/nonexistent/hook", &mistakes);
	assert_no_mistakes();
	assert_null(settings.socket);
	assert_null(settings.spool);
	assert_null(settings.tag);
	assert_string_equal(settings.gcroots, "/nix/var/nix/gcroots/nncache");
	assert_int_equal(settings.timeout_ms, 1000);
}

static void the_file_wins_over_the_environment(void **state)
{
	(void)state;
	setenv("NNCACHE_SOCKET", "/env/socket", 1);
	setenv("NNCACHE_TAG", "env", 1);
	setenv("NNCACHE_TIMEOUT_MS", "500", 1);
	settings_read_environment(&settings, &mistakes);
	settings_read_file(&settings,
	                   write_env_file("# of job 7\n\nNNCACHE_TAG=ci 7 = #\nNNCACHE_TIMEOUT_MS=\n"
	                                  "NNCACHE_SPOOL=/file/spool",
	                                  0644),
	                   &mistakes);
	unsetenv("NNCACHE_SOCKET");
	unsetenv("NNCACHE_TAG");
	unsetenv("NNCACHE_TIMEOUT_MS");
	assert_no_mistakes();
	assert_string_equal(settings.socket, "/env/socket");
	assert_string_equal(settings.tag, "ci 7 = #");
	assert_string_equal(settings.spool, "/file/spool");
	assert_int_equal(settings.timeout_ms, 1000);
}

static void a_mistake_is_told_with_its_line_and_leaves_the_rest(void **state)
{
	char text[] =
		"NNCACHE_SOKET=/x\nNNCACHE_SOCKET=relative\nnonsense\nNNCACHE_TIMEOUT_MS=0\n"
		"NNCACHE_TIMEOUT_MS=60001\nNNCACHE_TIMEOUT_MS=1s\nNNCACHE_TIMEOUT_MS=18446744073709551617\n"
		"NNCACHE_TAG=a\tb\n NNCACHE_TAG=x\nNNCACHE_GCROOTS=/roots\n";
	(void)state;

	settings_read_text(&settings, "f", text, strlen(text), &mistakes);
	assert_string_equal(buf_text(&mistakes), "f:1: no such setting, ignored\n"
	                                         "f:2: expected an absolute path, ignored\n"
	                                         "f:3: expected NAME=VALUE, ignored\n"
	                                         "f:4: expected milliseconds, 1 to 60000, ignored\n"
	                                         "f:5: expected milliseconds, 1 to 60000, ignored\n"
	                                         "f:6: expected milliseconds, 1 to 60000, ignored\n"
	                                         "f:7: expected milliseconds, 1 to 60000, ignored\n"
	                                         "f:8: has a control character, ignored\n"
	                                         "f:9: no such setting, ignored\n");
	assert_null(settings.socket);
	assert_null(settings.tag);
	assert_int_equal(settings.timeout_ms, 1000);
	assert_string_equal(settings.gcroots, "/roots");
}

static void a_tag_that_no_request_takes_is_ignored(void **state)
{
	char text[400] = "NNCACHE_TAG=";
	(void)state;

	memset(text + strlen(text), 't', 256);
	settings_read_text(&settings, "f", text, strlen(text), &mistakes);
	assert_mistake("f:1: too long");
	assert_null(settings.tag);
}

static void a_file_that_others_may_write_is_not_read(void **state)
{
	char path[300];
	(void)state;

	settings_read_file(&settings, write_env_file("NNCACHE_TAG=x\n", 0664), &mistakes);
	assert_mistake("hook.env: writable by others than its owner, ignored");
	buf_clear(&mistakes);
	settings_read_file(&settings, write_env_file("NNCACHE_TAG=x\n", 0602), &mistakes);
	assert_mistake("writable by others");
	buf_clear(&mistakes);
	snprintf(path, sizeof(path), "%s.env", write_env_file("NNCACHE_TAG=x\n", 0644));
	if (chown(path, 12345, 12345) == 0) {
		settings_read_file(&settings, write_env_file("", 0644), &mistakes);
		assert_no_mistakes();
		write_env_file("NNCACHE_TAG=x\n", 0644);
		assert_int_equal(chown(path, 12345, 12345), 0);
		*strrchr(path, '.') = '\0';
		settings_read_file(&settings, path, &mistakes);
		assert_mistake("owned by another user");
	}
	assert_null(settings.tag);
}

static void the_owner_of_the_link_that_is_called_may_own_the_file(void **state)
{
	char path[300], file[320];
	(void)state;

	snprintf(path, sizeof(path), "%s", write_env_file("NNCACHE_TAG=x\n", 0644));
	snprintf(file, sizeof(file), "%s.env", path);
	if (chown(file, 12345, 12345) < 0)
		skip();
	assert_int_equal(symlink("/", path), 0);
	settings_read_file(&settings, path, &mistakes);
	assert_mistake("owned by another user");
	buf_clear(&mistakes);
	assert_int_equal(lchown(path, 12345, 12345), 0);
	settings_read_file(&settings, path, &mistakes);
	unlink(path);
	assert_no_mistakes();
	assert_string_equal(settings.tag, "x");
}

static void what_is_no_file_is_not_read(void **state)
{
	char path[256], link[300];
	(void)state;

	snprintf(path, sizeof(path), "%s/odd", dir);
	snprintf(link, sizeof(link), "%s.env", path);
	assert_int_equal(mkfifo(link, 0600), 0);
	settings_read_file(&settings, path, &mistakes);
	assert_mistake("not a regular file");
	unlink(link);
	buf_clear(&mistakes);
	assert_int_equal(symlink("/dev/zero", link), 0);
	settings_read_file(&settings, path, &mistakes);
	assert_mistake("not a regular file");
	unlink(link);
	buf_clear(&mistakes);
	settings_read_file(&settings, "hook", &mistakes); /* found in PATH */
	assert_no_mistakes();
}

static void the_size_of_the_file_is_bounded(void **state)
{
	static char text[SETTINGS_MAX_FILE + 2];
	(void)state;

	memset(text, '#', SETTINGS_MAX_FILE);
	settings_read_file(&settings, write_env_file(text, 0600), &mistakes);
	assert_no_mistakes();
	free(settings.file);
	settings.file = NULL;
	text[SETTINGS_MAX_FILE] = '#';
	settings_read_file(&settings, write_env_file(text, 0600), &mistakes);
	assert_mistake("larger than 16384 bytes");
}

static void paths_are_split_at_blanks(void **state)
{
	(void)state;
	assert_true(handover_collect(&handover, " " PATH_A "  " PATH_B "\n", DRV, &mistakes));
	assert_no_mistakes();
	assert_int_equal(handover.req.verb, VERB_ENQUEUE);
	assert_int_equal(handover.req.n_paths, 2);
	assert_string_equal(handover.req.paths[0], PATH_A);
	assert_string_equal(handover.req.paths[1], PATH_B);
	assert_string_equal(handover.req.derivation, DRV);
}

static void what_is_no_store_path_is_left_out_and_told(void **state)
{
	(void)state;
	assert_true(handover_collect(&handover, "/etc/passwd " PATH_A " " PATH_A "/bin -x", DRV, &mistakes));
	assert_int_equal(handover.req.n_paths, 1);
	assert_mistake("/etc/passwd: not in this store");
	assert_mistake(PATH_A "/bin: a path inside");
	assert_mistake("-x: not in this store");
}

static void the_store_is_where_the_derivation_is(void **state)
{
	(void)state;
	assert_true(handover_collect(&handover, "/s/" HASH "-a", "/s/" HASH "-a.drv", &mistakes));
	assert_int_equal(handover.req.n_paths, 1);
	handover_fini(&handover);
	assert_true(handover_collect(&handover, "/other/store/" HASH "-a " PATH_A, NULL, &mistakes));
	assert_int_equal(handover.req.n_paths, 1);
	assert_mistake(PATH_A ": not in this store (expected /other/store/HASH-NAME)");
	handover_fini(&handover);
	assert_true(handover_collect(&handover, "/etc/passwd " PATH_A, "nonsense", &mistakes));
	assert_int_equal(handover.req.n_paths, 1);
	assert_string_equal(handover.req.paths[0], PATH_A);
}

static void a_derivation_that_is_none_is_ignored(void **state)
{
	static const char *const cases[] = { "x",    "/",           "/x",     "//",
		                             PATH_A, STORE "/.drv", DRV "\n", "/" HASH "-a.drv" };
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		assert_false(handover_collect(&handover, NULL, cases[i], &mistakes));
		assert_mistake("DRV_PATH: ");
		handover_fini(&handover);
		buf_clear(&mistakes);
	}
	assert_true(handover_collect(&handover, PATH_A, "x", &mistakes));
	assert_int_equal(handover.req.n_paths, 1);
}

static void nothing_is_nothing(void **state)
{
	(void)state;
	assert_false(handover_collect(&handover, NULL, NULL, &mistakes));
	assert_no_mistakes();
	handover_fini(&handover);
	assert_false(handover_collect(&handover, "  ", "", &mistakes));
	assert_no_mistakes();
}

/* Copies the fixture NAME into the scratch directory under the name of a derivation. */
static const char *put_derivation(const char *name)
{
	static char path[300];
	char command[1000];

	snprintf(path, sizeof(path), "%s/" HASH "-x.drv", dir);
	snprintf(command, sizeof(command), "sed 's!/nix/store!%s!g' " FIXTURES "/derivations/%s.drv > %s",
	         dir, name, path);
	assert_int_equal(system(command), 0);
	return path;
}

static void without_out_paths_the_derivation_tells_them(void **state)
{
	char expected[300];
	(void)state;

	assert_true(handover_collect(&handover, "", put_derivation("multi"), &mistakes));
	assert_no_mistakes();
	assert_int_equal(handover.req.n_paths, 4);
	snprintf(expected, sizeof(expected), "%s/ss2rv57zxmmki2q92nxpgsby9yqw1975-multi-2.0", dir);
	assert_string_equal(handover.req.paths[3], expected);
	handover_fini(&handover);
	assert_true(handover_collect(&handover, NULL, put_derivation("odd"), &mistakes));
	assert_no_mistakes();
	assert_int_equal(handover.req.n_paths, 2);
}

static void outputs_not_known_yet_leave_the_derivation_alone(void **state)
{
	const char *path = put_derivation("floating");
	(void)state;

	assert_true(handover_collect(&handover, "", path, &mistakes));
	assert_int_equal(handover.req.n_paths, 0);
	assert_string_equal(handover.req.derivation, path);
	handover_fini(&handover);
	unlink(path); /* of a store with another root */
	assert_true(handover_collect(&handover, "", path, &mistakes));
	assert_int_equal(handover.req.n_paths, 0);
	assert_no_mistakes();
}

static size_t count_entries(const char *path)
{
	struct dirent *entry;
	DIR *d = opendir(path);
	size_t n = 0;

	assert_non_null(d);
	while ((entry = readdir(d)) != NULL)
		n += entry->d_name[0] != '.';
	closedir(d);
	return n;
}

static void roots_are_made_for_the_paths_and_removed(void **state)
{
	char path[300], base[STORE_BASE_MAX + 1], long_path[STORE_PATH_SIZE];
	const char *paths[] = { PATH_A, PATH_B, long_path };
	struct request req = { .paths = paths, .n_paths = 3, .derivation = DRV };
	struct own_roots roots;
	(void)state;

	memset(base, 'n', STORE_BASE_MAX);
	memcpy(base, HASH "-", STORE_HASH_LEN + 1);
	base[STORE_BASE_MAX] = '\0';
	snprintf(long_path, sizeof(long_path), STORE "/%s", base);
	snprintf(path, sizeof(path), "%s/roots", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_true(own_roots_make(&roots, path, &req));
	assert_int_equal(count_entries(path), 3);
	own_roots_remove(&roots, &req);
	assert_int_equal(count_entries(path), 0);
	own_roots_fini(&roots);

	req.n_paths = 0;
	assert_true(own_roots_make(&roots, path, &req));
	assert_int_equal(count_entries(path), 1);
	own_roots_remove(&roots, &req);
	own_roots_fini(&roots);
	assert_int_equal(rmdir(path), 0);
	assert_false(own_roots_make(&roots, path, &req));
	own_roots_remove(&roots, &req);
	own_roots_fini(&roots);
}

static int make_scratch(void **state)
{
	(void)state;
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static int remove_scratch(void **state)
{
	char file[300];
	(void)state;

	snprintf(file, sizeof(file), "%s/hook.env", dir);
	unlink(file);
	return rmdir(dir);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nothing_set_means_the_defaults),
		TEST(the_file_wins_over_the_environment),
		TEST(a_mistake_is_told_with_its_line_and_leaves_the_rest),
		TEST(a_tag_that_no_request_takes_is_ignored),
		TEST(a_file_that_others_may_write_is_not_read),
		TEST(the_owner_of_the_link_that_is_called_may_own_the_file),
		TEST(what_is_no_file_is_not_read),
		TEST(the_size_of_the_file_is_bounded),
		TEST(paths_are_split_at_blanks),
		TEST(what_is_no_store_path_is_left_out_and_told),
		TEST(the_store_is_where_the_derivation_is),
		TEST(a_derivation_that_is_none_is_ignored),
		TEST(nothing_is_nothing),
		TEST(without_out_paths_the_derivation_tells_them),
		TEST(outputs_not_known_yet_leave_the_derivation_alone),
		TEST(roots_are_made_for_the_paths_and_removed),
	};
	return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
