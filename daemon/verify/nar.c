/* The object of a NAR: looked at, or read through. What comes is gathered until it is worth a work item,
 * which unpacks and hashes it; meanwhile the read waits.
 *
 *   read -> piece -> (full, or the end) work -> read ...
 *
 * A NAR that is wrong ends the read. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/verify/run.h"

static void end(struct item *item)
{
	const struct error *fault = item->unpack_err.kind != ERROR_NONE ? &item->unpack_err
	                            : item->read.err.kind != ERROR_NONE ? &item->read.err
	                                                                : NULL;
	struct error copy;

	unpack_free(item->unpack);
	item->unpack = NULL;
	free(item->piece);
	item->piece = NULL;
	if (fault != NULL) {
		copy = *fault;
		fault = &copy;
	}
	item_nar_over(item, fault);
}

/* On a worker, which has piece and unpack for itself. */
static void run_unpack(struct work *work)
{
	struct item *item = CONTAINER_OF(work, struct item, work);
	const struct path_info *info = &item->narinfo.info;

	int rc = unpack_feed(item->unpack, item->piece, item->n_piece, info->nar_size, &item->unpack_err);

	if (rc == 0 && item->is_read)
		rc = unpack_end(item->unpack, info->nar_hash, info->nar_size, &item->unpack_err);
	assert(rc == 0 || item->unpack_err.kind != ERROR_NONE);
}

static void unpack_piece(struct item *item);

static void on_unpacked(struct work *work)
{
	struct item *item = CONTAINER_OF(work, struct item, work);

	item->is_unpacking = false;
	item->run->n_bytes += item->n_piece;
	item->n_piece = 0;
	if (item->is_reading && (item->unpack_err.kind != ERROR_NONE || item->is_closing))
		backend_read_cancel(&item->read);
	else if (item->is_reading)
		backend_read_resume(&item->read);
	else if (item->is_read || item->unpack_err.kind != ERROR_NONE || item->read.err.kind != ERROR_NONE ||
	         item->is_closing)
		end(item);
	else
		unpack_piece(item);
}

static void unpack_piece(struct item *item)
{
	item->is_unpacking = true;
	/* Whole when the work begins, or it is not the last piece. */
	item->is_read = !item->is_reading;
	work_start(item->run->verifier->config.loop, &item->work, run_unpack, on_unpacked);
}

static int on_data(struct backend_read *read, const void *data, size_t n_bytes, struct error *err)
{
	struct item *item = CONTAINER_OF(read, struct item, read);

	if (item->is_unpacking)
		return HTTP_SINK_WAIT;
	if (n_bytes > PIECE_BYTES - item->n_piece) {
		error_set(err, ERROR_TRANSIENT, "%s: a piece of %zu bytes came at once", item->narinfo.url,
		          n_bytes);
		return HTTP_SINK_FAILED;
	}
	memcpy(item->piece + item->n_piece, data, n_bytes);
	item->n_piece += n_bytes;
	item->n_read += n_bytes;
	if (item->n_piece >= PIECE_BYTES / 2)
		unpack_piece(item);
	return 0;
}

static void on_read(struct backend_read *read)
{
	struct item *item = CONTAINER_OF(read, struct item, read);

	item->is_reading = false;
	if (item->is_unpacking)
		return; /* on_unpacked goes on */
	if (item->unpack == NULL || item->unpack_err.kind != ERROR_NONE || read->err.kind != ERROR_NONE ||
	    !read->found || item->is_closing)
		end(item);
	else
		unpack_piece(item);
}

/* 0; 1: of a compression that we do not know, so that it is only looked at; -1: no memory. */
static int begin_deep(struct item *item)
{
	int rc = unpack_new(&item->unpack, item->narinfo.compression, &item->unpack_err);

	if (rc == 0 && (item->piece = malloc(PIECE_BYTES)) == NULL)
		rc = error_set(&item->unpack_err, ERROR_TRANSIENT, "out of memory");
	if (rc > 0)
		item_add_unread(item);
	return rc;
}

void nar_start(struct item *item)
{
	int rc = 1;

	item->unpack_err = (struct error){ 0 };
	item->n_read = item->n_piece = 0;
	item->is_read = false;
	item->read = (struct backend_read){ .done = on_read };
	if (item->run->is_deep)
		rc = begin_deep(item);
	if (rc < 0) {
		end(item);
		return;
	}
	if (rc == 0)
		item->read.write = on_data;
	item->is_reading = true;
	backend_read_start(item->run->link->backend, &item->read, item->narinfo.url);
}
