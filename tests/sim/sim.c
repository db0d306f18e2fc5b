/* The simulation: the real queue, intake, upload, plan, pack and body over a simulated loop, clock, store,
 * caches and disk (see world.h), a process of its own for every seed.
 *
 *	sim [--seeds N | --seconds S] [--from X] [--jobs N]      seeds X, X+1, ... until one fails
 *	sim --seed X [--trace]                                   that one alone
 *	sim --cuts [--seeds N] [--from X]                        the power is cut at each sync in turn instead
 *	sim --seed X --cut N [--trace]                           one of those
 *
 * Exit status: 0 all held; 1 a seed failed: its sentence and how to replay it are on stdout; 2 usage. */
#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "tests/sim/chance.h"
#include "tests/sim/fake_store.h"
#include "tests/sim/world.h"

#define JOBS_MAX   64
#define SEED_MAX_S 60 /* one that takes longer turns in a circle */

static struct {
	uint64_t n_seeds, seconds, from;
	unsigned n_jobs;
	bool is_traced, cuts;
	uint64_t cut; /* 2 * boundary + loses_all; 0: none */
	const char *program;
	char dir[64];
} options = { .n_jobs = 2, .from = 1 };

/* What the workers share. */
struct progress {
	atomic_uint_fast64_t next, n_done, n_cuts;
	atomic_uint_fast64_t n_points[JOBS_MAX];
	atomic_bool has_failed;
};

int __real_clock_gettime(clockid_t id, struct timespec *ret);

static uint64_t real_s(void)
{
	struct timespec now;

	__real_clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec;
}

static int on_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void remove_tree(const char *dir)
{
	if (nftw(dir, on_entry, 8, FTW_DEPTH | FTW_PHYS) < 0)
		fprintf(stderr, "%s cannot be removed: %s\n", dir, strerror(errno));
}

/* In a process of its own, in an empty directory. */
static _Noreturn void run_seed(uint64_t seed, const char *dir, const struct world_cut *cut)
{
	alarm(SEED_MAX_S);
	log_init(options.is_traced ? LOG_LEVEL_INFO : (enum log_level)0, false);
	chance_init(seed, options.is_traced);
	if (cut != NULL)
		world_run_cut(dir, cut);
	else
		world_run(dir);
	_exit(0);
}

static bool try_seed(uint64_t seed, const char *dir, const struct world_cut *cut)
{
	int status;
	pid_t pid;

	if (mkdir(dir, 0700) < 0)
		fprintf(stderr, "%s: %s\n", dir, strerror(errno));
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		run_seed(seed, dir, cut);
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		printf("seed %" PRIu64 ": cannot be run: %s\n", seed, strerror(errno));
		return false;
	}
	if (WIFSIGNALED(status))
		printf("seed %" PRIu64 ": ended by signal %d (%s)\n", seed, WTERMSIG(status),
		       WTERMSIG(status) == SIGALRM ? "it turns in a circle" : strsignal(WTERMSIG(status)));
	if (status != 0 && cut != NULL)
		printf("replay: %s --seed %" PRIu64 " --cut %" PRIu64 " --trace\n", options.program, seed,
		       2 * cut->at + cut->loses_all);
	else if (status != 0)
		printf("replay: %s --seed %" PRIu64 " --trace\n", options.program, seed);
	fflush(stdout);
	remove_tree(dir);
	return status == 0;
}

/* First without a cut, to count the boundaries. */
static bool try_cuts(uint64_t seed, const char *dir, struct progress *progress, unsigned number)
{
	struct world_cut cut = { .n_points = &progress->n_points[number] };
	uint64_t n;

	if (options.cut > 0) {
		cut.at = options.cut / 2;
		cut.loses_all = options.cut % 2;
		return try_seed(seed, dir, &cut);
	}
	if (!try_seed(seed, dir, &cut))
		return false;
	n = *cut.n_points;
	for (cut.at = 1; cut.at <= n; cut.at++)
		for (int loses_all = 0; loses_all <= 1; loses_all++) {
			cut.loses_all = loses_all;
			if (!try_seed(seed, dir, &cut))
				return false;
			progress->n_cuts++;
		}
	return true;
}

static void work(struct progress *progress, unsigned number)
{
	uint64_t until_s = real_s() + options.seconds;
	char dir[128];

	while (!progress->has_failed) {
		uint64_t i = progress->next++;

		if (options.seconds > 0 ? real_s() >= until_s : i >= options.n_seeds)
			return;
		snprintf(dir, sizeof(dir), "%s/%u", options.dir, number);
		if (options.cuts ? !try_cuts(options.from + i, dir, progress, number)
		                 : !try_seed(options.from + i, dir, NULL))
			progress->has_failed = true;
		else
			progress->n_done++;
	}
}

static int run(void)
{
	struct progress *progress =
		mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t begun_s = real_s();

	if (progress == MAP_FAILED)
		return 1;
	for (unsigned i = 1; i < options.n_jobs; i++) {
		fflush(stdout);
		if (fork() == 0) {
			work(progress, i);
			fflush(stdout);
			_exit(0);
		}
	}
	work(progress, 0);
	while (wait(NULL) > 0)
		;
	printf("%" PRIuFAST64 " seeds from %" PRIu64 " on held, in %" PRIu64 " s\n", progress->n_done,
	       options.from, real_s() - begun_s);
	if (options.cuts)
		printf("with %" PRIuFAST64 " power cuts\n", progress->n_cuts);
	return progress->has_failed;
}

static bool parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "seeds", required_argument, NULL, 'n' },
		{ "seconds", required_argument, NULL, 's' },
		{ "from", required_argument, NULL, 'f' },
		{ "jobs", required_argument, NULL, 'j' },
		{ "seed", required_argument, NULL, 'x' },
		{ "trace", no_argument, NULL, 't' },
		{ "cuts", no_argument, NULL, 'c' },
		{ "cut", required_argument, NULL, 'k' },
		{ 0 },
	};
	int c;

	options.program = argv[0];
	options.n_seeds = 1000;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		uint64_t value = optarg != NULL ? strtoull(optarg, NULL, 10) : 0;

		if (c == 'n')
			options.n_seeds = value;
		else if (c == 's')
			options.seconds = value;
		else if (c == 'f' || c == 'x')
			options.from = value;
		else if (c == 'j')
			options.n_jobs = value > 0 && value <= JOBS_MAX ? (unsigned)value : 1;
		else if (c == 'k')
			options.cut = value;
		else if (c == 't')
			options.is_traced = true;
		else if (c != 'c')
			return false;
		options.cuts = options.cuts || c == 'c' || c == 'k';
		if (c == 'x')
			options.n_seeds = options.n_jobs = 1;
	}
	return optind == argc;
}

int main(int argc, char **argv)
{
	char contents[128];
	int status;

	if (!parse(argc, argv)) {
		fprintf(stderr, "usage: sim [--cuts] [--seeds N | --seconds S] [--from X] [--jobs N]\n"
		                "       sim --seed X [--cut N] [--trace]\n");
		return 2;
	}
	snprintf(options.dir, sizeof(options.dir), "%s/nncache-sim-XXXXXX",
	         access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (mkdtemp(options.dir) == NULL) {
		fprintf(stderr, "%s: %s\n", options.dir, strerror(errno));
		return 1;
	}
	snprintf(contents, sizeof(contents), "%s/contents", options.dir);
	fake_store_make_contents(contents);
	status = run();
	remove_tree(options.dir);
	return status;
}
