/* The screen of `status`, from top to bottom: what a person must know first comes first. */
#include <inttypes.h>
#include <string.h>

#include "common/clock.h"
#include "common/store_path.h"
#include "common/units.h"
#include "ctl/ctl.h"
#include "ctl/model.h"

#define BAR_COLUMNS   18
#define NAME_COLUMNS  32
#define NAME_NARROW   18 /* on a terminal of less than 110 columns */
#define UPLOADS_SHOWN 12
#define CAUSES_SHOWN  8

/* What a person calls a store path: its name, without store and hash. */
static const char *short_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *base = slash != NULL ? slash + 1 : path;

	return strlen(base) > STORE_HASH_LEN + 1 ? base + STORE_HASH_LEN + 1 : base;
}

static void put_head(struct output *o, const json_t *model)
{
	char uptime[UNITS_TEXT_SIZE];

	output_put(o, STYLE_BOLD, "nncached %s", model_get_text(model, "version"));
	output_put(o, STYLE_PLAIN, "   pid %" PRId64 "   up %s%s", model_get_int(model, "pid"),
	           units_format_seconds(model_get_int(model, "uptime_s"), uptime),
	           json_is_true(json_object_get(model, "user_mode")) ? "   user mode" : "");
	output_end_line(o);
}

/* What a person must do something about, each line of it. */
static void put_lines(struct output *o, enum style style, const char *head, const char *next_head,
                      const char *text)
{
	while (*text != '\0') {
		size_t n = strcspn(text, "\n");

		output_put(o, style, "%s%.*s", head, (int)n, text);
		output_end_line(o);
		head = next_head;
		text += n + (text[n] == '\n');
	}
}

static void put_warning(struct output *o, const char *head, const char *text)
{
	put_lines(o, STYLE_BAD, head, "  ", text);
}

static void put_warnings(struct output *o, const json_t *model)
{
	uint64_t n_bad = model_get_uint(model, "bad_spool_files"),
		 n_unprotected = model_get_uint(model, "unprotected");

	if (model_has(model, "stopping"))
		put_warning(o, "! stopping: ", model_get_text(model, "stopping"));
	if (model_has(model, "config_error")) {
		put_warning(o,
		            "! the configuration is not in effect: ", model_get_text(model, "config_error"));
		put_warning(o, "  ", "then: nncachectl config check");
	}
	if (model_has(model, "roots_message"))
		put_warning(o, "! not protected from garbage collection: ",
		            model_get_text(model, "roots_message"));
	if (model_has(model, "queue_message"))
		put_warning(o, "! ", model_get_text(model, "queue_message"));
	if (model_has(model, "spool_message"))
		put_warning(o, "! ", model_get_text(model, "spool_message"));
	if (n_bad > 0) {
		output_put(o, STYLE_BAD, "! %" PRIu64 " unreadable %s in the spool (*.bad)", n_bad,
		           n_bad == 1 ? "file" : "files");
		output_end_line(o);
	}
	if (n_unprotected > 0) {
		output_put(o, STYLE_WARN,
		           "! %" PRIu64 " unfinished %s no longer protected from garbage collection",
		           n_unprotected, n_unprotected == 1 ? "path is" : "paths are");
		output_end_line(o);
	}
}

/* Counts are of moments a little apart. */
static uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static void put_queue(struct output *o, const json_t *model)
{
	const json_t *queue = json_object_get(model, "queue");
	char age[UNITS_TEXT_SIZE], bytes[UNITS_TEXT_SIZE];
	uint64_t n_failed = model_get_uint(queue, "failed"), n_blocked = model_get_uint(queue, "blocked");
	uint64_t n_unfinished = model_get_uint(queue, "unfinished");

	if (n_unfinished == 0) {
		output_put(o, STYLE_GOOD, "Nothing is waiting.");
		output_end_line(o);
		return;
	}
	output_put(o, STYLE_PLAIN, "%" PRIu64 " waiting   %" PRIu64 " in flight",
	           minus(n_unfinished, n_failed + n_blocked + model_get_uint(queue, "in_flight")),
	           model_get_uint(queue, "in_flight"));
	if (n_failed + n_blocked > 0)
		output_put(o, STYLE_BAD, "   %" PRIu64 " failed   %" PRIu64 " blocked", n_failed, n_blocked);
	output_put(o, STYLE_PLAIN, "   oldest %s   pinned %" PRIu64 " paths, %s",
	           units_format_seconds(model_get_int(model, "oldest_age_s"), age),
	           model_get_uint(model, "pinned_paths"),
	           units_format_bytes(model_get_uint(model, "pinned_nar_bytes"), bytes));
	output_end_line(o);
}

/* ---- caches ---------------------------------------------------------------------------------- */

static enum style state_style(const char *state)
{
	if (strcmp(state, "ok") == 0)
		return STYLE_GOOD;
	if (strcmp(state, "error") == 0)
		return STYLE_BAD;
	return strcmp(state, "off") == 0 ? STYLE_DIM : STYLE_WARN;
}

static unsigned name_columns(const json_t *caches)
{
	size_t widest = strlen("CACHE"), i;
	json_t *cache;

	json_array_foreach(caches, i, cache)
	{
		size_t n = strlen(model_get_text(cache, "name"));

		if (n > widest)
			widest = n;
	}
	return (unsigned)(widest < 24 ? widest : 24);
}

static void put_count(struct output *o, enum style style, unsigned n_columns, uint64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, n);
	output_right(o, n > 0 ? style : STYLE_PLAIN, n_columns, text);
}

static void put_cache_notes(struct output *o, const json_t *cache, int64_t now_unix_s)
{
	const char *name = model_get_text(cache, "name");
	int64_t until = model_get_int(cache, "paused_until");
	char text[UNITS_TEXT_SIZE], utc[CLOCK_TEXT_SIZE];

	if (strcmp(model_get_text(cache, "state"), "paused") == 0) {
		if (until != 0)
			output_put(o, STYLE_WARN, "  paused until %s, in %s; ", clock_format_utc(until, utc),
			           units_format_seconds(until - now_unix_s, text));
		else
			output_put(o, STYLE_WARN, "  paused; ");
		output_put(o, STYLE_PLAIN, "to go on: nncachectl resume %s", name);
		output_end_line(o);
	}
	if (model_has(cache, "message"))
		put_warning(o, "  ", model_get_text(cache, "message"));
	put_lines(o, STYLE_WARN, "  note: ", "  note: ", model_get_text(cache, "note"));
	if (model_get_int(cache, "since") != 0) {
		int64_t next_try = model_get_int(cache, "next_try");

		output_put(o, STYLE_WARN, "  since %s; next try ",
		           clock_format_utc(model_get_int(cache, "since"), utc));
		if (next_try > now_unix_s)
			output_put(o, STYLE_WARN, "in %s", units_format_seconds(next_try - now_unix_s, text));
		else
			output_put(o, STYLE_WARN, "now");
		output_put(o, STYLE_PLAIN, "; to try at once: nncachectl retry --failed --cache %s", name);
		output_end_line(o);
	}
}

static void put_cache(struct output *o, const json_t *cache, unsigned n_name, int64_t now_unix_s)
{
	const char *state = model_get_text(cache, "state");
	uint64_t n_stuck = model_get_uint(cache, "failed") + model_get_uint(cache, "blocked");
	uint64_t n_in_flight = model_get_uint(cache, "in_flight"), rate = model_get_uint(cache, "rate_bytes");
	uint64_t n_waiting = minus(model_get_uint(cache, "unfinished"), n_stuck + n_in_flight);
	char text[UNITS_TEXT_SIZE];

	output_left(o, STYLE_BOLD, n_name, model_get_text(cache, "name"));
	output_put(o, STYLE_PLAIN, "  ");
	output_left(o, state_style(state), 7, state);
	put_count(o, STYLE_PLAIN, 10, n_waiting);
	put_count(o, STYLE_PLAIN, 10, n_in_flight);
	put_count(o, STYLE_BAD, 8, n_stuck);
	put_count(o, STYLE_PLAIN, 10, model_get_uint(cache, "uploaded_paths"));
	output_right(o, STYLE_PLAIN, 10, units_format_bytes(model_get_uint(cache, "uploaded_bytes"), text));
	put_count(o, STYLE_PLAIN, 9, model_get_uint(cache, "skipped_paths"));
	if (rate > 0)
		output_put(o, STYLE_PLAIN, "  %s/s", units_format_bytes(rate, text));
	output_end_line(o);
	put_cache_notes(o, cache, now_unix_s);
}

static void put_caches(struct output *o, const json_t *model, int64_t now_unix_s)
{
	const json_t *caches = json_object_get(model, "caches");
	unsigned n_name = name_columns(caches);
	json_t *cache;
	size_t i;

	output_end_line(o);
	if (json_array_size(caches) == 0) {
		output_put(o, STYLE_WARN, "No cache is configured; see nncache.conf(5).");
		output_end_line(o);
		return;
	}
	output_left(o, STYLE_DIM, n_name, "CACHE");
	output_put(o, STYLE_DIM,
	           "  STATE     WAITING IN FLIGHT  FAILED  UPLOADED               SKIPPED  RATE");
	output_end_line(o);
	json_array_foreach(caches, i, cache) put_cache(o, cache, n_name, now_unix_s);
}

/* ---- what goes on, what waits, what failed --------------------------------------------------- */

static void put_upload(struct output *o, const json_t *upload, int64_t now_unix_s)
{
	uint64_t n = model_get_uint(upload, "nar_bytes"), n_done = model_get_uint(upload, "done_bytes");
	char bar[BAR_COLUMNS + 1], done[UNITS_TEXT_SIZE], whole[UNITS_TEXT_SIZE], age[UNITS_TEXT_SIZE];

	output_bar(bar, BAR_COLUMNS, n_done, n > 0 ? n : 1);
	output_put(o, STYLE_PLAIN, "  ");
	output_left(o, STYLE_PLAIN, o->width == 0 || o->width >= 110 ? NAME_COLUMNS : NAME_NARROW,
	            short_name(model_get_text(upload, "path")));
	output_put(o, STYLE_PLAIN, " %-10s ", model_get_text(upload, "step"));
	output_put(o, STYLE_GOOD, "%s", bar);
	output_put(o, STYLE_PLAIN, " %3u%%  %s of %s  %s  to %s",
	           n == 0 || n_done >= n ? (n == 0 ? 0U : 100U)
	                                 : (unsigned)(100 * ((double)n_done / (double)n)),
	           units_format_bytes(n_done < n ? n_done : n, done), units_format_bytes(n, whole),
	           units_format_seconds(now_unix_s - model_get_int(upload, "started"), age),
	           model_get_text(upload, "cache"));
	output_end_line(o);
}

static void put_uploads(struct output *o, const json_t *model, int64_t now_unix_s)
{
	const json_t *uploads = json_object_get(model, "uploads");
	uint64_t n_in_flight = model_get_uint(json_object_get(model, "queue"), "in_flight");
	json_t *upload;
	size_t i;

	if (json_array_size(uploads) == 0)
		return;
	output_end_line(o);
	output_put(o, STYLE_BOLD, "Uploading");
	output_end_line(o);
	json_array_foreach(uploads, i, upload)
	{
		if (i == UPLOADS_SHOWN)
			break;
		put_upload(o, upload, now_unix_s);
	}
	if (n_in_flight > i) {
		output_put(o, STYLE_DIM, "  and %" PRIu64 " more", n_in_flight - i);
		output_end_line(o);
	}
}

static const char *place_of(const json_t *cause)
{
	return model_has(cause, "cache") ? model_get_text(cause, "cache") : "the way to a cache";
}

static void put_cause(struct output *o, const json_t *cause, int64_t now_unix_s)
{
	const char *state = model_get_text(cause, "state");
	bool is_stuck = strcmp(state, "failed") == 0 || strcmp(state, "blocked") == 0;
	int64_t due = model_get_int(cause, "due");
	char text[UNITS_TEXT_SIZE];

	output_put(o, is_stuck ? STYLE_BAD : STYLE_WARN, "  %" PRIu64 " %s on %s",
	           model_get_uint(cause, "jobs"), state, place_of(cause));
	if (due > 0 && strcmp(state, "delayed") == 0)
		output_put(o, STYLE_PLAIN, ", next try in %s", units_format_seconds(due - now_unix_s, text));
	output_put(o, STYLE_PLAIN, ": %s", model_get_text(cause, "text"));
	output_end_line(o);
	if (model_has(cause, "path")) {
		output_put(o, STYLE_DIM, "    %s%s", model_get_uint(cause, "jobs") > 1 ? "such as " : "",
		           model_get_text(cause, "path"));
		output_end_line(o);
	}
}

static void put_next_step(struct output *o, const json_t *cause)
{
	const char *state = model_get_text(cause, "state");

	if (strcmp(state, "paused") == 0) {
		output_put(o, STYLE_PLAIN, "    then: nncachectl resume %s", model_get_text(cause, "cache"));
		output_end_line(o);
	}
	if (strcmp(state, "failed") != 0)
		return;
	output_put(o, STYLE_PLAIN, "    then: nncachectl retry --failed");
	if (model_has(cause, "cache"))
		output_put(o, STYLE_PLAIN, " --cache %s", model_get_text(cause, "cache"));
	output_put(o, STYLE_PLAIN, "   or: nncachectl forget %s", model_get_text(cause, "path"));
	output_end_line(o);
}

void screen_causes(struct output *o, const json_t *causes, const char *states, int64_t now_unix_s)
{
	unsigned n_shown = 0, n_left = 0;
	json_t *cause;
	size_t i;

	json_array_foreach(causes, i, cause)
	{
		if (strstr(states, model_get_text(cause, "state")) == NULL)
			continue;
		if (n_shown == CAUSES_SHOWN) {
			n_left++;
			continue;
		}
		n_shown++;
		put_cause(o, cause, now_unix_s);
		put_next_step(o, cause);
	}
	if (n_left > 0) {
		output_put(o, STYLE_DIM, "  and %u more; nncachectl list shows all", n_left);
		output_end_line(o);
	}
}

static bool has_cause(const json_t *causes, const char *states)
{
	json_t *cause;
	size_t i;

	json_array_foreach(causes, i,
	                   cause) if (strstr(states, model_get_text(cause, "state")) != NULL) return true;
	return false;
}

static void put_waiting(struct output *o, const json_t *model, int64_t now_unix_s)
{
	const json_t *queue = json_object_get(model, "queue"), *causes = json_object_get(model, "causes");
	uint64_t n_resolving = model_get_uint(queue, "resolving"), n_sent = model_get_uint(queue, "sent");

	if (n_resolving + n_sent == 0 && !has_cause(causes, "delayed"))
		return;
	output_end_line(o);
	output_put(o, STYLE_BOLD, "Waiting");
	output_end_line(o);
	if (n_resolving > 0) {
		output_put(o, STYLE_PLAIN, "  %" PRIu64 " to be looked up in the store", n_resolving);
		output_end_line(o);
	}
	if (n_sent > 0) {
		output_put(o, STYLE_PLAIN, "  %" PRIu64 " sent, shown once all they refer to is there",
		           n_sent);
		output_end_line(o);
	}
	screen_causes(o, causes, "delayed", now_unix_s);
}

static void put_failures(struct output *o, const json_t *model, int64_t now_unix_s)
{
	const json_t *causes = json_object_get(model, "causes");

	if (!has_cause(causes, "failed blocked"))
		return;
	output_end_line(o);
	output_put(o, STYLE_BOLD, "Failed");
	output_end_line(o);
	screen_causes(o, causes, "failed blocked", now_unix_s);
}

void screen_show(struct output *o, const json_t *model, int64_t now_unix_s)
{
	put_head(o, model);
	put_warnings(o, model);
	put_queue(o, model);
	put_caches(o, model, now_unix_s);
	put_uploads(o, model, now_unix_s);
	put_waiting(o, model, now_unix_s);
	put_failures(o, model, now_unix_s);
}
