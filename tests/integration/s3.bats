#!/usr/bin/env bats
# A bucket of a real S3 server, Ceph's RADOS Gateway, started once for all tests here; each test has a bucket of
# its own. What real servers cannot be made to say, tests/unit/test_s3.c has from a server of its own.

load common

setup_file() {
	pick_port
	CEPH=$(mktemp -d /tmp/nncache-ceph.XXXXXX)
	S3=127.0.0.1:$PORT
	export CEPH S3
	"$TOP/tests/support/ceph" up "$CEPH" "$PORT"
}

teardown_file() {
	"$TOP/tests/support/ceph" down "$CEPH"
	rm -rf "$CEPH" "$CEPH.up.log"
}

setup() {
	scratch_make
	BUCKET=bucket-$BATS_TEST_NUMBER
	printf '[default]\naws_access_key_id = AKIDNN\naws_secret_access_key = SECRETNN\n' >"$T/etc/aws"
	chmod 600 "$T/etc/aws"
	config_of "$BUCKET" "http://$S3"
	make_bucket "$BUCKET"
}

# config_of BUCKET ENDPOINT
config_of() {
	write_config "s3://$1" "endpoint = $2" "token-file = $T/etc/aws"
}

# s3 METHOD PATH [CURL-ARGUMENT...]: a request of the bucket's owner.
s3() {
	local method=$1 path=$2
	shift 2
	curl -sS --fail-with-body --max-time 20 --aws-sigv4 aws:amz:us-east-1:s3 --user AKIDNN:SECRETNN \
		-H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' -X "$method" "$@" "http://$S3/$path"
}

# make_bucket NAME: everybody may read what is in it, as through plain HTTP in front of it.
make_bucket() {
	s3 PUT "$1"
	s3 PUT "$1?policy=" -d "{\"Version\": \"2012-10-17\", \"Statement\": [{\"Effect\": \"Allow\", \"Principal\": \"*\",
		\"Action\": [\"s3:GetObject\"], \"Resource\": [\"arn:aws:s3:::$1/*\"]}]}" -H 'Content-Type: application/json'
}

# in_bucket KEY
in_bucket() {
	curl -sS --fail -o /dev/null -I "http://$S3/$BUCKET/$1"
}

n_objects() {
	s3 GET "$BUCKET" | grep -o '<Key>[^<]*' | grep -c "${1-}"
}

# has_unfinished_uploads N
has_unfinished_uploads() {
	[ "$(s3 GET "$BUCKET?uploads=" | grep -o '<UploadId>' | wc -l)" -eq "$1" ]
}

@test "a closure goes to a bucket, odd names too, and comes back through plain HTTP" {
	start_daemon
	first=$(build_path "$ODD_NAME" 2000)
	second=$(build_path second 30000000 "$first")
	wait_until 40 uploaded
	read_back "http://$S3/$BUCKET" "$second"
	[ "$(n_objects narinfo)" -eq 2 ]
	has_unfinished_uploads 0
	no_roots
}

# A proxy in front of the server that lets everything through but the second part of an upload.
start_front() {
	mkdir -p "$T/nginx"
	pick_port
	FRONT=127.0.0.1:$PORT
	cat >"$T/nginx/nginx.conf" <<-END
		daemon off;
		master_process off;
		pid $T/nginx/pid;
		error_log $T/log/nginx-error.log;
		events { worker_connections 64; }
		http {
			access_log $T/log/front.log;
			client_body_temp_path $T/nginx/body;
			proxy_temp_path $T/nginx/proxy;
			fastcgi_temp_path $T/nginx/fastcgi;
			uwsgi_temp_path $T/nginx/uwsgi;
			scgi_temp_path $T/nginx/scgi;
			client_max_body_size 0;
			server {
				listen $FRONT;
				location / {
					if (\$args ~ partNumber=2) { return 503; }
					proxy_pass http://$S3;
					proxy_set_header Host \$http_host;
				}
			}
		}
	END
	start front nginx -c "$T/nginx/nginx.conf" -e "$T/log/nginx-error.log"
	wait_until 10 port_is_open
}

@test "what a killed upload left in the bucket is aborted by the next start, and nothing else" {
	other=$(s3 POST "$BUCKET/of-others?uploads=" | sed -n 's/.*<UploadId>\(.*\)<.UploadId>.*/\1/p')
	start_front
	config_of "$BUCKET" "http://$FRONT"
	path=$(make_path large 40000000)
	start_daemon
	call_hook "$path"
	wait_until 20 has_unfinished_uploads 2
	wait_until 20 grep -q 'partNumber=2.* 503 ' "$T/log/front.log"
	stop_daemon KILL
	[ -n "$(sqlite3 "$T/state/queue.db" "SELECT upload_id FROM job WHERE upload_id LIKE 'nar/%'")" ]
	has_unfinished_uploads 2

	stop front
	sed -i '/return 503/d' "$T/nginx/nginx.conf"
	start front nginx -c "$T/nginx/nginx.conf" -e "$T/log/nginx-error.log"
	start_daemon
	wait_until 40 uploaded
	has_unfinished_uploads 1
	s3 GET "$BUCKET?uploads=" | grep -qF "$other"
	read_back "http://$S3/$BUCKET" "$path"
	[ -z "$(sqlite3 "$T/state/queue.db" "SELECT upload_id FROM job WHERE upload_id IS NOT NULL")" ]
}

nothing_left_over() {
	[ "$(sqlite3 "$T/state/queue.db" 'SELECT count(*) FROM leftover')" -eq 0 ]
}

@test "what a forgotten upload left in the bucket is aborted, and nothing else" {
	other=$(s3 POST "$BUCKET/of-others?uploads=" | sed -n 's/.*<UploadId>\(.*\)<.UploadId>.*/\1/p')
	start_front
	config_of "$BUCKET" "http://$FRONT"
	path=$(make_path large 40000000)
	start_daemon
	call_hook "$path"
	wait_until 20 grep -q 'partNumber=2.* 503 ' "$T/log/front.log"
	ctl pause main
	stop_daemon KILL
	has_unfinished_uploads 2

	start_armed S3_ABORTED # paused, it neither goes on with it nor takes anything away
	ctl forget "$path"
	status_is '.queue.unfinished == 0'
	[ "$(sqlite3 "$T/state/queue.db" 'SELECT count(*) FROM leftover')" -eq 1 ]
	has_unfinished_uploads 2
	ctl resume main || true
	died_at S3_ABORTED
	has_unfinished_uploads 1
	[ "$(sqlite3 "$T/state/queue.db" 'SELECT count(*) FROM leftover')" -eq 1 ]
	start_daemon # that there is none any more is as good
	wait_until 10 nothing_left_over
	s3 GET "$BUCKET?uploads=" | grep -qF "$other"
}

# has_noted_ids N: of uploads that are under way.
has_noted_ids() {
	[ "$(sqlite3 "$T/state/queue.db" 'SELECT count(upload_id) FROM job')" -eq "$1" ]
}

@test "killed at each step of an upload in parts: all arrives, and what was begun goes once its id was noted" {
	local other path point paths=()
	other=$(s3 POST "$BUCKET/of-others?uploads=" | sed -n 's/.*<UploadId>\(.*\)<.UploadId>.*/\1/p')
	for point in S3_NOTED S3_PART_SENT UPLOAD_NAR_SENT; do
		path=$(make_path $point 17000000)
		paths+=("$path")
		killed_at $point "$path"
		has_noted_ids 1
		case $point in
		S3_*) has_unfinished_uploads 2 ;;
		*) has_unfinished_uploads 1 ;;
		esac
		[ "$(n_objects narinfo)" -eq $((${#paths[@]} - 1)) ]
		arrives
		has_unfinished_uploads 1
	done
	# The last one was there, and was not sent again.
	[ "$(sed -n 's/.* sent_bytes=\([0-9]*\) .*/\1/p' "$T/log/nncached.log")" -lt 10000 ]

	path=$(make_path S3_ABORTED 17000000)
	paths+=("$path")
	killed_at S3_PART_SENT "$path"
	start_armed S3_ABORTED
	died_at S3_ABORTED
	has_noted_ids 1
	has_unfinished_uploads 1
	arrives
	has_unfinished_uploads 1

	# What nobody knows the id of stays begun.
	path=$(make_path S3_BEGUN 17000000)
	paths+=("$path")
	killed_at S3_BEGUN "$path"
	has_noted_ids 0
	has_unfinished_uploads 2
	arrives
	has_unfinished_uploads 2
	s3 GET "$BUCKET?uploads=" | grep -qF "$other"

	has_noted_ids 0
	nothing_left_over
	[ "$(n_objects narinfo)" -eq ${#paths[@]} ]
	[ "$(n_objects nar/)" -eq ${#paths[@]} ]
	come_back "http://$S3/$BUCKET" "${paths[@]}"
}

# add_bucket NAME BUCKET ENDPOINT ID SECRET: one more cache.
add_bucket() {
	printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$4" "$5" >"$T/etc/$1.aws"
	chmod 600 "$T/etc/$1.aws"
	cat >>"$T/etc/nncache.conf" <<-END
		[cache "$1"]
		url = s3://$2
		endpoint = $3
		token-file = $T/etc/$1.aws
		signing-key-file = $T/etc/key.secret
	END
}

# says CACHE WORDS: what the cache wants of a person.
says() {
	ctl status --json | jq -re ".caches[] | select(.name == \"$1\") | .message" | grep -F "$2"
}

# no_secrets TEXT...: neither in a log nor in the queue.
no_secrets() {
	local text
	for text; do
		if grep -rF "$text" "$T/log" "$T/state"; then
			return 1
		fi
	done
}

@test "a wrong bucket, key or secret, and a web page, are said each; the other caches go on" {
	start_front
	sed -i 's/if (.*/default_type text\/html; return 200 "<html>Please log in<\/html>";/' "$T/nginx/nginx.conf"
	stop front
	start front nginx -c "$T/nginx/nginx.conf" -e "$T/log/nginx-error.log"
	add_bucket no-bucket no-such-bucket "http://$S3" AKIDNN SECRETNN
	add_bucket no-key of-another "http://$S3" AKIDOTHER SECRETNN
	add_bucket no-secret with-a-lock "http://$S3" AKIDNN not-the-secret
	add_bucket page "$BUCKET" "http://$FRONT" AKIDNN SECRETNN
	start_daemon
	path=$(build_path program)
	wait_until 30 says no-bucket "there is no such bucket; make it, or mend url or endpoint"
	wait_until 10 says no-key "the service does not know the access key id"
	wait_until 10 says no-secret "the secret access key is not that of the access key id"
	wait_until 10 says page "is not a nix-cache-info"
	wait_until 10 in_bucket "$(hash_of "$path").narinfo"
	read_back "http://$S3/$BUCKET" "$path"
	no_secrets SECRETNN not-the-secret
}

@test "a wrong region, a wrong clock and an expired session are said each; the other caches go on" {
	pick_port # what Ceph does not refuse, the strict little server does: its buckets are its modes
	mkdir "$T/little"
	start little python3 "$TOP/tests/support/s3_server.py" --root "$T/little" --port "$PORT"
	wait_until 10 port_is_open
	for bucket in elsewhere skewed expired; do
		add_bucket $bucket $bucket "http://127.0.0.1:$PORT" AKIDEXAMPLE wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY
	done
	start_daemon
	path=$(build_path program)
	wait_until 30 says elsewhere "expected region = eu-west-1, not us-east-1"
	wait_until 10 says skewed "the clock of this machine is wrong; expected it set (timedatectl set-ntp true)"
	wait_until 10 says expired "the session token is expired; expected those of the service, in token-file"
	wait_until 10 in_bucket "$(hash_of "$path").narinfo"
	status_is '.queue.ready == 3 and .queue.failed == 0'
	no_secrets wJalrXUtnFEMI
}

@test "a clock that is off by an hour is said, and what it held up goes once it is set" {
	truncate -s 3600 "$T/clock-off"
	start nncached env LD_PRELOAD="$B/tests/support/libclock_off.so" CLOCK_OFF="$T/clock-off" \
		ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0" "$B/daemon/nncached" \
		--config "$T/etc/nncache.conf"
	wait_until 15 ctl status
	path=$(build_path program)
	wait_until 30 says main "the clock of this machine is wrong; expected it set (timedatectl set-ntp true)"
	status_is '.queue.failed == 0 and .queue.unfinished == 1'
	rm "$T/clock-off" # that it was set is seen, and the cache probed at once
	wait_until 30 uploaded
	in_bucket "$(hash_of "$path").narinfo"
}

@test "what the bucket forbids to replace counts as there" {
	start_daemon
	path=$(build_path program)
	wait_until 30 uploaded
	stop_daemon
	s3 DELETE "$BUCKET/$(hash_of "$path").narinfo"
	s3 PUT "$BUCKET?policy=" -H 'Content-Type: application/json' -d "{\"Version\": \"2012-10-17\", \"Statement\": [
		{\"Effect\": \"Allow\", \"Principal\": \"*\", \"Action\": [\"s3:GetObject\"], \"Resource\": [\"arn:aws:s3:::$BUCKET/*\"]},
		{\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": [\"s3:PutObject\"], \"Resource\": [\"arn:aws:s3:::$BUCKET/nar/*\"]}]}"
	rm -rf "$T/state"
	mkdir -p "$T/state/spool"
	other=$(make_path other)
	start_daemon
	call_hook "$path"
	wait_until 30 uploaded
	read_back "http://$S3/$BUCKET" "$path"

	call_hook "$other"
	# One path that is refused is no fault of the cache's yet: its job waits alone, and says why.
	wait_until 20 status_is '.queue.delayed == 1'
	status_is '.causes[0].text | contains("AccessDenied")'
}
