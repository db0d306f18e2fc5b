/* The floor of packing: what NAR, SHA-256, zstd and SHA-256 again cost by themselves, without loop,
 * bodies, queue or network. What the daemon takes for the same paths is measured against it.
 *
 *     pack_floor [THREADS [LEVEL]] <paths
 *
 * Reads one path a line, packs each to nowhere, and prints one line of key=value. Each thread
 * takes the next path; a path is packed by one thread. */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <openssl/evp.h>
#include <zstd.h>

#include "common/clock.h"
#include "daemon/format/nar.h"

#define IN_BYTES    KIB(256)
#define OUT_BYTES   (KIB(256) + ZSTD_COMPRESSBOUND(IN_BYTES))
#define THREADS_MAX 256

static char **paths;
static size_t n_paths;
static atomic_size_t next_path;
static _Atomic uint64_t nar_bytes, file_bytes;
static int level = 3;

static void die(const char *what)
{
	fprintf(stderr, "pack_floor: %s\n", what);
	exit(1);
}

static void hash(EVP_MD_CTX *sha, const void *data, size_t n_bytes)
{
	if (EVP_DigestUpdate(sha, data, n_bytes) != 1)
		die("SHA-256 failed");
}

static void compress(ZSTD_CCtx *zstd, EVP_MD_CTX *sha, ZSTD_inBuffer in, ZSTD_outBuffer out, bool is_last)
{
	size_t n_left;

	do {
		out.pos = 0;
		n_left = ZSTD_compressStream2(zstd, &out, &in, is_last ? ZSTD_e_end : ZSTD_e_continue);
		if (ZSTD_isError(n_left))
			die(ZSTD_getErrorName(n_left));
		hash(sha, out.dst, out.pos);
		file_bytes += out.pos;
	} while (is_last ? n_left > 0 : in.pos < in.size);
}

struct bench {
	EVP_MD_CTX *nar_sha, *file_sha;
	ZSTD_CCtx *zstd;
	char *in, *out;
};

static void pack(const struct bench *b, const EVP_MD *sha256, const char *path)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	struct error err;
	struct nar *nar;
	ssize_t n;

	EVP_DigestInit_ex2(b->nar_sha, sha256, NULL);
	EVP_DigestInit_ex2(b->file_sha, sha256, NULL);
	ZSTD_CCtx_reset(b->zstd, ZSTD_reset_session_only);
	if (nar_open(&nar, path, &err) < 0)
		die(err.text);
	do {
		n = nar_read(nar, b->in, IN_BYTES, &err);
		if (n < 0)
			die(err.text);
		hash(b->nar_sha, b->in, (size_t)n);
		nar_bytes += (uint64_t)n;
		compress(b->zstd, b->file_sha, (ZSTD_inBuffer){ b->in, (size_t)n, 0 },
		         (ZSTD_outBuffer){ b->out, OUT_BYTES, 0 }, n < (ssize_t)IN_BYTES);
	} while (n == (ssize_t)IN_BYTES);
	EVP_DigestFinal_ex(b->nar_sha, digest, NULL);
	EVP_DigestFinal_ex(b->file_sha, digest, NULL);
	nar_close(nar);
}

static void *run(void *ctx)
{
	const EVP_MD *sha256 = ctx;
	struct bench b = { EVP_MD_CTX_new(), EVP_MD_CTX_new(), ZSTD_createCCtx(), malloc(IN_BYTES),
		           malloc(OUT_BYTES) };
	size_t i;

	if (b.nar_sha == NULL || b.file_sha == NULL || b.zstd == NULL || b.in == NULL || b.out == NULL)
		die("no memory");
	ZSTD_CCtx_setParameter(b.zstd, ZSTD_c_compressionLevel, level);
	while ((i = atomic_fetch_add(&next_path, 1)) < n_paths)
		pack(&b, sha256, paths[i]);
	EVP_MD_CTX_free(b.nar_sha);
	EVP_MD_CTX_free(b.file_sha);
	ZSTD_freeCCtx(b.zstd);
	free(b.in);
	free(b.out);
	return NULL;
}

static void read_paths(void)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	while ((n = getline(&line, &cap, stdin)) > 0) {
		if (line[n - 1] == '\n')
			line[n - 1] = '\0';
		paths = realloc(paths, (n_paths + 1) * sizeof(*paths));
		if (paths == NULL || (paths[n_paths++] = strdup(line)) == NULL)
			die("no memory");
	}
	free(line);
}

static double seconds(struct timeval tv)
{
	return (double)tv.tv_sec + (double)tv.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
	int n_threads = argc > 1 ? atoi(argv[1]) : 2;
	EVP_MD *sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	pthread_t threads[THREADS_MAX];
	struct rusage usage;
	uint64_t start_ms;

	level = argc > 2 ? atoi(argv[2]) : 3;
	if (n_threads < 1 || n_threads > THREADS_MAX || sha256 == NULL)
		die("usage: pack_floor [THREADS [LEVEL]] <paths");
	read_paths();
	start_ms = clock_mono_ms();
	for (int i = 0; i < n_threads; i++)
		if (pthread_create(&threads[i], NULL, run, sha256) != 0)
			die("no thread");
	for (int i = 0; i < n_threads; i++)
		pthread_join(threads[i], NULL);
	getrusage(RUSAGE_SELF, &usage);
	printf("paths=%zu nar_bytes=%" PRIu64 " file_bytes=%" PRIu64 " wall_s=%.3f user_s=%.3f sys_s=%.3f\n",
	       n_paths, nar_bytes, file_bytes, (double)(clock_mono_ms() - start_ms) / 1e3,
	       seconds(usage.ru_utime), seconds(usage.ru_stime));
	for (size_t i = 0; i < n_paths; i++)
		free(paths[i]);
	free(paths);
	EVP_MD_free(sha256);
	return 0;
}
