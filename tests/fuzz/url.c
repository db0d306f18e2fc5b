/* The normal form of a URL is a URL of the same kind and its own normal form; no password is repeated. */
#include "daemon/config/url.h"
#include "tests/fuzz/fuzz.h"

static void check_refusal(const char *text, const struct error *err)
{
	MUST(err->kind == ERROR_OPERATOR);
	/* A line of a file is not longer; what is longer fills the text. */
	MUST(strlen(text) >= 200 || strstr(err->text, "expected") != NULL);
	/* What is repeated stands in quotes, at the beginning. */
	MUST(strchr(text, '@') == NULL || err->text[0] != '"');
}

static void check_normal(const char *normal, size_t n_max)
{
	const char *host = strstr(normal, "://");

	MUST(host != NULL && strlen(normal) <= n_max);
	MUST(memchr(host + 3, '@', strcspn(host + 3, "/")) == NULL);
	if (strncmp(normal, "http", 4) == 0)
		for (const char *p = normal; p < host + 3 + strcspn(host + 3, "/"); p++)
			MUST(*p < 'A' || *p > 'Z');
	MUST(normal[strlen(normal) - 1] != '/' || strcmp(host, ":///") == 0);
}

static void check_url(const char *text, enum url_use use)
{
	enum cache_kind kind = CACHE_FILE, kind_again = CACHE_FILE;
	struct buf normal, again;
	struct error err;

	buf_init(&normal, (size_t)URL_MAX * 2);
	buf_init(&again, (size_t)URL_MAX * 2);
	if (url_read(text, use, &normal, &kind, &err) < 0) {
		check_refusal(text, &err);
	} else {
		check_normal(buf_text(&normal), strlen(text));
		MUST(url_read(buf_text(&normal), use, &again, &kind_again, &err) == 0);
		MUST(strcmp(buf_text(&normal), buf_text(&again)) == 0 && kind == kind_again);
	}
	buf_fini(&normal);
	buf_fini(&again);
}

static void check_path(const char *text)
{
	struct buf normal, again;

	buf_init(&normal, KIB(64));
	buf_init(&again, KIB(64));
	if (path_normalise(text, &normal)) {
		MUST(normal.data[0] == '/' && normal.len <= strlen(text));
		MUST(strstr(normal.data, "//") == NULL && strstr(normal.data, "/./") == NULL);
		MUST(path_normalise(normal.data, &again));
		MUST(strcmp(normal.data, again.data) == 0);
	} else {
		MUST(normal.len == 0);
	}
	buf_fini(&normal);
	buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum url_use uses[] = { URL_CACHE, URL_UPSTREAM, URL_ENDPOINT, URL_PROXY };
	char *text = fuzz_text(data, size);

	for (size_t i = 0; i < N_ELEMENTS(uses); i++)
		check_url(text, uses[i]);
	check_path(text);
	free(text);
	return 0;
}
