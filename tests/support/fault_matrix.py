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
import subprocess
import sys
import time

from fault_ports import Port, make_certs
from fault_server import Cache, FaultServer, status
from fault_table import ANSWERS, AS_HTML, CONNECTIONS, DONE, HTML

STALL_TIMEOUT_S = 2
PATIENCE_S = 90          # until a state is reached, on a slow machine under a sanitizer
ATTEMPT_MAX_REQUESTS = 6  # cache info, narinfo, NAR asked for, sent, sent without condition, looked for; narinfo
MEMORY_MAX_KIB = 512 << 10


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
