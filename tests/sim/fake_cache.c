#include "tests/sim/fake_cache.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "common/store_path.h"
#include "daemon/backend/backend.h"
#include "daemon/backend/kind.h"
#include "daemon/format/narinfo.h"
#include "daemon/format/nixbase32.h"
#include "tests/sim/chance.h"
#include "tests/sim/fake_loop.h"
#include "tests/sim/fake_parts.h"
#include "tests/sim/life.h"
#include "tests/sim/sha256.h"

#define CALLS_MAX      256
#define ASK_FROM_BYTES (1 << 20) /* larger NARs are asked for before they are sent */
#define LATE_MS        300000    /* from the verdict until a narinfo is there, at most */
#define TWIN_MS        20000     /* until the object of somebody else is there, at most */

struct object {
	bool is_there;
	uint64_t appears_ms; /* somebody else is sending it; 0: nobody */
	uint64_t size;
	uint8_t hash[SHA256_BYTES];
	uint64_t lost_ms; /* 0: never */
};

struct cache {
	struct object nars[STORE_CONTENTS_MAX];
	unsigned infos[STORE_PATHS_MAX];   /* 1 + the content of its NAR; 0: not there */
	uint64_t lost_ms[STORE_PATHS_MAX]; /* when its narinfo was deleted; 0: never */
	bool denied[STORE_PATHS_MAX];      /* its narinfo, although it was there */
	bool uses_upstream;
	/* What this life of the daemon was told to be there, and of which it heard nothing else since. */
	bool told_infos[STORE_PATHS_MAX], told_nars[STORE_CONTENTS_MAX];
	/* 1 + the content that it said to lack when that path's upload last asked; 0: none. */
	unsigned told_no_nar[STORE_PATHS_MAX];
	bool is_whole;    /* its puts make NAR and narinfo at once */
	bool takes_parts; /* some of its puts are uploads in parts */
	const struct cache_config *config;
	uint64_t n_calls;
};

enum verb { PREPARE, FIND_INFO, FIND_NAR, ABANDON, PUT_NAR, PUT_INFO, PUT_WHOLE };
static const char *const verb_names[] = { "prepare", "find-info", "find-nar", "abandon",
	                                  "put-nar", "put-info",  "put-whole" };

struct call {
	struct fake_event event;
	struct backend_op *op;
	enum verb verb;
	unsigned cache, path, content;
	bool is_canceled;
	struct body *body;
	struct body_watch watch;
	char *text;
	struct fake_parts *parts;
	bool awaits_note;
	struct error note_err; /* its note could not be written down */
};

struct fake_backend {
	struct backend backend;
	unsigned number;
};

struct cache_faults cache_faults[CACHES_MAX + 1];
static struct cache caches[CACHES_MAX + 1];
static struct call *calls[CALLS_MAX];
static uint64_t n_stored;

/* ---- what is there ----------------------------------------------------------------------------------- */

void fake_cache_init(bool has_upstream)
{
	memset(caches, 0, sizeof(caches));
	memset(cache_faults, 0, sizeof(cache_faults));
	fake_parts_init();
	for (unsigned i = 0; i < CACHES_MAX; i++) {
		caches[i].is_whole = chance_one_in(4);
		caches[i].takes_parts = !caches[i].is_whole && chance_one_in(3);
	}
	for (unsigned i = 0; has_upstream && i < store_model.n_paths; i++) {
		bool in[STORE_PATHS_MAX] = { false };

		if (!chance_one_in(6))
			continue;
		fake_store_closure(i, in);
		for (unsigned k = 0; k < store_model.n_paths; k++)
			if (in[k])
				caches[UPSTREAM].infos[k] = 1 + store_model.paths[k].content;
	}
}

void fake_cache_configure(const struct cache_config *config, unsigned number, bool uses_upstream)
{
	caches[number].config = config;
	caches[number].uses_upstream = uses_upstream;
}

void fake_cache_heal(void)
{
	memset(cache_faults, 0, sizeof(cache_faults));
}

void fake_cache_lose(unsigned cache, unsigned path)
{
	struct cache *c = &caches[cache];
	bool has_info = c->infos[path] > 0;
	struct object *nar = &c->nars[has_info ? c->infos[path] - 1 : store_model.paths[path].content];

	if (!has_info && !nar->is_there)
		return;
	trace("cache-%u loses %u", cache, path);
	c->infos[path] = 0;
	c->told_infos[path] = false;
	if (has_info)
		c->lost_ms[path] = fake_now_ms();
	if (!has_info || chance_one_in(2)) {
		nar->is_there = false;
		c->told_nars[nar - c->nars] = false;
		nar->appears_ms = 0;
		nar->lost_ms = fake_now_ms();
	}
}

/* What was deleted is trusted to be there until its presence runs out. */
static bool is_trusted(unsigned cache, uint64_t lost_ms)
{
	const struct cache_config *config = caches[cache].config;

	return lost_ms > 0 && config != NULL &&
	       fake_now_ms() <= lost_ms + config->presence_ttl_s * 1000 + LATE_MS;
}

bool fake_cache_has(unsigned cache, unsigned path)
{
	return caches[cache].infos[path] > 0 || is_trusted(cache, caches[cache].lost_ms[path]) ||
	       (caches[cache].uses_upstream && caches[UPSTREAM].infos[path] > 0);
}

bool fake_cache_had(unsigned cache, unsigned path)
{
	return caches[cache].infos[path] > 0 || caches[cache].lost_ms[path] > 0;
}

bool fake_cache_denied(unsigned cache, unsigned path)
{
	return caches[cache].denied[path] || (caches[cache].uses_upstream && caches[UPSTREAM].denied[path]);
}

uint64_t fake_cache_n_stored(void)
{
	return n_stored;
}

uint64_t fake_cache_n_calls(unsigned cache)
{
	return caches[cache].n_calls;
}

static bool nar_is_there(unsigned cache, unsigned content)
{
	struct object *nar = &caches[cache].nars[content];

	if (!nar->is_there && nar->appears_ms > 0 && nar->appears_ms <= fake_now_ms()) {
		nar->is_there = true;
		nar->size = 100 + content;
	}
	return nar->is_there;
}

/* I2 for what PATH refers to. */
static void check_closure(unsigned cache, unsigned path)
{
	const struct store_path *p = &store_model.paths[path];

	for (unsigned i = 0; i < p->n_refs; i++)
		if (!fake_cache_has(cache, p->refs[i]))
			violated("I2",
			         "cache %u has the narinfo of %u, but not that of %u, which it refers to",
			         cache, path, p->refs[i]);
}

/* I2 for the narinfo of PATH. */
static void check_info(unsigned cache, unsigned path)
{
	if (!nar_is_there(cache, caches[cache].infos[path] - 1) &&
	    !is_trusted(cache, caches[cache].nars[caches[cache].infos[path] - 1].lost_ms))
		violated("I2", "cache %u has the narinfo of %u and not its NAR", cache, path);
	check_closure(cache, path);
}

bool fake_cache_has_lost(unsigned cache)
{
	for (unsigned i = 0; i < store_model.n_paths; i++)
		if (caches[cache].lost_ms[i] > 0)
			return true;
	for (unsigned i = 0; i < STORE_CONTENTS_MAX; i++)
		if (caches[cache].nars[i].lost_ms > 0)
			return true;
	return false;
}

void fake_cache_check(void)
{
	for (unsigned c = 0; c < CACHES_MAX; c++)
		for (unsigned i = 0; i < store_model.n_paths; i++)
			if (caches[c].infos[i] > 0 && !fake_cache_has_lost(c))
				check_info(c, i);
}

static bool is_compressed(unsigned cache)
{
	return caches[cache].config->compression != COMPRESS_NONE;
}

/* I7: what arrived is the NAR that its name promises. */
static void check_nar(const char *data, size_t size, unsigned content, unsigned cache)
{
	uint64_t nar_size = fake_store_nar_size(content);
	char *nar = malloc(nar_size + 1);
	uint8_t hash[SHA256_BYTES];
	size_t n = size;

	if (is_compressed(cache))
		n = ZSTD_decompress(nar, nar_size + 1, data, size);
	else if (n == nar_size)
		memcpy(nar, data, n);

	if (ZSTD_isError(n) || n != nar_size)
		violated("I7", "cache %u got a NAR of %zu bytes, not %llu", cache, ZSTD_isError(n) ? 0 : n,
		         (unsigned long long)nar_size);
	sha256_of(nar, n, hash);
	if (memcmp(hash, fake_store_nar_hash(content), SHA256_BYTES) != 0)
		violated("I7", "cache %u got a NAR under the name of another", cache);
	free(nar);
}

static void store_nar(const struct call *call)
{
	struct object *nar = &caches[call->cache].nars[call->content];
	uint64_t size = body_readable_bytes(call->body);
	char *data = malloc(size + 1);
	struct error err;

	if (nar_is_there(call->cache, call->content))
		return; /* what exists is never overwritten */
	if (body_read(call->body, 0, data, size, &err) != (ssize_t)size)
		violated("I7", "the body of an ended NAR cannot be read");
	check_nar(data, size, call->content, call->cache);
	*nar = (struct object){ .is_there = true, .size = size, .lost_ms = nar->lost_ms };
	sha256_of(data, size, nar->hash);
	free(data);
}

static void check_references(const struct path_info *info, unsigned path)
{
	const struct store_path *p = &store_model.paths[path];

	if (info->n_references != p->n_refs + p->refers_to_itself)
		violated("I7", "the narinfo of %u has %zu references, not %u", path, info->n_references,
		         p->n_refs + p->refers_to_itself);
	for (size_t i = 0; i < info->n_references; i++) {
		unsigned ref = fake_store_number(info->references[i]);
		bool is_known = p->refers_to_itself && ref == path;

		for (unsigned k = 0; k < p->n_refs; k++)
			is_known = is_known || p->refs[k] == ref;
		if (!is_known)
			violated("I7", "the narinfo of %u refers to %u", path, ref);
	}
}

/* What a narinfo says of its file is so: of a file of somebody else only the size can be known. */
static void check_file(const char *text, const struct narinfo *narinfo, const struct object *nar,
                       unsigned path)
{
	static const char field[] = "\nFileHash: sha256:";
	const char *said = strstr(text, field);
	char hash[NIXBASE32_LEN(SHA256_BYTES) + 1];

	if (narinfo->file_size > 0 && narinfo->file_size != nar->size)
		violated("I7", "the narinfo of %u says %llu bytes, the NAR has %llu", path,
		         (unsigned long long)narinfo->file_size, (unsigned long long)nar->size);
	nixbase32_encode(hash, nar->hash, SHA256_BYTES);
	if (said != NULL && strncmp(said + strlen(field), hash, strlen(hash)) != 0)
		violated("I7", "the narinfo of %u has the hash of another file", path);
}

static void show_info(const struct call *call)
{
	n_stored++;
	caches[call->cache].infos[call->path] = 1 + call->content;
	check_info(call->cache, call->path);
}

static void store_info(const struct call *call)
{
	const struct object *nar = &caches[call->cache].nars[call->content];
	struct narinfo narinfo = { 0 };
	struct error err;

	if (caches[call->cache].infos[call->path] > 0)
		return;
	if (narinfo_parse(&narinfo, call->text, strlen(call->text), "/nix/store", &err) < 0)
		violated("I7", "the narinfo of %u: %s", call->path, err.text);
	if (memcmp(narinfo.info.nar_hash, fake_store_nar_hash(call->content), SHA256_BYTES) != 0 ||
	    narinfo.info.nar_size != fake_store_nar_size(call->content))
		violated("I7", "the narinfo of %u names another NAR", call->path);
	/* Ours can have been deleted, and another have come in its place. */
	if (nar_is_there(call->cache, call->content) && !is_trusted(call->cache, nar->lost_ms))
		check_file(call->text, &narinfo, nar, call->path);
	check_references(&narinfo.info, call->path);
	narinfo_fini(&narinfo);
	show_info(call);
}

static void store_whole(const struct call *call)
{
	if (caches[call->cache].infos[call->path] > 0)
		return;
	store_nar(call);
	show_info(call);
}

/* ---- calls ------------------------------------------------------------------------------------------- */

static struct call *call_begin(struct backend *backend, struct backend_op *op, enum verb verb)
{
	struct fake_backend *fake = CONTAINER_OF(backend, struct fake_backend, backend);
	struct call *call = calloc(1, sizeof(*call));
	size_t i = 0;

	while (calls[i] != NULL)
		i++;
	assert(call != NULL && i < CALLS_MAX);
	*call = (struct call){ .op = op, .verb = verb, .cache = fake->number };
	calls[i] = call;
	caches[fake->number].n_calls++;
	op->backend = backend;
	op->call = call;
	op->sent_bytes = 0;
	return call;
}

static void call_end(struct call *call)
{
	size_t i = 0;

	while (calls[i] != call)
		i++;
	calls[i] = NULL;
	fake_event_take_back(&call->event);
	if (call->body != NULL) {
		body_unwatch(&call->watch);
		body_unref(call->body);
	}
	free(call->text);
	free(call);
}

static const char *name_of(unsigned cache)
{
	static const char *const names[] = { "cache-0", "cache-1", "cache-2", "upstream" };

	return names[cache];
}

/* Puts the fault of this answer into ERR, if it has one. */
static bool is_faulty(const struct call *call, struct backend_op *op)
{
	struct cache_faults *faults = &cache_faults[call->cache];

	if (fake_now_ms() < faults->down_until_ms) {
		op->is_server_fault = chance_one_in(2);
		error_set(&op->err, faults->down_kind, "%s is down", name_of(call->cache));
	} else if (call->verb >= PUT_NAR && faults->refuses[call->path]) {
		error_set(&op->err, ERROR_PERMANENT, "%s refuses it", name_of(call->cache));
	} else if (chance_one_in(faults->fail_one_in)) {
		error_set(&op->err, ERROR_TRANSIENT, "%s: 503", name_of(call->cache));
		op->err.retry_after_s = chance_one_in(4) ? chance_below(120) : 0;
	}
	return op->err.kind != ERROR_NONE;
}

static void answer_put(const struct call *call, struct backend_op *op)
{
	struct object *nar = &caches[call->cache].nars[call->content];

	if (call->verb == PUT_WHOLE) {
		store_whole(call);
	} else if (call->verb == PUT_INFO) {
		op->found = caches[call->cache].infos[call->path] > 0;
		store_info(call);
	} else if (nar_is_there(call->cache, call->content)) {
		op->found = true;
		op->file_size = chance_one_in(2) ? nar->size : 0;
	} else if (nar->appears_ms > 0 || chance_one_in(cache_faults[call->cache].twin_one_in)) {
		if (nar->appears_ms == 0)
			nar->appears_ms = fake_now_ms() + 1 + chance_below(TWIN_MS);
		op->found = true;
	} else {
		store_nar(call);
		op->sent_bytes = nar->size;
	}
}

static void name_nar(unsigned cache, struct backend_op *op, unsigned content)
{
	char hash[NIXBASE32_LEN(SHA256_BYTES) + 1];

	nixbase32_encode(hash, fake_store_nar_hash(content), SHA256_BYTES);
	snprintf(op->nar_url, sizeof(op->nar_url), "nar/%s.nar%s", hash,
	         cache == UPSTREAM || is_compressed(cache) ? ".zst" : "");
}

static void answer(const struct call *call, struct backend_op *op)
{
	bool denies = chance_one_in(cache_faults[call->cache].deny_one_in);

	switch (call->verb) {
	case PREPARE:
		return;
	case FIND_INFO:
		op->found = caches[call->cache].infos[call->path] > 0 && !denies;
		caches[call->cache].denied[call->path] |= denies && caches[call->cache].infos[call->path] > 0;
		if (op->found)
			name_nar(call->cache, op, caches[call->cache].infos[call->path] - 1);
		return;
	case FIND_NAR:
		op->found = nar_is_there(call->cache, call->content) && !denies;
		op->file_size = op->found ? caches[call->cache].nars[call->content].size : 0;
		return;
	case ABANDON:
		call->parts->is_open = false;
		return;
	case PUT_NAR:
	case PUT_INFO:
	case PUT_WHOLE:
		answer_put(call, op);
		return;
	}
}

static void store(const struct call *call)
{
	if (call->verb == PUT_NAR)
		store_nar(call);
	else if (call->verb == PUT_INFO)
		store_info(call);
	else if (call->verb == PUT_WHOLE)
		store_whole(call);
	else if (call->verb == ABANDON)
		call->parts->is_open = false;
}

/* Has all of it been sent? */
static bool is_whole(const struct call *call)
{
	return call->body == NULL || (body_state(call->body) == BODY_ENDED && !call->awaits_note);
}

/* What becomes of an upload in parts whose put ends: complete, or aborted as well as that goes, but for one
 * that was canceled. */
static void end_parts(const struct call *call, const struct backend_op *op, bool is_stored)
{
	if (call->verb != PUT_NAR || call->parts == NULL)
		return;
	call->parts->is_sent = false;
	if (is_stored || (op->err.kind != ERROR_CANCELED && !chance_one_in(3)))
		call->parts->is_open = false;
}

static void decide(const struct call *call, struct backend_op *op)
{
	bool stores = is_whole(call) && chance_one_in(cache_faults[call->cache].lose_one_in);

	if (call->note_err.kind != ERROR_NONE)
		op->err = call->note_err;
	else if (call->body != NULL && body_state(call->body) == BODY_FAILED)
		op->err = *body_error(call->body);
	else if (!is_whole(call) || (call->is_canceled && chance_one_in(2)))
		error_set(&op->err, ERROR_CANCELED, "canceled");
	else if (!is_faulty(call, op))
		answer(call, op);
	stores = stores && call->note_err.kind == ERROR_NONE &&
	         (op->err.kind == ERROR_CANCELED || op->err.kind == ERROR_TRANSIENT);
	if (stores)
		store(call);
	end_parts(call, op, stores || (op->err.kind == ERROR_NONE && !op->found));
}

/* Remembers what an answer without a fault says of what is there. */
static void tell(const struct call *call, const struct backend_op *op)
{
	struct cache *c = &caches[call->cache];

	if (call->verb == FIND_INFO)
		c->told_infos[call->path] = op->found;
	else if (call->verb == PUT_INFO || call->verb == PUT_WHOLE)
		c->told_infos[call->path] = true;
	else if (call->verb == FIND_NAR || call->verb == PUT_NAR)
		c->told_nars[call->content] = op->found || call->verb == PUT_NAR;
	if (call->verb == FIND_NAR)
		c->told_no_nar[call->path] = op->found ? 0 : 1 + call->content;
	/* Then the narinfos that name it are in doubt. */
	for (unsigned i = 0; call->verb == FIND_NAR && !op->found && i < store_model.n_paths; i++)
		if (c->infos[i] == 1 + call->content)
			c->told_infos[i] = false;
}

static void on_answer(struct fake_event *event)
{
	struct call *call = CONTAINER_OF(event, struct call, event);
	struct backend_op *op = call->op;

	op->err = (struct error){ 0 };
	op->is_server_fault = op->found = false;
	op->file_size = 0;
	op->nar_url[0] = '\0';
	decide(call, op);
	if (op->err.kind == ERROR_NONE)
		tell(call, op);
	trace("%s %s path %u: %s%s", name_of(call->cache), verb_names[call->verb], call->path,
	      op->err.kind != ERROR_NONE ? op->err.text
	      : op->found                ? "found"
	                                 : "ok",
	      call->is_canceled ? ", was canceled" : "");
	op->call = NULL;
	call_end(call);
	op->done(op);
}

static void answer_soon(struct call *call)
{
	bool is_slow = chance_one_in(cache_faults[call->cache].slow_one_in);

	if (!call->event.is_set)
		fake_answer_in(&call->event, is_slow ? chance_below(60000) : chance_below(30), on_answer);
}

static void on_body(struct body_watch *watch)
{
	struct call *call = CONTAINER_OF(watch, struct call, watch);

	if (body_state(call->body) != BODY_GROWING)
		answer_soon(call);
}

static unsigned content_of(unsigned cache, const struct backend_object *object)
{
	char hash[NIXBASE32_LEN(SHA256_BYTES) + 1];

	for (unsigned i = 0; i < STORE_CONTENTS_MAX; i++) {
		nixbase32_encode(hash, fake_store_nar_hash(i), SHA256_BYTES);
		if (strncmp(object->nar_key + strlen("nar/"), hash, strlen(hash)) == 0)
			return i;
	}
	violated("I7", "%s is asked for %s, which is the NAR of nothing", name_of(cache), object->nar_key);
}

static void fake_prepare(struct backend *backend, struct backend_op *op)
{
	answer_soon(call_begin(backend, op, PREPARE));
}

static void fake_find_info(struct backend *backend, struct backend_op *op, const char *path)
{
	struct call *call = call_begin(backend, op, FIND_INFO);

	call->path = fake_store_number(path);
	answer_soon(call);
}

static void fake_find_nar(struct backend *backend, struct backend_op *op, const struct backend_object *object)
{
	struct call *call = call_begin(backend, op, FIND_NAR);

	call->path = fake_store_number(object->info->path);
	call->content = content_of(call->cache, object);
	answer_soon(call);
}

/* I5: nothing is put side by side with itself; I6: and not more at once than was said. */
static void check_puts(const struct call *call)
{
	unsigned n = 1;

	for (size_t i = 0; i < CALLS_MAX; i++) {
		const struct call *other = calls[i];

		if (other == NULL || other == call || other->cache != call->cache || other->verb < PUT_NAR)
			continue;
		n++;
		if (other->verb == call->verb &&
		    (call->verb == PUT_NAR ? other->content == call->content : other->path == call->path))
			violated("I5", "%s: %s of %u and %u at once", name_of(call->cache),
			         verb_names[call->verb], call->path, other->path);
	}
	if (n > caches[call->cache].config->upload_jobs)
		violated("I6", "%s: %u puts at once", name_of(call->cache), n);
}

/* I7: that it is there is believed. A small NAR is sent without a question, and then found. A large one may
 * be denied to one upload and found by the next: the put of an earlier life has come through between them. */
static void check_overwrites(const struct call *call)
{
	struct cache *c = &caches[call->cache];
	bool was_denied = c->told_no_nar[call->path] == 1 + call->content;

	if (call->verb != PUT_NAR && c->told_infos[call->path] && c->infos[call->path] > 0)
		violated("I7", "%s: %s of %u, whose narinfo it said to have", name_of(call->cache),
		         verb_names[call->verb], call->path);
	if (call->verb == PUT_NAR && !was_denied && c->told_nars[call->content] &&
	    nar_is_there(call->cache, call->content) && fake_store_nar_size(call->content) >= ASK_FROM_BYTES)
		violated("I7", "%s: the large NAR of %u is sent, which it said to have", name_of(call->cache),
		         call->path);
	if (call->verb == PUT_NAR)
		c->told_no_nar[call->path] = 0;
}

static void check_filters(const struct call *call)
{
	if (policy_withholds(life.filters, call->cache, store_model.paths[call->path].text,
	                     fake_store_nar_size(call->content)))
		violated("the filters", "%s: %u is sent, which exclude-closures keeps back",
		         name_of(call->cache), call->path);
}

static void send_body(struct call *call)
{
	body_watch(call->body, &call->watch, on_body);
	if (body_state(call->body) != BODY_GROWING)
		answer_soon(call);
}

static void on_parts_begun(struct fake_event *event)
{
	struct call *call = CONTAINER_OF(event, struct call, event);

	call->parts = fake_parts_begin(call->cache);
	call->awaits_note = true;
	trace("%s begins %s for %u", name_of(call->cache), call->parts->note, call->path);
	call->op->note(call->op, call->parts->note);
}

static void fake_put_noted(struct backend_op *op, const struct error *err)
{
	struct call *call = op->call;

	call->awaits_note = false;
	if (err->kind == ERROR_NONE)
		call->parts->is_noted = true;
	else
		call->note_err = *err;
	if (call->is_canceled || err->kind != ERROR_NONE)
		answer_soon(call);
	else
		send_body(call);
}

static void fake_put_nar(struct backend *backend, struct backend_op *op, const struct backend_object *object,
                         struct body *body)
{
	struct call *call =
		call_begin(backend, op, backend->ops->kind == PUBLISH_WHOLE ? PUT_WHOLE : PUT_NAR);

	call->path = fake_store_number(object->info->path);
	call->content = content_of(call->cache, object);
	check_puts(call);
	check_overwrites(call);
	check_filters(call);
	call->body = body_ref(body);
	if (call->verb == PUT_WHOLE) {
		check_closure(call->cache, call->path);
		check_references(object->info, call->path);
	}
	if (backend->ops->abandon_start != NULL && op->note != NULL && chance_one_in(2))
		fake_answer_in(&call->event, chance_below(30), on_parts_begun);
	else
		send_body(call);
}

static void fake_abandon(struct backend *backend, struct backend_op *op, const char *note)
{
	struct call *call = call_begin(backend, op, ABANDON);

	trace("%s is to abandon %s", name_of(call->cache), note);
	call->parts = fake_parts_abandon(call->cache, note);
	answer_soon(call);
}

static void fake_put_info(struct backend *backend, struct backend_op *op, const struct backend_object *object,
                          const char *text, size_t len)
{
	struct call *call = call_begin(backend, op, PUT_INFO);

	call->path = fake_store_number(object->info->path);
	call->content = content_of(call->cache, object);
	call->text = strndup(text, len);
	check_puts(call);
	check_overwrites(call);
	check_filters(call);
	answer_soon(call);
}

static void fake_cancel(struct backend_op *op)
{
	struct call *call = op->call;

	if (call == NULL)
		return;
	call->is_canceled = true;
	if (call->awaits_note)
		return;
	fake_event_take_back(&call->event);
	fake_answer_in(&call->event, chance_below(5), on_answer);
}

static void fake_close(struct backend *backend)
{
	free(CONTAINER_OF(backend, struct fake_backend, backend));
}

void fake_cache_begin_life(void)
{
	for (unsigned i = 0; i < CACHES_MAX; i++) {
		memset(caches[i].told_infos, 0, sizeof(caches[i].told_infos));
		memset(caches[i].told_nars, 0, sizeof(caches[i].told_nars));
		memset(caches[i].told_no_nar, 0, sizeof(caches[i].told_no_nar));
	}
}

/* A put whose last byte had gone may still arrive; the daemon never hears of it. */
void fake_cache_cut_off(void)
{
	for (size_t i = 0; i < CALLS_MAX; i++) {
		struct call *call = calls[i];

		if (call == NULL)
			continue;
		if (is_whole(call) && chance_one_in(2)) {
			store(call);
			end_parts(call, call->op, true);
		}
		fake_event_take_back(&call->event);
		calls[i] = NULL;
	}
	fake_parts_cut_off();
	fake_cache_begin_life();
}

/* ---- backend.h, http.h ------------------------------------------------------------------------------- */

static const struct backend_ops plain_ops = {
	.kind = PUBLISH_SEPARATE,
	.prepare_start = fake_prepare,
	.find_info_start = fake_find_info,
	.find_nar_start = fake_find_nar,
	.put_nar_start = fake_put_nar,
	.put_info_start = fake_put_info,
	.cancel = fake_cancel,
	.close = fake_close,
};
static const struct backend_ops parts_ops = {
	.kind = PUBLISH_SEPARATE,
	.prepare_start = fake_prepare,
	.find_info_start = fake_find_info,
	.find_nar_start = fake_find_nar,
	.put_nar_start = fake_put_nar,
	.put_noted = fake_put_noted,
	.abandon_start = fake_abandon,
	.put_info_start = fake_put_info,
	.cancel = fake_cancel,
	.close = fake_close,
};
static const struct backend_ops whole_ops = {
	.kind = PUBLISH_WHOLE,
	.prepare_start = fake_prepare,
	.find_info_start = fake_find_info,
	.find_nar_start = op_find_nothing_start,
	.put_nar_start = fake_put_nar,
	.put_info_start = op_put_nothing_start,
	.cancel = fake_cancel,
	.close = fake_close,
};

static const struct backend_ops *ops_of(unsigned cache)
{
	if (caches[cache].is_whole)
		return &whole_ops;
	return caches[cache].takes_parts ? &parts_ops : &plain_ops;
}

static int open_number(struct backend **ret, struct loop *loop, unsigned number)
{
	struct fake_backend *fake = calloc(1, sizeof(*fake));

	assert(fake != NULL);
	*fake = (struct fake_backend){ .backend = { .ops = ops_of(number), .loop = loop }, .number = number };
	*ret = &fake->backend;
	return 0;
}

int backend_open(struct backend **ret, struct loop *loop, struct http *http,
                 const struct cache_config *config, const char *dir, struct error *err)
{
	(void)http;
	(void)dir;
	for (unsigned i = 0; i < CACHES_MAX; i++)
		if (caches[i].config == config)
			return open_number(ret, loop, i);
	return error_set(err, ERROR_OPERATOR, "no such cache");
}

int backend_open_upstream(struct backend **ret, struct loop *loop, struct http *http,
                          const struct upstream_config *upstream, const struct net_config *net,
                          struct error *err)
{
	(void)http;
	(void)upstream;
	(void)net;
	(void)err;
	return open_number(ret, loop, UPSTREAM);
}

void backend_close(struct backend *backend)
{
	if (backend != NULL)
		backend->ops->close(backend);
}

struct http {
	struct loop *loop;
	struct loop_post post;
	http_closed_fn closed;
	void *ctx;
};

int http_open(struct http **ret, struct loop *loop, struct error *err)
{
	(void)err;
	*ret = calloc(1, sizeof(**ret));
	assert(*ret != NULL);
	(*ret)->loop = loop;
	return 0;
}

static void on_http_closed(struct loop_post *post)
{
	struct http *http = CONTAINER_OF(post, struct http, post);
	http_closed_fn closed = http->closed;
	void *ctx = http->ctx;

	free(http);
	closed(ctx);
}

void http_close(struct http *http, http_closed_fn closed, void *ctx)
{
	http->closed = closed;
	http->ctx = ctx;
	loop_post(http->loop, &http->post, on_http_closed);
}
