/* hook enable, disable, status: the line of Nix's configuration that makes our hook the post-build-hook. The
 * line of another hook is never touched, and Nix is told to look again. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/model.h"
#include "ctl/setup/changes.h"
#include "ctl/setup/hook_line.h"
#include "ctl/setup/nix_conf.h"
#include "ctl/setup/nix_daemon.h"

#define SETTING "post-build-hook"

/* What is so before anything is done. */
struct scene {
	const struct ctl *ctl;
	struct nix_conf *conf;
	const struct nix_conf_line *line; /* that decides, or NULL */
	enum hook_kind kind;
	char own[PATH_MAX];
	bool is_users; /* the store is the user's own, and so is the configuration */
};

static int scene_open(struct scene *scene, const struct ctl *ctl)
{
	bool is_users = nix_daemon_is_needless();
	struct error err;

	*scene = (struct scene){ .ctl = ctl, .is_users = is_users };
	/* nix-daemon reads the files of root, too; the files of others are not its business. */
	scene->conf = nix_conf_load(is_users || geteuid() == 0 ? NIX_CONF_ALL : NIX_CONF_SYSTEM, &err);
	if (scene->conf == NULL) {
		ctl_say("%s", err.text);
		return CTL_FAILED;
	}
	hook_find_own(scene->own);
	scene->line = nix_conf_get(scene->conf, SETTING);
	scene->kind = scene->line != NULL ? hook_kind_of(scene->line->value, scene->own) : HOOK_NONE;
	return CTL_DONE;
}

static void scene_close(struct scene *scene)
{
	nix_conf_free(scene->conf);
}

static bool is_in_file(const struct nix_conf_line *line)
{
	return line->file[0] == '/';
}

static const char *file_for_line(const struct scene *scene)
{
	const char *custom = nix_conf_custom_file(scene->conf);

	if (scene->is_users)
		return nix_conf_user_file(scene->conf);
	return custom != NULL ? custom : nix_conf_system_file(scene->conf);
}

/* ---- what both say --------------------------------------------------------------------------- */

/* WRAPPER may be NULL. Takes neither. */
static int report(const struct scene *scene, const struct changes *changes, bool is_restarted,
                  const char *wrapper)
{
	bool is_dry = args_has(&scene->ctl->args, "dry-run");

	if (!scene->ctl->json)
		return CTL_DONE;
	if (output_json(json_pack("{s:b, s:b, s:o, s:b, s:o}", "changed",
	                          !is_dry && !changes_is_empty(changes), "dry_run", is_dry, "changes",
	                          changes_model(changes), "needs_restart", !is_dry && !is_restarted,
	                          "wrapper", model_text(wrapper)),
	                JSON_INDENT(2)) < 0)
		return CTL_FAILED;
	return CTL_DONE;
}

static int make(struct scene *scene, struct changes *changes, const char *done)
{
	bool is_dry = args_has(&scene->ctl->args, "dry-run"), is_restarted = !is_dry;

	if (changes_make(scene->ctl, changes) != CTL_DONE)
		return CTL_FAILED;
	if (is_dry && !scene->ctl->json)
		puts("Nothing is written: --dry-run.");
	if (!is_dry && !scene->ctl->json)
		puts(done);
	for (size_t i = 0; !is_dry && is_restarted && i < changes->n_files; i++)
		if (!scene->is_users &&
		    nix_daemon_offer_restart(scene->ctl, nix_conf_edit_file(changes->files[i].edit),
		                             &is_restarted) != CTL_DONE) {
			report(scene, changes, false, NULL);
			return CTL_FAILED;
		}
	return report(scene, changes, is_restarted, NULL);
}

/* The edit of LINE's file, in which that line still says what was read. NULL: the reason was said. */
static struct nix_conf_edit *open_at(struct changes *changes, const struct nix_conf_line *line)
{
	struct error err;
	struct nix_conf_edit *edit = changes_open(changes, line->file, 0644, &err);
	const char *text = edit != NULL ? nix_conf_edit_line(edit, line->line) : NULL;
	struct nix_conf *now = text != NULL ? nix_conf_parse(text, strlen(text), line->file, &err) : NULL;
	const struct nix_conf_line *found = now != NULL ? nix_conf_get(now, SETTING) : NULL;
	bool is_same = found != NULL && strcmp(found->value, line->value) == 0;

	nix_conf_free(now);
	if (is_same)
		return edit;
	if (edit != NULL)
		error_set(&err, ERROR_TRANSIENT, "%s: somebody else changed it just now; try again",
		          line->file);
	ctl_say("%s", err.text);
	return NULL;
}

/* ---- enable ---------------------------------------------------------------------------------- */

static void put_quoted(struct buf *out, const char *text)
{
	buf_putc(out, '\'');
	for (; *text != '\0'; text++) {
		if (*text == '\'')
			buf_puts(out, "'\\''");
		else
			buf_putc(out, *text);
	}
	buf_putc(out, '\'');
}

/* OUT_PATHS and DRV_PATH are in the environment of both, and no word is taken apart on the way. */
static void format_wrapper(const struct scene *scene, struct buf *out)
{
	buf_puts(
		out,
		"#!/bin/sh\n"
		"# Two hooks for Nix, which has room for one: that of nncache, then the one that was there.\n"
		"# Whether a build succeeds hangs on the second; the first never fails one.\n"
		"set -f\n"
		"export OUT_PATHS DRV_PATH\n"
		"own=");
	put_quoted(out, scene->own);
	buf_puts(out, "\n[ ! -x \"$own\" ] || \"$own\"\nexec ");
	put_quoted(out, scene->line->value);
	buf_putc(out, '\n');
}

static int refuse_other(const struct scene *scene)
{
	CLEANUP(buf_fini) struct buf wrapper = { .max = KIB(64) };
	const struct changes none = { 0 };

	format_wrapper(scene, &wrapper);
	ctl_say("%s:%u: another hook is set, and Nix has room for one: %s\nTo have both, put the script "
	        "below into "
	        "a file that only root may write, make it executable,\nand set " SETTING " to that file",
	        scene->line->file, scene->line->line, scene->line->value);
	if (scene->ctl->json)
		report(scene, &none, false, buf_text(&wrapper));
	else
		fputs(buf_text(&wrapper), stdout);
	return CTL_FAILED;
}

static int refuse_nixos(const struct scene *scene, bool is_on)
{
	const struct changes none = { 0 };

	ctl_say("%s is made by NixOS; nothing is changed here. In configuration.nix, with the module of "
	        "nncache "
	        "(nix/module.nix)%s:",
	        nix_conf_system_file(scene->conf), is_on ? "" : ", or without it");
	if (scene->ctl->json)
		report(scene, &none, false, NULL);
	else
		printf("services.nncache.enable = %s;\n", is_on ? "true" : "false");
	return CTL_FAILED;
}

/* Does nothing stand against it but a missing line? */
static int check_enable(const struct scene *scene)
{
	if (access(scene->own, X_OK) < 0) {
		ctl_say("%s: %s; every build would fail with it as the hook", scene->own, strerror(errno));
		return CTL_FAILED;
	}
	if (scene->kind == HOOK_OTHER)
		return refuse_other(scene);
	if (scene->line != NULL && !is_in_file(scene->line)) {
		ctl_say("%s:%u: " SETTING " is set there, and no file counts against that", scene->line->file,
		        scene->line->line);
		return CTL_FAILED;
	}
	if (scene->line == NULL && file_for_line(scene) == NULL) {
		ctl_say("NIX_USER_CONF_FILES names no file that " SETTING " could be set in");
		return CTL_FAILED;
	}
	return CTL_DONE;
}

static int enable(struct scene *scene, struct changes *changes)
{
	const struct nix_conf_line *line = scene->line;
	bool is_there = scene->kind == HOOK_OURS || scene->kind == HOOK_WRAPPED;
	struct nix_conf_edit *edit;
	char text[PATH_MAX + 32];
	struct error err;

	if (!is_there && nix_conf_is_nixos(scene->conf) && !scene->is_users)
		return refuse_nixos(scene, true);
	if (check_enable(scene) != CTL_DONE)
		return CTL_FAILED;
	if (is_there && nix_conf_is_in_store(line->file))
		return report(scene, changes, true, NULL);
	if (line != NULL) {
		edit = open_at(changes, line);
	} else {
		edit = changes_open(changes, file_for_line(scene), 0644, &err);
		if (edit == NULL)
			ctl_say("%s", err.text);
	}
	if (edit == NULL)
		return CTL_FAILED;
	snprintf(text, sizeof(text), SETTING " = %s", scene->own);
	if (line == NULL)
		nix_conf_edit_append(edit, text);
	else if (!is_there)
		nix_conf_edit_replace(edit, line->line, text);
	return make(scene, changes,
	            scene->kind == HOOK_WRAPPED ? "A hook is set that calls that of nncache."
	            : is_there                  ? "The hook of nncache is set."
	                                        : "The hook of nncache is set now.");
}

/* ---- disable --------------------------------------------------------------------------------- */

static int disable(struct scene *scene, struct changes *changes)
{
	const struct nix_conf_line *line;

	if (scene->kind != HOOK_NONE && scene->kind != HOOK_OTHER && nix_conf_is_nixos(scene->conf) &&
	    !scene->is_users)
		return refuse_nixos(scene, false);
	if (scene->kind == HOOK_WRAPPED) {
		ctl_say("%s:%u: %s calls the hook of nncache; take it out there", scene->line->file,
		        scene->line->line, scene->line->value);
		return CTL_FAILED;
	}
	for (size_t i = 0; (line = nix_conf_at(scene->conf, i)) != NULL; i++) {
		enum hook_kind kind =
			strcmp(line->name, SETTING) == 0 ? hook_kind_of(line->value, scene->own) : HOOK_NONE;
		struct nix_conf_edit *edit;

		if (kind != HOOK_OURS && kind != HOOK_MOVED)
			continue;
		if (!is_in_file(line)) {
			ctl_say("%s:%u: " SETTING " is set there, not in a file", line->file, line->line);
			return CTL_FAILED;
		}
		edit = open_at(changes, line);
		if (edit == NULL)
			return CTL_FAILED;
		nix_conf_edit_remove(edit, line->line);
	}
	return make(scene, changes,
	            changes_is_empty(changes)
	                    ? "The hook of nncache is not set."
	                    : "The hook of nncache is no longer set; builds that run now still call it.");
}

/* ---- status ---------------------------------------------------------------------------------- */

static const char *word_of(enum hook_kind kind)
{
	switch (kind) {
	case HOOK_NONE:
		return "none";
	case HOOK_OURS:
		return "ours";
	case HOOK_MOVED:
		return "moved";
	case HOOK_WRAPPED:
		return "wrapped";
	case HOOK_OTHER:
		return "other";
	}
	return "none";
}

static const char *sentence_of(enum hook_kind kind)
{
	switch (kind) {
	case HOOK_NONE:
		return "not set: nothing that is built is handed over";
	case HOOK_OURS:
		return "set";
	case HOOK_MOVED:
		return "that of nncache at another place; this sets it right: nncachectl hook enable";
	case HOOK_WRAPPED:
		return "set: a script that calls it";
	case HOOK_OTHER:
		return "another one is set; nncachectl hook enable shows how to have both";
	}
	return "";
}

struct hook_status {
	bool exists, is_executable, is_enabled;
	bool daemon_runs, daemon_is_old;
	int64_t daemon_started_unix_s;
	/* What decides for who asks, if that is not what decides for nix-daemon. */
	struct nix_conf *users;
	const struct nix_conf_line *users_line;
};

static bool is_same_line(const struct nix_conf_line *a, const struct nix_conf_line *b)
{
	return a->line == b->line && a->file != NULL && b->file != NULL && strcmp(a->file, b->file) == 0;
}

static void look(const struct scene *scene, struct hook_status *ret)
{
	const struct nix_conf_line *line = scene->line;
	const char *file = line != NULL ? line->file : file_for_line(scene);
	int64_t started_ms = 0;
	struct error err;
	pid_t pid;

	ret->exists = line != NULL && access(line->value, F_OK) == 0;
	ret->is_executable = ret->exists && access(line->value, X_OK) == 0;
	ret->is_enabled = (scene->kind == HOOK_OURS || scene->kind == HOOK_WRAPPED) && ret->is_executable;
	ret->daemon_runs = nix_daemon_find(&pid, &started_ms);
	ret->daemon_started_unix_s = started_ms / 1000;
	if (file != NULL)
		ret->daemon_is_old = nix_daemon_is_older_than(file);
	ret->users = nix_conf_load(NIX_CONF_ALL, &err);
	ret->users_line = ret->users != NULL ? nix_conf_get(ret->users, SETTING) : NULL;
	if (ret->users_line != NULL && line != NULL && is_same_line(ret->users_line, line))
		ret->users_line = NULL;
}

static json_t *place_model(const struct nix_conf_line *line)
{
	if (line == NULL)
		return json_null();
	return json_pack("{s:o, s:I, s:o}", "file", model_text(line->file), "line", (json_int_t)line->line,
	                 "value", model_text(line->value));
}

static int status_json(const struct scene *scene, const struct hook_status *s)
{
	json_t *model = json_pack(
		"{s:b, s:s, s:o, s:o, s:b, s:b, s:{s:b, s:I, s:b}, s:o, s:o}", "enabled", s->is_enabled,
		"kind", word_of(scene->kind), "own_hook", model_text(scene->own), "set_by",
		place_model(scene->line), "exists", s->exists, "executable", s->is_executable, "nix_daemon",
		"running", s->daemon_runs, "started", (json_int_t)s->daemon_started_unix_s, "needs_restart",
		s->daemon_is_old, "user_set_by", place_model(s->users_line), "problem",
		model_text(nix_conf_problem(scene->conf)));

	model_dates(model);
	return output_json(model, JSON_INDENT(2)) < 0 ? CTL_FAILED : CTL_DONE;
}

static void put_line(struct output *o, const char *name, enum style style, const char *text)
{
	output_left(o, STYLE_DIM, 12, name);
	output_put(o, style, "%s", text);
	output_end_line(o);
}

static void status_show(const struct scene *scene, const struct hook_status *s)
{
	const struct nix_conf_line *line = scene->line;
	CLEANUP(buf_fini) struct buf text = { .max = KIB(16) };
	struct output o;

	output_init_for(&o, stdout);
	put_line(&o, "hook", s->is_enabled ? STYLE_GOOD : STYLE_WARN, sentence_of(scene->kind));
	if (line != NULL && line->value[0] != '\0') {
		buf_printf(&text, "%s:%u", line->file, line->line);
		put_line(&o, "set by", STYLE_PLAIN, buf_text(&text));
		buf_clear(&text);
		buf_printf(&text, "%s%s", line->value,
		           s->is_executable ? ""
		           : s->exists      ? ": not executable, so every build fails"
		                            : ": not there, so every build fails");
		put_line(&o, "program", s->is_executable ? STYLE_PLAIN : STYLE_BAD, buf_text(&text));
	}
	if (!scene->is_users)
		put_line(&o, "nix-daemon", s->daemon_is_old ? STYLE_WARN : STYLE_PLAIN,
		         !s->daemon_runs    ? "does not run; it reads the line when it starts"
		         : s->daemon_is_old ? "runs since before the file was changed: " NIX_DAEMON_RESTART
		                            : "runs since after that");
	if (s->users_line != NULL) {
		buf_clear(&text);
		buf_printf(&text, "%s:%u sets \"%s\" for you", s->users_line->file, s->users_line->line,
		           s->users_line->value);
		put_line(&o, "but", STYLE_WARN, buf_text(&text));
	}
	if (nix_conf_problem(scene->conf) != NULL)
		put_line(&o, "problem", STYLE_BAD, nix_conf_problem(scene->conf));
	output_flush(&o, stdout);
	output_fini(&o);
}

static int status(struct scene *scene)
{
	struct hook_status s = { 0 };
	int rc = CTL_DONE;

	look(scene, &s);
	if (scene->ctl->json)
		rc = status_json(scene, &s);
	else
		status_show(scene, &s);
	nix_conf_free(s.users);
	return rc != CTL_DONE || !s.is_enabled ? CTL_FAILED : CTL_DONE;
}

int ctl_hook(struct ctl *ctl)
{
	const char *what = ctl->args.n_operands == 1 ? ctl->args.operands[0] : "";
	struct changes changes = { 0 };
	struct scene scene;
	int rc;

	if (strcmp(what, "enable") != 0 && strcmp(what, "disable") != 0 && strcmp(what, "status") != 0)
		return ctl_usage(ctl, "hook enable, hook disable or hook status");
	if (scene_open(&scene, ctl) != CTL_DONE)
		return CTL_FAILED;
	if (strcmp(what, "enable") == 0)
		rc = enable(&scene, &changes);
	else if (strcmp(what, "disable") == 0)
		rc = disable(&scene, &changes);
	else
		rc = status(&scene);
	changes_fini(&changes);
	scene_close(&scene);
	return rc;
}
