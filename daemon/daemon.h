/* The daemon: makes its parts bottom-up, wires them, and closes them top-down.
 * Thread: the loop's, which is the one that calls daemon_run. */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

#include "daemon/config/config.h"

/* Runs until SIGTERM or SIGINT. Takes CONFIG over; CONFIG_ERROR (or NULL) is why it is not what the
 * operator wrote: then paths are taken in and nothing is uploaded. SIGHUP loads anew from PLACES.
 * Returns the exit status; what went wrong has been logged. */
int daemon_run(struct config *config, const char *config_error, const struct config_places *places);

#endif
