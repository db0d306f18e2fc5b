#include "daemon/format/signature.h"

#include <inttypes.h>
#include <sodium.h>
#include <string.h>

#include "daemon/format/hash.h"

/* A fingerprint is as long as its references: 65,536 of the longest we take fit here. */
#define FINGERPRINT_MAX MIB(64)

#define SECRET_BYTES         crypto_sign_SECRETKEYBYTES
#define SIGNATURE_BYTES      crypto_sign_BYTES
#define SIGNATURE_TEXT_SIZE  sodium_base64_ENCODED_LEN(SIGNATURE_BYTES, sodium_base64_VARIANT_ORIGINAL)
#define PUBLIC_KEY_TEXT_SIZE sodium_base64_ENCODED_LEN(PUBLIC_KEY_BYTES, sodium_base64_VARIANT_ORIGINAL)

struct signing_key {
	char name[KEY_NAME_MAX + 1];
	uint8_t secret[SECRET_BYTES]; /* seed, then public key */
};

static size_t len_without_trailing_space(const char *text)
{
	size_t len = strlen(text);

	while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL)
		len--;
	return len;
}

/* Decodes exactly N_BYTES; nothing may be left over on either side. */
static bool decode(uint8_t *ret, size_t n_bytes, const char *text, size_t len)
{
	size_t n = 0;

	return sodium_base642bin(ret, n_bytes, text, len, NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL) ==
	               0 &&
	       n == n_bytes;
}

/* Splits at the first colon. Returns what follows it, or NULL if the name is not usable. */
static const char *split_name(char name[KEY_NAME_MAX + 1], const char *text)
{
	size_t len = strcspn(text, ":");

	if (text[len] != ':' || len == 0 || len > KEY_NAME_MAX)
		return NULL;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f)
			return NULL;
	memcpy(name, text, len);
	name[len] = '\0';
	return text + len + 1;
}

/* Signatures by a key whose halves do not belong together would be worth nothing to anybody. */
static bool halves_agree(const struct signing_key *key)
{
	uint8_t public[PUBLIC_KEY_BYTES];
	uint8_t *secret = sodium_malloc(SECRET_BYTES);
	bool agree;

	if (secret == NULL)
		return true;
	crypto_sign_seed_keypair(public, secret, key->secret);
	agree = memcmp(public, key->secret + crypto_sign_SEEDBYTES, PUBLIC_KEY_BYTES) == 0;
	sodium_free(secret);
	return agree;
}

int signing_key_parse_bare(struct signing_key **ret, const char *name, const char *text, const char *origin,
                           struct error *err)
{
	struct signing_key *key = sodium_init() < 0 ? NULL : sodium_malloc(sizeof(*key));

	if (key == NULL)
		return error_set(err, ERROR_TRANSIENT, "%s: no memory that can be locked for a key", origin);
	memset(key, 0, sizeof(*key));
	memcpy(key->name, name, strnlen(name, KEY_NAME_MAX));
	if (!decode(key->secret, SECRET_BYTES, text, len_without_trailing_space(text))) {
		sodium_free(key);
		return error_set(err, ERROR_OPERATOR,
		                 "%s: not a signing key: what follows the name must be base64 of 64 bytes",
		                 origin);
	}
	if (!halves_agree(key)) {
		sodium_free(key);
		return error_set(err, ERROR_OPERATOR,
		                 "%s: not a signing key: its public half does not belong to its secret half",
		                 origin);
	}
	sodium_mprotect_readonly(key);
	*ret = key;
	return 0;
}

int signing_key_parse(struct signing_key **ret, const char *text, const char *origin, struct error *err)
{
	char name[KEY_NAME_MAX + 1];
	const char *digits = split_name(name, text);

	if (digits == NULL)
		return error_set(err, ERROR_OPERATOR, "%s: not a signing key: it must be NAME:BASE64",
		                 origin);
	return signing_key_parse_bare(ret, name, digits, origin, err);
}

void signing_key_free(struct signing_key *key)
{
	sodium_free(key);
}

const char *signing_key_name(const struct signing_key *key)
{
	return key->name;
}

void signing_key_format_public(const struct signing_key *key, struct buf *buf)
{
	char text[PUBLIC_KEY_TEXT_SIZE];

	sodium_bin2base64(text, sizeof(text), key->secret + crypto_sign_SEEDBYTES, PUBLIC_KEY_BYTES,
	                  sodium_base64_VARIANT_ORIGINAL);
	buf_printf(buf, "%s:%s", key->name, text);
}

int public_key_parse(struct public_key *ret, const char *text, struct error *err)
{
	struct public_key key = { .name = "" };
	const char *digits = split_name(key.name, text);

	if (digits == NULL ||
	    !decode(key.bytes, sizeof(key.bytes), digits, len_without_trailing_space(digits)))
		return error_set(err, ERROR_OPERATOR,
		                 "\"%.*s\" is not a public key: it must be NAME:BASE64 of 32 bytes",
		                 (int)strcspn(text, ":"), text);
	*ret = key;
	return 0;
}

void fingerprint_format(struct buf *buf, const struct path_info *info)
{
	char hash[SHA256_TEXT_SIZE];

	buf_printf(buf, "1;%s;%s;%" PRIu64 ";", info->path, hash_format_sha256(info->nar_hash, hash),
	           info->nar_size);
	for (size_t i = 0; i < info->n_references; i++) {
		if (i > 0)
			buf_putc(buf, ',');
		buf_puts(buf, info->references[i]);
	}
}

void signature_format(struct buf *buf, const struct signing_key *key, const struct path_info *info)
{
	CLEANUP(buf_fini) struct buf message = { .max = FINGERPRINT_MAX };
	uint8_t sig[SIGNATURE_BYTES];
	char text[SIGNATURE_TEXT_SIZE];

	fingerprint_format(&message, info);
	if (!buf_ok(&message)) {
		buf->failed = true;
		return;
	}
	crypto_sign_detached(sig, NULL, (const uint8_t *)message.data, message.len, key->secret);
	sodium_bin2base64(text, sizeof(text), sig, sizeof(sig), sodium_base64_VARIANT_ORIGINAL);
	buf_printf(buf, "%s:%s", key->name, text);
}

bool signature_verify(const char *sig, const struct public_key *key, const struct path_info *info)
{
	CLEANUP(buf_fini) struct buf message = { .max = FINGERPRINT_MAX };
	char name[KEY_NAME_MAX + 1];
	const char *digits = split_name(name, sig);
	uint8_t bytes[SIGNATURE_BYTES];

	if (digits == NULL || strcmp(name, key->name) != 0 ||
	    !decode(bytes, sizeof(bytes), digits, strlen(digits)))
		return false;
	fingerprint_format(&message, info);
	return buf_ok(&message) && crypto_sign_verify_detached(bytes, (const uint8_t *)message.data,
	                                                       message.len, key->bytes) == 0;
}

bool signature_is_well_formed(const char *sig)
{
	char name[KEY_NAME_MAX + 1];
	const char *digits = split_name(name, sig);
	uint8_t bytes[1024];
	size_t n = 0;

	/* Any length: keys of kinds to come have signatures of other sizes. */
	return digits != NULL &&
	       sodium_base642bin(bytes, sizeof(bytes), digits, strlen(digits), NULL, &n, NULL,
	                         sodium_base64_VARIANT_ORIGINAL) == 0 &&
	       n > 0;
}
