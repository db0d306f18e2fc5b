#!/usr/bin/env bats
# The main job: a real build, the hook, the daemon, the cache, and a second store that reads it back.

load common

@test "a single-user nix-build reaches a file:// cache, odd names too, and comes back signed" {
	start_daemon
	dependency=$(build_path "$ODD_NAME" 100000)
	path=$(build_path program 1000 "$dependency")
	wait_until 30 uploaded

	cache_has "$T/cache" "$path" "$dependency"
	grep -q "^Sig: scratch-1:" "$T/cache/$(hash_of "$path").narinfo"
	grep -qx "StoreDir: $T/store" "$T/cache/nix-cache-info"
	read_back "file://$T/cache" "$path"
}

@test "a store that does not have the key refuses what the cache offers" {
	start_daemon
	path=$(build_path program)
	wait_until 30 uploaded

	run second_store nix-store --realise "$path" --option substituters "file://$T/cache" \
		--option trusted-public-keys ''
	[ "$status" -ne 0 ]
	second_store nix-store --realise "$path" --option substituters "file://$T/cache"
}

@test "a build through nix-daemon reaches nginx by PUT, odd names too, and comes back signed" {
	pick_port
	start_nginx
	write_config "http://127.0.0.1:$PORT/nix"
	start_nix_daemon
	start_daemon
	dependency=$(NIX_REMOTE=daemon build_path "$ODD_NAME" 3000000)
	path=$(NIX_REMOTE=daemon build_path program 1000 "$dependency")
	wait_until 30 uploaded

	cache_has "$T/www/nix" "$path" "$dependency"
	read_back "http://127.0.0.1:$PORT/nix" "$path"
	# Each object was sent once, and the NAR before its narinfo.
	[ "$(grep -c '"PUT /nix/nar/' "$T/log/nginx-access.log")" -eq 2 ]
	[ "$(grep -c '"PUT /nix/[a-z0-9]*\.narinfo' "$T/log/nginx-access.log")" -eq 2 ]
}

@test "what is uploaded leaves no root behind, and the hook none either" {
	start_daemon
	path=$(build_path program)
	wait_until 30 uploaded
	wait_until 5 no_roots

	nix-store --gc
	[ ! -e "$path" ]
}

@test "of paths handed over together, one needed by the other, each lets its root go" {
	needed=$(make_path needed)
	needing=$(make_path needing 64 "$needed")
	start_daemon
	call_hook "$needing" "$needed"

	wait_until 10 uploaded
	cache_has "$T/cache" "$needing" "$needed"
	wait_until 5 no_roots
}

@test "a path already in the cache is not sent again" {
	start_daemon
	path=$(build_path program 50000)
	wait_until 30 uploaded
	stop_daemon
	touch -d 2001-01-01 "$T/cache"/*.narinfo "$T/cache"/nar/*
	rm -rf "$T/state"
	mkdir -p "$T/state/spool"

	start_daemon
	call_hook "$path"
	wait_until 30 uploaded
	status_is '.caches[0].skipped_paths == 1 and .caches[0].uploaded_paths == 0'
	[ -z "$(find "$T/cache" -name '*.n*' -newermt 2002-01-01 ! -type d ! -name nix-cache-info)" ]
}

@test "the daemon ends with 0 when told to" {
	start_daemon
	stop_daemon
	[ "$STOPPED_WITH" -eq 0 ]
}
