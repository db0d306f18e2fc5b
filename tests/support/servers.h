/* Servers for tests, on loopback: the Python cache with its faults, nginx with WebDAV. Each has a
 * scratch directory of its own, which goes with it. Failures end the test. */
#ifndef TESTS_SUPPORT_SERVERS_H
#define TESTS_SUPPORT_SERVERS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct test_server {
	pid_t pid;
	unsigned port;
	char dir[64];  /* scratch */
	char root[80]; /* where its objects lie */
	char log[80];
};

/* Makes a scratch directory below /tmp; DIR is 64 bytes. */
void scratch_make(char *dir);
void scratch_remove(const char *dir);
/* Runs COMMAND in a shell and wants 0. */
void run_command(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* EXTRA: more arguments for cache_server.py, NULL-ended; or NULL. */
void cache_server_start(struct test_server *server, const char *const *extra);
/* Its objects lie in root/BUCKET/KEY. */
void s3_server_start(struct test_server *server);
/* Each name that is asked for is a cache, whose objects lie in root/NAME; the token is "open-sesame". */
void attic_server_start(struct test_server *server);
void cachix_server_start(struct test_server *server);
/* A nix-daemon of the store "local?root=DIR", which is there already; its socket is DIR/nix-daemon. DIR is
 * from scratch_make, and goes with the server. */
void nix_daemon_start(struct test_server *server, const char *dir);
/* False: nginx is not installed. With CERT (a PEM with certificate and key) it speaks TLS and
 * HTTP/2. */
bool nginx_start(struct test_server *server, const char *cert);
void test_server_stop(struct test_server *server);

/* What the cache server noted: lines of JSON, for the caller to free. */
char *read_log(const struct test_server *server);
size_t count_lines_with(const char *text, const char *word);
bool server_has(const struct test_server *server, const char *key);

/* A CA and what it signed, in DIR: ca.pem, server.pem (for 127.0.0.1 and localhost), client.pem (certificate
 * and key in one), other-ca.pem (signed nothing). */
void certificates_make(const char *dir);

#endif
