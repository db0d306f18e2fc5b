/* The doctor's look at one cache: as it is pushed to, and as this machine reads it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/units.h"
#include "ctl/setup/doctor.h"

#define LIST_MAX       KIB(64)
#define KEY_MAX        512
#define SKEW_WARN_S    60
#define SKEW_BAD_S     600 /* servers refuse signatures 15 minutes off, and tokens sooner */
#define NIXOS_PRIORITY 40

static bool is_kind(const json_t *cache, const char *kind)
{
	return strcmp(model_get_text(cache, "kind"), kind) == 0;
}

static bool is_at_server_that_signs(const json_t *cache)
{
	return is_kind(cache, "attic") || is_kind(cache, "cachix");
}

/* ---- pushing --------------------------------------------------------------------------------- */

void check_cache_secrets(struct doctor *doctor, const json_t *cache)
{
	const char *name = model_get_text(cache, "name"), *error = model_get_text(cache, "error");

	if (fact_is(cache, "opened"))
		return;
	if (fact_is(cache, "auto"))
		doctor_say(doctor, LEVEL_WARN,
		           "give it its token; in the CI of a fork there is none, and nothing is to be done",
		           "nothing is pushed to %s: push = auto, and %s", name, error);
	else
		doctor_say(doctor, LEVEL_BAD, "put that file in its place, readable for nncached alone", "%s",
		           error);
}

void check_cache_reach(struct doctor *doctor, const json_t *cache)
{
	if (!fact_is(cache, "opened"))
		doctor_say(doctor, LEVEL_UNCHECKED, NULL, "without its secrets it is not asked");
	else if (model_has(cache, "error"))
		doctor_say(doctor, LEVEL_BAD,
		           strcmp(model_get_text(cache, "error-kind"), "operator") == 0
		                   ? "mend what it says; then nncachectl retry --failed"
		                   : "see that this machine reaches it; uploads wait meanwhile, and nothing "
		                     "is lost",
		           "%s", model_get_text(cache, "error"));
	else if (!fact_is(cache, "found") && !is_at_server_that_signs(cache))
		doctor_say(doctor, LEVEL_OK, NULL,
		           "it is empty as yet: nix-cache-info is made by the first upload");
}

static const json_t *dir_of(const struct doctor *doctor, const json_t *cache)
{
	json_t *place;
	size_t i;

	json_array_foreach(json_object_get(doctor->facts, "places"), i, place)
	{
		if (strcmp(model_get_text(place, "what"), "cache") == 0 &&
		    doctor_is_same_url(model_get_text(place, "path"), model_get_text(cache, "url")))
			return place;
	}
	return NULL;
}

static void check_dir_write(struct doctor *doctor, const json_t *place)
{
	const char *path = model_get_text(place, "path");
	const char *user = model_get_text(json_object_get(doctor->facts, "config"), "daemon-user");
	CLEANUP(buf_fini) struct buf fix = { .max = KIB(8) };

	if (!model_has(place, "may-write")) {
		doctor_say(doctor, LEVEL_UNCHECKED, NULL, "only root, or %s, can see who may write to %s",
		           user, path);
	} else if (!fact_is(place, "may-write")) {
		buf_printf(&fix, "install -d -o %s %s", user, path);
		doctor_say(doctor, LEVEL_BAD, buf_text(&fix), "%s: %s may not write there", path, user);
	}
}

void check_cache_write(struct doctor *doctor, const json_t *cache)
{
	const char *error = model_get_text(cache, "write-error");

	if (!fact_is(cache, "opened") || model_has(cache, "error"))
		doctor_say(doctor, LEVEL_UNCHECKED, NULL, "it was not reached");
	else if (!fact_is(cache, "target"))
		doctor_say(doctor, LEVEL_OK, NULL, "it is only read: push = no");
	else if (is_kind(cache, "file"))
		check_dir_write(doctor, dir_of(doctor, cache));
	else if (!model_has(cache, "may-write"))
		doctor_say(doctor, LEVEL_UNCHECKED, NULL, "%s",
		           *error != '\0' ? error : "nothing is there to ask by; the first upload shows it");
	else if (!fact_is(cache, "may-write"))
		doctor_say(doctor, LEVEL_BAD, "a token that may write to it, in token-file", "%s", error);
}

void check_cache_works(struct doctor *doctor, const json_t *cache)
{
	const char *name = model_get_text(cache, "name");
	const json_t *status = doctor_find_status(doctor, name);
	const char *state = model_get_text(status, "state");
	CLEANUP(buf_fini) struct buf fix = { .max = KIB(1) };

	if (status == NULL) {
		doctor_say(doctor, LEVEL_UNCHECKED, NULL, "nncached does not run, or runs without it");
	} else if (model_has(status, "message_kind")) {
		buf_printf(&fix, "nncachectl retry --failed --cache %s, once it is mended", name);
		doctor_say(doctor, LEVEL_BAD, buf_text(&fix), "%s", model_get_text(status, "message"));
	} else if (strcmp(state, "paused") == 0) {
		buf_printf(&fix, "nncachectl resume %s", name);
		doctor_say(doctor, LEVEL_WARN, buf_text(&fix), "somebody paused it");
	}
}

/* ---- keys ------------------------------------------------------------------------------------ */

static const char *bytes_of(const char *key)
{
	const char *colon = strchr(key, ':');

	return colon != NULL ? colon + 1 : key;
}

static bool has_bytes(const char *keys, const char *key)
{
	const char *bytes = bytes_of(key);
	size_t n = strlen(bytes);

	for (const char *at = strstr(keys, bytes); at != NULL; at = strstr(at + 1, bytes))
		if (at > keys && at[-1] == ':' && (at[n] == ' ' || at[n] == '\0'))
			return true;
	return false;
}

/* Cachix takes signatures of keys that are registered there; what we sign for the others is told by nobody.
 */
void check_cache_key(struct doctor *doctor, const json_t *cache)
{
	const char *announced = model_get_text(cache, "announced-keys");
	char key[KEY_MAX];

	snprintf(key, sizeof(key), "%.*s", (int)strcspn(model_get_text(cache, "keys"), " "),
	         model_get_text(cache, "keys"));
	if (is_kind(cache, "attic"))
		doctor_say(doctor, LEVEL_OK, NULL, "the server signs: %s", announced);
	else if (!is_kind(cache, "cachix"))
		doctor_say(doctor, LEVEL_OK, NULL, "%s", key);
	else if (*key == '\0' || *announced == '\0')
		doctor_say(doctor, *announced == '\0' ? LEVEL_UNCHECKED : LEVEL_OK, NULL,
		           "the server signs: %s", announced);
	else if (!has_bytes(announced, key))
		doctor_say(doctor, LEVEL_BAD,
		           "the key that belongs to this cache in signing-key-file, or none there if Cachix "
		           "holds it",
		           "%s holds the secret key of %s; Cachix announces %s",
		           model_get_text(cache, "key-file"), bytes_of(key), announced);
}

/* The key that readers must trust: what signs. */
static const char *reader_keys(const json_t *cache)
{
	return model_get_text(cache, is_at_server_that_signs(cache) ? "announced-keys" : "keys");
}

/* The command by which this machine reads it. Cachix and Attic say their keys themselves. */
static void put_use(struct buf *out, const json_t *cache)
{
	bool says_keys = is_at_server_that_signs(cache), is_bucket = is_kind(cache, "s3");
	bool is_as_read = !says_keys && !is_bucket && model_has(cache, "reader-url");
	const char *key = model_get_text(cache, "keys"), *separator = "?";

	buf_printf(out, "nncachectl use '%s", model_get_text(cache, is_as_read ? "reader-url" : "url"));
	if (is_bucket && model_has(cache, "endpoint")) {
		buf_printf(out, "?endpoint=%s", model_get_text(cache, "endpoint"));
		separator = "&";
	}
	if (is_bucket && model_has(cache, "region"))
		buf_printf(out, "%sregion=%s", separator, model_get_text(cache, "region"));
	buf_putc(out, '\'');
	if (!says_keys && *key != '\0')
		buf_printf(out, " --public-key %.*s", (int)strcspn(key, " "), key);
	if (says_keys && model_has(cache, "endpoint"))
		buf_printf(out, " --endpoint %s", model_get_text(cache, "endpoint"));
}

static bool is_listed(const struct doctor *doctor, const json_t *cache)
{
	CLEANUP(buf_fini) struct buf list = { .max = LIST_MAX };
	char *save = NULL;

	nix_conf_join(doctor->nix, "substituters", &list);
	for (char *url = list.data != NULL ? strtok_r(list.data, " ", &save) : NULL; url != NULL;
	     url = strtok_r(NULL, " ", &save))
		if (doctor_is_same_url(url, model_get_text(cache, "url")) ||
		    doctor_is_same_url(url, model_get_text(cache, "reader-url")))
			return true;
	return false;
}

static void say_mismatch(struct doctor *doctor, const json_t *cache, const char *key, const char *trusted)
{
	const struct nix_conf_line *line = nix_conf_find_word(doctor->nix, "trusted-public-keys", trusted);
	const char *file =
		line != NULL && line->file != NULL ? line->file : nix_conf_system_file(doctor->nix);
	CLEANUP(buf_fini) struct buf fix = { .max = KIB(4) };

	buf_printf(&fix,
	           "%s in %s, in the place of the other of that name; then "
	           "systemctl try-restart nix-daemon",
	           key, file);
	doctor_say(doctor, LEVEL_BAD, buf_text(&fix), "two keys of one name: %s is %s%s, and %s:%u trusts %s",
	           key,
	           is_at_server_that_signs(cache) ? "what the server signs with"
	                                          : "the public half of what is in ",
	           is_at_server_that_signs(cache) ? "" : model_get_text(cache, "key-file"), file,
	           line != NULL ? line->line : 0, trusted);
}

/* Of a cache that this machine does not read only a key that is wrong is told. */
void check_cache_trusted(struct doctor *doctor, const json_t *cache)
{
	CLEANUP(buf_fini) struct buf trusted = { .max = LIST_MAX }, keys = { .max = LIST_MAX };
	CLEANUP(buf_fini) struct buf fix = { .max = KIB(4) };
	char other[KEY_MAX], *save = NULL;
	bool is_trusted = false;

	nix_conf_join(doctor->nix, "trusted-public-keys", &trusted);
	buf_puts(&keys, reader_keys(cache));
	for (char *key = keys.data != NULL ? strtok_r(keys.data, " ", &save) : NULL; key != NULL;
	     key = strtok_r(NULL, " ", &save))
		switch (doctor_match_key(buf_text(&trusted), key, other, sizeof(other))) {
		case KEY_TRUSTED:
			is_trusted = true;
			break;
		case KEY_OTHER_BYTES:
			say_mismatch(doctor, cache, key, other);
			break;
		case KEY_ABSENT:
			break;
		}
	if (is_trusted || doctor->n_said > 0)
		return;
	if (*reader_keys(cache) == '\0') {
		doctor_say(doctor, LEVEL_UNCHECKED, NULL, "no key that signs for it is known");
	} else if (!is_listed(doctor, cache)) {
		doctor_say(doctor, LEVEL_UNCHECKED, NULL, "it is no substituter here");
	} else {
		put_use(&fix, cache);
		doctor_say(doctor, LEVEL_BAD, buf_text(&fix), "%s is not among the trusted-public-keys of %s",
		           reader_keys(cache), nix_conf_system_file(doctor->nix));
	}
}

void check_cache_signed(struct doctor *doctor, const json_t *cache)
{
	if (model_has(cache, "unsigned"))
		doctor_say(doctor, LEVEL_WARN,
		           "nix-store --generate-binary-cache-key NAME-1 SECRET PUBLIC, and signing-key-file "
		           "= SECRET",
		           "%s", model_get_text(cache, "unsigned"));
}

void check_cache_public(struct doctor *doctor, const json_t *cache)
{
	if (model_has(cache, "exposed"))
		doctor_say(doctor, LEVEL_WARN, "include-roots in its section of nncache.conf", "%s",
		           model_get_text(cache, "exposed"));
	else if (!model_has(cache, "public") && !is_kind(cache, "file"))
		doctor_say(doctor, LEVEL_UNCHECKED, NULL, "whether everybody can read it is not known");
}

/* ---- reading --------------------------------------------------------------------------------- */

void check_cache_listed(struct doctor *doctor, const json_t *cache)
{
	const char *url = model_get_text(cache, model_has(cache, "reader-url") ? "reader-url" : "url");
	CLEANUP(buf_fini) struct buf fix = { .max = KIB(1) };

	put_use(&fix, cache);
	if (!is_listed(doctor, cache))
		doctor_say(doctor, LEVEL_WARN, buf_text(&fix), "%s is not among the substituters of %s", url,
		           nix_conf_system_file(doctor->nix));
}

static void check_info(struct doctor *doctor, const json_t *cache)
{
	const char *theirs = model_get_text(cache, "reader-store-dir");
	const char *ours = model_get_text(json_object_get(doctor->facts, "store"), "dir");

	if (strcmp(theirs, ours) != 0)
		doctor_say(doctor, LEVEL_BAD, "another URL: paths of one store are of no use in another",
		           "its StoreDir is %s, and the store here is %s", theirs, ours);
	else if (!model_has(cache, "reader-priority"))
		doctor_say(doctor, LEVEL_WARN, "Priority: 41 in its nix-cache-info",
		           "its nix-cache-info has no Priority: Nix asks it before cache.nixos.org (%d) for "
		           "everything",
		           NIXOS_PRIORITY);
	else
		doctor_say(doctor, LEVEL_OK, NULL,
		           "Priority %s (cache.nixos.org has %d, and the lower is asked first)",
		           model_get_text(cache, "reader-priority"), NIXOS_PRIORITY);
}

/* Of what may not be read without credentials no more is known than what its own API says. */
void check_cache_read(struct doctor *doctor, const json_t *cache)
{
	CLEANUP(buf_fini) struct buf netrc = { .max = KIB(4) };
	int64_t status = fact_number(cache, "reader-status");

	if (model_has(cache, "reader-store-dir")) {
		check_info(doctor, cache);
	} else if (status == 401 || status == 403) {
		nix_conf_netrc_file(doctor->nix, &netrc);
		doctor_say(doctor, LEVEL_UNCHECKED, NULL,
		           "%s is not readable without credentials: readers need them in %s",
		           model_get_text(cache, "reader-url"), buf_text(&netrc));
	} else if (status == 404 || !model_has(cache, "reader-error")) {
		doctor_say(doctor, LEVEL_UNCHECKED, NULL,
		           "it has no nix-cache-info as yet, or was not reached");
	} else {
		doctor_say(doctor, LEVEL_BAD, "see that the URL is right, and that this machine reaches it",
		           "%s", model_get_text(cache, "reader-error"));
	}
}

void check_cache_clock(struct doctor *doctor, const json_t *cache)
{
	int64_t skew = fact_number(cache, "skew-s"), off = skew < 0 ? -skew : skew;
	char text[UNITS_TEXT_SIZE];

	if (is_kind(cache, "file"))
		return;
	if (!model_has(cache, "skew-s"))
		doctor_say(doctor, LEVEL_UNCHECKED, NULL, "it gave no Date");
	else if (off > SKEW_WARN_S)
		doctor_say(doctor, off > SKEW_BAD_S ? LEVEL_BAD : LEVEL_WARN, "timedatectl set-ntp true",
		           "the clock here is %s %s the server's", units_format_seconds(off, text),
		           skew > 0 ? "ahead of" : "behind");
}

void check_cache_retention(struct doctor *doctor, const json_t *cache)
{
	int64_t kept_s = fact_number(cache, "retention-s"), ttl_s = fact_number(cache, "presence-ttl-s");
	char kept[UNITS_TEXT_SIZE], ttl[UNITS_TEXT_SIZE];

	if (is_kind(cache, "file"))
		return;
	if (kept_s == 0)
		doctor_say(doctor, LEVEL_UNCHECKED, NULL, "it does not say how long it keeps what it has");
	else if (ttl_s >= kept_s)
		doctor_say(doctor, LEVEL_BAD, "a presence-ttl that is a fraction of that",
		           "it keeps paths for %s, and presence-ttl is %s",
		           units_format_seconds(kept_s, kept), units_format_seconds(ttl_s, ttl));
}
