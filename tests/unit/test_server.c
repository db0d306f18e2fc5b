/* server: each bad request is answered clearly, root is always served, and the verbs say what the queue
 * says. The queue and the uploads are stand-ins: they answer in the loop's next turn, or when told to. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/protocol.h"
#include "common/store_path.h"
#include "daemon/loop/timer.h"
#include "daemon/server/internal.h"
#include "daemon/store/store.h"
#include "daemon/verify/verify.h"
#include "tests/unit/test.h"

#define HASH  "znfl9jqnlc8ialnfmiwhg8rs6pllsccf"
#define DEMO  "/nix/store/" HASH "-demo-1.0"
#define OTHER "/nix/store/" HASH "-other-2.0"

/* Texts that the stand-ins hand out as if they were allocated. */
static char demo[] = DEMO, main_name[] = "main", transient[] = "transient", permanent[] = "permanent";
static char http_503[] = "PUT x: HTTP 503", http_413[] = "PUT nar/x: HTTP 413 too large\n";
static char no_such_group[] = "no-such-group", nogroup[] = "nogroup";

/* Of nothing but bytes that are written as three, and as long as they get. */
static char long_text[sizeof(((struct error *)0)->text)], long_tag[REQUEST_MAX_VALUE + 1];

/* ---- the queue's stand-in --------------------------------------------------------------------- */

struct queue {
	struct queue_counts counts[2];
	struct queue_wait_state wait;
	size_t n_rows; /* that list has in all */
	bool are_rows_long;
	bool tag_known;
	int64_t paused_until_unix_s;
	struct queue_selector selector; /* the last one */
	char selected_path[STORE_PATH_SIZE];
	uint64_t paused_caches, known_caches;
	unsigned n_ops, n_waits;
	bool is_slow; /* then this waits for what is before it */
	struct queue_op *waiting;
};

static struct queue queue;

struct turn { /* an answer on its way */
	struct loop_post post;
	struct queue_op *op;
	struct queue_read *read;
	struct store_built_query *built;
};

static struct loop loop;

static void answer(struct loop_post *post)
{
	struct turn *turn = CONTAINER_OF(post, struct turn, post);

	if (turn->op != NULL)
		turn->op->done(turn->op);
	else
		turn->read->done(turn->read);
	free(turn);
}

static void answer_later(struct queue_op *op, struct queue_read *read)
{
	struct turn *turn = calloc(1, sizeof(*turn));

	assert_non_null(turn);
	turn->op = op;
	turn->read = read;
	loop_post(&loop, &turn->post, answer);
}

const char *job_state_name(enum job_state state)
{
	static const char *const names[] = { "ready", "delayed", "sent", "blocked", "failed", "done" };
	return names[state];
}

const char *root_state_name(enum root_state state)
{
	static const char *const names[] = { "resolving", "queued", "failed", "withheld", "done" };
	return names[state];
}

const struct queue_counts *queue_cache_counts(const struct queue *q, size_t cache)
{
	return &q->counts[cache];
}

uint64_t queue_root_count(const struct queue *q, enum root_state state)
{
	(void)q;
	return state == ROOT_RESOLVING ? 3 : state == ROOT_FAILED ? 1 : 0;
}

int64_t queue_paused_until_unix_s(const struct queue *q, size_t cache)
{
	return cache == 1 ? q->paused_until_unix_s : 0;
}

void queue_start(struct queue *q, struct queue_op *op, queue_op_fn done)
{
	static char *released[] = { demo };

	op->done = done;
	if (op->verb == QUEUE_EXPLAIN && q->is_slow) {
		q->waiting = op;
		return;
	}
	if (op->verb == QUEUE_EXPLAIN) {
		answer_later(op, NULL);
		return;
	}
	q->n_ops++;
	if (op->verb == QUEUE_RETRY) {
		struct queue_retry *retry = CONTAINER_OF(op, struct queue_retry, op);

		q->selector = retry->which;
		retry->n_changed = 2;
	} else if (op->verb == QUEUE_FORGET) {
		struct queue_forget *forget = CONTAINER_OF(op, struct queue_forget, op);

		q->selector = forget->which;
		forget->n_changed = 1;
		forget->released = released;
		forget->n_released = 1;
	} else if (op->verb == QUEUE_KNOWN) {
		struct queue_known *known = CONTAINER_OF(op, struct queue_known, op);

		/* Every other path. */
		for (size_t i = 0; i < known->n_paths; i++)
			known->is_known[i] = i % 2 == 1;
		q->known_caches = known->caches;
	} else {
		struct queue_pause *pause = CONTAINER_OF(op, struct queue_pause, op);

		q->paused_caches = pause->caches;
		q->paused_until_unix_s = pause->until_unix_s;
	}
	snprintf(q->selected_path, sizeof(q->selected_path), "%s",
	         q->selector.path != NULL ? q->selector.path : "");
	answer_later(op, NULL);
}

void queue_op_fini(struct queue_op *op)
{
	(void)op;
}

static void fill_rows(struct queue *q, struct queue_read *read)
{
	size_t first = (size_t)read->after_id, n = q->n_rows - first;

	if (n > read->n_max)
		n = read->n_max;
	read->rows = calloc(n + 1, sizeof(*read->rows));
	read->n_rows = n;
	for (size_t i = 0; i < n; i++)
		read->rows[i] = (struct queue_row){
			.job_id = (int64_t)(first + i + 1),
			.path = demo,
			.cache = main_name,
			.error = http_503,
			.error_kind = transient,
			.state = JOB_DELAYED,
			.is_root = true,
			.tag = q->are_rows_long ? long_tag : NULL,
		};
	for (size_t i = 0; q->are_rows_long && i < n; i++)
		read->rows[i].error = long_text;
	read->last_id = (int64_t)(first + n);
}

void queue_read_start(struct queue *q, struct queue_read *read, queue_read_fn done)
{
	static struct queue_cause cause = {
		.cache = main_name,
		.error = http_413,
		.error_kind = permanent,
		.example_path = demo,
		.state = JOB_FAILED,
		.n_jobs = 7,
	};

	read->done = done;
	switch (read->verb) {
	case QUEUE_LIST:
		fill_rows(q, read);
		break;
	case QUEUE_SHOW:
		if (strcmp(read->path, DEMO) == 0)
			fill_rows(q, read);
		break;
	case QUEUE_CAUSES:
		read->causes = &cause;
		read->n_causes = 1;
		break;
	case QUEUE_WAIT:
		q->n_waits++;
		read->wait = q->wait;
		read->tag_known = q->tag_known;
		break;
	case QUEUE_BELIEVED:
		fail_msg("that is not the server's");
		break;
	case QUEUE_SUMMARY:
		read->oldest_unfinished_unix_s = 1700000000;
		read->pinned_paths = 11;
		read->last_request_id = 42;
		break;
	}
	answer_later(NULL, read);
}

void queue_read_fini(struct queue_read *read)
{
	free(read->rows);
	read->rows = NULL;
	read->n_rows = 0;
}

/* ---- the uploads' stand-in -------------------------------------------------------------------- */

struct uploader {
	uint64_t poked, tried;
};
static struct uploader uploader;

void uploader_poke(struct uploader *u, uint64_t caches)
{
	u->poked |= caches;
}

void uploader_try_now(struct uploader *u, uint64_t caches)
{
	u->tried |= caches;
}

uint64_t uploader_targets(const struct uploader *u)
{
	(void)u;
	return 3;
}

size_t uploader_n_in_flight(const struct uploader *u, size_t cache)
{
	(void)u;
	return cache == 0 ? 2 : 0;
}

size_t uploader_list(const struct uploader *u, struct upload_status *ret, size_t n_max)
{
	(void)u;
	assert_true(n_max >= 1);
	ret[0] =
		(struct upload_status){ .path = DEMO, .step = "sending", .nar_bytes = 100, .done_bytes = 40 };
	return 1;
}

const char *uploader_message(const struct uploader *u, size_t cache)
{
	(void)u;
	return cache == 0 ? "main.token: 50% done\nor not" : NULL;
}

bool uploader_get_outage(const struct uploader *u, size_t cache, struct upload_outage *ret)
{
	(void)u;
	*ret = (struct upload_outage){ ERROR_OPERATOR, 1700000000, 1700000060 };
	return cache == 0;
}

enum visibility uploader_visibility(const struct uploader *u, size_t cache)
{
	(void)u;
	(void)cache;
	return VISIBILITY_PUBLIC;
}

size_t uploader_pace(const struct uploader *u, size_t cache)
{
	(void)u;
	return 16 + cache;
}

uint64_t uploader_rate_bytes(const struct uploader *u, size_t cache)
{
	(void)u;
	return cache == 0 ? 1000 : 0;
}

/* ---- the verifications' and the store's stand-in ------------------------------------------------- */

struct verify_run {
	struct verify_step *step;
	struct loop_post post;
	unsigned n_steps;
};

static struct verify_run verify_run;
static bool verify_is_slow; /* the steps hang */
static bool verify_is_deep, verify_repairs;
static unsigned n_verifies, n_verify_ends;
static const struct finding findings[] = {
	{ .what = FINDING_MISSING, .mend = MEND_UPLOAD, .path = DEMO, .upload = DEMO, .text = "no narinfo" },
	{ .what = FINDING_NAR_MISSING,
	  .mend = MEND_FORCE,
	  .path = OTHER,
	  .upload = OTHER,
	  .text = "no\nNAR" },
	{ .what = FINDING_OTHER_BUILD, .path = OTHER, .text = "another" },
};

int verify_open(struct verify_run **ret, struct verifier *verifier, size_t cache, bool is_deep, bool repairs,
                struct error *err)
{
	(void)verifier;
	if (cache == 1)
		return error_set(err, ERROR_PERMANENT, "a verification of other is under way");
	verify_run = (struct verify_run){ 0 };
	verify_is_deep = is_deep;
	verify_repairs = repairs;
	n_verifies++;
	*ret = &verify_run;
	return 0;
}

/* First the findings, then the end. */
static void on_step(struct loop_post *post)
{
	struct verify_run *run = CONTAINER_OF(post, struct verify_run, post);
	struct verify_step *step = run->step;

	run->step = NULL;
	step->findings = findings;
	step->n_findings = run->n_steps == 0 ? N_ELEMENTS(findings) : 0;
	step->is_over = run->n_steps++ > 0;
	step->n_checked = 7;
	step->n_total = 9;
	step->done(step);
}

void verify_next(struct verify_run *run, struct verify_step *step, verify_fn done)
{
	*step = (struct verify_step){ .done = done };
	run->step = step;
	if (!verify_is_slow)
		loop_post(&loop, &run->post, on_step);
}

void verify_close(struct verify_run *run)
{
	if (run == NULL)
		return;
	n_verify_ends++;
	if (run->step != NULL) {
		error_set(&run->step->err, ERROR_CANCELED, "ended");
		loop_post(&loop, &run->post, on_step);
	}
}

static size_t n_built; /* that the store has */

static void on_built(struct loop_post *post)
{
	struct store_built_query *query = CONTAINER_OF(post, struct turn, post)->built;

	free(CONTAINER_OF(post, struct turn, post));
	query->done(query);
}

void store_built_start(struct store *store, struct store_built_query *query, store_built_fn done)
{
	size_t first = (size_t)query->after_id, n = n_built - first;
	struct turn *turn = calloc(1, sizeof(*turn));
	(void)store;

	if (n > STORE_BUILT_PAGE)
		n = STORE_BUILT_PAGE;
	query->done = done;
	query->paths = calloc(n + 1, sizeof(*query->paths));
	query->n_paths = n;
	for (size_t i = 0; i < n; i++)
		query->paths[i] = strdup(DEMO);
	query->last_id = (int64_t)(first + n);
	turn->built = query;
	loop_post(&loop, &turn->post, on_built);
}

/* ---- the house around it ---------------------------------------------------------------------- */

static struct config *loaded, config;
static struct server *server;
static struct server_parts parts;
static char dir[64], socket_path[96];
static bool is_closed;
static bool hold_enqueue;           /* the fsync is slow */
static struct server_enqueue *held; /* the last one held up */
static unsigned n_enqueued, n_released;
static struct server_enqueue seen; /* the last one; texts copied below */
static char seen_path[STORE_PATH_SIZE], seen_tag[64];

static void end_enqueue(struct server_enqueue *req)
{
	req->request_id = 12;
	req->n_new = req->n_paths;
	req->is_rooted = strstr(seen_path, "-unrooted") == NULL;
	req->done(req);
}

static void on_enqueue_turn(struct loop_post *post)
{
	end_enqueue(CONTAINER_OF(post, struct server_enqueue, post));
}

static void on_enqueue(void *ctx, struct server_enqueue *req, server_enqueued_fn done)
{
	assert_ptr_equal(ctx, &config);
	n_enqueued++;
	req->done = done;
	seen = *req;
	snprintf(seen_path, sizeof(seen_path), "%s", req->n_paths > 0 ? req->paths[0] : "");
	snprintf(seen_tag, sizeof(seen_tag), "%s", req->tag != NULL ? req->tag : "");
	if (strstr(seen_path, "-invalid") != NULL)
		error_set(&req->err, ERROR_PERMANENT, "%s is not valid", seen_path);
	if (hold_enqueue)
		held = req;
	else
		loop_post(&loop, &req->post, on_enqueue_turn);
}

static void on_released(void *ctx, char *const *paths, size_t n_paths)
{
	(void)ctx;
	assert_string_equal(paths[0], DEMO);
	n_released += (unsigned)n_paths;
}

static void on_closed(void *ctx)
{
	*(bool *)ctx = true;
}

static struct timer tick; /* so that a turn of the loop ends */

static void on_tick(struct timer *timer)
{
	timer_set(timer, 10);
}

/* A copy of what was loaded, so that a test may change it. */
static int load_config(void)
{
	struct config_places places = { 0 };
	struct buf text = { .max = 4096 }, mistakes = { .max = 65536 };
	int rc;

	buf_printf(&text,
	           "[daemon]\nsocket = %s\n"
	           "[cache \"main\"]\nurl = https://c.example/x\nsign = no\n"
	           "[cache \"disk\"]\nurl = file:///srv\nsign = no\n",
	           socket_path);
	rc = config_load_text(&loaded, &places, "test.conf", text.data, text.len, false, &mistakes);
	if (rc < 0)
		print_error("%s", buf_text(&mistakes));
	else
		config = *loaded;
	config.push_group = no_such_group;
	buf_fini(&text);
	buf_fini(&mistakes);
	return rc;
}

static int set_up(void **state)
{
	struct server_config sc = {
		.loop = &loop,
		.config = &config,
		.listen_fd = -1,
		.enqueue = on_enqueue,
		.on_released = on_released,
		.ctx = &config,
	};
	struct error err;
	(void)state;

	log_init(LOG_LEVEL_ERROR, false);
	strcpy(dir, "/tmp/nncache-server-XXXXXX");
	if (mkdtemp(dir) == NULL || chmod(dir, 0755) < 0)
		return -1;
	snprintf(socket_path, sizeof(socket_path), "%s/run/nncached.sock", dir);
	memset(&queue, 0, sizeof(queue));
	memset(long_text, 0xff, sizeof(long_text) - 1);
	memset(long_tag, 0xff, sizeof(long_tag) - 1);
	memset(&uploader, 0, sizeof(uploader));
	queue.tag_known = true;
	n_enqueued = n_released = 0;
	hold_enqueue = is_closed = false;
	held = NULL;
	if (load_config() < 0)
		return -1;
	if (loop_init(&loop, &err) < 0 || server_open(&server, &sc, &err) < 0)
		return -1;
	timer_init(&tick, &loop, on_tick);
	timer_set(&tick, 1);
	parts = (struct server_parts){ .queue = &queue,
		                       .uploader = &uploader,
		                       .verifier = (struct verifier *)&verify_run,
		                       .store_dir = "/nix/store" };
	server_set_parts(server, &parts);
	return 0;
}

static int tear_down(void **state)
{
	char run[96];
	(void)state;

	timer_close(&tick, NULL);
	server_close(server, on_closed, &is_closed);
	loop_run(&loop);
	loop_fini(&loop);
	config_free(loaded);
	assert_true(is_closed);
	assert_int_equal(access(socket_path, F_OK), -1);
	snprintf(run, sizeof(run), "%s/run", dir);
	rmdir(run);
	return rmdir(dir);
}

/* ---- a client --------------------------------------------------------------------------------- */

static void pump_for(uint64_t ms)
{
	uint64_t end = clock_mono_ms() + ms;

	while (clock_mono_ms() < end)
		uv_run(&loop.uv, UV_RUN_ONCE);
}

static int connect_client(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, socket_path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void send_text(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return; /* turned away already: the answer is there to be read */
		if (n < 0) {
			assert_int_equal(errno, EAGAIN);
			uv_run(&loop.uv, UV_RUN_NOWAIT);
			continue;
		}
		text += n;
		len -= (size_t)n;
	}
}

/* All of the answer until the server closes, within MAX_MS. */
static char *read_answer(int fd, uint64_t max_ms)
{
	static struct buf got = { .max = MIB(8) };
	uint64_t end = clock_mono_ms() + max_ms;

	buf_clear(&got);
	while (clock_mono_ms() < end) {
		char *room = buf_reserve(&got, 65536);
		ssize_t n = recv(fd, room, 65536, 0);

		if (n > 0)
			got.len += (size_t)n;
		else if (n == 0 || errno == ECONNRESET)
			break;
		else
			uv_run(&loop.uv, UV_RUN_ONCE);
	}
	close(fd);
	assert_true(clock_mono_ms() < end);
	buf_putc(&got, '\0');
	return got.data;
}

static char *ask_bytes(const char *request, size_t len)
{
	int fd = connect_client();

	send_text(fd, request, len);
	return read_answer(fd, 4000);
}

static char *ask(const char *request)
{
	return ask_bytes(request, strlen(request));
}

static void assert_begins(const char *text, const char *start)
{
	if (strncmp(text, start, strlen(start)) != 0)
		fail_msg("expected \"%s...\", got \"%.300s\"", start, text);
}

static void assert_holds(const char *text, const char *part)
{
	if (text == NULL || strstr(text, part) == NULL)
		fail_msg("expected \"%s\" in \"%.2000s\"", part, text != NULL ? text : "");
}

/* ---- enqueue ---------------------------------------------------------------------------------- */

static void a_hand_over_is_answered_once_it_is_committed(void **state)
{
	(void)state;
	assert_string_equal(
		ask("nncache 1 enqueue\ntag ci-4711\npath " DEMO "\npath " OTHER "\ncache disk\nend\n"),
		"ok request=12 new=2\n");
	assert_string_equal(seen_path, DEMO);
	assert_string_equal(seen_tag, "ci-4711");
	assert_int_equal(seen.caches, 2);
	assert_int_equal(seen.uid, getuid());
	assert_false(seen.push);
	assert_string_equal(ask("nncache 1 push\nforce yes\npath " DEMO "\nend\n"), "ok request=12 new=1\n");
	assert_true(seen.push && seen.force);
	assert_string_equal(ask("nncache 1 enqueue\npath " DEMO "-unrooted\nend\n"),
	                    "ok request=12 new=1 rooted=no\n");
}

static void a_refusal_of_intake_reaches_the_client(void **state)
{
	(void)state;
	assert_begins(ask("nncache 1 push\npath /nix/store/" HASH "-invalid\nend\n"),
	              "error refused /nix/store/" HASH "-invalid is not valid\n");
}

static void a_client_may_half_close_and_may_send_byte_by_byte(void **state)
{
	static const char request[] = "nncache 1 enqueue\npath " DEMO "\nend\n";
	int fd = connect_client();
	(void)state;

	for (size_t i = 0; i < strlen(request); i++) {
		send_text(fd, request + i, 1);
		uv_run(&loop.uv, UV_RUN_NOWAIT);
	}
	shutdown(fd, SHUT_WR);
	assert_string_equal(read_answer(fd, 4000), "ok request=12 new=1\n");
}

static void a_client_that_leaves_before_its_commit_does_no_harm(void **state)
{
	int fd = connect_client();
	(void)state;

	hold_enqueue = true;
	send_text(fd, "nncache 1 enqueue\npath " DEMO "\nend\n",
	          strlen("nncache 1 enqueue\npath " DEMO "\nend\n"));
	pump_for(50);
	close(fd);
	pump_for(50);
	assert_non_null(held);
	end_enqueue(held);
	pump_for(50);
	hold_enqueue = false;
	assert_begins(ask("nncache 1 enqueue\npath " DEMO "\nend\n"), "ok ");
}

static void who_waits_for_a_commit_gets_its_answer_though_the_server_closes(void **state)
{
	int fd = connect_client(), idle = connect_client();
	(void)state;

	hold_enqueue = true;
	send_text(fd, "nncache 1 enqueue\npath " DEMO "\nend\n",
	          strlen("nncache 1 enqueue\npath " DEMO "\nend\n"));
	pump_for(50);
	server_close(server, on_closed, &is_closed);
	server = NULL;
	pump_for(50);
	assert_false(is_closed);
	end_enqueue(held);
	assert_string_equal(read_answer(fd, 4000), "ok request=12 new=1\n");
	assert_string_equal(read_answer(idle, 4000), "");
}

static void a_hand_over_waits_while_the_daemon_has_no_parts_and_the_rest_is_told(void **state)
{
	static const struct server_parts none;
	int fd = connect_client();
	(void)state;

	server_set_parts(server, &none);
	send_text(fd, "nncache 1 enqueue\npath " DEMO "\nend\n",
	          strlen("nncache 1 enqueue\npath " DEMO "\nend\n"));
	pump_for(50);
	assert_int_equal(n_enqueued, 0);
	assert_begins(ask("nncache 1 status\nend\n"), "error busy the daemon is starting\n");
	server_set_parts(server, &parts);
	assert_string_equal(read_answer(fd, 4000), "ok request=12 new=1\n");
}

/* ---- bad input -------------------------------------------------------------------------------- */

static void every_bad_request_gets_a_clear_error(void **state)
{
	static const struct {
		const char *request, *answer;
	} cases[] = {
		{ "GET / HTTP/1.1\r\n\r\n", "error usage line 1: expected 'nncache 1 VERB'\n" },
		{ "\n", "error usage line 1: expected" },
		{ "nncache 2 status\nend\n", "error usage line 1: only version 1" },
		{ "nncache 1 dance\nend\n", "error usage line 1: unknown verb 'dance'" },
		{ "nncache 1 enqueue\nend\n", "error usage enqueue needs a path" },
		{ "nncache 1 enqueue\ncolour red\nend\n", "error usage line 2: unknown key 'colour'" },
		{ "nncache 1 status\npath " DEMO "\nend\n", "error usage line 2: status takes no path" },
		{ "nncache 1 enqueue\npath\nend\n", "error usage line 2: path: the value is missing" },
		{ "nncache 1 enqueue\ntag a\ttab\npath " DEMO "\nend\n", "error usage line 2: a control" },
		{ "nncache 1 enqueue\ntag a\ntag b\npath " DEMO "\nend\n",
		  "error usage line 3: tag is given" },
		{ "nncache 1 status\nend\nmore\n", "error usage line 3: something follows" },
		{ "nncache 1 enqueue\npath /etc/passwd\nend\n", "error refused " },
		{ "nncache 1 enqueue\npath /nix/store/../etc\nend\n", "error refused " },
		{ "nncache 1 enqueue\npath /nix/store/" HASH "-..\nend\n", "error refused " },
		{ "nncache 1 enqueue\npath " DEMO "/bin\nend\n", "error refused " },
		{ "nncache 1 enqueue\npath /gnu/store/" HASH "-x\nend\n", "error refused " },
		{ "nncache 1 enqueue\nderivation " DEMO "\nend\n",
		  "error refused " DEMO " is not a derivation" },
		{ "nncache 1 enqueue\npath " DEMO "\ncache moon\nend\n",
		  "error unknown unknown cache \"moon\"; configured: main, disk\n" },
		{ "nncache 1 list\nstate odd\nend\n", "error usage unknown state \"odd\"" },
		{ "nncache 1 list\nlimit 1001\nend\n", "error usage line 2: limit: expected 1 to 1000" },
		{ "nncache 1 pause\nall yes\nuntil 5\nend\n", "error usage until is in the past" },
		{ "nncache 1 show\npath " OTHER "\nend\n", "error unknown " OTHER " was never handed over" },
	};
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++)
		assert_begins(ask(cases[i].request), cases[i].answer);
	assert_int_equal(n_enqueued, 0);
}

static void a_request_cut_short_is_named_so(void **state)
{
	int fd = connect_client();
	(void)state;

	send_text(fd, "nncache 1 enqueue\npath " DEMO "\n", strlen("nncache 1 enqueue\npath " DEMO "\n"));
	shutdown(fd, SHUT_WR);
	assert_begins(read_answer(fd, 4000), "error usage the request does not end with a line 'end'");
}

static void a_nul_byte_is_an_error(void **state)
{
	static const char request[] = "nncache 1 enqueue\npath " DEMO "\0x\nend\n";
	(void)state;

	assert_begins(ask_bytes(request, sizeof(request) - 1), "error usage line 2: a control character");
}

static void a_name_of_212_characters_is_refused_and_one_of_211_is_not(void **state)
{
	char request[512];
	int n = snprintf(request, sizeof(request),
	                 "nncache 1 enqueue\npath /nix/store/" HASH "-%0211d\nend\n", 7);
	(void)state;

	assert_begins(ask_bytes(request, (size_t)n), "ok ");
	n = snprintf(request, sizeof(request), "nncache 1 enqueue\npath /nix/store/" HASH "-%0212d\nend\n",
	             7);
	assert_begins(ask_bytes(request, (size_t)n), "error refused ");
}

static void four_thousand_and_ninety_six_paths_are_taken_and_one_more_is_not(void **state)
{
	struct buf request = { .max = MIB(1) };
	(void)state;

	buf_puts(&request, "nncache 1 enqueue\n");
	for (int i = 0; i < 4096; i++)
		buf_puts(&request, "path /nix/store/" HASH "-x\n");
	buf_puts(&request, "end\n");
	assert_string_equal(ask(request.data), "ok request=12 new=4096\n");
	request.len -= strlen("end\n");
	buf_puts(&request, "path /nix/store/" HASH "-x\nend\n");
	assert_holds(ask(request.data), "more than 4096 paths");
	buf_fini(&request);
}

static void a_request_of_more_than_256_kib_is_too_large(void **state)
{
	struct buf request = { .max = MIB(1) };
	(void)state;

	buf_puts(&request, "nncache 1 enqueue\n");
	while (request.len < 300000)
		buf_puts(&request, "tag x\n");
	assert_begins(ask(request.data), "error too-large the request is larger than 262144 bytes\n");
	buf_fini(&request);
}

static void who_is_silent_or_stops_halfway_is_told_so_after_five_seconds(void **state)
{
	int silent = connect_client(), halfway = connect_client();
	(void)state;

	send_text(halfway, "nncache 1 enq", strlen("nncache 1 enq"));
	assert_begins(read_answer(silent, 7000), "error timeout ");
	assert_begins(read_answer(halfway, 1000), "error timeout ");
}

/* ---- who ---------------------------------------------------------------------------------------- */

#define NOBODY 65534

/* Runs FN as another user while the loop goes round; its exit status is what FN returned. */
static int as_nobody(int (*fn)(void))
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		if (setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
			_exit(100);
		_exit(fn());
	}
	while (waitpid(pid, &status, WNOHANG) == 0)
		pump_for(10);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 101;
}

static int stranger_connect(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(addr.sun_path, socket_path);
	return connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -1 : fd;
}

static bool stranger_gets(const char *request, const char *start)
{
	char got[8192] = "";
	size_t n = 0;
	ssize_t r;
	int fd = stranger_connect();

	if (fd < 0 || send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
		return false;
	while (n < sizeof(got) - 1 && (r = read(fd, got + n, sizeof(got) - 1 - n)) > 0)
		n += (size_t)r;
	close(fd);
	return strncmp(got, start, strlen(start)) == 0;
}

static int stranger_asks(void)
{
	if (!stranger_gets("nncache 1 status\nend\n", "daemon "))
		return 1;
	if (!stranger_gets("nncache 1 enqueue\npath " DEMO "\nend\n",
	                   "error denied enqueue is for root and members of the group no-such-group\n"))
		return 2;
	if (!stranger_gets("nncache 1 forget\nfailed yes\nend\n", "error denied forget is for root\n"))
		return 3;
	if (!stranger_gets("nncache 1 pause\nall yes\nend\n", "error denied pause is for root\n"))
		return 4;
	return 0;
}

static void a_stranger_may_look_and_no_more(void **state)
{
	struct stat st;
	(void)state;

	assert_int_equal(stat(socket_path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0666);
	if (getuid() != 0)
		skip();
	assert_int_equal(as_nobody(stranger_asks), 0);
	assert_int_equal(n_enqueued, 0);
	assert_int_equal(queue.n_ops, 0);
}

static int stranger_in_group_asks(void)
{
	if (!stranger_gets("nncache 1 enqueue\npath " DEMO "\nend\n", "ok "))
		return 1;
	if (!stranger_gets("nncache 1 verify\ncache main\nend\n", "finding "))
		return 3;
	if (!stranger_gets("nncache 1 verify\ncache main\nrepair yes\nend\n", "error denied repair is for "))
		return 4;
	return stranger_gets("nncache 1 forget\nfailed yes\nend\n", "error denied") ? 0 : 2;
}

static void members_of_the_push_group_may_push_but_not_forget(void **state)
{
	(void)state;
	if (getuid() != 0)
		skip();
	config.push_group = nogroup;
	server_reconfigure(server, &config);
	assert_int_equal(as_nobody(stranger_in_group_asks), 0);
}

static int flood_pipe[2];

/* Opens a thousand connections and keeps all that it is let. */
static int flood(void)
{
	unsigned n_refused = 0;
	struct pollfd fds[1000];
	char text[64];

	for (int i = 0; i < 1000; i++) {
		fds[i] = (struct pollfd){ .fd = stranger_connect(), .events = POLLIN };
		if (fds[i].fd < 0)
			return 1;
	}
	while (n_refused < 1000 - SERVER_MAX_PER_UID) {
		n_refused = 0;
		if (poll(fds, 1000, 3000) < 0)
			return 2;
		for (int i = 0; i < 1000; i++)
			n_refused += (fds[i].revents & POLLIN) != 0;
	}
	for (int i = 0; i < 1000; i++)
		if ((fds[i].revents & POLLIN) != 0 &&
		    (recv(fds[i].fd, text, 12, 0) != 12 || memcmp(text, "error busy t", 12) != 0))
			return 3;
	if (write(flood_pipe[1], "k", 1) != 1)
		return 4;
	return n_refused == 1000 - SERVER_MAX_PER_UID ? 0 : 5;
}

static void a_thousand_idle_connections_of_one_user_do_not_keep_root_waiting(void **state)
{
	struct pollfd kept;
	uint64_t before;
	pid_t pid;
	(void)state;

	if (getuid() != 0)
		skip();
	assert_int_equal(pipe(flood_pipe), 0);
	pid = fork();
	if (pid == 0) {
		int rc = setgid(NOBODY) < 0 || setuid(NOBODY) < 0 ? 100 : flood();

		if (rc == 0)
			pause();
		_exit(rc);
	}
	close(flood_pipe[1]);
	kept = (struct pollfd){ .fd = flood_pipe[0], .events = POLLIN };
	before = clock_mono_ms();
	while (poll(&kept, 1, 0) == 0 && clock_mono_ms() < before + 4000) {
		/* In the middle of it, too. */
		assert_begins(ask("nncache 1 enqueue\npath " DEMO "\nend\n"), "ok ");
		pump_for(1);
	}
	assert_int_equal(kept.revents & POLLIN, POLLIN);
	before = clock_mono_ms();
	for (int i = 0; i < 100; i++)
		assert_begins(ask("nncache 1 enqueue\npath " DEMO "\nend\n"), "ok ");
	assert_true(clock_mono_ms() - before < 2000);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(flood_pipe[0]);
}

/* These stand before libc's. */
static unsigned n_accepts, n_accepted;
static bool no_fds_left;
int accept4(int fd, __SOCKADDR_ARG addr, socklen_t *len, int flags)
{
	int rc = -1;

	n_accepts++;
	if (no_fds_left)
		errno = EMFILE;
	else
		rc = (int)syscall(SYS_accept4, fd, addr.__sockaddr__, len, flags);
	n_accepted += rc >= 0;
	return rc;
}

static uid_t pretended_user; /* 0: who it is */
int getsockopt(int fd, int level, int name, void *ret, socklen_t *len)
{
	int rc = (int)syscall(SYS_getsockopt, fd, level, name, ret, len);

	if (rc == 0 && pretended_user != 0 && level == SOL_SOCKET && name == SO_PEERCRED)
		((struct ucred *)ret)->uid = pretended_user;
	return rc;
}

static void without_file_descriptors_it_neither_spins_nor_forgets_who_waits(void **state)
{
	static const char text[] = "nncache 1 enqueue\npath " DEMO "\nend\n";
	int fd = connect_client();
	(void)state;

	no_fds_left = true;
	n_accepts = 0;
	send_text(fd, text, strlen(text));
	pump_for(450);
	no_fds_left = false;
	assert_in_range(n_accepts, 1, 50); /* a spin is thousands */
	assert_begins(read_answer(fd, 4000), "ok ");
}

/* Connects N times as USER; each waits for what does not come. Returns the last. */
static int wait_as(uid_t user, unsigned n)
{
	static const char text[] = "nncache 1 wait\nend\n";
	unsigned n_before = n_accepted;
	int fd = -1;

	pretended_user = user;
	for (unsigned i = 0; i < n; i++) {
		fd = connect_client();
		send_text(fd, text, strlen(text));
	}
	while (n_accepted < n_before + n)
		uv_run(&loop.uv, UV_RUN_ONCE);
	pretended_user = 0;
	return fd;
}

static void the_places_of_all_and_those_of_root_have_a_ceiling(void **state)
{
	static const char busy[] = "error busy too many connections\n";
	unsigned n_others = SERVER_MAX_SESSIONS - SERVER_MAX_SESSIONS / 4;
	struct rlimit before, many = { .rlim_cur = 2048 };
	(void)state;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	many.rlim_max = before.rlim_max;
	if (getuid() != 0 || before.rlim_max < many.rlim_cur || setrlimit(RLIMIT_NOFILE, &many) < 0) {
		print_message("not root, or fewer than 2048 file descriptors: the places are NOT tested\n");
		skip();
	}
	queue.wait = (struct queue_wait_state){ .n_total = 4, .n_unfinished = 2, .n_moving = 2 };
	for (uid_t user = 1; user <= n_others / SERVER_MAX_PER_UID; user++)
		wait_as(user, SERVER_MAX_PER_UID);
	assert_string_equal(read_answer(wait_as(1000, 1), 4000), busy);
	wait_as(0, SERVER_MAX_SESSIONS / 4);
	assert_string_equal(read_answer(wait_as(0, 1), 4000), busy);
	queue.wait.n_unfinished = 0; /* all of them go, and there is room again */
	server_notify(server);
	for (int i = 0; i < 100 && strcmp(ask("nncache 1 status\nend\n"), busy) == 0; i++)
		pump_for(100);
	assert_begins(ask("nncache 1 status\nend\n"), "daemon ");
}

static void a_slow_commit_keeps_nobody_else_waiting(void **state)
{
	int fd = connect_client();
	(void)state;

	hold_enqueue = true;
	send_text(fd, "nncache 1 enqueue\npath " DEMO "\nend\n",
	          strlen("nncache 1 enqueue\npath " DEMO "\nend\n"));
	pump_for(20);
	assert_non_null(held);
	assert_begins(ask("nncache 1 status\nend\n"), "daemon ");
	end_enqueue(held);
	assert_begins(read_answer(fd, 4000), "ok ");
}

/* ---- looking ------------------------------------------------------------------------------------ */

static void status_has_a_record_for_each_thing_and_an_end_mark(void **state)
{
	const char *text;
	(void)state;

	queue.counts[0].jobs[JOB_READY] = 5;
	queue.counts[0].jobs[JOB_FAILED] = 7;
	queue.counts[0].uploaded_bytes = 1234;
	queue.counts[1].jobs[JOB_DELAYED] = 1;
	parts.config_error = "nncache.conf:3: odd";
	parts.queue_message = "a damaged queue was set aside: x";
	server_set_parts(server, &parts);
	text = ask("nncache 1 status\nend\n");
	assert_begins(text, "daemon version=" NNCACHE_VERSION " pid=");
	assert_holds(text, " config-error=nncache.conf:3:%20odd ");
	assert_holds(text, " queue-message=a%20damaged%20queue%20was%20set%20aside:%20x ");
	assert_holds(text,
	             "\nqueue resolving=3 ready=3 delayed=1 in-flight=2 sent=0 blocked=0 failed=8 done=0 "
	             "unfinished=17 oldest=1700000000 pinned-paths=11 ");
	assert_holds(text, "\ncache name=main url=https://c.example/x state=error unfinished=12 ready=3 ");
	assert_holds(text, " uploaded-bytes=1234 ");
	assert_holds(text,
	             " pace=16 message-kind=operator since=1700000000 next-try=1700000060 message=main.");
	assert_holds(text, " message=main.token:%2050%25%20done%0Aor%20not "
	                   "note=sign%20=%20no:%20nothing%20is%20signed%20here");
	assert_holds(text, "\ncache name=disk url=file:///srv state=waiting ");
	assert_holds(text, "\nupload cache=main path=" DEMO " step=sending nar-bytes=100 done-bytes=40 ");
	assert_holds(text, "\ncause cache=main state=failed kind=permanent jobs=7 path=" DEMO " ");
	assert_holds(text, "\n.\nok\n");
}

static void a_stop_that_drains_says_how_much_is_left(void **state)
{
	(void)state;
	assert_null(strstr(ask("nncache 1 status\nend\n"), " stopping="));
	queue.counts[0].jobs[JOB_READY] = 5; /* two of them in flight */
	queue.counts[1].jobs[JOB_DELAYED] = 4;
	parts.is_draining = true;
	server_set_parts(server, &parts);
	/* Three are being resolved. */
	assert_holds(ask("nncache 1 status\nend\n"), " stopping=draining,%208%20left\n");
	parts.is_draining = false;
}

static size_t count(const char *text, const char *part)
{
	size_t n = 0;

	for (; (text = strstr(text, part)) != NULL; text++)
		n++;
	return n;
}

static void a_listing_comes_in_pages_and_says_whether_there_is_more(void **state)
{
	const char *text;
	(void)state;

	queue.n_rows = 450;
	text = ask("nncache 1 list\nend\n");
	assert_int_equal(count(text, "job id="), 200);
	assert_holds(text, "\n.\nok last=200 more=yes\n");
	text = ask("nncache 1 list\nafter 200\nlimit 1000\nend\n");
	assert_int_equal(count(text, "job id="), 250);
	assert_begins(text, "job id=201 path=" DEMO " cache=main state=delayed root=yes ");
	assert_holds(text, " kind=transient text=PUT%20x:%20HTTP%20503 ");
	assert_holds(text, "\n.\nok last=450 more=no\n");
	queue.n_rows = 0;
	assert_string_equal(ask("nncache 1 list\nstate failed\ncache main\nend\n"), ".\nok last=0 more=no\n");
}

static void a_reader_that_does_not_read_costs_no_more_than_its_page(void **state)
{
	int fd = connect_client();
	(void)state;

	queue.n_rows = 1000;
	send_text(fd, "nncache 1 list\nlimit 1000\nend\n", strlen("nncache 1 list\nlimit 1000\nend\n"));
	pump_for(100);
	assert_begins(ask("nncache 1 status\nend\n"), "daemon ");
	assert_int_equal(count(read_answer(fd, 4000), "job id="), 1000);
}

/* A listing takes the memory of a page, whatever its rows are; what comes as a whole is given up beyond its
 * bound. */
static void an_answer_has_a_bound_that_no_page_reaches(void **state)
{
	const char *text;
	(void)state;

	queue.n_rows = 1000;
	queue.are_rows_long = true;
	text = ask("nncache 1 list\nlimit 1000\nend\n");
	assert_true(strlen(text) > MIB(2));
	assert_int_equal(count(text, "job id="), 1000);
	assert_holds(text, "\n.\nok last=1000 more=yes\n");
	queue.n_rows = 500;
	assert_int_equal(count(ask("nncache 1 show\npath " DEMO "\nend\n"), "job id="), 500);
	queue.n_rows = 1000;
	assert_int_equal(strlen(ask("nncache 1 show\npath " DEMO "\nend\n")), 0);
	assert_begins(ask("nncache 1 status\nend\n"), "daemon ");
}

/* The minute itself is not waited for: its timer is looked at, then set to go off. */
static void who_does_not_read_the_answer_for_a_minute_is_let_go(void **state)
{
	static const char request[] = "nncache 1 list\nlimit 1000\nend\n";
	const int small = 4096;
	int fd = connect_client(), server_fd;
	struct session *s;
	uint64_t due_ms;
	(void)state;

	queue.n_rows = 1000;
	pump_for(20);
	s = server->sessions;
	assert_non_null(s);
	assert_int_equal(uv_fileno((uv_handle_t *)&s->pipe, &server_fd), 0);
	assert_int_equal(setsockopt(server_fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	send_text(fd, request, strlen(request));
	pump_for(100);
	assert_ptr_equal(server->sessions, s);
	assert_true(s->is_writing);
	due_ms = uv_timer_get_due_in(&s->timer.uv);
	assert_in_range(due_ms, 1, SESSION_WRITE_MS);
	timer_set(&s->timer, 1);
	pump_for(100);
	assert_int_equal(server->n_sessions, 0);
	assert_true(count(read_answer(fd, 4000), "job id=") < 1000);
	assert_begins(ask("nncache 1 status\nend\n"), "daemon ");
}

static void show_has_the_jobs_of_a_path(void **state)
{
	(void)state;
	queue.n_rows = 2;
	assert_int_equal(count(ask("nncache 1 show\npath " DEMO "\nend\n"), "job id="), 2);
}

static void config_shows_what_is_in_effect(void **state)
{
	const char *text = ask("nncache 1 config\nend\n");
	(void)state;

	assert_holds(text, "setting section=cache%20\"disk\" key=url value=file:///srv\n");
	assert_holds(text, "\n.\nok\n");
}

/* ---- waiting ------------------------------------------------------------------------------------ */

static void wait_ends_when_all_is_finished(void **state)
{
	int fd = connect_client();
	(void)state;

	queue.wait = (struct queue_wait_state){ .n_total = 4, .n_unfinished = 2, .n_moving = 2 };
	send_text(fd, "nncache 1 wait\nend\n", strlen("nncache 1 wait\nend\n"));
	pump_for(100);
	queue.wait.n_unfinished = 1;
	queue.wait.n_moving = 1;
	server_notify(server);
	pump_for(400);
	queue.wait.n_unfinished = 0;
	server_notify(server);
	assert_string_equal(read_answer(fd, 4000),
	                    "progress total=4 unfinished=2 failed=0 blocked=0 moving=2\n"
	                    "progress total=4 unfinished=1 failed=0 blocked=0 moving=1\n"
	                    "progress total=4 unfinished=0 failed=0 blocked=0 moving=1\n"
	                    "ok failed=0 blocked=0 stuck=no\n");
}

/* The counts that status shows come with what the queue is about, after its fsync. */
static void wait_ends_behind_what_the_queue_is_about(void **state)
{
	int fd = connect_client();
	char byte;
	(void)state;

	queue.is_slow = true;
	queue.wait = (struct queue_wait_state){ .n_total = 4 };
	send_text(fd, "nncache 1 wait\nend\n", strlen("nncache 1 wait\nend\n"));
	while (queue.waiting == NULL)
		uv_run(&loop.uv, UV_RUN_ONCE);
	pump_for(50);
	assert_int_equal(recv(fd, &byte, 1, MSG_PEEK), -1);
	answer_later(queue.waiting, NULL);
	assert_holds(read_answer(fd, 4000), "ok failed=0 blocked=0 stuck=no\n");
}

static void wait_ends_with_the_causes_when_nothing_can_go_on(void **state)
{
	const char *text;
	(void)state;

	queue.wait =
		(struct queue_wait_state){ .n_total = 4, .n_unfinished = 3, .n_failed = 2, .n_blocked = 1 };
	text = ask("nncache 1 wait\npath " DEMO "\nend\n");
	assert_begins(text, "progress total=4 unfinished=3 failed=2 blocked=1 moving=0\ncause cache=main ");
	assert_holds(text, "\nok failed=2 blocked=1 stuck=yes\n");
	queue.counts[1].jobs[JOB_READY] = 6;
	queue.paused_until_unix_s = INT64_MAX;
	assert_holds(ask("nncache 1 wait\nend\n"),
	             "\ncause cache=disk state=paused jobs=6 due=0 text=paused%20by%20an%20operator\nok ");
}

static void wait_knows_its_tags(void **state)
{
	(void)state;
	queue.tag_known = false;
	assert_begins(ask("nncache 1 wait\ntag ci\nend\n"), "error unknown no request has the tag \"ci\"\n");
}

static void news_wakes_a_wait_at_most_four_times_a_second(void **state)
{
	uint64_t start = clock_mono_ms();
	int fd = connect_client();
	(void)state;

	queue.wait = (struct queue_wait_state){ .n_total = 4, .n_unfinished = 2, .n_moving = 2 };
	send_text(fd, "nncache 1 wait\nend\n", strlen("nncache 1 wait\nend\n"));
	for (int i = 0; i < 100; i++) {
		server_notify(server);
		pump_for(5);
	}
	assert_in_range(queue.n_waits, 2, 2 + (clock_mono_ms() - start) / 250);
	close(fd);
}

static void a_wait_outlives_the_daemons_parts(void **state)
{
	static const struct server_parts none;
	int fd = connect_client();
	(void)state;

	queue.wait = (struct queue_wait_state){ .n_total = 1, .n_unfinished = 1, .n_moving = 1 };
	send_text(fd, "nncache 1 wait\nend\n", strlen("nncache 1 wait\nend\n"));
	pump_for(50);
	server_set_parts(server, &none);
	server_notify(server);
	pump_for(300);
	queue.wait.n_unfinished = 0;
	server_set_parts(server, &parts);
	assert_holds(read_answer(fd, 4000), "\nok failed=0 blocked=0 stuck=no\n");
}

static void a_wait_that_settles_outlives_them_too(void **state)
{
	static const struct server_parts none;
	int fd = connect_client();
	const char *text;
	(void)state;

	queue.is_slow = true;
	queue.wait =
		(struct queue_wait_state){ .n_total = 4, .n_unfinished = 3, .n_failed = 2, .n_blocked = 1 };
	send_text(fd, "nncache 1 wait\nend\n", strlen("nncache 1 wait\nend\n"));
	while (queue.waiting == NULL)
		uv_run(&loop.uv, UV_RUN_ONCE);
	queue.is_slow = false;
	server_set_parts(server, &none);
	answer_later(queue.waiting, NULL);
	pump_for(50);
	server_set_parts(server, &parts);
	text = read_answer(fd, 4000);
	assert_holds(text, "\ncause cache=main ");
	assert_holds(text, "\nok failed=2 blocked=1 stuck=yes\n");
}

/* ---- steering ----------------------------------------------------------------------------------- */

static void retry_and_forget_go_path_by_path_and_free_roots(void **state)
{
	(void)state;
	assert_string_equal(ask("nncache 1 retry\npath " DEMO "\npath " OTHER "\ncache disk\nend\n"),
	                    "ok changed=4\n");
	assert_int_equal(queue.n_ops, 2);
	assert_string_equal(queue.selected_path, OTHER);
	assert_int_equal(queue.selector.caches, 2);
	assert_false(queue.selector.failed_only);
	assert_int_equal(uploader.tried, 2); /* a cache that does not work, too */
	assert_string_equal(ask("nncache 1 forget\nfailed yes\nend\n"), "ok changed=1\n");
	assert_true(queue.selector.failed_only);
	assert_null(queue.selector.path);
	assert_int_equal(n_released, 1);
}

static void pause_and_resume_name_their_caches(void **state)
{
	(void)state;
	assert_string_equal(ask("nncache 1 pause\ncache disk\nend\n"), "ok\n");
	assert_int_equal(queue.paused_caches, 2);
	assert_true(queue.paused_until_unix_s == INT64_MAX);
	assert_holds(ask("nncache 1 status\nend\n"), " state=paused ");
	assert_string_equal(ask("nncache 1 pause\nall yes\nuntil 9000000000\nend\n"), "ok\n");
	assert_int_equal(queue.paused_caches, 3);
	assert_holds(ask("nncache 1 status\nend\n"), " paused-until=9000000000");
	assert_string_equal(ask("nncache 1 resume\nall yes\nend\n"), "ok\n");
	assert_int_equal(queue.paused_until_unix_s, 0);
	assert_int_equal(uploader.tried & 3, 3);
	assert_begins(ask("nncache 1 pause\ncache main\nall yes\nend\n"),
	              "error usage pause takes caches or");
}

/* ---- the socket --------------------------------------------------------------------------------- */

static void a_second_server_is_refused_and_a_stale_socket_replaced(void **state)
{
	struct server_config sc = {
		.loop = &loop, .config = &config, .listen_fd = -1, .enqueue = on_enqueue, .ctx = &config
	};
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct server *second = NULL;
	char stale[96];
	struct error err;
	bool closed = false;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	(void)state;

	assert_int_equal(server_open(&second, &sc, &err), -1);
	assert_int_equal(err.kind, ERROR_OPERATOR);
	assert_holds(err.text, "another nncached serves there");
	assert_begins(ask("nncache 1 enqueue\npath " DEMO "\nend\n"), "ok ");

	snprintf(stale, sizeof(stale), "%s/stale", dir);
	strcpy(addr.sun_path, stale);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	config.socket = stale;
	assert_int_equal(server_open(&second, &sc, &err), 0);
	config.socket = socket_path;
	server_close(second, on_closed, &closed);
	pump_for(20);
	assert_true(closed);
}

static void what_is_no_socket_is_left_alone(void **state)
{
	struct server_config sc = {
		.loop = &loop, .config = &config, .listen_fd = -1, .enqueue = on_enqueue, .ctx = &config
	};
	struct server *second = NULL;
	char file[96];
	struct error err;
	(void)state;

	snprintf(file, sizeof(file), "%s/file", dir);
	close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	config.socket = file;
	assert_int_equal(server_open(&second, &sc, &err), -1);
	config.socket = socket_path;
	assert_holds(err.text, "not a socket");
	assert_int_equal(unlink(file), 0);
}

/* ---- verify, catch-up ------------------------------------------------------------------------- */

static void verify_tells_what_it_finds_and_how_that_is_mended(void **state)
{
	const char *text = ask("nncache 1 verify\ncache main\ndeep yes\nend\n");
	(void)state;

	assert_begins(text, "finding cache=main path=" DEMO
	                    " what=missing text=no%20narinfo repair=upload upload=" DEMO "\n");
	assert_holds(text, " what=nar-missing text=no%0ANAR repair=upload ");
	assert_holds(text, " what=other-build text=another repair=none ");
	assert_holds(text, "\nverified paths=7 total=9 bytes=0\n");
	assert_holds(text, "\n.\nok paths=7 bytes=0 findings=2 notes=1 unchecked=0 enqueued=0\n");
	assert_true(verify_is_deep && !verify_repairs);
	assert_int_equal(n_verifies, n_verify_ends);
	assert_int_equal(n_enqueued, 0);
}

static void verify_with_repair_hands_over_what_an_upload_mends(void **state)
{
	const char *text = ask("nncache 1 verify\ncache main\nrepair yes\nend\n");
	(void)state;

	assert_true(verify_repairs);
	assert_holds(text, " what=missing text=no%20narinfo repair=enqueued ");
	assert_holds(text, " what=nar-missing text=no%0ANAR repair=enqueued ");
	assert_holds(text, " findings=2 notes=1 unchecked=0 enqueued=2\n");
	/* The one whose NAR is missing by itself, and forced: its narinfo is no answer. */
	assert_int_equal(n_enqueued, 2);
	assert_true(seen.push && seen.force);
	assert_int_equal(seen.caches, 1);
	assert_int_equal(seen.n_paths, 1);
	assert_string_equal(seen_path, OTHER);
}

static void verify_is_of_one_cache_and_once_at_a_time(void **state)
{
	(void)state;
	assert_begins(ask("nncache 1 verify\nend\n"), "error usage verify needs a cache\n");
	assert_begins(ask("nncache 1 verify\ncache main\ncache disk\nend\n"), "error usage ");
	assert_begins(ask("nncache 1 verify\ncache disk\nend\n"), "error refused a verification of ");
	parts.verifier = NULL;
	server_set_parts(server, &parts);
	assert_begins(ask("nncache 1 verify\ncache main\nend\n"), "error transient ");
}

static void a_client_that_leaves_ends_its_verification(void **state)
{
	static const char request[] = "nncache 1 verify\ncache main\nend\n";
	int fd = connect_client();
	(void)state;

	n_verifies = n_verify_ends = 0;
	send_text(fd, request, strlen(request));
	close(fd);
	pump_for(100);
	assert_int_equal(n_verifies, 1);
	assert_int_equal(n_verify_ends, 1);
}

static void a_server_that_closes_ends_a_verification_that_hangs(void **state)
{
	static const char request[] = "nncache 1 verify\ncache main\nend\n";
	int fd = connect_client();
	(void)state;

	n_verify_ends = 0;
	verify_is_slow = true;
	send_text(fd, request, strlen(request));
	pump_for(50);
	assert_int_equal(n_verify_ends, 0);
	server_close(server, on_closed, &is_closed);
	server = NULL;
	pump_for(50);
	verify_is_slow = false;
	assert_int_equal(n_verify_ends, 1);
	assert_true(is_closed);
	close(fd);
}

static void catch_up_lists_what_nobody_handed_over_page_by_page(void **state)
{
	const char *text;
	size_t n = 0;
	(void)state;

	n_built = 2 * STORE_BUILT_PAGE + 3;
	text = ask("nncache 1 catch-up\nsince 1700000000\ncache disk\nend\n");
	for (const char *at = text; (at = strstr(at, "built path=" DEMO "\n")) != NULL; at++)
		n++;
	assert_int_equal(n, STORE_BUILT_PAGE + 2);
	assert_holds(text, "\n.\nok paths=258\n");
	assert_int_equal(queue.known_caches, 2);
	n_built = 0;
	assert_string_equal(ask("nncache 1 catch-up\nend\n"), ".\nok paths=0\n");
	assert_int_equal(queue.known_caches, 3); /* the targets */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_hand_over_is_answered_once_it_is_committed),
		TEST(a_refusal_of_intake_reaches_the_client),
		TEST(a_client_may_half_close_and_may_send_byte_by_byte),
		TEST(a_client_that_leaves_before_its_commit_does_no_harm),
		TEST(who_waits_for_a_commit_gets_its_answer_though_the_server_closes),
		TEST(a_hand_over_waits_while_the_daemon_has_no_parts_and_the_rest_is_told),
		TEST(every_bad_request_gets_a_clear_error),
		TEST(a_request_cut_short_is_named_so),
		TEST(a_nul_byte_is_an_error),
		TEST(a_name_of_212_characters_is_refused_and_one_of_211_is_not),
		TEST(four_thousand_and_ninety_six_paths_are_taken_and_one_more_is_not),
		TEST(a_request_of_more_than_256_kib_is_too_large),
		TEST(who_is_silent_or_stops_halfway_is_told_so_after_five_seconds),
		TEST(a_stranger_may_look_and_no_more),
		TEST(members_of_the_push_group_may_push_but_not_forget),
		TEST(a_thousand_idle_connections_of_one_user_do_not_keep_root_waiting),
		TEST(without_file_descriptors_it_neither_spins_nor_forgets_who_waits),
		TEST(the_places_of_all_and_those_of_root_have_a_ceiling),
		TEST(a_slow_commit_keeps_nobody_else_waiting),
		TEST(status_has_a_record_for_each_thing_and_an_end_mark),
		TEST(a_stop_that_drains_says_how_much_is_left),
		TEST(a_listing_comes_in_pages_and_says_whether_there_is_more),
		TEST(a_reader_that_does_not_read_costs_no_more_than_its_page),
		TEST(an_answer_has_a_bound_that_no_page_reaches),
		TEST(who_does_not_read_the_answer_for_a_minute_is_let_go),
		TEST(show_has_the_jobs_of_a_path),
		TEST(config_shows_what_is_in_effect),
		TEST(wait_ends_when_all_is_finished),
		TEST(wait_ends_behind_what_the_queue_is_about),
		TEST(wait_ends_with_the_causes_when_nothing_can_go_on),
		TEST(wait_knows_its_tags),
		TEST(news_wakes_a_wait_at_most_four_times_a_second),
		TEST(a_wait_outlives_the_daemons_parts),
		TEST(a_wait_that_settles_outlives_them_too),
		TEST(retry_and_forget_go_path_by_path_and_free_roots),
		TEST(pause_and_resume_name_their_caches),
		TEST(a_second_server_is_refused_and_a_stale_socket_replaced),
		TEST(what_is_no_socket_is_left_alone),
		TEST(verify_tells_what_it_finds_and_how_that_is_mended),
		TEST(verify_with_repair_hands_over_what_an_upload_mends),
		TEST(verify_is_of_one_cache_and_once_at_a_time),
		TEST(a_client_that_leaves_ends_its_verification),
		TEST(a_server_that_closes_ends_a_verification_that_hangs),
		TEST(catch_up_lists_what_nobody_handed_over_page_by_page),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
