/* ctl/setup/nix_conf, nix_conf_edit: what Nix would read, and files that are changed without harm. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "ctl/setup/nix_conf.h"
#include "ctl/setup/nix_conf_edit.h"
#include "tests/unit/test.h"

static struct error err;
static char dir[] = "/tmp/nncache-nix-conf-XXXXXX";
static char text[KIB(64)];

/* The path of NAME in the scratch directory; valid until the fourth call from here. */
static const char *at(const char *name)
{
	static char paths[4][512];
	static unsigned i;
	char *path = paths[i++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static void put(const char *name, const char *what)
{
	FILE *file = fopen(at(name), "w");

	assert_non_null(file);
	assert_true(fputs(what, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static const char *get(const char *name)
{
	char *data;
	size_t n_bytes;

	assert_int_equal(read_file(at(name), sizeof(text) - 1, &data, &n_bytes, &err), 0);
	memcpy(text, data, n_bytes + 1);
	free(data);
	return text;
}

static int set_up(void **state)
{
	(void)state;
	setenv("NIX_CONF_DIR", dir, 1);
	setenv("NIX_USER_CONF_FILES", "", 1);
	setenv("HOME", dir, 1);
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("XDG_CONFIG_DIRS");
	unsetenv("NIX_CONFIG_HOME");
	unsetenv("NIX_CONFIG");
	setenv("NIX_STORE_DIR", at("store"), 1);
	return 0;
}

static struct nix_conf *load(enum nix_conf_scope scope)
{
	struct nix_conf *conf = nix_conf_load(scope, &err);

	assert_non_null(conf);
	return conf;
}

static struct nix_conf *parse(const char *what)
{
	struct nix_conf *conf = nix_conf_parse(what, strlen(what), "/a/nix.conf", &err);

	assert_non_null(conf);
	return conf;
}

static void assert_value(const struct nix_conf *conf, const char *name, const char *value, const char *file,
                         unsigned line)
{
	const struct nix_conf_line *found = nix_conf_get(conf, name);

	assert_non_null(found);
	assert_string_equal(found->value, value);
	assert_string_equal(found->file, file);
	assert_int_equal(found->line, line);
}

static void assert_list(const struct nix_conf *conf, const char *name, const char *words)
{
	CLEANUP(buf_fini) struct buf out = { .max = KIB(4) };

	nix_conf_join(conf, name, &out);
	assert_string_equal(buf_text(&out), words);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void the_last_line_decides_and_a_comment_ends_it(void **state)
{
	struct nix_conf *conf = parse("# post-build-hook = /no\n"
	                              "post-build-hook = /one\n"
	                              "\n"
	                              " post-build-hook\t=  /two   words # not this\r\n"
	                              "cores = 1");
	(void)state;

	assert_value(conf, "post-build-hook", "/two words", "/a/nix.conf", 4);
	assert_value(conf, "cores", "1", "/a/nix.conf", 5);
	assert_null(nix_conf_get(conf, "post-build"));
	assert_null(nix_conf_problem(conf));
	nix_conf_free(conf);
}

static void a_line_may_set_a_setting_to_nothing(void **state)
{
	struct nix_conf *conf = parse("substituters =\npost-build-hook = # none\n");
	(void)state;

	assert_value(conf, "post-build-hook", "", "/a/nix.conf", 2);
	assert_list(conf, "substituters", "");
	nix_conf_free(conf);
}

static void extra_adds_to_what_stands_before_it_and_a_later_line_takes_all_away(void **state)
{
	struct nix_conf *conf = parse("extra-substituters = https://lost\n"
	                              "substituters = https://a  https://b\n"
	                              "extra-substituters = https://c\n"
	                              "cores = 2\n"
	                              "extra-substituters = https://d\n");
	const struct nix_conf_line *line;
	(void)state;

	assert_list(conf, "substituters", "https://a https://b https://c https://d");
	line = nix_conf_find_word(conf, "substituters", "https://c");
	assert_non_null(line);
	assert_int_equal(line->line, 3);
	assert_null(nix_conf_find_word(conf, "substituters", "https://lost"));
	assert_null(nix_conf_find_word(conf, "substituters", "https:"));
	nix_conf_free(conf);
}

static void what_nobody_sets_is_as_nix_has_it(void **state)
{
	struct nix_conf *conf = parse("extra-trusted-users = @wheel\nextra-binary-caches = https://c\n");
	const struct nix_conf_line *line;
	(void)state;

	assert_list(conf, "trusted-users", "root @wheel");
	assert_list(conf, "substituters", "https://cache.nixos.org/ https://c");
	assert_list(conf, "trusted-substituters", "");
	line = nix_conf_find_word(conf, "trusted-users", "root");
	assert_non_null(line);
	assert_null(line->file);
	nix_conf_free(conf);
}

static void old_names_are_the_same_settings(void **state)
{
	struct nix_conf *conf = parse("substituters = https://a\nbinary-caches = https://b\n"
	                              "binary-cache-public-keys = k:1\nextra-trusted-public-keys = k:2\n");
	(void)state;

	assert_list(conf, "substituters", "https://b");
	assert_list(conf, "trusted-public-keys", "k:1 k:2");
	nix_conf_free(conf);
}

static void the_first_line_that_nix_refuses_is_named(void **state)
{
	static const char *const lines[] = { "cores",   "cores=1",     "cores =1",
		                             "include", "include a b", "!include" };
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(lines); i++) {
		struct nix_conf *conf;

		snprintf(text, sizeof(text), "cores = 4\n%s\nbad\n", lines[i]);
		conf = parse(text);
		assert_non_null(nix_conf_problem(conf));
		assert_memory_equal(nix_conf_problem(conf), "/a/nix.conf:2: ", 15);
		assert_value(conf, "cores", "4", "/a/nix.conf", 1);
		nix_conf_free(conf);
	}
}

static void an_included_file_counts_where_it_is_included(void **state)
{
	struct nix_conf *conf;
	(void)state;

	mkdir(at("sub"), 0755);
	put("nix.conf", "cores = 1\nkeep-going = false\n!include missing\ninclude sub/one.conf\ncores = 4\n");
	put("sub/one.conf", "\ncores = 2\nkeep-going = true\ninclude two.conf\n");
	put("sub/two.conf", "max-jobs = 7\n");
	conf = load(NIX_CONF_SYSTEM);
	assert_null(nix_conf_problem(conf));
	assert_value(conf, "cores", "4", at("nix.conf"), 5);
	assert_value(conf, "keep-going", "true", at("sub/one.conf"), 3);
	assert_value(conf, "max-jobs", "7", at("sub/two.conf"), 1);
	assert_string_equal(nix_conf_file_at(conf, 2), at("sub/two.conf"));
	assert_null(nix_conf_file_at(conf, 3));
	assert_null(nix_conf_custom_file(conf));
	nix_conf_free(conf);
}

static void the_file_for_people_of_an_installer_is_found_also_before_it_exists(void **state)
{
	struct nix_conf *conf;
	(void)state;

	put("nix.conf", "!include nix.custom.conf\n");
	conf = load(NIX_CONF_SYSTEM);
	assert_string_equal(nix_conf_custom_file(conf), at("nix.custom.conf"));
	assert_null(nix_conf_problem(conf));
	nix_conf_free(conf);
}

static void a_file_that_must_be_there_and_is_not_is_a_problem(void **state)
{
	struct nix_conf *conf;
	(void)state;

	put("nix.conf", "cores = 1\ninclude missing\n");
	conf = load(NIX_CONF_SYSTEM);
	assert_non_null(strstr(nix_conf_problem(conf), "nix.conf:2: "));
	assert_non_null(strstr(nix_conf_problem(conf), "missing"));
	nix_conf_free(conf);
}

static void files_that_include_each_other_come_to_an_end(void **state)
{
	struct nix_conf *conf;
	(void)state;

	put("nix.conf", "include one.conf\ninclude one.conf\n");
	put("one.conf", "include nix.conf\ncores = 3\n");
	conf = load(NIX_CONF_SYSTEM);
	assert_non_null(nix_conf_problem(conf));
	assert_value(conf, "cores", "3", at("one.conf"), 2);
	nix_conf_free(conf);
}

static void a_file_of_more_than_a_mebibyte_is_a_problem_and_none_at_all_is_not(void **state)
{
	struct nix_conf *conf;
	FILE *file;
	(void)state;

	unlink(at("nix.conf"));
	conf = load(NIX_CONF_SYSTEM);
	assert_null(nix_conf_problem(conf));
	assert_null(nix_conf_at(conf, 0));
	nix_conf_free(conf);

	file = fopen(at("nix.conf"), "w");
	assert_non_null(file);
	assert_int_equal(ftruncate(fileno(file), (off_t)MIB(1) + 1), 0);
	fclose(file);
	conf = load(NIX_CONF_SYSTEM);
	assert_non_null(nix_conf_problem(conf));
	nix_conf_free(conf);
}

static void the_files_of_the_user_come_after_the_system_and_the_first_named_wins(void **state)
{
	struct nix_conf *conf;
	(void)state;

	put("nix.conf", "cores = 1\nmax-jobs = 1\nkeep-going = false\nallow-dirty = false\n");
	put("first.conf", "cores = 2\n");
	put("second.conf", "cores = 3\nmax-jobs = 3\nkeep-going = true\n");
	snprintf(text, sizeof(text), ":%s::%s:", at("first.conf"), at("second.conf"));
	setenv("NIX_USER_CONF_FILES", text, 1);
	setenv("NIX_CONFIG", "keep-going = maybe\n", 1);
	conf = load(NIX_CONF_ALL);
	assert_value(conf, "cores", "2", at("first.conf"), 1);
	assert_value(conf, "max-jobs", "3", at("second.conf"), 2);
	assert_value(conf, "keep-going", "maybe", "NIX_CONFIG", 1);
	assert_value(conf, "allow-dirty", "false", at("nix.conf"), 4);
	assert_string_equal(nix_conf_user_file(conf), at("first.conf"));
	nix_conf_free(conf);

	conf = load(NIX_CONF_SYSTEM);
	assert_value(conf, "cores", "1", at("nix.conf"), 1);
	nix_conf_free(conf);
}

static void without_names_the_files_of_the_user_are_where_xdg_says(void **state)
{
	struct nix_conf *conf;
	(void)state;

	unsetenv("NIX_USER_CONF_FILES");
	setenv("XDG_CONFIG_DIRS", at("etc"), 1);
	mkdir(at("etc"), 0755);
	mkdir(at("etc/nix"), 0755);
	mkdir(at(".config"), 0755);
	mkdir(at(".config/nix"), 0755);
	put("nix.conf", "");
	put("etc/nix/nix.conf", "cores = 5\nmax-jobs = 5\n");
	put(".config/nix/nix.conf", "cores = 6\n");
	conf = load(NIX_CONF_ALL);
	assert_value(conf, "cores", "6", at(".config/nix/nix.conf"), 1);
	assert_value(conf, "max-jobs", "5", at("etc/nix/nix.conf"), 2);
	assert_string_equal(nix_conf_user_file(conf), at(".config/nix/nix.conf"));
	nix_conf_free(conf);

	setenv("XDG_CONFIG_HOME", at("other"), 1);
	conf = load(NIX_CONF_SYSTEM);
	assert_string_equal(nix_conf_user_file(conf), at("other/nix/nix.conf"));
	nix_conf_free(conf);
}

static void no_user_file_is_one_also(void **state)
{
	struct nix_conf *conf;
	(void)state;

	put("nix.conf", "");
	conf = load(NIX_CONF_ALL);
	assert_null(nix_conf_user_file(conf));
	nix_conf_free(conf);
}

static void the_netrc_file_is_the_one_set_or_the_one_beside(void **state)
{
	CLEANUP(buf_fini) struct buf out = { .max = KIB(4) };
	struct nix_conf *conf = parse("cores = 1\n");
	(void)state;

	nix_conf_netrc_file(conf, &out);
	assert_string_equal(buf_text(&out), "/a/netrc");
	nix_conf_free(conf);
	buf_clear(&out);
	conf = parse("netrc-file = /b/netrc\n");
	nix_conf_netrc_file(conf, &out);
	assert_string_equal(buf_text(&out), "/b/netrc");
	nix_conf_free(conf);
}

static void a_file_that_leads_into_the_store_is_made_by_nixos(void **state)
{
	struct nix_conf *conf;
	(void)state;

	mkdir(at("store"), 0755);
	put("store/made", "cores = 8\n");
	unlink(at("nix.conf"));
	assert_int_equal(symlink("store/made", at("nix.conf")), 0);
	conf = load(NIX_CONF_SYSTEM);
	assert_true(nix_conf_is_nixos(conf));
	assert_value(conf, "cores", "8", at("nix.conf"), 1);
	nix_conf_free(conf);
	assert_null(nix_conf_edit_open(at("nix.conf"), 0644, &err));
	assert_int_equal(err.kind, ERROR_OPERATOR);

	unlink(at("nix.conf"));
	put("nix.conf", "");
	conf = load(NIX_CONF_SYSTEM);
	assert_false(nix_conf_is_nixos(conf));
	nix_conf_free(conf);
}

/* ---- editing --------------------------------------------------------------------------------- */

static struct nix_conf_edit *open_edit(const char *name)
{
	struct nix_conf_edit *edit = nix_conf_edit_open(at(name), 0640, &err);

	assert_non_null(edit);
	return edit;
}

static void commit(struct nix_conf_edit *edit)
{
	assert_int_equal(nix_conf_edit_commit(edit, &err), 0);
	nix_conf_edit_free(edit);
}

static void lines_go_change_and_come_and_all_other_bytes_stay(void **state)
{
	struct nix_conf_edit *edit;
	struct stat st;
	(void)state;

	put("e.conf", "# one\r\n\n  two = 2  \nthree = 3\n\tfour = 4");
	assert_int_equal(chmod(at("e.conf"), 0604), 0);
	edit = open_edit("e.conf");
	assert_true(nix_conf_edit_is_empty(edit));
	nix_conf_edit_remove(edit, 3);
	nix_conf_edit_replace(edit, 4, "three = 33");
	nix_conf_edit_append(edit, "five = 5");
	nix_conf_edit_remove(edit, 6);
	nix_conf_edit_remove(edit, 0);
	assert_false(nix_conf_edit_is_empty(edit));
	commit(edit);
	assert_string_equal(get("e.conf"), "# one\r\n\nthree = 33\n\tfour = 4\nfive = 5\n");
	assert_int_equal(stat(at("e.conf"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0604);
}

static void what_will_change_is_told_before(void **state)
{
	struct nix_conf_edit *edit;
	unsigned line;
	bool is_new;
	(void)state;

	put("e.conf", "one\ntwo\nthree\n");
	edit = open_edit("e.conf");
	nix_conf_edit_remove(edit, 1);
	nix_conf_edit_replace(edit, 3, "3");
	nix_conf_edit_append(edit, "four");
	assert_string_equal(nix_conf_edit_change(edit, 0, &line, &is_new), "one");
	assert_true(line == 1 && !is_new);
	assert_string_equal(nix_conf_edit_change(edit, 1, &line, &is_new), "three");
	assert_true(line == 3 && !is_new);
	assert_string_equal(nix_conf_edit_change(edit, 2, &line, &is_new), "3");
	assert_true(line == 2 && is_new);
	assert_string_equal(nix_conf_edit_change(edit, 3, &line, &is_new), "four");
	assert_true(line == 3 && is_new);
	assert_null(nix_conf_edit_change(edit, 4, &line, &is_new));
	nix_conf_edit_free(edit);
	assert_string_equal(get("e.conf"), "one\ntwo\nthree\n");
}

static void an_open_end_stays_open_if_nothing_follows(void **state)
{
	struct nix_conf_edit *edit;
	(void)state;

	put("e.conf", "one\ntwo");
	edit = open_edit("e.conf");
	nix_conf_edit_remove(edit, 1);
	commit(edit);
	assert_string_equal(get("e.conf"), "two");
}

static void a_new_file_gets_its_folder_and_its_mode(void **state)
{
	struct nix_conf_edit *edit;
	struct stat st;
	(void)state;

	edit = open_edit("new/folder/e.conf");
	commit(edit);
	assert_int_equal(access(at("new"), F_OK), -1);
	edit = open_edit("new/folder/e.conf");
	nix_conf_edit_append(edit, "one = 1");
	commit(edit);
	assert_string_equal(get("new/folder/e.conf"), "one = 1\n");
	assert_int_equal(stat(at("new/folder/e.conf"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
}

static void a_link_stays_a_link(void **state)
{
	struct nix_conf_edit *edit;
	struct stat st;
	(void)state;

	put("e.conf", "one\n");
	assert_int_equal(symlink("e.conf", at("link")), 0);
	edit = open_edit("link");
	assert_string_equal(nix_conf_edit_file(edit), at("e.conf"));
	nix_conf_edit_append(edit, "two");
	commit(edit);
	assert_string_equal(get("e.conf"), "one\ntwo\n");
	assert_int_equal(lstat(at("link"), &st), 0);
	assert_true(S_ISLNK(st.st_mode));
}

static void what_cannot_be_edited_safely_is_refused_and_left_alone(void **state)
{
	static const char *const names[] = { "folder", "hard", "dangling", "binary" };
	(void)state;

	mkdir(at("folder"), 0755);
	put("e.conf", "one\n");
	assert_int_equal(link(at("e.conf"), at("hard")), 0);
	assert_int_equal(symlink("nowhere", at("dangling")), 0);
	put("binary", "a");
	assert_int_equal(truncate(at("binary"), 3), 0);
	for (size_t i = 0; i < N_ELEMENTS(names); i++) {
		err = (struct error){ 0 };
		assert_null(nix_conf_edit_open(at(names[i]), 0644, &err));
		assert_int_equal(err.kind, ERROR_OPERATOR);
		assert_non_null(strstr(err.text, names[i]));
	}
	unlink(at("hard"));
	unlink(at("dangling"));
}

static void a_file_that_changed_meanwhile_is_left_alone(void **state)
{
	struct nix_conf_edit *edit, *late;
	(void)state;

	put("e.conf", "one\n");
	edit = open_edit("e.conf");
	nix_conf_edit_append(edit, "mine");
	put("e.conf", "other\n1\n");
	assert_int_equal(nix_conf_edit_commit(edit, &err), -1);
	assert_int_equal(err.kind, ERROR_TRANSIENT);
	nix_conf_edit_free(edit);
	assert_string_equal(get("e.conf"), "other\n1\n");

	unlink(at("late"));
	late = open_edit("late");
	nix_conf_edit_append(late, "mine");
	put("late", "theirs\n");
	assert_int_equal(nix_conf_edit_commit(late, &err), -1);
	nix_conf_edit_free(late);
	assert_string_equal(get("late"), "theirs\n");
	assert_int_equal(system("ls /tmp/nncache-nix-conf-*/*.nncache-* >/dev/null 2>&1") == 0, 0);
}

static void a_folder_that_may_not_be_written_says_that_root_may(void **state)
{
	bool was_root = geteuid() == 0;
	struct nix_conf_edit *edit;
	(void)state;

	mkdir(at("closed"), 0755);
	put("closed/e.conf", "one\n");
	chmod(at("closed"), 0555);
	chmod(dir, 0755);
	if (was_root && seteuid(65534) < 0) /* nothing is closed to root */
		skip();
	edit = open_edit("closed/e.conf");
	nix_conf_edit_append(edit, "two");
	assert_int_equal(nix_conf_edit_commit(edit, &err), -1);
	assert_int_equal(err.kind, ERROR_OPERATOR);
	assert_non_null(strstr(err.text, "root"));
	nix_conf_edit_free(edit);
	assert_int_equal(was_root ? seteuid(0) : 0, 0);
	chmod(at("closed"), 0755);
	assert_string_equal(get("closed/e.conf"), "one\n");
}

int main(void)
{
#define NIX_CONF_TEST(name) cmocka_unit_test_setup(name, set_up)
	const struct CMUnitTest tests[] = {
		NIX_CONF_TEST(the_last_line_decides_and_a_comment_ends_it),
		NIX_CONF_TEST(a_line_may_set_a_setting_to_nothing),
		NIX_CONF_TEST(extra_adds_to_what_stands_before_it_and_a_later_line_takes_all_away),
		NIX_CONF_TEST(what_nobody_sets_is_as_nix_has_it),
		NIX_CONF_TEST(old_names_are_the_same_settings),
		NIX_CONF_TEST(the_first_line_that_nix_refuses_is_named),
		NIX_CONF_TEST(an_included_file_counts_where_it_is_included),
		NIX_CONF_TEST(the_file_for_people_of_an_installer_is_found_also_before_it_exists),
		NIX_CONF_TEST(a_file_that_must_be_there_and_is_not_is_a_problem),
		NIX_CONF_TEST(files_that_include_each_other_come_to_an_end),
		NIX_CONF_TEST(a_file_of_more_than_a_mebibyte_is_a_problem_and_none_at_all_is_not),
		NIX_CONF_TEST(the_files_of_the_user_come_after_the_system_and_the_first_named_wins),
		NIX_CONF_TEST(without_names_the_files_of_the_user_are_where_xdg_says),
		NIX_CONF_TEST(no_user_file_is_one_also),
		NIX_CONF_TEST(the_netrc_file_is_the_one_set_or_the_one_beside),
		NIX_CONF_TEST(a_file_that_leads_into_the_store_is_made_by_nixos),
		NIX_CONF_TEST(lines_go_change_and_come_and_all_other_bytes_stay),
		NIX_CONF_TEST(what_will_change_is_told_before),
		NIX_CONF_TEST(an_open_end_stays_open_if_nothing_follows),
		NIX_CONF_TEST(a_new_file_gets_its_folder_and_its_mode),
		NIX_CONF_TEST(a_link_stays_a_link),
		NIX_CONF_TEST(what_cannot_be_edited_safely_is_refused_and_left_alone),
		NIX_CONF_TEST(a_file_that_changed_meanwhile_is_left_alone),
		NIX_CONF_TEST(a_folder_that_may_not_be_written_says_that_root_may),
	};
	char command[600];
	int n_failed;

	if (mkdtemp(dir) == NULL)
		return 1;
	n_failed = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command) == 0 ? n_failed : 1;
}
