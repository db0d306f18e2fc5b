/* db: one owner, one schema, commits that last, and statements that tell their first failure. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/db/aside.h"
#include "daemon/db/stmt.h"
#include "tests/support/faulty_vfs.h"
#include "tests/unit/test.h"

#define ID 0x6e6e6331u

static const char *const one[] = { "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, b BLOB) STRICT;" };
static const char *const two[] = { "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, b BLOB) STRICT;",
	                           "ALTER TABLE t ADD COLUMN n INTEGER NOT NULL DEFAULT 7;" };

static char dir[64], path[128];
static struct error err;

static int open_with(struct db **ret, const char *const *migrations, size_t n)
{
	const struct db_config config = { .path = path,
		                          .application_id = ID,
		                          .migrations = migrations,
		                          .n_migrations = n,
		                          .cache_bytes = MIB(1) };

	memset(&err, 0, sizeof(err));
	return db_open(ret, &config, &err);
}

static void count_call(void *ctx)
{
	++*(unsigned *)ctx;
}

/* How often the migrations to version N told that they run. */
static unsigned n_told(const char *const *migrations, size_t n)
{
	unsigned n_calls = 0;
	const struct db_config config = { .path = path,
		                          .application_id = ID,
		                          .migrations = migrations,
		                          .n_migrations = n,
		                          .cache_bytes = MIB(1),
		                          .on_migrating = count_call,
		                          .ctx = &n_calls };
	struct db *db;
	unsigned n_before;

	assert_int_equal(db_open(&db, &config, &err), 0);
	n_before = n_calls;
	/* Nor is it told of what runs later. */
	assert_int_equal(db_exec(db,
	                         "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE"
	                         " x < 20000) INSERT INTO t (v) SELECT x FROM c",
	                         &err),
	                 0);
	assert_int_equal(n_calls, n_before);
	db_close(db);
	return n_calls;
}

static struct db *open_one(void)
{
	struct db *db = NULL;

	assert_int_equal(open_with(&db, one, 1), 0);
	return db;
}

static int make_temp_dir(void **state)
{
	(void)state;
	faulty_vfs = (struct faulty_vfs){ 0 };
	/* In memory if possible: only one test is of the disk, and brings its own. */
	snprintf(dir, sizeof(dir), "%s/nncache-test-db-XXXXXX",
	         access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/queue.db", dir);
	return 0;
}

static int remove_temp_dir(void **state)
{
	DIR *files = opendir(dir);
	struct dirent *entry;
	(void)state;

	while ((entry = readdir(files)) != NULL)
		(void)unlinkat(dirfd(files), entry->d_name, 0);
	closedir(files);
	return rmdir(dir);
}

static bool is_there(const char *file)
{
	struct stat st;

	return lstat(file, &st) == 0;
}

static size_t n_set_aside(void)
{
	DIR *files = opendir(dir);
	struct dirent *entry;
	size_t n = 0;

	while ((entry = readdir(files)) != NULL)
		n += strstr(entry->d_name, ".damaged") != NULL;
	closedir(files);
	return n;
}

static int insert(struct db *db, int64_t id, const char *v)
{
	STMT(st, db, "INSERT INTO t (id, v) VALUES (:id, :v)");

	stmt_bind_int(st, ":id", id);
	stmt_bind_text(st, ":v", v);
	return stmt_run(st, &err);
}

static int64_t count(struct db *db)
{
	STMT(st, db, "SELECT count(*) FROM t");

	assert_int_equal(stmt_step(st, &err), STMT_ROW);
	return stmt_int(st, 0);
}

static void what_was_committed_is_there_again_and_the_file_is_private(void **state)
{
	struct db *db = open_one();
	struct stat st;
	(void)state;

	assert_int_equal(db_begin(db, &err), 0);
	assert_int_equal(insert(db, 1, "a"), 0);
	assert_int_equal(db_commit(db, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	db_close(db);
	db = open_one();
	assert_int_equal(count(db), 1);
	db_close(db);
}

static void a_savepoint_takes_back_its_own_part_only(void **state)
{
	struct db *db = open_one();
	(void)state;

	assert_int_equal(db_begin(db, &err), 0);
	assert_int_equal(db_savepoint(db, &err), 0);
	assert_int_equal(insert(db, 1, "kept"), 0);
	assert_int_equal(db_savepoint_release(db, &err), 0);
	assert_int_equal(db_savepoint(db, &err), 0);
	assert_int_equal(insert(db, 2, "dropped"), 0);
	assert_int_equal(insert(db, 2, "twice"), -1);
	assert_int_equal(err.kind, ERROR_TRANSIENT);
	assert_int_equal(db_savepoint_rollback(db, &err), 0);
	assert_int_equal(db_commit(db, &err), 0);
	assert_int_equal(count(db), 1);
	assert_false(db_is_broken(db));
	db_close(db);
}

static void a_statement_tells_its_first_failure_when_stepped(void **state)
{
	struct db *db = open_one();
	(void)state;

	{
		STMT(st, db, "SELECT v FROM nowhere");

		assert_int_equal(stmt_step(st, &err), STMT_FAILED);
		assert_non_null(strstr(err.text, "nowhere"));
		assert_non_null(strstr(err.text, path));
	}
	assert_int_equal(insert(db, 5, NULL), 0);
	{
		STMT(st, db, "SELECT v, b FROM t WHERE id = :id");
		char *copy = dir;
		size_t len = 1;

		stmt_bind_int(st, ":id", 5);
		assert_int_equal(stmt_step(st, &err), STMT_ROW);
		assert_true(stmt_is_null(st, 0));
		assert_int_equal(stmt_text_copy(st, 0, &copy, &err), 0);
		assert_null(copy);
		assert_null(stmt_blob(st, 1, &len));
		assert_int_equal(len, 0);
		assert_int_equal(stmt_step(st, &err), STMT_DONE);
	}
	db_close(db);
}

/* Waits for the word to go, then tries to open what the parent has. */
static void be_second(int go)
{
	struct db *db = NULL;
	char word;

	if (read(go, &word, 1) != 1)
		_exit(3);
	_exit(open_with(&db, one, 1) == 0 ? 1 : err.kind == ERROR_OPERATOR ? 0 : 2);
}

static void a_second_owner_is_refused_in_this_process_and_in_another(void **state)
{
	struct db *db, *other = NULL;
	int go[2], status;
	pid_t child;
	(void)state;

	assert_int_equal(pipe(go), 0);
	child = fork(); /* before there is a connection that it would inherit */
	if (child == 0)
		be_second(go[0]);
	db = open_one();
	assert_int_equal(open_with(&other, one, 1), -1);
	assert_int_equal(err.kind, ERROR_OPERATOR);
	assert_non_null(strstr(err.text, "another nncached"));
	assert_int_equal(write(go[1], "!", 1), 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	close(go[0]);
	close(go[1]);
	db_close(db);
	db = open_one();
	db_close(db);
}

static void migrations_tell_that_they_run(void **state)
{
	const char *const three[] = { two[0], two[1], "UPDATE t SET v = v || n;" };

	(void)state;
	assert_int_equal(n_told(two, 2), 2);
	assert_int_equal(n_told(two, 2), 0);
	assert_in_range(n_told(three, 3), 10, 1000);
}

static void an_older_schema_is_migrated_and_a_newer_one_refused(void **state)
{
	struct db *db = open_one();
	(void)state;

	assert_int_equal(insert(db, 1, "a"), 0);
	db_close(db);
	assert_int_equal(open_with(&db, two, 2), 0);
	{
		STMT(st, db, "SELECT n FROM t");

		assert_int_equal(stmt_step(st, &err), STMT_ROW);
		assert_int_equal(stmt_int(st, 0), 7);
	}
	db_close(db);
	assert_int_equal(open_with(&db, one, 1), -1);
	assert_int_equal(err.kind, ERROR_OPERATOR);
	assert_non_null(strstr(err.text, "newer"));
	assert_int_equal(n_set_aside(), 0);
}

static void a_migration_that_fails_leaves_the_old_schema(void **state)
{
	static const char *const bad[] = { "CREATE TABLE t (id INTEGER PRIMARY KEY);",
		                           "CREATE TABLE u (id INTEGER); ALTER TABLE missing ADD x;" };
	struct db *db = NULL;
	(void)state;

	assert_int_equal(open_with(&db, bad, 2), -1);
	assert_non_null(strstr(err.text, "schema 2"));
	assert_int_equal(open_with(&db, bad, 1), 0);
	db_close(db);
}

/* Makes a database with a row, closes it, and writes TEXT over it from OFFSET on. */
static void write_over(off_t offset, const void *text, size_t len)
{
	struct db *db = open_one();
	int fd;

	assert_int_equal(insert(db, 1, "a"), 0);
	db_close(db);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(pwrite(fd, text, len, offset), (ssize_t)len);
	close(fd);
}

/* The next open makes a new database, and the old one still lies there, N_BYTES of it. */
static void expect_set_aside(off_t n_bytes)
{
	struct db *db = open_one();
	char found[ASIDE_PATH_SIZE];
	const char *aside = db_set_aside(db);
	struct stat st;

	assert_non_null(aside);
	assert_non_null(strstr(aside, "/queue.db.damaged-2"));
	assert_int_equal(stat(aside, &st), 0);
	assert_int_equal(st.st_size, n_bytes);
	assert_true(aside_find(path, found));
	assert_string_equal(found, aside);
	assert_false(aside_is_marked(path));
	assert_int_equal(count(db), 0);
	assert_int_equal(insert(db, 7, "new"), 0);
	db_close(db);
	db = open_one();
	assert_null(db_set_aside(db));
	assert_int_equal(count(db), 1);
	db_close(db);
}

static off_t size_of_file(void)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

static void what_is_no_database_is_set_aside_as_it_is(void **state)
{
	static const char letter[] = "this is no database, but a letter to somebody\n";
	char found[ASIDE_PATH_SIZE], text[64] = "";
	int fd;
	(void)state;

	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, letter, sizeof(letter)), sizeof(letter));
	close(fd);
	expect_set_aside(sizeof(letter));
	assert_true(aside_find(path, found));
	fd = open(found, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, text, sizeof(text)), sizeof(letter));
	assert_string_equal(text, letter);
	close(fd);
}

static void a_header_that_was_written_over_is_damage(void **state)
{
	(void)state;
	write_over(0, "garbage garbage garbage", 23);
	expect_set_aside(size_of_file());
}

static void a_file_cut_short_is_damage_wherever_it_was_cut(void **state)
{
	static const off_t cuts[] = { 4096, 1000, 100 };
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cuts); i++) {
		unlink(path);
		write_over(0, "S", 1);
		assert_int_equal(truncate(path, cuts[i]), 0);
		expect_set_aside(cuts[i]);
		assert_int_equal(n_set_aside(), i + 1); /* all are kept */
	}
}

static void a_page_count_that_is_too_large_is_damage(void **state)
{
	(void)state;
	write_over(28, "\0\0\x10\0", 4);
	expect_set_aside(size_of_file());
}

static void our_tables_under_a_foreign_application_id_are_damage(void **state)
{
	(void)state;
	write_over(68, "ABCD", 4);
	expect_set_aside(size_of_file());
}

static void a_schema_that_lacks_a_table_is_damage(void **state)
{
	struct db *db = open_one();
	(void)state;

	assert_int_equal(db_exec(db, "DROP TABLE t; CREATE TABLE other (id INTEGER)", &err), 0);
	db_close(db);
	expect_set_aside(size_of_file());
}

static void a_schema_version_that_is_gone_is_damage(void **state)
{
	(void)state;
	write_over(60, "\0\0\0\0", 4);
	expect_set_aside(size_of_file());
}

static void another_programs_database_is_refused_and_left_where_it_is(void **state)
{
	static const char *const others[] = { "CREATE TABLE letter (text TEXT);" };
	const struct db_config config = { .path = path,
		                          .application_id = 7,
		                          .migrations = others,
		                          .n_migrations = 1,
		                          .cache_bytes = MIB(1) };
	struct db *db = NULL;
	(void)state;

	assert_int_equal(db_open(&db, &config, &err), 0);
	db_close(db);
	assert_int_equal(open_with(&db, one, 1), -1);
	assert_int_equal(err.kind, ERROR_OPERATOR);
	assert_non_null(strstr(err.text, "another program"));
	assert_int_equal(n_set_aside(), 0);
	assert_int_equal(db_open(&db, &config, &err), 0);
	db_close(db);
}

static void a_disk_that_cannot_be_read_is_not_damage(void **state)
{
	struct db *db = open_one();
	(void)state;

	assert_int_equal(insert(db, 1, "a"), 0);
	db_close(db);
	faulty_vfs.reads_fail = true;
	assert_int_equal(open_with(&db, one, 1), -1);
	assert_non_null(strstr(err.text, "I/O"));
	faulty_vfs.reads_fail = false;
	assert_int_equal(n_set_aside(), 0);
	db = open_one();
	assert_int_equal(count(db), 1);
	db_close(db);
}

static void a_file_without_permission_is_not_damage(void **state)
{
	struct db *db = open_one();
	pid_t child;
	int status;
	(void)state;

	db_close(db);
	if (getuid() != 0)
		skip(); /* the file could be made unreadable, but not by its directory's owner for itself */
	assert_int_equal(chmod(dir, 0777), 0);
	child = fork();
	if (child == 0) {
		if (unlink(path) < 0 || mkdir(path, 0700) < 0 || setgid(65534) < 0 || setuid(65534) < 0)
			_exit(4);
		_exit(open_with(&db, one, 1) == 0 ? 1 : err.kind == ERROR_OPERATOR ? 0 : 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(n_set_aside(), 0);
	assert_int_equal(rmdir(path), 0);
}

/* Damage that no check at the start sees. */
static void damage_met_on_the_way_is_set_aside_by_the_next_start(void **state)
{
	struct db *db = open_one();
	(void)state;

	assert_int_equal(insert(db, 1, "a"), 0);
	assert_false(db_is_damaged(db));
	db_mark_damaged(db);
	assert_true(db_is_broken(db));
	assert_true(aside_is_marked(path));
	db_close(db);
	expect_set_aside(size_of_file());
}

static void a_set_aside_that_died_between_its_renames_ends_under_the_same_name(void **state)
{
	static const struct timespec when[2] = { { .tv_sec = 1700000000 }, { .tv_sec = 1700000000 } };
	char mark[144], aside[164], wal[170];
	struct db *db;
	(void)state;

	snprintf(mark, sizeof(mark), "%s.damaged", path);
	snprintf(aside, sizeof(aside), "%s-20231114T221320Z", mark);
	snprintf(wal, sizeof(wal), "%s-wal", aside);
	write_over(0, "garbage", 7);
	assert_int_equal(aside_mark(path, &err), 0);
	assert_int_equal(utimensat(AT_FDCWD, mark, when, 0), 0);
	close(open(wal, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)); /* its first rename */
	db = open_one();
	assert_string_equal(db_set_aside(db), aside);
	assert_true(is_there(wal));
	assert_false(aside_is_marked(path));
	db_close(db);
	/* And at its very end: the mark alone was left. */
	assert_int_equal(aside_mark(path, &err), 0);
	assert_int_equal(utimensat(AT_FDCWD, mark, when, 0), 0);
	assert_int_equal(unlink(path), 0);
	db = open_one();
	assert_string_equal(db_set_aside(db), aside);
	db_close(db);
}

/* The disk was full, say, when the damage was met. */
static void what_could_not_be_marked_is_marked_when_it_is_set_aside(void **state)
{
	char aside[ASIDE_PATH_SIZE];
	(void)state;

	write_over(0, "garbage", 7);
	assert_int_equal(aside_move(path, aside, &err), 0);
	assert_non_null(strstr(aside, "/queue.db.damaged-2"));
	assert_true(is_there(aside));
	assert_false(is_there(path));
	assert_false(aside_is_marked(path));
}

static void a_failed_fsync_is_final_and_no_damage(void **state)
{
	struct db *db = open_one();
	unsigned n_before;
	(void)state;

	assert_int_equal(db_begin(db, &err), 0);
	assert_int_equal(insert(db, 1, "a"), 0);
	assert_int_equal(db_commit(db, &err), 0);
	faulty_vfs.fsync_fails = true;
	n_before = faulty_vfs.n_fsyncs;
	assert_int_equal(db_sync(db, &err), -1);
	faulty_vfs.fsync_fails = false;
	assert_int_equal(faulty_vfs.n_fsyncs, n_before + 1); /* nothing tried it once more */
	assert_true(db_is_broken(db));
	assert_false(db_is_damaged(db));
	db_close(db);
	db = open_one();
	assert_null(db_set_aside(db));
	assert_false(db_is_broken(db));
	db_close(db);
}

/* Stands before libc's. */
static uint32_t pretended_fs;
int fstatfs(int fd, struct statfs *ret)
{
	long rc = syscall(SYS_fstatfs, fd, ret);

	if (rc == 0 && pretended_fs != 0)
		ret->f_type = pretended_fs;
	return (int)rc;
}

static void a_network_file_system_is_refused(void **state)
{
	static const uint32_t kinds[] = { NFS_SUPER_MAGIC, CIFS_SUPER_MAGIC, SMB2_SUPER_MAGIC };
	struct db *db = open_one();
	char mark[sizeof(path) + 16];
	(void)state;

	/* Not even a damaged one is moved there. */
	db_close(db);
	snprintf(mark, sizeof(mark), "%s.damaged", path);
	close(open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	for (size_t i = 0; i < N_ELEMENTS(kinds); i++) {
		pretended_fs = kinds[i];
		assert_int_equal(open_with(&db, one, 1), -1);
		assert_int_equal(err.kind, ERROR_OPERATOR);
		assert_non_null(strstr(err.text, "network file system"));
		assert_non_null(strstr(err.text, path));
		assert_true(is_there(mark));
	}
	pretended_fs = 0;
	db = open_one();
	db_close(db);
}

static void a_reader_sees_commits_and_cannot_write(void **state)
{
	struct db *db = open_one(), *reader = NULL;
	(void)state;

	assert_int_equal(db_open_reader(&reader, path, MIB(1), &err), 0);
	assert_int_equal(insert(db, 1, "a"), 0);
	assert_int_equal(count(reader), 1);
	assert_int_equal(insert(reader, 2, "b"), -1);
	db_close(reader);
	db_close(db);
}

static void the_wal_has_a_ceiling(void **state)
{
	struct db *db = open_one();
	struct stat st;
	char wal[160];
	(void)state;

	for (int i = 0; i < 40; i++) {
		assert_int_equal(db_begin(db, &err), 0);
		assert_int_equal(db_exec(db, "INSERT INTO t (b) VALUES (randomblob(1000000));", &err), 0);
		assert_int_equal(db_commit(db, &err), 0);
	}
	snprintf(wal, sizeof(wal), "%s-wal", path);
	assert_int_equal(stat(wal, &st), 0);
	assert_true(st.st_size < 10 << 20);
	assert_true(db_wal_bytes_max(db) < 10 << 20);
	db_close(db);
}

static off_t size_of_wal(void)
{
	char wal[160];
	struct stat st;

	snprintf(wal, sizeof(wal), "%s-wal", path);
	assert_int_equal(stat(wal, &st), 0);
	return st.st_size;
}

static void the_wal_is_cut_as_soon_as_a_reader_lets_it(void **state)
{
	struct db *db = open_one(), *reader = NULL;
	(void)state;

	assert_int_equal(db_open_reader(&reader, path, MIB(1), &err), 0);
	assert_int_equal(db_exec(reader, "BEGIN; SELECT count(*) FROM t", &err), 0);
	while (db_wal_bytes_max(db) < 64 << 20)
		assert_int_equal(db_exec(db, "INSERT INTO t (b) VALUES (randomblob(1000000))", &err), 0);
	/* The last commit waited for the reader, but not for ever. */
	assert_int_equal(db_exec(reader, "COMMIT", &err), 0);
	assert_int_equal(insert(db, 1000, "a"), 0);
	assert_true(size_of_wal() < 9 << 20);
	assert_true(size_of_wal() >= 6 << 20); /* and what it needs is taken from the disk again */
	db_close(reader);
	db_close(db);
}

static void a_reader_may_not_hold_the_wal_for_ever(void **state)
{
	static const char endless[] = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
				      " SELECT count(*) FROM c";
	struct db *db = open_one(), *reader = NULL;
	(void)state;

	assert_int_equal(db_open_reader(&reader, path, MIB(1), &err), 0);
	assert_int_equal(db_exec(reader, "BEGIN; SELECT count(*) FROM t", &err), 0);
	db_limit_time(reader, 50);
	assert_int_equal(db_exec(reader, endless, &err), -1);
	assert_int_equal(err.kind, ERROR_TRANSIENT);
	assert_non_null(strstr(err.text, "too long"));
	assert_false(db_is_broken(reader));
	db_rollback(reader);
	db_limit_time(reader, 60000);
	assert_int_equal(count(reader), 0);
	db_close(reader);
	db_close(db);
}

static void a_full_disk_is_transient_and_passes(void **state)
{
	char filler[128];
	struct db *db;
	(void)state;

	if (mount("none", dir, "tmpfs", 0, "size=1m") < 0) {
		print_message("cannot mount a tmpfs here: a full disk is NOT tested\n");
		skip();
	}
	db = open_one();
	assert_int_equal(db_begin(db, &err), 0);
	assert_int_equal(insert(db, 1, "a"), 0);
	assert_int_equal(db_commit(db, &err), 0);
	snprintf(filler, sizeof(filler), "%s/filler", dir);
	{
		static const char block[65536];
		int fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		while (write(fd, block, sizeof(block)) > 0)
			;
		close(fd);
	}
	for (int i = 0; i < 3; i++) {
		int rc = db_begin(db, &err);

		if (rc == 0)
			rc = db_exec(db, "INSERT INTO t (b) VALUES (randomblob(300000));", &err);
		if (rc == 0)
			rc = db_commit(db, &err);
		assert_int_equal(rc, -1);
		assert_int_equal(err.kind, ERROR_TRANSIENT);
		db_rollback(db);
		assert_false(db_is_broken(db));
		assert_int_equal(count(db), 1);
	}
	assert_int_equal(unlink(filler), 0);
	assert_int_equal(insert(db, 2, "b"), 0);
	db_close(db);
	db = open_one();
	assert_int_equal(count(db), 2);
	db_close(db);
	assert_int_equal(umount(dir), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_temp_dir, remove_temp_dir)
	const struct CMUnitTest tests[] = {
		TEST(what_was_committed_is_there_again_and_the_file_is_private),
		TEST(a_savepoint_takes_back_its_own_part_only),
		TEST(a_statement_tells_its_first_failure_when_stepped),
		TEST(a_second_owner_is_refused_in_this_process_and_in_another),
		TEST(an_older_schema_is_migrated_and_a_newer_one_refused),
		TEST(migrations_tell_that_they_run),
		TEST(a_migration_that_fails_leaves_the_old_schema),
		TEST(what_is_no_database_is_set_aside_as_it_is),
		TEST(a_header_that_was_written_over_is_damage),
		TEST(a_file_cut_short_is_damage_wherever_it_was_cut),
		TEST(a_page_count_that_is_too_large_is_damage),
		TEST(our_tables_under_a_foreign_application_id_are_damage),
		TEST(a_schema_that_lacks_a_table_is_damage),
		TEST(a_schema_version_that_is_gone_is_damage),
		TEST(another_programs_database_is_refused_and_left_where_it_is),
		TEST(a_disk_that_cannot_be_read_is_not_damage),
		TEST(a_file_without_permission_is_not_damage),
		TEST(damage_met_on_the_way_is_set_aside_by_the_next_start),
		TEST(a_set_aside_that_died_between_its_renames_ends_under_the_same_name),
		TEST(what_could_not_be_marked_is_marked_when_it_is_set_aside),
		TEST(a_failed_fsync_is_final_and_no_damage),
		TEST(a_network_file_system_is_refused),
		TEST(a_reader_sees_commits_and_cannot_write),
		TEST(the_wal_has_a_ceiling),
		TEST(the_wal_is_cut_as_soon_as_a_reader_lets_it),
		TEST(a_reader_may_not_hold_the_wal_for_ever),
		TEST(a_full_disk_is_transient_and_passes),
	};

	faulty_vfs_install();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
