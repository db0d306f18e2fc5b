#!/usr/bin/env bats
# attic:// against a strict server (tests/support/attic_server.py), whose cache a real Nix reads.

load common

setup() {
	scratch_make
	start_server
	echo open-sesame >"$T/etc/token"
	chmod 600 "$T/etc/token"
	attic_config
}

# start_server [ARGUMENT...]
start_server() {
	: >"$T/log/attic.log"
	start attic python3 "$TOP/tests/support/attic_server.py" --store-dir "$T/store" --log "$T/log/attic-requests" "$@"
	wait_until 15 test -s "$T/log/attic.log"
	read -r PORT KEY <"$T/log/attic.log"
}

# attic_config [LINE...]
attic_config() {
	write_config "attic+http://127.0.0.1:$PORT/team" "token-file = $T/etc/token" "$@"
}

state_is() {
	curl -sf "http://127.0.0.1:$PORT/_test/state" | jq -e "$1"
}

set_mode() {
	curl -sf -d "$1" "http://127.0.0.1:$PORT/_test/mode"
}

# The store of the reader trusts the cache's own key, and no other.
trust_the_cache() {
	sed -i "s|^trusted-public-keys = .*|trusted-public-keys = $KEY|" "$T/etc/nix.conf"
}

@test "a closure goes to an Attic server, references first, odd names too, and comes back with its signature" {
	start_daemon
	a=$(build_path "$ODD_NAME")
	b=$(build_path b 3000000 "$a")
	c=$(build_path c 64 "$a" "$b")
	wait_until 30 uploaded
	state_is '(.paths | length) == 3 and .dangling == [] and .incomplete == 0'
	no_roots
	status_is '.caches[0].note | test("include-roots")' # it says that it is public
	trust_the_cache
	read_back "http://127.0.0.1:$PORT/team" "$c"
}

@test "what is there is asked in one request, and not sent again" {
	start_daemon
	paths=()
	for i in 1 2 3 4 5 6 7 8; do
		paths+=("$(make_path "p$i")")
	done
	ctl push --no-wait "${paths[@]}"
	ctl wait
	state_is '(.paths | length) == 8 and .uploads == 8 and .lookups <= 4'
	stop_daemon
	rm -rf "$T/state"
	start_daemon
	ctl push "${paths[@]}"
	state_is '.uploads == 8'
}

@test "equal contents under two names are two paths of the cache" {
	start_daemon
	a=$(make_path same)
	mkdir "$T/copy"
	cp "$a/data" "$T/copy/data"
	b=$(nix-store --add "$T/copy")
	mv "$T/copy" "$T/other"
	c=$(nix-store --add "$T/other")
	[ "$b" != "$c" ]
	ctl push "$a" "$b" "$c"
	state_is '(.paths | length) == 3 and .uploads == 3'
}

@test "a daemon killed in the middle of a NAR leaves nothing there, and the next one sends it" {
	attic_config 'upload-rate = 1M'
	start_daemon
	path=$(build_path big 8000000)
	wait_until 20 status_is '.queue.in_flight == 1'
	stop_daemon KILL
	wait_until 20 state_is '.incomplete == 1 and .paths == []'
	attic_config
	start_daemon
	wait_until 30 uploaded
	state_is "(.paths == [\"$path\"])"
}

@test "killed when a path is there, before the queue knows: it is not sent again, and nothing dangles" {
	local a b
	a=$(make_path a)
	b=$(make_path b 64 "$a")
	killed_at UPLOAD_NAR_SENT "$b"
	state_is ".paths == [\"$a\"]"
	start_armed UPLOAD_NAR_SENT
	died_at UPLOAD_NAR_SENT
	state_is '(.paths | length) == 2'
	arrives
	state_is '(.paths | length) == 2 and .uploads == 2 and .dangling == [] and .incomplete == 0'
	trust_the_cache
	come_back "http://127.0.0.1:$PORT/team" "$b"
}

@test "tokens: a wrong one, one that may only read, and a good one in its place" {
	echo wrong >"$T/etc/token"
	start_daemon
	path=$(build_path program)
	wait_until 20 status_says 'token is missing, wrong or expired'
	echo open-sesame-ro >"$T/etc/token"
	stop_daemon
	start_daemon
	ctl retry "$path"
	wait_until 20 status_says 'must have the permission to push'
	echo open-sesame >"$T/etc/token"
	stop_daemon
	start_daemon
	ctl retry "$path"
	wait_until 30 uploaded
	state_is "(.paths == [\"$path\"])"
	run grep -rE 'open-sesame' "$T/log/nncached.log" "$T/state"
	[ "$status" -eq 1 ]
}

status_says() {
	ctl status | grep -F "$1"
}

@test "a cache that is not there, of another store, elsewhere, or not an Attic server at all" {
	write_config "attic+http://127.0.0.1:$PORT/nobody" "token-file = $T/etc/token"
	start_daemon
	path=$(build_path program)
	wait_until 20 status_says 'NoSuchCache'
	stop_daemon
	# Another URL is another cache, which knows nothing of that hand-over yet.
	attic_config
	for mode in foreign elsewhere nearly html; do
		set_mode $mode
		start_daemon
		ctl push --no-wait "$path"
		ctl retry "$path"
		case $mode in
		foreign) wait_until 20 status_says 'is for the store /foreign/store' ;;
		elsewhere) wait_until 20 status_says 'takes uploads at http://elsewhere.example/' ;;
		nearly) wait_until 20 status_says "takes uploads at http://127.0.0.1:${PORT}0/" ;;
		html) wait_until 20 status_says 'is not the configuration of a cache' ;;
		esac
		stop_daemon
	done
	set_mode ok
	start_daemon
	ctl retry "$path"
	wait_until 30 uploaded
	state_is "(.paths == [\"$path\"])"
}

@test "a limit of a proxy fails the path that is over it, with what to do" {
	start_daemon
	build_path first
	wait_until 20 uploaded
	set_mode 413
	build_path second
	wait_until 20 only_failed_is_left 1
	status_says 'have it let any through'
	set_mode ok
	ctl retry --failed
	wait_until 30 uploaded
	state_is '(.paths | length) == 2'
}

# signed_by SECRET NAME [REF...]: a path built without the hook, with a signature.
signed_by() {
	local path
	path=$(make_path "$2" 64 "${@:3}")
	nix store sign --key-file "$T/etc/$1.secret" "$path"
	echo "$path"
}

@test "what a key signed that the cache names is not sent, if the signature is good and the key known" {
	stop attic
	start_server --upstream-key up-1 --upstream-key unknown-1
	nix-store --generate-binary-cache-key up-1 "$T/etc/up.secret" "$T/etc/up.public"
	nix-store --generate-binary-cache-key up-1 "$T/etc/forged.secret" "$T/etc/forged.public"
	nix-store --generate-binary-cache-key unknown-1 "$T/etc/unknown.secret" "$T/etc/unknown.public"
	nix-store --generate-binary-cache-key other-1 "$T/etc/other.secret" "$T/etc/other.public"
	attic_config 'upstreams =' '' '[upstream "up"]' 'url = http://127.0.0.1:9' "public-key = $(cat "$T/etc/up.public")" \
		"public-key = $(cat "$T/etc/other.public")"
	good=$(signed_by up good)
	sent=("$(signed_by forged forged)" "$(signed_by unknown unknown)" "$(signed_by other other)")
	start_daemon
	sent+=("$(build_path program 64 "$good" "${sent[@]}")")
	wait_until 30 uploaded
	state_is "(.paths | sort) == $(printf '%s\n' "${sent[@]}" | jq -R . | jq -s 'sort')"
	grep 'no upstream here has.*key=unknown-1' "$T/log/nncached.log"
	ctl push --force "$good"
	state_is ".paths | index(\"$good\")"
}

@test "keys that mean nothing to an Attic server are refused" {
	attic_config 'compression = zstd'
	run "$B/daemon/nncached" --check-config --config "$T/etc/nncache.conf"
	[ "$status" -eq 1 ]
	[[ "$output" == *"an Attic server packs NARs by itself"* ]]
}
