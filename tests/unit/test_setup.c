/* ctl/setup: what becomes of other people's files and words: netrc entries, keys and URLs of caches, hooks.
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "ctl/setup/cache_facts.h"
#include "ctl/setup/hook_line.h"
#include "ctl/setup/netrc.h"
#include "ctl/setup/nix_trust.h"
#include "tests/unit/test.h"

static struct error err;
static char dir[] = "/tmp/nncache-setup-XXXXXX";
static char path[512];

static const char *put(const char *name, const char *text, mode_t mode)
{
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, mode), 0);
	return path;
}

/* ---- netrc ----------------------------------------------------------------------------------- */

/* What BEFORE becomes with SECRET for h.example; AFTER NULL: it is refused. */
static void assert_netrc(const char *before, const char *secret, const char *after)
{
	struct nix_conf_edit *edit = nix_conf_edit_open(put("netrc", before, 0600), 0600, &err);
	CLEANUP(buf_fini) struct buf out = { .max = KIB(64) };

	assert_non_null(edit);
	if (after == NULL) {
		assert_int_equal(netrc_set(edit, "h.example", secret, &err), -1);
		assert_int_equal(err.kind, ERROR_OPERATOR);
		assert_true(strlen(secret) < 3 || strstr(err.text, secret) == NULL);
		assert_true(nix_conf_edit_is_empty(edit));
	} else {
		assert_int_equal(netrc_set(edit, "h.example", secret, &err), 0);
		nix_conf_edit_format(edit, &out);
		assert_string_equal(buf_text(&out), after);
	}
	nix_conf_edit_free(edit);
}

static void an_entry_is_added_and_others_stay(void **state)
{
	(void)state;
	assert_netrc("", "pw", "machine h.example password pw\n");
	assert_netrc("", "me:p:w", "machine h.example login me password p:w\n");
	assert_netrc("", ":pw", "machine h.example password pw\n");
	assert_netrc(
		"machine a password x\nmachine b\n  login c\n  password d", "pw",
		"machine a password x\nmachine b\n  login c\n  password d\nmachine h.example password pw\n");
	assert_netrc("machine h.example.org password x\n", "pw",
	             "machine h.example.org password x\nmachine h.example password pw\n");
}

static void an_entry_that_is_there_is_replaced_and_the_same_one_stays(void **state)
{
	(void)state;
	assert_netrc(
		"machine a password x\n machine\th.example login me password old \nmachine b password y\n",
		"pw", "machine a password x\nmachine h.example password pw\nmachine b password y\n");
	assert_netrc("machine h.example password pw\n", "pw", "machine h.example password pw\n");
}

static void an_entry_goes_before_the_default_with_a_login_that_is_not_its(void **state)
{
	(void)state;
	assert_netrc("default login a password b\n", "pw",
	             "machine h.example login nncache password pw\ndefault login a password b\n");
	assert_netrc("default login a password b\n", "me:pw",
	             "machine h.example login me password pw\ndefault login a password b\n");
}

static void an_entry_over_several_lines_is_left_to_people(void **state)
{
	(void)state;
	assert_netrc("machine h.example\n login a\n password b\n", "pw", NULL);
	assert_netrc("machine\nh.example password b\n", "pw", NULL);
	assert_netrc("machine a password b machine h.example password c\n", "pw", NULL);
	assert_netrc("machine h.example password c machine a password b\n", "pw", NULL);
	assert_netrc("machine h.example login a\npassword b\n", "pw", NULL);
}

static void a_token_that_a_netrc_file_cannot_hold_is_refused_and_not_repeated(void **state)
{
	static const char *const secrets[] = { "",      "me:",   "two words", "a\"quote", "back\\slash",
		                               "ha#sh", "li\nne" };
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(secrets); i++)
		assert_netrc("machine a password b\n", secrets[i], NULL);
}

/* ---- caches ---------------------------------------------------------------------------------- */

#define KEY "k-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

static void keys_are_a_name_and_32_bytes_in_base64_each_once(void **state)
{
	static const char *const wrong[] = {
		"",      "k",       "k:",     ":AAAA=", KEY "=",
		KEY " ", "k 1" KEY, KEY "\n", "k#" KEY, "k-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="
	};
	struct cache_facts facts = { 0 };
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(wrong); i++)
		assert_int_equal(cache_facts_add_key(&facts, wrong[i], &err), -1);
	assert_int_equal(facts.n_keys, 0);
	assert_int_equal(cache_facts_add_key(&facts, KEY, &err), 0);
	assert_int_equal(cache_facts_add_key(&facts, KEY, &err), 0);
	assert_int_equal(facts.n_keys, 1);
	for (char name[64]; facts.n_keys < CACHE_FACTS_KEYS_MAX;) {
		snprintf(name, sizeof(name), "n%zu%s", facts.n_keys, KEY);
		assert_int_equal(cache_facts_add_key(&facts, name, &err), 0);
	}
	assert_int_equal(cache_facts_add_key(&facts, "more" KEY, &err), -1);
}

static void a_url_that_would_be_more_than_a_word_in_nix_conf_is_refused(void **state)
{
	static const char *const wrong[] = { "",     "a b",          "a\tb",
		                             "a\nb", "https://a/#b", "https://\xc3\xa4/",
		                             "a\x7f" };
	struct cache_facts facts = { 0 };
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(wrong); i++)
		assert_int_equal(cache_facts_set_url(&facts, wrong[i], &err), -1);
	assert_int_equal(cache_facts_set_url(&facts, "https://me:secret@host/#", &err), -1);
	assert_null(strstr(err.text, "secret"));
	assert_int_equal(cache_facts_set_url(&facts, "s3://b?region=r&x=%20", &err), 0);
	assert_string_equal(facts.url, "s3://b?region=r&x=%20");
}

static void the_host_of_a_url_is_without_its_port(void **state)
{
	char host[64];
	(void)state;

	assert_string_equal(cache_facts_host("https://h.example/a:b", host, sizeof(host)), "h.example");
	assert_string_equal(cache_facts_host("http://h:80", host, sizeof(host)), "h");
	assert_string_equal(cache_facts_host("http://[::1]:80/x", host, sizeof(host)), "[::1]");
	assert_string_equal(cache_facts_host("file:///dir", host, sizeof(host)), "");
	assert_string_equal(cache_facts_host("nothing", host, sizeof(host)), "");
}

/* ---- hooks ----------------------------------------------------------------------------------- */

static void a_hook_is_ours_by_its_path_by_a_link_or_in_a_script(void **state)
{
	char own[PATH_MAX], link_path[600], script[600], text[PATH_MAX + 64];
	(void)state;

	snprintf(own, sizeof(own), "%s", put("hook", "x", 0755));
	snprintf(link_path, sizeof(link_path), "%s/link", dir);
	assert_int_equal(symlink(own, link_path), 0);
	snprintf(text, sizeof(text), "#!/bin/sh\n%s\nexec /other\n", own);
	snprintf(script, sizeof(script), "%s", put("script", text, 0755));

	assert_int_equal(hook_kind_of("", own), HOOK_NONE);
	assert_int_equal(hook_kind_of(own, own), HOOK_OURS);
	assert_int_equal(hook_kind_of("/gone/nncache/hook", "/gone/nncache/hook"), HOOK_OURS);
	assert_int_equal(hook_kind_of(link_path, own), HOOK_OURS);
	assert_int_equal(hook_kind_of("/nix/store/x-nncache-0/lib/nncache/hook", own), HOOK_MOVED);
	assert_int_equal(hook_kind_of(script, own), HOOK_WRAPPED);
	assert_int_equal(hook_kind_of("/bin/sh", own), HOOK_OTHER);
	assert_int_equal(hook_kind_of("/nncache/hook", own), HOOK_OTHER); /* nothing is installed there */
	assert_int_equal(hook_kind_of("/x/not-nncache/hook", own), HOOK_OTHER);
}

/* ---- trust ----------------------------------------------------------------------------------- */

static bool trusts(const char *text)
{
	struct nix_conf *conf = nix_conf_parse(text, strlen(text), "nix.conf", &err);
	bool is_trusted;

	assert_non_null(conf);
	is_trusted = nix_trust_is_trusted(conf);
	nix_conf_free(conf);
	return is_trusted;
}

static void a_user_is_trusted_by_name_by_group_or_like_everybody(void **state)
{
	(void)state;
	assert_true(trusts("trusted-users = *\n"));
	assert_true(trusts("trusted-users = a *\n"));
	assert_false(trusts("trusted-users = nobody-of-this-name @no-group-of-this-name\n"));
	assert_false(trusts("trusted-users =\n"));
	if (geteuid() != 0)
		return;
	assert_true(trusts(""));
	assert_true(trusts("trusted-users = a root b\n"));
	assert_true(trusts("trusted-users = @root\n"));
	assert_false(trusts("trusted-users = roo rootx\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_entry_is_added_and_others_stay),
		cmocka_unit_test(an_entry_that_is_there_is_replaced_and_the_same_one_stays),
		cmocka_unit_test(an_entry_goes_before_the_default_with_a_login_that_is_not_its),
		cmocka_unit_test(an_entry_over_several_lines_is_left_to_people),
		cmocka_unit_test(a_token_that_a_netrc_file_cannot_hold_is_refused_and_not_repeated),
		cmocka_unit_test(keys_are_a_name_and_32_bytes_in_base64_each_once),
		cmocka_unit_test(a_url_that_would_be_more_than_a_word_in_nix_conf_is_refused),
		cmocka_unit_test(the_host_of_a_url_is_without_its_port),
		cmocka_unit_test(a_hook_is_ours_by_its_path_by_a_link_or_in_a_script),
		cmocka_unit_test(a_user_is_trusted_by_name_by_group_or_like_everybody),
	};
	char command[600];
	int n_failed;

	if (mkdtemp(dir) == NULL)
		return 1;
	n_failed = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command) == 0 ? n_failed : 1;
}
