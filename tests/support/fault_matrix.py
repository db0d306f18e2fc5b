#!/usr/bin/env python3
"""Every fault that a cache can have, at once, against one daemon: a cache for each row of a table.

    fault_matrix.py answers|connections BUILD SCRATCH STRUCK REFERRER OTHER...

BUILD is the build directory, SCRATCH a world as tests/support/scratch.bash makes it, the rest are store paths.

All paths are handed over once; REFERRER refers to STRUCK, and that to another one. Most faults strike the requests
for STRUCK only; those of a whole cache strike all. Then, row by row, fault_judge.py says whether it is as
fault_table.py demands: STRUCK's job is in this state, for this reason; it is tried again when it should be, with no
more requests than are explained; REFERRER waits for it; the OTHER paths came to the same cache, where the fault
leaves them a way. The cache that has no fault has everything. Once all rows are right, they still are a while later.

At last all caches are healed. What is soon tried again by itself must be done without anybody's help, the rest after
a `retry`: every path is on every cache, with its NAR, which is what Nix registered. At no time did a narinfo come
that named what was not there, and nothing was ever overwritten. How fast the machine is decides nothing.
"""
import collections
import functools
import json
import os
import re
import subprocess
import sys
import time

from fault_judge import Look, Seen
from fault_ports import Port, make_certs
from fault_server import Cache, FaultServer, parse_info, sha256, status
from fault_table import ANSWERS, AS_HTML, CONNECTIONS, HTML, STALL_TIMEOUT_S

PATIENCE_S = 90          # until a state is reached, on a slow machine under a sanitizer
ALONE_PATIENCE_S = 180   # what is near may meet the fault once more, and is then twice as far
SETTLE_S = 3             # what is right must still be right then
# `memory` and what the queue has make 76 MiB of the first (docs/limits.md), of which this load needs no half.
MEMORY_MAX_KIB, MEMORY_MAX_ASAN_KIB = 128 << 10, 512 << 10
ASAN_ADDRESSES_KIB = 1 << 30  # it reserves terabytes, and keeps what was freed for a while


class Keys:
    """What the objects of a store path are called on a cache, and what its NAR is."""

    def __init__(self, path):
        nar_hash = subprocess.run(["nix-store", "-q", "--hash", path], check=True, capture_output=True, text=True)
        self.nar_hash = nar_hash.stdout.strip()
        self.narinfo = os.path.basename(path)[:32] + ".narinfo"
        self.nar = "nar/%s.nar.zst" % self.nar_hash.split(":")[1]

    def names(self):
        return {self.narinfo, self.nar}


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
            caches[row.name] = Cache(row.name, row.fault, row.strikes, None if row.is_whole else keys.names())
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
            # A slow machine is no fault, where that is not what the row is about.
            lines.append("stall-timeout = %ds" % (STALL_TIMEOUT_S if row.is_silent else PATIENCE_S))
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

    def caches(self):
        """By name."""
        status_now = self.ctl("status", "--json") or sys.exit("the status could not be seen")
        return {cache["name"]: cache for cache in json.loads(status_now)["caches"]}

    def wait_until(self, what, is_so, patience_s=PATIENCE_S):
        end = time.monotonic() + patience_s
        while not is_so():
            if time.monotonic() > end:
                return False
            if self.daemon.poll() is not None:
                sys.exit("nncached ended with %d before %s" % (self.daemon.returncode, what))
            time.sleep(0.2)
        return True

    # ---- what is to be seen ----

    def take_looks(self):
        """At all rows, at one time."""
        seen = {row.name: Seen(self.server.caches[row.name], self.ports.get(row.name)) for row in self.table}
        jobs, caches, now = self.jobs(), self.caches(), time.time()
        names = {path: keys.names() for path, keys in self.keys.items()}
        return [Look(row, seen[row.name], jobs[row.name], caches[row.name], names, now) for row in self.table]

    def look(self):
        """Looks at each row that was not right yet. True once all are."""
        for look in self.take_looks():
            if look.row.problem is not None:
                self.note(look, look.problem() or ("is under way" if look.is_under_way() else None))
        return all(row.problem is None for row in self.table) and self.plain_has_all()

    def look_again(self):
        """Nothing that was right flaps, or goes on asking."""
        time.sleep(SETTLE_S)
        for look in self.take_looks():
            self.note(look, look.problem())
        return all(row.problem is None for row in self.table)

    def note(self, look, problem):
        row = look.row
        row.problem, row.job, row.n_requests = problem, look.job, look.seen.n_requests
        row.took_s = time.monotonic() - self.started

    def plain_has_all(self):
        jobs = self.jobs()
        return all(jobs["main"][path]["state"] == "done" and os.path.exists(
            "%s/cache/%s" % (self.scratch, self.keys[path].narinfo)) for path in self.paths)

    def report(self):
        for row in self.table:
            job = row.job or {"state": "?", "attempts": 0, "text": None}
            print("%-22s %-8s %2d attempts %3d requests %5.1f s  %s" % (
                row.name, job["state"], job["attempts"], row.n_requests, row.took_s,
                "NOT SO: " + row.problem if row.problem else job["text"] or ""))

    def check_bounds(self):
        with open("/proc/%d/status" % self.daemon.pid) as f:
            kib = {name: int(n) for name, n in re.findall(r"^(VmPeak|VmHWM):\s+(\d+)", f.read(), re.M)}
        print("peak of the daemon's memory: %d KiB" % kib["VmHWM"])
        if kib["VmHWM"] > (MEMORY_MAX_ASAN_KIB if kib["VmPeak"] > ASAN_ADDRESSES_KIB else MEMORY_MAX_KIB):
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

    def is_done(self, names):
        """Has each of these caches everything, as far as the daemon knows?"""
        jobs = self.jobs()
        return all(job["state"] == "done" for name in names for job in jobs[name].values())

    def retry_until_done(self):
        """What was under way when the faults ended may have met them once more."""
        self.ctl("retry", *self.paths)
        return self.is_done([row.name for row in self.table if not row.stays])

    def check_healing(self):
        """What is tried again by itself needs nobody; for the rest, somebody says `retry`."""
        near = [look.row.name for look in self.take_looks() if look.is_near()]
        healed = time.monotonic()
        self.heal()
        if not self.wait_until("those near are done", lambda: self.is_done(near), ALONE_PATIENCE_S) or not near:
            sys.exit("not done by themselves: %s" % [name for name in near if not self.is_done([name])])
        print("healed: %d caches are done by themselves after %.1f s" % (len(near), time.monotonic() - healed))
        if not self.wait_until("all is done", self.retry_until_done) or self.lacks():
            for name, path in self.lacks():
                print(name, self.jobs()[name][path])
            sys.exit("the faults are over, and not everything is on the caches")

    def check_contents(self):
        """Each NAR is what Nix registered, and its narinfo says so; nothing went wrong on the way there."""
        for cache in self.server.caches.values():
            for what in cache.wrong:
                sys.exit("%s: %s" % (cache.name, what))
            for keys in self.keys.values():
                if cache.has(keys.narinfo):
                    seen = nar_hash_of(cache.objects[keys.nar])
                    said = parse_info(cache.objects[keys.narinfo])["NarHash"]
                    if {said, seen} != {keys.nar_hash}:
                        sys.exit("%s: %s has %s, says %s" % (cache.name, keys.nar, seen, said))

    def run(self):
        self.start_daemon()
        self.started = time.monotonic()
        if self.ctl("push", "--no-wait", *self.paths) is None:
            sys.exit("the paths could not be handed over")
        is_right = self.wait_until("all rows are as the table says", self.look) and self.look_again()
        self.report()
        if not is_right:
            sys.exit("not all rows are as the table says")
        self.check_bounds()
        self.check_healing()
        self.check_contents()
        self.stop_daemon()


@functools.cache  # most caches have the same bytes
def nar_hash_of(packed):
    return sha256(subprocess.run(["zstd", "-dc"], input=packed, check=True, capture_output=True).stdout)


def main():
    table, build, scratch, *paths = sys.argv[1:]
    Matrix({"answers": ANSWERS, "connections": CONNECTIONS}[table], build, scratch, paths).run()


if __name__ == "__main__":
    main()
