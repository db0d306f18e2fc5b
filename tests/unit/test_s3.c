/* s3: requests are signed by the book, bodies go whole or in parts and appear only when they are verified,
 * each refusal says what to do, and credentials come from where they are said to. Against a strict server in
 * Python; a real one is in integration/s3.bats. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/backend/aws_credentials.h"
#include "daemon/backend/aws_remote.h"
#include "daemon/backend/backend.h"
#include "daemon/backend/s3_parts.h"
#include "daemon/backend/xml.h"
#include "daemon/format/narinfo.h"
#include "daemon/loop/timer.h"
#include "tests/support/servers.h"
#include "tests/unit/test.h"

#define STORE_DIR "/nix/store"
#define PATH_A    STORE_DIR "/00000000000000000000000000000000-a"
#define KEY_A     "00000000000000000000000000000000.narinfo"
#define NAR_A     "nar/aaaa.nar.zst"
#define PARTS_3   (MIB(34)) /* 16 + 16 + 2 */
#define SECRET    "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

static struct loop loop;
static struct http *http;
static struct body_pool *pool;
static struct backend *backend;
static struct test_server server;
static struct cache_config config;
static char tmp_dir[64], url[64], endpoint[64], token_file[96], bucket[32];
static unsigned n_pending;

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void open_base(void)
{
	struct error err;

	n_pending = 0;
	scratch_make(tmp_dir);
	assert_int_equal(loop_init(&loop, &err), 0);
	assert_int_equal(http_open(&http, &loop, &err), 0);
	assert_int_equal(body_pool_open(&pool, &loop, MIB(64), tmp_dir, MIB(256), &err), 0);
	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", server.port);
	snprintf(token_file, sizeof(token_file), "%s/aws", tmp_dir);
	write_file(token_file, "[default]\naws_access_key_id = AKIDEXAMPLE\n"
	                       "aws_secret_access_key = " SECRET "\n");
}

static void close_base(void)
{
	backend_close(backend);
	backend = NULL;
	body_pool_close(pool);
	http_close(http, NULL, NULL);
	loop_run(&loop);
	loop_fini(&loop);
	scratch_remove(tmp_dir);
}

/* The bucket is the server's mode. */
static void set_config(const char *mode)
{
	static char name[] = "main";

	snprintf(bucket, sizeof(bucket), "%s", mode);
	snprintf(url, sizeof(url), "s3://%s", mode);
	config = (struct cache_config){ .url = url,
		                        .kind = CACHE_S3,
		                        .upload_jobs = 8,
		                        .stall_timeout_ms = 20000,
		                        .endpoint = endpoint,
		                        .token_file = token_file };
	config.name = name;
}

static void open_config(void)
{
	struct error err;

	if (backend_open(&backend, &loop, http, &config, STORE_DIR, &err) < 0)
		fail_msg("%s", err.text);
}

static void open_mode(const char *mode)
{
	open_base();
	set_config(mode);
	open_config();
}

/* Ops */

struct trial {
	struct backend_op op;
	unsigned n_done, n_notes;
	char note[256];
	bool holds_note; /* the note is not answered by itself */
	struct error note_fault;
};

static void on_trial(struct backend_op *op)
{
	CONTAINER_OF(op, struct trial, op)->n_done++;
	if (--n_pending == 0)
		loop_stop(&loop);
}

static void on_note(struct backend_op *op, const char *note)
{
	struct trial *trial = CONTAINER_OF(op, struct trial, op);

	trial->n_notes++;
	snprintf(trial->note, sizeof(trial->note), "%s", note);
	if (trial->holds_note)
		loop_stop(&loop);
	else
		op->backend->ops->put_noted(op, &trial->note_fault);
}

static struct backend_op *begin(struct trial *trial)
{
	*trial = (struct trial){ .op.done = on_trial, .op.note = on_note };
	n_pending++;
	return &trial->op;
}

static void finish(struct trial *trial)
{
	assert_int_equal(trial->n_done, 0);
	if (n_pending > 0)
		loop_run(&loop);
	assert_int_equal(n_pending, 0);
	assert_int_equal(trial->n_done, 1);
}

static void assert_good(const struct trial *trial)
{
	if (trial->op.err.kind != ERROR_NONE)
		fail_msg("%s", trial->op.err.text);
}

static void assert_fault(const struct trial *trial, enum error_kind kind, const char *words)
{
	if (trial->op.err.kind != kind || strstr(trial->op.err.text, words) == NULL)
		fail_msg("%s: %s; wanted %s with \"%s\"", error_kind_name(trial->op.err.kind),
		         trial->op.err.text, error_kind_name(kind), words);
}

static void prepare(struct trial *trial)
{
	backend->ops->prepare_start(backend, begin(trial));
	finish(trial);
}

static void find_info(struct trial *trial)
{
	backend->ops->find_info_start(backend, begin(trial), PATH_A);
	finish(trial);
}

static struct path_info info_a = { .nar_size = 1000 };
static const struct backend_object object_a = { .info = &info_a, .nar_key = NAR_A, .compression = "zstd" };

static void find_nar(struct trial *trial)
{
	backend->ops->find_nar_start(backend, begin(trial), &object_a);
	finish(trial);
}

static void put_info(struct trial *trial)
{
	const struct narinfo_file file = { .url = NAR_A, .compression = "zstd", .file_size = 500 };
	struct error err;
	struct buf text;

	buf_init(&text, 10000);
	if (narinfo_format(&text, &info_a, &file, &err) < 0)
		fail_msg("%s", err.text);
	backend->ops->put_info_start(backend, begin(trial), &object_a, buf_text(&text), text.len);
	finish(trial);
	buf_fini(&text);
}

/* Bodies: a piece of BLOCK bytes, its number in its first four. */

#define BLOCK 65536

static void fill_block(unsigned char *block, uint64_t number)
{
	static unsigned char pattern[BLOCK];

	for (size_t i = 0; i < BLOCK && pattern[BLOCK - 1] == 0; i++)
		pattern[i] = (unsigned char)(i * 7 + i / 251 + 1);
	memcpy(block, pattern, BLOCK);
	memcpy(block, &number, 4);
}

static void on_reserved(struct body_reserve *req)
{
	(void)req;
	loop_stop(&loop);
}

static struct body *body_of(uint64_t bound_bytes)
{
	struct body_reserve req = { 0 };

	body_reserve_start(pool, &req, bound_bytes, on_reserved);
	loop_run(&loop);
	assert_non_null(req.body);
	return req.body;
}

/* N_BYTES from FROM on, which begins a block. */
static void append(struct body *body, uint64_t from, uint64_t n_bytes)
{
	unsigned char block[BLOCK];
	struct error err;

	for (uint64_t at = from; at < from + n_bytes; at += BLOCK) {
		uint64_t n = from + n_bytes - at < BLOCK ? from + n_bytes - at : BLOCK;

		fill_block(block, at / BLOCK);
		assert_int_equal(body_append(body, block, n, &err), 0);
	}
}

static struct body *body_full(uint64_t n_bytes)
{
	struct body *body = body_of(n_bytes);

	append(body, 0, n_bytes);
	body_end(body);
	return body;
}

static void put_body(struct trial *trial, struct body *body)
{
	backend->ops->put_nar_start(backend, begin(trial), &object_a, body);
	body_unref(body);
	finish(trial);
}

static void object_path(char path[256], const char *key)
{
	snprintf(path, 256, "%s/%s/%s", server.root, bucket, key);
}

static bool has_object(const char *key)
{
	char path[256];

	object_path(path, key);
	return access(path, F_OK) == 0;
}

static void assert_stored(uint64_t size)
{
	unsigned char block[BLOCK], got[BLOCK];
	char path[256];
	FILE *f;

	object_path(path, NAR_A);
	f = fopen(path, "r");
	if (f == NULL)
		fail_msg("%s is not there", path);
	for (uint64_t at = 0; at < size; at += BLOCK) {
		size_t n = size - at < BLOCK ? size - at : BLOCK;

		fill_block(block, at / BLOCK);
		assert_int_equal(fread(got, 1, n, f), n);
		assert_memory_equal(got, block, n);
	}
	assert_int_equal(fgetc(f), EOF);
	fclose(f);
}

static void drop_object(const char *key)
{
	char path[256];

	object_path(path, key);
	unlink(path);
}

static void put_object(const char *key, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", server.root, bucket);
	mkdir(path, 0700);
	strcat(path, "/nar");
	mkdir(path, 0700);
	object_path(path, key);
	write_file(path, text);
}

/* Lines of the server's log since the last look that hold WORD. */
static size_t n_logged(const char *word)
{
	char *log = read_log(&server);
	size_t n = count_lines_with(log, word);

	if (strstr(log, "\"broken\"") != NULL)
		fail_msg("%s", strstr(log, "\"broken\""));
	free(log);
	return n;
}

static void forget_log(void)
{
	assert_int_equal(truncate(server.log, 0), 0);
}

static void control(const char *what)
{
	run_command("curl -sS -o /dev/null 'http://127.0.0.1:%u/control/%s'", server.port, what);
}

/* The server as it was at first. */
static void fresh_server(void)
{
	test_server_stop(&server);
	s3_server_start(&server);
}

/* Signing */

static void on_request(struct http_request *req)
{
	(void)req;
	loop_stop(&loop);
}

static ssize_t read_nothing(struct http_source *source, uint64_t offset, void *data, size_t n_bytes,
                            struct error *err)
{
	(void)source;
	(void)offset;
	(void)data;
	(void)n_bytes;
	(void)err;
	return 0;
}

/* What curl signs is what was computed by the book beforehand. The server is a proxy here, so that the
 * request may be for any host. */
static void signatures_are_those_of_the_book(void **state)
{
	static const struct {
		enum http_method method;
		const char *query, *content_type;
		bool has_body;
		const char *signature;
	} vectors[] = {
		{ HTTP_PUT, "", "Content-Type: application/x-nix-nar", true,
		  "0acbddb80ebacc8aee414bf70834a89b6cad551be503f145648376a6cf789a7b" },
		{ HTTP_POST, "?uploads=", NULL, false,
		  "c86006efd6d49b27653fd74c1c7074777722367810de89cf5dc2b8b108b0336e" },
		{ HTTP_PUT, "?partNumber=2&uploadId=ab%2B%2Fc%3D%3D", NULL, true,
		  "b33541a210d771ace72aba33edd4317c3bf10760fa065c67caae814c723ce3d7" },
	};
	const struct http_signing signing = { "AKIDEXAMPLE", SECRET, NULL, "us-east-1" };
	struct http_source source = { read_nothing };
	struct http_client *client;
	struct error err;
	(void)state;

	open_base();
	assert_int_equal(http_client_open(&client, http, &(struct http_options){ .proxy = endpoint }, &err),
	                 0);
	for (size_t i = 0; i < N_ELEMENTS(vectors); i++) {
		const char *headers[] = { "X-Amz-Date: 20260102T030405Z", vectors[i].content_type };
		char at[128];
		struct http_request req = {
			.method = vectors[i].method,
			.url = at,
			.headers = headers,
			.n_headers = vectors[i].content_type != NULL ? 2 : 1,
			.source = vectors[i].has_body ? &source : NULL,
			.answer_max_bytes = 10000,
			.signing = &signing,
		};

		snprintf(at, sizeof(at), "http://s3.example.com:9000/cache/nar/0abc.nar.zst%s",
		         vectors[i].query);
		http_start(client, &req, on_request);
		loop_run(&loop);
		if (n_logged(vectors[i].signature) != 1)
			fail_msg("vector %zu: %s", i, buf_text(&req.answer));
		buf_fini(&req.answer);
	}
	http_client_close(client);
	close_base();
}

static void queries_are_escaped_as_they_are_signed(void **state)
{
	struct buf query;
	(void)state;

	buf_init(&query, 1000);
	s3_put_query(&query, "partNumber", "2");
	s3_put_query(&query, "uploadId", "a+b/c==~-._ \xc3\xa4");
	assert_string_equal(buf_text(&query), "partNumber=2&uploadId=a%2Bb%2Fc%3D%3D~-._%20%C3%A4");
	buf_fini(&query);
}

/* Places */

static void the_address_follows_endpoint_region_and_style(void **state)
{
	static const struct {
		const char *url, *endpoint, *region;
		enum s3_addressing addressing;
		const char *expected; /* NULL: refused */
	} cases[] = {
		{ "s3://builds", NULL, NULL, S3_ADDRESSING_AUTO,
		  "https://builds.s3.us-east-1.amazonaws.com" },
		{ "s3://builds", NULL, "eu-west-1", S3_ADDRESSING_AUTO,
		  "https://builds.s3.eu-west-1.amazonaws.com" },
		{ "s3://builds", NULL, "cn-north-1", S3_ADDRESSING_PATH,
		  "https://s3.cn-north-1.amazonaws.com.cn/builds" },
		{ "s3://my.builds", NULL, NULL, S3_ADDRESSING_AUTO,
		  "https://s3.us-east-1.amazonaws.com/my.builds" },
		{ "s3://My_builds", NULL, NULL, S3_ADDRESSING_AUTO,
		  "https://s3.us-east-1.amazonaws.com/My_builds" },
		{ "s3://builds", "http://h:9000", "garage", S3_ADDRESSING_AUTO, "http://h:9000/builds" },
		{ "s3://builds", "https://h", NULL, S3_ADDRESSING_VIRTUAL, "https://builds.h" },
		{ "s3://builds", "https://s3.eu-west-1.amazonaws.com", NULL, S3_ADDRESSING_AUTO,
		  "https://builds.s3.eu-west-1.amazonaws.com" },
		{ "s3://builds", "https://amazonaws.com.evil.example", NULL, S3_ADDRESSING_AUTO,
		  "https://amazonaws.com.evil.example/builds" },
		{ "s3://My_builds", "https://h", NULL, S3_ADDRESSING_VIRTUAL, NULL },
		{ "s3://builds", NULL, "us:east", S3_ADDRESSING_AUTO, NULL },
		{ "s3://builds", NULL, "", S3_ADDRESSING_AUTO, NULL },
	};
	char name[] = "main";
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		struct cache_config c = { .url = strdup(cases[i].url), .s3_addressing = cases[i].addressing };
		struct s3_place place;
		struct error err;
		int rc;

		c.name = name;
		c.endpoint = cases[i].endpoint != NULL ? strdup(cases[i].endpoint) : NULL;
		c.s3_region = cases[i].region != NULL ? strdup(cases[i].region) : NULL;
		rc = s3_place_read(&place, &c, NULL, &err);
		if (cases[i].expected == NULL) {
			assert_int_equal(rc, -1);
			assert_int_equal(err.kind, ERROR_OPERATOR);
			assert_non_null(strstr(err.text, "[cache \"main\"]"));
		} else {
			assert_int_equal(rc, 0);
			assert_string_equal(place.base_url, cases[i].expected);
		}
		free(c.url);
		free(c.endpoint);
		free(c.s3_region);
	}
}

/* XML */

static void xml_gives_the_first_text_of_each_name(void **state)
{
	char a[8], b[32], root[XML_NAME_SIZE];
	struct xml_field fields[] = { { .name = "A", .text = a, .size = sizeof(a) },
		                      { .name = "B", .text = b, .size = sizeof(b) } };
	const char text[] = " \r\n<?xml version=\"1.0\"?><R xmlns=\"x\"><A>1234567890</A><C><B>x&amp;&#x22;"
			    "<D>y</D></B><B>no</B></C></R>";
	(void)state;

	assert_true(xml_read(text, strlen(text), root, fields, 2));
	assert_string_equal(root, "R");
	assert_string_equal(a, "1234567");
	assert_true(fields[0].is_cut);
	assert_string_equal(b, "x&\"y");
	assert_false(fields[1].is_cut);
}

static void xml_of_strangers_is_bounded(void **state)
{
	const char *const bad[] = {
		"",
		"<R>",
		"<R></S>",
		"<html><p></html>",
		"not xml",
		"<R>\xff</R>",
		"<!DOCTYPE r [<!ENTITY a \"b\">]><R><A>&a;</A></R>",
		"<!DOCTYPE r SYSTEM \"file:///etc/passwd\"><R/>",
		"<R><A>&unknown;</A></R>",
		"<1><2><3><4><5><6>",
		("<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a>x</a></a></a></a></a></a>"
		 "</a></a></a></a></a></a></a></a></a></a></a>"),
	};
	char a[8], root[XML_NAME_SIZE];
	struct xml_field field = { .name = "A", .text = a, .size = sizeof(a) };
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
		assert_false(xml_read(bad[i], strlen(bad[i]), root, &field, 1));
		assert_string_equal(a, "");
		assert_string_equal(root, "");
	}
	assert_false(xml_read("<R>\0</R>", 8, root, &field, 1));
}

/* The whole way */

static void a_bucket_takes_a_path_and_shows_it(void **state)
{
	struct trial trial;
	(void)state;

	open_mode("ok");
	prepare(&trial);
	assert_good(&trial);
	assert_true(has_object("nix-cache-info"));
	prepare(&trial);
	assert_good(&trial);
	find_info(&trial);
	assert_good(&trial);
	assert_false(trial.op.found);
	find_nar(&trial);
	assert_good(&trial);
	assert_false(trial.op.found);
	put_body(&trial, body_full(300000));
	assert_good(&trial);
	assert_int_equal(trial.op.sent_bytes, 300000);
	assert_false(trial.op.found);
	assert_stored(300000);
	find_nar(&trial);
	assert_true(trial.op.found);
	assert_int_equal(trial.op.file_size, 300000);
	put_info(&trial);
	assert_good(&trial);
	find_info(&trial);
	assert_true(trial.op.found);
	put_body(&trial, body_full(5));
	assert_good(&trial);
	assert_true(trial.op.found);
	assert_stored(300000);
	assert_int_equal(n_logged("uploads="), 0);
	close_base();
}

static void up_to_a_part_goes_in_one_request(void **state)
{
	struct trial trial;
	const uint64_t sizes[] = { 0, 1, MIB(1), MIB(1) + 1, MIB(9), MIB(16) };
	(void)state;

	open_mode("ok");
	for (size_t i = 0; i < N_ELEMENTS(sizes); i++) {
		drop_object(NAR_A);
		put_body(&trial, body_full(sizes[i]));
		assert_good(&trial);
		assert_int_equal(trial.op.sent_bytes, sizes[i]);
		assert_int_equal(trial.n_notes, 0);
		assert_stored(sizes[i]);
	}
	assert_int_equal(n_logged("uploads="), 0);
	close_base();
}

static void a_storage_class_goes_with_every_object(void **state)
{
	char class[] = "STANDARD_IA";
	struct trial trial;
	(void)state;

	open_base();
	set_config("ok");
	config.s3_storage_class = class;
	open_config();
	drop_object(NAR_A);
	drop_object(KEY_A);
	put_info(&trial);
	assert_good(&trial);
	put_body(&trial, body_full(PARTS_3));
	assert_good(&trial);
	assert_int_equal(n_logged("\"x-amz-storage-class\": \"STANDARD_IA\""), 2);
	close_base();
}

/* Parts */

static void a_long_body_goes_in_equal_parts(void **state)
{
	struct trial trial;
	(void)state;

	open_mode("ok");
	drop_object(NAR_A);
	put_body(&trial, body_full(PARTS_3));
	assert_good(&trial);
	assert_int_equal(trial.op.sent_bytes, PARTS_3);
	assert_int_equal(trial.n_notes, 1);
	assert_non_null(strstr(trial.note, NAR_A " up/"));
	assert_stored(PARTS_3);
	assert_int_equal(n_logged("partNumber="), 3);
	assert_int_equal(n_logged("\"bytes\": 16777216"), 2);
	close_base();
}

static void part_sizes_stay_within_ten_thousand(void **state)
{
	(void)state;

	assert_int_equal(s3_part_bytes(0), MIB(16));
	assert_int_equal(s3_part_bytes(GIB(100)), MIB(16));
	for (uint64_t bound = MIB(1); bound <= GIB(5 * 1024); bound += bound / 3) {
		uint64_t part = s3_part_bytes(bound);

		assert_int_equal(part % MIB(1), 0);
		assert_true(part <= GIB(5));
		assert_true((bound + part - 1) / part <= 9000);
	}
}

/* A body that grows when the test says so, a part at a time. */
static void a_body_is_sent_while_it_grows_and_appears_at_its_end(void **state)
{
	struct body *body;
	struct trial trial;
	(void)state;

	open_mode("ok");
	drop_object(NAR_A);
	body = body_of(PARTS_3);
	backend->ops->put_nar_start(backend, begin(&trial), &object_a, body);
	append(body, 0, MIB(17));
	body_publish(body);
	while (n_logged("partNumber=1") == 0) { /* the first part is there, and the body has not ended */
		struct timespec ms = { .tv_nsec = 1000000 };

		uv_run(&loop.uv, UV_RUN_NOWAIT);
		nanosleep(&ms, NULL);
	}
	assert_false(has_object(NAR_A));
	append(body, MIB(17), MIB(16));
	body_publish(body);
	append(body, MIB(33), MIB(1));
	body_end(body);
	body_unref(body);
	finish(&trial);
	assert_good(&trial);
	assert_stored(PARTS_3);
	assert_int_equal(n_logged("partNumber="), 3);
	close_base();
}

static void a_failed_body_leaves_neither_object_nor_parts(void **state)
{
	struct body *body;
	struct trial trial;
	struct error err;
	(void)state;

	open_mode("ok");
	drop_object(NAR_A);
	body = body_of(PARTS_3);
	backend->ops->put_nar_start(backend, begin(&trial), &object_a, body);
	append(body, 0, MIB(17));
	body_publish(body);
	trial.holds_note = true;
	loop_run(&loop); /* up to the note */
	trial.op.backend->ops->put_noted(&trial.op, &trial.note_fault);
	error_set(&err, ERROR_PERMANENT, "differs from what Nix registered");
	body_fail(body, &err);
	body_unref(body);
	finish(&trial);
	assert_fault(&trial, ERROR_PERMANENT, "differs from what Nix registered");
	assert_false(has_object(NAR_A));
	assert_int_equal(n_logged("\"DELETE\""), 1);
	close_base();
}

static void an_upload_id_that_cannot_be_written_down_ends_the_upload(void **state)
{
	struct body *body;
	struct trial trial;
	(void)state;

	open_mode("ok");
	drop_object(NAR_A);
	body = body_full(PARTS_3);
	backend->ops->put_nar_start(backend, begin(&trial), &object_a, body);
	body_unref(body);
	error_set(&trial.note_fault, ERROR_TRANSIENT, "disk full");
	finish(&trial);
	assert_fault(&trial, ERROR_TRANSIENT, "disk full");
	assert_int_equal(n_logged("partNumber="), 0);
	assert_int_equal(n_logged("\"DELETE\""), 1);
	close_base();
}

static void a_part_is_tried_again_by_itself(void **state)
{
	struct trial trial;
	(void)state;

	open_mode("part-once");
	put_body(&trial, body_full(PARTS_3));
	assert_good(&trial);
	assert_int_equal(trial.op.sent_bytes, PARTS_3);
	assert_stored(PARTS_3);
	assert_int_equal(n_logged("partNumber=1&"), 2);
	assert_int_equal(n_logged("partNumber=3&"), 2);
	assert_int_equal(n_logged("uploads="), 1);
	close_base();
}

/* What lasts is given up at once, or as the server asks; and the parts are taken away. */
static void what_parts_cannot_pass_ends_the_upload_and_aborts_it(void **state)
{
	static const struct {
		const char *mode;
		enum error_kind kind;
		const char *words;
	} cases[] = {
		{ "part-403", ERROR_OPERATOR, "AccessDenied" },
		{ "part-503", ERROR_TRANSIENT, "SlowDown" },
		{ "no-etag", ERROR_OPERATOR, "that is not S3" },
		{ "done-page", ERROR_OPERATOR, "is endpoint right?" },
	};
	struct trial trial;
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		open_mode(cases[i].mode);
		forget_log();
		put_body(&trial, body_full(PARTS_3));
		assert_fault(&trial, cases[i].kind, cases[i].words);
		assert_false(has_object(NAR_A));
		assert_int_equal(n_logged("\"DELETE\""), 1);
		assert_int_equal(n_logged("\"status\": 204"), 1);
		if (strcmp(cases[i].mode, "part-503") == 0)
			assert_int_equal(trial.op.err.retry_after_s, 600);
		close_base();
	}
}

static void an_upload_that_cannot_begin_says_so(void **state)
{
	struct trial trial;
	(void)state;

	open_mode("no-uploads");
	put_body(&trial, body_full(PARTS_3));
	assert_fault(&trial, ERROR_OPERATOR, "is endpoint right?");
	assert_true(trial.op.is_server_fault);
	assert_int_equal(trial.n_notes, 0);
	close_base();
}

static void an_error_inside_of_200_is_one(void **state)
{
	struct trial trial;
	(void)state;

	open_mode("done-error");
	put_body(&trial, body_full(PARTS_3));
	assert_good(&trial);
	assert_stored(PARTS_3);
	assert_int_equal(n_logged("\"POST\""), 3);
	close_base();
	open_mode("done-always");
	forget_log();
	put_body(&trial, body_full(PARTS_3));
	assert_fault(&trial, ERROR_TRANSIENT, "HTTP 200 InternalError: Again.");
	assert_false(has_object(NAR_A));
	assert_int_equal(n_logged("\"DELETE\""), 1);
	close_base();
}

static void a_lost_answer_to_complete_is_found_out(void **state)
{
	struct trial trial;
	(void)state;

	open_mode("done-lost");
	put_body(&trial, body_full(PARTS_3));
	assert_good(&trial);
	assert_true(trial.op.found);
	assert_int_equal(trial.op.file_size, PARTS_3);
	assert_stored(PARTS_3);
	close_base();
}

static void who_was_first_is_not_overwritten_by_complete(void **state)
{
	struct trial trial;
	(void)state;

	open_mode("done-412");
	put_body(&trial, body_full(PARTS_3));
	assert_good(&trial);
	assert_true(trial.op.found);
	assert_int_equal(n_logged("\"DELETE\""), 1);
	find_nar(&trial);
	assert_int_equal(trial.op.file_size, strlen("somebody else's"));
	close_base();
}

/* The queue forgets the upload's id once the put went well: its parts would lie there for ever. */
static void an_upload_that_cannot_be_aborted_is_not_forgotten(void **state)
{
	struct trial trial;
	(void)state;

	open_mode("done-412-503");
	put_body(&trial, body_full(PARTS_3));
	assert_fault(&trial, ERROR_TRANSIENT, "SlowDown");
	assert_false(trial.op.found);
	close_base();
}

static void canceling_ends_an_upload_wherever_it_is(void **state)
{
	static const char *const stops[] = { "uploads=", "note", "partNumber=", "rest" };
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(stops); i++) {
		struct body *body;
		struct trial trial;

		open_mode(strcmp(stops[i], "rest") == 0 ? "part-once" : "part-stall");
		forget_log();
		drop_object(NAR_A);
		body = body_full(PARTS_3);
		backend->ops->put_nar_start(backend, begin(&trial), &object_a, body);
		body_unref(body);
		trial.holds_note = strcmp(stops[i], "note") == 0;
		if (trial.holds_note) {
			loop_run(&loop);
		} else if (i > 0) {
			while (n_logged("partNumber=") < 2)
				uv_run(&loop.uv, UV_RUN_NOWAIT);
		}
		backend->ops->cancel(&trial.op);
		backend->ops->cancel(&trial.op);
		if (trial.holds_note)
			backend->ops->put_noted(&trial.op, &trial.note_fault);
		finish(&trial);
		assert_int_equal(trial.op.err.kind, ERROR_CANCELED);
		assert_int_equal(n_logged("\"DELETE\""), 0);
		assert_false(has_object(NAR_A));
		close_base();
	}
}

static void what_was_left_unfinished_is_taken_away_later(void **state)
{
	struct body *body;
	struct trial trial, later;
	(void)state;

	open_mode("ok");
	drop_object(NAR_A);
	body = body_full(PARTS_3);
	backend->ops->put_nar_start(backend, begin(&trial), &object_a, body);
	body_unref(body);
	trial.holds_note = true;
	loop_run(&loop);
	backend->ops->cancel(&trial.op);
	backend->ops->put_noted(&trial.op, &trial.note_fault);
	finish(&trial);
	for (int i = 0; i < 2; i++) {
		backend->ops->abandon_start(backend, begin(&later), trial.note);
		finish(&later);
		assert_good(&later); /* the second time it is gone */
	}
	assert_int_equal(n_logged("\"status\": 204"), 1);
	assert_int_equal(n_logged("\"DELETE\""), 2);
	close_base();
}

/* The same request without an upload id would remove the object. */
static void nothing_is_taken_away_without_an_upload_id(void **state)
{
	char notes[3][4096] = { NAR_A, NAR_A " ", NAR_A " " };
	struct trial trial;
	(void)state;

	open_mode("ok");
	put_object(NAR_A, "a NAR");
	memset(notes[2] + strlen(notes[2]), '/', 3000);
	for (size_t i = 0; i < N_ELEMENTS(notes); i++) {
		backend->ops->abandon_start(backend, begin(&trial), notes[i]);
		finish(&trial);
		assert_good(&trial);
	}
	assert_int_equal(n_logged("\"DELETE\""), 0);
	assert_true(has_object(NAR_A));
	close_base();
}

/* Refusals */

static void a_refusal_says_what_to_do(void **state)
{
	static const struct {
		const char *mode;
		enum error_kind kind;
		bool is_server_fault;
		const char *words;
	} cases[] = {
		{ "denied", ERROR_OPERATOR, false,
		  "HTTP 403 AccessDenied: Access Denied; the user of these" },
		{ "slow-down", ERROR_TRANSIENT, false, "SlowDown: Please reduce your request rate." },
		{ "busy400", ERROR_TRANSIENT, false, "RequestTimeout" },
		{ "conflict", ERROR_TRANSIENT, false, "ConditionalRequestConflict" },
		{ "skewed", ERROR_OPERATOR, true, "the clock of this machine is wrong; expected it set" },
		{ "elsewhere", ERROR_OPERATOR, true, "expected region = eu-west-1, not us-east-1" },
		{ "malformed", ERROR_OPERATOR, true, "expected region = eu-west-1, not us-east-1" },
		{ "gone", ERROR_OPERATOR, true, "there is no such bucket; make it, or mend url or endpoint" },
		{ "expired", ERROR_OPERATOR, true, "the session token is expired" },
		{ "quota", ERROR_OPERATOR, false, "the bucket is full" },
		{ "html403", ERROR_OPERATOR, false, "that is a web page, and not what S3 says" },
		{ "html200", ERROR_OPERATOR, false,
		  "HTTP 200 without an ETag: that is not S3; is endpoint right?" },
		{ "bomb", ERROR_PERMANENT, false, "HTTP 400 Bad Request" },
	};
	struct trial trial;
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		open_mode(cases[i].mode);
		put_body(&trial, body_full(1000));
		assert_fault(&trial, cases[i].kind, cases[i].words);
		if (trial.op.is_server_fault != cases[i].is_server_fault)
			fail_msg("%s: is_server_fault is %d", cases[i].mode, trial.op.is_server_fault);
		if (strcmp(cases[i].mode, "slow-down") == 0)
			assert_int_equal(trial.op.err.retry_after_s, 3);
		assert_int_equal(trial.op.err.is_overload, strcmp(cases[i].mode, "slow-down") == 0);
		assert_false(has_object(NAR_A));
		close_base();
	}
}

/* The same words for a bucket's first question. */
static void preparing_finds_the_fault_first(void **state)
{
	static const struct {
		const char *mode, *words;
	} cases[] = {
		{ "gone", "there is no such bucket" },
		{ "elsewhere", "expected region = eu-west-1" },
		{ "skewed", "the clock of this machine is wrong" },
		{ "html200", "is not a nix-cache-info" },
		{ "html403", "web page" },
		{ "denied", "AccessDenied" },
	};
	struct trial trial;
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		open_mode(cases[i].mode);
		prepare(&trial);
		assert_fault(&trial, ERROR_OPERATOR, cases[i].words);
		close_base();
	}
}

static void a_wrong_key_or_secret_is_told_and_read_again(void **state)
{
	struct trial trial;
	(void)state;

	open_base();
	write_file(token_file, "[default]\naws_access_key_id=AKIDOTHER\naws_secret_access_key=" SECRET "\n");
	set_config("ok");
	open_config();
	prepare(&trial);
	assert_fault(&trial, ERROR_OPERATOR, "InvalidAccessKeyId");
	assert_fault(&trial, ERROR_OPERATOR, "the service does not know the access key id");
	assert_true(trial.op.is_server_fault);
	write_file(token_file, "[default]\naws_access_key_id=AKIDEXAMPLE\naws_secret_access_key=no\n");
	prepare(&trial);
	assert_fault(&trial, ERROR_OPERATOR, "the secret access key is not that of the access key id");
	assert_null(strstr(trial.op.err.text, SECRET));
	write_file(token_file,
	           "[default]\naws_access_key_id=AKIDEXAMPLE\naws_secret_access_key=" SECRET "\n");
	prepare(&trial);
	assert_good(&trial);
	close_base();
}

static void forbidden_to_look_means_missing(void **state)
{
	struct trial trial;
	(void)state;

	open_mode("no-list");
	prepare(&trial);
	assert_good(&trial);
	find_info(&trial);
	assert_good(&trial);
	assert_false(trial.op.found);
	find_nar(&trial);
	assert_good(&trial);
	assert_false(trial.op.found);
	put_body(&trial, body_full(1000));
	assert_good(&trial);
	put_info(&trial);
	assert_good(&trial);
	find_info(&trial);
	assert_true(trial.op.found);
	close_base();
}

static void what_may_not_be_replaced_is_present(void **state)
{
	static const char *const modes[] = { "locked", "locked409" };
	struct trial trial;
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(modes); i++) {
		open_mode(modes[i]);
		put_object(NAR_A, "theirs");
		put_body(&trial, body_full(1000));
		assert_good(&trial);
		assert_true(trial.op.found);
		assert_int_equal(trial.op.file_size, 6);
		put_body(&trial, body_full(PARTS_3));
		assert_good(&trial);
		assert_true(trial.op.found);
		assert_int_equal(trial.op.file_size, 6);
		close_base();
	}
}

static void a_probe_of_a_bucket_changes_nothing_and_others_may_not_look(void **state)
{
	struct trial trial;
	(void)state;

	open_mode("ok");
	drop_object("nix-cache-info");
	backend->ops->probe_start(backend, begin(&trial));
	finish(&trial);
	assert_good(&trial);
	assert_false(trial.op.found);
	assert_int_equal(backend->announced.may_write, MAY_WRITE_UNKNOWN);
	prepare(&trial);
	assert_good(&trial);
	backend->ops->probe_start(backend, begin(&trial));
	finish(&trial);
	assert_good(&trial);
	assert_true(trial.op.found);
	assert_int_equal(backend->announced.may_write, MAY_WRITE_YES);
	backend->ops->look_start(backend, begin(&trial));
	finish(&trial);
	assert_good(&trial);
	assert_int_equal(backend->announced.visibility, VISIBILITY_PRIVATE);
	close_base();
}

/* As one with Object Lock; hashing is for such a bucket alone. */
static void a_bucket_that_wants_md5_gets_it(void **state)
{
	struct trial trial;
	struct body *body;
	(void)state;

	open_mode("lock");
	prepare(&trial);
	assert_good(&trial);
	assert_int_equal(n_logged("\"status\": 400"), 1);
	put_body(&trial, body_full(1000));
	assert_good(&trial);
	put_info(&trial);
	assert_good(&trial);
	drop_object(NAR_A);
	put_body(&trial, body_full(MIB(9)));
	assert_good(&trial);
	assert_stored(MIB(9));
	drop_object(NAR_A);
	put_body(&trial, body_full(PARTS_3));
	assert_good(&trial);
	assert_int_equal(trial.op.sent_bytes, PARTS_3);
	assert_stored(PARTS_3);
	assert_int_equal(n_logged("\"status\": 400"), 1);
	drop_object(NAR_A);
	body = body_full(PARTS_3);
	backend->ops->put_nar_start(backend, begin(&trial), &object_a, body);
	body_unref(body);
	trial.holds_note = true;
	loop_run(&loop);
	backend->ops->put_noted(&trial.op, &trial.note_fault);
	backend->ops->cancel(&trial.op); /* while it is hashed */
	finish(&trial);
	assert_int_equal(trial.op.err.kind, ERROR_CANCELED);
	close_base();
}

static void the_condition_is_dropped_after_its_first_501(void **state)
{
	struct trial trial;
	(void)state;

	open_mode("no-condition");
	prepare(&trial);
	assert_good(&trial);
	put_body(&trial, body_full(1000));
	assert_good(&trial);
	put_info(&trial);
	assert_good(&trial);
	assert_int_equal(n_logged("\"status\": 501"), 1);
	close_base();
	open_mode("no-condition");
	forget_log();
	drop_object(NAR_A);
	put_body(&trial, body_full(PARTS_3));
	assert_good(&trial);
	assert_stored(PARTS_3);
	assert_int_equal(n_logged("\"status\": 501"), 1);
	close_base();
}

/* Credentials */

static void set_environment(const char *id, const char *secret, const char *token)
{
	setenv("AWS_ACCESS_KEY_ID", id, 1);
	setenv("AWS_SECRET_ACCESS_KEY", secret, 1);
	if (token != NULL)
		setenv("AWS_SESSION_TOKEN", token, 1);
}

static int clear_environment(void **state)
{
	static const char *const names[] = {
		"AWS_ACCESS_KEY_ID",
		"AWS_SECRET_ACCESS_KEY",
		"AWS_SESSION_TOKEN",
		"AWS_PROFILE",
		"AWS_REGION",
		"AWS_DEFAULT_REGION",
		"AWS_SHARED_CREDENTIALS_FILE",
		"AWS_CONFIG_FILE",
		"AWS_ROLE_ARN",
		"AWS_WEB_IDENTITY_TOKEN_FILE",
		"AWS_ROLE_SESSION_NAME",
		"AWS_ENDPOINT_URL_STS",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI",
		"AWS_CONTAINER_AUTHORIZATION_TOKEN",
		"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
		"AWS_EC2_METADATA_DISABLED",
		"AWS_EC2_METADATA_SERVICE_ENDPOINT",
		"http_proxy",
		"all_proxy",
	};
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(names); i++)
		unsetenv(names[i]);
	setenv("HOME", "/nonexistent", 1);
	return 0;
}

static void prepare_with_environment(struct trial *trial, const char *mode)
{
	open_base();
	set_config(mode);
	config.token_file = NULL;
	open_config();
	prepare(trial);
}

static void the_environment_gives_keys(void **state)
{
	struct trial trial;
	(void)state;

	set_environment("AKIDEXAMPLE", SECRET, NULL);
	prepare_with_environment(&trial, "ok");
	assert_good(&trial);
	close_base();
}

static void profiles_give_keys_and_region(void **state)
{
	char profile[] = "ci", missing[] = "nobody", process[] = "vault", credentials[96], aws_config[96];
	struct trial trial;
	struct error err;
	(void)state;

	open_base();
	snprintf(credentials, sizeof(credentials), "%s/.aws", tmp_dir);
	assert_int_equal(mkdir(credentials, 0700), 0);
	snprintf(credentials, sizeof(credentials), "%s/.aws/credentials", tmp_dir);
	snprintf(aws_config, sizeof(aws_config), "%s/.aws/config", tmp_dir);
	write_file(credentials, "# comment\n[default]\naws_access_key_id = AKIDOTHER\n"
	                        "aws_secret_access_key = x\n\n[ ci ]\r\naws_access_key_id=AKIDEXAMPLE\r\n"
	                        "aws_secret_access_key = " SECRET "  \n");
	write_file(aws_config, "[default]\nregion = us-west-2\n[profile ci]\nregion = eu-north-1\n"
	                       "s3 =\n  max_concurrent_requests = 20\n[profile vault]\n"
	                       "credential_process = /bin/vault\n");
	setenv("HOME", tmp_dir, 1);
	set_config("ok");
	config.token_file = NULL;
	config.s3_profile = profile;
	set_environment("AKIDWRONG", "wrong", NULL); /* a profile that is asked for goes before */
	open_config();
	prepare(&trial);
	assert_good(&trial);
	assert_int_equal(n_logged("/eu-north-1/s3/aws4_request"), 1);
	backend_close(backend);
	backend = NULL;
	config.s3_profile = missing;
	assert_int_equal(backend_open(&backend, &loop, http, &config, STORE_DIR, &err), -1);
	assert_int_equal(err.kind, ERROR_OPERATOR);
	assert_non_null(strstr(err.text, "AWS profile \"nobody\" has no keys in"));
	config.s3_profile = process;
	assert_int_equal(backend_open(&backend, &loop, http, &config, STORE_DIR, &err), -1);
	assert_non_null(strstr(err.text, "has its keys from credential_process, which is not known here"));
	close_base();
}

static void no_keys_anywhere_is_told_at_once(void **state)
{
	struct error err;
	(void)state;

	open_base();
	set_config("ok");
	config.token_file = NULL;
	assert_int_equal(backend_open(&backend, &loop, http, &config, STORE_DIR, &err), -1);
	assert_int_equal(err.kind, ERROR_OPERATOR);
	assert_non_null(strstr(err.text, "[cache \"main\"]: no AWS credentials; expected token-file = FILE"));
	config.token_file = token_file;
	write_file(token_file, "[other]\naws_access_key_id = x\n");
	assert_int_equal(backend_open(&backend, &loop, http, &config, STORE_DIR, &err), -1);
	assert_non_null(strstr(err.text, "has no section [default]"));
	write_file(token_file, "[default]\naws_access_key_id = x\n");
	assert_int_equal(backend_open(&backend, &loop, http, &config, STORE_DIR, &err), -1);
	assert_non_null(strstr(err.text, "the secret access key is missing"));
	write_file(token_file, "[default]\naws_access_key_id = x y\naws_secret_access_key = z\n");
	assert_int_equal(backend_open(&backend, &loop, http, &config, STORE_DIR, &err), -1);
	assert_non_null(strstr(err.text, "a key holds blanks or control characters"));
	close_base();
}

/* With auto it must be known at once whether there are keys; a machine of AWS may have some. */
static void push_auto_waits_for_no_metadata_service(void **state)
{
	bool is_aws = system("grep -qs '^Amazon' /sys/class/dmi/id/sys_vendor") == 0;
	struct error err;
	(void)state;

	open_base();
	set_config("ok");
	config.token_file = NULL;
	config.endpoint = NULL;
	config.push = PUSH_AUTO;
	assert_int_equal(backend_open(&backend, &loop, http, &config, STORE_DIR, &err), is_aws ? 0 : -1);
	if (!is_aws)
		assert_non_null(strstr(err.text, "no AWS credentials"));
	backend_close(backend);
	backend = NULL;
	config.push = PUSH_YES;
	open_config();
	close_base();
}

/* Who hands out credentials for a time, and how the environment says so. */
static void use_sts(void)
{
	static char file[128];

	snprintf(file, sizeof(file), "%s/identity", server.dir);
	write_file(file, "web+identity/token==\n");
	setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file, 1);
	setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/builder", 1);
	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u/sts/", server.port);
	setenv("AWS_ENDPOINT_URL_STS", endpoint, 1);
}

static void use_container(void)
{
	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u/container", server.port);
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint, 1);
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "open-sesame", 1);
}

static void use_machine(void)
{
	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u/", server.port);
	setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint, 1);
}

static void (*const remotes[])(void) = { use_sts, use_container, use_machine };

static void servers_hand_out_credentials(void **state)
{
	struct trial trial, others[8];
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(remotes); i++) {
		clear_environment(NULL);
		fresh_server();
		remotes[i]();
		prepare_with_environment(&trial, "ok");
		assert_good(&trial);
		assert_int_equal(n_logged("\"x-amz-security-token\": \"token-1\""), 2);
		/* Expired: got anew once, however many need it. */
		control("expire");
		forget_log();
		for (size_t k = 0; k < N_ELEMENTS(others); k++)
			backend->ops->find_info_start(backend, begin(&others[k]), PATH_A);
		finish(&others[0]);
		for (size_t k = 0; k < N_ELEMENTS(others); k++)
			assert_good(&others[k]);
		assert_int_equal(n_logged("\"x-amz-security-token\": \"token-2\""), 8);
		assert_true(n_logged("\"/sts/\"") + n_logged("\"/container\"") +
		                    n_logged("credentials/builder") <=
		            2);
		close_base();
	}
}

static void credentials_are_got_anew_before_they_expire(void **state)
{
	struct trial trial;
	(void)state;

	fresh_server();
	control("soon"); /* good for 100 s, less than AWS_REFRESH_S */
	use_machine();
	prepare_with_environment(&trial, "ok");
	assert_good(&trial);
	find_info(&trial);
	assert_good(&trial);
	assert_int_equal(n_logged("credentials/builder"), 3);
	/* A server that hands out nothing any more does no harm while they are good. */
	control("no-role");
	find_info(&trial);
	assert_good(&trial);
	close_base();
}

static void a_server_that_hands_out_nothing_is_named(void **state)
{
	struct trial trial;
	(void)state;

	fresh_server();
	use_sts();
	control("sts-denied");
	prepare_with_environment(&trial, "ok");
	assert_fault(&trial, ERROR_OPERATOR, "HTTP 403: InvalidIdentityToken");
	assert_fault(&trial, ERROR_OPERATOR, "[cache \"main\"]");
	assert_null(strstr(trial.op.err.text, "web+identity"));
	assert_true(trial.op.is_server_fault);
	close_base();

	clear_environment(NULL);
	use_container();
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "wrong", 1);
	prepare_with_environment(&trial, "ok");
	assert_fault(&trial, ERROR_OPERATOR, "HTTP 401");
	close_base();

	clear_environment(NULL);
	use_machine();
	control("no-role");
	prepare_with_environment(&trial, "ok");
	assert_fault(&trial, ERROR_OPERATOR, "the machine has no role");
	close_base();

	clear_environment(NULL);
	setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1", 1);
	prepare_with_environment(&trial, "ok");
	assert_fault(&trial, ERROR_OPERATOR, "no instance metadata");
	close_base();
}

static void the_url_of_credentials_is_shown_without_its_secrets(void **state)
{
	struct trial trial;
	(void)state;

	fresh_server();
	use_container();
	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u/page?key=open-sesame", server.port);
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint, 1);
	prepare_with_environment(&trial, "ok");
	assert_fault(&trial, ERROR_OPERATOR, "/page: answered with something that is not credentials");
	assert_null(strstr(trial.op.err.text, "sesame"));
	close_base();
}

static void canceling_while_waiting_for_credentials_ends_it(void **state)
{
	struct trial first, second, third;
	(void)state;

	fresh_server();
	use_machine();
	open_base();
	set_config("ok");
	config.token_file = NULL;
	open_config();
	backend->ops->prepare_start(backend, begin(&first));
	backend->ops->find_info_start(backend, begin(&second), PATH_A);
	backend->ops->cancel(&second.op);
	backend->ops->cancel(&first.op);
	/* This one comes when the question is canceled, and asks anew. */
	backend->ops->find_info_start(backend, begin(&third), PATH_A);
	finish(&third);
	assert_int_equal(first.op.err.kind, ERROR_CANCELED);
	assert_int_equal(second.op.err.kind, ERROR_CANCELED);
	assert_good(&third);
	backend->ops->prepare_start(backend, begin(&first));
	backend->ops->cancel(&first.op);
	finish(&first);
	close_base();
}

static void a_container_is_asked_on_this_machine_only(void **state)
{
	(void)state;

	assert_true(aws_container_url_is_safe("http://127.0.0.1:9/x"));
	assert_true(aws_container_url_is_safe("http://169.254.170.2/v2/x"));
	assert_true(aws_container_url_is_safe("http://169.254.170.23"));
	assert_true(aws_container_url_is_safe("http://[::1]:80/x"));
	assert_true(aws_container_url_is_safe("https://example.com/x"));
	assert_false(aws_container_url_is_safe("http://example.com/x"));
	assert_false(aws_container_url_is_safe("http://127.0.0.1@example.com/"));
	assert_false(aws_container_url_is_safe("http://127.0.0.1:x@example.com/"));
	assert_false(aws_container_url_is_safe("http://127.0.0.1.example.com/"));
	assert_false(aws_container_url_is_safe("http://localhost.example.com/"));
	assert_false(aws_container_url_is_safe("ftp://127.0.0.1/"));
}

static void times_of_expiry_are_read(void **state)
{
	int64_t at = 0;
	(void)state;

	assert_true(aws_parse_time("2026-01-02T03:04:05Z", &at));
	assert_int_equal(at, 1767323045);
	assert_true(aws_parse_time("2026-01-02T03:04:05.123Z", &at));
	assert_int_equal(at, 1767323045);
	assert_false(aws_parse_time("2026-01-02", &at));
	assert_false(aws_parse_time("2026-01-02T03:04:05", &at));
	assert_false(aws_parse_time("2026-01-02T03:04:05Zx", &at));
	assert_false(aws_parse_time("", &at));
}

static int start_server(void **state)
{
	(void)state;
	info_a.path = strdup(PATH_A);
	s3_server_start(&server);
	return 0;
}

static int stop_server(void **state)
{
	(void)state;
	free(info_a.path);
	test_server_stop(&server);
	return 0;
}

static int begin_test(void **state)
{
	forget_log();
	return clear_environment(state);
}

#define TEST(test) cmocka_unit_test_setup(test, begin_test)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(signatures_are_those_of_the_book),
		TEST(queries_are_escaped_as_they_are_signed),
		TEST(the_address_follows_endpoint_region_and_style),
		TEST(xml_gives_the_first_text_of_each_name),
		TEST(xml_of_strangers_is_bounded),
		TEST(a_bucket_takes_a_path_and_shows_it),
		TEST(up_to_a_part_goes_in_one_request),
		TEST(a_storage_class_goes_with_every_object),
		TEST(a_long_body_goes_in_equal_parts),
		TEST(part_sizes_stay_within_ten_thousand),
		TEST(a_body_is_sent_while_it_grows_and_appears_at_its_end),
		TEST(a_failed_body_leaves_neither_object_nor_parts),
		TEST(an_upload_id_that_cannot_be_written_down_ends_the_upload),
		TEST(a_part_is_tried_again_by_itself),
		TEST(what_parts_cannot_pass_ends_the_upload_and_aborts_it),
		TEST(an_upload_that_cannot_begin_says_so),
		TEST(an_error_inside_of_200_is_one),
		TEST(a_lost_answer_to_complete_is_found_out),
		TEST(who_was_first_is_not_overwritten_by_complete),
		TEST(an_upload_that_cannot_be_aborted_is_not_forgotten),
		TEST(canceling_ends_an_upload_wherever_it_is),
		TEST(what_was_left_unfinished_is_taken_away_later),
		TEST(nothing_is_taken_away_without_an_upload_id),
		TEST(a_refusal_says_what_to_do),
		TEST(preparing_finds_the_fault_first),
		TEST(a_wrong_key_or_secret_is_told_and_read_again),
		TEST(forbidden_to_look_means_missing),
		TEST(what_may_not_be_replaced_is_present),
		TEST(a_bucket_that_wants_md5_gets_it),
		TEST(a_probe_of_a_bucket_changes_nothing_and_others_may_not_look),
		TEST(the_condition_is_dropped_after_its_first_501),
		TEST(the_environment_gives_keys),
		TEST(profiles_give_keys_and_region),
		TEST(no_keys_anywhere_is_told_at_once),
		TEST(push_auto_waits_for_no_metadata_service),
		TEST(servers_hand_out_credentials),
		TEST(credentials_are_got_anew_before_they_expire),
		TEST(a_server_that_hands_out_nothing_is_named),
		TEST(the_url_of_credentials_is_shown_without_its_secrets),
		TEST(canceling_while_waiting_for_credentials_ends_it),
		TEST(a_container_is_asked_on_this_machine_only),
		TEST(times_of_expiry_are_read),
	};

	return cmocka_run_group_tests(tests, start_server, stop_server);
}
