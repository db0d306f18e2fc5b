#!/usr/bin/env python3
"""Starts nncached as systemd does, with Type=notify and a socket that is handed in.

    service_manager.py --socket PATH [--watchdog-ms N] COMMAND [ARGUMENT...]

Listens at PATH before COMMAND runs, hands that socket in as the first one, and prints a line for each word that
COMMAND says to its manager ("READY=1", "STATUS=..."). SIGTERM and SIGHUP are passed on. Ends when COMMAND does, with
its status, and leaves PATH as it is.
"""

import argparse
import os
import signal
import socket
import sys
import tempfile
import threading


def listen(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    sock.bind(path)
    os.chmod(path, 0o666)
    sock.listen(64)
    return sock


def run_child(command, listener, environment):
    pid = os.fork()
    if pid != 0:
        return pid
    fd = os.dup(listener.fileno()) if listener.fileno() == 3 else listener.fileno()
    os.dup2(fd, 3, inheritable=True)
    os.execvpe(command[0], command, dict(os.environ, LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", **environment))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    parser.add_argument("--watchdog-ms", type=int, default=0)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        words = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        words.bind(f"{scratch}/notify")
        environment = {"NOTIFY_SOCKET": f"{scratch}/notify"}
        if args.watchdog_ms > 0:
            environment["WATCHDOG_USEC"] = str(args.watchdog_ms * 1000)
        pid = run_child(args.command, listen(args.socket), environment)
        for number in signal.SIGTERM, signal.SIGHUP:
            signal.signal(number, lambda number, _: os.kill(pid, number))

        def say():
            while True:
                print(words.recv(4096).decode(), flush=True)

        threading.Thread(target=say, daemon=True).start()
        while True:
            ended, status = os.waitpid(pid, 0)
            if ended == pid:
                sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
