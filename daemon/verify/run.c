/* A run goes on by itself while somebody waits for its step, and rests else. It ends when all was checked,
 * when the cache cannot be asked, or when its caller or the verifier closes it; then everything that is out
 * comes back, the link and the timer are closed, and the memory goes once the caller, too, is done with it.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "daemon/verify/run.h"

#define TICK_MS    250
#define STEP_MS    1000
#define PAGE       64
#define DEEP_ITEMS 2

static const struct error canceled = { .kind = ERROR_CANCELED, .text = "the daemon ended the verification" };

static void pump(struct verify_run *run);

/* ---- the end --------------------------------------------------------------------------------- */

static void on_http_closed(void *ctx)
{
	struct verifier *verifier = ctx;
	lane_closed_fn closed = verifier->closed;
	void *closed_ctx = verifier->closed_ctx;

	free(verifier);
	closed(closed_ctx);
}

static void run_free_if_ended(struct verify_run *run)
{
	if (!run->is_ended || run->verifier != NULL || run->step != NULL)
		return;
	loop_unpost(run->loop, &run->post);
	free(run->memo);
	free(run);
}

static void run_detach(struct verify_run *run)
{
	struct verifier *verifier = run->verifier;
	struct verify_run **at = &verifier->runs;

	while (*at != run)
		at = &(*at)->next;
	*at = run->next;
	run->verifier = NULL;
	run_free_if_ended(run);
	if (verifier->is_closing && verifier->runs == NULL)
		http_close(verifier->http, on_http_closed, verifier);
}

static void on_timer_closed(struct timer *timer)
{
	run_detach(CONTAINER_OF(timer, struct verify_run, tick));
}

static void close_backends(struct verify_run *run)
{
	link_unref(run->link);
	run->link = NULL;
	for (size_t i = 0; run->upstreams != NULL && i < run->verifier->config.config->n_upstreams; i++)
		backend_close(run->upstreams[i]);
	free(run->upstreams);
	run->upstreams = NULL;
}

/* Goes on once nothing is out any more. */
static void close_if_idle(struct verify_run *run)
{
	if (!run->is_closing || run->n_active > 0 || run->is_paging || run->is_settling ||
	    !run->is_timer_open)
		return;
	run->is_timer_open = false;
	queue_read_fini(&run->page);
	close_backends(run);
	timer_close(&run->tick, on_timer_closed);
}

static void on_step_over(struct loop_post *post)
{
	struct verify_run *run = CONTAINER_OF(post, struct verify_run, post);
	struct verify_step *step = run->step;
	bool was_ended = run->is_ended;

	run->step = NULL;
	if (step == NULL)
		return;
	step->err = run->err;
	step->done(step);
	/* Else its caller has yet to say so, or just did. */
	if (was_ended)
		run_free_if_ended(run);
}

static void run_cancel(struct verify_run *run, const struct error *err)
{
	if (run->is_closing)
		return;
	run->is_closing = true;
	run->err = *err;
	for (size_t i = 0; i < VERIFY_REQUESTS; i++)
		if (run->items[i].state != ITEM_IDLE)
			item_cancel(&run->items[i]);
	loop_post(run->loop, &run->post, on_step_over);
	close_if_idle(run);
}

void run_fail(struct verify_run *run, const struct error *err)
{
	run_cancel(run, err);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static bool is_over(const struct verify_run *run)
{
	return run->is_last_page && run->next_belief >= run->page.n_beliefs && run->n_active == 0;
}

static void give(struct verify_run *run)
{
	struct verify_step *step = run->step;

	run->step = NULL;
	step->err = (struct error){ 0 };
	step->findings = run->findings;
	step->n_findings = run->n_given;
	step->n_checked = run->n_checked;
	step->n_total = run->n_total;
	step->n_bytes = run->n_bytes;
	step->is_over = is_over(run) && run->n_given == run->n_findings;
	step->done(step);
}

static bool is_mendable(const struct finding *finding)
{
	return finding->mend == MEND_UPLOAD || finding->mend == MEND_FORCE;
}

static void settled(struct verify_run *run, const struct error *err)
{
	run->is_settling = false;
	if (err->kind != ERROR_NONE)
		run_cancel(run, err);
	if (run->is_closing)
		close_if_idle(run);
	else if (run->step != NULL)
		give(run);
}

static void on_stored(struct store_info_query *query)
{
	struct verify_run *run = CONTAINER_OF(query, struct verify_run, query);
	size_t n = 0;

	for (size_t i = 0; i < run->n_given && query->err.kind == ERROR_NONE; i++)
		if (is_mendable(&run->findings[i]) && run->infos[n++].path == NULL)
			run->findings[i].mend = MEND_IMPOSSIBLE;
	for (size_t i = 0; i < query->n_paths; i++)
		path_info_fini(&run->infos[i]);
	settled(run, &query->err);
}

static void on_doubted(struct queue_op *op)
{
	struct verify_run *run = CONTAINER_OF(op, struct verify_run, doubt.op);
	size_t n = run->doubt.n_paths;

	if (op->err.kind != ERROR_NONE || run->is_closing) {
		settled(run, &op->err);
		return;
	}
	memset(run->infos, 0, sizeof(run->infos));
	run->query = (struct store_info_query){ .paths = run->paths, .n_paths = n, .infos = run->infos };
	store_info_start(run->verifier->config.store, &run->query, on_stored);
}

/* What can be mended is not believed any more, and must be in the store. */
static void settle(struct verify_run *run)
{
	size_t n = 0;

	run->n_given = run->n_findings;
	for (size_t i = 0; run->repairs && i < run->n_given; i++)
		if (is_mendable(&run->findings[i]))
			run->paths[n++] = run->findings[i].upload;
	if (n == 0) {
		give(run);
		return;
	}
	run->is_settling = true;
	run->doubt = (struct queue_doubt){
		.op.verb = QUEUE_DOUBT, .cache = run->cache, .paths = run->paths, .n_paths = n
	};
	queue_start(run->verifier->config.queue, &run->doubt.op, on_doubted);
}

/* Gives what there is, if it is time. */
static void look(struct verify_run *run)
{
	if (run->step == NULL || run->is_closing || run->is_settling)
		return;
	if (run->n_findings > 0 || is_over(run) || clock_mono_ms() - run->step_began_mono_ms >= STEP_MS)
		settle(run);
}

void run_add(struct verify_run *run, const struct finding *finding)
{
	assert(run->n_findings < VERIFY_FINDINGS_MAX);
	run->findings[run->n_findings++] = *finding;
}

static void on_step_due(struct loop_post *post)
{
	struct verify_run *run = CONTAINER_OF(post, struct verify_run, post);

	if (run->is_closing) {
		on_step_over(post);
		return;
	}
	look(run);
	pump(run);
}

void verify_next(struct verify_run *run, struct verify_step *step, verify_fn done)
{
	assert(run->step == NULL && !run->is_ended);
	*step = (struct verify_step){ .done = done };
	run->step = step;
	run->n_findings -= run->n_given;
	memmove(run->findings, run->findings + run->n_given, run->n_findings * sizeof(run->findings[0]));
	run->n_given = 0;
	run->step_began_mono_ms = clock_mono_ms();
	loop_unpost(run->loop, &run->post);
	loop_post(run->loop, &run->post, on_step_due);
}

/* ---- going on -------------------------------------------------------------------------------- */

static void on_page(struct queue_read *read)
{
	struct verify_run *run = CONTAINER_OF(read, struct verify_run, page);

	run->is_paging = false;
	run->next_belief = 0;
	if (read->err.kind != ERROR_NONE)
		run_cancel(run, &read->err);
	if (run->is_closing) {
		close_if_idle(run);
		return;
	}
	if (read->after_id == 0)
		run->n_total = read->n_total;
	run->is_last_page = read->n_beliefs < read->n_max;
	look(run);
	pump(run);
}

static void read_page(struct verify_run *run)
{
	int64_t after = run->page.last_id;

	queue_read_fini(&run->page);
	run->page = (struct queue_read){
		.verb = QUEUE_BELIEVED,
		.cache = run->config->name,
		.after_id = after,
		.n_max = PAGE,
	};
	run->is_paging = true;
	queue_read_start(run->verifier->config.queue, &run->page, on_page);
}

/* Uploads come first. */
static size_t most_items(const struct verify_run *run)
{
	const struct uploader *uploader = run->verifier->config.uploader;

	if (uploader != NULL && uploader_n_in_flight(uploader, run->cache) > 0)
		return 1;
	return run->is_deep ? DEEP_ITEMS : VERIFY_REQUESTS;
}

static struct item *idle_item(struct verify_run *run)
{
	size_t i = 0;

	while (run->items[i].state != ITEM_IDLE)
		i++;
	return &run->items[i];
}

static bool may_begin(const struct verify_run *run)
{
	return run->step != NULL && !run->is_closing && !run->is_settling &&
	       run->n_active < most_items(run) &&
	       run->n_findings + (run->n_active + 1) * ITEM_FINDINGS_MAX <= VERIFY_FINDINGS_MAX;
}

static void pump(struct verify_run *run)
{
	while (may_begin(run) && run->next_belief < run->page.n_beliefs) {
		run->n_active++;
		item_start(idle_item(run), &run->page.beliefs[run->next_belief++]);
	}
	if (may_begin(run) && !run->is_last_page && !run->is_paging)
		read_page(run);
}

void run_item_over(struct item *item)
{
	struct verify_run *run = item->run;

	run->n_active--;
	run->n_checked += !item->is_closing;
	if (run->is_closing) {
		close_if_idle(run);
		return;
	}
	look(run);
	pump(run);
}

static void on_tick(struct timer *timer)
{
	struct verify_run *run = CONTAINER_OF(timer, struct verify_run, tick);

	for (size_t i = 0; i < VERIFY_REQUESTS && !run->is_closing; i++)
		item_tick(&run->items[i], clock_mono_ms());
	if (run->is_closing)
		return;
	timer_set(&run->tick, TICK_MS);
	look(run);
	pump(run);
}

/* ---- opening and closing --------------------------------------------------------------------- */

static int open_upstreams(struct verify_run *run, struct error *err)
{
	const struct verifier *verifier = run->verifier;
	const struct config *config = verifier->config.config;
	uint64_t bits = verifier->config.upstreams[run->cache];

	run->upstreams = calloc(config->n_upstreams + 1, sizeof(run->upstreams[0]));
	if (run->upstreams == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	for (size_t i = 0; i < config->n_upstreams; i++)
		if ((bits >> (config->n_caches + i) & 1) != 0 &&
		    backend_open_upstream(&run->upstreams[i], verifier->config.loop, verifier->http,
		                          &config->upstreams[i], &config->net, err) < 0)
			return -1;
	return 0;
}

int verify_open(struct verify_run **ret, struct verifier *verifier, size_t cache, bool is_deep, bool repairs,
                struct error *err)
{
	const struct verifier_config *config = &verifier->config;
	struct verify_run *run;

	for (run = verifier->runs; run != NULL; run = run->next)
		if (run->cache == cache)
			return error_set(err, ERROR_PERMANENT, "a verification of %s is under way",
			                 run->config->name);
	run = calloc(1, sizeof(*run));
	if (run == NULL || (run->memo = calloc(1, sizeof(*run->memo))) == NULL) {
		free(run);
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	}
	run->verifier = verifier;
	run->loop = config->loop;
	run->cache = cache;
	run->config = &config->config->caches[cache];
	run->is_deep = is_deep;
	run->repairs = repairs;
	for (size_t i = 0; i < VERIFY_REQUESTS; i++)
		run->items[i].run = run;
	if (link_open(&run->link, config->loop, verifier->http, run->config, store_dir(config->store), err) <
	            0 ||
	    open_upstreams(run, err) < 0) {
		close_backends(run);
		free(run->memo);
		free(run);
		return -1;
	}
	timer_init(&run->tick, config->loop, on_tick);
	timer_set(&run->tick, TICK_MS);
	run->is_timer_open = true;
	run->next = verifier->runs;
	verifier->runs = run;
	*ret = run;
	return 0;
}

void verify_close(struct verify_run *run)
{
	if (run == NULL)
		return;
	run->is_ended = true;
	run_cancel(run, &canceled);
	run_free_if_ended(run);
}

int verifier_open(struct verifier **ret, const struct verifier_config *config, struct error *err)
{
	struct verifier *verifier = calloc(1, sizeof(*verifier));

	if (verifier == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	verifier->config = *config;
	if (http_open(&verifier->http, config->loop, err) < 0) {
		free(verifier);
		return -1;
	}
	*ret = verifier;
	return 0;
}

void verifier_close(struct verifier *verifier, lane_closed_fn closed, void *ctx)
{
	if (verifier == NULL)
		return;
	verifier->is_closing = true;
	verifier->closed = closed;
	verifier->closed_ctx = ctx;
	for (struct verify_run *run = verifier->runs; run != NULL; run = run->next)
		run_cancel(run, &canceled);
	if (verifier->runs == NULL)
		http_close(verifier->http, on_http_closed, verifier);
}
