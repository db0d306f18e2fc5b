/* Which paths go where, and how urgently: priority classes and the four filters. Pure; compiled once.
 * Patterns are POSIX extended regular expressions searched in the full store path.
 * Thread: any. */
#ifndef DAEMON_POLICY_POLICY_H
#define DAEMON_POLICY_POLICY_H

#include "daemon/config/config.h"

struct policy;

/* CONFIG is borrowed while POLICY lives. Errors: OPERATOR, naming the pattern; TRANSIENT, no memory. */
int policy_new(struct policy **ret, const struct config *config, struct error *err) MUST_CHECK;
void policy_free(struct policy *policy);

/* 0..1000; the highest match wins, none: PRIORITY_DEFAULT. */
unsigned policy_priority(const struct policy *policy, const char *path);
/* The rank of a job of PATH handed over at ENQUEUED_UNIX_S: smaller goes first. */
int64_t policy_rank(const struct policy *policy, const char *path, int64_t enqueued_unix_s);

/* Does cache number CACHE (of config->caches) take PATH as a root? One with push = no takes none;
 * whether push = auto pushes is not known here. */
bool policy_wants_root(const struct policy *policy, size_t cache, const char *path);
/* May PATH never be sent to cache number CACHE, not even as a part of a closure? */
bool policy_withholds(const struct policy *policy, size_t cache, const char *path, uint64_t nar_size);

#endif
