/* Hashes, keys, store paths, durations, names of spool files: what is taken is what is written. */
#include "common/spool.h"
#include "common/store_path.h"
#include "common/units.h"
#include "daemon/config/key_text.h"
#include "daemon/format/hash.h"
#include "daemon/format/signature.h"
#include "tests/fuzz/fuzz.h"

#define STORE "/nix/store"

static void check_hash(const char *text)
{
	uint8_t hash[SHA256_BYTES], again[SHA256_BYTES];
	char written[SHA256_TEXT_SIZE];

	if (!hash_parse_sha256(text, hash))
		return;
	MUST(hash_parse_sha256(hash_format_sha256(hash, written), again));
	MUST(memcmp(hash, again, sizeof(hash)) == 0);
}

static void check_nixbase32(const char *text, size_t len)
{
	char written[NIXBASE32_LEN(20) + 1];
	uint8_t bytes[20];

	if (!nixbase32_decode(bytes, sizeof(bytes), text, len))
		return;
	nixbase32_encode(written, bytes, sizeof(bytes));
	MUST(strcmp(written, text) == 0);
}

static void check_path(const char *text)
{
	size_t n = store_path_prefix_len(text, STORE);
	struct error err;

	if (store_path_check(text, STORE, &err) == 0) {
		MUST(n == strlen(text) && n < STORE_PATH_SIZE);
		MUST(store_base_is_valid(store_path_base(text), strlen(store_path_base(text))));
	} else {
		MUST((n == 0 || n < strlen(text)) && err.kind == ERROR_PERMANENT);
	}
	MUST(n == 0 || text[n] == '\0' || text[n] == '/');
}

static void check_secret_key(const char *text, bool is_key_text)
{
	struct signing_key *key;
	struct public_key public;
	struct error err;
	struct buf out;

	if (signing_key_parse(&key, text, "file", &err) < 0) {
		MUST(strstr(err.text, "file: ") == err.text && fuzz_is_plain(err.text));
		return;
	}
	MUST(is_key_text);
	buf_init(&out, 1024);
	signing_key_format_public(key, &out);
	MUST(public_key_parse(&public, buf_text(&out), &err) == 0);
	MUST(strcmp(public.name, signing_key_name(key)) == 0);
	buf_fini(&out);
	signing_key_free(key);
}

static void check_keys(const char *text, size_t size)
{
	static char path[] = STORE "/00000000000000000000000000000000-x";
	const struct path_info info = { .path = path, .nar_size = 1 };
	struct public_key public = { .name = "" };
	struct error err;

	if (key_text_is_valid(text, KEY_PUBLIC, true))
		MUST(public_key_parse(&public, text, &err) == 0);
	/* Locked memory is slow to get. */
	if (size >= 88 && size <= 400)
		check_secret_key(text, key_text_is_valid(text, KEY_SECRET, true));
	MUST(!signature_verify(text, &public, &info) || signature_is_well_formed(text));
}

static void check_spool_name(const char *text)
{
	uint64_t unix_ns = 0;

	if (!spool_name_parse(text, &unix_ns))
		return;
	MUST(strchr(text, '/') == NULL && text[0] != '.' && strlen(text) < 64);
	MUST(strtoull(text, NULL, 10) == unix_ns);
}

static void check_units(const char *text)
{
	uint64_t seconds = UINT64_MAX;
	char shown[UNITS_TEXT_SIZE];

	if (!units_parse_seconds(text, &seconds))
		MUST(seconds == UINT64_MAX);
	else
		MUST(seconds <= UINT64_C(100) * 365 * 86400);
	units_format_seconds((int64_t)seconds, shown);
	units_format_bytes(strtoull(text, NULL, 10), shown);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size);

	check_hash(text);
	check_nixbase32(text, strlen(text));
	check_path(text);
	check_keys(text, size);
	check_spool_name(text);
	check_units(text);
	free(text);
	return 0;
}
