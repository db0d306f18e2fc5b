/* Whether Nix takes a hook from this user, and how it is told of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "ctl/connect.h"
#include "ctl/job/job.h"
#include "ctl/program.h"

#define PROBE_MS 2000

void hook_check(struct job *job)
{
	static const char *const args[] = { "--nix-trust", NULL };
	CLEANUP(buf_fini) struct buf out = { .max = KIB(4) };
	const char *why = NULL;

	if (program_ask_nncached(args, true, &out) == 0 && strcmp(buf_text(&out), "untrusted\n") == 0)
		why = "nix-daemon takes no post-build-hook from this user, who is not among its "
		      "trusted-users";
	else if (strcmp(buf_text(&out), "apart\n") == 0)
		why = "nix-daemon runs outside of this container, or as a third user, and cannot run our "
		      "post-build-hook";
	job->has_hook = why == NULL;
	if (why != NULL)
		ctl_say("%s: only ./result* and what --also names is uploaded", why);
}

char *hook_nix_config(const struct job *job)
{
	const char *old = getenv("NIX_CONFIG");
	char *text = NULL;

	if (!job->has_hook)
		return strdup(old != NULL ? old : "");
	if (asprintf(&text, "%s%spost-build-hook = %s/hook", old != NULL ? old : "",
	             old != NULL && *old != '\0' ? "\n" : "", job->dir) < 0)
		return NULL;
	return text;
}

bool hook_was_called(const struct job *job)
{
	struct request req = { .verb = VERB_WAIT, .tag = JOB_TAG };
	struct call call = { .deadline_mono_ms = clock_mono_ms() + PROBE_MS };
	enum call_result result = call_run(&call, job->ctl->socket, &req, NULL, NULL);
	bool is_unknown = result == CALL_REFUSED && call.answer.kind == ANSWER_UNKNOWN;

	call_close(&call);
	return !is_unknown;
}
