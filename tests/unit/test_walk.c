/* intake/walk: closures come in an order in which references go first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/intake/walk.h"
#include "tests/unit/test.h"

static void path_of(char *text, size_t size, unsigned number)
{
	snprintf(text, size, "/nix/store/%032u-n", number);
}

/* Makes NODE known, referring to the N_REFS numbers of REFS. */
static void know(struct walk *walk, unsigned number, const unsigned *refs, size_t n_refs)
{
	struct path_info info = { .nar_size = 8 };
	struct error err;
	char text[64];

	path_of(text, sizeof(text), number);
	info.path = strdup(text);
	info.references = calloc(n_refs + 1, sizeof(char *));
	for (size_t i = 0; i < n_refs; i++) {
		path_of(text, sizeof(text), refs[i]);
		info.references[info.n_references++] = strdup(text);
	}
	assert_int_equal(walk_know(walk, walk_add(walk, info.path), &info, &err), 0);
}

static void a_path_is_one_node_however_often_it_is_named(void **state)
{
	struct walk walk;
	char text[64];
	(void)state;

	walk_init(&walk);
	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < 10000; i++) {
			path_of(text, sizeof(text), i);
			assert_int_equal(walk_add(&walk, text), i);
		}
	assert_int_equal(walk.n_nodes, 10000);
	walk_fini(&walk);
}

static void references_go_first_and_layers_rise(void **state)
{
	enum { N = 2000 };
	uint32_t order[N], place[N];
	struct walk walk;
	struct error err;
	(void)state;

	walk_init(&walk);
	/* Every node refers to itself and to some of those with higher numbers. */
	for (unsigned i = 0; i < N; i++) {
		unsigned refs[4] = { i, (i * 7 + 1) % N, (i * 13 + 5) % N, i + 1 }, n = 0, kept[4];

		for (unsigned k = 0; k < 4; k++)
			if (refs[k] == i || (refs[k] > i && refs[k] < N))
				kept[n++] = refs[k];
		know(&walk, i, kept, n);
	}
	assert_int_equal(walk_order(&walk, 0, 1, order, &err), N);
	for (uint32_t i = 0; i < N; i++)
		place[order[i]] = i;
	for (uint32_t i = 0; i < N; i++)
		for (uint32_t k = 0; k < walk.nodes[i].n_refs; k++) {
			assert_true(place[walk.nodes[i].refs[k]] < place[i]);
			assert_true(walk.nodes[walk.nodes[i].refs[k]].layer < walk.nodes[i].layer);
		}
	walk_fini(&walk);
}

static void a_second_root_brings_only_what_is_new_to_it(void **state)
{
	const unsigned shared[] = { 2, 3 }, own[] = { 2, 4 };
	uint32_t order[8];
	struct walk walk;
	struct error err;
	(void)state;

	walk_init(&walk);
	know(&walk, 0, shared, 2);
	know(&walk, 1, own, 2);
	for (unsigned i = 2; i < 5; i++)
		know(&walk, i, NULL, 0);
	assert_int_equal(walk_order(&walk, 0, 1, order, &err), 3);
	assert_int_equal(walk_order(&walk, walk_add(&walk, "/nix/store/00000000000000000000000000000001-n"),
	                            1, order, &err),
	                 2);
	/* For another cache everything is new again. */
	assert_int_equal(walk_order(&walk, 0, 2, order, &err), 3);
	assert_int_equal(walk_order(&walk, 0, 3, order, &err), 0);
	walk_fini(&walk);
}

static void nothing_below_a_pruned_path_is_wanted(void **state)
{
	const unsigned refs[] = { 1 }, below[] = { 2 };
	uint32_t order[8];
	struct walk walk;
	struct error err;
	(void)state;

	walk_init(&walk);
	know(&walk, 0, refs, 1);
	know(&walk, 1, below, 1);
	walk.nodes[walk_add(&walk, "/nix/store/00000000000000000000000000000001-n")].is_pruned = true;
	assert_int_equal(walk_order(&walk, 0, 1, order, &err), 1);
	assert_int_equal(walk.nodes[0].layer, 0);
	walk_fini(&walk);
}

static void a_leaf_is_wanted_and_nothing_below_it(void **state)
{
	const unsigned refs[] = { 1 };
	uint32_t order[8];
	struct walk walk;
	struct error err;
	(void)state;

	walk_init(&walk);
	assert_int_equal(walk_add(&walk, "/nix/store/00000000000000000000000000000000-n"), 0);
	walk.nodes[0].is_leaf = true;
	know(&walk, 0, refs, 1);
	assert_int_equal(walk.n_nodes, 1);
	assert_int_equal(walk_order(&walk, 0, 1, order, &err), 1);
	assert_int_equal(order[0], 0);
	walk_fini(&walk);
}

static void a_closure_with_an_invalid_path_is_refused_by_name(void **state)
{
	const unsigned refs[] = { 1 };
	uint32_t order[8];
	struct walk walk;
	struct error err;
	(void)state;

	walk_init(&walk);
	know(&walk, 0, refs, 1);
	assert_int_equal(walk_order(&walk, 0, 1, order, &err), -1);
	assert_int_equal(err.kind, ERROR_PERMANENT);
	assert_non_null(strstr(err.text, "gone: /nix/store/00000000000000000000000000000001-n"));
	walk_fini(&walk);
}

static void a_closure_that_is_refused_keeps_nothing_from_other_roots(void **state)
{
	const unsigned refs[] = { 1, 2 };
	uint32_t order[8];
	struct walk walk;
	struct error err;
	(void)state;

	walk_init(&walk);
	know(&walk, 0, refs, 2);
	know(&walk, 1, NULL, 0); /* 2 is not known */
	assert_int_equal(walk_order(&walk, 0, 1, order, &err), -1);
	assert_int_equal(walk_order(&walk, 1, 1, order, &err), 1);
	assert_int_equal(order[0], 1);
	walk_fini(&walk);
}

static void started_over_all_comes_again(void **state)
{
	const unsigned refs[] = { 1 };
	uint32_t order[8];
	struct walk walk;
	struct error err;
	(void)state;

	walk_init(&walk);
	know(&walk, 0, refs, 1);
	know(&walk, 1, NULL, 0);
	assert_int_equal(walk_order(&walk, 0, 1, order, &err), 2);
	assert_int_equal(walk_order(&walk, 1, 1, order, &err), 0);
	walk_start_over(&walk);
	assert_int_equal(walk_order(&walk, 1, 1, order, &err), 1);
	walk_fini(&walk);
}

static void a_cycle_that_nix_would_never_make_ends_all_the_same(void **state)
{
	const unsigned a[] = { 1 }, b[] = { 0 };
	uint32_t order[8];
	struct walk walk;
	struct error err;
	(void)state;

	walk_init(&walk);
	know(&walk, 0, a, 1);
	know(&walk, 1, b, 1);
	assert_int_equal(walk_order(&walk, 0, 1, order, &err), 2);
	walk_fini(&walk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_path_is_one_node_however_often_it_is_named),
		cmocka_unit_test(references_go_first_and_layers_rise),
		cmocka_unit_test(a_second_root_brings_only_what_is_new_to_it),
		cmocka_unit_test(nothing_below_a_pruned_path_is_wanted),
		cmocka_unit_test(a_leaf_is_wanted_and_nothing_below_it),
		cmocka_unit_test(a_closure_with_an_invalid_path_is_refused_by_name),
		cmocka_unit_test(a_closure_that_is_refused_keeps_nothing_from_other_roots),
		cmocka_unit_test(started_over_all_comes_again),
		cmocka_unit_test(a_cycle_that_nix_would_never_make_ends_all_the_same),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
