/* Our own files and the power: what a hook spooled, the GC roots of hook and daemon, what a cache in a
 * directory took, and a damaged queue that is set aside, cut at every change of a name and at every fsync,
 * with all lost that no fsync held, and with some of it. The real code writes; what is left is looked at
 * against what had been promised until then. The queue's file has sim --cuts. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/spool.h"
#include "common/store_path.h"
#include "daemon/backend/kind.h"
#include "daemon/db/aside.h"
#include "daemon/format/narinfo.h"
#include "daemon/store/job.h"
#include "daemon/store/roots.h"
#include "hook/own_roots.h"
#include "tests/sim/chance.h"
#include "tests/sim/fake_loop.h"
#include "tests/support/crash_files.h"
#include "tests/unit/test.h"

#define STORE_DIR "/nix/store"
#define N_OBJECTS 3
#define N_CHANCES 3 /* cuts by chance at each point, beside the one that loses all */

static struct {
	char dir[64], top[96], left[96]; /* left: what the power cut left of top */
	unsigned n_points;
	unsigned n_spooled; /* those that are promised */
	bool has_nar[N_OBJECTS], has_info[N_OBJECTS];
	struct loop loop;
	struct body_pool *pool;
	struct backend *backend;
	bool is_done, is_cutting;
	void (*check)(void); /* of what a cut leaves of a cache */
} t;

/* A process that is killed frees nothing, and ours are killed all the time. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

static int on_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void remove_dir(const char *dir)
{
	if (nftw(dir, on_entry, 8, FTW_DEPTH | FTW_PHYS) < 0)
		fail_msg("%s: %s", dir, strerror(errno));
}

static int setup(void **state)
{
	struct error err;
	(void)state;

	memset(&t, 0, sizeof(t));
	chance_init(1, false);
	snprintf(t.dir, sizeof(t.dir), "%s/nncache-test-XXXXXX",
	         access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(t.dir));
	snprintf(t.top, sizeof(t.top), "%s/top", t.dir);
	snprintf(t.left, sizeof(t.left), "%s/left", t.dir);
	assert_int_equal(make_dir(t.top, 0755, false, &err), 0);
	crash_files_begin(t.top);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	crash_files_watch(NULL);
	crash_files_end();
	fake_loop_forget();
	remove_dir(t.dir);
	return 0;
}

/* Calls CHECK for each way in which the power can go now. */
static void cut(void (*check)(void))
{
	struct error err;

	if (t.is_cutting)
		return; /* what we do here ourselves */
	t.is_cutting = true;
	t.n_points++;
	for (int i = 0; i <= N_CHANCES; i++) {
		assert_int_equal(make_dir(t.left, 0755, false, &err), 0);
		crash_files_leave(t.left, i > 0 ? chance_bits : NULL);
		check();
		remove_dir(t.left);
	}
	t.is_cutting = false;
}

/* Is the file NAME of what is left there, with these bytes? */
static bool is_left(const char *name, const char *bytes, size_t n)
{
	char path[512], *text = NULL;
	struct error err;
	size_t len;
	bool is_same;

	snprintf(path, sizeof(path), "%s/%s", t.left, name);
	if (access(path, F_OK) < 0)
		return false;
	assert_int_equal(read_file(path, 65536, &text, &len, &err), 0);
	is_same = len == n && memcmp(text, bytes, n) == 0;
	free(text);
	if (!is_same)
		fail_msg("%s has %zu bytes, not what was written", name, len);
	return true;
}

/* ---- the spool --------------------------------------------------------------------------------------- */

static const char *request_of(unsigned i)
{
	static char text[128];

	snprintf(text, sizeof(text), "nncache 1 enqueue\npath /nix/store/%032u-x\nend\n", i);
	return text;
}

/* A request is there whole, or not at all; they come in the order in which they were left. */
static void check_spool(void)
{
	char dir[160], name[512];
	struct dirent **entries;
	unsigned n_found = 0;
	int n;

	snprintf(dir, sizeof(dir), "%s/state/spool", t.left);
	n = access(dir, F_OK) == 0 ? scandir(dir, &entries, NULL, alphasort) : -1;
	for (int i = 0; i < n; i++) {
		if (spool_name_parse(entries[i]->d_name, NULL)) {
			snprintf(name, sizeof(name), "state/spool/%s", entries[i]->d_name);
			assert_true(is_left(name, request_of(n_found), strlen(request_of(n_found))));
			n_found++;
		}
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	assert_true(n_found >= t.n_spooled);
}

static void on_spool_point(void)
{
	cut(check_spool);
}

static void what_a_hook_spooled_outlives_a_power_cut(void **state)
{
	char dir[128];
	struct error err;
	(void)state;

	snprintf(dir, sizeof(dir), "%s/state/spool", t.top);
	crash_files_watch(on_spool_point);
	assert_int_equal(make_dir(dir, 0700, true, &err), 0);
	for (unsigned i = 0; i < N_OBJECTS; i++) {
		assert_int_equal(spool_write(dir, request_of(i), strlen(request_of(i)), &err), 0);
		t.n_spooled++;
		cut(check_spool);
	}
	assert_true(t.n_points > N_OBJECTS * 4);
}

/* ---- garbage collector roots ------------------------------------------------------------------------- */

/* No nix-daemon answers here, and what the store's threads do is done at once. */
struct store {
	char state_dir[128];
};

const char *store_dir(const struct store *store)
{
	(void)store;
	return STORE_DIR;
}

const char *store_state_dir(const struct store *store)
{
	return store->state_dir;
}

void store_post(struct store *store, struct store_job *job, void (*run)(struct store_job *job),
                void (*finish)(struct store_job *job))
{
	job->store = store;
	run(job);
	finish(job);
}

int store_ask_daemon(struct store *store, store_daemon_fn fn, void *ctx, struct error *err)
{
	(void)store;
	(void)fn;
	(void)ctx;
	return error_set(err, ERROR_TRANSIENT, "no nix-daemon runs");
}

int store_ask_database(struct store *store, database_fn fn, void *ctx, struct error *err)
{
	(void)store;
	(void)fn;
	(void)ctx;
	return error_set(err, ERROR_TRANSIENT, "no database is here");
}

#define OLD_PATH STORE_DIR "/00000000000000000000000000000009-old"

/* A daemon's eyes and hands, on what there is or on what was left of it. */
struct place {
	struct store store;
	struct roots *roots;
	struct roots_list list;
};

static struct {
	bool is_indirect;           /* scheme B */
	bool is_spooled[N_OBJECTS]; /* promised by the hook */
	bool is_queued[N_OBJECTS];  /* the queue has its row */
} r;

static char paths[N_OBJECTS][80];

static void name_paths(void)
{
	for (unsigned i = 0; i < N_OBJECTS; i++)
		snprintf(paths[i], sizeof(paths[i]), STORE_DIR "/%032u-x", i);
}

static void open_place(struct place *place, const char *top)
{
	char dir[160];
	struct error err;

	*place = (struct place){ 0 };
	snprintf(place->store.state_dir, sizeof(place->store.state_dir), "%s/nix", top);
	snprintf(dir, sizeof(dir), "%s/%s", top, r.is_indirect ? "state/roots" : "nix/gcroots/nncache");
	assert_int_equal(roots_open(&place->roots, &place->store, dir, dir, &err), 0);
	assert_null(roots_message(place->roots));
}

static void on_listed(struct roots_list *list)
{
	assert_int_equal(list->err.kind, ERROR_NONE);
}

static void list_place(struct place *place)
{
	roots_list_fini(&place->list);
	roots_list_start(place->roots, &place->list, on_listed);
}

static void close_place(struct place *place)
{
	roots_list_fini(&place->list);
	roots_close(place->roots);
}

static void on_root_added(struct roots_add *add)
{
	if (add->err.kind != ERROR_NONE)
		fail_msg("%s", add->err.text);
}

static void add_root(struct place *place, const char *path)
{
	struct roots_add add = { .paths = &path, .n_paths = 1 };

	roots_add_start(place->roots, &add, on_root_added);
}

static bool has_root(const struct place *place, const char *path)
{
	for (size_t i = 0; i < place->list.n_entries; i++)
		if (place->list.entries[i].is_ours && strcmp(place->list.entries[i].path, path) == 0)
			return true;
	return false;
}

/* In scheme B the collector finds a root by its registration alone. */
static bool is_registered(const struct place *place, const char *path)
{
	char dir[160], link[256], target[256];
	struct dirent **entries;
	bool is_found = false;
	int n;

	snprintf(dir, sizeof(dir), "%s/gcroots/auto", place->store.state_dir);
	snprintf(link, sizeof(link), "%s/%s", roots_dir(place->roots), store_path_base(path));
	n = scandir(dir, &entries, NULL, NULL);
	for (int i = 0; i < n; i++) {
		char name[512];
		ssize_t len;

		snprintf(name, sizeof(name), "%s/%s", dir, entries[i]->d_name);
		len = readlink(name, target, sizeof(target) - 1);
		target[len > 0 ? len : 0] = '\0';
		is_found = is_found || (entries[i]->d_name[0] != '.' && strcmp(target, link) == 0);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	return is_found;
}

/* Is the Ith request in the spool that was left? */
static bool is_in_spool(unsigned i)
{
	char dir[160], name[512], *text;
	struct dirent **entries;
	struct error err;
	bool is_found = false;
	size_t len;
	int n;

	snprintf(dir, sizeof(dir), "%s/state/spool", t.left);
	n = scandir(dir, &entries, NULL, NULL);
	for (int k = 0; k < n; k++) {
		snprintf(name, sizeof(name), "%s/%s", dir, entries[k]->d_name);
		if (spool_name_parse(entries[k]->d_name, NULL)) {
			assert_int_equal(read_file(name, 65536, &text, &len, &err), 0);
			is_found = is_found || strcmp(text, request_of(i)) == 0;
			free(text);
		}
		free(entries[k]);
	}
	if (n >= 0)
		free(entries);
	return is_found;
}

/* The sweep takes for true what a link says. */
static void check_links(const struct place *place)
{
	for (size_t k = 0; k < place->list.n_entries; k++) {
		const struct roots_entry *entry = &place->list.entries[k];
		bool is_known = strcmp(entry->path, OLD_PATH) == 0;

		for (unsigned i = 0; i < N_OBJECTS; i++)
			is_known = is_known || strcmp(entry->path, paths[i]) == 0;
		if (!is_known)
			fail_msg("%s leads to %s", entry->name, entry->path);
	}
}

/* There were roots long before: of the first path, and one by the second's name that leads elsewhere. */
static void check_old_roots(const struct place *place)
{
	bool has_second = false;

	assert_true(has_root(place, paths[0]));
	for (size_t k = 0; k < place->list.n_entries; k++)
		has_second =
			has_second || strcmp(place->list.entries[k].name, store_path_base(paths[1])) == 0;
	assert_true(has_second);
}

/* What was promised is found: in the spool, or by its row, of which a lost root is made again. */
static void check_roots(void)
{
	struct place place;

	for (unsigned i = 0; i < N_OBJECTS; i++)
		assert_true(!r.is_spooled[i] || r.is_queued[i] || is_in_spool(i));
	open_place(&place, t.left);
	list_place(&place);
	check_links(&place);
	check_old_roots(&place);
	for (unsigned i = 0; i < N_OBJECTS; i++)
		if (r.is_queued[i])
			add_root(&place, paths[i]);
	list_place(&place);
	for (unsigned i = 0; i < N_OBJECTS; i++) {
		assert_true(!r.is_queued[i] || has_root(&place, paths[i]));
		assert_true(!r.is_queued[i] || !r.is_indirect || is_registered(&place, paths[i]));
	}
	close_place(&place);
}

static void on_root_point(void)
{
	cut(check_roots);
}

/* The hook, while no daemon answers. */
static void hand_over(const struct place *place, unsigned i)
{
	const char *path = paths[i];
	const struct request request = { .paths = &path, .n_paths = 1 };
	struct own_roots own;
	char spool[128];
	struct error err;

	assert_true(own_roots_make(&own, roots_dir(place->roots), &request));
	own_roots_fini(&own);
	snprintf(spool, sizeof(spool), "%s/state/spool", t.top);
	assert_int_equal(spool_write(spool, request_of(i), strlen(request_of(i)), &err), 0);
	r.is_spooled[i] = true;
	cut(check_roots);
}

static void remove_oldest_request(void)
{
	char dir[128], name[512];
	struct dirent **entries;
	bool is_removed = false;
	int n;

	snprintf(dir, sizeof(dir), "%s/state/spool", t.top);
	n = scandir(dir, &entries, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "%s/%s", dir, entries[i]->d_name);
		if (!is_removed && spool_name_parse(entries[i]->d_name, NULL))
			is_removed = unlink(name) == 0;
		free(entries[i]);
	}
	free(entries);
	assert_true(is_removed);
}

/* The daemon: the row is committed, its root made; then the file goes, and the hook's root. */
static void take_in(struct place *place, unsigned i)
{
	r.is_queued[i] = true;
	cut(check_roots);
	add_root(place, paths[i]);
	remove_oldest_request();
	list_place(place);
	for (size_t k = 0; k < place->list.n_entries; k++)
		if (!place->list.entries[k].is_ours && strcmp(place->list.entries[k].path, paths[i]) == 0)
			roots_remove_name(place->roots, place->list.entries[k].name);
}

static void make_old_roots(const char *dir)
{
	char name[256];

	snprintf(name, sizeof(name), "%s/%s", dir, store_path_base(paths[0]));
	assert_int_equal(symlink(paths[0], name), 0);
	snprintf(name, sizeof(name), "%s/%s", dir, store_path_base(paths[1]));
	assert_int_equal(symlink(OLD_PATH, name), 0);
}

static void hand_over_and_take_in(bool is_indirect)
{
	struct place place;
	char dir[128];
	struct error err;

	memset(&r, 0, sizeof(r));
	r.is_indirect = is_indirect;
	name_paths();
	snprintf(dir, sizeof(dir), "%s/state/spool", t.top);
	assert_int_equal(make_dir(dir, 0700, true, &err), 0);
	snprintf(dir, sizeof(dir), "%s/nix/gcroots", t.top);
	assert_int_equal(make_dir(dir, 0755, true, &err), 0);
	open_place(&place, t.top);
	make_old_roots(roots_dir(place.roots));
	crash_files_begin(t.top);
	crash_files_watch(on_root_point);
	for (unsigned i = 0; i < N_OBJECTS; i++)
		hand_over(&place, i);
	for (unsigned i = 0; i < N_OBJECTS; i++)
		take_in(&place, i);
	close_place(&place);
	assert_true(t.n_points > N_OBJECTS * 10);
}

static void what_a_hook_kept_is_found_after_a_power_cut_and_its_root_made_again(void **state)
{
	(void)state;
	hand_over_and_take_in(false);
}

static void it_is_so_where_roots_have_to_be_registered(void **state)
{
	(void)state;
	hand_over_and_take_in(true);
}

/* ---- a cache in a directory -------------------------------------------------------------------------- */

static char nar_keys[N_OBJECTS][32];
static struct path_info infos[N_OBJECTS];
static struct backend_object objects[N_OBJECTS];
static struct buf texts[N_OBJECTS];

static const char *nar_of(unsigned i)
{
	static char bytes[600];

	snprintf(bytes, sizeof(bytes), "%0*u", 500 + (int)i, i);
	return bytes;
}

static void make_objects(void)
{
	struct error err;

	name_paths();
	for (unsigned i = 0; i < N_OBJECTS; i++) {
		struct narinfo_file file = { .url = nar_keys[i],
			                     .compression = "none",
			                     .file_size = 500 + i };

		snprintf(nar_keys[i], sizeof(nar_keys[i]), "nar/%u.nar", i);
		infos[i] = (struct path_info){ .path = paths[i], .nar_size = 500 + i };
		objects[i] = (struct backend_object){ .info = &infos[i],
			                              .nar_key = nar_keys[i],
			                              .compression = "none" };
		buf_init(&texts[i], 4096);
		assert_int_equal(narinfo_format(&texts[i], &infos[i], &file, &err), 0);
	}
}

static void free_objects(void)
{
	for (unsigned i = 0; i < N_OBJECTS; i++)
		buf_fini(&texts[i]);
}

static void check_cache(void)
{
	char name[160], key[NARINFO_KEY_SIZE];

	for (unsigned i = 0; i < N_OBJECTS; i++) {
		bool has_nar, has_info;

		snprintf(name, sizeof(name), "cache/%s", nar_keys[i]);
		has_nar = is_left(name, nar_of(i), strlen(nar_of(i)));
		snprintf(name, sizeof(name), "cache/%s", format_narinfo_key(key, paths[i]));
		has_info = is_left(name, texts[i].data, texts[i].len);
		if (has_info && !has_nar)
			fail_msg("the narinfo of %u is left, and not its NAR", i);
		if ((t.has_nar[i] && !has_nar) || (t.has_info[i] && !has_info))
			fail_msg("the cache said it had taken %u", i);
	}
}

static void on_cache_point(void)
{
	cut(t.check);
}

static void on_op(struct backend_op *op)
{
	assert_int_equal(op->err.kind, ERROR_NONE);
	t.is_done = true;
}

static int64_t turns_left; /* until the process is killed; negative: it lives */

/* Returns whether OP came to its end. */
static bool run(void)
{
	while (!t.is_done && turns_left != 0) {
		fake_loop_turn();
		turns_left--;
	}
	if (!t.is_done)
		return false;
	t.is_done = false;
	return true;
}

static struct body *body_of(unsigned i)
{
	struct body_reserve reserve;
	struct error err;

	body_reserve_start(t.pool, &reserve, 1000, NULL);
	loop_unpost(&t.loop, &reserve.post);
	assert_int_equal(body_append(reserve.body, nar_of(i), strlen(nar_of(i)), &err), 0);
	body_end(reserve.body);
	return reserve.body;
}

static bool put(struct backend_op *op, unsigned i)
{
	const struct backend_ops *ops = t.backend->ops;
	struct body *body = body_of(i);

	*op = (struct backend_op){ .done = on_op };
	ops->find_info_start(t.backend, op, paths[i]);
	if (!run() || op->found)
		return t.has_info[i] = op->found;
	ops->find_nar_start(t.backend, op, &objects[i]);
	if (!run())
		return false;
	if (!op->found)
		ops->put_nar_start(t.backend, op, &objects[i], body);
	if (!op->found && !run())
		return false;
	t.has_nar[i] = true;
	body_unref(body);
	cut(t.check);
	ops->put_info_start(t.backend, op, &objects[i], texts[i].data, texts[i].len);
	if (!run())
		return false;
	t.has_info[i] = true;
	cut(t.check);
	return true;
}

/* One life of the daemon, as long as TURNS. */
static bool live(int64_t turns)
{
	struct backend_op *op = calloc(1, sizeof(*op)); /* what is under way when it is killed stays */
	char url[160];
	struct error err;
	bool ended;

	turns_left = turns;
	t.is_done = false;
	assert_int_equal(loop_init(&t.loop, &err), 0);
	assert_int_equal(body_pool_open(&t.pool, &t.loop, MIB(16), t.dir, MIB(16), &err), 0);
	snprintf(url, sizeof(url), "file://%s/cache", t.top);
	assert_int_equal(file_backend_open(&t.backend, &t.loop, url, STORE_DIR, &err), 0);
	op->done = on_op;
	t.backend->ops->prepare_start(t.backend, op);
	ended = run();
	for (unsigned i = 0; ended && i < N_OBJECTS; i++)
		ended = put(op, i);
	fake_loop_forget();
	return ended;
}

/* Killed after so many turns, started again, and the power goes in the second life. */
static void outlive_power_cuts(void)
{
	bool ended = false;

	make_objects();
	for (int64_t turns = 1; !ended; turns++) {
		struct error err;

		remove_dir(t.top);
		assert_int_equal(make_dir(t.top, 0755, false, &err), 0);
		crash_files_begin(t.top);
		crash_files_watch(on_cache_point);
		t.check = check_cache;
		memset(t.has_nar, 0, sizeof(t.has_nar));
		memset(t.has_info, 0, sizeof(t.has_info));
		ended = live(turns);
		if (!ended)
			assert_true(live(-1));
		crash_files_watch(NULL);
	}
	free_objects();
	assert_true(t.n_points > 100);
}

/* ---- what somebody else wrote there ---------------------------------------------------------------------
 */

enum { FOREIGN_NAR, FOREIGN_INFO, FOREIGN_NAR_OF_A_PUT };

/* As nix copy does: whole, and without a single fsync. */
static void write_foreign(const char *name, const char *bytes, size_t n)
{
	char temp[160], path[160];
	int fd;

	snprintf(temp, sizeof(temp), "%s/cache/.foreign", t.top);
	snprintf(path, sizeof(path), "%s/cache/%s", t.top, name);
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write_full(fd, bytes, n), 0);
	close(fd);
	assert_int_equal(rename(temp, path), 0);
}

/* Whatever was found is durable, and so is what a narinfo of ours names. */
static void check_foreign(void)
{
	char name[160], key[NARINFO_KEY_SIZE], path[256];

	for (unsigned i = 0; i < N_OBJECTS; i++) {
		bool has_info = t.has_info[i];

		snprintf(name, sizeof(name), "cache/%s", format_narinfo_key(key, paths[i]));
		snprintf(path, sizeof(path), "%s/%s", t.left, name);
		if (i != FOREIGN_INFO && access(path, F_OK) == 0)
			has_info = true;
		if (has_info && !is_left(name, texts[i].data, texts[i].len))
			fail_msg("the cache said that the narinfo of %u was there", i);
		snprintf(name, sizeof(name), "cache/%s", nar_keys[i]);
		if ((has_info || t.has_nar[i]) && !is_left(name, nar_of(i), strlen(nar_of(i))))
			fail_msg("the NAR of %u is not left", i);
	}
}

static void what_somebody_else_wrote_is_durable_once_it_is_found(void **state)
{
	struct backend_op op = { .done = on_op };
	char key[NARINFO_KEY_SIZE], url[160];
	struct body *body;
	struct error err;
	(void)state;

	make_objects();
	turns_left = -1;
	assert_int_equal(loop_init(&t.loop, &err), 0);
	assert_int_equal(body_pool_open(&t.pool, &t.loop, MIB(16), t.dir, MIB(16), &err), 0);
	snprintf(url, sizeof(url), "file://%s/cache", t.top);
	assert_int_equal(file_backend_open(&t.backend, &t.loop, url, STORE_DIR, &err), 0);
	t.backend->ops->prepare_start(t.backend, &op);
	assert_true(run());
	for (unsigned i = 0; i < N_OBJECTS; i++)
		write_foreign(nar_keys[i], nar_of(i), strlen(nar_of(i)));
	write_foreign(format_narinfo_key(key, paths[FOREIGN_INFO]), texts[FOREIGN_INFO].data,
	              texts[FOREIGN_INFO].len);
	t.check = check_foreign;
	crash_files_watch(on_cache_point);

	op = (struct backend_op){ .done = on_op };
	t.backend->ops->find_info_start(t.backend, &op, paths[FOREIGN_INFO]);
	assert_true(run() && op.found);
	t.has_info[FOREIGN_INFO] = true;
	cut(check_foreign);
	assert_true(put(&op, FOREIGN_NAR));
	op = (struct backend_op){ .done = on_op };
	body = body_of(FOREIGN_NAR_OF_A_PUT);
	t.backend->ops->put_nar_start(t.backend, &op, &objects[FOREIGN_NAR_OF_A_PUT], body);
	assert_true(run() && op.found);
	body_unref(body);
	t.has_nar[FOREIGN_NAR_OF_A_PUT] = true;
	cut(check_foreign);
	free_objects();
}

/* ---- a damaged queue --------------------------------------------------------------------------------- */

/* What had been done when the daemon was killed, for the last time before the power goes. */
enum aside_start {
	ASIDE_UNMARKED,
	ASIDE_MARKED,  /* and the mark not synced */
	ASIDE_RENAMED, /* the first of the files */
	ASIDE_N_STARTS,
};

#define MARK "queue.db.damaged"
/* Times of the mark, in seconds, and in the name. */
#define MARKED_UNIX_S 1700000000
#define FIRST         MARK "-20231114T221320Z"
#define SECOND        MARK "-20231114T221321Z"

static struct {
	bool has_older; /* another was set aside in the same second */
	bool is_marked; /* promised */
	bool is_over;
} a;

static void write_in_state(const char *name, const char *text)
{
	char file[160];
	int fd;

	snprintf(file, sizeof(file), "%s/state/%s", t.top, name);
	fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write_full(fd, text, strlen(text)), 0);
	assert_int_equal(fsync(fd), 0);
	close(fd);
}

/* Does the file NAME of the state directory that was left say TEXT? */
static bool says(const char *name, const char *text)
{
	char file[160], *found = NULL;
	struct error err;
	bool ret;

	snprintf(file, sizeof(file), "%s/state/%s", t.left, name);
	ret = access(file, F_OK) == 0 && read_file(file, 100, &found, NULL, &err) == 0 &&
	      strcmp(found, text) == 0;
	free(found);
	return ret;
}

/* The file is opened by its name, and SQLite takes the log that lies beside it for its own. */
static void check_what_is_opened(void)
{
	if (says("queue.db", "old"))
		assert_true(says("queue.db-wal", "old log") && !a.is_marked);
	else
		assert_false(says("queue.db-wal", "old log"));
}

static bool is_aside(const char *name)
{
	char wal[128];

	snprintf(wal, sizeof(wal), "%.100s-wal", name);
	return says(name, "old") && says(wal, "old log");
}

/* The next start. A mark that was not synced can have any time. */
static void check_aside(void)
{
	const char *name = a.has_older ? SECOND : FIRST;
	char path[160], ret[ASIDE_PATH_SIZE] = "";
	struct error err;

	snprintf(path, sizeof(path), "%s/state/queue.db", t.left);
	if (aside_is_marked(path))
		assert_int_equal(aside_move(path, ret, &err), 0);
	assert_false(aside_is_marked(path));
	check_what_is_opened();
	assert_true(says("queue.db", "old") || is_aside(name) ||
	            (*ret != '\0' && is_aside(strrchr(ret, '/') + 1)));
	assert_true(!a.has_older || (says(FIRST, "older") && says(FIRST "-wal", "older log")));
	assert_true(!a.is_over || is_aside(name));
}

static void on_aside_point(void)
{
	cut(check_aside);
}

static void make_mark(void)
{
	static const struct timespec when[2] = { { .tv_sec = MARKED_UNIX_S }, { .tv_sec = MARKED_UNIX_S } };
	char mark[160];
	int fd;

	snprintf(mark, sizeof(mark), "%s/state/" MARK, t.top);
	fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(futimens(fd, when), 0);
	close(fd);
}

static void set_aside(enum aside_start start)
{
	char dir[128], path[160], to[192], ret[ASIDE_PATH_SIZE];
	struct error err;

	snprintf(dir, sizeof(dir), "%s/state", t.top);
	snprintf(path, sizeof(path), "%s/queue.db", dir);
	assert_int_equal(make_dir(dir, 0700, false, &err), 0);
	write_in_state("queue.db", "old");
	write_in_state("queue.db-wal", "old log");
	write_in_state("queue.db-shm", "");
	if (a.has_older) {
		write_in_state(FIRST, "older");
		write_in_state(FIRST "-wal", "older log");
	}
	if (start == ASIDE_RENAMED)
		make_mark();
	crash_files_begin(t.top);
	crash_files_watch(on_aside_point);
	if (start == ASIDE_RENAMED) {
		snprintf(ret, sizeof(ret), "%s-wal", path);
		snprintf(to, sizeof(to), "%s/%s-wal", dir, a.has_older ? SECOND : FIRST);
		assert_int_equal(rename(ret, to), 0);
	} else {
		make_mark();
	}
	if (start == ASIDE_UNMARKED)
		assert_int_equal(aside_mark(path, &err), 0);
	a.is_marked = start != ASIDE_MARKED;
	assert_int_equal(aside_move(path, ret, &err), 0);
	a.is_over = true;
	write_in_state("queue.db", "new");
	write_in_state("queue.db-wal", "new log");
	assert_int_equal(fsync_dir(dir, &err), 0);
	crash_files_watch(NULL);
}

static void a_damaged_queue_is_set_aside_with_its_log_however_often_the_power_goes(void **state)
{
	struct error err;
	(void)state;

	for (unsigned i = 0; i < 2 * 2 * ASIDE_N_STARTS * 20; i++) {
		remove_dir(t.top);
		assert_int_equal(make_dir(t.top, 0755, false, &err), 0);
		memset(&a, 0, sizeof(a));
		a.has_older = i % 2 != 0;
		crash_files_lacks = (struct crash_files_lacks){ .order = i / 2 % 2 != 0 };
		set_aside(i / 4 % ASIDE_N_STARTS);
	}
	crash_files_lacks = (struct crash_files_lacks){ 0 };
	assert_true(t.n_points > 100);
}

static void a_cache_in_a_directory_outlives_a_power_cut(void **state)
{
	(void)state;
	crash_files_lacks = (struct crash_files_lacks){ 0 };
	outlive_power_cuts();
}

static void it_does_so_where_files_cannot_be_nameless(void **state)
{
	(void)state;
	crash_files_lacks = (struct crash_files_lacks){ .nameless_files = true };
	outlive_power_cuts();
	crash_files_lacks = (struct crash_files_lacks){ .nameless_files = true, .exclusive_rename = true };
	outlive_power_cuts();
	crash_files_lacks = (struct crash_files_lacks){ 0 };
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(what_a_hook_spooled_outlives_a_power_cut),
		TEST(what_a_hook_kept_is_found_after_a_power_cut_and_its_root_made_again),
		TEST(it_is_so_where_roots_have_to_be_registered),
		TEST(a_cache_in_a_directory_outlives_a_power_cut),
		TEST(it_does_so_where_files_cannot_be_nameless),
		TEST(what_somebody_else_wrote_is_durable_once_it_is_found),
		TEST(a_damaged_queue_is_set_aside_with_its_log_however_often_the_power_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
