/* A path whose files are gone, or are not what Nix registered: what does the store say of it now? Gone for
 * good; rebuilt with other contents, then the job starts anew; or still the same, then something is wrong
 * with its files, which is looked at three times. */
#include <assert.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/store_path.h"
#include "daemon/plan/backoff.h"
#include "daemon/upload/transfer.h"

static void on_refreshed(struct queue_op *op)
{
	struct upload *u = CONTAINER_OF(op, struct upload, q.op);

	if (op->err.kind != ERROR_NONE) {
		u->fault = op->err;
		record_fault(u, false);
		return;
	}
	/* Its job started anew with the new path info; the claim is what is left of this one. */
	record_release(u);
}

static void on_stored(struct store_info_query *query)
{
	struct upload *u = CONTAINER_OF(query, struct upload, query);
	const char *path = u->job.info.path;

	assert(u->state == UPLOAD_CHECKING_STORE);
	if (query->err.kind != ERROR_NONE) {
		u->fault = query->err;
		record_fault(u, false);
		return;
	}
	if (u->stored.path == NULL) {
		error_set(&u->fault, ERROR_PERMANENT, "gone: %s is no longer valid in the store", path);
		record_fault(u, false);
		return;
	}
	if (memcmp(u->stored.nar_hash, u->job.info.nar_hash, SHA256_BYTES) != 0) {
		log_info("path was rebuilt path=%s", store_path_base(path));
		u->q.refresh = (struct queue_refresh){ .now_unix_s = clock_unix_s(), .info = &u->stored };
		u->q.op.verb = QUEUE_REFRESH;
		upload_move(u, UPLOAD_RECORDING);
		queue_start(u->cache->uploader->queue, &u->q.op, on_refreshed);
		return;
	}
	if (u->job.mismatches + 1 >= BACKOFF_MISMATCHES)
		error_set(
			&u->fault, ERROR_PERMANENT,
			"differs from what Nix registered; look: nix-store --verify-path %s; mend: nix-store "
			"--repair-path %s; then: nncachectl retry %s",
			path, path, path);
	record_fault(u, true);
}

void check_store(struct upload *u)
{
	upload_move(u, UPLOAD_CHECKING_STORE);
	u->query_path = u->job.info.path;
	u->query = (struct store_info_query){ .paths = &u->query_path, .n_paths = 1, .infos = &u->stored };
	store_info_start(u->cache->uploader->store, &u->query, on_stored);
}
