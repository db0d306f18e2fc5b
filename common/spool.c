#include "common/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/fd.h"

#define SLOW_NAME "/.slow"
#define N_DIGITS  19 /* of nanoseconds, until the year 2286 */
#define NAME_SIZE 64

bool spool_user_dir(char dir[SPOOL_DIR_SIZE])
{
	const char *base = getenv("XDG_STATE_HOME"), *below = "";
	int n;

	if (base == NULL || *base != '/') {
		base = getenv("HOME");
		below = "/.local/state";
	}
	if (base == NULL || *base != '/')
		return false;
	n = snprintf(dir, SPOOL_DIR_SIZE, "%s%s/nncache/spool", base, below);
	return n < SPOOL_DIR_SIZE;
}

/* Writes the temporary file NAME. It is removed again on failure. */
static int write_temporary(int dir_fd, const char *name, const void *data, size_t n_bytes)
{
	CLEANUP(close_fd) int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	int saved_errno;

	if (fd < 0)
		return -1;
	crash_point(HOOK_SPOOL_OPENED);
	if (write_full(fd, data, n_bytes) == 0 && fchmod(fd, 0644) == 0 && fsync(fd) == 0)
		return 0;
	saved_errno = errno;
	unlinkat(dir_fd, name, 0);
	errno = saved_errno;
	return -1;
}

int spool_write(const char *dir, const void *data, size_t n_bytes, struct error *err)
{
	CLEANUP(close_fd) int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char name[NAME_SIZE], temporary[NAME_SIZE + 8];
	struct timespec now;

	if (dir_fd < 0)
		return error_set(err, ERROR_TRANSIENT, "%s: %s", dir, strerror(errno));
	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(name, sizeof(name), "%010" PRId64 "%09ld.%d" SPOOL_SUFFIX, (int64_t)now.tv_sec, now.tv_nsec,
	         (int)getpid());
	snprintf(temporary, sizeof(temporary), ".%s.tmp", name);
	if (write_temporary(dir_fd, temporary, data, n_bytes) < 0)
		return error_set(err, ERROR_TRANSIENT, "%s/%s: %s", dir, temporary, strerror(errno));
	crash_point(HOOK_SPOOL_WRITTEN);
	if (renameat(dir_fd, temporary, dir_fd, name) < 0) {
		error_set(err, ERROR_TRANSIENT, "%s/%s: %s", dir, name, strerror(errno));
		unlinkat(dir_fd, temporary, 0);
		return -1;
	}
	crash_point(HOOK_SPOOL_NAMED);
	if (fsync(dir_fd) < 0)
		return error_set(err, ERROR_TRANSIENT, "%s: %s", dir, strerror(errno));
	return 0;
}

bool spool_name_parse(const char *name, uint64_t *ret_unix_ns)
{
	size_t n_time = strspn(name, "0123456789"), n_pid;

	if (n_time != N_DIGITS || name[n_time] != '.')
		return false;
	n_pid = strspn(name + n_time + 1, "0123456789");
	if (n_pid == 0 || n_pid > 10 || strcmp(name + n_time + 1 + n_pid, SPOOL_SUFFIX) != 0)
		return false;
	if (ret_unix_ns != NULL)
		*ret_unix_ns = strtoull(name, NULL, 10);
	return true;
}

/* The mark's path below DIR; NULL if it is too long. */
static const char *slow_path(const char *dir, char path[SPOOL_DIR_SIZE])
{
	return snprintf(path, SPOOL_DIR_SIZE, "%s" SLOW_NAME, dir) < SPOOL_DIR_SIZE ? path : NULL;
}

uint64_t spool_slow_age_ms(const char *dir)
{
	char path[SPOOL_DIR_SIZE];
	struct stat st;
	int64_t age;

	if (slow_path(dir, path) == NULL || lstat(path, &st) < 0)
		return UINT64_MAX;
	age = clock_unix_ms() - ((int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000);
	/* File times come from a coarser clock, which may be a tick ahead of what we read just now. */
	return age < -10 ? UINT64_MAX : age < 0 ? 0 : (uint64_t)age;
}

void spool_slow_set(const char *dir)
{
	char path[SPOOL_DIR_SIZE];
	int fd;

	if (slow_path(dir, path) == NULL || utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW) == 0)
		return;
	/* Never through a link: the directory is the daemon's user's, and we may be root. */
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	close_fd(&fd);
}

void spool_slow_clear(const char *dir)
{
	char path[SPOOL_DIR_SIZE];

	if (slow_path(dir, path) != NULL)
		unlink(path);
}
