/* One request to a bucket: keys are waited for if need be, the request is signed, its answer judged. If the
 * session's keys are expired they are got anew once, and the request is sent again; and so it is with the
 * MD5 of its body where the bucket wants that, as one with Object Lock does.
 * Errors: those of s3_fault.h and aws_credentials.h; nothing else is tried twice.
 * Thread: loop. */
#ifndef DAEMON_BACKEND_S3_REQUEST_H
#define DAEMON_BACKEND_S3_REQUEST_H

#include "daemon/backend/aws_credentials.h"
#include "daemon/backend/backend.h"
#include "daemon/backend/s3_fault.h"
#include "daemon/body/body.h"
#include "daemon/loop/work.h"

struct s3_bucket {
	struct loop *loop;
	struct s3_place place;
	struct http_client *client;
	struct aws_credentials *credentials;
	char *storage_class;   /* header line, or NULL */
	bool is_unconditional; /* the server refused If-None-Match, and took the same without */
	bool wants_md5;        /* it refused what came without */
};

struct s3_request;
typedef void (*s3_done_fn)(struct s3_request *req);

#define S3_HEADERS_MAX 4

struct s3_request { /* the caller's until done; zero it before each start */
	/* What to do; borrowed until done. */
	enum http_method method;
	const char *key;
	const char *query; /* sorted, escaped, each name with "="; or NULL */
	const char *headers[S3_HEADERS_MAX];
	size_t n_headers;
	const void *data;
	size_t data_len;
	struct body *body; /* or a piece of a body, which is all there */
	uint64_t body_offset, body_len;
	void (*progress)(struct s3_request *req, uint64_t n_bytes); /* or NULL: so much of the piece went */
	size_t answer_max_bytes;
	struct http_sink *sink; /* or NULL */

	/* What came of it: http's outcome, and what the code says. */
	s3_done_fn done;
	struct error err;
	bool is_server_fault;
	struct s3_fault fault;
	struct http_request http; /* its status, answer, headers; its answer goes with s3_request_fini */

	/* its own */
	struct s3_bucket *bucket;
	struct aws_keys *keys;
	struct http_signing signing;
	struct aws_wait wait;
	char *url;
	struct http_source source;
	struct work work;
	char md5_line[48]; /* "" before it is known */
	const char *all_headers[S3_HEADERS_MAX + 1];
	bool is_waiting, is_hashing, is_canceled, was_renewed;
	struct loop_post post;
};

void s3_request_start(struct s3_bucket *bucket, struct s3_request *req, s3_done_fn done);
void s3_request_cancel(struct s3_request *req); /* done still fires; takes one that does not run */
void s3_request_fini(struct s3_request *req);   /* leaves it zeroed; it must not run */
/* Does it say that there is no such object? 403 is what those get who may not list the bucket. */
bool s3_request_is_missing(const struct s3_request *req);

/* Of the seam: reads an object of BUCKET. */
void s3_read_start(struct s3_bucket *bucket, struct backend_read *read, const char *key);

/* Appends "NAME=VALUE" to a query, VALUE escaped as a signature needs it. */
void s3_put_query(struct buf *query, const char *name, const char *value);

#endif
