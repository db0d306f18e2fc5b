/*   CREATING -> NOTING -> SENDING -> COMPLETING -----------------------------> CLOSING -> done
 *                  |         |           |  refused, gone: -> LOOKING ----------^  ^
 *                  |         |           |                       |                 |
 *                  +---------+-----------+--> GIVING_UP -> ABORTING ---------------+
 *
 * A fault of CREATING, and a cancel, go to CLOSING at once. Parts are read from the body, which keeps them
 * for the next try. `err` is why it is given up, kept while that takes its time. */
#include "daemon/backend/s3_parts.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash.h"
#include "common/log.h"
#include "daemon/backend/xml.h"
#include "daemon/http/fault.h"

#define TRIES_MAX      5
#define REST_FIRST_MS  1000
#define REST_MAX_S     30
#define ETAG_MAX       128
#define LIST_MAX_BYTES MIB(4)

static void give_up(struct s3_parts *p, const struct error *err, bool is_server_fault);
static void fill(struct s3_parts *p);

uint64_t s3_part_bytes(uint64_t bound_bytes)
{
	uint64_t bytes = bound_bytes / (S3_PARTS_MAX - 1000) + 1;

	bytes = (bytes + MIB(1) - 1) / MIB(1) * MIB(1);
	if (bytes > S3_PART_LIMIT_BYTES)
		return S3_PART_LIMIT_BYTES;
	return bytes > S3_PART_MIN_BYTES ? bytes : S3_PART_MIN_BYTES;
}

/* The end */

static void on_timer_closed(struct timer *timer)
{
	struct s3_parts *p = CONTAINER_OF(timer, struct s3_parts, timer);

	p->done(p);
}

static void finish(struct s3_parts *p)
{
	p->state = S3_PARTS_CLOSING;
	body_unwatch(&p->watch);
	s3_request_fini(&p->req);
	for (unsigned i = 0; i < S3_PARTS_AT_ONCE; i++)
		s3_request_fini(&p->places[i].req);
	for (unsigned i = 0; i < p->n_parts && p->etags != NULL; i++)
		free(p->etags[i]);
	free(p->etags);
	p->etags = NULL;
	buf_fini(&p->text);
	timer_close(&p->timer, on_timer_closed);
}

/* Trying again */

/* Is a fault one to wait out, N_TRIES having been made? */
static bool may_pass(const struct error *err, unsigned n_tries)
{
	return err->kind == ERROR_TRANSIENT && n_tries < TRIES_MAX && err->retry_after_s <= REST_MAX_S;
}

/* One timer for all that rest: who comes later waits with the first, or a little longer than that. */
static void rest(struct s3_parts *p, const struct error *err, unsigned n_tries)
{
	uint64_t delay_ms = (uint64_t)REST_FIRST_MS << (n_tries - 1);

	log_debug("s3 request rests for %" PRIu64 " ms: %s", delay_ms, err->text);
	if (err->retry_after_s * UINT64_C(1000) > delay_ms)
		delay_ms = err->retry_after_s * UINT64_C(1000);
	if (!timer_is_set(&p->timer))
		timer_set(&p->timer, delay_ms);
}

/* Requests that are not parts */

static void start_request(struct s3_parts *p, s3_done_fn done)
{
	p->is_running = true;
	p->is_resting = false;
	p->n_tries++;
	s3_request_start(p->bucket, &p->req, done);
}

static void set_upload_query(struct s3_parts *p)
{
	struct buf query;

	buf_init_in(&query, p->query, sizeof(p->query));
	s3_put_query(&query, "uploadId", p->upload_id);
	p->req.query = p->query;
}

static void add_header(struct s3_request *req, const char *line)
{
	assert(req->n_headers < S3_HEADERS_MAX);
	req->headers[req->n_headers++] = line;
}

static void on_aborted(struct s3_request *req)
{
	struct s3_parts *p = CONTAINER_OF(req, struct s3_parts, req);

	p->is_running = false;
	if (req->err.kind != ERROR_NONE && req->fault.cause != S3_NO_SUCH_UPLOAD && !p->is_canceled) {
		log_debug("upload was not aborted: %s", req->err.text);
		/* A put that went well makes the queue forget the upload's id, by which it is tried again. */
		if (p->err.kind == ERROR_NONE) {
			p->found = false;
			p->err = req->err;
			p->is_server_fault = req->is_server_fault;
		}
	}
	finish(p);
}

static void abort_upload(struct s3_parts *p)
{
	if (p->is_canceled) {
		finish(p);
		return;
	}
	p->state = S3_PARTS_ABORTING;
	s3_request_fini(&p->req);
	p->req.method = HTTP_DELETE;
	p->req.key = p->key;
	set_upload_query(p);
	start_request(p, on_aborted);
}

/* The last of what ran has ended. */
static void maybe_abort(struct s3_parts *p)
{
	if (p->state == S3_PARTS_GIVING_UP && p->n_places_busy == 0)
		abort_upload(p);
}

/* No request but parts may run. */
static void give_up(struct s3_parts *p, const struct error *err, bool is_server_fault)
{
	if (p->state == S3_PARTS_GIVING_UP)
		return;
	p->err = *err;
	p->is_server_fault = is_server_fault;
	p->state = S3_PARTS_GIVING_UP;
	timer_stop(&p->timer);
	for (unsigned i = 0; i < S3_PARTS_AT_ONCE; i++) {
		struct s3_part *part = &p->places[i];

		if (part->is_running) {
			s3_request_cancel(&part->req);
		} else if (part->is_resting) {
			part->is_resting = false;
			p->n_places_busy--;
		}
	}
	maybe_abort(p);
}

/* Completing */

/* Somebody's object is there, or ours is although the answer was lost: which, only its size could tell. */
static void on_looked(struct s3_request *req)
{
	struct s3_parts *p = CONTAINER_OF(req, struct s3_parts, req);

	assert(p->state == S3_PARTS_LOOKING);
	p->is_running = false;
	if (req->err.kind != ERROR_NONE) {
		give_up(p, req->err.kind == ERROR_CANCELED ? &req->err : &p->err, p->is_server_fault);
		return;
	}
	p->found = true;
	if (req->http.content_length != HTTP_LENGTH_UNKNOWN)
		p->file_size = req->http.content_length;
	give_up(p, &(struct error){ 0 }, false);
}

static void look(struct s3_parts *p, const struct error *refusal, bool is_server_fault)
{
	p->state = S3_PARTS_LOOKING;
	p->err = *refusal;
	p->is_server_fault = is_server_fault;
	s3_request_fini(&p->req);
	p->req.method = HTTP_HEAD;
	p->req.key = p->key;
	start_request(p, on_looked);
}

static void put_escaped(struct buf *out, const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '&')
			buf_puts(out, "&amp;");
		else if (*text == '<')
			buf_puts(out, "&lt;");
		else if (*text == '>')
			buf_puts(out, "&gt;");
		else
			buf_putc(out, *text);
	}
}

static void on_completed(struct s3_request *req);

static void complete(struct s3_parts *p)
{
	p->state = S3_PARTS_COMPLETING;
	s3_request_fini(&p->req);
	if (p->text.len == 0) {
		buf_puts(&p->text, "<CompleteMultipartUpload>");
		for (unsigned i = 0; i < p->n_parts; i++) {
			buf_printf(&p->text, "<Part><PartNumber>%u</PartNumber><ETag>", i + 1);
			put_escaped(&p->text, p->etags[i]);
			buf_puts(&p->text, "</ETag></Part>");
		}
		buf_puts(&p->text, "</CompleteMultipartUpload>");
	}
	if (!buf_ok(&p->text)) {
		give_up(p, &(struct error){ .kind = ERROR_TRANSIENT, .text = "out of memory" }, false);
		return;
	}
	p->req.method = HTTP_POST;
	p->req.key = p->key;
	p->req.data = p->text.data;
	p->req.data_len = p->text.len;
	add_header(&p->req, "Content-Type: text/xml");
	if (!p->bucket->is_unconditional)
		add_header(&p->req, "If-None-Match: *");
	set_upload_query(p);
	start_request(p, on_completed);
}

static void on_completed(struct s3_request *req)
{
	struct s3_parts *p = CONTAINER_OF(req, struct s3_parts, req);
	unsigned status = req->http.status;

	assert(p->state == S3_PARTS_COMPLETING);
	p->is_running = false;
	if (req->err.kind == ERROR_NONE &&
	    s3_judge_body(&req->fault, &req->http, &p->bucket->place, "CompleteMultipartUploadResult")) {
		finish(p);
		return;
	}
	if (req->err.kind == ERROR_NONE)
		req->err = req->http.err;
	if (req->err.kind == ERROR_CANCELED) {
		give_up(p, &req->err, false);
	} else if (status == 501 && !p->bucket->is_unconditional) {
		p->bucket->is_unconditional = true;
		complete(p);
	} else if (status == 412) {
		p->found = true;
		give_up(p, &(struct error){ 0 }, false);
	} else if (req->fault.cause == S3_NO_SUCH_UPLOAD || status == 403 || status == 409) {
		look(p, &req->err, req->is_server_fault);
	} else if (may_pass(&req->err, p->n_tries)) {
		p->is_resting = true;
		rest(p, &req->err, p->n_tries);
	} else {
		give_up(p, &req->err, req->is_server_fault);
	}
}

/* Parts */

static void count_sent(struct s3_parts *p)
{
	*p->sent_bytes = p->done_bytes;
	for (unsigned i = 0; i < S3_PARTS_AT_ONCE; i++)
		if (p->places[i].is_running)
			*p->sent_bytes += p->places[i].req.http.sent_bytes;
}

static void on_progress(struct s3_request *req, uint64_t n_bytes)
{
	(void)n_bytes;
	count_sent(CONTAINER_OF(req, struct s3_part, req)->parts);
}

static void on_part_sent(struct s3_request *req);

static void send_part(struct s3_part *part)
{
	struct s3_parts *p = part->parts;

	s3_request_fini(&part->req);
	part->is_running = true;
	part->is_resting = false;
	part->n_tries++;
	part->req.method = HTTP_PUT;
	part->req.key = p->key;
	part->req.query = part->query;
	part->req.body = p->body;
	part->req.body_offset = part->offset;
	part->req.body_len = part->len;
	part->req.progress = on_progress;
	s3_request_start(p->bucket, &part->req, on_part_sent);
}

/* Opaque, but it goes into XML and had better be one line. */
static char *take_etag(const struct s3_request *req)
{
	const char *etag = http_get_header(&req->http, "ETag");

	if (etag == NULL || etag[0] == '\0' || strlen(etag) > ETAG_MAX)
		return NULL;
	for (const char *c = etag; *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
			return NULL;
	return strdup(etag);
}

static void part_is_there(struct s3_part *part)
{
	struct s3_parts *p = part->parts;
	char *etag = take_etag(&part->req);

	p->n_places_busy--;
	if (etag == NULL) {
		struct error err;

		error_set(&err, ERROR_OPERATOR,
		          "PUT %s/%s: answered without an ETag: that is not S3; is endpoint right?",
		          p->bucket->place.base_url, p->key);
		give_up(p, &err, true);
		return;
	}
	log_debug("part sent key=%s number=%u bytes=%" PRIu64 " tries=%u", p->key, part->number, part->len,
	          part->n_tries);
	crash_point(S3_PART_SENT);
	p->etags[part->number - 1] = etag;
	p->done_bytes += part->len;
	part->number = 0;
	count_sent(p);
	fill(p);
}

static void on_part_sent(struct s3_request *req)
{
	struct s3_part *part = CONTAINER_OF(req, struct s3_part, req);
	struct s3_parts *p = part->parts;

	part->is_running = false;
	if (p->state == S3_PARTS_GIVING_UP) {
		p->n_places_busy--;
		maybe_abort(p);
	} else if (req->err.kind == ERROR_NONE) {
		part_is_there(part);
	} else if (may_pass(&req->err, part->n_tries) && req->fault.cause != S3_NO_SUCH_UPLOAD) {
		part->is_resting = true;
		rest(p, &req->err, part->n_tries);
	} else {
		p->n_places_busy--;
		give_up(p, &req->err, req->is_server_fault);
	}
}

static struct s3_part *find_place(struct s3_parts *p)
{
	for (unsigned i = 0; i < S3_PARTS_AT_ONCE; i++)
		if (p->places[i].number == 0)
			return &p->places[i];
	return NULL;
}

static int note_part(struct s3_parts *p, struct s3_part *part, uint64_t len)
{
	char **etags = realloc(p->etags, (p->n_parts + 1) * sizeof(p->etags[0]));
	struct buf query;
	char number[16];

	if (etags == NULL)
		return -1;
	p->etags = etags;
	p->etags[p->n_parts++] = NULL;
	snprintf(number, sizeof(number), "%u", p->n_parts);
	buf_init_in(&query, part->query, sizeof(part->query));
	s3_put_query(&query, "partNumber", number);
	s3_put_query(&query, "uploadId", p->upload_id);
	part->parts = p;
	part->number = p->n_parts;
	part->n_tries = 0;
	part->offset = p->next_offset;
	part->len = len;
	p->next_offset += len;
	p->n_places_busy++;
	return 0;
}

/* Starts what parts there are, as long as there are places; completes when all of them are there. */
static void fill(struct s3_parts *p)
{
	while (p->state == S3_PARTS_SENDING) {
		bool is_whole = body_state(p->body) == BODY_ENDED;
		uint64_t left = body_readable_bytes(p->body) - p->next_offset;
		struct s3_part *part = find_place(p);

		if (is_whole && left == 0 && p->n_places_busy == 0) {
			complete(p);
			return;
		}
		if (part == NULL || left == 0 || (!is_whole && left < p->part_bytes))
			return;
		if (p->n_parts == S3_PARTS_MAX ||
		    note_part(p, part, left < p->part_bytes ? left : p->part_bytes) < 0) {
			give_up(p, &(struct error){ .kind = ERROR_TRANSIENT, .text = "out of memory" },
			        false);
			return;
		}
		send_part(part);
	}
}

static void on_body_changed(struct body_watch *watch)
{
	struct s3_parts *p = CONTAINER_OF(watch, struct s3_parts, watch);

	if (p->state != S3_PARTS_SENDING)
		return;
	if (body_state(p->body) == BODY_FAILED)
		give_up(p, body_error(p->body), false);
	else
		fill(p);
}

void s3_parts_noted(struct s3_parts *p, const struct error *err)
{
	static const struct error canceled = { .kind = ERROR_CANCELED, .text = "canceled" };

	assert(p->state == S3_PARTS_NOTING);
	p->n_tries = 0;
	if (p->is_canceled) {
		give_up(p, &canceled, false);
	} else if (err->kind != ERROR_NONE) {
		give_up(p, err, false);
	} else if (body_state(p->body) == BODY_FAILED) {
		give_up(p, body_error(p->body), false);
	} else {
		crash_point(S3_NOTED);
		p->state = S3_PARTS_SENDING;
		fill(p);
	}
}

/* Creating */

static void on_created(struct s3_request *req);

static void create(struct s3_parts *p)
{
	p->state = S3_PARTS_CREATING;
	s3_request_fini(&p->req);
	p->req.method = HTTP_POST;
	p->req.key = p->key;
	p->req.query = "uploads=";
	add_header(&p->req, p->content_type);
	if (p->bucket->storage_class != NULL)
		add_header(&p->req, p->bucket->storage_class);
	start_request(p, on_created);
}

static bool read_upload_id(struct s3_parts *p)
{
	struct xml_field field = { .name = "UploadId", .text = p->upload_id, .size = sizeof(p->upload_id) };
	char root[XML_NAME_SIZE];

	if (!xml_read(buf_text(&p->req.http.answer), p->req.http.answer.len, root, &field, 1) ||
	    strcmp(root, "InitiateMultipartUploadResult") != 0 || field.is_cut)
		return false;
	for (const char *c = p->upload_id; *c != '\0'; c++)
		if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f)
			return false;
	return p->upload_id[0] != '\0';
}

static void on_created(struct s3_request *req)
{
	struct s3_parts *p = CONTAINER_OF(req, struct s3_parts, req);

	p->is_running = false;
	if (req->err.kind == ERROR_NONE && read_upload_id(p)) {
		crash_point(S3_BEGUN);
		p->state = S3_PARTS_NOTING;
		p->note(p, p->upload_id);
		return;
	}
	if (req->err.kind == ERROR_NONE) {
		error_set(&p->err, ERROR_OPERATOR,
		          "POST %s/%s: answered with something that is not S3's; is endpoint right?",
		          p->bucket->place.base_url, p->key);
		p->is_server_fault = true;
	} else if (may_pass(&req->err, p->n_tries)) {
		p->is_resting = true;
		rest(p, &req->err, p->n_tries);
		return;
	} else {
		p->err = req->err;
		p->is_server_fault = req->is_server_fault;
	}
	finish(p);
}

/* The outer side */

static void on_rested(struct timer *timer)
{
	struct s3_parts *p = CONTAINER_OF(timer, struct s3_parts, timer);

	if (p->is_resting && p->state == S3_PARTS_CREATING)
		create(p);
	else if (p->is_resting && p->state == S3_PARTS_COMPLETING)
		complete(p);
	for (unsigned i = 0; i < S3_PARTS_AT_ONCE && p->state == S3_PARTS_SENDING; i++)
		if (p->places[i].is_resting)
			send_part(&p->places[i]);
}

void s3_parts_start(struct s3_parts *p)
{
	buf_init(&p->text, LIST_MAX_BYTES);
	timer_init(&p->timer, p->bucket->loop, on_rested);
	body_watch(p->body, &p->watch, on_body_changed);
	create(p);
}

void s3_parts_cancel(struct s3_parts *p)
{
	static const struct error canceled = { .kind = ERROR_CANCELED, .text = "canceled" };

	if (p->is_canceled || p->state == S3_PARTS_CLOSING)
		return;
	p->is_canceled = true;
	if (p->state == S3_PARTS_NOTING)
		return; /* it is answered soon */
	if (p->is_running) {
		s3_request_cancel(&p->req);
	} else if (p->is_resting && p->state == S3_PARTS_CREATING) {
		p->err = canceled;
		finish(p);
	} else {
		give_up(p, &canceled, false);
	}
}
