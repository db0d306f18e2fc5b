"""Binary caches that fail as told, byte by byte; for fault_matrix.py, which runs them in a thread of its own.

One server is many caches: the first segment of a request's path names the cache, the rest the object. Objects are
held in memory, for each cache by itself. Without a fault a cache is a plain one that honours `If-None-Match: *`.

A fault is a coroutine that gets the Exchange: it reads of the request, and writes of an answer, what it likes. When
it returns, the connection is closed, unless it returns KEEP. It strikes the operations named for it, of all objects
or of those of some keys only, until the cache is healed.

Each cache counts its requests, and looks at what is put there: `wrong` says what must never be, whatever the fault.
"""
import asyncio
import collections
import email.utils
import hashlib
import re
import threading
import time

from check_cache import nixbase32

KEEP = "keep"
ASK_CACHE_INFO, ASK_INFO, ASK_NAR = "GET nix-cache-info", "GET narinfo", "HEAD nar"
PUT_CACHE_INFO, PUT_INFO, PUT_NAR = "PUT nix-cache-info", "PUT narinfo", "PUT nar"
PUTS = {PUT_CACHE_INFO, PUT_INFO, PUT_NAR}
ALL = PUTS | {ASK_CACHE_INFO, ASK_INFO, ASK_NAR, "GET nar"}
BODY_MAX = 64 << 20


class Cut(Exception):
    """The client went away in the middle of its request."""


class Cache:
    def __init__(self, name, fault=None, strikes=ALL, keys=None):
        self.name, self.fault, self.strikes, self.keys = name, fault, strikes, keys
        self.is_healed = False
        self.objects = {}
        self.promised = set()  # keys that a lie said were taken
        self.told = set()  # keys that the client was told are there
        self.requests = collections.Counter()  # by (operation, key)
        self.asked_unix_s = {}  # when last, by key
        self.lasted_s = []  # from the request to the client's hang-up, where the fault waited for that
        self.headers = []  # of each request
        self.wrong = []

    def note(self, exchange):
        self.requests[exchange.operation, exchange.key] += 1
        self.asked_unix_s[exchange.key] = time.time()
        self.headers.append(exchange.headers)

    def is_struck(self, exchange):
        return (self.fault is not None and not self.is_healed and exchange.operation in self.strikes
                and (self.keys is None or exchange.key in self.keys))

    def has(self, narinfo_key):
        """The narinfo, and the NAR it names."""
        text = self.objects.get(narinfo_key, b"").decode()
        nar = re.search(r"^URL: (.*)$", text, re.M)
        return nar is not None and nar.group(1) in self.objects

    def put(self, key, body):
        if self.objects.setdefault(key, body) != body:
            self.wrong.append("%s is overwritten with something else (I7)" % key)
            self.objects[key] = body

    def look_at_info(self, key, body):
        """A narinfo is about to become visible: is there what it names (I7), and what it refers to (I2)?"""
        info = parse_info(body)
        nar = self.objects.get(info["URL"])
        if nar is None and info["URL"] not in self.promised:
            self.wrong.append("%s names %s, which is not there (I2)" % (key, info["URL"]))
        if nar is not None:
            # What was found there was not read; of that only the size is known.
            hashes = {sha256(nar), None} if info["URL"] in self.told else {sha256(nar)}
            if info.get("FileSize") != str(len(nar)) or info.get("FileHash") not in hashes:
                self.wrong.append("%s says another size or hash than %s has (I7)" % (key, info["URL"]))
        for reference in info["References"].split():
            other = reference[:32] + ".narinfo"
            if other != key and other not in self.objects and other not in self.promised:
                self.wrong.append("%s refers to %s, which is not there (I2)" % (key, reference))


def parse_info(body):
    return dict(line.split(": ", 1) for line in body.decode().splitlines())


def sha256(data):
    return "sha256:" + nixbase32(hashlib.sha256(data).digest())


class Exchange:
    def __init__(self, reader, writer, method, cache, key, headers):
        self.reader, self.writer = reader, writer
        self.method, self.cache, self.key, self.headers = method, cache, key, headers
        kind = "nix-cache-info" if key == "nix-cache-info" else "narinfo" if key.endswith(".narinfo") else "nar"
        self.operation = method + " " + kind
        self.began_mono_s = time.monotonic()

    async def write(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def read_body(self):
        body = await self.read_whole_body()
        if self.operation == PUT_INFO:
            self.cache.look_at_info(self.key, body)
        return body

    async def read_whole_body(self):
        if self.headers.get("expect", "").lower() == "100-continue":
            await self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return await self.reader.readexactly(min(int(self.headers.get("content-length", "0")), BODY_MAX))
        body = bytearray()
        while True:
            size = int(await self.reader.readline(), 16)
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
            if size == 0:
                return bytes(body)

    async def answer(self, status, body=b"", headers=(), length=None):
        lines = ["HTTP/1.1 %d Whatever" % status, *headers]
        if status != 204:
            lines.append("Content-Length: %d" % (len(body) if length is None else length))
        head = "\r\n".join(lines) + "\r\n\r\n"
        await self.write(head.encode() + (b"" if self.method == "HEAD" or status == 204 else body))
        return KEEP

    async def serve(self):
        """What a cache without a fault does."""
        body, objects = await self.read_body(), self.cache.objects
        if self.method in ("GET", "HEAD"):
            if self.key in objects:
                self.cache.told.add(self.key)
                return await self.answer(200, objects[self.key])
            return await self.answer(404, b"no such object\n")
        if self.headers.get("if-none-match") == "*" and self.key in objects:
            return await self.answer(412)
        self.cache.put(self.key, body)
        return await self.answer(201)

    async def await_hang_up(self):
        """Until the client gives up, or the cache is healed."""
        ports = (self.writer.get_extra_info(name)[1] for name in ("peername", "sockname"))
        line = " 0100007F:%04X 0100007F:%04X 01 " % tuple(ports)  # its end of the connection, which is still open
        while not self.cache.is_healed:
            await asyncio.sleep(0.2)
            with open("/proc/net/tcp") as f:  # what it sent and nobody read would hide its end from us
                if line not in f.read():
                    self.cache.lasted_s.append(time.monotonic() - self.began_mono_s)
                    return

    async def await_hang_up_while(self, coroutine):
        task = asyncio.ensure_future(coroutine)
        await self.await_hang_up()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def reset(self):
        """The peer gets a reset, not an end."""
        self.writer.transport.abort()


class FaultServer:
    def __init__(self):
        self.caches = {}
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def call(self, function):
        self.loop.call_soon_threadsafe(function)

    def listen(self, connected=None, **where):
        """Returns asyncio's server. With CONNECTED, connections go there before anything is read of them."""
        async def on_connection(reader, writer):
            try:
                await (connected or self.serve)(reader, writer)
            except (Cut, OSError, ValueError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        if "sock" not in where:
            where = {"host": "127.0.0.1", "port": 0, **where}
        return self.run(asyncio.start_server(on_connection, backlog=256, **where))

    async def serve(self, reader, writer):
        while await self.serve_one(reader, writer) == KEEP:
            pass

    async def serve_one(self, reader, writer):
        line = await reader.readline()
        if not line:
            return None
        if not line.endswith(b" HTTP/1.1\r\n"):
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            return None
        method, target, _ = line.decode().split(" ")
        headers = {}
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        name, _, key = target.lstrip("/").partition("/")
        cache = self.caches[name]
        exchange = Exchange(reader, writer, method, cache, key, headers)
        cache.note(exchange)
        return await (cache.fault(exchange) if cache.is_struck(exchange) else exchange.serve())


# ---- faults ----


def status(code, *headers, body=b"not today\nsecond line\n"):
    async def fault(exchange):
        await exchange.read_body()
        return await exchange.answer(code, body, headers)
    return fault


def not_before_date(code, delay_s):
    """Says the date from when on it may be asked again."""
    async def fault(exchange):
        date = email.utils.formatdate(int(time.time()) + delay_s, usegmt=True)
        return await status(code, "Retry-After: " + date)(exchange)
    return fault


def stored(code):
    """Takes it, and says so in its own way."""
    async def fault(exchange):
        exchange.cache.put(exchange.key, await exchange.read_body())
        return await exchange.answer(code)
    return fault


async def refuse_early(exchange):
    """Says no to a large body before it has come, and listens no longer."""
    await exchange.answer(413, b"too much\n", ["Connection: close"])


async def reset_before_answer(exchange):
    await exchange.read_body()
    exchange.reset()


async def reset_in_body(exchange):
    await exchange.reader.read(1000)
    exchange.reset()


async def close_before_answer(exchange):
    await exchange.read_body()


async def half_an_answer(exchange):
    await exchange.read_body()
    await exchange.answer(200, b"StorePath: /ni", length=1000)


async def half_a_header(exchange):
    await exchange.read_body()
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Le")


async def stalled_read(exchange):
    """Takes the head of the request, and nothing of its body."""
    await exchange.await_hang_up()


async def stall(exchange):
    await exchange.read_body()
    await exchange.await_hang_up()


async def late(exchange):
    """Does what was asked, and does not say so while anybody listens; what it has, it refuses at once."""
    if exchange.key in exchange.cache.objects:
        return await exchange.serve()
    exchange.cache.put(exchange.key, await exchange.read_body())
    await exchange.await_hang_up()
    return None


async def one_byte_a_second(exchange):
    await exchange.read_body()

    async def drip():
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n" + b"x" * 4000:
            await exchange.write(bytes([byte]))
            await asyncio.sleep(1)
    await exchange.await_hang_up_while(drip())


async def slow_read(exchange):
    """Takes a byte of the body each second."""
    async def sip():
        while await exchange.reader.read(1):
            await asyncio.sleep(1)
    await exchange.await_hang_up_while(sip())


def raw(data):
    """DATA instead of HTTP."""
    async def fault(exchange):
        await exchange.read_body()
        await exchange.write(data)
    return fault


def endless(head, piece):
    """HEAD, then PIECE for as long as anybody reads."""
    async def fault(exchange):
        await exchange.read_body()
        await exchange.write(head)
        while True:
            await exchange.write(piece)
    return fault


def passing(n_requests, fault):
    """A fault that is over after N_REQUESTS."""
    async def wrapped(exchange):
        exchange.cache.is_healed = exchange.cache.requests.total() >= n_requests
        return await fault(exchange)
    return wrapped


async def lie(exchange):
    """Thanks for everything, and keeps nothing."""
    await exchange.read_body()
    exchange.cache.promised.add(exchange.key)
    return await exchange.answer(201)
