/* What the daemon's own files share: the parts, and what is under way with them.
 * Thread: loop. */
#ifndef DAEMON_INTERNAL_H
#define DAEMON_INTERNAL_H

#include "daemon/daemon.h"
#include "daemon/intake/intake.h"
#include "daemon/loop/notify.h"
#include "daemon/loop/timer.h"
#include "daemon/policy/policy.h"
#include "daemon/queue/queue.h"
#include "daemon/server/server.h"
#include "daemon/store/roots.h"
#include "daemon/store/store.h"
#include "daemon/upload/upload.h"
#include "daemon/verify/verify.h"

enum { N_SIGNALS = 3 };

struct daemon {
	struct loop loop;
	struct config *config;
	char *config_error; /* or NULL */
	const struct config_places *places;
	struct config *next_config; /* a reload is on its way to it */

	struct queue *queue;
	struct store *store;
	struct roots *roots;
	struct policy *policy;
	struct uploader *uploader;
	struct verifier *verifier;
	struct intake *intake;
	struct server *server;
	uint64_t upstreams[CONFIG_MAX_ENDPOINTS];

	uv_signal_t signals[N_SIGNALS];
	int listen_fd;                  /* handed in by the service manager, or -1 */
	uint64_t told_starting_mono_ms; /* or when it began; 0: it is ready */
	struct watchdog watchdog;
	struct timer housekeeping;
	unsigned n_housekeepings;
	struct queue_prune prune;
	struct queue_unprotect unprotect;
	bool is_pruning, is_unprotecting;
	char queue_message[512]; /* for status; "": none */
	struct drain {
		struct timer timer;
		bool is_on;
		uint64_t deadline_mono_ms, moved_mono_ms, n_commits;
	} drain;
	bool stopping;
	bool is_closing_parts;
	bool is_ready;     /* intake said so: these parts may serve */
	bool reload_again; /* asked for while one was under way: that one may have read the old files */
	int status;
};

/* Tells the server of the parts as they are now. */
void daemon_show_parts(struct daemon *daemon);
/* The GC roots of these store paths may go. */
void daemon_released(struct daemon *daemon, char *const *paths, size_t n_paths);

/* Closes everything, and with that ends daemon_run. */
void daemon_stop(struct daemon *daemon);
/* What comes next: the end, or new parts. */
void daemon_parts_closed(struct daemon *daemon);
void daemon_queue_path(const struct daemon *daemon, char ret[4096]);

/* ---- closing.c */

/* Closes the parts, for a reload all but the server; daemon_parts_closed hears of the end. */
void closing_begin(struct daemon *daemon);

/* ---- files.c */

/* Raises the soft limit of file descriptors to the hard one, and says so if CONFIG can need more. */
void files_raise_limit(const struct config *config);

/* ---- housekeeping.c */

/* Once the daemon serves, and then by itself every minute. */
void housekeeping_begin(struct daemon *daemon);

void housekeeping_open(struct daemon *daemon);
void housekeeping_close(struct daemon *daemon); /* the timer; what it began ends with the queue */

/* ---- stop.c */

void stop_open(struct daemon *daemon);
void stop_close(struct daemon *daemon); /* the timer */
/* SIGTERM: daemon_stop, now or when what can go has gone. The second time: now. */
void stop_begin(struct daemon *daemon);

#endif
