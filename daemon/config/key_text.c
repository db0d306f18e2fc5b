#include "daemon/config/key_text.h"

#include <ctype.h>
#include <string.h>

#define NAME_MAX_BYTES 255

bool key_text_is_valid(const char *text, enum key_kind kind, bool needs_name)
{
	const char *padding = kind == KEY_PUBLIC ? "=" : "==";
	size_t n_chars = kind == KEY_PUBLIC ? 43 : 86; /* of 6 bits each */
	/* The bits of the last one that belong to no byte are 0, or whoever decodes it refuses. */
	const char *last = kind == KEY_PUBLIC ? "AEIMQUYcgkosw048" : "AQgw";
	const char *colon = strchr(text, ':');
	const char *base64 = colon != NULL ? colon + 1 : text;

	if (colon == text || (colon == NULL && needs_name) ||
	    (colon != NULL && colon - text > NAME_MAX_BYTES))
		return false;
	for (const char *p = text; colon != NULL && p < colon; p++) {
		if (isspace((unsigned char)*p) || iscntrl((unsigned char)*p))
			return false;
	}
	for (size_t i = 0; i < n_chars; i++) {
		if (!isalnum((unsigned char)base64[i]) && base64[i] != '+' && base64[i] != '/')
			return false;
	}
	if (strchr(last, base64[n_chars - 1]) == NULL)
		return false;
	base64 += n_chars;
	if (strncmp(base64, padding, strlen(padding)) != 0)
		return false;
	base64 += strlen(padding);
	return base64[strspn(base64, " \t\r\n")] == '\0';
}
