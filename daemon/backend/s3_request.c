/*   start -> [waiting for keys] -> [hashing] -> sent -> judged -> done
 *                  ^                   ^                   |
 *                  +-- expired, once --+-- wants an MD5 ---+                                          */
#include "daemon/backend/s3_request.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define MD5_BYTES  16
#define READ_BYTES KIB(64)

void s3_put_query(struct buf *query, const char *name, const char *value)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

	buf_printf(query, "%s%s=", query->len > 0 ? "&" : "", name);
	for (; *value != '\0'; value++) {
		if (strchr(plain, *value) != NULL)
			buf_putc(query, *value);
		else
			buf_printf(query, "%%%02X", (unsigned char)*value);
	}
}

static char *make_url(const struct s3_request *req)
{
	char *base = http_join_url(req->bucket->place.base_url, req->key), *url;
	struct buf text;

	if (base == NULL || req->query == NULL)
		return base;
	buf_init(&text, KIB(64));
	buf_printf(&text, "%s?%s", base, req->query);
	url = buf_take(&text);
	buf_fini(&text);
	free(base);
	return url;
}

static void request_end(struct s3_request *req, const struct error *err)
{
	if (err != &req->err)
		req->err = *err;
	aws_keys_unref(req->keys);
	req->keys = NULL;
	req->done(req);
}

static void on_end(struct loop_post *post)
{
	struct s3_request *req = CONTAINER_OF(post, struct s3_request, post);

	request_end(req, &req->err);
}

/* HEAD has no body to say so, and S3 calls an expired session a bad request. */
static bool is_expired(const struct s3_request *req)
{
	return req->fault.cause == S3_EXPIRED ||
	       (req->method == HTTP_HEAD && req->http.status == 400 && req->keys->token != NULL);
}

/* The MD5 of the body */

static int digest(const struct s3_request *req, EVP_MD_CTX *ctx, struct error *err)
{
	char data[READ_BYTES];

	for (uint64_t at = 0; at < req->body_len;) {
		uint64_t n_left = req->body_len - at;
		ssize_t n = body_read(req->body, req->body_offset + at, data,
		                      n_left < sizeof(data) ? (size_t)n_left : sizeof(data), err);

		if (n <= 0 || EVP_DigestUpdate(ctx, data, (size_t)n) != 1)
			return -1;
		at += (uint64_t)n;
	}
	return req->body != NULL || EVP_DigestUpdate(ctx, req->data, req->data_len) == 1 ? 0 : -1;
}

static void run_hash(struct work *work)
{
	struct s3_request *req = CONTAINER_OF(work, struct s3_request, work);
	static const char name[] = "Content-MD5: ";
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char md5[EVP_MAX_MD_SIZE];

	error_set(&req->err, ERROR_TRANSIENT, "no MD5 of what is to be sent could be made");
	if (ctx != NULL && EVP_DigestInit_ex(ctx, EVP_md5(), NULL) == 1 && digest(req, ctx, &req->err) == 0 &&
	    EVP_DigestFinal_ex(ctx, md5, NULL) == 1) {
		strcpy(req->md5_line, name);
		EVP_EncodeBlock((unsigned char *)req->md5_line + strlen(name), md5, MD5_BYTES);
		req->err = (struct error){ 0 };
	}
	EVP_MD_CTX_free(ctx);
}

static void send_request(struct s3_request *req);

static void on_hashed(struct work *work)
{
	struct s3_request *req = CONTAINER_OF(work, struct s3_request, work);

	req->is_hashing = false;
	if (req->is_canceled)
		error_set(&req->err, ERROR_CANCELED, "canceled");
	if (req->err.kind == ERROR_NONE)
		send_request(req);
	else
		request_end(req, &req->err);
}

static bool must_hash(const struct s3_request *req)
{
	return req->bucket->wants_md5 && req->method == HTTP_PUT && req->md5_line[0] == '\0';
}

static bool wants_md5(const struct s3_request *req)
{
	return req->http.status == 400 && req->method == HTTP_PUT && req->md5_line[0] == '\0' &&
	       strstr(req->http.err.text, "Content-MD5") != NULL;
}

/* Sending */

static void get_keys(struct s3_request *req);

static void on_answer(struct http_request *http)
{
	struct s3_request *req = CONTAINER_OF(http, struct s3_request, http);

	s3_judge(&req->fault, http, &req->bucket->place);
	req->is_server_fault = http->is_server_fault;
	if (http->err.kind != ERROR_NONE && is_expired(req)) {
		aws_credentials_drop(req->bucket->credentials, req->keys);
		if (!req->was_renewed) {
			req->was_renewed = true;
			aws_keys_unref(req->keys);
			req->keys = NULL;
			get_keys(req);
			return;
		}
		/* Once more will not help; later it may. */
		if (req->fault.cause != S3_EXPIRED)
			http->err.kind = ERROR_TRANSIENT;
	} else if (req->fault.cause == S3_BAD_KEYS) {
		aws_credentials_drop(req->bucket->credentials, req->keys);
	} else if (wants_md5(req)) {
		req->bucket->wants_md5 = true;
		send_request(req);
		return;
	}
	request_end(req, &http->err);
}

static ssize_t read_body(struct http_source *source, uint64_t offset, void *data, size_t n_bytes,
                         struct error *err)
{
	struct s3_request *req = CONTAINER_OF(source, struct s3_request, source);
	ssize_t n;

	if (offset >= req->body_len)
		return 0;
	if (n_bytes > req->body_len - offset)
		n_bytes = (size_t)(req->body_len - offset);
	n = body_read(req->body, req->body_offset + offset, data, n_bytes, err);
	if (n < 0)
		return HTTP_SOURCE_FAILED;
	if (req->progress != NULL)
		req->progress(req, offset + (uint64_t)n);
	return n;
}

static size_t gather_headers(struct s3_request *req)
{
	size_t n = req->n_headers;

	memcpy(req->all_headers, req->headers, n * sizeof(req->headers[0]));
	if (req->md5_line[0] != '\0')
		req->all_headers[n++] = req->md5_line;
	return n;
}

static void send_request(struct s3_request *req)
{
	buf_fini(&req->http.answer);
	if (must_hash(req)) {
		req->is_hashing = true;
		work_start(req->bucket->loop, &req->work, run_hash, on_hashed);
		return;
	}
	req->source.read = read_body;
	req->signing = (struct http_signing){
		.key_id = req->keys->id,
		.secret = req->keys->secret,
		.session_token = req->keys->token,
		.region = req->bucket->place.region,
	};
	req->http = (struct http_request){
		.method = req->method,
		.url = req->url,
		.headers = req->all_headers,
		.n_headers = gather_headers(req),
		.data = req->data,
		.data_len = req->data_len,
		.source = req->body != NULL ? &req->source : NULL,
		.source_len = req->body_len,
		.answer_max_bytes = req->answer_max_bytes > 0 ? req->answer_max_bytes : KIB(64),
		.sink = req->sink,
		.signing = &req->signing,
	};
	http_start(req->bucket->client, &req->http, on_answer);
}

static void on_keys(struct aws_wait *wait)
{
	struct s3_request *req = CONTAINER_OF(wait, struct s3_request, wait);

	req->is_waiting = false;
	req->keys = wait->keys;
	if (req->is_canceled)
		error_set(&wait->err, ERROR_CANCELED, "canceled");
	if (wait->err.kind == ERROR_NONE) {
		send_request(req);
		return;
	}
	/* Whatever the path: without keys none goes. */
	req->is_server_fault = wait->err.kind != ERROR_CANCELED;
	request_end(req, &wait->err);
}

static void get_keys(struct s3_request *req)
{
	struct aws_keys *keys = aws_credentials_now(req->bucket->credentials);

	if (keys != NULL) {
		req->keys = aws_keys_ref(keys);
		send_request(req);
		return;
	}
	req->is_waiting = true;
	req->wait = (struct aws_wait){ 0 };
	aws_wait_start(req->bucket->credentials, &req->wait, on_keys);
}

void s3_request_start(struct s3_bucket *bucket, struct s3_request *req, s3_done_fn done)
{
	req->bucket = bucket;
	req->done = done;
	req->url = make_url(req);
	if (req->url == NULL) {
		error_set(&req->err, ERROR_TRANSIENT, "out of memory");
		loop_post(bucket->loop, &req->post, on_end);
		return;
	}
	get_keys(req);
}

void s3_request_cancel(struct s3_request *req)
{
	req->is_canceled = true;
	if (req->is_waiting)
		aws_wait_cancel(&req->wait);
	else if (req->is_hashing)
		work_cancel(&req->work);
	else
		http_cancel(&req->http);
}

bool s3_request_is_missing(const struct s3_request *req)
{
	unsigned status = req->http.status;

	return (status == 404 || status == 410 || status == 403) && !req->is_server_fault &&
	       req->err.kind != ERROR_TRANSIENT;
}

void s3_request_fini(struct s3_request *req)
{
	buf_fini(&req->http.answer);
	free(req->url);
	*req = (struct s3_request){ 0 };
}
