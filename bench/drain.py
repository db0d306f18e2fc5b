#!/usr/bin/env python3
"""What it takes to upload the closure of this machine's Debian packages, beside `nix copy` and a floor.

    bench/drain.py BUILD [--rounds N] [--dir DIR] [--paths N] [--total-mb N] [--rows ROW,...] [--json]
                         [--nix-suite DIR]

BUILD is a build directory configured with -Dbench=enabled. In a new directory below DIR it makes a Nix
store of its own with one path per package, and uploads all of them in turns: ours, peer, ours, peer, with
the page cache warm. See bench/README.md for what each row is. NNCACHE_BENCH_NIX names another `nix` to
measure against; --nix-suite is a system that tests/support/nix_suite made, whose Nix is measured against.
Ends with 1 if a budget is passed.
"""
import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUDGETS_ARE_AGAINST = "2.34.8"
SMALL_PATHS = 1000
SMALL_BYTES = 10000
TICKS = os.sysconf("SC_CLK_TCK")

NGINX = """\
daemon off;
master_process off;
pid {dir}/pid;
error_log {dir}/error.log;
events {{ worker_connections 512; }}
http {{
	access_log off;
	client_body_temp_path {dir}/body;
	proxy_temp_path {dir}/proxy;
	fastcgi_temp_path {dir}/fastcgi;
	uwsgi_temp_path {dir}/uwsgi;
	scgi_temp_path {dir}/scgi;
	client_max_body_size 0;
	server {{
		listen 127.0.0.1:{port};
		root {www};
		dav_methods PUT;
		create_full_put_path on;
	}}
}}
"""

SMALL = """\
{ n, bytes }:
map (i: derivation {
  name = "small-${toString i}";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  PATH = "/usr/bin:/bin";
  args = [ "-c" "head -c ${toString bytes} /dev/urandom >$out" ];
}) (builtins.genList (i: i) n)
"""


class World:
    """A Nix store, a configuration and keys of its own below one directory."""

    def __init__(self, build, parent):
        self.build = os.path.abspath(build)
        self.dir = tempfile.mkdtemp(prefix="nncache-bench.", dir=parent)
        os.chmod(self.dir, 0o755)
        for name in "store", "var", "etc", "home", "log", "nginx", "runs", "nix":
            os.makedirs(f"{self.dir}/{name}")
        self.env = {name: value for name, value in os.environ.items()
                    if not name.startswith(("NIX_", "NNCACHE_"))}
        self.env.update(HOME=f"{self.dir}/home", XDG_CACHE_HOME=f"{self.dir}/home/cache",
                        NIX_STORE_DIR=f"{self.dir}/store", NIX_STATE_DIR=f"{self.dir}/var",
                        NIX_LOG_DIR=f"{self.dir}/log", NIX_CONF_DIR=f"{self.dir}/etc",
                        NIX_USER_CONF_FILES="/dev/null", NNCACHE_SOCKET=f"{self.dir}/nncached.sock")
        with open(f"{self.dir}/etc/nix.conf", "w", encoding="utf-8") as conf:
            conf.write("sandbox = false\nbuild-users-group =\nsubstituters =\n"
                       "experimental-features = nix-command\n")
        self.key = f"{self.dir}/etc/key.secret"
        self.run(["nix-store", "--generate-binary-cache-key", "bench-1", self.key, f"{self.key}.public"])
        self.server = None
        self.n_runs = 0

    def new_run(self):
        """The directory of one run. They stay until the end: ext4 without a journal takes long to make files
        where many were deleted minutes ago."""
        self.n_runs += 1
        where = f"{self.dir}/runs/{self.n_runs}"
        os.makedirs(f"{where}/cache")
        return where

    def run(self, command, **kwargs):
        return subprocess.run(command, env=self.env, check=True, stdout=subprocess.PIPE, text=True,
                              **kwargs).stdout

    def build_paths(self, name, expression, *args):
        """The store paths that building EXPRESSION gives."""
        with open(f"{self.dir}/{name}.nix", "w", encoding="utf-8") as out:
            out.write(expression)
        with open(f"{self.dir}/log/nix-build.log", "ab") as log:
            return self.run(["nix-build", "--no-out-link", "-j", str(os.cpu_count()),
                             f"{self.dir}/{name}.nix", *args], stderr=log).split()

    def start_nginx(self):
        """One worker, on loopback; its port."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        where = f"{self.dir}/nginx"
        with open(f"{where}/nginx.conf", "w", encoding="utf-8") as conf:
            conf.write(NGINX.format(dir=where, port=port, www=f"{self.dir}/runs"))
        self.server = subprocess.Popen(["nginx", "-c", f"{where}/nginx.conf", "-e", f"{where}/error.log"])
        wait_for(lambda: is_open(port), self.server, "nginx")
        return port

    def remove(self):
        if self.server is not None:
            stop(self.server)
        subprocess.run(["chmod", "-R", "u+w", self.dir], check=False)
        shutil.rmtree(self.dir)


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(is_so, process, name):
    end = time.monotonic() + 10
    while not is_so():
        if process.poll() is not None or time.monotonic() > end:
            sys.exit(f"{name} does not start")
        time.sleep(0.02)


def stop(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def settle():
    """What the run before has left to be written is not this one's to wait for."""
    os.sync()
    time.sleep(0.5)


def as_lines(paths):
    return "\n".join(paths) + "\n"


def cpu_s(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_mb(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def run_ours(world, where, url, paths, lines="", watch=None, level="info"):
    """Uploads PATHS with a new daemon: seconds from handing them over to the answer that all are there.
    LINES are added to the section of the cache; WATCH(process) is called when it has begun."""
    config, roots = f"{where}/nncache.conf", f"{world.dir}/var/gcroots/nncache"
    os.makedirs(f"{where}/state/spool")
    os.makedirs(roots, exist_ok=True)
    with open(config, "w", encoding="utf-8") as conf:
        conf.write(f"[daemon]\nsocket = {world.env['NNCACHE_SOCKET']}\nstate-dir = {where}/state\n"
                   f"spool-dir = {where}/state/spool\ngcroots-dir = {roots}\n"
                   f'[cache "main"]\nurl = {url}\nsigning-key-file = {world.key}\n'
                   "compression-level = 3\nupstreams =\n" + lines)
    with open(f"{where}/nncached.log", "wb") as log:
        daemon = subprocess.Popen([f"{world.build}/daemon/nncached", "--config", config, "--log-level", level],
                                  env=world.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_for(lambda: os.path.exists(world.env["NNCACHE_SOCKET"]), daemon, "nncached")
        start = time.monotonic()
        if watch is not None:
            watch(daemon)
        world.run([f"{world.build}/ctl/nncachectl", "push", "--stdin", "--json"], input=as_lines(paths))
        took = time.monotonic() - start
        return {"s": took, "peak_mb": peak_mb(daemon.pid), "cpu_s": cpu_s(daemon.pid)}
    finally:
        stop(daemon)


def run_peer(world, nix, where, url, paths):
    """The same by `nix copy`; signing as ours does. NIX is a command; the way to its Nix is not measured."""
    shutil.rmtree(f"{world.dir}/home/cache", ignore_errors=True)
    url += f"?compression=zstd&compression-level=3&secret-key={world.key}"
    with open(f"{where}/nix-copy.log", "wb") as log:
        peer = subprocess.Popen([*nix[:-1], "sh", "-c", 'echo; read -r go; exec "$0" "$@"', nix[-1], "copy", "--to",
                                 url, *paths], env=world.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        peer.stdout.readline()
        start = time.monotonic()
        peer.stdin.close()
    _, status, usage = os.wait4(peer.pid, 0)
    took = time.monotonic() - start
    peer.returncode = os.waitstatus_to_exitcode(status)
    if peer.returncode != 0:
        sys.exit(f"nix copy failed; see {where}/nix-copy.log")
    return {"s": took, "peak_mb": usage.ru_maxrss / 1024, "cpu_s": usage.ru_utime + usage.ru_stime}


def run_floor(world, paths):
    """Packing alone, to nowhere, with as many threads as the daemon has."""
    out = world.run([f"{world.build}/bench/pack_floor", str(os.cpu_count()), "3"], input=as_lines(paths))
    found = dict(word.split("=") for word in out.split())
    return {"s": float(found["wall_s"]), "cpu_s": float(found["user_s"]) + float(found["sys_s"]),
            "peak_mb": 0.0, "paths": int(found["paths"]), "nar_bytes": int(found["nar_bytes"])}


def must_hold(directory, n):
    """A run that left paths out would be quicker than what is to be measured."""
    found = sum(1 for name in os.listdir(directory) if name.endswith(".narinfo"))
    if found < n:
        sys.exit(f"only {found} of {n} paths arrived")


def median_of(runs):
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def in_turns(rounds, works):
    """Runs each of WORKS (name -> function) once a round; the runs by name."""
    runs = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            settle()
            runs[name].append(work())
    return runs


def upload_row(world, nix, rounds, port, paths):
    """Ours and the peer, to the web server at PORT, or to file:// if that is None."""
    def upload(run, *args):
        where = world.new_run()
        url = f"file://{where}/cache" if port is None else f"http://127.0.0.1:{port}/{world.n_runs}/cache"
        found = run(world, *args, where, url, paths)
        must_hold(f"{where}/cache", len(paths))
        return found
    return in_turns(rounds, {"ours": lambda: upload(run_ours), "peer": lambda: upload(run_peer, nix)})


def row_of(name, runs, budgets):
    """One line of the table; BUDGETS: column -> what ours may be at most."""
    ours, peer = median_of(runs["ours"]), median_of(runs["peer"])
    spread = max(run["s"] for run in runs["ours"]) / min(run["s"] for run in runs["ours"])
    row = {"name": name, "s": ours["s"], "peer_s": peer["s"], "ratio": ours["s"] / peer["s"],
           "spread": spread, "peak_mb": ours["peak_mb"], "peer_peak_mb": peer["peak_mb"],
           "cpu_s": ours["cpu_s"], "peer_cpu_s": peer["cpu_s"],
           "cpu_ratio": ours["cpu_s"] / peer["cpu_s"], "budgets": budgets}
    row["passed"] = [column for column, budget in budgets.items() if row[column] > budget]
    return row


def measure(world, nix, args):
    """The rows that were asked for."""
    rows, wanted = [], args.rows.split(",")
    if wanted != ["small"]:
        lists = f"{world.dir}/lists"
        expression = world.run([sys.executable, f"{TOP}/tests/support/debian_closure.py", lists, "--paths",
                                str(args.paths), "--total-mb", str(args.total_mb)])
        paths = world.build_paths("closure", expression)
        floor = run_floor(world, paths)  # and everything is in the page cache now
        print(f"{floor['paths']} paths, {floor['nar_bytes'] / 2**20:.0f} MiB of NAR", file=sys.stderr)
    if "file" in wanted:
        runs = upload_row(world, nix, args.rounds, None, paths)
        rows.append(row_of("file", runs, {"ratio": 0.65, "peak_mb": 150}))
        runs["peer"] = in_turns(args.rounds, {"floor": lambda: run_floor(world, paths)})["floor"]
        rows.append(row_of("floor", runs, {"ratio": 1.15, "cpu_ratio": 1.2}))
    if "nginx" in wanted:
        runs = upload_row(world, nix, args.rounds, world.start_nginx(), paths)
        rows.append(row_of("nginx", runs, {"ratio": 0.62, "peak_mb": 150}))
    if "small" in wanted:
        paths = world.build_paths("small", SMALL, "--arg", "n", str(SMALL_PATHS),
                                  "--arg", "bytes", str(SMALL_BYTES))
        rows.append(row_of("small", upload_row(world, nix, args.rounds, None, paths), {}))
    return rows


def nix_command(world, suite):
    if suite is None:
        return [os.environ.get("NNCACHE_BENCH_NIX", "nix")]
    return [f"{TOP}/tests/support/nix_suite", "in", os.path.abspath(suite), world.dir, "nix"]


def show(rows, version):
    print(f"peer: {version}; the budgets are against {BUDGETS_ARE_AGAINST}"
          + ("" if BUDGETS_ARE_AGAINST in version else ", and another version is slower or quicker"))
    print(f"{'row':6} {'ours':>8} {'peer':>8} {'ratio':>6} {'budget':>7} {'max/min':>8}"
          f" {'peak':>8} {'peer':>8} {'cpu':>8} {'peer':>8} {'ratio':>6}")
    for row in rows:
        print(f"{row['name']:6} {row['s']:7.2f}s {row['peer_s']:7.2f}s {row['ratio']:6.2f}"
              f" {row['budgets'].get('ratio', '-'):>7} {row['spread']:8.2f}"
              f" {row['peak_mb']:6.0f}MB {row['peer_peak_mb']:6.0f}MB"
              f" {row['cpu_s']:7.2f}s {row['peer_cpu_s']:7.2f}s {row['cpu_ratio']:6.2f}"
              + (f"  over budget: {', '.join(row['passed'])}" if row["passed"] else ""))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", default=tempfile.gettempdir())
    parser.add_argument("--paths", type=int, default=100000, help="at most so many packages")
    parser.add_argument("--total-mb", type=int, default=1200, help="stop when the sum passes this")
    parser.add_argument("--rows", default="file,nginx,small")
    parser.add_argument("--nix-suite", help="measure against the Nix of this system, see tests/support/nix_suite")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not os.path.exists(f"{args.build}/bench/pack_floor"):
        sys.exit(f"{args.build}/bench/pack_floor is not there: configure with -Dbench=enabled")
    world = World(args.build, args.dir)
    try:
        nix = nix_command(world, args.nix_suite)
        version = world.run([*nix, "--version"]).strip()
        rows = measure(world, nix, args)
    finally:
        world.remove()
    if args.json:
        print(json.dumps({"peer": version, "rows": rows}))
    else:
        show(rows, version)
    return 1 if any(row["passed"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
