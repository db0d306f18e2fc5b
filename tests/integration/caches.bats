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

# Takes all but the first NAR, of which it reads nothing, and keeps none of it.
start_reluctant() {
	start reluctant python3 -c '
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
first = threading.Lock()
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def do_GET(self):
        self.answer(404)
    do_HEAD = do_GET
    def do_PUT(self):
        if self.path.startswith("/nar/") and first.acquire(blocking=False):
            print("held", flush=True)
            threading.Event().wait()
        if "Content-Length" in self.headers:
            self.rfile.read(int(self.headers["Content-Length"]))
        else:
            while (n := int(self.rfile.readline(), 16)) > 0:
                self.rfile.read(n + 2)
            self.rfile.readline()
        self.answer(201)
    def log_message(self, *args):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()'
	wait_until 10 test -s "$T/log/reluctant.log"
	PORT=$(head -n 1 "$T/log/reluctant.log")
}

@test "a path larger than the temporary space, stuck on one cache, holds up nothing else of any" {
	start_reluctant
	two_caches "http://127.0.0.1:$PORT" 'stall-timeout = 30m'
	set_option 'tmp-space = 20M'
	random_paths 1 40000000
	huge=${paths[0]}
	start_daemon
	call_hook "$huge"
	wait_until 60 grep -q held "$T/log/reluctant.log"
	wait_until 60 cache_has "$T/cache" "$huge"
	random_paths 3 12000000
	call_hook "${paths[@]}"
	call_hook "$(make_path small)"
	wait_until 60 status_is '.caches[0].unfinished == 0 and .caches[1].unfinished == 1 and .caches[1].in_flight == 1'
	cache_has "$T/cache" "${paths[@]}"
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

was_ready() {
	[ "$(grep -c ready "$T/log/nncached.log")" -gt "$1" ]
}

reload() {
	local n
	n=$(grep -c ready "$T/log/nncached.log")
	kill -HUP "$(pid_of nncached)"
	wait_until 20 was_ready "$n"
}

@test "a renamed cache is the same one, a changed one starts anew, and a reload says what is different" {
	two_caches "file://$T/other" 'upload-jobs = 3'
	start_daemon
	path=$(build_path program)
	wait_until 30 uploaded
	ctl pause other
	late=$(build_path late)
	wait_until 30 status_is '.caches[1].unfinished == 1 and .caches[0].unfinished == 0'

	sed -i 's/^\[cache "other"\]/[cache "renamed"]/; s/^upload-jobs.*/upload-jobs = 4/' "$T/etc/nncache.conf"
	reload
	grep 'config new cache=renamed' "$T/log/nncached.log"
	grep 'config removed cache=other' "$T/log/nncached.log"
	status_is '.caches[1] | .name == "renamed" and .unfinished == 1 and .done == 1'

	sed -i "s,^url = file://$T/other,url = file://$T/anew," "$T/etc/nncache.conf"
	reload
	grep 'config changed cache=renamed key=url' "$T/log/nncached.log"
	status_is '.caches[1] | .unfinished == 0 and .done == 0'
	ctl push "$path"
	cache_has "$T/anew" "$path"
	cache_lacks "$T/other" "$late"

	sed -i "s,^url = file://$T/anew,url = file://$T/other," "$T/etc/nncache.conf"
	reload
	status_is '.caches[1].unfinished == 1'
	ctl resume renamed
	wait_until 30 uploaded
	cache_has "$T/other" "$late"
}

@test "what waits for a cache that is taken out of the configuration is blocked, and goes once it is back" {
	two_caches "file://$T/other"
	start_daemon
	ctl pause other
	path=$(build_path program)
	wait_until 30 status_is '.caches[0].unfinished == 0 and .caches[1].unfinished == 1'
	cp "$T/etc/nncache.conf" "$T/etc/both.conf"
	sed -i '/^\[cache "other"\]/,$d' "$T/etc/nncache.conf"
	reload
	ctl list --state blocked --json |
		jq -e ".jobs | length == 1 and .[0].path == \"$path\" and (.[0] | tostring | contains(\"not configured\"))"
	late=$(build_path late)
	wait_until 30 cache_has "$T/cache" "$late"

	# Elsewhere by its endpoint is another cache, of which nothing is known.
	cp "$T/etc/both.conf" "$T/etc/nncache.conf"
	sed -i "s,^url = file://$T/other,url = cachix://team\nendpoint = http://127.0.0.1:9," "$T/etc/nncache.conf"
	reload
	status_is '.caches[1].unfinished == 0'

	cp "$T/etc/both.conf" "$T/etc/nncache.conf"
	reload
	status_is '.caches[1].unfinished == 1'
	ctl resume other
	wait_until 30 uploaded
	cache_has "$T/other" "$path"
	cache_lacks "$T/other" "$late" # handed over while there was no such cache
}

@test "a changed endpoint is another cache, the one before comes back with it" {
	printf 'token\n' >"$T/etc/token"
	chmod 600 "$T/etc/token"
	two_caches cachix://team 'endpoint = http://127.0.0.1:9' "token-file = $T/etc/token"
	start_daemon
	build_path program
	wait_until 30 status_is '.caches[0].unfinished == 0 and .caches[1].unfinished == 1'
	sed -i 's,^endpoint = .*,endpoint = http://127.0.0.1:10,' "$T/etc/nncache.conf"
	reload
	grep 'config changed cache=other key=endpoint' "$T/log/nncached.log"
	status_is '.caches[1].unfinished == 0'
	sed -i 's,^endpoint = .*,endpoint = http://127.0.0.1:9/,' "$T/etc/nncache.conf"
	reload
	status_is '.caches[1].unfinished == 1'
}

@test "rate and slots are each cache's own" {
	pick_port
	start_nginx
	two_caches "http://127.0.0.1:$PORT" 'upload-jobs = 1' 'upload-rate = 100K'
	random_paths 12 400000
	start_daemon
	call_hook "${paths[@]}"
	wait_until 60 status_is '.queue.resolving == 0 and .caches[0].unfinished == 0'
	cache_has "$T/cache" "${paths[@]}"
	# 4.8 MB at that rate take 48 s.
	status_is '.caches[1].unfinished > 4'
	wait_until 20 status_is '.caches[1].in_flight == 1'
}

@test "the breaker of one cache opens beside another that works" {
	pick_port
	two_caches "http://127.0.0.1:$PORT" # nobody listens there yet
	start_daemon
	paths=("$(make_path one)" "$(make_path two)" "$(make_path three)" "$(make_path four)")
	call_hook "${paths[@]}"
	wait_until 30 status_is '.caches[1] | .message_kind == "transient" and .ready == 4'
	wait_until 30 status_is '.caches[0] | .state == "ok" and .unfinished == 0 and .message_kind == null'
	later=$(build_path later)
	wait_until 30 cache_has "$T/cache" "${paths[@]}" "$later"
	start_nginx
	wait_until 60 uploaded
	cache_has "$T/www" "${paths[@]}" "$later"
	ctl list --state all --json | jq -e '[.jobs[].attempts] | add == 0'
}
