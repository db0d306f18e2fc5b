#include "tests/sim/life.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "daemon/policy/policy.h"
#include "daemon/store/roots.h"
#include "daemon/store/store.h"
#include "tests/sim/chance.h"
#include "tests/sim/fake_loop.h"

struct life life;
char life_state_dir[512], life_spool_dir[600], life_queue_path[600];

/* ---- settings ---------------------------------------------------------------------------------------- */

static char *name_of(unsigned number)
{
	static char names[CACHES_MAX][8] = { "first", "second", "third" };

	return names[number];
}

/* One path each; what they keep back is the same in all lives. */
static void configure_filters(struct cache_config *cache, unsigned number)
{
	static char patterns[CACHES_MAX][3][16], *items[CACHES_MAX][3];
	struct text_list *lists[] = { &cache->exclude_roots, &cache->include_roots,
		                      &cache->exclude_closures };

	for (unsigned i = 0; i < N_ELEMENTS(lists); i++) {
		if (!chance_one_in(3))
			continue;
		if (lists[i] == &cache->include_roots)
			snprintf(patterns[number][i], sizeof(patterns[number][i]), "-[0-9]?[0-%u]$",
			         3 + chance_below(6));
		else
			snprintf(patterns[number][i], sizeof(patterns[number][i]), "-%u$",
			         chance_below(store_model.n_paths));
		items[number][i] = patterns[number][i];
		*lists[i] = (struct text_list){ .items = &items[number][i], .n = 1 };
	}
	if (chance_one_in(4))
		cache->exclude_closures_over_bytes = KIB(512);
}

static void configure_cache(struct cache_config *cache, unsigned number, bool uses_upstream)
{
	*cache = (struct cache_config){
		.name = name_of(number),
		.url = name_of(number),
		.identity = name_of(number),
		.push = PUSH_YES,
		.sign = SIGN_NO,
		.compression = chance_one_in(4) ? COMPRESS_NONE : COMPRESS_ZSTD,
		.compression_level = 1,
		.upload_jobs = 1 + chance_below(4),
		.presence_ttl_s = chance_one_in(3) ? 60 : 86400,
	};
	if (chance_one_in(4))
		configure_filters(cache, number);
	if (uses_upstream)
		cache->upstreams = (struct text_list){ .items = &life.upstream_name, .n = 1 };
	fake_cache_configure(cache, number, uses_upstream);
}

void life_configure(unsigned n_caches, bool has_upstream, bool is_tight)
{
	static char upstream_name[] = "upstream", upstream_url[] = "https://upstream.example.org";
	static const uint64_t memory_bytes[] = { MIB(8), MIB(32), MIB(64) };
	static const uint64_t tmp_bytes[] = { MIB(1), MIB(3), GIB(1) };
	static char store_uri[] = "auto", roots_dir[] = "/nix/var/nix/gcroots/nncache";

	struct error err;

	life = (struct life){ 0 };
	life.upstream_name = upstream_name;
	life.upstream = (struct upstream_config){ .name = upstream_name,
		                                  .url = upstream_url,
		                                  .keeps_forever = chance_one_in(2) };
	life.config = (struct config){
		.state_dir = life_state_dir,
		.spool_dir = life_spool_dir,
		.store = store_uri,
		.gcroots_dir = roots_dir,
		.pack_jobs = 1 + chance_below(3),
		.memory_bytes = is_tight ? memory_bytes[chance_below(3)] : MIB(64),
		.tmp_space_bytes = is_tight ? tmp_bytes[chance_below(3)] : GIB(1),
		.give_up_after = 2 + chance_below(24),
		.caches = life.caches,
		.n_caches = n_caches,
		.upstreams = &life.upstream,
		.n_upstreams = has_upstream,
	};
	for (unsigned i = 0; i < n_caches; i++) {
		bool uses_upstream = has_upstream && !chance_one_in(3);

		configure_cache(&life.caches[i], i, uses_upstream);
		life.upstreams[i] = uses_upstream ? UINT64_C(1) << n_caches : 0;
	}
	life.n_caches = n_caches;
	life.whole = life.config;
	if (policy_new(&life.filters, &life.whole, &err) < 0)
		violated("the simulation", "%s", err.text);
}

void life_reconfigure(bool lacks_last, bool is_renamed)
{
	static char other_name[] = "other";
	size_t n = life.n_caches - lacks_last;

	for (unsigned i = 0; i < life.n_caches; i++)
		life.upstreams[i] = life.upstreams[i] != 0 ? UINT64_C(1) << n : 0;
	life.config.n_caches = n;
	life.caches[0].name = is_renamed ? other_name : name_of(0);
	trace("%zu caches, the first is named %s", n, life.caches[0].name);
}

/* ---- what the parts tell each other ------------------------------------------------------------------ */

static void on_fatal(void *ctx, const struct error *err)
{
	(void)ctx;
	world_on_fatal(err);
}

static void on_change(void *ctx, uint64_t caches, bool roots)
{
	(void)ctx;
	if (life.uploader != NULL)
		uploader_poke(life.uploader, caches);
	if (roots && life.intake != NULL)
		intake_poke(life.intake);
}

static void on_released(void *ctx, char *const *paths, size_t n_paths)
{
	(void)ctx;
	if (life.intake != NULL)
		intake_released(life.intake, paths, n_paths);
}

static void on_starting(void *ctx)
{
	(void)ctx;
}

static void on_ready(void *ctx)
{
	(void)ctx;
	trace("ready");
	life.is_ready = true;
}

static void on_news(void *ctx)
{
	(void)ctx;
	if (life.intake != NULL && intake_n_bad_spool_files(life.intake) > 0)
		violated("I4", "a good spool file was set aside");
}

/* ---- open -------------------------------------------------------------------------------------------- */

static int open_queue(struct error *err)
{
	struct queue_endpoint endpoints[CACHES_MAX + 1];
	struct queue_config config = {
		.path = life_queue_path,
		.endpoints = endpoints,
		.on_fatal = on_fatal,
		.on_change = on_change,
		.on_released = on_released,
	};
	size_t n = 0;

	for (; n < life.config.n_caches; n++)
		endpoints[n] = (struct queue_endpoint){
			.name = life.caches[n].name,
			.kind = "file",
			.identity = life.caches[n].identity,
			.presence_ttl_s = life.caches[n].presence_ttl_s,
			.upstreams = life.upstreams[n],
		};
	if (life.config.n_upstreams > 0)
		endpoints[n++] = (struct queue_endpoint){
			.name = life.upstream.name,
			.kind = "upstream",
			.identity = life.upstream.url,
			.is_upstream = true,
			.presence_ttl_s = life.upstream.keeps_forever ? 0 : 24 * 3600,
		};
	config.n_endpoints = n;
	return queue_open(&life.queue, &life.loop, &config, err);
}

static int open_uploader(struct error *err)
{
	struct uploader_config config = {
		.loop = &life.loop,
		.queue = life.queue,
		.store = life.store,
		.config = &life.config,
		.on_released = on_released,
	};

	return uploader_open(&life.uploader, &config, err);
}

static int open_intake(struct error *err)
{
	struct intake_config config = {
		.loop = &life.loop,
		.queue = life.queue,
		.store = life.store,
		.roots = life.roots,
		.config = &life.config,
		.policy = life.policy,
		.targets = uploader_targets(life.uploader),
		.resolves = true,
		.upstreams = life.upstreams,
		.on_starting = on_starting,
		.on_ready = on_ready,
		.on_news = on_news,
	};

	return intake_open(&life.intake, &config, err);
}

int life_open(struct error *err)
{
	trace("starts");
	fake_cache_begin_life();
	life.is_ready = life.is_closing = false;
	if (loop_init(&life.loop, err) < 0 || open_queue(err) < 0)
		return -1;
	if (store_open(&life.store, &life.loop, life.config.store, err) < 0 ||
	    roots_open(&life.roots, life.store, life.config.gcroots_dir, "/", err) < 0 ||
	    policy_new(&life.policy, &life.config, err) < 0 || open_uploader(err) < 0 || open_intake(err) < 0)
		return -1;
	uploader_poke(life.uploader, ~UINT64_C(0));
	return 0;
}

/* ---- close ------------------------------------------------------------------------------------------- */

static void on_queue_closed(void *ctx)
{
	(void)ctx;
	trace("stopped");
	life.queue = NULL;
}

static void on_store_closed(void *ctx)
{
	(void)ctx;
	life.store = NULL;
	queue_close(life.queue, on_queue_closed, NULL);
}

static void on_uploader_closed(void *ctx)
{
	(void)ctx;
	life.uploader = NULL;
	policy_free(life.policy);
	roots_close(life.roots);
	life.policy = NULL;
	life.roots = NULL;
	store_close(life.store, on_store_closed, NULL);
}

static void on_intake_closed(void *ctx)
{
	(void)ctx;
	life.intake = NULL;
	uploader_close(life.uploader, on_uploader_closed, NULL);
}

void life_close(void)
{
	trace("stops");
	assert(!life.is_closing);
	life.is_closing = true;
	life.is_ready = false;
	intake_close(life.intake, on_intake_closed, NULL);
}

void life_forget(void)
{
	life.queue = NULL;
	life.store = NULL;
	life.roots = NULL;
	life.policy = NULL;
	life.uploader = NULL;
	life.intake = NULL;
	life.is_ready = life.is_closing = false;
	fake_loop_forget();
}
