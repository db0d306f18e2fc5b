#include "daemon/queue/schema.h"

#include <assert.h>

#include "common/attr.h"
#include "daemon/queue/queue.h"

/* States and results are in the file as numbers, and in the partial indexes: they never change. */
static_assert(JOB_READY == 0 && JOB_DELAYED == 1 && JOB_SENT == 2 && JOB_BLOCKED == 3 && JOB_FAILED == 4 &&
                      JOB_DONE == 5,
              "schema");
static_assert(ROOT_RESOLVING == 0 && ROOT_QUEUED == 1 && ROOT_FAILED == 2 && ROOT_WITHHELD == 3 &&
                      ROOT_DONE == 4,
              "schema");
static_assert(JOB_UPLOADED == 0 && JOB_PRESENT == 1 && JOB_IN_UPSTREAM == 2 && JOB_WITHHELD == 3, "schema");
static_assert(ERROR_NONE == 0 && ERROR_TRANSIENT == 1 && ERROR_PERMANENT == 2 && ERROR_OPERATOR == 3,
              "schema");

static const char version_1[] =
	"CREATE TABLE cache ("
	" id INTEGER PRIMARY KEY,"
	" identity TEXT NOT NULL UNIQUE,"
	" name TEXT NOT NULL,"
	" kind TEXT NOT NULL,"
	" is_configured INTEGER NOT NULL," /* as a cache; an upstream alone is not */
	" paused_until INTEGER NOT NULL DEFAULT 0,"
	" paused_since INTEGER NOT NULL DEFAULT 0"
	") STRICT;"

	"CREATE TABLE request ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT," /* numbers are told to people: never twice */
	" made INTEGER NOT NULL,"
	" uid INTEGER NOT NULL,"
	" tag TEXT,"
	" derivation TEXT,"
	" caches TEXT," /* \",1,4,\": ids of those meant; NULL: all */
	" force INTEGER NOT NULL"
	") STRICT;"
	"CREATE INDEX request_tag ON request (tag) WHERE tag IS NOT NULL;"

	"CREATE TABLE root ("
	" id INTEGER PRIMARY KEY,"
	" request INTEGER NOT NULL,"
	" path TEXT NOT NULL,"
	" state INTEGER NOT NULL DEFAULT 0,"
	" rank INTEGER NOT NULL,"
	" is_derivation INTEGER NOT NULL,"
	" attempts INTEGER NOT NULL DEFAULT 0,"
	" not_before INTEGER NOT NULL DEFAULT 0," /* -1: until one of its caches is configured */
	" error TEXT,"
	" error_kind INTEGER NOT NULL DEFAULT 0,"
	" again INTEGER NOT NULL DEFAULT 0," /* bits: requests.c */
	" nar_size INTEGER NOT NULL DEFAULT 0,"
	" enqueued INTEGER NOT NULL,"
	" changed INTEGER NOT NULL,"
	" unprotected INTEGER NOT NULL DEFAULT 0" /* since when it has no GC root */
	") STRICT;"
	"CREATE INDEX root_next ON root (rank) WHERE state = 0 AND not_before = 0;"
	"CREATE INDEX root_due ON root (not_before) WHERE state = 0 AND not_before > 0;"
	"CREATE INDEX root_path ON root (path, state);"
	"CREATE INDEX root_request ON root (request);"
	"CREATE INDEX root_state ON root (state);"
	"CREATE INDEX root_oldest ON root (enqueued) WHERE state < 3;"
	"CREATE INDEX root_ended ON root (changed) WHERE state >= 3;"
	/* The last columns are there for the planner alone: it is asked from the index without a look at
           rows. */
	"CREATE INDEX root_pinned ON root (enqueued - rank, enqueued, nar_size, state, unprotected)"
	" WHERE state < 3 AND unprotected = 0;"
	"CREATE INDEX root_unprotected ON root (unprotected) WHERE state < 3 AND unprotected > 0;"

	"CREATE TABLE path ("
	" id INTEGER PRIMARY KEY,"
	" path TEXT NOT NULL UNIQUE,"
	" nar_hash BLOB," /* NULL: only referred to, never seen itself */
	" nar_size INTEGER NOT NULL DEFAULT 0,"
	" deriver TEXT,"
	" sigs TEXT," /* one a line */
	" ca TEXT,"
	" registered INTEGER NOT NULL DEFAULT 0,"
	" ultimate INTEGER NOT NULL DEFAULT 0,"
	" refers_to_itself INTEGER NOT NULL DEFAULT 0"
	") STRICT;"
	"CREATE TABLE reference ("
	" path INTEGER NOT NULL,"
	" refers_to INTEGER NOT NULL,"
	" PRIMARY KEY (path, refers_to)"
	") STRICT, WITHOUT ROWID;"
	"CREATE INDEX reference_back ON reference (refers_to, path);"

	"CREATE TABLE job ("
	" id INTEGER PRIMARY KEY,"
	" path INTEGER NOT NULL,"
	" cache INTEGER NOT NULL,"
	" root INTEGER NOT NULL," /* the last one that wanted it */
	" state INTEGER NOT NULL DEFAULT 0,"
	" result INTEGER NOT NULL DEFAULT 0,"
	" rank INTEGER NOT NULL,"
	" layer INTEGER NOT NULL," /* -1: may only be found, so it waits for nothing */
	" nar_size INTEGER NOT NULL,"
	" not_before INTEGER NOT NULL DEFAULT 0,"
	" attempts INTEGER NOT NULL DEFAULT 0,"
	" mismatches INTEGER NOT NULL DEFAULT 0,"
	" error TEXT,"
	" error_kind INTEGER NOT NULL DEFAULT 0,"
	" blocked_by INTEGER NOT NULL DEFAULT 0," /* a path; -1: the cache is not configured */
	" may_only_be_found INTEGER NOT NULL,"
	" force INTEGER NOT NULL,"
	" is_root INTEGER NOT NULL,"
	" nar_sent INTEGER NOT NULL DEFAULT 0," /* when its NAR came to be on the cache; 0: it is not */
	" upload_id TEXT,"                      /* what an unfinished put left on the cache */
	" file_hash BLOB,"
	" file_size INTEGER NOT NULL DEFAULT 0,"
	" enqueued INTEGER NOT NULL,"
	" changed INTEGER NOT NULL,"
	" UNIQUE (path, cache)"
	") STRICT;"
	"CREATE INDEX job_next ON job (cache, rank, layer, nar_size DESC) WHERE state = 0;"
	"CREATE INDEX job_due ON job (cache, not_before) WHERE state = 1;"
	"CREATE INDEX job_state ON job (state, cache);"
	"CREATE INDEX job_root ON job (root) WHERE state < 5;"
	"CREATE INDEX job_blocked ON job (cache, blocked_by) WHERE state = 3;"
	"CREATE INDEX job_ended ON job (changed) WHERE state = 5;"

	"CREATE TABLE presence ("
	" path INTEGER NOT NULL,"
	" cache INTEGER NOT NULL,"
	" seen INTEGER NOT NULL,"
	" PRIMARY KEY (path, cache)"
	") STRICT, WITHOUT ROWID;"

	"CREATE TABLE usage ("
	" cache INTEGER NOT NULL,"
	" day INTEGER NOT NULL," /* since 1970-01-01, UTC */
	" uploaded INTEGER NOT NULL DEFAULT 0,"
	" uploaded_bytes INTEGER NOT NULL DEFAULT 0,"
	" present INTEGER NOT NULL DEFAULT 0,"
	" in_upstream INTEGER NOT NULL DEFAULT 0,"
	" withheld INTEGER NOT NULL DEFAULT 0,"
	" failed INTEGER NOT NULL DEFAULT 0,"
	" PRIMARY KEY (cache, day)"
	") STRICT, WITHOUT ROWID;"

	/* Work of many rows, done a page at a time: what is left of it outlives a crash. */
	"CREATE TABLE chore ("
	" id INTEGER PRIMARY KEY,"
	" kind INTEGER NOT NULL,"
	" path INTEGER NOT NULL,"
	" cache INTEGER NOT NULL,"
	" after INTEGER NOT NULL,"
	" made INTEGER NOT NULL,"
	" UNIQUE (kind, path, cache)"
	") STRICT;";

/* Its ids never come again: who passes over one does not pass over another. */
static const char version_2[] = "CREATE TABLE leftover ("
				" id INTEGER PRIMARY KEY AUTOINCREMENT,"
				" cache INTEGER NOT NULL,"
				" note TEXT NOT NULL," /* the upload_id of a job that is gone */
				" made INTEGER NOT NULL"
				") STRICT;"
				"CREATE INDEX leftover_next ON leftover (cache, id);";

const char *const schema_migrations[] = { version_1, version_2 };
const size_t schema_n_migrations = N_ELEMENTS(schema_migrations);
