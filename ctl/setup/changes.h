/* What a verb changes in the files of Nix: gathered first, shown as lines that go and come, then made file by
 * file. Errors are those of nix_conf_edit.h.
 * Owns: the edits, until changes_fini. Thread: any (it blocks). */
#ifndef CTL_SETUP_CHANGES_H
#define CTL_SETUP_CHANGES_H

#include <jansson.h>

#include "ctl/ctl.h"
#include "ctl/setup/nix_conf_edit.h"

#define CHANGES_MAX_FILES 16

struct changes { /* zeroed to begin with */
	struct {
		struct nix_conf_edit *edit;
		bool is_secret; /* its lines are not shown */
	} files[CHANGES_MAX_FILES];
	size_t n_files;
};

/* The edit of FILE, for nix_conf_edit_*: that which is open already, or a new one. MODE is that of a new
 * file. NULL: ERR says why it cannot be changed. */
struct nix_conf_edit *changes_open(struct changes *changes, const char *file, mode_t mode, struct error *err)
	MUST_CHECK;
/* The same, for a file that only its owner may read, with lines that are shown to nobody. */
struct nix_conf_edit *changes_open_secret(struct changes *changes, const char *file, struct error *err)
	MUST_CHECK;
void changes_fini(struct changes *changes);

bool changes_is_empty(const struct changes *changes);

/* Shows them to a person, or nothing with --json; then makes them, unless there is --dry-run. Says what went
 * wrong, and what is done already then. Returns CTL_DONE or CTL_FAILED. */
int changes_make(const struct ctl *ctl, struct changes *changes);
/* [{"file", "line", "text", "is_new"}], null for the text of a secret. NULL: no memory. */
json_t *changes_model(const struct changes *changes);

#endif
