/* nncachectl: finds the verb, shows help; a file per group of verbs does the work. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/commands.h"
#include "ctl/ctl.h"

/* ---- help ------------------------------------------------------------------------------------ */

static void print_options(const struct option_spec *specs)
{
	char text[64];

	for (; specs->name != NULL; specs++) {
		snprintf(text, sizeof(text),
		         specs->value == NULL       ? "--%s"
		         : specs->value_is_optional ? "--%s [%s]"
		                                    : "--%s %s",
		         specs->name, specs->value);
		printf("  %-20s  %s\n", text, specs->help);
	}
}

static void print_help(FILE *file)
{
	fputs("Usage: nncachectl VERB [OPTION...]\n\nSays what nncached does, and steers it.\n\nVerbs:\n",
	      file);
	for (const struct command *verb = commands; verb->name != NULL; verb++)
		fprintf(file, "  %-8s  %s\n", verb->name, verb->summary);
	fputs("\n'nncachectl VERB --help' says more about one of them; see also nncachectl(1).\n\n"
	      "Exit status: 0 done, 1 failed, 2 usage, 3 the daemon cannot be reached,\n"
	      "4 some paths failed or cannot go on, 5 time-out.\n",
	      file);
}

static void print_verb_help(const struct command *verb)
{
	printf("Usage: nncachectl %s %s\n\n%s\n\nOptions:\n", verb->name, verb->usage, verb->text);
	print_options(verb->options);
	print_options(args_globals);
}

static size_t min3(size_t a, size_t b, size_t c)
{
	size_t ab = a < b ? a : b;

	return ab < c ? ab : c;
}

/* How many letters must be changed, put in or left out; of the first 15 of each. */
static size_t distance(const char *a, const char *b)
{
	size_t row[16], n_a = strnlen(a, 15), n_b = strnlen(b, 15);

	for (size_t j = 0; j <= n_b; j++)
		row[j] = j;
	for (size_t i = 1; i <= n_a; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= n_b; j++) {
			size_t above = row[j];

			row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[n_b];
}

static const char *nearest_verb(const char *word)
{
	const char *nearest = NULL;
	size_t best = 3; /* further off is no slip of the finger */

	for (const struct command *verb = commands; verb->name != NULL; verb++) {
		size_t d = distance(word, verb->name);

		if (d < best) {
			best = d;
			nearest = verb->name;
		}
	}
	return nearest;
}

static int bad_arguments(const struct ctl *ctl, const struct error *err)
{
	const char *verb = ctl->args.verb;
	const char *nearest = verb != NULL && commands_find(verb) == NULL ? nearest_verb(verb) : NULL;
	struct ctl general = { 0 };

	if (nearest != NULL)
		return ctl_usage(&general, "%s; did you mean \"%s\"?", err->text, nearest);
	return ctl_usage(verb != NULL && commands_find(verb) != NULL ? ctl : &general, "%s", err->text);
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	const struct command *verb;
	const char *socket;
	struct error err;

	if (args_parse(&ctl->args, argc, argv, commands_find_options, &err) < 0)
		return bad_arguments(ctl, &err);
	if (args_has(&ctl->args, "version")) {
		puts("nncachectl " NNCACHE_VERSION);
		return CTL_DONE;
	}
	verb = ctl->args.verb != NULL ? commands_find(ctl->args.verb) : NULL;
	if (args_has(&ctl->args, "help")) {
		if (verb == NULL)
			print_help(stdout);
		else
			print_verb_help(verb);
		return CTL_DONE;
	}
	if (verb == NULL) {
		print_help(stderr);
		return CTL_USAGE;
	}
	socket = args_get(&ctl->args, "socket");
	if (client_find_socket(socket != NULL ? socket : getenv("NNCACHE_SOCKET"), ctl->socket, &err) < 0) {
		ctl_say("%s: %s", socket != NULL ? "--socket" : "NNCACHE_SOCKET",
		        "expected an absolute path of at most 107 bytes");
		return CTL_USAGE;
	}
	ctl->json = args_has(&ctl->args, "json");
	return verb->run(ctl);
}

int main(int argc, char **argv)
{
	struct ctl ctl = { 0 };
	int status = run(&ctl, argc, argv);

	args_fini(&ctl.args);
	return status;
}
