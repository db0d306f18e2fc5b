/* What a job uploaded, and why not all: for people who read its log, for GitHub's page of the job (Markdown,
 * into the file $GITHUB_STEP_SUMMARY), and for programs. Text from servers is shown as code, so that it
 * formats nothing. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/units.h"
#include "ctl/job/job.h"
#include "ctl/model.h"

#define CAUSES_SHOWN 8
#define MARKDOWN_MAX KIB(64)

struct counts {
	uint64_t n_uploaded, n_bytes, n_there, n_left;
	bool is_only_read;
};

static struct counts counts_of(const json_t *cache)
{
	return (struct counts){
		.n_uploaded = model_get_uint(cache, "uploaded_paths"),
		.n_bytes = model_get_uint(cache, "uploaded_bytes"),
		.n_there = model_get_uint(cache, "skipped_paths"),
		.n_left = model_get_uint(cache, "unfinished"),
		.is_only_read = strcmp(model_get_text(cache, "state"), "off") == 0,
	};
}

/* ---- the log */

static void put_cache(const json_t *cache)
{
	struct counts c = counts_of(cache);
	char bytes[UNITS_TEXT_SIZE];

	if (c.is_only_read)
		return; /* that was said when the job began */
	ctl_say("%s: %" PRIu64 " %s uploaded (%s), %" PRIu64 " there already%s",
	        model_get_text(cache, "name"), c.n_uploaded, c.n_uploaded == 1 ? "path" : "paths",
	        units_format_bytes(c.n_bytes, bytes), c.n_there,
	        c.n_left > 0 ? ", and not all that should be" : "");
}

static void put_causes(const json_t *status)
{
	const json_t *causes = json_object_get(status, "causes");
	json_t *cause;
	size_t i;

	json_array_foreach(causes, i, cause)
	{
		const char *name = model_get_text(cause, "cache");

		if (i == CAUSES_SHOWN) {
			ctl_say("and %zu more", json_array_size(causes) - i);
			break;
		}
		ctl_say("%" PRIu64 " %s%s%s: %s\nsuch as %s", model_get_uint(cause, "jobs"),
		        model_get_text(cause, "state"), *name != '\0' ? " on " : "", name,
		        model_get_text(cause, "text"), model_get_text(cause, "path"));
	}
}

static void put_log(const struct job *job, const struct drained *d)
{
	json_t *cache;
	size_t i;

	json_array_foreach(json_object_get(d->status, "caches"), i, cache) put_cache(cache);
	if (!d->is_finished)
		put_causes(d->status);
	if (d->timed_out)
		ctl_say("time-out: not all was uploaded within %" PRIu64 " s (--drain-timeout)",
		        job->drain_s);
	else if (*d->why != '\0')
		ctl_say("not waited for what is left: %s", d->why);
}

/* ---- GitHub's page */

static void put_code(struct buf *out, const char *text)
{
	buf_putc(out, '`');
	for (; *text != '\0'; text++)
		buf_putc(out, *text == '`'                                   ? '\''
		              : (unsigned char)*text < 0x20 || *text == 0x7f ? ' '
		                                                             : *text);
	buf_putc(out, '`');
}

static void put_row(struct buf *out, const json_t *cache)
{
	struct counts c = counts_of(cache);
	char bytes[UNITS_TEXT_SIZE];

	buf_puts(out, "| ");
	put_code(out, model_get_text(cache, "name"));
	if (c.is_only_read)
		buf_puts(out, " | only read | | | |\n");
	else
		buf_printf(out, " | %" PRIu64 " | %s | %" PRIu64 " | %" PRIu64 " |\n", c.n_uploaded,
		           units_format_bytes(c.n_bytes, bytes), c.n_there, c.n_left);
}

static void format_markdown(struct buf *out, const struct drained *d)
{
	const json_t *causes = json_object_get(d->status, "causes");
	json_t *item;
	size_t i;

	buf_puts(out, "### Uploads by nncache\n\n| cache | uploaded | size | there already | not uploaded |\n"
	              "|---|--:|--:|--:|--:|\n");
	json_array_foreach(json_object_get(d->status, "caches"), i, item) put_row(out, item);
	buf_putc(out, '\n');
	json_array_foreach(causes, i, item)
	{
		if (d->is_finished || i == CAUSES_SHOWN)
			break;
		buf_printf(out, "- %" PRIu64 " %s: ", model_get_uint(item, "jobs"),
		           model_get_text(item, "state"));
		put_code(out, model_get_text(item, "text"));
		buf_puts(out, ", such as ");
		put_code(out, model_get_text(item, "path"));
		buf_putc(out, '\n');
	}
	if (d->timed_out || *d->why != '\0') {
		buf_puts(out, "- not waited for what is left: ");
		put_code(out, d->timed_out ? "time-out" : d->why);
		buf_putc(out, '\n');
	}
	buf_putc(out, '\n');
}

static void append_markdown(const struct drained *d)
{
	const char *file = getenv("GITHUB_STEP_SUMMARY");
	CLEANUP(buf_fini) struct buf text = { .max = MARKDOWN_MAX };
	CLEANUP(close_fd) int fd = -1;

	if (file == NULL || *file == '\0' || d->status == NULL)
		return;
	format_markdown(&text, d);
	fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644);
	if (fd < 0 || write_full(fd, buf_text(&text), text.len) < 0)
		ctl_say("GITHUB_STEP_SUMMARY: %s: %s", file, strerror(errno));
}

/* ---- JSON */

static void print_json(const struct drained *d, int command_status)
{
	json_t *none = json_array();
	const json_t *caches = json_object_get(d->status, "caches"),
		     *causes = json_object_get(d->status, "causes");
	json_t *model =
		json_pack("{s:b, s:b, s:o, s:o, s:I, s:I, s:O, s:O}", "finished", d->is_finished, "timed_out",
	                  d->timed_out, "why", model_text(*d->why != '\0' ? d->why : NULL), "command_status",
	                  command_status >= 0 ? json_integer(command_status) : json_null(), "unfinished",
	                  (json_int_t)model_get_uint(json_object_get(d->status, "queue"), "unfinished"),
	                  "missed", (json_int_t)d->n_missed, "caches", caches != NULL ? caches : none,
	                  "causes", causes != NULL ? causes : none);

	json_decref(none);
	model_dates(model);
	output_json(model, JSON_INDENT(2));
}

void summary_show(const struct job *job, const struct drained *drained, int command_status)
{
	put_log(job, drained);
	append_markdown(drained);
	if (job->ctl->json)
		print_json(drained, command_status);
}
