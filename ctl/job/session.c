/* session: a job whose commands are the steps of a CI job, in processes that we are no parent of. What
 * connects them is the environment: GitHub's file of variables, or exports for the shell that started the
 * session. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "ctl/job/job.h"
#include "ctl/model.h"

#define SESSION_ENV  "NNCACHE_SESSION"
#define SOCKET_ENV   "NNCACHE_SOCKET"
#define ENV_TEXT_MAX MIB(1)

/* ---- variables */

struct variable {
	const char *name, *value;
};

/* NAME<<WORD, the value, WORD: lines of the value cannot end it, since nobody knows WORD before. */
static void put_github(struct buf *out, const struct variable *v)
{
	uint64_t random[2] = { 0 };

	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		random[0] = (uint64_t)getpid();
	buf_printf(out,
	           "%s<<nncache-%016" PRIx64 "%016" PRIx64 "\n%s\nnncache-%016" PRIx64 "%016" PRIx64 "\n",
	           v->name, random[0], random[1], v->value, random[0], random[1]);
}

static void put_export(struct buf *out, const struct variable *v)
{
	buf_printf(out, "export %s='", v->name);
	for (const char *p = v->value; *p != '\0'; p++) {
		if (*p == '\'')
			buf_puts(out, "'\\''");
		else
			buf_putc(out, *p);
	}
	buf_puts(out, "'\n");
}

static const char *github_file(void)
{
	const char *file = getenv("GITHUB_ENV");

	return file != NULL && *file != '\0' ? file : NULL;
}

static int append_github(const struct variable *v, size_t n, struct error *err)
{
	CLEANUP(buf_fini) struct buf out = { .max = ENV_TEXT_MAX };
	CLEANUP(close_fd)
	int fd = open(github_file(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644);

	for (size_t i = 0; i < n; i++)
		put_github(&out, &v[i]);
	if (fd < 0 || !buf_ok(&out) || write_full(fd, buf_text(&out), out.len) < 0)
		return error_set(err, ERROR_OPERATOR, "GITHUB_ENV: %.300s: %s", github_file(),
		                 strerror(errno));
	return 0;
}

static int print_exports(const struct variable *v, size_t n, struct error *err)
{
	CLEANUP(buf_fini) struct buf out = { .max = ENV_TEXT_MAX };

	for (size_t i = 0; i < n; i++)
		put_export(&out, &v[i]);
	fputs(buf_text(&out), stdout);
	if (!buf_ok(&out) || fflush(stdout) != 0)
		return error_set(err, ERROR_OPERATOR, "standard output: %s", strerror(errno));
	return 0;
}

static int print_json(const struct job *job, const char *nix_config, struct error *err)
{
	json_t *model = json_pack("{s:o, s:o, s:b, s:o}", "session", model_text(job->dir), "socket",
	                          model_text(job->ctl->socket), "hook", job->has_hook, "nix_config",
	                          model_text(nix_config));

	if (output_json(model, JSON_INDENT(2)) < 0)
		return error_set(err, ERROR_OPERATOR, "standard output: %s", strerror(errno));
	return 0;
}

/* ---- the job, from start to stop */

static int save(const struct job *job, struct error *err)
{
	const char *nix_config = getenv("NIX_CONFIG");
	json_t *model =
		json_pack("{s:o, s:o, s:O, s:O, s:I, s:b, s:b, s:o}", "config", model_text(job->config),
	                  "cwd", model_text(job->cwd), "also", job->also, "results", job->results, "drain_s",
	                  (json_int_t)job->drain_s, "best_effort", job->is_best_effort, "hook", job->has_hook,
	                  "nix_config", model_text(nix_config != NULL ? nix_config : ""));
	char *text = json_dumps(model, JSON_COMPACT);
	int rc = text != NULL ? scratch_write(job, "session", text, strlen(text), err)
	                      : error_set(err, ERROR_TRANSIENT, "out of memory");

	free(text);
	json_decref(model);
	return rc;
}

static int load(struct job *job, json_t **ret_model, struct error *err)
{
	char path[PATH_MAX];
	json_error_t why;
	json_t *model;

	snprintf(path, sizeof(path), "%s/session", job->dir);
	model = json_load_file(path, 0, &why);
	if (model == NULL)
		return error_set(err, ERROR_OPERATOR, "%s: %s; was it stopped already?", path, why.text);
	snprintf(job->config, sizeof(job->config), "%s", model_get_text(model, "config"));
	snprintf(job->cwd, sizeof(job->cwd), "%s", model_get_text(model, "cwd"));
	job->also = json_incref(json_object_get(model, "also"));
	job->results = json_incref(json_object_get(model, "results"));
	job->drain_s = model_get_uint(model, "drain_s");
	job->is_best_effort = json_is_true(json_object_get(model, "best_effort"));
	job->has_hook = json_is_true(json_object_get(model, "hook"));
	*ret_model = model;
	return 0;
}

/* ---- start */

static int hand_out(const struct job *job, struct error *err)
{
	char *nix_config = hook_nix_config(job);
	const struct variable variables[] = {
		{ SESSION_ENV, job->dir },
		{ SOCKET_ENV, job->ctl->socket },
		{ "NIX_CONFIG", nix_config != NULL ? nix_config : "" },
	};
	int rc;

	if (github_file() != NULL)
		rc = append_github(variables, N_ELEMENTS(variables), err);
	else if (!job->ctl->json)
		rc = print_exports(variables, N_ELEMENTS(variables), err);
	else
		rc = 0;
	if (rc == 0 && job->ctl->json)
		rc = print_json(job, nix_config, err);
	free(nix_config);
	return rc;
}

static int start(struct job *job)
{
	struct error err;

	job->is_session = true;
	if (!job->pushes)
		return CTL_DONE;
	if (job_begin(job) < 0) {
		if (job->is_best_effort)
			ctl_say("NOTHING IS UPLOADED; with --best-effort that is no failure");
		return job->is_best_effort ? CTL_DONE : CTL_FAILED;
	}
	if (save(job, &err) == 0 && hand_out(job, &err) == 0)
		return CTL_DONE;
	ctl_say("%s", err.text);
	daemon_stop(job);
	scratch_remove(job);
	return CTL_FAILED;
}

static int session_start(struct ctl *ctl)
{
	struct job job;
	int status = job_init(&job, ctl);

	if (status == CTL_DONE)
		status = start(&job);
	job_fini(&job);
	return status;
}

/* ---- stop */

/* Whoever else could write there could have us run and send what he likes. */
static int take_dir(struct job *job, const char *dir, struct error *err)
{
	struct stat st;

	if (*dir != '/' || snprintf(job->dir, sizeof(job->dir), "%s", dir) >= (int)sizeof(job->dir) ||
	    snprintf(job->ctl->socket, sizeof(job->ctl->socket), "%s/socket", dir) >=
	            (int)sizeof(job->ctl->socket))
		return error_set(err, ERROR_OPERATOR, SESSION_ENV ": \"%.100s\" is no directory of a session",
		                 dir);
	if (lstat(dir, &st) < 0)
		return error_set(err, ERROR_OPERATOR, SESSION_ENV ": %s: %s", dir, strerror(errno));
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0)
		return error_set(err, ERROR_OPERATOR,
		                 SESSION_ENV ": %s is no directory of this user's, closed to others", dir);
	return 0;
}

/* The steps that follow have no hook any more. */
static void give_back(const char *nix_config)
{
	const struct variable variables[] = {
		{ SESSION_ENV, "" },
		{ SOCKET_ENV, "" },
		{ "NIX_CONFIG", nix_config },
	};
	struct error err;

	if (github_file() != NULL && append_github(variables, N_ELEMENTS(variables), &err) < 0)
		ctl_say("%s", err.text);
}

static int stop(struct job *job, const char *dir)
{
	struct drained drained = { 0 };
	json_t *model = NULL;
	struct error err;
	bool went_well;

	job->is_session = true;
	if (take_dir(job, dir, &err) < 0 || load(job, &model, &err) < 0) {
		ctl_say("%s", err.text);
		return CTL_FAILED;
	}
	went_well = job_finish(job, job->drain_s, -1, &drained);
	give_back(model_get_text(model, "nix_config"));
	json_decref(model);
	drained_fini(&drained);
	return went_well ? CTL_DONE : drained.timed_out ? CTL_TIMEOUT : CTL_PATHS;
}

static int session_stop(struct ctl *ctl)
{
	const char *dir = getenv(SESSION_ENV);
	struct job job = { .ctl = ctl };
	int status;

	if (dir == NULL || *dir == '\0') {
		ctl_say("there is no session: " SESSION_ENV " is not set; nothing to stop");
		return CTL_DONE;
	}
	status = stop(&job, dir);
	job_fini(&job);
	return status;
}

int ctl_session(struct ctl *ctl)
{
	const struct args *args = &ctl->args;

	if (args->n_operands != 1)
		return ctl_usage(ctl, "session start or session stop");
	if (strcmp(args->operands[0], "start") == 0)
		return session_start(ctl);
	if (strcmp(args->operands[0], "stop") == 0)
		return session_stop(ctl);
	return ctl_usage(ctl, "session: \"%s\" is neither start nor stop", args->operands[0]);
}
