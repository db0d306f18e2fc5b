/* For what we vouch with our keys. Thread: any. */
#ifndef DAEMON_UPLOAD_VOUCH_H
#define DAEMON_UPLOAD_VOUCH_H

#include "daemon/config/config.h"
#include "daemon/format/path_info.h"

/* Is INFO to be signed when it goes to CACHE? */
bool vouch_is_for(const struct config *config, const struct cache_config *cache,
                  const struct path_info *info);

#endif
