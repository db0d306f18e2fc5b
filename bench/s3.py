#!/usr/bin/env python3
"""Uploading to S3: a closure beside `aws s3 cp` of the finished cache and beside plain HTTP, and one large path
in parts, with when what was packed and sent.

    bench/s3.py BUILD [--rounds N] [--dir DIR] [--paths N] [--total-mb N] [--large-mb N] [--rows ROW,...] [--json]

BUILD is a build directory configured with -Dbench=enabled. The server is Ceph's RADOS Gateway with all in
memory (tests/support/ceph), so it takes part of the same cores. See bench/README.md for the rows. Ends with 1
if a budget is passed.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

import drain

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDNN", "AWS_SECRET_ACCESS_KEY": "SECRETNN", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null"}
LARGE = """\
{ mb }: [ (derivation {
  name = "large";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  PATH = "/usr/local/bin:/usr/bin:/bin";
  args = [ "-c" "head -c $((${toString mb} << 20)) /dev/urandom >$out" ];
}) ]
"""


class Ceph:
    def __init__(self, parent):
        self.dir = tempfile.mkdtemp(prefix="nncache-ceph.", dir=parent)
        self.tool = f"{drain.TOP}/tests/support/ceph"
        self.port = 20000 + os.getpid() % 10000
        self.url = f"http://127.0.0.1:{self.port}"
        self.n_buckets = 0
        subprocess.run([self.tool, "up", self.dir, str(self.port)], check=True)

    def curl(self, method, path):
        return subprocess.run(["curl", "-sS", "--fail", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user",
                               f"{KEYS['AWS_ACCESS_KEY_ID']}:{KEYS['AWS_SECRET_ACCESS_KEY']}",
                               "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "-X", method, f"{self.url}/{path}"],
                              check=True, stdout=subprocess.PIPE, text=True).stdout

    def new_bucket(self):
        self.n_buckets += 1
        self.curl("PUT", f"bench-{self.n_buckets}")
        return f"bench-{self.n_buckets}"

    def must_hold(self, bucket, n):
        found, after = 0, ""
        while True:
            page = self.curl("GET", f"{bucket}?marker={after}&max-keys=1000")
            found += page.count(".narinfo</Key>")
            if "<IsTruncated>true" not in page:
                break
            after = page.rsplit("<Key>", 1)[1].split("</Key>")[0].replace("/", "%2F")
        if found < n:
            sys.exit(f"only {found} of {n} paths arrived")

    def remove(self):
        subprocess.run([self.tool, "down", self.dir], check=False)
        subprocess.run(["rm", "-rf", self.dir, f"{self.dir}.up.log"], check=False)


def run_aws(world, where, ceph, bucket, cache):
    """The files of a finished cache, already packed."""
    start = time.monotonic()
    with open(f"{where}/aws.log", "wb") as log:
        peer = subprocess.Popen(["aws", "--endpoint-url", ceph.url, "s3", "cp", "--recursive", "--only-show-errors",
                                 cache, f"s3://{bucket}"], env=world.env, stdout=log, stderr=log)
    _, status, usage = os.wait4(peer.pid, 0)
    took = time.monotonic() - start
    peer.returncode = os.waitstatus_to_exitcode(status)
    if peer.returncode != 0:
        sys.exit(f"aws s3 cp failed; see {where}/aws.log")
    return {"s": took, "peak_mb": usage.ru_maxrss / 1024, "cpu_s": usage.ru_utime + usage.ru_stime}


def ours_to_s3(world, ceph, paths, timeline=None):
    where, bucket = world.new_run(), ceph.new_bucket()
    watch = timeline and (lambda daemon: timeline.watch(daemon, f"{where}/nncached.log"))
    found = drain.run_ours(world, where, f"s3://{bucket}", paths, f"endpoint = {ceph.url}\n", watch,
                           "debug" if timeline else "info")
    ceph.must_hold(bucket, len(paths))
    return found


def finished_cache(world, paths):
    where = world.new_run()
    drain.run_ours(world, where, f"file://{where}/cache", paths)
    return f"{where}/cache"


def aws_to_s3(world, ceph, cache, n):
    where, bucket = world.new_run(), ceph.new_bucket()
    found = run_aws(world, where, ceph, bucket, cache)
    ceph.must_hold(bucket, n)
    return found


def ours_to_http(world, port, paths):
    where = world.new_run()
    found = drain.run_ours(world, where, f"http://127.0.0.1:{port}/{world.n_runs}/cache", paths)
    drain.must_hold(f"{where}/cache", len(paths))
    return found


class Timeline:
    """How far packing and sending are, five times a second: what status says, and the parts that are there."""

    def __init__(self, world):
        self.world, self.samples = world, []

    def watch(self, daemon, log):
        threading.Thread(target=self.sample, args=(daemon, log), daemon=True).start()

    def sample(self, daemon, log):
        start = time.monotonic()
        while daemon.poll() is None:
            answer = subprocess.run([f"{self.world.build}/ctl/nncachectl", "status", "--json"], env=self.world.env,
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
            try:
                uploads = json.loads(answer)["uploads"]
            except (ValueError, KeyError):
                uploads = []
            if uploads and uploads[0]["step"] in ("packing", "sending"):
                with open(log, encoding="utf-8") as lines:
                    sent = [int(line.split(" bytes=")[1].split()[0]) for line in lines if "part sent " in line]
                self.samples.append({"s": round(time.monotonic() - start, 1), "packed_mb": uploads[0]["done_bytes"] >> 20,
                                     "sent_mb": sum(sent) >> 20})
            time.sleep(0.2)

    def sent_while_packing(self):
        """Of all bytes, those that were there when the last was packed."""
        end = max(sample["packed_mb"] for sample in self.samples)
        first = next(sample for sample in self.samples if sample["packed_mb"] == end)
        return first["sent_mb"] / end

    def show(self):
        print(f"{'time':>7} {'packed':>10} {'sent':>10}")
        for sample in self.samples[::max(1, len(self.samples) // 12)]:
            print(f"{sample['s']:6.1f}s {sample['packed_mb']:6} MiB {sample['sent_mb']:6} MiB")


def closure_rows(world, ceph, args, wanted):
    expression = world.run([sys.executable, f"{drain.TOP}/tests/support/debian_closure.py", f"{world.dir}/lists",
                            "--paths", str(args.paths), "--total-mb", str(args.total_mb)])
    paths = world.build_paths("closure", expression)
    cache = finished_cache(world, paths)
    works = {"ours": lambda: ours_to_s3(world, ceph, paths)}
    if "aws" in wanted:
        works["aws"] = lambda: aws_to_s3(world, ceph, cache, len(paths))
        works["floor"] = lambda: drain.run_floor(world, paths)
    if "http" in wanted:
        port = world.start_nginx()
        works["http"] = lambda: ours_to_http(world, port, paths)
    runs = drain.in_turns(args.rounds, works)
    if "aws" in wanted:
        runs["both"] = [{key: aws[key] + floor[key] for key in aws} for aws, floor in zip(runs["aws"], runs["floor"])]
    budgets = {"aws": {"peak_mb": 150}, "both": {"ratio": 1.0}, "http": {}}
    return [drain.row_of(name, {"ours": runs["ours"], "peer": runs[name]}, budgets[name])
            for name in ("aws", "both", "http") if name in runs]


def large_row(world, ceph, mb):
    """One path in parts. Beside it the same path on file://: packing, and nothing sent."""
    paths = world.build_paths("large", LARGE, "--arg", "mb", str(mb))
    where = world.new_run()
    floor = drain.run_ours(world, where, f"file://{where}/cache", paths)
    timeline = Timeline(world)
    ours = ours_to_s3(world, ceph, paths, timeline)
    row = drain.row_of("large", {"ours": [ours], "peer": [floor]}, {"peak_mb": 150})
    row["sent_while_packing"] = timeline.sent_while_packing()
    row["budgets"]["sent_while_packing"] = "> 0.5"
    if row["sent_while_packing"] < 0.5:
        row["passed"].append("sent_while_packing")
    return row, timeline


PEERS = {"aws": "aws s3 cp", "both": "packing, + aws", "http": "ours to nginx", "large": "ours to file"}


def show(rows):
    print(f"{'row':6} {'beside':14} {'ours':>8} {'peer':>8} {'ratio':>6} {'budget':>7} {'max/min':>8} {'peak':>7}"
          f" {'peer':>7} {'cpu':>8} {'peer':>8}")
    for row in rows:
        print(f"{row['name']:6} {PEERS[row['name']]:14} {row['s']:7.2f}s {row['peer_s']:7.2f}s {row['ratio']:6.2f}"
              f" {row['budgets'].get('ratio', '-'):>7} {row['spread']:8.2f} {row['peak_mb']:5.0f}MB"
              f" {row['peer_peak_mb']:5.0f}MB {row['cpu_s']:7.2f}s {row['peer_cpu_s']:7.2f}s"
              + (f"  over budget: {', '.join(row['passed'])}" if row["passed"] else ""))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", default=tempfile.gettempdir())
    parser.add_argument("--paths", type=int, default=100000, help="at most so many packages")
    parser.add_argument("--total-mb", type=int, default=600, help="stop when the sum passes this")
    parser.add_argument("--large-mb", type=int, default=2048)
    parser.add_argument("--rows", default="aws,http,large")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    wanted, rows, timeline = args.rows.split(","), [], None
    world = drain.World(args.build, args.dir)
    world.env.update(KEYS)
    ceph = Ceph(args.dir)
    try:
        if "aws" in wanted or "http" in wanted:
            rows += closure_rows(world, ceph, args, wanted)
        if "large" in wanted:
            row, timeline = large_row(world, ceph, args.large_mb)
            rows.append(row)
    finally:
        ceph.remove()
        world.remove()
    if args.json:
        print(json.dumps({"rows": rows, "timeline": timeline.samples if timeline else []}))
    else:
        show(rows)
        if timeline is not None:
            print(f"large: {rows[-1]['sent_while_packing']:.0%} was there when the last of it was packed")
            timeline.show()
    return 1 if any(row["passed"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
