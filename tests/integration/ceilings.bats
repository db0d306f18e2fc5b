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
	wait_until 20 status_is '.queue.delayed == 4'
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
