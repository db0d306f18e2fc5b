#!/usr/bin/env bats
# cachix:// against a strict server (tests/support/cachix_server.py), whose cache a real Nix reads.

load common

setup() {
	scratch_make
	echo open-sesame >"$T/etc/token"
	chmod 600 "$T/etc/token"
	start_server
	cachix_config
}

# start_server [ARGUMENT...]
start_server() {
	: >"$T/log/cachix.log"
	start cachix python3 "$TOP/tests/support/cachix_server.py" --store-dir "$T/store" "$@"
	wait_until 15 test -s "$T/log/cachix.log"
	read -r PORT KEY <"$T/log/cachix.log"
}

# cachix_config [LINE...]
cachix_config() {
	write_config cachix://team "endpoint = http://127.0.0.1:$PORT" "token-file = $T/etc/token" "$@"
	# The server signs.
	sed -i '/^signing-key-file/d' "$T/etc/nncache.conf"
}

state_is() {
	curl -sf "http://127.0.0.1:$PORT/_test/state" | jq -e "$1"
}

set_mode() {
	curl -sf -d "$1" "http://127.0.0.1:$PORT/_test/mode"
}

status_says() {
	ctl status | grep -F "$1"
}

trust_the_cache() {
	sed -i "s|^trusted-public-keys = .*|trusted-public-keys = $KEY|" "$T/etc/nix.conf"
}

# random_path NAME MIB: a path that zstd cannot make smaller, so that its file has several parts.
random_path() {
	mkdir "$T/tmp/$1"
	head -c "$(($2 << 20))" /dev/urandom >"$T/tmp/$1/data"
	nix-store --add "$T/tmp/$1"
	rm -r "$T/tmp/$1"
}

@test "a closure goes to Cachix, references first, odd names too, and comes back with the server's signature" {
	start_daemon
	a=$(build_path "$ODD_NAME")
	b=$(build_path b 3000000 "$a")
	c=$(build_path c 64 "$a" "$b")
	wait_until 30 uploaded
	state_is '(.paths | length) == 3 and .dangling == [] and .open == 0'
	no_roots
	status_is '.caches[0].note | test("include-roots")' # it says that it is public
	trust_the_cache
	read_back "http://127.0.0.1:$PORT/cache" "$c"
}

@test "a large file goes in parts of equal size" {
	start_daemon
	path=$(random_path large 70)
	ctl push "$path"
	state_is '(.paths | length) == 1 and .puts == 5 and .open == 0'
	trust_the_cache
	read_back "http://127.0.0.1:$PORT/cache" "$path"
}

@test "URLs that ran out, and parts that were lost, are asked for anew" {
	start_daemon
	for mode in expire lose-part slow-part; do
		set_mode $mode
		ctl push "$(random_path $mode 40)"
	done
	state_is '(.paths | length) == 3 and .uploads == 3 and .puts == 18 and .open == 0'
}

@test "a storage that takes no part for a while fails no path" {
	start_daemon
	set_mode bad-part
	ctl push --no-wait "$(random_path large 40)"
	wait_until 30 status_says 'HTTP 400'
	status_is '.queue.failed == 0'
	set_mode ok
	wait_until 60 uploaded
	state_is '(.paths | length) == 1 and .open == 0'
}

@test "with a key of our own, its signatures go along, without its name" {
	stop cachix
	start_server --public-key "$(cut -d: -f2 "$T/etc/key.public")"
	cut -d: -f2 "$T/etc/key.secret" >"$T/etc/bare.secret"
	chmod 600 "$T/etc/bare.secret"
	for key in key bare; do
		cachix_config "signing-key-file = $T/etc/$key.secret"
		echo "signing-key-file = $T/etc/$key.secret" >>"$T/etc/nncache.conf"
		start_daemon
		ctl push "$(make_path "with-$key")"
		stop_daemon
	done
	state_is '(.paths | length) == 2'
	sed -i "s|^trusted-public-keys = .*|trusted-public-keys = ${KEY%%:*}:$(cut -d: -f2 "$T/etc/key.public")|" "$T/etc/nix.conf"
	come_back "http://127.0.0.1:$PORT/cache" "$(make_path with-key)" "$(make_path with-bare)"
}

@test "a daemon stopped in the middle of a path sends it anew, and nothing is visible before" {
	cachix_config 'upload-rate = 2M'
	start_daemon
	path=$(random_path large 40)
	ctl push --no-wait "$path"
	wait_until 20 state_is '.puts >= 1'
	stop_daemon KILL
	state_is '.paths == []'
	cachix_config
	start_daemon
	wait_until 30 uploaded
	state_is '(.paths | length) == 1 and .dangling == []'
}

@test "killed at each step of an upload: all arrives, nothing dangles, and what was begun stays open there" {
	local a b point n=0
	for point in CACHIX_BEGUN CACHIX_PART_SENT; do
		killed_at $point "$(random_path $point 17)"
		state_is ".open == $((n + 1)) and (.paths | length) == $n"
		n=$((n + 1))
		arrives
		state_is ".open == $n and (.paths | length) == $n"
	done
	# What was ended is there, and is not sent again.
	a=$(make_path a)
	b=$(make_path b 64 "$a")
	killed_at UPLOAD_NAR_SENT "$b"
	state_is '(.paths | length) == 3'
	start_armed UPLOAD_NAR_SENT
	died_at UPLOAD_NAR_SENT
	state_is '(.paths | length) == 4'
	arrives
	state_is '(.paths | length) == 4 and .uploads == 6 and .open == 2 and .dangling == []'
	trust_the_cache
	come_back "http://127.0.0.1:$PORT/cache" "$b"
}

@test "an upload that the server refuses to end is given up there" {
	start_daemon
	set_mode refuse
	build_path program
	wait_until 20 only_failed_is_left 1
	ctl status | grep -F "not to the server's liking"
	state_is '.open == 0 and .paths == []'
	set_mode ok
	ctl retry --failed
	wait_until 30 uploaded
}

@test "answers of the API that are of no use end the upload, and are told" {
	start_daemon
	for mode in bad-start bad-url; do
		set_mode $mode
		path=$(random_path $mode 40)
		ctl push --no-wait "$path"
		case $mode in
		bad-start) wait_until 20 status_says 'no narId and uploadId' ;;
		bad-url) wait_until 20 status_says 'no URL for a part' ;;
		esac
		wait_until 20 state_is '.open == 0'
		set_mode ok
		ctl retry "$path"
		wait_until 30 uploaded
	done
}

@test "tokens and names: each wrong one is said, and mended" {
	echo wrong >"$T/etc/token"
	start_daemon
	path=$(build_path program)
	wait_until 20 status_says "doesn't exist or you're not authorized"
	stop_daemon
	echo open-sesame-ro >"$T/etc/token"
	start_daemon
	ctl retry "$path"
	wait_until 20 status_says 'the token may only read'
	stop_daemon
	set_mode html
	start_daemon
	ctl retry "$path"
	wait_until 20 status_says 'is that its API?'
	stop_daemon
	set_mode ok
	rm "$T/etc/token"
	sed -i '/^token-file/d' "$T/etc/nncache.conf"
	CACHIX_AUTH_TOKEN=open-sesame start_daemon
	ctl retry "$path"
	wait_until 30 uploaded
	run grep -rE 'open-sesame|X-Amz-Signature' "$T/log/nncached.log" "$T/state"
	[ "$status" -eq 1 ]
}

@test "a server that is down for a while is waited for as it asks" {
	start_daemon
	ctl push "$(make_path first)"
	set_mode problem
	build_path second
	wait_until 20 status_says 'HTTP 503'
	set_mode ok
	wait_until 30 uploaded
}
