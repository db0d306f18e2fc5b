#!/usr/bin/env bats
# A queue that is damaged or lost is built anew from GC roots and the spool; a disk that is full or fails
# loses nothing.

load common

setup() {
	scratch_make
	pick_port
	write_config "http://127.0.0.1:$PORT" # nobody listens there yet
}

# queue_up NAME...: paths handed over, their uploads put off; the daemon runs.
queue_up() {
	start_daemon
	paths=()
	for name; do
		paths+=("$(make_path "$name")")
	done
	call_hook "${paths[@]}"
	wait_until 20 status_is ".queue.delayed == $#"
}

# all_arrive: what was queued gets there, and nothing is left behind but what was set aside.
all_arrive() {
	start_nginx
	ctl retry --failed || true
	wait_until 60 uploaded
	cache_has "$T/www" "${paths[@]}"
	wait_until 40 no_roots
}

says() {
	grep -F "$1" "$T/log/nncached.log"
}

# A hook's root counts as left behind only once it is ten seconds old.
age_roots() {
	touch -h -d '1 minute ago' "$T/var/gcroots/nncache"/*
}

@test "a queue that is garbage is set aside, and all that was queued arrives" {
	queue_up a b c
	stop_daemon
	printf 'garbage garbage garbage' | dd of="$T/state/queue.db" conv=notrunc status=none
	cp "$T/state/queue.db" "$T/garbage"
	age_roots
	start_daemon
	says 'the queue was damaged and is built anew from GC roots and the spool'
	damaged=$(compgen -G "$T/state/queue.db.damaged-*Z")
	cmp "$damaged" "$T/garbage"
	run ctl status
	[[ "$output" == *"a damaged queue was set aside: $damaged"* ]]
	all_arrive
	rm "$damaged"
	stop_daemon
	start_daemon
	run ctl status
	[[ "$output" != *"set aside"* ]]
}

@test "damage that is met while it runs ends the daemon, and the next start builds the queue anew" {
	queue_up a b c
	stop_daemon
	# Behind the first pages, which the start looks at: the tables' own.
	root=$(sqlite3 "$T/state/queue.db" "SELECT rootpage FROM sqlite_schema WHERE name = 'reference'")
	dd if=/dev/urandom of="$T/state/queue.db" bs=4096 seek=$((root - 1)) count=1 conv=notrunc status=none
	age_roots
	start nncached "$B/daemon/nncached" --config "$T/etc/nncache.conf"
	wait_until 20 says 'the queue cannot be trusted any more'
	stop_daemon
	[ "$STOPPED_WITH" -eq 1 ]
	[ -e "$T/state/queue.db.damaged" ]
	start_daemon
	[ ! -e "$T/state/queue.db.damaged" ]
	compgen -G "$T/state/queue.db.damaged-*Z"
	all_arrive
}

@test "a queue whose log was damaged, or that is gone altogether, loses no path" {
	queue_up a b c
	stop_daemon KILL
	size=$(stat -c %s "$T/state/queue.db-wal")
	dd if=/dev/urandom of="$T/state/queue.db-wal" bs=1 seek=$((size / 2)) count=64 conv=notrunc status=none
	age_roots
	start_daemon
	wait_until 20 status_is '.queue.unfinished == 3'
	stop_daemon KILL
	rm "$T/state/queue.db"*
	age_roots
	start_daemon
	all_arrive
}

@test "a queue of a newer version is refused, and left where it is" {
	start_daemon
	stop_daemon
	sqlite3 "$T/state/queue.db" 'PRAGMA user_version = 1000'
	run timeout 20 "$B/daemon/nncached" --config "$T/etc/nncache.conf"
	[ "$status" -eq 1 ]
	[[ "$output" == *"was written by a newer version"* ]]
	[ -e "$T/state/queue.db" ]
	[ -z "$(compgen -G "$T/state/queue.db.damaged*")" ]
}

@test "a second daemon on the same state is refused with a sentence, and the first goes on" {
	start_daemon
	sed "s|^socket.*|socket = $T/run/second.sock|" "$T/etc/nncache.conf" >"$T/etc/second.conf"
	run timeout 20 "$B/daemon/nncached" --config "$T/etc/second.conf"
	[ "$status" -eq 1 ]
	[[ "$output" == *"queue.db: another nncached uses this database"* ]]
	ctl status
}
