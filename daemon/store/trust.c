#include "daemon/store/trust.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/store/place.h"
#include "daemon/store/worker.h"

#define TIMEOUT_MS 5000

const char *trust_name(enum trust trust)
{
	static const char *const names[] = {
		[TRUST_LOCAL] = "local", [TRUST_TRUSTED] = "trusted", [TRUST_UNTRUSTED] = "untrusted",
		[TRUST_APART] = "apart", [TRUST_UNKNOWN] = "unknown",
	};

	return names[trust];
}

/* In another PID namespace (its number is 0 then), or neither root nor us: a directory of ours, mode 0700, is
 * not there for it. */
static bool is_apart(const char *path)
{
	CLEANUP(close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (fd < 0 || strlen(path) >= sizeof(address.sun_path))
		return false;
	memcpy(address.sun_path, path, strlen(path));
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return false;
	return cred.pid == 0 || (cred.uid != 0 && cred.uid != geteuid());
}

static bool is_auto(const char *uri)
{
	const char *remote = getenv("NIX_REMOTE");

	if (*uri == '\0' || strcmp(uri, "auto") == 0)
		uri = remote != NULL ? remote : "";
	return *uri == '\0' || strcmp(uri, "auto") == 0;
}

/* As Nix decides, also of a state directory that it has still to make. */
static bool is_without_daemon(const struct place *place)
{
	return access(place->state_dir, R_OK | W_OK) == 0 || access(place->socket, F_OK) < 0;
}

static int ask(enum trust *ret, const struct place *place, struct error *err)
{
	enum worker_trust trust;
	struct worker *worker;
	int rc;

	if (worker_open(&worker, place->socket, place->store_dir, TIMEOUT_MS, err) < 0)
		return -1;
	rc = worker_query_trust(worker, &trust, err);
	worker_close(worker);
	if (rc < 0)
		return -1;
	if (trust != WORKER_TRUST_UNKNOWN)
		*ret = trust == WORKER_TRUSTED ? TRUST_TRUSTED : TRUST_UNTRUSTED;
	if (*ret != TRUST_UNTRUSTED && is_apart(place->socket))
		*ret = TRUST_APART;
	return 0;
}

int trust_find(enum trust *ret, const char *uri, struct error *err)
{
	CLEANUP(place_fini) struct place place = { 0 };

	*ret = TRUST_UNKNOWN;
	if (place_parse(&place, uri, err) < 0)
		return -1;
	if (place.socket == NULL || (is_auto(uri) && is_without_daemon(&place))) {
		*ret = TRUST_LOCAL;
		return 0;
	}
	return ask(ret, &place, err);
}
