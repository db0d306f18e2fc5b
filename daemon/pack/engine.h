/* What does the work of one pack at a time: the NAR reader, the hashes, the compressor and their
 * buffers, about 6 MiB at level 3 and far less for small paths. An engine is used again and again.
 * This is pack's own inside; pack.h is what others see.
 * Thread: one at a time; engine_run and engine_start on a worker. */
#ifndef DAEMON_PACK_ENGINE_H
#define DAEMON_PACK_ENGINE_H

#include <openssl/evp.h>
#include <stdatomic.h>
#include <zstd.h>

#include "daemon/format/nar.h"
#include "daemon/pack/pack.h"

struct engine {
	struct work work;
	struct engine *next; /* while idle */
	struct pack *pack;   /* borrowed by the loop; the worker does not look at it */
	atomic_bool is_canceled;

	const struct pack_spec *spec;
	const EVP_MD *sha256;
	EVP_MD_CTX *nar_sha, *file_sha;
	ZSTD_CCtx *zstd;
	char *in;
	ZSTD_outBuffer out;

	struct nar *nar; /* NULL before the first item and after the last */
	uint64_t nar_bytes, file_bytes;
	uint8_t file_hash[SHA256_BYTES];
	bool is_finished;      /* verified, all appended */
	enum pack_fault fault; /* with err */
	struct error err;
};

/* NULL: no memory. SHA256 outlives it. */
struct engine *engine_new(const EVP_MD *sha256);
void engine_free(struct engine *engine); /* takes NULL */

/* Takes up SPEC, borrowed until engine_reset. */
void engine_set(struct engine *engine, const struct pack_spec *spec);
/* Packs the next few MiB, unless it is canceled meanwhile; sees to is_finished, fault and err. */
void engine_run(struct engine *engine);
/* Lets go of the path: ready for another, and small enough to be kept? */
bool engine_reset(struct engine *engine);

#endif
