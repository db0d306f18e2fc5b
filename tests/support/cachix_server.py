#!/usr/bin/env python3
"""Cachix for tests: the API, its storage, and the binary cache that comes of it, as strict as the real ones are
described to be. Keeps all in memory.

    cachix_server.py [--token TOKEN] [--cache NAME] [--store-dir DIR] [--public-key BASE64] [--log FILE]
        [--signature TEXT] [--root DIR]

Prints "PORT PUBLIC-KEY\\n" once it listens: the API is at http://127.0.0.1:PORT/api/v1, the cache at
http://127.0.0.1:PORT/cache. `Bearer TOKEN` may write, `Bearer TOKEN-ro` may read. With --public-key, signatures
must come with the paths and be of that key; without, the server signs and must be sent none. The signatures of
the storage's URLs begin with TEXT. With --root there is a cache of each name that is asked for, and what it
takes is also put below DIR/NAME, as files of a binary cache.

Verified: every field, hash and size of what is said of a path, against the bytes that came; that parts are of
equal size, of 5 MiB at least but for the last, each with its MD5, in order, with the ETags that the storage
gave; that the storage is shown no token, and each of its URLs is used before it runs out and for its own part
alone. A narinfo is served only when its whole closure is there.

POST /_test/mode with one of these words changes how it behaves from then on:

  ok           the normal way
  expire       the first URL of each part has run out already
  lose-part    the first PUT of each part has its connection closed in the middle
  slow-part    the storage answers the first PUT of each part with 400, as it does when a body came too slowly
  bad-part     the storage answers every PUT of a part with 400, as if what came were another body
  repeat       the storage answers each with 307, and repeats its signature in the address and the URL in the text
  problem      the API answers 503 as application/problem+json
  html         the API answers 200 and a page of HTML
  refuse       complete answers 400
  bad-url      the URLs of parts are none that a body may go to
  bad-start    the start of an upload is answered without its names
  here         the API names this server as the one to read from, to those without a token, too
  plain-401    the API answers 401 in plain text, as for a cache that is not there

GET /_test/state answers {"paths", "dangling", "uploads", "open", "lookups", "puts"}: `open` uploads were neither
completed nor aborted, `dangling` paths were completed before something that they refer to.
"""

import argparse
import base64
import ctypes
import hashlib
import json
import os
import re
import threading
import urllib.parse
import uuid

import own_cache
from own_cache import BASE_NAME, NIX32, Incomplete, Key, fingerprint, nix32, put_files

HASHES_MAX = 32768
PART_MIN = 5 << 20
FIELDS = {"cStoreHash": str, "cStoreSuffix": str, "cNarHash": str, "cNarSize": int, "cFileHash": str, "cFileSize": int,
          "cReferences": list, "cDeriver": str, "cSig": (str, type(None))}
ZSTD = ctypes.CDLL("libzstd.so.1")
ZSTD.ZSTD_decompress.restype = ctypes.c_size_t
ZSTD.ZSTD_decompress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]


def unzstd(data, size):
    out = ctypes.create_string_buffer(size + 1)
    n = ZSTD.ZSTD_decompress(out, size + 1, data, len(data))
    return out.raw[:n] if n <= size else None


class Refusal(Exception):
    def __init__(self, status, text, content_type="text/plain;charset=utf-8", headers=()):
        super().__init__(text)
        self.status, self.text, self.content_type = status, text, content_type
        self.headers = headers


class Upload:
    def __init__(self):
        self.nar_id, self.id = str(uuid.uuid4()), f"id/{uuid.uuid4().hex}+=&%"  # must be escaped in a query
        self.parts = {}  # number: (data, etag)
        self.asked = {}  # number: how often


class Cache:
    def __init__(self, args, name, key):
        self.name, self.token, self.store_dir, self.public = name, args.token, args.store_dir, args.public_key
        self.signature = args.signature
        self.root = args.root and os.path.join(args.root, name)
        self.key = key
        self.lock = threading.Lock()
        self.mode = "ok"
        self.uploads, self.urls = {}, {}  # nar id: Upload; secret: (upload, part, md5, expired)
        self.paths, self.dangling = {}, []
        self.n_uploads = self.n_lookups = self.n_puts = 0

    def assemble(self, upload, parts):
        """The file, if its parts are what the storage has, in order and of the sizes that it takes."""
        if not isinstance(parts, list) or not parts:
            raise Refusal(400, "parts are missing")
        numbers = [part.get("partNumber") for part in parts]
        if any(set(part) != {"partNumber", "eTag"} for part in parts) or numbers != list(range(1, len(parts) + 1)):
            raise Refusal(400, "InvalidPartOrder")
        for part in parts:
            if upload.parts.get(part["partNumber"], (None, None))[1] != part["eTag"]:
                raise Refusal(400, "InvalidPart")
        sizes = [len(upload.parts[number][0]) for number in numbers]
        if any(size < PART_MIN or size != sizes[0] for size in sizes[:-1]) or sizes[-1] > sizes[0]:
            raise Refusal(400, f"EntityTooSmall or unequal parts: {sizes}")
        return b"".join(upload.parts[number][0] for number in numbers)

    def check(self, info, file):
        def must(is_so, what):
            if not is_so:
                raise Refusal(400, f"narInfoCreate: {what}")

        must(isinstance(info, dict) and set(info) == set(FIELDS), "fields")
        for name, kind in FIELDS.items():
            must(isinstance(info[name], kind) and not isinstance(info[name], bool), f"type of {name}")
        base = f"{info['cStoreHash']}-{info['cStoreSuffix']}"
        must(re.fullmatch(BASE_NAME, base) is not None, "store path")
        must(info["cFileSize"] == len(file), "cFileSize")
        must(info["cFileHash"] == hashlib.sha256(file).hexdigest(), "cFileHash")
        nar = unzstd(file, info["cNarSize"])
        must(nar is not None and info["cNarSize"] == len(nar), "cNarSize")
        must(info["cNarHash"] == "sha256:" + nix32(hashlib.sha256(nar).digest()), "cNarHash")
        refs = info["cReferences"]
        must(refs == sorted(set(refs)) and all(re.fullmatch(BASE_NAME, ref) for ref in refs), "cReferences")
        deriver = info["cDeriver"]
        must(deriver == "unknown-deriver" or (re.fullmatch(BASE_NAME, deriver) and deriver.endswith(".drv")), "cDeriver")
        text = fingerprint(f"{self.store_dir}/{base}", info["cNarHash"], info["cNarSize"],
                           [f"{self.store_dir}/{ref}" for ref in refs])
        if self.public is None:
            must(info["cSig"] is None, "a signature of no key of this cache")
            return base, self.key.sign(text)
        must(info["cSig"] is not None and Key.verify(self.public, info["cSig"], text), "cSig")
        return base, f"{self.key.name}:{info['cSig']}"

    def complete(self, upload, question):
        if not isinstance(question, dict) or set(question) != {"parts", "narInfoCreate"}:
            raise Refusal(400, "fields")
        file, info = self.assemble(upload, question["parts"]), question["narInfoCreate"]
        base, sig = self.check(info, file)
        with self.lock:
            if any(ref != base and ref[:32] not in self.paths for ref in info["cReferences"]):
                self.dangling.append(base)
            self.paths[info["cStoreHash"]] = dict(info, file=file, base=base, sig=sig)
            del self.uploads[upload.nar_id]
        if self.root is not None and self.has_closure(info["cStoreHash"]):
            put_files(self.root, [(f"nar/{info['cFileHash']}.nar.zst", file),
                                  (f"{info['cStoreHash']}.narinfo", self.narinfo(info["cStoreHash"]).encode())])

    def has_closure(self, hash_part, seen=None):
        seen = set() if seen is None else seen
        if hash_part in seen:
            return True
        seen.add(hash_part)
        info = self.paths.get(hash_part)
        return info is not None and all(self.has_closure(ref[:32], seen) for ref in info["cReferences"])

    def narinfo(self, hash_part):
        info = self.paths.get(hash_part)
        if info is None or not self.has_closure(hash_part):
            return None
        return "\n".join([f"StorePath: {self.store_dir}/{info['base']}", f"URL: nar/{info['cFileHash']}.nar.zst",
                          "Compression: zstd", f"FileHash: sha256:{nix32(bytes.fromhex(info['cFileHash']))}",
                          f"FileSize: {info['cFileSize']}", f"NarHash: {info['cNarHash']}",
                          f"NarSize: {info['cNarSize']}", "References: " + " ".join(info["cReferences"]),
                          f"Sig: {info['sig']}"]) + "\n"


class Handler(own_cache.Handler):
    @property
    def cache(self):
        """The one that the path names, if there is one of that name."""
        server, found = self.server, re.match("/(?:api/v1/cache|storage)/([A-Za-z0-9-]+)", self.path)
        if found is None or server.args.root is None or found[1] == server.cache.name:
            return server.cache
        with server.lock:
            return server.others.setdefault(found[1], Cache(server.args, found[1], server.cache.key))

    def refuse(self, refusal):
        self.close_connection = True
        self.answer(refusal.status, refusal.text, refusal.content_type, headers=list(refusal.headers))

    def guarded(self, handler):
        try:
            handler()
        except Refusal as refusal:
            self.refuse(refusal)
        except (Incomplete, ConnectionError):
            self.close_connection = True

    def json_body(self, limit):
        body = self.body(limit)
        if body is None:
            raise Refusal(413, "Request body too large")
        if self.headers.get("Content-Type", "").split(";")[0] != "application/json":
            raise Refusal(415, "Unsupported Media Type")
        try:
            return json.loads(body)
        except ValueError:
            raise Refusal(400, "Error in $: not enough input") from None

    def empty_body(self):
        if self.body(0) is None:
            raise Refusal(400, "expected no body")

    def do_GET(self):
        self.guarded(self.get)

    do_HEAD = do_GET

    def get(self):
        cache, path = self.cache, self.path
        if path == "/_test/state":
            with cache.lock:
                state = {"paths": sorted(info["base"] for info in cache.paths.values()), "dangling": cache.dangling,
                         "uploads": cache.n_uploads, "open": len(cache.uploads), "lookups": cache.n_lookups,
                         "puts": cache.n_puts}
            self.answer(200, json.dumps(state))
        elif path == f"/api/v1/cache/{cache.name}":
            self.api("read")
            permission = "Write" if self.headers.get("Authorization") == f"Bearer {cache.token}" else "Read"
            self.answer(200, json.dumps({
                "name": cache.name, "uri": f"http://127.0.0.1:{self.server.server_address[1]}/cache" if cache.mode == "here"
                else f"https://{cache.name}.cachix.org", "isPublic": True,
                "publicSigningKeys": [cache.key.public], "githubUsername": "team", "permission": permission,
                "preferredCompressionMethod": "ZSTD"}))
        elif path.startswith("/cache/"):
            self.serve(path[len("/cache/"):])
        else:
            self.api("read")
            raise Refusal(404, "Not found")

    def serve(self, name):
        cache = self.cache
        narinfo = cache.narinfo(name[:32]) if name.endswith(".narinfo") else None
        file = next((info["file"] for info in cache.paths.values() if name == f"nar/{info['cFileHash']}.nar.zst"), None)
        if name == "nix-cache-info":
            self.answer(200, f"StoreDir: {cache.store_dir}\nWantMassQuery: 1\nPriority: 41\n", "text/x-nix-cache-info")
        elif narinfo is not None:
            self.answer(200, narinfo, "text/x-nix-narinfo")
        elif file is not None:
            self.answer(200, file, "application/x-nix-nar")
        else:
            raise Refusal(404, "404")

    def api(self, right):
        """May this request be? Also answers as the mode says."""
        cache, token = self.cache, self.headers.get("Authorization", "")
        where = urllib.parse.urlsplit(self.path).path
        unknown = Refusal(401, f"Binary cache {cache.name} doesn't exist or you're not authorized to access it. ({token})")
        if cache.mode == "problem":
            raise Refusal(503, json.dumps({"title": "Service unavailable", "status": 503, "detail": "Origin is down",
                                           "retryable": True, "retry_after": 1}), "application/problem+json")
        if cache.mode == "html":
            raise Refusal(200, "<html>Welcome to the hotel</html>", "text/html")
        if cache.mode == "plain-401" or (where != f"/api/v1/cache/{cache.name}" and
                                         not where.startswith(f"/api/v1/cache/{cache.name}/")):
            raise unknown
        if right == "read" and token == "" and cache.mode == "here":
            return
        if token not in (f"Bearer {cache.token}", f"Bearer {cache.token}-ro"):
            raise unknown
        if right == "write" and token != f"Bearer {cache.token}":
            raise Refusal(403, "You're not allowed to write to this cache.")

    def do_POST(self):
        self.guarded(self.post)

    def post(self):
        cache = self.cache
        if self.path == "/_test/mode":
            cache.mode = self.body(100).decode().strip()
            self.answer(200, "{}")
            return
        self.api("write")
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query, keep_blank_values=True, strict_parsing=url.query != "")
        tail = url.path[len(f"/api/v1/cache/{cache.name}/"):].split("/")
        if tail == ["narinfo"]:
            self.missing()
        elif tail == ["multipart-nar"]:
            self.start(query)
        elif tail[0] == "multipart-nar" and len(tail) in (2, 3):
            self.of_upload(cache.uploads.get(tail[1]), tail[2] if len(tail) == 3 else "", query)
        else:
            raise Refusal(404, "Not found")

    def missing(self):
        cache, hashes = self.cache, self.json_body(2 << 20)
        if not isinstance(hashes, list) or not all(
                isinstance(text, str) and re.fullmatch(f"[{NIX32}]{{32}}", text) for text in hashes):
            raise Refusal(400, "Error in $: expected hashes")
        if len(hashes) > HASHES_MAX:
            raise Refusal(413, "Too many hashes")
        with cache.lock:
            cache.n_lookups += 1
            missing = [text for text in hashes if text not in cache.paths or hashes.count(text) > 1]
        self.answer(200, json.dumps(missing))

    def start(self, query):
        self.empty_body()
        if query != {"compression": ["zst"]}:
            raise Refusal(400, f"query: {query}")
        upload, cache = Upload(), self.cache
        with cache.lock:
            cache.uploads[upload.nar_id] = upload
            cache.n_uploads += 1
        if cache.mode == "bad-start":
            del cache.uploads[upload.nar_id]
            self.answer(200, "{}")
            return
        self.answer(200, json.dumps({"narId": upload.nar_id, "uploadId": upload.id}))

    def of_upload(self, upload, what, query):
        cache = self.cache
        if upload is None or query.get("uploadId") != [upload.id]:
            raise Refusal(404, "NoSuchUpload")
        if what == "complete" and set(query) == {"uploadId"}:
            question = self.json_body(16 << 20)
            if cache.mode == "refuse":
                raise Refusal(400, "The narinfo is not to the server's liking")
            cache.complete(upload, question)
            self.answer(200, "[]")
        elif what == "abort" and set(query) == {"uploadId"}:
            self.empty_body()
            with cache.lock:
                del cache.uploads[upload.nar_id]
            self.answer(200, "[]")
        elif what == "" and set(query) == {"uploadId", "partNumber"}:
            self.part_url(upload, int(query["partNumber"][0]), self.json_body(1000))
        else:
            raise Refusal(404, "Not found")

    def part_url(self, upload, number, question):
        cache, secret = self.cache, self.cache.signature + uuid.uuid4().hex
        if set(question) != {"contentMD5"} or len(base64.b64decode(question["contentMD5"], validate=True)) != 16:
            raise Refusal(400, "contentMD5")
        if not 1 <= number <= 10000:
            raise Refusal(400, "partNumber")
        with cache.lock:
            upload.asked[number] = upload.asked.get(number, 0) + 1
            is_first = upload.asked[number] == 1
            cache.urls[secret] = (upload, number, question["contentMD5"], cache.mode if is_first else "ok")
        here = f"http://127.0.0.1:{self.server.server_address[1]}"
        if cache.mode == "bad-url":
            here = "ftp://127.0.0.1"
        self.answer(200, json.dumps({"uploadUrl": f"{here}/storage/{cache.name}/{upload.nar_id}?X-Amz-Signature={secret}"}))

    def do_PUT(self):
        self.guarded(self.put)

    def put(self):
        """The storage: what a signed URL allows, and no more."""
        cache, url = self.cache, urllib.parse.urlsplit(self.path)
        secret = urllib.parse.parse_qs(url.query).get("X-Amz-Signature", [""])[0]
        upload, number, md5, mode = cache.urls.get(secret, (None, None, None, None))
        denied = "<Error><Code>AccessDenied</Code><Message>%s</Message></Error>"
        with cache.lock:
            cache.n_puts += 1
        if upload is None or url.path != f"/storage/{cache.name}/{upload.nar_id}" or "Authorization" in self.headers:
            raise Refusal(403, denied % "Access Denied", "application/xml")
        if mode == "repeat":
            raise Refusal(307, f"{secret}: not known: {self.path}", headers=[("Location", f"http://127.0.0.1:1/{secret}")])
        if mode == "expire":
            raise Refusal(403, denied % "Request has expired", "application/xml")
        if self.headers.get("Content-MD5") != md5 or self.headers.get("Content-Type") != "application/octet-stream":
            raise Refusal(403, denied % "SignatureDoesNotMatch", "application/xml")
        if "Content-Length" not in self.headers:
            raise Refusal(411, "<Error><Code>MissingContentLength</Code></Error>", "application/xml")
        if mode == "lose-part":
            self.rfile.read(1000)
            raise Incomplete
        data = self.body(5 << 30)
        if mode == "slow-part":
            raise Refusal(400, "<Error><Code>RequestTimeout</Code></Error>", "application/xml")
        if cache.mode == "bad-part":
            raise Refusal(400, "<Error><Code>BadDigest</Code></Error>", "application/xml")
        if base64.b64encode(hashlib.md5(data).digest()).decode() != md5:
            raise Refusal(400, "<Error><Code>BadDigest</Code></Error>", "application/xml")
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        with cache.lock:
            upload.parts[number] = (data, etag)
        self.answer(200, "", headers=[("ETag", etag)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--token", default="open-sesame")
    parser.add_argument("--cache", default="team")
    parser.add_argument("--store-dir", default="/nix/store")
    parser.add_argument("--public-key")
    parser.add_argument("--signature", default="")
    parser.add_argument("--log")
    parser.add_argument("--root")
    args = parser.parse_args()
    server = own_cache.Server(("127.0.0.1", 0), Handler)
    server.args = args
    server.cache, server.others = Cache(args, args.cache, Key(f"{args.cache}.cachix.org-1")), {}
    server.lock = threading.Lock()
    server.log = open(args.log, "w", encoding="utf-8") if args.log else None
    print(server.server_address[1], server.cache.key.public, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
