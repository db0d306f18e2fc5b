/* The types of the option table: how each reads a text, says what is wrong with it, and writes it
 * again. A value is stored only when all of it is right. */
#include "daemon/config/options.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config/text.h"
#include "daemon/config/url.h"

struct unit {
	char letter;
	uint64_t factor;
};

/* Largest first, so that formatting takes the first that divides. */
static const struct unit byte_units[] = {
	{ 'T', 1ULL << 40 }, { 'G', 1 << 30 }, { 'M', 1 << 20 }, { 'K', 1 << 10 }
};
static const struct unit time_units[] = {
	{ 'w', 7 * 86400 }, { 'd', 86400 }, { 'h', 3600 }, { 'm', 60 }, { 's', 1 }
};
#define FIRST_TIME_UNIT_SHOWN 1 /* nobody wrote 14d to read 2w */

static void *field_of(const struct option *option, void *object)
{
	return (char *)object + option->offset;
}

static const void *const_field_of(const struct option *option, const void *object)
{
	return (const char *)object + option->offset;
}

static bool is_list(const struct option *option)
{
	return (option->flags & OPTION_LIST) != 0;
}

static const struct text_list *list_of(const struct option *option, const void *object)
{
	assert(is_list(option) && option->size == sizeof(struct text_list));
	return const_field_of(option, object);
}

static const char *text_of(const struct option *option, const void *object)
{
	const char *text;

	assert(option->type >= OPTION_TEXT && !is_list(option) && option->size == sizeof(text));
	memcpy(&text, const_field_of(option, object), sizeof(text));
	return text;
}

/* The fields have four widths and types; memcpy reads and writes them without lying about those. */
static uint64_t number_of(const struct option *option, const void *object)
{
	const void *field = const_field_of(option, object);
	unsigned small;
	uint64_t large;
	bool flag;

	if (option->type == OPTION_BOOL) {
		memcpy(&flag, field, sizeof(flag));
		return flag;
	}
	if (option->size == sizeof(small)) {
		memcpy(&small, field, sizeof(small));
		return small;
	}
	assert(option->size == sizeof(large));
	memcpy(&large, field, sizeof(large));
	return option->type == OPTION_MILLISECONDS ? large / 1000 : large;
}

static void number_put(const struct option *option, void *object, uint64_t number)
{
	void *field = field_of(option, object);
	unsigned small = (unsigned)number;
	uint64_t large = option->type == OPTION_MILLISECONDS ? number * 1000 : number;
	bool flag = number != 0;

	if (option->type == OPTION_BOOL)
		memcpy(field, &flag, sizeof(flag));
	else if (option->size == sizeof(small))
		memcpy(field, &small, sizeof(small));
	else
		memcpy(field, &large, sizeof(large));
}

/* Numbers */

static void put_with_unit(struct buf *out, uint64_t number, const struct unit *units, size_t n_units)
{
	for (size_t i = 0; i < n_units && number > 0; i++) {
		if (number % units[i].factor == 0) {
			buf_printf(out, "%" PRIu64 "%c", number / units[i].factor, units[i].letter);
			return;
		}
	}
	buf_printf(out, "%" PRIu64, number);
}

static bool is_time(const struct option *option)
{
	return option->type == OPTION_SECONDS || option->type == OPTION_MILLISECONDS;
}

static void put_number(const struct option *option, uint64_t number, struct buf *out)
{
	if (option->type == OPTION_BYTES)
		put_with_unit(out, number, byte_units, N_ELEMENTS(byte_units));
	else if (is_time(option))
		put_with_unit(out, number, time_units + FIRST_TIME_UNIT_SHOWN,
		              N_ELEMENTS(time_units) - FIRST_TIME_UNIT_SHOWN);
	else
		buf_printf(out, "%" PRIu64 "%s", number, option->type == OPTION_PERCENT ? "%" : "");
}

/* The factor of the unit that ends a number: 0 if there is no such unit for OPTION. */
static uint64_t unit_factor(const struct option *option, const char *unit)
{
	const struct unit *units = is_time(option) ? time_units : byte_units;
	size_t n = is_time(option) ? N_ELEMENTS(time_units) : N_ELEMENTS(byte_units);

	if (option->type == OPTION_PERCENT)
		return strcmp(unit, "%") == 0;
	if (unit[0] == '\0')
		return !is_time(option);
	if (unit[1] != '\0' || option->type == OPTION_COUNT)
		return 0;
	for (size_t i = 0; i < n; i++) {
		if (units[i].letter == unit[0])
			return units[i].factor;
	}
	return 0;
}

static bool number_parse(const struct option *option, const char *value, uint64_t *ret)
{
	const char *p = value;
	uint64_t number = 0, factor;

	for (; isdigit((unsigned char)*p); p++) {
		if (__builtin_mul_overflow(number, (uint64_t)10, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(*p - '0'), &number))
			return false;
	}
	/* Zero of anything needs no unit. */
	factor = p > value && number == 0 && *p == '\0' ? 1 : unit_factor(option, p);
	return p > value && factor != 0 && !__builtin_mul_overflow(number, factor, ret);
}

static const char *number_expected(const struct option *option)
{
	if (option->type == OPTION_BYTES)
		return "a number of bytes, or of K, M, G or T (powers of 1024) as in 64M";
	if (is_time(option))
		return "a number with its unit s, m, h, d or w as in 90s";
	return option->type == OPTION_PERCENT ? "a percentage as in 5%" : "a whole number";
}

static void put_range(const struct option *option, struct buf *out)
{
	put_number(option, option->min, out);
	buf_puts(out, " to ");
	put_number(option, option->max, out);
}

static int number_read(const struct option *option, void *object, const char *value, struct error *err)
{
	CLEANUP(buf_fini) struct buf range = { .max = 256 };
	uint64_t number;

	put_range(option, &range);
	if (!number_parse(option, value, &number))
		return error_set(err, ERROR_OPERATOR, "\"%s\" is not understood\n  expected %s, from %s",
		                 value, number_expected(option), buf_text(&range));
	if (number < option->min || number > option->max)
		return error_set(err, ERROR_OPERATOR, "%s is out of range\n  expected %s", value,
		                 buf_text(&range));
	number_put(option, object, number);
	return 0;
}

/* Words */

static const struct option_word bool_words[] = { { "yes", 1 }, { "no", 0 }, { NULL, 0 } };

static const struct option_word *words_of(const struct option *option)
{
	return option->type == OPTION_BOOL ? bool_words : option->words;
}

static void put_words(const struct option *option, struct buf *out)
{
	const struct option_word *words = words_of(option);

	for (size_t i = 0; words[i].word != NULL; i++)
		buf_printf(out, "%s%s",
		           i == 0                      ? ""
		           : words[i + 1].word == NULL ? " or "
		                                       : ", ",
		           words[i].word);
}

static int word_read(const struct option *option, void *object, const char *value, struct error *err)
{
	CLEANUP(buf_fini) struct buf expected = { .max = 256 };

	for (const struct option_word *w = words_of(option); w->word != NULL; w++) {
		if (strcmp(w->word, value) == 0) {
			number_put(option, object, w->value);
			return 0;
		}
	}
	put_words(option, &expected);
	return error_set(err, ERROR_OPERATOR, "\"%s\" is not understood\n  expected %s", value,
	                 buf_text(&expected));
}

static int out_of_memory(struct error *err)
{
	return error_set(err, ERROR_TRANSIENT, "out of memory");
}

static int names_read(struct text_list *list, const char *value, struct error *err)
{
	for (const char *p = value + strspn(value, " \t"); *p != '\0'; p += strspn(p, " \t")) {
		size_t n = strcspn(p, " \t");

		if (text_list_add(list, p, n, CONFIG_MAX_LIST, err) < 0)
			return -1;
		p += n;
	}
	return 0;
}

static int text_read(const struct option *option, void *object, const char *value, struct error *err)
{
	CLEANUP(buf_fini) struct buf out = { .max = URL_MAX * 4 };
	char *text, *old;

	if (value[0] == '\0' && is_list(option))
		return 0;
	if (value[0] == '\0' && option->type != OPTION_PROXY_URL)
		return error_set(err, ERROR_OPERATOR, "has no value");
	if (option->type == OPTION_NAMES)
		return names_read(field_of(option, object), value, err);
	if (text_check(option->type, value, &out, err) < 0)
		return -1;
	if (is_list(option) && buf_ok(&out))
		return text_list_add(field_of(option, object), buf_text(&out), out.len, CONFIG_MAX_LIST, err);
	text = buf_take(&out);
	if (text == NULL)
		return out_of_memory(err);
	memcpy(&old, field_of(option, object), sizeof(old));
	free(old);
	memcpy(field_of(option, object), &text, sizeof(text));
	return 0;
}

int option_read(const struct option *option, void *object, const char *value, struct error *err)
{
	if (option->type >= OPTION_TEXT)
		return text_read(option, object, value, err);
	if (option->type == OPTION_WORD || option->type == OPTION_BOOL)
		return word_read(option, object, value, err);
	return number_read(option, object, value, err);
}

void option_format(const struct option *option, const void *object, size_t item, struct buf *out)
{
	if (is_list(option)) {
		buf_puts(out, list_of(option, object)->items[item]);
		return;
	}
	if (option->type >= OPTION_TEXT) {
		buf_puts(out, text_of(option, object));
		return;
	}
	if (option->type != OPTION_WORD && option->type != OPTION_BOOL) {
		put_number(option, number_of(option, object), out);
		return;
	}
	for (const struct option_word *w = words_of(option); w->word != NULL; w++) {
		if (w->value == number_of(option, object))
			buf_puts(out, w->word);
	}
}

size_t option_n_values(const struct option *option, const void *object)
{
	if (is_list(option))
		return list_of(option, object)->n;
	return option->type < OPTION_TEXT || text_of(option, object) != NULL;
}

void option_clear(const struct option *option, void *object)
{
	char *text;

	if (is_list(option)) {
		text_list_fini(field_of(option, object));
		return;
	}
	if (option->type >= OPTION_TEXT) {
		memcpy(&text, field_of(option, object), sizeof(text));
		free(text);
	}
	memset(field_of(option, object), 0, option->size);
}

const char *option_value_name(const struct option *option)
{
	static const char *const names[] = {
		[OPTION_BYTES] = "size",
		[OPTION_SECONDS] = "duration",
		[OPTION_MILLISECONDS] = "duration",
		[OPTION_COUNT] = "number",
		[OPTION_PERCENT] = "percentage",
		[OPTION_WORD] = "word",
		[OPTION_BOOL] = "word",
		[OPTION_TEXT] = "text",
		[OPTION_GROUP] = "group",
		[OPTION_PATH] = "path",
		[OPTION_FILE] = "file",
		[OPTION_STORE] = "store",
		[OPTION_CACHE_URL] = "url",
		[OPTION_UPSTREAM_URL] = "url",
		[OPTION_ENDPOINT_URL] = "url",
		[OPTION_PROXY_URL] = "url",
		[OPTION_REGEX] = "regex",
		[OPTION_PUBLIC_KEY] = "key",
		[OPTION_NAMES] = "names",
	};

	return names[option->type];
}

void option_summary(const struct option *option, struct buf *out)
{
	if ((option->flags & OPTION_REQUIRED) != 0)
		buf_puts(out, "Required.");
	else
		buf_printf(out, "Default: %s.",
		           option->default_text != NULL ? option->default_text : "not set");
	if (option->user_text != NULL)
		buf_printf(out, "\nUser mode: %s.", option->user_text);
	if (option->type == OPTION_WORD || option->type == OPTION_BOOL) {
		buf_puts(out, "\nOne of ");
		put_words(option, out);
		buf_putc(out, '.');
	} else if (option->type < OPTION_TEXT) {
		buf_puts(out, "\nFrom ");
		put_range(option, out);
		buf_putc(out, '.');
	}
	if ((option->flags & OPTION_LIST) != 0)
		buf_puts(out, "\nMay be given more than once.");
}
