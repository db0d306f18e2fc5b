/* What a cache offers to its readers: which URL Nix is given, and which keys it must trust. The cache is
 * asked: the API of Cachix and Attic for both, then every kind but s3 for its nix-cache-info, so that a wrong
 * URL is found now. Nothing is written to the cache.
 * Limits: 30 s for each of the two questions.
 * Errors: OPERATOR, there is no such cache, or not for this store; else as http_classify.
 * Thread: loop. */
#ifndef DAEMON_BACKEND_OFFER_H
#define DAEMON_BACKEND_OFFER_H

#include "daemon/backend/backend.h"

struct offer;
typedef void (*offer_done_fn)(struct offer *offer);

struct offer { /* the caller's until done */
	struct error err;
	struct backend_announced announced; /* keys only where the cache says them */
	offer_done_fn done;

	/* its own */
	struct loop *loop;
	struct http *http;
	const struct cache_config *cache;
	const char *store_dir;
	struct backend *backend;
	struct backend_op op;
	struct http_client *client;
	struct http_request req;
	char *url;
	struct loop_post post;
};

/* CACHE and STORE_DIR are borrowed until done. The token of CACHE is for the API alone; for its
 * nix-cache-info the netrc file is used, as Nix will. */
void offer_start(struct offer *offer, struct loop *loop, struct http *http, const struct cache_config *cache,
                 const char *store_dir, offer_done_fn done);

#endif
