/* Failures made to order: the nth call of a kind fails, once or from then on. The linker puts these functions
 * before libc's (--wrap, see meson.build) for our own objects; libraries call libc as ever, but SQLite, whose
 * memory and files are covered too (fail_sqlite.c).
 * Everything is kept in memory that processes forked after fail_open share.
 * Thread: any; a thread that called fail_spare(true) is never hit and never counted. */
#ifndef TESTS_TORTURE_FAIL_H
#define TESTS_TORTURE_FAIL_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum fail_kind {
	FAIL_MEMORY, /* malloc and its kin, mmap: ENOMEM */
	/* open, opendir, mkstemp, socket, pipe, accept, connect, bind, listen, flock: EMFILE, ENOSPC, EACCES
	 * and others by turns, where they can be */
	FAIL_OPEN,
	FAIL_READ,     /* read, pread, readdir, readlink, stat, statfs, recv: EIO and others */
	FAIL_WRITE,    /* write, pwrite, send, fallocate: ENOSPC, EIO and others by turns, or half of a write
	                * is written first; never to stderr */
	FAIL_SYNC,     /* fsync, fdatasync, chmod, fchmod, and close, which closes all the same: EIO */
	FAIL_NAME,     /* rename, link, symlink, unlink, mkdir, utimensat: ENOSPC, EACCES, EIO by turns */
	FAIL_THREAD,   /* pthread_create: EAGAIN */
	FAIL_SQL_STEP, /* sqlite3_step, before it does anything: SQLITE_FULL, SQLITE_IOERR_READ by turns */
	FAIL_SQL_MEMORY, /* what SQLite allocates */
	FAIL_SQL_FILE,   /* what SQLite does to files: opens, reads, writes, truncates */
	FAIL_SQL_SYNC,   /* SQLite's fsync */
	FAIL_N_KINDS,
};

const char *fail_kind_name(enum fail_kind kind);

struct fail_plan {
	enum fail_kind kind;
	uint64_t nth; /* from 1; 0: none fails, all are counted */
	bool for_good;
};

/* Once, before anything is wrapped. */
void fail_open(void);
/* Counts from nothing, and lets PLAN come true. */
void fail_arm(const struct fail_plan *plan);
void fail_disarm(void);
void fail_spare(bool spared);
uint64_t fail_count(enum fail_kind kind); /* calls since fail_arm */
uint64_t fail_n_hits(void);               /* how many of them failed */

/* From now on the wall clock is SECONDS ahead, in this process. */
void fail_set_clock(int64_t seconds);

/* For the wrappers: is this call to fail? */
bool fail_now(enum fail_kind kind);
/* The turn of the plan: which of several ways to fail. */
unsigned fail_turn(void);

/* Takes SQLite's memory and files over. Before SQLite is used. */
void fail_take_sqlite(void);

#endif
