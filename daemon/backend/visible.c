#include "daemon/backend/visible.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/backend/kind.h"

#define ASK_MS 10000

struct visible {
	struct http_client *client;
	char *url;
	char *store_dir;
};

struct visible_call {
	struct op_call head;
	struct visible *visible;
	struct backend_op *op;
	struct http_request req;
};

int visible_open(struct visible **ret, struct http *http, const struct http_options *options,
                 const char *base_url, const char *store_dir, struct error *err)
{
	struct http_options nobody = *options;
	struct visible *visible = calloc(1, sizeof(*visible));

	nobody.token = NULL;
	nobody.netrc_file = NULL;
	nobody.client_cert_file = NULL;
	nobody.client_key_file = NULL;
	nobody.whole_timeout_ms = ASK_MS;
	nobody.max_requests = 1;
	if (visible == NULL || (visible->url = http_join_url(base_url, CACHE_INFO_KEY)) == NULL ||
	    (visible->store_dir = strdup(store_dir)) == NULL) {
		error_set(err, ERROR_TRANSIENT, "out of memory");
		goto fail;
	}
	if (http_client_open(&visible->client, http, &nobody, err) < 0)
		goto fail;
	*ret = visible;
	return 0;
fail:
	visible_close(visible);
	return -1;
}

void visible_close(struct visible *visible)
{
	if (visible == NULL)
		return;
	http_client_close(visible->client);
	free(visible->url);
	free(visible->store_dir);
	free(visible);
}

/* Some servers hide what may not be read. An answer that is neither, such as a login page, tells nothing. */
static enum visibility judge(const struct visible *visible, const struct http_request *req)
{
	struct error err;

	if (req->status == 401 || req->status == 403 || req->status == 404)
		return VISIBILITY_PRIVATE;
	if (req->err.kind != ERROR_NONE ||
	    check_cache_info(visible->url, buf_text(&req->answer), visible->store_dir, &err) < 0)
		return VISIBILITY_UNKNOWN;
	return VISIBILITY_PUBLIC;
}

static void on_answer(struct http_request *req)
{
	struct visible_call *call = CONTAINER_OF(req, struct visible_call, req);
	struct backend_op *op = call->op;

	if (req->err.kind == ERROR_CANCELED)
		op->err = req->err;
	else
		op->backend->announced.visibility = judge(call->visible, req);
	buf_fini(&req->answer);
	free(call);
	op->call = NULL;
	op->done(op);
}

static void call_cancel(struct backend_op *op)
{
	struct visible_call *call = op->call;

	http_cancel(&call->req);
}

void visible_ask_start(struct visible *visible, struct backend *backend, struct backend_op *op)
{
	struct visible_call *call = calloc(1, sizeof(*call));

	op_begin(backend, op);
	if (call == NULL) {
		op_end_later(op); /* it stays unknown */
		return;
	}
	call->head.cancel = call_cancel;
	call->visible = visible;
	call->op = op;
	op->call = call;
	call->req.method = HTTP_GET;
	call->req.url = visible->url;
	call->req.answer_max_bytes = CACHE_INFO_MAX_BYTES;
	http_start(visible->client, &call->req, on_answer);
}
