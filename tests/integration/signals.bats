#!/usr/bin/env bats
# Signals that come while much is under way: nothing hangs, nothing is lost.

load common

setup() {
	scratch_make
	mkdir -p "$T/www"
	start cache python3 "$TOP/tests/support/cache_server.py" --root "$T/www"
	wait_until 10 test -s "$T/log/cache.log"
	PORT=$(head -n 1 "$T/log/cache.log")
}

in_flight() {
	status_is '.queue.in_flight >= 1'
}

@test "a stop during a reload is a stop, also with a cache that does not answer" {
	write_config "http://127.0.0.1:$PORT/stall"
	start_daemon
	call_hook "$(make_path a 3000000)" "$(make_path b)"
	wait_until 10 in_flight
	kill -HUP "$(pid_of nncached)"
	stop_daemon
	[ "$STOPPED_WITH" -eq 0 ]
}

@test "reloads during reloads: the last configuration is the one in force, and all arrives" {
	write_config "http://127.0.0.1:$PORT/slow"
	start_daemon
	path=$(make_path a 3000000)
	call_hook "$path" "$(make_path b)"
	wait_until 10 in_flight
	kill -HUP "$(pid_of nncached)"
	write_config "file://$T/cache"
	kill -HUP "$(pid_of nncached)"
	kill -HUP "$(pid_of nncached)"
	wait_until 20 status_is '.caches[0].url | startswith("file:")'
	ctl push --no-wait "$path"
	wait_until 20 cache_has "$T/cache" "$path"
	stop_daemon
	[ "$STOPPED_WITH" -eq 0 ]
}

@test "what is done while the parts are closed leaves no root behind" {
	write_config "file://$T/cache"
	start_daemon
	paths=()
	for i in $(seq 60); do
		paths+=("$(make_path "p$i")")
	done
	for path in "${paths[@]}"; do
		ctl push --no-wait "$path"
		kill -HUP "$(pid_of nncached)"
	done
	wait_until 50 uploaded
	wait_until 5 no_roots
	run grep -c 'stray root taken in' "$T/log/nncached.log"
	[ "$output" = 0 ]
}

@test "stopped at any moment, it gives all back and goes on at the next start" {
	write_config "http://127.0.0.1:$PORT/slow" 'upload-jobs = 4'
	paths=()
	for i in 1 2 3 4 5 6; do
		paths+=("$(make_path "p$i" $((i * 500000)) "${paths[@]:0:1}")")
	done
	call_hook "${paths[@]}"
	for delay in 0.1 0.4 0.9 1.3 1.7; do
		start_daemon
		sleep "$delay"
		stop_daemon
		[ "$STOPPED_WITH" -eq 0 ]
	done
	start_daemon
	wait_until 60 uploaded
	cache_has "$T/www" "${paths[@]}"
	wait_until 30 no_roots
}

@test "log-level of the configuration counts, and a reload changes it" {
	write_config "file://$T/cache"
	sed -i '/^\[daemon\]/a log-level = debug' "$T/etc/nncache.conf"
	start_daemon
	build_path program
	wait_until 20 uploaded
	grep -q '^<7>' "$T/log/nncached.log"
	sed -i 's/^log-level = .*/log-level = error/' "$T/etc/nncache.conf"
	kill -HUP "$(pid_of nncached)"
	wait_until 20 is_quiet
}

# What is uploaded adds nothing to the log.
is_quiet() {
	local before
	before=$(wc -l <"$T/log/nncached.log")
	ctl push "$(make_path "quiet-$RANDOM")"
	[ "$(wc -l <"$T/log/nncached.log")" -eq "$before" ]
}
