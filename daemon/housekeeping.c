/* What is looked at now and then while the daemon runs: history that may go, roots that nobody may keep
 * for ever (I3a), and what status says of both. */
#include <stdio.h>
#include <sys/statvfs.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/log.h"
#include "daemon/db/aside.h"
#include "daemon/internal.h"

#define EVERY_MS          60000
#define PRUNE_EVERY       60 /* times */
#define UNPROTECT_AT_ONCE 64

static void on_pruned(struct queue_op *op)
{
	struct daemon *daemon = CONTAINER_OF(op, struct daemon, prune.op);
	bool more = op->err.kind == ERROR_NONE && daemon->prune.more && !daemon->is_closing_parts;

	queue_op_fini(op);
	daemon->is_pruning = more;
	if (more)
		queue_start(daemon->queue, &daemon->prune.op, on_pruned);
}

static void prune(struct daemon *daemon)
{
	if (daemon->is_pruning)
		return;
	daemon->is_pruning = true;
	daemon->prune = (struct queue_prune){
		.op.verb = QUEUE_PRUNE,
		.before_unix_s = clock_unix_s() - (int64_t)daemon->config->history_s,
	};
	queue_start(daemon->queue, &daemon->prune.op, on_pruned);
}

static void on_unprotected(struct queue_op *op)
{
	struct daemon *daemon = CONTAINER_OF(op, struct daemon, unprotect.op);

	if (daemon->unprotect.n_released > 0) {
		crash_point(ROOTS_GIVEN_UP);
		log_warning("roots given up paths=%zu: %s, the paths stay queued",
		            daemon->unprotect.n_released,
		            daemon->unprotect.older_than_unix_s != 0
		                    ? "older than roots-max-age"
		                    : "the store's file system is below roots-min-free");
		daemon_released(daemon, daemon->unprotect.released, daemon->unprotect.n_released);
	}
	queue_op_fini(op);
	daemon->is_unprotecting = false;
}

static bool store_is_full(const struct daemon *daemon)
{
	struct statvfs vfs;

	return statvfs(store_real_dir(daemon->store), &vfs) == 0 && vfs.f_blocks > 0 &&
	       vfs.f_bavail * 100 / vfs.f_blocks < daemon->config->roots_min_free_percent;
}

static void bound_roots(struct daemon *daemon)
{
	int64_t now = clock_unix_s();

	if (daemon->is_unprotecting)
		return;
	daemon->is_unprotecting = true;
	daemon->unprotect = (struct queue_unprotect){
		.op.verb = QUEUE_UNPROTECT,
		.now_unix_s = now,
		.older_than_unix_s =
			store_is_full(daemon) ? 0 : now - (int64_t)daemon->config->roots_max_age_s,
		.n_max = UNPROTECT_AT_ONCE,
	};
	queue_start(daemon->queue, &daemon->unprotect.op, on_unprotected);
}

/* A damaged database is shown until a person has taken it away. */
static void look_for_damaged(struct daemon *daemon)
{
	char path[ASIDE_PATH_SIZE], found[ASIDE_PATH_SIZE];

	daemon_queue_path(daemon, path);
	if (aside_find(path, found))
		snprintf(daemon->queue_message, sizeof(daemon->queue_message),
		         "a damaged queue was set aside: %.400s", found);
	else
		*daemon->queue_message = '\0';
}

void housekeeping_begin(struct daemon *daemon)
{
	look_for_damaged(daemon);
	bound_roots(daemon);
}

static void on_time(struct timer *timer)
{
	struct daemon *daemon = CONTAINER_OF(timer, struct daemon, housekeeping);

	if (daemon->is_ready) {
		housekeeping_begin(daemon);
		if (daemon->n_housekeepings++ % PRUNE_EVERY == 0)
			prune(daemon);
		daemon_show_parts(daemon);
	}
	timer_set(timer, EVERY_MS);
}

void housekeeping_open(struct daemon *daemon)
{
	timer_init(&daemon->housekeeping, &daemon->loop, on_time);
	timer_set(&daemon->housekeeping, EVERY_MS);
}

static void on_closed(struct timer *timer)
{
	(void)timer;
}

void housekeeping_close(struct daemon *daemon)
{
	timer_close(&daemon->housekeeping, on_closed);
}
