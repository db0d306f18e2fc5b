/* GC roots against the queue. At start, before the daemon serves: the roots of unfinished requests are
 * made again, since a power cut can lose a link whose row survived; and again later, if one of them, or one
 * of a hand-over, could not be made. Then, and every few minutes: a root in our directory that no unfinished
 * request explains is enqueued (a hook that was killed leaves nothing else behind), never deleted; a hook's
 * root that is explained goes once the daemon has had its own for SETTLE_S.
 *
 * A hook means all caches: its root is explained by a request for all of them alone, made since. One of the
 * daemon's own goes to those that the last request for it named, as long as the queue remembers, and is let
 * go if none of them is configured any more. A hook that is still at work has a root that nobody explains
 * yet: links younger than YOUNG_S wait.
 *
 * The first sweep is over before the daemon serves, and takes in the daemon's own alone, of any age: if the
 * queue was lost, they are all that is left of what was acknowledged, and a path that is handed over to one
 * cache now would lose its root once that one has it. */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/log.h"
#include "common/store_path.h"
#include "daemon/intake/parts.h"

#define SWEEP_MS       (5 * 60 * 1000)
#define YOUNG_S        10
#define SETTLE_S       2 /* longer than a collector looks at a directory */
#define STRAYS_AT_ONCE 256
#define PAGE_MAX       ROOTS_PAGE

struct stray {
	struct intake *intake;
	struct stray *next;
	uint64_t taken_mono_ms;
	bool is_unknown; /* the daemon's own, and the queue remembers nothing of it */
	struct intake_handover handover;
	char *name, *path;
	const char *paths[1];
};

static void sweep_start(struct intake *intake);

/* The daemon serves when the first sweep is over, and what it enqueued is in the queue. */
static void maybe_ready(struct intake *intake)
{
	struct sweep *sweep = &intake->sweep;

	if (sweep->was_ready || sweep->is_running || sweep->n_running > 0 || intake->closing)
		return;
	sweep->was_ready = true;
	intake->on_ready(intake->ctx);
}

static void tell_starting(struct intake *intake)
{
	if (!intake->sweep.was_ready)
		intake->on_starting(intake->ctx);
}

/* ---- remaking ---------------------------------------------------------------------------------------- */

static void next_page(struct intake *intake, int64_t after_id);

static void remade(struct intake *intake)
{
	intake->sweep.is_running = false;
	sweep_start(intake);
	maybe_ready(intake);
	intake_maybe_closed(intake);
}

static void note_missing(struct intake *intake, const struct error *err)
{
	log_warning("roots of unfinished requests are missing: %s, retrying in %ds", err->text,
	            SWEEP_MS / 1000);
	intake->sweep.lacks_roots = true;
}

static void end_page(struct intake *intake)
{
	int64_t last_id = intake->sweep.page.last_id;
	bool more = intake->sweep.page.n_paths == PAGE_MAX;

	queue_op_fini(&intake->sweep.page.op);
	if (more && !intake->closing)
		next_page(intake, last_id);
	else
		remade(intake);
}

static void on_page_explained(struct queue_op *op)
{
	struct intake *intake = CONTAINER_OF(op, struct intake, sweep.explain.op);

	if (op->err.kind == ERROR_NONE)
		intake_remove_unprotected(intake, &intake->sweep.explain, NULL);
	queue_op_fini(op);
	end_page(intake);
}

/* What was released while its root was being made has it for good now, and would be taken in as a stray, or
 * be pinned although it was given up for want of space. */
static void explain_page(struct intake *intake)
{
	struct sweep *sweep = &intake->sweep;

	sweep->explain = (struct queue_explain){
		.op.verb = QUEUE_EXPLAIN,
		.paths = sweep->add.paths,
		.n_paths = sweep->add.n_paths,
		.found = sweep->found,
	};
	queue_start(intake->queue, &sweep->explain.op, on_page_explained);
}

static void on_remade(struct roots_add *add)
{
	struct intake *intake = CONTAINER_OF(add, struct intake, sweep.add);

	crash_point(SWEEP_REMADE);
	if (add->err.kind != ERROR_NONE)
		note_missing(intake, &add->err);
	intake_tell_roots(intake);
	if (intake->sweep.was_released)
		explain_page(intake);
	else
		end_page(intake);
}

static void on_page(struct queue_op *op)
{
	struct intake *intake = CONTAINER_OF(op, struct intake, sweep.page.op);
	struct sweep *sweep = &intake->sweep;

	tell_starting(intake);
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
	intake->sweep.was_released = false;
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

static void look_on(struct intake *intake);

/* A collector that read the directory before the daemon's root was made must still find the hook's. */
static void on_settled(struct timer *timer)
{
	struct intake *intake = CONTAINER_OF(timer, struct intake, sweep.settle);
	struct stray **at = &intake->sweep.taken, *stray;
	uint64_t now = clock_mono_ms();

	while ((stray = *at) != NULL) {
		if (now - stray->taken_mono_ms < SETTLE_S * 1000) {
			at = &stray->next;
			continue;
		}
		*at = stray->next;
		roots_remove_name(intake->roots, stray->name);
		stray_free(stray);
	}
	if (intake->sweep.taken != NULL)
		timer_set(timer, SETTLE_S * 1000);
}

static void settle(struct intake *intake, struct stray *stray)
{
	stray->taken_mono_ms = clock_mono_ms();
	stray->next = intake->sweep.taken;
	intake->sweep.taken = stray;
	if (!intake->closing && !timer_is_set(&intake->sweep.settle))
		timer_set(&intake->sweep.settle, SETTLE_S * 1000);
}

static void on_stray_taken_in(struct intake_handover *handover)
{
	struct stray *stray = CONTAINER_OF(handover, struct stray, handover);
	struct intake *intake = stray->intake;
	bool is_hooks = strcmp(stray->name, store_path_base(stray->path)) != 0;

	crash_point(SWEEP_TAKEN);
	if (handover->err.kind == ERROR_NONE)
		intake->sweep.n_unknown += stray->is_unknown;
	if (handover->err.kind == ERROR_NONE)
		log_info("stray root taken in root=%s", stray->name);
	else
		log_warning("stray root stays root=%s: %s", stray->name, handover->err.text);
	if (handover->err.kind == ERROR_NONE && handover->is_rooted && is_hooks)
		settle(intake, stray);
	else
		stray_free(stray);
	intake->sweep.n_running--;
	tell_starting(intake);
	look_on(intake);
	maybe_ready(intake);
	intake_maybe_closed(intake);
}

/* One of the daemon's own was there for a hand-over, which may have named some caches; what is private must
 * not go to the others for want of a removal. */
static void enqueue_stray(struct intake *intake, const struct roots_entry *entry,
                          const struct queue_explained *found)
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
	stray->is_unknown = entry->is_ours && !found->is_remembered;
	stray->handover.caches = entry->is_ours ? found->caches : 0;
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

/* A clock that was set back makes links of the future: they are no hook's that still runs. */
static bool is_older(int64_t made_unix_s, int64_t age_s)
{
	int64_t now = clock_unix_s();

	return now - made_unix_s >= age_s || made_unix_s > now + YOUNG_S;
}

/* At links that are AGE_S old by then. */
static void look_again_after(struct sweep *sweep, uint64_t age_s)
{
	if ((age_s + 1) * 1000 < sweep->again_ms)
		sweep->again_ms = (age_s + 1) * 1000;
}

/* One of the daemon's own whose path was given up for want of space, and which a kill left; or whose
 * hand-over has ended, and was for caches that there are no more (with broken settings that is not known). */
static bool is_to_go(const struct intake *intake, size_t i)
{
	const struct queue_explained *found = &intake->sweep.found[i];

	if (!intake->sweep.list.entries[i].is_ours)
		return false;
	return found->is_wanted ? intake_was_given_up(intake, found)
	                        : intake->resolves && found->caches == QUEUE_CACHES_GONE;
}

/* At once, while what the queue said is true: a page with many strays can take long. */
static void let_go(struct intake *intake)
{
	const struct roots_list *list = &intake->sweep.list;

	for (size_t i = 0; i < list->n_entries; i++) {
		const struct roots_entry *entry = &list->entries[i];

		if (!is_to_go(intake, i) || intake_is_on_its_way(intake, entry->path))
			continue;
		log_info("root goes root=%s: %s", entry->name,
		         intake->sweep.found[i].is_wanted
		                 ? "its path was given up to free space"
		                 : "it was kept for caches that are not configured any more");
		roots_remove_name(intake->roots, entry->name);
	}
}

/* Of the daemon's own: what is explained, or let go. Of a hook's: what is explained by a path that was given
 * up, which has no other. And what it was for may have ended since it was listed. */
static bool stays_as_it_is(const struct intake *intake, size_t i, bool is_explained)
{
	const struct roots_entry *entry = &intake->sweep.list.entries[i];
	const struct queue_explained *found = &intake->sweep.found[i];

	if (is_explained)
		return entry->is_ours || !found->is_protected;
	return (entry->is_ours && found->caches == QUEUE_CACHES_GONE) ||
	       !roots_has_name(intake->roots, entry->name);
}

static void look_at(struct intake *intake, size_t i)
{
	struct sweep *sweep = &intake->sweep;
	const struct roots_entry *entry = &sweep->list.entries[i];
	const struct queue_explained *found = &sweep->found[i];
	bool is_explained = entry->is_ours ? found->is_wanted : found->is_wanted_by_all;

	if (!entry->is_ours && !sweep->was_ready)
		look_again_after(sweep, 0);
	else if (stays_as_it_is(intake, i, is_explained))
		return;
	else if ((sweep->was_ready && !is_older(entry->made_unix_s, YOUNG_S)) ||
	         intake_is_on_its_way(intake, entry->path))
		look_again_after(sweep, YOUNG_S);
	else if (!is_explained)
		enqueue_stray(intake, entry, found);
	else if (entry->ours_made_unix_s != 0 && is_older(entry->ours_made_unix_s, SETTLE_S))
		roots_remove_name(intake->roots, entry->name);
	else
		look_again_after(sweep, entry->ours_made_unix_s != 0 ? SETTLE_S : YOUNG_S);
}

static void sweep_end(struct intake *intake)
{
	struct sweep *sweep = &intake->sweep;

	roots_list_fini(&sweep->list);
	sweep->is_running = false;
	if (!intake->closing)
		timer_set(&sweep->again, sweep->again_ms);
	maybe_ready(intake);
	intake_maybe_closed(intake);
}

static void on_listed(struct roots_list *list);

/* Goes on with the page, as far as there is room for strays. */
static void look_on(struct intake *intake)
{
	struct sweep *sweep = &intake->sweep;
	bool is_over = intake->closing || intake->takes_no_more;

	if (!sweep->is_explained)
		return;
	while (!is_over && sweep->next < sweep->list.n_entries && sweep->n_running < STRAYS_AT_ONCE)
		look_at(intake, sweep->next++);
	if (!is_over && sweep->next < sweep->list.n_entries)
		return;
	sweep->is_explained = false;
	if (sweep->list.more && !is_over)
		roots_list_start(intake->roots, &sweep->list, on_listed);
	else
		sweep_end(intake);
}

static void on_explained(struct queue_op *op)
{
	struct intake *intake = CONTAINER_OF(op, struct intake, sweep.explain.op);
	bool is_fine = op->err.kind == ERROR_NONE;

	crash_point(SWEEP_EXPLAINED);
	queue_op_fini(op);
	if (!is_fine) {
		sweep_end(intake);
		return;
	}
	intake->sweep.is_explained = true;
	let_go(intake);
	look_on(intake);
}

static void on_listed(struct roots_list *list)
{
	struct intake *intake = CONTAINER_OF(list, struct intake, sweep.list);
	struct sweep *sweep = &intake->sweep;

	tell_starting(intake);
	if (list->err.kind != ERROR_NONE)
		log_warning("roots cannot be listed: %s, retrying in %ds", list->err.text, SWEEP_MS / 1000);
	if (list->n_entries == 0 || intake->closing) {
		sweep_end(intake);
		return;
	}
	for (size_t i = 0; i < list->n_entries; i++) {
		sweep->paths[i] = list->entries[i].path;
		sweep->since_unix_s[i] = list->entries[i].made_unix_s;
	}
	sweep->next = 0;
	sweep->explain = (struct queue_explain){
		.op.verb = QUEUE_EXPLAIN,
		.paths = sweep->paths,
		.n_paths = list->n_entries,
		.since_unix_s = sweep->since_unix_s,
		.found = sweep->found,
	};
	queue_start(intake->queue, &sweep->explain.op, on_explained);
}

static void sweep_start(struct intake *intake)
{
	struct sweep *sweep = &intake->sweep;

	if (sweep->is_running || intake->closing || intake->takes_no_more)
		return;
	sweep->is_running = true;
	sweep->again_ms = SWEEP_MS;
	roots_list_start(intake->roots, &sweep->list, on_listed);
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
	timer_init(&intake->sweep.settle, intake->loop, on_settled);
	intake->n_handles++;
	remake(intake);
}

static void on_again_closed(struct timer *timer)
{
	struct intake *intake = CONTAINER_OF(timer, struct intake, sweep.again);

	intake->n_handles--;
	intake_maybe_closed(intake);
}

/* Links that have not settled stay: the next start finds them explained. */
static void on_settle_closed(struct timer *timer)
{
	struct intake *intake = CONTAINER_OF(timer, struct intake, sweep.settle);

	intake->n_handles--;
	intake_maybe_closed(intake);
}

void sweep_close(struct intake *intake)
{
	timer_close(&intake->sweep.again, on_again_closed);
	timer_close(&intake->sweep.settle, on_settle_closed);
}

void sweep_fini(struct sweep *sweep)
{
	struct stray *stray;

	while ((stray = sweep->taken) != NULL) {
		sweep->taken = stray->next;
		stray_free(stray);
	}
}

bool sweep_is_busy(const struct sweep *sweep)
{
	return sweep->is_running || sweep->n_running > 0;
}
