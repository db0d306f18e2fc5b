/* One request to the daemon and its answer, record by record. A daemon that is just starting is asked
 * again for a while. Thread: any (blocks). */
#ifndef CTL_CONNECT_H
#define CTL_CONNECT_H

#include "ctl/ctl.h"

typedef void (*call_record_fn)(void *ctx, struct record *record);

enum call_result {
	CALL_OK,
	CALL_REFUSED,     /* the daemon's last line is an error: call.answer */
	CALL_UNREACHABLE, /* nobody there: call.err */
	CALL_BROKEN,      /* the answer was cut, or is no answer: call.err */
	CALL_TIMEOUT,     /* the call's own deadline */
};

struct call {
	uint64_t deadline_mono_ms; /* of all of it; 0: none, but a daemon that says nothing for a minute is
	                              broken */
	struct client client;
	struct answer answer; /* its texts last until call_close */
	struct error err;
};

/* Sends REQ and calls ON_RECORD (or NULL) for each record. CALL is zeroed but for the deadline, and to be
 * closed whatever this returns. */
enum call_result call_run(struct call *call, const char *socket, const struct request *req,
                          call_record_fn on_record, void *ctx);
void call_close(struct call *call);

/* Says why RESULT is not CALL_OK. Returns the exit status. */
int call_explain(const struct ctl *ctl, const struct call *call, enum call_result result);

#endif
