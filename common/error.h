/* What went wrong, once: the kind decides what is done about it, the text is for people.
 * Filled where the fault is detected, prefixed on the way up, shown once.
 * Thread: any. */
#ifndef COMMON_ERROR_H
#define COMMON_ERROR_H

#include <stdbool.h>
#include <stdint.h>

#include "common/attr.h"

enum error_kind {
	ERROR_NONE,
	ERROR_TRANSIENT, /* try again later */
	ERROR_PERMANENT, /* this item never */
	ERROR_OPERATOR,  /* a person must mend something; nothing of this cache goes until then */
	ERROR_CANCELED,  /* we stopped it ourselves */
};

struct error {
	enum error_kind kind;
	bool is_overload;       /* the other side has too much to do: 429, 503, no answer in time */
	uint32_t retry_after_s; /* what it asked for; 0: nothing */
	char text[488];         /* never a secret; cut at the end when too long */
};

/* The stable word of KIND: "none", "transient", "permanent", "operator", "canceled". */
const char *error_kind_name(enum error_kind kind);

/* Fills ERR. Returns -1, so that a caller can return it. */
int error_set(struct error *err, enum error_kind kind, const char *format, ...) PRINTF(3, 4);

/* The same where ERR is filled: what the other side asked for stays. The arguments may be of ERR. Returns -1.
 */
int error_reword(struct error *err, enum error_kind kind, const char *format, ...) PRINTF(3, 4);

/* Puts "TEXT: " before what ERR says. Returns -1. */
int error_prefix(struct error *err, const char *format, ...) PRINTF(2, 3);

/* Copies SRC to DST and returns -1. */
int error_copy(struct error *dst, const struct error *src);

#endif
