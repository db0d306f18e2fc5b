#include "daemon/queue/id_set.h"

#include <stdlib.h>
#include <string.h>

void id_set_fini(struct id_set *set)
{
	free(set->ids);
	*set = (struct id_set){ 0 };
}

/* Where ID is, or belongs. */
static size_t place_of(const struct id_set *set, int64_t id)
{
	size_t low = 0, high = set->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (set->ids[mid] < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

bool id_set_has(const struct id_set *set, int64_t id)
{
	size_t i = place_of(set, id);

	return i < set->n && set->ids[i] == id;
}

int id_set_add(struct id_set *set, int64_t id)
{
	size_t i = place_of(set, id);

	if (i < set->n && set->ids[i] == id)
		return 0;
	if (set->n == set->cap) {
		size_t cap = set->cap == 0 ? 64 : set->cap * 2;
		int64_t *ids = realloc(set->ids, cap * sizeof(*ids));

		if (ids == NULL)
			return -1;
		set->ids = ids;
		set->cap = cap;
	}
	memmove(&set->ids[i + 1], &set->ids[i], (set->n - i) * sizeof(*set->ids));
	set->ids[i] = id;
	set->n++;
	return 0;
}

bool id_set_remove(struct id_set *set, int64_t id)
{
	size_t i = place_of(set, id);

	if (i == set->n || set->ids[i] != id)
		return false;
	memmove(&set->ids[i], &set->ids[i + 1], (set->n - i - 1) * sizeof(*set->ids));
	set->n--;
	return true;
}
