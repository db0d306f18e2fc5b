/* What the doctor's checks share. A check looks at facts that were gathered before, says what it found by
 * doctor_say, and is ok if it says nothing. A new one is a function, and a row of the table in doctor.c.
 * Owns: all is the doctor's. Thread: any (checks look at files). */
#ifndef CTL_SETUP_DOCTOR_H
#define CTL_SETUP_DOCTOR_H

#include "ctl/ctl.h"
#include "ctl/model.h"
#include "ctl/setup/nix_conf.h"

enum level { LEVEL_OK, LEVEL_UNCHECKED, LEVEL_WARN, LEVEL_BAD };

struct doctor;
typedef void (*check_fn)(struct doctor *doctor, const json_t *cache);

struct check {
	const char *id;    /* for --json, stable */
	const char *group; /* NULL: once for each cache, and its name is the group */
	const char *title; /* what is so when it is ok */
	const char *why;   /* why it matters */
	/* What people call it that this is the reason of, or NULL. */
	const char *trouble;
	check_fn run; /* CACHE: NULL without one */
};

struct doctor {
	const struct ctl *ctl;
	/* The records of `nncached --doctor` (daemon/doctor.h), every value a text:
	 * {"error": why it could not be asked, or null; "config": {}, "store": {}, "places": [], "groups":
	 * [], "caches": [], "upstreams": []} */
	json_t *facts;
	/* {"running": bool, "error": text} and with a daemon "daemon", "queue", "caches", as model.h has
	 * them, and "pinned_nar_bytes" */
	json_t *status;
	struct nix_conf *nix;  /* what nix-daemon, or where there is none the user, has */
	struct nix_conf *user; /* and what the user has */
	bool is_users;         /* the store is the user's own, without nix-daemon */
	json_t *findings;

	const struct check *check; /* that runs */
	const char *cache_name;
	unsigned n_said;
};

/* Fills FACTS and STATUS, NIX, USER. Errors: TRANSIENT, no memory. */
int doctor_gather(struct doctor *doctor, struct error *err) MUST_CHECK;
void doctor_release(struct doctor *doctor);

/* FIX: the command that mends it, or what is to be done; NULL: nothing is to be mended. Copied. */
void doctor_say(struct doctor *doctor, enum level level, const char *fix, const char *format, ...)
	PRINTF(4, 5);

/* Reading facts: "yes" is true; a number; a place, by what it is, or NULL. */
bool fact_is(const json_t *fact, const char *key);
int64_t fact_number(const json_t *fact, const char *key);
const json_t *doctor_find_place(const struct doctor *doctor, const char *what);
/* The cache NAME in what the running daemon says, or NULL. */
const json_t *doctor_find_status(const struct doctor *doctor, const char *name);

/* How a key "NAME:BASE64" stands to LINE of nix.conf, or NULL: its words. */
enum key_match { KEY_ABSENT, KEY_TRUSTED, KEY_OTHER_BYTES };
/* RET (KEY_OTHER_BYTES): the word of the same name; valid until the next call. */
enum key_match doctor_match_key(const char *words, const char *key, char *ret, size_t size);
/* Do both name the same cache? Without what follows "?", a slash at the end, upper case in scheme and host;
 * "/DIR" is "file:///DIR". */
bool doctor_is_same_url(const char *a, const char *b);

/* The checks. */
void check_nix_conf(struct doctor *doctor, const json_t *cache);
void check_hook_line(struct doctor *doctor, const json_t *cache);
void check_hook_file(struct doctor *doctor, const json_t *cache);
void check_hook_trusted(struct doctor *doctor, const json_t *cache);
void check_nix_daemon(struct doctor *doctor, const json_t *cache);
void check_substituters(struct doctor *doctor, const json_t *cache);
void check_sandbox(struct doctor *doctor, const json_t *cache);

void check_config(struct doctor *doctor, const json_t *cache);
void check_running(struct doctor *doctor, const json_t *cache);
void check_version(struct doctor *doctor, const json_t *cache);
void check_sound(struct doctor *doctor, const json_t *cache);
void check_uploads(struct doctor *doctor, const json_t *cache);
void check_who(struct doctor *doctor, const json_t *cache);
void check_modes(struct doctor *doctor, const json_t *cache);
void check_store(struct doctor *doctor, const json_t *cache);
void check_disk(struct doctor *doctor, const json_t *cache);
void check_file_system(struct doctor *doctor, const json_t *cache);
void check_pinned(struct doctor *doctor, const json_t *cache);

void check_cache_secrets(struct doctor *doctor, const json_t *cache);
void check_cache_reach(struct doctor *doctor, const json_t *cache);
void check_cache_write(struct doctor *doctor, const json_t *cache);
void check_cache_works(struct doctor *doctor, const json_t *cache);
void check_cache_key(struct doctor *doctor, const json_t *cache);
void check_cache_signed(struct doctor *doctor, const json_t *cache);
void check_cache_public(struct doctor *doctor, const json_t *cache);
void check_cache_listed(struct doctor *doctor, const json_t *cache);
void check_cache_trusted(struct doctor *doctor, const json_t *cache);
void check_cache_read(struct doctor *doctor, const json_t *cache);
void check_cache_clock(struct doctor *doctor, const json_t *cache);
void check_cache_retention(struct doctor *doctor, const json_t *cache);

#endif
