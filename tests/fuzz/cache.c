/* Whatever a cache's server answers: each operation ends once, its error is one plain line. */
#include "daemon/backend/kind.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/server.h"

#define STORE "/nix/store"
#define PATH  STORE "/00000000000000000000000000000000-x"
#define INFO  "StorePath: " PATH "\n"

/* An input is one of these lines, and then the answers to the connections made. */
static const char *const operations[] = { "prepare", "find_info", "find_nar", "put_nar", "put_info" };

static char path[] = PATH;
static const struct path_info info = { .path = path, .nar_size = 1 };
static const struct backend_object object = { .info = &info,
	                                      .nar_key = "nar/0.nar.zst",
	                                      .compression = "zstd" };

static struct {
	struct loop loop;
	struct http *http;
	struct backend *backend;
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

static void open_all(void)
{
	const struct http_options options = { .proxy = "", .token = "secret" };
	struct error err;

	unsetenv("NIX_SSL_CERT_FILE");
	unsetenv("SSL_CERT_FILE");
	MUST(loop_init(&t.loop, &err) == 0);
	server_listen(&t.loop);
	make_body();
	MUST(http_open(&t.http, &t.loop, &err) == 0);
	MUST(http_backend_open(&t.backend, &t.loop, t.http, &options, "http://127.0.0.1/c", STORE, &err) ==
	     0);
}

static void on_done(struct backend_op *op)
{
	(void)op;
	t.n_done++;
	loop_stop(&t.loop);
}

static void start(const char *operation, struct backend_op *op)
{
	const struct backend_ops *ops = t.backend->ops;

	if (strcmp(operation, "prepare") == 0)
		ops->prepare_start(t.backend, op);
	else if (strcmp(operation, "find_info") == 0)
		ops->find_info_start(t.backend, op, PATH);
	else if (strcmp(operation, "find_nar") == 0)
		ops->find_nar_start(t.backend, op, &object);
	else if (strcmp(operation, "put_nar") == 0)
		ops->put_nar_start(t.backend, op, &object, t.body);
	else
		ops->put_info_start(t.backend, op, &object, INFO, strlen(INFO));
}

static void check(const struct backend_op *op, const char *answers, size_t len)
{
	MUST(t.n_done == 1 && op->call == NULL);
	MUST(op->sent_bytes <= strlen(INFO));
	if (op->err.kind == ERROR_NONE)
		return;
	MUST(!op->found && fuzz_is_plain(op->err.text) && strchr(op->err.text, '\n') == NULL);
	MUST(strstr(op->err.text, "http://127.0.0.1/c/") != NULL);
	MUST(memmem(answers, len, "secret", 6) != NULL || strstr(op->err.text, "secret") == NULL);
}

static void run(const char *operation, const char *answers, size_t len)
{
	struct backend_op op = { .done = on_done };

	t.n_done = 0;
	server_set_answers(answers, len);
	start(operation, &op);
	loop_run(&t.loop);
	server_hang_up();
	check(&op, answers, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size), *lf = strchr(text, '\n');

	if (t.http == NULL)
		open_all();
	if (lf != NULL) {
		*lf++ = '\0';
		for (size_t i = 0; i < N_ELEMENTS(operations); i++)
			if (strcmp(operations[i], text) == 0)
				run(operations[i], lf, size - (size_t)(lf - text));
	}
	free(text);
	return 0;
}
