/* How the caches share the room that bodies lie in. Each has as much as one body needs for itself, whatever
 * the others hold; what is beyond goes to who comes first. So a cache that takes nothing off our hands holds
 * back itself alone. A body that several caches send counts for each of them: it stays until the last has it.
 * Pure. Thread: any. */
#ifndef DAEMON_UPLOAD_BUDGET_H
#define DAEMON_UPLOAD_BUDGET_H

#include "daemon/body/body.h"
#include "daemon/config/config.h"

struct budget {
	struct room total, own; /* own: that of each of its caches, always */
	uint64_t caches;        /* bits: those that are pushed to */
	size_t n_caches;
	struct room taken[CONFIG_MAX_ENDPOINTS]; /* by cache */
};

/* CACHES: bits of those that share. TOTAL has BODY_BLOCKS_MAX blocks for each at least. */
void budget_init(struct budget *budget, struct room total, uint64_t caches);
/* Room of CACHE for a body that needs ROOM: true, or false, then nothing is taken. *ROOM becomes what counts
 * for it: less, if it is more than a cache may ever have. One that holds nothing is not refused for long:
 * only while another, which came first, has more than its own. */
bool budget_take(struct budget *budget, size_t cache, struct room *room);
/* What CACHE took as FROM is TO now, which is no more. */
void budget_shrink(struct budget *budget, size_t cache, struct room from, struct room to);

#endif
