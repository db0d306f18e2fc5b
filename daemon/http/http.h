/* HTTP on the loop: curl's multi interface behind requests that are started, may be canceled, and
 * are done exactly once. One struct http holds all connections; a struct http_client says how to
 * reach one cache (proxy, certificates, credentials) and holds what bounds it (requests at a time,
 * bytes a second). HTTP/2 is used where TLS offers it, its streams share a connection.
 *
 * Limits: there is no limit to the whole time of what sends; one that moves less than 16 bytes a second for
 * stall_timeout_ms (while it has something to send) ends. A GET or HEAD without a sink has ten times as long
 * in all, a connection as long, and 15 s at most. Answers are cut off at answer_max_bytes, their heads at
 * 256 KiB. Redirects are followed for GET and HEAD only, never from https to http; credentials stay with the
 * host they are for. A client with no_redirects follows none.
 * Errors: see http_classify in fault.h. Texts show URLs without credentials and query.
 * Thread: loop. http_open makes the process ignore SIGPIPE (OpenSSL would raise it). */
#ifndef DAEMON_HTTP_HTTP_H
#define DAEMON_HTTP_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/buf.h"
#include "daemon/loop/loop.h"

struct http;
typedef void (*http_closed_fn)(void *ctx);

int http_open(struct http **ret, struct loop *loop, struct error *err) MUST_CHECK;
/* Every client must be closed; may be called from a request's done. Pooled connections are shut,
 * then CLOSED(CTX) fires in a later turn and HTTP is gone. Takes NULL (CLOSED is then not called). */
void http_close(struct http *http, http_closed_fn closed, void *ctx);

struct http_options {        /* copied; NULL and 0 mean the default */
	const char *proxy;   /* "": none; default: http_proxy, https_proxy, no_proxy of the environment */
	const char *ca_file; /* default: NIX_SSL_CERT_FILE, SSL_CERT_FILE, then the system's */
	const char *client_cert_file;
	const char *client_key_file;
	const char *netrc_file;
	const char *token;         /* sent as a bearer token; wiped when the client closes */
	unsigned max_requests;     /* at a time, and so connections; default 32 */
	uint64_t rate_bytes;       /* of bodies sent, a second; default unlimited */
	uint64_t stall_timeout_ms; /* default 60 s */
	uint64_t whole_timeout_ms; /* of a request, from its launch; default none */
	bool no_redirects;
};

struct http_client;
int http_client_open(struct http_client **ret, struct http *http, const struct http_options *options,
                     struct error *err) MUST_CHECK;
void http_client_close(struct http_client *client); /* every request must be done; takes NULL */

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_PUT, HTTP_POST, HTTP_DELETE };
const char *http_method_name(enum http_method method);

#define HTTP_SOURCE_WAIT   (-1) /* nothing yet: http_resume says when */
#define HTTP_SOURCE_FAILED (-2)

/* A body that is pulled. */
struct http_source {
	/* Copies up to N_BYTES of the body from OFFSET on; OFFSET goes back when curl sends anew on a
	 * fresh connection. Returns how many, 0 at the end, or one of the above; with
	 * HTTP_SOURCE_FAILED it fills ERR, the request is torn off and ends with that.
	 * It may not call http_*. */
	ssize_t (*read)(struct http_source *source, uint64_t offset, void *data, size_t n_bytes,
	                struct error *err);
};

#define HTTP_SINK_WAIT   1 /* it takes nothing now; http_resume says when to come again with the same */
#define HTTP_SINK_FAILED (-1)

/* Where the body of a good answer goes as it comes, however long it is; that of any other is kept. */
struct http_sink {
	/* Takes all of it and returns 0, or one of the above; with HTTP_SINK_FAILED it fills ERR, and the
	 * request ends with that. It may be called from within http_resume, and may not call http_*. */
	int (*write)(struct http_sink *sink, const void *data, size_t n_bytes, struct error *err);
};

/* AWS's signature, version 4, for the service s3. The body is not part of it (UNSIGNED-PAYLOAD). Such a
 * request goes through a client without redirects, since a signature is for one host; its query must be
 * sorted, each name with "=", and escaped in upper case: it is signed as it stands. A header line without
 * a value would be signed and not be sent: do not give one. */
struct http_signing {
	const char *key_id, *secret;
	const char *session_token; /* or NULL */
	const char *region;
};

struct http_request;
typedef void (*http_done_fn)(struct http_request *req);

#define HTTP_LENGTH_UNKNOWN UINT64_MAX /* sent chunked, or as an HTTP/2 stream */

struct http_request { /* the caller's until done; zero it before each start */
	/* What to do; everything pointed at is borrowed until done. */
	enum http_method method;
	const char *url;
	const char *const *headers; /* "Name: value" */
	size_t n_headers;
	const void *data; /* body of a PUT or POST; up to 1 MiB go without waiting for "100 Continue" */
	size_t data_len;
	struct http_source *source; /* or a body that is pulled */
	uint64_t source_len;
	struct http_sink *sink;             /* or NULL: the answer is kept */
	const struct http_signing *signing; /* or NULL; instead of token and netrc */
	const char *secret;                 /* or NULL: what headers or body show, see fault.h */
	size_t answer_max_bytes; /* kept of the answer's body; a good answer that is longer is OPERATOR */

	/* What came of it. */
	http_done_fn done;
	struct error err; /* kind ERROR_NONE: a status of 2xx */
	unsigned status;  /* 0: no answer */
	/* The fault is not this request's: nothing of it was sent (refused, unresolvable, TLS), or 401. */
	bool is_server_fault;
	struct buf answer;       /* the caller's from done on: buf_fini */
	uint64_t content_length; /* what the answer says of itself; HTTP_LENGTH_UNKNOWN if nothing */
	uint64_t sent_bytes;     /* of the body, up to now */

	/* http's own. */
	struct http_client *client;
	void *easy;                       /* CURL; NULL while not running */
	void *header_list;                /* curl_slist */
	char *detail;                     /* curl's error buffer */
	bool is_paused;                   /* the source had nothing, or the sink took nothing */
	bool is_throttled;                /* the rate had nothing; linked below */
	bool is_ending;                   /* done is posted */
	bool is_answer_long;              /* cut off */
	bool is_head_long, is_head_whole; /* the answer's */
	bool is_garbled;                  /* it is not HTTP */
	size_t head_bytes;
	uint64_t offset; /* of the source */
	struct http_request *next, **prev;
	struct loop_post post;
};

void http_start(struct http_client *client, struct http_request *req, http_done_fn done);
void http_cancel(struct http_request *req); /* done still fires, CANCELED unless it had ended */
/* The source has more, has ended, or has failed. */
void http_resume(struct http_request *req);
/* A header of the (last) answer, or NULL. Only inside done, borrowed until it returns. */
const char *http_get_header(const struct http_request *req, const char *name);

/* BASE "/" KEY, each byte of KEY percent-encoded that is not plain in a path. For the caller to
 * free; NULL: no memory. */
char *http_join_url(const char *base, const char *key);

#endif
