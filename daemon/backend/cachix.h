/* What the two files of the Cachix backend share.
 * Source of the API: PROTOCOLS 9 of the design; below BASE, which is "https://cachix.org/api/v1". */
#ifndef DAEMON_BACKEND_CACHIX_H
#define DAEMON_BACKEND_CACHIX_H

#include "daemon/backend/bulk.h"
#include "daemon/backend/kind.h"
#include "daemon/http/http.h"

#define CACHIX_ANSWER_MAX_BYTES KIB(64)

struct cachix {
	struct backend backend;
	struct http_client *client;  /* shows the token */
	struct http_client *storage; /* for the URLs that the API hands out; shows nothing */
	struct bulk *bulk;
	char *base;
	char *name;
	char *store_dir;
};

/* Makes REQ's error one for people. CTX is ignored. */
void cachix_explain(void *ctx, struct http_request *req);
/* BASE "/cache/NAME" and SUFFIX, which may hold a query. For the caller to free; NULL: no memory. */
char *cachix_url(const struct cachix *cachix, const char *suffix);

/* cachix_upload.c: put_nar of the seam. */
void cachix_put_start(struct backend *backend, struct backend_op *op, const struct backend_object *object,
                      struct body *body);

#endif
