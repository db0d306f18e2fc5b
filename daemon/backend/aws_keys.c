#include "daemon/backend/aws_keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/backend/kind.h"

static bool is_printable(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text <= 0x20 || (unsigned char)*text >= 0x7f)
			return false;
	return true;
}

static int check_keys(const char *where, const char *id, const char *secret, const char *token,
                      struct error *err)
{
	if (id == NULL || id[0] == '\0' || secret == NULL || secret[0] == '\0')
		return error_set(err, ERROR_OPERATOR, "%s: the %s is missing", where,
		                 id == NULL || id[0] == '\0' ? "access key id" : "secret access key");
	if (!is_printable(id) || !is_printable(secret) || (token != NULL && !is_printable(token)))
		return error_set(err, ERROR_OPERATOR, "%s: a key holds blanks or control characters", where);
	return 0;
}

int aws_keys_new(struct aws_keys **ret, const char *where, const char *id, const char *secret,
                 const char *token, struct error *err)
{
	struct aws_keys *keys;

	if (check_keys(where, id, secret, token, err) < 0)
		return -1;
	keys = calloc(1, sizeof(*keys));
	if (keys == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	keys->n_refs = 1;
	keys->id = strdup(id);
	keys->secret = strdup(secret);
	if (token != NULL && token[0] != '\0')
		keys->token = strdup(token);
	if (keys->id == NULL || keys->secret == NULL ||
	    (token != NULL && token[0] != '\0' && keys->token == NULL)) {
		aws_keys_unref(keys);
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	}
	*ret = keys;
	return 0;
}

struct aws_keys *aws_keys_ref(struct aws_keys *keys)
{
	keys->n_refs++;
	return keys;
}

void aws_keys_unref(struct aws_keys *keys)
{
	if (keys == NULL || --keys->n_refs > 0)
		return;
	wipe_text(&keys->id);
	wipe_text(&keys->secret);
	wipe_text(&keys->token);
	free(keys);
}

/* Profiles */

static char *trim(char *text)
{
	size_t len;

	text += strspn(text, " \t\r");
	len = strlen(text);
	while (len > 0 && strchr(" \t\r", text[len - 1]) != NULL)
		text[--len] = '\0';
	return text;
}

/* Is LINE, "[...]", the head of the section? */
static bool is_head_of(char *line, const char *name, bool is_config)
{
	static const char prefix[] = "profile";
	size_t n = sizeof(prefix) - 1;
	char *end = strchr(line, ']');

	if (end == NULL)
		return false;
	*end = '\0';
	line = trim(line + 1);
	if (is_config && strncmp(line, prefix, n) == 0 && (line[n] == ' ' || line[n] == '\t'))
		line = trim(line + n);
	else if (is_config && strcmp(line, "default") != 0)
		return false;
	return strcmp(line, name) == 0;
}

static int take_value(struct aws_profile *profile, const char *key, const char *value, struct error *err)
{
	const struct {
		const char *key;
		char **to;
		const char *is; /* what is kept, if not the value */
	} keys[] = {
		{ "aws_access_key_id", &profile->key_id, NULL },
		{ "aws_secret_access_key", &profile->secret, NULL },
		{ "aws_session_token", &profile->token, NULL },
		{ "region", &profile->region, NULL },
		{ "role_arn", &profile->role_arn, NULL },
		{ "role_session_name", &profile->role_session_name, NULL },
		{ "web_identity_token_file", &profile->web_identity_token_file, NULL },
		{ "source_profile", &profile->foreign, "source_profile" },
		{ "credential_process", &profile->foreign, "credential_process" },
		{ "credential_source", &profile->foreign, "credential_source" },
		{ "sso_session", &profile->foreign, "sso_session" },
		{ "sso_start_url", &profile->foreign, "sso_start_url" },
	};

	for (size_t i = 0; i < N_ELEMENTS(keys); i++) {
		if (strcmp(keys[i].key, key) != 0 || *keys[i].to != NULL)
			continue;
		*keys[i].to = strdup(keys[i].is != NULL ? keys[i].is : value);
		if (*keys[i].to == NULL)
			return error_set(err, ERROR_TRANSIENT, "out of memory");
	}
	return 0;
}

/* Cuts TEXT into lines. Indented ones are parts of a setting that has several, none of which is ours. */
static int read_lines(struct aws_profile *profile, char *text, const char *name, bool is_config,
                      struct error *err)
{
	bool is_inside = false, was_inside = false;
	char *line, *rest = text;

	while ((line = strsep(&rest, "\n")) != NULL) {
		char *equals = strchr(line, '=');

		if (line[0] == '[') {
			is_inside = is_head_of(line, name, is_config);
			was_inside = was_inside || is_inside;
			continue;
		}
		if (!is_inside || equals == NULL || strchr("#; \t", line[0]) != NULL)
			continue;
		*equals = '\0';
		if (take_value(profile, trim(line), trim(equals + 1), err) < 0)
			return -1;
	}
	return was_inside;
}

int aws_profile_read(struct aws_profile *ret, const char *file, const char *name, bool is_config,
                     struct error *err)
{
	struct error why;
	char *text;
	size_t len;
	int rc;

	if (access(file, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (read_file(file, AWS_PROFILE_MAX_BYTES, &text, &len, &why) < 0)
		return error_set(err, ERROR_OPERATOR, "%s", why.text);
	rc = read_lines(ret, text, name, is_config, err);
	explicit_bzero(text, len);
	free(text);
	return rc;
}

void aws_profile_fini(struct aws_profile *profile)
{
	wipe_text(&profile->key_id);
	wipe_text(&profile->secret);
	wipe_text(&profile->token);
	wipe_text(&profile->region);
	wipe_text(&profile->role_arn);
	wipe_text(&profile->role_session_name);
	wipe_text(&profile->web_identity_token_file);
	wipe_text(&profile->foreign);
}
