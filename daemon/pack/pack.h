/* Packs one store path: NAR -> SHA-256 -> compressor -> SHA-256 -> body, in one pass, in work items
 * of a few MiB on the shared workers. Ends the body once NAR hash and size are what Nix registered;
 * else fails it. Compressor contexts are kept and used again.
 * Errors: PERMANENT "differs from what Nix registered" in PACK_MISMATCH, "gone" in PACK_GONE;
 * TRANSIENT (I/O, memory, temporary space); CANCELED.
 * Thread: loop; the work runs on workers. */
#ifndef DAEMON_PACK_PACK_H
#define DAEMON_PACK_PACK_H

#include "daemon/body/body.h"
#include "daemon/format/path_info.h"
#include "daemon/loop/work.h"

enum compression { COMPRESSION_ZSTD, COMPRESSION_NONE };

/* "zstd", "none"; and the end of the file name: ".zst", "". */
const char *compression_name(enum compression compression);
const char *compression_suffix(enum compression compression);
/* The most bytes that NAR_SIZE bytes can become. No frame needs more than the 2^27 bytes of window
 * that all readers give. */
uint64_t compression_bound(enum compression compression, uint64_t nar_size);

enum pack_fault {
	PACK_FINE,
	PACK_MISMATCH,
	PACK_GONE,
	PACK_UNREADABLE, /* its files, as they lie there */
	PACK_OTHER,      /* no memory, no disk space, no descriptor; or canceled: not the path's */
};

struct packer; /* keeps the compressor contexts; at most N_JOBS packs run at once, others wait in order */
int packer_open(struct packer **ret, struct loop *loop, unsigned n_jobs, struct error *err) MUST_CHECK;
void packer_close(struct packer *packer); /* no pack may run; takes NULL */

struct pack;
typedef void (*pack_done_fn)(struct pack *pack);

struct pack_spec {
	const char *real_path;        /* where the files lie; borrowed until done */
	const struct path_info *info; /* hash and size to verify; borrowed until done */
	enum compression compression;
	int level;
	struct body *body; /* growing, reserved for compression_bound(); borrowed until done */
};

struct pack { /* the caller's until done; zero it before the first start */
	pack_done_fn done;
	struct error err;
	enum pack_fault fault;
	uint8_t file_hash[SHA256_BYTES];
	uint64_t file_size;
	uint64_t nar_done_bytes; /* progress, loop thread */

	/* the packer's own */
	struct packer *packer;
	struct pack_spec spec;
	struct engine *engine; /* while it runs */
	struct pack *next;     /* while it waits */
	struct loop_post post;
};

/* Before done the body of SPEC is ended or failed; its bytes are published as they come. On
 * success file_hash and file_size are those of the body. */
void pack_start(struct packer *packer, struct pack *pack, const struct pack_spec *spec, pack_done_fn done);
void pack_cancel(struct pack *pack);

#endif
