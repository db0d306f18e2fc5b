/* format: hashes, path info, signatures and narinfos, against what Nix itself wrote. */
#include <stdlib.h>
#include <string.h>

#include "daemon/format/hash.h"
#include "daemon/format/narinfo.h"
#include "daemon/format/signature.h"
#include "tests/unit/test.h"

#define STORE "/nix/store"
#define NOTE  "d5ijfyap46yc9zxp29hr3a830dralh3m-note-a"
#define HELLO "i9pmrzmpshapij2kin22pff6fc2adavx-hello.txt"
#define DEMO  "znfl9jqnlc8ialnfmiwhg8rs6pllsccf-demo-1.0"

#define NOTE_HASH "sha256:07alqmiwhqhrccn8qp2jk3vrhvdvcfi0a807hf21ahdkka44i35r"
#define DEMO_HASH "sha256:1s122xvsbal95pk1040icypwz8fcklzi7mslr653yp57i9zz6x6d"
#define DEMO_FILE "0mgls774qllgsvkrsx3zdl8vjpv9gs1chqqs32g2nm4zs0b8ncin"

#define SECRET_A                                                                    \
	"test-cache-1:UFI2ERhR8hGA/WuA5r6ZV17o/a6vTuEXMJA5h156Y4mTU+6ojsOFYVkU4ui/" \
	"S9weFV19Yk3zo67cBJKr0G0KYQ=="
#define PUBLIC_A "test-cache-1:k1PuqI7DhWFZFOLov0vcHhVdfWJN86Ou3ASSq9BtCmE="
#define SECRET_B \
	"seed-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA=="
#define PUBLIC_B "seed-1:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="

#define NOTE_SIG_A                                                                                          \
	"test-cache-1:dMpS4AKsLhA52U18ZCEH6t+yoTrws3jVx+9lTT6F8ZScNdpMmYtjaxCDtgVQWOCd27qZ42QVP+f5s/7Foit/" \
	"Cg=="
#define NOTE_SIG_B \
	"seed-1:7Mp1lKdLUBwcaL6gLZap46tIvk/Bi36Xx1xT9vkVB5i6a546cw+c1FuxIm82VTMT+/Y3Ey3i6x0YNjEHKXzxCg=="
#define DEMO_SIG_A                                                                                \
	"test-cache-1:Y4lMs8T5V3iZ3SBmOuJZ5HJ0Z3vuzoGCHiyOqrjou+UJfiU3MiLE+879gb+e+AtanhRS39u7W/" \
	"OqBSo2Qe7UDw=="
#define DEMO_SIG_B \
	"seed-1:gp4ZZ20diCk3iAcSvuC28MOPqLZjkw2Go0TdICTg8q4ba4yGRbeGYi5tX+QL8rAH/KYMAEAKxuuBpH5mU8DPDg=="

#define NOTE_FINGERPRINT "1;" STORE "/" NOTE ";" NOTE_HASH ";120;"
#define DEMO_FINGERPRINT \
	"1;" STORE "/" DEMO ";" DEMO_HASH ";280;" STORE "/" NOTE "," STORE "/" HELLO "," STORE "/" DEMO

#define NOTE_NARINFO                                                          \
	"StorePath: " STORE "/" NOTE "\n"                                     \
	"URL: nar/07alqmiwhqhrccn8qp2jk3vrhvdvcfi0a807hf21ahdkka44i35r.nar\n" \
	"Compression: none\n"                                                 \
	"FileHash: " NOTE_HASH "\n"                                           \
	"FileSize: 120\n"                                                     \
	"NarHash: " NOTE_HASH "\n"                                            \
	"NarSize: 120\n"                                                      \
	"References: \n"                                                      \
	"Sig: " NOTE_SIG_A "\n"                                               \
	"CA: text:sha256:0q0hnl0a3h1k9rqszkgxg9rl4gkw6wnz8ggsi2919nd2x6f8vadn\n"

#define DEMO_NARINFO                                               \
	"StorePath: " STORE "/" DEMO "\n"                          \
	"URL: nar/" DEMO_FILE ".nar.zst\n"                         \
	"Compression: zstd\n"                                      \
	"FileHash: sha256:" DEMO_FILE "\n"                         \
	"FileSize: 207\n"                                          \
	"NarHash: " DEMO_HASH "\n"                                 \
	"NarSize: 280\n"                                           \
	"References: " NOTE " " HELLO " " DEMO "\n"                \
	"Deriver: f4r7iqiz0s46mhjzkykvi7wlbc26khnl-demo-1.0.drv\n" \
	"Sig: " DEMO_SIG_A "\n"

static void add_text(char ***texts, size_t *n, const char *text)
{
	*texts = realloc(*texts, (*n + 1) * sizeof(**texts));
	assert_non_null(*texts);
	(*texts)[(*n)++] = strdup(text);
}

static struct path_info note_info(void)
{
	struct path_info info = { .path = strdup(STORE "/" NOTE), .nar_size = 120 };

	info.ca = strdup("text:sha256:0q0hnl0a3h1k9rqszkgxg9rl4gkw6wnz8ggsi2919nd2x6f8vadn");
	assert_true(hash_parse_sha256(NOTE_HASH, info.nar_hash));
	return info;
}

/* References in the wrong order and twice, for path_info_normalize to mend. */
static struct path_info demo_info(void)
{
	struct path_info info = { .path = strdup(STORE "/" DEMO), .nar_size = 280 };

	info.deriver = strdup(STORE "/f4r7iqiz0s46mhjzkykvi7wlbc26khnl-demo-1.0.drv");
	assert_true(hash_parse_sha256(DEMO_HASH, info.nar_hash));
	add_text(&info.references, &info.n_references, STORE "/" DEMO);
	add_text(&info.references, &info.n_references, STORE "/" HELLO);
	add_text(&info.references, &info.n_references, STORE "/" NOTE);
	add_text(&info.references, &info.n_references, STORE "/" HELLO);
	path_info_normalize(&info);
	return info;
}

static const struct {
	const char *hex, *nix32;
} vectors[] = {
	{ "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	  "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73" },
	{ "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
	  "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s" },
	{ "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
	  "00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq" },
	{ "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	  "1zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz" },
	{ "0100000000000000000000000000000000000000000000000000000000000000",
	  "0000000000000000000000000000000000000000000000000001" },
	{ "0000000000000000000000000000000000000000000000000000000000000080",
	  "1000000000000000000000000000000000000000000000000000" },
	{ "0000000000000000000000000000000000000000000000000000000000000001",
	  "0080000000000000000000000000000000000000000000000000" },
};

static void nix32_is_written_and_read_as_nix_does(void **state)
{
	uint8_t hash[SHA256_BYTES], back[SHA256_BYTES], bytes[20];
	char text[SHA256_NIX32_SIZE];
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(vectors); i++) {
		assert_true(hash_parse_sha256(vectors[i].hex, hash));
		nixbase32_encode(text, hash, sizeof(hash));
		assert_string_equal(text, vectors[i].nix32);
		assert_true(nixbase32_decode(back, sizeof(back), text, strlen(text)));
		assert_memory_equal(back, hash, sizeof(hash));
	}
	for (uint8_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = i;
	nixbase32_encode(text, bytes, sizeof(bytes));
	assert_string_equal(text, "2c91240g1q6hq2qa1440f1h50h1h4080");
	assert_true(nixbase32_decode(back, 20, text, 32));
	assert_memory_equal(back, bytes, 20);
}

static void nix32_that_nix_refuses_is_refused(void **state)
{
	static const char *const bad[] = {
		"2zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
		"0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c7",
		"0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c733",
		"0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c7e",
		"0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c7o",
		"0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c7u",
		"0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c7t",
		"0Mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
		"",
	};
	uint8_t hash[SHA256_BYTES];
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(bad); i++)
		if (nixbase32_decode(hash, sizeof(hash), bad[i], strlen(bad[i])))
			fail_msg("taken: %s", bad[i]);
}

static void a_hash_is_read_in_every_spelling_of_nix_and_no_other(void **state)
{
	static const char *const good[] = {
		"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
		"sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
		"sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	};
	static const char *const bad[] = {
		"0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
		"sha256-0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
		"sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
		"sha256:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=",
		"sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
		"sha1:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85",
		"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855aa",
		"sha256:",
		"sha256",
		"",
	};
	uint8_t hash[SHA256_BYTES];
	char text[SHA256_TEXT_SIZE], hex[SHA256_HEX_SIZE];
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(good); i++) {
		memset(hash, 0, sizeof(hash));
		if (!hash_parse_sha256(good[i], hash))
			fail_msg("refused: %s", good[i]);
		assert_string_equal(hash_format_sha256(hash, text), good[1]);
		assert_string_equal(hash_format_hex(hash, sizeof(hash), hex), good[4]);
	}
	for (size_t i = 0; i < N_ELEMENTS(bad); i++)
		if (hash_parse_sha256(bad[i], hash))
			fail_msg("taken: %s", bad[i]);
}

static void a_copied_path_info_has_texts_of_its_own(void **state)
{
	struct path_info info = demo_info(), copy;
	struct error err;
	(void)state;

	add_text(&info.sigs, &info.n_sigs, DEMO_SIG_A);
	assert_int_equal(path_info_copy(&copy, &info, &err), 0);
	path_info_fini(&info);
	assert_string_equal(copy.path, STORE "/" DEMO);
	assert_int_equal(copy.n_references, 3);
	assert_string_equal(copy.references[0], STORE "/" NOTE);
	assert_string_equal(copy.references[2], STORE "/" DEMO);
	assert_string_equal(copy.sigs[0], DEMO_SIG_A);
	assert_null(copy.ca);
	path_info_fini(&copy);
	assert_null(copy.path);
	path_info_fini(&copy);
}

static void fingerprints_are_nix_s(void **state)
{
	struct path_info note = note_info(), demo = demo_info();
	struct buf buf;
	(void)state;

	buf_init(&buf, 4096);
	fingerprint_format(&buf, &note);
	assert_string_equal(buf_text(&buf), NOTE_FINGERPRINT);
	assert_int_equal(buf.len, 117);
	buf_clear(&buf);
	fingerprint_format(&buf, &demo);
	assert_string_equal(buf_text(&buf), DEMO_FINGERPRINT);
	assert_int_equal(buf.len, 276);
	buf_fini(&buf);
	path_info_fini(&note);
	path_info_fini(&demo);
}

static void signatures_are_bit_by_bit_those_of_nix(void **state)
{
	static const struct {
		const char *secret, *public, *note, *demo;
	} keys[] = {
		{ SECRET_A, PUBLIC_A, NOTE_SIG_A, DEMO_SIG_A },
		{ SECRET_B "\n", PUBLIC_B, NOTE_SIG_B, DEMO_SIG_B },
	};
	struct path_info note = note_info(), demo = demo_info();
	struct signing_key *key = NULL;
	struct public_key public;
	struct error err;
	struct buf buf;
	(void)state;

	buf_init(&buf, 4096);
	for (size_t i = 0; i < N_ELEMENTS(keys); i++) {
		assert_int_equal(signing_key_parse(&key, keys[i].secret, "main.secret", &err), 0);
		signing_key_format_public(key, &buf);
		assert_string_equal(buf_text(&buf), keys[i].public);
		assert_int_equal(public_key_parse(&public, keys[i].public, &err), 0);
		buf_clear(&buf);
		signature_format(&buf, key, &note);
		assert_string_equal(buf_text(&buf), keys[i].note);
		assert_true(signature_verify(buf_text(&buf), &public, &note));
		buf_clear(&buf);
		signature_format(&buf, key, &demo);
		assert_string_equal(buf_text(&buf), keys[i].demo);
		assert_true(signature_verify(buf_text(&buf), &public, &demo));
		assert_false(signature_verify(buf_text(&buf), &public, &note));
		buf_clear(&buf);
		signing_key_free(key);
	}
	buf_fini(&buf);
	path_info_fini(&note);
	path_info_fini(&demo);
}

static void a_signature_of_another_name_key_or_path_is_not_valid(void **state)
{
	struct path_info note = note_info();
	struct public_key a, b;
	struct error err;
	(void)state;

	assert_int_equal(public_key_parse(&a, PUBLIC_A, &err), 0);
	assert_int_equal(public_key_parse(&b, PUBLIC_B, &err), 0);
	assert_true(signature_verify(NOTE_SIG_A, &a, &note));
	assert_false(signature_verify(NOTE_SIG_A, &b, &note));
	memcpy(b.name, a.name, sizeof(b.name));
	assert_false(signature_verify(NOTE_SIG_A, &b, &note));
	assert_false(signature_verify("test-cache-1:AAAA", &a, &note));
	assert_false(signature_verify("test-cache-1", &a, &note));
	assert_false(signature_verify("", &a, &note));
	assert_false(signature_verify(NOTE_SIG_A "AAAA", &a, &note));
	note.nar_size++;
	assert_false(signature_verify(NOTE_SIG_A, &a, &note));
	path_info_fini(&note);
}

static void a_bad_secret_key_is_the_operator_s_and_is_never_shown(void **state)
{
	static const char *const bad[] = {
		"",
		"test-cache-1",
		":UFI2ERhR8hGA",
		"UFI2ERhR8hGA/WuA5r6ZV17o/a6vTuEXMJA5h156Y4mTU+6ojsOFYVkU4ui/S9weFV19Yk3zo67cBJKr0G0KYQ==",
		"test-cache-1:UFI2ERhR8hGA",
		"test-cache-1:UFI2ERhR8hGA/WuA5r6ZV17o/a6vTuEXMJA5h156Y4k=",
		SECRET_A "=",
		SECRET_A "\nUFI2",
		"test "
		"cache:UFI2ERhR8hGA/WuA5r6ZV17o/a6vTuEXMJA5h156Y4mTU+6ojsOFYVkU4ui/"
		"S9weFV19Yk3zo67cBJKr0G0KYQ==",
		/* the public half of the other key */
		"x:UFI2ERhR8hGA/WuA5r6ZV17o/a6vTuEXMJA5h156Y4kDoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA==",
	};
	struct signing_key *key = NULL;
	struct error err;
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
		if (signing_key_parse(&key, bad[i], "/etc/main.secret", &err) == 0)
			fail_msg("taken: %s", bad[i]);
		assert_null(key);
		assert_int_equal(err.kind, ERROR_OPERATOR);
		assert_non_null(strstr(err.text, "/etc/main.secret"));
		assert_null(strstr(err.text, "UFI2"));
	}
}

static void a_key_without_a_name_is_given_one(void **state)
{
	struct signing_key *key = NULL;
	struct error err;
	struct buf buf;
	(void)state;

	assert_int_equal(
		signing_key_parse_bare(&key, "mine.cachix.org-1", strchr(SECRET_A, ':') + 1, "x", &err), 0);
	assert_string_equal(signing_key_name(key), "mine.cachix.org-1");
	buf_init(&buf, 4096);
	signing_key_format_public(key, &buf);
	assert_string_equal(buf_text(&buf), "mine.cachix.org-1:k1PuqI7DhWFZFOLov0vcHhVdfWJN86Ou3ASSq9BtCmE=");
	buf_fini(&buf);
	signing_key_free(key);
}

static void a_public_key_must_be_a_name_and_32_bytes(void **state)
{
	static const char *const bad[] = { "", "a", "a:", ":AAAA", "a:AAAA", SECRET_A, PUBLIC_A "x" };
	struct public_key key;
	struct error err;
	(void)state;

	assert_int_equal(public_key_parse(&key, PUBLIC_A " \n", &err), 0);
	assert_string_equal(key.name, "test-cache-1");
	for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
		assert_int_equal(public_key_parse(&key, bad[i], &err), -1);
		assert_int_equal(err.kind, ERROR_OPERATOR);
		assert_null(strstr(err.text, "UFI2"));
	}
}

static void narinfos_are_byte_for_byte_those_of_nix(void **state)
{
	struct path_info note = note_info(), demo = demo_info();
	const char *note_sig = NOTE_SIG_A;
	struct narinfo_file file = {
		.url = "nar/07alqmiwhqhrccn8qp2jk3vrhvdvcfi0a807hf21ahdkka44i35r.nar",
		.compression = "none",
		.file_hash = note.nar_hash,
		.file_size = 120,
		.sigs = &note_sig,
		.n_sigs = 1,
	};
	uint8_t file_hash[SHA256_BYTES];
	struct error err;
	struct buf buf;
	(void)state;

	buf_init(&buf, 4096);
	assert_int_equal(narinfo_format(&buf, &note, &file, &err), 0);
	assert_string_equal(buf_text(&buf), NOTE_NARINFO);

	buf_clear(&buf);
	assert_true(hash_parse_sha256("sha256:" DEMO_FILE, file_hash));
	add_text(&demo.sigs, &demo.n_sigs, DEMO_SIG_A);
	file = (struct narinfo_file){ .url = "nar/" DEMO_FILE ".nar.zst",
		                      .compression = "zstd",
		                      .file_hash = file_hash,
		                      .file_size = 207 };
	assert_int_equal(narinfo_format(&buf, &demo, &file, &err), 0);
	assert_string_equal(buf_text(&buf), DEMO_NARINFO);
	buf_fini(&buf);
	path_info_fini(&note);
	path_info_fini(&demo);
}

static void signatures_are_sorted_and_each_is_written_once_and_junk_never(void **state)
{
	struct path_info note = note_info();
	const char *const more[] = {
		NOTE_SIG_A, "junk", NOTE_SIG_B, "a:", ":AAAA", "a:!!!!", "z:AAAA\nURL: x"
	};
	struct narinfo_file file = {
		.url = "nar/x.nar", .compression = "none", .sigs = more, .n_sigs = N_ELEMENTS(more)
	};
	struct error err;
	struct buf buf;
	(void)state;

	add_text(&note.sigs, &note.n_sigs, NOTE_SIG_A);
	buf_init(&buf, 4096);
	assert_int_equal(narinfo_format(&buf, &note, &file, &err), 0);
	assert_null(strstr(buf_text(&buf), "FileHash"));
	assert_null(strstr(buf_text(&buf), "FileSize"));
	assert_non_null(
		strstr(buf_text(&buf), "References: \nSig: " NOTE_SIG_B "\nSig: " NOTE_SIG_A "\nCA: "));
	buf_fini(&buf);
	path_info_fini(&note);
}

static void no_narinfo_is_written_that_readers_would_refuse(void **state)
{
	struct path_info note = note_info();
	struct narinfo_file file = { .url = "nar/x.nar", .compression = "none" };
	struct error err;
	struct buf buf;
	(void)state;

	buf_init(&buf, 4096);
	note.nar_size = 0;
	assert_int_equal(narinfo_format(&buf, &note, &file, &err), -1);
	assert_int_equal(err.kind, ERROR_PERMANENT);
	note.nar_size = 120;
	file.url = "nar/x\nSig: y";
	assert_int_equal(narinfo_format(&buf, &note, &file, &err), -1);
	file.url = "nar/x";
	assert_int_equal(narinfo_format(&buf, &note, &file, &err), 0);
	buf_fini(&buf);
	buf_init(&buf, 20);
	assert_int_equal(narinfo_format(&buf, &note, &file, &err), -1);
	assert_int_equal(err.kind, ERROR_TRANSIENT);
	buf_fini(&buf);
	path_info_fini(&note);
}

static int parse(struct narinfo *ret, const char *text, struct error *err)
{
	return narinfo_parse(ret, text, strlen(text), STORE, err);
}

static void a_narinfo_of_nix_is_read(void **state)
{
	struct narinfo n = { 0 };
	struct public_key key;
	struct error err;
	char text[SHA256_TEXT_SIZE];
	(void)state;

	assert_int_equal(parse(&n, DEMO_NARINFO, &err), 0);
	assert_string_equal(n.info.path, STORE "/" DEMO);
	assert_string_equal(n.url, "nar/" DEMO_FILE ".nar.zst");
	assert_string_equal(n.compression, "zstd");
	assert_int_equal(n.file_size, 207);
	assert_string_equal(hash_format_sha256(n.info.nar_hash, text), DEMO_HASH);
	assert_int_equal(n.info.nar_size, 280);
	assert_int_equal(n.info.n_references, 3);
	assert_string_equal(n.info.references[1], STORE "/" HELLO);
	assert_int_equal(n.info.n_sigs, 1);
	assert_int_equal(public_key_parse(&key, PUBLIC_A, &err), 0);
	assert_true(signature_verify(n.info.sigs[0], &key, &n.info));
	narinfo_fini(&n);

	assert_int_equal(parse(&n, NOTE_NARINFO, &err), 0);
	assert_int_equal(n.info.n_references, 0);
	narinfo_fini(&n);
}

#define NOTE_HEAD "StorePath: " STORE "/" NOTE "\nURL: nar/x\nNarHash: " NOTE_HASH "\n"

static void what_nix_forgives_is_forgiven(void **state)
{
	struct narinfo n = { 0 };
	struct error err;
	(void)state;

	/* any order, unknown fields, no References, no Compression */
	assert_int_equal(parse(&n, "NarSize: 1\nX-Mine: \t\nSystem: x86\n" NOTE_HEAD, &err), 0);
	assert_string_equal(n.compression, "bzip2");
	assert_int_equal(n.file_size, 0);
	narinfo_fini(&n);
	assert_int_equal(parse(&n, NOTE_HEAD "NarSize: 120\nReferences: \nReferences: " NOTE "\n", &err), 0);
	assert_string_equal(n.info.references[0], STORE "/" NOTE);
	narinfo_fini(&n);
}

static void a_narinfo_that_nix_refuses_is_refused_with_its_line(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "", "missing" },
		{ NOTE_HEAD, "missing" },
		{ NOTE_HEAD "NarSize: 120", "line 4: it does not end" },
		{ NOTE_HEAD "NarSize: 120\r\n", "line 4" },
		{ NOTE_HEAD "NarSize: 0\n", "line 4" },
		{ NOTE_HEAD "NarSize: -1\n", "line 4" },
		{ NOTE_HEAD "NarSize: \n", "line 4" },
		{ NOTE_HEAD "NarSize: 18446744073709551616\n", "too large" },
		{ NOTE_HEAD "NarSize: 120\nNarSize: 120\n", "line 5: the field is there twice" },
		{ NOTE_HEAD "NarSize: 120\nReferences:\nSig: a:AAAA\n", "line 5: it is not" },
		{ NOTE_HEAD "NarSize: 120\nReferences: x\n", "line 5: a reference" },
		{ NOTE_HEAD "NarSize: 120\nReferences: " NOTE "  " DEMO "\n", "line 5: a reference" },
		{ NOTE_HEAD "NarSize: 120\nReferences: " NOTE " \n", "line 5: a reference" },
		{ NOTE_HEAD "NarSize: 120\nReferences: " NOTE "\nReferences: " NOTE "\n", "line 6" },
		{ NOTE_HEAD "NarSize: 120\nno colon\n", "line 5: it is not" },
		{ NOTE_HEAD "NarSize: 120\nStorePath: " STORE "/" NOTE "\n", "line 5" },
		{ "StorePath: /gnu/store/" NOTE "\n", "line 1" },
		{ "StorePath: " STORE "/../" NOTE "\n", "line 1" },
		{ "NarHash: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n", "line 1" },
		{ "NarHash: md5:9f86d081884c7d659a2feaa0c55ad015\n", "line 1" },
		{ "<html>not found</html>\n", "line 1" },
	};
	struct narinfo n = { 0 };
	struct error err;
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		if (parse(&n, cases[i].text, &err) == 0)
			fail_msg("taken: %s", cases[i].text);
		assert_int_equal(err.kind, ERROR_PERMANENT);
		if (strstr(err.text, cases[i].says) == NULL)
			fail_msg("%s: %s", cases[i].text, err.text);
		assert_null(n.info.path);
	}
	assert_int_equal(narinfo_parse(&n, "Sig: a\0b\n", 9, STORE, &err), -1);
}

static void a_narinfo_with_endless_lists_is_refused(void **state)
{
	struct narinfo n = { 0 };
	struct error err;
	struct buf buf;
	(void)state;

	buf_init(&buf, MIB(4));
	for (int i = 0; i < 257; i++)
		buf_puts(&buf, "Sig: a:AAAA\n");
	assert_int_equal(narinfo_parse(&n, buf.data, buf.len, STORE, &err), -1);
	assert_non_null(strstr(err.text, "line 257: too many"));
	buf_clear(&buf);
	buf_puts(&buf, "References: " NOTE);
	for (int i = 0; i < 16384; i++)
		buf_puts(&buf, " " NOTE);
	buf_puts(&buf, "\n");
	assert_int_equal(narinfo_parse(&n, buf.data, buf.len, STORE, &err), -1);
	assert_non_null(strstr(err.text, "line 1: too many"));
	while (buf.len <= NARINFO_MAX_BYTES)
		buf_puts(&buf, "Sig: a:AAAA\n");
	assert_int_equal(narinfo_parse(&n, buf.data, buf.len, STORE, &err), -1);
	assert_non_null(strstr(err.text, "too long"));
	buf_fini(&buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nix32_is_written_and_read_as_nix_does),
		cmocka_unit_test(nix32_that_nix_refuses_is_refused),
		cmocka_unit_test(a_hash_is_read_in_every_spelling_of_nix_and_no_other),
		cmocka_unit_test(a_copied_path_info_has_texts_of_its_own),
		cmocka_unit_test(fingerprints_are_nix_s),
		cmocka_unit_test(signatures_are_bit_by_bit_those_of_nix),
		cmocka_unit_test(a_signature_of_another_name_key_or_path_is_not_valid),
		cmocka_unit_test(a_bad_secret_key_is_the_operator_s_and_is_never_shown),
		cmocka_unit_test(a_key_without_a_name_is_given_one),
		cmocka_unit_test(a_public_key_must_be_a_name_and_32_bytes),
		cmocka_unit_test(narinfos_are_byte_for_byte_those_of_nix),
		cmocka_unit_test(signatures_are_sorted_and_each_is_written_once_and_junk_never),
		cmocka_unit_test(no_narinfo_is_written_that_readers_would_refuse),
		cmocka_unit_test(a_narinfo_of_nix_is_read),
		cmocka_unit_test(what_nix_forgives_is_forgiven),
		cmocka_unit_test(a_narinfo_that_nix_refuses_is_refused_with_its_line),
		cmocka_unit_test(a_narinfo_with_endless_lists_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
