/* What the files of run and session share: a job, which is a private daemon in a scratch directory, the hook
 * that hands over to it, and what is done at the end.
 *
 *     DIR/hook -> the hook   DIR/hook.env   what post-build-hook is set to in NIX_CONFIG
 *     DIR/nncache.conf       made from --cache
 *     DIR/NAME.token, .key   secrets from the environment, mode 0600
 *     DIR/socket state spool roots log      the daemon's (nncached --scratch DIR)
 *     DIR/session            of a session: the job
 *
 * DIR has mode 0700. The hook gets in as this user (a store of his own) or as root (by nix-daemon).
 * Everything here blocks and runs on the only thread. */
#ifndef CTL_JOB_JOB_H
#define CTL_JOB_JOB_H

#include <limits.h>

#include "ctl/ctl.h"

/* Leaves room for "/socket". */
#define JOB_DIR_SIZE        (CLIENT_PATH_SIZE - 8)
#define JOB_TAG             "job"
#define JOB_CACHES_MAX      16
#define JOB_FILTERS_MAX     64
#define JOB_ALSO_MAX        1024
#define JOB_DRAIN_S_DEFAULT 1800
#define JOB_DRAIN_S_SIGNAL  5
/* Of `run` itself, as of env(1) and timeout(1). */
#define JOB_EXIT_OURS      125
#define JOB_EXIT_NOT_RUN   126
#define JOB_EXIT_NOT_FOUND 127

struct job {
	struct ctl *ctl;
	char dir[JOB_DIR_SIZE]; /* "": none */
	char config[PATH_MAX];  /* the daemon's configuration: DIR/nncache.conf, or FILE */
	json_t *also;           /* array: absolute paths, not looked at before the end */
	json_t *results;        /* object: the result links that were there, see results.c */
	char cwd[PATH_MAX];     /* where result links are looked for */
	uint64_t drain_s;
	bool is_best_effort, is_session;
	bool pushes;   /* --no-push was not given */
	bool has_hook; /* Nix takes it from this user */
	pid_t daemon;  /* our child; 0: none, or not ours */
	/* Asked now and then while the job drains: is a signal here, after which to stop? NULL: never. */
	bool (*is_interrupted)(void);
};

/* ---- options.c */

/* Fills JOB from the options of `run` and `session start`. JOB is to be freed also after a failure.
 * Returns CTL_DONE or CTL_USAGE. */
int job_init(struct job *job, struct ctl *ctl);
void job_fini(struct job *job);

/* ---- begin.c */

/* Makes the directory, says what Nix and the caches will not do, starts the daemon. What is wrong is said;
 * there is no directory then. */
int job_begin(struct job *job) MUST_CHECK;

/* ---- scratch.c */

/* Makes the directory, with the hook in it; and removes it. */
int scratch_make(struct job *job, struct error *err) MUST_CHECK;
void scratch_remove(const struct job *job);
/* Leaves the hook alone: a shell whose NIX_CONFIG names it can still build. */
void scratch_remove_but_hook(const struct job *job);
/* Writes DIR/NAME, mode 0600; there must be no such file. */
int scratch_write(const struct job *job, const char *name, const char *text, size_t len, struct error *err)
	MUST_CHECK;

/* ---- caches.c */

/* Writes DIR/nncache.conf for the --cache URLs of JOB, and the secrets that the environment has for them;
 * says which of them are only read. */
int caches_write(struct job *job, struct error *err) MUST_CHECK;
/* Takes out of the environment of this process the secrets that are in files now; with FOR_DAEMON, also those
 * that others than we may want. */
void caches_forget_secrets(const struct job *job, bool for_daemon);

/* ---- daemon.c */

/* Starts it and waits until it answers; what is wrong is said. */
int daemon_start(struct job *job) MUST_CHECK;
/* Starts it again if it is gone. */
int daemon_ensure(struct job *job) MUST_CHECK;
void daemon_stop(struct job *job);
/* Says the last lines of its log. */
void daemon_show_log(const struct job *job);

/* ---- hook.c */

/* Does Nix take our hook? Sets has_hook, and says it loudly if not. */
void hook_check(struct job *job);
/* NIX_CONFIG with the hook behind what there is; the caller's to free. NULL: no memory. */
char *hook_nix_config(const struct job *job);
/* Did a request come with the hook's tag? To be asked when all is drained. */
bool hook_was_called(const struct job *job);

/* ---- results.c */

/* Remembers the links ./result* as they are now. */
int results_look(struct job *job, struct error *err) MUST_CHECK;
/* Adds what those made or changed since then lead to. */
int results_collect(const struct job *job, struct path_list *list, struct error *err) MUST_CHECK;

/* ---- drain.c */

struct drained {
	json_t *status;   /* of `status`, as it was at the end; NULL: the daemon could not be asked */
	bool is_finished; /* all is on the caches, or needs not be */
	bool timed_out;
	char why[256];     /* nothing more was waited for; or "" */
	uint64_t n_missed; /* named by --also, and could not be handed over */
};
/* Hands over what no hook did, and waits until all is uploaded, or nothing that is left can go on, or
 * DRAIN_S are over. */
void job_drain(struct job *job, uint64_t drain_s, struct drained *ret);
void drained_fini(struct drained *drained);

/* ---- summary.c */

/* On stderr, in $GITHUB_STEP_SUMMARY, and with --json on stdout. COMMAND_STATUS: -1: there was none. */
void summary_show(const struct job *job, const struct drained *drained, int command_status);

/* ---- finish.c */

/* The end of a job, however it came: drains, shows, stops the daemon, and removes the scratch directory
 * unless something is left in it. Returns whether all went well, or need not have. */
bool job_finish(struct job *job, uint64_t drain_s, int command_status, struct drained *ret);

#endif
