/* What is wrong with a configuration although each value is right by itself. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/config/key_text.h"
#include "daemon/config/section.h"

#define SECRET_FILE_MAX_BYTES KIB(64)

struct check {
	struct config *config;
	struct mistakes *mistakes;
};

static const struct setting_place *place_of(const struct section *section, const char *key)
{
	return section_place(section, option_find(section->kind, key));
}

static struct setting_place begin_of(const struct section *section)
{
	return (struct setting_place){ .file = section->head->file, .line = section->head->line };
}

/* Where KEY was set, or else where the section begins. */
static struct setting_place nearest_place(const struct section *section, const char *key)
{
	const struct setting_place *place = place_of(section, key);

	return place->file != NULL ? *place : begin_of(section);
}

static void check_required(const struct check *check, const struct section *section,
                           const struct option *option)
{
	const struct setting_place *place = section_place(section, option);
	struct setting_place begin = begin_of(section);
	bool is_number = option->type < OPTION_TEXT;
	bool is_there = is_number ? place->file != NULL : option_n_values(option, section->head) > 0;

	if ((option->flags & OPTION_REQUIRED) != 0 && !is_there && !place->is_wrong)
		mistake(check->mistakes, &begin, section, option->key, "is missing");
}

/* The files named */

static const char *token_fault(const char *text, enum cache_kind kind)
{
	if (text[strspn(text, " \t\r\n")] == '\0')
		return "is empty";
	if (kind == CACHE_S3 && (strstr(text, "aws_access_key_id") == NULL || strchr(text, '[') == NULL))
		return "has no keys for a bucket\n"
		       "  expected it as ~/.aws/credentials: [default], aws_access_key_id = ID and "
		       "aws_secret_access_key = KEY";
	return NULL;
}

static const char *key_fault(const char *text, enum cache_kind kind)
{
	/* Cachix hands out keys without a name. */
	if (key_text_is_valid(text, KEY_SECRET, kind != CACHE_CACHIX))
		return NULL;
	return "is not a secret key\n  expected NAME:KEY, as nix-store --generate-binary-cache-key makes it";
}

static int check_secret(const struct option *option, enum cache_kind kind, const char *file,
                        struct error *err)
{
	const char *fault;
	char *text;
	size_t len;

	if (read_file(file, SECRET_FILE_MAX_BYTES, &text, &len, err) < 0)
		return -1;
	fault = strcmp(option->key, "token-file") == 0 ? token_fault(text, kind) : key_fault(text, kind);
	explicit_bzero(text, len);
	free(text);
	return fault == NULL ? 0 : error_set(err, ERROR_OPERATOR, "%s %s", file, fault);
}

static bool has_checked_content(const struct option *option)
{
	return option->section == SECTION_CACHE &&
	       (strcmp(option->key, "token-file") == 0 || strcmp(option->key, "signing-key-file") == 0);
}

static int check_file(const struct section *section, const struct option *option, const char *file,
                      struct error *err)
{
	const struct cache_config *cache = (const void *)section->head;
	bool is_auto = section->kind == SECTION_CACHE && cache->push == PUSH_AUTO;
	struct stat st;

	if (stat(file, &st) < 0 && errno == ENOENT && is_auto)
		return 0;
	if (access(file, R_OK) < 0 || stat(file, &st) < 0)
		return error_set(err, ERROR_OPERATOR, "%s: %s", file, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return error_set(err, ERROR_OPERATOR, "%s is not a regular file", file);
	if ((option->flags & OPTION_SECRET) != 0 && (st.st_mode & S_IROTH) != 0)
		return error_set(err, ERROR_OPERATOR,
		                 "%s may be read by everybody\n  expected mode 0600 or 0640", file);
	return has_checked_content(option) ? check_secret(option, cache->kind, file, err) : 0;
}

/* What a cache has from [daemon] has no place there, and is checked once. */
static void check_files(const struct check *check, const struct section *section, const struct option *option)
{
	const struct setting_place *place = section_place(section, option);
	struct error err;

	if (option->type != OPTION_FILE || place->file == NULL || place->is_wrong)
		return;
	for (size_t i = 0; i < option_n_values(option, section->head); i++) {
		CLEANUP(buf_fini) struct buf file = { .max = 16384 };

		option_format(option, section->head, i, &file);
		if (check_file(section, option, buf_text(&file), &err) < 0)
			mistake(check->mistakes, place, section, option->key, "%s", err.text);
	}
}

/* Caches */

static const char *kinds_expected(const struct option *option, enum cache_kind kind)
{
	if ((option->kinds & 1U << CACHE_HTTP) != 0)
		return kind == CACHE_ATTIC ? "no such key: an Attic server packs NARs by itself"
		                           : "no such key: it is zstd";
	return option->kinds == 1U << CACHE_S3 ? "it with url = s3://BUCKET"
	                                       : "it with url = s3://, cachix:// or attic://";
}

static void check_kind(const struct check *check, const struct section *section, const struct option *option)
{
	const struct cache_config *cache = (const void *)section->head;
	const struct setting_place *place = section_place(section, option);

	if (option->kinds != 0 && place->file != NULL && (option->kinds & (1U << cache->kind)) == 0)
		mistake(check->mistakes, place, section, option->key,
		        "means nothing to this kind of cache\n  expected %s",
		        kinds_expected(option, cache->kind));
}

static void check_identity(const struct check *check, size_t i)
{
	const struct cache_config *cache = &check->config->caches[i];
	struct section section = config_section(check->config, SECTION_CACHE, i);
	struct setting_place place = nearest_place(&section, "url");

	for (size_t j = 0; j < i; j++) {
		const struct cache_config *other = &check->config->caches[j];

		if (other->identity != NULL && strcmp(cache->identity, other->identity) == 0) {
			mistake(check->mistakes, &place, &section, "url",
			        "is the same cache as [cache \"%s\"] at %s:%u", other->name, other->file,
			        other->line);
			return;
		}
	}
}

static void check_upstreams(const struct check *check, const struct section *section)
{
	const struct cache_config *cache = (const void *)section->head;
	struct setting_place place = nearest_place(section, "upstreams");

	for (size_t i = 0; i < cache->upstreams.n; i++) {
		const char *name = cache->upstreams.items[i];

		if (config_find_upstream(check->config, name) == NULL)
			mistake(check->mistakes, &place, section, "upstreams",
			        "\"%s\" is not known\n  expected a section [upstream \"NAME\"] for it", name);
	}
}

/* Cachix and Attic sign what they are sent. */
static void check_signing(const struct check *check, const struct section *section)
{
	const struct cache_config *cache = (const void *)section->head;
	struct setting_place begin = begin_of(section);
	bool needs_key = cache->kind == CACHE_FILE || cache->kind == CACHE_HTTP || cache->kind == CACHE_S3;

	if (!needs_key || cache->push != PUSH_YES || cache->sign == SIGN_NO ||
	    cache->signing_key_files.n > 0 || place_of(section, "signing-key-file")->is_wrong)
		return;
	mistake(check->mistakes, &begin, section, NULL,
	        "has no key to sign with, and readers take nothing unsigned\n"
	        "  expected signing-key-file = FILE; or sign = no, or push = no");
}

static void check_cache(const struct check *check, size_t i)
{
	struct section section = config_section(check->config, SECTION_CACHE, i);

	check_upstreams(check, &section);
	/* What kind of cache it is stands in its URL. */
	if (check->config->caches[i].identity == NULL)
		return;
	for (size_t j = 0; j < n_options; j++) {
		if (options[j].section == SECTION_CACHE)
			check_kind(check, &section, &options[j]);
	}
	check_identity(check, i);
	check_signing(check, &section);
}

static void check_socket(const struct check *check)
{
	const size_t max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
	struct section section = config_section(check->config, SECTION_DAEMON, 0);

	if (strlen(check->config->socket) > max)
		mistake(check->mistakes, place_of(&section, "socket"), &section, "socket",
		        "%s is longer than %zu characters, which a socket's path may have",
		        check->config->socket, max);
}

static void check_section(const struct check *check, const struct section *section, bool files)
{
	for (size_t i = 0; i < n_options; i++) {
		if (options[i].section != section->kind)
			continue;
		check_required(check, section, &options[i]);
		if (files)
			check_files(check, section, &options[i]);
	}
}

void config_check(struct config *config, bool files, struct mistakes *mistakes)
{
	struct check check = { config, mistakes };

	check_socket(&check);
	for (enum option_section kind = SECTION_DAEMON; kind <= SECTION_PRIORITY; kind++) {
		for (size_t i = 0; i < config_n_sections(config, kind); i++) {
			struct section section = config_section(config, kind, i);

			check_section(&check, &section, files);
		}
	}
	for (size_t i = 0; i < config->n_caches; i++)
		check_cache(&check, i);
}
