/* Nix's base 32: the bytes are one little-endian number, its most significant digit comes first,
 * and the alphabet has no e, o, u, t. It is not RFC 4648's.
 * Limits: 1 byte or more. Thread: any. */
#ifndef DAEMON_FORMAT_NIXBASE32_H
#define DAEMON_FORMAT_NIXBASE32_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Digits of N_BYTES bytes, without the NUL: 20 give 32, 32 give 52. */
#define NIXBASE32_LEN(n_bytes) (((n_bytes)*8 - 1) / 5 + 1)

/* Writes NIXBASE32_LEN(N_BYTES) digits and a NUL. */
void nixbase32_encode(char *ret, const uint8_t *data, size_t n_bytes);

/* Reads N_BYTES from the TEXT of LEN characters. False, and nothing of use in RET, if a character
 * is none of the alphabet, LEN is not what N_BYTES have, or the number does not fit. */
bool nixbase32_decode(uint8_t *ret, size_t n_bytes, const char *text, size_t len);

#endif
