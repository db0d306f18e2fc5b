/* One path to Cachix:
 *
 *   STARTING    POST multipart-nar: an upload's two names
 *   SENDING     parts of equal size from when the first of them is there, a few at a time (cachix_parts.c)
 *   COMPLETING  POST complete, with the parts and what path it is: from then on it is visible. Sent once the
 *               body has ended, which it does not before the NAR is known to be the registered one (I7)
 *   GIVING_UP   what runs ends; then
 *   ABORTING    POST abort, so that nothing is left there; its own fault changes nothing
 *
 * A cancel gives up without aborting: the process ends, and Cachix forgets uploads by itself. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash.h"
#include "common/log.h"
#include "common/store_path.h"
#include "daemon/backend/cachix_upload.h"
#include "daemon/backend/json_text.h"
#include "daemon/format/nixbase32.h"
#include "daemon/http/fault.h"

#define PARTS_MAX      10000
#define PART_MIN_BYTES MIB(16)
#define NAME_MAX_BYTES 1024

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
	u->headers[0] = CACHIX_JSON_HEADER;
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
char *cachix_upload_url(const struct cachix_upload *u, const char *what, const char *more)
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

void cachix_maybe_abort(struct cachix_upload *u)
{
	if (u->n_busy > 0)
		return;
	free(u->url);
	u->url = u->nar_id != NULL && !u->is_canceled ? cachix_upload_url(u, "/abort", "") : NULL;
	if (u->url == NULL) {
		end(u);
		return;
	}
	u->state = CACHIX_ABORTING;
	buf_clear(&u->text);
	request(u, on_aborted);
}

/* U's own request does not run. */
void cachix_give_up(struct cachix_upload *u, const struct error *err, bool is_server_fault)
{
	if (u->state == CACHIX_GIVING_UP)
		return;
	u->state = CACHIX_GIVING_UP;
	u->err = *err;
	u->is_server_fault = is_server_fault;
	for (unsigned i = 0; i < CACHIX_PARTS_AT_ONCE; i++) {
		struct cachix_part *part = &u->parts[i];

		if (part->state == PART_HASHING)
			work_cancel(&part->work);
		else if (part->state != PART_FREE)
			http_cancel(&part->req);
	}
	cachix_maybe_abort(u);
}

static void give_up_memory(struct cachix_upload *u)
{
	static const struct error err = { .kind = ERROR_TRANSIENT, .text = "out of memory" };

	cachix_give_up(u, &err, false);
}

/* What REQ was answered is of no use. */
void cachix_answer_fault(const struct http_request *req, const char *why, struct error *err)
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
		if (json_array_append_new(list, json_string(store_path_base(info->references[i]))) < 0) {
			json_decref(list);
			return NULL;
		}
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

	assert(u->state == CACHIX_COMPLETING);
	cachix_explain(NULL, req);
	if (req->err.kind == ERROR_NONE)
		end(u);
	else
		cachix_give_up(u, &req->err, req->is_server_fault);
}

void cachix_complete(struct cachix_upload *u)
{
	json_t *root = json_pack("{s:O, s:o}", "parts", u->etags, "narInfoCreate", narinfo_of(u));
	struct error err;
	int rc;

	buf_clear(&u->text);
	rc = json_text_write(&u->text, root, 0, &err);
	json_decref(root);
	free(u->url);
	u->url = cachix_upload_url(u, "/complete", "");
	if (rc < 0 || u->url == NULL) {
		give_up_memory(u);
		return;
	}
	u->state = CACHIX_COMPLETING;
	request(u, on_completed);
}

/* ---- the upload ------------------------------------------------------------------------------------- */

static void on_body_changed(struct body_watch *watch)
{
	struct cachix_upload *u = CONTAINER_OF(watch, struct cachix_upload, watch);

	if (u->state != CACHIX_SENDING)
		return;
	if (body_state(u->body) == BODY_FAILED)
		cachix_give_up(u, body_error(u->body), false);
	else
		cachix_fill(u);
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
	CLEANUP(json_doc_fini) struct json_doc doc = { 0 };
	struct error err;

	assert(u->state == CACHIX_STARTING);
	cachix_explain(NULL, req);
	if (req->err.kind != ERROR_NONE) {
		cachix_give_up(u, &req->err, req->is_server_fault);
		return;
	}
	if (json_doc_read(&doc, &req->answer, &err) < 0) {
		cachix_give_up(u, &err, false);
		return;
	}
	u->upload_id = escape_name(json_string_value(json_object_get(doc.root, "uploadId")));
	u->nar_id = escape_name(json_string_value(json_object_get(doc.root, "narId")));
	if (u->upload_id == NULL || u->nar_id == NULL) {
		free(u->nar_id);
		u->nar_id = NULL;
		cachix_answer_fault(req, "no narId and uploadId", &err);
		cachix_give_up(u, &err, true);
		return;
	}
	crash_point(CACHIX_BEGUN);
	u->state = CACHIX_SENDING;
	if (body_state(u->body) == BODY_FAILED)
		cachix_give_up(u, body_error(u->body), false);
	else
		cachix_fill(u);
}

static void upload_cancel(struct backend_op *op)
{
	static const struct error canceled = { .kind = ERROR_CANCELED, .text = "canceled" };
	struct cachix_upload *u = op->call;

	if (u->is_canceled)
		return;
	u->is_canceled = true;
	if (u->state == CACHIX_SENDING)
		cachix_give_up(u, &canceled, false);
	else if (u->state != CACHIX_GIVING_UP)
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
	for (unsigned i = 0; i < CACHIX_PARTS_AT_ONCE; i++)
		u->parts[i].upload = u;
	u->body = body_ref(body);
	body_watch(body, &u->watch, on_body_changed);
	op->call = u;
	request(u, on_started);
}
