/* One path to one cache.
 *
 *   VERIFYING --an upstream's signature, which keeps for ever--> RECORDING
 *       |
 *   PREPARING -> ASKING --not there--> ASKING_NAR -> SENDING -> PUBLISHING --yes--> SENDING_INFO -+
 *       |           |                      |          |  ^         |                              |
 *       |           |                      |          v  |         +--later--> ENDED              |
 *       |           |                      |      AWAITING_TWIN                                   |
 *       |           +--found---------------|----------|----------------------> RECORDING <--------+
 *       +-----------------------(NAR sent before)---> PUBLISHING                   |
 *                                                                                ENDED
 * And besides:
 *   - a cache names keys (it has no need of their paths): PREPARING, ABANDONING -> VERIFYING -> ASKING;
 *   - a cache takes nothing before the references (sends_last): ASKING -> PUBLISHING --yes--> ASKING_NAR;
 *   - an earlier try left something there: PREPARING -> ABANDONING -> ASKING;
 *   - a fault in any of them: [CHECKING_STORE ->] RECORDING.
 *
 * Every state but ENDED waits for something that calls back. The narinfo goes last, and only when the
 * queue says that all it refers to is there (I2).
 * Thread: loop. */
#ifndef DAEMON_UPLOAD_TRANSFER_H
#define DAEMON_UPLOAD_TRANSFER_H

#include "common/buf.h"
#include "daemon/backend/backend.h"
#include "daemon/loop/timer.h"
#include "daemon/loop/work.h"
#include "daemon/plan/clocks.h"
#include "daemon/queue/queue.h"
#include "daemon/upload/budget.h"
#include "daemon/upload/cache.h"
#include "daemon/upload/nar_share.h"
#include "daemon/upload/upload.h"

#define UPSTREAM_REST_S 60 /* how long one that is out of reach is left alone */

enum upload_state {
	UPLOAD_VERIFYING,
	UPLOAD_PREPARING,
	UPLOAD_ABANDONING, /* what an earlier try left on the cache is taken away */
	UPLOAD_ASKING,
	UPLOAD_ASKING_NAR,
	UPLOAD_AWAITING_TWIN, /* another upload of this cache is sending the same NAR */
	UPLOAD_SENDING,
	UPLOAD_PUBLISHING,
	UPLOAD_SENDING_INFO,
	UPLOAD_CHECKING_STORE,
	UPLOAD_RECORDING,
	UPLOAD_ENDED,
};

struct upload_ask { /* one question: is the narinfo there? */
	struct upload *upload;
	struct backend_op op;
	size_t endpoint;
	bool is_running;
};

struct upload {
	struct upload_cache *cache;
	struct upload *next; /* upload_cache::uploads */
	struct queue_job job;
	enum upload_state state;
	bool closing;
	bool is_probe;           /* of the cache, and has shown nothing yet */
	struct cache_link *link; /* NULL until PREPARING is over */
	struct error fault;      /* why it is recorded as deferred or failed */
	bool is_cache_fault;     /* it is an answer of the cache's, or the lack of one */
	bool is_server_fault;    /* and says nothing of this path */
	bool is_path_fault;      /* its files cannot be read; if neither, it is this machine's */
	uint64_t op_began_mono_ms;
	int64_t started_unix_s;

	/* VERIFYING */
	struct {
		struct work work;
		bool is_running, is_signed;
		size_t endpoint;     /* by whose key */
		const char *keys[8]; /* that the cache names, and the path's signatures do; of the
		                        configuration */
		size_t n_keys;
	} trust;

	/* ASKING: the cache itself, then its upstreams */
	struct upload_ask *asks;
	size_t n_asks, n_asking;

	/* ABANDONING, ASKING_NAR, SENDING, SENDING_INFO */
	struct backend_op op;
	bool op_is_running;
	struct backend_object object;
	char nar_key[96];
	uint64_t room_ticket; /* its place among those that wait for room; 0: it does not */
	struct room room;     /* what it took of its cache's */
	struct nar_user nar;
	char **sigs;
	size_t n_sigs;
	struct buf narinfo;
	uint64_t sent_bytes;
	bool was_nar_there;       /* a put found the NAR on the cache */
	bool was_info_there;      /* only the NAR is in doubt */
	bool has_silent_upstream; /* one was not asked, or did not answer: it may have the path */
	bool awaits_upstream;     /* nothing but its answer is missing */

	/* CHECKING_STORE */
	struct store_info_query query;
	const char *query_path;
	struct path_info stored;
	bool changed; /* what was read differs from what Nix registered, or is gone */

	/* PUBLISHING, RECORDING; and SENDING, while an upload id is written down */
	union {
		struct queue_op op;
		struct queue_note note;
		struct queue_publish publish;
		struct queue_finish finish;
		struct queue_defer defer;
		struct queue_fail fail;
		struct queue_release release;
		struct queue_refresh refresh;
	} q;
	struct loop_post post;
	bool awaits_retry; /* the queue could not write; the uploader posts it again */
};

struct upload_upstream {
	struct backend *backend;      /* NULL: could not be opened, or not tried yet */
	uint64_t rests_until_mono_ms; /* until then it is not asked */
};

struct uploader {
	struct loop *loop;
	struct queue *queue;
	struct store *store;
	const struct config *config;
	void (*on_released)(void *ctx, char *const *paths, size_t n_paths);
	void *ctx;

	struct http *http;
	struct body_pool *pool;
	struct packer *packer;
	struct nar_table nars;
	struct budget budget;
	uint64_t n_room_tickets;
	struct loop_post room_post;
	struct upload_cache *caches;
	size_t n_caches;
	struct upload_upstream *upstreams; /* by upstream number */

	struct timer retry;  /* queue operations that could not be written */
	struct timer sample; /* rates; set only while something is in flight */
	struct timer watch;  /* clocks and secrets; set only while a cache waits for its due time */
	struct clocks clocks;
	uint64_t random_state;
	bool closing;
	size_t n_handles; /* timers not closed yet */
	lane_closed_fn closed;
	void *closed_ctx;
	struct loop_post close_post;
};

/* Takes JOB over (it is zeroed) and begins, in U, which upload_end frees. */
void upload_begin(struct upload *u, struct upload_cache *cache, struct queue_job *job, bool is_probe);
/* Cancels what runs; its claim goes back. */
void upload_cancel(struct upload *u);
/* Posts the queue operation that could not be written again. */
void upload_retry(struct upload *u);
/* The cache's nix-cache-info is there, or ERR says why not: goes on with those that wait for it. */
void upload_prepared(struct upload *u, const struct error *err);
const char *upload_step_name(const struct upload *u);
enum breaker_stage upload_stage(const struct upload *u); /* of the request that is out */
uint64_t upload_done_bytes(const struct upload *u);

/* ---- between the files of one upload ------------------------------------------------------------------ */

void upload_move(struct upload *u, enum upload_state to);
void upload_end(struct upload *u); /* frees U */

/* record.c: the last word to the queue; U is freed after it. */
void record_finish(struct upload *u, enum job_result result, size_t endpoint);
void record_release(struct upload *u);
/* U->fault: deferred or failed as plan/ decides. If the fault is the cache's, the job is ready again, and
 * nothing is counted; if we stopped it ourselves, too. */
void record_fault(struct upload *u, bool mismatch);
/* Puts HASH and NARHASH where FAULT names the objects of U: one cause is then one text for all paths. */
void record_mask(const struct upload *u, struct error *fault);

/* check.c: asks the store about a path that differs, then records. */
void check_store(struct upload *u);

/* Goes on once no signature spares the questions: that of an upstream, then one by a key that the cache
 * names. */
void upload_prepare(struct upload *u);
void upload_ask(struct upload *u);

/* room.c: upload_send(U) as soon as its cache has room for its NAR, in a later turn. */
void room_wait(struct upload *u);
void upload_send(struct upload *u);
enum compression upload_compression(const struct upload *u);
/* Its body has N_BYTES, and no more will come. */
void room_fit(struct upload *u, uint64_t n_bytes);
/* Gives back what it has, or waits for; takes one that has nothing. */
void room_leave(struct upload *u);

/* trust.c: upload_prepare(U), or what its signatures say is recorded. */
void trust_check(struct upload *u);
/* upload_ask(U), or the cache's own word on who signed it is recorded. */
void trust_check_named(struct upload *u);
void trust_cancel(struct upload *u);
/* Tells of keys that CACHE names and nobody here knows. */
void trust_tell_unknown(const struct upload_cache *cache);

/* vouch.c: is one of the signatures by KEY_TEXT, "NAME:BASE64"? On any thread. */
bool vouch_is_signed_by(const struct path_info *info, const char *key_text);
/* Signs by the cache's rule, for U->object; and fills U->narinfo with it. */
int vouch_sign(struct upload *u, struct error *err) MUST_CHECK;
int vouch_format(struct upload *u, struct error *err) MUST_CHECK;
void vouch_free(struct upload *u);

/* ---- uploader.c, for the others ------------------------------------------------------------------- */

/* To ask; NULL: it has nothing, as far as we can tell for now. */
struct backend *uploader_upstream(struct uploader *uploader, size_t endpoint);
/* It cannot be reached, whatever is asked, and is left alone for a while. */
void uploader_rest_upstream(struct uploader *uploader, size_t endpoint, const struct error *err);
void uploader_retry_soon(struct uploader *uploader);
void uploader_sample(struct uploader *uploader); /* something is in flight */
void uploader_watch(struct uploader *uploader);  /* a cache waits, or does so no more */
void uploader_maybe_closed(struct uploader *uploader);
uint64_t uploader_random(struct uploader *uploader);

#endif
