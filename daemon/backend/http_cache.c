/* A cache behind plain HTTP: GET and HEAD ask, PUT puts. What RFC 9110 offers is used, and done
 * without where a server does not know it: `If-None-Match: *`, so that nothing is overwritten, and
 * bodies without a length, so that a long NAR goes while it is packed.
 *
 *   find      ASKING -> done
 *   prepare   ASKING --missing--> SENDING, as put
 *   put       WAITING for the body -> SENDING --good--> done
 *                ^                      |--400 411 501 to a body without length--> WAITING for its end
 *                +----------------------|--400 501 to the condition--> SENDING once more, without it
 *                                       +--403 409 412, or a web page--> LOOKING --it is there--> done
 *                                                                           +--else, the refusal--> done
 *
 * Networks that want a login first answer everything with a web page, with 200 if need be: that is no object,
 * and neither is it one that was taken.
 *
 * A body that fails, and a cancel, tear the request off; the server then keeps nothing (I7). */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash.h"
#include "common/log.h"
#include "daemon/backend/kind.h"
#include "daemon/backend/object.h"
#include "daemon/backend/probe.h"
#include "daemon/backend/visible.h"
#include "daemon/http/fault.h"

#define STREAM_FROM_BYTES (BODY_BLOCKS_MAX * BODY_BLOCK_BYTES)

struct http_cache {
	struct backend backend;
	struct http_client *client;
	struct visible *visible; /* NULL for reading only */
	char *url;
	char *store_dir;
	bool is_unconditional; /* it refused If-None-Match, and took the same without */
};

enum call_state { CALL_NEW, CALL_ASKING, CALL_WAITING, CALL_SENDING, CALL_LOOKING };

struct http_call {
	struct op_call head;
	struct http_cache *cache;
	struct backend_op *op;
	enum call_state state;
	const struct object_type *type;
	const char *subject; /* whose object: see object.h */
	char *url;
	struct http_request req;

	const char *text; /* a put: of this text */
	size_t len;
	char cache_info[CACHE_INFO_TEXT_SIZE];
	struct body *body; /* or of this body */
	struct body_watch watch;
	struct http_source source;
	const char *headers[2];
	bool is_conditional;
	struct error refusal; /* what was answered before */
};

/* Calls */

static void call_free(struct http_call *call)
{
	if (call == NULL)
		return;
	body_unwatch(&call->watch);
	body_unref(call->body);
	buf_fini(&call->req.answer);
	free(call->url);
	free(call);
}

static void call_cancel(struct backend_op *op);

static struct http_call *call_new(struct backend *backend, struct backend_op *op,
                                  const struct object_type *type, const char *key)
{
	struct http_cache *cache = CONTAINER_OF(backend, struct http_cache, backend);
	struct http_call *call = calloc(1, sizeof(*call));
	char *url = http_join_url(cache->url, key);

	op_begin(backend, op);
	if (call == NULL || url == NULL) {
		free(call);
		free(url);
		error_set(&op->err, ERROR_TRANSIENT, "out of memory");
		op_end_later(op);
		return NULL;
	}
	call->cache = cache;
	call->op = op;
	call->type = type;
	call->url = url;
	call->head.cancel = call_cancel;
	op->call = call;
	return call;
}

/* ERR may be of the call itself; NULL: it went well. */
static void call_settle(struct http_call *call, const struct error *err)
{
	struct backend_op *op = call->op;

	if (err != NULL)
		op->err = *err;
	op->is_server_fault = err == &call->req.err && call->req.is_server_fault;
	op->call = NULL;
	call_free(call);
}

static void call_end(struct http_call *call, const struct error *err)
{
	struct backend_op *op = call->op;

	call_settle(call, err);
	op->done(op);
}

static void call_end_later(struct http_call *call, const struct error *err)
{
	struct backend_op *op = call->op;

	call_settle(call, err);
	op_end_later(op);
}

static void call_request(struct http_call *call, enum call_state state, http_done_fn done)
{
	call->state = state;
	call->req.url = call->url;
	http_start(call->cache->client, &call->req, done);
}

static void call_clear_request(struct http_call *call)
{
	buf_fini(&call->req.answer);
	call->req = (struct http_request){ 0 };
}

/* Asking */

enum verdict { VERDICT_FOUND, VERDICT_MISSING, VERDICT_FAULT };

/* "METHOD URL", as texts begin. */
static const char *format_where(struct buf *out, const struct http_call *call)
{
	buf_printf(out, "%s ", http_method_name(call->req.method));
	http_format_url(out, call->url);
	return buf_text(out);
}

/* What the answer to a look says; a fault is in the request's err, or in ERR if the text is wrong. 403
 * is what a bucket says of a missing object to those who may not list it; Nix takes it so, too. */
static enum verdict judge(struct http_call *call, struct error *err)
{
	struct http_request *req = &call->req;
	struct buf where;
	int rc;

	if (req->status == 404 || req->status == 410 || req->status == 403)
		return VERDICT_MISSING;
	/* Asking for a NAR only spares the sending: a server that cannot be asked gets it. */
	if (call->type == &object_nar && call->state == CALL_ASKING &&
	    (req->status == 405 || req->status == 501))
		return VERDICT_MISSING;
	if (req->err.kind != ERROR_NONE)
		return VERDICT_FAULT;
	if (is_web_page(req)) {
		fail_web_page(req, err);
		return VERDICT_FAULT;
	}
	buf_init(&where, KIB(8));
	rc = call->type->check(format_where(&where, call), &call->req.answer, call->subject, err);
	buf_fini(&where);
	return rc == 0 ? VERDICT_FOUND : VERDICT_FAULT;
}

static void look(struct http_call *call, enum call_state state, http_done_fn done)
{
	call_clear_request(call);
	call->req.method = call->type->look;
	call->req.answer_max_bytes = call->type->max_bytes;
	call_request(call, state, done);
}

static void call_end_found(struct http_call *call)
{
	call->op->found = true;
	if (call->type == &object_info)
		read_nar_url(call->op->nar_url, buf_text(&call->req.answer));
	if (call->type == &object_nar && call->req.content_length != HTTP_LENGTH_UNKNOWN)
		call->op->file_size = call->req.content_length;
	call_end(call, NULL);
}

static void send_start(struct http_call *call);

static void on_asked(struct http_request *req)
{
	struct http_call *call = CONTAINER_OF(req, struct http_call, req);
	struct error err;

	assert(call->state == CALL_ASKING);
	switch (judge(call, &err)) {
	case VERDICT_FOUND:
		call_end_found(call);
		return;
	case VERDICT_MISSING:
		if (call->text != NULL)
			send_start(call);
		else
			call_end(call, NULL);
		return;
	case VERDICT_FAULT:
		call_end(call, req->err.kind != ERROR_NONE ? &req->err : &err);
		return;
	}
}

static void on_looked(struct http_request *req)
{
	struct http_call *call = CONTAINER_OF(req, struct http_call, req);
	struct error err;

	assert(call->state == CALL_LOOKING);
	if (req->err.kind == ERROR_CANCELED)
		call_end(call, &req->err);
	else if (judge(call, &err) == VERDICT_FOUND)
		call_end_found(call);
	else
		call_end(call, &call->refusal);
}

/* Sending */

static ssize_t read_source(struct http_source *source, uint64_t offset, void *data, size_t n_bytes,
                           struct error *err)
{
	struct http_call *call = CONTAINER_OF(source, struct http_call, source);

	if (offset > 0)
		crash_point(NAR_HALF_SENT);
	return op_read_body(call->op, call->body, offset, data, n_bytes, err);
}

static void set_body(struct http_call *call)
{
	struct http_request *req = &call->req;
	const void *whole = call->body != NULL ? body_get_whole(call->body) : call->text;

	if (whole != NULL) {
		req->data = whole;
		req->data_len = call->body != NULL ? body_readable_bytes(call->body) : call->len;
		return;
	}
	call->source.read = read_source;
	req->source = &call->source;
	req->source_len =
		body_state(call->body) == BODY_ENDED ? body_readable_bytes(call->body) : HTTP_LENGTH_UNKNOWN;
}

static void on_sent(struct http_request *req);

static void send_again(struct http_call *call, bool is_conditional)
{
	call_clear_request(call);
	call->is_conditional = is_conditional;
	call->headers[0] = call->type->content_type;
	call->headers[1] = "If-None-Match: *";
	call->req.method = HTTP_PUT;
	call->req.headers = call->headers;
	call->req.n_headers = is_conditional ? 2 : 1;
	call->req.answer_max_bytes = KIB(64);
	set_body(call);
	call_request(call, CALL_SENDING, on_sent);
}

static void send_start(struct http_call *call)
{
	send_again(call, !call->cache->is_unconditional);
}

/* Sends as soon as the body allows: complete, or so long that it had better not wait. */
static void wait_for_body(struct http_call *call)
{
	call->state = CALL_WAITING;
	switch (body_state(call->body)) {
	case BODY_GROWING:
		if (call->cache->backend.streams && body_readable_bytes(call->body) > STREAM_FROM_BYTES)
			send_start(call);
		return;
	case BODY_ENDED:
		send_start(call);
		return;
	case BODY_FAILED:
		call_end_later(call, body_error(call->body));
		return;
	}
}

static void on_body_changed(struct body_watch *watch)
{
	struct http_call *call = CONTAINER_OF(watch, struct http_call, watch);

	if (call->state == CALL_WAITING)
		wait_for_body(call);
	else if (call->state == CALL_SENDING && body_state(call->body) == BODY_FAILED)
		http_cancel(&call->req);
	else if (call->state == CALL_SENDING)
		http_resume(&call->req);
}

static void on_canceled(struct http_call *call)
{
	if (call->body != NULL && body_state(call->body) == BODY_FAILED)
		call_end(call, body_error(call->body));
	else
		call_end(call, &call->req.err);
}

/* It did not know the condition, if it refused that before. */
static void on_taken(struct http_call *call)
{
	if (call->refusal.kind != ERROR_NONE)
		call->cache->is_unconditional = true;
	call_end(call, NULL);
}

/* To be looked at once more: it may be on its way to all of the cache's servers. */
static void fail_condition(struct http_call *call)
{
	struct buf where;

	buf_init(&where, KIB(8));
	error_set(&call->refusal, ERROR_TRANSIENT,
	          "%s: HTTP 412: the cache refuses it as being there, and has it not",
	          format_where(&where, call));
	buf_fini(&where);
}

static void on_sent(struct http_request *req)
{
	struct http_call *call = CONTAINER_OF(req, struct http_call, req);
	bool was_stream = req->source != NULL && req->source_len == HTTP_LENGTH_UNKNOWN;
	unsigned status = req->status;

	assert(call->state == CALL_SENDING);
	if (req->source == NULL)
		call->op->sent_bytes = req->sent_bytes;
	if (req->err.kind == ERROR_CANCELED) {
		on_canceled(call);
	} else if (status == 200 && is_web_page(req)) {
		fail_web_page(req, &call->refusal);
		look(call, CALL_LOOKING, on_looked);
	} else if (req->err.kind == ERROR_NONE) {
		on_taken(call);
	} else if (status == 412 && call->is_conditional) {
		fail_condition(call);
		look(call, CALL_LOOKING, on_looked);
	} else if (was_stream && (status == 400 || status == 411 || status == 501)) {
		log_debug("cache takes no body without length url=%s status=%u", call->cache->url, status);
		call->cache->backend.streams = false;
		wait_for_body(call);
	} else if (call->is_conditional && (status == 400 || status == 501)) {
		call->refusal = req->err;
		send_again(call, false);
	} else if (status == 403 || status == 409) {
		call->refusal = req->err;
		look(call, CALL_LOOKING, on_looked);
	} else {
		call_end(call, &req->err);
	}
}

/* The seam */

static void prepare_start(struct backend *backend, struct backend_op *op)
{
	struct http_call *call = call_new(backend, op, &object_cache_info, CACHE_INFO_KEY);

	if (call == NULL)
		return;
	call->subject = call->cache->store_dir;
	call->len = format_cache_info(call->cache_info, call->cache->store_dir);
	call->text = call->cache_info;
	look(call, CALL_ASKING, on_asked);
}

static struct http_call *call_new_info(struct backend *backend, struct backend_op *op, const char *path)
{
	char key[NARINFO_KEY_SIZE];
	struct http_call *call = call_new(backend, op, &object_info, format_narinfo_key(key, path));

	if (call != NULL)
		call->subject = path;
	return call;
}

static void find_info_start(struct backend *backend, struct backend_op *op, const char *path)
{
	struct http_call *call = call_new_info(backend, op, path);

	if (call != NULL)
		look(call, CALL_ASKING, on_asked);
}

static void find_nar_start(struct backend *backend, struct backend_op *op,
                           const struct backend_object *object)
{
	struct http_call *call = call_new(backend, op, &object_nar, object->nar_key);

	if (call != NULL)
		look(call, CALL_ASKING, on_asked);
}

static void put_nar_start(struct backend *backend, struct backend_op *op, const struct backend_object *object,
                          struct body *body)
{
	struct http_call *call = call_new(backend, op, &object_nar, object->nar_key);

	if (call == NULL)
		return;
	call->body = body_ref(body);
	body_watch(body, &call->watch, on_body_changed);
	wait_for_body(call);
}

static void put_info_start(struct backend *backend, struct backend_op *op,
                           const struct backend_object *object, const char *text, size_t len)
{
	struct http_call *call = call_new_info(backend, op, object->info->path);

	if (call == NULL)
		return;
	call->text = text;
	call->len = len;
	send_start(call);
}

static void read_start(struct backend *backend, struct backend_read *read, const char *key)
{
	struct http_cache *cache = CONTAINER_OF(backend, struct http_cache, backend);

	http_read_start(backend->loop, cache->client, cache->url, read, key);
}

static void call_cancel(struct backend_op *op)
{
	static const struct error canceled = { .kind = ERROR_CANCELED, .text = "canceled" };
	struct http_call *call = op->call;

	if (call->state == CALL_WAITING)
		call_end_later(call, &canceled);
	else
		http_cancel(&call->req);
}

static void probe_start(struct backend *backend, struct backend_op *op)
{
	struct http_cache *cache = CONTAINER_OF(backend, struct http_cache, backend);

	http_probe_start(cache->client, cache->url, cache->store_dir, backend, op);
}

static void look_start(struct backend *backend, struct backend_op *op)
{
	visible_ask_start(CONTAINER_OF(backend, struct http_cache, backend)->visible, backend, op);
}

static void cache_close(struct backend *backend)
{
	struct http_cache *cache = CONTAINER_OF(backend, struct http_cache, backend);

	http_client_close(cache->client);
	visible_close(cache->visible);
	free(cache->url);
	free(cache->store_dir);
	free(cache);
}

static const struct backend_ops http_ops = {
	.kind = PUBLISH_SEPARATE,
	.prepare_start = prepare_start,
	.find_info_start = find_info_start,
	.find_nar_start = find_nar_start,
	.put_nar_start = put_nar_start,
	.put_info_start = put_info_start,
	.probe_start = probe_start,
	.look_start = look_start,
	.read_start = read_start,
	.cancel = op_cancel_call,
	.close = cache_close,
};

static const struct backend_ops http_reading_ops = {
	.find_info_start = find_info_start,
	.cancel = op_cancel_call,
	.close = cache_close,
};

int http_backend_open(struct backend **ret, struct loop *loop, struct http *http,
                      const struct http_options *options, const char *url, const char *store_dir,
                      struct error *err)
{
	struct http_cache *cache = calloc(1, sizeof(*cache));

	if (cache == NULL || (cache->url = strdup(url)) == NULL ||
	    (store_dir != NULL && (cache->store_dir = strdup(store_dir)) == NULL)) {
		error_set(err, ERROR_TRANSIENT, "out of memory");
		goto fail;
	}
	if (http_client_open(&cache->client, http, options, err) < 0 ||
	    (store_dir != NULL && visible_open(&cache->visible, http, options, url, store_dir, err) < 0))
		goto fail;
	announce_reader_url(&cache->backend, url);
	cache->backend.ops = store_dir != NULL ? &http_ops : &http_reading_ops;
	cache->backend.loop = loop;
	cache->backend.streams = true;
	*ret = &cache->backend;
	return 0;
fail:
	if (cache != NULL)
		cache_close(&cache->backend);
	return -1;
}
