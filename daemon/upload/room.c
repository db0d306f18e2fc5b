/* Uploads that wait until their cache has room for one more body: first come, first served, each cache for
 * itself; but what needs no temporary space passes those that wait for it, and one that lies beside what is
 * shared holds up only more of its like. What has room finds it in the pool, too, but for the moments that
 * something canceled takes to go. */
#include "daemon/upload/transfer.h"

/* The first whose ticket is larger than TICKET. */
static struct upload *next_waiting(const struct upload_cache *cache, uint64_t ticket)
{
	struct upload *next = NULL;

	for (struct upload *u = cache->uploads; u != NULL; u = u->next)
		if (u->room_ticket > ticket && (next == NULL || u->room_ticket < next->room_ticket))
			next = u;
	return next;
}

static void give_rooms_of(struct upload_cache *cache)
{
	struct uploader *uploader = cache->uploader;
	uint64_t largest = budget_largest_tmp_bytes(&uploader->budget);
	bool is_tmp_wanted = false;
	uint64_t ticket = 0;
	struct upload *u;

	while ((u = next_waiting(cache, ticket)) != NULL) {
		struct room room = nar_room(&uploader->nars, &u->job.info, upload_compression(u),
		                            (int)cache->config->compression_level);
		enum budget_answer answer;

		ticket = u->room_ticket;
		if (is_tmp_wanted && room.tmp_bytes > 0 && room.tmp_bytes <= largest)
			continue;
		answer = budget_take(&uploader->budget, cache->number, &room);
		if (answer == BUDGET_NO_BLOCKS)
			return;
		is_tmp_wanted |= answer == BUDGET_NO_TMP;
		if (answer != BUDGET_TAKEN)
			continue;
		u->room = room;
		u->room_ticket = 0;
		upload_send(u);
	}
}

static void give_rooms(struct loop_post *post)
{
	struct uploader *uploader = CONTAINER_OF(post, struct uploader, room_post);

	for (size_t i = 0; i < uploader->n_caches; i++)
		give_rooms_of(&uploader->caches[i]);
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
	needed.is_beside = u->room.is_beside;
	shrink(u, needed);
}

void room_leave(struct upload *u)
{
	u->room_ticket = 0;
	if (u->room.n_blocks > 0)
		shrink(u, (struct room){ 0 });
}
