#include "tests/support/crash_files.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define N_NODES   256
#define N_NAMES   64
#define N_STATES  32 /* of a directory since its last fsync */
#define MAX_BYTES 65536

struct name {
	char text[NAME_MAX + 1];
	unsigned node;
};

struct listing {
	struct name names[N_NAMES];
	unsigned n;
};

struct node { /* an inode */
	ino_t ino;
	mode_t type;
	char link[256]; /* of a symbolic link: its text */
	/* of a file */
	char *durable, *now;
	size_t n_durable, n_now;
	struct timespec durable_time, time_now;
	/* of a directory: the first is durable, the last is what it has now */
	struct listing *states[N_STATES];
	unsigned n_states;
};

static struct {
	char top[PATH_MAX];
	struct node nodes[N_NODES];
	unsigned n_nodes;
	void (*at)(void);
	bool is_busy; /* our own calls are not the program's */
} c;

int __real_fsync(int fd);
int __real_fdatasync(int fd);

/* ---- looking ----------------------------------------------------------------------------------------- */

static unsigned node_of(const struct stat *st)
{
	for (unsigned i = 0; i < c.n_nodes; i++)
		if (c.nodes[i].ino == st->st_ino && c.nodes[i].type == (st->st_mode & S_IFMT))
			return i;
	assert(c.n_nodes < N_NODES);
	c.nodes[c.n_nodes] = (struct node){ .ino = st->st_ino, .type = st->st_mode & S_IFMT };
	return c.n_nodes++;
}

static void read_bytes(int fd, char **data, size_t *n)
{
	char *text = malloc(MAX_BYTES);
	ssize_t got;

	assert(text != NULL);
	got = pread(fd, text, MAX_BYTES, 0);
	assert(got >= 0 && got < MAX_BYTES);
	free(*data);
	*data = text;
	*n = (size_t)got;
}

static unsigned look_at(int dir_fd, const char *name);

static void look_into(struct node *node, int fd)
{
	struct listing *listing = calloc(1, sizeof(*listing));
	const struct listing *last = node->n_states > 0 ? node->states[node->n_states - 1] : NULL;
	struct dirent **entries;
	int n = scandirat(fd, ".", &entries, NULL, alphasort);

	assert(listing != NULL && n >= 0);
	for (int i = 0; i < n; i++) {
		const char *name = entries[i]->d_name;

		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
			assert(listing->n < N_NAMES);
			snprintf(listing->names[listing->n].text, NAME_MAX + 1, "%s", name);
			listing->names[listing->n++].node = look_at(fd, name);
		}
		free(entries[i]);
	}
	free(entries);
	if (last != NULL && memcmp(last, listing, sizeof(*listing)) == 0) {
		free(listing);
		return;
	}
	assert(node->n_states < N_STATES);
	node->states[node->n_states++] = listing;
}

/* What NAME is now. */
static unsigned look_at(int dir_fd, const char *name)
{
	struct stat st;
	unsigned number;
	struct node *node;
	int rc = fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW), fd;

	assert(rc == 0);
	(void)rc;
	number = node_of(&st);
	node = &c.nodes[number];
	if (S_ISLNK(st.st_mode)) {
		ssize_t len = readlinkat(dir_fd, name, node->link, sizeof(node->link) - 1);

		assert(len >= 0);
		return number;
	}
	fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	assert(fd >= 0);
	if (S_ISDIR(st.st_mode))
		look_into(node, fd);
	else
		read_bytes(fd, &node->now, &node->n_now);
	node->time_now = st.st_mtim;
	close(fd);
	return number;
}

static void changed(void)
{
	int saved_errno = errno;

	if (c.is_busy || c.top[0] == '\0')
		return;
	c.is_busy = true;
	look_at(AT_FDCWD, c.top);
	if (c.at != NULL)
		c.at();
	c.is_busy = false;
	errno = saved_errno;
}

struct crash_files_lacks crash_files_lacks;

/* ---- fsync ------------------------------------------------------------------------------------------- */

static void sync_node(struct node *node, int fd)
{
	node->durable_time = node->time_now;
	if (S_ISREG(node->type)) {
		char path[64];
		int reader;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		reader = open(path, O_RDONLY | O_CLOEXEC);
		assert(reader >= 0);
		read_bytes(reader, &node->durable, &node->n_durable);
		close(reader);
		return;
	}
	for (unsigned i = 0; i + 1 < node->n_states; i++)
		free(node->states[i]);
	if (node->n_states > 0)
		node->states[0] = node->states[node->n_states - 1];
	node->n_states = node->n_states > 0;
}

static int sync_fd(int fd, int (*sync)(int fd))
{
	struct stat st;
	int rc;

	changed();
	rc = sync(fd);
	if (rc == 0 && !c.is_busy && c.top[0] != '\0' && fstat(fd, &st) == 0)
		sync_node(&c.nodes[node_of(&st)], fd);
	changed();
	return rc;
}

int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	return sync_fd(fd, __real_fsync);
}

int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
	return sync_fd(fd, __real_fdatasync);
}

/* ---- names ------------------------------------------------------------------------------------------- */

#define WRAP(name, parameters, arguments)         \
	int __real_##name parameters;             \
	int __wrap_##name parameters;             \
	int __wrap_##name parameters              \
	{                                         \
		int rc = __real_##name arguments; \
                                                  \
		changed();                        \
		return rc;                        \
	}

WRAP(mkdir, (const char *path, mode_t mode), (path, mode))
WRAP(rename, (const char *from, const char *to), (from, to))
WRAP(renameat, (int from_fd, const char *from, int to_fd, const char *to), (from_fd, from, to_fd, to))
WRAP(link, (const char *from, const char *to), (from, to))
WRAP(linkat, (int from_fd, const char *from, int to_fd, const char *to, int flags),
     (from_fd, from, to_fd, to, flags))
WRAP(symlink, (const char *text, const char *path), (text, path))
WRAP(symlinkat, (const char *text, int fd, const char *path), (text, fd, path))
WRAP(unlink, (const char *path), (path))
WRAP(unlinkat, (int fd, const char *path, int flags), (fd, path, flags))

int __real_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	int rc;

	if (crash_files_lacks.exclusive_rename && flags != 0) {
		errno = EINVAL;
		return -1;
	}
	rc = __real_renameat2(from_fd, from, to_fd, to, flags);
	changed();
	return rc;
}

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;

	if ((flags & O_TMPFILE) == O_TMPFILE && crash_files_lacks.nameless_files) {
		errno = EOPNOTSUPP;
		return -1;
	}
	va_start(args, flags);
	if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE)
		mode = va_arg(args, mode_t);
	va_end(args);
	return __real_open64(path, flags, mode);
}

/* ---- the power cut ----------------------------------------------------------------------------------- */

static struct name *find_name(struct listing *listing, const char *text)
{
	for (unsigned i = 0; i < listing->n; i++)
		if (strcmp(listing->names[i].text, text) == 0)
			return &listing->names[i];
	return NULL;
}

static bool has_name(const struct listing *listing, const struct name *name)
{
	for (unsigned i = 0; i < listing->n; i++)
		if (listing->names[i].node == name->node && strcmp(listing->names[i].text, name->text) == 0)
			return true;
	return false;
}

static void leave_time(int fd, struct timespec time)
{
	const struct timespec times[2] = { time, time };
	int rc = futimens(fd, times);

	assert(rc == 0);
	(void)rc;
}

static void leave_file(const struct node *node, const char *path, uint64_t (*random)(void))
{
	uint64_t keeps = random != NULL ? random() % 3 : 0;
	const char *data = keeps == 0 ? node->durable : node->now;
	size_t n = keeps == 0 ? node->n_durable : node->n_now;
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	ssize_t n_written;

	/* Its bytes are on the disk but for the end. */
	if (keeps == 1 && n > node->n_durable)
		n -= random() % (n - node->n_durable + 1);
	assert(fd >= 0);
	n_written = n > 0 ? write(fd, data, n) : 0;
	assert(n_written == (ssize_t)n);
	(void)n_written;
	leave_time(fd, keeps == 0 ? node->durable_time : node->time_now);
	close(fd);
}

/* As if of all that was done to a directory only the step from BEFORE to AFTER was kept, and what is in RET.
 */
static void keep_step(struct listing *ret, const struct listing *before, const struct listing *after)
{
	for (unsigned i = 0; i < before->n; i++) {
		const struct name *name = &before->names[i];
		struct name *left = find_name(ret, name->text);

		if (left != NULL && left->node == name->node && !has_name(after, name))
			*left = ret->names[--ret->n];
	}
	for (unsigned i = 0; i < after->n; i++) {
		const struct name *name = &after->names[i];
		struct name *left = find_name(ret, name->text);

		if (has_name(before, name))
			continue;
		assert(left != NULL || ret->n < N_NAMES);
		*(left != NULL ? left : &ret->names[ret->n++]) = *name;
	}
}

/* What is left of NODE's names. */
static struct listing names_left(const struct node *node, uint64_t (*random)(void))
{
	struct listing ret = *node->states[0];

	if (random != NULL && !crash_files_lacks.order)
		ret = *node->states[random() % node->n_states];
	for (unsigned i = 1; random != NULL && crash_files_lacks.order && i < node->n_states; i++)
		if (random() % 2 == 0)
			keep_step(&ret, node->states[i - 1], node->states[i]);
	return ret;
}

static void leave_directory(const struct node *node, const char *path, uint64_t (*random)(void))
{
	struct listing listing;

	if (node->n_states == 0)
		return;
	listing = names_left(node, random);
	for (unsigned i = 0; i < listing.n; i++) {
		const struct node *child = &c.nodes[listing.names[i].node];
		char below[PATH_MAX];
		int rc = 0;

		snprintf(below, sizeof(below), "%s/%s", path, listing.names[i].text);
		if (S_ISREG(child->type))
			leave_file(child, below, random);
		else if (S_ISLNK(child->type))
			rc = symlink(child->link, below);
		else
			rc = mkdir(below, 0755);
		assert(rc == 0);
		(void)rc;
		if (S_ISDIR(child->type))
			leave_directory(child, below, random);
	}
}

void crash_files_leave(const char *to, uint64_t (*random)(void))
{
	struct stat st;
	int rc = stat(c.top, &st);

	assert(rc == 0);
	(void)rc;
	leave_directory(&c.nodes[node_of(&st)], to, random);
}

void crash_files_end(void)
{
	for (unsigned i = 0; i < c.n_nodes; i++) {
		struct node *node = &c.nodes[i];

		free(node->durable);
		free(node->now);
		for (unsigned k = 0; k < node->n_states; k++)
			free(node->states[k]);
	}
	memset(&c, 0, sizeof(c));
}

void crash_files_begin(const char *top)
{
	crash_files_end();
	snprintf(c.top, sizeof(c.top), "%s", top);
	look_at(AT_FDCWD, c.top);
	for (unsigned i = 0; i < c.n_nodes; i++) {
		struct node *node = &c.nodes[i];

		node->durable = node->n_now > 0 ? strndup(node->now, node->n_now) : NULL;
		node->n_durable = node->n_now;
		node->durable_time = node->time_now;
	}
}

void crash_files_watch(void (*at)(void))
{
	c.at = at;
}
