#!/usr/bin/env python3
"""Watch a cache's directory fill, and check every narinfo at the moment it becomes visible.

    watch_cache.py DIR COUNT SECONDS     ends well once COUNT narinfos were seen, each of them whole, after its
                                         NAR (of the size it names) and after the narinfos of its references

inotify hands out the events of both directories in the order in which they happened, so a narinfo that comes
before what it needs is found even if that follows within microseconds. Prints "watching" when it is ready;
DIR and DIR/nar must exist. Limits: says nothing about what a power cut would leave.
"""
import ctypes
import os
import select
import struct
import sys
import time

IN_MOVED_TO, IN_CREATE, IN_Q_OVERFLOW = 0x80, 0x100, 0x4000
EVENT = struct.Struct("iIII")


class Watch:
    def __init__(self, folders):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_CLOEXEC)
        self.folders = {}
        for folder in folders:
            number = libc.inotify_add_watch(self.fd, os.fsencode(folder), IN_MOVED_TO | IN_CREATE)
            if number < 0:
                raise OSError(ctypes.get_errno(), "inotify_add_watch", folder)
            self.folders[number] = folder

    def events(self, timeout_s):
        """(folder, name) of what appeared, in order; none after TIMEOUT_S."""
        if not select.select([self.fd], [], [], timeout_s)[0]:
            return
        data = os.read(self.fd, 1 << 16)
        at = 0
        while at < len(data):
            number, mask, _, length = EVENT.unpack_from(data, at)
            at += EVENT.size
            if mask & IN_Q_OVERFLOW:
                raise SystemExit("events were lost: the watcher is too slow to judge")
            yield self.folders[number], data[at:at + length].rstrip(b"\0").decode()
            at += length


def wrong_narinfo(cache, name, infos, nars):
    """What is wrong with the narinfo NAME, given what was visible before it; or None."""
    with open(os.path.join(cache, name), encoding="utf-8") as file:
        text = file.read()
    if not text.endswith("\n") or "\nSig: " not in text:
        return "is not whole"
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    folder, nar = os.path.split(fields["URL"])
    if folder != "nar" or nar not in nars:
        return f"names {fields['URL']}, which was not there yet"
    size = os.stat(os.path.join(cache, "nar", nar)).st_size
    if size != int(fields["FileSize"]):
        return f"names a NAR of {fields['FileSize']} bytes, which had {size}"
    for reference in fields.get("References", "").split():
        if reference[:32] + ".narinfo" not in infos and reference[:32] != name[:32]:
            return f"refers to {reference}, which was not there yet"
    return None


def main():
    cache, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    nar_dir = os.path.join(cache, "nar")
    watch = Watch([cache, nar_dir])
    if any(name.endswith(".narinfo") for name in os.listdir(cache)):
        raise SystemExit("the cache must be empty at first")
    infos, nars = set(), set()
    print("watching", flush=True)
    deadline = time.monotonic() + seconds
    while len(infos) < count:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise SystemExit(f"saw {len(infos)} narinfos of {count} in {seconds} s")
        for folder, name in watch.events(left_s):
            if folder == nar_dir:
                nars.add(name)
            elif name.endswith(".narinfo") and name not in infos:
                wrong = wrong_narinfo(cache, name, infos, nars)
                if wrong:
                    raise SystemExit(f"{name} {wrong}; before it: {len(infos)} narinfos, {len(nars)} NARs")
                infos.add(name)
    print(f"{len(infos)} narinfos, each after what it needs")


if __name__ == "__main__":
    main()
