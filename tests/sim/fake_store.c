#include "tests/sim/fake_store.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/store_path.h"
#include "daemon/format/nar.h"
#include "daemon/loop/lane.h"
#include "daemon/store/roots.h"
#include "daemon/store/store.h"
#include "tests/sim/chance.h"
#include "tests/sim/fake_loop.h"
#include "tests/sim/hooks.h"
#include "tests/sim/sha256.h"
#include "tests/sim/verify.h"

#define STORE_DIR    "/nix/store"
#define N_LINKS      256
#define WRITEBACK_MS 35000 /* the kernel has written back by then what nobody synced */
#define N_SMALL      (STORE_CONTENTS_MAX - (unsigned)N_ELEMENTS(big_bytes))

/* The last contents: what is asked for before it is sent; some blocks of a body; more than those. */
static const off_t big_bytes[] = { 1 << 20, 5 << 20, 10 << 20 };

struct content {
	char file[128];
	uint8_t nar_hash[SHA256_BYTES];
	uint64_t nar_size;
};

struct link { /* a name that was in the directory once */
	char name[128];
	unsigned path;
	int64_t made_unix_s;
	uint64_t changed_ms;
	bool is_there, was_there; /* now; and when it was last durable */
};

static struct content contents[STORE_CONTENTS_MAX];
static struct link links[N_LINKS];
static unsigned n_links;
struct store_model store_model;

/* ---- files ------------------------------------------------------------------------------------------- */

static void make_content(struct content *content, const char *dir, unsigned i)
{
	int fd, rc;

	snprintf(content->file, sizeof(content->file), "%s/%u", dir, i);
	fd = open(content->file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert(fd >= 0);
	dprintf(fd, "%*u\n", 10 + (int)i * 40, i);
	rc = i >= N_SMALL ? ftruncate(fd, big_bytes[i - N_SMALL]) : 0;
	assert(rc == 0);
	(void)rc;
	close(fd);
	sha256_of_nar(content->file, content->nar_hash, &content->nar_size);
}

void fake_store_make_contents(const char *dir)
{
	mkdir(dir, 0755);
	for (unsigned i = 0; i < STORE_CONTENTS_MAX; i++)
		make_content(&contents[i], dir, i);
}

const uint8_t *fake_store_nar_hash(unsigned content)
{
	return contents[content].nar_hash;
}

uint64_t fake_store_nar_size(unsigned content)
{
	return contents[content].nar_size;
}

int __real_nar_open(struct nar **ret, const char *path, struct error *err);
int __wrap_nar_open(struct nar **ret, const char *path, struct error *err);
int __wrap_nar_open(struct nar **ret, const char *path, struct error *err)
{
	const struct store_path *p = &store_model.paths[fake_store_number(path)];
	/* Its NAR is longer then, or shorter. */
	unsigned other = p->content + (p->refers_to_itself ? 1 : N_SMALL - 1);
	unsigned content = p->is_damaged ? other % N_SMALL : p->content;

	return __real_nar_open(ret, p->is_valid ? contents[content].file : "/nonexistent/collected", err);
}

/* ---- the graph --------------------------------------------------------------------------------------- */

unsigned fake_store_number(const char *path)
{
	const char *number = strrchr(path, '-');

	assert(number != NULL);
	return (unsigned)strtoul(number + 1, NULL, 10);
}

static void make_path(unsigned i, unsigned big_one_in)
{
	struct store_path *p = &store_model.paths[i];

	snprintf(p->text, sizeof(p->text), STORE_DIR "/%032u-%u", i, i);
	/* Some have the contents of another, so that their NARs are equal. */
	p->content = i > 0 && chance_one_in(6) ? store_model.paths[i - 1].content : chance_below(N_SMALL);
	if (chance_one_in(big_one_in))
		p->content = N_SMALL + (big_one_in < 60 ? chance_below(N_ELEMENTS(big_bytes)) : 0);
	p->refers_to_itself = chance_one_in(3);
	for (unsigned k = chance_below(STORE_REFS_MAX + 1); k > 0 && i > 0; k--) {
		unsigned ref = chance_one_in(2) ? i - 1 : chance_below(i);
		bool is_known = false;

		for (unsigned m = 0; m < p->n_refs; m++)
			is_known = is_known || p->refs[m] == ref;
		if (!is_known)
			p->refs[p->n_refs++] = ref;
	}
}

void fake_store_init(unsigned n_paths, bool has_big)
{
	memset(&store_model, 0, sizeof(store_model));
	memset(links, 0, sizeof(links));
	n_links = 0;
	store_model.n_paths = n_paths;
	for (unsigned i = 0; i < n_paths; i++)
		make_path(i, has_big ? 6 : 60);
}

unsigned fake_store_derive(const unsigned *outputs, unsigned n)
{
	unsigned number = STORE_BUILT_MAX + store_model.n_derivations++;
	struct store_path *p = &store_model.paths[number];

	assert(number < STORE_PATHS_MAX && n <= STORE_OUTPUTS_MAX);
	snprintf(p->text, sizeof(p->text), STORE_DIR "/%032u-%u.drv", number, number);
	memcpy(p->outputs, outputs, n * sizeof(outputs[0]));
	p->n_outputs = n;
	p->is_valid = true;
	return number;
}

bool fake_store_is_derivation(unsigned path)
{
	return path >= STORE_BUILT_MAX;
}

void fake_store_closure(unsigned path, bool in[STORE_PATHS_MAX])
{
	if (in[path])
		return;
	in[path] = true;
	for (unsigned i = 0; i < store_model.paths[path].n_refs; i++)
		fake_store_closure(store_model.paths[path].refs[i], in);
}

void fake_store_build(unsigned path)
{
	bool in[STORE_PATHS_MAX] = { false };

	fake_store_closure(path, in);
	for (unsigned i = 0; i < store_model.n_paths; i++) {
		struct store_path *p = &store_model.paths[i];

		if (!in[i] || p->is_valid)
			continue;
		/* A big one stays big: which filters meet it is the same in the whole run. */
		if (p->was_valid && p->content < N_SMALL && chance_one_in(3))
			p->content = chance_below(N_SMALL);
		p->is_valid = p->was_valid = true;
	}
}

void fake_store_build_again(void)
{
	for (unsigned i = 0; i < store_model.n_paths; i++) {
		struct store_path *p = &store_model.paths[i];

		if (!p->was_valid || p->is_valid)
			continue;
		fake_store_build(i);
		p->is_kept = true;
	}
	for (unsigned i = STORE_BUILT_MAX; i < STORE_BUILT_MAX + store_model.n_derivations; i++)
		store_model.paths[i].is_valid = true;
}

void fake_store_collect(bool deleted[STORE_PATHS_MAX])
{
	bool live[STORE_PATHS_MAX] = { false };

	for (unsigned i = 0; i < n_links; i++)
		if (links[i].is_there)
			fake_store_closure(links[i].path, live);
	for (unsigned i = 0; i < store_model.n_paths; i++)
		if (store_model.paths[i].is_kept || store_model.paths[i].n_temp_roots > 0)
			fake_store_closure(i, live);
	for (unsigned i = STORE_BUILT_MAX; i < STORE_BUILT_MAX + store_model.n_derivations; i++)
		if (!live[i] && store_model.paths[i].n_temp_roots == 0)
			store_model.paths[i].is_valid = false;
	for (unsigned i = 0; i < store_model.n_paths; i++) {
		deleted[i] = store_model.paths[i].is_valid && !live[i];
		if (deleted[i]) {
			trace("gc deletes %u", i);
			store_model.paths[i].is_valid = false;
			store_model.paths[i].is_damaged = false;
		}
	}
}

/* ---- links ------------------------------------------------------------------------------------------- */

static struct link *find_link(const char *name)
{
	for (unsigned i = 0; i < n_links; i++)
		if (strcmp(links[i].name, name) == 0)
			return &links[i];
	return NULL;
}

static void change_link(struct link *link, bool is_there)
{
	if (link->is_there == is_there)
		return;
	if (fake_now_ms() - link->changed_ms > WRITEBACK_MS)
		link->was_there = link->is_there;
	link->is_there = is_there;
	link->changed_ms = fake_now_ms();
}

void fake_root_make(const char *name, unsigned path)
{
	struct link *link = find_link(name);

	if (link == NULL) {
		assert(n_links < N_LINKS);
		link = &links[n_links++];
		*link = (struct link){ .path = path };
		snprintf(link->name, sizeof(link->name), "%s", name);
	}
	if (!link->is_there)
		link->made_unix_s = clock_unix_s();
	change_link(link, true);
}

void fake_root_remove(const char *name)
{
	struct link *link = find_link(name);

	if (link != NULL)
		change_link(link, false);
}

bool fake_root_is_there(const char *name)
{
	const struct link *link = find_link(name);

	return link != NULL && link->is_there;
}

bool fake_root_is_made(unsigned path)
{
	return fake_root_is_there(store_path_base(store_model.paths[path].text));
}

bool fake_root_leads_to(unsigned path)
{
	for (unsigned i = 0; i < n_links; i++)
		if (links[i].is_there && links[i].path == path)
			return true;
	return false;
}

unsigned fake_root_count(const char **ret_name)
{
	unsigned n = 0;

	*ret_name = NULL;
	for (unsigned i = 0; i < n_links; i++)
		if (links[i].is_there) {
			*ret_name = links[i].name;
			n++;
		}
	return n;
}

void fake_root_power_cut(void)
{
	for (unsigned i = 0; i < n_links; i++) {
		struct link *link = &links[i];

		if (fake_now_ms() - link->changed_ms <= WRITEBACK_MS && chance_one_in(2))
			link->is_there = link->was_there;
		link->was_there = link->is_there;
	}
}

/* ---- store.h ----------------------------------------------------------------------------------------- */

struct store {
	struct lane *lane;
	lane_closed_fn closed;
	void *closed_ctx;
};

static void run_batch(void *ctx, unsigned thread, struct lane_job *batch)
{
	(void)ctx;
	(void)thread;
	for (; batch != NULL; batch = batch->next) {
		struct store_job *job = CONTAINER_OF(batch, struct store_job, lane);

		job->run(job);
	}
}

static void on_job_done(struct lane_job *lane_job)
{
	struct store_job *job = CONTAINER_OF(lane_job, struct store_job, lane);

	job->finish(job);
}

static void post(struct store *store, struct store_job *job, void (*run)(struct store_job *job),
                 void (*finish)(struct store_job *job))
{
	job->store = store;
	job->run = run;
	job->finish = finish;
	lane_post(store->lane, &job->lane, on_job_done);
}

int store_open(struct store **ret, struct loop *loop, const char *uri, struct error *err)
{
	static const struct lane_ops ops = { .run_batch = run_batch };
	struct store *store = calloc(1, sizeof(*store));
	(void)uri;

	assert(store != NULL);
	*ret = store;
	return lane_open(&store->lane, loop, "store", 2, 1, &ops, store, err);
}

static void on_lane_closed(void *ctx)
{
	struct store *store = ctx;
	lane_closed_fn closed = store->closed;
	void *closed_ctx = store->closed_ctx;

	free(store);
	closed(closed_ctx);
}

void store_close(struct store *store, lane_closed_fn closed, void *ctx)
{
	store->closed = closed;
	store->closed_ctx = ctx;
	lane_close(store->lane, on_lane_closed, store);
}

const char *store_dir(const struct store *store)
{
	(void)store;
	return STORE_DIR;
}

const char *store_real_dir(const struct store *store)
{
	(void)store;
	return STORE_DIR;
}

const char *store_state_dir(const struct store *store)
{
	(void)store;
	return "/nix/var/nix";
}

static void fill_info(struct path_info *info, const struct store_path *p)
{
	*info = (struct path_info){ .path = strdup(p->text), .registered_unix_s = 1 };
	memcpy(info->nar_hash, contents[p->content].nar_hash, SHA256_BYTES);
	info->nar_size = contents[p->content].nar_size;
	info->references = calloc(STORE_REFS_MAX + 1, sizeof(char *));
	assert(info->path != NULL && info->references != NULL);
	if (p->refers_to_itself)
		info->references[info->n_references++] = strdup(p->text);
	for (unsigned i = 0; i < p->n_refs; i++)
		info->references[info->n_references++] = strdup(store_model.paths[p->refs[i]].text);
	path_info_normalize(info);
}

static void run_info(struct store_job *job)
{
	struct store_info_query *query = CONTAINER_OF(job, struct store_info_query, job);

	if (chance_one_in(store_model.fail_one_in)) {
		error_set(&query->err, ERROR_TRANSIENT, "the store gives no answer");
		return;
	}
	for (size_t i = 0; i < query->n_paths; i++) {
		const struct store_path *p = &store_model.paths[fake_store_number(query->paths[i])];

		if (p->is_valid)
			fill_info(&query->infos[i], p);
	}
}

static void finish_info(struct store_job *job)
{
	struct store_info_query *query = CONTAINER_OF(job, struct store_info_query, job);

	query->done(query);
}

void store_info_start(struct store *store, struct store_info_query *query, store_info_fn done)
{
	query->done = done;
	query->err = (struct error){ 0 };
	post(store, &query->job, run_info, finish_info);
}

static void run_outputs(struct store_job *job)
{
	struct store_outputs_query *query = CONTAINER_OF(job, struct store_outputs_query, job);
	const struct store_path *p = &store_model.paths[fake_store_number(query->derivation)];

	if (chance_one_in(store_model.fail_one_in)) {
		error_set(&query->err, ERROR_TRANSIENT, "the store gives no answer");
		return;
	}
	query->outputs = calloc(STORE_OUTPUTS_MAX, sizeof(char *));
	assert(query->outputs != NULL);
	for (unsigned i = 0; p->is_valid && i < p->n_outputs; i++)
		if (store_model.paths[p->outputs[i]].is_valid)
			query->outputs[query->n_outputs++] = strdup(store_model.paths[p->outputs[i]].text);
}

static void finish_outputs(struct store_job *job)
{
	struct store_outputs_query *query = CONTAINER_OF(job, struct store_outputs_query, job);

	query->done(query);
}

void store_outputs_start(struct store *store, struct store_outputs_query *query, store_outputs_fn done)
{
	query->done = done;
	query->err = (struct error){ 0 };
	query->outputs = NULL;
	query->n_outputs = 0;
	post(store, &query->job, run_outputs, finish_outputs);
}

/* ---- roots.h ----------------------------------------------------------------------------------------- */

struct roots {
	struct store *store;
};

int roots_open(struct roots **ret, struct store *store, const char *dir, const char *fallback_dir,
               struct error *err)
{
	struct roots *roots = calloc(1, sizeof(*roots));
	(void)dir;
	(void)fallback_dir;
	(void)err;

	assert(roots != NULL);
	roots->store = store;
	*ret = roots;
	return 0;
}

void roots_close(struct roots *roots)
{
	free(roots);
}

const char *roots_dir(const struct roots *roots)
{
	(void)roots;
	return "/nix/var/nix/gcroots/nncache";
}

const char *roots_message(const struct roots *roots)
{
	(void)roots;
	return NULL;
}

static void run_add(struct store_job *job)
{
	struct roots_add *add = CONTAINER_OF(job, struct roots_add, job);

	for (size_t i = 0; i < add->n_paths; i++) {
		unsigned path = fake_store_number(add->paths[i]);

		if (add->is_valid != NULL)
			add->is_valid[i] = store_model.paths[path].is_valid;
		if (add->is_valid != NULL && !add->is_valid[i])
			continue;
		if (chance_one_in(store_model.unroot_one_in)) {
			error_set(&add->err, ERROR_TRANSIENT, "no root for %s", add->paths[i]);
			hooks_root_failed(path);
			continue;
		}
		trace("root made %u", path);
		fake_root_make(store_path_base(add->paths[i]), path);
	}
}

static void finish_add(struct store_job *job)
{
	struct roots_add *add = CONTAINER_OF(job, struct roots_add, job);

	add->done(add);
}

void roots_add_start(struct roots *roots, struct roots_add *add, roots_added_fn done)
{
	add->done = done;
	add->roots = roots;
	add->err = (struct error){ 0 };
	post(roots->store, &add->job, run_add, finish_add);
}

void roots_remove(struct roots *roots, const char *path)
{
	roots_remove_name(roots, store_path_base(path));
}

bool roots_has_name(const struct roots *roots, const char *name)
{
	(void)roots;
	return fake_root_is_there(name);
}

void roots_remove_name(struct roots *roots, const char *name)
{
	const struct link *link = find_link(name);
	(void)roots;

	trace("root removed %s", name);
	fake_root_remove(name);
	if (link != NULL)
		verify_unrooted(link->path);
}

static void run_list(struct store_job *job)
{
	struct roots_list *list = CONTAINER_OF(job, struct roots_list, job);

	list->entries = calloc(n_links + 1, sizeof(list->entries[0]));
	assert(list->entries != NULL);
	for (unsigned i = 0; i < n_links; i++) {
		const struct store_path *p = &store_model.paths[links[i].path];
		const struct link *ours = find_link(store_path_base(p->text));

		if (!links[i].is_there)
			continue;
		list->entries[list->n_entries++] = (struct roots_entry){
			.name = strdup(links[i].name),
			.path = strdup(p->text),
			.made_unix_s = links[i].made_unix_s,
			.is_ours = strcmp(links[i].name, store_path_base(p->text)) == 0,
			.ours_made_unix_s = ours != NULL && ours->is_there ? ours->made_unix_s : 0,
		};
	}
}

static void finish_list(struct store_job *job)
{
	struct roots_list *list = CONTAINER_OF(job, struct roots_list, job);

	list->done(list);
}

void roots_list_start(struct roots *roots, struct roots_list *list, roots_listed_fn done)
{
	list->done = done;
	list->roots = roots;
	list->err = (struct error){ 0 };
	list->entries = NULL;
	list->n_entries = 0;
	post(roots->store, &list->job, run_list, finish_list);
}

void roots_list_fini(struct roots_list *list)
{
	for (size_t i = 0; i < list->n_entries; i++) {
		free(list->entries[i].name);
		free(list->entries[i].path);
	}
	free(list->entries);
	list->entries = NULL;
	list->n_entries = 0;
}
