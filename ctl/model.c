#include "ctl/model.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

enum field_type { FIELD_TEXT, FIELD_NUMBER, FIELD_BOOL, FIELD_TIME };

struct field {
	const char *record, *json;
	enum field_type type;
};

static const struct field daemon_fields[] = {
	{ "version", "version", FIELD_TEXT },
	{ "pid", "pid", FIELD_NUMBER },
	{ "started", "started", FIELD_TIME },
	{ "store-dir", "store_dir", FIELD_TEXT },
	{ "user-mode", "user_mode", FIELD_BOOL },
	{ "config-error", "config_error", FIELD_TEXT },
	{ "roots-message", "roots_message", FIELD_TEXT },
	{ "queue-message", "queue_message", FIELD_TEXT },
	{ "spool-message", "spool_message", FIELD_TEXT },
	{ "spool-files", "spool_files", FIELD_NUMBER },
	{ "bad-spool-files", "bad_spool_files", FIELD_NUMBER },
	{ "stopping", "stopping", FIELD_TEXT },
	{ 0 },
};

static const struct field queue_fields[] = {
	{ "resolving", "resolving", FIELD_NUMBER },
	{ "ready", "ready", FIELD_NUMBER },
	{ "delayed", "delayed", FIELD_NUMBER },
	{ "in-flight", "in_flight", FIELD_NUMBER },
	{ "sent", "sent", FIELD_NUMBER },
	{ "blocked", "blocked", FIELD_NUMBER },
	{ "failed", "failed", FIELD_NUMBER },
	{ "done", "done", FIELD_NUMBER },
	{ "unfinished", "unfinished", FIELD_NUMBER },
	{ 0 },
};

static const struct field cache_fields[] = {
	{ "name", "name", FIELD_TEXT },
	{ "url", "url", FIELD_TEXT },
	{ "state", "state", FIELD_TEXT },
	{ "unfinished", "unfinished", FIELD_NUMBER },
	{ "ready", "ready", FIELD_NUMBER },
	{ "delayed", "delayed", FIELD_NUMBER },
	{ "in-flight", "in_flight", FIELD_NUMBER },
	{ "sent", "sent", FIELD_NUMBER },
	{ "blocked", "blocked", FIELD_NUMBER },
	{ "failed", "failed", FIELD_NUMBER },
	{ "done", "done", FIELD_NUMBER },
	{ "uploaded-paths", "uploaded_paths", FIELD_NUMBER },
	{ "uploaded-bytes", "uploaded_bytes", FIELD_NUMBER },
	{ "skipped-paths", "skipped_paths", FIELD_NUMBER },
	{ "present-paths", "present_paths", FIELD_NUMBER },
	{ "in-upstream-paths", "in_upstream_paths", FIELD_NUMBER },
	{ "withheld-paths", "withheld_paths", FIELD_NUMBER },
	{ "failed-paths", "failed_paths", FIELD_NUMBER },
	{ "rate-bytes", "rate_bytes", FIELD_NUMBER },
	{ "paused-until", "paused_until", FIELD_TIME },
	{ "pace", "pace", FIELD_NUMBER },
	{ "message-kind", "message_kind", FIELD_TEXT },
	{ "since", "since", FIELD_TIME },
	{ "next-try", "next_try", FIELD_TIME },
	{ "message", "message", FIELD_TEXT },
	{ "note", "note", FIELD_TEXT },
	{ 0 },
};

static const struct field upload_fields[] = {
	{ "cache", "cache", FIELD_TEXT },
	{ "path", "path", FIELD_TEXT },
	{ "step", "step", FIELD_TEXT },
	{ "nar-bytes", "nar_bytes", FIELD_NUMBER },
	{ "done-bytes", "done_bytes", FIELD_NUMBER },
	{ "started", "started", FIELD_TIME },
	{ 0 },
};

static const struct field cause_fields[] = {
	{ "cache", "cache", FIELD_TEXT }, { "state", "state", FIELD_TEXT },
	{ "kind", "kind", FIELD_TEXT },   { "jobs", "jobs", FIELD_NUMBER },
	{ "path", "path", FIELD_TEXT },   { "due", "due", FIELD_TIME },
	{ "text", "text", FIELD_TEXT },   { 0 },
};

static const struct field job_fields[] = {
	{ "id", "id", FIELD_NUMBER },
	{ "path", "path", FIELD_TEXT },
	{ "cache", "cache", FIELD_TEXT },
	{ "state", "state", FIELD_TEXT },
	{ "result", "result", FIELD_TEXT },
	{ "root", "root", FIELD_BOOL },
	{ "attempts", "attempts", FIELD_NUMBER },
	{ "rank", "rank", FIELD_NUMBER },
	{ "enqueued", "enqueued", FIELD_TIME },
	{ "not-before", "not_before", FIELD_TIME },
	{ "finished", "finished", FIELD_TIME },
	{ "nar-size", "nar_size", FIELD_NUMBER },
	{ "file-size", "file_size", FIELD_NUMBER },
	{ "kind", "kind", FIELD_TEXT },
	{ "text", "text", FIELD_TEXT },
	{ "tag", "tag", FIELD_TEXT },
	{ "unprotected", "unprotected", FIELD_BOOL },
	{ 0 },
};

static const struct field finding_fields[] = {
	{ "cache", "cache", FIELD_TEXT },   { "path", "path", FIELD_TEXT },
	{ "what", "what", FIELD_TEXT },     { "text", "text", FIELD_TEXT },
	{ "repair", "repair", FIELD_TEXT }, { "upload", "upload", FIELD_TEXT },
	{ "fault", "fault", FIELD_TEXT },   { 0 },
};

json_t *model_text(const char *text)
{
	json_t *value;
	char *copy;

	if (text == NULL)
		return json_null();
	value = json_string(text);
	if (value != NULL)
		return value;
	copy = strdup(text);
	if (copy == NULL)
		return NULL;
	for (char *p = copy; *p != '\0'; p++)
		if ((*p & 0x80) != 0)
			*p = '?';
	value = json_string(copy);
	free(copy);
	return value;
}

static json_t *field_value(const struct record *record, const struct field *field)
{
	int64_t n = record_get_int(record, field->record);

	switch (field->type) {
	case FIELD_TEXT:
		return model_text(record_get(record, field->record));
	case FIELD_BOOL:
		return json_boolean(record_get_bool(record, field->record));
	case FIELD_TIME:
		/* How far it is from now will be asked, and must not overflow. */
		n = n > 0 ? n : 0;
		break;
	case FIELD_NUMBER:
		break;
	}
	return json_integer(n);
}

static json_t *model_record(const struct record *record, const struct field *fields)
{
	json_t *object = json_object();

	for (; fields->record != NULL; fields++)
		if (json_object_set_new(object, fields->json, field_value(record, fields)) < 0) {
			json_decref(object);
			return NULL;
		}
	return object;
}

json_t *model_daemon(const struct record *record)
{
	return model_record(record, daemon_fields);
}

json_t *model_queue(const struct record *record)
{
	return model_record(record, queue_fields);
}

json_t *model_cache(const struct record *record)
{
	return model_record(record, cache_fields);
}

json_t *model_upload(const struct record *record)
{
	return model_record(record, upload_fields);
}

json_t *model_cause(const struct record *record)
{
	return model_record(record, cause_fields);
}

json_t *model_job(const struct record *record)
{
	return model_record(record, job_fields);
}

json_t *model_finding(const struct record *record)
{
	return model_record(record, finding_fields);
}

static bool is_time(const char *key)
{
	static const char *const names[] = { "started",  "due",          "enqueued", "not_before",
		                             "finished", "paused_until", "since",    "next_try" };

	for (size_t i = 0; i < N_ELEMENTS(names); i++)
		if (strcmp(names[i], key) == 0)
			return true;
	return false;
}

void model_dates(json_t *model)
{
	char text[CLOCK_TEXT_SIZE];
	const char *key;
	json_t *value;
	size_t i;

	json_array_foreach(model, i, value) model_dates(value);
	json_object_foreach(model, key, value)
	{
		if (!json_is_integer(value) || !is_time(key))
			model_dates(value);
		else if (json_integer_value(value) == 0)
			json_object_set_new(model, key, json_null());
		else
			json_object_set_new(model, key,
			                    json_string(clock_format_utc(json_integer_value(value), text)));
	}
}

const char *model_get_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "";
}

int64_t model_get_int(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

uint64_t model_get_uint(const json_t *object, const char *key)
{
	int64_t n = model_get_int(object, key);

	return n > 0 ? (uint64_t)n : 0;
}

bool model_has(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	return value != NULL && !json_is_null(value);
}
