/* From files to a configuration. inih splits a line into key and value; the reader it gets its lines
 * from sees each first, because inih cuts what is too long (lines, and section names at 49 bytes),
 * takes an indented line for a second value of the key above, and tells no line numbers. What the
 * reader refuses is told of and reaches inih as an empty line. Reading goes on after a mistake, so
 * that one run tells them all. */
#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/config/places.h"
#include "daemon/config/section.h"
#include "daemon/config/text.h"

struct loader {
	struct config *config;
	const struct config_places *places;
	char *config_dir;
	struct mistakes mistakes;

	struct setting_place here;
	const char *text; /* not read yet */
	size_t n_left;
	struct section section; /* head NULL: none yet, or a wrong one */
	bool is_skipping;       /* in a wrong section: it has been told of */
};

static void free_text(char **text)
{
	free(*text);
}

/* Lines */

static bool is_plain(const char *line, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (iscntrl((unsigned char)line[i]) && line[i] != '\t')
			return false;
	}
	return true;
}

static const char *skip_blanks(const char *text)
{
	return text + strspn(text, " \t");
}

/* Takes [KIND "NAME"] apart; NAME stays empty for [daemon]. */
static bool parse_section(const char *line, enum option_section *kind, char name[65])
{
	const char *p = skip_blanks(line + 1);
	size_t n_kind = strspn(p, "abcdefghijklmnopqrstuvwxyz"), n_name = 0;
	const char *kind_text = p;

	p = skip_blanks(p + n_kind);
	if (*p == '"') {
		n_name = strspn(++p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
		if (n_name == 0 || n_name > 64 || p[n_name] != '"')
			return false;
		memcpy(name, p, n_name);
		p = skip_blanks(p + n_name + 1);
	}
	name[n_name] = '\0';
	if (*p != ']' || *skip_blanks(p + 1) != '\0')
		return false;
	for (enum option_section i = SECTION_DAEMON; i <= SECTION_PRIORITY; i++) {
		const char *known = option_section_name(i);

		*kind = i;
		if (strlen(known) == n_kind && memcmp(known, kind_text, n_kind) == 0)
			return (i == SECTION_DAEMON) == (n_name == 0);
	}
	return false;
}

static bool enter_section(struct loader *ld, const char *line)
{
	enum option_section kind;
	struct error err;
	char name[65];

	ld->section.head = NULL;
	ld->is_skipping = true;
	if (!parse_section(line, &kind, name)) {
		mistake(&ld->mistakes, &ld->here, NULL, NULL,
		        "%s: is not a section\n"
		        "  expected [daemon], [cache \"NAME\"], [upstream \"NAME\"] or [priority \"NAME\"], "
		        "the name "
		        "of 1 to 64 letters, digits, \".\", \"_\" and \"-\"",
		        line);
		return false;
	}
	if (config_enter(ld->config, &ld->section, kind, name, &ld->here, &err) < 0) {
		mistake(&ld->mistakes, &ld->here, NULL, NULL, "%s: %s", line, err.text);
		return false;
	}
	ld->is_skipping = false;
	return true;
}

/* Also one in the place of a value: written again, with a blank before it, it would be one. */
static bool has_comment_behind(const char *line)
{
	const char *equals = strchr(line, '=');

	for (const char *p = line; (p = strpbrk(p, ";#")) != NULL; p++) {
		if (p > line && (p[-1] == ' ' || p[-1] == '\t' || p - 1 == equals))
			return true;
	}
	return false;
}

/* What is wrong with LINE as it stands, or NULL. */
static const char *line_fault(const char *line)
{
	const char *end_of_key = strpbrk(line, "=:");

	if (line[0] == ' ' || line[0] == '\t')
		return "begins with a blank\n  expected no indentation; a value cannot go on in the next "
		       "line";
	if (has_comment_behind(line))
		return "has \";\" or \"#\" after a blank or \"=\"\n  expected a comment on a line of its own";
	if (line[0] != '[' && (end_of_key == NULL || end_of_key == line || *end_of_key != '='))
		return "is neither a section nor a setting\n  expected KEY = VALUE";
	return NULL;
}

static bool take_line(struct loader *ld, const char *line)
{
	const char *start = skip_blanks(line);
	const char *fault;

	if (*start == '\0' || *start == ';' || *start == '#')
		return true;
	fault = line_fault(line);
	if (fault != NULL) {
		mistake(&ld->mistakes, &ld->here, NULL, NULL, "line %s", fault);
		return false;
	}
	return line[0] != '[' || enter_section(ld, line);
}

/* As fgets, for ini_parse_stream. */
static char *read_line(char *line, int size, void *ctx)
{
	struct loader *ld = ctx;
	const char *start = ld->text;
	const char *end = memchr(start, '\n', ld->n_left);
	size_t n = end != NULL ? (size_t)(end - start) : ld->n_left;

	if (ld->n_left == 0)
		return NULL;
	ld->here.line++;
	ld->text += n + (end != NULL);
	ld->n_left -= n + (end != NULL);
	n -= n > 0 && start[n - 1] == '\r';
	line[0] = '\0';
	if (n >= (size_t)size) {
		mistake(&ld->mistakes, &ld->here, NULL, NULL, "line is longer than %d bytes", size - 1);
		return line;
	}
	if (!is_plain(start, n)) {
		mistake(&ld->mistakes, &ld->here, NULL, NULL, "line has control characters in it");
		return line;
	}
	memcpy(line, start, n);
	line[n] = '\0';
	if (!take_line(ld, line))
		line[0] = '\0';
	return line;
}

/* Settings */

static void tell_unknown(struct loader *ld, const char *key)
{
	const struct option *nearest = option_nearest(ld->section.kind, key);

	for (enum option_section i = SECTION_DAEMON; i <= SECTION_PRIORITY; i++) {
		if (option_find(i, key) == NULL)
			continue;
		mistake(&ld->mistakes, &ld->here, &ld->section, key, "belongs in a section [%s]",
		        option_section_name(i));
		return;
	}
	if (nearest != NULL)
		mistake(&ld->mistakes, &ld->here, &ld->section, key, "is not known\n  did you mean %s?",
		        nearest->key);
	else
		mistake(&ld->mistakes, &ld->here, &ld->section, key, "is not known; see nncache.conf(5)");
}

/* A name without a slash is a file among the credentials: the service manager's, else ours. systemd calls
 * those of a whole directory ID_NAME, with the ID that our unit gives it. NULL: no memory. */
static char *credential_path(const struct loader *ld, const char *name)
{
	static const char *const prefixes[] = { "", "nncache_" };
	const char *dir = ld->places->credentials_dir;
	CLEANUP(buf_fini) struct buf path = { .max = 16384 };

	for (size_t i = 0; dir != NULL && i < N_ELEMENTS(prefixes); i++) {
		buf_printf(&path, "%s/%s%s", dir, prefixes[i], name);
		if (!buf_ok(&path) || access(buf_text(&path), F_OK) == 0)
			return buf_take(&path);
		buf_clear(&path);
	}
	buf_printf(&path, "%s/credentials/%s", ld->config_dir, name);
	return buf_take(&path);
}

static int read_value(struct loader *ld, const struct option *option, const char *value, struct error *err)
{
	CLEANUP(free_text) char *path = NULL;

	if (option->type != OPTION_FILE || value[0] == '\0' || strchr(value, '/') != NULL)
		return option_read(option, ld->section.head, value, err);
	path = credential_path(ld, value);
	if (path == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	if (access(path, F_OK) < 0 && text_refuse_secret(value, err) < 0)
		return -1;
	return option_read(option, ld->section.head, path, err);
}

static void set_option(struct loader *ld, const struct option *option, const char *value)
{
	struct setting_place *place = section_place(&ld->section, option);
	bool is_again = place->file == ld->here.file;
	bool was_wrong = is_again && place->is_wrong;
	bool is_list = (option->flags & OPTION_LIST) != 0;
	struct error err;

	if (is_again && !is_list) {
		mistake(&ld->mistakes, &ld->here, &ld->section, option->key,
		        "is set twice in this file, first on line %u", place->line);
		return;
	}
	if (is_list && (!is_again || value[0] == '\0'))
		option_clear(option, ld->section.head);
	*place = ld->here;
	place->is_wrong = was_wrong;
	if (read_value(ld, option, value, &err) < 0) {
		place->is_wrong = true;
		mistake(&ld->mistakes, &ld->here, &ld->section, option->key, "%s", err.text);
	}
}

/* inih's handler; its section name may be cut, ours is not. */
static int on_setting(void *ctx, const char *section, const char *key, const char *value)
{
	struct loader *ld = ctx;
	const struct option *option;

	(void)section;
	if (ld->section.head == NULL) {
		if (!ld->is_skipping)
			mistake(&ld->mistakes, &ld->here, NULL, key, "stands before the first section");
		return 1;
	}
	option = option_find(ld->section.kind, key);
	if (option != NULL)
		set_option(ld, option, value);
	else
		tell_unknown(ld, key);
	return 1;
}

/* Files */

static void tell_file(struct loader *ld, const char *file, const char *what)
{
	mistake(&ld->mistakes, &(struct setting_place){ .file = file }, NULL, NULL, "%s", what);
}

static void load_text(struct loader *ld, const char *name, const char *text, size_t len)
{
	static const char bom[] = "\xef\xbb\xbf";
	struct text_list *files = &ld->config->files;
	size_t n_skip = len >= 3 && memcmp(text, bom, 3) == 0 ? 3 : 0;
	struct error err;

	/* The list keeps the name for as long as places point to it. */
	if (text_list_add(files, name, strlen(name), CONFIG_MAX_FILES + 1, &err) < 0) {
		tell_file(ld, name, err.text);
		return;
	}
	if (len > CONFIG_FILE_MAX_BYTES) {
		tell_file(ld, name, "larger than 1M");
		return;
	}
	ld->here = (struct setting_place){ .file = files->items[files->n - 1] };
	ld->text = text + n_skip;
	ld->n_left = len - n_skip;
	ld->section.head = NULL;
	ld->is_skipping = false;
	if (ini_parse_stream(read_line, ld, on_setting, ld) != 0 && ld->mistakes.n == 0)
		tell_file(ld, name, "cannot be parsed");
}

static void load_file(struct loader *ld, const char *file)
{
	CLEANUP(free_text) char *text = NULL;
	struct error err;
	size_t len;

	if (read_file(file, CONFIG_FILE_MAX_BYTES, &text, &len, &err) < 0)
		mistake(&ld->mistakes, &(struct setting_place){ 0 }, NULL, NULL, "%s", err.text);
	else
		load_text(ld, file, text, len);
}

static bool is_absent(const char *path)
{
	return access(path, F_OK) < 0 && errno == ENOENT;
}

static int is_conf(const struct dirent *entry)
{
	size_t n = strlen(entry->d_name);

	return entry->d_name[0] != '.' && n > 5 && strcmp(entry->d_name + n - 5, ".conf") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void load_dir(struct loader *ld, const char *dir)
{
	struct dirent **entries;
	int n = scandir(dir, &entries, is_conf, by_bytes);

	if (n < 0) {
		if (errno != ENOENT)
			tell_file(ld, dir, strerror(errno));
		return;
	}
	if (n > CONFIG_MAX_FILES)
		tell_file(ld, dir, "has too many files");
	for (int i = 0; i < n; i++) {
		CLEANUP(buf_fini) struct buf file = { .max = 8192 };

		buf_printf(&file, "%s/%s", dir, entries[i]->d_name);
		if (n <= CONFIG_MAX_FILES)
			load_file(ld, buf_text(&file));
		free(entries[i]);
	}
	free(entries);
}

/* Without memory of its own: a path cut short would be no file, and no file is no mistake. */
static void load_files(struct loader *ld)
{
	char memory[8192];
	struct buf path;

	if (ld->places->config_file != NULL) {
		load_file(ld, ld->places->config_file);
		return;
	}
	buf_init_in(&path, memory, sizeof(memory));
	buf_printf(&path, "%s/nncache.conf", ld->config_dir);
	if (!buf_ok(&path)) {
		tell_file(ld, ld->config_dir, "the path is too long");
		return;
	}
	if (!is_absent(buf_text(&path)))
		load_file(ld, buf_text(&path));
	buf_clear(&path);
	buf_printf(&path, "%s/conf.d", ld->config_dir);
	load_dir(ld, buf_text(&path));
}

static int loader_init(struct loader *ld, const struct config_places *places, struct buf *messages)
{
	*ld = (struct loader){ .places = places, .mistakes = { .out = messages } };
	ld->config_dir = place_config_dir(places);
	ld->config = ld->config_dir != NULL ? config_new(places) : NULL;
	return ld->config != NULL ? 0 : -1;
}

static void loader_fini(struct loader *ld)
{
	config_free(ld->config);
	free(ld->config_dir);
}

static int loader_finish(struct loader *ld, struct config **ret, bool check_files)
{
	if (config_derive(ld->config) < 0)
		tell_file(ld, NULL, "out of memory");
	else
		config_check(ld->config, check_files, &ld->mistakes);
	mistakes_end(&ld->mistakes);
	if (ld->mistakes.n > 0)
		return -1;
	*ret = ld->config;
	ld->config = NULL;
	return 0;
}

int config_load(struct config **ret, const struct config_places *places, bool check_files,
                struct buf *messages)
{
	CLEANUP(loader_fini) struct loader ld;

	if (loader_init(&ld, places, messages) < 0) {
		buf_puts(messages, "out of memory\n");
		return -1;
	}
	load_files(&ld);
	return loader_finish(&ld, ret, check_files);
}

int config_load_text(struct config **ret, const struct config_places *places, const char *name,
                     const char *text, size_t len, bool check_files, struct buf *messages)
{
	CLEANUP(loader_fini) struct loader ld;

	if (loader_init(&ld, places, messages) < 0) {
		buf_puts(messages, "out of memory\n");
		return -1;
	}
	load_text(&ld, name, text, len);
	return loader_finish(&ld, ret, check_files);
}

struct config *config_salvage(const struct config_places *places)
{
	CLEANUP(buf_fini) struct buf unread = { .max = KIB(64) };
	CLEANUP(loader_fini) struct loader ld;
	struct config *config;
	struct error err;

	if (loader_init(&ld, places, &unread) < 0)
		return NULL;
	load_files(&ld);
	if (config_forget_caches(ld.config, &err) < 0 || config_derive(ld.config) < 0)
		return NULL;
	config = ld.config;
	ld.config = NULL;
	return config;
}
