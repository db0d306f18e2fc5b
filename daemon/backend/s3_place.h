/* Where a bucket is: the address of its objects, as its section says, and the region to sign for.
 * Thread: any. */
#ifndef DAEMON_BACKEND_S3_PLACE_H
#define DAEMON_BACKEND_S3_PLACE_H

#include <stdbool.h>

#include "daemon/config/config.h"

#define S3_REGION_SIZE    64
#define S3_REGION_DEFAULT "us-east-1"

struct s3_place {
	char base_url[512]; /* objects lie below it; no slash at the end */
	char bucket[64];
	char region[S3_REGION_SIZE];
	bool is_aws;
};

/* Reads it of CACHE, whose kind is s3. REGION: where CACHE names none; NULL or "": us-east-1.
 * Errors: OPERATOR (a region, storage class or bucket that can be none). */
int s3_place_read(struct s3_place *ret, const struct cache_config *cache, const char *region,
                  struct error *err) MUST_CHECK;

#endif
