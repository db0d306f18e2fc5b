/* The room that bodies share: memory in blocks, and space for temporary files. This is body's own
 * inside; body.h is what others see.
 * Thread: loop, but for block_take, block_give and pool_open_tmp, which any thread may call. */
#ifndef DAEMON_BODY_POOL_H
#define DAEMON_BODY_POOL_H

#include <pthread.h>

#include "daemon/body/body.h"

struct block; /* one that nobody uses */

struct body_pool {
	struct loop *loop;
	char *tmp_dir;
	struct room total, taken;
	uint64_t largest_tmp_bytes;         /* beyond it a body goes beside the others */
	uint64_t beside_bytes;              /* of temporary space that those may take, on top of total */
	struct body_reserve *first, **last; /* waiting, first come first served */
	size_t n_bodies;

	pthread_mutex_t mutex; /* over what follows */
	struct block *idle;
	size_t n_idle;
};

/* Gives ROOM back, and grants to those who wait. */
void pool_give_back(struct body_pool *pool, struct room room);

/* A block of BODY_BLOCK_BYTES, or NULL: no memory. It must have been reserved. */
char *block_take(struct body_pool *pool);
void block_give(struct body_pool *pool, char *data);

/* A nameless file in the temporary directory. Returns its descriptor, or -1 (TRANSIENT). */
int pool_open_tmp(const struct body_pool *pool, struct error *err) MUST_CHECK;

/* In body.c: a body with ROOM, one reference. NULL: no memory. */
struct body *body_new(struct body_pool *pool, uint64_t bound_bytes, struct room room);

#endif
