#include "daemon/backend/probe.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/http/fault.h"

struct probe {
	struct op_call head;
	struct http_client *client;
	const char *store_dir;
	struct backend_op *op;
	char *url;
	struct buf text; /* as it was read */
	struct http_request req;
};

void probe_judge_put(struct backend *backend, unsigned status, const struct error *err)
{
	struct backend_announced *announced = &backend->announced;

	announced->write_err = *err;
	if (status == 412 || err->kind == ERROR_NONE) {
		announced->may_write = MAY_WRITE_YES;
		announced->write_err = (struct error){ 0 };
	} else if (status == 401 || status == 403 || status == 405) {
		announced->may_write = MAY_WRITE_NO;
	}
}

static void probe_end(struct probe *probe, const struct error *err)
{
	struct backend_op *op = probe->op;

	if (err != NULL)
		op->err = *err;
	op->is_server_fault = err == &probe->req.err && probe->req.is_server_fault;
	op->call = NULL;
	buf_fini(&probe->req.answer);
	buf_fini(&probe->text);
	free(probe->url);
	free(probe);
	op->done(op);
}

static void on_put(struct http_request *req)
{
	struct probe *probe = CONTAINER_OF(req, struct probe, req);

	if (req->err.kind == ERROR_CANCELED) {
		probe_end(probe, &req->err);
		return;
	}
	/* A login page is no consent. */
	if (req->err.kind != ERROR_NONE || *buf_text(&req->answer) != '<')
		probe_judge_put(probe->op->backend, req->status, &req->err);
	probe_end(probe, NULL);
}

static void put_start(struct probe *probe)
{
	static const char *const headers[] = { PROBE_TYPE, PROBE_CONDITION };

	probe->text = probe->req.answer;
	probe->req = (struct http_request){
		.method = HTTP_PUT,
		.url = probe->url,
		.headers = headers,
		.n_headers = N_ELEMENTS(headers),
		.data = buf_text(&probe->text),
		.data_len = probe->text.len,
		.answer_max_bytes = KIB(64),
	};
	http_start(probe->client, &probe->req, on_put);
}

static void on_read(struct http_request *req)
{
	struct probe *probe = CONTAINER_OF(req, struct probe, req);
	struct buf where;
	struct error err;
	int rc;

	if (req->status == 404 || req->status == 410 || req->status == 403) {
		if (req->status == 403)
			probe->op->backend->announced.write_err = req->err;
		probe_end(probe, NULL);
		return;
	}
	if (req->err.kind != ERROR_NONE) {
		probe_end(probe, &req->err);
		return;
	}
	buf_init(&where, KIB(8));
	buf_puts(&where, "GET ");
	http_format_url(&where, probe->url);
	rc = check_cache_info(buf_text(&where), buf_text(&req->answer), probe->store_dir, &err);
	buf_fini(&where);
	if (rc < 0) {
		probe_end(probe, &err);
		return;
	}
	probe->op->found = true;
	put_start(probe);
}

static void probe_cancel(struct backend_op *op)
{
	struct probe *probe = op->call;

	http_cancel(&probe->req);
}

void http_probe_start(struct http_client *client, const char *base_url, const char *store_dir,
                      struct backend *backend, struct backend_op *op)
{
	struct probe *probe = calloc(1, sizeof(*probe));

	op_begin(backend, op);
	if (probe == NULL || (probe->url = http_join_url(base_url, CACHE_INFO_KEY)) == NULL) {
		free(probe);
		error_set(&op->err, ERROR_TRANSIENT, "out of memory");
		op_end_later(op);
		return;
	}
	probe->head.cancel = probe_cancel;
	probe->client = client;
	probe->store_dir = store_dir;
	probe->op = op;
	op->call = probe;
	probe->req.method = HTTP_GET;
	probe->req.url = probe->url;
	probe->req.answer_max_bytes = CACHE_INFO_MAX_BYTES;
	http_start(client, &probe->req, on_read);
}
