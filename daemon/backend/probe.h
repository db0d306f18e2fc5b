/* probe_start of the seam, for kinds to which objects are put: nix-cache-info is read with our credentials;
 * where it is there, the very bytes that were read are put once more, on condition that it were missing. So a
 * server says whether we may write, and nothing changes, whether or not it knows the condition. What may not
 * be read (403) may as well be missing: then nobody can say before the first upload. OP's call is a struct
 * op_call. Thread: loop. */
#ifndef DAEMON_BACKEND_PROBE_H
#define DAEMON_BACKEND_PROBE_H

#include "daemon/backend/kind.h"
#include "daemon/backend/s3_request.h"

#define PROBE_TYPE      "Content-Type: text/x-nix-cache-info"
#define PROBE_CONDITION "If-None-Match: *"

/* All is borrowed until OP is done. */
void http_probe_start(struct http_client *client, const char *base_url, const char *store_dir,
                      struct backend *backend, struct backend_op *op);
void s3_probe_start(struct s3_bucket *bucket, const char *store_dir, struct backend *backend,
                    struct backend_op *op);

/* What the answer STATUS to the put says, with the request's ERR. */
void probe_judge_put(struct backend *backend, unsigned status, const struct error *err);

#endif
