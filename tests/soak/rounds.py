#!/usr/bin/env python3
"""Rounds of hooks against a daemon that is killed; soak makes the world for it.

    rounds.py [--seed N] [ROUNDS]

In a round, WORKERS hand over new store paths by hooks, of which some are killed, while nncached starts, uploads to a
cache of which a tenth of the answers are faults, and dies: at a moment of no choice, or at a crash point. Every few
rounds garbage is collected. After DRAIN_EVERY rounds, and in the end, the cache is kind, a daemon may live, and then
everything must be on the cache and nothing left over. The seed is printed: it gives the same choices again, though
not the same moments.
"""
import argparse
import json
import os
import random
import re
import socket
import struct
import subprocess
import sys
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests/support"))
import cache_server  # noqa: E402  (found by the line above)

T, BUILD, HOOK, SOCKET = (os.environ[name] for name in ("T", "B", "HOOK", "SOCKET"))
WWW = f"{T}/www"
ROOTS = f"{T}/var/gcroots/nncache"
PREPARED = f"{T}/var/gcroots/prepared"
SPOOL = f"{T}/state/spool"
WORKERS = 3
PATHS_A_ROUND = 6
DRAIN_EVERY = 20
COLLECT_EVERY = 4
DRAIN_S = 180
ARMED_S = 1  # a daemon that is to die at a crash point may not come by it
NOT_HERE = re.compile("HOOK_|RELOAD_|STOP_|PRUNE_|FILE_|EXPAND_|RESOLVE_OUTPUTS")

PATHS = """
  builtins.genList (i:
    let dependency = builtins.toFile "dependency-${toString (FIRST + i)}" (SEED + " needs nothing"); in
    builtins.toFile "program-${toString (FIRST + i)}" (SEED + " needs ${dependency}")) COUNT
"""


FAULTS = ["500", "502", "503", "reset", "silent"]
N_GOOD = 9 * len(FAULTS)


class Moody(cache_server.Handler):
    """A tenth of the answers are faults, unless the server is kind."""

    def handle_any(self):
        with self.server.lock:
            fault = None if self.server.is_kind else self.server.random.choice(FAULTS + [None] * N_GOOD)
            self.server.n_faults += fault is not None
        if fault is None:
            return super().handle_any()
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif fault == "silent":
            time.sleep(0.3)
        else:
            self.read_body()
            self.answer(int(fault), b"not now\n")
        self.close_connection = True
        return True


def start_cache(seed):
    server = cache_server.Server(("127.0.0.1", 0), Moody)
    server.root, server.other, server.log, server.lock = WWW, "", None, threading.Lock()
    server.is_kind, server.n_faults, server.random = False, 0, random.Random(seed)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def write_config(server):
    with open(f"{T}/etc/nncache.conf", "w", encoding="utf-8") as file:
        file.write(f"""[daemon]
socket = {SOCKET}
state-dir = {T}/state
spool-dir = {SPOOL}
gcroots-dir = {ROOTS}

[cache "main"]
url = http://127.0.0.1:{server.server_address[1]}/ok
signing-key-file = {T}/etc/key.secret
upstreams =
""")


def crash_points():
    """Those of the daemon, if it was built with any."""
    with open(f"{TOP}/common/crash.h", encoding="utf-8") as file:
        names = re.findall(r"X\(([A-Z_]+)\)", file.read())
    with open(f"{BUILD}/daemon/nncached", "rb") as file:
        program = file.read()
    return [name for name in names if b"\0" + name.encode() + b"\0" in program and not NOT_HERE.match(name)]


def make_paths(first, count, seed):
    text = PATHS.replace("FIRST", str(first)).replace("COUNT", str(count)).replace("SEED", f'"soak {seed}"')
    done = subprocess.run(["nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode", "-E", text],
                          stdout=subprocess.PIPE, check=True, timeout=300)
    paths = json.loads(done.stdout)
    for path in paths:
        os.symlink(path, f"{PREPARED}/{os.path.basename(path)}")
    return paths


def wait_for_socket(daemon):
    """Until the daemon can be connected to, or is gone."""
    while daemon.poll() is None:
        with socket.socket(socket.AF_UNIX) as client:
            if client.connect_ex(SOCKET) == 0:
                return
        time.sleep(0.01)


class Soak:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.seed = seed
        self.server = start_cache(seed)
        self.points = crash_points()
        self.log = open(f"{T}/log/nncached.log", "a", encoding="utf-8")
        self.handed_over, self.errors = [], []
        self.n_hooks_killed = self.n_at_points = self.n_killed = 0
        write_config(self.server)

    def start_daemon(self, crash_at=None):
        env = dict(os.environ)
        if crash_at is not None:
            env["NNCACHE_CRASH_AT"] = crash_at
        return subprocess.Popen([f"{BUILD}/daemon/nncached", "--config", f"{T}/etc/nncache.conf"],
                                stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=env)

    def ctl(self, *arguments, check=False):
        return subprocess.run([f"{BUILD}/ctl/nncachectl", *arguments], env={**os.environ, "NNCACHE_SOCKET": SOCKET},
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=90, check=check)

    def call_hook(self, paths, kill_after_s=None):
        """As Nix does. Returns whether it ended with 0."""
        env = {"OUT_PATHS": " ".join(paths)}
        env.update((name, os.environ[name]) for name in ("NIX_STORE_DIR", "NIX_STATE_DIR"))
        hook = subprocess.Popen([HOOK], env=env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            hook.kill()
        return hook.wait(timeout=60) == 0

    def work(self, paths, rng):
        try:
            self.hand_over(paths, rng)
        except BaseException as error:  # of a thread: the round tells it
            self.errors.append(error)

    def hand_over(self, paths, rng):
        """A worker's share of a round. A killed hook has handed over what has a root."""
        while paths:
            some, paths = paths[:2], paths[2:]
            kill_after_s = rng.uniform(0, 0.008) if rng.random() < 0.3 else None
            if not self.call_hook(some, kill_after_s):
                self.n_hooks_killed += 1
                roots = os.listdir(ROOTS)
                left = [path for path in some if not any(os.path.basename(path) in root for root in roots)]
                if left and not self.call_hook(left):
                    raise RuntimeError("a hook did not end with 0")
            self.handed_over += some
            for path in some:
                os.unlink(f"{PREPARED}/{os.path.basename(path)}")

    def run_round(self, paths):
        rng = self.random
        point = f"{rng.choice(self.points)}:{rng.randint(1, 3)}" if self.points and rng.random() < 0.5 else None
        daemon = self.start_daemon(point)
        if rng.random() < 0.8:
            wait_for_socket(daemon)
        workers = []
        for i in range(WORKERS):
            workers.append(threading.Thread(target=self.work, args=(paths[i::WORKERS], random.Random(rng.random()))))
            workers[-1].start()
        try:
            daemon.wait(timeout=ARMED_S if point is not None else min(rng.expovariate(1 / 0.15), 1.0))
            self.n_at_points += 1
        except subprocess.TimeoutExpired:
            daemon.kill()
            self.n_killed += 1
        if daemon.wait() != -9:
            raise SystemExit(f"nncached ended with {daemon.returncode} by itself")
        for worker in workers:
            worker.join()
        for error in self.errors:
            raise SystemExit(f"a worker failed: {error!r}")

    def is_settled(self):
        if os.listdir(ROOTS) or any(name.endswith(".req") for name in os.listdir(SPOOL)):
            return False
        status = self.ctl("status", "--json")
        if status.returncode != 0:
            return False
        queue = json.loads(status.stdout)["queue"]
        return queue["unfinished"] == 0 and queue["resolving"] == 0

    def drain(self):
        """With a kind cache everything arrives. Roots of hooks are looked at once they are ten seconds old."""
        self.server.is_kind = True
        for name in os.listdir(ROOTS):
            os.utime(f"{ROOTS}/{name}", (time.time() - 60,) * 2, follow_symlinks=False)
        daemon = self.start_daemon()
        deadline = time.monotonic() + DRAIN_S
        while not self.is_settled():
            if time.monotonic() > deadline or daemon.poll() is not None:
                print(self.ctl("list").stdout.decode(), os.listdir(ROOTS), os.listdir(SPOOL), sep="\n")
                raise SystemExit(f"not all arrived within {DRAIN_S} s, or the daemon died")
            self.retry()
            time.sleep(0.2)
        self.check()
        daemon.kill()
        daemon.wait()
        self.server.is_kind = False

    def retry(self):
        """Nobody waits here for what was put off."""
        rows = self.ctl("list", "--json")
        if rows.returncode == 0:
            paths = [row["path"] for row in json.loads(rows.stdout)["jobs"]
                     if row["state"] in ("delayed", "failed", "blocked")]
            if paths:
                self.ctl("retry", *paths)

    def check(self):
        checked = subprocess.run([f"{TOP}/tests/support/check_cache.py", WWW, "-"], text=True, check=False,
                                 input="\n".join(self.handed_over), stdout=subprocess.PIPE)
        if checked.returncode != 0:
            raise SystemExit(checked.stdout)
        sound = subprocess.run(["sqlite3", f"{T}/state/queue.db", "PRAGMA integrity_check"], text=True, check=True,
                               stdout=subprocess.PIPE).stdout.strip()
        if sound != "ok":
            raise SystemExit(f"queue.db: {sound}")

    def run(self, n_rounds):
        paths = []
        for number in range(n_rounds):
            if not paths:
                n = min(DRAIN_EVERY, n_rounds - number) * PATHS_A_ROUND
                paths = make_paths(number * PATHS_A_ROUND, n, self.seed)
            self.run_round(paths[:PATHS_A_ROUND])
            paths = paths[PATHS_A_ROUND:]
            if number % COLLECT_EVERY == COLLECT_EVERY - 1:
                subprocess.run(["nix-store", "--gc"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
            if not paths:
                self.drain()
        if n_rounds >= DRAIN_EVERY and not (self.n_hooks_killed and self.n_killed and self.server.n_faults
                                            and (self.n_at_points or not self.points)):
            raise SystemExit("nothing went wrong in all these rounds: that proves nothing")
        print(f"{n_rounds} rounds: {len(self.handed_over)} paths handed over, each with a dependency; "
              f"{self.n_hooks_killed} hooks and {self.n_killed} daemons killed, {self.n_at_points} more daemons at "
              f"crash points; {self.server.n_faults} faults of the cache; all is there")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", nargs="?", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    Soak(args.seed).run(args.rounds)


if __name__ == "__main__":
    main()
