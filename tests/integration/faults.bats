#!/usr/bin/env bats
# What cannot be uploaded is said, with its reason, and holds nothing else up.

load common

@test "a path that vanished from the store is failed: gone" {
	pick_port
	write_config "http://127.0.0.1:$PORT" # nobody listens there yet
	start_daemon
	path=$(build_path vanishing)
	other=$(build_path staying)
	wait_until 20 cache_is_out 2
	nix-store --delete --ignore-liveness "$path"

	start_nginx
	wait_until 50 only_failed_is_left 1
	cache_has "$T/www" "$other"
	cache_lacks "$T/www" "$path"
	run ctl show "$path"
	[[ "$output" == *gone* ]]
}

@test "a path that differs from what Nix registered is tried three times, and never visible under nar/" {
	start_daemon
	path=$(make_path changed 20000)
	good=$(make_path good)
	chmod u+w "$path" "$path/data"
	printf 'x' | dd of="$path/data" conv=notrunc status=none
	call_hook "$path"
	call_hook "$good"
	wait_until 50 only_failed_is_left 1
	run ctl show "$path"
	[[ "$output" == *"differs from what Nix registered"* ]]
	ctl list --state failed --json | jq -e '[.jobs[].attempts] == [3]'
	cache_has "$T/cache" "$good"
	cache_lacks "$T/cache" "$path"
	[ "$(find "$T/cache/nar" -type f | wc -l)" -eq 1 ]
	run ctl wait --timeout 10s
	[ "$status" -eq 4 ]
}

@test "the same on a web server: a wrong NAR gets no name there" {
	pick_port
	start_nginx
	write_config "http://127.0.0.1:$PORT"
	start_daemon
	path=$(make_path changed 20000000) # larger than what is held back whole
	chmod u+w "$path" "$path/data"
	printf 'x' | dd of="$path/data" conv=notrunc seek=19999990 bs=1 status=none
	call_hook "$path"
	wait_until 50 only_failed_is_left 1
	[ -z "$(find "$T/www" -name '*.nar*' -o -name '*.narinfo')" ]
}

@test "--check-config names file, line and what would be right; SIGHUP keeps the old configuration" {
	start_daemon
	write_config "file://$T/cache" 'compresion = zstd'
	run "$B/daemon/nncached" --check-config --config "$T/etc/nncache.conf"
	[ "$status" -eq 1 ]
	[[ "$output" == *"nncache.conf:$(grep -n compresion "$T/etc/nncache.conf" | cut -d: -f1):"*compresion* ]]

	kill -HUP "$(pid_of nncached)"
	wait_until 10 grep -q compresion "$T/log/nncached.log"
	path=$(build_path program)
	wait_until 30 cache_has "$T/cache" "$path"
}

@test "SIGHUP takes a new cache in" {
	start_daemon
	write_config "file://$T/other"
	kill -HUP "$(pid_of nncached)"
	wait_until 10 status_is '.caches[0].url | endswith("/other")'
	path=$(build_path program)
	wait_until 30 cache_has "$T/other" "$path"
}

@test "a request that is not one is refused, and the next is served" {
	start_daemon
	path=$(make_path program)
	for request in 'nonsense\n' 'nncache 9 status\nend\n' 'nncache 1 enqueue\npath /etc/passwd\nend\n' \
		"nncache 1 enqueue\npath $T/store/../x\nend\n" "nncache 1 fly\nend\n"; do
		answer=$(printf '%b' "$request" | socat -t 5 - "UNIX-CONNECT:$SOCKET")
		[[ "$answer" == error* ]]
	done
	# One that says nothing keeps nobody waiting.
	start idle socat -u "UNIX-CONNECT:$SOCKET" STDOUT
	call_hook "$path"
	wait_until 30 uploaded
	cache_has "$T/cache" "$path"
}

@test "a refusing server is an error of the cache, said in status, and nothing is lost" {
	pick_port
	start_nginx
	sed -i 's/dav_methods PUT/dav_methods off/' "$T/nginx/nginx.conf"
	stop_nginx
	start nginx nginx -c "$T/nginx/nginx.conf" -e "$T/log/nginx-error.log"
	wait_until 10 port_is_open
	write_config "http://127.0.0.1:$PORT"
	start_daemon
	path=$(build_path program)
	wait_until 30 cache_is_out 1
	run ctl status
	[[ "$output" == *405* ]]
	nix-store --gc
	[ -e "$path" ]
}

@test "a cache of another store directory is an error that names both" {
	mkdir -p "$T/cache"
	printf 'StoreDir: /elsewhere/store\n' >"$T/cache/nix-cache-info"
	start_daemon
	path=$(build_path program)
	wait_until 20 status_is '.caches[0].message != null and .caches[0].message != ""'
	run ctl status
	[[ "$output" == *"/elsewhere/store"* ]]
	cache_lacks "$T/cache" "$path"
	grep -qx 'StoreDir: /elsewhere/store' "$T/cache/nix-cache-info"
}

@test "a thousand idle connections of one user do not keep root's hook waiting" {
	[ "$(id -u)" = 0 ] || skip "needs root, to be two users"
	start_daemon
	path=$(make_path program)
	chmod 755 "$T/run"
	start idle python3 -c "
import os, socket, time
os.setgroups([]); os.setgid(65534); os.setuid(65534)
held = []
for _ in range(1000):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(0.05)
    try:
        s.connect('$SOCKET')
        held.append(s)
    except OSError:
        pass
    if len(held) == 300:
        print('held', flush=True)
print('held', flush=True)
time.sleep(60)"
	wait_until 30 grep -q held "$T/log/idle.log"
	call_hook "$path"
	# It was answered: nothing went to the spool.
	[ -z "$(find "$T/state/spool" -name '*.req')" ]
	wait_until 30 cache_has "$T/cache" "$path"
}

@test "a path rebuilt with other contents does not overwrite what is published" {
	start_daemon
	path=$(build_path program 3000)
	wait_until 30 uploaded
	first=$(sed -n 's/^NarHash: //p' "$T/cache/$(hash_of "$path").narinfo")
	nix-store --delete --ignore-liveness "$path"
	[ "$(build_path program 3000)" = "$path" ] # of random bytes: other contents, another NAR hash
	wait_until 30 uploaded
	# What is published is never overwritten, and is whole.
	[ "$first" = "$(sed -n 's/^NarHash: //p' "$T/cache/$(hash_of "$path").narinfo")" ]
	come_back "file://$T/cache" "$path"
}

@test "a cache that was down costs no job an attempt, and is found again by itself" {
	pick_port
	write_config "http://127.0.0.1:$PORT" # nobody listens there yet
	start_daemon
	paths=("$(make_path one)" "$(make_path two)" "$(make_path three)" "$(make_path four)")
	call_hook "${paths[@]}"
	wait_until 20 cache_is_out 4
	status_is '.caches[0] | .message_kind == "transient" and .since != null and .next_try != null'
	start_nginx
	wait_until 40 uploaded
	cache_has "$T/www" "${paths[@]}"
	ctl list --state all --json | jq -e '[.jobs[].attempts] | length == 4 and add == 0'
	status_is '.caches[0] | .state == "ok" and .message_kind == null'
}

@test "a wrong token that is put right is taken up without a hand" {
	pick_port
	start_nginx
	printf 'wrong\n' >"$T/etc/token"
	chmod 600 "$T/etc/token"
	write_config "http://127.0.0.1:$PORT" "token-file = $T/etc/token"
	# shellcheck disable=SC2016 # nginx's variable
	sed -i 's/dav_methods PUT;/if ($http_authorization != "Bearer right") { return 401; } &/' "$T/nginx/nginx.conf"
	stop_nginx
	start nginx nginx -c "$T/nginx/nginx.conf" -e "$T/log/nginx-error.log"
	wait_until 10 port_is_open
	start_daemon
	path=$(build_path program)
	wait_until 20 cache_is_out 1
	status_is '.caches[0] | .message_kind == "operator" and (.message | contains("401"))'
	# Before the next try is due, which is after a minute.
	next_try=$(ctl status --json | jq -r '.caches[0].next_try')
	printf 'right\n' >"$T/etc/token"
	wait_until 40 cache_has "$T/www" "$path"
	[[ "$(date -u +%Y-%m-%dT%H:%M:%SZ)" < "$next_try" ]]
}

@test "one path that a wrong token may not write goes on within seconds once the token is put right" {
	pick_port
	start_nginx
	printf 'StoreDir: %s\n' "$T/store" >"$T/www/nix-cache-info" # the cache itself can be read
	printf 'wrong\n' >"$T/etc/token"
	chmod 600 "$T/etc/token"
	write_config "http://127.0.0.1:$PORT" "token-file = $T/etc/token"
	# shellcheck disable=SC2016 # nginx's variables
	sed -i 's/dav_methods PUT;/set $w $request_method$http_authorization; if ($w = "PUTBearer wrong") { return 403; } &/' \
		"$T/nginx/nginx.conf"
	stop_nginx
	start nginx nginx -c "$T/nginx/nginx.conf" -e "$T/log/nginx-error.log"
	wait_until 10 port_is_open
	start_daemon
	path=$(build_path program)
	wait_until 20 status_is '.caches[0] | .delayed == 1 and .in_flight == 0'
	# Tried too early, which changes nothing; then it is put off again.
	ctl retry "$path"
	wait_until 20 status_is '.caches[0] | .delayed == 1 and .in_flight == 0'
	run ctl show "$path"
	[[ "$output" == *403* ]]
	since=$(date +%s)
	printf 'right\n' >"$T/etc/token"
	wait_until 40 cache_has "$T/www" "$path"
	# It was put off for a minute.
	[ $(($(date +%s) - since)) -lt 40 ]
}

@test "one path that a cache refuses for ever holds up none of the others" {
	pick_port
	start_nginx
	paths=()
	for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
		paths+=("$(make_path "program-$i")")
	done
	sed -i "s|dav_methods PUT;|location ~ $(hash_of "${paths[0]}") { return 500; } &|" "$T/nginx/nginx.conf"
	stop_nginx
	start nginx nginx -c "$T/nginx/nginx.conf" -e "$T/log/nginx-error.log"
	wait_until 10 port_is_open
	write_config "http://127.0.0.1:$PORT" 'upload-jobs = 2'
	set_option 'give-up-after = 2'
	start_daemon
	call_hook "${paths[@]}"
	wait_until 40 only_failed_is_left 1
	cache_has "$T/www" "${paths[@]:1}"
	run ctl show "${paths[0]}"
	[[ "$output" == *500* ]]
	status_is '.caches[0].message_kind == null'
}
