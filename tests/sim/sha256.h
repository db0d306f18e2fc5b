/* SHA-256 for the tests, and what a NAR comes to. Thread: any. */
#ifndef TESTS_SIM_SHA256_H
#define TESTS_SIM_SHA256_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/format/path_info.h"

void sha256_of(const void *data, size_t n, uint8_t hash[SHA256_BYTES]);
/* Hash and size of the NAR of the files at PATH. */
void sha256_of_nar(const char *path, uint8_t hash[SHA256_BYTES], uint64_t *ret_size);

#endif
