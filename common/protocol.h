/* The requests of the socket and of spool files, and the last line of an answer (docs/protocol.md).
 * Limits: REQUEST_MAX_BYTES, REQUEST_MAX_PATHS, REQUEST_MAX_CACHES; a path has at most
 * STORE_PATH_SIZE - 1 bytes, any other value REQUEST_MAX_VALUE. That a path is a store path is judged
 * by request_check_paths alone: only the daemon knows the store directory.
 * Errors: PERMANENT, with the line's number and what is wrong with it. Thread: any. */
#ifndef COMMON_PROTOCOL_H
#define COMMON_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/buf.h"
#include "common/error.h"
#include "common/record.h"

#define REQUEST_MAX_BYTES  262144
#define REQUEST_MAX_PATHS  4096
#define REQUEST_MAX_CACHES 64
#define REQUEST_MAX_VALUE  255
#define REQUEST_MAX_LIMIT  1000

enum verb {
	VERB_ENQUEUE,
	VERB_PUSH,
	VERB_STATUS,
	VERB_LIST,
	VERB_SHOW,
	VERB_WAIT,
	VERB_RETRY,
	VERB_FORGET,
	VERB_PAUSE,
	VERB_RESUME,
	VERB_CONFIG,
	VERB_VERIFY,
	VERB_CATCH_UP,
};

const char *verb_name(enum verb verb);

/* What is not given is NULL, false or 0. */
struct request {
	enum verb verb;
	const char **paths;
	size_t n_paths;
	const char *caches[REQUEST_MAX_CACHES];
	size_t n_caches;
	const char *derivation, *tag, *state;
	bool force, failed, all, deep, repair;
	int64_t after, limit, until, since, request_id;
	void *memory; /* what request_parse made; everything above points into it */
};

/* Has a whole request arrived? The first N_CHECKED of the LEN bytes were here at an earlier call that
 * said no, so that a client sending single bytes costs no more than one that does not. */
bool request_is_complete(const char *data, size_t len, size_t n_checked);

/* Reads the request that is all of DATA. Keys that the verb does not take or that it misses are errors.
 * Owns: RET, for request_fini; DATA is not needed afterwards. RET is untouched on failure. */
int request_parse(struct request *ret, const char *data, size_t len, struct error *err) MUST_CHECK;
void request_fini(struct request *req); /* takes a zeroed one too */

/* Are the paths of REQ store paths in STORE_DIR, and its derivation one? Errors: PERMANENT. */
int request_check_paths(const struct request *req, const char *store_dir, struct error *err) MUST_CHECK;

/* Appends REQ as request_parse reads it. Errors: a value that cannot be sent (PERMANENT: too long, or
 * with a control character), or more than OUT takes; OUT is of no use then. */
int request_format(const struct request *req, struct buf *out, struct error *err) MUST_CHECK;

enum answer_kind {
	ANSWER_OK,
	ANSWER_USAGE,     /* not a request as docs/protocol.md has it */
	ANSWER_DENIED,    /* this user may not */
	ANSWER_REFUSED,   /* never: not in this store, not valid */
	ANSWER_BUSY,      /* too many connections */
	ANSWER_TRANSIENT, /* later, perhaps; also every kind that a newer daemon knows and we do not */
	ANSWER_TOO_LARGE,
	ANSWER_TIMEOUT, /* the request did not arrive in time */
	ANSWER_UNKNOWN, /* there is no such path, cache or request */
};

const char *answer_kind_name(enum answer_kind kind);

struct answer {
	enum answer_kind kind;
	const char *text;     /* of an error; points into the line */
	struct record fields; /* of an ok; points into the line */
};

/* Is LINE the last line of an answer? */
bool answer_is_last(const char *line);
/* Takes LINE, a last line without its LF, apart in place. */
int answer_parse(struct answer *ret, char *line, struct error *err) MUST_CHECK;
/* Appends the last line of an answer that is no ok (an ok is a record of that name). Control
 * characters of TEXT become blanks. */
void answer_format_error(struct buf *out, enum answer_kind kind, const char *text);

#endif
