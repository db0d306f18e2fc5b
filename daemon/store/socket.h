/* A Unix stream socket on which every exchange has its time: from the first byte of a write to the
 * last byte that is read before the next write.
 * Errors: TRANSIENT. Thread: any, one at a time; it blocks. */
#ifndef DAEMON_STORE_SOCKET_H
#define DAEMON_STORE_SOCKET_H

#include <sys/socket.h>
#include <sys/types.h>

#include "common/error.h"

struct socket;

/* PATH: at most 107 bytes. */
int socket_open(struct socket **ret, const char *path, unsigned timeout_ms, struct error *err) MUST_CHECK;

/* Who listens there. */
int socket_get_peer(const struct socket *sock, struct ucred *ret) MUST_CHECK; /* -1 with errno */

/* These take a struct socket. */
ssize_t socket_read(void *ctx, void *data, size_t size, struct error *err) MUST_CHECK;
int socket_write(void *ctx, const void *data, size_t n_bytes, struct error *err) MUST_CHECK;
void socket_close(void *ctx);

#endif
