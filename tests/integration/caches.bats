#!/usr/bin/env bats
# Several caches beside each other: none holds up another, and each is its endpoint, whatever it is called.

load common

setup() {
	scratch_make
}

# two_caches URL [LINE...]: "main" is in $T/cache, "other" at URL.
two_caches() {
	local url=$1
	shift
	write_config "file://$T/cache" '' '[cache "other"]' "url = $url" "signing-key-file = $T/etc/key.secret" "$@"
}

# A server that answers what is asked with 404, and then takes no byte of what is sent.
start_sink() {
	start sink python3 -c '
import socket, threading
def serve(c):
    head = b""
    while True:
        while b"\r\n\r\n" not in head:
            head += c.recv(1)
        if head.startswith(b"PUT /nar/"):
            threading.Event().wait()
        if head.startswith(b"PUT"):
            length = int(head.lower().split(b"content-length:")[1].split()[0])
            while length > 0:
                length -= len(c.recv(length))
            c.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        else:
            c.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        head = b""
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
while True:
    c = s.accept()[0]
    c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    threading.Thread(target=serve, args=(c,), daemon=True).start()'
	wait_until 10 test -s "$T/log/sink.log"
	PORT=$(head -n 1 "$T/log/sink.log")
}

random_paths() {
	paths=()
	local i
	for i in $(seq "$1"); do
		head -c "$2" /dev/urandom >"$T/tmp/data-$i"
		paths+=("$(nix-store --add "$T/tmp/data-$i")")
	done
}

@test "a cache that takes no byte holds back no other, with little memory and much to send" {
	start_sink
	two_caches "http://127.0.0.1:$PORT" 'stall-timeout = 30m'
	set_option 'memory = 16M'
	set_option 'tmp-space = 40M'
	random_paths 24 3000000
	random_paths_of_main=("${paths[@]}")
	random_paths 4 12000000
	start_daemon
	call_hook "${random_paths_of_main[@]}" "${paths[@]}"
	wait_until 60 cache_has "$T/cache" "${random_paths_of_main[@]}" "${paths[@]}"
	status_is '.caches[0].unfinished == 0 and .caches[1].unfinished == 28 and .caches[1].in_flight > 0'
}

@test "a paused cache waits alone" {
	two_caches "file://$T/other"
	start_daemon
	ctl pause other
	path=$(build_path program)
	wait_until 30 cache_has "$T/cache" "$path"
	cache_lacks "$T/other" "$path"
	status_is '.caches[1].state == "paused" and .caches[1].unfinished == 1'
	ctl resume other
	wait_until 30 uploaded
	cache_has "$T/other" "$path"
}
