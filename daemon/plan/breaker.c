#include "daemon/plan/breaker.h"

#include <string.h>

#include "daemon/plan/backoff.h"

static uint64_t probe_delay_ms(const struct breaker *b, uint64_t random)
{
	uint64_t least_ms = 1000 * backoff_retry_after_s(b->fault.retry_after_s);
	uint64_t delay_ms = BREAKER_FIRST_MS;

	if (b->fault.kind == ERROR_OPERATOR) {
		delay_ms = 1000 * backoff_operator_delay_s(b->n_probes);
	} else {
		for (unsigned n = b->n_probes; n > 0 && delay_ms < BREAKER_MAX_MS; n--)
			delay_ms *= 2;
		if (delay_ms > BREAKER_MAX_MS)
			delay_ms = BREAKER_MAX_MS;
		delay_ms = delay_ms / 2 + random % (delay_ms / 2 + 1);
	}
	if (delay_ms >= least_ms)
		return delay_ms;
	/* Many daemons were told the same second. */
	return least_ms + random % (least_ms / 4 + 1);
}

static void remember_tried(struct breaker *b, int64_t job)
{
	b->tried[b->next_tried] = job;
	b->next_tried = (b->next_tried + 1) % BREAKER_TRIED_MAX;
	if (b->n_tried < BREAKER_TRIED_MAX)
		b->n_tried++;
}

/* What a probe met on its way, before it came to what opened the breaker, says nothing of that. */
static void set_fault(struct breaker *b, const struct breaker_fault *fault, const struct breaker_now *now)
{
	b->fault = *fault->err;
	b->due_mono_ms = now->mono_ms + probe_delay_ms(b, now->random);
	b->awaits_probe = false;
	if (!fault->is_server_fault && fault->stage < b->stage)
		return;
	b->is_server_fault = fault->is_server_fault;
	b->stage = fault->stage;
	if (fault->is_server_fault && fault->err->kind == ERROR_TRANSIENT)
		b->stage = BREAKER_PREPARE; /* where nothing answered, any answer is news */
	else if (fault->is_server_fault && fault->stage == BREAKER_SEND_INFO)
		b->stage = BREAKER_SEND; /* who may write at all is known from either */
}

static void open_breaker(struct breaker *b, const struct breaker_fault *fault, const struct breaker_now *now)
{
	struct breaker opened = { .is_open = true, .since_unix_s = now->unix_s };

	for (size_t i = 0; i < BREAKER_EVIDENCE - 1; i++)
		if (b->witnesses[fault->err->kind][i].job != 0)
			remember_tried(&opened, b->witnesses[fault->err->kind][i].job);
	remember_tried(&opened, fault->job);
	set_fault(&opened, fault, now);
	*b = opened;
}

/* Is it the third of its kind? If not, its job is remembered. */
static bool completes_evidence(struct breaker *b, const struct breaker_fault *fault)
{
	struct breaker_witness *witnesses = b->witnesses[fault->err->kind];

	for (size_t i = 0; i < BREAKER_EVIDENCE - 1; i++) {
		if (witnesses[i].job == 0)
			witnesses[i] = (struct breaker_witness){ fault->job, fault->stage };
		if (witnesses[i].job != fault->job)
			continue;
		if (witnesses[i].stage < fault->stage)
			witnesses[i].stage = fault->stage;
		return false;
	}
	return true;
}

static bool disproves(const struct breaker_fault *fault, const struct breaker *b)
{
	return b->is_server_fault && !fault->is_server_fault && fault->stage >= b->stage;
}

bool breaker_fault(struct breaker *b, const struct breaker_fault *fault, const struct breaker_now *now)
{
	if (b->is_open && !fault->is_probe)
		return true;
	if (b->is_open && !disproves(fault, b)) {
		b->n_probes = fault->err->kind == b->fault.kind ? b->n_probes + 1 : 0;
		set_fault(b, fault, now);
		return true;
	}
	if (b->is_open)
		*b = (struct breaker){ 0 };
	if (!fault->is_server_fault && !completes_evidence(b, fault))
		return false;
	open_breaker(b, fault, now);
	return true;
}

/* Those that failed no further than at STAGE are witnesses no more. */
static void dismiss_witnesses(struct breaker *b, enum breaker_stage stage)
{
	for (size_t kind = 0; kind < BREAKER_N_FAULT_KINDS; kind++) {
		struct breaker_witness left[BREAKER_EVIDENCE - 1] = { 0 };
		size_t n_left = 0;

		for (size_t i = 0; i < BREAKER_EVIDENCE - 1; i++)
			if (b->witnesses[kind][i].job != 0 && b->witnesses[kind][i].stage > stage)
				left[n_left++] = b->witnesses[kind][i];
		memcpy(b->witnesses[kind], left, sizeof(left));
	}
}

bool breaker_success(struct breaker *b, enum breaker_stage stage, bool is_probe)
{
	if (!b->is_open) {
		dismiss_witnesses(b, stage);
		return false;
	}
	if (!is_probe || stage < b->stage)
		return false;
	*b = (struct breaker){ 0 };
	return true;
}

enum breaker_claim breaker_may_claim(const struct breaker *b, uint64_t now_mono_ms)
{
	if (!b->is_open)
		return BREAKER_ALL;
	return now_mono_ms >= b->due_mono_ms ? BREAKER_ONE : BREAKER_NONE;
}

bool breaker_forget_tried(struct breaker *b)
{
	bool had_some = b->n_tried > 0;

	b->n_tried = b->next_tried = 0;
	return had_some;
}

void breaker_probe_began(struct breaker *b, int64_t job, uint64_t now_mono_ms)
{
	if (!b->is_open)
		return;
	remember_tried(b, job);
	b->due_mono_ms = now_mono_ms + BREAKER_PATIENCE_MS;
	b->awaits_probe = true;
}

void breaker_probe_showed_nothing(struct breaker *b, uint64_t now_mono_ms)
{
	if (b->is_open && b->awaits_probe)
		b->due_mono_ms = now_mono_ms + BREAKER_NOTHING_MS;
}

void breaker_probe_now(struct breaker *b, uint64_t now_mono_ms)
{
	if (!b->is_open)
		return;
	b->n_probes = 0;
	b->due_mono_ms = now_mono_ms;
	b->awaits_probe = false;
}
