#!/usr/bin/env bats
# What has a ceiling stays below it, and what is beyond it is told so; see docs/limits.md.

load common

setup() {
	scratch_make
	pick_port
	write_config "http://127.0.0.1:$PORT" # nobody listens there
}

@test "with the cache down and the store's disk at the mark, builds go on and a collector frees space" {
	small_disk "$T/store" 64m
	set_option 'roots-min-free = 50%'
	start_daemon
	paths=()
	for name in a b c d; do
		paths+=("$(build_path "$name" 10000000)")
	done
	wait_until 20 cache_is_out 4
	nix-store --gc
	for path in "${paths[@]}"; do
		[ -e "$path/data" ]
	done
	stop_daemon
	start_daemon # it looks once a minute, and when it starts
	wait_until 20 no_roots
	status_is '.unprotected == 4 and .queue.unfinished == 4'
	grep -F 'below roots-min-free' "$T/log/nncached.log"
	nix-store --gc
	for path in "${paths[@]}"; do
		[ ! -e "$path" ]
	done
	path=$(build_path e 30000000)
	[ -e "$path/data" ]
}

@test "the soft limit of file descriptors is raised to the hard one, and a low one is said" {
	start nncached bash -c "ulimit -Sn 128; exec '$B/daemon/nncached' --config '$T/etc/nncache.conf'"
	wait_until 15 ctl status
	read -r _ _ _ soft hard _ < <(grep '^Max open files' "/proc/$(pid_of nncached)/limits")
	[ "$soft" = "$hard" ]
	[ "$soft" -gt 128 ]
	stop_daemon
	start nncached bash -c "ulimit -n 100; exec '$B/daemon/nncached' --config '$T/etc/nncache.conf'"
	wait_until 15 ctl status
	grep -F ', 100 are allowed' "$T/log/nncached.log"
}

@test "without file descriptors left connections wait, builds go on, and then all arrives" {
	mkdir -p "$T/cache"
	write_config "file://$T/cache"
	start nncached bash -c "ulimit -n 70; exec '$B/daemon/nncached' --config '$T/etc/nncache.conf'"
	wait_until 15 ctl status
	path=$(make_path a)
	start idlers python3 -c '
import socket, sys, time
all = []
for _ in range(200):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    all.append(s)
print("connected", flush=True)
time.sleep(60)' "$SOCKET"
	wait_until 20 grep connected "$T/log/idlers.log"
	wait_until 10 grep -F 'no connection taken' "$T/log/nncached.log"
	call_hook "$path" # waits for its deadline, and spools
	stop idlers KILL
	wait_until 60 cache_has "$T/cache" "$path"
	wait_until 10 uploaded
	[ "$(grep -cF 'no connection taken' "$T/log/nncached.log")" -lt 20 ]
}
