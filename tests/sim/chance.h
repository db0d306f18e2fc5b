/* What makes one run of the simulation: its seed, from which every choice comes, its trace, and the
 * verdict.
 * Thread: the one there is. */
#ifndef TESTS_SIM_CHANCE_H
#define TESTS_SIM_CHANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"

/* Everything chosen from now on comes from SEED. With IS_TRACED each step is told on stdout. */
void chance_init(uint64_t seed, bool is_traced);

uint64_t chance_bits(void);
/* 0 .. N-1; 0 for N 0 */
unsigned chance_below(unsigned n);
/* True once in N times; never for N 0. */
bool chance_one_in(unsigned n);

void trace(const char *format, ...) PRINTF(1, 2);

/* INVARIANT does not hold: tells the sentence on stdout and ends the process with status 1. */
_Noreturn void violated(const char *invariant, const char *format, ...) PRINTF(2, 3);

#endif
