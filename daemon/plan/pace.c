#include "daemon/plan/pace.h"

void pace_init(struct pace *pace, unsigned max)
{
	*pace = (struct pace){ .limit = max, .max = max };
}

void pace_good(struct pace *pace)
{
	if (pace->limit >= pace->max || ++pace->n_good < pace->limit)
		return;
	pace->limit++;
	pace->n_good = 0;
}

void pace_overload(struct pace *pace, uint64_t began_mono_ms, uint64_t now_mono_ms)
{
	if (pace->cut_mono_ms != 0 &&
	    (began_mono_ms <= pace->cut_mono_ms || now_mono_ms < pace->cut_mono_ms + PACE_CUT_MS))
		return;
	pace->cut_mono_ms = now_mono_ms;
	pace->n_good = 0;
	if (pace->limit > 1)
		pace->limit /= 2;
}
