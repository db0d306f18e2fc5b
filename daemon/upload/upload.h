/* Uploads: one path to one cache, and the engine that keeps N of them going per cache. Takes jobs from
 * the queue, asks the cache and its upstreams, packs, sends, publishes, and tells the queue how it ended.
 * Thread: loop. */
#ifndef DAEMON_UPLOAD_UPLOAD_H
#define DAEMON_UPLOAD_UPLOAD_H

#include "daemon/backend/backend.h"
#include "daemon/config/config.h"
#include "daemon/pack/pack.h"
#include "daemon/queue/queue.h"
#include "daemon/store/store.h"

struct uploader;

struct uploader_config {
	struct loop *loop;
	struct queue *queue;
	struct store *store;
	const struct config *config; /* borrowed while open; cache number i is config->caches[i] */
	/* GC roots of these store paths may go; borrowed for the call. */
	void (*on_released)(void *ctx, char *const *paths, size_t n_paths);
	void *ctx;
};

/* On failure too *RET is set, for uploader_close to clear away. */
int uploader_open(struct uploader **ret, const struct uploader_config *config, struct error *err) MUST_CHECK;
/* The queue says that there may be work for these caches (bits). */
void uploader_poke(struct uploader *uploader, uint64_t caches);
/* The same; and a cache that does not work is tried at once. */
void uploader_try_now(struct uploader *uploader, uint64_t caches);
/* Cancels what runs (its claims go back), closes the backends, then CLOSED(CTX). Takes NULL. */
void uploader_close(struct uploader *uploader, lane_closed_fn closed, void *ctx);

/* The caches that take jobs: bit i is cache number i. Not those with push = no, nor with push = auto and
 * no credentials. */
uint64_t uploader_targets(const struct uploader *uploader);

/* What goes on, for status. Texts live until the loop's next turn. */
struct upload_status {
	const char *path, *step; /* step: asking, waiting, packing, sending, publishing */
	size_t cache;
	uint64_t nar_bytes, done_bytes;
	int64_t started_unix_s;
};
size_t uploader_n_in_flight(const struct uploader *uploader, size_t cache);
/* Fills up to N_MAX of RET with running uploads, returns how many. */
size_t uploader_list(const struct uploader *uploader, struct upload_status *ret, size_t n_max);
/* A cache that does not work, by evidence: nothing is claimed for it but a probe now and then. */
struct upload_outage {
	enum error_kind kind; /* OPERATOR: a person must mend something; else it may go by itself */
	int64_t since_unix_s, next_try_unix_s;
};
bool uploader_get_outage(const struct uploader *uploader, size_t cache, struct upload_outage *ret);
/* How many uploads the cache gets at a time, of its upload-jobs. */
size_t uploader_pace(const struct uploader *uploader, size_t cache);
/* Why this cache gets nothing, or NULL; and bytes sent per second lately. */
const char *uploader_message(const struct uploader *uploader, size_t cache);
/* Who can read it; unknown before the cache was first reached. */
enum visibility uploader_visibility(const struct uploader *uploader, size_t cache);
uint64_t uploader_rate_bytes(const struct uploader *uploader, size_t cache);

#endif
