/* Whatever a client sends is answered once, by records and a last line that a client can read. */
#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "common/protocol.h"
#include "common/store_path.h"
#include "daemon/server/server.h"
#include "daemon/store/store.h"
#include "daemon/verify/verify.h"
#include "tests/fuzz/fuzz.h"

#define STORE "/nix/store"
#define PATH  STORE "/00000000000000000000000000000000-x"

/* What servers said may be in any text. */
static char path_text[] = PATH, name_text[] = "main", kind_text[] = "transient";
static char error_text[] = "PUT x: 50%\n\033[2J\x9b\xff=";

struct queue {
	struct queue_counts counts;
};

static struct {
	struct loop loop;
	struct config *config;
	struct server *server;
	struct queue queue;
	struct sockaddr_un here;
	socklen_t here_len;
	char answer[65536];
	size_t n_answer;
	unsigned n_enqueued;
} t;

/* ---- in place of the queue and the uploads --------------------------------------------------- */

struct turn {
	struct loop_post post;
	struct queue_op *op;
	struct queue_read *read;
	struct store_built_query *built;
};

static void on_turn(struct loop_post *post)
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

	MUST(turn != NULL);
	turn->op = op;
	turn->read = read;
	loop_post(&t.loop, &turn->post, on_turn);
}

const char *job_state_name(enum job_state state)
{
	return state == JOB_FAILED ? "failed" : "delayed";
}

const char *root_state_name(enum root_state state)
{
	(void)state;
	return "resolving";
}

const struct queue_counts *queue_cache_counts(const struct queue *queue, size_t cache)
{
	(void)cache;
	return &queue->counts;
}

uint64_t queue_root_count(const struct queue *queue, enum root_state state)
{
	(void)queue, (void)state;
	return 1;
}

int64_t queue_paused_until_unix_s(const struct queue *queue, size_t cache)
{
	(void)queue;
	return cache == 0 ? INT64_MAX : 0;
}

static void check_selector(const struct queue_selector *which)
{
	MUST(which->path == NULL || store_path_is_valid(which->path, STORE));
	MUST(which->caches < 1U << t.config->n_caches);
}

void queue_start(struct queue *queue, struct queue_op *op, queue_op_fn done)
{
	(void)queue;
	op->done = done;
	if (op->verb == QUEUE_RETRY)
		check_selector(&CONTAINER_OF(op, struct queue_retry, op)->which);
	if (op->verb == QUEUE_FORGET)
		check_selector(&CONTAINER_OF(op, struct queue_forget, op)->which);
	if (op->verb == QUEUE_PAUSE)
		MUST(CONTAINER_OF(op, struct queue_pause, op)->caches < 1U << t.config->n_caches);
	answer_later(op, NULL);
}

void queue_op_fini(struct queue_op *op)
{
	(void)op;
}

/* ---- in place of the verifications and the store --------------------------------------------- */

struct verify_run {
	struct verify_step *step;
	struct loop_post post;
	unsigned n_steps;
	bool is_ended;
	struct finding findings[FINDING_N];
};

static void on_step(struct loop_post *post)
{
	struct verify_run *run = CONTAINER_OF(post, struct verify_run, post);
	struct verify_step *step = run->step;
	bool is_ended = run->is_ended;

	run->step = NULL;
	step->findings = run->findings;
	step->n_findings = run->n_steps == 0 ? FINDING_N : 0;
	step->is_over = run->n_steps++ > 0;
	step->done(step);
	if (is_ended)
		free(run);
}

int verify_open(struct verify_run **ret, struct verifier *verifier, size_t cache, bool is_deep, bool repairs,
                struct error *err)
{
	struct verify_run *run = calloc(1, sizeof(*run));
	(void)verifier, (void)is_deep, (void)repairs, (void)err;

	MUST(run != NULL && cache < t.config->n_caches);
	for (int i = 0; i < FINDING_N; i++) {
		run->findings[i].what = (enum finding_what)i;
		run->findings[i].mend = (enum finding_mend)(i % (MEND_IMPOSSIBLE + 1));
		strcpy(run->findings[i].path, PATH);
		strcpy(run->findings[i].upload, PATH);
		strcpy(run->findings[i].text, error_text);
	}
	*ret = run;
	return 0;
}

void verify_next(struct verify_run *run, struct verify_step *step, verify_fn done)
{
	*step = (struct verify_step){ .done = done };
	run->step = step;
	loop_post(&t.loop, &run->post, on_step);
}

void verify_close(struct verify_run *run)
{
	if (run == NULL)
		return;
	run->is_ended = true;
	if (run->step == NULL)
		free(run);
	else
		error_set(&run->step->err, ERROR_CANCELED, "ended");
}

static void on_built(struct loop_post *post)
{
	struct turn *turn = CONTAINER_OF(post, struct turn, post);
	struct store_built_query *query = turn->built;

	free(turn);
	query->done(query);
}

void store_built_start(struct store *store, struct store_built_query *query, store_built_fn done)
{
	struct turn *turn = calloc(1, sizeof(*turn));
	(void)store;

	MUST(turn != NULL);
	query->done = done;
	query->n_paths = query->after_id == 0 ? STORE_BUILT_PAGE : 3;
	query->paths = calloc(query->n_paths, sizeof(*query->paths));
	MUST(query->paths != NULL);
	for (size_t i = 0; i < query->n_paths; i++)
		MUST((query->paths[i] = strdup(PATH)) != NULL);
	query->last_id = query->after_id + 1;
	turn->built = query;
	loop_post(&t.loop, &turn->post, on_built);
}

static void fill_rows(struct queue_read *read)
{
	MUST(read->n_max > 0 && read->n_max <= REQUEST_MAX_LIMIT);
	read->n_rows = read->after_id < 0 || read->after_id > 150 ? 0 : read->n_max < 100 ? read->n_max : 100;
	read->rows = calloc(read->n_rows + 1, sizeof(*read->rows));
	MUST(read->rows != NULL);
	for (size_t i = 0; i < read->n_rows; i++)
		read->rows[i] = (struct queue_row){ .job_id = read->after_id + (int64_t)i + 1,
			                            .path = path_text,
			                            .cache = name_text,
			                            .error = error_text,
			                            .error_kind = kind_text,
			                            .state = JOB_DELAYED };
	read->last_id = read->after_id + (int64_t)read->n_rows;
}

void queue_read_start(struct queue *queue, struct queue_read *read, queue_read_fn done)
{
	static struct queue_cause cause = { .cache = name_text,
		                            .error = error_text,
		                            .error_kind = kind_text,
		                            .example_path = path_text,
		                            .state = JOB_FAILED,
		                            .n_jobs = UINT64_MAX };
	(void)queue;

	read->done = done;
	if (read->verb == QUEUE_LIST || (read->verb == QUEUE_SHOW && strcmp(read->path, PATH) == 0))
		fill_rows(read);
	read->causes = &cause;
	read->n_causes = 1;
	read->tag_known = read->tag != NULL && read->tag[0] == 'a';
	answer_later(NULL, read);
}

void queue_read_fini(struct queue_read *read)
{
	free(read->rows);
	read->rows = NULL;
	read->n_rows = 0;
}

void uploader_poke(struct uploader *uploader, uint64_t caches)
{
	(void)uploader, (void)caches;
}

void uploader_try_now(struct uploader *uploader, uint64_t caches)
{
	(void)uploader, (void)caches;
}

uint64_t uploader_targets(const struct uploader *uploader)
{
	(void)uploader;
	return 1;
}

size_t uploader_n_in_flight(const struct uploader *uploader, size_t cache)
{
	(void)uploader, (void)cache;
	return 1;
}

size_t uploader_list(const struct uploader *uploader, struct upload_status *ret, size_t n_max)
{
	(void)uploader;
	MUST(n_max >= 1);
	ret[0] = (struct upload_status){ .path = PATH, .step = "sending", .nar_bytes = 1 };
	return 1;
}

const char *uploader_message(const struct uploader *uploader, size_t cache)
{
	(void)uploader;
	return cache == 0 ? error_text : NULL;
}

bool uploader_get_outage(const struct uploader *uploader, size_t cache, struct upload_outage *ret)
{
	(void)uploader;
	*ret = (struct upload_outage){ .kind = ERROR_OPERATOR, .next_try_unix_s = INT64_MAX };
	return cache == 0;
}

enum visibility uploader_visibility(const struct uploader *uploader, size_t cache)
{
	(void)uploader;
	(void)cache;
	return VISIBILITY_PUBLIC;
}

size_t uploader_pace(const struct uploader *uploader, size_t cache)
{
	(void)uploader, (void)cache;
	return SIZE_MAX;
}

uint64_t uploader_rate_bytes(const struct uploader *uploader, size_t cache)
{
	(void)uploader, (void)cache;
	return UINT64_MAX;
}

static void on_enqueue_turn(struct loop_post *post)
{
	struct server_enqueue *req = CONTAINER_OF(post, struct server_enqueue, post);

	req->done(req);
}

static void on_enqueue(void *ctx, struct server_enqueue *req, server_enqueued_fn done)
{
	(void)ctx;
	MUST(req->n_paths > 0 || req->derivation != NULL);
	for (size_t i = 0; i < req->n_paths; i++)
		MUST(store_path_is_valid(req->paths[i], STORE));
	MUST(req->derivation == NULL ||
	     (store_path_is_valid(req->derivation, STORE) && store_path_is_derivation(req->derivation)));
	MUST(req->caches < 1U << t.config->n_caches);
	if (req->force)
		error_set(&req->err, ERROR_PERMANENT, "%s: %s", PATH, error_text);
	req->done = done;
	t.n_enqueued++;
	loop_post(&t.loop, &req->post, on_enqueue_turn);
}

/* ---- the server and its client --------------------------------------------------------------- */

static void load_config(void)
{
	static const char text[] = "[cache \"main\"]\nurl = https://c.example/x\nsign = no\n"
				   "[cache \"disk\"]\nurl = file:///srv\nsign = no\n";
	const struct config_places places = { .config_file = "/nowhere/nncache.conf" };
	struct buf mistakes;

	buf_init(&mistakes, KIB(64));
	MUST(config_load_text(&t.config, &places, "file", text, sizeof(text) - 1, false, &mistakes) == 0);
}

static void open_all(void)
{
	const struct sockaddr_un any = { .sun_family = AF_UNIX };
	struct server_config config = { .loop = &t.loop, .enqueue = on_enqueue };
	const struct server_parts parts = { .queue = &t.queue,
		                            .uploader = (struct uploader *)&t.queue,
		                            .verifier = (struct verifier *)&t.queue,
		                            .store_dir = STORE,
		                            .config_error = error_text };
	struct error err;

	log_init(LOG_LEVEL_ERROR, false);
	load_config();
	config.config = t.config;
	config.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	MUST(config.listen_fd >= 0);
	/* At a name that the kernel makes up. */
	MUST(bind(config.listen_fd, (const struct sockaddr *)&any, sizeof(any.sun_family)) == 0);
	t.here_len = sizeof(t.here);
	MUST(getsockname(config.listen_fd, (struct sockaddr *)&t.here, &t.here_len) == 0);
	MUST(listen(config.listen_fd, 4) == 0);
	MUST(loop_init(&t.loop, &err) == 0);
	MUST(server_open(&t.server, &config, &err) == 0);
	server_set_parts(t.server, &parts);
}

/* The other end may be closed already: then its answer is on the way. */
static void send_part(int fd, const uint8_t *data, size_t size)
{
	ssize_t n = size > 0 ? send(fd, data, size, MSG_NOSIGNAL) : 0;

	MUST(n == (ssize_t)size || errno == EPIPE || errno == ECONNRESET);
}

static void read_answer(int fd)
{
	t.n_answer = 0;
	for (;;) {
		ssize_t n = recv(fd, t.answer + t.n_answer, sizeof(t.answer) - 1 - t.n_answer, MSG_DONTWAIT);

		MUST(t.n_answer < sizeof(t.answer) - 1);
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			break;
		if (n > 0)
			t.n_answer += (size_t)n;
		else
			uv_run(&t.loop.uv, UV_RUN_ONCE);
	}
	t.answer[t.n_answer] = '\0';
}

static void check_last_line(char *line, bool is_end)
{
	struct answer answer;
	struct error err;

	MUST(is_end && answer_parse(&answer, line, &err) == 0);
	MUST((answer.kind == ANSWER_OK) == (strncmp(line, "ok", 2) == 0));
}

static void check_answer(void)
{
	char *line = t.answer, *lf;
	struct record record;
	struct error err;

	MUST(strlen(t.answer) == t.n_answer && fuzz_is_plain(t.answer));
	for (; *line != '\0'; line = lf + 1) {
		lf = strchr(line, '\n');
		MUST(lf != NULL);
		*lf = '\0';
		if (answer_is_last(line))
			check_last_line(line, lf[1] == '\0');
		else
			MUST(lf[1] != '\0' &&
			     (strcmp(line, ".") == 0 || record_parse(&record, line, &err) == 0));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd;

	if (t.server == NULL)
		open_all();
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	MUST(fd >= 0 && connect(fd, (const struct sockaddr *)&t.here, t.here_len) == 0);
	t.n_enqueued = 0;
	send_part(fd, data, size / 2);
	uv_run(&t.loop.uv, UV_RUN_NOWAIT);
	uv_run(&t.loop.uv, UV_RUN_NOWAIT);
	send_part(fd, data + size / 2, size - size / 2);
	shutdown(fd, SHUT_WR);
	read_answer(fd);
	close(fd);
	MUST(t.n_answer > 0 || size == 0);
	MUST(t.n_enqueued <= 2); /* a repair hands over twice */
	check_answer();
	return 0;
}
