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
	struct room taken[CONFIG_MAX_ENDPOINTS]; /* by cache; is_beside: it has a body beside the others */
};

/* CACHES: bits of those that share. TOTAL has BODY_BLOCKS_MAX blocks for each at least. */
void budget_init(struct budget *budget, struct room total, uint64_t caches);
/* The most temporary space that a body can have of what is shared. What needs more goes beside it, one for
 * each cache at a time. */
uint64_t budget_largest_tmp_bytes(const struct budget *budget);

enum budget_answer {
	BUDGET_TAKEN,
	BUDGET_NO_BLOCKS, /* nothing is taken, nor below */
	BUDGET_NO_TMP,    /* nor is there for anything else that needs temporary space */
	BUDGET_NO_BESIDE,
};
/* Room of CACHE for a body that needs ROOM, whose is_beside is set here. One that holds nothing is not
 * refused for long: only while another, which came first, has more than its own. */
enum budget_answer budget_take(struct budget *budget, size_t cache, struct room *room);
/* What CACHE took as FROM is TO now, which is no more. */
void budget_shrink(struct budget *budget, size_t cache, struct room from, struct room to);

#endif
