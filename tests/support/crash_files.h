/* What a power cut leaves of files: of each what was in it at its last fsync, and its time, of each directory
 * the names it had at its last fsync. Watches the directory tree TOP through the calls of the program under
 * test (linked with the crash_files_wraps of tests/sim/meson.build); file contents are those that lie there.
 * Limits: few files, all of them small. Thread: one. */
#ifndef TESTS_SUPPORT_CRASH_FILES_H
#define TESTS_SUPPORT_CRASH_FILES_H

#include <stdbool.h>
#include <stdint.h>

/* All that lies below TOP now is durable. */
void crash_files_begin(const char *top);
/* No tree is watched any more. */
void crash_files_end(void);
/* What the file system cannot: files without a name, renaming without replacing, and keeping the order of
 * changes in a directory. */
struct crash_files_lacks {
	bool nameless_files, exclusive_rename, order;
};
extern struct crash_files_lacks crash_files_lacks;

/* AT is called after each change of a name, and before and after each fsync. NULL: nobody is. */
void crash_files_watch(void (*at)(void));
/* Makes in the empty directory TO what a power cut now would leave: of what no fsync holds nothing, or,
 * where RANDOM is not NULL, what chance keeps of it. */
void crash_files_leave(const char *to, uint64_t (*random)(void));

#endif
