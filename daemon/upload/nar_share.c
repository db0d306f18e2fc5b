/* One share goes RESERVING -> PACKING -> PACKED, or to FAILED from either. It is freed when nobody uses
 * it and nothing of it runs: leaving early cancels the reservation or the pack, whose done() then frees. */
#include "daemon/upload/nar_share.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/store_path.h"

static void share_free(struct nar_share *share)
{
	struct nar_share **at = &share->table->shares;

	while (*at != share)
		at = &(*at)->next;
	*at = share->next;
	share->table->n_shares--;
	if (share->table->telling == share)
		share->table->telling = NULL;
	body_unref(share->body);
	path_info_fini(&share->info);
	free(share->real_path);
	if (share->table->n_shares == 0 && share->table->emptied != NULL)
		share->table->emptied(share->table);
	free(share);
}

/* Tells everybody once. A user may leave meanwhile, itself or another: so each carries the number of
 * the telling it was last told in, and the search begins anew after each. */
static void tell_users(struct loop_post *post)
{
	struct nar_share *share = CONTAINER_OF(post, struct nar_share, post);
	struct nar_user *user = share->users;
	unsigned round = ++share->table->n_tellings;

	while (user != NULL) {
		if (user->told == round) {
			user = user->next;
			continue;
		}
		user->told = round;
		share->table->telling = share;
		user->changed(user);
		if (share->table->telling == NULL)
			return; /* the last one left, and the share is gone */
		share->table->telling = NULL;
		user = share->users;
	}
}

static void share_move(struct nar_share *share, enum nar_state state)
{
	share->state = state;
	loop_post(share->table->loop, &share->post, tell_users);
}

static void on_packed(struct pack *pack)
{
	struct nar_share *share = CONTAINER_OF(pack, struct nar_share, pack);

	if (share->users == NULL) {
		share_free(share);
		return;
	}
	share->err = pack->err;
	share_move(share, pack->err.kind == ERROR_NONE ? NAR_PACKED : NAR_FAILED);
}

static void on_reserved(struct body_reserve *reserve)
{
	struct nar_share *share = CONTAINER_OF(reserve, struct nar_share, reserve);
	struct pack_spec spec;

	share->body = reserve->body;
	if (share->users == NULL) {
		share_free(share);
		return;
	}
	if (reserve->err.kind != ERROR_NONE) {
		share->err = reserve->err;
		share_move(share, NAR_FAILED);
		return;
	}
	spec = (struct pack_spec){
		.real_path = share->real_path,
		.info = &share->info,
		.compression = share->compression,
		.level = share->level,
		.body = share->body,
	};
	pack_start(share->table->packer, &share->pack, &spec, on_packed);
	share_move(share, NAR_PACKING);
}

static struct nar_share *share_find(const struct nar_table *table, const struct path_info *info,
                                    enum compression compression, int level)
{
	for (struct nar_share *share = table->shares; share != NULL; share = share->next)
		if (share->users != NULL && share->state != NAR_FAILED && share->compression == compression &&
		    share->level == level && share->info.nar_size == info->nar_size &&
		    memcmp(share->info.nar_hash, info->nar_hash, SHA256_BYTES) == 0)
			return share;
	return NULL;
}

static struct nar_share *share_new(struct nar_table *table, const struct path_info *info,
                                   enum compression compression, int level, struct error *err)
{
	struct nar_share *share = calloc(1, sizeof(*share));

	if (share == NULL) {
		error_set(err, ERROR_TRANSIENT, "out of memory");
		return NULL;
	}
	if (path_info_copy(&share->info, info, err) < 0 ||
	    asprintf(&share->real_path, "%s/%s", store_real_dir(table->store), store_path_base(info->path)) <
	            0) {
		path_info_fini(&share->info);
		free(share);
		error_set(err, ERROR_TRANSIENT, "out of memory");
		return NULL;
	}
	share->table = table;
	share->compression = compression;
	share->level = level;
	share->next = table->shares;
	table->shares = share;
	table->n_shares++;
	return share;
}

struct room nar_room(const struct nar_table *table, const struct path_info *info,
                     enum compression compression, int level)
{
	const struct nar_share *share = share_find(table, info, compression, level);

	if (share != NULL && share->state == NAR_PACKED)
		return room_for(body_readable_bytes(share->body));
	return room_for(compression_bound(compression, info->nar_size));
}

int nar_join(struct nar_table *table, struct nar_user *user, const struct path_info *info,
             enum compression compression, int level, nar_user_fn changed, struct error *err)
{
	struct nar_share *share = share_find(table, info, compression, level);
	bool is_new = share == NULL;

	assert(user->share == NULL);
	if (is_new)
		share = share_new(table, info, compression, level, err);
	if (share == NULL)
		return -1;
	user->share = share;
	user->changed = changed;
	user->next = share->users;
	share->users = user;
	if (is_new)
		body_reserve_start(table->pool, &share->reserve,
		                   compression_bound(compression, info->nar_size), on_reserved);
	return 0;
}

void nar_leave(struct nar_user *user)
{
	struct nar_share *share = user->share;
	struct nar_user **at;

	if (share == NULL)
		return;
	for (at = &share->users; *at != user; at = &(*at)->next)
		assert(*at != NULL);
	*at = user->next;
	*user = (struct nar_user){ 0 };
	if (share->users != NULL)
		return;
	loop_unpost(share->table->loop, &share->post);
	switch (share->state) {
	case NAR_RESERVING:
		body_reserve_cancel(&share->reserve);
		return;
	case NAR_PACKING:
		pack_cancel(&share->pack);
		return;
	case NAR_PACKED:
	case NAR_FAILED:
		share_free(share);
		return;
	}
}
