/* database: the store's database is read whole or not at all, whoever has it open. */
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/attr.h"
#include "daemon/format/hash.h"
#include "daemon/store/database.h"
#include "daemon/store/texts.h"
#include "tests/unit/test.h"

#define STORE "/nix/store"
#define A     STORE "/a0000000000000000000000000000000-a"
#define B     STORE "/b0000000000000000000000000000000-b"
#define C     STORE "/c0000000000000000000000000000000-c"
#define DRV   STORE "/d0000000000000000000000000000000-a.drv"
#define HASH  "f0dddfc0d7ab95f11f38544d90441a6516555ff5f8581edfb8da5c159961d957"

static const char schema_sql[] =
	"CREATE TABLE ValidPaths(id integer primary key autoincrement not null, path text unique not null,"
	" hash text not null, registrationTime integer not null, deriver text, narSize integer,"
	" ultimate integer, sigs text, ca text);"
	"CREATE TABLE Refs(referrer integer not null, reference integer not null,"
	" primary key (referrer, reference));"
	"CREATE TABLE DerivationOutputs(drv integer not null, id text not null, path text not null,"
	" primary key (drv, id));";

static const char rows_sql[] =
	"INSERT INTO ValidPaths VALUES (1, '" A "', 'sha256:" HASH "', 1700000000, '" DRV "', 232, 1,"
	" 'z-1:zzzz a-1:aaaa z-1:zzzz', 'fixed:r:sha256:x'),"
	" (2, '" B "', 'sha256:" HASH "', 1700000001, NULL, NULL, NULL, NULL, NULL),"
	" (3, '" DRV "', 'sha256:" HASH "', 1700000002, '', 7, 0, '', '');"
	"INSERT INTO Refs VALUES (1, 2), (1, 1);"
	"INSERT INTO DerivationOutputs VALUES (3, 'out', '" A "'), (3, 'dev', '" C "');";

struct state_dir {
	char top[64], state[128], file[160];
	sqlite3 *writer;
};

static void run_sql(struct state_dir *dir, const char *sql)
{
	char *text = NULL;

	if (sqlite3_exec(dir->writer, sql, NULL, NULL, &text) != SQLITE_OK)
		fail_msg("%s: %s", sql, text);
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void write_schema(struct state_dir *dir, const char *text)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/db/schema", dir->state);
	write_file(path, text);
}

/* The writer stays open: what it wrote is in the WAL alone. */
static void make_store(struct state_dir *dir, const char *rows)
{
	char path[160];

	snprintf(dir->top, sizeof(dir->top), "/tmp/test_database.XXXXXX");
	assert_non_null(mkdtemp(dir->top));
	chmod(dir->top, 0755);
	snprintf(dir->state, sizeof(dir->state), "%s/50%% of?a#b", dir->top);
	snprintf(path, sizeof(path), "%s/db", dir->state);
	snprintf(dir->file, sizeof(dir->file), "%s/db/db.sqlite", dir->state);
	assert_int_equal(mkdir(dir->state, 0755), 0);
	assert_int_equal(mkdir(path, 0755), 0);
	write_schema(dir, "10");
	assert_int_equal(sqlite3_open(dir->file, &dir->writer), SQLITE_OK);
	run_sql(dir, "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0");
	run_sql(dir, schema_sql);
	run_sql(dir, rows);
}

static void close_writer(struct state_dir *dir)
{
	sqlite3_close(dir->writer);
	dir->writer = NULL;
}

static void remove_store(struct state_dir *dir)
{
	char command[256];

	close_writer(dir);
	snprintf(command, sizeof(command), "chmod -R u+w '%s'; rm -rf '%s'", dir->top, dir->top);
	assert_int_equal(system(command), 0);
}

static bool file_has_bytes(const struct state_dir *dir, const char *suffix)
{
	char path[200];
	struct stat st;

	snprintf(path, sizeof(path), "%s%s", dir->file, suffix);
	return stat(path, &st) == 0 && st.st_size > 0;
}

struct answer {
	struct path_info a, b, c;
	char **outputs;
	size_t n_outputs;
	int n_calls;
};

static void answer_clear(struct answer *answer)
{
	path_info_fini(&answer->a);
	path_info_fini(&answer->b);
	path_info_fini(&answer->c);
	texts_free(answer->outputs, answer->n_outputs);
	answer->outputs = NULL;
	answer->n_outputs = 0;
}

static int ask(struct database *database, void *ctx, struct error *err)
{
	struct answer *answer = ctx;

	answer->n_calls++;
	answer_clear(answer);
	if (database_query_path_info(database, A, &answer->a, err) < 0 ||
	    database_query_path_info(database, B, &answer->b, err) < 0 ||
	    database_query_path_info(database, C, &answer->c, err) < 0)
		return -1;
	return database_query_outputs(database, DRV, &answer->outputs, &answer->n_outputs, err);
}

static void check_answer(const struct answer *answer)
{
	char hex[SHA256_HEX_SIZE];

	assert_string_equal(answer->a.path, A);
	assert_string_equal(hash_format_hex(answer->a.nar_hash, SHA256_BYTES, hex), HASH);
	assert_string_equal(answer->a.deriver, DRV);
	assert_int_equal(answer->a.nar_size, 232);
	assert_int_equal(answer->a.registered_unix_s, 1700000000);
	assert_true(answer->a.ultimate);
	assert_int_equal(answer->a.n_references, 2);
	assert_string_equal(answer->a.references[0], A);
	assert_string_equal(answer->a.references[1], B);
	assert_int_equal(answer->a.n_sigs, 2);
	assert_string_equal(answer->a.sigs[0], "a-1:aaaa");
	assert_string_equal(answer->a.sigs[1], "z-1:zzzz");
	assert_string_equal(answer->a.ca, "fixed:r:sha256:x");

	assert_string_equal(answer->b.path, B);
	assert_null(answer->b.deriver);
	assert_null(answer->b.ca);
	assert_int_equal(answer->b.nar_size, 0);
	assert_int_equal(answer->b.n_sigs, 0);
	assert_int_equal(answer->b.n_references, 0);
	assert_false(answer->b.ultimate);

	assert_null(answer->c.path);
	assert_int_equal(answer->n_outputs, 1);
	assert_string_equal(answer->outputs[0], A);
}

static void read_and_check(const struct state_dir *dir)
{
	struct answer answer = { 0 };
	struct error err;

	if (database_read(dir->state, STORE, ask, &answer, &err) < 0)
		fail_msg("%s", err.text);
	check_answer(&answer);
	assert_int_equal(answer.n_calls, 1);
	answer_clear(&answer);
}

static void rows_that_are_only_in_the_wal_are_seen(void **state)
{
	struct state_dir dir;
	(void)state;

	make_store(&dir, rows_sql);
	assert_true(file_has_bytes(&dir, "-wal"));
	read_and_check(&dir);
	remove_store(&dir);
}

static void a_store_that_nobody_has_open_is_read(void **state)
{
	struct state_dir dir;
	(void)state;

	make_store(&dir, rows_sql);
	close_writer(&dir);
	assert_false(file_has_bytes(&dir, "-wal"));
	read_and_check(&dir);
	remove_store(&dir);
}

/* What the program does when called with a state directory: reads it as a user who may not write
 * there. 0: all is as it should be; 1: an error; 2: rows are missing. */
static int be_a_stranger(const char *state)
{
	struct answer answer = { 0 };
	struct error err;
	int rc;

	if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
		return 3;
	if (database_read(state, STORE, ask, &answer, &err) < 0)
		return 1;
	rc = answer.a.path != NULL && answer.b.path != NULL && answer.n_outputs == 1 ? 0 : 2;
	answer_clear(&answer);
	return rc;
}

static const char *program;

static int read_as_stranger(const struct state_dir *dir)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		execl(program, program, dir->state, NULL);
		_exit(4);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void lock_directory(const struct state_dir *dir)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/db", dir->state);
	chmod(path, 0555);
}

static void a_stranger_reads_a_store_that_nobody_has_open(void **state)
{
	struct state_dir dir;
	(void)state;

	make_store(&dir, rows_sql);
	close_writer(&dir);
	lock_directory(&dir);
	assert_int_equal(read_as_stranger(&dir), 0);
	remove_store(&dir);
}

static void a_stranger_reads_beside_a_writer(void **state)
{
	struct state_dir dir;
	(void)state;

	make_store(&dir, rows_sql);
	lock_directory(&dir);
	assert_int_equal(read_as_stranger(&dir), 0);
	remove_store(&dir);
}

/* Immutable would read the file without what is in its WAL. */
static void a_wal_that_cannot_be_read_is_never_ignored(void **state)
{
	struct state_dir dir, copy;
	char command[700], path[200];
	(void)state;

	make_store(&dir, "INSERT INTO ValidPaths VALUES (9, '" C "', 'sha256:" HASH
	                 "', 1, NULL, 1, 1, NULL, NULL)");
	run_sql(&dir, "PRAGMA wal_checkpoint(TRUNCATE)");
	run_sql(&dir, rows_sql);
	make_store(&copy, "");
	close_writer(&copy);
	snprintf(command, sizeof(command), "cp '%s' '%s' && cp '%s-wal' '%s-wal'", dir.file, copy.file,
	         dir.file, copy.file);
	assert_int_equal(system(command), 0);
	lock_directory(&copy);
	assert_int_equal(read_as_stranger(&copy), 1);

	snprintf(path, sizeof(path), "%s-wal", copy.file);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(read_as_stranger(&copy), 2);
	remove_store(&copy);
	remove_store(&dir);
}

static void expect_failure(struct state_dir *dir, const char *why)
{
	struct answer answer = { 0 };
	struct error err;

	assert_int_equal(database_read(dir->state, STORE, ask, &answer, &err), -1);
	assert_int_equal(err.kind, ERROR_TRANSIENT);
	if (strstr(err.text, why) == NULL)
		fail_msg("not '%s' but '%s'", why, err.text);
	answer_clear(&answer);
}

static void a_schema_that_is_not_ours_is_refused(void **state)
{
	struct state_dir dir;
	char path[160];
	(void)state;

	make_store(&dir, rows_sql);
	write_schema(&dir, "9");
	expect_failure(&dir, "schema 9 where only 10");
	write_schema(&dir, "100");
	expect_failure(&dir, "schema 100 where only 10");
	write_schema(&dir, "");
	expect_failure(&dir, "schema  where");
	write_schema(&dir, "10\n");
	read_and_check(&dir);
	snprintf(path, sizeof(path), "%s/db/schema", dir.state);
	unlink(path);
	expect_failure(&dir, "db/schema: No such file");
	remove_store(&dir);
}

static void a_store_that_is_not_there_is_named(void **state)
{
	struct state_dir dir;
	(void)state;

	make_store(&dir, rows_sql);
	close_writer(&dir);
	assert_int_equal(unlink(dir.file), 0);
	expect_failure(&dir, "db.sqlite: unable to open");
	write_file(dir.file,
	           "this is no database at all, whatever its name says; but it is long enough to be one");
	expect_failure(&dir, "db.sqlite: file is not a database");
	remove_store(&dir);
}

static void *commit_soon(void *arg)
{
	usleep(100000);
	run_sql(arg, "COMMIT");
	return NULL;
}

static void a_store_that_is_locked_for_a_while_is_waited_for(void **state)
{
	struct state_dir dir;
	pthread_t thread;
	(void)state;

	make_store(&dir, rows_sql);
	run_sql(&dir, "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE");
	assert_int_equal(pthread_create(&thread, NULL, commit_soon, &dir), 0);
	read_and_check(&dir);
	pthread_join(thread, NULL);
	remove_store(&dir);
}

static void rows_that_make_no_sense_are_errors(void **state)
{
	static const struct {
		const char *sql, *why;
	} bad[] = {
		{ "UPDATE ValidPaths SET hash = 'sha256:0' WHERE id = 1", "NAR hash" },
		{ "UPDATE ValidPaths SET path = '/nix/store/x' WHERE id = 2", "32 characters" },
		{ "UPDATE ValidPaths SET path = '/gnu/store/b0000000000000000000000000000000-b' WHERE id = 2",
		  "not in this store" },
		{ "UPDATE ValidPaths SET deriver = 'x' WHERE id = 1", "not in this store" },
		{ "DROP TABLE Refs", "no such table" },
	};
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
		struct state_dir dir;

		make_store(&dir, rows_sql);
		run_sql(&dir, bad[i].sql);
		expect_failure(&dir, bad[i].why);
		expect_failure(&dir, A);
		remove_store(&dir);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_that_are_only_in_the_wal_are_seen),
		cmocka_unit_test(a_store_that_nobody_has_open_is_read),
		cmocka_unit_test(a_stranger_reads_a_store_that_nobody_has_open),
		cmocka_unit_test(a_stranger_reads_beside_a_writer),
		cmocka_unit_test(a_wal_that_cannot_be_read_is_never_ignored),
		cmocka_unit_test(a_schema_that_is_not_ours_is_refused),
		cmocka_unit_test(a_store_that_is_not_there_is_named),
		cmocka_unit_test(a_store_that_is_locked_for_a_while_is_waited_for),
		cmocka_unit_test(rows_that_make_no_sense_are_errors),
	};

	program = argv[0];
	if (argc > 1)
		return be_a_stranger(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
