/* common/spool: a request is in the directory whole, or not at all. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/spool.h"
#include "tests/unit/test.h"

static struct error err;
static char dir[] = "/tmp/nncache-spool-XXXXXX";

/* The name of the only entry of the directory; "" if it is empty. */
static void only_entry(char name[256])
{
	struct dirent *entry;
	DIR *d = opendir(dir);
	int n = 0;

	assert_non_null(d);
	name[0] = '\0';
	while ((entry = readdir(d)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		strcpy(name, entry->d_name);
		n++;
	}
	closedir(d);
	assert_true(n <= 1);
}

static void a_request_is_left_byte_for_byte_under_a_name_that_tells_its_age(void **state)
{
	uint64_t before_ns = (uint64_t)clock_unix_ms() * 1000000, name_ns;
	char name[256], path[512], *text;
	struct stat st;
	size_t len;
	(void)state;

	umask(0077);
	assert_int_equal(spool_write(dir, "one\0two\n", 8, &err), 0);
	umask(0022);
	only_entry(name);
	assert_true(spool_name_parse(name, &name_ns));
	assert_in_range(name_ns, before_ns, before_ns + 60000000000U);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	assert_int_equal(read_file(path, 100, &text, &len, &err), 0);
	assert_int_equal(len, 8);
	assert_memory_equal(text, "one\0two\n", 8);
	free(text);
	unlink(path);
}

static void a_directory_that_cannot_be_written_is_an_error_and_stays_as_it_is(void **state)
{
	char name[256], missing[300];
	(void)state;

	snprintf(missing, sizeof(missing), "%s/missing", dir);
	assert_int_equal(spool_write(missing, "x", 1, &err), -1);
	assert_int_equal(err.kind, ERROR_TRANSIENT);
	assert_non_null(strstr(err.text, missing));
	assert_int_equal(spool_write("/dev/null", "x", 1, &err), -1);
	assert_int_equal(spool_write("/proc/self", "x", 1, &err), -1);
	only_entry(name);
	assert_string_equal(name, "");
}

static void only_names_as_we_write_them_are_requests(void **state)
{
	static const char *const others[] = {
		"",
		".slow",
		".1764000000123456789.17.req.tmp",
		"1764000000123456789.17.req.tmp",
		"1764000000123456789.17.req.bad",
		"1764000000123456789.17",
		"1764000000123456789..req",
		"1764000000123456789.req",
		"176400000012345678.17.req",
		"17640000001234567890.17.req",
		"1764000000123456789.12345678901.req",
		"1764000000123456789.1a.req",
		"-764000000123456789.17.req",
	};
	uint64_t ns;
	(void)state;

	assert_true(spool_name_parse("1764000000123456789.17.req", &ns));
	assert_true(ns == 1764000000123456789U);
	assert_true(spool_name_parse("1764000000123456789.4194304.req", NULL));
	for (size_t i = 0; i < N_ELEMENTS(others); i++)
		if (spool_name_parse(others[i], NULL))
			fail_msg("taken for a request: %s", others[i]);
}

static void the_mark_of_a_slow_daemon_ages_and_goes(void **state)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = time(NULL) - 60 } };
	char path[512], name[256];
	(void)state;

	snprintf(path, sizeof(path), "%s/.slow", dir);
	assert_true(spool_slow_age_ms(dir) == UINT64_MAX);
	spool_slow_set(dir);
	assert_in_range(spool_slow_age_ms(dir), 0, 30000);
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	assert_in_range(spool_slow_age_ms(dir), 59000, 120000);
	spool_slow_set(dir);
	assert_in_range(spool_slow_age_ms(dir), 0, 30000);
	times[1].tv_sec += 3600;
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	assert_true(spool_slow_age_ms(dir) == UINT64_MAX);
	spool_slow_clear(dir);
	only_entry(name);
	assert_string_equal(name, "");
}

static void the_mark_is_never_written_through_a_link(void **state)
{
	char path[512], target[512];
	struct stat st;
	(void)state;

	snprintf(path, sizeof(path), "%s/.slow", dir);
	snprintf(target, sizeof(target), "%s/target", dir);
	assert_int_equal(symlink(target, path), 0);
	spool_slow_set(dir);
	assert_int_equal(lstat(target, &st), -1);
	spool_slow_clear(dir);
}

static void the_spool_of_a_user_is_where_the_state_is(void **state)
{
	char path[SPOOL_DIR_SIZE];
	(void)state;

	setenv("XDG_STATE_HOME", "/s", 1);
	setenv("HOME", "/h", 1);
	assert_true(spool_user_dir(path));
	assert_string_equal(path, "/s/nncache/spool");
	setenv("XDG_STATE_HOME", "relative", 1);
	assert_true(spool_user_dir(path));
	assert_string_equal(path, "/h/.local/state/nncache/spool");
	unsetenv("XDG_STATE_HOME");
	unsetenv("HOME");
	assert_false(spool_user_dir(path));
}

static int make_scratch(void **state)
{
	(void)state;
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static int remove_scratch(void **state)
{
	(void)state;
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_is_left_byte_for_byte_under_a_name_that_tells_its_age),
		cmocka_unit_test(a_directory_that_cannot_be_written_is_an_error_and_stays_as_it_is),
		cmocka_unit_test(only_names_as_we_write_them_are_requests),
		cmocka_unit_test(the_mark_of_a_slow_daemon_ages_and_goes),
		cmocka_unit_test(the_mark_is_never_written_through_a_link),
		cmocka_unit_test(the_spool_of_a_user_is_where_the_state_is),
	};
	return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
