#!/usr/bin/env python3
"""A binary cache for tests: PUT, GET and HEAD of files in a directory, faults on demand.

The first segment of a request's path names the mode, the rest the object; all modes share one
directory, so that one mode can fill it and another refuse. Modes:

  ok            a plain cache, `If-None-Match: *` honoured
  503 429 507   PUT answers so; 503 and 429 with Retry-After: 7
  503date       PUT answers 503 with Retry-After as a date 30 seconds from now
  503past       the same with a date that has been; 503far: with one in a year
  401           everything answers 401
  403 409       PUT answers so; the object can be read
  404put        PUT answers 404
  no-chunks     a chunked PUT answers 411
  no-condition  a PUT with If-None-Match answers 501
  old           neither of the two is understood: 400
  html          everything answers a page of HTML with 200
  html-put      only PUT does, and keeps nothing
  405head       HEAD of anything answers 405; 501head: 501
  bulk          POST of a list of hash parts answers those of which there is no narinfo, or that came twice;
                bulk-half: and what is not asked for, the first half of each
  echo          everything answers 401 and repeats the Authorization header
  cut-head      everything answers 200 and half a header
  long-head     everything answers 200 and header lines without end
  lie           PUT answers 201 and keeps nothing, if the file ROOT/.lie is there and what it holds begins the key
  head-body     HEAD is answered with 404 and a body of 4 MiB
  long          GET answers 200 and a body of 4 MiB
  error-long    GET answers 500 and a body of 4 MiB
  redirect      everything answers 301 to mode ok
  elsewhere     the same, but to --other
  reset         PUT reads 1,000 bytes and resets the connection
  cut           GET promises 1,000 bytes and closes after 10
  close-once    a connection's second request is not answered, it is closed
  slow          answers after one second
  stall         reads the request and never answers
  token         401 unless the bearer token is that of --token

Prints "PORT\\n" once it listens. With --log every request is one line of JSON.
"""

import argparse
import email.utils
import json
import os
import socket
import ssl
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LONG = 4 << 20


class Cut(Exception):
    """The client went away in the middle of its body."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def log_message(self, *args):
        pass

    def note(self, status, n_bytes=0):
        if self.server.log is None:
            return
        line = json.dumps({
            "method": self.command, "path": self.path, "status": status, "bytes": n_bytes,
            "connection": self.client_address[1],
            "headers": {k.lower(): v for k, v in self.headers.items()},
        })
        with self.server.lock:
            self.server.log.write(line + "\n")
            self.server.log.flush()

    def answer(self, status, body=b"", headers=(), length=None, n_read=0):
        self.note(status, n_read)
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def split(self):
        mode, _, key = self.path.lstrip("/").partition("/")
        key = os.path.normpath(key)
        return mode, key, os.path.join(self.server.root, key)

    def body_pieces(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while True:
                line = self.rfile.readline(100)
                if not line.endswith(b"\n"):
                    raise Cut
                size = int(line, 16)
                data = self.rfile.read(size)
                if len(data) < size or self.rfile.readline(10) != b"\r\n":
                    raise Cut
                if size == 0:
                    return
                yield data
        left = int(self.headers.get("Content-Length", "0"))
        while left > 0:
            data = self.rfile.read(min(left, 1 << 16))
            if not data:
                raise Cut
            left -= len(data)
            yield data

    def read_body(self):
        body = b"".join(self.body_pieces())
        return body

    def reset(self):
        self.rfile.read(1000)
        self.note(0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def write_bad_head(self, mode):
        self.note(200)
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Le")
        while mode == "long-head":
            self.wfile.write(b"ngthy: and lengthy\r\n" * 1000)

    def parse_request(self):
        """Closes a connection at its second request, as a server does that kept it too long."""
        self.n_requests = getattr(self, "n_requests", 0) + 1
        if b"/close-once/" in self.raw_requestline and self.n_requests == 2:
            self.close_connection = True
            return False
        return super().parse_request()

    def is_lie(self, key):
        try:
            with open(os.path.join(self.server.root, ".lie"), encoding="utf-8") as f:
                return key.startswith(f.read().strip())
        except OSError:
            return False

    def handle_any(self):
        """What a mode does to all methods. True: the request is dealt with."""
        mode, key, _ = self.split()
        if mode == "401" or (mode == "token" and
                             self.headers.get("Authorization") != "Bearer %s" % self.server.token):
            self.read_body()
            self.answer(401, b"who are you?\nsecond line\n")
        elif mode == "redirect" or mode == "elsewhere":
            self.read_body()
            base = "/ok" if mode == "redirect" else self.server.other
            self.answer(301, headers=[("Location", "%s/%s" % (base, key))])
        elif mode == "stall":
            self.read_body()
            self.note(0)
            time.sleep(60)
        elif mode == "html" or (mode == "html-put" and self.command == "PUT"):
            self.read_body()
            self.answer(200, b"<html><body>Welcome to the portal</body></html>\n",
                        [("Content-Type", "text/html; charset=utf-8")])
        elif mode == "lie" and self.command == "PUT" and self.is_lie(key):
            self.answer(201, n_read=len(self.read_body()))
        elif mode == "echo":
            self.read_body()
            self.answer(401, ("not known: %s\n" % self.headers.get("Authorization")).encode())
        elif mode in ("405head", "501head") and self.command == "HEAD":
            self.answer(int(mode[:3]))
        elif mode in ("bulk", "bulk-half") and self.command == "POST":
            asked = json.loads(self.read_body())
            missing = [part for part in asked if asked.count(part) > 1 or
                       not os.path.exists(os.path.join(self.server.root, part + ".narinfo"))]
            self.answer(200, json.dumps([part[:16] if mode == "bulk-half" else part for part in missing]).encode())
        elif mode == "head-body" and self.command == "HEAD":
            self.answer(404, length=LONG)
            self.wfile.write(b"x" * LONG)
        elif mode == "cut-head" or mode == "long-head":
            self.read_body()
            self.write_bad_head(mode)
        else:
            if mode == "slow":
                time.sleep(1)
            return False
        return True

    def do_GET(self):
        mode, key, path = self.split()
        if self.handle_any():
            return
        if mode == "long":
            self.answer(200, b"x" * LONG)
        elif mode == "error-long":
            self.answer(500, b"x" * LONG)
        elif mode == "cut":
            self.answer(200, b"x" * 10, length=1000)
            self.close_connection = True
        else:
            try:
                with open(path, "rb") as f:
                    body = f.read()
            except OSError:
                self.answer(404, b"no such object\n")
                return
            self.answer(200, body, [("Content-Type", "application/octet-stream"), ("ETag", '"abc"')])

    do_HEAD = do_GET

    def refusal(self, mode):
        is_chunked = "Transfer-Encoding" in self.headers
        is_conditional = "If-None-Match" in self.headers
        if mode in ("403", "409", "507"):
            return int(mode), []
        if mode in ("503", "429"):
            return int(mode), [("Retry-After", "7")]
        dates = {"503date": 30, "503past": -30, "503far": 365 * 86400}
        if mode in dates:
            return 503, [("Retry-After", email.utils.formatdate(time.time() + dates[mode], usegmt=True))]
        if mode == "404put":
            return 404, []
        if mode == "no-chunks" and is_chunked:
            return 411, []
        if mode == "no-condition" and is_conditional:
            return 501, []
        if mode == "old" and (is_chunked or is_conditional):
            return 400, []
        return None

    def handle_expect_100(self):
        """Who waits for leave to send its body learns a refusal before it does."""
        refusal = self.refusal(self.split()[0])
        if refusal is None:
            return super().handle_expect_100()
        self.close_connection = True
        self.answer(refusal[0], b"not today\n", refusal[1])
        return False

    def do_PUT(self):
        mode, key, path = self.split()
        if mode == "reset":
            self.reset()
            return
        if self.handle_any():
            return
        refusal = self.refusal(mode)
        if refusal:
            n_read = len(self.read_body())
            self.answer(refusal[0], b"not today\nsecond line\n", refusal[1], n_read=n_read)
            return
        if self.headers.get("If-None-Match") == "*" and os.path.exists(path):
            self.answer(412, n_read=len(self.read_body()))
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temp = "%s.%d.tmp" % (path, threading.get_ident())
        n_read = 0
        try:
            with open(temp, "wb") as f:
                for piece in self.body_pieces():
                    f.write(piece)
                    n_read += len(piece)
        except (Cut, OSError, ValueError):
            os.unlink(temp)
            self.note(0, n_read)
            self.close_connection = True
            return
        os.rename(temp, path)
        self.answer(201, n_read=n_read)

    do_POST = do_PUT

    def do_DELETE(self):
        _, _, path = self.split()
        if os.path.exists(path):
            os.unlink(path)
        self.answer(204)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", required=True)
    parser.add_argument("--log")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", default="open-sesame")
    parser.add_argument("--other", default="", help="base URL that mode elsewhere sends to")
    parser.add_argument("--cert", help="PEM with certificate and key: serve TLS")
    parser.add_argument("--client-ca", help="ask for client certificates of this CA")
    args = parser.parse_args()

    server = Server(("127.0.0.1", args.port), Handler)
    server.root = args.root
    server.token, server.other = args.token, args.other
    server.lock = threading.Lock()
    server.log = open(args.log, "a") if args.log else None
    if args.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(args.cert)
        if args.client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(args.client_ca)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
