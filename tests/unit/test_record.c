/* common/record: what is written into a record comes out of it again. */
#include <stdio.h>
#include <string.h>

#include "common/record.h"
#include "tests/unit/test.h"

static struct error err;

static void a_record_is_written_with_its_values_escaped(void **state)
{
	struct buf buf;
	(void)state;

	buf_init(&buf, 1000);
	record_begin(&buf, "job");
	record_text(&buf, "path", "/nix/store/x-a?b=c");
	record_text(&buf, "text", "100% \xc3\xa4\n");
	record_text(&buf, "tag", NULL);
	record_text(&buf, "empty", "");
	record_int(&buf, "rank", -5);
	record_uint(&buf, "nar-size", UINT64_MAX);
	record_bool(&buf, "root", true);
	record_end(&buf);
	record_end_list(&buf);
	assert_string_equal(buf_text(&buf),
	                    "job path=/nix/store/x-a?b=c text=100%25%20%C3%A4%0A empty= rank=-5 "
	                    "nar-size=18446744073709551615 root=yes\n.\n");
	buf_fini(&buf);
}

static void every_byte_comes_back(void **state)
{
	char all[256], line[2000];
	struct record record;
	struct buf buf;
	(void)state;

	for (int i = 1; i < 256; i++)
		all[i - 1] = (char)i;
	all[255] = '\0';
	buf_init(&buf, 2000);
	record_begin(&buf, "x");
	record_text(&buf, "first", all);
	record_text(&buf, "second", all);
	memcpy(line, buf_text(&buf), buf.len + 1);
	assert_int_equal(record_parse(&record, line, &err), 0);
	assert_string_equal(record_get(&record, "first"), all);
	assert_string_equal(record_get(&record, "second"), all);
	buf_fini(&buf);
}

static void fields_are_found_by_key_and_missing_ones_are_nothing(void **state)
{
	char line[] = "queue ready=12 oldest=-3 total=18446744073709551615 name=a%20b on=yes off=no none=";
	struct record record;
	(void)state;

	assert_int_equal(record_parse(&record, line, &err), 0);
	assert_string_equal(record.word, "queue");
	assert_int_equal(record.n_fields, 7);
	assert_int_equal(record_get_int(&record, "ready"), 12);
	assert_int_equal(record_get_int(&record, "oldest"), -3);
	assert_true(record_get_uint(&record, "total") == UINT64_MAX);
	assert_int_equal(record_get_int(&record, "total"), 0);
	assert_int_equal(record_get_uint(&record, "oldest"), 0);
	assert_string_equal(record_get(&record, "name"), "a b");
	assert_int_equal(record_get_int(&record, "name"), 0);
	assert_true(record_get_bool(&record, "on"));
	assert_false(record_get_bool(&record, "off"));
	assert_string_equal(record_get(&record, "none"), "");
	assert_null(record_get(&record, "absent"));
	assert_int_equal(record_get_uint(&record, "absent"), 0);
	assert_false(record_get_bool(&record, "absent"));
}

static void what_is_no_record_is_refused(void **state)
{
	static const char *const cases[] = {
		"",          " job",      "Job a=b",    "job ",       "job  a=b", "job a",
		"job =b",    "job a=b ",  "job A=b",    "job a=%",    "job a=%4", "job a=%4g",
		"job a=%4a", "job a=%00", "job a=\x01", "job a=\xc3",
	};
	struct record record;
	char line[100];
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		snprintf(line, sizeof(line), "%s", cases[i]);
		if (record_parse(&record, line, &err) == 0)
			fail_msg("accepted: '%s'", cases[i]);
		assert_int_equal(err.kind, ERROR_PERMANENT);
	}
}

static void there_may_be_48_fields_and_no_more(void **state)
{
	struct record record;
	struct buf buf;
	char line[1000];
	(void)state;

	buf_init(&buf, 1000);
	record_begin(&buf, "w");
	for (int i = 0; i < RECORD_MAX_FIELDS; i++)
		record_int(&buf, "k", i);
	strcpy(line, buf_text(&buf));
	assert_int_equal(record_parse(&record, line, &err), 0);
	assert_int_equal(record_get_int(&record, "k"), 0);
	record_int(&buf, "k", 1);
	strcpy(line, buf_text(&buf));
	assert_int_equal(record_parse(&record, line, &err), -1);
	buf_fini(&buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_record_is_written_with_its_values_escaped),
		cmocka_unit_test(every_byte_comes_back),
		cmocka_unit_test(fields_are_found_by_key_and_missing_ones_are_nothing),
		cmocka_unit_test(what_is_no_record_is_refused),
		cmocka_unit_test(there_may_be_48_fields_and_no_more),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
