#include "daemon/show_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/backend/offer.h"
#include "daemon/store/place.h"

static void on_done(struct offer *offer)
{
	(void)offer; /* the loop runs out of things to wait for */
}

static void on_closed(void *ctx)
{
	(void)ctx;
}

static const char *visibility_name(enum visibility visibility)
{
	switch (visibility) {
	case VISIBILITY_PUBLIC:
		return "public";
	case VISIBILITY_PRIVATE:
		return "private";
	case VISIBILITY_UNKNOWN:
		break;
	}
	return "unknown";
}

static int ask(struct offer *offer, const struct cache_config *cache, const char *store_dir,
               struct error *err)
{
	struct http *http = NULL;
	struct loop loop;

	if (loop_init(&loop, err) < 0)
		return -1;
	if (http_open(&http, &loop, &offer->err) == 0) {
		offer_start(offer, &loop, http, cache, store_dir, on_done);
		loop_run(&loop);
	}
	http_close(http, on_closed, NULL);
	loop_run(&loop);
	loop_fini(&loop);
	return offer->err.kind == ERROR_NONE ? 0 : error_copy(err, &offer->err);
}

int show_cache(const struct config *config, const char *name)
{
	const struct cache_config *cache = config_find_cache(config, name);
	struct offer offer = { 0 };
	struct place place = { 0 };
	struct error err;
	int rc;

	if (cache == NULL) {
		fprintf(stderr, "nncached: [cache \"%s\"] is not in the configuration\n", name);
		return EXIT_FAILURE;
	}
	rc = place_parse(&place, config->store, &err);
	if (rc == 0)
		rc = ask(&offer, cache, place.store_dir, &err);
	place_fini(&place);
	if (rc < 0) {
		fprintf(stderr, "nncached: %s\n", err.text);
		return EXIT_FAILURE;
	}
	printf("url = %s\nvisibility = %s\n", offer.announced.reader_url,
	       visibility_name(offer.announced.visibility));
	for (size_t i = 0; i < offer.announced.n_keys; i++)
		printf("public-key = %s\n", offer.announced.keys[i]);
	return EXIT_SUCCESS;
}
