#include "ctl/commands.h"

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
static const struct option_spec metrics_options[] = {
	{ "output", "FILE", "write FILE, in one step, instead of standard output", false },
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
static const struct option_spec catch_up_options[] = {
	{ "since", "DURATION", "built no longer ago than this: 90s 5m 2h 1d 1w (default)", false },
	{ "to", "CACHE", "only to this cache; may be given more than once", false },
	{ "dry-run", NULL, "only list them", false },
	{ "yes", NULL, "do not ask", false },
	{ 0 },
};
static const struct option_spec wait_options[] = {
	{ "tag", "TAG", "wait for what was handed over with this tag", false },
	{ "timeout", "DURATION", "give up after this time: 90s 5m 2h 1d 1w", false },
	{ 0 },
};
static const struct option_spec setup_options[] = {
	{ "dry-run", NULL, "show what would change, and change nothing", false },
	{ "yes", NULL, "restart nix-daemon without a question", false },
	{ 0 },
};
static const struct option_spec use_options[] = {
	{ "public-key", "NAME:BASE64", "a key that signs its paths; may be given more than once", false },
	{ "token-file", "FILE", "what a private cache wants: a token, or USER:PASSWORD", false },
	{ "endpoint", "URL", "for cachix:// and attic://: the server, where it is not the usual one", false },
	{ "dry-run", NULL, "show what would change, and change nothing", false },
	{ "yes", NULL, "restart nix-daemon without a question", false },
	{ 0 },
};
static const struct option_spec job_options[] = {
	{ "cache", "URL", "upload there; may be given more than once", false },
	{ "config", "FILE", "upload as this nncache.conf says, instead of --cache", false },
	{ "exclude-roots", "RE", "do not upload built paths that match; may be given more than once", false },
	{ "also", "PATH", "upload this too; may be given more than once", false },
	{ "no-push", NULL, "upload nothing", false },
	{ "drain-timeout", "DURATION", "how long to wait for uploads at the end (30m)", false },
	{ "best-effort", NULL, "uploads that fail are said, and fail nothing", false },
	{ 0 },
};
static const struct option_spec doctor_options[] = {
	{ "config", "FILE", "the configuration of nncached to look at, instead of the default places",
	  false },
	{ "verbose", NULL, "say more, also of what is well", false },
	{ 0 },
};
static const struct option_spec verify_options[] = {
	{ "repair", NULL, "upload again what can be mended by that", false },
	{ "deep", NULL, "read, unpack and hash every NAR", false },
	{ 0 },
};
static const struct option_spec no_options[] = { { 0 } };

const struct command commands[] = {
	{ "status", "[--watch [SECONDS]]", "show what is uploaded, what waits and why",
	  "Shows the caches, what is uploading, what waits and why, and each failure once, with what to do.\n"
	  "Without a daemon: what waits for it, and how to start it.",
	  status_options, ctl_status },
	{ "metrics", "[--output FILE]", "print what Prometheus wants to know",
	  "Prints counters and states in Prometheus' text format, or writes them to a FILE that "
	  "node_exporter's\n"
	  "textfile collector reads. Without a daemon nncache_up is 0, and the exit status 3.",
	  metrics_options, ctl_metrics },
	{ "list", "[--state STATE] [--cache CACHE]", "list paths and their state on each cache",
	  "Lists one line for each path and cache.", list_options, ctl_list },
	{ "show", "PATH", "show one path on every cache", "Shows all that is known of one path.", no_options,
	  ctl_show },
	{ "push", "[PATH|LINK]... [--to CACHE]... [--stdin]", "upload paths with their closures",
	  "Uploads store paths, and what they refer to, and waits until they are on the caches. A link into "
	  "the\n"
	  "store, such as ./result, stands for the path it leads to.",
	  push_options, ctl_push },
	{ "catch-up", "[--since DURATION] [--to CACHE]... [--dry-run] [--yes]",
	  "find what was built and never reported",
	  "Lists the paths that were built here and that no hook handed over, asks, and hands them over. "
	  "Without\n"
	  "a terminal it only lists, unless --yes is given.",
	  catch_up_options, ctl_catch_up },
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
	{ "verify", "CACHE [--repair] [--deep]", "look whether a cache has what it should",
	  "Asks a cache for all that is believed to be on it: narinfo, signature, the NAR it names, and what "
	  "it\n"
	  "refers to. Ends with status 4 if something is wrong, and stays so.",
	  verify_options, ctl_verify },
	{ "config", "check [FILE] | show [FILE]", "check the configuration, or show it",
	  "check: says what is wrong with the configuration, and exits with 1 if something is.\n"
	  "show: prints every setting in effect: the daemon's, or without one, those that it would start "
	  "with.",
	  no_options, ctl_config },
	{ "hook", "enable | disable | status [--dry-run] [--yes]",
	  "make it Nix's post-build-hook, or end that",
	  "enable: puts the line into nix.conf that has Nix hand over what it builds, and restarts "
	  "nix-daemon.\n"
	  "disable: takes it out. status: is it there, and in effect? Exits with 1 if not.\n"
	  "Another hook is never replaced: then a script is printed that calls both.",
	  setup_options, ctl_hook },
	{ "use", "CACHE [--public-key NAME:BASE64]... [--token-file FILE]",
	  "have Nix on this machine read a cache",
	  "Puts a cache into nix.conf as one that Nix reads, with its keys. CACHE is https://HOST/PATH, "
	  "cachix://NAME,\n"
	  "attic://HOST/NAME, file:///DIR, or s3://BUCKET with the parameters that Nix has for it. For root: "
	  "the\n"
	  "system's nix.conf; for a user whom Nix trusts: that user's. Needs no daemon and no nncache.conf.",
	  use_options, ctl_use },
	{ "doctor", "[--config FILE] [--verbose]", "find out what is wrong, and what mends it",
	  "Looks at Nix, at nncached, at the machine and at each cache, as it is pushed to and as it is "
	  "read: says what\n"
	  "is not as it should be, why that matters and what mends it. Changes nothing. Ends with 1 if there "
	  "is any.",
	  doctor_options, ctl_doctor },
	{ "run", "[--cache URL]... [OPTION]... -- COMMAND", "run a command and upload what it builds",
	  "Runs COMMAND with a hook and an nncached of its own, for CI: what it builds is uploaded while it "
	  "goes on.\n"
	  "Then waits until all is there, and ends with COMMAND's status; with 125 if that was 0 and not all "
	  "could be\n"
	  "uploaded, or if nothing could be begun.",
	  job_options, ctl_run },
	{ "session", "start [--cache URL]... [OPTION]... | stop", "the same for a job of several steps",
	  "start: begins what run does, and puts the variables that the steps need into $GITHUB_ENV, or else "
	  "prints\n"
	  "them as exports: eval \"$(nncachectl session start --cache URL)\".\n"
	  "stop: waits until all is uploaded, and says what was; ends with 4 if not all was, with 5 after a "
	  "time-out.",
	  job_options, ctl_session },
	{ 0 },
};

const struct command *commands_find(const char *name)
{
	for (const struct command *verb = commands; verb->name != NULL; verb++)
		if (strcmp(verb->name, name) == 0)
			return verb;
	return NULL;
}

const struct option_spec *commands_find_options(const char *name)
{
	const struct command *verb = commands_find(name);

	return verb != NULL ? verb->options : NULL;
}
