#include "daemon/format/path_info.h"

#include <stdlib.h>
#include <string.h>

static void free_texts(char **texts, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(texts[i]);
	free(texts);
}

void path_info_fini(struct path_info *info)
{
	free(info->path);
	free(info->deriver);
	free_texts(info->references, info->n_references);
	free_texts(info->sigs, info->n_sigs);
	free(info->ca);
	*info = (struct path_info){ 0 };
}

/* strcmp compares unsigned bytes, whatever the locale. */
static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_texts(char **texts, size_t *n)
{
	size_t n_kept = 0;

	if (*n == 0)
		return;
	qsort(texts, *n, sizeof(*texts), compare_texts);
	for (size_t i = 0; i < *n; i++) {
		if (n_kept > 0 && strcmp(texts[n_kept - 1], texts[i]) == 0)
			free(texts[i]);
		else
			texts[n_kept++] = texts[i];
	}
	*n = n_kept;
}

void path_info_normalize(struct path_info *info)
{
	sort_texts(info->references, &info->n_references);
	sort_texts(info->sigs, &info->n_sigs);
}

static int copy_text(char **ret, const char *text)
{
	if (text == NULL)
		return 0;
	*ret = strdup(text);
	return *ret != NULL ? 0 : -1;
}

static int copy_texts(char ***ret, size_t *ret_n, char *const *texts, size_t n)
{
	if (n == 0)
		return 0;
	*ret = calloc(n, sizeof(**ret));
	if (*ret == NULL)
		return -1;
	*ret_n = n;
	for (size_t i = 0; i < n; i++)
		if (copy_text(&(*ret)[i], texts[i]) < 0)
			return -1;
	return 0;
}

int path_info_copy(struct path_info *ret, const struct path_info *info, struct error *err)
{
	struct path_info copy = {
		.nar_size = info->nar_size,
		.registered_unix_s = info->registered_unix_s,
		.ultimate = info->ultimate,
	};

	memcpy(copy.nar_hash, info->nar_hash, sizeof(copy.nar_hash));
	if (copy_text(&copy.path, info->path) < 0 || copy_text(&copy.deriver, info->deriver) < 0 ||
	    copy_text(&copy.ca, info->ca) < 0 ||
	    copy_texts(&copy.references, &copy.n_references, info->references, info->n_references) < 0 ||
	    copy_texts(&copy.sigs, &copy.n_sigs, info->sigs, info->n_sigs) < 0) {
		path_info_fini(&copy);
		return error_set(err, ERROR_TRANSIENT, "%s: no memory",
		                 info->path != NULL ? info->path : "path info");
	}
	*ret = copy;
	return 0;
}
