/* Is a path there? For APIs that answer about many paths at once: questions that come in one turn of the
 * loop, or while others are on their way, go in one request.
 * Limits: BULK_PATHS_MAX paths a request, BULK_REQUESTS_MAX requests at a time, an answer of 1 MiB.
 * Errors: what the request ends with, for every question in it; OPERATOR if the answer is none.
 * Thread: loop. */
#ifndef DAEMON_BACKEND_BULK_H
#define DAEMON_BACKEND_BULK_H

#include "daemon/backend/backend.h"

#define BULK_PATHS_MAX    1000
#define BULK_REQUESTS_MAX 4

struct bulk_config { /* texts are copied */
	struct loop *loop;
	struct http_client *client; /* borrowed while open */
	const char *url;            /* POSTed to */
	const char *before, *after; /* around the JSON array of the paths' hash parts */
	const char *answer_key;     /* the array of the missing ones is at this key; NULL: it is the answer */
	/* Makes the request's error one for people; NULL: it is one. */
	void (*explain)(void *ctx, struct http_request *req);
	void *ctx;
};

struct bulk;
int bulk_open(struct bulk **ret, const struct bulk_config *config, struct error *err) MUST_CHECK;
/* Every question must be done. Takes NULL. */
void bulk_close(struct bulk *bulk);

/* As find_info_start of the seam; OP's call is a struct op_call. */
void bulk_find_start(struct bulk *bulk, struct backend *backend, struct backend_op *op, const char *path);

#endif
