/* enqueue and push: intake does it, the session waits for the commit. */
#include "common/clock.h"
#include "daemon/server/internal.h"

static void on_enqueued(struct server_enqueue *req)
{
	struct session *s = CONTAINER_OF(req, struct session, work.enqueue);

	s->must_answer = false;
	if (!session_is_back(s))
		return;
	if (req->err.kind != ERROR_NONE) {
		session_fail(s, &req->err);
		return;
	}
	record_begin(&s->out, "ok");
	record_int(&s->out, "request", req->request_id);
	record_uint(&s->out, "new", req->n_new);
	if (!req->is_rooted)
		record_bool(&s->out, "rooted", false);
	record_end(&s->out);
	session_end(s);
}

void verb_enqueue(struct session *s)
{
	const struct server_config *config = &s->server->config;
	const struct request *req = &s->request;

	s->work.enqueue = (struct server_enqueue){
		.uid = s->peer.uid,
		.tag = req->tag,
		.derivation = req->derivation,
		.paths = req->paths,
		.n_paths = req->n_paths,
		.caches = s->caches,
		.push = req->verb == VERB_PUSH,
		.force = req->force,
	};
	s->must_answer = true;
	session_wait_for(s);
	config->enqueue(config->ctx, &s->work.enqueue, on_enqueued);
}
