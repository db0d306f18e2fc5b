/* Is a path in an upstream already? It is if it carries a signature by the key of one that keeps all it
 * signed for ever: then nobody is asked. Verifying is a tenth of a millisecond on a worker, and only once a
 * path: that it is there is remembered for ever, too. A forced job is not spared its questions. */
#include <assert.h>
#include <string.h>

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

void trust_cancel(struct upload *u)
{
	if (u->trust.is_running)
		work_cancel(&u->trust.work);
}
