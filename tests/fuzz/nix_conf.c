/* What is read of nix.conf can be taken out of it line by line, and the rest stays; a netrc entry is set
 * once. */
#include <stdio.h>
#include <unistd.h>

#include "common/fd.h"
#include "ctl/setup/netrc.h"
#include "ctl/setup/nix_conf.h"
#include "ctl/setup/nix_conf_edit.h"
#include "tests/fuzz/fuzz.h"

#define HOST "h.example"

static char file[64];

static void remove_file(void)
{
	unlink(file);
}

static struct nix_conf_edit *open_edit(const char *text, size_t n_bytes)
{
	struct error err;
	FILE *out;

	if (file[0] == '\0') {
		snprintf(file, sizeof(file), "/tmp/nncache-fuzz-%d", (int)getpid());
		atexit(remove_file);
	}
	out = fopen(file, "w");
	MUST(out != NULL && fwrite(text, 1, n_bytes, out) == n_bytes && fclose(out) == 0);
	return nix_conf_edit_open(file, 0600, &err);
}

static struct nix_conf *parse(const char *text, size_t n_bytes)
{
	struct error err;
	struct nix_conf *conf = nix_conf_parse(text, n_bytes, "/etc/nix/nix.conf", &err);

	MUST(conf != NULL);
	return conf;
}

static void check_line(const struct nix_conf_line *line, const struct nix_conf_line *before)
{
	size_t n = strlen(line->value);

	MUST(line->name[0] != '\0' && strpbrk(line->name, " \t\r\n#") == NULL);
	MUST(strpbrk(line->value, "\t\r\n#") == NULL && strstr(line->value, "  ") == NULL);
	MUST(n == 0 || (line->value[0] != ' ' && line->value[n - 1] != ' '));
	MUST(line->line > (before != NULL ? before->line : 0));
}

static void check_list(const struct nix_conf *conf, const char *name)
{
	struct buf joined = { .max = MIB(4) };
	const struct nix_conf_line *line = NULL;
	size_t n = 0;

	while ((line = nix_conf_next(conf, name, line)) != NULL)
		n += strlen(line->value);
	nix_conf_join(conf, name, &joined);
	MUST(buf_ok(&joined) && joined.len >= n);
	buf_fini(&joined);
}

/* Without the lines of NAME, TEXT says all else as before, and nothing of NAME. */
static void take_out(const struct nix_conf *conf, const char *text, size_t n_bytes, const char *name)
{
	struct nix_conf_edit *edit = open_edit(text, n_bytes);
	struct buf out = { .max = MIB(4) };
	const struct nix_conf_line *line, *other;
	struct nix_conf *rest;
	size_t n = 0;

	MUST(edit != NULL);
	for (size_t i = 0; (line = nix_conf_at(conf, i)) != NULL; i++)
		if (strcmp(line->name, name) == 0)
			nix_conf_edit_remove(edit, line->line);
	nix_conf_edit_append(edit, "# the end");
	nix_conf_edit_format(edit, &out);
	MUST(buf_ok(&out));
	rest = parse(out.data, out.len);
	MUST(nix_conf_get(rest, name) == NULL);
	for (size_t i = 0; (line = nix_conf_at(conf, i)) != NULL; i++) {
		if (strcmp(line->name, name) == 0)
			continue;
		other = nix_conf_at(rest, n++);
		MUST(other != NULL && strcmp(line->name, other->name) == 0 &&
		     strcmp(line->value, other->value) == 0);
	}
	MUST(nix_conf_at(rest, n) == NULL);
	nix_conf_free(rest);
	buf_fini(&out);
	nix_conf_edit_free(edit);
}

static void set_password(const char *text, size_t n_bytes)
{
	struct nix_conf_edit *edit = open_edit(text, n_bytes), *again;
	struct buf out = { .max = MIB(4) };
	struct error err;

	MUST(edit != NULL);
	if (netrc_set(edit, HOST, "password", &err) == 0) {
		nix_conf_edit_format(edit, &out);
		MUST(buf_ok(&out) && strstr(buf_text(&out), "machine") != NULL);
		again = open_edit(out.data, out.len);
		MUST(again != NULL && netrc_set(again, HOST, "password", &err) == 0);
		MUST(nix_conf_edit_is_empty(again));
		nix_conf_edit_free(again);
	}
	buf_fini(&out);
	nix_conf_edit_free(edit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size);
	struct nix_conf *conf = parse(text, size);
	const struct nix_conf_line *line, *before = NULL;

	for (size_t i = 0; (line = nix_conf_at(conf, i)) != NULL; i++) {
		check_line(line, before);
		before = line;
	}
	check_list(conf, "substituters");
	check_list(conf, "trusted-users");
	if (strlen(text) == size) {
		take_out(conf, text, size, "post-build-hook");
		set_password(text, size);
	} else {
		MUST(open_edit(text, size) == NULL); /* it is no text */
	}
	nix_conf_free(conf);
	free(text);
	return 0;
}
