#!/usr/bin/env bats
# What an operator sees and steers with nncachectl.

load common

@test "status --json has the keys that are promised" {
	start_daemon
	ctl status --json >"$T/status"
	jq -e 'has("version") and has("pid") and has("uptime_s") and has("oldest_age_s") and has("pinned_paths")
		and has("pinned_nar_bytes") and has("unprotected")' "$T/status"
	jq -e '.queue | has("resolving") and has("ready") and has("delayed") and has("in_flight") and has("sent")
		and has("blocked") and has("failed") and has("done") and has("unfinished")' "$T/status"
	jq -e '.caches | length == 1' "$T/status"
	jq -e '.caches[0] | has("name") and has("url") and has("state") and has("unfinished") and has("in_flight")
		and has("failed") and has("uploaded_paths") and has("uploaded_bytes") and has("skipped_paths")
		and has("message")' "$T/status"
	[ "$(jq .pid "$T/status")" -eq "$(pid_of nncached)" ]
}

@test "status without a daemon says so, what the spool holds, and ends with 3" {
	path=$(make_path program)
	call_hook "$path"
	run ctl status
	[ "$status" -eq 3 ]
	[[ "$output" == *spool* ]]
	run ctl list
	[ "$status" -eq 3 ]
}

@test "wrong usage ends with 2" {
	for words in '' 'nonsense' 'status --nonsense' 'pause' 'show'; do
		# shellcheck disable=SC2086 # words
		run ctl $words
		[ "$status" -eq 2 ]
	done
}

@test "push uploads a closure, by path and by a link to it, and ends with 0" {
	start_daemon
	dependency=$(make_path dependency)
	path=$(make_path program 20000 "$dependency")
	other=$(make_path other)
	ln -s "$other" "$T/result"
	ctl push "$path" "$T/result"
	cache_has "$T/cache" "$path" "$dependency" "$other"
}

@test "push takes paths from standard input, and need not wait" {
	start_daemon
	path=$(make_path program)
	ctl push --no-wait --stdin <<<"$path"
	ctl wait --timeout 30s "$path"
	cache_has "$T/cache" "$path"
}

@test "push of a path that is not in the store is refused and takes nothing in" {
	start_daemon
	run ctl push "$T/store/00000000000000000000000000000000-nothing"
	[ "$status" -eq 1 ]
	[[ "$output" == *nothing* ]]
	status_is '.queue.unfinished == 0 and .queue.failed == 0'
}

@test "pause holds uploads back, resume lets them go on" {
	start_daemon
	ctl pause main
	path=$(build_path program)
	wait_until 20 status_is '.queue.unfinished == 1 and .queue.resolving == 0'
	status_is '.caches[0].state == "paused"'
	sleep 1
	cache_lacks "$T/cache" "$path"

	# A pause outlives the daemon.
	stop_daemon
	start_daemon
	status_is '.caches[0].state == "paused"'
	ctl resume main
	wait_until 30 cache_has "$T/cache" "$path"
	status_is '.caches[0].state == "ok"'
}

@test "a pause with an end ends by itself" {
	start_daemon
	ctl pause --all --for 2s
	path=$(build_path program)
	cache_lacks "$T/cache" "$path"
	wait_until 30 cache_has "$T/cache" "$path"
}

@test "pausing a cache that is not configured is an error" {
	start_daemon
	run ctl pause nowhere
	[ "$status" -eq 1 ]
	[[ "$output" == *nowhere* ]]
}

@test "list and show name what waits, and why" {
	write_config "http://127.0.0.1:1"
	start_daemon
	path=$(build_path program)
	wait_until 20 cache_is_out 1
	run ctl list
	[ "$status" -eq 0 ]
	[[ "$output" == *"$(basename "$path")"* ]]
	run ctl show "$path"
	[ "$status" -eq 0 ]
	[[ "$output" == *127.0.0.1* ]]
	ctl list --json | jq -e --arg path "$path" '[.. | strings] | index($path) != null'
	ctl show "$path" --json | jq -e .
	run ctl status
	[[ "$output" == *main* ]]
	[[ "$output" == *127.0.0.1* ]]
}

@test "wait ends with 5 when the time is over, and with 0 when all is there" {
	start_daemon
	ctl pause main --for 1h
	path=$(build_path program)
	run ctl wait --timeout 1s
	[ "$status" -eq 5 ]
	# What is paused until somebody resumes it does not go on by itself.
	ctl pause main
	run ctl wait --timeout 10s
	[ "$status" -eq 4 ]
	[[ "$output" == *"nncachectl resume main"* ]]
	ctl resume main
	ctl wait --timeout 30s "$path"
	cache_has "$T/cache" "$path"
}

@test "wait --tag waits for what a job handed over, and does not know other tags" {
	echo "NNCACHE_TAG=job-1" >>"$HOOK.env"
	start_daemon
	path=$(build_path program)
	ctl wait --tag job-1 --timeout 30s
	cache_has "$T/cache" "$path"
	run ctl wait --tag job-2 --timeout 5s
	[ "$status" -eq 1 ]
}

@test "retry tries failed paths again, forget drops them" {
	start_daemon
	path=$(make_path changed 20000)
	chmod u+w "$path" "$path/data"
	cp "$path/data" "$T/data"
	touch -r "$path/data" "$T/data"
	printf 'x' | dd of="$path/data" conv=notrunc status=none
	call_hook "$path"
	wait_until 50 only_failed_is_left 1
	run ctl wait --timeout 5s
	[ "$status" -eq 4 ]

	cp "$T/data" "$path/data"
	ctl retry --failed
	wait_until 30 uploaded
	cache_has "$T/cache" "$path"

	other=$(make_path changed-too 20000)
	chmod u+w "$other" "$other/data"
	printf 'x' | dd of="$other/data" conv=notrunc status=none
	call_hook "$other"
	wait_until 50 only_failed_is_left 1
	ctl forget --failed
	status_is '.queue.failed == 0'
	cache_lacks "$T/cache" "$other"
	wait_until 5 no_roots
}

@test "config show and config check" {
	start_daemon
	run ctl config show
	[ "$status" -eq 0 ]
	[[ "$output" == *"file://$T/cache"* ]]
	[[ "$output" != *"$(cut -d: -f2 "$T/etc/key.secret")"* ]]
	ctl config show --json | jq -e .
}

@test "what is allowed and may not have been meant is a warning, in config check and in status" {
	sed -i 's/^signing-key-file .*/sign = no/' "$T/etc/nncache.conf"
	run ctl config check "$T/etc/nncache.conf"
	[ "$status" -eq 0 ]
	[[ "$output" == *"warning: $T/etc/nncache.conf:8: [cache \"main\"]: sign = no: nothing is signed"* ]]
	[[ "$output" == *"The configuration is fine."* ]]
	ctl config check --json "$T/etc/nncache.conf" |
		jq -e '.ok and .messages == [] and (.warnings | length == 1 and (.[0] | test("sign = no")))'
	start_daemon
	run ctl status
	[ "$status" -eq 0 ]
	[[ "$output" == *"note: sign = no: nothing is signed here"* ]]
	ctl status --json | jq -e '.caches[0].note | test("^sign = no")'
}

@test "a cache that was found to be public is noted unless its roots are picked" {
	pick_port
	start_nginx
	write_config "http://127.0.0.1:$PORT" "netrc-file = $T/etc/netrc"
	echo "machine 127.0.0.1 login a password b" >"$T/etc/netrc"
	chmod 600 "$T/etc/netrc"
	start_daemon
	ctl status --json | jq -e '.caches[0].note == null'
	ctl push "$(make_path one)"
	wait_until 10 status_is '.caches[0].note | test("include-roots")'
	stop_daemon
	echo 'include-roots = .' >>"$T/etc/nncache.conf"
	start_daemon
	ctl push "$(make_path two)"
	ctl status --json | jq -e '.caches[0].note == null'
}

@test "text from outside is shown with its control characters escaped" {
	start_daemon
	path=$(make_path program)
	printf 'nncache 1 enqueue\ntag \xc2\x9b31m\npath %s\nend\n' "$path" | socat -t 5 - "UNIX-CONNECT:$SOCKET"
	run ctl show "$path"
	[[ "$output" != *$'\xc2\x9b'* ]]
	[[ "$output" != *$'\e'* ]]
}

# metrics_have FILE LINE...: it is what Prometheus reads, and says so.
metrics_have() {
	"$TOP/tests/support/check_metrics.py" "$1" >"$T/series" || return 1
	local file=$1 line
	shift
	for line; do
		grep -qxF -- "$line" "$T/series" || {
			echo "$file lacks: $line"
			return 1
		}
	done
}

@test "metrics are what Prometheus reads, on standard output and in a file" {
	start_daemon
	path=$(build_path program)
	ctl push "$path"
	ctl pause main
	waiting=$(build_path waiting)
	wait_until 20 status_is '.queue.unfinished == 1 and .queue.resolving == 0'
	ctl metrics >"$T/metrics"
	metrics_have "$T/metrics" 'nncache_up 1' 'nncache_config_valid 1' 'nncache_jobs{cache=main,state=ready} 1' \
		'nncache_jobs{cache=main,state=failed} 0' 'nncache_uploaded_paths_total{cache=main} 1' \
		'nncache_cache_state{cache=main,state=paused} 1' 'nncache_spool_files 0' 'nncache_gc_roots 1'
	grep -q 'nncache_requests_total [1-9]' "$T/series"
	[ -n "$waiting" ]

	umask 077
	ctl metrics --output "$T/nncache.prom"
	[ "$(stat -c %a "$T/nncache.prom")" = 644 ]
	metrics_have "$T/nncache.prom" 'nncache_up 1'
	[ "$(compgen -G "$T/nncache.prom*")" = "$T/nncache.prom" ]
}

@test "metrics without a daemon say that it is down, also in the file, and end with 3" {
	path=$(make_path program)
	call_hook "$path"
	export NNCACHE_SPOOL="$T/state/spool"
	run ctl metrics --output "$T/nncache.prom"
	[ "$status" -eq 3 ]
	metrics_have "$T/nncache.prom" 'nncache_up 0' 'nncache_spool_files 1'
	run ctl metrics --output "$T/nowhere/nncache.prom"
	[ "$status" -eq 1 ]
	[[ "$output" == *"$T/nowhere/nncache.prom"* ]]
}
