/* The command line of nncachectl: VERB, its options and its operands, by the tables of main.c. An option
 * is --NAME VALUE or --NAME=VALUE; what follows "--" are operands. The global options may stand anywhere.
 * Errors: PERMANENT (usage). Thread: any. */
#ifndef CTL_ARGS_H
#define CTL_ARGS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

struct option_spec {
	const char *name;  /* without dashes; NULL ends a table */
	const char *value; /* what it is called in --help; NULL: the option takes none */
	const char *help;
	bool value_is_optional; /* taken only if it begins with a digit */
};

struct args {
	const char *verb; /* or NULL */
	struct args_option {
		const struct option_spec *spec;
		const char *value; /* or NULL */
	} * options;
	size_t n_options;
	const char **operands;
	size_t n_operands;
};

/* Finds the options of a verb; NULL: there is no such verb. */
typedef const struct option_spec *(*args_find_fn)(const char *verb);

extern const struct option_spec args_globals[];

/* Borrows ARGV. RET is to be freed by args_fini also after an error; what was read before it is there. */
int args_parse(struct args *ret, int argc, char **argv, args_find_fn find, struct error *err) MUST_CHECK;
void args_fini(struct args *args);

bool args_has(const struct args *args, const char *name);
const char *args_get(const struct args *args, const char *name); /* the last value, or NULL */
/* The values of an option that may be given often: up to N_MAX to RET; returns how many there are. */
size_t args_get_all(const struct args *args, const char *name, const char **ret, size_t n_max);

#endif
