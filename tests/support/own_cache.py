"""What servers of tests/support share; most of it is of caches that sign by themselves."""

import base64
import json
import os
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NIX32 = "0123456789abcdfghijklmnpqrsvwxyz"
BASE_NAME = f"[{NIX32}]{{32}}-[0-9a-zA-Z+\\-._?=]+"


def nix32(data):
    out = []
    for n in reversed(range((len(data) * 8 - 1) // 5 + 1)):
        b = n * 5
        i, j = divmod(b, 8)
        c = (data[i] >> j) | ((data[i + 1] << (8 - j)) if i + 1 < len(data) else 0)
        out.append(NIX32[c & 0x1F])
    return "".join(out)


class Key:
    """The cache's own key; openssl signs with it."""

    def __init__(self, name):
        self.name = name
        self.dir = tempfile.TemporaryDirectory()
        self.file = os.path.join(self.dir.name, "key.pem")
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", self.file], check=True)
        der = subprocess.run(["openssl", "pkey", "-in", self.file, "-pubout", "-outform", "DER"], check=True,
                             stdout=subprocess.PIPE).stdout
        self.public = f"{name}:{base64.b64encode(der[-32:]).decode()}"
        self.signed = {}

    def sign(self, text):
        if text not in self.signed:
            self.signed[text] = self.sign_new(text)
        return self.signed[text]

    def sign_new(self, text):
        with tempfile.NamedTemporaryFile(dir=self.dir.name) as message:
            message.write(text.encode())
            message.flush()
            sig = subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", self.file, "-in", message.name],
                                 check=True, stdout=subprocess.PIPE).stdout
        return f"{self.name}:{base64.b64encode(sig).decode()}"

    @staticmethod
    def verify(public, sig, text):
        """Is SIG (base64) a signature of TEXT by PUBLIC (base64)?"""
        with tempfile.TemporaryDirectory() as scratch:
            for name, data in (("key", bytes.fromhex("302a300506032b6570032100") + base64.b64decode(public)),
                               ("sig", base64.b64decode(sig)), ("text", text.encode())):
                with open(os.path.join(scratch, name), "wb") as file:
                    file.write(data)
            return subprocess.run(["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER", "-inkey",
                                   "key", "-sigfile", "sig", "-in", "text"], cwd=scratch, check=False,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def fingerprint(path, nar_hash, nar_size, references):
    """What a narinfo's signature is of; references are whole paths."""
    return ";".join(["1", path, nar_hash, str(nar_size), ",".join(references)])


def put_file(path, data):
    """Whole, or not at all: whoever looks meanwhile sees nothing, or what was there before."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temp = f"{path}.{threading.get_ident()}.tmp"
    with open(temp, "wb") as file:
        file.write(data)
    os.rename(temp, path)


def put_files(root, files):
    """Puts FILES, pairs of a name and what it holds, below ROOT: the last one when all others are there."""
    for name, data in files:
        put_file(os.path.join(root, name), data)


class Incomplete(Exception):
    """The client went away in the middle of its body."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class Handler(BaseHTTPRequestHandler):
    """Answers, a log of requests as JSON lines, and bodies of either framing."""
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def note(self, status):
        if self.server.log is not None:
            line = json.dumps({"method": self.command, "path": self.path, "status": status,
                               "authorization": self.headers.get("Authorization", "") != ""})
            with self.server.lock:
                self.server.log.write(line + "\n")
                self.server.log.flush()

    def answer(self, status, body, content_type="application/json", headers=()):
        data = body.encode() if isinstance(body, str) else body
        self.note(status)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def chunks(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while True:
                n = int(self.rfile.readline().split(b";")[0] or b"0", 16)
                yield from self.exactly(n)
                self.rfile.readline()
                if n == 0:
                    return
        yield from self.exactly(int(self.headers.get("Content-Length", "0")))

    def exactly(self, left):
        while left > 0:
            try:
                data = self.rfile.read(min(left, 1 << 16))
            except ConnectionError:
                data = b""
            if not data:
                raise Incomplete
            left -= len(data)
            yield data

    def body(self, limit):
        data = bytearray()
        for chunk in self.chunks():
            data += chunk
            if len(data) > limit:
                return None
        return bytes(data)
