#include "daemon/store/socket.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"

struct socket {
	int fd;
	unsigned timeout_ms;
	uint64_t deadline_mono_ms;
};

static int wait_for(const struct socket *sock, short events, struct error *err)
{
	for (;;) {
		uint64_t now = clock_mono_ms();
		struct pollfd poll_fd = { .fd = sock->fd, .events = events };
		int n = 0;

		if (now < sock->deadline_mono_ms)
			n = poll(&poll_fd, 1, (int)(sock->deadline_mono_ms - now));
		if (n > 0)
			return 0;
		if (n == 0)
			return error_set(err, ERROR_TRANSIENT, "no answer within %u ms", sock->timeout_ms);
		if (errno != EINTR)
			return error_set(err, ERROR_TRANSIENT, "poll: %s", strerror(errno));
	}
}

int socket_open(struct socket **ret, const char *path, unsigned timeout_ms, struct error *err)
{
	CLEANUP(close_fd) int fd = -1;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	/* connect() waits while the listener's queue is full, as long as a send may take. */
	struct timeval wait = { .tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000 };
	struct socket *sock;

	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(err, ERROR_TRANSIENT,
		                 "%s: longer than the %zu bytes a socket's path can have", path,
		                 sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) < 0 ||
	    connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return error_set(err, ERROR_TRANSIENT, "%s: %s", path,
		                 errno == EAGAIN ? "too busy to take a connection" : strerror(errno));
	sock = calloc(1, sizeof(*sock));
	if (sock == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	sock->fd = take_fd(&fd);
	sock->timeout_ms = timeout_ms;
	*ret = sock;
	return 0;
}

int socket_get_peer(const struct socket *sock, struct ucred *ret)
{
	socklen_t len = sizeof(*ret);

	return getsockopt(sock->fd, SOL_SOCKET, SO_PEERCRED, ret, &len);
}

ssize_t socket_read(void *ctx, void *data, size_t size, struct error *err)
{
	struct socket *sock = ctx;

	for (;;) {
		ssize_t n;

		if (wait_for(sock, POLLIN, err) < 0)
			return -1;
		n = recv(sock->fd, data, size, MSG_DONTWAIT);
		if (n >= 0)
			return n;
		if (errno != EINTR && errno != EAGAIN)
			return error_set(err, ERROR_TRANSIENT, "read: %s", strerror(errno));
	}
}

int socket_write(void *ctx, const void *data, size_t n_bytes, struct error *err)
{
	struct socket *sock = ctx;
	const char *p = data;

	sock->deadline_mono_ms = clock_mono_ms() + sock->timeout_ms;
	while (n_bytes > 0) {
		ssize_t n;

		if (wait_for(sock, POLLOUT, err) < 0)
			return -1;
		n = send(sock->fd, p, n_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return error_set(err, ERROR_TRANSIENT, "write: %s", strerror(errno));
		if (n > 0) {
			p += n;
			n_bytes -= (size_t)n;
		}
	}
	return 0;
}

void socket_close(void *ctx)
{
	struct socket *sock = ctx;

	close_fd(&sock->fd);
	free(sock);
}
