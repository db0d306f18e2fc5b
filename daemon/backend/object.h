/* The three sorts of objects of a cache that is reached by HTTP, in a bucket or not: what they are sent as,
 * how one asks for them, and how one knows one when one sees it. Thread: any. */
#ifndef DAEMON_BACKEND_OBJECT_H
#define DAEMON_BACKEND_OBJECT_H

#include "common/buf.h"
#include "daemon/http/http.h"

struct object_type {
	const char *content_type; /* header line */
	enum http_method look;
	size_t max_bytes; /* of an answer */
	/* Is ANSWER, got from WHERE ("GET URL"), the object of SUBJECT? OPERATOR if not. */
	int (*check)(const char *where, const struct buf *answer, const char *subject, struct error *err);
};

extern const struct object_type object_nar;        /* no subject: it is only asked whether it is there */
extern const struct object_type object_info;       /* of the store path that is the subject */
extern const struct object_type object_cache_info; /* of the store directory that is the subject */

#endif
