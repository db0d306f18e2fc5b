#include "daemon/backend/s3_place.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define DIGITS_LOWER "0123456789abcdefghijklmnopqrstuvwxyz"
#define DIGITS_UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

static bool has_only(const char *text, const char *set)
{
	return text[0] != '\0' && text[strspn(text, set)] == '\0';
}

static bool host_is_aws(const char *endpoint)
{
	static const char *const domains[] = { ".amazonaws.com", ".amazonaws.com.cn" };
	const char *host = strstr(endpoint, "://");
	size_t n;

	host = host != NULL ? host + 3 : endpoint;
	n = strcspn(host, ":/");
	for (size_t i = 0; i < N_ELEMENTS(domains); i++) {
		size_t n_domain = strlen(domains[i]);

		if (n > n_domain && strncasecmp(host + n - n_domain, domains[i], n_domain) == 0)
			return true;
	}
	return false;
}

/* May the bucket be a label of a host name that a certificate for *.HOST covers? */
static bool fits_host(const char *bucket)
{
	return has_only(bucket, DIGITS_LOWER "-");
}

static bool is_in_host(const struct s3_place *place, enum s3_addressing addressing)
{
	switch (addressing) {
	case S3_ADDRESSING_PATH:
		return false;
	case S3_ADDRESSING_VIRTUAL:
		return true;
	case S3_ADDRESSING_AUTO:
		break;
	}
	return place->is_aws && fits_host(place->bucket);
}

static int read_region(struct s3_place *place, const struct cache_config *cache, const char *region,
                       struct error *err)
{
	if (cache->s3_region != NULL)
		region = cache->s3_region;
	else if (region == NULL || region[0] == '\0')
		region = S3_REGION_DEFAULT;
	if (strlen(region) >= sizeof(place->region) || !has_only(region, DIGITS_LOWER DIGITS_UPPER "-_"))
		return error_set(err, ERROR_OPERATOR,
		                 "[cache \"%s\"] region: \"%.80s\" is not a region, as us-east-1 is one",
		                 cache->name, region);
	strcpy(place->region, region);
	return 0;
}

int s3_place_read(struct s3_place *ret, const struct cache_config *cache, const char *region,
                  struct error *err)
{
	struct s3_place place = { .is_aws = cache->endpoint == NULL || host_is_aws(cache->endpoint) };
	const char *bucket = strstr(cache->url, "://") + 3, *host;
	char endpoint[300];
	bool in_host;

	if (read_region(&place, cache, region, err) < 0)
		return -1;
	if (cache->s3_storage_class != NULL &&
	    !has_only(cache->s3_storage_class, DIGITS_UPPER "0123456789_-"))
		return error_set(err, ERROR_OPERATOR,
		                 "[cache \"%s\"] storage-class: \"%.80s\" is none, as STANDARD_IA is one",
		                 cache->name, cache->s3_storage_class);
	snprintf(place.bucket, sizeof(place.bucket), "%.*s", (int)strcspn(bucket, "/"), bucket);
	if (cache->endpoint != NULL)
		snprintf(endpoint, sizeof(endpoint), "%s", cache->endpoint);
	else
		snprintf(endpoint, sizeof(endpoint), "https://s3.%s.amazonaws.com%s", place.region,
		         strncmp(place.region, "cn-", 3) == 0 ? ".cn" : "");
	host = strstr(endpoint, "://") + 3;
	in_host = is_in_host(&place, cache->s3_addressing);
	if (in_host && !has_only(place.bucket, DIGITS_LOWER "-."))
		return error_set(
			err, ERROR_OPERATOR,
			"[cache \"%s\"] addressing-style: the bucket %s cannot stand in a host name; "
			"expected addressing-style = path",
			cache->name, place.bucket);
	if (in_host)
		snprintf(place.base_url, sizeof(place.base_url), "%.*s%s.%s", (int)(host - endpoint),
		         endpoint, place.bucket, host);
	else
		snprintf(place.base_url, sizeof(place.base_url), "%s/%s", endpoint, place.bucket);
	*ret = place;
	return 0;
}
