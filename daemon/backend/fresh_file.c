#include "daemon/backend/fresh_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/fd.h"
#include "common/log.h"

#define LEFT_OVER_AFTER_S 86400

static enum error_kind kind_of_errno(int error)
{
	switch (error) {
	case EACCES:
	case EPERM:
	case EROFS:
	case ENOENT:
	case ENOTDIR:
	case EISDIR:
	case ELOOP:
	case EXDEV:
	case ENAMETOOLONG:
		return ERROR_OPERATOR;
	default:
		return ERROR_TRANSIENT;
	}
}

int errno_fault(struct error *err, const char *path)
{
	int error = errno;

	error_set(err, kind_of_errno(error), "%s: %s", path, strerror(error));
	errno = error;
	return -1;
}

/* The mode is set by hand: the daemon's umask is not made for a cache that others read. */
static int make_open_dir(const char *dir, struct error *err)
{
	if (mkdir(dir, 0755) == 0) {
		if (chmod(dir, 0755) < 0)
			return errno_fault(err, dir);
	} else if (errno != EEXIST) {
		return errno_fault(err, dir);
	}
	return 0;
}

int make_folder(const char *folder, struct error *err)
{
	char temp[FRESH_PATH_SIZE];

	snprintf(temp, sizeof(temp), "%s/.tmp", folder);
	return make_open_dir(folder, err) < 0 ? -1 : make_open_dir(temp, err);
}

void sweep_folder(const char *folder)
{
	char path[FRESH_PATH_SIZE];
	struct dirent *entry;
	struct stat st;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/.tmp", folder);
	dir = opendir(path);
	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL) {
		if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode) && st.st_mtime < clock_unix_s() - LEFT_OVER_AFTER_S) {
			log_debug("left-over file removed file=%s/%s", path, entry->d_name);
			unlinkat(dirfd(dir), entry->d_name, 0);
		}
	}
	closedir(dir);
}

static int open_named(struct fresh_file *file, const char *folder)
{
	snprintf(file->temp, sizeof(file->temp), "%s/.tmp/XXXXXX", folder);
	return mkostemp(file->temp, O_CLOEXEC);
}

/* Best without any name: then nothing is left over, whenever we die. Not every file system can. */
int fresh_open(struct fresh_file *file, const char *folder, const char *name, struct error *err)
{
	snprintf(file->path, sizeof(file->path), "%s/%s", folder, name);
	snprintf(file->temp, sizeof(file->temp), "%s/.tmp", folder);
	file->fd = -1;
	if (access(file->path, F_OK) == 0)
		return 1;
	file->fd = open(file->temp, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	file->is_nameless = file->fd >= 0;
	if (file->fd < 0)
		file->fd = open_named(file, folder);
	if (file->fd < 0)
		return errno_fault(err, file->temp);
	crash_point(FILE_OPENED);
	if (fchmod(file->fd, 0644) < 0) {
		errno_fault(err, file->temp);
		fresh_discard(file);
		return -1;
	}
	return 0;
}

int fresh_write(struct fresh_file *file, const void *data, size_t n_bytes, struct error *err)
{
	return write_full(file->fd, data, n_bytes) == 0 ? 0 : errno_fault(err, file->path);
}

static int give_first_name(struct fresh_file *file)
{
	char fd_path[32];

	snprintf(fd_path, sizeof(fd_path), "/proc/self/fd/%d", file->fd);
	if (linkat(AT_FDCWD, fd_path, AT_FDCWD, file->path, AT_SYMLINK_FOLLOW) == 0)
		return 0;
	return errno == EEXIST ? 1 : -1;
}

/* Without replacing: 1 if the name is taken. Not every file system knows the flag; links are exclusive
 * everywhere. */
static int give_name(struct fresh_file *file)
{
	if (file->is_nameless)
		return give_first_name(file);
	if (renameat2(AT_FDCWD, file->temp, AT_FDCWD, file->path, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno == EINVAL || errno == ENOSYS) {
		if (link(file->temp, file->path) == 0) {
			unlink(file->temp);
			return 0;
		}
	}
	if (errno != EEXIST)
		return -1;
	unlink(file->temp);
	return 1;
}

int fresh_commit(struct fresh_file *file, struct error *err)
{
	int is_taken = fsync(file->fd);

	crash_point(FILE_WRITTEN);
	if (is_taken == 0)
		is_taken = give_name(file);
	crash_point(FILE_NAMED);
	if (is_taken < 0) {
		errno_fault(err, file->path);
		fresh_discard(file);
		return -1;
	}
	close_fd(&file->fd);
	return is_taken;
}

int sync_found(const char *path, struct stat *ret, struct error *err)
{
	CLEANUP(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0 || (fsync(fd) < 0 && errno != EROFS && errno != EINVAL))
		return errno_fault(err, path);
	*ret = st;
	return 1;
}

int sync_folder(const char *folder, struct error *err)
{
	CLEANUP(close_fd) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd >= 0 && fsync(fd) == 0 ? 0 : errno_fault(err, folder);
}

void fresh_discard(struct fresh_file *file)
{
	if (file->fd < 0)
		return;
	close_fd(&file->fd);
	if (!file->is_nameless)
		unlink(file->temp);
}
