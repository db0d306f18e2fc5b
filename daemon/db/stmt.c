#include "daemon/db/stmt.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/db/internal.h"

/* What stmt_get returns when there is no memory for another. */
static struct stmt no_memory = { .rc = SQLITE_NOMEM };

static size_t place_of(const struct db *db, const char *text)
{
	size_t place = ((uintptr_t)text * 0x9E3779B97F4A7C15u) >> 32;

	while (db->stmts[place & (db->n_places - 1)] != NULL &&
	       db->stmts[place & (db->n_places - 1)]->text != text)
		place++;
	return place & (db->n_places - 1);
}

/* Keeps the table at most half full. */
static int grow(struct db *db)
{
	struct stmt **old = db->stmts;
	size_t n_old = db->n_places;

	if (db->n_stmts * 2 < n_old)
		return 0;
	db->n_places = n_old == 0 ? 64 : n_old * 2;
	db->stmts = calloc(db->n_places, sizeof(struct stmt *));
	if (db->stmts == NULL) {
		db->stmts = old;
		db->n_places = n_old;
		return -1;
	}
	for (size_t i = 0; i < n_old; i++) {
		if (old[i] != NULL)
			db->stmts[place_of(db, old[i]->text)] = old[i];
	}
	free(old);
	return 0;
}

static struct stmt *prepare(struct db *db, const char *text)
{
	struct stmt *st;

	if (grow(db) < 0)
		return &no_memory;
	st = calloc(1, sizeof(*st));
	if (st == NULL)
		return &no_memory;
	st->db = db;
	st->text = text;
	st->rc = sqlite3_prepare_v3(db->handle, text, -1, SQLITE_PREPARE_PERSISTENT, &st->handle, NULL);
	db->stmts[place_of(db, text)] = st;
	db->n_stmts++;
	return st;
}

struct stmt *stmt_get(struct db *db, const char *text)
{
	struct stmt *st = db->n_places > 0 ? db->stmts[place_of(db, text)] : NULL;

	if (st == NULL)
		st = prepare(db, text);
	else if (st->handle == NULL) /* it could not be prepared before: disk or memory may be back */
		st->rc = sqlite3_prepare_v3(db->handle, text, -1, SQLITE_PREPARE_PERSISTENT, &st->handle,
		                            NULL);
	assert(!st->in_use || st == &no_memory);
	st->in_use = true;
	return st;
}

void stmt_reset_ptr(struct stmt **stp)
{
	struct stmt *st = *stp;

	st->in_use = false;
	if (st->handle == NULL)
		return;
	sqlite3_reset(st->handle); /* its result repeats that of the last step */
	sqlite3_clear_bindings(st->handle);
	st->rc = SQLITE_OK;
}

void stmt_rewind(struct stmt *st)
{
	if (st->handle != NULL)
		sqlite3_reset(st->handle);
}

/* The number of NAME, or 0 after a failure. A name that the text does not have is a bug. */
static int parameter_of(struct stmt *st, const char *name)
{
	int i;

	if (st->rc != SQLITE_OK)
		return 0;
	i = sqlite3_bind_parameter_index(st->handle, name);
	assert(i > 0);
	return i;
}

void stmt_bind_int(struct stmt *st, const char *name, int64_t value)
{
	int i = parameter_of(st, name);

	if (i > 0)
		st->rc = sqlite3_bind_int64(st->handle, i, value);
}

void stmt_bind_text(struct stmt *st, const char *name, const char *value)
{
	int i = parameter_of(st, name);

	if (i > 0)
		st->rc = sqlite3_bind_text(st->handle, i, value, -1, SQLITE_STATIC);
}

void stmt_bind_blob(struct stmt *st, const char *name, const void *value, size_t n_bytes)
{
	int i = parameter_of(st, name);

	if (i > 0)
		st->rc = sqlite3_bind_blob64(st->handle, i, value, n_bytes, SQLITE_STATIC);
}

enum stmt_result stmt_step(struct stmt *st, struct error *err)
{
	int rc;

	if (st == &no_memory) {
		error_set(err, ERROR_TRANSIENT, "out of memory");
		return STMT_FAILED;
	}
	rc = st->rc == SQLITE_OK ? sqlite3_step(st->handle) : st->rc;
	if (rc == SQLITE_ROW)
		return STMT_ROW;
	if (rc == SQLITE_DONE)
		return STMT_DONE;
	db_fail(st->db, rc, err);
	return STMT_FAILED;
}

int stmt_run(struct stmt *st, struct error *err)
{
	enum stmt_result result = stmt_step(st, err);

	assert(result != STMT_ROW);
	return result == STMT_DONE ? 0 : -1;
}

bool stmt_is_null(struct stmt *st, int column)
{
	return sqlite3_column_type(st->handle, column) == SQLITE_NULL;
}

int64_t stmt_int(struct stmt *st, int column)
{
	return sqlite3_column_int64(st->handle, column);
}

const char *stmt_text(struct stmt *st, int column)
{
	return (const char *)sqlite3_column_text(st->handle, column);
}

const void *stmt_blob(struct stmt *st, int column, size_t *ret_len)
{
	const void *blob = sqlite3_column_blob(st->handle, column);

	*ret_len = blob == NULL ? 0 : (size_t)sqlite3_column_bytes(st->handle, column);
	return blob;
}

int stmt_text_copy(struct stmt *st, int column, char **ret, struct error *err)
{
	const char *text = stmt_text(st, column);
	char *copy = NULL;

	if (text == NULL && !stmt_is_null(st, column))
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	if (text != NULL) {
		copy = strdup(text);
		if (copy == NULL)
			return error_set(err, ERROR_TRANSIENT, "out of memory");
	}
	*ret = copy;
	return 0;
}
