/* The files are the usual ones with two of their methods replaced. Those of one kind share a table of
 * methods, which is copied at the first: a database has locks, its log has none. */
#include "tests/support/faulty_vfs.h"

#include <sqlite3.h>
#include <stddef.h>

struct faulty_vfs faulty_vfs;

static sqlite3_vfs *usual, faulty;

struct kind {
	const sqlite3_io_methods *usual;
	sqlite3_io_methods faulty;
};
static struct kind databases, logs;

static const struct kind *kind_of(const sqlite3_file *file)
{
	return file->pMethods == &databases.faulty ? &databases : &logs;
}

static int on_read(sqlite3_file *file, void *data, int n_bytes, sqlite3_int64 offset)
{
	const struct kind *kind = kind_of(file);
	bool is_bad = kind == &databases && faulty_vfs.bad_page != 0 && offset == faulty_vfs.bad_page;

	return faulty_vfs.reads_fail || is_bad ? SQLITE_IOERR_READ
	                                       : kind->usual->xRead(file, data, n_bytes, offset);
}

static int on_sync(sqlite3_file *file, int flags)
{
	faulty_vfs.n_fsyncs++;
	return faulty_vfs.fsync_fails ? SQLITE_IOERR_FSYNC : kind_of(file)->usual->xSync(file, flags);
}

static void replace(sqlite3_file *file, struct kind *kind)
{
	if (kind->usual == NULL) {
		kind->usual = file->pMethods;
		kind->faulty = *kind->usual;
		kind->faulty.xRead = on_read;
		kind->faulty.xSync = on_sync;
	}
	if (file->pMethods == kind->usual)
		file->pMethods = &kind->faulty;
}

static int on_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
	int rc = usual->xOpen(vfs, name, file, flags, ret_flags);

	if (rc == SQLITE_OK && (flags & SQLITE_OPEN_MAIN_DB) != 0)
		replace(file, &databases);
	else if (rc == SQLITE_OK && (flags & SQLITE_OPEN_WAL) != 0)
		replace(file, &logs);
	return rc;
}

void faulty_vfs_install(void)
{
	usual = sqlite3_vfs_find(NULL);
	faulty = *usual;
	faulty.zName = "faulty";
	faulty.pNext = NULL;
	faulty.xOpen = on_open;
	sqlite3_vfs_register(&faulty, 1);
}
