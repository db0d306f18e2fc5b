/* A cache in a bucket. As with plain HTTP, GET and HEAD ask and PUT puts; but a body has a length or goes in
 * parts (s3_parts.h), 403 to those who may not list the bucket means that there is nothing, and what a
 * refusal means stands in its XML (s3_fault.h).
 *
 *   find      ASKING -> done
 *   prepare   ASKING --missing--> SENDING, as put
 *   put       WAITING for the body --all of it, at most a part--> SENDING --good, or 412: it is there--> done
 *                |                                                  |--501 to the condition--> SENDING,
 * without
 *                +--more than a part--> IN_PARTS -> done            +--403 409--> LOOKING -> done
 *   abandon   ABANDONING -> done */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash.h"
#include "common/log.h"
#include "daemon/backend/kind.h"
#include "daemon/backend/object.h"
#include "daemon/backend/probe.h"
#include "daemon/backend/s3_parts.h"
#include "daemon/backend/visible.h"
#include "daemon/http/fault.h"

struct s3_cache {
	struct backend backend;
	struct s3_bucket bucket;
	struct visible *visible;
	char *store_dir;
};

enum call_state {
	CALL_NEW,
	CALL_ASKING,
	CALL_WAITING,
	CALL_SENDING,
	CALL_LOOKING,
	CALL_IN_PARTS,
	CALL_ABANDONING,
};

struct s3_call {
	struct op_call head;
	struct s3_cache *cache;
	struct backend_op *op;
	enum call_state state;
	const struct object_type *type;
	char *key;
	const char *subject; /* whose object: see object.h */
	struct s3_request req;

	const char *text; /* a put: of this text */
	size_t len;
	char cache_info[CACHE_INFO_TEXT_SIZE];
	struct body *body; /* or of this body */
	struct body_watch watch;
	uint64_t part_bytes;
	struct s3_parts *parts;
	char query[S3_QUERY_SIZE];
	bool is_conditional;
	struct error refusal; /* what was answered before */
	bool is_refusal_of_server;
};

/* Calls */

static void call_free(struct s3_call *call)
{
	body_unwatch(&call->watch);
	body_unref(call->body);
	s3_request_fini(&call->req);
	free(call->parts);
	free(call->key);
	free(call);
}

static void call_cancel(struct backend_op *op);

static struct s3_call *call_new(struct backend *backend, struct backend_op *op,
                                const struct object_type *type, const char *key)
{
	struct s3_call *call = calloc(1, sizeof(*call));

	op_begin(backend, op);
	if (call == NULL || (call->key = strdup(key)) == NULL) {
		free(call);
		error_set(&op->err, ERROR_TRANSIENT, "out of memory");
		op_end_later(op);
		return NULL;
	}
	call->cache = CONTAINER_OF(backend, struct s3_cache, backend);
	call->op = op;
	call->type = type;
	call->head.cancel = call_cancel;
	op->call = call;
	return call;
}

/* ERR may be of the call itself; NULL: it went well. */
static void call_settle(struct s3_call *call, const struct error *err, bool is_server_fault)
{
	struct backend_op *op = call->op;

	if (err != NULL)
		op->err = *err;
	op->is_server_fault = is_server_fault;
	op->call = NULL;
	call_free(call);
}

static void call_end(struct s3_call *call, const struct error *err)
{
	struct backend_op *op = call->op;

	call_settle(call, err, err == &call->req.err && call->req.is_server_fault);
	op->done(op);
}

static void call_end_later(struct s3_call *call, const struct error *err)
{
	struct backend_op *op = call->op;

	call_settle(call, err, false);
	op_end_later(op);
}

static void call_request(struct s3_call *call, enum call_state state, s3_done_fn done)
{
	call->state = state;
	call->req.key = call->key;
	s3_request_start(&call->cache->bucket, &call->req, done);
}

/* Asking */

enum verdict { VERDICT_FOUND, VERDICT_MISSING, VERDICT_FAULT };

/* What the answer to a look says; a fault is in the request's err, or in ERR if the text is wrong. */
static enum verdict judge(struct s3_call *call, struct error *err)
{
	struct s3_request *req = &call->req;
	struct buf where;
	int rc;

	if (req->err.kind != ERROR_NONE)
		return s3_request_is_missing(req) ? VERDICT_MISSING : VERDICT_FAULT;
	buf_init(&where, KIB(8));
	buf_printf(&where, "%s ", http_method_name(req->method));
	http_format_url(&where, req->url);
	rc = call->type->check(buf_text(&where), &call->req.http.answer, call->subject, err);
	buf_fini(&where);
	return rc == 0 ? VERDICT_FOUND : VERDICT_FAULT;
}

static void look(struct s3_call *call, enum call_state state, s3_done_fn done)
{
	s3_request_fini(&call->req);
	call->req.method = call->type->look;
	call->req.answer_max_bytes = call->type->max_bytes;
	call_request(call, state, done);
}

static void call_end_found(struct s3_call *call)
{
	call->op->found = true;
	if (call->type == &object_info)
		read_nar_url(call->op->nar_url, buf_text(&call->req.http.answer));
	if (call->type == &object_nar && call->req.http.content_length != HTTP_LENGTH_UNKNOWN)
		call->op->file_size = call->req.http.content_length;
	call_end(call, NULL);
}

static void send_start(struct s3_call *call);

static void on_asked(struct s3_request *req)
{
	struct s3_call *call = CONTAINER_OF(req, struct s3_call, req);
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

static void on_looked(struct s3_request *req)
{
	struct s3_call *call = CONTAINER_OF(req, struct s3_call, req);
	struct backend_op *op = call->op;
	struct error err;

	assert(call->state == CALL_LOOKING);
	if (req->err.kind == ERROR_CANCELED) {
		call_end(call, &req->err);
	} else if (judge(call, &err) == VERDICT_FOUND) {
		call_end_found(call);
	} else {
		call_settle(call, &call->refusal, call->is_refusal_of_server);
		op->done(op);
	}
}

/* Sending in one request */

static void on_progress(struct s3_request *req, uint64_t n_bytes)
{
	CONTAINER_OF(req, struct s3_call, req)->op->sent_bytes = n_bytes;
}

static void set_body(struct s3_call *call)
{
	struct s3_request *req = &call->req;
	const void *whole = call->body != NULL ? body_get_whole(call->body) : call->text;

	if (whole != NULL) {
		req->data = whole;
		req->data_len = call->body != NULL ? body_readable_bytes(call->body) : call->len;
		return;
	}
	req->body = call->body;
	req->body_len = body_readable_bytes(call->body);
	req->progress = on_progress;
}

static void on_sent(struct s3_request *req);

static void send_start(struct s3_call *call)
{
	const struct s3_bucket *bucket = &call->cache->bucket;
	struct s3_request *req = &call->req;

	s3_request_fini(req);
	req->method = HTTP_PUT;
	req->headers[req->n_headers++] = call->type->content_type;
	if (bucket->storage_class != NULL)
		req->headers[req->n_headers++] = bucket->storage_class;
	call->is_conditional = !bucket->is_unconditional;
	if (call->is_conditional)
		req->headers[req->n_headers++] = "If-None-Match: *";
	set_body(call);
	call_request(call, CALL_SENDING, on_sent);
}

/* A page that says 200 to everything stored nothing: S3 names what it took. */
static void on_taken(struct s3_call *call)
{
	struct error err;

	if (http_get_header(&call->req.http, "ETag") != NULL) {
		call_end(call, NULL);
		return;
	}
	error_set(&err, ERROR_OPERATOR,
	          "PUT %s/%s: HTTP %u without an ETag: that is not S3; is endpoint right?",
	          call->cache->bucket.place.base_url, call->key, call->req.http.status);
	call_end(call, &err);
}

static void on_sent(struct s3_request *req)
{
	struct s3_call *call = CONTAINER_OF(req, struct s3_call, req);
	unsigned status = req->http.status;

	assert(call->state == CALL_SENDING);
	if (req->body == NULL)
		call->op->sent_bytes = req->http.sent_bytes;
	if (req->err.kind == ERROR_NONE) {
		on_taken(call);
	} else if (status == 412 && call->is_conditional) {
		call->op->found = true;
		call_end(call, NULL);
	} else if (status == 501 && call->is_conditional) {
		log_info("bucket takes no condition url=%s: what is there may be replaced by the same",
		         call->cache->bucket.place.base_url);
		call->cache->bucket.is_unconditional = true;
		send_start(call);
	} else if ((status == 403 || status == 409) && !req->is_server_fault) {
		call->refusal = req->err;
		call->is_refusal_of_server = req->is_server_fault;
		look(call, CALL_LOOKING, on_looked);
	} else {
		call_end(call, &req->err);
	}
}

/* Sending in parts */

static void on_parts(struct s3_parts *parts)
{
	struct s3_call *call = parts->owner;
	struct backend_op *op = call->op;

	op->found = parts->found;
	op->file_size = parts->file_size;
	call_settle(call, &parts->err, parts->is_server_fault);
	op->done(op);
}

/* The key goes with the upload id: what it is of may have changed by the time it is abandoned. */
static void on_upload_id(struct s3_parts *parts, const char *upload_id)
{
	struct s3_call *call = parts->owner;
	static const struct error fine, no_memory = { .kind = ERROR_TRANSIENT, .text = "out of memory" };
	struct buf note;

	if (call->op->note == NULL) {
		s3_parts_noted(parts, &fine);
		return;
	}
	buf_init(&note, KIB(8));
	buf_printf(&note, "%s %s", call->key, upload_id);
	if (buf_ok(&note))
		call->op->note(call->op, buf_text(&note));
	else
		s3_parts_noted(parts, &no_memory);
	buf_fini(&note);
}

static void send_in_parts(struct s3_call *call)
{
	struct s3_parts *parts = calloc(1, sizeof(*parts));
	struct error err;

	if (parts == NULL) {
		error_set(&err, ERROR_TRANSIENT, "out of memory");
		call_end_later(call, &err);
		return;
	}
	call->state = CALL_IN_PARTS;
	call->parts = parts;
	parts->owner = call;
	parts->bucket = &call->cache->bucket;
	parts->body = call->body;
	parts->key = call->key;
	parts->content_type = call->type->content_type;
	parts->part_bytes = call->part_bytes;
	parts->sent_bytes = &call->op->sent_bytes;
	parts->note = on_upload_id;
	parts->done = on_parts;
	s3_parts_start(parts);
}

static void wait_for_body(struct s3_call *call)
{
	call->state = CALL_WAITING;
	if (body_state(call->body) == BODY_FAILED)
		call_end_later(call, body_error(call->body));
	else if (body_readable_bytes(call->body) > call->part_bytes)
		send_in_parts(call);
	else if (body_state(call->body) == BODY_ENDED)
		send_start(call);
}

static void on_body_changed(struct body_watch *watch)
{
	struct s3_call *call = CONTAINER_OF(watch, struct s3_call, watch);

	if (call->state == CALL_WAITING)
		wait_for_body(call);
}

/* The seam */

static void prepare_start(struct backend *backend, struct backend_op *op)
{
	struct s3_call *call = call_new(backend, op, &object_cache_info, CACHE_INFO_KEY);

	if (call == NULL)
		return;
	call->subject = call->cache->store_dir;
	call->len = format_cache_info(call->cache_info, call->cache->store_dir);
	call->text = call->cache_info;
	look(call, CALL_ASKING, on_asked);
}

static struct s3_call *call_new_info(struct backend *backend, struct backend_op *op, const char *path)
{
	char key[NARINFO_KEY_SIZE];
	struct s3_call *call = call_new(backend, op, &object_info, format_narinfo_key(key, path));

	if (call != NULL)
		call->subject = path;
	return call;
}

static void find_info_start(struct backend *backend, struct backend_op *op, const char *path)
{
	struct s3_call *call = call_new_info(backend, op, path);

	if (call != NULL)
		look(call, CALL_ASKING, on_asked);
}

static void find_nar_start(struct backend *backend, struct backend_op *op,
                           const struct backend_object *object)
{
	struct s3_call *call = call_new(backend, op, &object_nar, object->nar_key);

	if (call != NULL)
		look(call, CALL_ASKING, on_asked);
}

static void put_nar_start(struct backend *backend, struct backend_op *op, const struct backend_object *object,
                          struct body *body)
{
	struct s3_call *call = call_new(backend, op, &object_nar, object->nar_key);

	if (call == NULL)
		return;
	/* What does not compress grows a little. */
	call->part_bytes = s3_part_bytes(object->info->nar_size + object->info->nar_size / 128);
	call->body = body_ref(body);
	body_watch(body, &call->watch, on_body_changed);
	wait_for_body(call);
}

static void put_info_start(struct backend *backend, struct backend_op *op,
                           const struct backend_object *object, const char *text, size_t len)
{
	struct s3_call *call = call_new_info(backend, op, object->info->path);

	if (call == NULL)
		return;
	call->text = text;
	call->len = len;
	send_start(call);
}

static void put_noted(struct backend_op *op, const struct error *err)
{
	struct s3_call *call = op->call;

	s3_parts_noted(call->parts, err);
}

/* What may not be aborted, or is not there any more, holds nothing up: only its bytes may stay. */
static void on_abandoned(struct s3_request *req)
{
	struct s3_call *call = CONTAINER_OF(req, struct s3_call, req);

	crash_point(S3_ABORTED);
	if (req->err.kind == ERROR_NONE || req->fault.cause == S3_NO_SUCH_UPLOAD ||
	    (s3_request_is_missing(req) && req->http.status != 403)) {
		call_end(call, NULL);
	} else if (s3_request_is_missing(req)) {
		log_warning("an unfinished upload stays in the bucket: %s", req->err.text);
		call_end(call, NULL);
	} else {
		call_end(call, &req->err);
	}
}

/* Without its query the request would remove the object itself. */
static void abandon_start(struct backend *backend, struct backend_op *op, const char *note)
{
	size_t n_key = strcspn(note, " ");
	const char *upload_id = note + n_key + (note[n_key] == ' ');
	struct s3_call *call = call_new(backend, op, &object_nar, note);
	struct buf query;

	if (call == NULL)
		return;
	call->key[n_key] = '\0';
	buf_init_in(&query, call->query, sizeof(call->query));
	s3_put_query(&query, "uploadId", upload_id);
	if (upload_id[0] == '\0' || !buf_ok(&query)) {
		log_warning(
			"an unfinished upload of %s stays in the bucket: the queue has no upload id of it",
			call->key);
		call_end_later(call, NULL);
		return;
	}
	call->req.method = HTTP_DELETE;
	call->req.query = call->query;
	call_request(call, CALL_ABANDONING, on_abandoned);
}

static void read_start(struct backend *backend, struct backend_read *read, const char *key)
{
	s3_read_start(&CONTAINER_OF(backend, struct s3_cache, backend)->bucket, read, key);
}

static void call_cancel(struct backend_op *op)
{
	static const struct error canceled = { .kind = ERROR_CANCELED, .text = "canceled" };
	struct s3_call *call = op->call;

	if (call->state == CALL_WAITING)
		call_end_later(call, &canceled);
	else if (call->state == CALL_IN_PARTS)
		s3_parts_cancel(call->parts);
	else
		s3_request_cancel(&call->req);
}

static void probe_start(struct backend *backend, struct backend_op *op)
{
	struct s3_cache *cache = CONTAINER_OF(backend, struct s3_cache, backend);

	s3_probe_start(&cache->bucket, cache->store_dir, backend, op);
}

static void look_start(struct backend *backend, struct backend_op *op)
{
	visible_ask_start(CONTAINER_OF(backend, struct s3_cache, backend)->visible, backend, op);
}

static void cache_close(struct backend *backend)
{
	struct s3_cache *cache = CONTAINER_OF(backend, struct s3_cache, backend);

	aws_credentials_close(cache->bucket.credentials);
	http_client_close(cache->bucket.client);
	visible_close(cache->visible);
	free(cache->bucket.storage_class);
	free(cache->store_dir);
	free(cache);
}

static const struct backend_ops s3_ops = {
	.kind = PUBLISH_SEPARATE,
	.prepare_start = prepare_start,
	.find_info_start = find_info_start,
	.find_nar_start = find_nar_start,
	.put_nar_start = put_nar_start,
	.put_noted = put_noted,
	.put_info_start = put_info_start,
	.abandon_start = abandon_start,
	.probe_start = probe_start,
	.look_start = look_start,
	.read_start = read_start,
	.cancel = op_cancel_call,
	.close = cache_close,
};

static int open_bucket(struct s3_bucket *bucket, struct http *http, const struct http_options *options,
                       const struct cache_config *cache, struct error *err)
{
	struct http_options reach = *options;

	/* Where the bucket is hangs on the region, and that can stand beside the keys. */
	if (s3_place_read(&bucket->place, cache, NULL, err) < 0 ||
	    aws_credentials_open(&bucket->credentials, bucket->loop, http, cache, options,
	                         bucket->place.is_aws, err) < 0 ||
	    s3_place_read(&bucket->place, cache, aws_credentials_region(bucket->credentials), err) < 0)
		return -1;
	if (cache->s3_storage_class != NULL &&
	    asprintf(&bucket->storage_class, "x-amz-storage-class: %s", cache->s3_storage_class) < 0) {
		bucket->storage_class = NULL;
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	}
	reach.no_redirects = true;
	reach.netrc_file = NULL;
	return http_client_open(&bucket->client, http, &reach, err);
}

int s3_backend_open(struct backend **ret, struct loop *loop, struct http *http,
                    const struct http_options *options, const struct cache_config *config,
                    const char *store_dir, struct error *err)
{
	struct s3_cache *cache = calloc(1, sizeof(*cache));

	if (cache == NULL || (cache->store_dir = strdup(store_dir)) == NULL) {
		free(cache);
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	}
	cache->backend.ops = &s3_ops;
	cache->backend.loop = loop;
	cache->bucket.loop = loop;
	if (open_bucket(&cache->bucket, http, options, config, err) < 0 ||
	    visible_open(&cache->visible, http, options, cache->bucket.place.base_url, store_dir, err) < 0) {
		cache_close(&cache->backend);
		return -1;
	}
	announce_reader_url(&cache->backend, cache->bucket.place.base_url);
	*ret = &cache->backend;
	return 0;
}
