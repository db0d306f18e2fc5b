/* JSON that comes from servers and goes to them, by jansson. Where memory fails within a text, jansson leaves
 * bytes of it out and goes on; reading, it may then run past the end. So it never learns of that when it
 * reads, and what it writes goes to a buffer that knows. Thread: any; a document, one at a time. */
#ifndef DAEMON_BACKEND_JSON_TEXT_H
#define DAEMON_BACKEND_JSON_TEXT_H

#include <jansson.h>

#include "common/attr.h"
#include "common/buf.h"
#include "common/error.h"

struct json_chunk;

struct json_doc {
	const json_t *root; /* NULL: it is no JSON. Goes with the document: nobody takes a reference */
	struct json_chunk *chunks;
};

/* DOC is zeroed before. Errors: ERROR_TRANSIENT, no memory; root is NULL. */
int json_doc_read(struct json_doc *doc, const struct buf *text, struct error *err) MUST_CHECK;
void json_doc_fini(struct json_doc *doc);

/* Appends VALUE to TEXT, without blanks; FLAGS are jansson's. A VALUE of NULL is one that could not be made.
 * Errors: ERROR_TRANSIENT, no memory, or TEXT has no room for it. */
int json_text_write(struct buf *text, const json_t *value, size_t flags, struct error *err) MUST_CHECK;

#endif
