# A scratch world in which a newer Nix of one of Debian's suites has a /nix of its own, $T/nix, see
# tests/support/nix_suite. Our daemon runs on this machine beside it, and our hook in it, called by its Nix.
# NNCACHE_NIX_SUITE is the directory of the suite's system.
# shellcheck shell=bash

# shellcheck source=tests/integration/common.bash
. "$(dirname "${BASH_SOURCE[0]}")/../integration/common.bash"
NIX_SUITE=$TOP/tests/support/nix_suite
SYSTEM=${NNCACHE_NIX_SUITE-}

setup() {
	[ -d "$SYSTEM" ] || skip "NOT TESTED: no system with a newer Nix; ./dev test-nix makes one"
	scratch_make
	unset NIX_STORE_DIR NIX_STATE_DIR
	rm -rf "${T:?}"/{store,var}
	mkdir -p "$T"/nix/{store,var/nix/gcroots/nncache}
	ROOTS=/nix/var/nix/gcroots/nncache
	# The machine's own files are not there to be linked to.
	rm "$HOOK"
	cp "$B/hook/hook" "$HOOK"
	cp "$TOP"/tests/support/{path,closures}.nix "$T"
	cat >"$HOOK.env" <<-END
		NNCACHE_SOCKET=$SOCKET
		NNCACHE_SPOOL=$T/state/spool
		NNCACHE_GCROOTS=$ROOTS
	END
	sed -i 's/^experimental-features = .*/& ca-derivations/' "$T/etc/nix.conf"
	configure "file://$T/cache"
	# Clients that come at once to a store that is not made yet get in each other's way.
	theirs nix-store --init
	export NIX_REMOTE=daemon
	start_nix_daemon
}

teardown() {
	[ -n "${T-}" ] || return 0
	scratch_stop
	[ -n "${BATS_TEST_COMPLETED-}" ] || tail -n 20 "$T"/log/*.log
	scratch_remove
}

# configure CACHE-URL: for our daemon; it asks no upstream, as the network may be none.
configure() {
	write_config "$1" "upstreams ="
	set_option "gcroots-dir = $ROOTS"
}

# theirs COMMAND...: in the suite's system.
theirs() {
	timeout 90 "$NIX_SUITE" in "$SYSTEM" "$T" "$@" 3>&-
}

start_nix_daemon() {
	NIX_REMOTE='' start nix-daemon "$NIX_SUITE" in "$SYSTEM" "$T" nix-daemon --daemon
	wait_until 20 test -S "$NIX_DAEMON_SOCKET_PATH" || {
		cat "$T/log/nix-daemon.log"
		return 1
	}
}

start_daemon() {
	start nncached "$NIX_SUITE" beside "$T" "$B/daemon/nncached" --config "$T/etc/nncache.conf"
	wait_until 15 daemon_answers_or_died
	is_running "$(pid_of nncached)"
}

# build_path NAME [BYTES [DEPENDENCY...]]: as in the other tests.
build_path() {
	local name=$1 bytes=${2:-64} deps
	shift
	[ $# = 0 ] || shift
	deps=$(printf '"%s" ' "$@")
	build "$T/path.nix" --argstr name "$name" --argstr bytes "$bytes" --arg deps "[ ${1:+$deps}]"
}

# build ARGUMENT...: by their nix-build, with the hook of nix.conf.
build() {
	theirs nix-build --no-out-link "$@" 2>>"$T/log/nix-build.log"
}

# come_back URL PATH...: by their client, into an empty store that trusts our key alone.
come_back() {
	local url=$1
	shift
	theirs nix copy --from "$url" --to "local?root=$T/second" "$@"
	second_store nix-store --verify --check-contents
	second_store nix-store -q --hash "$@"
}

read_back() {
	come_back "$@"
	shift
	diff <(theirs nix-store -qR "$@" | sort) <(second_store nix-store -qR "$@" | sort)
}

second_store() {
	NIX_REMOTE="local?root=$T/second" theirs "$@"
}

no_roots() {
	[ -z "$(ls -A "$T$ROOTS")" ]
}

# A path's own files, from outside.
exists() {
	[ -e "$T$1" ]
}

is_gone() {
	[ ! -e "$T$1" ]
}
