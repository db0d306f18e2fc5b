/* One line to stderr for each event, with the "<N>" prefix that systemd reads as a priority.
 * A line is `event key=value ...`; text from outside is escaped (control characters as \xNN).
 * Thread: any; a line is written with one write(2). */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdbool.h>

#include "common/attr.h"

enum log_level { LOG_LEVEL_ERROR = 3, LOG_LEVEL_WARNING = 4, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

/* Lines less urgent than LEVEL are dropped; the default is LOG_LEVEL_INFO. With PREFIX false
 * the "<N>" is left out (a person reads it). Call before threads are started. */
void log_init(enum log_level level, bool prefix);
void log_set_level(enum log_level level); /* at any time */

void log_write(enum log_level level, const char *format, ...) PRINTF(2, 3);

#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
