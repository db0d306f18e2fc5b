/* Crash points: named places in the flow at which a test kills the process, as a power cut or the kernel
 * might. What is on disk and on the cache at each says docs/durability.md; that all goes on from there shows
 * tests/integration/kill.bats and the tests of single caches beside it: each fails for a point that it never
 * reached.
 *
 * NNCACHE_CRASH_AT=NAME[:N] in the environment: the N-th passing of that point (the first, if N is left out)
 * raises SIGKILL. Only in builds with -Dcrash-points=true; in all others crash_point() is nothing, and
 * crash.c is not there.
 * Thread: any. */
#ifndef COMMON_CRASH_H
#define COMMON_CRASH_H

#ifdef NNCACHE_CRASH_POINTS

/* UNCOMMITTED: its SQL has run, in a transaction that has not been committed. */
#define CRASH_POINTS(X)        \
	X(HOOK_START)          \
	X(HOOK_ROOTS_HALF)     \
	X(HOOK_ROOTED)         \
	X(HOOK_CONNECTED)      \
	X(HOOK_SENT)           \
	X(HOOK_ANSWERED)       \
	X(HOOK_SPOOL_OPENED)   \
	X(HOOK_SPOOL_WRITTEN)  \
	X(HOOK_SPOOL_NAMED)    \
	X(SERVER_REQUEST)      \
	X(ADD_UNCOMMITTED)     \
	X(INTAKE_ADDED)        \
	X(INTAKE_ROOTED)       \
	X(INTAKE_TAKEN)        \
	X(SERVER_ANSWERED)     \
	X(SPOOL_READ)          \
	X(SPOOL_TAKEN)         \
	X(SPOOL_UNLINKED)      \
	X(RESOLVE_CLAIMED)     \
	X(RESOLVE_OUTPUTS)     \
	X(EXPAND_UNCOMMITTED)  \
	X(PAGE_UNCOMMITTED)    \
	X(RESOLVE_PAGED)       \
	X(RESOLVE_ENDED)       \
	X(UPLOAD_BEGUN)        \
	X(UPLOAD_ASKED)        \
	X(PACK_BEGUN)          \
	X(NAR_HALF_SENT)       \
	X(S3_BEGUN)            \
	X(S3_NOTED)            \
	X(S3_PART_SENT)        \
	X(S3_ABORTED)          \
	X(CACHIX_BEGUN)        \
	X(CACHIX_PART_SENT)    \
	X(UPLOAD_NAR_SENT)     \
	X(PUBLISH_UNCOMMITTED) \
	X(UPLOAD_VERDICT)      \
	X(UPLOAD_INFO_SENT)    \
	X(FINISH_UNCOMMITTED)  \
	X(UPLOAD_RECORDED)     \
	X(ROOTS_GONE)          \
	X(DEFER_UNCOMMITTED)   \
	X(FILE_OPENED)         \
	X(FILE_WRITTEN)        \
	X(FILE_NAMED)          \
	X(SWEEP_REMADE)        \
	X(SWEEP_EXPLAINED)     \
	X(SWEEP_TAKEN)         \
	X(RELOAD_BEGUN)        \
	X(RELOAD_CLOSED)       \
	X(STOP_DRAINING)       \
	X(STOP_BEGUN)          \
	X(STOP_CLOSED)         \
	X(ROOTS_GIVEN_UP)      \
	X(PRUNE_UNCOMMITTED)

#define CRASH_POINT_ENUM(name) CRASH_##name,
enum crash_point { CRASH_POINTS(CRASH_POINT_ENUM) CRASH_N_POINTS };
#undef CRASH_POINT_ENUM

void crash_here(enum crash_point point);
#define crash_point(name) crash_here(CRASH_##name)

#else
#define crash_point(name) ((void)0)
#endif

#endif
