#include "hook/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/protocol.h"

#define PATH_LEN_MAX 3072 /* leaves room for a file's name behind it */

enum setting_type { TYPE_PATH, TYPE_TEXT, TYPE_TIMEOUT };

static const struct setting {
	const char *name;
	enum setting_type type;
	size_t offset; /* of its member in struct settings */
	const char *fallback;
} table[] = {
	{ "NNCACHE_SOCKET", TYPE_PATH, offsetof(struct settings, socket), NULL },
	{ "NNCACHE_SPOOL", TYPE_PATH, offsetof(struct settings, spool), NULL },
	{ "NNCACHE_GCROOTS", TYPE_PATH, offsetof(struct settings, gcroots), SETTINGS_GCROOTS_DEFAULT },
	{ "NNCACHE_TAG", TYPE_TEXT, offsetof(struct settings, tag), NULL },
	{ "NNCACHE_TIMEOUT_MS", TYPE_TIMEOUT, offsetof(struct settings, timeout_ms), NULL },
};

void settings_init(struct settings *s)
{
	*s = (struct settings){ .gcroots = SETTINGS_GCROOTS_DEFAULT,
		                .timeout_ms = SETTINGS_TIMEOUT_MS_DEFAULT };
}

void settings_fini(struct settings *s)
{
	free(s->file);
	settings_init(s);
}

static const char *text_fault(const struct setting *setting, const char *value)
{
	size_t len = strlen(value);

	if (setting->type == TYPE_PATH && *value != '/')
		return "expected an absolute path";
	if (len > (setting->type == TYPE_PATH ? PATH_LEN_MAX : REQUEST_MAX_VALUE))
		return "too long";
	for (const char *p = value; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return "has a control character";
	return NULL;
}

/* Returns NULL, or what is wrong with VALUE; then nothing is changed. */
static const char *set_timeout(uint64_t *member, const char *value)
{
	uint64_t ms = 0;

	for (const char *p = value; *p != '\0'; p++) {
		if (*p < '0' || *p > '9')
			return "expected milliseconds, 1 to 60000";
		ms = ms * 10 + (uint64_t)(*p - '0');
		if (ms > SETTINGS_TIMEOUT_MS_MAX)
			return "expected milliseconds, 1 to 60000";
	}
	if (*value != '\0' && ms == 0)
		return "expected milliseconds, 1 to 60000";
	*member = ms > 0 ? ms : SETTINGS_TIMEOUT_MS_DEFAULT;
	return NULL;
}

static const char *set(struct settings *s, const struct setting *setting, const char *value)
{
	void *member = (char *)s + setting->offset;
	const char *fault;

	if (setting->type == TYPE_TIMEOUT)
		return set_timeout(member, value);
	fault = *value != '\0' ? text_fault(setting, value) : NULL;
	if (fault == NULL)
		*(const char **)member = *value != '\0' ? value : setting->fallback;
	return fault;
}

void settings_read_environment(struct settings *s, struct buf *mistakes)
{
	for (size_t i = 0; i < N_ELEMENTS(table); i++) {
		const char *value = getenv(table[i].name);
		const char *fault = value != NULL ? set(s, &table[i], value) : NULL;

		if (fault != NULL)
			buf_printf(mistakes, "%s: %s, ignored\n", table[i].name, fault);
	}
}

/* "NAME=VALUE". Returns NULL, or what is wrong with it. */
static const char *read_line(struct settings *s, char *line)
{
	char *equals = strchr(line, '=');

	if (*line == '\0' || *line == '#')
		return NULL;
	if (equals == NULL)
		return "expected NAME=VALUE";
	*equals = '\0';
	for (size_t i = 0; i < N_ELEMENTS(table); i++)
		if (strcmp(line, table[i].name) == 0)
			return set(s, &table[i], equals + 1);
	return "no such setting";
}

void settings_read_text(struct settings *s, const char *name, char *text, size_t len, struct buf *mistakes)
{
	const char *fault;
	unsigned line = 0;
	char *end;

	if (memchr(text, '\0', len) != NULL) {
		buf_printf(mistakes, "%s: has a NUL in it, ignored\n", name);
		return;
	}
	for (char *p = text; *p != '\0'; p = end) {
		end = p + strcspn(p, "\n");
		if (*end == '\n')
			*end++ = '\0';
		line++;
		fault = read_line(s, p);
		if (fault != NULL)
			buf_printf(mistakes, "%s:%u: %s, ignored\n", name, line, fault);
	}
}

/* The hook of a CI job is a link of that job's user, and nix-daemon runs it as root: the owner of the name
 * that is called could as well put another program there. */
static bool owns_name(uid_t uid, const char *argv0)
{
	struct stat st;

	return lstat(argv0, &st) == 0 && st.st_uid == uid;
}

/* What is wrong with the open file, or NULL. Whoever may write it decides where paths go. */
static const char *file_fault(int fd, const char *argv0)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return strerror(errno);
	if (!S_ISREG(st.st_mode))
		return "not a regular file";
	if (st.st_uid != 0 && st.st_uid != geteuid() && !owns_name(st.st_uid, argv0))
		return "owned by another user";
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return "writable by others than its owner";
	if (st.st_size > SETTINGS_MAX_FILE)
		return "larger than 16384 bytes";
	return NULL;
}

void settings_read_file(struct settings *s, const char *argv0, struct buf *mistakes)
{
	CLEANUP(close_fd) int fd = -1;
	char path[4096];
	const char *fault;
	ssize_t n;

	/* Without a slash it was found in PATH, and the file would be looked for in the current directory. */
	if (strchr(argv0, '/') == NULL || snprintf(path, sizeof(path), "%s.env", argv0) >= (int)sizeof(path))
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 && errno == ENOENT)
		return;
	fault = fd < 0 ? strerror(errno) : file_fault(fd, argv0);
	if (fault != NULL) {
		buf_printf(mistakes, "%s: %s, ignored\n", path, fault);
		return;
	}
	s->file = malloc(SETTINGS_MAX_FILE + 1);
	n = s->file != NULL ? read_full(fd, s->file, SETTINGS_MAX_FILE) : -1;
	if (n < 0) {
		buf_printf(mistakes, "%s: %s, ignored\n", path, strerror(errno));
		return;
	}
	s->file[n] = '\0';
	settings_read_text(s, path, s->file, (size_t)n, mistakes);
}
