#!/usr/bin/env bats
# Run by a user for that user's own store, with nothing set but the XDG directories.

# shellcheck disable=SC2154 # mark sets the variables

load common
load marks

setup() {
	[ ! -e /run/nncache/nncached.sock ] || skip "nncached runs on this machine, and hook and ctl would ask it first"
	scratch_make
	# Programs where any user may read them, and a hook without its file of settings.
	mkdir -p "$T"/user/{hook,daemon,ctl} "$T/config/nncache" "$T/home/state" "$T/xdg"
	cp "$B/hook/hook" "$T/user/hook/"
	cp "$B/daemon/nncached" "$T/user/daemon/"
	cp "$B/ctl/nncachectl" "$T/user/ctl/"
	rm "$HOOK.env"
	ln -sf "$T/user/hook/hook" "$HOOK"
	rm -rf "$T/var/gcroots/nncache" "$T/state"
	chmod 700 "$T/xdg"
	export XDG_RUNTIME_DIR=$T/xdg XDG_STATE_HOME=$T/home/state XDG_CONFIG_HOME=$T/config
	as_user=(env)
	if [ "$(id -u)" = 0 ]; then
		chown -R 65534:65534 "$T"
		as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	fi
	pick_port
}

user_config() {
	printf '%s\n' '[cache "main"]' "url = $1" "signing-key-file = $T/etc/key.secret" "${@:2}" \
		>"$T/config/nncache/nncache.conf"
}

user_ctl() {
	timeout 60 "${as_user[@]}" "$T/user/ctl/nncachectl" "$@" 3>&-
}

start_user_daemon() {
	start nncached "${as_user[@]}" "$T/user/daemon/nncached" --log-level debug
	wait_until 15 user_ctl status
}

user_build() {
	timeout 60 "${as_user[@]}" nix-build --no-out-link "$T/path.nix" --argstr name "$1" 2>>"$T/log/nix-build.log" 3>&-
}

user_uploaded() {
	user_ctl status --json | jq -e '.queue.unfinished == 0 and .queue.resolving == 0'
}

@test "a user's daemon, hook and nncachectl find each other" {
	cp "$TOP/tests/support/path.nix" "$T/path.nix"
	user_config "file://$T/cache"
	start_user_daemon
	path=$(user_build program)
	wait_until 30 user_uploaded
	cache_has "$T/cache" "$path"
	[ -S "$T/xdg/nncache/nncached.sock" ]
	[ -d "$T/home/state/nncache" ]
	read_back "file://$T/cache" "$path"
}

@test "a user's queue is protected from garbage collection" {
	cp "$TOP/tests/support/path.nix" "$T/path.nix"
	user_config "http://127.0.0.1:$PORT"
	start_user_daemon
	path=$(user_build program)
	wait_until 20 user_ctl show "$path"
	"${as_user[@]}" nix-store --gc
	[ -e "$path/data" ]
}

@test "with a broken configuration the daemon takes in, and says what is wrong" {
	cp "$TOP/tests/support/path.nix" "$T/path.nix"
	user_config "file://$T/cache" 'compresion = zstd'
	start_user_daemon
	path=$(user_build program)
	run user_ctl status
	[[ "$output" == *"nncache.conf:4"*compresion* ]]
	cache_lacks "$T/cache" "$path"
	"${as_user[@]}" nix-store --gc
	[ -e "$path/data" ]

	user_config "file://$T/cache"
	kill -HUP "$(pid_of nncached)"
	wait_until 30 cache_has "$T/cache" "$path"
}

# start_strict KIND [ARGUMENT...]: sets PORT.
start_strict() {
	start "$1" python3 "$TOP/tests/support/$1_server.py" --store-dir "$T/store" "${@:2}"
	wait_until 15 test -s "$T/log/$1.log"
	read -r PORT _ <"$T/log/$1.log"
}

# holds PORT N
holds() {
	curl -sf "http://127.0.0.1:$1/_test/state" | jq -e "(.paths | length) == $2 and .dangling == []"
}

user_status_says() {
	user_ctl status | grep -F "$1"
}

# Where a user's secret could be seen, and is not.
no_mark_is_seen() {
	mkdir -p "$T/seen"
	user_ctl status >"$T/seen/status"
	user_ctl status --json >"$T/seen/status.json"
	user_ctl list --state all >"$T/seen/list"
	user_ctl list --state all --json >"$T/seen/list.json"
	user_ctl doctor --verbose >"$T/seen/doctor" || true
	argv_of_all >"$T/seen/argv"
	grep -q "$T/user/daemon/nncached" "$T/seen/argv"
	stop nncached KILL
	[ -s "$T/home/state/nncache/queue.db-wal" ]
	holds_a_mark -q "$T/config"
	no_mark_in "$T/log" "$T/seen" "$T/home" "$T/xdg" "$T/var"
}

@test "without a token-file, what the clients of Cachix and Attic keep for the user is taken, and shown nowhere" {
	mark cachix_token
	mark attic_token
	mark wrong_token
	key=$(cut -d: -f2 "$T/etc/key.secret")
	MARKS+=("$key")
	cp "$TOP/tests/support/path.nix" "$T/path.nix"
	start_strict cachix --token "$cachix_token" --public-key "$(cut -d: -f2 "$T/etc/key.public")"
	cachix=$PORT
	start_strict attic --token "$attic_token"
	attic=$PORT
	mkdir -p "$T/config/cachix" "$T/config/attic"
	printf '%s\n' "{ authToken = \"$cachix_token\"" ", hostname = \"http://127.0.0.1:$cachix\"" \
		", binaryCaches = [ { name = \"team\", secretKey = \"$key\" } ]" '}' >"$T/config/cachix/cachix.dhall"
	printf '%s\n' 'default-server = "local"' '' '[servers.local]' "endpoint = \"http://127.0.0.1:$attic/\"" \
		"token = \"$wrong_token\"" >"$T/config/attic/config.toml"
	printf '%s\n' '[cache "cachix"]' 'url = cachix://team' "endpoint = http://127.0.0.1:$cachix" '' \
		'[cache "attic"]' "url = attic+http://127.0.0.1:$attic/team" >"$T/config/nncache/nncache.conf"
	chmod -R go-rwx "$T/config/cachix" "$T/config/attic"
	[ "$(id -u)" != 0 ] || chown -R 65534:65534 "$T/config"
	start_user_daemon
	user_build program
	wait_until 30 holds "$cachix" 1

	# Logging in again mends it.
	wait_until 20 user_status_says 'token is missing, wrong or expired'
	sed -i "s/$wrong_token/$attic_token/" "$T/config/attic/config.toml"
	[ "$(id -u)" != 0 ] || chown -R 65534:65534 "$T/config"
	wait_until 60 holds "$attic" 1
	no_mark_is_seen

	# Files that are not understood, and a key of the environment that is none.
	sed -i 's/^token = .*/& of mine/' "$T/config/attic/config.toml"
	[ "$(id -u)" != 0 ] || chown -R 65534:65534 "$T/config"
	CACHIX_SIGNING_KEY=$wrong_token:$key$key start_user_daemon
	user_build second
	wait_until 20 user_status_says 'CACHIX_SIGNING_KEY: not a signing key'
	wait_until 20 user_status_says 'config.toml: line 5: expected the end of the line'
	no_mark_is_seen
	sed -i "s/authToken = .*/& ++ \"$wrong_token\"/; s|$key||" "$T/config/cachix/cachix.dhall"
	[ "$(id -u)" != 0 ] || chown -R 65534:65534 "$T/config"
	CACHIX_SIGNING_KEY=$key CACHIX_AUTH_TOKEN=$cachix_token start_user_daemon
	wait_until 60 holds "$cachix" 2
	no_mark_is_seen
	grep -F 'cachix.dhall: line 1: expected , or }' "$T/seen/doctor"
}
