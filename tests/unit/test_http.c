/* http: requests against servers that behave and servers that do not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "daemon/http/fault.h"
#include "daemon/http/http.h"
#include "daemon/loop/timer.h"
#include "tests/support/servers.h"
#include "tests/unit/test.h"

static struct loop loop;
static struct http *http;
static struct http_client *client;
static struct test_server server;
static char certs[64];
static unsigned n_pending;

static const struct http_options plain = { .stall_timeout_ms = 20000 };

static void open_all(const struct http_options *options)
{
	struct error err;

	n_pending = 0;
	assert_int_equal(loop_init(&loop, &err), 0);
	assert_int_equal(http_open(&http, &loop, &err), 0);
	if (http_client_open(&client, http, options, &err) < 0)
		fail_msg("%s", err.text);
}

static void close_all(void)
{
	http_client_close(client);
	http_close(http, NULL, NULL);
	loop_run(&loop);
	loop_fini(&loop);
}

/* A request with its texts. */
struct trial {
	struct http_request req;
	char url[256];
	unsigned n_done;
	char etag[32];
	uint64_t done_mono_ms;
};

static void on_trial(struct http_request *req)
{
	struct trial *trial = CONTAINER_OF(req, struct trial, req);
	const char *etag = http_get_header(req, "ETag");

	trial->n_done++;
	trial->done_mono_ms = clock_mono_ms();
	snprintf(trial->etag, sizeof(trial->etag), "%s", etag != NULL ? etag : "");
	if (--n_pending == 0)
		loop_stop(&loop);
}

static void trial_init(struct trial *trial, enum http_method method, const char *path)
{
	memset(trial, 0, sizeof(*trial));
	snprintf(trial->url, sizeof(trial->url), "http://127.0.0.1:%u/%s", server.port, path);
	trial->req.method = method;
	trial->req.url = trial->url;
	trial->req.answer_max_bytes = 1 << 20;
}

static void trial_start(struct trial *trial)
{
	n_pending++;
	http_start(client, &trial->req, on_trial);
	assert_int_equal(trial->n_done, 0);
}

static void run(void)
{
	loop_run(&loop);
	assert_int_equal(n_pending, 0);
}

static void trial_run(struct trial *trial)
{
	trial_start(trial);
	run();
	assert_int_equal(trial->n_done, 1);
}

static void put_text(struct trial *trial, const char *path, const char *text)
{
	trial_init(trial, HTTP_PUT, path);
	trial->req.data = text;
	trial->req.data_len = strlen(text);
	trial_run(trial);
	buf_fini(&trial->req.answer);
}

static void get(struct trial *trial, const char *path)
{
	trial_init(trial, HTTP_GET, path);
	trial_run(trial);
}

static void assert_fault(const struct trial *trial, enum error_kind kind, const char *words)
{
	if (trial->req.err.kind != kind || strstr(trial->req.err.text, words) == NULL)
		fail_msg("%s: %s, wanted %s with \"%s\"", error_kind_name(trial->req.err.kind),
		         trial->req.err.text, error_kind_name(kind), words);
}

/* A source of N bytes, a pattern. It can be late: nothing before a timer, and then in steps. */
struct pattern {
	struct http_source source;
	struct http_request *req;
	struct timer timer;
	uint64_t size, ready, fail_at, step;
	uint64_t step_ms;
	unsigned n_rewinds;
	uint64_t last;
};

static unsigned char pattern_byte(uint64_t offset)
{
	return (unsigned char)(offset * 7 + offset / 251);
}

static ssize_t read_pattern(struct http_source *source, uint64_t offset, void *data, size_t n_bytes,
                            struct error *err)
{
	struct pattern *p = CONTAINER_OF(source, struct pattern, source);
	unsigned char *dst = data;

	if (offset < p->last)
		p->n_rewinds++;
	p->last = offset;
	if (p->fail_at > 0 && offset >= p->fail_at) {
		error_set(err, ERROR_PERMANENT, "the NAR differs from what Nix registered");
		return HTTP_SOURCE_FAILED;
	}
	if (n_bytes > p->ready - offset)
		n_bytes = p->ready - offset;
	for (size_t i = 0; i < n_bytes; i++)
		dst[i] = pattern_byte(offset + i);
	return n_bytes == 0 && p->ready < p->size ? HTTP_SOURCE_WAIT : (ssize_t)n_bytes;
}

static void pattern_init(struct pattern *p, struct trial *trial, uint64_t size, uint64_t announced)
{
	memset(p, 0, sizeof(*p));
	p->source.read = read_pattern;
	p->size = p->ready = size;
	p->req = &trial->req;
	trial->req.source = &p->source;
	trial->req.source_len = announced;
}

static void on_step(struct timer *timer)
{
	struct pattern *p = CONTAINER_OF(timer, struct pattern, timer);

	p->ready += p->step;
	if (p->ready >= p->size)
		p->ready = p->size;
	else
		timer_set(timer, p->step_ms);
	http_resume(p->req);
}

static void pattern_grow(struct pattern *p, uint64_t step, uint64_t step_ms)
{
	p->ready = 0;
	p->step = step;
	p->step_ms = step_ms;
	timer_init(&p->timer, &loop, on_step);
	timer_set(&p->timer, step_ms);
}

static void assert_pattern_stored(const char *key, uint64_t size)
{
	char path[256];
	FILE *f;
	int c;

	snprintf(path, sizeof(path), "%s/%s", server.root, key);
	f = fopen(path, "r");
	assert_non_null(f);
	for (uint64_t i = 0; i < size; i++) {
		c = fgetc(f);
		if (c != pattern_byte(i))
			fail_msg("%s: byte %llu is %d", key, (unsigned long long)i, c);
	}
	assert_int_equal(fgetc(f), EOF);
	fclose(f);
}

/* Statuses and texts */

static void a_status_has_the_kind_that_the_design_gives_it(void **state)
{
	static const struct {
		unsigned status;
		enum error_kind read, write;
	} cases[] = {
		{ 200, ERROR_NONE, ERROR_NONE },           { 204, ERROR_NONE, ERROR_NONE },
		{ 301, ERROR_OPERATOR, ERROR_OPERATOR },   { 307, ERROR_OPERATOR, ERROR_OPERATOR },
		{ 400, ERROR_OPERATOR, ERROR_PERMANENT },  { 401, ERROR_OPERATOR, ERROR_OPERATOR },
		{ 403, ERROR_OPERATOR, ERROR_OPERATOR },   { 404, ERROR_PERMANENT, ERROR_OPERATOR },
		{ 405, ERROR_OPERATOR, ERROR_OPERATOR },   { 408, ERROR_TRANSIENT, ERROR_TRANSIENT },
		{ 409, ERROR_OPERATOR, ERROR_OPERATOR },   { 410, ERROR_PERMANENT, ERROR_PERMANENT },
		{ 413, ERROR_OPERATOR, ERROR_PERMANENT },  { 425, ERROR_TRANSIENT, ERROR_TRANSIENT },
		{ 429, ERROR_TRANSIENT, ERROR_TRANSIENT }, { 500, ERROR_TRANSIENT, ERROR_TRANSIENT },
		{ 501, ERROR_OPERATOR, ERROR_OPERATOR },   { 502, ERROR_TRANSIENT, ERROR_TRANSIENT },
		{ 503, ERROR_TRANSIENT, ERROR_TRANSIENT }, { 504, ERROR_TRANSIENT, ERROR_TRANSIENT },
		{ 505, ERROR_OPERATOR, ERROR_OPERATOR },   { 507, ERROR_OPERATOR, ERROR_OPERATOR },
		{ 511, ERROR_OPERATOR, ERROR_OPERATOR },   { 599, ERROR_TRANSIENT, ERROR_TRANSIENT },
		{ 0, ERROR_TRANSIENT, ERROR_TRANSIENT },
	};
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		assert_int_equal(http_kind_of_status(cases[i].status, false), cases[i].read);
		assert_int_equal(http_kind_of_status(cases[i].status, true), cases[i].write);
	}
}

static void a_url_in_a_text_has_no_credentials(void **state)
{
	static const char *const cases[][2] = {
		{ "https://user:p@ss@host:8080/a/b.narinfo", "https://host:8080/a/b.narinfo" },
		{ "https://host/a?X-Amz-Signature=secret#f", "https://host/a" },
		{ "https://host/a@b", "https://host/a@b" },
		{ "user:pass@host/x", "host/x" },
		{ "http://h/\x1b[2J", "http://h/\\x1b[2J" },
		{ "https://user:secret@host?q=://", "https://host" },
	};
	struct buf text;
	(void)state;

	buf_init(&text, 1000);
	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		buf_clear(&text);
		http_format_url(&text, cases[i][0]);
		assert_string_equal(buf_text(&text), cases[i][1]);
	}
	buf_fini(&text);
}

static void a_key_is_joined_to_any_prefix(void **state)
{
	char *url = http_join_url("https://host/prefix//", "nar/a b+c?.nar.zst");
	(void)state;

	assert_string_equal(url, "https://host/prefix/nar/a%20b%2Bc%3F.nar.zst");
	free(url);
}

static void a_fault_names_request_status_and_first_line(void **state)
{
	struct trial trial;
	char expected[128];
	(void)state;

	open_all(&plain);
	put_text(&trial, "503/nar/x", "body");
	snprintf(expected, sizeof(expected),
	         "PUT http://127.0.0.1:%u/503/nar/x: HTTP 503 Service Unavailable: not today", server.port);
	assert_string_equal(trial.req.err.text, expected);
	assert_int_equal(trial.req.err.kind, ERROR_TRANSIENT);
	assert_int_equal(trial.req.err.retry_after_s, 7);
	assert_false(trial.req.is_server_fault);
	assert_true(trial.req.err.is_overload);
	put_text(&trial, "503date/x", "body");
	assert_in_range(trial.req.err.retry_after_s, 25, 31);
	put_text(&trial, "503past/x", "body");
	assert_int_equal(trial.req.err.retry_after_s, 0);
	put_text(&trial, "503far/x", "body");
	assert_in_range(trial.req.err.retry_after_s, 3600, 86400);
	put_text(&trial, "401/x", "body");
	assert_fault(
		&trial, ERROR_OPERATOR,
		"HTTP 401 Unauthorized (the cache wants credentials, or others than these): who are you?");
	assert_true(trial.req.is_server_fault);
	put_text(&trial, "507/x", "body");
	assert_fault(&trial, ERROR_OPERATOR, "507");
	assert_false(trial.req.err.is_overload);
	close_all();
}

static void nobody_there_is_the_servers_fault(void **state)
{
	struct trial trial;
	(void)state;

	open_all(&plain);
	trial_init(&trial, HTTP_GET, "");
	snprintf(trial.url, sizeof(trial.url), "http://u:secret@127.0.0.1:1/x");
	trial_run(&trial);
	assert_fault(&trial, ERROR_TRANSIENT, "GET http://127.0.0.1:1/x: ");
	assert_null(strstr(trial.req.err.text, "secret"));
	assert_true(trial.req.is_server_fault);
	assert_int_equal(trial.req.status, 0);
	trial_init(&trial, HTTP_GET, "");
	snprintf(trial.url, sizeof(trial.url), "http://nncache.invalid/x");
	trial_run(&trial);
	assert_fault(&trial, ERROR_TRANSIENT, "nncache.invalid");
	assert_true(trial.req.is_server_fault);
	trial_init(&trial, HTTP_GET, "");
	snprintf(trial.url, sizeof(trial.url), "ftp://127.0.0.1/x");
	trial_run(&trial);
	assert_fault(&trial, ERROR_OPERATOR, "ftp");
	close_all();
}

/* Bodies */

static void a_small_body_goes_at_once_and_comes_back(void **state)
{
	static char mib[1 << 20];
	static const char *const headers[] = { "Content-Type: text/x-nix-narinfo", "If-None-Match: *" };
	struct trial trial;
	char *log;
	(void)state;

	open_all(&plain);
	memset(mib, 'm', sizeof(mib));
	trial_init(&trial, HTTP_PUT, "ok/small");
	trial.req.data = mib;
	trial.req.data_len = sizeof(mib);
	trial.req.headers = headers;
	trial.req.n_headers = 2;
	trial_run(&trial);
	assert_int_equal(trial.req.status, 201);
	assert_int_equal(trial.req.err.kind, ERROR_NONE);
	assert_int_equal(trial.req.sent_bytes, sizeof(mib));
	log = read_log(&server);
	assert_int_equal(count_lines_with(log, "\"PUT\", \"path\": \"/ok/small\""), 1);
	assert_null(strstr(strstr(log, "/ok/small"), "\"expect\""));
	assert_non_null(strstr(strstr(log, "/ok/small"), "\"content-type\": \"text/x-nix-narinfo\""));
	assert_non_null(strstr(log, "\"user-agent\": \"nncache/"));
	free(log);

	get(&trial, "ok/small");
	assert_int_equal(trial.req.answer.len, sizeof(mib));
	assert_memory_equal(trial.req.answer.data, mib, sizeof(mib));
	assert_string_equal(trial.etag, "\"abc\"");
	buf_fini(&trial.req.answer);
	trial_init(&trial, HTTP_HEAD, "ok/small");
	trial_run(&trial);
	assert_int_equal(trial.req.content_length, sizeof(mib));
	assert_int_equal(trial.req.answer.len, 0);
	put_text(&trial, "ok/empty", "");
	assert_int_equal(trial.req.status, 201);
	close_all();
}

static void requests_one_after_the_other_share_a_connection(void **state)
{
	char expected[64], key[32];
	char *log, *first;
	struct trial trial;
	(void)state;

	open_all(&plain);
	for (int i = 0; i < 20; i++) {
		snprintf(key, sizeof(key), "ok/shared/%d", i);
		put_text(&trial, key, "text");
		assert_int_equal(trial.req.status, 201);
	}
	log = read_log(&server);
	first = strstr(strstr(log, "/ok/shared/0"), "\"connection\"");
	snprintf(expected, sizeof(expected), "%.*s", (int)strcspn(first, ","), first);
	assert_int_equal(count_lines_with(log, expected), 20);
	free(log);
	close_all();
}

static void a_pulled_body_arrives_with_and_without_a_length(void **state)
{
	struct trial trial;
	struct pattern p;
	char *log;
	(void)state;

	open_all(&plain);
	trial_init(&trial, HTTP_PUT, "ok/known");
	pattern_init(&p, &trial, 3000000, 3000000);
	trial_run(&trial);
	assert_int_equal(trial.req.status, 201);
	assert_int_equal(trial.req.sent_bytes, 3000000);
	assert_pattern_stored("known", 3000000);
	trial_init(&trial, HTTP_PUT, "ok/chunked");
	pattern_init(&p, &trial, 3000000, HTTP_LENGTH_UNKNOWN);
	trial_run(&trial);
	assert_int_equal(trial.req.status, 201);
	assert_pattern_stored("chunked", 3000000);
	log = read_log(&server);
	assert_non_null(strstr(strstr(log, "/ok/chunked"), "\"transfer-encoding\": \"chunked\""));
	free(log);
	close_all();
}

static void a_body_that_grows_slower_than_the_stall_timeout_arrives(void **state)
{
	static const struct http_options hasty = { .stall_timeout_ms = 2000 };
	struct trial trial;
	struct pattern p;
	(void)state;

	open_all(&hasty);
	trial_init(&trial, HTTP_PUT, "ok/grown");
	pattern_init(&p, &trial, 300000, HTTP_LENGTH_UNKNOWN);
	pattern_grow(&p, 150000, 4000);
	trial_run(&trial);
	assert_int_equal(trial.req.status, 201);
	assert_pattern_stored("grown", 300000);
	timer_close(&p.timer, NULL);
	close_all();
}

static void a_body_that_fails_leaves_no_object(void **state)
{
	struct trial trial;
	struct pattern p;
	(void)state;

	open_all(&plain);
	for (int is_known = 0; is_known < 2; is_known++) {
		trial_init(&trial, HTTP_PUT, "ok/aborted");
		pattern_init(&p, &trial, 3000000, is_known ? 3000000 : HTTP_LENGTH_UNKNOWN);
		p.fail_at = 2000000;
		trial_run(&trial);
		assert_fault(&trial, ERROR_PERMANENT, "the NAR differs");
	}
	trial_init(&trial, HTTP_PUT, "ok/aborted");
	pattern_init(&p, &trial, 1000, 2000);
	trial_run(&trial);
	assert_fault(&trial, ERROR_TRANSIENT, "ended after 1000 of 2000");
	put_text(&trial, "ok/after", "x");
	assert_int_equal(trial.req.status, 201);
	assert_false(server_has(&server, "aborted"));
	close_all();
}

static void a_body_starts_anew_when_a_kept_connection_was_closed(void **state)
{
	struct trial trial;
	struct pattern p;
	(void)state;

	open_all(&plain);
	put_text(&trial, "close-once/first", "x");
	trial_init(&trial, HTTP_PUT, "close-once/second");
	pattern_init(&p, &trial, 100000, 100000);
	trial_run(&trial);
	assert_int_equal(trial.req.status, 201);
	assert_pattern_stored("second", 100000);
	close_all();
}

static void an_answer_is_capped(void **state)
{
	struct trial trial;
	(void)state;

	open_all(&plain);
	get(&trial, "long/x");
	assert_fault(&trial, ERROR_OPERATOR, "longer than 1048576 bytes");
	assert_int_equal(trial.req.answer.len, 1 << 20);
	buf_fini(&trial.req.answer);
	get(&trial, "error-long/x");
	assert_fault(&trial, ERROR_TRANSIENT, "HTTP 500 Internal Server Error: xxxx");
	assert_true(strlen(trial.req.err.text) < 300);
	buf_fini(&trial.req.answer);
	get(&trial, "cut/x");
	assert_fault(&trial, ERROR_TRANSIENT, "GET ");
	buf_fini(&trial.req.answer);
	close_all();
}

static void a_reset_connection_is_transient(void **state)
{
	struct trial trial;
	struct pattern p;
	(void)state;

	open_all(&plain);
	trial_init(&trial, HTTP_PUT, "reset/x");
	pattern_init(&p, &trial, 30000000, 30000000);
	trial_run(&trial);
	assert_fault(&trial, ERROR_TRANSIENT, "PUT ");
	assert_false(trial.req.is_server_fault);
	close_all();
}

static void a_head_must_be_whole_and_has_bounds(void **state)
{
	struct trial trial;
	(void)state;

	open_all(&plain);
	put_text(&trial, "cut-head/x", "text");
	assert_fault(&trial, ERROR_TRANSIENT, "/cut-head/x: the answer was cut off");
	trial_init(&trial, HTTP_HEAD, "cut-head/x");
	trial_run(&trial);
	assert_fault(&trial, ERROR_TRANSIENT, "the answer was cut off");
	buf_fini(&trial.req.answer);
	get(&trial, "long-head/x");
	assert_fault(&trial, ERROR_OPERATOR, "the head of the answer is too long");
	assert_int_equal(trial.req.answer.len, 0);
	buf_fini(&trial.req.answer);
	close_all();
}

static void a_body_to_head_spoils_no_more_than_one_answer(void **state)
{
	struct trial trial;
	int n_spoiled = 0;
	(void)state;

	open_all(&plain);
	for (int i = 0; i < 6; i++) {
		trial_init(&trial, HTTP_HEAD, "head-body/x");
		trial_run(&trial);
		assert_int_equal(trial.req.status, 404);
		buf_fini(&trial.req.answer);
		put_text(&trial, "head-body/y", "text");
		if (trial.req.err.kind == ERROR_NONE)
			continue;
		assert_fault(&trial, ERROR_TRANSIENT, "does not speak HTTP");
		assert_int_equal(n_spoiled++, 0);
	}
	close_all();
}

static void a_server_that_never_answers_is_given_up(void **state)
{
	static const struct http_options hasty = { .stall_timeout_ms = 1000 };
	struct trial trial;
	(void)state;

	open_all(&hasty);
	put_text(&trial, "stall/x", "text");
	assert_fault(&trial, ERROR_TRANSIENT, "PUT ");
	assert_false(trial.req.is_server_fault);
	assert_true(trial.req.err.is_overload);
	close_all();
}

/* Redirects and credentials */

static void a_read_follows_a_redirect_and_a_write_does_not(void **state)
{
	struct trial trial;
	(void)state;

	open_all(&plain);
	put_text(&trial, "ok/target", "text");
	get(&trial, "redirect/target");
	assert_int_equal(trial.req.status, 200);
	assert_string_equal(buf_text(&trial.req.answer), "text");
	buf_fini(&trial.req.answer);
	put_text(&trial, "redirect/target", "other");
	assert_fault(&trial, ERROR_OPERATOR,
	             "HTTP 301 Moved Permanently to /ok/target (writing follows no redirect");
	close_all();
}

static void a_token_is_sent_to_its_own_host_only(void **state)
{
	static const struct http_options with_token = { .token = "open-sesame" };
	struct test_server first;
	char other[64];
	const char *extra[] = { "--other", other, NULL };
	struct trial trial;
	char *log;
	(void)state;

	open_all(&plain);
	put_text(&trial, "token/x", "text");
	assert_fault(&trial, ERROR_OPERATOR, "401");
	close_all();
	open_all(&with_token);
	put_text(&trial, "token/moved", "text");
	assert_int_equal(trial.req.status, 201);

	snprintf(other, sizeof(other), "http://127.0.0.1:%u/ok/guest", server.port);
	cache_server_start(&first, extra);
	trial_init(&trial, HTTP_GET, "");
	snprintf(trial.url, sizeof(trial.url), "http://127.0.0.1:%u/elsewhere/moved", first.port);
	trial_run(&trial);
	log = read_log(&first);
	assert_int_equal(count_lines_with(log, "open-sesame"), 1);
	free(log);
	log = read_log(&server);
	assert_null(strstr(strstr(log, "/ok/guest/moved"), "open-sesame"));
	free(log);
	buf_fini(&trial.req.answer);
	test_server_stop(&first);
	close_all();
}

static void a_refusal_that_repeats_credentials_shows_none(void **state)
{
	static const struct http_options with_token = { .token = "open-sesame" };
	struct trial trial;
	char *log;
	(void)state;

	open_all(&with_token);
	get(&trial, "echo/open-sesame/open-sesame");
	assert_fault(&trial, ERROR_OPERATOR, "not known: Bearer ***********");
	assert_null(strstr(trial.req.err.text, "sesame"));
	assert_null(strstr(buf_text(&trial.req.answer), "sesame"));
	buf_fini(&trial.req.answer);
	log = read_log(&server);
	assert_non_null(strstr(log, "Bearer open-sesame")); /* it was sent */
	free(log);
	close_all();
	open_all(&plain);
	trial_init(&trial, HTTP_GET, "");
	snprintf(trial.url, sizeof(trial.url), "http://me:pw@127.0.0.1:%u/echo/x", server.port);
	trial_run(&trial);
	assert_fault(&trial, ERROR_OPERATOR, "not known: Basic ********");
	assert_null(strstr(trial.req.err.text, "bWU6cHc="));
	buf_fini(&trial.req.answer);
	close_all();
}

/* A server that repeats a header, asked at URL with SECRET: what stands in the text for what it repeated. */
static void assert_repeated(const char *url, const char *secret, const char *repeated, const char *shown)
{
	char line[128], words[128];
	const char *headers[] = { line };
	struct trial trial;

	snprintf(line, sizeof(line), "Authorization: %s", repeated);
	snprintf(words, sizeof(words), "not known: %s", shown);
	trial_init(&trial, HTTP_GET, "");
	snprintf(trial.url, sizeof(trial.url), "%s", url);
	trial.req.headers = headers;
	trial.req.n_headers = 1;
	trial.req.secret = secret;
	trial_run(&trial);
	assert_fault(&trial, ERROR_OPERATOR, words);
	assert_string_equal(strstr(trial.req.err.text, words) + strlen(words), "");
	assert_non_null(strstr(buf_text(&trial.req.answer), words));
	buf_fini(&trial.req.answer);
}

static void what_a_request_alone_shows_is_hidden_like_a_token(void **state)
{
	const char *extra[] = { "--other", "/echo/?X-Amz-Signature=0123456789abcdef", NULL };
	struct test_server other;
	char url[256];
	(void)state;

	open_all(&plain);
	snprintf(url, sizeof(url), "http://127.0.0.1:%u/echo/x?a&sig=0123%%2b456789%%2Fabc&n=plain#x",
	         server.port);
	assert_repeated(url, "open-sesame", "key open-sesame!", "key ***********!");
	assert_repeated(url, "***", "key ***", "key ***");
	assert_repeated(url, NULL, "0123%2b456789%2Fabc", "*******************");
	assert_repeated(url, NULL, "0123+456789/abc plain", "*************** plain");
	assert_repeated(url, NULL, "AWS4 Credential=x, Signature=0123abc, x",
	                "AWS4 Credential=x, Signature=*******, x");
	/* Who signs URLs sends others there. */
	cache_server_start(&other, extra);
	snprintf(url, sizeof(url), "http://127.0.0.1:%u/elsewhere/x", other.port);
	assert_repeated(url, NULL, "0123456789abcdef/x!", "******************!");
	test_server_stop(&other);
	close_all();
}

static void netrc_gives_credentials_and_must_exist(void **state)
{
	char path[96];
	struct http_options options = { .netrc_file = path };
	struct http_client *none;
	struct error err;
	struct trial trial;
	char *log;
	(void)state;

	snprintf(path, sizeof(path), "%s/netrc", server.dir);
	open_all(&plain);
	assert_int_equal(http_client_open(&none, http, &options, &err), -1);
	assert_int_equal(err.kind, ERROR_OPERATOR);
	assert_non_null(strstr(err.text, "netrc: No such file"));
	close_all();
	run_command("echo 'machine 127.0.0.1 login me password pw' > %s", path);
	open_all(&options);
	put_text(&trial, "ok/netrc", "x");
	log = read_log(&server);
	assert_non_null(strstr(strstr(log, "/ok/netrc"), "Basic bWU6cHc=")); /* me:pw */
	free(log);
	close_all();
}

/* Order, ceilings, ends */

static void more_requests_than_places_all_get_done(void **state)
{
	static const struct http_options narrow = { .max_requests = 3, .stall_timeout_ms = 20000 };
	static struct trial trials[100];
	char path[32];
	char *log;
	(void)state;

	open_all(&narrow);
	for (int i = 0; i < 100; i++) {
		snprintf(path, sizeof(path), "ok/narrow/%d", i);
		trial_init(&trials[i], HTTP_PUT, path);
		trials[i].req.data = path;
		trials[i].req.data_len = 5;
		trial_start(&trials[i]);
	}
	run();
	for (int i = 0; i < 100; i++)
		assert_int_equal(trials[i].req.status, 201);
	log = read_log(&server);
	assert_int_equal(count_lines_with(log, "/ok/narrow/"), 100);
	free(log);
	close_all();
}

static void a_canceled_request_is_done_once_in_any_state(void **state)
{
	static const struct http_options narrow = { .max_requests = 1 };
	struct trial running, waiting, after;
	struct pattern p;
	(void)state;

	open_all(&narrow);
	trial_init(&running, HTTP_PUT, "ok/canceled");
	pattern_init(&p, &running, 1000000, HTTP_LENGTH_UNKNOWN);
	p.ready = 500000; /* it will hang there */
	trial_init(&waiting, HTTP_GET, "ok/x");
	trial_init(&after, HTTP_GET, "ok/x");
	trial_start(&running);
	trial_start(&waiting);
	trial_start(&after);
	while (running.req.sent_bytes < 500000)
		uv_run(&loop.uv, UV_RUN_ONCE);
	http_cancel(&waiting.req);
	http_cancel(&running.req);
	http_cancel(&running.req);
	assert_int_equal(running.n_done + waiting.n_done, 0);
	run();
	assert_fault(&running, ERROR_CANCELED, "");
	assert_fault(&waiting, ERROR_CANCELED, "");
	assert_int_equal(after.req.status, 404);
	assert_int_equal(running.n_done + waiting.n_done, 2);
	http_cancel(&after.req);
	buf_fini(&after.req.answer);
	close_all();
	assert_false(server_has(&server, "canceled"));
}

static bool has_closed;

static void on_http_closed(void *ctx)
{
	has_closed = true;
	*(struct http **)ctx = NULL;
}

static void close_in_done(struct http_request *req)
{
	on_trial(req);
	buf_fini(&req->answer);
	http_client_close(client);
	http_close(http, on_http_closed, &http);
	assert_false(has_closed);
}

static void done_may_close_everything(void **state)
{
	struct trial trial;
	(void)state;

	has_closed = false;
	open_all(&plain);
	trial_init(&trial, HTTP_GET, "ok/x");
	n_pending = 2; /* no stop: the loop runs until all is closed */
	http_start(client, &trial.req, close_in_done);
	loop_run(&loop);
	assert_true(has_closed);
	assert_null(http);
	loop_fini(&loop);
}

static void the_rate_bounds_bodies_of_both_kinds(void **state)
{
	static const struct http_options slow = { .rate_bytes = 400000, .stall_timeout_ms = 20000 };
	static char text[100000];
	static struct trial trials[8];
	static struct pattern patterns[4];
	uint64_t begin_ms;
	char path[32];
	(void)state;

	open_all(&slow);
	begin_ms = clock_mono_ms();
	for (int i = 0; i < 8; i++) {
		snprintf(path, sizeof(path), "ok/slow/%d", i);
		trial_init(&trials[i], HTTP_PUT, path);
		if (i < 4) {
			pattern_init(&patterns[i], &trials[i], 100000, 100000);
		} else {
			trials[i].req.data = text;
			trials[i].req.data_len = sizeof(text);
		}
		trial_start(&trials[i]);
	}
	run();
	for (int i = 0; i < 8; i++)
		if (trials[i].req.status != 201)
			fail_msg("%d: %s", i, trials[i].req.err.text);
	assert_true(clock_mono_ms() - begin_ms >= 1400); /* 800,000 bytes, the last on credit */
	close_all();
}

static unsigned n_watches; /* 0: none fails */
static unsigned n_not_made, n_not_begun;
int __real_uv_poll_init(uv_loop_t *uv, uv_poll_t *poll, int fd);
int __wrap_uv_poll_init(uv_loop_t *uv, uv_poll_t *poll, int fd);
int __real_uv_poll_start(uv_poll_t *poll, int events, uv_poll_cb done);
int __wrap_uv_poll_start(uv_poll_t *poll, int events, uv_poll_cb done);

int __wrap_uv_poll_init(uv_loop_t *uv, uv_poll_t *poll, int fd)
{
	if (n_watches == 0 || n_watches++ % 2 == 0)
		return __real_uv_poll_init(uv, poll, fd);
	n_not_made++;
	return UV_ENOMEM;
}

int __wrap_uv_poll_start(uv_poll_t *poll, int events, uv_poll_cb done)
{
	if (n_watches == 0 || n_watches++ % 4 != 1)
		return __real_uv_poll_start(poll, events, done);
	n_not_begun++;
	return UV_ENOMEM;
}

static void what_cannot_be_watched_ends_and_takes_none_with_it(void **state)
{
	static const struct http_options quick = { .max_requests = 4, .stall_timeout_ms = 500 };
	static struct trial trials[16];
	unsigned n_good = 0;
	char path[32];
	(void)state;

	open_all(&quick);
	n_watches = 1;
	for (int i = 0; i < 16; i++) {
		snprintf(path, sizeof(path), "ok/unwatched/%d", i);
		trial_init(&trials[i], HTTP_PUT, path);
		trials[i].req.data = path;
		trials[i].req.data_len = 5;
		trial_start(&trials[i]);
	}
	run();
	n_watches = 0;
	assert_true(n_not_made > 0 && n_not_begun > 0);
	for (int i = 0; i < 16; i++) {
		assert_int_equal(trials[i].n_done, 1);
		n_good += trials[i].req.status == 201;
	}
	assert_true(n_good > 0);
	put_text(&trials[0], "ok/watched", "text");
	assert_int_equal(trials[0].req.status, 201);
	close_all();
}

/* TLS */

static void get_tls(struct trial *trial, unsigned port, const struct http_options *options)
{
	open_all(options);
	trial_init(trial, HTTP_GET, "");
	snprintf(trial->url, sizeof(trial->url), "https://127.0.0.1:%u/ok/none", port);
	trial_run(trial);
	buf_fini(&trial->req.answer);
	close_all();
}

static void a_certificate_of_another_ca_needs_an_operator(void **state)
{
	char ca[96], other[96], cert[96], client_cert[96];
	const char *extra[] = { "--cert", cert, "--client-ca", ca, NULL };
	struct test_server tls;
	struct trial trial;
	(void)state;

	snprintf(ca, sizeof(ca), "%s/ca.pem", certs);
	snprintf(other, sizeof(other), "%s/other-ca.pem", certs);
	snprintf(cert, sizeof(cert), "%s/server.pem", certs);
	snprintf(client_cert, sizeof(client_cert), "%s/client.pem", certs);
	cache_server_start(&tls, extra);
	get_tls(&trial, tls.port, &(struct http_options){ .ca_file = other });
	assert_fault(&trial, ERROR_OPERATOR, "certificate");
	assert_true(trial.req.is_server_fault);
	get_tls(&trial, tls.port, &(struct http_options){ .ca_file = ca });
	assert_fault(&trial, ERROR_TRANSIENT, "GET https://"); /* an alert, or just a reset */
	setenv("NIX_SSL_CERT_FILE", ca, 1);
	get_tls(&trial, tls.port,
	        &(struct http_options){ .client_cert_file = client_cert, .client_key_file = client_cert });
	unsetenv("NIX_SSL_CERT_FILE");
	assert_fault(&trial, ERROR_PERMANENT, "404");
	test_server_stop(&tls);
}

static void http2_carries_many_growing_bodies_on_one_connection(void **state)
{
	char ca[96], cert[96], path[64];
	struct http_options options = { .ca_file = ca, .stall_timeout_ms = 20000 };
	static struct trial trials[30];
	static struct pattern patterns[30], broken;
	struct test_server before = server;
	char *log, *first;
	(void)state;

	snprintf(ca, sizeof(ca), "%s/ca.pem", certs);
	snprintf(cert, sizeof(cert), "%s/server.pem", certs);
	if (!nginx_start(&server, cert)) {
		server = before;
		print_message("skipped: no nginx\n");
		skip();
	}
	open_all(&options);
	for (int i = 0; i < 30; i++) {
		trial_init(&trials[i], HTTP_PUT, "");
		snprintf(trials[i].url, sizeof(trials[i].url), "https://127.0.0.1:%u/nar/%d", server.port, i);
		pattern_init(&patterns[i], &trials[i], 2000000, i % 3 == 0 ? 2000000 : HTTP_LENGTH_UNKNOWN);
		if (i % 2 == 0)
			pattern_grow(&patterns[i], 300000, (uint64_t)(10 + i));
		trial_start(&trials[i]);
	}
	run();
	for (int i = 0; i < 30; i++) {
		if (i % 2 == 0)
			timer_close(&patterns[i].timer, NULL);
		buf_fini(&trials[i].req.answer);
		if (trials[i].req.status != 201)
			fail_msg("%s", trials[i].req.err.text);
		snprintf(path, sizeof(path), "nar/%d", i);
		assert_pattern_stored(path, 2000000);
	}
	trial_init(&trials[0], HTTP_PUT, "");
	snprintf(trials[0].url, sizeof(trials[0].url), "https://127.0.0.1:%u/nar/aborted", server.port);
	pattern_init(&broken, &trials[0], 2000000, HTTP_LENGTH_UNKNOWN);
	broken.fail_at = 1500000;
	trial_run(&trials[0]);
	assert_fault(&trials[0], ERROR_PERMANENT, "the NAR differs");
	close_all();
	log = read_log(&server);
	first = strstr(log, " 201 HTTP/2.0 ");
	assert_non_null(first);
	snprintf(path, sizeof(path), "%.*s", (int)strcspn(first, "\n") + 1, first); /* with its connection */
	assert_int_equal(count_lines_with(log, path), 30);
	free(log);
	assert_false(server_has(&server, "nar/aborted"));
	test_server_stop(&server);
	server = before;
}

static int start_server(void **state)
{
	(void)state;
	cache_server_start(&server, NULL);
	scratch_make(certs);
	certificates_make(certs);
	return 0;
}

static int stop_server(void **state)
{
	(void)state;
	test_server_stop(&server);
	scratch_remove(certs);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_status_has_the_kind_that_the_design_gives_it),
		cmocka_unit_test(a_url_in_a_text_has_no_credentials),
		cmocka_unit_test(a_key_is_joined_to_any_prefix),
		cmocka_unit_test(a_fault_names_request_status_and_first_line),
		cmocka_unit_test(nobody_there_is_the_servers_fault),
		cmocka_unit_test(a_small_body_goes_at_once_and_comes_back),
		cmocka_unit_test(requests_one_after_the_other_share_a_connection),
		cmocka_unit_test(a_pulled_body_arrives_with_and_without_a_length),
		cmocka_unit_test(a_body_that_grows_slower_than_the_stall_timeout_arrives),
		cmocka_unit_test(a_body_that_fails_leaves_no_object),
		cmocka_unit_test(a_body_starts_anew_when_a_kept_connection_was_closed),
		cmocka_unit_test(an_answer_is_capped),
		cmocka_unit_test(a_reset_connection_is_transient),
		cmocka_unit_test(a_head_must_be_whole_and_has_bounds),
		cmocka_unit_test(a_body_to_head_spoils_no_more_than_one_answer),
		cmocka_unit_test(a_server_that_never_answers_is_given_up),
		cmocka_unit_test(a_read_follows_a_redirect_and_a_write_does_not),
		cmocka_unit_test(a_token_is_sent_to_its_own_host_only),
		cmocka_unit_test(a_refusal_that_repeats_credentials_shows_none),
		cmocka_unit_test(what_a_request_alone_shows_is_hidden_like_a_token),
		cmocka_unit_test(netrc_gives_credentials_and_must_exist),
		cmocka_unit_test(more_requests_than_places_all_get_done),
		cmocka_unit_test(a_canceled_request_is_done_once_in_any_state),
		cmocka_unit_test(done_may_close_everything),
		cmocka_unit_test(the_rate_bounds_bodies_of_both_kinds),
		cmocka_unit_test(what_cannot_be_watched_ends_and_takes_none_with_it),
		cmocka_unit_test(a_certificate_of_another_ca_needs_an_operator),
		cmocka_unit_test(http2_carries_many_growing_bodies_on_one_connection),
	};

	for (const char *const *name =
	             (const char *const[]){ "http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY",
	                                    "ALL_PROXY", "SSL_CERT_FILE", NULL };
	     *name != NULL; name++)
		unsetenv(*name);
	return cmocka_run_group_tests(tests, start_server, stop_server);
}
