/* An unfinished put whose job is gone is nobody's: no claim brings its note any more. The queue kept that,
 * and here it is taken away from the cache, so that no bytes are paid for that nobody sees.
 *
 *	next leftover of the queue -> abandon it on the cache -> drop it from the queue -> next ...
 *
 * While the breaker is open it waits for the probe, which is an upload; where there is none left, until one
 * would be due.
 * One that cannot be taken away stays for an hour, or for the next start: it holds up no upload, and its
 * fault says nothing to the breaker, which the uploads ask. */
#include "common/log.h"
#include "daemon/upload/transfer.h"

#define LATER_MS 3600000

static void take_next(struct upload_cache *cache);

static void end(struct upload_cache *cache)
{
	struct upload_leftovers *l = &cache->leftovers;

	queue_op_fini(&l->next.op);
	link_unref(l->link);
	l->link = NULL;
	l->is_running = false;
	if (cache->uploader->closing)
		uploader_maybe_closed(cache->uploader);
	else if (l->some_stay)
		timer_set(&l->later, LATER_MS);
	else if (l->again)
		leftovers_clear(cache);
}

static void stays(struct upload_cache *cache, const struct error *err)
{
	if (!cache->uploader->closing)
		log_info("an unfinished upload stays for now cache=%s: %s", cache->config->name, err->text);
	cache->leftovers.some_stay = true;
}

static void on_dropped(struct queue_op *op)
{
	struct upload_cache *cache = CONTAINER_OF(op, struct upload_cache, leftovers.drop.op);

	if (op->err.kind == ERROR_NONE) {
		take_next(cache);
	} else {
		stays(cache, &op->err);
		end(cache);
	}
}

/* Not while we close: the next start then hears of the server that there is none, which is as good. */
static void drop(struct upload_cache *cache)
{
	struct upload_leftovers *l = &cache->leftovers;

	if (cache->uploader->closing) {
		end(cache);
		return;
	}
	l->drop = (struct queue_drop_leftover){
		.op.verb = QUEUE_DROP_LEFTOVER,
		.cache = cache->number,
		.id = l->next.id,
	};
	queue_start(cache->uploader->queue, &l->drop.op, on_dropped);
}

static void on_abandoned(struct backend_op *op)
{
	struct upload_cache *cache = CONTAINER_OF(op, struct upload_cache, leftovers.op);

	cache->leftovers.op_is_running = false;
	if (op->err.kind == ERROR_NONE) {
		drop(cache);
		return;
	}
	stays(cache, &op->err);
	/* What says something of this one alone holds up none of the others. */
	if (op->err.kind == ERROR_TRANSIENT || op->is_server_fault)
		end(cache);
	else
		take_next(cache);
}

static void abandon(struct upload_cache *cache)
{
	struct upload_leftovers *l = &cache->leftovers;
	struct uploader *uploader = cache->uploader;
	struct error err;

	if (l->link == NULL && link_open(&l->link, uploader->loop, uploader->http, cache->config,
	                                 store_dir(uploader->store), &err) < 0) {
		stays(cache, &err);
		end(cache);
		return;
	}
	if (l->link->backend->ops->abandon_start == NULL) {
		drop(cache);
		return;
	}
	l->op_is_running = true;
	l->op = (struct backend_op){ .done = on_abandoned, .backend = l->link->backend };
	l->link->backend->ops->abandon_start(l->link->backend, &l->op, l->next.note);
}

static void on_next(struct queue_op *op)
{
	struct upload_cache *cache = CONTAINER_OF(op, struct upload_cache, leftovers.next.op);

	if (op->err.kind != ERROR_NONE)
		stays(cache, &op->err);
	if (op->err.kind != ERROR_NONE || cache->leftovers.next.id == 0 || cache->uploader->closing)
		end(cache);
	else
		abandon(cache);
}

/* Those behind the last one: it stays, or is gone. */
static void take_next(struct upload_cache *cache)
{
	struct upload_leftovers *l = &cache->leftovers;
	int64_t after_id = l->next.id;

	if (cache->uploader->closing) {
		end(cache);
		return;
	}
	queue_op_fini(&l->next.op);
	l->next = (struct queue_next_leftover){
		.op.verb = QUEUE_NEXT_LEFTOVER,
		.cache = cache->number,
		.after_id = after_id,
	};
	queue_start(cache->uploader->queue, &l->next.op, on_next);
}

void leftovers_clear(struct upload_cache *cache)
{
	struct upload_leftovers *l = &cache->leftovers;

	if (cache->uploader->closing || cache->reads_only || timer_is_set(&l->later) ||
	    queue_cache_counts(cache->uploader->queue, cache->number)->leftovers == 0)
		return;
	if (l->is_running) {
		l->again = true;
		return;
	}
	l->is_running = true;
	l->again = l->some_stay = false;
	take_next(cache);
}

void leftovers_cancel(struct upload_cache *cache)
{
	if (cache->leftovers.op_is_running)
		cache->leftovers.link->backend->ops->cancel(&cache->leftovers.op);
}
