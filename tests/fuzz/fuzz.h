/* A fuzzer's entry, as libFuzzer names it: takes DATA, and aborts when a promise of the code is broken. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Like assert, but there in every build. */
#define MUST(what)               \
	do {                     \
		if (!(what))     \
			abort(); \
	} while (0)

#endif
