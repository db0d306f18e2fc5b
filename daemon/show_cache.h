/* nncached --show-cache NAME: what readers of one of the configuration's caches need, for nncachectl use.
 * Thread: main, in a process that is no daemon. */
#ifndef DAEMON_SHOW_CACHE_H
#define DAEMON_SHOW_CACHE_H

#include "daemon/config/config.h"

/* Asks the cache (backend/offer.h) and prints lines KEY = VALUE on stdout: url, visibility (public, private
 * or unknown) and a public-key for each. Returns the exit status; what went wrong is said on stderr. */
int show_cache(const struct config *config, const char *name);

#endif
