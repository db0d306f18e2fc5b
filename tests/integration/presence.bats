#!/usr/bin/env bats
# What is known to be on a cache, for how long, and when it is asked all the same.

load common

setup() {
	scratch_make
	pick_port
	start_nginx
	write_config "http://127.0.0.1:$PORT"
	start_daemon
	dependency=$(build_path dependency)
	program=$(build_path program 64 "$dependency")
	wait_until 30 uploaded
	stop_daemon # what it did last is in nginx's log, too
	start_daemon
	: >"$T/log/nginx-access.log"
}

# requests METHOD PATH: how many for its narinfo.
requests() {
	grep -c "\"$1 /$(hash_of "$2").narinfo" "$T/log/nginx-access.log" || true
}

# hand_over [OPTION]: and it ends.
hand_over() {
	ctl push "$@" "$program"
}

lose() {
	local nar path
	for path; do
		nar=$(sed -n 's/^URL: //p' "$T/www/$(hash_of "$path").narinfo")
		rm "$T/www/$(hash_of "$path").narinfo" "$T/www/$nar"
	done
}

@test "a root handed over again is asked for again, and nothing below it" {
	hand_over
	[ "$(requests GET "$program")" = 1 ]
	[ "$(requests GET "$dependency")" = 0 ]
	grep -c PUT "$T/log/nginx-access.log" && return 1
	status_is '.caches[0].uploaded_paths == 2'
}

@test "a root that the cache lost is sent again when it is handed over again" {
	lose "$program"
	hand_over
	cache_has "$T/www" "$program" "$dependency"
	[ "$(requests GET "$dependency")" = 0 ]
}

@test "push --force finds what a cache lost below a root" {
	lose "$dependency"
	hand_over
	cache_lacks "$T/www" "$dependency" # it was seen there not long ago
	hand_over --force
	cache_has "$T/www" "$program" "$dependency"
	[ "$(requests PUT "$program")" = 0 ]
}

is_later() {
	[ "$(date +%s)" -gt $((SEEN + 1)) ]
}

@test "after presence-ttl all that a root needs is asked for again" {
	stop_daemon
	write_config "http://127.0.0.1:$PORT" 'presence-ttl = 1s'
	lose "$dependency"
	SEEN=$(date +%s)
	wait_until 5 is_later
	start_daemon
	hand_over
	cache_has "$T/www" "$program" "$dependency"
	[ "$(requests GET "$dependency")" = 1 ]
	[ "$(requests PUT "$program")" = 0 ]
}
