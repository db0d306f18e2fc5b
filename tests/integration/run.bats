#!/usr/bin/env bats
# CI jobs: a command, or a session of several steps, with a daemon and a hook of its own.

# shellcheck disable=SC2030,SC2031,SC2154 # each test is a process of its own; mark sets variables

load common
load marks

setup() {
	scratch_make
	sed -i '/^post-build-hook/d' "$T/etc/nix.conf"
	unset CACHIX_AUTH_TOKEN CACHIX_SIGNING_KEY ATTIC_TOKEN GITHUB_ENV GITHUB_STEP_SUMMARY RUNNER_TEMP
	mkdir "$T/job" "$T/ci" "$T/x"
	export RUNNER_TEMP=$T/ci
	cd "$T/job" || exit
	NNCACHE_SIGNING_KEY=$(cat "$T/etc/key.secret")
	export NNCACHE_SIGNING_KEY
	BUILD=(nix-build "$TOP/tests/support/path.nix" --arg deps '[ ]' --argstr bytes 1000 --argstr name)
}

teardown() {
	# What a failed test left running is in its scratch directory.
	local dir pid
	for dir in "$T"/ci/nncache.*; do
		[ -S "$dir/socket" ] || continue
		pid=$(NNCACHE_SOCKET=$dir/socket "$B/ctl/nncachectl" status --json | jq .pid) || continue
		kill -KILL "$pid"
	done
	scratch_stop
	if [ -z "${BATS_TEST_COMPLETED-}" ]; then
		tail -n 25 "$T"/ci/nncache.*/log 2>/dev/null || true
	fi
	scratch_remove
}

# job WORD...: nncachectl; OUT and ERR hold what it said, STATUS how it ended.
job() {
	STATUS=0
	timeout 60 "$B/ctl/nncachectl" "$@" >"$T/out" 2>"$T/err" 3>&- || STATUS=$?
	OUT=$(<"$T/out") ERR=$(<"$T/err")
	cat "$T/err"
	echo "ended with $STATUS, and said: $OUT"
}

not() {
	if "$@"; then
		return 1
	fi
}

no_scratch() {
	[ -z "$(ls -A "$T/ci")" ]
}

scratch_dir() {
	compgen -G "$T/ci/nncache.*"
}

# start_cache [OPTION...]: cache_server.py; sets PORT.
start_cache() {
	mkdir -p "$T/www"
	start cache python3 "$TOP/tests/support/cache_server.py" --root "$T/www" --log "$T/served" "$@"
	wait_until 10 test -s "$T/log/cache.log"
	PORT=$(head -n 1 "$T/log/cache.log")
}

@test "what a command builds is on the cache when it ends, and its output is its own" {
	job run --cache "file://$T/cache" -- "${BUILD[@]}" a --no-out-link
	[ "$STATUS" -eq 0 ]
	[[ $OUT == "$T/store/"*-a ]]
	cache_has "$T/cache" "$OUT"
	come_back "file://$T/cache" "$OUT"
	[[ $ERR == *"nncachectl: cache: 1 path uploaded"*"0 there already"* ]]
	no_scratch
}

@test "a result link is uploaded although its path was there before; one of before is not" {
	old=$(make_path old)
	ln -s "$old" result-old
	made=$(make_path made)
	also=$(make_path also)
	ln -s "$also" "$T/link"
	job run --cache "file://$T/cache" --also "$T/link" -- "${BUILD[@]}" made
	# make_path has other arguments
	[ "$STATUS" -eq 0 ]
	cache_has "$T/cache" "$(readlink result)" "$also"
	job run --cache "file://$T/cache" -- ln -sfn "$made" result
	[ "$STATUS" -eq 0 ]
	cache_has "$T/cache" "$made"
	cache_lacks "$T/cache" "$old"
	# Nix makes the same link anew; the path is there, and so are all others.
	job run --cache "file://$T/cache-2" -- "${BUILD[@]}" made
	[ "$STATUS" -eq 0 ]
	cache_has "$T/cache-2" "$(readlink result)"
	cache_lacks "$T/cache-2" "$old" "$also"
}

@test "the status is the command's, 127 if there is none, 126 if it cannot be run" {
	job run --cache "file://$T/cache" -- sh -c 'exit 3'
	[ "$STATUS" -eq 3 ]
	job run --cache "file://$T/cache" -- no-such-command
	[ "$STATUS" -eq 127 ]
	[[ $ERR == *"no-such-command: No such file"* ]]
	touch "$T/file"
	job run --cache "file://$T/cache" -- "$T/file"
	[ "$STATUS" -eq 126 ]
	# shellcheck disable=SC2016 # the inner shell's
	job run --cache "file://$T/cache" -- sh -c 'kill -TERM $$'
	[ "$STATUS" -eq 143 ]
	no_scratch
}

@test "wrong usage is 2, what cannot be begun is 125" {
	for words in '-- true' '--cache x --config y -- true' '--config y --exclude-roots z -- true' '--cache file:///x'; do
		# shellcheck disable=SC2086 # words
		job run $words
		[ "$STATUS" -eq 2 ]
	done
	job run --cache nonsense://x -- touch "$T/ran"
	[ "$STATUS" -eq 125 ]
	[[ $ERR == *"is not a cache URL"* ]]
	[ ! -e "$T/ran" ]
	job run --best-effort --cache nonsense://x -- touch "$T/ran"
	[ "$STATUS" -eq 0 ]
	[[ $ERR == *"NOTHING IS UPLOADED"* ]]
	[ -e "$T/ran" ]
	no_scratch
}

@test "paths that fail make 125 of 0, nothing of another status, and with --best-effort a line" {
	start_cache
	url=http://127.0.0.1:$PORT/token
	export NNCACHE_TOKEN=wrong
	GITHUB_STEP_SUMMARY=$T/summary job run --cache "$url" -- "${BUILD[@]}" a
	[ "$STATUS" -eq 125 ]
	[[ $ERR == *"not waited for what is left: 127.0.0.1: "*401* ]]
	[[ $ERR == *"what is left is kept in $(scratch_dir)"* ]]
	grep -F "| \`127.0.0.1\` | 0 | 0 B | 0 | 1 |" "$T/summary"
	# As the message says.
	echo open-sesame >"$(scratch_dir)/127.0.0.1.token"
	start nncached "$B/daemon/nncached" --scratch "$(scratch_dir)" --config "$(scratch_dir)/nncache.conf"
	wait_until 20 cache_has "$T/www" "$(readlink result)"
	stop nncached
	rm -r "$T"/ci/*
	job run --cache "file://$T/cache" --also ./missing -- true
	[ "$STATUS" -eq 125 ]
	[[ $ERR == *"--also: "*missing* ]]
	job run --cache "file://$T/cache" --also ./missing -- sh -c 'exit 7'
	[ "$STATUS" -eq 7 ]
	job run --best-effort --cache "file://$T/cache" --also ./missing -- true
	[ "$STATUS" -eq 0 ]
	[[ $ERR == *"NOT ALL WAS UPLOADED"* ]]
	no_scratch
}

@test "a cache that does not answer is waited for no longer than --drain-timeout" {
	job run --cache http://127.0.0.1:1/x --drain-timeout 1s -- "${BUILD[@]}" a
	[ "$STATUS" -eq 125 ]
	[[ $ERR == *"time-out"* ]]
}

@test "without secrets the caches are only read, and that is no failure" {
	unset NNCACHE_SIGNING_KEY
	export CACHIX_AUTH_TOKEN=
	job run --cache cachix://team --cache attic://a.example/b --cache "file://$T/cache" -- "${BUILD[@]}" a
	[ "$STATUS" -eq 0 ]
	[[ $ERR == *"team is only read, nothing is uploaded there: CACHIX_AUTH_TOKEN is not set"* ]]
	[[ $ERR == *"b is only read, nothing is uploaded there: ATTIC_TOKEN is not set"* ]]
	[[ $ERR == *"cache is only read, nothing is uploaded there: NNCACHE_SIGNING_KEY is not set"* ]]
	not has_narinfo "$T/cache"
	no_scratch
	printf '[cache "main"]\nurl = s3://bucket\npush = auto\nsign = no\n' >"$T/etc/job.conf"
	job run --config "$T/etc/job.conf" -- "${BUILD[@]}" b
	[ "$STATUS" -eq 0 ]
	[[ $ERR == *"main is only read: push = auto, and "*"no AWS credentials"* ]]
	job run --no-push -- "${BUILD[@]}" c
	[ "$STATUS" -eq 0 ]
	no_scratch
}

@test "with --config any caches; the file's own places are left alone" {
	write_config "file://$T/cache" 'exclude-roots = -b$'
	cd "$T/etc"
	job run --config nncache.conf -- bash -c "${BUILD[*]@Q} a --no-out-link; ${BUILD[*]@Q} b --no-out-link"
	[ "$STATUS" -eq 0 ]
	# shellcheck disable=SC2086 # two paths
	set -- $OUT
	cache_has "$T/cache" "$1"
	cache_lacks "$T/cache" "$2"
	[ ! -e "$SOCKET" ]
	[ ! -e "$T/state/queue.db" ]
	no_scratch
}

@test "filters, names of caches, and a token that would go to two servers" {
	job run --cache "file://$T/cache" --cache "file://$T/x/cache" --exclude-roots '-b$' --json \
		-- bash -c "{ ${BUILD[*]@Q} a; ${BUILD[*]@Q} b --no-out-link; } >&2"
	[ "$STATUS" -eq 0 ]
	jq -e '.finished and .command_status == 0 and .unfinished == 0 and (.caches | map(.name)) == ["cache", "cache-2"]
		and all(.caches[]; .uploaded_paths == 1)' "$T/out"
	NNCACHE_TOKEN=x job run --cache https://a.example --cache https://b.example -- true
	[ "$STATUS" -eq 125 ]
	[[ $ERR == *"NNCACHE_TOKEN is for one server"* ]]
	no_scratch
}

# A step of a job: step NAME N-CACHES. It builds, waits until each cache was tried, and gathers what can be seen.
write_step() {
	cat >"$T/step" <<-END
		set -e
		. "$TOP/tests/integration/marks.bash"
		dir=\$(dirname "\$NNCACHE_SOCKET") seen=$T/seen
		mkdir -p "\$seen"
		stat -c '%a %n' "\$dir" "\$dir"/*.token "\$dir"/*.key
		pid=\$("$B/ctl/nncachectl" status --json | jq .pid)
		printf '[daemon]\nlog-level = debug\n' >>"\$dir/nncache.conf"
		kill -HUP "\$pid"
		${BUILD[*]@Q} "\$1"
		until [ "\$("$B/ctl/nncachectl" list --state all --json | jq '[.jobs[] |
			select(.state == "done" or .text != null)] | length')" -eq "\$2" ]; do sleep 0.1; done
		cat "/proc/\$pid/environ" >"\$seen/environ"
		env | grep ^NNCACHE_ >>"\$seen/environ"
		argv_of_all >"\$seen/argv"
		for words in status 'status --json' 'list --state all' 'list --state all --json' metrics 'doctor --verbose'; do
			"$B/ctl/nncachectl" \$words >>"\$seen/ctl" 2>&1 || true
		done
		cp -r "\$dir" "\$seen/dir"
		rm "\$seen"/dir/*.token "\$seen"/dir/*.key
	END
}

# What the step gathered, and what came after it.
no_mark_was_seen() {
	grep -q 'nncached --foreground' <(tr '\0' ' ' <"$T/seen/argv")
	grep -q 'upload state' "$T/seen/dir/log"
	[ -s "$T/seen/dir/state/queue.db-wal" ]
	no_mark_in "$T/seen" "$T/out" "$T/err" "$T/summary" "$T/log" "$T/ci" "$T/var" "$T/www"
	rm -r "$T/seen" "$T"/ci/*
}

@test "secrets are in files of the scratch directory, and nowhere else" {
	mark token
	mark attic_token
	key=${NNCACHE_SIGNING_KEY#*:}
	MARKS+=("$key")
	start_cache --token "$token"
	start attic python3 "$TOP/tests/support/attic_server.py" --store-dir "$T/store" --token "$attic_token"
	wait_until 15 test -s "$T/log/attic.log"
	read -r attic _ <"$T/log/attic.log"
	export NNCACHE_TOKEN=$token ATTIC_TOKEN=$attic_token GITHUB_STEP_SUMMARY=$T/summary
	caches=(--cache "http://127.0.0.1:$PORT/token" --cache "attic+http://127.0.0.1:$attic/team")
	write_step
	job run "${caches[@]}" --cache "http://127.0.0.1:$PORT/echo" -- bash "$T/step" a 3
	[ "$STATUS" -eq 125 ]
	cache_has "$T/www" "$(readlink result)"
	[ "$(grep -c '^700 \|^600 ' <<<"$OUT")" -eq 6 ]
	grep -q 'not known: Bearer \*' "$T/seen/ctl"
	holds_a_mark -q "$(scratch_dir)" # what is left is kept, with what it takes
	rm "$(scratch_dir)"/*.token "$(scratch_dir)"/*.key
	no_mark_was_seen

	export GITHUB_ENV=$T/github-env
	job session start "${caches[@]}"
	[ "$STATUS" -eq 0 ]
	no_mark_in "$GITHUB_ENV"
	next_step
	holds_a_mark -q "$NNCACHE_SESSION"
	env -u NNCACHE_TOKEN -u NNCACHE_SIGNING_KEY bash "$T/step" b 2
	job session stop
	[ "$STATUS" -eq 0 ]
	cache_has "$T/www" "$(readlink result)"
	no_mark_was_seen
}

# The pid of the sleep that the shell named by $T/child has begun.
sleeps() {
	pgrep -P "$(cat "$T/child")" sleep
}

@test "signals go to the command and what it started" {
	for signal in TERM INT; do
		# In the background a shell ignores SIGINT, and so would we.
		start job env --default-signal=INT "$B/ctl/nncachectl" run --cache "file://$T/cache" -- \
			bash -c "${BUILD[*]@Q} $signal -o $T/job/$signal; echo \$\$ >$T/child; sleep 60; exit 1"
		wait_until 20 sleeps
		child=$(sleeps)
		# What is built is uploaded while the command goes on.
		wait_until 30 cache_has "$T/cache" "$(readlink "$T/job/$signal")"
		stop job "$signal"
		not is_running "$child"
		rm "$T/child"
		[ "$STOPPED_WITH" -eq $((128 + $(kill -l "$signal"))) ]
	done
	no_scratch
}

@test "killed, it takes its daemon with it, and what was handed over is kept" {
	start_cache
	NNCACHE_TOKEN=wrong start job "$B/ctl/nncachectl" run --cache "http://127.0.0.1:$PORT/token" -- bash -c "${BUILD[*]@Q} a; echo >$T/built; exec sleep 60"
	wait_until 20 test -e "$T/built"
	dir=$(scratch_dir)
	pid=$(NNCACHE_SOCKET=$dir/socket "$B/ctl/nncachectl" status --json | jq .pid)
	command=$(pgrep -P "$(pid_of job)" sleep)
	stop job KILL
	kill "$command"
	gone() { ! is_running "$pid"; }
	wait_until 20 gone
	path=$(readlink result)
	rm result
	nix-store --gc 2>/dev/null
	[ -e "$path/data" ]
	echo open-sesame >"$dir/127.0.0.1.token"
	start nncached "$B/daemon/nncached" --scratch "$dir" --config "$dir/nncache.conf"
	wait_until 20 cache_has "$T/www" "$path"
}

@test "a daemon that died is started again, and finds what hooks left" {
	job run --cache "file://$T/cache" -- bash -c "kill -KILL \$('$B/ctl/nncachectl' status --json | jq .pid); ${BUILD[*]@Q} a"
	[ "$STATUS" -eq 0 ]
	[[ $ERR == *"starting it again"* ]]
	cache_has "$T/cache" "$(readlink result)"
	no_scratch
}

@test "what hooks left in the spool at the last moment is uploaded" {
	job run --cache "file://$T/cache" -- bash -c "pid=\$('$B/ctl/nncachectl' status --json | jq .pid); kill -STOP \$pid
		${BUILD[*]@Q} a --no-out-link; kill -CONT \$pid"
	[ "$STATUS" -eq 0 ]
	[[ $ERR == *"/spool for the daemon"* ]]
	cache_has "$T/cache" "$OUT"
	no_scratch
}

@test "a session goes over several shells" {
	export NIX_CONFIG="cores = 1
# it's"
	eval "$("$B/ctl/nncachectl" session start --cache "file://$T/cache" 3>&-)"
	[[ $NIX_CONFIG == "cores = 1
# it's
post-build-hook = $NNCACHE_SESSION/hook" ]]
	a=$(bash -c "${BUILD[*]@Q} a --no-out-link")
	bash -c "${BUILD[*]@Q} b"
	job session stop
	[ "$STATUS" -eq 0 ]
	[[ $ERR == *"2 paths uploaded"* ]]
	cache_has "$T/cache" "$a" "$(readlink result)"
	# Only the hook is left, so that this shell can still build.
	[ "$(ls "$NNCACHE_SESSION")" = $'hook\nhook.env' ]
	"${BUILD[@]}" c
	job session stop
	[ "$STATUS" -eq 1 ]
	unset NNCACHE_SESSION
	job session stop
	[ "$STATUS" -eq 0 ]
}

# What GitHub makes of the file of variables, for the next step.
next_step() {
	local line name word value
	while IFS= read -r line; do
		name=${line%%<<*} word=${line#*<<} value=''
		while IFS= read -r line && [ "$line" != "$word" ]; do
			value+=${value:+$'\n'}$line
		done
		export "$name=$value"
	done <"$GITHUB_ENV"
	: >"$GITHUB_ENV"
}

@test "a session of GitHub's: variables for the next steps, a page of what was uploaded, and failures" {
	start_cache
	export GITHUB_ENV=$T/github-env GITHUB_STEP_SUMMARY=$T/summary NIX_CONFIG='cores = 1'
	job session start --cache "file://$T/cache" --cache "http://127.0.0.1:$PORT/401"
	[ "$STATUS" -eq 0 ]
	[ -z "$OUT" ]
	next_step
	[[ $NIX_CONFIG == $'cores = 1\npost-build-hook = '"$NNCACHE_SESSION/hook" ]]
	[ "$NNCACHE_SOCKET" = "$NNCACHE_SESSION/socket" ]
	"${BUILD[@]}" a
	job session stop
	[ "$STATUS" -eq 4 ]
	next_step
	[ "$NIX_CONFIG" = 'cores = 1' ]
	[ -z "$NNCACHE_SESSION" ]
	cache_has "$T/cache" "$(readlink result)"
	# shellcheck disable=SC2016 # Markdown
	grep -E '^\| `cache` \| 1 \| [0-9.]+ [KiB]+ \| 0 \| 0 \|$' "$T/summary"
	grep -F "| \`127.0.0.1\` | 0 | 0 B | 0 | 1 |" "$T/summary"
	[ -d "$(scratch_dir)/state" ]
}

# as_nobody COMMAND...: a user whom nix-daemon knows nothing of.
as_nobody() {
	setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
}

# A multi-user store, with the programs where any user may read them.
multi_user() {
	[ "$(id -u)" = 0 ] || skip "NOT TESTED: only root can be two users"
	mkdir -p "$T"/user/{hook,daemon,ctl}
	cp "$B/hook/hook" "$T/user/hook/"
	cp "$B/daemon/nncached" "$T/user/daemon/"
	cp "$B/ctl/nncachectl" "$T/user/ctl/"
	cp "$TOP/tests/support/path.nix" "$T/path.nix"
	chown 65534:65534 "$T/job" "$T/ci" "$T/cache" "$T/home" "$T/tmp"
	BUILD[1]=$T/path.nix
	start_nix_daemon
	export NIX_REMOTE=daemon
}

job_as_nobody() {
	STATUS=0
	as_nobody timeout 60 "$T/user/ctl/nncachectl" "$@" \
		>"$T/out" 2>"$T/err" 3>&- || STATUS=$?
	OUT=$(<"$T/out") ERR=$(<"$T/err")
	cat "$T/err"
}

@test "nix-daemon runs the hook of a trusted user as root, and it finds its job" {
	echo 'trusted-users = root nobody' >>"$T/etc/nix.conf"
	multi_user
	job_as_nobody run --cache "file://$T/cache" -- "${BUILD[@]}" a --no-out-link
	[ "$STATUS" -eq 0 ]
	cache_has "$T/cache" "$OUT"
	[[ $ERR != *ignored* ]]
	no_scratch
	# Without an answer in time it writes the spool, as root, and its root is in the job's directory.
	job_as_nobody run --cache "file://$T/cache" -- bash -c "
		pid=\$($T/user/ctl/nncachectl status --json | jq .pid); kill -KILL \$pid; ${BUILD[*]@Q} b --no-out-link"
	[ "$STATUS" -eq 0 ]
	cache_has "$T/cache" "$OUT"
	no_scratch
}

@test "an untrusted user's result links and --also are uploaded, and a line says that it is no more" {
	multi_user
	job_as_nobody run --cache "file://$T/cache" -- bash -c "${BUILD[*]@Q} a; ${BUILD[*]@Q} b --no-out-link"
	[ "$STATUS" -eq 0 ]
	[[ $ERR == *"takes no post-build-hook from this user"* ]]
	cache_has "$T/cache" "$(readlink result)"
	cache_lacks "$T/cache" "${OUT##*$'\n'}"
	no_scratch
}

@test "whether Nix takes a hook is known beforehand" {
	multi_user
	[ "$("$B/daemon/nncached" --nix-trust)" = trusted ]
	[ "$(as_nobody "$T/user/daemon/nncached" --nix-trust)" = untrusted ]
	[ "$(NIX_REMOTE='' "$B/daemon/nncached" --nix-trust)" = local ]
	# As in a container into which the daemon's socket was put.
	unshare --pid --fork true || skip "NOT TESTED: no namespaces here"
	[ "$(unshare --pid --fork "$B/daemon/nncached" --nix-trust)" = apart ]
	run unshare --pid --fork "$B/ctl/nncachectl" run --cache "file://$T/cache" -- "${BUILD[@]}" a
	[ "$status" -eq 0 ]
	[[ $output == *"runs outside of this container"* ]]
	cache_has "$T/cache" "$(readlink result)"
}

@test "a store that Nix has still to make is this user's own" {
	NIX_STATE_DIR=$T/new/var NIX_STORE_DIR=$T/new/store run "$B/daemon/nncached" --nix-trust
	[ "$status" -eq 0 ]
	[ "$output" = local ]
}
