#!/usr/bin/env bats
# SIGKILL at every point of the flow (common/crash.h), then a garbage collection, then a start: what was handed
# over is on the cache, nothing dangles, nothing is left over. A point that is never reached fails its test.
# docs/durability.md has them in a table.

load common

setup() {
	scratch_make
	CACHE=$T/cache
	write_config "file://$CACHE"
	mkdir -p "$T/var/gcroots/prepared"
}

# use_web: from here on, a web server is the cache.
use_web() {
	pick_port
	start_nginx
	CACHE=$T/www
	write_config "http://127.0.0.1:$PORT" "$@"
}

# prepare N [BYTES]: PROGRAMS are N new store paths, each with a dependency of its own. Roots keep them until
# they are handed over.
prepare() {
	local names
	names=$(printf '"program-%d" ' $(seq "$1"))
	mapfile -t PROGRAMS < <(timeout 60 nix-build "$TOP/tests/support/closures.nix" --no-out-link \
		--arg names "[ $names ]" --argstr bytes "${2:-64}" --option post-build-hook '' \
		2>>"$T/log/nix-build.log" 3>&-)
	[ "${#PROGRAMS[@]}" -eq "$1" ]
	for path in "${PROGRAMS[@]}"; do
		ln -s "$path" "$T/var/gcroots/prepared/"
	done
	HANDED_OVER=()
}

# next_path: the next of PROGRAMS is PATH_NOW, and what happens from here on protects it, or nothing does.
next_path() {
	PATH_NOW=${PROGRAMS[0]}
	PROGRAMS=("${PROGRAMS[@]:1}")
}

# unprotect [PATH]: or PATH_NOW.
unprotect() {
	rm "$T/var/gcroots/prepared/$(basename "${1-$PATH_NOW}")"
}

hand_over() {
	call_hook "$PATH_NOW"
	unprotect
}

# Roots of hooks are looked at once they are ten seconds old; what was half written goes when it is a day old.
age_left_overs() {
	find "$T/var/gcroots/nncache" -type l -exec touch -h -d '1 minute ago' {} +
	find "$T/state/spool" -name '.*' -type f -exec touch -d '2 days ago' {} +
	find "$CACHE" -path '*/.tmp/*' -exec touch -d '2 days ago' {} +
}

# goes_on POINT: after a garbage collection, a daemon that is not armed brings everything to its end.
goes_on() {
	local pid
	nix-store --gc >/dev/null 2>&1
	age_left_overs
	start_armed ''
	soon settled || {
		echo "$1: not all arrived, or something was left:"
		ls -A "$T/var/gcroots/nncache" "$T/state/spool"
		ctl list
		return 1
	}
	"$TOP/tests/support/check_cache.py" "$CACHE" "${HANDED_OVER[@]}" || {
		echo "after $1"
		return 1
	}
	pid=$(pid_of nncached)
	rm "$T/run/nncached.pid"
	kill -s KILL "$pid"
	wait "$pid" || true
}

# recovers POINT: it does, and PATH_NOW is among what arrives.
recovers() {
	HANDED_OVER+=("$PATH_NOW")
	goes_on "$1"
}

# hook_dies_at POINT PATH...
hook_dies_at() {
	local point=$1 status=0
	shift
	NNCACHE_CRASH_AT=$point call_hook "$@" || status=$?
	[ $status -eq 137 ]
}

# each POINT...: killed there once the hook has handed over a path.
each() {
	local point
	for point; do
		echo "-- $point"
		next_path
		start_armed "$point"
		hand_over
		died_at "$point"
		recovers "$point"
	done
}

all_come_back() {
	come_back "$1" "${HANDED_OVER[@]}" >/dev/null
}

@test "the hook: killed anywhere, its root or its spool file brings the path in" {
	local point other
	prepare 10
	# With a daemon that answers.
	for point in HOOK_ROOTED HOOK_CONNECTED HOOK_SENT HOOK_ANSWERED; do
		echo "-- $point"
		next_path
		start_armed ''
		hook_dies_at $point "$PATH_NOW"
		unprotect
		stop_daemon KILL
		recovers $point
	done
	# With none.
	for point in HOOK_SPOOL_OPENED HOOK_SPOOL_WRITTEN HOOK_SPOOL_NAMED; do
		echo "-- $point"
		next_path
		hook_dies_at $point "$PATH_NOW"
		unprotect
		recovers $point
	done
	# Between the roots of two outputs: of the one without nothing is left, as before its root.
	next_path
	other=$PATH_NOW
	next_path
	hook_dies_at HOOK_ROOTS_HALF "$PATH_NOW" "$other"
	[ "$(readlink "$T/var/gcroots/nncache"/*)" = "$PATH_NOW" ]
	unprotect
	unprotect "$other"
	recovers HOOK_ROOTS_HALF
	[ ! -e "$other" ]
	cache_lacks "$CACHE" "$other"
	all_come_back "file://$CACHE"

	# Before its root there is nothing, and nothing comes of it.
	next_path
	hook_dies_at HOOK_START "$PATH_NOW"
	no_roots
	[ -z "$(ls -A "$T/state/spool")" ]
	unprotect
	goes_on HOOK_START
	[ ! -e "$PATH_NOW" ]
	cache_lacks "$CACHE" "$PATH_NOW"
}

@test "taking in and resolving: the daemon killed anywhere loses nothing" {
	prepare 10
	each SERVER_REQUEST ADD_UNCOMMITTED INTAKE_ADDED INTAKE_ROOTED INTAKE_TAKEN SERVER_ANSWERED \
		RESOLVE_CLAIMED PAGE_UNCOMMITTED RESOLVE_PAGED RESOLVE_ENDED
	all_come_back "file://$CACHE"
}

@test "a spool file is taken in however often the daemon is killed over it" {
	local point
	prepare 3
	for point in SPOOL_READ SPOOL_TAKEN SPOOL_UNLINKED; do
		echo "-- $point"
		next_path
		hand_over
		age_left_overs
		start_armed $point
		died_at $point
		recovers $point
	done
	all_come_back "file://$CACHE"
}

@test "a derivation whose outputs only the store knows: killed before they take its place" {
	local point
	prepare 2
	for point in RESOLVE_OUTPUTS EXPAND_UNCOMMITTED; do
		echo "-- $point"
		next_path
		start_armed $point
		printf 'nncache 1 enqueue\nderivation %s\nend\n' "$(nix-store -q --deriver "$PATH_NOW")" |
			socat -t 5 - "UNIX-CONNECT:$SOCKET" 3>&- || true
		died_at $point
		# The root of the derivation keeps its outputs only where Nix is told to.
		recovers $point
		unprotect
	done
}

@test "uploading to a directory: killed anywhere, no narinfo dangles and no file is left over" {
	prepare 14
	# The first file is nix-cache-info, then two NARs and two narinfos, in some order.
	each FILE_OPENED FILE_WRITTEN:2 FILE_NAMED:3 FILE_OPENED:2 FILE_WRITTEN:4 FILE_NAMED:4 \
		UPLOAD_BEGUN UPLOAD_ASKED PACK_BEGUN UPLOAD_NAR_SENT:2 UPLOAD_VERDICT UPLOAD_INFO_SENT \
		UPLOAD_RECORDED ROOTS_GONE
	all_come_back "file://$CACHE"
}

@test "uploading to a web server: killed anywhere, no narinfo dangles" {
	use_web
	prepare 7
	each UPLOAD_NAR_SENT PUBLISH_UNCOMMITTED UPLOAD_VERDICT:2 UPLOAD_INFO_SENT:2 FINISH_UNCOMMITTED \
		UPLOAD_RECORDED:2 ROOTS_GONE
	prepare 1 5000000
	each NAR_HALF_SENT
	all_come_back "http://127.0.0.1:$PORT"
}

@test "killed when a path is withheld, before its root goes: the root goes" {
	write_config "file://$CACHE" 'exclude-roots = -program-'
	prepare 1
	next_path
	start_armed RESOLVE_ENDED
	hand_over
	died_at RESOLVE_ENDED
	[ "$(sqlite3 "$T/state/queue.db" 'SELECT count(*) FROM root WHERE state < 3')" -eq 0 ]
	[ "$(readlink "$T/var/gcroots/nncache"/* | sort -u)" = "$PATH_NOW" ]
	goes_on RESOLVE_ENDED
	cache_lacks "$CACHE" "$PATH_NOW"
}

@test "killed when a path has failed: it stays failed, with its root, until it is retried" {
	use_web
	sed -i 's/client_max_body_size 0/client_max_body_size 100/' "$T/nginx/nginx.conf"
	stop_nginx
	start nginx nginx -c "$T/nginx/nginx.conf" -e "$T/log/nginx-error.log"
	wait_until 10 port_is_open
	prepare 1
	next_path
	start_armed UPLOAD_RECORDED
	hand_over
	died_at UPLOAD_RECORDED
	[ "$(sqlite3 "$T/state/queue.db" 'SELECT count(*) FROM job WHERE state = 4')" -ge 1 ]
	[ "$(readlink "$T/var/gcroots/nncache"/* | sort -u)" = "$PATH_NOW" ]
	start_armed ''
	soon status_is '.queue | .failed + .blocked == 2'
	nix-store --gc >/dev/null 2>&1
	[ -e "$PATH_NOW" ]
	stop_nginx
	start_nginx
	ctl retry --failed
	soon settled
	"$TOP/tests/support/check_cache.py" "$CACHE" "$PATH_NOW"
	come_back "http://127.0.0.1:$PORT" "$PATH_NOW"
}

@test "killed when a root was given up, before it went: it goes, and the path is uploaded all the same" {
	prepare 1
	next_path
	start_armed ''
	ctl pause main
	call_hook "$PATH_NOW"
	soon status_is '.queue.ready == 2'
	stop_daemon KILL
	sqlite3 "$T/state/queue.db" 'UPDATE root SET enqueued = 1; UPDATE cache SET paused_since = 1'
	start_armed ROOTS_GIVEN_UP
	died_at ROOTS_GIVEN_UP
	[ "$(readlink "$T/var/gcroots/nncache"/*)" = "$PATH_NOW" ]
	start_armed ''
	soon no_roots
	status_is '.unprotected == 1 and .queue.unfinished > 0'
	ctl resume main
	soon settled
	"$TOP/tests/support/check_cache.py" "$CACHE" "$PATH_NOW"
}

@test "killed while a path is put off, and while lost roots are made again" {
	pick_port # nobody listens there
	CACHE=$T/www
	write_config "http://127.0.0.1:$PORT"
	prepare 1
	next_path
	start_armed DEFER_UNCOMMITTED
	hand_over
	died_at DEFER_UNCOMMITTED
	rm "$T/var/gcroots/nncache"/* # as a power cut can
	start_armed SWEEP_REMADE
	died_at SWEEP_REMADE
	start_nginx
	recovers SWEEP_REMADE
}

@test "a stray root is taken in however often the daemon is killed over it" {
	local point
	prepare 2
	for point in SWEEP_EXPLAINED SWEEP_TAKEN; do
		echo "-- $point"
		next_path
		ln -s "$PATH_NOW" "$T/var/gcroots/nncache/$(basename "$PATH_NOW").4711.1700000000000000000"
		unprotect
		age_left_overs
		start_armed $point
		died_at $point
		recovers $point
	done
}

@test "a push is protected before it is queued" {
	prepare 1
	next_path
	start_armed INTAKE_ROOTED
	ctl push "$PATH_NOW" || true
	unprotect
	died_at INTAKE_ROOTED
	recovers INTAKE_ROOTED
}

@test "killed in a reload, or while stopping" {
	local point signal
	use_web 'upload-rate = 100K'
	prepare 5 1000000
	for point in RELOAD_BEGUN RELOAD_CLOSED STOP_DRAINING STOP_BEGUN STOP_CLOSED; do
		echo "-- $point"
		write_config "http://127.0.0.1:$PORT" 'upload-rate = 100K'
		[ $point != STOP_DRAINING ] || set_option 'stop-drain = 1h'
		signal=TERM
		[[ $point != RELOAD* ]] || signal=HUP
		next_path
		start_armed $point
		hand_over
		soon status_is '.queue.in_flight > 0'
		kill -s $signal "$(pid_of nncached)"
		died_at $point
		write_config "http://127.0.0.1:$PORT"
		recovers $point
	done
}

@test "only builds that ask for crash points have them" {
	run "$TOP/tests/lint/no_crash_points" "$B"
	[ "$status" -eq 1 ]
	[[ "$output" == *NNCACHE_CRASH_AT* ]]
	meson setup "$T/release" "$TOP" --buildtype=release -Dtests=disabled >/dev/null 3>&-
	ninja -C "$T/release" hook/hook >/dev/null 3>&-
	"$TOP/tests/lint/no_crash_points" "$T/release"
}

@test "every crash point is killed at in a test, and has its line in docs/durability.md" {
	local point n=0
	while read -r point; do
		n=$((n + 1))
		grep -qw "$point" "$TOP"/tests/integration/{kill,s3,cachix,attic}.bats "$TOP"/tests/unit/test_kill.c || {
			echo "no test kills at $point"
			return 1
		}
		grep -qw "$point" "$TOP/docs/durability.md" || {
			echo "docs/durability.md does not say what is left at $point"
			return 1
		}
	done < <(sed -n 's/^\tX(\([A-Z0-9_]*\)).*/\1/p' "$TOP/common/crash.h")
	[ $n -ge 40 ]
}
