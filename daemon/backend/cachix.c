/* A cache at Cachix, or at a server with its API. It takes a NAR in parts, by URLs of its storage, and makes
 * the path visible with the request that ends the upload and says what path it is of (kind WHOLE). What is
 * there is asked in bulk. It signs by itself, or takes signatures of a key that is registered there. */
#include "daemon/backend/cachix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/backend/json_text.h"
#include "daemon/http/fault.h"

struct prepare_call {
	struct op_call head;
	struct cachix *cachix;
	struct backend_op *op;
	char *url;
	struct http_request req;
};

char *cachix_url(const struct cachix *cachix, const char *suffix)
{
	char *url;

	return asprintf(&url, "%s/cache/%s%s", cachix->base, cachix->name, suffix) < 0 ? NULL : url;
}

/* ---- faults ----------------------------------------------------------------------------------------- */

static const char *advice_on(const struct http_request *req)
{
	switch (req->status) {
	case 401:
		return "see that token-file holds a token that may write to this cache, and that the cache's "
		       "name "
		       "is right";
	case 403:
		return "the token must have the permission to write to this cache";
	case 404:
		return "see that the cache's name is right";
	default:
		return NULL;
	}
}

/* A proxy before the API says in its own way when to come back. */
static void read_problem(struct http_request *req)
{
	CLEANUP(json_doc_fini) struct json_doc doc = { 0 };
	struct error no_words;
	json_int_t after;

	(void)!json_doc_read(&doc, &req->answer, &no_words);
	after = json_integer_value(json_object_get(doc.root, "retry_after"));
	if (req->err.retry_after_s == 0 && after > 0 && after <= UINT32_MAX)
		req->err.retry_after_s = (uint32_t)after;
}

void cachix_explain(void *ctx, struct http_request *req)
{
	const char *advice = advice_on(req);
	(void)ctx;

	if (req->err.kind == ERROR_NONE)
		return;
	if (req->status >= 500)
		read_problem(req);
	/* Whatever is asked, what is missing is the cache. */
	if (advice != NULL)
		error_reword(&req->err, ERROR_OPERATOR, "%s; %s", req->err.text, advice);
}

/* ---- prepare ---------------------------------------------------------------------------------------- */

static void prepare_end(struct prepare_call *call, const struct error *err)
{
	struct backend_op *op = call->op;

	if (err != NULL)
		op->err = *err;
	op->is_server_fault = err == &call->req.err && call->req.is_server_fault;
	op->call = NULL;
	buf_fini(&call->req.answer);
	free(call->url);
	free(call);
	op->done(op);
}

static void announce(struct backend *backend, const json_t *root)
{
	const json_t *is_public = json_object_get(root, "isPublic"), *keys;
	size_t i;
	json_t *key;

	backend->announced = (struct backend_announced){ 0 };
	if (json_is_boolean(is_public))
		backend->announced.visibility =
			json_is_true(is_public) ? VISIBILITY_PUBLIC : VISIBILITY_PRIVATE;
	announce_reader_url(backend, json_string_value(json_object_get(root, "uri")));
	keys = json_object_get(root, "publicSigningKeys");
	json_array_foreach(keys, i, key) announce_key(backend, json_string_value(key));
}

static int check_cache(const struct prepare_call *call, const json_t *root, struct error *err)
{
	const char *name = json_string_value(json_object_get(root, "name"));
	const char *permission = json_string_value(json_object_get(root, "permission"));

	if (name == NULL || permission == NULL)
		return error_set(
			err, ERROR_OPERATOR,
			"GET %s: answered with something that is not a cache of Cachix; is that its API?",
			call->url);
	if (strcmp(permission, "Write") != 0 && strcmp(permission, "Admin") != 0)
		return error_set(err, ERROR_OPERATOR,
		                 "cachix://%s: the token may only read; it must have the permission to write",
		                 call->cachix->name);
	return 0;
}

static void on_cache(struct http_request *req)
{
	struct prepare_call *call = CONTAINER_OF(req, struct prepare_call, req);
	CLEANUP(json_doc_fini) struct json_doc doc = { 0 };
	struct error err;
	int rc;

	cachix_explain(NULL, req);
	if (req->err.kind != ERROR_NONE) {
		prepare_end(call, &req->err);
		return;
	}
	rc = json_doc_read(&doc, &req->answer, &err);
	if (rc == 0) {
		announce(&call->cachix->backend, doc.root);
		rc = check_cache(call, doc.root, &err);
	}
	prepare_end(call, rc < 0 ? &err : NULL);
}

static void prepare_cancel(struct backend_op *op)
{
	struct prepare_call *call = op->call;

	http_cancel(&call->req);
}

static void prepare_start(struct backend *backend, struct backend_op *op)
{
	struct cachix *cachix = CONTAINER_OF(backend, struct cachix, backend);
	struct prepare_call *call = calloc(1, sizeof(*call));

	op_begin(backend, op);
	if (call == NULL || (call->url = cachix_url(cachix, "")) == NULL) {
		free(call);
		error_set(&op->err, ERROR_TRANSIENT, "out of memory");
		op_end_later(op);
		return;
	}
	call->head.cancel = prepare_cancel;
	call->cachix = cachix;
	call->op = op;
	op->call = call;
	call->req.method = HTTP_GET;
	call->req.url = call->url;
	call->req.answer_max_bytes = CACHIX_ANSWER_MAX_BYTES;
	http_start(cachix->client, &call->req, on_cache);
}

/* ---- the seam --------------------------------------------------------------------------------------- */

static void find_info_start(struct backend *backend, struct backend_op *op, const char *path)
{
	bulk_find_start(CONTAINER_OF(backend, struct cachix, backend)->bulk, backend, op, path);
}

/* Readers have a host of their own for each cache. */
static void read_start(struct backend *backend, struct backend_read *read, const char *key)
{
	struct cachix *cachix = CONTAINER_OF(backend, struct cachix, backend);
	char *base;

	if (asprintf(&base, "https://%s.cachix.org", cachix->name) < 0) {
		error_set(&read->err, ERROR_TRANSIENT, "out of memory");
		read_end_later(read);
		return;
	}
	http_read_start(backend->loop, cachix->client, base, read, key);
	free(base);
}

static void cachix_close(struct backend *backend)
{
	struct cachix *cachix = CONTAINER_OF(backend, struct cachix, backend);

	bulk_close(cachix->bulk);
	http_client_close(cachix->client);
	http_client_close(cachix->storage);
	free(cachix->base);
	free(cachix->name);
	free(cachix->store_dir);
	free(cachix);
}

static const struct backend_ops cachix_ops = {
	.kind = PUBLISH_WHOLE,
	.prepare_start = prepare_start,
	.find_info_start = find_info_start,
	.find_nar_start = op_find_nothing_start,
	.put_nar_start = cachix_put_start,
	.put_info_start = op_put_nothing_start,
	.read_start = read_start,
	.cancel = op_cancel_call,
	.close = cachix_close,
};

/* Of a server with Cachix's API it is not known where readers go. */
static const struct backend_ops other_ops = {
	.kind = PUBLISH_WHOLE,
	.prepare_start = prepare_start,
	.find_info_start = find_info_start,
	.find_nar_start = op_find_nothing_start,
	.put_nar_start = cachix_put_start,
	.put_info_start = op_put_nothing_start,
	.cancel = op_cancel_call,
	.close = cachix_close,
};

static int set_names(struct cachix *cachix, const struct cache_config *config, const char *store_dir)
{
	const char *endpoint = cachix_endpoint(config);
	size_t len = strlen(endpoint);

	while (len > 0 && endpoint[len - 1] == '/')
		len--;
	if (asprintf(&cachix->base, "%.*s/api/v1", (int)len, endpoint) < 0)
		cachix->base = NULL;
	cachix->name = cachix_name(config);
	cachix->store_dir = strdup(store_dir);
	return cachix->base != NULL && cachix->name != NULL && cachix->store_dir != NULL ? 0 : -1;
}

static int open_clients(struct cachix *cachix, struct http *http, const struct http_options *options,
                        struct error *err)
{
	struct http_options bare = *options;
	char *url = cachix_url(cachix, "/narinfo");
	struct bulk_config bulk = {
		.loop = cachix->backend.loop,
		.url = url,
		.before = "",
		.after = "",
		.explain = cachix_explain,
	};
	int rc;

	bare.token = NULL;
	bare.netrc_file = NULL;
	rc = http_client_open(&cachix->client, http, options, err);
	bulk.client = cachix->client;
	if (rc == 0)
		rc = http_client_open(&cachix->storage, http, &bare, err);
	if (rc == 0 && url == NULL)
		rc = error_set(err, ERROR_TRANSIENT, "out of memory");
	if (rc == 0)
		rc = bulk_open(&cachix->bulk, &bulk, err);
	free(url);
	return rc;
}

int cachix_backend_open(struct backend **ret, struct loop *loop, struct http *http,
                        const struct http_options *options, const struct cache_config *cache,
                        const char *store_dir, struct error *err)
{
	struct cachix *cachix = calloc(1, sizeof(*cachix));

	if (cachix == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	cachix->backend.ops = cache->endpoint != NULL ? &other_ops : &cachix_ops;
	cachix->backend.loop = loop;
	cachix->backend.streams = true;
	if (set_names(cachix, cache, store_dir) < 0) {
		error_set(err, ERROR_TRANSIENT, "out of memory");
		goto fail;
	}
	if (open_clients(cachix, http, options, err) < 0)
		goto fail;
	*ret = &cachix->backend;
	return 0;
fail:
	cachix_close(&cachix->backend);
	return -1;
}
