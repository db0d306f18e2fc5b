/* Result links: Nix makes a link anew even if its path was there before, and then calls no hook. A link that
 * is another file than at the beginning was made since. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "ctl/job/job.h"

#define PREFIX    "result"
#define LINKS_MAX 4096
#define MARK_SIZE 64

typedef int (*link_fn)(void *ctx, const char *path, const char *name, const char *mark, struct error *err);

/* Calls FN for each link ./result*, with what tells it from another of its name. */
static int for_each_link(const struct job *job, link_fn fn, void *ctx, struct error *err)
{
	DIR *dir = opendir(job->cwd);
	struct dirent *entry;
	unsigned n = 0;
	int rc = 0;

	if (dir == NULL)
		return error_set(err, ERROR_TRANSIENT, "%.300s: %s", job->cwd, strerror(errno));
	while (rc == 0 && n < LINKS_MAX && (entry = readdir(dir)) != NULL) {
		char path[PATH_MAX], mark[MARK_SIZE];
		struct stat st;

		if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) != 0 ||
		    snprintf(path, sizeof(path), "%s/%s", job->cwd, entry->d_name) >= (int)sizeof(path) ||
		    lstat(path, &st) < 0 || !S_ISLNK(st.st_mode))
			continue;
		n++;
		snprintf(mark, sizeof(mark), "%" PRIu64 " %" PRId64 ".%09ld", (uint64_t)st.st_ino,
		         (int64_t)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
		rc = fn(ctx, path, entry->d_name, mark, err);
	}
	closedir(dir);
	return rc;
}

static int remember(void *ctx, const char *path, const char *name, const char *mark, struct error *err)
{
	(void)path;
	(void)err;
	json_object_set_new(ctx, name, json_string(mark)); /* one that is no UTF-8 counts as new */
	return 0;
}

int results_look(struct job *job, struct error *err)
{
	return for_each_link(job, remember, job->results, err);
}

struct collecting {
	const struct job *job;
	struct path_list *list;
};

/* A link that leads elsewhere is nobody's mistake here. */
static int collect(void *ctx, const char *path, const char *name, const char *mark, struct error *err)
{
	const struct collecting *c = ctx;
	const char *before = json_string_value(json_object_get(c->job->results, name));
	char store_path[STORE_PATH_SIZE];
	struct error ignored;

	if ((before != NULL && strcmp(before, mark) == 0) ||
	    paths_resolve(path, paths_store_dir(), store_path, &ignored) < 0)
		return 0;
	return path_list_add(c->list, store_path, err);
}

int results_collect(const struct job *job, struct path_list *list, struct error *err)
{
	struct collecting c = { job, list };

	return for_each_link(job, collect, &c, err);
}
