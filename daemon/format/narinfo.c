#include "daemon/format/narinfo.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/store_path.h"
#include "daemon/format/hash.h"
#include "daemon/format/signature.h"

#define REFERENCES_MAX 16384
#define SIGS_MAX       256

/* Would TEXT stay within its line? */
static bool fits_line(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			return false;
	return true;
}

static void format_references(struct buf *buf, const struct path_info *info)
{
	/* The space after the colon stays when nothing follows: without it readers take the next
	 * line for the value. */
	buf_puts(buf, "References: ");
	for (size_t i = 0; i < info->n_references; i++) {
		if (i > 0)
			buf_putc(buf, ' ');
		buf_puts(buf, store_path_base(info->references[i]));
	}
	buf_putc(buf, '\n');
}

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void format_sigs(struct buf *buf, const struct path_info *info, const struct narinfo_file *file)
{
	const char **sigs = calloc(info->n_sigs + file->n_sigs + 1, sizeof(*sigs));
	size_t n = 0;

	if (sigs == NULL) {
		buf->failed = true;
		return;
	}
	for (size_t i = 0; i < info->n_sigs; i++)
		if (signature_is_well_formed(info->sigs[i]))
			sigs[n++] = info->sigs[i];
	for (size_t i = 0; i < file->n_sigs; i++)
		if (signature_is_well_formed(file->sigs[i]))
			sigs[n++] = file->sigs[i];
	qsort(sigs, n, sizeof(*sigs), compare_texts);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || strcmp(sigs[i - 1], sigs[i]) != 0)
			buf_printf(buf, "Sig: %s\n", sigs[i]);
	free(sigs);
}

int narinfo_format(struct buf *buf, const struct path_info *info, const struct narinfo_file *file,
                   struct error *err)
{
	char hash[SHA256_TEXT_SIZE];

	if (info->nar_size == 0)
		return error_set(err, ERROR_PERMANENT, "%s: its NAR size is not known", info->path);
	if (!fits_line(file->url) || (info->ca != NULL && !fits_line(info->ca)))
		return error_set(err, ERROR_PERMANENT,
		                 "%s: its URL or content address has control characters", info->path);
	buf_printf(buf, "StorePath: %s\n", info->path);
	buf_printf(buf, "URL: %s\n", file->url);
	buf_printf(buf, "Compression: %s\n", file->compression);
	if (file->file_hash != NULL)
		buf_printf(buf, "FileHash: %s\n", hash_format_sha256(file->file_hash, hash));
	if (file->file_size > 0)
		buf_printf(buf, "FileSize: %" PRIu64 "\n", file->file_size);
	buf_printf(buf, "NarHash: %s\n", hash_format_sha256(info->nar_hash, hash));
	buf_printf(buf, "NarSize: %" PRIu64 "\n", info->nar_size);
	format_references(buf, info);
	if (info->deriver != NULL)
		buf_printf(buf, "Deriver: %s\n", store_path_base(info->deriver));
	format_sigs(buf, info, file);
	if (info->ca != NULL)
		buf_printf(buf, "CA: %s\n", info->ca);
	if (!buf_ok(buf))
		return error_set(err, ERROR_TRANSIENT, "%s: no memory for its narinfo", info->path);
	return 0;
}

struct parser {
	struct narinfo narinfo;
	const char *store_dir;
	bool has_references, has_hash, has_file_size;
	struct error *err;
};

static int fault(struct parser *p, const char *what)
{
	return error_set(p->err, ERROR_PERMANENT, "%s", what);
}

static int no_memory(struct parser *p)
{
	return error_set(p->err, ERROR_TRANSIENT, "no memory");
}

/* Keeps VALUE in *FIELD, which no line may have set before. */
static int keep_once(struct parser *p, char **field, const char *value)
{
	if (*field != NULL)
		return fault(p, "the field is there twice");
	if (*value == '\0')
		return fault(p, "the value is empty");
	*field = strdup(value);
	return *field != NULL ? 0 : no_memory(p);
}

static int on_store_path(struct parser *p, char *value)
{
	if (store_path_check(value, p->store_dir, p->err) < 0)
		return -1;
	return keep_once(p, &p->narinfo.info.path, value);
}

static int on_url(struct parser *p, char *value)
{
	return keep_once(p, &p->narinfo.url, value);
}

static int on_compression(struct parser *p, char *value)
{
	/* An empty one is as good as none: readers take it for bzip2. */
	return *value == '\0' ? 0 : keep_once(p, &p->narinfo.compression, value);
}

static int parse_size(struct parser *p, uint64_t *ret, const char *value)
{
	uint64_t size = 0;

	if (*value == '\0')
		return fault(p, "the value is empty");
	for (; *value != '\0'; value++) {
		if (*value < '0' || *value > '9')
			return fault(p, "the value is not a decimal number");
		if (__builtin_mul_overflow(size, 10, &size) ||
		    __builtin_add_overflow(size, (uint64_t)(*value - '0'), &size))
			return fault(p, "the number is too large");
	}
	*ret = size;
	return 0;
}

static int on_file_size(struct parser *p, char *value)
{
	if (p->has_file_size)
		return fault(p, "the field is there twice");
	p->has_file_size = true;
	return parse_size(p, &p->narinfo.file_size, value);
}

static int on_nar_hash(struct parser *p, char *value)
{
	if (p->has_hash)
		return fault(p, "the field is there twice");
	p->has_hash = true;
	if (strncmp(value, "sha256", 6) != 0 || !hash_parse_sha256(value, p->narinfo.info.nar_hash))
		return fault(p, "the value is not a SHA-256 hash");
	return 0;
}

static int on_nar_size(struct parser *p, char *value)
{
	if (p->narinfo.info.nar_size != 0)
		return fault(p, "the field is there twice");
	if (parse_size(p, &p->narinfo.info.nar_size, value) < 0)
		return -1;
	return p->narinfo.info.nar_size > 0 ? 0 : fault(p, "a NAR is never empty");
}

static int add_text(struct parser *p, char ***texts, size_t *n, size_t n_max, char *text)
{
	char **grown;

	if (text == NULL)
		return no_memory(p);
	if (*n == n_max) {
		free(text);
		return fault(p, "too many of them");
	}
	if ((*n & (*n - 1)) == 0) { /* 0, 1, 2, 4, ...: full */
		grown = realloc(*texts, (*n == 0 ? 1 : *n * 2) * sizeof(*grown));
		if (grown == NULL) {
			free(text);
			return no_memory(p);
		}
		*texts = grown;
	}
	(*texts)[(*n)++] = text;
	return 0;
}

static char *join_path(const char *store_dir, const char *base, size_t len)
{
	size_t dir_len = strlen(store_dir);
	char *path = malloc(dir_len + 1 + len + 1);

	if (path == NULL)
		return NULL;
	memcpy(path, store_dir, dir_len);
	path[dir_len] = '/';
	memcpy(path + dir_len + 1, base, len);
	path[dir_len + 1 + len] = '\0';
	return path;
}

static int on_references(struct parser *p, char *value)
{
	struct path_info *info = &p->narinfo.info;

	if (*value == '\0')
		return 0;
	if (p->has_references)
		return fault(p, "the field is there twice");
	p->has_references = true;
	for (;;) {
		size_t len = strcspn(value, " ");

		if (!store_base_is_valid(value, len))
			return fault(p, "a reference is no store path");
		if (add_text(p, &info->references, &info->n_references, REFERENCES_MAX,
		             join_path(p->store_dir, value, len)) < 0)
			return -1;
		if (value[len] == '\0')
			return 0;
		value += len + 1;
	}
}

static int on_sig(struct parser *p, char *value)
{
	struct path_info *info = &p->narinfo.info;

	return add_text(p, &info->sigs, &info->n_sigs, SIGS_MAX, strdup(value));
}

static const struct {
	const char *name;
	int (*parse)(struct parser *p, char *value);
} fields[] = {
	{ "StorePath", on_store_path },  { "URL", on_url },          { "Compression", on_compression },
	{ "FileSize", on_file_size },    { "NarHash", on_nar_hash }, { "NarSize", on_nar_size },
	{ "References", on_references }, { "Sig", on_sig },
};

static int parse_line(struct parser *p, char *line)
{
	char *colon = strchr(line, ':');

	if (colon == NULL || colon[1] != ' ')
		return fault(p, "it is not \"Name: value\"");
	*colon = '\0';
	for (size_t i = 0; i < N_ELEMENTS(fields); i++) {
		if (strcmp(line, fields[i].name) != 0)
			continue;
		if (!fits_line(colon + 2))
			return fault(p, "the value has control characters");
		return fields[i].parse(p, colon + 2);
	}
	return 0;
}

/* Takes the lines of TEXT, a copy of ours of LEN bytes, apart in place. */
static int parse_lines(struct parser *p, char *text, size_t len)
{
	char *end = text + len;
	unsigned n_line = 1;

	for (char *line = text; line < end; n_line++) {
		char *lf = memchr(line, '\n', (size_t)(end - line));

		if (lf == NULL)
			return error_set(p->err, ERROR_PERMANENT, "narinfo line %u: it does not end", n_line);
		*lf = '\0';
		if (parse_line(p, line) < 0)
			return error_prefix(p->err, "narinfo line %u", n_line);
		line = lf + 1;
	}
	return 0;
}

static int check_complete(struct parser *p)
{
	const struct narinfo *n = &p->narinfo;

	if (n->info.path == NULL || n->url == NULL || !p->has_hash || n->info.nar_size == 0)
		return error_set(p->err, ERROR_PERMANENT,
		                 "narinfo: StorePath, URL, NarHash or NarSize is missing");
	if (n->compression == NULL && (p->narinfo.compression = strdup("bzip2")) == NULL)
		return error_set(p->err, ERROR_TRANSIENT, "narinfo: no memory");
	return 0;
}

int narinfo_parse(struct narinfo *ret, const char *text, size_t len, const char *store_dir, struct error *err)
{
	struct parser p = { .store_dir = store_dir, .err = err };
	char *copy;
	int rc;

	if (len > NARINFO_MAX_BYTES || memchr(text, '\0', len) != NULL)
		return error_set(err, ERROR_PERMANENT, "narinfo: too long, or not a text");
	copy = strndup(text, len);
	if (copy == NULL)
		return error_set(err, ERROR_TRANSIENT, "narinfo: no memory");
	rc = parse_lines(&p, copy, len);
	if (rc == 0)
		rc = check_complete(&p);
	free(copy);
	if (rc < 0) {
		narinfo_fini(&p.narinfo);
		return -1;
	}
	path_info_normalize(&p.narinfo.info);
	*ret = p.narinfo;
	return 0;
}

void narinfo_fini(struct narinfo *narinfo)
{
	path_info_fini(&narinfo->info);
	free(narinfo->url);
	free(narinfo->compression);
	*narinfo = (struct narinfo){ 0 };
}
