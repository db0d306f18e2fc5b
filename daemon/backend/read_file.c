/* Reading an object of a cache in a directory, a piece at a time on the shared workers.
 *
 *   start -> OPENING -> (size known, or not there) -> READING -> write() -> READING ... -> done
 *                                                        write() waits: resume -> write() -> ... */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/backend/fresh_file.h"
#include "daemon/backend/kind.h"
#include "daemon/loop/work.h"

#define PIECE_BYTES KIB(128)

struct read_call {
	struct backend_read *read;
	struct work work;
	char path[FRESH_PATH_SIZE];
	int fd;
	bool is_running, is_canceled, waits;
	struct loop_post post;

	/* The worker's, while it runs. */
	struct error err;
	bool found;
	uint64_t size_bytes;
	ssize_t n_bytes;
	char piece[PIECE_BYTES];
};

static void call_end(struct read_call *call)
{
	struct backend_read *read = call->read;

	if (call->is_canceled && call->err.kind == ERROR_NONE)
		error_set(&call->err, ERROR_CANCELED, "canceled");
	read->err = call->err;
	read->found = call->found;
	read->size_bytes = call->size_bytes;
	read->call = NULL;
	close_fd(&call->fd);
	free(call);
	read->done(read);
}

/* On a worker. */
static void open_file(struct read_call *call)
{
	struct stat st;

	call->fd = open(call->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (call->fd < 0 && errno == ENOENT)
		return;
	if (call->fd < 0 || fstat(call->fd, &st) < 0) {
		error_set(&call->err, ERROR_TRANSIENT, "%.400s: %s", call->path, strerror(errno));
		return;
	}
	call->found = S_ISREG(st.st_mode);
	call->size_bytes = call->found ? (uint64_t)st.st_size : 0;
}

static void run(struct work *work)
{
	struct read_call *call = CONTAINER_OF(work, struct read_call, work);

	if (call->fd < 0)
		open_file(call);
	if (!call->found || call->err.kind != ERROR_NONE || call->read->write == NULL)
		return;
	call->n_bytes = read_full(call->fd, call->piece, sizeof(call->piece));
	if (call->n_bytes < 0)
		error_set(&call->err, ERROR_TRANSIENT, "%.400s: %s", call->path, strerror(errno));
}

static void on_ran(struct work *work);

static void give_piece(struct read_call *call)
{
	struct backend_read *read = call->read;

	if (call->n_bytes == 0 || call->err.kind != ERROR_NONE || call->is_canceled) {
		call_end(call);
		return;
	}
	switch (read->write(read, call->piece, (size_t)call->n_bytes, &call->err)) {
	case 0:
		call->is_running = true;
		call->n_bytes = 0;
		work_start(read->loop, &call->work, run, on_ran);
		return;
	case HTTP_SINK_WAIT:
		call->waits = true;
		return;
	default:
		call_end(call);
	}
}

static void on_ran(struct work *work)
{
	struct read_call *call = CONTAINER_OF(work, struct read_call, work);

	call->is_running = false;
	give_piece(call);
}

static void on_resumed(struct loop_post *post)
{
	give_piece(CONTAINER_OF(post, struct read_call, post));
}

static void resume(struct backend_read *read)
{
	struct read_call *call = read->call;

	if (!call->waits)
		return;
	call->waits = false;
	loop_post(read->loop, &call->post, on_resumed);
}

static void cancel(struct backend_read *read)
{
	struct read_call *call = read->call;

	call->is_canceled = true;
	if (call->is_running)
		work_cancel(&call->work);
	resume(read);
}

void file_read_start(struct loop *loop, const char *dir, struct backend_read *read, const char *key)
{
	struct read_call *call = calloc(1, sizeof(*call));

	read->loop = loop;
	if (call == NULL) {
		error_set(&read->err, ERROR_TRANSIENT, "out of memory");
		read_end_later(read);
		return;
	}
	call->read = read;
	call->fd = -1;
	snprintf(call->path, sizeof(call->path), "%s/%.*s", dir, (int)strcspn(key, "?"), key);
	read->call = call;
	read->resume = resume;
	read->cancel = cancel;
	call->is_running = true;
	work_start(loop, &call->work, run, on_ran);
}
