/* What the files of this room share:
 *
 *	http.c     curl's multi handle on the loop        client.c   whose turn it is: lines, the rate
 *	request.c  a request as an easy handle            fault.c    what its end means
 *
 * Thread: the loop thread. */
#ifndef DAEMON_HTTP_INTERNAL_H
#define DAEMON_HTTP_INTERNAL_H

#include <curl/curl.h>

#include "daemon/http/http.h"
#include "daemon/loop/timer.h"

struct http {
	struct loop *loop;
	CURLM *multi;
	struct timer timer;
	size_t n_handles; /* of libuv's, open */
	size_t n_clients;
	unsigned n_places; /* requests at a time, of all clients */
	bool lacks_watch;  /* the last connection could not be watched */
	bool closing;
	http_closed_fn closed;
	void *closed_ctx;
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

/* May something be sent now? If not, the client goes on by itself when it may. */
bool client_may_send(struct http_client *client);
void client_note_sent(struct http_client *client, uint64_t n_bytes);
/* Has REQ, which runs, wait until something may be sent; and takes it out of that line. */
void client_throttle(struct http_request *req);
void client_unthrottle(struct http_request *req);
/* Lets run what may, in the order of arrival. */
void client_launch(struct http_client *client);

/* Makes the easy handle and gives it to curl. Errors: TRANSIENT in REQ's err. */
int request_run(struct http_request *req) MUST_CHECK;
/* A paused request does not move, and does not stall either; but curl would end it. */
void request_pause(struct http_request *req);
void request_unpause(struct http_request *req);
/* Takes the transfer from curl before its end. */
void request_abort(struct http_request *req);
/* What is over for curl: classified, and returned to its owner, who may close us. */
void request_finish(struct http_request *req, CURLcode code);
/* Calls done. */
void request_done(struct http_request *req);

#endif
