#!/usr/bin/env bats
# A hundred real paths at once, and the order in which a cache sees them.

load common

setup() {
	scratch_make
	command -v dpkg-query >/dev/null || skip "there is no dpkg here to take real files from"
	python3 "$TOP/tests/support/debian_closure.py" --paths 110 --max-kb 2000 "$T/lists" >"$T/closure.nix"
}

build_closure() {
	timeout 60 nix-build --no-out-link "$T/closure.nix" >"$T/paths" 2>"$T/log/nix-build.log" 3>&-
	mapfile -t paths <"$T/paths"
	n_paths=$(nix-store -qR "${paths[@]}" | wc -l)
	[ "$n_paths" -ge 100 ]
}

watch() {
	start watch "$TOP/tests/support/watch_cache.py" "$1" "$2" 50
	wait_until 5 grep -q watching "$T/log/watch.log"
}

# The watcher ends by itself once it has seen all, or something wrong.
watcher_is_content() {
	wait "$(pid_of watch)" || {
		cat "$T/log/watch.log"
		return 1
	}
	grep "narinfos, each after what it needs" "$T/log/watch.log"
}

@test "a closure of a hundred real paths is never dangling in a file:// cache, and comes back" {
	mkdir -p "$T/cache/nar"
	write_config "file://$T/cache"
	start_daemon
	watch "$T/cache" 110
	build_closure
	watcher_is_content
	wait_until 30 uploaded

	[ "$(find "$T/cache" -name '*.narinfo' | wc -l)" -eq "$n_paths" ]
	read_back "file://$T/cache" "${paths[@]}"
}

@test "a closure of a hundred real paths is never dangling on nginx, and comes back" {
	mkdir -p "$T/www/nar"
	pick_port
	start_nginx
	write_config "http://127.0.0.1:$PORT"
	# All at once: the queue is full before the first upload.
	build_closure
	[ "$(find "$T/state/spool" -name '*.req' | wc -l)" -eq 110 ]
	watch "$T/www" 110
	start_daemon
	watcher_is_content
	wait_until 30 uploaded

	[ "$(find "$T/www" -name '*.narinfo' | wc -l)" -eq "$n_paths" ]
	read_back "http://127.0.0.1:$PORT" "${paths[@]}"
}

@test "the watcher finds a narinfo that comes before its NAR or its reference" {
	mkdir -p "$T/cache/nar"
	narinfo='URL: nar/x.nar.zst\nFileSize: 2\nReferences: 11111111111111111111111111111111-b\nSig: k:s\n'
	for missing in nar reference size; do
		rm -f "$T"/cache/*.narinfo "$T"/cache/nar/*
		watch "$T/cache" 2
		[ $missing = nar ] || printf '%s' "$([ $missing = size ] && echo xyz || echo xy)" >"$T/cache/nar/x.nar.zst"
		[ $missing = reference ] || printf 'URL: nar/x.nar.zst\nFileSize: 2\nSig: k:s\n' >"$T/tmp/b"
		[ $missing = reference ] || mv "$T/tmp/b" "$T/cache/11111111111111111111111111111111.narinfo"
		printf '%b' "$narinfo" >"$T/tmp/a"
		mv "$T/tmp/a" "$T/cache/00000000000000000000000000000000.narinfo"
		run watcher_is_content
		[ "$status" -ne 0 ]
		[[ "$output" == *"before it:"* ]]
		rm "$T/log/watch.log" "$T/run/watch.pid"
	done
}
