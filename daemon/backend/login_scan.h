/* Inside the readers of login.h: a text, read from its beginning to its end.
 * Thread: any. */
#ifndef DAEMON_BACKEND_LOGIN_SCAN_H
#define DAEMON_BACKEND_LOGIN_SCAN_H

#include <stdbool.h>
#include <stddef.h>

#include "common/attr.h"
#include "common/error.h"

struct scan {
	const char *at, *end;
	unsigned line;
	struct error *err;
};

/* Fails: what stands here is not WHAT, "a text in double quotes". Returns -1. */
int scan_expected(const struct scan *scan, const char *what);
bool scan_is_at(const struct scan *scan, char c);
bool scan_take(struct scan *scan, char c);
/* Goes over all that is one of CHARS; returns how many. */
size_t scan_skip(struct scan *scan, const char *chars);
/* The rest of the line, but for its end. */
void scan_skip_line(struct scan *scan);
/* Goes over N_MAX bytes of CHARS at most, copies them, and ends TO (of N_MAX + 1 bytes) with NUL. Returns how
 * many: 0 if there are none, or more than that. */
size_t scan_word(struct scan *scan, const char *chars, char *to, size_t n_max);
/* A text between two QUOTE on one line, where a backslash stands before any of ESCAPED ("": nowhere), and
 * STOP ("": none) may not be. For the caller to wipe and free. */
int scan_quoted(struct scan *scan, char quote, const char *escaped, const char *stop, char **ret) MUST_CHECK;

#endif
