#!/usr/bin/env python3
"""Print a Nix expression that makes store paths of the Debian packages installed on this machine.

A derivation per package holds its files and refers to the derivations of its Depends: a closure with real
file names, sizes and links, without a download. The builder needs sh and tar.

    debian_closure.py LIST-DIR >closure.nix      LIST-DIR gets one list of files per package
    nix-build --no-out-link closure.nix          prints the store paths
"""
import argparse
import os
import re
import subprocess

HEAD = """\
let
  package = name: list: deps: derivation {
    inherit name list deps;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    args = [ "-e" "-c" ''
      mkdir "$out"
      # Nix lets no builder set a setuid bit.
      tar -C / --mode=a-s -cf - --no-recursion -T "$list" | tar -C "$out" --no-same-owner -xf -
      echo $deps >"$out/.deps"
    '' ];
  };
in rec {"""


def installed(max_kb):
    """Name -> (KiB, names it depends on), of the packages not larger than MAX_KB."""
    rows = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package}\t${Installed-Size}\t${Depends}\n"],
        capture_output=True, text=True, check=True).stdout.splitlines()
    packages = {}
    for row in rows:
        name, kib, depends = row.split("\t")
        if kib and int(kib) <= max_kb:
            needs = [re.split(r"[ (:|]", part.strip())[0] for part in depends.split(",") if part.strip()]
            packages[name] = (int(kib), needs)
    return packages


def dependencies_first(packages):
    """All names, each after what it depends on; a circle is cut where it is met."""
    order, seen = [], set()
    for first in sorted(packages):
        stack = [(first, iter(packages[first][1]))] if first not in seen else []
        seen.add(first)
        while stack:
            name, needs = stack[-1]
            for need in needs:
                if need in packages and need not in seen:
                    seen.add(need)
                    stack.append((need, iter(packages[need][1])))
                    break
            else:
                order.append(name)
                stack.pop()
    return order


def files_of(package):
    """Its readable files and links, named from / without the slash; no configuration, no link like /lib."""
    names = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True, check=True).stdout
    return [name[1:] for name in names.splitlines()
            if not name.startswith("/etc/") and name.count("/") > 1 and (
                os.path.islink(name) or os.path.isfile(name) and os.access(name, os.R_OK))]


def attribute(package):
    return "p_" + re.sub(r"[^a-zA-Z0-9]", "_", package)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list_dir")
    parser.add_argument("--paths", type=int, default=100000, help="stop after so many packages")
    parser.add_argument("--max-kb", type=int, default=20000, help="leave larger packages out")
    parser.add_argument("--total-mb", type=int, default=1200, help="stop when the sum passes this")
    args = parser.parse_args()

    os.makedirs(args.list_dir, exist_ok=True)
    packages = installed(args.max_kb)
    chosen, total_kb = set(), 0
    print(HEAD)
    for name in dependencies_first(packages):
        if len(chosen) >= args.paths or total_kb > args.total_mb * 1024:
            break
        files = files_of(name)
        if not files:
            continue
        file_list = os.path.join(os.path.abspath(args.list_dir), name)
        with open(file_list, "w", encoding="utf-8") as out:
            out.write("\n".join(files) + "\n")
        needs = " ".join(sorted({attribute(need) for need in packages[name][1] if need in chosen}))
        store_name = "deb-" + re.sub(r"[^a-zA-Z0-9+._?=-]", "-", name)
        print(f'  {attribute(name)} = package "{store_name}" "{file_list}" [ {needs} ];')
        chosen.add(name)
        total_kb += packages[name][0]
    print("}")


if __name__ == "__main__":
    main()
