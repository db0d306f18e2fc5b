/* common: buffers, errors, store path syntax. */
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/error.h"
#include "common/store_path.h"
#include "tests/unit/test.h"

#define HASH "znfl9jqnlc8ialnfmiwhg8rs6pllsccf"

static void a_buffer_never_passes_its_limit_and_remembers_that_it_failed(void **state)
{
	struct buf buf;
	(void)state;

	buf_init(&buf, 10);
	buf_puts(&buf, "12345");
	buf_puts(&buf, "67890");
	assert_true(buf_ok(&buf));
	buf_putc(&buf, 'x');
	assert_false(buf_ok(&buf));
	buf_clear(&buf);
	buf_puts(&buf, "again");
	assert_true(buf_ok(&buf));
	assert_string_equal(buf_text(&buf), "again");
	buf_fini(&buf);
}

static void formatted_text_is_appended_whole_or_not_at_all(void **state)
{
	struct buf buf;
	(void)state;

	buf_init(&buf, 1000);
	for (int i = 0; i < 100; i++)
		buf_printf(&buf, "%03d,", i);
	assert_int_equal(buf.len, 400);
	buf_consume(&buf, 396);
	assert_string_equal(buf_text(&buf), "099,");
	buf_fini(&buf);
}

static void a_buffer_in_borrowed_memory_fills_it_and_no_more(void **state)
{
	char memory[8] = "????????";
	struct buf buf;
	(void)state;

	buf_init_in(&buf, memory, sizeof(memory) - 1);
	assert_string_equal(buf_text(&buf), "");
	buf_puts(&buf, "123");
	buf_printf(&buf, "%d", 456);
	assert_true(buf_ok(&buf));
	assert_string_equal(memory, "123456");
	assert_ptr_equal(buf.data, memory);
	buf_putc(&buf, '7');
	assert_false(buf_ok(&buf));
	assert_string_equal(memory, "123456");
	assert_int_equal(memory[7], '?');
	buf_fini(&buf);
	assert_string_equal(buf_text(&buf), "");
}

static void a_prefix_goes_before_what_was_said(void **state)
{
	struct error err;
	(void)state;

	assert_int_equal(error_set(&err, ERROR_OPERATOR, "HTTP %d", 403), -1);
	assert_int_equal(error_prefix(&err, "PUT %s", "x"), -1);
	assert_string_equal(err.text, "PUT x: HTTP 403");
	assert_int_equal(err.kind, ERROR_OPERATOR);
}

static void other_words_leave_what_the_other_side_asked_for(void **state)
{
	struct error err;
	(void)state;

	error_set(&err, ERROR_TRANSIENT, "HTTP %d", 503);
	err.is_overload = true;
	err.retry_after_s = 7;
	assert_int_equal(error_reword(&err, ERROR_OPERATOR, "%s; wait", err.text), -1);
	assert_string_equal(err.text, "HTTP 503; wait");
	assert_int_equal(err.kind, ERROR_OPERATOR);
	assert_true(err.is_overload);
	assert_int_equal(err.retry_after_s, 7);
}

static void store_paths_are_judged_as_nix_judges_them(void **state)
{
	static const struct {
		const char *text;
		bool valid;
	} cases[] = {
		{ "/nix/store/" HASH "-demo-1.0", true },
		{ "/nix/store/" HASH "-a", true },
		{ "/nix/store/" HASH "-.hidden", true },
		{ "/nix/store/" HASH "-?+=_", true },
		{ "/nix/store/" HASH "-..x", true },
		{ "/nix/store/" HASH "-.", false },
		{ "/nix/store/" HASH "-..", false },
		{ "/nix/store/" HASH "-.-x", false },
		{ "/nix/store/" HASH "-..-x", false },
		{ "/nix/store/" HASH "-", false },
		{ "/nix/store/" HASH, false },
		{ "/nix/store/" HASH "-a/bin", false },
		{ "/nix/store/" HASH "-a/", false },
		{ "/nix/store/enfl9jqnlc8ialnfmiwhg8rs6pllsccf-a", false },
		{ "/nix/store/Znfl9jqnlc8ialnfmiwhg8rs6pllsccf-a", false },
		{ "/nix/store/" HASH "-a b", false },
		{ "/nix/store/" HASH "-a\n", false },
		{ "/nix/store/../etc/passwd", false },
		{ "/nix/store", false },
		{ "/nix/storex/" HASH "-a", false },
		{ "", false },
	};
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++)
		if (store_path_is_valid(cases[i].text, "/nix/store") != cases[i].valid)
			fail_msg("judged wrongly: %s", cases[i].text);
}

static void a_name_may_have_211_characters_and_no_more(void **state)
{
	char path[STORE_PATH_SIZE];
	struct error err;
	(void)state;

	memcpy(path, "/nix/store/" HASH "-", 44);
	memset(path + 44, 'n', 212);
	path[44 + 211] = '\0';
	assert_int_equal(store_path_check(path, "/nix/store", &err), 0);
	path[44 + 211] = 'n';
	path[44 + 212] = '\0';
	assert_int_equal(store_path_check(path, "/nix/store", &err), -1);
	assert_non_null(strstr(err.text, "longer than 211"));
}

static void a_path_inside_the_store_is_cut_after_its_store_path(void **state)
{
	(void)state;
	assert_int_equal(store_path_prefix_len("/nix/store/" HASH "-a/bin/x", "/nix/store"), 45);
	assert_int_equal(store_path_prefix_len("/nix/store/" HASH "-a", "/nix/store"), 45);
	assert_int_equal(store_path_prefix_len("/etc/passwd", "/nix/store"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_buffer_never_passes_its_limit_and_remembers_that_it_failed),
		cmocka_unit_test(formatted_text_is_appended_whole_or_not_at_all),
		cmocka_unit_test(a_buffer_in_borrowed_memory_fills_it_and_no_more),
		cmocka_unit_test(a_prefix_goes_before_what_was_said),
		cmocka_unit_test(other_words_leave_what_the_other_side_asked_for),
		cmocka_unit_test(store_paths_are_judged_as_nix_judges_them),
		cmocka_unit_test(a_name_may_have_211_characters_and_no_more),
		cmocka_unit_test(a_path_inside_the_store_is_cut_after_its_store_path),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
