#!/usr/bin/env bats
# No secret reaches a log line, an argv, an error text, the database, the spool or a core file (I9). Every secret is a
# random word; each search first finds the word where it must be.

# shellcheck disable=SC2154 # mark sets the variables

load common
load marks

# basic NAME PASSWORD: the word that stands for both in a header.
basic() {
	printf '%s:%s' "$1" "$2" | base64 -w 0
}

# start_cache NAME [OPTION...]: cache_server.py; sets PORT.
start_cache() {
	local name=$1
	shift
	mkdir -p "$T/$name"
	: >"$T/log/$name.log"
	start "$name" python3 "$TOP/tests/support/cache_server.py" --root "$T/$name" --log "$T/served/$name" "$@"
	wait_until 15 grep -q . "$T/log/$name.log"
	PORT=$(cat "$T/log/$name.log")
}

# add_cache NAME URL [LINE...]
add_cache() {
	local name=$1 url=$2
	shift 2
	printf '[cache "%s"]\nurl = %s\nupstreams =\nstall-timeout = 2s\n' "$name" "$url" >>"$T/etc/nncache.conf"
	[[ "$*" == *signing-key-file* ]] || printf 'signing-key-file = %s\n' "$T/etc/key.secret" >>"$T/etc/nncache.conf"
	[ $# = 0 ] || printf '%s\n' "$@" >>"$T/etc/nncache.conf"
}

# make_client_certs: a CA of our own, a server's certificate of it, and a client's, whose key is a secret.
make_client_certs() (
	cd "$T/etc" || exit
	for name in ca server client; do
		openssl ecparam -name prime256v1 -genkey -noout -out "$name.key"
	done
	openssl req -x509 -new -key ca.key -subj /CN=ca -days 1 -out ca.pem
	for name in server client; do
		openssl req -new -key "$name.key" -subj "/CN=$name" -addext 'subjectAltName=IP:127.0.0.1' -out csr
		openssl x509 -req -in csr -CA ca.pem -CAkey ca.key -copy_extensions copy -days 1 -out "$name.pem"
	done
	cat server.key >>server.pem
	chmod 600 ./*.key
) 2>/dev/null

# Each cache with jobs has done one or met its fault.
every_cache_was_tried() {
	ctl list --state all --json | jq -e \
		'[.jobs[] | select(.cache != null)] | length > 0 and all(.state == "done" or .text != null)'
}

# Everything that people see, to files.
collect() {
	mkdir -p "$T/seen"
	ctl status >"$T/seen/status"
	ctl status --json >"$T/seen/status.json"
	ctl list --state all >"$T/seen/list"
	ctl list --state all --json >"$T/seen/list.json"
	ctl show "$1" >"$T/seen/show"
	ctl show --json "$1" >"$T/seen/show.json"
	ctl doctor --verbose --config "$T/etc/nncache.conf" >"$T/seen/doctor" 2>&1 || true
	ctl metrics >"$T/seen/metrics"
	ctl config show >"$T/seen/config"
	"$B/daemon/nncached" --dump-config --config "$T/etc/nncache.conf" >"$T/seen/dump" 2>&1 || true
	"$B/daemon/nncached" --check-config --config "$T/etc/nncache.conf" >"$T/seen/check" 2>&1 || true
	argv_of_all >"$T/seen/argv"
	grep -q "$B/daemon/nncached" "$T/seen/argv"
	[ -z "$(cat "/proc/$(pid_of nncached)/task"/*/children)" ] # nor has it handed anything to another program
}

@test "secrets of every kind stay where they are, whatever the caches answer" {
	mark token
	mark credential
	mark password
	mark proxy_password
	mark s3_secret
	mark other_token
	MARKS+=("$(basic someone "$password")" "$(basic someone "$proxy_password")")
	MARKS+=("$(cut -d: -f2 "$T/etc/key.secret")")
	mkdir "$T/credentials" "$T/served"
	echo "$token" >"$T/etc/token"
	echo "$credential" >"$T/credentials/cache-token"
	echo "machine 127.0.0.1 login someone password $password" >"$T/etc/netrc"
	make_client_certs
	MARKS+=("$(sed -n 2p "$T/etc/client.key")")
	chmod 600 "$T/etc"/{token,netrc,key.secret} "$T/credentials/cache-token"

	start_cache other
	start_cache tls --cert "$T/etc/server.pem" --client-ca "$T/etc/ca.pem"
	tls=$PORT
	start_cache main --other "http://localhost:$(cat "$T/log/other.log")/ok"
	for mode in ok echo elsewhere 503 cut-head html error-long; do
		add_cache "token-$mode" "http://127.0.0.1:$PORT/$mode/token" "token-file = $T/etc/token"
		add_cache "netrc-$mode" "http://127.0.0.1:$PORT/$mode/netrc" "netrc-file = $T/etc/netrc"
	done
	add_cache credential "http://127.0.0.1:$PORT/echo/credential" 'token-file = cache-token'
	add_cache refused "http://127.0.0.1:1/x" "token-file = $T/etc/token"
	add_cache proxied "http://proxied.example/echo" "token-file = $T/etc/token"
	add_cache no-proxy "http://elsewhere.example/x" 'proxy = http://127.0.0.1:1'
	add_cache tls "https://127.0.0.1:$tls/ok" "ca-file = $T/etc/ca.pem" \
		"client-cert-file = $T/etc/client.pem" "client-key-file = $T/etc/client.key"
	add_cache tls-refused "https://127.0.0.1:$tls/other" "client-cert-file = $T/etc/client.pem" \
		"client-key-file = $T/etc/client.key"
	start nncached env CREDENTIALS_DIRECTORY="$T/credentials" no_proxy=127.0.0.1,localhost \
		http_proxy="http://someone:$proxy_password@127.0.0.1:$PORT" \
		AWS_SECRET_ACCESS_KEY="$s3_secret" AWS_SESSION_TOKEN="$s3_secret" CACHIX_AUTH_TOKEN="$other_token" \
		ATTIC_TOKEN="$other_token" NIX_CONFIG="access-tokens = example.org=$other_token" \
		"$B/daemon/nncached" --log-level debug --config "$T/etc/nncache.conf"
	wait_until 15 ctl status
	path=$(make_path program 3000)
	call_hook "$path"
	wait_until 60 every_cache_was_tried

	# They were used: the server saw them, and the search finds them there.
	for word in "Bearer $token" "Bearer $credential" "Basic $(basic someone "$password")" \
		"Basic $(basic someone "$proxy_password")"; do
		grep -qF "$word" "$T/served/main"
	done
	[ "$(holds_a_mark -h "$T/served/main" | sort -u | wc -l)" -eq 4 ]
	holds_a_mark -q "$T/etc/key.secret"
	holds_a_mark -q "$T/etc/client.key"
	grep -q '"PUT", "path": "/ok/.*narinfo", "status": 201' "$T/served/tls" # which takes known clients only
	# The host that others redirect to was asked, and got none.
	grep -q nix-cache-info "$T/served/other"

	collect "$path"
	grep -q 'not known: B' "$T/seen/list" # the servers that repeated them are there to be read
	stop_daemon KILL # the write-ahead log stays
	[ -s "$T/state/queue.db-wal" ]
	no_mark_in "$T/log" "$T/seen" "$T/state" "$T/run" "$T/var" "$T/cache" "$T/main" "$T/other" "$T/tls" \
		"$T/served/other" "$T/served/tls"
}

# start_strict KIND [ARGUMENT...]: a server that verifies what it gets; sets PORT.
start_strict() {
	start "$1" python3 "$TOP/tests/support/$1_server.py" "${@:2}"
	wait_until 15 test -s "$T/log/$1.log"
	read -r PORT _ <"$T/log/$1.log"
}

@test "secrets of S3, Cachix and Attic stay where they are, good or bad" {
	mark s3_secret
	mark cachix_token
	mark attic_token
	mark wrong_token
	mark session_token
	mark url_signature
	mkdir "$T/served" "$T/s3-objects"
	start_strict s3 --root "$T/s3-objects" --key "AKIDMARKED:$s3_secret"
	s3=$PORT
	for bucket in no-condition denied expired malformed html403; do
		add_cache "s3-$bucket" "s3://$bucket" "endpoint = http://127.0.0.1:$s3"
	done
	printf '[default]\naws_access_key_id = AKIDSESSION\naws_secret_access_key = %s\naws_session_token = %s\n' \
		"$wrong_token" "$session_token" >"$T/etc/session.aws"
	add_cache s3-session s3://no-list "endpoint = http://127.0.0.1:$s3" "token-file = $T/etc/session.aws"
	start_strict cachix --store-dir "$T/store" --token "$cachix_token" --signature "$url_signature"
	cachix=$PORT
	start_strict attic --store-dir "$T/store" --token "$attic_token"
	attic=$PORT
	echo "$attic_token" >"$T/etc/attic.token"
	echo "$wrong_token" >"$T/etc/wrong.token"
	chmod 600 "$T"/etc/*.{token,aws}
	add_cache cachix cachix://team "endpoint = http://127.0.0.1:$cachix" 'sign = no'
	add_cache cachix-wrong cachix://team "endpoint = http://localhost:$cachix" 'sign = no' \
		"token-file = $T/etc/wrong.token"
	add_cache attic "attic+http://127.0.0.1:$attic/team" "token-file = $T/etc/attic.token"
	add_cache attic-wrong "attic+http://localhost:$attic/team" "token-file = $T/etc/wrong.token"
	sed -i '/team$/,/^$/ { /^signing-key-file/d }' "$T/etc/nncache.conf"
	start nncached env AWS_ACCESS_KEY_ID=AKIDMARKED AWS_SECRET_ACCESS_KEY="$s3_secret" \
		CACHIX_AUTH_TOKEN="$cachix_token" "$B/daemon/nncached" --log-level debug --config "$T/etc/nncache.conf"
	wait_until 15 ctl status
	path=$(make_path program 3000)
	call_hook "$path"
	wait_until 60 every_cache_was_tried

	# What they are for was done with them: the servers verify them, signatures too.
	ctl list --state 'done' --json | jq -e '[.jobs[].cache] | contains(["s3-no-condition", "cachix", "attic"])'
	ctl list --json | jq -e '[.jobs[].cache] | contains(["s3-session", "s3-expired", "cachix-wrong", "attic-wrong"])'
	# And what servers repeat of them.
	curl -sf -d repeat "http://127.0.0.1:$cachix/_test/mode"
	curl -sf -d repeat "http://127.0.0.1:$attic/_test/mode"
	call_hook "$(make_path another)"
	wait_until 30 grep -q 'not known: /storage' "$T/log/nncached.log"
	wait_until 30 grep -q 'get-missing-paths.*no JSON' "$T/log/nncached.log"
	collect "$path"
	grep -q 'authorized to access it. (Bearer \*' "$T/seen/list"
	grep -q 'Unauthorized: Bearer \*' "$T/seen/list"
	grep -q 'configuration of a cache (no JSON)' "$T/seen/doctor"
	stop_daemon KILL
	[ -s "$T/state/queue.db-wal" ]
	no_mark_in "$T/log" "$T/seen" "$T/state" "$T/run" "$T/var" "$T/s3-objects"
}

# aws_caches: one for each place that keys come from, good and bad ones.
aws_caches() {
	local name
	for name in keys conf web wrong session repeat blank no-id process; do
		add_cache "$name" "s3://$name" "endpoint = http://127.0.0.1:$PORT" "profile = $name"
	done
	for name in remote repeat-remote; do
		add_cache "$name" "s3://$name" "endpoint = http://127.0.0.1:$PORT"
	done
	cat >"$T/etc/aws.credentials" <<-END
		[keys]
		aws_access_key_id = AKIDKEYS
		aws_secret_access_key = $profile_secret
		[wrong]
		aws_access_key_id = AKIDKEYS
		aws_secret_access_key = $wrong_secret
		[session]
		aws_access_key_id = AKIDSESSION
		aws_secret_access_key = $session_secret
		aws_session_token = $wrong_token
		[repeat]
		aws_access_key_id = AKIDSESSION
		aws_secret_access_key = $session_secret
		aws_session_token = $session_token-1
		[blank]
		aws_access_key_id = AKIDKEYS
		aws_secret_access_key = $wrong_secret $wrong_token
		[no-id]
		aws_access_key_id =
		aws_secret_access_key = $wrong_secret
	END
	cat >"$T/etc/aws.config" <<-END
		[profile conf]
		aws_access_key_id = AKIDCONF
		aws_secret_access_key = $config_secret
		[profile web]
		role_arn = arn:aws:iam::1:role/builder
		web_identity_token_file = $T/etc/identity
		[profile process]
		credential_process = vault --password $wrong_secret
	END
	echo "$identity" >"$T/etc/identity"
	echo "Bearer $authorization" >"$T/etc/authorization"
	chmod 600 "$T/etc"/{aws.*,identity,authorization}
}

# try_aws PATH PLACE: all caches with an empty queue, and the keys of those without a profile from there.
try_aws() {
	local path=$1 url=http://127.0.0.1:$PORT
	case $2 in
	container) set -- FULL_URI="$url/container" "AWS_CONTAINER_AUTHORIZATION_TOKEN=Bearer $authorization" ;;
	container-file) set -- FULL_URI="$url/container" AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE="$T/etc/authorization" ;;
	machine) set -- FULL_URI= AWS_EC2_METADATA_SERVICE_ENDPOINT="$url" ;;
	esac
	rm -rf "$T/state"/* "$T/s3-objects"/* "$T/seen"
	mkdir -p "$T/state/spool"
	start nncached env AWS_SHARED_CREDENTIALS_FILE="$T/etc/aws.credentials" AWS_CONFIG_FILE="$T/etc/aws.config" \
		AWS_ENDPOINT_URL_STS="$url/sts/" AWS_CONTAINER_CREDENTIALS_"$1" "${@:2}" \
		"$B/daemon/nncached" --log-level debug --config "$T/etc/nncache.conf"
	wait_until 15 ctl status
	call_hook "$path"
	wait_until 60 every_cache_was_tried
	collect "$path"
	stop_daemon KILL
	[ -s "$T/state/queue.db-wal" ]
	no_mark_in "$T/log" "$T/seen" "$T/state" "$T/run" "$T/var" "$T/s3-objects"
}

# done_are CACHE...: these have the path, and the others have not.
done_are() {
	jq -e --arg names "$*" '[.jobs[] | select(.cache != null and .state == "done") | .cache] | sort ==
		($names | split(" ") | sort)' "$T/seen/list.json"
}

@test "keys of AWS stay where they are, from wherever they come, and what they were had for does" {
	for name in profile_secret config_secret wrong_secret wrong_token session_secret session_token identity \
		authorization metadata_token; do
		mark $name
	done
	mkdir "$T/s3-objects"
	start_strict s3 --root "$T/s3-objects" --key "AKIDKEYS:$profile_secret" --key "AKIDCONF:$config_secret" \
		--key "AKIDSESSION:$session_secret" --session-token "$session_token" --identity "$identity" \
		--authorization "Bearer $authorization" --metadata-token "$metadata_token"
	aws_caches
	path=$(make_path program 3000)
	for place in container machine; do
		try_aws "$path" $place
		done_are main keys conf web remote
		[ "$(grep -c 'not known: \*' "$T/seen/list")" -eq 2 ]
	done
	curl -sf -d '' "http://127.0.0.1:$PORT/control/repeat"
	for place in container-file machine; do
		try_aws "$path" $place
		done_are main keys conf
		[ "$(grep -c 'not known: .*\*' "$T/seen/list")" -eq 4 ]
	done
}

@test "secret files that are broken, and secrets where none may be, are refused without being shown" {
	mark first
	mark second
	mkdir "$T/seen" "$T/served"
	start_cache main
	add_cache token "http://127.0.0.1:$PORT/ok/a" "token-file = $T/etc/token"
	add_cache key "http://127.0.0.1:$PORT/ok/b" "signing-key-file = $T/etc/bad.secret"
	echo good >"$T/etc/token"
	cp "$T/etc/key.secret" "$T/etc/bad.secret"
	chmod 600 "$T/etc/token" "$T/etc/bad.secret"
	start nncached "$B/daemon/nncached" --log-level debug --config "$T/etc/nncache.conf"
	wait_until 15 ctl status
	path=$(make_path program)
	# Broken after they were checked, and before they are read.
	printf '%s\n%s\n' "$first" "$second" >"$T/etc/token"
	printf '%s:%s' "$first" "$second" >"$T/etc/bad.secret"
	call_hook "$path"
	wait_until 30 every_cache_was_tried
	collect "$path"
	grep -q 'token-file' "$T/seen/list"
	grep -q 'bad.secret' "$T/seen/list"

	# The same at a check, at a reload and at start.
	i=0
	for line in "url = http://someone:$first@127.0.0.1/x" "url = https://$first@127.0.0.1/x" \
		"url = http://127.0.0.1/x?token=$first" "proxy = http://someone:$first@127.0.0.1:1" \
		"url = s3://someone:$first@bucket" "url = htp://someone:$first@127.0.0.1/x" \
		"proxy = someone:$first@127.0.0.1:1" "token-file = $first" "signing-key-file = main:$first/$second"; do
		i=$((i + 1))
		printf '[cache "x"]\nsign = no\n%s\n' "$line" >"$T/etc/$i.conf"
		run "$B/daemon/nncached" --check-config --config "$T/etc/$i.conf"
		[ "$status" -eq 1 ]
		echo "$output" >"$T/seen/$i"
		run ctl config check "$T/etc/$i.conf"
		echo "$output" >>"$T/seen/$i"
	done
	cp "$T/etc/1.conf" "$T/etc/nncache.conf"
	kill -HUP "$(pid_of nncached)"
	wait_until 15 grep -q 'is not taken' "$T/log/nncached.log"
	ctl status >"$T/seen/status"
	printf '\001%s\n' "$first" >"$T/etc/token"
	stop_daemon
	{
		printf '[daemon]\nsocket = %s\nstate-dir = %s\ngcroots-dir = %s\n' "$SOCKET" "$T/state" \
			"$T/var/gcroots/nncache"
		cat "$T/etc/1.conf"
	} >"$T/etc/nncache.conf"
	start_daemon # takes in, uploads nothing
	ctl status >"$T/seen/status-broken"
	grep -q 'configuration: .*nncache.conf' "$T/log/nncached.log"
	[ "$(grep -c "configuration: .*x0a" "$T/log/nncached.log")" = 0 ]
	stop_daemon
	holds_a_mark -q "$T/etc/token"
	no_mark_in "$T/log" "$T/seen" "$T/state" "$T/run" "$T/main"
}

@test "a hook with access tokens in its environment leaves them nowhere" {
	mark token
	path=$(make_path program)
	# With no daemon: a spool file; it is looked at, too.
	env -i OUT_PATHS="$path" DRV_PATH="$path.drv" NIX_CONFIG="access-tokens = example.org=$token" \
		NIX_STORE_DIR="$NIX_STORE_DIR" NIX_STATE_DIR="$NIX_STATE_DIR" "$HOOK" >"$T/log/hook.log" 2>&1 3>&-
	grep -qrF "$path" "$T/state/spool"
	no_mark_in "$T/log" "$T/state" "$T/var/gcroots"
}

@test "the daemon leaves no core file, and its memory is not for others of its user" {
	run_as=()
	if [ "$(id -u)" = 0 ]; then
		run_as=(setpriv --reuid 65534 --regid 65534 --clear-groups)
		mkdir "$T/own"
		chown 65534:65534 "$T/own" "$T/run"
		sed -i "s|$T/state|$T/own|" "$T/etc/nncache.conf"
		chmod 644 "$T/etc/key.secret"
		sed -i 's/^signing-key-file.*/sign = no/' "$T/etc/nncache.conf"
	fi
	start nncached "${run_as[@]}" "$B/daemon/nncached" --config "$T/etc/nncache.conf"
	start any "${run_as[@]}" sleep 60
	wait_until 15 ctl status
	grep -Eq '^Max core file size +0 +0 ' "/proc/$(pid_of nncached)/limits"
	# These are the user's own, but of a process that may not be dumped.
	[ "$(stat -c %u "/proc/$(pid_of any)/mem")" -ne 0 ]
	[ "$(stat -c %u "/proc/$(pid_of nncached)/mem")" -eq 0 ]
}
