/* expat calls back for each tag and piece of text; a piece goes to the field whose element is open. */
#include "daemon/backend/xml.h"

#include <expat.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define MAX_DEPTH 16

struct reader {
	XML_Parser parser;
	unsigned depth;
	char *root;
	struct xml_field *fields;
	size_t n_fields;
	struct xml_field *open; /* the field that text goes to */
	unsigned open_depth;
};

static void on_begin(void *ctx, const XML_Char *name, const XML_Char **attributes)
{
	struct reader *r = ctx;
	(void)attributes;

	if (++r->depth > MAX_DEPTH) {
		XML_StopParser(r->parser, XML_FALSE);
		return;
	}
	if (r->depth == 1)
		snprintf(r->root, XML_NAME_SIZE, "%s", name);
	for (size_t i = 0; i < r->n_fields && r->open == NULL; i++)
		if (r->fields[i].text[0] == '\0' && strcmp(r->fields[i].name, name) == 0) {
			r->open = &r->fields[i];
			r->open_depth = r->depth;
		}
}

static void on_end(void *ctx, const XML_Char *name)
{
	struct reader *r = ctx;
	(void)name;

	if (r->open != NULL && r->open_depth == r->depth)
		r->open = NULL;
	r->depth--;
}

static void on_text(void *ctx, const XML_Char *text, int len)
{
	struct reader *r = ctx;
	size_t n = (size_t)len, n_has, room;

	if (r->open == NULL)
		return;
	n_has = strlen(r->open->text);
	room = r->open->size - 1 - n_has;
	if (n > room) {
		r->open->is_cut = true;
		n = room;
	}
	memcpy(r->open->text + n_has, text, n);
	r->open->text[n_has + n] = '\0';
}

static void on_doctype(void *ctx, const XML_Char *name, const XML_Char *system_id, const XML_Char *public_id,
                       int has_subset)
{
	struct reader *r = ctx;
	(void)name;
	(void)system_id;
	(void)public_id;
	(void)has_subset;

	XML_StopParser(r->parser, XML_FALSE);
}

static void clear(char root[XML_NAME_SIZE], struct xml_field *fields, size_t n_fields)
{
	root[0] = '\0';
	for (size_t i = 0; i < n_fields; i++) {
		fields[i].text[0] = '\0';
		fields[i].is_cut = false;
	}
}

bool xml_read(const char *text, size_t len, char root[XML_NAME_SIZE], struct xml_field *fields,
              size_t n_fields)
{
	struct reader r = { .root = root, .fields = fields, .n_fields = n_fields };
	size_t n_blank = 0;
	bool is_xml;

	clear(root, fields, n_fields);
	while (n_blank < len && strchr(" \t\r\n", text[n_blank]) != NULL && text[n_blank] != '\0')
		n_blank++;
	if (len - n_blank > INT_MAX || (r.parser = XML_ParserCreate("UTF-8")) == NULL)
		return false;
	XML_SetUserData(r.parser, &r);
	XML_SetElementHandler(r.parser, on_begin, on_end);
	XML_SetCharacterDataHandler(r.parser, on_text);
	XML_SetStartDoctypeDeclHandler(r.parser, on_doctype);
	is_xml = XML_Parse(r.parser, text + n_blank, (int)(len - n_blank), 1) == XML_STATUS_OK;
	XML_ParserFree(r.parser);
	if (!is_xml)
		clear(root, fields, n_fields);
	return is_xml;
}
