/* Which URLs name a cache, an upstream, an endpoint or a proxy, and the one spelling of each.
 * Limits: URL_MAX bytes.
 * Errors: OPERATOR, 'what is wrong' and "\n  expected ..."; a URL that could hold a password is not shown.
 * Thread: any. */
#ifndef DAEMON_CONFIG_URL_H
#define DAEMON_CONFIG_URL_H

#include "daemon/config/config.h"

#define URL_MAX 1024

enum url_use { URL_CACHE = 1, URL_UPSTREAM = 2, URL_ENDPOINT = 4, URL_PROXY = 8 };

/* Is TEXT a URL for USE? Appends its normal form to NORMAL: scheme and host in lower case, without
 * default port and slash at the end. KIND (may be NULL) is set for URL_CACHE and URL_UPSTREAM. */
int url_read(const char *text, enum url_use use, struct buf *normal, enum cache_kind *kind, struct error *err)
	MUST_CHECK;

/* Appends the absolute PATH without doubled slashes, "." parts and slash at the end.
 * False: relative, or has a ".." part; NORMAL is as before then. */
bool path_normalise(const char *path, struct buf *normal) MUST_CHECK;

#endif
