/* What the files of nncachectl share: its verbs and their exit statuses. */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <jansson.h>

#include "common/client.h"
#include "common/protocol.h"
#include "ctl/args.h"
#include "ctl/output.h"
#include "ctl/paths.h"

enum ctl_exit {
	CTL_DONE = 0,
	CTL_FAILED = 1,
	CTL_USAGE = 2,
	CTL_UNREACHABLE = 3,
	CTL_PATHS = 4, /* some paths failed or cannot go on */
	CTL_TIMEOUT = 5,
};

struct ctl {
	struct args args;
	char socket[CLIENT_PATH_SIZE];
	bool json;
};

/* Each does what its verb says and returns the exit status, the reason said on stderr. */
int ctl_status(struct ctl *ctl);
int ctl_metrics(struct ctl *ctl);
int ctl_list(struct ctl *ctl);
int ctl_show(struct ctl *ctl);
int ctl_push(struct ctl *ctl);
int ctl_wait(struct ctl *ctl);
int ctl_retry(struct ctl *ctl);
int ctl_forget(struct ctl *ctl);
int ctl_pause(struct ctl *ctl);
int ctl_resume(struct ctl *ctl);
int ctl_config(struct ctl *ctl);
int ctl_hook(struct ctl *ctl);
int ctl_use(struct ctl *ctl);
int ctl_run(struct ctl *ctl);
int ctl_session(struct ctl *ctl);
int ctl_doctor(struct ctl *ctl);
int ctl_verify(struct ctl *ctl);
int ctl_catch_up(struct ctl *ctl);

/* Says "nncachectl: TEXT" on stderr, control characters escaped. */
void ctl_say(const char *format, ...) PRINTF(1, 2);
/* The same, with how to get help. Returns CTL_USAGE. */
int ctl_usage(const struct ctl *ctl, const char *format, ...) PRINTF(2, 3);

/* Takes the values of OPTION into REQ->caches. Returns CTL_DONE or CTL_USAGE. */
int ctl_get_caches(const struct ctl *ctl, const char *option, struct request *req);
/* Reads the value of --OPTION, a duration; 0 when it is not given. Returns CTL_DONE or CTL_USAGE. */
int ctl_get_seconds(const struct ctl *ctl, const char *option, uint64_t *ret);

/* Asks the daemon. Returns the exit status; *RET, the caller's, is what there is to show, of model.h, before
 * model_dates, or of offline_model; NULL if there is nothing, the reason said. */
int status_fetch(struct ctl *ctl, json_t **ret);

/* Appends MODEL, as status_fetch gives it, in Prometheus' text format. */
void metrics_format(struct buf *out, const json_t *model);

/* Without a daemon: what its directories hold, and how to start it. */
json_t *offline_model(const struct ctl *ctl);
void offline_show(struct output *o, const json_t *model);

/* The screen of `status`: MODEL is that of model.h, before model_dates. */
void screen_show(struct output *o, const json_t *model, int64_t now_unix_s);
/* "3 on main: TEXT", an example and what to do, for each cause with one of STATES ("failed blocked"). */
void screen_causes(struct output *o, const json_t *causes, const char *states, int64_t now_unix_s);

/* How far a wait got. */
struct wait_result {
	uint64_t n_total, n_unfinished, n_failed, n_blocked;
	bool is_stuck;
	json_t *causes; /* an array; the caller's */
};
/* Waits as REQ says, with a progress bar on a terminal; ends by DEADLINE (0: none) with CTL_TIMEOUT.
 * Adds to RESULT. Says what the daemon refused;
 * saying why paths failed is left to wait_report. */
int wait_run(struct ctl *ctl, const struct request *req, uint64_t deadline_mono_ms,
             struct wait_result *result);
/* Prints RESULT, for people or into MODEL, which it takes. Returns STATUS. */
int wait_report(struct ctl *ctl, int status, struct wait_result *result, json_t *model);

/* Was PATH handed over before? Returns the exit status. */
int wait_is_known(struct ctl *ctl, const char *path, bool *ret);

/* The same as wait_run for each of LIST, in as many requests as it takes. */
int wait_for_list(struct ctl *ctl, const struct path_list *list, uint64_t deadline_mono_ms,
                  struct wait_result *result);

/* Hands LIST over by `push` as BASE says (tag, caches, force), in as many requests as it takes. */
struct push_result {
	json_t *request_ids; /* an array; the caller's */
	uint64_t n_new;
};
int push_run(struct ctl *ctl, const struct path_list *list, const struct request *base,
             struct push_result *result);

/* The store paths that the operands mean, and with USE_STDIN the lines of standard input: sorted, each
 * once. Each bad one is named on stderr. RET is to be freed also then. */
int paths_of_operands(const struct ctl *ctl, bool use_stdin, struct path_list *ret);
/* As many paths of LIST from FIRST on as fit a request; returns how many. */
size_t paths_chunk(const struct path_list *list, size_t first, const char *ret[REQUEST_MAX_PATHS]);

#endif
