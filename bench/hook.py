#!/usr/bin/env python3
"""What one call of the hook costs, beside what it cannot cost less than.

    bench/hook.py BUILD [--runs N] [--dir DIR]

BUILD is a build directory configured with -Dbench=enabled. DIR (a new directory below it is made, and
removed) decides which disk is synced; take one on the disk that /var/lib is on. Everything is measured
in turns within one run, and medians are compared; what counts is the ratio, not the milliseconds:

    committed   the hook, answered by nncached after its commit : /bin/true + one fdatasync     budget 1.3
    daemon dead the hook, into the spool                        : /bin/true + two fsyncs        budget 1.3

Prints a line for each, and with --json one object. Ends with 1 if a budget is passed.
"""
import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

BUDGET = 1.3
ROUNDS = 10


def spawn_us(build, n, command, env):
    """The microseconds of N runs of COMMAND."""
    out = subprocess.run([f"{build}/bench/spawn", str(n)] + command, env=env, check=True, stdout=subprocess.PIPE)
    return [float(line) for line in out.stdout.split()]


def fdatasync_us(scratch, n):
    """What SQLite's WAL does to commit: a page appended, fdatasync."""
    fd = os.open(f"{scratch}/wal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    times = []
    for _ in range(n):
        os.write(fd, b"x" * 4120)
        start = time.perf_counter_ns()
        os.fdatasync(fd)
        times.append((time.perf_counter_ns() - start) / 1000)
    os.close(fd)
    return times


def two_fsyncs_us(scratch, n):
    """A small file made durable under its name: its fsync and its directory's."""
    directory = f"{scratch}/two"
    os.makedirs(directory, exist_ok=True)
    dir_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    times = []
    for i in range(n):
        fd = os.open(f"{directory}/.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, b"x" * 150)
        start = time.perf_counter_ns()
        os.fsync(fd)
        took = time.perf_counter_ns() - start
        os.close(fd)
        os.rename(f"{directory}/.tmp", f"{directory}/{time.time_ns()}.{i}")
        start = time.perf_counter_ns()
        os.fsync(dir_fd)
        times.append((took + time.perf_counter_ns() - start) / 1000)
    os.close(dir_fd)
    shutil.rmtree(directory)
    return times


class Daemon:
    """The real nncached with a store of its own; the paths handed over are not in it, so that nothing but the
    hand-over is measured."""

    def __init__(self, build, scratch):
        self.socket = f"{scratch}/nncached.sock"
        for name in "store", "var", "state/spool", "roots", "cache":
            os.makedirs(f"{scratch}/{name}")
        with open(f"{scratch}/nncache.conf", "w", encoding="utf-8") as conf:
            conf.write(f"[daemon]\nsocket = {self.socket}\nstate-dir = {scratch}/state\n"
                       f"spool-dir = {scratch}/state/spool\ngcroots-dir = {scratch}/roots\n"
                       f'[cache "main"]\nurl = file://{scratch}/cache\nsign = no\n')
        env = dict(os.environ, NIX_STORE_DIR=f"{scratch}/store", NIX_STATE_DIR=f"{scratch}/var")
        self.log = open(f"{scratch}/nncached.log", "wb")
        self.process = subprocess.Popen([f"{build}/daemon/nncached", "--config", f"{scratch}/nncache.conf"],
                                        env=env, stdout=self.log, stderr=self.log)
        end = time.monotonic() + 10
        while not os.path.exists(self.socket):
            if self.process.poll() is not None or time.monotonic() > end:
                sys.exit(f"nncached does not start; see {scratch}/nncached.log")
            time.sleep(0.05)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def hook_env(scratch, socket, spool, roots):
    store_dir = f"{scratch}/store"
    return {"OUT_PATHS": f"{store_dir}/znfl9jqnlc8ialnfmiwhg8rs6pllsccf-demo-1.0",
            "DRV_PATH": f"{store_dir}/615x5r9m95li3hs5wi3iyj7gp33aybms-demo-1.0.drv",
            "NNCACHE_SOCKET": socket, "NNCACHE_SPOOL": spool, "NNCACHE_GCROOTS": roots}


def must_be_taken(hook, env):
    """A refusal or a spool file would be quicker than what is to be measured."""
    words = subprocess.run(hook, env=env, check=True, stderr=subprocess.PIPE).stderr.decode()
    if words:
        sys.exit(f"nncached did not take the path: {words}")


def clear(directory):
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)


def measure(build, scratch, n_runs):
    """Medians in microseconds by name."""
    hook = [os.path.abspath(f"{build}/hook/hook")]
    daemon = Daemon(build, scratch) if os.path.exists(f"{build}/daemon/nncached") else None
    spool, roots = f"{scratch}/dead-spool", f"{scratch}/dead-roots"
    dead = hook_env(scratch, f"{scratch}/nobody.sock", spool, roots)
    n = max(1, n_runs // ROUNDS)
    times = {}

    def add(name, found):
        times.setdefault(name, []).extend(found)

    try:
        for _ in range(ROUNDS):
            add("true", spawn_us(build, n, ["/bin/true"], {}))
            add("fdatasync", fdatasync_us(scratch, n))
            add("two fsyncs", two_fsyncs_us(scratch, n))
            clear(spool)
            clear(roots)
            add("daemon dead", spawn_us(build, n, hook, dead))
            if len(os.listdir(spool)) != n:
                sys.exit("the hook did not write its spool files")
            if daemon is not None:
                live_spool = f"{scratch}/state/spool"
                env = hook_env(scratch, daemon.socket, live_spool, f"{scratch}/roots")
                must_be_taken(hook, env)
                add("committed", spawn_us(build, n, hook, env))
    finally:
        if daemon is not None:
            daemon.stop()
    return {name: statistics.median(found) for name, found in times.items()}


def compare(medians):
    """The rows: name, microseconds of ours, of the floor, ratio."""
    floors = {"committed": "fdatasync", "daemon dead": "two fsyncs"}
    rows = []
    for name, sync in floors.items():
        if name in medians:
            floor = medians["true"] + medians[sync]
            rows.append({"name": name, "us": medians[name], "floor_us": floor, "ratio": medians[name] / floor,
                         "budget": BUDGET})
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--dir", default=tempfile.gettempdir())
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not os.path.exists(f"{args.build}/bench/spawn"):
        sys.exit(f"{args.build}/bench/spawn is not there: configure with -Dbench=enabled")
    scratch = tempfile.mkdtemp(prefix="nncache-bench.", dir=args.dir)
    try:
        medians = measure(args.build, scratch, args.runs)
    finally:
        shutil.rmtree(scratch)
    rows = compare(medians)
    if args.json:
        print(json.dumps({"medians_us": medians, "rows": rows}))
    else:
        print("medians: " + ", ".join(f"{name} {us:.0f} us" for name, us in medians.items()))
        for row in rows:
            print(f"{row['name']:12} {row['us']:7.0f} us  floor {row['floor_us']:7.0f} us  "
                  f"ratio {row['ratio']:.2f}  budget {row['budget']}")
        if "committed" not in medians:
            print("committed    not measured: this build has no daemon/nncached")
    return 1 if any(row["ratio"] > row["budget"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
