/* A request as curl sees it: an easy handle made when it may run, its callbacks, its end. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/http/fault.h"
#include "daemon/http/internal.h"

#define STALL_BYTES_S     16       /* less than that a second is as good as nothing */
#define READ_TIMEOUTS     10       /* a GET or HEAD as a whole: so many times the stall timeout */
#define HEAD_MAX_BYTES    KIB(256) /* of an answer, with those before it: 1xx, redirects */
#define EXPECT_TIMEOUT_MS 200      /* a server that ignores "Expect" costs no more than this */
#define MAX_REDIRECTS     5
#define RETRY_AFTER_MAX_S 86400

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

void request_pause(struct http_request *req)
{
	curl_easy_setopt(req->easy, CURLOPT_LOW_SPEED_TIME, 0L);
}

void request_unpause(struct http_request *req)
{
	curl_easy_setopt(req->easy, CURLOPT_LOW_SPEED_TIME, req->client->stall_timeout_s);
	curl_easy_pause(req->easy, CURLPAUSE_CONT);
}

/* ---- what curl calls ------------------------------------------------------------------------- */

static size_t on_read(char *dst, size_t size, size_t n, void *ctx)
{
	struct http_request *req = ctx;
	ssize_t got;

	if (!client_may_send(req->client)) {
		client_throttle(req);
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
	client_note_sent(req->client, (uint64_t)got);
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

static size_t write_sink(struct http_request *req, const char *data, size_t n_bytes)
{
	switch (req->sink->write(req->sink, data, n_bytes, &req->err)) {
	case 0:
		return n_bytes;
	case HTTP_SINK_WAIT:
		req->is_paused = true;
		request_pause(req);
		return CURL_WRITEFUNC_PAUSE;
	default:
		return CURL_WRITEFUNC_ERROR;
	}
}

static bool is_good_answer(const struct http_request *req)
{
	long status = 0;

	curl_easy_getinfo(req->easy, CURLINFO_RESPONSE_CODE, &status);
	return status >= 200 && status < 300;
}

static size_t on_write(char *data, size_t size, size_t n, void *ctx)
{
	struct http_request *req = ctx;
	size_t n_bytes = size * n;
	size_t n_free = req->answer.max - req->answer.len;

	if (req->sink != NULL && is_good_answer(req))
		return write_sink(req, data, n_bytes);
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

/* ---- the easy handle ------------------------------------------------------------------------- */

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

	/* An answer is small, and one that trickles must end, too; what is sent may take as long as it moves,
	 * and so may what a sink takes. */
	if (is_read && req->client->whole_timeout_ms == 0 && req->sink == NULL)
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

int request_run(struct http_request *req)
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
		client_note_sent(client, req->data_len);
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

/* ---- its end --------------------------------------------------------------------------------- */

void request_done(struct http_request *req)
{
	req->client->n_requests--;
	req->client = NULL;
	req->is_ending = false;
	req->done(req);
}

/* Takes the transfer from curl; the handle stays for the headers it holds. */
static CURL *request_detach(struct http_request *req)
{
	CURL *easy = req->easy;

	if (req->is_throttled)
		client_unthrottle(req);
	req->is_paused = false;
	curl_multi_remove_handle(req->client->http->multi, easy);
	req->client->n_running--;
	return easy;
}

void request_abort(struct http_request *req)
{
	free_easy(request_detach(req), req->header_list);
	free(req->detail);
	req->easy = NULL;
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

void request_finish(struct http_request *req, CURLcode code)
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
