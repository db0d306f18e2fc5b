#include "ctl/paths.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_LINKS 40

const char *paths_store_dir(void)
{
	const char *dir = getenv("NIX_STORE_DIR");

	return dir != NULL && *dir == '/' ? dir : STORE_DIR_DEFAULT;
}

/* Is PATH, absolute, in the store? Then its store path goes to RET. */
static bool take_store_path(const char *path, const char *store_dir, char ret[STORE_PATH_SIZE])
{
	size_t n = store_path_prefix_len(path, store_dir);

	if (n == 0 || n >= STORE_PATH_SIZE)
		return false;
	memcpy(ret, path, n);
	ret[n] = '\0';
	return true;
}

/* The same of a path without links in it, where the store's directory may be reached by some. */
static bool take_real_path(const char *path, const char *store_dir, char ret[STORE_PATH_SIZE])
{
	char real_dir[PATH_MAX], found[STORE_PATH_SIZE];

	if (take_store_path(path, store_dir, ret))
		return true;
	if (realpath(store_dir, real_dir) == NULL || !take_store_path(path, real_dir, found))
		return false;
	return snprintf(ret, STORE_PATH_SIZE, "%s/%s", store_dir, store_path_base(found)) < STORE_PATH_SIZE;
}

/* PATH with all links resolved but the last part. */
static int resolve_parent(const char *path, char ret[PATH_MAX])
{
	char dir[PATH_MAX], real_dir[PATH_MAX];
	size_t n = strlen(path);
	const char *base;

	while (n > 1 && path[n - 1] == '/')
		n--;
	if (n >= sizeof(dir)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(dir, path, n);
	dir[n] = '\0';
	base = strrchr(dir, '/');
	base = base != NULL ? base + 1 : dir;
	if (*base == '\0' || strcmp(base, ".") == 0 || strcmp(base, "..") == 0)
		return realpath(dir, ret) != NULL ? 0 : -1;
	if (base == dir) {
		if (realpath(".", real_dir) == NULL)
			return -1;
	} else {
		dir[base - 1 - dir] = '\0';
		if (realpath(dir[0] != '\0' ? dir : "/", real_dir) == NULL)
			return -1;
	}
	if (snprintf(ret, PATH_MAX, "%s/%s", strcmp(real_dir, "/") == 0 ? "" : real_dir, base) < PATH_MAX)
		return 0;
	errno = ENAMETOOLONG;
	return -1;
}

/* Replaces PATH, a link, by where it leads. */
static int follow(char path[PATH_MAX])
{
	char target[PATH_MAX], joined[2 * PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	if (n < 0)
		return -1;
	target[n] = '\0';
	if (target[0] == '/')
		strcpy(joined, target);
	else
		snprintf(joined, sizeof(joined), "%.*s/%s", (int)(strrchr(path, '/') - path), path, target);
	if (strlen(joined) >= PATH_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(path, joined);
	return 0;
}

int paths_resolve(const char *text, const char *store_dir, char ret[STORE_PATH_SIZE], struct error *err)
{
	char path[PATH_MAX], real[PATH_MAX];
	struct stat st;

	if (*text == '\0' || strlen(text) >= sizeof(path))
		return error_set(err, ERROR_PERMANENT, "\"%.40s\": no path", text);
	strcpy(path, text);
	for (int i = 0; i < MAX_LINKS; i++) {
		if (take_store_path(path, store_dir, ret))
			return 0;
		if (resolve_parent(path, real) < 0)
			return error_set(err, ERROR_PERMANENT, "%.200s: %s", text, strerror(errno));
		if (take_real_path(real, store_dir, ret))
			return 0;
		if (lstat(real, &st) < 0)
			return error_set(err, ERROR_PERMANENT, "%.200s: %s", text, strerror(errno));
		if (!S_ISLNK(st.st_mode))
			return error_set(err, ERROR_PERMANENT,
			                 "%.200s: neither in the store %.200s nor a link into it", text,
			                 store_dir);
		if (follow(real) < 0)
			return error_set(err, ERROR_PERMANENT, "%.200s: %s", text, strerror(errno));
		strcpy(path, real);
	}
	return error_set(err, ERROR_PERMANENT, "%.200s: %s", text, strerror(ELOOP));
}

int path_list_add(struct path_list *list, const char *path, struct error *err)
{
	/* Doubled whenever it is full, at 1, 2, 4 ... */
	if ((list->n & (list->n - 1)) == 0) {
		size_t n = list->n == 0 ? 1 : 2 * list->n;
		char **items = reallocarray(list->items, n, sizeof(*items));

		if (items == NULL)
			return error_set(err, ERROR_TRANSIENT, "out of memory");
		list->items = items;
	}
	list->items[list->n] = strdup(path);
	if (list->items[list->n] == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	list->n++;
	return 0;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void path_list_sort(struct path_list *list)
{
	size_t n = 0;

	if (list->n == 0)
		return;
	qsort(list->items, list->n, sizeof(*list->items), compare);
	for (size_t i = 0; i < list->n; i++) {
		if (n > 0 && strcmp(list->items[n - 1], list->items[i]) == 0)
			free(list->items[i]);
		else
			list->items[n++] = list->items[i];
	}
	list->n = n;
}

void path_list_fini(struct path_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->items[i]);
	free(list->items);
	*list = (struct path_list){ 0 };
}
