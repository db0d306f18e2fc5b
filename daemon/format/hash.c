#include "daemon/format/hash.h"

#include <sodium.h>
#include <string.h>

static bool parse_hex(uint8_t ret[SHA256_BYTES], const char *text, size_t len)
{
	size_t n = 0;

	return len == 2 * SHA256_BYTES && sodium_hex2bin(ret, SHA256_BYTES, text, len, NULL, &n, NULL) == 0 &&
	       n == SHA256_BYTES;
}

static bool parse_base64(uint8_t ret[SHA256_BYTES], const char *text, size_t len)
{
	size_t n = 0;

	return sodium_base642bin(ret, SHA256_BYTES, text, len, NULL, &n, NULL,
	                         sodium_base64_VARIANT_ORIGINAL) == 0 &&
	       n == SHA256_BYTES;
}

/* The three encodings have three lengths, so the length says which one it is. */
static bool parse_any(uint8_t ret[SHA256_BYTES], const char *text, size_t len)
{
	return parse_hex(ret, text, len) || nixbase32_decode(ret, SHA256_BYTES, text, len) ||
	       parse_base64(ret, text, len);
}

bool hash_parse_sha256(const char *text, uint8_t ret[SHA256_BYTES])
{
	const char *digits = text + strlen("sha256:");
	uint8_t hash[SHA256_BYTES];
	bool ok;

	if (strncmp(text, "sha256:", 7) == 0)
		ok = parse_any(hash, digits, strlen(digits));
	else if (strncmp(text, "sha256-", 7) == 0)
		ok = parse_base64(hash, digits, strlen(digits));
	else
		ok = parse_hex(hash, text, strlen(text));
	if (ok)
		memcpy(ret, hash, sizeof(hash));
	return ok;
}

const char *hash_format_sha256(const uint8_t hash[SHA256_BYTES], char ret[SHA256_TEXT_SIZE])
{
	memcpy(ret, "sha256:", 7);
	nixbase32_encode(ret + 7, hash, SHA256_BYTES);
	return ret;
}

const char *hash_format_hex(const uint8_t *data, size_t n_bytes, char *ret)
{
	return sodium_bin2hex(ret, 2 * n_bytes + 1, data, n_bytes);
}
