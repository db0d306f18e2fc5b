/* Whose turn it is. A request waits in its client's line until one of max_requests places is free, and what
 * has a body in memory also until the rate allows; one with a source asks before each piece. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/http/internal.h"

#define MAX_REQUESTS         32
#define STALL_TIMEOUT_MS     60000
#define CONNECT_TIMEOUT_MS   15000
#define THROTTLE_MIN_WAIT_MS 10

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

/* ---- the rate -------------------------------------------------------------------------------- */

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

bool client_may_send(struct http_client *client)
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

void client_note_sent(struct http_client *client, uint64_t n_bytes)
{
	if (client->rate_bytes != 0)
		client->tokens -= (int64_t)n_bytes;
}

void client_throttle(struct http_request *req)
{
	req->is_throttled = true;
	line_append(&req->client->throttled, req);
	request_pause(req);
}

void client_unthrottle(struct http_request *req)
{
	req->is_throttled = false;
	line_remove(&req->client->throttled, req);
}

/* ---- requests -------------------------------------------------------------------------------- */

static void on_end(struct loop_post *post)
{
	request_done(CONTAINER_OF(post, struct http_request, post));
}

static void request_end_later(struct http_request *req)
{
	req->is_ending = true;
	loop_post(req->client->http->loop, &req->post, on_end);
}

void client_launch(struct http_client *client)
{
	while (client->waiting.first != NULL && client->n_running < client->max_requests) {
		struct http_request *req = client->waiting.first;

		if (req->data_len > 0 && !client_may_send(client))
			return;
		line_remove(&client->waiting, req);
		if (request_run(req) < 0)
			request_end_later(req);
	}
}

static void on_refill(struct timer *timer)
{
	struct http_client *client = CONTAINER_OF(timer, struct http_client, refill);

	if (!client_may_send(client))
		return;
	while (client->throttled.first != NULL && client->tokens > 0) {
		struct http_request *req = client->throttled.first;

		client_unthrottle(req);
		request_unpause(req);
	}
	client_launch(client);
}

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
		request_abort(req);
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

/* ---- clients --------------------------------------------------------------------------------- */

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
