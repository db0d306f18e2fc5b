/* Durability rests on four things: WAL with synchronous=NORMAL (what comes first in the WAL is not lost
 * before what comes after it, and it is on disk before it is written back), an fsync of the WAL when
 * db_sync asks for it, an fsync of the directory once the files exist (SQLite does that), and a lock file
 * held for as long as we live. The lock is flock(2) and not SQLite's own: it says "another daemon" before
 * anything is read, and it goes with the process however that ends. */
#include "daemon/db/db.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "daemon/db/aside.h"
#include "daemon/db/internal.h"

enum {
	BUSY_TIMEOUT_MS = 5000,
	PAGE_BYTES = 4096,
	STEPS_PER_LOOK = 10000,    /* of a statement: well below a millisecond */
	CHECKPOINT_PAGES = 1024,   /* 4 MiB: written back in passing */
	WAL_MAX_PAGES = 16 * 1024, /* 64 MiB: from here on a commit waits for readers, and cuts the file */
	WAL_KEPT_BYTES = 8 << 20,  /* what is left of the file after a reset */
	WAL_RESERVED_BYTES = 6 << 20,
};

void db_mark_damaged(struct db *db)
{
	struct error ignored; /* the next start then finds the damage as we did */

	if (db->is_damaged)
		return;
	db->is_broken = db->is_damaged = true;
	(void)!aside_mark(db->path, &ignored);
}

/* An I/O error is not damage: what the disk does not give today may be whole. */
static void note_result(struct db *db, int rc)
{
	int primary = rc & 0xff;

	if (primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB)
		db_mark_damaged(db);
	if (rc == SQLITE_IOERR_FSYNC || rc == SQLITE_IOERR_DIR_FSYNC)
		db->is_broken = true;
}

int db_fail(struct db *db, int rc, struct error *err)
{
	note_result(db, rc);
	if (rc == SQLITE_INTERRUPT)
		return error_set(err, ERROR_TRANSIENT, "%s: reading it took too long", db->path);
	return error_set(err, ERROR_TRANSIENT, "%s: %s", db->path,
	                 sqlite3_extended_errcode(db->handle) == rc ? sqlite3_errmsg(db->handle)
	                                                            : sqlite3_errstr(rc));
}

static int refuse_network_fs(int fd, const char *path, struct error *err)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return error_set(err, ERROR_TRANSIENT, "%s: %s", path, strerror(errno));
	switch ((uint32_t)fs.f_type) {
	case NFS_SUPER_MAGIC:
	case SMB_SUPER_MAGIC:
	case CIFS_SUPER_MAGIC:
	case SMB2_SUPER_MAGIC:
	case AFS_SUPER_MAGIC:
		return error_set(err, ERROR_OPERATOR,
		                 "%s is on a network file system, which SQLite cannot use safely; "
		                 "put the state on a local disk",
		                 path);
	default:
		return 0;
	}
}

/* The database file itself is made here, with its mode; SQLite gives its -wal and -shm the same. */
static int make_file(const char *path, struct error *err)
{
	CLEANUP(close_fd) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return error_set(err, errno == ENOSPC ? ERROR_TRANSIENT : ERROR_OPERATOR, "%s: %s", path,
		                 strerror(errno));
	return 0;
}

static int take_lock(struct db *db, struct error *err)
{
	char path[4096];

	if (snprintf(path, sizeof(path), "%s.lock", db->path) >= (int)sizeof(path))
		return error_set(err, ERROR_OPERATOR, "%s: the path is too long", db->path);
	db->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (db->lock_fd < 0)
		return error_set(err, errno == ENOSPC ? ERROR_TRANSIENT : ERROR_OPERATOR, "%s: %s", path,
		                 strerror(errno));
	if (refuse_network_fs(db->lock_fd, db->path, err) < 0)
		return -1;
	if (flock(db->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			return error_set(err, ERROR_OPERATOR, "%s: another nncached uses this database",
			                 db->path);
		return error_set(err, ERROR_TRANSIENT, "%s: %s", path, strerror(errno));
	}
	return 0;
}

/* What the log needs until it is written back is taken from the disk beforehand: a disk that fills up later
 * does not keep us from writing down what was done. It is written once, since fdatasync takes half the time
 * for blocks that are overwritten; to SQLite zeros are the end of the log. A disk with less room than that
 * has nothing to give. */
static void reserve_wal(const struct db *db)
{
	static const char zeros[KIB(64)];
	char path[ASIDE_PATH_SIZE];
	struct stat st;
	ssize_t n = 1;
	int fd;

	snprintf(path, sizeof(path), "%s-wal", db->path);
	fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return;
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, WAL_RESERVED_BYTES) == 0 && fstat(fd, &st) == 0)
		for (off_t at = st.st_size; n > 0 && at < WAL_RESERVED_BYTES; at += n)
			n = pwrite(fd, zeros, sizeof(zeros), at);
	(void)!fdatasync(fd);
	close(fd);
}

/* After each commit: N_PAGES are in the WAL. What fails here is not the commit; it is tried again after
 * the next one. */
static int on_wal_grown(void *ctx, sqlite3 *handle, const char *name, int n_pages)
{
	struct db *db = ctx;
	int rc = SQLITE_OK;

	if ((uint64_t)n_pages * PAGE_BYTES > db->wal_bytes_max)
		db->wal_bytes_max = (uint64_t)n_pages * PAGE_BYTES;
	if (n_pages >= WAL_MAX_PAGES) {
		rc = sqlite3_wal_checkpoint_v2(handle, name, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
		if (rc == SQLITE_OK)
			reserve_wal(db); /* it went with the file */
	} else if (n_pages >= CHECKPOINT_PAGES)
		rc = sqlite3_wal_checkpoint_v2(handle, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	note_result(db, rc);
	return SQLITE_OK;
}

static int connect(struct db *db, int flags, size_t cache_bytes, struct error *err)
{
	char pragmas[256];
	int rc = sqlite3_open_v2(db->path, &db->handle, flags | SQLITE_OPEN_NOMUTEX, NULL);

	if (db->handle == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	if (rc != SQLITE_OK)
		return db_fail(db, rc, err);
	sqlite3_extended_result_codes(db->handle, 1);
	sqlite3_busy_timeout(db->handle, BUSY_TIMEOUT_MS);
	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	snprintf(pragmas, sizeof(pragmas),
	         "PRAGMA cache_size = -%zu; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;"
	         "PRAGMA foreign_keys = OFF;",
	         cache_bytes / 1024);
	return db_exec(db, pragmas, err);
}

static int on_migrating(void *ctx)
{
	const struct db_config *config = ctx;

	config->on_migrating(config->ctx);
	return 0; /* go on */
}

static int migrate_to(struct db *db, const struct db_config *config, size_t version, struct error *err)
{
	char pragmas[96];

	snprintf(pragmas, sizeof(pragmas), "PRAGMA application_id = %u; PRAGMA user_version = %zu;",
	         config->application_id, version);
	if (db_begin(db, err) < 0)
		return -1;
	if (db_exec(db, config->migrations[version - 1], err) < 0 || db_exec(db, pragmas, err) < 0) {
		db_rollback(db);
		return error_prefix(err, "schema %zu", version);
	}
	return db_commit(db, err) < 0 || db_sync(db, err) < 0 ? -1 : 0;
}

static int migrate(struct db *db, const struct db_config *config, int64_t version, struct error *err)
{
	struct db_config progress = *config; /* SQLite's type is without const */
	int rc = 0;

	for (size_t i = (size_t)version; i < config->n_migrations && rc == 0; i++) {
		if (config->on_migrating != NULL) {
			config->on_migrating(config->ctx);
			sqlite3_progress_handler(db->handle, STEPS_PER_LOOK, on_migrating, &progress);
		}
		rc = migrate_to(db, config, i + 1, err);
		sqlite3_progress_handler(db->handle, 0, NULL, NULL);
	}
	return rc;
}

static int prepare_writer(struct db *db, const struct db_config *config, struct error *err)
{
	char limit[64];
	int64_t version;

	if (db_check(db, config, &version, err) < 0)
		return -1;
	snprintf(limit, sizeof(limit), "PRAGMA journal_size_limit = %d;", WAL_KEPT_BYTES);
	if (db_exec(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;", err) < 0 ||
	    db_exec(db, limit, err) < 0)
		return -1;
	sqlite3_wal_hook(db->handle, on_wal_grown, db);
	return migrate(db, config, version, err);
}

static struct db *db_new(const char *path, struct error *err)
{
	struct db *db = calloc(1, sizeof(*db));

	if (db != NULL) {
		db->lock_fd = -1;
		db->path = strdup(path);
	}
	if (db == NULL || db->path == NULL) {
		free(db);
		error_set(err, ERROR_TRANSIENT, "out of memory");
		return NULL;
	}
	db->deadline_mono_ms = UINT64_MAX;
	return db;
}

static void disconnect(struct db *db)
{
	for (size_t i = 0; i < db->n_places; i++) {
		if (db->stmts[i] == NULL)
			continue;
		sqlite3_finalize(db->stmts[i]->handle);
		free(db->stmts[i]);
	}
	free(db->stmts);
	db->stmts = NULL;
	db->n_stmts = db->n_places = 0;
	sqlite3_close(db->handle);
	db->handle = NULL;
}

static int open_file(struct db *db, const struct db_config *config, struct error *err)
{
	if (make_file(db->path, err) < 0 || connect(db, SQLITE_OPEN_READWRITE, config->cache_bytes, err) < 0)
		return -1;
	return prepare_writer(db, config, err);
}

static int set_aside(struct db *db, struct error *err)
{
	char path[ASIDE_PATH_SIZE];

	disconnect(db);
	if (aside_move(db->path, path, err) < 0)
		return -1;
	free(db->set_aside);
	db->set_aside = *path != '\0' ? strdup(path) : NULL;
	db->is_broken = db->is_damaged = false;
	return 0;
}

/* The lock comes first: neither making the file nor setting it aside must disturb a daemon that runs. */
static int open_locked(struct db *db, const struct db_config *config, struct error *err)
{
	if (take_lock(db, err) < 0 || (aside_is_marked(db->path) && set_aside(db, err) < 0))
		return -1;
	if (open_file(db, config, err) == 0)
		return 0;
	if (!db->is_damaged || set_aside(db, err) < 0)
		return -1;
	return open_file(db, config, err);
}

int db_open(struct db **ret, const struct db_config *config, struct error *err)
{
	struct db *db = db_new(config->path, err);

	if (db == NULL)
		return -1;
	if (open_locked(db, config, err) < 0) {
		if (db->is_broken) /* trying again does not mend it */
			err->kind = ERROR_OPERATOR;
		db_close(db);
		return -1;
	}
	reserve_wal(db);
	*ret = db;
	return 0;
}

static int on_progress(void *ctx)
{
	const struct db *db = ctx;

	return clock_mono_ms() >= db->deadline_mono_ms;
}

void db_limit_time(struct db *reader, uint64_t ms)
{
	reader->deadline_mono_ms = clock_mono_ms() + ms;
}

int db_open_reader(struct db **ret, const char *path, size_t cache_bytes, struct error *err)
{
	struct db *db = db_new(path, err);

	if (db == NULL)
		return -1;
	if (connect(db, SQLITE_OPEN_READONLY, cache_bytes, err) < 0) {
		db_close(db);
		return -1;
	}
	sqlite3_progress_handler(db->handle, STEPS_PER_LOOK, on_progress, db);
	*ret = db;
	return 0;
}

void db_close(struct db *db)
{
	if (db == NULL)
		return;
	disconnect(db);
	close_fd(&db->lock_fd);
	free(db->set_aside);
	free(db->path);
	free(db);
}

int db_exec(struct db *db, const char *sql, struct error *err)
{
	int rc = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : db_fail(db, rc, err);
}

int db_begin(struct db *db, struct error *err)
{
	STMT(st, db, "BEGIN IMMEDIATE");

	return stmt_run(st, err);
}

int db_commit(struct db *db, struct error *err)
{
	int rc;
	{
		STMT(st, db, "COMMIT");

		rc = stmt_run(st, err);
	}
	if (rc < 0)
		db_rollback(db);
	return rc;
}

/* What synchronous=FULL does after every commit. */
int db_sync(struct db *db, struct error *err)
{
	sqlite3_file *wal = NULL;
	int rc = sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal);

	if (rc == SQLITE_OK && wal != NULL && wal->pMethods != NULL)
		rc = wal->pMethods->xSync(wal, SQLITE_SYNC_NORMAL);
	if (rc == SQLITE_OK)
		return 0;
	db->is_broken = true;
	return error_set(err, ERROR_TRANSIENT, "%s-wal: %s", db->path, sqlite3_errstr(rc));
}

void db_rollback(struct db *db)
{
	struct error ignored; /* the transaction is gone whatever it says */
	STMT(st, db, "ROLLBACK");

	if (db_in_transaction(db))
		(void)!stmt_run(st, &ignored);
}

int db_savepoint(struct db *db, struct error *err)
{
	STMT(st, db, "SAVEPOINT op");

	return stmt_run(st, err);
}

int db_savepoint_release(struct db *db, struct error *err)
{
	STMT(st, db, "RELEASE op");

	return stmt_run(st, err);
}

int db_savepoint_rollback(struct db *db, struct error *err)
{
	{
		STMT(st, db, "ROLLBACK TO op");

		if (stmt_run(st, err) < 0)
			return -1;
	}
	return db_savepoint_release(db, err);
}

bool db_in_transaction(const struct db *db)
{
	return !sqlite3_get_autocommit(db->handle);
}

bool db_is_broken(const struct db *db)
{
	return db->is_broken;
}

bool db_is_damaged(const struct db *db)
{
	return db->is_damaged;
}

const char *db_set_aside(const struct db *db)
{
	return db->set_aside;
}

int64_t db_last_id(const struct db *db)
{
	return sqlite3_last_insert_rowid(db->handle);
}

uint64_t db_n_changed(const struct db *db)
{
	return (uint64_t)sqlite3_changes64(db->handle);
}

uint64_t db_wal_bytes_max(const struct db *db)
{
	return db->wal_bytes_max;
}
