# A world of its own for Nix, nncached and a web server below one directory, $T. Nothing outside it is
# touched: the store is $T/store, so no namespace and no root is needed. Sourced by the integration
# tests and by the demo.
#
# B is the build directory. Whatever is started here is stopped by its pid, by scratch_remove at the latest.
# shellcheck shell=bash

scratch_make() {
	local name
	for name in $(compgen -e | grep -E '^(NIX|NNCACHE)_' | grep -vx NNCACHE_BUILD); do
		unset "$name"
	done
	T=$(mktemp -d /tmp/nncache.XXXXXX) # short: a socket's name has at most 107 bytes
	chmod 755 "$T"
	mkdir -p "$T"/{store,var/gcroots,etc,home,hook,log,run,tmp,cache}
	export HOME=$T/home TMPDIR=$T/tmp XDG_CACHE_HOME=$T/home/.cache
	export NIX_STORE_DIR=$T/store NIX_STATE_DIR=$T/var NIX_LOG_DIR=$T/log NIX_CONF_DIR=$T/etc
	export NIX_USER_CONF_FILES=/dev/null NIX_DAEMON_SOCKET_PATH=$T/run/nix.sock
	HOOK=$T/hook/post-build-hook
	SOCKET=$T/run/nncached.sock

	ln -s "$B/hook/hook" "$HOOK"
	cat >"$HOOK.env" <<-END
		NNCACHE_SOCKET=$SOCKET
		NNCACHE_SPOOL=$T/state/spool
		NNCACHE_GCROOTS=$T/var/gcroots/nncache
	END
	mkdir -p "$T/state/spool" "$T/var/gcroots/nncache"
	cat >"$T/etc/nix.conf" <<-END
		post-build-hook = $HOOK
		require-sigs = true
		substituters =
		sandbox = false
		build-users-group =
		experimental-features = nix-command
	END
	nix-store --generate-binary-cache-key scratch-1 "$T/etc/key.secret" "$T/etc/key.public"
	echo "trusted-public-keys = $(cat "$T/etc/key.public")" >>"$T/etc/nix.conf"
}

scratch_stop() {
	local pid_file
	for pid_file in "$T"/run/*.pid; do
		[ ! -e "$pid_file" ] || stop "$(basename "$pid_file" .pid)"
	done
}

scratch_remove() {
	scratch_stop
	chmod -R u+w "$T" 2>/dev/null || true
	rm -rf "$T"
}

# start NAME COMMAND...: in the background; its words go to $T/log/NAME.log.
start() {
	local name=$1
	shift
	"$@" >>"$T/log/$name.log" 2>&1 </dev/null 3>&- &
	echo $! >"$T/run/$name.pid"
}

pid_of() {
	cat "$T/run/$1.pid"
}

is_running() {
	local state
	state=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -c 1) || return 1
	[ -n "$state" ] && [ "$state" != Z ]
}

# stop NAME [SIGNAL]: and waits until it is gone; STOPPED_WITH is its exit status.
stop() {
	local name=$1 signal=${2:-TERM} pid n_left=150
	pid=$(pid_of "$name")
	rm -f "$T/run/$name.pid"
	kill -s "$signal" "$pid" 2>/dev/null || true
	while is_running "$pid"; do
		n_left=$((n_left - 1))
		[ $n_left -gt 0 ] || kill -s KILL "$pid" 2>/dev/null || true
		sleep 0.1
	done
	STOPPED_WITH=0
	# shellcheck disable=SC2034 # the caller's to look at
	wait "$pid" 2>/dev/null || STOPPED_WITH=$?
}

# wait_until SECONDS COMMAND...: tries it ten times a second until it succeeds.
wait_until() {
	local end=$((SECONDS + $1 + 1))
	shift
	until "$@" >/dev/null 2>&1; do
		if [ $SECONDS -ge $end ]; then
			echo "waited in vain for: $*" >&2
			return 1
		fi
		sleep 0.1
	done
}

# write_config CACHE-URL [LINE...]: LINEs are added to the section of the cache, which has no upstream unless one of
# them names it.
write_config() {
	local url=$1
	shift
	{
		cat <<-END
			[daemon]
			socket = $SOCKET
			state-dir = $T/state
			spool-dir = $T/state/spool
			gcroots-dir = $T/var/gcroots/nncache
			stop-drain = 0s

			[cache "main"]
			url = $url
			signing-key-file = $T/etc/key.secret
		END
		[[ $* == *upstreams* ]] || echo 'upstreams ='
		[ $# = 0 ] || printf '%s\n' "$@"
	} >"$T/etc/nncache.conf"
}

start_daemon() {
	start nncached "$B/daemon/nncached" --config "$T/etc/nncache.conf"
	wait_until 15 daemon_answers_or_died
	is_running "$(pid_of nncached)" || {
		cat "$T/log/nncached.log" >&2
		return 1
	}
}

daemon_answers_or_died() {
	ctl status || ! is_running "$(pid_of nncached)"
}

stop_daemon() {
	stop nncached "$@"
}

ctl() {
	NNCACHE_SOCKET=$SOCKET timeout 90 "$B/ctl/nncachectl" "$@" 3>&-
}

# The real nix-daemon, on a socket of its own; clients use it with NIX_REMOTE=daemon.
start_nix_daemon() {
	start nix-daemon nix-daemon --daemon
	wait_until 10 test -S "$NIX_DAEMON_SOCKET_PATH"
}

# second_store COMMAND...: with a store that is empty at first and has nothing but our public key. Its files
# lie in $T/second, under the same names as in the first.
second_store() {
	NIX_REMOTE="local?root=$T/second" "$@"
}
