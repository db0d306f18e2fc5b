/* The beginning of a job: from the options to a daemon that answers. */
#include <errno.h>
#include <string.h>

#include "ctl/job/job.h"
#include "ctl/model.h"
#include "ctl/program.h"

/* A daemon with a broken configuration takes in and uploads nothing; a job has nobody who would mend it. */
static int check_config(const struct job *job, struct error *err)
{
	const char *const args[] = { "--check-config", "--scratch", job->dir, "--config", job->config, NULL };
	CLEANUP(buf_fini) struct buf out = { .max = MIB(1) };
	int status = program_ask_nncached(args, false, &out);

	if (status == 0)
		return 0;
	if (status < 0)
		return error_set(err, ERROR_OPERATOR, "nncached: %s", strerror(errno));
	ctl_say("%s", buf_text(&out));
	return error_set(err, ERROR_OPERATOR, "%s", "the caches are not configured right");
}

/* Those that the daemon found no credentials for; of the others it was said when they were written. */
static void tell_only_read(const struct job *job)
{
	json_t *model = NULL, *cache;
	size_t i;

	if (status_fetch(job->ctl, &model) == CTL_DONE)
		json_array_foreach(json_object_get(model, "caches"), i, cache)
		{
			const char *message = model_get_text(cache, "message");

			if (strcmp(model_get_text(cache, "state"), "off") == 0 &&
			    strstr(message, "auto") != NULL)
				ctl_say("%s is %s", model_get_text(cache, "name"), message);
		}
	json_decref(model);
}

static int begin(struct job *job, struct error *err)
{
	if (scratch_make(job, err) < 0 || (*job->config == '\0' && caches_write(job, err) < 0) ||
	    check_config(job, err) < 0 || results_look(job, err) < 0)
		return -1;
	hook_check(job);
	if (daemon_start(job) < 0)
		return error_set(err, ERROR_OPERATOR, "%s", "without it nothing is uploaded");
	tell_only_read(job);
	return 0;
}

int job_begin(struct job *job)
{
	struct error err;

	if (begin(job, &err) == 0)
		return 0;
	ctl_say("%s", err.text);
	scratch_remove(job);
	job->dir[0] = '\0';
	return -1;
}
