#include "ctl/program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"

#define ARGS_MAX 16

static const char *find(char path[PATH_MAX], const char *const *places, size_t n_places)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n < 0)
		return NULL;
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (slash == NULL)
		return NULL;
	*slash = '\0';
	for (size_t i = 0; i < n_places; i++)
		if (snprintf(path, PATH_MAX, "%s/%s", self, places[i]) < PATH_MAX && access(path, X_OK) == 0)
			return path;
	return NULL;
}

const char *program_find_nncached(char path[PATH_MAX])
{
	static const char *const places[] = { "nncached", "../daemon/nncached", "../sbin/nncached" };

	return find(path, places, N_ELEMENTS(places));
}

const char *program_find_hook(char path[PATH_MAX])
{
	static const char *const places[] = { "../lib/nncache/hook", "../libexec/nncache/hook",
		                              "../hook/hook" };
	char found[PATH_MAX];

	const char *place = find(found, places, N_ELEMENTS(places));

	/* Whole, since it becomes the target of a link. */
	return realpath(place != NULL ? place : NNCACHE_HOOK, path);
}

void program_become_nncached(const char *const *args)
{
	char path[PATH_MAX], words[PATH_MAX * 2], *argv[ARGS_MAX + 2] = { words };
	const char *found = program_find_nncached(path);
	struct buf text;

	buf_init_in(&text, words, sizeof(words));
	buf_append(&text, "nncached", sizeof("nncached"));
	for (size_t i = 0; args[i] != NULL && i < ARGS_MAX; i++) {
		argv[i + 1] = words + text.len;
		buf_append(&text, args[i], strlen(args[i]) + 1);
	}
	fflush(stdout);
	if (!buf_ok(&text))
		errno = E2BIG;
	else if (found != NULL)
		execv(found, argv);
	else
		execvp(argv[0], argv);
}

static void read_all(int fd, struct buf *out)
{
	char part[4096];
	ssize_t n;

	while ((n = read(fd, part, sizeof(part))) != 0) {
		if (n < 0 && errno != EINTR)
			return;
		if (n > 0)
			buf_append(out, part, (size_t)n);
	}
}

int program_ask_nncached(const char *const *args, bool only_stdout, struct buf *out)
{
	CLEANUP(close_fd) int read_fd = -1;
	int fds[2], status;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -1;
	read_fd = fds[0];
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		if (!only_stdout)
			dup2(fds[1], STDERR_FILENO);
		program_become_nncached(args);
		dprintf(STDERR_FILENO, "nncached: %s\n", strerror(errno));
		_exit(127);
	}
	close(fds[1]);
	if (pid < 0)
		return -1;
	read_all(read_fd, out);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
