/* File descriptors: as many as we may have, and a warning if that is fewer than the settings can need.
 * Without one nothing is lost: connections wait, uploads are put off. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/log.h"
#include "daemon/format/nar.h"
#include "daemon/internal.h"

enum {
	OWN_FILES = 64,           /* the queue's, the store's, the loop's, those of libraries */
	FILES_PER_UPLOAD = 3,     /* a connection, the packed file, and on file:// the one that is written */
	UPSTREAM_CONNECTIONS = 32 /* http.h's default */
};

static uint64_t n_wanted(const struct config *config)
{
	long n_cores = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t n_packs = config->pack_jobs > 0 ? config->pack_jobs : n_cores > 0 ? (uint64_t)n_cores : 1;
	uint64_t n = OWN_FILES + SERVER_MAX_SESSIONS + n_packs * (NAR_DEPTH_MAX + 1) +
	             config->n_upstreams * UPSTREAM_CONNECTIONS;

	for (size_t i = 0; i < config->n_caches; i++)
		n += (uint64_t)config->caches[i].upload_jobs * FILES_PER_UPLOAD;
	return n;
}

void files_raise_limit(const struct config *config)
{
	uint64_t n = n_wanted(config);
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	if (limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			log_warning("limit of file descriptors cannot be raised: %s, going on as it is",
			            strerror(errno));
	}
	if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < n)
		log_warning(
			"%" PRIu64 " file descriptors may be open at once with these settings, %" PRIu64
			" are allowed (ulimit -Hn, LimitNOFILE): what finds none waits and is tried again",
			n, (uint64_t)limit.rlim_max);
}
