#include "ctl/setup/hook_line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fd.h"
#include "ctl/program.h"

#define SCRIPT_MAX_BYTES KIB(64)
#define HOOK_SUFFIX      "/nncache/hook" /* wherever libexecdir is */

const char *hook_find_own(char path[PATH_MAX])
{
	if (program_find_hook(path) == NULL)
		snprintf(path, PATH_MAX, "%s", NNCACHE_HOOK);
	return path;
}

static bool is_same_file(const char *a, const char *b)
{
	struct stat st_a, st_b;

	return stat(a, &st_a) == 0 && stat(b, &st_b) == 0 && st_a.st_dev == st_b.st_dev &&
	       st_a.st_ino == st_b.st_ino;
}

static bool is_script_with(const char *file, const char *own)
{
	struct error err;
	char *text;
	size_t n_bytes;
	bool has;

	if (read_file(file, SCRIPT_MAX_BYTES, &text, &n_bytes, &err) < 0)
		return false;
	has = strncmp(text, "#!", 2) == 0 && memmem(text, n_bytes, own, strlen(own)) != NULL;
	free(text);
	return has;
}

enum hook_kind hook_kind_of(const char *value, const char *own)
{
	size_t n = strlen(value), n_suffix = strlen(HOOK_SUFFIX);

	if (n == 0)
		return HOOK_NONE;
	if (strcmp(value, own) == 0 || is_same_file(value, own))
		return HOOK_OURS;
	if (n > n_suffix && strcmp(value + n - n_suffix, HOOK_SUFFIX) == 0)
		return HOOK_MOVED;
	return is_script_with(value, own) ? HOOK_WRAPPED : HOOK_OTHER;
}
