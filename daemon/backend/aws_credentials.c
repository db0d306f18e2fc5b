/* Files and the environment are read again each time, so that what was mended counts at once. A server is
 * asked once for all that wait; who is left when nobody waits any more is not waited for either. */
#include "daemon/backend/aws_credentials.h"

#include <assert.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"
#include "daemon/backend/aws_remote.h"

#define LINK_STALL_MS 2000
#define LINK_WHOLE_MS 5000
#define STS_WHOLE_MS  30000
#define FILE_SIZE_MAX 4096
#define VENDOR_FILE   "/sys/class/dmi/id/sys_vendor"

struct aws_credentials {
	struct loop *loop;
	const struct cache_config *cache;
	bool is_aws;
	struct http_client *sts, *link; /* of which LINK needs no proxy and no patience */
	char *region;
	struct aws_keys *keys;

	struct aws_remote_place place; /* whom to ask when there are no keys; url NULL: nobody */
	struct aws_remote remote;
	bool is_asking;
	struct aws_wait *first, **last;
};

/* Where to look */

static const char *env_text(const char *name)
{
	const char *text = getenv(name);

	return text != NULL && text[0] != '\0' ? text : NULL;
}

static const char *profile_name(const struct aws_credentials *c)
{
	const char *name = c->cache->s3_profile;

	if (name == NULL)
		name = env_text("AWS_PROFILE");
	return name != NULL ? name : "default";
}

/* What VARIABLE names, else NAME below the home directory; "" if there is none. */
static void find_file(char file[FILE_SIZE_MAX], const char *variable, const char *name)
{
	const char *path = env_text(variable), *home = env_text("HOME");
	const struct passwd *user = home == NULL ? getpwuid(getuid()) : NULL;

	if (user != NULL)
		home = user->pw_dir;
	if (path != NULL)
		snprintf(file, FILE_SIZE_MAX, "%s", path);
	else if (home != NULL && home[0] == '/')
		snprintf(file, FILE_SIZE_MAX, "%s/%s", home, name);
	else
		file[0] = '\0';
}

static int set_text(char **to, const char *text, struct error *err)
{
	free(*to);
	*to = strdup(text);
	return *to != NULL ? 0 : error_set(err, ERROR_TRANSIENT, "out of memory");
}

static int set_region(struct aws_credentials *c, const char *of_profile, struct error *err)
{
	const char *region = env_text("AWS_REGION");

	if (region == NULL)
		region = env_text("AWS_DEFAULT_REGION");
	if (region == NULL)
		region = of_profile;
	return region != NULL ? set_text(&c->region, region, err) : 0;
}

/* The sources. Each returns 1 if it is the one, 0 if it is not there, -1 if it is and is of no use. */

static int take_keys(struct aws_credentials *c, const char *where, const char *id, const char *secret,
                     const char *token, struct error *err)
{
	struct aws_keys *keys;

	if (aws_keys_new(&keys, where, id, secret, token, err) < 0)
		return -1;
	aws_keys_unref(c->keys);
	c->keys = keys;
	return 1;
}

static int try_token_file(struct aws_credentials *c, struct error *err)
{
	const char *file = c->cache->token_file;
	const char *name = c->cache->s3_profile != NULL ? c->cache->s3_profile : "default";
	CLEANUP(aws_profile_fini) struct aws_profile profile = { 0 };
	int rc;

	if (file == NULL)
		return 0;
	rc = aws_profile_read(&profile, file, name, false, err);
	if (rc == 0)
		return error_set(err, ERROR_OPERATOR,
		                 "token-file %s has no section [%s]; expected one with aws_access_key_id and "
		                 "aws_secret_access_key",
		                 file, name);
	if (rc < 0 || take_keys(c, file, profile.key_id, profile.secret, profile.token, err) < 0)
		return error_prefix(err, "token-file");
	return set_region(c, profile.region, err) < 0 ? -1 : 1;
}

static int try_environment(struct aws_credentials *c, struct error *err)
{
	if (c->cache->s3_profile != NULL || env_text("AWS_ACCESS_KEY_ID") == NULL)
		return 0;
	if (set_region(c, NULL, err) < 0)
		return -1;
	return take_keys(c, "the environment", env_text("AWS_ACCESS_KEY_ID"),
	                 env_text("AWS_SECRET_ACCESS_KEY"), env_text("AWS_SESSION_TOKEN"), err);
}

static int set_web_identity(struct aws_credentials *c, const char *role_arn, const char *file,
                            const char *session_name, struct error *err)
{
	const char *endpoint = env_text("AWS_ENDPOINT_URL_STS");
	char url[256];

	c->place.kind = AWS_WEB_IDENTITY;
	if (endpoint == NULL) {
		const char *region = c->cache->s3_region != NULL ? c->cache->s3_region : c->region;

		snprintf(url, sizeof(url), "https://sts.%s.amazonaws.com%s/",
		         region != NULL ? region : "us-east-1",
		         region != NULL && strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
		endpoint = url;
	}
	if (set_text(&c->place.url, endpoint, err) < 0 || set_text(&c->place.role_arn, role_arn, err) < 0 ||
	    set_text(&c->place.file, file, err) < 0 ||
	    set_text(&c->place.session_name, session_name != NULL ? session_name : "nncache", err) < 0)
		return -1;
	return 1;
}

static int use_profile(struct aws_credentials *c, const struct aws_profile *profile, const char *name,
                       struct error *err)
{
	char where[128];

	snprintf(where, sizeof(where), "AWS profile \"%.80s\"", name);
	if (profile->key_id != NULL)
		return take_keys(c, where, profile->key_id, profile->secret, profile->token, err);
	if (profile->role_arn != NULL && profile->web_identity_token_file != NULL)
		return set_web_identity(c, profile->role_arn, profile->web_identity_token_file,
		                        profile->role_session_name, err);
	if (profile->foreign != NULL)
		return error_set(err, ERROR_OPERATOR,
		                 "%s has its keys from %s, which is not known here; expected "
		                 "aws_access_key_id, or role_arn with web_identity_token_file",
		                 where, profile->foreign);
	return 0;
}

static int try_profile(struct aws_credentials *c, struct error *err)
{
	CLEANUP(aws_profile_fini) struct aws_profile profile = { 0 };
	char credentials[FILE_SIZE_MAX], config[FILE_SIZE_MAX];
	const char *name = profile_name(c);
	int rc;

	find_file(credentials, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
	find_file(config, "AWS_CONFIG_FILE", ".aws/config");
	if (aws_profile_read(&profile, credentials, name, false, err) < 0 ||
	    aws_profile_read(&profile, config, name, true, err) < 0 || set_region(c, profile.region, err) < 0)
		return -1;
	rc = use_profile(c, &profile, name, err);
	if (rc == 0 && (c->cache->s3_profile != NULL || env_text("AWS_PROFILE") != NULL))
		return error_set(err, ERROR_OPERATOR,
		                 "AWS profile \"%.80s\" has no keys in %.150s, nor in %.150s", name,
		                 credentials, config);
	return rc;
}

static int try_web_identity(struct aws_credentials *c, struct error *err)
{
	const char *role_arn = env_text("AWS_ROLE_ARN"), *file = env_text("AWS_WEB_IDENTITY_TOKEN_FILE");

	if (role_arn == NULL || file == NULL)
		return 0;
	return set_web_identity(c, role_arn, file, env_text("AWS_ROLE_SESSION_NAME"), err);
}

static int try_container(struct aws_credentials *c, struct error *err)
{
	const char *relative = env_text("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *full = env_text("AWS_CONTAINER_CREDENTIALS_FULL_URI");
	const char *token = env_text("AWS_CONTAINER_AUTHORIZATION_TOKEN");
	const char *file = env_text("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	char url[1024];

	if (relative == NULL && full == NULL)
		return 0;
	if (relative != NULL)
		snprintf(url, sizeof(url), "http://169.254.170.2%s%s", relative[0] == '/' ? "" : "/",
		         relative);
	else
		snprintf(url, sizeof(url), "%s", full);
	if (!aws_container_url_is_safe(url))
		return error_set(err, ERROR_OPERATOR,
		                 "AWS_CONTAINER_CREDENTIALS_FULL_URI is not https, nor of this machine");
	c->place.kind = AWS_CONTAINER;
	if (set_text(&c->place.url, url, err) < 0 ||
	    (token != NULL && set_text(&c->place.authorization, token, err) < 0) ||
	    (file != NULL && set_text(&c->place.authorization_file, file, err) < 0))
		return -1;
	return 1;
}

/* Whether there is a metadata service takes time to find out; what kind of machine this is does not. */
static bool is_machine_of_aws(void)
{
	CLEANUP(close_fd) int fd = open(VENDOR_FILE, O_RDONLY | O_CLOEXEC);
	char vendor[32] = "";

	return fd >= 0 && read_full(fd, vendor, sizeof(vendor) - 1) > 0 && strncmp(vendor, "Amazon", 6) == 0;
}

static int try_machine(struct aws_credentials *c, struct error *err)
{
	const char *disabled = env_text("AWS_EC2_METADATA_DISABLED");
	const char *endpoint = env_text("AWS_EC2_METADATA_SERVICE_ENDPOINT");
	size_t len;

	if ((disabled != NULL && strcasecmp(disabled, "true") == 0) || (!c->is_aws && endpoint == NULL))
		return 0;
	/* It is to be known now whether there are keys: else the cache is only read. */
	if (c->cache->push == PUSH_AUTO && endpoint == NULL && !is_machine_of_aws())
		return 0;
	c->place.kind = AWS_MACHINE;
	if (set_text(&c->place.url, endpoint != NULL ? endpoint : "http://169.254.169.254", err) < 0)
		return -1;
	len = strlen(c->place.url);
	if (len > 0 && c->place.url[len - 1] == '/')
		c->place.url[len - 1] = '\0';
	return 1;
}

/* Finds the source; with it are keys, or a place to ask. */
static int look(struct aws_credentials *c, struct error *err)
{
	int (*const sources[])(struct aws_credentials * c, struct error * err) = {
		try_token_file, try_environment, try_profile, try_web_identity, try_container, try_machine,
	};

	aws_remote_place_fini(&c->place);
	for (size_t i = 0; i < N_ELEMENTS(sources); i++) {
		int rc = sources[i](c, err);

		if (rc != 0)
			return rc < 0 ? -1 : 0;
	}
	return error_set(
		err, ERROR_OPERATOR,
		"no AWS credentials; expected token-file = FILE, written as ~/.aws/credentials is, or "
		"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment of nncached");
}

/* Waiting */

static bool keys_last(const struct aws_keys *keys, int64_t s)
{
	return keys != NULL && (keys->expires_unix_s == 0 || keys->expires_unix_s > clock_unix_s() + s);
}

struct aws_keys *aws_credentials_now(struct aws_credentials *c)
{
	return keys_last(c->keys, AWS_REFRESH_S) ? c->keys : NULL;
}

static void on_wait_end(struct loop_post *post)
{
	struct aws_wait *wait = CONTAINER_OF(post, struct aws_wait, post);

	wait->done(wait);
}

static void wait_end(struct aws_wait *wait)
{
	wait->is_ending = true;
	loop_post(wait->credentials->loop, &wait->post, on_wait_end);
}

/* What cannot be had anew is used as long as it is good. */
static void answer_all(struct aws_credentials *c, const struct error *err)
{
	bool is_good = keys_last(c->keys, 0);
	struct aws_wait *wait;

	if (err->kind != ERROR_NONE && is_good)
		log_warning("AWS credentials were not renewed cache=%s: %s; the old ones are still good",
		            c->cache->name, err->text);
	while ((wait = c->first) != NULL) {
		c->first = wait->next;
		if (is_good) {
			wait->keys = aws_keys_ref(c->keys);
		} else if (err->kind != ERROR_NONE) {
			wait->err = *err;
			error_prefix(&wait->err, "[cache \"%s\"]", c->cache->name);
		} else {
			error_set(
				&wait->err, ERROR_OPERATOR,
				"[cache \"%s\"] the credentials got are expired already; is the clock right?",
				c->cache->name);
		}
		wait_end(wait);
	}
	c->last = &c->first;
}

static void ask(struct aws_credentials *c);

static void on_asked(struct aws_remote *remote)
{
	struct aws_credentials *c = CONTAINER_OF(remote, struct aws_credentials, remote);

	c->is_asking = false;
	if (remote->err.kind == ERROR_CANCELED) {
		/* Who came after the one that was canceled has not been asked for yet. */
		if (c->first != NULL)
			ask(c);
		return;
	}
	if (remote->keys != NULL) {
		aws_keys_unref(c->keys);
		c->keys = remote->keys;
	}
	answer_all(c, &remote->err);
}

static void ask(struct aws_credentials *c)
{
	struct error err = { 0 };

	if (look(c, &err) < 0 || c->place.url == NULL) {
		answer_all(c, &err);
		return;
	}
	c->is_asking = true;
	c->remote = (struct aws_remote){ 0 };
	aws_remote_start(&c->remote, c->loop, c->place.kind == AWS_WEB_IDENTITY ? c->sts : c->link, &c->place,
	                 on_asked);
}

void aws_wait_start(struct aws_credentials *c, struct aws_wait *wait, aws_wait_fn done)
{
	wait->done = done;
	wait->credentials = c;
	*c->last = wait;
	c->last = &wait->next;
	if (!c->is_asking)
		ask(c);
}

void aws_wait_cancel(struct aws_wait *wait)
{
	struct aws_credentials *c = wait->credentials;
	struct aws_wait **at = &c->first;

	if (wait->is_ending)
		return;
	while (*at != wait)
		at = &(*at)->next;
	*at = wait->next;
	if (c->last == &wait->next)
		c->last = at;
	/* Before it answers the request has ended: its own end is posted first. */
	if (c->first == NULL)
		aws_remote_cancel(&c->remote);
	error_set(&wait->err, ERROR_CANCELED, "canceled");
	wait_end(wait);
}

void aws_credentials_drop(struct aws_credentials *c, const struct aws_keys *keys)
{
	if (c->keys != keys)
		return;
	aws_keys_unref(c->keys);
	c->keys = NULL;
}

const char *aws_credentials_region(const struct aws_credentials *c)
{
	return c->region;
}

/* Open and close */

static int open_clients(struct aws_credentials *c, struct http *http, const struct http_options *reach,
                        struct error *err)
{
	struct http_options sts = *reach;
	const struct http_options link = {
		.proxy = "",
		.max_requests = 1,
		.stall_timeout_ms = LINK_STALL_MS,
		.whole_timeout_ms = LINK_WHOLE_MS,
		.no_redirects = true,
	};

	sts.netrc_file = NULL;
	sts.token = NULL;
	sts.rate_bytes = 0;
	sts.max_requests = 1;
	sts.whole_timeout_ms = STS_WHOLE_MS;
	sts.no_redirects = true;
	if (http_client_open(&c->sts, http, &sts, err) < 0)
		return -1;
	return http_client_open(&c->link, http, &link, err);
}

int aws_credentials_open(struct aws_credentials **ret, struct loop *loop, struct http *http,
                         const struct cache_config *cache, const struct http_options *reach, bool is_aws,
                         struct error *err)
{
	struct aws_credentials *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	c->loop = loop;
	c->cache = cache;
	c->is_aws = is_aws;
	c->last = &c->first;
	if (look(c, err) < 0 || open_clients(c, http, reach, err) < 0) {
		aws_credentials_close(c);
		return error_prefix(err, "[cache \"%s\"]", cache->name);
	}
	*ret = c;
	return 0;
}

void aws_credentials_close(struct aws_credentials *c)
{
	if (c == NULL)
		return;
	assert(c->first == NULL && !c->is_asking);
	http_client_close(c->sts);
	http_client_close(c->link);
	aws_remote_place_fini(&c->place);
	aws_keys_unref(c->keys);
	free(c->region);
	free(c);
}
