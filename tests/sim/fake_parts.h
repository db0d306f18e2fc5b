/* Uploads in parts, as S3 has them: each lies on its cache, and costs, until it is completed or aborted. Its
 * note is told to who sends it before the first part, and none may be left at the end whose note was written
 * down.
 * Thread: the one there is. */
#ifndef TESTS_SIM_FAKE_PARTS_H
#define TESTS_SIM_FAKE_PARTS_H

#include <stdbool.h>

struct fake_parts {
	unsigned cache;
	char note[24];
	bool is_open;  /* neither completed nor aborted */
	bool is_sent;  /* a put is at work on it */
	bool is_noted; /* the put heard that its note is written down */
	bool was_cut;  /* the daemon died while the note was being written: it may be */
	bool is_lost;  /* so was the queue that had the note */
};

void fake_parts_init(void);
struct fake_parts *fake_parts_begin(unsigned cache);
/* An ABORT for NOTE is sent to CACHE: is it of an upload of that cache, written down, which nobody sends? */
struct fake_parts *fake_parts_abandon(unsigned cache, const char *note);
/* The daemon died. */
void fake_parts_cut_off(void);
/* And the queue with it. */
void fake_parts_lose(void);
/* The next behind AFTER (NULL: the first) that lies on its cache although its note was written down, or NULL.
 */
const struct fake_parts *fake_parts_left(const struct fake_parts *after);

#endif
