/* Reading an object of a cache that is reached by plain requests: a GET whose answer goes on as it comes, or
 * a HEAD. What a server means by "not there" is as in http_cache.c. */
#include <stdlib.h>
#include <string.h>

#include "daemon/backend/kind.h"
#include "daemon/http/fault.h"

#define REFUSAL_MAX_BYTES KIB(64)

struct read_call {
	struct backend_read *read;
	char *url;
	struct http_request req;
	struct http_sink sink;
};

static void call_free(struct read_call *call)
{
	if (call == NULL)
		return;
	buf_fini(&call->req.answer);
	free(call->url);
	free(call);
}

static void on_answer(struct http_request *req)
{
	struct read_call *call = CONTAINER_OF(req, struct read_call, req);
	struct backend_read *read = call->read;
	bool is_missing = req->status == 404 || req->status == 410 || req->status == 403;

	/* The sink may have refused it. */
	if (req->status >= 200 && req->status < 300 && req->err.kind != ERROR_CANCELED && is_web_page(req))
		fail_web_page(req, &req->err);
	read->found = req->err.kind == ERROR_NONE;
	if (read->found && req->content_length != HTTP_LENGTH_UNKNOWN)
		read->size_bytes = req->content_length;
	if (!read->found && !is_missing) {
		read->err = req->err;
		read->is_server_fault = req->is_server_fault;
	}
	read->call = NULL;
	call_free(call);
	read->done(read);
}

static int on_data(struct http_sink *sink, const void *data, size_t n_bytes, struct error *err)
{
	struct backend_read *read = CONTAINER_OF(sink, struct read_call, sink)->read;

	return read->write(read, data, n_bytes, err);
}

static void resume(struct backend_read *read)
{
	struct read_call *call = read->call;

	http_resume(&call->req);
}

static void cancel(struct backend_read *read)
{
	struct read_call *call = read->call;

	http_cancel(&call->req);
}

/* As Nix does: what a narinfo calls its URL is put behind as it is, with its query if it has one. */
static char *join(const char *base, const char *key)
{
	size_t len = strlen(base), n_key = strlen(key) + 1;
	char *url = malloc(len + 1 + n_key);

	while (len > 0 && base[len - 1] == '/')
		len--;
	if (url == NULL)
		return NULL;
	memcpy(url, base, len);
	url[len] = '/';
	memcpy(url + len + 1, key, n_key);
	return url;
}

void http_read_start(struct loop *loop, struct http_client *client, const char *base,
                     struct backend_read *read, const char *key)
{
	struct read_call *call = calloc(1, sizeof(*call));

	read->loop = loop;
	if (call == NULL || (call->url = join(base, key)) == NULL) {
		call_free(call);
		error_set(&read->err, ERROR_TRANSIENT, "out of memory");
		read_end_later(read);
		return;
	}
	call->read = read;
	call->sink.write = on_data;
	call->req.method = read->write != NULL ? HTTP_GET : HTTP_HEAD;
	call->req.url = call->url;
	call->req.answer_max_bytes = REFUSAL_MAX_BYTES;
	call->req.sink = read->write != NULL ? &call->sink : NULL;
	read->call = call;
	read->resume = resume;
	read->cancel = cancel;
	http_start(client, &call->req, on_answer);
}
