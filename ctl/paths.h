/* What a person calls a path: a store path, a path inside one, a link into the store (./result), or a path
 * through such a link. */
#ifndef CTL_PATHS_H
#define CTL_PATHS_H

#include <stddef.h>

#include "common/error.h"
#include "common/store_path.h"

/* The store directory: $NIX_STORE_DIR or /nix/store. */
const char *paths_store_dir(void);

/* Writes the store path that TEXT means. It need not exist if TEXT is in the store itself; a link that is
 * a store path is that path, not what it leads to. Errors: PERMANENT, naming TEXT. */
int paths_resolve(const char *text, const char *store_dir, char ret[STORE_PATH_SIZE], struct error *err)
	MUST_CHECK;

/* A growing list of store paths. */
struct path_list {
	char **items;
	size_t n;
};
int path_list_add(struct path_list *list, const char *path, struct error *err) MUST_CHECK;
void path_list_sort(struct path_list *list); /* and drops what is there twice */
void path_list_fini(struct path_list *list);

#endif
