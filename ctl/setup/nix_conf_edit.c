/* The file is kept as it was read, cut into lines; each line says what becomes of it. What replaces the file
 * is complete and on the disk before it gets the name. */
#include "ctl/setup/nix_conf_edit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "ctl/setup/nix_conf.h"

#define FILE_MAX_BYTES MIB(1)

struct edit_line {
	char *old, *new; /* new NULL: it goes; both NULL never */
	bool is_kept;    /* then new is NULL, and nothing happens to it */
};

struct nix_conf_edit {
	char *file; /* links resolved */
	char *text; /* its lines, each ended by a NUL in the place of its newline */
	struct edit_line *lines;
	size_t n_lines, n_old;  /* those behind n_old are appended */
	mode_t mode;            /* of a new file */
	bool exists, ends_open; /* the last line has no newline */
	bool no_memory;
	struct stat st; /* as it was opened */
};

static void free_text(char **text)
{
	free(*text);
}

/* ---- opening --------------------------------------------------------------------------------- */

static int refuse(struct error *err, const char *file, const char *why)
{
	return error_set(err, ERROR_OPERATOR, "%s: %s", file, why);
}

/* Where FILE is, or would be. NULL: ERR says why not. */
static char *resolve(const char *file, struct error *err)
{
	char *real = realpath(file, NULL);
	struct stat st;

	if (real != NULL)
		return real;
	if (errno != ENOENT && errno != ENOTDIR) {
		error_set(err, ERROR_TRANSIENT, "%s: %s", file, strerror(errno));
		return NULL;
	}
	if (lstat(file, &st) == 0) {
		refuse(err, file, "a link to a file that does not exist");
		return NULL;
	}
	real = strdup(file);
	if (real == NULL)
		error_set(err, ERROR_TRANSIENT, "%s: out of memory", file);
	return real;
}

static int split(struct nix_conf_edit *edit, size_t n_bytes)
{
	char *end = edit->text + n_bytes, *newline;
	size_t n = 1;

	for (const char *p = edit->text; p < end; p++)
		n += *p == '\n';
	edit->lines = calloc(n, sizeof(*edit->lines));
	if (edit->lines == NULL)
		return -1;
	for (char *line = edit->text; line < end; line = newline + 1) {
		edit->lines[edit->n_lines++] = (struct edit_line){ .old = line, .is_kept = true };
		newline = memchr(line, '\n', (size_t)(end - line));
		if (newline == NULL) {
			edit->ends_open = true;
			break;
		}
		*newline = '\0';
	}
	edit->n_old = edit->n_lines;
	return 0;
}

static int load(struct nix_conf_edit *edit, struct error *err)
{
	size_t n_bytes = 0;

	if (stat(edit->file, &edit->st) == 0) {
		edit->exists = true;
		if (!S_ISREG(edit->st.st_mode))
			return refuse(err, edit->file, "not a regular file");
		if (edit->st.st_nlink > 1)
			return refuse(err, edit->file,
			              "it has other names (hard links), which would keep what is in it now");
		if (read_file(edit->file, FILE_MAX_BYTES, &edit->text, &n_bytes, err) < 0)
			return -1;
		if (memchr(edit->text, '\0', n_bytes) != NULL)
			return refuse(err, edit->file, "a NUL byte is in it, so this is no text");
	} else if (errno != ENOENT && errno != ENOTDIR) {
		return error_set(err, ERROR_TRANSIENT, "%s: %s", edit->file, strerror(errno));
	} else {
		edit->text = calloc(1, 1);
	}
	if (edit->text == NULL || split(edit, n_bytes) < 0)
		return error_set(err, ERROR_TRANSIENT, "%s: out of memory", edit->file);
	return 0;
}

struct nix_conf_edit *nix_conf_edit_open(const char *file, mode_t mode, struct error *err)
{
	struct nix_conf_edit *edit = calloc(1, sizeof(*edit));

	if (edit == NULL) {
		error_set(err, ERROR_TRANSIENT, "%s: out of memory", file);
		return NULL;
	}
	edit->mode = mode;
	if (nix_conf_is_in_store(file)) {
		refuse(err, file,
		       "it leads into the Nix store, so what made it (NixOS, Home Manager) must change it");
		goto fail;
	}
	edit->file = resolve(file, err);
	if (edit->file == NULL || load(edit, err) < 0)
		goto fail;
	return edit;
fail:
	nix_conf_edit_free(edit);
	return NULL;
}

void nix_conf_edit_free(struct nix_conf_edit *edit)
{
	if (edit == NULL)
		return;
	for (size_t i = 0; i < edit->n_lines; i++)
		free(edit->lines[i].new);
	free(edit->lines);
	free(edit->text);
	free(edit->file);
	free(edit);
}

/* ---- changes --------------------------------------------------------------------------------- */

void nix_conf_edit_remove(struct nix_conf_edit *edit, unsigned line)
{
	if (line == 0 || line > edit->n_old)
		return;
	free(edit->lines[line - 1].new);
	edit->lines[line - 1].new = NULL;
	edit->lines[line - 1].is_kept = false;
}

void nix_conf_edit_replace(struct nix_conf_edit *edit, unsigned line, const char *text)
{
	if (line == 0 || line > edit->n_old)
		return;
	nix_conf_edit_remove(edit, line);
	edit->lines[line - 1].new = strdup(text);
	edit->no_memory |= edit->lines[line - 1].new == NULL;
}

void nix_conf_edit_append(struct nix_conf_edit *edit, const char *text)
{
	struct edit_line *lines = realloc(edit->lines, (edit->n_lines + 1) * sizeof(*lines));
	char *copy = strdup(text);

	if (lines != NULL)
		edit->lines = lines;
	if (lines == NULL || copy == NULL) {
		free(copy);
		edit->no_memory = true;
		return;
	}
	lines[edit->n_lines++] = (struct edit_line){ .new = copy };
}

const char *nix_conf_edit_line(const struct nix_conf_edit *edit, unsigned line)
{
	return line > 0 && line <= edit->n_old ? edit->lines[line - 1].old : NULL;
}

bool nix_conf_edit_is_empty(const struct nix_conf_edit *edit)
{
	for (size_t i = 0; i < edit->n_lines; i++)
		if (!edit->lines[i].is_kept)
			return false;
	return true;
}

const char *nix_conf_edit_file(const struct nix_conf_edit *edit)
{
	return edit->file;
}

const char *nix_conf_edit_change(const struct nix_conf_edit *edit, size_t i, unsigned *ret_line, bool *is_new)
{
	unsigned n_new = 0;

	for (size_t n = 0; n < edit->n_lines; n++) {
		const struct edit_line *line = &edit->lines[n];

		n_new += line->is_kept || line->new != NULL;
		if (line->is_kept)
			continue;
		if (line->old != NULL && i-- == 0) {
			*ret_line = (unsigned)n + 1;
			*is_new = false;
			return line->old;
		}
		if (line->new != NULL && i-- == 0) {
			*ret_line = n_new;
			*is_new = true;
			return line->new;
		}
	}
	return NULL;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* A line that had no newline gets none, unless something follows. */
void nix_conf_edit_format(const struct nix_conf_edit *edit, struct buf *out)
{
	bool is_open = false;

	for (size_t i = 0; i < edit->n_lines; i++) {
		const struct edit_line *line = &edit->lines[i];
		const char *text = line->is_kept ? line->old : line->new;

		if (text == NULL)
			continue;
		if (is_open)
			buf_putc(out, '\n');
		buf_puts(out, text);
		is_open = edit->ends_open && i + 1 == edit->n_old;
		if (!is_open)
			buf_putc(out, '\n');
	}
}

static int fail_write(const char *what, struct error *err)
{
	bool is_forbidden = errno == EACCES || errno == EPERM || errno == EROFS;

	return error_set(err, is_forbidden ? ERROR_OPERATOR : ERROR_TRANSIENT, "%s: cannot be written: %s%s",
	                 what, strerror(errno), errno == EACCES || errno == EPERM ? "; root may" : "");
}

static bool is_as_opened(const struct nix_conf_edit *edit)
{
	struct stat st;

	if (stat(edit->file, &st) < 0)
		return !edit->exists && errno == ENOENT;
	return edit->exists && st.st_dev == edit->st.st_dev && st.st_ino == edit->st.st_ino &&
	       st.st_size == edit->st.st_size && st.st_mtim.tv_sec == edit->st.st_mtim.tv_sec &&
	       st.st_mtim.tv_nsec == edit->st.st_mtim.tv_nsec;
}

/* Makes the file TEMPORARY, a name for mkostemp, and gives it what it needs but its name. */
static int write_beside(const struct nix_conf_edit *edit, char *temporary, const struct buf *text,
                        struct error *err)
{
	CLEANUP(close_fd) int fd = mkostemp(temporary, O_CLOEXEC);
	mode_t mode = edit->exists ? edit->st.st_mode & 07777 : edit->mode;

	if (fd < 0)
		return fail_write(edit->file, err);
	if ((edit->exists && fchown(fd, edit->st.st_uid, edit->st.st_gid) < 0) || fchmod(fd, mode) < 0 ||
	    write_full(fd, buf_text(text), text->len) < 0 || fsync(fd) < 0) {
		fail_write(edit->file, err);
		unlink(temporary);
		return -1;
	}
	return 0;
}

int nix_conf_edit_commit(struct nix_conf_edit *edit, struct error *err)
{
	CLEANUP(buf_fini) struct buf text = { .max = FILE_MAX_BYTES };
	char *slash = strrchr(edit->file, '/');
	CLEANUP(free_text) char *dir = strndup(edit->file, slash != NULL ? (size_t)(slash - edit->file) : 0);
	CLEANUP(free_text) char *temporary = NULL;

	if (nix_conf_edit_is_empty(edit))
		return 0;
	if (dir == NULL || edit->no_memory || asprintf(&temporary, "%s.nncache-XXXXXX", edit->file) < 0)
		return error_set(err, ERROR_TRANSIENT, "%s: out of memory", edit->file);
	nix_conf_edit_format(edit, &text);
	if (!buf_ok(&text))
		return refuse(err, edit->file, "it would be larger than 1 MiB");
	if (!edit->exists && *dir != '\0' && access(dir, F_OK) < 0 && make_dir(dir, 0755, 1, err) < 0)
		return -1;
	if (write_beside(edit, temporary, &text, err) < 0)
		return -1;
	if (!is_as_opened(edit)) {
		unlink(temporary);
		return error_set(err, ERROR_TRANSIENT, "%s: somebody else changed it just now; try again",
		                 edit->file);
	}
	if (rename(temporary, edit->file) < 0) {
		fail_write(edit->file, err);
		unlink(temporary);
		return -1;
	}
	return *dir != '\0' ? fsync_dir(dir, err) : 0;
}
