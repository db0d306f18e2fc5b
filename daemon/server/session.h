/* One connection: reads a request, lets its verb work, writes the answer, closes.
 *
 *   READING -> WORKING -> ENDING -> CLOSING
 *
 * READING ends with a whole request, a bad one, or the deadline. A verb works in steps, each of which
 * waits for one thing: an operation (session_wait_for), a flush, news, or new parts. It ends by
 * session_ok or session_error. CLOSING may come at any time; what runs then comes back to a session
 * that is closing, and session_is_back says so.
 *
 * Owns: a session frees itself. Thread: loop. */
#ifndef DAEMON_SERVER_SESSION_H
#define DAEMON_SERVER_SESSION_H

#include "common/protocol.h"
#include "daemon/loop/timer.h"
#include "daemon/server/peer.h"
#include "daemon/server/server.h"
#include "daemon/verify/verify.h"

#define SESSION_REQUEST_MS    5000
#define SESSION_WRITE_MS      60000
#define SESSION_LAST_WRITE_MS 1000 /* while the server closes */
#define SESSION_HOLD_MS       30000
#define SESSION_HEARTBEAT_MS  10000
#define SESSION_OUT_BYTES     MIB(2)
#define SESSION_PAGE          100 /* rows read and written at a time */

struct session;
typedef void (*session_fn)(struct session *s);

enum session_state { SESSION_READING, SESSION_WORKING, SESSION_ENDING, SESSION_CLOSING };

/* The verbs' own, one at a time. */
struct wait_work {
	struct queue_read read;
	struct queue_explain settle;
	struct queue_wait_state shown;
	bool was_shown, is_idle, has_news, is_stuck;
	int64_t request_id;
};
struct list_work {
	struct queue_read read;
	size_t n_left;
};
struct select_work { /* retry, forget */
	union {
		struct queue_op op;
		struct queue_retry retry;
		struct queue_forget forget;
	};
	size_t next_path;
	uint64_t n_changed;
};

struct verify_work {
	struct verify_run *run;
	struct verify_step step;
	struct server_enqueue enqueue;
	char **paths; /* being enqueued */
	size_t n_paths;
	bool is_forced;      /* the second hand-over of a step */
	char faults[2][256]; /* of the hand-overs, unforced and forced; "": none */
	uint64_t n_findings, n_notes, n_unchecked, n_enqueued;
};

struct catch_up_work {
	union {
		struct store_built_query built;
		struct queue_known known;
	};
	int64_t after_id;
	char **paths; /* of a page */
	size_t n_paths;
	bool is_known[STORE_BUILT_PAGE];
	uint64_t n_found;
};

struct session {
	struct server *server;
	struct session *next;
	enum session_state state;
	struct peer peer;

	uv_pipe_t pipe;
	struct timer timer;
	unsigned n_handles; /* open: pipe, timer */
	bool is_waiting;    /* for an operation: the memory must stay */
	bool must_answer;   /* also while the server closes: the queue is being changed */
	struct loop_post free_post;

	struct buf in;
	size_t n_checked;
	struct request request;
	uint64_t caches; /* of the request, as bits; 0: none named */

	struct buf out;
	uv_write_t write;
	bool is_writing;
	session_fn then; /* after the flush */

	session_fn on_news;  /* server_notify, at most 4 a second; NULL: not interested */
	session_fn on_parts; /* the daemon has its parts again */
	session_fn on_timer;
	session_fn on_close; /* the session is closing: what it has begun is to stop */

	union {
		struct server_enqueue enqueue;
		struct queue_read read;
		struct queue_pause pause;
		struct select_work select;
		struct list_work list;
		struct wait_work wait;
		struct verify_work verify;
		struct catch_up_work catch_up;
	} work;
};

/* Takes the connected FD over, whatever comes. NULL: no memory, and FD is closed. */
struct session *session_new(struct server *server, int fd, const struct peer *peer);
void session_close(struct session *s);

/* An operation begins: the session's memory stays until session_is_back. */
void session_wait_for(struct session *s);
/* The operation has ended. False: the session is closing, go no further (its memory lasts until the
 * loop's next turn). */
bool session_is_back(struct session *s) MUST_CHECK;

/* Writes what was put in `out`; calls THEN in a later turn, once the kernel has it all. */
void session_flush(struct session *s, session_fn then);
/* Writes what was put in `out`, the last line being in it, and closes. */
void session_end(struct session *s);
/* The last line: a bare ok; or a refusal. */
void session_ok(struct session *s);
void session_error(struct session *s, enum answer_kind kind, const char *format, ...) PRINTF(3, 4);
/* The last line for an ERR of the queue or of intake. */
void session_fail(struct session *s, const struct error *err);

#endif
