#include "daemon/backend/bulk.h"

#include <stdlib.h>
#include <string.h>

#include "common/store_path.h"
#include "daemon/backend/json_text.h"
#include "daemon/backend/kind.h"
#include "daemon/http/fault.h"

#define ANSWER_MAX_BYTES MIB(1)

struct question {
	struct op_call head;
	struct backend_op *op; /* NULL: canceled, and done */
	struct bulk *bulk;
	struct batch *batch; /* NULL: it waits */
	char hash[STORE_HASH_LEN + 1];
	bool is_missing;
	struct question *next;
};

struct batch {
	struct bulk *bulk;
	struct question *questions[BULK_PATHS_MAX];
	size_t n, n_asking; /* of them not canceled */
	struct buf text;
	struct http_request req;
};

struct bulk {
	struct loop *loop;
	struct http_client *client;
	char *url, *before, *after, *answer_key;
	void (*explain)(void *ctx, struct http_request *req);
	void *ctx;
	struct question *first, **last; /* those that wait */
	unsigned n_batches;
	struct loop_post post;
};

static const char *const headers[] = { "Content-Type: application/json", "Accept: application/json" };

static void flush(struct bulk *bulk);

static void batch_free(struct batch *batch)
{
	for (size_t i = 0; i < batch->n; i++)
		free(batch->questions[i]);
	buf_fini(&batch->text);
	buf_fini(&batch->req.answer);
	free(batch);
}

static int by_hash(const void *a, const void *b)
{
	return strcmp((*(struct question *const *)a)->hash, (*(struct question *const *)b)->hash);
}

static int by_text(const void *text, const void *question)
{
	return strcmp(text, (*(struct question *const *)question)->hash);
}

static int refuse_answer(const struct batch *batch, const char *why, struct error *err)
{
	struct buf url;

	buf_init(&url, KIB(8));
	http_format_url(&url, batch->req.url);
	error_set(err, ERROR_OPERATOR,
	          "POST %s: answered with something that is not a list of missing paths (%s)", buf_text(&url),
	          why);
	make_plain(err->text);
	buf_fini(&url);
	return -1;
}

/* All that ask for HASH. False: nobody does. */
static bool mark_missing(struct batch *batch, const char *hash)
{
	struct question **found =
		bsearch(hash, batch->questions, batch->n, sizeof(struct question *), by_text);

	if (found == NULL)
		return false;
	while (found > batch->questions && by_text(hash, found - 1) == 0)
		found--;
	for (; found < batch->questions + batch->n && by_text(hash, found) == 0; found++)
		(*found)->is_missing = true;
	return true;
}

/* What it does not name is there: one that names what nobody asked for is no answer to the question. */
static int read_answer(struct batch *batch, struct error *err)
{
	CLEANUP(json_doc_fini) struct json_doc doc = { 0 };
	int rc = json_doc_read(&doc, &batch->req.answer, err);
	const char *key = batch->bulk->answer_key;
	const json_t *missing;

	missing = key != NULL ? json_object_get(doc.root, key) : doc.root;
	if (rc == 0 && doc.root == NULL)
		rc = refuse_answer(batch, "no JSON", err);
	else if (rc == 0 && !json_is_array(missing))
		rc = refuse_answer(batch, "no array", err);
	for (size_t i = 0; rc == 0 && i < json_array_size(missing); i++) {
		const char *hash = json_string_value(json_array_get(missing, i));

		if (hash == NULL)
			rc = refuse_answer(batch, "not a text", err);
		else if (!mark_missing(batch, hash))
			rc = refuse_answer(batch, "it names what was not asked for", err);
	}
	return rc;
}

static void end_batch(struct batch *batch, const struct error *err)
{
	for (size_t i = 0; i < batch->n; i++) {
		struct backend_op *op = batch->questions[i]->op;

		if (op == NULL)
			continue;
		op->err = *err;
		op->is_server_fault = batch->req.is_server_fault;
		op->found = err->kind == ERROR_NONE && !batch->questions[i]->is_missing;
		op_end_later(op);
	}
	batch_free(batch);
}

static void on_answered(struct http_request *req)
{
	struct batch *batch = CONTAINER_OF(req, struct batch, req);
	struct bulk *bulk = batch->bulk;
	struct error err = { 0 };

	if (req->err.kind != ERROR_NONE && bulk->explain != NULL)
		bulk->explain(bulk->ctx, req);
	if (req->err.kind != ERROR_NONE)
		err = req->err;
	else
		(void)!read_answer(batch, &err);
	bulk->n_batches--;
	end_batch(batch, &err);
	flush(bulk);
}

/* Equal ones stand side by side: who asks for one twice is told once, or as Cachix does that it is missing.
 */
static void format_question(struct batch *batch)
{
	buf_init(&batch->text, KIB(64));
	buf_puts(&batch->text, batch->bulk->before);
	for (size_t i = 0; i < batch->n; i++)
		if (i == 0 || strcmp(batch->questions[i - 1]->hash, batch->questions[i]->hash) != 0)
			buf_printf(&batch->text, "%s\"%s\"", i == 0 ? "[" : ",", batch->questions[i]->hash);
	buf_printf(&batch->text, "]%s", batch->bulk->after);
}

static void send_batch(struct bulk *bulk, struct batch *batch)
{
	while (bulk->first != NULL && batch->n < BULK_PATHS_MAX) {
		struct question *q = bulk->first;

		bulk->first = q->next;
		q->batch = batch;
		batch->questions[batch->n++] = q;
	}
	if (bulk->first == NULL)
		bulk->last = &bulk->first;
	qsort(batch->questions, batch->n, sizeof(struct question *), by_hash);
	format_question(batch);
	if (!buf_ok(&batch->text)) {
		end_batch(batch, &(struct error){ .kind = ERROR_TRANSIENT, .text = "out of memory" });
		return;
	}
	batch->n_asking = batch->n;
	batch->req = (struct http_request){
		.method = HTTP_POST,
		.url = bulk->url,
		.headers = headers,
		.n_headers = N_ELEMENTS(headers),
		.data = buf_text(&batch->text),
		.data_len = batch->text.len,
		.answer_max_bytes = ANSWER_MAX_BYTES,
	};
	bulk->n_batches++;
	http_start(bulk->client, &batch->req, on_answered);
}

static void fail_waiting(struct bulk *bulk)
{
	struct question *q;

	while ((q = bulk->first) != NULL) {
		bulk->first = q->next;
		error_set(&q->op->err, ERROR_TRANSIENT, "out of memory");
		op_end_later(q->op);
		free(q);
	}
	bulk->last = &bulk->first;
}

static void flush(struct bulk *bulk)
{
	while (bulk->first != NULL && bulk->n_batches < BULK_REQUESTS_MAX) {
		struct batch *batch = calloc(1, sizeof(*batch));

		if (batch == NULL) {
			fail_waiting(bulk);
			return;
		}
		batch->bulk = bulk;
		send_batch(bulk, batch);
	}
}

static void on_turn(struct loop_post *post)
{
	flush(CONTAINER_OF(post, struct bulk, post));
}

static void stop_waiting(struct question *q)
{
	struct bulk *bulk = q->bulk;
	struct question **at = &bulk->first;

	while (*at != q)
		at = &(*at)->next;
	*at = q->next;
	if (bulk->last == &q->next)
		bulk->last = at;
	free(q);
}

/* A request goes on while somebody asks; the last one who does not waits for its end. */
static void question_cancel(struct backend_op *op)
{
	struct question *q = op->call;

	if (q->batch != NULL && --q->batch->n_asking == 0) {
		http_cancel(&q->batch->req);
		return;
	}
	if (q->batch != NULL)
		q->op = NULL;
	else
		stop_waiting(q);
	error_set(&op->err, ERROR_CANCELED, "canceled");
	op_end_later(op);
}

void bulk_find_start(struct bulk *bulk, struct backend *backend, struct backend_op *op, const char *path)
{
	struct question *q = calloc(1, sizeof(*q));

	op_begin(backend, op);
	if (q == NULL) {
		error_set(&op->err, ERROR_TRANSIENT, "out of memory");
		op_end_later(op);
		return;
	}
	q->head.cancel = question_cancel;
	q->op = op;
	q->bulk = bulk;
	memcpy(q->hash, store_path_base(path), STORE_HASH_LEN);
	op->call = q;
	*bulk->last = q;
	bulk->last = &q->next;
	loop_post(bulk->loop, &bulk->post, on_turn);
}

static char *copy(const char *text, bool *is_out)
{
	char *ret = text != NULL ? strdup(text) : NULL;

	*is_out = *is_out || (text != NULL && ret == NULL);
	return ret;
}

int bulk_open(struct bulk **ret, const struct bulk_config *config, struct error *err)
{
	struct bulk *bulk = calloc(1, sizeof(*bulk));
	bool is_out = bulk == NULL;

	if (is_out)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	bulk->loop = config->loop;
	bulk->client = config->client;
	bulk->explain = config->explain;
	bulk->ctx = config->ctx;
	bulk->url = copy(config->url, &is_out);
	bulk->before = copy(config->before, &is_out);
	bulk->after = copy(config->after, &is_out);
	bulk->answer_key = copy(config->answer_key, &is_out);
	bulk->last = &bulk->first;
	if (is_out) {
		bulk_close(bulk);
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	}
	*ret = bulk;
	return 0;
}

void bulk_close(struct bulk *bulk)
{
	if (bulk == NULL)
		return;
	loop_unpost(bulk->loop, &bulk->post);
	free(bulk->url);
	free(bulk->before);
	free(bulk->after);
	free(bulk->answer_key);
	free(bulk);
}
