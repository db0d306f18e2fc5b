/* SQLite on a disk that fails when told to: a layer over the usual VFS, which faulty_vfs_install makes the
 * default one for the rest of the process.
 * Thread: set the faults while no statement runs. */
#ifndef TESTS_SUPPORT_FAULTY_VFS_H
#define TESTS_SUPPORT_FAULTY_VFS_H

#include <stdbool.h>
#include <stdint.h>

struct faulty_vfs {
	bool fsync_fails, reads_fail;
	int64_t bad_page;  /* where a page of the database stands that cannot be read; 0: none */
	unsigned n_fsyncs; /* that were asked for, failed ones too */
};
extern struct faulty_vfs faulty_vfs;

void faulty_vfs_install(void);

#endif
