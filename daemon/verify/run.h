/* What the files of verify/ share: a run, and one path of it.
 * Thread: loop. */
#ifndef DAEMON_VERIFY_RUN_H
#define DAEMON_VERIFY_RUN_H

#include "daemon/loop/timer.h"
#include "daemon/loop/work.h"
#include "daemon/pack/unpack.h"
#include "daemon/upload/link.h"
#include "daemon/verify/memo.h"
#include "daemon/verify/verify.h"

#define PIECE_BYTES       KIB(256)
#define ITEM_FINDINGS_MAX 12

/*   INFO -> NAR -> REFERENCES -> IDLE
 *    a kind that cannot be read: INFO (is it there?) -> REFERENCES -> IDLE
 *    a fault in any of them: WAITING, then the same again; or IDLE */
enum item_state { ITEM_IDLE, ITEM_INFO, ITEM_NAR, ITEM_REFERENCES, ITEM_WAITING };

struct item {
	struct verify_run *run;
	enum item_state state, again; /* AGAIN: what waits */
	struct queue_belief belief;
	struct narinfo narinfo;
	bool is_closing;
	unsigned n_tries, n_findings;
	uint64_t due_mono_ms;

	struct backend_read read;
	bool is_reading;
	struct buf text;
	char key[64];

	/* NAR, deep */
	struct unpack *unpack;
	struct work work;
	bool is_unpacking, is_read;
	char *piece;
	size_t n_piece;
	uint64_t n_read;
	struct error unpack_err;

	/* INFO of a kind that cannot be read; REFERENCES */
	struct backend_op op;
	bool is_asking;
	size_t next_reference, next_upstream;
};

struct verifier {
	struct verifier_config config;
	struct http *http;
	struct verify_run *runs;
	bool is_closing;
	lane_closed_fn closed;
	void *closed_ctx;
};

struct verify_run {
	struct verifier *verifier; /* NULL: all of the run is over but its memory */
	struct loop *loop;
	struct verify_run *next;
	size_t cache;
	const struct cache_config *config;
	bool is_deep, repairs;
	bool is_closing, is_ended; /* ended: the caller is done with it */
	struct error err;          /* why it cannot go on */
	unsigned n_faults;         /* of paths, in a row */

	struct cache_link *link;
	struct backend **upstreams; /* by upstream number; NULL: none */
	struct timer tick;
	bool is_timer_open;

	struct queue_read page;
	bool is_paging, is_last_page;
	size_t next_belief;
	struct item items[VERIFY_REQUESTS];
	size_t n_active;
	struct memo *memo;

	struct verify_step *step; /* NULL: nobody waits */
	uint64_t step_began_mono_ms;
	bool is_settling; /* the store is asked, or the queue written, before the step is done */
	struct finding findings[VERIFY_FINDINGS_MAX];
	size_t n_findings, n_given; /* given: of the step; what comes meanwhile is the next one's */
	uint64_t n_checked, n_total, n_bytes;
	struct loop_post post;

	/* repairing */
	struct queue_doubt doubt;
	struct store_info_query query;
	const char *paths[VERIFY_FINDINGS_MAX];
	struct path_info infos[VERIFY_FINDINGS_MAX];
};

/* ---- item.c */

/* Begins with BELIEF, which is taken over. */
void item_start(struct item *item, struct queue_belief *belief);
void item_tick(struct item *item, uint64_t now_mono_ms);
/* What runs ends soon; run_item_over follows. */
void item_cancel(struct item *item);
void item_add_unread(struct item *item); /* of a compression that we do not know */

/* ---- run.c, for item.c */

/* Tells what was found. */
void run_add(struct verify_run *run, const struct finding *finding);
/* ITEM is over, and idle; AGAIN a whole answer came. */
void run_item_over(struct item *item);
/* The cache, or we, cannot go on. */
void run_fail(struct verify_run *run, const struct error *err);

/* ---- nar.c */

/* Reads, or looks at, the object of ITEM's narinfo; then item_nar_over. */
void nar_start(struct item *item);
void item_nar_over(struct item *item, const struct error *fault); /* FAULT: of the read; or NULL */

#endif
