/* A cache in a directory. What blocks runs on a lane of its own. A file is durable before it gets its
 * name, and the folder it got its name in before the op is done; so a narinfo, which is put after its
 * NAR's op is done, can never be on the disk before it. What somebody else left there, who may not have
 * cared, is made durable before it counts as found.
 *
 * Most of the time goes into waiting for the disk's cache to be flushed. The kernel lets those who wait
 * at the same time share a flush, which is why there are many threads and small batches: one thread that
 * syncs a long batch file by file took ten times as long.
 *
 *   put: POSTED -> on the lane --more to come--> WAITING -> POSTED ...
 *                      |  all of it written: committed
 *                      +--> done
 *
 * A body that fails, and a cancel, pass once more through the lane, to take the temporary file away. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/store_path.h"
#include "daemon/backend/fresh_file.h"
#include "daemon/backend/kind.h"
#include "daemon/format/narinfo.h"
#include "daemon/loop/lane.h"

#define N_THREADS   8
#define MAX_BATCH   2      /* two narinfos share the sync of their folder */
#define STEP_BYTES  MIB(4) /* written for one op before others have their turn */
#define COPY_BYTES  KIB(64)
#define FOLDER_SIZE 1200

enum folder { FOLDER_TOP, FOLDER_NAR, N_FOLDERS };

struct file_cache {
	struct backend backend;
	struct lane *lane;
	char *store_dir;
	char folders[N_FOLDERS][FOLDER_SIZE];
};

struct file_call {
	struct lane_job job;
	struct file_cache *cache;
	struct backend_op *op;
	void (*run)(struct file_call *call); /* on the lane */
	bool is_posted, is_canceled;

	/* The lane's, while posted. */
	struct error err;
	enum folder folder;
	char name[STORE_BASE_MAX];
	const char *path; /* find_info: of which the narinfo is to be */
	bool found;
	char nar_url[96];
	uint64_t file_size;

	/* A put: of a text, or of a body. */
	struct fresh_file file;
	bool is_open;
	bool is_whole; /* what is readable now is all */
	bool is_written;
	bool syncs[N_FOLDERS]; /* what was found there has its name, durably, before the op is done */
	const char *text;
	struct body *body;
	struct body_watch watch;
	uint64_t readable, offset;
};

/* On the lane */

/* Reads a file of at most MAX bytes, as a text. Returns 1, or 0 if there is none. */
static int read_text(const char *path, struct buf *text, struct error *err)
{
	CLEANUP(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n;
	char *to;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return errno_fault(err, path);
	to = buf_reserve(text, text->max);
	if (to == NULL)
		return error_set(err, ERROR_TRANSIENT, "%s: out of memory", path);
	n = read_full(fd, to, text->max);
	if (n < 0)
		return errno_fault(err, path);
	text->len = (size_t)n;
	to[n] = '\0';
	return 1;
}

static void format_path(char path[FRESH_PATH_SIZE], const struct file_cache *cache, enum folder folder,
                        const char *name)
{
	snprintf(path, FRESH_PATH_SIZE, "%s/%s", cache->folders[folder], name);
}

/* Returns 1 if there is a right one, 0 if there is none. */
static int read_cache_info(struct file_cache *cache, struct error *err)
{
	CLEANUP(buf_fini) struct buf text = { .max = CACHE_INFO_MAX_BYTES };
	char path[FRESH_PATH_SIZE];
	int got;

	format_path(path, cache, FOLDER_TOP, CACHE_INFO_KEY);
	got = read_text(path, &text, err);
	if (got == 1 && check_cache_info(path, buf_text(&text), cache->store_dir, err) < 0)
		return -1;
	return got;
}

static int make_cache_info(struct file_cache *cache, struct error *err)
{
	const char *top = cache->folders[FOLDER_TOP];
	char text[CACHE_INFO_TEXT_SIZE];
	size_t n = format_cache_info(text, cache->store_dir);
	struct fresh_file file;
	int is_there;

	is_there = fresh_open(&file, top, CACHE_INFO_KEY, err);
	if (is_there != 0)
		return is_there;
	if (fresh_write(&file, text, n, err) < 0) {
		fresh_discard(&file);
		return -1;
	}
	if (fresh_commit(&file, err) < 0)
		return -1;
	return sync_folder(top, err);
}

/* Most likely it is not the disk that is read-only, but what the unit shows us of it. */
static int make_folders(struct file_cache *cache, struct error *err)
{
	const char *top = cache->folders[FOLDER_TOP];

	for (int i = 0; i < N_FOLDERS; i++) {
		if (make_folder(cache->folders[i], err) == 0)
			continue;
		if (errno == EROFS)
			error_set(err, ERROR_OPERATOR,
			          "%.120s: the service cannot write here: install -d -o nncache %.120s; "
			          "systemctl edit nncached, [Service] ReadWritePaths=%.120s",
			          top, top, top);
		return -1;
	}
	return 0;
}

static void run_prepare(struct file_call *call)
{
	struct file_cache *cache = call->cache;
	int got;

	if (make_folders(cache, &call->err) < 0)
		return;
	for (int i = 0; i < N_FOLDERS; i++)
		sweep_folder(cache->folders[i]);
	/* What is found there may be from one who died before its name was durable; others are to build on
	 * it. */
	fsync_parent(cache->folders[FOLDER_TOP]);
	for (int i = 0; i < N_FOLDERS; i++)
		if (sync_folder(cache->folders[i], &call->err) < 0)
			return;
	got = read_cache_info(cache, &call->err);
	if (got != 0 || make_cache_info(cache, &call->err) < 0)
		return;
	/* Another daemon may have been first. */
	if (read_cache_info(cache, &call->err) == 0)
		error_set(&call->err, ERROR_TRANSIENT, "%s/%s: it vanished", cache->folders[FOLDER_TOP],
		          CACHE_INFO_KEY);
}

/* Without the NAR it is as little there as without itself; whoever wrote them wrote that first. */
static int sync_nar_of(struct file_call *call, const char *nar_url)
{
	char path[FRESH_PATH_SIZE];
	struct stat st;

	if (strncmp(nar_url, "nar/", 4) != 0 || strchr(nar_url + 4, '/') != NULL)
		return 0; /* a cache of another layout, or a hostile one */
	format_path(path, call->cache, FOLDER_NAR, nar_url + 4);
	call->syncs[FOLDER_NAR] = true;
	return sync_found(path, &st, &call->err) < 0 ? -1 : 0;
}

/* The narinfo TEXT lies at PATH. */
static void found_info(struct file_call *call, const char *path, const char *text)
{
	struct stat st;

	read_nar_url(call->nar_url, text);
	call->syncs[FOLDER_TOP] = true;
	if (sync_nar_of(call, call->nar_url) == 0 && sync_found(path, &st, &call->err) >= 0)
		call->found = true;
}

static void found_nar(struct file_call *call, const char *path, const struct stat *st)
{
	call->syncs[FOLDER_NAR] = true;
	call->found = st->st_size > 0;
	call->file_size = (uint64_t)st->st_size;
	if (!call->found)
		error_set(&call->err, ERROR_OPERATOR, "%s: it is empty; delete it", path);
}

static void run_find_info(struct file_call *call)
{
	CLEANUP(buf_fini) struct buf text = { .max = NARINFO_MAX_BYTES };
	char path[FRESH_PATH_SIZE];

	format_path(path, call->cache, FOLDER_TOP, call->name);
	if (read_text(path, &text, &call->err) == 1 &&
	    check_narinfo(path, buf_text(&text), text.len, call->path, &call->err) == 0)
		found_info(call, path, buf_text(&text));
}

static void run_find_nar(struct file_call *call)
{
	char path[FRESH_PATH_SIZE];
	struct stat st;

	format_path(path, call->cache, FOLDER_NAR, call->name);
	if (sync_found(path, &st, &call->err) == 1)
		found_nar(call, path, &st);
}

static int write_body(struct file_call *call)
{
	uint64_t end = call->readable;
	char data[COPY_BYTES];

	if (end - call->offset > STEP_BYTES)
		end = call->offset + STEP_BYTES;
	while (call->offset < end) {
		ssize_t n = body_read(call->body, call->offset, data, sizeof(data), &call->err);

		if (n < 0 || fresh_write(&call->file, data, (size_t)n, &call->err) < 0)
			return -1;
		call->offset += (uint64_t)n;
	}
	return 0;
}

static int write_text(struct file_call *call)
{
	if (fresh_write(&call->file, call->text, call->readable, &call->err) < 0)
		return -1;
	call->offset = call->readable;
	return 0;
}

/* A put need not write: another's file has the name. */
static void note_found(struct file_call *call)
{
	CLEANUP(buf_fini) struct buf text = { .max = NARINFO_MAX_BYTES };
	const char *path = call->file.path;
	struct stat st;
	int got;

	if (call->folder == FOLDER_NAR)
		got = sync_found(path, &st, &call->err);
	else
		got = read_text(path, &text, &call->err);
	if (got == 0)
		error_set(&call->err, ERROR_TRANSIENT, "%s: it vanished", path);
	else if (got == 1 && call->folder == FOLDER_NAR)
		found_nar(call, path, &st);
	else if (got == 1)
		found_info(call, path, buf_text(&text));
}

static void run_put(struct file_call *call)
{
	if (!call->is_open) {
		int is_there =
			fresh_open(&call->file, call->cache->folders[call->folder], call->name, &call->err);

		call->is_open = is_there == 0;
		call->is_written = is_there == 1;
		if (is_there == 1)
			note_found(call);
		if (is_there != 0)
			return;
	}
	if ((call->body != NULL ? write_body(call) : write_text(call)) < 0)
		return;
	if (!call->is_whole || call->offset < call->readable)
		return;
	call->is_written = true;
}

static void run_discard(struct file_call *call)
{
	if (call->is_open)
		fresh_discard(&call->file);
	call->is_open = false;
}

static struct file_call *call_of(struct lane_job *job)
{
	return job != NULL ? CONTAINER_OF(job, struct file_call, job) : NULL;
}

static void close_file(struct file_call *call)
{
	int is_taken;

	if (call->err.kind != ERROR_NONE)
		run_discard(call);
	if (!call->is_written || !call->is_open)
		return;
	call->is_open = false;
	is_taken = fresh_commit(&call->file, &call->err);
	call->is_written = is_taken >= 0;
	if (is_taken == 1)
		note_found(call);
}

static bool wrote_in(const struct file_call *call, int folder)
{
	return call->err.kind == ERROR_NONE && call->is_written && (int)call->folder == folder;
}

static bool found_in(const struct file_call *call, int folder)
{
	return call->err.kind == ERROR_NONE && call->syncs[folder];
}

/* A name that was there before may be as new as ours: its folder is made durable, too. One that cannot be
 * synced fails what was written there; where it was only looked, it may be because nothing can be written. */
static void sync_names(struct lane_job *batch, int number, const char *folder)
{
	bool is_written = false, is_found = false;
	struct error err = { 0 };
	struct stat st;

	for (struct file_call *c = call_of(batch); c != NULL; c = call_of(c->job.next)) {
		is_written |= wrote_in(c, number);
		is_found |= found_in(c, number);
	}
	if (is_written ? sync_folder(folder, &err) == 0 : !is_found || sync_found(folder, &st, &err) >= 0)
		return;
	for (struct file_call *c = call_of(batch); c != NULL; c = call_of(c->job.next))
		if (wrote_in(c, number) || found_in(c, number))
			c->err = err;
}

static void run_batch(void *ctx, unsigned thread, struct lane_job *batch)
{
	const struct file_cache *cache = ctx;
	(void)thread;

	for (struct file_call *c = call_of(batch); c != NULL; c = call_of(c->job.next))
		c->run(c);
	for (struct file_call *c = call_of(batch); c != NULL; c = call_of(c->job.next))
		close_file(c);
	for (int i = 0; i < N_FOLDERS; i++)
		sync_names(batch, i, cache->folders[i]);
}

/* On the loop */

static struct file_call *call_new(struct backend *backend, struct backend_op *op)
{
	struct file_call *call = calloc(1, sizeof(*call));

	op_begin(backend, op);
	if (call == NULL) {
		error_set(&op->err, ERROR_TRANSIENT, "out of memory");
		op_end_later(op);
		return NULL;
	}
	call->cache = CONTAINER_OF(backend, struct file_cache, backend);
	call->op = op;
	call->file.fd = -1;
	op->call = call;
	return call;
}

static void call_free(struct file_call *call)
{
	body_unwatch(&call->watch);
	body_unref(call->body);
	free(call);
}

static void call_end(struct file_call *call)
{
	struct backend_op *op = call->op;

	op->err = call->err;
	op->found = call->found;
	memcpy(op->nar_url, call->nar_url, sizeof(op->nar_url));
	op->file_size = call->file_size;
	op->call = NULL;
	call_free(call);
	op->done(op);
}

static void on_ran(struct lane_job *job);

static void call_post(struct file_call *call, void (*run)(struct file_call *call))
{
	call->run = run;
	call->is_posted = true;
	lane_post(call->cache->lane, &call->job, on_ran);
}

static void on_asked(struct file_call *call)
{
	if (call->is_canceled)
		error_set(&call->err, ERROR_CANCELED, "canceled");
	call_end(call);
}

/* Launches what the put waits for next; nothing if the body has nothing new. */
static void put_step(struct file_call *call)
{
	if (call->is_posted)
		return;
	if (call->is_canceled || (call->body != NULL && body_state(call->body) == BODY_FAILED)) {
		call_post(call, run_discard);
		return;
	}
	if (call->body != NULL) {
		call->is_whole = body_state(call->body) == BODY_ENDED;
		call->readable = body_readable_bytes(call->body);
	}
	if (call->is_whole || call->readable > call->offset)
		call_post(call, run_put);
}

static void on_ran(struct lane_job *job)
{
	struct file_call *call = CONTAINER_OF(job, struct file_call, job);

	call->is_posted = false;
	if (call->run != run_put && call->run != run_discard) {
		on_asked(call);
		return;
	}
	call->op->sent_bytes = call->offset;
	if (call->run == run_discard && call->is_canceled)
		error_set(&call->err, ERROR_CANCELED, "canceled");
	else if (call->run == run_discard)
		call->err = *body_error(call->body);
	if (call->err.kind != ERROR_NONE || call->is_written)
		call_end(call);
	else
		put_step(call);
}

static void on_body_changed(struct body_watch *watch)
{
	put_step(CONTAINER_OF(watch, struct file_call, watch));
}

static void prepare_start(struct backend *backend, struct backend_op *op)
{
	struct file_call *call = call_new(backend, op);

	if (call != NULL)
		call_post(call, run_prepare);
}

/* Whether the daemon may write there is not ours to say: this may be asked by another user. */
static void run_probe(struct file_call *call)
{
	call->found = read_cache_info(call->cache, &call->err) > 0;
}

static void probe_start(struct backend *backend, struct backend_op *op)
{
	struct file_call *call = call_new(backend, op);

	if (call != NULL)
		call_post(call, run_probe);
}

static void find_info_start(struct backend *backend, struct backend_op *op, const char *path)
{
	struct file_call *call = call_new(backend, op);
	char key[NARINFO_KEY_SIZE];

	if (call == NULL)
		return;
	call->path = path;
	snprintf(call->name, sizeof(call->name), "%s", format_narinfo_key(key, path));
	call_post(call, run_find_info);
}

/* NAR keys are "nar/NAME". */
static void set_nar_name(struct file_call *call, const char *nar_key)
{
	assert(strncmp(nar_key, "nar/", 4) == 0 && strchr(nar_key + 4, '/') == NULL);
	call->folder = FOLDER_NAR;
	snprintf(call->name, sizeof(call->name), "%s", nar_key + 4);
}

static void find_nar_start(struct backend *backend, struct backend_op *op,
                           const struct backend_object *object)
{
	struct file_call *call = call_new(backend, op);

	if (call == NULL)
		return;
	set_nar_name(call, object->nar_key);
	call_post(call, run_find_nar);
}

static void put_nar_start(struct backend *backend, struct backend_op *op, const struct backend_object *object,
                          struct body *body)
{
	struct file_call *call = call_new(backend, op);

	if (call == NULL)
		return;
	set_nar_name(call, object->nar_key);
	call->body = body_ref(body);
	body_watch(body, &call->watch, on_body_changed);
	put_step(call);
}

static void put_info_start(struct backend *backend, struct backend_op *op,
                           const struct backend_object *object, const char *text, size_t len)
{
	struct file_call *call = call_new(backend, op);
	char key[NARINFO_KEY_SIZE];

	if (call == NULL)
		return;
	snprintf(call->name, sizeof(call->name), "%s", format_narinfo_key(key, object->info->path));
	call->text = text;
	call->readable = len;
	call->is_whole = true;
	put_step(call);
}

static void file_cancel(struct backend_op *op)
{
	struct file_call *call = op->call;

	if (call == NULL)
		return;
	call->is_canceled = true;
	if (call->body != NULL)
		put_step(call);
}

static void read_start(struct backend *backend, struct backend_read *read, const char *key)
{
	const struct file_cache *cache = CONTAINER_OF(backend, struct file_cache, backend);

	file_read_start(backend->loop, cache->folders[FOLDER_TOP], read, key);
}

static void on_lane_closed(void *ctx)
{
	struct file_cache *cache = ctx;

	free(cache->store_dir);
	free(cache);
}

static void file_close(struct backend *backend)
{
	struct file_cache *cache = CONTAINER_OF(backend, struct file_cache, backend);

	lane_close(cache->lane, on_lane_closed, cache);
}

static const struct backend_ops file_ops = {
	.kind = PUBLISH_SEPARATE,
	.prepare_start = prepare_start,
	.probe_start = probe_start,
	.find_info_start = find_info_start,
	.find_nar_start = find_nar_start,
	.put_nar_start = put_nar_start,
	.put_info_start = put_info_start,
	.read_start = read_start,
	.cancel = file_cancel,
	.close = file_close,
};

static const struct backend_ops file_reading_ops = {
	.find_info_start = find_info_start,
	.cancel = file_cancel,
	.close = file_close,
};

int file_backend_open(struct backend **ret, struct loop *loop, const char *url, const char *store_dir,
                      struct error *err)
{
	static const struct lane_ops lane_ops = { .run_batch = run_batch };
	const char *dir = url + strlen("file://");
	struct file_cache *cache;

	if (strlen(url) >= FOLDER_SIZE)
		return error_set(err, ERROR_OPERATOR, "file:// URL is longer than %d bytes", FOLDER_SIZE);
	cache = calloc(1, sizeof(*cache));
	if (cache == NULL || (store_dir != NULL && (cache->store_dir = strdup(store_dir)) == NULL)) {
		free(cache);
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	}
	cache->backend.ops = store_dir != NULL ? &file_ops : &file_reading_ops;
	cache->backend.loop = loop;
	cache->backend.streams = true;
	snprintf(cache->folders[FOLDER_TOP], FOLDER_SIZE, "%s", dir);
	snprintf(cache->folders[FOLDER_NAR], FOLDER_SIZE, "%s/nar", dir);
	if (lane_open(&cache->lane, loop, "file", N_THREADS, MAX_BATCH, &lane_ops, cache, err) < 0) {
		free(cache->store_dir);
		free(cache);
		return -1;
	}
	*ret = &cache->backend;
	return 0;
}
