/* The checks of the doctor over facts that are made up here, and what the daemon's side reads and knows. */
#include "tests/unit/test.h"

#include <stdlib.h>
#include <string.h>

#include "ctl/setup/doctor.h"

static struct doctor doctor;
static struct check check = { .id = "x", .title = "so", .why = "because", .trouble = "trouble" };
static struct ctl ctl;

static json_t *parse(const char *json)
{
	json_error_t why;
	json_t *value = json_loads(json, 0, &why);

	if (value == NULL)
		fail_msg("%s: %s", json, why.text);
	return value;
}

/* NIX_CONF is the text of nix.conf. */
static void begin(const char *facts, const char *status, const char *nix_conf)
{
	struct error err;

	doctor = (struct doctor){ .ctl = &ctl, .check = &check, .cache_name = "main" };
	doctor.facts = parse(facts);
	doctor.status = parse(status);
	doctor.findings = json_array();
	doctor.nix = nix_conf_parse(nix_conf, strlen(nix_conf), "/etc/nix/nix.conf", &err);
	doctor.user = nix_conf_parse(nix_conf, strlen(nix_conf), "/etc/nix/nix.conf", &err);
	assert_non_null(doctor.nix);
	assert_non_null(doctor.user);
}

static void end(void)
{
	doctor_release(&doctor);
}

/* Runs CHECK, on the first cache of the facts if there is one. LEVEL NULL: it says nothing. */
static void wants(check_fn run, const char *level, const char *words)
{
	const json_t *cache = json_array_get(json_object_get(doctor.facts, "caches"), 0), *finding;

	json_array_clear(doctor.findings);
	doctor.n_said = 0;
	run(&doctor, cache);
	finding = json_array_get(doctor.findings, 0);
	if (level == NULL) {
		if (finding != NULL)
			fail_msg("said %s", model_get_text(finding, "what"));
		return;
	}
	if (strcmp(model_get_text(finding, "level"), level) != 0 ||
	    strstr(model_get_text(finding, "what"), words) == NULL)
		fail_msg("%s: %s; wanted %s: %s", model_get_text(finding, "level"),
		         model_get_text(finding, "what"), level, words);
	assert_int_equal(model_has(finding, "why"), strcmp(level, "warn") == 0 || strcmp(level, "bad") == 0);
}

/* One cache, whose record has these fields. */
static void wants_of_cache(check_fn run, const char *cache, const char *level, const char *words)
{
	char facts[4096];

	snprintf(facts, sizeof(facts),
	         "{\"config\":{\"daemon-user\":\"nncache\"},\"store\":{\"dir\":\"/nix/store\"},\"places\":[],"
	         "\"caches\":[{\"name\":\"main\",%s}],\"upstreams\":[]}",
	         cache);
	begin(facts, "{\"running\":false,\"caches\":[]}",
	      "substituters = https://c.example/x\ntrusted-public-keys = a-1:AAAA b-1:BBBB\n");
	wants(run, level, words);
	end();
}

/* ---- pure -------------------------------------------------------------------------------------------- */

static void a_key_is_trusted_absent_or_another_of_that_name(void **state)
{
	const char *words = "a-1:AAAA b-1:BBBB b-10:CCCC";
	char other[64] = "";
	(void)state;

	assert_int_equal(doctor_match_key(words, "a-1:AAAA", other, sizeof(other)), KEY_TRUSTED);
	assert_int_equal(doctor_match_key(words, "b-10:CCCC", other, sizeof(other)), KEY_TRUSTED);
	assert_int_equal(doctor_match_key(words, "c-1:AAAA", other, sizeof(other)), KEY_ABSENT);
	assert_int_equal(doctor_match_key(words, "b:BBBB", other, sizeof(other)), KEY_ABSENT);
	assert_int_equal(doctor_match_key("", "b:BBBB", other, sizeof(other)), KEY_ABSENT);
	assert_string_equal(other, "");
	assert_int_equal(doctor_match_key(words, "b-1:AAAA", other, sizeof(other)), KEY_OTHER_BYTES);
	assert_string_equal(other, "b-1:BBBB");
	/* Nix takes the one that fits, if there are two of a name. */
	assert_int_equal(doctor_match_key("b-1:XXXX b-1:BBBB", "b-1:BBBB", other, sizeof(other)),
	                 KEY_TRUSTED);
}

static void urls_of_one_cache_are_the_same(void **state)
{
	(void)state;
	assert_true(doctor_is_same_url("https://C.example/x/", "HTTPS://c.example/x"));
	assert_true(doctor_is_same_url("https://c.example?priority=10", "https://c.example/"));
	assert_true(doctor_is_same_url("s3://b?endpoint=e&region=r", "s3://b"));
	assert_true(doctor_is_same_url("file:///a/b", "/a/b/"));
	assert_false(doctor_is_same_url("https://c.example/X", "https://c.example/x"));
	assert_false(doctor_is_same_url("https://c.example/x", "http://c.example/x"));
	assert_false(doctor_is_same_url("https://c.example", "https://c.example.org"));
	assert_false(doctor_is_same_url("https://c.example/x", ""));
	assert_false(doctor_is_same_url("", "https://c.example/x"));
}

/* ---- checks ------------------------------------------------------------------------------------------ */

static void what_the_daemon_says_becomes_a_finding(void **state)
{
	(void)state;
	begin("{\"config\":{}}",
	      "{\"running\":true,\"daemon\":{\"version\":\"0.0.1\",\"roots_message\":\"no roots\"},"
	      "\"queue\":{\"failed\":2,\"blocked\":3},\"caches\":[]}",
	      "");
	wants(check_running, "ok", "");
	wants(check_version, "warn", "0.0.1");
	wants(check_sound, "bad", "no roots");
	wants(check_uploads, "warn", "2 uploads failed, 3 are blocked");
	end();
	begin("{\"config\":{\"socket\":\"/conf/s\"}}", "{\"running\":false,\"error\":\"nobody\"}", "");
	wants(check_running, "bad", "nobody; its socket by the configuration is /conf/s");
	wants(check_version, NULL, "");
	wants(check_sound, NULL, "");
	wants(check_uploads, NULL, "");
	wants(check_pinned, "unchecked", "");
	end();
}

static void a_user_who_is_not_trusted_sets_a_hook_in_vain(void **state)
{
	const char own[] = "post-build-hook = /h\n";
	struct error err;
	(void)state;

	begin("{}", "{}", "trusted-users = somebody-else\n");
	wants(check_hook_trusted, NULL, "");
	nix_conf_free(doctor.user);
	doctor.user = nix_conf_parse(own, strlen(own), "/home/u/nix.conf", &err);
	wants(check_hook_trusted, "bad", "/home/u/nix.conf:1 sets post-build-hook, and ");
	wants(check_hook_line, "bad", "/etc/nix/nix.conf sets no post-build-hook");
	nix_conf_free(doctor.nix);
	doctor.nix = nix_conf_parse("trusted-users = *\n", 18, "/etc/nix/nix.conf", &err);
	wants(check_hook_trusted, NULL, "");
	end();
}

static void room_is_judged_by_what_the_settings_want(void **state)
{
	(void)state;
	begin("{\"config\":{\"roots-min-free-percent\":\"5\"},\"places\":["
	      "{\"what\":\"state-dir\",\"path\":\"/"
	      "s\",\"free-bytes\":\"1000000\",\"total-bytes\":\"1000000\"},"
	      "{\"what\":\"store\",\"path\":\"/nix\",\"free-bytes\":\"4\",\"total-bytes\":\"100\"}]}",
	      "{\"running\":true,\"pinned_nar_bytes\":5}", "");
	wants(check_disk, "bad", "/s has");
	assert_int_equal(json_array_size(doctor.findings), 2);
	wants(check_pinned, "warn", "keep 5 B");
	end();
	begin("{\"config\":{\"roots-min-free-percent\":\"5\"},\"places\":["
	      "{\"what\":\"state-dir\",\"path\":\"/"
	      "s\",\"free-bytes\":\"4000000000\",\"total-bytes\":\"9000000000\"},"
	      "{\"what\":\"store\",\"path\":\"/nix\",\"free-bytes\":\"6\",\"total-bytes\":\"100\"}]}",
	      "{\"running\":true,\"pinned_nar_bytes\":5}", "");
	wants(check_disk, NULL, "");
	wants(check_pinned, "ok", "keep 5 B");
	end();
}

static void a_file_system_that_cannot_be_trusted_is_bad(void **state)
{
	(void)state;
	begin("{\"places\":[{\"what\":\"state-dir\",\"path\":\"/"
	      "s\",\"file-system\":\"NFS\",\"is-remote\":\"yes\"}]}",
	      "{}", "");
	wants(check_file_system, "bad", "/s is on NFS");
	end();
	begin("{\"places\":[{\"what\":\"state-dir\",\"path\":\"/"
	      "s\",\"file-system\":\"tmpfs\",\"is-volatile\":\"yes\"}]}",
	      "{}", "");
	wants(check_file_system, "warn", "does not outlast a reboot");
	end();
	begin("{\"places\":[{\"what\":\"state-dir\",\"path\":\"/s\",\"file-system\":\"ext4\"}]}", "{}", "");
	wants(check_file_system, "ok", "ext4");
	end();
}

static void a_cache_that_the_daemon_cannot_use_is_bad(void **state)
{
	(void)state;
	begin("{\"caches\":[{\"name\":\"main\"}]}",
	      "{\"running\":true,\"caches\":[{\"name\":\"main\",\"state\":\"error\",\"message_kind\":"
	      "\"operator\","
	      "\"message\":\"HTTP 403\"}]}",
	      "");
	wants(check_cache_works, "bad", "HTTP 403");
	end();
	begin("{\"caches\":[{\"name\":\"main\"}]}",
	      "{\"running\":true,\"caches\":[{\"name\":\"main\",\"state\":\"paused\"}]}", "");
	wants(check_cache_works, "warn", "paused");
	end();
	begin("{\"caches\":[{\"name\":\"main\"}]}",
	      "{\"running\":true,\"caches\":[{\"name\":\"main\",\"state\":\"ok\"}]}", "");
	wants(check_cache_works, NULL, "");
	end();
}

static void keys_are_judged_by_who_signs(void **state)
{
	(void)state;
	/* We sign: readers trust our key. Its name in nix.conf with other bytes is said with both. */
	wants_of_cache(check_cache_trusted,
	               "\"kind\":\"http\",\"url\":\"https://c.example/x\",\"keys\":\"a-1:AAAA\"", NULL, "");
	wants_of_cache(
		check_cache_trusted,
		"\"kind\":\"http\",\"url\":\"https://c.example/x\",\"key-file\":\"/k\",\"keys\":\"a-1:XXXX\"",
		"bad",
		"a-1:XXXX is the public half of what is in /k, and /etc/nix/nix.conf:2 trusts a-1:AAAA");
	wants_of_cache(check_cache_trusted,
	               "\"kind\":\"http\",\"url\":\"https://c.example/x\",\"keys\":\"z-1:XXXX\"", "bad",
	               "not among the trusted-public-keys");
	wants_of_cache(check_cache_trusted,
	               "\"kind\":\"http\",\"url\":\"https://d.example\",\"keys\":\"z-1:XXXX\"", "unchecked",
	               "no substituter here");
	wants_of_cache(check_cache_trusted,
	               "\"kind\":\"http\",\"url\":\"https://d.example\",\"keys\":\"a-1:XXXX\"", "bad",
	               "two keys of one name");
	/* The server signs. */
	wants_of_cache(check_cache_trusted,
	               "\"kind\":\"attic\",\"url\":\"attic://c/"
	               "x\",\"keys\":\"a-1:XXXX\",\"announced-keys\":\"b-1:BBBB\"",
	               NULL, "");
	wants_of_cache(check_cache_trusted,
	               "\"kind\":\"attic\",\"url\":\"attic://c/x\",\"announced-keys\":\"b-1:XXXX\"", "bad",
	               "b-1:XXXX is what the server signs with, and /etc/nix/nix.conf:2 trusts b-1:BBBB");
	wants_of_cache(check_cache_trusted, "\"kind\":\"cachix\",\"url\":\"cachix://c\"", "unchecked",
	               "no key");
	/* Ours must be one that Cachix knows; names mean nothing there. */
	wants_of_cache(check_cache_key,
	               "\"kind\":\"cachix\",\"keys\":\"c:AAAA\",\"announced-keys\":\"x-1:BBBB x-2:AAAA\"",
	               NULL, "");
	wants_of_cache(
		check_cache_key,
		"\"kind\":\"cachix\",\"key-file\":\"/k\",\"keys\":\"c:AAA\",\"announced-keys\":\"x-1:AAAA\"",
		"bad", "/k holds the secret key of AAA; Cachix announces x-1:AAAA");
}

static void writing_is_no_finding_where_it_cannot_be_asked(void **state)
{
	(void)state;
	wants_of_cache(check_cache_write, "\"kind\":\"http\",\"opened\":\"yes\",\"target\":\"yes\"",
	               "unchecked", "first upload");
	wants_of_cache(check_cache_write,
	               "\"kind\":\"http\",\"opened\":\"yes\",\"target\":\"yes\",\"may-write\":\"yes\"", NULL,
	               "");
	wants_of_cache(check_cache_write,
	               "\"kind\":\"s3\",\"opened\":\"yes\",\"target\":\"yes\",\"may-write\":\"no\",\"write-"
	               "error\":\"403\"",
	               "bad", "403");
	wants_of_cache(check_cache_write, "\"kind\":\"s3\",\"opened\":\"yes\",\"target\":\"no\"", "ok",
	               "push = no");
	wants_of_cache(check_cache_write, "\"kind\":\"s3\",\"opened\":\"yes\",\"error\":\"x\"", "unchecked",
	               "not reached");
}

static void a_clock_is_allowed_a_minute(void **state)
{
	(void)state;
	wants_of_cache(check_cache_clock, "\"kind\":\"http\",\"skew-s\":\"60\"", NULL, "");
	wants_of_cache(check_cache_clock, "\"kind\":\"http\",\"skew-s\":\"-61\"", "warn", "1m 1s behind");
	wants_of_cache(check_cache_clock, "\"kind\":\"http\",\"skew-s\":\"700\"", "bad", "11m 40s ahead of");
	wants_of_cache(check_cache_clock, "\"kind\":\"http\"", "unchecked", "no Date");
	wants_of_cache(check_cache_clock, "\"kind\":\"file\"", NULL, "");
}

static void what_a_cache_drops_is_to_be_asked_for_before(void **state)
{
	(void)state;
	wants_of_cache(check_cache_retention,
	               "\"kind\":\"attic\",\"retention-s\":\"3600\",\"presence-ttl-s\":\"3600\"", "bad",
	               "it keeps paths for 1h");
	wants_of_cache(check_cache_retention,
	               "\"kind\":\"attic\",\"retention-s\":\"7200\",\"presence-ttl-s\":\"3600\"", NULL, "");
	wants_of_cache(check_cache_retention, "\"kind\":\"http\",\"presence-ttl-s\":\"3600\"", "unchecked",
	               "does not say");
}

static void a_cache_is_read_without_credentials(void **state)
{
	(void)state;
	wants_of_cache(check_cache_read,
	               "\"kind\":\"http\",\"reader-store-dir\":\"/nix/store\",\"reader-priority\":\"30\"",
	               "ok", "Priority 30");
	wants_of_cache(check_cache_read, "\"kind\":\"http\",\"reader-store-dir\":\"/nix/store\"", "warn",
	               "no Priority");
	wants_of_cache(check_cache_read, "\"kind\":\"http\",\"reader-store-dir\":\"/gnu/store\"", "bad",
	               "StoreDir is /gnu/store, and the store here is /nix/store");
	wants_of_cache(check_cache_read, "\"kind\":\"http\",\"reader-status\":\"401\",\"reader-error\":\"x\"",
	               "unchecked", "/netrc");
	wants_of_cache(check_cache_read, "\"kind\":\"http\",\"reader-error\":\"refused\"", "bad", "refused");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_key_is_trusted_absent_or_another_of_that_name),
		cmocka_unit_test(urls_of_one_cache_are_the_same),
		cmocka_unit_test(what_the_daemon_says_becomes_a_finding),
		cmocka_unit_test(a_user_who_is_not_trusted_sets_a_hook_in_vain),
		cmocka_unit_test(room_is_judged_by_what_the_settings_want),
		cmocka_unit_test(a_file_system_that_cannot_be_trusted_is_bad),
		cmocka_unit_test(a_cache_that_the_daemon_cannot_use_is_bad),
		cmocka_unit_test(keys_are_judged_by_who_signs),
		cmocka_unit_test(writing_is_no_finding_where_it_cannot_be_asked),
		cmocka_unit_test(a_clock_is_allowed_a_minute),
		cmocka_unit_test(what_a_cache_drops_is_to_be_asked_for_before),
		cmocka_unit_test(a_cache_is_read_without_credentials),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
