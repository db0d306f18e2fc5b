/* Text for people: pieces put into lines, coloured where a terminal wants it, cut at its width, and with
 * every control character that came from outside escaped as \xNN.
 * Owns: its buffer, until output_fini. Thread: any. */
#ifndef CTL_OUTPUT_H
#define CTL_OUTPUT_H

#include <jansson.h>
#include <stdio.h>

#include "common/buf.h"

enum style { STYLE_PLAIN, STYLE_BOLD, STYLE_DIM, STYLE_GOOD, STYLE_WARN, STYLE_BAD };

struct output {
	struct buf buf;
	bool has_colour;
	unsigned width; /* columns; 0: lines are never cut */
	unsigned column;
	bool was_cut; /* this line */
};

void output_init(struct output *o, bool has_colour, unsigned width);
/* As FILE wants it: colours and a width only if it is a terminal, and no colours with NO_COLOR. */
void output_init_for(struct output *o, FILE *file);
void output_fini(struct output *o);

/* Adds a piece to the line. */
void output_put(struct output *o, enum style style, const char *format, ...) PRINTF(3, 4);
/* The same, filled with blanks to N columns; the number is put to the right. */
void output_left(struct output *o, enum style style, unsigned n, const char *text);
void output_right(struct output *o, enum style style, unsigned n, const char *text);
void output_end_line(struct output *o);
/* Writes all lines to FILE and is empty. */
void output_flush(struct output *o, FILE *file);

/* "[=====>    ]" of N columns, ends included. */
void output_bar(char *text, size_t n_columns, uint64_t n_done, uint64_t n_total);

/* Appends TEXT with control characters (C1 and what is no UTF-8, too) as \xNN. */
void output_escape(struct buf *out, const char *text);

/* Prints MODEL and takes it. Returns 0, or -1: no memory, or stdout fails. */
int output_json(json_t *model, size_t flags);

#endif
