/* The settings, read from INI files by the one option table (options.c). See nncache.conf(5).
 * Owns: all text. A loaded configuration never changes; a reload makes a new one.
 * Thread: any, once loaded. */
#ifndef DAEMON_CONFIG_CONFIG_H
#define DAEMON_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/buf.h"
#include "common/error.h"
#include "common/log.h"

struct text_list {
	char **items;
	size_t n;
};

/* Where a setting was made; FILE NULL: nowhere, it has its default. FILE is borrowed from the config. */
struct setting_place {
	const char *file;
	unsigned line;
	bool is_wrong; /* the value was refused; the setting is as it was before */
};

/* How each section's struct begins, so that the loader sees them all as a struct section_head. */
#define SECTION_FIELDS                                                                 \
	char *name;       /* NULL: [daemon] */                                         \
	const char *file; /* where the section begins, for messages; NULL: built in */ \
	unsigned line;                                                                 \
	struct setting_place *set /* where each option was set, by its number in the table */
struct section_head {
	SECTION_FIELDS;
};
#define SECTION_HEAD                      \
	union {                           \
		struct section_head head; \
		struct {                  \
			SECTION_FIELDS;   \
		};                        \
	}

enum cache_kind { CACHE_FILE, CACHE_HTTP, CACHE_S3, CACHE_CACHIX, CACHE_ATTIC };
enum push_mode { PUSH_YES, PUSH_AUTO, PUSH_NO };
enum sign_mode { SIGN_CLOSURE, SIGN_BUILT, SIGN_NO };
enum compression_mode { COMPRESS_ZSTD, COMPRESS_NONE };
enum s3_addressing { S3_ADDRESSING_AUTO, S3_ADDRESSING_PATH, S3_ADDRESSING_VIRTUAL };

/* How to reach a server; [daemon] gives the default of each, [cache] overrides. NULL: not set.
 * The net of a loaded cache has the values of [daemon] filled in. Files are absolute. */
struct net_config {
	char *proxy; /* "": none, whatever the environment says */
	char *ca_file;
	char *client_cert_file;
	char *client_key_file;
	char *netrc_file;
};

struct cache_config {
	SECTION_HEAD;
	char *url; /* as written */
	/* url normalised (lower-case scheme and host, no default port, no slash at the end), and " ENDPOINT"
	 * where one is set: presence and jobs hang on it. */
	char *identity;
	enum cache_kind kind;
	enum push_mode push;
	char *token_file; /* resolved: absolute */
	/* cachix, attic, in user mode: what its own client keeps for the user. Else NULL. */
	char *login_file;
	struct text_list signing_key_files;
	enum sign_mode sign;
	enum compression_mode compression;
	unsigned compression_level;
	unsigned upload_jobs;
	uint64_t upload_rate_bytes; /* per second; 0 unlimited */
	uint64_t presence_ttl_s;
	uint64_t stall_timeout_ms;
	struct text_list upstreams; /* names of [upstream] sections */
	struct text_list include_roots, exclude_roots,
		exclude_closures;             /* POSIX extended regular expressions */
	uint64_t exclude_closures_over_bytes; /* NAR bytes; 0: unset */
	char *endpoint;                       /* s3, cachix, attic: http(s)://HOST[:PORT], or NULL */
	char *s3_region, *s3_profile, *s3_storage_class; /* s3; or NULL */
	enum s3_addressing s3_addressing;
	struct net_config net;
};

struct upstream_config {
	SECTION_HEAD;
	char *url;
	struct text_list public_keys;
	bool keeps_forever;
};

struct priority_config {
	SECTION_HEAD;
	char *match;
	unsigned priority; /* 0..1000 */
};

struct config {
	SECTION_HEAD; /* of [daemon] */
	char *socket, *state_dir, *spool_dir, *gcroots_dir, *store;
	char *control_group, *push_group; /* group names */
	unsigned pack_jobs;               /* 0: number of cores */
	uint64_t memory_bytes, tmp_space_bytes;
	uint64_t roots_max_age_s;
	unsigned roots_min_free_percent;
	unsigned give_up_after;
	uint64_t history_s, stop_drain_s;
	enum log_level log_level;
	struct net_config net;

	struct cache_config *caches;
	size_t n_caches;
	struct upstream_config *upstreams; /* "nixos" is always among them */
	size_t n_upstreams;                /* caches and upstreams: at most CONFIG_MAX_ENDPOINTS in all */
	struct priority_config *priorities;
	size_t n_priorities; /* at most CONFIG_MAX_PRIORITIES */

	const char *scratch_dir; /* of config_places */
	struct text_list files;  /* those read, in order */
	bool user_mode;          /* the places are those of a user */
};

#define CONFIG_MAX_ENDPOINTS  64
#define CONFIG_MAX_PRIORITIES 64
#define CONFIG_MAX_LIST       64 /* items of one list key */
#define CONFIG_MAX_FILES      256
#define CONFIG_FILE_MAX_BYTES MIB(1)
#define CACHIX_PRESENCE_TTL_S 3600
#define PRIORITY_DEFAULT      50
#define PRIORITY_AGING_S      60

/* Where things are when nothing is said: the system's places, or the user's. */
struct config_places {
	bool user_mode;
	const char *config_file;     /* --config FILE; NULL: the mode's default, then conf.d */
	const char *credentials_dir; /* $CREDENTIALS_DIRECTORY or NULL */
	/* --scratch DIR, absolute: the socket, the state, the spool and the roots are in it, whatever the
	 * files say; or NULL. */
	const char *scratch_dir;
	enum log_level log_level; /* --log-level, stronger than what the files say; 0: not given */
};

/* Loads and checks everything; with CHECK_FILES also that files named exist and parse. All mistakes
 * found are appended to MESSAGES (64 KiB is room enough: what goes beyond 50 is only counted), as
 * "FILE:LINE: SECTION KEY: what\n" and mostly "  expected ...\n". A missing default file is no mistake.
 * Returns 0 and *RET, or -1. */
int config_load(struct config **ret, const struct config_places *places, bool check_files,
                struct buf *messages) MUST_CHECK;
/* The same of the LEN bytes of TEXT alone, called NAME in messages. */
int config_load_text(struct config **ret, const struct config_places *places, const char *name,
                     const char *text, size_t len, bool check_files, struct buf *messages) MUST_CHECK;
/* For taking in while the files are broken: what [daemon] says where it is right, defaults else, and
 * no caches. NULL: no memory. */
struct config *config_salvage(const struct config_places *places);
/* The defaults alone. NULL: no memory. */
struct config *config_defaults(const struct config_places *places);
void config_free(struct config *config); /* takes NULL */
/* Every setting in effect, as INI that loads to the same; no secrets (files are named, never read). */
void config_format(const struct config *config, struct buf *out);

const struct cache_config *config_find_cache(const struct config *config, const char *name); /* or NULL */
const struct upstream_config *config_find_upstream(const struct config *config, const char *name);

/* Can everybody who reaches a cache read it? */
enum visibility { VISIBILITY_UNKNOWN, VISIBILITY_PRIVATE, VISIBILITY_PUBLIC };

/* What the section of CACHE allows, and may not have been meant: a sentence, static; NULL: nothing of the
 * kind. Only for caches that are pushed to. With VISIBILITY_UNKNOWN, as far as the section alone tells. */
const char *config_warn_unsigned(const struct cache_config *cache);
const char *config_warn_public(const struct cache_config *cache, enum visibility visibility);
/* Appends a line "warning: FILE:LINE: [cache "NAME"]: SENTENCE" for each that the settings alone tell. */
void config_format_warnings(const struct config *config, struct buf *out);

/* What NEXT has other than OLD: TELL is called for each section that is new or removed, and each key that
 * changed. Texts are borrowed for the call; NAME is NULL for [daemon], KEY for a whole section. */
enum config_change_what { CONFIG_CHANGED, CONFIG_NEW, CONFIG_REMOVED };
struct config_change {
	enum config_change_what what;
	const char *section, *name, *key;
};
typedef void (*config_change_fn)(void *ctx, const struct config_change *change);
void config_compare(const struct config *old, const struct config *next, config_change_fn tell, void *ctx);

#endif
