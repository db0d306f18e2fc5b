/* Where the token of a cache and the keys of one at Cachix come from: the file that its section names; else,
 * for Cachix, the environment; else, in user mode, what the client of Cachix or Attic keeps for its user
 * (login.h), if that is of the same server.
 * Errors: OPERATOR, with the origin and no byte of a secret; TRANSIENT: no memory.
 * Owns: what is returned is the caller's, for wipe_text of kind.h.
 * Thread: loop; the files are small and read at once. */
#ifndef DAEMON_BACKEND_SECRETS_H
#define DAEMON_BACKEND_SECRETS_H

#include "daemon/config/config.h"

/* Leaves *RET NULL if the cache has none. */
int secrets_read_token(const struct cache_config *cache, char **ret, struct error *err) MUST_CHECK;
/* Of a cache at Cachix whose section names no file: its signing key as base64, mostly without a name, and in
 * *ORIGIN (static, or the configuration's) where it is from. Leaves *RET NULL if there is none. */
int secrets_read_signing_key(const struct cache_config *cache, char **ret, const char **origin,
                             struct error *err) MUST_CHECK;

#endif
