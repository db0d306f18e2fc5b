/* Nix's signatures: Ed25519 over a fingerprint of the path info, written "name:base64".
 * A secret key lives in memory that is locked, guarded and wiped (sodium_malloc), and no byte of
 * it reaches an error text.
 * Limits: a key's name 1 to 255 bytes. Thread: any; a key is not changed after it was made. */
#ifndef DAEMON_FORMAT_SIGNATURE_H
#define DAEMON_FORMAT_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "daemon/format/path_info.h"

#define KEY_NAME_MAX     255
#define PUBLIC_KEY_BYTES 32

struct signing_key;

/* Reads a secret key "name:base64 of 64 bytes"; white space may follow. ORIGIN (the file's path)
 * names it in errors. The caller wipes TEXT.
 * Errors: OPERATOR (no such key; its public half does not belong to it), TRANSIENT (no memory). */
int signing_key_parse(struct signing_key **ret, const char *text, const char *origin, struct error *err)
	MUST_CHECK;
/* The same for the bare base64 of Cachix, which has no name; NAME is given to it. */
int signing_key_parse_bare(struct signing_key **ret, const char *name, const char *text, const char *origin,
                           struct error *err) MUST_CHECK;
void signing_key_free(struct signing_key *key); /* takes NULL */

const char *signing_key_name(const struct signing_key *key);
/* Appends "name:base64", what readers put among their trusted-public-keys. */
void signing_key_format_public(const struct signing_key *key, struct buf *buf);

struct public_key {
	char name[KEY_NAME_MAX + 1];
	uint8_t bytes[PUBLIC_KEY_BYTES];
};

/* Reads "name:base64 of 32 bytes"; white space may follow. Errors: OPERATOR. */
int public_key_parse(struct public_key *ret, const char *text, struct error *err) MUST_CHECK;

/* Appends what is signed. INFO must be normalized, its hash and size known. */
void fingerprint_format(struct buf *buf, const struct path_info *info);

/* Appends KEY's signature of INFO, "name:base64". The same INFO gives the same text always. */
void signature_format(struct buf *buf, const struct signing_key *key, const struct path_info *info);

/* Is SIG a signature of INFO by KEY? */
bool signature_verify(const char *sig, const struct public_key *key, const struct path_info *info);

/* Is SIG a name, a colon and base64, as all readers want it? Newer ones refuse a whole narinfo for
 * one that is not. */
bool signature_is_well_formed(const char *sig);

#endif
