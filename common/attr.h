/* The compiler's attributes and the one container macro that the house uses. */
#ifndef COMMON_ATTR_H
#define COMMON_ATTR_H

#include <stddef.h>

#define MUST_CHECK         __attribute__((warn_unused_result))
#define PRINTF(text, args) __attribute__((format(printf, text, args)))
/* Runs FN on the address of the variable when its block is left. */
#define CLEANUP(fn) __attribute__((cleanup(fn)))
#define UNUSED      __attribute__((unused))

#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define N_ELEMENTS(array)               (sizeof(array) / sizeof((array)[0]))

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

#endif
