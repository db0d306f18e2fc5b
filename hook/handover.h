/* What there is to hand over: the outputs that Nix names in OUT_PATHS, or where that is empty (Nix
 * 2.8.0 always, later ones with --check) those that the .drv file at DRV_PATH names. Outputs whose path
 * is not known yet (floating content-addressed ones) leave the derivation alone: the daemon asks the
 * store. The store directory is where DRV_PATH lies, or else the first path that can be a store path. */
#ifndef HOOK_HANDOVER_H
#define HOOK_HANDOVER_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/protocol.h"
#include "common/store_path.h"

/* As long as an environment variable can be, in Linux. */
#define HANDOVER_MAX_BYTES 131072

struct handover {
	struct request req; /* an enqueue; its texts point into this struct and the arguments */
	const char *paths[REQUEST_MAX_PATHS];
	struct buf text; /* the paths, in memory */
	char memory[HANDOVER_MAX_BYTES + 1];
	char store_dir[STORE_PATH_SIZE];
};

/* Fills H. OUT_PATHS and DRV_PATH, either may be NULL, are borrowed while H lives. What is no store path
 * is left out, with a line in MISTAKES. Returns false if there is nothing to hand over. */
bool handover_collect(struct handover *h, const char *out_paths, const char *drv_path, struct buf *mistakes);
void handover_fini(struct handover *h);

#endif
