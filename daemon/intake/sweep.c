/* GC roots against the queue. At start, before the daemon serves: the roots of unfinished requests are
 * made again, since a power cut can lose a link whose row survived; and again later, if one of them, or one
 * of a hand-over, could not be made. Then, and every few minutes: a root in our directory that no unfinished
 * request explains is enqueued (a hook that was killed leaves nothing else behind), never deleted; a hook's
 * root that is explained goes once the daemon has its own.
 *
 * A hook means all caches: its root is explained by a request for all of them alone.
 * A hook that is still at work has a root that nobody explains yet: links younger than YOUNG_S wait. */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/log.h"
#include "common/store_path.h"
#include "daemon/intake/parts.h"

#define SETTLE_MS 1000 /* hand-overs that were under way are done by then */
#define SWEEP_MS  (5 * 60 * 1000)
#define YOUNG_S   10
#define PAGE_MAX  1000

struct stray {
	struct intake *intake;
	struct intake_handover handover;
	char *name, *path;
	const char *paths[1];
};

static void sweep_start(struct intake *intake);

/* ---- remaking ---------------------------------------------------------------------------------------- */

static void next_page(struct intake *intake, int64_t after_id);

static void remade(struct intake *intake)
{
	intake->sweep.is_running = false;
	if (!intake->closing) {
		if (!intake->sweep.was_ready)
			intake->on_ready(intake->ctx);
		intake->sweep.was_ready = true;
		sweep_start(intake);
	}
	intake_maybe_closed(intake);
}

static void note_missing(struct intake *intake, const struct error *err)
{
	log_warning("roots of unfinished requests are missing: %s, retrying in %ds", err->text,
	            SWEEP_MS / 1000);
	intake->sweep.lacks_roots = true;
}

static void on_remade(struct roots_add *add)
{
	struct intake *intake = CONTAINER_OF(add, struct intake, sweep.add);
	int64_t last_id = intake->sweep.page.last_id;
	bool more = intake->sweep.page.n_paths == PAGE_MAX;

	crash_point(SWEEP_REMADE);
	if (add->err.kind != ERROR_NONE)
		note_missing(intake, &add->err);
	queue_op_fini(&intake->sweep.page.op);
	if (more && !intake->closing)
		next_page(intake, last_id);
	else
		remade(intake);
}

static void on_page(struct queue_op *op)
{
	struct intake *intake = CONTAINER_OF(op, struct intake, sweep.page.op);
	struct sweep *sweep = &intake->sweep;

	if (op->err.kind != ERROR_NONE)
		note_missing(intake, &op->err);
	if (op->err.kind != ERROR_NONE || sweep->page.n_paths == 0) {
		queue_op_fini(op);
		remade(intake);
		return;
	}
	sweep->add = (struct roots_add){
		.paths = (const char *const *)sweep->page.paths,
		.n_paths = sweep->page.n_paths,
	};
	roots_add_start(intake->roots, &sweep->add, on_remade);
}

static void next_page(struct intake *intake, int64_t after_id)
{
	intake->sweep.page = (struct queue_unfinished_roots){
		.op.verb = QUEUE_UNFINISHED_ROOTS,
		.after_id = after_id,
		.n_max = PAGE_MAX,
	};
	queue_start(intake->queue, &intake->sweep.page.op, on_page);
}

/* ---- strays ------------------------------------------------------------------------------------------ */

static void stray_free(struct stray *stray)
{
	free(stray->name);
	free(stray->path);
	free(stray);
}

static void on_stray_taken_in(struct intake_handover *handover)
{
	struct stray *stray = CONTAINER_OF(handover, struct stray, handover);
	struct intake *intake = stray->intake;

	crash_point(SWEEP_TAKEN);
	if (handover->err.kind == ERROR_NONE) {
		log_info("stray root taken in root=%s", stray->name);
		if (strcmp(stray->name, store_path_base(stray->path)) != 0)
			roots_remove_name(intake->roots, stray->name);
	} else {
		log_warning("stray root stays root=%s: %s", stray->name, handover->err.text);
	}
	stray_free(stray);
	intake->sweep.n_running--;
	intake_maybe_closed(intake);
}

static void enqueue_stray(struct intake *intake, const struct roots_entry *entry)
{
	struct stray *stray = calloc(1, sizeof(*stray));

	if (stray == NULL)
		return;
	stray->intake = intake;
	stray->name = strdup(entry->name);
	stray->path = strdup(entry->path);
	if (stray->name == NULL || stray->path == NULL) {
		stray_free(stray);
		return;
	}
	/* Of a hand-over that knew no outputs (floating content-addressed ones) it is the derivation. */
	if (store_path_is_derivation(stray->path)) {
		stray->handover.derivation = stray->path;
	} else {
		stray->paths[0] = stray->path;
		stray->handover.paths = stray->paths;
		stray->handover.n_paths = 1;
	}
	intake->sweep.n_running++;
	intake_start(intake, &stray->handover, on_stray_taken_in);
}

static bool is_older(const struct roots_entry *entry, int64_t now)
{
	/* A clock that was set back makes links of the future: they are no hook's that still runs. */
	return now - entry->made_unix_s >= YOUNG_S || entry->made_unix_s > now + YOUNG_S;
}

static void sweep_end(struct intake *intake)
{
	struct sweep *sweep = &intake->sweep;

	free(sweep->paths);
	free(sweep->is_wanted);
	free(sweep->is_wanted_by_all);
	sweep->paths = NULL;
	sweep->is_wanted = sweep->is_wanted_by_all = NULL;
	roots_list_fini(&sweep->list);
	sweep->is_running = false;
	if (!intake->closing)
		timer_set(&sweep->again, SWEEP_MS);
	intake_maybe_closed(intake);
}

static void on_explained(struct queue_op *op)
{
	struct intake *intake = CONTAINER_OF(op, struct intake, sweep.explain.op);
	struct sweep *sweep = &intake->sweep;
	int64_t now = clock_unix_s();
	const char *own = "";
	bool has_young = false, lacks_ours = false;

	crash_point(SWEEP_EXPLAINED);
	for (size_t i = 0; op->err.kind == ERROR_NONE && !intake->closing && i < sweep->list.n_entries; i++) {
		const struct roots_entry *entry = &sweep->list.entries[i];

		if (entry->is_ours)
			own = entry->path;
		if (!is_older(entry, now))
			has_young = has_young || !entry->is_ours || !sweep->is_wanted[i];
		else if (entry->is_ours ? !sweep->is_wanted[i] : !sweep->is_wanted_by_all[i])
			enqueue_stray(intake, entry);
		else if (!entry->is_ours && strcmp(own, entry->path) == 0 &&
		         !intake_is_on_its_way(intake, entry->path))
			roots_remove_name(intake->roots, entry->name);
		else if (!entry->is_ours)
			lacks_ours = true; /* it may be there by now */
	}
	queue_op_fini(op);
	sweep_end(intake);
	if (lacks_ours && !sweep->lacked_ours && !intake->closing)
		timer_set(&sweep->again, SETTLE_MS);
	else if ((has_young || lacks_ours) && !intake->closing)
		timer_set(&sweep->again, (YOUNG_S + 1) * 1000);
	sweep->lacked_ours = lacks_ours;
}

/* By path, the daemon's own before those of hooks. */
static int by_path(const void *a, const void *b)
{
	const struct roots_entry *left = a, *right = b;
	int order = strcmp(left->path, right->path);

	return order != 0 ? order : right->is_ours - left->is_ours;
}

static void on_listed(struct roots_list *list)
{
	struct intake *intake = CONTAINER_OF(list, struct intake, sweep.list);
	struct sweep *sweep = &intake->sweep;

	if (list->err.kind != ERROR_NONE)
		log_warning("roots cannot be listed: %s, retrying in %ds", list->err.text, SWEEP_MS / 1000);
	sweep->paths = calloc(list->n_entries + 1, sizeof(sweep->paths[0]));
	sweep->is_wanted = calloc(list->n_entries + 1, sizeof(bool));
	sweep->is_wanted_by_all = calloc(list->n_entries + 1, sizeof(bool));
	if (list->n_entries == 0 || intake->closing || sweep->paths == NULL || sweep->is_wanted == NULL ||
	    sweep->is_wanted_by_all == NULL) {
		sweep_end(intake);
		return;
	}
	qsort(list->entries, list->n_entries, sizeof(list->entries[0]), by_path);
	for (size_t i = 0; i < list->n_entries; i++)
		sweep->paths[i] = list->entries[i].path;
	sweep->explain = (struct queue_explain){
		.op.verb = QUEUE_EXPLAIN,
		.paths = sweep->paths,
		.n_paths = list->n_entries,
		.is_wanted = sweep->is_wanted,
		.is_wanted_by_all = sweep->is_wanted_by_all,
	};
	queue_start(intake->queue, &sweep->explain.op, on_explained);
}

static void sweep_start(struct intake *intake)
{
	if (intake->sweep.is_running || intake->closing || intake->takes_no_more)
		return;
	intake->sweep.is_running = true;
	intake->sweep.list = (struct roots_list){ 0 };
	roots_list_start(intake->roots, &intake->sweep.list, on_listed);
}

static void remake(struct intake *intake)
{
	intake->sweep.is_running = true;
	intake->sweep.lacks_roots = false;
	next_page(intake, 0);
}

static void on_again(struct timer *timer)
{
	struct intake *intake = CONTAINER_OF(timer, struct intake, sweep.again);

	if (intake->sweep.lacks_roots)
		remake(intake);
	else
		sweep_start(intake);
}

void sweep_open(struct intake *intake)
{
	timer_init(&intake->sweep.again, intake->loop, on_again);
	intake->n_handles++;
	remake(intake);
}

static void on_again_closed(struct timer *timer)
{
	struct intake *intake = CONTAINER_OF(timer, struct intake, sweep.again);

	intake->n_handles--;
	intake_maybe_closed(intake);
}

void sweep_close(struct intake *intake)
{
	timer_close(&intake->sweep.again, on_again_closed);
}

bool sweep_is_busy(const struct sweep *sweep)
{
	return sweep->is_running || sweep->n_running > 0;
}
