#include "common/derivation.h"

#include <stdbool.h>
#include <string.h>

struct reader {
	const char *p, *end;
};

struct slice {
	const char *text;
	size_t len;
};

/* Goes past TEXT, if it is next. */
static bool take(struct reader *r, const char *text)
{
	size_t n = strlen(text);

	if ((size_t)(r->end - r->p) < n || memcmp(r->p, text, n) != 0)
		return false;
	r->p += n;
	return true;
}

/* Goes past a string in double quotes; *RET is what is between them. Escapes are stepped over and left
 * as they are: no store path has a character that needs one. */
static bool take_string(struct reader *r, struct slice *ret)
{
	if (!take(r, "\""))
		return false;
	ret->text = r->p;
	for (; r->p < r->end; r->p++) {
		if (*r->p == '"') {
			ret->len = (size_t)(r->p++ - ret->text);
			return true;
		}
		if (*r->p == '\\' && ++r->p == r->end)
			return false;
	}
	return false;
}

/* ("NAME","PATH","METHOD","HASH") */
static bool take_output(struct reader *r, struct slice *path)
{
	struct slice other;

	return take(r, "(") && take_string(r, &other) && take(r, ",") && take_string(r, path) &&
	       take(r, ",") && take_string(r, &other) && take(r, ",") && take_string(r, &other) &&
	       take(r, ")");
}

static bool take_head(struct reader *r)
{
	struct slice version;

	if (take(r, "Derive(["))
		return true;
	return take(r, "DrvWithVersion(") && take_string(r, &version) && take(r, ",[");
}

static bool has_blank_or_control(const struct slice *s)
{
	for (size_t i = 0; i < s->len; i++)
		if ((unsigned char)s->text[i] <= 0x20 || s->text[i] == 0x7f)
			return true;
	return false;
}

int derivation_outputs(const char *text, size_t len, struct buf *out, size_t *ret_n_floating,
                       struct error *err)
{
	struct reader r = { text, text + len };
	size_t n_outputs = 0, n_floating = 0;
	struct slice path;

	if (len > DERIVATION_MAX_BYTES)
		return error_set(err, ERROR_PERMANENT, "larger than %d bytes", DERIVATION_MAX_BYTES);
	if (!take_head(&r))
		return error_set(err, ERROR_PERMANENT, "not a derivation");
	while (!take(&r, "]")) {
		if (n_outputs++ == DERIVATION_MAX_OUTPUTS)
			return error_set(err, ERROR_PERMANENT, "more than %d outputs",
			                 DERIVATION_MAX_OUTPUTS);
		if ((n_outputs > 1 && !take(&r, ",")) || !take_output(&r, &path))
			return error_set(err, ERROR_PERMANENT, "its outputs are not as in a derivation");
		if (has_blank_or_control(&path))
			return error_set(err, ERROR_PERMANENT,
			                 "an output has a blank or a control character");
		if (path.len == 0) {
			n_floating++;
			continue;
		}
		if (n_outputs - n_floating > 1)
			buf_putc(out, ' ');
		buf_append(out, path.text, path.len);
	}
	if (!buf_ok(out))
		return error_set(err, ERROR_PERMANENT, "its outputs are longer than %zu bytes", out->max);
	*ret_n_floating = n_floating;
	return 0;
}
