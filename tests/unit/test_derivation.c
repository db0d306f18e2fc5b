/* common/derivation: the outputs of .drv files that Nix wrote, and of none. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/derivation.h"
#include "common/fd.h"
#include "tests/unit/test.h"

static struct error err;
static size_t n_floating;

/* What the fixture NAME, written by nix-instantiate, names as outputs. */
static void assert_outputs(const char *name, const char *expected, size_t expected_floating)
{
	char path[4096], *text;
	struct buf out;
	size_t len;

	snprintf(path, sizeof(path), FIXTURES "/derivations/%s.drv", name);
	assert_int_equal(read_file(path, DERIVATION_MAX_BYTES, &text, &len, &err), 0);
	buf_init(&out, 1000);
	assert_int_equal(derivation_outputs(text, len, &out, &n_floating, &err), 0);
	assert_string_equal(buf_text(&out), expected);
	assert_int_equal(n_floating, expected_floating);
	buf_fini(&out);
	free(text);
}

static void the_outputs_of_real_derivations_are_found(void **state)
{
	(void)state;
	assert_outputs("single", "/nix/store/mziza8hpv6ibrhsi4p8ykbrnljjr279n-demo-1.0", 0);
	assert_outputs("fixed", "/nix/store/viyrhww6yf8f44a4c8xddq6lx6q8l829-source.tar.gz", 0);
	assert_outputs("multi",
	               "/nix/store/qfwnhh4xvim620cqp72y5nvysa1n30yw-multi-2.0-bin "
	               "/nix/store/habpb85ahyy489lrj48m5m39nr7qj8ng-multi-2.0-dev "
	               "/nix/store/fgvij80p4dqiz82vpx2ljipdh8cd5kql-multi-2.0-man "
	               "/nix/store/ss2rv57zxmmki2q92nxpgsby9yqw1975-multi-2.0",
	               0);
	assert_outputs("odd",
	               "/nix/store/2rglk5id9z82c3py0skqiyd8slhj516q-+odd_?=name-.1..x-a_b "
	               "/nix/store/yb02vhh1fvfph6q4v5qw6hbpjnqf0icx-+odd_?=name-.1..x",
	               0);
}

static void outputs_whose_path_is_not_known_yet_are_counted(void **state)
{
	(void)state;
	assert_outputs("floating", "", 2);
	assert_outputs("deferred", "", 1);
}

static int outputs_of(const char *text, struct buf *out)
{
	return derivation_outputs(text, strlen(text), out, &n_floating, &err);
}

static void other_spellings_of_the_list_are_read(void **state)
{
	struct buf out;
	(void)state;

	buf_init(&out, 1000);
	assert_int_equal(outputs_of("DrvWithVersion(\"xp-dyn-drv\",[(\"out\",\"/s/a\",\"\",\"\")],", &out),
	                 0);
	assert_string_equal(buf_text(&out), "/s/a");
	buf_clear(&out);
	assert_int_equal(outputs_of("Derive([],", &out), 0);
	assert_int_equal(out.len, 0);
	assert_int_equal(n_floating, 0);
	assert_int_equal(
		outputs_of(
			"Derive([(\"a\",\"\",\"\",\"\"),(\"b\",\"/s/b\",\"\",\"\"),(\"c\\\"\\\\\",\"/s/c\","
			"\"\",\"\")],",
			&out),
		0);
	assert_string_equal(buf_text(&out), "/s/b /s/c");
	assert_int_equal(n_floating, 1);
	buf_fini(&out);
}

static void what_is_no_derivation_is_refused(void **state)
{
	static const char *const cases[] = {
		"",
		"Derive",
		"Derive(",
		"Derive([",
		"derive([],",
		"Derive([,",
		"Derive([(",
		"Derive([()],",
		"Derive([(\"out\")],",
		"Derive([(\"out\",\"/s/a\")],",
		"Derive([(\"out\",\"/s/a\",\"\",\"\")",
		"Derive([(\"out\",\"/s/a\",\"\",\"\"),],",
		"Derive([(\"out\",\"/s/a\",\"\",\"\")(\"out\",\"/s/a\",\"\",\"\")],",
		"Derive([(\"out\",\"/s/a",
		"Derive([(\"out\",\"/s/a\\",
		"Derive([(\"out\",\"/s/a b\",\"\",\"\")],",
		"Derive([(\"out\",\"/s/a\nb\",\"\",\"\")],",
		"Derive([(out,\"/s/a\",\"\",\"\")],",
		"DrvWithVersion([(\"out\",\"/s/a\",\"\",\"\")],",
	};
	struct buf out;
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		buf_init(&out, 1000);
		if (outputs_of(cases[i], &out) == 0)
			fail_msg("accepted: %s", cases[i]);
		assert_int_equal(err.kind, ERROR_PERMANENT);
		buf_fini(&out);
	}
}

/* A derivation with N outputs. */
static void append_derivation(struct buf *text, size_t n)
{
	buf_puts(text, "Derive([");
	for (size_t i = 0; i < n; i++)
		buf_printf(text, "%s(\"o%zu\",\"/s/p%zu\",\"\",\"\")", i > 0 ? "," : "", i, i);
	buf_puts(text, "],");
	assert_true(buf_ok(text));
}

static void size_and_number_of_outputs_are_bounded(void **state)
{
	struct buf text, out;
	(void)state;

	buf_init(&text, DERIVATION_MAX_BYTES + 1);
	buf_init(&out, 100000);
	append_derivation(&text, DERIVATION_MAX_OUTPUTS);
	assert_int_equal(derivation_outputs(text.data, text.len, &out, &n_floating, &err), 0);
	buf_clear(&text);
	buf_clear(&out);
	append_derivation(&text, DERIVATION_MAX_OUTPUTS + 1);
	assert_int_equal(derivation_outputs(text.data, text.len, &out, &n_floating, &err), -1);
	assert_non_null(strstr(err.text, "more than 4096 outputs"));

	buf_clear(&text);
	append_derivation(&text, 100);
	buf_fini(&out);
	buf_init(&out, 100);
	assert_int_equal(derivation_outputs(text.data, text.len, &out, &n_floating, &err), -1);
	assert_non_null(strstr(err.text, "longer than 100 bytes"));
	assert_int_equal(derivation_outputs(text.data, DERIVATION_MAX_BYTES + 1, &out, &n_floating, &err),
	                 -1);
	buf_fini(&text);
	buf_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_outputs_of_real_derivations_are_found),
		cmocka_unit_test(outputs_whose_path_is_not_known_yet_are_counted),
		cmocka_unit_test(other_spellings_of_the_list_are_read),
		cmocka_unit_test(what_is_no_derivation_is_refused),
		cmocka_unit_test(size_and_number_of_outputs_are_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
