#!/usr/bin/env bats
# A stop with time to drain: what can go goes, nothing new comes in, and nothing waits in vain. How a stop at
# once goes is in outage.bats and signals.bats.

load common

setup() {
	scratch_make
	pick_port
	write_config "http://127.0.0.1:$PORT" 'upload-jobs = 1'
}

signal_daemon() {
	kill -s "$1" "$(pid_of nncached)"
}

is_draining() {
	status_is '.stopping | startswith("draining, ")'
}

# hold_three: paths handed over to a cache that takes the connection and then does nothing.
hold_three() {
	start_nginx
	kill -STOP "$(pid_of nginx)"
	start_daemon
	paths=("$(make_path a)" "$(make_path b)" "$(make_path c)")
	call_hook "${paths[@]}"
	wait_until 20 status_is '.queue | .in_flight == 1 and .ready == 2'
}

# ends_by_itself: it is not stop's last means that ended it.
ends_by_itself() {
	stop_daemon "${1-0}"
	[ "$STOPPED_WITH" -eq 0 ]
}

@test "what is queued goes before the daemon ends, and what comes meanwhile waits in the spool" {
	set_option 'stop-drain = 1h'
	hold_three
	signal_daemon TERM
	wait_until 10 is_draining
	late=$(make_path late)
	call_hook "$late"
	[ "$(find "$T/state/spool" -name '*.req' | wc -l)" -eq 1 ]
	run ctl push "$late"
	[ "$status" -ne 0 ]
	[[ "$output" == *stopping* ]]
	kill -CONT "$(pid_of nginx)"
	ends_by_itself
	cache_has "$T/www" "${paths[@]}"
	cache_lacks "$T/www" "$late"
	[ "$(find "$T/state/spool" -name '*.req' | wc -l)" -eq 1 ]
	start_daemon
	wait_until 20 cache_has "$T/www" "$late"
}

@test "a second signal ends the draining" {
	set_option 'stop-drain = 1h'
	hold_three
	signal_daemon TERM
	wait_until 10 is_draining
	signal_daemon HUP # no time for that
	ends_by_itself INT
	kill -CONT "$(pid_of nginx)"
	start_daemon
	wait_until 20 uploaded
	cache_has "$T/www" "${paths[@]}"
}

@test "when the time is over the daemon ends, and the next one goes on" {
	set_option 'stop-drain = 1s'
	hold_three
	ends_by_itself TERM
	grep -F 'not drained left=3' "$T/log/nncached.log"
	kill -CONT "$(pid_of nginx)"
	start_daemon
	wait_until 20 uploaded
	cache_has "$T/www" "${paths[@]}"
}

@test "nothing to do, a cache that is down and one that is paused hold up no stop" {
	set_option 'stop-drain = 1h'
	start_daemon
	ends_by_itself TERM
	start_daemon # nobody listens at the cache's port
	path=$(make_path a)
	call_hook "$path"
	wait_until 20 cache_is_out 1
	ends_by_itself TERM
	start_daemon
	ctl pause --all
	ctl retry --failed || true
	call_hook "$(make_path b)"
	wait_until 20 status_is '.queue.ready >= 1'
	ends_by_itself TERM
}
