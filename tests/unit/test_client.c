/* common/client: what a client sees of daemons that answer, dawdle, break off, or are not there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/client.h"
#include "common/clock.h"
#include "tests/unit/test.h"

static struct error err;
static char dir[] = "/tmp/nncache-client-XXXXXX";
static char path[CLIENT_PATH_SIZE];
static int listener = -1;
static struct client client;
static int peer = -1;

static uint64_t in_ms(uint64_t ms)
{
	return clock_mono_ms() + ms;
}

static void start_listening(int backlog)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	strcpy(addr.sun_path, path);
	unlink(path);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(listener, backlog), 0);
}

/* Connects CLIENT to a peer that has already said TEXT and, with CLOSES, gone. */
static void connect_to(const char *text, size_t len, bool closes)
{
	assert_int_equal(client_open(&client, path, in_ms(200), &err), 0);
	peer = accept(listener, NULL, NULL);
	assert_true(peer >= 0);
	assert_int_equal(write(peer, text, len), len);
	if (closes) {
		close(peer);
		peer = -1;
	}
}

static int set_up(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "%s/socket", dir);
	start_listening(16);
	client = (struct client){ .fd = -1 };
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	client_close(&client);
	if (listener >= 0)
		close(listener);
	if (peer >= 0)
		close(peer);
	listener = peer = -1;
	unlink(path);
	return 0;
}

static void a_request_arrives_and_the_lines_of_the_answer_come_back(void **state)
{
	static const char answer[] = "daemon pid=1\n\nok\n";
	char request[10], *line;
	(void)state;

	connect_to(answer, sizeof(answer) - 1, false);
	assert_int_equal(client_send(&client, "request\n", 8, &err), 0);
	assert_int_equal(read(peer, request, sizeof(request)), 8);
	assert_memory_equal(request, "request\n", 8);
	assert_int_equal(client_read_line(&client, &line, &err), 1);
	assert_string_equal(line, "daemon pid=1");
	assert_int_equal(client_read_line(&client, &line, &err), 1);
	assert_string_equal(line, "");
	assert_int_equal(client_read_line(&client, &line, &err), 1);
	assert_string_equal(line, "ok");
	close(peer);
	peer = -1;
	assert_int_equal(client_read_line(&client, &line, &err), 0);
}

static void many_lines_come_through_whole(void **state)
{
	char text[60000], *line, expected[32];
	size_t len = 0;
	(void)state;

	for (int i = 0; i < 4000; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "line %d\n", i);
	connect_to(text, len, true);
	for (int i = 0; i < 4000; i++) {
		assert_int_equal(client_read_line(&client, &line, &err), 1);
		snprintf(expected, sizeof(expected), "line %d", i);
		assert_string_equal(line, expected);
	}
	assert_int_equal(client_read_line(&client, &line, &err), 0);
}

static void silence_ends_at_the_deadline(void **state)
{
	uint64_t start = clock_mono_ms();
	char *line;
	(void)state;

	connect_to("ok", 2, false);
	assert_int_equal(client_read_line(&client, &line, &err), -1);
	assert_int_equal(client.fault, CLIENT_SLOW);
	assert_non_null(strstr(err.text, "no answer in time"));
	assert_in_range(clock_mono_ms() - start, 190, 20000);
}

static void an_answer_that_breaks_off_is_no_answer(void **state)
{
	char *line;
	(void)state;

	connect_to("ok request=1", 12, true);
	assert_int_equal(client_read_line(&client, &line, &err), -1);
	assert_int_equal(client.fault, CLIENT_BROKEN);
}

static void an_endless_line_is_not_read_for_ever(void **state)
{
	static char text[CLIENT_MAX_LINE + 8192];
	char *line;
	(void)state;

	memset(text, 'x', sizeof(text));
	connect_to(text, sizeof(text), false);
	assert_int_equal(client_read_line(&client, &line, &err), -1);
	assert_int_equal(client.fault, CLIENT_BROKEN);
}

static void a_line_with_a_nul_is_refused(void **state)
{
	char *line;
	(void)state;

	connect_to("ok\0x\n", 5, false);
	assert_int_equal(client_read_line(&client, &line, &err), -1);
	assert_int_equal(client.fault, CLIENT_BROKEN);
}

static void a_peer_that_does_not_read_cannot_hold_us(void **state)
{
	static char big[4 << 20];
	(void)state;

	connect_to("", 0, false);
	assert_int_equal(client_send(&client, big, sizeof(big), &err), -1);
	assert_int_equal(client.fault, CLIENT_SLOW);
}

static void a_peer_that_is_gone_raises_no_signal(void **state)
{
	static char big[4 << 20];
	(void)state;

	connect_to("", 0, true);
	assert_int_equal(client_send(&client, big, sizeof(big), &err), -1);
	assert_int_equal(client.fault, CLIENT_BROKEN);
}

static void no_socket_and_no_listener_are_told_apart(void **state)
{
	(void)state;
	close(listener);
	listener = -1;
	assert_int_equal(client_open(&client, path, in_ms(200), &err), -1);
	assert_int_equal(client.fault, CLIENT_REFUSED);
	assert_non_null(strstr(err.text, path));
	client_close(&client);
	unlink(path);
	assert_int_equal(client_open(&client, path, in_ms(200), &err), -1);
	assert_int_equal(client.fault, CLIENT_ABSENT);
	assert_non_null(strstr(err.text, "No such file"));
}

static void a_full_backlog_is_waited_for_no_longer_than_the_deadline(void **state)
{
	struct client waiting[8];
	int r = 0;
	size_t n = 0;
	(void)state;

	close(listener);
	start_listening(1);
	while (r == 0 && n < N_ELEMENTS(waiting)) {
		r = client_open(&waiting[n], path, in_ms(100), &err);
		n++;
	}
	assert_int_equal(r, -1);
	assert_int_equal(waiting[n - 1].fault, CLIENT_SLOW);
	while (n > 0)
		client_close(&waiting[--n]);
}

static void a_deadline_that_has_passed_does_not_mean_for_ever(void **state)
{
	char *line;
	(void)state;

	connect_to("", 0, false);
	client.deadline_mono_ms = 1;
	assert_int_equal(client_read_line(&client, &line, &err), -1);
	assert_int_equal(client.fault, CLIENT_SLOW);
}

static void the_socket_is_the_one_named_then_the_systems_then_the_users(void **state)
{
	char found[CLIENT_PATH_SIZE], user[CLIENT_PATH_SIZE + 32], too_long[200];
	bool system_has_one = access(CLIENT_SYSTEM_SOCKET, F_OK) == 0;
	(void)state;

	memset(too_long, '/', sizeof(too_long));
	too_long[199] = '\0';
	assert_int_equal(client_find_socket("/x/y", found, &err), 0);
	assert_string_equal(found, "/x/y");
	assert_int_equal(client_find_socket("x/y", found, &err), -1);
	assert_int_equal(err.kind, ERROR_OPERATOR);
	assert_int_equal(client_find_socket(too_long, found, &err), -1);

	unsetenv("XDG_RUNTIME_DIR");
	assert_int_equal(client_find_socket(NULL, found, &err), 0);
	assert_string_equal(found, CLIENT_SYSTEM_SOCKET);
	setenv("XDG_RUNTIME_DIR", dir, 1);
	assert_int_equal(client_find_socket("", found, &err), 0);
	assert_string_equal(found, CLIENT_SYSTEM_SOCKET);
	snprintf(user, sizeof(user), "%s/nncache", dir);
	assert_int_equal(mkdir(user, 0755), 0);
	strcat(user, "/nncached.sock");
	assert_int_equal(symlink("/dev/null", user), 0);
	assert_int_equal(client_find_socket(NULL, found, &err), 0);
	assert_string_equal(found, system_has_one ? CLIENT_SYSTEM_SOCKET : user);
	unlink(user);
	*strrchr(user, '/') = '\0';
	rmdir(user);
	unsetenv("XDG_RUNTIME_DIR");
}

static int make_scratch(void **state)
{
	(void)state;
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static int remove_scratch(void **state)
{
	(void)state;
	return rmdir(dir);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_request_arrives_and_the_lines_of_the_answer_come_back),
		TEST(many_lines_come_through_whole),
		TEST(silence_ends_at_the_deadline),
		TEST(an_answer_that_breaks_off_is_no_answer),
		TEST(an_endless_line_is_not_read_for_ever),
		TEST(a_line_with_a_nul_is_refused),
		TEST(a_peer_that_does_not_read_cannot_hold_us),
		TEST(a_peer_that_is_gone_raises_no_signal),
		TEST(no_socket_and_no_listener_are_told_apart),
		TEST(a_full_backlog_is_waited_for_no_longer_than_the_deadline),
		TEST(a_deadline_that_has_passed_does_not_mean_for_ever),
		TEST(the_socket_is_the_one_named_then_the_systems_then_the_users),
	};
	return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
