/* A body to a bucket in parts of equal size, a few at a time, from when the first of them is there. Each
 * request is tried again by itself when its fault may pass. The object appears with the last request, which
 * is sent once the body has ended (I7).
 * What was sent lies in the bucket, and costs, until that or until it is aborted: so its name is told to the
 * owner before the first part, and whatever ends the upload but a cancel aborts it.
 * Thread: loop. */
#ifndef DAEMON_BACKEND_S3_PARTS_H
#define DAEMON_BACKEND_S3_PARTS_H

#include "daemon/backend/s3_request.h"
#include "daemon/body/body.h"
#include "daemon/loop/timer.h"

#define S3_PARTS_AT_ONCE    4
#define S3_PARTS_MAX        10000
#define S3_UPLOAD_ID_MAX    1024
#define S3_PART_MIN_BYTES   MIB(16)
#define S3_PART_LIMIT_BYTES GIB(5)

/* Room for the longest query. It must not fail for want of memory: without it an abort would remove the
 * object. */
#define S3_QUERY_SIZE (S3_UPLOAD_ID_MAX * 3 + 64)

/* The size of the parts of a body of at most BOUND_BYTES. */
uint64_t s3_part_bytes(uint64_t bound_bytes);

struct s3_parts;
typedef void (*s3_parts_fn)(struct s3_parts *parts);
typedef void (*s3_note_fn)(struct s3_parts *parts, const char *upload_id);

enum s3_parts_state {
	S3_PARTS_CREATING,
	S3_PARTS_NOTING,
	S3_PARTS_SENDING,
	S3_PARTS_COMPLETING,
	S3_PARTS_LOOKING,
	S3_PARTS_GIVING_UP, /* requests end */
	S3_PARTS_ABORTING,
	S3_PARTS_CLOSING,
};

struct s3_part {
	struct s3_parts *parts;
	struct s3_request req;
	unsigned number; /* 0: the place is free */
	unsigned n_tries;
	bool is_running, is_resting;
	uint64_t offset, len;
	char query[S3_QUERY_SIZE];
};

struct s3_parts { /* the owner's until done; zero it before start */
	/* set before start, borrowed until done */
	struct s3_bucket *bucket;
	struct body *body;
	const char *key;
	const char *content_type; /* header line */
	uint64_t part_bytes;
	s3_note_fn note; /* once; answer with s3_parts_noted, then or later */
	s3_parts_fn done;
	void *owner;
	uint64_t *sent_bytes; /* kept up to date: the bytes of the body sent so far */

	/* what came of it */
	struct error err;
	bool is_server_fault;
	bool found;         /* the object was there, and was left alone */
	uint64_t file_size; /* of one found; 0 unknown */

	/* its own */
	enum s3_parts_state state;
	bool is_canceled;
	char upload_id[S3_UPLOAD_ID_MAX];
	struct s3_request req; /* all but parts */
	unsigned n_tries;
	bool is_running, is_resting;
	char query[S3_QUERY_SIZE];
	struct buf text;
	struct s3_part places[S3_PARTS_AT_ONCE];
	char **etags; /* of the parts sent, by number - 1 */
	unsigned n_parts, n_places_busy;
	uint64_t next_offset, done_bytes;
	struct body_watch watch;
	struct timer timer;
};

void s3_parts_start(struct s3_parts *parts);
/* The upload id is written down, or ERR says why it could not be; then the upload is given up. */
void s3_parts_noted(struct s3_parts *parts, const struct error *err);
/* Tears off what runs; done fires later, CANCELED. What is in the bucket stays there. */
void s3_parts_cancel(struct s3_parts *parts);

#endif
