#!/usr/bin/env bats
# nncachectl's verbs that set up Nix itself, on configurations of the test's own.

# shellcheck disable=SC2154 # mark sets the variables

load common
load marks

setup() {
	scratch_make
	write_config "file://$T/cache"
	CONF=$T/etc/nix.conf
	OWN=$(readlink -f "$B/hook/hook")
	sed -i /post-build-hook/d "$CONF"
	# The hook that `hook enable` sets has no file of settings beside it.
	export NNCACHE_SPOOL=$T/state/spool NNCACHE_GCROOTS=$T/var/gcroots/nncache NNCACHE_SOCKET=$SOCKET
	cp "$CONF" "$T/before.conf"
}

# build NAME: with the hook that the configuration has.
build() {
	timeout 60 nix-build --no-out-link "$TOP/tests/support/path.nix" --argstr name "$1" 2>>"$T/log/nix-build.log" 3>&-
}

# hook_of: the one that Nix itself sees.
hook_of() {
	nix show-config | sed -n 's/^post-build-hook = //p'
}

n_spooled() {
	find "$T/state/spool" -name '*.req' | wc -l
}

# other_hook: a hook of somebody else; it notes what it is told, and fails with 7 if there is $T/fail.
other_hook() {
	cat >"$T/hook/other's hook" <<-END
		#!/bin/sh
		echo "\$OUT_PATHS \$DRV_PATH" >>$T/other.calls
		[ ! -e $T/fail ] || exit 7
	END
	chmod +x "$T/hook/other's hook"
	echo "post-build-hook = $T/hook/other's hook" >>"$CONF"
}

@test "enabled, the next build is handed over; disabled, none is, and the file is as before" {
	run ctl hook status
	[ "$status" -eq 1 ]
	run ctl hook enable
	[ "$status" -eq 0 ]
	[[ $output == *"post-build-hook = $OWN"* ]]
	[ "$(hook_of)" = "$OWN" ]
	ctl hook status
	build one
	[ "$(n_spooled)" -eq 1 ]

	ctl hook disable
	cmp "$CONF" "$T/before.conf"
	[ -z "$(hook_of)" ]
	build two
	[ "$(n_spooled)" -eq 1 ]
}

@test "what is done is not done again, and a dry run does nothing" {
	run ctl hook enable --dry-run
	[ "$status" -eq 0 ]
	[[ $output == *"post-build-hook = $OWN"* ]]
	cmp "$CONF" "$T/before.conf"
	ctl hook enable
	cp "$CONF" "$T/enabled.conf"
	inode=$(stat -c %i "$CONF")
	ctl hook enable --json | jq -e '.changed == false and .changes == [] and .needs_restart == false'
	[ "$(stat -c %i "$CONF")" = "$inode" ]
	cmp "$CONF" "$T/enabled.conf"
	ctl hook disable --dry-run --json |
		jq -e '.changed == false and .dry_run and .changes[0].is_new == false and (.changes | length) == 1'
	cmp "$CONF" "$T/enabled.conf"
	ctl hook disable
	ctl hook disable
	cmp "$CONF" "$T/before.conf"
}

@test "another hook stays, and the script that is printed calls both and keeps its exit status" {
	other_hook
	cp "$CONF" "$T/other.conf"
	ctl hook enable >"$T/hook/both" 2>"$T/said" && false
	cmp "$CONF" "$T/other.conf"
	grep -q "^nncachectl: $CONF:7: another hook is set" "$T/said"
	ctl hook disable
	cmp "$CONF" "$T/other.conf"

	shellcheck "$T/hook/both"
	chmod +x "$T/hook/both"
	sed -i "s,^post-build-hook = .*,post-build-hook = $T/hook/both," "$CONF"
	build one
	[ "$(n_spooled)" -eq 1 ]
	grep -q " $T/store/.*-one\.drv$" "$T/other.calls"
	# Word for word, whatever is in them.
	OUT_PATHS='/a  /b?*' DRV_PATH="$T/x.drv" "$T/hook/both" 3>&-
	grep -qxF "/a  /b?* $T/x.drv" "$T/other.calls"

	# With the script the hook counts as set; its line is not ours to take out.
	ctl hook status --json | jq -e '.enabled and .kind == "wrapped"'
	ctl hook enable
	run ctl hook disable
	[ "$status" -eq 1 ]
	grep -q "hook/both" "$CONF"

	touch "$T/fail"
	n_spooled=$(n_spooled)
	run build two
	[ "$status" -ne 0 ]
	[ "$(n_spooled)" -eq $((n_spooled + 1)) ]
}

@test "where the installer has a file for people, the line goes there" {
	echo '!include nix.custom.conf' >>"$CONF"
	cp "$CONF" "$T/before.conf"
	ctl hook enable
	cmp "$CONF" "$T/before.conf"
	[ "$(cat "$T/etc/nix.custom.conf")" = "post-build-hook = $OWN" ]
	[ "$(hook_of)" = "$OWN" ]
	ctl hook status --json | jq -e --arg file "$T/etc/nix.custom.conf" '.set_by.file == $file and .set_by.line == 1'
	echo 'cores = 1' >>"$T/etc/nix.custom.conf"
	ctl hook disable
	[ "$(cat "$T/etc/nix.custom.conf")" = 'cores = 1' ]
	[ -z "$(hook_of)" ]
}

@test "a line that sets no hook, or that of an nncache elsewhere, is set right in its place" {
	for value in '' "$T/old/lib/nncache/hook"; do
		{
			echo "post-build-hook = $value # ours"
			cat "$T/before.conf"
		} >"$CONF"
		ctl hook enable
		[ "$(hook_of)" = "$OWN" ]
		[ "$(head -n 1 "$CONF")" = "post-build-hook = $OWN" ]
		[ "$(grep -c post-build-hook "$CONF")" -eq 1 ]
	done
	# Of a hook that is gone, every build would fail.
	sed -i "s,$OWN,$T/old/lib/nncache/hook," "$CONF"
	ctl hook status --json | jq -e '.enabled == false and .kind == "moved" and .exists == false'
	ctl hook disable
	cmp "$CONF" "$T/before.conf"
}

@test "what NixOS makes is not touched, and the line for its configuration is printed" {
	made=$(timeout 30 nix-store --add "$CONF")
	rm "$CONF"
	ln -s "$made" "$CONF"
	run ctl hook enable
	[ "$status" -eq 1 ]
	[[ $output == *"services.nncache.enable = true;"* ]]
	[ -L "$CONF" ]
	cmp "$CONF" "$T/before.conf"
}

@test "the status says who else decides, and what Nix does not understand" {
	ctl hook enable
	echo "post-build-hook = $T/hook/mine" >"$T/etc/user.conf"
	NIX_USER_CONF_FILES=$T/etc/user.conf ctl hook status --json >"$T/status" || true
	# Root's own files are nix-daemon's, too.
	if [ "$(id -u)" = 0 ]; then
		jq -e --arg file "$T/etc/user.conf" '.set_by.file == $file and .kind == "other"' "$T/status"
	else
		jq -e --arg file "$T/etc/user.conf" '.user_set_by.file == $file' "$T/status"
	fi
	echo 'cores=1' >>"$CONF"
	ctl hook status --json | jq -e --arg at "$CONF:8: " '.problem | startswith($at)'
}

@test "nix-daemon is told of once it runs longer than the line is there" {
	start_nix_daemon
	run ctl hook enable
	[ "$status" -eq 0 ]
	[[ $output == *"restart"* ]]
	ctl hook status --json | jq -e '.nix_daemon.running and .nix_daemon.needs_restart'
	ctl hook enable --json 2>/dev/null | jq -e '.changed == false and .needs_restart'
	stop nix-daemon
	rm -f "$NIX_DAEMON_SOCKET_PATH"
	start_nix_daemon
	ctl hook status --json | jq -e '.nix_daemon.running and (.nix_daemon.needs_restart | not)'
	NIX_REMOTE=daemon build one
	[ "$(n_spooled)" -eq 1 ]
}

@test "who may not write is told that root may" {
	[ "$(id -u)" = 0 ] || skip "NOT TESTED: only root can become somebody who may not"
	run setpriv --reuid 65534 --regid 65534 --clear-groups "$B/ctl/nncachectl" hook enable 3>&-
	[ "$status" -eq 1 ]
	[[ $output == *"$CONF"*"root"* ]]
	cmp "$CONF" "$T/before.conf"
}

# ---- use ------------------------------------------------------------------------------------------

# fill URL [LINE...]: a path named `filled` goes to the cache; FILLED is it.
fill() {
	write_config "$@"
	[[ $1 != cachix:* ]] || sed -i '/^signing-key-file/d' "$T/etc/nncache.conf" # the server signs
	start_daemon
	FILLED=$(WITH_HOOK='' build_path filled)
	ctl push "$FILLED"
	stop_daemon
}

# fresh_conf: a configuration with no caches and no keys, as that of a machine that only reads.
fresh_conf() {
	grep -vE '^(post-build-hook|trusted-public-keys)' "$T/before.conf" >"$CONF"
	echo 'trusted-public-keys =' >>"$CONF"
	cp "$CONF" "$T/before.conf"
}

# arrives PATH: Nix substitutes it into an empty store, by its configuration alone.
arrives() {
	second_store timeout 60 nix-store --realise "$1" 3>&-
	second_store nix-store --verify --check-contents
	second_store nix-store -q --hash "$1"
}

# start_server KIND [ARGUMENT...]: sets PORT and KEY.
start_server() {
	start "$1" python3 "$TOP/tests/support/$1_server.py" --store-dir "$T/store" "${@:2}"
	wait_until 15 test -s "$T/log/$1.log"
	read -r PORT KEY <"$T/log/$1.log"
	echo open-sesame >"$T/etc/token"
	chmod 600 "$T/etc/token"
}

set_mode() {
	curl -sf -d "$1" "http://127.0.0.1:$PORT/_test/mode"
}

@test "a cache in a directory is used with its key, and what it has arrives" {
	fill "file://$T/cache"
	fresh_conf
	run ctl use "file://$T/cache"
	[ "$status" -eq 2 ]
	[[ $output == *"--public-key"* ]]
	cmp "$CONF" "$T/before.conf"
	ctl use "file://$T/cache" --public-key "$(cat "$T/etc/key.public")" --dry-run
	cmp "$CONF" "$T/before.conf"

	ctl use "file://$T/cache" --public-key "$(cat "$T/etc/key.public")"
	[ "$(tail -n 2 "$CONF")" = "extra-substituters = file://$T/cache
extra-trusted-public-keys = $(cat "$T/etc/key.public")" ]
	arrives "$FILLED"
	cp "$CONF" "$T/used.conf"
	ctl use "file://$T/cache/" --public-key "$(cat "$T/etc/key.public")" --json | jq -e '.changed == false and .changes == []'
	ctl use "file://$T/cache"
	cmp "$CONF" "$T/used.conf"
}

@test "what is no cache is not used, and neither is one for another store" {
	mkdir "$T/none"
	for url in "file://$T/none" "http://127.0.0.1:1/x" 'gopher://x' "file://$T/no
ne" 'https://x.example/#a'; do
		run ctl use "$url" --public-key "$(cat "$T/etc/key.public")"
		[ "$status" -ne 0 ]
		[ -n "$output" ]
		cmp "$CONF" "$T/before.conf"
	done
	printf 'StoreDir: /elsewhere\n' >"$T/none/nix-cache-info"
	run ctl use "file://$T/none" --public-key "$(cat "$T/etc/key.public")"
	[ "$status" -eq 1 ]
	[[ $output == *"/elsewhere"* ]]
	run ctl use "file://$T/none" --public-key nonsense
	[ "$status" -ne 0 ]
	cmp "$CONF" "$T/before.conf"
}

@test "an Attic cache says its key; a private one is read with the token, which only its owner may read" {
	start_server attic
	fill "attic+http://127.0.0.1:$PORT/team" "token-file = $T/etc/token"
	fresh_conf
	ctl use "attic+http://127.0.0.1:$PORT/team"
	grep -qx "extra-substituters = http://127.0.0.1:$PORT/team" "$CONF"
	grep -qx "extra-trusted-public-keys = $KEY" "$CONF"
	[ ! -e "$T/etc/netrc" ]

	set_mode private
	run arrives "$FILLED"
	[ "$status" -ne 0 ]
	rm -rf "$T/second" "$XDG_CACHE_HOME"
	cp "$T/before.conf" "$CONF"
	run ctl use "attic+http://127.0.0.1:$PORT/team"
	[ "$status" -eq 1 ]
	[[ $output == *401* ]]
	cmp "$CONF" "$T/before.conf"
	printf 'machine other.example password x\ndefault login y password z\n' >"$T/etc/netrc"
	chmod 600 "$T/etc/netrc"
	ctl use "attic+http://127.0.0.1:$PORT/team" --token-file "$T/etc/token" >"$T/said" 2>&1
	grep open-sesame "$T/said" && false
	[ "$(cat "$T/etc/netrc")" = 'machine other.example password x
machine 127.0.0.1 login nncache password open-sesame
default login y password z' ]
	[ "$(stat -c %a "$T/etc/netrc")" = 600 ]
	arrives "$FILLED"
	ctl use "attic+http://127.0.0.1:$PORT/team" --token-file "$T/etc/token" --json | jq -e '.changed == false'
	rm -rf "$T/second" "$XDG_CACHE_HOME" "$T/etc/netrc"
	ctl use "attic+http://127.0.0.1:$PORT/team" --token-file "$T/etc/token"
	[ "$(cat "$T/etc/netrc")" = 'machine 127.0.0.1 password open-sesame' ]
	arrives "$FILLED"
	echo open-other >"$T/etc/token"
	run ctl use "http://127.0.0.1:$PORT/team" --token-file "$T/etc/token"
	[ "$status" -eq 1 ]
	[[ $output == *401* ]]
	grep -qx 'machine 127.0.0.1 password open-sesame' "$T/etc/netrc"
}

# note_argv: of each nncached that nncachectl starts from here on, in $T/seen/argv.
note_argv() {
	mkdir -p "$T/seen" "$T/build/ctl" "$T/build/daemon"
	cp "$B/ctl/nncachectl" "$T/build/ctl/"
	cat >"$T/build/daemon/nncached" <<-END
		#!/bin/sh
		printf '%s\n' "\$0" "\$@" >>"$T/seen/argv"
		exec "$B/daemon/nncached" "\$@"
	END
	chmod +x "$T/build/daemon/nncached"
	B=$T/build
}

@test "a token is in its file and in that of Nix, and nowhere else, whether the cache takes it or repeats it" {
	mark token
	mark wrong_token
	for word in "$token" "$wrong_token"; do
		MARKS+=("$(printf ':%s' "$word" | base64 -w 0)")
	done
	start_server attic --token "$token"
	echo "$token" >"$T/etc/token"
	echo "$wrong_token" >"$T/etc/wrong"
	echo "$wrong_token $token" >"$T/etc/two"
	chmod 600 "$T/etc"/{wrong,two}
	fill "attic+http://127.0.0.1:$PORT/team" "token-file = $T/etc/token"
	fresh_conf
	set_mode private
	note_argv
	for scheme in attic+http http; do
		url=$scheme://127.0.0.1:$PORT/team
		for file in wrong two; do
			run ctl use "$url" --public-key "$KEY" --token-file "$T/etc/$file"
			[ "$status" -eq 1 ]
			echo "$output" >>"$T/seen/refused"
			cmp "$CONF" "$T/before.conf"
		done
		for words in --dry-run '--dry-run --json' '' --json; do
			# shellcheck disable=SC2086 # words
			ctl use "$url" --public-key "$KEY" --token-file "$T/etc/token" $words >>"$T/seen/said" 2>&1
		done
		cp "$CONF" "$T/seen/$scheme.conf"
		grep -qx "machine 127.0.0.1 password $token" "$T/etc/netrc"
		rm "$T/etc/netrc"
		cp "$T/before.conf" "$CONF"
	done
	grep -q 'Unauthorized: Bearer \*' "$T/seen/refused"
	grep -qF '(a secret)' "$T/seen/said"
	grep -qx -e --show-cache "$T/seen/argv"
	holds_a_mark -q "$T/etc/token"
	no_mark_in "$T/seen" "$T/log" "$T/state" "$T/run" "$T/var" "$T/home" "$T/tmp"
}

@test "a Cachix cache says its key and where it is read" {
	start_server cachix
	set_mode here
	fill cachix://team "endpoint = http://127.0.0.1:$PORT" "token-file = $T/etc/token"
	fresh_conf
	echo '!include nix.custom.conf' >>"$CONF"
	cp "$CONF" "$T/before.conf"
	ctl use cachix://team --endpoint "http://127.0.0.1:$PORT" --json >"$T/said"
	jq -e --arg key "$KEY" --arg url "http://127.0.0.1:$PORT/cache" \
		'.changed and .url == $url and .public_keys == [$key] and (.changes | length) == 2' "$T/said"
	cmp "$CONF" "$T/before.conf"
	[ "$(wc -l <"$T/etc/nix.custom.conf")" -eq 2 ]
	arrives "$FILLED"
}

@test "a bucket is taken as Nix writes it" {
	ctl use 's3://builds?region=eu-west-1&endpoint=s3.example.org' --public-key "$(cat "$T/etc/key.public")"
	grep -qxF 'extra-substituters = s3://builds?region=eu-west-1&endpoint=s3.example.org' "$CONF"
	[ "$(grep -c trusted-public-keys "$CONF")" -eq 1 ] # the key is trusted already
}

@test "a line further down that sets the list anew is named" {
	{
		echo '!include nix.custom.conf'
		cat "$T/before.conf"
	} >"$CONF"
	printf 'StoreDir: %s\n' "$T/store" >"$T/cache/nix-cache-info"
	run ctl use "file://$T/cache" --public-key "$(cat "$T/etc/key.public")"
	[ "$status" -eq 1 ]
	[[ $output == *"$CONF:3: substituters is set anew"* ]]
}

@test "a trusted user's lines go into that user's own file; another user is told what root can do" {
	[ "$(id -u)" = 0 ] || skip "NOT TESTED: only root can become somebody else"
	printf 'StoreDir: %s\n' "$T/store" >"$T/cache/nix-cache-info"
	install -d -o 65534 -g 65534 "$T/home/user"
	as_user() {
		setpriv --reuid 65534 --regid 65534 --clear-groups env HOME="$T/home/user" NIX_USER_CONF_FILES="$T/home/user/nix.conf" \
			"$B/ctl/nncachectl" use "file://$T/cache" --public-key "$(cat "$T/etc/key.public")" "$@" 3>&-
	}
	run as_user
	[ "$status" -eq 1 ]
	[[ $output == *"extra-trusted-substituters = file://$T/cache"* ]]
	[ ! -e "$T/home/user/nix.conf" ]

	echo "extra-trusted-substituters = file://$T/cache" >>"$CONF"
	as_user
	[ "$(cat "$T/home/user/nix.conf")" = "extra-substituters = file://$T/cache" ]
	rm "$T/home/user/nix.conf"

	cp "$T/before.conf" "$CONF"
	echo "trusted-users = root @$(id -gn 65534)" >>"$CONF"
	as_user
	[ "$(cat "$T/home/user/nix.conf")" = "extra-substituters = file://$T/cache" ]
	cp "$CONF" "$T/trusted.conf"
	as_user --json | jq -e '.changed == false'
	cmp "$CONF" "$T/trusted.conf"
}
