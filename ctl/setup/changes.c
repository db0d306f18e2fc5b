#include "ctl/setup/changes.h"

#include <string.h>

#include "ctl/model.h"

static struct nix_conf_edit *open_file(struct changes *changes, const char *file, mode_t mode, bool is_secret,
                                       struct error *err)
{
	struct nix_conf_edit *edit = nix_conf_edit_open(file, mode, err);

	if (edit == NULL)
		return NULL;
	for (size_t i = 0; i < changes->n_files; i++) {
		if (strcmp(nix_conf_edit_file(changes->files[i].edit), nix_conf_edit_file(edit)) != 0)
			continue;
		nix_conf_edit_free(edit);
		return changes->files[i].edit;
	}
	if (changes->n_files == CHANGES_MAX_FILES) {
		nix_conf_edit_free(edit);
		error_set(err, ERROR_OPERATOR, "%s: more than %d files to change", file, CHANGES_MAX_FILES);
		return NULL;
	}
	changes->files[changes->n_files].edit = edit;
	changes->files[changes->n_files++].is_secret = is_secret;
	return edit;
}

struct nix_conf_edit *changes_open(struct changes *changes, const char *file, mode_t mode, struct error *err)
{
	return open_file(changes, file, mode, false, err);
}

struct nix_conf_edit *changes_open_secret(struct changes *changes, const char *file, struct error *err)
{
	return open_file(changes, file, 0600, true, err);
}

void changes_fini(struct changes *changes)
{
	for (size_t i = 0; i < changes->n_files; i++)
		nix_conf_edit_free(changes->files[i].edit);
	*changes = (struct changes){ 0 };
}

bool changes_is_empty(const struct changes *changes)
{
	for (size_t i = 0; i < changes->n_files; i++)
		if (!nix_conf_edit_is_empty(changes->files[i].edit))
			return false;
	return true;
}

static void show(const struct changes *changes)
{
	struct output o;
	const char *text;
	unsigned line;
	bool is_new;

	output_init_for(&o, stdout);
	o.width = 0; /* it may be copied */
	for (size_t i = 0; i < changes->n_files; i++) {
		const struct nix_conf_edit *edit = changes->files[i].edit;

		if (nix_conf_edit_is_empty(edit))
			continue;
		output_put(&o, STYLE_BOLD, "%s", nix_conf_edit_file(edit));
		output_end_line(&o);
		for (size_t n = 0; (text = nix_conf_edit_change(edit, n, &line, &is_new)) != NULL; n++) {
			output_put(&o, is_new ? STYLE_GOOD : STYLE_BAD, "%c%4u  %s", is_new ? '+' : '-', line,
			           changes->files[i].is_secret ? "(a secret)" : text);
			output_end_line(&o);
		}
	}
	output_flush(&o, stdout);
	output_fini(&o);
}

int changes_make(const struct ctl *ctl, struct changes *changes)
{
	struct error err;
	size_t i;

	if (!ctl->json)
		show(changes);
	if (args_has(&ctl->args, "dry-run"))
		return CTL_DONE;
	for (i = 0; i < changes->n_files; i++)
		if (nix_conf_edit_commit(changes->files[i].edit, &err) < 0)
			break;
	if (i == changes->n_files)
		return CTL_DONE;
	ctl_say("%s", err.text);
	while (i-- > 0)
		if (!nix_conf_edit_is_empty(changes->files[i].edit))
			ctl_say("%s: is changed already", nix_conf_edit_file(changes->files[i].edit));
	return CTL_FAILED;
}

json_t *changes_model(const struct changes *changes)
{
	json_t *list = json_array();
	const char *text;
	unsigned line;
	bool is_new;

	for (size_t i = 0; i < changes->n_files; i++) {
		const struct nix_conf_edit *edit = changes->files[i].edit;
		bool is_secret = changes->files[i].is_secret;

		for (size_t n = 0; (text = nix_conf_edit_change(edit, n, &line, &is_new)) != NULL; n++)
			json_array_append_new(list, json_pack("{s:o, s:I, s:o, s:b}", "file",
			                                      model_text(nix_conf_edit_file(edit)), "line",
			                                      (json_int_t)line, "text",
			                                      model_text(is_secret ? NULL : text), "is_new",
			                                      is_new));
	}
	return list;
}
