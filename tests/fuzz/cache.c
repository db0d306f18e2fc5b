/* Whatever a cache's server answers: each operation ends once, its error is one plain line. */
#include "daemon/backend/kind.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/server.h"

#define STORE  "/nix/store"
#define PATH   STORE "/00000000000000000000000000000000-x"
#define SECRET "cl0verleaf" /* no word of ours */
#define INFO   "StorePath: " PATH "\n"

/* An input is one of the lines "KIND OPERATION", and then the answers to the connections made. */
static const char *const kinds[] = { "http", "s3", "attic", "cachix" };
static const char *const operations[] = { "prepare", "find_info", "find_nar", "put_nar", "put_info" };

static const char settings[] = "[cache \"http\"]\nurl = http://127.0.0.1/c\nsign = no\n"
			       "[cache \"s3\"]\nurl = s3://bucket\nsign = no\nendpoint = http://127.0.0.1\n"
			       "[cache \"attic\"]\nurl = attic://127.0.0.1/c\nendpoint = http://127.0.0.1\n"
			       "[cache \"cachix\"]\nurl = cachix://c\nendpoint = http://127.0.0.1\n";

static char path[] = PATH;
static const struct path_info info = { .path = path, .nar_size = 1 };
static const struct backend_object object = { .info = &info,
	                                      .nar_key = "nar/0.nar.zst",
	                                      .compression = "zstd" };

static struct {
	struct loop loop;
	struct http *http;
	struct config *config;
	struct backend *backends[N_ELEMENTS(kinds)];
	struct body_pool *pool;
	struct body *body;
	unsigned n_done;
} t;

static void on_reserved(struct body_reserve *req)
{
	MUST(req->err.kind == ERROR_NONE);
	t.body = req->body;
	loop_stop(&t.loop);
}

static void make_body(void)
{
	struct body_reserve reserve = { 0 };
	struct error err;

	MUST(body_pool_open(&t.pool, &t.loop, MIB(8), "/tmp", MIB(8), &err) == 0);
	body_reserve_start(t.pool, &reserve, 100, on_reserved);
	loop_run(&t.loop);
	MUST(body_append(t.body, "packed", 6, &err) == 0);
	body_publish(t.body);
	body_end(t.body);
}

static void load_config(void)
{
	const struct config_places places = { .config_file = "/nowhere/nncache.conf" };
	struct buf mistakes;

	buf_init(&mistakes, KIB(64));
	MUST(config_load_text(&t.config, &places, "file", settings, sizeof(settings) - 1, false, &mistakes) ==
	     0);
}

static void open_backends(void)
{
	const struct http_options options = { .proxy = "", .token = SECRET }, without_token = { .proxy = "" };
	const struct cache_config *s3 = &t.config->caches[1], *attic = &t.config->caches[2];
	const struct cache_config *cachix = &t.config->caches[3];
	struct error err;

	setenv("AWS_ACCESS_KEY_ID", "id", 1);
	setenv("AWS_SECRET_ACCESS_KEY", SECRET, 1);
	MUST(http_backend_open(&t.backends[0], &t.loop, t.http, &options, t.config->caches[0].url, STORE,
	                       &err) == 0);
	MUST(s3_backend_open(&t.backends[1], &t.loop, t.http, &without_token, s3, STORE, &err) == 0);
	MUST(attic_backend_open(&t.backends[2], &t.loop, t.http, &options, attic, STORE, &err) == 0);
	MUST(cachix_backend_open(&t.backends[3], &t.loop, t.http, &options, cachix, STORE, &err) == 0);
}

static void open_all(void)
{
	struct error err;

	unsetenv("NIX_SSL_CERT_FILE");
	unsetenv("SSL_CERT_FILE");
	load_config();
	MUST(loop_init(&t.loop, &err) == 0);
	server_listen(&t.loop);
	make_body();
	MUST(http_open(&t.http, &t.loop, &err) == 0);
	open_backends();
}

static void on_done(struct backend_op *op)
{
	(void)op;
	t.n_done++;
	loop_stop(&t.loop);
}

static void start(struct backend *backend, const char *operation, struct backend_op *op)
{
	const struct backend_ops *ops = backend->ops;

	if (strcmp(operation, "prepare") == 0)
		ops->prepare_start(backend, op);
	else if (strcmp(operation, "find_info") == 0)
		ops->find_info_start(backend, op, PATH);
	else if (strcmp(operation, "find_nar") == 0)
		ops->find_nar_start(backend, op, &object);
	else if (strcmp(operation, "put_nar") == 0)
		ops->put_nar_start(backend, op, &object, t.body);
	else
		ops->put_info_start(backend, op, &object, INFO, strlen(INFO));
}

/* Cachix says where the parts of a NAR go. */
static bool names_what_failed(const struct backend *backend, const char *text)
{
	if (strstr(text, "http://127.0.0.1") != NULL)
		return true;
	return backend == t.backends[3] &&
	       (strstr(text, "PUT http") != NULL || strstr(text, "cachix://c:") != NULL ||
	        strstr(text, "part 1:") != NULL);
}

static void check(const struct backend *backend, const struct backend_op *op, const char *answers, size_t len)
{
	MUST(t.n_done == 1 && op->call == NULL);
	MUST(op->sent_bytes <= 1024);
	if (op->err.kind == ERROR_NONE)
		return;
	MUST(!op->found && fuzz_is_plain(op->err.text) && strchr(op->err.text, '\n') == NULL);
	MUST(names_what_failed(backend, op->err.text));
	MUST(memmem(answers, len, SECRET, strlen(SECRET)) != NULL || strstr(op->err.text, SECRET) == NULL);
}

static void run(struct backend *backend, const char *operation, const char *answers, size_t len)
{
	struct backend_op op = { .done = on_done };

	t.n_done = 0;
	server_set_answers(answers, len);
	start(backend, operation, &op);
	loop_run(&t.loop);
	server_hang_up();
	check(backend, &op, answers, len);
}

/* What lies behind the blank and has the name of an operation is done. */
static void run_line(struct backend *backend, const char *line, const char *answers, size_t len)
{
	for (size_t i = 0; i < N_ELEMENTS(operations); i++)
		if (strcmp(operations[i], line) == 0)
			run(backend, operations[i], answers, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size), *lf = strchr(text, '\n');

	if (t.http == NULL)
		open_all();
	if (lf != NULL) {
		*lf++ = '\0';
		for (size_t i = 0; i < N_ELEMENTS(kinds); i++) {
			size_t n = strlen(kinds[i]);

			if (strncmp(text, kinds[i], n) == 0 && text[n] == ' ')
				run_line(t.backends[i], text + n + 1, lf, size - (size_t)(lf - text));
		}
	}
	free(text);
	return 0;
}
