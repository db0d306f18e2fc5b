/* curl lets its user make the socket, and change the address that it connects to. */
#include "tests/fuzz/server.h"

#include <curl/curl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/fuzz/fuzz.h"

#define MAX_CONNECTIONS 32 /* at a time; redirects and retries make more than one */

static struct sockaddr_un here;
static socklen_t here_len;
static int listen_fd;
static uv_poll_t listener;
static const char *answers; /* not given yet; NULL: none are left */
static size_t answers_len;
static int peers[MAX_CONNECTIONS];
static size_t n_peers, n_sockets;

/* In place of the function of this name. */
CURL *__real_curl_easy_init(void);
CURL *__wrap_curl_easy_init(void);

static curl_socket_t on_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *addr)
{
	(void)ctx, (void)purpose;

	if (n_sockets == MAX_CONNECTIONS)
		return CURL_SOCKET_BAD;
	n_sockets++;
	addr->family = AF_UNIX;
	addr->addrlen = (unsigned)here_len;
	memcpy(&addr->addr, &here, here_len);
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

CURL *__wrap_curl_easy_init(void)
{
	static char everything_here[] = "::127.0.0.1:80"; /* no name is looked up */
	static struct curl_slist list = { .data = everything_here };
	CURL *easy = __real_curl_easy_init();

	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_socket);
	curl_easy_setopt(easy, CURLOPT_CONNECT_TO, &list);
	curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
	return easy;
}

static void give_answer(int fd)
{
	const char *end = answers != NULL ? memmem(answers, answers_len, "\n--\n", 4) : NULL;
	size_t len = end != NULL ? (size_t)(end - answers) : answers_len;
	ssize_t n = answers != NULL ? send(fd, answers, len, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;

	(void)n; /* who does not wait for an answer gets none */
	shutdown(fd, SHUT_WR);
	answers = end != NULL ? end + 4 : NULL;
	answers_len -= end != NULL ? len + 4 : answers_len;
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
	int fd = accept(listen_fd, NULL, NULL);
	(void)poll, (void)status, (void)events;

	if (fd < 0)
		return;
	MUST(n_peers < MAX_CONNECTIONS);
	peers[n_peers++] = fd;
	give_answer(fd);
}

void server_listen(struct loop *loop)
{
	const struct sockaddr_un any = { .sun_family = AF_UNIX };

	listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	MUST(listen_fd >= 0);
	/* At a name that the kernel makes up. */
	MUST(bind(listen_fd, (const struct sockaddr *)&any, sizeof(any.sun_family)) == 0);
	here_len = sizeof(here);
	MUST(getsockname(listen_fd, (struct sockaddr *)&here, &here_len) == 0);
	MUST(listen(listen_fd, MAX_CONNECTIONS) == 0);
	MUST(uv_poll_init(&loop->uv, &listener, listen_fd) == 0);
	MUST(uv_poll_start(&listener, UV_READABLE, on_connection) == 0);
}

void server_set_answers(const char *text, size_t len)
{
	answers = text;
	answers_len = len;
}

void server_hang_up(void)
{
	int fd;

	answers = NULL;
	answers_len = 0;
	/* Those that curl gave up before we saw them. */
	while ((fd = accept(listen_fd, NULL, NULL)) >= 0)
		close(fd);
	while (n_peers > 0)
		close_fd(&peers[--n_peers]);
	n_sockets = 0;
}
