/* The file in which Nix finds passwords for servers, one entry for each host.
 * Thread: any. */
#ifndef CTL_SETUP_NETRC_H
#define CTL_SETUP_NETRC_H

#include "common/error.h"
#include "ctl/setup/nix_conf_edit.h"

/* What servers that only look at the password get as a login, where one is needed. */
#define NETRC_ANY_LOGIN "nncache"

/* Has EDIT, of a netrc file, hold SECRET for HOST: "LOGIN:PASSWORD", or a password alone. An entry that is
 * there is replaced, all others stay. Errors: OPERATOR, SECRET cannot be written in such a file, or the entry
 * of HOST is of a shape that only a person should change (more than one line); TRANSIENT, no memory. */
int netrc_set(struct nix_conf_edit *edit, const char *host, const char *secret, struct error *err) MUST_CHECK;

#endif
