#include "ctl/args.h"

#include <stdlib.h>
#include <string.h>

const struct option_spec args_globals[] = {
	{ "socket", "PATH", "where the daemon listens ($NNCACHE_SOCKET)", false },
	{ "json", NULL, "print JSON: sizes in bytes, times in RFC 3339 UTC", false },
	{ "help", NULL, "print this", false },
	{ "version", NULL, "print the version", false },
	{ 0 },
};

static const struct option_spec *find_in(const struct option_spec *specs, const char *name, size_t len)
{
	for (; specs != NULL && specs->name != NULL; specs++)
		if (strncmp(specs->name, name, len) == 0 && specs->name[len] == '\0')
			return specs;
	return NULL;
}

/* Reads the option at ARGV[0]. Returns how many words it took, or -1. */
static int parse_option(struct args *args, char **argv, const struct option_spec *specs, struct error *err)
{
	const char *name = argv[0] + 2, *value = NULL;
	size_t len = strcspn(name, "=");
	const struct option_spec *spec = find_in(args_globals, name, len);
	int n_words = 1;

	if (spec == NULL)
		spec = find_in(specs, name, len);
	if (spec == NULL)
		return error_set(err, ERROR_PERMANENT, "unknown option --%.*s", (int)len, name);
	if (name[len] == '=') {
		value = name + len + 1;
		if (spec->value == NULL)
			return error_set(err, ERROR_PERMANENT, "--%s takes no value", spec->name);
	} else if (spec->value_is_optional) {
		if (argv[1] != NULL && argv[1][0] >= '0' && argv[1][0] <= '9')
			value = argv[n_words++];
	} else if (spec->value != NULL) {
		value = argv[n_words++];
		if (value == NULL)
			return error_set(err, ERROR_PERMANENT, "--%s needs a value: %s", spec->name,
			                 spec->value);
	}
	args->options[args->n_options++] = (struct args_option){ spec, value };
	return n_words;
}

static int parse_word(struct args *args, const char *word, args_find_fn find,
                      const struct option_spec **specs, struct error *err)
{
	if (args->verb != NULL) {
		args->operands[args->n_operands++] = word;
		return 0;
	}
	args->verb = word;
	*specs = find(word);
	return *specs != NULL ? 0 : error_set(err, ERROR_PERMANENT, "unknown verb \"%s\"", word);
}

int args_parse(struct args *ret, int argc, char **argv, args_find_fn find, struct error *err)
{
	const struct option_spec *specs = NULL;
	bool only_operands = false;

	*ret = (struct args){ 0 };
	ret->options = calloc((size_t)argc + 1, sizeof(*ret->options));
	ret->operands = calloc((size_t)argc + 1, sizeof(*ret->operands));
	if (ret->options == NULL || ret->operands == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	for (int i = 1; i < argc;) {
		int n_words = 1;

		if (!only_operands && strcmp(argv[i], "--") == 0) {
			only_operands = true;
		} else if (!only_operands && strncmp(argv[i], "--", 2) == 0) {
			n_words = parse_option(ret, argv + i, specs, err);
			if (n_words < 0)
				return -1;
		} else if (!only_operands && argv[i][0] == '-' && argv[i][1] != '\0') {
			return error_set(err, ERROR_PERMANENT, "unknown option %s", argv[i]);
		} else if (parse_word(ret, argv[i], find, &specs, err) < 0) {
			return -1;
		}
		i += n_words;
	}
	return 0;
}

void args_fini(struct args *args)
{
	free(args->options);
	free(args->operands);
	*args = (struct args){ 0 };
}

size_t args_get_all(const struct args *args, const char *name, const char **ret, size_t n_max)
{
	size_t n = 0;

	for (size_t i = 0; i < args->n_options; i++) {
		if (strcmp(args->options[i].spec->name, name) != 0)
			continue;
		if (n < n_max)
			ret[n] = args->options[i].value;
		n++;
	}
	return n;
}

bool args_has(const struct args *args, const char *name)
{
	return args_get_all(args, name, NULL, 0) > 0;
}

const char *args_get(const struct args *args, const char *name)
{
	const char *value = NULL;

	for (size_t i = 0; i < args->n_options; i++)
		if (strcmp(args->options[i].spec->name, name) == 0)
			value = args->options[i].value;
	return value;
}
