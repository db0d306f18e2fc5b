#include "daemon/store/worker.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/store_path.h"
#include "daemon/format/hash.h"
#include "daemon/store/socket.h"
#include "daemon/store/texts.h"

#define CLIENT_MAGIC      0x6e697863
#define SERVER_MAGIC      0x6478696f
#define MINOR_OURS        38
#define MINOR_OLDEST      21
#define REQUEST_MAX       MIB(64)
#define MINOR_TELLS_TRUST 35
#define SIG_MAX           4096
#define CA_MAX            4096
#define FEATURE_MAX       4096
#define VERSION(minor)    (1 << 8 | (minor))

enum operation {
	OP_IS_VALID_PATH = 1,
	OP_BUILD_PATHS = 9,
	OP_ADD_TEMP_ROOT = 11,
	OP_ADD_INDIRECT_ROOT = 12,
	OP_SET_OPTIONS = 19,
	OP_QUERY_PATH_INFO = 26,
	OP_QUERY_VALID_PATHS = 31,
	OP_QUERY_DERIVATION_OUTPUT_MAP = 41,
};

struct worker {
	const struct worker_io *io;
	void *ctx;
	const char *store_dir;
	unsigned minor;
	bool no_options;
	bool has_temp_roots;
	enum worker_trust trust;
	char nix_version[64];
	struct buf out;
	struct wire in;
};

/* What was put into OUT goes; its reply is what is read next. */
static void flush(struct worker *worker)
{
	struct error err;

	if (!buf_ok(&worker->out))
		wire_fail(&worker->in, "out of memory for a request");
	if (wire_is_ok(&worker->in) &&
	    worker->io->write(worker->ctx, worker->out.data, worker->out.len, &err) < 0)
		worker->in.err = err;
	buf_clear(&worker->out);
	wire_begin(&worker->in);
}

static void put_op(struct worker *worker, enum operation op)
{
	wire_put_u64(&worker->out, op);
}

/* Sends the request; afterwards the reply proper is what comes next. */
static void ask(struct worker *worker)
{
	flush(worker);
	wire_stderr(&worker->in, worker->minor);
}

static void ask_with_text(struct worker *worker, enum operation op, const char *text)
{
	put_op(worker, op);
	wire_put_text(&worker->out, text);
	ask(worker);
}

static void read_features(struct worker *worker)
{
	char **features = NULL;
	size_t n = 0;

	wire_texts(&worker->in, FEATURE_MAX, &features, &n);
	for (size_t i = 0; i < n; i++)
		if (strcmp(features[i], "disable-set-options") == 0)
			worker->no_options = true;
	texts_free(features, n);
}

static void agree_on_version(struct worker *worker)
{
	uint64_t version;

	wire_put_u64(&worker->out, CLIENT_MAGIC);
	wire_put_u64(&worker->out, VERSION(MINOR_OURS));
	flush(worker);
	if (wire_u64(&worker->in) != SERVER_MAGIC)
		wire_fail(&worker->in, "no nix-daemon answers there");
	version = wire_u64(&worker->in);
	if (version >> 8 != 1 || version < VERSION(MINOR_OLDEST))
		wire_fail(&worker->in,
		          "it speaks protocol %llu.%llu; 1.%d (Nix 2.1) is the oldest that we can",
		          (unsigned long long)(version >> 8), (unsigned long long)(version & 0xff),
		          MINOR_OLDEST);
	worker->minor = version < VERSION(MINOR_OURS) ? (unsigned)(version & 0xff) : MINOR_OURS;
}

static void read_trust(struct worker *worker)
{
	uint64_t word = wire_u64(&worker->in);

	worker->trust = word == 1 ? WORKER_TRUSTED : word == 2 ? WORKER_NOT_TRUSTED : WORKER_TRUST_UNKNOWN;
}

static void shake_hands(struct worker *worker)
{
	agree_on_version(worker);
	if (worker->minor >= 38)
		wire_put_u64(&worker->out, 0); /* our features */
	wire_put_u64(&worker->out, 0);         /* CPU affinity, obsolete */
	wire_put_u64(&worker->out, 0);         /* reserve space, obsolete */
	flush(worker);
	if (worker->minor >= 38)
		read_features(worker);
	if (worker->minor >= 33)
		wire_text_cut(&worker->in, worker->nix_version, sizeof(worker->nix_version));
	if (worker->minor >= MINOR_TELLS_TRUST)
		read_trust(worker);
	wire_stderr(&worker->in, worker->minor);
}

/* Nix does without, snix drops a client that does not begin with it. */
static void set_options(struct worker *worker)
{
	static const uint8_t options[] = {
		0, /* keep failed */
		0, /* keep going */
		0, /* try fallback */
		0, /* verbosity: errors only */
		1, /* max build jobs */
		0, /* max silent time */
		1, /* use build hook, obsolete */
		0, /* verbose build */
		0, /* log type, obsolete */
		0, /* print build trace, obsolete */
		0, /* build cores */
		1, /* use substitutes */
		0, /* overrides */
	};

	if (worker->no_options)
		return;
	put_op(worker, OP_SET_OPTIONS);
	for (size_t i = 0; i < sizeof(options); i++)
		wire_put_u64(&worker->out, options[i]);
	ask(worker);
}

int worker_open_io(struct worker **ret, const struct worker_io *io, void *ctx, const char *store_dir,
                   struct error *err)
{
	struct worker *worker = calloc(1, sizeof(*worker));

	if (worker == NULL) {
		io->close(ctx);
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	}
	worker->io = io;
	worker->ctx = ctx;
	worker->store_dir = store_dir;
	buf_init(&worker->out, REQUEST_MAX);
	wire_init(&worker->in, io->read, ctx);
	shake_hands(worker);
	set_options(worker);
	if (wire_end(&worker->in, err) < 0) {
		worker_close(worker);
		return -1;
	}
	*ret = worker;
	return 0;
}

int worker_open(struct worker **ret, const char *socket_path, const char *store_dir, unsigned timeout_ms,
                struct error *err)
{
	static const struct worker_io io = { socket_read, socket_write, socket_close };
	struct socket *socket;

	if (socket_open(&socket, socket_path, timeout_ms, err) < 0)
		return -1;
	if (worker_open_io(ret, &io, socket, store_dir, err) < 0)
		return error_prefix(err, "%s", socket_path);
	return 0;
}

void worker_close(struct worker *worker)
{
	if (worker == NULL)
		return;
	worker->io->close(worker->ctx);
	buf_fini(&worker->out);
	free(worker);
}

bool worker_is_reusable(const struct worker *worker)
{
	return wire_is_ok(&worker->in) && !worker->has_temp_roots;
}

const char *worker_nix_version(const struct worker *worker)
{
	return worker->nix_version;
}

unsigned worker_minor(const struct worker *worker)
{
	return worker->minor;
}

int worker_query_trust(struct worker *worker, enum worker_trust *ret, struct error *err)
{
	const uint64_t mode_repair = 1;

	if (worker->minor < MINOR_TELLS_TRUST) {
		put_op(worker, OP_BUILD_PATHS);
		wire_put_u64(&worker->out, 0); /* no paths */
		wire_put_u64(&worker->out, mode_repair);
		ask(worker);
		if (wire_is_ok(&worker->in)) {
			wire_u64(&worker->in);
			worker->trust = WORKER_TRUSTED;
		} else if (strstr(worker->in.err.text, "trusted-users") != NULL) {
			worker->trust = WORKER_NOT_TRUSTED;
			*ret = worker->trust;
			return 0;
		}
	}
	if (wire_end(&worker->in, err) < 0)
		return -1;
	*ret = worker->trust;
	return 0;
}

static int end(struct worker *worker, const char *what, struct error *err)
{
	if (wire_end(&worker->in, err) < 0)
		return error_prefix(err, "nix-daemon, asked about %s", what);
	return 0;
}

int worker_is_valid_path(struct worker *worker, const char *path, bool *ret, struct error *err)
{
	bool is_valid;

	ask_with_text(worker, OP_IS_VALID_PATH, path);
	is_valid = wire_bool(&worker->in);
	if (end(worker, path, err) < 0)
		return -1;
	*ret = is_valid;
	return 0;
}

int worker_add_temp_root(struct worker *worker, const char *path, struct error *err)
{
	worker->has_temp_roots = true;
	ask_with_text(worker, OP_ADD_TEMP_ROOT, path);
	wire_u64(&worker->in);
	return end(worker, path, err);
}

int worker_add_indirect_root(struct worker *worker, const char *link, struct error *err)
{
	ask_with_text(worker, OP_ADD_INDIRECT_ROOT, link);
	wire_u64(&worker->in);
	return end(worker, link, err);
}

static void read_nar_hash(struct wire *in, uint8_t hash[SHA256_BYTES])
{
	char hex[SHA256_HEX_SIZE + 1];

	wire_text_cut(in, hex, sizeof(hex));
	if (!hash_parse_sha256(hex, hash))
		wire_fail(in, "a NAR hash that is none");
}

static void read_path_info(struct worker *worker, const char *path, struct path_info *info)
{
	struct wire *in = &worker->in;

	if (!wire_bool(in))
		return;
	info->deriver = wire_store_path(in, worker->store_dir, true);
	read_nar_hash(in, info->nar_hash);
	wire_store_paths(in, worker->store_dir, &info->references, &info->n_references);
	info->registered_unix_s = (int64_t)wire_u64_upto(in, INT64_MAX);
	info->nar_size = wire_u64(in);
	info->ultimate = wire_bool(in);
	wire_texts(in, SIG_MAX, &info->sigs, &info->n_sigs);
	info->ca = wire_text(in, CA_MAX);
	if (info->ca != NULL && info->ca[0] == '\0') {
		free(info->ca);
		info->ca = NULL;
	}
	info->path = strdup(path);
	if (info->path == NULL)
		wire_fail(in, "out of memory");
}

int worker_query_path_info(struct worker *worker, const char *path, struct path_info *ret, struct error *err)
{
	struct path_info info = { 0 };

	ask_with_text(worker, OP_QUERY_PATH_INFO, path);
	read_path_info(worker, path, &info);
	if (end(worker, path, err) < 0) {
		path_info_fini(&info);
		return -1;
	}
	path_info_normalize(&info);
	*ret = info;
	return 0;
}

/* Hands the list on, or frees what there is of it. */
static int end_list(struct worker *worker, const char *what, char **list, size_t n, char ***ret,
                    size_t *ret_n, struct error *err)
{
	if (end(worker, what, err) < 0) {
		texts_free(list, n);
		return -1;
	}
	*ret = list;
	*ret_n = n;
	return 0;
}

int worker_query_valid_paths(struct worker *worker, char *const *paths, size_t n_paths, char ***ret,
                             size_t *ret_n, struct error *err)
{
	char **list = NULL;
	size_t n = 0;

	put_op(worker, OP_QUERY_VALID_PATHS);
	wire_put_u64(&worker->out, n_paths);
	for (size_t i = 0; i < n_paths; i++)
		wire_put_text(&worker->out, paths[i]);
	if (worker->minor >= 27)
		wire_put_u64(&worker->out, 0); /* no substitutes */
	ask(worker);
	wire_store_paths(&worker->in, worker->store_dir, &list, &n);
	return end_list(worker, "valid paths", list, n, ret, ret_n, err);
}

int worker_query_outputs(struct worker *worker, const char *derivation, char ***ret, size_t *ret_n,
                         struct error *err)
{
	char **list = NULL;
	size_t n = 0;

	/* For anything else a daemon aborts (2.8), and stops for good after 64 times (2.36). */
	assert(store_path_is_derivation(derivation));
	if (worker->minor < 22)
		return error_set(err, ERROR_TRANSIENT,
		                 "this nix-daemon is too old to know outputs (protocol 1.%u)", worker->minor);
	ask_with_text(worker, OP_QUERY_DERIVATION_OUTPUT_MAP, derivation);
	for (uint64_t left = wire_u64(&worker->in); left > 0 && wire_is_ok(&worker->in); left--) {
		wire_skip_text(&worker->in); /* the output's name */
		wire_append(&worker->in, &list, &n, wire_store_path(&worker->in, worker->store_dir, true));
	}
	return end_list(worker, derivation, list, n, ret, ret_n, err);
}
