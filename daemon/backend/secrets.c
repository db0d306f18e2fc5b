#include "daemon/backend/secrets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/backend/kind.h"
#include "daemon/backend/login.h"
#include "daemon/config/url.h"

#define TOKEN_MAX_BYTES  KIB(16)
#define LOGIN_MAX_BYTES  KIB(64)
#define CACHIX_TOKEN_ENV "CACHIX_AUTH_TOKEN" /* as its own client has them */
#define CACHIX_KEY_ENV   "CACHIX_SIGNING_KEY"

/* The token alone: blanks around it go, and what could end a header line is refused. */
static int take_token(const char *text, const char *origin, char **ret, struct error *err)
{
	size_t start = strspn(text, " \t\r\n"), len = strcspn(text + start, " \t\r\n");

	if (len == 0 || text[start + len + strspn(text + start + len, " \t\r\n")] != '\0')
		return error_set(err, ERROR_OPERATOR, "%s: expected one token", origin);
	for (size_t i = start; i < start + len; i++) {
		if (text[i] <= 0x20 || text[i] == 0x7f)
			return error_set(err, ERROR_OPERATOR, "%s: holds control characters", origin);
	}
	*ret = strndup(text + start, len);
	return *ret != NULL ? 0 : error_set(err, ERROR_TRANSIENT, "out of memory");
}

static int read_token_file(const char *file, char **ret, struct error *err)
{
	CLEANUP(wipe_text) char *text = NULL;
	struct error why;
	size_t len;

	if (read_file(file, TOKEN_MAX_BYTES, &text, &len, &why) < 0)
		return error_set(err, ERROR_OPERATOR, "%s", why.text);
	if (strlen(text) < len)
		return error_set(err, ERROR_OPERATOR, "%s: holds control characters", file);
	return take_token(text, file, ret, err);
}

/* ---- what other clients keep -------------------------------------------------------------------------- */

static bool is_same_server(const char *a, const char *b)
{
	CLEANUP(buf_fini) struct buf of_a = { .max = KIB(4) }, of_b = { .max = KIB(4) };
	struct error err;

	return url_read(a, URL_UPSTREAM, &of_a, NULL, &err) == 0 &&
	       url_read(b, URL_UPSTREAM, &of_b, NULL, &err) == 0 &&
	       strcmp(buf_text(&of_a), buf_text(&of_b)) == 0;
}

static bool is_ours(const char *endpoint, const void *ctx)
{
	const struct cache_config *cache = ctx;
	char *ours = attic_endpoint(cache);
	bool is_same = ours != NULL && is_same_server(endpoint, ours);

	free(ours);
	return is_same;
}

static int parse_login(const struct cache_config *cache, struct login *login, const char *text, size_t len,
                       struct error *err)
{
	const char *cachix = cachix_endpoint(cache);
	char *name;
	int rc;

	if (cache->kind == CACHE_ATTIC)
		return login_read_attic(login, text, len, is_ours, cache, err);
	name = cachix_name(cache);
	rc = name != NULL ? login_read_cachix(login, text, len, name, err)
	                  : error_set(err, ERROR_TRANSIENT, "out of memory");
	free(name);
	if (rc < 0)
		return -1;
	if (login->endpoint != NULL && !is_same_server(login->endpoint, cachix)) {
		login_fini(login);
		return error_set(err, ERROR_OPERATOR,
		                 "its hostname is another server than %s; expected endpoint to say the same",
		                 cachix);
	}
	return 0;
}

/* LOGIN stays empty if there is no such file, or none is looked for. */
static int read_login(const struct cache_config *cache, struct login *login, struct error *err)
{
	const char *file = cache->login_file;
	struct error why;
	char *text;
	size_t len;
	int rc;

	if (file == NULL || (access(file, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR)))
		return 0;
	if (read_file(file, LOGIN_MAX_BYTES, &text, &len, &why) < 0)
		return error_set(err, ERROR_OPERATOR, "%s", why.text);
	rc = parse_login(cache, login, text, len, &why);
	explicit_bzero(text, len);
	free(text);
	if (rc == 0)
		return 0;
	return error_set(err, why.kind, "%s: %s; or name a %s, then it is not read", file, why.text,
	                 cache->kind == CACHE_CACHIX ? "token-file and a signing-key-file" : "token-file");
}

static int take_login_token(const struct cache_config *cache, const struct login *login, char **ret,
                            struct error *err)
{
	if (login->token != NULL && login->token[0] != '\0')
		return take_token(login->token, cache->login_file, ret, err);
	if (login->token_file == NULL)
		return 0;
	if (login->token_file[0] != '/')
		return error_set(err, ERROR_OPERATOR, "%s: expected a token-file that begins with /",
		                 cache->login_file);
	return read_token_file(login->token_file, ret, err);
}

/* ---- the secrets -------------------------------------------------------------------------------------- */

static const char *env_of_cachix(const struct cache_config *cache, const char *name)
{
	const char *text = cache->kind == CACHE_CACHIX ? getenv(name) : NULL;

	return text != NULL && text[0] != '\0' ? text : NULL;
}

static int find_token(const struct cache_config *cache, char **ret, struct error *err)
{
	CLEANUP(login_fini) struct login login = { 0 };
	const char *env = env_of_cachix(cache, CACHIX_TOKEN_ENV);

	if (env != NULL)
		return take_token(env, CACHIX_TOKEN_ENV, ret, err);
	return read_login(cache, &login, err) < 0 ? -1 : take_login_token(cache, &login, ret, err);
}

int secrets_read_token(const struct cache_config *cache, char **ret, struct error *err)
{
	struct error why;

	if (cache->token_file != NULL && read_token_file(cache->token_file, ret, &why) < 0)
		return error_set(err, why.kind, "[cache \"%s\"] token-file %s", cache->name, why.text);
	if (cache->token_file == NULL && find_token(cache, ret, err) < 0)
		return error_prefix(err, "[cache \"%s\"]", cache->name);
	return 0;
}

int secrets_read_signing_key(const struct cache_config *cache, char **ret, const char **origin,
                             struct error *err)
{
	CLEANUP(login_fini) struct login login = { 0 };
	const char *env = env_of_cachix(cache, CACHIX_KEY_ENV);

	if (cache->kind != CACHE_CACHIX || cache->login_file == NULL)
		return 0;
	if (env != NULL) {
		*origin = CACHIX_KEY_ENV;
		*ret = strdup(env + strspn(env, " \t\r\n"));
		return *ret != NULL ? 0 : error_set(err, ERROR_TRANSIENT, "out of memory");
	}
	if (read_login(cache, &login, err) < 0)
		return error_prefix(err, "[cache \"%s\"]", cache->name);
	*origin = cache->login_file;
	*ret = login.signing_key;
	login.signing_key = NULL;
	return 0;
}
