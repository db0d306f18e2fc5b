#include "daemon/format/nixbase32.h"

#include <string.h>

static const char alphabet[] = "0123456789abcdfghijklmnpqrsvwxyz";

void nixbase32_encode(char *ret, const uint8_t *data, size_t n_bytes)
{
	size_t len = NIXBASE32_LEN(n_bytes);

	for (size_t k = 0; k < len; k++) {
		size_t bit = 5 * k, i = bit / 8, shift = bit % 8;
		unsigned pair = data[i];

		if (i + 1 < n_bytes)
			pair |= (unsigned)data[i + 1] << 8;
		ret[len - 1 - k] = alphabet[(pair >> shift) & 31];
	}
	ret[len] = '\0';
}

bool nixbase32_decode(uint8_t *ret, size_t n_bytes, const char *text, size_t len)
{
	if (len != NIXBASE32_LEN(n_bytes))
		return false;
	memset(ret, 0, n_bytes);
	for (size_t k = 0; k < len; k++) {
		size_t bit = 5 * k, i = bit / 8, shift = bit % 8;
		const char *at = memchr(alphabet, text[len - 1 - k], sizeof(alphabet) - 1);
		unsigned pair;

		if (at == NULL)
			return false;
		pair = (unsigned)(at - alphabet) << shift;
		ret[i] |= (uint8_t)pair;
		if (i + 1 < n_bytes)
			ret[i + 1] |= (uint8_t)(pair >> 8);
		else if (pair >> 8 != 0)
			return false;
	}
	return true;
}
