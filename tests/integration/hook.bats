#!/usr/bin/env bats
# The hook beside daemons that answer, misbehave, or are not there: it exits 0, waits no longer than it may, and
# loses nothing.

load common

setup() {
	scratch_make
	ROOTS=$T/var/gcroots/nncache
	SPOOL=$T/state/spool
	A=$T/store/znfl9jqnlc8ialnfmiwhg8rs6pllsccf-demo-1.0
	DRV=$T/store/615x5r9m95li3hs5wi3iyj7gp33aybms-demo-1.0.drv
	EXPECTED="nncache 1 enqueue
path $A
derivation $DRV
end"
}

# start_fake MODE [TEXT]
start_fake() {
	rm -f "$SOCKET"
	start fake "$TOP/tests/support/fake_daemon.py" "$SOCKET" "$T/received" "$@"
	wait_until 10 test -S "$SOCKET"
}

# hook [NAME=VALUE...]: as Nix calls it for $A; MS is how long it took.
hook() {
	local start=${EPOCHREALTIME/./}
	run env -i OUT_PATHS="$A" DRV_PATH="$DRV" "$@" "$HOOK" 3>&-
	MS=$(((${EPOCHREALTIME/./} - start) / 1000))
	echo "exit $status after $MS ms: $output"
	[ "$status" -eq 0 ]
}

spool_is_empty() {
	[ -z "$(ls -A "$SPOOL")" ]
}

n_requests() {
	find "$SPOOL" -name '*.req' | wc -l
}

# The spool holds this one request, byte for byte, and the root is kept for it.
is_spooled() {
	[ "$(find "$SPOOL" -type f ! -name .slow | wc -l)" -eq 1 ]
	cmp "$SPOOL"/*.req <(echo "$EXPECTED")
	[ "$(stat -c %a "$SPOOL"/*.req)" = 644 ]
	[ "$(readlink "$ROOTS"/*)" = "$A" ]
	[[ "$(basename "$ROOTS"/*)" =~ ^znfl9jqnlc8ialnfmiwhg8rs6pllsccf-demo-1\.0\.[0-9]+\.[0-9]{19}$ ]]
}

forget_all() {
	rm -f "$SPOOL"/*.req "$SPOOL/.slow" "$ROOTS"/* "$T/received"
}

@test "an acknowledged request leaves nothing behind and says nothing" {
	start_fake answer 'ok request=1 new=1\n'
	hook
	[ -z "$output" ]
	cmp "$T/received" <(echo "$EXPECTED")
	spool_is_empty
	no_roots
}

@test "a refusal is told, and not tried again" {
	for kind in refused usage denied; do
		start_fake answer "error $kind not this one\n"
		hook
		[ "$output" = "nncache: the daemon will not upload $A: $kind: not this one" ]
		spool_is_empty
		no_roots
		stop fake
	done
}

@test "whatever else the daemon does, the request goes into the spool and the root stays" {
	local cases=(
		"answer|error transient the disk is full\n"
		"answer|error busy\n"
		"answer|error never-heard-of x\n"
		"answer|"
		"answer|ok request=1"
		"answer|ok request\n"
		"answer|okay\n"
		"answer|error\n"
		"answer|HTTP/1.1 400 Bad Request\r\n\r\n"
		"answer|\x00\x01\xff\n"
		"close|"
		"hold|"
		"hold|ok requ"
		"hold|progress a=b\n"
		"endless|x"
		"endless|progress a=b\n"
	)
	for case in "${cases[@]}"; do
		echo "case $case"
		start_fake "${case%%|*}" "${case#*|}"
		hook NNCACHE_TIMEOUT_MS=300
		[ "$MS" -lt 5000 ]
		is_spooled
		[[ "$output" == *"left $A in $SPOOL for the daemon" ]]
		stop fake
		forget_all
	done
}

@test "without a daemon the spool is written at once" {
	hook NNCACHE_TIMEOUT_MS=60000
	[ "$MS" -lt 5000 ]
	is_spooled
	forget_all

	start_fake answer x
	stop fake KILL # the socket stays; nobody listens
	hook NNCACHE_TIMEOUT_MS=60000
	[ "$MS" -lt 5000 ]
	is_spooled
	[ ! -e "$SPOOL/.slow" ]
}

@test "where the daemon could not make its root, the hook's own stays" {
	start_fake answer 'ok request=1 new=1 rooted=no\n'
	hook
	spool_is_empty
	[ "$(readlink "$ROOTS"/*)" = "$A" ]
	[ -z "$output" ]
	rm -r "$ROOTS"
	hook
	[[ "$output" == *"$A is queued, but nothing protects it from garbage collection"* ]]
}

@test "after one wait in vain the next hooks wait only shortly, until the daemon is quick again" {
	start_fake hold
	hook NNCACHE_TIMEOUT_MS=3000
	[ "$MS" -ge 2900 ]
	[ -e "$SPOOL/.slow" ]
	hook NNCACHE_TIMEOUT_MS=3000
	[ "$MS" -lt 2000 ]
	[ "$(n_requests)" -eq 2 ]

	touch -d '31 seconds ago' "$SPOOL/.slow"
	stop fake
	start_fake answer 'ok request=1 new=1\n'
	hook NNCACHE_TIMEOUT_MS=3000
	[ ! -e "$SPOOL/.slow" ]
	[ "$(n_requests)" -eq 2 ]
}

@test "killed while it waits, it leaves its root" {
	start_fake hold
	# exec: the pid we get is the hook's own
	(exec env -i OUT_PATHS="$A" DRV_PATH="$DRV" NNCACHE_TIMEOUT_MS=60000 "$HOOK") 3>&- &
	local pid=$!
	wait_until 10 test -e "$T/received"
	kill -KILL $pid
	wait $pid || true
	[ "$(readlink "$ROOTS"/*)" = "$A" ]
	spool_is_empty
}

@test "without standard descriptors it works, and opens nothing in their place" {
	start_fake hold
	(exec env -i OUT_PATHS="$A" DRV_PATH="$DRV" NNCACHE_TIMEOUT_MS=60000 "$HOOK") <&- >&- 2>&- 3>&- &
	local pid=$!
	wait_until 10 test -e "$T/received"
	for fd in 0 1 2; do
		[ "$(readlink /proc/$pid/fd/$fd)" = /dev/null ]
	done
	[ "$(find /proc/$pid/fd -lname 'socket:*' | wc -l)" -eq 1 ]
	kill -KILL $pid
	wait $pid || true
	forget_all
	stop fake

	(exec env -i OUT_PATHS="$A" DRV_PATH="$DRV" "$HOOK") <&- >&- 2>&- 3>&-
	is_spooled
}

@test "a closed pipe and a file size limit do not fail the build" {
	env -i OUT_PATHS="$A" DRV_PATH="$DRV" "$HOOK" 2> >(exec true) 3>&-
	is_spooled
	forget_all
	(
		ulimit -f 0
		exec env -i OUT_PATHS="$A" DRV_PATH="$DRV" "$HOOK"
	) 2>/dev/null 3>&-
	spool_is_empty
	[ "$(readlink "$ROOTS"/*)" = "$A" ]
}

@test "no spool either: the root stays and a loud line says so; no root either: it says what to do" {
	sed -i /SPOOL/d "$HOOK.env"
	hook NNCACHE_SPOOL="$T/missing"
	[[ "$output" == *"its root is left for the daemon to find" ]]
	[ "$(readlink "$ROOTS"/*)" = "$A" ]
	rm -r "$ROOTS"
	hook NNCACHE_SPOOL="$T/missing"
	[[ "$output" == *"hand it over by hand: nncachectl push PATH" ]]
}

@test "the settings come from the environment, and over it from the file beside the name it was called by" {
	start_fake answer 'ok request=1 new=1\n'
	hook NNCACHE_TAG=environment
	grep -qx 'tag environment' "$T/received"
	echo 'NNCACHE_TAG=of the file' >>"$HOOK.env"
	hook NNCACHE_TAG=environment
	grep -qx 'tag of the file' "$T/received"
	chmod g+w "$HOOK.env"
	hook NNCACHE_TAG=environment NNCACHE_SOCKET="$SOCKET" NNCACHE_GCROOTS="$ROOTS"
	[[ "$output" == "nncache: $HOOK.env: writable by others than its owner, ignored" ]]
	grep -qx 'tag environment' "$T/received"
}

@test "an environment that makes no sense does not fail the build" {
	run env -i "$HOOK" 3>&-
	[ "$status" -eq 0 ]
	[ "$output" = "nncache: OUT_PATHS and DRV_PATH name nothing to hand over" ]
	run env -i OUT_PATHS="/etc/passwd $A/bin $(printf '\033')[31m" DRV_PATH=nonsense "$HOOK" 3>&-
	[ "$status" -eq 0 ]
	[[ "$output" == *'nncache: /etc/passwd: '* ]]
	[[ "$output" != *$'\033'* ]]
	spool_is_empty
	no_roots
}

@test "OUT_PATHS may be as long as the kernel lets it" {
	local paths
	paths=$(seq -s ' ' -f "$T/store/%032.0f-a" 4096)
	paths=${paths:0:131061}
	paths=${paths% *}
	start_fake answer 'ok request=1 new=1\n'
	OUT_PATHS=$paths run "$HOOK" 3>&-
	[ "$status" -eq 0 ]
	[ -z "$output" ]
	[ "$(grep -c ^path "$T/received")" -eq "$(wc -w <<<"$paths")" ]
	diff <(sed -n 's/^path //p' "$T/received") <(tr ' ' '\n' <<<"$paths")
	no_roots
	stop fake
	OUT_PATHS=$paths run "$HOOK" 3>&-
	[ "$status" -eq 0 ]
	cmp "$T/received" "$SPOOL"/*.req
	[ "$(find "$ROOTS" -type l | wc -l)" -eq "$(wc -w <<<"$paths")" ]
}

@test "without OUT_PATHS the derivation that Nix wrote tells them" {
	cat >"$T/many.nix" <<-'END'
		derivation {
			name = "+odd_?=name-.1..x";
			system = "x86_64-linux";
			builder = "/bin/sh";
			args = [ "-c" "echo \"quoted\\\n\" > $out; echo > $dev; echo > $a_b" ];
			outputs = [ "out" "dev" "a_b" ];
		}
	END
	drv=$(nix-instantiate "$T/many.nix" 2>/dev/null 3>&-)
	start_fake answer 'ok request=1 new=1\n'
	run env -i OUT_PATHS= DRV_PATH="$drv" "$HOOK" 3>&-
	[ "$status" -eq 0 ]
	[ -z "$output" ]
	diff <(sed -n 's/^path //p' "$T/received" | sort) <(nix-store -q --outputs "$drv" | sort)
	grep -qxF "derivation $drv" "$T/received"
}

@test "outputs not known before the build leave the derivation alone, and a root for it" {
	cat >"$T/floating.nix" <<-'END'
		derivation {
			name = "floating";
			system = "x86_64-linux";
			builder = "/bin/sh";
			__contentAddressed = true;
			outputHashMode = "recursive";
			outputHashAlgo = "sha256";
		}
	END
	drv=$(nix-instantiate --option experimental-features ca-derivations "$T/floating.nix" 2>/dev/null 3>&-)
	run env -i DRV_PATH="$drv" "$HOOK" 3>&-
	[ "$status" -eq 0 ]
	cmp "$SPOOL"/*.req <(printf 'nncache 1 enqueue\nderivation %s\nend\n' "$drv")
	[ "$(readlink "$ROOTS"/*)" = "$drv" ]
}

@test "after a real build the request names what was built" {
	start_fake answer 'ok request=1 new=1\n'
	path=$(build_path real)
	[ -e "$path" ]
	grep -qx "path $path" "$T/received"
	no_roots
}

@test "a hundred hooks at once are a hundred requests" {
	local i pids=()
	for ((i = 0; i < 100; i++)); do
		env -i OUT_PATHS="$A" DRV_PATH="$DRV" "$HOOK" 2>/dev/null 3>&- &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait "$i"
	done
	[ "$(n_requests)" -eq 100 ]
	[ "$(find "$ROOTS" -type l | wc -l)" -eq 100 ]
}
