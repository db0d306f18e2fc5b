/* What the clients of Cachix and Attic wrote down for their user when logging in:
 * ~/.config/cachix/cachix.dhall and ~/.config/attic/config.toml. Only the shapes that those clients write are
 * read, and what people make of them by hand without leaving them; all else is refused by the number of its
 * line. No byte of the file is in an error. Limits: the caller's, of the file's size; memory is a few times
 * that at most, and there is no recursion. Thread: any. */
#ifndef DAEMON_BACKEND_LOGIN_H
#define DAEMON_BACKEND_LOGIN_H

#include <stddef.h>

#include "common/attr.h"
#include "common/error.h"

struct login {          /* a field is NULL if it is not set */
	char *endpoint; /* of the server that it is for */
	char *token;    /* "" is none */
	char *token_file;
	char *signing_key;
};

/* Of the LEN bytes of TEXT, a record in Dhall: authToken, hostname, and of binaryCaches the secretKey of the
 * last that is called NAME. RET is zeroed before. Errors: OPERATOR, "line N: ..."; TRANSIENT: no memory. */
int login_read_cachix(struct login *ret, const char *text, size_t len, const char *name, struct error *err)
	MUST_CHECK;
/* Of tables [servers.NAME] in TOML, the first that IS_OURS says of its endpoint; all fields stay NULL if
 * there is none. Else the same. */
typedef bool (*login_is_ours_fn)(const char *endpoint, const void *ctx);
int login_read_attic(struct login *ret, const char *text, size_t len, login_is_ours_fn is_ours,
                     const void *ctx, struct error *err) MUST_CHECK;
void login_fini(struct login *login); /* wipes it; takes a zeroed one */

#endif
