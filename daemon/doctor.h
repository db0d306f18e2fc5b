/* nncached --doctor: what can be found out about the configuration, the network, the keys and the places of a
 * daemon, whether or not it runs, without touching its state. Facts alone: `nncachectl doctor` judges.
 *
 * Prints records (common/record.h), in this order, a field that is not known left out:
 *
 *   config   error= warning= user-mode= socket= push-group= control-group= state-dir= daemon-user=
 *   place    what=state-dir|spool-dir|roots-dir|socket|store path= exists= mode= user= may-write=yes|no
 *            file-system= is-remote= is-volatile= free-bytes= total-bytes=
 *   group    what=push|control name= exists= members=
 *   store    dir= error=
 *   cache    name= url= kind= target= error= error-kind= found= may-write=yes|no write-error= public=yes|no
 *            unsigned= exposed= signs= keys= announced-keys= reader-url= reader-status= reader-error=
 *            reader-store-dir= reader-priority= skew-s= presence-ttl-s= retention-s= token-file= key-file=
 * endpoint= region= auto= opened= upstream name= url=
 *   .
 *
 * keys and announced-keys are "NAME:BASE64" public keys, blanks between. Never a secret.
 * Limits: DOCTOR_MAX_MS for all that the network is asked.
 * Thread: the loop's, which it makes. */
#ifndef DAEMON_DOCTOR_H
#define DAEMON_DOCTOR_H

#include "daemon/config/config.h"

#define DOCTOR_MAX_MS 20000

/* Returns the exit status: failure only if it could not look at all, said on stderr. */
int doctor_run(const struct config_places *places);

#endif
