#include "common/protocol.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/store_path.h"

#define HEADER "nncache "
#define END    "\nend\n"

/* The keys, and below them which verb takes which: parser and formatter know no other list. */
enum key_id {
	KEY_PATH,
	KEY_CACHE,
	KEY_DERIVATION,
	KEY_TAG,
	KEY_STATE,
	KEY_FORCE,
	KEY_FAILED,
	KEY_ALL,
	KEY_AFTER,
	KEY_LIMIT,
	KEY_UNTIL,
	KEY_REQUEST,
	KEY_DEEP,
	KEY_REPAIR,
	KEY_SINCE,
	N_KEYS,
};

enum key_type { TYPE_PATHS, TYPE_CACHES, TYPE_PATH, TYPE_TEXT, TYPE_FLAG, TYPE_NUMBER };

struct key {
	const char *name;
	enum key_type type;
	size_t offset; /* of its member in struct request */
};

static const struct key keys[N_KEYS] = {
	[KEY_PATH] = { "path", TYPE_PATHS, offsetof(struct request, paths) },
	[KEY_CACHE] = { "cache", TYPE_CACHES, offsetof(struct request, caches) },
	[KEY_DERIVATION] = { "derivation", TYPE_PATH, offsetof(struct request, derivation) },
	[KEY_TAG] = { "tag", TYPE_TEXT, offsetof(struct request, tag) },
	[KEY_STATE] = { "state", TYPE_TEXT, offsetof(struct request, state) },
	[KEY_FORCE] = { "force", TYPE_FLAG, offsetof(struct request, force) },
	[KEY_FAILED] = { "failed", TYPE_FLAG, offsetof(struct request, failed) },
	[KEY_ALL] = { "all", TYPE_FLAG, offsetof(struct request, all) },
	[KEY_AFTER] = { "after", TYPE_NUMBER, offsetof(struct request, after) },
	[KEY_LIMIT] = { "limit", TYPE_NUMBER, offsetof(struct request, limit) },
	[KEY_UNTIL] = { "until", TYPE_NUMBER, offsetof(struct request, until) },
	[KEY_REQUEST] = { "request", TYPE_NUMBER, offsetof(struct request, request_id) },
	[KEY_DEEP] = { "deep", TYPE_FLAG, offsetof(struct request, deep) },
	[KEY_REPAIR] = { "repair", TYPE_FLAG, offsetof(struct request, repair) },
	[KEY_SINCE] = { "since", TYPE_NUMBER, offsetof(struct request, since) },
};

#define BIT(key) (1U << (key))

struct verb_rule {
	const char *name;
	unsigned takes;
	unsigned needs; /* at least one of these */
	const char *needs_text;
};

#define ENQUEUE_KEYS (BIT(KEY_PATH) | BIT(KEY_DERIVATION) | BIT(KEY_TAG) | BIT(KEY_CACHE))

static const struct verb_rule verbs[] = {
	[VERB_ENQUEUE] = { "enqueue", ENQUEUE_KEYS, BIT(KEY_PATH) | BIT(KEY_DERIVATION),
	                   "a path or a derivation" },
	[VERB_PUSH] = { "push", ENQUEUE_KEYS | BIT(KEY_FORCE), BIT(KEY_PATH) | BIT(KEY_DERIVATION),
	                "a path or a derivation" },
	[VERB_STATUS] = { "status", 0, 0, NULL },
	[VERB_LIST] = { "list", BIT(KEY_STATE) | BIT(KEY_CACHE) | BIT(KEY_AFTER) | BIT(KEY_LIMIT), 0, NULL },
	[VERB_SHOW] = { "show", BIT(KEY_PATH), BIT(KEY_PATH), "a path" },
	[VERB_WAIT] = { "wait", BIT(KEY_PATH) | BIT(KEY_TAG) | BIT(KEY_REQUEST), 0, NULL },
	[VERB_RETRY] = { "retry", BIT(KEY_PATH) | BIT(KEY_CACHE) | BIT(KEY_FAILED),
	                 BIT(KEY_PATH) | BIT(KEY_FAILED), "a path or 'failed yes'" },
	[VERB_FORGET] = { "forget", BIT(KEY_PATH) | BIT(KEY_CACHE) | BIT(KEY_FAILED),
	                  BIT(KEY_PATH) | BIT(KEY_FAILED), "a path or 'failed yes'" },
	[VERB_PAUSE] = { "pause", BIT(KEY_CACHE) | BIT(KEY_ALL) | BIT(KEY_UNTIL),
	                 BIT(KEY_CACHE) | BIT(KEY_ALL), "a cache or 'all yes'" },
	[VERB_RESUME] = { "resume", BIT(KEY_CACHE) | BIT(KEY_ALL), BIT(KEY_CACHE) | BIT(KEY_ALL),
	                  "a cache or 'all yes'" },
	[VERB_CONFIG] = { "config", 0, 0, NULL },
	[VERB_VERIFY] = { "verify", BIT(KEY_CACHE) | BIT(KEY_DEEP) | BIT(KEY_REPAIR), BIT(KEY_CACHE),
	                  "a cache" },
	[VERB_CATCH_UP] = { "catch-up", BIT(KEY_SINCE) | BIT(KEY_CACHE), 0, NULL },
};

const char *verb_name(enum verb verb)
{
	return verbs[verb].name;
}

/* The member of REQ that KEY is about. */
static void *member_of(struct request *req, const struct key *key)
{
	return (char *)req + key->offset;
}

static const void *const_member_of(const struct request *req, const struct key *key)
{
	return (const char *)req + key->offset;
}

/* NULL, or what is wrong with VALUE. */
static const char *value_fault(const struct key *key, const char *value)
{
	bool is_path = key->type == TYPE_PATHS || key->type == TYPE_PATH;
	size_t len = strlen(value);

	if (len == 0)
		return "the value is missing";
	if (len > (is_path ? STORE_PATH_SIZE - 1 : REQUEST_MAX_VALUE))
		return "the value is too long";
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)value[i] < 0x20 || value[i] == 0x7f)
			return "the value has a control character";
	return NULL;
}

/* Plain decimal, at most INT64_MAX, nothing around it. */
static bool parse_number(const char *text, int64_t *ret)
{
	int64_t n = 0;

	for (const char *p = text; *p != '\0'; p++) {
		int digit = *p - '0';

		if (digit < 0 || digit > 9 || n > (INT64_MAX - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*ret = n;
	return true;
}

struct parser {
	struct request req;
	size_t max_paths; /* that req.paths has room for */
	char *next;       /* the line to read next */
	const char *end;
	unsigned line; /* the number of the line read last */
	unsigned seen; /* keys */
};

/* The next line, its LF made a NUL; NULL if there is none or it has a control character. */
static char *next_line(struct parser *p, struct error *err)
{
	char *line = p->next, *lf = memchr(line, '\n', (size_t)(p->end - line));

	p->line++;
	if (lf == NULL) {
		error_set(err, ERROR_PERMANENT, "the request does not end with a line 'end'");
		return NULL;
	}
	for (char *c = line; c < lf; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f) {
			error_set(err, ERROR_PERMANENT, "line %u: a control character", p->line);
			return NULL;
		}
	*lf = '\0';
	p->next = lf + 1;
	return line;
}

/* "nncache VERSION VERB" */
static int parse_header(struct parser *p, struct error *err)
{
	const char *line = next_line(p, err);

	if (line == NULL)
		return -1;
	if (strncmp(line, HEADER, strlen(HEADER)) != 0)
		return error_set(err, ERROR_PERMANENT, "line 1: expected 'nncache 1 VERB'");
	line += strlen(HEADER);
	if (strncmp(line, "1 ", 2) != 0)
		return error_set(err, ERROR_PERMANENT, "line 1: only version 1 of the protocol is known");
	line += 2;
	for (size_t i = 0; i < N_ELEMENTS(verbs); i++)
		if (strcmp(line, verbs[i].name) == 0) {
			p->req.verb = (enum verb)i;
			return 0;
		}
	return error_set(err, ERROR_PERMANENT, "line 1: unknown verb '%.40s'", line);
}

static const char *set_number(struct parser *p, const struct key *key, const char *value)
{
	int64_t n;

	if (!parse_number(value, &n))
		return "expected a number";
	if (key == &keys[KEY_LIMIT] && (n < 1 || n > REQUEST_MAX_LIMIT))
		return "expected 1 to 1000";
	*(int64_t *)member_of(&p->req, key) = n;
	return NULL;
}

static const char *set_flag(struct parser *p, const struct key *key, const char *value)
{
	bool yes = strcmp(value, "yes") == 0;

	if (!yes && strcmp(value, "no") != 0)
		return "expected yes or no";
	*(bool *)member_of(&p->req, key) = yes;
	return NULL;
}

/* Puts VALUE where KEY belongs. Returns NULL, or what is wrong. */
static const char *set_value(struct parser *p, const struct key *key, const char *value)
{
	const char *fault = value_fault(key, value);
	struct request *req = &p->req;

	if (fault != NULL)
		return fault;
	switch (key->type) {
	case TYPE_PATHS:
		if (req->n_paths == p->max_paths)
			return "more than 4096 paths";
		req->paths[req->n_paths++] = value;
		return NULL;
	case TYPE_CACHES:
		if (req->n_caches == REQUEST_MAX_CACHES)
			return "more than 64 caches";
		req->caches[req->n_caches++] = value;
		return NULL;
	case TYPE_PATH:
	case TYPE_TEXT:
		*(const char **)member_of(req, key) = value;
		return NULL;
	case TYPE_FLAG:
		return set_flag(p, key, value);
	case TYPE_NUMBER:
		return set_number(p, key, value);
	}
	return "unknown type";
}

static bool may_repeat(const struct key *key)
{
	return key->type == TYPE_PATHS || key->type == TYPE_CACHES;
}

/* "KEY VALUE" */
static int parse_key(struct parser *p, char *line, struct error *err)
{
	const struct verb_rule *rule = &verbs[p->req.verb];
	char *blank = strchr(line, ' ');
	const char *fault;
	size_t i = 0;

	if (blank != NULL)
		*blank = '\0';
	while (i < N_KEYS && strcmp(line, keys[i].name) != 0)
		i++;
	if (i == N_KEYS)
		return error_set(err, ERROR_PERMANENT, "line %u: unknown key '%.40s'", p->line, line);
	if ((rule->takes & BIT(i)) == 0)
		return error_set(err, ERROR_PERMANENT, "line %u: %s takes no %s", p->line, rule->name, line);
	if ((p->seen & BIT(i)) != 0 && !may_repeat(&keys[i]))
		return error_set(err, ERROR_PERMANENT, "line %u: %s is given twice", p->line, line);
	p->seen |= BIT(i);
	fault = set_value(p, &keys[i], blank != NULL ? blank + 1 : "");
	if (fault != NULL)
		return error_set(err, ERROR_PERMANENT, "line %u: %s: %s", p->line, line, fault);
	return 0;
}

/* What can be judged only when all keys are known. */
static int check_whole(const struct parser *p, struct error *err)
{
	const struct verb_rule *rule = &verbs[p->req.verb];

	if (rule->needs != 0 && (p->seen & rule->needs) == 0)
		return error_set(err, ERROR_PERMANENT, "%s needs %s", rule->name, rule->needs_text);
	if (p->req.verb == VERB_SHOW && p->req.n_paths > 1)
		return error_set(err, ERROR_PERMANENT, "show takes one path");
	if (p->req.verb == VERB_VERIFY && p->req.n_caches > 1)
		return error_set(err, ERROR_PERMANENT, "verify takes one cache");
	if (p->next != p->end)
		return error_set(err, ERROR_PERMANENT, "line %u: something follows 'end'", p->line + 1);
	return 0;
}

static int parse_lines(struct parser *p, struct error *err)
{
	char *line;

	if (parse_header(p, err) < 0)
		return -1;
	for (;;) {
		line = next_line(p, err);
		if (line == NULL)
			return -1;
		if (strcmp(line, "end") == 0)
			return check_whole(p, err);
		if (parse_key(p, line, err) < 0)
			return -1;
	}
}

/* How many lines could be a path, no more than are allowed. */
static size_t count_paths(const char *data, size_t len)
{
	const char *end = data + len;
	size_t n = 0;

	for (const char *p = data; n < REQUEST_MAX_PATHS; n++) {
		p = memmem(p, (size_t)(end - p), "\npath ", 6);
		if (p == NULL)
			break;
		p++;
	}
	return n;
}

int request_parse(struct request *ret, const char *data, size_t len, struct error *err)
{
	struct parser p = { 0 };
	size_t n_bytes;
	char *text;

	if (len > REQUEST_MAX_BYTES)
		return error_set(err, ERROR_PERMANENT, "the request is larger than %d bytes",
		                 REQUEST_MAX_BYTES);
	p.max_paths = count_paths(data, len);
	n_bytes = p.max_paths * sizeof(*p.req.paths);
	p.req.memory = malloc(n_bytes + len + 1);
	if (p.req.memory == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	p.req.paths = p.req.memory;
	text = (char *)p.req.memory + n_bytes;
	memcpy(text, data, len);
	text[len] = '\0';
	p.next = text;
	p.end = text + len;
	if (parse_lines(&p, err) < 0) {
		request_fini(&p.req);
		return -1;
	}
	*ret = p.req;
	return 0;
}

void request_fini(struct request *req)
{
	free(req->memory);
	*req = (struct request){ 0 };
}

bool request_is_complete(const char *data, size_t len, size_t n_checked)
{
	/* The end mark may have begun in what was checked. */
	size_t from = n_checked > strlen(END) - 1 ? n_checked - (strlen(END) - 1) : 0;

	assert(n_checked <= len);
	return len > 0 && memmem(data + from, len - from, END, strlen(END)) != NULL;
}

static int format_text(struct buf *out, const struct key *key, const char *value, struct error *err)
{
	const char *fault = value_fault(key, value);

	if (fault != NULL)
		return error_set(err, ERROR_PERMANENT, "%s: %s", key->name, fault);
	buf_puts(out, key->name);
	buf_putc(out, ' ');
	buf_puts(out, value);
	buf_putc(out, '\n');
	return 0;
}

static int format_texts(struct buf *out, const struct key *key, const char *const *values, size_t n,
                        struct error *err)
{
	for (size_t i = 0; i < n; i++)
		if (format_text(out, key, values[i], err) < 0)
			return -1;
	return 0;
}

static int format_key(struct buf *out, const struct request *req, const struct key *key, struct error *err)
{
	const void *member = const_member_of(req, key);
	const char *text;
	int64_t n;

	switch (key->type) {
	case TYPE_PATHS:
		return format_texts(out, key, req->paths, req->n_paths, err);
	case TYPE_CACHES:
		return format_texts(out, key, req->caches, req->n_caches, err);
	case TYPE_PATH:
	case TYPE_TEXT:
		text = *(const char *const *)member;
		return text != NULL ? format_text(out, key, text, err) : 0;
	case TYPE_FLAG:
		if (*(const bool *)member)
			buf_printf(out, "%s yes\n", key->name);
		return 0;
	case TYPE_NUMBER:
		n = *(const int64_t *)member;
		if (n != 0)
			buf_printf(out, "%s %" PRId64 "\n", key->name, n);
		return 0;
	}
	return 0;
}

int request_check_paths(const struct request *req, const char *store_dir, struct error *err)
{
	for (size_t i = 0; i < req->n_paths; i++)
		if (store_path_check(req->paths[i], store_dir, err) < 0)
			return -1;
	if (req->derivation == NULL)
		return 0;
	if (store_path_check(req->derivation, store_dir, err) < 0)
		return -1;
	if (!store_path_is_derivation(req->derivation))
		return error_set(err, ERROR_PERMANENT, "%s is not a derivation", req->derivation);
	return 0;
}

int request_format(const struct request *req, struct buf *out, struct error *err)
{
	buf_printf(out, HEADER "1 %s\n", verbs[req->verb].name);
	for (size_t i = 0; i < N_KEYS; i++)
		if (format_key(out, req, &keys[i], err) < 0)
			return -1;
	buf_puts(out, "end\n");
	if (!buf_ok(out))
		return error_set(err, ERROR_PERMANENT, "the request is larger than %zu bytes", out->max);
	return 0;
}

static const char *const kind_names[] = {
	[ANSWER_OK] = "ok",
	[ANSWER_USAGE] = "usage",
	[ANSWER_DENIED] = "denied",
	[ANSWER_REFUSED] = "refused",
	[ANSWER_BUSY] = "busy",
	[ANSWER_TRANSIENT] = "transient",
	[ANSWER_TOO_LARGE] = "too-large",
	[ANSWER_TIMEOUT] = "timeout",
	[ANSWER_UNKNOWN] = "unknown",
};

const char *answer_kind_name(enum answer_kind kind)
{
	return kind_names[kind];
}

static bool begins_with_word(const char *line, const char *word)
{
	size_t n = strlen(word);

	return strncmp(line, word, n) == 0 && (line[n] == ' ' || line[n] == '\0');
}

bool answer_is_last(const char *line)
{
	return begins_with_word(line, "ok") || begins_with_word(line, "error");
}

static int parse_error_line(struct answer *ret, char *line, struct error *err)
{
	char *kind = line + strlen("error"), *text;

	if (*kind++ != ' ')
		return error_set(err, ERROR_PERMANENT, "the answer is an error without a kind");
	text = strchr(kind, ' ');
	if (text != NULL)
		*text++ = '\0';
	ret->kind = ANSWER_TRANSIENT;
	for (size_t i = ANSWER_USAGE; i < N_ELEMENTS(kind_names); i++)
		if (strcmp(kind, kind_names[i]) == 0)
			ret->kind = (enum answer_kind)i;
	ret->text = text != NULL ? text : kind;
	return 0;
}

int answer_parse(struct answer *ret, char *line, struct error *err)
{
	ret->kind = ANSWER_OK;
	ret->text = "";
	ret->fields.n_fields = 0;
	if (begins_with_word(line, "ok"))
		return record_parse(&ret->fields, line, err);
	if (begins_with_word(line, "error"))
		return parse_error_line(ret, line, err);
	return error_set(err, ERROR_PERMANENT, "the answer does not end with ok or error");
}

void answer_format_error(struct buf *out, enum answer_kind kind, const char *text)
{
	buf_printf(out, "error %s ", kind_names[kind]);
	for (const char *p = text; *p != '\0'; p++) {
		bool is_control = (unsigned char)*p < 0x20 || *p == 0x7f;

		buf_append(out, is_control ? " " : p, 1);
	}
	buf_putc(out, '\n');
}
