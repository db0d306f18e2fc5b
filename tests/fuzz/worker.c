/* Whatever answers at the socket of a nix-daemon: what is taken for a path info can be used. */
#include <stdlib.h>
#include <string.h>

#include "common/store_path.h"
#include "daemon/store/texts.h"
#include "daemon/store/worker.h"
#include "tests/fuzz/fuzz.h"

#define STORE "/nix/store"
#define PATH  STORE "/00000000000000000000000000000000-x.drv"

struct input {
	const uint8_t *data;
	size_t len;
};

static ssize_t read_input(void *ctx, void *data, size_t size, struct error *err)
{
	struct input *input = ctx;
	size_t n = input->len < size ? input->len : size;
	(void)err;

	if (n > 0)
		memcpy(data, input->data, n);
	input->data += n;
	input->len -= n;
	return (ssize_t)n;
}

static int write_nothing(void *ctx, const void *data, size_t n_bytes, struct error *err)
{
	(void)ctx, (void)data, (void)n_bytes, (void)err;
	return 0;
}

static void close_nothing(void *ctx)
{
	(void)ctx;
}

static void check_paths(char *const *paths, size_t n, bool ascending)
{
	for (size_t i = 0; i < n; i++) {
		MUST(store_path_is_valid(paths[i], STORE));
		MUST(!ascending || i == 0 || strcmp(paths[i - 1], paths[i]) < 0);
	}
}

static void converse(struct worker *worker)
{
	struct path_info info = { 0 };
	struct error err;
	char **list;
	size_t n;

	if (worker_query_path_info(worker, PATH, &info, &err) == 0 && info.path != NULL) {
		MUST(strcmp(info.path, PATH) == 0);
		MUST(info.deriver == NULL || store_path_is_valid(info.deriver, STORE));
		MUST(info.registered_unix_s >= 0);
		check_paths(info.references, info.n_references, true);
	}
	path_info_fini(&info);
	if (worker_query_outputs(worker, PATH, &list, &n, &err) == 0) {
		check_paths(list, n, false);
		texts_free(list, n);
	}
	if (worker_query_valid_paths(worker, NULL, 0, &list, &n, &err) == 0) {
		check_paths(list, n, false);
		texts_free(list, n);
	} else {
		MUST(err.kind == ERROR_TRANSIENT);
		MUST(strchr(err.text, '\n') == NULL && strchr(err.text, '\033') == NULL);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct worker_io io = { read_input, write_nothing, close_nothing };
	struct input input = { data, size };
	struct worker *worker;
	struct error err;

	if (worker_open_io(&worker, &io, &input, STORE, &err) < 0) {
		MUST(err.kind == ERROR_TRANSIENT);
		return 0;
	}
	converse(worker);
	worker_close(worker);
	return 0;
}
