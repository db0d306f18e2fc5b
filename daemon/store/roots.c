/* A root is made of a link, and in scheme B of its registration. Links are made one by one and a
 * fault of one does not keep the others from being made; the first fault is what the caller is told. */
#include "daemon/store/roots.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/store_path.h"
#include "daemon/format/nixbase32.h"
#include "daemon/store/job.h"

#define SHA1_BYTES 20

struct roots {
	struct store *store;
	char *dir;
	char *auto_dir;
	bool has_place;
	bool is_indirect; /* scheme B */
	bool has_message;
	char message[1024];
};

/* --- Links. --- */

static int path_fault(const char *path, struct error *err)
{
	return error_set(err, ERROR_TRANSIENT, "%s: %s", path, strerror(errno));
}

static int join(char path[PATH_MAX], const char *dir, const char *name, struct error *err)
{
	int n = snprintf(path, PATH_MAX, "%s/%s", dir, name);

	if (n >= 0 && n < PATH_MAX)
		return 0;
	return error_set(err, ERROR_TRANSIENT, "%.200s/...: name too long", dir);
}

static bool link_says(const char *path, const char *target)
{
	char text[PATH_MAX];
	ssize_t n = readlink(path, text, sizeof(text));

	return n >= 0 && (size_t)n == strlen(target) && memcmp(text, target, (size_t)n) == 0;
}

/* At no time is the name without a link. */
static int replace_link(const char *dir, const char *name, const char *path, const char *target,
                        struct error *err)
{
	char hidden[NAME_MAX + 1], fresh[PATH_MAX];

	snprintf(hidden, sizeof(hidden), ".%.250s", name);
	if (join(fresh, dir, hidden, err) < 0)
		return -1;
	unlink(fresh);
	if (symlink(target, fresh) < 0)
		return path_fault(fresh, err);
	if (rename(fresh, path) < 0) {
		path_fault(path, err);
		unlink(fresh);
		return -1;
	}
	return 0;
}

static int make_link(const char *dir, const char *name, const char *target, struct error *err)
{
	char path[PATH_MAX];

	if (join(path, dir, name, err) < 0)
		return -1;
	if (symlink(target, path) == 0)
		return 0;
	if (errno != EEXIST)
		return path_fault(path, err);
	return link_says(path, target) ? 0 : replace_link(dir, name, path, target, err);
}

/* The name that nix-daemon gives to the link in gcroots/auto that leads to LINK. */
static int auto_name(char name[NIXBASE32_LEN(SHA1_BYTES) + 1], const char *link, struct error *err)
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned n;

	if (EVP_Digest(link, strlen(link), hash, &n, EVP_sha1(), NULL) != 1 || n != SHA1_BYTES)
		return error_set(err, ERROR_TRANSIENT, "cannot compute a SHA-1");
	nixbase32_encode(name, hash, n);
	return 0;
}

static int register_ourselves(const struct roots *roots, const char *link, struct error *err)
{
	char name[NIXBASE32_LEN(SHA1_BYTES) + 1];

	if (auto_name(name, link, err) < 0)
		return -1;
	/* Nix makes it with the first result link, which may be that of the build that we are called for. */
	if (mkdir(roots->auto_dir, 0755) == 0)
		chmod(roots->auto_dir, 0755); /* whatever our umask is */
	else if (errno != EEXIST)
		return path_fault(roots->auto_dir, err);
	return make_link(roots->auto_dir, name, link, err);
}

/* --- Making roots, on a store thread. --- */

struct walk {
	struct roots_add *add;
	size_t n_done;
	const struct error *daemon_err; /* why the daemon does not register, or NULL */
};

static void note_fault(struct roots_add *add, const struct error *err)
{
	if (add->err.kind == ERROR_NONE)
		add->err = *err;
}

/* -1 only if WORKER failed, and its connection with it; other faults are noted. */
static int make_root(struct walk *walk, struct worker *worker, const char *path, struct error *err)
{
	struct roots_add *add = walk->add;
	const struct roots *roots = add->roots;
	char link[PATH_MAX];
	struct error fault;

	if (!roots->has_place) {
		error_set(&fault, ERROR_TRANSIENT, "%s", roots->message);
		note_fault(add, &fault);
		return 0;
	}
	if (make_link(roots->dir, store_path_base(path), path, &fault) < 0 ||
	    join(link, roots->dir, store_path_base(path), &fault) < 0) {
		note_fault(add, &fault);
		return 0;
	}
	if (!roots->is_indirect)
		return 0;
	if (worker != NULL)
		return worker_add_indirect_root(worker, link, err);
	if (register_ourselves(roots, link, &fault) < 0) {
		if (walk->daemon_err != NULL)
			error_prefix(&fault, "%.250s; and without it", walk->daemon_err->text);
		note_fault(add, &fault);
	}
	return 0;
}

/* One that is not valid has the whole refused: then nobody would take the others' roots away again. */
static bool is_refused(const struct roots_add *add)
{
	for (size_t i = 0; add->is_valid != NULL && i < add->n_paths; i++)
		if (!add->is_valid[i])
			return true;
	return false;
}

/* Goes on where it was: what was done on a connection that has died has its root. Temporary roots go with
 * their connection, and are made anew. */
static int add_with_daemon(struct worker *worker, void *ctx, struct error *err)
{
	struct walk *walk = ctx;
	struct roots_add *add = walk->add;

	/* In this order: a path that is valid before it is protected may be gone when it is. */
	for (size_t i = 0; add->is_valid != NULL && i < add->n_paths; i++)
		if (worker_add_temp_root(worker, add->paths[i], err) < 0 ||
		    worker_is_valid_path(worker, add->paths[i], &add->is_valid[i], err) < 0)
			return -1;
	for (; !is_refused(add) && walk->n_done < add->n_paths; walk->n_done++)
		if (make_root(walk, worker, add->paths[walk->n_done], err) < 0)
			return -1;
	return 0;
}

static void add_alone(struct walk *walk)
{
	struct roots_add *add = walk->add;
	struct error err;

	for (size_t i = walk->n_done; i < add->n_paths; i++)
		if (make_root(walk, NULL, add->paths[i], &err) < 0)
			note_fault(add, &err);
}

static int add_with_database(struct database *database, void *ctx, struct error *err)
{
	struct walk *walk = ctx;
	struct roots_add *add = walk->add;

	for (size_t i = 0; i < add->n_paths; i++) {
		struct path_info info = { 0 };

		if (database_query_path_info(database, add->paths[i], &info, err) < 0)
			return -1;
		add->is_valid[i] = info.path != NULL;
		path_info_fini(&info);
	}
	if (!is_refused(add))
		add_alone(walk);
	return 0;
}

static void run_add(struct store_job *job)
{
	struct roots_add *add = CONTAINER_OF(job, struct roots_add, job);
	struct walk walk = { .add = add };
	struct error daemon_err, err;

	if (add->is_valid == NULL && !add->roots->is_indirect) {
		add_alone(&walk);
		return;
	}
	if (store_ask_daemon(job->store, add_with_daemon, &walk, &daemon_err) == 0)
		return;
	walk.daemon_err = &daemon_err;
	if (add->is_valid == NULL) {
		add_alone(&walk);
	} else if (store_ask_database(job->store, add_with_database, &walk, &err) < 0) {
		if (err.kind != ERROR_CANCELED)
			error_prefix(&err, "%.250s; and without it", daemon_err.text);
		note_fault(add, &err);
	}
}

static void finish_add(struct store_job *job)
{
	struct roots_add *add = CONTAINER_OF(job, struct roots_add, job);
	struct roots *roots = add->roots;

	if (roots->has_place && add->err.kind != ERROR_CANCELED && add->n_paths > 0) {
		roots->has_message = add->err.kind != ERROR_NONE;
		snprintf(roots->message, sizeof(roots->message),
		         "a garbage collector root could not be made: %s; see that %.200s can be written%s",
		         add->err.text, roots->dir, roots->is_indirect ? " and that nix-daemon runs" : "");
	}
	add->done(add);
}

void roots_add_start(struct roots *roots, struct roots_add *add, roots_added_fn done)
{
	add->done = done;
	add->roots = roots;
	add->err = (struct error){ 0 };
	store_post(roots->store, &add->job, run_add, finish_add);
}

/* --- Taking roots away. --- */

bool roots_has_name(const struct roots *roots, const char *name)
{
	char path[PATH_MAX];
	struct error err;
	struct stat st;

	return join(path, roots->dir, name, &err) < 0 || lstat(path, &st) == 0 || errno != ENOENT;
}

static void remove_link(const char *dir, const char *name)
{
	char path[PATH_MAX];
	struct error err;

	if (join(path, dir, name, &err) < 0)
		return;
	if (unlink(path) < 0 && errno != ENOENT)
		log_debug("root not removed path=%s: %s", path, strerror(errno));
}

void roots_remove_name(struct roots *roots, const char *name)
{
	char link[PATH_MAX], registered[NIXBASE32_LEN(SHA1_BYTES) + 1];
	struct error err;

	assert(strchr(name, '/') == NULL && name[0] != '.');
	remove_link(roots->dir, name);
	/* Nix takes a registration away itself when it finds its link gone; we may if it is ours. */
	if (roots->is_indirect && join(link, roots->dir, name, &err) == 0 &&
	    auto_name(registered, link, &err) == 0)
		remove_link(roots->auto_dir, registered);
}

void roots_remove(struct roots *roots, const char *path)
{
	roots_remove_name(roots, store_path_base(path));
}

/* --- Listing them. --- */

static int append_entry(struct roots_list *list, const struct roots_entry *entry)
{
	if ((list->n_entries & (list->n_entries - 1)) == 0) {
		size_t cap = list->n_entries == 0 ? 1 : list->n_entries * 2;
		struct roots_entry *grown = realloc(list->entries, cap * sizeof(*grown));

		if (grown == NULL)
			return -1;
		list->entries = grown;
	}
	list->entries[list->n_entries++] = *entry;
	return 0;
}

static int64_t made_unix_s(int dir_fd, const char *name)
{
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISLNK(st.st_mode))
		return 0;
	return st.st_mtim.tv_sec;
}

static void list_one(struct roots_list *list, int dir_fd, const char *name)
{
	const char *store = store_dir(list->roots->store);
	char target[PATH_MAX];
	struct roots_entry entry = { 0 };
	struct stat st;
	ssize_t n = readlinkat(dir_fd, name, target, sizeof(target) - 1);
	size_t n_path;

	if (n < 0 || fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return; /* no link, or gone by now */
	target[n] = '\0';
	n_path = store_path_prefix_len(target, store);
	if (n_path == 0)
		return;
	entry.made_unix_s = st.st_mtim.tv_sec;
	entry.name = strdup(name);
	entry.path = strndup(target, n_path);
	if (entry.name != NULL && entry.path != NULL) {
		entry.is_ours = strcmp(name, store_path_base(entry.path)) == 0;
		entry.ours_made_unix_s = entry.is_ours ? 0 : made_unix_s(dir_fd, store_path_base(entry.path));
		if (append_entry(list, &entry) == 0)
			return;
	}
	free(entry.name);
	free(entry.path);
	error_set(&list->err, ERROR_TRANSIENT, "out of memory");
}

static void run_list(struct store_job *job)
{
	struct roots_list *list = CONTAINER_OF(job, struct roots_list, job);
	DIR *dir = list->dir != NULL ? list->dir : opendir(list->roots->dir);
	const struct dirent *entry;

	list->dir = dir;
	if (dir == NULL) {
		if (errno != ENOENT)
			path_fault(list->roots->dir, &list->err);
		return;
	}
	while (list->n_entries < ROOTS_PAGE && list->err.kind == ERROR_NONE) {
		errno = 0;
		entry = readdir(dir);
		if (entry == NULL && errno != 0)
			path_fault(list->roots->dir, &list->err);
		if (entry == NULL)
			return;
		if (entry->d_name[0] != '.')
			list_one(list, dirfd(dir), entry->d_name);
	}
	list->more = true;
}

static void free_page(struct roots_list *list)
{
	for (size_t i = 0; i < list->n_entries; i++) {
		free(list->entries[i].name);
		free(list->entries[i].path);
	}
	free(list->entries);
	list->entries = NULL;
	list->n_entries = 0;
}

static void finish_list(struct store_job *job)
{
	struct roots_list *list = CONTAINER_OF(job, struct roots_list, job);

	if (list->err.kind != ERROR_NONE) {
		list->more = false;
		free_page(list);
	}
	list->done(list);
}

void roots_list_start(struct roots *roots, struct roots_list *list, roots_listed_fn done)
{
	list->done = done;
	list->roots = roots;
	list->err = (struct error){ 0 };
	list->more = false;
	free_page(list);
	store_post(roots->store, &list->job, run_list, finish_list);
}

void roots_list_fini(struct roots_list *list)
{
	free_page(list);
	if (list->dir != NULL)
		closedir(list->dir);
	list->dir = NULL;
}

/* --- Opening. --- */

/* Makes DIR if it can. -1: links cannot be made there, and ERR says why. */
static int try_dir(const char *dir, struct error *err)
{
	struct stat st;

	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return path_fault(dir, err);
	if (stat(dir, &st) < 0 || faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) < 0)
		return path_fault(dir, err);
	if (!S_ISDIR(st.st_mode))
		return error_set(err, ERROR_TRANSIENT, "%s: not a directory", dir);
	return 0;
}

/* Is DIR, its links resolved (the collector follows none), below the store's gcroots? */
static bool is_below_gcroots(const char *dir, const char *gcroots)
{
	char *a = realpath(dir, NULL), *b = realpath(gcroots, NULL);
	size_t n = b != NULL ? strlen(b) : 0;
	bool is_below = a != NULL && n > 0 && strncmp(a, b, n) == 0 && a[n] == '/';

	free(a);
	free(b);
	return is_below;
}

/* Returns the directory to use, or NULL with the message set. */
static const char *choose_dir(struct roots *roots, const char *dir, const char *fallback_dir)
{
	struct error err, fallback_err;

	if (try_dir(dir, &err) == 0)
		return dir;
	if (try_dir(fallback_dir, &fallback_err) == 0)
		return fallback_dir;
	roots->has_message = true;
	snprintf(roots->message, sizeof(roots->message),
	         "nothing protects queued paths from garbage collection: %.300s; %.300s;"
	         " to mend it, run as root: install -d -o %u %.200s; then restart",
	         err.text, fallback_err.text, (unsigned)geteuid(), dir);
	return NULL;
}

/* What lies in FROM, where we had to keep our links once, is a root for ever unless somebody looks at it:
 * here it is explained, or taken in. A link that cannot be moved stays, and is tried again at the next start.
 */
static void move_links(const char *from, const char *to)
{
	DIR *dir = opendir(from);
	const struct dirent *entry;
	char target[PATH_MAX];
	struct error err;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		if (n < 0 || entry->d_name[0] == '.')
			continue;
		target[n] = '\0';
		if (make_link(to, entry->d_name, target, &err) == 0)
			unlinkat(dirfd(dir), entry->d_name, 0);
		else
			log_warning("root stays in %s: %s", from, err.text);
	}
	if (dir != NULL)
		closedir(dir);
}

int roots_open(struct roots **ret, struct store *store, const char *dir, const char *fallback_dir,
               struct error *err)
{
	struct roots *roots = calloc(1, sizeof(*roots));
	char gcroots[PATH_MAX];
	const char *chosen;

	if (roots == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	roots->store = store;
	if (join(gcroots, store_state_dir(store), "gcroots", err) < 0)
		goto fail;
	if (dir[0] != '/' || fallback_dir[0] != '/') {
		error_set(err, ERROR_OPERATOR, "%.200s: not an absolute path",
		          dir[0] != '/' ? dir : fallback_dir);
		goto fail;
	}
	chosen = choose_dir(roots, dir, fallback_dir);
	roots->has_place = chosen != NULL;
	roots->dir = strdup(chosen != NULL ? chosen : dir);
	if (roots->dir == NULL || asprintf(&roots->auto_dir, "%s/auto", gcroots) < 0) {
		roots->auto_dir = NULL;
		error_set(err, ERROR_TRANSIENT, "out of memory");
		goto fail;
	}
	roots->is_indirect = roots->has_place && !is_below_gcroots(roots->dir, gcroots);
	if (chosen == dir && strcmp(dir, fallback_dir) != 0)
		move_links(fallback_dir, dir);
	*ret = roots;
	return 0;
fail:
	roots_close(roots);
	return -1;
}

void roots_close(struct roots *roots)
{
	if (roots == NULL)
		return;
	free(roots->dir);
	free(roots->auto_dir);
	free(roots);
}

const char *roots_dir(const struct roots *roots)
{
	return roots->dir;
}

const char *roots_message(const struct roots *roots)
{
	return roots->has_message ? roots->message : NULL;
}
