/* NARs on their way, each packed once however many uploads want it: equal contents, or one path for
 * several caches (I5). A share lives as long as somebody uses it; the last one to leave a share that is
 * still packing cancels it.
 * Thread: loop. */
#ifndef DAEMON_UPLOAD_NAR_SHARE_H
#define DAEMON_UPLOAD_NAR_SHARE_H

#include "daemon/pack/pack.h"
#include "daemon/store/store.h"

enum nar_state {
	NAR_RESERVING, /* waiting for room */
	NAR_PACKING,   /* body is there and grows */
	NAR_PACKED,    /* body is whole, hash and size verified */
	NAR_FAILED,    /* see err and fault */
};

struct nar_share {
	struct nar_table *table;
	struct nar_share *next;
	struct nar_user *users;
	enum nar_state state;
	struct path_info info; /* a copy: of the first user's path, whose files are read */
	char *real_path;
	enum compression compression;
	int level;
	struct body_reserve reserve;
	struct body *body;
	struct pack pack;
	struct error err;
	struct loop_post post;
};

struct nar_user;
typedef void (*nar_user_fn)(struct nar_user *user);
struct nar_user { /* embedded in an upload; zeroed uses nothing */
	struct nar_share *share;
	struct nar_user *next;
	unsigned told;
	nar_user_fn changed; /* the share's state moved; it may be left from here */
};

struct nar_table {
	struct loop *loop;
	struct store *store;
	struct body_pool *pool;
	struct packer *packer;
	struct nar_share *shares;
	size_t n_shares;
	void (*emptied)(struct nar_table *table); /* the last share went; or NULL */
	unsigned n_tellings;
	struct nar_share *telling; /* whose users are just being told; NULL once it is freed */
};

/* Joins the NAR of INFO (copied), or begins it. CHANGED fires after every move from now on, never
 * before this returns; look at the state at once too. Returns -1 when out of memory (TRANSIENT). */
int nar_join(struct nar_table *table, struct nar_user *user, const struct path_info *info,
             enum compression compression, int level, nar_user_fn changed, struct error *err) MUST_CHECK;
/* What joining takes: of the body as it is, once it is packed, or of the largest it can become. */
struct room nar_room(const struct nar_table *table, const struct path_info *info,
                     enum compression compression, int level);
void nar_leave(struct nar_user *user); /* takes one that uses nothing */

#endif
