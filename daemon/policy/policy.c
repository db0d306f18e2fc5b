#include "daemon/policy/policy.h"

#include <assert.h>
#include <regex.h>
#include <stdlib.h>

struct patterns {
	regex_t *items;
	size_t n;
};

struct cache_filters {
	struct patterns include_roots, exclude_roots, exclude_closures;
};

struct policy {
	const struct config *config;
	struct patterns matches;       /* by number of the priority */
	struct cache_filters *filters; /* by number of the cache */
};

static int patterns_compile(struct patterns *patterns, const char *text, struct error *err)
{
	char why[128];
	int rc = regcomp(&patterns->items[patterns->n], text, REG_EXTENDED | REG_NOSUB);

	if (rc != 0) {
		regerror(rc, &patterns->items[patterns->n], why, sizeof(why));
		return error_set(err, ERROR_OPERATOR, "\"%s\": %s", text, why);
	}
	patterns->n++;
	return 0;
}

static int patterns_init(struct patterns *patterns, const struct text_list *texts, struct error *err)
{
	patterns->items = calloc(texts->n + 1, sizeof(*patterns->items));
	if (patterns->items == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	for (size_t i = 0; i < texts->n; i++) {
		if (patterns_compile(patterns, texts->items[i], err) < 0)
			return -1;
	}
	return 0;
}

static void patterns_fini(struct patterns *patterns)
{
	for (size_t i = 0; i < patterns->n; i++)
		regfree(&patterns->items[i]);
	free(patterns->items);
}

static bool matches(const regex_t *pattern, const char *path)
{
	return regexec(pattern, path, 0, NULL, 0) == 0;
}

static bool matches_any(const struct patterns *patterns, const char *path)
{
	for (size_t i = 0; i < patterns->n; i++) {
		if (matches(&patterns->items[i], path))
			return true;
	}
	return false;
}

static int compile_priorities(struct policy *policy, struct error *err)
{
	const struct config *config = policy->config;

	policy->matches.items = calloc(config->n_priorities + 1, sizeof(*policy->matches.items));
	if (policy->matches.items == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	for (size_t i = 0; i < config->n_priorities; i++) {
		if (patterns_compile(&policy->matches, config->priorities[i].match, err) < 0)
			return error_prefix(err, "[priority \"%s\"] match", config->priorities[i].name);
	}
	return 0;
}

static int compile_filters(struct policy *policy, struct error *err)
{
	const struct config *config = policy->config;

	policy->filters = calloc(config->n_caches + 1, sizeof(*policy->filters));
	if (policy->filters == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	for (size_t i = 0; i < config->n_caches; i++) {
		const struct cache_config *cache = &config->caches[i];
		struct cache_filters *filters = &policy->filters[i];

		if (patterns_init(&filters->include_roots, &cache->include_roots, err) < 0 ||
		    patterns_init(&filters->exclude_roots, &cache->exclude_roots, err) < 0 ||
		    patterns_init(&filters->exclude_closures, &cache->exclude_closures, err) < 0)
			return error_prefix(err, "[cache \"%s\"] filter", cache->name);
	}
	return 0;
}

int policy_new(struct policy **ret, const struct config *config, struct error *err)
{
	struct policy *policy = calloc(1, sizeof(*policy));

	if (policy == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	policy->config = config;
	if (compile_priorities(policy, err) < 0 || compile_filters(policy, err) < 0) {
		policy_free(policy);
		return -1;
	}
	*ret = policy;
	return 0;
}

void policy_free(struct policy *policy)
{
	if (policy == NULL)
		return;
	for (size_t i = 0; policy->filters != NULL && i < policy->config->n_caches; i++) {
		patterns_fini(&policy->filters[i].include_roots);
		patterns_fini(&policy->filters[i].exclude_roots);
		patterns_fini(&policy->filters[i].exclude_closures);
	}
	free(policy->filters);
	patterns_fini(&policy->matches);
	free(policy);
}

unsigned policy_priority(const struct policy *policy, const char *path)
{
	unsigned highest = 0;
	bool is_classed = false;

	for (size_t i = 0; i < policy->matches.n; i++) {
		unsigned priority = policy->config->priorities[i].priority;

		if ((!is_classed || priority > highest) && matches(&policy->matches.items[i], path)) {
			highest = priority;
			is_classed = true;
		}
	}
	return is_classed ? highest : PRIORITY_DEFAULT;
}

int64_t policy_rank(const struct policy *policy, const char *path, int64_t enqueued_unix_s)
{
	return enqueued_unix_s - (int64_t)policy_priority(policy, path) * PRIORITY_AGING_S;
}

static const struct cache_filters *filters_of(const struct policy *policy, size_t cache)
{
	assert(cache < policy->config->n_caches);
	return &policy->filters[cache];
}

bool policy_wants_root(const struct policy *policy, size_t cache, const char *path)
{
	const struct cache_filters *filters = filters_of(policy, cache);

	if (policy->config->caches[cache].push == PUSH_NO)
		return false;
	if (filters->include_roots.n > 0 && !matches_any(&filters->include_roots, path))
		return false;
	return !matches_any(&filters->exclude_roots, path);
}

bool policy_withholds(const struct policy *policy, size_t cache, const char *path, uint64_t nar_size)
{
	const struct cache_filters *filters = filters_of(policy, cache);
	uint64_t max_bytes = policy->config->caches[cache].exclude_closures_over_bytes;

	return (max_bytes > 0 && nar_size > max_bytes) || matches_any(&filters->exclude_closures, path);
}
