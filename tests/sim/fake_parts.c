#include "tests/sim/fake_parts.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/chance.h"

#define PARTS_MAX 4096

static struct fake_parts parts[PARTS_MAX];
static unsigned n_parts;

void fake_parts_init(void)
{
	n_parts = 0;
}

struct fake_parts *fake_parts_begin(unsigned cache)
{
	struct fake_parts *p = &parts[n_parts++];

	assert(n_parts <= PARTS_MAX);
	*p = (struct fake_parts){ .cache = cache, .is_open = true, .is_sent = true };
	snprintf(p->note, sizeof(p->note), "parts-%u", n_parts);
	return p;
}

struct fake_parts *fake_parts_abandon(unsigned cache, const char *note)
{
	for (unsigned i = 0; i < n_parts; i++) {
		struct fake_parts *p = &parts[i];

		if (p->cache != cache || strcmp(p->note, note) != 0)
			continue;
		if (p->is_sent)
			violated("the leftovers", "cache %u: %s is aborted while it is sent", cache, note);
		if (!p->is_noted && !p->was_cut)
			violated("the leftovers", "cache %u: %s is aborted, and was not written down", cache,
			         note);
		return p;
	}
	violated("the leftovers", "cache %u: %s is aborted, which is none of it", cache, note);
}

void fake_parts_cut_off(void)
{
	for (unsigned i = 0; i < n_parts; i++) {
		parts[i].was_cut = parts[i].was_cut || parts[i].is_sent;
		parts[i].is_sent = false;
	}
}

void fake_parts_lose(void)
{
	for (unsigned i = 0; i < n_parts; i++)
		parts[i].is_lost = true;
}

const struct fake_parts *fake_parts_left(const struct fake_parts *after)
{
	for (const struct fake_parts *p = after != NULL ? after + 1 : parts; p < &parts[n_parts]; p++)
		if (p->is_open && p->is_noted && !p->is_lost && !p->is_sent)
			return p;
	return NULL;
}
