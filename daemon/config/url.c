/* A URL is cut once into scheme, host, port and path; the table of schemes says what each may have.
 * Stricter than RFC 3986 on purpose: what is refused here would otherwise fail as a strange answer of
 * a server, or make two names of one cache. */
#include "daemon/config/url.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum url_shape {
	SHAPE_HOST,      /* //HOST[:PORT] */
	SHAPE_HOST_PATH, /* //HOST[:PORT][/PATH] */
	SHAPE_HOST_NAME, /* //HOST[:PORT][/PATH]/NAME */
	SHAPE_NAME,      /* //NAME */
	SHAPE_DIR,       /* ///DIR */
};

static const struct scheme {
	const char *name;
	unsigned uses;
	enum url_shape shape;
	const char *default_port;
	enum cache_kind kind;
} schemes[] = {
	{ "https", URL_CACHE | URL_UPSTREAM, SHAPE_HOST_PATH, "443", CACHE_HTTP },
	{ "http", URL_CACHE | URL_UPSTREAM, SHAPE_HOST_PATH, "80", CACHE_HTTP },
	{ "s3", URL_CACHE, SHAPE_NAME, "", CACHE_S3 },
	{ "cachix", URL_CACHE, SHAPE_NAME, "", CACHE_CACHIX },
	{ "attic", URL_CACHE, SHAPE_HOST_NAME, "443", CACHE_ATTIC },
	{ "attic+http", URL_CACHE, SHAPE_HOST_NAME, "80", CACHE_ATTIC },
	{ "file", URL_CACHE | URL_UPSTREAM, SHAPE_DIR, "", CACHE_FILE },
	{ "https", URL_ENDPOINT, SHAPE_HOST, "443", CACHE_HTTP },
	{ "http", URL_ENDPOINT, SHAPE_HOST, "80", CACHE_HTTP },
	{ "https", URL_PROXY, SHAPE_HOST, "", CACHE_HTTP },
	{ "http", URL_PROXY, SHAPE_HOST, "", CACHE_HTTP },
	{ "socks4", URL_PROXY, SHAPE_HOST, "", CACHE_HTTP },
	{ "socks4a", URL_PROXY, SHAPE_HOST, "", CACHE_HTTP },
	{ "socks5", URL_PROXY, SHAPE_HOST, "", CACHE_HTTP },
	{ "socks5h", URL_PROXY, SHAPE_HOST, "", CACHE_HTTP },
};

struct span {
	const char *at;
	size_t n;
};

struct url_parts {
	const struct scheme *scheme;
	struct span host, port; /* port without the colon */
	const char *path;       /* "" or from the first slash */
};

static const char *use_name(enum url_use use)
{
	switch (use) {
	case URL_CACHE:
		return "a cache URL";
	case URL_UPSTREAM:
		return "the URL of an upstream cache";
	case URL_ENDPOINT:
		return "an endpoint";
	case URL_PROXY:
		return "a proxy";
	}
	return "a URL";
}

static const char *use_expected(enum url_use use)
{
	switch (use) {
	case URL_CACHE:
		return "https://HOST/PATH, s3://BUCKET, cachix://NAME, attic://HOST/NAME or file:///DIR; "
		       "see nncache.conf(5)";
	case URL_UPSTREAM:
		return "https://HOST/PATH, http://HOST/PATH or file:///DIR; see nncache.conf(5)";
	case URL_ENDPOINT:
		return "https://HOST[:PORT] or http://HOST[:PORT]; see nncache.conf(5)";
	case URL_PROXY:
		return "http://HOST:PORT, https://HOST:PORT or socks5h://HOST:PORT; see nncache.conf(5)";
	}
	return "a URL";
}

/* WHY may be NULL. What holds "@" may hold a password, misplaced or not, and is not repeated. */
static int refuse(struct error *err, const char *text, enum url_use use, const char *why)
{
	bool is_shown = strchr(text, '@') == NULL;

	return error_set(err, ERROR_OPERATOR, "%s%s%s is not %s%s%s\n  expected %s", is_shown ? "\"" : "",
	                 is_shown ? text : "the value", is_shown ? "\"" : "", use_name(use),
	                 why != NULL ? ": " : "", why != NULL ? why : "", use_expected(use));
}

static int refuse_user(struct error *err, enum url_use use)
{
	return error_set(err, ERROR_OPERATOR, "holds a user name or password (not shown)\n  expected %s",
	                 use == URL_PROXY
	                         ? "the URL without them; such a proxy is set in the environment of the "
	                           "service (https_proxy)"
	                         : "the URL without them, and a netrc-file or token-file");
}

static int refuse_query(struct error *err)
{
	return error_set(err, ERROR_OPERATOR,
	                 "holds a query or fragment (not shown)\n"
	                 "  expected the URL alone; its parameters are keys of the section "
	                 "(endpoint, region, compression, ...)");
}

static bool span_is(struct span span, const char *text)
{
	return strlen(text) == span.n && strncasecmp(span.at, text, span.n) == 0;
}

static bool span_has_only(struct span span, const char *others)
{
	for (size_t i = 0; i < span.n; i++) {
		if (!isalnum((unsigned char)span.at[i]) && strchr(others, span.at[i]) == NULL)
			return false;
	}
	return true;
}

static const struct scheme *scheme_find(struct span name, enum url_use use)
{
	for (size_t i = 0; i < N_ELEMENTS(schemes); i++) {
		if ((schemes[i].uses & use) != 0 && span_is(name, schemes[i].name))
			return &schemes[i];
	}
	return NULL;
}

static bool host_is_valid(struct span host)
{
	if (host.n > 2 && host.at[0] == '[' && host.at[host.n - 1] == ']') {
		for (size_t i = 1; i < host.n - 1; i++) {
			if (!isxdigit((unsigned char)host.at[i]) && strchr(":.", host.at[i]) == NULL)
				return false;
		}
		return true;
	}
	return host.n > 0 && host.n <= 253 && host.at[0] != '-' && span_has_only(host, ".-_");
}

static bool port_is_valid(struct span port)
{
	unsigned long number = 0;

	if (port.n == 0 || port.n > 5)
		return false;
	for (size_t i = 0; i < port.n; i++) {
		if (!isdigit((unsigned char)port.at[i]))
			return false;
		number = number * 10 + (unsigned long)(port.at[i] - '0');
	}
	return number >= 1 && number <= 65535;
}

/* Of a bucket (S3's rule, and what older servers took too), or of a Cachix cache. */
static bool name_is_valid(struct span name, enum cache_kind kind)
{
	size_t min = kind == CACHE_S3 ? 3 : 1;

	return name.n >= min && name.n <= 63 && isalnum((unsigned char)name.at[0]) &&
	       span_has_only(name, ".-_");
}

static bool attic_name_is_valid(struct span name)
{
	return name.n >= 1 && name.n <= 50 && isalnum((unsigned char)name.at[0]) &&
	       span_has_only(name, "-_+");
}

/* A server or a proxy on the way resolves "." and ".." parts: two spellings of one place. */
static bool url_path_is_valid(const char *path)
{
	for (const char *p = path; *p != '\0'; p++) {
		size_t n;

		if (*p == ' ' || *p == '\t' || *p == '\\')
			return false;
		if (*p != '/')
			continue;
		n = strcspn(p + 1, "/");
		if ((n == 1 && p[1] == '.') || (n == 2 && p[1] == '.' && p[2] == '.'))
			return false;
	}
	return true;
}

static bool has_suffix(const char *text, const char *suffix)
{
	size_t n = strlen(text), n_suffix = strlen(suffix);

	return n >= n_suffix && strcmp(text + n - n_suffix, suffix) == 0;
}

bool path_normalise(const char *path, struct buf *normal)
{
	size_t start = normal->len;

	if (path[0] != '/' || strstr(path, "/../") != NULL || has_suffix(path, "/.."))
		return false;
	for (const char *p = path; *p != '\0';) {
		size_t n = strcspn(++p, "/");

		if (n > 0 && !(n == 1 && p[0] == '.')) {
			buf_putc(normal, '/');
			buf_append(normal, p, n);
		}
		p += n;
	}
	if (normal->len == start)
		buf_putc(normal, '/');
	return true;
}

/* Cuts TEXT. Returns why it cannot be cut or has a wrong part, or NULL. */
static const char *cut_host(const char *text, struct url_parts *parts)
{
	size_t n_host = text[0] == '[' ? strcspn(text, "]/") : strcspn(text, ":/");
	const char *rest;

	n_host += text[n_host] == ']';
	rest = text + n_host;
	parts->host = (struct span){ text, n_host };
	if (*rest == ':') {
		parts->port = (struct span){ rest + 1, strcspn(rest + 1, "/") };
		rest += 1 + parts->port.n;
		if (!port_is_valid(parts->port))
			return "the port is not 1 to 65535";
	}
	parts->path = rest;
	if (!host_is_valid(parts->host) || (*rest != '/' && *rest != '\0'))
		return "that is no host name";
	return url_path_is_valid(rest) ? NULL : "its path has a blank, a backslash, \".\" or \"..\" in it";
}

static size_t path_len(const char *path)
{
	size_t n = strlen(path);

	while (n > 0 && path[n - 1] == '/')
		n--;
	return n;
}

static void put_lower(struct buf *out, struct span span)
{
	for (size_t i = 0; i < span.n; i++)
		buf_putc(out, (char)tolower((unsigned char)span.at[i]));
}

static void put_host(struct buf *out, const struct url_parts *parts)
{
	buf_printf(out, "%s://", parts->scheme->name);
	put_lower(out, parts->host);
	if (parts->port.n > 0 && !span_is(parts->port, parts->scheme->default_port))
		buf_printf(out, ":%.*s", (int)parts->port.n, parts->port.at);
}

static const char *read_host(const char *text, struct url_parts *parts, struct buf *normal)
{
	const char *why = cut_host(text, parts);
	size_t n = why == NULL ? path_len(parts->path) : 0;

	if (why != NULL)
		return why;
	if (parts->scheme->shape == SHAPE_HOST && n > 0)
		return "it has a path";
	put_host(normal, parts);
	buf_append(normal, parts->path, n);
	return NULL;
}

static const char *read_host_name(const char *text, struct url_parts *parts, struct buf *normal)
{
	const char *why = cut_host(text, parts);
	size_t n = why == NULL ? path_len(parts->path) : 0;
	struct span name;

	if (why != NULL)
		return why;
	name.at = n > 0 ? (const char *)memrchr(parts->path, '/', n) + 1 : parts->path;
	name.n = (size_t)(parts->path + n - name.at);
	return attic_name_is_valid(name) ? read_host(text, parts, normal)
	                                 : "it does not end in the name of a cache";
}

static const char *read_name(const char *text, struct url_parts *parts, struct buf *normal)
{
	struct span name = { text, path_len(text) };

	if (memchr(text, '/', name.n) != NULL)
		return "it has a path";
	if (!name_is_valid(name, parts->scheme->kind))
		return parts->scheme->kind == CACHE_S3 ? "that is no name of a bucket"
		                                       : "that is no name of a cache";
	buf_printf(normal, "%s://%.*s", parts->scheme->name, (int)name.n, name.at);
	return NULL;
}

static const char *read_dir(const char *text, struct buf *normal)
{
	char memory[URL_MAX + 1];
	struct buf dir;

	buf_init_in(&dir, memory, sizeof(memory));
	if (text[0] != '/')
		return "it has a host";
	if (strchr(text, '%') != NULL)
		return "\"%\" in a directory means different things to different programs";
	if (!path_normalise(text, &dir))
		return "its path has \"..\" in it";
	buf_printf(normal, "file://%s", buf_text(&dir));
	return NULL;
}

static const char *read_shape(const char *text, struct url_parts *parts, struct buf *normal)
{
	switch (parts->scheme->shape) {
	case SHAPE_HOST:
	case SHAPE_HOST_PATH:
		return read_host(text, parts, normal);
	case SHAPE_HOST_NAME:
		return read_host_name(text, parts, normal);
	case SHAPE_NAME:
		return read_name(text, parts, normal);
	case SHAPE_DIR:
		return read_dir(text, normal);
	}
	return "unknown scheme";
}

int url_read(const char *text, enum url_use use, struct buf *normal, enum cache_kind *kind, struct error *err)
{
	struct url_parts parts = { .path = "" };
	const char *rest = strstr(text, "://");
	const char *why;

	if (strlen(text) > URL_MAX)
		return error_set(err, ERROR_OPERATOR, "is longer than %d bytes", URL_MAX);
	if (rest == NULL)
		return refuse(err, text, use, NULL);
	parts.scheme = scheme_find((struct span){ text, (size_t)(rest - text) }, use);
	rest += strlen("://");
	if (memchr(rest, '@', strcspn(rest, "/?#")) != NULL)
		return refuse_user(err, use);
	if (strpbrk(rest, "?#") != NULL)
		return refuse_query(err);
	if (parts.scheme == NULL)
		return refuse(err, text, use, NULL);
	why = read_shape(rest, &parts, normal);
	if (why != NULL)
		return refuse(err, text, use, why);
	if (!buf_ok(normal))
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	if (kind != NULL)
		*kind = parts.scheme->kind;
	return 0;
}
