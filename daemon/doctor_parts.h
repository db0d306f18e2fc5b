/* What the files of the doctor share. Thread: loop. */
#ifndef DAEMON_DOCTOR_PARTS_H
#define DAEMON_DOCTOR_PARTS_H

#include "common/record.h"
#include "daemon/loop/timer.h"
#include "daemon/store/store.h"
#include "daemon/upload/link.h"

struct doctor {
	struct loop loop;
	struct http *http;
	struct store *store;
	struct timer deadline;
	const struct config *config;
	struct doctor_cache *caches;
	struct store_info_query query;
	struct path_info info;
	const char *asked[1];
	char path[4200]; /* of no one: asked for to see whether there is an answer */
	unsigned n_busy;
	bool is_late;
};

/* One of the things begun for DOCTOR has ended. */
void doctor_ended(struct doctor *doctor);

struct doctor_cache {
	struct doctor *doctor;
	const struct cache_config *config;
	struct cache_link *link;
	struct backend_op op;
	bool has_op, has_req; /* runs */
	bool found;
	struct error err; /* of opening or probing it */

	struct http_client *reader; /* shows no credentials */
	char *reader_url;           /* of its nix-cache-info */
	struct http_request req;
	struct error reader_err;
	char reader_store_dir[512];
	long priority; /* -1: said none */
	int64_t skew_s;
	bool has_skew, was_read;
};

/* Begins to look at the cache; doctor_ended once that is over. */
void doctor_cache_start(struct doctor_cache *cache);
void doctor_cache_cancel(struct doctor_cache *cache); /* whether or not something runs */
void doctor_cache_put(const struct doctor_cache *cache, struct buf *out);
void doctor_cache_close(struct doctor_cache *cache);

/* The records `config`, `place` and `group`. STORE_DIR: where the store's files lie, or NULL. */
void doctor_put_places(const struct config *config, const char *store_dir, const char *error,
                       struct buf *out);

/* The name of a file system's type as statfs has it, or NULL; *RET_IS_REMOTE: locks and fsync may mean
 * little there; *RET_IS_VOLATILE: it does not outlast a reboot. */
const char *doctor_file_system(unsigned long type, bool *ret_is_remote, bool *ret_is_volatile);

/* Reads the HTTP date TEXT ("Mon, 23 Nov 2026 07:00:00 GMT"). Returns false if it is none. */
bool doctor_parse_date(const char *text, int64_t *ret_unix_s);
/* The value of "NAME: VALUE" in TEXT, a nix-cache-info, cut at the size of RET. False: there is no such line.
 */
bool doctor_find_value(const char *text, const char *name, char *ret, size_t size);

#endif
