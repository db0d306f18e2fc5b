#include "daemon/pack/unpack.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "daemon/format/hash.h"

#define OUT_BYTES      KIB(256)
#define WINDOW_LOG_MAX 27

struct unpack {
	EVP_MD_CTX *sha256;
	ZSTD_DCtx *zstd; /* NULL: it is the NAR itself */
	bool is_inside;  /* of a frame that has not ended */
	uint64_t nar_bytes;
	char out[OUT_BYTES];
};

int unpack_new(struct unpack **ret, const char *compression, struct error *err)
{
	bool is_zstd = strcmp(compression, "zstd") == 0;
	struct unpack *unpack;

	if (!is_zstd && strcmp(compression, "none") != 0)
		return 1;
	unpack = calloc(1, sizeof(*unpack));
	if (unpack == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	unpack->sha256 = EVP_MD_CTX_new();
	unpack->zstd = is_zstd ? ZSTD_createDCtx() : NULL;
	if (unpack->sha256 == NULL || (is_zstd && unpack->zstd == NULL) ||
	    EVP_DigestInit_ex(unpack->sha256, EVP_sha256(), NULL) != 1 ||
	    (is_zstd &&
	     ZSTD_isError(ZSTD_DCtx_setParameter(unpack->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX)))) {
		unpack_free(unpack);
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	}
	*ret = unpack;
	return 0;
}

void unpack_free(struct unpack *unpack)
{
	if (unpack == NULL)
		return;
	EVP_MD_CTX_free(unpack->sha256);
	ZSTD_freeDCtx(unpack->zstd);
	free(unpack);
}

static int take(struct unpack *unpack, const void *data, size_t n_bytes, uint64_t nar_size, struct error *err)
{
	unpack->nar_bytes += n_bytes;
	if (unpack->nar_bytes > nar_size)
		return error_set(err, ERROR_PERMANENT,
		                 "it unpacks to more than the %" PRIu64 " bytes of the NAR", nar_size);
	if (EVP_DigestUpdate(unpack->sha256, data, n_bytes) != 1)
		return error_set(err, ERROR_TRANSIENT, "SHA-256 failed");
	return 0;
}

int unpack_feed(struct unpack *unpack, const void *data, size_t n_bytes, uint64_t nar_size, struct error *err)
{
	ZSTD_inBuffer in = { .src = data, .size = n_bytes };

	if (unpack->zstd == NULL)
		return take(unpack, data, n_bytes, nar_size, err);
	for (;;) {
		ZSTD_outBuffer out = { .dst = unpack->out, .size = sizeof(unpack->out) };
		size_t rc = ZSTD_decompressStream(unpack->zstd, &out, &in);

		if (ZSTD_isError(rc))
			return error_set(err, ERROR_PERMANENT, "it cannot be unpacked: %s",
			                 ZSTD_getErrorName(rc));
		unpack->is_inside = rc != 0;
		if (take(unpack, unpack->out, out.pos, nar_size, err) < 0)
			return -1;
		/* A full buffer may leave something inside that needs no more input. */
		if (in.pos == in.size && out.pos < out.size)
			return 0;
	}
}

int unpack_end(struct unpack *unpack, const uint8_t nar_hash[SHA256_BYTES], uint64_t nar_size,
               struct error *err)
{
	char is_text[SHA256_TEXT_SIZE], must_text[SHA256_TEXT_SIZE];
	uint8_t is[SHA256_BYTES];

	if (unpack->is_inside || unpack->nar_bytes < nar_size)
		return error_set(err, ERROR_PERMANENT,
		                 "it is cut off: %" PRIu64 " of %" PRIu64 " bytes of the NAR",
		                 unpack->nar_bytes, nar_size);
	if (EVP_DigestFinal_ex(unpack->sha256, is, NULL) != 1)
		return error_set(err, ERROR_TRANSIENT, "SHA-256 failed");
	if (memcmp(is, nar_hash, SHA256_BYTES) == 0)
		return 0;
	return error_set(err, ERROR_PERMANENT, "it unpacks to %s, not to %s", hash_format_sha256(is, is_text),
	                 hash_format_sha256(nar_hash, must_text));
}
