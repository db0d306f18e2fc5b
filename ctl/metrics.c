/* metrics: what status knows, as Prometheus reads it (text format 0.0.4). Without a daemon there is what can
 * be counted without it, and nncache_up says 0: a collector must not go on showing what was.
 *
 * A file is written beside its place and renamed, so that no collector sees half of it. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "ctl/ctl.h"
#include "ctl/model.h"

#define METRICS_MAX_BYTES MIB(1)

enum source {
	SOURCE_NUMBER,
	SOURCE_ABSENT,  /* 1: there is no such text */
	SOURCE_PRESENT, /* 1: there is one */
};

struct metric {
	const char *name, *type, *help;
	const char *key; /* of the model */
	enum source source;
};

/* Of the whole; one whose key the model has not is left out. */
static const struct metric of_daemon[] = {
	{ "start_time_seconds", "gauge", "Since when the daemon runs, in Unix time.", "started",
	  SOURCE_NUMBER },
	{ "uptime_seconds", "gauge", "How long the daemon has run.", "uptime_s", SOURCE_NUMBER },
	{ "config_valid", "gauge",
	  "Whether the configuration is sound; if not, the old one is in effect, or none.", "config_error",
	  SOURCE_ABSENT },
	{ "queue_writable", "gauge",
	  "Whether the queue could be written, and is not one made for a damaged one.", "queue_message",
	  SOURCE_ABSENT },
	{ "gc_roots_writable", "gauge", "Whether queued paths can be protected from garbage collection.",
	  "roots_message", SOURCE_ABSENT },
	{ "stopping", "gauge", "Whether the daemon stops once what can go has gone.", "stopping",
	  SOURCE_PRESENT },
	{ "requests_total", "counter", "Hand-overs of hooks and of people.", "requests", SOURCE_NUMBER },
	{ "spool_files", "gauge", "Hand-overs that wait in the spool for the daemon.", "spool_files",
	  SOURCE_NUMBER },
	{ "spool_bad_files", "gauge", "Spool files that were set aside, for a person to look at.",
	  "bad_spool_files", SOURCE_NUMBER },
	{ "oldest_unfinished_age_seconds", "gauge", "How long the oldest unfinished hand-over has waited.",
	  "oldest_age_s", SOURCE_NUMBER },
	{ "gc_roots", "gauge", "Store paths protected from garbage collection until they are uploaded.",
	  "pinned_paths", SOURCE_NUMBER },
	{ "gc_roots_nar_bytes", "gauge", "The size of their NARs.", "pinned_nar_bytes", SOURCE_NUMBER },
	{ "unprotected_paths", "gauge", "Unfinished store paths that garbage collection may take.",
	  "unprotected", SOURCE_NUMBER },
	{ 0 },
};

static const struct metric of_queue[] = {
	{ "resolving_paths", "gauge", "Store paths handed over whose closures are not known yet.",
	  "resolving", SOURCE_NUMBER },
	{ "unfinished", "gauge", "Jobs and store paths that are not done, failed ones too.", "unfinished",
	  SOURCE_NUMBER },
	{ 0 },
};

static const struct metric of_cache[] = {
	{ "uploaded_paths_total", "counter", "Store paths uploaded.", "uploaded_paths", SOURCE_NUMBER },
	{ "uploaded_bytes_total", "counter", "Bytes of NARs uploaded, as they were sent.", "uploaded_bytes",
	  SOURCE_NUMBER },
	{ "failed_paths_total", "counter", "Times that an upload was given up.", "failed_paths",
	  SOURCE_NUMBER },
	{ "cache_uploads_max", "gauge", "How many uploads the cache gets at a time, as it bears.", "pace",
	  SOURCE_NUMBER },
	{ "cache_outage_start_time_seconds", "gauge", "Since when the cache does not work; 0: it does.",
	  "since", SOURCE_NUMBER },
	{ "cache_next_try_time_seconds", "gauge",
	  "When a cache that does not work is tried again; 0: it works.", "next_try", SOURCE_NUMBER },
	{ 0 },
};

/* One series for each of a few words. */
struct word_metric {
	const char *name, *type, *help, *label;
	struct word {
		const char *word, *key; /* key NULL: 1 if the cache's value of VALUE_OF is the word */
	} words[8];
	const char *value_of;
};

static const struct word_metric words_of_cache[] = {
	{ "jobs",
	  "gauge",
	  "Jobs by state: a store path on a cache is one.",
	  "state",
	  { { "ready", "ready" },
	    { "delayed", "delayed" },
	    { "in_flight", "in_flight" },
	    { "sent", "sent" },
	    { "blocked", "blocked" },
	    { "failed", "failed" },
	    { "done", "done" } },
	  NULL },
	{ "skipped_paths_total",
	  "counter",
	  "Store paths that needed no upload, by reason.",
	  "reason",
	  { { "present", "present_paths" },
	    { "in_upstream", "in_upstream_paths" },
	    { "withheld", "withheld_paths" } },
	  NULL },
	{ "cache_state",
	  "gauge",
	  "1 for the state in which the cache is.",
	  "state",
	  { { "ok", NULL }, { "paused", NULL }, { "waiting", NULL }, { "off", NULL }, { "error", NULL } },
	  "state" },
	{ "cache_outage",
	  "gauge",
	  "1 for what is needed by a cache that does not work.",
	  "kind",
	  { { "transient", NULL }, { "operator", NULL }, { "permanent", NULL } },
	  "message_kind" },
};

/* ---- the text -------------------------------------------------------------------------------- */

static void put_head(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP nncache_%s %s\n# TYPE nncache_%s %s\n", name, help, name, type);
}

/* NAME="VALUE", where control characters are shown as \xNN. */
static void put_label(struct buf *out, const char *name, const char *value)
{
	CLEANUP(buf_fini) struct buf plain = { .max = KIB(64) };

	output_escape(&plain, value);
	buf_printf(out, "%s=\"", name);
	for (const char *p = buf_text(&plain); *p != '\0'; p++) {
		if (*p == '\\' || *p == '"')
			buf_putc(out, '\\');
		buf_putc(out, *p);
	}
	buf_putc(out, '"');
}

static int64_t value_of(const json_t *object, const struct metric *metric)
{
	switch (metric->source) {
	case SOURCE_NUMBER:
		return model_get_int(object, metric->key);
	case SOURCE_ABSENT:
		return !model_has(object, metric->key);
	case SOURCE_PRESENT:
		return model_has(object, metric->key);
	}
	return 0;
}

static void put_whole(struct buf *out, const struct metric *metric, const json_t *object)
{
	for (; metric->name != NULL; metric++) {
		if (json_object_get(object, metric->key) == NULL)
			continue;
		put_head(out, metric->name, metric->type, metric->help);
		buf_printf(out, "nncache_%s %" PRId64 "\n", metric->name, value_of(object, metric));
	}
}

static void put_caches(struct buf *out, const struct metric *metric, const json_t *caches)
{
	const json_t *cache;
	size_t i;

	put_head(out, metric->name, metric->type, metric->help);
	json_array_foreach(caches, i, cache)
	{
		buf_printf(out, "nncache_%s{", metric->name);
		put_label(out, "cache", model_get_text(cache, "name"));
		buf_printf(out, "} %" PRId64 "\n", value_of(cache, metric));
	}
}

static void put_words(struct buf *out, const struct word_metric *metric, const json_t *cache)
{
	for (const struct word *word = metric->words; word->word != NULL; word++) {
		bool is_word =
			word->key == NULL && strcmp(model_get_text(cache, metric->value_of), word->word) == 0;

		buf_printf(out, "nncache_%s{", metric->name);
		put_label(out, "cache", model_get_text(cache, "name"));
		buf_putc(out, ',');
		put_label(out, metric->label, word->word);
		buf_printf(out, "} %" PRId64 "\n",
		           word->key != NULL ? model_get_int(cache, word->key) : (int64_t)is_word);
	}
}

void metrics_format(struct buf *out, const json_t *model)
{
	const json_t *caches = json_object_get(model, "caches"), *cache;
	bool is_up = json_is_true(json_object_get(model, "running"));
	size_t i;

	put_head(out, "up", "gauge", "Whether the daemon answers.");
	buf_printf(out, "nncache_up %d\n", is_up);
	if (is_up) {
		put_head(out, "build_info", "gauge", "The version that runs.");
		buf_puts(out, "nncache_build_info{");
		put_label(out, "version", model_get_text(model, "version"));
		buf_puts(out, "} 1\n");
	}
	put_whole(out, of_daemon, model);
	put_whole(out, of_queue, json_object_get(model, "queue"));
	if (json_array_size(caches) == 0)
		return;
	for (const struct metric *metric = of_cache; metric->name != NULL; metric++)
		put_caches(out, metric, caches);
	for (size_t m = 0; m < N_ELEMENTS(words_of_cache); m++) {
		put_head(out, words_of_cache[m].name, words_of_cache[m].type, words_of_cache[m].help);
		json_array_foreach(caches, i, cache) put_words(out, &words_of_cache[m], cache);
	}
}

/* ---- where it goes --------------------------------------------------------------------------- */

static int write_temporary(char *temporary, const char *path, const struct buf *text)
{
	CLEANUP(close_fd) int fd = mkstemp(temporary);

	if (fd < 0 || write_full(fd, text->data, text->len) < 0 || fchmod(fd, 0644) < 0 ||
	    rename(temporary, path) < 0) {
		int saved_errno = errno;

		if (fd >= 0)
			unlink(temporary);
		errno = saved_errno;
		return -1;
	}
	return 0;
}

/* The collector reads *.prom: the temporary file is none. */
static int write_output(const char *path, const struct buf *text)
{
	CLEANUP(buf_fini) struct buf temporary = { .max = 4096 };

	buf_printf(&temporary, "%s.XXXXXX", path);
	if (!buf_ok(&temporary)) {
		ctl_say("%.100s...: the name is too long", path);
		return CTL_FAILED;
	}
	if (write_temporary(temporary.data, path, text) < 0) {
		ctl_say("%s: %s", path, strerror(errno));
		return CTL_FAILED;
	}
	return CTL_DONE;
}

static int write_stdout(const struct buf *text)
{
	if (fwrite(text->data, 1, text->len, stdout) == text->len && fflush(stdout) == 0)
		return CTL_DONE;
	ctl_say("standard output: %s", strerror(errno));
	return CTL_FAILED;
}

/* A spool that this user may not read is not an empty one. */
static void forget_unreadable(json_t *model)
{
	static const char *const keys[] = { "spool_files", "bad_spool_files", "oldest_age_s" };

	for (size_t i = 0; i < N_ELEMENTS(keys) && model_has(model, "spool_error"); i++)
		json_object_del(model, keys[i]);
}

int ctl_metrics(struct ctl *ctl)
{
	CLEANUP(buf_fini) struct buf text = { .max = METRICS_MAX_BYTES };
	const char *path = args_get(&ctl->args, "output");
	json_t *model;
	int status, written;

	if (ctl->args.n_operands > 0)
		return ctl_usage(ctl, "metrics takes no \"%s\"", ctl->args.operands[0]);
	if (ctl->json)
		return ctl_usage(ctl, "metrics has a format of its own; for JSON there is status --json");
	status = status_fetch(ctl, &model);
	forget_unreadable(model);
	metrics_format(&text, model);
	if (model != NULL && model_has(model, "error"))
		ctl_say("cannot reach nncached at %s", model_get_text(model, "error"));
	json_decref(model);
	if (!buf_ok(&text)) {
		ctl_say("the metrics do not fit the memory for them");
		return CTL_FAILED;
	}
	written = path != NULL ? write_output(path, &text) : write_stdout(&text);
	return written != CTL_DONE ? written : status;
}
