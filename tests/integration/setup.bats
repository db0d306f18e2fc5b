#!/usr/bin/env bats
# nncachectl's verbs that set up Nix itself, on configurations of the test's own.

load common

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
