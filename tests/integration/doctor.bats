#!/usr/bin/env bats
# doctor: a clean set-up has no findings, and each thing that is broken is found, alone. The three troubles that
# people come with are tests of their own.

load common

# One world for all tests of the file: each breaks copies of its files, and they are put back.
setup_file() {
	scratch_make
	clean_config
	export T HOOK SOCKET B
	start_daemon
	ctl push "$(nix-store --add "$TOP/README.md")" # makes nix-cache-info
	mkdir "$T/kept"
	cp -a "$T/etc/." "$T/kept"
}

teardown_file() {
	scratch_remove
}

setup() {
	rm -rf "${T:?}/etc"
	cp -a "$T/kept" "$T/etc"
}

teardown() {
	local name
	for name in nix-daemon server; do
		[ ! -e "$T/run/$name.pid" ] || stop $name
	done
	! grep -E 'Sanitizer|runtime error:' "$T"/log/*.log
}

clean_config() {
	write_config "file://$T/cache"
	sed -i "/^\[daemon\]/a push-group = $(id -gn)" "$T/etc/nncache.conf"
	sed -i -e '/^substituters/d' -e '/^sandbox/d' "$T/etc/nix.conf"
	printf 'sandbox = true\nsubstituters = file://%s\n' "$T/cache" >>"$T/etc/nix.conf"
}

doctor() {
	ctl doctor --config "$T/etc/nncache.conf" "$@"
}

# finds_only ID:LEVEL...: these are all the findings. What they say is in $T/found.
finds_only() {
	local status=0 expected found
	doctor --json >"$T/found" || status=$?
	expected=$(printf '%s\n' "$@" | sort -u)
	found=$(jq -r '.[] | select(.level == "warn" or .level == "bad") | "\(.id):\(.level)"' "$T/found" | sort -u)
	if [ "$status" != $(($# > 0)) ] || [ "$expected" != "$found" ]; then
		echo "exit $status; expected: ${expected//$'\n'/ }; found: ${found//$'\n'/ }"
		jq -c '.[] | select(.level == "warn" or .level == "bad")' "$T/found"
		return 1
	fi
}

# says ID TEXT: what the finding says, or what mends it.
says() {
	jq -e --arg id "$1" --arg text "$2" \
		'any(.[]; .id == $id and ((.what // "") + "\n" + (.fix // "") | contains($text)))' "$T/found" >/dev/null || {
		jq --arg id "$1" '.[] | select(.id == $id)' "$T/found"
		return 1
	}
}

nix_line() {
	sed -i "/^${1%% *} /d" "$T/etc/nix.conf"
	echo "$1" >>"$T/etc/nix.conf"
}

# cache_line LINE: in the section of the cache, which is the last.
cache_line() {
	sed -i "/^${1%% *} /d" "$T/etc/nncache.conf"
	echo "$1" >>"$T/etc/nncache.conf"
}

# serve MODE: a cache over HTTP, one directory for all modes of tests/support/cache_server.py. The daemon runs on
# with the cache that it has.
serve() {
	if [ ! -e "$T/run/server.pid" ]; then
		mkdir -p "$T/www"
		printf 'StoreDir: %s\nWantMassQuery: 1\nPriority: 41\n' "$T/store" >"$T/www/nix-cache-info"
		: >"$T/log/server.log"
		start server python3 "$TOP/tests/support/cache_server.py" --root "$T/www"
		wait_until 10 test -s "$T/log/server.log"
		PORT=$(head -n 1 "$T/log/server.log")
	fi
	cache_line "url = http://127.0.0.1:$PORT/$1"
	cache_line 'include-roots = .'
	nix_line "substituters = http://127.0.0.1:$PORT/$1"
}

# answer_with DATE TEXT: a server whose nix-cache-info is TEXT.
answer_with() {
	: >"$T/log/server.log"
	start server python3 -c '
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def date_time_string(self, timestamp=None):
        return sys.argv[1] or super().date_time_string(timestamp)
    def do_GET(self):
        body = sys.argv[2].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(412)
        self.send_header("Content-Length", "0")
        self.end_headers()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()' "$@"
	wait_until 10 test -s "$T/log/server.log"
	PORT=$(head -n 1 "$T/log/server.log")
	cache_line "url = http://127.0.0.1:$PORT/x"
	cache_line 'include-roots = .'
	nix_line "substituters = http://127.0.0.1:$PORT/x"
}

end_server() {
	stop server
}

needs_root() {
	[ "$(id -u)" = 0 ] || skip "NOT TESTED: needs root"
}

@test "a clean set-up has no findings, touches nothing, and exits 0" {
	before=$(find "$T/state" "$T/cache" "$T/var/gcroots" | sort)
	finds_only
	run doctor
	[ "$status" -eq 0 ]
	[[ "$output" == *"0 bad, 0 warnings, "* ]]
	[[ "$output" != *"why "* ]]
	[ "$before" = "$(find "$T/state" "$T/cache" "$T/var/gcroots" | sort)" ]
	run doctor --verbose
	[ "$status" -eq 0 ]
	[[ "$output" == *"Priority 41"* ]]
	[[ "$output" != *"$(cut -d: -f2 "$T/etc/key.secret")"* ]]
}

@test "findings are shown with what, why and what mends it" {
	nix_line 'sandbox = false'
	run doctor
	[ "$status" -eq 1 ]
	[[ "$output" == *"warn  not so: what is signed was built in a sandbox"*"what  $T/etc/nix.conf:"*"why   without"*"then  sandbox = true"* ]]
	run ctl doctor x
	[ "$status" -eq 2 ]
}

# ---- the three troubles -------------------------------------------------------------------------

@test "CI is not pushing: no hook, another's, one that cannot run, no token in a fork" {
	sed -i '/^post-build-hook/d' "$T/etc/nix.conf"
	finds_only hook-line:bad
	says hook-line "nncachectl hook enable"
	jq -e 'any(.[]; .id == "hook-line" and .trouble == "CI is not pushing")' "$T/found"
	nix_line 'post-build-hook = /bin/true'
	finds_only hook-line:bad
	says hook-line "post-build-hook = /bin/true, which does not call nncache"
	nix_line 'post-build-hook = /nowhere/nncache/hook'
	finds_only hook-line:bad hook-file:bad
	printf '#!/bin/sh\n%s\n' "$(realpath "$B/hook/hook")" >"$T/etc/both"
	nix_line "post-build-hook = $T/etc/both"
	finds_only hook-file:bad
	says hook-file "chmod a+rx"
	chmod 755 "$T/etc/both"
	finds_only
	cache_line 'token-file = /nowhere/token'
	cache_line 'url = https://cache.invalid'
	cache_line 'push = auto'
	nix_line 'substituters = https://cache.invalid'
	finds_only cache-secrets:warn
	says cache-secrets 'push = auto'
	run doctor
	[[ "$output" == *"If CI is not pushing: see cache-secrets"* ]]
}

@test "CI is not pushing: nix-daemon was not restarted" {
	needs_root
	touch -d '1 hour ago' "$T/etc/nix.conf"
	start_nix_daemon
	finds_only
	touch -d '1 hour' "$T/etc/nix.conf"
	finds_only nix-daemon-restarted:bad
	says nix-daemon-restarted "$T/etc/nix.conf was changed later"
}

@test "the cache is not working: not reached, not listed, not trusted, of another store, without Priority" {
	nix_line 'substituters ='
	finds_only cache-listed:warn
	says cache-listed "nncachectl use 'file://$T/cache' --public-key $(cat "$T/etc/key.public")"
	cp "$T/kept/nix.conf" "$T/etc/nix.conf"
	nix_line 'trusted-public-keys = other-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY='
	finds_only cache-trusted:bad
	says cache-trusted "is not among the trusted-public-keys"
	cp "$T/kept/nix.conf" "$T/etc/nix.conf"
	answer_with '' "StoreDir: $T/store"
	finds_only cache-read:warn
	says cache-read "no Priority"
	end_server
	finds_only cache-reach:bad cache-read:bad
	says cache-read "refused"
	answer_with '' $'StoreDir: /other/store\nPriority: 30'
	finds_only cache-reach:bad cache-read:bad
	says cache-read "its StoreDir is /other/store"
	end_server
}

@test "public key mismatch: one name and other bytes, both are named and where they were read" {
	nix_line 'trusted-public-keys = scratch-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY='
	finds_only cache-trusted:bad
	says cache-trusted "$(cat "$T/etc/key.public") is the public half of what is in $T/etc/key.secret"
	says cache-trusted "$T/etc/nix.conf:$(grep -n '^trusted-public-keys' "$T/etc/nix.conf" | cut -d: -f1) trusts scratch-1:6NCH"
	jq -e 'any(.[]; .id == "cache-trusted" and .trouble == "public key mismatch")' "$T/found"
	run doctor
	[[ "$output" != *"$(cut -d: -f2 "$T/etc/key.secret")"* ]]
}

@test "public key mismatch: what Cachix announces and the key that we have, what an Attic server has and we trust" {
	: >"$T/log/server.log"
	start server python3 "$TOP/tests/support/cachix_server.py" --store-dir "$T/store"
	wait_until 15 test -s "$T/log/server.log"
	read -r PORT KEY <"$T/log/server.log"
	curl -sf -d here "http://127.0.0.1:$PORT/_test/mode"
	echo open-sesame >"$T/etc/token"
	chmod 600 "$T/etc/token"
	cache_line 'url = cachix://team'
	cache_line "endpoint = http://127.0.0.1:$PORT"
	cache_line "token-file = $T/etc/token"
	nix_line "substituters = http://127.0.0.1:$PORT/cache"
	nix_line "trusted-public-keys = $KEY"
	finds_only cache-key:bad cache-public:warn
	says cache-key "Cachix announces $KEY"
	sed -i '/^signing-key-file/d' "$T/etc/nncache.conf"
	cache_line 'include-roots = .'
	finds_only
	echo open-sesame-ro >"$T/etc/token"
	finds_only cache-reach:bad
	says cache-reach "the token may only read"
	end_server
	: >"$T/log/server.log"
	start server python3 "$TOP/tests/support/attic_server.py" --store-dir "$T/store"
	wait_until 15 test -s "$T/log/server.log"
	read -r PORT KEY <"$T/log/server.log"
	cache_line "url = attic+http://127.0.0.1:$PORT/team"
	sed -i '/^endpoint/d' "$T/etc/nncache.conf"
	echo open-sesame >"$T/etc/token"
	nix_line "substituters = http://127.0.0.1:$PORT/team"
	nix_line "trusted-public-keys = ${KEY%%:*}:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="
	finds_only cache-trusted:bad
	says cache-trusted "$KEY is what the server signs with"
	nix_line "trusted-public-keys = $KEY"
	finds_only
	curl -sf -d short "http://127.0.0.1:$PORT/_test/mode"
	finds_only cache-retention:bad
	says cache-retention "it keeps paths for 1h"
	echo wrong >"$T/etc/token"
	curl -sf -d ok "http://127.0.0.1:$PORT/_test/mode"
	finds_only cache-reach:bad
}

# ---- the rest -----------------------------------------------------------------------------------

@test "a token that is wrong, a cache that takes no writes, one that everybody reads, and one unsigned" {
	serve ok
	finds_only
	before=$(stat -c '%i %y' "$T/www/nix-cache-info")
	sed -i '/^include-roots/d' "$T/etc/nncache.conf"
	finds_only cache-public:warn
	serve 403
	finds_only cache-write:bad
	says cache-write "HTTP 403"
	serve 401
	finds_only cache-reach:bad
	serve token
	echo open-sesame >"$T/etc/token"
	chmod 600 "$T/etc/token"
	cache_line "token-file = $T/etc/token"
	finds_only
	echo wrong >"$T/etc/token"
	finds_only cache-reach:bad
	serve ok
	sed -i '/^signing-key-file/d' "$T/etc/nncache.conf"
	cache_line 'sign = no'
	finds_only cache-signed:warn
	rm "$T/etc/token"
	finds_only cache-secrets:bad cache-signed:warn config:bad
	[ "$before" = "$(stat -c '%i %y' "$T/www/nix-cache-info")" ]
}

@test "what cannot be asked without leaving something is said to be unchecked" {
	serve ok
	rm "$T/www/nix-cache-info"
	finds_only
	jq -e 'any(.[]; .id == "cache-write" and .level == "unchecked" and (.what | contains("first upload")))' "$T/found"
	[ -z "$(ls "$T/www")" ]
}

@test "a clock that is off, by the server's Date" {
	answer_with 'Mon, 23 Nov 2015 07:00:00 GMT' $'StoreDir: '"$T"$'/store\nPriority: 41'
	finds_only cache-clock:bad
	says cache-clock "ahead of the server's"
}

@test "a substituter that is neither cache nor upstream, and a line that Nix cannot read" {
	nix_line "substituters = file://$T/cache https://cache.nixos.org/ http://127.0.0.1:1/other"
	finds_only substituters:warn
	says substituters "http://127.0.0.1:1/other"
	cp "$T/kept/nix.conf" "$T/etc/nix.conf"
	echo 'include /nowhere.conf' >>"$T/etc/nix.conf"
	finds_only nix-conf:bad
}

@test "a configuration with a mistake, a group or a store that is not there, and little room" {
	set_option 'memory = much'
	finds_only config:bad
	says config 'memory'
	cp "$T/kept/nncache.conf" "$T/etc/nncache.conf"
	set_option 'push-group = nosuchgroup'
	finds_only who:warn
	cp "$T/kept/nncache.conf" "$T/etc/nncache.conf"
	set_option 'roots-min-free = 99%'
	finds_only disk:bad
	cp "$T/kept/nncache.conf" "$T/etc/nncache.conf"
	set_option "state-dir = /dev/shm/$(basename "$T")"
	[ "$(stat -f -c %T /dev/shm)" != tmpfs ] || finds_only file-system:warn
}

@test "owners and modes of the daemon's places" {
	chmod 777 "$T/state/spool"
	finds_only modes:bad
	says modes "chmod go-w $T/state/spool"
	chmod 755 "$T/state/spool"
	chmod 600 "$SOCKET"
	finds_only modes:bad
	says modes "not 0666"
	chmod 666 "$SOCKET"
	finds_only
	needs_root
	mkdir "$T/roots"
	set_option "gcroots-dir = $T/roots"
	chown nobody "$T/state"
	finds_only modes:bad cache-write:bad
	says modes "nobody may not write there"
	chown root "$T/state"
}

@test "what the daemon says needs a hand; and one that does not run is found, with the rest still looked at" {
	touch "$T/state/spool/1795418089000000000.1.req.bad"
	stop_daemon
	start_daemon
	wait_until 10 status_is '.bad_spool_files == 1'
	finds_only daemon-sound:warn
	rm "$T/state/spool/1795418089000000000.1.req.bad"
	wait_until 40 status_is '.bad_spool_files == 0'
	ctl pause main
	finds_only cache-works:warn
	ctl resume main
	stop_daemon
	nix_line 'sandbox = false'
	finds_only daemon-running:bad sandbox:warn
	says daemon-running "start nncached"
	jq -e 'any(.[]; .id == "pinned" and .level == "unchecked")' "$T/found"
	start_daemon
}
