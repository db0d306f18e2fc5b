#include "daemon/http/fault.h"

#include <curl/curl.h>
#include <string.h>

#define LINE_MAX_BYTES 200
#define URL_MAX_BYTES  1024

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
	case 405:
	case 409:
		return is_write ? ERROR_OPERATOR : ERROR_PERMANENT;
	case 408:
	case 425:
	case 429:
		return ERROR_TRANSIENT;
	default:
		return status >= 500 ? ERROR_TRANSIENT : ERROR_PERMANENT;
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

static void classify_status(struct http_request *req, struct buf *text)
{
	bool is_write = req->method != HTTP_GET && req->method != HTTP_HEAD;
	const char *reason = reason_of(req->status);
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
	format_first_line(text, &req->answer);
}

void http_classify(struct http_request *req, int curl_code, const char *detail)
{
	struct buf text;

	buf_init(&text, KIB(64));
	buf_printf(&text, "%s ", http_method_name(req->method));
	http_format_url(&text, req->url);
	buf_puts(&text, ": ");
	if (req->is_answer_long && req->status < 300) {
		req->err.kind = ERROR_OPERATOR;
		buf_printf(&text, "the answer is longer than %zu bytes", req->answer_max_bytes);
	} else if (curl_code == CURLE_OK || req->is_answer_long) {
		classify_status(req, &text);
	} else {
		req->err.kind = kind_of_curl(curl_code);
		escape(&text, detail, strlen(detail));
	}
	if (req->err.kind == ERROR_NONE)
		req->err.text[0] = '\0';
	else
		error_set(&req->err, req->err.kind, "%s", buf_text(&text));
	buf_fini(&text);
}
