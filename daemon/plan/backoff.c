#include "daemon/plan/backoff.h"

#include "common/attr.h"

uint64_t backoff_retry_after_s(uint32_t retry_after_s)
{
	return retry_after_s < BACKOFF_RETRY_AFTER_S ? retry_after_s : BACKOFF_RETRY_AFTER_S;
}

uint64_t backoff_delay_s(unsigned attempts, uint64_t random, uint32_t retry_after_s)
{
	uint64_t ceiling = BACKOFF_FIRST_S, delay, least = backoff_retry_after_s(retry_after_s);

	while (attempts-- > 0 && ceiling < BACKOFF_MAX_S)
		ceiling *= 2;
	if (ceiling > BACKOFF_MAX_S)
		ceiling = BACKOFF_MAX_S;
	delay = 1 + random % ceiling;
	/* Many were told the same second: the jitter goes on top of it. */
	return least > 0 ? least + delay % (1 + least / 4) : delay;
}

uint64_t backoff_operator_delay_s(unsigned attempts)
{
	static const uint64_t minutes[] = { 1, 5, 15, 30 };

	return 60 * minutes[attempts < N_ELEMENTS(minutes) ? attempts : N_ELEMENTS(minutes) - 1];
}

struct backoff_verdict backoff_decide(const struct backoff_case *c)
{
	switch (c->fault->kind) {
	case ERROR_TRANSIENT:
		if (c->is_machines)
			return (struct backoff_verdict){ .delay_s = 1 + c->random % BACKOFF_MACHINES_S };
		if (c->attempts + 1 >= c->give_up_after)
			return (struct backoff_verdict){ .give_up = true, .counts = true };
		return (struct backoff_verdict){
			.counts = true,
			.delay_s = backoff_delay_s(c->attempts, c->random, c->fault->retry_after_s),
		};
	case ERROR_OPERATOR:
		return (struct backoff_verdict){ .counts = true,
			                         .delay_s = backoff_operator_delay_s(c->attempts) };
	case ERROR_PERMANENT:
		return (struct backoff_verdict){ .give_up = true, .counts = true };
	case ERROR_CANCELED:
	case ERROR_NONE:
		break;
	}
	return (struct backoff_verdict){ .delay_s = 0 };
}
