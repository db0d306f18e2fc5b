/* worker: what five real daemons said is understood; what no daemon should say is refused. */
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "daemon/format/hash.h"
#include "daemon/store/texts.h"
#include "daemon/store/worker.h"
#include "tests/unit/test.h"

#define STORE "/nix/store"
#define GONE  "/nix/store/00000000000000000000000000000000-gone"

static const char *const versions[] = { "2.8.0", "2.18.9", "2.26.3", "2.34.8", "2.35.2" };

/* --- A recorded daemon: the bytes it said, and those that the client must say. --- */

struct replay {
	struct buf server;
	struct buf client;
	size_t n_read, n_written;
	size_t chunk; /* a read gives at most so many bytes */
	bool any_request;
	bool is_closed;
};

static ssize_t replay_read(void *ctx, void *data, size_t size, struct error *err)
{
	struct replay *replay = ctx;
	size_t n = replay->server.len - replay->n_read;
	(void)err;

	n = n < size ? n : size;
	n = n < replay->chunk ? n : replay->chunk;
	if (n > 0)
		memcpy(data, replay->server.data + replay->n_read, n);
	replay->n_read += n;
	return (ssize_t)n;
}

static int replay_write(void *ctx, const void *data, size_t n_bytes, struct error *err)
{
	struct replay *replay = ctx;
	(void)err;

	if (!replay->any_request) {
		assert_true(replay->n_written + n_bytes <= replay->client.len);
		assert_memory_equal(replay->client.data + replay->n_written, data, n_bytes);
	}
	replay->n_written += n_bytes;
	return 0;
}

static void replay_close(void *ctx)
{
	((struct replay *)ctx)->is_closed = true;
}

static const struct worker_io replay_io = { replay_read, replay_write, replay_close };

static void replay_init(struct replay *replay, size_t chunk)
{
	*replay = (struct replay){ .chunk = chunk };
	buf_init(&replay->server, MIB(16));
	buf_init(&replay->client, MIB(16));
}

static void replay_fini(struct replay *replay)
{
	buf_fini(&replay->server);
	buf_fini(&replay->client);
}

static bool append_file(struct buf *buf, const char *version, const char *name, const char *end)
{
	char path[512], *data;
	size_t len;
	struct error err;

	snprintf(path, sizeof(path), FIXTURES "/worker-protocol/%s/%s.%s.bin", version, name, end);
	if (read_file(path, MIB(1), &data, &len, &err) < 0)
		return false;
	buf_append(buf, data, len);
	free(data);
	return true;
}

static void replay_add(struct replay *replay, const char *version, const char *name)
{
	assert_true(append_file(&replay->server, version, name, "server"));
	assert_true(append_file(&replay->client, version, name, "client"));
}

static void replay_start(struct replay *replay, const char *version, size_t chunk)
{
	replay_init(replay, chunk);
	replay_add(replay, version, "handshake");
	replay_add(replay, version, "set-options");
}

static struct worker *open_replay(struct replay *replay)
{
	struct worker *worker = NULL;
	struct error err;

	if (worker_open_io(&worker, &replay_io, replay, STORE, &err) < 0)
		fail_msg("%s", err.text);
	return worker;
}

static void finish_replay(struct worker *worker, struct replay *replay)
{
	assert_true(worker_is_reusable(worker));
	worker_close(worker);
	assert_true(replay->is_closed);
	assert_int_equal(replay->n_read, replay->server.len);
	if (!replay->any_request)
		assert_int_equal(replay->n_written, replay->client.len);
	replay_fini(replay);
}

/* --- What is expected. --- */

static json_t *load_expected(const char *version)
{
	char path[512];
	json_t *json;

	snprintf(path, sizeof(path), FIXTURES "/worker-protocol/%s/expected.json", version);
	json = json_load_file(path, 0, NULL);
	assert_non_null(json);
	return json;
}

static const char *path_named(json_t *expected, const char *name)
{
	return json_string_value(json_object_get(json_object_get(expected, "paths"), name));
}

static json_t *result_of(json_t *expected, const char *op)
{
	json_t *result = json_object_get(json_object_get(json_object_get(expected, "ops"), op), "result");

	assert_non_null(result);
	return result;
}

static void check_texts(char *const *texts, size_t n, json_t *expected)
{
	assert_int_equal(n, json_array_size(expected));
	for (size_t i = 0; i < n; i++)
		assert_string_equal(texts[i], json_string_value(json_array_get(expected, i)));
}

static void check_optional(const char *text, json_t *expected)
{
	const char *wanted = json_string_value(expected);

	if (wanted[0] == '\0')
		assert_null(text);
	else
		assert_string_equal(text, wanted);
}

static void check_info(const struct path_info *info, const char *path, json_t *expected)
{
	char hex[SHA256_HEX_SIZE];

	assert_string_equal(info->path, path);
	assert_string_equal(hash_format_hex(info->nar_hash, SHA256_BYTES, hex),
	                    json_string_value(json_object_get(expected, "narHash")));
	check_optional(info->deriver, json_object_get(expected, "deriver"));
	check_optional(info->ca, json_object_get(expected, "ca"));
	check_texts(info->references, info->n_references, json_object_get(expected, "references"));
	check_texts(info->sigs, info->n_sigs, json_object_get(expected, "sigs"));
	assert_int_equal(info->nar_size, json_integer_value(json_object_get(expected, "narSize")));
	assert_int_equal(info->ultimate, json_integer_value(json_object_get(expected, "ultimate")));
	assert_int_equal(info->registered_unix_s,
	                 json_integer_value(json_object_get(expected, "registrationTime")));
}

static void expect_info(struct worker *worker, json_t *expected, const char *op, const char *name)
{
	struct path_info info = { 0 };
	struct error err;

	if (worker_query_path_info(worker, path_named(expected, name), &info, &err) < 0)
		fail_msg("%s: %s", op, err.text);
	if (json_is_null(result_of(expected, op)))
		assert_null(info.path);
	else
		check_info(&info, path_named(expected, name), result_of(expected, op));
	path_info_fini(&info);
}

static void expect_valid(struct worker *worker, json_t *expected, const char *name, bool wanted)
{
	struct error err;
	bool is_valid = !wanted;

	assert_int_equal(worker_is_valid_path(worker, path_named(expected, name), &is_valid, &err), 0);
	assert_int_equal(is_valid, wanted);
}

static void expect_outputs(struct worker *worker, json_t *expected)
{
	json_t *wanted = result_of(expected, "query-derivation-output-map");
	struct error err;
	char **list;
	size_t n;

	assert_int_equal(worker_query_outputs(worker, path_named(expected, "drv"), &list, &n, &err), 0);
	assert_int_equal(n, 2);
	assert_string_equal(list[0], json_string_value(json_object_get(wanted, "dev")));
	assert_string_equal(list[1], json_string_value(json_object_get(wanted, "out")));
	texts_free(list, n);
}

static void expect_valid_paths(struct worker *worker, json_t *expected, const char *op, size_t n_asked)
{
	char paths[3][256], *asked[3];
	struct error err;
	char **list;
	size_t n;

	snprintf(paths[0], sizeof(paths[0]), "%s", path_named(expected, "out"));
	snprintf(paths[1], sizeof(paths[1]), "%s", GONE);
	snprintf(paths[2], sizeof(paths[2]), "%s", path_named(expected, "dev"));
	for (size_t i = 0; i < 3; i++)
		asked[i] = paths[i];
	assert_int_equal(worker_query_valid_paths(worker, asked, n_asked, &list, &n, &err), 0);
	check_texts(list, n, result_of(expected, op));
	texts_free(list, n);
}

/* --- Recorded conversations. --- */

static void talk_to_recording(const char *version, size_t chunk)
{
	json_t *expected = load_expected(version);
	json_t *hello = result_of(expected, "handshake");
	struct replay replay;
	struct worker *worker;
	unsigned minor;

	replay_start(&replay, version, chunk);
	replay_add(&replay, version, "is-valid-path");
	replay_add(&replay, version, "is-valid-path-gone");
	replay_add(&replay, version, "query-path-info-out");
	replay_add(&replay, version, "query-path-info-dev");
	replay_add(&replay, version, "query-path-info-dep");
	replay_add(&replay, version, "query-path-info-drv");
	replay_add(&replay, version, "query-path-info-source");
	replay_add(&replay, version, "query-path-info-text");
	replay_add(&replay, version, "query-path-info-gone");
	replay_add(&replay, version, "query-derivation-output-map");
	replay_add(&replay, version, "query-valid-paths");
	replay_add(&replay, version, "query-valid-paths-none");
	worker = open_replay(&replay);
	assert_string_equal(worker_nix_version(worker), version);
	assert_int_equal(sscanf(json_string_value(json_object_get(hello, "negotiated")), "1.%u", &minor), 1);
	assert_int_equal(worker_minor(worker), minor);
	expect_valid(worker, expected, "out", true);
	expect_valid(worker, expected, "gone", false);
	expect_info(worker, expected, "query-path-info-out", "out");
	expect_info(worker, expected, "query-path-info-dev", "dev");
	expect_info(worker, expected, "query-path-info-dep", "dep");
	expect_info(worker, expected, "query-path-info-drv", "drv");
	expect_info(worker, expected, "query-path-info-source", "file");
	expect_info(worker, expected, "query-path-info-text", "src");
	expect_info(worker, expected, "query-path-info-gone", "gone");
	expect_outputs(worker, expected);
	expect_valid_paths(worker, expected, "query-valid-paths", 3);
	expect_valid_paths(worker, expected, "query-valid-paths-none", 0);
	finish_replay(worker, &replay);
	json_decref(expected);
}

static void five_daemons_are_understood_however_the_bytes_arrive(void **state)
{
	static const size_t chunks[] = { 1, 7, 8, 100000 };
	(void)state;

	for (size_t v = 0; v < N_ELEMENTS(versions); v++)
		for (size_t i = 0; i < N_ELEMENTS(chunks); i++)
			talk_to_recording(versions[v], chunks[i]);
}

static void log_lines_and_activities_are_skipped(void **state)
{
	(void)state;
	for (size_t v = 0; v < N_ELEMENTS(versions); v++) {
		json_t *expected = load_expected(versions[v]);
		struct replay replay;
		struct worker *worker;

		replay_init(&replay, 5);
		replay.any_request = true;
		append_file(&replay.server, versions[v], "handshake", "server");
		append_file(&replay.server, versions[v], "set-options-info", "server");
		append_file(&replay.server, versions[v], "is-valid-path-verbose", "server");
		append_file(&replay.server, versions[v], "query-path-info-verbose", "server");
		append_file(&replay.server, versions[v], "query-valid-paths-substitute", "server");
		worker = open_replay(&replay);
		expect_valid(worker, expected, "out", true);
		expect_info(worker, expected, "query-path-info-verbose", "out");
		expect_valid_paths(worker, expected, "query-valid-paths-substitute", 2);
		finish_replay(worker, &replay);
		json_decref(expected);
	}
}

static void every_kind_of_message_is_skipped(void **state)
{
	struct replay replay;
	struct worker *worker;
	struct error err;
	bool is_valid = false;
	(void)state;

	replay_start(&replay, "2.35.2", 3);
	replay.any_request = true;
	wire_put_u64(&replay.server, 0x6f6c6d67); /* NEXT */
	wire_put_text(&replay.server, "a line\n");
	wire_put_u64(&replay.server, 0x64617416); /* WRITE */
	wire_put_text(&replay.server, "data");
	wire_put_u64(&replay.server, 0x53545254); /* START_ACTIVITY */
	for (uint64_t i = 1; i <= 3; i++)
		wire_put_u64(&replay.server, i);
	wire_put_text(&replay.server, "copying");
	wire_put_u64(&replay.server, 2);
	wire_put_u64(&replay.server, 0);
	wire_put_u64(&replay.server, 77);
	wire_put_u64(&replay.server, 1);
	wire_put_text(&replay.server, "field");
	wire_put_u64(&replay.server, 0);
	wire_put_u64(&replay.server, 0x52534c54); /* RESULT */
	wire_put_u64(&replay.server, 1);
	wire_put_u64(&replay.server, 101);
	wire_put_u64(&replay.server, 1);
	wire_put_u64(&replay.server, 1);
	wire_put_text(&replay.server, "a build's line");
	wire_put_u64(&replay.server, 0x53544f50); /* STOP_ACTIVITY */
	wire_put_u64(&replay.server, 1);
	wire_put_u64(&replay.server, 0x616c7473); /* LAST */
	wire_put_u64(&replay.server, 1);
	worker = open_replay(&replay);
	assert_int_equal(worker_is_valid_path(worker, GONE, &is_valid, &err), 0);
	assert_true(is_valid);
	finish_replay(worker, &replay);
}

static void a_user_who_is_not_trusted_is_served_the_same(void **state)
{
	(void)state;
	for (size_t v = 0; v < N_ELEMENTS(versions); v++) {
		json_t *expected = load_expected(versions[v]);
		struct replay replay;
		struct worker *worker;
		struct error err;

		replay_init(&replay, 100000);
		replay_add(&replay, versions[v], "untrusted-handshake");
		replay_add(&replay, versions[v], "set-options");
		replay_add(&replay, versions[v], "untrusted-query-path-info-out");
		append_file(&replay.server, versions[v], "untrusted-add-indirect-root", "server");
		wire_put_u64(&replay.client, 12);
		wire_put_text(&replay.client, "/var/lib/roots/x");
		worker = open_replay(&replay);
		expect_info(worker, expected, "untrusted-query-path-info-out", "out");
		assert_int_equal(worker_add_indirect_root(worker, "/var/lib/roots/x", &err), 0);
		finish_replay(worker, &replay);
		json_decref(expected);
	}
}

static enum worker_trust ask_trust(struct replay *replay)
{
	struct worker *worker = open_replay(replay);
	enum worker_trust trust = WORKER_TRUST_UNKNOWN;
	struct error err;

	if (worker_query_trust(worker, &trust, &err) < 0)
		fail_msg("%s", err.text);
	worker_close(worker);
	assert_int_equal(replay->n_read, replay->server.len);
	assert_int_equal(replay->n_written, replay->client.len);
	replay_fini(replay);
	return trust;
}

static void a_daemon_that_tells_whom_it_trusts_is_not_asked(void **state)
{
	(void)state;
	for (size_t v = 1; v < N_ELEMENTS(versions); v++) {
		struct replay replay;

		replay_start(&replay, versions[v], 100000);
		assert_int_equal(ask_trust(&replay), WORKER_TRUSTED);
		replay_init(&replay, 100000);
		replay_add(&replay, versions[v], "untrusted-handshake");
		replay_add(&replay, versions[v], "set-options");
		assert_int_equal(ask_trust(&replay), WORKER_NOT_TRUSTED);
	}
}

static void put_repair(struct buf *client)
{
	wire_put_u64(client, 9); /* BuildPaths */
	wire_put_u64(client, 0);
	wire_put_u64(client, 1);
}

static void put_refusal(struct buf *server, const char *text)
{
	wire_put_u64(server, 0x63787470);
	wire_put_text(server, "Error");
	wire_put_u64(server, 0);
	wire_put_text(server, "Error");
	wire_put_text(server, text);
	wire_put_u64(server, 0); /* no position */
	wire_put_u64(server, 0); /* no traces */
}

static void an_old_daemon_is_asked_to_repair_nothing(void **state)
{
	enum worker_trust trust = WORKER_TRUST_UNKNOWN;
	struct worker *worker;
	struct replay replay;
	struct error err;
	(void)state;

	replay_start(&replay, "2.8.0", 100000);
	put_repair(&replay.client);
	wire_put_u64(&replay.server, 0x616c7473);
	wire_put_u64(&replay.server, 1);
	assert_int_equal(ask_trust(&replay), WORKER_TRUSTED);

	replay_start(&replay, "2.8.0", 100000);
	put_repair(&replay.client);
	put_refusal(&replay.server, "repairing is not allowed because you are not in 'trusted-users'");
	assert_int_equal(ask_trust(&replay), WORKER_NOT_TRUSTED);

	replay_start(&replay, "2.8.0", 100000);
	put_repair(&replay.client);
	put_refusal(&replay.server, "the disk is full");
	worker = open_replay(&replay);
	assert_int_equal(worker_query_trust(worker, &trust, &err), -1);
	assert_non_null(strstr(err.text, "the disk is full"));
	worker_close(worker);
	replay_fini(&replay);
}

static void a_connection_with_a_temporary_root_is_not_kept(void **state)
{
	(void)state;
	for (size_t v = 0; v < N_ELEMENTS(versions); v++) {
		json_t *expected = load_expected(versions[v]);
		struct replay replay;
		struct worker *worker;
		struct error err;

		replay_start(&replay, versions[v], 100000);
		replay_add(&replay, versions[v], "add-temp-root");
		replay_add(&replay, versions[v], "add-temp-root-gone");
		worker = open_replay(&replay);
		assert_true(worker_is_reusable(worker));
		assert_int_equal(worker_add_temp_root(worker, path_named(expected, "out"), &err), 0);
		assert_int_equal(worker_add_temp_root(worker, GONE, &err), 0);
		assert_false(worker_is_reusable(worker));
		worker_close(worker);
		assert_int_equal(replay.n_read, replay.server.len);
		replay_fini(&replay);
		json_decref(expected);
	}
}

/* --- Every version that can be agreed on. --- */

static void put_hello(struct buf *server, uint64_t version, const char *feature)
{
	uint64_t minor = version & 0xff;

	minor = minor < 38 ? minor : 38;
	wire_put_u64(server, 0x6478696f);
	wire_put_u64(server, version);
	if (minor >= 38) {
		wire_put_u64(server, feature != NULL);
		if (feature != NULL)
			wire_put_text(server, feature);
	}
	if (minor >= 33)
		wire_put_text(server, "2.99");
	if (minor >= 35)
		wire_put_u64(server, 2);
	wire_put_u64(server, 0x616c7473);
}

static void put_our_hello(struct buf *client, uint64_t version)
{
	wire_put_u64(client, 0x6e697863);
	wire_put_u64(client, 0x126);
	for (int i = version >= 0x126 ? 3 : 2; i > 0; i--)
		wire_put_u64(client, 0);
}

static void start_with_version(struct replay *replay, uint64_t version)
{
	replay_init(replay, 9);
	put_hello(&replay->server, version, NULL);
	put_our_hello(&replay->client, version);
	replay_add(replay, "2.8.0", "set-options");
}

static void every_version_from_1_21_up_is_spoken(void **state)
{
	json_t *expected = load_expected("2.8.0");
	(void)state;

	for (uint64_t minor = 21; minor <= 99; minor++) {
		struct replay replay;
		struct worker *worker;

		start_with_version(&replay, 0x100 + minor);
		replay_add(&replay, "2.8.0",
		           minor < 34 ? "old21-query-path-info-out" : "c34-query-path-info-out");
		replay_add(&replay, "2.8.0",
		           minor < 27 ? "old21-query-valid-paths" : "c34-query-valid-paths");
		if (minor >= 22)
			replay_add(&replay, "2.8.0", "c34-query-derivation-output-map");
		worker = open_replay(&replay);
		assert_int_equal(worker_minor(worker), minor < 38 ? minor : 38);
		assert_string_equal(worker_nix_version(worker), minor < 33 ? "" : "2.99");
		expect_info(worker, expected, "c34-query-path-info-out", "out");
		if (minor < 27)
			expect_valid_paths(worker, expected, "old21-query-valid-paths", 2);
		else
			expect_valid_paths(worker, expected, "c34-query-valid-paths", 3);
		if (minor >= 22)
			expect_outputs(worker, expected);
		finish_replay(worker, &replay);
	}
	json_decref(expected);
}

static void outputs_are_not_asked_of_a_daemon_that_has_no_such_operation(void **state)
{
	struct replay replay;
	struct worker *worker;
	struct error err;
	char **list;
	size_t n;
	(void)state;

	start_with_version(&replay, 0x115);
	worker = open_replay(&replay);
	assert_int_equal(worker_query_outputs(worker, GONE ".drv", &list, &n, &err), -1);
	assert_non_null(strstr(err.text, "too old"));
	finish_replay(worker, &replay);
}

static void expect_refused(struct replay *replay, const char *why)
{
	struct worker *worker = NULL;
	struct error err;

	replay->any_request = true;
	assert_int_equal(worker_open_io(&worker, &replay_io, replay, STORE, &err), -1);
	assert_null(worker);
	assert_true(replay->is_closed);
	assert_int_equal(err.kind, ERROR_TRANSIENT);
	if (strstr(err.text, why) == NULL)
		fail_msg("not '%s' but '%s'", why, err.text);
	replay_fini(replay);
}

static void other_versions_and_other_servers_are_refused(void **state)
{
	static const uint64_t bad[] = { 0x114, 0x10a, 0x200, 0x222, 0x26, UINT64_MAX, UINT64_C(0x100000126) };
	struct replay replay;
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
		replay_init(&replay, 9);
		put_hello(&replay.server, bad[i], NULL);
		expect_refused(&replay, "it speaks protocol");
	}
	replay_init(&replay, 9);
	buf_puts(&replay.server, "HTTP/1.1 400 Bad Request\r\n\r\n");
	expect_refused(&replay, "no nix-daemon");
	replay_init(&replay, 9);
	expect_refused(&replay, "ended");
}

static void options_are_not_sent_where_they_are_not_wanted(void **state)
{
	struct replay replay;
	struct worker *worker;
	(void)state;

	replay_init(&replay, 9);
	put_hello(&replay.server, 0x126, "disable-set-options");
	put_our_hello(&replay.client, 0x126);
	worker = open_replay(&replay);
	finish_replay(worker, &replay);
}

/* --- Errors. --- */

static void expect_error(struct worker *worker, struct replay *replay, const struct error *err,
                         const char *text)
{
	assert_int_equal(err->kind, ERROR_TRANSIENT);
	assert_null(strchr(err->text, '\033'));
	assert_null(strchr(err->text, '\n'));
	if (strstr(err->text, text) == NULL)
		fail_msg("not '%s' but '%s'", text, err->text);
	assert_false(worker_is_reusable(worker));
	worker_close(worker);
	replay_fini(replay);
}

static void an_error_is_told_without_its_colours(void **state)
{
	struct path_info info = { 0 };
	struct error err;
	char **list;
	size_t n;
	(void)state;

	for (size_t v = 0; v < N_ELEMENTS(versions); v++) {
		struct replay replay;
		struct worker *worker;

		replay_start(&replay, versions[v], 11);
		replay_add(&replay, versions[v], "query-derivation-output-map-gone");
		worker = open_replay(&replay);
		assert_int_equal(worker_query_outputs(worker, GONE ".drv", &list, &n, &err), -1);
		assert_int_equal(worker_query_path_info(worker, GONE, &info, &err), -1);
		expect_error(worker, &replay, &err, "-gone.drv' is not valid");
	}
	for (uint64_t minor = 22; minor <= 25; minor++) {
		struct replay replay;
		struct worker *worker;

		start_with_version(&replay, 0x100 + minor);
		replay_add(&replay, "2.8.0", "old21-error");
		worker = open_replay(&replay);
		assert_int_equal(worker_query_outputs(worker, GONE ".drv", &list, &n, &err), -1);
		assert_int_equal(replay.n_read, replay.server.len);
		expect_error(worker, &replay, &err, "it says: error: path '" GONE ".drv' is not valid");
	}
}

static void a_daemon_that_refuses_a_request_and_closes_is_an_error(void **state)
{
	static const char *const names[] = { "not-in-store", "empty",   "relative",   "short-hash",
		                             "hash-chars",   "no-name", "name-chars", "subpath" };
	struct path_info info = { 0 };
	struct error err;
	char op[64];
	(void)state;

	for (size_t v = 0; v < N_ELEMENTS(versions); v++) {
		for (size_t i = 0; i < N_ELEMENTS(names); i++) {
			struct replay replay;
			struct worker *worker;

			replay_start(&replay, versions[v], 11);
			replay.any_request = true;
			snprintf(op, sizeof(op), "bad-path-%s", names[i]);
			replay_add(&replay, versions[v], op);
			worker = open_replay(&replay);
			assert_int_equal(worker_query_path_info(worker, GONE, &info, &err), -1);
			assert_null(info.path);
			expect_error(worker, &replay, &err, GONE);
		}
	}
}

static void an_error_of_several_lines_and_traces_becomes_one_line(void **state)
{
	struct replay replay;
	struct worker *worker;
	struct error err;
	bool is_valid;
	char *text = malloc(5000);
	(void)state;

	memset(text, 'y', 5000);
	text[4999] = '\0';
	replay_start(&replay, "2.35.2", 8);
	replay.any_request = true;
	wire_put_u64(&replay.server, 0x63787470);
	wire_put_text(&replay.server, "Error");
	wire_put_u64(&replay.server, 0);
	wire_put_text(&replay.server, "Error");
	wire_put_text(&replay.server, "one\n\ttwo\033[1;31mred\033[0m\n");
	wire_put_u64(&replay.server, 0);
	wire_put_u64(&replay.server, 2);
	for (int i = 0; i < 2; i++) {
		wire_put_u64(&replay.server, 0);
		wire_put_text(&replay.server, text);
	}
	free(text);
	worker = open_replay(&replay);
	assert_int_equal(worker_is_valid_path(worker, GONE, &is_valid, &err), -1);
	assert_int_equal(replay.n_read, replay.server.len);
	expect_error(worker, &replay, &err, "it says: one  twored");
}

/* --- Bytes that no daemon sends. --- */

/* A whole conversation with SERVER's bytes; returns 0 when all was understood. */
static int converse(const char *server, size_t len)
{
	struct replay replay;
	struct worker *worker = NULL;
	struct path_info info = { 0 };
	struct error err;
	char **list;
	size_t n;
	int rc;

	replay_init(&replay, 100000);
	replay.any_request = true;
	buf_append(&replay.server, server, len);
	rc = worker_open_io(&worker, &replay_io, &replay, STORE, &err);
	if (rc == 0)
		rc = worker_query_path_info(worker, GONE, &info, &err);
	path_info_fini(&info);
	if (rc == 0) {
		rc = worker_query_outputs(worker, GONE ".drv", &list, &n, &err);
		if (rc == 0)
			texts_free(list, n);
	}
	if (rc < 0)
		assert_int_equal(err.kind, ERROR_TRANSIENT);
	worker_close(worker);
	replay_fini(&replay);
	return rc;
}

static void record(struct buf *server)
{
	buf_init(server, MIB(1));
	append_file(server, "2.35.2", "handshake", "server");
	append_file(server, "2.26.3", "set-options-info", "server");
	append_file(server, "2.26.3", "query-path-info-verbose", "server");
	append_file(server, "2.35.2", "query-derivation-output-map", "server");
}

static void a_reply_cut_at_any_byte_is_an_error(void **state)
{
	struct buf server;
	(void)state;

	record(&server);
	assert_int_equal(converse(server.data, server.len), 0);
	for (size_t n = 0; n < server.len; n++)
		assert_int_equal(converse(server.data, n), -1);
	buf_fini(&server);
}

static void lengths_and_counts_beyond_reason_are_errors_at_once(void **state)
{
	static const uint64_t words[] = { UINT64_MAX,  UINT64_C(1) << 63, UINT32_MAX, MIB(64),
		                          MIB(64) + 1, 0x10000,           0x45 };
	struct buf server, hurt;
	(void)state;

	record(&server);
	buf_init(&hurt, MIB(1));
	for (size_t at = 0; at + 8 <= server.len; at += 8) {
		for (size_t i = 0; i < N_ELEMENTS(words); i++) {
			struct buf word;

			buf_init(&word, 8);
			wire_put_u64(&word, words[i]);
			buf_clear(&hurt);
			buf_append(&hurt, server.data, server.len);
			memcpy(hurt.data + at, word.data, 8);
			converse(hurt.data, hurt.len);
			buf_fini(&word);
		}
	}
	buf_fini(&server);
	buf_fini(&hurt);
}

/* Reads the bytes as a reply to QueryPathInfo and expects WHY. */
static void expect_bad_info(const struct buf *reply, const char *why)
{
	struct replay replay;
	struct worker *worker;
	struct path_info info = { 0 };
	struct error err;

	replay_start(&replay, "2.35.2", 100000);
	replay.any_request = true;
	buf_append(&replay.server, reply->data, reply->len);
	worker = open_replay(&replay);
	assert_int_equal(worker_query_path_info(worker, GONE, &info, &err), -1);
	assert_null(info.references);
	expect_error(worker, &replay, &err, why);
}

static void what_is_no_store_path_hash_or_text_is_refused(void **state)
{
	static const char hash[] = "0000000000000000000000000000000000000000000000000000000000000000";
	struct buf reply;
	(void)state;

	buf_init(&reply, MIB(1));
	wire_put_u64(&reply, 0x616c7473);
	wire_put_u64(&reply, 1);
	wire_put_text(&reply, "/gnu/store/00000000000000000000000000000000-x.drv");
	expect_bad_info(&reply, "not in this store");

	buf_clear(&reply);
	wire_put_u64(&reply, 0x616c7473);
	wire_put_u64(&reply, 1);
	wire_put_text(&reply, STORE "/\n\033[31mx");
	expect_bad_info(&reply, STORE "/ x: its name must begin");

	buf_clear(&reply);
	wire_put_u64(&reply, 0x616c7473);
	wire_put_u64(&reply, 1);
	wire_put_text(&reply, "");
	wire_put_text(&reply, "0123");
	expect_bad_info(&reply, "NAR hash");

	buf_clear(&reply);
	wire_put_u64(&reply, 0x616c7473);
	wire_put_u64(&reply, 1);
	wire_put_text(&reply, "");
	wire_put_text(&reply, hash);
	wire_put_u64(&reply, 2);
	wire_put_text(&reply, GONE);
	wire_put_text(&reply, "");
	expect_bad_info(&reply, "not in this store");

	buf_clear(&reply);
	wire_put_u64(&reply, 0x616c7473);
	wire_put_u64(&reply, 1);
	wire_put_u64(&reply, 3);
	buf_append(&reply, "a\0c\0\0\0\0\0", 8);
	expect_bad_info(&reply, "NUL");

	buf_clear(&reply);
	wire_put_u64(&reply, 0x616c7473);
	wire_put_u64(&reply, 1);
	wire_put_u64(&reply, 3);
	buf_append(&reply, "abc\0\0\0\0x", 8);
	expect_bad_info(&reply, "padding");
	buf_fini(&reply);
}

/* --- A socket. --- */

struct fake_daemon {
	char dir[64], path[96];
	int fd;
	pthread_t thread;
	struct buf server; /* said byte by byte when TRICKLE_MS */
	unsigned trickle_ms;
};

static void *fake_daemon_main(void *arg)
{
	struct fake_daemon *fake = arg;
	CLEANUP(close_fd) int fd = accept(fake->fd, NULL, NULL);
	size_t step = fake->trickle_ms > 0 ? 1 : fake->server.len;
	char c;

	assert_true(fd >= 0);
	for (size_t n = 0; n < fake->server.len; n += step) {
		if (send(fd, fake->server.data + n, step, MSG_NOSIGNAL) < 0)
			break;
		usleep(fake->trickle_ms * 1000);
	}
	while (read(fd, &c, 1) > 0)
		;
	return NULL;
}

static void fake_start(struct fake_daemon *fake)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(fake->dir, sizeof(fake->dir), "/tmp/test_worker.XXXXXX");
	assert_non_null(mkdtemp(fake->dir));
	snprintf(fake->path, sizeof(fake->path), "%s/socket", fake->dir);
	memcpy(address.sun_path, fake->path, strlen(fake->path));
	fake->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fake->fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fake->fd, 1), 0);
	assert_int_equal(pthread_create(&fake->thread, NULL, fake_daemon_main, fake), 0);
}

static void fake_stop(struct fake_daemon *fake)
{
	pthread_join(fake->thread, NULL);
	close_fd(&fake->fd);
	unlink(fake->path);
	rmdir(fake->dir);
	buf_fini(&fake->server);
}

static void a_conversation_goes_over_a_socket(void **state)
{
	json_t *expected = load_expected("2.34.8");
	struct fake_daemon fake = { 0 };
	struct worker *worker;
	struct error err;
	(void)state;

	buf_init(&fake.server, MIB(1));
	append_file(&fake.server, "2.34.8", "handshake", "server");
	append_file(&fake.server, "2.34.8", "set-options", "server");
	append_file(&fake.server, "2.34.8", "query-path-info-out", "server");
	fake_start(&fake);
	assert_int_equal(worker_open(&worker, fake.path, STORE, 5000, &err), 0);
	expect_info(worker, expected, "query-path-info-out", "out");
	worker_close(worker);
	fake_stop(&fake);
	json_decref(expected);
}

static void expect_too_late(struct fake_daemon *fake)
{
	uint64_t began = clock_mono_ms();
	struct worker *worker;
	struct error err;

	fake_start(fake);
	assert_int_equal(worker_open(&worker, fake->path, STORE, 100, &err), -1);
	assert_int_equal(err.kind, ERROR_TRANSIENT);
	assert_non_null(strstr(err.text, "no answer within 100 ms"));
	assert_non_null(strstr(err.text, fake->path));
	assert_in_range(clock_mono_ms() - began, 100, 2000);
	fake_stop(fake);
}

static void a_silent_daemon_is_an_error_in_time(void **state)
{
	struct fake_daemon fake = { 0 };
	(void)state;

	expect_too_late(&fake);
}

static void a_daemon_that_trickles_gains_no_time(void **state)
{
	struct fake_daemon fake = { .trickle_ms = 30 };
	(void)state;

	buf_init(&fake.server, MIB(1));
	wire_put_u64(&fake.server, 0x6478696f);
	wire_put_u64(&fake.server, 0x126);
	expect_too_late(&fake);
}

static void a_socket_that_is_not_there_or_cannot_be_is_named(void **state)
{
	struct worker *worker;
	struct error err;
	char longer[200];
	(void)state;

	assert_int_equal(worker_open(&worker, "/nonexistent/socket", STORE, 100, &err), -1);
	assert_string_equal(err.text, "/nonexistent/socket: No such file or directory");
	memset(longer, 'x', sizeof(longer) - 1);
	longer[0] = '/';
	longer[108] = '\0';
	assert_int_equal(worker_open(&worker, longer, STORE, 100, &err), -1);
	assert_non_null(strstr(err.text, "107 bytes"));
	longer[107] = '\0';
	assert_int_equal(worker_open(&worker, longer, STORE, 100, &err), -1);
	assert_non_null(strstr(err.text, "No such file"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(five_daemons_are_understood_however_the_bytes_arrive),
		cmocka_unit_test(log_lines_and_activities_are_skipped),
		cmocka_unit_test(every_kind_of_message_is_skipped),
		cmocka_unit_test(a_user_who_is_not_trusted_is_served_the_same),
		cmocka_unit_test(a_daemon_that_tells_whom_it_trusts_is_not_asked),
		cmocka_unit_test(an_old_daemon_is_asked_to_repair_nothing),
		cmocka_unit_test(a_connection_with_a_temporary_root_is_not_kept),
		cmocka_unit_test(every_version_from_1_21_up_is_spoken),
		cmocka_unit_test(outputs_are_not_asked_of_a_daemon_that_has_no_such_operation),
		cmocka_unit_test(other_versions_and_other_servers_are_refused),
		cmocka_unit_test(options_are_not_sent_where_they_are_not_wanted),
		cmocka_unit_test(an_error_is_told_without_its_colours),
		cmocka_unit_test(a_daemon_that_refuses_a_request_and_closes_is_an_error),
		cmocka_unit_test(an_error_of_several_lines_and_traces_becomes_one_line),
		cmocka_unit_test(a_reply_cut_at_any_byte_is_an_error),
		cmocka_unit_test(lengths_and_counts_beyond_reason_are_errors_at_once),
		cmocka_unit_test(what_is_no_store_path_hash_or_text_is_refused),
		cmocka_unit_test(a_conversation_goes_over_a_socket),
		cmocka_unit_test(a_silent_daemon_is_an_error_in_time),
		cmocka_unit_test(a_daemon_that_trickles_gains_no_time),
		cmocka_unit_test(a_socket_that_is_not_there_or_cannot_be_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
