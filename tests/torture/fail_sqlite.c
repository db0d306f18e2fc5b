/* SQLite's memory comes from here, its files pass through here (a VFS before the real one), and so does each
 * step of a statement. */
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "tests/torture/fail.h"

int __real_sqlite3_step(sqlite3_stmt *stmt);
int __wrap_sqlite3_step(sqlite3_stmt *stmt);

/* A step that fails before it has done anything, as one does whose pages cannot be read or kept. */
int __wrap_sqlite3_step(sqlite3_stmt *stmt)
{
	if (!fail_now(FAIL_SQL_STEP))
		return __real_sqlite3_step(stmt);
	return fail_turn() % 2 == 0 ? SQLITE_FULL : SQLITE_IOERR_READ;
}

/* ---- memory ------------------------------------------------------------------------------------------ */

static sqlite3_mem_methods real_memory;

static void *memory_new(int n)
{
	return fail_now(FAIL_SQL_MEMORY) ? NULL : real_memory.xMalloc(n);
}

static void *memory_resize(void *old, int n)
{
	return fail_now(FAIL_SQL_MEMORY) ? NULL : real_memory.xRealloc(old, n);
}

/* ---- files ------------------------------------------------------------------------------------------- */

struct file {
	sqlite3_file base;
	sqlite3_file *real; /* behind this struct */
};

static sqlite3_vfs *real_vfs;

static sqlite3_file *real_of(sqlite3_file *file)
{
	return ((struct file *)(void *)file)->real;
}

static int on_close(sqlite3_file *file)
{
	return real_of(file)->pMethods->xClose(real_of(file));
}

static int on_read(sqlite3_file *file, void *data, int n, sqlite3_int64 at)
{
	return fail_now(FAIL_SQL_FILE) ? SQLITE_IOERR_READ
	                               : real_of(file)->pMethods->xRead(real_of(file), data, n, at);
}

static int on_write(sqlite3_file *file, const void *data, int n, sqlite3_int64 at)
{
	if (!fail_now(FAIL_SQL_FILE))
		return real_of(file)->pMethods->xWrite(real_of(file), data, n, at);
	/* A disk that is full takes the first part. */
	if (fail_turn() % 2 == 0 && n > 512)
		real_of(file)->pMethods->xWrite(real_of(file), data, 512, at);
	return fail_turn() % 2 == 0 ? SQLITE_FULL : SQLITE_IOERR_WRITE;
}

static int on_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	return fail_now(FAIL_SQL_FILE) ? SQLITE_IOERR_TRUNCATE
	                               : real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int on_sync(sqlite3_file *file, int flags)
{
	return fail_now(FAIL_SQL_SYNC) ? SQLITE_IOERR_FSYNC
	                               : real_of(file)->pMethods->xSync(real_of(file), flags);
}

static int on_size(sqlite3_file *file, sqlite3_int64 *ret)
{
	return fail_now(FAIL_SQL_FILE) ? SQLITE_IOERR_FSTAT
	                               : real_of(file)->pMethods->xFileSize(real_of(file), ret);
}

static int on_lock(sqlite3_file *file, int level)
{
	return real_of(file)->pMethods->xLock(real_of(file), level);
}

static int on_unlock(sqlite3_file *file, int level)
{
	return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int on_check_lock(sqlite3_file *file, int *ret)
{
	return real_of(file)->pMethods->xCheckReservedLock(real_of(file), ret);
}

static int on_control(sqlite3_file *file, int op, void *arg)
{
	return real_of(file)->pMethods->xFileControl(real_of(file), op, arg);
}

static int on_sector_size(sqlite3_file *file)
{
	return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int on_traits(sqlite3_file *file)
{
	return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static int on_shm_map(sqlite3_file *file, int region, int size, int extend, void volatile **ret)
{
	return fail_now(FAIL_SQL_FILE)
	               ? SQLITE_IOERR_SHMMAP
	               : real_of(file)->pMethods->xShmMap(real_of(file), region, size, extend, ret);
}

static int on_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
	return real_of(file)->pMethods->xShmLock(real_of(file), offset, n, flags);
}

static void on_shm_barrier(sqlite3_file *file)
{
	real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int on_shm_unmap(sqlite3_file *file, int remove)
{
	return real_of(file)->pMethods->xShmUnmap(real_of(file), remove);
}

static const sqlite3_io_methods methods = {
	.iVersion = 2, /* no memory-mapped pages: they would pass us by */
	.xClose = on_close,
	.xRead = on_read,
	.xWrite = on_write,
	.xTruncate = on_truncate,
	.xSync = on_sync,
	.xFileSize = on_size,
	.xLock = on_lock,
	.xUnlock = on_unlock,
	.xCheckReservedLock = on_check_lock,
	.xFileControl = on_control,
	.xSectorSize = on_sector_size,
	.xDeviceCharacteristics = on_traits,
	.xShmMap = on_shm_map,
	.xShmLock = on_shm_lock,
	.xShmBarrier = on_shm_barrier,
	.xShmUnmap = on_shm_unmap,
};

static int on_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *base, int flags, int *ret_flags)
{
	struct file *file = (struct file *)(void *)base;
	int rc;
	(void)vfs;

	base->pMethods = NULL;
	if (fail_now(FAIL_SQL_FILE))
		return SQLITE_CANTOPEN;
	file->real = (sqlite3_file *)(void *)(file + 1);
	rc = real_vfs->xOpen(real_vfs, name, file->real, flags, ret_flags);
	if (file->real->pMethods != NULL)
		base->pMethods = &methods;
	return rc;
}

static int on_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
	(void)vfs;
	return fail_now(FAIL_SQL_FILE) ? SQLITE_IOERR_DELETE : real_vfs->xDelete(real_vfs, name, sync);
}

void fail_take_sqlite(void)
{
	static sqlite3_mem_methods memory;
	static sqlite3_vfs vfs;

	fail_spare(true); /* to take it over starts it */
	if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_memory) != SQLITE_OK)
		abort();
	memory = real_memory;
	memory.xMalloc = memory_new;
	memory.xRealloc = memory_resize;
	sqlite3_config(SQLITE_CONFIG_MALLOC, &memory);
	sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0);
	real_vfs = sqlite3_vfs_find(NULL);
	vfs = *real_vfs;
	vfs.zName = "fail";
	vfs.szOsFile = (int)sizeof(struct file) + real_vfs->szOsFile;
	vfs.xOpen = on_open;
	vfs.xDelete = on_delete;
	if (sqlite3_vfs_register(&vfs, 1) != SQLITE_OK)
		abort();
	fail_spare(false);
}
