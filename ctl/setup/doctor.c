/* doctor: gathers facts, runs the table of checks over them, shows what was found. */
#include "ctl/setup/doctor.h"

#include <string.h>

#define NOT_READ   "the cache is not working"
#define NOT_PUSHED "CI is not pushing"
#define MISMATCH   "public key mismatch"

/* The only list of checks: a row is a finding that there can be. */
static const struct check checks[] = {
	{ "nix-conf", "Nix", "Nix's configuration can be read", "Nix refuses to work at most mistakes in it",
	  NULL, check_nix_conf },
	{ "hook-line", "Nix", "the hook is Nix's post-build-hook",
	  "without it nothing that is built is uploaded", NOT_PUSHED, check_hook_line },
	{ "hook-file", "Nix", "the hook can be run", "Nix fails every build whose hook cannot be run",
	  NOT_PUSHED, check_hook_file },
	{ "hook-trusted", "Nix", "who sets the hook may",
	  "nix-daemon takes a hook from trusted users alone, and ignores it "
	  "from others without a word",
	  NOT_PUSHED, check_hook_trusted },
	{ "nix-daemon-restarted", "Nix", "nix-daemon has read its configuration",
	  "nix-daemon reads its files when it starts, and never again", NOT_PUSHED, check_nix_daemon },
	{ "substituters", "Nix", "every substituter is a cache or an upstream of nncache.conf",
	  "what comes from elsewhere is not known to be there for readers: it is uploaded, too, or a reader "
	  "lacks it",
	  NULL, check_substituters },
	{ "sandbox", "Nix", "what is signed was built in a sandbox",
	  "without one a build can take in what nobody declared, and our signature vouches for it", NULL,
	  check_sandbox },

	{ "config", "nncached", "the configuration has no mistakes",
	  "with a mistake in it paths are taken in, and nothing is uploaded", NOT_PUSHED, check_config },
	{ "daemon-running", "nncached", "it runs and answers",
	  "meanwhile hooks spool, and nothing is uploaded", NOT_PUSHED, check_running },
	{ "daemon-version", "nncached", "it is of this version",
	  "after an upgrade the old one runs until it is restarted", NULL, check_version },
	{ "daemon-sound", "nncached", "it has nothing to complain of", "it cannot mend this by itself", NULL,
	  check_sound },
	{ "uploads", "nncached", "no upload failed for good", "they wait for somebody, and readers lack them",
	  NULL, check_uploads },
	{ "who", "nncached", "those who should may hand over", "a hand-over of others is refused", NULL,
	  check_who },
	{ "modes", "nncached", "its places have the right owners and modes",
	  "who may write there can have anything signed and uploaded; and what it may not write it loses",
	  NULL, check_modes },
	{ "store", "nncached", "it can read the store", "what cannot be looked up is not uploaded",
	  NOT_PUSHED, check_store },

	{ "disk", "Machine", "there is room on its disks",
	  "a full disk stops uploads, or the protection of what waits", NULL, check_disk },
	{ "file-system", "Machine", "state-dir is on a disk that keeps its word",
	  "what was acknowledged must outlast a crash", NULL, check_file_system },
	{ "pinned", "Machine", "what waits leaves room for garbage collection",
	  "garbage collection cannot make room beyond that", NULL, check_pinned },

	{ "cache-secrets", NULL, "its token and keys are there", "without them nothing is pushed", NOT_PUSHED,
	  check_cache_secrets },
	{ "cache-reach", NULL, "it answers, takes the token, and is for this store",
	  "what cannot be sent waits", NOT_PUSHED, check_cache_reach },
	{ "cache-write", NULL, "it may be written to", "what cannot be written waits", NOT_PUSHED,
	  check_cache_write },
	{ "cache-works", NULL, "nncached uploads to it", "its paths wait until that is mended", NOT_PUSHED,
	  check_cache_works },
	{ "cache-key", NULL, "the signing key is the cache's", "what another key signed is refused", MISMATCH,
	  check_cache_key },
	{ "cache-signed", NULL, "what goes there is signed",
	  "readers take nothing that no key they trust has signed", NOT_READ, check_cache_signed },
	{ "cache-public", NULL, "what everybody can read there was picked",
	  "what was built from secret sources is then "
	  "public",
	  NULL, check_cache_public },
	{ "cache-listed", NULL, "it is a substituter here", "Nix asks its substituters alone", NOT_READ,
	  check_cache_listed },
	{ "cache-trusted", NULL, "its key is trusted here",
	  "Nix ignores what no trusted key has signed, and builds it instead", MISMATCH,
	  check_cache_trusted },
	{ "cache-read", NULL, "readers can use it", "a reader that cannot builds everything by itself",
	  NOT_READ, check_cache_read },
	{ "cache-clock", NULL, "its clock and ours agree", "signatures and tokens are of a time", NOT_PUSHED,
	  check_cache_clock },
	{ "cache-retention", NULL, "what it drops is asked for again in time",
	  "a path that it dropped would be taken to be there, and its referrers would dangle", NULL,
	  check_cache_retention },
};

static void run_check(struct doctor *doctor, const struct check *check, const json_t *cache)
{
	doctor->check = check;
	doctor->cache_name = cache != NULL ? model_get_text(cache, "name") : NULL;
	doctor->n_said = 0;
	check->run(doctor, cache);
	if (doctor->n_said == 0)
		doctor_say(doctor, LEVEL_OK, NULL, "%s", "");
}

static void run_checks(struct doctor *doctor)
{
	json_t *cache;
	size_t i;

	for (size_t k = 0; k < N_ELEMENTS(checks); k++)
		if (checks[k].group != NULL)
			run_check(doctor, &checks[k], NULL);
	json_array_foreach(json_object_get(doctor->facts, "caches"), i,
	                   cache) for (size_t k = 0; k < N_ELEMENTS(checks); k++) if (checks[k].group == NULL)
		run_check(doctor, &checks[k], cache);
}

/* ---- for people ------------------------------------------------------------------------------ */

static enum style style_of(const char *level)
{
	if (strcmp(level, "ok") == 0)
		return STYLE_GOOD;
	if (strcmp(level, "bad") == 0)
		return STYLE_BAD;
	return strcmp(level, "warn") == 0 ? STYLE_WARN : STYLE_DIM;
}

/* Each line of TEXT behind HEAD, or as far in. */
static void put_detail(struct output *o, const char *head, const char *text)
{
	for (; *text != '\0';) {
		size_t n = strcspn(text, "\n");

		output_put(o, STYLE_DIM, "        %-6s", head);
		output_put(o, STYLE_PLAIN, "%.*s", (int)n, text);
		output_end_line(o);
		head = "";
		text += n + (text[n] == '\n');
	}
}

static void put_finding(struct output *o, const json_t *finding, bool is_verbose)
{
	const char *level = model_get_text(finding, "level"), *what = model_get_text(finding, "what");
	bool is_unchecked = strcmp(level, "unchecked") == 0;
	bool is_finding = !is_unchecked && strcmp(level, "ok") != 0;

	output_put(o, STYLE_PLAIN, "  ");
	output_left(o, style_of(level), 4, is_unchecked ? "-" : level);
	output_put(o, is_finding ? STYLE_PLAIN : STYLE_DIM, "  %s%s", is_finding ? "not so: " : "",
	           model_get_text(finding, "title"));
	if (is_unchecked)
		output_put(o, STYLE_DIM, " (not checked: %s)", what);
	output_end_line(o);
	if (is_finding || (is_verbose && !is_unchecked))
		put_detail(o, is_finding ? "what" : "", what);
	put_detail(o, "why", model_get_text(finding, "why"));
	put_detail(o, "then", model_get_text(finding, "fix"));
}

static const char *group_of(const json_t *finding)
{
	return model_get_text(finding, model_has(finding, "cache") ? "cache" : "group");
}

static size_t count(const json_t *findings, const char *level)
{
	json_t *finding;
	size_t i, n = 0;

	json_array_foreach(findings, i, finding) n += strcmp(model_get_text(finding, "level"), level) == 0;
	return n;
}

/* Which of the troubles that people come with has a reason here. */
static void put_troubles(struct output *o, const json_t *findings)
{
	static const char *const troubles[] = { NOT_READ, NOT_PUSHED, MISMATCH };
	json_t *finding;
	size_t i;

	for (size_t k = 0; k < N_ELEMENTS(troubles); k++) {
		unsigned n = 0;

		json_array_foreach(findings, i, finding)
		{
			if (strcmp(model_get_text(finding, "trouble"), troubles[k]) != 0)
				continue;
			if (n++ == 0)
				output_put(o, STYLE_PLAIN, "If %s: see", troubles[k]);
			output_put(o, STYLE_PLAIN, "%s %s", n > 1 ? "," : "", model_get_text(finding, "id"));
		}
		if (n > 0)
			output_end_line(o);
	}
}

static void show(const struct doctor *doctor)
{
	const json_t *findings = doctor->findings;
	bool is_verbose = args_has(&doctor->ctl->args, "verbose");
	const char *group = "";
	json_t *finding;
	struct output o;
	size_t i;

	output_init_for(&o, stdout);
	o.width = 0; /* what is to be done must be whole */
	json_array_foreach(findings, i, finding)
	{
		if (strcmp(group, group_of(finding)) != 0) {
			group = group_of(finding);
			if (i > 0)
				output_end_line(&o);
			output_put(&o, STYLE_BOLD, model_has(finding, "cache") ? "Cache %s" : "%s", group);
			output_end_line(&o);
		}
		put_finding(&o, finding, is_verbose);
	}
	output_end_line(&o);
	put_troubles(&o, findings);
	output_put(&o, STYLE_BOLD, "%zu bad, %zu warnings, %zu ok, %zu not checked", count(findings, "bad"),
	           count(findings, "warn"), count(findings, "ok"), count(findings, "unchecked"));
	output_put(&o, STYLE_PLAIN, is_verbose ? "" : "; --verbose says more");
	output_end_line(&o);
	output_flush(&o, stdout);
	output_fini(&o);
}

int ctl_doctor(struct ctl *ctl)
{
	struct doctor doctor = { .ctl = ctl };
	int status = CTL_FAILED;
	struct error err;

	if (ctl->args.n_operands > 0)
		return ctl_usage(ctl, "doctor takes no \"%s\"", ctl->args.operands[0]);
	if (doctor_gather(&doctor, &err) < 0) {
		ctl_say("doctor: %s", err.text);
		doctor_release(&doctor);
		return CTL_FAILED;
	}
	run_checks(&doctor);
	if (count(doctor.findings, "bad") + count(doctor.findings, "warn") == 0)
		status = CTL_DONE;
	if (!ctl->json)
		show(&doctor);
	else if (output_json(json_incref(doctor.findings), JSON_INDENT(2)) < 0)
		status = CTL_FAILED;
	doctor_release(&doctor);
	return status;
}
