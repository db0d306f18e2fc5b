/* What the daemon says, as JSON: each record becomes an object with the keys that --json promises, all of
 * them always there. Times stay Unix seconds until model_dates, and one before 1970 is 0. Bytes that are no
 * UTF-8 become '?'.
 * Errors: NULL, no memory. Owns: what is returned is the caller's. Thread: any. */
#ifndef CTL_MODEL_H
#define CTL_MODEL_H

#include <jansson.h>
#include <stdint.h>

#include "common/record.h"

json_t *model_text(const char *text); /* NULL: null */

/* One record of the word that the name says. */
json_t *model_daemon(const struct record *record);
json_t *model_queue(const struct record *record);
json_t *model_cache(const struct record *record);
json_t *model_upload(const struct record *record);
json_t *model_cause(const struct record *record);
json_t *model_job(const struct record *record);
json_t *model_finding(const struct record *record);

/* Changes every time in MODEL, at any depth, to RFC 3339 text, and 0 to null. */
void model_dates(json_t *model);

/* Reading: a key that is not there is "", 0 or false; model_has: is it there, and not null? */
const char *model_get_text(const json_t *object, const char *key);
uint64_t model_get_uint(const json_t *object, const char *key);
int64_t model_get_int(const json_t *object, const char *key);
bool model_has(const json_t *object, const char *key);

#endif
