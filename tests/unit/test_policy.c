#include "tests/unit/test.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/policy/policy.h"

#define PATH(name) "/nix/store/3n58xw4373jp0ljirf06d8077j15pc4j-" name

struct fixture {
	struct config *config;
	struct policy *policy;
};

static void open_policy(struct fixture *fixture, const char *text)
{
	static const struct config_places places = { .config_file = "/conf/nncache.conf" };
	CLEANUP(buf_fini) struct buf messages = { .max = KIB(64) };
	struct error err;
	int rc = config_load_text(&fixture->config, &places, "f", text, strlen(text), false, &messages);

	assert_string_equal(buf_text(&messages), "");
	assert_int_equal(rc, 0);
	assert_int_equal(policy_new(&fixture->policy, fixture->config, &err), 0);
}

static void close_policy(struct fixture *fixture)
{
	policy_free(fixture->policy);
	config_free(fixture->config);
}

#define CACHE(name) "[cache \"" name "\"]\nurl = file:///" name "\nsign = no\n"

static void a_path_of_no_class_has_the_default_priority(void **state)
{
	struct fixture f;

	(void)state;
	open_policy(&f, "[priority \"p\"]\nmatch = gcc\npriority = 900\n");
	assert_int_equal(policy_priority(f.policy, PATH("hello-2.12")), PRIORITY_DEFAULT);
	close_policy(&f);
}

static void the_highest_matching_class_wins_whatever_the_order(void **state)
{
	struct fixture f;

	(void)state;
	open_policy(&f, "[priority \"a\"]\nmatch = -deps-|-vendor\npriority = 100\n"
	                "[priority \"b\"]\nmatch = -vendor$\npriority = 700\n"
	                "[priority \"c\"]\nmatch = vendor\npriority = 3\n"
	                "[priority \"d\"]\nmatch = ^/nix/store/[^-]*-doc\npriority = 0\n");
	assert_int_equal(policy_priority(f.policy, PATH("x-deps-1")), 100);
	assert_int_equal(policy_priority(f.policy, PATH("x-vendor")), 700);
	assert_int_equal(policy_priority(f.policy, PATH("xvendored")), 3);
	assert_int_equal(policy_priority(f.policy, PATH("doc-1")), 0);
	close_policy(&f);
}

static void a_minute_of_waiting_is_worth_one_step_of_priority(void **state)
{
	struct fixture f;

	(void)state;
	open_policy(&f, "[priority \"a\"]\nmatch = urgent\npriority = 51\n");
	assert_int_equal(policy_rank(f.policy, PATH("hello"), 1000000), 1000000 - 50 * 60);
	assert_int_equal(policy_rank(f.policy, PATH("urgent"), 1000060),
	                 policy_rank(f.policy, PATH("hello"), 1000000));
	assert_true(policy_rank(f.policy, PATH("urgent"), 1000059) <
	            policy_rank(f.policy, PATH("hello"), 1000000));
	close_policy(&f);
}

static void without_filters_every_root_is_wanted_and_nothing_withheld(void **state)
{
	struct fixture f;

	(void)state;
	open_policy(&f, CACHE("a"));
	assert_true(policy_wants_root(f.policy, 0, PATH("hello-source")));
	assert_false(policy_withholds(f.policy, 0, PATH("hello-source"), UINT64_MAX));
	close_policy(&f);
}

static void excluding_is_a_search_in_the_full_path_with_case(void **state)
{
	struct fixture f;

	(void)state;
	open_policy(&f, CACHE("a") "exclude-roots = -source$\nexclude-roots = ^/nix/store/3n58\n" CACHE(
				"b") "exclude-roots = -source$\nexclude-roots = nixpkgs\\.tar\\.gz$\n");
	assert_false(policy_wants_root(f.policy, 0, PATH("anything")));
	assert_false(policy_wants_root(f.policy, 1, PATH("hello-source")));
	assert_true(policy_wants_root(f.policy, 1, PATH("hello-source-1")));
	assert_true(policy_wants_root(f.policy, 1, PATH("hello-Source")));
	assert_false(policy_wants_root(f.policy, 1, PATH("nixpkgs.tar.gz")));
	assert_true(policy_wants_root(f.policy, 1, PATH("nixpkgs_tar_gz")));
	/* filters of roots say nothing of what a closure needs */
	assert_false(policy_withholds(f.policy, 1, PATH("hello-source"), 1));
	close_policy(&f);
}

static void including_shuts_out_the_rest_and_excluding_still_counts(void **state)
{
	struct fixture f;

	(void)state;
	open_policy(&f, CACHE("a") "include-roots = -app-\ninclude-roots = -tool$\nexclude-roots = secret\n");
	assert_true(policy_wants_root(f.policy, 0, PATH("my-app-1")));
	assert_true(policy_wants_root(f.policy, 0, PATH("my-tool")));
	assert_false(policy_wants_root(f.policy, 0, PATH("other")));
	assert_false(policy_wants_root(f.policy, 0, PATH("secret-app-1")));
	close_policy(&f);
}

static void withholding_goes_by_name_and_by_size(void **state)
{
	struct fixture f;

	(void)state;
	open_policy(&f, CACHE("a") "exclude-closures = -cuda\nexclude-closures-with-nar-over = 1K\n");
	assert_true(policy_withholds(f.policy, 0, PATH("my-cuda-12"), 1));
	assert_false(policy_withholds(f.policy, 0, PATH("hello"), 1024));
	assert_true(policy_withholds(f.policy, 0, PATH("hello"), 1025));
	/* withheld is judged apart: the root itself may still be asked for */
	assert_true(policy_wants_root(f.policy, 0, PATH("my-cuda-12")));
	close_policy(&f);
}

static void a_cache_that_is_only_read_wants_nothing(void **state)
{
	struct fixture f;

	(void)state;
	open_policy(&f, CACHE("a") "push = no\n" CACHE("b") "push = auto\n");
	assert_false(policy_wants_root(f.policy, 0, PATH("hello")));
	assert_true(policy_wants_root(f.policy, 1, PATH("hello")));
	close_policy(&f);
}

static void a_pattern_that_does_not_compile_is_named(void **state)
{
	char *bad[] = { (char[]){ "fine" }, (char[]){ "a[" } };
	struct cache_config cache = { .name = (char[]){ "main" }, .exclude_closures = { bad, 2 } };
	struct config config = { .caches = &cache, .n_caches = 1 };
	struct policy *policy = NULL;
	struct error err;

	(void)state;
	assert_int_equal(policy_new(&policy, &config, &err), -1);
	assert_null(policy);
	assert_int_equal(err.kind, ERROR_OPERATOR);
	assert_non_null(strstr(err.text, "[cache \"main\"] filter: \"a[\": "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_path_of_no_class_has_the_default_priority),
		cmocka_unit_test(the_highest_matching_class_wins_whatever_the_order),
		cmocka_unit_test(a_minute_of_waiting_is_worth_one_step_of_priority),
		cmocka_unit_test(without_filters_every_root_is_wanted_and_nothing_withheld),
		cmocka_unit_test(excluding_is_a_search_in_the_full_path_with_case),
		cmocka_unit_test(including_shuts_out_the_rest_and_excluding_still_counts),
		cmocka_unit_test(withholding_goes_by_name_and_by_size),
		cmocka_unit_test(a_cache_that_is_only_read_wants_nothing),
		cmocka_unit_test(a_pattern_that_does_not_compile_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
