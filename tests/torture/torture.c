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
	prctl(PR_SET_DUMPABLE, 1);
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
		exit(fn(scenario, dir));
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

/* Number NUMBER of all failures: every call of every kind once, then every one for good. */
static struct fail_plan plan_number(const uint64_t counts[FAIL_N_KINDS], uint64_t number)
{
	struct fail_plan plan = { 0 };
	uint64_t n_calls = 0;

	for (int i = 0; i < FAIL_N_KINDS; i++)
		n_calls += counts[i];
	plan.for_good = number >= n_calls;
	number -= plan.for_good ? n_calls : 0;
	while (number >= counts[plan.kind])
		number -= counts[plan.kind++];
	plan.nth = number + 1;
	return plan;
}

static uint64_t seed(void)
{
	const char *text = getenv("TORTURE_SEED");

	return text != NULL ? strtoull(text, NULL, 10) : (uint64_t)time(NULL) / 86400;
}

static bool wants_all(void)
{
	const char *text = getenv("TORTURE");

	return text != NULL && strcmp(text, "all") == 0;
}

static bool run_scenario(const struct torture_scenario *scenario)
{
	const struct fail_plan none = { 0 };
	uint64_t counts[FAIL_N_KINDS], total = 0, n_tried = 0, n_bad = 0, n_hit = 0;
	double step = 1, at;

	if (!try(scenario, &none))
		return false;
	for (int i = 0; i < FAIL_N_KINDS; i++) {
		counts[i] = fail_count((enum fail_kind)i);
		total += counts[i] * 2;
	}
	if (total > scenario->n_sample && !wants_all())
		step = (double)total / scenario->n_sample;
	/* Golden-ratio steps: places of neighbouring days lie far apart. */
	at = (double)(seed() * 0x9E3779B97F4A7C15u >> 32) / 4294967296.0 * step;
	if (step <= 1)
		at = 0;
	for (; at < (double)total; at += step, n_tried++) {
		struct fail_plan plan = plan_number(counts, (uint64_t)at);

		n_bad += !try(scenario, &plan);
		n_hit += ledger->was_hit;
	}
	printf("%s %s: %" PRIu64 " of %" PRIu64 " failures tried, %" PRIu64 " struck, %" PRIu64
	       " not survived, seed %" PRIu64 " (",
	       n_bad == 0 ? "ok" : "not ok", scenario->name, n_tried, total, n_hit, n_bad, seed());
	for (int i = 0; i < FAIL_N_KINDS; i++)
		if (counts[i] > 0)
			printf(" %s %" PRIu64, fail_kind_name((enum fail_kind)i), counts[i]);
	puts(" )");
	return n_bad == 0 && n_hit > 0;
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

	snprintf(top, sizeof(top), "/tmp/nncache-torture-XXXXXX");
	if (mkdtemp(top) == NULL)
		torture_fail("%s: %s", top, strerror(errno));
	chmod(top, 0755);
	ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (ledger == MAP_FAILED)
		torture_fail("mmap: %s", strerror(errno));
	fail_open();
	for (size_t i = 0; i < n; i++) {
		if (argc > 1 && strcmp(argv[1], scenarios[i].name) != 0)
			continue;
		is_fine =
			(argc > 2 ? run_one(&scenarios[i], argv[2]) : run_scenario(&scenarios[i])) && is_fine;
	}
	run_shell("rm -rf %s", top);
	return is_fine ? EXIT_SUCCESS : EXIT_FAILURE;
}
