/* What the kinds of backends share: how an op begins and ends, and the two small texts that every
 * cache holds. Thread: loop; the check_ and format_ functions any. */
#ifndef DAEMON_BACKEND_KIND_H
#define DAEMON_BACKEND_KIND_H

#include "daemon/backend/backend.h"

#define CACHE_INFO_KEY       "nix-cache-info"
#define CACHE_INFO_MAX_BYTES KIB(64)
#define CACHE_INFO_TEXT_SIZE 1024 /* of ours */
#define NARINFO_KEY_SIZE     64

/* What an op's call begins with where a kind has several sorts of them. */
struct op_call {
	void (*cancel)(struct backend_op *op);
};

/* Clears what a run of OP sets. */
void op_begin(struct backend *backend, struct backend_op *op);
/* Fires done in the next turn; OP's call must be gone. */
void op_end_later(struct backend_op *op);

/* Of the seam, for kinds whose calls begin with a struct op_call. */
void op_cancel_call(struct backend_op *op);
/* Of the seam, for kind WHOLE: no NAR is there without its path, and a narinfo need not be put. */
void op_find_nothing_start(struct backend *backend, struct backend_op *op,
                           const struct backend_object *object);
void op_put_nothing_start(struct backend *backend, struct backend_op *op, const struct backend_object *object,
                          const char *text, size_t len);

/* What a http_source's read() gives of BODY; counts as OP's progress. */
ssize_t op_read_body(struct backend_op *op, struct body *body, uint64_t offset, void *data, size_t n_bytes,
                     struct error *err);

/* Overwrites and frees *TEXT, a secret, and leaves NULL; takes NULL there. */
void wipe_text(char **text);

/* Makes each control character of TEXT a blank: words of a server, on the way to a person. */
void make_plain(char *text);

/* For what a cache announces: takes TEXT (may be NULL), unless it is too long or no such thing. */
void announce_key(struct backend *backend, const char *text);
void announce_reader_url(struct backend *backend, const char *text);

/* "HASH.narinfo" of the store path PATH. */
const char *format_narinfo_key(char key[NARINFO_KEY_SIZE], const char *path);

/* Is TEXT, got from WHERE ("GET URL", a file), the narinfo of PATH? OPERATOR if not. */
int check_narinfo(const char *where, const char *text, size_t len, const char *path, struct error *err)
	MUST_CHECK;
/* What TEXT, which is a narinfo, names as its NAR; cut, as in an op. */
void read_nar_url(char ret[96], const char *text);

/* Is what REQ was answered for people, as what networks say that want a login first? Inside done only. */
bool is_web_page(const struct http_request *req);
/* So REQ shows nothing of a cache: TRANSIENT. */
void fail_web_page(const struct http_request *req, struct error *err);

/* Needs no memory: a cache would keep for ever what there was room for. Returns the length. */
size_t format_cache_info(char text[CACHE_INFO_TEXT_SIZE], const char *store_dir);
/* Is TEXT a nix-cache-info for STORE_DIR? OPERATOR if not. */
int check_cache_info(const char *where, const char *text, const char *store_dir, struct error *err)
	MUST_CHECK;

/* Of a cache whose configuration was checked: its server, "https://HOST" with what stands before the name and
 * no slash at the end, or as the section has it; and its name. What is const is borrowed from CACHE; the
 * other is for the caller to free, NULL: no memory. */
char *attic_endpoint(const struct cache_config *cache);
const char *attic_name(const struct cache_config *cache, size_t *ret_len);
const char *cachix_endpoint(const struct cache_config *cache);
char *cachix_name(const struct cache_config *cache);
#define READ_KEY_MAX_BYTES 1024

/* Fires done in the next turn; READ's call must be gone. */
void read_end_later(struct backend_read *read);
/* Of the seam: reads KEY below the directory DIR, on the shared workers. */
void file_read_start(struct loop *loop, const char *dir, struct backend_read *read, const char *key);
/* Of the seam: reads KEY below BASE, an URL. */
void http_read_start(struct loop *loop, struct http_client *client, const char *base,
                     struct backend_read *read, const char *key);

/* Without STORE_DIR: for reading only. */
int file_backend_open(struct backend **ret, struct loop *loop, const char *url, const char *store_dir,
                      struct error *err) MUST_CHECK;
int http_backend_open(struct backend **ret, struct loop *loop, struct http *http,
                      const struct http_options *options, const char *url, const char *store_dir,
                      struct error *err) MUST_CHECK;
int cachix_backend_open(struct backend **ret, struct loop *loop, struct http *http,
                        const struct http_options *options, const struct cache_config *cache,
                        const char *store_dir, struct error *err) MUST_CHECK;
int attic_backend_open(struct backend **ret, struct loop *loop, struct http *http,
                       const struct http_options *options, const struct cache_config *cache,
                       const char *store_dir, struct error *err) MUST_CHECK;
int s3_backend_open(struct backend **ret, struct loop *loop, struct http *http,
                    const struct http_options *options, const struct cache_config *config,
                    const char *store_dir, struct error *err) MUST_CHECK;

#endif
