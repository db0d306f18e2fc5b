/* Gives every file of the corpus to the fuzzer's entry, and of a small one every beginning as well, since
 * text that was cut is what a parser meets most. Built with -fsanitize=fuzzer this file is left out.
 *     fuzz_NAME FILE-OR-DIRECTORY... */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fd.h"
#include "tests/fuzz/fuzz.h"

#define FILE_MAX   MIB(2)
#define PREFIX_MAX 2048

static size_t n_files;

/* In memory of just its size, so that reading behind it is seen. */
static void run_bytes(const char *data, size_t len)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);

	if (copy == NULL)
		exit(1);
	memcpy(copy, data, len);
	LLVMFuzzerTestOneInput(copy, len);
	free(copy);
}

static void run_file(const char *path)
{
	struct error err;
	char *data;
	size_t len;

	if (read_file(path, FILE_MAX, &data, &len, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	run_bytes(data, len);
	for (size_t n = 0; n < len && len <= PREFIX_MAX; n++)
		run_bytes(data, n);
	free(data);
	n_files++;
}

static void run_directory(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	char file[4096];

	if (dir == NULL) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(1);
	}
	while ((entry = readdir(dir)) != NULL) {
		snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		if (entry->d_name[0] != '.')
			run_file(file);
	}
	closedir(dir);
}

int main(int argc, char **argv)
{
	struct stat st;

	for (int i = 1; i < argc; i++) {
		if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
			run_directory(argv[i]);
		else
			run_file(argv[i]);
	}
	printf("%zu files\n", n_files);
	return n_files > 0 ? 0 : 1;
}
