/* What the daemon's side of the doctor reads from servers, and knows of file systems. */
#include "tests/unit/test.h"

#include <string.h>

#include "daemon/doctor_parts.h"

static void a_date_of_http_is_read_to_the_second(void **state)
{
	int64_t unix_s = 7;
	(void)state;

	assert_true(doctor_parse_date("Mon, 23 Nov 2026 07:00:00 GMT", &unix_s));
	assert_int_equal(unix_s, 1795417200);
	assert_false(doctor_parse_date("Mon, 23 Nov 2026 07:00:00", &unix_s));
	assert_false(doctor_parse_date("Mon, 23 Nov 2026 07:00:00 GMT and more", &unix_s));
	assert_false(doctor_parse_date("yesterday", &unix_s));
	assert_false(doctor_parse_date("", &unix_s));
	assert_int_equal(unix_s, 1795417200);
}

static void a_value_of_a_cache_info_is_cut_from_its_line(void **state)
{
	char value[8] = "as was";
	(void)state;

	assert_true(doctor_find_value("StoreDir: /s\nPriority:  41 \r\n", "Priority", value, sizeof(value)));
	assert_string_equal(value, "41");
	assert_true(doctor_find_value("StoreDir: /nix/store\n", "StoreDir", value, sizeof(value)));
	assert_string_equal(value, "/nix/st");
	assert_true(doctor_find_value("Priority:", "Priority", value, sizeof(value)));
	assert_string_equal(value, "");
	assert_false(doctor_find_value("XPriority: 1\nPriorityX: 2\nPriority 3\n", "Priority", value,
	                               sizeof(value)));
	assert_false(doctor_find_value("", "Priority", value, sizeof(value)));
}

static void file_systems_of_other_machines_and_of_memory_are_known(void **state)
{
	bool is_remote, is_volatile;
	(void)state;

	assert_string_equal(doctor_file_system(0x6969, &is_remote, &is_volatile), "NFS");
	assert_true(is_remote && !is_volatile);
	assert_string_equal(doctor_file_system(0xfe534d42, &is_remote, &is_volatile), "SMB2");
	assert_true(is_remote && !is_volatile);
	/* As a 32-bit long would have it. */
	assert_string_equal(doctor_file_system(0xffffffffff534d42, &is_remote, &is_volatile), "CIFS");
	assert_string_equal(doctor_file_system(0x01021994, &is_remote, &is_volatile), "tmpfs");
	assert_true(!is_remote && is_volatile);
	assert_string_equal(doctor_file_system(0xef53, &is_remote, &is_volatile), "ext4");
	assert_true(!is_remote && !is_volatile);
	assert_null(doctor_file_system(0x12345678, &is_remote, &is_volatile));
	assert_true(!is_remote && !is_volatile);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_date_of_http_is_read_to_the_second),
		cmocka_unit_test(a_value_of_a_cache_info_is_cut_from_its_line),
		cmocka_unit_test(file_systems_of_other_machines_and_of_memory_are_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
