/* A change to one configuration file: lines are taken out, replaced or appended; every other byte stays.
 * Nothing is written before nix_conf_edit_commit, which makes the change at once or not at all.
 * Limits: files of 1 MiB. Owns: its copy of the file. Thread: any (it blocks). */
#ifndef CTL_SETUP_NIX_CONF_EDIT_H
#define CTL_SETUP_NIX_CONF_EDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/error.h"

struct nix_conf_edit;

/* Of FILE, or of what the link FILE leads to; one that is not there is empty, and made with MODE.
 * Errors: OPERATOR, with the reason why it is not safe to edit: it lies in the store, is no regular file, has
 * other names (hard links), is no text, is too large; TRANSIENT: it cannot be read. */
struct nix_conf_edit *nix_conf_edit_open(const char *file, mode_t mode, struct error *err) MUST_CHECK;
void nix_conf_edit_free(struct nix_conf_edit *edit); /* takes NULL */

/* LINE counts from 1, in the file as it was opened. TEXT ends without a newline. */
void nix_conf_edit_remove(struct nix_conf_edit *edit, unsigned line);
void nix_conf_edit_replace(struct nix_conf_edit *edit, unsigned line, const char *text);
void nix_conf_edit_append(struct nix_conf_edit *edit, const char *text);

/* The line as it is in the file; NULL behind the last. */
const char *nix_conf_edit_line(const struct nix_conf_edit *edit, unsigned line);
/* Appends the file as it will be. */
void nix_conf_edit_format(const struct nix_conf_edit *edit, struct buf *out);

bool nix_conf_edit_is_empty(const struct nix_conf_edit *edit);    /* nothing is changed */
const char *nix_conf_edit_file(const struct nix_conf_edit *edit); /* links resolved */
/* The I-th line that goes or comes, in the order of the file: *RET_LINE is where it is or will be. *IS_NEW:
 * it comes. NULL behind the last. */
const char *nix_conf_edit_change(const struct nix_conf_edit *edit, size_t i, unsigned *ret_line,
                                 bool *is_new);

/* Writes a new file beside it (same mode and owner), fsyncs it, renames it into place.
 * Errors: OPERATOR, it may not be written; TRANSIENT, the disk, or somebody else changed the file meanwhile.
 * Then it is as it was. */
int nix_conf_edit_commit(struct nix_conf_edit *edit, struct error *err) MUST_CHECK;

#endif
