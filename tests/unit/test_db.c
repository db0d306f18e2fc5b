/* db: one owner, one schema, commits that last, and statements that tell their first failure. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/db/stmt.h"
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

static struct db *open_one(void)
{
	struct db *db = NULL;

	assert_int_equal(open_with(&db, one, 1), 0);
	return db;
}

static int make_temp_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/nncache-test-db-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/queue.db", dir);
	return 0;
}

static int remove_temp_dir(void **state)
{
	static const char *const names[] = { "", "-wal", "-shm", ".lock" };
	char file[160];
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(names); i++) {
		snprintf(file, sizeof(file), "%s%s", path, names[i]);
		unlink(file);
	}
	return rmdir(dir);
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

static void a_foreign_or_damaged_file_is_refused_and_left_as_it_is(void **state)
{
	struct db *db = NULL;
	char text[64] = "";
	int fd;
	(void)state;

	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "this is no database, but a letter to somebody\n", 46), 46);
	assert_int_equal(open_with(&db, one, 1), -1);
	assert_int_equal(err.kind, ERROR_OPERATOR);
	assert_int_equal(pread(fd, text, sizeof(text), 0), 46);
	assert_memory_equal(text, "this is no database", 19);
	close(fd);
}

static void a_file_cut_short_is_refused(void **state)
{
	struct db *db = open_one();
	(void)state;

	assert_int_equal(insert(db, 1, "a"), 0);
	db_close(db);
	assert_int_equal(truncate(path, 4096), 0);
	assert_int_equal(open_with(&db, one, 1), -1);
	assert_int_equal(err.kind, ERROR_OPERATOR);
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
		TEST(a_migration_that_fails_leaves_the_old_schema),
		TEST(a_foreign_or_damaged_file_is_refused_and_left_as_it_is),
		TEST(a_file_cut_short_is_refused),
		TEST(a_reader_sees_commits_and_cannot_write),
		TEST(the_wal_has_a_ceiling),
		TEST(a_full_disk_is_transient_and_passes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
