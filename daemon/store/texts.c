#include "daemon/store/texts.h"

#include <stdlib.h>

int texts_append(char ***list, size_t *n, char *text)
{
	/* The capacity is always the next power of two. */
	if ((*n & (*n - 1)) == 0) {
		char **grown = realloc(*list, (*n == 0 ? 1 : *n * 2) * sizeof(*grown));

		if (grown == NULL) {
			free(text);
			return -1;
		}
		*list = grown;
	}
	(*list)[(*n)++] = text;
	return 0;
}

void texts_free(char **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i]);
	free(list);
}
