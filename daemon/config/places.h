/* Inside config/ only: directories that the environment names, as the XDG base directory
 * specification has it. A relative value counts as unset; nothing is ever below /tmp by default.
 * All return memory of the caller's, or NULL: no memory.
 * Thread: any while nobody changes the environment. */
#ifndef DAEMON_CONFIG_PLACES_H
#define DAEMON_CONFIG_PLACES_H

#include "daemon/config/config.h"

/* TEXT, which may begin with $XDG_RUNTIME_DIR, $XDG_STATE_HOME or $XDG_CONFIG_HOME. */
char *place_expand(const char *text);
/* Where conf.d and credentials lie: beside --config FILE, or the mode's place. */
char *place_config_dir(const struct config_places *places);
/* Nix's gcroots directory of STORE (its URI), and "/nncache". */
char *place_gcroots(const char *store);

#endif
