/* What S3's answers mean: the code in the answer's XML decides, and where there is none, the status.
 * Texts give the code, S3's own words, and what to do; or they are http's:
 *   PUT https://host/bucket/key: HTTP 403 InvalidAccessKeyId: words; the service does not know ...
 * Thread: any; loop where a request is an argument. */
#ifndef DAEMON_BACKEND_S3_FAULT_H
#define DAEMON_BACKEND_S3_FAULT_H

#include "daemon/backend/s3_place.h"
#include "daemon/http/http.h"

enum s3_cause { /* what a caller can do something about */
	        S3_OTHER,
	        S3_EXPIRED,        /* the keys: get new ones, try again */
	        S3_BAD_KEYS,       /* the keys: read them again next time */
	        S3_NO_SUCH_UPLOAD, /* it was completed, or aborted */
};

struct s3_fault {
	enum s3_cause cause;
	char code[64]; /* "" if there was none */
	char region[S3_REGION_SIZE];
};

/* Looks at a request that has ended: fills RET and makes its err (and is_server_fault) what the code says.
 * A request that went well stays so. Inside its done only. */
void s3_judge(struct s3_fault *ret, struct http_request *req, const struct s3_place *place);

/* The same of an answer of 200 that may hold an error all the same, to CompleteMultipartUpload. False: it
 * holds neither that nor what was asked for (WANTED, the outermost element); err says so. */
bool s3_judge_body(struct s3_fault *ret, struct http_request *req, const struct s3_place *place,
                   const char *wanted) MUST_CHECK;

#endif
