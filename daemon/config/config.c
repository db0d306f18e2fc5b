/* The life of a configuration: defaults of the mode, sections, what hangs on other settings, and the
 * way back to text. Reading files is load.c, judging the whole check.c. */
#include "daemon/config/config.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config/places.h"
#include "daemon/config/section.h"
#include "daemon/config/text.h"
#include "daemon/config/url.h"

#define TEXT_MAX       16384
#define LINE_MAX_BYTES 199 /* that inih reads */

static void free_text(char **text)
{
	free(*text);
}

static int out_of_memory(struct error *err)
{
	return error_set(err, ERROR_TRANSIENT, "out of memory");
}

/* Sections */

/* The sections of a kind. Room for all is there from the start, so they never move. */
struct section_array {
	void *first;
	size_t n, size;
};

static struct section_array array_of(const struct config *config, enum option_section kind)
{
	switch (kind) {
	case SECTION_CACHE:
		return (struct section_array){ config->caches, config->n_caches, sizeof(*config->caches) };
	case SECTION_UPSTREAM:
		return (struct section_array){ config->upstreams, config->n_upstreams,
			                       sizeof(*config->upstreams) };
	case SECTION_PRIORITY:
		return (struct section_array){ config->priorities, config->n_priorities,
			                       sizeof(*config->priorities) };
	case SECTION_DAEMON:
		break;
	}
	/* Sections of a const config are only read, which the one type of view cannot say. */
	return (struct section_array){ (void *)(uintptr_t)&config->head, 1, sizeof(*config) };
}

size_t config_n_sections(const struct config *config, enum option_section kind)
{
	return array_of(config, kind).n;
}

struct section config_section(const struct config *config, enum option_section kind, size_t i)
{
	struct section_array array = array_of(config, kind);

	return (struct section){ kind, (void *)((char *)array.first + i * array.size) };
}

struct setting_place *section_place(const struct section *section, const struct option *option)
{
	assert(option->section == section->kind);
	return &section->head->set[option_number(option)];
}

void section_format_title(const struct section *section, struct buf *out)
{
	if (section->kind == SECTION_DAEMON)
		buf_puts(out, "[daemon]");
	else
		buf_printf(out, "[%s \"%s\"]", option_section_name(section->kind), section->head->name);
}

static void section_fini(struct section *section)
{
	for (size_t i = 0; i < n_options; i++) {
		if (options[i].section == section->kind)
			option_clear(&options[i], section->head);
	}
	free(section->head->name);
	free(section->head->set);
}

static int set_default(struct section *section, const struct option *option, bool user_mode,
                       struct error *err)
{
	CLEANUP(free_text) char *text = NULL;

	if (option->default_text == NULL || (option->flags & OPTION_DERIVED) != 0)
		return 0;
	text = user_mode && option->user_text != NULL ? place_expand(option->user_text)
	                                              : strdup(option->default_text);
	return text != NULL ? option_read(option, section->head, text, err) : out_of_memory(err);
}

static int set_defaults(struct section *section, bool user_mode, struct error *err)
{
	section->head->set = calloc(n_options, sizeof(*section->head->set));
	if (section->head->set == NULL)
		return out_of_memory(err);
	for (size_t i = 0; i < n_options; i++) {
		if (options[i].section == section->kind &&
		    set_default(section, &options[i], user_mode, err) < 0)
			return -1;
	}
	return 0;
}

static size_t *count_of(struct config *config, enum option_section kind)
{
	assert(kind != SECTION_DAEMON);
	return kind == SECTION_CACHE      ? &config->n_caches
	       : kind == SECTION_UPSTREAM ? &config->n_upstreams
	                                  : &config->n_priorities;
}

/* Takes the next of the array's places. */
static int take_slot(struct config *config, struct section *ret, enum option_section kind, struct error *err)
{
	size_t n_endpoints = config->n_caches + config->n_upstreams;

	if (kind == SECTION_PRIORITY && config->n_priorities >= CONFIG_MAX_PRIORITIES)
		return error_set(err, ERROR_OPERATOR, "is one too many\n  expected at most %d priorities",
		                 CONFIG_MAX_PRIORITIES);
	if (kind != SECTION_PRIORITY && n_endpoints >= CONFIG_MAX_ENDPOINTS)
		return error_set(err, ERROR_OPERATOR,
		                 "is one too many\n  expected at most %d caches and upstreams",
		                 CONFIG_MAX_ENDPOINTS);
	*ret = config_section(config, kind, config_n_sections(config, kind));
	++*count_of(config, kind);
	return 0;
}

/* The last place, of a section that could not be made. */
static void give_slot_back(struct config *config, struct section *section)
{
	section_fini(section);
	memset(section->head, 0, array_of(config, section->kind).size);
	--*count_of(config, section->kind);
}

static int add_section(struct config *config, struct section *ret, enum option_section kind, const char *name,
                       struct error *err)
{
	if (take_slot(config, ret, kind, err) < 0)
		return -1;
	ret->head->name = strdup(name);
	if ((ret->head->name != NULL ? set_defaults(ret, false, err) : out_of_memory(err)) == 0)
		return 0;
	give_slot_back(config, ret);
	return -1;
}

int config_enter(struct config *config, struct section *ret, enum option_section kind, const char *name,
                 const struct setting_place *place, struct error *err)
{
	struct section section = { kind, NULL };

	for (size_t i = 0; i < config_n_sections(config, kind); i++) {
		section = config_section(config, kind, i);
		if (kind == SECTION_DAEMON || strcmp(section.head->name, name) == 0)
			break;
		section.head = NULL;
	}
	if (section.head == NULL && add_section(config, &section, kind, name, err) < 0)
		return -1;
	if (section.head->file == NULL) {
		section.head->file = place->file;
		section.head->line = place->line;
	}
	*ret = section;
	return 0;
}

/* The whole */

/* What every reader of a cache has among its substituters. */
static int add_nixos(struct config *config, struct error *err)
{
	static const char *const settings[][2] = {
		{ "url", "https://cache.nixos.org" },
		{ "public-key", "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=" },
		{ "keeps-forever", "yes" },
	};
	struct section section;

	if (add_section(config, &section, SECTION_UPSTREAM, "nixos", err) < 0)
		return -1;
	for (size_t i = 0; i < N_ELEMENTS(settings); i++) {
		if (option_read(option_find(SECTION_UPSTREAM, settings[i][0]), section.head, settings[i][1],
		                err) < 0)
			return -1;
	}
	return 0;
}

struct config *config_new(const struct config_places *places)
{
	struct config *config = calloc(1, sizeof(*config));
	struct section daemon;
	struct error err;

	if (config == NULL)
		return NULL;
	daemon = config_section(config, SECTION_DAEMON, 0);
	config->user_mode = places->user_mode;
	config->scratch_dir = places->scratch_dir;
	config->caches = calloc(CONFIG_MAX_ENDPOINTS, sizeof(*config->caches));
	config->upstreams = calloc(CONFIG_MAX_ENDPOINTS, sizeof(*config->upstreams));
	config->priorities = calloc(CONFIG_MAX_PRIORITIES, sizeof(*config->priorities));
	if (config->caches == NULL || config->upstreams == NULL || config->priorities == NULL ||
	    set_defaults(&daemon, places->user_mode, &err) < 0 || add_nixos(config, &err) < 0) {
		config_free(config);
		return NULL;
	}
	return config;
}

static void drop_sections(struct config *config, enum option_section kind)
{
	struct section_array array = array_of(config, kind);

	for (size_t i = 0; i < array.n; i++) {
		struct section section = config_section(config, kind, i);

		section_fini(&section);
	}
	if (array.n > 0)
		memset(array.first, 0, array.n * array.size);
}

static void drop_caches(struct config *config)
{
	for (size_t i = 0; i < config->n_caches; i++) {
		free(config->caches[i].identity);
		free(config->caches[i].login_file);
	}
	drop_sections(config, SECTION_CACHE);
	drop_sections(config, SECTION_UPSTREAM);
	drop_sections(config, SECTION_PRIORITY);
	config->n_caches = config->n_upstreams = config->n_priorities = 0;
}

int config_forget_caches(struct config *config, struct error *err)
{
	drop_caches(config);
	return add_nixos(config, err);
}

void config_free(struct config *config)
{
	struct section daemon;

	if (config == NULL)
		return;
	drop_caches(config);
	daemon = config_section(config, SECTION_DAEMON, 0);
	section_fini(&daemon);
	text_list_fini(&config->files);
	free(config->caches);
	free(config->upstreams);
	free(config->priorities);
	free(config);
}

static int set_scratch(struct config *config)
{
	const struct {
		const char *name;
		char **text;
	} places[] = {
		{ "socket", &config->socket },
		{ "state", &config->state_dir },
		{ "spool", &config->spool_dir },
		{ "roots", &config->gcroots_dir },
	};

	for (size_t i = 0; i < N_ELEMENTS(places); i++) {
		CLEANUP(buf_fini) struct buf text = { .max = TEXT_MAX };

		buf_printf(&text, "%s/%s", config->scratch_dir, places[i].name);
		free(*places[i].text);
		*places[i].text = buf_take(&text);
		if (*places[i].text == NULL)
			return -1;
	}
	return 0;
}

static int derive_dirs(struct config *config)
{
	CLEANUP(buf_fini) struct buf spool = { .max = TEXT_MAX };

	if (config->scratch_dir != NULL)
		return set_scratch(config);
	if (config->spool_dir == NULL) {
		buf_printf(&spool, "%s/spool", config->state_dir);
		config->spool_dir = buf_take(&spool);
	}
	if (config->gcroots_dir == NULL)
		config->gcroots_dir = place_gcroots(config->store);
	return config->spool_dir != NULL && config->gcroots_dir != NULL ? 0 : -1;
}

static int inherit(char **text, const char *from)
{
	if (*text == NULL && from != NULL)
		*text = strdup(from);
	return *text == NULL && from != NULL ? -1 : 0;
}

static int derive_net(struct net_config *net, const struct net_config *from)
{
	return inherit(&net->proxy, from->proxy) < 0 || inherit(&net->ca_file, from->ca_file) < 0 ||
	                       inherit(&net->client_cert_file, from->client_cert_file) < 0 ||
	                       inherit(&net->client_key_file, from->client_key_file) < 0 ||
	                       inherit(&net->netrc_file, from->netrc_file) < 0
	               ? -1
	               : 0;
}

/* A cache without a right URL has been told of; it keeps no identity. */
static int derive_identity(struct cache_config *cache)
{
	CLEANUP(buf_fini) struct buf identity = { .max = TEXT_MAX };
	struct error err;

	if (cache->url == NULL)
		return 0;
	if (url_read(cache->url, URL_CACHE, &identity, &cache->kind, &err) < 0)
		return err.kind == ERROR_TRANSIENT ? -1 : 0;
	if (cache->endpoint != NULL)
		buf_printf(&identity, " %s", cache->endpoint);
	cache->identity = buf_take(&identity);
	return cache->identity != NULL ? 0 : -1;
}

static int derive_login_file(struct cache_config *cache)
{
	const char *place = cache->kind == CACHE_CACHIX  ? "$XDG_CONFIG_HOME/cachix/cachix.dhall"
	                    : cache->kind == CACHE_ATTIC ? "$XDG_CONFIG_HOME/attic/config.toml"
	                                                 : NULL;

	if (place == NULL)
		return 0;
	cache->login_file = place_expand(place);
	return cache->login_file != NULL ? 0 : -1;
}

/* What the kind of a cache decides: an Attic server packs by itself, and Cachix forgets paths by rules of its
 * own. */
static void derive_kind(struct config *config, size_t i)
{
	struct cache_config *cache = &config->caches[i];
	struct section section = config_section(config, SECTION_CACHE, i);
	const struct option *ttl = option_find(SECTION_CACHE, "presence-ttl");

	if (cache->kind == CACHE_ATTIC)
		cache->compression = COMPRESS_NONE;
	if (cache->kind == CACHE_CACHIX && section_place(&section, ttl)->file == NULL)
		cache->presence_ttl_s = CACHIX_PRESENCE_TTL_S;
}

int config_derive(struct config *config)
{
	if (derive_dirs(config) < 0)
		return -1;
	for (size_t i = 0; i < config->n_caches; i++) {
		if (derive_identity(&config->caches[i]) < 0 ||
		    derive_net(&config->caches[i].net, &config->net) < 0 ||
		    (config->user_mode && derive_login_file(&config->caches[i]) < 0))
			return -1;
		derive_kind(config, i);
	}
	return 0;
}

struct config *config_defaults(const struct config_places *places)
{
	struct config *config = config_new(places);

	if (config != NULL && config_derive(config) < 0) {
		config_free(config);
		return NULL;
	}
	return config;
}

const struct cache_config *config_find_cache(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->n_caches; i++) {
		if (strcmp(config->caches[i].name, name) == 0)
			return &config->caches[i];
	}
	return NULL;
}

const struct upstream_config *config_find_upstream(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->n_upstreams; i++) {
		if (strcmp(config->upstreams[i].name, name) == 0)
			return &config->upstreams[i];
	}
	return NULL;
}

/* Back to text */

static bool is_for_section(const struct section *section, const struct option *option)
{
	const struct cache_config *cache = (const void *)section->head;

	return option->section == section->kind &&
	       (option->kinds == 0 || (option->kinds & (1U << cache->kind)) != 0);
}

/* What was read can be longer now: blanks around '=' are ours, and a file may have got its directory. */
static void format_value(const struct section *section, const struct option *option, size_t i,
                         struct buf *out)
{
	CLEANUP(buf_fini) struct buf value = { .max = KIB(64) };
	size_t n_key = strlen(option->key);

	option_format(option, section->head, i, &value);
	if (n_key + value.len + strlen(" = ") <= LINE_MAX_BYTES)
		buf_printf(out, "%s = %s\n", option->key, buf_text(&value));
	else if (n_key + value.len + strlen("=") <= LINE_MAX_BYTES)
		buf_printf(out, "%s=%s\n", option->key, buf_text(&value));
	else
		buf_printf(out, "# %s: set, and longer than a line may be\n", option->key);
}

static void format_option(const struct section *section, const struct option *option, struct buf *out)
{
	bool is_default = section_place(section, option)->file == NULL;
	size_t n = option_n_values(option, section->head);

	if (is_default && (n == 0 || (option->type < OPTION_TEXT && option->default_text == NULL))) {
		buf_printf(out, "# %s: not set\n", option->key);
		return;
	}
	if (is_default)
		buf_puts(out, "# default\n");
	if (n == 0)
		buf_printf(out, "%s =\n", option->key);
	for (size_t i = 0; i < n; i++)
		format_value(section, option, i, out);
}

static void format_section(const struct section *section, struct buf *out)
{
	if (section->kind != SECTION_DAEMON)
		buf_putc(out, '\n');
	section_format_title(section, out);
	buf_putc(out, '\n');
	for (size_t i = 0; i < n_options; i++) {
		if (is_for_section(section, &options[i]))
			format_option(section, &options[i], out);
	}
}

void config_format(const struct config *config, struct buf *out)
{
	static const enum option_section kinds[] = { SECTION_DAEMON, SECTION_CACHE, SECTION_UPSTREAM,
		                                     SECTION_PRIORITY };

	for (size_t i = 0; i < N_ELEMENTS(kinds); i++) {
		for (size_t j = 0; j < config_n_sections(config, kinds[i]); j++) {
			struct section section = config_section(config, kinds[i], j);

			format_section(&section, out);
		}
	}
}
