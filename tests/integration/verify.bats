#!/usr/bin/env bats
# nncachectl verify: what is gone or wrong on a cache is found, and mended where an upload can.

load common

setup() {
	scratch_make
	write_config "file://$T/cache"
}

# start_cache_server: objects in $T/www.
start_cache_server() {
	mkdir -p "$T/www"
	start cache python3 "$TOP/tests/support/cache_server.py" --root "$T/www"
	wait_until 15 test -s "$T/log/cache.log"
	read -r PORT <"$T/log/cache.log"
}

# A closure of three, each on the cache: TWO refers to ONE, THREE to both.
upload_three() {
	start_daemon
	ONE=$(build_path a)
	TWO=$(build_path b 300000 "$ONE")
	THREE=$(build_path c 64 "$ONE" "$TWO")
	wait_until 30 uploaded
}

# found WHAT PATH [REPAIR]: among the findings of the last `verify --json`, in $T/found.
found() {
	jq -e --arg what "$1" --arg path "$2" --arg repair "${3-}" '.found | any(.what == $what and .path == $path
		and ($repair == "" or .repair == $repair))' "$T/found" >/dev/null
}

# verify STATUS ARGUMENT...: its JSON goes to $T/found.
verify() {
	local expected=$1 status=0
	shift
	ctl verify main --json "$@" >"$T/found" || status=$?
	[ "$status" -eq "$expected" ] || {
		echo "verify $* ended with $status, not $expected:"
		cat "$T/found"
		return 1
	}
}

nar_of() {
	sed -n 's/^URL: //p' "$1/$(hash_of "$2").narinfo"
}

# break_cache DIR: ONE loses its narinfo, TWO's NAR is cut off, THREE's is replaced by another of its size.
break_cache() {
	local nar size
	rm "$1/$(hash_of "$ONE").narinfo"
	nar=$1/$(nar_of "$1" "$TWO")
	chmod u+w "$nar"
	truncate -s -100 "$nar"
	nar=$1/$(nar_of "$1" "$THREE")
	chmod u+w "$nar"
	size=$(stat -c %s "$nar")
	head -c "$size" /dev/zero | tr '\0' x >"$nar"
}

# breaks_and_mends DIR
breaks_and_mends() {
	verify 0 --deep
	jq -e '.summary | .paths == 3 and .findings == 0 and .unchecked == 0 and .bytes > 0' "$T/found"
	[ "$(ctl verify main)" = "main: 3 paths verified, nothing wrong" ]

	break_cache "$1"
	verify 4
	found missing "$ONE" upload
	found nar-wrong "$TWO" operator
	found dangling "$TWO" upload
	found nar-wrong "$THREE" && false
	verify 4 --deep
	found nar-wrong "$THREE" operator

	# What stands there is never overwritten; once the operator took it away, it is mended, too.
	verify 4 --deep --repair
	found missing "$ONE" enqueued
	found nar-wrong "$TWO" operator
	cache_has "$1" "$ONE"
	for path in "$TWO" "$THREE"; do
		rm -f "$1/$(nar_of "$1" "$path")" "$1/$(hash_of "$path").narinfo"
	done
	verify 0 --repair
	jq -e '.summary.enqueued == 2' "$T/found"
	verify 0 --deep
	jq -e '.summary | .paths == 3 and .findings == 0' "$T/found"
}

@test "what breaks in a directory is found, and mended" {
	upload_three
	breaks_and_mends "$T/cache"
	read_back "file://$T/cache" "$THREE"
}

@test "what breaks on a server is found, and mended" {
	start_cache_server
	write_config "http://127.0.0.1:$PORT/ok"
	upload_three
	breaks_and_mends "$T/www"
	read_back "http://127.0.0.1:$PORT/ok" "$THREE"
}

@test "a server that thanks for everything and keeps nothing is found out" {
	start_cache_server
	write_config "http://127.0.0.1:$PORT/lie"
	start_daemon
	# Of the first it keeps nothing, of the second no NAR.
	: >"$T/www/.lie"
	first=$(build_path first)
	wait_until 30 uploaded
	echo nar/ >"$T/www/.lie"
	second=$(build_path second)
	wait_until 30 uploaded
	cache_lacks "$T/www" "$first"
	run ctl verify main
	[ "$status" -eq 4 ]
	[[ "$output" == *"missing"*"$first"* ]]
	[[ "$output" == *"nar-missing"*"$second"* ]]

	# As long as it lies, nothing mends it; once it does not, that does.
	rm "$T/www/.lie"
	verify 0 --repair
	jq -e '.summary.enqueued == 2' "$T/found"
	cache_has "$T/www" "$first" "$second"
	verify 0 --deep
	read_back "http://127.0.0.1:$PORT/lie" "$first" "$second"
}

@test "what is no longer in the store cannot be mended from here, and is named" {
	upload_three
	rm "$T/cache/$(hash_of "$THREE").narinfo"
	nix-store --delete "$THREE" >/dev/null
	run ctl verify main --repair
	[ "$status" -eq 4 ]
	[[ "$output" == *"missing"*"$THREE"*"cannot be repaired from here"* ]]
}

@test "a narinfo that says something else, or is not signed, is found" {
	upload_three
	local a b
	a=$T/cache/$(hash_of "$ONE").narinfo
	b=$T/cache/$(hash_of "$TWO").narinfo
	chmod u+w "$a" "$b"
	sed -i 's/^Sig: .*/Sig: scratch-1:AAAA/' "$a"
	sed -i 's/^References: .*/References: /' "$b"
	verify 4
	found unsigned "$ONE" operator
	found unsigned "$TWO" operator
	echo nonsense >"$a"
	verify 4
	found wrong "$ONE" operator

	# What the cache says it refers to is not sent to it on its word.
	private=$(make_path private)
	sed -i "s/^References: .*/References: $(basename "$private")/" "$b"
	verify 4 --repair
	found dangling "$TWO" none
	cache_lacks "$T/cache" "$private"
}

@test "a cache that does not answer ends it with 1, one that is not configured, too" {
	start_cache_server
	write_config "http://127.0.0.1:$PORT/ok"
	upload_three
	stop cache
	run ctl verify main
	[ "$status" -eq 1 ]
	[[ "$output" == *"127.0.0.1:$PORT"* ]]
	run ctl verify nowhere
	[ "$status" -eq 1 ]
	[[ "$output" == *nowhere* ]]
	run ctl verify
	[ "$status" -eq 2 ]
}

@test "an Attic cache is verified as its readers see it" {
	start attic python3 "$TOP/tests/support/attic_server.py" --store-dir "$T/store"
	wait_until 15 test -s "$T/log/attic.log"
	read -r PORT _ <"$T/log/attic.log"
	echo open-sesame >"$T/etc/token"
	chmod 600 "$T/etc/token"
	write_config "attic+http://127.0.0.1:$PORT/team" "token-file = $T/etc/token"
	upload_three
	verify 0 --deep
	jq -e '.summary | .paths == 3 and .findings == 0 and .unchecked == 0' "$T/found"
}

@test "what was built without a hook is listed, and handed over when somebody says so" {
	start_daemon
	reported=$(build_path reported)
	wait_until 30 uploaded
	forgotten=$(make_path forgotten 64 "$reported")
	[ "$(ctl catch-up --dry-run)" = "$forgotten" ]
	# Nobody is there to say yes.
	[ "$(ctl catch-up </dev/null)" = "$forgotten" ]
	[ "$(ctl catch-up --json </dev/null | jq -r '.paths[]')" = "$forgotten" ]
	cache_lacks "$T/cache" "$forgotten"
	ctl catch-up --yes
	wait_until 30 cache_has "$T/cache" "$forgotten"
	wait_until 30 uploaded
	ctl catch-up --json --yes | jq -e '.found == 0 and .accepted == 0'
	run ctl catch-up --yes --dry-run
	[ "$status" -eq 2 ]
}
