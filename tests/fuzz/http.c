/* Whatever a server answers: a request ends once, its error is one plain line without credentials. */
#include <curl/curl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/http/fault.h"
#include "daemon/http/http.h"
#include "tests/fuzz/fuzz.h"

#define ANSWER_MAX    4096
#define N_CONNECTIONS 8 /* of one request at most, each redirect being one */

/* An input is one of these lines, and then the bytes that each connection gets for an answer. */
static const char *const methods[] = { "GET", "HEAD", "PUT", "POST", "DELETE" };

static struct {
	struct loop loop;
	struct http *http;
	struct http_client *client;
	const char *answer;
	size_t answer_len;
	struct sockaddr_un here;
	socklen_t here_len;
	int listen_fd;
	uv_poll_t listener;
	size_t n_sockets;
	int peers[N_CONNECTIONS];
	size_t n_peers;
	unsigned n_done;
	char etag[16];
} t;

/* In place of the function of this name, see meson.build: a handle that connects to us only. */
CURL *__real_curl_easy_init(void);
CURL *__wrap_curl_easy_init(void);

static curl_socket_t on_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *addr)
{
	(void)ctx, (void)purpose;

	addr->family = AF_UNIX;
	addr->addrlen = (unsigned)t.here_len;
	memcpy(&addr->addr, &t.here, t.here_len);
	return t.n_sockets++ < N_CONNECTIONS ? socket(AF_UNIX, SOCK_STREAM, 0) : CURL_SOCKET_BAD;
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
	int fd = accept(t.listen_fd, NULL, NULL);
	ssize_t n;
	(void)poll, (void)status, (void)events;

	if (fd < 0)
		return;
	MUST(t.n_peers < N_CONNECTIONS);
	t.peers[t.n_peers++] = fd;
	n = send(fd, t.answer, t.answer_len, MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)n;
	shutdown(fd, SHUT_WR);
}

CURL *__wrap_curl_easy_init(void)
{
	static struct curl_slist everything_here = { .data = (char *)(uintptr_t) "::127.0.0.1:80" };
	CURL *easy = __real_curl_easy_init();

	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_socket);
	curl_easy_setopt(easy, CURLOPT_CONNECT_TO, &everything_here);
	curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
	return easy;
}

static void on_done(struct http_request *req)
{
	const char *etag = http_get_header(req, "ETag");

	t.n_done++;
	strncpy(t.etag, etag != NULL ? etag : "", sizeof(t.etag) - 1);
	loop_stop(&t.loop);
}

static void check(const struct http_request *req, enum http_method method)
{
	bool is_good = req->status >= 200 && req->status < 300;

	MUST(t.n_done == 1);
	MUST(req->answer.len <= ANSWER_MAX && req->err.retry_after_s <= 86400);
	if (req->err.kind == ERROR_NONE) {
		MUST(is_good && req->err.text[0] == '\0');
	} else {
		MUST(fuzz_is_plain(req->err.text) && strchr(req->err.text, '\n') == NULL);
		MUST(strncmp(req->err.text, http_method_name(method), strlen(http_method_name(method))) == 0);
		MUST(strstr(req->err.text, "://127.0.0.1/p: ") != NULL);
	}
}

/* At a name that the kernel makes up. */
static void open_listener(void)
{
	const struct sockaddr_un any = { .sun_family = AF_UNIX };

	t.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	MUST(t.listen_fd >= 0);
	MUST(bind(t.listen_fd, (const struct sockaddr *)&any, sizeof(any.sun_family)) == 0);
	t.here_len = sizeof(t.here);
	MUST(getsockname(t.listen_fd, (struct sockaddr *)&t.here, &t.here_len) == 0);
	MUST(listen(t.listen_fd, N_CONNECTIONS) == 0);
	MUST(uv_poll_init(&t.loop.uv, &t.listener, t.listen_fd) == 0);
	MUST(uv_poll_start(&t.listener, UV_READABLE, on_connection) == 0);
}

static void open_all(void)
{
	const struct http_options options = { .proxy = "" };
	struct error err;

	unsetenv("NIX_SSL_CERT_FILE");
	unsetenv("SSL_CERT_FILE");
	MUST(loop_init(&t.loop, &err) == 0);
	open_listener();
	MUST(http_open(&t.http, &t.loop, &err) == 0);
	MUST(http_client_open(&t.client, t.http, &options, &err) == 0);
}

static void run(enum http_method method)
{
	struct http_request req = { .method = method,
		                    .url = "http://user:secret@127.0.0.1/p?signature=secret",
		                    .answer_max_bytes = ANSWER_MAX };

	if (method == HTTP_PUT || method == HTTP_POST) {
		req.data = "body";
		req.data_len = 4;
	}
	t.n_done = 0;
	t.n_sockets = 0;
	http_start(t.client, &req, on_done);
	loop_run(&t.loop);
	check(&req, method);
	/* The server may say the word itself. */
	if (memmem(t.answer, t.answer_len, "secret", 6) == NULL)
		MUST(strstr(req.err.text, "secret") == NULL);
	buf_fini(&req.answer);
	on_connection(NULL, 0, 0); /* one that curl gave up */
	while (t.n_peers > 0)
		close_fd(&t.peers[--t.n_peers]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *lf = memchr(data, '\n', size);

	if (t.http == NULL)
		open_all();
	for (size_t i = 0; lf != NULL && i < N_ELEMENTS(methods); i++) {
		size_t n = strlen(methods[i]);

		if ((size_t)(lf - data) != n || memcmp(methods[i], data, n) != 0)
			continue;
		t.answer = (const char *)lf + 1;
		t.answer_len = size - n - 1;
		run((enum http_method)i);
	}
	return 0;
}
