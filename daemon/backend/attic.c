/* An Attic server: it hashes, packs and signs by itself, and makes a path visible once its whole NAR has
 * come (kind WHOLE). What is there is asked in bulk; the NAR goes raw, in one request, behind a preamble
 * that says what path it is of.
 *
 *   prepare  GET cache-config: is the cache there, is it for this store?
 *   find     bulk.h: POST get-missing-paths
 *   put      PUT upload-path; its length is known before the NAR is packed, so it goes at once
 *
 * A body that fails, and a cancel, tear the request off: the server has an incomplete NAR, and forgets it
 * (I7). The rest of the seam has nothing to do here and succeeds in the next turn. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/store_path.h"
#include "daemon/backend/bulk.h"
#include "daemon/backend/json_text.h"
#include "daemon/backend/kind.h"
#include "daemon/http/fault.h"

#define NAME_MAX_BYTES     50
#define PREAMBLE_MAX_BYTES MIB(1) /* what servers take by default */
#define ANSWER_MAX_BYTES   KIB(64)

struct attic {
	struct backend backend;
	struct http_client *client;
	struct bulk *bulk;
	char *base;      /* "https://HOST/PREFIX", no slash at its end */
	char *read_base; /* that and the cache's name */
	char name[NAME_MAX_BYTES + 1];
	char *store_dir;
};

struct attic_call {
	struct op_call head;
	struct attic *attic;
	struct backend_op *op;
	char *url;
	struct http_request req;
	struct buf preamble;
	struct body *body;
	struct body_watch watch;
	struct http_source source;
	char size_header[64];
	const char *headers[2];
};

/* ---- calls ------------------------------------------------------------------------------------------ */

static void call_free(struct attic_call *call)
{
	body_unwatch(&call->watch);
	body_unref(call->body);
	buf_fini(&call->preamble);
	buf_fini(&call->req.answer);
	free(call->url);
	free(call);
}

static void call_cancel(struct backend_op *op)
{
	struct attic_call *call = op->call;

	http_cancel(&call->req);
}

static struct attic_call *call_new(struct backend *backend, struct backend_op *op, const char *key)
{
	struct attic *attic = CONTAINER_OF(backend, struct attic, backend);
	struct attic_call *call = calloc(1, sizeof(*call));

	op_begin(backend, op);
	if (call == NULL || (call->url = http_join_url(attic->base, key)) == NULL) {
		free(call);
		error_set(&op->err, ERROR_TRANSIENT, "out of memory");
		op_end_later(op);
		return NULL;
	}
	call->head.cancel = call_cancel;
	call->attic = attic;
	call->op = op;
	op->call = call;
	return call;
}

static void call_end(struct attic_call *call, const struct error *err)
{
	struct backend_op *op = call->op;

	if (err != NULL)
		op->err = *err;
	op->is_server_fault = err == &call->req.err && call->req.is_server_fault;
	op->call = NULL;
	call_free(call);
	op->done(op);
}

/* ---- faults ----------------------------------------------------------------------------------------- */

static const char *advice_on(const struct http_request *req)
{
	switch (req->status) {
	case 401:
		return "the token is missing, wrong or expired: put a good one into token-file";
	case 403:
		return "the token must have the permission to push to this cache";
	case 404:
		return "see that the URL names a cache of that server";
	case 413:
		return "a proxy before the server limits the size of requests: have it let any through";
	default:
		return NULL;
	}
}

/* The server's own words, {"code":N,"error":"Name","message":"text"}, where it said some, and what to do. */
static void explain(void *ctx, struct http_request *req)
{
	const char *advice = advice_on(req), *name, *message;
	CLEANUP(json_doc_fini) struct json_doc doc = { 0 };
	struct error no_words;
	struct buf text;
	(void)ctx;

	(void)!json_doc_read(&doc, &req->answer, &no_words);
	name = json_string_value(json_object_get(doc.root, "error"));
	message = json_string_value(json_object_get(doc.root, "message"));
	buf_init(&text, KIB(8));
	if (req->status >= 400 && name != NULL && message != NULL) {
		size_t len = strnlen(message, 200);

		len -= len > 0 && message[len - 1] == '.';
		buf_printf(&text, "%s ", http_method_name(req->method));
		http_format_url(&text, req->url);
		buf_printf(&text, ": HTTP %u %.50s: %.*s", req->status, name, (int)len, message);
	} else {
		buf_puts(&text, req->err.text);
	}
	if (advice != NULL)
		buf_printf(&text, "; %s", advice);
	/* What is missing is the cache: no path is asked for by its own URL. */
	if (req->err.kind != ERROR_NONE)
		error_reword(&req->err, req->status == 404 ? ERROR_OPERATOR : req->err.kind, "%s",
		             buf_ok(&text) ? buf_text(&text) : req->err.text);
	make_plain(req->err.text);
	buf_fini(&text);
}

/* ---- prepare ---------------------------------------------------------------------------------------- */

static int refuse_config(const struct attic_call *call, const char *why, struct error *err)
{
	return error_set(
		err, ERROR_OPERATOR,
		"GET %s: answered with something that is not the configuration of a cache (%s); is %s an "
		"Attic server?",
		call->url, why, call->attic->base);
}

/* Is URL at the host and port of BASE, an http(s) URL? */
static bool is_same_host(const char *url, const char *base)
{
	size_t n = (size_t)(strstr(base, "://") + 3 - base);

	n += strcspn(base + n, "/");
	return strncmp(url, base, n) == 0 && (url[n] == '/' || url[n] == '\0');
}

/* What there are more of is sent to it. */
static void announce_upstream_keys(struct backend_announced *announced, const json_t *names)
{
	for (size_t i = 0; i < json_array_size(names); i++) {
		const char *name = json_string_value(json_array_get(names, i));
		char *to;

		if (announced->n_upstream_keys == ANNOUNCED_UPSTREAM_KEYS_MAX)
			return;
		if (name == NULL || name[0] == '\0' || strlen(name) > KEY_NAME_MAX)
			continue;
		to = announced->upstream_keys[announced->n_upstream_keys++];
		strcpy(to, name);
		make_plain(to);
	}
}

static void announce(struct backend *backend, const json_t *root)
{
	const json_t *is_public = json_object_get(root, "is_public");
	json_int_t period =
		json_integer_value(json_object_get(json_object_get(root, "retention_period"), "Period"));

	backend->announced = (struct backend_announced){ .retention_s = period > 0 ? (uint64_t)period : 0 };
	if (json_is_boolean(is_public))
		backend->announced.visibility =
			json_is_true(is_public) ? VISIBILITY_PUBLIC : VISIBILITY_PRIVATE;
	announce_reader_url(backend, json_string_value(json_object_get(root, "substituter_endpoint")));
	announce_key(backend, json_string_value(json_object_get(root, "public_key")));
	announce_upstream_keys(&backend->announced, json_object_get(root, "upstream_cache_key_names"));
}

static int check_config(const struct attic_call *call, const json_t *root, struct error *err)
{
	const char *store_dir = json_string_value(json_object_get(root, "store_dir"));
	const char *api = json_string_value(json_object_get(root, "api_endpoint"));
	const char *base = call->attic->base;

	if (!json_is_object(root))
		return refuse_config(call, "no object", err);
	if (store_dir != NULL && strcmp(store_dir, call->attic->store_dir) != 0)
		return error_set(err, ERROR_OPERATOR, "%s/%s: the cache is for the store %.200s, not %s",
		                 base, call->attic->name, store_dir, call->attic->store_dir);
	/* The token is for the host that the configuration names, and goes nowhere else. */
	if (api != NULL && !is_same_host(api, base))
		return error_set(err, ERROR_OPERATOR,
		                 "%s: the server takes uploads at %.200s; set endpoint to that", base, api);
	return 0;
}

static void on_config(struct http_request *req)
{
	struct attic_call *call = CONTAINER_OF(req, struct attic_call, req);
	CLEANUP(json_doc_fini) struct json_doc doc = { 0 };
	struct error err;
	int rc;

	if (req->err.kind != ERROR_NONE) {
		explain(NULL, req);
		call_end(call, &req->err);
		return;
	}
	rc = json_doc_read(&doc, &req->answer, &err);
	if (rc == 0) {
		announce(&call->attic->backend, doc.root);
		rc = doc.root == NULL ? refuse_config(call, "no JSON", &err)
		                      : check_config(call, doc.root, &err);
	}
	if (rc < 0)
		make_plain(err.text);
	call_end(call, rc < 0 ? &err : NULL);
}

static void prepare_start(struct backend *backend, struct backend_op *op)
{
	const struct attic *attic = CONTAINER_OF(backend, struct attic, backend);
	char key[sizeof("_api/v1/cache-config/") + NAME_MAX_BYTES];
	struct attic_call *call;

	snprintf(key, sizeof(key), "_api/v1/cache-config/%s", attic->name);
	call = call_new(backend, op, key);
	if (call == NULL)
		return;
	call->req.method = HTTP_GET;
	call->req.url = call->url;
	call->req.answer_max_bytes = ANSWER_MAX_BYTES;
	http_start(attic->client, &call->req, on_config);
}

/* ---- put -------------------------------------------------------------------------------------------- */

static json_t *list_of(char *const *texts, size_t n, bool are_paths)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		if (json_array_append_new(
			    list, json_string(are_paths ? store_path_base(texts[i]) : texts[i])) < 0) {
			json_decref(list);
			return NULL;
		}
	return list;
}

/* References keep their order, ascending: the server signs them in the order in which they come. */
static int format_preamble(struct attic_call *call, const struct path_info *info, struct error *err)
{
	char hash[2 * SHA256_BYTES + 1];
	size_t n_bytes;
	json_t *root;
	int rc;

	for (size_t i = 0; i < SHA256_BYTES; i++)
		snprintf(hash + 2 * i, 3, "%02x", info->nar_hash[i]);
	root = json_pack("{s:s, s:s%, s:s, s:o, s:n, s:n, s:o, s:s?, s:s+, s:I}", "cache", call->attic->name,
	                 "store_path_hash", store_path_base(info->path), (size_t)STORE_HASH_LEN, "store_path",
	                 info->path, "references", list_of(info->references, info->n_references, true),
	                 "system", "deriver", "sigs", list_of(info->sigs, info->n_sigs, false), "ca",
	                 info->ca, "nar_hash", "sha256:", hash, "nar_size", (json_int_t)info->nar_size);
	n_bytes = root != NULL ? json_dumpb(root, NULL, 0, JSON_COMPACT | JSON_ENSURE_ASCII) : 0;
	buf_init(&call->preamble, PREAMBLE_MAX_BYTES);
	if (n_bytes > PREAMBLE_MAX_BYTES)
		rc = error_set(err, ERROR_PERMANENT, "%s: refers to more paths than an Attic server takes",
		               info->path);
	else
		rc = json_text_write(&call->preamble, root, JSON_ENSURE_ASCII, err);
	json_decref(root);
	return rc;
}

/* The preamble, then the NAR. */
static ssize_t read_source(struct http_source *source, uint64_t offset, void *data, size_t n_bytes,
                           struct error *err)
{
	struct attic_call *call = CONTAINER_OF(source, struct attic_call, source);
	size_t n_preamble = call->preamble.len;

	if (offset < n_preamble) {
		n_bytes = n_bytes < n_preamble - offset ? n_bytes : n_preamble - (size_t)offset;
		memcpy(data, call->preamble.data + offset, n_bytes);
		return (ssize_t)n_bytes;
	}
	return op_read_body(call->op, call->body, offset - n_preamble, data, n_bytes, err);
}

static void on_body_changed(struct body_watch *watch)
{
	struct attic_call *call = CONTAINER_OF(watch, struct attic_call, watch);

	if (body_state(call->body) == BODY_FAILED)
		http_cancel(&call->req);
	else
		http_resume(&call->req);
}

static void on_sent(struct http_request *req)
{
	struct attic_call *call = CONTAINER_OF(req, struct attic_call, req);

	explain(NULL, req);
	if (req->err.kind == ERROR_NONE)
		call_end(call, NULL);
	else if (req->err.kind == ERROR_CANCELED && body_state(call->body) == BODY_FAILED)
		call_end(call, body_error(call->body));
	else
		call_end(call, &req->err);
}

static void put_nar_start(struct backend *backend, struct backend_op *op, const struct backend_object *object,
                          struct body *body)
{
	struct attic_call *call = call_new(backend, op, "_api/v1/upload-path");

	if (call == NULL)
		return;
	if (format_preamble(call, object->info, &op->err) < 0) {
		call_free(call);
		op_end_later(op);
		return;
	}
	call->body = body_ref(body);
	body_watch(body, &call->watch, on_body_changed);
	snprintf(call->size_header, sizeof(call->size_header), "X-Attic-Nar-Info-Preamble-Size: %zu",
	         call->preamble.len);
	call->headers[0] = call->size_header;
	call->headers[1] = "Content-Type: application/octet-stream";
	call->source.read = read_source;
	call->req = (struct http_request){
		.method = HTTP_PUT,
		.url = call->url,
		.headers = call->headers,
		.n_headers = N_ELEMENTS(call->headers),
		.source = &call->source,
		.source_len = call->preamble.len + object->info->nar_size,
		.answer_max_bytes = ANSWER_MAX_BYTES,
	};
	http_start(call->attic->client, &call->req, on_sent);
}

/* ---- the seam --------------------------------------------------------------------------------------- */

static void find_info_start(struct backend *backend, struct backend_op *op, const char *path)
{
	bulk_find_start(CONTAINER_OF(backend, struct attic, backend)->bulk, backend, op, path);
}

/* Readers find the cache below its name. */
static void read_start(struct backend *backend, struct backend_read *read, const char *key)
{
	struct attic *attic = CONTAINER_OF(backend, struct attic, backend);

	http_read_start(backend->loop, attic->client, attic->read_base, read, key);
}

static void attic_close(struct backend *backend)
{
	struct attic *attic = CONTAINER_OF(backend, struct attic, backend);

	bulk_close(attic->bulk);
	http_client_close(attic->client);
	free(attic->base);
	free(attic->read_base);
	free(attic->store_dir);
	free(attic);
}

static const struct backend_ops attic_ops = {
	.kind = PUBLISH_WHOLE,
	.prepare_start = prepare_start,
	.find_info_start = find_info_start,
	.find_nar_start = op_find_nothing_start,
	.put_nar_start = put_nar_start,
	.put_info_start = op_put_nothing_start,
	.read_start = read_start,
	.cancel = op_cancel_call,
	.close = attic_close,
};

static int set_names(struct attic *attic, const struct cache_config *cache, const char *store_dir)
{
	size_t len;
	const char *name = attic_name(cache, &len);

	snprintf(attic->name, sizeof(attic->name), "%.*s", (int)len, name);
	attic->base = attic_endpoint(cache);
	attic->store_dir = strdup(store_dir);
	if (attic->base == NULL || attic->store_dir == NULL ||
	    asprintf(&attic->read_base, "%s/%s", attic->base, attic->name) < 0) {
		attic->read_base = NULL;
		return -1;
	}
	return 0;
}

static int open_bulk(struct attic *attic, struct error *err)
{
	char before[sizeof("{\"cache\":\"\",\"store_path_hashes\":") + NAME_MAX_BYTES];
	char *url = http_join_url(attic->base, "_api/v1/get-missing-paths");
	struct bulk_config config = {
		.loop = attic->backend.loop,
		.client = attic->client,
		.url = url,
		.before = before,
		.after = "}",
		.answer_key = "missing_paths",
		.explain = explain,
	};
	int rc;

	snprintf(before, sizeof(before), "{\"cache\":\"%s\",\"store_path_hashes\":", attic->name);
	rc = url != NULL ? bulk_open(&attic->bulk, &config, err)
	                 : error_set(err, ERROR_TRANSIENT, "out of memory");
	free(url);
	return rc;
}

int attic_backend_open(struct backend **ret, struct loop *loop, struct http *http,
                       const struct http_options *options, const struct cache_config *cache,
                       const char *store_dir, struct error *err)
{
	struct attic *attic = calloc(1, sizeof(*attic));

	if (attic == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	attic->backend.ops = &attic_ops;
	attic->backend.loop = loop;
	attic->backend.streams = true;
	if (set_names(attic, cache, store_dir) < 0) {
		error_set(err, ERROR_TRANSIENT, "out of memory");
		goto fail;
	}
	if (http_client_open(&attic->client, http, options, err) < 0 || open_bulk(attic, err) < 0)
		goto fail;
	*ret = &attic->backend;
	return 0;
fail:
	attic_close(&attic->backend);
	return -1;
}
