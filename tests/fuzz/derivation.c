/* What is found in a derivation is words with one blank between two, and in its text. */
#include <string.h>

#include "common/derivation.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t n_floating;
	struct error err;
	struct buf out;

	buf_init(&out, 131072);
	if (derivation_outputs((const char *)data, size, &out, &n_floating, &err) == 0) {
		MUST(n_floating <= DERIVATION_MAX_OUTPUTS);
		MUST(out.len <= size);
		MUST(strlen(buf_text(&out)) == out.len);
		MUST(out.len == 0 || (out.data[0] != ' ' && out.data[out.len - 1] != ' '));
		MUST(strstr(buf_text(&out), "  ") == NULL);
	}
	buf_fini(&out);
	return 0;
}
