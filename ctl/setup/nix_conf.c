/* Reading is Nix's: a line ends at the first '#', its words are parted by blanks, and it is `NAME = WORD...`,
 * `include FILE` or `!include FILE`, the file relative to the one that names it. A later line wins;
 * "extra-NAME" adds to a list. */
#include "ctl/setup/nix_conf.h"

#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"

#define FILE_MAX_BYTES MIB(1)
#define FILES_MAX      64
#define DEPTH_MAX      16
#define TOKEN_BLANKS   " \t\r"
#define EXTRA          "extra-"

struct nix_conf {
	struct nix_conf_line *lines;
	size_t n_lines, n_lines_room;
	char *files[FILES_MAX]; /* those that were read */
	size_t n_files;
	char *system_file, *custom_file, *user_file;
	char *problem;
	bool is_alone;  /* includes are not followed */
	bool is_system; /* reading the system's file and its includes */
	bool no_memory;
};

/* A file that is being read. */
struct source {
	const char *name;
	unsigned line, depth;
};

static const struct {
	const char *old, *name;
} aliases[] = {
	{ "binary-caches", "substituters" },
	{ "trusted-binary-caches", "trusted-substituters" },
	{ "binary-cache-public-keys", "trusted-public-keys" },
};

static const struct nix_conf_line defaults[] = {
	{ .name = "substituters", .value = "https://cache.nixos.org/" },
	{ .name = "trusted-public-keys",
	  .value = "cache.nixos.org-1:6NCHDd59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=" },
	{ .name = "trusted-users", .value = "root" },
	{ .name = "allowed-users", .value = "*" },
};

static void free_text(char **text)
{
	free(*text);
}

/* ---- reading --------------------------------------------------------------------------------- */

static PRINTF(3, 4) void note_problem(struct nix_conf *conf, const struct source *source, const char *format,
                                      ...)
{
	CLEANUP(buf_fini) struct buf text = { .max = KIB(16) };
	char what[PATH_MAX + 100];
	va_list args;

	if (conf->problem != NULL)
		return;
	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	buf_printf(&text, "%s:%u: %s", source->name, source->line, what);
	conf->problem = buf_take(&text);
	conf->no_memory |= conf->problem == NULL;
}

static void add_line(struct nix_conf *conf, const struct source *source, const char *name, struct buf *value)
{
	struct nix_conf_line line = { .file = source->name, .line = source->line };
	struct nix_conf_line *lines = conf->lines;

	if (conf->n_lines == conf->n_lines_room) {
		conf->n_lines_room = conf->n_lines_room > 0 ? conf->n_lines_room * 2 : 32;
		lines = realloc(lines, conf->n_lines_room * sizeof(*lines));
		if (lines == NULL) {
			conf->no_memory = true;
			return;
		}
		conf->lines = lines;
	}
	line.name = strdup(name);
	line.value = buf_take(value);
	conf->no_memory |= line.name == NULL || line.value == NULL;
	lines[conf->n_lines++] = line;
}

static void read_conf(struct nix_conf *conf, const char *path, unsigned depth, const struct source *from);

/* PATH is one word of SOURCE. */
static void include(struct nix_conf *conf, const struct source *source, const char *path, bool must_be)
{
	const char *slash = strrchr(source->name, '/');
	char full[PATH_MAX];
	int n_dir = path[0] == '/' || slash == NULL ? 0 : (int)(slash - source->name) + 1;
	int n = snprintf(full, sizeof(full), "%.*s%s", n_dir, source->name, path);
	const char *base = strrchr(path, '/');

	base = base != NULL ? base + 1 : path;
	if (n >= (int)sizeof(full)) {
		note_problem(conf, source, "the name of the file is too long");
		return;
	}
	if (conf->is_system && conf->custom_file == NULL && strcmp(base, "nix.custom.conf") == 0) {
		conf->custom_file = strdup(full);
		conf->no_memory |= conf->custom_file == NULL;
	}
	if (conf->is_alone)
		return;
	if (access(full, F_OK) < 0) {
		if (must_be)
			note_problem(conf, source, "%s: there is no such file", full);
		return;
	}
	read_conf(conf, full, source->depth + 1, source);
}

static void read_line(struct nix_conf *conf, const struct source *source, char *text)
{
	CLEANUP(buf_fini) struct buf value = { .max = FILE_MAX_BYTES };
	char *rest = NULL, *name, *second, *word;

	text[strcspn(text, "#")] = '\0';
	name = strtok_r(text, TOKEN_BLANKS, &rest);
	if (name == NULL)
		return;
	second = strtok_r(NULL, TOKEN_BLANKS, &rest);
	word = second != NULL ? strtok_r(NULL, TOKEN_BLANKS, &rest) : NULL;
	if (strcmp(name, "include") == 0 || strcmp(name, "!include") == 0) {
		if (second != NULL && word == NULL)
			include(conf, source, second, name[0] != '!');
		else
			note_problem(conf, source, "%s takes the name of one file", name);
		return;
	}
	if (second == NULL || strcmp(second, "=") != 0) {
		note_problem(conf, source, "expected NAME = VALUE, with blanks around the \"=\"");
		return;
	}
	for (; word != NULL; word = strtok_r(NULL, TOKEN_BLANKS, &rest)) {
		if (value.len > 0)
			buf_putc(&value, ' ');
		buf_puts(&value, word);
	}
	add_line(conf, source, name, &value);
}

/* TEXT is written into. A NUL byte ends what is seen of its line; Nix has no use for one either. */
static void read_text(struct nix_conf *conf, char *text, size_t n_bytes, const char *name, unsigned depth)
{
	struct source source = { .name = name, .depth = depth };
	char *end = text + n_bytes;

	for (char *line = text, *next; line < end && !conf->no_memory; line = next) {
		char *newline = memchr(line, '\n', (size_t)(end - line));

		next = newline != NULL ? newline + 1 : end;
		if (newline != NULL)
			*newline = '\0';
		source.line++;
		read_line(conf, &source, line);
	}
}

/* Keeps NAME as one of the files. NULL: too many, or no memory. */
static const char *add_file(struct nix_conf *conf, const char *name)
{
	char *copy = conf->n_files < FILES_MAX ? strdup(name) : NULL;

	if (copy != NULL)
		conf->files[conf->n_files++] = copy;
	else if (conf->n_files < FILES_MAX)
		conf->no_memory = true;
	return copy;
}

/* FROM includes it, or is NULL. */
static void read_conf(struct nix_conf *conf, const char *path, unsigned depth, const struct source *from)
{
	const struct source self = { .name = path };
	CLEANUP(free_text) char *text = NULL;
	struct error err;
	const char *name;
	size_t n_bytes;

	if (depth > DEPTH_MAX) {
		note_problem(conf, from, "files that include each other, or more than %d deep", DEPTH_MAX);
		return;
	}
	if (read_file(path, FILE_MAX_BYTES, &text, &n_bytes, &err) < 0) {
		struct stat st;

		if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > (off_t)FILE_MAX_BYTES)
			note_problem(conf, from != NULL ? from : &self, "%s", err.text);
		return;
	}
	name = add_file(conf, path);
	if (name == NULL) {
		note_problem(conf, from != NULL ? from : &self, "more than %d files", FILES_MAX);
		return;
	}
	read_text(conf, text, n_bytes, name, depth);
}

/* ---- places ---------------------------------------------------------------------------------- */

static const char *get_env(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value != NULL && *value != '\0' ? value : otherwise;
}

/* As Nix: under sudo, HOME may be that of somebody else. */
static const char *find_home(void)
{
	const char *home = getenv("HOME");
	const struct passwd *user;
	struct stat st;

	if (home != NULL && (stat(home, &st) < 0 || st.st_uid == geteuid()))
		return home;
	user = getpwuid(geteuid());
	return user != NULL ? user->pw_dir : home != NULL ? home : "/";
}

/* The files of the user, parted by ':', the most important first. */
static void list_user_files(struct buf *out)
{
	const char *files = getenv("NIX_USER_CONF_FILES"), *dirs = get_env("XDG_CONFIG_DIRS", "/etc/xdg");
	const char *config_home = get_env("XDG_CONFIG_HOME", NULL),
		   *nix_home = get_env("NIX_CONFIG_HOME", NULL);

	if (files != NULL) {
		buf_puts(out, files);
		return;
	}
	if (nix_home != NULL)
		buf_printf(out, "%s/nix.conf", nix_home);
	else if (config_home != NULL)
		buf_printf(out, "%s/nix/nix.conf", config_home);
	else
		buf_printf(out, "%s/.config/nix/nix.conf", find_home());
	for (size_t n; *dirs != '\0'; dirs += n + (dirs[n] == ':')) {
		n = strcspn(dirs, ":");
		if (n > 0)
			buf_printf(out, ":%.*s/nix/nix.conf", (int)n, dirs);
	}
}

static void find_user_file(struct nix_conf *conf)
{
	CLEANUP(buf_fini) struct buf files = { .max = KIB(256) };
	const char *first;

	list_user_files(&files);
	first = buf_text(&files) + strspn(buf_text(&files), ":");
	if (*first == '\0')
		return;
	conf->user_file = strndup(first, strcspn(first, ":"));
	conf->no_memory |= conf->user_file == NULL;
}

/* From the last to the first, which has the last word. */
static void read_user_files(struct nix_conf *conf)
{
	CLEANUP(buf_fini) struct buf files = { .max = KIB(256) };

	list_user_files(&files);
	while (files.len > 0) {
		char *colon = strrchr(files.data, ':'), *file = colon != NULL ? colon + 1 : files.data;

		if (*file != '\0')
			read_conf(conf, file, 0, NULL);
		files.len = colon != NULL ? (size_t)(colon - files.data) : 0;
		files.data[files.len] = '\0';
	}
	conf->no_memory |= !buf_ok(&files);
}

static void read_environment(struct nix_conf *conf)
{
	const char *text = getenv("NIX_CONFIG");
	CLEANUP(free_text) char *copy = text != NULL ? strdup(text) : NULL;

	if (text == NULL)
		return;
	conf->no_memory |= copy == NULL;
	if (copy != NULL)
		read_text(conf, copy, strlen(copy), "NIX_CONFIG", 0);
}

/* Returns CONF, or frees it. */
static struct nix_conf *finish(struct nix_conf *conf, struct error *err)
{
	if (conf != NULL && !conf->no_memory)
		return conf;
	nix_conf_free(conf);
	error_set(err, ERROR_TRANSIENT, "nix.conf: out of memory");
	return NULL;
}

struct nix_conf *nix_conf_load(enum nix_conf_scope scope, struct error *err)
{
	struct nix_conf *conf = calloc(1, sizeof(*conf));

	if (conf == NULL ||
	    asprintf(&conf->system_file, "%s/nix.conf", get_env("NIX_CONF_DIR", "/etc/nix")) < 0) {
		free(conf);
		return finish(NULL, err);
	}
	conf->is_system = true;
	read_conf(conf, conf->system_file, 0, NULL);
	conf->is_system = false;
	find_user_file(conf);
	if (scope == NIX_CONF_ALL) {
		read_user_files(conf);
		read_environment(conf);
	}
	return finish(conf, err);
}

struct nix_conf *nix_conf_parse(const char *text, size_t n_bytes, const char *name, struct error *err)
{
	struct nix_conf *conf = calloc(1, sizeof(*conf));
	CLEANUP(free_text) char *copy = malloc(n_bytes + 1);

	if (conf == NULL || copy == NULL || (conf->system_file = strdup(name)) == NULL) {
		free(conf);
		return finish(NULL, err);
	}
	memcpy(copy, text, n_bytes);
	copy[n_bytes] = '\0';
	conf->is_alone = conf->is_system = true;
	read_text(conf, copy, n_bytes, conf->system_file, 0);
	return finish(conf, err);
}

static void free_borrowed(const char *text)
{
	free((void *)(uintptr_t)text);
}

void nix_conf_free(struct nix_conf *conf)
{
	if (conf == NULL)
		return;
	for (size_t i = 0; i < conf->n_lines; i++) {
		free_borrowed(conf->lines[i].name);
		free_borrowed(conf->lines[i].value);
	}
	for (size_t i = 0; i < conf->n_files; i++)
		free(conf->files[i]);
	free(conf->lines);
	free(conf->system_file);
	free(conf->custom_file);
	free(conf->user_file);
	free(conf->problem);
	free(conf);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* Does LINE speak of the setting NAME, and does it set it or add to it? */
static bool is_of(const struct nix_conf_line *line, const char *name, bool *is_extra)
{
	const char *own = line->name;

	*is_extra = strncmp(own, EXTRA, strlen(EXTRA)) == 0;
	if (*is_extra)
		own += strlen(EXTRA);
	for (size_t i = 0; i < N_ELEMENTS(aliases); i++)
		if (strcmp(own, aliases[i].old) == 0)
			own = aliases[i].name;
	return strcmp(own, name) == 0;
}

const struct nix_conf_line *nix_conf_get(const struct nix_conf *conf, const char *name)
{
	bool is_extra;

	for (size_t i = conf->n_lines; i-- > 0;)
		if (is_of(&conf->lines[i], name, &is_extra) && !is_extra)
			return &conf->lines[i];
	return NULL;
}

static const struct nix_conf_line *get_default(const char *name)
{
	for (size_t i = 0; i < N_ELEMENTS(defaults); i++)
		if (strcmp(defaults[i].name, name) == 0)
			return &defaults[i];
	return NULL;
}

const struct nix_conf_line *nix_conf_next(const struct nix_conf *conf, const char *name,
                                          const struct nix_conf_line *previous)
{
	const struct nix_conf_line *line = conf->lines, *end = conf->lines + conf->n_lines;
	bool is_extra;

	if (previous == NULL) {
		previous = nix_conf_get(conf, name);
		if (previous == NULL)
			previous = get_default(name);
		if (previous != NULL)
			return previous;
	} else if (previous->file != NULL) {
		line = previous + 1;
	}
	for (; line < end; line++)
		if (is_of(line, name, &is_extra) && is_extra)
			return line;
	return NULL;
}

bool nix_conf_has_word(const char *value, const char *word)
{
	size_t n_word = strlen(word);

	for (size_t n; *value != '\0'; value += n + (value[n] == ' ')) {
		n = strcspn(value, " ");
		if (n == n_word && memcmp(value, word, n) == 0)
			return true;
	}
	return false;
}

const struct nix_conf_line *nix_conf_find_word(const struct nix_conf *conf, const char *name,
                                               const char *word)
{
	const struct nix_conf_line *line = NULL;

	while ((line = nix_conf_next(conf, name, line)) != NULL)
		if (nix_conf_has_word(line->value, word))
			return line;
	return NULL;
}

void nix_conf_join(const struct nix_conf *conf, const char *name, struct buf *out)
{
	const struct nix_conf_line *line = NULL;
	const char *blank = "";

	while ((line = nix_conf_next(conf, name, line)) != NULL) {
		if (line->value[0] == '\0')
			continue;
		buf_printf(out, "%s%s", blank, line->value);
		blank = " ";
	}
}

const struct nix_conf_line *nix_conf_at(const struct nix_conf *conf, size_t i)
{
	return i < conf->n_lines ? &conf->lines[i] : NULL;
}

const char *nix_conf_file_at(const struct nix_conf *conf, size_t i)
{
	return i < conf->n_files ? conf->files[i] : NULL;
}

const char *nix_conf_system_file(const struct nix_conf *conf)
{
	return conf->system_file;
}

const char *nix_conf_custom_file(const struct nix_conf *conf)
{
	return conf->custom_file;
}

const char *nix_conf_user_file(const struct nix_conf *conf)
{
	return conf->user_file;
}

bool nix_conf_is_nixos(const struct nix_conf *conf)
{
	return nix_conf_is_in_store(conf->system_file) ||
	       (strcmp(conf->system_file, "/etc/nix/nix.conf") == 0 && access("/etc/NIXOS", F_OK) == 0);
}

const char *nix_conf_problem(const struct nix_conf *conf)
{
	return conf->problem;
}

bool nix_conf_is_in_store(const char *file)
{
	CLEANUP(free_text) char *real = realpath(file, NULL);
	CLEANUP(free_text) char *store = realpath(get_env("NIX_STORE_DIR", "/nix/store"), NULL);
	size_t n = store != NULL ? strlen(store) : 0;

	return real != NULL && n > 1 && strncmp(real, store, n) == 0 && real[n] == '/';
}

void nix_conf_netrc_file(const struct nix_conf *conf, struct buf *out)
{
	const struct nix_conf_line *line = nix_conf_get(conf, "netrc-file");

	if (line != NULL && line->value[0] != '\0')
		buf_puts(out, line->value);
	else
		buf_printf(out, "%.*s/netrc", (int)(strrchr(conf->system_file, '/') - conf->system_file),
		           conf->system_file);
}
