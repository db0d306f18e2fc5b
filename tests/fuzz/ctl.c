/* Whatever answers at the daemon's socket: nncachectl ends, its words are plain, its JSON is JSON. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/client.h"
#include "common/fd.h"
#include "tests/fuzz/fuzz.h"

#define PATH "/nix/store/00000000000000000000000000000000-x"

/* An input is one of these lines, and then the answers to its requests, a line "--" between two. */
static const char *const commands[] = {
	"status",
	"status --json",
	"metrics",
	"list",
	"list --json",
	"show " PATH,
	"wait",
	"wait --json",
	"show --json " PATH,
	"wait " PATH,
	"push " PATH,
	"push --no-wait " PATH,
	"push --json " PATH,
	"retry --failed",
	"forget --failed --json",
	"pause --all",
	"resume main",
	"config show",
	"verify main",
	"verify main --repair",
	"verify main --json",
	"catch-up",
	"catch-up --yes",
	"catch-up --json --yes",
	"config show --json",
};

int nncachectl_main(int argc, char **argv); /* ctl/main.c's */

static const char *answers; /* those not given yet; NULL: there are no more */
static int peer = -1;

/* In place of the functions of these names, see meson.build. */
int __wrap_client_open(struct client *client, const char *path, uint64_t deadline_mono_ms, struct error *err);
int __wrap_usleep(useconds_t us);
int __wrap_isatty(int fd);

int __wrap_client_open(struct client *client, const char *path, uint64_t deadline_mono_ms, struct error *err)
{
	const char *end = answers != NULL ? strstr(answers, "\n--\n") : NULL;
	int fds[2];

	*client = (struct client){ .fd = -1, .deadline_mono_ms = deadline_mono_ms };
	buf_init(&client->in, (size_t)CLIENT_MAX_LINE + 4096);
	if (answers == NULL) {
		client->fault = CLIENT_REFUSED;
		return error_set(err, ERROR_TRANSIENT, "%s: Connection refused", path);
	}
	close_fd(&peer);
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	client->fd = fds[0];
	peer = fds[1];
	MUST(write_full(peer, answers, end != NULL ? (size_t)(end - answers) + 1 : strlen(answers)) == 0);
	MUST(shutdown(peer, SHUT_WR) == 0);
	answers = end != NULL ? end + 4 : NULL;
	return 0;
}

/* A busy daemon is asked again at once. */
int __wrap_usleep(useconds_t us)
{
	(void)us;
	return 0;
}

int __wrap_isatty(int fd)
{
	(void)fd;
	errno = ENOTTY;
	return 0;
}

static const char *find_command(const char *line, size_t len)
{
	for (size_t i = 0; i < N_ELEMENTS(commands); i++)
		if (strlen(commands[i]) == len && memcmp(commands[i], line, len) == 0)
			return commands[i];
	return NULL;
}

static int run(const char *command)
{
	char program[] = "nncachectl", *line = strdup(command), *argv[8] = { program };
	int argc = 1, status;

	MUST(line != NULL);
	for (char *word = strtok(line, " "); word != NULL; word = strtok(NULL, " "))
		argv[argc++] = word;
	status = nncachectl_main(argc, argv);
	free(line);
	return status;
}

static void check(const char *command, int status, const char *out, size_t len, const char *said)
{
	json_t *json;

	MUST(status >= 0 && status <= 5);
	MUST(fuzz_is_plain(said));
	if (strstr(command, "--json") == NULL) {
		MUST(strlen(out) == len && fuzz_is_plain(out));
	} else if (status == 0) {
		json = json_loadb(out, len, 0, NULL);
		MUST(json != NULL);
		json_decref(json);
	}
}

static void run_and_check(const char *command)
{
	FILE *real_stdout = stdout, *real_stderr = stderr;
	char *out = NULL, *said = NULL;
	size_t n_out = 0, n_said = 0;
	int status;

	stdout = open_memstream(&out, &n_out);
	stderr = open_memstream(&said, &n_said);
	MUST(stdout != NULL && stderr != NULL);
	status = run(command);
	fclose(stdout);
	fclose(stderr);
	stdout = real_stdout;
	stderr = real_stderr;
	check(command, status, out, n_out, said);
	free(out);
	free(said);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size), *lf = strchr(text, '\n');
	const char *command = lf != NULL ? find_command(text, (size_t)(lf - text)) : NULL;

	if (command != NULL) {
		setenv("NNCACHE_SOCKET", "/nowhere/socket", 1);
		setenv("NNCACHE_SPOOL", "/nowhere/spool", 1);
		setenv("NNCACHE_GCROOTS", "/nowhere/gcroots", 1);
		unsetenv("NIX_STORE_DIR");
		answers = lf + 1;
		run_and_check(command);
		close_fd(&peer);
	}
	free(text);
	return 0;
}
