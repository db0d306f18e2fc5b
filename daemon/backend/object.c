#include "daemon/backend/object.h"

#include "daemon/backend/kind.h"
#include "daemon/format/narinfo.h"

static int check_nothing(const char *where, const struct buf *answer, const char *subject, struct error *err)
{
	(void)where;
	(void)answer;
	(void)subject;
	(void)err;
	return 0;
}

static int check_info(const char *where, const struct buf *answer, const char *path, struct error *err)
{
	return check_narinfo(where, buf_text(answer), answer->len, path, err);
}

static int check_cache(const char *where, const struct buf *answer, const char *store_dir, struct error *err)
{
	return check_cache_info(where, buf_text(answer), store_dir, err);
}

const struct object_type object_nar = { "Content-Type: application/x-nix-nar", HTTP_HEAD, 0, check_nothing };
const struct object_type object_info = { "Content-Type: text/x-nix-narinfo", HTTP_GET, NARINFO_MAX_BYTES,
	                                 check_info };
const struct object_type object_cache_info = { "Content-Type: text/x-nix-cache-info", HTTP_GET,
	                                       CACHE_INFO_MAX_BYTES, check_cache };
