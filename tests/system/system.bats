#!/usr/bin/env bats
# The service on a machine that is booted by the distribution's systemd, with nix-daemon under its own units.
# The tests build on each other, since one boot serves them all.

load machine

CACHE=/srv/cache

setup_file() {
	machine_make
	[ -z "$NO_MACHINE" ] || return 0
	inside mkdir -p /srv/keys "$CACHE" /etc/nix
	inside chown nncache:nncache "$CACHE"
	put /srv/path.nix <"$TOP/tests/support/path.nix"
	put /etc/nix/nix.conf <<-'END'
		sandbox = false
		substituters =
	END
	inside systemctl restart nix-daemon
	inside nix-store --generate-binary-cache-key machine-1 /srv/keys/secret /srv/keys/public
	inside install -d -m 700 /etc/nncache/credentials
	inside install -m 600 /srv/keys/secret /etc/nncache/credentials/cache.key
	put /etc/nncache/nncache.conf <<-END
		[cache "main"]
		url = file://$CACHE
		signing-key-file = cache.key
	END
}

teardown_file() {
	machine_forget
}

setup() {
	[ -z "$NO_MACHINE" ] || skip "NOT TESTED: $NO_MACHINE"
}

teardown() {
	[ -n "${BATS_TEST_COMPLETED-}$NO_MACHINE" ] || {
		inside nncachectl status
		inside ls -la /nix/var/nix/db /nix/var/nix/daemon-socket
		inside journalctl --no-pager -n 20 -u nncached -u nncached.socket
	} 2>&1 || true
}

# build NAME: with the hook, and prints the path.
build() {
	inside nix-build --no-out-link /srv/path.nix --argstr name "$1"
}

status_is() {
	inside nncachectl status --json | jq -e "$1"
}

is_active() {
	inside systemctl is-active --quiet "$1"
}

narinfo_of() {
	echo "$(basename "$1" | cut -c 1-32).narinfo"
}

cache_has() {
	local path
	for path; do
		inside test -e "$CACHE/$(narinfo_of "$path")" || return 1
	done
}

# as_builder COMMAND...: the user whose own service runs, see below.
as_builder() {
	local runtime
	runtime=/run/user/$(inside id -u builder)
	inside_as builder env HOME=/home/builder XDG_RUNTIME_DIR="$runtime" \
		NNCACHE_SOCKET="$runtime/nncache/nncached.sock" "$@"
}

builder_can() {
	[ -n "$(inside id -u builder)" ] || skip "NOT TESTED: no lingering user"
}

nix_daemon_pid() {
	inside systemctl show -P MainPID nix-daemon
}

# on_a_terminal ANSWER COMMAND
on_a_terminal() {
	inside script -qec "$2" /dev/null <<<"$1"
}

@test "the hook is set by a verb, which restarts nix-daemon once that is allowed" {
	pid=$(nix_daemon_pid)
	run inside nncachectl hook enable
	[ "$status" -eq 0 ]
	[[ $output == *"systemctl try-restart nix-daemon.service"* ]]
	inside grep -qx 'post-build-hook = /usr/lib/nncache/hook' /etc/nix/nix.conf
	[ "$(on_a_terminal n 'nncachectl hook enable' | grep -c 'Restart nix-daemon now')" -eq 1 ]
	[ "$(nix_daemon_pid)" = "$pid" ]
	inside nncachectl hook status --json | jq -e '.enabled and .nix_daemon.needs_restart'

	on_a_terminal '' 'nncachectl hook enable'
	[ "$(nix_daemon_pid)" != "$pid" ]
	inside nncachectl hook status --json | jq -e '.enabled and .nix_daemon.running and (.nix_daemon.needs_restart | not)'
	pid=$(nix_daemon_pid)
	inside nncachectl hook enable --yes
	[ "$(nix_daemon_pid)" = "$pid" ]
	inside nncachectl hook disable --yes
	[ "$(nix_daemon_pid)" != "$pid" ]
	inside nncachectl hook enable --yes
}

@test "it starts with the places of the system, which are as they should be" {
	inside systemctl enable --now --quiet nncached
	is_active nncached
	is_active nncached.socket
	[ "$(inside stat -c '%a %U' /run/nncache/nncached.sock)" = "666 root" ]
	[ "$(inside stat -c '%a %U' /run/nncache)" = "755 root" ]
	[ "$(inside stat -c '%a %U' /var/lib/nncache)" = "700 nncache" ]
	[ "$(inside stat -c '%a %U' /nix/var/nix/gcroots/nncache)" = "755 nncache" ]
	status_is '.user_mode == false and (.caches | length) == 1'
	[[ $(inside systemctl show -P StatusText nncached) == "0 to go, 0 failed"* ]]
}

@test "a cache in a directory needs a drop-in, and it says which" {
	path=$(build first)
	wait_until 30 status_is '[.. | strings | select(contains("ReadWritePaths=/srv/cache"))] | length > 0'
	inside mkdir -p /etc/systemd/system/nncached.service.d
	put /etc/systemd/system/nncached.service.d/cache.conf <<-END
		[Service]
		ReadWritePaths=$CACHE
	END
	inside systemctl daemon-reload
	inside systemctl restart nncached
	inside nncachectl retry "$path"
	wait_until 30 cache_has "$path"
	wait_until 30 status_is '.queue.unfinished == 0'
	# The key came by the credentials, which the service's user itself cannot read.
	inside grep -q '^Sig: machine-1:' "$CACHE/$(narinfo_of "$path")"
	run inside_as nncache cat /etc/nncache/credentials/cache.key
	[ "$status" -ne 0 ]
}

@test "an ordinary user may look, and may not steer" {
	inside_as nobody nncachectl status
	run inside_as nobody nncachectl pause --all
	[ "$status" -eq 1 ]
	status_is '[.caches[].state] == ["ok"]'
}

@test "the service's user can write to its state and its roots, and nowhere else" {
	pid=$(inside systemctl show -P MainPID nncached)
	in_service() {
		inside nsenter --target "$pid" --mount setpriv --reuid nncache --regid nncache --clear-groups "$@"
	}
	for dir in /var/lib/nncache /nix/var/nix/gcroots/nncache "$CACHE" /tmp; do
		in_service touch "$dir/by-the-service"
		in_service rm "$dir/by-the-service"
	done
	# Neither by permission nor by an accident of permissions.
	for dir in / /etc /etc/nncache /usr/lib /srv /var/lib /var/log /nix/var/nix/gcroots /nix/var/nix/db /nix/store; do
		run in_service touch "$dir/by-the-service"
		[ "$status" -ne 0 ]
		run inside nsenter --target "$pid" --mount touch "$dir/by-the-service"
		[[ "$output" == *"Read-only file system"* ]]
	done
	run in_service ls /root
	[ "$status" -ne 0 ]
}

@test "the next build starts a stopped service, and nothing is lost" {
	inside systemctl stop nncached
	run is_active nncached
	[ "$status" -ne 0 ]
	path=$(build after-stop)
	is_active nncached
	wait_until 30 cache_has "$path"
}

@test "stopped with its socket, hooks write to the spool, which is taken in at the next start" {
	inside systemctl stop nncached.socket nncached
	path=$(build to-the-spool)
	[ "$(inside sh -c 'ls /var/lib/nncache/spool/*.req | wc -l')" -eq 1 ]
	inside systemctl start nncached
	wait_until 30 cache_has "$path"
	wait_until 10 inside sh -c '! ls /var/lib/nncache/spool/*.req'
}

@test "killed, it is started again, and goes on" {
	n=$(inside systemctl show -P NRestarts nncached)
	inside systemctl kill -s KILL nncached
	path=$(build after-kill)
	wait_until 30 cache_has "$path"
	[ "$(inside systemctl show -P NRestarts nncached)" -eq $((n + 1)) ]
}

@test "a changed key is seen after a restart" {
	inside sh -ec 'cd /srv/keys
		nix-store --generate-binary-cache-key machine-2 secret2 public2
		install -m 600 secret2 /etc/nncache/credentials/cache.key'
	inside systemctl restart nncached
	path=$(build new-key)
	wait_until 30 cache_has "$path"
	inside grep -q '^Sig: machine-2:' "$CACHE/$(narinfo_of "$path")"
}

@test "the units of a lingering user upload what that user hands over" {
	# Where it is not there, or cannot run, no user lingers.
	inside rm /etc/systemd/system/systemd-logind.service
	inside systemctl daemon-reload
	inside useradd --create-home builder
	# Whom Debian's nix-daemon lets in.
	! inside getent group nix-users || inside usermod --append --groups nix-users builder
	inside loginctl enable-linger builder || {
		inside userdel builder
		skip "NOT TESTED: no user can linger here"
	}
	wait_until 30 as_builder systemctl --user is-active default.target
	as_builder mkdir -p /home/builder/.config/nncache/credentials
	as_builder nix-store --generate-binary-cache-key builder-1 \
		/home/builder/.config/nncache/credentials/key /home/builder/key.public
	as_builder tee /home/builder/.config/nncache/nncache.conf <<-'END'
		[cache "own"]
		url = file:///home/builder/cache
		signing-key-file = key
	END
	as_builder systemctl --user enable --now --quiet nncached
	first=$(as_builder nix-store --add /etc/hostname)
	as_builder nncachectl push "$first"
	as_builder grep -q '^Sig: builder-1:' "/home/builder/cache/$(narinfo_of "$first")"
	[[ $(as_builder systemctl --user show -P StatusText nncached) == "0 to go, 0 failed"* ]]

	as_builder systemctl --user stop nncached
	second=$(as_builder nix-store --add /etc/nix)
	as_builder nncachectl push "$second"
	as_builder test -e "/home/builder/cache/$(narinfo_of "$second")"
}

@test "a nix-daemon that lets only root in does not keep it from uploading" {
	inside sh -c 'echo "allowed-users = root" >>/etc/nix/nix.conf'
	inside systemctl restart nix-daemon nncached
	path=$(build shut-out)
	wait_until 30 cache_has "$path"
}

@test "under a broken configuration fifty hooks knock, and all are taken in once it is mended" {
	inside mv /etc/nncache/nncache.conf /etc/nncache/right.conf
	put /etc/nncache/nncache.conf <<<'[cache "main'
	inside systemctl stop nncached
	# shellcheck disable=SC2016 # for the shell inside
	mapfile -t paths < <(inside sh -ec '
		mkdir -p /srv/fifty
		cd /srv/fifty
		for i in $(seq 50); do echo "$i" >"fifty-$i"; done
		nix-store --add fifty-*')
	[ ${#paths[@]} -eq 50 ]
	# shellcheck disable=SC2016
	inside sh -c 'for path; do OUT_PATHS=$path /usr/lib/nncache/hook & pids="$pids $!"; done
		for pid in $pids; do wait "$pid" || exit 1; done' sh "${paths[@]}"
	wait_until 20 is_active nncached
	[[ $(inside systemctl show -P StatusText nncached) == *"configuration is broken"* ]]
	inside mv /etc/nncache/right.conf /etc/nncache/nncache.conf
	inside systemctl reload nncached
	wait_until 60 status_is '.queue.unfinished == 0 and .queue.resolving == 0'
	cache_has "${paths[@]}"
}

@test "removed as Debian's package is, nix-daemon starts anew without the hook, and builds go on" {
	put /srv/prerm <"$TOP/debian/nncache.prerm"
	before=$(build before-the-removal)
	pid=$(inside systemctl show -P MainPID nix-daemon)
	inside sh /srv/prerm remove | grep -F 'builds that run now still call it'
	[ "$(inside systemctl show -P MainPID nix-daemon)" -ne "$pid" ]
	inside mv /usr/lib/nncache/hook /srv/hook
	after=$(build after-the-removal)
	wait_until 30 cache_has "$before"
	inside mv /srv/hook /usr/lib/nncache/hook
	inside nncachectl hook enable --yes
	run inside nncachectl show "$after"
	[ "$status" -ne 0 ]
}

@test "as long as it drains it is not killed, whatever the unit says of a stop" {
	put /etc/systemd/system/nncached.service.d/stop.conf <<<$'[Service]\nTimeoutStopSec=1s'
	inside mkdir -p /etc/nncache/conf.d
	put /etc/nncache/conf.d/slow.conf <<-'END'
		[daemon]
		stop-drain = 3s
		[cache "slow"]
		url = http://127.0.0.1:8080
		signing-key-file = cache.key
	END
	inside systemd-run --quiet --unit=slow-cache socat TCP-LISTEN:8080,fork,bind=127.0.0.1 SYSTEM:'sleep 60'
	inside systemctl daemon-reload
	inside systemctl restart nncached
	path=$(build never-answered)
	# What the restart cut off before its root was gone is handed over anew, and to this cache for the first time.
	wait_until 30 status_is ".uploads | any(.path == \"$path\")"
	inside systemctl stop nncached.socket nncached
	[ "$(inside systemctl show -P Result nncached)" = success ]
	inside journalctl --no-pager -n 20 -u nncached | grep -F 'not drained left='
	inside systemctl stop slow-cache
	inside rm /etc/nncache/conf.d/slow.conf /etc/systemd/system/nncached.service.d/stop.conf
	inside systemctl daemon-reload
	inside systemctl start nncached
}

@test "what was queued and what was spooled before a reboot is there after it, and goes on" {
	put /etc/nncache/conf.d/second.conf <<-END
		[cache "second"]
		url = file://$CACHE/second
		signing-key-file = cache.key
	END
	inside systemctl reload nncached
	inside nncachectl pause main
	queued=$(build queued)
	wait_until 30 inside test -e "$CACHE/second/$(narinfo_of "$queued")"
	inside systemctl stop nncached.socket nncached
	[ -z "$(inside find /var/lib/nncache/spool -name '*.req')" ]
	spooled=$(build spooled)
	[ "$(inside find /var/lib/nncache/spool -name '*.req' | wc -l)" -eq 1 ]
	machine_kill
	machine_boot
	# By itself where it may; a pause outlives a reboot.
	wait_until 60 inside test -e "$CACHE/second/$(narinfo_of "$spooled")"
	status_is '.caches[0] | .name == "main" and .state == "paused"'
	# Hooks' roots of the tests before, if these were over soon, are taken in once more.
	inside nncachectl list --cache main --state ready --json |
		jq -e --arg queued "$queued" --arg spooled "$spooled" '[.jobs[].path] | contains([$queued, $spooled])'
	run cache_has "$queued"
	[ "$status" -ne 0 ]
	inside nncachectl resume main
	wait_until 30 cache_has "$queued" "$spooled"
	builder_can
	wait_until 30 as_builder nncachectl status
}
