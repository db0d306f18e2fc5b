#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void close_fd(int *fd)
{
	int saved_errno = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved_errno;
}

int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

int write_full(int fd, const void *data, size_t n_bytes)
{
	const char *p = data;

	while (n_bytes > 0) {
		ssize_t n = write(fd, p, n_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		p += n;
		n_bytes -= (size_t)n;
	}
	return 0;
}

ssize_t read_full(int fd, void *data, size_t n_bytes)
{
	char *p = data;
	size_t n_read = 0;

	while (n_read < n_bytes) {
		ssize_t n = read(fd, p + n_read, n_bytes - n_read);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		n_read += (size_t)n;
	}
	return (ssize_t)n_read;
}

static void free_text(char **text)
{
	free(*text);
}

int read_file(const char *path, size_t max_bytes, char **ret, size_t *ret_len, struct error *err)
{
	CLEANUP(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	CLEANUP(free_text) char *data = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, ERROR_TRANSIENT, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return error_set(err, ERROR_OPERATOR, "%s: not a regular file", path);
	data = malloc(max_bytes + 1);
	if (data == NULL)
		return error_set(err, ERROR_TRANSIENT, "%s: out of memory", path);
	n = read_full(fd, data, max_bytes + 1);
	if (n < 0)
		return error_set(err, ERROR_TRANSIENT, "%s: %s", path, strerror(errno));
	if ((size_t)n > max_bytes)
		return error_set(err, ERROR_OPERATOR, "%s: larger than %zu bytes", path, max_bytes);
	data[n] = '\0';
	if (ret_len != NULL)
		*ret_len = (size_t)n;
	*ret = data;
	data = NULL;
	return 0;
}

int fsync_dir(const char *dir, struct error *err)
{
	CLEANUP(close_fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return error_set(err, ERROR_TRANSIENT, "%s: %s", dir, strerror(errno));
	return 0;
}

void fsync_parent(const char *dir)
{
	char path[4096];
	struct error ignored;
	char *slash;

	snprintf(path, sizeof(path), "%s", dir);
	slash = strrchr(path, '/');
	if (slash != NULL)
		slash[slash == path] = '\0';
	(void)!fsync_dir(slash != NULL ? path : ".", &ignored);
}

int make_dir(const char *dir, mode_t mode, int parents, struct error *err)
{
	char path[4096];
	size_t n = strlen(dir);

	if (n >= sizeof(path))
		return error_set(err, ERROR_OPERATOR, "%s: name too long", dir);
	memcpy(path, dir, n + 1);
	for (char *p = path + 1; parents && *p != '\0'; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(path, 0755) == 0)
			fsync_parent(path);
		else if (errno != EEXIST)
			return error_set(err, ERROR_TRANSIENT, "%s: %s", path, strerror(errno));
		*p = '/';
	}
	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return error_set(err, ERROR_TRANSIENT, "%s: %s", path, strerror(errno));
	/* Also of one that was there: whoever made it may have died before this. */
	fsync_parent(path);
	return 0;
}
