/* Uploads that wait until their cache has room for one more body: first come, first served, each cache for
 * itself. What has room finds it in the pool, too, but for the moments that something canceled takes to go.
 */
#include "daemon/upload/transfer.h"

static struct upload *first_waiting(const struct upload_cache *cache)
{
	struct upload *first = NULL;

	for (struct upload *u = cache->uploads; u != NULL; u = u->next)
		if (u->room_ticket != 0 && (first == NULL || u->room_ticket < first->room_ticket))
			first = u;
	return first;
}

static void give_rooms(struct loop_post *post)
{
	struct uploader *uploader = CONTAINER_OF(post, struct uploader, room_post);

	for (size_t i = 0; i < uploader->n_caches; i++) {
		struct upload *u;

		while ((u = first_waiting(&uploader->caches[i])) != NULL) {
			struct room room = nar_room(&uploader->nars, &u->job.info, upload_compression(u),
			                            (int)u->cache->config->compression_level);

			if (!budget_take(&uploader->budget, i, &room))
				break;
			u->room = room;
			u->room_ticket = 0;
			upload_send(u);
		}
	}
}

void room_wait(struct upload *u)
{
	struct uploader *uploader = u->cache->uploader;

	u->room_ticket = ++uploader->n_room_tickets;
	loop_post(uploader->loop, &uploader->room_post, give_rooms);
}

static void shrink(struct upload *u, struct room to)
{
	struct uploader *uploader = u->cache->uploader;

	budget_shrink(&uploader->budget, u->cache->number, u->room, to);
	u->room = to;
	loop_post(uploader->loop, &uploader->room_post, give_rooms);
}

void room_fit(struct upload *u, uint64_t n_bytes)
{
	struct room needed = room_for(n_bytes);

	if (needed.n_blocks > u->room.n_blocks)
		needed.n_blocks = u->room.n_blocks;
	if (needed.tmp_bytes > u->room.tmp_bytes)
		needed.tmp_bytes = u->room.tmp_bytes;
	shrink(u, needed);
}

void room_leave(struct upload *u)
{
	u->room_ticket = 0;
	if (u->room.n_blocks > 0)
		shrink(u, (struct room){ 0 });
}
