/* What Nix's configuration says, and where: nix.conf with what it includes, the files of the user,
 * NIX_CONFIG; found and read as Nix itself does (nix.conf(5)). Lines are kept in the order in which Nix
 * applies them. Limits: files of 1 MiB, 64 of them, includes 16 deep; what is beyond is nix_conf_problem's,
 * and not read. Owns: all text that is returned belongs to the struct and lives as long. Thread: any (it
 * blocks). */
#ifndef CTL_SETUP_NIX_CONF_H
#define CTL_SETUP_NIX_CONF_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "common/error.h"

struct nix_conf;

enum nix_conf_scope {
	NIX_CONF_SYSTEM, /* the system's file: what nix-daemon has, whoever asks it */
	NIX_CONF_ALL,    /* and the files of who runs us, and NIX_CONFIG: what his Nix commands have */
};

/* A line that sets something. */
struct nix_conf_line {
	const char *name;  /* as it is written there: with "extra-", or an old name */
	const char *value; /* its words with one blank between them; may be "" */
	const char *file;  /* NULL: nobody set it, this is Nix's default; else a path or "NIX_CONFIG" */
	unsigned line;     /* from 1 on */
};

/* A file that is missing or may not be read is empty, as it is for Nix.
 * Errors: TRANSIENT, no memory. */
struct nix_conf *nix_conf_load(enum nix_conf_scope scope, struct error *err) MUST_CHECK;
/* TEXT alone, as the file NAME; what it includes is not read. */
struct nix_conf *nix_conf_parse(const char *text, size_t n_bytes, const char *name, struct error *err)
	MUST_CHECK;
void nix_conf_free(struct nix_conf *conf); /* takes NULL */

/* The line that decides on a setting that has one value, or NULL: nobody set it. */
const struct nix_conf_line *nix_conf_get(const struct nix_conf *conf, const char *name);

/* The lines that make a list (substituters, trusted-users ...): the last that sets it, or Nix's default, then
 * those of "extra-" behind it; old names count. Begin with PREVIOUS NULL; NULL: no more. */
const struct nix_conf_line *nix_conf_next(const struct nix_conf *conf, const char *name,
                                          const struct nix_conf_line *previous);
/* The first of them with WORD in it, or NULL. */
const struct nix_conf_line *nix_conf_find_word(const struct nix_conf *conf, const char *name,
                                               const char *word);
/* Appends all their words to OUT, one blank between. */
void nix_conf_join(const struct nix_conf *conf, const char *name, struct buf *out);
/* Is WORD one of those of VALUE? */
bool nix_conf_has_word(const char *value, const char *word);

/* Every line that was read, in order; NULL behind the last. */
const struct nix_conf_line *nix_conf_at(const struct nix_conf *conf, size_t i);
/* Every file that was read, in order; NULL behind the last. A file that is included twice is there twice. */
const char *nix_conf_file_at(const struct nix_conf *conf, size_t i);

/* The system's nix.conf, whether it is there or not. */
const char *nix_conf_system_file(const struct nix_conf *conf);
/* The nix.custom.conf that it includes, whether that is there or not: installers that own nix.conf leave that
 * one to people. NULL: it includes none. */
const char *nix_conf_custom_file(const struct nix_conf *conf);
/* The file that a user's own settings belong in. NULL: NIX_USER_CONF_FILES names none. */
const char *nix_conf_user_file(const struct nix_conf *conf);
/* Is the system's file made by NixOS? Then a change in it would be lost, or cannot be made. */
bool nix_conf_is_nixos(const struct nix_conf *conf);
/* "FILE:LINE: TEXT", the first thing at which Nix, or we, cannot follow; NULL: none. Nix refuses to start at
 * most of them. */
const char *nix_conf_problem(const struct nix_conf *conf);

/* Does FILE, or the link that it is, lead into the store? */
bool nix_conf_is_in_store(const char *file);
/* Nix's netrc file: what netrc-file says, else `netrc` beside the system's nix.conf. */
void nix_conf_netrc_file(const struct nix_conf *conf, struct buf *out);

#endif
