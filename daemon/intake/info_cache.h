/* Path infos asked of the store lately. The info of a valid path does not change but for its
 * signatures, and by a rebuild: so roots are always asked anew, and what they depend on is not.
 * Limits: INFO_CACHE_MAX infos; when it is full it is emptied.
 * Thread: loop. */
#ifndef DAEMON_INTAKE_INFO_CACHE_H
#define DAEMON_INTAKE_INFO_CACHE_H

#include "daemon/format/path_info.h"

#define INFO_CACHE_MAX 8192

struct info_cache {
	struct path_info *slots; /* open addressing, by the hash part */
	size_t n_used;
};

void info_cache_fini(struct info_cache *cache); /* takes a zeroed one, which is an empty cache */
/* NULL: not here. Valid until the next put. */
const struct path_info *info_cache_get(const struct info_cache *cache, const char *path);
/* Keeps a copy of INFO, or forgets it when there is no memory. */
void info_cache_put(struct info_cache *cache, const struct path_info *info);

#endif
