/* The parts of a path to Cachix: each is hashed on a worker, asks the API for a URL, and goes there. A URL
 * that has run out, like any fault that may pass, is asked for anew, a few times. Whatever the storage
 * answers, it is no word on the path. */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash.h"
#include "daemon/backend/cachix_upload.h"
#include "daemon/backend/json_text.h"

#define PART_TRIES_MAX 3
#define ETAG_MAX_BYTES 256

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

	if (u->state == CACHIX_SENDING)
		return true;
	part_free(part);
	cachix_maybe_abort(u);
	return false;
}

static void part_fail(struct cachix_part *part, const struct error *err, bool is_server_fault)
{
	struct cachix_upload *u = part->upload;

	part_free(part);
	cachix_give_up(u, err, is_server_fault);
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
		crash_point(CACHIX_PART_SENT);
		u->done_bytes += part->len;
		u->op->sent_bytes = u->done_bytes;
		part_free(part);
		cachix_fill(u);
	} else if (req->err.kind == ERROR_NONE) {
		struct error err;

		error_set(&err, ERROR_TRANSIENT, "part %u: the storage answered without an ETag",
		          part->number);
		part_fail(part, &err, false);
	} else if ((req->err.kind == ERROR_TRANSIENT || req->status == 403 || req->status == 400) &&
	           part->n_tries < PART_TRIES_MAX) {
		/* A URL runs out, and the storage says 403 then. It says 400 of a body that came too slowly,
		 * or other than it was sent. */
		part_ask(part);
	} else {
		/* Whose fault it is, the API's next answer will tell. */
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
	CLEANUP(json_doc_fini) struct json_doc doc = { 0 };
	struct error err;
	const char *url;

	if (!part_goes_on(part))
		return;
	cachix_explain(NULL, req);
	if (req->err.kind != ERROR_NONE) {
		part_fail(part, &req->err, req->is_server_fault);
		return;
	}
	if (json_doc_read(&doc, &req->answer, &err) < 0) {
		part_fail(part, &err, false);
		return;
	}
	url = json_string_value(json_object_get(doc.root, "uploadUrl"));
	if (!url_is_safe(u->cachix, url)) {
		/* The URL is a secret: what came is not repeated. */
		cachix_answer_fault(req, "no URL for a part", &err);
		part_fail(part, &err, true);
		return;
	}
	free(part->url);
	part->url = strdup(url);
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
	part->url = cachix_upload_url(u, "", more);
	buf_clear(&part->text);
	buf_printf(&part->text, "{\"contentMD5\":\"%s\"}", part->md5);
	if (part->url == NULL || !buf_ok(&part->text)) {
		const struct error err = { .kind = ERROR_TRANSIENT, .text = "out of memory" };

		part_fail(part, &err, false);
		return;
	}
	part->n_tries++;
	buf_fini(&part->req.answer);
	part->headers[0] = CACHIX_JSON_HEADER;
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
		EVP_EncodeBlock((unsigned char *)part->md5, digest, CACHIX_MD5_BYTES);
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
	for (unsigned i = 0; i < CACHIX_PARTS_AT_ONCE; i++)
		if (u->parts[i].state == PART_FREE)
			return &u->parts[i];
	return NULL;
}

void cachix_fill(struct cachix_upload *u)
{
	while (u->state == CACHIX_SENDING) {
		bool is_whole = body_state(u->body) == BODY_ENDED;
		uint64_t left = body_readable_bytes(u->body) - u->next_offset;
		struct cachix_part *part = find_free(u);

		if (is_whole && left == 0 && u->n_busy == 0) {
			cachix_complete(u);
			return;
		}
		if (part == NULL || left == 0 || (!is_whole && left < u->part_bytes))
			return;
		part_begin(part, left < u->part_bytes ? left : u->part_bytes);
	}
}
