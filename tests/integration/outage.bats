#!/usr/bin/env bats
# Outages lose nothing and need no hand: of the cache, of the daemon, of both.

load common

setup() {
	scratch_make
	pick_port
	write_config "http://127.0.0.1:$PORT"
}

@test "with the cache down, a garbage collection deletes nothing that is queued; then all arrives" {
	start_daemon # nobody listens at the cache's port yet
	dependency=$(build_path dependency 50000)
	path=$(build_path program 64 "$dependency")
	other=$(make_path unprotected)
	wait_until 20 cache_is_out 2
	nix-store --gc
	[ ! -e "$other" ]
	[ -e "$path/data" ]
	[ -e "$dependency/data" ]

	start_nginx
	ctl retry --failed || true
	wait_until 50 uploaded
	cache_has "$T/www" "$path" "$dependency"
	wait_until 5 no_roots
}

@test "with the daemon down, the hook roots and spools, and exits 0 at once" {
	path=$(build_path program 50000) # OUT_PATHS is empty with Nix 2.8.0: the outputs come from the .drv
	call_hook "$path"
	[ "$(find "$T/state/spool" -name '*.req' | wc -l)" -eq 2 ]
	[ "$(find "$T/var/gcroots/nncache" -type l | wc -l)" -eq 2 ]
	nix-store --gc
	[ -e "$path/data" ]

	start_nginx
	start_daemon
	wait_until 30 uploaded
	wait_until 5 cache_has "$T/www" "$path"
	[ -z "$(find "$T/state/spool" -type f)" ]
	wait_until 30 no_roots # those of hooks are looked at once they are ten seconds old
}

@test "spool files written while the daemon runs are taken in" {
	start_nginx
	start_daemon
	path=$(make_path program)
	kill -STOP "$(pid_of nncached)"
	call_hook "$path"
	kill -CONT "$(pid_of nncached)"
	wait_until 30 cache_has "$T/www" "$path"
	wait_until 30 uploaded
}

@test "a daemon killed in the middle goes on where it was" {
	mkdir -p "$T/www"
	write_config "http://127.0.0.1:$PORT" 'upload-rate = 1M' 'upload-jobs = 2'
	start_nginx
	paths=()
	for i in 1 2 3 4 5 6 7 8; do
		paths+=("$(build_path "program-$i" 1000000)")
	done
	# All at once, from the spool: at this rate it takes eight seconds.
	start_daemon
	wait_until 20 has_narinfo "$T/www"
	stop_daemon KILL
	n_before=$(find "$T/www" -name '*.narinfo' | wc -l)
	[ "$n_before" -lt 8 ]
	nix-store --gc
	for path in "${paths[@]}"; do
		[ -e "$path/data" ] || cache_has "$T/www" "$path"
	done

	start_daemon
	wait_until 40 uploaded
	cache_has "$T/www" "${paths[@]}"
	come_back "http://127.0.0.1:$PORT" "${paths[@]}"
}

@test "the cache going away in the middle is waited for" {
	write_config "http://127.0.0.1:$PORT" 'upload-rate = 2M' 'upload-jobs = 2'
	start_nginx
	start_daemon
	paths=()
	for i in 1 2 3 4; do
		paths+=("$(build_path "program-$i" 1000000)")
	done
	stop nginx KILL
	sleep 1
	start_nginx
	wait_until 50 uploaded
	cache_has "$T/www" "${paths[@]}"
}

@test "a root that a killed hook left behind is taken in, not deleted" {
	start_nginx
	path=$(make_path program)
	ln -s "$path" "$T/var/gcroots/nncache/$(basename "$path").4711.1700000000000000000"
	touch -h -d '1 minute ago' "$T/var/gcroots/nncache"/*
	start_daemon
	wait_until 30 cache_has "$T/www" "$path"
	wait_until 30 no_roots
}

@test "a path whose root the daemon cannot make keeps the hook's until it can" {
	start_daemon
	path=$(make_path program)
	roots=$T/var/gcroots/nncache
	mkdir "$roots/$(basename "$path")" # in its way
	call_hook "$path"
	hooks=$(find "$roots" -type l -name "$(basename "$path").*")
	[ "$(readlink "$hooks")" = "$path" ]
	wait_until 20 status_is '.queue.ready == 1'
	[[ "$(ctl status)" == *"not protected from garbage collection"* ]]
	nix-store --gc
	[ -e "$path/data" ]

	rmdir "$roots/$(basename "$path")"
	touch -h -d '1 minute ago' "$hooks"
	kill -HUP "$(pid_of nncached)" # it tries again every few minutes by itself
	wait_until 20 test -L "$roots/$(basename "$path")"
	wait_until 20 test ! -L "$hooks"
	[[ "$(ctl status)" != *"not protected"* ]]
	nix-store --gc
	[ -e "$path/data" ]
	start_nginx
	ctl retry --failed || true
	wait_until 50 uploaded
	wait_until 20 no_roots
}

@test "a root that a power cut lost is made again before a collector runs" {
	start_daemon # nobody listens at the cache's port
	path=$(build_path program)
	wait_until 20 cache_is_out 1
	stop_daemon KILL
	rm "$T/var/gcroots/nncache"/*
	start_daemon
	nix-store --gc
	[ -e "$path/data" ]
}

@test "a spool file that is none is set aside and reported, and the others are taken in" {
	start_nginx
	path=$(make_path program)
	call_hook "$path"
	echo nonsense >"$T/state/spool/1700000000000000000.1.req"
	printf 'nncache 1 enqueue\npath /etc/passwd\nend\n' >"$T/state/spool/1700000000000000000.2.req"
	start_daemon
	wait_until 30 cache_has "$T/www" "$path"
	[ -e "$T/state/spool/1700000000000000000.1.req.bad" ]
	[ -e "$T/state/spool/1700000000000000000.2.req.bad" ]
	run ctl status
	[[ "$output" == *spool* ]]
	[ -z "$(find "$T/state/spool" -name '*.req')" ]
}

@test "a daemon ended in the middle by SIGTERM ends at once, and the next one goes on" {
	write_config "http://127.0.0.1:$PORT" 'upload-rate = 1M'
	start_nginx
	start_daemon
	path=$(build_path program 8000000)
	wait_until 20 status_is '.queue.in_flight == 1'
	start=$SECONDS
	stop_daemon
	[ "$STOPPED_WITH" -eq 0 ]
	[ $((SECONDS - start)) -le 10 ]
	cache_lacks "$T/www" "$path"
	write_config "http://127.0.0.1:$PORT"
	start_daemon
	wait_until 30 cache_has "$T/www" "$path"
}
