/* What the linker calls what it puts before libc's functions, and libc's own. */
#ifndef TESTS_TORTURE_WRAPS_H
#define TESTS_TORTURE_WRAPS_H

#include <dirent.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t n);
void *__real_reallocarray(void *old, size_t n, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t n);
int __real_vasprintf(char **ret, const char *format, va_list args);
char *__real_realpath(const char *path, char *resolved);
int __real_open64(const char *path, int flags, ...);
int __real_openat64(int dir, const char *path, int flags, ...);
DIR *__real_opendir(const char *path);
int __real_socket(int domain, int type, int protocol);
int __real_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);
int __real_pipe2(int fds[2], int flags);
ssize_t __real_read(int fd, void *data, size_t n);
ssize_t __real_pread64(int fd, void *data, size_t n, off_t at);
ssize_t __real_readlink(const char *path, char *text, size_t n);
ssize_t __real_readlinkat(int dir, const char *path, char *text, size_t n);
int __real_fstat64(int fd, struct stat *ret);
int __real_lstat64(const char *path, struct stat *ret);
int __real_fstatat64(int dir, const char *path, struct stat *ret, int flags);
ssize_t __real_write(int fd, const void *data, size_t n);
ssize_t __real_pwrite64(int fd, const void *data, size_t n, off_t at);
int __real_fsync(int fd);
int __real_access(const char *path, int mode);
int __real_stat64(const char *path, struct stat *ret);
int __real_mkostemp64(char *path, int flags);
int __real_fchmod(int fd, mode_t mode);
int __real_close(int fd);
int __real_rename(const char *from, const char *to);
int __real_renameat(int from_dir, const char *from, int to_dir, const char *to);
int __real_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
int __real_link(const char *from, const char *to);
int __real_symlink(const char *text, const char *path);
int __real_symlinkat(const char *text, int dir, const char *path);
int __real_unlink(const char *path);
int __real_unlinkat(int dir, const char *path, int flags);
int __real_mkdir(const char *path, mode_t mode);
int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __real_scandir64(const char *dir, struct dirent ***ret, int (*wanted)(const struct dirent *),
                     int (*order)(const struct dirent **, const struct dirent **));
int __real_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*main)(void *), void *arg);
int __real_bind(int fd, const struct sockaddr *addr, socklen_t len);
int __real_chmod(const char *path, mode_t mode);
int __real_connect(int fd, const struct sockaddr *addr, socklen_t len);
int __real_faccessat(int dir, const char *path, int mode, int flags);
int __real_fallocate64(int fd, int mode, off_t at, off_t n);
int __real_fdatasync(int fd);
int __real_flock(int fd, int what);
int __real_fstatfs64(int fd, struct statfs *ret);
ssize_t __real_getdents64(int fd, void *entries, size_t n);
int __real_linkat(int from_dir, const char *from, int to_dir, const char *to, int flags);
int __real_listen(int fd, int n);
off_t __real_lseek64(int fd, off_t at, int whence);
char *__real_mkdtemp(char *path);
int __real_mkstemp64(char *path);
void *__real_mmap64(void *at, size_t n, int protection, int flags, int fd, off_t from);
struct dirent *__real_readdir64(DIR *dir);
ssize_t __real_recv(int fd, void *data, size_t n, int flags);
ssize_t __real_send(int fd, const void *data, size_t n, int flags);
int __real_statfs64(const char *path, struct statfs *ret);
int __real_statvfs64(const char *path, struct statvfs *ret);
int __real_utimensat(int dir, const char *path, const struct timespec times[2], int flags);

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t n);
void *__wrap_reallocarray(void *old, size_t n, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t n);
int __wrap_vasprintf(char **ret, const char *format, va_list args);
char *__wrap_realpath(const char *path, char *resolved);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...);
DIR *__wrap_opendir(const char *path);
int __wrap_socket(int domain, int type, int protocol);
int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);
int __wrap_pipe2(int fds[2], int flags);
ssize_t __wrap_read(int fd, void *data, size_t n);
ssize_t __wrap_pread64(int fd, void *data, size_t n, off_t at);
ssize_t __wrap_readlink(const char *path, char *text, size_t n);
ssize_t __wrap_readlinkat(int dir, const char *path, char *text, size_t n);
int __wrap_fstat64(int fd, struct stat *ret);
int __wrap_lstat64(const char *path, struct stat *ret);
int __wrap_fstatat64(int dir, const char *path, struct stat *ret, int flags);
ssize_t __wrap_write(int fd, const void *data, size_t n);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t n, off_t at);
int __wrap_fsync(int fd);
int __wrap_access(const char *path, int mode);
int __wrap_stat64(const char *path, struct stat *ret);
int __wrap_mkostemp64(char *path, int flags);
int __wrap_fchmod(int fd, mode_t mode);
int __wrap_close(int fd);
int __wrap_rename(const char *from, const char *to);
int __wrap_renameat(int from_dir, const char *from, int to_dir, const char *to);
int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
int __wrap_link(const char *from, const char *to);
int __wrap_symlink(const char *text, const char *path);
int __wrap_symlinkat(const char *text, int dir, const char *path);
int __wrap_unlink(const char *path);
int __wrap_unlinkat(int dir, const char *path, int flags);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_scandir64(const char *dir, struct dirent ***ret, int (*wanted)(const struct dirent *),
                     int (*order)(const struct dirent **, const struct dirent **));
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*main)(void *), void *arg);
int __wrap_asprintf(char **ret, const char *format, ...);
int __wrap_bind(int fd, const struct sockaddr *addr, socklen_t len);
int __wrap_chmod(const char *path, mode_t mode);
int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t len);
int __wrap_faccessat(int dir, const char *path, int mode, int flags);
int __wrap_fallocate64(int fd, int mode, off_t at, off_t n);
int __wrap_fdatasync(int fd);
int __wrap_flock(int fd, int what);
int __wrap_fstatfs64(int fd, struct statfs *ret);
ssize_t __wrap_getdents64(int fd, void *entries, size_t n);
int __wrap_linkat(int from_dir, const char *from, int to_dir, const char *to, int flags);
int __wrap_listen(int fd, int n);
off_t __wrap_lseek64(int fd, off_t at, int whence);
char *__wrap_mkdtemp(char *path);
int __wrap_mkstemp64(char *path);
void *__wrap_mmap64(void *at, size_t n, int protection, int flags, int fd, off_t from);
struct dirent *__wrap_readdir64(DIR *dir);
ssize_t __wrap_recv(int fd, void *data, size_t n, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t n, int flags);
int __wrap_statfs64(const char *path, struct statfs *ret);
int __wrap_statvfs64(const char *path, struct statvfs *ret);
int __wrap_utimensat(int dir, const char *path, const struct timespec times[2], int flags);

#endif
