#include "tests/torture/fail.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/attr.h"
#include "tests/torture/wraps.h"

static struct shared {
	atomic_bool is_armed;
	struct fail_plan plan;
	atomic_uint_fast64_t counts[FAIL_N_KINDS];
	atomic_uint_fast64_t n_hits;
} * shared;

static _Thread_local bool is_spared;
static int64_t clock_ahead_s;

extern void __sanitizer_print_stack_trace(void) __attribute__((weak));

const char *fail_kind_name(enum fail_kind kind)
{
	static const char *const names[FAIL_N_KINDS] = {
		"memory", "open",     "read",       "write",    "sync",     "name",
		"thread", "sql-step", "sql-memory", "sql-file", "sql-sync",
	};

	return names[kind];
}

void fail_open(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		abort();
}

void fail_arm(const struct fail_plan *plan)
{
	shared->plan = *plan;
	for (int i = 0; i < FAIL_N_KINDS; i++)
		shared->counts[i] = 0;
	shared->n_hits = 0;
	shared->is_armed = true;
}

void fail_disarm(void)
{
	shared->is_armed = false;
}

void fail_spare(bool spared)
{
	is_spared = spared;
}

uint64_t fail_count(enum fail_kind kind)
{
	return shared->counts[kind];
}

uint64_t fail_n_hits(void)
{
	return shared->n_hits;
}

unsigned fail_turn(void)
{
	return (unsigned)shared->plan.nth;
}

bool fail_now(enum fail_kind kind)
{
	const struct fail_plan *plan;
	uint64_t n;

	if (shared == NULL || !shared->is_armed || is_spared)
		return false;
	plan = &shared->plan;
	n = ++shared->counts[kind];
	if (plan->nth == 0 || plan->kind != kind || n < plan->nth || (n > plan->nth && !plan->for_good))
		return false;
	if (shared->n_hits++ == 0 && getenv("TORTURE_TRACE") != NULL &&
	    __sanitizer_print_stack_trace != NULL) {
		is_spared = true;
		__sanitizer_print_stack_trace();
		is_spared = false;
	}
	return true;
}

/* One of the three, or of as many as are not 0, by turns. */
static int fault(int first, int second, int third)
{
	const int faults[] = { first, second, third };
	unsigned n = third != 0 ? 3 : second != 0 ? 2 : 1;

	errno = faults[fail_turn() % n];
	return -1;
}

/* ---- memory ------------------------------------------------------------------------------------------ */

static bool memory_is_short(void)
{
	if (!fail_now(FAIL_MEMORY))
		return false;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t n)
{
	return memory_is_short() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return memory_is_short() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t n)
{
	return memory_is_short() ? NULL : __real_realloc(old, n);
}

void *__wrap_reallocarray(void *old, size_t n, size_t size)
{
	return memory_is_short() ? NULL : __real_reallocarray(old, n, size);
}

char *__wrap_strdup(const char *text)
{
	return memory_is_short() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t n)
{
	return memory_is_short() ? NULL : __real_strndup(text, n);
}

/* What the pointer holds after a failure is not defined: something that must not be freed. */
int __wrap_vasprintf(char **ret, const char *format, va_list args)
{
	if (memory_is_short()) {
		*ret = (char *)(uintptr_t)1;
		return -1;
	}
	return __real_vasprintf(ret, format, args);
}

int __wrap_asprintf(char **ret, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = __wrap_vasprintf(ret, format, args);
	va_end(args);
	return n;
}

void *__wrap_mmap64(void *at, size_t n, int protection, int flags, int fd, off_t from)
{
	return memory_is_short() ? MAP_FAILED : __real_mmap64(at, n, protection, flags, fd, from);
}

char *__wrap_realpath(const char *path, char *resolved)
{
	return memory_is_short() ? NULL : __real_realpath(path, resolved);
}

/* ---- descriptors ------------------------------------------------------------------------------------- */

static int open_fault(int flags)
{
	return fault(EMFILE, (flags & O_CREAT) != 0 ? ENOSPC : EACCES, 0);
}

int __wrap_open64(const char *path, int flags, ...)
{
	va_list args;
	mode_t mode = 0;

	if (fail_now(FAIL_OPEN))
		return open_fault(flags);
	va_start(args, flags);
	if ((flags & (O_CREAT | O_TMPFILE)) != 0)
		mode = va_arg(args, mode_t);
	va_end(args);
	return __real_open64(path, flags, mode);
}

int __wrap_openat64(int dir, const char *path, int flags, ...)
{
	va_list args;
	mode_t mode = 0;

	if (fail_now(FAIL_OPEN))
		return open_fault(flags);
	va_start(args, flags);
	if ((flags & (O_CREAT | O_TMPFILE)) != 0)
		mode = va_arg(args, mode_t);
	va_end(args);
	return __real_openat64(dir, path, flags, mode);
}

int __wrap_mkostemp64(char *path, int flags)
{
	return fail_now(FAIL_OPEN) ? open_fault(O_CREAT) : __real_mkostemp64(path, flags);
}

DIR *__wrap_opendir(const char *path)
{
	if (!fail_now(FAIL_OPEN))
		return __real_opendir(path);
	fault(EMFILE, EACCES, 0);
	return NULL;
}

int __wrap_socket(int domain, int type, int protocol)
{
	return fail_now(FAIL_OPEN) ? fault(EMFILE, ENOBUFS, 0) : __real_socket(domain, type, protocol);
}

int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	return fail_now(FAIL_OPEN) ? fault(EMFILE, ECONNABORTED, 0) : __real_accept4(fd, addr, len, flags);
}

int __wrap_pipe2(int fds[2], int flags)
{
	return fail_now(FAIL_OPEN) ? fault(EMFILE, 0, 0) : __real_pipe2(fds, flags);
}

int __wrap_mkstemp64(char *path)
{
	return fail_now(FAIL_OPEN) ? open_fault(O_CREAT) : __real_mkstemp64(path);
}

int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return fail_now(FAIL_OPEN) ? fault(ECONNREFUSED, EAGAIN, 0) : __real_connect(fd, addr, len);
}

int __wrap_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	return fail_now(FAIL_OPEN) ? fault(EADDRINUSE, EACCES, ENOSPC) : __real_bind(fd, addr, len);
}

int __wrap_listen(int fd, int n)
{
	return fail_now(FAIL_OPEN) ? fault(EADDRINUSE, 0, 0) : __real_listen(fd, n);
}

int __wrap_flock(int fd, int what)
{
	return fail_now(FAIL_OPEN) ? fault(ENOLCK, 0, 0) : __real_flock(fd, what);
}

/* ---- reading ----------------------------------------------------------------------------------------- */

ssize_t __wrap_read(int fd, void *data, size_t n)
{
	return fail_now(FAIL_READ) ? fault(EIO, 0, 0) : __real_read(fd, data, n);
}

ssize_t __wrap_pread64(int fd, void *data, size_t n, off_t at)
{
	return fail_now(FAIL_READ) ? fault(EIO, 0, 0) : __real_pread64(fd, data, n, at);
}

ssize_t __wrap_readlink(const char *path, char *text, size_t n)
{
	return fail_now(FAIL_READ) ? fault(EIO, EACCES, 0) : __real_readlink(path, text, n);
}

ssize_t __wrap_readlinkat(int dir, const char *path, char *text, size_t n)
{
	return fail_now(FAIL_READ) ? fault(EIO, EACCES, 0) : __real_readlinkat(dir, path, text, n);
}

int __wrap_scandir64(const char *dir, struct dirent ***ret, int (*wanted)(const struct dirent *),
                     int (*order)(const struct dirent **, const struct dirent **))
{
	return fail_now(FAIL_READ) ? fault(EMFILE, ENOMEM, EIO) : __real_scandir64(dir, ret, wanted, order);
}

int __wrap_fstat64(int fd, struct stat *ret)
{
	return fail_now(FAIL_READ) ? fault(EIO, 0, 0) : __real_fstat64(fd, ret);
}

int __wrap_stat64(const char *path, struct stat *ret)
{
	return fail_now(FAIL_READ) ? fault(EIO, EACCES, 0) : __real_stat64(path, ret);
}

int __wrap_access(const char *path, int mode)
{
	return fail_now(FAIL_READ) ? fault(EIO, EACCES, 0) : __real_access(path, mode);
}

int __wrap_lstat64(const char *path, struct stat *ret)
{
	return fail_now(FAIL_READ) ? fault(EIO, EACCES, 0) : __real_lstat64(path, ret);
}

int __wrap_fstatat64(int dir, const char *path, struct stat *ret, int flags)
{
	return fail_now(FAIL_READ) ? fault(EIO, EACCES, 0) : __real_fstatat64(dir, path, ret, flags);
}

int __wrap_faccessat(int dir, const char *path, int mode, int flags)
{
	return fail_now(FAIL_READ) ? fault(EIO, EACCES, 0) : __real_faccessat(dir, path, mode, flags);
}

int __wrap_statfs64(const char *path, struct statfs *ret)
{
	return fail_now(FAIL_READ) ? fault(EIO, EACCES, 0) : __real_statfs64(path, ret);
}

int __wrap_fstatfs64(int fd, struct statfs *ret)
{
	return fail_now(FAIL_READ) ? fault(EIO, 0, 0) : __real_fstatfs64(fd, ret);
}

int __wrap_statvfs64(const char *path, struct statvfs *ret)
{
	return fail_now(FAIL_READ) ? fault(EIO, EACCES, 0) : __real_statvfs64(path, ret);
}

struct dirent *__wrap_readdir64(DIR *dir)
{
	if (!fail_now(FAIL_READ))
		return __real_readdir64(dir);
	fault(EIO, 0, 0);
	return NULL;
}

ssize_t __wrap_getdents64(int fd, void *entries, size_t n)
{
	return fail_now(FAIL_READ) ? fault(EIO, 0, 0) : __real_getdents64(fd, entries, n);
}

off_t __wrap_lseek64(int fd, off_t at, int whence)
{
	return fail_now(FAIL_READ) ? fault(EIO, 0, 0) : __real_lseek64(fd, at, whence);
}

ssize_t __wrap_recv(int fd, void *data, size_t n, int flags)
{
	if (!fail_now(FAIL_READ))
		return __real_recv(fd, data, n, flags);
	shutdown(fd, SHUT_RDWR);
	return fault(ECONNRESET, 0, 0);
}

/* ---- writing ----------------------------------------------------------------------------------------- */

ssize_t __wrap_write(int fd, const void *data, size_t n)
{
	if (fd == STDERR_FILENO || !fail_now(FAIL_WRITE))
		return __real_write(fd, data, n);
	if (fail_turn() % 3 == 2 && n > 1 && fail_n_hits() == 1)
		return __real_write(fd, data, n / 2);
	return fault(ENOSPC, EIO, 0);
}

ssize_t __wrap_pwrite64(int fd, const void *data, size_t n, off_t at)
{
	if (!fail_now(FAIL_WRITE))
		return __real_pwrite64(fd, data, n, at);
	if (fail_turn() % 3 == 2 && n > 1 && fail_n_hits() == 1)
		return __real_pwrite64(fd, data, n / 2, at);
	return fault(ENOSPC, EIO, 0);
}

/* The connection is gone then, for what comes after, too. */
ssize_t __wrap_send(int fd, const void *data, size_t n, int flags)
{
	if (!fail_now(FAIL_WRITE))
		return __real_send(fd, data, n, flags);
	shutdown(fd, SHUT_RDWR);
	return fault(EPIPE, ECONNRESET, 0);
}

int __wrap_fallocate64(int fd, int mode, off_t at, off_t n)
{
	return fail_now(FAIL_WRITE) ? fault(ENOSPC, EOPNOTSUPP, EIO) : __real_fallocate64(fd, mode, at, n);
}

int __wrap_fdatasync(int fd)
{
	return fail_now(FAIL_SYNC) ? fault(EIO, 0, 0) : __real_fdatasync(fd);
}

int __wrap_chmod(const char *path, mode_t mode)
{
	return fail_now(FAIL_SYNC) ? fault(EIO, EPERM, 0) : __real_chmod(path, mode);
}

int __wrap_fsync(int fd)
{
	return fail_now(FAIL_SYNC) ? fault(EIO, 0, 0) : __real_fsync(fd);
}

int __wrap_fchmod(int fd, mode_t mode)
{
	return fail_now(FAIL_SYNC) ? fault(EIO, EPERM, 0) : __real_fchmod(fd, mode);
}

int __wrap_close(int fd)
{
	bool fails = fail_now(FAIL_SYNC);
	int r = __real_close(fd);

	return fails ? fault(EIO, 0, 0) : r;
}

/* ---- names ------------------------------------------------------------------------------------------- */

#define NAME_FAULT fault(ENOSPC, EACCES, EIO)

int __wrap_rename(const char *from, const char *to)
{
	return fail_now(FAIL_NAME) ? NAME_FAULT : __real_rename(from, to);
}

int __wrap_renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	return fail_now(FAIL_NAME) ? NAME_FAULT : __real_renameat(from_dir, from, to_dir, to);
}

int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	return fail_now(FAIL_NAME) ? NAME_FAULT : __real_renameat2(from_dir, from, to_dir, to, flags);
}

int __wrap_link(const char *from, const char *to)
{
	return fail_now(FAIL_NAME) ? NAME_FAULT : __real_link(from, to);
}

int __wrap_linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	return fail_now(FAIL_NAME) ? NAME_FAULT : __real_linkat(from_dir, from, to_dir, to, flags);
}

int __wrap_symlink(const char *text, const char *path)
{
	return fail_now(FAIL_NAME) ? NAME_FAULT : __real_symlink(text, path);
}

int __wrap_symlinkat(const char *text, int dir, const char *path)
{
	return fail_now(FAIL_NAME) ? NAME_FAULT : __real_symlinkat(text, dir, path);
}

int __wrap_unlink(const char *path)
{
	return fail_now(FAIL_NAME) ? NAME_FAULT : __real_unlink(path);
}

int __wrap_unlinkat(int dir, const char *path, int flags)
{
	return fail_now(FAIL_NAME) ? NAME_FAULT : __real_unlinkat(dir, path, flags);
}

int __wrap_mkdir(const char *path, mode_t mode)
{
	return fail_now(FAIL_NAME) ? NAME_FAULT : __real_mkdir(path, mode);
}

char *__wrap_mkdtemp(char *path)
{
	if (!fail_now(FAIL_NAME))
		return __real_mkdtemp(path);
	NAME_FAULT;
	return NULL;
}

int __wrap_utimensat(int dir, const char *path, const struct timespec times[2], int flags)
{
	return fail_now(FAIL_NAME) ? NAME_FAULT : __real_utimensat(dir, path, times, flags);
}

/* ---- threads ----------------------------------------------------------------------------------------- */

int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*main)(void *), void *arg)
{
	return fail_now(FAIL_THREAD) ? EAGAIN : __real_pthread_create(ret, attr, main, arg);
}

/* ---- the clock --------------------------------------------------------------------------------------- */

void fail_set_clock(int64_t seconds)
{
	clock_ahead_s = seconds;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
	int r = __real_clock_gettime(clock, ret);

	if (clock == CLOCK_REALTIME)
		ret->tv_sec += clock_ahead_s;
	return r;
}
