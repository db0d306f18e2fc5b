/* Reading an object of a bucket: a signed GET whose answer goes on as it comes, or a HEAD. */
#include <stdlib.h>
#include <string.h>

#include "daemon/backend/kind.h"
#include "daemon/backend/s3_request.h"

struct read_call {
	struct backend_read *read;
	char *key;
	struct s3_request req;
	struct http_sink sink;
};

static void call_free(struct read_call *call)
{
	if (call == NULL)
		return;
	s3_request_fini(&call->req);
	free(call->key);
	free(call);
}

static void on_answer(struct s3_request *req)
{
	struct read_call *call = CONTAINER_OF(req, struct read_call, req);
	struct backend_read *read = call->read;

	read->found = req->err.kind == ERROR_NONE;
	if (read->found && req->http.content_length != HTTP_LENGTH_UNKNOWN)
		read->size_bytes = req->http.content_length;
	if (!read->found && !s3_request_is_missing(req)) {
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

	http_resume(&call->req.http);
}

static void cancel(struct backend_read *read)
{
	struct read_call *call = read->call;

	s3_request_cancel(&call->req);
}

void s3_read_start(struct s3_bucket *bucket, struct backend_read *read, const char *key)
{
	struct read_call *call = calloc(1, sizeof(*call));

	read->loop = bucket->loop;
	if (call == NULL || (call->key = strdup(key)) == NULL) {
		call_free(call);
		error_set(&read->err, ERROR_TRANSIENT, "out of memory");
		read_end_later(read);
		return;
	}
	call->read = read;
	call->sink.write = on_data;
	call->req.method = read->write != NULL ? HTTP_GET : HTTP_HEAD;
	call->req.key = call->key;
	call->req.sink = read->write != NULL ? &call->sink : NULL;
	read->call = call;
	read->resume = resume;
	read->cancel = cancel;
	s3_request_start(bucket, &call->req, on_answer);
}
