/* What Nix knows about one store path, as every room of the daemon hands it on.
 * Owns: every pointer in it; path_info_fini frees them. All paths are full texts
 * ("/nix/store/HASH-NAME"). Thread: any. */
#ifndef DAEMON_FORMAT_PATH_INFO_H
#define DAEMON_FORMAT_PATH_INFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/error.h"

#define SHA256_BYTES 32

struct path_info {
	char *path; /* NULL: not valid in the store */
	uint8_t nar_hash[SHA256_BYTES];
	uint64_t nar_size; /* bytes; 0: unknown */
	char *deriver;     /* or NULL */
	char **references; /* ascending bytewise, each once; with the path itself if it refers to itself */
	size_t n_references;
	char **sigs; /* "name:base64", ascending, each once */
	size_t n_sigs;
	char *ca; /* or NULL */
	int64_t registered_unix_s;
	bool ultimate; /* built here */
};

void path_info_fini(struct path_info *info); /* takes a zeroed one too, and zeroes it */
/* Sorts references and sigs and drops what is there twice. */
void path_info_normalize(struct path_info *info);
int path_info_copy(struct path_info *ret, const struct path_info *info, struct error *err) MUST_CHECK;

#endif
