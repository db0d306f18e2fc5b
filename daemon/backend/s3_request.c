/*   start -> [waiting for keys] -> sent -> judged -> done
 *                  ^                         |
 *                  +---- expired, once ------+                                                        */
#include "daemon/backend/s3_request.h"

#include <stdlib.h>
#include <string.h>

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
	}
	request_end(req, &http->err);
}

static void send_request(struct s3_request *req)
{
	buf_fini(&req->http.answer);
	req->signing = (struct http_signing){
		.key_id = req->keys->id,
		.secret = req->keys->secret,
		.session_token = req->keys->token,
		.region = req->bucket->place.region,
	};
	req->http = (struct http_request){
		.method = req->method,
		.url = req->url,
		.headers = req->headers,
		.n_headers = req->n_headers,
		.data = req->data,
		.data_len = req->data_len,
		.source = req->source,
		.source_len = req->source_len,
		.answer_max_bytes = req->answer_max_bytes > 0 ? req->answer_max_bytes : KIB(64),
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
	else
		http_cancel(&req->http);
}

void s3_request_fini(struct s3_request *req)
{
	buf_fini(&req->http.answer);
	free(req->url);
	*req = (struct s3_request){ 0 };
}
