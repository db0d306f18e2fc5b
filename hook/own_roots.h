/* The hook's own garbage collector roots: links BASE.PID.NS in the roots directory, one for each path.
 * They stand in for the daemon's roots until it acknowledges, and are all that is left of a hook that
 * Nix killed. That they cannot be made (no such directory, another user's) is no error. */
#ifndef HOOK_OWN_ROOTS_H
#define HOOK_OWN_ROOTS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/protocol.h"

struct own_roots {
	int dir_fd;      /* -1: there is no such directory */
	char suffix[40]; /* ".PID.NS" */
	size_t n_made;
};

/* Makes a root for every path of REQ, or for its derivation if it has none. Returns whether all were. */
bool own_roots_make(struct own_roots *roots, const char *dir, const struct request *req);
/* Removes them again. REQ as it was when they were made. */
void own_roots_remove(struct own_roots *roots, const struct request *req);
void own_roots_fini(struct own_roots *roots);

#endif
