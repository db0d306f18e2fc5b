#include "ctl/job/job.h"

/* Who finds the directory can go on with it: the queue, the spool and the roots are all there. */
static void tell_where(const struct job *job)
{
	ctl_say("what is left is kept in %s; to go on with it: nncached --scratch %s --config %s", job->dir,
	        job->dir, job->config);
}

bool job_finish(struct job *job, uint64_t drain_s, int command_status, struct drained *ret)
{
	bool went_well;

	job_drain(job, drain_s, ret);
	summary_show(job, ret, command_status);
	if (ret->status == NULL)
		daemon_show_log(job);
	daemon_stop(job);
	went_well = ret->is_finished && ret->n_missed == 0;
	if (!ret->is_finished)
		tell_where(job);
	else if (job->is_session)
		scratch_remove_but_hook(job);
	else
		scratch_remove(job);
	if (!went_well && job->is_best_effort)
		ctl_say("NOT ALL WAS UPLOADED; with --best-effort that is no failure");
	return went_well || job->is_best_effort;
}
