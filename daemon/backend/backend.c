/* Picks the kind and has its token read; the kinds do the rest. */
#include "daemon/backend/backend.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/backend/kind.h"
#include "daemon/backend/secrets.h"

static struct http_options options_of(const struct net_config *net)
{
	return (struct http_options){
		.proxy = net->proxy,
		.ca_file = net->ca_file,
		.client_cert_file = net->client_cert_file,
		.client_key_file = net->client_key_file,
		.netrc_file = net->netrc_file,
	};
}

static struct http_options options_of_cache(const struct cache_config *cache)
{
	struct http_options options = options_of(&cache->net);

	options.max_requests = cache->upload_jobs;
	options.rate_bytes = cache->upload_rate_bytes;
	options.stall_timeout_ms = cache->stall_timeout_ms;
	return options;
}

typedef int (*open_fn)(struct backend **ret, struct loop *loop, struct http *http,
                       const struct http_options *options, const struct cache_config *cache,
                       const char *store_dir, struct error *err);

static int open_plain(struct backend **ret, struct loop *loop, struct http *http,
                      const struct http_options *options, const struct cache_config *cache,
                      const char *store_dir, struct error *err)
{
	return http_backend_open(ret, loop, http, options, cache->url, store_dir, err);
}

static int open_http(open_fn open_kind, struct backend **ret, struct loop *loop, struct http *http,
                     const struct cache_config *cache, const char *store_dir, struct error *err)
{
	struct http_options options = options_of_cache(cache);
	CLEANUP(wipe_text) char *token = NULL;

	if (secrets_read_token(cache, &token, err) < 0)
		return -1;
	options.token = token;
	if (open_kind(ret, loop, http, &options, cache, store_dir, err) < 0)
		return error_prefix(err, "[cache \"%s\"]", cache->name);
	return 0;
}

int backend_open(struct backend **ret, struct loop *loop, struct http *http, const struct cache_config *cache,
                 const char *store_dir, struct error *err)
{
	struct http_options options = options_of_cache(cache);

	switch (cache->kind) {
	case CACHE_FILE:
		return file_backend_open(ret, loop, cache->url, store_dir, err);
	case CACHE_HTTP:
		return open_http(open_plain, ret, loop, http, cache, store_dir, err);
	case CACHE_ATTIC:
		return open_http(attic_backend_open, ret, loop, http, cache, store_dir, err);
	case CACHE_S3:
		return s3_backend_open(ret, loop, http, &options, cache, store_dir, err);
	case CACHE_CACHIX:
		return open_http(cachix_backend_open, ret, loop, http, cache, store_dir, err);
	}
	return error_set(err, ERROR_OPERATOR, "[cache \"%s\"] of no kind", cache->name);
}

int backend_open_upstream(struct backend **ret, struct loop *loop, struct http *http,
                          const struct upstream_config *upstream, const struct net_config *net,
                          struct error *err)
{
	struct http_options options = options_of(net);

	if (strncasecmp(upstream->url, "file:", 5) == 0)
		return file_backend_open(ret, loop, upstream->url, NULL, err);
	if (http_backend_open(ret, loop, http, &options, upstream->url, NULL, err) < 0)
		return error_prefix(err, "[upstream \"%s\"]", upstream->name);
	return 0;
}

void backend_close(struct backend *backend)
{
	if (backend != NULL)
		backend->ops->close(backend);
}

/* ---- reading ---------------------------------------------------------------------------------------- */

static void on_read_refused(struct loop_post *post)
{
	struct backend_read *read = CONTAINER_OF(post, struct backend_read, post);

	read->done(read);
}

void read_end_later(struct backend_read *read)
{
	read->call = NULL;
	loop_post(read->loop, &read->post, on_read_refused);
}

/* It comes from a server: relative, in plain characters, and staying below the cache. */
static bool is_good_key(const char *key)
{
	if (*key == '\0' || *key == '/' || strlen(key) > READ_KEY_MAX_BYTES || strstr(key, "://") != NULL)
		return false;
	for (const char *p = key; *p != '\0'; p++)
		if (*p <= ' ' || *p >= 0x7f || *p == '#' || *p == '\\' ||
		    (strncmp(p, "..", 2) == 0 && (p == key || p[-1] == '/')))
			return false;
	return true;
}

void backend_read_start(struct backend *backend, struct backend_read *read, const char *key)
{
	read->err = (struct error){ 0 };
	read->loop = backend->loop;
	if (backend->ops->read_start != NULL && is_good_key(key)) {
		backend->ops->read_start(backend, read, key);
		return;
	}
	error_set(&read->err, ERROR_PERMANENT, "%.100s: %s", key,
	          backend->ops->read_start == NULL ? "this kind of cache cannot be read"
	                                           : "is no name of an object");
	read_end_later(read);
}

void backend_read_resume(struct backend_read *read)
{
	if (read->call != NULL)
		read->resume(read);
}

void backend_read_cancel(struct backend_read *read)
{
	if (read->call != NULL)
		read->cancel(read);
}
