/* What a value of post-build-hook is to us. Thread: any (it blocks). */
#ifndef CTL_SETUP_HOOK_LINE_H
#define CTL_SETUP_HOOK_LINE_H

#include <limits.h>

enum hook_kind {
	HOOK_NONE,    /* no hook is set */
	HOOK_OURS,    /* the hook of this nncache, by its path or by a link */
	HOOK_MOVED,   /* that of an nncache at another place, or of one that is gone */
	HOOK_WRAPPED, /* a script in which our path stands: it calls our hook and others */
	HOOK_OTHER,
};

/* Where the hook of this nncache is, as installed or as built; it need not be there. Returns PATH. */
const char *hook_find_own(char path[PATH_MAX]);

enum hook_kind hook_kind_of(const char *value, const char *own);

#endif
