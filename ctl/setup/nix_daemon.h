/* The nix-daemon of this machine, which reads its configuration when it starts and never again.
 * Thread: any (it blocks). */
#ifndef CTL_SETUP_NIX_DAEMON_H
#define CTL_SETUP_NIX_DAEMON_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ctl/ctl.h"

#define NIX_DAEMON_RESTART "systemctl try-restart nix-daemon.service"

/* Finds the process that listens for clients: the oldest nix-daemon with our configuration directory. Of a
 * process whose environment we may not read, that is taken to be so. False: none runs. */
bool nix_daemon_find(pid_t *ret_pid, int64_t *ret_started_unix_ms);

/* Does it run since before FILE was changed? Then what is in there now is not in effect. */
bool nix_daemon_is_older_than(const char *file);

/* Do our Nix commands work on the store without a daemon, since it is our own? Then nothing needs a restart.
 */
bool nix_daemon_is_needless(void);

/* Restarts it if REASON_FILE is newer: after a question on a terminal, at once with --yes; else, and where
 * there is no systemd, says how. Says what it did. *RET_RESTARTED: it is done, or nothing was to do. Returns
 * CTL_DONE, or CTL_FAILED when the restart fails. */
int nix_daemon_offer_restart(const struct ctl *ctl, const char *reason_file, bool *ret_restarted);

#endif
