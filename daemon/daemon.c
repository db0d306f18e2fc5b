/* Parts, from the bottom: loop, queue, store, roots, policy, uploader, verifier, intake, server. The server
 * opens when intake has brought the queue and the GC roots together, and stays open over a reload, in which
 * everything below it is closed and made anew from the new settings: all that matters is in the queue. Until
 * intake is ready once more, it answers that the daemon is starting.
 *
 * Failure modes: a part that cannot be opened at start ends the daemon with a sentence (hooks spool);
 * at a reload too, since the old settings are gone by then; but a reload only begins when the new
 * settings load. A queue that cannot be trusted any more ends it at once. */
#include "daemon/daemon.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/fd.h"
#include "common/log.h"
#include "daemon/internal.h"
#include "daemon/loop/work.h"

/* Workers beside the packers, for file caches. */
#define EXTRA_WORKERS 4
/* What takes long at a start asks for a minute more, and asks again long before that is over. */
#define STARTING_EVERY_MS 1000
#define STARTING_MORE_MS  60000

static int open_parts(struct daemon *daemon, struct error *err);
static void reload(struct daemon *daemon);

/* ---- what the parts tell each other ------------------------------------------------------------------ */

static void on_fatal(void *ctx, const struct error *err)
{
	(void)ctx;
	log_error("the queue cannot be trusted any more: %s; hooks write to the spool until the daemon runs "
	          "again",
	          err->text);
	_exit(EXIT_FAILURE);
}

static void on_change(void *ctx, uint64_t caches, bool roots)
{
	struct daemon *daemon = ctx;

	if (daemon->uploader != NULL)
		uploader_poke(daemon->uploader, caches);
	if (roots && daemon->intake != NULL)
		intake_poke(daemon->intake);
	if (daemon->server != NULL)
		server_notify(daemon->server);
}

void daemon_released(struct daemon *daemon, char *const *paths, size_t n_paths)
{
	if (daemon->intake != NULL) {
		intake_released(daemon->intake, paths, n_paths);
		return;
	}
	/* While the parts are closed nothing is handed over, and uploads still end. */
	for (size_t i = 0; daemon->roots != NULL && i < n_paths; i++)
		roots_remove(daemon->roots, paths[i]);
}

static void on_released(void *ctx, char *const *paths, size_t n_paths)
{
	daemon_released(ctx, paths, n_paths);
}

struct handover { /* from a session to intake and back */
	struct intake_handover handover;
	struct server_enqueue *req;
};

static void on_taken_in(struct intake_handover *taken)
{
	struct handover *h = CONTAINER_OF(taken, struct handover, handover);
	struct server_enqueue *req = h->req;

	req->err = taken->err;
	req->request_id = taken->request_id;
	req->n_new = taken->n_new;
	req->is_rooted = taken->is_rooted;
	free(h);
	req->done(req);
}

/* No memory: the answer comes in the next turn all the same. */
static void on_refused(struct loop_post *post)
{
	struct server_enqueue *req = CONTAINER_OF(post, struct server_enqueue, post);

	req->done(req);
}

static void on_enqueue(void *ctx, struct server_enqueue *req, server_enqueued_fn done)
{
	struct daemon *daemon = ctx;
	bool takes_in = daemon->intake != NULL && !daemon->is_closing_parts && !daemon->drain.is_on;
	struct handover *h = takes_in ? calloc(1, sizeof(*h)) : NULL;

	req->done = done;
	if (h == NULL) {
		error_set(&req->err, ERROR_TRANSIENT, "nncached %s",
		          daemon->drain.is_on ? "is stopping" : "cannot take it in just now");
		loop_post(&daemon->loop, &req->post, on_refused);
		return;
	}
	h->req = req;
	h->handover.uid = req->uid;
	h->handover.tag = req->tag;
	h->handover.derivation = req->derivation;
	h->handover.paths = req->paths;
	h->handover.n_paths = req->n_paths;
	h->handover.caches = req->caches;
	h->handover.push = req->push;
	h->handover.force = req->force;
	intake_start(daemon->intake, &h->handover, on_taken_in);
}

/* For `systemctl status`. */
static void tell_manager(const struct daemon *daemon)
{
	uint64_t n_failed = 0, n_unfinished = queue_root_count(daemon->queue, ROOT_RESOLVING);

	for (size_t i = 0; i < daemon->config->n_caches; i++) {
		const struct queue_counts *counts = queue_cache_counts(daemon->queue, i);

		n_failed += counts->jobs[JOB_FAILED];
		n_unfinished += counts->jobs[JOB_READY] + counts->jobs[JOB_DELAYED] + counts->jobs[JOB_SENT] +
		                counts->jobs[JOB_BLOCKED];
	}
	notify_status("%s%s%" PRIu64 " to go, %" PRIu64 " failed; see nncachectl status",
	              daemon->drain.is_on ? "draining: " : "",
	              daemon->config_error != NULL ? "the configuration is broken, nothing is uploaded: "
	                                           : "",
	              n_unfinished, n_failed);
}

static const char *queue_message(const struct daemon *daemon)
{
	const char *fault = queue_fault(daemon->queue);

	if (fault == NULL && *daemon->queue_message != '\0')
		return daemon->queue_message;
	return fault;
}

void daemon_show_parts(struct daemon *daemon)
{
	struct server_parts parts = {
		.queue = daemon->queue,
		.uploader = daemon->uploader,
		.verifier = daemon->verifier,
		.store = daemon->store,
		.store_dir = store_dir(daemon->store),
		.config_error = daemon->config_error,
		.roots_message = roots_message(daemon->roots),
		.queue_message = queue_message(daemon),
		.is_draining = daemon->drain.is_on,
		.spool_message = intake_spool_message(daemon->intake),
		.n_spool_files = intake_n_spool_files(daemon->intake),
		.n_bad_spool_files = intake_n_bad_spool_files(daemon->intake),
	};

	if (daemon->is_ready)
		server_set_parts(daemon->server, &parts);
	tell_manager(daemon);
}

static void daemon_fail(struct daemon *daemon, const struct error *err)
{
	log_error("%s", err->text);
	daemon->status = EXIT_FAILURE;
	daemon->stopping = true;
	closing_begin(daemon);
}

static void on_news(void *ctx)
{
	struct daemon *daemon = ctx;

	if (!daemon->is_closing_parts)
		daemon_show_parts(daemon);
}

#define LOST_WITH_QUEUE                                                                               \
	"tags, chosen priorities, which caches a path was handed over for (it goes to all of them), " \
	"pauses, what had failed, the history and what caches are known to have (they are asked again)"

/* A queue that is gone leaves no trace but these; a push that was killed leaves one. */
static void tell_of_lost_queue(const struct daemon *daemon)
{
	uint64_t n = intake_n_unknown_roots(daemon->intake);

	if (n > 0 && queue_set_aside(daemon->queue) == NULL)
		log_warning(
			"the queue did not know of GC roots of this daemon, and takes them in roots=%" PRIu64
			"; if it was lost, so were " LOST_WITH_QUEUE,
			n);
}

static void on_ready(void *ctx)
{
	struct daemon *daemon = ctx;
	struct server_config config = {
		.loop = &daemon->loop,
		.config = daemon->config,
		.listen_fd = daemon->listen_fd,
		.enqueue = on_enqueue,
		.on_released = on_released,
		.ctx = daemon,
	};
	struct error err;

	if (daemon->server == NULL && server_open(&daemon->server, &config, &err) < 0) {
		daemon_fail(daemon, &err);
		return;
	}
	server_reconfigure(daemon->server, daemon->config);
	tell_of_lost_queue(daemon);
	daemon->is_ready = true;
	daemon->told_starting_mono_ms = 0;
	housekeeping_begin(daemon);
	daemon_show_parts(daemon);
	log_info("ready version=%s caches=%zu socket=%s", NNCACHE_VERSION, daemon->config->n_caches,
	         daemon->config->socket);
	notify_ready();
}

static void set_log_level(const struct daemon *daemon)
{
	log_set_level(daemon->places->log_level != 0 ? daemon->places->log_level : daemon->config->log_level);
}

/* ---- opening ----------------------------------------------------------------------------------------- */

static const char *kind_name(enum cache_kind kind)
{
	switch (kind) {
	case CACHE_FILE:
		return "file";
	case CACHE_HTTP:
		return "http";
	case CACHE_S3:
		return "s3";
	case CACHE_CACHIX:
		return "cachix";
	case CACHE_ATTIC:
		return "attic";
	}
	return "unknown";
}

static size_t fill_endpoints(struct daemon *daemon, struct queue_endpoint *endpoints)
{
	const struct config *config = daemon->config;
	size_t n = 0;

	memset(daemon->upstreams, 0, sizeof(daemon->upstreams));
	for (size_t i = 0; i < config->n_caches; i++) {
		const struct cache_config *cache = &config->caches[i];

		for (size_t k = 0; k < config->n_upstreams; k++)
			for (size_t m = 0; m < cache->upstreams.n; m++)
				if (strcmp(cache->upstreams.items[m], config->upstreams[k].name) == 0)
					daemon->upstreams[i] |= UINT64_C(1) << (config->n_caches + k);
		endpoints[n++] = (struct queue_endpoint){
			.name = cache->name,
			.kind = kind_name(cache->kind),
			.identity = cache->identity,
			.presence_ttl_s = cache->presence_ttl_s,
			.upstreams = daemon->upstreams[i],
		};
	}
	for (size_t i = 0; i < config->n_upstreams; i++)
		endpoints[n++] = (struct queue_endpoint){
			.name = config->upstreams[i].name,
			.kind = "upstream",
			.identity = config->upstreams[i].url,
			.is_upstream = true,
			.presence_ttl_s = config->upstreams[i].keeps_forever ? 0 : 24 * 3600,
		};
	return n;
}

void daemon_queue_path(const struct daemon *daemon, char ret[4096])
{
	snprintf(ret, 4096, "%s/queue.db", daemon->config->state_dir);
}

/* What the new queue cannot know is said once, where an operator looks for it. */
static void tell_of_new_queue(const struct daemon *daemon)
{
	const char *damaged = queue_set_aside(daemon->queue);

	if (damaged == NULL)
		return;
	log_error("the queue was damaged and is built anew from GC roots and the spool: the damaged one is "
	          "%s; lost are " LOST_WITH_QUEUE,
	          damaged);
}

/* However long it takes, the service manager is to wait, and to start nothing over again. */
static void tell_starting(struct daemon *daemon, const char *what)
{
	uint64_t now = clock_mono_ms();

	if (daemon->told_starting_mono_ms != 0 && now - daemon->told_starting_mono_ms < STARTING_EVERY_MS)
		return;
	daemon->told_starting_mono_ms = now;
	notify_status("%s", what);
	notify_starting(STARTING_MORE_MS);
}

static void on_migrating(void *ctx)
{
	tell_starting(ctx, "bringing the queue's schema up to date");
}

/* Most starts are over at once. */
static void on_starting(void *ctx)
{
	struct daemon *daemon = ctx;

	if (daemon->told_starting_mono_ms == 0)
		daemon->told_starting_mono_ms = clock_mono_ms();
	else
		tell_starting(daemon, "looking through the GC roots");
}

static int open_queue(struct daemon *daemon, struct error *err)
{
	struct queue_endpoint endpoints[CONFIG_MAX_ENDPOINTS];
	char path[4096];
	struct queue_config config = {
		.path = path,
		.endpoints = endpoints,
		.n_endpoints = fill_endpoints(daemon, endpoints),
		.on_fatal = on_fatal,
		.on_change = on_change,
		.on_released = on_released,
		.on_migrating = on_migrating,
		.ctx = daemon,
	};

	daemon_queue_path(daemon, path);
	if (queue_open(&daemon->queue, &daemon->loop, &config, err) < 0)
		return -1;
	tell_of_new_queue(daemon);
	return 0;
}

static int make_dirs(const struct config *config, struct error *err)
{
	if (make_dir(config->state_dir, 0700, true, err) < 0 ||
	    make_dir(config->spool_dir, 0700, true, err) < 0)
		return -1;
	return 0;
}

static int open_roots(struct daemon *daemon, struct error *err)
{
	char fallback[4096];

	snprintf(fallback, sizeof(fallback), "%s/roots", daemon->config->state_dir);
	if (roots_open(&daemon->roots, daemon->store, daemon->config->gcroots_dir, fallback, err) < 0)
		return -1;
	if (roots_message(daemon->roots) != NULL)
		log_warning("paths are not protected from garbage collection: %s",
		            roots_message(daemon->roots));
	return 0;
}

static int open_uploader(struct daemon *daemon, struct error *err)
{
	struct uploader_config config = {
		.loop = &daemon->loop,
		.queue = daemon->queue,
		.store = daemon->store,
		.config = daemon->config,
		.on_released = on_released,
		.ctx = daemon,
	};

	if (daemon->config_error != NULL)
		return 0; /* takes in, uploads nothing */
	return uploader_open(&daemon->uploader, &config, err);
}

static int open_verifier(struct daemon *daemon, struct error *err)
{
	const struct verifier_config config = {
		.loop = &daemon->loop,
		.queue = daemon->queue,
		.store = daemon->store,
		.uploader = daemon->uploader,
		.config = daemon->config,
		.upstreams = daemon->upstreams,
	};

	if (daemon->uploader == NULL)
		return 0;
	return verifier_open(&daemon->verifier, &config, err);
}

static int open_intake(struct daemon *daemon, struct error *err)
{
	struct intake_config config = {
		.loop = &daemon->loop,
		.queue = daemon->queue,
		.store = daemon->store,
		.roots = daemon->roots,
		.config = daemon->config,
		.policy = daemon->policy,
		.targets = daemon->uploader != NULL ? uploader_targets(daemon->uploader) : 0,
		.resolves = daemon->uploader != NULL,
		.upstreams = daemon->upstreams,
		.on_starting = on_starting,
		.on_ready = on_ready,
		.on_news = on_news,
		.ctx = daemon,
	};

	return intake_open(&daemon->intake, &config, err);
}

static int open_parts(struct daemon *daemon, struct error *err)
{
	daemon->is_closing_parts = false;
	files_raise_limit(daemon->config);
	if (make_dirs(daemon->config, err) < 0 || open_queue(daemon, err) < 0 ||
	    store_open(&daemon->store, &daemon->loop, daemon->config->store, err) < 0 ||
	    open_roots(daemon, err) < 0 || policy_new(&daemon->policy, daemon->config, err) < 0 ||
	    open_uploader(daemon, err) < 0 || open_verifier(daemon, err) < 0 || open_intake(daemon, err) < 0)
		return -1;
	if (daemon->uploader != NULL)
		uploader_poke(daemon->uploader, ~UINT64_C(0));
	return 0;
}

/* ---- closing ----------------------------------------------------------------------------------------- */

static void finish(struct daemon *daemon)
{
	housekeeping_close(daemon);
	stop_close(daemon);
	watchdog_close(&daemon->watchdog);
	for (size_t i = 0; i < N_SIGNALS; i++)
		uv_close((uv_handle_t *)&daemon->signals[i], NULL);
}

void daemon_parts_closed(struct daemon *daemon)
{
	struct error err;

	daemon->is_closing_parts = false;
	if (daemon->stopping && daemon->server != NULL) {
		closing_begin(daemon); /* a reload was to keep the server */
		return;
	}
	if (daemon->stopping) {
		crash_point(STOP_CLOSED);
		finish(daemon);
		return;
	}
	crash_point(RELOAD_CLOSED);
	if (daemon->server != NULL)
		server_reconfigure(daemon->server, daemon->next_config);
	config_free(daemon->config);
	daemon->config = daemon->next_config;
	set_log_level(daemon);
	daemon->next_config = NULL;
	if (open_parts(daemon, &err) < 0)
		daemon_fail(daemon, &err);
	else if (daemon->reload_again)
		reload(daemon);
}

void daemon_stop(struct daemon *daemon)
{
	crash_point(STOP_BEGUN);
	log_info("stopping");
	daemon->stopping = true;
	closing_begin(daemon);
}

/* ---- signals ----------------------------------------------------------------------------------------- */

static void tell_change(void *ctx, const struct config_change *change)
{
	static const char *const words[] = { "changed", "new", "removed" };

	(void)ctx;
	if (change->name == NULL)
		log_info("config %s section=%s key=%s", words[change->what], change->section, change->key);
	else if (change->key != NULL)
		log_info("config %s %s=%s key=%s", words[change->what], change->section, change->name,
		         change->key);
	else
		log_info("config %s %s=%s", words[change->what], change->section, change->name);
}

static void reload(struct daemon *daemon)
{
	struct config *config = NULL;
	struct buf messages;

	if (daemon->drain.is_on)
		return;
	daemon->reload_again = daemon->is_closing_parts;
	if (daemon->is_closing_parts)
		return;
	buf_init(&messages, MIB(1));
	free(daemon->config_error);
	daemon->config_error = NULL;
	if (config_load(&config, daemon->places, true, &messages) < 0) {
		log_error("the new configuration is not taken, the old one stays: %s", buf_text(&messages));
		daemon->config_error = strdup(buf_text(&messages));
		daemon_show_parts(daemon);
	} else {
		log_info("reloading");
		config_compare(daemon->config, config, tell_change, NULL);
		notify_reloading();
		crash_point(RELOAD_BEGUN);
		daemon->next_config = config;
		closing_begin(daemon);
	}
	buf_fini(&messages);
}

static void on_signal(uv_signal_t *handle, int number)
{
	struct daemon *daemon = handle->data;

	if (number == SIGHUP) {
		reload(daemon);
		return;
	}
	if (!daemon->stopping)
		stop_begin(daemon);
}

static void watch_signals(struct daemon *daemon)
{
	static const int numbers[N_SIGNALS] = { SIGTERM, SIGINT, SIGHUP };

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < N_SIGNALS; i++) {
		uv_signal_init(&daemon->loop.uv, &daemon->signals[i]);
		daemon->signals[i].data = daemon;
		uv_signal_start(&daemon->signals[i], on_signal, numbers[i]);
	}
}

static unsigned n_workers(const struct config *config)
{
	long n_cores = sysconf(_SC_NPROCESSORS_ONLN);

	return EXTRA_WORKERS + (config->pack_jobs > 0 ? config->pack_jobs
	                        : n_cores > 0         ? (unsigned)n_cores
	                                              : 1);
}

int daemon_run(struct config *config, const char *config_error, const struct config_places *places)
{
	static const struct rlimit no_core = { 0 };
	struct daemon *daemon = calloc(1, sizeof(*daemon));
	struct error err;
	int status;

	/* Secrets live in this process: no core file, no reading by others of our user. */
	prctl(PR_SET_DUMPABLE, 0);
	setrlimit(RLIMIT_CORE, &no_core);
	umask(0077);
	work_set_threads(n_workers(config));
	if (daemon == NULL || loop_init(&daemon->loop, &err) < 0) {
		log_error("cannot start: out of memory");
		config_free(config);
		free(daemon);
		return EXIT_FAILURE;
	}
	daemon->config = config;
	daemon->config_error = config_error != NULL ? strdup(config_error) : NULL;
	daemon->places = places;
	set_log_level(daemon);
	daemon->listen_fd = notify_listen_fd();
	watch_signals(daemon);
	housekeeping_open(daemon);
	stop_open(daemon);
	watchdog_open(&daemon->watchdog, &daemon->loop);
	if (open_parts(daemon, &err) < 0)
		daemon_fail(daemon, &err);
	loop_run(&daemon->loop);
	log_info("stopped");
	loop_fini(&daemon->loop);
	status = daemon->status;
	config_free(daemon->config);
	config_free(daemon->next_config);
	free(daemon->config_error);
	free(daemon);
	return status;
}
