/* The hook's own settings: environment variables, and over them the file `<argv[0]>.env` beside the name
 * that the hook was called by, since a nix-daemon passes no client's environment on and a hook has no
 * arguments. Lines of the file are NAME=VALUE, the value verbatim; empty lines and those that begin with
 * '#' are skipped. An empty value is the default.
 * Limits: SETTINGS_MAX_FILE bytes.
 * Errors: a mistake never stops the hook. It is one line of MISTAKES, and the setting stays as it was. */
#ifndef HOOK_SETTINGS_H
#define HOOK_SETTINGS_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

#define SETTINGS_MAX_FILE           16384
#define SETTINGS_TIMEOUT_MS_DEFAULT 1000
#define SETTINGS_TIMEOUT_MS_MAX     60000
#define SETTINGS_GCROOTS_DEFAULT    "/nix/var/nix/gcroots/nncache"

struct settings {
	const char *socket, *spool, *tag; /* NULL: not set */
	const char *gcroots;
	uint64_t timeout_ms;
	char *file; /* what was read; the texts point into it or into the environment */
};

void settings_init(struct settings *s);
void settings_fini(struct settings *s);

void settings_read_environment(struct settings *s, struct buf *mistakes);
/* Reads `ARGV0.env` if there is such a file. It must be a regular file of root, the effective user or the
 * owner of ARGV0 itself (not of what it links to), that nobody else may write. */
void settings_read_file(struct settings *s, const char *argv0, struct buf *mistakes);
/* Reads TEXT, LEN bytes and a NUL, in place; it must live as long as S. NAME is for the mistakes. */
void settings_read_text(struct settings *s, const char *name, char *text, size_t len, struct buf *mistakes);

#endif
