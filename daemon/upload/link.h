/* What stands between us and one cache: its backend, and the keys we sign with, as the secret files said
 * when it was made. An upload keeps the one it began with; after a secret was mended, the cache makes a new
 * one for those that come.
 * Errors: OPERATOR for a secret that is missing or wrong.
 * Owns: link_open hands one reference out; the last link_unref closes it, from within an operation's done
 * at the earliest.
 * Thread: loop. */
#ifndef DAEMON_UPLOAD_LINK_H
#define DAEMON_UPLOAD_LINK_H

#include "daemon/backend/backend.h"

struct cache_link {
	unsigned n_users;
	struct backend *backend;
	struct signing_key **keys;
	size_t n_keys;
};

/* CONFIG is borrowed until the link is gone. */
int link_open(struct cache_link **ret, struct loop *loop, struct http *http,
              const struct cache_config *config, const char *store_dir, struct error *err) MUST_CHECK;
struct cache_link *link_ref(struct cache_link *link);
void link_unref(struct cache_link *link); /* takes NULL */

/* A number that is another one once a secret file of CONFIG was changed, put in its place, or removed. */
uint64_t link_secrets_stamp(const struct cache_config *config);

#endif
