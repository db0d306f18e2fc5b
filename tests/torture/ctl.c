/* nncachectl, its own main(), with a daemon that answers every request well. Whatever fails, it says that a
 * path is accepted only where the daemon was asked to take it. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/protocol.h"
#include "tests/torture/torture.h"
#include "tests/torture/world.h"
#include "tests/torture/wraps.h"

#define PATH "/nix/store/a0000000000000000000000000000000-a"

int ctl_main(int argc, char **argv);

enum { MARK_PUSHED, MARK_SAID_DONE };

static const char status_answer[] =
	"daemon version=1 pid=1 started=1 store-dir=/nix/store bad-spool-files=0 user-mode=no\n"
	"queue resolving=0 ready=1 delayed=0 in-flight=1 sent=0 blocked=0 failed=1 done=3 unfinished=3 "
	"oldest=1"
	" pinned-paths=1 pinned-nar-bytes=5 unprotected=0\n"
	"cache name=main url=file:///x state=ok unfinished=3 ready=1 delayed=0 in-flight=1 sent=0 blocked=0 "
	"failed=1"
	" done=3 uploaded-paths=3 uploaded-bytes=9 skipped-paths=0 rate-bytes=1 paused-until=0\n"
	"upload cache=main path=" PATH " step=sending nar-bytes=5 done-bytes=1 started=1\n"
	"cause cache=main state=failed kind=permanent jobs=1 path=" PATH " due=0 text=gone\n"
	".\nok\n";
static const char list_answer[] =
	"job id=1 path=" PATH
	" cache=main state=failed root=yes attempts=1 rank=1 enqueued=1 not-before=0 finished=0"
	" nar-size=5 file-size=0 kind=permanent text=gone tag=x unprotected=no\n"
	".\nok last=1 more=no\n";
static const char wait_answer[] = "progress total=1 unfinished=0 failed=0 blocked=0 moving=0\n"
				  "ok failed=0 blocked=0 stuck=no\n";

static const char *answer_to(const struct request *request, struct torture_ledger *ledger)
{
	switch ((int)request->verb) {
	case VERB_PUSH:
		ledger->marks[MARK_PUSHED] = 1;
		return "ok request=1 new=1\n";
	case VERB_STATUS:
		return status_answer;
	case VERB_LIST:
	case VERB_SHOW:
		return list_answer;
	case VERB_WAIT:
		return wait_answer;
	default:
		return "ok changed=1\n";
	}
}

static void serve(int listen_fd, struct torture_ledger *ledger)
{
	for (;;) {
		CLEANUP(close_fd) int fd = accept(listen_fd, NULL, NULL);
		struct request request;
		const char *answer;

		if (!world_read_request(fd, &request))
			continue;
		answer = answer_to(&request, ledger);
		if (send(fd, answer, strlen(answer), MSG_NOSIGNAL) < 0)
			torture_fail("send: %s", strerror(errno));
		request_fini(&request);
	}
}

static void *json_memory(size_t n)
{
	return fail_now(FAIL_MEMORY) ? NULL : __real_malloc(n);
}

static void prepare(const char *dir)
{
	(void)dir;
}

static int call_ctl(const char *dir, struct torture_ledger *ledger, char **argv, int argc)
{
	int listen_fd;
	pid_t pid;

	fail_spare(true);
	world_set_env("NNCACHE_SOCKET", "%s/socket", dir);
	if (freopen("/dev/null", "w", stdout) == NULL)
		torture_fail("/dev/null: %s", strerror(errno));
	json_set_alloc_funcs(json_memory, free);
	listen_fd = world_listen(dir);
	pid = fork();
	if (pid == 0)
		serve(listen_fd, ledger);
	close(listen_fd);
	fail_spare(false);
	if (ctl_main(argc, argv) == 0)
		ledger->marks[MARK_SAID_DONE] = 1;
	fail_spare(true);
	world_stop(pid);
	return EXIT_SUCCESS;
}

#define RUN(name, ...)                                                          \
	static int name(const char *dir, struct torture_ledger *ledger)         \
	{                                                                       \
		const char *words[] = { "nncachectl", __VA_ARGS__, NULL };      \
		char *argv[N_ELEMENTS(words)];                                  \
                                                                                \
		for (size_t i = 0; i < N_ELEMENTS(words); i++)                  \
			argv[i] = (char *)(uintptr_t)words[i];                  \
		return call_ctl(dir, ledger, argv, (int)N_ELEMENTS(words) - 1); \
	}

RUN(run_status, "status")
RUN(run_json, "status", "--json")
RUN(run_list, "list", "--json")
RUN(run_push, "push", "--no-wait", PATH)
RUN(run_wait, "push", "--json", PATH)

static void judge(const char *dir, struct torture_ledger *ledger)
{
	(void)dir;
	(void)ledger;
}

static void judge_push(const char *dir, struct torture_ledger *ledger)
{
	(void)dir;
	if (ledger->marks[MARK_SAID_DONE] && !ledger->marks[MARK_PUSHED])
		torture_fail("it says that a path is accepted which nobody was asked to take");
	if (!ledger->was_hit && !ledger->marks[MARK_SAID_DONE])
		torture_fail("nothing failed, and it says that something did");
}

int main(int argc, char **argv)
{
	static const struct torture_scenario scenarios[] = {
		{ "ctl-status", prepare, run_status, judge, .n_sample = 6 },
		{ "ctl-json", prepare, run_json, judge, .n_sample = 6 },
		{ "ctl-list", prepare, run_list, judge, .n_sample = 6 },
		{ "ctl-push", prepare, run_push, judge_push, .n_sample = 6 },
		{ "ctl-push-and-wait", prepare, run_wait, judge_push, .n_sample = 6 },
	};

	return torture_main(argc, argv, scenarios, N_ELEMENTS(scenarios));
}
