/* pack: what was packed unpacks to the NAR, and a NAR that Nix did not register gets no end. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <zstd.h>

#include "common/buf.h"
#include "daemon/format/hash.h"
#include "daemon/format/nar.h"
#include "daemon/pack/pack.h"
#include "daemon/pack/unpack.h"
#include "tests/unit/test.h"

static struct loop loop;
static struct body_pool *pool;
static struct packer *packer;
static char dir[64];

static int open_all(unsigned n_jobs, uint64_t memory_bytes)
{
	struct error err;

	strcpy(dir, "/tmp/nncache-pack-XXXXXX");
	if (mkdtemp(dir) == NULL || loop_init(&loop, &err) < 0)
		return -1;
	if (body_pool_open(&pool, &loop, memory_bytes, dir, MIB(100), &err) < 0)
		return -1;
	return packer_open(&packer, &loop, n_jobs, &err);
}

static int open_two_jobs(void **state)
{
	(void)state;
	return open_all(2, MIB(64));
}

static int open_one_job(void **state)
{
	(void)state;
	return open_all(1, MIB(8));
}

static int close_all(void **state)
{
	(void)state;
	packer_close(packer);
	body_pool_close(pool);
	loop_fini(&loop);
	return rmdir(dir);
}

/* A file of N_BYTES that compresses to about a half, and what Nix would know of it. */
struct file {
	char path[128];
	struct buf nar;
	struct path_info info;
};

static void hash_of(const char *data, size_t n_bytes, uint8_t ret[SHA256_BYTES])
{
	assert_int_equal(EVP_Digest(data, n_bytes, ret, NULL, EVP_sha256(), NULL), 1);
}

static void make_contents(const char *path, size_t n_bytes)
{
	FILE *file = fopen(path, "w");
	char piece[4096];
	uint32_t x = 1;

	assert_non_null(file);
	while (n_bytes > 0) {
		size_t n = n_bytes < sizeof(piece) ? n_bytes : sizeof(piece);

		for (size_t i = 0; i < n; i += 2) {
			x = x * 1664525 + 1013904223;
			piece[i] = 'x';
			piece[i + 1] = (char)(x >> 24);
		}
		assert_int_equal(fwrite(piece, 1, n, file), n);
		n_bytes -= n;
	}
	assert_int_equal(fclose(file), 0);
}

static void make_file(struct file *file, size_t n_bytes)
{
	static unsigned n_made;
	struct error err;
	struct nar *nar;
	char *room;

	snprintf(file->path, sizeof(file->path), "%s/%u", dir, n_made++);
	make_contents(file->path, n_bytes);
	buf_init(&file->nar, n_bytes + 4096);
	room = buf_reserve(&file->nar, n_bytes + 4096);
	assert_non_null(room);
	assert_int_equal(nar_open(&nar, file->path, &err), 0);
	file->nar.len = (size_t)nar_read(nar, room, n_bytes + 4096, &err);
	assert_true(file->nar.len > n_bytes && file->nar.len < n_bytes + 4096);
	nar_close(nar);
	file->info = (struct path_info){ .path = file->path, .nar_size = file->nar.len };
	hash_of(file->nar.data, file->nar.len, file->info.nar_hash);
}

static void forget_file(struct file *file)
{
	buf_fini(&file->nar);
	unlink(file->path);
}

static void on_reserved(struct body_reserve *req)
{
	assert_int_equal(req->err.kind, ERROR_NONE);
}

static struct body *reserve(enum compression compression, uint64_t nar_size)
{
	struct body_reserve req;

	body_reserve_start(pool, &req, compression_bound(compression, nar_size), on_reserved);
	loop_run(&loop);
	assert_non_null(req.body);
	return req.body;
}

static size_t n_done;

static void on_packed(struct pack *pack)
{
	(void)pack;
	n_done++;
}

/* Packs FILE into a body, which is returned. */
static struct body *pack_file(struct pack *pack, const struct file *file, enum compression compression,
                              int level)
{
	struct body *body = reserve(compression, file->info.nar_size);
	struct pack_spec spec = { .real_path = file->path,
		                  .info = &file->info,
		                  .compression = compression,
		                  .level = level,
		                  .body = body };

	n_done = 0;
	*pack = (struct pack){ 0 };
	pack_start(packer, pack, &spec, on_packed);
	assert_int_equal(n_done, 0);
	loop_run(&loop);
	assert_int_equal(n_done, 1);
	return body;
}

static char *take_body(struct body *body, size_t *ret_len)
{
	size_t len = (size_t)body_readable_bytes(body);
	char *data = malloc(len + 1);
	struct error err;

	assert_non_null(data);
	assert_int_equal(body_read(body, 0, data, len, &err), len);
	*ret_len = len;
	return data;
}

static void assert_unpacks(struct body *body, const struct pack *pack, const struct file *file)
{
	uint8_t hash[SHA256_BYTES];
	char *nar = malloc(file->nar.len + 1);
	size_t len;
	char *packed = take_body(body, &len);

	assert_non_null(nar);
	assert_int_equal(len, pack->file_size);
	hash_of(packed, len, hash);
	assert_memory_equal(hash, pack->file_hash, sizeof(hash));
	/* Refuses a window beyond 2^27, as readers do. */
	assert_int_equal(ZSTD_decompress(nar, file->nar.len + 1, packed, len), file->nar.len);
	assert_true(memcmp(nar, file->nar.data, file->nar.len) == 0);
	assert_int_equal(ZSTD_getFrameContentSize(packed, len), file->nar.len);
	assert_int_equal(ZSTD_findFrameCompressedSize(packed, len), len); /* one frame, nothing behind */
	free(nar);
	free(packed);
}

static void what_was_packed_unpacks_to_the_nar(void **state)
{
	/* NARs smaller than, as long as, and one block longer than the pieces they are read in */
	static const size_t sizes[] = { 0,      1,      10000,        262144 - 112, 262144 - 104,
		                        500000, MIB(4), MIB(4) - 112, MIB(9) + 5,   MIB(20) };
	static const int levels[] = { 3, 1, 19, -5 };
	struct file file;
	struct pack pack;
	struct body *body;
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(sizes); i++) {
		make_file(&file, sizes[i]);
		body = pack_file(&pack, &file, COMPRESSION_ZSTD,
		                 sizes[i] < MIB(1) ? levels[i % N_ELEMENTS(levels)] : 3);
		assert_int_equal(pack.err.kind, ERROR_NONE);
		assert_int_equal(pack.fault, PACK_FINE);
		assert_int_equal(body_state(body), BODY_ENDED);
		assert_int_equal(pack.nar_done_bytes, file.nar.len);
		assert_unpacks(body, &pack, &file);
		body_unref(body);
		forget_file(&file);
	}
}

static void without_compression_the_file_is_the_nar(void **state)
{
	static const size_t sizes[] = { 0, 10000, 262144 - 112, MIB(9) };
	struct file file;
	struct pack pack;
	struct body *body;
	size_t len;
	char *data;
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(sizes); i++) {
		make_file(&file, sizes[i]);
		body = pack_file(&pack, &file, COMPRESSION_NONE, 0);
		assert_int_equal(pack.err.kind, ERROR_NONE);
		data = take_body(body, &len);
		assert_int_equal(len, file.nar.len);
		assert_int_equal(pack.file_size, len);
		assert_true(memcmp(data, file.nar.data, len) == 0);
		assert_memory_equal(pack.file_hash, file.info.nar_hash, SHA256_BYTES);
		free(data);
		body_unref(body);
		forget_file(&file);
	}
}

static void a_level_beyond_all_levels_is_the_highest_and_can_be_read(void **state)
{
	struct file file;
	struct pack pack;
	struct body *body;
	(void)state;

	make_file(&file, 300000);
	body = pack_file(&pack, &file, COMPRESSION_ZSTD, 1000);
	assert_int_equal(pack.err.kind, ERROR_NONE);
	assert_unpacks(body, &pack, &file);
	body_unref(body);
	forget_file(&file);
}

static void what_does_not_compress_fits_its_bound(void **state)
{
	static const size_t sizes[] = { 0, 1000, 131072, 131073, 262144, MIB(1) + 1, MIB(9) };
	struct file file;
	struct pack pack;
	struct body *body;
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(sizes); i++) {
		char *data = malloc(sizes[i] + 1);
		FILE *random = fopen("/dev/urandom", "r");
		FILE *stream;
		uint64_t size;

		assert_non_null(data);
		assert_int_equal(fread(data, 1, sizes[i], random), sizes[i]);
		fclose(random);
		make_file(&file, sizes[i]);
		stream = fopen(file.path, "w");
		assert_int_equal(fwrite(data, 1, sizes[i], stream), sizes[i]);
		fclose(stream);
		/* the NAR with the new contents */
		if (sizes[i] > 0)
			memcpy(file.nar.data + 96, data, sizes[i]);
		hash_of(file.nar.data, file.nar.len, file.info.nar_hash);
		body = pack_file(&pack, &file, COMPRESSION_ZSTD, 3);
		assert_int_equal(pack.err.kind, ERROR_NONE);
		size = body_readable_bytes(body);
		assert_true(size <= compression_bound(COMPRESSION_ZSTD, file.nar.len));
		assert_unpacks(body, &pack, &file);
		body_unref(body);
		forget_file(&file);
		free(data);
	}
}

struct seen {
	struct body_watch watch;
	struct body *body;
	uint64_t most;
	struct pack *cancel; /* once anything is seen */
};

static void on_changed(struct body_watch *watch)
{
	struct seen *seen = CONTAINER_OF(watch, struct seen, watch);

	seen->most = body_readable_bytes(seen->body);
	if (seen->cancel != NULL)
		pack_cancel(seen->cancel);
}

/* How much would be there to see if the NAR was right. */
static uint64_t length_if_right(const struct file *file, enum compression compression)
{
	struct pack pack;
	struct body *body = pack_file(&pack, file, compression, 3);
	uint64_t len = body_readable_bytes(body);

	assert_int_equal(pack.err.kind, ERROR_NONE);
	body_unref(body);
	return len;
}

static void a_nar_that_differs_never_shows_its_last_bytes(void **state)
{
	/* the third: a work item ends with the NAR's last byte, before anyone knows that it was */
	static const size_t sizes[] = { 1000, 262144 - 112, MIB(4) - 112, MIB(12) };
	char hash[SHA256_TEXT_SIZE];
	struct file file;
	(void)state;

	for (size_t i = 0; i < 2 * N_ELEMENTS(sizes); i++) {
		enum compression compression = i % 2 ? COMPRESSION_NONE : COMPRESSION_ZSTD;
		struct seen seen = { 0 };
		struct pack pack = { 0 };
		struct pack_spec spec;
		uint64_t whole;

		make_file(&file, sizes[i / 2]);
		whole = length_if_right(&file, compression);
		file.info.nar_hash[31] ^= 1;
		seen.body = reserve(compression, file.info.nar_size);
		body_watch(seen.body, &seen.watch, on_changed);
		spec = (struct pack_spec){ file.path, &file.info, compression, 3, seen.body };
		n_done = 0;
		pack_start(packer, &pack, &spec, on_packed);
		loop_run(&loop);
		assert_int_equal(n_done, 1);
		assert_int_equal(pack.fault, PACK_MISMATCH);
		assert_int_equal(pack.err.kind, ERROR_PERMANENT);
		assert_non_null(
			strstr(pack.err.text, ": differs from what Nix registered: NAR hash is sha256:"));
		assert_non_null(strstr(pack.err.text, hash_format_sha256(file.info.nar_hash, hash)));
		assert_int_equal(body_state(seen.body), BODY_FAILED);
		assert_int_equal(body_error(seen.body)->kind, ERROR_PERMANENT);
		assert_true(seen.most < whole);
		assert_int_equal(body_readable_bytes(seen.body), seen.most);
		if (sizes[i / 2] >= MIB(4) - 112)
			assert_true(seen.most > 0);
		body_unwatch(&seen.watch);
		body_unref(seen.body);
		forget_file(&file);
	}
}

static void a_nar_of_another_length_differs(void **state)
{
	static const int off_by[] = { 8, -8, 1 << 20, -(1 << 20) };
	struct file file;
	struct pack pack;
	struct body *body;
	(void)state;

	make_file(&file, MIB(6));
	for (size_t i = 0; i < N_ELEMENTS(off_by); i++) {
		file.info.nar_size = file.nar.len + (uint64_t)(int64_t)off_by[i];
		body = pack_file(&pack, &file, COMPRESSION_ZSTD, 3);
		assert_int_equal(pack.fault, PACK_MISMATCH);
		assert_int_equal(body_state(body), BODY_FAILED);
		if (off_by[i] < 0) /* stopped early */
			assert_non_null(strstr(pack.err.text, "its NAR is longer than "));
		body_unref(body);
	}
	forget_file(&file);
}

static void a_path_that_is_gone_says_so(void **state)
{
	struct file file;
	struct pack pack;
	struct body *body;
	(void)state;

	make_file(&file, 1000);
	unlink(file.path);
	body = pack_file(&pack, &file, COMPRESSION_ZSTD, 3);
	assert_int_equal(pack.fault, PACK_GONE);
	assert_int_equal(pack.err.kind, ERROR_PERMANENT);
	assert_int_equal(body_state(body), BODY_FAILED);
	body_unref(body);
	forget_file(&file);
}

static void a_body_that_is_too_small_fails_the_pack_and_not_more(void **state)
{
	struct file file;
	struct pack pack = { 0 };
	struct pack_spec spec;
	(void)state;

	make_file(&file, 100000);
	spec = (struct pack_spec){ file.path, &file.info, COMPRESSION_NONE, 0,
		                   reserve(COMPRESSION_NONE, 1000) };
	pack_start(packer, &pack, &spec, on_packed);
	loop_run(&loop);
	assert_int_equal(pack.fault, PACK_OTHER);
	assert_non_null(strstr(pack.err.text, file.path));
	assert_int_equal(body_state(spec.body), BODY_FAILED);
	body_unref(spec.body);
	forget_file(&file);
}

static void a_running_pack_is_canceled_before_its_end(void **state)
{
	struct file file;
	struct seen seen = { 0 };
	struct pack pack = { 0 };
	struct pack_spec spec;
	(void)state;

	make_file(&file, MIB(16));
	seen.body = reserve(COMPRESSION_ZSTD, file.info.nar_size);
	seen.cancel = &pack;
	body_watch(seen.body, &seen.watch, on_changed);
	spec = (struct pack_spec){ file.path, &file.info, COMPRESSION_ZSTD, 3, seen.body };
	n_done = 0;
	pack_start(packer, &pack, &spec, on_packed);
	loop_run(&loop);
	assert_int_equal(n_done, 1);
	assert_int_equal(pack.err.kind, ERROR_CANCELED);
	assert_in_range(pack.nar_done_bytes, MIB(4), MIB(6));
	assert_int_equal(body_state(seen.body), BODY_FAILED);
	body_unwatch(&seen.watch);
	body_unref(seen.body);

	/* at once, and while others wait behind it */
	spec.body = reserve(COMPRESSION_ZSTD, 1000);
	pack_start(packer, &pack, &spec, on_packed);
	pack_cancel(&pack);
	pack_cancel(&pack);
	assert_int_equal(n_done, 1);
	loop_run(&loop);
	assert_int_equal(n_done, 2);
	assert_int_equal(pack.err.kind, ERROR_CANCELED);
	body_unref(spec.body);
	forget_file(&file);
}

static void a_waiting_pack_is_canceled_without_having_run(void **state)
{
	struct file file;
	struct pack packs[3] = { { 0 } };
	struct pack_spec specs[3];
	(void)state;

	make_file(&file, 100000);
	n_done = 0;
	for (size_t i = 0; i < 3; i++) {
		specs[i] = (struct pack_spec){ file.path, &file.info, COMPRESSION_ZSTD, 3,
			                       reserve(COMPRESSION_ZSTD, file.info.nar_size) };
		/* reserve() runs the loop, so nothing may run yet */
	}
	for (size_t i = 0; i < 3; i++)
		pack_start(packer, &packs[i], &specs[i], on_packed);
	pack_cancel(&packs[1]);
	pack_cancel(&packs[1]);
	loop_run(&loop);
	assert_int_equal(n_done, 3);
	assert_int_equal(packs[0].err.kind, ERROR_NONE);
	assert_int_equal(packs[1].err.kind, ERROR_CANCELED);
	assert_int_equal(packs[1].nar_done_bytes, 0);
	assert_int_equal(packs[2].err.kind, ERROR_NONE);
	for (size_t i = 0; i < 3; i++)
		body_unref(specs[i].body);
	forget_file(&file);
}

#define N_MANY 64

static struct many {
	struct file file;
	struct body_reserve reserve;
	struct pack pack;
} many[N_MANY];

static size_t n_packed, next_expected;

static void on_many_packed(struct pack *pack)
{
	struct many *m = CONTAINER_OF(pack, struct many, pack);

	/* one job at a time: in the order of starting */
	assert_ptr_equal(m, &many[next_expected++]);
	assert_int_equal(pack->err.kind, ERROR_NONE);
	assert_unpacks(m->reserve.body, pack, &m->file);
	body_unref(m->reserve.body);
	n_packed++;
}

static void on_many_reserved(struct body_reserve *req)
{
	struct many *m = CONTAINER_OF(req, struct many, reserve);
	struct pack_spec spec = { m->file.path, &m->file.info, COMPRESSION_ZSTD, 3, req->body };

	assert_int_equal(req->err.kind, ERROR_NONE);
	pack_start(packer, &m->pack, &spec, on_many_packed);
}

static void many_packs_at_once_share_a_small_pool(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_MANY; i++)
		make_file(&many[i].file, i * 16001);
	for (size_t i = 0; i < N_MANY; i++)
		body_reserve_start(pool, &many[i].reserve,
		                   compression_bound(COMPRESSION_ZSTD, many[i].file.info.nar_size),
		                   on_many_reserved);
	assert_true(body_pool_memory_in_use_bytes(pool) <= MIB(8));
	loop_run(&loop);
	assert_int_equal(n_packed, N_MANY);
	assert_int_equal(body_pool_memory_in_use_bytes(pool), 0);
	for (size_t i = 0; i < N_MANY; i++)
		forget_file(&many[i].file);
}

#define TWO_JOBS(test) cmocka_unit_test_setup_teardown(test, open_two_jobs, close_all)
#define ONE_JOB(test)  cmocka_unit_test_setup_teardown(test, open_one_job, close_all)

/* ---- unpacking -------------------------------------------------------------------------------- */

/* Feeds FILE in pieces of N_PIECE bytes as what INFO's NAR is packed into. */
static int unpack_all(const char *compression, const struct buf *file, size_t n_piece,
                      const struct path_info *info, struct error *err)
{
	struct unpack *unpack;
	int rc;

	assert_int_equal(unpack_new(&unpack, compression, err), 0);
	rc = 0;
	for (size_t i = 0; i < file->len && rc == 0; i += n_piece)
		rc = unpack_feed(unpack, file->data + i, file->len - i < n_piece ? file->len - i : n_piece,
		                 info->nar_size, err);
	if (rc == 0)
		rc = unpack_end(unpack, info->nar_hash, info->nar_size, err);
	unpack_free(unpack);
	return rc;
}

static void compress(const struct buf *from, struct buf *to)
{
	size_t max = ZSTD_compressBound(from->len);
	char *room;

	buf_init(to, max + 1);
	room = buf_reserve(to, max);
	assert_non_null(room);
	to->len = ZSTD_compress(room, max, from->data, from->len, 3);
	assert_false(ZSTD_isError(to->len));
}

static void what_a_cache_holds_is_unpacked_and_known_by_its_hash(void **state)
{
	struct file file;
	struct buf packed;
	struct error err;
	(void)state;

	make_file(&file, 3000000);
	compress(&file.nar, &packed);
	assert_int_equal(unpack_all("zstd", &packed, 100000, &file.info, &err), 0);
	assert_int_equal(unpack_all("zstd", &packed, packed.len, &file.info, &err), 0);
	assert_int_equal(unpack_all("none", &file.nar, 65536, &file.info, &err), 0);
	buf_fini(&packed);
	forget_file(&file);
}

static void what_is_cut_off_longer_garbage_or_another_nar_is_told(void **state)
{
	struct file file;
	struct buf packed;
	struct path_info other;
	struct unpack *unpack;
	struct error err;
	(void)state;

	make_file(&file, 300000);
	compress(&file.nar, &packed);
	other = file.info;
	other.nar_hash[0] ^= 1;
	assert_int_equal(unpack_all("zstd", &packed, 4096, &other, &err), -1);
	assert_int_equal(err.kind, ERROR_PERMANENT);
	other = file.info;
	other.nar_size--;
	assert_int_equal(unpack_all("zstd", &packed, 4096, &other, &err), -1);
	assert_int_equal(err.kind, ERROR_PERMANENT);
	packed.len -= 10;
	assert_int_equal(unpack_all("zstd", &packed, 4096, &file.info, &err), -1);
	assert_int_equal(err.kind, ERROR_PERMANENT);
	packed.len = 0;
	assert_int_equal(unpack_all("zstd", &packed, 4096, &file.info, &err), -1);
	assert_int_equal(unpack_all("zstd", &file.nar, 4096, &file.info, &err), -1);
	assert_int_equal(err.kind, ERROR_PERMANENT);
	assert_int_equal(unpack_new(&unpack, "xz", &err), 1);
	buf_fini(&packed);
	forget_file(&file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TWO_JOBS(what_was_packed_unpacks_to_the_nar),
		TWO_JOBS(without_compression_the_file_is_the_nar),
		TWO_JOBS(a_level_beyond_all_levels_is_the_highest_and_can_be_read),
		TWO_JOBS(what_does_not_compress_fits_its_bound),
		TWO_JOBS(a_nar_that_differs_never_shows_its_last_bytes),
		TWO_JOBS(a_nar_of_another_length_differs),
		TWO_JOBS(a_path_that_is_gone_says_so),
		TWO_JOBS(a_body_that_is_too_small_fails_the_pack_and_not_more),
		TWO_JOBS(a_running_pack_is_canceled_before_its_end),
		ONE_JOB(a_waiting_pack_is_canceled_without_having_run),
		ONE_JOB(many_packs_at_once_share_a_small_pool),
		ONE_JOB(what_a_cache_holds_is_unpacked_and_known_by_its_hash),
		ONE_JOB(what_is_cut_off_longer_garbage_or_another_nar_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
