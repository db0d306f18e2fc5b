#!/usr/bin/env bats
# A queue that is damaged or lost is built anew from GC roots and the spool; a disk that is full or fails
# loses nothing.

load common

setup() {
	scratch_make
	pick_port
	write_config "http://127.0.0.1:$PORT" # nobody listens there yet
	paths=()
}

# queue_up NAME...: paths handed over, their uploads put off; the daemon runs.
queue_up() {
	start_daemon
	also "$@"
	call_hook "${paths[@]}"
	wait_until 20 cache_is_out $#
}

# also NAME...: paths more, not handed over.
also() {
	for name; do
		paths+=("$(make_path "$name")")
	done
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
	says 'the queue did not know of GC roots of this daemon, and takes them in roots=3'
	all_arrive
}

@test "a reload that finds no queue answers when all roots are in the new one" {
	start_daemon
	python3 - "$T/var/gcroots/nncache" "$T/store" <<-END
		import os, sys
		for i in range(10000):
		    os.symlink("%s/%032d-x" % (sys.argv[2], i), "%s/%032d-x" % (sys.argv[1], i))
	END
	rm "$T/state/queue.db"*
	touch "$T/state/spool/17000000000000000000.1.req.bad" # which is news before that
	kill -HUP "$(pid_of nncached)"
	wait_until 10 says reloading
	status_is '.queue.unfinished == 10000'
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

@test "with the disk full the hook spools, and when there is room all arrives" {
	small_disk "$T/state" 4m
	mkdir "$T/spool"
	sed -i "s|^NNCACHE_SPOOL=.*|NNCACHE_SPOOL=$T/spool|" "$HOOK.env"
	sed -i "s|^spool-dir.*|spool-dir = $T/spool|" "$T/etc/nncache.conf"
	queue_up a b
	fill_disk "$T/state"
	also c d
	call_hook "${paths[2]}"
	[ "$(find "$T/spool" -name '*.req' | wc -l)" -eq 1 ]
	wait_until 20 says 'spool file stays'
	wait_until 20 says 'the queue cannot be used'
	ctl status # it still answers
	free_disk "$T/state"
	start_nginx
	wait_until 60 cache_has "$T/www" "${paths[@]:0:3}" # by itself: the spool is looked at every 30 s
	call_hook "${paths[3]}"
	wait_until 20 cache_has "$T/www" "${paths[3]}"
	wait_until 20 uploaded
	[ -z "$(find "$T/spool" -name '*.req*')" ]
}

@test "a disk that fills up while uploads are under way does not keep them from their end" {
	write_config "http://127.0.0.1:$PORT" 'upload-jobs = 2'
	small_disk "$T/state" 16m
	start_nginx
	kill -STOP "$(pid_of nginx)"
	start_daemon
	also a b c d e f
	call_hook "${paths[@]}"
	wait_until 20 status_is '.queue | .in_flight == 2 and .ready == 4'
	fill_disk "$T/state"
	run dd if=/dev/zero of="$T/state/one-more" bs=64k count=1
	[ "$status" -ne 0 ]
	kill -CONT "$(pid_of nginx)"
	wait_until 30 uploaded
	cache_has "$T/www" "${paths[@]}"
}

@test "a disk without room for temporary files fails no upload" {
	set_option 'give-up-after = 1'
	small_disk "$T/state" 24m
	start_nginx
	start_daemon
	head -c 12M /dev/urandom >"$T/large"
	large=$(nix-store --add "$T/large")
	small=$(make_path small)
	head -c 16M /dev/zero >"$T/state/filler"
	call_hook "$large" "$small"
	wait_until 20 cache_has "$T/www" "$small"
	wait_until 20 says 'temporary file: No space left on device'
	ctl list --json | jq -e '.jobs | length == 1 and .[0].state == "delayed" and .[0].attempts == 0'
	free_disk "$T/state"
	ctl retry "$large"
	wait_until 20 uploaded
	cache_has "$T/www" "$large"
}

@test "with the spool on the same full disk the root is what is left, and it is enough" {
	small_disk "$T/state" 4m
	queue_up a
	fill_disk "$T/state"
	also b
	call_hook "${paths[1]}"
	[ -z "$(find "$T/state/spool" -name '*.req')" ]
	[ "$(find "$T/var/gcroots/nncache" -name "$(basename "${paths[1]}").*" | wc -l)" -eq 1 ]
	nix-store --gc
	[ -e "${paths[1]}/data" ]
	free_disk "$T/state"
	age_roots
	kill -HUP "$(pid_of nncached)" # it looks at its roots every few minutes by itself
	all_arrive
}

@test "a failed fsync ends the daemon, and the next one has all that was handed over" {
	export FAIL_FSYNC=$T/fail
	export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0
	start nncached env LD_PRELOAD="$B/tests/support/libfail_fsync.so" "$B/daemon/nncached" \
		--config "$T/etc/nncache.conf"
	wait_until 15 ctl status
	also a b
	call_hook "${paths[0]}"
	touch "$T/fail"
	call_hook "${paths[1]}"
	[ "$(find "$T/state/spool" -name '*.req' | wc -l)" -eq 1 ]
	stop_daemon
	[ "$STOPPED_WITH" -eq 1 ]
	says 'the queue cannot be trusted any more'
	age_roots
	start_daemon
	[ -z "$(compgen -G "$T/state/queue.db.damaged*")" ]
	all_arrive
}
