/* nncached gets a configuration with nothing but this cache, in a file that has no name; so is the netrc file
 * that there would be. */
#include "ctl/setup/cache_facts.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "ctl/program.h"

#define ANSWER_MAX_BYTES KIB(64)
#define KEY_BASE64_LEN   44

static bool is_word(const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
		if (!isgraph((unsigned char)*p) || *p == '#')
			return false;
	return *text != '\0';
}

int cache_facts_set_url(struct cache_facts *facts, const char *text, struct error *err)
{
	if (!is_word(text) || strlen(text) >= sizeof(facts->url))
		return error_set(
			err, ERROR_OPERATOR,
			"%.200s: nix.conf cannot hold such a URL; it is one word without \"#\", of at "
			"most %zu bytes",
			strchr(text, '@') == NULL ? text : "the URL", sizeof(facts->url) - 1);
	strcpy(facts->url, text);
	return 0;
}

static bool is_key(const char *text)
{
	const char *colon = strchr(text, ':');
	size_t n;

	if (colon == NULL || colon == text || !is_word(text) || strlen(text) >= CACHE_FACTS_KEY_SIZE)
		return false;
	n = strspn(colon + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
	return n == KEY_BASE64_LEN - 1 && strcmp(colon + 1 + n, "=") == 0;
}

int cache_facts_add_key(struct cache_facts *facts, const char *text, struct error *err)
{
	if (!is_key(text))
		return error_set(err, ERROR_OPERATOR,
		                 "\"%.200s\" is no public key; expected NAME:BASE64, as "
		                 "nix-store --generate-binary-cache-key writes it",
		                 text);
	for (size_t i = 0; i < facts->n_keys; i++)
		if (strcmp(facts->keys[i], text) == 0)
			return 0;
	if (facts->n_keys == CACHE_FACTS_KEYS_MAX)
		return error_set(err, ERROR_OPERATOR, "more than %d public keys", CACHE_FACTS_KEYS_MAX);
	strcpy(facts->keys[facts->n_keys++], text);
	return 0;
}

const char *cache_facts_host(const char *url, char *ret, size_t n)
{
	const char *host = strstr(url, "://");
	size_t len = 0;

	if (host != NULL) {
		host += strlen("://");
		len = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/?");
	}
	snprintf(ret, n, "%.*s", (int)len, len > 0 ? host : "");
	return ret;
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* A file of TEXT that nncached, too, finds by the name *RET_NAME. Returns its descriptor, or -1. */
static int hide(const char *text, char name[64], struct error *err)
{
	CLEANUP(close_fd) int fd = memfd_create("nncache", 0); /* nncached inherits it */

	if (fd < 0 || fchmod(fd, 0600) < 0 || write_full(fd, text, strlen(text)) < 0)
		return error_set(err, ERROR_TRANSIENT, "memfd: %s", strerror(errno));
	snprintf(name, 64, "/proc/self/fd/%d", fd);
	return take_fd(&fd);
}

static int format_config(const struct cache_question *question, const char *netrc_file, struct buf *out,
                         struct error *err)
{
	char *real;

	buf_printf(out, "[cache \"use\"]\nurl = %s\npush = no\n", question->url);
	if (question->endpoint != NULL)
		buf_printf(out, "endpoint = %s\n", question->endpoint);
	if (question->token_file != NULL) {
		real = realpath(question->token_file, NULL);
		if (real == NULL)
			return error_set(err, ERROR_OPERATOR, "%s: %s", question->token_file,
			                 strerror(errno));
		buf_printf(out, "token-file = %s\n", real);
		free(real);
	}
	if (netrc_file != NULL)
		buf_printf(out, "netrc-file = %s\n", netrc_file);
	return buf_ok(out) ? 0 : error_set(err, ERROR_TRANSIENT, "out of memory");
}

/* TEXT is written into. */
static int parse(struct cache_facts *ret, char *text, struct error *err)
{
	struct cache_facts facts = { 0 };
	char *rest = NULL;

	for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
		char *value = strstr(line, " = ");

		if (value == NULL)
			continue;
		*value = '\0';
		value += strlen(" = ");
		if (strcmp(line, "url") == 0 && cache_facts_set_url(&facts, value, err) < 0)
			return -1;
		if (strcmp(line, "public-key") == 0 && cache_facts_add_key(&facts, value, err) < 0)
			return -1;
		if (strcmp(line, "visibility") == 0)
			facts.is_private = strcmp(value, "private") == 0;
	}
	if (facts.url[0] == '\0')
		return error_set(err, ERROR_OPERATOR, "nncached: answered without a URL");
	*ret = facts;
	return 0;
}

/* Takes out of TEXT, words of nncached, what is about the file that it was given. */
static char *strip(char *text, const char *config_file)
{
	static const char name[] = "nncached: ", section[] = "[cache \"use\"] ";
	char *at, *behind;

	while ((at = strstr(text, config_file)) != NULL) {
		behind = strstr(at, section);
		behind = behind != NULL ? behind + strlen(section) : at + strlen(config_file);
		memmove(at, behind, strlen(behind) + 1);
	}
	return strncmp(text, name, strlen(name)) == 0 ? text + strlen(name) : text;
}

static int run(struct cache_facts *ret, const char *config_file, struct error *err)
{
	const char *args[] = { "--show-cache", "use", "--config", config_file, NULL };
	CLEANUP(buf_fini) struct buf out = { .max = ANSWER_MAX_BYTES };
	int status = program_ask_nncached(args, false, &out);

	if (status == 0 && buf_ok(&out) && out.data != NULL)
		return parse(ret, out.data, err);
	if (!buf_ok(&out) || out.data == NULL || out.len == 0)
		return error_set(err, ERROR_OPERATOR, "nncached: gave no answer");
	return error_set(err, ERROR_OPERATOR, "%s", strip(out.data, config_file));
}

int cache_facts_ask(struct cache_facts *ret, const struct cache_question *question, struct error *err)
{
	CLEANUP(buf_fini) struct buf config = { .max = KIB(64) };
	char netrc_name[64], config_name[64];
	CLEANUP(close_fd) int netrc_fd = -1, config_fd = -1;

	if (question->netrc != NULL && (netrc_fd = hide(question->netrc, netrc_name, err)) < 0)
		return -1;
	if (format_config(question, netrc_fd >= 0 ? netrc_name : NULL, &config, err) < 0)
		return -1;
	config_fd = hide(buf_text(&config), config_name, err);
	if (config_fd < 0)
		return -1;
	return run(ret, config_name, err);
}
