#include "daemon/backend/kind.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/store_path.h"
#include "daemon/format/narinfo.h"
#include "daemon/http/fault.h"

/* Between cache.nixos.org (40) and whatever else its readers have. */
#define CACHE_PRIORITY 41

#define CACHIX_ENDPOINT "https://cachix.org"

void op_begin(struct backend *backend, struct backend_op *op)
{
	op->err = (struct error){ 0 };
	op->is_server_fault = false;
	op->found = false;
	op->nar_url[0] = '\0';
	op->file_size = 0;
	op->sent_bytes = 0;
	op->backend = backend;
	op->call = NULL;
}

static void on_end(struct loop_post *post)
{
	struct backend_op *op = CONTAINER_OF(post, struct backend_op, post);

	op->done(op);
}

void op_end_later(struct backend_op *op)
{
	op->call = NULL;
	loop_post(op->backend->loop, &op->post, on_end);
}

void op_cancel_call(struct backend_op *op)
{
	const struct op_call *call = op->call;

	if (call != NULL)
		call->cancel(op);
}

void op_find_nothing_start(struct backend *backend, struct backend_op *op,
                           const struct backend_object *object)
{
	(void)object;
	op_begin(backend, op);
	op_end_later(op);
}

void op_put_nothing_start(struct backend *backend, struct backend_op *op, const struct backend_object *object,
                          const char *text, size_t len)
{
	(void)object;
	(void)text;
	(void)len;
	op_begin(backend, op);
	op_end_later(op);
}

ssize_t op_read_body(struct backend_op *op, struct body *body, uint64_t offset, void *data, size_t n_bytes,
                     struct error *err)
{
	ssize_t n = body_read(body, offset, data, n_bytes, err);

	if (n < 0)
		return HTTP_SOURCE_FAILED;
	op->sent_bytes = offset + (uint64_t)n;
	if (n > 0)
		return n;
	switch (body_state(body)) {
	case BODY_GROWING:
		return HTTP_SOURCE_WAIT;
	case BODY_ENDED:
		return 0;
	case BODY_FAILED:
		break;
	}
	*err = *body_error(body);
	return HTTP_SOURCE_FAILED;
}

void wipe_text(char **text)
{
	if (*text != NULL)
		explicit_bzero(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

void make_plain(char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = ' ';
}

void announce_key(struct backend *backend, const char *text)
{
	struct backend_announced *announced = &backend->announced;
	struct public_key key;
	struct error err;

	if (text == NULL || strlen(text) >= ANNOUNCED_KEY_SIZE || announced->n_keys == ANNOUNCED_KEYS_MAX ||
	    public_key_parse(&key, text, &err) < 0)
		return;
	strcpy(announced->keys[announced->n_keys++], text);
}

void announce_reader_url(struct backend *backend, const char *text)
{
	char *url = backend->announced.reader_url;

	if (text == NULL || strlen(text) >= ANNOUNCED_URL_SIZE)
		return;
	strcpy(url, text);
	make_plain(url);
	for (size_t n = strlen(url); n > 0 && url[n - 1] == '/'; n--)
		url[n - 1] = '\0';
}

const char *format_narinfo_key(char key[NARINFO_KEY_SIZE], const char *path)
{
	snprintf(key, NARINFO_KEY_SIZE, "%.*s.narinfo", STORE_HASH_LEN, store_path_base(path));
	return key;
}

int check_narinfo(const char *where, const char *text, size_t len, const char *path, struct error *err)
{
	size_t n_dir = (size_t)(store_path_base(path) - path) - 1;
	struct narinfo narinfo = { 0 };
	char store_dir[STORE_PATH_SIZE];
	struct error why;
	int rc = 0;

	snprintf(store_dir, sizeof(store_dir), "%.*s", (int)n_dir, path);
	if (narinfo_parse(&narinfo, text, len, store_dir, &why) < 0)
		return error_set(err, ERROR_OPERATOR,
		                 "%s: answered with something that is not a narinfo (%s)", where, why.text);
	if (strcmp(narinfo.info.path, path) != 0)
		rc = error_set(err, ERROR_OPERATOR, "%s: the narinfo is of %s, not of %s", where,
		               narinfo.info.path, path);
	narinfo_fini(&narinfo);
	return rc;
}

size_t format_cache_info(char text[CACHE_INFO_TEXT_SIZE], const char *store_dir)
{
	int n = snprintf(text, CACHE_INFO_TEXT_SIZE, "StoreDir: %s\nWantMassQuery: 1\nPriority: %d\n",
	                 store_dir, CACHE_PRIORITY);

	assert(n > 0 && n < CACHE_INFO_TEXT_SIZE); /* a store directory has at most 512 bytes */
	return (size_t)n;
}

/* It is shown to people: control characters would be an attempt to fool them. */
static bool is_plain(const char *text, int len)
{
	for (int i = 0; i < len; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			return false;
	return true;
}

/* The value of the line "NAME: value" in TEXT, blanks around it cut; NULL if there is none. */
static const char *find_value(const char *text, const char *name, int *ret_len)
{
	size_t n_name = strlen(name);

	for (const char *line = text; *line != '\0'; line += strspn(line, "\n")) {
		size_t n = strcspn(line, "\n");

		if (n > n_name && strncmp(line, name, n_name) == 0 && line[n_name] == ':') {
			const char *value = line + n_name + 1;
			const char *end = line + n;

			while (value < end && strchr(" \t\r", *value) != NULL)
				value++;
			while (end > value && strchr(" \t\r", end[-1]) != NULL)
				end--;
			*ret_len = (int)(end - value);
			return value;
		}
		line += n;
	}
	return NULL;
}

bool is_web_page(const struct http_request *req)
{
	const char *type = http_get_header(req, "Content-Type"), *text = buf_text(&req->answer);

	return (type != NULL && strncasecmp(type, "text/html", 9) == 0) ||
	       text[strspn(text, " \t\r\n")] == '<';
}

void fail_web_page(const struct http_request *req, struct error *err)
{
	struct buf url;

	buf_init(&url, KIB(8));
	http_format_url(&url, req->url);
	error_set(err, ERROR_TRANSIENT,
	          "%s %s: answered with a web page, as networks do that want a login first",
	          http_method_name(req->method), buf_text(&url));
	buf_fini(&url);
}

void read_nar_url(char ret[96], const char *text)
{
	int len = 0;
	const char *value = find_value(text, "URL", &len);

	snprintf(ret, 96, "%.*s", value == NULL ? 0 : len < 95 ? len : 95, value != NULL ? value : "");
}

int check_cache_info(const char *where, const char *text, const char *store_dir, struct error *err)
{
	int len = 0;
	const char *value = find_value(text, "StoreDir", &len);

	if (value == NULL || !is_plain(value, len))
		return error_set(err, ERROR_OPERATOR,
		                 "%s: answered with something that is not a nix-cache-info", where);
	if (strlen(store_dir) != (size_t)len || strncmp(value, store_dir, (size_t)len) != 0)
		return error_set(err, ERROR_OPERATOR, "%s: the cache is for the store %.*s, not %s", where,
		                 len < 200 ? len : 200, value, store_dir);
	return 0;
}

const char *attic_name(const struct cache_config *cache, size_t *ret_len)
{
	const char *url = cache->url, *name;
	size_t len = strlen(url);

	while (len > 0 && url[len - 1] == '/')
		len--;
	name = (const char *)memrchr(url, '/', len) + 1;
	*ret_len = (size_t)(url + len - name);
	return name;
}

char *attic_endpoint(const struct cache_config *cache)
{
	bool is_plain = strncasecmp(cache->url, "attic+http:", 11) == 0;
	const char *host = strstr(cache->url, "://") + 3;
	size_t len;
	const char *name = attic_name(cache, &len);
	char *url;

	if (cache->endpoint != NULL)
		url = strdup(cache->endpoint);
	else if (asprintf(&url, "http%s://%.*s", is_plain ? "" : "s", (int)(name - 1 - host), host) < 0)
		url = NULL;
	for (len = url != NULL ? strlen(url) : 0; len > 0 && url[len - 1] == '/'; len--)
		url[len - 1] = '\0';
	return url;
}

const char *cachix_endpoint(const struct cache_config *cache)
{
	return cache->endpoint != NULL ? cache->endpoint : CACHIX_ENDPOINT;
}

char *cachix_name(const struct cache_config *cache)
{
	const char *name = strstr(cache->url, "://") + 3;

	return strndup(name, strcspn(name, "/"));
}
