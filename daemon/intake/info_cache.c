#include "daemon/intake/info_cache.h"

#include <stdlib.h>
#include <string.h>

#define N_SLOTS (2 * INFO_CACHE_MAX)

static size_t slot_of(const struct info_cache *cache, const char *path)
{
	uint64_t hash = 14695981039346656037u; /* FNV-1a */
	size_t i;

	for (const char *p = path; *p != '\0'; p++)
		hash = (hash ^ (unsigned char)*p) * 1099511628211u;
	for (i = hash % N_SLOTS; cache->slots[i].path != NULL; i = (i + 1) % N_SLOTS)
		if (strcmp(cache->slots[i].path, path) == 0)
			break;
	return i;
}

void info_cache_fini(struct info_cache *cache)
{
	for (size_t i = 0; cache->slots != NULL && i < N_SLOTS; i++)
		path_info_fini(&cache->slots[i]);
	free(cache->slots);
	*cache = (struct info_cache){ 0 };
}

const struct path_info *info_cache_get(const struct info_cache *cache, const char *path)
{
	size_t i;

	if (cache->slots == NULL)
		return NULL;
	i = slot_of(cache, path);
	return cache->slots[i].path != NULL ? &cache->slots[i] : NULL;
}

void info_cache_put(struct info_cache *cache, const struct path_info *info)
{
	struct path_info copy;
	struct error err;
	size_t i;

	if (cache->n_used >= INFO_CACHE_MAX)
		info_cache_fini(cache);
	if (cache->slots == NULL)
		cache->slots = calloc(N_SLOTS, sizeof(cache->slots[0]));
	if (cache->slots == NULL || path_info_copy(&copy, info, &err) < 0)
		return;
	i = slot_of(cache, info->path);
	if (cache->slots[i].path == NULL)
		cache->n_used++;
	path_info_fini(&cache->slots[i]);
	cache->slots[i] = copy;
}
