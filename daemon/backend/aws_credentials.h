/* Where the keys for a bucket come from. The first of these that is there is used, and none after it:
 *
 *   1  the section's token-file, in the form of ~/.aws/credentials; its part `profile`, else "default"
 *   2  without `profile`: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *   3  `profile`, AWS_PROFILE or "default" of AWS_SHARED_CREDENTIALS_FILE (~/.aws/credentials) and of
 *      AWS_CONFIG_FILE (~/.aws/config): keys, or a web identity
 *   4  AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE: a web identity
 *   5  AWS_CONTAINER_CREDENTIALS_FULL_URI, or _RELATIVE_URI: a container's agent
 *   6  the machine's metadata service, if the bucket is at AWS or AWS_EC2_METADATA_SERVICE_ENDPOINT is set,
 *      and AWS_EC2_METADATA_DISABLED is not true; for push = auto only if its firmware is Amazon's
 *
 * What is had is kept until AWS_REFRESH_S before it expires, or until it is said to be of no use.
 * Errors: OPERATOR (there are none, a file or a server refuses), TRANSIENT (no answer), CANCELED.
 * Thread: loop. */
#ifndef DAEMON_BACKEND_AWS_CREDENTIALS_H
#define DAEMON_BACKEND_AWS_CREDENTIALS_H

#include "daemon/backend/aws_keys.h"
#include "daemon/config/config.h"
#include "daemon/http/http.h"

#define AWS_REFRESH_S 300

struct aws_credentials;

/* CACHE, of kind s3, and HTTP are borrowed while open. Finds out which of the sources it is, and reads it
 * if it is a file or the environment. REACH says how to reach the STS. */
int aws_credentials_open(struct aws_credentials **ret, struct loop *loop, struct http *http,
                         const struct cache_config *cache, const struct http_options *reach, bool is_aws,
                         struct error *err) MUST_CHECK;
/* Nobody may wait. Takes NULL. */
void aws_credentials_close(struct aws_credentials *credentials);
/* What AWS_REGION, AWS_DEFAULT_REGION or the profile says, or NULL; borrowed while open. */
const char *aws_credentials_region(const struct aws_credentials *credentials);

/* The keys as they are now, without a reference; NULL: they are to be waited for. */
struct aws_keys *aws_credentials_now(struct aws_credentials *credentials);

struct aws_wait;
typedef void (*aws_wait_fn)(struct aws_wait *wait);
struct aws_wait { /* the caller's until done; zero it before each start */
	aws_wait_fn done;
	struct error err;
	struct aws_keys *keys; /* one reference, the caller's; NULL after a fault */

	struct aws_credentials *credentials;
	struct aws_wait *next;
	bool is_ending;
	struct loop_post post;
};
void aws_wait_start(struct aws_credentials *credentials, struct aws_wait *wait, aws_wait_fn done);
void aws_wait_cancel(struct aws_wait *wait); /* done still fires */

/* A server refuses KEYS: if they are what is kept, they are got anew when next asked for. */
void aws_credentials_drop(struct aws_credentials *credentials, const struct aws_keys *keys);

#endif
