/* Our garbage collector roots. Scheme A: links in a directory of ours below gcroots. Scheme B, where
 * that cannot be written: links in our state directory, each told to nix-daemon (AddIndirectRoot), or
 * where there is none, to gcroots/auto by ourselves. PROTOCOLS 8.5.
 * The daemon's own link is named BASE; the hook's BASE.PID.NS. A link's text is what the store path is
 * called (/nix/store/...), wherever the store lies.
 * Thread: loop. */
#ifndef DAEMON_STORE_ROOTS_H
#define DAEMON_STORE_ROOTS_H

#include "daemon/store/store.h"

struct roots;

/* DIR is the configured directory (made if its parent may be written); FALLBACK_DIR serves scheme B. A
 * DIR that is not below the store's gcroots serves scheme B itself. Both are absolute. What an earlier life
 * left in FALLBACK_DIR moves to a DIR that can be used now.
 * Never fails for want of a place: then roots_message() says why nothing is protected. */
int roots_open(struct roots **ret, struct store *store, const char *dir, const char *fallback_dir,
               struct error *err) MUST_CHECK;
void roots_close(struct roots *roots);            /* no call may run; takes NULL */
const char *roots_dir(const struct roots *roots); /* the one in use; DIR where none can be used */
/* NULL, or why roots cannot be made and what to do about it; as of the last roots_add that is done. */
const char *roots_message(const struct roots *roots);

struct roots_add;
typedef void (*roots_added_fn)(struct roots_add *add);
struct roots_add { /* the caller's until done */
	roots_added_fn done;
	struct error err;         /* TRANSIENT: at least one root could not be made; CANCELED (closing) */
	const char *const *paths; /* borrowed until done */
	size_t n_paths;
	/* Nobody else protects the paths (a push): first a temporary root, then "is it valid", then
	 * the root; is_valid[i] is set for each, if it could be found out. NULL: the caller knows. */
	bool *is_valid;
	struct store_job job;
	struct roots *roots;
};
/* Makes the daemon's own root of each path. One that exists is fine, and registered anew in scheme B. */
void roots_add_start(struct roots *roots, struct roots_add *add, roots_added_fn done);

/* Is the link NAME of the directory still there, as far as it can be told? */
bool roots_has_name(const struct roots *roots, const char *name);
/* Takes the daemon's own root of PATH away. */
void roots_remove(struct roots *roots, const char *path);
/* Takes the link NAME of the directory away (a hook's). */
void roots_remove_name(struct roots *roots, const char *name);

#define ROOTS_PAGE 1000 /* entries of a page at most */

struct roots_entry {
	char *name; /* of the link */
	char *path; /* the store path it protects */
	int64_t made_unix_s;
	bool is_ours;             /* BASE alone: the daemon's */
	int64_t ours_made_unix_s; /* of a hook's: when the daemon's own was; 0: there is none */
};
struct roots_list;
typedef void (*roots_listed_fn)(struct roots_list *list);
struct roots_list { /* zeroed at first; the caller's until done */
	roots_listed_fn done;
	struct error err;
	struct roots_entry *entries;
	size_t n_entries;
	bool more; /* another page may follow */
	void *dir; /* between pages */
	struct store_job job;
	struct roots *roots;
};
/* Reads the first page of the directory, or, where the last one said more, the next in its place. */
void roots_list_start(struct roots *roots, struct roots_list *list, roots_listed_fn done);
/* Frees the page; there may be more. */
void roots_list_fini(struct roots_list *list);

#endif
