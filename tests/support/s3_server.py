#!/usr/bin/env python3
"""A strict little S3 for tests, with the faults that a real one cannot be made to have, and the servers that
hand out credentials.

Path style: the bucket names the mode, all buckets hold objects of their own below --root. Every request to a
bucket must carry a good signature, version 4, checked here by the book; keys are below. Modes:

  ok            objects, parts, `If-None-Match: *`
  no-condition  501 NotImplemented to If-None-Match
  no-list       403 AccessDenied for what is missing; HEAD without a body
  denied        403 AccessDenied to PUT and POST
  locked locked409   what is there may not be replaced: 403, 409
  conflict      409 ConditionalRequestConflict to PUT
  slow-down     503 SlowDown, Retry-After: 3
  busy400       400 RequestTimeout
  skewed        403 RequestTimeTooSkewed
  elsewhere     301 PermanentRedirect, and the region in a header
  malformed     400 AuthorizationHeaderMalformed, and the region in the body
  gone          404 NoSuchBucket
  expired       400 ExpiredToken, always
  quota         403 QuotaExceeded to PUT
  html403 html200    a web page
  repeat...     307 with the session token in the address and in the text
  bomb          400 and XML that would grow without end
  no-etag       takes everything, without an ETag
  lock          400 InvalidRequest to a PUT without Content-MD5, which is checked
  no-uploads    answers a POST that begins an upload with a web page
  part-once     every part is refused once with 500, then taken
  part-503      every part, always: 503
  part-403      part 2, always: 403 AccessDenied
  part-stall    part 2 is read and never answered
  done-error    the first Complete answers 200 and an error, after white space
  done-always   every Complete does, with Retry-After: 600
  done-lost     the first Complete works, and answers 500
  done-412      somebody else's object appears before Complete
  done-412-503  the same, and the abort that follows answers 503
  done-page     Complete answers 200 and a web page

Credentials: POST /sts/; GET /container with "Authorization: open-sesame"; /latest/... the metadata service;
/page a web page in their place.
They give session keys, whose token is "token-N"; POST /control/expire makes all before N + 1 expire,
POST /control/sts-denied, /control/no-role and /control/soon change what is handed out, /control/repeat has them
refuse and repeat what they were shown, as buckets named so do.

Prints "PORT\\n" once it listens. With --log every request is a line of JSON. --self-test checks the verifier.
"""

import argparse
import base64
import hashlib
import hmac
import itertools
import json
import os
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from own_cache import put_file

KEYS = {"AKIDEXAMPLE": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "AKIDSESSION": "session/secret+key="}
PLAIN = "-_.~"
MIN_PART = 5 << 20
HTML = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>\n"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class Refused(Exception):
    def __init__(self, status, code, message="", headers=(), more=""):
        super().__init__(code)
        self.status, self.code, self.message, self.headers, self.more = status, code, message, headers, more


def canonical_request(method, path, query, headers, signed, payload_hash):
    pairs = sorted((urllib.parse.quote(k, PLAIN), urllib.parse.quote(v, PLAIN))
                   for k, v in urllib.parse.parse_qsl(query, keep_blank_values=True))
    return "\n".join([
        method, urllib.parse.quote(urllib.parse.unquote(path), PLAIN + "/"),
        "&".join("%s=%s" % pair for pair in pairs),
        "".join("%s:%s\n" % (name, " ".join(headers[name].split())) for name in signed),
        ";".join(signed), payload_hash])


def signature(secret, date, region, canonical):
    key = ("AWS4" + secret).encode()
    for part in (date[:8], region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    scope = "%s/%s/s3/aws4_request" % (date[:8], region)
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def verify(method, target, headers):
    """Raises Refused. Returns the key id and the region signed for."""
    authorization = headers.get("authorization", "")
    if not authorization.startswith("AWS4-HMAC-SHA256 "):
        raise Refused(403, "AccessDenied", "not signed")
    fields = dict(part.strip().split("=", 1) for part in authorization.split(" ", 1)[1].split(","))
    key_id, date, region, service, end = fields["Credential"].split("/")
    signed = fields["SignedHeaders"].split(";")
    path, _, query = target.partition("?")
    if (service, end) != ("s3", "aws4_request") or signed != sorted(signed):
        raise Refused(400, "AuthorizationHeaderMalformed")
    for name in headers:
        if (name in ("host", "content-type", "content-md5") or name.startswith("x-amz-")) and name not in signed:
            raise Refused(403, "AccessDenied", "%s is not signed" % name)
    for name in signed:
        if name not in headers:
            raise Refused(403, "AccessDenied", "%s is signed and was not sent" % name)
    if "x-amz-content-sha256" not in headers:
        raise Refused(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    if key_id not in KEYS:
        raise Refused(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
    if not headers["x-amz-date"].startswith(date):
        raise Refused(403, "SignatureDoesNotMatch", "the dates differ")
    canonical = canonical_request(method, path, query, headers, signed, headers["x-amz-content-sha256"])
    if signature(KEYS[key_id], headers["x-amz-date"], region, canonical) != fields["Signature"]:
        raise Refused(403, "SignatureDoesNotMatch", "The request signature we calculated does not match.")
    return key_id, region


def self_test():
    host, date = "s3.example.com:9000", "20260102T030405Z"
    headers = {"content-type": "application/x-nix-nar", "host": host, "x-amz-date": date,
               "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    for method, query, names, payload, expected in (
            ("PUT", "", sorted(headers), "UNSIGNED-PAYLOAD",
             "0acbddb80ebacc8aee414bf70834a89b6cad551be503f145648376a6cf789a7b"),
            ("POST", "uploads=", ["host", "x-amz-content-sha256", "x-amz-date"], EMPTY_SHA256,
             "c86006efd6d49b27653fd74c1c7074777722367810de89cf5dc2b8b108b0336e"),
            ("PUT", "partNumber=2&uploadId=ab%2B%2Fc%3D%3D", ["host", "x-amz-content-sha256", "x-amz-date"],
             "UNSIGNED-PAYLOAD", "b33541a210d771ace72aba33edd4317c3bf10760fa065c67caae814c723ce3d7")):
        canonical = canonical_request(method, "/cache/nar/0abc.nar.zst", query,
                                      dict(headers, **{"x-amz-content-sha256": payload}), names, payload)
        assert signature(KEYS["AKIDEXAMPLE"], date, "us-east-1", canonical) == expected, canonical


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def log_message(self, *args):
        pass

    def note(self, status, n_bytes):
        if self.server.log is None:
            return
        line = json.dumps({"method": self.command, "path": self.path, "status": status, "bytes": n_bytes,
                           "headers": {k.lower(): v for k, v in self.headers.items()}})
        with self.server.lock:
            self.server.log.write(line + "\n")
            self.server.log.flush()

    def answer(self, status, body=b"", headers=()):
        self.note(status, len(self.body))
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if not (status == 204 or any(name == "Content-Length" for name, _ in headers)):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_xml(self, root, content, status=200, headers=()):
        text = '<?xml version="1.0" encoding="UTF-8"?>\n<%s xmlns="http://s3.amazonaws.com/doc/2006-03-01/">%s</%s>'
        self.answer(status, (text % (root, content, root)).encode(), [("Content-Type", "application/xml"), *headers])

    def answer_error(self, refused, status=None):
        text = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>%s</Code><Message>%s</Message>%s</Error>' % (
            refused.code, refused.message, refused.more)
        self.answer(status or refused.status, text.encode(), [("Content-Type", "application/xml"), *refused.headers])

    def handle_one(self):
        self.body = b""
        length = int(self.headers.get("Content-Length", "0"))
        assert "Transfer-Encoding" not in self.headers, "S3 takes no body without a length"
        self.body = self.rfile.read(length)
        if len(self.body) < length:
            self.note(0, len(self.body))
            self.close_connection = True
            return
        first = self.path.lstrip("/").split("/")[0].split("?")[0]
        special = {"sts": self.sts, "container": self.container, "latest": self.machine, "control": self.control,
                   "page": lambda: self.answer(200, HTML)}
        try:
            if first in special:
                special[first]()
            else:
                self.bucket(first)
        except Refused as refused:
            self.answer_error(refused)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one

    def repeat(self, secret):
        self.answer(307, ("not known: %s\n" % secret).encode(), [("Location", "http://127.0.0.1:1/%s" % secret)])

    # ---- credentials

    def session(self):
        hour = 3600 if not self.server.soon else 100
        return {"AccessKeyId": "AKIDSESSION", "SecretAccessKey": KEYS["AKIDSESSION"],
                "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + hour)),
                "token": self.session_token()}

    def session_token(self):
        return "%s-%d" % (self.server.session_token, self.server.generation)

    def control(self):
        what = self.path.split("/")[2]
        if what == "expire":
            self.server.generation += 1
        else:
            setattr(self.server, what.replace("-", "_"), True)
        self.answer(200)

    def sts(self):
        form = dict(urllib.parse.parse_qsl(self.body.decode(), strict_parsing=True))
        assert form["Action"] == "AssumeRoleWithWebIdentity" and form["Version"] == "2011-06-15", form
        if self.server.repeat:
            self.repeat(form["WebIdentityToken"])
            return
        if form["WebIdentityToken"] != self.server.identity or self.server.sts_denied:
            self.answer(403, b"<ErrorResponse><Error><Code>InvalidIdentityToken</Code></Error></ErrorResponse>")
            return
        assert form["RoleArn"] == "arn:aws:iam::1:role/builder" and form["RoleSessionName"] == "nncache", form
        keys = self.session()
        keys["SessionToken"] = keys.pop("token")
        content = "".join("<%s>%s</%s>" % (k, v, k) for k, v in keys.items())
        self.answer_xml("AssumeRoleWithWebIdentityResponse",
                        "<AssumeRoleWithWebIdentityResult><Credentials>%s</Credentials>"
                        "</AssumeRoleWithWebIdentityResult>" % content)

    def answer_json(self):
        keys = self.session()
        keys["Token"] = keys.pop("token")
        self.answer(200, json.dumps(dict(keys, Code="Success")).encode(), [("Content-Type", "application/json")])

    def container(self):
        if self.server.repeat:
            self.repeat(self.headers.get("Authorization"))
        elif self.headers.get("Authorization") != self.server.authorization:
            self.answer(401)
        else:
            self.answer_json()

    def machine(self):
        base = "/latest/meta-data/iam/security-credentials/"
        if self.path == "/latest/api/token":
            ttl = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
            if self.command != "PUT" or ttl is None or not 1 <= int(ttl) <= 21600:
                self.answer(400)
            else:
                self.answer(200, self.server.metadata_token.encode())
        elif self.server.repeat:
            self.repeat(self.headers.get("X-aws-ec2-metadata-token"))
        elif self.command != "GET" or self.headers.get("X-aws-ec2-metadata-token") != self.server.metadata_token:
            self.answer(401)
        elif self.path == base and not self.server.no_role:
            self.answer(200, b"builder\n")
        elif self.path == base + "builder":
            self.answer_json()
        else:
            self.answer(404)

    # ---- buckets

    def check_session(self, key_id):
        token = self.headers.get("x-amz-security-token")
        if key_id == "AKIDSESSION" and token != self.session_token():
            raise Refused(400, "ExpiredToken", "The provided token has expired.")
        if key_id == "AKIDEXAMPLE" and token is not None:
            raise Refused(400, "InvalidToken")

    def refuse(self, mode, is_write):
        if mode == "slow-down":
            raise Refused(503, "SlowDown", "Please reduce your request rate.", [("Retry-After", "3")])
        if mode == "busy400":
            raise Refused(400, "RequestTimeout")
        if mode == "skewed":
            raise Refused(403, "RequestTimeTooSkewed", "The difference between the request time and the current "
                          "time is too large.", more="<ServerTime>2026-01-02T03:04:05Z</ServerTime>")
        if mode == "elsewhere":
            raise Refused(301, "PermanentRedirect", "The bucket you are attempting to access must be addressed "
                          "using the specified endpoint.", [("x-amz-bucket-region", "eu-west-1")])
        if mode == "malformed":
            raise Refused(400, "AuthorizationHeaderMalformed", "the region is wrong", more="<Region>eu-west-1</Region>")
        if mode == "gone":
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist")
        if mode == "expired":
            raise Refused(400, "ExpiredToken", "The provided token has expired.")
        if mode == "lock" and self.command == "PUT":
            if "Content-MD5" not in self.headers:
                raise Refused(400, "InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required for Put "
                              "Object requests with Object Lock parameters")
            if self.headers["Content-MD5"] != base64.b64encode(hashlib.md5(self.body).digest()).decode():
                raise Refused(400, "BadDigest")
        if is_write and mode == "denied":
            raise Refused(403, "AccessDenied", "Access Denied")
        if is_write and mode == "quota":
            raise Refused(403, "QuotaExceeded")
        if is_write and mode == "conflict":
            raise Refused(409, "ConditionalRequestConflict")
        if mode == "no-condition" and "If-None-Match" in self.headers:
            raise Refused(501, "NotImplemented", "A header you provided implies functionality that is not implemented.")

    def bucket(self, mode):
        key_id, _ = verify(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
        self.check_session(key_id)
        is_write = self.command in ("PUT", "POST")
        if mode.startswith("repeat"):
            self.repeat(self.headers.get("x-amz-security-token"))
        elif mode == "html403":
            self.answer(403, HTML)
        elif mode == "html200":
            self.answer(200, HTML)
        elif mode == "bomb":
            self.answer(400, b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>\n'
                        b"<Error><Code>&b;</Code></Error>")
        else:
            self.refuse(mode, is_write)
            self.serve(mode)

    def serve(self, mode):
        target, _, query = self.path.partition("?")
        query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        key = os.path.normpath(urllib.parse.unquote(target.lstrip("/")))
        path = os.path.join(self.server.root, key)
        if "uploads" in query:
            self.create(mode, key)
        elif "uploadId" in query:
            self.upload(mode, path, query)
        elif self.command == "PUT":
            self.put(mode, path)
        elif self.command in ("GET", "HEAD"):
            self.get(mode, path)
        else:
            self.answer(405)

    def get(self, mode, path):
        try:
            with open(path, "rb") as f:
                body = f.read()
        except OSError:
            raise Refused(403 if mode == "no-list" else 404, "AccessDenied" if mode == "no-list" else "NoSuchKey")
        self.answer(200, body, [("ETag", '"abc"')])

    def may_store(self, mode, path):
        there = os.path.exists(path)
        if there and mode == "locked":
            raise Refused(403, "AccessDenied", "Access Denied because object protected by object lock.")
        if there and mode == "locked409":
            raise Refused(409, "InvalidObjectState")
        if there and self.headers.get("If-None-Match") == "*":
            raise Refused(412, "PreconditionFailed")

    def put(self, mode, path):
        self.may_store(mode, path)
        put_file(path, self.body)
        self.answer(200, headers=[] if mode == "no-etag" else [("ETag", '"%s"' % hashlib.md5(self.body).hexdigest())])

    def create(self, mode, key):
        if mode == "no-uploads":
            self.answer(200, HTML)
            return
        with self.server.lock:
            # As hard as it gets: what must be escaped in a query and in XML.
            upload_id = "up/%d+x==&amp;'" % next(self.server.upload_numbers)
            self.server.uploads[upload_id.replace("&amp;", "&")] = {"key": key, "parts": {}, "tries": {}}
        self.answer_xml("InitiateMultipartUploadResult",
                        "<Bucket>%s</Bucket><Key>k</Key><UploadId>%s</UploadId>" % (mode, upload_id))

    def upload(self, mode, path, query):
        upload = self.server.uploads.get(query["uploadId"])
        if upload is None:
            raise Refused(404, "NoSuchUpload", "The specified upload does not exist.")
        if self.command == "DELETE" and mode == "done-412-503":
            raise Refused(503, "SlowDown")
        elif self.command == "DELETE":
            del self.server.uploads[query["uploadId"]]
            self.answer(204)
        elif self.command == "PUT":
            self.part(mode, upload, int(query["partNumber"]))
        else:
            self.complete(mode, path, upload, query["uploadId"])

    def part(self, mode, upload, number):
        assert 1 <= number <= 10000
        upload["tries"][number] = upload["tries"].get(number, 0) + 1
        if mode == "part-once" and upload["tries"][number] == 1:
            raise Refused(500, "InternalError", "We encountered an internal error. Please try again.")
        if mode == "part-503":
            raise Refused(503, "SlowDown", headers=[("Retry-After", "600")])
        if mode == "part-403" and number == 2:
            raise Refused(403, "AccessDenied")
        if mode == "part-stall" and number == 2:
            self.note(0, len(self.body))
            time.sleep(60)
        etag = '"%s&<>"' % hashlib.md5(self.body).hexdigest()
        upload["parts"][number] = (etag, self.body)
        self.answer(200, headers=[] if mode == "no-etag" else [("ETag", etag)])

    def complete(self, mode, path, upload, upload_id):
        import xml.etree.ElementTree as ElementTree
        root = ElementTree.fromstring(self.body)
        wanted = [(int(part.find("PartNumber").text), part.find("ETag").text) for part in root]
        numbers = sorted(upload["parts"])
        if wanted != [(n, upload["parts"][n][0]) for n in numbers] or numbers != list(range(1, len(numbers) + 1)):
            raise Refused(400, "InvalidPart")
        sizes = [len(upload["parts"][n][1]) for n in numbers]
        if any(size < MIN_PART for size in sizes[:-1]):
            raise Refused(400, "EntityTooSmall")
        if len(set(sizes[:-1])) > 1 or sizes[-1] > sizes[0]:
            raise Refused(400, "InvalidPart", "parts must be equal")
        upload["completes"] = upload.get("completes", 0) + 1
        if mode == "done-always" or (mode == "done-error" and upload["completes"] == 1):
            text = b'  \n<?xml version="1.0"?>\n<Error><Code>InternalError</Code><Message>Again.</Message></Error>'
            self.answer(200, text, [("Retry-After", "600")] if mode == "done-always" else [])
            return
        if mode == "done-page":
            self.answer(200, HTML)
            return
        if mode.startswith("done-412"):
            put_file(path, b"somebody else's")
        self.may_store(mode, path)
        put_file(path, b"".join(upload["parts"][n][1] for n in numbers))
        del self.server.uploads[upload_id]
        if mode == "done-lost":
            raise Refused(500, "InternalError")
        self.answer_xml("CompleteMultipartUploadResult", "<ETag>&quot;x-%d&quot;</ETag>" % len(numbers))


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    generation = 1
    sts_denied = no_role = soon = repeat = False

    def handle_error(self, request, client_address):
        import traceback
        if self.log is not None and not isinstance(__import__("sys").exc_info()[1], OSError):
            self.log.write(json.dumps({"broken": traceback.format_exc()}) + "\n")
            self.log.flush()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--root")
    parser.add_argument("--log")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", action="append", default=[], help="ID:SECRET, one more that is known")
    parser.add_argument("--identity", default="web+identity/token==", help="what the STS wants to be shown")
    parser.add_argument("--authorization", default="open-sesame", help="what the container's agent does")
    parser.add_argument("--metadata-token", default="metadata-token==")
    parser.add_argument("--session-token", default="token", help="what those of sessions begin with")
    args = parser.parse_args()

    self_test()
    for key in args.key:
        key_id, _, KEYS[key_id] = key.partition(":")
    if args.self_test:
        return
    server = Server(("127.0.0.1", args.port), Handler)
    server.root = args.root
    server.identity, server.authorization = args.identity, args.authorization
    server.metadata_token, server.session_token = args.metadata_token, args.session_token
    server.lock = threading.Lock()
    server.uploads = {}
    server.upload_numbers = itertools.count()
    server.log = open(args.log, "a") if args.log else None
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
