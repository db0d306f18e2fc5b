/* What the doctor looks at: the records of `nncached --doctor`, the status of the daemon that runs, and Nix's
 * configuration. What cannot be had is a finding of its own, and no reason to end. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/clock.h"
#include "ctl/connect.h"
#include "ctl/program.h"
#include "ctl/setup/doctor.h"
#include "ctl/setup/nix_daemon.h"

#define OUTPUT_MAX MIB(4)
#define STATUS_MS  10000
#define SAY_MAX    2048

/* ---- nncached --doctor ----------------------------------------------------------------------- */

static json_t *fields_of(const struct record *record)
{
	json_t *object = json_object();

	for (size_t i = 0; i < record->n_fields; i++)
		json_object_set_new(object, record->fields[i].key, model_text(record->fields[i].value));
	return object;
}

static void take_record(json_t *facts, const struct record *record)
{
	static const struct {
		const char *word, *list;
	} lists[] = { { "place", "places" },
		      { "group", "groups" },
		      { "cache", "caches" },
		      { "upstream", "upstreams" } };

	for (size_t i = 0; i < N_ELEMENTS(lists); i++)
		if (strcmp(record->word, lists[i].word) == 0) {
			json_array_append_new(json_object_get(facts, lists[i].list), fields_of(record));
			return;
		}
	json_object_set_new(facts, record->word, fields_of(record));
}

/* Takes TEXT apart. Returns whether it is whole. */
static bool take_records(json_t *facts, char *text)
{
	struct record record;
	struct error err;
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		if (strcmp(line, ".") == 0)
			return true;
		if (record_parse(&record, line, &err) < 0)
			return false;
		take_record(facts, &record);
	}
	return false;
}

/* The system's daemon has the system's places, whoever asks. */
static void ask_nncached(struct doctor *doctor)
{
	const char *file = args_get(&doctor->ctl->args, "config");
	bool is_system = file == NULL && strcmp(doctor->ctl->socket, CLIENT_SYSTEM_SOCKET) == 0;
	const char *const args[] = { "--doctor",
		                     is_system      ? "--system"
		                     : file != NULL ? "--config"
		                                    : NULL,
		                     file, NULL };
	CLEANUP(buf_fini) struct buf out = { .max = OUTPUT_MAX };
	int status = program_ask_nncached(args, true, &out);
	const char *error = NULL;

	if (status < 0)
		error = strerror(errno);
	else if (status != 0 || out.data == NULL || !take_records(doctor->facts, out.data))
		error = "nncached --doctor gave no whole answer";
	json_object_set_new(doctor->facts, "error", model_text(error));
}

/* ---- the daemon ------------------------------------------------------------------------------ */

static void on_record(void *ctx, struct record *record)
{
	json_t *status = ctx;

	if (strcmp(record->word, "daemon") == 0) {
		json_object_set_new(status, "daemon", model_daemon(record));
	} else if (strcmp(record->word, "queue") == 0) {
		json_object_set_new(status, "queue", model_queue(record));
		json_object_set_new(status, "pinned_nar_bytes",
		                    json_integer(record_get_int(record, "pinned-nar-bytes")));
	} else if (strcmp(record->word, "cache") == 0) {
		json_array_append_new(json_object_get(status, "caches"), model_cache(record));
	}
}

static void ask_daemon(struct doctor *doctor)
{
	struct request req = { .verb = VERB_STATUS };
	struct call call = { .deadline_mono_ms = clock_mono_ms() + STATUS_MS };
	enum call_result result = call_run(&call, doctor->ctl->socket, &req, on_record, doctor->status);
	const char *error = call.err.text;

	if (result == CALL_REFUSED)
		error = call.answer.text;
	else if (result == CALL_TIMEOUT)
		error = "it does not answer in time";
	json_object_set_new(doctor->status, "running", json_boolean(result == CALL_OK));
	json_object_set_new(doctor->status, "error", model_text(result == CALL_OK ? NULL : error));
	call_close(&call);
}

int doctor_gather(struct doctor *doctor, struct error *err)
{
	doctor->is_users = nix_daemon_is_needless();
	doctor->facts = json_pack("{s:{}, s:{}, s:[], s:[], s:[], s:[]}", "config", "store", "places",
	                          "groups", "caches", "upstreams");
	doctor->status = json_pack("{s:[]}", "caches");
	doctor->findings = json_array();
	if (doctor->facts == NULL || doctor->status == NULL || doctor->findings == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	/* nix-daemon reads the files of root, too. */
	doctor->nix = nix_conf_load(doctor->is_users || geteuid() == 0 ? NIX_CONF_ALL : NIX_CONF_SYSTEM, err);
	doctor->user = doctor->nix != NULL ? nix_conf_load(NIX_CONF_ALL, err) : NULL;
	if (doctor->user == NULL)
		return -1;
	ask_nncached(doctor);
	ask_daemon(doctor);
	return 0;
}

void doctor_release(struct doctor *doctor)
{
	json_decref(doctor->facts);
	json_decref(doctor->status);
	json_decref(doctor->findings);
	nix_conf_free(doctor->nix);
	nix_conf_free(doctor->user);
}

/* ---- for the checks -------------------------------------------------------------------------- */

void doctor_say(struct doctor *doctor, enum level level, const char *fix, const char *format, ...)
{
	static const char *const words[] = { "ok", "unchecked", "warn", "bad" };
	const struct check *check = doctor->check;
	bool is_finding = level >= LEVEL_WARN;
	char what[SAY_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	doctor->n_said++;
	json_array_append_new(doctor->findings,
	                      json_pack("{s:s, s:o, s:o, s:s, s:s, s:o, s:o, s:o, s:o}", "id", check->id,
	                                "group", model_text(check->group), "cache",
	                                model_text(doctor->cache_name), "title", check->title, "level",
	                                words[level], "what", model_text(*what != '\0' ? what : NULL), "why",
	                                model_text(is_finding ? check->why : NULL), "fix", model_text(fix),
	                                "trouble", model_text(is_finding ? check->trouble : NULL)));
}

bool fact_is(const json_t *fact, const char *key)
{
	return strcmp(model_get_text(fact, key), "yes") == 0;
}

int64_t fact_number(const json_t *fact, const char *key)
{
	return strtoll(model_get_text(fact, key), NULL, 10);
}

static const json_t *find_by(const json_t *list, const char *key, const char *value)
{
	json_t *item;
	size_t i;

	json_array_foreach(list, i, item) if (strcmp(model_get_text(item, key), value) == 0) return item;
	return NULL;
}

const json_t *doctor_find_place(const struct doctor *doctor, const char *what)
{
	return find_by(json_object_get(doctor->facts, "places"), "what", what);
}

const json_t *doctor_find_status(const struct doctor *doctor, const char *name)
{
	return find_by(json_object_get(doctor->status, "caches"), "name", name);
}

enum key_match doctor_match_key(const char *words, const char *key, char *ret, size_t size)
{
	size_t n_key = strlen(key), n_name = strcspn(key, ":");
	enum key_match match = KEY_ABSENT;

	for (words += strspn(words, " "); *words != '\0'; words += strspn(words, " ")) {
		size_t n = strcspn(words, " ");

		if (n == n_key && strncmp(words, key, n) == 0)
			return KEY_TRUSTED;
		if (n > n_name && words[n_name] == ':' && strncmp(words, key, n_name) == 0) {
			match = KEY_OTHER_BYTES;
			snprintf(ret, size, "%.*s", (int)n, words);
		}
		words += n;
	}
	return match;
}

/* The length of URL that counts, with the prefix that it lacks in *RET_PREFIX. */
static size_t url_length(const char *url)
{
	size_t n = strcspn(url, "?");

	while (n > 0 && url[n - 1] == '/')
		n--;
	return n;
}

bool doctor_is_same_url(const char *a, const char *b)
{
	size_t n_a, n_b, n_host;
	const char *slashes;

	a += strncmp(a, "file:///", 8) == 0 ? 7 : 0;
	b += strncmp(b, "file:///", 8) == 0 ? 7 : 0;
	n_a = url_length(a);
	n_b = url_length(b);
	slashes = strstr(a, "://");
	n_host = slashes == NULL ? 0 : (size_t)(slashes + 3 - a) + strcspn(slashes + 3, "/?");
	return n_a == n_b && n_host <= n_a && strncasecmp(a, b, n_host) == 0 &&
	       strncmp(a + n_host, b + n_host, n_a - n_host) == 0;
}
