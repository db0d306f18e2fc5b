/* A conversation with a nix-daemon: the worker protocol (PROTOCOLS 6) as a client that announces 1.38
 * without features and speaks whatever is agreed on, from 1.21 (Nix 2.1) up.
 * One request at a time; each has the connection's time-out from its first byte to the last of its
 * reply. After an error nothing more can be asked: close it, and open another.
 * Errors: TRANSIENT throughout, and the text names the socket. Thread: any, one at a time; it blocks. */
#ifndef DAEMON_STORE_WORKER_H
#define DAEMON_STORE_WORKER_H

#include "daemon/format/path_info.h"
#include "daemon/store/wire.h"

struct worker;

/* The socket's path holds at most 107 bytes. STORE_DIR is borrowed until worker_close; replies that
 * name paths elsewhere are refused. */
int worker_open(struct worker **ret, const char *socket_path, const char *store_dir, unsigned timeout_ms,
                struct error *err) MUST_CHECK;
void worker_close(struct worker *worker); /* takes NULL */

/* No fault yet, and no temporary root: those live as long as the connection, so that one which is
 * kept would gather them. */
bool worker_is_reusable(const struct worker *worker);
const char *worker_nix_version(const struct worker *worker); /* "2.8.0"; "" when it does not say */
unsigned worker_minor(const struct worker *worker);          /* of the protocol agreed on: 38 is 1.38 */

enum worker_trust { WORKER_TRUST_UNKNOWN, WORKER_TRUSTED, WORKER_NOT_TRUSTED };
/* Does the daemon take settings such as post-build-hook from us? Those before 1.35 do not say it, and are
 * asked for what they refuse to others: to repair, though nothing. Close the connection afterwards. */
int worker_query_trust(struct worker *worker, enum worker_trust *ret, struct error *err) MUST_CHECK;
int worker_is_valid_path(struct worker *worker, const char *path, bool *ret, struct error *err) MUST_CHECK;
/* Any path, valid or not, until worker_close. A Nix before 2.5 answers when a running GC has ended. */
int worker_add_temp_root(struct worker *worker, const char *path, struct error *err) MUST_CHECK;
/* LINK: absolute name of a symlink to a store path. Twice is fine. */
int worker_add_indirect_root(struct worker *worker, const char *link, struct error *err) MUST_CHECK;
/* RET is normalized; its path is NULL if PATH is not valid. */
int worker_query_path_info(struct worker *worker, const char *path, struct path_info *ret, struct error *err)
	MUST_CHECK;
/* Those of PATHS that are valid; the caller's to texts_free. */
int worker_query_valid_paths(struct worker *worker, char *const *paths, size_t n_paths, char ***ret,
                             size_t *ret_n, struct error *err) MUST_CHECK;
/* The output paths that are known of DERIVATION, a valid path that ends in .drv; the caller's
 * to texts_free. Needs 1.22. */
int worker_query_outputs(struct worker *worker, const char *derivation, char ***ret, size_t *ret_n,
                         struct error *err) MUST_CHECK;

/* Where the bytes go: a socket, or in a test a recording. */
struct worker_io {
	wire_read_fn read;
	int (*write)(void *ctx, const void *data, size_t n_bytes, struct error *err);
	void (*close)(void *ctx);
};
/* Takes CTX, also when it fails. */
int worker_open_io(struct worker **ret, const struct worker_io *io, void *ctx, const char *store_dir,
                   struct error *err) MUST_CHECK;

#endif
