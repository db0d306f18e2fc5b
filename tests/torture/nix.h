/* A store as Nix leaves one, below DIR: files, a database, directories for roots, and key.secret.
 * No Nix is needed to make it.
 * A and B refer to BASE, LATE to A and itself; the output of DRV is OUT. BIG is so big that its NAR is asked
 * for first, streamed to a web server, and partly lies in a temporary file. */
#ifndef TESTS_TORTURE_NIX_H
#define TESTS_TORTURE_NIX_H

#include <stdbool.h>
#include <stddef.h>

#include "common/attr.h"

#define NIX_STORE "/nix/store"
#define NIX_BASE  NIX_STORE "/00000000000000000000000000000000-base"
#define NIX_A     NIX_STORE "/a0000000000000000000000000000000-a"
#define NIX_B     NIX_STORE "/b0000000000000000000000000000000-b"
#define NIX_LATE  NIX_STORE "/c0000000000000000000000000000000-late"
#define NIX_SPARE NIX_STORE "/f0000000000000000000000000000000-spare"
#define NIX_DRV   NIX_STORE "/d0000000000000000000000000000000-a.drv"
#define NIX_OUT   NIX_STORE "/g0000000000000000000000000000000-out"
#define NIX_BIG   NIX_STORE "/h0000000000000000000000000000000-big"

/* Enough for what BIG is for; and for S3 to take it in parts. */
#define NIX_BIG_BYTES   MIB(9)
#define NIX_PARTS_BYTES MIB(17)

/* BIG has BIG_BYTES; with 0 it is not there: it costs as much as all the rest. */
void nix_make(const char *dir, size_t big_bytes);
/* A signing key, DIR/key.secret, as nix_make makes one. */
void nix_make_key(const char *dir);
/* What is wrong with the cache of files in DIR ends the process by torture_fail: a narinfo whose NAR, or a
 * narinfo that it refers to, is not there. */
void nix_check_cache(const char *dir);
/* Is the narinfo of PATH in the cache DIR? */
bool nix_cache_has(const char *dir, const char *path);

#endif
