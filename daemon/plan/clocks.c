#include "daemon/plan/clocks.h"

enum clocks_event clocks_compare(const struct clocks *before, const struct clocks *now)
{
	int64_t mono_ms = (int64_t)(now->mono_ms - before->mono_ms);
	int64_t boot_ms = (int64_t)(now->boot_ms - before->boot_ms);
	int64_t jump_ms = now->unix_ms - before->unix_ms - boot_ms;

	if (boot_ms - mono_ms > CLOCKS_ASLEEP_MS)
		return CLOCKS_SLEPT;
	return jump_ms > CLOCKS_JUMP_MS || jump_ms < -CLOCKS_JUMP_MS ? CLOCKS_JUMPED : CLOCKS_WENT_ON;
}
