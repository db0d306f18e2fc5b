/* The private daemon. It is in a session of its own, so that a Ctrl-C for COMMAND is none for it, and ends
 * with us unless it is of a session; killed, it leaves everything in the scratch directory. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "ctl/job/job.h"
#include "ctl/model.h"
#include "ctl/program.h"

#define START_MS   60000
#define LOOK_US    20000
#define STOP_MS    20000
#define STOP_AGAIN 15 /* looks between two signals: a second one ends stop-drain */
#define LOG_LINES  12
#define LOG_TAIL   KIB(8)
#define FIRST_FD   3

/* ---- its log */

static void log_path(const struct job *job, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/log", job->dir);
}

void daemon_show_log(const struct job *job)
{
	CLEANUP(close_fd) int fd = -1;
	char path[PATH_MAX], text[LOG_TAIL + 1], *from;
	ssize_t n;
	off_t size;

	log_path(job, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	size = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
	if (size < 0 || lseek(fd, size > (off_t)LOG_TAIL ? size - (off_t)LOG_TAIL : 0, SEEK_SET) < 0)
		return;
	n = read_full(fd, text, LOG_TAIL);
	if (n <= 0)
		return;
	text[n] = '\0';
	from = text + n;
	for (unsigned i = 0; from > text; from--)
		if (from[-1] == '\n' && from < text + n && ++i == LOG_LINES)
			break;
	ctl_say("the end of the log of its nncached:\n%s", from);
}

/* ---- starting */

static void become_daemon(const struct job *job, pid_t parent)
{
	const char *const args[] = { "--foreground", "--scratch", job->dir, "--config", job->config, NULL };
	char path[PATH_MAX];
	sigset_t none;
	int fd;

	setsid();
	if (!job->is_session && (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent))
		_exit(JOB_EXIT_OURS);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	log_path(job, path);
	fd = open("/dev/null", O_RDWR);
	if (fd >= 0)
		dup2(fd, STDIN_FILENO);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0 || chdir("/") < 0)
		_exit(JOB_EXIT_OURS);
	/* A pipe that somebody reads to its end must not wait for us. */
	close_range(FIRST_FD, ~0U, 0);
	caches_forget_secrets(job, true);
	program_become_nncached(args);
	dprintf(STDERR_FILENO, "nncached: %s\n", strerror(errno));
	_exit(JOB_EXIT_NOT_RUN);
}

static bool answers(const struct job *job)
{
	struct client client = { .fd = -1 };
	struct error err;
	bool is_there = client_open(&client, job->ctl->socket, clock_mono_ms() + 1000, &err) == 0;

	client_close(&client);
	return is_there;
}

static bool has_ended(struct job *job)
{
	int status;

	if (job->daemon == 0 || waitpid(job->daemon, &status, WNOHANG) != job->daemon)
		return false;
	job->daemon = 0;
	return true;
}

int daemon_start(struct job *job)
{
	uint64_t deadline = clock_mono_ms() + START_MS;
	pid_t parent = getpid();

	job->daemon = fork();
	if (job->daemon == 0)
		become_daemon(job, parent);
	if (job->daemon < 0) {
		job->daemon = 0;
		ctl_say("its nncached cannot be started: %s", strerror(errno));
		return -1;
	}
	/* Its socket is there once it serves. */
	while (!answers(job)) {
		if (has_ended(job) || clock_mono_ms() > deadline) {
			ctl_say("its nncached %s", job->daemon == 0 ? "ended" : "does not answer");
			daemon_show_log(job);
			daemon_stop(job);
			return -1;
		}
		usleep(LOOK_US);
	}
	return 0;
}

int daemon_ensure(struct job *job)
{
	if (!has_ended(job) && answers(job))
		return 0;
	ctl_say("its nncached is gone, starting it again");
	daemon_stop(job);
	return daemon_start(job);
}

/* ---- stopping */

/* Of one that is not our child: who listens at the socket now. */
static pid_t ask_pid(const struct job *job)
{
	json_t *model = NULL;
	pid_t pid = 0;

	if (answers(job) && status_fetch(job->ctl, &model) == CTL_DONE)
		pid = (pid_t)model_get_int(model, "pid");
	json_decref(model);
	return pid;
}

static bool is_gone(struct job *job, pid_t pid)
{
	return job->daemon != 0 ? has_ended(job) : kill(pid, 0) < 0;
}

void daemon_stop(struct job *job)
{
	pid_t pid = job->daemon != 0 ? job->daemon : ask_pid(job);
	uint64_t deadline = clock_mono_ms() + STOP_MS;

	if (pid <= 0)
		return;
	for (unsigned i = 0; !is_gone(job, pid); i++) {
		if (clock_mono_ms() > deadline)
			kill(pid, SIGKILL);
		else if (i % STOP_AGAIN == 0)
			kill(pid, SIGTERM);
		usleep(LOOK_US);
	}
}
