/* store and roots: where a store lies, who is asked, what becomes of links. No Nix is needed. */
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/fd.h"
#include "daemon/store/place.h"
#include "daemon/store/roots.h"
#include "daemon/store/texts.h"
#include "tests/unit/test.h"

#define STORE "/nix/store"
#define A     STORE "/a0000000000000000000000000000000-a"
#define B     STORE "/b0000000000000000000000000000000-b"
#define GONE  STORE "/00000000000000000000000000000000-gone"
#define DRV   STORE "/d0000000000000000000000000000000-a.drv"
#define BASE  "a0000000000000000000000000000000-a"

static const char *const variables[] = { "NIX_REMOTE", "NIX_STORE_DIR", "NIX_STATE_DIR",
	                                 "NIX_DAEMON_SOCKET_PATH" };

static void clear_environment(void)
{
	for (size_t i = 0; i < N_ELEMENTS(variables); i++)
		unsetenv(variables[i]);
}

/* --- Places. --- */

static void expect_place(const char *uri, const char *store, const char *real, const char *state,
                         const char *sock)
{
	struct place place;
	struct error err;

	if (place_parse(&place, uri, &err) < 0)
		fail_msg("%s: %s", uri, err.text);
	assert_string_equal(place.store_dir, store);
	assert_string_equal(place.real_dir, real);
	assert_string_equal(place.state_dir, state);
	if (sock == NULL)
		assert_null(place.socket);
	else
		assert_string_equal(place.socket, sock);
	place_fini(&place);
}

#define STATE "/nix/var/nix"
#define SOCK  STATE "/daemon-socket/socket"

static void a_store_is_where_its_uri_says(void **state)
{
	(void)state;
	clear_environment();
	expect_place("auto", STORE, STORE, STATE, SOCK);
	expect_place("", STORE, STORE, STATE, SOCK);
	expect_place("daemon", STORE, STORE, STATE, SOCK);
	expect_place("unix://", STORE, STORE, STATE, SOCK);
	expect_place("unix:///run/x/s%20t", STORE, STORE, STATE, "/run/x/s t");
	expect_place("unix:///s?root=/mnt", STORE, "/mnt" STORE, "/mnt" STATE, "/s");
	expect_place("local", STORE, STORE, STATE, NULL);
	expect_place("local?root=/mnt", STORE, "/mnt" STORE, "/mnt" STATE, NULL);
	expect_place("local?root=/a%3fb%26%2f/", STORE, "/a?b&" STORE, "/a?b&" STATE, NULL);
	expect_place("local?root=/", STORE, STORE, STATE, NULL);
	expect_place("local?root=/mnt&real=/r&state=/s/&store=/t", "/t", "/r", "/s", NULL);
	expect_place("/mnt", STORE, "/mnt" STORE, "/mnt" STATE, NULL);
	expect_place("/", STORE, STORE, STATE, NULL);
}

static void the_environment_is_heeded_as_by_nix(void **state)
{
	(void)state;
	clear_environment();
	setenv("NIX_STORE_DIR", "/s/store/", 1);
	setenv("NIX_STATE_DIR", "/s/var", 1);
	expect_place("auto", "/s/store", "/s/store", "/s/var", "/s/var/daemon-socket/socket");
	expect_place("/mnt", "/s/store", "/mnt" STORE, "/mnt" STATE, NULL);
	setenv("NIX_DAEMON_SOCKET_PATH", "/run/nix", 1);
	expect_place("daemon", "/s/store", "/s/store", "/s/var", "/run/nix");
	expect_place("unix:///other", "/s/store", "/s/store", "/s/var", "/other");
	setenv("NIX_DAEMON_SOCKET_PATH", "", 1);
	setenv("NIX_STORE_DIR", "", 1);
	setenv("NIX_STATE_DIR", "", 1);
	setenv("NIX_REMOTE", "unix:///remote", 1);
	expect_place("auto", STORE, STORE, STATE, "/remote");
	expect_place("daemon", STORE, STORE, STATE, SOCK);
	setenv("NIX_REMOTE", "auto", 1);
	expect_place("auto", STORE, STORE, STATE, SOCK);
	clear_environment();
}

static void what_is_no_store_of_ours_is_refused(void **state)
{
	static const char *const bad[] = {
		"ssh://host",          "https://cache", "dummy://",         "Auto",
		"unix://relative",     "unix:///a%0",   "unix:///a%zz",     "unix:///a%00b",
		"local?root=mnt",      "local?root=",   "local?root",       "local?rout=/mnt",
		"local?root=/a%2",     "daemon?x=/y",   "local?&root=/mnt", "local?store=store",
		"local?root=/a&state",
	};
	struct place place;
	struct error err;
	char longer[700];
	(void)state;

	clear_environment();
	for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
		if (place_parse(&place, bad[i], &err) == 0)
			fail_msg("%s was taken", bad[i]);
		assert_int_equal(err.kind, ERROR_OPERATOR);
		assert_non_null(strstr(err.text, bad[i]));
	}
	memset(longer, 'x', sizeof(longer) - 1);
	longer[0] = '/';
	longer[513] = '\0';
	setenv("NIX_STORE_DIR", longer, 1);
	assert_int_equal(place_parse(&place, "auto", &err), -1);
	longer[512] = '\0';
	setenv("NIX_STORE_DIR", longer, 1);
	assert_int_equal(place_parse(&place, "auto", &err), 0);
	place_fini(&place);
	setenv("NIX_STORE_DIR", "relative", 1);
	assert_int_equal(place_parse(&place, "auto", &err), -1);
	clear_environment();
}

/* --- A store below a scratch directory, with a database. --- */

static struct loop loop;

struct scratch {
	char top[64], state[96], gcroots[128], roots[160], fallback[96], socket[96], uri[256];
	struct store *store;
	struct roots *opened;
};

static void make_database(const struct scratch *scratch)
{
	static const char sql[] =
		"CREATE TABLE ValidPaths(id integer primary key, path text unique not null, hash text not "
		"null,"
		" registrationTime integer not null, deriver text, narSize integer, ultimate integer, sigs "
		"text,"
		" ca text);"
		"CREATE TABLE Refs(referrer integer not null, reference integer not null);"
		"CREATE TABLE DerivationOutputs(drv integer not null, id text not null, path text not null);"
		"INSERT INTO ValidPaths SELECT column1, column2, 'sha256:' || printf('%064d', 7), 1, '" DRV
		"', 5, 1, NULL, NULL FROM (VALUES (1, '" A "'), (2, '" B "'), (3, '" DRV "'));"
		"INSERT INTO Refs VALUES (1, 2);"
		"INSERT INTO DerivationOutputs VALUES (3, 'out', '" A "');";
	char path[200];
	sqlite3 *db;
	FILE *schema;

	snprintf(path, sizeof(path), "%s/db/schema", scratch->state);
	schema = fopen(path, "w");
	assert_non_null(schema);
	fputs("10", schema);
	fclose(schema);
	snprintf(path, sizeof(path), "%s/db/db.sqlite", scratch->state);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void PRINTF(1, 2) run(const char *format, ...)
{
	char command[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (system(command) != 0)
		fail_msg("%s", command);
}

static void start(struct scratch *scratch, const char *uri_format)
{
	struct error err;

	clear_environment();
	*scratch = (struct scratch){ 0 };
	snprintf(scratch->top, sizeof(scratch->top), "/tmp/test_store.XXXXXX");
	assert_non_null(mkdtemp(scratch->top));
	snprintf(scratch->state, sizeof(scratch->state), "%s/nix/var/nix", scratch->top);
	snprintf(scratch->gcroots, sizeof(scratch->gcroots), "%s/gcroots", scratch->state);
	snprintf(scratch->roots, sizeof(scratch->roots), "%s/nncache", scratch->gcroots);
	snprintf(scratch->fallback, sizeof(scratch->fallback), "%s/fallback", scratch->top);
	snprintf(scratch->socket, sizeof(scratch->socket), "%s/socket", scratch->top);
	run("mkdir -p %s/db", scratch->state);
	run("mkdir -p %s/auto", scratch->gcroots);
	make_database(scratch);
	if (strcmp(uri_format, "unix") == 0)
		snprintf(scratch->uri, sizeof(scratch->uri), "unix://%s?root=%s", scratch->socket,
		         scratch->top);
	else
		snprintf(scratch->uri, sizeof(scratch->uri), "%s", scratch->top);
	assert_int_equal(loop_init(&loop, &err), 0);
	assert_int_equal(store_open(&scratch->store, &loop, scratch->uri, &err), 0);
	assert_string_equal(store_state_dir(scratch->store), scratch->state);
	assert_string_equal(store_dir(scratch->store), STORE);
	assert_ptr_equal(strstr(store_real_dir(scratch->store), scratch->top),
	                 store_real_dir(scratch->store));
}

static void on_closed(void *ctx)
{
	*(bool *)ctx = true;
}

static void stop(struct scratch *scratch)
{
	bool closed = false;

	roots_close(scratch->opened);
	store_close(scratch->store, on_closed, &closed);
	while (!closed)
		loop_run(&loop);
	loop_fini(&loop);
	run("rm -rf %s", scratch->top);
}

static size_t n_done;

static void on_infos(struct store_info_query *query)
{
	(void)query;
	n_done++;
	loop_stop(&loop);
}

static const char *const three[] = { A, GONE, B };

static void ask_three(struct scratch *scratch, struct store_info_query *query, struct path_info infos[3])
{
	memset(infos, 0, 3 * sizeof(infos[0]));
	*query = (struct store_info_query){ .paths = three, .n_paths = 3, .infos = infos };
	n_done = 0;
	store_info_start(scratch->store, query, on_infos);
	assert_int_equal(n_done, 0);
	loop_run(&loop);
	assert_int_equal(n_done, 1);
}

static void check_three(const struct store_info_query *query)
{
	if (query->err.kind != ERROR_NONE)
		fail_msg("%s", query->err.text);
	assert_string_equal(query->infos[0].path, A);
	assert_int_equal(query->infos[0].n_references, 1);
	assert_string_equal(query->infos[0].references[0], B);
	assert_null(query->infos[1].path);
	assert_string_equal(query->infos[2].path, B);
	for (size_t i = 0; i < 3; i++)
		path_info_fini(&query->infos[i]);
}

static void without_a_daemon_the_database_answers(void **state)
{
	static const char *const uris[] = { "unix", "local" };
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(uris); i++) {
		struct store_info_query query;
		struct path_info infos[3];
		struct scratch scratch;

		start(&scratch, uris[i]);
		ask_three(&scratch, &query, infos);
		check_three(&query);
		stop(&scratch);
	}
}

static void on_outputs(struct store_outputs_query *query)
{
	(void)query;
	n_done++;
	loop_stop(&loop);
}

static void outputs_of_a_derivation_are_found_in_the_database(void **state)
{
	struct store_outputs_query query = { .derivation = DRV };
	struct scratch scratch;
	(void)state;

	start(&scratch, "local");
	store_outputs_start(scratch.store, &query, on_outputs);
	loop_run(&loop);
	assert_int_equal(query.err.kind, ERROR_NONE);
	assert_int_equal(query.n_outputs, 1);
	assert_string_equal(query.outputs[0], A);
	texts_free(query.outputs, query.n_outputs);
	query = (struct store_outputs_query){ .derivation = GONE ".drv" };
	store_outputs_start(scratch.store, &query, on_outputs);
	loop_run(&loop);
	assert_int_equal(query.err.kind, ERROR_NONE);
	assert_int_equal(query.n_outputs, 0);
	stop(&scratch);
}

static void when_neither_answers_both_reasons_are_told(void **state)
{
	struct store_info_query query;
	struct path_info infos[3];
	struct scratch scratch;
	(void)state;

	start(&scratch, "unix");
	run("rm %s/db/schema", scratch.state);
	ask_three(&scratch, &query, infos);
	assert_int_equal(query.err.kind, ERROR_TRANSIENT);
	assert_non_null(strstr(query.err.text, "/socket: No such file or directory; and without it: "));
	assert_non_null(strstr(query.err.text, "/db/schema: No such file or directory"));
	for (size_t i = 0; i < 3; i++)
		assert_null(infos[i].path);
	stop(&scratch);
}

static void what_waits_when_the_store_closes_is_canceled(void **state)
{
	struct store_info_query queries[50];
	struct path_info infos[50];
	struct scratch scratch;
	size_t n_canceled = 0;
	(void)state;

	start(&scratch, "local");
	memset(infos, 0, sizeof(infos));
	n_done = 0;
	for (size_t i = 0; i < 50; i++) {
		queries[i] = (struct store_info_query){ .paths = three, .n_paths = 1, .infos = &infos[i] };
		store_info_start(scratch.store, &queries[i], on_infos);
	}
	stop(&scratch);
	assert_int_equal(n_done, 50);
	for (size_t i = 0; i < 50; i++) {
		n_canceled += queries[i].err.kind == ERROR_CANCELED;
		assert_true((queries[i].err.kind == ERROR_NONE) == (infos[i].path != NULL));
		path_info_fini(&infos[i]);
	}
	assert_true(n_canceled > 0);
}

/* --- A daemon made of recordings. --- */

struct fake_daemon {
	int fd;
	pthread_t thread;
	size_t n_connections; /* it serves so many, then refuses */
	size_t n_replies;     /* path infos it gives on each, before it closes */
	size_t n_served;
	struct buf server, reply;
};

static void append_recording(struct buf *buf, const char *name)
{
	char path[512], *data;
	struct error err;
	size_t len;

	snprintf(path, sizeof(path), FIXTURES "/worker-protocol/2.34.8/%s.server.bin", name);
	assert_int_equal(read_file(path, MIB(1), &data, &len, &err), 0);
	buf_append(buf, data, len);
	free(data);
}

/* After the handshake (40 bytes and SetOptions' 112) each request for A, B or GONE gets a reply. */
static void *fake_daemon_main(void *arg)
{
	struct fake_daemon *fake = arg;
	char bytes[40 + 112];

	while (fake->n_served < fake->n_connections) {
		CLEANUP(close_fd) int fd = accept(fake->fd, NULL, NULL);

		fake->n_served++;
		if (write_full(fd, fake->server.data, fake->server.len) < 0 ||
		    read_full(fd, bytes, sizeof(bytes)) < 0)
			continue;
		for (size_t i = 0; i < fake->n_replies; i++) {
			/* operation, length, and a path that is padded to 40 or 48 bytes */
			if (read_full(fd, bytes, 16) != 16 || bytes[0] != 26)
				break;
			if (read_full(fd, bytes, ((size_t)bytes[8] + 7) / 8 * 8) <= 0 ||
			    write_full(fd, fake->reply.data, fake->reply.len) < 0)
				break;
		}
	}
	close_fd(&fake->fd);
	return NULL;
}

static void fake_start(struct fake_daemon *fake, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	buf_init(&fake->server, MIB(1));
	buf_init(&fake->reply, MIB(1));
	append_recording(&fake->server, "handshake");
	append_recording(&fake->server, "set-options");
	append_recording(&fake->reply, "query-path-info-dep");
	memcpy(address.sun_path, path, strlen(path));
	fake->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fake->fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fake->fd, 1), 0);
	assert_int_equal(pthread_create(&fake->thread, NULL, fake_daemon_main, fake), 0);
}

static void fake_stop(struct fake_daemon *fake)
{
	pthread_join(fake->thread, NULL);
	buf_fini(&fake->server);
	buf_fini(&fake->reply);
}

/* The recorded info has a NAR of 144 bytes, the database's of 5. */
static void expect_sizes(struct scratch *scratch, uint64_t first, uint64_t second, uint64_t third)
{
	const uint64_t sizes[3] = { first, second, third };
	struct store_info_query query;
	struct path_info infos[3];

	ask_three(scratch, &query, infos);
	if (query.err.kind != ERROR_NONE)
		fail_msg("%s", query.err.text);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(infos[i].nar_size, sizes[i]);
		path_info_fini(&infos[i]);
	}
}

static void a_connection_is_kept_and_one_that_died_is_replaced(void **state)
{
	struct fake_daemon fake = { .n_connections = 2, .n_replies = 6 };
	struct scratch scratch;
	(void)state;

	start(&scratch, "unix");
	fake_start(&fake, scratch.socket);
	expect_sizes(&scratch, 144, 144, 144);
	expect_sizes(&scratch, 144, 144, 144);
	expect_sizes(&scratch, 144, 144, 144);
	assert_int_equal(fake.n_served, 2);
	stop(&scratch);
	fake_stop(&fake);
}

static void where_a_daemon_breaks_off_the_database_goes_on(void **state)
{
	struct fake_daemon fake = { .n_connections = 1, .n_replies = 2 };
	struct scratch scratch;
	(void)state;

	start(&scratch, "unix");
	fake_start(&fake, scratch.socket);
	expect_sizes(&scratch, 144, 144, 5);
	fake_stop(&fake);
	expect_sizes(&scratch, 5, 0, 5);
	stop(&scratch);
}

/* --- Roots. --- */

static void open_roots(struct scratch *scratch, const char *dir)
{
	struct error err;

	if (roots_open(&scratch->opened, scratch->store, dir, scratch->fallback, &err) < 0)
		fail_msg("%s", err.text);
}

static void on_added(struct roots_add *add)
{
	(void)add;
	loop_stop(&loop);
}

static void add_paths(struct scratch *scratch, struct roots_add *add, const char *const *paths, size_t n,
                      bool *is_valid)
{
	*add = (struct roots_add){ .paths = paths, .n_paths = n, .is_valid = is_valid };
	roots_add_start(scratch->opened, add, on_added);
	loop_run(&loop);
}

static void add_roots(struct scratch *scratch, struct roots_add *add, bool *is_valid)
{
	add_paths(scratch, add, three, 3, is_valid);
}

static bool says(const char *dir, const char *name, const char *target)
{
	char path[300], text[300];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	n = readlink(path, text, sizeof(text) - 1);
	if (n < 0)
		return false;
	text[n] = '\0';
	return strcmp(text, target) == 0;
}

static void a_root_is_a_link_below_gcroots(void **state)
{
	struct scratch scratch;
	struct roots_add add;
	(void)state;

	start(&scratch, "local");
	open_roots(&scratch, scratch.roots);
	assert_string_equal(roots_dir(scratch.opened), scratch.roots);
	add_roots(&scratch, &add, NULL);
	assert_int_equal(add.err.kind, ERROR_NONE);
	assert_null(roots_message(scratch.opened));
	assert_true(says(scratch.roots, BASE, A));
	assert_true(says(scratch.roots, strrchr(GONE, '/') + 1, GONE));
	add_roots(&scratch, &add, NULL);
	assert_int_equal(add.err.kind, ERROR_NONE);
	roots_remove(scratch.opened, A);
	roots_remove(scratch.opened, A);
	assert_false(says(scratch.roots, BASE, A));
	assert_true(says(scratch.roots, strrchr(B, '/') + 1, B));
	run("test -z \"$(ls -A %s/auto)\"", scratch.gcroots);
	stop(&scratch);
}

static void a_link_that_leads_elsewhere_is_replaced(void **state)
{
	struct scratch scratch;
	struct roots_add add;
	(void)state;

	start(&scratch, "local");
	run("mkdir %s/nncache", scratch.gcroots);
	run("ln -s /nix/store/nothing %s/nncache/" BASE, scratch.gcroots);
	run("ln -s /nix/store/left-over %s/nncache/." BASE, scratch.gcroots);
	open_roots(&scratch, scratch.roots);
	add_roots(&scratch, &add, NULL);
	assert_int_equal(add.err.kind, ERROR_NONE);
	assert_true(says(scratch.roots, BASE, A));
	run("test $(ls -A %s/nncache | wc -l) = 3", scratch.gcroots);
	stop(&scratch);
}

static void one_root_that_cannot_be_made_does_not_keep_the_others(void **state)
{
	struct scratch scratch;
	struct roots_add add;
	(void)state;

	start(&scratch, "local");
	run("mkdir -p %s/nncache/" BASE "/in-the-way", scratch.gcroots);
	open_roots(&scratch, scratch.roots);
	add_roots(&scratch, &add, NULL);
	assert_int_equal(add.err.kind, ERROR_TRANSIENT);
	assert_non_null(strstr(add.err.text, BASE));
	assert_non_null(strstr(roots_message(scratch.opened), BASE));
	assert_true(says(scratch.roots, strrchr(B, '/') + 1, B));
	run("rm -r %s/nncache/" BASE, scratch.gcroots);
	add_roots(&scratch, &add, NULL);
	assert_int_equal(add.err.kind, ERROR_NONE);
	assert_null(roots_message(scratch.opened));
	stop(&scratch);
}

static void a_push_with_a_path_that_is_not_valid_roots_none(void **state)
{
	static const char *const uris[] = { "unix", "local" };
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(uris); i++) {
		bool is_valid[3] = { false, true, false };
		struct scratch scratch;
		struct roots_add add;

		start(&scratch, uris[i]);
		open_roots(&scratch, scratch.roots);
		add_roots(&scratch, &add, is_valid);
		assert_int_equal(add.err.kind, ERROR_NONE);
		assert_true(is_valid[0] && !is_valid[1] && is_valid[2]);
		run("test -z \"$(ls %s/nncache)\"", scratch.gcroots);
		add_paths(&scratch, &add, (const char *const[]){ A, B }, 2, is_valid);
		assert_int_equal(add.err.kind, ERROR_NONE);
		assert_true(says(scratch.roots, BASE, A));
		stop(&scratch);
	}
}

static void without_gcroots_links_are_registered_in_auto(void **state)
{
	struct scratch scratch;
	struct roots_add add;
	(void)state;

	start(&scratch, "unix");
	open_roots(&scratch, "/nonexistent/roots");
	assert_string_equal(roots_dir(scratch.opened), scratch.fallback);
	assert_null(roots_message(scratch.opened));
	add_roots(&scratch, &add, NULL);
	assert_int_equal(add.err.kind, ERROR_NONE);
	assert_true(says(scratch.fallback, BASE, A));
	run("test $(ls %s/auto | wc -l) = 3", scratch.gcroots);
	run("for l in %s/auto/*; do readlink $(readlink $l) | grep -q '^/nix/store/' || exit 1; done",
	    scratch.gcroots);
	add_roots(&scratch, &add, NULL);
	run("test $(ls %s/auto | wc -l) = 3", scratch.gcroots);
	roots_remove(scratch.opened, A);
	assert_false(says(scratch.fallback, BASE, A));
	run("test $(ls %s/auto | wc -l) = 2", scratch.gcroots);

	run("rm -r %s/auto", scratch.gcroots);
	add_roots(&scratch, &add, NULL);
	assert_int_equal(add.err.kind, ERROR_NONE);
	run("test $(ls %s/auto | wc -l) = 3", scratch.gcroots);

	run("rm -r %s/auto && touch %s/auto", scratch.gcroots, scratch.gcroots);
	add_roots(&scratch, &add, NULL);
	assert_int_equal(add.err.kind, ERROR_TRANSIENT);
	assert_non_null(strstr(add.err.text, "/socket: No such file or directory; and without it: "));
	assert_non_null(strstr(add.err.text, "/auto/"));
	assert_non_null(strstr(roots_message(scratch.opened), "that nix-daemon runs"));
	stop(&scratch);
}

/* The collector follows no link to a directory: links in there would protect nothing. */
static void a_link_to_a_directory_is_no_place_below_gcroots(void **state)
{
	struct scratch scratch;
	struct roots_add add;
	(void)state;

	start(&scratch, "local");
	run("mkdir %s/elsewhere", scratch.top);
	run("ln -s ../../../../elsewhere %s/nncache", scratch.gcroots);
	open_roots(&scratch, scratch.roots);
	add_roots(&scratch, &add, NULL);
	assert_int_equal(add.err.kind, ERROR_NONE);
	run("test $(ls %s/auto | wc -l) = 3", scratch.gcroots);
	stop(&scratch);
}

static void where_nothing_can_be_written_a_message_says_so(void **state)
{
	bool is_valid[3] = { false };
	struct scratch scratch;
	struct roots_add add;
	struct error err;
	(void)state;

	start(&scratch, "local");
	snprintf(scratch.fallback, sizeof(scratch.fallback), "/nonexistent/too");
	open_roots(&scratch, "/nonexistent/roots");
	assert_non_null(strstr(roots_message(scratch.opened), "/nonexistent/roots: No such file"));
	assert_non_null(strstr(roots_message(scratch.opened), "/nonexistent/too: No such file"));
	assert_non_null(strstr(roots_message(scratch.opened), "install -d"));
	add_paths(&scratch, &add, (const char *const[]){ A, B }, 2, is_valid);
	assert_int_equal(add.err.kind, ERROR_TRANSIENT);
	assert_true(is_valid[0] && is_valid[1]);
	assert_non_null(roots_message(scratch.opened));
	roots_close(scratch.opened);
	scratch.opened = NULL;
	assert_int_equal(roots_open(&scratch.opened, scratch.store, "relative", "/tmp", &err), -1);
	assert_int_equal(err.kind, ERROR_OPERATOR);
	stop(&scratch);
}

static void on_listed(struct roots_list *list)
{
	(void)list;
	loop_stop(&loop);
}

static const struct roots_entry *entry_named(const struct roots_list *list, const char *name)
{
	for (size_t i = 0; i < list->n_entries; i++)
		if (strcmp(list->entries[i].name, name) == 0)
			return &list->entries[i];
	fail_msg("%s is not listed", name);
	return NULL;
}

static void links_are_listed_with_whose_they_are(void **state)
{
	struct scratch scratch;
	struct roots_list list = { 0 };
	(void)state;

	start(&scratch, "local");
	open_roots(&scratch, scratch.roots);
	run("cd %s/nncache && ln -s " A " " BASE " && ln -s " B " b0000000000000000000000000000000-b.12.34 &&"
	    " ln -s " A "/bin/x odd && ln -s /etc/passwd other && ln -s " B
	    " .hidden && touch file && mkdir directory",
	    scratch.gcroots);
	run("touch -h -d @1700000000 %s/nncache/odd", scratch.gcroots);
	run("touch -h -d @1600000000 %s/nncache/" BASE, scratch.gcroots);
	roots_list_start(scratch.opened, &list, on_listed);
	loop_run(&loop);
	assert_int_equal(list.err.kind, ERROR_NONE);
	assert_int_equal(list.n_entries, 3);
	assert_string_equal(entry_named(&list, BASE)->path, A);
	assert_true(entry_named(&list, BASE)->is_ours);
	assert_string_equal(entry_named(&list, "b0000000000000000000000000000000-b.12.34")->path, B);
	assert_false(entry_named(&list, "b0000000000000000000000000000000-b.12.34")->is_ours);
	assert_string_equal(entry_named(&list, "odd")->path, A);
	assert_int_equal(entry_named(&list, "odd")->made_unix_s, 1700000000);
	assert_int_equal(entry_named(&list, "odd")->ours_made_unix_s, 1600000000);
	assert_int_equal(entry_named(&list, "b0000000000000000000000000000000-b.12.34")->ours_made_unix_s, 0);
	roots_remove_name(scratch.opened, "odd");
	roots_list_fini(&list);

	roots_list_start(scratch.opened, &list, on_listed);
	loop_run(&loop);
	assert_int_equal(list.n_entries, 2);
	roots_list_fini(&list);
	run("rm -r %s/nncache", scratch.gcroots);
	roots_list_start(scratch.opened, &list, on_listed);
	loop_run(&loop);
	assert_int_equal(list.err.kind, ERROR_NONE);
	assert_int_equal(list.n_entries, 0);
	stop(&scratch);
}

static void many_links_are_listed_in_pages(void **state)
{
	struct scratch scratch;
	struct roots_list list = { 0 };
	char link[300];
	size_t n = 0;
	(void)state;

	start(&scratch, "local");
	open_roots(&scratch, scratch.roots);
	for (int i = 0; i < 2500; i++) {
		snprintf(link, sizeof(link), "%s/" BASE ".%d.1", scratch.roots, i);
		assert_int_equal(symlink(A, link), 0);
	}
	do {
		roots_list_start(scratch.opened, &list, on_listed);
		loop_run(&loop);
		assert_int_equal(list.err.kind, ERROR_NONE);
		assert_in_range(list.n_entries, 0, ROOTS_PAGE);
		n += list.n_entries;
	} while (list.more);
	assert_int_equal(n, 2500);
	roots_list_fini(&list);
	stop(&scratch);
}

static void links_of_the_fallback_move_to_the_place_that_can_be_used_now(void **state)
{
	struct scratch scratch;
	struct roots_add add;
	struct error err;
	(void)state;

	start(&scratch, "local");
	open_roots(&scratch, "/nonexistent/roots");
	add_roots(&scratch, &add, NULL);
	assert_true(says(scratch.fallback, BASE, A));
	roots_close(scratch.opened);
	assert_int_equal(roots_open(&scratch.opened, scratch.store, scratch.roots, scratch.fallback, &err),
	                 0);
	assert_true(says(scratch.roots, BASE, A));
	run("test -z \"$(ls %s)\"", scratch.fallback);
	stop(&scratch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_store_is_where_its_uri_says),
		cmocka_unit_test(the_environment_is_heeded_as_by_nix),
		cmocka_unit_test(what_is_no_store_of_ours_is_refused),
		cmocka_unit_test(without_a_daemon_the_database_answers),
		cmocka_unit_test(outputs_of_a_derivation_are_found_in_the_database),
		cmocka_unit_test(when_neither_answers_both_reasons_are_told),
		cmocka_unit_test(what_waits_when_the_store_closes_is_canceled),
		cmocka_unit_test(a_connection_is_kept_and_one_that_died_is_replaced),
		cmocka_unit_test(where_a_daemon_breaks_off_the_database_goes_on),
		cmocka_unit_test(a_root_is_a_link_below_gcroots),
		cmocka_unit_test(a_link_that_leads_elsewhere_is_replaced),
		cmocka_unit_test(one_root_that_cannot_be_made_does_not_keep_the_others),
		cmocka_unit_test(a_push_with_a_path_that_is_not_valid_roots_none),
		cmocka_unit_test(without_gcroots_links_are_registered_in_auto),
		cmocka_unit_test(a_link_to_a_directory_is_no_place_below_gcroots),
		cmocka_unit_test(where_nothing_can_be_written_a_message_says_so),
		cmocka_unit_test(links_are_listed_with_whose_they_are),
		cmocka_unit_test(many_links_are_listed_in_pages),
		cmocka_unit_test(links_of_the_fallback_move_to_the_place_that_can_be_used_now),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
