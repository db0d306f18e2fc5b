# A booted machine for the tests of this directory, see tests/support/boot, with nncache installed on it.
# shellcheck shell=bash

TOP=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
B=${NNCACHE_BUILD:-$TOP/build/dev}
BOOT=$TOP/tests/support/boot

# wait_until SECONDS COMMAND...: tries it five times a second until it succeeds.
wait_until() {
	local end=$((SECONDS + $1 + 1))
	shift
	until "$@" >/dev/null 2>&1; do
		if [ $SECONDS -ge $end ]; then
			echo "waited in vain for: $*" >&2
			return 1
		fi
		sleep 0.2
	done
}

init_pid() {
	local pid
	pid=$(cat "$MACHINE.pid")
	tr -d ' ' <"/proc/$pid/task/$pid/children"
}

# inside COMMAND...: on the machine, as root.
inside() {
	nsenter --target "$(init_pid)" --mount --pid --uts --ipc --net --cgroup --root --wd \
		env -i -C / PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root NIX_REMOTE=daemon timeout 90 "$@" 3>&-
}

# inside_as USER COMMAND...
inside_as() {
	local user=$1
	shift
	inside setpriv --reuid "$user" --regid "$(inside id -g "$user")" --init-groups "$@"
}

# put FILE: what comes on stdin.
put() {
	inside tee "$1" >/dev/null
}

machine_boot() {
	"$BOOT" run "$MACHINE" >"$MACHINE.log" 2>&1 </dev/null 3>&- &
	echo $! >"$MACHINE.pid"
	wait_until 60 inside systemctl is-active multi-user.target
}

# Without a word to anybody on it.
machine_kill() {
	local pid
	pid=$(cat "$MACHINE.pid")
	kill -s KILL "$(init_pid)"
	wait_until 20 test ! -e "/proc/$pid/stat" -o -z "$(cat "/proc/$pid/task/$pid/children" 2>/dev/null)"
	rm "$MACHINE.pid"
}

# Why no machine can be booted here; nothing if one can.
why_no_machine() {
	local tool
	[ "$(id -u)" = 0 ] || echo "only root can boot a machine"
	for tool in systemctl nix-daemon nsenter meson jq; do
		[ -n "$(command -v $tool)" ] || echo "there is no $tool"
	done
	[ -e /lib/systemd/system/nix-daemon.socket ] || echo "nix-daemon has no units"
	[[ $(readlink -f "$(command -v nix-daemon)") != /nix/* ]] || echo "Nix lies in the store that is to be empty"
}

# Boots a machine with this build on it, or sets NO_MACHINE to why not.
machine_make() {
	export MACHINE NO_MACHINE
	MACHINE=$(mktemp -u /tmp/nncache-boot.XXXXXX)
	NO_MACHINE=$(why_no_machine | head -n 1)
	[ -z "$NO_MACHINE" ] || return 0
	NO_MACHINE=$("$BOOT" prepare "$MACHINE" 2>&1 && "$BOOT" try "$MACHINE" 2>&1) || {
		NO_MACHINE=$(head -n 1 <<<"${NO_MACHINE:-it cannot be booted}")
		return 0
	}
	NO_MACHINE=
	DESTDIR=$MACHINE/upper meson install -C "$B" --no-rebuild --quiet 3>&-
	machine_boot
}

machine_forget() {
	[ ! -e "$MACHINE.pid" ] || machine_kill
	! mountpoint -q "$MACHINE" || "$BOOT" forget "$MACHINE"
	rm -rf "$MACHINE.log"
}
