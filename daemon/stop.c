/* How the daemon stops. With stop-drain, what is queued and can go now still goes for that long, while
 * nothing new is taken in: hooks are told so, and write to the spool.
 *
 *   RUNNING --SIGTERM, work under way--> DRAINING --no work, or none that moves--> STOPPING
 *      |                                    +-----time over, a second signal--------^
 *      +------SIGTERM, nothing to do-------------------------------------------------^
 *
 * What waits for its time, for a cache or for a person does not hold up the end: nothing in flight and
 * nothing committed for a moment means that nothing moves. */
#include <inttypes.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/log.h"
#include "daemon/internal.h"

#define LOOK_MS  100
#define STILL_MS 1000
/* For what runs to its end when all is told to stop. */
#define STOP_MARGIN_MS 20000

/* ---- what is left */

static uint64_t n_in_flight(const struct daemon *daemon)
{
	uint64_t n = 0;

	for (size_t i = 0; i < daemon->config->n_caches; i++)
		n += uploader_n_in_flight(daemon->uploader, i);
	return n;
}

/* Ready jobs are those in flight, too. */
static uint64_t n_left(const struct daemon *daemon)
{
	uint64_t targets = uploader_targets(daemon->uploader);
	uint64_t n = queue_root_count(daemon->queue, ROOT_RESOLVING);
	int64_t now = clock_unix_s();

	for (size_t i = 0; i < daemon->config->n_caches; i++) {
		uint64_t n_ready = queue_cache_counts(daemon->queue, i)->jobs[JOB_READY];
		uint64_t n_running = uploader_n_in_flight(daemon->uploader, i);
		bool goes_on = (targets >> i & 1) != 0 && queue_paused_until_unix_s(daemon->queue, i) <= now;

		n += goes_on && n_ready > n_running ? n_ready : n_running;
	}
	return n;
}

static bool moves(struct daemon *daemon)
{
	uint64_t now = clock_mono_ms(), n_commits = queue_commit_count(daemon->queue);

	if (n_in_flight(daemon) > 0 || n_commits != daemon->drain.n_commits)
		daemon->drain.moved_mono_ms = now;
	daemon->drain.n_commits = n_commits;
	return now - daemon->drain.moved_mono_ms < STILL_MS;
}

/* ---- draining */

static void look(struct timer *timer)
{
	struct daemon *daemon = CONTAINER_OF(timer, struct daemon, drain.timer);
	uint64_t n = n_left(daemon);

	crash_point(STOP_DRAINING);
	if (n > 0 && moves(daemon) && clock_mono_ms() < daemon->drain.deadline_mono_ms) {
		timer_set(timer, LOOK_MS);
		return;
	}
	if (n > 0)
		log_info("not drained left=%" PRIu64 ": it goes on after the next start", n);
	daemon_stop(daemon);
}

static bool can_drain(const struct daemon *daemon)
{
	return daemon->config->stop_drain_s > 0 && daemon->server != NULL && daemon->uploader != NULL &&
	       !daemon->is_closing_parts && n_left(daemon) > 0;
}

void stop_begin(struct daemon *daemon)
{
	notify_stopping(daemon->config->stop_drain_s * 1000 + STOP_MARGIN_MS);
	if (daemon->drain.is_on || !can_drain(daemon)) {
		timer_stop(&daemon->drain.timer);
		daemon_stop(daemon);
		return;
	}
	log_info("draining left=%" PRIu64 " for=%" PRIu64
	         "s: nothing new is taken in, a second signal ends it",
	         n_left(daemon), daemon->config->stop_drain_s);
	daemon->drain.is_on = true;
	daemon->drain.deadline_mono_ms = clock_mono_ms() + daemon->config->stop_drain_s * 1000;
	daemon->drain.moved_mono_ms = clock_mono_ms();
	daemon->drain.n_commits = queue_commit_count(daemon->queue);
	intake_take_no_more(daemon->intake);
	daemon_show_parts(daemon);
	timer_set(&daemon->drain.timer, LOOK_MS);
}

/* ---- the timer */

void stop_open(struct daemon *daemon)
{
	timer_init(&daemon->drain.timer, &daemon->loop, look);
}

void stop_close(struct daemon *daemon)
{
	timer_close(&daemon->drain.timer, NULL);
}
