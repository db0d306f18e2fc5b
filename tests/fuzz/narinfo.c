/* A narinfo that parses can be written, and says the same when read again; errors are plain text. */
#include "daemon/format/narinfo.h"
#include "common/store_path.h"
#include "daemon/backend/kind.h"
#include "daemon/format/signature.h"
#include "tests/fuzz/fuzz.h"

#define STORE "/nix/store"
#define PATH  STORE "/00000000000000000000000000000000-x"

static void check_texts(char *const *texts, size_t n)
{
	for (size_t i = 1; i < n; i++)
		MUST(strcmp(texts[i - 1], texts[i]) < 0);
}

static void check(const struct narinfo *narinfo)
{
	const struct path_info *info = &narinfo->info;

	MUST(store_path_is_valid(info->path, STORE));
	MUST(narinfo->url[0] != '\0' && narinfo->compression[0] != '\0');
	MUST(info->nar_size > 0);
	MUST(info->n_references <= 16384 && info->n_sigs <= 256);
	check_texts(info->references, info->n_references);
	check_texts(info->sigs, info->n_sigs);
	for (size_t i = 0; i < info->n_references; i++)
		MUST(store_path_is_valid(info->references[i], STORE));
}

static void check_same(const struct narinfo *a, const struct narinfo *b)
{
	size_t n_sigs = 0;

	MUST(strcmp(a->info.path, b->info.path) == 0 && strcmp(a->url, b->url) == 0);
	MUST(strcmp(a->compression, b->compression) == 0 && a->file_size == b->file_size);
	MUST(memcmp(a->info.nar_hash, b->info.nar_hash, SHA256_BYTES) == 0);
	MUST(a->info.nar_size == b->info.nar_size && a->info.n_references == b->info.n_references);
	for (size_t i = 0; i < a->info.n_references; i++)
		MUST(strcmp(a->info.references[i], b->info.references[i]) == 0);
	/* What is no signature is not written. */
	for (size_t i = 0; i < a->info.n_sigs; i++)
		if (signature_is_well_formed(a->info.sigs[i]))
			MUST(n_sigs < b->info.n_sigs && strcmp(a->info.sigs[i], b->info.sigs[n_sigs++]) == 0);
	MUST(n_sigs == b->info.n_sigs);
}

static void write_and_read_again(const struct narinfo *narinfo)
{
	const struct narinfo_file file = { .url = narinfo->url,
		                           .compression = narinfo->compression,
		                           .file_size = narinfo->file_size };
	struct narinfo again;
	struct error err;
	struct buf text;

	buf_init(&text, NARINFO_MAX_BYTES * 4);
	MUST(narinfo_format(&text, &narinfo->info, &file, &err) == 0);
	MUST(narinfo_parse(&again, text.data, text.len, STORE, &err) == 0);
	check_same(narinfo, &again);
	narinfo_fini(&again);
	buf_fini(&text);
}

/* The two small texts of a cache, as its backend judges them. */
static void check_answers(const char *text, size_t size)
{
	struct error err;

	if (check_narinfo("GET https://x/y", text, size, PATH, &err) < 0)
		MUST(err.kind == ERROR_OPERATOR && fuzz_is_plain(err.text));
	if (check_cache_info("GET https://x/y", text, STORE, &err) < 0)
		MUST(err.kind == ERROR_OPERATOR && fuzz_is_plain(err.text));
	else
		MUST(strstr(text, "StoreDir:") != NULL && strstr(text, STORE) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size);
	struct narinfo narinfo;
	struct error err;

	if (narinfo_parse(&narinfo, text, size, STORE, &err) == 0) {
		check(&narinfo);
		write_and_read_again(&narinfo);
		narinfo_fini(&narinfo);
	} else {
		MUST(err.kind == ERROR_PERMANENT && fuzz_is_plain(err.text));
	}
	check_answers(text, size);
	free(text);
	return 0;
}
