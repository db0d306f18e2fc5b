#include "tests/sim/fake_loop.h"

#include <sys/types.h>
#include <time.h>

#include "tests/sim/chance.h"

#define EPOCH_S 1700000000

static struct {
	uint64_t now_ms, asleep_s, n_reads;
	int64_t wall_offset_s;
} t;

uint64_t fake_now_ms(void)
{
	return t.now_ms;
}

void fake_clock_go(uint64_t to_ms)
{
	if (to_ms > t.now_ms)
		t.now_ms = to_ms;
}

void fake_clock_step_s(int64_t by_s)
{
	t.wall_offset_s += by_s;
}

void fake_clock_sleep_s(uint64_t for_s)
{
	t.asleep_s += for_s;
}

int __wrap_clock_gettime(clockid_t id, struct timespec *ret);
int __wrap_clock_gettime(clockid_t id, struct timespec *ret)
{
	int64_t s = (int64_t)(t.now_ms / 1000);

	/* A real clock has moved on when it is read again: names that are made of it differ. */
	*ret = (struct timespec){ .tv_nsec =
		                          (long)(t.now_ms % 1000) * 1000000 + (long)(t.n_reads++ % 1000000) };
	ret->tv_sec = s;
	if (id != CLOCK_MONOTONIC)
		ret->tv_sec += (time_t)t.asleep_s;
	if (id == CLOCK_REALTIME)
		ret->tv_sec += EPOCH_S + t.wall_offset_s;
	return 0;
}

ssize_t __wrap_getrandom(void *data, size_t n, unsigned flags);
ssize_t __wrap_getrandom(void *data, size_t n, unsigned flags)
{
	unsigned char *bytes = data;
	(void)flags;

	for (size_t i = 0; i < n; i++)
		bytes[i] = (unsigned char)chance_bits();
	return (ssize_t)n;
}
