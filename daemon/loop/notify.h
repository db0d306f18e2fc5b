/* The service manager: what it hands over, and what it is told. Not started by one, or built without
 * libsystemd, nothing is handed over and nobody is told.
 * Thread: loop, but for notify_listen_fd: before there is one. */
#ifndef DAEMON_LOOP_NOTIFY_H
#define DAEMON_LOOP_NOTIFY_H

#include "common/attr.h"
#include "daemon/loop/timer.h"

/* The one listening socket that was handed over (socket activation), the caller's from here on; -1: none. */
int notify_listen_fd(void);

void notify_ready(void);
/* We start, and that may take MORE_MS from now. Without it the manager's time for a start holds. */
void notify_starting(uint64_t more_ms);
void notify_status(const char *format, ...) PRINTF(1, 2); /* one line, as `systemctl status` shows it */
/* Until notify_ready. */
void notify_reloading(void);
/* We stop, and that may take MORE_MS from now. */
void notify_stopping(uint64_t more_ms);

/* Tells that the loop turns, as often as the manager wants to hear it. */
struct watchdog {
	struct timer timer;
	uint64_t every_ms; /* 0: nobody asks */
};
void watchdog_open(struct watchdog *watchdog, struct loop *loop);
void watchdog_close(struct watchdog *watchdog);

#endif
