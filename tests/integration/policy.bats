#!/usr/bin/env bats
# What is sent, and in which order: filters, priorities, upstreams.

load common

@test "exclude-roots leaves a root out, but not where a pushed root needs it" {
	write_config "file://$T/cache" 'exclude-roots = -source$'
	start_daemon
	lone=$(build_path lone-source)
	needed=$(build_path needed-source)
	program=$(build_path program 64 "$needed")
	wait_until 30 uploaded
	cache_has "$T/cache" "$program" "$needed"
	cache_lacks "$T/cache" "$lone"
}

@test "include-roots takes only what it names" {
	write_config "file://$T/cache" 'include-roots = -release$'
	start_daemon
	release=$(build_path my-release)
	draft=$(build_path my-draft)
	wait_until 30 uploaded
	cache_has "$T/cache" "$release"
	cache_lacks "$T/cache" "$draft"
}

@test "exclude-closures withholds a root whose closure has a member that nobody has" {
	write_config "file://$T/cache" 'exclude-closures = -secret'
	start_daemon
	secret=$(make_path my-secret)
	program=$(build_path program 64 "$secret")
	public=$(build_path public)
	wait_until 30 uploaded
	cache_has "$T/cache" "$public"
	cache_lacks "$T/cache" "$program" "$secret"
	run ctl show "$program"
	[[ "$output" == *withheld* ]]
	# Of what is withheld not even the NAR lies there: only that of the public one.
	[ "$(find "$T/cache/nar" -name '*.nar.*' | wc -l)" = 1 ]
	# Withheld is decided: nothing is protected any longer.
	wait_until 5 no_roots
}

@test "exclude-closures-with-nar-over withholds a large member" {
	write_config "file://$T/cache" 'exclude-closures-with-nar-over = 1M'
	start_daemon
	large=$(build_path large 2000000)
	small=$(build_path small 2000)
	wait_until 30 uploaded
	cache_has "$T/cache" "$small"
	cache_lacks "$T/cache" "$large"
}

@test "with exclude-closures a chain that it does not match arrives whole" {
	write_config "file://$T/cache" 'exclude-closures = -secret'
	start_daemon
	first=$(build_path first 64)
	second=$(build_path second 2000000 "$first")
	third=$(build_path third 64 "$first" "$second")
	wait_until 30 uploaded
	cache_has "$T/cache" "$first" "$second" "$third"
	ctl wait --timeout 5s
}

@test "a higher priority goes first" {
	pick_port
	start_nginx
	write_config "http://127.0.0.1:$PORT" 'upload-jobs = 1' '' '[priority "urgent"]' 'match = -urgent' 'priority = 900'
	start_daemon
	ctl pause main
	paths=()
	for name in a-plain b-plain c-plain d-urgent; do
		paths+=("$(build_path "$name" 3000)")
	done
	wait_until 20 status_is '.queue.ready == 4'
	ctl resume main
	wait_until 30 uploaded
	cache_has "$T/www" "${paths[@]}"
	first=$(grep -o 'PUT /[a-z0-9]*\.narinfo' "$T/log/nginx-access.log" | head -n 1)
	[ "$first" = "PUT /$(hash_of "${paths[3]}").narinfo" ]
}

@test "what an upstream holds, signed by its key, is not sent" {
	nix-store --generate-binary-cache-key upstream-1 "$T/etc/up.secret" "$T/etc/up.public"
	dependency=$(make_path dependency 20000)
	nix copy --to "file://$T/upstream?secret-key=$T/etc/up.secret" "$dependency"
	pick_port
	mv "$T/upstream" "$T/www"
	start_nginx
	write_config "file://$T/cache" 'upstreams = up' '' '[upstream "up"]' "url = http://127.0.0.1:$PORT" \
		"public-key = $(cat "$T/etc/up.public")" 'keeps-forever = yes'
	start_daemon
	program=$(build_path program 64 "$dependency")
	wait_until 40 uploaded
	cache_has "$T/cache" "$program"
	cache_lacks "$T/cache" "$dependency"
	grep -q "GET /$(hash_of "$dependency").narinfo" "$T/log/nginx-access.log"
	# A reader with both caches has it all.
	second_store nix-store --realise "$program" --option substituters "file://$T/cache http://127.0.0.1:$PORT" \
		--option trusted-public-keys "$(cat "$T/etc/key.public") $(cat "$T/etc/up.public")"
}

# signed_dependency KEY: built without the hook, and signed as if an upstream had built it.
signed_dependency() {
	dependency=$(make_path dependency 20000)
	nix store sign --key-file "$1" "$dependency"
}

# An upstream at which nobody listens, known by its key alone.
with_upstream_key() {
	nix-store --generate-binary-cache-key upstream-1 "$T/etc/up.secret" "$T/etc/up.public"
	pick_port
	start_nginx
	write_config "http://127.0.0.1:$PORT" 'upstreams = up' '' '[upstream "up"]' 'url = http://127.0.0.1:9' \
		"public-key = $(cat "$T/etc/up.public")" "keeps-forever = $1"
}

@test "what carries the signature of an upstream that keeps for ever needs no request" {
	with_upstream_key yes
	signed_dependency "$T/etc/up.secret"
	start_daemon
	program=$(build_path program 64 "$dependency")
	wait_until 30 uploaded
	cache_has "$T/www" "$program"
	status_is '.caches[0].skipped_paths == 1 and .caches[0].uploaded_paths == 1'
	ctl push --no-wait "$dependency" # remembered, also where it is a root
	wait_until 30 uploaded
	[ "$(grep -cF "$(hash_of "$dependency")" "$T/log/nginx-access.log")" = 0 ]
	cache_lacks "$T/www" "$dependency"
}

@test "a signature by another key of that name counts for nothing, nor one of what may be deleted" {
	with_upstream_key yes
	nix-store --generate-binary-cache-key upstream-1 "$T/etc/forged.secret" "$T/etc/forged.public"
	signed_dependency "$T/etc/forged.secret"
	start_daemon
	program=$(build_path program 64 "$dependency")
	wait_until 30 uploaded
	cache_has "$T/www" "$program" "$dependency"
	stop_daemon
	stop_nginx
	rm -r "$T/www" "$T/state"

	with_upstream_key no
	dependency=$(make_path other-dependency)
	nix store sign --key-file "$T/etc/up.secret" "$dependency"
	start_daemon
	build_path other-program 64 "$dependency"
	wait_until 30 uploaded
	cache_has "$T/www" "$dependency"
}

@test "several signing keys sign, and compression can be left out" {
	nix-store --generate-binary-cache-key second-1 "$T/etc/second.secret" "$T/etc/second.public"
	write_config "file://$T/cache" "signing-key-file = $T/etc/second.secret" 'compression = none'
	start_daemon
	path=$(build_path program 10000)
	wait_until 30 uploaded
	[ "$(grep -c '^Sig: \(scratch-1\|second-1\):' "$T/cache/$(hash_of "$path").narinfo")" -eq 2 ]
	grep -qx 'Compression: none' "$T/cache/$(hash_of "$path").narinfo"
	read_back "file://$T/cache" "$path"
}

@test "two caches are filled by one hand-over, each on its own" {
	write_config "file://$T/cache" '' '[cache "other"]' "url = file://$T/other" \
		"signing-key-file = $T/etc/key.secret" 'exclude-roots = -only-main$'
	start_daemon
	both=$(build_path both 5000)
	one=$(build_path one-only-main)
	wait_until 30 uploaded
	cache_has "$T/cache" "$both" "$one"
	cache_has "$T/other" "$both"
	cache_lacks "$T/other" "$one"
}

@test "an upstream that cannot be reached is left alone for a while, and all is uploaded" {
	pick_port
	write_config "file://$T/cache" 'upstreams = up' '' '[upstream "up"]' "url = http://127.0.0.1:$PORT" \
		"public-key = $(cat "$T/etc/key.public")"
	start_daemon
	paths=()
	for i in 1 2 3 4; do
		paths+=("$(build_path "program-$i")")
		wait_until 20 uploaded
	done
	cache_has "$T/cache" "${paths[@]}"
	# Once a minute, not for each path.
	[ "$(grep -c 'upstream cannot be reached upstream=up' "$T/log/nncached.log")" -lt 4 ]
}

@test "what may only be found waits for an upstream that cannot be reached" {
	pick_port
	write_config "file://$T/cache" 'upstreams = up' 'exclude-closures = -secret$' '[upstream "up"]' \
		"url = http://127.0.0.1:$PORT" "public-key = $(cat "$T/etc/key.public")" 'keeps-forever = yes'
	start_daemon
	paths=("$(build_path secret)")
	wait_until 20 status_is '.queue.delayed == 1'
	ctl status | grep -F 'an upstream does not answer that may have it'
	[ "$(find "$T/var/gcroots/nncache" -type l | wc -l)" -eq 1 ]
}
