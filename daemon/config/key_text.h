/* What a Nix signing key looks like; nothing here knows cryptography.
 * Thread: any. */
#ifndef DAEMON_CONFIG_KEY_TEXT_H
#define DAEMON_CONFIG_KEY_TEXT_H

#include <stdbool.h>

enum key_kind { KEY_PUBLIC, KEY_SECRET };

/* Is TEXT the padded base64 of 32 (public) or 64 (secret) bytes behind "NAME:" (at most 255 bytes), or
 * without a name unless NEEDS_NAME (Cachix)? White space may follow. */
bool key_text_is_valid(const char *text, enum key_kind kind, bool needs_name);

#endif
