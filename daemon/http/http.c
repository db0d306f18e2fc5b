/* curl's multi interface, driven by libuv. curl says which sockets to watch and when to wake it;
 * we wake it, and after each time return what has finished to its owner.
 *
 * A request waits in its client's line until one of max_requests places is free (a request with a
 * body in memory also until the rate allows), runs as an easy handle, and ends on one of three
 * ways: curl's message, http_cancel, or a failure to launch; the latter two through a post, so that
 * done never fires inside start or cancel. */
#include "daemon/http/http.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "daemon/http/fault.h"
#include "daemon/loop/timer.h"

#define MAX_REQUESTS         32
#define STALL_TIMEOUT_MS     60000
#define STALL_BYTES_S        16 /* less than that a second is as good as nothing */
#define CONNECT_TIMEOUT_MS   15000
#define READ_TIMEOUTS        10       /* a GET or HEAD as a whole: so many times the stall timeout */
#define HEAD_MAX_BYTES       KIB(256) /* of an answer, with those before it: 1xx, redirects */
#define EXPECT_TIMEOUT_MS    200      /* a server that ignores "Expect" costs no more than this */
#define MAX_REDIRECTS        5
#define RETRY_AFTER_MAX_S    86400
#define THROTTLE_MIN_WAIT_MS 10

struct http {
	struct loop *loop;
	CURLM *multi;
	struct timer timer;
	size_t n_handles; /* of libuv's, open */
	size_t n_clients;
	unsigned n_places; /* requests at a time, of all clients */
	bool closing;
	http_closed_fn closed;
	void *closed_ctx;
};

struct socket_watch {
	uv_poll_t poll;
	struct http *http;
	curl_socket_t fd;
};

/* Requests in a row, each linked by its next and prev. */
struct line {
	struct http_request *first, **last;
};

struct http_client {
	struct http *http;
	char *proxy, *ca_file, *client_cert_file, *client_key_file, *netrc_file, *token;
	unsigned max_requests;
	long stall_timeout_s, connect_timeout_ms, whole_timeout_ms;
	bool answers_head_with_body, no_redirects;
	size_t n_requests; /* not done */
	size_t n_running;
	struct line waiting;

	/* A bucket that fills with time. What is sent is taken from it, into debt if need be;
	 * in debt, nothing more is sent. */
	uint64_t rate_bytes; /* 0: unlimited */
	int64_t tokens;
	uint64_t filled_mono_ms;
	struct line throttled;
	struct timer refill;
};

static void line_init(struct line *line)
{
	*line = (struct line){ .last = &line->first };
}

static void line_append(struct line *line, struct http_request *req)
{
	req->next = NULL;
	req->prev = line->last;
	*line->last = req;
	line->last = &req->next;
}

static void line_remove(struct line *line, struct http_request *req)
{
	*req->prev = req->next;
	if (req->next != NULL)
		req->next->prev = req->prev;
	else
		line->last = req->prev;
	req->next = NULL;
	req->prev = NULL;
}

const char *http_method_name(enum http_method method)
{
	switch (method) {
	case HTTP_GET:
		return "GET";
	case HTTP_HEAD:
		return "HEAD";
	case HTTP_PUT:
		return "PUT";
	case HTTP_POST:
		return "POST";
	case HTTP_DELETE:
		return "DELETE";
	}
	return "?";
}

/* The rate */

static void bucket_fill(struct http_client *client)
{
	uint64_t now_ms = loop_now_mono_ms(client->http->loop);
	uint64_t passed_ms = now_ms - client->filled_mono_ms;
	int64_t most = (int64_t)(client->rate_bytes / 4);

	client->filled_mono_ms = now_ms;
	if (passed_ms > 60000)
		passed_ms = 60000;
	client->tokens += (int64_t)(client->rate_bytes * passed_ms / 1000);
	if (client->tokens > most)
		client->tokens = most;
}

/* May something be sent now? If not, the timer says when to ask again. */
static bool bucket_allows(struct http_client *client)
{
	uint64_t wait_ms;

	if (client->rate_bytes == 0)
		return true;
	bucket_fill(client);
	if (client->tokens > 0)
		return true;
	wait_ms = (uint64_t)-client->tokens * 1000 / client->rate_bytes;
	if (!timer_is_set(&client->refill))
		timer_set(&client->refill, wait_ms > THROTTLE_MIN_WAIT_MS ? wait_ms : THROTTLE_MIN_WAIT_MS);
	return false;
}

static void bucket_take(struct http_client *client, uint64_t n_bytes)
{
	if (client->rate_bytes != 0)
		client->tokens -= (int64_t)n_bytes;
}

/* A paused request does not move, and does not stall either; but curl would end it. */
static void request_pause(struct http_request *req)
{
	curl_easy_setopt(req->easy, CURLOPT_LOW_SPEED_TIME, 0L);
}

static void request_unpause(struct http_request *req)
{
	curl_easy_setopt(req->easy, CURLOPT_LOW_SPEED_TIME, req->client->stall_timeout_s);
	curl_easy_pause(req->easy, CURLPAUSE_CONT);
}

static void unthrottle(struct http_request *req)
{
	req->is_throttled = false;
	line_remove(&req->client->throttled, req);
}

/* What curl calls for a request */

static size_t on_read(char *dst, size_t size, size_t n, void *ctx)
{
	struct http_request *req = ctx;
	ssize_t got;

	if (!bucket_allows(req->client)) {
		req->is_throttled = true;
		line_append(&req->client->throttled, req);
		request_pause(req);
		return CURL_READFUNC_PAUSE;
	}
	got = req->source->read(req->source, req->offset, dst, size * n, &req->err);
	if (got == HTTP_SOURCE_WAIT) {
		req->is_paused = true;
		request_pause(req);
		return CURL_READFUNC_PAUSE;
	}
	if (got == 0 && req->source_len != HTTP_LENGTH_UNKNOWN && req->offset < req->source_len) {
		error_set(&req->err, ERROR_TRANSIENT, "the body ended after %" PRIu64 " of %" PRIu64 " bytes",
		          req->offset, req->source_len);
		got = HTTP_SOURCE_FAILED;
	}
	if (got < 0)
		return CURL_READFUNC_ABORT;
	req->offset += (uint64_t)got;
	req->sent_bytes = req->offset;
	bucket_take(req->client, (uint64_t)got);
	return (size_t)got;
}

static int on_seek(void *ctx, curl_off_t offset, int whence)
{
	struct http_request *req = ctx;

	if (whence != SEEK_SET || offset < 0)
		return CURL_SEEKFUNC_CANTSEEK;
	req->offset = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

static size_t on_write(char *data, size_t size, size_t n, void *ctx)
{
	struct http_request *req = ctx;
	size_t n_bytes = size * n;
	size_t n_free = req->answer.max - req->answer.len;

	if (n_bytes > n_free) {
		req->is_answer_long = true;
		buf_append(&req->answer, data, n_free);
		return CURL_WRITEFUNC_ERROR;
	}
	buf_append(&req->answer, data, n_bytes);
	return buf_ok(&req->answer) ? n_bytes : CURL_WRITEFUNC_ERROR;
}

/* Every line of every head, the blank ones that end them too. curl bounds a line, and not all its versions
 * how many there are; a head that is cut off is fine by it. */
static size_t on_header(char *data, size_t size, size_t n, void *ctx)
{
	struct http_request *req = ctx;
	size_t n_bytes = size * n;

	if (n_bytes > 5 && memcmp(data, "HTTP/", 5) == 0)
		req->is_head_whole = false;
	else if (n_bytes <= 2 && n_bytes > 0 && data[n_bytes - 1] == '\n')
		req->is_head_whole = true;
	req->head_bytes += n_bytes;
	req->is_head_long = req->head_bytes > HEAD_MAX_BYTES;
	return req->is_head_long ? CURL_WRITEFUNC_ERROR : n_bytes;
}

/* Options are sticky: the first failure is kept. */
struct setter {
	CURL *easy;
	CURLcode rc;
};

#define SET(s, option, value) \
	((s)->rc = (s)->rc == CURLE_OK ? curl_easy_setopt((s)->easy, (option), (value)) : (s)->rc)

/* As curl 7.88 does it: without a header of its own for the body's hash there would be none, and S3
 * refuses what has none. */
static void set_signing(struct setter *s, const struct http_signing *signing)
{
	char scope[96];

	snprintf(scope, sizeof(scope), "aws:amz:%s:s3", signing->region);
	SET(s, CURLOPT_AWS_SIGV4, scope);
	SET(s, CURLOPT_USERNAME, signing->key_id);
	SET(s, CURLOPT_PASSWORD, signing->secret);
}

static void set_login(struct setter *s, const struct http_client *client, const struct http_request *req)
{
	if (req->signing != NULL) {
		set_signing(s, req->signing);
	} else if (client->token != NULL) {
		SET(s, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
		SET(s, CURLOPT_XOAUTH2_BEARER, client->token);
	} else if (client->netrc_file != NULL) {
		SET(s, CURLOPT_NETRC, (long)CURL_NETRC_OPTIONAL);
		SET(s, CURLOPT_NETRC_FILE, client->netrc_file);
	}
}

static void set_reach(struct setter *s, const struct http_client *client, const char *url)
{
	bool is_tls = strncasecmp(url, "https:", 6) == 0;

	SET(s, CURLOPT_PROTOCOLS_STR, "http,https");
	SET(s, CURLOPT_REDIR_PROTOCOLS_STR, is_tls ? "https" : "http,https");
	/* Without TLS nobody offers HTTP/2, and waiting for the first connection would be in vain. */
	SET(s, CURLOPT_HTTP_VERSION, is_tls ? (long)CURL_HTTP_VERSION_2TLS : (long)CURL_HTTP_VERSION_1_1);
	SET(s, CURLOPT_PIPEWAIT, is_tls ? 1L : 0L);
	SET(s, CURLOPT_NOSIGNAL, 1L);
	SET(s, CURLOPT_USERAGENT, "nncache/" NNCACHE_VERSION);
	SET(s, CURLOPT_CONNECTTIMEOUT_MS, client->connect_timeout_ms);
	SET(s, CURLOPT_TIMEOUT_MS, client->whole_timeout_ms);
	SET(s, CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES_S);
	SET(s, CURLOPT_LOW_SPEED_TIME, client->stall_timeout_s);
	SET(s, CURLOPT_EXPECT_100_TIMEOUT_MS, (long)EXPECT_TIMEOUT_MS);
	if (client->proxy != NULL)
		SET(s, CURLOPT_PROXY, client->proxy);
	if (client->ca_file != NULL)
		SET(s, CURLOPT_CAINFO, client->ca_file);
	if (client->client_cert_file != NULL)
		SET(s, CURLOPT_SSLCERT, client->client_cert_file);
	if (client->client_key_file != NULL)
		SET(s, CURLOPT_SSLKEY, client->client_key_file);
}

static void set_body(struct setter *s, struct http_request *req)
{
	if (req->source != NULL) {
		SET(s, CURLOPT_UPLOAD, 1L);
		SET(s, CURLOPT_READFUNCTION, on_read);
		SET(s, CURLOPT_READDATA, req);
		SET(s, CURLOPT_SEEKFUNCTION, on_seek);
		SET(s, CURLOPT_SEEKDATA, req);
		if (req->source_len != HTTP_LENGTH_UNKNOWN)
			SET(s, CURLOPT_INFILESIZE_LARGE, (curl_off_t)req->source_len);
	} else {
		/* Unlike CURLOPT_UPLOAD this sends headers and body at once. */
		SET(s, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)req->data_len);
		SET(s, CURLOPT_POSTFIELDS, req->data_len > 0 ? req->data : "");
	}
}

static void set_method(struct setter *s, struct http_request *req)
{
	bool is_read = req->method == HTTP_GET || req->method == HTTP_HEAD;

	/* An answer is small, and one that trickles must end, too; what is sent may take as long as it moves.
	 */
	if (is_read && req->client->whole_timeout_ms == 0)
		SET(s, CURLOPT_TIMEOUT, READ_TIMEOUTS * req->client->stall_timeout_s);
	SET(s, CURLOPT_FOLLOWLOCATION, is_read && !req->client->no_redirects ? 1L : 0L);
	SET(s, CURLOPT_MAXREDIRS, (long)MAX_REDIRECTS);
	if (req->method == HTTP_HEAD) {
		SET(s, CURLOPT_NOBODY, 1L);
		SET(s, CURLOPT_FORBID_REUSE, req->client->answers_head_with_body ? 1L : 0L);
	}
	if (req->method == HTTP_PUT || req->method == HTTP_POST)
		set_body(s, req);
	if (!is_read)
		SET(s, CURLOPT_CUSTOMREQUEST, http_method_name(req->method));
}

static int add_header(struct http_request *req, const char *line)
{
	struct curl_slist *list = curl_slist_append(req->header_list, line);

	if (list == NULL)
		return -1;
	req->header_list = list;
	return 0;
}

static int add_signing_headers(struct http_request *req)
{
	static const char hash_of_body[] = "x-amz-content-sha256: UNSIGNED-PAYLOAD";
	static const char hash_of_nothing[] =
		"x-amz-content-sha256: "
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	bool has_body = req->data_len > 0 || req->source != NULL;
	struct buf line;
	int rc;

	if (add_header(req, has_body ? hash_of_body : hash_of_nothing) < 0)
		return -1;
	if (req->signing->session_token == NULL)
		return 0;
	buf_init(&line, KIB(16));
	buf_printf(&line, "x-amz-security-token: %s", req->signing->session_token);
	rc = buf_ok(&line) ? add_header(req, line.data) : -1;
	if (line.data != NULL)
		explicit_bzero(line.data, line.cap);
	buf_fini(&line);
	return rc;
}

static int make_header_list(struct http_request *req)
{
	for (size_t i = 0; i < req->n_headers; i++)
		if (add_header(req, req->headers[i]) < 0)
			return -1;
	return req->signing != NULL ? add_signing_headers(req) : 0;
}

static void free_easy(CURL *easy, struct curl_slist *header_list)
{
	curl_easy_cleanup(easy);
	curl_slist_free_all(header_list);
}

/* Makes the easy handle and gives it to curl. */
static int request_run(struct http_request *req)
{
	struct http_client *client = req->client;
	struct setter s = { .easy = curl_easy_init() };

	req->detail = calloc(1, CURL_ERROR_SIZE);
	if (s.easy == NULL || req->detail == NULL || make_header_list(req) < 0)
		goto fail;
	set_reach(&s, client, req->url);
	set_login(&s, client, req);
	set_method(&s, req);
	SET(&s, CURLOPT_URL, req->url);
	SET(&s, CURLOPT_HTTPHEADER, req->header_list);
	SET(&s, CURLOPT_WRITEFUNCTION, on_write);
	SET(&s, CURLOPT_WRITEDATA, req);
	SET(&s, CURLOPT_HEADERFUNCTION, on_header);
	SET(&s, CURLOPT_HEADERDATA, req);
	SET(&s, CURLOPT_ERRORBUFFER, req->detail);
	SET(&s, CURLOPT_PRIVATE, req);
	if (s.rc != CURLE_OK)
		goto fail;
	req->easy = s.easy;
	if (curl_multi_add_handle(client->http->multi, s.easy) != CURLM_OK)
		goto fail;
	client->n_running++;
	if (req->source == NULL)
		bucket_take(client, req->data_len);
	return 0;
fail:
	free_easy(s.easy, req->header_list);
	free(req->detail);
	req->easy = NULL;
	req->header_list = NULL;
	req->detail = NULL;
	return error_set(&req->err, ERROR_TRANSIENT, "%s: no memory for a transfer",
	                 http_method_name(req->method));
}

static void request_done(struct http_request *req)
{
	req->client->n_requests--;
	req->client = NULL;
	req->is_ending = false;
	req->done(req);
}

static void on_end(struct loop_post *post)
{
	request_done(CONTAINER_OF(post, struct http_request, post));
}

static void request_end_later(struct http_request *req)
{
	req->is_ending = true;
	loop_post(req->client->http->loop, &req->post, on_end);
}

/* Lets run what may, in the order of arrival. */
static void client_launch(struct http_client *client)
{
	while (client->waiting.first != NULL && client->n_running < client->max_requests) {
		struct http_request *req = client->waiting.first;

		if (req->data_len > 0 && !bucket_allows(client))
			return;
		line_remove(&client->waiting, req);
		if (request_run(req) < 0)
			request_end_later(req);
	}
}

static void on_refill(struct timer *timer)
{
	struct http_client *client = CONTAINER_OF(timer, struct http_client, refill);

	if (!bucket_allows(client))
		return;
	while (client->throttled.first != NULL && client->tokens > 0) {
		struct http_request *req = client->throttled.first;

		unthrottle(req);
		request_unpause(req);
	}
	client_launch(client);
}

/* Takes the transfer from curl; the handle stays for the headers it holds. */
static CURL *request_detach(struct http_request *req)
{
	CURL *easy = req->easy;

	if (req->is_throttled)
		unthrottle(req);
	req->is_paused = false;
	curl_multi_remove_handle(req->client->http->multi, easy);
	req->client->n_running--;
	return easy;
}

static void read_outcome(struct http_request *req)
{
	curl_off_t length = -1, sent = 0;
	long status = 0, n_request_bytes = 0;

	curl_easy_getinfo(req->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(req->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	curl_easy_getinfo(req->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
	curl_easy_getinfo(req->easy, CURLINFO_REQUEST_SIZE, &n_request_bytes);
	req->status = status >= 200 ? (unsigned)status : 0; /* 100: it never came to an answer */
	req->content_length = length < 0 ? HTTP_LENGTH_UNKNOWN : (uint64_t)length;
	if (req->source == NULL)
		req->sent_bytes = (uint64_t)sent;
	req->is_server_fault = n_request_bytes == 0;
}

/* Of both forms, seconds or a date. */
static uint32_t get_retry_after_s(const struct http_request *req)
{
	curl_off_t s = 0;

	curl_easy_getinfo(req->easy, CURLINFO_RETRY_AFTER, &s);
	if (s > RETRY_AFTER_MAX_S)
		s = RETRY_AFTER_MAX_S;
	return s > 0 ? (uint32_t)s : 0;
}

/* Garbage on a connection that was good before: some servers send a body to HEAD, which then begins the next
 * answer. From here on such a connection is not used again. */
static void learn_from_garbage(const struct http_request *req)
{
	long n_connects = 0;

	curl_easy_getinfo(req->easy, CURLINFO_NUM_CONNECTS, &n_connects);
	if (req->is_garbled && n_connects == 0)
		req->client->answers_head_with_body = true;
}

static void request_finish(struct http_request *req, CURLcode code)
{
	struct curl_slist *header_list = req->header_list;
	CURL *easy = request_detach(req);
	char *detail = req->detail;

	if (code == CURLE_OK || req->err.kind == ERROR_NONE) { /* else the source has said why */
		read_outcome(req);
		http_classify(req, (int)code, detail[0] != '\0' ? detail : curl_easy_strerror(code),
		              req->client->token);
		req->err.retry_after_s = get_retry_after_s(req);
		learn_from_garbage(req);
	}
	client_launch(req->client);
	request_done(req);
	free_easy(easy, header_list);
	free(detail);
}

/* Returns every finished transfer to its owner; one wake-up may finish many. A done() may close us. */
static void http_reap(struct http *http)
{
	CURLMsg *msg;
	int n_left;

	while (!http->closing && (msg = curl_multi_info_read(http->multi, &n_left)) != NULL) {
		CURLcode code = msg->data.result; /* MSG dies with the removal of its handle */
		char *req = NULL;

		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &req);
		request_finish((struct http_request *)(void *)req, code);
	}
}

static void http_pump(struct http *http, curl_socket_t fd, int what)
{
	int n_running;

	curl_multi_socket_action(http->multi, fd, what, &n_running);
	http_reap(http);
}

/* The requests' outer side */

void http_start(struct http_client *client, struct http_request *req, http_done_fn done)
{
	assert(req->client == NULL && !client->http->closing);
	req->client = client;
	req->done = done;
	buf_init(&req->answer, req->answer_max_bytes);
	req->content_length = HTTP_LENGTH_UNKNOWN;
	client->n_requests++;
	line_append(&client->waiting, req);
	client_launch(client);
}

void http_cancel(struct http_request *req)
{
	if (req->client == NULL || req->is_ending)
		return;
	if (req->easy != NULL) {
		free_easy(request_detach(req), req->header_list);
		free(req->detail);
		req->easy = NULL;
	} else {
		line_remove(&req->client->waiting, req);
	}
	error_set(&req->err, ERROR_CANCELED, "canceled");
	request_end_later(req);
	client_launch(req->client);
}

void http_resume(struct http_request *req)
{
	if (!req->is_paused)
		return;
	req->is_paused = false;
	request_unpause(req);
}

const char *http_get_header(const struct http_request *req, const char *name)
{
	struct curl_header *header;

	if (req->easy == NULL || curl_easy_header(req->easy, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
		return NULL;
	return header->value;
}

char *http_join_url(const char *base, const char *key)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
	size_t len = strlen(base);
	struct buf url;
	char *text;

	while (len > 0 && base[len - 1] == '/')
		len--;
	buf_init(&url, KIB(64));
	buf_append(&url, base, len);
	buf_putc(&url, '/');
	for (; *key != '\0'; key++) {
		if (strchr(plain, *key) != NULL)
			buf_putc(&url, *key);
		else
			buf_printf(&url, "%%%02X", (unsigned char)*key);
	}
	text = buf_take(&url);
	buf_fini(&url);
	return text;
}

/* Clients */

static void client_free(struct http_client *client)
{
	if (client->token != NULL)
		explicit_bzero(client->token, strlen(client->token));
	free(client->token);
	free(client->proxy);
	free(client->ca_file);
	free(client->client_cert_file);
	free(client->client_key_file);
	free(client->netrc_file);
	free(client);
}

/* A copy of TEXT that can be NULL. */
static int copy_text(char **ret, const char *text, struct error *err)
{
	if (text == NULL)
		return 0;
	*ret = strdup(text);
	return *ret != NULL ? 0 : error_set(err, ERROR_TRANSIENT, "out of memory");
}

static int copy_file_name(char **ret, const char *name, struct error *err)
{
	if (name != NULL && access(name, R_OK) < 0)
		return error_set(err, ERROR_OPERATOR, "%s: %s", name, strerror(errno));
	return copy_text(ret, name, err);
}

static const char *pick_ca_file(const struct http_options *options)
{
	const char *file = options->ca_file;

	if (file == NULL)
		file = getenv("NIX_SSL_CERT_FILE");
	if (file == NULL)
		file = getenv("SSL_CERT_FILE");
	return file;
}

static int client_copy_options(struct http_client *client, const struct http_options *options,
                               struct error *err)
{
	uint64_t stall_ms = options->stall_timeout_ms > 0 ? options->stall_timeout_ms : STALL_TIMEOUT_MS;

	client->max_requests = options->max_requests > 0 ? options->max_requests : MAX_REQUESTS;
	client->stall_timeout_s = (long)((stall_ms + 999) / 1000);
	client->connect_timeout_ms = stall_ms < CONNECT_TIMEOUT_MS ? (long)stall_ms : CONNECT_TIMEOUT_MS;
	client->whole_timeout_ms = (long)options->whole_timeout_ms;
	client->no_redirects = options->no_redirects;
	client->rate_bytes = options->rate_bytes;
	if (copy_text(&client->proxy, options->proxy, err) < 0 ||
	    copy_text(&client->token, options->token, err) < 0 ||
	    copy_file_name(&client->ca_file, pick_ca_file(options), err) < 0 ||
	    copy_file_name(&client->client_cert_file, options->client_cert_file, err) < 0 ||
	    copy_file_name(&client->client_key_file, options->client_key_file, err) < 0 ||
	    copy_file_name(&client->netrc_file, options->netrc_file, err) < 0)
		return -1;
	return 0;
}

/* A place that is free keeps its connection: curl pools as many as may run. */
static void add_places(struct http *http, unsigned n)
{
	http->n_places += n;
	curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long)http->n_places);
}

int http_client_open(struct http_client **ret, struct http *http, const struct http_options *options,
                     struct error *err)
{
	struct http_client *client = calloc(1, sizeof(*client));

	if (client == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	if (client_copy_options(client, options, err) < 0) {
		client_free(client);
		return -1;
	}
	client->http = http;
	line_init(&client->waiting);
	line_init(&client->throttled);
	timer_init(&client->refill, http->loop, on_refill);
	client->filled_mono_ms = loop_now_mono_ms(http->loop);
	http->n_clients++;
	add_places(http, client->max_requests);
	*ret = client;
	return 0;
}

static void on_refill_closed(struct timer *timer)
{
	client_free(CONTAINER_OF(timer, struct http_client, refill));
}

void http_client_close(struct http_client *client)
{
	if (client == NULL)
		return;
	assert(client->n_requests == 0);
	client->http->n_clients--;
	add_places(client->http, 0 - client->max_requests);
	timer_close(&client->refill, on_refill_closed);
}

/* What curl calls for the whole */

static void on_handle_closed(struct http *http)
{
	http_closed_fn closed = http->closed;
	void *ctx = http->closed_ctx;

	if (--http->n_handles > 0 || !http->closing)
		return;
	free(http);
	curl_global_cleanup();
	if (closed != NULL)
		closed(ctx);
}

static void on_watch_closed(uv_handle_t *handle)
{
	struct socket_watch *watch = CONTAINER_OF(handle, struct socket_watch, poll);
	struct http *http = watch->http;

	free(watch);
	on_handle_closed(http);
}

static void on_socket_ready(uv_poll_t *poll, int status, int events)
{
	struct socket_watch *watch = CONTAINER_OF(poll, struct socket_watch, poll);
	int what = 0;

	/* A broken socket is ready for both: curl then finds out why, as with CURL_CSELECT_ERR it
	 * would not. */
	if (status < 0 || events & UV_READABLE)
		what |= CURL_CSELECT_IN;
	if (status < 0 || events & UV_WRITABLE)
		what |= CURL_CSELECT_OUT;
	http_pump(watch->http, watch->fd, what);
}

static struct socket_watch *watch_new(struct http *http, curl_socket_t fd)
{
	struct socket_watch *watch = calloc(1, sizeof(*watch));

	if (watch == NULL)
		return NULL;
	watch->http = http;
	watch->fd = fd;
	if (uv_poll_init(&http->loop->uv, &watch->poll, fd) != 0) {
		free(watch);
		return NULL;
	}
	http->n_handles++;
	curl_multi_assign(http->multi, fd, watch);
	return watch;
}

/* curl also calls this from curl_multi_cleanup, to take leave of pooled connections; by then no
 * new watch may start. With -1 all transfers fail. */
static int on_socket_change(CURL *easy, curl_socket_t fd, int what, void *ctx, void *watch_ptr)
{
	struct http *http = ctx;
	struct socket_watch *watch = watch_ptr;
	int events = 0;
	(void)easy;

	if (what == CURL_POLL_REMOVE) {
		if (watch != NULL)
			uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
		return 0;
	}
	if (http->closing)
		return 0;
	if (watch == NULL)
		watch = watch_new(http, fd);
	if (watch == NULL)
		return -1;
	if (what & CURL_POLL_IN)
		events |= UV_READABLE;
	if (what & CURL_POLL_OUT)
		events |= UV_WRITABLE;
	return uv_poll_start(&watch->poll, events, on_socket_ready) == 0 ? 0 : -1;
}

static void on_timer(struct timer *timer)
{
	http_pump(CONTAINER_OF(timer, struct http, timer), CURL_SOCKET_TIMEOUT, 0);
}

static int on_timer_change(CURLM *multi, long timeout_ms, void *ctx)
{
	struct http *http = ctx;
	(void)multi;

	if (http->closing)
		return 0;
	if (timeout_ms < 0)
		timer_stop(&http->timer);
	else
		timer_set(&http->timer, (uint64_t)timeout_ms); /* 0 is the next turn */
	return 0;
}

int http_open(struct http **ret, struct loop *loop, struct error *err)
{
	struct http *http = calloc(1, sizeof(*http));

	if (http == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		free(http);
		return error_set(err, ERROR_TRANSIENT, "libcurl cannot be set up");
	}
	http->multi = curl_multi_init();
	if (http->multi == NULL) {
		curl_global_cleanup();
		free(http);
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	}
	signal(SIGPIPE, SIG_IGN);
	http->loop = loop;
	timer_init(&http->timer, loop, on_timer);
	http->n_handles = 1;
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, on_socket_change);
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_timer_change);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
	curl_multi_setopt(http->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
	*ret = http;
	return 0;
}

static void on_timer_closed(struct timer *timer)
{
	on_handle_closed(CONTAINER_OF(timer, struct http, timer));
}

void http_close(struct http *http, http_closed_fn closed, void *ctx)
{
	if (http == NULL)
		return;
	assert(http->n_clients == 0 && !http->closing);
	http->closing = true;
	http->closed = closed;
	http->closed_ctx = ctx;
	curl_multi_cleanup(http->multi);
	timer_close(&http->timer, on_timer_closed);
}
