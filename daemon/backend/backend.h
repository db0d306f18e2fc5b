/* The seam between an upload and a cache, a file per kind of cache behind it. A backend knows how to
 * ask and how to put; it never retries, and it decides nothing about order: upload/ and plan/ do.
 *
 * Kinds of publishing:
 *   SEPARATE  put_nar makes the NAR object, put_info the narinfo (file, http, s3)
 *   WHOLE     put_nar makes both, once I2 holds; put_info does nothing (attic, cachix)
 *
 * Errors of every operation are kinds by ARCHITECTURE "Faults"; texts name method, URL (without
 * credentials) and status. Retry-After is in err.retry_after_s.
 * Thread: loop. */
#ifndef DAEMON_BACKEND_BACKEND_H
#define DAEMON_BACKEND_BACKEND_H

#include "daemon/body/body.h"
#include "daemon/config/config.h"
#include "daemon/format/path_info.h"
#include "daemon/format/signature.h"
#include "daemon/http/http.h"

enum publish_kind { PUBLISH_SEPARATE, PUBLISH_WHOLE };

struct backend;
struct backend_op;
typedef void (*backend_done_fn)(struct backend_op *op);

/* Reads one object as it lies there: a narinfo, or what a narinfo calls its URL. */
struct backend_read {                            /* the caller's until done; zero it before each start */
	void (*done)(struct backend_read *read); /* set by the caller, as is write */
	/* Takes all of it and returns 0, or HTTP_SINK_WAIT and comes again after backend_read_resume (or from
	 * within it), or HTTP_SINK_FAILED with ERR. NULL: the object is only looked at. */
	int (*write)(struct backend_read *read, const void *data, size_t n_bytes, struct error *err);
	struct error err; /* kind ERROR_NONE: went well, also if there is nothing */
	bool is_server_fault, found;
	uint64_t size_bytes; /* that it says it has; 0: unknown */
	/* the kind's own */
	void (*resume)(struct backend_read *read), (*cancel)(struct backend_read *read);
	void *call; /* NULL while none runs */
	struct loop *loop;
	struct loop_post post;
};

struct backend_op {           /* the caller's until done; zero it before the first start */
	backend_done_fn done; /* set by the caller */
	struct error err;     /* kind ERROR_NONE: went well */
	/* The fault says nothing of this path: refused, unresolvable, TLS before a request byte, or 401. */
	bool is_server_fault;
	bool found;          /* it was there: what was asked for, or before a put, which then left it alone */
	char nar_url[96];    /* of a narinfo found by file, http and s3: what it names, cut; else "" */
	uint64_t file_size;  /* of a NAR found: its bytes; 0 unknown */
	uint64_t sent_bytes; /* progress of a put, counted from its start */
	/* For a put_nar; set by the caller, or NULL. Something now lies on the server that somebody must take
	 * away should this process end before the put does: NOTE (borrowed for the call) says what, to
	 * abandon_start. The put waits until ops->put_noted. At most once a put. */
	void (*note)(struct backend_op *op, const char *note);
	struct backend *backend;
	void *call; /* the kind's own; NULL while none runs */
	struct loop_post post;
};

/* One path as a cache sees it; borrowed until the op is done. */
struct backend_object {
	const struct path_info *info;
	const char *nar_key;     /* "nar/HASH.nar.zst" */
	const char *compression; /* as narinfo names it */
	const char *const *sigs; /* ours, "name:base64", by the cache's rule; for a put of kind WHOLE */
	size_t n_sigs;
};

struct backend_ops {
	enum publish_kind kind;
	/* Makes nix-cache-info if there is none, never overwrites one; a foreign StoreDir is OPERATOR. */
	void (*prepare_start)(struct backend *backend, struct backend_op *op);
	/* Is the narinfo of PATH there? Its StorePath must be PATH, else OPERATOR. */
	void (*find_info_start)(struct backend *backend, struct backend_op *op, const char *path);
	void (*find_nar_start)(struct backend *backend, struct backend_op *op,
	                       const struct backend_object *object);
	/* Sends BODY, which may still grow; the object appears only after the body has ended. Present
	 * already (412, or 403/409 when a HEAD then finds it) is success, and `found`. */
	void (*put_nar_start)(struct backend *backend, struct backend_op *op,
	                      const struct backend_object *object, struct body *body);
	/* The note is written down, or ERR says why it could not be; then the put ends with that. */
	void (*put_noted)(struct backend_op *op, const struct error *err);
	/* Takes away what an earlier put left unfinished. Nothing left of it is success. NULL for a kind
	 * whose puts leave nothing. */
	void (*abandon_start)(struct backend *backend, struct backend_op *op, const char *note);
	/* TEXT is borrowed until done. */
	void (*put_info_start)(struct backend *backend, struct backend_op *op,
	                       const struct backend_object *object, const char *text, size_t len);
	/* As prepare_start, but makes nothing; `found`: nix-cache-info is there. Fills announced with it, and
	 * may_write where that can be asked without leaving anything. NULL: prepare_start is such. */
	void (*probe_start)(struct backend *backend, struct backend_op *op);
	/* Finds out announced.visibility: asks for nix-cache-info as somebody without credentials. What goes
	 * wrong leaves it unknown and is no error. NULL for a kind that says it when it is
	 * prepared, or of which nobody can tell. */
	void (*look_start)(struct backend *backend, struct backend_op *op);
	/* KEY is relative, without "..", borrowed until done. NULL: the kind cannot. */
	void (*read_start)(struct backend *backend, struct backend_read *read, const char *key);
	void (*cancel)(struct backend_op *op);  /* done still fires, CANCELED */
	void (*close)(struct backend *backend); /* no op may run; may need one more turn of the loop */
};

enum may_write { MAY_WRITE_UNKNOWN, MAY_WRITE_YES, MAY_WRITE_NO };

#define ANNOUNCED_URL_SIZE          512
#define ANNOUNCED_KEYS_MAX          4
#define ANNOUNCED_KEY_SIZE          (KEY_NAME_MAX + sizeof(":") + 44)
#define ANNOUNCED_UPSTREAM_KEYS_MAX 8
/* What a cache said of itself when it was last prepared: words of a server, plain and bounded, to be shown
 * and compared. */
struct backend_announced {
	enum visibility visibility;
	char reader_url[ANNOUNCED_URL_SIZE];               /* what its readers list; "": it did not say */
	char keys[ANNOUNCED_KEYS_MAX][ANNOUNCED_KEY_SIZE]; /* "name:base64", with which it signs */
	size_t n_keys;
	uint64_t retention_s; /* it may drop what is older; 0: it did not say */
	/* Names of keys; it has no need of what they signed. */
	char upstream_keys[ANNOUNCED_UPSTREAM_KEYS_MAX][KEY_NAME_MAX + 1];
	size_t n_upstream_keys;
	enum may_write may_write; /* as a probe shows it */
	struct error write_err;   /* why not */
};

struct backend { /* the kinds embed it */
	const struct backend_ops *ops;
	struct loop *loop;
	bool streams; /* a body longer than one block may be sent while it grows; http clears it once a server
	                 refuses */
	struct backend_announced announced;
};

/* Opens the backend for CACHE (borrowed while open), for reading and writing. HTTP is shared.
 * STORE_DIR is what nix-cache-info must say. Secrets are read now; a missing one is OPERATOR. */
int backend_open(struct backend **ret, struct loop *loop, struct http *http, const struct cache_config *cache,
                 const char *store_dir, struct error *err) MUST_CHECK;
/* A read-only one for an upstream: find_info, cancel and close only. */
int backend_open_upstream(struct backend **ret, struct loop *loop, struct http *http,
                          const struct upstream_config *upstream, const struct net_config *net,
                          struct error *err) MUST_CHECK;
void backend_close(struct backend *backend); /* takes NULL */

/* By ops->read_start; a KEY that leads out of the cache, or can be none, is PERMANENT. Reads must be done
 * before the backend is closed. */
void backend_read_start(struct backend *backend, struct backend_read *read, const char *key);
void backend_read_resume(struct backend_read *read);
void backend_read_cancel(struct backend_read *read); /* done still fires; takes one that does not run */

#endif
