/* One connection of a client to the daemon: one request, one answer, one deadline for all of it. Calls
 * block, but never past the deadline.
 * Limits: a line of an answer has at most CLIENT_MAX_LINE bytes.
 * Errors: TRANSIENT; client->fault says which, for those who must act differently. Thread: any. */
#ifndef COMMON_CLIENT_H
#define COMMON_CLIENT_H

#include <stdint.h>

#include "common/attr.h"
#include "common/buf.h"
#include "common/error.h"

#define CLIENT_SYSTEM_SOCKET "/run/nncache/nncached.sock"
#define CLIENT_MAX_LINE      32768
#define CLIENT_PATH_SIZE     108
#define CLIENT_NO_DEADLINE   UINT64_MAX

enum client_fault {
	CLIENT_FINE,
	CLIENT_ABSENT,  /* there is no such socket */
	CLIENT_REFUSED, /* a socket at which nobody listens */
	CLIENT_DENIED,  /* the file system does not let us */
	CLIENT_SLOW,    /* the deadline passed */
	CLIENT_BROKEN,  /* anything else; also an answer that was cut or has an endless line */
};

struct client {
	int fd;
	uint64_t deadline_mono_ms; /* may be set anew between calls */
	enum client_fault fault;
	struct buf in;
	size_t n_taken; /* of IN, by the line given out last */
};

/* Writes to PATH which socket to talk to: CONFIGURED unless NULL or empty ($NNCACHE_SOCKET), the
 * system's if there is one, the user's below $XDG_RUNTIME_DIR if there is one, the system's.
 * Returns 0, or -1: CONFIGURED is no possible name of a socket (OPERATOR). */
int client_find_socket(const char *configured, char path[CLIENT_PATH_SIZE], struct error *err) MUST_CHECK;

/* Connects to PATH. CLIENT is to be closed whatever this returns. */
int client_open(struct client *client, const char *path, uint64_t deadline_mono_ms, struct error *err)
	MUST_CHECK;
int client_send(struct client *client, const void *data, size_t n_bytes, struct error *err) MUST_CHECK;
/* Reads the next line: 1 and *RET, without its LF, valid until the next call; 0 when the daemon closed
 * the connection after a whole line; -1. A line with a NUL in it is an error. */
int client_read_line(struct client *client, char **ret, struct error *err) MUST_CHECK;
void client_close(struct client *client); /* takes one that was never opened, if zeroed and fd is -1 */

#endif
