#include "tests/sim/chance.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/sim/fake_loop.h"

static struct {
	uint64_t seed, state;
	bool is_traced;
} t;

void chance_init(uint64_t seed, bool is_traced)
{
	t.seed = seed;
	t.state = seed * 0xd1342543de82ef95u + 1;
	t.is_traced = is_traced;
}

uint64_t chance_bits(void)
{
	uint64_t z = (t.state += 0x9e3779b97f4a7c15u); /* splitmix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

unsigned chance_below(unsigned n)
{
	return n > 0 ? (unsigned)(chance_bits() % n) : 0;
}

bool chance_one_in(unsigned n)
{
	return n > 0 && chance_below(n) == 0;
}

void trace(const char *format, ...)
{
	va_list args;

	if (!t.is_traced)
		return;
	printf("%10.3f ", (double)fake_now_ms() / 1000);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

void violated(const char *invariant, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	printf("seed %llu: %s is broken at %.3f s: %s\n", (unsigned long long)t.seed, invariant,
	       (double)fake_now_ms() / 1000, text);
	fflush(stdout);
	_exit(1);
}
