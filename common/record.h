/* Record lines of answers, "WORD KEY=VALUE KEY=VALUE ...", written and read (docs/protocol.md). In a
 * value a blank, '%' and every byte outside 0x21..0x7e is %XX.
 * Limits: RECORD_MAX_FIELDS fields. Thread: any. */
#ifndef COMMON_RECORD_H
#define COMMON_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/buf.h"
#include "common/error.h"

#define RECORD_MAX_FIELDS 48

/* A record is begun, given its fields, ended; words and keys are lower-case letters, digits, dashes. */
void record_begin(struct buf *out, const char *word);
void record_text(struct buf *out, const char *key, const char *value); /* NULL: leaves the field out */
void record_int(struct buf *out, const char *key, int64_t value);
void record_uint(struct buf *out, const char *key, uint64_t value);
void record_bool(struct buf *out, const char *key, bool value); /* yes, no */
void record_end(struct buf *out);
/* The line "." that says a list is whole. */
void record_end_list(struct buf *out);

struct record {
	const char *word;
	struct record_field {
		const char *key, *value; /* the value decoded */
	} fields[RECORD_MAX_FIELDS];
	size_t n_fields;
};

/* Takes LINE (no LF) apart in place; RET points into it. Errors: PERMANENT, and LINE is of no use. */
int record_parse(struct record *ret, char *line, struct error *err) MUST_CHECK;

/* The value of KEY; without it NULL, 0 or false. A number that is none is 0. */
const char *record_get(const struct record *record, const char *key);
int64_t record_get_int(const struct record *record, const char *key);
uint64_t record_get_uint(const struct record *record, const char *key);
bool record_get_bool(const struct record *record, const char *key);

#endif
