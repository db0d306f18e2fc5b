#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "daemon/queue/internal.h"

int path_find(struct queue_db *q, const char *path, int64_t *ret_id, struct error *err)
{
	STMT(st, q->db, "SELECT id FROM path WHERE path = :path");
	enum stmt_result result;

	stmt_bind_text(st, ":path", path);
	result = stmt_step(st, err);
	if (result == STMT_FAILED)
		return -1;
	if (result == STMT_DONE)
		return 0;
	*ret_id = stmt_int(st, 0);
	return 1;
}

int path_intern(struct queue_db *q, const char *path, int64_t *ret_id, struct error *err)
{
	STMT(st, q->db, "INSERT INTO path (path) VALUES (:path)");
	int rc = path_find(q, path, ret_id, err);

	if (rc != 0)
		return rc < 0 ? -1 : 0;
	stmt_bind_text(st, ":path", path);
	if (stmt_run(st, err) < 0)
		return -1;
	*ret_id = db_last_id(q->db);
	return 0;
}

static int join_lines(struct buf *buf, char *const *lines, size_t n, struct error *err)
{
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			buf_putc(buf, '\n');
		buf_puts(buf, lines[i]);
	}
	return buf_ok(buf) ? 0 : error_set(err, ERROR_TRANSIENT, "too many signatures, or out of memory");
}

static int put_row(struct queue_db *q, int64_t id, const struct path_info *info, bool refers_to_itself,
                   struct error *err)
{
	STMT(st, q->db,
	     "UPDATE path SET nar_hash = :hash, nar_size = :size, deriver = :deriver, sigs = :sigs, ca = :ca,"
	     " registered = :registered, ultimate = :ultimate, refers_to_itself = :self WHERE id = :id"
	     " AND (nar_hash IS NOT :hash OR nar_size IS NOT :size OR deriver IS NOT :deriver"
	     " OR sigs IS NOT :sigs OR ca IS NOT :ca OR registered IS NOT :registered"
	     " OR ultimate IS NOT :ultimate OR refers_to_itself IS NOT :self)");
	CLEANUP(buf_fini) struct buf sigs;

	buf_init(&sigs, MIB(1));
	if (join_lines(&sigs, info->sigs, info->n_sigs, err) < 0)
		return -1;
	stmt_bind_int(st, ":id", id);
	stmt_bind_blob(st, ":hash", info->nar_hash, SHA256_BYTES);
	stmt_bind_int(st, ":size", (int64_t)info->nar_size);
	stmt_bind_text(st, ":deriver", info->deriver);
	stmt_bind_text(st, ":sigs", info->n_sigs > 0 ? buf_text(&sigs) : NULL);
	stmt_bind_text(st, ":ca", info->ca);
	stmt_bind_int(st, ":registered", info->registered_unix_s);
	stmt_bind_int(st, ":ultimate", info->ultimate);
	stmt_bind_int(st, ":self", refers_to_itself);
	return stmt_run(st, err);
}

static int put_references(struct queue_db *q, int64_t id, const struct path_info *info, struct error *err)
{
	STMT(drop, q->db, "DELETE FROM reference WHERE path = :path");
	STMT(put, q->db, "INSERT OR IGNORE INTO reference (path, refers_to) VALUES (:path, :to)");

	stmt_bind_int(drop, ":path", id);
	if (stmt_run(drop, err) < 0)
		return -1;
	for (size_t i = 0; i < info->n_references; i++) {
		int64_t to;

		if (path_intern(q, info->references[i], &to, err) < 0)
			return -1;
		if (to == id)
			continue;
		stmt_rewind(put);
		stmt_bind_int(put, ":path", id);
		stmt_bind_int(put, ":to", to);
		if (stmt_run(put, err) < 0)
			return -1;
	}
	return 0;
}

/* Returns 1 if there is info at all, and whether its NAR hash is HASH. */
static int get_hash(struct queue_db *q, int64_t id, const uint8_t hash[SHA256_BYTES], bool *ret_same,
                    struct error *err)
{
	STMT(st, q->db, "SELECT nar_hash FROM path WHERE id = :id");
	enum stmt_result result;
	const void *blob;
	size_t len;

	stmt_bind_int(st, ":id", id);
	result = stmt_step(st, err);
	if (result == STMT_FAILED)
		return -1;
	if (result == STMT_DONE)
		return 0;
	blob = stmt_blob(st, 0, &len);
	*ret_same = len == SHA256_BYTES && memcmp(blob, hash, SHA256_BYTES) == 0;
	return blob != NULL;
}

bool path_has_hash(struct queue_db *q, int64_t id, const uint8_t hash[SHA256_BYTES])
{
	struct error ignored; /* what fails here fails again in the next statement */
	bool same = false;

	return get_hash(q, id, hash, &same, &ignored) != 1 || same;
}

int path_put(struct queue_db *q, const struct path_info *info, int64_t *ret_id, bool *ret_replaced,
             struct error *err)
{
	bool refers_to_itself = false, same = false;
	int64_t id;
	int known;

	for (size_t i = 0; i < info->n_references; i++)
		refers_to_itself |= strcmp(info->references[i], info->path) == 0;
	if (path_intern(q, info->path, &id, err) < 0)
		return -1;
	known = get_hash(q, id, info->nar_hash, &same, err);
	if (known < 0 || put_row(q, id, info, refers_to_itself, err) < 0)
		return -1;
	if ((known == 0 || !same) && put_references(q, id, info, err) < 0)
		return -1;
	*ret_id = id;
	*ret_replaced = known == 1 && !same;
	return 0;
}

static int split_lines(const char *text, char ***ret, size_t *ret_n, struct error *err)
{
	size_t n = 1, i = 0;
	char **lines;

	for (const char *c = text; *c != '\0'; c++)
		n += *c == '\n';
	lines = calloc(n, sizeof(*lines));
	if (lines == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	*ret = lines;
	for (; i < n; i++) {
		size_t len = strcspn(text, "\n");

		lines[i] = strndup(text, len);
		if (lines[i] == NULL)
			return error_set(err, ERROR_TRANSIENT, "out of memory");
		*ret_n = i + 1;
		text += len + 1;
	}
	return 0;
}

/* RET is zeroed; the caller frees it also after a failure. */
int path_read(struct stmt *st, int first, struct path_info *ret, struct error *err)
{
	const void *hash;
	const char *sigs;
	size_t len;

	if (stmt_text_copy(st, first, &ret->path, err) < 0 ||
	    stmt_text_copy(st, first + 3, &ret->deriver, err) < 0 ||
	    stmt_text_copy(st, first + 5, &ret->ca, err) < 0)
		return -1;
	hash = stmt_blob(st, first + 1, &len);
	if (len == SHA256_BYTES)
		memcpy(ret->nar_hash, hash, SHA256_BYTES);
	ret->nar_size = (uint64_t)stmt_int(st, first + 2);
	sigs = stmt_text(st, first + 4);
	if (sigs != NULL && split_lines(sigs, &ret->sigs, &ret->n_sigs, err) < 0)
		return -1;
	ret->registered_unix_s = stmt_int(st, first + 6);
	ret->ultimate = stmt_int(st, first + 7) != 0;
	return 0;
}

static int refers_to_itself(struct queue_db *q, int64_t id, struct error *err)
{
	STMT(st, q->db, "SELECT refers_to_itself FROM path WHERE id = :id");
	enum stmt_result result;

	stmt_bind_int(st, ":id", id);
	result = stmt_step(st, err);
	if (result == STMT_FAILED)
		return -1;
	return result == STMT_ROW && stmt_int(st, 0) != 0;
}

int path_read_references(struct queue_db *q, int64_t id, struct path_info *info, struct error *err)
{
	STMT(st, q->db,
	     "SELECT p.path FROM reference r JOIN path p ON p.id = r.refers_to WHERE r.path = :path"
	     " ORDER BY p.path");
	struct path_list list = { 0 };
	enum stmt_result result;
	int rc = refers_to_itself(q, id, err);

	if (rc > 0)
		rc = path_list_add(&list, info->path, err);
	stmt_bind_int(st, ":path", id);
	while (rc == 0) {
		result = stmt_step(st, err);
		if (result == STMT_DONE)
			break;
		rc = result == STMT_ROW ? path_list_add(&list, stmt_text(st, 0), err) : -1;
	}
	info->references = list.items;
	info->n_references = list.n;
	if (rc < 0)
		return -1;
	path_info_normalize(info);
	return 0;
}

int path_reset_jobs(struct queue_db *q, int64_t id, int64_t now, struct error *err)
{
	STMT(find, q->db, "SELECT " JOB_COLUMNS " FROM job j WHERE j.path = :path AND j.state < 5");
	STMT(size, q->db,
	     "UPDATE job SET nar_sent = 0, file_hash = NULL, file_size = 0,"
	     " nar_size = (SELECT nar_size FROM path WHERE id = :path) WHERE path = :path AND state < 5");
	STMT(absent, q->db, "DELETE FROM presence WHERE path = :path");
	struct job jobs[ENDPOINTS_MAX];
	enum stmt_result result;
	size_t n = 0;

	stmt_bind_int(absent, ":path", id);
	stmt_bind_int(size, ":path", id);
	stmt_bind_int(find, ":path", id);
	if (stmt_run(absent, err) < 0 || stmt_run(size, err) < 0)
		return -1;
	while (n < N_ELEMENTS(jobs) && (result = stmt_step(find, err)) != STMT_DONE) {
		if (result == STMT_FAILED)
			return -1;
		job_read(find, 0, &jobs[n++]);
	}
	for (size_t i = 0; i < n; i++) {
		if (cache_is_configured(q, jobs[i].cache) &&
		    job_make_ready(q, &jobs[i], jobs[i].root, now, err) < 0)
			return -1;
	}
	return 0;
}
