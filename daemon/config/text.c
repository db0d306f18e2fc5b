#include "daemon/config/text.h"

#include <ctype.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config/key_text.h"
#include "daemon/config/url.h"

#define REGEX_MAX_PIECES 2000

static int out_of_memory(struct error *err)
{
	return error_set(err, ERROR_TRANSIENT, "out of memory");
}

static int plain_read(const char *value, struct buf *out, struct error *err)
{
	(void)err;
	buf_puts(out, value);
	return 0;
}

static int group_read(const char *value, struct buf *out, struct error *err)
{
	bool is_valid = strlen(value) <= 32 && (isalpha((unsigned char)value[0]) || value[0] == '_');

	for (const char *p = value; *p != '\0'; p++)
		is_valid = is_valid && (isalnum((unsigned char)*p) || strchr("._-", *p) != NULL);
	if (!is_valid)
		return error_set(err, ERROR_OPERATOR, "\"%s\" is not the name of a group", value);
	return plain_read(value, out, err);
}

static int path_read(const char *value, struct buf *out, struct error *err)
{
	if (path_normalise(value, out))
		return 0;
	return error_set(err, ERROR_OPERATOR,
	                 "\"%s\" is not a full path\n  expected /DIR/NAME, without \"..\"", value);
}

#define SECRET_RUN_BYTES 20 /* letters and digits in a row: names have blanks, dashes or dots before */
#define SHORT_NAME_MAX   64

static bool may_be_secret(const char *value)
{
	size_t run = 0, longest = 0;

	for (const char *p = value; *p != '\0'; p++) {
		run = isalnum((unsigned char)*p) ? run + 1 : 0;
		longest = run > longest ? run : longest;
		if (!isalnum((unsigned char)*p) && strchr("._-@/", *p) == NULL)
			return true;
	}
	return longest >= SECRET_RUN_BYTES || strlen(value) > SHORT_NAME_MAX;
}

int text_refuse_secret(const char *value, struct error *err)
{
	if (!may_be_secret(value))
		return 0;
	return error_set(err, ERROR_OPERATOR,
	                 "the value is no file that is there, and looks like a secret (not shown)\n"
	                 "  expected the name of a file that holds it");
}

static int file_read(const char *value, struct buf *out, struct error *err)
{
	if (value[0] != '/' && text_refuse_secret(value, err) < 0)
		return -1;
	if (path_normalise(value, out))
		return 0;
	return error_set(err, ERROR_OPERATOR,
	                 "\"%s\" is not a file name\n"
	                 "  expected /DIR/NAME, or NAME without a slash: it is looked for in "
	                 "$CREDENTIALS_DIRECTORY, then in the credentials directory beside the configuration",
	                 value);
}

static int store_read(const char *value, struct buf *out, struct error *err)
{
	static const char *const prefixes[] = { "unix://", "local?root=", "" };
	static const char *const words[] = { "auto", "daemon", "local" };

	for (size_t i = 0; i < N_ELEMENTS(words); i++) {
		if (strcmp(value, words[i]) == 0)
			return plain_read(value, out, err);
	}
	for (size_t i = 0; i < N_ELEMENTS(prefixes); i++) {
		size_t n = strlen(prefixes[i]);

		if (strncmp(value, prefixes[i], n) != 0 || value[n] != '/')
			continue;
		buf_puts(out, prefixes[i]);
		if (path_normalise(value + n, out))
			return 0;
		break;
	}
	return error_set(err, ERROR_OPERATOR,
	                 "\"%s\" is not a store\n"
	                 "  expected auto, daemon, local, unix:///SOCKET, local?root=/DIR or /DIR",
	                 value);
}

static int url_type_read(const char *value, enum url_use use, struct buf *out, struct error *err)
{
	CLEANUP(buf_fini) struct buf normal = { .max = URL_MAX * 2 };

	if (url_read(value, use, &normal, NULL, err) < 0)
		return -1;
	/* A cache is shown as it was written, and known by its identity. */
	return plain_read(use == URL_CACHE ? value : buf_text(&normal), out, err);
}

/* regcomp writes out what is repeated: x+ is xx*, and x{2,} is xxx*. The few bytes of
 * "((x{255}){255}){255}" or of 40 times "+" would take all memory, and long before that its recursion all
 * of the stack. So what it would make of a pattern is counted first. */

/* Steps over the quantifier at *P, if there is one, and returns how often it has its piece written: 0, none.
 */
static uint64_t take_quantifier(const char **p)
{
	uint64_t min, max = 0;
	char *end;

	if (**p == '*' || **p == '?' || **p == '+')
		return *(*p)++ == '+' ? 2 : 1;
	if (**p != '{')
		return 0;
	min = strtoull(*p + 1, &end, 10);
	if (*end == ',') {
		max = strtoull(end + 1, &end, 10);
		min += min < max || min == UINT64_MAX ? 0 : 1;
	}
	*p = end;
	*p += strspn(*p, "}");
	return max > min ? max : min > 0 ? min : 1;
}

/* P is behind "[". Returns what follows the matching "]". */
static const char *skip_brackets(const char *p)
{
	p += *p == '^';
	p += *p == ']';
	while (*p != '\0' && *p != ']') {
		char end[] = { p[1], ']', '\0' };
		const char *close =
			*p == '[' && p[1] != '\0' && strchr(":.=", p[1]) != NULL ? strstr(p + 2, end) : NULL;

		p = close != NULL ? close + 2 : p + 1;
	}
	return p + (*p == ']');
}

/* The pieces that regcomp makes of the pattern at *P, up to its end or, in a group, the ")" that closes it.
 */
static uint64_t count_pieces(const char **p, bool is_group)
{
	uint64_t sum = 0;

	while (**p != '\0' && !(is_group && **p == ')')) {
		uint64_t n = 1, n_times;
		char c = *(*p)++;

		if (c == '[') {
			*p = skip_brackets(*p);
		} else if (c == '\\') {
			*p += **p != '\0';
		} else if (c == '(') {
			n = count_pieces(p, true);
			*p += **p == ')';
		}
		while ((n_times = take_quantifier(p)) > 0)
			if (__builtin_mul_overflow(n, n_times, &n))
				return UINT64_MAX;
		if (__builtin_add_overflow(sum, n, &sum))
			return UINT64_MAX;
	}
	return sum + (sum == 0);
}

static int regex_read(const char *value, struct buf *out, struct error *err)
{
	const char *p = value;
	char why[128];
	regex_t regex;
	int rc;

	if (count_pieces(&p, false) > REGEX_MAX_PIECES)
		return error_set(err, ERROR_OPERATOR,
		                 "\"%s\" repeats too much\n"
		                 "  expected up to %d characters with every {N} and + written out",
		                 value, REGEX_MAX_PIECES);
	rc = regcomp(&regex, value, REG_EXTENDED | REG_NOSUB);
	if (rc != 0) {
		regerror(rc, &regex, why, sizeof(why));
		return error_set(err, ERROR_OPERATOR,
		                 "\"%s\": %s\n  expected a POSIX extended regular expression", value, why);
	}
	regfree(&regex);
	return plain_read(value, out, err);
}

static int public_key_read(const char *value, struct buf *out, struct error *err)
{
	if (key_text_is_valid(value, KEY_PUBLIC, true))
		return plain_read(value, out, err);
	return error_set(
		err, ERROR_OPERATOR,
		"\"%s\" is not a public key\n  expected NAME:KEY, the key being 44 characters of base64",
		value);
}

int text_check(enum option_type type, const char *value, struct buf *out, struct error *err)
{
	switch (type) {
	case OPTION_GROUP:
		return group_read(value, out, err);
	case OPTION_PATH:
		return path_read(value, out, err);
	case OPTION_FILE:
		return file_read(value, out, err);
	case OPTION_STORE:
		return store_read(value, out, err);
	case OPTION_CACHE_URL:
		return url_type_read(value, URL_CACHE, out, err);
	case OPTION_UPSTREAM_URL:
		return url_type_read(value, URL_UPSTREAM, out, err);
	case OPTION_ENDPOINT_URL:
		return url_type_read(value, URL_ENDPOINT, out, err);
	case OPTION_PROXY_URL:
		return value[0] == '\0' ? plain_read(value, out, err)
		                        : url_type_read(value, URL_PROXY, out, err);
	case OPTION_REGEX:
		return regex_read(value, out, err);
	case OPTION_PUBLIC_KEY:
		return public_key_read(value, out, err);
	case OPTION_BYTES:
	case OPTION_SECONDS:
	case OPTION_MILLISECONDS:
	case OPTION_COUNT:
	case OPTION_PERCENT:
	case OPTION_WORD:
	case OPTION_BOOL:
	case OPTION_TEXT:
	case OPTION_NAMES:
		break;
	}
	return plain_read(value, out, err);
}

int text_list_add(struct text_list *list, const char *text, size_t len, size_t max, struct error *err)
{
	char *copy, **items;

	if (list->n >= max)
		return error_set(err, ERROR_OPERATOR, "is one too many\n  expected at most %zu", max);
	items = reallocarray(list->items, list->n + 1, sizeof(*items));
	if (items == NULL)
		return out_of_memory(err);
	list->items = items;
	copy = strndup(text, len);
	if (copy == NULL)
		return out_of_memory(err);
	items[list->n++] = copy;
	return 0;
}

void text_list_fini(struct text_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->items[i]);
	free(list->items);
	*list = (struct text_list){ 0 };
}
