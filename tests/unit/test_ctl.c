/* nncachectl: its command line, what it prints, and what it takes for a path. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/args.h"
#include "ctl/ctl.h"
#include "ctl/model.h"
#include "ctl/paths.h"
#include "tests/unit/test.h"

#define HASH "znfl9jqnlc8ialnfmiwhg8rs6pllsccf"
#define DEMO "/nix/store/" HASH "-demo-1.0"

/* ---- the command line ------------------------------------------------------------------------- */

static const struct option_spec list_specs[] = {
	{ "state", "STATE", "", false },
	{ "failed", NULL, "", false },
	{ "cache", "CACHE", "", false },
	{ "watch", "SECONDS", "", true },
	{ 0 },
};

static const struct option_spec *find(const char *verb)
{
	return strcmp(verb, "list") == 0 ? list_specs : NULL;
}

static struct args args;

/* Words are split at blanks. */
static int parse(const char *line, struct error *err)
{
	static char text[512];
	char *argv[32];
	int argc = 0;

	snprintf(text, sizeof(text), "nncachectl %s", line);
	for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " "))
		argv[argc++] = word;
	argv[argc] = NULL;
	args_fini(&args);
	return args_parse(&args, argc, argv, find, err);
}

static void options_take_their_value_from_the_next_word_or_behind_a_sign(void **state)
{
	const char *caches[4];
	struct error err;
	(void)state;

	assert_int_equal(parse("--socket /x list a --state=failed --cache one --failed --cache=two b", &err),
	                 0);
	assert_string_equal(args.verb, "list");
	assert_string_equal(args_get(&args, "socket"), "/x");
	assert_string_equal(args_get(&args, "state"), "failed");
	assert_true(args_has(&args, "failed"));
	assert_false(args_has(&args, "json"));
	assert_int_equal(args_get_all(&args, "cache", caches, 4), 2);
	assert_string_equal(caches[1], "two");
	assert_int_equal(args.n_operands, 2);
	assert_string_equal(args.operands[1], "b");
	assert_int_equal(parse("list --state= x", &err), 0);
	assert_string_equal(args_get(&args, "state"), "");
	args_fini(&args);
}

static void an_optional_value_is_a_number_or_not_there(void **state)
{
	struct error err;
	(void)state;

	assert_int_equal(parse("list --watch 5 --json", &err), 0);
	assert_string_equal(args_get(&args, "watch"), "5");
	assert_int_equal(parse("list --watch --json", &err), 0);
	assert_true(args_has(&args, "watch") && args_has(&args, "json"));
	assert_null(args_get(&args, "watch"));
	assert_int_equal(parse("list --watch", &err), 0);
	assert_int_equal(parse("list --watch x", &err), 0);
	assert_int_equal(args.n_operands, 1);
	args_fini(&args);
}

static void what_follows_two_dashes_are_operands(void **state)
{
	struct error err;
	(void)state;

	assert_int_equal(parse("list -- --state -x", &err), 0);
	assert_int_equal(args.n_operands, 2);
	assert_string_equal(args.operands[0], "--state");
	args_fini(&args);
}

static void a_wrong_command_line_is_named(void **state)
{
	static const struct {
		const char *line, *text;
	} cases[] = {
		{ "dance", "unknown verb \"dance\"" },
		{ "list --colour", "unknown option --colour" },
		{ "list --stat x", "unknown option --stat" },
		{ "--state x list", "unknown option --state" },
		{ "list -x", "unknown option -x" },
		{ "list --failed=yes", "--failed takes no value" },
		{ "list --cache", "--cache needs a value: CACHE" },
	};
	struct error err;
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		assert_int_equal(parse(cases[i].line, &err), -1);
		assert_string_equal(err.text, cases[i].text);
	}
	args_fini(&args);
}

/* ---- output ----------------------------------------------------------------------------------- */

static void control_characters_from_outside_are_escaped(void **state)
{
	static const struct {
		const char *text, *escaped;
	} cases[] = {
		{ "plain \xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80",
		  "plain \xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80" },
		{ "\033[31mred\n\r\x7f", "\\x1B[31mred\\x0A\\x0D\\x7F" },
		{ "\xc2\x9b"
		  "31m",
		  "\\xC2\\x9B31m" },
		{ "\xff\xc3", "\\xFF\\xC3" },
		{ "\xe2\x80\xae"
		  "cod",
		  "\\xE2\\x80\\xAEcod" },
		{ "\xc0\xaf\xed\xa0\x80", "\\xC0\\xAF\\xED\\xA0\\x80" },
	};
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		struct buf out = { .max = 1000 };

		output_escape(&out, cases[i].text);
		assert_string_equal(buf_text(&out), cases[i].escaped);
		buf_fini(&out);
	}
}

static void a_line_is_cut_at_the_width_and_colours_do_not_count(void **state)
{
	struct output o;
	(void)state;

	output_init(&o, true, 12);
	output_put(&o, STYLE_BAD, "12345");
	output_put(&o, STYLE_PLAIN,
	           "\xc3\xbc"
	           "890123");
	output_put(&o, STYLE_PLAIN, "never");
	output_end_line(&o);
	output_put(&o, STYLE_PLAIN, "123456789012");
	output_end_line(&o);
	assert_string_equal(buf_text(&o.buf), "\033[31m12345\033[0m\xc3\xbc"
	                                      "890123\n123456789012\n");
	buf_clear(&o.buf);
	output_put(&o, STYLE_PLAIN, "1234567890123");
	output_end_line(&o);
	assert_string_equal(buf_text(&o.buf), "123456789...\n");
	output_fini(&o);
}

static void cells_are_filled_by_columns_not_bytes(void **state)
{
	struct output o;
	(void)state;

	output_init(&o, false, 0);
	output_left(&o, STYLE_BAD, 4, "\xc3\xbc");
	output_right(&o, STYLE_PLAIN, 4, "12");
	output_right(&o, STYLE_PLAIN, 2, "longer");
	output_left(&o, STYLE_PLAIN, 9, "end");
	output_end_line(&o);
	assert_string_equal(buf_text(&o.buf), "\xc3\xbc     12longerend\n");
	output_fini(&o);
}

static void a_bar_is_as_full_as_what_it_shows(void **state)
{
	char bar[16];
	(void)state;

	output_bar(bar, 12, 0, 100);
	assert_string_equal(bar, "[>         ]");
	output_bar(bar, 12, 50, 100);
	assert_string_equal(bar, "[=====>    ]");
	output_bar(bar, 12, 99, 100);
	assert_string_equal(bar, "[=========>]");
	output_bar(bar, 12, 200, 100);
	assert_string_equal(bar, "[==========]");
	output_bar(bar, 12, 0, 0);
	assert_string_equal(bar, "[==========]");
}

/* ---- the model -------------------------------------------------------------------------------- */

static struct record record_of(char *line)
{
	struct record record;
	struct error err;

	assert_int_equal(record_parse(&record, line, &err), 0);
	return record;
}

static void a_cache_has_every_key_that_is_promised(void **state)
{
	static const char *const keys[] = { "name",           "url",     "state",         "unfinished",
		                            "in_flight",      "failed",  "skipped_paths", "uploaded_paths",
		                            "uploaded_bytes", "message", "pace",          "message_kind",
		                            "since",          "next_try" };
	char line[] = "cache name=main url=https://x state=paused uploaded-bytes=5 paused-until=1764000000";
	struct record record = record_of(line);
	json_t *cache = model_cache(&record);
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(keys); i++)
		if (json_object_get(cache, keys[i]) == NULL)
			fail_msg("there is no %s", keys[i]);
	assert_int_equal(model_get_uint(cache, "uploaded_bytes"), 5);
	assert_true(json_is_null(json_object_get(cache, "message")));
	model_dates(cache);
	assert_string_equal(model_get_text(cache, "paused_until"), "2025-11-24T16:00:00Z");
	json_decref(cache);
}

static void a_time_before_1970_is_none(void **state)
{
	char line[] = "job finished=-9223372036854775808 id=-5";
	struct record record = record_of(line);
	json_t *job = model_job(&record);
	(void)state;

	assert_true(model_get_int(job, "finished") == 0);
	assert_true(model_get_int(job, "id") == -5);
	json_decref(job);
}

static void text_that_is_no_utf_8_does_not_break_the_json(void **state)
{
	char line[] = "job path=/nix/x text=bad%FFbyte not-before=0 root=yes";
	struct record record = record_of(line);
	json_t *job = model_job(&record);
	(void)state;

	assert_string_equal(model_get_text(job, "text"), "bad?byte");
	assert_true(json_is_true(json_object_get(job, "root")));
	model_dates(job);
	assert_false(model_has(job, "not_before"));
	json_decref(job);
}

/* ---- the screen ------------------------------------------------------------------------------- */

static const char busy[] =
	"{'running': true, 'version': '1.2', 'pid': 7, 'uptime_s': 7500, 'oldest_age_s': 192, "
	"'pinned_paths': 4,"
	" 'pinned_nar_bytes': 1536, 'unprotected': 2, 'config_error': 'nncache.conf:3: odd\\nexpected even',"
	" 'queue_message': 'a damaged queue was set aside: x', 'stopping': 'draining, 8 left',"
	" 'queue': {'unfinished': 12, 'failed': 3, 'blocked': 1, 'in_flight': 2, 'resolving': 1, 'sent': 2},"
	" 'caches': [{'name': 'main', 'state': 'error', 'unfinished': 12, 'failed': 3, 'blocked': 1,"
	" 'in_flight': 2, 'uploaded_paths': 90, 'uploaded_bytes': 1048576, 'rate_bytes': 2048,"
	" 'message': 'token refused: renew main.token', 'since': 940, 'next_try': 1300}, {'name': 'disk', "
	"'state': 'paused', 'paused_until': "
	"1060}],"
	" 'uploads': [{'cache': 'main', 'path': '/nix/store/" HASH
	"-gcc-13', 'step': 'sending', 'nar_bytes': 200,"
	" 'done_bytes': 100, 'started': 990}],"
	" 'causes': [{'cache': 'main', 'state': 'failed', 'jobs': 3, 'path': '" DEMO
	"', 'text': 'HTTP\\u001b 413'},"
	" {'cache': 'main', 'state': 'delayed', 'jobs': 5, 'path': '" DEMO
	"', 'due': 1040, 'text': 'HTTP 503'}]}";

static json_t *load(const char *text)
{
	char *copy = strdup(text);
	json_error_t error;
	json_t *model;

	for (char *p = copy; *p != '\0'; p++)
		if (*p == '\'')
			*p = '"';
	model = json_loads(copy, 0, &error);
	if (model == NULL)
		fail_msg("%s at %d", error.text, error.position);
	free(copy);
	return model;
}

static void assert_holds(const char *text, const char *part)
{
	if (text == NULL || strstr(text, part) == NULL)
		fail_msg("expected \"%s\" in:\n%s", part, text != NULL ? text : "");
}

static void the_screen_says_what_goes_on_and_what_to_do(void **state)
{
	json_t *model = load(busy);
	const char *text;
	struct output o;
	(void)state;

	output_init(&o, false, 0);
	screen_show(&o, model, 1000);
	text = buf_text(&o.buf);
	assert_holds(text, "nncached 1.2   pid 7   up 2h 5m\n");
	assert_holds(text, "! the configuration is not in effect: nncache.conf:3: odd\n  expected even\n");
	assert_holds(text, "! stopping: draining, 8 left\n");
	assert_holds(text, "! a damaged queue was set aside: x\n");
	assert_holds(text, "! 2 unfinished paths are no longer protected from garbage collection\n");
	assert_holds(text, "6 waiting   2 in flight   3 failed   1 blocked   oldest 3m 12s   "
	                   "pinned 4 paths, 1.5 KiB\n");
	assert_holds(
		text,
		"\nmain   error           6         2       4        90   1.0 MiB        0  2.0 KiB/s\n"
		"  token refused: renew main.token\n"
		"  since 1970-01-01T00:15:40Z; next try in 5m; to try at once: nncachectl retry --failed "
		"--cache main\n");
	assert_holds(text,
	             "\n  paused until 1970-01-01T00:17:40Z, in 1m; to go on: nncachectl resume disk\n");
	assert_holds(text,
	             "\nUploading\n  gcc-13                           sending    [========>       ]  50%  "
	             "100 B of 200 B  10s  to main\n");
	assert_holds(text, "\nWaiting\n  1 to be looked up in the store\n  2 sent, shown once");
	assert_holds(text, "\n  5 delayed on main, next try in 40s: HTTP 503\n    such as " DEMO "\n");
	assert_holds(text,
	             "\nFailed\n  3 failed on main: HTTP\\x1B 413\n    such as " DEMO "\n"
	             "    then: nncachectl retry --failed --cache main   or: nncachectl forget " DEMO "\n");
	output_fini(&o);
	json_decref(model);
}

static void the_screen_has_one_line_for_a_cache_that_works(void **state)
{
	char line[] = "cache name=main state=ok unfinished=0 uploaded-paths=1 uploaded-bytes=433";
	struct record record;
	struct error err;
	struct output o;
	json_t *model;
	(void)state;

	assert_int_equal(record_parse(&record, line, &err), 0);
	model = json_pack("{s:b, s:[o]}", "running", 1, "caches", model_cache(&record));
	output_init(&o, false, 0);
	screen_show(&o, model, 1000);
	assert_holds(buf_text(&o.buf),
	             "\nmain   ok              0         0       0         1     433 B        0\n");
	assert_null(strstr(buf_text(&o.buf), "since"));
	output_fini(&o);
	json_decref(model);
}

static void metrics_name_what_is_there_and_escape_what_comes_from_outside(void **state)
{
	CLEANUP(buf_fini) struct buf out = { .max = KIB(64) };
	json_t *model = load(busy);
	json_t *cache = json_array_get(json_object_get(model, "caches"), 1);
	(void)state;

	json_object_set_new(cache, "name", json_string("a\"b\\c\nd"));
	metrics_format(&out, model);
	assert_holds(buf_text(&out), "nncache_up 1\n");
	assert_holds(buf_text(&out), "nncache_build_info{version=\"1.2\"} 1\n");
	assert_holds(buf_text(&out), "# TYPE nncache_config_valid gauge\nnncache_config_valid 0\n");
	assert_holds(buf_text(&out), "\nnncache_oldest_unfinished_age_seconds 192\n");
	assert_holds(buf_text(&out), "\nnncache_uploaded_bytes_total{cache=\"main\"} 1048576\n");
	assert_holds(buf_text(&out), "\nnncache_jobs{cache=\"main\",state=\"failed\"} 3\n");
	assert_holds(buf_text(&out), "\nnncache_cache_state{cache=\"main\",state=\"error\"} 1\n");
	assert_holds(buf_text(&out), "\nnncache_cache_state{cache=\"main\",state=\"ok\"} 0\n");
	assert_holds(buf_text(&out), "{cache=\"a\\\"b\\\\c\\\\x0Ad\",state=\"paused\"} 1\n");
	json_decref(model);
}

static void metrics_without_an_answer_say_that_it_is_down(void **state)
{
	CLEANUP(buf_fini) struct buf out = { .max = KIB(4) };
	(void)state;

	metrics_format(&out, NULL);
	assert_string_equal(buf_text(&out), "# HELP nncache_up Whether the daemon answers.\n"
	                                    "# TYPE nncache_up gauge\nnncache_up 0\n");
}

static void no_line_of_the_screen_is_wider_than_the_terminal(void **state)
{
	json_t *model = load(busy);
	struct output o;
	(void)state;

	output_init(&o, false, 40);
	screen_show(&o, model, 1000);
	for (const char *p = buf_text(&o.buf); *p != '\0'; p += strcspn(p, "\n") + 1)
		assert_true(strcspn(p, "\n") <= 40);
	output_fini(&o);
	json_decref(model);
}

static void an_idle_daemon_has_a_short_screen(void **state)
{
	json_t *model = load("{'running': true, 'version': '1.2', 'queue': {}, 'caches': [], 'causes': []}");
	struct output o;
	(void)state;

	output_init(&o, false, 80);
	screen_show(&o, model, 1000);
	assert_string_equal(buf_text(&o.buf), "nncached 1.2   pid 0   up 0s\nNothing is waiting.\n\n"
	                                      "No cache is configured; see nncache.conf(5).\n");
	output_fini(&o);
	json_decref(model);
}

static void without_a_daemon_its_directories_are_counted(void **state)
{
	char dir[] = "/tmp/nncache-ctl-XXXXXX", name[128];
	static const char *const files[] = { "1000000000000000000.1.req", "1000000001000000000.1.req",
		                             ".1000000001000000000.1.req.tmp", "x.bad", ".slow" };
	struct ctl ctl = { .socket = "/nowhere/x.sock" };
	json_t *model;
	struct output o;
	(void)state;

	assert_non_null(mkdtemp(dir));
	for (size_t i = 0; i < N_ELEMENTS(files); i++) {
		snprintf(name, sizeof(name), "%s/%s", dir, files[i]);
		fclose(fopen(name, "w"));
	}
	setenv("NNCACHE_SPOOL", dir, 1);
	setenv("NNCACHE_GCROOTS", "/nowhere/roots", 1);
	model = offline_model(&ctl);
	json_object_set_new(model, "error", json_string("refused"));
	assert_int_equal(model_get_uint(model, "spool_files"), 2);
	assert_int_equal(model_get_uint(model, "bad_spool_files"), 1);
	assert_int_equal(model_get_uint(model, "gcroots"), 0);
	assert_true(model_get_uint(model, "oldest_age_s") > 86400);
	output_init(&o, false, 0);
	offline_show(&o, model);
	assert_holds(buf_text(&o.buf), "nncached cannot be reached: refused\n");
	assert_holds(buf_text(&o.buf), ": 2 hand-overs wait for it, the oldest for ");
	assert_holds(buf_text(&o.buf), "To start it: ");
	output_fini(&o);
	json_decref(model);
	for (size_t i = 0; i < N_ELEMENTS(files); i++) {
		snprintf(name, sizeof(name), "%s/%s", dir, files[i]);
		unlink(name);
	}
	rmdir(dir);
}

/* ---- paths ------------------------------------------------------------------------------------ */

static char top[32];
static char store[64];

static int make_store(void **state)
{
	char path[PATH_MAX];
	(void)state;

	strcpy(top, "/tmp/nncache-ctl-XXXXXX");
	if (mkdtemp(top) == NULL || chdir(top) < 0 || mkdir("store", 0755) < 0 || mkdir("real", 0755) < 0)
		return -1;
	snprintf(store, sizeof(store), "%s/store", top);
	snprintf(path, sizeof(path), "store/%s-x", HASH);
	if (mkdir(path, 0755) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/%s-x", store, HASH);
	if (symlink(path, "result") < 0 || symlink("result", "again") < 0 || symlink("loop", "loop") < 0)
		return -1;
	snprintf(path, sizeof(path), "store/%s-link", HASH);
	return symlink("/etc", path) < 0 || symlink("store", "by-link") < 0 ? -1 : 0;
}

static int remove_store(void **state)
{
	static const char *const names[] = {
		"result",           "again", "loop", "by-link", "store/" HASH "-link",
		"store/" HASH "-x", "store", "real"
	};
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(names); i++)
		remove(names[i]);
	return chdir("/") < 0 || rmdir(top) < 0 ? -1 : 0;
}

static void store_paths_links_and_what_is_inside_are_all_understood(void **state)
{
	static const char *const words[] = { "result",
		                             "./result",
		                             "./result/",
		                             "again",
		                             "result/.",
		                             "by-link/" HASH "-x",
		                             "store/" HASH "-x",
		                             "real/../result",
		                             "result/../" HASH "-x" };
	char expected[STORE_PATH_SIZE], path[STORE_PATH_SIZE], word[PATH_MAX];
	struct error err;
	(void)state;

	snprintf(expected, sizeof(expected), "%s/%s-x", store, HASH);
	for (size_t i = 0; i < N_ELEMENTS(words); i++) {
		if (paths_resolve(words[i], store, path, &err) < 0)
			fail_msg("%s", err.text);
		assert_string_equal(path, expected);
	}
	snprintf(word, sizeof(word), "%s/bin/not-there", expected);
	assert_int_equal(paths_resolve(word, store, path, &err), 0);
	assert_string_equal(path, expected);
	/* A store path that is a link is itself. */
	snprintf(word, sizeof(word), "%s/%s-link", store, HASH);
	assert_int_equal(paths_resolve(word, store, path, &err), 0);
	assert_string_equal(path, word);
}

static void what_does_not_lead_into_the_store_is_named(void **state)
{
	static const struct {
		const char *word, *text;
	} cases[] = {
		{ "real", "neither in the store" },
		{ "/etc/passwd", "neither in the store" },
		{ "nothing", "No such file" },
		{ "loop", "Too many levels" },
		{ "", "no path" },
		{ "store", "neither in the store" },
		{ "store/../x", "No such file" },
	};
	char path[STORE_PATH_SIZE];
	struct error err;
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		assert_int_equal(paths_resolve(cases[i].word, store, path, &err), -1);
		assert_holds(err.text, cases[i].text);
	}
}

static void many_paths_are_sorted_and_split_into_requests_that_fit(void **state)
{
	struct path_list list = { 0 };
	const char *chunk[REQUEST_MAX_PATHS];
	char path[STORE_PATH_SIZE];
	struct error err;
	size_t i = 0, n_chunks = 0;
	(void)state;

	for (int k = 0; k < 10000; k++) {
		snprintf(path, sizeof(path), "/nix/store/" HASH "-%05d%0*d", k % 5000,
		         k % 5000 < 2500 ? 1 : 200, 0);
		assert_int_equal(path_list_add(&list, path, &err), 0);
	}
	path_list_sort(&list);
	assert_int_equal(list.n, 5000);
	while (i < list.n) {
		struct request req = { .verb = VERB_PUSH, .paths = chunk };
		struct buf text = { .max = REQUEST_MAX_BYTES };

		req.n_paths = paths_chunk(&list, i, chunk);
		assert_in_range(req.n_paths, 1, REQUEST_MAX_PATHS);
		assert_string_equal(chunk[0], list.items[i]);
		assert_int_equal(request_format(&req, &text, &err), 0);
		buf_fini(&text);
		i += req.n_paths;
		n_chunks++;
	}
	assert_true(n_chunks > 1 && n_chunks < 8);
	path_list_fini(&list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_take_their_value_from_the_next_word_or_behind_a_sign),
		cmocka_unit_test(an_optional_value_is_a_number_or_not_there),
		cmocka_unit_test(what_follows_two_dashes_are_operands),
		cmocka_unit_test(a_wrong_command_line_is_named),
		cmocka_unit_test(control_characters_from_outside_are_escaped),
		cmocka_unit_test(a_line_is_cut_at_the_width_and_colours_do_not_count),
		cmocka_unit_test(cells_are_filled_by_columns_not_bytes),
		cmocka_unit_test(a_bar_is_as_full_as_what_it_shows),
		cmocka_unit_test(a_cache_has_every_key_that_is_promised),
		cmocka_unit_test(a_time_before_1970_is_none),
		cmocka_unit_test(text_that_is_no_utf_8_does_not_break_the_json),
		cmocka_unit_test(the_screen_says_what_goes_on_and_what_to_do),
		cmocka_unit_test(the_screen_has_one_line_for_a_cache_that_works),
		cmocka_unit_test(metrics_name_what_is_there_and_escape_what_comes_from_outside),
		cmocka_unit_test(metrics_without_an_answer_say_that_it_is_down),
		cmocka_unit_test(no_line_of_the_screen_is_wider_than_the_terminal),
		cmocka_unit_test(an_idle_daemon_has_a_short_screen),
		cmocka_unit_test(without_a_daemon_its_directories_are_counted),
		cmocka_unit_test_setup_teardown(store_paths_links_and_what_is_inside_are_all_understood,
		                                make_store, remove_store),
		cmocka_unit_test_setup_teardown(what_does_not_lead_into_the_store_is_named, make_store,
		                                remove_store),
		cmocka_unit_test(many_paths_are_sorted_and_split_into_requests_that_fit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
