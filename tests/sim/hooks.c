#include "tests/sim/hooks.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/protocol.h"
#include "common/spool.h"
#include "common/store_path.h"
#include "tests/sim/chance.h"
#include "tests/sim/fake_loop.h"
#include "tests/sim/fake_store.h"
#include "tests/sim/life.h"

#define HOOKS_MAX    40
#define OUTPUTS_MAX  STORE_OUTPUTS_MAX
#define DEADLINE_MS  1000
#define N_UNLINKED   64
#define WRITEBACK_MS 35000

struct hook {
	struct fake_event event; /* its next step, or its deadline */
	unsigned paths[OUTPUTS_MAX];
	unsigned n_paths, number;
	unsigned derivation; /* handed over alone, since the outputs are not known; 0: none */
	uint64_t caches;     /* bits; 0: all */
	bool is_push;        /* a person's: no root, and nothing is spooled */
	bool force, is_done, has_roots;
	struct handover *waits_for;
};

struct handover { /* the daemon's side of a connection; dies with it */
	struct intake_handover taken;
	struct hook *hook; /* NULL: it has hung up */
	const char *texts[OUTPUTS_MAX];
};

struct unlinked {
	char path[512];
	char *text;
	size_t len;
	uint64_t at_ms;
};

static struct hook hooks[HOOKS_MAX];
static unsigned n_hooks;
struct promise promises[PROMISES_MAX];
unsigned n_promises;
static struct unlinked unlinked[N_UNLINKED];
static unsigned n_unlinked;

/* The daemon's own: of a derivation until its outputs have taken its place. */
static bool hook_root_is_made(const struct hook *hook, unsigned i)
{
	return (hook->derivation > 0 && fake_root_is_made(hook->derivation)) ||
	       fake_root_is_made(hook->paths[i]);
}

/* ---- promises ---------------------------------------------------------------------------------------- */

static void promise(const struct hook *hook, enum promise_kind kind, int64_t request_id)
{
	for (unsigned i = 0; i < hook->n_paths; i++) {
		assert(n_promises < PROMISES_MAX);
		promises[n_promises++] = (struct promise){
			.kind = kind,
			.path = hook->paths[i],
			.derivation = hook->derivation,
			.lacks_root = kind == PROMISE_ACK && !hook_root_is_made(hook, i),
			.lacks_root_since_ms = fake_now_ms(),
			.caches =
				hook->caches != 0 ? hook->caches : (UINT64_C(1) << life.config.n_caches) - 1,
			.request_id = request_id,
		};
	}
}

const char *promise_name(const struct promise *p)
{
	static const char *const names[] = { "acknowledged", "spooled", "protected by a hook" };

	return names[p->kind];
}

static bool is_kept_on(unsigned cache, unsigned path)
{
	bool in[STORE_PATHS_MAX] = { false }, is_whole = true;

	if (!policy_wants_root(life.filters, cache, store_model.paths[path].text))
		return true;
	/* Of a root that is there, nothing below is looked at again: only of a push by force. */
	if (fake_cache_has_lost(cache) && fake_cache_has(cache, path))
		return true;
	fake_store_closure(path, in);
	for (unsigned i = 0; i < store_model.n_paths; i++) {
		bool has;

		if (!in[i])
			continue;
		has = fake_cache_has(cache, i);
		/* What may only be found is withheld where it is said not to be there, true or not. */
		if ((!has || fake_cache_denied(cache, i)) &&
		    policy_withholds(life.filters, cache, store_model.paths[i].text,
		                     fake_store_nar_size(store_model.paths[i].content)))
			return true;
		is_whole &= has;
	}
	return is_whole;
}

bool promise_is_kept(const struct promise *p)
{
	for (unsigned c = 0; c < life.n_caches; c++)
		if (((p->caches & ~p->kept) >> c & 1) && !is_kept_on(c, p->path))
			return false;
	return true;
}

void promise_note_kept(struct promise *p)
{
	for (unsigned c = 0; c < life.n_caches; c++)
		if (((p->caches & ~p->kept) >> c & 1) && is_kept_on(c, p->path))
			p->kept |= UINT64_C(1) << c;
}

void hooks_root_failed(unsigned path)
{
	for (unsigned i = 0; i < n_promises && !fake_root_is_made(path); i++) {
		struct promise *p = &promises[i];

		if (p->lacks_root || p->path != path)
			continue;
		p->lacks_root = true;
		p->lacks_root_since_ms = fake_now_ms();
	}
}

void hooks_lose_queue(void)
{
	for (unsigned i = 0; i < n_promises; i++) {
		promises[i].request_id = 0;
		promises[i].lacks_row = true;
	}
	hooks_lose_roots();
}

void hooks_lose_roots(void)
{
	for (unsigned i = 0; i < n_promises; i++) {
		struct promise *p = &promises[i];
		unsigned named = p->derivation > 0 ? p->derivation : p->path;

		if (p->lacks_row && !fake_root_leads_to(p->path) && !fake_root_leads_to(named) &&
		    !spool_names(named))
			p->is_excused = true;
	}
}

void hooks_lose_cache(unsigned cache)
{
	for (unsigned i = 0; i < n_promises; i++) {
		struct promise *p = &promises[i];

		if (promise_is_kept(p))
			continue;
		p->caches &= ~(UINT64_C(1) << cache);
		p->is_excused = p->is_excused || p->caches == 0;
	}
}

/* ---- the spool --------------------------------------------------------------------------------------- */

static void spool(struct hook *hook)
{
	char text[2048];
	size_t len = (size_t)snprintf(text, sizeof(text), "nncache 1 enqueue\n");
	struct error err;

	if (hook->is_push)
		return;
	for (unsigned i = 0; i < hook->n_paths && hook->derivation == 0; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "path %s\n",
		                        store_model.paths[hook->paths[i]].text);
	if (hook->derivation > 0)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "derivation %s\n",
		                        store_model.paths[hook->derivation].text);
	len += (size_t)snprintf(text + len, sizeof(text) - len, "end\n");
	if (spool_write(life_spool_dir, text, len, &err) < 0)
		violated("the simulation", "%s", err.text);
	trace("hook %u spools", hook->number);
	promise(hook, PROMISE_SPOOL, 0);
	fake_watch_changed();
}

int __real_unlink(const char *path);
int __wrap_unlink(const char *path);
/* Nobody syncs the directory after a removal: until the kernel has written it back, it can be undone. */
int __wrap_unlink(const char *path)
{
	struct unlinked *u = &unlinked[n_unlinked % N_UNLINKED];
	struct error err;

	free(u->text);
	*u = (struct unlinked){ .at_ms = fake_now_ms() };
	snprintf(u->path, sizeof(u->path), "%s", path);
	if (read_file(path, REQUEST_MAX_BYTES, &u->text, &u->len, &err) == 0)
		n_unlinked++;
	return __real_unlink(path);
}

void spool_power_cut(void)
{
	for (unsigned i = 0; i < N_UNLINKED; i++) {
		struct unlinked *u = &unlinked[i];
		int fd;

		if (u->text == NULL || strncmp(u->path, life_spool_dir, strlen(life_spool_dir)) != 0 ||
		    fake_now_ms() - u->at_ms > WRITEBACK_MS || chance_one_in(2))
			continue;
		fd = open(u->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (fd < 0 || write_full(fd, u->text, u->len) < 0)
			violated("the simulation", "%s cannot be made again", u->path);
		close(fd);
		trace("a spool file is there again");
	}
}

bool spool_is_empty(void)
{
	DIR *dir = opendir(life_spool_dir);
	const struct dirent *entry;
	bool is_empty = true;

	assert(dir != NULL);
	while ((entry = readdir(dir)) != NULL)
		is_empty = is_empty && entry->d_name[0] == '.';
	closedir(dir);
	return is_empty;
}

static bool file_names(const char *name, const char *line)
{
	char path[900], *text = NULL;
	struct error err;
	bool is_found;

	snprintf(path, sizeof(path), "%s/%s", life_spool_dir, name);
	is_found = read_file(path, REQUEST_MAX_BYTES, &text, NULL, &err) == 0 && strstr(text, line) != NULL;
	free(text);
	return is_found;
}

bool spool_names(unsigned path)
{
	DIR *dir = opendir(life_spool_dir);
	const struct dirent *entry;
	bool is_found = false;
	char line[128];

	assert(dir != NULL);
	snprintf(line, sizeof(line), " %s\n", store_model.paths[path].text);
	while (!is_found && (entry = readdir(dir)) != NULL)
		is_found = entry->d_name[0] != '.' && file_names(entry->d_name, line);
	closedir(dir);
	return is_found;
}

/* ---- a hook ------------------------------------------------------------------------------------------ */

static void root_name(const struct hook *hook, unsigned i, char name[128])
{
	unsigned path = hook->derivation > 0 ? hook->derivation : hook->paths[i];

	snprintf(name, 128, "%s.%u.1", store_path_base(store_model.paths[path].text), hook->number);
}

static unsigned n_named(const struct hook *hook)
{
	return hook->derivation > 0 ? 1 : hook->n_paths;
}

static void remove_roots(struct hook *hook)
{
	char name[128];

	for (unsigned i = 0; i < n_named(hook) && hook->has_roots; i++) {
		root_name(hook, i, name);
		fake_root_remove(name);
	}
	hook->has_roots = false;
}

/* The build is over, and nix-daemon protects its outputs no more. */
static void end(struct hook *hook)
{
	if (hook->is_done)
		return;
	hook->is_done = true;
	for (unsigned i = 0; i < hook->n_paths; i++)
		store_model.paths[hook->paths[i]].n_temp_roots--;
	if (hook->derivation > 0)
		store_model.paths[hook->derivation].n_temp_roots--;
}

/* Nix kills a hook whose client went away. */
static bool is_killed(struct hook *hook)
{
	if (!chance_one_in(25))
		return false;
	trace("hook %u is killed", hook->number);
	if (hook->waits_for != NULL)
		hook->waits_for->hook = NULL;
	hook->waits_for = NULL;
	end(hook);
	return true;
}

static void on_taken_in(struct intake_handover *taken)
{
	struct handover *h = CONTAINER_OF(taken, struct handover, taken);
	struct hook *hook = h->hook;

	if (hook == NULL) {
		free(h);
		return;
	}
	hook->waits_for = NULL;
	fake_event_take_back(&hook->event);
	trace("hook %u hears %s", hook->number, taken->err.kind == ERROR_NONE ? "ok" : taken->err.text);
	if (taken->err.kind == ERROR_NONE) {
		promise(hook, PROMISE_ACK, taken->request_id);
		for (unsigned i = 0; i < hook->n_paths && store_model.unroot_one_in == 0; i++)
			if (!hook_root_is_made(hook, i) &&
			    !promise_is_kept(&promises[n_promises - hook->n_paths + i]))
				violated("I1", "%u was acknowledged without a root", hook->paths[i]);
		remove_roots(hook);
	} else {
		spool(hook);
	}
	end(hook);
	free(h);
}

static void on_deadline(struct fake_event *event)
{
	struct hook *hook = CONTAINER_OF(event, struct hook, event);

	trace("hook %u waits no longer", hook->number);
	hook->waits_for->hook = NULL;
	hook->waits_for = NULL;
	spool(hook);
	end(hook);
}

static void hand_over(struct hook *hook)
{
	struct handover *h = calloc(1, sizeof(*h));

	assert(h != NULL);
	for (unsigned i = 0; i < hook->n_paths; i++)
		h->texts[i] = store_model.paths[hook->paths[i]].text;
	h->hook = hook;
	h->taken = (struct intake_handover){
		.derivation = hook->derivation > 0 ? store_model.paths[hook->derivation].text : NULL,
		.paths = h->texts,
		.n_paths = hook->derivation > 0 ? 0 : hook->n_paths,
		.caches = hook->caches,
		.force = hook->force,
		.push = hook->is_push,
	};
	hook->waits_for = h;
	fake_event_in(&hook->event, DEADLINE_MS, on_deadline);
	intake_start(life.intake, &h->taken, on_taken_in);
}

static void on_connect(struct fake_event *event)
{
	struct hook *hook = CONTAINER_OF(event, struct hook, event);

	if (is_killed(hook))
		return;
	if (life.is_ready && !life.is_closing && hook->caches >> life.config.n_caches == 0) {
		hand_over(hook);
		return;
	}
	spool(hook);
	end(hook);
}

static void on_begin(struct fake_event *event)
{
	struct hook *hook = CONTAINER_OF(event, struct hook, event);
	char name[128];

	if (is_killed(hook))
		return;
	fake_event_in(&hook->event, chance_below(5), on_connect);
	if (hook->is_push)
		return;
	for (unsigned i = 0; i < n_named(hook); i++) {
		root_name(hook, i, name);
		fake_root_make(name, hook->derivation > 0 ? hook->derivation : hook->paths[i]);
	}
	hook->has_roots = true;
	promise(hook, PROMISE_ROOT, 0);
}

static void build(struct hook *hook, unsigned path)
{
	for (unsigned i = 0; i < hook->n_paths; i++)
		if (hook->paths[i] == path)
			return;
	hook->paths[hook->n_paths++] = path;
	fake_store_build(path);
	store_model.paths[path].n_temp_roots++;
	trace("hook %u: %u was built", hook->number, path);
}

static void on_built(struct fake_event *event)
{
	struct hook *hook = CONTAINER_OF(event, struct hook, event);

	for (unsigned i = 1 + chance_below(OUTPUTS_MAX); i > 0; i--)
		build(hook, chance_below(store_model.n_paths));
	hook->is_push = chance_one_in(6);
	if (hook->is_push && chance_one_in(2))
		hook->caches = UINT64_C(1) << chance_below(life.n_caches);
	hook->force = hook->is_push && chance_one_in(2);
	if (!hook->is_push && chance_one_in(6)) {
		hook->derivation = fake_store_derive(hook->paths, hook->n_paths);
		store_model.paths[hook->derivation].n_temp_roots++;
	}
	fake_event_in(&hook->event, chance_below(5), on_begin);
}

void hooks_init(unsigned n, uint64_t within_ms)
{
	assert(n <= HOOKS_MAX);
	memset(hooks, 0, sizeof(hooks));
	n_hooks = n;
	n_promises = n_unlinked = 0;
	memset(unlinked, 0, sizeof(unlinked));
	for (unsigned i = 0; i < n; i++) {
		hooks[i].number = i;
		fake_event_in(&hooks[i].event, chance_below((unsigned)within_ms), on_built);
	}
}

bool hooks_are_done(void)
{
	for (unsigned i = 0; i < n_hooks; i++)
		if (!hooks[i].is_done)
			return false;
	return true;
}

void hooks_hang_up(void)
{
	for (unsigned i = 0; i < n_hooks; i++) {
		struct hook *hook = &hooks[i];

		if (hook->waits_for == NULL)
			continue;
		hook->waits_for = NULL;
		fake_event_take_back(&hook->event);
		spool(hook);
		end(hook);
	}
}

void hooks_power_cut(void)
{
	for (unsigned i = 0; i < n_hooks; i++) {
		struct hook *hook = &hooks[i];

		if (hook->n_paths == 0 || hook->is_done)
			continue; /* not begun: it is built after the boot */
		fake_event_take_back(&hook->event);
		hook->waits_for = NULL;
		end(hook);
	}
	for (unsigned i = 0; i < n_promises; i++)
		promises[i].is_excused = promises[i].is_excused || promises[i].kind == PROMISE_ROOT;
}
