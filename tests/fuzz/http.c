/* Whatever a server answers: a request ends once, its error is one plain line without credentials. */
#include "daemon/http/http.h"
#include "daemon/http/fault.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/server.h"

#define ANSWER_MAX 4096

/* An input is one of these lines, and then the answers to the connections made. */
static const char *const methods[] = { "GET", "HEAD", "PUT", "POST", "DELETE" };

static struct {
	struct loop loop;
	struct http *http;
	struct http_client *client;
	unsigned n_done;
	size_t etag_len;
} t;

static void on_done(struct http_request *req)
{
	const char *etag = http_get_header(req, "ETag");

	t.n_done++;
	t.etag_len = etag != NULL ? strlen(etag) : 0;
	loop_stop(&t.loop);
}

static void check(const struct http_request *req, const char *answers, size_t len)
{
	bool is_good = req->status >= 200 && req->status < 300;
	const char *method = http_method_name(req->method);

	MUST(t.n_done == 1);
	MUST(req->answer.len <= ANSWER_MAX && req->err.retry_after_s <= 86400);
	MUST(t.etag_len <= len);
	if (req->err.kind == ERROR_NONE) {
		MUST(is_good && req->err.text[0] == '\0');
		return;
	}
	MUST(fuzz_is_plain(req->err.text) && strchr(req->err.text, '\n') == NULL);
	MUST(strncmp(req->err.text, method, strlen(method)) == 0);
	MUST(strstr(req->err.text, " http://127.0.0.1/p: ") != NULL);
	/* The server may say the word itself. */
	MUST(memmem(answers, len, "secret", 6) != NULL || strstr(req->err.text, "secret") == NULL);
}

static void open_all(void)
{
	const struct http_options options = { .proxy = "" };
	struct error err;

	unsetenv("NIX_SSL_CERT_FILE");
	unsetenv("SSL_CERT_FILE");
	MUST(loop_init(&t.loop, &err) == 0);
	server_listen(&t.loop);
	MUST(http_open(&t.http, &t.loop, &err) == 0);
	MUST(http_client_open(&t.client, t.http, &options, &err) == 0);
}

static void run(enum http_method method, const char *answers, size_t len)
{
	struct http_request req = { .method = method,
		                    .url = "http://user:secret@127.0.0.1/p?signature=secret",
		                    .answer_max_bytes = ANSWER_MAX };

	if (method == HTTP_PUT || method == HTTP_POST) {
		req.data = "body";
		req.data_len = 4;
	}
	t.n_done = 0;
	server_set_answers(answers, len);
	http_start(t.client, &req, on_done);
	loop_run(&t.loop);
	server_hang_up();
	check(&req, answers, len);
	buf_fini(&req.answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size), *lf = strchr(text, '\n');

	if (t.http == NULL)
		open_all();
	if (lf != NULL) {
		*lf++ = '\0';
		for (size_t i = 0; i < N_ELEMENTS(methods); i++)
			if (strcmp(methods[i], text) == 0)
				run((enum http_method)i, lf, size - (size_t)(lf - text));
	}
	free(text);
	return 0;
}
