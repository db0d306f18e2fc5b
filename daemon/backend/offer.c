/*   start --cachix, attic--> prepare of the backend --> nix-cache-info --> done
 *     +------http-----------------------------------------^                 ^
 *     +------file (read at once), s3 -------------------------- next turn --+
 *
 * A token that may only read is good enough here, though the backend refuses it when it is prepared: what
 * counts is that the cache said what its readers use. Of a private cache nothing can be read yet without an
 * entry in the netrc file; then its API is believed. */
#include "daemon/backend/offer.h"

#include <stdlib.h>
#include <string.h>

#include "common/fd.h"
#include "daemon/backend/kind.h"
#include "daemon/config/url.h"
#include "daemon/http/fault.h"

#define ASK_MS 30000

static void on_end(struct loop_post *post)
{
	struct offer *offer = CONTAINER_OF(post, struct offer, post);

	backend_close(offer->backend);
	offer->backend = NULL;
	http_client_close(offer->client);
	offer->client = NULL;
	buf_fini(&offer->req.answer);
	free(offer->url);
	offer->url = NULL;
	offer->done(offer);
}

static void end_later(struct offer *offer)
{
	loop_post(offer->loop, &offer->post, on_end);
}

/* ---- nix-cache-info -------------------------------------------------------------------------- */

static void judge(struct offer *offer)
{
	const struct http_request *req = &offer->req;
	bool is_closed = req->status == 401 || req->status == 403;
	struct buf where;

	if (is_closed && offer->announced.visibility == VISIBILITY_PRIVATE)
		return;
	buf_init(&where, KIB(8));
	buf_puts(&where, "GET ");
	http_format_url(&where, offer->url);
	if (is_closed)
		error_set(&offer->err, ERROR_OPERATOR, "%s; the cache is private: it takes --token-file",
		          req->err.text);
	else if (req->status == 404)
		error_set(&offer->err, ERROR_OPERATOR, "%s: there is no binary cache, or an empty one",
		          buf_text(&where));
	else if (req->err.kind != ERROR_NONE)
		offer->err = req->err;
	else if (check_cache_info(buf_text(&where), buf_text(&req->answer), offer->store_dir, &offer->err) ==
	                 0 &&
	         offer->announced.visibility == VISIBILITY_UNKNOWN && offer->cache->net.netrc_file == NULL)
		offer->announced.visibility = VISIBILITY_PUBLIC;
	buf_fini(&where);
}

static void on_cache_info(struct http_request *req)
{
	struct offer *offer = CONTAINER_OF(req, struct offer, req);

	judge(offer);
	end_later(offer);
}

static int ask_cache(struct offer *offer, struct error *err)
{
	const struct net_config *net = &offer->cache->net;
	struct http_options options = {
		.proxy = net->proxy,
		.ca_file = net->ca_file,
		.client_cert_file = net->client_cert_file,
		.client_key_file = net->client_key_file,
		.netrc_file = net->netrc_file,
		.whole_timeout_ms = ASK_MS,
	};

	offer->url = http_join_url(offer->announced.reader_url, CACHE_INFO_KEY);
	if (offer->url == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	if (http_client_open(&offer->client, offer->http, &options, err) < 0)
		return -1;
	offer->req = (struct http_request){
		.method = HTTP_GET,
		.url = offer->url,
		.answer_max_bytes = CACHE_INFO_MAX_BYTES,
	};
	http_start(offer->client, &offer->req, on_cache_info);
	return 0;
}

static int read_cache_info(struct offer *offer, struct error *err)
{
	const char *dir = offer->announced.reader_url + strlen("file://");
	struct buf file = { .max = KIB(8) };
	struct error why;
	char *text;
	int rc;

	buf_printf(&file, "%s/" CACHE_INFO_KEY, dir);
	if (!buf_ok(&file))
		rc = error_set(err, ERROR_TRANSIENT, "out of memory");
	else if (read_file(buf_text(&file), CACHE_INFO_MAX_BYTES, &text, NULL, &why) < 0)
		rc = error_set(err, ERROR_OPERATOR, "%s; is that a binary cache?", why.text);
	else {
		rc = check_cache_info(buf_text(&file), text, offer->store_dir, err);
		free(text);
	}
	buf_fini(&file);
	return rc;
}

/* ---- the API --------------------------------------------------------------------------------- */

/* What a server names must be such a URL as a person may give: it goes into the configuration of Nix. */
static int take_url(struct offer *offer, const char *url, enum url_use use, struct error *err)
{
	char normal[URL_MAX + 1];
	struct error why;
	struct buf text;

	buf_init_in(&text, normal, sizeof(normal));
	if (url_read(url, use, &text, NULL, &why) < 0 || text.len >= ANNOUNCED_URL_SIZE)
		return error_set(err, ERROR_OPERATOR, "%s: the URL for readers cannot be used",
		                 offer->cache->url);
	strcpy(offer->announced.reader_url, buf_text(&text));
	return 0;
}

static void on_prepared(struct backend_op *op)
{
	struct offer *offer = CONTAINER_OF(op, struct offer, op);
	struct backend_announced announced = offer->backend->announced;

	offer->announced = announced;
	if (announced.reader_url[0] == '\0')
		offer->err = op->err.kind != ERROR_NONE ? op->err : offer->err;
	if (announced.reader_url[0] == '\0' && op->err.kind == ERROR_NONE)
		error_set(&offer->err, ERROR_OPERATOR, "%s: it does not say where it is read",
		          offer->cache->url);
	if (offer->err.kind != ERROR_NONE ||
	    take_url(offer, announced.reader_url, URL_UPSTREAM, &offer->err) < 0 ||
	    ask_cache(offer, &offer->err) < 0)
		end_later(offer);
}

static int begin(struct offer *offer, struct error *err)
{
	switch (offer->cache->kind) {
	case CACHE_CACHIX:
	case CACHE_ATTIC:
		if (backend_open(&offer->backend, offer->loop, offer->http, offer->cache, offer->store_dir,
		                 err) < 0)
			return -1;
		offer->op.done = on_prepared;
		offer->backend->ops->prepare_start(offer->backend, &offer->op);
		return 0;
	case CACHE_HTTP:
		return take_url(offer, offer->cache->url, URL_CACHE, err) < 0 ? -1 : ask_cache(offer, err);
	case CACHE_FILE:
		if (take_url(offer, offer->cache->url, URL_CACHE, err) < 0 || read_cache_info(offer, err) < 0)
			return -1;
		end_later(offer);
		return 0;
	case CACHE_S3:
		if (take_url(offer, offer->cache->url, URL_CACHE, err) < 0)
			return -1;
		end_later(offer);
		return 0;
	}
	return error_set(err, ERROR_OPERATOR, "%s: of no kind", offer->cache->url);
}

void offer_start(struct offer *offer, struct loop *loop, struct http *http, const struct cache_config *cache,
                 const char *store_dir, offer_done_fn done)
{
	*offer = (struct offer){
		.done = done,
		.loop = loop,
		.http = http,
		.cache = cache,
		.store_dir = store_dir,
	};
	if (begin(offer, &offer->err) < 0)
		end_later(offer);
}
