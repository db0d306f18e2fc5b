/* What the hook has to say. Its stderr is read by Nix, which shows each line to who builds; what must
 * not be missed goes to the system's log as well. Control characters are escaped. Never waits for the
 * system's log. */
#ifndef HOOK_SAY_H
#define HOOK_SAY_H

#include "common/attr.h"

void say(const char *format, ...) PRINTF(1, 2);
void say_loudly(const char *format, ...) PRINTF(1, 2);

#endif
