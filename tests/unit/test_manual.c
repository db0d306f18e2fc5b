/* The option table, nncache.conf(5) and the example say the same. */
#include "tests/unit/test.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/fd.h"
#include "daemon/config/options.h"

static char *manual;

static int read_manual(void **state)
{
	struct error err;

	(void)state;
	return read_file(MANUAL, MIB(1), &manual, NULL, &err);
}

static int free_manual(void **state)
{
	(void)state;
	free(manual);
	return 0;
}

/* The text from the line that begins with HEAD to the one that begins with END. */
static char *cut(const char *text, const char *head, const char *end)
{
	const char *start = strstr(text, head), *stop;

	if (start == NULL)
		fail_msg("the manual has no \"%s\"", head);
	start += strlen(head);
	stop = strstr(start, end);
	return stop != NULL ? strndup(start, (size_t)(stop - start)) : strdup(start);
}

static char *section_text(enum option_section section)
{
	CLEANUP(buf_fini) struct buf head = { .max = 128 };

	buf_printf(&head, "\n.Ss [%s", option_section_name(section));
	return cut(manual, buf_text(&head), "\n.S");
}

static void put_description(const struct option *option, struct buf *out)
{
	buf_printf(out, "\n%c%s.\n", toupper((unsigned char)option->help[0]), option->help + 1);
	option_summary(option, out);
}

static void the_manual_describes_each_option_as_the_table_does(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_options; i++) {
		CLEANUP(buf_fini) struct buf head = { .max = 256 }, description = { .max = 4096 };
		const struct option *o = &options[i];
		char *section = section_text(o->section), *item;

		buf_printf(&head, "\n.It Ic %s No = Ar %s", o->key, option_value_name(o));
		put_description(o, &description);
		item = cut(section, buf_text(&head), "\n.It Ic");
		if (strncmp(item, buf_text(&description), description.len) != 0 ||
		    (item[description.len] != '\n' && item[description.len] != '\0'))
			fail_msg("of %s the manual says\n%s\nnot%s", o->key, item, buf_text(&description));
		free(item);
		free(section);
	}
}

static void the_manual_has_no_option_that_the_table_lacks(void **state)
{
	(void)state;
	for (enum option_section s = SECTION_DAEMON; s <= SECTION_PRIORITY; s++) {
		char *section = section_text(s);
		size_t n_described = 0, n_known = 0;

		for (const char *p = section; (p = strstr(p, "\n.It Ic ")) != NULL; p++)
			n_described++;
		for (size_t i = 0; i < n_options; i++)
			n_known += options[i].section == s;
		assert_int_equal(n_described, n_known);
		free(section);
	}
}

static void assert_loads(const char *name, const char *text)
{
	static const struct config_places places = { .config_file = "/etc/nncache/nncache.conf" };
	CLEANUP(buf_fini) struct buf messages = { .max = KIB(64) };
	struct config *config = NULL;
	int rc = config_load_text(&config, &places, name, text, strlen(text), false, &messages);

	assert_string_equal(buf_text(&messages), "");
	assert_int_equal(rc, 0);
	assert_true(config->n_caches > 0);
	config_free(config);
}

static void the_example_file_loads(void **state)
{
	struct error err;
	char *text;

	(void)state;
	assert_int_equal(read_file(EXAMPLE, MIB(1), &text, NULL, &err), 0);
	assert_loads("examples/nncache.conf", text);
	free(text);
}

static void the_example_of_the_manual_loads(void **state)
{
	char *text = cut(manual, "\n.Bd -literal -offset indent\n", "\n.Ed");

	(void)state;
	for (char *p; (p = strstr(text, "\\e")) != NULL;)
		memmove(p + 1, p + 2, strlen(p + 2) + 1);
	assert_loads("the manual's example", text);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_manual_describes_each_option_as_the_table_does),
		cmocka_unit_test(the_manual_has_no_option_that_the_table_lacks),
		cmocka_unit_test(the_example_file_loads),
		cmocka_unit_test(the_example_of_the_manual_loads),
	};

	return cmocka_run_group_tests(tests, read_manual, free_manual);
}
