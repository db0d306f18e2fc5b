#include "daemon/upload/transfer.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/log.h"
#include "common/store_path.h"
#include "daemon/format/narinfo.h"
#include "daemon/format/nixbase32.h"

/* Below this, sending the NAR costs less than asking whether it is there. */
#define ASK_NAR_FROM_BYTES MIB(1)

#define TO(state) (1u << (state))

static const unsigned allowed[] = {
	[UPLOAD_VERIFYING] = TO(UPLOAD_PREPARING) | TO(UPLOAD_ASKING) | TO(UPLOAD_RECORDING),
	[UPLOAD_PREPARING] = TO(UPLOAD_VERIFYING) | TO(UPLOAD_ABANDONING) | TO(UPLOAD_ASKING) |
	                     TO(UPLOAD_PUBLISHING) | TO(UPLOAD_RECORDING),
	[UPLOAD_ABANDONING] = TO(UPLOAD_VERIFYING) | TO(UPLOAD_ASKING) | TO(UPLOAD_RECORDING),
	[UPLOAD_ASKING] = TO(UPLOAD_ASKING_NAR) | TO(UPLOAD_SENDING) | TO(UPLOAD_AWAITING_TWIN) |
	                  TO(UPLOAD_PUBLISHING) | TO(UPLOAD_RECORDING),
	[UPLOAD_ASKING_NAR] =
		TO(UPLOAD_SENDING) | TO(UPLOAD_AWAITING_TWIN) | TO(UPLOAD_PUBLISHING) | TO(UPLOAD_RECORDING),
	[UPLOAD_AWAITING_TWIN] = TO(UPLOAD_SENDING) | TO(UPLOAD_PUBLISHING) | TO(UPLOAD_RECORDING),
	[UPLOAD_SENDING] = TO(UPLOAD_PUBLISHING) | TO(UPLOAD_ASKING_NAR) | TO(UPLOAD_CHECKING_STORE) |
	                   TO(UPLOAD_RECORDING),
	[UPLOAD_PUBLISHING] = TO(UPLOAD_ASKING_NAR) | TO(UPLOAD_SENDING) | TO(UPLOAD_AWAITING_TWIN) |
	                      TO(UPLOAD_SENDING_INFO) | TO(UPLOAD_RECORDING) | TO(UPLOAD_ENDED),
	[UPLOAD_SENDING_INFO] = TO(UPLOAD_RECORDING),
	[UPLOAD_CHECKING_STORE] = TO(UPLOAD_RECORDING),
	[UPLOAD_RECORDING] = TO(UPLOAD_RECORDING) | TO(UPLOAD_ENDED),
	[UPLOAD_ENDED] = 0,
};

static const char *const state_names[] = {
	[UPLOAD_VERIFYING] = "verifying",       [UPLOAD_PREPARING] = "preparing",
	[UPLOAD_ABANDONING] = "abandoning",     [UPLOAD_ASKING] = "asking",
	[UPLOAD_ASKING_NAR] = "asking-nar",     [UPLOAD_AWAITING_TWIN] = "awaiting-twin",
	[UPLOAD_SENDING] = "sending",           [UPLOAD_PUBLISHING] = "publishing",
	[UPLOAD_SENDING_INFO] = "sending-info", [UPLOAD_CHECKING_STORE] = "checking-store",
	[UPLOAD_RECORDING] = "recording",       [UPLOAD_ENDED] = "ended",
};

static const struct error canceled = { .kind = ERROR_CANCELED, .text = "stopped" };

static void send_nar(struct upload *u);
static void publish(struct upload *u);
static void upload_fault(struct upload *u, const struct error *fault);
static void cache_fault(struct upload *u, const struct error *fault, bool is_server_fault);

void upload_move(struct upload *u, enum upload_state to)
{
	assert(allowed[u->state] & TO(to));
	log_debug("upload state job=%" PRId64 " cache=%s from=%s to=%s", u->job.id, u->cache->config->name,
	          state_names[u->state], state_names[to]);
	u->state = to;
}

void upload_end(struct upload *u)
{
	upload_move(u, UPLOAD_ENDED);
	loop_unpost(u->cache->uploader->loop, &u->post);
	queue_job_fini(&u->job);
	path_info_fini(&u->stored);
	buf_fini(&u->narinfo);
	vouch_free(u);
	link_unref(u->link);
	free(u->asks);
	cache_upload_ended(u);
}

static void begin_op(struct upload *u, backend_done_fn done)
{
	u->op = (struct backend_op){ .done = done };
	u->op_is_running = true;
	u->op_began_mono_ms = clock_mono_ms();
}

enum compression upload_compression(const struct upload *u)
{
	return u->cache->config->compression == COMPRESS_NONE ? COMPRESSION_NONE : COMPRESSION_ZSTD;
}

/* ---- the NAR ---------------------------------------------------------------------------------------- */

/* Do they send the same object? Only where a NAR is one, apart from the paths that it is of. */
static bool is_twin(const struct upload *a, const struct upload *b)
{
	return a != b && a->link->backend->ops->kind == PUBLISH_SEPARATE &&
	       a->job.info.nar_size == b->job.info.nar_size &&
	       memcmp(a->job.info.nar_hash, b->job.info.nar_hash, SHA256_BYTES) == 0;
}

/* The sender is done with its NAR, well or badly: twins take over what it found, or one of them sends. */
static void wake_twins(struct upload *u)
{
	bool sent = u->job.nar_sent, has_sender = false;

	for (struct upload *other = u->cache->uploads; other != NULL; other = other->next)
		has_sender = has_sender || (other->state == UPLOAD_SENDING && is_twin(u, other));
	for (struct upload *twin = u->cache->uploads; twin != NULL; twin = twin->next) {
		if (twin->state != UPLOAD_AWAITING_TWIN || !is_twin(u, twin))
			continue;
		if (sent) {
			twin->job.nar_sent = true;
			twin->job.has_file_hash = u->job.has_file_hash;
			memcpy(twin->job.file_hash, u->job.file_hash, SHA256_BYTES);
			twin->job.file_size = u->job.file_size;
			publish(twin);
		} else if (!cache_lets(u->cache, twin)) {
			upload_fault(twin, &canceled);
		} else if (!has_sender) {
			has_sender = true;
			send_nar(twin);
			if (twin->state != UPLOAD_SENDING)
				return; /* it could not even begin, and went through here itself */
		}
	}
}

static void leave_nar(struct upload *u)
{
	nar_leave(&u->nar);
	room_leave(u);
}

static void nar_is_there(struct upload *u)
{
	crash_point(UPLOAD_NAR_SENT);
	u->job.nar_sent = true;
	leave_nar(u);
	wake_twins(u);
	publish(u);
}

static void on_nar_asked(struct backend_op *op)
{
	struct upload *u = CONTAINER_OF(op, struct upload, op);
	struct error err;

	assert(u->state == UPLOAD_ASKING_NAR);
	u->op_is_running = false;
	if (op->err.kind != ERROR_NONE) {
		cache_fault(u, &op->err, op->is_server_fault);
		return;
	}
	cache_answered(u->cache, BREAKER_ASK_NAR, u->is_probe);
	if (op->found && u->was_info_there && !u->was_nar_there) {
		record_finish(u, JOB_PRESENT, u->cache->number);
	} else if (op->found && (op->file_size > 0 || u->was_nar_there)) {
		u->job.has_file_hash = false;
		u->job.file_size = op->file_size;
		nar_is_there(u);
	} else if (u->was_nar_there) {
		/* It may be on its way to all of the cache's servers; sending it once more helps nobody. */
		error_set(&err, ERROR_TRANSIENT, "%s: the cache refuses it as being there, and has it not",
		          u->nar_key);
		cache_fault(u, &err, false);
	} else {
		send_nar(u);
	}
}

static void ask_nar(struct upload *u)
{
	if (u->closing) {
		upload_fault(u, &canceled);
		return;
	}
	upload_move(u, UPLOAD_ASKING_NAR);
	begin_op(u, on_nar_asked);
	u->link->backend->ops->find_nar_start(u->link->backend, &u->op, &u->object);
}

/* Somebody else's bytes lie there: of them only the size can be known, which belongs into the narinfo. */
static void nar_was_there(struct upload *u)
{
	leave_nar(u);
	u->was_nar_there = true;
	if (u->op.file_size == 0) {
		ask_nar(u);
		return;
	}
	u->job.has_file_hash = false;
	u->job.file_size = u->op.file_size;
	nar_is_there(u);
}

static void nar_was_sent(struct upload *u)
{
	const struct pack *pack = &u->nar.share->pack;

	u->job.has_file_hash = true;
	memcpy(u->job.file_hash, pack->file_hash, SHA256_BYTES);
	u->job.file_size = pack->file_size;
	u->sent_bytes += pack->file_size;
	nar_is_there(u);
}

static void on_nar_put(struct backend_op *op)
{
	struct upload *u = CONTAINER_OF(op, struct upload, op);

	assert(u->state == UPLOAD_SENDING);
	u->op_is_running = false;
	u->cache->sent_total_bytes += op->sent_bytes;
	if (op->err.kind == ERROR_NONE) /* that it was there says nothing of sending */
		cache_answered(u->cache, op->found ? BREAKER_ASK_NAR : BREAKER_SEND, u->is_probe);
	if (op->err.kind == ERROR_NONE && op->found)
		nar_was_there(u);
	else if (u->nar.share->state == NAR_FAILED)
		upload_fault(u, &u->nar.share->err);
	else if (op->err.kind != ERROR_NONE)
		cache_fault(u, &op->err, op->is_server_fault);
	else if (u->nar.share->state == NAR_PACKED)
		nar_was_sent(u);
	/* else the pack's own last word is still on its way: on_nar_changed */
}

static void on_noted(struct queue_op *op)
{
	struct upload *u = CONTAINER_OF(op, struct upload, q.op);
	struct error err = op->err;

	assert(u->state == UPLOAD_SENDING && u->op_is_running);
	queue_op_fini(op);
	u->op.backend->ops->put_noted(&u->op, &err);
}

static void on_upload_id(struct backend_op *op, const char *note)
{
	struct upload *u = CONTAINER_OF(op, struct upload, op);

	free(u->job.upload_id);
	u->job.upload_id = strdup(note);
	u->q.note = (struct queue_note){ .op.verb = QUEUE_NOTE,
		                         .job_id = u->job.id,
		                         .upload_id = u->job.upload_id };
	if (u->job.upload_id != NULL) {
		queue_start(u->cache->uploader->queue, &u->q.op, on_noted);
		return;
	}
	error_set(&u->q.op.err, ERROR_TRANSIENT, "out of memory");
	on_noted(&u->q.op);
}

static void put_nar(struct upload *u)
{
	struct error err;

	if (u->link->backend->ops->kind == PUBLISH_WHOLE && vouch_sign(u, &err) < 0) {
		upload_fault(u, &err);
		return;
	}
	begin_op(u, on_nar_put);
	u->op.note = on_upload_id;
	u->link->backend->ops->put_nar_start(u->link->backend, &u->op, &u->object, u->nar.share->body);
}

static void on_nar_changed(struct nar_user *user)
{
	struct upload *u = CONTAINER_OF(user, struct upload, nar);
	struct nar_share *share = user->share;

	assert(u->state == UPLOAD_SENDING);
	if (share->state == NAR_PACKED)
		room_fit(u, body_readable_bytes(share->body));
	if (u->op_is_running)
		return; /* it reads the body, and hears from that */
	if (share->state == NAR_FAILED) {
		upload_fault(u, &share->err);
	} else if (u->op.done != NULL) {
		if (share->state == NAR_PACKED)
			nar_was_sent(u);
	} else if (share->state == NAR_PACKING || share->state == NAR_PACKED) {
		put_nar(u);
	}
}

/* For a share that was joined when it was on its way already. */
static void on_nar_joined(struct loop_post *post)
{
	struct upload *u = CONTAINER_OF(post, struct upload, post);

	if (u->state == UPLOAD_SENDING && u->nar.share != NULL)
		on_nar_changed(&u->nar);
}

void upload_send(struct upload *u)
{
	struct error err;

	assert(u->state == UPLOAD_SENDING);
	if (nar_join(&u->cache->uploader->nars, &u->nar, &u->job.info, upload_compression(u),
	             (int)u->cache->config->compression_level, on_nar_changed, &err) < 0) {
		upload_fault(u, &err);
		return;
	}
	loop_post(u->cache->uploader->loop, &u->post, on_nar_joined);
}

static void send_nar(struct upload *u)
{
	/* What was canceled can have ended well just before. */
	if (u->closing) {
		upload_fault(u, &canceled);
		return;
	}
	for (struct upload *other = u->cache->uploads; other != NULL; other = other->next)
		if (other->state == UPLOAD_SENDING && is_twin(u, other)) {
			upload_move(u, UPLOAD_AWAITING_TWIN);
			return;
		}
	upload_move(u, UPLOAD_SENDING);
	u->op = (struct backend_op){ 0 };
	room_wait(u);
}

static void begin_nar(struct upload *u)
{
	if (!cache_lets(u->cache, u))
		upload_fault(u, &canceled);
	else if (u->job.info.nar_size >= ASK_NAR_FROM_BYTES)
		ask_nar(u);
	else
		send_nar(u);
}

/* ---- the narinfo ------------------------------------------------------------------------------------ */

static void on_info_put(struct backend_op *op)
{
	struct upload *u = CONTAINER_OF(op, struct upload, op);

	crash_point(UPLOAD_INFO_SENT);
	assert(u->state == UPLOAD_SENDING_INFO);
	u->op_is_running = false;
	if (op->err.kind != ERROR_NONE) {
		cache_fault(u, &op->err, op->is_server_fault);
		return;
	}
	cache_answered(u->cache, op->found ? BREAKER_ASK : BREAKER_SEND_INFO, u->is_probe);
	u->sent_bytes += u->narinfo.len;
	u->cache->sent_total_bytes += u->narinfo.len;
	record_finish(u, op->found ? JOB_PRESENT : JOB_UPLOADED, u->cache->number);
}

static void send_info(struct upload *u)
{
	struct error err;

	upload_move(u, UPLOAD_SENDING_INFO);
	if (vouch_format(u, &err) < 0) {
		upload_fault(u, &err);
		return;
	}
	begin_op(u, on_info_put);
	u->link->backend->ops->put_info_start(u->link->backend, &u->op, &u->object, u->narinfo.data,
	                                      u->narinfo.len);
}

static void on_verdict(struct queue_op *op)
{
	struct upload *u = CONTAINER_OF(op, struct upload, q.op);

	crash_point(UPLOAD_VERDICT);
	assert(u->state == UPLOAD_PUBLISHING);
	if (op->err.kind != ERROR_NONE) {
		u->fault = op->err;
		record_fault(u, false);
	} else if (u->q.publish.verdict == PUBLISH_LATER) {
		upload_end(u);
	} else if (u->closing) {
		record_release(u);
	} else if (u->job.nar_sent) {
		send_info(u);
	} else {
		begin_nar(u);
	}
}

static void publish(struct upload *u)
{
	upload_move(u, UPLOAD_PUBLISHING);
	u->q.publish = (struct queue_publish){ .op.verb = QUEUE_PUBLISH,
		                               .now_unix_s = clock_unix_s(),
		                               .job = &u->job };
	queue_start(u->cache->uploader->queue, &u->q.op, on_verdict);
}

/* ---- is it there already? --------------------------------------------------------------------------- */

/* Does nothing of a path go before all that it refers to is there? So it must be where publishing is one
 * step, and so it is where exclude-closures may still withhold the path: not even its NAR is to lie there. */
static bool sends_last(const struct upload *u)
{
	const struct cache_config *config = u->cache->config;

	return u->link->backend->ops->kind == PUBLISH_WHOLE || config->exclude_closures.n > 0 ||
	       config->exclude_closures_over_bytes > 0;
}

/* A forced job does not believe the narinfo that its NAR is there, if it is one that it would send. */
static bool must_see_nar(const struct upload *u)
{
	return u->job.force && u->link->backend->ops->kind == PUBLISH_SEPARATE &&
	       strcmp(u->asks[0].op.nar_url, u->nar_key) == 0;
}

/* What may only be found is withheld, and so is all that needs it, once nobody has it: not before all were
 * heard. One that is out of reach, perhaps for days, is no fault of the path's. */
static void not_found(struct upload *u)
{
	struct error err;

	if (!u->has_silent_upstream) {
		record_finish(u, JOB_WITHHELD, u->cache->number);
		return;
	}
	error_set(&err, ERROR_TRANSIENT,
	          "exclude-closures has it, and an upstream does not answer that may have it");
	u->awaits_upstream = true;
	upload_fault(u, &err);
}

static void asked(struct upload *u)
{
	const struct upload_ask *own = &u->asks[0];

	crash_point(UPLOAD_ASKED);
	if (own->op.err.kind == ERROR_NONE)
		cache_answered(u->cache, BREAKER_ASK, u->is_probe);
	if (own->op.found && !u->closing && must_see_nar(u)) {
		u->was_info_there = true;
		ask_nar(u);
		return;
	}
	if (own->op.found) {
		record_finish(u, JOB_PRESENT, own->endpoint);
		return;
	}
	for (size_t i = 1; i < u->n_asks; i++)
		if (u->asks[i].op.found) {
			record_finish(u, JOB_IN_UPSTREAM, u->asks[i].endpoint);
			return;
		}
	/* An upstream that gives no answer counts as not having what can be sent instead; the cache does not.
	 */
	if (own->op.err.kind != ERROR_NONE)
		cache_fault(u, &own->op.err, own->op.is_server_fault);
	else if (u->closing)
		record_release(u);
	else if (u->job.may_only_be_found)
		not_found(u);
	else if (sends_last(u))
		publish(u);
	else
		begin_nar(u);
}

static void on_asked(struct backend_op *op)
{
	struct upload_ask *ask = CONTAINER_OF(op, struct upload_ask, op);
	struct upload *u = ask->upload;

	assert(u->state == UPLOAD_ASKING);
	ask->is_running = false;
	if (ask != &u->asks[0] && op->err.kind != ERROR_NONE)
		u->has_silent_upstream = true;
	if (ask != &u->asks[0] && op->err.kind != ERROR_NONE && op->is_server_fault)
		uploader_rest_upstream(u->cache->uploader, ask->endpoint, &op->err);
	if (--u->n_asking == 0) {
		asked(u);
		return;
	}
	/* Found once is enough; and once the cache itself is known to be out of reach, too. */
	if (op->found || (ask == &u->asks[0] && op->err.kind != ERROR_NONE))
		for (size_t i = 0; i < u->n_asks; i++)
			if (u->asks[i].is_running && i > 0)
				u->asks[i].op.backend->ops->cancel(&u->asks[i].op);
}

static void ask_one(struct upload *u, struct backend *backend, size_t endpoint)
{
	struct upload_ask *ask = &u->asks[u->n_asks++];

	*ask = (struct upload_ask){
		.upload = u, .endpoint = endpoint, .is_running = true, .op.done = on_asked
	};
	u->n_asking++;
	ask->op.backend = backend;
	backend->ops->find_info_start(backend, &ask->op, u->job.info.path);
}

void upload_ask(struct upload *u)
{
	struct uploader *uploader = u->cache->uploader;
	struct error err;

	if (u->closing) {
		record_release(u);
		return;
	}
	upload_move(u, UPLOAD_ASKING);
	free(u->asks);
	u->n_asks = 0;
	u->asks = calloc(1 + uploader->config->n_upstreams, sizeof(u->asks[0]));
	if (u->asks == NULL) {
		error_set(&err, ERROR_TRANSIENT, "out of memory");
		upload_fault(u, &err);
		return;
	}
	u->op_began_mono_ms = clock_mono_ms();
	u->has_silent_upstream = false;
	ask_one(u, u->link->backend, u->cache->number);
	for (size_t i = uploader->n_caches; i < uploader->n_caches + uploader->config->n_upstreams; i++) {
		bool is_ours = (u->cache->upstreams >> i & 1) != 0;
		struct backend *upstream = is_ours ? uploader_upstream(uploader, i) : NULL;

		if (upstream != NULL)
			ask_one(u, upstream, i);
		else if (is_ours)
			u->has_silent_upstream = true;
	}
}

/* ---- what an earlier try left ------------------------------------------------------------------------ */

static void on_abandoned(struct backend_op *op)
{
	struct upload *u = CONTAINER_OF(op, struct upload, op);

	assert(u->state == UPLOAD_ABANDONING);
	u->op_is_running = false;
	if (op->err.kind != ERROR_NONE) {
		cache_fault(u, &op->err, op->is_server_fault);
		return;
	}
	cache_answered(u->cache, BREAKER_ASK, u->is_probe);
	free(u->job.upload_id);
	u->job.upload_id = NULL;
	if (u->closing)
		record_release(u);
	else
		trust_check_named(u);
}

static void abandon(struct upload *u)
{
	upload_move(u, UPLOAD_ABANDONING);
	begin_op(u, on_abandoned);
	u->link->backend->ops->abandon_start(u->link->backend, &u->op, u->job.upload_id);
}

/* ---- begin, fault, cancel --------------------------------------------------------------------------- */

void upload_prepared(struct upload *u, const struct error *err)
{
	if (u->state != UPLOAD_PREPARING)
		return;
	if (err->kind != ERROR_NONE) {
		cache_fault(u, err, true);
		return;
	}
	u->link = link_ref(u->cache->link);
	if (u->closing)
		record_release(u);
	else if (u->job.nar_sent)
		publish(u);
	else if (u->job.upload_id != NULL && u->link->backend->ops->abandon_start != NULL)
		abandon(u);
	else
		trust_check_named(u);
}

/* A fault of our own: of the path, of the machine; or we stopped it. */
static void upload_fault(struct upload *u, const struct error *fault)
{
	bool was_sending = u->state == UPLOAD_SENDING,
	     had_twins = was_sending || u->state == UPLOAD_ASKING_NAR;
	enum pack_fault pack_fault = PACK_FINE;

	u->fault = *fault;
	record_mask(u, &u->fault);
	if (was_sending) {
		if (u->nar.share != NULL && u->nar.share->state == NAR_FAILED)
			pack_fault = u->nar.share->pack.fault;
		u->is_path_fault = pack_fault == PACK_UNREADABLE;
		leave_nar(u);
		loop_unpost(u->cache->uploader->loop, &u->post);
	}
	if (!u->closing && (pack_fault == PACK_MISMATCH || pack_fault == PACK_GONE)) {
		u->fault.kind = ERROR_TRANSIENT;
		check_store(u);
	} else {
		record_fault(u, false);
	}
	if (had_twins)
		wake_twins(u);
}

/* What the cache answered, or that it did not. IS_SERVER_FAULT: it says nothing of this path. */
static void cache_fault(struct upload *u, const struct error *fault, bool is_server_fault)
{
	u->is_cache_fault = fault->kind != ERROR_CANCELED;
	u->is_server_fault = is_server_fault;
	upload_fault(u, fault);
}

static void begin(struct loop_post *post)
{
	struct upload *u = CONTAINER_OF(post, struct upload, post);

	crash_point(UPLOAD_BEGUN);
	trust_check(u);
}

void upload_prepare(struct upload *u)
{
	const struct error fine = { 0 };

	upload_move(u, UPLOAD_PREPARING);
	if (u->closing)
		record_release(u);
	else if (!cache_lets(u->cache, u))
		upload_fault(u, &canceled);
	else if (u->cache->prepared == CACHE_PREPARED)
		upload_prepared(u, &fine);
	else
		cache_prepare(u->cache);
}

void upload_begin(struct upload *u, struct upload_cache *cache, struct queue_job *job, bool is_probe)
{
	enum compression compression;
	char hash[NIXBASE32_LEN(SHA256_BYTES) + 1];

	*u = (struct upload){ .cache = cache, .is_probe = is_probe };
	u->job = *job;
	memset(job, 0, sizeof(*job));
	u->started_unix_s = clock_unix_s();
	u->op_began_mono_ms = clock_mono_ms();
	buf_init(&u->narinfo, NARINFO_MAX_BYTES);
	compression = upload_compression(u);
	nixbase32_encode(hash, u->job.info.nar_hash, SHA256_BYTES);
	snprintf(u->nar_key, sizeof(u->nar_key), "nar/%s.nar%s", hash, compression_suffix(compression));
	u->object = (struct backend_object){
		.info = &u->job.info,
		.nar_key = u->nar_key,
		.compression = compression_name(compression),
	};
	u->next = cache->uploads;
	cache->uploads = u;
	cache->n_uploads++;
	loop_post(cache->uploader->loop, &u->post, begin);
}

void upload_cancel(struct upload *u)
{
	if (u->closing)
		return;
	u->closing = true;
	switch (u->state) {
	case UPLOAD_VERIFYING:
		trust_cancel(u);
		return;
	case UPLOAD_ASKING:
		for (size_t i = 0; i < u->n_asks; i++)
			if (u->asks[i].is_running)
				u->asks[i].op.backend->ops->cancel(&u->asks[i].op);
		return;
	case UPLOAD_ABANDONING:
	case UPLOAD_ASKING_NAR:
	case UPLOAD_SENDING_INFO:
		u->link->backend->ops->cancel(&u->op);
		return;
	case UPLOAD_SENDING:
		if (u->op_is_running)
			u->link->backend->ops->cancel(&u->op);
		else
			upload_fault(u, &canceled);
		return;
	case UPLOAD_AWAITING_TWIN:
		upload_fault(u, &canceled);
		return;
	case UPLOAD_RECORDING:
		if (u->awaits_retry)
			upload_retry(u);
		return;
	case UPLOAD_PREPARING:  /* cache_prepare's end finds closing */
	case UPLOAD_PUBLISHING: /* the queue answers soon */
	case UPLOAD_CHECKING_STORE:
	case UPLOAD_ENDED:
		return;
	}
}
