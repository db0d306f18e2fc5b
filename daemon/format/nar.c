/* A walk over the tree with an explicit stack of open directories. Each step puts a few tokens
 * into `pending`, a file leaves behind its descriptor and how many bytes of it are to come, and
 * nar_read drains both.
 *
 * Everything below the root is opened relative to its directory, so a tree that is renamed or
 * removed meanwhile (as garbage collection does) gives an error or the old bytes, never those of
 * another tree. A file's length is fixed when it is opened. */
#include "daemon/format/nar.h"

#include <assert.h>
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINK_MAX_BYTES 4095
#define PENDING_BYTES  8192 /* a link's entry is the longest: its name, its target, 250 of tokens */
#define GETDENTS_BYTES 32768
#define NAMES_KEPT     KIB(64) /* a larger buffer for names is not kept for the next directory */
#define PATH_SHOWN     320

struct level {
	int fd;
	char *names;         /* each its d_type, its bytes, NUL */
	const char **sorted; /* into names, behind the d_type */
	size_t names_len, names_cap, sorted_cap;
	size_t n_entries, n_visited;
};

struct nar {
	char *path;
	bool is_started, is_gone, lacks_means;
	int file_fd;
	uint64_t file_bytes_left;
	size_t file_padding;
	size_t depth; /* levels in use */
	size_t pending_at, pending_len;
	struct level levels[NAR_DEPTH_MAX];
	char pending[PENDING_BYTES];
	_Alignas(struct dirent64) char dents[GETDENTS_BYTES];
};

int nar_open(struct nar **ret, const char *path, struct error *err)
{
	struct nar *nar = malloc(sizeof(*nar));

	if (nar == NULL)
		return error_set(err, ERROR_TRANSIENT, "%s: no memory", path);
	memset(nar, 0, offsetof(struct nar, pending));
	nar->file_fd = -1;
	nar->path = strdup(path);
	if (nar->path == NULL) {
		nar_close(nar);
		return error_set(err, ERROR_TRANSIENT, "%s: no memory", path);
	}
	*ret = nar;
	return 0;
}

void nar_close(struct nar *nar)
{
	if (nar == NULL)
		return;
	if (nar->file_fd >= 0)
		close(nar->file_fd);
	for (size_t i = 0; i < nar->depth; i++)
		close(nar->levels[i].fd);
	for (size_t i = 0; i < NAR_DEPTH_MAX; i++) {
		free(nar->levels[i].names);
		free(nar->levels[i].sorted);
	}
	free(nar->path);
	free(nar);
}

bool nar_is_gone(const struct nar *nar)
{
	return nar->is_gone;
}

bool nar_lacks_means(const struct nar *nar)
{
	return nar->lacks_means;
}

static void append_text(char text[PATH_SHOWN], size_t *len, const char *more)
{
	size_t n = strnlen(more, PATH_SHOWN - 1 - *len);

	memcpy(text + *len, more, n);
	*len += n;
	text[*len] = '\0';
}

/* Says WHAT is wrong with the file that the walk stands at. */
static int fault(struct nar *nar, enum error_kind kind, const char *what, struct error *err)
{
	char text[PATH_SHOWN];
	size_t len = 0;
	struct stat st;

	nar->is_gone = lstat(nar->path, &st) < 0 && errno == ENOENT;
	if (nar->is_gone)
		return error_set(err, ERROR_PERMANENT, "%s: gone", nar->path);
	append_text(text, &len, nar->path);
	for (size_t i = 0; i < nar->depth && nar->levels[i].n_visited > 0; i++) {
		append_text(text, &len, "/");
		append_text(text, &len, nar->levels[i].sorted[nar->levels[i].n_visited - 1]);
	}
	return error_set(err, kind, "%s: %s", text, what);
}

static int errno_fault(struct nar *nar, struct error *err)
{
	nar->lacks_means = errno == ENOMEM || errno == EMFILE || errno == ENFILE;
	/* These mean that the entry is no longer what its directory said. */
	if (errno == ENOENT || errno == ELOOP || errno == ENOTDIR)
		return fault(nar, ERROR_TRANSIENT, "changed while it was read", err);
	return fault(nar, ERROR_TRANSIENT, strerror(errno), err);
}

static void put_u64(struct nar *nar, uint64_t value)
{
	value = htole64(value);
	memcpy(nar->pending + nar->pending_len, &value, sizeof(value));
	nar->pending_len += sizeof(value);
}

static void put_zeros(struct nar *nar, size_t n)
{
	memset(nar->pending + nar->pending_len, 0, n);
	nar->pending_len += n;
}

static size_t padding_of(uint64_t len)
{
	return (size_t)(-len & 7);
}

static void put_bytes(struct nar *nar, const char *data, size_t len)
{
	assert(nar->pending_len + len + 16 <= sizeof(nar->pending));
	put_u64(nar, len);
	memcpy(nar->pending + nar->pending_len, data, len);
	nar->pending_len += len;
	put_zeros(nar, padding_of(len));
}

static void put(struct nar *nar, const char *token)
{
	put_bytes(nar, token, strlen(token));
}

/* Ends a node, and the entry that it is in. */
static void put_node_end(struct nar *nar)
{
	put(nar, ")");
	if (nar->depth > 0)
		put(nar, ")");
}

static int visit_file(struct nar *nar, int dir_fd, const char *name, struct error *err)
{
	struct stat st;

	/* O_NONBLOCK: should it have become a pipe, opening must not wait for a writer. */
	nar->file_fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (nar->file_fd < 0 || fstat(nar->file_fd, &st) < 0)
		return errno_fault(nar, err);
	if (!S_ISREG(st.st_mode))
		return fault(nar, ERROR_TRANSIENT, "changed while it was read", err);
	put(nar, "regular");
	if ((st.st_mode & S_IXUSR) != 0) {
		put(nar, "executable");
		put(nar, "");
	}
	put(nar, "contents");
	nar->file_bytes_left = (uint64_t)st.st_size;
	nar->file_padding = padding_of(nar->file_bytes_left);
	put_u64(nar, nar->file_bytes_left);
	return 0;
}

static void finish_file(struct nar *nar)
{
	close(nar->file_fd);
	nar->file_fd = -1;
	put_zeros(nar, nar->file_padding);
	put_node_end(nar);
}

static int visit_link(struct nar *nar, int dir_fd, const char *name, struct error *err)
{
	char target[LINK_MAX_BYTES + 1];
	ssize_t len = readlinkat(dir_fd, name, target, sizeof(target));

	if (len < 0)
		return errno_fault(nar, err);
	if (len > LINK_MAX_BYTES)
		return fault(nar, ERROR_PERMANENT, "the target of the link is too long", err);
	put(nar, "symlink");
	put(nar, "target");
	put_bytes(nar, target, (size_t)len);
	put_node_end(nar);
	return 0;
}

static int add_name(struct nar *nar, struct level *level, const struct dirent64 *entry, struct error *err)
{
	size_t n = 1 + strlen(entry->d_name) + 1;

	if (level->names_len + n > level->names_cap) {
		size_t cap = level->names_cap > 0 ? level->names_cap * 2 : 4096;
		char *names = cap <= NAR_DIRECTORY_MAX_BYTES ? realloc(level->names, cap) : NULL;

		if (cap > NAR_DIRECTORY_MAX_BYTES)
			return fault(nar, ERROR_PERMANENT, "too many files in one directory", err);
		if (names == NULL)
			return fault(nar, ERROR_TRANSIENT, "no memory", err);
		level->names = names;
		level->names_cap = cap;
	}
	level->names[level->names_len] = (char)entry->d_type;
	memcpy(level->names + level->names_len + 1, entry->d_name, n - 1);
	level->names_len += n;
	level->n_entries++;
	return 0;
}

static bool is_dots(const char *name)
{
	return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

static int read_names(struct nar *nar, struct level *level, struct error *err)
{
	ssize_t n;

	while ((n = getdents64(level->fd, nar->dents, sizeof(nar->dents))) > 0) {
		const struct dirent64 *entry;

		for (ssize_t at = 0; at < n; at += entry->d_reclen) {
			entry = (const struct dirent64 *)(const void *)(nar->dents + at);
			if (!is_dots(entry->d_name) && add_name(nar, level, entry, err) < 0)
				return -1;
		}
	}
	return n == 0 ? 0 : errno_fault(nar, err);
}

/* strcmp compares unsigned bytes, whatever the locale. */
static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int sort_names(struct nar *nar, struct level *level, struct error *err)
{
	const char *name = level->names;

	if (level->n_entries > level->sorted_cap) {
		const char **sorted = realloc(level->sorted, level->n_entries * sizeof(*sorted));

		if (sorted == NULL)
			return fault(nar, ERROR_TRANSIENT, "no memory", err);
		level->sorted = sorted;
		level->sorted_cap = level->n_entries;
	}
	for (size_t i = 0; i < level->n_entries; i++) {
		level->sorted[i] = name + 1;
		name += 1 + strlen(name + 1) + 1;
	}
	if (level->n_entries > 1)
		qsort(level->sorted, level->n_entries, sizeof(*level->sorted), compare_names);
	return 0;
}

static int visit_directory(struct nar *nar, int dir_fd, const char *name, struct error *err)
{
	struct level *level = &nar->levels[nar->depth];
	int fd;

	if (nar->depth == NAR_DEPTH_MAX)
		return fault(nar, ERROR_PERMANENT, "too many directories deep", err);
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno_fault(nar, err);
	nar->depth++;
	level->fd = fd;
	level->names_len = level->n_entries = level->n_visited = 0;
	put(nar, "directory");
	return read_names(nar, level, err) < 0 ? -1 : sort_names(nar, level, err);
}

static void leave_directory(struct nar *nar)
{
	struct level *level = &nar->levels[--nar->depth];

	close(level->fd);
	if (level->names_cap > NAMES_KEPT) {
		free(level->names);
		free(level->sorted);
		*level = (struct level){ 0 };
	}
	put_node_end(nar);
}

static int visit(struct nar *nar, int dir_fd, const char *name, unsigned char type, struct error *err)
{
	struct stat st;

	if (type == DT_UNKNOWN) { /* the root, and file systems that do not say */
		if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return errno_fault(nar, err);
		type = (unsigned char)IFTODT(st.st_mode);
	}
	put(nar, "(");
	put(nar, "type");
	switch (type) {
	case DT_REG:
		return visit_file(nar, dir_fd, name, err);
	case DT_LNK:
		return visit_link(nar, dir_fd, name, err);
	case DT_DIR:
		return visit_directory(nar, dir_fd, name, err);
	default:
		return fault(nar, ERROR_PERMANENT, "neither file, directory nor symbolic link", err);
	}
}

static int visit_next(struct nar *nar, struct level *level, struct error *err)
{
	const char *name = level->sorted[level->n_visited++];

	put(nar, "entry");
	put(nar, "(");
	put(nar, "name");
	put(nar, name);
	put(nar, "node");
	return visit(nar, level->fd, name, (unsigned char)name[-1], err);
}

/* Goes on to the next node, with nothing pending. Returns 1 if there was one, 0 at the end. */
static int step(struct nar *nar, struct error *err)
{
	struct level *level = nar->depth > 0 ? &nar->levels[nar->depth - 1] : NULL;

	nar->pending_at = nar->pending_len = 0;
	if (nar->file_fd >= 0) {
		finish_file(nar);
	} else if (level != NULL && level->n_visited < level->n_entries) {
		return visit_next(nar, level, err) < 0 ? -1 : 1;
	} else if (level != NULL) {
		leave_directory(nar);
	} else if (!nar->is_started) {
		nar->is_started = true;
		put(nar, "nix-archive-1");
		return visit(nar, AT_FDCWD, nar->path, DT_UNKNOWN, err) < 0 ? -1 : 1;
	} else {
		return 0;
	}
	return 1;
}

static size_t take_pending(struct nar *nar, char *dst, size_t n_max)
{
	size_t n = nar->pending_len - nar->pending_at;

	if (n > n_max)
		n = n_max;
	memcpy(dst, nar->pending + nar->pending_at, n);
	nar->pending_at += n;
	return n;
}

static ssize_t read_contents(struct nar *nar, char *dst, size_t n_max, struct error *err)
{
	size_t n_wanted = nar->file_bytes_left < n_max ? (size_t)nar->file_bytes_left : n_max;
	ssize_t n;

	do
		n = read(nar->file_fd, dst, n_wanted);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno_fault(nar, err);
	if (n == 0)
		return fault(nar, ERROR_TRANSIENT, "changed while it was read", err);
	nar->file_bytes_left -= (uint64_t)n;
	return n;
}

ssize_t nar_read(struct nar *nar, void *dst, size_t n_max, struct error *err)
{
	char *to = dst;
	size_t n_done = 0;

	while (n_done < n_max) {
		ssize_t n;

		if (nar->pending_at < nar->pending_len) {
			n_done += take_pending(nar, to + n_done, n_max - n_done);
			continue;
		}
		if (nar->file_bytes_left > 0) {
			n = read_contents(nar, to + n_done, n_max - n_done, err);
			if (n < 0)
				return -1;
			n_done += (size_t)n;
			continue;
		}
		n = step(nar, err);
		if (n < 0)
			return -1;
		if (n == 0)
			break;
	}
	return (ssize_t)n_done;
}
