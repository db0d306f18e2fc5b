/* units: sizes and durations for people. */
#include "common/units.h"
#include "tests/unit/test.h"

static void sizes_have_the_unit_that_reads_best(void **state)
{
	static const struct {
		uint64_t n;
		const char *text;
	} cases[] = {
		{ 0, "0 B" },
		{ 1023, "1023 B" },
		{ 1024, "1.0 KiB" },
		{ 1536, "1.5 KiB" },
		{ MIB(1) - 1, "1.0 MiB" },
		{ MIB(99), "99.0 MiB" },
		{ MIB(340), "340 MiB" },
		{ GIB(1024), "1.0 TiB" },
		{ UINT64_MAX, "16.0 EiB" },
	};
	char text[UNITS_TEXT_SIZE];
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++)
		assert_string_equal(units_format_bytes(cases[i].n, text), cases[i].text);
}

static void durations_have_their_two_largest_parts(void **state)
{
	static const struct {
		int64_t n;
		const char *text;
	} cases[] = {
		{ -5, "0s" },        { 0, "0s" },
		{ 59, "59s" },       { 60, "1m" },
		{ 192, "3m 12s" },   { 7500, "2h 5m" },
		{ 7205, "2h" },      { 86400, "1d" },
		{ 273600, "3d 4h" }, { INT64_MAX, "106751991167300d 15h" },
	};
	char text[UNITS_TEXT_SIZE];
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++)
		assert_string_equal(units_format_seconds(cases[i].n, text), cases[i].text);
}

static void durations_are_read_with_one_unit_or_none(void **state)
{
	static const struct {
		const char *text;
		uint64_t n;
	} good[] = {
		{ "0", 0 },     { "90", 90 },    { "90s", 90 },    { "5m", 300 },
		{ "2h", 7200 }, { "1d", 86400 }, { "1w", 604800 },
	};
	static const char *const bad[] = { "",     "s",   "-1",   "1x",  "1 h",
		                           "1hh",  "1h1", "1.5h", " 1h", "99999999999999999999",
		                           "6000w" };
	uint64_t n = 7;
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(bad); i++)
		if (units_parse_seconds(bad[i], &n))
			fail_msg("taken: \"%s\"", bad[i]);
	assert_int_equal(n, 7);
	for (size_t i = 0; i < N_ELEMENTS(good); i++) {
		assert_true(units_parse_seconds(good[i].text, &n));
		assert_int_equal(n, good[i].n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_have_the_unit_that_reads_best),
		cmocka_unit_test(durations_have_their_two_largest_parts),
		cmocka_unit_test(durations_are_read_with_one_unit_or_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
