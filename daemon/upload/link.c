#include "daemon/upload/link.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fd.h"
#include "daemon/backend/kind.h"
#include "daemon/backend/secrets.h"
#include "daemon/format/signature.h"

#define KEY_FILE_MAX_BYTES 4096

/* Cachix hands out keys without a name, and wants none. */
static int key_parse(struct signing_key **ret, const struct cache_config *config, const char *text,
                     const char *origin, struct error *err)
{
	if (config->kind == CACHE_CACHIX && strchr(text, ':') == NULL)
		return signing_key_parse_bare(ret, config->name, text, origin, err);
	return signing_key_parse(ret, text, origin, err);
}

static int key_read(struct signing_key **ret, const struct cache_config *config, const char *file,
                    struct error *err)
{
	char *text;
	size_t len;
	int rc;

	if (read_file(file, KEY_FILE_MAX_BYTES, &text, &len, err) < 0) {
		err->kind = ERROR_OPERATOR;
		return error_prefix(err, "[cache \"%s\"] signing-key-file", config->name);
	}
	rc = key_parse(ret, config, text, file, err);
	explicit_bzero(text, len);
	free(text);
	if (rc < 0)
		return error_prefix(err, "[cache \"%s\"] signing-key-file", config->name);
	return 0;
}

/* The key that the user has for Cachix, if there is one. */
static int own_key_read(struct cache_link *link, const struct cache_config *config, struct error *err)
{
	const char *origin = NULL;
	char *text = NULL;
	int rc = 0;

	if (secrets_read_signing_key(config, &text, &origin, err) < 0)
		return -1;
	if (text != NULL && key_parse(&link->keys[0], config, text, origin, err) < 0)
		rc = error_prefix(err, "[cache \"%s\"]", config->name);
	else if (text != NULL)
		link->n_keys = 1;
	wipe_text(&text);
	return rc;
}

static int keys_read(struct cache_link *link, const struct cache_config *config, struct error *err)
{
	const struct text_list *files = &config->signing_key_files;

	if (config->sign == SIGN_NO)
		return 0;
	link->keys = calloc(files->n + 1, sizeof(link->keys[0]));
	if (link->keys == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	if (files->n == 0)
		return own_key_read(link, config, err);
	for (; link->n_keys < files->n; link->n_keys++)
		if (key_read(&link->keys[link->n_keys], config, files->items[link->n_keys], err) < 0)
			return -1;
	return 0;
}

int link_open(struct cache_link **ret, struct loop *loop, struct http *http,
              const struct cache_config *config, const char *store_dir, struct error *err)
{
	struct cache_link *link = calloc(1, sizeof(*link));

	if (link == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	link->n_users = 1;
	if (keys_read(link, config, err) < 0 ||
	    backend_open(&link->backend, loop, http, config, store_dir, err) < 0) {
		link_unref(link);
		return -1;
	}
	*ret = link;
	return 0;
}

struct cache_link *link_ref(struct cache_link *link)
{
	link->n_users++;
	return link;
}

void link_unref(struct cache_link *link)
{
	if (link == NULL || --link->n_users > 0)
		return;
	backend_close(link->backend);
	for (size_t i = 0; i < link->n_keys; i++)
		signing_key_free(link->keys[i]);
	free(link->keys);
	free(link);
}

static uint64_t mix(uint64_t stamp, uint64_t value)
{
	return (stamp ^ value) * 0x100000001b3u; /* FNV */
}

/* Whose mode was mended counts, too: it can be read now. */
static uint64_t mix_file(uint64_t stamp, const char *file)
{
	struct stat st;

	if (file == NULL)
		return stamp;
	if (stat(file, &st) < 0)
		return mix(stamp, 1);
	stamp = mix(stamp, (uint64_t)st.st_ino);
	stamp = mix(stamp, (uint64_t)st.st_size);
	stamp = mix(stamp, (uint64_t)st.st_mtim.tv_sec);
	stamp = mix(stamp, (uint64_t)st.st_mtim.tv_nsec);
	stamp = mix(stamp, (uint64_t)st.st_ctim.tv_sec);
	return mix(stamp, (uint64_t)st.st_ctim.tv_nsec);
}

uint64_t link_secrets_stamp(const struct cache_config *config)
{
	const struct net_config *net = &config->net;
	const char *files[] = { config->token_file,    config->login_file,   net->ca_file,
		                net->client_cert_file, net->client_key_file, net->netrc_file };
	uint64_t stamp = 0xcbf29ce484222325u;

	for (size_t i = 0; i < N_ELEMENTS(files); i++)
		stamp = mix_file(stamp, files[i]);
	for (size_t i = 0; i < config->signing_key_files.n; i++)
		stamp = mix_file(stamp, config->signing_key_files.items[i]);
	return stamp;
}
