#!/usr/bin/env bats
# Where things are installed, and what the programs say of themselves.

load common

@test "with prefix /usr the hook is /usr/lib/nncache/hook" {
	DESTDIR=$T/dest meson install -C "$B" --no-rebuild --quiet 3>&-
	[ -x "$T/dest/usr/lib/nncache/hook" ]
	[ -x "$T/dest/usr/bin/nncached" ]
	[ -x "$T/dest/usr/bin/nncachectl" ]
}

@test "the hook needs nothing beside libc" {
	run readelf -d "$B/hook/hook"
	[[ "$output" != *libasan* ]] || skip "this is a build with a sanitizer"
	# None at all where there was a static libc to be had.
	[ "$(grep NEEDED <<<"$output" | grep -vc 'libc\.')" -eq 0 ]
}

@test "--help and --version go to stdout and end with 0; a wrong option ends with 2" {
	for program in "$B/daemon/nncached" "$B/ctl/nncachectl"; do
		run "$program" --version
		[ "$status" -eq 0 ]
		[[ "$output" == *"$(sed -n "s/^  version: '\(.*\)',/\1/p" "$TOP/meson.build")"* ]]
		help=$("$program" --help 2>/dev/null)
		[ -n "$help" ]
		[ "$(awk 'length > 100' <<<"$help")" = "" ]
		run "$program" --no-such-option
		[ "$status" -eq 2 ]
	done
}

@test "--dump-config prints what --check-config takes" {
	"$B/daemon/nncached" --dump-config --config "$T/etc/nncache.conf" >"$T/dumped.conf"
	"$B/daemon/nncached" --check-config --config "$T/dumped.conf"
	# But for the remarks on what is a default, it is the same again.
	diff <(grep -v '^#' "$T/dumped.conf") <("$B/daemon/nncached" --dump-config --config "$T/dumped.conf" | grep -v '^#')
}
