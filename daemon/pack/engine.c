/* NAR -> SHA-256 -> zstd -> SHA-256 -> body, a piece at a time. Files are read straight into `in`,
 * zstd writes straight into `out`, and only from there bytes are copied, to the body.
 *
 * The NAR is judged when its last piece was hashed, before that piece goes on: of a wrong one not
 * even the last bytes are ever appended. */
#include "daemon/pack/engine.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash.h"
#include "daemon/format/hash.h"

#define ITEM_BYTES MIB(4)
#define IN_BYTES   KIB(256)
/* Room for what all of a last piece can become; else, out is emptied while a block still fits. */
#define OUT_BYTES (KIB(256) + ZSTD_COMPRESSBOUND(IN_BYTES))

#define COMPRESSOR_KEPT_BYTES MIB(1)

struct engine *engine_new(const EVP_MD *sha256)
{
	struct engine *e = calloc(1, sizeof(*e));

	if (e == NULL)
		return NULL;
	e->sha256 = sha256;
	e->nar_sha = EVP_MD_CTX_new();
	e->file_sha = EVP_MD_CTX_new();
	e->zstd = ZSTD_createCCtx();
	e->in = malloc(IN_BYTES);
	e->out = (ZSTD_outBuffer){ .dst = malloc(OUT_BYTES), .size = OUT_BYTES };
	if (e->nar_sha == NULL || e->file_sha == NULL || e->zstd == NULL || e->in == NULL ||
	    e->out.dst == NULL) {
		engine_free(e);
		return NULL;
	}
	return e;
}

void engine_free(struct engine *e)
{
	if (e == NULL)
		return;
	nar_close(e->nar);
	EVP_MD_CTX_free(e->nar_sha);
	EVP_MD_CTX_free(e->file_sha);
	ZSTD_freeCCtx(e->zstd);
	free(e->in);
	free(e->out.dst);
	free(e);
}

void engine_set(struct engine *e, const struct pack_spec *spec)
{
	e->spec = spec;
	e->nar_bytes = e->file_bytes = 0;
	e->is_finished = false;
	e->fault = PACK_FINE;
	e->err = (struct error){ 0 };
	e->out.pos = 0;
	atomic_store(&e->is_canceled, false);
}

bool engine_reset(struct engine *e)
{
	nar_close(e->nar);
	e->nar = NULL;
	e->spec = NULL;
	return ZSTD_sizeof_CCtx(e->zstd) <= COMPRESSOR_KEPT_BYTES;
}

/* Keeps what is in err already. Returns -1. */
static int fail(struct engine *e, enum pack_fault fault)
{
	e->fault = fault;
	return -1;
}

static int fail_inside(struct engine *e, const char *what)
{
	error_set(&e->err, ERROR_TRANSIENT, "%s: %s", e->spec->info->path, what);
	return fail(e, PACK_OTHER);
}

static int begin_zstd(struct engine *e)
{
	/* zstd itself cuts a level that is out of range. No level asks for more window than a reader grants
	 * without being told to (2^27); only an explicit window or long-distance matching could. */
	ZSTD_CCtx_reset(e->zstd, ZSTD_reset_session_and_parameters);
	if (ZSTD_isError(ZSTD_CCtx_setParameter(e->zstd, ZSTD_c_compressionLevel, e->spec->level)) ||
	    ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(e->zstd, e->spec->info->nar_size)))
		return fail_inside(e, "zstd does not take its settings");
	return 0;
}

static int begin(struct engine *e)
{
	if (EVP_DigestInit_ex2(e->nar_sha, e->sha256, NULL) != 1 ||
	    EVP_DigestInit_ex2(e->file_sha, e->sha256, NULL) != 1)
		return fail_inside(e, "SHA-256 cannot begin");
	if (e->spec->compression == COMPRESSION_ZSTD && begin_zstd(e) < 0)
		return -1;
	if (nar_open(&e->nar, e->spec->real_path, &e->err) < 0)
		return fail(e, PACK_OTHER);
	return 0;
}

static int append(struct engine *e, const void *data, size_t n_bytes)
{
	if (body_append(e->spec->body, data, n_bytes, &e->err) < 0) {
		error_prefix(&e->err, "%s", e->spec->info->path);
		return fail(e, PACK_OTHER);
	}
	e->file_bytes += n_bytes;
	return 0;
}

static int empty_out(struct engine *e)
{
	size_t n = e->out.pos;

	e->out.pos = 0;
	if (n > 0 && EVP_DigestUpdate(e->file_sha, e->out.dst, n) != 1)
		return fail_inside(e, "SHA-256 failed");
	return append(e, e->out.dst, n);
}

static int compress_piece(struct engine *e, size_t n_bytes, bool is_last)
{
	ZSTD_inBuffer in = { .src = e->in, .size = n_bytes };
	ZSTD_EndDirective directive = is_last ? ZSTD_e_end : ZSTD_e_continue;
	size_t n_left;

	do {
		n_left = ZSTD_compressStream2(e->zstd, &e->out, &in, directive);
		if (ZSTD_isError(n_left))
			return fail_inside(e, ZSTD_getErrorName(n_left));
		/* While a whole block fits, zstd needs no copy of its own. */
		if (e->out.size - e->out.pos < ZSTD_CStreamOutSize() && empty_out(e) < 0)
			return -1;
	} while (is_last ? n_left > 0 : in.pos < in.size);
	return 0;
}

static int mismatch(struct engine *e, const uint8_t *hash)
{
	const struct path_info *info = e->spec->info;
	char is[SHA256_TEXT_SIZE], expected[SHA256_TEXT_SIZE];

	if (hash == NULL)
		error_set(&e->err, ERROR_PERMANENT,
		          "%s: differs from what Nix registered: its NAR is longer than %" PRIu64 " bytes",
		          info->path, info->nar_size);
	else
		error_set(&e->err, ERROR_PERMANENT,
		          "%s: differs from what Nix registered: NAR hash is %s, expected %s", info->path,
		          hash_format_sha256(hash, is), hash_format_sha256(info->nar_hash, expected));
	return fail(e, PACK_MISMATCH);
}

static int verify(struct engine *e)
{
	const struct path_info *info = e->spec->info;
	uint8_t hash[SHA256_BYTES];

	if (EVP_DigestFinal_ex(e->nar_sha, hash, NULL) != 1)
		return fail_inside(e, "SHA-256 failed");
	if (e->nar_bytes != info->nar_size || memcmp(hash, info->nar_hash, sizeof(hash)) != 0)
		return mismatch(e, hash);
	return 0;
}

static int finish(struct engine *e)
{
	if (e->spec->compression == COMPRESSION_NONE) {
		memcpy(e->file_hash, e->spec->info->nar_hash, sizeof(e->file_hash));
	} else {
		if (empty_out(e) < 0)
			return -1;
		if (EVP_DigestFinal_ex(e->file_sha, e->file_hash, NULL) != 1)
			return fail_inside(e, "SHA-256 failed");
	}
	e->is_finished = true;
	return 0;
}

static int run_piece(struct engine *e)
{
	ssize_t n = nar_read(e->nar, e->in, IN_BYTES, &e->err);
	bool is_last = n < (ssize_t)IN_BYTES;

	if (n < 0)
		return fail(e, nar_is_gone(e->nar)       ? PACK_GONE
		               : nar_lacks_means(e->nar) ? PACK_OTHER
		                                         : PACK_UNREADABLE);
	e->nar_bytes += (uint64_t)n;
	if (e->nar_bytes > e->spec->info->nar_size)
		return mismatch(e, NULL);
	if (EVP_DigestUpdate(e->nar_sha, e->in, (size_t)n) != 1)
		return fail_inside(e, "SHA-256 failed");
	if (is_last && verify(e) < 0)
		return -1;
	if (e->spec->compression == COMPRESSION_NONE) {
		if (append(e, e->in, (size_t)n) < 0)
			return -1;
	} else if (compress_piece(e, (size_t)n, is_last) < 0) {
		return -1;
	}
	return is_last ? finish(e) : 0;
}

void engine_run(struct engine *e)
{
	uint64_t until = e->nar_bytes + ITEM_BYTES;

	if (e->nar == NULL && begin(e) < 0)
		return;
	while (!e->is_finished && e->nar_bytes < until && !atomic_load(&e->is_canceled))
		if (run_piece(e) < 0)
			return;
	/* Readers wait for it. What goes wrong is kept in the engine. */
	if (!e->is_finished && e->spec->compression != COMPRESSION_NONE)
		empty_out(e);
	crash_point(PACK_BEGUN);
}
