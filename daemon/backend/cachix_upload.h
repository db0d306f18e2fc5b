/* Inside the upload of one path to Cachix: what the upload and its parts share. Parts run only while the
 * state is CACHIX_SENDING; once the upload is given up, each ends with what it waits for.
 * Thread: loop. */
#ifndef DAEMON_BACKEND_CACHIX_UPLOAD_H
#define DAEMON_BACKEND_CACHIX_UPLOAD_H

#include <jansson.h>

#include "daemon/backend/cachix.h"
#include "daemon/loop/work.h"

#define CACHIX_PARTS_AT_ONCE 4
#define CACHIX_MD5_BYTES     16
#define CACHIX_JSON_HEADER   "Content-Type: application/json;charset=utf-8"

enum cachix_upload_state {
	CACHIX_STARTING,
	CACHIX_SENDING,
	CACHIX_COMPLETING,
	CACHIX_GIVING_UP,
	CACHIX_ABORTING,
};
enum cachix_part_state { PART_FREE, PART_HASHING, PART_ASKING, PART_PUTTING };

struct cachix_part {
	struct cachix_upload *upload;
	enum cachix_part_state state;
	unsigned number; /* from 1 */
	unsigned n_tries;
	uint64_t offset, len;

	struct work work;
	struct error work_err;
	char md5[4 * ((CACHIX_MD5_BYTES + 2) / 3) + 1]; /* base64 */

	char *url;
	struct buf text; /* of the question, later a header */
	struct http_request req;
	struct http_source source;
	const char *headers[2];
};

struct cachix_upload {
	struct op_call head;
	struct cachix *cachix;
	struct backend_op *op;
	const struct backend_object *object;
	struct body *body;
	struct body_watch watch;
	enum cachix_upload_state state;
	bool is_canceled;
	struct error err; /* why it is given up */
	bool is_server_fault;

	char *nar_id, *upload_id; /* as the API gave them, the second escaped for a query */
	char *url;
	struct buf text;
	struct http_request req;
	const char *headers[1];

	uint64_t part_bytes, next_offset, done_bytes;
	struct cachix_part parts[CACHIX_PARTS_AT_ONCE];
	unsigned n_busy, n_parts;
	json_t *etags; /* array of {"partNumber", "eTag"}, in the order of numbers */
};

/* Each of these that returns nothing can have ended U, and freed it. */

/* Of "…/multipart-nar/NAR-ID" WHAT "?uploadId=…" and MORE. For the caller to free; NULL: no memory. */
char *cachix_upload_url(const struct cachix_upload *u, const char *what, const char *more);
/* What REQ was answered is of no use. */
void cachix_answer_fault(const struct http_request *req, const char *why, struct error *err);
/* Ends what runs, then aborts; nothing if that was begun. U's own request does not run. */
void cachix_give_up(struct cachix_upload *u, const struct error *err, bool is_server_fault);
/* Aborts once no part is busy. U is given up. */
void cachix_maybe_abort(struct cachix_upload *u);
/* All parts are there. */
void cachix_complete(struct cachix_upload *u);

/* cachix_parts.c: starts what parts there are, as long as there are places; completes when all are there. */
void cachix_fill(struct cachix_upload *u);

#endif
