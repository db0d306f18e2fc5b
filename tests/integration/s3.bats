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
	s3_config
	make_bucket "$BUCKET"
}

# s3_config [LINE...]: a cache in $BUCKET.
s3_config() {
	write_config "s3://$BUCKET" "endpoint = http://$S3" "token-file = $T/etc/aws" "$@"
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

unfinished_uploads() {
	s3 GET "$BUCKET?uploads=" | grep -o '<UploadId>' | wc -l
}

@test "a closure goes to a bucket and comes back through plain HTTP" {
	start_daemon
	first=$(build_path first 2000)
	second=$(build_path second 30000000 "$first")
	wait_until 40 uploaded
	read_back "http://$S3/$BUCKET" "$second"
	[ "$(n_objects narinfo)" -eq 2 ]
	[ "$(unfinished_uploads)" -eq 0 ]
	no_roots
}
