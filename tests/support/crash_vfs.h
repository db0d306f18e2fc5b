/* A file system for SQLite in memory that can lose its power. Every file is what was fsynced and a list of
 * what was written since; so is the directory: a name that was made or deleted is durable once the directory
 * was synced, as SQLite's own VFS does it with the first sync of a journal or WAL it opened. A power cut
 * loses of the rest all, or by chance some, torn at sectors.
 * It is the default VFS from crash_vfs_register on. Connections are of one process, which can die: then its
 * locks and its shared memory are gone, and what was written stays.
 * Thread: one. */
#ifndef TESTS_SUPPORT_CRASH_VFS_H
#define TESTS_SUPPORT_CRASH_VFS_H

#include <stdbool.h>
#include <stdint.h>

enum crash_vfs_point {
	CRASH_BEFORE_WRITE, /* and before a truncation */
	CRASH_BEFORE_SYNC,
	CRASH_AFTER_SYNC,
	CRASH_BEFORE_DELETE,
};

/* RANDOM: any 64 bits, for salts and for what is lost. */
void crash_vfs_register(uint64_t (*random)(void));
/* No file is left. */
void crash_vfs_reset(void);

/* AT is called at each point; it may leave by longjmp, for the process to die there. NULL: nothing is. */
void crash_vfs_watch(void (*at)(enum crash_vfs_point point));
/* While set, nothing more can be written: SQLITE_FULL. */
void crash_vfs_set_full(bool is_full);
/* The next sync fails. */
void crash_vfs_fail_sync(void);
/* Neither from now on. */
void crash_vfs_heal(void);

/* As rename(2), durable at once: what a power cut leaves of the renames of a set-aside has sim/power_cut.c.
 * Returns false if there is no file FROM. */
bool crash_vfs_rename(const char *from, const char *to);
/* Of a process that is dead: every file whose name begins with PREFIX is gone. */
void crash_vfs_lose(const char *prefix);
/* The same, but of PATH some bytes are others: its header, a page, all from somewhere on, or the file is cut
 * short there. */
enum crash_vfs_damage { CRASH_HEADER, CRASH_PAGE, CRASH_REST, CRASH_SHORT, CRASH_N_DAMAGES };
void crash_vfs_damage(const char *path, enum crash_vfs_damage how);

/* The process died. Its connections must not be touched any more. */
void crash_vfs_kill(void);
/* And the machine with it. LOSES_ALL: nothing is left that was not synced; else some of it is. */
void crash_vfs_power_cut(bool loses_all);

#endif
