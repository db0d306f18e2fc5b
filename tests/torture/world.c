#include "tests/torture/world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/torture/torture.h"

void world_make_dir(const char *dir, const char *name)
{
	char path[PATH_MAX];
	struct error err;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (make_dir(path, 0755, true, &err) < 0)
		torture_fail("%s", err.text);
}

void world_write(const char *path, const void *data, size_t n_bytes)
{
	CLEANUP(close_fd) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write_full(fd, data, n_bytes) < 0)
		torture_fail("%s: %s", path, strerror(errno));
}

void world_set_env(const char *name, const char *format, ...)
{
	char value[PATH_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(value, sizeof(value), format, args);
	va_end(args);
	setenv(name, value, 1);
}

static bool ends_in(const char *text, const char *suffix)
{
	size_t n = strlen(text), n_suffix = strlen(suffix);

	return n >= n_suffix && strcmp(text + n - n_suffix, suffix) == 0;
}

bool world_first_file(const char *dir, const char *suffix, char name[256])
{
	DIR *handle = opendir(dir);
	struct dirent *entry;
	bool found = false;

	while (!found && handle != NULL && (entry = readdir(handle)) != NULL)
		if (entry->d_name[0] != '.' && ends_in(entry->d_name, suffix)) {
			snprintf(name, 256, "%s", entry->d_name);
			found = true;
		}
	if (handle != NULL)
		closedir(handle);
	return found;
}

bool world_has_link_to(const char *dir, const char *target)
{
	DIR *handle = opendir(dir);
	char text[PATH_MAX];
	struct dirent *entry;
	bool found = false;

	while (!found && handle != NULL && (entry = readdir(handle)) != NULL) {
		ssize_t n = readlinkat(dirfd(handle), entry->d_name, text, sizeof(text));

		found = n > 0 && (size_t)n == strlen(target) && memcmp(text, target, (size_t)n) == 0;
	}
	if (handle != NULL)
		closedir(handle);
	return found;
}

int world_listen(const char *dir)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/socket", dir);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 8) < 0)
		torture_fail("%s: %s", addr.sun_path, strerror(errno));
	return fd;
}

bool world_read_request(int fd, struct request *ret)
{
	CLEANUP(buf_fini) struct buf in = { .max = REQUEST_MAX_BYTES };
	struct error err;

	while (in.len == 0 || !request_is_complete(in.data, in.len, 0)) {
		char *dst = buf_reserve(&in, 4096);
		ssize_t n = dst != NULL ? recv(fd, dst, 4096, 0) : -1;

		if (n <= 0)
			return false;
		in.len += (size_t)n;
	}
	return request_parse(ret, in.data, in.len, &err) == 0;
}

void world_stop(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
}
