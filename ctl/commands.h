/* The table of verbs: what each is called, takes and says in --help. Thread: any. */
#ifndef CTL_COMMANDS_H
#define CTL_COMMANDS_H

#include "ctl/args.h"

struct ctl;

struct command {
	const char *name, *usage, *summary, *text;
	const struct option_spec *options;
	int (*run)(struct ctl *ctl); /* returns an exit status of ctl.h */
};

extern const struct command commands[]; /* a NULL name ends it */

/* NULL: there is no such verb. */
const struct command *commands_find(const char *name);
const struct option_spec *commands_find_options(const char *name);

#endif
