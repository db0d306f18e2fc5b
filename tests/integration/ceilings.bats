#!/usr/bin/env bats
# What has a ceiling stays below it, and what is beyond it is told so; see docs/limits.md.

load common

setup() {
	scratch_make
	pick_port
	write_config "http://127.0.0.1:$PORT" # nobody listens there
}

# roots_are PATH...: the daemon has GC roots for these, and no others.
roots_are() {
	diff <(ls "$T/var/gcroots/nncache") <(basename -a "$@" | sort)
}

# start_days_later N: the daemon anew, N days after now, and once it has looked at its roots.
start_days_later() {
	stop_daemon
	truncate -s $(($1 * 86400)) "$T/clock-off"
	start nncached env LD_PRELOAD="$B/tests/support/libclock_off.so" CLOCK_OFF="$T/clock-off" \
		ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0" "$B/daemon/nncached" \
		--config "$T/etc/nncache.conf"
	wait_until 15 ctl status
	ctl pause main # which it is: the queue answers this behind what the start asked of it
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

@test "of GC roots that are given up for space, what matters most is the last, and a minute has its bound" {
	printf '\n[priority "late"]\nmatch = -precious\npriority = 100\n' >>"$T/etc/nncache.conf"
	small_disk "$T/store" 16m
	set_option 'roots-min-free = 0%'
	head -c 1000000 /dev/urandom >"$T/tmp/bulk" # of the disk more than the percent that can be asked for
	nix-store --add "$T/tmp/bulk"
	mkdir "$T/tmp/files"
	for name in precious-{1..3} plain-{1..64}; do
		echo "$name" >"$T/tmp/files/$name"
	done
	mapfile -t precious < <(nix-store --add "$T"/tmp/files/precious-*)
	mapfile -t plain < <(nix-store --add "$T"/tmp/files/plain-*)
	start_daemon
	call_hook "${precious[@]}" # the oldest
	sleep 1
	call_hook "${plain[@]}"
	wait_until 20 cache_is_out 67
	stop_daemon
	set_option 'roots-min-free = 99%'
	start_daemon
	wait_until 20 status_is '.unprotected > 0'
	status_is '.unprotected == 64 and .queue.unfinished == 67'
	wait_until 20 roots_are "${precious[@]}"
}

@test "what waits for a paused cache is given up after roots-max-age, not before, and is still uploaded" {
	write_config "file://$T/cache"
	start_daemon
	ctl pause main
	path=$(build_path a)
	wait_until 20 status_is '.queue.ready == 1'
	for days in 13 15; do
		start_days_later "$days"
		roots_are "$path"
		status_is '.unprotected == 0'
		set_option 'roots-max-age = 16d'
	done
	set_option 'roots-max-age = 14d'
	start_days_later 15
	wait_until 20 no_roots
	status_is '.unprotected == 1 and .queue.unfinished == 1'
	grep -F 'older than roots-max-age' "$T/log/nncached.log"
	ctl resume main
	wait_until 20 cache_has "$T/cache" "$path"
	wait_until 20 uploaded
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
