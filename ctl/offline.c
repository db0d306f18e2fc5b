/* What can be said without a daemon: what hooks left in the spool, and which roots protect it. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/spool.h"
#include "common/units.h"
#include "ctl/ctl.h"
#include "ctl/model.h"

#define SYSTEM_ROOTS_DIR "/nix/var/nix/gcroots/nncache"

static const char *spool_dir(const struct ctl *ctl, char buffer[SPOOL_DIR_SIZE])
{
	const char *dir = getenv("NNCACHE_SPOOL");

	if (dir != NULL && *dir != '\0')
		return dir;
	/* Where the hook leaves its files: the system's spool if there is one, or the user's. */
	if (geteuid() == 0 || strcmp(ctl->socket, CLIENT_SYSTEM_SOCKET) != 0 ||
	    access(SPOOL_SYSTEM_DIR, F_OK) < 0) {
		if (geteuid() != 0 && spool_user_dir(buffer) && access(buffer, F_OK) == 0)
			return buffer;
	}
	return SPOOL_SYSTEM_DIR;
}

static const char *roots_dir(char *buffer, size_t size)
{
	const char *dir = getenv("NNCACHE_GCROOTS"), *state = getenv("NIX_STATE_DIR");

	if (dir != NULL && *dir != '\0')
		return dir;
	if (state == NULL || *state != '/')
		return SYSTEM_ROOTS_DIR;
	snprintf(buffer, size, "%s/gcroots/nncache", state);
	return buffer;
}

struct count {
	uint64_t n, n_bad;
	uint64_t oldest_ns; /* UINT64_MAX: none */
};

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), n_end = strlen(end);

	return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

/* Returns 0, or the errno of a directory that cannot be read; one that is not there holds nothing. */
static int count_entries(const char *dir, bool is_spool, struct count *ret)
{
	DIR *d = opendir(dir);
	struct dirent *entry;
	uint64_t ns;

	*ret = (struct count){ .oldest_ns = UINT64_MAX };
	if (d == NULL)
		return errno == ENOENT ? 0 : errno;
	while ((entry = readdir(d)) != NULL) {
		if (is_spool && spool_name_parse(entry->d_name, &ns)) {
			ret->n++;
			if (ns < ret->oldest_ns)
				ret->oldest_ns = ns;
		}
		if (is_spool && ends_with(entry->d_name, ".bad"))
			ret->n_bad++;
		if (!is_spool && entry->d_name[0] != '.')
			ret->n++;
	}
	closedir(d);
	return 0;
}

json_t *offline_model(const struct ctl *ctl)
{
	char spool_buffer[SPOOL_DIR_SIZE], roots_buffer[4096];
	const char *spool = spool_dir(ctl, spool_buffer),
		   *roots = roots_dir(roots_buffer, sizeof(roots_buffer));
	bool has_systemd = geteuid() == 0 && access("/run/systemd/system", F_OK) == 0;
	struct count in_spool, in_roots;
	int spool_error = count_entries(spool, true, &in_spool);
	int roots_error = count_entries(roots, false, &in_roots);
	int64_t oldest_s = (int64_t)(in_spool.oldest_ns / 1000000000), now = clock_unix_s();
	json_t *model =
		json_pack("{s:b, s:o, s:o, s:o, s:I, s:I, s:o, s:I, s:o, s:o, s:o}", "running", 0, "version",
	                  model_text(NNCACHE_VERSION), "socket", model_text(ctl->socket), "spool_dir",
	                  model_text(spool), "spool_files", (json_int_t)in_spool.n, "bad_spool_files",
	                  (json_int_t)in_spool.n_bad, "gcroots_dir", model_text(roots), "gcroots",
	                  (json_int_t)in_roots.n, "spool_error",
	                  model_text(spool_error != 0 ? strerror(spool_error) : NULL), "gcroots_error",
	                  model_text(roots_error != 0 ? strerror(roots_error) : NULL), "start",
	                  model_text(has_systemd ? "systemctl start nncached" : "nncached --foreground"));

	json_object_set_new(model, "oldest_age_s",
	                    json_integer(in_spool.n > 0 && oldest_s < now ? now - oldest_s : 0));
	return model;
}

static void put_dir(struct output *o, const char *name, const json_t *model, const char *dir, const char *n,
                    const char *error, const char *what)
{
	output_put(o, STYLE_PLAIN, "  %-6s %s: ", name, model_get_text(model, dir));
	if (model_has(model, error))
		output_put(o, STYLE_WARN, "cannot be read: %s", model_get_text(model, error));
	else
		output_put(o, STYLE_PLAIN, "%" PRIu64 " %s", model_get_uint(model, n), what);
}

void offline_show(struct output *o, const json_t *model)
{
	char age[UNITS_TEXT_SIZE];

	output_put(o, STYLE_BAD, "nncached cannot be reached: %s", model_get_text(model, "error"));
	output_end_line(o);
	put_dir(o, "spool", model, "spool_dir", "spool_files", "spool_error", "hand-overs wait for it");
	if (model_get_uint(model, "spool_files") > 0)
		output_put(o, STYLE_PLAIN, ", the oldest for %s",
		           units_format_seconds(model_get_int(model, "oldest_age_s"), age));
	if (model_get_uint(model, "bad_spool_files") > 0)
		output_put(o, STYLE_BAD, ", %" PRIu64 " unreadable (*.bad)",
		           model_get_uint(model, "bad_spool_files"));
	output_end_line(o);
	put_dir(o, "roots", model, "gcroots_dir", "gcroots", "gcroots_error",
	        "paths are protected from garbage collection");
	output_end_line(o);
	output_put(o, STYLE_PLAIN, "Builds go on meanwhile, and nothing is lost. To start it: ");
	output_put(o, STYLE_BOLD, "%s", model_get_text(model, "start"));
	output_end_line(o);
}
