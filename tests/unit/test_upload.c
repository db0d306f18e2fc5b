/* upload: 20,000 generated paths through a backend that keeps its objects in memory, 32 at a time, claimed
 * in a random order. The real queue, packer and loop; the backend here stands in the place of
 * backend/backend.c. The loop returns when nothing is in flight and no timer is set: whatever is then not
 * done would have stopped for good (I10). */
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"
#include "daemon/format/nar.h"
#include "daemon/format/nixbase32.h"
#include "daemon/loop/timer.h"
#include "daemon/plan/breaker.h"
#include "daemon/upload/budget.h"
#include "daemon/upload/upload.h"
#include "tests/unit/test.h"

#define N_MANY      20000
#define N_FEW       300
#define MAX_REFS    4
#define N_CACHES    2
#define UPLOAD_JOBS 32
#define OPS_AT_ONCE (2 * N_CACHES * UPLOAD_JOBS)
#define BIG_BYTES   MIB(2) /* so big that its NAR is asked for first */
#define N_WITNESSED 8      /* paths that are refused, in their order */

/* ---- generated paths -------------------------------------------------------------------------------- */

struct generated {
	struct path_info info;
	unsigned refs[MAX_REFS];
	unsigned n_refs;
	bool is_published[N_CACHES];
};

/* What the cache answers to questions about NARs; all zero: it has none. */
struct answers {
	bool put_finds;           /* a put finds that the NAR was there */
	bool find_finds;          /* and so does the question, once a put was tried */
	uint64_t file_size;       /* that it then names */
	const char *fails_to_ask; /* the question about this path's NAR fails, late */
	unsigned put_turns;       /* how long a put takes */
	bool names_nars;          /* a narinfo found says which NAR is its own */
};

/* What the cache does not do; all zero: it works. */
struct trouble {
	enum error_kind kind;
	bool is_server_fault, is_overload;
	bool is_of_puts;     /* it answers questions */
	bool is_held_back;   /* until the first narinfo is there */
	unsigned n_openings; /* it works once it was opened so often: the secrets were read anew */
	uint64_t ends_mono_ms;
	const char *poison; /* this path alone is refused, TRANSIENT, for ever */
};

static struct {
	char dir[64];
	struct loop loop;
	struct queue *queue;
	struct store *store;
	struct uploader *uploader;
	struct config config;
	struct cache_config caches[N_CACHES];
	struct answers answers;
	struct trouble trouble;
	struct timer look;                         /* while the cache does not work */
	void (*on_outage)(void);                   /* once, when all that was in flight has come back */
	void (*on_delayed)(void);                  /* the same, when all is put off */
	void (*on_prepare)(void), (*on_put)(void); /* once each, at the first */
	uint64_t give_up_mono_ms;                  /* it was put off for longer than a test waits */
	struct upload_outage outage;               /* the first */
	size_t min_pace;
	int64_t reopened_unix_s;
	void (*each_look)(void); /* and again and again until it is over */
	unsigned n_openings, n_refused, n_infos_put;
	uint64_t reopened_mono_ms;
	uint64_t refused_mono_ms; /* the first time */
	uint64_t probed_mono_ms;  /* the first call since on_outage */
	const struct generated *refused[N_WITNESSED];
	struct body *last_body;
	char narinfo[4096]; /* the last */
	struct generated *paths;
	unsigned n_paths;
	uint64_t random;
	unsigned fail_one_in; /* 0: never */
	unsigned n_failed, n_abandoned;
	unsigned n_caches, upload_jobs, n_running, max_running, n_nars_put, n_bodies, n_canceled, n_turns,
		close_at_turn;
	bool is_closed;
	size_t n_released;
	bool is_filled; /* before, nothing is claimed: so that all orders are possible */
	bool are_big, are_equal, is_forced;
	bool has_upstream;         /* that cannot be opened, and all may only be found */
	int64_t slept_s, set_by_s; /* what the clocks show of it */
	unsigned n_late;           /* paths that come during the outage */
	bool has_calmed;           /* what was in flight when the outage began has come back */
	int64_t root_id;
} t;

int __real_clock_gettime(clockid_t id, struct timespec *ret);
int __wrap_clock_gettime(clockid_t id, struct timespec *ret);
int __wrap_clock_gettime(clockid_t id, struct timespec *ret)
{
	int rc = __real_clock_gettime(id, ret);

	if (id != CLOCK_MONOTONIC)
		ret->tv_sec += t.slept_s;
	if (id == CLOCK_REALTIME)
		ret->tv_sec += t.set_by_s;
	return rc;
}

static uint64_t next_random(void)
{
	t.random = t.random * 6364136223846793005u + 1442695040888963407u;
	return t.random >> 33;
}

static void hash_nar(const char *path, struct path_info *info)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	struct nar *nar = NULL;
	struct error err;
	char data[4096];
	ssize_t n;

	EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);
	assert_int_equal(nar_open(&nar, path, &err), 0);
	while ((n = nar_read(nar, data, sizeof(data), &err)) > 0) {
		EVP_DigestUpdate(ctx, data, (size_t)n);
		info->nar_size += (uint64_t)n;
	}
	assert_int_equal(n, 0);
	EVP_DigestFinal_ex(ctx, info->nar_hash, NULL);
	nar_close(nar);
	EVP_MD_CTX_free(ctx);
}

/* Path I refers to itself (every third) and to some with lower numbers. One in ten has the contents of
 * another, so that NARs are equal. */
static void generate(unsigned i)
{
	struct generated *g = &t.paths[i];
	char name[64], real[256];
	int fd;

	snprintf(name, sizeof(name), "/nix/store/%032u-n", i);
	snprintf(real, sizeof(real), "%s%s", t.dir, name);
	fd = open(real, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	dprintf(fd, "%u\n", t.are_equal ? 0 : i % 10 == 9 ? i - 1 : i);
	if (t.are_big)
		assert_int_equal(ftruncate(fd, BIG_BYTES), 0);
	close(fd);
	hash_nar(real, &g->info);
	g->info.path = strdup(name);
	g->info.references = calloc(MAX_REFS + 1, sizeof(char *));
	if (i % 3 == 0)
		g->info.references[g->info.n_references++] = strdup(name);
	g->n_refs = i == 0 ? 0 : (unsigned)(next_random() % (MAX_REFS + 1));
	for (unsigned k = 0; k < g->n_refs; k++) {
		g->refs[k] = next_random() % 2 ? i - 1 : (unsigned)(next_random() % i);
		snprintf(name, sizeof(name), "/nix/store/%032u-n", g->refs[k]);
		g->info.references[g->info.n_references++] = strdup(name);
	}
	path_info_normalize(&g->info);
}

/* ---- the backend ------------------------------------------------------------------------------------- */

struct call {
	struct backend_op *op;
	struct loop_post post;
	unsigned turns;
	bool is_used, is_canceled, fails, is_put, is_abandon;
	bool names_nar;
	const char *path;
	size_t cache;
	uint64_t file_size;
	struct body *body;
	struct body_watch watch;
	uint8_t nar_hash[SHA256_BYTES];
	struct generated *publishes;
	bool is_found;
};

static struct call calls[OPS_AT_ONCE + 8];

struct fake {
	struct backend backend;
	size_t cache;
	unsigned n_running;
};

static struct fake *fake_of(struct backend *backend)
{
	return CONTAINER_OF(backend, struct fake, backend);
}

static struct generated *generated_of(const char *path)
{
	return &t.paths[strtoul(path + strlen("/nix/store/"), NULL, 10)];
}

static bool is_in_trouble(const struct call *call)
{
	const struct trouble *trouble = &t.trouble;

	return trouble->kind != ERROR_NONE && (call->is_put || !trouble->is_of_puts) &&
	       (!trouble->is_held_back || t.n_infos_put > 0) &&
	       (trouble->n_openings == 0 || t.n_openings < trouble->n_openings) &&
	       (trouble->ends_mono_ms == 0 || clock_mono_ms() < trouble->ends_mono_ms);
}

static void refuse(const struct call *call)
{
	struct backend_op *op = call->op;

	if (t.n_refused == 0)
		t.refused_mono_ms = clock_mono_ms();
	if (call->is_put && t.n_refused < N_WITNESSED)
		t.refused[t.n_refused] = generated_of(call->path);
	error_set(&op->err, t.trouble.kind, "the cache says no");
	op->err.is_overload = t.trouble.is_overload;
	op->is_server_fault = t.trouble.is_server_fault;
	t.n_refused++;
	if (!timer_is_set(&t.look) && !t.is_closed)
		timer_set(&t.look, 20);
}

static void look_at_delayed(void)
{
	const uint64_t *jobs = queue_cache_counts(t.queue, 0)->jobs;

	assert_true(clock_mono_ms() < t.give_up_mono_ms);
	if (jobs[JOB_DONE] == t.n_paths)
		return;
	if (t.on_delayed != NULL && jobs[JOB_DELAYED] == t.n_paths) {
		t.on_delayed();
		t.on_delayed = NULL;
	}
	timer_set(&t.look, 20);
}

static void on_look(struct timer *timer)
{
	struct upload_outage outage;
	size_t pace;

	if (t.is_closed)
		return;
	pace = uploader_pace(t.uploader, 0);
	if (t.min_pace == 0 || pace < t.min_pace)
		t.min_pace = pace;
	if (t.give_up_mono_ms > 0) {
		look_at_delayed();
		return;
	}
	if (!uploader_get_outage(t.uploader, 0, &outage))
		return;
	if (t.outage.kind == ERROR_NONE)
		t.outage = outage;
	if (uploader_n_in_flight(t.uploader, 0) == 0) {
		if (t.on_outage != NULL)
			t.on_outage();
		t.on_outage = NULL;
		if (t.each_look != NULL)
			t.each_look();
	}
	timer_set(timer, 20);
}

static void nar_key_of(const char *path, char ret[96])
{
	char hash[NIXBASE32_LEN(SHA256_BYTES) + 1];

	nixbase32_encode(hash, generated_of(path)->info.nar_hash, SHA256_BYTES);
	snprintf(ret, 96, "nar/%s.nar.zst", hash);
}

static void finish_call(struct call *call)
{
	struct backend_op *op = call->op;

	if (call->body != NULL)
		body_unwatch(&call->watch);
	op->err = (struct error){ 0 };
	op->is_server_fault = false;
	op->found = call->is_found;
	op->file_size = call->file_size;
	if (call->names_nar && call->is_found)
		nar_key_of(call->path, op->nar_url);
	if (call->is_canceled) {
		error_set(&op->err, ERROR_CANCELED, "canceled");
	} else if (call->fails || (t.fail_one_in > 0 && next_random() % t.fail_one_in == 0)) {
		error_set(&op->err, ERROR_TRANSIENT, "the test says no");
		t.n_failed++;
	} else if (is_in_trouble(call)) {
		refuse(call);
	} else if (t.trouble.poison != NULL && call->path != NULL &&
	           strcmp(call->path, t.trouble.poison) == 0) {
		error_set(&op->err, ERROR_TRANSIENT, "this one not");
		t.n_failed++;
	} else if (call->is_abandon) {
		assert_string_equal(call->path, "nar/x up");
		t.n_abandoned++;
	} else if (call->publishes != NULL) {
		call->publishes->is_published[call->cache] = true;
		t.n_infos_put++;
	}
	*call = (struct call){ 0 };
	t.n_running--;
	fake_of(op->backend)->n_running--;
	op->done(op);
}

static void close_uploader(void);

static void on_turn(struct loop_post *post)
{
	struct call *call = CONTAINER_OF(post, struct call, post);

	if (++t.n_turns == t.close_at_turn)
		close_uploader();
	if (!call->is_canceled && call->body != NULL && body_state(call->body) == BODY_GROWING) {
		loop_post(&t.loop, post, on_turn);
	} else if (call->turns > 0) {
		call->turns--;
		loop_post(&t.loop, post, on_turn);
	} else {
		finish_call(call);
	}
}

static struct call *begin_call(struct backend *backend, struct backend_op *op, const char *path, bool is_put)
{
	struct call *call = calls;

	while (call->is_used)
		call++;
	assert_true(call < calls + N_ELEMENTS(calls));
	*call = (struct call){ .op = op,
		               .is_used = true,
		               .is_put = is_put,
		               .path = path,
		               .turns = (unsigned)(next_random() % 8),
		               .cache = fake_of(backend)->cache };
	fake_of(backend)->n_running++;
	if (t.has_calmed && t.probed_mono_ms == 0)
		t.probed_mono_ms = clock_mono_ms();
	if (++t.n_running > t.max_running)
		t.max_running = t.n_running;
	op->backend = backend;
	op->call = call;
	loop_post(&t.loop, &call->post, on_turn);
	return call;
}

static void fake_prepare(struct backend *backend, struct backend_op *op)
{
	begin_call(backend, op, NULL, false);
	if (t.n_openings == 1 && t.on_prepare != NULL)
		t.on_prepare();
}

static void fake_find_info(struct backend *backend, struct backend_op *op, const char *path)
{
	struct call *call = begin_call(backend, op, path, false);

	call->is_found = generated_of(path)->is_published[call->cache];
	call->names_nar = t.answers.names_nars;
}

static void fake_find_nar(struct backend *backend, struct backend_op *op, const struct backend_object *object)
{
	struct call *call = begin_call(backend, op, object->info->path, false);

	call->is_found = t.answers.find_finds && t.n_nars_put > 0;
	call->file_size = call->is_found ? t.answers.file_size : 0;
	if (t.answers.fails_to_ask != NULL && strcmp(object->info->path, t.answers.fails_to_ask) == 0) {
		t.answers.fails_to_ask = NULL;
		call->fails = true;
		call->turns = t.answers.put_turns / 2;
	}
}

static void on_body(struct body_watch *watch)
{
	(void)watch;
}

static void fake_put_nar(struct backend *backend, struct backend_op *op, const struct backend_object *object,
                         struct body *body)
{
	struct call *call;

	/* I5: equal NARs are never sent side by side. */
	for (size_t i = 0; i < N_ELEMENTS(calls); i++)
		if (calls[i].is_used && calls[i].body != NULL && calls[i].cache == fake_of(backend)->cache)
			assert_memory_not_equal(calls[i].nar_hash, object->info->nar_hash, SHA256_BYTES);
	call = begin_call(backend, op, object->info->path, true);
	call->is_found = t.answers.put_finds;
	call->turns += t.answers.put_turns;
	call->body = body;
	t.n_bodies += body != t.last_body;
	t.last_body = body;
	memcpy(call->nar_hash, object->info->nar_hash, SHA256_BYTES);
	body_watch(body, &call->watch, on_body);
	if (t.n_nars_put++ == 0 && t.on_put != NULL)
		t.on_put();
}

static void fake_put_info(struct backend *backend, struct backend_op *op, const struct backend_object *object,
                          const char *text, size_t len)
{
	struct generated *g = generated_of(object->info->path);
	size_t cache = fake_of(backend)->cache;

	/* I2: all that it refers to is there. */
	for (unsigned k = 0; k < g->n_refs; k++)
		assert_true(t.paths[g->refs[k]].is_published[cache]);
	assert_non_null(memmem(text, len, g->info.path, strlen(g->info.path)));
	snprintf(t.narinfo, sizeof(t.narinfo), "%.*s", (int)len, text);
	begin_call(backend, op, g->info.path, true)->publishes = g;
}

static void fake_abandon(struct backend *backend, struct backend_op *op, const char *note)
{
	begin_call(backend, op, note, false)->is_abandon = true;
}

static void fake_cancel(struct backend_op *op)
{
	struct call *call = op->call;

	t.n_canceled++;
	call->is_canceled = true;
}

static void fake_close(struct backend *backend)
{
	assert_int_equal(fake_of(backend)->n_running, 0);
	free(fake_of(backend));
}

static const struct backend_ops fake_ops = {
	.kind = PUBLISH_SEPARATE,
	.prepare_start = fake_prepare,
	.find_info_start = fake_find_info,
	.find_nar_start = fake_find_nar,
	.put_nar_start = fake_put_nar,
	.put_info_start = fake_put_info,
	.abandon_start = fake_abandon,
	.cancel = fake_cancel,
	.close = fake_close,
};

int backend_open(struct backend **ret, struct loop *loop, struct http *http, const struct cache_config *cache,
                 const char *dir, struct error *err)
{
	struct fake *fake = calloc(1, sizeof(*fake));
	(void)http;
	(void)dir;
	(void)err;

	if (++t.n_openings == 2) {
		t.reopened_unix_s = clock_unix_s();
		t.reopened_mono_ms = clock_mono_ms();
	}
	*fake = (struct fake){ .backend = { .ops = &fake_ops, .loop = loop },
		               .cache = (size_t)(cache - t.caches) };
	*ret = &fake->backend;
	return 0;
}

int backend_open_upstream(struct backend **ret, struct loop *loop, struct http *http,
                          const struct upstream_config *upstream, const struct net_config *net,
                          struct error *err)
{
	(void)ret;
	(void)loop;
	(void)http;
	(void)upstream;
	(void)net;
	return error_set(err, ERROR_OPERATOR, "no upstreams here");
}

void backend_close(struct backend *backend)
{
	if (backend != NULL)
		backend->ops->close(backend);
}

/* ---- the rig ----------------------------------------------------------------------------------------- */

static void on_fatal(void *ctx, const struct error *err)
{
	(void)ctx;
	fail_msg("%s", err->text);
}

static void on_change(void *ctx, uint64_t caches, bool roots)
{
	(void)ctx;
	(void)roots;
	/* As the daemon does: until it is told that the uploader is closed. */
	if (t.is_filled && !t.is_closed)
		uploader_poke(t.uploader, caches);
}

static void on_released(void *ctx, char *const *paths, size_t n_paths)
{
	(void)ctx;
	(void)paths;
	t.n_released += n_paths;
}

static void make(const char *below)
{
	char path[256];
	struct error err;

	snprintf(path, sizeof(path), "%s/%s", t.dir, below);
	assert_int_equal(make_dir(path, 0755, true, &err), 0);
}

static void open_uploader(void)
{
	struct uploader_config config = { .loop = &t.loop,
		                          .queue = t.queue,
		                          .store = t.store,
		                          .config = &t.config,
		                          .on_released = on_released };
	struct error err;

	t.is_closed = false;
	assert_int_equal(uploader_open(&t.uploader, &config, &err), 0);
}

/* Before, the test sets what it wants of T; all else is made here. */
static void open_rig(unsigned n_paths)
{
	static char queue_path[128], state_dir[128], root_uri[128];
	static const struct queue_endpoint endpoints[N_CACHES] = {
		{ .name = "main", .kind = "file", .identity = "test", .presence_ttl_s = 86400 },
		{ .name = "second", .kind = "file", .identity = "test 2", .presence_ttl_s = 86400 },
	};
	static char upstream_name[] = "up";
	static struct upstream_config upstream = { .name = upstream_name };
	struct queue_config queue_config = { .path = queue_path,
		                             .endpoints = endpoints,
		                             .on_fatal = on_fatal,
		                             .on_change = on_change,
		                             .on_released = on_released };
	struct error err;

	if (t.n_caches == 0)
		t.n_caches = 1;
	if (t.upload_jobs == 0)
		t.upload_jobs = UPLOAD_JOBS;
	queue_config.n_endpoints = t.n_caches;
	t.random = 4711;
	snprintf(t.dir, sizeof(t.dir), "/tmp/nncache-test-XXXXXX");
	assert_non_null(mkdtemp(t.dir));
	make("nix/store");
	make("state");
	snprintf(queue_path, sizeof(queue_path), "%s/state/queue.db", t.dir);
	snprintf(root_uri, sizeof(root_uri), "local?root=%s", t.dir);
	assert_int_equal(loop_init(&t.loop, &err), 0);
	assert_int_equal(queue_open(&t.queue, &t.loop, &queue_config, &err), 0);
	assert_int_equal(store_open(&t.store, &t.loop, root_uri, &err), 0);
	for (size_t i = 0; i < t.n_caches; i++)
		t.caches[i] = (struct cache_config){ .name = (char *)(uintptr_t)endpoints[i].name,
			                             .sign = SIGN_NO,
			                             .compression = COMPRESS_ZSTD,
			                             .compression_level = 1,
			                             .upload_jobs = t.upload_jobs };
	snprintf(state_dir, sizeof(state_dir), "%s/state", t.dir);
	t.config = (struct config){ .state_dir = state_dir,
		                    .memory_bytes = MIB(64),
		                    .tmp_space_bytes = GIB(1),
		                    .give_up_after = 1000,
		                    .caches = t.caches,
		                    .n_caches = t.n_caches };
	if (t.has_upstream) {
		t.config.upstreams = &upstream;
		t.config.n_upstreams = 1;
		t.caches[0].upstreams = (struct text_list){ .items = &upstream.name, .n = 1 };
	}
	timer_init(&t.look, &t.loop, on_look);
	open_uploader();
	t.n_paths = n_paths;
	t.paths = calloc(n_paths, sizeof(t.paths[0]));
	for (unsigned i = 0; i < n_paths; i++)
		generate(i);
}

static void on_uploader_gone(void *ctx)
{
	(void)ctx;
	t.is_closed = true;
}

static void close_uploader(void)
{
	uploader_close(t.uploader, on_uploader_gone, NULL);
}

static void close_rig(void)
{
	char command[128];

	close_uploader();
	timer_close(&t.look, NULL);
	loop_run(&t.loop);
	assert_true(t.is_closed);
	store_close(t.store, NULL, NULL);
	queue_close(t.queue, NULL, NULL);
	loop_run(&t.loop);
	loop_fini(&t.loop);
	for (unsigned i = 0; i < t.n_paths; i++)
		path_info_fini(&t.paths[i].info);
	free(t.paths);
	snprintf(command, sizeof(command), "rm -rf %s", t.dir);
	assert_int_equal(system(command), 0);
	memset(&t, 0, sizeof(t));
}

/* ---- filling the queue -------------------------------------------------------------------------------- */

static void on_read(struct queue_read *read)
{
	(void)read;
}

static void on_op(struct queue_op *op)
{
	assert_int_equal(op->err.kind, ERROR_NONE);
}

/* A page of the root's closure: the paths from FROM to before TO, as many as
 * fit. Ranks are random: a claim may come in any order. Returns where it ended.
 */
static unsigned start_page(unsigned from, unsigned to)
{
	static struct queue_node nodes[QUEUE_PAGE_MAX];
	static struct queue_page page;

	page = (struct queue_page){ .op.verb = QUEUE_PAGE,
		                    .now_unix_s = clock_unix_s(),
		                    .root_id = t.root_id,
		                    .force = t.is_forced,
		                    .nodes = nodes };
	for (; page.n_nodes < QUEUE_PAGE_MAX && from < to; from++)
		nodes[page.n_nodes++] = (struct queue_node){
			.info = &t.paths[from].info,
			.rank = (int64_t)(next_random() % 1000000),
			.caches = (UINT64_C(1) << t.n_caches) - 1,
			.ask_first = t.has_upstream ? 1 : 0,
			.is_root = from == t.n_paths - 1,
		};
	queue_start(t.queue, &page.op, on_op);
	return from;
}

/* The jobs of all paths but the late ones, under one root that is the last
 * path. */
static void fill_queue(void)
{
	struct queue_add_path root = { .path = t.paths[t.n_paths - 1].info.path, .rank = 1 };
	struct queue_add add = {
		.op.verb = QUEUE_ADD, .now_unix_s = clock_unix_s(), .paths = &root, .n_paths = 1
	};
	struct queue_claim_roots claim = { .op.verb = QUEUE_CLAIM_ROOTS,
		                           .now_unix_s = add.now_unix_s,
		                           .n_max = 1 };
	struct queue_end_root end = { .op.verb = QUEUE_END_ROOT,
		                      .now_unix_s = add.now_unix_s,
		                      .state = ROOT_QUEUED };

	queue_start(t.queue, &add.op, on_op);
	queue_start(t.queue, &claim.op, on_op);
	loop_run(&t.loop);
	assert_int_equal(claim.n_roots, 1);
	end.root_id = t.root_id = claim.roots[0].id;
	for (unsigned i = 0; i < t.n_paths - t.n_late;) {
		i = start_page(i, t.n_paths - t.n_late);
		loop_run(&t.loop);
	}
	queue_start(t.queue, &end.op, on_op);
	loop_run(&t.loop);
	queue_op_fini(&claim.op);
	queue_op_fini(&end.op);
	t.is_filled = true;
}

static void assert_all_done(void)
{
	for (size_t cache = 0; cache < t.n_caches; cache++) {
		for (unsigned i = 0; i < t.n_paths; i++)
			if (!t.paths[i].is_published[cache])
				fail_msg("path %u was never published on cache %zu", i, cache);
		assert_int_equal(queue_cache_counts(t.queue, cache)->jobs[JOB_DONE], t.n_paths);
	}
	assert_int_equal(queue_root_count(t.queue, ROOT_DONE), 1);
	assert_int_equal(t.n_released, 1);
}

static void upload_all(void)
{
	uploader_poke(t.uploader, ~UINT64_C(0));
	loop_run(&t.loop);
}

static void twenty_thousand_paths_in_any_order_are_published_without_stopping(void **state)
{
	(void)state;
	open_rig((unsigned)test_many(N_MANY));
	fill_queue();
	upload_all();
	assert_all_done();
	/* Several were under way at a time, and never more than there are places. */
	assert_in_range(t.max_running, 2, UPLOAD_JOBS);
	close_rig();
}

static void a_cache_that_fails_now_and_then_gets_everything_in_the_end(void **state)
{
	(void)state;
	t.fail_one_in = 20;
	open_rig(N_FEW);
	fill_queue();
	upload_all();
	assert_true(t.n_failed > 0);
	assert_all_done();
	close_rig();
}

static void what_is_cut_short_anywhere_is_begun_again_and_done(void **state)
{
	unsigned n_canceled = 0;
	(void)state;

	for (unsigned turn = 1; turn < 300; turn += turn < 20 ? 1 : 23) {
		t.n_caches = 2;
		t.close_at_turn = turn;
		open_rig(40);
		fill_queue();
		upload_all();
		assert_true(t.is_closed);
		n_canceled += t.n_canceled;
		open_uploader();
		upload_all();
		assert_all_done();
		close_rig();
	}
	assert_true(n_canceled > 50);
}

static void equal_contents_are_packed_once_for_two_caches(void **state)
{
	(void)state;
	t.n_caches = 2;
	t.are_big = true;
	t.answers.put_turns = 2000;
	open_rig(1);
	fill_queue();
	upload_all();
	assert_all_done();
	assert_int_equal(t.n_nars_put, 2);
	assert_int_equal(t.n_bodies, 1);
	close_rig();
}

/* One sends, one waits for it, and a third cannot even ask. */
static void a_twin_that_cannot_ask_leaves_those_alone_that_wait_for_another(void **state)
{
	(void)state;
	t.are_big = t.are_equal = true;
	t.answers.put_turns = 100000;
	open_rig(4);
	fill_queue();
	t.answers.fails_to_ask = t.paths[1].info.path;
	upload_all();
	assert_int_equal(t.n_failed, 1);
	assert_all_done();
	assert_in_range(t.n_nars_put, 1, 2);
	close_rig();
}

/* A cache lost the NAR of a path that is forced; somebody else sends it at the same time as we. */
static void the_twin_of_a_nar_that_came_back_is_not_left_waiting(void **state)
{
	(void)state;
	t.are_big = t.are_equal = true;
	t.answers = (struct answers){
		.put_finds = true, .find_finds = true, .names_nars = true, .put_turns = 100000
	};
	t.is_forced = true;
	open_rig(2);
	t.paths[0].is_published[0] = true;
	fill_queue();
	upload_all();
	assert_all_done();
	assert_int_equal(t.n_nars_put, 1);
	close_rig();
}

static void a_nar_that_lay_there_is_named_without_the_hash_of_another_file(void **state)
{
	(void)state;
	t.answers.put_finds = t.answers.find_finds = true;
	t.answers.file_size = 777;
	open_rig(1);
	fill_queue();
	upload_all();
	assert_all_done();
	assert_null(strstr(t.narinfo, "FileHash:"));
	assert_non_null(strstr(t.narinfo, "FileSize: 777\n"));
	close_rig();
}

static void a_cache_that_names_no_size_gets_a_narinfo_without_it(void **state)
{
	(void)state;
	t.answers.put_finds = t.answers.find_finds = true;
	t.are_equal = true;
	open_rig(3);
	fill_queue();
	upload_all();
	assert_all_done();
	assert_in_range(t.n_nars_put, 1, 3);
	assert_null(strstr(t.narinfo, "FileHash:"));
	assert_null(strstr(t.narinfo, "FileSize:"));
	close_rig();
}

/* 412 to PUT, 404 to HEAD. */
static void a_cache_that_contradicts_itself_is_asked_again_later(void **state)
{
	(void)state;
	t.answers.put_finds = true;
	open_rig(1);
	t.config.give_up_after = 2;
	fill_queue();
	upload_all();
	assert_int_equal(queue_cache_counts(t.queue, 0)->jobs[JOB_FAILED], 1);
	assert_int_equal(t.n_nars_put, 2);
	close_rig();
}

/* ---- when the cache does not work --------------------------------------------------------------------- */

/* How many attempts were counted, of all jobs together. */
static unsigned count_attempts(void)
{
	struct queue_read read = { .verb = QUEUE_LIST, .state = -2, .n_max = 100 };
	unsigned n = 0;
	size_t n_rows;

	do {
		queue_read_start(t.queue, &read, on_read);
		loop_run(&t.loop);
		assert_int_equal(read.err.kind, ERROR_NONE);
		for (size_t i = 0; i < read.n_rows; i++)
			n += read.rows[i].attempts;
		n_rows = read.n_rows;
		read.after_id = read.last_id;
		queue_read_fini(&read);
	} while (n_rows > 0);
	return n;
}

static void an_outage_costs_no_job_an_attempt(void **state)
{
	(void)state;
	t.trouble =
		(struct trouble){ .kind = ERROR_TRANSIENT, .is_server_fault = true, .is_held_back = true };
	open_rig(N_FEW);
	fill_queue();
	t.trouble.ends_mono_ms = clock_mono_ms() + 1500;
	upload_all();
	assert_true(t.n_refused > 0);
	assert_int_equal(t.outage.kind, ERROR_TRANSIENT);
	assert_all_done();
	assert_int_equal(count_attempts(), 0);
	close_rig();
}

static void what_is_too_much_for_a_cache_is_sent_more_slowly(void **state)
{
	(void)state;
	t.trouble = (struct trouble){ .kind = ERROR_TRANSIENT, .is_overload = true, .is_held_back = true };
	open_rig(N_FEW);
	fill_queue();
	t.trouble.ends_mono_ms = clock_mono_ms() + 1500;
	upload_all();
	assert_all_done();
	assert_in_range(t.min_pace, 1, UPLOAD_JOBS / 2);
	/* What went well since has raised it again. */
	assert_in_range(uploader_pace(t.uploader, 0), t.min_pace + 1, UPLOAD_JOBS);
	close_rig();
}

static void mend_and_retry(void)
{
	static struct queue_retry retry;

	/* One wrong URL, and two of all jobs have noticed. */
	assert_in_range(queue_cache_counts(t.queue, 0)->jobs[JOB_FAILED], 0, BREAKER_EVIDENCE - 1);
	assert_int_equal(queue_cache_counts(t.queue, 0)->jobs[JOB_DONE], 0);
	t.trouble.kind = ERROR_NONE;
	retry = (struct queue_retry){ .op.verb = QUEUE_RETRY, .now_unix_s = clock_unix_s() };
	queue_start(t.queue, &retry.op, on_op);
	uploader_try_now(t.uploader, 1);
}

static void one_wrong_url_fails_two_paths_and_not_all(void **state)
{
	static const enum error_kind kinds[] = { ERROR_PERMANENT, ERROR_OPERATOR, ERROR_TRANSIENT };
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(kinds); i++) {
		t.trouble = (struct trouble){ .kind = kinds[i], .is_of_puts = true };
		t.on_outage = mend_and_retry;
		open_rig(N_FEW);
		fill_queue();
		upload_all();
		assert_null(t.on_outage);
		assert_int_equal(t.outage.kind, kinds[i]);
		assert_all_done();
		close_rig();
	}
}

static void a_poison_path_fails_alone_and_holds_nothing_up(void **state)
{
	(void)state;
	open_rig(N_FEW);
	t.config.give_up_after = 2;
	t.trouble.poison = t.paths[N_FEW - 1].info.path; /* nothing refers to it */
	fill_queue();
	upload_all();
	assert_int_equal(t.n_failed, 2);
	assert_int_equal(t.outage.kind, ERROR_NONE);
	assert_int_equal(queue_cache_counts(t.queue, 0)->jobs[JOB_FAILED], 1);
	assert_int_equal(queue_cache_counts(t.queue, 0)->jobs[JOB_DONE], N_FEW - 1);
	close_rig();
}

/* The breaker has no other job to probe with. */
static void a_poison_path_that_is_alone_after_an_outage_still_fails(void **state)
{
	(void)state;
	t.trouble = (struct trouble){ .kind = ERROR_TRANSIENT, .is_server_fault = true };
	open_rig(1);
	t.config.give_up_after = 2;
	t.trouble.poison = t.paths[0].info.path;
	fill_queue();
	t.trouble.ends_mono_ms = clock_mono_ms() + 500;
	upload_all();
	assert_int_equal(t.n_failed, 2);
	assert_int_equal(queue_cache_counts(t.queue, 0)->jobs[JOB_FAILED], 1);
	close_rig();
}

static void hand_over_the_late(void)
{
	t.has_calmed = true;
	assert_int_equal(start_page(t.n_paths - t.n_late, t.n_paths), t.n_paths);
}

static void poke_often(void)
{
	for (unsigned i = 0; i < 10; i++)
		uploader_poke(t.uploader, 1);
}

static void new_work_never_brings_a_probe_forward(void **state)
{
	(void)state;
	t.trouble = (struct trouble){ .kind = ERROR_TRANSIENT, .is_server_fault = true };
	t.on_outage = hand_over_the_late;
	t.each_look = poke_often;
	t.n_late = 20;
	open_rig(40);
	fill_queue();
	t.trouble.ends_mono_ms = clock_mono_ms() + BREAKER_FIRST_MS / 2;
	upload_all();
	assert_true(t.has_calmed);
	assert_in_range(t.probed_mono_ms - t.refused_mono_ms, BREAKER_FIRST_MS / 2, UINT32_MAX);
	assert_all_done();
	assert_int_equal(count_attempts(), 0);
	close_rig();
}

static void try_until_all_were_refused(void)
{
	if (t.n_refused >= N_WITNESSED)
		t.trouble.kind = ERROR_NONE;
	uploader_try_now(t.uploader, 1);
}

/* Each probe is refused: it is always one that was not, until all were. */
static void a_probe_is_another_path_than_those_that_failed(void **state)
{
	(void)state;
	t.trouble = (struct trouble){ .kind = ERROR_OPERATOR, .is_server_fault = true, .is_of_puts = true };
	t.each_look = try_until_all_were_refused;
	t.upload_jobs = 1;
	open_rig(N_WITNESSED);
	fill_queue();
	upload_all();
	assert_int_equal(t.n_refused, N_WITNESSED);
	for (unsigned i = 1; i < N_WITNESSED; i++)
		for (unsigned k = 0; k < i; k++)
			assert_ptr_not_equal(t.refused[i], t.refused[k]);
	assert_all_done();
	close_rig();
}

static char token_file[128];

static void write_token(void)
{
	FILE *file = fopen(token_file, "w");

	assert_non_null(file);
	fprintf(file, "a token\n");
	fclose(file);
}

/* The next probe would come after a minute, and the cache works for those alone that read the file anew. */
static void a_mended_secret_is_found_before_the_next_probe_is_due(void **state)
{
	(void)state;
	t.trouble = (struct trouble){
		.kind = ERROR_OPERATOR, .is_server_fault = true, .is_held_back = true, .n_openings = 2
	};
	t.on_outage = write_token;
	open_rig(N_FEW);
	snprintf(token_file, sizeof(token_file), "%s/token", t.dir);
	t.caches[0].token_file = token_file;
	fill_queue();
	upload_all();
	assert_null(t.on_outage);
	/* More than once, if a probe had nothing to write. */
	assert_true(t.n_openings >= 2);
	assert_true(t.reopened_unix_s < t.outage.next_try_unix_s);
	assert_all_done();
	assert_int_equal(count_attempts(), 0);
	close_rig();
}

static void sleep_for_an_hour(void)
{
	t.slept_s = 3600;
}

static void set_the_clock_back(void)
{
	t.set_by_s = -3600;
}

/* The next probe would come after a minute; nothing else tells us that the
 * machine slept. */
static void a_machine_that_slept_or_was_set_right_probes_at_once(void **state)
{
	static void (*const events[])(void) = { sleep_for_an_hour, set_the_clock_back };
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(events); i++) {
		t.trouble =
			(struct trouble){ .kind = ERROR_OPERATOR, .is_server_fault = true, .n_openings = 2 };
		t.on_outage = events[i];
		open_rig(20);
		fill_queue();
		upload_all();
		assert_null(t.on_outage);
		assert_in_range(t.reopened_mono_ms - t.refused_mono_ms, 1, 30000);
		assert_all_done();
		close_rig();
	}
}

static void retry_all(void)
{
	static struct queue_retry retry;

	retry = (struct queue_retry){ .op.verb = QUEUE_RETRY, .now_unix_s = clock_unix_s() };
	queue_start(t.queue, &retry.op, on_op);
	uploader_try_now(t.uploader, 1);
}

/* Two jobs are no evidence against the cache: each is put off for a minute or more, and that is all. */
static void open_rig_with_few_refused(void)
{
	t.trouble = (struct trouble){ .kind = ERROR_OPERATOR, .is_of_puts = true, .n_openings = 2 };
	open_rig(BREAKER_EVIDENCE - 1);
	snprintf(token_file, sizeof(token_file), "%s/token", t.dir);
	t.caches[0].token_file = token_file;
	t.give_up_mono_ms = clock_mono_ms() + 20000;
	fill_queue();
}

static void the_few_that_were_refused_go_on_once_a_secret_is_mended(void **state)
{
	(void)state;
	t.on_delayed = write_token;
	open_rig_with_few_refused();
	upload_all();
	assert_null(t.on_delayed);
	assert_int_equal(t.outage.kind, ERROR_NONE);
	assert_all_done();
	close_rig();
}

static void who_says_retry_has_the_secrets_read_anew(void **state)
{
	(void)state;
	t.on_delayed = retry_all;
	open_rig_with_few_refused();
	upload_all();
	assert_null(t.on_delayed);
	assert_all_done();
	close_rig();
}

static void what_was_refused_goes_on_at_the_next_start(void **state)
{
	(void)state;
	t.on_delayed = close_uploader;
	open_rig_with_few_refused();
	upload_all();
	assert_null(t.on_delayed);
	open_uploader();
	timer_set(&t.look, 20);
	upload_all();
	assert_all_done();
	close_rig();
}

static void try_now(void)
{
	uploader_try_now(t.uploader, 1);
}

static void secrets_that_are_mended_while_the_cache_is_asked_are_read_anew(void **state)
{
	(void)state;
	t.on_prepare = try_now;
	open_rig_with_few_refused();
	upload_all();
	assert_int_equal(t.n_refused, 0);
	assert_all_done();
	close_rig();
}

/* It began with the old ones. */
static void what_is_refused_after_the_secrets_were_mended_goes_at_once(void **state)
{
	(void)state;
	t.on_put = try_now;
	open_rig_with_few_refused();
	upload_all();
	assert_all_done();
	assert_int_equal(count_attempts(), 0);
	close_rig();
}

/* It is out of reach, perhaps for weeks. */
static void waiting_for_an_upstream_costs_no_attempt(void **state)
{
	(void)state;
	t.has_upstream = true;
	t.on_delayed = close_uploader;
	open_rig(1);
	t.config.give_up_after = 1;
	t.give_up_mono_ms = clock_mono_ms() + 5000;
	fill_queue();
	timer_set(&t.look, 20);
	upload_all();
	assert_null(t.on_delayed);
	open_uploader();
	assert_int_equal(count_attempts(), 0);
	close_rig();
}

/* ---- what forgotten jobs left ---------------------------------------------------------------------------
 */

#define N_LEFT 3

/* Each job has left something on the cache, as it was stopped while it sent. */
static void open_rig_with_unfinished(void)
{
	struct queue_claim claim = { .op.verb = QUEUE_CLAIM, .now_unix_s = clock_unix_s(), .n_max = N_LEFT };

	open_rig(N_LEFT);
	fill_queue();
	t.is_filled = false;
	queue_start(t.queue, &claim.op, on_op);
	loop_run(&t.loop);
	assert_int_equal(claim.n_jobs, N_LEFT);
	for (size_t i = 0; i < N_LEFT; i++) {
		struct queue_note note = { .op.verb = QUEUE_NOTE,
			                   .job_id = claim.jobs[i].id,
			                   .upload_id = "nar/x up" };
		struct queue_release release = { .op.verb = QUEUE_RELEASE, .job_id = claim.jobs[i].id };

		queue_start(t.queue, &note.op, on_op);
		queue_start(t.queue, &release.op, on_op);
		loop_run(&t.loop);
	}
	queue_op_fini(&claim.op);
	t.is_filled = true;
}

static void forget_all(void)
{
	static struct queue_forget forget;

	queue_op_fini(&forget.op);
	forget = (struct queue_forget){ .op.verb = QUEUE_FORGET, .now_unix_s = clock_unix_s() };
	queue_start(t.queue, &forget.op, on_op);
}

static void open_rig_with_leftovers(void)
{
	open_rig_with_unfinished();
	forget_all();
	loop_run(&t.loop);
	assert_int_equal(queue_cache_counts(t.queue, 0)->jobs[JOB_READY], 0);
}

static uint64_t n_leftovers(void)
{
	return queue_cache_counts(t.queue, 0)->leftovers;
}

static void what_forgotten_puts_left_is_taken_away_at_once(void **state)
{
	(void)state;
	open_rig_with_leftovers();
	assert_int_equal(t.n_abandoned, N_LEFT);
	assert_int_equal(n_leftovers(), 0);
	close_rig();
}

static void mend_and_forget_all(void)
{
	t.trouble.kind = ERROR_NONE;
	forget_all();
}

static void stop_once_all_is_taken_away(void)
{
	assert_true(clock_mono_ms() < t.refused_mono_ms + 20000);
	if (t.n_abandoned == 0 || n_leftovers() > 0)
		return;
	t.each_look = NULL;
	close_uploader();
}

/* The breaker stays open, as nobody is left to probe with. */
static void leftovers_need_no_job_that_probes(void **state)
{
	(void)state;
	t.trouble = (struct trouble){ .kind = ERROR_TRANSIENT, .is_server_fault = true };
	t.on_outage = mend_and_forget_all;
	t.each_look = stop_once_all_is_taken_away;
	open_rig_with_unfinished();
	upload_all();
	assert_null(t.each_look);
	assert_int_equal(t.n_abandoned, N_LEFT);
	assert_int_equal(n_leftovers(), 0);
	open_uploader();
	close_rig();
}

static void restart(void)
{
	close_uploader();
	loop_run(&t.loop);
	open_uploader();
	upload_all();
}

static void what_cannot_be_taken_away_now_is_when_it_is_tried_again(void **state)
{
	static const struct {
		enum error_kind kind;
		unsigned n_tries; /* before the next start */
	} cases[] = { { ERROR_TRANSIENT, 1 }, { ERROR_PERMANENT, N_LEFT } };
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		t.trouble = (struct trouble){ .kind = cases[i].kind };
		open_rig_with_leftovers();
		assert_int_equal(t.n_refused, cases[i].n_tries);
		upload_all(); /* not again so soon */
		assert_int_equal(t.n_refused, cases[i].n_tries);
		assert_int_equal(n_leftovers(), N_LEFT);
		t.trouble.kind = ERROR_NONE;
		restart();
		assert_int_equal(t.n_abandoned, N_LEFT);
		assert_int_equal(n_leftovers(), 0);
		close_rig();
	}
}

static void what_is_cut_short_while_it_takes_away_goes_on_at_the_next_start(void **state)
{
	unsigned n_canceled = 0;
	(void)state;

	for (unsigned turn = 1; turn < 12; turn++) {
		t.close_at_turn = turn;
		open_rig_with_leftovers();
		n_canceled += t.n_canceled;
		t.close_at_turn = 0;
		if (t.is_closed)
			open_uploader();
		upload_all();
		assert_in_range(t.n_abandoned, N_LEFT, N_LEFT + 1);
		assert_int_equal(n_leftovers(), 0);
		close_rig();
	}
	assert_true(n_canceled > 0);
}

static void a_cache_leaves_each_other_one_room_for_a_body(void **state)
{
	const struct room whole = { .n_blocks = BODY_BLOCKS_MAX }, nothing = { 0 };
	struct budget budget;
	struct room room;
	unsigned n = 0;
	(void)state;

	budget_init(&budget, (struct room){ .n_blocks = 5 * BODY_BLOCKS_MAX }, 7);
	for (; n < 10 && budget_take(&budget, 0, (room = whole, &room)) == BUDGET_TAKEN; n++)
		;
	assert_int_equal(n, 3);
	assert_int_equal(budget_take(&budget, 1, (room = whole, &room)), BUDGET_TAKEN);
	assert_int_equal(budget_take(&budget, 2, (room = whole, &room)), BUDGET_TAKEN);
	assert_int_equal(budget_take(&budget, 1, (room = whole, &room)), BUDGET_NO_BLOCKS);
	budget_shrink(&budget, 0, whole, nothing);
	assert_int_equal(budget_take(&budget, 1, (room = whole, &room)), BUDGET_TAKEN);
}

static void what_is_more_than_a_cache_may_have_goes_beside_the_others_one_at_a_time(void **state)
{
	const struct room nothing = { 0 }, small = { .n_blocks = 1 };
	struct budget budget;
	struct room huge = { .n_blocks = BODY_BLOCKS_MAX, .tmp_bytes = 1000 }, second = huge;
	struct room most = { .n_blocks = BODY_BLOCKS_MAX, .tmp_bytes = 75 }, one = small;
	(void)state;

	budget_init(&budget, (struct room){ .n_blocks = 64, .tmp_bytes = 100 }, 3);
	assert_int_equal(budget_largest_tmp_bytes(&budget), 75);
	assert_int_equal(budget_take(&budget, 0, &huge), BUDGET_TAKEN);
	assert_true(huge.is_beside);
	assert_int_equal(budget_take(&budget, 0, &second), BUDGET_NO_BESIDE);
	assert_int_equal(budget_take(&budget, 0, &most), BUDGET_TAKEN);
	assert_false(most.is_beside);
	assert_int_equal(budget_take(&budget, 0, &most), BUDGET_NO_TMP);
	assert_int_equal(budget_take(&budget, 0, &one), BUDGET_TAKEN);
	assert_int_equal(budget_take(&budget, 1, &second), BUDGET_TAKEN);
	budget_shrink(&budget, 0, huge, nothing);
	assert_int_equal(budget_take(&budget, 0, &huge), BUDGET_TAKEN);
}

/* What a test left that failed halfway is none of the next one's. */
static int forget(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	memset(calls, 0, sizeof(calls));
	return 0;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, forget)
	const struct CMUnitTest tests[] = {
		TEST(twenty_thousand_paths_in_any_order_are_published_without_stopping),
		TEST(a_cache_that_fails_now_and_then_gets_everything_in_the_end),
		TEST(what_is_cut_short_anywhere_is_begun_again_and_done),
		TEST(equal_contents_are_packed_once_for_two_caches),
		TEST(a_twin_that_cannot_ask_leaves_those_alone_that_wait_for_another),
		TEST(a_nar_that_lay_there_is_named_without_the_hash_of_another_file),
		TEST(a_cache_that_names_no_size_gets_a_narinfo_without_it),
		TEST(a_cache_that_contradicts_itself_is_asked_again_later),
		TEST(an_outage_costs_no_job_an_attempt),
		TEST(what_is_too_much_for_a_cache_is_sent_more_slowly),
		TEST(one_wrong_url_fails_two_paths_and_not_all),
		TEST(a_poison_path_fails_alone_and_holds_nothing_up),
		TEST(a_poison_path_that_is_alone_after_an_outage_still_fails),
		TEST(new_work_never_brings_a_probe_forward),
		TEST(a_probe_is_another_path_than_those_that_failed),
		TEST(a_mended_secret_is_found_before_the_next_probe_is_due),
		TEST(a_machine_that_slept_or_was_set_right_probes_at_once),
		TEST(what_forgotten_puts_left_is_taken_away_at_once),
		TEST(leftovers_need_no_job_that_probes),
		TEST(what_cannot_be_taken_away_now_is_when_it_is_tried_again),
		TEST(what_is_cut_short_while_it_takes_away_goes_on_at_the_next_start),
		TEST(a_cache_leaves_each_other_one_room_for_a_body),
		TEST(what_is_more_than_a_cache_may_have_goes_beside_the_others_one_at_a_time),
		TEST(the_twin_of_a_nar_that_came_back_is_not_left_waiting),
		TEST(the_few_that_were_refused_go_on_once_a_secret_is_mended),
		TEST(who_says_retry_has_the_secrets_read_anew),
		TEST(what_was_refused_goes_on_at_the_next_start),
		TEST(secrets_that_are_mended_while_the_cache_is_asked_are_read_anew),
		TEST(what_is_refused_after_the_secrets_were_mended_goes_at_once),
		TEST(waiting_for_an_upstream_costs_no_attempt),
	};
	log_init(LOG_LEVEL_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
