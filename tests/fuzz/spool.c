/* A spool file is taken in as the request it is, and gone, or it is set aside; nobody waits for it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "common/protocol.h"
#include "common/store_path.h"
#include "daemon/intake/parts.h"
#include "tests/fuzz/fuzz.h"

#define NAME  "1700000000123456789.1.req"
#define STORE "/nix/store"

static struct {
	struct loop loop;
	struct config *config;
	struct intake intake;
	char dir[64];
	struct request expected;
	bool is_request; /* what EXPECTED is */
	unsigned n_taken_in;
	uint64_t n_set_aside;
} t;

/* ---- in place of what intake stands on ------------------------------------------------------- */

const char *store_dir(const struct store *store)
{
	(void)store;
	return STORE;
}

void intake_maybe_closed(struct intake *intake)
{
	(void)intake;
}

static void check_paths(const struct intake_handover *h)
{
	MUST(h->n_paths == t.expected.n_paths);
	for (size_t i = 0; i < h->n_paths; i++)
		MUST(store_path_is_valid(h->paths[i], STORE) &&
		     strcmp(h->paths[i], t.expected.paths[i]) == 0);
	MUST((h->derivation == NULL) == (t.expected.derivation == NULL));
	MUST(h->derivation == NULL ||
	     (store_path_is_valid(h->derivation, STORE) && store_path_is_derivation(h->derivation)));
	MUST(h->n_paths > 0 || h->derivation != NULL);
}

static void on_turn(struct loop_post *post)
{
	struct intake_handover *h = CONTAINER_OF(post, struct intake_handover, post);

	h->done(h);
}

void intake_start(struct intake *intake, struct intake_handover *h, intake_done_fn done)
{
	MUST(intake == &t.intake && t.is_request && h->uid == geteuid());
	MUST(t.expected.verb == VERB_ENQUEUE || t.expected.verb == VERB_PUSH);
	MUST(h->push == (t.expected.verb == VERB_PUSH));
	MUST(h->force == t.expected.force && (h->tag == NULL) == (t.expected.tag == NULL));
	MUST(h->tag == NULL || strcmp(h->tag, t.expected.tag) == 0);
	MUST(h->caches < 1U << t.config->n_caches && (h->caches == 0) == (t.expected.n_caches == 0));
	check_paths(h);
	h->done = done;
	if (h->tag != NULL && strcmp(h->tag, "refuse") == 0)
		error_set(&h->err, ERROR_PERMANENT, "refused");
	else
		t.n_taken_in++;
	loop_post(&t.loop, &h->post, on_turn);
}

/* ---- the spool ------------------------------------------------------------------------------- */

static void on_news(void *ctx)
{
	(void)ctx;
	t.n_set_aside = t.intake.spool.n_bad;
}

static void remove_dir(void)
{
	rmdir(t.dir);
}

static const char *place(const char *name, char path[128])
{
	snprintf(path, 128, "%s/%s", t.dir, name);
	return path;
}

static void open_all(void)
{
	const struct config_places places = { .config_file = "/nowhere/nncache.conf" };
	struct buf text, mistakes;
	struct error err;

	log_init((enum log_level)0, false); /* nothing is urgent enough */
	strcpy(t.dir,
	       access("/dev/shm", W_OK) == 0 ? "/dev/shm/nncache-fuzz-XXXXXX" : "/tmp/nncache-fuzz-XXXXXX");
	MUST(mkdtemp(t.dir) != NULL && atexit(remove_dir) == 0);
	buf_init(&text, 4096);
	buf_init(&mistakes, KIB(64));
	buf_printf(&text, "[daemon]\nspool-dir = %s\n[cache \"main\"]\nurl = file:///a\nsign = no\n", t.dir);
	buf_puts(&text, "[cache \"other\"]\nurl = file:///b\nsign = no\n");
	MUST(config_load_text(&t.config, &places, "file", text.data, text.len, false, &mistakes) == 0);
	buf_fini(&text);
	MUST(loop_init(&t.loop, &err) == 0);
	t.intake =
		(struct intake){ .loop = &t.loop, .config = t.config, .resolves = true, .on_news = on_news };
	spool_open(&t.intake);
}

static void leave_file(const uint8_t *data, size_t size)
{
	char path[128], whole[128];
	int fd = open(place(".tmp", path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	MUST(fd >= 0 && write_full(fd, data, size) == 0);
	close(fd);
	MUST(rename(path, place(NAME, whole)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err;
	char path[128];

	if (t.config == NULL)
		open_all();
	t.n_taken_in = 0;
	t.n_set_aside = t.intake.spool.n_bad = 0;
	t.is_request = request_parse(&t.expected, (const char *)data, size, &err) == 0;
	leave_file(data, size);
	while (access(place(NAME, path), F_OK) == 0)
		uv_run(&t.loop.uv, UV_RUN_ONCE);
	MUST(t.n_taken_in + t.n_set_aside == 1);
	MUST((unlink(place(NAME ".bad", path)) == 0) == (t.n_set_aside == 1));
	if (t.is_request)
		request_fini(&t.expected);
	return 0;
}
