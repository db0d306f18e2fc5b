#include "daemon/config/places.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SYSTEM_CONFIG_DIR "/etc/nncache"
#define PLACE_MAX         8192

static const char *env_path(const char *name)
{
	const char *value = getenv(name);

	return value != NULL && value[0] == '/' ? value : NULL;
}

static const char *home_dir(void)
{
	const char *home = env_path("HOME");
	const struct passwd *user = home == NULL ? getpwuid(getuid()) : NULL;

	if (user != NULL && user->pw_dir != NULL && user->pw_dir[0] == '/')
		home = user->pw_dir;
	return home != NULL ? home : "";
}

static void put_xdg(struct buf *out, const char *name)
{
	const char *dir = env_path(name);

	if (dir != NULL)
		buf_puts(out, dir);
	else if (strcmp(name, "XDG_RUNTIME_DIR") == 0)
		buf_printf(out, "/run/user/%u", (unsigned)getuid());
	else if (strcmp(name, "XDG_STATE_HOME") == 0)
		buf_printf(out, "%s/.local/state", home_dir());
	else
		buf_printf(out, "%s/.config", home_dir());
}

char *place_expand(const char *text)
{
	static const char *const names[] = { "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME" };
	CLEANUP(buf_fini) struct buf out = { .max = PLACE_MAX };

	for (size_t i = 0; i < N_ELEMENTS(names); i++) {
		size_t n = strlen(names[i]);

		if (text[0] == '$' && strncmp(text + 1, names[i], n) == 0) {
			put_xdg(&out, names[i]);
			text += 1 + n;
		}
	}
	buf_puts(&out, text);
	return buf_take(&out);
}

static char *dir_of(const char *file)
{
	CLEANUP(buf_fini) struct buf out = { .max = PLACE_MAX };
	const char *slash = strrchr(file, '/');
	char *cwd;

	if (file[0] != '/') {
		cwd = getcwd(NULL, 0);
		buf_puts(&out, cwd != NULL ? cwd : "");
		free(cwd);
		buf_putc(&out, '/');
	}
	if (slash != NULL)
		buf_append(&out, file, (size_t)(slash - file));
	return buf_take(&out);
}

char *place_config_dir(const struct config_places *places)
{
	if (places->config_file != NULL)
		return dir_of(places->config_file);
	return place_expand(places->user_mode ? "$XDG_CONFIG_HOME/nncache" : SYSTEM_CONFIG_DIR);
}

char *place_gcroots(const char *store)
{
	static const char local[] = "local?root=";
	CLEANUP(buf_fini) struct buf out = { .max = PLACE_MAX };
	const char *root = strncmp(store, local, strlen(local)) == 0 ? store + strlen(local) : store;
	const char *state = env_path("NIX_STATE_DIR");

	/* As in Nix: a store with a root has its state below it, whatever the environment says. */
	if (root[0] == '/')
		buf_printf(&out, "%s/nix/var/nix", strcmp(root, "/") == 0 ? "" : root);
	else
		buf_puts(&out, state != NULL ? state : "/nix/var/nix");
	buf_puts(&out, "/gcroots/nncache");
	return buf_take(&out);
}
