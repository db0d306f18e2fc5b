#include "daemon/config/options.h"

#include <stdlib.h>
#include <string.h>

#define DAEMON(field) SECTION_DAEMON, offsetof(struct config, field), sizeof(((struct config *)0)->field)
#define CACHE(field) \
	SECTION_CACHE, offsetof(struct cache_config, field), sizeof(((struct cache_config *)0)->field)
#define UPSTREAM(field)                                            \
	SECTION_UPSTREAM, offsetof(struct upstream_config, field), \
		sizeof(((struct upstream_config *)0)->field)
#define PRIORITY(field)                                            \
	SECTION_PRIORITY, offsetof(struct priority_config, field), \
		sizeof(((struct priority_config *)0)->field)

#define DAY          UINT64_C(86400)
#define YEAR         (365 * DAY)
#define S3           (1U << CACHE_S3)
#define HAS_ENDPOINT (1U << CACHE_S3 | 1U << CACHE_CACHIX | 1U << CACHE_ATTIC)
#define IS_PACKED    (~(1U << CACHE_ATTIC)) /* an Attic server packs by itself */
#define HAS_CODECS   (~(1U << CACHE_ATTIC | 1U << CACHE_CACHIX))

static const struct option_word push_words[] = {
	{ "yes", PUSH_YES }, { "auto", PUSH_AUTO }, { "no", PUSH_NO }, { NULL, 0 }
};
static const struct option_word sign_words[] = {
	{ "closure", SIGN_CLOSURE }, { "built", SIGN_BUILT }, { "no", SIGN_NO }, { NULL, 0 }
};
static const struct option_word compression_words[] = { { "zstd", COMPRESS_ZSTD },
	                                                { "none", COMPRESS_NONE },
	                                                { NULL, 0 } };
static const struct option_word addressing_words[] = { { "auto", S3_ADDRESSING_AUTO },
	                                               { "path", S3_ADDRESSING_PATH },
	                                               { "virtual", S3_ADDRESSING_VIRTUAL },
	                                               { NULL, 0 } };
static const struct option_word log_words[] = { { "error", LOG_LEVEL_ERROR },
	                                        { "warning", LOG_LEVEL_WARNING },
	                                        { "info", LOG_LEVEL_INFO },
	                                        { "debug", LOG_LEVEL_DEBUG },
	                                        { NULL, 0 } };

/* clang-format off */
const struct option options[] = {
	{ DAEMON(socket), "socket", OPTION_PATH, .default_text = "/run/nncache/nncached.sock",
	  .user_text = "$XDG_RUNTIME_DIR/nncache/nncached.sock",
	  .help = "where the daemon listens; at most 107 characters" },
	{ DAEMON(state_dir), "state-dir", OPTION_PATH, .default_text = "/var/lib/nncache",
	  .user_text = "$XDG_STATE_HOME/nncache",
	  .help = "where the queue and temporary files are" },
	{ DAEMON(spool_dir), "spool-dir", OPTION_PATH, .default_text = "spool in state-dir",
	  .flags = OPTION_DERIVED,
	  .help = "where hooks leave paths when the daemon does not answer" },
	{ DAEMON(gcroots_dir), "gcroots-dir", OPTION_PATH,
	  .default_text = "gcroots/nncache in Nix's state directory",
	  .flags = OPTION_DERIVED,
	  .help = "where paths still to upload are protected from garbage collection" },
	{ DAEMON(store), "store", OPTION_STORE, .default_text = "auto",
	  .help = "the store that paths come from" },
	{ DAEMON(control_group), "control-group", OPTION_GROUP,
	  .help = "its members may do all that root may" },
	{ DAEMON(push_group), "push-group", OPTION_GROUP, .default_text = "nncache",
	  .help = "its members may enqueue, push and retry" },
	{ DAEMON(log_level), "log-level", OPTION_WORD, .default_text = "info", .words = log_words,
	  .help = "the least urgent lines logged" },
	{ DAEMON(pack_jobs), "pack-jobs", OPTION_COUNT, .default_text = "0", .max = 256,
	  .help = "paths packed at a time; 0: number of cores" },
	{ DAEMON(memory_bytes), "memory", OPTION_BYTES, .default_text = "64M", .min = MIB(16), .max = GIB(64),
	  .help = "all bodies and buffers together" },
	{ DAEMON(tmp_space_bytes), "tmp-space", OPTION_BYTES, .default_text = "20G", .max = GIB(1024 * 1024),
	  .help = "temporary files of packed paths together" },
	{ DAEMON(roots_max_age_s), "roots-max-age", OPTION_SECONDS, .default_text = "14d", .min = 1,
	  .max = 10 * YEAR,
	  .help = "how long a path that cannot be uploaded is protected" },
	{ DAEMON(roots_min_free_percent), "roots-min-free", OPTION_PERCENT, .default_text = "5%", .max = 99,
	  .help = "free space of the store's file system below which protection is given up" },
	{ DAEMON(give_up_after), "give-up-after", OPTION_COUNT, .default_text = "25", .min = 1, .max = 100000,
	  .help = "attempts of one upload" },
	{ DAEMON(history_s), "history", OPTION_SECONDS, .default_text = "14d", .max = 10 * YEAR,
	  .help = "how long finished jobs are shown" },
	{ DAEMON(stop_drain_s), "stop-drain", OPTION_SECONDS, .default_text = "10s", .max = DAY,
	  .help = "how long uploads may go on when the daemon is stopped" },
	{ DAEMON(net.proxy), "proxy", OPTION_PROXY_URL,
	  .help = "proxy for all requests; empty: none" },
	{ DAEMON(net.ca_file), "ca-file", OPTION_FILE,
	  .help = "certificates of the authorities to trust, PEM" },
	{ DAEMON(net.client_cert_file), "client-cert-file", OPTION_FILE,
	  .help = "our certificate, PEM" },
	{ DAEMON(net.client_key_file), "client-key-file", OPTION_FILE, .flags = OPTION_SECRET,
	  .help = "the key of our certificate, PEM" },
	{ DAEMON(net.netrc_file), "netrc-file", OPTION_FILE, .flags = OPTION_SECRET,
	  .help = "user names and passwords of hosts" },

	{ CACHE(url), "url", OPTION_CACHE_URL, .flags = OPTION_REQUIRED,
	  .help = "where the cache is" },
	{ CACHE(push), "push", OPTION_WORD, .default_text = "yes", .words = push_words,
	  .help = "whether it is uploaded to" },
	{ CACHE(token_file), "token-file", OPTION_FILE, .flags = OPTION_SECRET,
	  .help = "the token to show the server" },
	{ CACHE(signing_key_files), "signing-key-file", OPTION_FILE, .flags = OPTION_LIST | OPTION_SECRET,
	  .help = "secret key to sign narinfos with" },
	{ CACHE(sign), "sign", OPTION_WORD, .default_text = "closure", .words = sign_words,
	  .help = "which paths are signed" },
	{ CACHE(compression), "compression", OPTION_WORD, .default_text = "zstd", .words = compression_words,
	  .kinds = HAS_CODECS,
	  .help = "how NARs are packed" },
	{ CACHE(compression_level), "compression-level", OPTION_COUNT, .default_text = "3", .min = 1,
	  .max = 19,
	  .kinds = IS_PACKED,
	  .help = "level of zstd; higher is smaller and slower" },
	{ CACHE(upload_jobs), "upload-jobs", OPTION_COUNT, .default_text = "32", .min = 1, .max = 256,
	  .help = "uploads to this cache at a time, at most" },
	{ CACHE(upload_rate_bytes), "upload-rate", OPTION_BYTES, .default_text = "0", .max = GIB(1024),
	  .help = "bytes a second to this cache; 0: unlimited" },
	{ CACHE(presence_ttl_s), "presence-ttl", OPTION_SECONDS, .default_text = "1d", .min = 1, .max = YEAR,
	  .help = "how long a path seen on the cache counts as there" },
	{ CACHE(stall_timeout_ms), "stall-timeout", OPTION_MILLISECONDS, .default_text = "1m", .min = 1,
	  .max = 3600,
	  .help = "a transfer without progress for so long has failed" },
	{ CACHE(upstreams), "upstreams", OPTION_NAMES, .default_text = "nixos", .flags = OPTION_LIST,
	  .help = "upstream caches whose paths are not uploaded" },
	{ CACHE(exclude_roots), "exclude-roots", OPTION_REGEX, .flags = OPTION_LIST,
	  .help = "built paths not uploaded" },
	{ CACHE(include_roots), "include-roots", OPTION_REGEX, .flags = OPTION_LIST,
	  .help = "if set, only these built paths are uploaded" },
	{ CACHE(exclude_closures), "exclude-closures", OPTION_REGEX, .flags = OPTION_LIST,
	  .help = "paths never uploaded, nor what needs them" },
	{ CACHE(exclude_closures_over_bytes), "exclude-closures-with-nar-over", OPTION_BYTES,
	  .max = GIB(1024 * 1024),
	  .help = "paths of a larger NAR are never uploaded, nor what needs them; 0: no limit" },
	{ CACHE(endpoint), "endpoint", OPTION_ENDPOINT_URL, .kinds = HAS_ENDPOINT,
	  .help = "the server of s3://, cachix:// or attic://, if not the usual one" },
	{ CACHE(s3_region), "region", OPTION_TEXT, .kinds = S3,
	  .help = "region of the bucket" },
	{ CACHE(s3_profile), "profile", OPTION_TEXT, .kinds = S3,
	  .help = "section of AWS's credentials file" },
	{ CACHE(s3_addressing), "addressing-style", OPTION_WORD, .default_text = "auto",
	  .words = addressing_words,
	  .kinds = S3,
	  .help = "whether the bucket stands in the path or in the host name" },
	{ CACHE(s3_storage_class), "storage-class", OPTION_TEXT, .kinds = S3,
	  .help = "storage class of new objects" },
	{ CACHE(net.proxy), "proxy", OPTION_PROXY_URL,
	  .help = "as in [daemon], for this cache" },
	{ CACHE(net.ca_file), "ca-file", OPTION_FILE,
	  .help = "as in [daemon], for this cache" },
	{ CACHE(net.client_cert_file), "client-cert-file", OPTION_FILE,
	  .help = "as in [daemon], for this cache" },
	{ CACHE(net.client_key_file), "client-key-file", OPTION_FILE, .flags = OPTION_SECRET,
	  .help = "as in [daemon], for this cache" },
	{ CACHE(net.netrc_file), "netrc-file", OPTION_FILE, .flags = OPTION_SECRET,
	  .help = "as in [daemon], for this cache" },

	{ UPSTREAM(url), "url", OPTION_UPSTREAM_URL, .flags = OPTION_REQUIRED,
	  .help = "where the cache is" },
	{ UPSTREAM(public_keys), "public-key", OPTION_PUBLIC_KEY, .flags = OPTION_LIST | OPTION_REQUIRED,
	  .help = "what its paths are signed with" },
	{ UPSTREAM(keeps_forever), "keeps-forever", OPTION_BOOL, .default_text = "no",
	  .help = "whether it never deletes a path" },

	{ PRIORITY(match), "match", OPTION_REGEX, .flags = OPTION_REQUIRED,
	  .help = "the paths it is for" },
	{ PRIORITY(priority), "priority", OPTION_COUNT, .max = 1000, .flags = OPTION_REQUIRED,
	  .help = "higher goes first; a path of no class has 50" },
};
/* clang-format on */
const size_t n_options = N_ELEMENTS(options);

const char *option_section_name(enum option_section section)
{
	static const char *const names[] = {
		[SECTION_DAEMON] = "daemon",
		[SECTION_CACHE] = "cache",
		[SECTION_UPSTREAM] = "upstream",
		[SECTION_PRIORITY] = "priority",
	};

	return names[section];
}

size_t option_number(const struct option *option)
{
	return (size_t)(option - options);
}

const struct option *option_find(enum option_section section, const char *key)
{
	for (size_t i = 0; i < n_options; i++) {
		if (options[i].section == section && strcmp(options[i].key, key) == 0)
			return &options[i];
	}
	return NULL;
}

#define KEY_COMPARED 32

/* How many characters of A must be changed, put in or left out to have B (Levenshtein). */
static size_t distance(const char *a, const char *b)
{
	size_t row[KEY_COMPARED + 1], n_b = strnlen(b, KEY_COMPARED);

	for (size_t j = 0; j <= n_b; j++)
		row[j] = j;
	for (size_t i = 0; i < KEY_COMPARED && a[i] != '\0'; i++) {
		size_t diagonal = row[0];

		row[0] = i + 1;
		for (size_t j = 0; j < n_b; j++) {
			size_t best = diagonal + (a[i] != b[j]);

			best = best < row[j] + 1 ? best : row[j] + 1;
			best = best < row[j + 1] + 1 ? best : row[j + 1] + 1;
			diagonal = row[j + 1];
			row[j + 1] = best;
		}
	}
	return row[n_b];
}

const struct option *option_nearest(enum option_section section, const char *key)
{
	size_t best = strlen(key) / 3 + 1; /* further off is a guess, not a help */
	const struct option *nearest = NULL;

	for (size_t i = 0; i < n_options; i++) {
		size_t d = options[i].section == section ? distance(key, options[i].key) : SIZE_MAX;

		if (d <= best && (nearest == NULL || d < best)) {
			best = d;
			nearest = &options[i];
		}
	}
	return nearest;
}
