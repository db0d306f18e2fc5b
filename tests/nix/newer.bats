#!/usr/bin/env bats
# A newer Nix: its nix-daemon calls our hook, our daemon reads its socket and its database, and its client reads back.

load suite

# A derivation of two outputs that is named by what it holds, and one that needs it.
put_floating() {
	cat >"$T/floating.nix" <<-'END_OF_NIX'
		let
		  floating = name: outputs: dependency: derivation {
		    inherit name outputs dependency;
		    system = builtins.currentSystem;
		    builder = "/bin/sh";
		    args = [ "-c" "for name in $outputs; do eval target=\\$$name; echo ${name} $name $dependency >$target; done" ];
		    __contentAddressed = true;
		    outputHashMode = "recursive";
		    outputHashAlgo = "sha256";
		  };
		in floating "needing" [ "out" ] (floating "needed" [ "out" "dev" ] "").dev
	END_OF_NIX
}

cache_is_down() {
	pick_port
	configure "http://127.0.0.1:$PORT"
}

narinfo() {
	cat "$1/$(hash_of "$2").narinfo"
}

as_nobody() {
	theirs setpriv --reuid=65534 --regid=65534 --clear-groups "$@" 2>>"$T/log/nobody.log"
}

@test "what its nix-daemon builds arrives, comes back by its client, and can be collected" {
	theirs nix --version | sed 's/^/# /' >&3
	start_daemon
	dependency=$(build_path dependency 100000)
	path=$(build_path program 1000 "$dependency")
	wait_until 30 uploaded

	cache_has "$T/cache" "$path" "$dependency"
	grep -q '^Sig: scratch-1:' "$T/cache/$(hash_of "$path").narinfo"
	read_back "file://$T/cache" "$path"
	wait_until 5 no_roots
	theirs nix-store --gc
	is_gone "$path"
}

@test "its nix-daemon alone and its database alone tell the same of a path" {
	dependency=$(build_path dependency)
	path=$(build_path program 1000 "$dependency")
	fixed=$(theirs nix-store --add-fixed sha256 "$T/path.nix")
	for store in "unix://$NIX_DAEMON_SOCKET_PATH?root=$T&state=$T/nowhere" "local?root=$T"; do
		rm -rf "$T/state"
		mkdir -p "$T/state/spool"
		configure "file://$T/by-${store%%[:?]*}"
		set_option "store = $store"
		set_option "gcroots-dir = $T$ROOTS"
		start nncached "$B/daemon/nncached" --config "$T/etc/nncache.conf"
		wait_until 15 ctl status
		ctl push "$path" "$fixed"
		wait_until 30 uploaded
		stop_daemon
	done
	for path in "$path" "$dependency" "$fixed"; do
		diff <(narinfo "$T/by-unix" "$path") <(narinfo "$T/by-local" "$path")
	done
	narinfo "$T/by-unix" "$fixed" | grep -q '^CA: fixed:sha256:'
}

@test "outputs of content-addressed derivations arrive, and come back by their paths" {
	put_floating
	start_daemon
	path=$(build "$T/floating.nix")
	wait_until 30 uploaded
	mapfile -t closure < <(theirs nix-store -qR "$path")
	[ ${#closure[@]} -eq 2 ]
	cache_has "$T/cache" "${closure[@]}"
	narinfo "$T/cache" "$path" | grep -q '^CA: fixed:r:sha256:'
	# Of which derivations they are is not told.
	[ -z "$(find "$T/cache" -name '*.doi')" ]
	read_back "file://$T/cache" "$path"
}

@test "hooks that run at a time hand over all there is" {
	start_daemon
	names=$(printf '"%s" ' few-{1..20})
	build "$T/closures.nix" --arg names "[ $names ]" --max-jobs 8 >"$T/first" &
	pids=$!
	for i in 1 2 3; do
		build_path "one-$i" >"$T/paths-$i" &
		pids+=" $!"
	done
	for pid in $pids; do
		wait "$pid"
	done
	mapfile -t paths < <(cat "$T/first" "$T"/paths-?)
	[ ${#paths[@]} -eq 23 ]
	wait_until 60 uploaded
	cache_has "$T/cache" "${paths[@]}"
	status_is '.caches[0].uploaded_paths == 43'
	wait_until 5 no_roots
}

@test "a path that only a --check build tells of arrives, and a second one leaves nothing to do" {
	start_daemon
	cat >"$T/same.nix" <<-'END_OF_NIX'
		derivation {
		  name = "same";
		  system = builtins.currentSystem;
		  outputs = [ "out" "dev" "doc" ];
		  builder = "/bin/sh";
		  args = [ "-c" "echo same >$out; echo $out >$dev; echo >$doc" ];
		}
	END_OF_NIX
	mapfile -t paths < <(build "$T/same.nix" -A all --option post-build-hook '')
	[ ${#paths[@]} -eq 3 ]
	status_is '.queue.done == 0'
	for _ in 1 2; do
		build "$T/same.nix" -A all --check
		wait_until 30 uploaded
		cache_has "$T/cache" "${paths[@]}"
		wait_until 5 no_roots
	done
	status_is '.caches[0].uploaded_paths == 3'
}

@test "what a user builds who is not trusted is handed over, and such a user cannot prevent it" {
	chown 65534:65534 "$T/tmp" "$T/home"
	start_daemon
	path=$(as_nobody nix-build --no-out-link "$T/path.nix" --argstr name mine --option post-build-hook '')
	grep -q "user nobody$" "$T/log/nix-daemon.log"
	wait_until 30 uploaded
	cache_has "$T/cache" "$path"
	read_back "file://$T/cache" "$path"
}

@test "run by a user who is not trusted, our daemon keeps paths from the collector by way of nix-daemon" {
	mkdir "$T/user"
	cp "$B/daemon/nncached" "$T/user"
	rm -rf "$T/state"
	chown 65534:65534 "$T" "$T/run" "$T/etc/key.secret"
	cache_is_down
	start nncached "$NIX_SUITE" beside "$T" setpriv --reuid=65534 --regid=65534 --clear-groups \
		"$T/user/nncached" --config "$T/etc/nncache.conf"
	wait_until 15 ctl status
	needed=$(build_path needed)
	path=$(build_path needing 64 "$needed")
	wait_until 30 cache_is_out 2
	no_roots
	theirs nix-store --gc
	exists "$path/data"
	exists "$needed/data"

	start_nginx
	wait_until 60 uploaded
	come_back "http://127.0.0.1:$PORT" "$path"
	theirs nix-store --gc
	is_gone "$path"
}

@test "its collector leaves what is queued, whether our daemon runs or was killed, and what hooks spooled" {
	cache_is_down
	start_daemon
	first=$(build_path first)
	wait_until 30 cache_is_out 1
	theirs nix-store --gc
	exists "$first/data"
	stop_daemon KILL
	second=$(build_path second)
	theirs nix-store --gc
	exists "$first/data"
	exists "$second/data"

	start_nginx
	start_daemon
	wait_until 60 uploaded
	read_back "http://127.0.0.1:$PORT" "$first" "$second"
}

@test "without a nix-daemon a build of root's hands over as well" {
	stop nix-daemon
	export NIX_REMOTE=
	start_daemon
	path=$(build_path alone)
	wait_until 30 uploaded
	cache_has "$T/cache" "$path"
	read_back "file://$T/cache" "$path"
}
