/* Each kind is a request or three:
 *
 *   web identity  POST url, a form with the token -> XML
 *   container     GET url, perhaps with an authorization -> JSON
 *   machine       PUT url/latest/api/token -> the token that the next two show
 *                 GET url/latest/meta-data/iam/security-credentials/ -> a role
 *                 GET .../ROLE -> JSON */
#include "daemon/backend/aws_remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/fd.h"
#include "daemon/backend/json_text.h"
#include "daemon/backend/kind.h"
#include "daemon/backend/xml.h"
#include "daemon/http/fault.h"

#define ANSWER_MAX_BYTES KIB(64)
#define TOKEN_MAX_BYTES  KIB(16)
#define VALUE_SIZE       4096
#define ROLE_MAX         128
#define URL_TEXT_SIZE    300

#define ROLES_PATH "/latest/meta-data/iam/security-credentials/"

void aws_remote_place_fini(struct aws_remote_place *place)
{
	free(place->url);
	free(place->role_arn);
	free(place->session_name);
	free(place->file);
	wipe_text(&place->authorization);
	free(place->authorization_file);
	*place = (struct aws_remote_place){ 0 };
}

bool aws_container_url_is_safe(const char *url)
{
	static const char *const hosts[] = { "localhost",     "127.0.0.1",      "[::1]",
		                             "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]" };
	size_t n;

	if (strncmp(url, "https://", 8) == 0)
		return true;
	if (strncmp(url, "http://", 7) != 0)
		return false;
	url += 7;
	n = url[0] == '[' ? strcspn(url, "]/") + 1 : strcspn(url, ":/?#");
	for (size_t i = 0; i < N_ELEMENTS(hosts); i++)
		if (strlen(hosts[i]) == n && strncmp(url, hosts[i], n) == 0 &&
		    (url[n] == '\0' || strchr(":/", url[n]) != NULL) && strchr(url, '@') == NULL)
			return true;
	return false;
}

bool aws_parse_time(const char *text, int64_t *ret_unix_s)
{
	struct tm tm = { 0 };
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

	if (rest == NULL)
		return false;
	if (*rest == '.')
		rest += 1 + strspn(rest + 1, "0123456789");
	if (strcmp(rest, "Z") != 0)
		return false;
	*ret_unix_s = timegm(&tm);
	return true;
}

/* Ends */

static void clear_request(struct aws_remote *remote)
{
	if (remote->req.answer.data != NULL)
		explicit_bzero(remote->req.answer.data, remote->req.answer.cap);
	buf_fini(&remote->req.answer);
	remote->req = (struct http_request){ 0 };
	free(remote->url);
	remote->url = NULL;
	wipe_text(&remote->data);
	wipe_text(&remote->shown_secret);
	for (size_t i = 0; i < N_ELEMENTS(remote->header_lines); i++)
		wipe_text(&remote->header_lines[i]);
}

static void remote_end(struct aws_remote *remote)
{
	clear_request(remote);
	wipe_text(&remote->metadata_token);
	remote->done(remote);
}

static void on_end(struct loop_post *post)
{
	remote_end(CONTAINER_OF(post, struct aws_remote, post));
}

static void fail_later(struct aws_remote *remote)
{
	loop_post(remote->loop, &remote->post, on_end);
}

static int no_memory(struct error *err)
{
	return error_set(err, ERROR_TRANSIENT, "out of memory");
}

/* URL for people. */
static const char *show_url(char text[URL_TEXT_SIZE], const char *url)
{
	struct buf buf;

	buf_init_in(&buf, text, URL_TEXT_SIZE);
	http_format_url(&buf, url);
	return buf_text(&buf);
}

/* Answers */

static int take_keys(struct aws_remote *remote, const char *id, const char *secret, const char *token,
                     const char *expiration)
{
	char url[URL_TEXT_SIZE];
	int64_t expires_unix_s = 0;

	show_url(url, remote->url);
	if (expiration[0] != '\0' && !aws_parse_time(expiration, &expires_unix_s))
		return error_set(&remote->err, ERROR_OPERATOR, "%s: its expiration is no time", url);
	if (aws_keys_new(&remote->keys, url, id, secret, token, &remote->err) < 0)
		return -1;
	remote->keys->expires_unix_s = expires_unix_s;
	return 0;
}

static const char *json_text(const json_t *json, const char *name)
{
	const char *text = json_string_value(json_object_get(json, name));

	return text != NULL ? text : "";
}

static int read_json(struct aws_remote *remote)
{
	CLEANUP(json_doc_fini) struct json_doc doc = { 0 };
	char url[URL_TEXT_SIZE];
	int rc = json_doc_read(&doc, &remote->req.answer, &remote->err);

	if (rc == 0 && json_is_object(doc.root))
		rc = take_keys(remote, json_text(doc.root, "AccessKeyId"),
		               json_text(doc.root, "SecretAccessKey"), json_text(doc.root, "Token"),
		               json_text(doc.root, "Expiration"));
	else if (rc == 0)
		rc = error_set(&remote->err, ERROR_OPERATOR,
		               "GET %s: answered with something that is not credentials",
		               show_url(url, remote->url));
	return rc;
}

static int read_sts(struct aws_remote *remote)
{
	char root[XML_NAME_SIZE], id[256], secret[256], token[VALUE_SIZE], expiration[64] = "";
	char url[URL_TEXT_SIZE];
	struct xml_field fields[] = {
		{ .name = "AccessKeyId", .text = id, .size = sizeof(id) },
		{ .name = "SecretAccessKey", .text = secret, .size = sizeof(secret) },
		{ .name = "SessionToken", .text = token, .size = sizeof(token) },
		{ .name = "Expiration", .text = expiration, .size = sizeof(expiration) },
	};
	int rc;

	if (!xml_read(buf_text(&remote->req.answer), remote->req.answer.len, root, fields,
	              N_ELEMENTS(fields)) ||
	    strcmp(root, "AssumeRoleWithWebIdentityResponse") != 0 || fields[2].is_cut)
		return error_set(&remote->err, ERROR_OPERATOR,
		                 "POST %s: answered with something that is not credentials",
		                 show_url(url, remote->url));
	rc = take_keys(remote, id, secret, token, expiration);
	explicit_bzero(secret, sizeof(secret));
	explicit_bzero(token, sizeof(token));
	return rc;
}

/* A refusal will be one until somebody mends something; and the STS says of what kind it is. */
static int read_fault(struct aws_remote *remote)
{
	char root[XML_NAME_SIZE], code[64] = "", url[URL_TEXT_SIZE];
	struct xml_field field = { .name = "Code", .text = code, .size = sizeof(code) };

	remote->err = remote->req.err;
	if (remote->err.kind == ERROR_PERMANENT)
		remote->err.kind = ERROR_OPERATOR;
	if (remote->place->kind == AWS_WEB_IDENTITY && remote->req.status >= 400 &&
	    xml_read(buf_text(&remote->req.answer), remote->req.answer.len, root, &field, 1) &&
	    code[0] != '\0')
		error_reword(&remote->err, remote->err.kind, "POST %s: HTTP %u: %s",
		             show_url(url, remote->url), remote->req.status, code);
	return -1;
}

static int read_answer(struct aws_remote *remote)
{
	if (remote->req.err.kind != ERROR_NONE)
		return read_fault(remote);
	return remote->place->kind == AWS_WEB_IDENTITY ? read_sts(remote) : read_json(remote);
}

static void on_keys(struct http_request *req)
{
	struct aws_remote *remote = CONTAINER_OF(req, struct aws_remote, req);

	(void)!read_answer(remote);
	remote_end(remote);
}

/* Requests */

static int start_request(struct aws_remote *remote, enum http_method method, http_done_fn done)
{
	remote->req.method = method;
	remote->req.url = remote->url;
	remote->req.answer_max_bytes = ANSWER_MAX_BYTES;
	for (size_t i = 0; i < N_ELEMENTS(remote->header_lines) && remote->header_lines[i] != NULL; i++)
		remote->headers[remote->req.n_headers++] = remote->header_lines[i];
	remote->req.headers = remote->headers;
	remote->req.secret = remote->shown_secret != NULL ? remote->shown_secret : remote->metadata_token;
	http_start(remote->client, &remote->req, done);
	return 0;
}

static int read_token_file(const char *file, char **ret, struct error *err)
{
	struct error why;
	size_t len;

	if (read_file(file, TOKEN_MAX_BYTES, ret, &len, &why) < 0)
		return error_set(err, ERROR_OPERATOR, "%s", why.text);
	while (len > 0 && strchr(" \t\r\n", (*ret)[len - 1]) != NULL)
		(*ret)[--len] = '\0';
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)(*ret)[i] < 0x20 || (unsigned char)(*ret)[i] >= 0x7f) {
			wipe_text(ret);
			return error_set(err, ERROR_OPERATOR, "%s: holds control characters", file);
		}
	return 0;
}

static void put_form(struct buf *out, const char *name, const char *value)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

	buf_printf(out, "%s%s=", out->len > 0 ? "&" : "", name);
	for (; *value != '\0'; value++) {
		if (strchr(plain, *value) != NULL)
			buf_putc(out, *value);
		else
			buf_printf(out, "%%%02X", (unsigned char)*value);
	}
}

static int ask_sts(struct aws_remote *remote)
{
	const struct aws_remote_place *place = remote->place;
	struct buf form;

	if (read_token_file(place->file, &remote->shown_secret, &remote->err) < 0)
		return -1;
	buf_init(&form, KIB(64));
	buf_reserve(&form, KIB(63)); /* it holds a secret: it is not to move */
	put_form(&form, "Action", "AssumeRoleWithWebIdentity");
	put_form(&form, "Version", "2011-06-15");
	put_form(&form, "RoleArn", place->role_arn);
	put_form(&form, "RoleSessionName", place->session_name);
	put_form(&form, "WebIdentityToken", remote->shown_secret);
	remote->req.data_len = form.len;
	remote->data = buf_take(&form);
	buf_fini(&form);
	remote->url = strdup(place->url);
	if (remote->data == NULL || remote->url == NULL)
		return no_memory(&remote->err);
	remote->req.data = remote->data;
	return start_request(remote, HTTP_POST, on_keys);
}

static int ask_container(struct aws_remote *remote)
{
	const struct aws_remote_place *place = remote->place;
	CLEANUP(wipe_text) char *token = NULL;

	if (place->authorization_file != NULL &&
	    read_token_file(place->authorization_file, &token, &remote->err) < 0)
		return -1;
	if (place->authorization_file == NULL && place->authorization != NULL)
		token = strdup(place->authorization);
	if (token != NULL && asprintf(&remote->header_lines[0], "Authorization: %s", token) < 0) {
		remote->header_lines[0] = NULL;
		return no_memory(&remote->err);
	}
	if (token != NULL) {
		const char *blank = strrchr(token, ' '); /* before it is a word as "Bearer" */

		remote->shown_secret = strdup(blank != NULL ? blank + 1 : token);
		if (remote->shown_secret == NULL)
			return no_memory(&remote->err);
	}
	remote->url = strdup(place->url);
	if (remote->url == NULL)
		return no_memory(&remote->err);
	return start_request(remote, HTTP_GET, on_keys);
}

/* A line of an answer, with nothing but the characters of SET in it; NULL if it is none. */
static char *take_line(const struct buf *answer, const char *set, size_t max)
{
	const char *text = buf_text(answer);
	size_t n = strspn(text, set);

	if (n == 0 || n > max || (text[n] != '\0' && text[n] != '\n' && text[n] != '\r'))
		return NULL;
	return strndup(text, n);
}

static void on_role(struct http_request *req);

/* Shows the token; ROLE "" asks which role the machine has. */
static int ask_machine(struct aws_remote *remote, const char *role)
{
	if (asprintf(&remote->url, "%s" ROLES_PATH "%s", remote->place->url, role) < 0) {
		remote->url = NULL;
		return no_memory(&remote->err);
	}
	if (asprintf(&remote->header_lines[0], "X-aws-ec2-metadata-token: %s", remote->metadata_token) < 0) {
		remote->header_lines[0] = NULL;
		return no_memory(&remote->err);
	}
	return start_request(remote, HTTP_GET, role[0] != '\0' ? on_keys : on_role);
}

/* The machine has no such service: it is no machine of AWS, or none with a role. */
static int no_machine(struct aws_remote *remote)
{
	return error_set(&remote->err, ERROR_OPERATOR,
	                 "no AWS credentials: no token-file, no keys in the environment, and no instance "
	                 "metadata (%s)",
	                 remote->req.err.text);
}

static void on_role(struct http_request *req)
{
	struct aws_remote *remote = CONTAINER_OF(req, struct aws_remote, req);
	char *role, url[URL_TEXT_SIZE];
	int rc = -1;

	if (req->err.kind == ERROR_CANCELED || req->status >= 500) {
		remote->err = req->err;
	} else if (req->err.kind != ERROR_NONE) {
		error_set(&remote->err, ERROR_OPERATOR, "the machine has no role (%s)", req->err.text);
	} else {
		role = take_line(&req->answer,
		                 "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+=,.@_-",
		                 ROLE_MAX);
		clear_request(remote);
		if (role != NULL)
			rc = ask_machine(remote, role);
		else
			error_set(&remote->err, ERROR_OPERATOR, "the machine has no role (%s" ROLES_PATH ")",
			          show_url(url, remote->place->url));
		free(role);
	}
	if (rc < 0)
		remote_end(remote);
}

static void on_metadata_token(struct http_request *req)
{
	struct aws_remote *remote = CONTAINER_OF(req, struct aws_remote, req);
	char url[URL_TEXT_SIZE];
	int rc = -1;

	if (req->err.kind == ERROR_CANCELED || req->status >= 500) {
		remote->err = req->err;
	} else if (req->err.kind != ERROR_NONE) {
		no_machine(remote);
	} else {
		remote->metadata_token = take_line(
			&req->answer, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=._-~",
			1024);
		clear_request(remote);
		if (remote->metadata_token != NULL)
			rc = ask_machine(remote, "");
		else
			error_set(&remote->err, ERROR_OPERATOR,
			          "%s: answered with something that is not instance metadata",
			          show_url(url, remote->place->url));
	}
	if (rc < 0)
		remote_end(remote);
}

static int ask_metadata_token(struct aws_remote *remote)
{
	if (asprintf(&remote->url, "%s/latest/api/token", remote->place->url) < 0) {
		remote->url = NULL;
		return no_memory(&remote->err);
	}
	remote->header_lines[0] = strdup("X-aws-ec2-metadata-token-ttl-seconds: 21600");
	remote->header_lines[1] = strdup("Content-Type:");
	if (remote->header_lines[0] == NULL || remote->header_lines[1] == NULL)
		return no_memory(&remote->err);
	return start_request(remote, HTTP_PUT, on_metadata_token);
}

static int start(struct aws_remote *remote)
{
	switch (remote->place->kind) {
	case AWS_WEB_IDENTITY:
		return ask_sts(remote);
	case AWS_CONTAINER:
		return ask_container(remote);
	case AWS_MACHINE:
		return ask_metadata_token(remote);
	}
	return -1;
}

void aws_remote_start(struct aws_remote *remote, struct loop *loop, struct http_client *client,
                      const struct aws_remote_place *place, aws_remote_fn done)
{
	remote->done = done;
	remote->loop = loop;
	remote->client = client;
	remote->place = place;
	if (start(remote) < 0)
		fail_later(remote);
}

void aws_remote_cancel(struct aws_remote *remote)
{
	http_cancel(&remote->req);
}
