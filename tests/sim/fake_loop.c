#include "tests/sim/fake_loop.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/loop/lane.h"
#include "daemon/loop/loop.h"
#include "daemon/loop/timer.h"
#include "daemon/loop/watch.h"
#include "daemon/loop/work.h"
#include "tests/sim/chance.h"

#define POOL_SIZE   4 /* workers of the shared pool */
#define SOURCES_MAX 64

/* What a timer is in here; uv.data leads to it. */
struct fake_timer {
	struct timer *timer;
	struct fake_timer *next;
	uint64_t due_ms, order;
	bool is_set, is_closed;
};

struct closing {
	struct closing *next;
	void (*fn)(struct closing *closing);
	void *handle;
};

struct lane {
	struct lane *next;
	const struct lane_ops *ops;
	void *ctx;
	size_t max_batch, n_pending;
	unsigned n_threads;
	struct lane_job *first, **last;
	struct lane_job *first_done, **last_done;
	bool closing, is_closed;
	uint64_t woken_in_turn;
	lane_closed_fn closed;
	void *closed_ctx;
};

static struct {
	struct loop *loop;
	uint64_t turn, order;
	void (*between)(void);
	struct fake_event *events;
	struct fake_timer *timers;
	struct closing *closings;
	struct lane *lanes;
	struct work *waiting[1024], *done[1024];
	size_t n_waiting, n_done;
	uint64_t works_told_in_turn;
	struct watch *watches[4];
	size_t n_watches;
	bool has_changes;
} f;

static void between(void)
{
	if (f.between != NULL)
		f.between();
}

void fake_loop_between(void (*fn)(void))
{
	f.between = fn;
}

/* ---- loop.h ------------------------------------------------------------------------------------------ */

int loop_init(struct loop *loop, struct error *err)
{
	(void)err;
	memset(loop, 0, sizeof(*loop));
	loop->last = &loop->first;
	f.loop = loop;
	return 0;
}

void loop_fini(struct loop *loop)
{
	assert(loop == f.loop && loop->first == NULL && f.lanes == NULL && f.timers == NULL);
	f.loop = NULL;
}

void loop_run(struct loop *loop)
{
	(void)loop;
	abort(); /* the simulation turns it */
}

void loop_stop(struct loop *loop)
{
	(void)loop;
	abort();
}

void loop_post(struct loop *loop, struct loop_post *post, loop_post_fn fn)
{
	if (post->is_posted)
		return;
	*post = (struct loop_post){ .fn = fn, .is_posted = true };
	*loop->last = post;
	loop->last = &post->next;
}

void loop_unpost(struct loop *loop, struct loop_post *post)
{
	struct loop_post **at = &loop->first;

	if (!post->is_posted)
		return;
	while (*at != post)
		at = &(*at)->next;
	*at = post->next;
	if (loop->last == &post->next)
		loop->last = at;
	*post = (struct loop_post){ 0 };
}

uint64_t loop_now_mono_ms(const struct loop *loop)
{
	(void)loop;
	return fake_now_ms();
}

static void run_posts(void)
{
	struct loop *loop = f.loop;
	struct loop_post end = { .is_posted = true };

	if (loop->first == NULL)
		return;
	*loop->last = &end;
	loop->last = &end.next;
	while (loop->first != &end) {
		struct loop_post *post = loop->first;

		loop->first = post->next;
		*post = (struct loop_post){ .fn = post->fn };
		post->fn(post);
		between();
	}
	loop->first = end.next;
	if (loop->last == &end.next)
		loop->last = &loop->first;
}

static void close_later(void (*fn)(struct closing *closing), void *handle)
{
	struct closing *closing = calloc(1, sizeof(*closing)), **at = &f.closings;

	assert(closing != NULL);
	*closing = (struct closing){ .fn = fn, .handle = handle };
	while (*at != NULL)
		at = &(*at)->next;
	*at = closing;
}

static void run_closings(void)
{
	struct closing *list = f.closings;

	f.closings = NULL;
	while (list != NULL) {
		struct closing *closing = list;

		list = closing->next;
		closing->fn(closing);
		free(closing);
		between();
	}
}

/* ---- timer.h ----------------------------------------------------------------------------------------- */

static struct fake_timer *timer_inside(const struct timer *timer)
{
	return timer->uv.data;
}

/* The simulation ends when the world is at rest, whatever timers are set. */
void timer_unref(struct timer *timer)
{
	(void)timer;
}

void timer_init(struct timer *timer, struct loop *loop, timer_fn fn)
{
	struct fake_timer *inside = calloc(1, sizeof(*inside));
	(void)loop;

	assert(inside != NULL);
	*inside = (struct fake_timer){ .timer = timer, .next = f.timers };
	f.timers = inside;
	timer->fn = fn;
	timer->closed = NULL;
	timer->uv.data = inside;
}

void timer_set(struct timer *timer, uint64_t delay_ms)
{
	struct fake_timer *inside = timer_inside(timer);

	if (inside->is_closed)
		return;
	inside->due_ms = fake_now_ms() + delay_ms;
	inside->order = ++f.order;
	inside->is_set = true;
}

void timer_stop(struct timer *timer)
{
	timer_inside(timer)->is_set = false;
}

bool timer_is_set(const struct timer *timer)
{
	return timer_inside(timer)->is_set;
}

static void on_timer_closing(struct closing *closing)
{
	struct timer *timer = closing->handle;
	struct fake_timer *inside = timer_inside(timer), **at = &f.timers;

	while (*at != inside)
		at = &(*at)->next;
	*at = inside->next; /* its memory stays: a closed handle of libuv can be asked, and set in vain */
	if (timer->closed != NULL)
		timer->closed(timer);
}

void timer_close(struct timer *timer, timer_fn closed)
{
	timer->closed = closed;
	timer_inside(timer)->is_set = false;
	timer_inside(timer)->is_closed = true;
	close_later(on_timer_closing, timer);
}

static struct fake_timer *next_timer(void)
{
	struct fake_timer *first = NULL;

	for (struct fake_timer *timer = f.timers; timer != NULL; timer = timer->next)
		if (timer->is_set && (first == NULL || timer->due_ms < first->due_ms ||
		                      (timer->due_ms == first->due_ms && timer->order < first->order)))
			first = timer;
	return first;
}

/* One that is set anew to fire at once waits for the next turn. */
static void run_timers(void)
{
	uint64_t last = f.order;
	struct fake_timer *timer;

	while ((timer = next_timer()) != NULL && timer->due_ms <= fake_now_ms() && timer->order <= last) {
		timer->is_set = false;
		timer->timer->fn(timer->timer);
		between();
	}
}

/* ---- work.h ------------------------------------------------------------------------------------------ */

void work_set_threads(unsigned n_threads)
{
	(void)n_threads;
}

void work_start(struct loop *loop, struct work *work, work_fn run, work_fn done)
{
	(void)loop;
	work->run = run;
	work->done = done;
	work->was_canceled = false;
	assert(f.n_waiting < N_ELEMENTS(f.waiting));
	f.waiting[f.n_waiting++] = work;
}

static void take_waiting(size_t i)
{
	memmove(&f.waiting[i], &f.waiting[i + 1], (--f.n_waiting - i) * sizeof(f.waiting[0]));
}

void work_cancel(struct work *work)
{
	for (size_t i = 0; i < f.n_waiting; i++) {
		if (f.waiting[i] != work)
			continue;
		take_waiting(i);
		work->was_canceled = true;
		f.done[f.n_done++] = work;
		return;
	}
}

static void run_one_work(void)
{
	size_t i = chance_below((unsigned)(f.n_waiting < POOL_SIZE ? f.n_waiting : POOL_SIZE));
	struct work *work = f.waiting[i];

	take_waiting(i);
	work->run(work);
	f.done[f.n_done++] = work;
}

static void tell_works(void)
{
	struct work *list[N_ELEMENTS(f.done)];
	size_t n = f.n_done;

	memcpy(list, f.done, n * sizeof(list[0]));
	f.n_done = 0;
	f.works_told_in_turn = f.turn;
	for (size_t i = 0; i < n; i++) {
		list[i]->done(list[i]);
		between();
	}
}

/* ---- lane.h ------------------------------------------------------------------------------------------ */

int lane_open(struct lane **ret, struct loop *loop, const char *name, unsigned n_threads, size_t max_batch,
              const struct lane_ops *ops, void *ctx, struct error *err)
{
	struct lane *lane = calloc(1, sizeof(*lane));
	(void)loop;
	(void)name;
	(void)err;

	assert(lane != NULL);
	*lane = (struct lane){
		.next = f.lanes, .ops = ops, .ctx = ctx, .max_batch = max_batch, .n_threads = n_threads
	};
	lane->last = &lane->first;
	lane->last_done = &lane->first_done;
	f.lanes = lane;
	*ret = lane;
	return 0;
}

void lane_post(struct lane *lane, struct lane_job *job, lane_job_fn done)
{
	assert(!lane->closing);
	job->next = NULL;
	job->done = done;
	lane->n_pending++;
	*lane->last = job;
	lane->last = &job->next;
}

/* Of several threads another may have been faster with a later batch. */
static void run_lane(struct lane *lane)
{
	struct lane_job **from = &lane->first, *batch, *end;

	for (unsigned skip = chance_below(lane->n_threads); skip > 0 && (*from)->next != NULL; skip--)
		from = &(*from)->next;
	batch = end = *from;
	for (size_t n = 1; n < lane->max_batch && end->next != NULL; n++)
		end = end->next;
	*from = end->next;
	if (*from == NULL)
		lane->last = from;
	end->next = NULL;
	lane->ops->run_batch(lane->ctx, 0, batch);
	*lane->last_done = batch;
	while (*lane->last_done != NULL)
		lane->last_done = &(*lane->last_done)->next;
}

static void on_lane_closing(struct closing *closing)
{
	struct lane *lane = closing->handle, **at = &f.lanes;
	lane_closed_fn closed = lane->closed;
	void *ctx = lane->closed_ctx;

	while (*at != lane)
		at = &(*at)->next;
	*at = lane->next;
	free(lane);
	if (closed != NULL)
		closed(ctx);
}

static void lane_maybe_close(struct lane *lane)
{
	if (!lane->closing || lane->n_pending > 0 || lane->is_closed)
		return;
	lane->is_closed = true;
	close_later(on_lane_closing, lane);
}

static void wake_lane(struct lane *lane)
{
	struct lane_job *job = lane->first_done;

	lane->first_done = NULL;
	lane->last_done = &lane->first_done;
	lane->woken_in_turn = f.turn;
	while (job != NULL) {
		struct lane_job *next = job->next;

		job->next = NULL;
		lane->n_pending--;
		job->done(job);
		between();
		job = next;
	}
	lane_maybe_close(lane);
}

void lane_close(struct lane *lane, lane_closed_fn closed, void *closed_ctx)
{
	if (lane == NULL)
		return;
	lane->closing = true;
	lane->closed = closed;
	lane->closed_ctx = closed_ctx;
	lane_maybe_close(lane);
}

/* ---- watch.h ----------------------------------------------------------------------------------------- */

int watch_open(struct watch *watch, struct loop *loop, const char *dir, watch_fn changed, struct error *err)
{
	(void)loop;
	(void)dir;
	(void)err;
	watch->changed = changed;
	watch->closed = NULL;
	assert(f.n_watches < N_ELEMENTS(f.watches));
	f.watches[f.n_watches++] = watch;
	return 0;
}

static void on_watch_closing(struct closing *closing)
{
	struct watch *watch = closing->handle;

	if (watch->closed != NULL)
		watch->closed(watch);
}

void watch_close(struct watch *watch, watch_fn closed)
{
	watch->closed = closed;
	for (size_t i = 0; i < f.n_watches; i++)
		if (f.watches[i] == watch)
			f.watches[i] = f.watches[--f.n_watches];
	close_later(on_watch_closing, watch);
}

void fake_watch_changed(void)
{
	f.has_changes = f.n_watches > 0 && !chance_one_in(8);
}

static void tell_watches(void)
{
	f.has_changes = false;
	for (size_t i = 0; i < f.n_watches; i++)
		f.watches[i]->changed(f.watches[i]);
}

/* ---- events ------------------------------------------------------------------------------------------ */

void fake_event_in(struct fake_event *event, uint64_t delay_ms, fake_event_fn fn)
{
	assert(!event->is_set);
	*event = (struct fake_event){
		.next = f.events, .fn = fn, .due_ms = fake_now_ms() + delay_ms, .is_set = true
	};
	f.events = event;
}

void fake_answer_in(struct fake_event *event, uint64_t delay_ms, fake_event_fn fn)
{
	fake_event_in(event, delay_ms, fn);
	event->is_awaited = true;
}

void fake_event_take_back(struct fake_event *event)
{
	struct fake_event **at = &f.events;

	if (!event->is_set)
		return;
	while (*at != event)
		at = &(*at)->next;
	*at = event->next;
	event->is_set = false;
}

bool fake_loop_awaits_answers(void)
{
	for (const struct fake_event *event = f.events; event != NULL; event = event->next)
		if (event->is_awaited)
			return true;
	return false;
}

static void fire(struct fake_event *event)
{
	fake_event_take_back(event);
	event->fn(event);
}

/* ---- the scheduler ----------------------------------------------------------------------------------- */

enum source_kind { RUN_LANE, WAKE_LANE, RUN_WORK, TELL_WORKS, TELL_WATCHES, FIRE };
struct source {
	enum source_kind kind;
	void *what;
};

static void add_source(struct source *sources, size_t *n, enum source_kind kind, void *what)
{
	if (*n < SOURCES_MAX)
		sources[(*n)++] = (struct source){ kind, what };
}

/* All that could happen next. What threads do can happen at any time; the loop is woken once a turn. */
static size_t gather(struct source *sources)
{
	size_t n = 0;

	for (struct lane *lane = f.lanes; lane != NULL; lane = lane->next) {
		if (lane->first != NULL)
			add_source(sources, &n, RUN_LANE, lane);
		if (lane->first_done != NULL && lane->woken_in_turn < f.turn)
			add_source(sources, &n, WAKE_LANE, lane);
	}
	if (f.n_waiting > 0)
		add_source(sources, &n, RUN_WORK, NULL);
	if (f.n_done > 0 && f.works_told_in_turn < f.turn)
		add_source(sources, &n, TELL_WORKS, NULL);
	if (f.has_changes)
		add_source(sources, &n, TELL_WATCHES, NULL);
	for (struct fake_event *event = f.events; event != NULL; event = event->next)
		if (event->due_ms <= fake_now_ms())
			add_source(sources, &n, FIRE, event);
	return n;
}

static void happen(const struct source *source)
{
	switch (source->kind) {
	case RUN_LANE:
		run_lane(source->what);
		break;
	case WAKE_LANE:
		wake_lane(source->what);
		break;
	case RUN_WORK:
		run_one_work();
		break;
	case TELL_WORKS:
		tell_works();
		break;
	case TELL_WATCHES:
		tell_watches();
		break;
	case FIRE:
		fire(source->what);
		break;
	}
	between();
}

bool fake_loop_is_idle(void)
{
	if (f.n_waiting > 0 || f.n_done > 0 || f.has_changes || f.closings != NULL ||
	    (f.loop != NULL && f.loop->first != NULL))
		return false;
	for (struct lane *lane = f.lanes; lane != NULL; lane = lane->next)
		if (lane->first != NULL || lane->first_done != NULL)
			return false;
	return true;
}

static void jump(void)
{
	const struct fake_timer *timer = next_timer();
	uint64_t due_ms = timer != NULL ? timer->due_ms : UINT64_MAX;

	for (struct fake_event *event = f.events; event != NULL; event = event->next)
		if (event->due_ms < due_ms)
			due_ms = event->due_ms;
	/* What else happens in the world goes on for ever, and wakes nobody. */
	if (due_ms == UINT64_MAX || (f.loop != NULL && timer == NULL && !fake_loop_awaits_answers()))
		violated("I10", "the daemon runs, and waits for nothing that will happen");
	fake_clock_go(due_ms);
}

void fake_loop_turn(void)
{
	struct source sources[SOURCES_MAX];
	size_t n;

	f.turn++;
	if (fake_loop_is_idle() && gather(sources) == 0)
		jump();
	else
		fake_clock_go(fake_now_ms() + chance_below(3));
	run_timers();
	if (f.loop != NULL)
		run_posts();
	n = gather(sources);
	for (size_t left = n > 0 ? 1 + chance_below((unsigned)n) : 0; left > 0; left--) {
		n = gather(sources);
		if (n == 0)
			break;
		happen(&sources[chance_below((unsigned)n)]);
	}
	run_closings();
}

void fake_loop_forget(void)
{
	f.loop = NULL;
	f.timers = NULL;
	f.closings = NULL;
	f.lanes = NULL;
	f.n_waiting = f.n_done = f.n_watches = 0;
	f.has_changes = false;
}
