/* The tables of queue.db (docs/queue-schema.md says what each is for), as migrations for db_open. */
#ifndef DAEMON_QUEUE_SCHEMA_H
#define DAEMON_QUEUE_SCHEMA_H

#include <stddef.h>
#include <stdint.h>

#define SCHEMA_APPLICATION_ID 0x6e6e6371u /* "nncq" */

extern const char *const schema_migrations[];
extern const size_t schema_n_migrations;

#endif
