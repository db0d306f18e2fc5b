#!/usr/bin/env python3
"""Check a cache's directory once nothing is written to it any more.

    check_cache.py DIR [STORE-PATH...]    prints what is wrong, a line each; exit 1 if anything is

Every narinfo is whole and signed; the NAR it names is there with the size and hash it names; the narinfos of all
that it refers to are there, so no narinfo dangles. Every STORE-PATH has a narinfo. No temporary file is left.
STORE-PATHs are read from stdin, a line each, if the only one is "-". Says nothing about the NARs' contents: read
them back with Nix for that.
"""
import hashlib
import os
import sys

ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz"


def nixbase32(digest):
    number = int.from_bytes(digest, "little")
    count = (len(digest) * 8 + 4) // 5
    return "".join(ALPHABET[number >> 5 * i & 31] for i in reversed(range(count)))


def wrong_nar(cache, fields):
    try:
        with open(os.path.join(cache, fields["URL"]), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return f"names {fields['URL']}, which is not there"
    if len(data) != int(fields["FileSize"]):
        return f"says {fields['FileSize']} bytes of {fields['URL']}, which has {len(data)}"
    said = fields.get("FileHash")
    if said is not None and said != "sha256:" + nixbase32(hashlib.sha256(data).digest()):
        return f"says another hash than {fields['URL']} has"
    return None


def wrong_narinfo(cache, name, names):
    with open(os.path.join(cache, name), encoding="utf-8") as file:
        text = file.read()
    if not text.endswith("\n") or "\nSig: " not in text:
        return "is not whole"
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    for reference in fields.get("References", "").split():
        if reference[:32] + ".narinfo" not in names:
            return f"refers to {reference}, which is not there"
    return wrong_nar(cache, fields)


def left_over(cache):
    """Files of the cache that are neither narinfos nor what they name."""
    for folder, _, files in os.walk(cache):
        for file in files:
            place = os.path.relpath(os.path.join(folder, file), cache)
            is_nar = os.path.dirname(place) == "nar" and ".nar" in file
            is_info = os.path.dirname(place) == "" and (file.endswith(".narinfo") or file == "nix-cache-info")
            if not is_nar and not is_info:
                yield place


def main():
    cache, paths = sys.argv[1], sys.argv[2:]
    if paths == ["-"]:
        paths = sys.stdin.read().split()
    names = {name for name in os.listdir(cache) if name.endswith(".narinfo")}
    wrong = [f"{path} is not on the cache" for path in paths
             if os.path.basename(path)[:32] + ".narinfo" not in names]
    for name in sorted(names):
        what = wrong_narinfo(cache, name, names)
        if what:
            wrong.append(f"{name} {what}")
    wrong += [f"{place} is left over" for place in left_over(cache)]
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
