/* cachix.dhall, of which the client of Cachix writes one record:
 *
 *   { authToken = "..."
 *   , hostname = "https://cachix.org"
 *   , binaryCaches = [ { name = "team", secretKey = "..." } ]
 *   }
 *
 * or, with no cache, `[] : List { name : Text, secretKey : Text }`. Other fields are passed over if they are
 * texts. Dhall can do much more; a file that does is for a person to put into token-file. */
#include <stdlib.h>
#include <string.h>

#include "daemon/backend/kind.h"
#include "daemon/backend/login.h"
#include "daemon/backend/login_scan.h"

#define LETTERS   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define LABEL_MAX 63

struct record {
	struct login *login;
	const char *name;             /* of the cache that is looked for */
	char *entry_name, *entry_key; /* of the one that is being read */
};

typedef int (*take_fn)(struct scan *scan, struct record *record);

static void skip_blanks(struct scan *scan)
{
	scan_skip(scan, " \t\r\n");
	while (scan->end - scan->at >= 2 && memcmp(scan->at, "--", 2) == 0) {
		scan_skip_line(scan);
		scan_skip(scan, " \t\r\n");
	}
}

/* C, and the blanks behind it. */
static bool take(struct scan *scan, char c)
{
	bool is_taken = scan_take(scan, c);

	if (is_taken)
		skip_blanks(scan);
	return is_taken;
}

static int take_label(struct scan *scan, char label[LABEL_MAX + 1])
{
	bool is_quoted = scan_take(scan, '`');

	if (scan_word(scan, LETTERS "0123456789_-/", label, LABEL_MAX) == 0 ||
	    (is_quoted && !scan_take(scan, '`')))
		return scan_expected(scan, "the name of a field");
	skip_blanks(scan);
	return 0;
}

static int take_word(struct scan *scan, const char *word)
{
	char label[LABEL_MAX + 1];

	if (scan_word(scan, LETTERS, label, LABEL_MAX) == 0 || strcmp(label, word) != 0)
		return scan_expected(scan, word);
	skip_blanks(scan);
	return 0;
}

/* OPEN, items with commas between them, CLOSE. */
static int take_all(struct scan *scan, const char *ends, take_fn take_one, struct record *record)
{
	static const char *const expected[] = { "{", "[" }, *const separators[] = { ", or }", ", or ]" };
	bool is_list = ends[0] == '[';

	if (!take(scan, ends[0]))
		return scan_expected(scan, expected[is_list]);
	take(scan, ',');
	while (!take(scan, ends[1])) {
		if (take_one(scan, record) < 0)
			return -1;
		if (!take(scan, ',') && !scan_is_at(scan, ends[1]))
			return scan_expected(scan, separators[is_list]);
	}
	return 0;
}

/* A text, and its type if that is given. */
static int take_text(struct scan *scan, char **ret)
{
	CLEANUP(wipe_text) char *text = NULL;

	if (scan_quoted(scan, '"', "\"\\/$", "${", &text) < 0)
		return -1;
	skip_blanks(scan);
	if (take(scan, ':') && take_word(scan, "Text") < 0)
		return -1;
	wipe_text(ret);
	*ret = text;
	text = NULL;
	return 0;
}

/* "NAME =", and the text into the field of that name; any other is passed over. */
static int take_field(struct scan *scan, const char *label, char **const to[2], const char *const names[2])
{
	CLEANUP(wipe_text) char *other = NULL;

	for (size_t i = 0; i < 2; i++)
		if (strcmp(label, names[i]) == 0)
			return take_text(scan, to[i]);
	return take_text(scan, &other);
}

static int take_assignment(struct scan *scan, char label[LABEL_MAX + 1])
{
	if (take_label(scan, label) < 0)
		return -1;
	return take(scan, '=') ? 0 : scan_expected(scan, "= behind the name of a field");
}

static int take_entry_field(struct scan *scan, struct record *record)
{
	static const char *const names[] = { "name", "secretKey" };
	char **const to[] = { &record->entry_name, &record->entry_key };
	char label[LABEL_MAX + 1];

	return take_assignment(scan, label) < 0 ? -1 : take_field(scan, label, to, names);
}

static int take_entry(struct scan *scan, struct record *record)
{
	int rc = take_all(scan, "{}", take_entry_field, record);

	if (rc == 0 && record->entry_name != NULL && record->entry_key != NULL &&
	    strcmp(record->entry_name, record->name) == 0) {
		wipe_text(&record->login->signing_key);
		record->login->signing_key = record->entry_key;
		record->entry_key = NULL;
	}
	wipe_text(&record->entry_name);
	wipe_text(&record->entry_key);
	return rc;
}

static int take_field_type(struct scan *scan, struct record *record)
{
	char label[LABEL_MAX + 1];
	(void)record;

	if (take_label(scan, label) < 0)
		return -1;
	return take(scan, ':') ? take_word(scan, "Text") : scan_expected(scan, ": Text");
}

static int take_caches(struct scan *scan, struct record *record)
{
	if (take_all(scan, "[]", take_entry, record) < 0)
		return -1;
	if (!take(scan, ':'))
		return 0;
	return take_word(scan, "List") < 0 ? -1 : take_all(scan, "{}", take_field_type, record);
}

static int take_top_field(struct scan *scan, struct record *record)
{
	static const char *const names[] = { "authToken", "hostname" };
	char **const to[] = { &record->login->token, &record->login->endpoint };
	char label[LABEL_MAX + 1];

	if (take_assignment(scan, label) < 0)
		return -1;
	if (strcmp(label, "binaryCaches") == 0)
		return take_caches(scan, record);
	return take_field(scan, label, to, names);
}

int login_read_cachix(struct login *ret, const char *text, size_t len, const char *name, struct error *err)
{
	struct scan scan = { .at = text, .end = text + len, .line = 1, .err = err };
	struct login login = { 0 };
	struct record record = { .login = &login, .name = name };
	int rc;

	skip_blanks(&scan);
	rc = take_all(&scan, "{}", take_top_field, &record);
	if (rc == 0 && scan.at != scan.end)
		rc = scan_expected(&scan, "the end of the file");
	if (rc < 0)
		login_fini(&login);
	else
		*ret = login;
	return rc;
}

void login_fini(struct login *login)
{
	wipe_text(&login->endpoint);
	wipe_text(&login->token);
	wipe_text(&login->token_file);
	wipe_text(&login->signing_key);
}
