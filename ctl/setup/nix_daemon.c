/* The process is found in /proc, since not every machine has systemd, and systemd's word for when it started
 * is no better than the kernel's. */
#include "ctl/setup/nix_daemon.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/fd.h"

#define ENVIRON_MAX_BYTES MIB(2) /* what execve takes */

/* ---- finding --------------------------------------------------------------------------------- */

/* Up to N - 1 bytes of /proc/PID/NAME, which has no length before it is read. Returns the bytes, or -1. */
static ssize_t read_proc(const char *pid, const char *name, char *data, size_t n)
{
	char path[64];
	CLEANUP(close_fd) int fd = -1;
	ssize_t n_read;

	snprintf(path, sizeof(path), "/proc/%.16s/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n_read = fd >= 0 ? read_full(fd, data, n - 1) : -1;
	if (n_read >= 0)
		data[n_read] = '\0';
	return n_read;
}

static const char *conf_dir_of(const char *value)
{
	return value != NULL && *value != '\0' ? value : "/etc/nix";
}

/* A container has daemons of its own, with files of their own. */
static bool has_our_root(const char *pid)
{
	char path[64];
	struct stat theirs, ours;

	snprintf(path, sizeof(path), "/proc/%.16s/root/", pid);
	if (stat(path, &theirs) < 0 || stat("/", &ours) < 0)
		return true;
	return theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino;
}

static bool has_our_conf_dir(const char *pid)
{
	static const char name[] = "NIX_CONF_DIR=";
	const char *theirs = NULL;
	char *data = malloc(ENVIRON_MAX_BYTES);
	ssize_t n = data != NULL ? read_proc(pid, "environ", data, ENVIRON_MAX_BYTES) : -1;
	bool is_ours;

	for (ssize_t i = 0; i < n; i += (ssize_t)strlen(data + i) + 1)
		if (strncmp(data + i, name, strlen(name)) == 0)
			theirs = data + i + strlen(name);
	is_ours = n < 0 || strcmp(conf_dir_of(theirs), conf_dir_of(getenv("NIX_CONF_DIR"))) == 0;
	free(data);
	return is_ours;
}

static int64_t ms_of(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* When the process started, if it is a nix-daemon; else -1. */
static int64_t started_unix_ms(const char *pid)
{
	char text[1024];
	const char *name, *rest;
	unsigned long long ticks;

	if (read_proc(pid, "stat", text, sizeof(text)) < 0)
		return -1;
	name = strchr(text, '(');
	rest = strrchr(text, ')');
	if (name == NULL || rest == NULL || rest - name != 11 || strncmp(name, "(nix-daemon", 11) != 0)
		return -1;
	/* The 20th field behind the name: ticks since the machine was booted. */
	if (sscanf(rest, ") %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
	           &ticks) != 1)
		return -1;
	return ms_of(CLOCK_REALTIME) - ms_of(CLOCK_BOOTTIME) +
	       (int64_t)(ticks * 1000 / (unsigned long long)sysconf(_SC_CLK_TCK));
}

bool nix_daemon_find(pid_t *ret_pid, int64_t *ret_started_unix_ms)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	int64_t oldest = INT64_MAX;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		int64_t started =
			isdigit((unsigned char)entry->d_name[0]) ? started_unix_ms(entry->d_name) : -1;

		if (started < 0 || started >= oldest || !has_our_root(entry->d_name) ||
		    !has_our_conf_dir(entry->d_name))
			continue;
		oldest = started;
		*ret_pid = (pid_t)atol(entry->d_name);
		*ret_started_unix_ms = started;
	}
	if (dir != NULL)
		closedir(dir);
	return oldest < INT64_MAX;
}

bool nix_daemon_is_older_than(const char *file)
{
	struct stat st;
	int64_t started;
	pid_t pid;

	if (stat(file, &st) < 0 || !nix_daemon_find(&pid, &started))
		return false;
	/* The kernel's two clocks are coarse. */
	return started + 20 < (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
}

bool nix_daemon_is_needless(void)
{
	const char *state = getenv("NIX_STATE_DIR");
	char path[4096];

	if (geteuid() == 0)
		return false;
	snprintf(path, sizeof(path), "%s/db", state != NULL && *state != '\0' ? state : "/nix/var/nix");
	return access(path, W_OK) == 0;
}

/* ---- restarting ------------------------------------------------------------------------------ */

static int run_restart(void)
{
	pid_t pid;
	int status = 0;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		execlp("systemctl", "systemctl", "try-restart", "nix-daemon.service", (char *)NULL);
		ctl_say("systemctl: %s", strerror(errno));
		_exit(1);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		ctl_say("nix-daemon was not restarted; what is written takes effect once it is:\n%s",
		        NIX_DAEMON_RESTART);
		return CTL_FAILED;
	}
	return CTL_DONE;
}

/* Yes is what a mere Enter means. */
static bool ask(void)
{
	char answer[16];

	fputs("Restart nix-daemon now, so that it takes effect? [Y/n] ", stderr);
	if (fgets(answer, sizeof(answer), stdin) == NULL)
		return false;
	return answer[0] == '\n' || answer[0] == 'y' || answer[0] == 'Y';
}

int nix_daemon_offer_restart(const struct ctl *ctl, const char *reason_file, bool *ret_restarted)
{
	bool is_terminal = isatty(STDIN_FILENO) && isatty(STDERR_FILENO);

	*ret_restarted = true;
	if (!nix_daemon_is_older_than(reason_file))
		return CTL_DONE;
	*ret_restarted = false;
	if (access("/run/systemd/system", F_OK) < 0) {
		ctl_say("restart nix-daemon: it runs since before %s was changed (there is no systemd here "
		        "that "
		        "could be told to)",
		        reason_file);
		return CTL_DONE;
	}
	if (!args_has(&ctl->args, "yes") && (!is_terminal || !ask())) {
		ctl_say("nix-daemon runs since before %s was changed; this restarts it:\n%s", reason_file,
		        NIX_DAEMON_RESTART);
		return CTL_DONE;
	}
	if (run_restart() != CTL_DONE)
		return CTL_FAILED;
	if (!ctl->json)
		puts("nix-daemon is restarted.");
	*ret_restarted = true;
	return CTL_DONE;
}
