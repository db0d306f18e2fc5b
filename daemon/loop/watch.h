/* Watches one directory for changes (inotify). A hint, never the truth: who watches also looks again
 * by a timer, for events can be lost.
 * Thread: loop. Callback: any number of times, several changes may be one. */
#ifndef DAEMON_LOOP_WATCH_H
#define DAEMON_LOOP_WATCH_H

#include "daemon/loop/loop.h"

struct watch;
typedef void (*watch_fn)(struct watch *watch);

struct watch {
	uv_fs_event_t uv;
	watch_fn changed;
	watch_fn closed;
};

/* Errors: TRANSIENT (no such directory, no watches left); the watch must be closed all the same. */
int watch_open(struct watch *watch, struct loop *loop, const char *dir, watch_fn changed, struct error *err)
	MUST_CHECK;
void watch_close(struct watch *watch, watch_fn closed); /* CLOSED may be NULL */

#endif
