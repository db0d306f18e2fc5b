/* The one list of settings. Loader, `config show` and the man page test read it; nothing else
 * knows a key or a default.
 * Thread: any. */
#ifndef DAEMON_CONFIG_OPTIONS_H
#define DAEMON_CONFIG_OPTIONS_H

#include "daemon/config/config.h"

enum option_section { SECTION_DAEMON, SECTION_CACHE, SECTION_UPSTREAM, SECTION_PRIORITY };

/* And how each is stored. */
enum option_type {
	OPTION_BYTES,        /* uint64_t */
	OPTION_SECONDS,      /* uint64_t */
	OPTION_MILLISECONDS, /* uint64_t; min and max are seconds */
	OPTION_COUNT,        /* unsigned */
	OPTION_PERCENT,      /* unsigned */
	OPTION_WORD,         /* an enum */
	OPTION_BOOL,         /* bool */
	OPTION_TEXT,         /* char *, as are all below; with OPTION_LIST struct text_list */
	OPTION_GROUP,        /* name of a group of users */
	OPTION_PATH,         /* absolute */
	OPTION_FILE,         /* absolute, or a name that the loader looks for among the credentials */
	OPTION_STORE,        /* Nix's URI of a store */
	OPTION_CACHE_URL,
	OPTION_UPSTREAM_URL,
	OPTION_ENDPOINT_URL,
	OPTION_PROXY_URL,  /* may be empty */
	OPTION_REGEX,      /* POSIX extended, compiles */
	OPTION_PUBLIC_KEY, /* NAME:BASE64 of 32 bytes */
	OPTION_NAMES,      /* words, each an item of the list */
};

enum option_flag {
	OPTION_LIST = 1,     /* may be given many times, and empty for none */
	OPTION_REQUIRED = 2, /* a section without it is a mistake */
	OPTION_DERIVED = 4,  /* the default depends on other settings; the text of it is for people */
	OPTION_SECRET = 8,   /* the file it names must not be readable by all */
};

struct option_word {
	const char *word; /* NULL ends the list */
	unsigned value;
};

struct option {
	enum option_section section;
	size_t offset, size; /* where in the section's struct */
	const char *key;
	enum option_type type;
	const char *default_text; /* as in a file; NULL: not set */
	const char *user_text;    /* the default in user mode, where it differs; may begin with $XDG_... */
	uint64_t min, max;        /* of the numbers */
	const struct option_word *words;
	unsigned flags;   /* enum option_flag */
	unsigned kinds;   /* bits 1 << cache_kind it is for; 0: all */
	const char *help; /* one line */
};

extern const struct option options[];
extern const size_t n_options;

const char *option_section_name(enum option_section section);
size_t option_number(const struct option *option);
const struct option *option_find(enum option_section section, const char *key); /* or NULL */
/* The key that was perhaps meant by KEY, or NULL. */
const struct option *option_nearest(enum option_section section, const char *key);
/* The placeholder for the value, and what the manual says of default and range, a sentence a line:
 * "size", "Default: 64M.\nFrom 16M to 64G." */
const char *option_value_name(const struct option *option);
void option_summary(const struct option *option, struct buf *out);

/* Reads VALUE into OBJECT, the struct of the option's section; a list gets it appended.
 * Errors: OPERATOR, what is wrong and "\n  expected ..."; OBJECT is as before. */
int option_read(const struct option *option, void *object, const char *value, struct error *err) MUST_CHECK;
/* Appends item ITEM (0 unless a list) as option_read takes it. */
void option_format(const struct option *option, const void *object, size_t item, struct buf *out);
/* Number of values: 0 or 1, or the length of the list. A number is always there. */
size_t option_n_values(const struct option *option, const void *object);
void option_clear(const struct option *option, void *object); /* frees texts; numbers become 0 */

#endif
