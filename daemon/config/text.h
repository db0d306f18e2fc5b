/* Inside config/ only: the types of options that are kept as text.
 * Thread: any. */
#ifndef DAEMON_CONFIG_TEXT_H
#define DAEMON_CONFIG_TEXT_H

#include "daemon/config/options.h"

/* Judges VALUE, not empty but for a proxy, and appends what is kept of it to OUT.
 * Errors: OPERATOR, what is wrong and "\n  expected ...". */
int text_check(enum option_type type, const char *value, struct buf *out, struct error *err) MUST_CHECK;

/* A token or key that stands where the name of its file belongs must not come out in an error text: refuses
 * what looks like one, without showing it. For names of files that are not there. */
int text_refuse_secret(const char *value, struct error *err) MUST_CHECK;

/* Appends the LEN bytes of TEXT. Errors: OPERATOR (there are MAX), TRANSIENT (no memory). */
int text_list_add(struct text_list *list, const char *text, size_t len, size_t max, struct error *err)
	MUST_CHECK;
void text_list_fini(struct text_list *list);

#endif
