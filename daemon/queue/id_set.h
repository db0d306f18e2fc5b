/* A small set of row numbers: what is claimed. A few hundred at most, so a sorted array does.
 * Owns: its array; zeroed is empty. Thread: one. */
#ifndef DAEMON_QUEUE_ID_SET_H
#define DAEMON_QUEUE_ID_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"

struct id_set {
	int64_t *ids; /* ascending */
	size_t n, cap;
};

void id_set_fini(struct id_set *set);
bool id_set_has(const struct id_set *set, int64_t id);
int id_set_add(struct id_set *set, int64_t id) MUST_CHECK; /* -1: no memory */
/* Memory is kept, so that what was removed can always be added again. Was it there? */
bool id_set_remove(struct id_set *set, int64_t id);

#endif
