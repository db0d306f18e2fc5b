/* common/protocol: requests are read strictly and written as they are read. */
#include <stdio.h>
#include <string.h>

#include "common/protocol.h"
#include "common/store_path.h"
#include "tests/unit/test.h"

#define PATH_A "/nix/store/znfl9jqnlc8ialnfmiwhg8rs6pllsccf-demo-1.0"
#define PATH_B "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-demo-1.0-dev"

static struct error err;

static int parse(struct request *req, const char *text)
{
	return request_parse(req, text, strlen(text), &err);
}

static void every_key_of_an_enqueue_is_found(void **state)
{
	struct request req;
	(void)state;

	assert_int_equal(parse(&req, "nncache 1 enqueue\ntag ci 4711 %41\npath " PATH_A "\ncache main\n"
	                             "derivation " PATH_B ".drv\npath " PATH_B "\ncache other\nend\n"),
	                 0);
	assert_int_equal(req.verb, VERB_ENQUEUE);
	assert_int_equal(req.n_paths, 2);
	assert_string_equal(req.paths[0], PATH_A);
	assert_string_equal(req.paths[1], PATH_B);
	assert_int_equal(req.n_caches, 2);
	assert_string_equal(req.caches[1], "other");
	assert_string_equal(req.tag, "ci 4711 %41");
	assert_string_equal(req.derivation, PATH_B ".drv");
	assert_false(req.force);
	request_fini(&req);
}

static void numbers_and_flags_of_other_verbs_are_found(void **state)
{
	struct request req;
	(void)state;

	assert_int_equal(
		parse(&req, "nncache 1 list\nstate failed\nafter 9223372036854775807\nlimit 1000\nend\n"), 0);
	assert_int_equal(req.verb, VERB_LIST);
	assert_string_equal(req.state, "failed");
	assert_true(req.after == INT64_MAX);
	assert_int_equal(req.limit, 1000);
	request_fini(&req);
	assert_int_equal(parse(&req, "nncache 1 pause\nall yes\nuntil 1800000000\nend\n"), 0);
	assert_true(req.all);
	assert_int_equal(req.until, 1800000000);
	request_fini(&req);
	assert_int_equal(parse(&req, "nncache 1 push\npath " PATH_A "\nforce no\nend\n"), 0);
	assert_false(req.force);
	request_fini(&req);
	assert_int_equal(parse(&req, "nncache 1 status\nend\n"), 0);
	request_fini(&req);
}

static void every_mistake_is_an_error_that_names_its_line(void **state)
{
	static const struct {
		const char *text, *expected;
	} cases[] = {
		{ "", "'end'" },
		{ "nncache 1 status", "'end'" },
		{ "nncache 1 status\n", "'end'" },
		{ "nncache 1 status\nend", "'end'" },
		{ "GET / HTTP/1.1\nend\n", "line 1: expected 'nncache 1 VERB'" },
		{ "nncache 2 status\nend\n", "version 1" },
		{ "nncache 10 status\nend\n", "version 1" },
		{ "nncache 1 stat\nend\n", "line 1: unknown verb 'stat'" },
		{ "nncache 1  status\nend\n", "line 1: unknown verb" },
		{ "nncache 1 status \nend\n", "line 1: unknown verb" },
		{ "nncache 1 status\r\nend\r\n", "line 1: a control character" },
		{ "nncache 1 status\nend\n\n", "line 3: something follows" },
		{ "nncache 1 status\nend\nend\n", "line 3: something follows" },
		{ "nncache 1 status\n\nend\n", "line 2: unknown key" },
		{ "nncache 1 status\nPath x\nend\n", "line 2: unknown key 'Path'" },
		{ "nncache 1 status\npath x\nend\n", "line 2: status takes no path" },
		{ "nncache 1 enqueue\nend\n", "enqueue needs a path or a derivation" },
		{ "nncache 1 enqueue\npath\nend\n", "line 2: path: the value is missing" },
		{ "nncache 1 enqueue\npath \nend\n", "line 2: path: the value is missing" },
		{ "nncache 1 enqueue\npath " PATH_A "\ntag a\ntag b\nend\n", "line 4: tag is given twice" },
		{ "nncache 1 enqueue\npath " PATH_A "\ntag a\tb\nend\n", "line 3: a control character" },
		{ "nncache 1 enqueue\npath " PATH_A "\ntag a\x7f\nend\n", "line 3: a control character" },
		{ "nncache 1 enqueue\npath " PATH_A "\nforce yes\nend\n", "line 3: enqueue takes no force" },
		{ "nncache 1 push\npath " PATH_A "\nforce true\nend\n", "line 3: force: expected yes or no" },
		{ "nncache 1 show\nend\n", "show needs a path" },
		{ "nncache 1 show\npath " PATH_A "\npath " PATH_B "\nend\n", "show takes one path" },
		{ "nncache 1 pause\nuntil 5\nend\n", "pause needs a cache" },
		{ "nncache 1 list\nlimit 0\nend\n", "limit: expected 1 to 1000" },
		{ "nncache 1 list\nlimit 1001\nend\n", "limit: expected 1 to 1000" },
		{ "nncache 1 list\nafter -1\nend\n", "after: expected a number" },
		{ "nncache 1 list\nafter +1\nend\n", "after: expected a number" },
		{ "nncache 1 list\nafter 1x\nend\n", "after: expected a number" },
		{ "nncache 1 list\nafter 9223372036854775808\nend\n", "after: expected a number" },
	};
	struct request req;
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		if (parse(&req, cases[i].text) == 0)
			fail_msg("accepted: %s", cases[i].text);
		if (strstr(err.text, cases[i].expected) == NULL)
			fail_msg("%s\nsaid: %s\nnot: %s", cases[i].text, err.text, cases[i].expected);
		assert_int_equal(err.kind, ERROR_PERMANENT);
	}
}

static void a_nul_is_a_control_character(void **state)
{
	static const char text[] = "nncache 1 enqueue\npath /nix\0/store\nend\n";
	struct request req;
	(void)state;

	assert_int_equal(request_parse(&req, text, sizeof(text) - 1, &err), -1);
	assert_non_null(strstr(err.text, "line 2: a control character"));
}

static void append_paths(struct buf *buf, size_t n)
{
	buf_puts(buf, "nncache 1 enqueue\n");
	for (size_t i = 0; i < n; i++)
		buf_puts(buf, "path " PATH_A "\n");
	buf_puts(buf, "end\n");
	assert_true(buf_ok(buf));
}

static void there_may_be_4096_paths_and_no_more(void **state)
{
	struct request req;
	struct buf buf;
	(void)state;

	buf_init(&buf, REQUEST_MAX_BYTES);
	append_paths(&buf, REQUEST_MAX_PATHS);
	assert_int_equal(request_parse(&req, buf.data, buf.len, &err), 0);
	assert_int_equal(req.n_paths, REQUEST_MAX_PATHS);
	assert_string_equal(req.paths[REQUEST_MAX_PATHS - 1], PATH_A);
	request_fini(&req);
	buf_clear(&buf);
	append_paths(&buf, REQUEST_MAX_PATHS + 1);
	assert_int_equal(request_parse(&req, buf.data, buf.len, &err), -1);
	assert_non_null(strstr(err.text, "more than 4096 paths"));
	buf_fini(&buf);
}

static void there_may_be_64_caches_and_no_more(void **state)
{
	struct request req;
	struct buf buf;
	(void)state;

	buf_init(&buf, REQUEST_MAX_BYTES);
	buf_puts(&buf, "nncache 1 resume\n");
	for (int i = 0; i < 64; i++)
		buf_printf(&buf, "cache c%d\n", i);
	buf_puts(&buf, "end\n");
	assert_int_equal(request_parse(&req, buf.data, buf.len, &err), 0);
	assert_string_equal(req.caches[63], "c63");
	request_fini(&req);
	buf.len -= strlen("end\n");
	buf_puts(&buf, "cache one-more\nend\n");
	assert_int_equal(request_parse(&req, buf.data, buf.len, &err), -1);
	assert_non_null(strstr(err.text, "line 66: cache: more than 64 caches"));
	buf_fini(&buf);
}

static void a_request_has_at_most_256_kib(void **state)
{
	static char big[REQUEST_MAX_BYTES + 1];
	struct request req;
	(void)state;

	memset(big, 'x', sizeof(big));
	assert_int_equal(request_parse(&req, big, sizeof(big), &err), -1);
	assert_non_null(strstr(err.text, "larger than 262144 bytes"));
}

static void long_values_are_refused_in_both_directions(void **state)
{
	char text[2000], path[STORE_PATH_SIZE + 1];
	struct request req = { .verb = VERB_SHOW };
	const char *paths[] = { path };
	struct buf buf;
	(void)state;

	memset(path, 'p', sizeof(path));
	path[STORE_PATH_SIZE] = '\0';
	snprintf(text, sizeof(text), "nncache 1 show\npath %s\nend\n", path);
	assert_int_equal(parse(&req, text), -1);
	assert_non_null(strstr(err.text, "path: the value is too long"));
	req.paths = paths;
	req.n_paths = 1;
	buf_init(&buf, REQUEST_MAX_BYTES);
	assert_int_equal(request_format(&req, &buf, &err), -1);
	path[STORE_PATH_SIZE - 1] = '\0';
	buf_clear(&buf);
	assert_int_equal(request_format(&req, &buf, &err), 0);
	buf_fini(&buf);
}

static void what_is_written_is_read_back(void **state)
{
	const char *paths[] = { PATH_A, PATH_B };
	struct request req = { .verb = VERB_PUSH,
		               .paths = paths,
		               .n_paths = 2,
		               .caches = { "main" },
		               .n_caches = 1,
		               .tag = "t",
		               .derivation = PATH_A ".drv",
		               .force = true };
	struct request back;
	struct buf buf;
	(void)state;

	buf_init(&buf, REQUEST_MAX_BYTES);
	assert_int_equal(request_format(&req, &buf, &err), 0);
	assert_string_equal(buf_text(&buf),
	                    "nncache 1 push\npath " PATH_A "\npath " PATH_B "\ncache main\nderivation " PATH_A
	                    ".drv\ntag t\nforce yes\nend\n");
	assert_int_equal(request_parse(&back, buf.data, buf.len, &err), 0);
	assert_true(back.force);
	assert_string_equal(back.paths[1], PATH_B);
	request_fini(&back);

	req = (struct request){ .verb = VERB_WAIT, .request_id = 12 };
	buf_clear(&buf);
	assert_int_equal(request_format(&req, &buf, &err), 0);
	assert_string_equal(buf_text(&buf), "nncache 1 wait\nrequest 12\nend\n");
	buf_fini(&buf);
}

static void nobody_smuggles_a_line_into_a_request(void **state)
{
	struct request req = { .verb = VERB_WAIT, .tag = "a\nend" };
	struct buf buf;
	(void)state;

	buf_init(&buf, REQUEST_MAX_BYTES);
	assert_int_equal(request_format(&req, &buf, &err), -1);
	assert_non_null(strstr(err.text, "tag: the value has a control character"));
	buf_fini(&buf);
}

static void a_request_is_complete_with_its_end_line_however_it_is_cut(void **state)
{
	static const char text[] = "nncache 1 wait\ntag end\nend\n";
	size_t len = sizeof(text) - 1;
	(void)state;

	assert_false(request_is_complete("", 0, 0));
	for (size_t n = 1; n <= len; n++)
		for (size_t n_checked = 0; n_checked < n; n_checked++)
			assert_int_equal(request_is_complete(text, n, n_checked), n == len);
}

static void an_ok_answer_has_its_fields(void **state)
{
	char line[] = "ok request=12 new=1";
	struct answer answer;
	(void)state;

	assert_true(answer_is_last(line));
	assert_int_equal(answer_parse(&answer, line, &err), 0);
	assert_int_equal(answer.kind, ANSWER_OK);
	assert_int_equal(record_get_int(&answer.fields, "request"), 12);
}

static void an_error_answer_has_kind_and_text_as_written(void **state)
{
	struct answer answer;
	struct buf buf;
	(void)state;

	buf_init(&buf, 1000);
	for (int kind = ANSWER_USAGE; kind <= ANSWER_UNKNOWN; kind++) {
		buf_clear(&buf);
		answer_format_error(&buf, (enum answer_kind)kind, "line 2: a\nb = \x1b[31m");
		assert_int_equal(buf.data[buf.len - 1], '\n');
		buf.data[--buf.len] = '\0';
		assert_int_equal(answer_parse(&answer, buf.data, &err), 0);
		assert_int_equal(answer.kind, kind);
		assert_string_equal(answer.text, "line 2: a b =  [31m");
	}
	buf_fini(&buf);
}

static void answers_of_other_daemons_are_understood_or_refused(void **state)
{
	char newer[] = "error tired come back later", bare[] = "error busy", none[] = "error",
	     no_fields[] = "ok", word[] = "okay", bad[] = "ok new";
	struct answer answer;
	(void)state;

	assert_int_equal(answer_parse(&answer, newer, &err), 0);
	assert_int_equal(answer.kind, ANSWER_TRANSIENT);
	assert_string_equal(answer.text, "come back later");
	assert_int_equal(answer_parse(&answer, bare, &err), 0);
	assert_int_equal(answer.kind, ANSWER_BUSY);
	assert_int_equal(answer_parse(&answer, none, &err), -1);
	assert_int_equal(answer_parse(&answer, no_fields, &err), 0);
	assert_int_equal(answer.kind, ANSWER_OK);
	assert_false(answer_is_last(word));
	assert_int_equal(answer_parse(&answer, word, &err), -1);
	assert_int_equal(answer_parse(&answer, bad, &err), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_key_of_an_enqueue_is_found),
		cmocka_unit_test(numbers_and_flags_of_other_verbs_are_found),
		cmocka_unit_test(every_mistake_is_an_error_that_names_its_line),
		cmocka_unit_test(a_nul_is_a_control_character),
		cmocka_unit_test(there_may_be_4096_paths_and_no_more),
		cmocka_unit_test(there_may_be_64_caches_and_no_more),
		cmocka_unit_test(a_request_has_at_most_256_kib),
		cmocka_unit_test(long_values_are_refused_in_both_directions),
		cmocka_unit_test(what_is_written_is_read_back),
		cmocka_unit_test(nobody_smuggles_a_line_into_a_request),
		cmocka_unit_test(a_request_is_complete_with_its_end_line_however_it_is_cut),
		cmocka_unit_test(an_ok_answer_has_its_fields),
		cmocka_unit_test(an_error_answer_has_kind_and_text_as_written),
		cmocka_unit_test(answers_of_other_daemons_are_understood_or_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
