#!/usr/bin/env bats
# A garbage collector that never rests, a cache that is down, hooks and daemons killed with SIGKILL: what was handed
# over is not deleted, and is on the cache in the end.

load common

N_BY_HOOKS=50  # with as many dependencies
N_BY_NIX=10    # the same
N_NO_DAEMON=10 # of those by hooks: no daemon runs for a whole collection
HOOK_POINTS=(HOOK_START HOOK_ROOTED HOOK_CONNECTED HOOK_SENT HOOK_ANSWERED)

setup() {
	scratch_make
	pick_port
	write_config "http://127.0.0.1:$PORT" # nobody listens there yet
	mkdir -p "$T/var/gcroots/prepared" "$T/done"
	touch "$T/done/collections"
}

# names N PREFIX: a list for Nix.
names() {
	printf '[ '
	printf "\"$2-%d\" " $(seq "$1")
	printf ']'
}

build_closures() {
	timeout 100 nix-build "$TOP/tests/support/closures.nix" --no-out-link --arg names "$1" \
		--option post-build-hook "$2" 2>>"$T/log/nix-build.log" 3>&-
}

collect_for_ever() {
	while nix-store --gc >/dev/null 2>>"$T/log/gc.log"; do
		echo >>"$T/done/collections"
	done
}

n_collections() {
	wc -l <"$T/done/collections"
}

# Another whole collection, begun after this was called, has ended.
collected_again() {
	[ "$(n_collections)" -ge "$COLLECTED" ]
}

wait_for_collection() {
	COLLECTED=$(($(n_collections) + 2))
	wait_until 60 collected_again
}

# hook_killed_or_not PATH: calls the hook as Nix does, which protects the path while it runs; every third is killed, at
# one of its crash points. A killed one counts if it left a root; else the path is handed over again.
hook_killed_or_not() {
	local path=$1 status=0 at=
	[ $((RANDOM % 3)) != 0 ] || at=${HOOK_POINTS[RANDOM % ${#HOOK_POINTS[@]}]}
	(NNCACHE_CRASH_AT=$at call_hook "$path") || status=$?
	[ $status -ne 137 ] || echo "$at" >>"$T/done/killed"
	if [ $status -ne 0 ] && ! compgen -G "$T/var/gcroots/nncache/$(basename "$path")*" >/dev/null; then
		call_hook "$path"
	fi
	rm "$T/var/gcroots/prepared/$(basename "$path")"
}

hooks_run() {
	local path
	for path; do
		hook_killed_or_not "$path"
	done
	touch "$T/done/hooks"
}

@test "a collector deletes nothing that was handed over, whoever is killed" {
	local paths dependencies witness by_nix path hooks nix n_kills
	mapfile -t paths < <(build_closures "$(names $N_BY_HOOKS program)" '')
	[ "${#paths[@]}" -eq $N_BY_HOOKS ]
	for path in "${paths[@]}"; do
		ln -s "$path" "$T/var/gcroots/prepared/"
	done
	witness=$(make_path witness)
	start_daemon
	start collector collect_for_ever

	hooks_run "${paths[@]:N_NO_DAEMON}" 2>>"$T/log/hooks.log" 3>&- &
	hooks=$!
	build_closures "$(names $N_BY_NIX built)" "$HOOK" >"$T/done/by-nix" 2>"$T/log/by-nix.log" 3>&- &
	nix=$!
	n_kills=0
	while [ ! -e "$T/done/hooks" ] || is_running "$nix"; do
		sleep "0.$((RANDOM % 5))"
		stop_daemon KILL
		n_kills=$((n_kills + 1))
		start_daemon
	done
	wait "$hooks"
	wait "$nix"
	mapfile -t by_nix <"$T/done/by-nix"
	[ "${#by_nix[@]}" -eq $N_BY_NIX ]
	paths+=("${by_nix[@]}")

	# What hooks spool has nothing but their own roots.
	stop_daemon KILL
	hooks_run "${paths[@]:0:N_NO_DAEMON}" 2>>"$T/log/hooks.log" 3>&-
	wait_for_collection
	start_daemon

	wait_for_collection
	for path in "${paths[@]}"; do
		[ -e "$path/data" ]
		[ -e "$(cat "$path/needs")/data" ]
	done
	[ ! -e "$witness" ]
	echo "$(n_collections) collections, $n_kills daemons and $(wc -l <"$T/done/killed") hooks killed"
	[ "$(wc -l <"$T/done/killed")" -ge 3 ]
	[ "$(n_collections)" -ge 5 ]
	[ $n_kills -ge 2 ]

	# Now the cache comes up; the collector goes on.
	start_nginx
	find "$T/var/gcroots/nncache" -type l -exec touch -h -d '1 minute ago' {} +
	stop_daemon KILL
	start_daemon
	mapfile -t dependencies < <(cat "${paths[@]/%//needs}")
	ctl retry "${paths[@]}" "${dependencies[@]}" >/dev/null
	wait_until 60 no_roots
	wait_until 10 uploaded
	"$TOP/tests/support/check_cache.py" "$T/www" "${paths[@]}"
	stop collector
	come_back "http://127.0.0.1:$PORT" "${paths[@]}" >/dev/null
}
