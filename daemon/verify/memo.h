/* What was learnt of the paths asked about, so that a reference is asked for once, not once for each that
 * refers to it. A new one takes the place of an old one: what is forgotten is asked again. Limits: MEMO_SLOTS
 * paths, 1 MiB. Thread: any, one at a time. */
#ifndef DAEMON_VERIFY_MEMO_H
#define DAEMON_VERIFY_MEMO_H

#include "common/store_path.h"

#define MEMO_SLOTS 32768

enum memo_answer { MEMO_UNKNOWN, MEMO_THERE, MEMO_NOWHERE };

struct memo {
	struct memo_slot {
		char hash[STORE_HASH_LEN];
		unsigned char answer;
	} slots[MEMO_SLOTS];
};

/* PATH is a store path. */
enum memo_answer memo_get(const struct memo *memo, const char *path);
void memo_put(struct memo *memo, const char *path, enum memo_answer answer);

#endif
