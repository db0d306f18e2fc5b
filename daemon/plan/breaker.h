/* When is a fault the cache's, and not one of the job that met it? And what is done until the cache works
 * again: nothing is claimed but a probe now and then. One breaker belongs to one cache.
 *
 *   CLOSED --a fault that says nothing of a path, or the third of a kind--> OPEN
 *   OPEN   --a probe gets as far as the fault was--> CLOSED
 *   OPEN   --a probe fails--> OPEN, and the next one comes later
 *
 * Evidence: a fault before any request byte, or 401, is the cache's at once. Any other is it when the same
 * kind came from three different jobs, with no success between that got at least as far. So one path that
 * can never go holds up no other, and one wrong URL costs two jobs an attempt, not a million.
 *
 * A probe is one job that is let through. It is another than those that failed, as long as there is one.
 * Only a probe closes an open breaker; what else was under way ends by itself, and its faults are the
 * cache's. A fault that says nothing of a path is disproved by any other that got as far: it closes the
 * breaker, and is then one of its job. So is no answer at all by any answer.
 *
 * Pure: time (monotonic, for people also the wall's) and randomness are arguments. Jobs are named by any
 * number but 0. Thread: any. */
#ifndef DAEMON_PLAN_BREAKER_H
#define DAEMON_PLAN_BREAKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define BREAKER_EVIDENCE      3      /* different jobs */
#define BREAKER_TRIED_MAX     32     /* jobs that are known to fail */
#define BREAKER_FIRST_MS      2000   /* the first probe is half of that away, or up to all of it */
#define BREAKER_MAX_MS        300000 /* the same of the last, unless a person must mend something */
#define BREAKER_PATIENCE_MS   60000  /* a probe that has not ended by then gets company */
#define BREAKER_NOTHING_MS    1000   /* after a probe that showed nothing */
#define BREAKER_N_FAULT_KINDS ERROR_CANCELED

/* How far an upload got; ordered: what works at one says that those before it work. */
enum breaker_stage {
	BREAKER_PREPARE,
	BREAKER_ASK,
	BREAKER_ASK_NAR,
	BREAKER_SEND,
	BREAKER_SEND_INFO,
};

struct breaker_now {
	uint64_t mono_ms;
	int64_t unix_s;
	uint64_t random; /* any 64 bits, evenly spread */
};

struct breaker_fault {
	const struct error
		*err;         /* TRANSIENT, PERMANENT or OPERATOR, of an answer of the cache's or of none */
	bool is_server_fault; /* says nothing of a path */
	bool is_probe;
	enum breaker_stage stage;
	int64_t job;
};

struct breaker_witness {
	int64_t job; /* 0: none */
	enum breaker_stage stage;
};

struct breaker { /* zeroed: closed, and knows nothing */
	bool is_open;
	/* while open */
	struct error fault;       /* why: the last of a probe, or what opened it */
	bool is_server_fault;     /* it is of that sort */
	enum breaker_stage stage; /* a success from here on closes it */
	int64_t since_unix_s;
	uint64_t due_mono_ms; /* the next probe */
	bool awaits_probe;    /* due is how long we wait for one under way */
	unsigned n_probes;    /* that failed one after the other with this kind */
	int64_t tried[BREAKER_TRIED_MAX];
	size_t n_tried, next_tried;
	/* while closed */
	struct breaker_witness witnesses[BREAKER_N_FAULT_KINDS][BREAKER_EVIDENCE - 1];
};

/* Is FAULT the cache's? Then the job's claim goes back as it was. It may open the breaker, or close it. */
bool breaker_fault(struct breaker *b, const struct breaker_fault *fault, const struct breaker_now *now);
/* Something went well at STAGE. Returns whether that closed the breaker. */
bool breaker_success(struct breaker *b, enum breaker_stage stage, bool is_probe);

/* How many jobs may be claimed now? ONE is a probe, to be none of those tried. */
enum breaker_claim { BREAKER_ALL, BREAKER_ONE, BREAKER_NONE };
enum breaker_claim breaker_may_claim(const struct breaker *b, uint64_t now_mono_ms);
/* Only those tried are left: they may be probes again. Returns false if there are none. */
bool breaker_forget_tried(struct breaker *b);
void breaker_probe_began(struct breaker *b, int64_t job, uint64_t now_mono_ms);
/* It ended, and neither a fault nor a success said anything of the cache. */
void breaker_probe_showed_nothing(struct breaker *b, uint64_t now_mono_ms);

/* Something changed (a secret, the clock, the machine woke, a person says so): the next probe is due, and
 * the delays begin anew. */
void breaker_probe_now(struct breaker *b, uint64_t now_mono_ms);

#endif
