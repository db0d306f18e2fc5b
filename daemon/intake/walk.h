/* The closures of a batch of roots as one graph, and the order in which it goes to the queue:
 * references before what refers to them. Pure: who asks the store and the queue is resolve.c.
 * Limits: as much memory as the closures need. Thread: loop. */
#ifndef DAEMON_INTAKE_WALK_H
#define DAEMON_INTAKE_WALK_H

#include "daemon/format/path_info.h"

struct walk_node {
	struct path_info info; /* path is set from the start, the rest once known */
	char *path;
	uint32_t *refs; /* numbers of other nodes; set with info */
	uint32_t n_refs;
	uint32_t layer;
	uint64_t satisfied; /* bits of caches that need not be asked: they have it, or their upstream has */
	uint64_t seen;      /* bits of caches on which, or on whose upstream, it was seen to be */
	uint64_t emitted;   /* bits of caches for which it was put in order already */
	bool is_known;      /* info and refs are there */
	bool is_leaf;       /* every cache was seen to have it: nothing below it is looked at */
	bool is_pruned;     /* the same, and no cache is asked again */
	bool is_invalid;    /* not valid in the store */
	bool is_root;
	bool is_on_stack;
};

struct walk {
	struct walk_node *nodes;
	uint32_t n_nodes, cap_nodes;
	uint32_t *index; /* open addressing: node number + 1 */
	uint32_t cap_index;
	uint32_t n_asked; /* nodes before this one were asked about */
};

void walk_init(struct walk *walk);
void walk_fini(struct walk *walk);
/* The number of PATH's node, made if it is new; UINT32_MAX: no memory. Nodes may move. */
uint32_t walk_add(struct walk *walk, const char *path);
/* Takes INFO over (zeroed then) as what is known of NODE, and adds what it refers to. */
int walk_know(struct walk *walk, uint32_t node, struct path_info *info, struct error *err) MUST_CHECK;

/* Appends to ORDER (room for n_nodes) the nodes below and with ROOT that CACHES still need, references
 * first, each once, and sets their layers. Returns how many, or -1 with a sentence when something of the
 * closure is not valid (PERMANENT) or there is no memory (TRANSIENT); nothing is in order then that was not
 * before. */
int64_t walk_order(struct walk *walk, uint32_t root, uint64_t caches, uint32_t *order, struct error *err)
	MUST_CHECK;
/* Nothing is in order any more. */
void walk_start_over(struct walk *walk);

#endif
