/* The post-build-hook: Nix runs it after every build and waits for it, stops building if it fails, and
 * never runs it again for the same path. So it never fails, never waits long, and loses nothing (I8).
 *
 * The happy path: settings, what to hand over, own GC roots, ENQUEUE to the daemon, which answers when
 * the request is committed and its own roots exist; own roots away; exit 0.
 *
 * Failure modes:
 *  - the daemon says never (usage, denied, refused): one loud line; own roots away.
 *  - no daemon, no answer in time, or "not now": the same request into the spool; own roots stay, the
 *    daemon takes both over. After a full wait in vain the spool gets a mark, and for 30 s hooks wait
 *    only 20 ms, so that many builds do not each wait out a daemon that hangs.
 *  - no memory: what the request needs is static; without memory for the answer it is "no answer".
 *  - the spool cannot be written either: own roots stay, the daemon's sweep enqueues them; a loud line.
 *  - killed (SIGKILL, when the client of the build goes away): own roots stay, as above. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/client.h"
#include "common/clock.h"
#include "common/crash.h"
#include "common/spool.h"
#include "hook/handover.h"
#include "hook/own_roots.h"
#include "hook/say.h"
#include "hook/settings.h"

#define SLOW_FOR_MS      30000
#define SLOW_TIMEOUT_MS  20
#define MISTAKES_MAX     4096
#define MANUAL_HAND_OVER "hand it over by hand: nncachectl push PATH"

/* Where things are on this machine. */
struct places {
	char socket[CLIENT_PATH_SIZE];
	const char *spools[2]; /* to be tried in this order; the first holds the mark */
	size_t n_spools;
	char user_spool[SPOOL_DIR_SIZE];
};

enum outcome { TAKEN, TAKEN_UNROOTED, NEVER, NOT_NOW };

/* Nix may have closed them; what we open must not become somebody's stdout. */
static void fill_standard_fds(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
			return;
}

static void prepare_process(void)
{
	fill_standard_fds();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	/* NIX_CONFIG in our environment can hold access tokens: no core file (I9). */
	prctl(PR_SET_DUMPABLE, 0);
}

static void say_mistakes(struct buf *mistakes)
{
	char *rest = NULL;

	if (mistakes->len == 0)
		return;
	for (char *line = strtok_r(mistakes->data, "\n", &rest); line != NULL;
	     line = strtok_r(NULL, "\n", &rest))
		say_loudly("%s", line);
}

static void find_places(struct places *p, const struct settings *s, struct buf *mistakes)
{
	bool has_user_spool = s->spool == NULL && spool_user_dir(p->user_spool);
	struct error err;

	if (client_find_socket(s->socket, p->socket, &err) < 0) {
		buf_printf(mistakes, "%s, ignored\n", err.text);
		if (client_find_socket(NULL, p->socket, &err) < 0)
			strcpy(p->socket, CLIENT_SYSTEM_SOCKET);
	}
	p->n_spools = 0;
	if (s->spool != NULL) {
		p->spools[p->n_spools++] = s->spool;
		return;
	}
	/* The user's socket is only found where the system has none. */
	if (s->socket != NULL || strcmp(p->socket, CLIENT_SYSTEM_SOCKET) == 0)
		p->spools[p->n_spools++] = SPOOL_SYSTEM_DIR;
	if (has_user_spool)
		p->spools[p->n_spools++] = p->user_spool;
}

/* Reads lines until the last one of the answer. */
static int read_answer(struct client *client, struct answer *answer, struct error *err)
{
	char *line;
	int r;

	do {
		r = client_read_line(client, &line, err);
		if (r < 0)
			return -1;
		if (r == 0)
			return error_set(err, ERROR_TRANSIENT, "the daemon closed the connection unanswered");
	} while (!answer_is_last(line));
	return answer_parse(answer, line, err);
}

static int converse(struct client *client, const char *socket, uint64_t timeout_ms, const struct buf *request,
                    struct answer *answer, struct error *err)
{
	if (client_open(client, socket, clock_mono_ms() + timeout_ms, err) < 0)
		return -1;
	crash_point(HOOK_CONNECTED);
	if (client_send(client, request->data, request->len, err) < 0 &&
	    client->fault != CLIENT_BROKEN) /* it may have answered before it closed */
		return -1;
	crash_point(HOOK_SENT);
	return read_answer(client, answer, err);
}

static enum outcome outcome_of(const struct answer *answer, struct error *err)
{
	const char *rooted;

	switch (answer->kind) {
	case ANSWER_OK:
		rooted = record_get(&answer->fields, "rooted");
		return rooted == NULL || strcmp(rooted, "no") != 0 ? TAKEN : TAKEN_UNROOTED;
	case ANSWER_USAGE:
	case ANSWER_DENIED:
	case ANSWER_REFUSED:
		error_set(err, ERROR_PERMANENT, "%s: %s", answer_kind_name(answer->kind), answer->text);
		return NEVER;
	case ANSWER_BUSY:
	case ANSWER_TRANSIENT:
	case ANSWER_TOO_LARGE:
	case ANSWER_TIMEOUT:
	case ANSWER_UNKNOWN:
		break;
	}
	error_set(err, ERROR_TRANSIENT, "%s: %s", answer_kind_name(answer->kind), answer->text);
	return NOT_NOW;
}

/* Hands REQUEST to the daemon. ERR tells why it was not TAKEN. */
static enum outcome ask_daemon(const struct places *p, uint64_t timeout_ms, const struct buf *request,
                               struct error *err)
{
	const char *mark_dir = p->n_spools > 0 ? p->spools[0] : NULL;
	uint64_t slow_age_ms = mark_dir != NULL ? spool_slow_age_ms(mark_dir) : UINT64_MAX;
	bool is_slow = slow_age_ms < SLOW_FOR_MS && timeout_ms > SLOW_TIMEOUT_MS;
	enum outcome outcome = NOT_NOW;
	struct answer answer;
	struct client client;

	if (converse(&client, p->socket, is_slow ? SLOW_TIMEOUT_MS : timeout_ms, request, &answer, err) == 0)
		outcome = outcome_of(&answer, err);
	/* A short wait in vain does not renew the mark, or a daemon that needs 25 ms would never lose it. */
	if (client.fault == CLIENT_SLOW && !is_slow && mark_dir != NULL)
		spool_slow_set(mark_dir);
	if ((outcome == TAKEN || outcome == TAKEN_UNROOTED) && slow_age_ms != UINT64_MAX)
		spool_slow_clear(mark_dir);
	client_close(&client);
	return outcome;
}

/* Leaves REQUEST in the first spool that takes it. Returns which, or NULL and ERR about the first. */
static const char *leave_in_spool(const struct places *p, const struct buf *request, struct error *err)
{
	struct error first = { .text = "there is no spool directory" }, other;

	for (size_t i = 0; i < p->n_spools; i++)
		if (spool_write(p->spools[i], request->data, request->len, i == 0 ? &first : &other) == 0)
			return p->spools[i];
	error_copy(err, &first);
	return NULL;
}

static const char *first_path(const struct request *req)
{
	return req->n_paths > 0 ? req->paths[0] : req->derivation;
}

static void hand_over(const struct places *p, const struct settings *s, const struct request *req,
                      const struct buf *request)
{
	struct error why, spool_why;
	struct own_roots roots;
	const char *spool;
	bool has_roots;

	crash_point(HOOK_START);
	has_roots = own_roots_make(&roots, s->gcroots, req);
	crash_point(HOOK_ROOTED);
	switch (ask_daemon(p, s->timeout_ms, request, &why)) {
	case TAKEN:
		crash_point(HOOK_ANSWERED);
		own_roots_remove(&roots, req);
		break;
	case TAKEN_UNROOTED:
		if (!has_roots)
			say("%s is queued, but nothing protects it from garbage collection;"
			    " nncachectl status says why",
			    first_path(req));
		break;
	case NEVER:
		say_loudly("the daemon will not upload %s: %s", first_path(req), why.text);
		own_roots_remove(&roots, req);
		break;
	case NOT_NOW:
		spool = leave_in_spool(p, request, &spool_why);
		if (spool != NULL)
			say("%s; left %s in %s for the daemon", why.text, first_path(req), spool);
		else
			say_loudly("%s; and no spool: %s; %s: %s", why.text, spool_why.text, first_path(req),
			           has_roots ? "its root is left for the daemon to find" : MANUAL_HAND_OVER);
		break;
	}
	own_roots_fini(&roots);
}

static void deliver(const struct places *p, const struct settings *s, const struct request *req)
{
	static char memory[REQUEST_MAX_BYTES + 1];
	struct buf request;
	struct error err;

	buf_init_in(&request, memory, sizeof(memory));
	if (request_format(req, &request, &err) == 0)
		hand_over(p, s, req, &request);
	else
		say_loudly("%s: %s; %s", first_path(req), err.text, MANUAL_HAND_OVER);
	buf_fini(&request);
}

int main(int argc, char **argv)
{
	static struct handover handover;
	static struct places places;
	static char mistakes_memory[MISTAKES_MAX + 1];
	struct settings settings;
	struct buf mistakes;
	bool has_any;

	prepare_process();
	buf_init_in(&mistakes, mistakes_memory, sizeof(mistakes_memory));
	settings_init(&settings);
	settings_read_environment(&settings, &mistakes);
	if (argc > 0)
		settings_read_file(&settings, argv[0], &mistakes);
	find_places(&places, &settings, &mistakes);
	has_any = handover_collect(&handover, getenv("OUT_PATHS"), getenv("DRV_PATH"), &mistakes);
	if (!has_any)
		buf_puts(&mistakes, "OUT_PATHS and DRV_PATH name nothing to hand over\n");
	say_mistakes(&mistakes);
	handover.req.tag = settings.tag;
	if (has_any)
		deliver(&places, &settings, &handover.req);
	handover_fini(&handover);
	buf_fini(&mistakes);
	settings_fini(&settings);
	return 0;
}
