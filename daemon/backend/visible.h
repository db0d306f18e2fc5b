/* Can everybody read a cache? Its nix-cache-info is asked for as by somebody without credentials.
 * Limits: one question at a time, of 10 s.
 * Thread: loop. */
#ifndef DAEMON_BACKEND_VISIBLE_H
#define DAEMON_BACKEND_VISIBLE_H

#include "daemon/backend/backend.h"

struct visible;

/* OPTIONS says how to reach BASE_URL; the credentials in it are not used. Texts are copied. */
int visible_open(struct visible **ret, struct http *http, const struct http_options *options,
                 const char *base_url, const char *store_dir, struct error *err) MUST_CHECK;
void visible_close(struct visible *visible); /* nothing may be asked; takes NULL */

/* As look_start of the seam. */
void visible_ask_start(struct visible *visible, struct backend *backend, struct backend_op *op);
/* Cancels it, if OP is the question that is asked; returns whether it is. VISIBLE may be NULL. */
bool visible_cancel(struct visible *visible, const struct backend_op *op);

#endif
