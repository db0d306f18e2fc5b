/* plan: what becomes of a job after a fault. */
#include "daemon/plan/backoff.h"
#include "tests/unit/test.h"

static struct backoff_verdict decide(enum error_kind kind, unsigned attempts, uint64_t random,
                                     uint32_t retry_after_s)
{
	struct error fault = { .kind = kind, .retry_after_s = retry_after_s };
	struct backoff_case c = {
		.fault = &fault, .attempts = attempts, .give_up_after = 25, .random = random
	};

	return backoff_decide(&c);
}

static void a_delay_is_never_zero_and_never_passes_the_cap_however_often_we_tried(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 200; n++) {
		assert_in_range(backoff_delay_s(n, UINT64_MAX, 0), 1, BACKOFF_MAX_S);
		assert_in_range(backoff_delay_s(n, 0, 0), 1, BACKOFF_MAX_S);
	}
}

static void delays_are_spread_over_the_whole_of_a_growing_range(void **state)
{
	(void)state;
	assert_int_equal(backoff_delay_s(0, 1, 0), 2);
	assert_int_equal(backoff_delay_s(3, 15, 0), 16);
	assert_int_equal(backoff_delay_s(3, 16, 0), 1);
	assert_int_equal(backoff_delay_s(100, BACKOFF_MAX_S - 1, 0), BACKOFF_MAX_S);
}

static void retry_after_is_a_minimum_and_is_capped(void **state)
{
	(void)state;
	for (uint64_t random = 0; random < 1000; random++) {
		assert_in_range(backoff_delay_s(0, random, 100), 100, 125);
		assert_in_range(backoff_delay_s(0, random, UINT32_MAX), BACKOFF_RETRY_AFTER_S,
		                BACKOFF_RETRY_AFTER_S * 5 / 4);
	}
}

static void a_transient_fault_is_given_up_at_its_last_attempt_and_not_before(void **state)
{
	(void)state;
	assert_false(decide(ERROR_TRANSIENT, 23, 0, 0).give_up);
	assert_true(decide(ERROR_TRANSIENT, 23, 0, 0).counts);
	assert_true(decide(ERROR_TRANSIENT, 24, 0, 0).give_up);
}

static void what_a_person_must_mend_is_never_given_up(void **state)
{
	static const uint64_t delays[] = { 60, 300, 900, 1800, 1800 };
	(void)state;

	for (unsigned n = 0; n < N_ELEMENTS(delays); n++)
		assert_int_equal(decide(ERROR_OPERATOR, n, 0, 0).delay_s, delays[n]);
	assert_false(decide(ERROR_OPERATOR, 1000000, 0, 0).give_up);
}

static void a_permanent_fault_ends_it_and_a_cancel_costs_nothing(void **state)
{
	(void)state;
	assert_true(decide(ERROR_PERMANENT, 0, 0, 0).give_up);
	assert_false(decide(ERROR_CANCELED, 0, 0, 0).give_up);
	assert_false(decide(ERROR_CANCELED, 0, 0, 0).counts);
	assert_int_equal(decide(ERROR_CANCELED, 0, 0, 0).delay_s, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_delay_is_never_zero_and_never_passes_the_cap_however_often_we_tried),
		cmocka_unit_test(delays_are_spread_over_the_whole_of_a_growing_range),
		cmocka_unit_test(retry_after_is_a_minimum_and_is_capped),
		cmocka_unit_test(a_transient_fault_is_given_up_at_its_last_attempt_and_not_before),
		cmocka_unit_test(what_a_person_must_mend_is_never_given_up),
		cmocka_unit_test(a_permanent_fault_ends_it_and_a_cancel_costs_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
