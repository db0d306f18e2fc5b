#!/usr/bin/env python3
"""Every fault that a cache can have, at once, against one daemon: a cache for each row of a table.

    fault_matrix.py answers|connections BUILD SCRATCH STRUCK OTHER...

BUILD is the build directory, SCRATCH a world as tests/support/scratch.bash makes it, the rest are store paths.

All paths are handed over once. Most faults strike the requests for STRUCK only; those of a whole cache strike all.
Then, row by row: STRUCK's job is in the state that the row says, and why is said in these words; the server saw no
more requests than the attempts explain; OTHER paths came to the same cache, where the fault leaves them a way; and
the cache that has no fault has everything. At last all caches are healed: every path must be on every cache, with
its NAR. Nothing is gated on a time; what is printed of times is for people.
"""
import collections
import datetime
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time

from fault_server import (ALL, ASK_CACHE_INFO, ASK_INFO, ASK_NAR, PUT_INFO, PUT_NAR, PUTS, Cache, FaultServer,
                          close_before_answer, endless, half_a_header, half_an_answer, late, lie, one_byte_a_second,
                          passing, raw, refuse_early, reset_before_answer, reset_in_body, stall, stalled_read, status,
                          stored)

STALL_TIMEOUT_S = 2
PATIENCE_S = 90          # until a state is reached, on a slow machine under a sanitizer
ATTEMPT_MAX_REQUESTS = 6  # cache info, narinfo, NAR asked for, sent, sent without condition, looked for; narinfo
MEMORY_MAX_KIB = 512 << 10

TRANSIENT, OPERATOR = ("delayed", "transient"), ("delayed", "operator")
PERMANENT, DONE = ("failed", "permanent"), ("done", None)

HTML = b"<!DOCTYPE html>\n<html><body>Welcome to the portal</body></html>\n"
AS_HTML = "Content-Type: text/html; charset=utf-8"
TOO_LATE = "nothing moved for stall-timeout"
CUT = "the connection was cut before the answer"


class Row:
    """FAULT strikes the operations STRIKES for one path, or IS_WHOLE for all; the job ENDs so, TEXT says why. WHERE:
    its own port, see Port. The next attempt is WAITS_S away at least. STAYS: healing changes nothing."""

    def __init__(self, name, strikes, fault, end, text="", is_whole=False, where=None, waits_s=0, stays=False):
        self.name, self.fault, self.end, self.text = name, fault, end, text
        self.strikes = strikes if isinstance(strikes, set) else {strikes}
        self.is_whole, self.where, self.waits_s, self.stays = is_whole, where, waits_s, stays
        self.problem, self.seen, self.took_s = "not looked at yet", None, 0


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
    Row("nar-400", PUT_NAR, status(400), PERMANENT, "HTTP 400 Bad Request: not today$"),
    Row("nar-403", PUT_NAR, status(403), OPERATOR, r"HTTP 403 Forbidden \(the cache does not let"),
    Row("nar-404", PUT_NAR, status(404), OPERATOR, r"HTTP 404 Not Found \(.*can be written to"),
    Row("nar-405", PUT_NAR, status(405), OPERATOR, r"HTTP 405 Method Not Allowed \(.*can be written to"),
    Row("nar-408", PUT_NAR, status(408), TRANSIENT, "HTTP 408 Request Timeout"),
    Row("nar-409", PUT_NAR, status(409), OPERATOR, "HTTP 409 Conflict"),
    Row("nar-411", PUT_NAR, status(411), PERMANENT, "HTTP 411 Length Required"),
    Row("nar-412", PUT_NAR, status(412), TRANSIENT, "as being there, and has it not"),
    Row("nar-413", PUT_NAR, status(413), PERMANENT, r"HTTP 413 Content Too Large \(.*limits the size"),
    Row("nar-413-early", PUT_NAR, refuse_early, PERMANENT,
        r"HTTP 413 Content Too Large \(.*limits the size.*: too much"),
    Row("nar-429", PUT_NAR, status(429), TRANSIENT, "HTTP 429 Too Many Requests"),
    Row("nar-429-later", PUT_NAR, status(429, "Retry-After: 600"), TRANSIENT, "HTTP 429 Too Many Requests",
        waits_s=600),
    Row("nar-500", PUT_NAR, status(500), TRANSIENT, "HTTP 500 Internal Server Error: not today"),
    Row("nar-501", PUT_NAR, status(501), OPERATOR, "HTTP 501 Not Implemented"),
    Row("nar-502", PUT_NAR, status(502), TRANSIENT, "HTTP 502 Bad Gateway"),
    Row("nar-503", PUT_NAR, status(503), TRANSIENT, "HTTP 503 Service Unavailable"),
    Row("nar-503-later", PUT_NAR, status(503, "Retry-After: 600"), TRANSIENT, "HTTP 503 Service Unavailable",
        waits_s=600),
    Row("nar-504", PUT_NAR, status(504), TRANSIENT, "HTTP 504 Gateway Timeout"),
    Row("nar-507", PUT_NAR, status(507), OPERATOR, r"HTTP 507 Insufficient Storage \(.*no space"),

    # To other requests.
    whole("all-401", ALL, status(401), OPERATOR, r"HTTP 401 Unauthorized \(the cache wants credentials"),
    whole("puts-404", PUTS, status(404), OPERATOR, r"HTTP 404 Not Found \(.*can be written to"),
    whole("cache-info-500", {ASK_CACHE_INFO}, status(500), TRANSIENT, "HTTP 500 Internal Server Error"),
    Row("ask-400", ASK_INFO, status(400), OPERATOR, "HTTP 400 Bad Request"),
    Row("ask-405", ASK_INFO, status(405), OPERATOR, "HTTP 405 Method Not Allowed"),
    Row("ask-500", ASK_INFO, status(500), TRANSIENT, "HTTP 500 Internal Server Error"),
    Row("info-403", PUT_INFO, status(403), OPERATOR, r"HTTP 403 Forbidden \(the cache does not let"),
    Row("info-412", PUT_INFO, status(412), TRANSIENT, "as being there, and has it not"),
    Row("info-503", PUT_INFO, status(503), TRANSIENT, "HTTP 503 Service Unavailable"),
]

CONNECTIONS = [
    # No answer, or not a whole one.
    whole("refused", ALL, None, TRANSIENT, "Connection refused", where="refused"),
    whole("unresolvable", ALL, None, TRANSIENT, "Could not resolve host|no connection came about in time",
          where="nowhere", stays=True),
    whole("reset-at-once", ALL, None, TRANSIENT, CUT, where="reset"),
    whole("mute", ALL, None, TRANSIENT, "no connection came about in time", where="mute"),
    Row("nar-reset-in-body", PUT_NAR, reset_in_body, TRANSIENT, CUT),
    Row("nar-reset", PUT_NAR, reset_before_answer, TRANSIENT, CUT),
    Row("nar-closed", PUT_NAR, close_before_answer, TRANSIENT, CUT),
    Row("ask-half", ASK_INFO, half_an_answer, TRANSIENT, "the answer was cut off"),
    Row("nar-half", PUT_NAR, half_an_answer, TRANSIENT, "the answer was cut off"),
    Row("nar-half-header", PUT_NAR, half_a_header, TRANSIENT, "the answer was cut off"),
    Row("nar-stalled-read", PUT_NAR, stalled_read, TRANSIENT, TOO_LATE),
    Row("nar-stalled", PUT_NAR, stall, TRANSIENT, TOO_LATE),
    Row("info-stalled", PUT_INFO, stall, TRANSIENT, TOO_LATE),
    Row("info-late", PUT_INFO, late, DONE),
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
    Row("info-html", {PUT_INFO}, status(200, AS_HTML, body=HTML), TRANSIENT, "web page"),
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
        where="own"),  # the body to HEAD is the next answer's beginning

    # TLS.
    whole("tls-unknown-ca", ALL, None, OPERATOR, "ca-file", where="unknown-ca"),
    whole("tls-wrong-name", ALL, None, OPERATOR, "is for another host", where="wrong-name"),
    whole("tls-expired", ALL, None, OPERATOR, "expired", where="expired"),
    whole("tls-missing", ALL, None, TRANSIENT, "does not speak TLS", where="plain"),
]


class Port:
    """Where a row has one of its own: bad at first, good once it is healed."""

    def __init__(self, server, kind, certs):
        self.server, self.kind, self.certs = server, kind, certs
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))  # refuses until it listens
        self.number = self.socket.getsockname()[1]
        self.listener = None
        self.is_tls = kind in ("mute", "plain", *BAD_CERTS)
        if kind == "reset":
            self.listen(reset_connection)
        elif kind == "mute":
            self.listen(say_nothing)
        elif kind in ("own", "plain"):
            self.listen()
        elif kind in BAD_CERTS:
            self.listen(ssl=self.context(kind))

    def context(self, name):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certs + "/%s.pem" % name)
        return context

    def listen(self, connected=None, **more):
        self.listener = self.server.listen(connected, sock=self.socket.dup(), **more)

    def heal(self):
        if self.listener is not None:
            self.server.call(self.listener.close)
        self.listen(**({"ssl": self.context("good")} if self.is_tls else {}))

    def url(self, name):
        if self.kind == "nowhere":
            return "http://nncache.invalid/" + name
        return "%s://127.0.0.1:%d/%s" % ("https" if self.is_tls else "http", self.number, name)


async def reset_connection(_, writer):
    writer.transport.abort()


async def say_nothing(reader, _):
    while await reader.read(1000):
        pass


BAD_CERTS = {"unknown-ca": ("other", "IP:127.0.0.1", 1), "wrong-name": ("ca", "DNS:elsewhere.example.org", 1),
             "expired": ("ca", "IP:127.0.0.1", -1)}


def make_certs(folder):
    """NAME.pem, certificate and key in one, for each of BAD_CERTS and `good`; ca.pem is what the daemon trusts."""
    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, cwd=folder, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    os.mkdir(folder)
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key")
    with open(folder + "/key") as f:
        key = f.read()
    for ca in ("ca", "other"):
        openssl("req", "-x509", "-new", "-key", "key", "-subj", "/CN=" + ca, "-days", "1", "-out", ca + ".pem")
    for name, (ca, alt_name, days) in {**BAD_CERTS, "good": ("ca", "IP:127.0.0.1", 1)}.items():
        openssl("req", "-new", "-key", "key", "-subj", "/CN=" + name, "-addext", "subjectAltName=" + alt_name,
                "-out", "csr")
        openssl("x509", "-req", "-in", "csr", "-CA", ca + ".pem", "-CAkey", "key", "-copy_extensions", "copy",
                "-days", str(days), "-out", name + ".pem")
        with open(folder + "/%s.pem" % name, "a") as f:
            f.write(key)


class Keys:
    """What the objects of a store path are called on a cache."""

    def __init__(self, path):
        nar_hash = subprocess.run(["nix-store", "-q", "--hash", path], check=True, capture_output=True, text=True)
        self.narinfo = os.path.basename(path)[:32] + ".narinfo"
        self.nar = "nar/%s.nar.zst" % nar_hash.stdout.strip().split(":")[1]


def seconds_between(begin, end):
    return (datetime.datetime.fromisoformat(end) - datetime.datetime.fromisoformat(begin)).total_seconds()


class Matrix:
    def __init__(self, table, build, scratch, paths):
        self.table, self.build, self.scratch, self.paths = table, build, scratch, paths
        self.struck = paths[0]
        self.keys = {path: Keys(path) for path in paths}
        self.server = FaultServer()
        self.certs = scratch + "/certs"
        make_certs(self.certs)
        self.ports = {row.name: Port(self.server, row.where, self.certs) for row in table if row.where}
        self.make_caches()
        self.write_config(self.server.listen().sockets[0].getsockname()[1])

    def make_caches(self):
        caches = self.server.caches
        keys = self.keys[self.struck]
        for row in self.table:
            caches[row.name] = Cache(row.name, row.fault, row.strikes, None if row.is_whole else vars(keys).values())
        caches["login"] = Cache("login", status(200, AS_HTML, body=HTML))

    def write_config(self, port):
        with open(self.scratch + "/etc/nncache.conf") as f:
            lines = [f.read()]
        for row in self.table:
            place = self.ports.get(row.name)
            lines.append('[cache "%s"]' % row.name)
            lines.append("url = " + (place.url(row.name) if place else "http://127.0.0.1:%d/%s" % (port, row.name)))
            lines.append("signing-key-file = %s/etc/key.secret" % self.scratch)
            lines.append("upstreams =")
            lines.append("upload-jobs = 4")
            lines.append("stall-timeout = %ds" % STALL_TIMEOUT_S)
            if place and place.is_tls:
                lines.append("ca-file = %s/ca.pem" % self.certs)
        with open(self.scratch + "/etc/nncache.conf", "w") as f:
            f.write("\n".join(lines) + "\n")

    # ---- the daemon ----

    def start_daemon(self):
        with open(self.scratch + "/log/nncached.log", "a") as log:
            self.daemon = subprocess.Popen([self.build + "/daemon/nncached", "--config",
                                            self.scratch + "/etc/nncache.conf"], stderr=log, stdout=log)
        with open(self.scratch + "/run/nncached.pid", "w") as f:  # should we be killed, scratch_stop ends it
            f.write(str(self.daemon.pid))
        self.wait_until("the daemon answers", lambda: self.ctl("status") is not None)

    def stop_daemon(self):
        self.daemon.terminate()
        if self.daemon.wait(60) != 0:
            sys.exit("nncached ended with %d" % self.daemon.returncode)
        os.unlink(self.scratch + "/run/nncached.pid")

    def ctl(self, *words):
        done = subprocess.run([self.build + "/ctl/nncachectl", *words], capture_output=True, text=True, timeout=60,
                              env={**os.environ, "NNCACHE_SOCKET": self.scratch + "/run/nncached.sock"})
        return done.stdout if done.returncode == 0 else None

    def jobs(self):
        """By cache, then by path."""
        jobs = collections.defaultdict(dict)
        listing = self.ctl("list", "--state", "all", "--json") or sys.exit("the jobs could not be listed")
        for job in json.loads(listing)["jobs"]:
            jobs[job["cache"]][job["path"]] = job
        return jobs

    def wait_until(self, what, is_so):
        end = time.monotonic() + PATIENCE_S
        while not is_so():
            if time.monotonic() > end:
                return False
            if self.daemon.poll() is not None:
                sys.exit("nncached ended with %d before %s" % (self.daemon.returncode, what))
            time.sleep(0.2)
        return True

    # ---- what is to be seen ----

    def problem_of(self, row, jobs, n_requests):
        """Why ROW is not as it should be, or None."""
        job = jobs.get(self.struck)
        if job is None or len(jobs) < len(self.paths):
            return "not queued"
        # Where the fault is the whole cache's, its jobs are ready, say why they wait, and it is tried by itself.
        state = "delayed" if job["state"] == "ready" and job["kind"] else job["state"]
        seen = (state, job["kind"] if state != "done" else None)
        if seen != row.end:
            return "%s: %s" % (seen, job["text"])
        if row.end != DONE and not re.search(row.text, job["text"]):
            return "is explained by: " + job["text"]
        if row.waits_s and seconds_between(job["enqueued"], job["not_before"]) < row.waits_s:
            return "is tried again too early, at " + job["not_before"]
        for path in self.paths[1:]:
            has = self.server.caches[row.name].has(self.keys[path].narinfo)
            if not row.is_whole and jobs[path]["state"] != "done" or jobs[path]["state"] == "done" and not has:
                return "%s is %s" % (path, jobs[path]["state"])
        allowed = sum((job["attempts"] + 2) * ATTEMPT_MAX_REQUESTS for job in jobs.values())
        if n_requests > allowed:
            return "%d requests, at most %d are explained by its attempts" % (n_requests, allowed)
        return None

    def look(self):
        """Looks at each row that was not right yet. True once all are."""
        # Counted before the attempts are: what comes in between explains too much, not too little.
        n_requests = {row.name: self.server.caches[row.name].requests.total() for row in self.table}
        jobs = self.jobs()
        for row in self.table:
            if row.problem is not None:
                row.problem = self.problem_of(row, jobs[row.name], n_requests[row.name])
                row.seen, row.n_requests = jobs[row.name].get(self.struck), n_requests[row.name]
                row.took_s = time.monotonic() - self.started
        return all(row.problem is None for row in self.table) and self.plain_has_all(jobs)

    def plain_has_all(self, jobs):
        return all(jobs["main"][path]["state"] == "done" and os.path.exists(
            "%s/cache/%s" % (self.scratch, self.keys[path].narinfo)) for path in self.paths)

    def report(self):
        for row in self.table:
            job = row.seen or {"state": "?", "attempts": 0, "text": None}
            print("%-22s %-8s %2d attempts %3d requests %5.1f s  %s" % (
                row.name, job["state"], job["attempts"], row.n_requests, row.took_s,
                "NOT SO: " + row.problem if row.problem else job["text"] or ""))

    def check_bounds(self):
        with open("/proc/%d/status" % self.daemon.pid) as f:
            peak_kib = int(re.search(r"^VmHWM:\s+(\d+)", f.read(), re.M).group(1))
        print("peak of the daemon's memory: %d KiB" % peak_kib)
        if peak_kib > MEMORY_MAX_KIB:
            sys.exit("the daemon took more memory than its bounds allow")
        for cache in self.server.caches.values():
            if any("accept-encoding" in headers for headers in cache.headers):
                sys.exit("%s: the daemon asked for a packed answer, which can unpack to any size" % cache.name)

    def heal(self):
        for cache in self.server.caches.values():
            cache.is_healed = True
        for port in self.ports.values():
            port.heal()

    def lacks(self):
        """(cache, path) for all that is not where it should be."""
        return [(row.name, path) for row in self.table if not row.stays for path in self.paths
                if not self.server.caches[row.name].has(self.keys[path].narinfo)]

    def all_is_done(self):
        """What was under way when the faults ended may have met them once more."""
        self.ctl("retry", *self.paths)
        jobs = self.jobs()
        return all(job["state"] == "done" for row in self.table if not row.stays for job in jobs[row.name].values())

    def run(self):
        self.start_daemon()
        self.started = time.monotonic()
        if self.ctl("push", "--no-wait", *self.paths) is None:
            sys.exit("the paths could not be handed over")
        is_right = self.wait_until("all rows are as the table says", self.look)
        self.report()
        if not is_right:
            sys.exit("not all rows are as the table says")
        self.check_bounds()
        self.heal()
        healed = time.monotonic()
        if not self.wait_until("all is done", self.all_is_done) or self.lacks():
            for name, path in self.lacks():
                print(name, self.jobs()[name][path])
            sys.exit("the faults are over, and not everything is on the caches")
        print("healed: all is done after another %.1f s" % (time.monotonic() - healed))
        self.stop_daemon()


def main():
    table, build, scratch, *paths = sys.argv[1:]
    Matrix({"answers": ANSWERS, "connections": CONNECTIONS}[table], build, scratch, paths).run()


if __name__ == "__main__":
    main()
