/* use: Nix on this machine reads a cache from now on. The cache is asked what readers need; the system's
 * configuration gets it from root, that of a user from a user whom Nix trusts. Anybody else is told what root
 * would have to do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/fd.h"
#include "ctl/ctl.h"
#include "ctl/model.h"
#include "ctl/setup/cache_facts.h"
#include "ctl/setup/changes.h"
#include "ctl/setup/netrc.h"
#include "ctl/setup/nix_conf.h"
#include "ctl/setup/nix_daemon.h"
#include "ctl/setup/nix_trust.h"

#define TOKEN_MAX_BYTES KIB(8)

enum target {
	TARGET_SYSTEM,
	TARGET_USER,      /* whom Nix trusts, or whose store it is */
	TARGET_UNTRUSTED, /* what the system allows everybody can be had, and nothing else */
};

struct use {
	const struct ctl *ctl;
	enum target target;
	struct nix_conf *system, *all;
	const struct nix_conf *conf; /* that of the two which the target goes by */
	const char *cache;           /* as it was given */
	const char *file;            /* that the lines go into */
	char *secret;                /* or NULL */
	struct cache_facts facts;
	struct changes changes;
	bool is_netrc_planned;
};

static void wipe(char **text)
{
	if (*text != NULL)
		explicit_bzero(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

/* ---- what is asked for ----------------------------------------------------------------------- */

static int read_secret(struct use *use)
{
	const char *file = args_get(&use->ctl->args, "token-file");
	CLEANUP(wipe) char *text = NULL;
	struct error err;
	size_t n_bytes;
	char *start;

	if (file == NULL)
		return CTL_DONE;
	if (read_file(file, TOKEN_MAX_BYTES, &text, &n_bytes, &err) < 0) {
		ctl_say("--token-file %s", err.text);
		return CTL_FAILED;
	}
	start = text + strspn(text, " \t\r\n");
	start[strcspn(start, "\r\n")] = '\0';
	if (*start == '\0') {
		ctl_say("--token-file %s: is empty", file);
		return CTL_FAILED;
	}
	use->secret = strdup(start);
	return use->secret != NULL ? CTL_DONE : CTL_FAILED;
}

/* After the cache was asked: what it says is there already. */
static int add_keys(struct use *use)
{
	const char *keys[CACHE_FACTS_KEYS_MAX];
	size_t n = args_get_all(&use->ctl->args, "public-key", keys, N_ELEMENTS(keys));
	struct error err;

	if (n > N_ELEMENTS(keys))
		return ctl_usage(use->ctl, "more than %d public keys", CACHE_FACTS_KEYS_MAX);
	for (size_t i = 0; i < n; i++)
		if (cache_facts_add_key(&use->facts, keys[i], &err) < 0) {
			ctl_say("--public-key: %s", err.text);
			return CTL_USAGE;
		}
	return CTL_DONE;
}

static bool has_scheme(const char *url, const char *scheme)
{
	size_t n = strlen(scheme);

	return strncasecmp(url, scheme, n) == 0 && strncmp(url + n, "://", 3) == 0;
}

/* ---- the netrc file -------------------------------------------------------------------------- */

/* Where the secret goes; for a user without a netrc-file of his own, beside his nix.conf, which then names
 * it. */
static int find_netrc(struct use *use, struct buf *file, bool *is_named)
{
	const struct nix_conf_line *line = nix_conf_get(use->conf, "netrc-file");
	const char *user_file = nix_conf_user_file(use->all), *slash;

	*is_named = true;
	nix_conf_netrc_file(use->conf, file);
	if (use->target == TARGET_SYSTEM || access(buf_text(file), W_OK) == 0)
		return CTL_DONE;
	if (use->target == TARGET_UNTRUSTED || line != NULL || access(buf_text(file), F_OK) == 0) {
		ctl_say("%s: Nix reads passwords there, and only root may write it:\nsudo nncachectl use %s "
		        "--token-file %s",
		        buf_text(file), use->cache, args_get(&use->ctl->args, "token-file"));
		return CTL_FAILED;
	}
	slash = user_file != NULL ? strrchr(user_file, '/') : NULL;
	if (slash == NULL) {
		ctl_say("NIX_USER_CONF_FILES names no file that netrc-file could be set in");
		return CTL_FAILED;
	}
	buf_clear(file);
	buf_printf(file, "%.*s/netrc", (int)(slash - user_file), user_file);
	*is_named = false;
	return CTL_DONE;
}

static int name_netrc(struct use *use, const char *file)
{
	CLEANUP(buf_fini) struct buf line = { .max = KIB(8) };
	struct nix_conf_edit *edit;
	struct error err;

	buf_printf(&line, "netrc-file = %s", file);
	edit = changes_open(&use->changes, nix_conf_user_file(use->all), 0644, &err);
	if (edit == NULL) {
		ctl_say("%s", err.text);
		return CTL_FAILED;
	}
	nix_conf_edit_append(edit, buf_text(&line));
	return CTL_DONE;
}

/* Plans the entry for the host of URL. NETRC, unless NULL, gets the text of the file as it will be. */
static int plan_netrc(struct use *use, const char *url, struct buf *netrc)
{
	CLEANUP(buf_fini) struct buf file = { .max = KIB(8) };
	struct nix_conf_edit *edit;
	struct error err;
	char host[256];
	bool is_named;

	if (use->secret == NULL || use->is_netrc_planned)
		return CTL_DONE;
	use->is_netrc_planned = true;
	if (*cache_facts_host(url, host, sizeof(host)) == '\0') {
		ctl_say("%s: nothing there takes a token; --token-file is for servers", use->cache);
		return CTL_USAGE;
	}
	if (find_netrc(use, &file, &is_named) != CTL_DONE)
		return CTL_FAILED;
	edit = changes_open_secret(&use->changes, buf_text(&file), &err);
	if (edit == NULL || netrc_set(edit, host, use->secret, &err) < 0) {
		ctl_say("%s", err.text);
		return CTL_FAILED;
	}
	if (netrc != NULL)
		nix_conf_edit_format(edit, netrc);
	return is_named ? CTL_DONE : name_netrc(use, buf_text(&file));
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* Nix takes the parameters of a bucket in the URL, and reads it with keys that we do not have. */
static int take_bucket(struct use *use)
{
	struct error err;

	if (args_has(&use->ctl->args, "endpoint") || use->secret != NULL)
		return ctl_usage(
			use->ctl,
			"s3: neither --endpoint nor --token-file; write "
			"s3://BUCKET?region=REGION&endpoint=HOST, and see that root (for nix-daemon) "
			"has AWS credentials");
	if (cache_facts_set_url(&use->facts, use->cache, &err) < 0) {
		ctl_say("%s", err.text);
		return CTL_USAGE;
	}
	return CTL_DONE;
}

static int ask(struct use *use)
{
	bool is_plain = has_scheme(use->cache, "https") || has_scheme(use->cache, "http");
	CLEANUP(buf_fini) struct buf netrc = { .max = MIB(1) };
	CLEANUP(buf_fini) struct buf file = { .max = KIB(8) };
	struct cache_question question = {
		.url = use->cache,
		.endpoint = args_get(&use->ctl->args, "endpoint"),
		.token_file = is_plain ? NULL : args_get(&use->ctl->args, "token-file"),
	};
	CLEANUP(wipe) char *text = NULL;
	struct error err;
	int rc;

	if (has_scheme(use->cache, "s3"))
		return take_bucket(use);
	if (cache_facts_set_url(&use->facts, use->cache, &err) < 0) {
		ctl_say("%s", err.text);
		return CTL_USAGE;
	}
	if (is_plain && plan_netrc(use, use->cache, &netrc) != CTL_DONE)
		return CTL_FAILED;
	nix_conf_netrc_file(use->conf, &file);
	if (netrc.len > 0)
		question.netrc = netrc.data;
	else if (read_file(buf_text(&file), MIB(1), &text, NULL, &err) == 0)
		question.netrc = text;
	rc = cache_facts_ask(&use->facts, &question, &err);
	if (netrc.data != NULL)
		explicit_bzero(netrc.data, netrc.cap);
	if (rc < 0) {
		ctl_say("%s", err.text);
		return CTL_FAILED;
	}
	return plan_netrc(use, use->facts.url, NULL);
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* With and without a slash at its end it is the same cache. */
static const struct nix_conf_line *find_url(const struct nix_conf *conf, const char *setting, const char *url)
{
	const struct nix_conf_line *line = nix_conf_find_word(conf, setting, url);
	char other[CACHE_FACTS_URL_SIZE + 1];
	size_t n = strlen(url);

	if (line != NULL || n == 0)
		return line;
	if (url[n - 1] == '/')
		snprintf(other, sizeof(other), "%.*s", (int)n - 1, url);
	else
		snprintf(other, sizeof(other), "%s/", url);
	return nix_conf_find_word(conf, setting, other);
}

/* "extra-trusted-public-keys = ..." of those that CONF does not have; empty if it has all. */
static void format_keys(const struct use *use, const struct nix_conf *conf, struct buf *out)
{
	for (size_t i = 0; i < use->facts.n_keys; i++) {
		if (nix_conf_find_word(conf, "trusted-public-keys", use->facts.keys[i]) != NULL)
			continue;
		if (out->len == 0)
			buf_puts(out, "extra-trusted-public-keys =");
		buf_printf(out, " %s", use->facts.keys[i]);
	}
}

static int plan_lines(struct use *use)
{
	CLEANUP(buf_fini) struct buf url = { .max = KIB(8) }, keys = { .max = KIB(16) };
	struct nix_conf_edit *edit;
	struct error err;

	if (find_url(use->conf, "substituters", use->facts.url) == NULL)
		buf_printf(&url, "extra-substituters = %s", use->facts.url);
	format_keys(use, use->conf, &keys);
	if (url.len == 0 && keys.len == 0)
		return CTL_DONE;
	edit = changes_open(&use->changes, use->file, 0644, &err);
	if (edit == NULL) {
		ctl_say("%s", err.text);
		return CTL_FAILED;
	}
	if (url.len > 0)
		nix_conf_edit_append(edit, buf_text(&url));
	if (keys.len > 0)
		nix_conf_edit_append(edit, buf_text(&keys));
	return CTL_DONE;
}

/* ---- the end --------------------------------------------------------------------------------- */

static json_t *keys_model(const struct use *use)
{
	json_t *keys = json_array();

	for (size_t i = 0; i < use->facts.n_keys; i++)
		json_array_append_new(keys, model_text(use->facts.keys[i]));
	return keys;
}

static int report(const struct use *use, bool is_made, bool needs_restart, const char *advice)
{
	bool is_dry = args_has(&use->ctl->args, "dry-run");

	if (!use->ctl->json)
		return CTL_DONE;
	if (output_json(json_pack("{s:o, s:o, s:b, s:b, s:o, s:b, s:o}", "url", model_text(use->facts.url),
	                          "public_keys", keys_model(use), "changed",
	                          is_made && !is_dry && !changes_is_empty(&use->changes), "dry_run", is_dry,
	                          "changes", changes_model(&use->changes), "needs_restart", needs_restart,
	                          "advice", model_text(advice)),
	                JSON_INDENT(2)) < 0)
		return CTL_FAILED;
	return CTL_DONE;
}

/* Nothing is changed; ADVICE is what somebody else can do. */
static int refuse(const struct use *use, const char *advice)
{
	if (!use->ctl->json)
		fputs(advice, stdout);
	report(use, false, false, advice);
	return CTL_FAILED;
}

static int refuse_nixos(const struct use *use)
{
	CLEANUP(buf_fini) struct buf text = { .max = KIB(32) };

	buf_printf(&text, "nix.settings.extra-substituters = [ \"%s\" ];\n", use->facts.url);
	buf_puts(&text, "nix.settings.extra-trusted-public-keys = [");
	for (size_t i = 0; i < use->facts.n_keys; i++)
		buf_printf(&text, " \"%s\"", use->facts.keys[i]);
	buf_puts(&text, " ];\n");
	ctl_say("%s is made by NixOS; nothing is changed here. In configuration.nix:",
	        nix_conf_system_file(use->system));
	return refuse(use, buf_text(&text));
}

static int refuse_untrusted(const struct use *use)
{
	CLEANUP(buf_fini) struct buf text = { .max = KIB(32) };

	buf_printf(&text, "extra-trusted-substituters = %s\n", use->facts.url);
	format_keys(use, use->system, &text);
	buf_putc(&text, '\n');
	ctl_say("Nix does not let you choose caches: you are none of the trusted-users in %s.\nroot can have "
	        "everybody "
	        "read it (sudo nncachectl use %s), or allow it with these lines there,\nafter a restart of "
	        "nix-daemon:",
	        nix_conf_system_file(use->system), use->cache);
	return refuse(use, buf_text(&text));
}

/* A line behind ours may have set the list anew. */
static bool is_in_effect(const struct use *use)
{
	CLEANUP(buf_fini) struct buf keys = { .max = KIB(16) };
	const struct nix_conf_line *line;
	struct error err;
	struct nix_conf *now =
		nix_conf_load(use->target == TARGET_SYSTEM ? NIX_CONF_SYSTEM : NIX_CONF_ALL, &err);
	bool has_url;

	if (now == NULL)
		return true;
	has_url = find_url(now, "substituters", use->facts.url) != NULL;
	format_keys(use, now, &keys);
	line = nix_conf_get(now, has_url ? "trusted-public-keys" : "substituters");
	if (line != NULL && (!has_url || keys.len > 0))
		ctl_say("%s:%u: %s is set anew there, behind what was added; put the words into that line",
		        line->file, line->line, line->name);
	nix_conf_free(now);
	return has_url && keys.len == 0;
}

static int make(struct use *use)
{
	bool is_dry = args_has(&use->ctl->args, "dry-run"), is_restarted = true, is_empty;
	int rc = CTL_DONE;

	is_empty = changes_is_empty(&use->changes);
	if (changes_make(use->ctl, &use->changes) != CTL_DONE)
		return CTL_FAILED;
	if (is_dry) {
		if (!use->ctl->json)
			puts("Nothing is written: --dry-run.");
		return report(use, true, false, NULL);
	}
	if (!is_in_effect(use))
		rc = CTL_FAILED;
	else if (!use->ctl->json)
		printf("Nix reads %s%s.\n", use->facts.url, is_empty ? " already" : " now");
	if (use->target == TARGET_SYSTEM &&
	    nix_daemon_offer_restart(use->ctl, use->file, &is_restarted) != CTL_DONE)
		rc = CTL_FAILED;
	return report(use, true, !is_restarted, NULL) == CTL_DONE ? rc : CTL_FAILED;
}

/* ---- who may what ---------------------------------------------------------------------------- */

static int finish_system(struct use *use)
{
	const char *custom = nix_conf_custom_file(use->system);

	if (nix_conf_is_nixos(use->system))
		return refuse_nixos(use);
	use->file = custom != NULL ? custom : nix_conf_system_file(use->system);
	return plan_lines(use) == CTL_DONE ? make(use) : CTL_FAILED;
}

static int finish_user(struct use *use)
{
	use->file = nix_conf_user_file(use->all);
	if (use->file == NULL) {
		ctl_say("NIX_USER_CONF_FILES names no file that substituters could be set in");
		return CTL_FAILED;
	}
	return plan_lines(use) == CTL_DONE ? make(use) : CTL_FAILED;
}

/* A user may choose what root allowed, and no keys. */
static int finish_untrusted(struct use *use)
{
	CLEANUP(buf_fini) struct buf keys = { .max = KIB(16) };

	format_keys(use, use->system, &keys);
	if (keys.len > 0 || (find_url(use->system, "substituters", use->facts.url) == NULL &&
	                     find_url(use->system, "trusted-substituters", use->facts.url) == NULL))
		return refuse_untrusted(use);
	return finish_user(use);
}

static int load(struct use *use)
{
	struct error err;

	use->system = nix_conf_load(NIX_CONF_SYSTEM, &err);
	use->all = use->system != NULL ? nix_conf_load(NIX_CONF_ALL, &err) : NULL;
	if (use->all == NULL) {
		ctl_say("%s", err.text);
		return CTL_FAILED;
	}
	if (geteuid() == 0)
		use->target = TARGET_SYSTEM;
	else if (nix_daemon_is_needless() || nix_trust_is_trusted(use->system))
		use->target = TARGET_USER;
	else
		use->target = TARGET_UNTRUSTED;
	use->conf = use->target == TARGET_SYSTEM ? use->system : use->all;
	return CTL_DONE;
}

static int run(struct use *use)
{
	int rc = load(use);

	if (rc == CTL_DONE)
		rc = read_secret(use);
	if (rc == CTL_DONE)
		rc = ask(use);
	if (rc == CTL_DONE)
		rc = add_keys(use);
	if (rc != CTL_DONE)
		return rc;
	if (use->facts.n_keys == 0 && find_url(use->conf, "substituters", use->facts.url) == NULL) {
		ctl_say("%s does not say which key signs its paths, and Nix takes no others; give it:\n"
		        "--public-key NAME:BASE64, the public half of the signing-key-file of who fills it",
		        use->facts.url);
		return CTL_USAGE;
	}
	switch (use->target) {
	case TARGET_SYSTEM:
		return finish_system(use);
	case TARGET_USER:
		return finish_user(use);
	case TARGET_UNTRUSTED:
		return finish_untrusted(use);
	}
	return CTL_FAILED;
}

int ctl_use(struct ctl *ctl)
{
	struct use use = { .ctl = ctl };
	int rc;

	if (ctl->args.n_operands != 1)
		return ctl_usage(ctl, "one CACHE");
	use.cache = ctl->args.operands[0];
	rc = run(&use);
	changes_fini(&use.changes);
	wipe(&use.secret);
	nix_conf_free(use.system);
	nix_conf_free(use.all);
	return rc;
}
