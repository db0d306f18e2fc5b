#include <stdlib.h>

#include "daemon/backend/probe.h"
#include "daemon/http/fault.h"

struct probe {
	struct op_call head;
	struct s3_bucket *bucket;
	const char *store_dir;
	struct backend_op *op;
	struct buf text; /* as it was read */
	struct s3_request req;
};

static void probe_end(struct probe *probe, const struct error *err)
{
	struct backend_op *op = probe->op;

	if (err != NULL)
		op->err = *err;
	op->is_server_fault = err == &probe->req.err && probe->req.is_server_fault;
	op->call = NULL;
	s3_request_fini(&probe->req);
	buf_fini(&probe->text);
	free(probe);
	op->done(op);
}

static void on_put(struct s3_request *req)
{
	struct probe *probe = CONTAINER_OF(req, struct probe, req);

	if (req->err.kind != ERROR_CANCELED)
		probe_judge_put(probe->op->backend, req->http.status, &req->err);
	probe_end(probe, req->err.kind == ERROR_CANCELED ? &req->err : NULL);
}

static void put_start(struct probe *probe)
{
	probe->text = probe->req.http.answer;
	probe->req.http.answer = (struct buf){ 0 };
	s3_request_fini(&probe->req);
	probe->req.method = HTTP_PUT;
	probe->req.key = CACHE_INFO_KEY;
	probe->req.headers[0] = PROBE_TYPE;
	probe->req.headers[1] = PROBE_CONDITION;
	probe->req.n_headers = 2;
	probe->req.data = buf_text(&probe->text);
	probe->req.data_len = probe->text.len;
	probe->req.answer_max_bytes = KIB(64);
	s3_request_start(probe->bucket, &probe->req, on_put);
}

static void on_read(struct s3_request *req)
{
	struct probe *probe = CONTAINER_OF(req, struct probe, req);
	unsigned status = req->http.status;
	struct buf where;
	struct error err;
	int rc;

	if ((status == 404 || status == 403) && !req->is_server_fault && req->err.kind != ERROR_TRANSIENT) {
		if (status == 403)
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
	http_format_url(&where, req->url);
	rc = check_cache_info(buf_text(&where), buf_text(&req->http.answer), probe->store_dir, &err);
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

	s3_request_cancel(&probe->req);
}

void s3_probe_start(struct s3_bucket *bucket, const char *store_dir, struct backend *backend,
                    struct backend_op *op)
{
	struct probe *probe = calloc(1, sizeof(*probe));

	op_begin(backend, op);
	if (probe == NULL) {
		error_set(&op->err, ERROR_TRANSIENT, "out of memory");
		op_end_later(op);
		return;
	}
	probe->head.cancel = probe_cancel;
	probe->bucket = bucket;
	probe->store_dir = store_dir;
	probe->op = op;
	op->call = probe;
	probe->req.method = HTTP_GET;
	probe->req.key = CACHE_INFO_KEY;
	probe->req.answer_max_bytes = CACHE_INFO_MAX_BYTES;
	s3_request_start(bucket, &probe->req, on_read);
}
