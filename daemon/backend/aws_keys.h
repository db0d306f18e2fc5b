/* A pair of AWS keys, and where they may lie: a section of a file as ~/.aws/credentials and ~/.aws/config
 * are.
 * Thread: loop; the files are small and read at once. */
#ifndef DAEMON_BACKEND_AWS_KEYS_H
#define DAEMON_BACKEND_AWS_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/error.h"

struct aws_keys { /* shared by references; never changes; wiped with the last one */
	unsigned n_refs;
	char *id, *secret;
	char *token;            /* of a session; or NULL */
	int64_t expires_unix_s; /* 0: never */
};

/* Copies; TOKEN may be NULL or "". Errors: OPERATOR, names WHERE: empty, or cannot stand in a header;
 * TRANSIENT: no memory. One reference, the caller's. */
int aws_keys_new(struct aws_keys **ret, const char *where, const char *id, const char *secret,
                 const char *token, struct error *err) MUST_CHECK;
struct aws_keys *aws_keys_ref(struct aws_keys *keys);
void aws_keys_unref(struct aws_keys *keys); /* takes NULL */

#define AWS_PROFILE_MAX_BYTES KIB(256)

struct aws_profile { /* a field is NULL if it is not set */
	char *key_id, *secret, *token, *region;
	char *role_arn, *role_session_name, *web_identity_token_file;
	char *foreign; /* a key that says where credentials come from and that we do not follow */
};

/* Adds to RET what section NAME of FILE says and RET does not. IS_CONFIG: sections are "[profile NAME]",
 * but for "[default]". Returns 1, 0 if there is no such file or section, -1: OPERATOR, unreadable. */
int aws_profile_read(struct aws_profile *ret, const char *file, const char *name, bool is_config,
                     struct error *err) MUST_CHECK;
void aws_profile_fini(struct aws_profile *profile);

#endif
