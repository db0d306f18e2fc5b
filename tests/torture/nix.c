#include "tests/torture/nix.h"

#include <limits.h>
#include <openssl/sha.h>
#include <sodium.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/attr.h"
#include "common/buf.h"
#include "common/fd.h"
#include "common/store_path.h"
#include "daemon/format/hash.h"
#include "daemon/format/nar.h"
#include "daemon/format/narinfo.h"
#include "tests/torture/torture.h"
#include "tests/torture/world.h"

static const struct {
	const char *path, *contents; /* NULL: it is the big one */
} files[] = {
	{ NIX_BASE, "the base\n" },  { NIX_A, "a\n" },         { NIX_B, "b, which is another\n" },
	{ NIX_LATE, "late\n" },      { NIX_SPARE, "spare\n" }, { NIX_DRV, "Derive([],[],[])" },
	{ NIX_OUT, "the output\n" }, { NIX_BIG, NULL },
};

static const char schema_sql[] =
	"CREATE TABLE ValidPaths(id integer primary key autoincrement not null, path text unique not null,"
	" hash text not null, registrationTime integer not null, deriver text, narSize integer,"
	" ultimate integer, sigs text, ca text);"
	"CREATE TABLE Refs(referrer integer not null, reference integer not null,"
	" primary key (referrer, reference));"
	"CREATE TABLE DerivationOutputs(drv integer not null, id text not null, path text not null,"
	" primary key (drv, id));"
	"INSERT INTO Refs VALUES (2, 1), (3, 1), (4, 2), (4, 4);"
	"INSERT INTO DerivationOutputs VALUES (6, 'out', '" NIX_OUT "');";

static void run_sql(sqlite3 *db, const char *sql)
{
	char *text = NULL;

	if (sqlite3_exec(db, sql, NULL, NULL, &text) != SQLITE_OK)
		torture_fail("%s: %s", sql, text);
}

/* Registers FILE, number ID, as Nix does: with the hash and the size of its NAR. */
static void register_file(sqlite3 *db, size_t id, const char *path, const char *file)
{
	size_t max_bytes = NIX_PARTS_BYTES + 4096;
	uint8_t *bytes = malloc(max_bytes);
	uint8_t digest[SHA256_DIGEST_LENGTH];
	char hex[SHA256_HEX_SIZE], sql[512];
	struct nar *nar;
	struct error err;
	size_t n_bytes = 0;
	ssize_t n;

	if (bytes == NULL || nar_open(&nar, file, &err) < 0)
		torture_fail("%s", err.text);
	while ((n = nar_read(nar, bytes + n_bytes, max_bytes - n_bytes, &err)) > 0)
		n_bytes += (size_t)n;
	if (n < 0)
		torture_fail("%s", err.text);
	nar_close(nar);
	SHA256(bytes, n_bytes, digest);
	free(bytes);
	hash_format_hex(digest, sizeof(digest), hex);
	snprintf(sql, sizeof(sql),
	         "INSERT INTO ValidPaths VALUES (%zu, '%s', 'sha256:%s', 1, NULL, %zu, 1, NULL, NULL)",
	         id + 1, path, hex, n_bytes);
	run_sql(db, sql);
}

void nix_make_key(const char *dir)
{
	unsigned char public[crypto_sign_PUBLICKEYBYTES], secret[crypto_sign_SECRETKEYBYTES];
	char path[PATH_MAX], text[256] = "torture-1:";
	size_t n = strlen(text);

	if (sodium_init() < 0 || crypto_sign_keypair(public, secret) != 0)
		torture_fail("no key");
	sodium_bin2base64(text + n, sizeof(text) - n, secret, sizeof(secret), sodium_base64_VARIANT_ORIGINAL);
	snprintf(path, sizeof(path), "%s/key.secret", dir);
	world_write(path, text, strlen(text));
	chmod(path, 0600); /* or the daemon does not take it */
}

/* What no compression makes smaller. */
static void write_big(const char *path, size_t n_bytes)
{
	uint64_t *words = malloc(n_bytes);
	uint64_t random = 4711;

	for (size_t i = 0; words != NULL && i < n_bytes / sizeof(words[0]); i++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		words[i] = random;
	}
	world_write(path, words, n_bytes);
	free(words);
}

void nix_make(const char *dir, size_t big_bytes)
{
	char path[PATH_MAX];
	sqlite3 *db;

	nix_make_key(dir);
	world_make_dir(dir, "nix/store");
	world_make_dir(dir, "nix/var/nix/gcroots/nncache");
	world_make_dir(dir, "nix/var/nix/db");
	snprintf(path, sizeof(path), "%s/nix/var/nix/db/schema", dir);
	world_write(path, "10", 2);
	snprintf(path, sizeof(path), "%s/nix/var/nix/db/db.sqlite", dir);
	if (sqlite3_open(path, &db) != SQLITE_OK)
		torture_fail("%s: %s", path, sqlite3_errmsg(db));
	run_sql(db, "PRAGMA synchronous = OFF; BEGIN");
	run_sql(db, schema_sql);
	for (size_t i = 0; i < N_ELEMENTS(files); i++) {
		if (files[i].contents == NULL && big_bytes == 0)
			continue;
		snprintf(path, sizeof(path), "%s%s", dir, files[i].path);
		if (files[i].contents != NULL)
			world_write(path, files[i].contents, strlen(files[i].contents));
		else
			write_big(path, big_bytes);
		register_file(db, i, files[i].path, path);
	}
	run_sql(db, "COMMIT");
	sqlite3_close(db);
	sqlite3_shutdown(); /* or fail_take_sqlite comes too late */
}

/* ---- the cache --------------------------------------------------------------------------------------- */

static void narinfo_path(const char *dir, const char *path, char ret[PATH_MAX])
{
	snprintf(ret, PATH_MAX, "%s/%.*s.narinfo", dir, STORE_HASH_LEN, store_path_base(path));
}

bool nix_cache_has(const char *dir, const char *path)
{
	char file[PATH_MAX];

	narinfo_path(dir, path, file);
	return access(file, F_OK) == 0;
}

static void check_narinfo(const char *dir, const char *file)
{
	struct narinfo narinfo = { 0 };
	struct error err;
	char path[PATH_MAX], *text;
	struct stat st;
	size_t len;

	if (read_file(file, NARINFO_MAX_BYTES, &text, &len, &err) < 0 ||
	    narinfo_parse(&narinfo, text, len, NIX_STORE, &err) < 0)
		torture_fail("%s: %s", file, err.text);
	snprintf(path, sizeof(path), "%s/%s", dir, narinfo.url);
	if (stat(path, &st) < 0 || (uint64_t)st.st_size != narinfo.file_size)
		torture_fail("%s names a NAR that is not there, or not whole: %s", file, path);
	for (size_t i = 0; i < narinfo.info.n_references; i++)
		if (!nix_cache_has(dir, narinfo.info.references[i]))
			torture_fail("%s refers to what is not there: %s", file, narinfo.info.references[i]);
	narinfo_fini(&narinfo);
	free(text);
}

void nix_check_cache(const char *dir)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < N_ELEMENTS(files); i++)
		if (nix_cache_has(dir, files[i].path)) {
			narinfo_path(dir, files[i].path, path);
			check_narinfo(dir, path);
		}
}
