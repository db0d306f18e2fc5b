#include "common/store_path.h"

#include <string.h>

static bool is_nix32(char c)
{
	return (c >= '0' && c <= '9') ||
	       (c >= 'a' && c <= 'z' && c != 'e' && c != 'o' && c != 'u' && c != 't');
}

static bool is_name_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c != '\0' && strchr("+-._?=", c) != NULL);
}

/* `.`, `..`, and names whose first dash-separated component is one of them. */
static bool is_dot_name(const char *name, size_t len)
{
	size_t n = 0;

	while (n < len && name[n] != '-')
		n++;
	return (n == 1 && name[0] == '.') || (n == 2 && name[0] == '.' && name[1] == '.');
}

static const char *base_fault(const char *base, size_t len)
{
	const char *name = base + STORE_HASH_LEN + 1;

	for (size_t i = 0; i < STORE_HASH_LEN; i++)
		if (i >= len || !is_nix32(base[i]))
			return "its name must begin with 32 characters of nix32";
	if (len <= STORE_HASH_LEN || base[STORE_HASH_LEN] != '-')
		return "a '-' must follow the hash part";
	len -= STORE_HASH_LEN + 1;
	if (len == 0)
		return "nothing follows the hash part";
	if (len > STORE_NAME_MAX)
		return "its name is longer than 211 characters";
	for (size_t i = 0; i < len; i++)
		if (!is_name_char(name[i]))
			return "its name has a character that store paths cannot have";
	if (is_dot_name(name, len))
		return "its name is '.' or '..', or begins with one of them and a '-'";
	return NULL;
}

bool store_base_is_valid(const char *base, size_t len)
{
	return base_fault(base, len) == NULL;
}

static const char *path_fault(const char *text, const char *store_dir)
{
	size_t n_dir = strlen(store_dir), len = strlen(text);

	if (strncmp(text, store_dir, n_dir) != 0 || text[n_dir] != '/')
		return "not in this store";
	if (memchr(text + n_dir + 1, '/', len - n_dir - 1) != NULL)
		return "a path inside a store path, not a store path";
	return base_fault(text + n_dir + 1, len - n_dir - 1);
}

bool store_path_is_valid(const char *text, const char *store_dir)
{
	return path_fault(text, store_dir) == NULL;
}

int store_path_check(const char *text, const char *store_dir, struct error *err)
{
	const char *fault = path_fault(text, store_dir);

	if (fault == NULL)
		return 0;
	return error_set(err, ERROR_PERMANENT, "%.300s: %s (expected %s/HASH-NAME)", text, fault, store_dir);
}

size_t store_path_prefix_len(const char *text, const char *store_dir)
{
	size_t n_dir = strlen(store_dir), n;

	if (strncmp(text, store_dir, n_dir) != 0 || text[n_dir] != '/')
		return 0;
	n = strcspn(text + n_dir + 1, "/");
	return base_fault(text + n_dir + 1, n) == NULL ? n_dir + 1 + n : 0;
}

const char *store_path_base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

bool store_path_is_derivation(const char *path)
{
	size_t n = strlen(path);

	return n > 4 && strcmp(path + n - 4, ".drv") == 0;
}
