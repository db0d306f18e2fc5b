#include "daemon/http/fault.h"

#include <ctype.h>
#include <curl/curl.h>
#include <string.h>
#include <strings.h>

#define LINE_MAX_BYTES   200
#define URL_MAX_BYTES    1024
#define QUERY_SECRET_MIN 16 /* shorter values of a query are no signatures or tokens */

static const char *reason_of(unsigned status)
{
	static const struct {
		unsigned status;
		const char *reason;
	} reasons[] = {
		{ 301, "Moved Permanently" },
		{ 302, "Found" },
		{ 303, "See Other" },
		{ 304, "Not Modified" },
		{ 307, "Temporary Redirect" },
		{ 308, "Permanent Redirect" },
		{ 400, "Bad Request" },
		{ 401, "Unauthorized" },
		{ 403, "Forbidden" },
		{ 404, "Not Found" },
		{ 405, "Method Not Allowed" },
		{ 407, "Proxy Authentication Required" },
		{ 408, "Request Timeout" },
		{ 409, "Conflict" },
		{ 410, "Gone" },
		{ 411, "Length Required" },
		{ 412, "Precondition Failed" },
		{ 413, "Content Too Large" },
		{ 415, "Unsupported Media Type" },
		{ 422, "Unprocessable Content" },
		{ 425, "Too Early" },
		{ 429, "Too Many Requests" },
		{ 500, "Internal Server Error" },
		{ 501, "Not Implemented" },
		{ 502, "Bad Gateway" },
		{ 503, "Service Unavailable" },
		{ 504, "Gateway Timeout" },
		{ 505, "HTTP Version Not Supported" },
		{ 507, "Insufficient Storage" },
		{ 511, "Network Authentication Required" },
	};

	for (size_t i = 0; i < N_ELEMENTS(reasons); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return NULL;
}

enum error_kind http_kind_of_status(unsigned status, bool is_write)
{
	if (status >= 200 && status < 300)
		return ERROR_NONE;
	if (status < 200)
		return ERROR_TRANSIENT;
	if (status < 400)
		return ERROR_OPERATOR;
	switch (status) {
	case 401:
	case 403:
	case 407:
	case 501:
	case 505:
	case 507:
	case 511:
		return ERROR_OPERATOR;
	case 404:
		return is_write ? ERROR_OPERATOR : ERROR_PERMANENT;
	case 405:
	case 409:
		return ERROR_OPERATOR;
	case 408:
	case 425:
	case 429:
		return ERROR_TRANSIENT;
	case 410:
		return ERROR_PERMANENT;
	default:
		/* Who refuses to be asked says nothing of what was asked for. */
		return status >= 500 ? ERROR_TRANSIENT : is_write ? ERROR_PERMANENT : ERROR_OPERATOR;
	}
}

/* What a person can look at, where the status alone does not say it. */
static const char *advice_of(unsigned status, bool is_write)
{
	switch (status) {
	case 301:
	case 302:
	case 303:
	case 307:
	case 308:
		return is_write ? "writing follows no redirect; set url to where the cache is" : NULL;
	case 401:
		return "the cache wants credentials, or others than these";
	case 403:
		return is_write ? "the cache does not let these credentials write" : NULL;
	case 404:
	case 405:
	case 501:
		return is_write ? "does url name a cache that can be written to?" : NULL;
	case 407:
		return "the proxy wants credentials, or others than these";
	case 413:
		return "the server, or a proxy before it, limits the size of what it takes";
	case 507:
		return "the server has no space left";
	case 511:
		return "the network here wants a login first";
	default:
		return NULL;
	}
}

/* What only a person can mend; all else may go by itself. */
static enum error_kind kind_of_curl(int code)
{
	switch (code) {
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
	case CURLE_NOT_BUILT_IN:
	case CURLE_REMOTE_ACCESS_DENIED:
	case CURLE_LOGIN_DENIED:
	case CURLE_TOO_MANY_REDIRECTS:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CRL_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
	case CURLE_SSL_INVALIDCERTSTATUS:
	case CURLE_SSL_CLIENTCERT:
		return ERROR_OPERATOR;
	default:
		return ERROR_TRANSIENT;
	}
}

static void escape(struct buf *out, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c < 0x20 || c == 0x7f)
			buf_printf(out, "\\x%02x", c);
		else
			buf_putc(out, (char)c);
	}
}

void http_format_url(struct buf *out, const char *url)
{
	const char *host = strstr(url, "://");
	size_t len = strcspn(url, "?#");
	const char *at = NULL;

	host = host != NULL && host < url + len ? host + 3 : url;
	for (const char *p = host; p < url + len && *p != '/'; p++)
		if (*p == '@')
			at = p;
	escape(out, url, (size_t)(host - url));
	if (at != NULL)
		host = at + 1;
	escape(out, host, (size_t)(url + len - host));
}

/* The first line that is not blank, escaped; nothing of markup, whose first line says nothing. */
static void format_first_line(struct buf *out, const struct buf *answer)
{
	const char *text = buf_text(answer);
	size_t len;

	text += strspn(text, " \t\r\n");
	len = strcspn(text, "\r\n");
	if (len == 0 || *text == '<')
		return;
	buf_puts(out, ": ");
	escape(out, text, len < LINE_MAX_BYTES ? len : LINE_MAX_BYTES);
}

static void hide(char *text, size_t len, const char *secret, size_t n_secret)
{
	char *end = text + len, *at = text;

	while (n_secret > 0 && (at = memmem(at, (size_t)(end - at), secret, n_secret)) != NULL) {
		memset(at, '*', n_secret);
		at += n_secret;
	}
}

/* What follows WORD, in lower case, with no blank between. */
static void hide_behind(char *text, size_t len, const char *word)
{
	size_t n = strlen(word);
	char *end = text + len;

	for (char *at = text; at + n < end; at++)
		if (strncasecmp(at, word, n) == 0)
			for (char *p = at + n;
			     p < end && (isalnum((unsigned char)*p) || strchr("+/=", *p) != NULL); p++)
				*p = '*';
}

/* Long values in the query of URL, as they stand there and as they are meant. */
static void hide_query(char *text, size_t len, const char *url)
{
	const char *rest = url + strcspn(url, "?#");

	while (*rest == '?' || *rest == '&') {
		const char *value = rest + 1 + strcspn(rest + 1, "=&#");
		char *plain;
		size_t n;
		int n_plain = 0;

		value += *value == '=';
		n = strcspn(value, "&#");
		rest = value + n;
		if (n < QUERY_SECRET_MIN)
			continue;
		hide(text, len, value, n);
		plain = curl_easy_unescape(NULL, value, (int)n, &n_plain);
		if (plain != NULL)
			hide(text, len, plain, (size_t)n_plain);
		curl_free(plain);
	}
}

static void hide_secrets(char *text, size_t len, const struct http_request *req, const char *token)
{
	const char *session = req->signing != NULL ? req->signing->session_token : NULL;
	const char *secrets[] = { token, req->secret, session };
	const char *last_url = NULL; /* behind redirects */

	for (size_t i = 0; i < N_ELEMENTS(secrets); i++)
		if (secrets[i] != NULL)
			hide(text, len, secrets[i], strlen(secrets[i]));
	hide_behind(text, len, "basic ");
	hide_behind(text, len, "signature=");
	hide_query(text, len, req->url);
	if (curl_easy_getinfo(req->easy, CURLINFO_EFFECTIVE_URL, &last_url) == CURLE_OK && last_url != NULL)
		hide_query(text, len, last_url);
}

static void classify_status(struct http_request *req, struct buf *text)
{
	bool is_write = req->method != HTTP_GET && req->method != HTTP_HEAD;
	const char *reason = reason_of(req->status), *advice = advice_of(req->status, is_write);
	const char *location = http_get_header(req, "Location");

	req->err.kind = http_kind_of_status(req->status, is_write);
	req->is_server_fault = req->status == 401 || req->status == 407;
	buf_printf(text, "HTTP %u", req->status);
	if (reason != NULL)
		buf_printf(text, " %s", reason);
	if (req->status >= 300 && req->status < 400 && location != NULL) {
		buf_puts(text, " to ");
		http_format_url(text, location);
	}
	if (advice != NULL)
		buf_printf(text, " (%s)", advice);
	format_first_line(text, &req->answer);
}

static bool is_garbage(int code, const char *detail)
{
	return code == CURLE_WEIRD_SERVER_REPLY || strstr(detail, "HTTP/0.9") != NULL;
}

/* Of curl's own sentence only the milliseconds are news. */
static const char *connect_failure(const struct http_request *req)
{
	long number = 0;

	curl_easy_getinfo(req->easy, CURLINFO_OS_ERRNO, &number);
	return number > 0 ? strerror((int)number) : "cannot connect";
}

/* curl's DETAIL, where it says what people can use. Else a sentence of ours, without figures and without what
 * differs by chance: one cause is one text. */
static void explain_curl(const struct http_request *req, int code, const char *detail, struct buf *text)
{
	bool is_cut = strstr(detail, "reset by peer") != NULL || strstr(detail, "Broken pipe") != NULL;
	const char *what = NULL, *advice = NULL;

	if (code == CURLE_COULDNT_CONNECT)
		what = connect_failure(req);
	else if (code == CURLE_OPERATION_TIMEDOUT)
		what = req->is_server_fault ? "no connection came about in time"
		                            : "it took too long, or nothing moved for stall-timeout";
	else if (code == CURLE_GOT_NOTHING || is_cut)
		what = "the connection was cut before the answer";
	else if (code == CURLE_PARTIAL_FILE)
		what = "the answer was cut off";
	else if (code == CURLE_OUT_OF_MEMORY)
		what = "no memory, or a line in the head of the answer is too long";
	else if (req->is_garbled)
		what = "what answers there does not speak HTTP; are host and port in url right?";
	else if (strstr(detail, "wrong version number") != NULL)
		what = "what answers there does not speak TLS; does url begin with http://?";
	else if (strstr(detail, "issuer certificate") != NULL || strstr(detail, "self-signed") != NULL)
		advice = "the certificate of an authority of your own is named by ca-file";
	else if (strstr(detail, "has expired") != NULL || strstr(detail, "not yet valid") != NULL)
		advice = "or the clock here is wrong";
	else if (strstr(detail, "subject name") != NULL)
		advice = "the server's certificate is for another host";
	if (what == NULL)
		escape(text, detail, strlen(detail));
	else
		buf_puts(text, what);
	if (advice != NULL)
		buf_printf(text, " (%s)", advice);
}

void http_classify(struct http_request *req, int curl_code, const char *detail, const char *token)
{
	struct buf text;

	if (req->status >= 300 && req->answer.len > 0)
		hide_secrets(req->answer.data, req->answer.len, req, token);

	buf_init(&text, KIB(64));
	buf_printf(&text, "%s ", http_method_name(req->method));
	http_format_url(&text, req->url);
	buf_puts(&text, ": ");
	if (req->is_head_long) {
		req->err.kind = ERROR_OPERATOR;
		buf_puts(&text, "the head of the answer is too long");
	} else if (req->is_answer_long && req->status < 300) {
		req->err.kind = ERROR_OPERATOR;
		buf_printf(&text, "the answer is longer than %zu bytes", req->answer_max_bytes);
	} else if (curl_code != CURLE_OK && !req->is_answer_long) {
		/* Garbage may be what an earlier answer on the connection left behind. */
		req->is_garbled = is_garbage(curl_code, detail);
		req->err.kind = req->is_garbled ? ERROR_TRANSIENT : kind_of_curl(curl_code);
		explain_curl(req, curl_code, detail, &text);
	} else if (!req->is_head_whole) {
		req->err.kind = ERROR_TRANSIENT;
		buf_puts(&text, "the answer was cut off");
	} else {
		classify_status(req, &text);
	}
	/* A redirect can name them, too; and what is cut off would not be found any more. */
	if (text.len > 0)
		hide_secrets(text.data, text.len, req, token);
	if (req->err.kind == ERROR_NONE)
		req->err.text[0] = '\0';
	else
		error_set(&req->err, req->err.kind, "%s", text.len > 0 ? text.data : "out of memory");
	req->err.is_overload =
		req->status == 429 || req->status == 503 || curl_code == CURLE_OPERATION_TIMEDOUT;
	buf_fini(&text);
}
