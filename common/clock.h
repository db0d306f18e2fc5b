/* The clocks: monotonic for deadlines, wall for what is written down; boot is the monotonic one that goes
 * on while the machine is suspended. Thread: any. */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include <stddef.h>
#include <stdint.h>

uint64_t clock_mono_ms(void);
uint64_t clock_boot_ms(void);
int64_t clock_unix_s(void);
int64_t clock_unix_ms(void);

#define CLOCK_TEXT_SIZE 32
/* Formats UNIX_S as RFC 3339 in UTC, "2026-11-23T04:05:06Z". */
const char *clock_format_utc(int64_t unix_s, char text[CLOCK_TEXT_SIZE]);

#endif
