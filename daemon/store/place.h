/* Where a Nix store lies, from a store URI and the environment, found as Nix finds it (PROTOCOLS 6.1).
 * Thread: any. */
#ifndef DAEMON_STORE_PLACE_H
#define DAEMON_STORE_PLACE_H

#include "common/error.h"

struct place {           /* no text ends in a slash */
	char *store_dir; /* what store paths begin with */
	char *real_dir;  /* where their files lie */
	char *state_dir;
	char *socket; /* NULL: no nix-daemon serves it (local) */
};

/* URI: auto, daemon, unix://PATH, local, /DIR; the parameters root, store, state and real may follow.
 * Reads NIX_REMOTE (for auto), NIX_STORE_DIR, NIX_STATE_DIR, NIX_DAEMON_SOCKET_PATH.
 * Errors: OPERATOR. */
int place_parse(struct place *ret, const char *uri, struct error *err) MUST_CHECK;
void place_fini(struct place *place); /* takes a zeroed one */

#endif
