#!/usr/bin/env bats
# What a service manager sees: readiness, a socket that it hands in, reloads, the watchdog, the end.

load common

# start_managed [ARGUMENT...]: through the manager; its words go to $T/log/manager.log.
start_managed() {
	: >"$T/log/manager.log"
	start manager python3 "$TOP/tests/support/service_manager.py" --socket "$SOCKET" "$@" \
		"$B/daemon/nncached" --config "$T/etc/nncache.conf"
	wait_until 15 was_said 'READY=1'
}

was_said() {
	grep -qE "^$1" "$T/log/manager.log"
}

said_times() {
	[ "$(grep -cE "^$1" "$T/log/manager.log")" -ge "$2" ]
}

@test "it takes the socket that is handed in, and leaves it there" {
	start_managed
	path=$(build_path program)
	wait_until 20 cache_has "$T/cache" "$path"
	was_said 'STATUS=.* to go, 0 failed'
	stop manager
	[ "$STOPPED_WITH" -eq 0 ]
	[ -S "$SOCKET" ]
	was_said 'STOPPING=1'
	was_said 'EXTEND_TIMEOUT_USEC='
}

@test "a start that makes the queue's tables asks for the time that takes, and one that finds them does not" {
	start_managed
	sed '/READY=1/q' "$T/log/manager.log" | grep -qx 'EXTEND_TIMEOUT_USEC=60000000'
	stop manager
	rm "$SOCKET"
	start_managed
	[[ $(sed '/READY=1/q' "$T/log/manager.log") != *EXTEND_TIMEOUT_USEC* ]]
}

@test "a reload is told from its begin to its end" {
	start_managed
	kill -HUP "$(pid_of manager)"
	wait_until 15 said_times 'READY=1' 2
	was_said 'RELOADING=1'
	was_said 'MONOTONIC_USEC='
	build_path program
	wait_until 20 uploaded
}

@test "the watchdog hears from it" {
	start_managed --watchdog-ms 600
	wait_until 15 said_times 'WATCHDOG=1' 3
}

@test "the service of the system is closed as far as it can be" {
	command -v systemd-analyze || skip "no systemd-analyze here"
	# The directives that have to stay open are named in the unit.
	run systemd-analyze security --offline=true --threshold=20 "$B/systemd/system-nncached.service"
	[ "$status" -eq 0 ]
}
