/* The few words that S3 and STS say in XML.
 * Limits: 16 levels; a document type is refused, and with it every entity but the five of XML.
 * Thread: any. */
#ifndef DAEMON_BACKEND_XML_H
#define DAEMON_BACKEND_XML_H

#include <stdbool.h>
#include <stddef.h>

#include "common/attr.h"

#define XML_NAME_SIZE 64

struct xml_field {
	const char *name; /* of an element, at any depth; the first one counts */
	char *text;       /* its text, cut to SIZE - 1 bytes; "" if there is none */
	size_t size;
	bool is_cut;
};

/* Fills ROOT with the name of the outermost element and FIELDS with what they ask for. Blanks before the
 * document are passed over. False if TEXT is not XML; ROOT and the fields are empty then. */
bool xml_read(const char *text, size_t len, char root[XML_NAME_SIZE], struct xml_field *fields,
              size_t n_fields) MUST_CHECK;

#endif
