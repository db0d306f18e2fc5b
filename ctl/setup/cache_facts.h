/* What Nix must know of a cache to read it: nncached asks the cache, since it knows the kinds of them.
 * Thread: any (it blocks). */
#ifndef CTL_SETUP_CACHE_FACTS_H
#define CTL_SETUP_CACHE_FACTS_H

#include "common/buf.h"
#include "common/error.h"

#define CACHE_FACTS_URL_SIZE 1025
#define CACHE_FACTS_KEYS_MAX 16
#define CACHE_FACTS_KEY_SIZE 320

struct cache_facts {
	char url[CACHE_FACTS_URL_SIZE];                        /* for Nix; one word of plain letters */
	char keys[CACHE_FACTS_KEYS_MAX][CACHE_FACTS_KEY_SIZE]; /* NAME:BASE64 */
	size_t n_keys;
	bool is_private; /* says the cache itself */
};

struct cache_question {
	const char *url;
	const char *endpoint;   /* or NULL */
	const char *token_file; /* or NULL; for the API of Cachix and Attic */
	const char *netrc;      /* text of a netrc file, or NULL; for the cache */
};

/* Errors: OPERATOR, the words of nncached, which may be several lines. */
int cache_facts_ask(struct cache_facts *ret, const struct cache_question *question, struct error *err)
	MUST_CHECK;

/* Adds TEXT to the keys unless it is among them. Errors: OPERATOR, it is no public key, or one too many. */
int cache_facts_add_key(struct cache_facts *facts, const char *text, struct error *err) MUST_CHECK;

/* Takes TEXT as it is for url. Errors: OPERATOR, nix.conf cannot hold it. */
int cache_facts_set_url(struct cache_facts *facts, const char *text, struct error *err) MUST_CHECK;

/* The host of URL alone, without port, in its RET of N bytes; "" if it has none. */
const char *cache_facts_host(const char *url, char *ret, size_t n);

#endif
