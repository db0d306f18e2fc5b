/* verify: how a narinfo is judged, and what is remembered of references. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/verify/finding.h"
#include "daemon/verify/memo.h"
#include "tests/unit/test.h"

#define PATH_A "/nix/store/00000000000000000000000000000000-a"
#define PATH_B "/nix/store/11111111111111111111111111111111-b"
#define SECRET \
	"seed-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA=="

static char path_a[] = PATH_A, path_b[] = PATH_B;
static char *references[] = { path_b };
static struct signing_key *key;
static char sig[256];

static struct path_info info_of(void)
{
	struct path_info info = { .nar_size = 100, .references = references, .n_references = 1 };

	info.path = path_a;
	info.nar_hash[0] = 7;
	return info;
}

static int make_key(void **state)
{
	struct path_info info = info_of();
	struct buf buf = { .max = sizeof(sig) };
	struct error err;
	(void)state;

	if (signing_key_parse(&key, SECRET, "test", &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return -1;
	}
	signature_format(&buf, key, &info);
	snprintf(sig, sizeof(sig), "%s", buf_text(&buf));
	buf_fini(&buf);
	return 0;
}

static int drop_key(void **state)
{
	(void)state;
	signing_key_free(key);
	return 0;
}

/* What is found in a narinfo of NARINFO that has the signature TEXT, or none. */
static enum finding_what judge(struct path_info narinfo, char *text, bool was_uploaded)
{
	struct path_info must = info_of();
	struct belief belief = {
		.info = &must, .was_uploaded = was_uploaded, .must_be_signed = true, .keys = &key, .n_keys = 1
	};
	struct narinfo is = { .info = narinfo };
	struct finding finding = { 0 };

	is.info.sigs = &text;
	is.info.n_sigs = text != NULL;
	return finding_judge(&finding, &belief, &is) ? finding.what : FINDING_N;
}

static void a_narinfo_that_is_ours_word_for_word_is_fine(void **state)
{
	(void)state;
	assert_int_equal(judge(info_of(), sig, true), FINDING_N);
	assert_int_equal(judge(info_of(), sig, false), FINDING_N);
}

static void our_signature_must_be_there_if_we_uploaded_it_and_be_good_wherever_it_is(void **state)
{
	char bad[256], other[] = "other-1:AAAA";
	(void)state;

	snprintf(bad, sizeof(bad), "%s", sig);
	bad[20] = bad[20] == 'x' ? 'y' : 'x';
	assert_int_equal(judge(info_of(), NULL, true), FINDING_UNSIGNED);
	assert_int_equal(judge(info_of(), other, true), FINDING_UNSIGNED);
	assert_int_equal(judge(info_of(), other, false), FINDING_N);
	assert_int_equal(judge(info_of(), bad, true), FINDING_UNSIGNED);
	assert_int_equal(judge(info_of(), bad, false), FINDING_UNSIGNED);
}

static void another_nar_is_wrong_if_we_uploaded_it_and_else_another_build(void **state)
{
	struct path_info info = info_of();
	char other[] = "other-1:AAAA";
	(void)state;

	info.nar_size++;
	assert_int_equal(judge(info, other, false), FINDING_OTHER_BUILD);
	info = info_of();
	info.nar_hash[31] = 1;
	assert_int_equal(judge(info, other, false), FINDING_OTHER_BUILD);
	/* Its signature is not by our key: that is told first. */
	assert_int_equal(judge(info, other, true), FINDING_UNSIGNED);
}

static void the_same_nar_with_other_references_is_wrong_whoever_wrote_it(void **state)
{
	struct path_info info = info_of();
	char other[] = "other-1:AAAA";
	(void)state;

	info.n_references = 0;
	assert_int_equal(judge(info, other, false), FINDING_WRONG);
}

static void what_was_learnt_of_a_path_is_remembered_for_that_path_alone(void **state)
{
	struct memo *memo = calloc(1, sizeof(*memo));
	char path[80];
	unsigned n_known = 0;
	(void)state;

	assert_non_null(memo);
	assert_int_equal(memo_get(memo, PATH_A), MEMO_UNKNOWN);
	memo_put(memo, PATH_A, MEMO_THERE);
	memo_put(memo, PATH_B, MEMO_NOWHERE);
	assert_int_equal(memo_get(memo, PATH_A), MEMO_THERE);
	assert_int_equal(memo_get(memo, PATH_B), MEMO_NOWHERE);
	/* Many more than it holds: what is forgotten is unknown, never another path's. */
	for (int i = 0; i < 3 * MEMO_SLOTS; i++) {
		snprintf(path, sizeof(path), "/nix/store/%032d-x", i + 1000);
		memo_put(memo, path, i % 2 == 0 ? MEMO_THERE : MEMO_NOWHERE);
	}
	for (int i = 0; i < 3 * MEMO_SLOTS; i++) {
		enum memo_answer answer;

		snprintf(path, sizeof(path), "/nix/store/%032d-x", i + 1000);
		answer = memo_get(memo, path);
		if (answer != MEMO_UNKNOWN)
			assert_int_equal(answer, i % 2 == 0 ? MEMO_THERE : MEMO_NOWHERE);
		n_known += answer != MEMO_UNKNOWN;
	}
	assert_true(n_known > MEMO_SLOTS / 2 && n_known <= MEMO_SLOTS);
	free(memo);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_narinfo_that_is_ours_word_for_word_is_fine),
		cmocka_unit_test(our_signature_must_be_there_if_we_uploaded_it_and_be_good_wherever_it_is),
		cmocka_unit_test(another_nar_is_wrong_if_we_uploaded_it_and_else_another_build),
		cmocka_unit_test(the_same_nar_with_other_references_is_wrong_whoever_wrote_it),
		cmocka_unit_test(what_was_learnt_of_a_path_is_remembered_for_that_path_alone),
	};

	return cmocka_run_group_tests(tests, make_key, drop_key);
}
