#include "daemon/store/database.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "common/fd.h"
#include "common/store_path.h"
#include "daemon/format/hash.h"
#include "daemon/store/texts.h"

#define SCHEMA    "10"
#define BUSY_MS   5000
#define N_TRIES   3
#define PATH_SIZE 4200

struct database {
	sqlite3 *db;
	const char *store_dir;
	char file[PATH_SIZE];
};

static void finalize(sqlite3_stmt **stmt)
{
	sqlite3_finalize(*stmt);
}

static int fail(struct database *database, struct error *err)
{
	return error_set(err, ERROR_TRANSIENT, "%s: %s", database->file, sqlite3_errmsg(database->db));
}

static int no_memory(struct error *err)
{
	return error_set(err, ERROR_TRANSIENT, "out of memory");
}

static int check_schema(const char *state_dir, struct error *err)
{
	char path[PATH_SIZE], *text;
	bool is_ours;

	snprintf(path, sizeof(path), "%s/db/schema", state_dir);
	if (read_file(path, 100, &text, NULL, err) < 0)
		return -1;
	text[strcspn(text, "\n")] = '\0';
	is_ours = strcmp(text, SCHEMA) == 0;
	if (!is_ours)
		error_set(err, ERROR_TRANSIENT, "%s: schema %s where only " SCHEMA " is understood", path,
		          text);
	free(text);
	return is_ours ? 0 : -1;
}

static void put_uri(struct buf *uri, const char *path, const char *query)
{
	buf_puts(uri, "file:");
	for (; *path != '\0'; path++) {
		unsigned char c = (unsigned char)*path;

		if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		    strchr("/-._~", c) != NULL)
			buf_putc(uri, *path);
		else
			buf_printf(uri, "%%%02X", c);
	}
	buf_puts(uri, query);
}

static int open_database(struct database *database, const char *query)
{
	struct buf uri;
	int rc = SQLITE_NOMEM;

	buf_init(&uri, PATH_SIZE * 3 + 100);
	put_uri(&uri, database->file, query);
	if (buf_ok(&uri))
		rc = sqlite3_open_v2(uri.data, &database->db,
		                     SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL);
	buf_fini(&uri);
	if (rc == SQLITE_OK)
		rc = sqlite3_busy_timeout(database->db, BUSY_MS);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(database->db, "BEGIN; SELECT count(*) FROM sqlite_master", NULL, NULL,
		                  NULL);
	return rc & 0xff;
}

/* 0: done; -1: failed; 1: cannot be read in this manner. */
static int read_once(struct database *database, const char *query, database_fn fn, void *ctx,
                     struct error *err)
{
	int rc = open_database(database, query), ret = -1;

	if (rc == SQLITE_OK)
		ret = fn(database, ctx, err);
	else
		fail(database, err);
	if (rc == SQLITE_READONLY || rc == SQLITE_CANTOPEN)
		ret = 1;
	sqlite3_close(database->db);
	database->db = NULL;
	return ret;
}

static bool has_bytes(const struct database *database, const char *suffix)
{
	char path[PATH_SIZE + 16];
	struct stat st;

	snprintf(path, sizeof(path), "%s%s", database->file, suffix);
	return stat(path, &st) == 0 && st.st_size > 0;
}

/* Something that belongs to the database is beside the file: the file alone is not all. */
static bool is_being_written(const struct database *database)
{
	return has_bytes(database, "-wal") || has_bytes(database, "-journal");
}

int database_read(const char *state_dir, const char *store_dir, database_fn fn, void *ctx, struct error *err)
{
	struct database database = { .store_dir = store_dir };
	int n = snprintf(database.file, sizeof(database.file), "%s/db/db.sqlite", state_dir), rc = 1;

	if (n < 0 || (size_t)n >= sizeof(database.file))
		return error_set(err, ERROR_TRANSIENT, "%.100s...: name too long", state_dir);
	if (check_schema(state_dir, err) < 0)
		return -1;
	for (int i = 0; i < N_TRIES; i++) {
		rc = read_once(&database, "?mode=ro", fn, ctx, err);
		if (rc <= 0)
			return rc;
		if (is_being_written(&database))
			continue;
		rc = read_once(&database, "?mode=ro&immutable=1", fn, ctx, err);
		if (rc == 0 && !is_being_written(&database)) {
			*err = (struct error){ 0 }; /* of the first manner */
			return 0;
		}
		if (!is_being_written(&database))
			return -1;
	}
	if (rc == 0)
		error_set(err, ERROR_TRANSIENT, "%s: is being written", database.file);
	return -1;
}

static int prepare(struct database *database, sqlite3_stmt **stmt, const char *sql, const char *path,
                   struct error *err)
{
	if (sqlite3_prepare_v2(database->db, sql, -1, stmt, NULL) != SQLITE_OK ||
	    sqlite3_bind_text(*stmt, 1, path, -1, SQLITE_STATIC) != SQLITE_OK)
		return fail(database, err);
	return 0;
}

/* 1: there is a row; 0: no more; -1: failed. */
static int step(struct database *database, sqlite3_stmt *stmt, struct error *err)
{
	switch (sqlite3_step(stmt)) {
	case SQLITE_ROW:
		return 1;
	case SQLITE_DONE:
		return 0;
	default:
		return fail(database, err);
	}
}

/* NULL and "" give NULL. */
static int copy_column(sqlite3_stmt *stmt, int column, char **ret, struct error *err)
{
	const char *text = (const char *)sqlite3_column_text(stmt, column);

	if (text == NULL || text[0] == '\0')
		return 0;
	*ret = strdup(text);
	return *ret != NULL ? 0 : no_memory(err);
}

static int append_paths(struct database *database, sqlite3_stmt *stmt, char ***ret, size_t *ret_n,
                        struct error *err)
{
	int rc;

	while ((rc = step(database, stmt, err)) == 1) {
		char *path = NULL;

		if (copy_column(stmt, 0, &path, err) < 0 ||
		    store_path_check(path != NULL ? path : "", database->store_dir, err) < 0) {
			free(path);
			return -1;
		}
		if (texts_append(ret, ret_n, path) < 0)
			return no_memory(err);
	}
	return rc;
}

static int read_references(struct database *database, struct path_info *info, struct error *err)
{
	CLEANUP(finalize) sqlite3_stmt *stmt = NULL;

	if (prepare(database, &stmt,
	            "SELECT r.path FROM Refs JOIN ValidPaths r ON r.id = reference"
	            " WHERE referrer = (SELECT id FROM ValidPaths WHERE path = ?)",
	            info->path, err) < 0)
		return -1;
	return append_paths(database, stmt, &info->references, &info->n_references, err);
}

static int split_sigs(struct path_info *info, const char *sigs, struct error *err)
{
	while (sigs != NULL && *(sigs += strspn(sigs, " ")) != '\0') {
		size_t n = strcspn(sigs, " ");
		char *sig = strndup(sigs, n);

		if (sig == NULL || texts_append(&info->sigs, &info->n_sigs, sig) < 0)
			return no_memory(err);
		sigs += n;
	}
	return 0;
}

static int read_row(struct database *database, sqlite3_stmt *stmt, struct path_info *info, struct error *err)
{
	const char *hash = (const char *)sqlite3_column_text(stmt, 1);

	if (hash == NULL || !hash_parse_sha256(hash, info->nar_hash))
		return error_set(err, ERROR_TRANSIENT, "its NAR hash makes no sense");
	info->registered_unix_s = sqlite3_column_int64(stmt, 2);
	info->nar_size = (uint64_t)sqlite3_column_int64(stmt, 4);
	info->ultimate = sqlite3_column_int(stmt, 5) != 0;
	if (copy_column(stmt, 0, &info->path, err) < 0 || copy_column(stmt, 3, &info->deriver, err) < 0 ||
	    split_sigs(info, (const char *)sqlite3_column_text(stmt, 6), err) < 0 ||
	    copy_column(stmt, 7, &info->ca, err) < 0)
		return -1;
	if (info->deriver != NULL && store_path_check(info->deriver, database->store_dir, err) < 0)
		return -1;
	return read_references(database, info, err);
}

int database_query_path_info(struct database *database, const char *path, struct path_info *ret,
                             struct error *err)
{
	CLEANUP(finalize) sqlite3_stmt *stmt = NULL;
	struct path_info info = { 0 };
	int rc;

	if (prepare(database, &stmt,
	            "SELECT path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca"
	            " FROM ValidPaths WHERE path = ?",
	            path, err) < 0)
		return -1;
	rc = step(database, stmt, err);
	if (rc == 1)
		rc = read_row(database, stmt, &info, err);
	if (rc < 0) {
		path_info_fini(&info);
		/* Not wrong for good: nix-daemon may know better. */
		err->kind = ERROR_TRANSIENT;
		return error_prefix(err, "%s", path);
	}
	path_info_normalize(&info);
	*ret = info;
	return 0;
}

int database_query_outputs(struct database *database, const char *derivation, char ***ret, size_t *ret_n,
                           struct error *err)
{
	CLEANUP(finalize) sqlite3_stmt *stmt = NULL;
	char **list = NULL;
	size_t n = 0;

	if (prepare(database, &stmt,
	            "SELECT v.path FROM DerivationOutputs o JOIN ValidPaths v ON v.path = o.path"
	            " WHERE o.drv = (SELECT id FROM ValidPaths WHERE path = ?)",
	            derivation, err) < 0)
		return -1;
	if (append_paths(database, stmt, &list, &n, err) < 0) {
		texts_free(list, n);
		err->kind = ERROR_TRANSIENT;
		return error_prefix(err, "%s", derivation);
	}
	*ret = list;
	*ret_n = n;
	return 0;
}

static int append_built(struct database *database, sqlite3_stmt *stmt, char ***ret, size_t *ret_n,
                        int64_t *ret_last_id, struct error *err)
{
	int rc;

	while ((rc = step(database, stmt, err)) == 1) {
		char *path = NULL;

		if (copy_column(stmt, 1, &path, err) < 0 ||
		    store_path_check(path != NULL ? path : "", database->store_dir, err) < 0) {
			free(path);
			return -1;
		}
		if (texts_append(ret, ret_n, path) < 0)
			return no_memory(err);
		*ret_last_id = sqlite3_column_int64(stmt, 0);
	}
	return rc;
}

int database_query_built(struct database *database, int64_t since_unix_s, int64_t after_id, size_t n_max,
                         char ***ret, size_t *ret_n, int64_t *ret_last_id, struct error *err)
{
	CLEANUP(finalize) sqlite3_stmt *stmt = NULL;
	int64_t last_id = after_id;
	char **list = NULL;
	size_t n = 0;

	if (sqlite3_prepare_v2(database->db,
	                       "SELECT id, path FROM ValidPaths WHERE id > ? AND ultimate = 1"
	                       " AND registrationTime >= ? ORDER BY id LIMIT ?",
	                       -1, &stmt, NULL) != SQLITE_OK ||
	    sqlite3_bind_int64(stmt, 1, after_id) != SQLITE_OK ||
	    sqlite3_bind_int64(stmt, 2, since_unix_s) != SQLITE_OK ||
	    sqlite3_bind_int64(stmt, 3, (sqlite3_int64)n_max) != SQLITE_OK)
		return fail(database, err);
	if (append_built(database, stmt, &list, &n, &last_id, err) < 0) {
		texts_free(list, n);
		err->kind = ERROR_TRANSIENT;
		return -1;
	}
	*ret = list;
	*ret_n = n;
	*ret_last_id = last_id;
	return 0;
}
