/* cmocka, with the headers it wants before it. */
#ifndef TESTS_UNIT_TEST_H
#define TESTS_UNIT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* N, or a twentieth of it where NNCACHE_TEST_FEW is set: under valgrind, which costs thirty times. */
static inline int test_many(int n)
{
	return getenv("NNCACHE_TEST_FEW") != NULL ? n / 20 : n;
}

#endif
