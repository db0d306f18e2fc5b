/* A damaged database is set aside, never deleted. Whoever meets damage marks the file: by an empty
 * PATH.damaged beside it, since what met it may lie in a page that the next start does not read. At the
 * next db_open the marked file, its -wal and its -shm become PATH.damaged-YYYYMMDDTHHMMSSZ (-wal, -shm).
 * Limits: paths of at most ASIDE_PATH_SIZE bytes.
 * Thread: any (they block). */
#ifndef DAEMON_DB_ASIDE_H
#define DAEMON_DB_ASIDE_H

#include <stdbool.h>

#include "common/attr.h"
#include "common/error.h"

enum { ASIDE_PATH_SIZE = 4096 };

/* The mark and its time are on disk when this returns; one that is there keeps its time. Errors: TRANSIENT.
 */
int aside_mark(const char *path, struct error *err) MUST_CHECK;
bool aside_is_marked(const char *path);

/* Renames a marked file and takes the mark away; what died half-way is brought to its end under the same
 * name. RET: where the file lies now, or "" if there was none any more.
 * The caller has PATH.lock. Errors: TRANSIENT (no mark could be made; nothing was renamed); OPERATOR (a name
 * cannot be changed); the mark stays then. */
int aside_move(const char *path, char ret[ASIDE_PATH_SIZE], struct error *err) MUST_CHECK;

/* The last file of PATH that was set aside and is still there. */
bool aside_find(const char *path, char ret[ASIDE_PATH_SIZE]);

#endif
