#!/usr/bin/env python3
"""A daemon that misbehaves on purpose, for the tests of the hook.

    fake_daemon.py SOCKET RECEIVED MODE [TEXT]

It listens on SOCKET, keeps the last request in the file RECEIVED, and with each connection does by MODE:
    answer   reads the request, sends TEXT, closes
    hold     the same, but never closes
    close    closes at once
    endless  reads the request, sends TEXT again and again until the other side goes
In TEXT the escapes of Python strings are known.
"""
import os
import socket
import sys
import threading


def read_request(connection):
    data = b""
    while not data.endswith(b"\nend\n"):
        more = connection.recv(65536)
        if not more:
            break
        data += more
    return data


def keep(path, data):
    temporary = f"{path}.{threading.get_ident()}"
    with open(temporary, "wb") as out:
        out.write(data)
    os.rename(temporary, path)


def serve(connection, received, mode, text, held):
    if mode != "close":
        keep(received, read_request(connection))
    try:
        if mode in ("answer", "hold", "endless"):
            connection.sendall(text)
        while mode == "endless":
            connection.sendall(text)
    except OSError:
        pass
    if mode == "hold":
        held.append(connection)
    else:
        connection.close()


def main():
    path, received, mode = sys.argv[1:4]
    text = sys.argv[4].encode().decode("unicode_escape").encode("latin-1") if len(sys.argv) > 4 else b""
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path + ".new")
    listener.listen(256)
    os.rename(path + ".new", path)  # whoever sees it can connect
    held = []
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, received, mode, text, held), daemon=True).start()


main()
