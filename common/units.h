/* Sizes, durations and ages as people write and read them.
 * Thread: any. */
#ifndef COMMON_UNITS_H
#define COMMON_UNITS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/attr.h"

#define UNITS_TEXT_SIZE 32

/* "0 B", "999 B", "1.0 KiB", "12.3 MiB", "340 GiB". Returns TEXT. */
const char *units_format_bytes(uint64_t n_bytes, char text[UNITS_TEXT_SIZE]);

/* The two largest parts: "0s", "45s", "3m 12s", "2h 5m", "3d 4h". Less than nothing is "0s". Returns TEXT. */
const char *units_format_seconds(int64_t seconds, char text[UNITS_TEXT_SIZE]);

/* Reads a whole number and s, m, h, d or w (none: seconds); up to 100 years, 0 included. RET is untouched
 * on failure. */
bool units_parse_seconds(const char *text, uint64_t *ret) MUST_CHECK;

#endif
