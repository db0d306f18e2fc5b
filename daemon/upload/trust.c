/* Is a path in an upstream already? It is if it carries a signature by the key of one that keeps all it
 * signed for ever: then nobody is asked. Verifying is a tenth of a millisecond on a worker, and only once a
 * path: that it is there is remembered for ever, too. A forced job is not spared its questions.
 *
 * And a server can name keys by itself: what they signed its readers have from elsewhere, so that it counts
 * as there. It names no more than their names, which anybody can write into a signature: it must be good by a
 * key of that name that we know, of any upstream. */
#include <assert.h>
#include <string.h>

#include "common/log.h"
#include "daemon/format/signature.h"
#include "daemon/upload/transfer.h"

static const struct upstream_config *get_forever(const struct upload *u, size_t i)
{
	const struct uploader *uploader = u->cache->uploader;
	const struct upstream_config *upstream = &uploader->config->upstreams[i];

	return upstream->keeps_forever && (u->cache->upstreams >> (uploader->n_caches + i) & 1) ? upstream
	                                                                                        : NULL;
}

static bool has_name_of(const struct path_info *info, const char *key_text)
{
	size_t len = strcspn(key_text, ":") + 1;

	for (size_t i = 0; i < info->n_sigs; i++)
		if (strncmp(info->sigs[i], key_text, len) == 0)
			return true;
	return false;
}

static bool names_upstream(const struct upload *u)
{
	for (size_t i = 0; i < u->cache->uploader->config->n_upstreams; i++) {
		const struct upstream_config *upstream = get_forever(u, i);

		for (size_t k = 0; upstream != NULL && k < upstream->public_keys.n; k++)
			if (has_name_of(&u->job.info, upstream->public_keys.items[k]))
				return true;
	}
	return false;
}

/* On a worker: what it reads does not change while the upload lives. */
static void verify(struct work *work)
{
	struct upload *u = CONTAINER_OF(work, struct upload, trust.work);
	const struct uploader *uploader = u->cache->uploader;

	for (size_t i = 0; i < uploader->config->n_upstreams; i++) {
		const struct upstream_config *upstream = get_forever(u, i);

		for (size_t k = 0; upstream != NULL && k < upstream->public_keys.n; k++)
			if (vouch_is_signed_by(&u->job.info, upstream->public_keys.items[k])) {
				u->trust.endpoint = uploader->n_caches + i;
				u->trust.is_signed = true;
				return;
			}
	}
}

static void on_verified(struct work *work)
{
	struct upload *u = CONTAINER_OF(work, struct upload, trust.work);

	assert(u->state == UPLOAD_VERIFYING);
	u->trust.is_running = false;
	if (u->trust.is_signed)
		record_finish(u, JOB_IN_UPSTREAM, u->trust.endpoint);
	else
		upload_prepare(u);
}

void trust_check(struct upload *u)
{
	if (u->closing || u->job.force || u->job.nar_sent || u->job.upload_id != NULL || !names_upstream(u)) {
		upload_prepare(u);
		return;
	}
	u->trust.is_running = true;
	work_start(u->cache->uploader->loop, &u->trust.work, verify, on_verified);
}

/* ---- keys that the cache names ------------------------------------------------------------------------ */

static bool is_named(const struct backend_announced *announced, const char *key_text)
{
	size_t len = strcspn(key_text, ":");

	for (size_t i = 0; i < announced->n_upstream_keys; i++)
		if (strncmp(announced->upstream_keys[i], key_text, len) == 0 &&
		    announced->upstream_keys[i][len] == '\0')
			return true;
	return false;
}

/* On the loop: what the cache says may be another thing soon. */
static void collect_keys(struct upload *u)
{
	const struct config *config = u->cache->uploader->config;
	const struct backend_announced *announced = &u->link->backend->announced;

	u->trust.n_keys = 0;
	for (size_t i = 0; announced->n_upstream_keys > 0 && i < config->n_upstreams; i++)
		for (size_t k = 0; k < config->upstreams[i].public_keys.n; k++) {
			const char *key = config->upstreams[i].public_keys.items[k];

			if (u->trust.n_keys < N_ELEMENTS(u->trust.keys) && is_named(announced, key) &&
			    has_name_of(&u->job.info, key))
				u->trust.keys[u->trust.n_keys++] = key;
		}
}

static void verify_collected(struct work *work)
{
	struct upload *u = CONTAINER_OF(work, struct upload, trust.work);

	for (size_t i = 0; i < u->trust.n_keys && !u->trust.is_signed; i++)
		u->trust.is_signed = vouch_is_signed_by(&u->job.info, u->trust.keys[i]);
}

static void on_collected_verified(struct work *work)
{
	struct upload *u = CONTAINER_OF(work, struct upload, trust.work);

	assert(u->state == UPLOAD_VERIFYING);
	u->trust.is_running = false;
	if (u->trust.is_signed)
		record_finish(u, JOB_PRESENT, u->cache->number);
	else
		upload_ask(u);
}

void trust_check_named(struct upload *u)
{
	collect_keys(u);
	if (u->job.force || u->trust.n_keys == 0) {
		upload_ask(u);
		return;
	}
	upload_move(u, UPLOAD_VERIFYING);
	u->trust.is_running = true;
	work_start(u->cache->uploader->loop, &u->trust.work, verify_collected, on_collected_verified);
}

static bool has_key_named(const struct config *config, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < config->n_upstreams; i++)
		for (size_t k = 0; k < config->upstreams[i].public_keys.n; k++) {
			const char *key = config->upstreams[i].public_keys.items[k];

			if (strncmp(key, name, len) == 0 && key[len] == ':')
				return true;
		}
	return false;
}

void trust_tell_unknown(const struct upload_cache *cache)
{
	const struct backend_announced *announced = &cache->link->backend->announced;

	for (size_t i = 0; i < announced->n_upstream_keys; i++)
		if (!has_key_named(cache->uploader->config, announced->upstream_keys[i]))
			log_info("cache names a key that no upstream here has cache=%s key=%s: what it "
			         "signed is "
			         "uploaded, too",
			         cache->config->name, announced->upstream_keys[i]);
}

void trust_cancel(struct upload *u)
{
	if (u->trust.is_running)
		work_cancel(&u->trust.work);
}
