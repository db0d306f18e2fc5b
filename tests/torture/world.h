/* What scenarios are made of: files and directories of a scratch world. Failures end the process by
 * torture_fail. Nothing here is ever hit by a failure made to order while no plan is armed. */
#ifndef TESTS_TORTURE_WORLD_H
#define TESTS_TORTURE_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/protocol.h"

void world_make_dir(const char *dir, const char *name); /* with its parents */
void world_write(const char *path, const void *data, size_t n_bytes);
void world_set_env(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The first name in DIR that ends in SUFFIX; false: none. */
bool world_first_file(const char *dir, const char *suffix, char name[256]);
/* Is there a symbolic link to TARGET in DIR? */
bool world_has_link_to(const char *dir, const char *target);
/* A socket that listens at DIR/socket. */
int world_listen(const char *dir);
/* Reads a request from FD, -1 too. False: it did not come whole, or is none. */
bool world_read_request(int fd, struct request *ret);
void world_stop(pid_t pid); /* and waits for it */

#endif
