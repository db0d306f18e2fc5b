#include "tests/sim/operator.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "tests/sim/chance.h"
#include "tests/sim/fake_loop.h"
#include "tests/sim/fake_store.h"
#include "tests/sim/hooks.h"
#include "tests/sim/life.h"

#define HEAL_EVERY_MS 600000
#define RETRIES_MAX   5

static struct fake_event again;
static unsigned n_retries;  /* since all was healed */
static bool gives_up_roots; /* an UNPROTECT is on its way */

static void excuse(const char *path)
{
	unsigned number = fake_store_number(path);

	for (unsigned i = 0; i < n_promises; i++)
		if (promises[i].path == number || (number > 0 && promises[i].derivation == number))
			promises[i].is_excused = true;
}

static void excuse_all(void)
{
	for (unsigned i = 0; i < n_promises; i++)
		promises[i].is_excused = promises[i].is_excused || !promise_is_kept(&promises[i]);
}

static void release(char **paths, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (n_retries <= RETRIES_MAX)
			excuse(paths[i]);
	if (life.intake != NULL && n > 0)
		intake_released(life.intake, paths, n);
}

static void on_done(struct queue_op *op)
{
	struct queue_forget *forget = CONTAINER_OF(op, struct queue_forget, op);
	struct queue_unprotect *unprotect = CONTAINER_OF(op, struct queue_unprotect, op);

	if (op->verb == QUEUE_FORGET && op->err.kind == ERROR_NONE)
		release(forget->released, forget->n_released);
	if (op->verb == QUEUE_UNPROTECT) {
		gives_up_roots = false;
		release(unprotect->released, unprotect->n_released);
	}
	queue_op_fini(op);
	free(op);
}

static void *op_new(size_t size, const void *value)
{
	void *op = malloc(size);

	assert(op != NULL);
	memcpy(op, value, size);
	return op;
}

static void retry(struct queue *queue, bool all)
{
	struct queue_retry retry = { .op.verb = QUEUE_RETRY, .now_unix_s = clock_unix_s() };
	struct queue_retry *op;

	if (!all && chance_one_in(2))
		retry.which.path = store_model.paths[chance_below(store_model.n_paths)].text;
	retry.which.failed_only = !all && chance_one_in(2);
	retry.which.caches =
		!all && chance_one_in(4) ? chance_bits() % (UINT64_C(1) << life.config.n_caches) : 0;
	op = op_new(sizeof(retry), &retry);
	trace("retry %s", retry.which.path != NULL ? retry.which.path : "all");
	queue_start(queue, &op->op, on_done);
}

static void pause_caches(struct queue *queue, uint64_t caches, int64_t until_unix_s)
{
	struct queue_pause *op = op_new(sizeof(*op), &(struct queue_pause){ .op.verb = QUEUE_PAUSE,
	                                                                    .caches = caches,
	                                                                    .until_unix_s = until_unix_s });

	trace("pause %llu until %lld", (unsigned long long)caches, (long long)until_unix_s);
	queue_start(queue, &op->op, on_done);
}

/* Of PATH (NULL: any) nothing more is promised on these caches (0: all). */
static void excuse_on(const char *path, uint64_t caches)
{
	for (unsigned i = 0; i < n_promises; i++) {
		struct promise *p = &promises[i];

		if ((path != NULL && p->path != fake_store_number(path)) || promise_is_kept(p))
			continue;
		p->caches &= caches != 0 ? ~caches : 0;
		p->is_excused = p->is_excused || p->caches == 0;
	}
}

/* A path, a derivation, or all; on some caches or everywhere; what failed, or whatever is unfinished. */
static void forget(struct queue *queue, uint64_t all)
{
	struct queue_forget forget = { .op.verb = QUEUE_FORGET, .now_unix_s = clock_unix_s() };
	unsigned drv = STORE_BUILT_MAX + chance_below(store_model.n_derivations);
	unsigned path =
		chance_one_in(8) && store_model.n_derivations > 0 ? drv : chance_below(store_model.n_paths);
	struct queue_forget *op;

	if (!chance_one_in(6))
		forget.which.path = store_model.paths[path].text;
	forget.which.caches = chance_one_in(4) ? chance_bits() & all : 0;
	forget.which.failed_only = chance_one_in(4);
	op = op_new(sizeof(forget), &forget);
	trace("forget %s caches %llu%s", op->which.path != NULL ? op->which.path : "all",
	      (unsigned long long)op->which.caches, op->which.failed_only ? " failed only" : "");
	if (op->which.path != NULL && op->which.caches == 0)
		excuse(op->which.path);
	else
		excuse_on(op->which.path, op->which.caches);
	queue_start(queue, &op->op, on_done);
}

static void give_up_roots(struct queue *queue)
{
	struct queue_unprotect *op;

	if (gives_up_roots)
		return;
	op = op_new(sizeof(*op), &(struct queue_unprotect){ .op.verb = QUEUE_UNPROTECT,
	                                                    .now_unix_s = clock_unix_s(),
	                                                    .n_max = 1 + chance_below(2) });
	trace("give up roots");
	gives_up_roots = true;
	queue_start(queue, &op->op, on_done);
}

static void prune(struct queue *queue)
{
	struct queue_prune *op = op_new(
		sizeof(*op), &(struct queue_prune){ .op.verb = QUEUE_PRUNE,
	                                            .before_unix_s = clock_unix_s() - chance_below(100) });

	trace("prune");
	queue_start(queue, &op->op, on_done);
}

void operator_does(struct queue *queue)
{
	uint64_t all = (UINT64_C(1) << life.config.n_caches) - 1;

	if (queue == NULL || life.is_closing || !life.is_ready)
		return;
	switch (chance_below(9)) {
	case 0:
	case 1:
	case 2:
		retry(queue, chance_one_in(2));
		break;
	case 3:
		pause_caches(queue, chance_bits() & all, clock_unix_s() + chance_below(600));
		break;
	case 4:
		pause_caches(queue, chance_bits() & all, INT64_MAX);
		break;
	case 5:
		pause_caches(queue, all, 0);
		break;
	case 6:
		if (chance_one_in(3))
			forget(queue, all);
		break;
	case 7:
		if (chance_one_in(3))
			give_up_roots(queue);
		break;
	case 8:
		prune(queue);
		break;
	}
}

static bool has_failed(struct queue *queue)
{
	uint64_t n = queue_root_count(queue, ROOT_FAILED);

	for (size_t i = 0; i < life.config.n_caches; i++)
		n += queue_cache_counts(queue, i)->jobs[JOB_FAILED] +
		     queue_cache_counts(queue, i)->jobs[JOB_BLOCKED];
	return n > 0;
}

static void forget_left_overs(struct queue *queue)
{
	struct queue_forget *op = op_new(sizeof(*op), &(struct queue_forget){ .op.verb = QUEUE_FORGET,
	                                                                      .now_unix_s = clock_unix_s(),
	                                                                      .which.failed_only = true });

	trace("forget what is left over");
	queue_start(queue, &op->op, on_done);
}

/* What can go on by itself gets no help: it must. */
static void on_again(struct fake_event *event)
{
	if (life.is_ready && !life.is_closing) {
		for (size_t i = 0; i < life.config.n_caches; i++)
			if (queue_paused_until_unix_s(life.queue, i) != 0)
				pause_caches(life.queue, UINT64_C(1) << i, 0);
		if (has_failed(life.queue) && ++n_retries > RETRIES_MAX)
			forget_left_overs(life.queue);
		else if (has_failed(life.queue))
			retry(life.queue, true);
	}
	fake_event_in(event, HEAL_EVERY_MS, on_again);
}

void operator_heals(void)
{
	fake_event_in(&again, 0, on_again);
}

void operator_hang_up(void)
{
	if (gives_up_roots)
		excuse_all();
	gives_up_roots = false;
}
