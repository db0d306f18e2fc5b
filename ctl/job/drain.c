/* The end of a job: what no hook handed over is pushed, then all is waited for, a second at a time, so that a
 * signal is seen, and so is a cache that a person must mend: nobody will, while the job waits. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/spool.h"
#include "ctl/connect.h"
#include "ctl/job/job.h"
#include "ctl/model.h"

#define SLICE_MS     500
#define PROGRESS_MS  10000
#define RESTARTS_MAX 3

/* ---- what no hook handed over */

/* But what one did; whole requests are refused for one bad path, so each has its own. */
static void push_each(const struct job *job, const struct path_list *list, struct drained *ret)
{
	for (size_t i = 0; i < list->n; i++) {
		struct path_list one = { &list->items[i], 1 };
		struct request base = { 0 };
		struct push_result pushed = { 0 };
		bool is_known = false;

		if (wait_is_known(job->ctl, list->items[i], &is_known) == CTL_DONE && is_known)
			continue;
		if (push_run(job->ctl, &one, &base, &pushed) != CTL_DONE)
			ret->n_missed++;
		json_decref(pushed.request_ids);
	}
}

static void collect_also(const struct job *job, struct path_list *list, struct drained *ret)
{
	char path[STORE_PATH_SIZE];
	struct error err;
	json_t *also;
	size_t i;

	json_array_foreach(job->also, i, also)
	{
		if (paths_resolve(json_string_value(also), paths_store_dir(), path, &err) == 0 &&
		    path_list_add(list, path, &err) == 0)
			continue;
		ctl_say("--also: %s", err.text);
		ret->n_missed++;
	}
}

/* A hook that was killed leaves its root, BASE.PID.NANOSECONDS, and nothing else. */
static int collect_roots(const struct job *job, struct path_list *list, struct error *err)
{
	char dir_path[PATH_MAX], target[PATH_MAX];
	struct dirent *entry;
	DIR *dir;
	int rc = 0;

	snprintf(dir_path, sizeof(dir_path), "%s/roots", job->dir);
	dir = opendir(dir_path);
	while (dir != NULL && rc == 0 && (entry = readdir(dir)) != NULL) {
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		if (n <= 0 || entry->d_name[0] == '.')
			continue;
		target[n] = '\0';
		if (store_path_is_valid(target, paths_store_dir()) && !store_path_is_derivation(target) &&
		    strcmp(store_path_base(target), entry->d_name) != 0)
			rc = path_list_add(list, target, err);
	}
	if (dir != NULL)
		closedir(dir);
	return rc;
}

/* Did one of LIST come into the store after the job had begun? */
static bool has_new(const struct job *job, const struct path_list *list)
{
	char begun_file[PATH_MAX];
	struct stat begun, st;

	snprintf(begun_file, sizeof(begun_file), "%s/hook.env", job->dir);
	if (stat(begun_file, &begun) < 0)
		return false;
	for (size_t i = 0; i < list->n; i++)
		if (lstat(list->items[i], &st) == 0 && st.st_ctim.tv_sec >= begun.st_mtim.tv_sec)
			return true;
	return false;
}

/* Returns whether new paths are among those that were named. */
static bool push_named(const struct job *job, struct drained *ret)
{
	struct path_list list = { 0 };
	struct error err;
	bool is_new;

	collect_also(job, &list, ret);
	if (results_collect(job, &list, &err) < 0) {
		ctl_say("%s", err.text);
		ret->n_missed++;
	}
	is_new = has_new(job, &list);
	if (collect_roots(job, &list, &err) < 0) {
		ctl_say("%s", err.text);
		ret->n_missed++;
	}
	path_list_sort(&list);
	push_each(job, &list, ret);
	path_list_fini(&list);
	return is_new;
}

static bool spool_is_empty(const struct job *job)
{
	char path[PATH_MAX];
	struct dirent *entry;
	bool is_empty = true;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/spool", job->dir);
	dir = opendir(path);
	while (dir != NULL && is_empty && (entry = readdir(dir)) != NULL)
		is_empty = !spool_name_parse(entry->d_name, NULL);
	if (dir != NULL)
		closedir(dir);
	return is_empty;
}

/* ---- is it worth waiting? */

/* The text of a fault of CACHE that only a person can mend, if nothing else of it goes on; or NULL. */
static const char *hopeless_fault(const json_t *model, const json_t *cache)
{
	const char *name = model_get_text(cache, "name"), *kind = model_get_text(cache, "message_kind");
	const char *text = NULL;
	json_t *cause;
	size_t i;

	if (model_get_uint(cache, "in_flight") > 0)
		return NULL;
	if (strcmp(kind, "operator") == 0 || strcmp(kind, "permanent") == 0)
		return model_get_text(cache, "message");
	if (model_get_uint(cache, "ready") > 0 || model_get_uint(cache, "delayed") == 0)
		return NULL;
	json_array_foreach(json_object_get(model, "causes"), i, cause)
	{
		if (strcmp(model_get_text(cause, "cache"), name) != 0 ||
		    strcmp(model_get_text(cause, "state"), "delayed") != 0)
			continue;
		if (strcmp(model_get_text(cause, "kind"), "operator") != 0)
			return NULL;
		text = model_get_text(cause, "text");
	}
	return text;
}

/* Writes to WHY what is wrong, if it is so on every cache that has something left. */
static bool is_hopeless(const json_t *model, char *why, size_t size)
{
	bool has_fault = false;
	json_t *cache;
	size_t i;

	if (model_get_uint(json_object_get(model, "queue"), "resolving") > 0)
		return false;
	json_array_foreach(json_object_get(model, "caches"), i, cache)
	{
		uint64_t n_stuck = model_get_uint(cache, "failed") + model_get_uint(cache, "blocked");
		const char *fault;

		if (model_get_uint(cache, "unfinished") <= n_stuck)
			continue;
		fault = hopeless_fault(model, cache);
		if (fault == NULL)
			return false;
		snprintf(why, size, "%s: %s", model_get_text(cache, "name"), fault);
		has_fault = true;
	}
	return has_fault;
}

/* ---- waiting */

struct draining {
	const struct job *job;
	uint64_t deadline_mono_ms, shown_mono_ms;
	unsigned n_restarts;
	struct drained *ret;
};

static void take_status(const struct job *job, struct drained *ret)
{
	json_t *model = NULL;

	if (status_fetch(job->ctl, &model) != CTL_DONE) {
		json_decref(model);
		return;
	}
	json_decref(ret->status);
	ret->status = model;
}

/* For a log; on a terminal there is a bar. */
static void show_progress(struct draining *d, const struct wait_result *result)
{
	uint64_t now = clock_mono_ms();

	if (isatty(STDERR_FILENO) != 0 || now - d->shown_mono_ms < PROGRESS_MS)
		return;
	d->shown_mono_ms = now;
	ctl_say("waiting for uploads, %" PRIu64 " of %" PRIu64 " paths to go", result->n_unfinished,
	        result->n_total);
}

/* One slice of time. Returns whether to go on. */
static bool wait_slice(struct draining *d, struct job *job)
{
	struct request req = { .verb = VERB_WAIT };
	struct wait_result result = { 0 };
	uint64_t end = clock_mono_ms() + SLICE_MS;
	/* Before the wait: what leaves the spool is then among that which is waited for. */
	bool was_empty = spool_is_empty(job);
	int status;

	status = wait_run(job->ctl, &req, end < d->deadline_mono_ms ? end : d->deadline_mono_ms, &result);
	json_decref(result.causes);
	if (status == CTL_UNREACHABLE)
		return d->n_restarts++ < RESTARTS_MAX && daemon_ensure(job) == 0;
	if (status == CTL_DONE)
		return !was_empty && usleep(SLICE_MS * 200) == 0;
	if (status != CTL_TIMEOUT)
		return false;
	show_progress(d, &result);
	take_status(job, d->ret);
	return !is_hopeless(d->ret->status, d->ret->why, sizeof(d->ret->why));
}

static void wait_for_all(struct job *job, uint64_t drain_s, struct drained *ret)
{
	struct draining d = { .job = job, .ret = ret };

	d.shown_mono_ms = clock_mono_ms();
	d.deadline_mono_ms = d.shown_mono_ms + drain_s * 1000;
	while (wait_slice(&d, job)) {
		if (job->is_interrupted != NULL && job->is_interrupted()) {
			snprintf(ret->why, sizeof(ret->why), "interrupted");
			return;
		}
		if (clock_mono_ms() >= d.deadline_mono_ms) {
			ret->timed_out = true;
			return;
		}
	}
}

void job_drain(struct job *job, uint64_t drain_s, struct drained *ret)
{
	bool is_new;

	*ret = (struct drained){ 0 };
	if (daemon_ensure(job) < 0)
		return;
	is_new = push_named(job, ret);
	wait_for_all(job, drain_s, ret);
	take_status(job, ret);
	ret->is_finished = ret->status != NULL && spool_is_empty(job) &&
	                   model_get_uint(json_object_get(ret->status, "queue"), "unfinished") == 0;
	if (ret->status != NULL && is_new && job->has_hook && !hook_was_called(job))
		ctl_say("no hook call came although paths appeared: all of them were substituted, or Nix "
		        "does "
		        "not take our post-build-hook; only ./result* and what --also names was uploaded");
}

void drained_fini(struct drained *drained)
{
	json_decref(drained->status);
	drained->status = NULL;
}
