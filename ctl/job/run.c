/* run: a daemon for one command. COMMAND has our standard streams, our terminal if there is one, and else a
 * process group of its own, to which signals are passed on whole. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "ctl/job/job.h"

#define SIGNAL_STATUS 128

static const int passed_on[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

struct command {
	pid_t pid;
	bool has_group;
	bool was_signaled; /* we, by one of passed_on */
	sigset_t signals;  /* those, and SIGCHLD: blocked here */
};

/* ---- COMMAND */

/* Are we in the foreground of a terminal? Then COMMAND stays in our group, or it could not read from it. */
static bool has_terminal(void)
{
	CLEANUP(close_fd) int fd = open("/dev/tty", O_RDONLY | O_CLOEXEC | O_NOCTTY);

	return fd >= 0 && tcgetpgrp(fd) == getpgrp();
}

static void become_command(const struct job *job, const struct command *c)
{
	char *const *argv = (char *const *)(uintptr_t)job->ctl->args.operands;
	char *nix_config = hook_nix_config(job);
	sigset_t none;
	int status;

	if (c->has_group)
		setpgid(0, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (job->has_hook && nix_config != NULL)
		setenv("NIX_CONFIG", nix_config, 1);
	if (*job->dir != '\0')
		setenv("NNCACHE_SOCKET", job->ctl->socket, 1);
	caches_forget_secrets(job, false);
	execvp(argv[0], argv);
	status = errno == ENOENT || errno == ENOTDIR ? JOB_EXIT_NOT_FOUND : JOB_EXIT_NOT_RUN;
	ctl_say("%s: %s", argv[0], strerror(errno));
	_exit(status);
}

static int start_command(const struct job *job, struct command *c)
{
	c->has_group = !has_terminal();
	fflush(NULL);
	c->pid = fork();
	if (c->pid == 0)
		become_command(job, c);
	if (c->pid < 0) {
		ctl_say("%s: %s", job->ctl->args.operands[0], strerror(errno));
		return -1;
	}
	if (c->has_group)
		setpgid(c->pid, c->pid); /* in both, so that it is done before either goes on */
	return 0;
}

/* ---- signals */

static void block_signals(struct command *c)
{
	struct sigaction old;

	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&c->signals);
	sigaddset(&c->signals, SIGCHLD);
	for (size_t i = 0; i < N_ELEMENTS(passed_on); i++)
		/* What is ignored, as by nohup(1), stays so. */
		if (sigaction(passed_on[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaddset(&c->signals, passed_on[i]);
	sigprocmask(SIG_BLOCK, &c->signals, NULL);
}

/* What the terminal sent, it sent to COMMAND too. */
static void pass_on(struct command *c, const siginfo_t *info)
{
	c->was_signaled = true;
	if (c->has_group)
		kill(-c->pid, info->si_signo);
	else if (info->si_code != SI_KERNEL)
		kill(c->pid, info->si_signo);
}

/* Returns its exit status. */
static int wait_for_command(struct command *c)
{
	siginfo_t info;
	int status;

	for (;;) {
		pid_t pid = waitpid(c->pid, &status, WNOHANG);

		if (pid == c->pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : SIGNAL_STATUS + WTERMSIG(status);
		if (pid < 0 && errno != EINTR)
			return JOB_EXIT_OURS;
		if (sigwaitinfo(&c->signals, &info) > 0 && info.si_signo != SIGCHLD)
			pass_on(c, &info);
	}
}

/* While we drain there is nobody to pass it on to. */
static bool is_interrupted(void)
{
	static const struct timespec now = { 0 };
	sigset_t signals;
	int number;

	sigprocmask(SIG_SETMASK, NULL, &signals);
	sigdelset(&signals, SIGCHLD);
	number = sigtimedwait(&signals, NULL, &now);
	for (size_t i = 0; i < N_ELEMENTS(passed_on); i++)
		if (number == passed_on[i])
			return true;
	return false;
}

/* ---- the verb */

static int run(struct job *job)
{
	struct command c = { 0 };
	struct drained drained = { 0 };
	bool went_well = true;
	int status;

	block_signals(&c);
	if (job->pushes && job_begin(job) < 0) {
		if (!job->is_best_effort)
			return JOB_EXIT_OURS;
		ctl_say("NOTHING IS UPLOADED; with --best-effort that is no failure");
	}
	status = start_command(job, &c) == 0 ? wait_for_command(&c) : JOB_EXIT_OURS;
	if (*job->dir != '\0') {
		job->is_interrupted = is_interrupted;
		went_well =
			job_finish(job, c.was_signaled ? JOB_DRAIN_S_SIGNAL : job->drain_s, status, &drained);
		drained_fini(&drained);
	}
	return status == 0 && !went_well ? JOB_EXIT_OURS : status;
}

int ctl_run(struct ctl *ctl)
{
	struct job job;
	int status;

	if (ctl->args.n_operands == 0)
		return ctl_usage(ctl, "run what? a command, after --");
	status = job_init(&job, ctl);
	if (status == CTL_DONE)
		status = run(&job);
	job_fini(&job);
	return status;
}
