#include "hook/own_roots.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/crash.h"
#include "common/fd.h"
#include "common/store_path.h"

/* A base name with the suffix can pass what a file's name may have; the link's target tells the path. */
static void link_name(const struct own_roots *roots, const char *path, char name[NAME_MAX + 1])
{
	snprintf(name, NAME_MAX + 1, "%.*s%s", (int)(NAME_MAX - strlen(roots->suffix)), store_path_base(path),
	         roots->suffix);
}

static const char *nth_path(const struct request *req, size_t i)
{
	return req->n_paths > 0 ? req->paths[i] : req->derivation;
}

static size_t n_links(const struct request *req)
{
	return req->n_paths > 0 ? req->n_paths : 1;
}

bool own_roots_make(struct own_roots *roots, const char *dir, const struct request *req)
{
	char name[NAME_MAX + 1];
	struct timespec now;

	roots->n_made = 0;
	roots->dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (roots->dir_fd < 0)
		return false;
	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(roots->suffix, sizeof(roots->suffix), ".%d.%010" PRId64 "%09ld", (int)getpid(),
	         (int64_t)now.tv_sec, now.tv_nsec);
	for (; roots->n_made < n_links(req); roots->n_made++) {
		link_name(roots, nth_path(req, roots->n_made), name);
		if (symlinkat(nth_path(req, roots->n_made), roots->dir_fd, name) < 0)
			return false; /* what keeps one away keeps away the rest */
		crash_point(HOOK_ROOTS_HALF);
	}
	return true;
}

void own_roots_remove(struct own_roots *roots, const struct request *req)
{
	char name[NAME_MAX + 1];

	/* One that is gone already was taken over by the daemon. */
	for (size_t i = 0; i < roots->n_made; i++) {
		link_name(roots, nth_path(req, i), name);
		unlinkat(roots->dir_fd, name, 0);
	}
	roots->n_made = 0;
}

void own_roots_fini(struct own_roots *roots)
{
	close_fd(&roots->dir_fd);
}
