/* JSON whose memory fails, each allocation in turn: it is whole, or it is an error. */
#include "daemon/backend/json_text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/test.h"

#define LONG 50000 /* in several chunks, and a text that grows many times */

static struct {
	bool is_armed, for_good;
	int nth; /* from 1: the one that fails */
	int n;
} memory;

void *__real_malloc(size_t n);
void *__real_realloc(void *old, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_realloc(void *old, size_t n);

static bool fails(void)
{
	if (!memory.is_armed)
		return false;
	memory.n++;
	return memory.for_good ? memory.n >= memory.nth : memory.n == memory.nth;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_realloc(void *old, size_t n)
{
	return fails() ? NULL : __real_realloc(old, n);
}

static void arm(int nth, bool for_good)
{
	memory.nth = nth;
	memory.for_good = for_good;
	memory.n = 0;
	memory.is_armed = true;
}

/* Did one fail since? */
static bool disarm(void)
{
	memory.is_armed = false;
	return memory.n >= memory.nth;
}

/* {"KEY": ["a\nbbb...", "c"]} with a long key, as it is written. */
static void make_text(struct buf *text)
{
	buf_init(text, 4 * LONG);
	buf_puts(text, "{\"");
	for (int i = 0; i < LONG; i++)
		buf_putc(text, 'k');
	buf_puts(text, "\":[\"a\\n");
	for (int i = 0; i < LONG; i++)
		buf_putc(text, 'b');
	buf_puts(text, "\",\"c\"]}");
	assert_true(buf_ok(text));
}

/* Returns whether memory failed. */
static bool read_with(const struct buf *text, int nth, bool for_good)
{
	CLEANUP(json_doc_fini) struct json_doc doc = { 0 };
	struct error err;
	bool has_failed;
	char *again;
	int rc;

	arm(nth, for_good);
	rc = json_doc_read(&doc, text, &err);
	has_failed = disarm();
	if (has_failed) {
		assert_int_equal(rc, -1);
		assert_int_equal(err.kind, ERROR_TRANSIENT);
		assert_null(doc.root);
		return true;
	}
	assert_int_equal(rc, 0);
	again = json_dumps(doc.root, JSON_COMPACT);
	assert_string_equal(again, buf_text(text));
	free(again);
	return false;
}

static void what_is_read_is_whole_or_an_error(void **state)
{
	struct buf text;
	int n = 0;
	(void)state;

	make_text(&text);
	while (read_with(&text, n + 1, false) && read_with(&text, n + 1, true))
		n++;
	assert_true(n > 3);
	buf_fini(&text);
}

static bool write_with(const json_t *value, const char *expected, int nth)
{
	CLEANUP(buf_fini) struct buf out = { .max = 4 * LONG };
	struct error err;
	bool has_failed;
	int rc;

	arm(nth, false);
	rc = json_text_write(&out, value, 0, &err);
	has_failed = disarm();
	assert_int_equal(rc, has_failed ? -1 : 0);
	if (has_failed)
		assert_int_equal(err.kind, ERROR_TRANSIENT);
	else
		assert_string_equal(buf_text(&out), expected);
	return has_failed;
}

static void what_is_written_is_whole_or_an_error(void **state)
{
	CLEANUP(json_doc_fini) struct json_doc doc = { 0 };
	struct error err;
	struct buf text;
	int n = 0;
	(void)state;

	make_text(&text);
	assert_int_equal(json_doc_read(&doc, &text, &err), 0);
	while (write_with(doc.root, buf_text(&text), n + 1))
		n++;
	assert_true(n > 3);
	buf_fini(&text);
}

static void what_cannot_be_made_is_not_written(void **state)
{
	struct error err;
	struct buf out;
	(void)state;

	buf_init(&out, KIB(1));
	assert_int_equal(json_text_write(&out, NULL, 0, &err), -1);
	assert_int_equal(out.len, 0);
	buf_fini(&out);
}

static void what_is_no_json_has_no_root(void **state)
{
	static const char *const texts[] = { "", "<html>", "[\"a\"", "[] []" };
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(texts); i++) {
		CLEANUP(json_doc_fini) struct json_doc doc = { 0 };
		struct error err;
		struct buf text;

		buf_init(&text, KIB(1));
		buf_puts(&text, texts[i]);
		assert_int_equal(json_doc_read(&doc, &text, &err), 0);
		assert_null(doc.root);
		buf_fini(&text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_read_is_whole_or_an_error),
		cmocka_unit_test(what_is_written_is_whole_or_an_error),
		cmocka_unit_test(what_cannot_be_made_is_not_written),
		cmocka_unit_test(what_is_no_json_has_no_root),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
