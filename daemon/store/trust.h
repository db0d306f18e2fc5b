/* May this user give Nix a post-build-hook of his own (NIX_CONFIG, --option)? Thread: any; it blocks, for
 * some seconds at most. */
#ifndef DAEMON_STORE_TRUST_H
#define DAEMON_STORE_TRUST_H

#include "common/error.h"

enum trust {
	TRUST_LOCAL,     /* this user's Nix commands build by themselves: yes */
	TRUST_TRUSTED,   /* nix-daemon takes settings of us: yes */
	TRUST_UNTRUSTED, /* it ignores them */
	TRUST_APART,     /* it cannot see our files, as one outside of our container: builds would fail */
	TRUST_UNKNOWN,   /* it does not say, or cannot be asked */
};

/* "local", "trusted", "untrusted", "apart", "unknown". */
const char *trust_name(enum trust trust);

/* URI as for store_open. Whoever can write Nix's state needs no nix-daemon, as Nix has it for "auto".
 * Errors: OPERATOR (no such URI), TRANSIENT: *RET is TRUST_UNKNOWN then, and ERR says why. */
int trust_find(enum trust *ret, const char *uri, struct error *err) MUST_CHECK;

#endif
