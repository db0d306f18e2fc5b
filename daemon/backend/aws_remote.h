/* Credentials that a server hands out for a time: the STS for a web identity, the agent of a container,
 * the metadata service of a machine (version 2). All of it in a few small requests, none of which takes
 * long or is followed elsewhere; nothing is tried twice.
 * Errors: TRANSIENT (no answer, 5xx), OPERATOR (a refusal, an answer that is none, a bad address).
 * Thread: loop. */
#ifndef DAEMON_BACKEND_AWS_REMOTE_H
#define DAEMON_BACKEND_AWS_REMOTE_H

#include "daemon/backend/aws_keys.h"
#include "daemon/http/http.h"

enum aws_remote_kind { AWS_WEB_IDENTITY, AWS_CONTAINER, AWS_MACHINE };

/* Whom to ask; texts are the caller's to free, with aws_remote_place_fini. */
struct aws_remote_place {
	enum aws_remote_kind kind;
	char *url;                                /* of the STS; of the agent; of the metadata service */
	char *role_arn, *session_name, *file;     /* web identity: whose token is in FILE */
	char *authorization, *authorization_file; /* container; or NULL */
};
void aws_remote_place_fini(struct aws_remote_place *place);
/* Is URL one that a container's agent may have? https, or on this machine or its link. */
bool aws_container_url_is_safe(const char *url);

struct aws_remote;
typedef void (*aws_remote_fn)(struct aws_remote *remote);

struct aws_remote { /* the caller's until done; zero it before each start */
	aws_remote_fn done;
	struct error err;
	struct aws_keys *keys; /* one reference, the caller's; NULL after a fault */

	/* its own */
	const struct aws_remote_place *place;
	struct http_client *client;
	struct http_request req;
	struct loop *loop;
	struct loop_post post;
	char *url, *data, *metadata_token;
	char *shown_secret; /* in the body or a header of the request */
	char *header_lines[2];
	const char *headers[2];
};

/* PLACE and CLIENT are borrowed until done. */
void aws_remote_start(struct aws_remote *remote, struct loop *loop, struct http_client *client,
                      const struct aws_remote_place *place, aws_remote_fn done);
void aws_remote_cancel(struct aws_remote *remote); /* done still fires, CANCELED */

/* "2026-01-02T03:04:05Z", a fraction of a second allowed. False: it is none. */
bool aws_parse_time(const char *text, int64_t *ret_unix_s) MUST_CHECK;

#endif
