#include "tests/sim/world.h"

#include <assert.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/plan/clocks.h"
#include "tests/sim/chance.h"
#include "tests/sim/fake_cache.h"
#include "tests/sim/fake_loop.h"
#include "tests/sim/fake_parts.h"
#include "tests/sim/fake_store.h"
#include "tests/sim/hooks.h"
#include "tests/sim/life.h"
#include "tests/sim/operator.h"
#include "tests/sim/verify.h"
#include "tests/support/crash_vfs.h"

#define HOUR_MS       (3600 * 1000ull)
#define HEALED_FOR_MS (24 * HOUR_MS) /* then all must be done */
#define REMADE_MS     400000
#define FIRST_FD      3
#define STARTS_MAX    20 /* with a damaged queue */

enum death { DEATH_NONE, DEATH_KILL, DEATH_POWER_CUT };

static struct {
	jmp_buf top;
	enum death death;   /* just died so */
	int64_t steps_left; /* of this life; negative: as many as it likes */
	unsigned lives_left, n_starts;
	bool is_healed, is_over;
	bool is_full, was_full; /* the disk; and when this life began */
	bool loses;             /* caches do; then the clock does not jump, and presence is sure to run out */
	bool boots;             /* after a power cut, the daemon before the collector */
	uint64_t healed_ms, well_since_ms;
	const struct world_cut *cut; /* NULL: everything is left to chance */
	bool is_buried;              /* one that died already */
	bool is_damaged;             /* the queue's file, which was not set aside yet */
	struct fake_event start, stop, heal, gc, trouble;
} w;

/* ---- death ------------------------------------------------------------------------------------------- */

static _Noreturn void die(enum death death)
{
	w.death = death;
	longjmp(w.top, 1);
}

static void between(void)
{
	if (w.steps_left >= 0 && w.steps_left-- == 0 && life.queue != NULL)
		die(chance_one_in(2) ? DEATH_KILL : DEATH_POWER_CUT);
}

static void at_point(enum crash_vfs_point point)
{
	if (w.cut != NULL && point != CRASH_BEFORE_WRITE && !w.is_buried && ++*w.cut->n_points == w.cut->at)
		die(DEATH_POWER_CUT);
	if (w.steps_left >= 0 && w.steps_left-- == 0)
		die(chance_one_in(2) ? DEATH_KILL : DEATH_POWER_CUT);
}

static void note_set_aside(void)
{
	trace("the queue is set aside");
	if (!w.is_damaged)
		violated("I1", "the queue is taken for damaged and set aside");
	w.is_damaged = false;
	hooks_lose_queue();
	fake_parts_lose();
}

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
/* The queue's files are in two places: their names, and what SQLite has in them. */
int __wrap_rename(const char *from, const char *to)
{
	bool is_queue = strncmp(from, life_queue_path, strlen(life_queue_path)) == 0;
	int rc;

	if (is_queue)
		at_point(CRASH_BEFORE_WRITE);
	rc = __real_rename(from, to);
	if (is_queue && crash_vfs_rename(from, to))
		rc = 0;
	if (rc == 0 && strcmp(from, life_queue_path) == 0)
		note_set_aside();
	return rc;
}

void world_on_fatal(const struct error *err)
{
	trace("fatal: %s", err->text);
	die(DEATH_KILL);
}

static void on_start(struct fake_event *event);

static void start_in(uint64_t delay_ms)
{
	if (!w.start.is_set)
		fake_event_in(&w.start, delay_ms, on_start);
}

/* What is in the log goes into the file, so that damage there is not covered up. */
static void write_back(void)
{
	sqlite3 *db = NULL;

	if (sqlite3_open(life_queue_path, &db) == SQLITE_OK)
		sqlite3_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL);
	sqlite3_close(db);
	crash_vfs_kill();
}

/* By what SQLite itself says of the file and what it takes of the log. */
static bool is_whole(void)
{
	sqlite3 *db = NULL;
	sqlite3_stmt *st = NULL;
	bool ret = sqlite3_open(life_queue_path, &db) == SQLITE_OK &&
	           sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL) == SQLITE_OK &&
	           sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &st, NULL) == SQLITE_OK &&
	           sqlite3_step(st) == SQLITE_ROW &&
	           strcmp((const char *)sqlite3_column_text(st, 0), "ok") == 0;

	sqlite3_finalize(st);
	sqlite3_close(db);
	crash_vfs_kill();
	return ret;
}

/* The disk loses the queue's files, or what is in them is not what was written. */
static void lose_queue(void)
{
	static const char *const names[] = { "the header", "a page", "the rest", "the end" };
	enum crash_vfs_damage how = chance_below(CRASH_N_DAMAGES);
	char wal[sizeof(life_queue_path) + 4], mark[sizeof(life_queue_path) + 8];

	snprintf(wal, sizeof(wal), "%s-wal", life_queue_path);
	snprintf(mark, sizeof(mark), "%s.damaged", life_queue_path);
	if (chance_one_in(3)) {
		trace("the queue's files are gone");
		crash_vfs_lose(life_queue_path);
		unlink(life_queue_path);
		unlink(mark);
		w.is_damaged = false;
	} else if (chance_one_in(3)) {
		trace("%s of the queue's log is damaged", names[how]);
		crash_vfs_damage(wal, how);
		/* Killed while the log was written back, the file needs what the log had. */
		w.is_damaged = w.is_damaged || !is_whole();
	} else {
		trace("%s of the queue is damaged", names[how]);
		write_back();
		crash_vfs_damage(life_queue_path, how);
		w.is_damaged = true;
	}
	hooks_lose_queue();
	fake_parts_lose();
}

/* What is left of a life that has ended without its will. */
static void bury(void)
{
	trace(w.death == DEATH_KILL ? "dies" : "loses its power");
	w.is_buried = true;
	fake_cache_cut_off();
	life_forget();
	close_range(FIRST_FD, ~0U, 0);
	w.steps_left = -1;
	operator_hang_up();
	if (w.death == DEATH_KILL) {
		crash_vfs_kill();
		hooks_hang_up();
	} else {
		crash_vfs_power_cut(w.cut != NULL ? w.cut->loses_all : chance_one_in(3));
		hooks_power_cut();
		fake_root_power_cut();
		spool_power_cut();
		hooks_lose_roots();
		w.boots = true;
	}
	w.death = DEATH_NONE;
	if (w.cut == NULL && !w.is_healed && !w.is_full && chance_one_in(8))
		lose_queue();
	if (!w.is_damaged)
		verify_queue_file();
	start_in(1 + chance_below(chance_one_in(4) ? 60000 : 500));
}

static void choose_end(void)
{
	w.steps_left = -1;
	if (w.lives_left == 0)
		return;
	w.lives_left--;
	if (!chance_one_in(5))
		w.steps_left = chance_below(chance_one_in(2) ? 100 : chance_one_in(2) ? 600 : 4000);
}

/* What a reload finds: mostly what was there before. */
static void reconfigure(void)
{
	bool lacks_last = life.config.n_caches < life.n_caches, is_renamed = chance_one_in(8);

	if (w.is_healed || chance_one_in(2))
		lacks_last = false;
	else if (w.cut == NULL && life.n_caches > 1 && chance_one_in(4))
		lacks_last = true;
	life_reconfigure(lacks_last, is_renamed);
	if (lacks_last)
		hooks_lose_cache(life.n_caches - 1);
}

static void on_start(struct fake_event *event)
{
	struct error err;
	(void)event;

	if (life.queue != NULL)
		return;
	if (w.is_healed && w.is_damaged && ++w.n_starts > STARTS_MAX)
		violated("I4", "a damaged queue is not set aside, however often the daemon starts");
	choose_end();
	w.was_full = w.is_full;
	reconfigure();
	if (life_open(&err) < 0) {
		trace("cannot start: %s", err.text);
		if (w.is_healed && !w.is_damaged)
			violated("I4", "the daemon does not start: %s", err.text);
		die(DEATH_KILL);
	}
}

/* ---- trouble ----------------------------------------------------------------------------------------- */

static void trouble_with_a_cache(void)
{
	struct cache_faults *faults = &cache_faults[chance_below(CACHES_MAX + 1)];
	static const enum error_kind kinds[] = { ERROR_TRANSIENT, ERROR_OPERATOR };

	switch (chance_below(w.loses ? 9 : 7)) {
	case 7:
	case 8:
		fake_cache_lose(chance_below(life.n_caches), chance_below(store_model.n_paths));
		break;
	case 0:
		faults->fail_one_in = 2 + chance_below(8);
		faults->lose_one_in = 1 + chance_below(4);
		break;
	case 1:
		faults->deny_one_in = 2 + chance_below(4);
		break;
	case 2:
		faults->slow_one_in = 2 + chance_below(8);
		break;
	case 3:
		faults->twin_one_in = 2 + chance_below(4);
		break;
	case 4:
		faults->down_kind = kinds[chance_below(2)];
		faults->down_until_ms = fake_now_ms() + chance_below(chance_one_in(2) ? 10000 : 1000000);
		break;
	case 5:
		faults->refuses[chance_below(store_model.n_paths)] = true;
		break;
	case 6:
		*faults = (struct cache_faults){ 0 };
		break;
	}
}

static void damage(unsigned path)
{
	if (store_model.paths[path].is_valid)
		store_model.paths[path].is_damaged = true;
}

static void step_clock(void)
{
	int64_t by_s = (int64_t)chance_below(20000) - 10000;

	trace("the clock is set by %lld s", (long long)by_s);
	fake_clock_step_s(by_s);
	verify_unmoved();
	if (by_s > CLOCKS_JUMP_MS / 1000 || by_s < -CLOCKS_JUMP_MS / 1000)
		verify_moved();
}

static void sleep_a_while(void)
{
	unsigned for_s = 2 + chance_below(chance_one_in(2) ? 60 : 20000);

	trace("the machine sleeps for %u s", for_s);
	fake_clock_sleep_s(for_s);
	verify_moved();
}

static void on_trouble(struct fake_event *event)
{
	switch (chance_below(12)) {
	case 0:
		store_model.fail_one_in = chance_below(5);
		break;
	case 10:
		store_model.unroot_one_in = chance_one_in(2) ? 1 + chance_below(4) : 0;
		break;
	case 1:
		damage(chance_below(store_model.n_paths));
		break;
	case 2:
		w.is_full = chance_one_in(2);
		w.was_full = w.was_full || (w.is_full && !life.is_ready);
		crash_vfs_set_full(w.is_full);
		break;
	case 3:
		if (chance_one_in(4))
			crash_vfs_fail_sync();
		break;
	case 4:
		if (chance_one_in(4) && !w.loses)
			step_clock();
		break;
	case 11:
		sleep_a_while();
		break;
	case 5:
	case 6:
		operator_does(life.queue);
		break;
	default:
		trouble_with_a_cache();
		break;
	}
	fake_event_in(event, 1 + chance_below(chance_one_in(3) ? 100000 : 300), on_trouble);
}

static void on_gc(struct fake_event *event)
{
	bool deleted[STORE_PATHS_MAX];

	/* What the power took of the roots is made again at start, or after a while where it could not. */
	if (!life.is_ready || (w.was_full && w.is_full))
		w.well_since_ms = fake_now_ms();
	w.boots = w.boots && (!life.is_ready || (w.was_full && fake_now_ms() - w.well_since_ms < REMADE_MS));
	if (!w.boots) {
		fake_store_collect(deleted);
		verify_deleted(deleted);
	}
	fake_event_in(event, 1 + chance_below(chance_one_in(2) ? 1000 : 100000), on_gc);
}

static void on_stop(struct fake_event *event)
{
	(void)event;
	if (life.is_ready && !life.is_closing) {
		if (w.cut == NULL && w.steps_left < 0 && chance_one_in(2))
			w.steps_left = chance_below(200);
		life_close();
	}
}

/* ---- the end ----------------------------------------------------------------------------------------- */

static void on_heal(struct fake_event *event)
{
	if (!hooks_are_done()) {
		fake_event_in(event, 1000, on_heal);
		return;
	}
	trace("healed");
	w.is_healed = true;
	w.lives_left = 0;
	w.steps_left = -1;
	w.healed_ms = fake_now_ms();
	fake_event_take_back(&w.trouble);
	fake_cache_heal();
	crash_vfs_heal();
	w.is_full = false;
	store_model.fail_one_in = store_model.unroot_one_in = 0;
	for (unsigned i = 0; i < store_model.n_paths; i++)
		store_model.paths[i].is_damaged = false;
	fake_store_build_again();
	operator_heals();
	if (life.queue == NULL)
		start_in(1);
}

static void look(void)
{
	if (life.queue == NULL && !w.start.is_set && !w.is_over) {
		fake_loop_forget();
		if (!w.is_damaged)
			verify_queue_file();
		w.boots = false;
		start_in(1 + chance_below(2000));
	}
	if (!w.is_healed || !fake_loop_is_idle())
		return;
	if (life.is_ready && !life.is_closing && life.config.n_caches < life.n_caches) {
		life_close();
	} else if (life.is_ready && !life.is_closing && verify_is_done()) {
		trace("all is done");
		w.is_over = true;
		life_close();
	} else if (life.is_ready && fake_now_ms() - w.healed_ms > HEALED_FOR_MS) {
		verify_stuck();
	}
}

static void make_dirs(const char *dir)
{
	snprintf(life_state_dir, sizeof(life_state_dir), "%s/state", dir);
	snprintf(life_spool_dir, sizeof(life_spool_dir), "%s/spool", life_state_dir);
	snprintf(life_queue_path, sizeof(life_queue_path), "%s/queue.db", life_state_dir);
	mkdir(life_state_dir, 0700);
	mkdir(life_spool_dir, 0700);
}

static void begin(void)
{
	bool has_upstream = chance_one_in(2);
	static const uint64_t lengths_ms[] = { 3000, 3000, 200000, 2000000 };
	uint64_t lasts_ms = lengths_ms[chance_below(4)];

	bool has_big = chance_one_in(6);

	fake_store_init(3 + chance_below(chance_one_in(4) ? STORE_BUILT_MAX - 3 : 10), has_big);
	fake_cache_init(has_upstream);
	life_configure(1 + chance_below(chance_one_in(3) ? CACHES_MAX : 1), has_upstream, has_big);
	hooks_init(1 + chance_below(chance_one_in(3) ? 16 : 6), lasts_ms);
	w.loses = chance_one_in(4);
	w.lives_left = w.cut != NULL ? 0 : chance_below(6);
	fake_loop_between(between);
	crash_vfs_watch(at_point);
	start_in(chance_below(1000));
	fake_event_in(&w.gc, chance_below(1000), on_gc);
	fake_event_in(&w.heal, lasts_ms, on_heal);
	if (!chance_one_in(5) && w.cut == NULL)
		fake_event_in(&w.trouble, chance_below(500), on_trouble);
	if (chance_one_in(3) || w.cut != NULL)
		fake_event_in(&w.stop, chance_below((unsigned)lasts_ms), on_stop);
	w.steps_left = -1;
}

void world_run(const char *dir)
{
	make_dirs(dir);
	crash_vfs_register(chance_bits);
	begin();
	if (setjmp(w.top) != 0)
		bury();
	while (!w.is_over || life.queue != NULL) {
		fake_loop_turn();
		verify_turn();
		look();
	}
	if (!w.is_damaged)
		verify_queue_file();
	verify_end();
}

void world_run_cut(const char *dir, const struct world_cut *cut)
{
	w.cut = cut;
	*cut->n_points = 0;
	world_run(dir);
}
