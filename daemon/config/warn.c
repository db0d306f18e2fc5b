/* What a configuration allows although it was perhaps not meant: no mistake, and nothing stops for it. */
#include "daemon/config/section.h"

/* Cachix and Attic sign what they are sent. */
static bool needs_signatures(const struct cache_config *cache)
{
	return cache->kind == CACHE_FILE || cache->kind == CACHE_HTTP || cache->kind == CACHE_S3;
}

const char *config_warn_unsigned(const struct cache_config *cache)
{
	if (!needs_signatures(cache) || cache->push == PUSH_NO)
		return NULL;
	if (cache->sign == SIGN_NO)
		return "sign = no: nothing is signed here, and readers take nothing without a signature of a "
		       "key "
		       "that they trust";
	return cache->signing_key_files.n == 0
	               ? "no signing-key-file: nothing is signed here, and readers take nothing without a "
	                 "signature of a key that they trust"
	               : NULL;
}

/* Whom we show nothing, a reader need show nothing either. */
static bool has_credentials(const struct cache_config *cache)
{
	return cache->token_file != NULL || cache->net.netrc_file != NULL ||
	       cache->net.client_cert_file != NULL;
}

const char *config_warn_public(const struct cache_config *cache, enum visibility visibility)
{
	if (visibility == VISIBILITY_UNKNOWN && cache->kind == CACHE_HTTP && !has_credentials(cache))
		visibility = VISIBILITY_PUBLIC;
	if (visibility != VISIBILITY_PUBLIC || cache->push == PUSH_NO || cache->include_roots.n > 0)
		return NULL;
	return "whoever reaches this cache can read it, and all that is built here goes there: set "
	       "include-roots "
	       "to what may be seen (include-roots = . if everything may)";
}

static void put_warning(struct buf *out, const struct cache_config *cache, const char *sentence)
{
	if (sentence == NULL)
		return;
	buf_puts(out, "warning: ");
	if (cache->file != NULL)
		buf_printf(out, "%s:%u: ", cache->file, cache->line);
	buf_printf(out, "[cache \"%s\"]: %s\n", cache->name, sentence);
}

void config_format_warnings(const struct config *config, struct buf *out)
{
	for (size_t i = 0; i < config->n_caches; i++) {
		const struct cache_config *cache = &config->caches[i];

		put_warning(out, cache, config_warn_unsigned(cache));
		put_warning(out, cache, config_warn_public(cache, VISIBILITY_UNKNOWN));
	}
}
