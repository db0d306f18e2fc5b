/* A packed NAR on its way: written once by a pack, read by any number of senders, kept whole
 * until the last reference goes, so that a retry or a second cache reads it again.
 * The first BODY_BLOCKS_MAX MiB lie in blocks of one pool, the rest in an unlinked temporary file.
 *
 * Readers see a growing body all but its last bytes: those are held back until the packer has
 * verified the NAR (I7). Only then is the body ended, and its length known.
 *
 * Limits: what a body may need at most is reserved before it is packed (reserve_start), memory and
 * temporary space alike, first come first served; so nothing that holds a part waits for more. What needs
 * no temporary space passes those that wait for it.
 * Thread: body_append and body_* marked "producer" on the worker that packs, one at a time;
 * body_read on any thread; all else on the loop. */
#ifndef DAEMON_BODY_BODY_H
#define DAEMON_BODY_BODY_H

#include "daemon/loop/loop.h"

#define BODY_BLOCK_BYTES MIB(1)
#define BODY_BLOCKS_MAX  8
#define BODY_HASH_BYTES  32

struct body_pool;
struct body;

struct room {
	uint64_t n_blocks;
	uint64_t tmp_bytes;
	bool is_beside; /* its temporary space is none of what is shared */
};
/* What a body of at most BOUND_BYTES takes. */
struct room room_for(uint64_t bound_bytes);

/* Blocks for at most MEMORY_BYTES in all (at least BODY_BLOCKS_MAX blocks), temporary files below
 * TMP_DIR, which is one daemon's alone, for at most TMP_BYTES in all; what an earlier one left there
 * goes. */
int body_pool_open(struct body_pool **ret, struct loop *loop, uint64_t memory_bytes, const char *tmp_dir,
                   uint64_t tmp_bytes, struct error *err) MUST_CHECK;
/* What needs more than TMP_BYTES of temporary space goes beside the others' on the same disk; at first, what
 * needs more than all of it. */
void body_pool_set_largest(struct body_pool *pool, uint64_t tmp_bytes);
/* Every body must be gone. Takes NULL. */
void body_pool_close(struct body_pool *pool);
/* What bodies hold, or may still take of what was reserved for them. */
uint64_t body_pool_memory_in_use_bytes(const struct body_pool *pool);

struct body_reserve;
typedef void (*body_reserved_fn)(struct body_reserve *req);

struct body_reserve { /* the caller's until done */
	body_reserved_fn done;
	struct error err;
	struct body *body; /* set before done on success: one reference, the caller's */
	struct body_pool *pool;
	uint64_t bound_bytes;
	struct body_reserve *next;
	struct loop_post post;
};

/* Waits for room for a body of at most BOUND_BYTES and makes it. One that goes beside the others holds up
 * none of them, and waits as long as the disk has no room for it next to more such. Errors: TRANSIENT
 * (temporary directory unusable, or full with no such body there), CANCELED. */
void body_reserve_start(struct body_pool *pool, struct body_reserve *req, uint64_t bound_bytes,
                        body_reserved_fn done);
void body_reserve_cancel(struct body_reserve *req);

struct body *body_ref(struct body *body);
void body_unref(struct body *body); /* takes NULL */

/* Producer: appends; not seen by readers before body_publish. Errors: TRANSIENT (disk full),
 * PERMANENT (over the bound: a file grew while it was read). */
int body_append(struct body *body, const void *data, size_t n_bytes, struct error *err) MUST_CHECK;

/* Loop: shows readers what was appended up to now, and wakes them. */
void body_publish(struct body *body);
/* Loop, before body_end: the SHA-256 of what was appended. */
void body_set_hash(struct body *body, const uint8_t hash[BODY_HASH_BYTES]);
/* Loop: the NAR is verified, the body is complete. Gives back what was reserved and not used. */
void body_end(struct body *body);
/* Loop: no more comes; readers get ERR. */
void body_fail(struct body *body, const struct error *err);

enum body_state { BODY_GROWING, BODY_ENDED, BODY_FAILED };
enum body_state body_state(const struct body *body);
const struct error *body_error(const struct body *body); /* while BODY_FAILED */
const uint8_t *body_hash(const struct body *body);       /* while BODY_ENDED; zeros if none was set */
/* Ended: its length. Growing: what readers may read so far. */
uint64_t body_readable_bytes(const struct body *body);

/* Copies up to N_BYTES from OFFSET on. Returns how many, 0 if none are to be had (yet), -1 on a
 * fault of the temporary file. */
ssize_t body_read(struct body *body, uint64_t offset, void *data, size_t n_bytes, struct error *err)
	MUST_CHECK;
/* The bytes of an ended body as one piece, or NULL if it is longer than one block. */
const void *body_get_whole(const struct body *body);

struct body_watch;
typedef void (*body_watch_fn)(struct body_watch *watch);
struct body_watch {            /* the reader's, until body_unwatch */
	body_watch_fn changed; /* more to read, ended, or failed */
	struct body_watch *next, **prev;
};
void body_watch(struct body *body, struct body_watch *watch, body_watch_fn changed);
void body_unwatch(struct body_watch *watch); /* takes one that watches nothing */

#endif
