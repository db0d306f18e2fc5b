/* What differs between two configurations, by section and key; values are not told: some are secrets. */
#include <string.h>

#include "daemon/config/section.h"

static struct section find(const struct config *config, enum option_section kind, const char *name)
{
	for (size_t i = 0; i < config_n_sections(config, kind); i++) {
		struct section section = config_section(config, kind, i);

		if (name == NULL || strcmp(section.head->name, name) == 0)
			return section;
	}
	return (struct section){ .kind = kind };
}

static bool differs(const struct option *option, const struct section *a, const struct section *b)
{
	CLEANUP(buf_fini) struct buf one = { .max = MIB(1) };
	CLEANUP(buf_fini) struct buf two = { .max = MIB(1) };
	size_t n = option_n_values(option, a->head);

	if (n != option_n_values(option, b->head))
		return true;
	for (size_t i = 0; i < n; i++) {
		option_format(option, a->head, i, &one);
		option_format(option, b->head, i, &two);
		buf_putc(&one, '\n');
		buf_putc(&two, '\n');
	}
	return strcmp(buf_text(&one), buf_text(&two)) != 0;
}

static void compare_sections(const struct section *old, const struct section *next, config_change_fn tell,
                             void *ctx)
{
	struct config_change change = { .what = CONFIG_CHANGED,
		                        .section = option_section_name(next->kind),
		                        .name = next->head->name };

	for (size_t i = 0; i < n_options; i++) {
		if (options[i].section != next->kind || !differs(&options[i], old, next))
			continue;
		change.key = options[i].key;
		tell(ctx, &change);
	}
}

static void tell_missing(const struct config *in, const struct config *from, enum option_section kind,
                         enum config_change_what what, config_change_fn tell, void *ctx)
{
	for (size_t i = 0; i < config_n_sections(from, kind); i++) {
		struct section section = config_section(from, kind, i);
		struct config_change change = { .what = what,
			                        .section = option_section_name(kind),
			                        .name = section.head->name };

		if (find(in, kind, section.head->name).head == NULL)
			tell(ctx, &change);
	}
}

void config_compare(const struct config *old, const struct config *next, config_change_fn tell, void *ctx)
{
	for (enum option_section kind = SECTION_DAEMON; kind <= SECTION_PRIORITY; kind++) {
		tell_missing(next, old, kind, CONFIG_REMOVED, tell, ctx);
		tell_missing(old, next, kind, CONFIG_NEW, tell, ctx);
		for (size_t i = 0; i < config_n_sections(next, kind); i++) {
			struct section section = config_section(next, kind, i);
			struct section before = find(old, kind, section.head->name);

			if (before.head != NULL)
				compare_sections(&before, &section, tell, ctx);
		}
	}
}
