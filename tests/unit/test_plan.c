/* plan: what becomes of a job after a fault, and of its cache. */
#include <string.h>

#include "daemon/plan/backoff.h"
#include "daemon/plan/breaker.h"
#include "daemon/plan/clocks.h"
#include "daemon/plan/pace.h"
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

static void what_this_machine_lacks_is_no_attempt(void **state)
{
	const struct error fault = { .kind = ERROR_TRANSIENT };
	struct backoff_case c = { .fault = &fault, .attempts = 24, .give_up_after = 25, .is_machines = true };
	(void)state;

	for (c.random = 0; c.random < 200; c.random++) {
		struct backoff_verdict verdict = backoff_decide(&c);

		assert_false(verdict.give_up || verdict.counts);
		assert_in_range(verdict.delay_s, 1, BACKOFF_MACHINES_S);
	}
	c.is_machines = false;
	assert_true(backoff_decide(&c).give_up);
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

/* ---- the breaker ------------------------------------------------------------------------------------- */

/* One thing that happens, and what is to come of it. */
enum step_of { FAULT, SERVER_FAULT, PROBE_FAULT, PROBE_SERVER_FAULT, GOOD, PROBE_GOOD };
struct step {
	enum step_of of;
	int64_t job;
	enum error_kind kind;
	enum breaker_stage stage;
	bool is_the_caches, is_open;
};

#define T ERROR_TRANSIENT
#define P ERROR_PERMANENT
#define O ERROR_OPERATOR

static uint64_t next_random(uint64_t *random)
{
	*random = *random * 6364136223846793005u + 1442695040888963407u;
	return *random >> 20;
}

static bool meet(struct breaker *b, const struct step *step, const struct breaker_now *now)
{
	struct error err = { .kind = step->kind, .text = "no" };
	struct breaker_fault fault = {
		.err = &err,
		.is_server_fault = step->of == SERVER_FAULT || step->of == PROBE_SERVER_FAULT,
		.is_probe = step->of == PROBE_FAULT || step->of == PROBE_SERVER_FAULT,
		.stage = step->stage,
		.job = step->job,
	};

	if (step->of == GOOD || step->of == PROBE_GOOD)
		return breaker_success(b, step->stage, step->of == PROBE_GOOD);
	return breaker_fault(b, &fault, now);
}

static void play(const char *name, const struct step *steps, size_t n_steps)
{
	struct breaker b = { 0 };

	for (size_t i = 0; i < n_steps; i++) {
		struct breaker_now now = { .mono_ms = 1000 * i, .unix_s = (int64_t)i };
		bool said = meet(&b, &steps[i], &now);

		if (steps[i].of < GOOD && said != steps[i].is_the_caches)
			fail_msg("%s, step %zu: blames %s", name, i, said ? "the cache" : "the job");
		if (b.is_open != steps[i].is_open)
			fail_msg("%s, step %zu: is %s", name, i, b.is_open ? "open" : "closed");
	}
}

#define PLAY(name, ...)                                              \
	do {                                                         \
		static const struct step steps_[] = { __VA_ARGS__ }; \
		play(name, steps_, N_ELEMENTS(steps_));              \
	} while (0)

static void a_fault_is_the_caches_only_on_evidence(void **state)
{
	(void)state;
	PLAY("a fault before any request byte", { SERVER_FAULT, 1, T, BREAKER_ASK, true, true });
	PLAY("401", { SERVER_FAULT, 1, O, BREAKER_SEND, true, true });
	PLAY("three paths", { FAULT, 1, T, BREAKER_SEND, false, false },
	     { FAULT, 2, T, BREAKER_ASK, false, false }, { FAULT, 3, T, BREAKER_SEND, true, true });
	PLAY("one poison path", { FAULT, 1, T, BREAKER_SEND, false, false },
	     { FAULT, 1, T, BREAKER_SEND, false, false }, { FAULT, 1, T, BREAKER_SEND, false, false },
	     { FAULT, 1, T, BREAKER_SEND, false, false });
	PLAY("two poison paths", { FAULT, 1, T, BREAKER_SEND, false, false },
	     { FAULT, 2, T, BREAKER_SEND, false, false }, { FAULT, 1, T, BREAKER_SEND, false, false },
	     { FAULT, 2, T, BREAKER_SEND, false, false });
	PLAY("poison among good ones", { FAULT, 1, T, BREAKER_SEND, false, false },
	     { FAULT, 2, T, BREAKER_SEND, false, false }, { GOOD, 9, 0, BREAKER_SEND, false, false },
	     { FAULT, 3, T, BREAKER_SEND, false, false }, { FAULT, 1, T, BREAKER_SEND, false, false },
	     { GOOD, 9, 0, BREAKER_SEND_INFO, false, false }, { FAULT, 4, T, BREAKER_SEND, false, false });
	PLAY("kinds are not mixed", { FAULT, 1, T, BREAKER_SEND, false, false },
	     { FAULT, 2, O, BREAKER_SEND, false, false }, { FAULT, 3, P, BREAKER_SEND, false, false },
	     { FAULT, 4, T, BREAKER_SEND, false, false }, { FAULT, 5, O, BREAKER_SEND, false, false },
	     { FAULT, 6, P, BREAKER_SEND, false, false }, { FAULT, 7, P, BREAKER_SEND, true, true });
}

/* A wrong URL: questions are answered (404: not there), and every PUT is refused. */
static void what_works_before_it_is_no_excuse_for_a_step(void **state)
{
	(void)state;
	PLAY("asking works, sending does not", { GOOD, 1, 0, BREAKER_ASK, false, false },
	     { FAULT, 1, O, BREAKER_SEND, false, false }, { GOOD, 2, 0, BREAKER_ASK, false, false },
	     { FAULT, 2, O, BREAKER_SEND, false, false }, { GOOD, 3, 0, BREAKER_ASK_NAR, false, false },
	     { FAULT, 3, O, BREAKER_SEND, true, true }, { PROBE_GOOD, 4, 0, BREAKER_ASK, false, true },
	     { PROBE_FAULT, 4, O, BREAKER_SEND, true, true },
	     { PROBE_GOOD, 5, 0, BREAKER_SEND, false, false });
	PLAY("NARs go, narinfos do not", { GOOD, 1, 0, BREAKER_SEND, false, false },
	     { FAULT, 1, P, BREAKER_SEND_INFO, false, false }, { GOOD, 2, 0, BREAKER_SEND, false, false },
	     { FAULT, 2, P, BREAKER_SEND_INFO, false, false }, { GOOD, 3, 0, BREAKER_SEND, false, false },
	     { FAULT, 3, P, BREAKER_SEND_INFO, true, true },
	     { PROBE_GOOD, 4, 0, BREAKER_SEND_INFO, false, false });
}

static void while_it_is_open_only_a_probe_counts(void **state)
{
	(void)state;
	PLAY("what was under way", { SERVER_FAULT, 1, T, BREAKER_SEND, true, true },
	     { FAULT, 2, P, BREAKER_SEND, true, true }, { SERVER_FAULT, 3, O, BREAKER_SEND, true, true },
	     { GOOD, 4, 0, BREAKER_SEND_INFO, false, true },
	     { PROBE_SERVER_FAULT, 5, T, BREAKER_ASK, true, true },
	     { PROBE_GOOD, 6, 0, BREAKER_PREPARE, false, false });
	PLAY("a poison path as the probe of a cache that is back",
	     { SERVER_FAULT, 1, T, BREAKER_SEND, true, true },
	     { PROBE_FAULT, 1, T, BREAKER_ASK, false, false }, { FAULT, 1, T, BREAKER_ASK, false, false },
	     { FAULT, 1, T, BREAKER_ASK, false, false });
	PLAY("a token that is refused on writing only", { SERVER_FAULT, 1, O, BREAKER_SEND, true, true },
	     { PROBE_FAULT, 2, T, BREAKER_ASK, true, true }, { PROBE_GOOD, 3, 0, BREAKER_ASK, false, true },
	     { PROBE_FAULT, 3, P, BREAKER_SEND, false, false });
	PLAY("a token that was refused with a narinfo, and taken with a NAR",
	     { SERVER_FAULT, 1, O, BREAKER_SEND_INFO, true, true },
	     { PROBE_GOOD, 2, 0, BREAKER_ASK_NAR, false, true },
	     { PROBE_GOOD, 2, 0, BREAKER_SEND, false, false });
	PLAY("all answer 500, the probe too", { FAULT, 1, T, BREAKER_SEND, false, false },
	     { FAULT, 2, T, BREAKER_SEND, false, false }, { FAULT, 3, T, BREAKER_SEND, true, true },
	     { PROBE_FAULT, 4, T, BREAKER_SEND, true, true }, { PROBE_FAULT, 5, O, BREAKER_SEND, true, true },
	     { PROBE_GOOD, 6, 0, BREAKER_SEND, false, false }, { FAULT, 7, T, BREAKER_SEND, false, false });
}

static void open_by(struct breaker *b, enum error_kind kind, uint32_t retry_after_s, uint64_t random)
{
	struct error err = { .kind = kind, .retry_after_s = retry_after_s, .text = "why" };
	struct breaker_fault fault = { .err = &err, .is_server_fault = true, .job = 7 };
	struct breaker_now now = { .mono_ms = 1000, .unix_s = 1700000000, .random = random };

	*b = (struct breaker){ 0 };
	assert_true(breaker_fault(b, &fault, &now));
	assert_int_equal(b->since_unix_s, 1700000000);
	assert_string_equal(b->fault.text, "why");
}

/* The next probe fails, too; how long until the one after it? */
static uint64_t delay_after_probe(struct breaker *b, enum error_kind kind, uint64_t random)
{
	struct error err = { .kind = kind };
	struct breaker_fault fault = { .err = &err, .is_server_fault = true, .is_probe = true, .job = 8 };
	struct breaker_now now = { .mono_ms = b->due_mono_ms, .random = random };

	assert_int_equal(breaker_may_claim(b, b->due_mono_ms - 1), BREAKER_NONE);
	assert_int_equal(breaker_may_claim(b, b->due_mono_ms), BREAKER_ONE);
	breaker_probe_began(b, 8, b->due_mono_ms);
	assert_int_equal(breaker_may_claim(b, b->due_mono_ms - 1), BREAKER_NONE);
	assert_true(breaker_fault(b, &fault, &now));
	return b->due_mono_ms - now.mono_ms;
}

static void probes_of_what_may_go_by_itself_come_after_seconds_then_minutes(void **state)
{
	struct breaker b;
	uint64_t most_ms = BREAKER_FIRST_MS, random = 1;
	(void)state;

	open_by(&b, T, 0, 0);
	assert_in_range(b.due_mono_ms - 1000, BREAKER_FIRST_MS / 2, BREAKER_FIRST_MS);
	for (unsigned i = 0; i < 100; i++) {
		most_ms = most_ms * 2 < BREAKER_MAX_MS ? most_ms * 2 : BREAKER_MAX_MS;
		assert_in_range(delay_after_probe(&b, T, next_random(&random)), most_ms / 2, most_ms);
	}
	/* Jitter takes both ends. */
	assert_int_equal(delay_after_probe(&b, T, 0), BREAKER_MAX_MS / 2);
	assert_int_equal(delay_after_probe(&b, T, BREAKER_MAX_MS / 2), BREAKER_MAX_MS);
}

static void probes_of_what_a_person_must_mend_come_after_1_5_15_and_30_minutes(void **state)
{
	static const uint64_t minutes[] = { 5, 15, 30, 30, 30 };
	struct breaker b;
	(void)state;

	open_by(&b, O, 0, 12345);
	assert_int_equal(b.due_mono_ms, 1000 + 60000);
	for (size_t i = 0; i < N_ELEMENTS(minutes); i++)
		assert_int_equal(delay_after_probe(&b, O, 12345), 60000 * minutes[i]);
	/* Another kind begins anew. */
	assert_in_range(delay_after_probe(&b, T, 12345), BREAKER_FIRST_MS / 2, BREAKER_FIRST_MS);
	assert_int_equal(delay_after_probe(&b, O, 12345), 60000);
	breaker_probe_now(&b, 5000);
	assert_int_equal(breaker_may_claim(&b, 5000), BREAKER_ONE);
	assert_int_equal(delay_after_probe(&b, O, 12345), 5 * 60000);
}

static void a_breaker_waits_as_long_as_the_cache_asked_but_no_more_than_an_hour(void **state)
{
	struct breaker b;
	uint64_t random = 3;
	(void)state;

	for (unsigned i = 0; i < 1000; i++) {
		open_by(&b, T, 100, next_random(&random));
		assert_in_range(b.due_mono_ms - 1000, 100000, 125000);
		open_by(&b, T, UINT32_MAX, next_random(&random));
		assert_in_range(b.due_mono_ms - 1000, 3600000, 4500000);
		open_by(&b, O, 10, next_random(&random));
		assert_int_equal(b.due_mono_ms - 1000, 60000);
	}
}

static void a_probe_is_another_job_than_those_that_failed(void **state)
{
	static const struct step steps[] = { { FAULT, 11, T, BREAKER_SEND, false, false },
		                             { FAULT, 12, T, BREAKER_SEND, false, false },
		                             { FAULT, 13, T, BREAKER_SEND, true, true } };
	struct breaker_now now = { .mono_ms = 1 };
	struct breaker b = { 0 };
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(steps); i++)
		meet(&b, &steps[i], &now);
	assert_int_equal(b.n_tried, 3);
	for (int64_t i = 0; i < 3; i++)
		assert_int_equal(b.tried[i], 11 + i);
	/* There may be more of them than are remembered: the oldest go. */
	for (int64_t job = 20; job < 20 + BREAKER_TRIED_MAX; job++)
		breaker_probe_began(&b, job, 1);
	assert_int_equal(b.n_tried, BREAKER_TRIED_MAX);
	for (size_t i = 0; i < BREAKER_TRIED_MAX; i++)
		assert_in_range(b.tried[i], 20, 20 + BREAKER_TRIED_MAX);
	assert_true(breaker_forget_tried(&b));
	assert_int_equal(b.n_tried, 0);
	assert_false(breaker_forget_tried(&b));
}

static void a_probe_that_takes_long_gets_company_and_one_that_shows_nothing_a_successor(void **state)
{
	struct breaker b;
	uint64_t delay_ms;
	(void)state;

	open_by(&b, T, 0, 0);
	breaker_probe_began(&b, 8, 5000);
	assert_int_equal(breaker_may_claim(&b, 5000 + BREAKER_PATIENCE_MS - 1), BREAKER_NONE);
	assert_int_equal(breaker_may_claim(&b, 5000 + BREAKER_PATIENCE_MS), BREAKER_ONE);
	breaker_probe_showed_nothing(&b, 6000);
	assert_int_equal(breaker_may_claim(&b, 6000 + BREAKER_NOTHING_MS), BREAKER_ONE);
	/* One that showed nothing does not shorten what another one's fault asks for. */
	b.due_mono_ms = 100000;
	delay_ms = delay_after_probe(&b, O, 0);
	breaker_probe_showed_nothing(&b, 100001);
	assert_int_equal(b.due_mono_ms, 100000 + delay_ms);
	/* To a closed one nothing of this matters. */
	b = (struct breaker){ 0 };
	breaker_probe_began(&b, 8, 5000);
	breaker_probe_showed_nothing(&b, 5000);
	breaker_probe_now(&b, 5000);
	assert_int_equal(breaker_may_claim(&b, 0), BREAKER_ALL);
}

/* What the evidence should say, from the whole story since the last success of that stage. */
struct story {
	struct step steps[4000];
	size_t n;
};

static bool is_evidence(const struct story *story, const struct step *fault)
{
	int64_t others[2] = { 0 };
	enum breaker_stage excused = BREAKER_PREPARE;
	bool is_excused = false;

	for (size_t i = story->n; i-- > 0;) {
		const struct step *step = &story->steps[i];

		if (step->of == GOOD && (!is_excused || step->stage > excused)) {
			is_excused = true;
			excused = step->stage;
		}
		if (step->of != FAULT || step->kind != fault->kind || step->job == fault->job ||
		    step->job == others[0] || (is_excused && step->stage <= excused))
			continue;
		if (others[0] != 0)
			return true;
		others[0] = step->job;
	}
	return false;
}

/* Random stories of few jobs: is it open exactly if there was evidence, is it never forced, is a probe always
 * coming, and does every answer of a probe lead on? */
static void in_every_story_it_opens_on_evidence_alone_and_a_probe_is_always_due(void **state)
{
	static struct story story;
	uint64_t random = 4711;
	unsigned n_opened = 0, n_closed = 0;
	(void)state;

	for (unsigned round = 0; round < 200; round++) {
		struct breaker b = { 0 };
		uint64_t now_ms = 1;
		unsigned n_jobs = 2 + (unsigned)(next_random(&random) % 6);

		story.n = 0;
		for (unsigned i = 0; i < 2000; i++) {
			struct breaker_now now = { .mono_ms = now_ms, .random = next_random(&random) };
			struct step step = {
				.of = next_random(&random) % 3 == 0    ? GOOD
				      : next_random(&random) % 50 == 0 ? SERVER_FAULT
				                                       : FAULT,
				.job = 1 + (int64_t)(next_random(&random) % n_jobs),
				.kind = ERROR_TRANSIENT + (enum error_kind)(next_random(&random) % 3),
				.stage = (enum breaker_stage)(next_random(&random) % 5),
			};
			bool was_open = b.is_open, is_probe = false, said;
			uint64_t due_ms = b.due_mono_ms;
			bool expected = step.of == SERVER_FAULT ||
			                (step.of == FAULT && (was_open || is_evidence(&story, &step)));

			if (was_open && now_ms >= due_ms) {
				assert_int_equal(breaker_may_claim(&b, now_ms), BREAKER_ONE);
				breaker_probe_began(&b, step.job, now_ms);
				step.of = step.of == FAULT          ? PROBE_FAULT
				          : step.of == SERVER_FAULT ? PROBE_SERVER_FAULT
				                                    : PROBE_GOOD;
				is_probe = true;
			}
			said = meet(&b, &step, &now);
			if (!is_probe) {
				if (step.of != GOOD)
					assert_int_equal(said, expected);
				assert_int_equal(b.is_open, was_open || (expected && step.of != GOOD));
				if (was_open)
					assert_true(b.due_mono_ms == due_ms);
			}
			if (b.is_open && (is_probe || !was_open) && step.of != PROBE_GOOD)
				assert_in_range(b.due_mono_ms - now_ms, BREAKER_FIRST_MS / 2, 1800000);
			n_opened += !was_open && b.is_open;
			n_closed += was_open && !b.is_open;
			if (was_open && !b.is_open)
				story.n = 0;
			if (!b.is_open) {
				step.of = is_probe && step.of != PROBE_GOOD ? FAULT : step.of;
				story.steps[story.n++] = step;
			}
			now_ms += next_random(&random) % 2 ? next_random(&random) % 1000 : 600000;
		}
	}
	assert_true(n_opened > 1000 && n_closed > 1000);
}

/* ---- pace -------------------------------------------------------------------------------------------- */

static void a_burst_of_refusals_halves_the_pace_once(void **state)
{
	struct pace pace;
	(void)state;

	pace_init(&pace, 32);
	assert_int_equal(pace.limit, 32);
	for (uint64_t i = 0; i < 32; i++)
		pace_overload(&pace, 1000 + i, 2000 + i);
	assert_int_equal(pace.limit, 16);
	/* However late they come: they belong to the old pace. */
	pace_overload(&pace, 2000, 90000);
	assert_int_equal(pace.limit, 16);
	pace_overload(&pace, 2001, 2000 + PACE_CUT_MS - 1);
	assert_int_equal(pace.limit, 16);
	pace_overload(&pace, 2001, 2000 + PACE_CUT_MS);
	assert_int_equal(pace.limit, 8);
}

static void pace_stays_between_one_and_the_most_that_was_set(void **state)
{
	uint64_t random = 99;
	(void)state;

	for (unsigned max = 1; max < 70; max++) {
		struct pace pace;
		uint64_t now_ms = 1;

		pace_init(&pace, max);
		for (unsigned i = 0; i < 3000; i++) {
			unsigned before = pace.limit;

			now_ms += next_random(&random) % 3000;
			if (next_random(&random) % (i < 1500 ? 10 : 200) == 0)
				pace_overload(&pace, now_ms - 1, now_ms);
			else
				pace_good(&pace);
			assert_in_range(pace.limit, 1, max);
			/* Up by one, down by half. */
			assert_true(pace.limit == before || pace.limit == before + 1 ||
			            pace.limit == (before > 1 ? before / 2 : 1));
		}
	}
}

/* A cache that refuses what passes 10 at a time, a round trip of 100 ms, rounds of requests: the pace is
 * found, and once the bound falls, all places are used again. */
static void pace_settles_below_what_a_cache_bears_and_rises_again(void **state)
{
	struct pace pace;
	uint64_t now_ms = 1;
	unsigned most = 0;
	(void)state;

	pace_init(&pace, 32);
	for (unsigned round = 0; round < 1000; round++) {
		unsigned n = pace.limit;

		for (unsigned i = 0; i < n; i++) {
			if (i < 10)
				pace_good(&pace);
			else
				pace_overload(&pace, now_ms, now_ms + 100);
		}
		if (round > 50 && n > most)
			most = n;
		now_ms += 1100;
	}
	assert_in_range(most, 10, 12);
	for (unsigned round = 0; round < 40; round++)
		for (unsigned i = pace.limit; i > 0; i--)
			pace_good(&pace);
	assert_int_equal(pace.limit, 32);
}

/* ---- clocks ------------------------------------------------------------------------------------------ */

static void a_suspend_and_a_clock_that_was_set_are_told_from_time_going_by(void **state)
{
	static const struct {
		uint64_t mono_ms, boot_ms;
		int64_t unix_ms;
		enum clocks_event event;
	} cases[] = {
		{ 3000, 3000, 3000, CLOCKS_WENT_ON },
		{ 3000, 3000, 3400, CLOCKS_WENT_ON },    /* slewed */
		{ 90000, 90001, 90000, CLOCKS_WENT_ON }, /* a long turn of the loop */
		{ 3000, 28803000, 28803000, CLOCKS_SLEPT },
		{ 3000, 28803000, 3000, CLOCKS_SLEPT },
		{ 3000, 3000, 3603000, CLOCKS_JUMPED },
		{ 3000, 3000, -3600000, CLOCKS_JUMPED },
		{ 3000, 3000, -1700000000000, CLOCKS_JUMPED },
	};
	const struct clocks before = { .mono_ms = 500, .boot_ms = 800, .unix_ms = 1700000000000 };
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		struct clocks now = { .mono_ms = before.mono_ms + cases[i].mono_ms,
			              .boot_ms = before.boot_ms + cases[i].boot_ms,
			              .unix_ms = before.unix_ms + cases[i].unix_ms };

		assert_int_equal(clocks_compare(&before, &now), cases[i].event);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_this_machine_lacks_is_no_attempt),
		cmocka_unit_test(a_delay_is_never_zero_and_never_passes_the_cap_however_often_we_tried),
		cmocka_unit_test(delays_are_spread_over_the_whole_of_a_growing_range),
		cmocka_unit_test(retry_after_is_a_minimum_and_is_capped),
		cmocka_unit_test(a_transient_fault_is_given_up_at_its_last_attempt_and_not_before),
		cmocka_unit_test(what_a_person_must_mend_is_never_given_up),
		cmocka_unit_test(a_permanent_fault_ends_it_and_a_cancel_costs_nothing),
		cmocka_unit_test(a_fault_is_the_caches_only_on_evidence),
		cmocka_unit_test(what_works_before_it_is_no_excuse_for_a_step),
		cmocka_unit_test(while_it_is_open_only_a_probe_counts),
		cmocka_unit_test(probes_of_what_may_go_by_itself_come_after_seconds_then_minutes),
		cmocka_unit_test(probes_of_what_a_person_must_mend_come_after_1_5_15_and_30_minutes),
		cmocka_unit_test(a_breaker_waits_as_long_as_the_cache_asked_but_no_more_than_an_hour),
		cmocka_unit_test(a_probe_is_another_job_than_those_that_failed),
		cmocka_unit_test(a_probe_that_takes_long_gets_company_and_one_that_shows_nothing_a_successor),
		cmocka_unit_test(in_every_story_it_opens_on_evidence_alone_and_a_probe_is_always_due),
		cmocka_unit_test(a_burst_of_refusals_halves_the_pace_once),
		cmocka_unit_test(pace_stays_between_one_and_the_most_that_was_set),
		cmocka_unit_test(pace_settles_below_what_a_cache_bears_and_rises_again),
		cmocka_unit_test(a_suspend_and_a_clock_that_was_set_are_told_from_time_going_by),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
