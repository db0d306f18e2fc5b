"""Ports of their own, for the rows of fault_table.py whose fault comes before any HTTP."""
import os
import socket
import ssl
import subprocess
import time

BAD_CERTS = {"unknown-ca": ("other", "IP:127.0.0.1", 1), "wrong-name": ("ca", "DNS:elsewhere.example.org", 1),
             "expired": ("ca", "IP:127.0.0.1", -1)}


class Port:
    """Where a row has one of its own: bad at first, good once it is healed. It counts the connections that come, also
    those of which no request does; but nobody can count those to a port where nobody listens."""

    def __init__(self, server, kind, certs):
        self.server, self.kind, self.certs = server, kind, certs
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))  # refuses until it listens
        self.number = self.socket.getsockname()[1]
        self.listener = None
        self.n_connections, self.connected_unix_s, self.lasted_s = 0, 0, []
        self.is_tls = kind in ("mute", "plain", *BAD_CERTS)
        if kind == "reset":
            self.listen(self.reset)
        elif kind == "mute":
            self.listen(self.say_nothing)
        elif kind in ("own", "plain"):
            self.listen(self.serve)
        elif kind in BAD_CERTS:
            self.listen(ssl=self.context(kind))

    def context(self, name):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certs + "/%s.pem" % name)
        context.sni_callback = lambda *_: self.note()  # each hello, also if nothing comes of it
        return context

    def note(self):
        self.n_connections += 1
        self.connected_unix_s = time.time()

    async def serve(self, reader, writer):
        self.note()
        await self.server.serve(reader, writer)

    async def reset(self, _, writer):
        self.note()
        writer.transport.abort()

    async def say_nothing(self, reader, _):
        self.note()
        began = time.monotonic()
        while await reader.read(1000):
            pass
        self.lasted_s.append(time.monotonic() - began)

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
