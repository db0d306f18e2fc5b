/* The other programs of the house, as installed beside nncachectl or as built. Thread: any. */
#ifndef CTL_PROGRAM_H
#define CTL_PROGRAM_H

#include <limits.h>

#include "common/buf.h"

/* Writes the path of nncached, or of the hook. NULL: it is not there; what is looked for in PATH may still
 * be. */
const char *program_find_nncached(char path[PATH_MAX]);
const char *program_find_hook(char path[PATH_MAX]);

/* Becomes nncached with the words of ARGS, which NULL ends. Returns only if that fails, with errno. */
void program_become_nncached(const char *const *args);
/* The same in a child; what it says on both streams is appended to OUT, or with ONLY_STDOUT on that one
 * alone. Returns its exit status, or -1 with errno. */
int program_ask_nncached(const char *const *args, bool only_stdout, struct buf *out);

#endif
