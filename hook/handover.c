#include "hook/handover.h"

#include <stdlib.h>
#include <string.h>

#include "common/derivation.h"
#include "common/fd.h"

#define BLANKS " \t\n"

/* Is PATH in the store, which is where the first path that can be one lies? */
static int check_path(struct handover *h, const char *path, struct error *err)
{
	const char *slash = strrchr(path, '/');
	char dir[sizeof(h->store_dir)];
	size_t len = slash != NULL ? (size_t)(slash - path) : 0;

	if (h->store_dir[0] != '\0')
		return store_path_check(path, h->store_dir, err);
	if (*path != '/' || len == 0 || len >= sizeof(dir) - STORE_BASE_MAX - 1)
		return error_set(err, ERROR_PERMANENT, "%.300s: not in a store", path);
	memcpy(dir, path, len);
	dir[len] = '\0';
	if (store_path_check(path, dir, err) < 0)
		return -1;
	memcpy(h->store_dir, dir, len + 1);
	return 0;
}

static void set_derivation(struct handover *h, const char *drv_path, struct buf *mistakes)
{
	struct error err;

	if (check_path(h, drv_path, &err) < 0)
		buf_printf(mistakes, "DRV_PATH: %s, ignored\n", err.text);
	else if (!store_path_is_derivation(drv_path))
		buf_printf(mistakes, "DRV_PATH: %.300s is not a derivation, ignored\n", drv_path);
	else
		h->req.derivation = drv_path;
}

/* Appends the outputs that the .drv file names to h->text. Where it cannot be read (it may lie in a
 * store with another root) or does not know its outputs, none: the daemon knows whom to ask. */
static void read_derivation(struct handover *h)
{
	char *text = NULL;
	struct error err;
	size_t len, n_floating;

	if (read_file(h->req.derivation, DERIVATION_MAX_BYTES, &text, &len, &err) < 0)
		return;
	if (derivation_outputs(text, len, &h->text, &n_floating, &err) < 0 || n_floating > 0)
		buf_clear(&h->text);
	free(text);
}

static void add_path(struct handover *h, const char *path, struct buf *mistakes)
{
	struct error err;

	if (check_path(h, path, &err) < 0)
		buf_printf(mistakes, "%s, ignored\n", err.text);
	else if (h->req.n_paths == REQUEST_MAX_PATHS)
		buf_printf(mistakes, "%s: more than %d paths, ignored\n", path, REQUEST_MAX_PATHS);
	else
		h->req.paths[h->req.n_paths++] = path;
}

bool handover_collect(struct handover *h, const char *out_paths, const char *drv_path, struct buf *mistakes)
{
	char *rest = NULL;

	h->req = (struct request){ .verb = VERB_ENQUEUE, .paths = h->paths };
	h->store_dir[0] = '\0';
	buf_init_in(&h->text, h->memory, sizeof(h->memory));
	if (drv_path != NULL && *drv_path != '\0')
		set_derivation(h, drv_path, mistakes);
	if (out_paths != NULL)
		buf_puts(&h->text, out_paths + strspn(out_paths, BLANKS));
	if (h->text.len == 0 && h->req.derivation != NULL)
		read_derivation(h);
	if (h->text.len > 0)
		for (char *p = strtok_r(h->text.data, BLANKS, &rest); p != NULL;
		     p = strtok_r(NULL, BLANKS, &rest))
			add_path(h, p, mistakes);
	return h->req.n_paths > 0 || h->req.derivation != NULL;
}

void handover_fini(struct handover *h)
{
	buf_fini(&h->text);
}
