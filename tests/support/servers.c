#include "tests/support/servers.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/attr.h"
#include "tests/unit/test.h"

static void wait_ms(long ms)
{
	nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 }, NULL);
}

void run_command(const char *format, ...)
{
	char command[4096];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (system(command) != 0)
		fail_msg("failed: %s", command);
}

void scratch_make(char *dir)
{
	strcpy(dir, "/tmp/nncache-test-XXXXXX");
	assert_non_null(mkdtemp(dir));
}

void scratch_remove(const char *dir)
{
	run_command("rm -rf '%s'", dir);
}

static void server_prepare(struct test_server *server)
{
	memset(server, 0, sizeof(*server));
	scratch_make(server->dir);
	snprintf(server->root, sizeof(server->root), "%s/root", server->dir);
	snprintf(server->log, sizeof(server->log), "%s/log", server->dir);
	run_command("mkdir '%s' && : > '%s'", server->root, server->log);
}

/* Starts ARGV; its standard output is *RET_OUT, unless that is NULL. */
static pid_t spawn(const char *const *argv, int *ret_out)
{
	int out[2];
	pid_t pid;

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(out[1], 1);
		prctl(PR_SET_PDEATHSIG, SIGTERM); /* a failed test leaves none behind */
		execvp(argv[0], (char *const *)(void *)(size_t)argv);
		_exit(127);
	}
	close(out[1]);
	if (ret_out != NULL)
		*ret_out = out[0];
	else
		close(out[0]);
	return pid;
}

static void python_start(struct test_server *server, const char *script, const char *const *extra)
{
	const char *argv[20] = { "python3", script, "--root", NULL, "--log" };
	size_t n = 6;
	char line[256] = ""; /* begins with the port */
	int out;

	server_prepare(server);
	argv[3] = server->root;
	argv[5] = server->log;
	for (; extra != NULL && *extra != NULL && n < N_ELEMENTS(argv) - 1; extra++)
		argv[n++] = *extra;
	server->pid = spawn(argv, &out);
	for (size_t len = 0; strchr(line, '\n') == NULL; len++) {
		assert_true(len < sizeof(line) - 1);
		assert_int_equal(read(out, line + len, 1), 1);
	}
	server->port = (unsigned)atoi(line);
	close(out);
}

void cache_server_start(struct test_server *server, const char *const *extra)
{
	python_start(server, TEST_SUPPORT_DIR "/cache_server.py", extra);
}

void s3_server_start(struct test_server *server)
{
	python_start(server, TEST_SUPPORT_DIR "/s3_server.py", NULL);
}

void attic_server_start(struct test_server *server)
{
	python_start(server, TEST_SUPPORT_DIR "/attic_server.py", NULL);
}

void cachix_server_start(struct test_server *server)
{
	python_start(server, TEST_SUPPORT_DIR "/cachix_server.py", NULL);
}

/* A port that was free a moment ago. */
static unsigned find_port(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	close(fd);
	return ntohs(at.sin_port);
}

static bool is_listening(unsigned port)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
		                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		                  .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool is = connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0;

	close(fd);
	return is;
}

static void write_nginx_conf(const struct test_server *server, const char *conf, const char *cert)
{
	FILE *f = fopen(conf, "w");

	assert_non_null(f);
	fprintf(f,
	        "daemon off; worker_processes 1; pid %s/pid; error_log %s/error; user root;\n"
	        "events { worker_connections 512; }\n"
	        "http {\n"
	        "	log_format line '$request_method $uri $status $server_protocol $connection';\n"
	        "	access_log %s line; client_max_body_size 0; client_body_temp_path %s/body;\n"
	        "	proxy_temp_path %s/t1; fastcgi_temp_path %s/t2; uwsgi_temp_path %s/t3; "
	        "scgi_temp_path %s/t4;\n"
	        "	server {\n"
	        "		listen 127.0.0.1:%u%s; root %s;\n",
	        server->dir, server->dir, server->log, server->dir, server->dir, server->dir, server->dir,
	        server->dir, server->port, cert != NULL ? " ssl http2" : "", server->root);
	if (cert != NULL)
		fprintf(f, "		ssl_certificate %s; ssl_certificate_key %s;\n", cert, cert);
	fprintf(f, "		location / { dav_methods PUT; create_full_put_path on; dav_access all:r "
	           "user:rw; }\n"
	           "	}\n"
	           "}\n");
	assert_int_equal(fclose(f), 0);
}

bool nginx_start(struct test_server *server, const char *cert)
{
	char conf[96];
	const char *argv[] = { "nginx", "-p", server->dir, "-e", "error", "-c", conf, NULL };

	if (system("command -v nginx > /dev/null") != 0)
		return false;
	server_prepare(server);
	run_command("chmod 711 '%s'", server->dir);
	server->port = find_port();
	snprintf(conf, sizeof(conf), "%s/nginx.conf", server->dir);
	write_nginx_conf(server, conf, cert);
	server->pid = spawn(argv, NULL);
	for (int i = 0; !is_listening(server->port); i++) {
		assert_true(i < 500);
		wait_ms(10);
	}
	return true;
}

static bool is_serving(const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool is;

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	is = connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0;
	close(fd);
	return is;
}

void nix_daemon_start(struct test_server *server, const char *dir)
{
	char store[128], socket_is[128], config[128], home[128];
	const char *argv[] = { "env",  "-u", "LISTEN_FDS", store, socket_is,
		               config, home, "sh",         "-c",  "exec nix-daemon 2> \"$HOME/log\"",
		               NULL };

	memset(server, 0, sizeof(*server));
	snprintf(server->dir, sizeof(server->dir), "%s", dir);
	snprintf(store, sizeof(store), "NIX_REMOTE=local?root=%s", dir);
	snprintf(socket_is, sizeof(socket_is), "NIX_DAEMON_SOCKET_PATH=%s/nix-daemon", dir);
	snprintf(config, sizeof(config), "NIX_CONF_DIR=%s", dir);
	snprintf(home, sizeof(home), "HOME=%s", dir);
	server->pid = spawn(argv, NULL);
	for (int i = 0; !is_serving(strchr(socket_is, '=') + 1); i++) {
		assert_true(i < 500);
		wait_ms(10);
	}
}

void test_server_stop(struct test_server *server)
{
	kill(server->pid, SIGTERM);
	waitpid(server->pid, NULL, 0);
	scratch_remove(server->dir);
}

char *read_log(const struct test_server *server)
{
	FILE *f = fopen(server->log, "r");
	char *text = calloc(1, 4 << 20);
	size_t n;

	assert_non_null(f);
	assert_non_null(text);
	n = fread(text, 1, (4 << 20) - 1, f);
	assert_true(n < (4 << 20) - 1);
	fclose(f);
	return text;
}

size_t count_lines_with(const char *text, const char *word)
{
	size_t n = 0;

	while ((text = strstr(text, word)) != NULL) {
		n++;
		text += strcspn(text, "\n");
	}
	return n;
}

bool server_has(const struct test_server *server, const char *key)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", server->root, key);
	return access(path, F_OK) == 0;
}

void certificates_make(const char *dir)
{
	run_command(
		"cd '%s' && exec 2> openssl.log\n"
		"ca() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
		"-subj \"/CN=$1\" -keyout \"$1.key\" -out \"$1.pem\"; }\n"
		"leaf() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj \"/CN=$1\" "
		"-keyout \"$1.key\" -out \"$1.csr\" && "
		"printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\\n' > ext && "
		"openssl x509 -req -in \"$1.csr\" -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
		"-extfile ext -out \"$1.crt\" && cat \"$1.crt\" \"$1.key\" > \"$1.pem\"; }\n"
		"ca ca && ca other-ca && leaf server && leaf client",
		dir);
}
