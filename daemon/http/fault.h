/* What the end of a transfer means for the queue: the kinds of ARCHITECTURE "Faults", and one line
 * for people; the same line for the same cause. Thread: any. */
#ifndef DAEMON_HTTP_FAULT_H
#define DAEMON_HTTP_FAULT_H

#include "daemon/http/http.h"

/* The kind of an answer. IS_WRITE: the request was to change something. ERROR_NONE for 2xx.
 *   TRANSIENT  408 425 429, 5xx but 501 505 507 511
 *   OPERATOR   3xx, 401 403 405 407 409, 501 505 507 511; on a write also 404, on a read every other 4xx
 *   PERMANENT  410, on a read also 404; on a write 413 and every other 4xx */
enum error_kind http_kind_of_status(unsigned status, bool is_write);

/* Fills REQ's err (its is_overload, too) and is_server_fault from what it has: status and answer if
 * CURL_CODE is 0, else curl's code and DETAIL, its sentence. Servers repeat what they were sent: TOKEN, if
 * there is one, REQ's secret and session token, long values of the query (a signed URL is a secret), and what
 * follows "Basic " and "Signature=" are starred out, in a refusal's answer, too. The text is one of
 *   PUT https://host/path: HTTP 503 Service Unavailable: first line of the body
 *   PUT https://host/path: HTTP 403 Forbidden (advice): first line of the body
 *   PUT https://host/path: Could not resolve host: host */
void http_classify(struct http_request *req, int curl_code, const char *detail, const char *token);

/* URL without userinfo, query and fragment, control characters escaped. */
void http_format_url(struct buf *out, const char *url);

#endif
