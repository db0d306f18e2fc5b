/* Everything is begun at once and waited for, at most DOCTOR_MAX_MS; then it is told, and closed. The
 * network, nix-daemon and files that are read are all that it touches. */
#include "daemon/doctor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/doctor_parts.h"

#define OUT_MAX_BYTES MIB(1)

void doctor_ended(struct doctor *doctor)
{
	if (--doctor->n_busy == 0)
		loop_stop(&doctor->loop);
}

static void on_late(struct timer *timer)
{
	struct doctor *doctor = CONTAINER_OF(timer, struct doctor, deadline);

	doctor->is_late = true;
	for (size_t i = 0; i < doctor->config->n_caches; i++)
		doctor_cache_cancel(&doctor->caches[i]);
}

static void on_info(struct store_info_query *query)
{
	doctor_ended(CONTAINER_OF(query, struct doctor, query));
}

static void ask_store(struct doctor *doctor)
{
	snprintf(doctor->path, sizeof(doctor->path), "%s/00000000000000000000000000000000-nncache-doctor",
	         store_dir(doctor->store));
	doctor->asked[0] = doctor->path;
	doctor->query =
		(struct store_info_query){ .paths = doctor->asked, .n_paths = 1, .infos = &doctor->info };
	store_info_start(doctor->store, &doctor->query, on_info);
}

static void put_store(const struct doctor *doctor, struct buf *out)
{
	record_begin(out, "store");
	record_text(out, "dir", store_dir(doctor->store));
	record_text(out, "error", doctor->query.err.kind != ERROR_NONE ? doctor->query.err.text : NULL);
	record_end(out);
}

static void put_upstreams(const struct config *config, struct buf *out)
{
	for (size_t i = 0; i < config->n_upstreams; i++) {
		record_begin(out, "upstream");
		record_text(out, "name", config->upstreams[i].name);
		record_text(out, "url", config->upstreams[i].url);
		record_end(out);
	}
}

/* A nothing that counts as begun keeps the loop from stopping before all has been. */
static void look(struct doctor *doctor)
{
	doctor->n_busy = (unsigned)doctor->config->n_caches + 2;
	timer_set(&doctor->deadline, DOCTOR_MAX_MS);
	ask_store(doctor);
	for (size_t i = 0; i < doctor->config->n_caches; i++) {
		doctor->caches[i].doctor = doctor;
		doctor->caches[i].config = &doctor->config->caches[i];
		doctor_cache_start(&doctor->caches[i]);
	}
	if (--doctor->n_busy > 0)
		loop_run(&doctor->loop);
}

static int open_parts(struct doctor *doctor, struct error *err)
{
	doctor->caches = calloc(doctor->config->n_caches + 1, sizeof(doctor->caches[0]));
	if (doctor->caches == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	if (store_open(&doctor->store, &doctor->loop, doctor->config->store, err) < 0)
		return -1;
	return http_open(&doctor->http, &doctor->loop, err);
}

static void on_closed(void *ctx)
{
	(void)ctx;
}

static void close_parts(struct doctor *doctor)
{
	for (size_t i = 0; doctor->caches != NULL && i < doctor->config->n_caches; i++)
		doctor_cache_close(&doctor->caches[i]);
	free(doctor->caches);
	timer_close(&doctor->deadline, NULL);
	store_close(doctor->store, on_closed, NULL);
	http_close(doctor->http, on_closed, NULL);
	loop_run(&doctor->loop);
	loop_fini(&doctor->loop);
	path_info_fini(&doctor->info);
}

/* CONFIG_ERROR: why CONFIG is not all of what was written, or NULL. */
static int run(const struct config *config, const char *config_error)
{
	struct doctor doctor = { .config = config };
	struct error err;
	struct buf out;
	int rc;

	if (loop_init(&doctor.loop, &err) < 0) {
		fprintf(stderr, "nncached: %s\n", err.text);
		return EXIT_FAILURE;
	}
	timer_init(&doctor.deadline, &doctor.loop, on_late);
	timer_unref(&doctor.deadline);
	buf_init(&out, OUT_MAX_BYTES);
	rc = open_parts(&doctor, &err);
	if (rc == 0) {
		look(&doctor);
		doctor_put_places(config, store_real_dir(doctor.store), config_error, &out);
		put_store(&doctor, &out);
		for (size_t i = 0; i < config->n_caches; i++)
			doctor_cache_put(&doctor.caches[i], &out);
		put_upstreams(config, &out);
		record_end_list(&out);
		fputs(buf_text(&out), stdout);
	} else {
		fprintf(stderr, "nncached: %s\n", err.text);
	}
	buf_fini(&out);
	close_parts(&doctor);
	return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Files that are wrong or missing are findings, and no reason not to look at the rest. */
int doctor_run(const struct config_places *places)
{
	struct config *config = NULL;
	struct buf messages, more;
	int status;

	buf_init(&messages, MIB(1));
	buf_init(&more, MIB(1));
	if (config_load(&config, places, true, &messages) < 0 &&
	    config_load(&config, places, false, &more) < 0)
		config = config_salvage(places);
	if (config == NULL) {
		fputs("nncached: out of memory\n", stderr);
		return EXIT_FAILURE;
	}
	status = run(config, messages.len > 0 ? buf_text(&messages) : NULL);
	config_free(config);
	buf_fini(&messages);
	buf_fini(&more);
	return status;
}
