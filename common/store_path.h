/* The syntax of store paths: STORE-DIR "/" HASH-PART "-" NAME (PROTOCOLS 2.1, from Nix's own
 * parser). Paths are plain text everywhere in the house; these functions judge and take them
 * apart without allocating.
 * Limits: hash part 32 characters of nix32, name 1 to 211. Thread: any. */
#ifndef COMMON_STORE_PATH_H
#define COMMON_STORE_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include "common/attr.h"
#include "common/error.h"

#define STORE_DIR_DEFAULT "/nix/store"
#define STORE_HASH_LEN    32
#define STORE_NAME_MAX    211
#define STORE_BASE_MAX    (STORE_HASH_LEN + 1 + STORE_NAME_MAX)
/* Longest store path text we take, NUL included: a store directory of up to 512 bytes. */
#define STORE_PATH_SIZE (512 + 1 + STORE_BASE_MAX + 1)

/* Is the text of LEN bytes HASH-PART "-" NAME? */
bool store_base_is_valid(const char *base, size_t len);

/* Is TEXT, as a whole, a store path below STORE_DIR? */
bool store_path_is_valid(const char *text, const char *store_dir);

/* As above, but says in one sentence what is wrong with it (PERMANENT). */
int store_path_check(const char *text, const char *store_dir, struct error *err) MUST_CHECK;

/* Cuts LEN bytes of TEXT, a path below a store path or one itself, after the store path.
 * Returns the length of the store path, or 0 if it is none. */
size_t store_path_prefix_len(const char *text, const char *store_dir);

/* The base name of a valid store path: what follows the last slash. The hash part is its first
 * 32 characters. */
const char *store_path_base(const char *path);

bool store_path_is_derivation(const char *path);

#endif
