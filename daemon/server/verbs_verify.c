/* verify: findings as they come, written before the next are looked for.
 *
 *   open -> step -> [enqueue -> [enqueue forced]] -> flush -> step ... -> ok
 *
 * A client that leaves is found out by the progress that is written every second or so. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "daemon/server/internal.h"

static void next_step(struct session *s);

static void on_close(struct session *s)
{
	verify_close(s->work.verify.run);
	s->work.verify.run = NULL;
}

static void end_run(struct session *s)
{
	s->on_close = NULL;
	on_close(s);
}

static void finish(struct session *s)
{
	const struct verify_work *w = &s->work.verify;

	log_info("verified cache=%s uid=%u paths=%llu findings=%llu unchecked=%llu enqueued=%llu",
	         s->request.caches[0], s->peer.uid, (unsigned long long)w->step.n_checked,
	         (unsigned long long)w->n_findings, (unsigned long long)w->n_unchecked,
	         (unsigned long long)w->n_enqueued);
	record_end_list(&s->out);
	record_begin(&s->out, "ok");
	record_uint(&s->out, "paths", w->step.n_checked);
	record_uint(&s->out, "bytes", w->step.n_bytes);
	record_uint(&s->out, "findings", w->n_findings);
	record_uint(&s->out, "notes", w->n_notes);
	record_uint(&s->out, "unchecked", w->n_unchecked);
	record_uint(&s->out, "enqueued", w->n_enqueued);
	record_end(&s->out);
	end_run(s);
	session_end(s);
}

/* ---- records --------------------------------------------------------------------------------- */

static bool is_wanted(const struct session *s, const struct finding *finding, bool forced)
{
	return s->request.repair && finding->mend == (forced ? MEND_FORCE : MEND_UPLOAD);
}

/* What became of it: one word, and its fault in *RET_FAULT. */
static const char *repair_word(const struct session *s, const struct finding *finding, const char **ret_fault)
{
	bool forced = is_wanted(s, finding, true);

	*ret_fault = NULL;
	if (!forced && !is_wanted(s, finding, false))
		return mend_name(finding->mend);
	if (s->work.verify.faults[forced][0] == '\0')
		return "enqueued";
	*ret_fault = s->work.verify.faults[forced];
	return "failed";
}

static void put_finding(struct session *s, const struct finding *finding)
{
	struct verify_work *w = &s->work.verify;
	const char *fault;
	const char *repair = repair_word(s, finding, &fault);

	w->n_notes += finding->what == FINDING_OTHER_BUILD;
	w->n_unchecked += finding->what == FINDING_UNCHECKED;
	w->n_findings += finding->what != FINDING_OTHER_BUILD && finding->what != FINDING_UNCHECKED;
	w->n_enqueued += strcmp(repair, "enqueued") == 0;
	record_begin(&s->out, "finding");
	record_text(&s->out, "cache", s->request.caches[0]);
	record_text(&s->out, "path", finding->path);
	record_text(&s->out, "what", finding_name(finding->what));
	record_text(&s->out, "text", finding->text);
	record_text(&s->out, "repair", repair);
	record_text(&s->out, "upload", finding->upload);
	record_text(&s->out, "fault", fault);
	record_end(&s->out);
}

static void put_step(struct session *s)
{
	const struct verify_step *step = &s->work.verify.step;

	for (size_t i = 0; i < step->n_findings; i++)
		put_finding(s, &step->findings[i]);
	record_begin(&s->out, "verified");
	record_uint(&s->out, "paths", step->n_checked);
	record_uint(&s->out, "total", step->n_total);
	record_uint(&s->out, "bytes", step->n_bytes);
	record_end(&s->out);
	if (step->is_over)
		finish(s);
	else
		session_flush(s, next_step);
}

/* ---- mending --------------------------------------------------------------------------------- */

static void enqueue(struct session *s, bool forced);

static void free_paths(struct verify_work *w)
{
	for (size_t i = 0; i < w->n_paths; i++)
		free(w->paths[i]);
	free(w->paths);
	w->paths = NULL;
	w->n_paths = 0;
}

static void on_enqueued(struct server_enqueue *req)
{
	struct session *s = CONTAINER_OF(req, struct session, work.verify.enqueue);
	struct verify_work *w = &s->work.verify;

	free_paths(w);
	if (!session_is_back(s))
		return;
	if (req->err.kind != ERROR_NONE)
		snprintf(w->faults[w->is_forced], sizeof(w->faults[0]), "%.255s", req->err.text);
	if (w->is_forced)
		put_step(s);
	else
		enqueue(s, true);
}

static int add_path(struct verify_work *w, const char *path)
{
	char *copy;

	for (size_t i = 0; i < w->n_paths; i++)
		if (w->paths[i] != NULL && strcmp(w->paths[i], path) == 0)
			return 0;
	copy = strdup(path);
	if (copy == NULL)
		return -1;
	w->paths[w->n_paths++] = copy;
	return 0;
}

/* Copies, since the run may be closed while they are out. */
static int gather(struct session *s, bool forced)
{
	struct verify_work *w = &s->work.verify;

	w->paths = calloc(VERIFY_FINDINGS_MAX, sizeof(*w->paths));
	if (w->paths == NULL)
		return -1;
	for (size_t i = 0; i < w->step.n_findings; i++)
		if (is_wanted(s, &w->step.findings[i], forced) && add_path(w, w->step.findings[i].upload) < 0)
			return -1;
	return 0;
}

static void enqueue(struct session *s, bool forced)
{
	const struct server_config *config = &s->server->config;
	struct verify_work *w = &s->work.verify;
	int rc = gather(s, forced);

	w->is_forced = forced;
	w->faults[forced][0] = '\0';
	if (rc < 0)
		snprintf(w->faults[forced], sizeof(w->faults[0]), "out of memory");
	if (rc < 0 || w->n_paths == 0) {
		free_paths(w);
		if (forced)
			put_step(s);
		else
			enqueue(s, true);
		return;
	}
	w->enqueue = (struct server_enqueue){
		.uid = s->peer.uid,
		.paths = (const char *const *)w->paths,
		.n_paths = w->n_paths,
		.caches = s->caches,
		.push = true,
		.force = forced,
	};
	session_wait_for(s);
	config->enqueue(config->ctx, &w->enqueue, on_enqueued);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void on_step(struct verify_step *step)
{
	struct session *s = CONTAINER_OF(step, struct session, work.verify.step);

	if (!session_is_back(s))
		return;
	if (step->err.kind != ERROR_NONE) {
		end_run(s);
		session_fail(s, &step->err);
	} else if (s->request.repair) {
		enqueue(s, false);
	} else {
		put_step(s);
	}
}

static void next_step(struct session *s)
{
	session_wait_for(s);
	verify_next(s->work.verify.run, &s->work.verify.step, on_step);
}

void verb_verify(struct session *s)
{
	struct verify_work *w = &s->work.verify;
	struct verifier *verifier = s->server->parts.verifier;
	struct error err;
	size_t cache = 0;

	while ((s->caches >> cache & 1) == 0)
		cache++;
	*w = (struct verify_work){ 0 };
	if (verifier == NULL) {
		session_error(s, ANSWER_TRANSIENT, "the configuration is broken, no cache is asked anything");
		return;
	}
	if (verify_open(&w->run, verifier, cache, s->request.deep, s->request.repair, &err) < 0) {
		session_fail(s, &err);
		return;
	}
	s->on_close = on_close;
	next_step(s);
}
