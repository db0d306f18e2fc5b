/* What an upload is doing, in the words of those that look at it from outside: people, and plan/. */
#include "daemon/upload/transfer.h"

const char *upload_step_name(const struct upload *u)
{
	switch (u->state) {
	case UPLOAD_VERIFYING:
	case UPLOAD_PREPARING:
	case UPLOAD_ABANDONING:
	case UPLOAD_ASKING:
	case UPLOAD_ASKING_NAR:
		return "asking";
	case UPLOAD_AWAITING_TWIN:
		return "waiting";
	case UPLOAD_SENDING:
		if (u->nar.share == NULL || u->nar.share->state == NAR_RESERVING)
			return "waiting";
		return u->op.sent_bytes == 0 ? "packing" : "sending";
	case UPLOAD_PUBLISHING:
	case UPLOAD_SENDING_INFO:
	case UPLOAD_RECORDING:
	case UPLOAD_ENDED:
		return "publishing";
	case UPLOAD_CHECKING_STORE:
		return "checking";
	}
	return "";
}

enum breaker_stage upload_stage(const struct upload *u)
{
	switch (u->state) {
	case UPLOAD_PREPARING:
		return BREAKER_PREPARE;
	case UPLOAD_ASKING_NAR:
		return BREAKER_ASK_NAR;
	case UPLOAD_SENDING:
		return BREAKER_SEND;
	case UPLOAD_SENDING_INFO:
		return BREAKER_SEND_INFO;
	case UPLOAD_VERIFYING:
	case UPLOAD_ABANDONING:
	case UPLOAD_ASKING:
	case UPLOAD_AWAITING_TWIN:
	case UPLOAD_PUBLISHING:
	case UPLOAD_CHECKING_STORE:
	case UPLOAD_RECORDING:
	case UPLOAD_ENDED:
		break;
	}
	return BREAKER_ASK;
}

uint64_t upload_done_bytes(const struct upload *u)
{
	if (u->job.nar_sent)
		return u->job.info.nar_size;
	return u->nar.share != NULL ? u->nar.share->pack.nar_done_bytes : 0;
}
