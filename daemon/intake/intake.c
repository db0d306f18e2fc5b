/* A hand-over: the queue's row and the daemon's roots are made side by side, and done() waits for both.
 * A push comes the other way round, since nobody protects its paths: first a temporary root, then the
 * question whether each is valid, then the roots, then the row. */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/log.h"
#include "common/store_path.h"
#include "daemon/intake/parts.h"

static void handover_end(struct intake_handover *h)
{
	struct intake *intake = h->intake;

	*h->at = h->next;
	if (h->next != NULL)
		h->next->at = h->at;
	h->request_id = h->add.request_id;
	h->n_new = h->add.n_new;
	free(h->add_paths);
	free(h->is_valid);
	free(h->had_root);
	h->add_paths = NULL;
	h->is_valid = h->had_root = NULL;
	crash_point(INTAKE_TAKEN);
	h->done(h);
	intake_maybe_closed(intake);
}

static bool hands_over(const struct intake_handover *h, const char *path)
{
	for (size_t i = 0; i < h->roots_add.n_paths; i++)
		if (strcmp(h->roots_add.paths[i], path) == 0)
			return true;
	return false;
}

/* Is PATH on its way, but for EXCEPT (or NULL)? */
static bool is_on_its_way(const struct intake *intake, const char *path, const struct intake_handover *except)
{
	for (const struct intake_handover *h = intake->handovers; h != NULL; h = h->next)
		if (h != except && hands_over(h, path))
			return true;
	return resolve_protects(&intake->resolve, path);
}

bool intake_was_given_up(const struct intake *intake, const struct queue_explained *found)
{
	return found->is_wanted && !found->is_protected && intake->spool.n_waiting == 0;
}

void intake_remove_unprotected(struct intake *intake, const struct queue_explain *explain,
                               const struct intake_handover *except)
{
	for (size_t i = 0; i < explain->n_paths; i++)
		if ((!explain->found[i].is_wanted || intake_was_given_up(intake, &explain->found[i])) &&
		    !is_on_its_way(intake, explain->paths[i], except))
			roots_remove(intake->roots, explain->paths[i]);
}

static void unwait(struct intake_handover *h);

static void on_explained(struct queue_op *op)
{
	struct intake_handover *h = CONTAINER_OF(op, struct intake_handover, explain.op);
	struct intake *intake = h->intake;

	/* What was there before is somebody else's, as of what waits in the spool. */
	for (size_t i = 0; h->err.kind != ERROR_NONE && i < h->explain.n_paths; i++)
		if (h->had_root[i])
			h->explain.found[i].is_wanted = h->explain.found[i].is_protected = true;
	if (op->err.kind == ERROR_NONE)
		intake_remove_unprotected(intake, &h->explain, h);
	queue_op_fini(op);
	free(h->explain.found);
	unwait(h);
}

/* Its request can be done before its root is made, where all is on the caches: then the release found it on
 * its way, and nobody would take the root away. Nor is there a request if the queue could not take a push in;
 * a sweep would then take its root for one of which nothing is known any more, and send it to all caches.
 * Without memory the next sweep sees to it. */
static bool explain(struct intake_handover *h)
{
	size_t n = h->roots_add.n_paths;
	struct queue_explained *found = calloc(n, sizeof(*found));

	if (found == NULL)
		return false;
	h->was_released = false; /* what is released from now on is asked once more */
	h->n_waits++;
	h->explain = (struct queue_explain){
		.op.verb = QUEUE_EXPLAIN,
		.paths = h->roots_add.paths,
		.n_paths = n,
		.found = found,
	};
	queue_start(h->intake->queue, &h->explain.op, on_explained);
	return true;
}

static void unwait(struct intake_handover *h)
{
	bool keeps_root = h->err.kind != ERROR_NONE && h->had_root == NULL;

	if (--h->n_waits == 0 && !(h->was_released && !keeps_root && explain(h)))
		handover_end(h);
}

/* H has failed, and is tried again out of the spool, or by a sweep. Its roots may be the only ones of its
 * paths. */
static void leave_roots(const struct intake_handover *h)
{
	for (struct intake_handover *other = h->intake->handovers; other != NULL; other = other->next)
		for (size_t i = 0; other->had_root != NULL && i < other->roots_add.n_paths; i++)
			other->had_root[i] |= hands_over(h, other->roots_add.paths[i]);
}

static void on_added(struct queue_op *op)
{
	struct intake_handover *h = CONTAINER_OF(op, struct intake_handover, add.op);

	crash_point(INTAKE_ADDED);
	if (op->err.kind != ERROR_NONE) {
		h->err = op->err;
		h->was_released = true;
		if (h->had_root == NULL)
			leave_roots(h);
	}
	queue_op_fini(op);
	unwait(h);
}

static void add(struct intake_handover *h)
{
	h->n_waits++;
	h->add.op.verb = QUEUE_ADD;
	queue_start(h->intake->queue, &h->add.op, on_added);
}

void intake_tell_roots(struct intake *intake)
{
	bool has_message = roots_message(intake->roots) != NULL;

	if (has_message == intake->has_roots_message)
		return;
	intake->has_roots_message = has_message;
	intake->on_news(intake->ctx);
}

/* Told once, until the roots are there. */
static void note_unrooted(struct intake *intake, const struct error *err)
{
	if (!intake->sweep.lacks_roots && err->kind != ERROR_CANCELED)
		log_warning("a root could not be made: %s, trying again at the next sweep", err->text);
	intake->sweep.lacks_roots = true;
}

/* That a root could not be made does not keep a path out: it is queued, status says that it is not
 * protected, and the root is tried again. Who handed it over is told, and keeps a root of its own. */
static void on_rooted(struct roots_add *roots_add)
{
	struct intake_handover *h = CONTAINER_OF(roots_add, struct intake_handover, roots_add);

	crash_point(INTAKE_ROOTED);
	h->is_rooted = roots_add->err.kind == ERROR_NONE;
	if (!h->is_rooted)
		note_unrooted(h->intake, &roots_add->err);
	intake_tell_roots(h->intake);
	for (size_t i = 0; h->push && roots_add->err.kind == ERROR_NONE && i < roots_add->n_paths; i++)
		if (!h->is_valid[i]) {
			error_set(&h->err, ERROR_PERMANENT, "%s is not valid in the store",
			          roots_add->paths[i]);
			break;
		}
	if (h->push && h->err.kind == ERROR_NONE)
		add(h);
	unwait(h);
}

static int prepare(struct intake_handover *h, const struct intake *intake)
{
	int64_t now = clock_unix_s();
	bool only_derivation = h->n_paths == 0, leaves_nothing = h->push && !h->is_spooled;
	size_t n = only_derivation ? 1 : h->n_paths;

	h->add_paths = calloc(n, sizeof(h->add_paths[0]));
	h->is_valid = h->push ? calloc(n, sizeof(bool)) : NULL;
	h->had_root = leaves_nothing ? calloc(n, sizeof(bool)) : NULL;
	if (h->add_paths == NULL || (h->push && h->is_valid == NULL) ||
	    (leaves_nothing && h->had_root == NULL))
		return error_set(&h->err, ERROR_TRANSIENT, "out of memory");
	for (size_t i = 0; i < n; i++) {
		const char *path = only_derivation ? h->derivation : h->paths[i];

		h->add_paths[i] = (struct queue_add_path){
			.path = path,
			.rank = policy_rank(intake->policy, path, now),
			.is_derivation = only_derivation,
		};
		if (h->had_root != NULL)
			h->had_root[i] = roots_has_name(intake->roots, store_path_base(path));
	}
	h->add = (struct queue_add){
		.now_unix_s = now,
		.uid = h->uid,
		.tag = h->tag,
		.derivation = h->derivation,
		.paths = h->add_paths,
		.n_paths = n,
		.caches = h->caches,
		.force = h->force,
	};
	/* A derivation stays until its outputs have taken its place: without it nobody could name them. */
	h->roots_add = (struct roots_add){ .paths = only_derivation ? &h->derivation : h->paths,
		                           .n_paths = n,
		                           .is_valid = h->is_valid };
	return 0;
}

static void on_not_begun(struct loop_post *post)
{
	handover_end(CONTAINER_OF(post, struct intake_handover, post));
}

void intake_start(struct intake *intake, struct intake_handover *h, intake_done_fn done)
{
	h->intake = intake;
	h->done = done;
	h->err = (struct error){ 0 };
	h->next = intake->handovers;
	h->at = &intake->handovers;
	if (h->next != NULL)
		h->next->at = &h->next;
	intake->handovers = h;
	h->n_waits = 0;
	h->was_released = false;
	if (prepare(h, intake) < 0) {
		loop_post(intake->loop, &h->post, on_not_begun);
		return;
	}
	if (!h->push)
		add(h);
	h->n_waits++;
	roots_add_start(intake->roots, &h->roots_add, on_rooted);
}

bool intake_is_on_its_way(const struct intake *intake, const char *path)
{
	return is_on_its_way(intake, path, NULL);
}

/* A path that is just being handed over again keeps its root: it is released once more when that request is
 * done, or was it that one already. */
static bool keeps_root(struct intake *intake, const char *path)
{
	for (struct intake_handover *h = intake->handovers; h != NULL; h = h->next)
		if (hands_over(h, path))
			h->was_released = true;
	return is_on_its_way(intake, path, NULL);
}

void intake_released(struct intake *intake, char *const *paths, size_t n_paths)
{
	intake->sweep.was_released = true;
	for (size_t i = 0; i < n_paths; i++)
		if (!keeps_root(intake, paths[i]))
			roots_remove(intake->roots, paths[i]);
	crash_point(ROOTS_GONE);
}

void intake_take_no_more(struct intake *intake)
{
	intake->takes_no_more = true;
}

void intake_poke(struct intake *intake)
{
	resolve_poke(intake);
}

uint64_t intake_n_bad_spool_files(const struct intake *intake)
{
	return intake->spool.n_bad;
}

uint64_t intake_n_unknown_roots(const struct intake *intake)
{
	return intake->sweep.n_unknown;
}

const char *intake_spool_message(const struct intake *intake)
{
	return *intake->spool.message != '\0' ? intake->spool.message : NULL;
}

uint64_t intake_n_spool_files(const struct intake *intake)
{
	return intake->spool.n_waiting;
}

int intake_open(struct intake **ret, const struct intake_config *config, struct error *err)
{
	struct intake *intake = calloc(1, sizeof(*intake));

	if (intake == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	intake->loop = config->loop;
	intake->queue = config->queue;
	intake->store = config->store;
	intake->roots = config->roots;
	intake->config = config->config;
	intake->policy = config->policy;
	intake->targets = config->targets;
	intake->resolves = config->resolves;
	intake->on_starting = config->on_starting;
	intake->on_ready = config->on_ready;
	intake->on_news = config->on_news;
	intake->has_roots_message = roots_message(config->roots) != NULL;
	intake->ctx = config->ctx;
	memcpy(intake->upstreams, config->upstreams, sizeof(intake->upstreams));
	*ret = intake;
	resolve_open(intake);
	spool_open(intake);
	sweep_open(intake);
	return 0;
}

static void on_close_turn(struct loop_post *post)
{
	struct intake *intake = CONTAINER_OF(post, struct intake, close_post);
	lane_closed_fn closed = intake->closed;
	void *ctx = intake->closed_ctx;

	info_cache_fini(&intake->resolve.infos);
	sweep_fini(&intake->sweep);
	free(intake);
	if (closed != NULL)
		closed(ctx);
}

void intake_maybe_closed(struct intake *intake)
{
	if (!intake->closing || intake->n_handles > 0 || intake->handovers != NULL ||
	    intake->spool.n_running > 0 || sweep_is_busy(&intake->sweep) || resolve_is_busy(&intake->resolve))
		return;
	loop_post(intake->loop, &intake->close_post, on_close_turn);
}

void intake_close(struct intake *intake, lane_closed_fn closed, void *ctx)
{
	if (intake == NULL)
		return;
	intake->closing = true;
	intake->closed = closed;
	intake->closed_ctx = ctx;
	resolve_close(intake);
	spool_close(intake);
	sweep_close(intake);
}
