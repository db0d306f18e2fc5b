/* Runs a scenario again and again, each time in a fresh process and a fresh directory, and with one failure:
 * some call of some kind, once or from then on. After each run another process, in which nothing fails,
 * judges what is left.
 *
 * A run has failed the test if it ends by a signal, with a sanitizer's report (a leak is one), with another
 * status than the scenario allows, or not at all in a minute; or if the judgement is not an exit with 0.
 *
 * How many of all possible failures are tried: n_sample of each kind, spread evenly, at other places
 * each day ($TORTURE_SEED says where), $TORTURE_TIMES as many if that is set; all of them if $TORTURE is
 * "all", but SQL_MEMORY_MAX of SQLite's own allocations; all of a kind if it names one. There are some
 * 33,000, of which one of the daemon takes 0.15 CPU-seconds under LeakSanitizer, and waits for four. A failed
 * one is named, and is run alone by `PROGRAM SCENARIO KIND:NTH[+]`; $TORTURE_TRACE then shows where it
 * struck. */
#ifndef TESTS_TORTURE_TORTURE_H
#define TESTS_TORTURE_TORTURE_H

#include <stdbool.h>
#include <stddef.h>

#include "tests/torture/fail.h"

#define TORTURE_MAX_MARKS 64

/* What the processes of a run tell each other; zero before each run. */
struct torture_ledger {
	atomic_uint marks[TORTURE_MAX_MARKS]; /* the scenario's own: what was acknowledged, say */
	struct fail_plan plan;                /* what is tried */
	bool was_hit;                         /* it struck (for the judge) */
	int status;                           /* of the run (for the judge) */
};

struct torture_scenario {
	const char *name;
	/* Makes the world in DIR, which is empty. Nothing fails yet. */
	void (*prepare)(const char *dir);
	/* With failures, from its first line (or see arms_itself) until it returns the status to exit with.
	 */
	int (*run)(const char *dir, struct torture_ledger *ledger);
	/* Ends the process by torture_fail if something is amiss. */
	void (*judge)(const char *dir, struct torture_ledger *ledger);
	bool may_fail;     /* to end with status 1 is fine */
	bool arms_itself;  /* run() calls fail_arm(&ledger->plan): nothing fails or is counted before */
	unsigned n_sample; /* of each kind */
	unsigned kinds;    /* bits of those that are tried; 0: all */
};

void torture_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* What the run of DIR wrote to stderr; for the caller to free. */
char *torture_stderr(const char *dir);
/* For main(). */
int torture_main(int argc, char **argv, const struct torture_scenario *scenarios, size_t n);

#endif
