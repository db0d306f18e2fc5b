/* config.toml, of which the client of Attic writes a table for each server:
 *
 *   default-server = "local"
 *
 *   [servers.local]
 *   endpoint = "https://attic.example.org/"
 *   token = "..."
 *
 * With token-file instead of token it names a file. Other tables and keys are passed over, if their values
 * are texts, numbers or words; TOML's ways of writing a table on one line, or a text on several, are refused.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/backend/kind.h"
#include "daemon/backend/login.h"
#include "daemon/backend/login_scan.h"

#define BARE "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

struct reader {
	struct scan scan;
	login_is_ours_fn is_ours;
	const void *ctx;
	struct login server; /* whose table is being read */
	struct login found;
	bool is_found, is_inside; /* of a table of a server */
};

/* A text, or with BARE_CHARS what these make up. */
static int take_text(struct scan *scan, const char *bare_chars, char **ret)
{
	char word[256];

	if (scan_is_at(scan, '"'))
		return scan_quoted(scan, '"', "\"\\", "", ret);
	if (scan_is_at(scan, '\''))
		return scan_quoted(scan, '\'', "", "", ret);
	if (scan_word(scan, bare_chars, word, sizeof(word) - 1) == 0) {
		scan_expected(scan, "a name, or a text in quotes");
		return -1;
	}
	*ret = strdup(word);
	if (*ret == NULL) {
		error_set(scan->err, ERROR_TRANSIENT, "out of memory");
		return -1;
	}
	return 0;
}

static int take_line_end(struct scan *scan)
{
	scan_skip(scan, " \t\r");
	if (scan_is_at(scan, '#'))
		scan_skip_line(scan);
	if (scan->at < scan->end && !scan_take(scan, '\n'))
		return scan_expected(scan, "the end of the line");
	return 0;
}

static void end_table(struct reader *reader)
{
	const struct login *server = &reader->server;

	if (!reader->is_found && server->endpoint != NULL && reader->is_ours(server->endpoint, reader->ctx)) {
		reader->found = reader->server;
		reader->is_found = true;
		reader->server = (struct login){ 0 };
	}
	login_fini(&reader->server);
}

/* "[NAME]" or "[servers.NAME]"; parts of a longer one are passed over. */
static int take_head(struct reader *reader)
{
	struct scan *scan = &reader->scan;
	size_t n = 0;

	end_table(reader);
	do {
		CLEANUP(wipe_text) char *name = NULL;

		scan_skip(scan, " \t");
		if (take_text(scan, BARE, &name) < 0)
			return -1;
		if (n++ == 0)
			reader->is_inside = strcmp(name, "servers") == 0;
		scan_skip(scan, " \t");
	} while (scan_take(scan, '.'));
	reader->is_inside = reader->is_inside && n == 2;
	return scan_take(scan, ']') ? take_line_end(scan)
	                            : scan_expected(scan, "] behind the name of a table");
}

static char **find_field(struct reader *reader, const char *key)
{
	const struct {
		const char *key;
		char **to;
	} fields[] = {
		{ "endpoint", &reader->server.endpoint },
		{ "token", &reader->server.token },
		{ "token-file", &reader->server.token_file },
	};

	for (size_t i = 0; reader->is_inside && i < N_ELEMENTS(fields); i++)
		if (strcmp(fields[i].key, key) == 0)
			return fields[i].to;
	return NULL;
}

static int take_setting(struct reader *reader)
{
	CLEANUP(wipe_text) char *key = NULL, *value = NULL;
	struct scan *scan = &reader->scan;
	char **to;
	int rc;

	if (take_text(scan, BARE, &key) < 0)
		return -1;
	scan_skip(scan, " \t");
	if (!scan_take(scan, '='))
		return scan_expected(scan, "= behind the name of a key");
	scan_skip(scan, " \t");
	to = find_field(reader, key);
	rc = take_text(scan, to != NULL ? "" : BARE "+.:", &value);
	if (rc < 0 || take_line_end(scan) < 0)
		return -1;
	if (to == NULL)
		return 0;
	wipe_text(to);
	*to = value;
	value = NULL;
	return 0;
}

static int take_line(struct reader *reader)
{
	struct scan *scan = &reader->scan;

	scan_skip(scan, " \t\r");
	if (scan_take(scan, '['))
		return take_head(reader);
	if (scan->at == scan->end || scan_is_at(scan, '#') || scan_is_at(scan, '\n'))
		return take_line_end(scan);
	return take_setting(reader);
}

int login_read_attic(struct login *ret, const char *text, size_t len, login_is_ours_fn is_ours,
                     const void *ctx, struct error *err)
{
	struct reader reader = { .scan = { .at = text, .end = text + len, .line = 1, .err = err },
		                 .is_ours = is_ours,
		                 .ctx = ctx };
	int rc = 0;

	while (rc == 0 && reader.scan.at < reader.scan.end)
		rc = take_line(&reader);
	end_table(&reader);
	if (rc < 0)
		login_fini(&reader.found);
	else
		*ret = reader.found;
	return rc;
}
