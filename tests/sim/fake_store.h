/* Stands in the place of daemon/store: a generated graph of store paths, the links of the roots directory,
 * and the garbage collector. Files are real ones, made once for all runs, small, some of them equal.
 * A path can be invalid (never built, or collected), be rebuilt with other contents, and have files that
 * differ from what is registered.
 * Thread: the one there is. */
#ifndef TESTS_SIM_FAKE_STORE_H
#define TESTS_SIM_FAKE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/format/path_info.h"

#define STORE_BUILT_MAX    40 /* that hooks build */
#define STORE_PATHS_MAX    80 /* and derivations, from that number on */
#define STORE_OUTPUTS_MAX  3
#define STORE_REFS_MAX     4
#define STORE_CONTENTS_MAX 48

struct store_path {
	char text[80];
	unsigned refs[STORE_REFS_MAX]; /* lower numbers; without itself */
	unsigned n_refs;
	bool refers_to_itself;
	unsigned content; /* as registered */
	bool is_damaged;  /* its files are not what is registered */
	bool is_valid, was_valid;
	unsigned n_temp_roots;                          /* builds that still run */
	bool is_kept;                                   /* by a root of somebody else */
	unsigned outputs[STORE_OUTPUTS_MAX], n_outputs; /* of a derivation */
};

struct store_model {
	struct store_path paths[STORE_PATHS_MAX];
	unsigned n_paths, n_derivations;
	unsigned fail_one_in;   /* questions; 0: never */
	unsigned unroot_one_in; /* roots that cannot be made; 0: never */
};
extern struct store_model store_model;

/* The files, below DIR; once, before any run. */
void fake_store_make_contents(const char *dir);
const uint8_t *fake_store_nar_hash(unsigned content);
uint64_t fake_store_nar_size(unsigned content);

/* A new graph of N paths, none of them valid, and no roots. HAS_BIG: many of some MiB; else a few of one. */
void fake_store_init(unsigned n_paths, bool has_big);
unsigned fake_store_number(const char *path);
/* The number of a new derivation, valid, whose outputs are known to the store alone. */
unsigned fake_store_derive(const unsigned *outputs, unsigned n);
bool fake_store_is_derivation(unsigned path);
/* Makes it valid, and all that it refers to; what was valid once can have other contents now. */
void fake_store_build(unsigned path);
/* All that was collected is built again, and kept by somebody. */
void fake_store_build_again(void);
/* Sets IN[p] for every p of the closure of PATH. */
void fake_store_closure(unsigned path, bool in[STORE_PATHS_MAX]);
/* Deletes what no root leads to; sets DELETED. */
void fake_store_collect(bool deleted[STORE_PATHS_MAX]);

/* Links by name, as a hook makes them. */
void fake_root_make(const char *name, unsigned path);
void fake_root_remove(const char *name);
bool fake_root_is_there(const char *name);
/* The daemon's own root of PATH. */
bool fake_root_is_made(unsigned path);
/* Does any link lead to it? */
bool fake_root_leads_to(unsigned path);
/* How many links there are; *RET_NAME: one of them, or NULL. */
unsigned fake_root_count(const char **ret_name);
/* Changes of the directory that no fsync and no time made durable are kept or undone. */
void fake_root_power_cut(void);

#endif
