/* Where every transfer of curl ends up in a fuzz target, whatever its URL: at a socket of the target's own,
 * which gives made-up answers. The target is linked with curl_easy_init wrapped (meson.build).
 * Thread: loop. */
#ifndef TESTS_FUZZ_SERVER_H
#define TESTS_FUZZ_SERVER_H

#include "daemon/loop/loop.h"

void server_listen(struct loop *loop);
/* Each connection gets the next of the answers in TEXT, which a line "--" parts, whatever it asks; those
 * behind the last are closed. TEXT is borrowed until server_hang_up, which closes them all. */
void server_set_answers(const char *text, size_t len);
void server_hang_up(void);

#endif
