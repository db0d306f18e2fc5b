/* What nix-daemon lets a user do. Thread: one at a time (the user database). */
#ifndef CTL_SETUP_NIX_TRUST_H
#define CTL_SETUP_NIX_TRUST_H

#include "ctl/setup/nix_conf.h"

/* Do the trusted-users of CONF, which is of the system, name who runs us, or one of his groups? */
bool nix_trust_is_trusted(const struct nix_conf *conf);

#endif
