/* From --cache URLs to a configuration. Each is `push = auto`: a job that may not see the secrets, as one of
 * a fork, only reads, and says so. The secrets that CI has in variables go into files, where a token stands
 * for one server alone, and no further: not into an argv, nor the environment of the daemon. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/job/job.h"

#define NAME_SIZE 48

#define TOKEN_ENV "NNCACHE_TOKEN"
#define KEY_ENV   "NNCACHE_SIGNING_KEY"

static const struct kind {
	const char *scheme;
	const char *tokens[2]; /* variables, the first that is set counts */
	const char *key;
	bool needs_token, needs_key;
} kinds[] = {
	{ "cachix://", { "CACHIX_AUTH_TOKEN", TOKEN_ENV }, "CACHIX_SIGNING_KEY", true, false },
	{ "attic://", { "ATTIC_TOKEN", TOKEN_ENV }, NULL, true, false },
	{ "attic+http://", { "ATTIC_TOKEN", TOKEN_ENV }, NULL, true, false },
	{ "https://", { TOKEN_ENV, NULL }, KEY_ENV, false, true },
	{ "http://", { TOKEN_ENV, NULL }, KEY_ENV, false, true },
	{ "s3://", { NULL, NULL }, KEY_ENV, false, true },
	{ "file://", { NULL, NULL }, KEY_ENV, false, true },
};
static const struct kind other_kind = { "", { NULL, NULL }, NULL, false, false };

static const char *const secrets[] = { TOKEN_ENV, KEY_ENV, "CACHIX_AUTH_TOKEN", "CACHIX_SIGNING_KEY",
	                               "ATTIC_TOKEN" };

struct section {
	struct job *job;
	const char *url;
	const struct kind *kind;
	char name[NAME_SIZE + 8];
	struct buf *out;
};

static const struct kind *kind_of(const char *url)
{
	for (size_t i = 0; i < N_ELEMENTS(kinds); i++)
		if (strncasecmp(url, kinds[i].scheme, strlen(kinds[i].scheme)) == 0)
			return &kinds[i];
	return &other_kind; /* the daemon says what is wrong with it */
}

/* Secrets that a job may not see are empty. */
static const char *env_secret(const char *name)
{
	const char *text = name != NULL ? getenv(name) : NULL;

	return text != NULL && text[strspn(text, " \t\r\n")] != '\0' ? text : NULL;
}

static const char *token_name(const struct kind *kind)
{
	return env_secret(kind->tokens[0]) != NULL ? kind->tokens[0] : kind->tokens[1];
}

/* The part of URL that names it best: the cache or bucket, the host, the directory. */
static void make_name(const char *url, char name[NAME_SIZE])
{
	const char *rest = strstr(url, "://");
	bool is_http = strncasecmp(url, "http", 4) == 0;
	size_t len, n = 0;

	rest = rest != NULL ? rest + 3 : url;
	len = strlen(rest);
	while (len > 0 && rest[len - 1] == '/')
		len--;
	if (is_http)
		len = strcspn(rest, ":/");
	else
		for (size_t i = len; i > 0; i--)
			if (rest[i - 1] == '/') {
				rest += i;
				len -= i;
				break;
			}
	for (; n < len && n < NAME_SIZE - 1; n++)
		name[n] = isalnum((unsigned char)rest[n]) || strchr("._-", rest[n]) != NULL ? rest[n] : '-';
	name[n] = '\0';
	if (n == 0)
		strcpy(name, "cache");
}

/* NAME, or NAME-2 and so on where that is taken. */
static void name_section(struct section *s)
{
	char name[NAME_SIZE], title[NAME_SIZE + 32];

	make_name(s->url, name);
	snprintf(s->name, sizeof(s->name), "%s", name);
	for (unsigned i = 2;; i++) {
		snprintf(title, sizeof(title), "[cache \"%s\"]\n", s->name);
		if (strstr(buf_text(s->out), title) == NULL)
			return;
		snprintf(s->name, sizeof(s->name), "%s-%u", name, i);
	}
}

static int write_secret(const struct section *s, const char *key, const char *variable, const char *suffix,
                        struct error *err)
{
	const char *text = env_secret(variable);
	char name[NAME_SIZE + 32];

	if (text == NULL)
		return 0;
	snprintf(name, sizeof(name), "%s.%s", s->name, suffix);
	buf_printf(s->out, "%s = %s/%s\n", key, s->job->dir, name);
	return scratch_write(s->job, name, text, strlen(text), err);
}

static int write_section(struct section *s, struct error *err)
{
	const char *filters[JOB_FILTERS_MAX], *lacks = NULL;
	size_t n = args_get_all(&s->job->ctl->args, "exclude-roots", filters, JOB_FILTERS_MAX);
	const struct kind *kind = s->kind;

	if (kind->needs_token && env_secret(token_name(kind)) == NULL)
		lacks = kind->tokens[0];
	else if (kind->needs_key && env_secret(kind->key) == NULL)
		lacks = kind->key;
	buf_printf(s->out, "[cache \"%s\"]\nurl = %s\npush = %s\n", s->name, s->url,
	           lacks != NULL ? "no" : "auto");
	for (size_t i = 0; i < n && i < JOB_FILTERS_MAX; i++)
		buf_printf(s->out, "exclude-roots = %s\n", filters[i]);
	if (lacks != NULL) {
		ctl_say("%s is only read, nothing is uploaded there: %s is not set", s->name, lacks);
		return 0;
	}
	if (write_secret(s, "token-file", token_name(kind), "token", err) < 0)
		return -1;
	return write_secret(s, "signing-key-file", kind->key, "key", err);
}

/* Where a token would go: Cachix is one server. */
static size_t server_len(const char *url)
{
	const char *host = strstr(url, "://");

	if (host == NULL || strncasecmp(url, "cachix:", 7) == 0)
		return strcspn(url, ":");
	host += 3;
	return (size_t)(host - url) + strcspn(host, "/");
}

static int check_servers(const char *const *urls, size_t n, struct error *err)
{
	for (size_t i = 0; i < n; i++) {
		const char *name = token_name(kind_of(urls[i]));
		size_t len = server_len(urls[i]);

		for (size_t j = 0; env_secret(name) != NULL && j < i; j++) {
			const char *other = token_name(kind_of(urls[j]));

			if (other == NULL || strcmp(name, other) != 0)
				continue;
			if (server_len(urls[j]) != len || strncasecmp(urls[i], urls[j], len) != 0)
				return error_set(err, ERROR_OPERATOR,
				                 "%s is for one server, and %s and %s are two; --config FILE "
				                 "can give each its own",
				                 name, urls[j], urls[i]);
		}
	}
	return 0;
}

int caches_write(struct job *job, struct error *err)
{
	CLEANUP(buf_fini) struct buf out = { .max = KIB(256) };
	const char *urls[JOB_CACHES_MAX];
	size_t n = args_get_all(&job->ctl->args, "cache", urls, JOB_CACHES_MAX);

	if (check_servers(urls, n, err) < 0)
		return -1;
	for (size_t i = 0; i < n && i < JOB_CACHES_MAX; i++) {
		struct section s = { .job = job, .url = urls[i], .kind = kind_of(urls[i]), .out = &out };

		name_section(&s);
		if (write_section(&s, err) < 0)
			return -1;
	}
	if (!buf_ok(&out))
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	snprintf(job->config, sizeof(job->config), "%s/nncache.conf", job->dir);
	return scratch_write(job, "nncache.conf", buf_text(&out), out.len, err);
}

void caches_forget_secrets(const struct job *job, bool for_daemon)
{
	size_t n_dir = strlen(job->dir);
	bool is_ours = strncmp(job->config, job->dir, n_dir) == 0 && job->config[n_dir] == '/';

	unsetenv(TOKEN_ENV);
	unsetenv(KEY_ENV);
	/* Somebody else's file of caches has no other way to Cachix's token. */
	for (size_t i = 0; for_daemon && is_ours && i < N_ELEMENTS(secrets); i++)
		unsetenv(secrets[i]);
}
