/* Asks a cache whether what is believed to be on it is there, and right: narinfo, signature, the NAR's
 * object, and whether anything that it refers to is missing; deep: the NAR itself, unpacked and hashed.
 *
 * A run goes through what is believed of one cache, in pages, with few requests at a time; with one only
 * while uploads to this cache are under way. It is pulled: between two calls of verify_next nothing new is
 * begun. A fault of the cache itself ends it; one of a path is tried again, and then told as unchecked.
 * Limits: one run for each cache; VERIFY_REQUESTS requests at a time, 2 NARs.
 * Thread: loop. */
#ifndef DAEMON_VERIFY_VERIFY_H
#define DAEMON_VERIFY_VERIFY_H

#include "daemon/config/config.h"
#include "daemon/queue/queue.h"
#include "daemon/store/store.h"
#include "daemon/upload/upload.h"
#include "daemon/verify/finding.h"

#define VERIFY_REQUESTS     8
#define VERIFY_FINDINGS_MAX 128 /* of a step */

struct verifier;
struct verifier_config {
	struct loop *loop;
	struct queue *queue;
	struct store *store;
	const struct uploader *uploader; /* or NULL */
	const struct config *config;     /* all borrowed while it is open */
	const uint64_t *upstreams;       /* by cache: bits of endpoint numbers */
};
int verifier_open(struct verifier **ret, const struct verifier_config *config, struct error *err) MUST_CHECK;
/* Ends all runs, CANCELED, then CLOSED(CTX). Takes NULL (CLOSED is then not called). */
void verifier_close(struct verifier *verifier, lane_closed_fn closed, void *ctx);

struct verify_run;
/* Repair: what is missing or wrong is no longer believed to be there, and what can be mended by an upload is
 * told so: the caller enqueues it. Errors: PERMANENT (one is under way for this cache), OPERATOR (secrets),
 * TRANSIENT. */
int verify_open(struct verify_run **ret, struct verifier *verifier, size_t cache, bool is_deep, bool repairs,
                struct error *err) MUST_CHECK;
/* Whatever it does, it stops soon; a step that is out ends first, CANCELED, if it had not. */
void verify_close(struct verify_run *run); /* takes NULL */

struct verify_step;
typedef void (*verify_fn)(struct verify_step *step);
struct verify_step { /* the caller's until done */
	verify_fn done;
	struct error err;
	/* Borrowed until the next call. */
	const struct finding *findings;
	size_t n_findings;
	uint64_t n_checked, n_total, n_bytes; /* up to now; bytes of NARs read */
	bool is_over;
};
/* The next findings; or none, after a second or so. */
void verify_next(struct verify_run *run, struct verify_step *step, verify_fn done);

#endif
