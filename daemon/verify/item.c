/* One path: its narinfo is read and judged, the NAR it names looked at (nar.c), and what it refers to asked
 * for. What the cache's own narinfo says counts from there on: it is what its readers go by. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "daemon/format/hash.h"
#include "daemon/pack/pack.h"
#include "daemon/upload/vouch.h"
#include "daemon/verify/run.h"

#define TRIES           3
#define RETRY_MS        1000
#define RETRY_AFTER_MAX 30 /* seconds */

static void enter(struct item *item, enum item_state state);

/* ---- ends ------------------------------------------------------------------------------------ */

static void item_over(struct item *item)
{
	path_info_fini(&item->belief.info);
	narinfo_fini(&item->narinfo);
	buf_fini(&item->text);
	unpack_free(item->unpack);
	item->unpack = NULL;
	free(item->piece);
	item->piece = NULL;
	item->state = ITEM_IDLE;
	run_item_over(item);
}

/* UPLOAD is the path whose upload would mend it. What is beyond the limit comes to light once the rest is
 * mended. */
static void add_of(struct item *item, enum finding_what what, enum finding_mend mend, const char *upload,
                   const char *text)
{
	struct finding finding = { .what = what, .mend = mend };

	if (item->n_findings++ >= ITEM_FINDINGS_MAX)
		return;
	snprintf(finding.path, sizeof(finding.path), "%s", item->belief.info.path);
	snprintf(finding.upload, sizeof(finding.upload), "%s", upload);
	snprintf(finding.text, sizeof(finding.text), "%s", text);
	run_add(item->run, &finding);
}

static void add(struct item *item, enum finding_what what, enum finding_mend mend, const char *text)
{
	add_of(item, what, mend, item->belief.info.path, text);
}

void item_add_unread(struct item *item)
{
	char text[200];

	snprintf(text, sizeof(text), "%.60s is no compression that can be undone here: the NAR was not read",
	         item->narinfo.compression);
	add(item, FINDING_UNCHECKED, MEND_NONE, text);
}

/* What stands there is never overwritten: somebody must take it away. */
static void add_for_operator(struct item *item, enum finding_what what, const char *text)
{
	bool is_nar = what == FINDING_NAR_WRONG;
	char whole[512];

	snprintf(whole, sizeof(whole),
	         "%.300s; what is there is never overwritten: delete %s%.100s%.40s there", text,
	         is_nar ? item->narinfo.url : "", is_nar ? " and " : "", item->key);
	add(item, what, MEND_OPERATOR, whole);
}

/* A fault that may be this path's is tried again; one that says nothing of it is the run's. */
static void item_fault(struct item *item, const struct error *fault, bool is_server_fault)
{
	struct verify_run *run = item->run;
	uint64_t delay_ms = (uint64_t)RETRY_MS * item->n_tries;

	if (item->is_closing || fault->kind == ERROR_CANCELED) {
		item_over(item);
		return;
	}
	if (fault->kind == ERROR_OPERATOR || (is_server_fault && item->n_tries >= TRIES)) {
		run_fail(run, fault);
		item_over(item);
		return;
	}
	if (fault->kind == ERROR_TRANSIENT && item->n_tries < TRIES) {
		if (fault->retry_after_s > 0 && fault->retry_after_s <= RETRY_AFTER_MAX)
			delay_ms = (uint64_t)fault->retry_after_s * 1000;
		item->again = item->state;
		item->state = ITEM_WAITING;
		item->due_mono_ms = clock_mono_ms() + delay_ms;
		return;
	}
	if (++run->n_faults >= TRIES)
		run_fail(run, fault);
	add(item, FINDING_UNCHECKED, MEND_NONE, fault->text);
	item_over(item);
}

void item_tick(struct item *item, uint64_t now_mono_ms)
{
	if (item->state != ITEM_WAITING || now_mono_ms < item->due_mono_ms)
		return;
	item->n_tries++;
	enter(item, item->again);
}

void item_cancel(struct item *item)
{
	item->is_closing = true;
	if (item->is_reading)
		backend_read_cancel(&item->read);
	if (item->is_asking)
		item->op.backend->ops->cancel(&item->op);
	if (item->state == ITEM_WAITING)
		item_over(item);
}

/* The answer was whole: later faults are counted anew. */
static void item_answered(struct item *item)
{
	item->n_tries = 1;
	item->run->n_faults = 0;
}

/* ---- references ------------------------------------------------------------------------------ */

static const struct path_info *referring(const struct item *item)
{
	return item->narinfo.info.path != NULL ? &item->narinfo.info : &item->belief.info;
}

/* As we know it, and not as the cache says: that could name any path of the store to be sent to it. */
static bool refers_to(const struct path_info *info, const char *reference)
{
	for (size_t i = 0; i < info->n_references; i++)
		if (strcmp(info->references[i], reference) == 0)
			return true;
	return false;
}

static void add_dangling(struct item *item, const char *reference)
{
	bool is_ours = refers_to(&item->belief.info, reference);
	char text[400];

	snprintf(text, sizeof(text), "it refers to %.300s, which is neither there nor in an upstream",
	         reference);
	add_of(item, FINDING_DANGLING, is_ours ? MEND_UPLOAD : MEND_NONE, reference, text);
}

static void ask_references(struct item *item);

static void on_asked(struct backend_op *op)
{
	struct item *item = CONTAINER_OF(op, struct item, op);
	struct memo *memo = item->run->memo;
	const char *reference = referring(item)->references[item->next_reference];
	bool is_of_upstream = item->next_upstream > 0;
	/* Something else than its narinfo lies there: that is for its own look to say. */
	bool is_of_reference = op->err.kind == ERROR_OPERATOR && !op->is_server_fault;

	item->is_asking = false;
	if (item->is_closing || (op->err.kind != ERROR_NONE && !is_of_upstream && !is_of_reference)) {
		item_fault(item, &op->err, op->is_server_fault);
		return;
	}
	if (op->found) {
		memo_put(memo, reference, MEMO_THERE);
		item->next_upstream = 0;
		item->next_reference++;
		item_answered(item);
	} else if (op->err.kind != ERROR_NONE) {
		/* Whether it is there is not known, and that is not "nowhere". */
		add(item, FINDING_UNCHECKED, MEND_NONE, op->err.text);
		item->next_upstream = 0;
		item->next_reference++;
	} else {
		item->next_upstream++;
	}
	ask_references(item);
}

/* The cache is asked first, then its upstreams, one after the other. */
static struct backend *next_backend(struct item *item)
{
	struct verify_run *run = item->run;
	size_t n_upstreams = run->verifier->config.config->n_upstreams;

	if (item->next_upstream == 0)
		return run->link->backend;
	while (item->next_upstream <= n_upstreams && run->upstreams[item->next_upstream - 1] == NULL)
		item->next_upstream++;
	return item->next_upstream <= n_upstreams ? run->upstreams[item->next_upstream - 1] : NULL;
}

/* Is there one to be asked for? Then it is ITEM's next_reference. */
static bool find_reference(struct item *item)
{
	const struct path_info *info = referring(item);

	for (; item->next_reference < info->n_references; item->next_reference++) {
		const char *reference = info->references[item->next_reference];

		if (strcmp(reference, item->belief.info.path) == 0)
			continue;
		switch (memo_get(item->run->memo, reference)) {
		case MEMO_UNKNOWN:
			return true;
		case MEMO_THERE:
			break;
		case MEMO_NOWHERE:
			add_dangling(item, reference);
			break;
		}
	}
	return false;
}

static void ask_references(struct item *item)
{
	while (!item->is_closing && (item->next_upstream > 0 || find_reference(item))) {
		const char *reference = referring(item)->references[item->next_reference];
		struct backend *backend = next_backend(item);

		if (backend != NULL) {
			item->op = (struct backend_op){ .done = on_asked };
			item->op.backend = backend;
			item->is_asking = true;
			backend->ops->find_info_start(backend, &item->op, reference);
			return;
		}
		memo_put(item->run->memo, reference, MEMO_NOWHERE);
		item->next_upstream = 0;
	}
	item_over(item);
}

/* ---- the NAR --------------------------------------------------------------------------------- */

/* Would an upload put its NAR where the narinfo says that it is? */
static bool is_our_url(const struct item *item)
{
	const struct cache_config *config = item->run->config;
	enum compression compression =
		config->compression == COMPRESS_NONE ? COMPRESSION_NONE : COMPRESSION_ZSTD;
	char hash[SHA256_NIX32_SIZE], url[96];

	nixbase32_encode(hash, item->belief.info.nar_hash, SHA256_BYTES);
	snprintf(url, sizeof(url), "nar/%s.nar%s", hash, compression_suffix(compression));
	return item->run->link->backend->ops->kind == PUBLISH_SEPARATE && strcmp(item->narinfo.url, url) == 0;
}

static void add_no_nar(struct item *item)
{
	char text[400];

	snprintf(text, sizeof(text), "the narinfo names %.300s, which is not there", item->narinfo.url);
	if (is_our_url(item))
		add(item, FINDING_NAR_MISSING, MEND_FORCE, text);
	else
		add_for_operator(item, FINDING_NAR_MISSING, text);
}

void item_nar_over(struct item *item, const struct error *fault)
{
	const struct narinfo *narinfo = &item->narinfo;
	uint64_t is_bytes = item->read.size_bytes > 0 ? item->read.size_bytes : item->n_read;
	char text[400];

	if (item->is_closing || (fault != NULL && fault->kind != ERROR_PERMANENT)) {
		item_fault(item, fault != NULL ? fault : &item->read.err, item->read.is_server_fault);
		return;
	}
	item_answered(item);
	if (fault != NULL) {
		snprintf(text, sizeof(text), "%.150s: %.240s", narinfo->url, fault->text);
		add_for_operator(item, FINDING_NAR_WRONG, text);
	} else if (!item->read.found) {
		add_no_nar(item);
	} else if (narinfo->file_size > 0 && is_bytes > 0 && is_bytes != narinfo->file_size) {
		snprintf(text, sizeof(text), "%.150s has %llu bytes, the narinfo says %llu", narinfo->url,
		         (unsigned long long)is_bytes, (unsigned long long)narinfo->file_size);
		add_for_operator(item, FINDING_NAR_WRONG, text);
	}
	enter(item, ITEM_REFERENCES);
}

/* ---- the narinfo ----------------------------------------------------------------------------- */

static int parse(struct item *item, struct error *err)
{
	const char *path = item->belief.info.path;
	char store_dir[STORE_PATH_SIZE];

	snprintf(store_dir, sizeof(store_dir), "%.*s", (int)(store_path_base(path) - path) - 1, path);
	if (narinfo_parse(&item->narinfo, buf_text(&item->text), item->text.len, store_dir, err) < 0)
		return -1;
	if (strcmp(item->narinfo.info.path, path) == 0)
		return 0;
	return error_set(err, ERROR_PERMANENT, "the narinfo is of %.200s", item->narinfo.info.path);
}

static void judge(struct item *item)
{
	struct verify_run *run = item->run;
	const struct config *config = run->verifier->config.config;
	const struct belief belief = {
		.info = &item->belief.info,
		.was_uploaded = item->belief.was_uploaded,
		/* An Attic server signs by itself, and keeps no signature of ours. */
		.must_be_signed = run->config->kind != CACHE_ATTIC &&
		                  vouch_is_for(config, run->config, &item->belief.info),
		.keys = run->link->keys,
		.n_keys = run->config->kind != CACHE_ATTIC ? run->link->n_keys : 0,
	};
	struct finding finding = { 0 };

	if (!finding_judge(&finding, &belief, &item->narinfo))
		return;
	if (finding.what == FINDING_OTHER_BUILD)
		add(item, finding.what, MEND_NONE, finding.text);
	else
		add_for_operator(item, finding.what, finding.text);
}

static void info_is_missing(struct item *item)
{
	add(item, FINDING_MISSING, MEND_UPLOAD, "there is no narinfo");
	item_over(item);
}

static void on_info(struct backend_read *read)
{
	struct item *item = CONTAINER_OF(read, struct item, read);
	struct error err;

	item->is_reading = false;
	if (read->err.kind != ERROR_NONE || item->is_closing) {
		item_fault(item, &read->err, read->is_server_fault);
		return;
	}
	item_answered(item);
	if (!read->found) {
		info_is_missing(item);
		return;
	}
	memo_put(item->run->memo, item->belief.info.path, MEMO_THERE);
	if (parse(item, &err) < 0) {
		narinfo_fini(&item->narinfo);
		add_for_operator(item, FINDING_WRONG, err.text);
		item_over(item);
		return;
	}
	judge(item);
	enter(item, ITEM_NAR);
}

static int on_info_text(struct backend_read *read, const void *data, size_t n_bytes, struct error *err)
{
	struct item *item = CONTAINER_OF(read, struct item, read);

	buf_append(&item->text, data, n_bytes);
	if (buf_ok(&item->text))
		return 0;
	error_set(err, ERROR_PERMANENT, "%s: longer than a narinfo can be", item->key);
	return HTTP_SINK_FAILED;
}

/* Where only this can be asked. */
static void on_found(struct backend_op *op)
{
	struct item *item = CONTAINER_OF(op, struct item, op);

	item->is_asking = false;
	if (op->err.kind != ERROR_NONE || item->is_closing) {
		item_fault(item, &op->err, op->is_server_fault);
		return;
	}
	item_answered(item);
	if (!op->found) {
		info_is_missing(item);
		return;
	}
	memo_put(item->run->memo, item->belief.info.path, MEMO_THERE);
	enter(item, ITEM_REFERENCES);
}

static void ask_info(struct item *item)
{
	struct backend *backend = item->run->link->backend;

	if (backend->ops->read_start == NULL) {
		item->op = (struct backend_op){ .done = on_found };
		item->op.backend = backend;
		item->is_asking = true;
		backend->ops->find_info_start(backend, &item->op, item->belief.info.path);
		return;
	}
	buf_fini(&item->text);
	buf_init(&item->text, NARINFO_MAX_BYTES);
	item->read = (struct backend_read){ .done = on_info, .write = on_info_text };
	item->is_reading = true;
	backend_read_start(backend, &item->read, item->key);
}

/* ---- the machine ----------------------------------------------------------------------------- */

static void enter(struct item *item, enum item_state state)
{
	item->state = state;
	if (item->is_closing) {
		item_over(item);
		return;
	}
	switch (state) {
	case ITEM_INFO:
		ask_info(item);
		return;
	case ITEM_NAR:
		nar_start(item);
		return;
	case ITEM_REFERENCES:
		ask_references(item);
		return;
	case ITEM_IDLE:
	case ITEM_WAITING:
		break;
	}
	assert(false);
}

void item_start(struct item *item, struct queue_belief *belief)
{
	struct verify_run *run = item->run;

	*item = (struct item){ .run = run, .belief = *belief, .n_tries = 1 };
	*belief = (struct queue_belief){ 0 };
	snprintf(item->key, sizeof(item->key), "%.*s.narinfo", STORE_HASH_LEN,
	         store_path_base(item->belief.info.path));
	enter(item, ITEM_INFO);
}
