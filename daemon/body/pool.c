/* Reservations are made on the loop, all of a body's at once and in order, so a body that has begun
 * never waits for room. Memory itself is taken when bytes come, by the worker that brings them, and
 * goes back to a list of idle blocks, which is emptied (but for a few) once nothing is reserved. */
#include "daemon/body/pool.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/fd.h"
#include "common/log.h"

#define TMP_PREFIX "nncache-"
#define TMP_NAME   TMP_PREFIX "XXXXXX"

#define IDLE_BLOCKS_KEPT 2

struct block { /* lies in the first bytes of the block itself */
	struct block *next;
};

struct room room_for(uint64_t bound_bytes)
{
	uint64_t in_blocks = BODY_BLOCKS_MAX * BODY_BLOCK_BYTES;

	if (bound_bytes > in_blocks)
		return (struct room){ .n_blocks = BODY_BLOCKS_MAX, .tmp_bytes = bound_bytes - in_blocks };
	if (bound_bytes == 0)
		return (struct room){ .n_blocks = 1 };
	return (struct room){ .n_blocks = (bound_bytes + BODY_BLOCK_BYTES - 1) / BODY_BLOCK_BYTES };
}

/* Where files have names at first (pool_open_tmp), a life that ended between making one and taking its name
 * away left it, empty. */
static void remove_left_overs(const char *dir_name)
{
	DIR *dir = opendir(dir_name);
	struct dirent *entry;
	struct stat st;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		if (strncmp(entry->d_name, TMP_PREFIX, strlen(TMP_PREFIX)) != 0 ||
		    strlen(entry->d_name) != strlen(TMP_NAME) ||
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISREG(st.st_mode) || st.st_size != 0)
			continue;
		log_debug("left-over file removed file=%s/%s", dir_name, entry->d_name);
		unlinkat(dirfd(dir), entry->d_name, 0);
	}
	if (dir != NULL)
		closedir(dir);
}

int body_pool_open(struct body_pool **ret, struct loop *loop, uint64_t memory_bytes, const char *tmp_dir,
                   uint64_t tmp_bytes, struct error *err)
{
	struct body_pool *pool = calloc(1, sizeof(*pool));

	if (pool == NULL || (pool->tmp_dir = strdup(tmp_dir)) == NULL) {
		free(pool);
		return error_set(err, ERROR_TRANSIENT, "pool of bodies: no memory");
	}
	pool->loop = loop;
	pool->total = (struct room){ .n_blocks = memory_bytes / BODY_BLOCK_BYTES, .tmp_bytes = tmp_bytes };
	if (pool->total.n_blocks < BODY_BLOCKS_MAX)
		pool->total.n_blocks = BODY_BLOCKS_MAX;
	pool->largest_tmp_bytes = tmp_bytes;
	pool->last = &pool->first;
	remove_left_overs(tmp_dir);
	pthread_mutex_init(&pool->mutex, NULL);
	*ret = pool;
	return 0;
}

void body_pool_set_largest(struct body_pool *pool, uint64_t tmp_bytes)
{
	pool->largest_tmp_bytes = tmp_bytes;
}

/* Unmaps idle blocks until N_KEPT are left. */
static void trim(struct body_pool *pool, size_t n_kept)
{
	pthread_mutex_lock(&pool->mutex);
	while (pool->n_idle > n_kept) {
		struct block *block = pool->idle;

		pool->idle = block->next;
		pool->n_idle--;
		munmap(block, BODY_BLOCK_BYTES);
	}
	pthread_mutex_unlock(&pool->mutex);
}

void body_pool_close(struct body_pool *pool)
{
	if (pool == NULL)
		return;
	assert(pool->n_bodies == 0 && pool->first == NULL);
	trim(pool, 0);
	pthread_mutex_destroy(&pool->mutex);
	free(pool->tmp_dir);
	free(pool);
}

uint64_t body_pool_memory_in_use_bytes(const struct body_pool *pool)
{
	return pool->taken.n_blocks * BODY_BLOCK_BYTES;
}

char *block_take(struct body_pool *pool)
{
	struct block *block;
	void *data;

	pthread_mutex_lock(&pool->mutex);
	block = pool->idle;
	if (block != NULL) {
		pool->idle = block->next;
		pool->n_idle--;
	}
	pthread_mutex_unlock(&pool->mutex);
	if (block != NULL)
		return (char *)block;
	/* Not malloc: a heap would keep blocks that are given back, and a small body touches only
	 * the first pages of its block. */
	data = mmap(NULL, BODY_BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return data != MAP_FAILED ? data : NULL;
}

void block_give(struct body_pool *pool, char *data)
{
	struct block *block = (struct block *)(void *)data;

	pthread_mutex_lock(&pool->mutex);
	block->next = pool->idle;
	pool->idle = block;
	pool->n_idle++;
	pthread_mutex_unlock(&pool->mutex);
}

int pool_open_tmp(const struct body_pool *pool, struct error *err)
{
	CLEANUP(buf_fini) struct buf name = { .max = KIB(8) };
	int fd = open(pool->tmp_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	if (errno == EOPNOTSUPP || errno == EISDIR) { /* not on every file system */
		buf_printf(&name, "%s/" TMP_NAME, pool->tmp_dir);
		fd = buf_ok(&name) ? mkostemp(name.data, O_CLOEXEC) : -1;
		if (fd >= 0) {
			unlink(name.data);
			return fd;
		}
	}
	return error_set(err, ERROR_TRANSIENT, "%s: cannot make a temporary file: %s", pool->tmp_dir,
	                 strerror(errno));
}

static void on_reserved(struct loop_post *post)
{
	struct body_reserve *req = CONTAINER_OF(post, struct body_reserve, post);

	req->done(req);
}

/* Ends REQ, which is in no list any more. */
static void answer(struct body_pool *pool, struct body_reserve *req)
{
	loop_post(pool->loop, &req->post, on_reserved);
}

static struct room need_of(const struct body_pool *pool, const struct body_reserve *req)
{
	struct room room = room_for(req->bound_bytes);

	room.is_beside = room.tmp_bytes > pool->largest_tmp_bytes;
	return room;
}

/* Beside what is shared only what the disk really has counts. Returns whether REQ's turn is now: to be
 * granted, or to learn in its err that it never fits. */
static bool fits_disk(const struct body_pool *pool, struct body_reserve *req, struct room room)
{
	struct statvfs st;
	uint64_t free_bytes;

	if (statvfs(pool->tmp_dir, &st) < 0) {
		error_set(&req->err, ERROR_TRANSIENT, "%s: %s", pool->tmp_dir, strerror(errno));
		return true;
	}
	free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
	if (free_bytes >= room.tmp_bytes && free_bytes - room.tmp_bytes >= pool->beside_bytes)
		return true;
	if (pool->beside_bytes > 0)
		return false;
	error_set(&req->err, ERROR_TRANSIENT,
	          "%s: %" PRIu64 " bytes free, %" PRIu64 " are needed to pack one path", pool->tmp_dir,
	          free_bytes, room.tmp_bytes);
	return true;
}

static void grant(struct body_pool *pool, struct body_reserve *req, struct room room)
{
	if (req->err.kind != ERROR_NONE)
		return;
	req->body = body_new(pool, req->bound_bytes, room);
	if (req->body == NULL) {
		error_set(&req->err, ERROR_TRANSIENT, "body: no memory");
		return;
	}
	pool->taken.n_blocks += room.n_blocks;
	if (room.is_beside)
		pool->beside_bytes += room.tmp_bytes;
	else
		pool->taken.tmp_bytes += room.tmp_bytes;
}

/* Takes the one at AT out of the list of those that wait. */
static void take_out(struct body_pool *pool, struct body_reserve **at)
{
	struct body_reserve *req = *at;

	*at = req->next;
	if (pool->last == &req->next)
		pool->last = at;
	req->next = NULL;
}

/* In the order of asking: who waits for memory is passed by nobody, who waits for shared temporary space only
 * by those that need none of it, and who waits for the disk by all. */
static void grant_waiting(struct body_pool *pool)
{
	struct body_reserve **at = &pool->first;
	bool is_tmp_wanted = false;

	while (*at != NULL) {
		struct body_reserve *req = *at;
		struct room room = need_of(pool, req);
		bool needs_tmp = room.tmp_bytes > 0 && !room.is_beside;

		if (room.n_blocks > pool->total.n_blocks - pool->taken.n_blocks)
			return;
		if (needs_tmp && room.tmp_bytes > pool->total.tmp_bytes - pool->taken.tmp_bytes)
			is_tmp_wanted = true;
		if ((needs_tmp && is_tmp_wanted) || (room.is_beside && !fits_disk(pool, req, room))) {
			at = &req->next;
			continue;
		}
		take_out(pool, at);
		grant(pool, req, room);
		answer(pool, req);
	}
}

void body_reserve_start(struct body_pool *pool, struct body_reserve *req, uint64_t bound_bytes,
                        body_reserved_fn done)
{
	*req = (struct body_reserve){ .done = done, .pool = pool, .bound_bytes = bound_bytes };
	*pool->last = req;
	pool->last = &req->next;
	grant_waiting(pool);
}

void body_reserve_cancel(struct body_reserve *req)
{
	struct body_pool *pool = req->pool;
	struct body_reserve **at = &pool->first;

	while (*at != NULL && *at != req)
		at = &(*at)->next;
	if (*at == req) {
		take_out(pool, at);
		answer(pool, req);
	}
	/* Granted, but it was not told yet: then it never learns. */
	body_unref(req->body);
	req->body = NULL;
	error_set(&req->err, ERROR_CANCELED, "canceled");
	grant_waiting(pool);
}

void pool_give_back(struct body_pool *pool, struct room room)
{
	uint64_t *tmp_bytes = room.is_beside ? &pool->beside_bytes : &pool->taken.tmp_bytes;

	assert(pool->taken.n_blocks >= room.n_blocks && *tmp_bytes >= room.tmp_bytes);
	pool->taken.n_blocks -= room.n_blocks;
	*tmp_bytes -= room.tmp_bytes;
	grant_waiting(pool);
	if (pool->taken.n_blocks == 0)
		trim(pool, IDLE_BLOCKS_KEPT);
}
