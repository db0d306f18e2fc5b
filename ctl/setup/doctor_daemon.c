/* The doctor's look at nncached: its settings, whether it runs, its places and its machine. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/units.h"
#include "ctl/setup/doctor.h"

#define FREE_MIN_BYTES   MIB(256)
#define FREE_MIN_PERCENT 5

static bool is_running(const struct doctor *doctor)
{
	return json_is_true(json_object_get(doctor->status, "running"));
}

void check_config(struct doctor *doctor, const json_t *cache)
{
	const json_t *config = json_object_get(doctor->facts, "config");
	const char *fix = "nncachectl config check";
	(void)cache;

	if (model_has(doctor->facts, "error"))
		doctor_say(doctor, LEVEL_BAD, "nncached --doctor", "nncached could not be asked: %s",
		           model_get_text(doctor->facts, "error"));
	else if (model_has(config, "error"))
		doctor_say(doctor, LEVEL_BAD, fix, "%s", model_get_text(config, "error"));
	else if (json_array_size(json_object_get(doctor->facts, "caches")) == 0)
		doctor_say(doctor, LEVEL_BAD,
		           "a section [cache \"NAME\"] in nncache.conf, see nncache.conf(5)",
		           "no cache is configured");
}

void check_running(struct doctor *doctor, const json_t *cache)
{
	const json_t *config = json_object_get(doctor->facts, "config");
	const char *fix =
		fact_is(config, "user-mode") ? "systemctl --user start nncached" : "systemctl start nncached";
	(void)cache;

	if (is_running(doctor))
		doctor_say(doctor, LEVEL_OK, NULL, "at %s", doctor->ctl->socket);
	else
		doctor_say(doctor, LEVEL_BAD, fix, "%s: %s; its socket by the configuration is %s",
		           doctor->ctl->socket, model_get_text(doctor->status, "error"),
		           model_get_text(config, "socket"));
}

void check_version(struct doctor *doctor, const json_t *cache)
{
	const char *version = model_get_text(json_object_get(doctor->status, "daemon"), "version");
	(void)cache;

	if (is_running(doctor) && strcmp(version, NNCACHE_VERSION) != 0)
		doctor_say(doctor, LEVEL_WARN, "systemctl restart nncached", "it is %s, and nncachectl is %s",
		           version, NNCACHE_VERSION);
}

/* What the daemon itself says needs a hand. */
void check_sound(struct doctor *doctor, const json_t *cache)
{
	static const struct {
		const char *key, *fix;
	} messages[] = {
		{ "config_error", "nncachectl config check" },
		{ "roots_message", NULL },
		{ "queue_message", NULL },
		{ "spool_message", NULL },
	};
	const json_t *daemon = json_object_get(doctor->status, "daemon");
	uint64_t n_bad = model_get_uint(daemon, "bad_spool_files");
	(void)cache;

	for (size_t i = 0; i < N_ELEMENTS(messages); i++)
		if (model_has(daemon, messages[i].key))
			doctor_say(doctor, LEVEL_BAD, messages[i].fix, "%s",
			           model_get_text(daemon, messages[i].key));
	if (n_bad > 0)
		doctor_say(doctor, LEVEL_WARN,
		           "look at them, hand over what they name by nncachectl push, and remove them",
		           "%" PRIu64 " unreadable files (*.bad) in the spool", n_bad);
}

void check_uploads(struct doctor *doctor, const json_t *cache)
{
	const json_t *queue = json_object_get(doctor->status, "queue");
	uint64_t n_failed = model_get_uint(queue, "failed"), n_blocked = model_get_uint(queue, "blocked");
	(void)cache;

	if (n_failed + n_blocked > 0)
		doctor_say(doctor, LEVEL_WARN, "nncachectl status; nncachectl retry --failed",
		           "%" PRIu64 " uploads failed, %" PRIu64 " are blocked", n_failed, n_blocked);
}

/* ---- who, and where -------------------------------------------------------------------------- */

void check_who(struct doctor *doctor, const json_t *cache)
{
	const json_t *config = json_object_get(doctor->facts, "config"), *push = NULL;
	json_t *group;
	size_t i;
	(void)cache;

	json_array_foreach(json_object_get(doctor->facts, "groups"), i, group)
	{
		if (strcmp(model_get_text(group, "what"), "push") == 0)
			push = group;
		if (!fact_is(group, "exists") && !fact_is(config, "user-mode")) {
			CLEANUP(buf_fini) struct buf fix = { .max = KIB(1) };

			buf_printf(&fix, "groupadd --system %s, or another %s-group in nncache.conf",
			           model_get_text(group, "name"), model_get_text(group, "what"));
			doctor_say(doctor, LEVEL_WARN, buf_text(&fix),
			           "%s-group = %s: there is no such group", model_get_text(group, "what"),
			           model_get_text(group, "name"));
		}
	}
	if (doctor->n_said == 0)
		doctor_say(doctor, LEVEL_OK, NULL, "root, %s, group %s (%s); everybody may look",
		           model_get_text(config, "daemon-user"), model_get_text(push, "name"),
		           *model_get_text(push, "members") != '\0' ? model_get_text(push, "members")
		                                                    : "no other members");
}

static void check_dir(struct doctor *doctor, const json_t *place)
{
	const char *path = model_get_text(place, "path"), *what = model_get_text(place, "what");
	const char *user = model_get_text(
		json_object_get(json_object_get(doctor->facts, "config"), "daemon-user") != NULL
			? json_object_get(doctor->facts, "config")
			: NULL,
		"daemon-user");
	unsigned long mode = strtoul(model_get_text(place, "mode"), NULL, 8);
	CLEANUP(buf_fini) struct buf fix = { .max = KIB(8) };

	if (fact_is(place, "exists") && (mode & 0022) != 0) {
		buf_printf(&fix, "chmod go-w %s", path);
		doctor_say(doctor, LEVEL_BAD, buf_text(&fix),
		           "%s %s has mode %04lo: others may change what is there", what, path, mode);
	}
	if (model_has(place, "may-write") && !fact_is(place, "may-write")) {
		buf_clear(&fix);
		buf_printf(&fix, "chown %s %s", user, path);
		doctor_say(doctor, LEVEL_BAD, buf_text(&fix), "%s %s: %s may not write there", what, path,
		           user);
	}
}

void check_modes(struct doctor *doctor, const json_t *cache)
{
	static const char *const dirs[] = { "state-dir", "spool-dir", "roots-dir" };
	const json_t *sock = doctor_find_place(doctor, "socket");
	unsigned long mode = strtoul(model_get_text(sock, "mode"), NULL, 8);
	(void)cache;

	for (size_t i = 0; i < N_ELEMENTS(dirs); i++)
		check_dir(doctor, doctor_find_place(doctor, dirs[i]));
	if (fact_is(sock, "exists") && (mode & 0666) != 0666)
		doctor_say(doctor, LEVEL_BAD, "systemctl restart nncached.socket nncached",
		           "socket %s has mode %04lo, not 0666: hooks and people cannot connect",
		           model_get_text(sock, "path"), mode);
}

void check_store(struct doctor *doctor, const json_t *cache)
{
	const json_t *store = json_object_get(doctor->facts, "store");
	(void)cache;

	if (model_has(store, "error"))
		doctor_say(doctor, LEVEL_BAD, "see that nix-daemon runs: systemctl status nix-daemon",
		           "%s: %s", model_get_text(store, "dir"), model_get_text(store, "error"));
	else
		doctor_say(doctor, LEVEL_OK, NULL, "%s", model_get_text(store, "dir"));
}

/* ---- the machine ----------------------------------------------------------------------------- */

static unsigned free_percent(const json_t *place)
{
	double total = (double)fact_number(place, "total-bytes");

	return total <= 0 ? 100 : (unsigned)(100 * (double)fact_number(place, "free-bytes") / total);
}

void check_disk(struct doctor *doctor, const json_t *cache)
{
	const json_t *config = json_object_get(doctor->facts, "config");
	const json_t *state = doctor_find_place(doctor, "state-dir"),
		     *store = doctor_find_place(doctor, "store");
	int64_t roots_min = fact_number(config, "roots-min-free-percent");
	char text[UNITS_TEXT_SIZE];
	(void)cache;

	if (state != NULL && (fact_number(state, "free-bytes") < (int64_t)FREE_MIN_BYTES ||
	                      free_percent(state) < FREE_MIN_PERCENT))
		doctor_say(doctor, LEVEL_BAD, "make room there, or move state-dir",
		           "%s has %s left (%u%%): without room hand-overs are spooled at best",
		           model_get_text(state, "path"),
		           units_format_bytes((uint64_t)fact_number(state, "free-bytes"), text),
		           free_percent(state));
	if (store != NULL && free_percent(store) < roots_min)
		doctor_say(doctor, LEVEL_BAD, "nix-collect-garbage, or a smaller roots-min-free",
		           "%s has %s left (%u%%), less than roots-min-free = %d%%: paths that wait lose "
		           "their protection",
		           model_get_text(store, "path"),
		           units_format_bytes((uint64_t)fact_number(store, "free-bytes"), text),
		           free_percent(store), (int)roots_min);
}

void check_file_system(struct doctor *doctor, const json_t *cache)
{
	const json_t *state = doctor_find_place(doctor, "state-dir");
	const char *path = model_get_text(state, "path"), *name = model_get_text(state, "file-system");
	(void)cache;

	if (fact_is(state, "is-remote"))
		doctor_say(doctor, LEVEL_BAD, "state-dir on a disk of this machine",
		           "%s is on %s, whose locks and syncs cannot be trusted with the queue", path, name);
	else if (fact_is(state, "is-volatile"))
		doctor_say(doctor, LEVEL_WARN, "state-dir on a disk",
		           "%s is on %s: the queue does not outlast a reboot", path, name);
	else if (*name != '\0')
		doctor_say(doctor, LEVEL_OK, NULL, "%s is on %s", path, name);
}

void check_pinned(struct doctor *doctor, const json_t *cache)
{
	const json_t *store = doctor_find_place(doctor, "store");
	uint64_t pinned = model_get_uint(doctor->status, "pinned_nar_bytes");
	int64_t left = fact_number(store, "free-bytes");
	char a[UNITS_TEXT_SIZE], b[UNITS_TEXT_SIZE];
	(void)cache;

	if (!is_running(doctor)) {
		doctor_say(doctor, LEVEL_UNCHECKED, NULL, "nncached does not run");
		return;
	}
	units_format_bytes(pinned, a);
	units_format_bytes(left > 0 ? (uint64_t)left : 0, b);
	doctor_say(doctor, store != NULL && left > 0 && pinned > (uint64_t)left ? LEVEL_WARN : LEVEL_OK,
	           store != NULL && left > 0 && pinned > (uint64_t)left
	                   ? "nncachectl status; nncachectl retry --failed"
	                   : NULL,
	           "paths that wait keep %s from garbage collection; %s are free", a, b);
}
