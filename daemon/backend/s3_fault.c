#include "daemon/backend/s3_fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "daemon/backend/kind.h"
#include "daemon/backend/xml.h"
#include "daemon/http/fault.h"

#define WORDS_SIZE 160

/* A code that is not here means what its status means. KIND is what it is on the way to a person; IS_SERVER:
 * it says nothing of this object. */
struct meaning {
	const char *code;
	enum error_kind kind;
	bool is_server;
	enum s3_cause cause;
	const char *advice;
};

#define MEND_KEYS "expected those of the service, in token-file or where nncached has them from"

static const struct meaning meanings[] = {
	{ "IncompleteBody", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "InternalError", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "InternalFailure", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "InternalServerError", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "RequestExpired", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "RequestTimeout", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "RequestThrottled", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "RequestLimitExceeded", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "BandwidthLimitExceeded", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "SlowDown", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "ServiceUnavailable", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "Throttling", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "ThrottlingException", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "ThrottledException", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "OperationAborted", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "ConditionalRequestConflict", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "BadDigest", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "InvalidPart", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "InvalidPartOrder", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "NoSuchUpload", ERROR_TRANSIENT, false, S3_NO_SUCH_UPLOAD, NULL },
	{ "TemporaryRedirect", ERROR_TRANSIENT, false, S3_OTHER, NULL },
	{ "EntityTooLarge", ERROR_PERMANENT, false, S3_OTHER, NULL },

	{ "ExpiredToken", ERROR_OPERATOR, true, S3_EXPIRED, "the session token is expired; " MEND_KEYS },
	{ "ExpiredTokenException", ERROR_OPERATOR, true, S3_EXPIRED,
	  "the session token is expired; " MEND_KEYS },
	{ "TokenRefreshRequired", ERROR_OPERATOR, true, S3_EXPIRED,
	  "the session token is expired; " MEND_KEYS },
	{ "InvalidToken", ERROR_OPERATOR, true, S3_EXPIRED,
	  "the session token is not one of this service; " MEND_KEYS },
	{ "InvalidAccessKeyId", ERROR_OPERATOR, true, S3_BAD_KEYS,
	  "the service does not know the access key id; " MEND_KEYS },
	{ "SignatureDoesNotMatch", ERROR_OPERATOR, true, S3_BAD_KEYS,
	  "the secret access key is not that of the access key id; " MEND_KEYS },
	{ "RequestTimeTooSkewed", ERROR_OPERATOR, true, S3_OTHER,
	  "the clock of this machine is wrong; expected it set (timedatectl set-ntp true)" },
	{ "RequestInTheFuture", ERROR_OPERATOR, true, S3_OTHER,
	  "the clock of this machine is wrong; expected it set (timedatectl set-ntp true)" },
	{ "NoSuchBucket", ERROR_OPERATOR, true, S3_OTHER,
	  "there is no such bucket; make it, or mend url or endpoint" },
	{ "InvalidBucketName", ERROR_OPERATOR, true, S3_OTHER, "mend the bucket in url" },
	{ "AllAccessDisabled", ERROR_OPERATOR, true, S3_OTHER, "the service has locked the bucket" },
	{ "AccountProblem", ERROR_OPERATOR, true, S3_OTHER, "the service has locked the account" },
	{ "NotSignedUp", ERROR_OPERATOR, true, S3_OTHER, "the account may not use S3" },
	{ "UserSuspended", ERROR_OPERATOR, true, S3_OTHER, "the service has locked the user" },
	{ "QuotaExceeded", ERROR_OPERATOR, false, S3_OTHER,
	  "the bucket is full; make room, or raise its quota" },
	{ "InvalidStorageClass", ERROR_OPERATOR, false, S3_OTHER, "mend storage-class" },
	{ "AccessDenied", ERROR_OPERATOR, false, S3_OTHER,
	  "the user of these keys may not do this; expected s3:GetObject, s3:PutObject and "
	  "s3:AbortMultipartUpload on the bucket" },
	{ "InvalidRequest", ERROR_OPERATOR, false, S3_OTHER, NULL },
	{ "MethodNotAllowed", ERROR_OPERATOR, false, S3_OTHER,
	  "endpoint is perhaps that of a website, not of S3" },
};

static const struct meaning *meaning_of(const char *code)
{
	for (size_t i = 0; i < N_ELEMENTS(meanings); i++)
		if (strcmp(meanings[i].code, code) == 0)
			return &meanings[i];
	return NULL;
}

static bool is_other_region(const struct http_request *req, const struct s3_fault *fault)
{
	return req->status == 301 || strcmp(fault->code, "PermanentRedirect") == 0 ||
	       strcmp(fault->code, "AuthorizationHeaderMalformed") == 0 ||
	       strcmp(fault->code, "IllegalLocationConstraintException") == 0;
}

static void say(struct error *err, const char *format, ...) PRINTF(2, 3);

/* Adds to what ERR says. */
static void say(struct error *err, const char *format, ...)
{
	size_t n = strlen(err->text);
	va_list args;

	va_start(args, format);
	vsnprintf(err->text + n, sizeof(err->text) - n, format, args);
	va_end(args);
}

static void judge_region(struct s3_fault *fault, struct http_request *req, const struct s3_place *place)
{
	const char *header = http_get_header(req, "x-amz-bucket-region");

	if (header != NULL && fault->region[0] == '\0') {
		snprintf(fault->region, sizeof(fault->region), "%s", header);
		make_plain(fault->region);
	}
	req->err.kind = ERROR_OPERATOR;
	req->is_server_fault = true;
	if (fault->region[0] != '\0' && strcmp(fault->region, place->region) != 0)
		say(&req->err, "; the bucket is in another region; expected region = %s, not %s",
		    fault->region, place->region);
	else
		say(&req->err, "; the bucket is elsewhere; mend region (now %s) or endpoint", place->region);
}

/* What answers in anything but XML is not S3. */
static bool is_html(const struct http_request *req)
{
	const char *text = buf_text(&req->answer);

	text += strspn(text, " \t\r\n");
	return strncasecmp(text, "<!doctype html", 14) == 0 || strncasecmp(text, "<html", 5) == 0;
}

static void judge_without_code(struct s3_fault *fault, struct http_request *req, const struct s3_place *place)
{
	if (is_other_region(req, fault))
		judge_region(fault, req, place);
	else if (is_html(req))
		say(&req->err, "; that is a web page, and not what S3 says; is endpoint right?");
}

static void read_body(struct s3_fault *fault, const struct http_request *req, char words[WORDS_SIZE],
                      char root[XML_NAME_SIZE])
{
	struct xml_field fields[] = {
		{ .name = "Code", .text = fault->code, .size = sizeof(fault->code) },
		{ .name = "Message", .text = words, .size = WORDS_SIZE },
		{ .name = "Region", .text = fault->region, .size = sizeof(fault->region) },
	};

	if (xml_read(buf_text(&req->answer), req->answer.len, root, fields, N_ELEMENTS(fields)) &&
	    strcmp(root, "Error") != 0) {
		fault->code[0] = '\0';
		fault->region[0] = '\0';
		words[0] = '\0';
	}
	make_plain(fault->code);
	make_plain(fault->region);
	make_plain(words);
}

/* "PUT https://host/bucket/key: HTTP 403", in the place of what http made of the status. */
static void name_request(struct http_request *req, enum error_kind kind)
{
	struct buf url;

	buf_init(&url, KIB(8));
	http_format_url(&url, req->url);
	error_reword(&req->err, kind, "%s %s: HTTP %u", http_method_name(req->method), buf_text(&url),
	             req->status);
	buf_fini(&url);
}

/* The answer has a code. */
static void judge_code(struct s3_fault *fault, struct http_request *req, const struct s3_place *place,
                       const char *words)
{
	const struct meaning *meaning = meaning_of(fault->code);

	name_request(req, req->err.kind);
	say(&req->err, " %s%s%s", fault->code, words[0] != '\0' ? ": " : "", words);
	if (is_other_region(req, fault)) {
		judge_region(fault, req, place);
		return;
	}
	if (meaning == NULL)
		return;
	fault->cause = meaning->cause;
	req->err.kind = meaning->kind;
	req->is_server_fault = meaning->is_server;
	if (meaning->advice != NULL)
		say(&req->err, "; %s", meaning->advice);
}

void s3_judge(struct s3_fault *ret, struct http_request *req, const struct s3_place *place)
{
	char words[WORDS_SIZE] = "", root[XML_NAME_SIZE];

	*ret = (struct s3_fault){ 0 };
	if (req->status < 300 || req->err.kind == ERROR_NONE || req->err.kind == ERROR_CANCELED)
		return;
	read_body(ret, req, words, root);
	if (ret->code[0] != '\0')
		judge_code(ret, req, place, words);
	else
		judge_without_code(ret, req, place);
}

bool s3_judge_body(struct s3_fault *ret, struct http_request *req, const struct s3_place *place,
                   const char *wanted)
{
	char words[WORDS_SIZE] = "", root[XML_NAME_SIZE];

	*ret = (struct s3_fault){ 0 };
	read_body(ret, req, words, root);
	if (strcmp(root, wanted) == 0)
		return true;
	req->err.kind = ERROR_TRANSIENT;
	if (ret->code[0] != '\0') {
		judge_code(ret, req, place, words);
	} else {
		name_request(req, ERROR_OPERATOR);
		say(&req->err, ": answered with something that is not S3's; is endpoint right?");
	}
	return false;
}
