/* The scratch directory: below $RUNNER_TEMP, which CI empties, $TMPDIR or /tmp, the first whose name leaves
 * room for a socket and can stand in nix.conf. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "ctl/job/job.h"
#include "ctl/program.h"

#define FTW_FDS 16

/* A blank divides words in nix.conf, '#' begins a comment. */
static bool is_usable(const char *base)
{
	return base != NULL && *base == '/' && strlen(base) + sizeof("/nncache.XXXXXX") <= JOB_DIR_SIZE &&
	       base[strspn(base,
	                   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._+=,@:-")] ==
	               '\0';
}

static int make_dir_below(struct job *job, struct error *err)
{
	const char *const bases[] = { getenv("RUNNER_TEMP"), getenv("TMPDIR"), "/tmp" };

	error_set(err, ERROR_OPERATOR, "no directory for temporary files");
	for (size_t i = 0; i < N_ELEMENTS(bases); i++) {
		if (!is_usable(bases[i]))
			continue;
		snprintf(job->dir, sizeof(job->dir), "%s/nncache.XXXXXX", bases[i]);
		if (mkdtemp(job->dir) != NULL)
			return 0;
		error_set(err, ERROR_OPERATOR, "%s: %s", bases[i], strerror(errno));
		job->dir[0] = '\0';
	}
	return -1;
}

int scratch_write(const struct job *job, const char *name, const char *text, size_t len, struct error *err)
{
	CLEANUP(close_fd) int fd = -1;
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", job->dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || write_full(fd, text, len) < 0)
		return error_set(err, ERROR_TRANSIENT, "%s: %s", path, strerror(errno));
	return 0;
}

/* A link and beside it its settings: nix-daemon passes no environment of ours on, and the hook has no
 * arguments. */
static int make_hook(const struct job *job, struct error *err)
{
	CLEANUP(buf_fini) struct buf env = { .max = KIB(4) };
	char hook[PATH_MAX], link[CLIENT_PATH_SIZE + 8];

	if (program_find_hook(hook) == NULL)
		return error_set(err, ERROR_OPERATOR, "the hook is not there: %s", strerror(errno));
	snprintf(link, sizeof(link), "%s/hook", job->dir);
	if (symlink(hook, link) < 0)
		return error_set(err, ERROR_TRANSIENT, "%s: %s", link, strerror(errno));
	buf_printf(&env,
	           "NNCACHE_SOCKET=%s/socket\nNNCACHE_SPOOL=%s/spool\nNNCACHE_GCROOTS=%s/roots\n"
	           "NNCACHE_TAG=" JOB_TAG "\n",
	           job->dir, job->dir, job->dir);
	return scratch_write(job, "hook.env", buf_text(&env), env.len, err);
}

int scratch_make(struct job *job, struct error *err)
{
	if (make_dir_below(job, err) < 0)
		return -1;
	snprintf(job->ctl->socket, sizeof(job->ctl->socket), "%s/socket", job->dir);
	return make_hook(job, err);
}

/* ---- removing */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	remove(path); /* what stays keeps its directory, which is harmless */
	return 0;
}

void scratch_remove(const struct job *job)
{
	if (job->dir[0] != '\0')
		nftw(job->dir, remove_entry, FTW_FDS, FTW_DEPTH | FTW_PHYS);
}

static int remove_unless_hook(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	const char *name = path + ftw->base;

	if (ftw->level == 1 && (strcmp(name, "hook") == 0 || strcmp(name, "hook.env") == 0))
		return 0;
	return remove_entry(path, st, type, ftw);
}

void scratch_remove_but_hook(const struct job *job)
{
	nftw(job->dir, remove_unless_hook, FTW_FDS, FTW_DEPTH | FTW_PHYS);
}
