#!/usr/bin/env bats
# nncache.deb from its installation to its purge, with real builds, on copies of this system that are thrown away.

setup_file() {
	TOP=$(readlink -f "$BATS_TEST_DIRNAME/../..")
	export TOP
	"$TOP/tests/package/build_deb" "$BATS_FILE_TMPDIR" >"$BATS_FILE_TMPDIR/log" 2>&1 3>&- || {
		tail -n 30 "$BATS_FILE_TMPDIR/log"
		return 1
	}
}

# throwaway: runs the script on stdin, see tests/package/throwaway.
throwaway() {
	unshare --mount --pid --fork true || skip "NOT TESTED: no namespaces of its own here"
	timeout 120 "$TOP/tests/package/throwaway" "$BATS_FILE_TMPDIR"/nncache_*.deb "$(cat)" 3>&-
}

@test "lintian finds nothing to say" {
	run lintian --allow-root --profile debian "$BATS_FILE_TMPDIR"/nncache_*.changes
	echo "$output"
	[ "$status" -eq 0 ]
	[ -z "$output" ]
}

@test "installed, it uploads what is built; purged, it leaves nothing and builds go on" {
	throwaway <<-'SCRIPT'
		install_package
		id nncache
		[ "$(stat -c %a /etc/nncache/credentials)" = 700 ]
		echo "$HOOK_LINE" >>/etc/nix/nix.conf
		start_nncached
		path=$(build program)
		wait_until test -e "cache/$(basename "$path" | cut -c 1-32).narinfo"
		nncachectl status
		kill $NNCACHED
		wait $NNCACHED

		purge_package >said 2>&1
		cat said
		grep -q 'restart nix-daemon' said
		grep 'not uploaded' said && false
		grep '^post-build-hook' /etc/nix/nix.conf && false
		grep -q '^sandbox = false$' /etc/nix/nix.conf
		[ ! -e /usr/lib/nncache ]
		[ ! -e /var/lib/nncache ]
		[ ! -e /nix/var/nix/gcroots/nncache ]
		[ "$(ls /etc/nncache)" = nncache.conf ]
		build another
	SCRIPT
}

@test "removed, it keeps the queue; a purge then says what was not uploaded" {
	throwaway <<-'SCRIPT'
		install_package
		build dependency
		mkdir -p /nix/var/nix/gcroots/nncache /var/lib/nncache/spool # as the service does
		echo "$HOOK_LINE  # ours" >>/etc/nix/nix.conf
		build program
		purge_package remove
		grep '^post-build-hook' /etc/nix/nix.conf && false
		ls /var/lib/nncache/spool/*.req /nix/var/nix/gcroots/nncache/*
		build another
		purge_package | tee said
		grep -q 'not uploaded yet, .*: 1$' said
		[ ! -e /var/lib/nncache ]
		[ ! -e /nix/var/nix/gcroots/nncache ]
	SCRIPT
}

@test "an upgrade leaves nix.conf alone" {
	throwaway <<-'SCRIPT'
		install_package
		echo "$HOOK_LINE" >>/etc/nix/nix.conf
		install_package
		grep -qx "$HOOK_LINE" /etc/nix/nix.conf
		build program
	SCRIPT
}

@test "the line of another hook is left alone" {
	throwaway <<-'SCRIPT'
		install_package
		printf '#!/bin/sh\necho called >>/tmp/called\n' >/usr/local/bin/other
		chmod +x /usr/local/bin/other
		printf '%s\n' 'post-build-hook = /usr/local/bin/other' "# $HOOK_LINE" >>/etc/nix/nix.conf
		cp /etc/nix/nix.conf before
		purge_package
		cmp before /etc/nix/nix.conf
		build program
		grep -qx called /tmp/called
	SCRIPT
}

@test "the line is taken out of files that nix.conf includes, and of them only" {
	throwaway <<-'SCRIPT'
		install_package
		echo '!include nix.custom.conf' >>/etc/nix/nix.conf
		echo 'include /etc/nix/more/two.conf' >/etc/nix/nix.custom.conf
		mkdir /etc/nix/more
		ln -s /usr/lib/nncache/hook /usr/local/bin/my-hook
		echo 'post-build-hook = /usr/local/bin/my-hook' >>/etc/nix/nix.custom.conf
		echo "$HOOK_LINE" | tee -a /etc/nix/nix.custom.conf /etc/nix/more/two.conf /etc/nix/unused.conf
		chmod 640 /etc/nix/nix.custom.conf
		build program
		purge_package
		grep '^post-build-hook' /etc/nix/nix.custom.conf /etc/nix/more/two.conf && false
		[ "$(stat -c %a /etc/nix/nix.custom.conf)" = 640 ]
		grep -qx "$HOOK_LINE" /etc/nix/unused.conf
		build another
	SCRIPT
}

@test "where the line cannot be taken out, the removal stops, and the hook stays" {
	throwaway <<-'SCRIPT'
		install_package
		cp /etc/nix/nix.conf nix.conf
		printf '#!/bin/sh\nexec /usr/lib/nncache/hook\n' >/usr/local/bin/my-hook
		chmod +x /usr/local/bin/my-hook
		echo 'post-build-hook = /usr/local/bin/my-hook' >>/etc/nix/nix.conf
		refuses purge_package
		[[ "$said" == *"take it out there, restart nix-daemon, and remove nncache then"* ]]
		build program

		echo "$HOOK_LINE" >>nix.conf
		mount --bind nix.conf /etc/nix/nix.conf
		refuses purge_package
		[ "$(ls /etc/nix/*.nncache-* 2>/dev/null)" = "" ]
		build another

		umount /etc/nix/nix.conf
		sed -i /post-build-hook/d /etc/nix/nix.conf
		purge_package
		build a-third
	SCRIPT
}
