/* The doctor's look at one cache, as the daemon sees it and as its readers do:
 *
 *   PROBE  the backend's probe: there, for this store, may be written to
 *   FIND   Attic: a question that needs the right to push
 *   READ   nix-cache-info, asked for as by a reader without credentials: Priority, StoreDir, the clock */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/fd.h"
#include "daemon/backend/kind.h"
#include "daemon/doctor.h"
#include "daemon/doctor_parts.h"
#include "daemon/format/signature.h"

#define CACHE_INFO        "nix-cache-info"
#define INFO_MAX_BYTES    KIB(64)
#define KEYS_TEXT_MAX     KIB(16)
#define PRIORITY_NOT_SAID (-1)

bool doctor_parse_date(const char *text, int64_t *ret_unix_s)
{
	struct tm tm = { 0 };
	const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);

	if (end == NULL || *end != '\0')
		return false;
	*ret_unix_s = timegm(&tm);
	return true;
}

bool doctor_find_value(const char *text, const char *name, char *ret, size_t size)
{
	size_t n_name = strlen(name);

	for (const char *line = text; *line != '\0';) {
		size_t n = strcspn(line, "\n");

		if (n > n_name && strncmp(line, name, n_name) == 0 && line[n_name] == ':') {
			const char *value = line + n_name + 1, *end = line + n;

			while (value < end && (*value == ' ' || *value == '\t'))
				value++;
			while (end > value && (end[-1] == ' ' || end[-1] == '\r'))
				end--;
			snprintf(ret, size, "%.*s", (int)(end - value), value);
			return true;
		}
		line += n + (line[n] == '\n');
	}
	return false;
}

static void ended(struct doctor_cache *cache)
{
	doctor_ended(cache->doctor);
}

/* ---- READ -------------------------------------------------------------------------------------------- */

static void take_info(struct doctor_cache *cache, const char *text)
{
	char priority[24];

	if (!doctor_find_value(text, "StoreDir", cache->reader_store_dir, sizeof(cache->reader_store_dir))) {
		error_set(&cache->reader_err, ERROR_OPERATOR,
		          "%s: answered with something that is not a nix-cache-info", cache->reader_url);
		return;
	}
	cache->was_read = true;
	if (doctor_find_value(text, "Priority", priority, sizeof(priority)))
		cache->priority = strtol(priority, NULL, 10);
}

static void on_read(struct http_request *req)
{
	struct doctor_cache *cache = CONTAINER_OF(req, struct doctor_cache, req);
	const char *date = req->status != 0 ? http_get_header(req, "Date") : NULL;
	int64_t theirs;

	cache->has_req = false;
	if (date != NULL && doctor_parse_date(date, &theirs)) {
		cache->has_skew = true;
		cache->skew_s = clock_unix_s() - theirs;
	}
	if (req->err.kind == ERROR_NONE)
		take_info(cache, buf_text(&req->answer));
	else
		cache->reader_err = req->err;
	buf_fini(&req->answer);
	ended(cache);
}

static void read_file_cache(struct doctor_cache *cache)
{
	CLEANUP(buf_fini) struct buf path = { .max = 4096 };
	struct error err;
	char *text;

	buf_printf(&path, "%s/" CACHE_INFO, cache->config->identity + strlen("file://"));
	if (read_file(buf_text(&path), INFO_MAX_BYTES, &text, NULL, &err) < 0) {
		cache->reader_err = err;
		return;
	}
	take_info(cache, text);
	free(text);
}

static void read_start(struct doctor_cache *cache)
{
	const struct net_config *net = &cache->config->net;
	const struct http_options nobody = { .proxy = net->proxy,
		                             .ca_file = net->ca_file,
		                             .whole_timeout_ms = DOCTOR_MAX_MS,
		                             .max_requests = 1 };
	const char *url = cache->link->backend->announced.reader_url;

	if (cache->config->kind == CACHE_FILE) {
		if (cache->found)
			read_file_cache(cache);
		ended(cache);
		return;
	}
	if (*url == '\0' || cache->doctor->is_late) {
		ended(cache);
		return;
	}
	cache->reader_url = http_join_url(url, CACHE_INFO);
	if (cache->reader_url == NULL ||
	    http_client_open(&cache->reader, cache->doctor->http, &nobody, &cache->reader_err) < 0) {
		ended(cache);
		return;
	}
	cache->has_req = true;
	cache->req = (struct http_request){ .method = HTTP_GET,
		                            .url = cache->reader_url,
		                            .answer_max_bytes = INFO_MAX_BYTES };
	http_start(cache->reader, &cache->req, on_read);
}

/* ---- PROBE, FIND -------------------------------------------------------------------------------------- */

static void on_found(struct backend_op *op)
{
	struct doctor_cache *cache = CONTAINER_OF(op, struct doctor_cache, op);
	struct backend_announced *announced = &cache->link->backend->announced;

	cache->has_op = false;
	announced->write_err = op->err;
	if (op->err.kind == ERROR_NONE)
		announced->may_write = MAY_WRITE_YES;
	else if (op->err.kind == ERROR_OPERATOR)
		announced->may_write = MAY_WRITE_NO;
	read_start(cache);
}

static void on_probed(struct backend_op *op)
{
	struct doctor_cache *cache = CONTAINER_OF(op, struct doctor_cache, op);
	struct backend *backend = cache->link->backend;

	cache->has_op = false;
	cache->err = op->err;
	cache->found = op->found;
	if (cache->err.kind != ERROR_NONE || cache->config->kind != CACHE_ATTIC || cache->doctor->is_late) {
		if (cache->err.kind == ERROR_NONE && cache->config->kind == CACHE_CACHIX)
			backend->announced.may_write = MAY_WRITE_YES; /* or that would have been an error */
		read_start(cache);
		return;
	}
	cache->has_op = true;
	cache->op = (struct backend_op){ .done = on_found };
	backend->ops->find_info_start(backend, &cache->op, cache->doctor->path);
}

void doctor_cache_start(struct doctor_cache *cache)
{
	struct doctor *doctor = cache->doctor;
	struct backend *backend;

	cache->priority = PRIORITY_NOT_SAID;
	if (link_open(&cache->link, &doctor->loop, doctor->http, cache->config, store_dir(doctor->store),
	              &cache->err) < 0) {
		ended(cache);
		return;
	}
	backend = cache->link->backend;
	cache->has_op = true;
	cache->op = (struct backend_op){ .done = on_probed };
	if (backend->ops->probe_start != NULL)
		backend->ops->probe_start(backend, &cache->op);
	else
		backend->ops->prepare_start(backend, &cache->op);
}

void doctor_cache_cancel(struct doctor_cache *cache)
{
	if (cache->has_op)
		cache->link->backend->ops->cancel(&cache->op);
	if (cache->has_req)
		http_cancel(&cache->req);
}

void doctor_cache_close(struct doctor_cache *cache)
{
	link_unref(cache->link);
	http_client_close(cache->reader);
	free(cache->reader_url);
}

/* ---- what was found ----------------------------------------------------------------------------------- */

static void put_error(struct buf *out, const char *key, const struct error *err)
{
	if (err->kind == ERROR_CANCELED)
		record_text(out, key, "no answer in time");
	else if (err->kind != ERROR_NONE)
		record_text(out, key, err->text);
}

static void put_keys(const struct doctor_cache *cache, struct buf *out)
{
	const struct backend_announced *announced = &cache->link->backend->announced;
	struct buf text;

	buf_init(&text, KEYS_TEXT_MAX);
	for (size_t i = 0; i < cache->link->n_keys; i++) {
		buf_puts(&text, i > 0 ? " " : "");
		signing_key_format_public(cache->link->keys[i], &text);
	}
	record_text(out, "keys", buf_text(&text));
	buf_clear(&text);
	for (size_t i = 0; i < announced->n_keys; i++)
		buf_printf(&text, "%s%s", i > 0 ? " " : "", announced->keys[i]);
	record_text(out, "announced-keys", buf_text(&text));
	buf_fini(&text);
}

static const char *kind_name(enum cache_kind kind)
{
	static const char *const names[] = { [CACHE_FILE] = "file",
		                             [CACHE_HTTP] = "http",
		                             [CACHE_S3] = "s3",
		                             [CACHE_CACHIX] = "cachix",
		                             [CACHE_ATTIC] = "attic" };

	return names[kind];
}

static void free_text(char **text)
{
	free(*text);
}

/* What readers list, where the server did not say it. For the caller to free; NULL: not known. */
static char *guess_reader_url(const struct cache_config *config)
{
	CLEANUP(free_text) char *endpoint = NULL, *name = NULL;
	const char *attic;
	char *url = NULL;
	size_t n;

	switch (config->kind) {
	case CACHE_ATTIC:
		attic = attic_name(config, &n);
		endpoint = attic_endpoint(config);
		if (endpoint != NULL && asprintf(&url, "%s/%.*s", endpoint, (int)n, attic) < 0)
			return NULL;
		return url;
	case CACHE_CACHIX:
		name = cachix_name(config);
		if (config->endpoint == NULL && name != NULL &&
		    asprintf(&url, "https://%s.cachix.org", name) < 0)
			return NULL;
		return url;
	case CACHE_FILE:
	case CACHE_HTTP:
	case CACHE_S3:
		break;
	}
	return strdup(config->url);
}

static void put_reader_url(const struct doctor_cache *cache, struct buf *out)
{
	const char *announced = cache->link != NULL ? cache->link->backend->announced.reader_url : "";
	CLEANUP(free_text) char *guess = *announced == '\0' ? guess_reader_url(cache->config) : NULL;

	record_text(out, "reader-url", guess != NULL || *announced == '\0' ? guess : announced);
}

/* What it said itself, or else what became of a reader without credentials. */
static enum visibility visibility_of(const struct doctor_cache *cache)
{
	enum visibility announced = cache->link->backend->announced.visibility;
	unsigned status = cache->req.status;

	if (announced != VISIBILITY_UNKNOWN || cache->config->kind == CACHE_FILE)
		return announced;
	if (status == 401 || status == 403 || status == 404)
		return cache->found ? VISIBILITY_PRIVATE : VISIBILITY_UNKNOWN;
	return cache->was_read ? VISIBILITY_PUBLIC : VISIBILITY_UNKNOWN;
}

static void put_answers(const struct doctor_cache *cache, struct buf *out)
{
	const struct backend_announced *announced = &cache->link->backend->announced;
	enum visibility visibility = visibility_of(cache);

	record_bool(out, "found", cache->found);
	if (announced->may_write != MAY_WRITE_UNKNOWN)
		record_bool(out, "may-write", announced->may_write == MAY_WRITE_YES);
	put_error(out, "write-error", &announced->write_err);
	if (visibility != VISIBILITY_UNKNOWN)
		record_bool(out, "public", visibility == VISIBILITY_PUBLIC);
	record_text(out, "exposed", config_warn_public(cache->config, visibility));
	put_keys(cache, out);
	if (cache->req.status != 0)
		record_uint(out, "reader-status", cache->req.status);
	put_error(out, "reader-error", &cache->reader_err);
	if (cache->was_read) {
		record_text(out, "reader-store-dir", cache->reader_store_dir);
		if (cache->priority != PRIORITY_NOT_SAID)
			record_int(out, "reader-priority", cache->priority);
	}
	if (cache->has_skew)
		record_int(out, "skew-s", cache->skew_s);
	if (announced->retention_s > 0)
		record_uint(out, "retention-s", announced->retention_s);
}

void doctor_cache_put(const struct doctor_cache *cache, struct buf *out)
{
	const struct cache_config *config = cache->config;

	record_begin(out, "cache");
	record_text(out, "name", config->name);
	record_text(out, "url", config->url);
	record_text(out, "kind", kind_name(config->kind));
	record_bool(out, "target",
	            config->push == PUSH_YES || (config->push == PUSH_AUTO && cache->link != NULL));
	record_bool(out, "auto", config->push == PUSH_AUTO);
	record_uint(out, "presence-ttl-s", config->presence_ttl_s);
	record_text(out, "token-file", config->token_file);
	record_text(out, "endpoint", config->endpoint);
	record_text(out, "region", config->s3_region);
	if (config->signing_key_files.n > 0)
		record_text(out, "key-file", config->signing_key_files.items[0]);
	record_text(out, "unsigned", config_warn_unsigned(config));
	put_error(out, "error", &cache->err);
	if (cache->err.kind != ERROR_NONE)
		record_text(out, "error-kind", error_kind_name(cache->err.kind));
	record_bool(out, "opened", cache->link != NULL);
	put_reader_url(cache, out);
	if (cache->link != NULL)
		put_answers(cache, out);
	record_end(out);
}
