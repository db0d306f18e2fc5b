/* A configuration is loaded as it stands or not at all, whatever fails: as a user's, from the default places.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config/config.h"
#include "tests/torture/torture.h"
#include "tests/torture/world.h"

static const char main_text[] =
	"[daemon]\n"
	"memory = 80M\n"
	"spool-dir = /var/spool/nncache\n"
	"control-group = wheel\n"
	"[cache \"main\"]\n"
	"url = https://example.org/nix/\n"
	"upstreams = nixos other\n"
	"sign = no\n"
	"exclude-roots = -source$\n"
	"exclude-roots = x{2}\n"
	"upload-rate = 4M\n"
	"proxy = http://proxy.example.org:3128\n"
	"[upstream \"other\"]\n"
	"url = https://other.example.org\n"
	"public-key = cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=\n"
	"[priority \"first\"]\n"
	"match = -deps-\n"
	"priority = 100\n";
static const char more_text[] = "[cache \"files\"]\nurl = file:///srv//cache/\nsign = no\n"
				"[cache \"bucket\"]\nurl = s3://bucket\npush = auto\nsign = no\n";

static const struct config_places places = { .user_mode = true };

static void write_text(const char *dir, const char *name, const char *text)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	world_write(path, text, strlen(text));
}

static void prepare(const char *dir)
{
	world_make_dir(dir, "nncache/conf.d");
	write_text(dir, "nncache/nncache.conf", main_text);
	write_text(dir, "nncache/conf.d/more.conf", more_text);
}

/* What is in effect, as text, with what only the program sees. NULL: it was not loaded. */
static char *load(void)
{
	struct config *config = NULL;
	struct buf text, messages;
	bool is_loaded;

	buf_init(&messages, MIB(1));
	is_loaded = config_load(&config, &places, true, &messages) == 0;
	if (!is_loaded)
		fputs(buf_text(&messages), stderr);
	buf_fini(&messages);
	if (!is_loaded)
		return NULL;
	fail_spare(true);
	buf_init(&text, MIB(1));
	config_format(config, &text);
	for (size_t i = 0; i < config->n_caches; i++)
		buf_printf(&text, "%s %d\n", config->caches[i].identity, config->caches[i].kind);
	for (size_t i = 0; i < config->files.n; i++)
		buf_printf(&text, "%s\n", config->files.items[i]);
	config_free(config);
	return buf_take(&text);
}

static int run(const char *dir, struct torture_ledger *ledger)
{
	char *expected, *text;
	(void)ledger;

	fail_spare(true);
	world_set_env("XDG_CONFIG_HOME", "%s", dir);
	world_set_env("XDG_STATE_HOME", "%s", dir);
	world_set_env("XDG_RUNTIME_DIR", "%s", dir);
	expected = load();
	if (expected == NULL)
		torture_fail("it does not load");
	fail_spare(false);
	text = load();
	fail_spare(true);
	if (text != NULL && strcmp(text, expected) != 0)
		torture_fail("it loads, but to something else: %s", text);
	free(text);
	free(expected);
	return EXIT_SUCCESS;
}

static int run_salvage(const char *dir, struct torture_ledger *ledger)
{
	struct config *config;
	(void)ledger;

	world_set_env("XDG_CONFIG_HOME", "%s", dir);
	config = config_salvage(&places);
	if (config != NULL &&
	    (config->socket == NULL || config->spool_dir == NULL || config->state_dir == NULL))
		torture_fail("something is missing");
	config_free(config);
	return EXIT_SUCCESS;
}

static void judge(const char *dir, struct torture_ledger *ledger)
{
	(void)dir;
	(void)ledger;
}

int main(int argc, char **argv)
{
	static const struct torture_scenario scenarios[] = {
		{ "config", prepare, run, judge, .n_sample = 20 },
		{ "config-salvage", prepare, run_salvage, judge, .n_sample = 10 },
	};

	return torture_main(argc, argv, scenarios, N_ELEMENTS(scenarios));
}
