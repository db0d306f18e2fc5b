#include "ctl/setup/netrc.h"

#include <string.h>

#define BLANKS        " \t\r"
#define LINE_MAX_SIZE KIB(16)

/* How a line stands to an entry: the words of a netrc file may be on any number of lines. */
enum netrc_line {
	NETRC_OTHER,
	NETRC_DEFAULT, /* begins the entry for all other hosts; what is behind it is not looked at */
	NETRC_WHOLE,   /* the entry of the host, and nothing else */
	NETRC_PART,    /* has a part of it */
};

static bool is_next(const char **text, const char *word)
{
	size_t n = strlen(word);

	*text += strspn(*text, BLANKS);
	if (strncmp(*text, word, n) != 0 || ((*text)[n] != '\0' && strchr(BLANKS, (*text)[n]) == NULL))
		return false;
	*text += n;
	return true;
}

static void skip_word(const char **text)
{
	*text += strspn(*text, BLANKS);
	*text += strcspn(*text, BLANKS);
}

/* TEXT is what follows "machine HOST". */
static bool is_rest_of_entry(const char *text)
{
	bool has_password = false;

	while (text[strspn(text, BLANKS)] != '\0') {
		bool is_password = is_next(&text, "password");

		if (!is_password && !is_next(&text, "login"))
			return false;
		has_password |= is_password;
		skip_word(&text);
	}
	return has_password;
}

static enum netrc_line look_at(const char *line, const char *host)
{
	const char *rest = line;

	if (is_next(&rest, "default"))
		return NETRC_DEFAULT;
	if (is_next(&rest, "machine") && is_next(&rest, host))
		return is_rest_of_entry(rest) ? NETRC_WHOLE : NETRC_PART;
	for (rest = line; *rest != '\0'; skip_word(&rest))
		if (is_next(&rest, host))
			return NETRC_PART;
	return NETRC_OTHER;
}

/* A reader of such a file (libcurl) looks further on for a login that is not there, and would take that of
 * the default entry. */
static bool has_default(const struct nix_conf_edit *edit)
{
	const char *line;

	for (unsigned i = 1; (line = nix_conf_edit_line(edit, i)) != NULL; i++)
		if (is_next(&line, "default"))
			return true;
	return false;
}

static int format_entry(struct buf *out, const char *host, const char *secret, bool needs_login,
                        struct error *err)
{
	const char *colon = strchr(secret, ':'), *password = colon != NULL ? colon + 1 : secret;

	if (secret[strcspn(secret, BLANKS "\n\"\\#")] != '\0' || *password == '\0')
		return error_set(err, ERROR_OPERATOR,
		                 "the token is not one word without quotes, \"\\\" and \"#\", as a netrc "
		                 "file needs it");
	buf_printf(out, "machine %s", host);
	if (colon != NULL && colon > secret)
		buf_printf(out, " login %.*s", (int)(colon - secret), secret);
	else if (needs_login)
		buf_puts(out, " login " NETRC_ANY_LOGIN);
	buf_printf(out, " password %s", password);
	return buf_ok(out) ? 0 : error_set(err, ERROR_OPERATOR, "the token is too long");
}

static int place(struct nix_conf_edit *edit, const char *host, const char *entry, struct error *err)
{
	const char *line;

	for (unsigned i = 1; (line = nix_conf_edit_line(edit, i)) != NULL; i++) {
		CLEANUP(buf_fini) struct buf both = { .max = 2 * LINE_MAX_SIZE };

		switch (look_at(line, host)) {
		case NETRC_OTHER:
			break;
		case NETRC_PART:
			return error_set(
				err, ERROR_OPERATOR,
				"%s:%u: the entry of %s is not on a line of its own; change it by hand",
				nix_conf_edit_file(edit), i, host);
		case NETRC_WHOLE:
			if (strcmp(line, entry) != 0)
				nix_conf_edit_replace(edit, i, entry);
			return 0;
		case NETRC_DEFAULT:
			buf_printf(&both, "%s\n%s", entry, line);
			if (!buf_ok(&both))
				return error_set(err, ERROR_OPERATOR, "%s:%u: the line is too long",
				                 nix_conf_edit_file(edit), i);
			nix_conf_edit_replace(edit, i, buf_text(&both));
			return 0;
		}
	}
	nix_conf_edit_append(edit, entry);
	return 0;
}

int netrc_set(struct nix_conf_edit *edit, const char *host, const char *secret, struct error *err)
{
	struct buf entry = { .max = LINE_MAX_SIZE };
	int rc = format_entry(&entry, host, secret, has_default(edit), err);

	if (rc == 0)
		rc = place(edit, host, buf_text(&entry), err);
	if (entry.data != NULL)
		explicit_bzero(entry.data, entry.cap);
	buf_fini(&entry);
	return rc;
}
