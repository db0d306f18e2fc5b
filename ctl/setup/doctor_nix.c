/* The doctor's look at Nix: the hook, who may set it, and where this machine reads. */
#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "ctl/setup/doctor.h"
#include "ctl/setup/hook_line.h"
#include "ctl/setup/nix_daemon.h"
#include "ctl/setup/nix_trust.h"

#define HOOK     "post-build-hook"
#define ENABLE   "nncachectl hook enable"
#define LIST_MAX KIB(64)

static const char *file_of(const struct nix_conf_line *line)
{
	return line->file != NULL ? line->file : "Nix's default";
}

void check_nix_conf(struct doctor *doctor, const json_t *cache)
{
	const char *problem = nix_conf_problem(doctor->nix);
	(void)cache;

	if (problem != NULL)
		doctor_say(doctor, LEVEL_BAD, "mend that line", "%s", problem);
	else
		doctor_say(doctor, LEVEL_OK, NULL, "%s", nix_conf_system_file(doctor->nix));
}

void check_hook_line(struct doctor *doctor, const json_t *cache)
{
	const struct nix_conf_line *line = nix_conf_get(doctor->nix, HOOK);
	char own[PATH_MAX];
	(void)cache;

	switch (line != NULL ? hook_kind_of(line->value, hook_find_own(own)) : HOOK_NONE) {
	case HOOK_NONE:
		doctor_say(doctor, LEVEL_BAD, ENABLE,
		           "%s sets no " HOOK ": nothing that is built is handed over",
		           nix_conf_system_file(doctor->nix));
		return;
	case HOOK_OTHER:
		doctor_say(doctor, LEVEL_BAD, ENABLE " (it prints a script that calls both)",
		           "%s:%u sets " HOOK " = %s, which does not call nncache", file_of(line), line->line,
		           line->value);
		return;
	case HOOK_MOVED:
		doctor_say(doctor, access(line->value, X_OK) == 0 ? LEVEL_WARN : LEVEL_BAD, ENABLE,
		           "%s:%u names %s, the hook of another nncache than this one, whose hook is %s",
		           file_of(line), line->line, line->value, hook_find_own(own));
		return;
	case HOOK_OURS:
	case HOOK_WRAPPED:
		doctor_say(doctor, LEVEL_OK, NULL, "%s:%u: %s", file_of(line), line->line, line->value);
		return;
	}
}

void check_hook_file(struct doctor *doctor, const json_t *cache)
{
	const struct nix_conf_line *line = nix_conf_get(doctor->nix, HOOK);
	struct stat st;
	(void)cache;

	if (line == NULL || *line->value == '\0') {
		doctor_say(doctor, LEVEL_UNCHECKED, NULL, "there is no hook");
		return;
	}
	if (stat(line->value, &st) < 0)
		doctor_say(doctor, LEVEL_BAD, ENABLE, "%s (%s:%u): %s", line->value, file_of(line),
		           line->line, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		doctor_say(doctor, LEVEL_BAD, ENABLE, "%s is no file", line->value);
	else if ((st.st_mode & 0111) != 0111)
		doctor_say(doctor, LEVEL_BAD, NULL, "%s is not executable for all (mode %04o): chmod a+rx %s",
		           line->value, (unsigned)(st.st_mode & 07777), line->value);
}

/* ---- who may set it -------------------------------------------------------------------------- */

/* Only what stands in the files of the user, and not in the system's, goes by way of the user's rights. */
void check_hook_trusted(struct doctor *doctor, const json_t *cache)
{
	const struct nix_conf_line *own = nix_conf_get(doctor->user, HOOK);
	const struct nix_conf_line *systems = nix_conf_get(doctor->nix, HOOK);
	const struct passwd *user = getpwuid(geteuid());
	(void)cache;

	if (own == NULL || own->file == NULL || doctor->is_users ||
	    (systems != NULL && strcmp(systems->file, own->file) == 0))
		return;
	if (!nix_trust_is_trusted(doctor->nix))
		doctor_say(doctor, LEVEL_BAD, "sudo " ENABLE,
		           "%s:%u sets " HOOK
		           ", and %s is not among the trusted-users of %s: nix-daemon ignores it",
		           own->file, own->line, user != NULL ? user->pw_name : "this user",
		           nix_conf_system_file(doctor->nix));
}

/* ---- nix-daemon ------------------------------------------------------------------------------ */

void check_nix_daemon(struct doctor *doctor, const json_t *cache)
{
	int64_t started_ms;
	const char *file;
	pid_t pid;
	(void)cache;

	if (doctor->is_users) {
		doctor_say(doctor, LEVEL_OK, NULL, "the store is this user's own: no nix-daemon is needed");
		return;
	}
	if (!nix_daemon_find(&pid, &started_ms)) {
		doctor_say(doctor, LEVEL_OK, NULL, "none runs: it reads its files once it starts");
		return;
	}
	for (size_t i = 0; (file = nix_conf_file_at(doctor->nix, i)) != NULL; i++)
		if (file[0] == '/' && nix_daemon_is_older_than(file)) {
			char utc[CLOCK_TEXT_SIZE];

			doctor_say(doctor, LEVEL_BAD, NIX_DAEMON_RESTART,
			           "nix-daemon (pid %d) has run since %s, and %s was changed later: that is "
			           "not in effect",
			           (int)pid, clock_format_utc(started_ms / 1000, utc), file);
			return;
		}
}

/* ---- where this machine reads ---------------------------------------------------------------- */

static bool is_known(const struct doctor *doctor, const char *url)
{
	static const char *const lists[] = { "caches", "upstreams" };
	json_t *item;
	size_t i;

	for (size_t k = 0; k < N_ELEMENTS(lists); k++)
		json_array_foreach(json_object_get(doctor->facts, lists[k]), i, item)
		{
			if (doctor_is_same_url(url, model_get_text(item, "url")) ||
			    doctor_is_same_url(url, model_get_text(item, "reader-url")))
				return true;
		}
	return false;
}

void check_substituters(struct doctor *doctor, const json_t *cache)
{
	CLEANUP(buf_fini) struct buf list = { .max = LIST_MAX };
	char *save = NULL;
	(void)cache;

	if (json_array_size(json_object_get(doctor->facts, "caches")) == 0) {
		doctor_say(doctor, LEVEL_UNCHECKED, NULL, "no cache is known");
		return;
	}
	nix_conf_join(doctor->nix, "substituters", &list);
	for (char *url = list.data != NULL ? strtok_r(list.data, " ", &save) : NULL; url != NULL;
	     url = strtok_r(NULL, " ", &save)) {
		CLEANUP(buf_fini) struct buf fix = { .max = KIB(4) };

		if (is_known(doctor, url))
			continue;
		buf_printf(
			&fix,
			"[upstream \"NAME\"] url = %s in nncache.conf, and NAME among the upstreams of each "
			"cache whose readers have it, too",
			url);
		doctor_say(doctor, LEVEL_WARN, buf_text(&fix),
		           "%s is a substituter here, and neither a cache nor an "
		           "upstream in nncache.conf",
		           url);
	}
}

void check_sandbox(struct doctor *doctor, const json_t *cache)
{
	const struct nix_conf_line *line = nix_conf_get(doctor->nix, "sandbox");
	json_t *item;
	size_t i;
	(void)cache;

	if (line == NULL || (strcmp(line->value, "false") != 0 && strcmp(line->value, "relaxed") != 0))
		return;
	json_array_foreach(json_object_get(doctor->facts, "caches"), i, item) if (model_has(item, "key-file"))
	{
		doctor_say(doctor, LEVEL_WARN, "sandbox = true in nix.conf",
		           "%s:%u sets sandbox = %s, and what is built is signed for [cache \"%s\"]",
		           file_of(line), line->line, line->value, model_get_text(item, "name"));
		return;
	}
}
