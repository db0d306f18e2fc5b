#include "tests/unit/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/config/options.h"
#include "daemon/config/places.h"

#define PUBLIC_KEY "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="
#define MAIN       "[cache \"main\"]\nurl = https://c.example/nix\nsign = no\n"

static const struct config_places places = { .config_file = "/conf/nncache.conf" };

static struct config *load(const char *text, struct buf *messages)
{
	struct config *config = NULL;

	buf_init(messages, KIB(64));
	if (config_load_text(&config, &places, "f", text, strlen(text), false, messages) < 0)
		assert_null(config);
	assert_true(buf_ok(messages));
	return config;
}

static struct config *load_good(const char *text)
{
	struct buf messages;
	struct config *config = load(text, &messages);

	assert_string_equal(buf_text(&messages), "");
	assert_non_null(config);
	buf_fini(&messages);
	return config;
}

static void assert_mistakes(const char *text, const char *expected)
{
	struct buf messages;
	struct config *config = load(text, &messages);

	assert_string_equal(buf_text(&messages), expected);
	assert_null(config);
	buf_fini(&messages);
}

/* Values */

static void what_is_not_said_has_its_default(void **state)
{
	struct config *config = load_good(MAIN);
	const struct cache_config *cache = config_find_cache(config, "main");

	(void)state;
	assert_string_equal(config->socket, "/run/nncache/nncached.sock");
	assert_string_equal(config->state_dir, "/var/lib/nncache");
	assert_string_equal(config->spool_dir, "/var/lib/nncache/spool");
	assert_string_equal(config->gcroots_dir, "/nix/var/nix/gcroots/nncache");
	assert_string_equal(config->store, "auto");
	assert_null(config->control_group);
	assert_string_equal(config->push_group, "nncache");
	assert_int_equal(config->pack_jobs, 0);
	assert_int_equal(config->memory_bytes, MIB(64));
	assert_int_equal(config->tmp_space_bytes, GIB(20));
	assert_int_equal(config->roots_max_age_s, 14 * 86400);
	assert_int_equal(config->roots_min_free_percent, 5);
	assert_int_equal(config->give_up_after, 25);
	assert_int_equal(config->history_s, 14 * 86400);
	assert_int_equal(config->log_level, LOG_LEVEL_INFO);
	assert_non_null(cache);
	assert_int_equal(cache->kind, CACHE_HTTP);
	assert_int_equal(cache->push, PUSH_YES);
	assert_int_equal(cache->compression, COMPRESS_ZSTD);
	assert_int_equal(cache->compression_level, 3);
	assert_int_equal(cache->upload_jobs, 32);
	assert_int_equal(cache->presence_ttl_s, 86400);
	assert_int_equal(cache->stall_timeout_ms, 60000);
	assert_int_equal(cache->upstreams.n, 1);
	assert_string_equal(cache->upstreams.items[0], "nixos");
	assert_int_equal(cache->exclude_closures_over_bytes, 0);
	config_free(config);
}

static void every_key_reaches_its_field(void **state)
{
	struct config *config = load_good("[daemon]\n"
	                                  "socket = /s/x.sock\n"
	                                  "state-dir = /s//state/\n"
	                                  "store = local?root=/other\n"
	                                  "control-group = wheel\n"
	                                  "log-level = debug\n"
	                                  "memory=1G\n"
	                                  "roots-min-free = 10%\n"
	                                  "history = 0\n"
	                                  "stop-drain = 2h\n"
	                                  "proxy = http://proxy:3128\n"
	                                  "ca-file = ca.pem\n"
	                                  "[cache \"b.2\"]\n"
	                                  "url = s3://builds\n"
	                                  "push = auto\n"
	                                  "token-file = main.token\n"
	                                  "signing-key-file = one.secret\n"
	                                  "signing-key-file = /keys/two.secret\n"
	                                  "sign = built\n"
	                                  "compression = none\n"
	                                  "upload-rate = 1500K\n"
	                                  "stall-timeout = 90s\n"
	                                  "upstreams = nixos other\n"
	                                  "exclude-roots = -source$\n"
	                                  "exclude-roots = nixpkgs\\.tar\\.gz$\n"
	                                  "include-roots = a|b\n"
	                                  "exclude-closures = ^/nix/store/.*-cuda\n"
	                                  "exclude-closures-with-nar-over = 2G\n"
	                                  "endpoint = http://S3.example:80/\n"
	                                  "region = eu\n"
	                                  "profile = p\n"
	                                  "addressing-style = path\n"
	                                  "storage-class = STANDARD_IA\n"
	                                  "proxy =\n"
	                                  "netrc-file = /etc/netrc\n"
	                                  "[upstream \"other\"]\n"
	                                  "url = https://o.example/\n"
	                                  "public-key = " PUBLIC_KEY "\n"
	                                  "[priority \"deps\"]\n"
	                                  "match = -deps-|-vendor\n"
	                                  "priority = 100\n");
	const struct cache_config *cache = config_find_cache(config, "b.2");
	const struct upstream_config *other = config_find_upstream(config, "other");

	(void)state;
	assert_string_equal(config->socket, "/s/x.sock");
	assert_string_equal(config->state_dir, "/s/state");
	assert_string_equal(config->spool_dir, "/s/state/spool");
	assert_string_equal(config->gcroots_dir, "/other/nix/var/nix/gcroots/nncache");
	assert_string_equal(config->control_group, "wheel");
	assert_int_equal(config->log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(config->memory_bytes, GIB(1));
	assert_int_equal(config->roots_min_free_percent, 10);
	assert_int_equal(config->history_s, 0);
	assert_int_equal(config->stop_drain_s, 7200);
	assert_int_equal(cache->kind, CACHE_S3);
	assert_int_equal(cache->push, PUSH_AUTO);
	assert_string_equal(cache->token_file, "/conf/credentials/main.token");
	assert_int_equal(cache->signing_key_files.n, 2);
	assert_string_equal(cache->signing_key_files.items[0], "/conf/credentials/one.secret");
	assert_string_equal(cache->signing_key_files.items[1], "/keys/two.secret");
	assert_int_equal(cache->sign, SIGN_BUILT);
	assert_int_equal(cache->compression, COMPRESS_NONE);
	assert_int_equal(cache->upload_rate_bytes, 1500 * 1024);
	assert_int_equal(cache->stall_timeout_ms, 90000);
	assert_int_equal(cache->upstreams.n, 2);
	assert_string_equal(cache->upstreams.items[1], "other");
	assert_int_equal(cache->exclude_roots.n, 2);
	assert_string_equal(cache->exclude_roots.items[1], "nixpkgs\\.tar\\.gz$");
	assert_int_equal(cache->include_roots.n, 1);
	assert_int_equal(cache->exclude_closures.n, 1);
	assert_int_equal(cache->exclude_closures_over_bytes, GIB(2));
	assert_string_equal(cache->endpoint, "http://s3.example");
	assert_string_equal(cache->identity, "s3://builds http://s3.example");
	assert_string_equal(cache->s3_region, "eu");
	assert_string_equal(cache->s3_profile, "p");
	assert_int_equal(cache->s3_addressing, S3_ADDRESSING_PATH);
	assert_string_equal(cache->s3_storage_class, "STANDARD_IA");
	assert_string_equal(cache->net.proxy, "");
	assert_string_equal(cache->net.ca_file, "/conf/credentials/ca.pem");
	assert_string_equal(cache->net.netrc_file, "/etc/netrc");
	assert_null(config->net.netrc_file);
	assert_string_equal(other->url, "https://o.example");
	assert_int_equal(other->public_keys.n, 1);
	assert_false(other->keeps_forever);
	assert_int_equal(config->n_priorities, 1);
	assert_string_equal(config->priorities[0].match, "-deps-|-vendor");
	assert_int_equal(config->priorities[0].priority, 100);
	config_free(config);
}

static void the_builtin_upstream_is_there_and_keeps_what_a_section_does_not_say(void **state)
{
	struct config *config = load_good("[upstream \"nixos\"]\nurl = https://mirror.example/nixos\n");
	const struct upstream_config *nixos = config_find_upstream(config, "nixos");

	(void)state;
	assert_int_equal(config->n_upstreams, 1);
	assert_string_equal(nixos->url, "https://mirror.example/nixos");
	assert_string_equal(nixos->public_keys.items[0], PUBLIC_KEY);
	assert_true(nixos->keeps_forever);
	config_free(config);
}

static void an_empty_list_means_none(void **state)
{
	struct config *config = load_good(MAIN "upstreams =\n");

	(void)state;
	assert_int_equal(config->caches[0].upstreams.n, 0);
	config_free(config);
}

static void comments_blank_lines_and_windows_line_ends_are_fine(void **state)
{
	struct config *config =
		load_good("\xef\xbb\xbf; one\r\n\r\n  # indented; # and more\n[ daemon ]\r\nmemory = 32M\r\n"
	                  "[cache  \"main\"]\nurl=file:///a\nexclude-roots = a;b#c\nsign=no");

	(void)state;
	assert_int_equal(config->memory_bytes, MIB(32));
	assert_string_equal(config->caches[0].exclude_roots.items[0], "a;b#c");
	assert_string_equal(config->caches[0].file, "f");
	assert_int_equal(config->caches[0].line, 6);
	config_free(config);
}

static void a_name_longer_than_inih_keeps_stays_whole(void **state)
{
	static const char name[] = "a234567890123456789012345678901234567890123456789012345678901234";
	struct config *config =
		load_good("[cache \"a234567890123456789012345678901234567890123456789012345678901234\"]\n"
	                  "url = file:///a\nsign = no\n"
	                  "[cache \"a23456789012345678901234567890123456789012345678901234567890123\"]\n"
	                  "url = file:///b\nsign = no\n");

	(void)state;
	assert_int_equal(config->n_caches, 2);
	assert_string_equal(config_find_cache(config, name)->url, "file:///a");
	config_free(config);
}

static void identities_are_normal_forms(void **state)
{
	static const char *const table[][2] = {
		{ "HTTPS://Cache.Example:443/Nix//", "https://cache.example/Nix" },
		{ "http://h:80", "http://h" },
		{ "https://h:80/", "https://h:80" },
		{ "http://[::1]:8080/p", "http://[::1]:8080/p" },
		{ "s3://Bucket.x_y/", "s3://Bucket.x_y" },
		{ "cachix://mycache", "cachix://mycache" },
		{ "attic://A.example:443/prefix/team+x/", "attic://a.example/prefix/team+x" },
		{ "file:///srv//cache/./x/", "file:///srv/cache/x" },
		{ "file:///", "file:///" },
	};

	(void)state;
	for (size_t i = 0; i < N_ELEMENTS(table); i++) {
		CLEANUP(buf_fini) struct buf text = { .max = 4096 };
		struct config *config;

		buf_printf(&text, "[cache \"x\"]\nurl = %s\nsign = no\n", table[i][0]);
		config = load_good(buf_text(&text));
		assert_string_equal(config->caches[0].url, table[i][0]);
		assert_string_equal(config->caches[0].identity, table[i][1]);
		config_free(config);
	}
}

/* Mistakes */

#define CACHE_EXPECTED                                                                                       \
	"\n  expected https://HOST/PATH, s3://BUCKET, cachix://NAME, attic://HOST/NAME or file:///DIR; see " \
	"nncache.conf(5)\n"
#define SECTION_EXPECTED                                                                               \
	": is not a section\n  expected [daemon], [cache \"NAME\"], [upstream \"NAME\"] or [priority " \
	"\"NAME\"], the name of 1 to 64 letters, digits, \".\", \"_\" and \"-\"\n"
#define BYTES_EXPECTED "a number of bytes, or of K, M, G or T (powers of 1024) as in 64M, from "
#define STORE_EXPECTED "\n  expected auto, daemon, local, unix:///SOCKET, local?root=/DIR or /DIR\n"
#define NO_CACHE(value, why)                                                                          \
	{                                                                                             \
		"[cache \"x\"]\nurl = " value "\n",                                                   \
			"f:2: [cache \"x\"] url: \"" value "\" is not a cache URL" why CACHE_EXPECTED \
	}

static const struct {
	const char *text, *expected;
} mistakes[] = {
	{ "[cache \"main\"]\nurl = s3//builds\n",
	  "f:2: [cache \"main\"] url: \"s3//builds\" is not a cache URL" CACHE_EXPECTED },
	NO_CACHE("ftp://h/x", ""),
	NO_CACHE("https://", ": that is no host name"),
	NO_CACHE("https://h:0/", ": the port is not 1 to 65535"),
	NO_CACHE("https://h:65536/", ": the port is not 1 to 65535"),
	NO_CACHE("https://h:/", ": the port is not 1 to 65535"),
	NO_CACHE("https://a b/", ": that is no host name"),
	NO_CACHE("https://h/a/../b", ": its path has a blank, a backslash, \".\" or \"..\" in it"),
	NO_CACHE("s3://ab", ": that is no name of a bucket"),
	NO_CACHE("s3://bucket/prefix", ": it has a path"),
	NO_CACHE("cachix://", ": that is no name of a cache"),
	NO_CACHE("attic://host", ": it does not end in the name of a cache"),
	NO_CACHE("attic://host/-x", ": it does not end in the name of a cache"),
	NO_CACHE("file://host/dir", ": it has a host"),
	NO_CACHE("file:///a/..", ": its path has \"..\" in it"),
	NO_CACHE("file:///a%20b", ": \"%\" in a directory means different things to different programs"),
	{ "[cache \"x\"]\nurl = https://me:hunter2@h/\n",
	  "f:2: [cache \"x\"] url: holds a user name or password (not shown)\n"
	  "  expected the URL without them, and a netrc-file or token-file\n" },
	{ "[cache \"x\"]\nurl = https//me:hunter2@h/\n",
	  "f:2: [cache \"x\"] url: the value is not a cache URL" CACHE_EXPECTED },
	{ "[cache \"x\"]\nurl = s3://builds?region=eu\n",
	  "f:2: [cache \"x\"] url: holds a query or fragment (not shown)\n"
	  "  expected the URL alone; its parameters are keys of the section (endpoint, region, compression, "
	  "...)\n" },
	{ "[cache \"x\"]\nsign = no\n", "f:1: [cache \"x\"] url: is missing\n" },
	{ "[cache \"x\"]\nurl =\n", "f:2: [cache \"x\"] url: has no value\n" },
	{ "[cache \"x\"]\nurl = https://h/\n",
	  "f:1: [cache \"x\"]: has no key to sign with, and readers take nothing unsigned\n"
	  "  expected signing-key-file = FILE; or sign = no, or push = no\n" },
	{ "[cache \"x\"]\nurl = https://h/\nsigning-key-file = keys/main\n",
	  "f:3: [cache \"x\"] signing-key-file: \"keys/main\" is not a file name\n"
	  "  expected /DIR/NAME, or NAME without a slash: it is looked for in $CREDENTIALS_DIRECTORY, then "
	  "in the "
	  "credentials directory beside the configuration\n" },
#define NOT_SHOWN(key)                                                               \
	"f:3: [cache \"x\"] " key ": the value is no file that is there, and looks " \
	"like a secret (not shown)\n"                                                \
	"  expected the name of a file that holds it\n"
	{ "[cache \"x\"]\nurl = https://h/\nsigning-key-file = "
	  "cache-1:pTwx/2Ck0zrmJYI5s+3lqWpbPDiuVg7UVPF8xQ==\n",
	  NOT_SHOWN("signing-key-file") },
	{ "[cache \"x\"]\nurl = https://h/\ntoken-file = eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl\n"
	  "sign = no\n",
	  NOT_SHOWN("token-file") },
	{ "[cache \"x\"]\nurl = https://h/\ntoken-file = 0123456789abcdef0123456789abcdef\nsign = no\n",
	  NOT_SHOWN("token-file") },
	{ MAIN "upstreams = nixos frieds\n", "f:4: [cache \"main\"] upstreams: \"frieds\" is not known\n"
	                                     "  expected a section [upstream \"NAME\"] for it\n" },
	{ MAIN "[cache \"again\"]\nurl = https://C.example:443/nix/\nsign = no\n",
	  "f:5: [cache \"again\"] url: is the same cache as [cache \"main\"] at f:1\n" },
	{ MAIN "region = eu\n", "f:4: [cache \"main\"] region: means nothing to this kind of cache\n"
	                        "  expected it with url = s3://BUCKET\n" },
	{ MAIN "endpoint = https://h\n",
	  "f:4: [cache \"main\"] endpoint: means nothing to this kind of cache\n"
	  "  expected it with url = s3://, cachix:// or attic://\n" },
	{ MAIN "exclude-roots = (a\n", "f:4: [cache \"main\"] exclude-roots: \"(a\": Unmatched ( or \\(\n"
	                               "  expected a POSIX extended regular expression\n" },
	{ MAIN "exclude-roots = ((x{255}){255}){1,255}\n",
	  "f:4: [cache \"main\"] exclude-roots: \"((x{255}){255}){1,255}\" repeats too much\n"
	  "  expected up to 2000 characters with every {N} and + written out\n" },
	{ MAIN "exclude-roots = a)x+++++++++++$\n",
	  "f:4: [cache \"main\"] exclude-roots: \"a)x+++++++++++$\" repeats too much\n"
	  "  expected up to 2000 characters with every {N} and + written out\n" },
	{ MAIN "exclude-roots = ((x{9,}){9,}){20,}\n",
	  "f:4: [cache \"main\"] exclude-roots: \"((x{9,}){9,}){20,}\" repeats too much\n"
	  "  expected up to 2000 characters with every {N} and + written out\n" },
	{ MAIN "compression-level = 20\n",
	  "f:4: [cache \"main\"] compression-level: 20 is out of range\n  expected 1 to 19\n" },
	{ MAIN "compression-level = 3K\n",
	  "f:4: [cache \"main\"] compression-level: \"3K\" is not understood\n"
	  "  expected a whole number, from 1 to 19\n" },
	{ MAIN "push = maybe\n",
	  "f:4: [cache \"main\"] push: \"maybe\" is not understood\n  expected yes, auto or no\n" },
	{ MAIN "upload-job = 3\n",
	  "f:4: [cache \"main\"] upload-job: is not known\n  did you mean upload-jobs?\n" },
	{ MAIN "memory = 64M\n", "f:4: [cache \"main\"] memory: belongs in a section [daemon]\n" },
	{ MAIN "frobnicate = 64M\n",
	  "f:4: [cache \"main\"] frobnicate: is not known; see nncache.conf(5)\n" },
	{ "[daemon]\nmemory = 8M\n", "f:2: [daemon] memory: 8M is out of range\n  expected 16M to 64G\n" },
	{ "[daemon]\nmemory = 64MB\n",
	  "f:2: [daemon] memory: \"64MB\" is not understood\n  expected " BYTES_EXPECTED "16M to 64G\n" },
	{ "[daemon]\nmemory = 99999999999999999999\n",
	  "f:2: [daemon] memory: \"99999999999999999999\" is not understood\n  expected " BYTES_EXPECTED
	  "16M to 64G\n" },
	{ "[daemon]\nmemory = 18014398509481984K\n",
	  "f:2: [daemon] memory: \"18014398509481984K\" is not understood\n  expected " BYTES_EXPECTED
	  "16M to 64G\n" },
	{ "[daemon]\nmemory = -1\n",
	  "f:2: [daemon] memory: \"-1\" is not understood\n  expected " BYTES_EXPECTED "16M to 64G\n" },
	{ "[daemon]\nhistory = 14\n",
	  "f:2: [daemon] history: \"14\" is not understood\n"
	  "  expected a number with its unit s, m, h, d or w as in 90s, from 0 to 3650d\n" },
	{ "[daemon]\nroots-min-free = 5\n", "f:2: [daemon] roots-min-free: \"5\" is not understood\n"
	                                    "  expected a percentage as in 5%, from 0% to 99%\n" },
	{ "[daemon]\nstate-dir = var/lib\n",
	  "f:2: [daemon] state-dir: \"var/lib\" is not a full path\n  expected /DIR/NAME, without \"..\"\n" },
	{ "[daemon]\nstate-dir = /a/../b\n",
	  "f:2: [daemon] state-dir: \"/a/../b\" is not a full path\n  expected /DIR/NAME, without \"..\"\n" },
	{ "[daemon]\nstore = ssh://h\n", "f:2: [daemon] store: \"ssh://h\" is not a store" STORE_EXPECTED },
	{ "[daemon]\nstore = local?root=x\n",
	  "f:2: [daemon] store: \"local?root=x\" is not a store" STORE_EXPECTED },
	{ "[daemon]\npush-group = a:b\n", "f:2: [daemon] push-group: \"a:b\" is not the name of a group\n" },
	{ "[daemon]\nproxy = http://me:hunter2@h:1\n",
	  "f:2: [daemon] proxy: holds a user name or password (not shown)\n"
	  "  expected the URL without them; such a proxy is set in the environment of the service "
	  "(https_proxy)\n" },
	{ "[daemon]\nproxy = h:3128\n",
	  "f:2: [daemon] proxy: \"h:3128\" is not a proxy\n"
	  "  expected http://HOST:PORT, https://HOST:PORT or socks5h://HOST:PORT; see nncache.conf(5)\n" },
	{ "[cache \"x\"]\nurl = s3://builds\nsign = no\nendpoint = s3.example\n",
	  "f:4: [cache \"x\"] endpoint: \"s3.example\" is not an endpoint\n"
	  "  expected https://HOST[:PORT] or http://HOST[:PORT]; see nncache.conf(5)\n" },
	{ "[cache \"x\"]\nurl = s3://builds\nsign = no\nendpoint = https://h/path\n",
	  "f:4: [cache \"x\"] endpoint: \"https://h/path\" is not an endpoint: it has a path\n"
	  "  expected https://HOST[:PORT] or http://HOST[:PORT]; see nncache.conf(5)\n" },
	{ "[daemon]\nmemory = 64M\nhistory = 1d\nmemory = 32M\n",
	  "f:4: [daemon] memory: is set twice in this file, first on line 2\n" },
	{ "[daemon]\nsocket = "
	  "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	  "aaaaaaaaaaaaaaa\n",
	  "f:2: [daemon] socket: "
	  "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	  "aaaaaaaaaaaaaaaaaa is longer than 107 characters, which a socket's path may have\n" },
	{ "[upstream \"u\"]\n",
	  "f:1: [upstream \"u\"] url: is missing\nf:1: [upstream \"u\"] public-key: is missing\n" },
	{ "[upstream \"u\"]\nurl = s3://b\npublic-key = x\n",
	  "f:2: [upstream \"u\"] url: \"s3://b\" is not the URL of an upstream cache\n"
	  "  expected https://HOST/PATH, http://HOST/PATH or file:///DIR; see nncache.conf(5)\n"
	  "f:3: [upstream \"u\"] public-key: \"x\" is not a public key\n"
	  "  expected NAME:KEY, the key being 44 characters of base64\n" },
	{ "[upstream \"nixos\"]\nkeeps-forever = 1\n",
	  "f:2: [upstream \"nixos\"] keeps-forever: \"1\" is not understood\n  expected yes or no\n" },
	/* The last character has bits that belong to no byte. */
	{ "[upstream \"u\"]\nurl = file:///u\npublic-key = u:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjX=\n",
	  "f:3: [upstream \"u\"] public-key: \"u:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjX=\" is not a "
	  "public "
	  "key\n"
	  "  expected NAME:KEY, the key being 44 characters of base64\n" },
	{ "[upstream \"nixos\"]\npublic-key =\n", "f:1: [upstream \"nixos\"] public-key: is missing\n" },
	{ "[priority \"p\"]\nmatch = x\n", "f:1: [priority \"p\"] priority: is missing\n" },
	{ "[priority \"p\"]\nmatch = x\npriority = 1001\n",
	  "f:3: [priority \"p\"] priority: 1001 is out of range\n  expected 0 to 1000\n" },
	/* form */
	{ "memory = 64M\n[daemon]\n", "f:1: memory: stands before the first section\n" },
	{ "[cache]\nurl = x\n", "f:1: [cache]" SECTION_EXPECTED },
	{ "[daemon \"x\"]\n", "f:1: [daemon \"x\"]" SECTION_EXPECTED },
	{ "[cache \"a b\"]\n", "f:1: [cache \"a b\"]" SECTION_EXPECTED },
	{ "[cache \"a\"\n", "f:1: [cache \"a\"" SECTION_EXPECTED },
	{ "[cache \"a\"] x\n", "f:1: [cache \"a\"] x" SECTION_EXPECTED },
	{ "[cash \"a\"]\n", "f:1: [cash \"a\"]" SECTION_EXPECTED },
	{ "[cache \"a2345678901234567890123456789012345678901234567890123456789012345\"]\n",
	  "f:1: [cache "
	  "\"a2345678901234567890123456789012345678901234567890123456789012345\"]" SECTION_EXPECTED },
	{ "[daemon]\nmemory\n", "f:2: line is neither a section nor a setting\n  expected KEY = VALUE\n" },
	{ "[daemon]\nmemory: 64M\n",
	  "f:2: line is neither a section nor a setting\n  expected KEY = VALUE\n" },
	{ "[daemon]\n= 64M\n", "f:2: line is neither a section nor a setting\n  expected KEY = VALUE\n" },
	{ "[daemon]\nmemory = 64M\n  32M\n", "f:3: line begins with a blank\n  expected no indentation; a "
	                                     "value cannot go on in the next line\n" },
	{ "[daemon]\nmemory = 64M ; much\n", "f:2: line has \";\" or \"#\" after a blank or \"=\"\n  "
	                                     "expected a comment on a line of its own\n" },
	{ "[daemon]\nstate-dir =;/x\n", "f:2: line has \";\" or \"#\" after a blank or \"=\"\n  expected a "
	                                "comment on a line of its own\n" },
	{ "[daemon]\nmemory = 64M\t# much\n", "f:2: line has \";\" or \"#\" after a blank or \"=\"\n  "
	                                      "expected a comment on a line of its own\n" },
	{ "[daemon]\nmemory = 6\0014M\n", "f:2: line has control characters in it\n" },
	{ "[daemon]\nsocket = caf\xc3\xa9\n", "f:2: [daemon] socket: \"caf\\xc3\\xa9\" is not a full path\n  "
	                                      "expected /DIR/NAME, without \"..\"\n" },
};

static void each_mistake_names_its_line_and_what_would_be_right(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_ELEMENTS(mistakes); i++)
		assert_mistakes(mistakes[i].text, mistakes[i].expected);
}

static void all_mistakes_are_told_in_one_run(void **state)
{
	(void)state;
	assert_mistakes("[daemon]\nmemory = 1\n  x\nhistorie = 1d\n[cash \"a\"]\nurl = ignored\n[cache "
	                "\"m\"]\nurl = x\n",
	                "f:2: [daemon] memory: 1 is out of range\n  expected 16M to 64G\n"
	                "f:3: line begins with a blank\n"
	                "  expected no indentation; a value cannot go on in the next line\n"
	                "f:4: [daemon] historie: is not known\n  did you mean history?\n"
	                "f:5: [cash \"a\"]" SECTION_EXPECTED
	                "f:8: [cache \"m\"] url: \"x\" is not a cache URL" CACHE_EXPECTED);
}

static void a_line_that_inih_would_cut_is_refused_and_the_next_one_counted_right(void **state)
{
	CLEANUP(buf_fini) struct buf text = { .max = 4096 };

	(void)state;
	buf_puts(&text, "[daemon]\nstate-dir = /");
	for (int i = 0; i < 400; i++)
		buf_putc(&text, 'a');
	buf_puts(&text, "\nmemory = 1\n");
	assert_mistakes(buf_text(&text), "f:2: line is longer than 199 bytes\n"
	                                 "f:3: [daemon] memory: 1 is out of range\n  expected 16M to 64G\n");
}

static void the_longest_line_arrives_whole(void **state)
{
	CLEANUP(buf_fini) struct buf text = { .max = 4096 };
	struct config *config;

	(void)state;
	buf_puts(&text, "state-dir = /");
	while (text.len < 199)
		buf_putc(&text, 'a');
	buf_puts(&text, "\n");
	{
		CLEANUP(buf_fini) struct buf file = { .max = 4096 };

		buf_printf(&file, "[daemon]\n%s", buf_text(&text));
		config = load_good(buf_text(&file));
	}
	assert_int_equal(strlen(config->state_dir), 199 - strlen("state-dir = "));
	config_free(config);
}

static void there_may_be_64_caches_and_upstreams_and_not_one_more(void **state)
{
	CLEANUP(buf_fini) struct buf text = { .max = KIB(64) };
	struct config *config;

	(void)state;
	for (int i = 0; i < 63; i++) /* nixos is one */
		buf_printf(&text, "[cache \"c%d\"]\nurl = file:///c/%d\nsign = no\n", i, i);
	config = load_good(buf_text(&text));
	assert_int_equal(config->n_caches, 63);
	config_free(config);
	buf_puts(&text, "[cache \"c7\"]\nupload-jobs = 1\n[cache \"more\"]\nurl = file:///more\n");
	assert_mistakes(
		buf_text(&text),
		"f:192: [cache \"more\"]: is one too many\n  expected at most 64 caches and upstreams\n");
}

static void a_list_has_an_end(void **state)
{
	CLEANUP(buf_fini) struct buf text = { .max = KIB(64) };

	(void)state;
	buf_puts(&text, MAIN);
	for (int i = 0; i < 65; i++)
		buf_puts(&text, "exclude-roots = x\n");
	assert_mistakes(buf_text(&text),
	                "f:68: [cache \"main\"] exclude-roots: is one too many\n  expected at most 64\n");
}

static void many_mistakes_are_counted_not_shown(void **state)
{
	CLEANUP(buf_fini) struct buf text = { .max = KIB(64) };
	struct buf messages;
	const char *end;

	(void)state;
	for (int i = 0; i < 1000; i++)
		buf_puts(&text, "x\n");
	assert_null(load(buf_text(&text), &messages));
	end = strstr(buf_text(&messages), "f:50: line is neither");
	assert_non_null(end);
	assert_non_null(strstr(end, "KEY = VALUE\nand 950 more\n"));
	buf_fini(&messages);
}

static void garbage_is_refused_and_never_crashes(void **state)
{
	static const char alphabet[] = "\n\n\n[]\"= ;#:acehdmnolu\t\r\xff\0/-.0%K";
	unsigned seed = 1;
	char bytes[4096];

	(void)state;
	for (int round = 0; round < 200; round++) {
		CLEANUP(buf_fini) struct buf messages = { .max = KIB(64) };
		struct config *config = NULL;

		for (size_t i = 0; i < sizeof(bytes); i++) {
			seed = seed * 1103515245 + 12345;
			bytes[i] = alphabet[(seed >> 16) % sizeof(alphabet)];
		}
		memcpy(bytes, "[cache \"a\"]\n", 12);
		assert_int_equal(
			config_load_text(&config, &places, "f", bytes, sizeof(bytes), false, &messages), -1);
		assert_null(config);
		assert_true(buf_ok(&messages) && messages.len > 0);
	}
}

static void a_text_over_1M_is_refused(void **state)
{
	CLEANUP(buf_fini) struct buf messages = { .max = KIB(64) };
	struct config *config = NULL;
	char *text = malloc(MIB(1) + 1);

	(void)state;
	assert_non_null(text);
	memset(text, '\n', MIB(1) + 1);
	assert_int_equal(config_load_text(&config, &places, "f", text, MIB(1) + 1, false, &messages), -1);
	assert_string_equal(buf_text(&messages), "f: larger than 1M\n");
	assert_int_equal(config_load_text(&config, &places, "f", text, MIB(1), false, &messages), 0);
	config_free(config);
	free(text);
}

/* Files */

struct dirs {
	char top[64];
};

static const char *path_in(const struct dirs *dirs, const char *name)
{
	static char path[4][256];
	static unsigned turn;
	char *p = path[turn++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", dirs->top, name);
	return p;
}

static void put_file(const struct dirs *dirs, const char *name, const char *text, mode_t mode)
{
	const char *path = path_in(dirs, name);
	int fd;

	unlink(path);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, mode);
	assert_true(fd >= 0);
	assert_int_equal(write_full(fd, text, strlen(text)), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

/* A user's configuration directory of its own for each test. */
static int make_dirs(void **state)
{
	static const char *const names[] = { "nncache", "nncache/conf.d", "nncache/credentials", "creds" };
	struct dirs *dirs = calloc(1, sizeof(*dirs));

	assert_non_null(dirs);
	strcpy(dirs->top, "/tmp/nncache-config-XXXXXX");
	assert_non_null(mkdtemp(dirs->top));
	for (size_t i = 0; i < N_ELEMENTS(names); i++)
		assert_int_equal(mkdir(path_in(dirs, names[i]), 0755), 0);
	setenv("XDG_CONFIG_HOME", dirs->top, 1);
	*state = dirs;
	return 0;
}

static int remove_dirs(void **state)
{
	CLEANUP(buf_fini) struct buf command = { .max = 256 };
	struct dirs *dirs = *state;

	buf_printf(&command, "rm -r '%s'", dirs->top);
	assert_int_equal(system(buf_text(&command)), 0);
	unsetenv("XDG_CONFIG_HOME");
	free(dirs);
	return 0;
}

static struct config *load_files(const struct config_places *where, bool check_files, const char *expected)
{
	CLEANUP(buf_fini) struct buf messages = { .max = KIB(64) };
	struct config *config = NULL;
	int rc = config_load(&config, where, check_files, &messages);

	assert_string_equal(buf_text(&messages), expected);
	assert_int_equal(rc, expected[0] == '\0' ? 0 : -1);
	return config;
}

static const struct config_places user = { .user_mode = true };

static void with_a_scratch_directory_all_places_are_in_it(void **state)
{
	static const char text[] =
		"[daemon]\nsocket = /s\nspool-dir = /p\ngcroots-dir = /g\nlog-level = debug\n" MAIN;
	const struct config_places scratch = { .scratch_dir = "/job" };
	struct config *config = NULL;
	struct buf messages;
	(void)state;

	buf_init(&messages, KIB(64));
	assert_int_equal(config_load_text(&config, &scratch, "f", text, strlen(text), false, &messages), 0);
	assert_string_equal(config->socket, "/job/socket");
	assert_string_equal(config->state_dir, "/job/state");
	assert_string_equal(config->spool_dir, "/job/spool");
	assert_string_equal(config->gcroots_dir, "/job/roots");
	assert_int_equal(config->log_level, LOG_LEVEL_DEBUG);
	config_free(config);
	buf_fini(&messages);
}

static void a_later_file_overrides_key_by_key_and_lists_whole(void **state)
{
	struct dirs *dirs = *state;
	struct config *config;

	put_file(dirs, "nncache/nncache.conf",
	         "[daemon]\nmemory = 32M\nhistory = 1d\n" MAIN
	         "exclude-roots = a\nexclude-roots = b\nupload-jobs = 3\n",
	         0644);
	put_file(dirs, "nncache/conf.d/20-b.conf",
	         "[cache \"main\"]\nupload-jobs = 5\n[daemon]\nmemory = 48M\n", 0644);
	put_file(dirs, "nncache/conf.d/10-a.conf",
	         "[cache \"main\"]\nupload-jobs = 4\nexclude-roots = c\nexclude-roots = d\n", 0644);
	put_file(dirs, "nncache/conf.d/30-b.conf.off", "nonsense\n", 0644);
	put_file(dirs, "nncache/conf.d/.hidden.conf", "nonsense\n", 0644);
	config = load_files(&user, false, "");
	assert_int_equal(config->memory_bytes, MIB(48));
	assert_int_equal(config->history_s, 86400);
	assert_int_equal(config->n_caches, 1);
	assert_int_equal(config->caches[0].upload_jobs, 5);
	assert_int_equal(config->caches[0].exclude_roots.n, 2);
	assert_string_equal(config->caches[0].exclude_roots.items[0], "c");
	assert_int_equal(config->files.n, 3);
	config_free(config);
}

static void a_file_given_by_name_replaces_the_others(void **state)
{
	struct dirs *dirs = *state;
	struct config_places where = { .user_mode = true };
	struct config *config;
	char expected[256], file[128];

	put_file(dirs, "nncache/nncache.conf", "nonsense\n", 0644);
	put_file(dirs, "own.conf", MAIN "token-file = t\n", 0644);
	strcpy(file, path_in(dirs, "own.conf"));
	where.config_file = file;
	config = load_files(&where, false, "");
	assert_string_equal(config->caches[0].token_file, path_in(dirs, "credentials/t"));
	config_free(config);
	strcpy(file, path_in(dirs, "missing.conf"));
	snprintf(expected, sizeof(expected), "%s: No such file or directory\n", where.config_file);
	load_files(&where, false, expected);
}

static void without_files_the_defaults_of_the_user_hold(void **state)
{
	struct config *config;

	(void)state;
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	setenv("XDG_STATE_HOME", "relative/counts/as/unset", 1);
	setenv("HOME", "/home/u", 1);
	config = load_files(&user, true, "");
	assert_string_equal(config->socket, "/run/user/7/nncache/nncached.sock");
	assert_string_equal(config->state_dir, "/home/u/.local/state/nncache");
	assert_string_equal(config->spool_dir, "/home/u/.local/state/nncache/spool");
	config_free(config);
	unsetenv("XDG_RUNTIME_DIR");
	setenv("XDG_STATE_HOME", "/state", 1);
	setenv("NIX_STATE_DIR", "/nixstate", 1);
	config = config_defaults(&user);
	assert_non_null(config);
	assert_int_equal(strncmp(config->socket, "/run/user/", 10), 0);
	assert_string_equal(config->state_dir, "/state/nncache");
	assert_string_equal(config->gcroots_dir, "/nixstate/gcroots/nncache");
	config_free(config);
	unsetenv("NIX_STATE_DIR");
	unsetenv("XDG_STATE_HOME");
}

static void a_broken_file_leaves_what_daemon_says_to_take_in_with(void **state)
{
	struct dirs *dirs = *state;
	struct config *config;

	put_file(dirs, "nncache/nncache.conf",
	         "[daemon]\nstate-dir = /s\nmemory = 1\nhistorie = 2d\n[cache \"main\"]\nurl = x\n", 0644);
	config = config_salvage(&user);
	assert_non_null(config);
	assert_string_equal(config->state_dir, "/s");
	assert_string_equal(config->spool_dir, "/s/spool");
	assert_int_equal(config->memory_bytes, MIB(64));
	assert_int_equal(config->n_caches, 0);
	assert_int_equal(config->n_upstreams, 1);
	config_free(config);
}

static void the_service_managers_credentials_come_first(void **state)
{
	struct dirs *dirs = *state;
	struct config_places where = { .user_mode = true };
	struct config *config;
	char creds[256];

	strcpy(creds, path_in(dirs, "creds"));
	where.credentials_dir = creds;
	put_file(dirs, "nncache/nncache.conf", MAIN "token-file = t\nnetrc-file = n\nclient-key-file = k\n",
	         0644);
	put_file(dirs, "creds/t", "secret\n", 0600);
	put_file(dirs, "creds/nncache_k", "key\n", 0600);
	put_file(dirs, "nncache/credentials/t", "other\n", 0600);
	put_file(dirs, "nncache/credentials/n", "machine x\n", 0600);
	config = load_files(&where, true, "");
	assert_string_equal(config->caches[0].token_file, path_in(dirs, "creds/t"));
	assert_string_equal(config->caches[0].net.netrc_file, path_in(dirs, "nncache/credentials/n"));
	assert_string_equal(config->caches[0].net.client_key_file, path_in(dirs, "creds/nncache_k"));
	config_free(config);
}

#define SECRET_KEY \
	"cache-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="

static void files_named_are_looked_at(void **state)
{
	static const struct {
		const char *text;
		mode_t mode;
		const char *fault; /* behind the file's name; NULL: none */
	} table[] = {
		{ SECRET_KEY, 0600, NULL },
		{ SECRET_KEY "\n", 0640, NULL },
		{ SECRET_KEY, 0604, " may be read by everybody\n  expected mode 0600 or 0640" },
		{ "cache-1:AAAA", 0600,
		  " is not a secret key\n  expected NAME:KEY, as nix-store --generate-binary-cache-key makes "
		  "it" },
		{ "nonsense", 0600,
		  " is not a secret key\n  expected NAME:KEY, as nix-store --generate-binary-cache-key makes "
		  "it" },
		{ "", 0600,
		  " is not a secret key\n  expected NAME:KEY, as nix-store --generate-binary-cache-key makes "
		  "it" },
	};
	struct dirs *dirs = *state;

	put_file(dirs, "nncache/nncache.conf", "[cache \"a\"]\nurl = file:///a\nsigning-key-file = k\n",
	         0644);
	for (size_t i = 0; i < N_ELEMENTS(table); i++) {
		char expected[512] = "";

		put_file(dirs, "nncache/credentials/k", table[i].text, table[i].mode);
		if (table[i].fault != NULL)
			snprintf(expected, sizeof(expected), "%s:3: [cache \"a\"] signing-key-file: %s%s\n",
			         path_in(dirs, "nncache/nncache.conf"),
			         path_in(dirs, "nncache/credentials/k"), table[i].fault);
		config_free(load_files(&user, true, expected));
		config_free(load_files(&user, false, ""));
	}
}

static void a_missing_file_is_a_mistake_unless_push_is_auto(void **state)
{
	struct dirs *dirs = *state;
	char expected[512];

	put_file(dirs, "nncache/nncache.conf", MAIN "token-file = t\n", 0644);
	snprintf(expected, sizeof(expected),
	         "%s:4: [cache \"main\"] token-file: %s: No such file or directory\n",
	         path_in(dirs, "nncache/nncache.conf"), path_in(dirs, "nncache/credentials/t"));
	load_files(&user, true, expected);
	put_file(dirs, "nncache/nncache.conf", MAIN "token-file = t\npush = auto\n", 0644);
	config_free(load_files(&user, true, ""));
	put_file(dirs, "nncache/credentials/t", " \n", 0600);
	snprintf(expected, sizeof(expected), "%s:4: [cache \"main\"] token-file: %s is empty\n",
	         path_in(dirs, "nncache/nncache.conf"), path_in(dirs, "nncache/credentials/t"));
	load_files(&user, true, expected);
}

static void the_token_file_of_a_bucket_holds_keys(void **state)
{
	struct dirs *dirs = *state;
	char expected[512];

	put_file(dirs, "nncache/nncache.conf",
	         "[cache \"b\"]\nurl = s3://builds\nsign = no\ntoken-file = t\n", 0644);
	put_file(dirs, "nncache/credentials/t", "a-token\n", 0600);
	snprintf(expected, sizeof(expected),
	         "%s:4: [cache \"b\"] token-file: %s has no keys for a bucket\n"
	         "  expected it as ~/.aws/credentials: [default], aws_access_key_id = ID and "
	         "aws_secret_access_key = KEY\n",
	         path_in(dirs, "nncache/nncache.conf"), path_in(dirs, "nncache/credentials/t"));
	load_files(&user, true, expected);
	put_file(dirs, "nncache/credentials/t",
	         "[default]\naws_access_key_id = a\naws_secret_access_key = b\n", 0600);
	config_free(load_files(&user, true, ""));
}

/* The table */

static size_t stored_size(const struct option *option)
{
	if ((option->flags & OPTION_LIST) != 0)
		return sizeof(struct text_list);
	if (option->type >= OPTION_TEXT)
		return sizeof(char *);
	if (option->type == OPTION_BOOL)
		return sizeof(bool);
	if (option->type == OPTION_COUNT || option->type == OPTION_PERCENT || option->type == OPTION_WORD)
		return sizeof(unsigned);
	return sizeof(uint64_t);
}

static void every_option_has_a_field_of_its_size_and_of_its_own(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_options; i++) {
		const struct option *o = &options[i];

		assert_int_equal(o->size, stored_size(o));
		assert_ptr_equal(option_find(o->section, o->key), o);
		assert_int_equal(option_number(o), i);
		assert_true(o->help != NULL && o->help[0] != '\0');
		for (size_t j = 0; j < i; j++)
			assert_false(options[j].section == o->section && options[j].offset == o->offset);
	}
}

static void every_default_reads_as_it_is_shown(void **state)
{
	struct config *config = load_good(MAIN "[priority \"p\"]\nmatch = x\npriority = 1\n");

	(void)state;
	for (size_t i = 0; i < n_options; i++) {
		CLEANUP(buf_fini) struct buf shown = { .max = 4096 };
		const struct option *o = &options[i];
		const void *object = o->section == SECTION_DAEMON     ? (const void *)config
		                     : o->section == SECTION_CACHE    ? (const void *)&config->caches[0]
		                     : o->section == SECTION_UPSTREAM ? (const void *)&config->upstreams[0]
		                                                      : (const void *)&config->priorities[0];

		if (o->default_text == NULL || (o->flags & OPTION_DERIVED) != 0 ||
		    o->section == SECTION_UPSTREAM || strcmp(o->key, "sign") == 0)
			continue;
		option_format(o, object, 0, &shown);
		assert_string_equal(buf_text(&shown), o->default_text);
	}
	config_free(config);
}

static void what_is_shown_loads_to_the_same(void **state)
{
	CLEANUP(buf_fini) struct buf once = { .max = KIB(256) }, twice = { .max = KIB(256) };
	struct config *config =
		load_good("[daemon]\nmemory = 33M\ncontrol-group = wheel\nproxy = http://p:1\n" MAIN
	                  "upstreams =\nexclude-roots = a|b\nexclude-roots = ^c\n"
	                  "[cache \"s\"]\nurl = s3://bbb\nsign = no\nregion = eu\nproxy =\n"
	                  "[priority \"p\"]\nmatch = x\npriority = 0\n");

	(void)state;
	config_format(config, &once);
	assert_non_null(strstr(buf_text(&once), "\nmemory = 33M\n# default\ntmp-space = 20G\n"));
	assert_non_null(strstr(buf_text(&once),
	                       "\nexclude-roots = a|b\nexclude-roots = ^c\n# include-roots: not set\n"));
	assert_non_null(strstr(buf_text(&once), "\nupstreams =\n"));
	assert_non_null(strstr(buf_text(&once),
	                       "\n[upstream \"nixos\"]\n# default\nurl = https://cache.nixos.org\n"));
	config_free(config);
	config = load_good(buf_text(&once));
	config_format(config, &twice);
	config_free(config);
	for (char *p; (p = strstr(once.data, "# default\n")) != NULL;)
		memmove(p, p + 10, strlen(p + 10) + 1);
	assert_string_equal(buf_text(&twice), once.data);
}

/* Written as key=value it just fits into a line. */
static void what_is_shown_of_long_values_can_be_read(void **state)
{
	CLEANUP(buf_fini) struct buf shown = { .max = KIB(256) }, text = { .max = KIB(4) };
	char pattern[186];
	struct config *config;
	(void)state;

	snprintf(pattern, sizeof(pattern), "%0185d", 0);
	buf_printf(&text, MAIN "exclude-roots=%s\n", pattern);
	config = load_good(buf_text(&text));
	config_format(config, &shown);
	config_free(config);
	assert_non_null(strstr(buf_text(&shown), pattern));
	config = load_good(buf_text(&shown));
	assert_string_equal(config->caches[0].exclude_roots.items[0], pattern);
	config_free(config);
}

static void a_misspelt_key_finds_its_neighbour(void **state)
{
	(void)state;
	assert_string_equal(option_nearest(SECTION_CACHE, "signing-key-files")->key, "signing-key-file");
	assert_string_equal(option_nearest(SECTION_CACHE, "signing_key_file")->key, "signing-key-file");
	assert_string_equal(option_nearest(SECTION_DAEMON, "memroy")->key, "memory");
	assert_null(option_nearest(SECTION_DAEMON, "zzzz"));
	assert_null(option_nearest(SECTION_DAEMON, "a-key-of-far-more-than-thirty-two-characters-in-all"));
}

static void assert_warnings(const char *text, const char *expected)
{
	struct config *config = load_good(text);
	struct buf warnings;

	buf_init(&warnings, KIB(64));
	config_format_warnings(config, &warnings);
	assert_string_equal(buf_text(&warnings), expected);
	buf_fini(&warnings);
	config_free(config);
}

static void what_may_not_have_been_meant_is_a_warning(void **state)
{
#define IS_UNSIGNED                                                                                 \
	"warning: f:1: [cache \"a\"]: sign = no: nothing is signed here, and readers take nothing " \
	"without a signature of a key that they trust\n"
#define IS_PUBLIC                                                                                          \
	"warning: f:1: [cache \"a\"]: whoever reaches this cache can read it, and all that is built here " \
	"goes there: set include-roots to what may be seen (include-roots = . if everything may)\n"
	(void)state;

	assert_warnings("[cache \"a\"]\nurl = file:///a\nsign = no\n", IS_UNSIGNED);
	assert_warnings("[cache \"a\"]\nurl = http://a/\nsign = no\n", IS_UNSIGNED IS_PUBLIC);
	assert_warnings("[cache \"a\"]\nurl = http://a/\nsigning-key-file = /k\n", IS_PUBLIC);
	assert_warnings("[cache \"a\"]\nurl = http://a/\nsigning-key-file = /k\ntoken-file = /t\n", "");
	assert_warnings("[cache \"a\"]\nurl = http://a/\nsigning-key-file = /k\nclient-cert-file = /t\n", "");
	assert_warnings("[cache \"a\"]\nurl = http://a/\nsigning-key-file = /k\ninclude-roots = .\n", "");
	assert_warnings("[cache \"a\"]\nurl = http://a/\npush = no\n", "");
	assert_warnings("[cache \"a\"]\nurl = s3://aaa\nsigning-key-file = /k\n", "");
	assert_warnings("[cache \"a\"]\nurl = cachix://a\n", "");
	assert_warnings("[cache \"a\"]\nurl = attic://a/b\nsign = no\n", "");
	assert_warnings(
		"[cache \"a\"]\nurl = file:///a\npush = auto\n",
		"warning: f:1: [cache \"a\"]: no signing-key-file: nothing is signed here, and readers take "
		"nothing without a signature of a key that they trust\n");
}

static void what_a_cache_says_of_itself_is_stronger_than_its_section(void **state)
{
	struct config *config = load_good("[cache \"a\"]\nurl = http://a/\nsign = no\n"
	                                  "[cache \"b\"]\nurl = cachix://b\n");
	(void)state;

	assert_non_null(config_warn_public(&config->caches[0], VISIBILITY_UNKNOWN));
	assert_null(config_warn_public(&config->caches[0], VISIBILITY_PRIVATE));
	assert_null(config_warn_public(&config->caches[1], VISIBILITY_UNKNOWN));
	assert_non_null(config_warn_public(&config->caches[1], VISIBILITY_PUBLIC));
	config_free(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_not_said_has_its_default),
		cmocka_unit_test(every_key_reaches_its_field),
		cmocka_unit_test(the_builtin_upstream_is_there_and_keeps_what_a_section_does_not_say),
		cmocka_unit_test(an_empty_list_means_none),
		cmocka_unit_test(comments_blank_lines_and_windows_line_ends_are_fine),
		cmocka_unit_test(a_name_longer_than_inih_keeps_stays_whole),
		cmocka_unit_test(identities_are_normal_forms),
		cmocka_unit_test(each_mistake_names_its_line_and_what_would_be_right),
		cmocka_unit_test(all_mistakes_are_told_in_one_run),
		cmocka_unit_test(a_line_that_inih_would_cut_is_refused_and_the_next_one_counted_right),
		cmocka_unit_test(the_longest_line_arrives_whole),
		cmocka_unit_test(there_may_be_64_caches_and_upstreams_and_not_one_more),
		cmocka_unit_test(a_list_has_an_end),
		cmocka_unit_test(many_mistakes_are_counted_not_shown),
		cmocka_unit_test(garbage_is_refused_and_never_crashes),
		cmocka_unit_test(a_text_over_1M_is_refused),
		cmocka_unit_test(with_a_scratch_directory_all_places_are_in_it),
		cmocka_unit_test_setup_teardown(a_later_file_overrides_key_by_key_and_lists_whole, make_dirs,
		                                remove_dirs),
		cmocka_unit_test_setup_teardown(a_file_given_by_name_replaces_the_others, make_dirs,
		                                remove_dirs),
		cmocka_unit_test_setup_teardown(without_files_the_defaults_of_the_user_hold, make_dirs,
		                                remove_dirs),
		cmocka_unit_test_setup_teardown(a_broken_file_leaves_what_daemon_says_to_take_in_with,
		                                make_dirs, remove_dirs),
		cmocka_unit_test_setup_teardown(the_service_managers_credentials_come_first, make_dirs,
		                                remove_dirs),
		cmocka_unit_test_setup_teardown(files_named_are_looked_at, make_dirs, remove_dirs),
		cmocka_unit_test_setup_teardown(the_token_file_of_a_bucket_holds_keys, make_dirs,
		                                remove_dirs),
		cmocka_unit_test_setup_teardown(a_missing_file_is_a_mistake_unless_push_is_auto, make_dirs,
		                                remove_dirs),
		cmocka_unit_test(every_option_has_a_field_of_its_size_and_of_its_own),
		cmocka_unit_test(every_default_reads_as_it_is_shown),
		cmocka_unit_test(what_is_shown_loads_to_the_same),
		cmocka_unit_test(what_is_shown_of_long_values_can_be_read),
		cmocka_unit_test(a_misspelt_key_finds_its_neighbour),
		cmocka_unit_test(what_may_not_have_been_meant_is_a_warning),
		cmocka_unit_test(what_a_cache_says_of_itself_is_stronger_than_its_section),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
