#include "common/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"

#define READ_BYTES 4096

_Static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) == CLIENT_PATH_SIZE, "the kernel's size");

int client_find_socket(const char *configured, char path[CLIENT_PATH_SIZE], struct error *err)
{
	const char *runtime_dir;
	int n;

	if (configured != NULL && *configured != '\0') {
		if (*configured != '/' || strlen(configured) >= CLIENT_PATH_SIZE)
			return error_set(err, ERROR_OPERATOR,
			                 "NNCACHE_SOCKET is not an absolute path of at most %d bytes",
			                 CLIENT_PATH_SIZE - 1);
		strcpy(path, configured);
		return 0;
	}
	strcpy(path, CLIENT_SYSTEM_SOCKET);
	if (access(path, F_OK) == 0)
		return 0;
	runtime_dir = getenv("XDG_RUNTIME_DIR");
	if (runtime_dir == NULL || *runtime_dir != '/')
		return 0;
	n = snprintf(path, CLIENT_PATH_SIZE, "%s/nncache/nncached.sock", runtime_dir);
	if (n >= CLIENT_PATH_SIZE || access(path, F_OK) < 0)
		strcpy(path, CLIENT_SYSTEM_SOCKET);
	return 0;
}

static enum client_fault fault_of(int error)
{
	switch (error) {
	case ENOENT:
	case ENOTDIR:
		return CLIENT_ABSENT;
	case ECONNREFUSED:
		return CLIENT_REFUSED;
	case EACCES:
	case EPERM:
		return CLIENT_DENIED;
	case EAGAIN:
	case ETIMEDOUT:
		return CLIENT_SLOW;
	default:
		return CLIENT_BROKEN;
	}
}

static int fail(struct client *client, int error, const char *what, struct error *err)
{
	client->fault = fault_of(error);
	return error_set(err, ERROR_TRANSIENT, "%s: %s", what,
	                 client->fault == CLIENT_SLOW ? "no answer in time" : strerror(error));
}

/* The milliseconds left, -1 for no end to them. */
static int ms_left(const struct client *client)
{
	uint64_t now;

	if (client->deadline_mono_ms == CLIENT_NO_DEADLINE)
		return -1;
	now = clock_mono_ms();
	if (now >= client->deadline_mono_ms)
		return 0;
	return client->deadline_mono_ms - now < INT32_MAX ? (int)(client->deadline_mono_ms - now) : INT32_MAX;
}

/* A full backlog makes connect wait: only this option bounds it, poll cannot. */
static int limit_connect(struct client *client)
{
	int left = ms_left(client);
	struct timeval tv = { .tv_sec = left / 1000, .tv_usec = (left % 1000) * 1000 };

	if (left < 0)
		return 0;
	if (left == 0)
		tv.tv_usec = 1; /* zero would mean for ever */
	return setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

int client_open(struct client *client, const char *path, uint64_t deadline_mono_ms, struct error *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int r;

	*client = (struct client){ .fd = -1, .deadline_mono_ms = deadline_mono_ms };
	buf_init(&client->in, CLIENT_MAX_LINE + READ_BYTES);
	if (strlen(path) >= sizeof(addr.sun_path))
		return fail(client, ENAMETOOLONG, path, err);
	strcpy(addr.sun_path, path);
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->fd < 0 || limit_connect(client) < 0)
		return fail(client, errno, path, err);
	do
		r = connect(client->fd, (const struct sockaddr *)&addr, sizeof(addr));
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return fail(client, errno, path, err);
	return 0;
}

/* Waits for EVENTS. 0, or -1 with errno, ETIMEDOUT at the deadline. */
static int wait_for(struct client *client, short events)
{
	struct pollfd pfd = { .fd = client->fd, .events = events };
	int n;

	do
		n = poll(&pfd, 1, ms_left(client));
	while (n < 0 && errno == EINTR);
	if (n == 0)
		errno = ETIMEDOUT;
	return n > 0 ? 0 : -1;
}

int client_send(struct client *client, const void *data, size_t n_bytes, struct error *err)
{
	const char *p = data;

	while (n_bytes > 0) {
		ssize_t n = send(client->fd, p, n_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n >= 0) {
			p += n;
			n_bytes -= (size_t)n;
		} else if (errno == EAGAIN ? wait_for(client, POLLOUT) < 0 : errno != EINTR) {
			return fail(client, errno, "sending the request", err);
		}
	}
	return 0;
}

/* Reads what has come, waiting for the first byte of it. Bytes read, 0 at the end, -1 with errno. */
static ssize_t read_more(struct client *client)
{
	char *dst = buf_reserve(&client->in, READ_BYTES);
	ssize_t n;

	if (dst == NULL) {
		errno = EMSGSIZE;
		return -1;
	}
	do {
		if (wait_for(client, POLLIN) < 0)
			return -1;
		n = recv(client->fd, dst, READ_BYTES, MSG_DONTWAIT);
	} while (n < 0 && (errno == EAGAIN || errno == EINTR));
	if (n > 0)
		client->in.len += (size_t)n;
	return n;
}

int client_read_line(struct client *client, char **ret, struct error *err)
{
	struct buf *in = &client->in;
	size_t n_seen = 0;
	char *lf;
	ssize_t n;

	buf_consume(in, client->n_taken);
	client->n_taken = 0;
	while (in->len == n_seen || (lf = memchr(in->data + n_seen, '\n', in->len - n_seen)) == NULL) {
		n_seen = in->len;
		n = read_more(client);
		if (n == 0 && in->len == 0)
			return 0;
		if (n == 0)
			errno = EPIPE;
		if (n <= 0)
			return fail(client, errno, "reading the answer", err);
	}
	if (memchr(in->data, '\0', (size_t)(lf - in->data)) != NULL)
		return fail(client, EPROTO, "reading the answer", err);
	*lf = '\0';
	client->n_taken = (size_t)(lf - in->data) + 1;
	*ret = in->data;
	return 1;
}

void client_close(struct client *client)
{
	close_fd(&client->fd);
	buf_fini(&client->in);
	client->n_taken = 0;
}
