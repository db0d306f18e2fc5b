/* Inside config/ only: the four kinds of sections under one face, the mistakes found in them, and
 * the steps of a load.
 * Thread: any. */
#ifndef DAEMON_CONFIG_SECTION_H
#define DAEMON_CONFIG_SECTION_H

#include "daemon/config/options.h"

/* One section of a config, borrowed from it. */
struct section {
	enum option_section kind;
	struct section_head *head; /* also the struct that the options are stored in; NULL: no section */
};

size_t config_n_sections(const struct config *config, enum option_section kind);
struct section config_section(const struct config *config, enum option_section kind, size_t i);
/* Finds it, or adds it with its defaults. NAME means nothing to [daemon]; PLACE is where it begins.
 * Errors: OPERATOR (no room), TRANSIENT (no memory). */
int config_enter(struct config *config, struct section *ret, enum option_section kind, const char *name,
                 const struct setting_place *place, struct error *err) MUST_CHECK;
struct setting_place *section_place(const struct section *section, const struct option *option);
void section_format_title(const struct section *section, struct buf *out); /* [cache "main"] */

/* With the defaults of the mode and the built-in upstream. NULL: no memory. */
struct config *config_new(const struct config_places *places);
/* Leaves what [daemon] says and the built-in upstream. */
int config_forget_caches(struct config *config, struct error *err) MUST_CHECK;
/* Fills in what hangs on other settings: derived defaults, identities, the net of each cache. */
int config_derive(struct config *config) MUST_CHECK;

#define MISTAKES_SHOWN 50
struct mistakes {
	struct buf *out;
	unsigned n;
};
/* SECTION and KEY may be NULL, PLACE's file too. */
void mistake(struct mistakes *mistakes, const struct setting_place *place, const struct section *section,
             const char *key, const char *format, ...) PRINTF(5, 6);
/* Says how many were not shown. */
void mistakes_end(struct mistakes *mistakes);

/* What no single value shows to be wrong. With FILES, looks at the files named too. */
void config_check(struct config *config, bool files, struct mistakes *mistakes);

#endif
