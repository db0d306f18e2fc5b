/* SHA-256 hashes as text. Nothing here computes one.
 * Thread: any. */
#ifndef DAEMON_FORMAT_HASH_H
#define DAEMON_FORMAT_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/format/nixbase32.h"
#include "daemon/format/path_info.h"

#define SHA256_NIX32_LEN  NIXBASE32_LEN(SHA256_BYTES)                 /* 52 */
#define SHA256_NIX32_SIZE (SHA256_NIX32_LEN + 1)                      /* with the NUL */
#define SHA256_TEXT_SIZE  (sizeof("sha256:") - 1 + SHA256_NIX32_SIZE) /* "sha256:" and 52 digits */
#define SHA256_HEX_SIZE   (2 * SHA256_BYTES + 1)

/* Reads every spelling that Nix takes: "sha256:" and hex, nix32 or base64; "sha256-" and base64
 * (SRI); and the bare hex of the worker protocol. False, RET untouched, for anything else. */
bool hash_parse_sha256(const char *text, uint8_t ret[SHA256_BYTES]);

/* "sha256:" and nix32, the one spelling that is written. Returns RET. */
const char *hash_format_sha256(const uint8_t hash[SHA256_BYTES], char ret[SHA256_TEXT_SIZE]);

/* Lower-case hex; RET has room for 2 x N_BYTES + 1. Returns RET. */
const char *hash_format_hex(const uint8_t *data, size_t n_bytes, char *ret);

#endif
