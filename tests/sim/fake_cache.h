/* Stands in the place of daemon/backend and daemon/http: caches and an upstream that keep their objects in
 * memory, over every death of the daemon. They check what becomes visible: I2, I5, I7; and they fail as
 * servers do: by chance, for a while, for one path, late, or after the object was stored.
 * Thread: the one there is. */
#ifndef TESTS_SIM_FAKE_CACHE_H
#define TESTS_SIM_FAKE_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "daemon/config/config.h"
#include "tests/sim/fake_store.h"

#define CACHES_MAX 3
#define UPSTREAM   CACHES_MAX /* its number */

struct cache_faults {
	unsigned fail_one_in;      /* answers that are TRANSIENT faults; 0: never */
	unsigned lose_one_in;      /* of those that failed, a put has stored its object nevertheless */
	unsigned deny_one_in;      /* questions answered "not there" for what is there */
	unsigned slow_one_in;      /* answers that take up to a minute */
	unsigned twin_one_in;      /* puts that somebody else is before, whose object comes later */
	enum error_kind down_kind; /* until DOWN_UNTIL_MS every answer is this */
	uint64_t down_until_ms;
	bool refuses[STORE_PATHS_MAX]; /* PERMANENT: this path is never taken */
};
extern struct cache_faults cache_faults[CACHES_MAX + 1];

/* Empty caches; the upstream has the closures of some paths. CACHES is the configuration to come. */
void fake_cache_init(bool has_upstream);
/* Cache NUMBER of the configuration of this life. */
void fake_cache_configure(const struct cache_config *config, unsigned number, bool uses_upstream);
/* The daemon that starts was told nothing yet. */
void fake_cache_begin_life(void);
/* The daemon died: what was on its way arrives, or does not. */
void fake_cache_cut_off(void);
/* From now on everything works. */
void fake_cache_heal(void);

/* Somebody deletes the narinfo of PATH from the cache, and perhaps its NAR; its NAR, if that is there alone.
 */
void fake_cache_lose(unsigned cache, unsigned path);

/* Is the narinfo of PATH on the cache, or in its upstream? Or may it be trusted to be there still, since it
 * was lost less than its presence-ttl ago? */
bool fake_cache_has(unsigned cache, unsigned path);
/* Is it, or was it once? CACHE can be the upstream. */
bool fake_cache_had(unsigned cache, unsigned path);
/* Did it, or its upstream, ever say that PATH is not there while it was? */
bool fake_cache_denied(unsigned cache, unsigned path);
/* Did it ever lose anything? Then what it lost can be missed below any narinfo that is there. */
bool fake_cache_has_lost(unsigned cache);
/* How often a narinfo came to be there. */
uint64_t fake_cache_n_stored(void);
/* How often it was asked for anything. */
uint64_t fake_cache_n_calls(unsigned cache);
/* Every narinfo has its NAR, and the narinfos of what it refers to; but for what was lost. */
void fake_cache_check(void);

#endif
