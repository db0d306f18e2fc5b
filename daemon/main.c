/* nncached: arguments and the configuration; the rest is daemon.c. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "daemon/config/config.h"
#include "daemon/daemon.h"
#include "daemon/doctor.h"
#include "daemon/show_cache.h"
#include "daemon/store/trust.h"

#define EXIT_USAGE 2

enum mode { MODE_RUN, MODE_CHECK, MODE_DUMP, MODE_TRUST, MODE_SHOW_CACHE, MODE_DOCTOR };

struct arguments {
	enum mode mode;
	const char *config_file, *scratch_dir, *shown_cache;
	bool no_files;
	bool is_system;
	enum log_level log_level; /* 0: as the configuration says */
};

static const char usage[] =
	"Usage: nncached [--system] [--config FILE] [--scratch DIR] [--log-level LEVEL]\n"
	"       nncached --check-config [--no-files] [--system] [--config FILE]\n"
	"       nncached --dump-config [--system] [--config FILE]\n"
	"       nncached --nix-trust\n"
	"       nncached --show-cache NAME [--config FILE]\n"
	"       nncached --doctor [--system] [--config FILE]\n"
	"\n"
	"Uploads finished store paths to binary caches. Runs in the foreground until SIGTERM;\n"
	"SIGHUP loads the configuration anew.\n"
	"\n"
	"  --config FILE      read FILE instead of the default places (see nncache.conf(5))\n"
	"  --system           use the places of the system, as root does without it\n"
	"  --scratch DIR      keep everything in DIR: socket, state, spool, roots\n"
	"  --log-level LEVEL  error, warning, info (default) or debug\n"
	"  --foreground       stay in the foreground (always so)\n"
	"  --check-config     check the configuration and the files it names, then exit\n"
	"  --no-files         with --check-config: do not look at the files it names\n"
	"  --dump-config      print every setting in effect, then exit\n"
	"  --nix-trust        say whether Nix takes a post-build-hook from this user, then exit\n"
	"  --show-cache NAME  ask this cache what its readers need, and print that, then exit\n"
	"  --doctor           ask the caches and look at this machine, for nncachectl doctor, then exit\n"
	"  --version          print the version\n"
	"  --help             print this\n"
	"\n"
	"Exit status: 0 fine, 1 failed, 2 usage.\n";

static int parse_level(const char *text, enum log_level *ret)
{
	static const struct {
		const char *name;
		enum log_level level;
	} levels[] = {
		{ "error", LOG_LEVEL_ERROR },
		{ "warning", LOG_LEVEL_WARNING },
		{ "info", LOG_LEVEL_INFO },
		{ "debug", LOG_LEVEL_DEBUG },
	};

	for (size_t i = 0; i < N_ELEMENTS(levels); i++)
		if (strcmp(text, levels[i].name) == 0) {
			*ret = levels[i].level;
			return 0;
		}
	fprintf(stderr,
	        "nncached: --log-level: \"%s\" is not a level; expected error, warning, info or debug\n",
	        text);
	return -1;
}

static int take_scratch_dir(const char *dir, struct arguments *args)
{
	if (*dir != '/') {
		fprintf(stderr, "nncached: --scratch: \"%s\" is not an absolute path\n", dir);
		return -1;
	}
	args->scratch_dir = dir;
	return 0;
}

/* Returns -1 to go on, else the exit status. */
static int parse_arguments(int argc, char **argv, struct arguments *args)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "system", no_argument, NULL, 's' },
		{ "scratch", required_argument, NULL, 't' },
		{ "log-level", required_argument, NULL, 'l' },
		{ "foreground", no_argument, NULL, 'f' },
		{ "check-config", no_argument, NULL, 'k' },
		{ "no-files", no_argument, NULL, 'n' },
		{ "dump-config", no_argument, NULL, 'd' },
		{ "show-cache", required_argument, NULL, 'w' },
		{ "doctor", no_argument, NULL, 'o' },
		{ "nix-trust", no_argument, NULL, 'T' },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 'c':
			args->config_file = optarg;
			break;
		case 's':
			args->is_system = true;
			break;
		case 't':
			if (take_scratch_dir(optarg, args) < 0)
				return EXIT_USAGE;
			break;
		case 'l':
			if (parse_level(optarg, &args->log_level) < 0)
				return EXIT_USAGE;
			break;
		case 'f':
			break;
		case 'k':
			args->mode = MODE_CHECK;
			break;
		case 'n':
			args->no_files = true;
			break;
		case 'd':
			args->mode = MODE_DUMP;
			break;
		case 'T':
			args->mode = MODE_TRUST;
			break;
		case 'w':
			args->mode = MODE_SHOW_CACHE;
			args->shown_cache = optarg;
			break;
		case 'o':
			args->mode = MODE_DOCTOR;
			break;
		case 'v':
			puts("nncached " NNCACHE_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			fputs(usage, stdout);
			return EXIT_SUCCESS;
		default:
			fputs("Try 'nncached --help'.\n", stderr);
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "nncached: \"%s\" is not expected here\nTry 'nncached --help'.\n",
		        argv[optind]);
		return EXIT_USAGE;
	}
	return -1;
}

static int check(struct config *config, const struct buf *messages)
{
	struct buf warnings;

	if (config == NULL || messages->len > 0) {
		fputs(buf_text(messages), stderr);
		return config == NULL ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	buf_init(&warnings, KIB(64));
	config_format_warnings(config, &warnings);
	fputs(buf_text(&warnings), stderr);
	buf_fini(&warnings);
	puts("The configuration is fine.");
	return EXIT_SUCCESS;
}

static int show(const struct config *config, const struct buf *messages, const char *name)
{
	if (config != NULL)
		return show_cache(config, name);
	fputs(buf_text(messages), stderr);
	return EXIT_FAILURE;
}

static int dump(const struct config *config, const struct buf *messages)
{
	struct buf out;

	if (config == NULL) {
		fputs(buf_text(messages), stderr);
		return EXIT_FAILURE;
	}
	buf_init(&out, MIB(4));
	config_format(config, &out);
	fputs(buf_text(&out), stdout);
	buf_fini(&out);
	return EXIT_SUCCESS;
}

/* A line each, as they are written for a terminal. */
static void log_messages(const char *messages)
{
	while (*messages != '\0') {
		int n = (int)strcspn(messages, "\n");

		log_error("configuration: %.*s", n, messages);
		messages += n + (messages[n] == '\n');
	}
}

/* Of the store that Nix commands in this environment build in. */
static int tell_trust(void)
{
	enum trust trust;
	struct error err;

	if (trust_find(&trust, "auto", &err) < 0)
		fprintf(stderr, "nncached: %s\n", err.text);
	puts(trust_name(trust));
	return EXIT_SUCCESS;
}

/* With a broken configuration paths are still taken in, as a mail server does not refuse mail because
 * a transport is misspelt. */
static int run(struct config *config, const struct buf *messages, const struct config_places *places)
{
	bool is_broken = config == NULL;

	if (is_broken) {
		log_messages(buf_text(messages));
		config = config_salvage(places);
	}
	if (config == NULL) {
		log_error("cannot start: out of memory");
		return EXIT_FAILURE;
	}
	return daemon_run(config, is_broken ? buf_text(messages) : NULL, places);
}

int main(int argc, char **argv)
{
	struct arguments args = { 0 };
	int status = parse_arguments(argc, argv, &args);
	struct config *config = NULL;
	struct config_places places;
	struct buf messages;

	if (status >= 0)
		return status;
	if (args.mode == MODE_TRUST)
		return tell_trust();
	places = (struct config_places){
		.user_mode = geteuid() != 0 && !args.is_system,
		.config_file = args.config_file,
		.scratch_dir = args.scratch_dir,
		.credentials_dir = getenv("CREDENTIALS_DIRECTORY"),
	};
	places.log_level = args.log_level;
	log_init(LOG_LEVEL_INFO, !isatty(STDERR_FILENO));
	if (args.mode == MODE_DOCTOR)
		return doctor_run(&places);
	buf_init(&messages, MIB(1));
	if (config_load(&config, &places, args.mode == MODE_RUN || !args.no_files, &messages) < 0)
		config = NULL;
	switch (args.mode) {
	case MODE_CHECK:
		status = check(config, &messages);
		config_free(config);
		break;
	case MODE_DUMP:
		status = dump(config, &messages);
		config_free(config);
		break;
	case MODE_SHOW_CACHE:
		status = show(config, &messages, args.shown_cache);
		config_free(config);
		break;
	case MODE_TRUST:
	case MODE_DOCTOR:
		break;
	case MODE_RUN:
		status = run(config, &messages, &places);
		break;
	}
	buf_fini(&messages);
	return status;
}
