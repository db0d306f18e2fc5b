/* The hook, its own main(), with a daemon that answers, one that says "not now", and none. Whatever fails, it
 * exits 0; and what it had to hand over is taken in, or in the spool, or has its root. Where a fault that
 * stays prevents all of that, it says so. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/protocol.h"
#include "common/spool.h"
#include "tests/torture/torture.h"
#include "tests/torture/world.h"

#define STORE "/nix/store"
#define OUT   STORE "/a0000000000000000000000000000000-out"
#define DEV   STORE "/b0000000000000000000000000000000-dev"
#define DRV   STORE "/d0000000000000000000000000000000-x.drv"

int hook_main(int argc, char **argv);

enum { MARK_TAKEN_IN };

/* ---- a daemon, in a process of its own --------------------------------------------------------------- */

static bool names_all(const struct request *request)
{
	return request->n_paths == 2 && strcmp(request->paths[0], OUT) == 0 &&
	       strcmp(request->paths[1], DEV) == 0;
}

/* Only a request that is whole counts, as with the real one. */
static void answer_one(int listen_fd, const char *answer, struct torture_ledger *ledger)
{
	struct request request;
	int fd = accept(listen_fd, NULL, NULL);

	if (world_read_request(fd, &request)) {
		if (strncmp(answer, "ok", 2) == 0 && names_all(&request))
			ledger->marks[MARK_TAKEN_IN] = 1;
		if (send(fd, answer, strlen(answer), MSG_NOSIGNAL) < 0)
			ledger->marks[MARK_TAKEN_IN] = 0;
		request_fini(&request);
	}
	close_fd(&fd);
}

/* ---- the run ----------------------------------------------------------------------------------------- */

static void prepare(const char *dir)
{
	world_make_dir(dir, "spool");
	world_make_dir(dir, "roots");
}

static int call_hook(const char *dir)
{
	char argv0[] = "/nowhere/hook", *argv[] = { argv0, NULL };

	world_set_env("NNCACHE_SOCKET", "%s/socket", dir);
	world_set_env("NNCACHE_SPOOL", "%s/spool", dir);
	world_set_env("NNCACHE_GCROOTS", "%s/roots", dir);
	world_set_env("NNCACHE_TIMEOUT_MS", "%d", 60000);
	world_set_env("OUT_PATHS", "%s %s", OUT, DEV);
	world_set_env("DRV_PATH", "%s", DRV);
	return hook_main(1, argv);
}

static int run_alone(const char *dir, struct torture_ledger *ledger)
{
	(void)ledger;
	return call_hook(dir);
}

static int run_with(const char *dir, const char *answer, struct torture_ledger *ledger)
{
	int listen_fd, status;
	pid_t pid;

	fail_spare(true);
	listen_fd = world_listen(dir);
	pid = fork();
	if (pid == 0) {
		answer_one(listen_fd, answer, ledger);
		_exit(EXIT_SUCCESS);
	}
	close(listen_fd);
	fail_spare(false);
	status = call_hook(dir);
	fail_spare(true);
	world_stop(pid);
	return status;
}

static int run_taken_in(const char *dir, struct torture_ledger *ledger)
{
	return run_with(dir, "ok request=1 new=2\n", ledger);
}

static int run_not_now(const char *dir, struct torture_ledger *ledger)
{
	return run_with(dir, "error transient disk full\n", ledger);
}

/* ---- the judgement ----------------------------------------------------------------------------------- */

static bool is_in_spool(const char *dir)
{
	char path[PATH_MAX], name[256], *text;
	struct request request;
	struct error err;
	size_t len;
	bool found;

	snprintf(path, sizeof(path), "%s/spool", dir);
	if (!world_first_file(path, SPOOL_SUFFIX, name))
		return false;
	snprintf(path, sizeof(path), "%s/spool/%s", dir, name);
	if (read_file(path, REQUEST_MAX_BYTES, &text, &len, &err) < 0 ||
	    request_parse(&request, text, len, &err) < 0)
		torture_fail("a spool file is no request: %s", err.text);
	found = names_all(&request);
	request_fini(&request);
	free(text);
	return found;
}

static bool has_roots(const char *dir)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/roots", dir);
	return world_has_link_to(path, OUT) && world_has_link_to(path, DEV);
}

static void judge(const char *dir, struct torture_ledger *ledger)
{
	char *said;
	bool spoke;

	if (ledger->marks[MARK_TAKEN_IN] || is_in_spool(dir) || has_roots(dir))
		return;
	if (!ledger->plan.for_good)
		torture_fail("the paths are nowhere");
	said = torture_stderr(dir);
	spoke = strstr(said, OUT) != NULL && strstr(said, "nncachectl push") != NULL;
	free(said);
	if (!spoke)
		torture_fail("the paths are nowhere, and the hook does not say so");
}

int main(int argc, char **argv)
{
	static const struct torture_scenario scenarios[] = {
		{ .name = "hook-alone", .prepare = prepare, .run = run_alone, .judge = judge, .n_sample = 8 },
		{ .name = "hook-taken-in",
		  .prepare = prepare,
		  .run = run_taken_in,
		  .judge = judge,
		  .n_sample = 8 },
		{ .name = "hook-not-now",
		  .prepare = prepare,
		  .run = run_not_now,
		  .judge = judge,
		  .n_sample = 8 },
	};

	return torture_main(argc, argv, scenarios, N_ELEMENTS(scenarios));
}
