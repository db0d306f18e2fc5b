#include "tests/support/crash_vfs.h"

#include <assert.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/attr.h"

#define N_NAMES      64
#define PAGE_BYTES   4096
#define N_SHM_LOCKS  SQLITE_SHM_NLOCK
#define N_REGIONS    64
#define SECTOR_BYTES 512

struct bytes {
	unsigned char *data;
	size_t len, cap;
};

struct change { /* a write, or (data NULL) a truncation to `offset` */
	struct change *next;
	size_t offset, n;
	unsigned char *data;
};

struct inode {
	struct bytes now, durable;
	struct change *first, **last; /* from durable to now */
	/* what the process holds */
	unsigned n_shared;
	const void *reserved, *exclusive;
	unsigned shm_shared[N_SHM_LOCKS];
	const void *shm_exclusive[N_SHM_LOCKS];
	void *regions[N_REGIONS];
	unsigned n_mapped;
};

struct name {
	char text[512];
	struct inode *now, *durable; /* NULL: not there */
};

struct handle {
	sqlite3_file base;
	struct inode *inode;
	int lock;
	bool syncs_dir; /* its next sync syncs the directory too */
	bool is_mapped;
	unsigned shm_shared, shm_exclusive; /* bits */
};

static struct {
	uint64_t (*random)(void);
	void (*at)(enum crash_vfs_point point);
	bool is_full, fails_sync;
	struct name names[N_NAMES];
	unsigned n_names;
} v;

static void reach(enum crash_vfs_point point)
{
	if (v.at != NULL)
		v.at(point);
}

/* ---- bytes ------------------------------------------------------------------------------------------- */

static void bytes_resize(struct bytes *bytes, size_t len)
{
	if (len > bytes->cap) {
		bytes->cap = len < 65536 ? 65536 : len * 2;
		bytes->data = realloc(bytes->data, bytes->cap);
		assert(bytes->data != NULL);
	}
	if (len > bytes->len)
		memset(bytes->data + bytes->len, 0, len - bytes->len);
	bytes->len = len;
}

static void bytes_write(struct bytes *bytes, size_t offset, const void *data, size_t n)
{
	if (n == 0)
		return;
	if (offset + n > bytes->len)
		bytes_resize(bytes, offset + n);
	memcpy(bytes->data + offset, data, n);
}

static void bytes_apply(struct bytes *bytes, const struct change *change)
{
	if (change->data == NULL)
		bytes_resize(bytes, change->offset);
	else
		bytes_write(bytes, change->offset, change->data, change->n);
}

/* ---- inodes and names -------------------------------------------------------------------------------- */

static void inode_change(struct inode *inode, size_t offset, const void *data, size_t n)
{
	struct change *change = calloc(1, sizeof(*change));

	assert(change != NULL);
	*change = (struct change){ .offset = offset, .n = n };
	if (data != NULL) {
		change->data = malloc(n + 1);
		assert(change->data != NULL);
		memcpy(change->data, data, n);
	}
	*inode->last = change;
	inode->last = &change->next;
	bytes_apply(&inode->now, change);
}

static void inode_forget_changes(struct inode *inode)
{
	struct change *next;

	for (struct change *change = inode->first; change != NULL; change = next) {
		next = change->next;
		free(change->data);
		free(change);
	}
	inode->first = NULL;
	inode->last = &inode->first;
}

static void inode_sync(struct inode *inode)
{
	for (struct change *change = inode->first; change != NULL; change = change->next)
		bytes_apply(&inode->durable, change);
	inode_forget_changes(inode);
}

static struct name *name_find(const char *text)
{
	for (unsigned i = 0; i < v.n_names; i++)
		if (strcmp(v.names[i].text, text) == 0)
			return &v.names[i];
	return NULL;
}

static struct name *name_make(const char *text)
{
	struct name *name = name_find(text);

	if (name == NULL) {
		assert(v.n_names < N_NAMES);
		name = &v.names[v.n_names++];
		*name = (struct name){ 0 };
		snprintf(name->text, sizeof(name->text), "%s", text);
	}
	if (name->now == NULL) {
		name->now = calloc(1, sizeof(*name->now));
		assert(name->now != NULL);
		name->now->last = &name->now->first;
	}
	return name;
}

static void sync_directory(void)
{
	for (unsigned i = 0; i < v.n_names; i++)
		v.names[i].durable = v.names[i].now;
}

/* ---- sqlite3_io_methods ------------------------------------------------------------------------------ */

static int on_unlock(sqlite3_file *file, int level);

static struct handle *handle_of(sqlite3_file *file)
{
	return (struct handle *)(void *)file;
}

static int on_close(sqlite3_file *file)
{
	return on_unlock(file, SQLITE_LOCK_NONE);
}

static int on_read(sqlite3_file *file, void *data, int n, sqlite3_int64 offset)
{
	const struct bytes *bytes = &handle_of(file)->inode->now;
	size_t from = (size_t)offset, len = (size_t)n;

	if (from + len <= bytes->len) {
		memcpy(data, bytes->data + from, len);
		return SQLITE_OK;
	}
	memset(data, 0, len);
	if (from < bytes->len)
		memcpy(data, bytes->data + from, bytes->len - from);
	return SQLITE_IOERR_SHORT_READ;
}

static int on_write(sqlite3_file *file, const void *data, int n, sqlite3_int64 offset)
{
	reach(CRASH_BEFORE_WRITE);
	if (v.is_full)
		return SQLITE_FULL;
	inode_change(handle_of(file)->inode, (size_t)offset, data, (size_t)n);
	return SQLITE_OK;
}

static int on_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	reach(CRASH_BEFORE_WRITE);
	inode_change(handle_of(file)->inode, (size_t)size, NULL, 0);
	return SQLITE_OK;
}

static int on_sync(sqlite3_file *file, int flags)
{
	struct handle *handle = handle_of(file);
	(void)flags;

	reach(CRASH_BEFORE_SYNC);
	if (v.fails_sync) {
		v.fails_sync = false;
		return SQLITE_IOERR_FSYNC;
	}
	inode_sync(handle->inode);
	if (handle->syncs_dir)
		sync_directory();
	handle->syncs_dir = false;
	reach(CRASH_AFTER_SYNC);
	return SQLITE_OK;
}

static int on_file_size(sqlite3_file *file, sqlite3_int64 *ret)
{
	*ret = (sqlite3_int64)handle_of(file)->inode->now.len;
	return SQLITE_OK;
}

static int on_lock(sqlite3_file *file, int level)
{
	struct handle *handle = handle_of(file);
	struct inode *inode = handle->inode;

	if (handle->lock >= level)
		return SQLITE_OK;
	if (inode->exclusive != NULL && inode->exclusive != handle)
		return SQLITE_BUSY;
	if (handle->lock == SQLITE_LOCK_NONE)
		inode->n_shared++;
	if (handle->lock == SQLITE_LOCK_NONE)
		handle->lock = SQLITE_LOCK_SHARED;
	if (level == SQLITE_LOCK_SHARED)
		return SQLITE_OK;
	if (inode->reserved != NULL && inode->reserved != handle)
		return SQLITE_BUSY;
	inode->reserved = handle;
	handle->lock = SQLITE_LOCK_RESERVED;
	if (level < SQLITE_LOCK_EXCLUSIVE)
		return SQLITE_OK;
	if (inode->n_shared > 1)
		return SQLITE_BUSY;
	inode->exclusive = handle;
	handle->lock = SQLITE_LOCK_EXCLUSIVE;
	return SQLITE_OK;
}

static int on_unlock(sqlite3_file *file, int level)
{
	struct handle *handle = handle_of(file);
	struct inode *inode = handle->inode;

	if (inode->exclusive == handle)
		inode->exclusive = NULL;
	if (inode->reserved == handle)
		inode->reserved = NULL;
	if (level == SQLITE_LOCK_NONE && handle->lock > SQLITE_LOCK_NONE)
		inode->n_shared--;
	if (handle->lock > level)
		handle->lock = level;
	return SQLITE_OK;
}

static int on_check_reserved(sqlite3_file *file, int *ret)
{
	*ret = handle_of(file)->inode->reserved != NULL;
	return SQLITE_OK;
}

static int on_control(sqlite3_file *file, int op, void *arg)
{
	(void)file;
	(void)op;
	(void)arg;
	return SQLITE_NOTFOUND;
}

static int on_sector_size(sqlite3_file *file)
{
	(void)file;
	return 4096;
}

/* As the system's own VFS says it: a write torn by a power cut leaves alone what lies beside it. */
static int on_characteristics(sqlite3_file *file)
{
	(void)file;
	return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static int on_shm_map(sqlite3_file *file, int region, int size, int extend, void volatile **ret)
{
	struct handle *handle = handle_of(file);
	struct inode *inode = handle->inode;

	assert(region < N_REGIONS);
	if (!handle->is_mapped)
		inode->n_mapped++;
	handle->is_mapped = true;
	if (inode->regions[region] == NULL && extend)
		inode->regions[region] = calloc(1, (size_t)size);
	*ret = inode->regions[region];
	return SQLITE_OK;
}

static bool shm_may_lock(const struct handle *handle, int i, int flags)
{
	const struct inode *inode = handle->inode;
	bool shares = handle->shm_shared >> i & 1;

	if (inode->shm_exclusive[i] != NULL && inode->shm_exclusive[i] != handle)
		return false;
	return (flags & SQLITE_SHM_SHARED) != 0 || inode->shm_shared[i] == shares;
}

static void shm_lock_one(struct handle *handle, int i, int flags)
{
	struct inode *inode = handle->inode;
	unsigned bit = 1u << i;

	if (flags & SQLITE_SHM_UNLOCK) {
		if (handle->shm_exclusive & bit)
			inode->shm_exclusive[i] = NULL;
		if (handle->shm_shared & bit)
			inode->shm_shared[i]--;
		handle->shm_exclusive &= ~bit;
		handle->shm_shared &= ~bit;
	} else if (flags & SQLITE_SHM_SHARED) {
		inode->shm_shared[i] += (handle->shm_shared & bit) == 0;
		handle->shm_shared |= bit;
	} else {
		inode->shm_exclusive[i] = handle;
		handle->shm_exclusive |= bit;
	}
}

static int on_shm_lock(sqlite3_file *file, int first, int n, int flags)
{
	struct handle *handle = handle_of(file);

	for (int i = first; (flags & SQLITE_SHM_LOCK) != 0 && i < first + n; i++)
		if (!shm_may_lock(handle, i, flags))
			return SQLITE_BUSY;
	for (int i = first; i < first + n; i++)
		shm_lock_one(handle, i, flags);
	return SQLITE_OK;
}

static void on_shm_barrier(sqlite3_file *file)
{
	(void)file;
}

static void shm_forget(struct inode *inode)
{
	for (int i = 0; i < N_REGIONS; i++) {
		free(inode->regions[i]);
		inode->regions[i] = NULL;
	}
	inode->n_mapped = 0;
}

static int on_shm_unmap(sqlite3_file *file, int deletes)
{
	struct handle *handle = handle_of(file);
	(void)deletes;

	if (handle->is_mapped && --handle->inode->n_mapped == 0)
		shm_forget(handle->inode);
	handle->is_mapped = false;
	return SQLITE_OK;
}

static const sqlite3_io_methods methods = {
	.iVersion = 2,
	.xClose = on_close,
	.xRead = on_read,
	.xWrite = on_write,
	.xTruncate = on_truncate,
	.xSync = on_sync,
	.xFileSize = on_file_size,
	.xLock = on_lock,
	.xUnlock = on_unlock,
	.xCheckReservedLock = on_check_reserved,
	.xFileControl = on_control,
	.xSectorSize = on_sector_size,
	.xDeviceCharacteristics = on_characteristics,
	.xShmMap = on_shm_map,
	.xShmLock = on_shm_lock,
	.xShmBarrier = on_shm_barrier,
	.xShmUnmap = on_shm_unmap,
};

/* ---- sqlite3_vfs ------------------------------------------------------------------------------------- */

static int on_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags, int *ret_flags)
{
	struct handle *handle = handle_of(file);
	(void)vfs;

	*handle = (struct handle){ 0 };
	assert(path != NULL); /* temporary files are in memory */
	/* The database file itself is made by its owner, not by SQLite, and elsewhere. */
	handle->inode = name_make(path)->now;
	handle->syncs_dir = (flags & SQLITE_OPEN_CREATE) != 0 &&
	                    (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL)) != 0;
	handle->base.pMethods = &methods;
	if (ret_flags != NULL)
		*ret_flags = flags;
	return SQLITE_OK;
}

static int on_delete(sqlite3_vfs *vfs, const char *path, int syncs_dir)
{
	struct name *name = name_find(path);
	(void)vfs;

	if (name == NULL || name->now == NULL)
		return SQLITE_IOERR_DELETE_NOENT;
	reach(CRASH_BEFORE_DELETE);
	name->now = NULL; /* its inode may come back */
	if (syncs_dir)
		sync_directory();
	return SQLITE_OK;
}

static int on_access(sqlite3_vfs *vfs, const char *path, int flags, int *ret)
{
	const struct name *name = name_find(path);
	(void)vfs;

	*ret = name != NULL && name->now != NULL;
	if (flags == SQLITE_ACCESS_EXISTS && *ret)
		*ret = name->now->now.len > 0;
	return SQLITE_OK;
}

static int on_full_path(sqlite3_vfs *vfs, const char *path, int n, char *ret)
{
	(void)vfs;
	snprintf(ret, (size_t)n, "%s", path);
	return SQLITE_OK;
}

static int on_randomness(sqlite3_vfs *vfs, int n, char *ret)
{
	(void)vfs;
	for (int i = 0; i < n; i++)
		ret[i] = (char)v.random();
	return n;
}

/* Nobody else runs who could give up a lock meanwhile. */
static int on_sleep(sqlite3_vfs *vfs, int us)
{
	(void)vfs;
	return us;
}

static int on_time(sqlite3_vfs *vfs, sqlite3_int64 *ret_ms)
{
	struct timespec now;
	(void)vfs;

	clock_gettime(CLOCK_REALTIME, &now);
	*ret_ms = INT64_C(210866760000000) + (sqlite3_int64)now.tv_sec * 1000;
	return SQLITE_OK;
}

static int on_last_error(sqlite3_vfs *vfs, int n, char *ret)
{
	(void)vfs;
	(void)n;
	(void)ret;
	return 0;
}

void crash_vfs_register(uint64_t (*random)(void))
{
	static sqlite3_vfs vfs = {
		.iVersion = 2,
		.szOsFile = sizeof(struct handle),
		.mxPathname = 512,
		.zName = "crash",
		.xOpen = on_open,
		.xDelete = on_delete,
		.xAccess = on_access,
		.xFullPathname = on_full_path,
		.xRandomness = on_randomness,
		.xSleep = on_sleep,
		.xCurrentTimeInt64 = on_time,
		.xGetLastError = on_last_error,
	};
	int rc;

	v.random = random;
	rc = sqlite3_vfs_register(&vfs, 1);
	assert(rc == SQLITE_OK);
	(void)rc;
}

void crash_vfs_watch(void (*at)(enum crash_vfs_point point))
{
	v.at = at;
}

void crash_vfs_set_full(bool is_full)
{
	v.is_full = is_full;
}

void crash_vfs_fail_sync(void)
{
	v.fails_sync = true;
}

void crash_vfs_heal(void)
{
	v.is_full = v.fails_sync = false;
}

/* ---- death ------------------------------------------------------------------------------------------- */

static void inode_release(struct inode *inode)
{
	inode->n_shared = 0;
	inode->reserved = inode->exclusive = NULL;
	memset(inode->shm_shared, 0, sizeof(inode->shm_shared));
	memset(inode->shm_exclusive, 0, sizeof(inode->shm_exclusive));
	shm_forget(inode);
}

void crash_vfs_kill(void)
{
	for (unsigned i = 0; i < v.n_names; i++) {
		if (v.names[i].now != NULL)
			inode_release(v.names[i].now);
		if (v.names[i].durable != NULL)
			inode_release(v.names[i].durable);
	}
	v.fails_sync = false;
}

/* Of a write some sectors. */
static void tear(struct bytes *bytes, const struct change *change)
{
	for (size_t at = 0; at < change->n;) {
		size_t end =
			(change->offset + at) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES - change->offset;

		if (end > change->n)
			end = change->n;
		if (v.random() & 1)
			bytes_write(bytes, change->offset + at, change->data + at, end - at);
		at = end;
	}
}

static void inode_power_cut(struct inode *inode, bool loses_all)
{
	uint64_t mode = loses_all ? 0 : v.random() % 4; /* nothing, all, or some of each */

	for (const struct change *change = inode->first; change != NULL && mode > 0; change = change->next) {
		uint64_t what = mode == 1 ? 1 : v.random() % 3;

		if (what == 1 || (what == 2 && change->data == NULL))
			bytes_apply(&inode->durable, change);
		else if (what == 2)
			tear(&inode->durable, change);
	}
	inode_forget_changes(inode);
	bytes_resize(&inode->now, 0);
	bytes_write(&inode->now, 0, inode->durable.data, inode->durable.len);
}

void crash_vfs_power_cut(bool loses_all)
{
	crash_vfs_kill();
	for (unsigned i = 0; i < v.n_names; i++) {
		struct name *name = &v.names[i];

		if (name->now != name->durable && (loses_all || (v.random() & 1)))
			name->now = name->durable;
		name->durable = name->now;
		if (name->now != NULL)
			inode_power_cut(name->now, loses_all);
	}
}

/* ---- loss and damage ---------------------------------------------------------------------------------- */

bool crash_vfs_rename(const char *from, const char *to)
{
	struct name *source = name_find(from), *target;

	if (source == NULL || source->now == NULL)
		return false;
	target = name_make(to);
	target->now = target->durable = source->now;
	source->now = source->durable = NULL;
	return true;
}

void crash_vfs_lose(const char *prefix)
{
	for (unsigned i = 0; i < v.n_names; i++)
		if (strncmp(v.names[i].text, prefix, strlen(prefix)) == 0)
			v.names[i].now = v.names[i].durable = NULL;
}

void crash_vfs_damage(const char *path, enum crash_vfs_damage how)
{
	static const unsigned char zeros[PAGE_BYTES];
	const struct name *name = name_find(path);
	size_t len, at;

	if (name == NULL || name->now == NULL || name->now->now.len == 0)
		return;
	len = name->now->now.len;
	at = v.random() % len;
	if (how == CRASH_HEADER)
		inode_change(name->now, 0, zeros, len < 100 ? len : 100);
	else if (how == CRASH_PAGE)
		inode_change(name->now, at / PAGE_BYTES * PAGE_BYTES, zeros,
		             len - at / PAGE_BYTES * PAGE_BYTES < PAGE_BYTES ? len % PAGE_BYTES : PAGE_BYTES);
	else if (how == CRASH_SHORT)
		inode_change(name->now, at, NULL, 0);
	for (; how == CRASH_REST && at < len; at += PAGE_BYTES)
		inode_change(name->now, at, zeros, len - at < PAGE_BYTES ? len - at : PAGE_BYTES);
	inode_sync(name->now);
}

static void inode_free(struct inode *inode)
{
	if (inode == NULL)
		return;
	inode_forget_changes(inode);
	shm_forget(inode);
	free(inode->now.data);
	free(inode->durable.data);
	free(inode);
}

void crash_vfs_reset(void)
{
	for (unsigned i = 0; i < v.n_names; i++) {
		if (v.names[i].durable != v.names[i].now)
			inode_free(v.names[i].durable);
		inode_free(v.names[i].now);
	}
	v.n_names = 0;
	v.is_full = v.fails_sync = false;
}
