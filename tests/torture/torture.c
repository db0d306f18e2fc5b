#include "tests/torture/torture.h"

#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/attr.h"
#include "common/fd.h"

#define SANITIZER_STATUS 99
#define RUN_MAX_MS       60000
#define STDERR_MAX       1048576
#define WORKERS_MAX      256
#define SQL_MEMORY_MAX   2000

const char *__asan_default_options(void);
const char *__lsan_default_options(void);
const char *__ubsan_default_options(void);

const char *__asan_default_options(void)
{
	return "exitcode=99:allocator_may_return_null=1";
}

const char *__lsan_default_options(void)
{
	return "exitcode=99";
}

const char *__ubsan_default_options(void)
{
	return "halt_on_error=1:exitcode=99:print_stacktrace=1";
}

static struct torture_ledger *ledger;
static char top[64]; /* scratch: DIR of the run and what it said */

void torture_fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	_exit(EXIT_FAILURE);
}

char *torture_stderr(const char *dir)
{
	char path[PATH_MAX];
	struct error err;
	char *text;

	snprintf(path, sizeof(path), "%s.stderr", dir);
	if (read_file(path, STDERR_MAX, &text, NULL, &err) < 0)
		torture_fail("%s", err.text);
	return text;
}

static void run_shell(const char *format, ...) PRINTF(1, 2);

static void run_shell(const char *format, ...)
{
	char command[PATH_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (system(command) != 0)
		torture_fail("failed: %s", command);
}

/* ---- processes --------------------------------------------------------------------------------------- */

typedef int (*child_fn)(const struct torture_scenario *scenario, const char *dir);

static int child_prepare(const struct torture_scenario *scenario, const char *dir)
{
	scenario->prepare(dir);
	return 0;
}

static int child_run(const struct torture_scenario *scenario, const char *dir)
{
	int status;

	if (!scenario->arms_itself)
		fail_arm(&ledger->plan);
	status = scenario->run(dir, ledger);
	fail_disarm();
	/* The leak checker looks at us from another process. */
	prctl(PR_SET_DUMPABLE, 1);
	return status;
}

static int child_judge(const struct torture_scenario *scenario, const char *dir)
{
	scenario->judge(dir, ledger);
	return 0;
}

/* Waits for PID, which must not take longer than RUN_MAX_MS. Returns what wait(2) says of it. */
static int wait_for(pid_t pid)
{
	CLEANUP(close_fd) int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	int status;

	if (fd >= 0 && poll(&pfd, 1, RUN_MAX_MS) == 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	return status;
}

/* Runs FN in a process of its own, what it says on stderr goes to top/SAID. */
static int in_child(child_fn fn, const struct torture_scenario *scenario, const char *said)
{
	char dir[PATH_MAX], path[PATH_MAX];
	int status;
	pid_t pid;

	snprintf(dir, sizeof(dir), "%s/world", top);
	snprintf(path, sizeof(path), "%s/%s", top, said);
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		torture_fail("fork: %s", strerror(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (freopen(path, "w", stderr) == NULL)
			_exit(EXIT_FAILURE);
		setvbuf(stderr, NULL, _IONBF, 0);
		status = fn(scenario, dir);
		if (fn == child_run)
			exit(status); /* looks for leaks, which costs as much as the rest */
		fflush(NULL);
		_exit(status);
	}
	return wait_for(pid);
}

/* ---- one failure ------------------------------------------------------------------------------------- */

static void plan_format(const struct fail_plan *plan, char text[64])
{
	snprintf(text, 64, "%s:%" PRIu64 "%s", fail_kind_name(plan->kind), plan->nth,
	         plan->for_good ? "+" : "");
}

static void complain(const struct torture_scenario *scenario, const char *what, int status, const char *said)
{
	char plan[64];

	plan_format(&ledger->plan, plan);
	if (WIFSIGNALED(status))
		printf("not ok %s %s: %s ended by signal %d\n", scenario->name, plan, what, WTERMSIG(status));
	else
		printf("not ok %s %s: %s ended with status %d\n", scenario->name, plan, what,
		       WEXITSTATUS(status));
	fflush(stdout);
	run_shell("tail -c 6000 %s/%s | sed 's/^/    /'", top, said);
}

static bool is_allowed(const struct torture_scenario *scenario, int status)
{
	/* One that ends by itself has given its handlers back when it is told to stop. */
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM)
		return scenario->may_fail;
	return WIFEXITED(status) &&
	       (WEXITSTATUS(status) == 0 || (scenario->may_fail && WEXITSTATUS(status) == EXIT_FAILURE));
}

/* Runs SCENARIO with PLAN. Returns whether it went as it must. */
static bool try(const struct torture_scenario *scenario, const struct fail_plan *plan)
{
	int status;

	memset(ledger, 0, sizeof(*ledger));
	ledger->plan = *plan;
	run_shell("rm -rf %s/world && mkdir %s/world", top, top);
	status = in_child(child_prepare, scenario, "prepare.stderr");
	if (status != 0) {
		complain(scenario, "the preparation", status, "prepare.stderr");
		return false;
	}
	status = in_child(child_run, scenario, "world.stderr");
	fail_disarm();
	if (!is_allowed(scenario, status)) {
		complain(scenario, "the run", status, "world.stderr");
		return false;
	}
	ledger->status = WEXITSTATUS(status);
	ledger->was_hit = fail_n_hits() > 0;
	status = in_child(child_judge, scenario, "judge.stderr");
	if (status != 0) {
		complain(scenario, "the judgement", status, "judge.stderr");
		puts("  the run had said:");
		fflush(stdout);
		run_shell("tail -c 3000 %s/world.stderr | sed 's/^/    /'", top);
		return false;
	}
	return true;
}

/* ---- all or some of them ----------------------------------------------------------------------------- */

struct plans {
	struct fail_plan *items;
	size_t n;
};

static uint64_t seed(void)
{
	const char *text = getenv("TORTURE_SEED");

	return text != NULL ? strtoull(text, NULL, 10) : (uint64_t)time(NULL) / 86400;
}

/* How many failures of KIND to try, of TOTAL there are. */
static uint64_t n_wanted(enum fail_kind kind, uint64_t total, unsigned n_sample)
{
	const char *what = getenv("TORTURE");
	const char *times = getenv("TORTURE_TIMES");
	uint64_t n = n_sample * (times != NULL ? strtoull(times, NULL, 10) : 1);

	if (what != NULL && strcmp(what, fail_kind_name(kind)) == 0)
		return total;
	if (what != NULL)
		n = strcmp(what, "all") == 0 ? total : 0;
	/* Tens of thousands, and SQLite's own tests have failed each of its allocations. */
	if (kind == FAIL_SQL_MEMORY && n > SQL_MEMORY_MAX)
		n = SQL_MEMORY_MAX;
	return n < total ? n : total;
}

/* Adds failures of KIND, which was called N_CALLS times: each once, then each for good; or some, evenly
 * spread. */
static void add_plans(struct plans *plans, enum fail_kind kind, uint64_t n_calls, unsigned n_sample)
{
	uint64_t total = n_calls * 2, n = n_wanted(kind, total, n_sample);
	double step = n > 0 ? (double)total / (double)n : 0;
	/* Multiples of the golden ratio: the places of neighbouring days lie far apart. */
	double offset = n < total ? (double)(seed() * 0x9E3779B97F4A7C15u >> 32) / 4294967296.0 * step : 0;

	plans->items = realloc(plans->items, (plans->n + n + 1) * sizeof(plans->items[0]));
	if (plans->items == NULL)
		torture_fail("out of memory");
	for (uint64_t i = 0; i < n; i++) {
		uint64_t number = (uint64_t)((double)i * step + offset);

		plans->items[plans->n++] = (struct fail_plan){ .kind = kind,
			                                       .nth = number % n_calls + 1,
			                                       .for_good = number >= n_calls };
	}
}

static struct plans plan_scenario(const struct torture_scenario *scenario)
{
	struct plans plans = { 0 };

	for (int i = 0; i < FAIL_N_KINDS; i++)
		if (scenario->kinds == 0 || (scenario->kinds & 1u << i) != 0)
			add_plans(&plans, (enum fail_kind)i, fail_count((enum fail_kind)i),
			          scenario->n_sample);
	return plans;
}

static void *map_shared(size_t n_bytes)
{
	void *memory = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		torture_fail("mmap: %s", strerror(errno));
	return memory;
}

/* A directory, a ledger and failures of this process's own. */
static void make_top(void)
{
	snprintf(top, sizeof(top), "/tmp/nncache-torture-XXXXXX");
	if (mkdtemp(top) == NULL)
		torture_fail("%s: %s", top, strerror(errno));
	chmod(top, 0755);
	ledger = map_shared(sizeof(*ledger));
	fail_open();
}

static void remove_top(void)
{
	run_shell("rm -rf %s", top);
}

struct tally {
	atomic_size_t next;
	atomic_uint n_bad, n_hit;
};

static void work(const struct torture_scenario *scenario, const struct plans *plans, struct tally *tally)
{
	size_t i;

	make_top();
	while ((i = tally->next++) < plans->n) {
		tally->n_bad += !try(scenario, &plans->items[i]);
		tally->n_hit += ledger->was_hit;
	}
	remove_top();
}

/* A run mostly waits: several go on at a time. A sample leaves most of the cores to other tests. */
static size_t n_workers(size_t n_plans)
{
	size_t n = (size_t)sysconf(_SC_NPROCESSORS_ONLN) * (getenv("TORTURE") != NULL ? 48 : 2);

	n = n < WORKERS_MAX ? n : WORKERS_MAX;
	return n < n_plans ? n : n_plans;
}

static void try_all(const struct torture_scenario *scenario, const struct plans *plans, struct tally *tally)
{
	size_t n = n_workers(plans->n);
	pid_t pids[WORKERS_MAX];

	fflush(NULL);
	for (size_t i = 0; i < n; i++) {
		pids[i] = fork();
		if (pids[i] < 0)
			torture_fail("fork: %s", strerror(errno));
		if (pids[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			work(scenario, plans, tally);
			fflush(stdout);
			_exit(EXIT_SUCCESS);
		}
	}
	for (size_t i = 0; i < n; i++) {
		int status;

		if (waitpid(pids[i], &status, 0) < 0 || status != 0)
			tally->n_bad++;
	}
}

static bool run_scenario(const struct torture_scenario *scenario)
{
	const struct fail_plan none = { 0 };
	struct tally *tally = map_shared(sizeof(*tally));
	struct plans plans;
	uint64_t total = 0;
	bool is_fine;

	if (!try(scenario, &none))
		return false;
	plans = plan_scenario(scenario);
	for (int i = 0; i < FAIL_N_KINDS; i++) {
		total += 2 * fail_count((enum fail_kind)i);
		if (fail_count((enum fail_kind)i) > 0)
			printf("# %s %s: %" PRIu64 " calls\n", scenario->name,
			       fail_kind_name((enum fail_kind)i), fail_count((enum fail_kind)i));
	}
	try_all(scenario, &plans, tally);
	is_fine = tally->n_bad == 0 && tally->n_hit > 0;
	printf("%s %s: %zu of %" PRIu64 " failures tried (seed %" PRIu64 "), %u struck, %u not survived\n",
	       is_fine ? "ok" : "not ok", scenario->name, plans.n, total, seed(), tally->n_hit, tally->n_bad);
	munmap(tally, sizeof(*tally));
	free(plans.items);
	return is_fine;
}

/* "KIND:NTH" or "KIND:NTH+" */
static struct fail_plan plan_parse(const char *text)
{
	size_t n = strcspn(text, ":");

	for (int i = 0; text[n] == ':' && i < FAIL_N_KINDS; i++) {
		const char *name = fail_kind_name((enum fail_kind)i);

		if (strlen(name) == n && strncmp(name, text, n) == 0)
			return (struct fail_plan){ .kind = (enum fail_kind)i,
				                   .nth = strtoull(text + n + 1, NULL, 10),
				                   .for_good = text[strlen(text) - 1] == '+' };
	}
	torture_fail("\"%s\" is no failure; expected KIND:NTH or KIND:NTH+", text);
}

static bool run_one(const struct torture_scenario *scenario, const char *text)
{
	struct fail_plan plan = plan_parse(text);
	bool is_fine = try(scenario, &plan);

	run_shell("cat %s/world.stderr", top);
	if (is_fine)
		puts(ledger->was_hit ? "ok" : "ok, but it never came to that call");
	return is_fine;
}

int torture_main(int argc, char **argv, const struct torture_scenario *scenarios, size_t n)
{
	bool is_fine = true;

	make_top();
	for (size_t i = 0; i < n; i++) {
		if (argc > 1 && strcmp(argv[1], scenarios[i].name) != 0)
			continue;
		is_fine =
			(argc > 2 ? run_one(&scenarios[i], argv[2]) : run_scenario(&scenarios[i])) && is_fine;
	}
	remove_top();
	return is_fine ? EXIT_SUCCESS : EXIT_FAILURE;
}
