/* A request that parses is complete, within its bounds, and says the same when written and read again. */
#include <string.h>

#include "common/protocol.h"
#include "common/store_path.h"
#include "tests/fuzz/fuzz.h"

static void write_and_read_again(const struct request *req)
{
	struct request again;
	struct buf first, second;
	struct error err;

	buf_init(&first, REQUEST_MAX_BYTES);
	buf_init(&second, REQUEST_MAX_BYTES);
	/* Numbers lose leading zeros and keys that say nothing are left out, so it never grows. */
	MUST(request_format(req, &first, &err) == 0);
	if (request_parse(&again, first.data, first.len, &err) == 0) {
		MUST(request_format(&again, &second, &err) == 0);
		MUST(strcmp(first.data, second.data) == 0);
		request_fini(&again);
	} else {
		/* `failed no` is a key given, and gone when written. */
		MUST(strstr(err.text, " needs ") != NULL);
	}
	buf_fini(&first);
	buf_fini(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct request req;
	struct error err;

	if (request_parse(&req, text, size, &err) < 0) {
		MUST(err.text[0] != '\0');
		return 0;
	}
	MUST(request_is_complete(text, size, 0));
	MUST(!request_is_complete(text, size - 1, 0));
	MUST(req.n_paths <= REQUEST_MAX_PATHS && req.n_caches <= REQUEST_MAX_CACHES);
	for (size_t i = 0; i < req.n_paths; i++)
		MUST(strlen(req.paths[i]) < STORE_PATH_SIZE);
	write_and_read_again(&req);
	request_fini(&req);
	return 0;
}
