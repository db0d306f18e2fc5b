/* What is found out about a cache at an HTTP server beside the way of uploads.
 * Thread: loop. */
#ifndef DAEMON_BACKEND_VISIBLE_H
#define DAEMON_BACKEND_VISIBLE_H

#include "daemon/backend/backend.h"

/* Can everybody read it? Its nix-cache-info is asked for as by somebody without credentials.
 * Limits: a question ends after 10 s. */
struct visible;

/* OPTIONS says how to reach BASE_URL; the credentials in it are not used. Texts are copied. */
int visible_open(struct visible **ret, struct http *http, const struct http_options *options,
                 const char *base_url, const char *store_dir, struct error *err) MUST_CHECK;
void visible_close(struct visible *visible); /* nothing may be asked; takes NULL */

/* As look_start of the seam; OP's call is a struct op_call. */
void visible_ask_start(struct visible *visible, struct backend *backend, struct backend_op *op);

#endif
