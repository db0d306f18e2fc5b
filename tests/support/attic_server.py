#!/usr/bin/env python3
"""An Attic server for tests: as strict as the real one is described to be, and stricter where a cache would
come out wrong. It keeps what it is sent in memory, and serves it as a binary cache that it signs itself.

    attic_server.py [--token TOKEN] [--cache NAME] [--store-dir DIR] [--upstream-key NAME]... [--log FILE]
        [--root DIR]

Prints "PORT PUBLIC-KEY\\n" once it listens. `Authorization: Bearer TOKEN` may pull and push; `Bearer TOKEN-ro`
may only pull. The cache is readable without one, as a public cache is. It says that what cache.nixos.org-1 and
each --upstream-key signed need not be sent, and takes it if it is. With --root there is a cache of each name that
is asked for, and what it takes is also put below DIR/NAME, as files of a binary cache.

POST /_test/mode with one of these words changes how it behaves from then on:

  ok       the normal way
  503      every API call answers 503, with a JSON error
  413      uploads answer 413, as a proxy with a limit does, in plain text
  elsewhere cache-config names another host as api_endpoint
  nearly   cache-config names another port there, which begins as ours does
  foreign  cache-config names another store
  private  nothing is read without a token, which Nix has in its netrc file
  short    cache-config says that paths are kept for an hour
  html     every API call answers 200 and a page of HTML
  repeat   every API call answers 200 and the token that it was shown

GET /_test/state answers {"paths": [...], "dangling": [...], "incomplete": N, "lookups": N, "uploads": N}: dangling
are paths that came before something that they refer to.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import threading

import own_cache
from own_cache import BASE_NAME, NIX32, Incomplete, Key, fingerprint, nix32, put_files

PREAMBLE_MAX = 1 << 20
FIELDS = {"cache": str, "store_path_hash": str, "store_path": str, "references": list, "system": (str, type(None)),
          "deriver": (str, type(None)), "sigs": list, "ca": (str, type(None)), "nar_hash": str, "nar_size": int}


class Refusal(Exception):
    """What the real server answers: status, name of the error, message."""

    def __init__(self, status, name, message):
        super().__init__(message)
        self.status, self.name, self.message = status, name, message


class Cache:
    def __init__(self, args, name, key):
        self.name, self.token, self.store_dir = name, args.token, args.store_dir
        self.upstream_keys = args.upstream_key
        self.root = args.root and os.path.join(args.root, name)
        self.key = key
        self.lock = threading.Lock()
        self.mode = "ok"
        self.paths = {}  # hash part: info with "nar"
        self.dangling, self.incomplete, self.n_lookups, self.n_uploads = [], 0, 0, 0

    def check_info(self, info):
        """What the real server refuses, and what would make a narinfo that no reader takes."""
        def must(is_so, what):
            if not is_so:
                raise Refusal(400, "RequestError", f"Invalid NAR info: {what}")

        must(set(info) == set(FIELDS), f"fields {sorted(info)}")
        for name, kind in FIELDS.items():
            must(isinstance(info[name], kind) and not isinstance(info[name], bool), f"type of {name}")
        base = os.path.basename(info["store_path"])
        must(os.path.dirname(info["store_path"]) == self.store_dir, "store_path is not in the store")
        must(re.fullmatch(BASE_NAME, base) is not None, "store_path")
        must(info["store_path_hash"] == base[:32], "store_path_hash is not that of store_path")
        must(re.fullmatch("sha256:[0-9a-f]{64}", info["nar_hash"]) is not None, "nar_hash")
        must(info["nar_size"] > 0, "nar_size")
        refs = info["references"]
        must(all(re.fullmatch(BASE_NAME, ref) for ref in refs), "references")
        must(refs == sorted(set(refs)), "references are not sorted")
        must(all(re.fullmatch("[^: ]+:[A-Za-z0-9+/]{86}==", sig) for sig in info["sigs"]), "sigs")

    def add(self, info, nar):
        base = os.path.basename(info["store_path"])
        with self.lock:
            self.n_uploads += 1
            if any(ref != base and ref[:32] not in self.paths for ref in info["references"]):
                self.dangling.append(info["store_path"])
            is_new = all(nar is not other["nar"] and info["nar_hash"] != other["nar_hash"]
                         for other in self.paths.values())
            self.paths[info["store_path_hash"]] = dict(info, nar=nar)
        if self.root is not None:
            hash_part = info["store_path_hash"]
            put_files(self.root, [(f"nar/{hash_part}.nar", nar),
                                  (f"{hash_part}.narinfo", self.narinfo(hash_part).encode())])
        return "Uploaded" if is_new else "Deduplicated"

    def narinfo(self, hash_part):
        info = self.paths.get(hash_part)
        if info is None:
            return None
        nar_hash = "sha256:" + nix32(bytes.fromhex(info["nar_hash"][7:]))
        refs = info["references"]
        text = fingerprint(info["store_path"], nar_hash, info["nar_size"], [f"{self.store_dir}/{ref}" for ref in refs])
        lines = [f"StorePath: {info['store_path']}", f"URL: nar/{hash_part}.nar", "Compression: none",
                 f"FileHash: {nar_hash}", f"FileSize: {info['nar_size']}", f"NarHash: {nar_hash}",
                 f"NarSize: {info['nar_size']}", "References: " + " ".join(refs), f"Sig: {self.key.sign(text)}"]
        if info["ca"] is not None:
            lines.append(f"CA: {info['ca']}")
        return "\n".join(lines) + "\n"


class Handler(own_cache.Handler):
    def refuse(self, refusal):
        self.close_connection = True  # a body may be left unread
        self.answer(refusal.status, json.dumps({"code": refusal.status, "error": refusal.name,
                                                "message": refusal.message}))

    # ---- the API ----

    def permit(self, right):
        cache, header = self.server.cache, self.headers.get("Authorization", "")
        scheme, _, token = header.partition(" ")
        if right == "pull" and header == "" and cache.mode != "private":
            return
        if scheme.lower() == "basic":
            scheme, token = "bearer", base64.b64decode(token).decode().partition(":")[2]
        if scheme.lower() != "bearer" or token not in (cache.token, f"{cache.token}-ro"):
            raise Refusal(401, "Unauthorized", f"Unauthorized: {header}.")
        if right == "push" and token != cache.token:
            raise Refusal(403, "AccessError", "User does not have permission to complete this action.")

    def cache_of(self, name):
        server = self.server
        if name == server.cache.name:
            return server.cache
        if server.args.root is None or not re.fullmatch("[A-Za-z0-9-]+", str(name)):
            raise Refusal(404, "NoSuchCache", "The requested cache does not exist.")
        with server.lock:
            return server.others.setdefault(name, Cache(server.args, name, server.cache.key))

    def api_get(self, path):
        if not path.startswith("cache-config/"):
            raise Refusal(404, "NotFound", "Not found.")
        self.permit("pull")
        cache = self.cache_of(path[len("cache-config/"):])
        here = f"http://127.0.0.1:{self.server.server_address[1]}/"
        self.answer(200, json.dumps({
            "substituter_endpoint": f"{here}{cache.name}",
            "api_endpoint": {"elsewhere": "http://elsewhere.example/", "nearly": here[:-1] + "0/"}.get(cache.mode, here),
            "public_key": cache.key.public, "is_public": cache.mode != "private", "priority": 41,
            "store_dir": "/foreign/store" if cache.mode == "foreign" else cache.store_dir,
            "upstream_cache_key_names": cache.upstream_keys, "retention_period": {"Period": 3600} if cache.mode == "short" else "Global"}))

    def api_missing(self):
        body = self.body(2 << 20)
        if body is None:
            raise Refusal(413, "RequestError", "Body too large")
        try:
            question = json.loads(body)
        except ValueError:
            self.answer(400, "Failed to parse the request body as JSON", "text/plain")
            return
        if self.headers.get("Content-Type") != "application/json":
            self.answer(415, "Expected request with `Content-Type: application/json`", "text/plain")
            return
        cache = self.cache_of(question["cache"])
        self.permit("push")
        hashes = question["store_path_hashes"]
        if set(question) != {"cache", "store_path_hashes"} or len(set(hashes)) != len(hashes) or not all(
                re.fullmatch(f"[{NIX32}]{{32}}", text) for text in hashes):
            self.answer(422, "Failed to deserialize the JSON body into the target type", "text/plain")
            return
        with cache.lock:
            cache.n_lookups += 1
            missing = [text for text in hashes if text not in cache.paths]
        self.answer(200, json.dumps({"missing_paths": missing}))

    def api_upload(self):
        self.permit("push")
        size, chunks, data = self.headers.get("X-Attic-Nar-Info-Preamble-Size"), self.chunks(), bytearray()
        if "X-Attic-Nar-Info" in self.headers:
            info, size = json.loads(self.headers["X-Attic-Nar-Info"]), 0
        elif size is None:
            raise Refusal(400, "RequestError", "X-Attic-Nar-Info must be set")
        elif int(size) > PREAMBLE_MAX:
            raise Refusal(400, "RequestError", "Upload info preamble is too large.")
        for chunk in chunks:
            data += chunk
            if len(data) >= int(size):
                break
        if int(size) > 0:
            try:
                info = json.loads(data[:int(size)])
            except ValueError:
                raise Refusal(400, "RequestError", "Invalid preamble") from None
        cache = self.cache_of(info.get("cache"))
        cache.check_info(info)
        nar, digest = bytearray(data[int(size):]), hashlib.sha256()
        for chunk in chunks:
            nar += chunk
            if len(nar) > info["nar_size"]:
                break
        if len(nar) < info["nar_size"]:
            raise Incomplete
        if len(nar) > info["nar_size"]:
            raise Refusal(400, "RequestError", "More than nar_size bytes")
        digest.update(nar)
        if "sha256:" + digest.hexdigest() != info["nar_hash"]:
            raise Refusal(400, "RequestError", "Bad NAR hash")
        kind = cache.add(info, bytes(nar))
        self.answer(200, json.dumps({"kind": kind, "file_size": len(nar), "frac_deduplicated": None}))

    def in_mode(self):
        """Does the mode answer instead?"""
        mode = self.server.cache.mode
        if mode == "503":
            raise Refusal(503, "InternalServerError", "The server encountered an internal error.")
        if mode == "html":
            self.close_connection = True
            self.answer(200, "<html>Welcome to the hotel</html>", "text/html")
        elif mode == "repeat":
            self.close_connection = True
            self.answer(200, self.headers.get("Authorization", "").split()[-1], "text/plain")
        elif mode == "413" and self.command == "PUT":
            self.close_connection = True
            self.answer(413, "Request Entity Too Large", "text/plain")
        else:
            return False
        return True

    def handle_api(self, handler):
        try:
            if not self.in_mode():
                handler()
        except Refusal as refusal:
            self.refuse(refusal)
        except Incomplete:
            with self.server.cache.lock:
                self.server.cache.incomplete += 1
            self.close_connection = True

    def do_GET(self):
        cache = self.server.cache
        if self.path == "/_test/state":
            with cache.lock:
                state = {"paths": sorted(info["store_path"] for info in cache.paths.values()),
                         "dangling": cache.dangling, "incomplete": cache.incomplete, "lookups": cache.n_lookups,
                         "uploads": cache.n_uploads}
            self.answer(200, json.dumps(state))
        elif self.path.startswith("/_api/v1/"):
            self.handle_api(lambda: self.api_get(self.path[len("/_api/v1/"):]))
        else:
            try:
                self.serve(self.path)
            except Refusal as refusal:
                self.refuse(refusal)

    do_HEAD = do_GET

    def serve(self, path):
        self.permit("pull")
        cache, prefix = self.server.cache, f"/{self.server.cache.name}/"
        name = path[len(prefix):] if path.startswith(prefix) else ""
        nar = cache.paths.get(name[4:36]) if name.startswith("nar/") else None
        narinfo = cache.narinfo(name[:32]) if name.endswith(".narinfo") else None
        if name == "nix-cache-info":
            self.answer(200, f"StoreDir: {cache.store_dir}\nWantMassQuery: 1\nPriority: 41\n", "text/x-nix-cache-info")
        elif narinfo is not None:
            self.answer(200, narinfo, "text/x-nix-narinfo")
        elif nar is not None:
            self.answer(200, nar["nar"], "application/x-nix-nar")
        else:
            self.answer(404, json.dumps({"code": 404, "error": "NoSuchObject",
                                         "message": "The requested object does not exist."}))

    def do_POST(self):
        if self.path == "/_test/mode":
            self.server.cache.mode = self.body(100).decode().strip()
            self.answer(200, "{}")
        elif self.path == "/_api/v1/get-missing-paths":
            self.handle_api(self.api_missing)
        else:
            self.refuse(Refusal(404, "NotFound", "Not found."))

    def do_PUT(self):
        if self.path == "/_api/v1/upload-path":
            self.handle_api(self.api_upload)
        else:
            self.refuse(Refusal(404, "NotFound", "Not found."))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--token", default="open-sesame")
    parser.add_argument("--cache", default="team")
    parser.add_argument("--store-dir", default="/nix/store")
    parser.add_argument("--upstream-key", action="append", default=["cache.nixos.org-1"])
    parser.add_argument("--log")
    parser.add_argument("--root")
    args = parser.parse_args()
    server = own_cache.Server(("127.0.0.1", 0), Handler)
    server.args = args
    server.cache, server.others = Cache(args, args.cache, Key(f"{args.cache}-1")), {}
    server.lock = server.cache.lock
    server.log = open(args.log, "w", encoding="utf-8") if args.log else None
    print(server.server_address[1], server.cache.key.public, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
