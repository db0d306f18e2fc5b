/* nncachectl: the table of verbs; a file per group of them does the work. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ctl.h"

#define CACHE_OPTION                                                                       \
	{                                                                                  \
		"cache", "CACHE", "only of this cache; may be given more than once", false \
	}

static const struct option_spec status_options[] = {
	{ "watch", "SECONDS", "show it again and again (every 2 seconds) until interrupted", true },
	{ 0 },
};
static const struct option_spec list_options[] = {
	{ "state", "STATE", "unfinished (default), all, ready, delayed, sent, blocked, failed or done",
	  false },
	{ "cache", "CACHE", "only of this cache", false },
	{ 0 },
};
static const struct option_spec select_options[] = {
	{ "failed", NULL, "all that failed or is blocked", false },
	CACHE_OPTION,
	{ 0 },
};
static const struct option_spec pause_options[] = {
	{ "all", NULL, "every cache", false },
	{ "for", "DURATION", "resume by itself after this time: 90s 5m 2h 1d 1w", false },
	{ 0 },
};
static const struct option_spec resume_options[] = {
	{ "all", NULL, "every cache", false },
	{ 0 },
};
static const struct option_spec push_options[] = {
	{ "to", "CACHE", "only to this cache; may be given more than once", false },
	{ "force", NULL, "ask the caches again, whatever is remembered of them", false },
	{ "no-wait", NULL, "return once the paths are accepted", false },
	{ "stdin", NULL, "read paths from standard input, one a line", false },
	{ "tag", "TAG", "a name to wait for them by", false },
	{ 0 },
};
static const struct option_spec wait_options[] = {
	{ "tag", "TAG", "wait for what was handed over with this tag", false },
	{ "timeout", "DURATION", "give up after this time: 90s 5m 2h 1d 1w", false },
	{ 0 },
};
static const struct option_spec no_options[] = { { 0 } };

static const struct command {
	const char *name, *usage, *summary, *text;
	const struct option_spec *options;
	int (*run)(struct ctl *ctl);
} verbs[] = {
	{ "status", "[--watch [SECONDS]]", "show what is uploaded, what waits and why",
	  "Shows the caches, what is uploading, what waits and why, and each failure once, with what to do.\n"
	  "Without a daemon: what waits for it, and how to start it.",
	  status_options, ctl_status },
	{ "list", "[--state STATE] [--cache CACHE]", "list paths and their state on each cache",
	  "Lists one line for each path and cache.", list_options, ctl_list },
	{ "show", "PATH", "show one path on every cache", "Shows all that is known of one path.", no_options,
	  ctl_show },
	{ "push", "[PATH|LINK]... [--to CACHE]... [--stdin]", "upload paths with their closures",
	  "Uploads store paths, and what they refer to, and waits until they are on the caches. A link into "
	  "the\n"
	  "store, such as ./result, stands for the path it leads to.",
	  push_options, ctl_push },
	{ "wait", "[PATH...] [--tag TAG] [--timeout DURATION]", "wait until uploads are finished",
	  "Waits until paths are on the caches with their closures; paths not handed over yet are. With a "
	  "tag: for\n"
	  "what was handed over with it. With neither: for all that was accepted before. Ends with status 4 "
	  "as soon\n"
	  "as nothing that is left can go on by itself.",
	  wait_options, ctl_wait },
	{ "retry", "PATH... | --failed [--cache CACHE]...", "try again now",
	  "What failed, is blocked or waits for its next attempt is tried again at once.", select_options,
	  ctl_retry },
	{ "forget", "PATH... | --failed [--cache CACHE]...", "drop uploads without doing them",
	  "Drops what is unfinished, not what is uploading now. The paths lose their protection from "
	  "garbage\n"
	  "collection.",
	  select_options, ctl_forget },
	{ "pause", "CACHE... | --all [--for DURATION]", "upload nothing to a cache",
	  "Nothing more is begun for these caches until they are resumed, also after a restart. Paths are "
	  "still\n"
	  "accepted.",
	  pause_options, ctl_pause },
	{ "resume", "CACHE... | --all", "end a pause", "Ends a pause.", resume_options, ctl_resume },
	{ "config", "check [FILE] | show [FILE]", "check the configuration, or show it",
	  "check: says what is wrong with the configuration, and exits with 1 if something is.\n"
	  "show: prints every setting in effect: the daemon's, or without one, those that it would start "
	  "with.",
	  no_options, ctl_config },
};

/* ---- help ------------------------------------------------------------------------------------ */

static const struct command *find_verb(const char *name)
{
	for (size_t i = 0; i < N_ELEMENTS(verbs); i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

static const struct option_spec *find_options(const char *name)
{
	const struct command *verb = find_verb(name);

	return verb != NULL ? verb->options : NULL;
}

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
	for (size_t i = 0; i < N_ELEMENTS(verbs); i++)
		fprintf(file, "  %-8s  %s\n", verbs[i].name, verbs[i].summary);
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

	for (size_t i = 0; i < N_ELEMENTS(verbs); i++) {
		size_t d = distance(word, verbs[i].name);

		if (d < best) {
			best = d;
			nearest = verbs[i].name;
		}
	}
	return nearest;
}

static int bad_arguments(const struct ctl *ctl, const struct error *err)
{
	const char *verb = ctl->args.verb;
	const char *nearest = verb != NULL && find_verb(verb) == NULL ? nearest_verb(verb) : NULL;
	struct ctl general = { 0 };

	if (nearest != NULL)
		return ctl_usage(&general, "%s; did you mean \"%s\"?", err->text, nearest);
	return ctl_usage(verb != NULL && find_verb(verb) != NULL ? ctl : &general, "%s", err->text);
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	const struct command *verb;
	const char *socket;
	struct error err;

	if (args_parse(&ctl->args, argc, argv, find_options, &err) < 0)
		return bad_arguments(ctl, &err);
	if (args_has(&ctl->args, "version")) {
		puts("nncachectl " NNCACHE_VERSION);
		return CTL_DONE;
	}
	verb = ctl->args.verb != NULL ? find_verb(ctl->args.verb) : NULL;
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
