/* One life of the daemon: its parts, opened and closed as daemon.c does it.
 * Thread: the one there is. */
#ifndef TESTS_SIM_LIFE_H
#define TESTS_SIM_LIFE_H

#include <stdbool.h>

#include "daemon/config/config.h"
#include "daemon/intake/intake.h"
#include "daemon/queue/queue.h"
#include "daemon/upload/upload.h"
#include "tests/sim/fake_cache.h"

struct life {
	struct loop loop;
	struct queue *queue; /* NULL: it does not run */
	struct store *store;
	struct roots *roots;
	struct policy *policy;
	struct uploader *uploader;
	struct intake *intake;
	bool is_ready; /* it serves */
	bool is_closing;

	struct config config, whole; /* as it is in this life; and with every cache */
	struct cache_config caches[CACHES_MAX];
	struct upstream_config upstream;
	char *upstream_name;
	uint64_t upstreams[CONFIG_MAX_ENDPOINTS];
	unsigned n_caches;      /* in whole */
	struct policy *filters; /* of whole, for who checks */
};
extern struct life life;

extern char life_state_dir[512], life_spool_dir[600], life_queue_path[600];

/* The settings of all lives of a run. IS_TIGHT: with little memory and space for bodies. */
void life_configure(unsigned n_caches, bool has_upstream, bool is_tight);
/* The settings of the next life: without the last cache, and with another name for the first one. */
void life_reconfigure(bool lacks_last, bool is_renamed);
/* -1: it could not be opened; what was opened is closing. */
int life_open(struct error *err);
/* Closes the parts; life.queue is NULL when that is over. */
void life_close(void);
/* The process is no more. */
void life_forget(void);

/* In world.c: the queue cannot be trusted any more; leaves by longjmp. */
void world_on_fatal(const struct error *err);

#endif
