/* What is looked at before a file is believed. Whether it is ours is told by its application id; with a
 * wrong one, by our tables: a header can be damaged too, but another program's file is not ours to move.
 * Objects are compared by name, against a schema made in memory: how SQLite writes a definition down has
 * changed with its versions. */
#include <stdio.h>

#include "daemon/db/internal.h"

static int get_number(struct db *db, const char *sql, int64_t *ret, struct error *err)
{
	sqlite3_stmt *handle = NULL;
	int rc = sqlite3_prepare_v2(db->handle, sql, -1, &handle, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(handle);
	if (rc == SQLITE_ROW)
		*ret = sqlite3_column_int64(handle, 0);
	sqlite3_finalize(handle);
	return rc == SQLITE_ROW ? 0 : db_fail(db, rc, err);
}

static int find_object(struct db *db, const char *name, bool *ret, struct error *err)
{
	STMT(st, db, "SELECT 1 FROM sqlite_schema WHERE name = :name");
	enum stmt_result result;

	stmt_bind_text(st, ":name", name);
	result = stmt_step(st, err);
	if (result == STMT_FAILED)
		return -1;
	*ret = result == STMT_ROW;
	return 0;
}

/* Puts a table or index of EXPECTED that DB lacks in MISSING, or "". */
static int compare_objects(struct db *db, sqlite3 *expected, char *missing, size_t size, struct error *err)
{
	sqlite3_stmt *names = NULL;
	int rc = sqlite3_prepare_v2(expected, "SELECT name FROM sqlite_schema", -1, &names, NULL);
	bool is_there = true;

	while (rc == SQLITE_OK && is_there && sqlite3_step(names) == SQLITE_ROW) {
		const char *name = (const char *)sqlite3_column_text(names, 0);

		if (name == NULL || find_object(db, name, &is_there, err) < 0)
			rc = SQLITE_ERROR;
		else if (!is_there)
			snprintf(missing, size, "%s", name);
	}
	sqlite3_finalize(names);
	return rc == SQLITE_OK ? 0 : -1;
}

static int find_missing(struct db *db, const struct db_config *config, int64_t version, char *missing,
                        size_t size, struct error *err)
{
	sqlite3 *expected = NULL;
	int rc = sqlite3_open_v2(":memory:", &expected, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);

	for (int64_t i = 0; rc == SQLITE_OK && i < version; i++)
		rc = sqlite3_exec(expected, config->migrations[i], NULL, NULL, NULL);
	*missing = '\0';
	error_set(err, ERROR_TRANSIENT, "%s: its schema cannot be compared: %s", db->path,
	          sqlite3_errstr(rc));
	if (rc == SQLITE_OK)
		rc = compare_objects(db, expected, missing, size, err);
	sqlite3_close(expected);
	return rc == SQLITE_OK ? 0 : -1;
}

static int damaged(struct db *db, const char *what, struct error *err)
{
	db_mark_damaged(db);
	return error_set(err, ERROR_OPERATOR, "%s is damaged: %s", db->path, what);
}

int db_check(struct db *db, const struct db_config *config, int64_t *ret_version, struct error *err)
{
	int64_t id, version, n_objects;
	char missing[128] = "", what[160];
	bool is_id_ours;

	if (get_number(db, "PRAGMA application_id", &id, err) < 0 ||
	    get_number(db, "PRAGMA user_version", &version, err) < 0 ||
	    get_number(db, "SELECT count(*) FROM sqlite_schema", &n_objects, err) < 0)
		return -1;
	is_id_ours = (uint32_t)id == config->application_id;
	if (n_objects == 0 && version == 0 && (id == 0 || is_id_ours)) {
		*ret_version = 0;
		return 0;
	}
	if (is_id_ours && version > (int64_t)config->n_migrations)
		return error_set(err, ERROR_OPERATOR,
		                 "%s was written by a newer version (schema %lld, this one knows %zu)",
		                 db->path, (long long)version, config->n_migrations);
	if (version > 0 && version <= (int64_t)config->n_migrations) {
		if (find_missing(db, config, version, missing, sizeof(missing), err) < 0)
			return -1;
	} else {
		snprintf(missing, sizeof(missing), "schema");
	}
	if (!is_id_ours && *missing != '\0')
		return error_set(err, ERROR_OPERATOR, "%s is a database of another program", db->path);
	if (!is_id_ours)
		return damaged(db, "its application id is not ours, its tables are", err);
	if (*missing != '\0') {
		snprintf(what, sizeof(what), "it has no %s", missing);
		return damaged(db, what, err);
	}
	*ret_version = version;
	return 0;
}
