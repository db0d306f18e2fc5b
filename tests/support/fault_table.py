"""The rows of fault_matrix.py: what a cache does, and what must become of a job then. To add a fault, add a row."""
from fault_server import (ALL, ASK_CACHE_INFO, ASK_INFO, ASK_NAR, PUT_INFO, PUT_NAR, PUTS, close_before_answer,
                          endless, half_a_header, half_an_answer, late, lie, not_before_date, one_byte_a_second,
                          passing, raw, refuse_early, reset_before_answer, reset_in_body, slow_read, stall,
                          stalled_read, status, stored)

STALL_TIMEOUT_S = 4
STALLING, SILENT = {late, one_byte_a_second, slow_read, stall, stalled_read}, {"mute", "nowhere"}

TRANSIENT, OPERATOR = ("delayed", "transient"), ("delayed", "operator")
PERMANENT, DONE = ("failed", "permanent"), ("done", None)

LARGE = {ASK_INFO: 1, ASK_NAR: 1, PUT_NAR: 1, PUT_INFO: 1}
REFUSED = {ASK_INFO: 1, ASK_NAR: 1, PUT_NAR: 1}
SMALL = {ASK_INFO: 1, PUT_NAR: 1, PUT_INFO: 1}  # is sent without asking whether it is there

LOOKED_FOR = {ASK_INFO: 2, ASK_NAR: 2}  # what was refused may be there
UNCONDITIONAL_TOO = {PUT_NAR: 2}
# libcurl itself tries again, 5 times at most, where a connection that was used before ends before any answer.
BY_LIBCURL = {PUT_NAR: 6}

HTML = b"<!DOCTYPE html>\n<html><body>Welcome to the portal</body></html>\n"
AS_HTML = "Content-Type: text/html; charset=utf-8"
TOO_LATE = "nothing moved for stall-timeout"
CUT = "the connection was cut before the answer"


class Row:
    """FAULT strikes the operations STRIKES for one path, or IS_WHOLE for all; the job ENDs so, TEXT says why. WHERE:
    its own port, see Port. RETRY_AFTER_S is what the cache asks for. STAYS: healing changes nothing.

    COUNTS: the requests for the path, by operation, where its end leaves no doubt; N_ATTEMPTS failed on the way
    there, and N_AGAIN requests for any path may have been made once more. Where it is tried again and again, an
    attempt makes one request of a sort at most, or what EACH says of it."""

    def __init__(self, name, strikes, fault, end, text="", is_whole=False, where=None, retry_after_s=0, stays=False,
                 counts=None, n_attempts=0, n_again=0,
                 each=None):
        self.name, self.fault, self.end, self.text = name, fault, end, text
        self.strikes = strikes if isinstance(strikes, set) else {strikes}
        self.is_whole, self.where, self.retry_after_s, self.stays = is_whole, where, retry_after_s, stays
        self.is_silent = fault in STALLING or where in SILENT
        self.counts = counts or {DONE: LARGE, PERMANENT: REFUSED}.get(end)
        self.n_attempts, self.n_again, self.each = n_attempts, n_again, each or {}
        self.problem, self.job, self.n_requests, self.took_s = "not looked at yet", None, 0, 0


def whole(name, strikes, fault, end, text="", **more):
    return Row(name, strikes, fault, end, text, is_whole=True, **more)


ANSWERS = [
    # Fine.
    Row("put-200", PUTS, stored(200), DONE),
    Row("put-201", PUTS, stored(201), DONE),
    Row("put-202", PUTS, stored(202), DONE),
    Row("put-204", PUTS, stored(204), DONE),
    Row("ask-403", {ASK_INFO}, status(403), DONE),  # what a bucket says of what is not there
    Row("ask-410", {ASK_INFO}, status(410), DONE),

    # To the NAR.
    Row("nar-301", PUT_NAR, status(301, "Location: https://cache.example.org/x"), OPERATOR,
        "HTTP 301 Moved Permanently to https://cache.example.org/x .*redirect"),
    Row("nar-307", PUT_NAR, status(307, "Location: https://u:secret@cache.example.org/x?token=secret"), OPERATOR,
        "HTTP 307 Temporary Redirect to https://cache.example.org/x .*redirect"),
    Row("nar-400", PUT_NAR, status(400), PERMANENT, "HTTP 400 Bad Request: not today$",
        counts={**REFUSED, **UNCONDITIONAL_TOO}),
    Row("nar-403", PUT_NAR, status(403), OPERATOR, r"HTTP 403 Forbidden \(the cache does not let", each=LOOKED_FOR),
    Row("nar-404", PUT_NAR, status(404), OPERATOR, r"HTTP 404 Not Found \(.*can be written to"),
    Row("nar-405", PUT_NAR, status(405), OPERATOR, r"HTTP 405 Method Not Allowed \(.*can be written to"),
    Row("nar-408", PUT_NAR, status(408), TRANSIENT, "HTTP 408 Request Timeout"),
    Row("nar-409", PUT_NAR, status(409), OPERATOR, "HTTP 409 Conflict", each=LOOKED_FOR),
    Row("nar-411", PUT_NAR, status(411), PERMANENT, "HTTP 411 Length Required"),
    Row("nar-412", PUT_NAR, status(412), TRANSIENT, "as being there, and has it not", each=LOOKED_FOR),
    Row("nar-413", PUT_NAR, status(413), PERMANENT, r"HTTP 413 Content Too Large \(.*limits the size"),
    Row("nar-413-early", PUT_NAR, refuse_early, PERMANENT,
        r"HTTP 413 Content Too Large \(.*limits the size.*: too much",
        n_again=5),  # the end of the connection can overtake the answer: see BY_LIBCURL
    Row("nar-429", PUT_NAR, status(429), TRANSIENT, "HTTP 429 Too Many Requests"),
    Row("nar-429-later", PUT_NAR, status(429, "Retry-After: 600"), TRANSIENT, "HTTP 429 Too Many Requests",
        retry_after_s=600),
    Row("nar-429-until", PUT_NAR, not_before_date(429, 600), TRANSIENT, "HTTP 429 Too Many Requests",
        retry_after_s=600),
    Row("nar-500", PUT_NAR, status(500), TRANSIENT, "HTTP 500 Internal Server Error: not today"),
    Row("nar-501", PUT_NAR, status(501), OPERATOR, "HTTP 501 Not Implemented", each=UNCONDITIONAL_TOO),
    Row("nar-502", PUT_NAR, status(502), TRANSIENT, "HTTP 502 Bad Gateway"),
    Row("nar-503", PUT_NAR, status(503), TRANSIENT, "HTTP 503 Service Unavailable"),
    Row("nar-503-later", PUT_NAR, status(503, "Retry-After: 600"), TRANSIENT, "HTTP 503 Service Unavailable",
        retry_after_s=600),
    Row("nar-503-until", PUT_NAR, not_before_date(503, 600), TRANSIENT, "HTTP 503 Service Unavailable",
        retry_after_s=600),
    Row("nar-504", PUT_NAR, status(504), TRANSIENT, "HTTP 504 Gateway Timeout"),
    Row("nar-507", PUT_NAR, status(507), OPERATOR, r"HTTP 507 Insufficient Storage \(.*no space"),

    # To other requests.
    whole("all-401", ALL, status(401), OPERATOR, r"HTTP 401 Unauthorized \(the cache wants credentials"),
    whole("puts-404", PUTS, status(404), OPERATOR, r"HTTP 404 Not Found \(.*can be written to"),
    whole("cache-info-500", {ASK_CACHE_INFO}, status(500), TRANSIENT, "HTTP 500 Internal Server Error"),
    whole("cache-info-later", {ASK_CACHE_INFO}, status(503, "Retry-After: 600"), TRANSIENT,
          "HTTP 503 Service Unavailable", retry_after_s=600),
    Row("ask-400", ASK_INFO, status(400), OPERATOR, "HTTP 400 Bad Request"),
    Row("ask-405", ASK_INFO, status(405), OPERATOR, "HTTP 405 Method Not Allowed"),
    Row("ask-500", ASK_INFO, status(500), TRANSIENT, "HTTP 500 Internal Server Error"),
    Row("info-403", PUT_INFO, status(403), OPERATOR, r"HTTP 403 Forbidden \(the cache does not let", each=LOOKED_FOR),
    Row("info-412", PUT_INFO, status(412), TRANSIENT, "as being there, and has it not", each=LOOKED_FOR),
    Row("info-503", PUT_INFO, status(503), TRANSIENT, "HTTP 503 Service Unavailable"),
]

CONNECTIONS = [
    # No answer, or not a whole one.
    whole("refused", ALL, None, TRANSIENT, "Connection refused", where="refused"),
    whole("unresolvable", ALL, None, TRANSIENT, "Could not resolve host|no connection came about in time",
          where="nowhere", stays=True),
    whole("reset-at-once", ALL, None, TRANSIENT, CUT, where="reset"),
    whole("mute", ALL, None, TRANSIENT, "no connection came about in time", where="mute"),
    Row("nar-reset-in-body", PUT_NAR, reset_in_body, TRANSIENT, CUT, each=BY_LIBCURL),
    Row("nar-reset", PUT_NAR, reset_before_answer, TRANSIENT, CUT),
    Row("nar-closed", PUT_NAR, close_before_answer, TRANSIENT, CUT),
    Row("ask-half", ASK_INFO, half_an_answer, TRANSIENT, "the answer was cut off"),
    Row("nar-half", PUT_NAR, half_an_answer, TRANSIENT, "the answer was cut off"),
    Row("nar-half-header", PUT_NAR, half_a_header, TRANSIENT, "the answer was cut off"),
    Row("nar-stalled-read", PUT_NAR, stalled_read, TRANSIENT, TOO_LATE),
    Row("nar-1-byte-a-second", PUT_NAR, slow_read, TRANSIENT, TOO_LATE),
    Row("nar-stalled", PUT_NAR, stall, TRANSIENT, TOO_LATE),
    Row("info-stalled", PUT_INFO, stall, TRANSIENT, TOO_LATE),
    Row("nar-late", PUT_NAR, late, DONE, n_attempts=1, counts={**LARGE, ASK_INFO: 2, ASK_NAR: 2}),
    Row("info-late", PUT_INFO, late, DONE, n_attempts=1, counts={**LARGE, ASK_INFO: 2, PUT_INFO: 2}),
    Row("ask-1-byte-a-second", ASK_INFO, one_byte_a_second, TRANSIENT, TOO_LATE),

    # Something else.
    Row("nar-garbage", PUT_NAR, raw(b"\0\xff\x1b[2J nonsense\r\n\r\n"), TRANSIENT, "does not speak HTTP"),
    Row("ask-ssh", ASK_INFO, raw(b"SSH-2.0-OpenSSH_9.2\r\n"), TRANSIENT, "does not speak HTTP"),
    Row("ask-204", ASK_INFO, status(204), OPERATOR, "not a narinfo"),
    Row("ask-nonsense", ASK_INFO, status(200), OPERATOR, "not a narinfo"),
    Row("ask-gzip", ASK_INFO, status(200, "Content-Encoding: gzip", body=b"\x1f\x8b\x08\0" + b"\0" * 99), OPERATOR,
        "not a narinfo"),
    Row("ask-html", ASK_INFO, status(200, AS_HTML, body=HTML), TRANSIENT, "web page"),
    Row("ask-nar-html", ASK_NAR, status(200, AS_HTML, body=HTML), TRANSIENT, "web page"),
    Row("info-html", {PUT_INFO}, status(200, AS_HTML, body=HTML), TRANSIENT, "web page", each=LOOKED_FOR),
    whole("cache-info-html", {ASK_CACHE_INFO}, status(200, AS_HTML, body=HTML), TRANSIENT, "web page"),
    whole("portal", ALL, status(302, "Location: /login/page"), TRANSIENT, "web page"),
    whole("portal-passing", ALL, passing(3, status(302, "Location: /login/page")), DONE),
    Row("lie", {PUT_NAR, PUT_INFO}, lie, DONE, stays=True),  # `verify` is what finds it

    # More than anybody asked for.
    Row("ask-endless", ASK_INFO, endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536), OPERATOR, "longer than"),
    Row("ask-endless-header", ASK_INFO, endless(b"HTTP/1.1 200 OK\r\n", b"X-Again: and again\r\n" * 1000), OPERATOR,
        "the head of the answer is too long"),
    Row("ask-endless-line", ASK_INFO, endless(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65536), TRANSIENT,
        "a line in the head of the answer is too long"),
    Row("nar-endless-100", PUT_NAR, endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), OPERATOR,
        "the head of the answer is too long"),
    Row("nar-endless-error", PUT_NAR, endless(b"HTTP/1.1 500 Oops\r\n\r\n", b"x" * 65536), TRANSIENT, "HTTP 500"),
    Row("ask-nar-body", ASK_NAR, endless(b"HTTP/1.1 404 No\r\nContent-Length: 1000000000\r\n\r\n", b"x" * 65536), DONE,
        where="own", n_again=1),  # the body to HEAD is the next answer's beginning

    # TLS.
    whole("tls-unknown-ca", ALL, None, OPERATOR, "ca-file", where="unknown-ca"),
    whole("tls-wrong-name", ALL, None, OPERATOR, "is for another host", where="wrong-name"),
    whole("tls-expired", ALL, None, OPERATOR, "expired", where="expired"),
    whole("tls-missing", ALL, None, TRANSIENT, "does not speak TLS", where="plain"),
]
