/* What a verification finds, and how a narinfo is judged. Thread: any. */
#ifndef DAEMON_VERIFY_FINDING_H
#define DAEMON_VERIFY_FINDING_H

#include "common/store_path.h"
#include "daemon/format/narinfo.h"
#include "daemon/format/signature.h"

enum finding_what {
	FINDING_MISSING,  /* the narinfo */
	FINDING_WRONG,    /* the narinfo is none, or says something else than we know of what we uploaded */
	FINDING_UNSIGNED, /* our signature is not there, or not valid */
	FINDING_NAR_MISSING, /* the narinfo names an object that is not there */
	FINDING_NAR_WRONG,   /* it has another size, does not unpack, or is another NAR */
	FINDING_DANGLING,    /* it refers to a path that is neither there nor in an upstream */
	FINDING_OTHER_BUILD, /* no fault: somebody else uploaded another build of it */
	FINDING_UNCHECKED,   /* no answer, or nothing that we can unpack */
	FINDING_N,
};
const char *finding_name(enum finding_what what);

enum finding_mend {
	MEND_NONE,
	MEND_UPLOAD,     /* its upload does it */
	MEND_FORCE,      /* the same, the narinfo that is there not taken for an answer */
	MEND_OPERATOR,   /* what stands there is in the way, and we overwrite nothing */
	MEND_IMPOSSIBLE, /* it is no longer in the store */
};
const char *mend_name(enum finding_mend mend);

struct finding {
	enum finding_what what;
	enum finding_mend mend;
	char path[STORE_PATH_SIZE];
	char upload[STORE_PATH_SIZE]; /* whose upload mends it: the path itself, or what it refers to */
	char text[512];
};

/* What we believe of a path, and how it is vouched for. */
struct belief {
	const struct path_info *info;
	bool was_uploaded; /* by us: then the narinfo is ours, word for word */
	bool must_be_signed;
	struct signing_key *const *keys;
	size_t n_keys;
};

/* Compares NARINFO, of the same path, with BELIEF. Returns whether there is a finding: RET's what and text.
 */
bool finding_judge(struct finding *ret, const struct belief *belief, const struct narinfo *narinfo);

#endif
