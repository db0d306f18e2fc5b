# What every integration test starts from: a scratch world of its own ($T, see tests/support/scratch.bash), and
# the words in which the tests are written. A failed test shows what the daemon said.
# shellcheck shell=bash

TOP=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
B=${NNCACHE_BUILD:-$TOP/build/dev}
# shellcheck source=tests/support/scratch.bash
. "$TOP/tests/support/scratch.bash"

DISKS=() # mounted below $T

setup() {
	scratch_make
	write_config "file://$T/cache"
}

teardown() {
	local status=0
	[ -n "${T-}" ] || return 0
	scratch_stop
	local disk
	for disk in "${DISKS[@]}"; do
		umount "$disk"
	done
	# Built with a sanitizer, no program may have complained, not at its end either.
	if grep -E 'Sanitizer|runtime error:' "$T"/log/*.log; then
		status=1
	elif [ -z "${BATS_TEST_COMPLETED-}" ] && [ -e "$T/log/nncached.log" ]; then
		echo "-- nncached.log, its end:"
		tail -n 25 "$T/log/nncached.log"
	fi
	scratch_remove
	return $status
}

# build_path NAME [BYTES [DEPENDENCY...]]: builds a new store path, with the hook, and prints it.
build_path() {
	local name=$1 bytes=${2:-64} deps
	shift
	[ $# = 0 ] || shift
	deps=$(printf '"%s" ' "$@")
	timeout 60 nix-build --no-out-link "$TOP/tests/support/path.nix" --argstr name "$name" --argstr bytes "$bytes" \
		--arg deps "[ ${1:+$deps}]" --option post-build-hook "${WITH_HOOK-$HOOK}" 2>>"$T/log/nix-build.log" 3>&-
}

# Of all characters that a store path's name may have.
export ODD_NAME='odd+name?of=a_Path.1-2'

# make_path NAME [BYTES [DEPENDENCY...]]: the same without the hook.
make_path() {
	WITH_HOOK='' build_path "$@"
}

# call_hook PATH...: as Nix does after a build.
call_hook() {
	env -i OUT_PATHS="$*" DRV_PATH="$T/store/00000000000000000000000000000000-x.drv" \
		NIX_STORE_DIR="$NIX_STORE_DIR" NIX_STATE_DIR="$NIX_STATE_DIR" \
		${NNCACHE_CRASH_AT:+NNCACHE_CRASH_AT="$NNCACHE_CRASH_AT"} "$HOOK" 3>&-
}

# small_disk DIR SIZE: a file system of its own, with what is in DIR.
small_disk() {
	local old="$1.old"
	mkdir -p "$1"
	mv "$1" "$old"
	mkdir -p "$1"
	mount -t tmpfs -o "size=$2,mode=755" none "$1" 2>/dev/null || {
		rmdir "$1"
		mv "$old" "$1"
		skip "NOT TESTED: no file system can be mounted here"
	}
	DISKS+=("$1")
	cp -a "$old/." "$1"
	rm -rf "$old"
}

# fill_disk DIR: to the last byte.
fill_disk() {
	dd if=/dev/zero of="$1/filler" bs=64k status=none 2>/dev/null || true
	dd if=/dev/zero of="$1/filler2" bs=1k status=none 2>/dev/null || true
}

free_disk() {
	rm -f "$1/filler" "$1/filler2"
}

# set_option LINE: in the section of the daemon, in the place of what is there for this key.
set_option() {
	sed -i "/^${1%% *} /d" "$T/etc/nncache.conf"
	sed -i "/^\[daemon\]/a $1" "$T/etc/nncache.conf"
}

status_is() {
	ctl status --json | jq -e "$1"
}

# cache_is_out N: the only cache does not work, and N paths wait for it.
cache_is_out() {
	status_is ".caches[0] | .message_kind != null and .ready == $1 and .in_flight == 0"
}

# Everything handed over is on its caches, or needs not be. What failed counts as unfinished.
uploaded() {
	status_is '.queue.unfinished == 0 and .queue.resolving == 0'
}

# only_failed_is_left N
only_failed_is_left() {
	status_is ".queue | .failed == $1 and .unfinished == $1 and .resolving == 0"
}

hash_of() {
	basename "$1" | cut -c 1-32
}

# cache_has DIR PATH...: each narinfo, and the NAR it names.
cache_has() {
	local dir=$1 path nar
	shift
	for path; do
		nar=$(sed -n 's/^URL: //p' "$dir/$(hash_of "$path").narinfo") || return 1
		[ -n "$nar" ] && [ -f "$dir/$nar" ] || return 1
	done
}

cache_lacks() {
	local dir=$1 path
	shift
	for path; do
		[ ! -e "$dir/$(hash_of "$path").narinfo" ] || return 1
	done
}

has_narinfo() {
	compgen -G "$1/*.narinfo"
}

no_roots() {
	[ -z "$(ls -A "$T/var/gcroots/nncache")" ]
}

# settled: and nothing is left over here.
settled() {
	no_roots && [ -z "$(find "$T/state/spool" -type f)" ] && uploaded
}

# come_back URL PATH...: the paths arrive, sound, in a store that trusts our key alone.
come_back() {
	local url=$1
	shift
	timeout 60 nix copy --from "$url" --to "local?root=$T/second" "$@" 3>&-
	second_store nix-store --verify --check-contents
	second_store nix-store -q --hash "$@"
}

# read_back URL PATH...: the same, and their closures are those of the first store.
read_back() {
	come_back "$@"
	shift
	diff <(nix-store -qR "$@" | sort) <(second_store nix-store -qR "$@" | sort)
}

# ---- killed at a point of common/crash.h

need_crash_points() {
	strings -a "$B/hook/hook" | grep -qx HOOK_START || {
		echo "no crash points in $B: meson configure $B -Dcrash-points=true" >&2
		return 1
	}
}

# start_armed POINT: the next nncached dies there; it may be gone before this returns.
start_armed() {
	need_crash_points
	: >"$T/log/nncached.log"
	start nncached env NNCACHE_CRASH_AT="$1" "$B/daemon/nncached" --config "$T/etc/nncache.conf"
	soon ready_or_gone
}

ready_or_gone() {
	grep -q 'ready version=' "$T/log/nncached.log" || is_gone "$(pid_of nncached)"
}

# soon COMMAND...: tries it often, for half a minute at least.
soon() {
	local end=$((SECONDS + 31))
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.02
	done
}

# died_at POINT: the daemon did, of its own hand.
died_at() {
	local pid status=0
	pid=$(pid_of nncached)
	soon is_gone "$pid" || {
		echo "$1 was never reached"
		return 1
	}
	wait "$pid" || status=$?
	rm "$T/run/nncached.pid"
	[ $status -eq 137 ] || {
		echo "$1: nncached ended with $status"
		return 1
	}
}

is_gone() {
	! is_running "$1"
}

# killed_at POINT PATH: PATH is handed over to a daemon that dies there, and garbage is collected.
killed_at() {
	echo "-- $1"
	start_armed "$1"
	call_hook "$2"
	died_at "$1"
	nix-store --gc >/dev/null 2>&1
}

# arrives: a daemon that is not armed brings everything to its end.
arrives() {
	start_armed ''
	soon settled || {
		ls -A "$T/var/gcroots/nncache" "$T/state/spool"
		ctl list
		return 1
	}
	stop_daemon KILL
}

# ---- a web server: nginx with WebDAV's PUT, its files in $T/www, one process ----

pick_port() {
	while :; do
		PORT=$((20000 + RANDOM % 12000)) # below what the kernel gives to clients
		(exec 9<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null || return 0
	done
}

port_is_open() {
	(exec 9<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null
}

start_nginx() {
	mkdir -p "$T/www" "$T/nginx"
	cat >"$T/nginx/nginx.conf" <<-END
		daemon off;
		master_process off;
		pid $T/nginx/pid;
		error_log $T/log/nginx-error.log;
		events { worker_connections 512; }
		http {
			access_log $T/log/nginx-access.log;
			client_body_temp_path $T/nginx/body;
			proxy_temp_path $T/nginx/proxy;
			fastcgi_temp_path $T/nginx/fastcgi;
			uwsgi_temp_path $T/nginx/uwsgi;
			scgi_temp_path $T/nginx/scgi;
			client_max_body_size 0;
			server {
				listen 127.0.0.1:$PORT;
				root $T/www;
				dav_methods PUT;
				create_full_put_path on;
			}
		}
	END
	start nginx nginx -c "$T/nginx/nginx.conf" -e "$T/log/nginx-error.log"
	wait_until 10 port_is_open
}

stop_nginx() {
	stop nginx
}
