/* One producer appends, on a worker; the loop publishes; readers anywhere read what is published.
 *
 * `appended` belongs to the producer while it runs and to the loop between its work items.
 * `published` is the only thing that both sides of a thread border look at: bytes, block pointers
 * and descriptor below it were written before it was stored. It stays HELD_BACK bytes behind until
 * the end, so a sender that has sent all it can see has not yet completed a request (I7). */
#include "daemon/body/body.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/body/pool.h"

#define HELD_BACK_BYTES KIB(64)
#define IN_BLOCKS_BYTES (BODY_BLOCKS_MAX * BODY_BLOCK_BYTES)

struct body {
	struct body_pool *pool;
	unsigned n_refs;
	uint64_t bound_bytes;
	struct room room; /* still reserved */
	enum body_state state;
	struct error err;
	struct body_watch *watches;

	uint8_t hash[BODY_HASH_BYTES];
	uint64_t appended;
	_Atomic uint64_t published;
	char *blocks[BODY_BLOCKS_MAX];
	int tmp_fd; /* -1 until the blocks are full */
};

struct body *body_new(struct body_pool *pool, uint64_t bound_bytes, struct room room)
{
	struct body *body = calloc(1, sizeof(*body));

	if (body == NULL)
		return NULL;
	body->pool = pool;
	body->n_refs = 1;
	body->bound_bytes = bound_bytes;
	body->room = room;
	body->tmp_fd = -1;
	pool->n_bodies++;
	return body;
}

static void body_free(struct body *body)
{
	struct body_pool *pool = body->pool;
	struct room room = body->room;

	assert(body->watches == NULL);
	for (size_t i = 0; i < BODY_BLOCKS_MAX; i++)
		if (body->blocks[i] != NULL)
			block_give(pool, body->blocks[i]);
	if (body->tmp_fd >= 0)
		close(body->tmp_fd);
	free(body);
	pool->n_bodies--;
	pool_give_back(pool, room);
}

struct body *body_ref(struct body *body)
{
	body->n_refs++;
	return body;
}

void body_unref(struct body *body)
{
	if (body == NULL)
		return;
	assert(body->n_refs > 0);
	if (--body->n_refs == 0)
		body_free(body);
}

static int append_to_block(struct body *body, const char *data, size_t n_bytes, struct error *err)
{
	char **block = &body->blocks[body->appended / BODY_BLOCK_BYTES];

	if (*block == NULL && (*block = block_take(body->pool)) == NULL)
		return error_set(err, ERROR_TRANSIENT, "body: no memory");
	memcpy(*block + body->appended % BODY_BLOCK_BYTES, data, n_bytes);
	return 0;
}

static int append_to_file(struct body *body, const char *data, size_t n_bytes, struct error *err)
{
	off_t at = (off_t)(body->appended - IN_BLOCKS_BYTES);

	if (body->tmp_fd < 0 && (body->tmp_fd = pool_open_tmp(body->pool, err)) < 0)
		return -1;
	while (n_bytes > 0) {
		ssize_t n = pwrite(body->tmp_fd, data, n_bytes, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return error_set(err, ERROR_TRANSIENT, "%s: temporary file: %s", body->pool->tmp_dir,
			                 n < 0 ? strerror(errno) : "nothing was written");
		data += n;
		n_bytes -= (size_t)n;
		at += n;
	}
	return 0;
}

int body_append(struct body *body, const void *data, size_t n_bytes, struct error *err)
{
	const char *from = data;

	assert(body->state == BODY_GROWING);
	if (n_bytes > body->bound_bytes - body->appended)
		return error_set(err, ERROR_PERMANENT, "body: longer than was reserved for it");
	while (n_bytes > 0) {
		size_t n = n_bytes;

		if (body->appended < IN_BLOCKS_BYTES) {
			size_t room = BODY_BLOCK_BYTES - body->appended % BODY_BLOCK_BYTES;

			if (n > room)
				n = room;
			if (append_to_block(body, from, n, err) < 0)
				return -1;
		} else if (append_to_file(body, from, n, err) < 0) {
			return -1;
		}
		body->appended += n;
		from += n;
		n_bytes -= n;
	}
	return 0;
}

/* Calls every watch once. One called may take itself or others away, add some, or let BODY go. */
static void wake(struct body *body)
{
	struct body_watch *waiting = body->watches;

	body_ref(body);
	body->watches = NULL;
	if (waiting != NULL)
		waiting->prev = &waiting;
	while (waiting != NULL) {
		struct body_watch *watch = waiting;
		body_watch_fn changed = watch->changed;

		body_unwatch(watch);
		body_watch(body, watch, changed);
		changed(watch);
	}
	body_unref(body);
}

void body_publish(struct body *body)
{
	uint64_t readable = body->appended > HELD_BACK_BYTES ? body->appended - HELD_BACK_BYTES : 0;

	assert(body->state == BODY_GROWING);
	if (readable <= atomic_load_explicit(&body->published, memory_order_relaxed))
		return;
	atomic_store_explicit(&body->published, readable, memory_order_release);
	wake(body);
}

/* Keeps of the reservation what the bytes that came lie in. */
static void give_back_unused(struct body *body)
{
	struct room used = body->appended > 0 ? room_for(body->appended) : (struct room){ 0 };
	struct room unused = { .n_blocks = body->room.n_blocks - used.n_blocks,
		               .tmp_bytes = body->room.tmp_bytes - used.tmp_bytes,
		               .is_beside = body->room.is_beside };

	used.is_beside = body->room.is_beside;
	body->room = used;
	pool_give_back(body->pool, unused);
}

void body_set_hash(struct body *body, const uint8_t hash[BODY_HASH_BYTES])
{
	memcpy(body->hash, hash, sizeof(body->hash));
}

const uint8_t *body_hash(const struct body *body)
{
	assert(body->state == BODY_ENDED);
	return body->hash;
}

void body_end(struct body *body)
{
	assert(body->state == BODY_GROWING);
	body->state = BODY_ENDED;
	atomic_store_explicit(&body->published, body->appended, memory_order_release);
	give_back_unused(body);
	wake(body);
}

void body_fail(struct body *body, const struct error *err)
{
	assert(body->state == BODY_GROWING);
	body->state = BODY_FAILED;
	body->err = *err;
	give_back_unused(body);
	wake(body);
}

enum body_state body_state(const struct body *body)
{
	return body->state;
}

const struct error *body_error(const struct body *body)
{
	assert(body->state == BODY_FAILED);
	return &body->err;
}

uint64_t body_readable_bytes(const struct body *body)
{
	return atomic_load_explicit(&body->published, memory_order_acquire);
}

static ssize_t read_file_part(const struct body *body, uint64_t offset, void *data, size_t n_bytes,
                              struct error *err)
{
	ssize_t n;

	do
		n = pread(body->tmp_fd, data, n_bytes, (off_t)(offset - IN_BLOCKS_BYTES));
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return error_set(err, ERROR_TRANSIENT, "%s: temporary file: %s", body->pool->tmp_dir,
		                 n < 0 ? strerror(errno) : "it is too short");
	return n;
}

ssize_t body_read(struct body *body, uint64_t offset, void *data, size_t n_bytes, struct error *err)
{
	uint64_t readable = body_readable_bytes(body);
	char *to = data;
	size_t n_done = 0;

	if (offset >= readable)
		return 0;
	if (n_bytes > readable - offset)
		n_bytes = (size_t)(readable - offset);
	while (n_done < n_bytes && offset < IN_BLOCKS_BYTES) {
		size_t at = offset % BODY_BLOCK_BYTES, n = BODY_BLOCK_BYTES - at;

		if (n > n_bytes - n_done)
			n = n_bytes - n_done;
		memcpy(to + n_done, body->blocks[offset / BODY_BLOCK_BYTES] + at, n);
		n_done += n;
		offset += n;
	}
	while (n_done < n_bytes) {
		ssize_t n = read_file_part(body, offset, to + n_done, n_bytes - n_done, err);

		if (n < 0)
			return -1;
		n_done += (size_t)n;
		offset += (uint64_t)n;
	}
	return (ssize_t)n_done;
}

const void *body_get_whole(const struct body *body)
{
	if (body->state != BODY_ENDED || body->appended > BODY_BLOCK_BYTES)
		return NULL;
	return body->appended > 0 ? body->blocks[0] : "";
}

void body_watch(struct body *body, struct body_watch *watch, body_watch_fn changed)
{
	watch->changed = changed;
	watch->next = body->watches;
	watch->prev = &body->watches;
	if (watch->next != NULL)
		watch->next->prev = &watch->next;
	body->watches = watch;
}

void body_unwatch(struct body_watch *watch)
{
	if (watch->prev == NULL)
		return;
	*watch->prev = watch->next;
	if (watch->next != NULL)
		watch->next->prev = watch->prev;
	watch->next = NULL;
	watch->prev = NULL;
}
