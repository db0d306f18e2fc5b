/* Listings, on a connection and a thread of their own: they never wait for writers.
 * Thread: loop. */
#ifndef DAEMON_QUEUE_READ_H
#define DAEMON_QUEUE_READ_H

#include "daemon/queue/queue.h"

struct reader;

/* ON_DAMAGE: a listing or the check met damage, and marked the file; may fire again. */
typedef void (*reader_damage_fn)(void *ctx, const struct error *err);
int reader_open(struct reader **ret, struct loop *loop, const char *path, reader_damage_fn on_damage,
                void *ctx, struct error *err) MUST_CHECK;
void reader_start(struct reader *reader, struct queue_read *read, queue_read_fn done);
/* Looks through the whole file for damage that no statement has met yet, a table at a time. OVER fires
 * once; not at all if READER is closed before. */
typedef void (*reader_checked_fn)(void *ctx);
void reader_check(struct reader *reader, reader_checked_fn over, void *ctx);
/* Lets every listing end, then calls CLOSED. */
void reader_close(struct reader *reader, lane_closed_fn closed, void *ctx);

#endif
