/* How long a program takes from being started until it has been waited for:
 *     spawn N COMMAND [ARGUMENT...]
 * runs COMMAND N times, one after the other, its output thrown away, and prints the microseconds of
 * each run, a line each. The start is posix_spawn's vfork, as cheap as there is, so that what is
 * measured is the program and not who starts it. */
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void fail(const char *what, int error)
{
	fprintf(stderr, "spawn: %s: %s\n", what, strerror(error));
	exit(1);
}

static int64_t run_once(char **argv, const posix_spawn_file_actions_t *actions)
{
	int64_t start = now_ns();
	int status, r;
	pid_t pid;

	r = posix_spawn(&pid, argv[0], actions, NULL, argv, environ);
	if (r != 0)
		fail(argv[0], r);
	if (waitpid(pid, &status, 0) != pid || status != 0) {
		fprintf(stderr, "spawn: %s: ended with status %d\n", argv[0], status);
		exit(1);
	}
	return now_ns() - start;
}

int main(int argc, char **argv)
{
	posix_spawn_file_actions_t actions;
	long n = argc > 2 ? strtol(argv[1], NULL, 10) : 0;

	if (n < 1) {
		fprintf(stderr, "usage: spawn N COMMAND [ARGUMENT...]\n");
		return 2;
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
	for (long i = 0; i < n; i++)
		printf("%.1f\n", (double)run_once(argv + 2, &actions) / 1000);
	posix_spawn_file_actions_destroy(&actions);
	return 0;
}
