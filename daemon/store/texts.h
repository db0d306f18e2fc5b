/* A list of texts: an array and its length, both zero to begin with. Thread: any. */
#ifndef DAEMON_STORE_TEXTS_H
#define DAEMON_STORE_TEXTS_H

#include <stddef.h>

#include "common/attr.h"

/* Appends TEXT, which it takes, also when it fails (-1: no memory). */
int texts_append(char ***list, size_t *n, char *text) MUST_CHECK;
void texts_free(char **list, size_t n);

#endif
