/* What the server's own files share: the server as its sessions see it, and the verbs. */
#ifndef DAEMON_SERVER_INTERNAL_H
#define DAEMON_SERVER_INTERNAL_H

#include "daemon/server/session.h"

struct server {
	struct server_config config;
	struct server_parts parts;
	struct peer_groups groups;
	int64_t started_unix_s;

	int fd;
	char *socket_path; /* that we made; NULL: the socket was handed in */
	uv_poll_t listener;
	struct timer accept_timer; /* while there are no file descriptors left */
	bool lacks_fds;            /* and that was said */
	struct timer news_timer;
	unsigned n_handles; /* open: listener, both timers */

	struct session *sessions;
	unsigned n_sessions;

	bool is_closing;
	lane_closed_fn closed;
	void *closed_ctx;
};

/* A session is gone. */
void server_forget_session(struct server *server, struct session *s);

/* Each starts its verb's work on a parsed, allowed request whose paths and caches are known to be well
 * formed. */
void verb_enqueue(struct session *s); /* and push */
void verb_status(struct session *s);
void verb_config(struct session *s);
void verb_list(struct session *s);
void verb_show(struct session *s);
void verb_wait(struct session *s);
void verb_verify(struct session *s);
void verb_catch_up(struct session *s);
void verb_retry(struct session *s);
void verb_forget(struct session *s);
void verb_pause(struct session *s);
void verb_resume(struct session *s);

/* Appends CAUSES as `cause` records. */
void verbs_put_causes(struct buf *out, const struct queue_cause *causes, size_t n_causes);

#endif
