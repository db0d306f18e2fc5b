/* The simulation: the real queue, intake, upload, plan, pack and body over a simulated loop, clock, store,
 * caches and disk (see world.h), a process of its own for every seed.
 *
 *	sim [--seeds N | --seconds S] [--from X] [--jobs N]      seeds X, X+1, ... until one fails
 *	sim --seed X [--trace]                                   that one alone
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
	bool is_traced;
	const char *program;
	char dir[64];
} options = { .n_jobs = 2, .from = 1 };

/* What the workers share. */
struct progress {
	atomic_uint_fast64_t next, n_done;
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
static _Noreturn void run_seed(uint64_t seed, const char *dir)
{
	alarm(SEED_MAX_S);
	log_init(options.is_traced ? LOG_LEVEL_INFO : (enum log_level)0, false);
	chance_init(seed, options.is_traced);
	world_run(dir);
	_exit(0);
}

static bool try_seed(uint64_t seed, const char *dir)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0)
		run_seed(seed, dir);
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		printf("seed %" PRIu64 ": cannot be run: %s\n", seed, strerror(errno));
		return false;
	}
	if (WIFSIGNALED(status))
		printf("seed %" PRIu64 ": ended by signal %d (%s)\n", seed, WTERMSIG(status),
		       WTERMSIG(status) == SIGALRM ? "it turns in a circle" : strsignal(WTERMSIG(status)));
	if (status != 0)
		printf("replay: %s --seed %" PRIu64 " --trace\n", options.program, seed);
	fflush(stdout);
	return status == 0;
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
		mkdir(dir, 0700);
		if (!try_seed(options.from + i, dir))
			progress->has_failed = true;
		else
			progress->n_done++;
		remove_tree(dir);
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
		else if (c == 't')
			options.is_traced = true;
		else
			return false;
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
		fprintf(stderr,
		        "usage: sim [--seeds N | --seconds S] [--from X] [--jobs N] | --seed X [--trace]\n");
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
