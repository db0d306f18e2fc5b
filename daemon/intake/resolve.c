/* Resolve: from a root to one job per path of its closure and cache.
 *
 * The happy path: claim a batch of roots, lowest rank first; discover their closures as one graph, in
 * rounds: which of these does every cache have already (the queue's presence), what does Nix know of the
 * others (the store); then for every root its part of the graph in pages, references first, and when its
 * pages are in the queue, the end of the root.
 *
 * Failure modes: a derivation whose outputs are not known yet is asked about first and put in the place
 * of its outputs; a store that cannot be reached puts the whole batch off; a path that is not valid fails
 * the roots that need it; a queue that cannot write puts the root off, and if even that cannot be
 * written, it is tried again here. Only one batch is on its way at a time. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/log.h"
#include "common/store_path.h"
#include "daemon/intake/parts.h"
#include "daemon/intake/walk.h"
#include "daemon/plan/backoff.h"

#define BATCH_MAX      128
#define ASK_MAX        256
#define WRITE_RETRY_MS 5000

struct batch_root {
	struct walk_batch *batch;
	struct queue_root root;
	uint32_t node;
	uint64_t caches;  /* after the filters */
	struct error err; /* of a page, or of the walk */
	struct store_outputs_query outputs;
	struct roots_add add;
	struct queue_expand_root expand;
	struct queue_add_path *expand_paths;
	struct queue_end_root end;
	struct timer retry;
	bool has_ended; /* end and retry are in use */
};

struct page {
	struct queue_page op;
	struct batch_root *owner;
	struct queue_node nodes[];
};

struct walk_batch {
	struct intake *intake;
	struct walk graph;
	struct batch_root *roots;
	size_t n_roots;
	size_t n_waits; /* callbacks still to come */
	size_t n_pages; /* on their way */
	bool lacks_page;
	uint64_t all_caches;
	bool is_whole; /* nothing is left out for being there */
	int64_t now_unix_s;

	/* one round of discovery: the nodes first .. first + n */
	uint32_t first, n;
	const char *paths[ASK_MAX];
	uint64_t present[ASK_MAX];
	struct queue_presence presence;
	const char *ask_paths[ASK_MAX];
	uint32_t ask_nodes[ASK_MAX];
	struct path_info infos[ASK_MAX];
	struct store_info_query query;
};

static void discover(struct walk_batch *batch);
static void end_roots(struct walk_batch *batch);
static void end_root(struct batch_root *r, enum root_state state, const char *text,
                     int64_t not_before_unix_s);

/* ---- the end of the batch ---------------------------------------------------------------------------- */

static void batch_free(struct walk_batch *batch)
{
	for (size_t i = 0; i < batch->n_roots; i++)
		free(batch->roots[i].root.path);
	walk_fini(&batch->graph);
	free(batch->roots);
	free(batch);
}

static void batch_maybe_end(struct walk_batch *batch)
{
	struct intake *intake = batch->intake;

	if (batch->n_waits > 0)
		return;
	batch_free(batch);
	intake->resolve.batch = NULL;
	intake_maybe_closed(intake);
	if (!intake->closing)
		resolve_poke(intake);
}

static void batch_unwait(struct walk_batch *batch)
{
	batch->n_waits--;
	batch_maybe_end(batch);
}

static void on_timer_closed(struct timer *timer)
{
	batch_unwait(CONTAINER_OF(timer, struct batch_root, retry)->batch);
}

static void on_ended(struct queue_op *op)
{
	struct batch_root *r = CONTAINER_OF(op, struct batch_root, end.op);
	struct intake *intake = r->batch->intake;

	crash_point(RESOLVE_ENDED);
	if (op->err.kind != ERROR_NONE && !intake->closing) {
		timer_set(&r->retry, WRITE_RETRY_MS);
		return;
	}
	if (r->end.n_released > 0)
		intake_released(intake, r->end.released, r->end.n_released);
	queue_op_fini(op);
	timer_close(&r->retry, on_timer_closed);
}

static void on_end_again(struct timer *timer)
{
	struct batch_root *r = CONTAINER_OF(timer, struct batch_root, retry);

	queue_start(r->batch->intake->queue, &r->end.op, on_ended);
}

static void end_root(struct batch_root *r, enum root_state state, const char *text, int64_t not_before_unix_s)
{
	timer_init(&r->retry, r->batch->intake->loop, on_end_again);
	r->has_ended = true;
	r->batch->n_waits++;
	r->end = (struct queue_end_root){
		.op.verb = QUEUE_END_ROOT,
		.now_unix_s = clock_unix_s(),
		.root_id = r->root.id,
		.state = state,
		.text = text,
		.not_before_unix_s = not_before_unix_s,
	};
	queue_start(r->batch->intake->queue, &r->end.op, on_ended);
}

/* A root that cannot go on now, or never: R->err says why. */
static void put_off(struct batch_root *r)
{
	uint64_t delay_s;

	if (r->err.kind == ERROR_PERMANENT) {
		log_error("path cannot be resolved path=%s: %s", store_path_base(r->root.path), r->err.text);
		end_root(r, ROOT_FAILED, r->err.text, 0);
		return;
	}
	delay_s = backoff_delay_s(r->root.attempts, (uint64_t)r->root.id * 2654435761u, 0);
	log_warning("path cannot be resolved path=%s: %s, retrying in %" PRIu64 "s",
	            store_path_base(r->root.path), r->err.text, delay_s);
	end_root(r, ROOT_RESOLVING, r->err.text, clock_unix_s() + (int64_t)delay_s);
}

static void put_off_all(struct walk_batch *batch, const struct error *err)
{
	batch->n_waits++;
	for (size_t i = 0; i < batch->n_roots; i++)
		if (!batch->roots[i].root.is_derivation) {
			batch->roots[i].err = *err;
			put_off(&batch->roots[i]);
		}
	batch_unwait(batch);
}

/* ---- pages ------------------------------------------------------------------------------------------- */

static void page_is_in(struct walk_batch *batch)
{
	if (--batch->n_pages > 0)
		return;
	end_roots(batch);
	batch_unwait(batch);
}

static void on_page(struct queue_op *op)
{
	struct page *page = CONTAINER_OF(op, struct page, op.op);
	struct batch_root *r = page->owner;

	crash_point(RESOLVE_PAGED);
	if (op->err.kind != ERROR_NONE) {
		r->err = op->err;
		r->batch->lacks_page = true;
	}
	queue_op_fini(op);
	free(page);
	page_is_in(r->batch);
}

static uint64_t withheld_bits(const struct intake *intake, const struct path_info *info, uint64_t caches)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < intake->config->n_caches; i++)
		if ((caches >> i & 1) && policy_withholds(intake->policy, i, info->path, info->nar_size))
			bits |= UINT64_C(1) << i;
	return bits;
}

static void fill_node(struct queue_node *ret, const struct batch_root *r, uint32_t number)
{
	const struct intake *intake = r->batch->intake;
	const struct walk_node *node = &r->batch->graph.nodes[number];
	int64_t own = policy_rank(intake->policy, node->path, r->root.enqueued_unix_s);
	uint64_t caches = r->root.force ? r->caches : r->caches & ~node->satisfied;

	*ret = (struct queue_node){
		.info = &node->info,
		.rank = own < r->root.rank ? own : r->root.rank,
		.layer = node->layer,
		.caches = caches,
		.ask_first = withheld_bits(intake, &node->info, caches),
		.is_root = node->is_root, /* maybe of another root of the batch, whose pages leave it out */
	};
}

static bool post_page(struct batch_root *r, const uint32_t *order, size_t n)
{
	struct page *page = calloc(1, sizeof(*page) + n * sizeof(page->nodes[0]));

	if (page == NULL)
		return false;
	page->owner = r;
	for (size_t i = 0; i < n; i++)
		fill_node(&page->nodes[i], r, order[i]);
	page->op = (struct queue_page){
		.op.verb = QUEUE_PAGE,
		.now_unix_s = clock_unix_s(),
		.root_id = r->root.id,
		.force = r->root.force,
		.nodes = page->nodes,
		.n_nodes = n,
	};
	r->batch->n_pages++;
	queue_start(r->batch->intake->queue, &page->op.op, on_page);
	return true;
}

/* Uploaded and collected before it came up here, out of the spool for one: then it is done. Not if it is
 * looked at for something that is missing below it: that is then gone, too, and nobody can mend it. */
static bool is_gone_but_there(const struct batch_root *r)
{
	const struct walk_node *node = &r->batch->graph.nodes[r->node];

	return !node->is_known && !r->root.force && !r->root.is_deep && (r->caches & ~node->seen) == 0;
}

static void enqueue_root(struct batch_root *r, uint32_t *order)
{
	int64_t n =
		is_gone_but_there(r) ? 0 : walk_order(&r->batch->graph, r->node, r->caches, order, &r->err);

	for (int64_t at = 0; at < n; at += QUEUE_PAGE_MAX)
		if (!post_page(r, order + at, (size_t)(n - at < QUEUE_PAGE_MAX ? n - at : QUEUE_PAGE_MAX))) {
			error_set(&r->err, ERROR_TRANSIENT, "out of memory");
			r->batch->lacks_page = true;
		}
}

static const char *why_withheld(const struct batch_root *r)
{
	if ((r->root.caches & r->batch->intake->targets) == 0)
		return "withheld, its caches are only read: push = no, or auto without credentials";
	return "withheld by exclude-roots or include-roots of every cache";
}

/* Roots share pages: with one of them lost, none of the batch is known to have all of its closure queued. */
static void end_roots(struct walk_batch *batch)
{
	for (size_t i = 0; i < batch->n_roots; i++) {
		struct batch_root *r = &batch->roots[i];

		if (r->root.is_derivation)
			continue;
		if (batch->lacks_page && r->err.kind == ERROR_NONE)
			error_set(&r->err, ERROR_TRANSIENT,
			          "what it shares with another path was not queued");
		if (r->err.kind != ERROR_NONE)
			put_off(r);
		else if (r->caches == 0)
			end_root(r, ROOT_WITHHELD, why_withheld(r), 0);
		else
			end_root(r, ROOT_QUEUED, NULL, 0);
	}
}

/* What a forced root shares with others is in its own pages again, which say so. */
static void enqueue_all(struct walk_batch *batch)
{
	uint32_t *order = calloc(batch->graph.n_nodes + 1, sizeof(order[0]));
	struct error err;

	if (order == NULL) {
		error_set(&err, ERROR_TRANSIENT, "out of memory");
		put_off_all(batch, &err);
		return;
	}
	batch->n_waits++;
	batch->n_pages = 1; /* until all are posted */
	for (int forced = 0; forced <= 1; forced++) {
		walk_start_over(&batch->graph);
		for (size_t i = 0; i < batch->n_roots; i++) {
			struct batch_root *r = &batch->roots[i];

			if (!r->root.is_derivation && r->root.force == forced && r->caches != 0)
				enqueue_root(r, order);
		}
	}
	free(order);
	page_is_in(batch);
}

/* ---- discovery --------------------------------------------------------------------------------------- */

/* The caches that have it, or whose upstream has, among those seen present. */
static uint64_t satisfied_bits(const struct intake *intake, uint64_t present)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < intake->config->n_caches; i++)
		if (present & (intake->upstreams[i] | UINT64_C(1) << i))
			bits |= UINT64_C(1) << i;
	return bits;
}

static void on_infos(struct store_info_query *query)
{
	struct walk_batch *batch = CONTAINER_OF(query, struct walk_batch, query);
	struct error err = query->err;

	for (size_t i = 0; i < query->n_paths; i++) {
		struct path_info *info = &batch->infos[i];

		if (err.kind == ERROR_NONE && info->path != NULL) {
			info_cache_put(&batch->intake->resolve.infos, info);
			if (walk_know(&batch->graph, batch->ask_nodes[i], info, &err) < 0)
				path_info_fini(info);
		} else {
			path_info_fini(info);
		}
	}
	if (err.kind == ERROR_NONE && !batch->intake->closing)
		discover(batch);
	else if (err.kind != ERROR_NONE)
		put_off_all(batch, &err);
	batch_unwait(batch);
}

static uint64_t kept_forever(const struct config *config)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < config->n_upstreams; i++)
		if (config->upstreams[i].keeps_forever)
			bits |= UINT64_C(1) << (config->n_caches + i);
	return bits;
}

/* What was seen to be there is trusted. Only of a root, which somebody hands over just now, the caches are
 * asked again: one question, and what they lost meanwhile comes back. */
static void judge(const struct walk_batch *batch, struct walk_node *node, uint64_t present)
{
	const struct intake *intake = batch->intake;
	uint64_t seen = satisfied_bits(intake, present);

	node->satisfied =
		node->is_root ? satisfied_bits(intake, present & kept_forever(intake->config)) : seen;
	node->seen = seen;
	node->is_leaf = !batch->is_whole && (batch->all_caches & ~seen) == 0;
	node->is_pruned = !batch->is_whole && (batch->all_caches & ~node->satisfied) == 0;
}

/* What is remembered of a path is good enough, unless it is a root: that may have been rebuilt. */
static bool know_from_cache(struct walk_batch *batch, uint32_t number)
{
	const struct walk_node *node = &batch->graph.nodes[number];
	const struct path_info *known =
		node->is_root ? NULL : info_cache_get(&batch->intake->resolve.infos, node->path);
	struct path_info copy;
	struct error err;

	if (known == NULL || path_info_copy(&copy, known, &err) < 0)
		return false;
	if (walk_know(&batch->graph, number, &copy, &err) == 0)
		return true;
	path_info_fini(&copy);
	return false;
}

static void ask_store(struct walk_batch *batch)
{
	size_t n = 0;

	for (uint32_t i = 0; i < batch->n; i++) {
		uint32_t number = batch->first + i;
		struct walk_node *node = &batch->graph.nodes[number];

		judge(batch, node, batch->present[i]);
		if (node->is_pruned || know_from_cache(batch, number))
			continue;
		batch->ask_nodes[n] = number;
		batch->ask_paths[n++] = batch->graph.nodes[number].path;
	}
	if (n == 0) {
		discover(batch);
		return;
	}
	batch->n_waits++;
	batch->query =
		(struct store_info_query){ .paths = batch->ask_paths, .n_paths = n, .infos = batch->infos };
	store_info_start(batch->intake->store, &batch->query, on_infos);
}

static void on_presence(struct queue_op *op)
{
	struct walk_batch *batch = CONTAINER_OF(op, struct walk_batch, presence.op);
	struct error err = op->err;

	queue_op_fini(op);
	if (err.kind != ERROR_NONE)
		put_off_all(batch, &err);
	else if (!batch->intake->closing)
		ask_store(batch);
	batch_unwait(batch);
}

/* One round: the nodes nobody asked about yet. None left: the graph is whole. */
static void discover(struct walk_batch *batch)
{
	struct walk *graph = &batch->graph;

	batch->first = graph->n_asked;
	batch->n = graph->n_nodes - graph->n_asked;
	if (batch->n > ASK_MAX)
		batch->n = ASK_MAX;
	if (batch->n == 0) {
		enqueue_all(batch);
		return;
	}
	graph->n_asked += batch->n;
	for (uint32_t i = 0; i < batch->n; i++)
		batch->paths[i] = graph->nodes[batch->first + i].path;
	batch->n_waits++;
	batch->presence = (struct queue_presence){
		.op.verb = QUEUE_PRESENCE,
		.now_unix_s = batch->now_unix_s,
		.paths = batch->paths,
		.n_paths = batch->n,
		.endpoints = batch->present,
	};
	queue_start(batch->intake->queue, &batch->presence.op, on_presence);
}

/* ---- derivations ------------------------------------------------------------------------------------- */

static void free_outputs(struct batch_root *r)
{
	for (size_t i = 0; i < r->outputs.n_outputs; i++)
		free(r->outputs.outputs[i]);
	free(r->outputs.outputs);
	r->outputs.outputs = NULL;
	r->outputs.n_outputs = 0;
	r->add.n_paths = 0;
}

static void on_expanded(struct queue_op *op)
{
	struct batch_root *r = CONTAINER_OF(op, struct batch_root, expand.op);

	r->err = op->err;
	queue_op_fini(op);
	free(r->expand_paths);
	free_outputs(r);
	if (r->err.kind != ERROR_NONE)
		put_off(r);
	batch_unwait(r->batch);
}

static void on_rooted(struct roots_add *add);

static void on_outputs(struct store_outputs_query *query)
{
	struct batch_root *r = CONTAINER_OF(query, struct batch_root, outputs);
	struct intake *intake = r->batch->intake;

	r->err = query->err;
	r->expand_paths = calloc(query->n_outputs + 1, sizeof(r->expand_paths[0]));
	if (r->err.kind == ERROR_NONE && r->expand_paths == NULL)
		error_set(&r->err, ERROR_TRANSIENT, "out of memory");
	if (r->err.kind == ERROR_NONE && query->n_outputs == 0)
		error_set(&r->err, ERROR_PERMANENT, "gone: no output of %s is valid in the store",
		          r->root.path);
	if (r->err.kind != ERROR_NONE) {
		free_outputs(r);
		free(r->expand_paths);
		put_off(r);
		batch_unwait(r->batch);
		return;
	}
	for (size_t i = 0; i < query->n_outputs; i++)
		r->expand_paths[i] = (struct queue_add_path){
			.path = query->outputs[i],
			.rank = policy_rank(intake->policy, query->outputs[i], r->root.enqueued_unix_s),
		};
	r->add = (struct roots_add){
		.paths = (const char *const *)query->outputs,
		.n_paths = query->n_outputs,
	};
	roots_add_start(intake->roots, &r->add, on_rooted);
}

/* The outputs are protected before the queue names them; where that cannot be, it is tried again later. */
static void on_rooted(struct roots_add *add)
{
	struct batch_root *r = CONTAINER_OF(add, struct batch_root, add);

	crash_point(RESOLVE_OUTPUTS);
	if (add->err.kind != ERROR_NONE)
		r->batch->intake->sweep.lacks_roots = true;
	intake_tell_roots(r->batch->intake);
	r->expand = (struct queue_expand_root){
		.op.verb = QUEUE_EXPAND_ROOT,
		.root_id = r->root.id,
		.paths = r->expand_paths,
		.n_paths = r->outputs.n_outputs,
	};
	queue_start(r->batch->intake->queue, &r->expand.op, on_expanded);
}

/* ---- begin ------------------------------------------------------------------------------------------- */

static uint64_t root_caches(const struct intake *intake, const struct queue_root *root)
{
	uint64_t bits = root->caches & intake->targets;

	for (size_t i = 0; i < intake->config->n_caches; i++)
		if ((bits >> i & 1) && !policy_wants_root(intake->policy, i, root->path))
			bits &= ~(UINT64_C(1) << i);
	return bits;
}

static void begin_derivation(struct batch_root *r)
{
	r->batch->n_waits++;
	r->outputs = (struct store_outputs_query){ .derivation = r->root.path };
	store_outputs_start(r->batch->intake->store, &r->outputs, on_outputs);
}

static void begin_batch(struct walk_batch *batch)
{
	struct error err;
	bool any = false;

	batch->n_waits++;
	for (size_t i = 0; i < batch->n_roots; i++) {
		struct batch_root *r = &batch->roots[i];

		if (r->root.is_derivation) {
			begin_derivation(r);
			continue;
		}
		r->caches = root_caches(batch->intake, &r->root);
		batch->all_caches |= r->caches;
		batch->is_whole = batch->is_whole || r->root.force || r->root.is_deep;
		r->node = walk_add(&batch->graph, r->root.path);
		if (r->node == UINT32_MAX) {
			error_set(&err, ERROR_TRANSIENT, "out of memory");
			put_off_all(batch, &err);
			batch_unwait(batch);
			return;
		}
		batch->graph.nodes[r->node].is_root = true;
		any = true;
	}
	if (any)
		discover(batch);
	batch_unwait(batch);
}

static void set_due(struct resolve *resolve, int64_t due_unix_s)
{
	int64_t now = clock_unix_s();

	if (due_unix_s == INT64_MAX)
		return;
	if (due_unix_s > now + 3600)
		due_unix_s = now + 3600;
	timer_set(&resolve->due, due_unix_s <= now ? 100 : (uint64_t)(due_unix_s - now) * 1000);
}

/* Made before the claim: one that nobody could work on, or give back, would last until the next start. */
static struct walk_batch *batch_new(struct intake *intake)
{
	struct walk_batch *batch = calloc(1, sizeof(*batch));

	if (batch == NULL)
		return NULL;
	batch->roots = calloc(BATCH_MAX, sizeof(batch->roots[0]));
	if (batch->roots == NULL) {
		free(batch);
		return NULL;
	}
	batch->intake = intake;
	walk_init(&batch->graph);
	return batch;
}

static void batch_fill(struct walk_batch *batch, struct queue_claim_roots *claim)
{
	batch->now_unix_s = clock_unix_s();
	for (size_t i = 0; i < claim->n_roots; i++) {
		batch->roots[i].batch = batch;
		batch->roots[i].root = claim->roots[i];
		claim->roots[i].path = NULL;
	}
	batch->n_roots = claim->n_roots;
}

static void on_claimed(struct queue_op *op)
{
	struct intake *intake = CONTAINER_OF(op, struct intake, resolve.claim.op);
	struct resolve *resolve = &intake->resolve;
	bool again = resolve->claim_again;

	resolve->is_claiming = false;
	resolve->claim_again = false;
	if (op->err.kind != ERROR_NONE)
		set_due(resolve, clock_unix_s() + WRITE_RETRY_MS / 1000);
	else if (!intake->closing)
		set_due(resolve, resolve->claim.next_due_unix_s);
	if (op->err.kind == ERROR_NONE && resolve->claim.n_roots > 0 && !intake->closing) {
		resolve->batch = resolve->spare;
		batch_fill(resolve->batch, &resolve->claim);
	} else {
		batch_free(resolve->spare);
	}
	resolve->spare = NULL;
	queue_op_fini(op);
	if (resolve->batch != NULL) {
		crash_point(RESOLVE_CLAIMED);
		begin_batch(resolve->batch);
	} else if (again && !intake->closing) {
		resolve_poke(intake);
	}
	intake_maybe_closed(intake);
}

void resolve_poke(struct intake *intake)
{
	struct resolve *resolve = &intake->resolve;

	if (intake->closing || !intake->resolves || resolve->batch != NULL)
		return;
	if (resolve->is_claiming) {
		resolve->claim_again = true;
		return;
	}
	resolve->spare = batch_new(intake);
	if (resolve->spare == NULL) {
		set_due(resolve, clock_unix_s() + WRITE_RETRY_MS / 1000);
		return;
	}
	resolve->is_claiming = true;
	resolve->claim = (struct queue_claim_roots){
		.op.verb = QUEUE_CLAIM_ROOTS,
		.now_unix_s = clock_unix_s(),
		.n_max = BATCH_MAX,
	};
	queue_start(intake->queue, &resolve->claim.op, on_claimed);
}

static void on_due(struct timer *timer)
{
	resolve_poke(CONTAINER_OF(timer, struct intake, resolve.due));
}

void resolve_open(struct intake *intake)
{
	timer_init(&intake->resolve.due, intake->loop, on_due);
	intake->n_handles++;
	resolve_poke(intake);
}

static void on_due_closed(struct timer *timer)
{
	struct intake *intake = CONTAINER_OF(timer, struct intake, resolve.due);

	intake->n_handles--;
	intake_maybe_closed(intake);
}

void resolve_close(struct intake *intake)
{
	struct walk_batch *batch = intake->resolve.batch;

	/* Those that wait to be written again are not: a restart resolves them anew. */
	for (size_t i = 0; batch != NULL && i < batch->n_roots; i++)
		if (batch->roots[i].has_ended && timer_is_set(&batch->roots[i].retry))
			timer_close(&batch->roots[i].retry, on_timer_closed);
	timer_close(&intake->resolve.due, on_due_closed);
}

bool resolve_protects(const struct resolve *resolve, const char *path)
{
	const struct walk_batch *batch = resolve->batch;

	for (size_t i = 0; batch != NULL && i < batch->n_roots; i++)
		for (size_t k = 0; k < batch->roots[i].add.n_paths; k++)
			if (strcmp(batch->roots[i].add.paths[k], path) == 0)
				return true;
	return false;
}

bool resolve_is_busy(const struct resolve *resolve)
{
	return resolve->is_claiming || resolve->batch != NULL;
}
