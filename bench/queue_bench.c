/* How the queue stands up to a million jobs: hand-over, start, next job, status, memory.
 *
 *	queue_bench DIR [N-JOBS]       DIR is made, and left behind
 *
 * One line `name value unit` for each figure. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/clock.h"
#include "daemon/queue/queue.h"

enum { N_REFERENCES = 5, NAME_SIZE = 96, N_CLAIMS = 1000 };

static struct loop loop;
static struct queue *queue;
static bool is_done;

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void die(const char *what, const struct error *err)
{
	fprintf(stderr, "%s: %s\n", what, err->text);
	exit(1);
}

static void on_fatal(void *ctx, const struct error *err)
{
	(void)ctx;
	die("fatal", err);
}

static void on_op(struct queue_op *op)
{
	if (op->err.kind != ERROR_NONE)
		die("operation", &op->err);
	is_done = true;
}

static void run(struct queue_op *op, enum queue_verb verb)
{
	is_done = false;
	op->verb = verb;
	queue_start(queue, op, on_op);
	while (!is_done)
		uv_run(&loop.uv, UV_RUN_ONCE);
}

static void on_read(struct queue_read *read)
{
	if (read->err.kind != ERROR_NONE)
		die("listing", &read->err);
	is_done = true;
}

static double time_read(struct queue_read *read)
{
	double start = now_s();

	is_done = false;
	queue_read_start(queue, read, on_read);
	while (!is_done)
		uv_run(&loop.uv, UV_RUN_ONCE);
	queue_read_fini(read);
	return now_s() - start;
}

/* Private memory of the process in bytes, clean and dirty. */
static uint64_t private_bytes(void)
{
	FILE *file = fopen("/proc/self/smaps_rollup", "re");
	uint64_t sum = 0, kib;
	char line[256];

	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		if (sscanf(line, "Private_Clean: %" SCNu64, &kib) == 1 ||
		    sscanf(line, "Private_Dirty: %" SCNu64, &kib) == 1)
			sum += kib * 1024;
	}
	if (file != NULL)
		fclose(file);
	return sum;
}

static double open_queue(const char *path)
{
	static const struct queue_endpoint endpoint = {
		.name = "main", .kind = "file", .identity = "file:///main", .presence_ttl_s = 86400
	};
	const struct queue_config config = {
		.path = path, .endpoints = &endpoint, .n_endpoints = 1, .on_fatal = on_fatal
	};
	double start = now_s();
	struct error err;

	if (queue_open(&queue, &loop, &config, &err) < 0)
		die("open", &err);
	return now_s() - start;
}

static void close_queue(void)
{
	queue_close(queue, NULL, NULL);
	loop_run(&loop);
}

/* Store paths are random at their head: the index of paths sees the worst. */
static void format_path(char text[NAME_SIZE], uint64_t i)
{
	uint64_t mixed = (i + 1) * 0x9E3779B97F4A7C15u;

	snprintf(text, NAME_SIZE, "/nix/store/%016" PRIx64 "%016" PRIx64 "-package-name-%" PRIu64, mixed,
	         mixed ^ (mixed >> 31), i);
}

static char paths[QUEUE_PAGE_MAX][NAME_SIZE];
static char references[QUEUE_PAGE_MAX][N_REFERENCES][NAME_SIZE];
static char *reference_texts[QUEUE_PAGE_MAX][N_REFERENCES];
static struct path_info infos[QUEUE_PAGE_MAX];
static struct queue_node nodes[QUEUE_PAGE_MAX];
static char sig[] =
	"cache.example.org-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	"AAAAAAAAAAAAAA==";
static char *sigs[] = { sig };

static void fill_node(size_t k, uint64_t i)
{
	format_path(paths[k], i);
	infos[k] = (struct path_info){ .path = paths[k],
		                       .nar_size = 1000 + i * 7919 % 1000000,
		                       .references = reference_texts[k],
		                       .sigs = sigs,
		                       .n_sigs = 1 };
	memcpy(infos[k].nar_hash, &i, sizeof(i));
	infos[k].nar_hash[31] = 1;
	for (uint64_t r = 0; r < N_REFERENCES && r < i; r++) {
		format_path(references[k][r], i - 1 - (i * 31 + r * 17) % (i < 500 ? i : 500));
		reference_texts[k][r] = references[k][r];
		infos[k].n_references = r + 1;
	}
	nodes[k] = (struct queue_node){
		.info = &infos[k], .rank = (int64_t)(i / 1000), .layer = (uint32_t)(i % 30), .caches = 1
	};
}

/* One root for each page, as a busy builder makes them. */
static void insert_page(uint64_t first, size_t n, int64_t now)
{
	struct queue_add_path root = { .path = paths[0], .rank = now };
	struct queue_add add = { .now_unix_s = now, .paths = &root, .n_paths = 1 };
	struct queue_claim_roots claim = { .now_unix_s = now, .n_max = 1 };
	struct queue_page page = { .now_unix_s = now, .nodes = nodes, .n_nodes = n };
	struct queue_end_root end = { .now_unix_s = now, .state = ROOT_QUEUED };

	for (size_t k = 0; k < n; k++)
		fill_node(k, first + k);
	run(&add.op, QUEUE_ADD);
	run(&claim.op, QUEUE_CLAIM_ROOTS);
	page.root_id = end.root_id = claim.roots[0].id;
	queue_op_fini(&claim.op);
	run(&page.op, QUEUE_PAGE);
	run(&end.op, QUEUE_END_ROOT);
	queue_op_fini(&end.op);
}

static void insert(uint64_t n_jobs, int64_t now)
{
	double start = now_s(), took;
	uint64_t most = 0;

	for (uint64_t i = 0; i < n_jobs; i += QUEUE_PAGE_MAX) {
		insert_page(i, n_jobs - i < QUEUE_PAGE_MAX ? n_jobs - i : QUEUE_PAGE_MAX, now);
		if (i / QUEUE_PAGE_MAX % 256 == 0 && private_bytes() > most)
			most = private_bytes();
	}
	took = now_s() - start;
	printf("insert %.0f rows/s\n", (double)n_jobs / took);
	printf("insert_memory %.1f MB\n", (double)most / 1e6);
}

/* 20,000 paths handed over, 32 at a time waiting for their commit. */
static size_t n_waiting;
static void on_added(struct queue_op *op)
{
	if (op->err.kind != ERROR_NONE)
		die("add", &op->err);
	n_waiting--;
}

static void hand_over(int64_t now)
{
	enum { N = 20000, WINDOW = 32 };
	static struct queue_add adds[WINDOW];
	static struct queue_add_path roots[WINDOW];
	static char texts[WINDOW][NAME_SIZE];
	double start = now_s();

	for (uint64_t i = 0; i < N; i += WINDOW) {
		for (size_t k = 0; k < WINDOW; k++) {
			format_path(texts[k], 10000000 + i + k);
			roots[k] = (struct queue_add_path){ .path = texts[k], .rank = now };
			adds[k] = (struct queue_add){ .now_unix_s = now, .paths = &roots[k], .n_paths = 1 };
			adds[k].op.verb = QUEUE_ADD;
			n_waiting++;
			queue_start(queue, &adds[k].op, on_added);
		}
		while (n_waiting > 0)
			uv_run(&loop.uv, UV_RUN_ONCE);
	}
	printf("hand_over %.0f rows/s\n", N / (now_s() - start));
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Claims with 300 others in flight, and finishes. */
static void claim_and_finish(int64_t now)
{
	static double claims[N_CLAIMS], finishes[N_CLAIMS];
	struct queue_claim held = { .now_unix_s = now, .n_max = 300 };

	run(&held.op, QUEUE_CLAIM);
	for (size_t i = 0; i < N_CLAIMS; i++) {
		struct queue_claim claim = { .now_unix_s = now, .n_max = 1 };
		struct queue_finish finish = { .now_unix_s = now, .result = JOB_PRESENT };
		double start = now_s();

		run(&claim.op, QUEUE_CLAIM);
		claims[i] = now_s() - start;
		finish.job = &claim.jobs[0];
		start = now_s();
		run(&finish.op, QUEUE_FINISH);
		finishes[i] = now_s() - start;
		queue_op_fini(&finish.op);
		queue_op_fini(&claim.op);
	}
	queue_op_fini(&held.op);
	qsort(claims, N_CLAIMS, sizeof(double), compare_doubles);
	qsort(finishes, N_CLAIMS, sizeof(double), compare_doubles);
	printf("claim_median %.3f ms\nclaim_p99 %.3f ms\n", claims[N_CLAIMS / 2] * 1e3,
	       claims[N_CLAIMS * 99 / 100] * 1e3);
	printf("finish_median %.3f ms\nfinish_p99 %.3f ms\n", finishes[N_CLAIMS / 2] * 1e3,
	       finishes[N_CLAIMS * 99 / 100] * 1e3);
}

static void list(void)
{
	struct queue_read summary = { .verb = QUEUE_SUMMARY };
	struct queue_read causes = { .verb = QUEUE_CAUSES, .n_max = 20 };
	struct queue_read page = { .verb = QUEUE_LIST, .state = -1, .n_max = 100 };
	struct queue_read wait = { .verb = QUEUE_WAIT };

	printf("summary %.1f ms\n", time_read(&summary) * 1e3);
	printf("causes %.1f ms\n", time_read(&causes) * 1e3);
	printf("list_page %.1f ms\n", time_read(&page) * 1e3);
	printf("wait_all %.1f ms\n", time_read(&wait) * 1e3);
}

int main(int argc, char **argv)
{
	uint64_t n_jobs = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000000;
	int64_t now = clock_unix_s();
	char path[4096];
	struct error err;

	if (argc < 2) {
		fprintf(stderr, "usage: queue_bench DIR [N-JOBS]\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	mkdir(argv[1], 0700);
	snprintf(path, sizeof(path), "%s/queue.db", argv[1]);
	if (loop_init(&loop, &err) < 0)
		die("loop", &err);
	open_queue(path);
	hand_over(now);
	insert(n_jobs, now - 1000000); /* before those handed over */
	close_queue();
	printf("start %.1f ms\n", open_queue(path) * 1e3);
	claim_and_finish(now);
	printf("memory %.1f MB\n", (double)private_bytes() / 1e6);
	list();
	printf("memory_after_listings %.1f MB\n", (double)private_bytes() / 1e6);
	close_queue();
	loop_fini(&loop);
	return 0;
}
