/* Did the machine sleep, or did somebody set the clock? Timers do not see either: they run on the monotonic
 * clock, which stands still in a suspend. Pure. Thread: any. */
#ifndef DAEMON_PLAN_CLOCKS_H
#define DAEMON_PLAN_CLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#define CLOCKS_ASLEEP_MS 1000
#define CLOCKS_JUMP_MS   30000 /* more than a clock is ever slewed between two looks */

struct clocks {
	uint64_t mono_ms, boot_ms; /* boot: goes on in a suspend */
	int64_t unix_ms;
};

enum clocks_event { CLOCKS_WENT_ON, CLOCKS_SLEPT, CLOCKS_JUMPED };
/* What happened between two looks. */
enum clocks_event clocks_compare(const struct clocks *before, const struct clocks *now);

#endif
