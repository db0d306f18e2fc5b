#include "daemon/upload/budget.h"

#include <assert.h>

static uint64_t max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static bool shares(const struct budget *budget, size_t cache)
{
	return (budget->caches >> cache & 1) != 0;
}

void budget_init(struct budget *budget, struct room total, uint64_t caches)
{
	*budget = (struct budget){ .total = total, .caches = caches };
	for (size_t i = 0; i < CONFIG_MAX_ENDPOINTS; i++)
		budget->n_caches += shares(budget, i);
	assert(total.n_blocks >= budget->n_caches * BODY_BLOCKS_MAX);
	if (budget->n_caches > 0)
		budget->own = (struct room){ .n_blocks = BODY_BLOCKS_MAX,
			                     .tmp_bytes = total.tmp_bytes / budget->n_caches / 2 };
}

/* What all caches but CACHE hold, or may still want of their own. */
static struct room others(const struct budget *budget, size_t cache)
{
	struct room sum = { 0 };

	for (size_t i = 0; i < CONFIG_MAX_ENDPOINTS; i++) {
		if (i == cache || !shares(budget, i))
			continue;
		sum.n_blocks += max(budget->own.n_blocks, budget->taken[i].n_blocks);
		sum.tmp_bytes += max(budget->own.tmp_bytes, budget->taken[i].tmp_bytes);
	}
	return sum;
}

uint64_t budget_largest_tmp_bytes(const struct budget *budget)
{
	size_t n_others = budget->n_caches > 0 ? budget->n_caches - 1 : 0;

	return budget->total.tmp_bytes - n_others * budget->own.tmp_bytes;
}

enum budget_answer budget_take(struct budget *budget, size_t cache, struct room *room)
{
	struct room *taken = &budget->taken[cache], rest = others(budget, cache);
	bool is_beside = room->tmp_bytes > budget_largest_tmp_bytes(budget);
	uint64_t tmp_bytes = is_beside ? 0 : room->tmp_bytes;

	assert(shares(budget, cache));
	if (is_beside && taken->is_beside)
		return BUDGET_NO_BESIDE;
	if (tmp_bytes > 0 && rest.tmp_bytes + taken->tmp_bytes + tmp_bytes > budget->total.tmp_bytes)
		return BUDGET_NO_TMP;
	if (rest.n_blocks + taken->n_blocks + room->n_blocks > budget->total.n_blocks)
		return BUDGET_NO_BLOCKS;
	room->is_beside = is_beside;
	taken->is_beside |= is_beside;
	taken->n_blocks += room->n_blocks;
	taken->tmp_bytes += tmp_bytes;
	return BUDGET_TAKEN;
}

void budget_shrink(struct budget *budget, size_t cache, struct room from, struct room to)
{
	struct room *taken = &budget->taken[cache];

	assert(to.n_blocks <= from.n_blocks && to.tmp_bytes <= from.tmp_bytes);
	assert(from.n_blocks <= taken->n_blocks && (from.is_beside || from.tmp_bytes <= taken->tmp_bytes));
	taken->n_blocks -= from.n_blocks - to.n_blocks;
	if (!from.is_beside)
		taken->tmp_bytes -= from.tmp_bytes - to.tmp_bytes;
	else if (!to.is_beside)
		taken->is_beside = false;
}
