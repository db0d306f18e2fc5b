#include "daemon/backend/json_text.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdalign.h>
#include <stdlib.h>

#include "common/attr.h"

#define CHUNK_BYTES KIB(16)

struct json_chunk {
	struct json_chunk *next;
	size_t n_free;
	alignas(max_align_t) char data[];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local struct json_doc *reading; /* all that jansson allocates is the document's */
static _Thread_local jmp_buf on_no_memory;

/* ---- memory ------------------------------------------------------------------------------------------ */

static struct json_chunk *chunk_add(struct json_doc *doc, size_t n_bytes)
{
	size_t size = n_bytes > CHUNK_BYTES ? n_bytes : CHUNK_BYTES;
	struct json_chunk *chunk = malloc(sizeof(*chunk) + size);

	if (chunk == NULL)
		longjmp(on_no_memory, 1);
	*chunk = (struct json_chunk){ .next = doc->chunks, .n_free = size };
	doc->chunks = chunk;
	return chunk;
}

/* From the end of the last chunk to its beginning. */
static void *allocate(size_t n_bytes)
{
	struct json_chunk *chunk;

	if (reading == NULL)
		return malloc(n_bytes);
	n_bytes = (n_bytes + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
	chunk = reading->chunks;
	if (chunk == NULL || chunk->n_free < n_bytes)
		chunk = chunk_add(reading, n_bytes);
	chunk->n_free -= n_bytes;
	return chunk->data + chunk->n_free;
}

static void release(void *memory)
{
	if (reading == NULL)
		free(memory);
}

static void take_memory_over(void)
{
	json_set_alloc_funcs(allocate, release);
}

/* ---- reading ----------------------------------------------------------------------------------------- */

int json_doc_read(struct json_doc *doc, const struct buf *text, struct error *err)
{
	int rc = 0;

	pthread_once(&once, take_memory_over);
	reading = doc;
	if (setjmp(on_no_memory) == 0)
		doc->root = json_loadb(buf_text(text), text->len, 0, NULL);
	else
		rc = error_set(err, ERROR_TRANSIENT, "out of memory");
	reading = NULL;
	return rc;
}

void json_doc_fini(struct json_doc *doc)
{
	struct json_chunk *chunk;

	while ((chunk = doc->chunks) != NULL) {
		doc->chunks = chunk->next;
		free(chunk);
	}
	doc->root = NULL;
}

/* ---- writing ----------------------------------------------------------------------------------------- */

static int append(const char *data, size_t n_bytes, void *text)
{
	buf_append(text, data, n_bytes);
	return 0;
}

int json_text_write(struct buf *text, const json_t *value, size_t flags, struct error *err)
{
	if (value == NULL || json_dump_callback(value, append, text, flags | JSON_COMPACT) < 0 ||
	    !buf_ok(text))
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	return 0;
}
