/* One path to Cachix:
 *
 *   STARTING    POST multipart-nar: an upload's two names
 *   SENDING     parts of equal size from when the first of them is there, a few at a time; each is hashed on
 * a worker, asks the API for a URL, and goes there. A URL that has run out, like any fault that may pass, is
 * asked for anew COMPLETING  POST complete, with the parts and what path it is: from then on it is visible.
 * Sent once the body has ended, which it does not before the NAR is known to be the registered one (I7)
 *   GIVING_UP   what runs ends; then
 *   ABORTING    POST abort, so that nothing is left there; its own fault changes nothing
 *
 * A cancel gives up without aborting: the process ends, and Cachix forgets uploads by itself. */
#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/store_path.h"
#include "daemon/backend/cachix.h"
#include "daemon/format/nixbase32.h"
#include "daemon/http/fault.h"
#include "daemon/loop/work.h"

#define PARTS_AT_ONCE  4
#define PARTS_MAX      10000
#define PART_MIN_BYTES MIB(16)
#define PART_TRIES_MAX 3
#define NAME_MAX_BYTES 1024
#define ETAG_MAX_BYTES 256
#define MD5_BYTES      16

static const char json_header[] = "Content-Type: application/json;charset=utf-8";

enum upload_state { STARTING, SENDING, COMPLETING, GIVING_UP, ABORTING };
enum part_state { PART_FREE, PART_HASHING, PART_ASKING, PART_PUTTING };

struct cachix_part {
	struct cachix_upload *upload;
	enum part_state state;
	unsigned number; /* from 1 */
	unsigned n_tries;
	uint64_t offset, len;

	struct work work;
	struct error work_err;
	char md5[4 * ((MD5_BYTES + 2) / 3) + 1]; /* base64 */

	char *url;
	struct buf text; /* of the question, later a header */
	struct http_request req;
	struct http_source source;
	const char *headers[2];
};

struct cachix_upload {
	struct op_call head;
	struct cachix *cachix;
	struct backend_op *op;
	const struct backend_object *object;
	struct body *body;
	struct body_watch watch;
	enum upload_state state;
	bool is_canceled;
	struct error err; /* why it is given up */
	bool is_server_fault;

	char *nar_id, *upload_id; /* as the API gave them, the second escaped for a query */
	char *url;
	struct buf text;
	struct http_request req;
	const char *headers[1];

	uint64_t part_bytes, next_offset, done_bytes;
	struct cachix_part parts[PARTS_AT_ONCE];
	unsigned n_busy, n_parts;
	json_t *etags; /* array of {"partNumber", "eTag"}, in the order of numbers */
};

static void fill(struct cachix_upload *u);

/* ---- the end ---------------------------------------------------------------------------------------- */

static void end(struct cachix_upload *u)
{
	struct backend_op *op = u->op;

	op->err = u->err;
	op->is_server_fault = u->is_server_fault;
	op->call = NULL;
	body_unwatch(&u->watch);
	body_unref(u->body);
	json_decref(u->etags);
	buf_fini(&u->text);
	buf_fini(&u->req.answer);
	free(u->url);
	free(u->nar_id);
	free(u->upload_id);
	free(u);
	op_end_later(op);
}

static void request(struct cachix_upload *u, http_done_fn done)
{
	buf_fini(&u->req.answer);
	u->headers[0] = json_header;
	u->req = (struct http_request){
		.method = HTTP_POST,
		.url = u->url,
		.headers = u->headers,
		.n_headers = u->text.len > 0 ? 1 : 0,
		.data = buf_text(&u->text),
		.data_len = u->text.len,
		.answer_max_bytes = CACHIX_ANSWER_MAX_BYTES,
	};
	http_start(u->cachix->client, &u->req, done);
}

/* Of "…/multipart-nar/NAR-ID" WHAT "?uploadId=…" and MORE. NULL: no memory. */
static char *upload_url(const struct cachix_upload *u, const char *what, const char *more)
{
	char *url = NULL, *suffix;

	if (asprintf(&suffix, "/multipart-nar/%s%s?uploadId=%s%s", u->nar_id, what, u->upload_id, more) >=
	    0) {
		url = cachix_url(u->cachix, suffix);
		free(suffix);
	}
	return url;
}

static void on_aborted(struct http_request *req)
{
	struct cachix_upload *u = CONTAINER_OF(req, struct cachix_upload, req);

	if (req->err.kind != ERROR_NONE)
		log_debug("upload was not aborted: %s", req->err.text);
	end(u);
}

static void maybe_abort(struct cachix_upload *u)
{
	if (u->n_busy > 0)
		return;
	free(u->url);
	u->url = u->nar_id != NULL && !u->is_canceled ? upload_url(u, "/abort", "") : NULL;
	if (u->url == NULL) {
		end(u);
		return;
	}
	u->state = ABORTING;
	buf_clear(&u->text);
	request(u, on_aborted);
}

/* U's own request does not run. */
static void give_up(struct cachix_upload *u, const struct error *err, bool is_server_fault)
{
	if (u->state == GIVING_UP)
		return;
	u->state = GIVING_UP;
	u->err = *err;
	u->is_server_fault = is_server_fault;
	for (unsigned i = 0; i < PARTS_AT_ONCE; i++) {
		struct cachix_part *part = &u->parts[i];

		if (part->state == PART_HASHING)
			work_cancel(&part->work);
		else if (part->state != PART_FREE)
			http_cancel(&part->req);
	}
	maybe_abort(u);
}

static void give_up_memory(struct cachix_upload *u)
{
	static const struct error err = { .kind = ERROR_TRANSIENT, .text = "out of memory" };

	give_up(u, &err, false);
}

/* What REQ was answered is of no use. */
static void answer_fault(const struct http_request *req, const char *why, struct error *err)
{
	struct buf url;

	buf_init(&url, KIB(8));
	http_format_url(&url, req->url);
	error_set(err, ERROR_OPERATOR, "%s %s: answered with something that is not Cachix's (%s)",
	          http_method_name(req->method), buf_text(&url), why);
	buf_fini(&url);
}

/* ---- completing ------------------------------------------------------------------------------------- */

static json_t *references_of(const struct path_info *info)
{
	json_t *list = json_array();

	for (size_t i = 0; i < info->n_references; i++)
		json_array_append_new(list, json_string(store_path_base(info->references[i])));
	return list;
}

/* The server knows the key by itself: the name goes. */
static const char *signature_of(const struct backend_object *object)
{
	const char *colon = object->n_sigs > 0 ? strchr(object->sigs[0], ':') : NULL;

	return colon != NULL ? colon + 1 : NULL;
}

static json_t *narinfo_of(const struct cachix_upload *u)
{
	const struct path_info *info = u->object->info;
	const uint8_t *file_hash = body_hash(u->body);
	const char *base = store_path_base(info->path);
	char nar_hash[NIXBASE32_LEN(SHA256_BYTES) + 1], hex[2 * BODY_HASH_BYTES + 1];

	nixbase32_encode(nar_hash, info->nar_hash, SHA256_BYTES);
	for (size_t i = 0; i < BODY_HASH_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", file_hash[i]);
	return json_pack("{s:s%, s:s, s:s+, s:I, s:s, s:I, s:o, s:s, s:s?}", "cStoreHash", base,
	                 (size_t)STORE_HASH_LEN, "cStoreSuffix", base + STORE_HASH_LEN + 1, "cNarHash",
	                 "sha256:", nar_hash, "cNarSize", (json_int_t)info->nar_size, "cFileHash", hex,
	                 "cFileSize", (json_int_t)body_readable_bytes(u->body), "cReferences",
	                 references_of(info), "cDeriver",
	                 info->deriver != NULL ? store_path_base(info->deriver) : "unknown-deriver", "cSig",
	                 signature_of(u->object));
}

static void on_completed(struct http_request *req)
{
	struct cachix_upload *u = CONTAINER_OF(req, struct cachix_upload, req);

	assert(u->state == COMPLETING);
	cachix_explain(NULL, req);
	if (req->err.kind == ERROR_NONE)
		end(u);
	else
		give_up(u, &req->err, req->is_server_fault);
}

static void complete(struct cachix_upload *u)
{
	json_t *root = json_pack("{s:O, s:o}", "parts", u->etags, "narInfoCreate", narinfo_of(u));
	char *text = json_dumps(root, JSON_COMPACT);

	json_decref(root);
	free(u->url);
	u->url = upload_url(u, "/complete", "");
	buf_clear(&u->text);
	if (text != NULL)
		buf_puts(&u->text, text);
	free(text);
	if (u->url == NULL || u->text.len == 0 || !buf_ok(&u->text)) {
		give_up_memory(u);
		return;
	}
	u->state = COMPLETING;
	request(u, on_completed);
}

/* ---- a part ----------------------------------------------------------------------------------------- */

static void part_ask(struct cachix_part *part);

static void part_free(struct cachix_part *part)
{
	buf_fini(&part->text);
	buf_fini(&part->req.answer);
	free(part->url);
	part->url = NULL;
	part->state = PART_FREE;
	part->upload->n_busy--;
}

/* PART's request or work has ended. Returns false if that was all it was waited for. */
static bool part_goes_on(struct cachix_part *part)
{
	struct cachix_upload *u = part->upload;

	if (u->state == SENDING)
		return true;
	part_free(part);
	maybe_abort(u);
	return false;
}

static void part_fail(struct cachix_part *part, const struct error *err, bool is_server_fault)
{
	struct cachix_upload *u = part->upload;

	part_free(part);
	give_up(u, err, is_server_fault);
}

static int take_etag(struct cachix_part *part)
{
	const char *etag = http_get_header(&part->req, "ETag");
	json_t *item;

	if (etag == NULL || etag[0] == '\0' || strlen(etag) > ETAG_MAX_BYTES)
		return -1;
	item = json_pack("{s:i, s:s}", "partNumber", (int)part->number, "eTag", etag);
	return json_array_set_new(part->upload->etags, part->number - 1, item);
}

static void on_put(struct http_request *req)
{
	struct cachix_part *part = CONTAINER_OF(req, struct cachix_part, req);
	struct cachix_upload *u = part->upload;

	if (!part_goes_on(part))
		return;
	if (req->err.kind == ERROR_NONE && take_etag(part) == 0) {
		u->done_bytes += part->len;
		u->op->sent_bytes = u->done_bytes;
		part_free(part);
		fill(u);
	} else if (req->err.kind == ERROR_NONE) {
		struct error err;

		error_set(&err, ERROR_TRANSIENT, "part %u: the storage answered without an ETag",
		          part->number);
		part_fail(part, &err, false);
	} else if ((req->err.kind == ERROR_TRANSIENT || req->status == 403) &&
	           part->n_tries < PART_TRIES_MAX) {
		part_ask(part); /* a URL runs out, and the storage says 403 then */
	} else {
		/* Whose fault it is, the API's next answer will tell. */
		if (req->err.kind == ERROR_OPERATOR)
			req->err.kind = ERROR_TRANSIENT;
		part_fail(part, &req->err, false);
	}
}

static ssize_t read_part(struct http_source *source, uint64_t offset, void *data, size_t n_bytes,
                         struct error *err)
{
	struct cachix_part *part = CONTAINER_OF(source, struct cachix_part, source);
	ssize_t n;

	if (offset >= part->len)
		return 0;
	if (n_bytes > part->len - offset)
		n_bytes = (size_t)(part->len - offset);
	n = body_read(part->upload->body, part->offset + offset, data, n_bytes, err);
	return n < 0 ? HTTP_SOURCE_FAILED : n;
}

static void part_put(struct cachix_part *part)
{
	buf_clear(&part->text);
	buf_printf(&part->text, "Content-MD5: %s", part->md5);
	buf_fini(&part->req.answer);
	part->headers[0] = "Content-Type: application/octet-stream";
	part->headers[1] = buf_text(&part->text);
	part->source.read = read_part;
	part->req = (struct http_request){
		.method = HTTP_PUT,
		.url = part->url,
		.headers = part->headers,
		.n_headers = 2,
		.source = &part->source,
		.source_len = part->len,
		.answer_max_bytes = CACHIX_ANSWER_MAX_BYTES,
	};
	part->state = PART_PUTTING;
	http_start(part->upload->cachix->storage, &part->req, on_put);
}

/* https, unless the API itself is spoken to in the clear. */
static bool url_is_safe(const struct cachix *cachix, const char *url)
{
	return url != NULL && (strncmp(url, "https://", 8) == 0 ||
	                       (strncmp(cachix->base, "http://", 7) == 0 && strncmp(url, "http://", 7) == 0));
}

static void on_url(struct http_request *req)
{
	struct cachix_part *part = CONTAINER_OF(req, struct cachix_part, req);
	struct cachix_upload *u = part->upload;
	struct error err;
	const char *url;
	json_t *root;

	if (!part_goes_on(part))
		return;
	cachix_explain(NULL, req);
	if (req->err.kind != ERROR_NONE) {
		part_fail(part, &req->err, req->is_server_fault);
		return;
	}
	root = json_loadb(buf_text(&req->answer), req->answer.len, 0, NULL);
	url = json_string_value(json_object_get(root, "uploadUrl"));
	if (!url_is_safe(u->cachix, url)) {
		/* The URL is a secret: what came is not repeated. */
		answer_fault(req, "no URL for a part", &err);
		json_decref(root);
		part_fail(part, &err, true);
		return;
	}
	free(part->url);
	part->url = strdup(url);
	json_decref(root);
	if (part->url == NULL) {
		error_set(&err, ERROR_TRANSIENT, "out of memory");
		part_fail(part, &err, false);
		return;
	}
	part_put(part);
}

static void part_ask(struct cachix_part *part)
{
	struct cachix_upload *u = part->upload;
	char more[32];

	snprintf(more, sizeof(more), "&partNumber=%u", part->number);
	free(part->url);
	part->url = upload_url(u, "", more);
	buf_clear(&part->text);
	buf_printf(&part->text, "{\"contentMD5\":\"%s\"}", part->md5);
	if (part->url == NULL || !buf_ok(&part->text)) {
		const struct error err = { .kind = ERROR_TRANSIENT, .text = "out of memory" };

		part_fail(part, &err, false);
		return;
	}
	part->n_tries++;
	buf_fini(&part->req.answer);
	part->headers[0] = json_header;
	part->req = (struct http_request){
		.method = HTTP_POST,
		.url = part->url,
		.headers = part->headers,
		.n_headers = 1,
		.data = buf_text(&part->text),
		.data_len = part->text.len,
		.answer_max_bytes = CACHIX_ANSWER_MAX_BYTES,
	};
	part->state = PART_ASKING;
	http_start(u->cachix->client, &part->req, on_url);
}

/* On a worker: some milliseconds a part. */
static void run_hash(struct work *work)
{
	struct cachix_part *part = CONTAINER_OF(work, struct cachix_part, work);
	EVP_MD_CTX *md5 = EVP_MD_CTX_new();
	unsigned char digest[EVP_MAX_MD_SIZE];
	char data[KIB(64)];
	ssize_t n = md5 != NULL && EVP_DigestInit_ex(md5, EVP_md5(), NULL) == 1 ? 1 : -1;

	if (n < 0)
		error_set(&part->work_err, ERROR_TRANSIENT, "cannot compute an MD5");
	for (uint64_t at = 0; n > 0 && at < part->len; at += (uint64_t)n) {
		uint64_t left = part->len - at;

		n = body_read(part->upload->body, part->offset + at, data,
		              left < sizeof(data) ? (size_t)left : sizeof(data), &part->work_err);
		if (n > 0)
			EVP_DigestUpdate(md5, data, (size_t)n);
	}
	if (n > 0) {
		EVP_DigestFinal_ex(md5, digest, NULL);
		EVP_EncodeBlock((unsigned char *)part->md5, digest, MD5_BYTES);
	}
	EVP_MD_CTX_free(md5);
}

static void on_hashed(struct work *work)
{
	struct cachix_part *part = CONTAINER_OF(work, struct cachix_part, work);

	if (!part_goes_on(part))
		return;
	if (part->work_err.kind != ERROR_NONE)
		part_fail(part, &part->work_err, false);
	else
		part_ask(part);
}

static void part_begin(struct cachix_part *part, uint64_t len)
{
	struct cachix_upload *u = part->upload;

	part->number = ++u->n_parts;
	part->n_tries = 0;
	part->offset = u->next_offset;
	part->len = len;
	part->work_err = (struct error){ 0 };
	part->state = PART_HASHING;
	buf_init(&part->text, KIB(1));
	json_array_append_new(u->etags, json_null());
	u->next_offset += len;
	u->n_busy++;
	work_start(u->cachix->backend.loop, &part->work, run_hash, on_hashed);
}

static struct cachix_part *find_free(struct cachix_upload *u)
{
	for (unsigned i = 0; i < PARTS_AT_ONCE; i++)
		if (u->parts[i].state == PART_FREE)
			return &u->parts[i];
	return NULL;
}

static void fill(struct cachix_upload *u)
{
	while (u->state == SENDING) {
		bool is_whole = body_state(u->body) == BODY_ENDED;
		uint64_t left = body_readable_bytes(u->body) - u->next_offset;
		struct cachix_part *part = find_free(u);

		if (is_whole && left == 0 && u->n_busy == 0)
			complete(u);
		else if (part == NULL || left == 0 || (!is_whole && left < u->part_bytes))
			return;
		else
			part_begin(part, left < u->part_bytes ? left : u->part_bytes);
	}
}

/* ---- the upload ------------------------------------------------------------------------------------- */

static void on_body_changed(struct body_watch *watch)
{
	struct cachix_upload *u = CONTAINER_OF(watch, struct cachix_upload, watch);

	if (u->state != SENDING)
		return;
	if (body_state(u->body) == BODY_FAILED)
		give_up(u, body_error(u->body), false);
	else
		fill(u);
}

/* A name that the API gave, as it may stand in a URL; NULL if it is none. */
static char *escape_name(const char *name)
{
	CLEANUP(buf_fini) struct buf out = { .max = 3 * NAME_MAX_BYTES };

	if (name == NULL || name[0] == '\0' || strlen(name) > NAME_MAX_BYTES)
		return NULL;
	for (const unsigned char *c = (const unsigned char *)name; *c != '\0'; c++) {
		if ((*c >= '0' && *c <= '9') || (*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z') ||
		    strchr("-._~", *c) != NULL)
			buf_putc(&out, (char)*c);
		else
			buf_printf(&out, "%%%02X", *c);
	}
	return buf_take(&out);
}

static void on_started(struct http_request *req)
{
	struct cachix_upload *u = CONTAINER_OF(req, struct cachix_upload, req);
	struct error err;
	json_t *root;

	assert(u->state == STARTING);
	cachix_explain(NULL, req);
	if (req->err.kind != ERROR_NONE) {
		give_up(u, &req->err, req->is_server_fault);
		return;
	}
	root = json_loadb(buf_text(&req->answer), req->answer.len, 0, NULL);
	u->upload_id = escape_name(json_string_value(json_object_get(root, "uploadId")));
	u->nar_id = escape_name(json_string_value(json_object_get(root, "narId")));
	json_decref(root);
	if (u->upload_id == NULL || u->nar_id == NULL) {
		free(u->nar_id);
		u->nar_id = NULL;
		answer_fault(req, "no narId and uploadId", &err);
		give_up(u, &err, true);
		return;
	}
	u->state = SENDING;
	if (body_state(u->body) == BODY_FAILED)
		give_up(u, body_error(u->body), false);
	else
		fill(u);
}

static void upload_cancel(struct backend_op *op)
{
	static const struct error canceled = { .kind = ERROR_CANCELED, .text = "canceled" };
	struct cachix_upload *u = op->call;

	if (u->is_canceled)
		return;
	u->is_canceled = true;
	if (u->state == SENDING)
		give_up(u, &canceled, false);
	else if (u->state != GIVING_UP)
		http_cancel(&u->req);
}

static uint64_t part_bytes_for(uint64_t nar_bytes)
{
	/* What zstd makes of data that it cannot pack is a little more than that. */
	uint64_t bytes = (nar_bytes + nar_bytes / 64) / (PARTS_MAX - 1000) + 1;

	bytes = (bytes + MIB(1) - 1) / MIB(1) * MIB(1);
	return bytes > PART_MIN_BYTES ? bytes : PART_MIN_BYTES;
}

void cachix_put_start(struct backend *backend, struct backend_op *op, const struct backend_object *object,
                      struct body *body)
{
	struct cachix *cachix = CONTAINER_OF(backend, struct cachix, backend);
	struct cachix_upload *u = calloc(1, sizeof(*u));

	op_begin(backend, op);
	if (u != NULL) {
		u->url = cachix_url(cachix, "/multipart-nar?compression=zst");
		u->etags = json_array();
	}
	if (u == NULL || u->url == NULL || u->etags == NULL) {
		if (u != NULL) {
			free(u->url);
			json_decref(u->etags);
		}
		free(u);
		error_set(&op->err, ERROR_TRANSIENT, "out of memory");
		op_end_later(op);
		return;
	}
	u->head.cancel = upload_cancel;
	u->cachix = cachix;
	u->op = op;
	u->object = object;
	u->part_bytes = part_bytes_for(object->info->nar_size);
	buf_init(&u->text, MIB(4));
	for (unsigned i = 0; i < PARTS_AT_ONCE; i++)
		u->parts[i].upload = u;
	u->body = body_ref(body);
	body_watch(body, &u->watch, on_body_changed);
	op->call = u;
	request(u, on_started);
}
