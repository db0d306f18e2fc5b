/* The outputs that a derivation's text, a .drv file in ATerm, names:
 * Derive([("out","/nix/store/...","",""),...],... (or DrvWithVersion("...",[...)
 * Only the list of outputs is read. A floating content-addressed output has an empty path there.
 * Limits: DERIVATION_MAX_BYTES, DERIVATION_MAX_OUTPUTS. Errors: PERMANENT. Thread: any. */
#ifndef COMMON_DERIVATION_H
#define COMMON_DERIVATION_H

#include <stddef.h>

#include "common/attr.h"
#include "common/buf.h"
#include "common/error.h"

#define DERIVATION_MAX_BYTES   1048576
#define DERIVATION_MAX_OUTPUTS 4096

/* Appends the output paths of TEXT to OUT, one blank between two, as Nix writes OUT_PATHS. They are not
 * judged, but none has a blank or a control character in it. *RET_N_FLOATING: how many have no path. */
int derivation_outputs(const char *text, size_t len, struct buf *out, size_t *ret_n_floating,
                       struct error *err) MUST_CHECK;

#endif
