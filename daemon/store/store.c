#include "daemon/store/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "daemon/loop/timer.h"
#include "daemon/store/job.h"
#include "daemon/store/place.h"
#include "daemon/store/texts.h"

#define N_THREADS   2
#define TIMEOUT_MS  30000
#define KEEP_FOR_MS 2000

struct store {
	struct place place;
	struct lane *lane;
	struct timer idle; /* set while no job runs and a connection may be kept */
	size_t n_jobs;
	atomic_bool closing;
	lane_closed_fn closed;
	void *closed_ctx;

	pthread_mutex_t lock; /* guards what follows */
	struct worker *kept[N_THREADS];
	size_t n_kept;
};

/* --- Connections. --- */

static struct worker *take_kept(struct store *store)
{
	struct worker *worker = NULL;

	pthread_mutex_lock(&store->lock);
	if (store->n_kept > 0)
		worker = store->kept[--store->n_kept];
	pthread_mutex_unlock(&store->lock);
	return worker;
}

static void keep(struct store *store, struct worker *worker)
{
	pthread_mutex_lock(&store->lock);
	if (worker_is_reusable(worker) && store->n_kept < N_THREADS) {
		store->kept[store->n_kept++] = worker;
		worker = NULL;
	}
	pthread_mutex_unlock(&store->lock);
	worker_close(worker);
}

static void close_kept(struct store *store)
{
	struct worker *worker;

	while ((worker = take_kept(store)) != NULL)
		worker_close(worker);
}

static void on_idle(struct timer *timer)
{
	close_kept(CONTAINER_OF(timer, struct store, idle));
}

static int check_open(struct store *store, struct error *err)
{
	if (atomic_load(&store->closing))
		return error_set(err, ERROR_CANCELED, "the store is being closed");
	return 0;
}

int store_ask_daemon(struct store *store, store_daemon_fn fn, void *ctx, struct error *err)
{
	if (store->place.socket == NULL)
		return error_set(err, ERROR_TRANSIENT, "a local store has no nix-daemon");
	for (;;) {
		struct worker *worker = take_kept(store);
		bool was_kept = worker != NULL, is_sound;
		int rc;

		if (check_open(store, err) < 0) {
			worker_close(worker);
			return -1;
		}
		if (!was_kept &&
		    worker_open(&worker, store->place.socket, store->place.store_dir, TIMEOUT_MS, err) < 0)
			return -1;
		rc = fn(worker, ctx, err);
		is_sound = worker_is_reusable(worker);
		keep(store, worker);
		/* A daemon that was restarted has forgotten the connections it had. */
		if (rc == 0 || !was_kept || is_sound)
			return rc;
	}
}

int store_ask_database(struct store *store, database_fn fn, void *ctx, struct error *err)
{
	if (check_open(store, err) < 0)
		return -1;
	return database_read(store->place.state_dir, store->place.store_dir, fn, ctx, err);
}

int store_ask(struct store *store, store_daemon_fn from_daemon, database_fn from_database, void *ctx,
              struct error *err)
{
	struct error daemon_err;

	if (store_ask_daemon(store, from_daemon, ctx, &daemon_err) == 0)
		return 0;
	if (store_ask_database(store, from_database, ctx, err) == 0)
		return 0;
	if (err->kind != ERROR_CANCELED)
		error_prefix(err, "%.250s; and without it", daemon_err.text);
	return -1;
}

/* --- Jobs. --- */

static void run_batch(void *ctx, unsigned thread, struct lane_job *batch)
{
	(void)ctx, (void)thread;

	for (; batch != NULL; batch = batch->next) {
		struct store_job *job = CONTAINER_OF(batch, struct store_job, lane);

		job->run(job);
	}
}

static void on_job_done(struct lane_job *lane_job)
{
	struct store_job *job = CONTAINER_OF(lane_job, struct store_job, lane);
	struct store *store = job->store;

	if (--store->n_jobs == 0 && !atomic_load(&store->closing))
		timer_set(&store->idle, KEEP_FOR_MS);
	job->finish(job);
}

void store_post(struct store *store, struct store_job *job, void (*run)(struct store_job *job),
                void (*finish)(struct store_job *job))
{
	job->store = store;
	job->run = run;
	job->finish = finish;
	store->n_jobs++;
	timer_stop(&store->idle);
	lane_post(store->lane, &job->lane, on_job_done);
}

/* --- Opening and closing. --- */

int store_open(struct store **ret, struct loop *loop, const char *uri, struct error *err)
{
	/* One job a batch, or one thread would take what two can share. */
	static const struct lane_ops ops = { .run_batch = run_batch };
	struct store *store = calloc(1, sizeof(*store));

	if (store == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	if (place_parse(&store->place, uri, err) < 0 ||
	    lane_open(&store->lane, loop, "store", N_THREADS, 1, &ops, store, err) < 0) {
		place_fini(&store->place);
		free(store);
		return -1;
	}
	pthread_mutex_init(&store->lock, NULL);
	timer_init(&store->idle, loop, on_idle);
	*ret = store;
	return 0;
}

static void on_timer_closed(struct timer *timer)
{
	struct store *store = CONTAINER_OF(timer, struct store, idle);
	lane_closed_fn closed = store->closed;
	void *ctx = store->closed_ctx;

	close_kept(store);
	pthread_mutex_destroy(&store->lock);
	place_fini(&store->place);
	free(store);
	if (closed != NULL)
		closed(ctx);
}

static void on_lane_closed(void *ctx)
{
	struct store *store = ctx;

	timer_close(&store->idle, on_timer_closed);
}

void store_close(struct store *store, lane_closed_fn closed, void *ctx)
{
	if (store == NULL)
		return;
	store->closed = closed;
	store->closed_ctx = ctx;
	atomic_store(&store->closing, true);
	timer_stop(&store->idle);
	lane_close(store->lane, on_lane_closed, store);
}

const char *store_dir(const struct store *store)
{
	return store->place.store_dir;
}

const char *store_real_dir(const struct store *store)
{
	return store->place.real_dir;
}

const char *store_state_dir(const struct store *store)
{
	return store->place.state_dir;
}

/* --- Path infos. --- */

struct info_walk {
	struct store_info_query *query;
	size_t n_done; /* told by the daemon; what is left the database may tell */
};

static int infos_from_daemon(struct worker *worker, void *ctx, struct error *err)
{
	struct info_walk *walk = ctx;
	struct store_info_query *query = walk->query;

	for (; walk->n_done < query->n_paths; walk->n_done++)
		if (worker_query_path_info(worker, query->paths[walk->n_done], &query->infos[walk->n_done],
		                           err) < 0)
			return -1;
	return 0;
}

static int infos_from_database(struct database *database, void *ctx, struct error *err)
{
	const struct info_walk *walk = ctx;
	const struct store_info_query *query = walk->query;

	for (size_t i = walk->n_done; i < query->n_paths; i++) {
		path_info_fini(&query->infos[i]);
		if (database_query_path_info(database, query->paths[i], &query->infos[i], err) < 0)
			return -1;
	}
	return 0;
}

static void run_info(struct store_job *job)
{
	struct store_info_query *query = CONTAINER_OF(job, struct store_info_query, job);
	struct info_walk walk = { .query = query };

	if (store_ask(job->store, infos_from_daemon, infos_from_database, &walk, &query->err) == 0)
		return;
	for (size_t i = 0; i < query->n_paths; i++)
		path_info_fini(&query->infos[i]);
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
	store_post(store, &query->job, run_info, finish_info);
}

/* --- Outputs. --- */

static int outputs_from_daemon(struct worker *worker, void *ctx, struct error *err)
{
	struct store_outputs_query *query = ctx;
	bool is_valid;
	char **known;
	size_t n_known;
	int rc = 0;

	if (worker_is_valid_path(worker, query->derivation, &is_valid, err) < 0)
		return -1;
	if (!is_valid)
		return 0;
	if (worker_query_outputs(worker, query->derivation, &known, &n_known, err) < 0)
		return -1;
	if (n_known > 0)
		rc = worker_query_valid_paths(worker, known, n_known, &query->outputs, &query->n_outputs,
		                              err);
	texts_free(known, n_known);
	return rc;
}

static int outputs_from_database(struct database *database, void *ctx, struct error *err)
{
	struct store_outputs_query *query = ctx;

	texts_free(query->outputs, query->n_outputs);
	query->outputs = NULL;
	query->n_outputs = 0;
	return database_query_outputs(database, query->derivation, &query->outputs, &query->n_outputs, err);
}

static void run_outputs(struct store_job *job)
{
	struct store_outputs_query *query = CONTAINER_OF(job, struct store_outputs_query, job);

	if (store_ask(job->store, outputs_from_daemon, outputs_from_database, query, &query->err) == 0)
		return;
	texts_free(query->outputs, query->n_outputs);
	query->outputs = NULL;
	query->n_outputs = 0;
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
	store_post(store, &query->job, run_outputs, finish_outputs);
}

/* --- What was built here. --- */

static int built_from_database(struct database *database, void *ctx, struct error *err)
{
	struct store_built_query *query = ctx;

	texts_free(query->paths, query->n_paths);
	query->paths = NULL;
	query->n_paths = 0;
	return database_query_built(database, query->since_unix_s, query->after_id, STORE_BUILT_PAGE,
	                            &query->paths, &query->n_paths, &query->last_id, err);
}

static void run_built(struct store_job *job)
{
	struct store_built_query *query = CONTAINER_OF(job, struct store_built_query, job);

	if (store_ask_database(job->store, built_from_database, query, &query->err) == 0)
		return;
	texts_free(query->paths, query->n_paths);
	query->paths = NULL;
	query->n_paths = 0;
}

static void finish_built(struct store_job *job)
{
	struct store_built_query *query = CONTAINER_OF(job, struct store_built_query, job);

	query->done(query);
}

void store_built_start(struct store *store, struct store_built_query *query, store_built_fn done)
{
	query->done = done;
	query->err = (struct error){ 0 };
	query->paths = NULL;
	query->n_paths = 0;
	query->last_id = query->after_id;
	store_post(store, &query->job, run_built, finish_built);
}
