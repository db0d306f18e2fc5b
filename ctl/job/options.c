#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/job/job.h"
#include "ctl/model.h"

/* They become lines of a configuration. */
static bool has_control(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return true;
	return false;
}

static int check_lines(const struct ctl *ctl, const char *option, size_t n_max)
{
	const char *values[JOB_FILTERS_MAX];
	size_t n = args_get_all(&ctl->args, option, values, n_max);

	if (n > n_max)
		return ctl_usage(ctl, "--%s: given more than %zu times", option, n_max);
	for (size_t i = 0; i < n; i++)
		if (*values[i] == '\0' || has_control(values[i]))
			return ctl_usage(ctl, "--%s: \"%s\" is empty or has a control character", option,
			                 values[i]);
	return CTL_DONE;
}

static int check_caches(const struct job *job)
{
	const struct ctl *ctl = job->ctl;
	const struct args *args = &ctl->args;
	bool has_config = args_has(args, "config");

	if (has_config && args_has(args, "cache"))
		return ctl_usage(ctl, "--cache or --config, not both: a file may name any number of caches");
	if (has_config && args_has(args, "exclude-roots"))
		return ctl_usage(ctl,
		                 "--exclude-roots goes with --cache; with --config it stands in the file");
	if (!has_config && !args_has(args, "cache") && job->pushes)
		return ctl_usage(ctl, "upload where? --cache URL, or --config FILE");
	if (check_lines(ctl, "cache", JOB_CACHES_MAX) != CTL_DONE ||
	    check_lines(ctl, "exclude-roots", JOB_FILTERS_MAX) != CTL_DONE)
		return CTL_USAGE;
	return CTL_DONE;
}

static int make_absolute(const struct job *job, const char *path, char ret[PATH_MAX])
{
	int n = *path == '/' ? snprintf(ret, PATH_MAX, "%s", path)
	                     : snprintf(ret, PATH_MAX, "%s/%s", job->cwd, path);

	return n < PATH_MAX ? 0 : -1;
}

static int read_also(struct job *job)
{
	const char **values = calloc(JOB_ALSO_MAX, sizeof(*values));
	size_t n = values != NULL ? args_get_all(&job->ctl->args, "also", values, JOB_ALSO_MAX) : 0;
	char path[PATH_MAX];
	int status = CTL_DONE;

	if (n > JOB_ALSO_MAX)
		status = ctl_usage(job->ctl, "--also: given more than %d times", JOB_ALSO_MAX);
	for (size_t i = 0; i < n && status == CTL_DONE; i++) {
		if (make_absolute(job, values[i], path) < 0)
			status = ctl_usage(job->ctl, "--also: \"%.100s...\" is too long", values[i]);
		else
			json_array_append_new(job->also, model_text(path));
	}
	free(values);
	return status;
}

static int read_config(struct job *job)
{
	const char *file = args_get(&job->ctl->args, "config");

	if (file != NULL && (*file == '\0' || make_absolute(job, file, job->config) < 0))
		return ctl_usage(job->ctl, "--config: \"%.100s\" is no path of a file", file);
	return CTL_DONE;
}

int job_init(struct job *job, struct ctl *ctl)
{
	*job = (struct job){ .ctl = ctl, .also = json_array(), .results = json_object() };
	job->pushes = !args_has(&ctl->args, "no-push");
	job->is_best_effort = args_has(&ctl->args, "best-effort");
	if (getcwd(job->cwd, sizeof(job->cwd)) == NULL)
		return ctl_usage(ctl, "the current directory: %s", strerror(errno));
	if (ctl_get_seconds(ctl, "drain-timeout", &job->drain_s) != CTL_DONE ||
	    check_caches(job) != CTL_DONE || read_config(job) != CTL_DONE || read_also(job) != CTL_DONE)
		return CTL_USAGE;
	if (job->drain_s == 0)
		job->drain_s = JOB_DRAIN_S_DEFAULT;
	return CTL_DONE;
}

void job_fini(struct job *job)
{
	json_decref(job->also);
	json_decref(job->results);
}
