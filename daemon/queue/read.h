/* Listings, on a connection and a thread of their own: they never wait for writers.
 * Thread: loop. */
#ifndef DAEMON_QUEUE_READ_H
#define DAEMON_QUEUE_READ_H

#include "daemon/queue/queue.h"

struct reader;

int reader_open(struct reader **ret, struct loop *loop, const char *path, struct error *err) MUST_CHECK;
void reader_start(struct reader *reader, struct queue_read *read, queue_read_fn done);
/* Looks for damage that no statement has met yet, a table at a time between listings. ON_DAMAGE fires at
 * most once. */
void reader_check(struct reader *reader, void (*on_damage)(void *ctx, const struct error *err), void *ctx);
/* Lets every listing end, then calls CLOSED. */
void reader_close(struct reader *reader, lane_closed_fn closed, void *ctx);

#endif
