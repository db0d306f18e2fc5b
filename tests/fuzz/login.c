/* What a client keeps for its user gives texts on one line each, or nothing, and what is wrong is said
 * without a word of the file. The first byte says whose file it is. */
#include "daemon/backend/login.h"
#include "common/error.h"
#include "tests/fuzz/fuzz.h"

static void check_text(const char *text, size_t size)
{
	MUST(text == NULL || (strlen(text) < size && fuzz_is_plain(text) && strchr(text, '\n') == NULL));
}

static bool is_ours(const char *endpoint, const void *ctx)
{
	(void)ctx;
	return strcmp(endpoint, "https://a/") == 0;
}

/* The only words that are not of the program are a number. */
static void check_error(const struct error *err, const char *text)
{
	const char *expected = strstr(err->text, ": expected ");

	MUST(err->kind == ERROR_OPERATOR && strncmp(err->text, "line ", 5) == 0 && expected != NULL);
	MUST(strspn(err->text + 5, "0123456789") == (size_t)(expected - err->text) - 5);
	MUST(strstr(text, "SECRET") == NULL || strstr(err->text, "SECRET") == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct login login = { 0 };
	struct error err;
	char *text;
	int rc;

	if (size == 0)
		return 0;
	text = fuzz_text(data + 1, size - 1);
	rc = data[0] == 'a' ? login_read_attic(&login, text, size - 1, is_ours, NULL, &err)
	                    : login_read_cachix(&login, text, size - 1, "team", &err);
	if (rc < 0)
		check_error(&err, text);
	MUST(rc == 0 || (login.endpoint == NULL && login.token == NULL && login.signing_key == NULL));
	MUST(data[0] != 'a' || login.endpoint == NULL || is_ours(login.endpoint, NULL));
	check_text(login.endpoint, size);
	check_text(login.token, size);
	check_text(login.token_file, size);
	check_text(login.signing_key, size);
	login_fini(&login);
	free(text);
	return 0;
}
