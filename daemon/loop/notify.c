#include "daemon/loop/notify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#if HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#else
#define SD_LISTEN_FDS_START 3
static int sd_listen_fds(int unset_environment)
{
	(void)unset_environment;
	return 0;
}
static int sd_notify(int unset_environment, const char *state)
{
	(void)unset_environment;
	(void)state;
	return 0;
}
static int sd_watchdog_enabled(int unset_environment, uint64_t *usec)
{
	(void)unset_environment;
	(void)usec;
	return 0;
}
#endif

#include "common/log.h"

#define STATE_MAX 512

int notify_listen_fd(void)
{
	int n = sd_listen_fds(1);

	if (n > 1)
		log_warning("%d sockets were handed in, only the first is used", n);
	return n > 0 ? SD_LISTEN_FDS_START : -1;
}

void notify_ready(void)
{
	sd_notify(0, "READY=1");
}

void notify_status(const char *format, ...)
{
	char status[STATE_MAX - 16], state[STATE_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(status, sizeof(status), format, args);
	va_end(args);
	snprintf(state, sizeof(state), "STATUS=%s", status);
	sd_notify(0, state);
}

void notify_reloading(void)
{
	char state[STATE_MAX];
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
	         (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
	sd_notify(0, state);
}

void notify_starting(uint64_t more_ms)
{
	char state[STATE_MAX];

	snprintf(state, sizeof(state), "EXTEND_TIMEOUT_USEC=%" PRIu64, more_ms * 1000);
	sd_notify(0, state);
}

void notify_stopping(uint64_t more_ms)
{
	char state[STATE_MAX];

	snprintf(state, sizeof(state), "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRIu64, more_ms * 1000);
	sd_notify(0, state);
}

static void on_watchdog(struct timer *timer)
{
	struct watchdog *watchdog = CONTAINER_OF(timer, struct watchdog, timer);

	sd_notify(0, "WATCHDOG=1");
	timer_set(timer, watchdog->every_ms);
}

void watchdog_open(struct watchdog *watchdog, struct loop *loop)
{
	uint64_t limit_us = 0;

	timer_init(&watchdog->timer, loop, on_watchdog);
	watchdog->every_ms = 0;
	if (sd_watchdog_enabled(0, &limit_us) > 0 && limit_us > 0) {
		watchdog->every_ms = limit_us / 3000 > 0 ? limit_us / 3000 : 1;
		timer_set(&watchdog->timer, 1);
	}
}

void watchdog_close(struct watchdog *watchdog)
{
	timer_close(&watchdog->timer, NULL);
}
