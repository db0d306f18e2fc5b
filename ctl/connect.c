#include "ctl/connect.h"

#include <string.h>
#include <unistd.h>

#include "common/clock.h"

#define SILENCE_MS    60000
#define BUSY_TRIES_MS 5000
#define BUSY_PAUSE_US 200000

static void set_deadline(struct call *call)
{
	uint64_t silence = clock_mono_ms() + SILENCE_MS;

	call->client.deadline_mono_ms = call->deadline_mono_ms != 0 && call->deadline_mono_ms < silence
	                                        ? call->deadline_mono_ms
	                                        : silence;
}

static enum call_result fault(const struct call *call)
{
	if (call->client.fault == CLIENT_SLOW && call->deadline_mono_ms != 0 &&
	    clock_mono_ms() >= call->deadline_mono_ms)
		return CALL_TIMEOUT;
	return CALL_BROKEN;
}

/* The answer, up to its last line. *RET_N_RECORDS: how many records came before it. */
static enum call_result read_answer(struct call *call, call_record_fn on_record, void *ctx,
                                    size_t *ret_n_records)
{
	struct record record;
	char *line;
	int rc;

	for (;;) {
		set_deadline(call);
		rc = client_read_line(&call->client, &line, &call->err);
		if (rc < 0)
			return fault(call);
		if (rc == 0) {
			error_set(&call->err, ERROR_TRANSIENT,
			          "the daemon closed the connection without an answer");
			return CALL_BROKEN;
		}
		if (answer_is_last(line)) {
			if (answer_parse(&call->answer, line, &call->err) < 0)
				return CALL_BROKEN;
			return call->answer.kind == ANSWER_OK ? CALL_OK : CALL_REFUSED;
		}
		if (strcmp(line, ".") == 0)
			continue;
		if (record_parse(&record, line, &call->err) < 0)
			return CALL_BROKEN;
		(*ret_n_records)++;
		if (on_record != NULL)
			on_record(ctx, &record);
	}
}

static enum call_result run_once(struct call *call, const char *socket, const struct buf *text,
                                 call_record_fn on_record, void *ctx, size_t *ret_n_records)
{
	struct error ignored;

	set_deadline(call);
	if (client_open(&call->client, socket, call->client.deadline_mono_ms, &call->err) < 0)
		return fault(call) == CALL_TIMEOUT ? CALL_TIMEOUT : CALL_UNREACHABLE;
	/* Who is turned away at the door cannot send, but is told why. */
	if (client_send(&call->client, text->data, text->len, &ignored) < 0 &&
	    call->client.fault == CLIENT_SLOW)
		return fault(call);
	return read_answer(call, on_record, ctx, ret_n_records);
}

enum call_result call_run(struct call *call, const char *socket, const struct request *req,
                          call_record_fn on_record, void *ctx)
{
	CLEANUP(buf_fini) struct buf text = { .max = REQUEST_MAX_BYTES };
	uint64_t busy_until = clock_mono_ms() + BUSY_TRIES_MS;
	enum call_result result;
	size_t n_records = 0;

	call->client.fd = -1;
	if (request_format(req, &text, &call->err) < 0)
		return CALL_BROKEN;
	for (;;) {
		result = run_once(call, socket, &text, on_record, ctx, &n_records);
		if (result != CALL_REFUSED || call->answer.kind != ANSWER_BUSY || n_records > 0 ||
		    clock_mono_ms() >= busy_until)
			return result;
		client_close(&call->client);
		usleep(BUSY_PAUSE_US);
	}
}

void call_close(struct call *call)
{
	client_close(&call->client);
}

int call_explain(const struct ctl *ctl, const struct call *call, enum call_result result)
{
	switch (result) {
	case CALL_OK:
		return CTL_DONE;
	case CALL_REFUSED:
		ctl_say("%s", call->answer.text);
		return call->answer.kind == ANSWER_USAGE ? CTL_USAGE : CTL_FAILED;
	case CALL_UNREACHABLE:
		ctl_say("cannot reach nncached at %s\nis it running?  %s", call->err.text,
		        strcmp(ctl->socket, CLIENT_SYSTEM_SOCKET) == 0 &&
		                        access("/run/systemd/system", F_OK) == 0
		                ? "systemctl status nncached.service"
		                : "nncachectl status says what waits for it");
		return CTL_UNREACHABLE;
	case CALL_BROKEN:
		ctl_say("%s: %s", ctl->socket, call->err.text);
		return call->err.kind == ERROR_PERMANENT ? CTL_FAILED : CTL_UNREACHABLE;
	case CALL_TIMEOUT:
		return CTL_TIMEOUT;
	}
	return CTL_FAILED;
}
