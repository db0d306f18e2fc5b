/* The listener. Connections are taken as long as the kernel has some, so that the backlog never stands
 * between root's hook and us; those that have no place are told so and closed without a session. The
 * kernel says who it is before anything is read.
 *
 * Of SERVER_MAX_SESSIONS places a quarter is for root and the daemon's own user alone. */
#include "daemon/server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"
#include "daemon/server/internal.h"

#define ACCEPTS_PER_TURN 64
#define OTHERS_PLACES    (SERVER_MAX_SESSIONS - SERVER_MAX_SESSIONS / 4)
#define NO_FDS_MS        100
#define NEWS_MS          250

/* ---- the socket ------------------------------------------------------------------------------ */

/* Is somebody there? A socket at which nobody listens is taken away. */
static int clear_place(const struct sockaddr_un *addr, struct error *err)
{
	CLEANUP(close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return error_set(err, ERROR_TRANSIENT, "socket: %s", strerror(errno));
	if (lstat(addr->sun_path, &st) < 0)
		return errno == ENOENT
		               ? 0
		               : error_set(err, ERROR_OPERATOR, "%s: %s", addr->sun_path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return error_set(err, ERROR_OPERATOR, "%s: is in the way, and not a socket", addr->sun_path);
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN)
		return error_set(err, ERROR_OPERATOR, "%s: another nncached serves there", addr->sun_path);
	if (errno != ECONNREFUSED || unlink(addr->sun_path) < 0)
		return error_set(err, ERROR_OPERATOR, "%s: %s", addr->sun_path, strerror(errno));
	return 0;
}

static int make_parent(const char *path, struct error *err)
{
	char dir[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char *slash;

	strcpy(dir, path);
	slash = strrchr(dir, '/');
	if (slash == NULL || slash == dir)
		return 0;
	*slash = '\0';
	return make_dir(dir, 0755, 1, err);
}

static int make_socket(const char *path, int *ret, struct error *err)
{
	CLEANUP(close_fd) int fd = -1;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	mode_t umask_before;
	int rc;

	if (strlen(path) >= sizeof(addr.sun_path))
		return error_set(err, ERROR_OPERATOR, "%s: a socket's path has at most %zu bytes", path,
		                 sizeof(addr.sun_path) - 1);
	strcpy(addr.sun_path, path);
	if (make_parent(path, err) < 0 || clear_place(&addr, err) < 0)
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_set(err, ERROR_TRANSIENT, "socket: %s", strerror(errno));
	/* There is no moment at which the socket has another mode. */
	umask_before = umask(0111);
	rc = bind(fd, (const struct sockaddr *)&addr, sizeof(addr));
	umask(umask_before);
	if (rc < 0 || listen(fd, SOMAXCONN) < 0)
		return error_set(err, ERROR_OPERATOR, "%s: %s", path, strerror(errno));
	*ret = take_fd(&fd);
	return 0;
}

/* ---- connections ----------------------------------------------------------------------------- */

/* NULL: come in. */
static const char *why_not(const struct server *server, const struct peer *peer)
{
	unsigned n_same = 0, n_others = 0;

	if (server->is_closing)
		return "the daemon is stopping";
	if (server->n_sessions >= SERVER_MAX_SESSIONS)
		return "too many connections";
	if (peer->is_master)
		return NULL;
	for (const struct session *s = server->sessions; s != NULL; s = s->next) {
		n_others += !s->peer.is_master;
		n_same += s->peer.uid == peer->uid;
	}
	if (n_same >= SERVER_MAX_PER_UID)
		return "too many connections of this user";
	return n_others >= OTHERS_PLACES ? "too many connections" : NULL;
}

static void turn_away(int fd, const char *text)
{
	struct buf line;
	ssize_t n;

	buf_init(&line, 200);
	answer_format_error(&line, ANSWER_BUSY, text);
	/* A new connection has room for a line; who does not take it gets none. */
	n = send(fd, line.data, line.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)n;
	buf_fini(&line);
	close(fd);
}

static void welcome(struct server *server, int fd)
{
	struct session *s;
	struct peer peer;
	struct error err;
	const char *reason;

	if (peer_get(&peer, fd, &server->groups, &err) < 0) {
		turn_away(fd, err.text);
		return;
	}
	reason = why_not(server, &peer);
	if (reason != NULL) {
		turn_away(fd, reason);
		return;
	}
	s = session_new(server, fd, &peer);
	if (s == NULL)
		return;
	s->next = server->sessions;
	server->sessions = s;
	server->n_sessions++;
}

static void on_connections(uv_poll_t *poll, int status, int events)
{
	struct server *server = CONTAINER_OF(poll, struct server, listener);
	(void)status;
	(void)events;

	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			server->lacks_fds = false;
			welcome(server, fd);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			if (!server->lacks_fds)
				log_warning("no connection taken: %s, trying again every %d ms",
				            strerror(errno), NO_FDS_MS);
			server->lacks_fds = true;
			uv_poll_stop(poll);
			timer_set(&server->accept_timer, NO_FDS_MS);
			return;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			return;
		}
	}
}

static void on_accept_again(struct timer *timer)
{
	struct server *server = CONTAINER_OF(timer, struct server, accept_timer);

	uv_poll_start(&server->listener, UV_READABLE, on_connections);
}

/* ---- news ------------------------------------------------------------------------------------ */

static void on_news(struct timer *timer)
{
	struct server *server = CONTAINER_OF(timer, struct server, news_timer);

	/* A session that closes meanwhile stays in the list for this turn. */
	for (struct session *s = server->sessions; s != NULL; s = s->next)
		if (s->on_news != NULL)
			s->on_news(s);
}

void server_notify(struct server *server)
{
	if (!server->is_closing && !timer_is_set(&server->news_timer))
		timer_set(&server->news_timer, NEWS_MS);
}

void server_set_parts(struct server *server, const struct server_parts *parts)
{
	server->parts = *parts;
	if (parts->queue == NULL)
		return;
	for (struct session *s = server->sessions; s != NULL; s = s->next)
		if (s->on_parts != NULL)
			s->on_parts(s);
	server_notify(server);
}

void server_reconfigure(struct server *server, const struct config *config)
{
	server->config.config = config;
	peer_groups_find(&server->groups, config->push_group, config->control_group);
}

/* ---- opening and closing --------------------------------------------------------------------- */

static void free_if_closed(struct server *server)
{
	lane_closed_fn closed = server->closed;
	void *ctx = server->closed_ctx;

	if (!server->is_closing || server->n_handles > 0 || server->n_sessions > 0)
		return;
	free(server->socket_path);
	free(server);
	if (closed != NULL)
		closed(ctx);
}

void server_forget_session(struct server *server, struct session *s)
{
	struct session **at = &server->sessions;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	server->n_sessions--;
	free_if_closed(server);
}

static void on_listener_closed(uv_handle_t *handle)
{
	struct server *server = CONTAINER_OF((uv_poll_t *)(void *)handle, struct server, listener);

	close_fd(&server->fd);
	server->n_handles--;
	free_if_closed(server);
}

static void on_accept_timer_closed(struct timer *timer)
{
	struct server *server = CONTAINER_OF(timer, struct server, accept_timer);

	server->n_handles--;
	free_if_closed(server);
}

static void on_news_timer_closed(struct timer *timer)
{
	struct server *server = CONTAINER_OF(timer, struct server, news_timer);

	server->n_handles--;
	free_if_closed(server);
}

static int take_socket(struct server *server, struct error *err)
{
	int flags;

	if (server->config.listen_fd < 0) {
		server->socket_path = strdup(server->config.config->socket);
		if (server->socket_path == NULL)
			return error_set(err, ERROR_TRANSIENT, "out of memory");
		return make_socket(server->socket_path, &server->fd, err);
	}
	server->fd = server->config.listen_fd;
	flags = fcntl(server->fd, F_GETFL);
	if (flags < 0 || fcntl(server->fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    fcntl(server->fd, F_SETFD, FD_CLOEXEC) < 0)
		return error_set(err, ERROR_OPERATOR, "the socket handed in: %s", strerror(errno));
	return 0;
}

int server_open(struct server **ret, const struct server_config *config, struct error *err)
{
	struct server *server = calloc(1, sizeof(*server));
	int rc;

	if (server == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	server->config = *config;
	server->fd = -1;
	server->started_unix_s = clock_unix_s();
	peer_groups_find(&server->groups, config->config->push_group, config->config->control_group);
	/* libuv writes without MSG_NOSIGNAL; a client that left must not end the daemon. */
	signal(SIGPIPE, SIG_IGN);
	if (take_socket(server, err) < 0)
		goto fail;
	rc = uv_poll_init(&config->loop->uv, &server->listener, server->fd);
	if (rc < 0) {
		error_set(err, ERROR_OPERATOR, "listening: %s", uv_strerror(rc));
		goto fail;
	}
	uv_poll_start(&server->listener, UV_READABLE, on_connections);
	timer_init(&server->accept_timer, config->loop, on_accept_again);
	timer_init(&server->news_timer, config->loop, on_news);
	server->n_handles = 3;
	*ret = server;
	return 0;
fail:
	if (server->fd >= 0 && server->fd != config->listen_fd)
		close(server->fd);
	free(server->socket_path);
	free(server);
	return -1;
}

void server_close(struct server *server, lane_closed_fn closed, void *ctx)
{
	if (server == NULL)
		return;
	server->is_closing = true;
	server->closed = closed;
	server->closed_ctx = ctx;
	/* Before we stop listening: behind that the name may be another daemon's. */
	if (server->socket_path != NULL)
		unlink(server->socket_path);
	uv_close((uv_handle_t *)&server->listener, on_listener_closed);
	timer_close(&server->accept_timer, on_accept_timer_closed);
	timer_close(&server->news_timer, on_news_timer_closed);
	for (struct session *s = server->sessions; s != NULL; s = s->next) {
		if (s->state == SESSION_ENDING)
			timer_set(&s->timer, SESSION_LAST_WRITE_MS);
		else if (!s->must_answer)
			session_close(s);
	}
}
