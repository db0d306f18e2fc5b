/*   waiting --an engine is free--> running --item done--> running ... --> body ended or failed, done
 *
 * Each item is a few MiB on a worker; between two items the loop publishes what came and looks at
 * the cancel flag. A pack that ends before it has an engine ends in a turn of its own. */
#include "daemon/pack/pack.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/pack/engine.h"

struct packer {
	struct loop *loop;
	EVP_MD *sha256;
	unsigned n_jobs, n_running;
	struct engine *idle;
	struct pack *first, **last; /* waiting */
};

const char *compression_name(enum compression compression)
{
	return compression == COMPRESSION_ZSTD ? "zstd" : "none";
}

const char *compression_suffix(enum compression compression)
{
	return compression == COMPRESSION_ZSTD ? ".zst" : "";
}

uint64_t compression_bound(enum compression compression, uint64_t nar_size)
{
	/* zstd's own bound is 3 bytes for each 128 KiB and a header; this is a little above. */
	return compression == COMPRESSION_ZSTD ? nar_size + nar_size / 256 + 512 : nar_size;
}

int packer_open(struct packer **ret, struct loop *loop, unsigned n_jobs, struct error *err)
{
	struct packer *packer = calloc(1, sizeof(*packer));

	assert(n_jobs > 0);
	if (packer == NULL)
		return error_set(err, ERROR_TRANSIENT, "packer: no memory");
	packer->loop = loop;
	packer->n_jobs = n_jobs;
	packer->last = &packer->first;
	/* Once here, else each pack would look it up again. */
	packer->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (packer->sha256 == NULL) {
		packer_close(packer);
		return error_set(err, ERROR_OPERATOR, "packer: this libcrypto has no SHA-256");
	}
	*ret = packer;
	return 0;
}

static void free_engines(struct engine **list)
{
	while (*list != NULL) {
		struct engine *engine = *list;

		*list = engine->next;
		engine_free(engine);
	}
}

void packer_close(struct packer *packer)
{
	if (packer == NULL)
		return;
	assert(packer->n_running == 0 && packer->first == NULL);
	free_engines(&packer->idle);
	EVP_MD_free(packer->sha256);
	free(packer);
}

static struct engine *take_engine(struct packer *packer)
{
	struct engine *engine = packer->idle;

	if (engine == NULL)
		return engine_new(packer->sha256);
	packer->idle = engine->next;
	return engine;
}

/* While packs run or wait all engines are kept; with nothing to do, one at most, and no large one. */
static void give_engine(struct packer *packer, struct engine *engine)
{
	bool is_small = engine_reset(engine);

	engine->pack = NULL;
	if (packer->n_running == 0 && packer->first == NULL) {
		free_engines(&packer->idle);
		if (!is_small) {
			engine_free(engine);
			return;
		}
	}
	engine->next = packer->idle;
	packer->idle = engine;
}

/* Gives the body its end and the caller its pack back. */
static void finish(struct pack *pack)
{
	if (pack->err.kind == ERROR_NONE) {
		body_set_hash(pack->spec.body, pack->file_hash);
		body_end(pack->spec.body);
	} else {
		body_fail(pack->spec.body, &pack->err);
	}
	pack->done(pack);
}

static void on_early_end(struct loop_post *post)
{
	finish(CONTAINER_OF(post, struct pack, post));
}

static void start_waiting(struct packer *packer);

static void run_item(struct work *work)
{
	engine_run(CONTAINER_OF(work, struct engine, work));
}

/* Moves what the engine found to the pack, and the engine to the next. */
static void leave_engine(struct pack *pack)
{
	struct packer *packer = pack->packer;
	struct engine *engine = pack->engine;

	if (atomic_load(&engine->is_canceled)) {
		pack->fault = PACK_OTHER;
		error_set(&pack->err, ERROR_CANCELED, "canceled");
	} else {
		pack->fault = engine->fault;
		pack->err = engine->err;
		pack->file_size = engine->file_bytes;
		memcpy(pack->file_hash, engine->file_hash, sizeof(pack->file_hash));
	}
	pack->engine = NULL;
	packer->n_running--;
	give_engine(packer, engine);
	start_waiting(packer);
}

static void on_item_done(struct work *work)
{
	struct engine *engine = CONTAINER_OF(work, struct engine, work);
	struct pack *pack = engine->pack;

	pack->nar_done_bytes = engine->nar_bytes;
	/* Nobody appends just now. Who is woken may cancel us. */
	if (!engine->is_finished && engine->fault == PACK_FINE)
		body_publish(pack->spec.body);
	if (engine->is_finished || engine->fault != PACK_FINE || atomic_load(&engine->is_canceled)) {
		leave_engine(pack);
		finish(pack);
		return;
	}
	work_start(pack->packer->loop, work, run_item, on_item_done);
}

static void start(struct pack *pack)
{
	struct packer *packer = pack->packer;
	struct engine *engine = take_engine(packer);

	if (engine == NULL) {
		pack->fault = PACK_OTHER;
		error_set(&pack->err, ERROR_TRANSIENT, "%s: no memory to pack it", pack->spec.info->path);
		loop_post(packer->loop, &pack->post, on_early_end);
		return;
	}
	packer->n_running++;
	pack->engine = engine;
	engine->pack = pack;
	engine_set(engine, &pack->spec);
	work_start(packer->loop, &engine->work, run_item, on_item_done);
}

static void start_waiting(struct packer *packer)
{
	while (packer->first != NULL && packer->n_running < packer->n_jobs) {
		struct pack *pack = packer->first;

		packer->first = pack->next;
		if (packer->first == NULL)
			packer->last = &packer->first;
		pack->next = NULL;
		start(pack);
	}
}

void pack_start(struct packer *packer, struct pack *pack, const struct pack_spec *spec, pack_done_fn done)
{
	*pack = (struct pack){ .done = done, .packer = packer, .spec = *spec };
	*packer->last = pack;
	packer->last = &pack->next;
	start_waiting(packer);
}

void pack_cancel(struct pack *pack)
{
	struct packer *packer = pack->packer;
	struct pack **at = &packer->first;

	if (pack->engine != NULL) {
		atomic_store(&pack->engine->is_canceled, true);
		work_cancel(&pack->engine->work);
		return;
	}
	while (*at != NULL && *at != pack)
		at = &(*at)->next;
	if (*at == NULL)
		return; /* it is ending already */
	*at = pack->next;
	if (packer->last == &pack->next)
		packer->last = at;
	pack->fault = PACK_OTHER;
	error_set(&pack->err, ERROR_CANCELED, "canceled");
	loop_post(packer->loop, &pack->post, on_early_end);
}
