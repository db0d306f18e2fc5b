/* The socket: listener, one session per connection, who may do what, and the verbs of docs/protocol.md.
 * What changes the queue through intake is done by the handlers that the daemon hands in.
 * Limits: SERVER_MAX_SESSIONS connections in all, a quarter of them kept for root, SERVER_MAX_PER_UID per
 * other uid; a request within 5 s and 256 KiB; an answer nobody reads is dropped after 60 s.
 * Thread: loop. */
#ifndef DAEMON_SERVER_SERVER_H
#define DAEMON_SERVER_SERVER_H

#include "daemon/config/config.h"
#include "daemon/queue/queue.h"
#include "daemon/upload/upload.h"

#define SERVER_MAX_SESSIONS 512
#define SERVER_MAX_PER_UID  64

struct server;
struct store;
struct verifier;

struct server_enqueue;
typedef void (*server_enqueued_fn)(struct server_enqueue *req);
struct server_enqueue { /* the session's until done */
	server_enqueued_fn done;
	struct error err; /* PERMANENT: refused, the client's fault; TRANSIENT: not taken in */
	uint32_t uid;
	const char *tag, *derivation; /* or NULL */
	const char *const *paths;
	size_t n_paths;
	uint64_t caches; /* bits, 0: all */
	bool push, force;
	int64_t request_id;    /* out */
	size_t n_new;          /* out */
	bool is_rooted;        /* out */
	void *ctx;             /* the handler's own */
	struct loop_post post; /* the handler's own */
};

struct server_config {
	struct loop *loop;
	const struct config *config; /* may be replaced by server_reconfigure */
	int listen_fd;               /* a listening socket that was handed in, or -1: make config->socket */
	/* Takes a hand-over in: durable before done(). */
	void (*enqueue)(void *ctx, struct server_enqueue *req, server_enqueued_fn done);
	/* GC roots of these store paths may go (they were forgotten); borrowed for the call. NULL: no roots.
	 */
	void (*on_released)(void *ctx, char *const *paths, size_t n_paths);
	void *ctx;
};

/* What the sessions show; borrowed until the next server_set_parts. Without a queue the daemon is
 * (re)starting: then enqueue and push wait, and the rest is answered `busy`. To take parts away: set
 * them NULL, then close them. */
struct server_parts {
	struct queue *queue;
	struct store *store;
	struct verifier *verifier; /* NULL: as uploader */
	struct uploader *uploader; /* NULL: nothing is uploaded (the configuration is broken) */
	const char *store_dir;     /* NULL: nothing can be enqueued */
	const char *config_error;  /* or NULL */
	const char *roots_message; /* or NULL */
	const char *queue_message; /* or NULL */
	const char *spool_message; /* or NULL */
	uint64_t n_spool_files, n_bad_spool_files;
	bool is_draining; /* stopping once what can go has gone */
};

/* Binds config->socket (mode 0666, its directory made) unless a socket was handed in, and listens: who
 * connects before server_set_parts waits. A socket left over, at which nobody listens, is replaced.
 * Ignores SIGPIPE. Errors: OPERATOR (somebody listens there, no place for it). */
int server_open(struct server **ret, const struct server_config *config, struct error *err) MUST_CHECK;
/* From now on CONFIG, borrowed; the socket stays. */
void server_reconfigure(struct server *server, const struct config *config);
void server_set_parts(struct server *server, const struct server_parts *parts);
void server_notify(struct server *server); /* something changed: wake those that wait */
/* Closes what only looks; who waits for an enqueue still gets its answer: keep the handler's parts
 * until CLOSED(CTX). Takes NULL (CLOSED is then not called). */
void server_close(struct server *server, lane_closed_fn closed, void *ctx);

#endif
