#include "daemon/store/place.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/store_path.h"

#define STATE_DIR_DEFAULT "/nix/var/nix"

struct params {
	char *root, *store, *state, *real;
};

static const struct {
	const char *name;
	size_t offset;
} names[] = {
	{ "root", offsetof(struct params, root) },
	{ "store", offsetof(struct params, store) },
	{ "state", offsetof(struct params, state) },
	{ "real", offsetof(struct params, real) },
};

static void params_fini(struct params *params)
{
	free(params->root);
	free(params->store);
	free(params->state);
	free(params->real);
}

void place_fini(struct place *place)
{
	free(place->store_dir);
	free(place->real_dir);
	free(place->state_dir);
	free(place->socket);
	*place = (struct place){ 0 };
}

static int no_memory(struct error *err)
{
	return error_set(err, ERROR_TRANSIENT, "out of memory");
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* NULL if a percent sign is not followed by the two digits of a byte, or memory is short. */
static char *decode(const char *text, size_t len)
{
	char *ret = malloc(len + 1), *dst = ret;

	for (size_t i = 0; ret != NULL && i < len; i++) {
		if (text[i] == '%') {
			int high = i + 2 < len ? hex_digit(text[i + 1]) : -1;
			int low = i + 2 < len ? hex_digit(text[i + 2]) : -1;

			if (high < 0 || low < 0 || (high == 0 && low == 0)) {
				free(ret);
				return NULL;
			}
			*dst++ = (char)(high << 4 | low);
			i += 2;
		} else {
			*dst++ = text[i];
		}
	}
	if (ret != NULL)
		*dst = '\0';
	return ret;
}

static int parse_param(struct params *params, const char *uri, const char *text, size_t len,
                       struct error *err)
{
	size_t n_name = strcspn(text, "=");

	for (size_t i = 0; n_name < len && i < N_ELEMENTS(names); i++) {
		char **value = (char **)(void *)((char *)params + names[i].offset);

		if (strlen(names[i].name) != n_name || strncmp(names[i].name, text, n_name) != 0)
			continue;
		free(*value);
		*value = decode(text + n_name + 1, len - n_name - 1);
		if (*value != NULL && (*value)[0] == '/')
			return 0;
		return error_set(err, ERROR_OPERATOR, "store \"%s\": %s must be an absolute path", uri,
		                 names[i].name);
	}
	return error_set(err, ERROR_OPERATOR,
	                 "store \"%s\": unknown parameter \"%.*s\" (expected root, store, state or real)",
	                 uri, (int)(len < 100 ? len : 100), text);
}

static int parse_params(struct params *params, const char *uri, const char *text, struct error *err)
{
	while (*text != '\0') {
		size_t len = strcspn(text, "&");

		if (parse_param(params, uri, text, len, err) < 0)
			return -1;
		text += len;
		text += *text == '&';
	}
	return 0;
}

static const char *environment(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value != NULL && value[0] != '\0' ? value : otherwise;
}

/* FIRST and SECOND in one, without a slash at its end. */
static char *join(const char *first, const char *second)
{
	char *ret;
	size_t n;

	if (asprintf(&ret, "%s%s", first, second) < 0)
		return NULL;
	for (n = strlen(ret); n > 1 && ret[n - 1] == '/'; n--)
		ret[n - 1] = '\0';
	return ret;
}

/* A root moves the files and the state, never what store paths are called. */
static int find_directories(struct place *place, const struct params *params, struct error *err)
{
	const char *store =
		params->store != NULL ? params->store : environment("NIX_STORE_DIR", STORE_DIR_DEFAULT);
	char *root = join(params->root != NULL ? params->root : "", "");

	if (root == NULL)
		return no_memory(err);
	if (strcmp(root, "/") == 0)
		root[0] = '\0';
	place->store_dir = join(store, "");
	if (params->real != NULL)
		place->real_dir = join(params->real, "");
	else
		place->real_dir = params->root != NULL ? join(root, STORE_DIR_DEFAULT) : join(store, "");
	if (params->state != NULL)
		place->state_dir = join(params->state, "");
	else
		place->state_dir = params->root != NULL
		                           ? join(root, STATE_DIR_DEFAULT)
		                           : join(environment("NIX_STATE_DIR", STATE_DIR_DEFAULT), "");
	free(root);
	if (place->store_dir == NULL || place->real_dir == NULL || place->state_dir == NULL)
		return no_memory(err);
	if (place->store_dir[0] != '/' || strlen(place->store_dir) + 1 + STORE_BASE_MAX >= STORE_PATH_SIZE)
		return error_set(err, ERROR_OPERATOR,
		                 "the store directory \"%.600s\" is no absolute path of at most 512 bytes",
		                 place->store_dir);
	return 0;
}

static int find_socket(struct place *place, const char *path, size_t len, struct error *err)
{
	const char *set = environment("NIX_DAEMON_SOCKET_PATH", NULL);

	if (len > 0) {
		place->socket = decode(path, len);
		if (place->socket == NULL || place->socket[0] != '/')
			return error_set(err, ERROR_OPERATOR, "store \"unix://%.*s\": no absolute path",
			                 (int)(len < 300 ? len : 300), path);
		return 0;
	}
	if (set != NULL)
		place->socket = join(set, "");
	else
		place->socket =
			join(environment("NIX_STATE_DIR", STATE_DIR_DEFAULT), "/daemon-socket/socket");
	return place->socket != NULL ? 0 : no_memory(err);
}

static bool is(const char *text, size_t len, const char *word)
{
	return strlen(word) == len && strncmp(text, word, len) == 0;
}

static int parse(struct place *place, struct params *params, const char *uri, struct error *err)
{
	size_t len = strcspn(uri, "?");

	if (parse_params(params, uri, uri + len + (uri[len] == '?'), err) < 0)
		return -1;
	if (uri[0] == '/') {
		free(params->root);
		params->root = strndup(uri, len);
		return params->root != NULL ? 0 : no_memory(err);
	}
	if (is(uri, len, "local"))
		return 0;
	if (is(uri, len, "auto") || is(uri, len, "daemon"))
		return find_socket(place, "", 0, err);
	if (strncmp(uri, "unix://", 7) == 0)
		return find_socket(place, uri + 7, len - 7, err);
	return error_set(
		err, ERROR_OPERATOR,
		"\"%.300s\" is not a store that we can serve (expected auto, daemon, unix:///PATH, local,"
		" local?root=/DIR or /DIR)",
		uri);
}

int place_parse(struct place *ret, const char *uri, struct error *err)
{
	struct place place = { 0 };
	CLEANUP(params_fini) struct params params = { 0 };

	if (uri[0] == '\0' || strcmp(uri, "auto") == 0)
		uri = environment("NIX_REMOTE", "auto");
	if (parse(&place, &params, uri, err) < 0 || find_directories(&place, &params, err) < 0) {
		place_fini(&place);
		return -1;
	}
	*ret = place;
	return 0;
}
