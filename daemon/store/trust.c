#include "daemon/store/trust.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/store/place.h"
#include "daemon/store/socket.h"
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
static bool is_apart(const struct socket *sock)
{
	struct ucred peer;

	return socket_get_peer(sock, &peer) == 0 &&
	       (peer.pid == 0 || (peer.uid != 0 && peer.uid != geteuid()));
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
	static const struct worker_io io = { socket_read, socket_write, socket_close };
	enum worker_trust trust;
	struct worker *worker;
	struct socket *sock;
	bool is_elsewhere;
	int rc;

	if (socket_open(&sock, place->socket, TIMEOUT_MS, err) < 0)
		return -1;
	is_elsewhere = is_apart(sock);
	if (worker_open_io(&worker, &io, sock, place->store_dir, err) < 0)
		return error_prefix(err, "%s", place->socket);
	rc = worker_query_trust(worker, &trust, err);
	worker_close(worker);
	if (rc < 0)
		return -1;
	if (trust == WORKER_NOT_TRUSTED)
		*ret = TRUST_UNTRUSTED;
	else if (is_elsewhere)
		*ret = TRUST_APART;
	else if (trust == WORKER_TRUSTED)
		*ret = TRUST_TRUSTED;
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
