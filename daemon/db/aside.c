/* The mark comes first and goes last, and its time is the one in the name: a set-aside that died between
 * two renames goes on where it was. The database is renamed after its -wal, so that it never stands there
 * without what belongs to it and no mark; and once the disk has that, so that none of its files takes the
 * name of an earlier one after a power cut, since whether it is still there decides that name. */
#include "daemon/db/aside.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/fd.h"

#define MARK_SUFFIX ".damaged"
#define TIME_FORMAT "%Y%m%dT%H%M%SZ"
#define TIME_LEN    16
#define MARK_MAX    (ASIDE_PATH_SIZE - 32)

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static int sync_dir_of(const char *path, struct error *err)
{
	char dir[ASIDE_PATH_SIZE];
	char *slash;

	snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (slash == NULL)
		return fsync_dir(".", err);
	*slash = '\0';
	return fsync_dir(slash == dir ? "/" : dir, err);
}

static int mark_path(const char *path, char ret[ASIDE_PATH_SIZE], struct error *err)
{
	if (snprintf(ret, ASIDE_PATH_SIZE, "%s" MARK_SUFFIX, path) > MARK_MAX)
		return error_set(err, ERROR_OPERATOR, "%s: the path is too long", path);
	return 0;
}

int aside_mark(const char *path, struct error *err)
{
	char mark[ASIDE_PATH_SIZE];
	CLEANUP(close_fd) int fd = -1;

	if (mark_path(path, mark, err) < 0)
		return -1;
	fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || fsync(fd) < 0)
		return error_set(err, ERROR_TRANSIENT, "%s: %s", mark, strerror(errno));
	return sync_dir_of(path, err);
}

bool aside_is_marked(const char *path)
{
	char mark[ASIDE_PATH_SIZE];
	struct error err;

	return mark_path(path, mark, &err) == 0 && exists(mark);
}

static int move(const char *path, const char *to, const char *suffix, struct error *err)
{
	char from_file[ASIDE_PATH_SIZE], to_file[ASIDE_PATH_SIZE];

	snprintf(from_file, sizeof(from_file), "%s%s", path, suffix);
	snprintf(to_file, sizeof(to_file), "%s%s", to, suffix);
	if (rename(from_file, to_file) < 0 && errno != ENOENT)
		return error_set(err, ERROR_OPERATOR, "%s cannot be set aside: %s", from_file,
		                 strerror(errno));
	return 0;
}

/* The name of the mark's time; a second later if another damaged file has that one. */
static void choose_name(const char *path, const char *mark, char ret[ASIDE_PATH_SIZE])
{
	char when[TIME_LEN + 1];
	struct stat st = { 0 };
	struct tm tm;
	time_t at;

	(void)!lstat(mark, &st);
	at = st.st_mtime;
	do {
		gmtime_r(&at, &tm);
		strftime(when, sizeof(when), TIME_FORMAT, &tm);
		snprintf(ret, ASIDE_PATH_SIZE, "%.*s-%s", MARK_MAX, mark, when);
		at++;
	} while (exists(path) && exists(ret));
}

int aside_move(const char *path, char ret[ASIDE_PATH_SIZE], struct error *err)
{
	char mark[ASIDE_PATH_SIZE], to[ASIDE_PATH_SIZE];

	/* Whoever made the mark may have died before it was on disk. */
	if (mark_path(path, mark, err) < 0 || aside_mark(path, err) < 0)
		return -1;
	choose_name(path, mark, to);
	if (move(path, to, "-wal", err) < 0 || move(path, to, "-shm", err) < 0 ||
	    sync_dir_of(path, err) < 0 || move(path, to, "", err) < 0 || sync_dir_of(path, err) < 0)
		return -1;
	if (unlink(mark) < 0)
		return error_set(err, ERROR_OPERATOR, "%s: %s", mark, strerror(errno));
	snprintf(ret, ASIDE_PATH_SIZE, "%s", exists(to) ? to : "");
	return sync_dir_of(path, err);
}

/* PREFIX and a time, no -wal behind it. */
static bool is_set_aside(const char *name, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(name, prefix, n) == 0 && strlen(name) == n + TIME_LEN && name[n + TIME_LEN - 1] == 'Z';
}

bool aside_find(const char *path, char ret[ASIDE_PATH_SIZE])
{
	char dir_name[ASIDE_PATH_SIZE], prefix[ASIDE_PATH_SIZE], last[NAME_MAX + 1] = "";
	const char *slash = strrchr(path, '/');
	int len = slash == NULL ? 0 : (int)(slash - path) + 1;
	struct dirent *entry;
	DIR *dir;

	snprintf(dir_name, sizeof(dir_name), "%.*s", len == 0 ? 1 : len, len == 0 ? "." : path);
	snprintf(prefix, sizeof(prefix), "%s" MARK_SUFFIX "-", path + len);
	dir = opendir(dir_name);
	while (dir != NULL && (entry = readdir(dir)) != NULL)
		if (is_set_aside(entry->d_name, prefix) && strcmp(entry->d_name, last) > 0)
			snprintf(last, sizeof(last), "%s", entry->d_name);
	if (dir != NULL)
		closedir(dir);
	if (*last != '\0')
		snprintf(ret, ASIDE_PATH_SIZE, "%.*s%s", len, path, last);
	return *last != '\0';
}
