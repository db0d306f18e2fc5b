/* The narinfo of an upload, with the signatures by which we vouch for the path. */
#include <stdlib.h>

#include "daemon/format/narinfo.h"
#include "daemon/format/signature.h"
#include "daemon/upload/transfer.h"
#include "daemon/upload/vouch.h"

#define SIG_MAX_BYTES KIB(1)

bool vouch_is_signed_by(const struct path_info *info, const char *key_text)
{
	struct public_key key;
	struct error err;

	if (public_key_parse(&key, key_text, &err) < 0)
		return false; /* the configuration was checked: a reload will say so */
	for (size_t i = 0; i < info->n_sigs; i++)
		if (signature_verify(info->sigs[i], &key, info))
			return true;
	return false;
}

/* `built`: built here, content-addressed, or somebody trusted vouches already. */
bool vouch_is_for(const struct config *config, const struct cache_config *cache, const struct path_info *info)
{
	switch (cache->sign) {
	case SIGN_NO:
		return false;
	case SIGN_CLOSURE:
		return true;
	case SIGN_BUILT:
		break;
	}
	if (info->ultimate || info->ca != NULL)
		return true;
	for (size_t i = 0; i < config->n_upstreams; i++)
		for (size_t k = 0; k < config->upstreams[i].public_keys.n; k++)
			if (vouch_is_signed_by(info, config->upstreams[i].public_keys.items[k]))
				return true;
	return false;
}

void vouch_free(struct upload *u)
{
	for (size_t i = 0; i < u->n_sigs; i++)
		free(u->sigs[i]);
	free(u->sigs);
	u->sigs = NULL;
	u->n_sigs = 0;
}

int vouch_sign(struct upload *u, struct error *err)
{
	bool is_ours = vouch_is_for(u->cache->uploader->config, u->cache->config, &u->job.info);
	size_t n_keys = is_ours ? u->link->n_keys : 0;
	struct buf buf;

	vouch_free(u);
	u->sigs = calloc(n_keys + 1, sizeof(u->sigs[0]));
	for (size_t i = 0; u->sigs != NULL && i < n_keys; i++) {
		buf_init(&buf, SIG_MAX_BYTES);
		signature_format(&buf, u->link->keys[i], &u->job.info);
		u->sigs[i] = buf_take(&buf);
		buf_fini(&buf);
		if (u->sigs[i] == NULL)
			return error_set(err, ERROR_TRANSIENT, "out of memory");
		u->n_sigs++;
	}
	u->object.sigs = (const char *const *)u->sigs;
	u->object.n_sigs = u->n_sigs;
	return u->sigs != NULL ? 0 : error_set(err, ERROR_TRANSIENT, "out of memory");
}

int vouch_format(struct upload *u, struct error *err)
{
	struct narinfo_file file = {
		.url = u->object.nar_key,
		.compression = u->object.compression,
		.file_hash = u->job.has_file_hash ? u->job.file_hash : NULL,
		.file_size = u->job.file_size,
	};

	if (vouch_sign(u, err) < 0)
		return -1;
	file.sigs = u->object.sigs;
	file.n_sigs = u->object.n_sigs;
	buf_clear(&u->narinfo);
	return narinfo_format(&u->narinfo, &u->job.info, &file, err);
}
