/* Who is at the other end of a connection, and what that user may do.
 * Thread: any. */
#ifndef DAEMON_SERVER_PEER_H
#define DAEMON_SERVER_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"

/* Groups that are allowed more than anyone; one that does not exist allows nobody. */
struct peer_groups {
	bool has_push, has_control;
	gid_t push, control;
};

/* Looks the names up (NULL or empty: no such group). Blocks: at start and reload only. */
void peer_groups_find(struct peer_groups *ret, const char *push_name, const char *control_name);

struct peer {
	uid_t uid;
	bool is_master; /* root or the daemon's own user: may do all, has places of its own */
	bool may_push, may_control;
};

/* Asks the kernel about the connected socket FD. Errors: TRANSIENT. */
int peer_get(struct peer *ret, int fd, const struct peer_groups *groups, struct error *err) MUST_CHECK;

#endif
