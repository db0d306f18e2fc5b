/* From the top down: each part's end begins the next one's. */
#include "daemon/internal.h"

/* Behind the queue, which lets roots go until its end. */
static void close_roots(struct daemon *daemon)
{
	roots_close(daemon->roots);
	daemon->roots = NULL;
	daemon_parts_closed(daemon);
}

static void on_queue_closed(void *ctx)
{
	struct daemon *daemon = ctx;

	daemon->queue = NULL;
	close_roots(daemon);
}

static void close_queue(struct daemon *daemon)
{
	if (daemon->queue != NULL)
		queue_close(daemon->queue, on_queue_closed, daemon);
	else
		close_roots(daemon);
}

static void on_store_closed(void *ctx)
{
	struct daemon *daemon = ctx;

	daemon->store = NULL;
	close_queue(daemon);
}

static void on_uploader_closed(void *ctx)
{
	struct daemon *daemon = ctx;

	daemon->uploader = NULL;
	policy_free(daemon->policy);
	daemon->policy = NULL;
	if (daemon->store != NULL)
		store_close(daemon->store, on_store_closed, daemon);
	else
		close_queue(daemon);
}

static void close_uploader(struct daemon *daemon)
{
	if (daemon->uploader != NULL)
		uploader_close(daemon->uploader, on_uploader_closed, daemon);
	else
		on_uploader_closed(daemon);
}

static void on_intake_closed(void *ctx)
{
	struct daemon *daemon = ctx;

	daemon->intake = NULL;
	close_uploader(daemon);
}

static void close_intake(struct daemon *daemon)
{
	if (daemon->intake != NULL)
		intake_close(daemon->intake, on_intake_closed, daemon);
	else
		close_uploader(daemon);
}

static void on_verifier_closed(void *ctx)
{
	struct daemon *daemon = ctx;

	daemon->verifier = NULL;
	close_intake(daemon);
}

static void close_verifier(struct daemon *daemon)
{
	if (daemon->verifier != NULL)
		verifier_close(daemon->verifier, on_verifier_closed, daemon);
	else
		close_intake(daemon);
}

static void on_server_closed(void *ctx)
{
	struct daemon *daemon = ctx;

	daemon->server = NULL;
	close_verifier(daemon);
}

void closing_begin(struct daemon *daemon)
{
	static const struct server_parts none = { 0 };

	if (daemon->is_closing_parts)
		return;
	daemon->is_closing_parts = true;
	daemon->is_ready = false;
	if (daemon->server != NULL)
		server_set_parts(daemon->server, &none);
	if (daemon->server != NULL && daemon->stopping)
		server_close(daemon->server, on_server_closed, daemon);
	else
		close_verifier(daemon);
}
